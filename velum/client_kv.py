"""The state as a client reaches it: through the node that it is attached to.

Owns: requests that have no answer yet, watches, and what becomes of both when the node goes away.
Refuses to know: which node that is (`velum.client`), and what requests mean. It is made when a
program first asks for the state.

    the node goes away while     then
    a request waits to be sent   it is sent to the next node
    a read waits for an answer   it is asked again
    a write does                 it is done again if that changes nothing, else it is UNCERTAIN
    a watch is told              the next node tells it the state anew, behind a "missed"
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Final

from velum import _core, frames, resp
from velum.api import TIMEOUT_MS_MAX, TaskFuture
from velum.errors import VelumError, code_of, error_from
from velum.kv import DURABILITIES, FORGET, Kv
from velum.kvwatch import Watch
from velum.resp import Reply
from velum.runtime import Runtime, now_ms

GRACE_S: Final = 1.0  # that an answer may take longer than what it waits for
RESENDS_MAX: Final = 5  # a request that lost its node more often fails

# What changes nothing when it is done twice; the second answer may be that there was nothing to do.
_AGAIN: Final = frozenset(
    b"DBSIZE DEL EXISTS EXPIRE GET HDEL HGET HGETALL HSET KEYS MGET PERSIST PEXPIRE PTTL SADD SCAN"
    b" SET SISMEMBER SMEMBERS SREM TTL TYPE VELUM.COMPACT VELUM.GET VELUM.PUT VELUM.REPLACE"
    b" VELUM.STAT".split()
)


@dataclass(slots=True)
class _Request:
    payload: bytes
    future: TaskFuture
    again: bool  # it may be done twice
    sent_at: int = 0  # ms; 0: it waits to be sent
    losses: int = 0


class ClientKv:
    """That of one client. It is a `velum.kv.Backend`."""

    def __init__(
        self,
        runtime: Runtime,
        number: Callable[[], int],
        push: Callable[[], None],
        query: Callable[[str], bytes],
        ready: Callable[[], None],
    ) -> None:
        """In the loop: `number` gives a new correlation, `push` sends what waits. In callers'
        threads: `query` asks the node for a topic, `ready` raises if the client was closed."""
        self._runtime = runtime
        self._hub = runtime.hub
        self._number = number
        self._push = push
        self._query = query
        self._ready = ready
        self._requests: dict[int, _Request] = {}  # by correlation, as they came
        self._watches: dict[int, Watch] = {}
        self._patterns: dict[int, tuple[int, bytes]] = {}  # of watches: flags, pattern
        self._unsent: list[tuple[int, bytes]] = []  # KV_WATCH: correlation, payload
        self._ahead_ms: int | None = None  # of the node's clock, once it was looked at
        self.kv = Kv(self)
        runtime.on_frame(frames.KV_DONE, self._on_done)
        runtime.on_frame(frames.KV_CHANGES, self._on_changes)

    # ---- for callers ----

    def do(self, args: Sequence[bytes], durability: str, timeout: float) -> tuple[Reply, str]:
        """As `velum.kv.Backend` says."""
        self._ready()
        timeout_ms = max(1, min(round(timeout * 1000), TIMEOUT_MS_MAX))
        payload = _core.encode_kv_do(resp.request(args), DURABILITIES.index(durability), timeout_ms)
        request = _Request(payload, TaskFuture(), args[0].upper() in _AGAIN)
        request.future.driven_by(self._runtime.drive)
        self._runtime.call_soon(self._ask, request)
        try:
            reached, reply = request.future.result(timeout + GRACE_S)
        except FutureTimeout:
            self._runtime.call_soon(self._give_up, request)
            text = f"no answer to {args[0].decode()} in {timeout + GRACE_S:g} s"
            raise error_from(code_of("TIMEOUT"), text) from None
        return resp.reply(reply), DURABILITIES[reached]

    def watch(self, pattern: bytes, state: bool) -> Watch:
        """As `velum.kv.Backend` says."""
        self._ready()
        watch = Watch(self._stop_soon, self.unix_ms, self._runtime.drive)
        self._runtime.call_soon(self._begin, watch, pattern, state)
        return watch

    def forget(self, node: int) -> bool:
        """As `velum.kv.Backend` says."""
        self._ready()
        return bool(json.loads(self._query(f"{FORGET} {node}")))

    def unix_ms(self) -> int:
        """The node's clock: times of expiry are told by it, and it may be years off."""
        if self._ahead_ms is None:
            before = time.time_ns()
            stat = self.kv.stat()
            here = (before + time.time_ns()) // 2_000_000
            self._ahead_ms = int(stat.get("now_ms", here)) - here
        return time.time_ns() // 1_000_000 + self._ahead_ms

    # ---- in the loop ----

    def __len__(self) -> int:
        return len(self._requests)

    def quiet_since(self) -> int | None:
        """When a request was sent that has no answer yet, ms; an early one."""
        return next((r.sent_at for r in self._requests.values() if r.sent_at), None)

    def _ask(self, request: _Request) -> None:
        self._requests[self._number()] = request
        self._push()

    def _give_up(self, request: _Request) -> None:
        for correlation, known in list(self._requests.items()):
            if known is request:
                del self._requests[correlation]

    def _begin(self, watch: Watch, pattern: bytes, state: bool) -> None:
        correlation = self._number()
        flags = _core.KV_WATCH_STATE if state else 0
        self._watches[correlation] = watch
        self._patterns[correlation] = (flags, pattern)
        self._unsent.append((correlation, _core.encode_kv_watch(flags, pattern)))
        self._push()

    def _stop_soon(self, watch: Watch) -> None:
        self._runtime.call_soon(self._stop, watch)

    def _stop(self, watch: Watch) -> None:
        for correlation in [c for c, known in self._watches.items() if known is watch]:
            del self._watches[correlation], self._patterns[correlation]
            stop = _core.encode_kv_watch(_core.KV_WATCH_STOP, b"")
            self._unsent.append((correlation, stop))
        self._push()

    def send(self, link: int) -> bool:
        """Sends what waits; False when the link is full."""
        while self._unsent:
            if not self._hub.send(link, frames.KV_WATCH, *self._unsent[0]):
                return False
            del self._unsent[0]
        now = now_ms()
        for correlation, request in self._requests.items():
            if not request.sent_at:
                if not self._hub.send(link, frames.KV_DO, correlation, request.payload):
                    return False
                request.sent_at = now
        return True

    def lost(self) -> None:
        """The node went away. What waits is sent again when there is another."""
        for correlation, request in list(self._requests.items()):
            if not request.sent_at:
                continue
            request.sent_at = 0
            request.losses += 1
            if request.again and request.losses <= RESENDS_MAX:
                continue
            del self._requests[correlation]
            text = "the node went away before it answered: it was done, or it was not"
            request.future.fail(error_from(code_of("UNCERTAIN"), text))
        self._ahead_ms = None
        self._unsent.clear()
        for correlation, (flags, pattern) in self._patterns.items():
            self._watches[correlation].gap()
            anew = _core.encode_kv_watch(flags | _core.KV_WATCH_STATE, pattern)
            self._unsent.append((correlation, anew))

    def fail(self, correlation: int, error: VelumError) -> bool:
        """An ERROR, or why nothing can be asked; False if it is for none of these."""
        request = self._requests.pop(correlation, None)
        if request is not None:
            request.future.fail(error)
            return True
        watch = self._watches.pop(correlation, None)
        if watch is None:
            return False
        del self._patterns[correlation]
        watch.end(error)
        return True

    def fail_all(self, error: VelumError, closed: bool) -> None:
        """No node answers. Watches wait for one, unless the client was closed."""
        for correlation in list(self._requests):
            self.fail(correlation, error)
        if closed:
            for correlation in list(self._watches):
                self.fail(correlation, error)

    def _on_done(self, _link: int, correlation: int, body: tuple[int, bytes]) -> None:
        request = self._requests.pop(correlation, None)
        if request is not None:
            request.future.settle(0, 0, body)

    def _on_changes(self, _link: int, correlation: int, payload: bytes) -> None:
        watch = self._watches.get(correlation)
        if watch is not None:
            watch.feed(payload)
