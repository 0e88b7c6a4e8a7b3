"""Ray, Dask and ProcessPoolExecutor at the same kind of work: chunks of native code, 2 workers.

Owns the section `rivals` and how the programs of scatter_rivals.py are run. The chunks are as long
as Velum's slices in the section `overhead`; each system is compared with two processes that do the
same with nothing between them, in turn.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from figures import say
from scaling_meshes import Plan
from scaling_overhead import CHUNKS

PROGRAM = Path(__file__).parent / "scatter_rivals.py"
SYSTEMS = {"processpool": "concurrent.futures", "ray": "ray", "dask": "distributed"}
PROBE = 20_000_000  # points that tell how many a millisecond takes
ENOUGH_S = 180.0  # for any of these programs


def installed() -> list[str]:
    """The systems that are here."""
    return [name for name, module in SYSTEMS.items() if importlib.util.find_spec(module)]


def points_ms(library: Path) -> int:
    """Points of the native function that take a millisecond: the fastest of a few tries."""
    call = ctypes.CDLL(str(library)).pi_hits
    best = min(_seconds(call) for _ in range(5))
    return round(PROBE / best / 1000)


def _seconds(call: Any) -> float:
    began = time.perf_counter()
    call(0, PROBE)
    return time.perf_counter() - began


def run(system: str, plan: Plan, chunks: int, points: int, *strike: str) -> dict[str, Any]:
    """One run of a system: its seconds, null if the job was lost."""
    words = [system, str(plan.library), str(chunks), str(points), *strike]
    found = subprocess.run(
        [sys.executable, str(PROGRAM), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=ENOUGH_S,
    )
    lines = [line for line in found.stdout.splitlines() if line.startswith("{")]
    if not lines:
        return {"seconds": None, "why": f"ended with status {found.returncode}"}
    outcome: dict[str, Any] = json.loads(lines[-1])
    return outcome


def rivals(plan: Plan) -> dict[str, Any]:
    """Every system at every length of chunk."""
    points = points_ms(plan.library)
    rows = []
    for ms, count in CHUNKS:
        chunks = plan.some(count)
        times: dict[str, list[float]] = {name: [] for name in ("plain", *installed())}
        sums = set()
        for _ in range(plan.rounds):
            for name in times:
                found = run(name, plan, chunks, ms * points)
                if found["seconds"] is None:
                    raise SystemExit(f"{name}, {chunks} chunks of {ms} ms: {found['why']}")
                times[name].append(found["seconds"])
                sums.add(found["sum"])
        if len(sums) != 1:
            raise SystemExit(f"sums differ: {sums}")
        say(f"{ms} ms: {times}")
        rows.append({"ms": ms, "chunks": chunks, "times": times})
    return {"points_ms": points, "rows": rows, "versions": versions()}


def versions() -> dict[str, str]:
    """Which Ray, which Dask."""
    from importlib.metadata import version

    return {name: version(SYSTEMS[name]) for name in installed() if name != "processpool"}
