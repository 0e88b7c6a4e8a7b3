"""What files in RAM are measured with: values, how a system is asked for them, and the rounds.

Owns the loads, their bytes, the clock around what Python programs call, and the order: every round
goes through all systems, beginning with another one each time, so that a machine that drifts drifts
for all of them. Refuses to know any system.

Before its rounds each system is asked for the same twice without a clock: memory that it will use
again has been touched then. What came back was compared once. Only in *fresh* loads values get new
names in every round, and nothing is freed: there a store has to take memory that it has not
touched.
"""

from __future__ import annotations

import abc
import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from figures import say

MIB = 1 << 20
WARM_ROUNDS = 2
PIECE_BYTES = 64 * MIB  # of a value that a system cannot hold whole


@dataclass(frozen=True)
class Load:
    """So many values of one size; `window` of them are put or asked for at once."""

    name: str
    count: int
    size: int
    window: int
    rounds: int
    fresh: bool = False

    @property
    def bytes(self) -> int:
        """Of all of them."""
        return self.count * self.size


LOADS = (
    Load("64 MiB", 1, 64 * MIB, 1, 11),
    Load("64 MiB under new names", 1, 64 * MIB, 1, 7, fresh=True),
    Load("1 GiB", 1, 1024 * MIB, 1, 5),
    Load("4 KiB, one by one", 10_000, 4096, 1, 7),
    Load("4 KiB, in batches of 100", 10_000, 4096, 100, 7),
)
QUICK_LOADS = (
    Load("64 MiB", 1, 64 * MIB, 1, 3),
    Load("64 MiB under new names", 1, 64 * MIB, 1, 3, fresh=True),
    Load("128 MiB", 1, 128 * MIB, 1, 3),
    Load("4 KiB, one by one", 2_000, 4096, 1, 3),
    Load("4 KiB, in batches of 100", 2_000, 4096, 100, 3),
)

Pair = tuple[str, bytes]
Step = Callable[[Load], float]  # its seconds
Rows = dict[str, dict[str, list[float]]]  # by system, then "put" and "get": seconds


# ---- bytes ----


@functools.cache
def source(size: int) -> bytes:
    """Random bytes: nothing can be stored once for twice."""
    return os.urandom(size)


@functools.lru_cache(maxsize=2)  # whole, and in pieces: of one load at a time
def values(load: Load, piece: int) -> Sequence[bytes]:
    """What is put: each in parts of `piece` bytes if it is larger."""
    data, size = source(load.bytes), min(load.size, piece)
    return [data[at : at + size] for at in range(0, load.bytes, size)]


def windows(load: Load, items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """So many at a time."""
    for first in range(0, len(items), load.window):
        yield items[first : first + load.window]


# ---- systems ----


class System(abc.ABC):
    """Something that keeps values. Putting a load again replaces its values."""

    kind = "rival"
    control = ""  # congestion control of its connections, where it is known

    def __init__(self, name: str) -> None:
        self.name = name

    def takes(self, load: Load) -> bool:
        """Whether it is asked for this load."""
        return True

    def note(self, load: Load) -> str:
        """What a reader has to know of its figures."""
        return ""

    def steps(self, load: Load) -> list[tuple[str, str, Step]]:
        """What a round consists of: (row, "put" or "get", what does it)."""
        return [(self.name, "put", self.put), (self.name, "get", self.get)]

    @abc.abstractmethod
    def put(self, load: Load) -> float:
        """Puts it; the seconds until the last value was acknowledged."""

    @abc.abstractmethod
    def get(self, load: Load) -> float:
        """Gets it; the seconds until the last value was there."""

    @abc.abstractmethod
    def check(self, load: Load) -> bool:
        """Whether what comes back is what was put."""

    def forget(self, load: Load) -> None:
        """Gives back the memory of a load."""
        return


class PythonSystem(System):
    """A system behind a client for Python, which subclasses call."""

    piece = 1 << 62  # bytes of the largest value that it is given

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._puts = 0
        self._stored: set[str] = set()

    def note(self, load: Load) -> str:
        if load.size <= self.piece:
            return ""
        return f"in {-(-load.size // self.piece)} pieces of {self.piece // MIB} MiB"

    def values(self, load: Load) -> Sequence[Any]:
        """What is put."""
        return values(load, self.piece)

    def names(self, load: Load) -> list[str]:
        """What it is called."""
        count = -(-load.size // self.piece) * load.count
        put = self._puts if load.fresh else 0
        return [f"{put}-{load.size}x{load.window}/{number:05}" for number in range(count)]

    def put(self, load: Load) -> float:
        self._puts += 1
        names = self.names(load)
        todo = list(zip(names, self.values(load), strict=True))
        self._stored.update(names)
        began = time.perf_counter()
        if load.window == 1:
            for name, value in todo:
                self.put_one(name, value)
        else:
            for some in windows(load, todo):
                self.put_many(some)
        return time.perf_counter() - began

    def get(self, load: Load) -> float:
        names = self.names(load)
        began = time.perf_counter()
        found = self._got(load, names)
        seconds = time.perf_counter() - began
        assert len(found) == len(names)
        return seconds

    def _got(self, load: Load, names: Sequence[str]) -> list[Any]:
        if load.window == 1:
            return [self.get_one(name) for name in names]
        return [value for some in windows(load, names) for value in self.get_many(some)]

    def check(self, load: Load) -> bool:
        return self._got(load, self.names(load)) == list(self.values(load))

    def forget(self, load: Load) -> None:
        for name in self._stored:
            self.remove(name)
        self._stored.clear()

    @abc.abstractmethod
    def put_one(self, name: str, value: bytes) -> None:
        """Puts a value."""

    @abc.abstractmethod
    def get_one(self, name: str) -> Any:
        """A value."""

    @abc.abstractmethod
    def put_many(self, some: Sequence[Pair]) -> None:
        """Puts values in the system's way of putting many."""

    @abc.abstractmethod
    def get_many(self, names: Sequence[str]) -> Sequence[Any]:
        """Values in the order of their names, in the system's way of getting many."""

    @abc.abstractmethod
    def remove(self, name: str) -> None:
        """Deletes a value."""


# ---- rounds ----


def measure(load: Load, systems: Sequence[System]) -> dict[str, Any]:
    """All rounds of a load through the systems that take it: the seconds by row."""
    taking = [system for system in systems if system.takes(load)]
    for system in taking:
        for _ in range(WARM_ROUNDS):
            for _, _, step in system.steps(load):
                step(load)
        if not system.check(load):
            raise SystemExit(f"{load.name}: {system.name} gives back other bytes than it was given")
    rows: Rows = {}
    for number in range(load.rounds):
        turn = number % len(taking)
        for system in taking[turn:] + taking[:turn]:
            for row, what, step in system.steps(load):
                rows.setdefault(row, {}).setdefault(what, []).append(step(load))
        say(f"{load.name}, round {number + 1} of {load.rounds}")
    for system in taking:
        system.forget(load)
    values.cache_clear()
    source.cache_clear()
    return {
        row: {"kind": system.kind, "control": system.control, "note": system.note(load)} | rows[row]
        for system in taking
        for row in dict.fromkeys(row for row, _, _ in system.steps(load))
    }
