"""Many deadlines behind one: the timers of a policy.

Owns: which alarm is due when. Refuses to know: what an alarm means, and the clock.
How: a heap of (when, key) beside a dict of the times that are still meant. Moving or cancelling an
alarm only changes the dict; the heap's outdated entries are thrown away when they reach the top.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Any

# (kind, what): kinds are integers, and all keys of one kind can be compared with each other.
Key = tuple[int, Any]


class Agenda:
    """Alarms by key, at most one time each."""

    __slots__ = ("_heap", "_when")

    def __init__(self) -> None:
        self._heap: list[tuple[int, Key]] = []
        self._when: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._when)

    def __contains__(self, key: Key) -> bool:
        return key in self._when

    def set(self, key: Key, when_ms: int) -> None:
        """Arm the alarm, or move it."""
        self._when[key] = when_ms
        heappush(self._heap, (when_ms, key))
        if len(self._heap) > 64 + 4 * len(self._when):
            self._heap = [(when, key) for key, when in self._when.items()]
            heapify(self._heap)

    def when(self, key: Key, default: int) -> int:
        """When the alarm is due; `default` when it is not armed."""
        return self._when.get(key, default)

    def cancel(self, key: Key) -> None:
        """Disarm the alarm if it is armed."""
        self._when.pop(key, None)

    def clear(self) -> None:
        """Disarm every alarm."""
        self._heap.clear()
        self._when.clear()

    def next(self) -> int | None:
        """The earliest time at which an alarm is due, or None."""
        heap, meant = self._heap, self._when
        while heap:
            when, key = heap[0]
            if meant.get(key) == when:
                return when
            heappop(heap)
        return None

    def pop(self, now_ms: int) -> Key | None:
        """Take out one alarm that is due, the earliest first; None when none is."""
        when = self.next()
        if when is None or when > now_ms:
            return None
        key = heappop(self._heap)[1]
        del self._when[key]
        return key
