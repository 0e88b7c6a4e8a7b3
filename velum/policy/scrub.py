"""When each chunk is hashed again: every one within an hour, by bounded steps.

Owns: whose turn it is, and the pace. Refuses to know: hashing, and what a bad chunk means.

Passes begin every half hour, each over the chunks of that moment, spread evenly over it: a chunk
may come early in one pass and late in the next, so it is SCRUB_MS from one check to the next at
most, and no longer from its arrival to the first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .filetypes import Key

SCRUB_MS: Final = 3_600_000
PASS_MS: Final = SCRUB_MS // 2
BYTES_MAX: Final = 1 << 20  # hashed at once: about a millisecond
STEP_MS_MIN: Final = 20  # between two steps; several MiB in each if there are more than 90 GB


class Scrub:
    """A pass over chunks after another."""

    def __init__(self) -> None:
        self._next: list[Key] = []  # last first
        self._begun_ms = -PASS_MS
        self._steps = 0  # left at the start of the pass, about
        self.due_ms: int | None = None

    def pass_due(self, now: int) -> bool:
        return now - self._begun_ms >= PASS_MS

    def begin(self, chunks: Iterable[tuple[Key, int]], now: int) -> None:
        """A new pass over chunks, given with their sizes."""
        left = set(self._next)
        self._next = []
        self._steps = 0
        for key, size in chunks:
            self._next.append(key)
            self._steps += -(-size // BYTES_MAX)
        if left:
            self._next.sort(key=left.__contains__)
        self._begun_ms = now
        self.rest(now)

    def urge(self, key: Key, now: int) -> None:
        """A chunk is suspect: it is the next."""
        self._next.append(key)
        self.due_ms = now

    @property
    def current(self) -> Key | None:
        return self._next[-1] if self._next else None

    def passed(self) -> None:
        """The current chunk is done with."""
        self._next.pop()

    @property
    def batch(self) -> int:
        """How many times BYTES_MAX may be hashed in a step."""
        return self._steps * STEP_MS_MIN // PASS_MS + 1

    def rest(self, now: int) -> None:
        """A step is done; the next is due when the pace says so."""
        if self._next:
            self.due_ms = now + max(STEP_MS_MIN, PASS_MS // (self._steps + 1))
        else:
            self.due_ms = self._begun_ms + PASS_MS
