"""Ten thousand meshes under trouble, or as many as VELUM_SEEDS says; of jobs, then of files. Slow.

Every failing seed is printed with the command that runs it again.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable

import pytest

from velum.sim import scatter_cli, storage_cli

pytestmark = pytest.mark.soak

SEEDS = int(os.environ.get("VELUM_SEEDS", "10000"))
FIRST = 1_000  # the ordinary tests run those below
PROCESSES = 2


def attempt_scatter(seed: int) -> str | None:
    """What was wrong with one seed's run."""
    try:
        scatter_cli.simulate(seed)
    except scatter_cli.Wrong as wrong:
        return f"seed {seed}: {wrong}"
    return None


def attempt_storage(seed: int) -> str | None:
    """The same of files."""
    try:
        storage_cli.simulate(seed)
    except storage_cli.Wrong as wrong:
        return f"seed {seed}: {wrong}"
    return None


@pytest.mark.parametrize("attempt", [attempt_scatter, attempt_storage])
def test_ten_thousand_seeds(attempt: Callable[[int], str | None]) -> None:
    failures = []
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        seeds = range(FIRST, FIRST + SEEDS)
        for complaint in pool.imap_unordered(attempt, seeds, chunksize=20):
            if complaint is not None:
                print(complaint, flush=True)
                failures.append(complaint)
    assert not failures, f"{len(failures)} of {SEEDS} seeds fail, the first: {failures[0]}"
