"""What a chaos run watches: the memory of its nodes, their logs, and processes that outlive it.

Owns: samples and what they come to, log files and the faults found in them, the mark by which a
process of a run is known. Refuses to know why anything happens.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final, TextIO

import psutil

from velum.localmesh import LocalNode

SAMPLE_S: Final = 1.0
LONG_S: Final = 30.0  # a process that lived so long has a slope worth telling

# No log of a node may ever show these.
FAULTS: Final = ("Traceback (most recent call last)", "the loop failed", "Exception ignored in")

# Processes of a run have this in their environment, children's children too.
MARK: Final = "VELUM_CHAOS_RUN"


def new_mark() -> str:
    """A value of MARK that no other run has."""
    return secrets.token_hex(8)


def leftovers(mark: str, patience_s: float) -> list[str]:
    """Processes of the run that still live when so much time has passed, in words."""
    end = time.monotonic() + patience_s
    while (found := list(_marked(mark))) and time.monotonic() < end:
        time.sleep(0.1)
    return [f"process {process.pid}: {' '.join(words)}" for process, words in found]


def _marked(mark: str) -> Iterable[tuple[psutil.Process, list[str]]]:
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                yield process, process.cmdline()
        except psutil.Error:
            continue  # another user's, or it has just ended


@dataclass(frozen=True)
class Life:
    """The memory of one process of a node, resident, in MiB."""

    node: int
    seconds: float
    min_mib: float
    median_mib: float
    max_mib: float
    slope_mib_per_min: float | None  # by least squares over its second half; None: too short

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


class Memory:
    """Samples of what nodes' processes hold, once a second."""

    def __init__(self) -> None:
        self._samples: dict[tuple[int, int], list[tuple[float, float]]] = {}
        self._next = 0.0

    def look(self, nodes: Iterable[LocalNode]) -> None:
        """Takes samples if it is time."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + SAMPLE_S
        for node in nodes:
            if not node.ready or node.ended:
                continue
            pid = node.process.pid
            try:
                held = psutil.Process(pid).memory_info().rss / (1 << 20)
            except psutil.Error:
                continue
            self._samples.setdefault((node.id, pid), []).append((now, held))

    def lives(self) -> list[Life]:
        """Every process that lived long enough, by node; of each node at least the longest."""
        found: list[Life] = []
        for node in sorted({node for node, _ in self._samples}):
            mine = [life(node, s) for (id, _), s in self._samples.items() if id == node]
            longest = max(mine, key=lambda life: life.seconds)
            found += [life for life in mine if life.seconds >= LONG_S or life is longest]
        return found


def life(node: int, samples: Sequence[tuple[float, float]]) -> Life:
    """What the samples of one process come to."""
    held = [mib for _, mib in samples]
    seconds = samples[-1][0] - samples[0][0]
    half = samples[len(samples) // 2 :]
    return Life(
        node,
        round(seconds, 1),
        round(min(held), 1),
        round(median(held), 1),
        round(max(held), 1),
        round(slope(half) * 60, 2) if seconds >= LONG_S else None,
    )


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the straight line with the least squares through (x, y) points; 0 for fewer than two."""
    middle_x = sum(x for x, _ in points) / len(points)
    middle_y = sum(y for _, y in points) / len(points)
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread if spread else 0.0


class Logs:
    """A file for every node, with all that its processes have logged; lines of faults are told."""

    def __init__(self, directory: Path, on_fault: Callable[[str], None]) -> None:
        self._directory = directory
        self._on_fault = on_fault
        self._files: dict[int, TextIO] = {}

    def line(self, node: int, text: str) -> None:
        """A line of a node's log; from one thread a node."""
        file = self._files.get(node)
        if file is None:
            path = self._directory / f"node-{node}.log"
            file = self._files[node] = path.open("a", buffering=1)
        if not file.closed:
            file.write(text + "\n")
        if any(fault in text for fault in FAULTS):
            self._on_fault(f"the log of node {node} shows: {text}")

    def close(self) -> None:
        """Nothing more is written."""
        for file in self._files.values():
            file.close()
