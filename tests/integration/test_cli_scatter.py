"""Scatters as their users hold them: the commands as processes, the prompt, handles of clients and
nodes, on meshes of real processes, some of which are killed on the way."""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import velum
from tests.integration.meshes import (
    GUESTS,
    PATIENCE_S,
    Processes,
    StartMesh,
    eventually,
    running,
)
from tests.integration.test_repl_pty import Terminal
from velum.client import Client
from velum.machine import free_beacon_port
from velum.policy.slices import slice_bounds
from velum.scatterjob import ScatterJob

PRIMES = str(GUESTS / "primes.wasm")
TRAPS = str(GUESTS / "traps.wasm")
FLOATS = str(GUESTS / "floats.wasm")
SEARCH = str(GUESTS / "search.wasm")
MILLION, IN_MILLION = 1_000_000, 78_498  # primes below it: half a second for one worker
ENDLESS = 2_000_000_000  # a range that nobody gets through in a test
SHORT = 100_000  # slices of it that take some milliseconds each


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "velum", *words],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
    )


@pytest.fixture(scope="module")
def three(shared_mesh: StartMesh) -> Processes:
    return shared_mesh(3)


@pytest.fixture(scope="module")
def client(three: Processes) -> Client:
    return three.client()


@pytest.fixture
def node(three: Processes) -> str:
    """Not the one that most of a mesh's first questions go to."""
    return three.address(3)


@pytest.fixture
def endless(client: Client) -> Iterator[ScatterJob]:
    """A job under way, cancelled with the test."""
    job = client.scatter(PRIMES, "count_primes", 0, ENDLESS, slices=SHORT)
    eventually(lambda: job.progress().done, "slices are done")
    yield job
    job.cancel()
    assert job.wait(PATIENCE_S)


# ---- commands ----


def test_scatter(node: str) -> None:
    words = ("scatter", PRIMES, "count_primes", "0", "1e6", "--node", node)
    done = command(*words, "-v")
    assert (done.returncode, done.stdout) == (0, f"{IN_MILLION}\n")
    assert done.stderr.splitlines()[-1].startswith("4096 slices in ")
    final = json.loads(command(*words, "--slices", "100", "--json").stdout)
    assert (final["answer"], final["state"], final["done"]) == (IN_MILLION, "done", 100)
    assert sum(share["done"] for share in final["nodes"]) == 100 and final["failures"] == []


def test_reductions(node: str) -> None:
    found = command("scatter", SEARCH, "search", "0", "5e5", "--node", node,
                    "--reduce", "first", "--missing", "-1")  # fmt: skip
    first = int(found.stdout)
    assert first * 123 % 99991 == 1
    found = command("scatter", SEARCH, "search", "0", "5e5", "--node", node,
                    "--reduce", "all", "--missing", "-1", "--slices", "500")  # fmt: skip
    assert list(map(int, found.stdout.split())) == [first + 99991 * i for i in range(5)]
    nothing = command("scatter", PRIMES, "count_primes", "7", "7", "--reduce", "collect",
                      "--node", node)  # fmt: skip
    assert (nothing.returncode, nothing.stdout) == (0, "")


def test_float_sums_are_of_the_slices_in_order(client: Client, node: str) -> None:
    slices = [slice_bounds(0, 100_000, 64, index) for index in range(64)]
    expected = 0.0
    for start, end in slices:
        part = 0.0
        for i in range(start, end):
            part += 1.0 / (i + 1.0)
        expected += part
    words = ("scatter", FLOATS, "harmonic", "0", "100_000", "--slices", "64", "--node", node)
    assert command(*words).stdout == f"{expected!r}\n"
    parts = list(client.scatter(FLOATS, "harmonic", 0, 100_000, slices=64))
    assert len(parts) == 64 and parts[0] == sum(1.0 / (i + 1.0) for i in range(*slices[0]))


def test_a_failed_slice_is_named(node: str) -> None:
    words = ("scatter", TRAPS, "divide", "-10", "10", "--node", node)
    done = command(*words)
    assert (done.returncode, done.stdout) == (1, "")
    assert "slice 9 [-1, 0)" in done.stderr and done.stderr.count("\n") == 1
    going = command(*words, "--keep-going")
    assert going.returncode == 0
    assert going.stderr.startswith("slice 9 [-1, 0) failed: ")
    final = json.loads(command(*words, "--keep-going", "--json").stdout)
    assert [failure["slice"] for failure in final["failures"]] == [9]
    failed = command(*words, "--json")
    assert failed.returncode == 1 and json.loads(failed.stdout)["error"]["code"]


def test_limits_end_with_4_and_1(node: str) -> None:
    words = ("scatter", PRIMES, "count_primes", "0", str(ENDLESS), "--node", node)
    late = command(*words, "--limit", "300ms")
    assert late.returncode == 4 and "limit" in late.stderr
    slow = command(*words, "--slices", "2", "--timeout", "100ms")
    assert slow.returncode == 4 and "slice " in slow.stderr
    hungry = command(*words, "--fuel", "100")
    assert hungry.returncode == 1 and "fuel" in hungry.stderr


def test_detach_jobs_watch_and_cancel(three: Processes, node: str) -> None:
    detached = command("scatter", PRIMES, "count_primes", "0", "3e6", "--detach", "--node", node)
    id = detached.stdout.strip()
    assert detached.returncode == 0 and len(id) == 16
    table = command("jobs", "--node", three.address(2))
    (line,) = (line for line in table.stdout.splitlines() if line.startswith(id))
    assert "primes.wasm count_primes" in line
    watched = command("job", id[:12], "--watch", "--node", three.address(2))
    assert (watched.returncode, watched.stdout) == (0, "216816\n")
    shown = command("job", id, "--node", three.address(3))
    assert shown.returncode == 0 and "216816" in shown.stdout
    late = command("job", id, "--cancel", "--node", node)
    assert late.returncode == 1 and "done already" in late.stderr


def test_cancel_and_resume_from_other_nodes(three: Processes) -> None:
    words = ("scatter", PRIMES, "count_primes", "0", str(ENDLESS), "--detach")
    id = command(*words, "--node", three.address(1)).stdout.strip()
    ended = command("job", id, "--cancel", "--node", three.address(2))
    assert (ended.returncode, ended.stdout) == (0, f"{id} cancelled\n")
    again = command("job", id, "--resume", "--json", "--node", three.address(3))
    assert json.loads(again.stdout) == {"id": id, "state": "running"}
    ended = command("job", id, "--cancel", "--node", three.address(1))
    assert ended.stdout == f"{id} cancelled\n"


def test_an_unknown_job(node: str) -> None:
    done = command("job", "0000000000000007", "--node", node)
    assert done.returncode != 0 and "0000000000000007" in done.stderr
    assert done.stderr.count("\n") == 1


def test_lines_while_nobody_looks(node: str) -> None:
    with running(
        "velum", "scatter", PRIMES, "count_primes", "0", str(ENDLESS), "--node", node
    ) as process:
        assert process.stderr is not None and process.stdout is not None
        line = process.stderr.readline()
        assert line.startswith("primes.wasm count_primes: 0%, ") and "4096 slices" in line
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130
        assert process.stdout.read() == ""


def test_ctrl_c_cancels_the_job(client: Client, node: str) -> None:
    before = {row["id"] for row in client.jobs()}
    new: list[str] = []

    def submitted() -> bool:
        rows = [row for row in client.jobs() if row["id"] not in before]
        new[:] = [row["id"] for row in rows if row["done"]]
        return bool(new)

    with running(
        "velum", "scatter", PRIMES, "count_primes", "0", str(ENDLESS), "--node", node
    ) as process:
        eventually(submitted, "the job is under way")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130
    (row,) = (row for row in client.jobs() if row["id"] == new[0])
    assert row["state"] == "cancelled"


def test_progress_on_a_terminal(three: Processes, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "velum", "scatter", PRIMES, "count_primes", "0", str(ENDLESS)]
    terminal = Terminal([*words, "--node", three.address(1)], tmp_path)
    try:
        terminal.expect(r"primes.wasm count_primes \[\.+\]   0%  \d+/4096")
        terminal.expect(r"node [123] \[[#.]{16}\] +\d+ +\d+%  \d+\.\d s busy  [12] lease")
        terminal.type("\x03")
        assert terminal.ended() == 130
    finally:
        terminal.close()


def test_the_prompt(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "velum.node", "7", "--port", "0", "--workers", "1"]
    terminal = Terminal([*words, "--beacon-port", str(free_beacon_port())], tmp_path)
    try:
        terminal.expect("velum>")
        terminal.type("scatter tests/guests/primes.wasm count_primes 0 1e6\r")
        terminal.expect(f"\n{IN_MILLION}\n")
        terminal.type("jobs\r")
        terminal.expect(r"[0-9a-f]{16}  done +primes.wasm count_primes")
        terminal.type(f"scatter tests/guests/primes.wasm count_primes 0 {ENDLESS}\r")
        terminal.expect(r"node 7 \[#{16}\] +[1-9]\d* 100%")
        terminal.type("\x03")
        terminal.expect("cancelled")
        terminal.type("add 1 1\r")
        terminal.expect(r"2   \(node 7, ")
        terminal.type("quit\r")
        assert terminal.ended() == 0
    finally:
        terminal.close()


# ---- handles ----


def test_values_as_they_come(client: Client) -> None:
    job = client.scatter(PRIMES, "count_primes", 0, MILLION, slices=200, values=True)
    found = dict(job.as_completed())
    assert len(found) == 200 and sum(found.values()) == IN_MILLION == job.result(PATIENCE_S)
    assert list(job) == [found[index] for index in range(200)]
    again = client.job(job.id)
    assert again.result(PATIENCE_S) == IN_MILLION and sum(again) == IN_MILLION


def test_values_begin_before_the_end(endless: ScatterJob) -> None:
    values = iter(endless)
    assert [next(values) for _ in range(3)][0] > 0 and not endless.done()


def test_a_client_that_closes_leaves_the_job_running(
    three: Processes, client: Client, endless: ScatterJob
) -> None:
    with velum.connect(three.address(2)) as other:
        followed = other.job(endless.id)
        assert followed.wait_progress(PATIENCE_S)
    with pytest.raises(velum.PeerLost, match="closed"):
        followed.result(PATIENCE_S)
    with pytest.raises(velum.PeerLost, match="closed"):
        other.scatter(PRIMES, "count_primes", 0, 9).result(PATIENCE_S)
    with pytest.raises(velum.PeerLost, match="closed"):
        other.job(endless.id).result(PATIENCE_S)
    assert client.job(endless.id).progress().state != "cancelled" and not endless.done()


def test_waiting_for_several(client: Client, endless: ScatterJob) -> None:
    quick = client.scatter(PRIMES, "count_primes", 0, 1000)
    finished, _ = concurrent.futures.wait([endless, quick], PATIENCE_S, "FIRST_COMPLETED")
    assert finished == {quick} and quick.result() == 168


def test_many_small_jobs(client: Client) -> None:
    jobs = [client.scatter(PRIMES, "count_primes", 0, 1000, slices=8) for _ in range(60)]
    assert [job.result(PATIENCE_S) for job in jobs] == [168] * 60


def test_a_refused_module_is_said(client: Client) -> None:
    with pytest.raises(velum.CallerError):
        client.scatter(b"\0asm nonsense", "f", 0, 9)


def test_spawn_wasm_distributed(
    client: Client, beacon_port: int, monkeypatch: pytest.MonkeyPatch, three: Processes
) -> None:
    def connect() -> Client:
        return velum.client.Client([client._home_address], 5.0)

    monkeypatch.setattr("velum.client.connect", connect)
    monkeypatch.setattr("velum._client", None)
    assert velum.spawn_wasm_distributed(PRIMES, "count_primes", 0, 1000).result(PATIENCE_S) == 168
    kept = velum._client
    assert kept is not None
    assert velum.spawn_wasm_distributed(PRIMES, "count_primes", 0, 100).result(PATIENCE_S) == 25
    assert velum._client is kept
    kept.close()
    velum.init(1, 0, beacon_port=beacon_port, workers=1)
    try:
        job = velum.spawn_wasm_distributed(PRIMES, "count_primes", 0, MILLION, slices=10)
        assert sum(job) == IN_MILLION and job.progress().coordinator == 1
    finally:
        velum.shutdown()


def test_executors_map_in_batches(client: Client) -> None:
    is_prime = velum.WasmFunction(PRIMES, "is_prime")
    with velum.MeshExecutor(client) as executor:
        for chunksize in (None, 1, 7, 5000):
            assert sum(executor.map(is_prime, range(1000), chunksize=chunksize)) == 168
        with pytest.raises(ValueError, match="chunksize"):
            executor.map("add", [1], [2], chunksize=0)
        with pytest.raises(velum.CallerError):
            list(executor.map("add", [1, "x"], [2, 3]))  # type: ignore[list-item]


# ---- nodes die ----


@pytest.mark.parametrize("values", [False, True])
def test_the_clients_node_is_killed(mesh: StartMesh, values: bool) -> None:
    """It is the job's coordinator too; the client goes on at another, and so does the job."""
    four = mesh(4)
    with velum.connect(four.address(1), timeout=10.0) as client:
        eventually(lambda: len(client.nodes()) == 4)
        job = client.scatter(PRIMES, "count_primes", 0, 4 * MILLION, values=values)
        assert job.progress().coordinator in (None, 1)
        eventually(lambda: job.progress().done > 200, "slices are done")
        four.kill(1)
        assert job.result(2 * PATIENCE_S) == 283_146
        assert job.progress().coordinator != 1 and job.record is not None
        assert client.address != four.address(1)
        assert sum(job) == 283_146


def test_a_followers_node_is_killed(mesh: StartMesh) -> None:
    three = mesh(3)
    with (
        velum.connect(three.address(1)) as owner,
        velum.connect(three.address(2), timeout=10.0) as other,
    ):
        eventually(lambda: len(other.nodes()) == 3)
        job = owner.scatter(PRIMES, "count_primes", 0, ENDLESS, slices=SHORT)
        assert job.wait_progress(PATIENCE_S)  # before its first word nobody else knows of it
        followed = other.job(job.id)
        eventually(lambda: followed.progress().done, "slices are done")
        three.kill(2)
        done = followed.progress().done
        eventually(lambda: followed.progress().done > done + 100, "progress goes on")
        assert followed.cancel()
        with pytest.raises(velum.TaskStopped):
            job.result(PATIENCE_S)
        with pytest.raises(velum.TaskStopped):
            followed.result(PATIENCE_S)


def test_no_node_is_left(mesh: StartMesh) -> None:
    one = mesh(1)
    with velum.connect(one.address(1), timeout=0.5) as client:
        job = client.scatter(PRIMES, "count_primes", 0, ENDLESS)
        eventually(lambda: job.progress().done, "slices are done")
        one.kill(1)
        with pytest.raises(velum.PeerLost, match="no node"):
            job.result(PATIENCE_S)
        with pytest.raises(velum.PeerLost):
            list(job)


def test_ctrl_c_in_result_leaves_the_client_usable(client: Client, endless: ScatterJob) -> None:
    """The main thread waits on a bare lock: what strikes it there stops nothing else."""
    for wait in (endless.result, endless.wait_progress, endless.exception, endless.wait):
        strike = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        strike.start()
        with pytest.raises(KeyboardInterrupt):
            while True:
                wait(PATIENCE_S)
        strike.join()
    assert client.spawn("add", 1, 2).result(PATIENCE_S) == 3
    assert client.scatter(PRIMES, "count_primes", 0, 1000).result(PATIENCE_S) == 168
