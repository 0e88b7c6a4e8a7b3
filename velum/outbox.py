"""Frames that must not be lost while their link lives, and must stay in order.

Owns: what a link's full queue did not take, until it does; what waits for a link that is still
being made. Refuses to know: what is in the frames. A peer that reads too little for too long has
its link cut: then it, and whoever sent, knows that something is missing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from velum.errors import code_of
from velum.replies import Cut
from velum.runtime import Runtime, now_ms

RETRY_MS = 5  # a full queue is megabytes: it drains no faster
BYTES_MAX = 32 << 20  # that wait for one link: two ledgers of a million slices

Frame = tuple[int, int, bytes]  # type, correlation, payload


class Outbox:
    """What waits, by link and by node."""

    def __init__(self, runtime: Runtime, link_to: Callable[[int], int], cut: Cut) -> None:
        """`link_to` gives a member's link or 0 while it is being made, `cut` ends a link."""
        self._runtime = runtime
        self._hub = runtime.hub
        self._link_to = link_to
        self._cut = cut
        self._waiting: dict[int, deque[Frame]] = {}
        self._bytes: dict[int, int] = {}
        self._unlinked: dict[int, list[Frame]] = {}
        self._due: int | None = None
        runtime.services.append(self)

    def send(self, link: int, frame: int, correlation: int, payload: bytes) -> None:
        """Sends on an open link, now or as soon as it takes it; on one that is gone, nowhere."""
        if link not in self._waiting:
            if self._hub.send(link, frame, correlation, payload) or self._is_gone(link):
                return
        waiting = self._waiting.setdefault(link, deque())
        waiting.append((frame, correlation, payload))
        self._bytes[link] = self._bytes.get(link, 0) + len(payload)
        if self._bytes[link] > BYTES_MAX:
            self.closed(link)
            why = "it does not read what it is sent"
            self._runtime.call_soon(self._cut, link, code_of("FULL"), why)
        elif self._due is None:
            self._due = now_ms() + RETRY_MS

    def send_to(self, node: int, frame: int, correlation: int, payload: bytes) -> None:
        """Sends to a member; over a new link if there is none."""
        link = self._link_to(node)
        if link:
            self.send(link, frame, correlation, payload)
        else:
            self._unlinked.setdefault(node, []).append((frame, correlation, payload))

    def linked(self, node: int, link: int) -> None:
        """A link to a member is open."""
        for frame in self._unlinked.pop(node, ()):
            self.send(link, *frame)

    def lost(self, node: int) -> None:
        """A member cannot be reached: what waits for a link to it is dropped."""
        self._unlinked.pop(node, None)

    def closed(self, link: int) -> None:
        """A link is gone: what waits for it is dropped."""
        self._waiting.pop(link, None)
        self._bytes.pop(link, None)

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits here. Any thread."""
        return not (self._waiting or self._unlinked)

    def _is_gone(self, link: int) -> bool:
        """Of a link that did not take a frame: a full one has much to send still."""
        return self._hub.unsent(link) == 0

    # ---- timers ----

    def next_deadline(self) -> int | None:
        """When links that were full are tried again."""
        return self._due

    def on_time(self, now: int) -> None:
        """Tries them."""
        if self._due is None or now < self._due:
            return
        for link, waiting in list(self._waiting.items()):
            while waiting and self._hub.send(link, *waiting[0]):
                self._bytes[link] -= len(waiting.popleft()[2])
            if not waiting or self._is_gone(link):
                self.closed(link)
        self._due = now + RETRY_MS if self._waiting else None
