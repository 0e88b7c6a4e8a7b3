"""`velum chaos --store`: a short run as a user would start it, and what a run must notice.

The long run is `make soak`'s.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.meshes import eventually
from tests.integration.test_chaos import CANNOT, PATIENCE_S, command, interrupt
from velum import chaos, chaosfiles, chaosmesh, chaosstreams
from velum.chaos import Chaos, Report, Settings
from velum.chaoscalls import Calls
from velum.chaoshistory import Content
from velum.chaosmesh import ChaosMesh
from velum.client import Client
from velum.filebackend import NodeSpace, Space

NODES = 4


# ---- the command ----


@pytest.mark.timeout(300)
def test_a_short_run_is_right() -> None:
    words = ("--store", "--seconds", "9", "--nodes", str(NODES), "--seed", "42", "--json")
    done = subprocess.run(command(*words), capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["right"] and report["faults"] == []
    assert report["store"] and report["netns"] == (not CANNOT)
    files = report["files"]
    assert {"put", "get", "remove", "get_range", "list_all"} <= files["calls"].keys()
    assert files["heals"] == 1 + sum(report["strikes"].values()) >= 2
    assert {life["node"] for life in report["memory"]} == set(range(1, NODES + 1))
    assert report["logs"] is None, "a run that was right leaves no files"
    assert "FAULT" not in done.stderr and "s after all nodes stood" in done.stderr
    assert "no chunk is left" in done.stderr


@pytest.mark.soak
def test_ten_minutes() -> None:
    words = ("--store", "--seconds", "600", "--seed", "1")
    assert subprocess.run(command(*words), text=True, timeout=3000).returncode == 0


@pytest.mark.timeout(120)
def test_an_interrupted_run_leaves_nothing() -> None:
    interrupt(signal.SIGINT, "see each other", NODES, "--store")


@pytest.mark.parametrize(
    ("words", "why"),
    [(("--nodes", "3"), "4 to 64 nodes"), (("--ram", "64M"), "128M at least")],
)
def test_what_cannot_be_is_said(words: tuple[str, ...], why: str) -> None:
    run = command("--store", *words)
    done = subprocess.run(run, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 2 and why in done.stderr and done.stdout == ""


# ---- what a run must notice ----


def failed(monkeypatch: pytest.MonkeyPatch, *words: str, seconds: float = 10.0) -> Report:
    """A run in this process, in which nothing strikes but what a test does; it must fail for this
    reason. Its logs are removed."""
    monkeypatch.setattr(chaos, "draw_strikes", lambda *_: [])
    report = Chaos(Settings(5, seconds, NODES, 1, "off", store=True)).run()
    assert not report.right
    fault = report.faults[0]
    assert all(word in fault for word in words), report.faults
    assert report.replay.endswith("--store --ram 256M") and "--seed 5" in report.replay
    assert Path(report.logs, "calls.log").is_file() and Path(report.logs, "node-1.log").is_file()
    shutil.rmtree(report.logs)
    return report


def only(monkeypatch: pytest.MonkeyPatch, replaced: dict[str, Any]) -> None:
    """Calls do something else."""
    for name, call in replaced.items():
        call.__name__ = name
        monkeypatch.setattr(Calls, name, call)


def test_bytes_that_nobody_has_put_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def mixed(calls: Calls, client: Client, rng: random.Random, name: str) -> str:
        content = Content(rng.getrandbits(48), 1 << 20, False)
        write = calls._begin(name, content)
        data = bytearray(content.data())
        data[-1] ^= 1
        client.files.put(bytes(data), name)
        calls._history.acknowledge(write, time.monotonic())
        return ""

    only(monkeypatch, {"put": mixed})
    failed(monkeypatch, "where there should be")


def test_a_file_that_is_lost_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    put = Calls.put

    def lost(calls: Calls, client: Client, rng: random.Random, name: str) -> str:
        said = put(calls, client, rng, name)
        client.files.rm(name)
        return said

    only(monkeypatch, {"put": lost})
    failed(monkeypatch, "where there should be")


def test_a_file_that_returns_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def kept(calls: Calls, _client: Client, _rng: random.Random, name: str) -> str:
        calls._history.acknowledge(calls._begin(name, None), time.monotonic())
        return ""

    only(monkeypatch, {"remove": kept})
    failed(monkeypatch, "where there should be nothing")


def test_an_abandoned_put_that_is_seen_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(_calls: Calls, client: Client, _rng: random.Random, name: str) -> str:
        client.files.put(b"half", name)
        return ""

    only(monkeypatch, {"give_up": seen})
    failed(monkeypatch, "where there should be")


def test_a_call_that_hangs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaosstreams, "LATE_S", 0.5)

    def hang(_calls: Calls, _client: Client, _rng: random.Random, _name: str) -> str:
        time.sleep(2)
        return ""

    only(monkeypatch, {"put": hang})
    failed(monkeypatch, "put", "not done within")


def test_an_error_that_nothing_explains_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_calls: Calls, client: Client, _rng: random.Random, name: str) -> str:
        client.files.put(b"", name, copies=99)
        return ""

    only(monkeypatch, {"put": refused})
    failed(monkeypatch, "put", "ARGUMENT")


def test_copies_that_are_not_made_again_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaosfiles, "HEAL_S", 1.0)
    failed(monkeypatch, "not whole", "have to look")


def test_chunks_that_stay_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaosfiles, "DRAIN_S", 0.0)

    def kept(_calls: Calls, _client: Client, _rng: random.Random, _name: str) -> str:
        return ""

    only(monkeypatch, {"remove": kept})
    failed(monkeypatch, "after all files were removed", "'files'", seconds=1.0)


def test_a_budget_that_is_not_kept_is_noticed() -> None:
    nodes = (NodeSpace(1, 100, 100), NodeSpace(2, 100, 101))
    space = Space(nodes, 1, 0, 0, 0, 0.0)
    assert list(chaosfiles.over_budget(space)) == ["node 2 uses 101 bytes of 100 for chunks"]


def test_one_strike_waits_until_the_last_is_made_good(tmp_path: Path) -> None:
    told: list[str] = []
    whole_since: list[float] = []
    manner = chaosmesh.Manner(
        {chaosmesh.KILL: 1}, down_s=(0.1, 0.2), whole=lambda since: since in whole_since
    )
    mesh = ChaosMesh(
        6,
        3,
        ["--workers", "0"],
        tmp_path,
        manner=manner,
        networks=None,
        own=lambda _: [],
        environment={},
        on_fault=told.append,
        on_strike=told.append,
        on_log=lambda *_: None,
    )
    try:
        mesh.wait_complete()
        mesh.begin(chaosmesh.draw_strikes(6, 60, False, manner.weights))
        mesh._began -= 60  # all of the plan is due
        for count in range(3):
            eventually(lambda: (mesh.step(), mesh.quiet_since)[1])
            end = time.monotonic() + 0.3
            while time.monotonic() < end:
                mesh.step()
            assert len(told) == count, "it does not wait"
            assert mesh.quiet_since is not None
            whole_since.append(mesh.quiet_since)
            mesh._began -= 60
            mesh.step()
            assert len(told) == count + 1 and told[-1].startswith("kill -9 node")
            assert mesh.quiet_since is None
        mesh.cease()
        eventually(lambda: (mesh.step(), mesh.calm)[1])
    finally:
        mesh.close()
