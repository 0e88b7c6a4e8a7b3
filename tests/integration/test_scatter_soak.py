"""The promises of a scatter at full size: one answer, whoever is killed.

Slow; `make soak` runs it, and prints what each run answered and how long it took.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time

import pytest

import velum
from tests.integration.meshes import (
    GUESTS,
    PATIENCE_S,
    Processes,
    StartMesh,
    eventually,
    seeded,
)

pytestmark = pytest.mark.soak

PRIMES = ("primes", "count_primes", 0, 50_000_000)
PRIMES_S = 20.0  # about what that takes on two cores
PI = ("pi", "pi_hits", 0, 100_000_000)
FLOATS = ("floats", "harmonic", 1, 1_000_000_001)
SLICES = 4096
RUNS = 20
SIZES = (1, 2, 4, 8)

Job = tuple[str, str, int, int]


def scatter(nodes: Processes, job: Job, home: int) -> str:
    """What `velum scatter` prints, attached to a node."""
    guest, function, start, end = job
    words = [str(GUESTS / f"{guest}.wasm"), function, str(start), str(end)]
    done = subprocess.run(
        [sys.executable, "-m", "velum", "scatter", *words, "--node", nodes.address(home)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S * 10,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def while_killing(nodes: Processes, job: Job, home: int, victim: int, after_s: float) -> str:
    """The same, while a node is killed so many seconds after its start."""
    timer = threading.Timer(after_s, nodes.kill, (victim,))
    timer.start()
    began = time.monotonic()
    answer = scatter(nodes, job, home)
    took_s = time.monotonic() - began
    timer.join()
    role = "the coordinator" if victim == home else "another"
    when = "killed" if after_s < took_s else "would have been killed"
    print(f"{answer} in {took_s:.1f} s; node {victim}, {role}, {when} after {after_s:.1f} s")
    return answer


@pytest.mark.timeout(1800)
def test_primes_whoever_is_killed(mesh: StartMesh) -> None:
    nodes = mesh(4)
    rng = seeded("kills in a long job")
    assert scatter(nodes, ("primes", "count_primes", 0, 500_000), 1) == "41538"
    assert scatter(nodes, PRIMES, 1) == "3001134"
    for victim in (1, 2, 3, 4):
        for home in (victim, victim % 4 + 1):
            after_s = rng.uniform(0.2, PRIMES_S * 0.6)
            assert while_killing(nodes, PRIMES, home, victim, after_s) == "3001134"
            nodes.start([victim], join=nodes.address(victim % 4 + 1), again=True)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("job", [PI, FLOATS], ids=["pi", "floats"])
def test_one_answer_on_any_number_of_nodes(mesh: StartMesh, job: Job) -> None:
    rng = seeded(f"sizes and kills of {job[1]}")
    answers = {one_run(mesh, job, SIZES[number % 4], number >= 4, rng) for number in range(RUNS)}
    print(f"{RUNS} runs: {answers}")
    assert len(answers) == 1


def one_run(mesh: StartMesh, job: Job, size: int, kills: bool, rng: random.Random) -> object:
    """On a mesh of its own, of which a node is killed in the middle unless it is the only one."""
    nodes = mesh(size)
    home, victim, share = rng.randint(1, size), rng.randint(1, size), rng.uniform(0.0, 0.7)
    guest, function, start, end = job
    with velum.connect(nodes.address(home), timeout=PATIENCE_S) as client:
        running = client.scatter(GUESTS / f"{guest}.wasm", function, start, end)
        what = "nobody killed"
        if kills and size > 1:
            eventually(lambda: running.done() or running.progress().done > share * SLICES)
            what = f"node {victim} killed" + (", too late" if running.done() else "")
            nodes.kill(victim)
        answer = running.result(PATIENCE_S)
        epoch = running.record.epoch if running.record else 0
    print(f"{answer!r} on {size}, home {home}: {what}; epoch {epoch}")
    for id in list(nodes.running()):
        nodes.kill(id)
    return answer


@pytest.mark.timeout(1800)
def test_memory_is_flat_once_results_have_filled_their_room(mesh: StartMesh) -> None:
    """Results are kept for an hour, in RETAIN_BYTES_MAX; a job here has some 26 KiB of them."""
    nodes = mesh(2)
    with velum.connect(nodes.address(1)) as client:

        def run_jobs(count: int) -> list[float]:
            for number in range(count):
                start = 100 * number
                job = client.scatter(
                    GUESTS / "primes.wasm", "count_primes", start, start + 60_000, slices=3000
                )
                job.result(PATIENCE_S)
            return [nodes.rss_mib(id) for id in (1, 2)]

        begun, full, later = run_jobs(1), run_jobs(3000), run_jobs(3000)
    print(f"MiB of the two nodes after 1, 3,001 and 6,001 jobs: {begun}, {full}, {later}")
    assert all(after - before < 4 for before, after in zip(full, later, strict=True))
