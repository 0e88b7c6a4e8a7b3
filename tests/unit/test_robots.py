"""Robots and their fleet, over a state of plain Python: figures, ages, who is away; and the words
of `velum robot`."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit import fakes
from tests.unit.fake_state import T0_MS, FakeKv, FakeState, wait_for
from velum import fleet, robots
from velum.cli import main
from velum.cli.robot import Choices, RobotShell, fleet_table
from velum.cli.show import Paint
from velum.errors import VelumError, code_of, error_from
from velum.fleet import Fleet, Robot
from velum.kvwatch import Change
from velum.robots import RobotNode, node_id

STATE = FakeState()


class FakeNode(fakes.FakeMesh):
    """A node on the state that all of a test's nodes share."""

    def __init__(self, id: int, port: int, **options: Any) -> None:
        super().__init__()
        self.id, self.port, self.options = id, port, options
        self.kv = FakeKv(STATE, id)
        self.address = f"127.0.0.1:{port}"
        self.members = [fakes.node_info(id) for id in MEMBERS]
        NODES.append(self)


MEMBERS: list[int] = []
NODES: list[FakeNode] = []


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeState]:
    global STATE
    STATE = FakeState()
    MEMBERS[:] = NODES[:] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("velum.node.Node", FakeNode)
    monkeypatch.setattr(robots, "_unix_ms", lambda: STATE.unix_ms)
    yield STATE


def member(name: str, port: int = 8080) -> int:
    """The robot's node, which the others see from now on."""
    MEMBERS.append(node_id(name, port))
    return MEMBERS[-1]


# ---- a robot ----


def test_a_robot_is_a_node_with_a_log_of_its_name() -> None:
    with RobotNode("robot_A", 8080, workers=0, host="10.0.0.1") as robot:
        node: Any = robot.node
        assert robot.name == "robot_A" and node.port == 8080
        assert node.id == zlib.crc32(b"robot_A:8080") % 65535 + 1 == node_id("robot_A", 8080)
        assert node.options == {
            "log": Path("logs/robot_A.log"),
            "workers": 0,
            "host": "10.0.0.1",
        }
        assert Path("logs").is_dir() and robot.kv is node.kv
        assert robot.kv.get("robots/robot_A/node") == node.id
    assert node.closed
    with RobotNode("robot_A", 8080, id=7, log="state/a.kv") as robot:
        node = robot.node
        assert node.id == 7 and node.options["log"] == Path("state/a.kv")
        assert Path("state").is_dir()
    assert len({node_id(f"robot_{n}", 8080 + n) for n in range(20)}) == 20
    assert all(1 <= node_id(f"r{n}", n) <= 65535 for n in range(2000))


def test_its_id_is_told_once() -> None:
    with RobotNode("robot_A", 8080) as robot:
        node: Any = robot.node
        assert len(node.kv.puts) == 1
    with RobotNode("robot_A", 8080) as robot:
        node = robot.node
        assert node.kv.puts == [], "it is what it was"
    with RobotNode("robot_A", 8081) as robot:
        assert robot.kv.get("robots/robot_A/node") == node_id("robot_A", 8081)


@pytest.mark.parametrize("name", ["", "a/b", "a*", "[a]", "..", "a\n", "x" * 201, "\ud800", "a\\"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(VelumError, match="a robot's name") as caught:
        RobotNode(name, 8080)
    assert caught.value.name == "ARGUMENT" and not Path("logs").exists()


def test_attributes_are_keys() -> None:
    with RobotNode("robot_A", 8080) as robot:
        assert robot.position is None and robot.status is None and robot.battery is None
        robot.position, robot.status, robot.battery, robot.load = (
            (10, 20.5),
            "active",
            87,
            {"kg": 3},
        )
        assert robot.kv.get("robots/robot_A/position") == (10, 20.5)
        assert robot.kv.get("robots/robot_A/load") == {"kg": 3}
        assert (robot.status, robot.battery, robot.load) == ("active", 87, {"kg": 3})
        del robot.load
        with pytest.raises(AttributeError, match="robot_A has no 'load'; set it: robot.load = "):
            robot.load  # noqa: B018
        with pytest.raises(AttributeError, match="no 'load'"):
            del robot.load
        assert not hasattr(robot, "gripper") and robot.kv.get("robots/robot_A/load") is None


@pytest.mark.parametrize("word", ["name", "node", "kv", "fleet", "nearest", "on_change", "close"])
def test_words_of_the_class_are_no_figures(word: str) -> None:
    with RobotNode("robot_A", 8080) as robot:
        with pytest.raises(AttributeError, match="is a word of RobotNode"):
            setattr(robot, word, 1)
        with pytest.raises(AttributeError, match="is a word of RobotNode"):
            delattr(robot, word)
        with pytest.raises(TypeError, match="bytes go into robot.kv"):
            robot.map = b"\0"


def test_what_was_typed_is_understood() -> None:
    with RobotNode("robot_A", 8080) as robot:
        for typed, meant in (
            (b"idle", "idle"),
            (b"87", 87),
            (b"[10, 20]", [10, 20]),
            (b"\xff", b"\xff"),
            (b"[" * 99_999, "[" * 99_999),
        ):
            robot.kv.put("robots/robot_A/status", typed)
            assert robot.status == meant
            wait_for(lambda meant=meant: robot.fleet()["robot_A"].status == meant)


# ---- the fleet ----


def test_a_fleet(state: FakeState) -> None:
    a, b = member("robot_A"), member("robot_B")
    with RobotNode("robot_A", 8080) as one, RobotNode("robot_B", 8080) as two:
        one.position, one.status = [0, 0], "active"
        assert one.fleet()["robot_A"].position == [0, 0], "its own figures are there at once"
        two.position = [3, 4]
        wait_for(lambda: "position" in one.fleet().get("robot_B", _NOBODY).figures)
        seen = one.fleet()
        assert list(seen) == ["robot_A", "robot_B"]
        robot = seen["robot_B"]
        assert (robot.name, robot.node, robot.state, robot.away) == ("robot_B", b, "alive", False)
        assert robot.position == [3, 4] and robot.status is None
        assert list(robot.figures) == ["position"] and robot.figures["position"].age < 5
        with pytest.raises(AttributeError, match="robot 'robot_B' has told no 'gripper'"):
            robot.gripper  # noqa: B018
        node: Any = one.node
        for status, away in (("suspect", False), ("dead", True), ("left", True), ("alive", False)):
            node.members = [fakes.node_info(a), fakes.node_info(b, state=status)]
            assert (one.fleet()["robot_B"].state, one.fleet()["robot_B"].away) == (status, away)
        node.members = [fakes.node_info(a)]
        assert one.fleet()["robot_B"].state == "unknown" and one.fleet()["robot_B"].away
        del two.position
        wait_for(lambda: not one.fleet()["robot_B"].figures)
        assert one.fleet()["robot_B"].position is None


_NOBODY = Robot("", None, "unknown", {})


def test_what_was_there_before_is_known(state: FakeState) -> None:
    FakeKv(state, 9).put("robots/old/status", "idle")
    FakeKv(state, 9).put("robots/old/x/y", "no figure")
    FakeKv(state, 9).put("robots//x", "nor this")
    state.unix_ms += 60_000
    with RobotNode("robot_A", 8080) as robot:
        old = robot.fleet()["old"]
        assert old.status == "idle" and old.away and old.node is None
        assert 60 <= old.figures["status"].age < 65
        assert set(robot.fleet()) == {"old", "robot_A"}
        robot.kv.delete("robots/old/status")
        wait_for(lambda: "old" not in robot.fleet())


def test_nearest(state: FakeState) -> None:
    names = ("robot_A", "robot_B", "robot_C", "robot_D")
    ids = [member(name) for name in names]
    nodes = [RobotNode(name, 8080) for name in names]
    try:
        one = nodes[0]
        for robot, x in zip(nodes, (0, 30, 20, 10), strict=True):
            robot.position = [x, 0]
        FakeKv(state, 9).put("robots/robot_E/position", [1, 0])  # no node vouches for it

        def near(*args: Any) -> list[str]:
            return [robot.name[-1] for robot in one.nearest(*args)]

        wait_for(lambda: len([r for r in one.fleet().values() if r.position is not None]) == 5)
        assert near((0, 0)) == ["A"] and near((29, 0), 3) == ["B", "C", "D"]
        assert near((15, 0), 2) == ["C", "D"], "as far: by name"
        assert near((0, 0), 9) == ["A", "D", "C", "B"] and near((0, 0), 0) == []
        assert near((0, 0, 0), 9) == []
        node: Any = one.node
        node.members = [fakes.node_info(id) for id in ids if id != ids[3]]
        assert near((0, 0), 2) == ["A", "C"]
    finally:
        for robot in nodes:
            robot.close()


def test_robots_that_are_as_near_go_by_name() -> None:
    figures = {"position": fleet.Figure([1, 0], 0.0)}
    found = [Robot(name, 1, "alive", figures) for name in "BCA"]
    assert [robot.name for robot in fleet.nearest(found, (0, 0), 3)] == ["A", "B", "C"]


def test_positions_that_are_none() -> None:
    assert fleet.distance([3, 4.0], (0, 0)) == 5.0
    for position in (None, "ab", [1], [1, "x"], [True, 1], [float("nan"), 0], {"x": 1}, 7):
        assert fleet.distance(position, (0, 0)) is None


def test_a_robot_that_missed_changes_asks_for_all(state: FakeState) -> None:
    with RobotNode("robot_A", 8080) as robot:
        robot.fleet()
        other = FakeKv(state, 9)
        other.put("robots/B/status", "idle")
        other.put("robots/C/status", "idle")
        wait_for(lambda: len(robot.fleet()) == 3)
        watch = state.watches[0]
        with state.guard:
            state.watches.remove(watch)  # it hears nothing now
            other.delete("robots/B/status")
            other.put("robots/C/status", "active")
            watch.tell(Change("missed", "", "none", 2, "0", None))
        wait_for(lambda: "B" not in robot.fleet() and robot.fleet()["C"].status == "active")
        other.put("robots/C/status", "later")
        wait_for(lambda: robot.fleet()["C"].status == "later")
        assert watch.closed


def test_another_of_the_same_name(state: FakeState, caplog: pytest.LogCaptureFixture) -> None:
    with RobotNode("robot_A", 8080) as robot:
        robot.fleet()
        FakeKv(state, 9).put("robots/robot_A/node", 9)
        wait_for(lambda: "node 9 is called robot_A too" in caplog.text)


# ---- ages ----


def version(unix_ms: int, node: int = 1, count: int = 0) -> str:
    return f"{(unix_ms << 16) + count:016x}-{node}"


def age(known: Fleet, at: float, unix_ms: int) -> float:
    return known.robots(lambda _: "alive", at, unix_ms)["A"].figures["x"].age


def test_ages() -> None:
    known = Fleet()
    known.note("robots/A/x", 1, version(T0_MS), 100.0)
    assert age(known, 103.0, T0_MS + 2500) == 3.0, "since it was heard"
    assert age(known, 103.0, T0_MS + 9000) == 9.0, "it was written before that"
    assert age(known, 103.0, T0_MS - 10**12) == 3.0, "by a clock that is ahead"
    assert age(known, 99.0, T0_MS - 5) == 0.0
    known.note("robots/A/x", 1, version(T0_MS), 105.0)
    assert age(known, 110.0, T0_MS) == 10.0, "told once more, it is as old"
    known.note("robots/A/x", 2, version(T0_MS - 1), 110.0)
    assert age(known, 110.0, T0_MS) == 10.0, "an older one changes nothing"
    known.note("robots/A/x", 2, version(T0_MS, node=2), 110.0)
    assert age(known, 110.0, T0_MS) == 0.0


def test_versions_compare() -> None:
    order = ["0", version(5), version(5, count=2), version(5, 10, 2), version(70000, 2)]
    assert sorted(order, key=fleet.version_of) == order
    assert fleet.version_of("what") == (0, 0)


def test_figures_that_are_told_no_more_go() -> None:
    known = Fleet()
    for name in "AB":
        known.note(f"robots/{name}/x", 1, version(T0_MS), 0.0)
    known.begin()
    known.note("robots/A/x", 1, version(T0_MS), 5.0)
    known.note("robots/C/x", 1, version(T0_MS), 5.0)
    known.now()
    assert list(known.robots(lambda _: "alive", 0.0, T0_MS)) == ["A", "C"]
    known.gone("robots/none/x")
    known.gone("no figure")


# ---- changes ----


def test_on_change(state: FakeState, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[tuple[str, str, Any]] = []
    with RobotNode("robot_A", 8080) as robot:
        robot.status = "before"

        def function(change: Change) -> None:
            heard.append((change.event, change.key, change.value))
            if change.value == "bad":
                raise ValueError("not so")

        subscription = robot.on_change("robots/*/status", function)
        robot.status = "bad"
        robot.battery = 5
        robot.status = "good"
        wait_for(lambda: len(heard) == 2)
        key = "robots/robot_A/status"
        assert heard == [("set", key, "bad"), ("set", key, "good")]
        assert "not so" in caplog.text and subscription.open
        subscription.close()
        assert not subscription.open
        robot.status = "unheard"
        late = robot.on_change("*", function)
    assert not late.open and len(heard) == 2


def test_a_function_may_close_what_calls_it() -> None:
    done = threading.Event()
    robot = RobotNode("robot_A", 8080)

    def function(_: Change) -> None:
        robot.close()
        done.set()

    robot.on_change("*", function)
    robot.status = "over"
    assert done.wait(10) and robot.node.closed  # type: ignore[attr-defined]


def test_a_node_that_ends_ends_the_watches(state: FakeState) -> None:
    with RobotNode("robot_A", 8080) as robot:
        robot.fleet()
        subscription = robot.on_change("*", lambda change: None)
        for watch in state.watches:
            watch.end(error_from(code_of("LEAVING"), "node 1 has stopped"))
        wait_for(lambda: not subscription.open)


# ---- velum robot ----


class Session:
    """A robot's shell; `say` runs a line and returns what was written."""

    def __init__(self, name: str = "robot_A") -> None:
        self.robot = RobotNode(name, 8080)
        self._written: list[str] = []
        self.shell = RobotShell(self.robot, self._written.append)

    def say(self, line: str) -> str:
        self._written.clear()
        assert self.shell.run(line)
        return "\n".join(self._written)


@pytest.fixture
def session() -> Iterator[Session]:
    member("robot_A")
    session = Session()
    yield session
    session.robot.close()


def test_the_lines_that_users_know(session: Session) -> None:
    assert session.shell.prompt == "> "
    assert session.say("put status active") == "Stored status=active"
    assert session.robot.kv.get("status") == b"active"
    assert session.say("get status") == "Value: active"
    assert session.say("get nothing") == "Key not found: nothing"
    assert session.say("put text 'two words'") == "Stored text=two words"
    assert session.say("del text") == "Deleted text"
    assert session.say("del text") == "Key not found: text"
    session.robot.position = [1, 2]
    assert session.say("get robots/robot_A/position") == "Value: [1, 2]"
    assert session.say("keys robots/*/position") == "robots/robot_A/position"
    assert session.say("keys s*") == "status" and session.say("keys z*") == "no keys"
    assert not session.shell.run("exit") and not session.shell.run("quit")


def test_two_robots_read_each_other(session: Session) -> None:
    other = Session("robot_B")
    session.say("put status active")
    assert other.say("get status") == "Value: active"
    other.robot.close()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("put status", "usage: put KEY VALUE"),
        ("put a two words", "stands in quotes"),
        ("get", "usage: get KEY"),
        ("get a b", "usage: get KEY"),
        ("del", "usage: del KEY"),
        ("keys a b", "usage: keys [PATTERN]"),
        ("fleet now", "usage: fleet"),
        ("frob", "unknown command 'frob'"),
    ],
)
def test_lines_that_are_wrong(session: Session, line: str, message: str) -> None:
    said = session.say(line)
    assert said.startswith("error: ") and message in said


def test_the_words_of_a_node_are_there_too(session: Session) -> None:
    assert session.say("kv incr n 3") == "3" and session.say("get n") == "Value: 3"
    assert session.say("add 10 20").startswith("30 ")
    assert "uptime" in session.say("status")
    said = session.say("help")
    assert said.startswith("put KEY VALUE  ") and "\nexit " in said and " kv " in said
    assert session.say("help fleet").startswith("fleet  all robots")
    assert session.say("help kv").startswith("kv put|get")
    assert "unknown command" in session.say("help frob")


def test_fleet_in_lines(session: Session) -> None:
    session.robot.status, session.robot.gripper = "active", "x" * 40
    title, row = session.say("fleet").splitlines()
    assert title.split() == "robot node state position status battery gripper".split()
    cells = re.split(r"  +", row)
    assert cells[:3] == ["robot_A", str(node_id("robot_A", 8080)), "alive"]
    assert cells[3:] == ["-", "active (now)", "-", "x" * 21 + "... (now)"]
    assert fleet_table({}, Paint(io.StringIO())) == ["no robot has told anything yet"]


def test_watch_in_lines(session: Session) -> None:
    session.robot.kv.put("status", b"active")

    def strike(watch: Any) -> None:
        original = watch.get

        def get(timeout: float | None = None) -> Any:
            found = original(0.01)
            if found is None:
                raise KeyboardInterrupt
            return found

        watch.get = get

    session.robot.kv.on_watch = strike  # type: ignore[attr-defined]
    lines = session.say("watch sta*").splitlines()
    assert lines[0] == "state    status = active" and lines[-1] == "no longer watched"


def test_choices(session: Session) -> None:
    choices = Choices(session.robot)

    def of(text: str) -> list[str]:
        return [choice.text for choice in choices.of(text)]

    session.say("put status active")
    assert of("pu") == ["put"] and of("fl") == ["fleet"] and "kv" in of("k")
    assert of("get st") == ["status"] and of("put st") == ["status"] and of("put a st") == []
    assert of("fleet ") == [] and of("kv get st") == ["status"]


def type_lines(monkeypatch: pytest.MonkeyPatch, lines: str) -> int:
    """Stdin is a pipe with these lines in it; its other end, which is open."""
    read_end, write_end = os.pipe()
    os.write(write_end, lines.encode())
    monkeypatch.setattr(sys, "stdin", os.fdopen(read_end))
    return write_end


def test_lines_from_a_pipe(
    handlers: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    type_lines(monkeypatch, "put status active\nget status\nget none\nexit\nget status\n")
    words = "robot robot_A 8080 --join 10.0.0.2:8080 --no-beacon --durability fsync --id 5"
    assert main([*words.split(), "--log", "a.kv", "--resp", "6379", "--workers", "0"]) == 0
    assert NODES[-1].closed and NODES[-1].options == {
        "log": Path("a.kv"),
        "host": "127.0.0.1",
        "beacon_port": 8888,
        "join": ("10.0.0.2:8080",),
        "beacon": False,
        "workers": 0,
        "durability": "fsync",
        "resp_port": 6379,
    }
    out, err = capsys.readouterr()
    assert out == "Stored status=active\nValue: active\nKey not found: none\n"
    assert err == "robot_A is node 5 at 127.0.0.1:8080\n"


def test_a_signal_ends_it(
    handlers: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_end = type_lines(monkeypatch, "put soon x\nput st")

    def strike() -> None:
        wait_for(lambda: "soon" in STATE.keys)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=strike).start()
    assert main(["robot", "robot_A", "8080"]) == 0
    assert "soon" in STATE.keys and NODES[-1].closed
    os.close(write_end)  # the thread that reads ends before the pipe does
    wait_for(lambda: all(thread.name != "velum lines" for thread in threading.enumerate()))


def test_a_last_line_without_an_end(
    handlers: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    os.close(type_lines(monkeypatch, "put status active\r\n\nget status"))
    assert main(["robot", "robot_A", "8080"]) == 0
    assert capsys.readouterr().out == "Stored status=active\nValue: active\n"


def test_a_wrong_name_is_wrong_usage(handlers: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["robot", "a/b", "8080"]) == 2
    assert "a robot's name is a step of a key" in capsys.readouterr().err
