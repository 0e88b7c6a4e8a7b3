"""Copies and shards on their way to other members: what repair asks for, carried out.

Owns: for each copy its HOLD and its chunk; for each stripe that lacks shards fetching others,
decoding and sending. Refuses to know: which copies are wanted where, and when (`policy.holdings`).

A copy is a HOLD and, if the answer is SEND, the chunk's bytes from where they lie. A rebuild first
says HOLD for all that is missing; only if some node lacks its shard indeed are k shards fetched.
Decoding runs in a thread of its own: the loop goes on meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from velum import _core, erasure, frames
from velum.policy import transfer_io as io
from velum.policy.filetypes import SEND, Claim, Key
from velum.policy.holdings_io import LOST, CopyEnded, Rebuild, RebuildEnded, SendCopy
from velum.runtime import Runtime
from velum.transfers import Run, Transfers

CLAIMS_MAX = 16  # of a HOLD


class _Copy(Run):
    """One chunk to one node. `ask(copy)` is called when the node lacks it; then `send(data)`."""

    def __init__(
        self,
        transfers: Transfers,
        node: int,
        key: Key,
        size: int,
        claims: Sequence[Claim],
        wanted: Callable[[_Copy], None],
        then: Callable[[int], None],
    ) -> None:
        super().__init__(transfers, None, b"")
        self._name = (node, 0, 0)
        self._key = key
        self._wanted = wanted
        self._then = then
        correlation = transfers.correlate(self, *self._name)
        payload = _core.encode_hold(key, size, claims[:CLAIMS_MAX], repair=True)
        transfers.send(node, frames.HOLD, correlation, payload)

    def send(self, data: Any) -> None:
        """Sends the chunk; None: there is none, after all."""
        if self.over:
            return
        if data is None:
            self._end(LOST)
        else:
            self.transfers.send_chunk(self, self._name, self._key, data)

    def handle(self, event: Any) -> None:
        """HELD, or that none will come."""
        if isinstance(event, io.HeldHeard):
            if event.state == SEND:
                self._wanted(self)
            else:
                self._end(event.state)
        elif isinstance(event, io.LinkLost | io.Refused):
            self._end(LOST)

    def _end(self, state: int) -> None:
        self.end()
        self._then(state)


class _Fetch(Run):
    """k shards of a stripe, from whoever has them."""

    def __init__(
        self,
        transfers: Transfers,
        effect: Rebuild,
        local: Callable[[Key], Any],
        me: int,
        then: Callable[[dict[int, Any] | None], None],
    ) -> None:
        super().__init__(transfers, None, b"")
        self._effect = effect
        self._then = then
        self._here: dict[int, Any] = {}
        self._under_way: dict[int, bytearray] = {}
        self._left = list(effect.have)
        for index, node in effect.have:
            data = local(effect.keys[index]) if node == me and index not in self._here else None
            if data is not None:
                self._here[index] = data
                self._left.remove((index, node))
        self._more()

    def _more(self) -> None:
        """Asks for as many as are still needed."""
        effect = self._effect
        while len(self._here) + len(self._under_way) < effect.k and self._left:
            index, node = self._left.pop(0)
            if index in self._here or index in self._under_way:
                continue
            target = self._under_way[index] = bytearray(effect.size)
            self.transfers.want(self, node, index, effect.keys[index], target)
        if len(self._here) >= effect.k or not self._under_way:
            self.end()
            self._then(self._here if len(self._here) >= effect.k else None)

    def handle(self, event: Any) -> None:
        """A shard is here, or will not come."""
        if isinstance(event, io.ChunkArrived):
            self._here[event.number] = self._under_way.pop(event.number)
        elif isinstance(event, io.ChunkFailed):
            del self._under_way[event.number]
        elif isinstance(event, io.LinkLost):
            waiting = {number for _, number, _ in self.at}
            for index in [index for index in self._under_way if index not in waiting]:
                del self._under_way[index]
        else:
            return
        if not self.over:
            self._more()


class Copier:
    """Carries out SendCopy and Rebuild. Everything but decoding runs in the loop."""

    def __init__(
        self,
        runtime: Runtime,
        me: int,
        transfers: Transfers,
        chunks: _core.Chunks,
        tell: Callable[[Any], None],
    ) -> None:
        """`tell` is given CopyEnded and RebuildEnded."""
        self._runtime = runtime
        self._me = me
        self._transfers = transfers
        self._chunks = chunks
        self._tell = tell
        self._decoder: ThreadPoolExecutor | None = None

    def copy(self, effect: SendCopy) -> None:
        """Sends a chunk that is held here."""

        def wanted(copy: _Copy) -> None:
            copy.send(self._chunks.lend(effect.key))

        def then(state: int) -> None:
            self._tell(CopyEnded(effect.node, effect.key, state))

        _Copy(self._transfers, effect.node, effect.key, effect.size, effect.claims, wanted, then)

    def rebuild(self, effect: Rebuild) -> None:
        """Makes shards that are missing, where they are missing."""
        _Rebuilding(self, effect)

    def close(self) -> None:
        """Ends the thread that decodes."""
        if self._decoder is not None:
            self._decoder.shutdown(wait=False, cancel_futures=True)

    def ask(
        self,
        effect: Rebuild,
        number: int,
        wanted: Callable[[_Copy], None],
        then: Callable[[int], None],
    ) -> None:
        """Says HOLD for a missing piece."""
        piece = effect.missing[number]
        _Copy(self._transfers, piece.node, piece.key, effect.size, piece.claims, wanted, then)

    def fetch(self, effect: Rebuild, then: Callable[[dict[int, Any] | None], None]) -> None:
        """Collects k shards."""
        _Fetch(self._transfers, effect, self._chunks.lend, self._me, then)

    def decode(
        self, effect: Rebuild, here: dict[int, Any], wanted: list[int], then: Callable[..., None]
    ) -> None:
        """Calls then(shards) in the loop, with None for each if that fails."""
        if self._decoder is None:
            self._decoder = ThreadPoolExecutor(1, "velum decode")

        def run() -> list[Any]:
            if effect.m:
                return list(erasure.shards_of(here, effect.k, effect.m, wanted))
            return [next(iter(here.values()))]

        def done(future: Future[list[Any]]) -> None:
            if not future.cancelled():
                failed = future.exception() is not None
                shards = [None] * len(wanted) if failed else future.result()
                self._runtime.call_soon(then, shards)

        self._decoder.submit(run).add_done_callback(done)

    def tell(self, event: Any) -> None:
        """Reports an end."""
        self._tell(event)


class _Rebuilding:
    """One Rebuild: HOLD to all, then the shards for those that lack theirs."""

    def __init__(self, copier: Copier, effect: Rebuild) -> None:
        self._copier = copier
        self._effect = effect
        self._states: dict[int, int] = {}
        self._copies: dict[int, _Copy] = {}
        self._asking = len(effect.missing)
        for number in range(len(effect.missing)):
            copier.ask(effect, number, self._wanted(number), self._ended(number))

    def _wanted(self, number: int) -> Callable[[_Copy], None]:
        def wanted(copy: _Copy) -> None:
            self._copies[number] = copy
            self._asked()

        return wanted

    def _ended(self, number: int) -> Callable[[int], None]:
        def ended(state: int) -> None:
            self._states[number] = state
            if number not in self._copies:
                self._asked()
            self._finish()

        return ended

    def _asked(self) -> None:
        self._asking -= 1
        if not self._asking and self._copies:
            self._copier.fetch(self._effect, self._fetched)

    def _fetched(self, here: dict[int, Any] | None) -> None:
        if here is None:
            for copy in self._copies.values():
                copy.send(None)
            return
        effect = self._effect
        wanted = [effect.missing[number].index for number in sorted(self._copies)]
        self._copier.decode(effect, here, wanted, self._decoded)

    def _decoded(self, shards: list[Any]) -> None:
        for number, shard in zip(sorted(self._copies), shards, strict=True):
            self._copies[number].send(shard)

    def _finish(self) -> None:
        if len(self._states) == len(self._effect.missing):
            states = [self._states[number] for number in range(len(self._states))]
            self._copier.tell(RebuildEnded(self._effect.what, states))
