"""Where a range is cut, and sets of slices.

Owns: the slice table, a pure function of the range and the count (``csrc/slices.h`` is the same
function), and `Spans`, a set of slice numbers kept as runs. Refuses to know: what a slice's value
is and who runs it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

SLICES_MAX: Final = 1 << 20  # VELUM_SLICES_MAX
SLICES_DEFAULT: Final = 4096

Span = tuple[int, int]
"""Slices [first, end), first < end."""


def slice_count(start: int, end: int, wanted: int = SLICES_DEFAULT) -> int:
    """How many slices [start, end) is cut into: `wanted`, fewer for a short range."""
    return min(wanted, end - start)


def slice_bounds(start: int, end: int, slices: int, index: int) -> tuple[int, int]:
    """The bounds of slice `index` of `slices` of [start, end)."""
    quotient, rest = divmod(end - start, slices)
    return (
        start + quotient * index + rest * index // slices,
        start + quotient * (index + 1) + rest * (index + 1) // slices,
    )


class Spans:
    """A set of slice numbers as ascending runs that do not touch."""

    __slots__ = ("_ends", "_firsts", "_size")

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._firsts: list[int] = []
        self._ends: list[int] = []
        self._size = 0
        for first, end in spans:
            self.add(first, end)

    def __len__(self) -> int:
        """How many slices, not runs."""
        return self._size

    def __bool__(self) -> bool:
        return self._size > 0

    def __iter__(self) -> Iterator[Span]:
        return iter(list(zip(self._firsts, self._ends, strict=True)))

    def __contains__(self, index: int) -> bool:
        at = bisect_right(self._firsts, index) - 1
        return at >= 0 and index < self._ends[at]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spans) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Spans({list(self)})"

    @property
    def runs(self) -> int:
        """How many runs."""
        return len(self._firsts)

    def copy(self) -> Spans:
        """The same set, another object."""
        new = Spans()
        new._firsts, new._ends, new._size = self._firsts[:], self._ends[:], self._size
        return new

    def first(self) -> Span | None:
        """The lowest run."""
        return (self._firsts[0], self._ends[0]) if self._firsts else None

    def add(self, first: int, end: int) -> None:
        """Puts slices [first, end) in, those that are in already too."""
        if first >= end:
            return
        low = bisect_left(self._ends, first)
        high = bisect_right(self._firsts, end)
        if low < high:
            first = min(first, self._firsts[low])
            end = max(end, self._ends[high - 1])
        self._replace(low, high, [(first, end)])

    def remove(self, first: int, end: int) -> None:
        """Takes slices [first, end) out, those that are not in too."""
        if first >= end:
            return
        low = bisect_right(self._ends, first)
        high = bisect_left(self._firsts, end)
        if low >= high:
            return
        kept = [(self._firsts[low], first), (end, self._ends[high - 1])]
        self._replace(low, high, [span for span in kept if span[0] < span[1]])

    def within(self, first: int, end: int) -> Iterator[Span]:
        """Its parts inside [first, end), as they are when the first is asked for."""
        if first >= end:
            return
        low = bisect_right(self._ends, first)
        high = bisect_left(self._firsts, end)
        for begins, ends in zip(self._firsts[low:high], self._ends[low:high], strict=True):
            yield max(first, begins), min(end, ends)

    def take(self, count: int) -> Span | None:
        """Takes out up to `count` slices, at least 1, of the lowest run, from its beginning."""
        if not self._firsts or count < 1:
            return None
        first = self._firsts[0]
        end = min(self._ends[0], first + count)
        self.remove(first, end)
        return first, end

    def _replace(self, low: int, high: int, spans: list[Span]) -> None:
        before = sum(self._ends[low:high]) - sum(self._firsts[low:high])
        self._firsts[low:high] = [first for first, _ in spans]
        self._ends[low:high] = [end for _, end in spans]
        self._size += sum(end - first for first, end in spans) - before
