"""What failures cost: nodes and workers that are killed, or stopped for good, in mid-job.

Owns the section `deaths`. First four nodes with one worker each, whose every process is killed or
stopped at half of the undisturbed job's time; node 1 coordinates, node 3 is one of the others. Then
one node with two workers beside Ray and Dask, where one worker process is killed or stopped.

A process that is killed has its connections closed by the kernel, so that others know at once. One
that is stopped says nothing, like a machine without power.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import psutil
import quota
import scaling_rivals
from figures import say
from scaling_meshes import Command, Held, Job, Plan, held, same_answers
from scaling_overhead import POINTS_MS
from scatter_rivals import LATE_S

NODES = 4
QUOTA = 0.3  # four such nodes leave room on two cores for what is not held to anything
COORDINATOR, OTHER = 1, 3
CHUNK_MS = 100
CHUNKS = 100  # on 2 workers: 5 s
WORKERS = 2
BURN_S = 3.0

Strike = Callable[[Held], None]


def on_node(id: int, number: int) -> Strike:
    """The node and its workers get a signal, all at once."""
    return lambda mesh: mesh.groups[id - 1].signal(number)


def on_worker(number: int) -> Strike:
    """The worker process that has run most gets a signal."""

    def strike(mesh: Held) -> None:
        found = [psutil.Process(pid) for group in mesh.groups for pid in group.pids()]
        workers = [process for process in found if process.name() == "velum-worker"]
        max(workers, key=lambda process: process.cpu_times().user).send_signal(number)

    return strike


BEFALLS: dict[str, Strike | None] = {
    "undisturbed": None,
    "node killed": on_node(OTHER, signal.SIGKILL),
    "node stopped": on_node(OTHER, signal.SIGSTOP),
    "coordinator killed": on_node(COORDINATOR, signal.SIGKILL),
    "coordinator stopped": on_node(COORDINATOR, signal.SIGSTOP),
}
WORKER_BEFALLS: dict[str, Strike | None] = {
    "undisturbed": None,
    "kill": on_worker(signal.SIGKILL),
    "stop": on_worker(signal.SIGSTOP),
}


def struck(job: Job, mesh: Held, strike: Strike | None, after: float) -> dict[str, Any]:
    """Runs a job during which something happens so many seconds after the command began."""
    command = Command(job, mesh)
    if strike is None:
        return command.outcome()
    time.sleep(max(0.0, command.began + after - time.monotonic()))
    strike(mesh)
    found = command.outcome(after + LATE_S)
    return {**found, "struck_s": after}


def nodes(plan: Plan) -> dict[str, list[dict[str, Any]]]:
    """Four nodes; each round and each failure has a mesh of its own."""
    job = Job("primes", "primes.wasm", "count_primes", plan.some(50_000_000))
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in BEFALLS}
    for number in range(plan.rounds):
        for name, strike in BEFALLS.items():
            whole = [run["seconds"] for run in runs["undisturbed"]]
            half = median(whole) / 2 if whole else 0.0
            with held(plan, [QUOTA] * NODES, QUOTA) as mesh:
                found = struck(job, mesh, strike, half)
            runs[name].append(found)
            say(f"round {number + 1}, {name}: {found['seconds']} s")
    same_answers([run for found in runs.values() for run in found])
    return runs


def workers(plan: Plan) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Velum, Ray, Dask and ProcessPool: 2 workers, one of which is killed or stopped half-way."""
    slices = plan.some(CHUNKS)
    points = CHUNK_MS * scaling_rivals.points_ms(plan.library)
    options = ("--slices", str(slices))
    job = Job("pi", "pi.wasm", "pi_hits", slices * CHUNK_MS * POINTS_MS, options)
    systems: dict[str, dict[str, list[dict[str, Any]]]] = {"velum": {}}
    systems |= {name: {} for name in scaling_rivals.installed()}
    for system, runs in systems.items():
        for name, strike in WORKER_BEFALLS.items():
            if system == "processpool" and name == "stop":
                continue  # nothing in it would notice
            runs[name] = []
            half = _half(runs["undisturbed"])
            for _ in range(_rounds(plan, system, name)):
                if system == "velum":
                    with held(plan, [0], workers=WORKERS) as mesh:
                        found = struck(job, mesh, strike, half)
                else:
                    words = () if strike is None else (str(half), name)
                    found = scaling_rivals.run(system, plan, slices, points, *words)
                runs[name].append(found)
                say(f"{system}, {name}: {found['seconds']} s {found.get('why', '')}")
    same_answers([run for found in systems["velum"].values() for run in found])
    return systems


def _half(runs: list[dict[str, Any]]) -> float:
    return median(run["seconds"] for run in runs) / 2 if runs else 0.0


def _rounds(plan: Plan, system: str, name: str) -> int:
    """A rival that waits for a stopped worker waits a minute, and a pool is lost every time: once
    will do."""
    if system == "processpool" or (system != "velum" and name == "stop"):
        return 1
    return plan.rounds


def deaths(plan: Plan) -> dict[str, Any]:
    """Nodes, then workers; and what the machine makes of the quotas."""
    loops = {str(n): quota.loops(plan.library, [QUOTA] * n, BURN_S) for n in (1, NODES - 1, NODES)}
    return {
        "quota": QUOTA,
        "count": NODES,
        "loops": loops,
        "nodes": nodes(plan),
        "workers": workers(plan),
        "chunk_ms": CHUNK_MS,
        "late_s": LATE_S,
    }
