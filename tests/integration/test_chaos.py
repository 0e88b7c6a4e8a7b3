"""`velum chaos`: a short run as a user would start it, what it must notice, and what it leaves.

The long run is `make soak`'s.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration.meshes import eventually
from velum import chaos, chaosjobs, chaosmesh, chaoswatch, netns
from velum.chaos import Chaos, Report, Settings
from velum.chaosjobs import Work
from velum.localmesh import LocalMesh
from velum.machine import free_beacon_port

PATIENCE_S = 30.0
CANNOT = netns.why_not()
needs_namespaces = pytest.mark.skipif(bool(CANNOT), reason=f"network namespaces: {CANNOT}")


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "velum", "chaos", *words]


def marked(mark: str) -> list[str]:
    return chaoswatch.leftovers(mark, 0)


# ---- the command ----


@pytest.mark.timeout(300)
def test_a_short_run_is_right() -> None:
    done = subprocess.run(
        command("--seconds", "10", "--nodes", "4", "--seed", "3", "--json"),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["right"] and report["faults"] == [] and report["job"] is None
    assert report["netns"] == (not CANNOT)
    assert report["jobs"]["right"] >= len(chaosjobs.KINDS) and report["strikes"]
    assert {life["node"] for life in report["memory"]} == {1, 2, 3, 4}
    assert report["logs"] is None, "a run that was right leaves no files"
    assert "FAULT" not in done.stderr and "see each other again" in done.stderr


@pytest.mark.soak
def test_ten_minutes() -> None:
    done = subprocess.run(command("--seconds", "600", "--seed", "1"), text=True, timeout=3000)
    assert done.returncode == 0


def interrupt(number: int, told: str, nodes: int, *words: str) -> None:
    """Sends a signal to a run of so many nodes once it has told this; it has to leave nothing."""
    run = subprocess.Popen(
        command(*words, "--seconds", "20", "--nodes", str(nodes), "--seed", "4"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stderr is not None
    for line in run.stderr:
        if told in line:
            break
    family = psutil.Process(run.pid).children(recursive=True)
    assert len(family) >= nodes
    run.send_signal(number)
    run.stderr.read()
    assert run.wait(PATIENCE_S) == 130
    eventually(lambda: not any(p.is_running() and p.status() != "zombie" for p in family))
    assert not [name for name, maker in netns._ours() if maker == run.pid]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(number: int) -> None:
    interrupt(number, "right after", 3)  # an answer: everything is up


@pytest.mark.parametrize(
    ("words", "why"),
    [(("--nodes", "2"), "3 to 64 nodes"), (("--workers", "0"), "without workers")],
)
def test_what_cannot_be_is_said(words: tuple[str, ...], why: str) -> None:
    done = subprocess.run(command(*words), capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 2 and why in done.stderr and done.stdout == ""


# ---- what a run must notice ----


def run_with(monkeypatch: pytest.MonkeyPatch, lines: list[str], **settings: Any) -> Report:
    """A run in this process, in which nothing strikes but what a test does."""
    monkeypatch.setattr(chaos, "draw_strikes", lambda *_: [])
    plan: dict[str, Any] = {"seed": 5, "seconds": 4.0, "nodes": 3, "netns": "off", **settings}
    return Chaos(Settings(**plan), lines.append).run()


def failed(report: Report, *words: str) -> None:
    """Fails unless the run has failed for this; its logs are removed."""
    assert not report.right
    fault = report.faults[0]
    assert all(word in fault for word in words), report.faults
    assert f"--seed {report.settings.seed}" in report.replay
    assert Path(report.logs, "node-1.log").is_file()
    shutil.rmtree(report.logs)


def test_a_wrong_answer_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = chaosjobs.bits
    # The last bit of a float's answer; two zeros are as different as two numbers.
    assert right(0.0) != right(-0.0) and right([1, 2.5]) == right([1, 2.5]) and right(1) != right(2)

    def wrong(works: list[Work]) -> list[Work]:
        return [replace(work, answer=-1) for work in chaosjobs.answer_alone(works)]

    monkeypatch.setattr(chaos, "answer_alone", wrong)
    report = run_with(monkeypatch, [])
    failed(report, "a wrong answer")
    assert report.job is not None and report.job.as_dict()["record"]["state"] == "done"


def test_a_late_answer_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaosjobs, "LATE_S", 0.0)
    monkeypatch.setattr(chaosjobs, "LATE_FACTOR", 1e-6)
    monkeypatch.setattr(chaosjobs, "LOOK_S", 0.001)
    failed(run_with(monkeypatch, []), "no answer after")


class Struck:
    """Does something to the nodes once they all see each other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, what: Any) -> None:
        begin = chaosmesh.ChaosMesh.begin

        def begin_and_strike(mesh: chaosmesh.ChaosMesh, strikes: Any) -> None:
            begin(mesh, strikes)
            what(mesh)

        monkeypatch.setattr(chaosmesh.ChaosMesh, "begin", begin_and_strike)


def test_a_node_that_dies_by_itself_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    Struck(monkeypatch, lambda mesh: mesh.mesh.kill(2))
    failed(run_with(monkeypatch, []), "node 2 ended with status -9", "nobody asked it to")


def test_a_fault_in_a_log_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "Traceback (most recent call last):"
    Struck(monkeypatch, lambda mesh: mesh.mesh._on_log(1, line))
    failed(run_with(monkeypatch, []), "the log of node 1 shows", line)


def test_a_process_left_behind_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[subprocess.Popen[bytes]] = []

    def leave(mesh: chaosmesh.ChaosMesh) -> None:
        left.append(subprocess.Popen(["sleep", "60"], env=mesh.mesh._environment))

    Struck(monkeypatch, leave)
    monkeypatch.setattr(chaos, "LEFT_S", 0.2)
    try:
        failed(run_with(monkeypatch, []), "left behind", "sleep 60")
    finally:
        left[0].kill()
        left[0].wait()


# ---- its parts ----


def test_a_seed_draws_one_plan() -> None:
    for networks in (False, True):
        plans = [chaosmesh.draw_strikes(7, 60, networks) for _ in range(2)]
        assert [(s.at_s, s.kinds) for s in plans[0]] == [(s.at_s, s.kinds) for s in plans[1]]
        assert plans[0][3].rng.random() == plans[1][3].rng.random()
        assert 20 <= len(plans[0]) <= 60
        kinds = set(plans[0][0].kinds)
        assert kinds == set(chaosmesh.WEIGHTS) - (
            set() if networks else set(chaosmesh.WITH_NETWORKS)
        )
    assert chaosjobs.draw_works(7, 60) == chaosjobs.draw_works(7, 60)
    assert chaosjobs.draw_works(7, 60) != chaosjobs.draw_works(8, 60)
    for seed in range(50):
        for work in chaosjobs.draw_works(seed, 600):
            assert 0 <= work.start < work.end <= work.kind.last
            assert 8 <= work.slices <= 20_000


def test_memory_figures() -> None:
    rng = random.Random(1)
    points = [(float(second), 30 + second / 60 + rng.uniform(-0.1, 0.1)) for second in range(600)]
    found = chaoswatch.life(3, points)
    assert found.slope_mib_per_min == pytest.approx(1, abs=0.05)
    assert (found.node, found.seconds) == (3, 599)
    assert found.min_mib < found.median_mib < found.max_mib
    assert chaoswatch.life(1, points[:10]).slope_mib_per_min is None
    assert chaoswatch.slope([(1.0, 5.0)]) == 0


def test_leftovers_are_found_by_their_mark() -> None:
    mark = chaoswatch.new_mark()
    assert not marked(mark)
    child = subprocess.Popen(["sleep", "60"], env={**os.environ, chaoswatch.MARK: mark})
    try:
        eventually(lambda: marked(mark))
        assert "sleep 60" in marked(mark)[0]
    finally:
        child.kill()
        child.wait()
    assert not marked(mark)


def test_a_local_mesh_restarts_its_nodes() -> None:
    own: dict[int, list[str]] = {1: [], 2: []}
    ended: list[tuple[int, int]] = []

    def told(id: int, event: dict[str, Any]) -> None:
        if event["event"] == "ended":
            ended.append((id, event["status"]))

    options = ["--workers", "0", "--beacon-port", str(free_beacon_port())]
    with LocalMesh(
        [1, 2],
        ports=lambda _: 0,
        options=options,
        own=own.__getitem__,
        prefix=lambda id: ("env", f"WHO={id}"),
        environment={"MARKED": "yes"},
        on_event=told,
    ) as mesh:
        mesh.wait_complete(PATIENCE_S)
        address = mesh.nodes[1].address
        environment = psutil.Process(mesh.nodes[1].process.pid).environ()
        assert (environment["WHO"], environment["MARKED"]) == ("1", "yes")
        mesh.pause(2)
        assert not mesh.nodes[2].serves and not mesh.nodes[2].ended
        mesh.resume(2)
        mesh.kill(1)
        mesh.leave(2)
        eventually(lambda: sorted(ended) == [(1, -9), (2, 0)])
        own[1] = ["--log-level", "debug"]
        mesh.start(1)
        mesh.start(2)
        mesh.wait_complete(PATIENCE_S)
        assert mesh.nodes[1].address == address and mesh.nodes[1].serves
        assert "debug" in psutil.Process(mesh.nodes[1].process.pid).cmdline()
        mesh.pause(2)  # a node that is stopped leaves too


# ---- networks ----


def hears(networks: netns.Networks, a: int, b: int) -> bool:
    """Whether a datagram from a's namespace reaches b's: a closed port answers."""
    program = (
        "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.settimeout(1); "
        f"s.connect(('{networks.address(b)}', 9)); s.send(b'x')\n"
        "try: s.recv(1)\nexcept ConnectionRefusedError: print('yes')\nexcept OSError: print('no')"
    )
    prefix = networks.prefix(a) if a else ()
    done = subprocess.run([*prefix, sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout in ("yes\n", "no\n"), done.stderr
    return done.stdout == "yes\n"


@needs_namespaces
def test_networks_part_and_heal() -> None:
    with netns.Networks([1, 2, 3]) as networks:
        outside = netns.OUTSIDE
        assert hears(networks, 1, 2) and hears(networks, outside, 3) and hears(networks, 3, outside)
        networks.part([2, 3])
        assert networks.away == {2, 3}
        assert hears(networks, 2, 3) and hears(networks, outside, 1)
        assert not hears(networks, 1, 2) and not hears(networks, outside, 3)
        networks.heal()
        assert hears(networks, 1, 2)
        inside = subprocess.Popen([*networks.prefix(2), "sleep", "60"])
        name = networks.prefix(2)[-1]
        eventually(lambda: netns._ip("netns", "pids", name))
    assert inside.wait(PATIENCE_S) == -signal.SIGKILL
    assert not [name for name, maker in netns._ours() if maker == os.getpid()]


@needs_namespaces
def test_networks_of_a_dead_run_are_removed() -> None:
    program = (
        "import os, sys; from velum.netns import Networks; n = Networks([1, 2]); "
        "print('made', flush=True); sys.stdin.read()"
    )
    maker = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert maker.stdout is not None and maker.stdin is not None
    assert maker.stdout.readline() == "made\n"
    netns.remove_stale()
    mine = [name for name, pid in netns._ours() if pid == maker.pid]
    assert len(mine) == 3, "a run that lives keeps its own"
    maker.kill()
    maker.communicate()
    end = time.monotonic() + PATIENCE_S
    while [name for name, pid in netns._ours() if pid == maker.pid]:
        assert time.monotonic() < end
        netns.remove_stale()
