"""Ten thousand meshes under trouble, or as many as VELUM_SEEDS says; of jobs, of files, of
shared state. Slow.

Every failing seed is printed with the command that runs it again.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from functools import partial

import pytest

from velum.sim import kv_cli, scatter_cli, storage_cli
from velum.sim.seeds import Wrong

pytestmark = pytest.mark.soak

SEEDS = int(os.environ.get("VELUM_SEEDS", "10000"))
FIRST = 1_000  # the ordinary tests run those below
PROCESSES = 2


def complaint_of(simulate: Callable[[int], object], seed: int) -> str | None:
    """What was wrong with one seed's run."""
    try:
        simulate(seed)
    except Wrong as wrong:
        return f"seed {seed}: {wrong}"
    return None


@pytest.mark.parametrize(
    "simulate",
    [scatter_cli.simulate, storage_cli.simulate, kv_cli.simulate],
    ids=["scatter", "storage", "kv"],
)
def test_ten_thousand_seeds(simulate: Callable[[int], object]) -> None:
    failures = []
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        seeds = range(FIRST, FIRST + SEEDS)
        attempts = pool.imap_unordered(partial(complaint_of, simulate), seeds, chunksize=20)
        for complaint in attempts:
            if complaint is not None:
                print(complaint, flush=True)
                failures.append(complaint)
    assert not failures, f"{len(failures)} of {SEEDS} seeds fail, the first: {failures[0]}"
