"""One watch as a program holds it: changes of keys, as an iterator and an async iterator.

Owns: what has come and is not read yet, how much of that there may be, and who waits for more.
Refuses to know: where changes come from: `Watch.feed` is given them as they travel, and they are
read by the thread that wants them. A reader that is slow is told how many changes it has missed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from velum.errors import VelumError
from velum.kvvalues import (
    expires_in,
    key_text,
    list_of,
    number_of,
    raw,
    text_of,
    unexpected,
    value_of,
)
from velum.resp import Malformed, Reply, replies

if TYPE_CHECKING:
    import asyncio

    from velum.api import Drive

WAITING_BYTES_MAX: Final = 16 << 20  # of one watch: a slow reader's, in this program
_CHANGE_FIELDS: Final = 6


@dataclass(frozen=True, slots=True)
class Change:
    """What has happened to a key.

    | event | value |
    |---|---|
    | "state" | the key's, as it was when the watch began; None if it is too large to be told |
    | "now" | None: the current state is told; the key is empty |
    | "set", "count" | the new value, the sum |
    | "add", "remove" | the element, bytes |
    | "field", "unfield" | (field, its value), the field |
    | "expire", "del", "expired" | None |
    | "missed" | how many changes were not told, None if nobody knows; the key is empty |
    """

    event: str
    key: str
    type: str  # "bytes", "json", "counter", "set", "hash" or "none"
    value: Any
    version: str
    expires_in: float | None  # seconds; None: never


class Watch:
    """Changes as they come. Iterating waits for the next one, and ends when the watch is closed.

    One thread or task reads it; `close` may be called by any. Raises the VelumError that ends it.
    """

    def __init__(
        self, stop: Callable[[Watch], None], unix_ms: Callable[[], int], drive: Drive | None = None
    ) -> None:
        """`stop` is called once by `close`; `drive` runs the loop that brings changes, for a thread
        that waits."""
        self._stop = stop
        self._unix_ms = unix_ms
        self._drive = drive
        self._guard = threading.Lock()  # held for a few instructions
        self._payloads: deque[bytes] = deque()
        self._bytes = 0  # of these
        self._lost = 0  # changes since the last that was kept
        self._ready: deque[Change] = deque()  # the reader's
        self._wakers: list[Callable[[], object]] = []
        self._over = False
        self._error: VelumError | None = None

    # ---- for the loop ----

    def feed(self, payload: bytes) -> None:
        """Changes have come, in RESP3."""
        with self._guard:
            if self._over:
                return
            if self._bytes + len(payload) > WAITING_BYTES_MAX:
                self._lost += _count(payload)
                return
            if self._lost:
                self._payloads.append(_missed(self._lost))
                self._lost = 0
            self._payloads.append(payload)
            self._bytes += len(payload)
        self._wake()

    def gap(self) -> None:
        """Changes were missed, and nobody knows how many."""
        with self._guard:
            self._payloads.append(_missed(None))
        self._wake()

    def end(self, error: VelumError | None = None) -> None:
        """Nothing more will come; what has come can be read."""
        with self._guard:
            if self._over:
                return
            self._over = True
            self._error = error
        self._wake()

    def _wake(self) -> None:
        with self._guard:
            wakers, self._wakers = self._wakers, []
        for waker in wakers:
            waker()

    # ---- for the reader ----

    def get(self, timeout: float | None = None) -> Change | None:
        """The next change; None when there is none in `timeout` seconds, or the watch is closed."""
        end = None if timeout is None else time.monotonic() + timeout
        while (change := self._next()) is None and not self._is_over():
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return None
            self._wait(left)
        return change

    def close(self) -> None:
        """Ends it. What has come is dropped."""
        self.end()
        with self._guard:
            self._payloads.clear()
            stop, self._stop = self._stop, lambda _: None
        stop(self)

    def __iter__(self) -> Watch:
        return self

    def __next__(self) -> Change:
        change = self.get()
        if change is None:
            raise StopIteration
        return change

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Change:
        from asyncio import get_running_loop  # here, because a short command must start fast

        loop = get_running_loop()
        while (change := self._next()) is None:
            if self._is_over():
                raise StopAsyncIteration
            woken: asyncio.Future[None] = loop.create_future()
            if self._call(partial(_wake_in, loop, woken)):
                await woken
        return change

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _is_over(self) -> bool:
        """Whether nothing more will come. Raises why, if it was not closed."""
        if self._over and self._error is not None:
            raise self._error
        return self._over

    def _has_news(self) -> bool:
        return bool(self._payloads) or self._over

    def _call(self, waker: Callable[[], object]) -> bool:
        """Calls waker() once something has come; False: it has already."""
        with self._guard:
            if self._has_news():
                return False
            self._wakers.append(waker)
            return True

    def _wait(self, timeout: float | None) -> None:
        if self._drive is not None:
            self._drive(self._has_news, timeout, True)
        sleeper = threading.Lock()
        sleeper.acquire()
        if not self._call(sleeper.release):
            return
        most = threading.TIMEOUT_MAX
        if not sleeper.acquire(timeout=most if timeout is None else min(most, timeout)):
            with self._guard:
                if sleeper.release in self._wakers:
                    self._wakers.remove(sleeper.release)

    def _next(self) -> Change | None:
        while not self._ready:
            with self._guard:
                if not self._payloads:
                    if not self._lost:
                        return None
                    payload, self._lost = _missed(self._lost), 0
                else:
                    payload = self._payloads.popleft()
                    self._bytes = max(0, self._bytes - len(payload))
            unix_ms = self._unix_ms()
            self._ready += [change_of(fields, unix_ms) for fields in _changes(payload)]
        return self._ready.popleft()


def change_of(fields: Reply, unix_ms: int) -> Change:
    """One change as it travels. VelumError PAYLOAD."""
    event, key, kind, value, version, until_ms = list_of(fields, _CHANGE_FIELDS)
    event_name, type_name = text_of(event), text_of(kind)
    return Change(
        event_name,
        key_text(raw(key)),
        type_name,
        _value(event_name, type_name, value),
        text_of(version),
        expires_in(number_of(until_ms), unix_ms),
    )


def _value(event: str, kind: str, value: Reply) -> Any:
    if value is None:
        return None
    if event in ("state", "set"):
        return value_of(kind, value)
    if event in ("count", "missed"):
        return number_of(value)
    if event in ("add", "remove"):
        return raw(value)
    if event == "field":
        field, said = list_of(value, 2)
        return key_text(raw(field)), raw(said)
    if event == "unfield":
        return key_text(raw(value))
    return None


def _changes(payload: bytes) -> list[Reply]:
    try:
        return list(replies(payload))
    except Malformed as error:
        raise unexpected(error) from None


def _count(payload: bytes) -> int:
    """How many changes there are; what was missed before counts too."""
    count = 0
    for fields in _changes(payload):
        event, _key, _kind, value, *_ = list_of(fields, _CHANGE_FIELDS)
        count += number_of(value) if text_of(event) == "missed" and value is not None else 1
    return count


def _missed(count: int | None) -> bytes:
    value = b"_\r\n" if count is None else b":%d\r\n" % count
    return b"*6\r\n$6\r\nmissed\r\n$0\r\n\r\n$4\r\nnone\r\n" + value + b"$1\r\n0\r\n:0\r\n"


def _wake_in(loop: asyncio.AbstractEventLoop, woken: asyncio.Future[None]) -> None:
    def settle() -> None:
        if not woken.done():
            woken.set_result(None)

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:  # the loop was closed: nobody waits any more
        pass
