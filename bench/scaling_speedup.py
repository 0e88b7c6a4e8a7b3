"""How much faster more nodes are, and what a slow node costs.

Owns the sections `scaling` and `slow`. Nodes have one worker each and a tenth of a core; the whole
job is timed from command to answer. Sizes are measured in turn, round after round, each on a mesh
of its own, so that a machine that drifts drifts for all of them.
"""

from __future__ import annotations

from typing import Any

import quota
from figures import say
from scaling_meshes import Job, Plan, held, run, same_answers

QUOTA = 0.1
SLOW = 0.01  # a tenth of the others'
SIZES = (1, 2, 4, 8)
SLOW_NODES = 8
BURN_S = 4.0
SEARCH_SLICE = 50_000  # every other one holds one of the numbers that are searched for


def jobs(plan: Plan) -> list[Job]:
    """What is scattered: over 4 s at 8 nodes."""
    slices = plan.some(21_000)
    search = ("--reduce", "all", "--missing", "-1", "--slices", str(slices))
    return [
        Job("pi", "pi.wasm", "pi_hits", plan.some(270_000_000)),
        Job("primes", "primes.wasm", "count_primes", plan.some(12_000_000)),
        Job("search", "search.wasm", "search", SEARCH_SLICE * slices, search),
    ]


def burn(plan: Plan, shares: list[float]) -> int:
    """Calls that plain loops under these quotas do in a while."""
    return quota.loops(plan.library, shares, BURN_S * (0.4 if plan.quick else 1))


def scaling(plan: Plan) -> dict[str, Any]:
    """Every job at every size; plain loops at the least and the largest."""
    todo = jobs(plan)
    times: dict[str, dict[str, list[dict[str, Any]]]] = {
        job.name: {str(size): [] for size in SIZES} for job in todo
    }
    loops: dict[str, list[int]] = {str(size): [] for size in (SIZES[0], SIZES[-1])}
    for number in range(plan.rounds):
        for size in SIZES:
            if str(size) in loops:
                loops[str(size)].append(burn(plan, [QUOTA] * size))
            with held(plan, [QUOTA] * size, QUOTA) as mesh:
                for job in todo:
                    found = run(job, mesh)
                    times[job.name][str(size)].append(found)
                    say(f"round {number + 1}, {size} nodes, {job.name}: {found['seconds']:.2f} s")
    for sizes in times.values():
        same_answers([found for runs in sizes.values() for found in runs])
    return {
        "quota": QUOTA,
        "period_us": quota.PERIOD_US,
        "jobs": {job.name: job.text for job in todo},
        "times": times,
        "loops": loops,
    }


def slow(plan: Plan) -> dict[str, Any]:
    """Eight nodes of which one has a tenth of the others' quota, beside one node alone."""
    job = jobs(plan)[0]
    runs: dict[str, list[dict[str, Any]]] = {"alone": [], "mixed": []}
    shares = [QUOTA] * (SLOW_NODES - 1) + [SLOW]
    loops: dict[str, list[int]] = {"alone": [], "mixed": []}
    for number in range(plan.rounds):
        for kind, quotas in (("alone", [QUOTA]), ("mixed", shares)):
            loops[kind].append(burn(plan, quotas))
            with held(plan, quotas, QUOTA) as mesh:
                found = run(job, mesh)
            runs[kind].append(found)
            say(f"round {number + 1}, {kind}: {found['seconds']:.2f} s")
    same_answers(runs["alone"] + runs["mixed"])
    return {
        "quota": QUOTA,
        "slow": SLOW,
        "nodes": SLOW_NODES,
        "capacity": sum(shares) / QUOTA,
        "job": job.text,
        "runs": runs,
        "loops": loops,
    }
