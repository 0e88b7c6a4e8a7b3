"""One thread and one hub: the loop that a node and a client share.

Owns the thread, the order in which events are served, and the way in for other threads. Refuses to
know what frames mean: services register handlers for event kinds and frame types. Works by asking
the hub for events until the nearest deadline of any service; a call from another thread waits in a
queue and wakes the hub only if it may be asleep.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from velum import _core

log = logging.getLogger("velum")

Handler = Callable[..., None]


def now_ms() -> int:
    """Milliseconds on the clock that every policy is given."""
    return time.monotonic_ns() // 1_000_000


class Service(Protocol):
    """What the loop asks of each part of a node: when to be woken, and to be told that it is."""

    def next_deadline(self) -> int | None: ...

    def on_time(self, now: int) -> None: ...


class Runtime:
    """The loop. Build it, register, `start()`; everything registered runs in its thread."""

    def __init__(self, hub: _core.Hub, name: str) -> None:
        self.hub = hub
        self.name = name
        self.services: list[Service] = []
        self.failure: BaseException | None = None
        self.random = random.Random()
        self._events: dict[int, Handler] = {}
        self._frames: dict[int, Handler] = {}
        self._inbox: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._asleep = False
        self._stopping = False
        self.stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    # ---- before the start ----

    def on_event(self, kind: int, handler: Handler) -> None:
        """Calls handler(*event) for events of a kind, the kind itself left out."""
        self._events[kind] = handler

    def on_frame(self, kind: int, handler: Handler) -> None:
        """Calls handler(link, correlation, body) for frames of a type."""
        self._frames[kind] = handler

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    # ---- from any thread ----

    def call_soon(self, function: Callable[..., None], *args: Any) -> None:
        """Runs function(*args) in the loop's thread, soon."""
        self._inbox.append((function, args))
        if self._asleep:
            self._asleep = False
            self.hub.wake()

    def stop(self, failure: BaseException | None = None) -> None:
        """Ends the loop after what is queued; `failure` says why if it was not asked for."""
        self.call_soon(self._stop, failure)

    def join(self, timeout: float | None = None) -> bool:
        """Waits until the loop has ended and its hub is closed."""
        if threading.current_thread() is self._thread:
            return False
        return self.stopped.wait(timeout)

    # ---- the loop ----

    def _stop(self, failure: BaseException | None) -> None:
        self._stopping = True
        self.failure = self.failure or failure

    def _run(self) -> None:
        try:
            self._serve_inbox()  # what was asked before the start comes before any event
            while not self._stopping:
                self._turn()
            self.hub.flush()
        except BaseException as error:  # the loop's end must be known, whatever ended it
            log.exception("%s: the loop failed", self.name)
            self.failure = error
        finally:
            self._stopping = True
            self.hub.close()
            self.stopped.set()

    def _turn(self) -> None:
        deadline = min(
            (d for d in (s.next_deadline() for s in self.services) if d is not None), default=None
        )
        self._asleep = True
        if self._inbox:
            timeout_us = 0
        elif deadline is None:
            timeout_us = -1
        else:
            timeout_us = max(0, deadline * 1000 - time.monotonic_ns() // 1000)
        events = self.hub.poll(timeout_us)
        self._asleep = False
        for event in events:
            self._serve(event)
        self._serve_inbox()
        now = now_ms()
        for service in self.services:
            due = service.next_deadline()
            if due is not None and due <= now:
                service.on_time(now)

    def _serve_inbox(self) -> None:
        inbox = self._inbox
        for _ in range(len(inbox)):
            function, args = inbox.popleft()
            function(*args)

    def _serve(self, event: Any) -> None:
        kind = event[0]
        if kind == _core.FRAME:
            handler = self._frames.get(event[2])
            if handler is None:
                self.hub.drop(event[1], 25, "this side does not expect such a frame")
            else:
                handler(event[1], event[3], event[4])
            return
        handler = self._events.get(kind)
        if handler is not None:
            handler(*event[1:])
