"""Ten thousand meshes under trouble, or as many as VELUM_SEEDS says. Slow.

Every failing seed is printed with the command that runs it again.
"""

from __future__ import annotations

import multiprocessing
import os

import pytest

from velum.sim.scatter_cli import Wrong, simulate

pytestmark = pytest.mark.soak

SEEDS = int(os.environ.get("VELUM_SEEDS", "10000"))
FIRST = 1_000  # the ordinary tests run those below
PROCESSES = 2


def attempt(seed: int) -> str | None:
    """What was wrong with one seed's run."""
    try:
        simulate(seed)
    except Wrong as wrong:
        return f"seed {seed}: {wrong}"
    return None


def test_ten_thousand_seeds() -> None:
    failures = []
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        seeds = range(FIRST, FIRST + SEEDS)
        for complaint in pool.imap_unordered(attempt, seeds, chunksize=20):
            if complaint is not None:
                print(complaint, flush=True)
                failures.append(complaint)
    assert not failures, f"{len(failures)} of {SEEDS} seeds fail, the first: {failures[0]}"
