"""What every benchmark shares: CPU placement, other processes, and the ratios at the end.

A speed alone says little on a machine that others share; each benchmark stands in a group with its
rival, run beside it, and the summary prints Velum's median over the rival's.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from beside import pinned
from servers import compiled

HERE = Path(__file__).parent
PLACEMENTS = {"same core": (0, 0), "two cores": (0, 1)}


@pytest.fixture(params=list(PLACEMENTS))
def placement(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """(name, CPU of the other side); this process is pinned to its own CPU meanwhile."""
    mine, other = PLACEMENTS[request.param]
    before = os.sched_getaffinity(0)
    if not {mine, other} <= before:
        pytest.skip(f"needs CPUs {mine} and {other}, has {sorted(before)}")
    with pinned(mine):
        yield request.param, other


@pytest.fixture(scope="session")
def echo_library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """echo.c as a shared library."""
    library = tmp_path_factory.mktemp("echo") / "echo.so"
    return str(compiled(HERE / "echo.c", library, "-shared", "-fPIC"))


@pytest.fixture(scope="session")
def echo(echo_library: str) -> ctypes.CDLL:
    return ctypes.CDLL(echo_library)


def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    """Velum's median over each rival's, group by group, and what was measured without a rival."""
    session = getattr(config, "_benchmarksession", None)
    rows = [row for row in getattr(session, "benchmarks", []) if row.stats.data]
    if not rows:
        return
    write = terminalreporter.write_line
    terminalreporter.section("velum beside its rivals: medians of one run")
    for group in dict.fromkeys(row.group for row in rows):
        mine = next((r for r in rows if r.group == group and r.extra_info.get("velum")), None)
        for row in rows:
            if row.group != group:
                continue
            unit = row.extra_info.get("units", 1)
            line = f"{group}: {row.extra_info.get('what', row.name)}: "
            line += f"{row.stats.median / unit * 1e6:.3g} us"
            if mine is not None and row is not mine:
                theirs = row.stats.median / unit
                line += (
                    f"; velum / this = {mine.stats.median / mine.extra_info['units'] / theirs:.2f}"
                )
            write(line)
    for row in rows:
        for name, value in row.extra_info.get("figures", {}).items():
            write(f"{row.group}: {name}: {value}")
