"""The same work as a scatter, done by others: native calls of one C function, in chunks.

`python bench/scatter_rivals.py SYSTEM LIBRARY CHUNKS POINTS [AFTER kill|stop]` prints a JSON line
with the seconds from submission to the sum, on 2 workers, and the sum. Systems: `plain` (two
processes with half each, nothing between them: the ideal), `processpool`, `ray`, `dask`. With
AFTER, one worker process is killed (SIGKILL) or stopped for good (SIGSTOP) so many seconds into the
job; then the seconds are null if the job was lost, or still ran LATE_S after that. All that a
system has started ends with this program.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import psutil

WORKERS = 2
LATE_S = 60.0
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}

Strike = Callable[[Sequence[int]], None]
"""Told the workers' process ids when the job begins."""
Outcome = tuple[float, int]
"""Seconds, and the sum."""

_library: Any = None


def hits(path: str, chunk: int, points: int) -> int:
    """One chunk: its number is the seed, so that numbers of 32 bits do for any job."""
    global _library
    if _library is None:
        _library = ctypes.CDLL(path)
    return int(_library.pi_hits(chunk, chunk + points))


def whoami(seconds: float) -> int:
    """The worker's process id; it takes so long that each worker gets one."""
    time.sleep(seconds)
    return os.getpid()


def plain(path: str, chunks: int, points: int, strike: Strike) -> Outcome:
    """Every other chunk in each of two processes, from a common start to the later end."""
    barrier = multiprocessing.Barrier(WORKERS + 1)
    ends: Any = multiprocessing.Array("d", WORKERS)
    sums: Any = multiprocessing.Array("q", WORKERS)

    def run(half: int) -> None:
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[half]})
        hits(path, 0, 1)
        barrier.wait()
        sums[half] = sum(hits(path, chunk, points) for chunk in range(half, chunks, WORKERS))
        ends[half] = time.monotonic()

    processes = [multiprocessing.Process(target=run, args=(half,)) for half in range(WORKERS)]
    for process in processes:
        process.start()
    barrier.wait()
    began = time.monotonic()
    for process in processes:
        process.join()
    return max(ends) - began, sum(sums)


def processpool(path: str, chunks: int, points: int, strike: Strike) -> Outcome:
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(WORKERS) as pool:
        for future in [pool.submit(hits, path, 0, 1) for _ in range(WORKERS)]:
            future.result()
        pids = {future.result() for future in [pool.submit(whoami, 0.3) for _ in range(WORKERS)]}
        began = time.monotonic()
        strike(sorted(pids))
        futures = [pool.submit(hits, path, chunk, points) for chunk in range(chunks)]
        found = sum(future.result() for future in futures)
        return time.monotonic() - began, found


def ray(path: str, chunks: int, points: int, strike: Strike) -> Outcome:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray as engine

    engine.init(
        num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, configure_logging=False
    )
    remote, names = engine.remote(hits), engine.remote(whoami)
    engine.get([remote.remote(path, 0, 1) for _ in range(WORKERS)])
    pids = engine.get([names.remote(0.3) for _ in range(WORKERS)])
    began = time.monotonic()
    strike(pids)
    found = sum(engine.get([remote.remote(path, chunk, points) for chunk in range(chunks)]))
    return time.monotonic() - began, found


def dask(path: str, chunks: int, points: int, strike: Strike) -> Outcome:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as cluster,
        Client(cluster) as client,
    ):
        client.run(hits, path, 0, 1)
        pids = list(client.run(os.getpid).values())
        began = time.monotonic()
        strike(pids)
        numbers = range(chunks)
        futures = client.map(hits, [path] * chunks, numbers, [points] * chunks, pure=False)
        found = sum(client.gather(futures))
        return time.monotonic() - began, found


def tell(outcome: dict[str, Any]) -> NoReturn:
    """Prints the outcome, and ends this program with all that it has started."""
    print(json.dumps(outcome), flush=True)
    for child in psutil.Process().children(recursive=True):
        child.kill()
    os._exit(0)  # a pool that has lost a worker may never join


def striker(after: float, number: int) -> Strike:
    """Sends one of the workers the signal in a while, and gives up on the job much later."""

    def strike(pids: Sequence[int]) -> None:
        late = {"seconds": None, "why": f"not done {LATE_S:.0f} s later"}
        for delay, action in (
            (after, lambda: os.kill(pids[0], number)),
            (after + LATE_S, lambda: tell(late)),
        ):
            timer = threading.Timer(delay, action)
            timer.daemon = True
            timer.start()

    return strike


def main() -> None:
    """One run."""
    # What a system leaves behind becomes this program's child: then it can be found.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    system, path, chunks, points = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    strike: Strike = lambda _: None  # noqa: E731
    if len(sys.argv) > 5:
        strike = striker(float(sys.argv[5]), SIGNALS[sys.argv[6]])
    run = {"plain": plain, "processpool": processpool, "ray": ray, "dask": dask}[system]
    try:
        seconds, found = run(path, chunks, points, strike)
    except Exception as error:  # what a lost job looks like is the system's own affair
        tell({"seconds": None, "why": f"job lost: {type(error).__name__}"})
    tell({"seconds": seconds, "sum": found})


if __name__ == "__main__":
    main()
