"""What a scatter costs beyond the guest's own work.

Owns the section `overhead`: one worker against a direct call, two workers with slices of different
lengths against two plain tasks, empty slices. Meshes are as users start them: held to nothing, in
no group. What is compared runs in turn.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, wait
from typing import Any

import quota
import wasm3
from beside import pinned
from figures import say
from scaling_meshes import GUESTS, Plan, free

import velum
from velum.client import Client

PRIMES_END = 27_000_000  # some 10 s in the guest
WARM_END = 1_000_000
POINTS_MS = 82_000  # of pi_hits in a guest: a millisecond
CHUNKS = ((1, 2000), (10, 300), (100, 40))  # milliseconds and how many: those of the rivals too
BEAT = 0.02  # of the one CPU, for the loop beside
WORKERS = 2
EMPTY = 1_000
MANY = 1_000_000
LATER = 5  # jobs after the first one


@contextlib.contextmanager
def attached(workers: int) -> Iterator[Client]:
    """A client of a fresh node."""
    with free(1, workers) as mesh, velum.connect(mesh.nodes[1].address) as client:
        yield client


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds, what it returns)."""
    began = time.perf_counter()
    found = call()
    return time.perf_counter() - began, found


_direct: Any = None


def load_direct() -> None:
    """In a process of its own: the guest, in wasm3 alone."""
    global _direct
    environment = wasm3.Environment()
    runtime = environment.new_runtime(64 * 1024)
    runtime.load(environment.parse_module((GUESTS / "primes.wasm").read_bytes()))
    _direct = runtime.find_function("count_primes")


def call_direct(end: int) -> int:
    """There: calls it."""
    return int(_direct(0, end))


def one_worker(plan: Plan) -> dict[str, Any]:
    """The same range as a scatter, as one task, and called directly, all on one CPU, whose speed a
    plain loop watches. A time is (seconds, beats). Each round has processes of its own: how fast
    wasm3 is in one depends by some percent on where its memory happens to lie."""
    guest, end = GUESTS / "primes.wasm", plan.some(PRIMES_END)
    times: dict[str, list[tuple[float, int]]] = {"scatter": [], "task": [], "direct": []}
    spawn = multiprocessing.get_context("spawn")
    for number in range(plan.rounds + 4):
        with (
            pinned(min(os.sched_getaffinity(0))),
            attached(1) as client,
            ProcessPoolExecutor(1, spawn, load_direct) as alone,
            quota.groups(1) as (group,),
        ):
            loop = quota.Loop(plan.library, group)
            group.limit(BEAT)
            calls: dict[str, Callable[[int], Any]] = {
                "scatter": lambda end: client.scatter(guest, "count_primes", 0, end),
                "task": lambda end: client.spawn_wasm(guest, "count_primes", 0, end),
                "direct": lambda end: alone.submit(call_direct, end),
            }
            answers = set()
            for name, call in calls.items():
                call(WARM_END).result()
                before = loop.calls
                seconds, found = timed(lambda call=call: call(end).result())
                times[name].append((seconds, loop.calls - before))
                answers.add(found)
                say(f"round {number + 1}, {name}: {seconds:.2f} s, {times[name][-1][1]} beats")
            if len(answers) != 1:
                raise SystemExit(f"answers differ: {answers}")
            loop.stop()
    return {"end": end, "beat": BEAT, "times": times}


def two_workers(plan: Plan) -> list[dict[str, Any]]:
    """Slices of 1, 10 and 100 ms on two workers, against two tasks with half of the range each."""
    rows = []
    guest = GUESTS / "pi.wasm"
    with attached(WORKERS) as client:
        client.scatter(guest, "pi_hits", 0, 100 * POINTS_MS, slices=100).result()
        for ms, count in CHUNKS:
            slices = plan.some(count)
            end = slices * ms * POINTS_MS
            row: dict[str, Any] = {"ms": ms, "slices": slices, "seconds": [], "ideal": []}
            for _ in range(plan.rounds + 2):
                halves = [(0, end // 2), (end // 2, end)]
                tasks = [client.spawn_wasm(guest, "pi_hits", *half) for half in halves]
                wait(tasks)
                row["ideal"].append(max(task.run_us for task in tasks) / 1e6)
                job = client.scatter(guest, "pi_hits", 0, end, slices=slices)
                row["seconds"].append(timed(job.result)[0])
            say(f"{ms} ms: {row['seconds']} of {row['ideal']}")
            rows.append(row)
    return rows


def empty(plan: Plan) -> dict[str, Any]:
    """Jobs of empty slices: the first on a fresh node, later ones; a million slices."""
    guest = GUESTS / "search.wasm"
    first, later, many = [], [], []
    for _ in range(plan.rounds):
        with attached(WORKERS) as client:

            def seconds(slices: int, client: Client = client) -> float:
                job = client.scatter
                return timed(lambda: job(guest, "search", 0, slices, slices=slices).result())[0]

            first.append(seconds(EMPTY))
            later += [seconds(EMPTY) for _ in range(LATER)]
            many.append(seconds(MANY))
            say(f"empty: first {first[-1]:.4f} s, later {later[-1]:.4f} s; many {many[-1]:.2f} s")
    return {"slices": EMPTY, "first": first, "later": later, "many_slices": MANY, "many": many}


def overhead(plan: Plan) -> dict[str, Any]:
    """All three."""
    return {
        "workers": WORKERS,
        "one": one_worker(plan),
        "chunks": two_workers(plan),
        "empty": empty(plan),
    }
