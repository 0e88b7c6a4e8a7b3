"""Very many deadlines, kept roughly, of which most are cancelled.

Owns: what is due when, to TICK_MS. Refuses to know: what it means, and the clock.
How: a list for each tick, and beside it a dict of what is still meant. An `Agenda` keeps exact
times, but sorts out all that was cancelled when it gets to it; here as many are visited at a time
as the caller says.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Final

TICK_MS: Final = 50


class Wheel:
    """Times by key, at most one each, rounded up to ticks."""

    __slots__ = ("_lists", "_ticks", "_when")

    def __init__(self) -> None:
        self._when: dict[bytes, int] = {}  # ticks
        self._lists: dict[int, list[bytes]] = {}
        self._ticks: list[int] = []  # heap

    def __contains__(self, key: bytes) -> bool:
        return key in self._when

    def set(self, key: bytes, when_ms: int) -> None:
        """Arms it, or moves it."""
        tick = -(-when_ms // TICK_MS)
        if self._when.get(key) == tick:
            return
        self._when[key] = tick
        keys = self._lists.get(tick)
        if keys is None:
            keys = self._lists[tick] = []
            heappush(self._ticks, tick)
        keys.append(key)

    def when(self, key: bytes, default: int) -> int:
        """When it is due; `default` when it is not armed."""
        tick = self._when.get(key)
        return default if tick is None else tick * TICK_MS

    def cancel(self, key: bytes) -> None:
        self._when.pop(key, None)

    def clear(self) -> None:
        """Disarms all."""
        self._when.clear()
        self._lists.clear()
        self._ticks.clear()

    def next(self) -> int | None:
        """The earliest time at which something is due, or was before it was cancelled."""
        return self._ticks[0] * TICK_MS if self._ticks else None

    def take(self, now_ms: int, visits: int) -> list[bytes]:
        """Takes out what is due, visiting so many at most, the cancelled ones too."""
        found = []
        while visits > 0 and self._ticks and self._ticks[0] * TICK_MS <= now_ms:
            tick = self._ticks[0]
            keys = self._lists[tick]
            part = keys[-visits:]
            del keys[-visits:]
            visits -= len(part)
            for key in part:
                if self._when.get(key) == tick:
                    del self._when[key]
                    found.append(key)
            if not keys:
                del self._lists[heappop(self._ticks)]
        return found
