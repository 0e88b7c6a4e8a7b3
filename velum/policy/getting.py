"""One get of one file: which chunk is asked of whom, and when its bytes are given out.

Owns: what is needed next, where each chunk was looked for, and how much is under way. Refuses to
know: bytes, links, clocks, how a stripe is decoded, how a name is looked up (`lookup.py`).
docs/storage.md, section 3, says it in words; `transfer_io.py` has the events and effects.

The *plan* is the chunks that hold what is needed, in that order, then what a sequential reader will
need next: SPAN_BYTES in all, or two chunks. It is made anew after each event. A chunk's way:

    -        in the plan                     SEEKING
    SEEKING  a node that was not tried       WANTED. Its holders first, of these who owes least,
                                             then all others in the order of its key
    SEEKING  only resting or suspected ones  waits
    SEEKING  nobody is left                  LOST
    WANTED   arrived                         HERE: given out when its turn comes
    WANTED   missing, wrong                  SEEKING, the node is tried
    WANTED   its node lost or silent         SEEKING, the node rests
    LOST     of a stripe                     the stripe is rescued: any k of its shards are wanted,
                                             and decoded when they are HERE; then it is HERE
    LOST     members come or go              SEEKING
    any      not in the plan any more        unwanted, let go

When the chunk that is needed next is LOST and cannot be rescued, and no other that is needed now is
under way, the name is looked up again, for the chunk may be gone because the file was replaced:

    the same version       every node is tried once more; then Fail: CHUNKS_LOST
    another, nothing given Restart
    another, else          Fail: STALE
    no such file           Fail: NOT_FOUND, or STALE
    too few keepers        Fail: UNREACHABLE

Read-ahead begins when a need begins where the last one ended, and doubles with each that does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from .filetypes import Entry, Key, Manifest, chunk_size, shard_bytes, stripe_key
from .peers import SILENT, Peers
from .placement import Ids
from .transfer_io import (
    Aborted,
    ChunkArrived,
    ChunkFailed,
    Decode,
    Decoded,
    Effect,
    Event,
    Fail,
    Found,
    Give,
    LetGo,
    LinkLost,
    Members,
    MembersChanged,
    Needed,
    NeedsDropped,
    NotFound,
    Progressed,
    Refused,
    Relook,
    Relooked,
    Restart,
    TimePassed,
    Unwant,
    Want,
)

SPAN_BYTES: Final = 16 << 20  # under way and not given out: 10 Gbit/s times 13 ms
SPAN_MAX: Final = 64  # chunks of it: small ones cost more to plan than they bring
SPAN_MIN: Final = 2  # one is received while one is given out
SILENCE_MS: Final = 10_000  # a chunk of 8 MiB takes 7 s at 10 Mbit/s

SEEKING, WANTED, HERE, LOST = range(4)


class _Fetch:
    __slots__ = ("key", "node", "number", "size", "state", "tried")

    def __init__(self, number: int, key: Key, size: int) -> None:
        self.number = number
        self.key = key
        self.size = size
        self.state = SEEKING
        self.node = 0  # of whom it is WANTED
        self.tried: set[int] = set()


class Get:
    """The state machine, driven as the scheduler is; nothing happens after Fail, or after the
    Restart of an inline file. It never ends by itself: more may be needed."""

    def __init__(self, entry: Entry, members: Members) -> None:
        """A get of a file that has chunks: no inline file, no tombstone."""
        self._peers = Peers(members, SILENCE_MS)
        self._over = False
        self._given = False  # a byte of this version
        self._relooking = False
        self._now = 0
        self._out: list[Effect] = []
        self._handlers: dict[type, Callable[[Any], None]] = {
            MembersChanged: self._on_members,
            LinkLost: self._on_link_lost,
            Progressed: self._on_progressed,
            Needed: self._on_needed,
            NeedsDropped: self._on_dropped,
            ChunkArrived: self._on_arrived,
            ChunkFailed: self._on_failed,
            Refused: self._on_failed,
            Decoded: self._on_decoded,
            Relooked: self._on_relooked,
            Aborted: self._on_aborted,
            TimePassed: self._on_time,
        }
        self._begin(entry)

    def _begin(self, entry: Entry) -> None:
        assert entry.manifest is not None and entry.manifest.keys
        self._entry = entry
        self._manifest: Manifest = entry.manifest
        self._span = max(SPAN_MIN, min(SPAN_MAX, SPAN_BYTES // self._manifest.chunk_bytes))
        self._needs: deque[tuple[int, int]] = deque()  # bytes [first, end), the first one's rest
        self._end = -1  # where the last need ended
        self._ahead = 0  # bytes of read-ahead
        self._fetches: dict[int, _Fetch] = {}
        self._rescues: dict[int, list[int]] = {}  # stripes: of which shards they are being decoded
        self._wrong: set[int] = set()  # stripes whose shards do not make what their keys say
        self._retried: set[int] = set()  # chunks that were LOST before the name was looked up again

    # ---- the face ----

    def handle(self, event: Event, now: int) -> list[Effect]:
        """Takes one event; `now` in milliseconds, never smaller than before."""
        if self._over:
            return []
        self._now = now
        self._handlers[type(event)](event)
        while not self._over and (self._reconcile() or self._give()):
            pass
        if not self._over:
            self._look_at_head()
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> int | None:
        """When TimePassed is due, or None."""
        return None if self._over else self._peers.next_deadline()

    @property
    def entry(self) -> Entry:
        """Whose bytes it gives."""
        return self._entry

    def validate(self) -> None:
        """Raises AssertionError if an invariant does not hold."""
        self._peers.validate()
        if self._over:
            return
        owed: dict[int, int] = {}
        for number, fetch in self._fetches.items():
            assert fetch.number == number
            assert (fetch.node != 0) == (fetch.state == WANTED)
            assert fetch.node not in fetch.tried, "asked again in vain"
            if fetch.node:
                owed[fetch.node] = owed.get(fetch.node, 0) + 1
        for node in self._peers.members.alive:
            assert self._peers.owed(node) == owed.get(node, 0)
        busy = [f for f in self._fetches.values() if f.state in (WANTED, HERE)]
        shards = self._manifest.coding.k + self._manifest.coding.m
        assert len(busy) <= self._span + shards * len(self._rescues), "more than planned"
        assert all(first < end <= self._manifest.size for first, end in self._needs)

    # ---- where bytes lie ----

    def _locate(self, at: int) -> tuple[int, int, int]:
        """The number of the chunk that byte `at` lies in, and the chunk's bytes [first, end)."""
        size, chunk_bytes, (k, m) = self._manifest[:3]
        if not m:
            number = at // chunk_bytes
            first = number * chunk_bytes
            return number, first, min(first + chunk_bytes, size)
        stripe, within = divmod(at, chunk_bytes * k)
        shard = shard_bytes(size, chunk_bytes, k, stripe)
        first = stripe * chunk_bytes * k + within // shard * shard
        return stripe * (k + m) + within // shard, first, min(first + shard, size)

    def _size(self, number: int) -> int:
        size, chunk_bytes, (k, m) = self._manifest[:3]
        if not m:
            return chunk_size(size, chunk_bytes, number)
        return shard_bytes(size, chunk_bytes, k, number // (k + m))

    def _stripe(self, number: int) -> int:
        """-1 for a file in copies."""
        coding = self._manifest.coding
        return number // (coding.k + coding.m) if coding.m else -1

    def _holders(self, fetch: _Fetch) -> Ids:
        """Who should have it."""
        coding, placement = self._manifest.coding, self._peers.members.placement
        if not coding.m:
            return placement.holders(fetch.key, coding.k)
        shards = coding.k + coding.m
        first = fetch.number - fetch.number % shards
        data = self._manifest.keys[first : first + coding.k]
        placed = placement.stripe(stripe_key(data), shards)
        return placed[fetch.number % shards :][:1]

    # ---- the plan ----

    def _needed(self) -> list[int]:
        """Chunks of what is needed, the first `_span` of them."""
        found: dict[int, None] = {}
        for first, end in self._needs:
            for number in self._walk(first, end):
                if number not in found and len(found) == self._span:
                    return list(found)
                found[number] = None
        return list(found)

    def _walk(self, first: int, end: int) -> Iterator[int]:
        while first < end:
            number, _, first = self._locate(first)
            yield number

    def _plan(self) -> dict[int, None]:
        """Chunks that are wanted now, in order."""
        plan = dict.fromkeys(self._needed())
        size, at = self._manifest.size, self._end
        if 0 < at < size:
            number, first, _ = self._locate(at)
            if first < at and number in self._fetches and len(plan) < self._span:
                plan[number] = None  # its rest is likely to be needed
            for number in self._walk(at, min(size, at + self._ahead)):
                if len(plan) >= self._span:
                    break
                plan[number] = None
        return plan

    def _reconcile(self) -> bool:
        """Makes what is under way what the plan says; whether something came to nothing."""
        plan = self._plan()
        keep = dict(plan)
        if self._manifest.coding.m:
            self._plan_rescues(plan, keep)
        for number, fetch in list(self._fetches.items()):
            lost = fetch.state == LOST and self._stripe(number) in self._rescues
            if number not in keep and not lost:
                self._forget(fetch)
        changed = False
        for number in keep:
            fetch_or_none = self._fetches.get(number)
            if fetch_or_none is None:
                key, size = self._manifest.keys[number], self._size(number)
                fetch_or_none = self._fetches[number] = _Fetch(number, key, size)
            if fetch_or_none.state == SEEKING:
                self._seek(fetch_or_none)
                changed |= fetch_or_none.state == LOST
        return changed

    def _forget(self, fetch: _Fetch) -> None:
        if fetch.state == WANTED:
            self._out.append(Unwant(fetch.node, fetch.number))
            self._peers.paid(fetch.node, self._now)
        elif fetch.state == HERE:
            self._out.append(LetGo(fetch.number))
        del self._fetches[fetch.number]

    def _seek(self, fetch: _Fetch) -> None:
        """Asks the best node for it; waits if that one is to be waited for."""
        members, holders = self._peers.members, self._holders(fetch)
        order = members.placement.order(fetch.key)
        rest = [node for node in sorted(members.ram) if node not in order]
        best, best_rank = 0, (2, 0, 0, 0)
        for place, node in enumerate(dict.fromkeys((*holders, *order, *rest))):
            given_up = node in members.alive and not self._peers.usable(node)
            if node in fetch.tried or given_up:
                continue
            waits = 0 if self._peers.ready(node) else 1
            if place < len(holders):
                turn = (place - fetch.number) % len(holders)
                rank = (waits, 0, self._peers.owed(node), turn)
            else:
                rank = (waits, 1, place, 0)
            if rank < best_rank:
                best, best_rank = node, rank
        if not best:
            fetch.state = LOST
        elif best_rank[0] == 0:
            fetch.state, fetch.node = WANTED, best
            self._peers.owe(best, self._now)
            self._out.append(Want(best, fetch.number, fetch.key, fetch.size))

    # ---- rescue of stripes ----

    def _plan_rescues(self, plan: dict[int, None], keep: dict[int, None]) -> None:
        """Adds to `keep` the shards that lost chunks of the plan are made of."""
        lost = {self._stripe(number) for number in plan if self._is_lost(number)}
        for stripe in sorted(lost - self._wrong):
            self._rescues.setdefault(stripe, [])
        for stripe, decoding in list(self._rescues.items()):
            if stripe not in lost and not decoding:
                del self._rescues[stripe]
                continue
            shards = decoding or self._rescuers(stripe)
            keep.update(dict.fromkeys(shards))
            if not decoding and shards and all(self._is_here(number) for number in shards):
                self._rescues[stripe] = shards
                first = stripe * self._shards
                have = tuple(sorted(number - first for number in shards))
                self._out.append(Decode(stripe, have))

    @property
    def _shards(self) -> int:
        return self._manifest.coding.k + self._manifest.coding.m

    def _rescuers(self, stripe: int) -> list[int]:
        """k shards of a stripe that are here, under way, or not yet lost; none if fewer are."""
        ranks = {HERE: 0, WANTED: 1, SEEKING: 2}
        numbers = range(stripe * self._shards, (stripe + 1) * self._shards)
        states = {n: f.state if (f := self._fetches.get(n)) else SEEKING for n in numbers}
        best = sorted((n for n in numbers if states[n] != LOST), key=lambda n: ranks[states[n]])
        k = self._manifest.coding.k
        return best[:k] if len(best) >= k else []

    def _is_lost(self, number: int) -> bool:
        fetch = self._fetches.get(number)
        return fetch is not None and fetch.state == LOST

    def _is_here(self, number: int) -> bool:
        fetch = self._fetches.get(number)
        return fetch is not None and fetch.state == HERE

    def _is_rescued(self, number: int) -> bool:
        """Whether its stripe may yet make it."""
        stripe = self._stripe(number)
        if stripe < 0 or stripe in self._wrong:
            return False
        return bool(self._rescues.get(stripe) or self._rescuers(stripe))

    def _on_decoded(self, event: Decoded) -> None:
        if not self._rescues.pop(event.stripe, []):
            return
        first = event.stripe * self._shards
        numbers = range(first, first + self._manifest.coding.k)
        if not event.right:
            self._wrong.add(event.stripe)
            return
        for number in numbers:
            fetch = self._fetches.get(number)
            if fetch is None:
                self._out.append(LetGo(number))
            elif fetch.state != HERE:
                if fetch.state == WANTED:
                    self._out.append(Unwant(fetch.node, number))
                    self._peers.paid(fetch.node, self._now)
                fetch.state, fetch.node = HERE, 0

    # ---- giving out ----

    def _on_needed(self, event: Needed) -> None:
        assert 0 <= event.first < event.end <= self._manifest.size
        if event.first == self._end:
            self._ahead = min(SPAN_BYTES, max(event.end - event.first, 2 * self._ahead))
        else:
            self._ahead = 0
        self._needs.append((event.first, event.end))
        self._end = event.end

    def _on_dropped(self, _event: NeedsDropped) -> None:
        self._needs.clear()
        self._end, self._ahead = -1, 0

    def _give(self) -> bool:
        """Gives out what is here and next; whether it did."""
        given = False
        while self._needs:
            at, need_end = self._needs[0]
            number, first, chunk_end = self._locate(at)
            if not self._is_here(number):
                break
            end = min(chunk_end, need_end)
            self._out.append(Give(number, at, end, at - first))
            self._given = given = True
            if end == need_end:
                self._needs.popleft()
            else:
                self._needs[0] = (end, need_end)
        return given

    def _look_at_head(self) -> None:
        """When what is needed next is nowhere, and nothing else that is needed may yet come."""
        if not self._needs or self._relooking:
            return
        needed = self._needed()
        lost = [n for n in needed if self._is_lost(n) and not self._is_rescued(n)]
        if not lost or lost[0] != needed[0]:
            return
        if any(number not in lost and not self._is_here(number) for number in needed):
            return
        if self._retried.issuperset(lost):
            numbers = ", ".join(map(str, lost))
            text = f"of its chunks these are on no node any more: {numbers}"
            self._fail("CHUNKS_LOST", text, tuple(lost))
        else:
            self._relooking = True
            self._out.append(Relook())

    def _on_relooked(self, event: Relooked) -> None:
        if not self._relooking:
            return
        self._relooking = False
        outcome = event.outcome
        if isinstance(outcome, Found):
            if outcome.entry.version == self._entry.version:
                self._try_again()
            elif self._given:
                self._fail("STALE", "the file was replaced while it was read")
            else:
                self._restart(outcome.entry)
        elif isinstance(outcome, NotFound):
            code = "STALE" if self._given else "NOT_FOUND"
            self._fail(code, "the file was removed while it was read")
        else:
            self._fail("UNREACHABLE", outcome.text)

    def _try_again(self) -> None:
        """Chunks may have moved while they were looked for."""
        self._wrong.clear()
        for fetch in self._fetches.values():
            if fetch.state == LOST:
                self._retried.add(fetch.number)
                fetch.tried.clear()
                fetch.state = SEEKING

    def _restart(self, entry: Entry) -> None:
        for fetch in list(self._fetches.values()):
            self._forget(fetch)
        self._out.append(Restart(entry))
        if entry.manifest is not None and entry.manifest.keys:
            self._begin(entry)
        else:
            self._over = True

    # ---- what nodes say ----

    def _wanted(self, node: int, number: int) -> _Fetch | None:
        fetch = self._fetches.get(number)
        return fetch if fetch is not None and node and fetch.node == node else None

    def _on_arrived(self, event: ChunkArrived) -> None:
        self._peers.sign(event.node, self._now)
        fetch = self._wanted(event.node, event.number)
        if fetch is not None:
            self._peers.paid(event.node, self._now)
            fetch.state, fetch.node = HERE, 0

    def _on_failed(self, event: ChunkFailed | Refused) -> None:
        self._peers.sign(event.node, self._now)
        fetch = self._wanted(event.node, event.number)
        if fetch is not None:
            self._peers.paid(event.node, self._now)
            fetch.state, fetch.node = SEEKING, 0
            fetch.tried.add(event.node)

    def _on_progressed(self, event: Progressed) -> None:
        self._peers.sign(event.node, self._now)

    # ---- nodes come and go ----

    def _on_members(self, event: MembersChanged) -> None:
        before = self._peers.members
        for node in self._peers.change(event.members):
            self._lose(node, closed=False)
        if before.alive == event.members.alive and before.ram.keys() == event.members.ram.keys():
            return
        for fetch in self._fetches.values():
            fetch.tried &= event.members.alive
            if fetch.state == LOST:
                fetch.state = SEEKING

    def _on_link_lost(self, event: LinkLost) -> None:
        self._node_lost(event.node, closed=True)

    def _node_lost(self, node: int, closed: bool) -> None:
        if node in self._peers.members.alive:
            self._peers.lost(node, self._now)
        self._lose(node, closed)

    def _lose(self, node: int, closed: bool) -> None:
        """What was wanted of it is sought elsewhere."""
        for fetch in self._fetches.values():
            if fetch.node == node and fetch.state == WANTED:
                if not closed:
                    self._out.append(Unwant(node, fetch.number))
                fetch.state, fetch.node = SEEKING, 0

    def _on_time(self, _event: TimePassed) -> None:
        while (found := self._peers.pop(self._now)) is not None:
            if found[0] == SILENT:
                self._node_lost(found[1], closed=False)

    # ---- the end ----

    def _on_aborted(self, _event: Aborted) -> None:
        self._fail("CANCELLED", "the read was given up")

    def _fail(self, code: str, text: str, numbers: tuple[int, ...] = ()) -> None:
        self._over = True
        for fetch in self._fetches.values():
            if fetch.state == WANTED:
                self._out.append(Unwant(fetch.node, fetch.number))
        self._out.append(Fail(code, text, numbers=numbers))
