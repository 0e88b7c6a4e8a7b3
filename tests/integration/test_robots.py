"""Robots as they are: nodes of this program and of others, `velum robot`, `velum kv` on them, and
the warehouse."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from velum import RobotNode
from velum.cli import main

ROOT = Path(__file__).parents[2]
PATIENCE_S = 20.0
ALONE = {"workers": 0, "ram": 0, "beacon": False}


def wait_for(condition: Callable[[], Any]) -> Any:
    """What it is once it is true."""
    end = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < end, "it has not come to pass"
        time.sleep(0.002)
    return found


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Logs go here."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fleet() -> Iterator[list[RobotNode]]:
    """Three robots that know each other."""
    robots = [RobotNode("robot_A", 0, id=11, **ALONE)]
    try:
        home = [robots[0].node.address]
        for name, id in (("robot_B", 12), ("robot_C", 13)):
            robots.append(RobotNode(name, 0, id=id, join=home, **ALONE))
        for robot in robots:
            wait_for(lambda robot=robot: len(robot.fleet()) == 3)
        yield robots
    finally:
        for robot in robots:
            robot.close()


def test_a_fleet(fleet: list[RobotNode]) -> None:
    a, b, c = fleet
    heard: list[Any] = []
    c.on_change("robots/*/status", lambda change: heard.append((change.event, change.value)))
    a.position, b.position, c.position = [0, 0], [10, 0], [0, 3]
    a.status = "active"
    wait_for(lambda: heard == [("set", "active")])
    wait_for(lambda: [r.name for r in b.nearest((0, 1), 3)] == ["robot_A", "robot_C", "robot_B"])
    assert b.fleet()["robot_A"].figures["status"].age < PATIENCE_S
    a.close()
    wait_for(lambda: b.fleet()["robot_A"].away)
    assert b.fleet()["robot_A"].status == "active"
    assert [robot.name for robot in b.nearest((0, 1), 3)] == ["robot_C", "robot_B"]


def test_a_robot_that_was_alone_comes_back(fleet: list[RobotNode]) -> None:
    a, b, _ = fleet
    a.kv.incr("deliveries", 5)
    wait_for(lambda: b.kv.get("deliveries") == 5)
    b.close()
    a.kv.incr("deliveries")
    with RobotNode("robot_B", 0, id=12, **ALONE) as alone:
        assert alone.kv.get("deliveries") == 5, "its log has it"
        alone.kv.incr("deliveries", 10)
        alone.status = "lost"
    with RobotNode("robot_B", 0, id=12, join=[a.node.address], **ALONE) as again:
        wait_for(lambda: a.kv.get("deliveries") == again.kv.get("deliveries") == 16)
        wait_for(lambda: a.fleet()["robot_B"].status == "lost")


def test_commands(fleet: list[RobotNode], capsys: pytest.CaptureFixture[str]) -> None:
    a, b, _ = fleet
    a.battery = 87

    def velum(*words: str) -> str:
        assert main(["kv", *words, "--node", a.node.address]) == 0
        return capsys.readouterr().out

    assert velum("put", "dock/3", "robot_A", "--ttl", "60", "--durability", "quorum") == ""
    assert json.loads(velum("get", "dock/3", "--json"))["expires_in"] > 50
    assert velum("get", "robots/robot_A/battery") == "87\n"
    wait_for(lambda: b.kv.get("dock/3") == b"robot_A")
    assert velum("sadd", "team", "x", "y") == "2\n" and velum("smembers", "team") == "x\ny\n"
    assert velum("incr", "n", "-4") == "-4\n" and velum("srem", "team", "x") == "1\n"
    assert velum("keys", "*/3") == "dock/3\n"
    version = velum("cas", "leader", "0", "A").strip()
    words = ["kv", "cas", "leader", version, "B", "--node", a.node.address]
    assert main([*words, "--quorum"]) == 1, "nobody votes who has just come"
    assert "velum nodes shows" in capsys.readouterr().err
    assert velum("get", "leader") == "A\n"
    assert main(words) == 0 and main(words) == 1
    assert f"version {version}" in capsys.readouterr().err and a.kv["leader"] == b"B"
    assert velum("del", "dock/3") == ""
    assert main(["kv", "get", "dock/3", "--node", a.node.address]) == 2
    capsys.readouterr()
    velum("put", "plan", "left", "--siblings")
    assert velum("get", "plan", "--siblings") == "left\n"
    assert json.loads(velum("stat", "--json"))["node"] == 11
    velum("compact")
    wait_for(lambda: not json.loads(velum("stat", "--json"))["log_compacting"])


def test_check_reads_the_log_of_a_running_robot(
    fleet: list[RobotNode], capsys: pytest.CaptureFixture[str]
) -> None:
    a = fleet[0]
    a.status = "active"
    capsys.readouterr()
    assert main(["kv", "check", "logs/robot_A.log", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["whole"] and found["keys"] == 4 and found["torn_bytes"] == 0
    a.close()
    log = Path("logs/robot_A.log")
    lines = log.read_bytes().splitlines(True)
    lines[1] = lines[1].replace(b"=", b":", 1)
    log.write_bytes(b"".join(lines) + b"half a li")
    assert main(["kv", "check", str(log), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["damaged"] == [{"offset": len(lines[0]), "bytes": len(lines[1])}]
    assert found["torn_bytes"] == 9
    Path("none.log").write_text("this is\nno log\n")
    assert main(["kv", "check", "none.log"]) == 1


def test_a_watch(fleet: list[RobotNode]) -> None:
    a, b, _ = fleet
    a.kv.put("status", b"active")
    words = ["kv", "watch", "sta*", "--json", "--node", a.node.address]
    with subprocess.Popen(
        [sys.executable, "-m", "velum", *words], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = [json.loads(process.stdout.readline()) for _ in range(2)]
        assert [line["event"] for line in said] == ["state", "now"]
        b.kv.put("other", b"")
        b.kv.put("status", b"idle")
        line = json.loads(process.stdout.readline())
        assert (line["event"], line["key"], line["value"]) == ("set", "status", "idle")
        process.terminate()


class Robot:
    """`velum robot` behind pipes."""

    def __init__(self, name: str, *words: str) -> None:
        alone = ["--no-beacon", "--workers", "0"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "velum", "robot", name, "0", *alone, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.address = self.process.stderr.readline().split()[-1]

    def say(self, line: str) -> str:
        """The one line that answers a line."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().rstrip("\n")

    def end(self) -> int:
        """At the end of its input it leaves."""
        self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode


def test_three_robots_at_prompts() -> None:
    a = Robot("robot_A")
    others = [Robot(name, "--join", a.address) for name in ("robot_B", "robot_C")]
    try:
        assert a.say("get status") == "Key not found: status"
        assert a.say("put status active") == "Stored status=active"
        for other in others:
            wait_for(lambda other=other: other.say("get status") == "Value: active")
        assert others[0].say("del status") == "Deleted status"
        wait_for(lambda: a.say("get status") == "Key not found: status")
        assert all(robot.end() == 0 for robot in (a, *others))
    finally:
        for robot in (a, *others):
            robot.process.kill()
    again = Robot("robot_A")
    assert again.say("put status later") == "Stored status=later" and again.end() == 0
    assert b"status=later\t@" in Path("logs/robot_A.log").read_bytes()


def test_the_warehouse(folder: Path) -> None:
    words = ["--robots", "4", "--seconds", "6", "--png", "ways.png"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "warehouse.py"), *words],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert "robot_04 dies" in done.stdout and "robot_01 is back in range" in done.stdout
    assert "d robot_04 is away, heard " in done.stdout
    assert "robot_01 is away" not in done.stdout
    assert (folder / "ways.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
