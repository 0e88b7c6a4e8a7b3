"""One put of one file: which node is to hold which chunk, when it is enough, and the last step.

Owns: for every chunk (or stripe) its copies (or shards) and who has said what of them; how much of
the stream may be read; the version. Refuses to know: bytes, links, clocks, how a stripe is coded.
docs/storage.md, section 2, says it in words. `transfer_io.py` has the events and effects.

    new        SmallFileReady                    version drawn, committing
    new        StreamBegan                       refused if it has no room; else asking
    asking     all keepers told their version,   version drawn, placing
               or VERSION_WAIT_MS
    placing    stream ended, all units settled   committing: the entry to all keepers
    committing KEPT, and all units settled       RELEASE of what was before; Finish
    committing LATER                             a version later still, placing; ROUNDS_MAX times
    committing refused, or no keeper left        Fail: UNCERTAIN if any may have taken it
    any        Aborted, no room, a chunk lost    RELEASE of this version unless its entry was sent;
                                                 Fail

A *unit* is a chunk or a stripe, its *slots* are its copies or shards. Equal units are one: the
second is let go at once. A slot's way:

    IDLE     a node is there for it             QUEUED; it is HELD if the node owes few answers
    IDLE     the only ones left are resting     waits
             or suspected
    IDLE     all others refused                 the put fails: STORE_FULL
    IDLE     nobody else is there               MISSING: as many copies as there are members
    ASKED    SEND / HAVE / BUSY                 SENDING / KEPT / asked again, for BUSY_MS_MAX
    ASKED    FULL, an error                     refused there: IDLE
    SENDING  KEPT / BAD                         KEPT / once more; refused there: IDLE
    these    its node lost                      IDLE
    KEPT     its node's link closed, or it is   LAPSED: the claim is made again when it has rested,
             suspected                          or is alive again
    KEPT     LATER                              QUEUED: the claim is made again
    KEPT,    its node dead, or given up; or     IDLE; GONE if the bytes were let go
    LAPSED   it lacks it now

A unit is settled when its slots are KEPT, MISSING or GONE; one copy, or k shards, must be KEPT.
Then its bytes are let go. What is not KEPT of an acknowledged file is repair's work, as if the node
had died a moment later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from .agenda import Agenda
from .commit import Commit, Verdict
from .filetypes import (
    BAD,
    BUSY,
    CHUNK_BYTES_MAX,
    FULL,
    HAVE,
    KEYS_MAX,
    RELEASE_BEFORE,
    RELEASE_THIS,
    SEND,
    Claim,
    Coding,
    Copies,
    Digest,
    Entry,
    Key,
    Manifest,
    Place,
    Shard,
    stripe_key,
    stripes_of,
)
from .filetypes import (
    KEPT as HELD_KEPT,
)
from .hybridclock import Clock, Version
from .peers import RESTED, SILENT, Peers
from .transfer_io import (
    Aborted,
    AskVersion,
    ChunkReady,
    Effect,
    Event,
    Fail,
    Figure,
    Finish,
    HeldHeard,
    Hold,
    LetGo,
    LinkLost,
    Members,
    MembersChanged,
    Progressed,
    PutInfo,
    Refused,
    Release,
    Send,
    SmallFileReady,
    StreamBegan,
    StreamEnded,
    StripeReady,
    TimePassed,
    VersionHeard,
    Withdraw,
)

WINDOW_BYTES: Final = 16 << 20  # under way: 10 Gbit/s times 13 ms, and little beside 1 GiB of RAM
STRIPE_BYTES_MAX: Final = 32 << 20  # with its parity: what a client may use beside its chunks
HOLDS_MAX: Final = 32  # unanswered at a node: with chunks of 1 MiB more than the window
SILENCE_MS: Final = 10_000  # a node that gives no sign so long while it owes an answer is lost
BUSY_MS: Final = 50  # 6 MB on a link of 1 Gbit/s
BUSY_MS_MAX: Final = 10_000  # somebody else sends it, and is slower than another holder would be
VERSION_WAIT_MS: Final = 1000  # for the keepers' versions; LATER makes good what is missed
ROUNDS_MAX: Final = 3
MIB: Final = 1 << 20

# States of a slot; up to LAPSED it is open.
IDLE, QUEUED, ASKED, WAITING, SENDING, LAPSED, KEPT, MISSING, GONE = range(9)

_BUSY, _VERSION = range(2)  # alarms


class _Slot:
    __slots__ = ("bads", "busy_ms", "had", "key", "node", "refused", "shard", "state", "unit")

    def __init__(self, unit: _Unit, shard: int, key: Key, refused: dict[int, str]) -> None:
        self.unit = unit
        self.shard = shard
        self.key = key
        self.refused = refused  # node: why it does not take it
        self.node = 0
        self.state = IDLE
        self.had = False  # the node has said once that it is there
        self.bads = 0  # times it came wrong at the node
        self.busy_ms = -1  # since when the node is busy with it


class _Unit:
    __slots__ = ("buffered", "keys", "least", "number", "open", "size", "slots")

    def __init__(self, number: int, keys: tuple[Key, ...], size: int, copies: int) -> None:
        """A stripe's shards if copies is 0, else so many of a chunk."""
        shared: dict[int, str] = {}
        self.number = number
        self.keys = keys
        self.size = size  # of a slot
        if copies:
            self.slots = [_Slot(self, shard, keys[0], shared) for shard in range(copies)]
        else:
            self.slots = [_Slot(self, shard, key, {}) for shard, key in enumerate(keys)]
        self.least = 1
        self.open = len(self.slots)
        self.buffered = True


class Put:
    """The state machine, driven as the scheduler is; nothing happens after Finish or Fail."""

    def __init__(
        self,
        digest: Digest,
        name: bytes,
        clock: Clock,
        coding: Coding,
        chunk_bytes: int,
        members: Members,
        epoch_ms: int,
    ) -> None:
        """A put of the file `name`; `epoch_ms` is unix time when `now` was 0, as far as known."""
        self.digest = digest
        self._name = name
        self._clock = clock
        self._coding = coding
        self._chunk_bytes = chunk_bytes
        self._epoch_ms = epoch_ms
        self._peers = Peers(members, SILENCE_MS)
        self._agenda = Agenda()
        self._asked: set[int] = set()  # keepers whose version is awaited
        self._version: Version | None = None
        self._rounds = 0
        self._units: list[_Unit] = []  # by number; equal ones are one
        self._known: dict[tuple[Key, ...], _Unit] = {}
        self._buffered = 0  # units whose bytes the service keeps
        self._open = 0  # slots
        self._fresh: list[_Slot] = []  # IDLE, to be looked at
        self._idle: dict[_Slot, None] = {}  # IDLE, waiting for somebody
        self._at: dict[int, dict[_Slot, None]] = {}  # by node
        self._queues: dict[int, deque[_Slot]] = {}  # QUEUED, by node
        self._claimed: dict[int, None] = {}  # nodes that were asked to hold this version's chunks
        self._free: dict[int, int] = {}  # bytes, as last heard
        self._manifest: Manifest | None = None  # once the stream has ended
        self._commit: Commit | None = None
        self._heard_of = False  # a keeper may have an entry of a version before this one
        self._info = PutInfo()
        self._over = False
        self._now = 0
        self._out: list[Effect] = []
        self._handlers: dict[type, Callable[[Any], None]] = {
            MembersChanged: self._on_members,
            LinkLost: self._on_link_lost,
            Progressed: self._on_progressed,
            VersionHeard: self._on_version,
            Refused: self._on_refused,
            SmallFileReady: self._on_small,
            StreamBegan: self._on_began,
            ChunkReady: self._on_chunk,
            StripeReady: self._on_stripe,
            StreamEnded: self._on_ended,
            HeldHeard: self._on_held,
            Aborted: self._on_aborted,
            TimePassed: self._on_time,
        }

    # ---- the face ----

    def handle(self, event: Event, now: int) -> list[Effect]:
        """Takes one event; `now` in milliseconds, never smaller than before."""
        if self._over:
            return []
        self._now = now
        self._handlers[type(event)](event)
        self._advance()
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> int | None:
        """When TimePassed is due, or None."""
        if self._over:
            return None
        times = (self._agenda.next(), self._peers.next_deadline())
        return min((t for t in times if t is not None), default=None)

    def room(self) -> int:
        """How many bytes of the stream may be read beyond the units that were told: whole units."""
        if self._over or self._manifest is not None:
            return 0
        units = max(1, WINDOW_BYTES // self._unit_buffer) - self._buffered
        return max(0, units) * self._chunk_bytes * (self._coding.k if self._coding.m else 1)

    @property
    def version(self) -> Version | None:
        """Under which it is put, once one is drawn."""
        return self._version

    def validate(self) -> None:
        """Raises AssertionError if an invariant does not hold."""
        units = list(self._known.values())
        slots = [slot for unit in units for slot in unit.slots]
        self._peers.validate()
        assert self._buffered == sum(unit.buffered for unit in units)
        assert self._open == sum(slot.state < KEPT for slot in slots)
        if self._over:
            return
        assert self._buffered * self._unit_buffer <= max(WINDOW_BYTES, self._unit_buffer)
        for unit in units:
            assert unit.open == sum(slot.state < KEPT for slot in unit.slots)
            assert not unit.buffered or unit.open, "all is settled, and its bytes are kept"
            assert sum(slot.state not in (MISSING, GONE) for slot in unit.slots) >= unit.least
            nodes = [slot.node for slot in unit.slots if slot.node]
            assert self._coding.m or len(set(nodes)) == len(nodes), "two copies on one node"
        for slot in slots:
            assert (slot.node != 0) == (slot.state not in (IDLE, MISSING, GONE))
            assert not slot.node or slot in self._at[slot.node]
            assert slot.unit.buffered or slot.had or not slot.node, "bytes let go, and needed"
            waits = (_BUSY, (slot.unit.number, slot.shard)) in self._agenda
            assert waits == (slot.state == WAITING), "busy, and nobody asks again"
            assert slot.state != IDLE or slot in self._idle or self._version is None
            assert slot.state != QUEUED or slot in self._queues[slot.node]

    @property
    def _unit_buffer(self) -> int:
        """Bytes that the service keeps for a unit."""
        coding = self._coding
        return self._chunk_bytes * (coding.k + coding.m if coding.m else 1)

    # ---- the stream ----

    def _on_small(self, event: SmallFileReady) -> None:
        self._manifest = Manifest(len(event.data), coding=self._coding, data=event.data)
        self._draw()

    def _on_began(self, event: StreamBegan) -> None:
        if not self._peers.members.giving:
            text = "no member gives RAM to files (velum serve --ram)"
            self._fail("STORE_FULL", text, figures=self._figures())
        elif self._coding.m and self._unit_buffer > STRIPE_BYTES_MAX:
            text = f"a stripe has {self._unit_buffer} bytes, at most {STRIPE_BYTES_MAX}: "
            self._fail("TOO_LARGE", text + "fewer shards or smaller chunks")
        elif event.size is not None and self._keys_of(event.size, self._chunk_bytes) > KEYS_MAX:
            self._fail_large(event.size)
        elif event.size is not None and not self._has_room(event.size):
            text = f"{event.size} bytes in {self._how()} do not fit into what is free"
            self._fail("STORE_FULL", text, figures=self._figures())
        else:
            self._ask_versions()

    def _has_room(self, size: int) -> bool:
        members, coding = self._peers.members, self._coding
        free = sum(members.ram[node].free_mib for node in members.giving) * MIB
        if coding.m:
            return size * (coding.k + coding.m) <= free * coding.k
        return size * min(coding.k, len(members.giving)) <= free

    def _keys_of(self, size: int, chunk_bytes: int) -> int:
        coding = self._coding
        if coding.m:
            return stripes_of(size, chunk_bytes, coding.k) * (coding.k + coding.m)
        return -(-size // chunk_bytes)

    def _fail_large(self, size: int) -> None:
        chunk_bytes = self._chunk_bytes
        while chunk_bytes < CHUNK_BYTES_MAX and self._keys_of(size, chunk_bytes) > KEYS_MAX:
            chunk_bytes = min(2 * chunk_bytes, CHUNK_BYTES_MAX)
        text = f"{size} bytes or more in chunks of {self._chunk_bytes} are too many: "
        if self._keys_of(size, chunk_bytes) > KEYS_MAX:
            coding = self._coding
            unit = coding.k * chunk_bytes if coding.m else chunk_bytes
            most = KEYS_MAX // (coding.k + coding.m if coding.m else 1) * unit
            self._fail("TOO_LARGE", text + f"a file in {self._how()} has at most {most} bytes")
        else:
            self._fail("TOO_LARGE", text + f"chunks of {chunk_bytes} bytes would do")

    def _how(self) -> str:
        coding = self._coding
        return f"stripes of {coding.k}+{coding.m}" if coding.m else f"copies, {coding.k} of each"

    def _ask_versions(self) -> None:
        keepers = self._peers.members.keepers(self.digest, self._coding.keepers)
        self._asked = set(keepers)
        self._out += [AskVersion(node) for node in keepers]
        self._agenda.set((_VERSION, 0), self._now + VERSION_WAIT_MS)
        self._have_asked()

    def _have_asked(self) -> None:
        if not self._asked and (_VERSION, 0) in self._agenda:
            self._draw()

    def _draw(self) -> None:
        """A version, later than all that were heard; nothing is claimed under it yet."""
        self._agenda.cancel((_VERSION, 0))
        self._asked.clear()
        self._version = self._clock.next(self._unix_ms())
        self._claimed = {}
        self._rounds += 1

    def _unix_ms(self) -> int:
        return self._epoch_ms + self._now

    def _on_chunk(self, event: ChunkReady) -> None:
        assert not self._coding.m and event.number == len(self._units)
        self._add(event.number, (event.key,), event.size)

    def _on_stripe(self, event: StripeReady) -> None:
        assert len(event.keys) == self._coding.k + self._coding.m
        assert self._coding.m and event.number == len(self._units)
        self._add(event.number, event.keys, event.size)

    def _add(self, number: int, keys: tuple[Key, ...], size: int) -> None:
        assert self._manifest is None, "a chunk after the stream's end"
        known = self._known.get(keys)
        if known is not None:
            self._units.append(known)
            self._out.append(LetGo(number))
        else:
            unit = _Unit(number, keys, size, 0 if self._coding.m else self._coding.k)
            unit.least = self._coding.k if self._coding.m else 1
            self._units.append(unit)
            self._known[keys] = unit
            self._buffered += 1
            self._open += unit.open
            self._fresh += unit.slots
            self._info = self._info._replace(chunks=self._info.chunks + 1)
        if len(self._units) * len(keys) > KEYS_MAX:
            unit_bytes = self._chunk_bytes * (self._coding.k if self._coding.m else 1)
            self._fail_large(len(self._units) * unit_bytes)

    def _on_ended(self, event: StreamEnded) -> None:
        keys = tuple(key for unit in self._units for key in unit.keys)
        assert len(keys) == self._keys_of(event.size, self._chunk_bytes), "chunks are missing"
        self._manifest = Manifest(event.size, self._chunk_bytes, self._coding, keys)

    # ---- going on ----

    def _advance(self) -> None:
        """Whatever can be done now, after each event."""
        if self._version is None:
            return
        while self._fresh and not self._over:
            self._assign(self._fresh.pop(0))
        if self._over:
            return
        for node in self._queues:
            self._pump(node)
        if self._manifest is None:
            return
        if self._commit is None and not self._open:
            self._commit = Commit(self.digest, self._entry(self._manifest), self._peers)
        if self._commit is not None:
            self._go_on_committing(self._commit)

    def _entry(self, manifest: Manifest) -> Entry:
        assert self._version is not None
        return Entry(self._name, self._version, self._coding.keepers, manifest)

    def _assign(self, slot: _Slot) -> None:
        """Finds a node for a slot that has none."""
        node = self._choose(slot)
        if node and self._peers.ready(node):
            slot.node = node
            self._at.setdefault(node, {})[slot] = None
            self._enqueue(slot)
        elif node:
            self._idle[slot] = None
        elif slot.refused:
            code, text = self._refusal(slot)
            self._fail(code, text, figures=self._figures() if code == "STORE_FULL" else ())
        else:
            self._settle(slot, MISSING)

    def _choose(self, slot: _Slot) -> int:
        """The best node that may take it; perhaps one that must be waited for; 0: none."""
        members, unit = self._peers.members, slot.unit
        has: dict[int, int] = {}
        for other in unit.slots:
            has[other.node] = has.get(other.node, 0) + 1
        order = members.placement.order(slot.key)
        if self._coding.m:
            shards = members.placement.stripe(stripe_key(unit.keys[: unit.least]), len(unit.keys))
            order = (shards[slot.shard], *order) if shards else order
        best, best_rank = 0, (len(unit.slots) + 1, True)
        for node in order:
            if node in slot.refused or not members.ram[node].mib:
                continue
            if node in members.alive and not self._peers.usable(node):
                continue
            count = has.get(node, 0)
            if count and not self._coding.m:
                continue
            rank = (count, not self._peers.ready(node))
            if rank < best_rank:
                best, best_rank = node, rank
        return best

    def _refusal(self, slot: _Slot) -> tuple[str, str]:
        """Why nobody takes it."""
        said = [f"node {node}: {why}" for node, why in slot.refused.items()]
        codes = list(slot.refused.values())
        code = "STORE_FULL" if "STORE_FULL" in codes else codes[0]
        where = f"chunk {slot.unit.number}" if not self._coding.m else f"stripe {slot.unit.number}"
        return code, f"{where} finds no node that takes it: " + ", ".join(said)

    def _enqueue(self, slot: _Slot) -> None:
        slot.state = QUEUED
        self._queues.setdefault(slot.node, deque()).append(slot)

    def _pump(self, node: int) -> None:
        """Asks a node to hold what waits for it."""
        queue = self._queues[node]
        while queue and self._peers.ready(node) and self._peers.owed(node) < HOLDS_MAX:
            slot = queue.popleft()
            slot.state = ASKED
            self._peers.owe(node, self._now)
            self._claimed[node] = None
            assert self._version is not None
            claim = Claim(self.digest, self._version, self._place(slot))
            unit = slot.unit
            self._out.append(Hold(node, unit.number, slot.shard, slot.key, unit.size, claim))

    def _place(self, slot: _Slot) -> Place:
        coding = self._coding
        if coding.m:
            return Shard(coding.k, coding.m, slot.shard, slot.unit.keys)
        return Copies(coding.k)

    # ---- what holders say ----

    def _on_held(self, event: HeldHeard) -> None:
        self._free[event.node] = event.free_bytes
        self._peers.sign(event.node, self._now)
        slot = self._slot(event.node, event.number, event.shard)
        if slot is None:
            return
        if event.state == SEND:
            self._may_send(slot)
            return
        self._peers.paid(event.node, self._now)
        if event.state in (HAVE, HELD_KEPT):
            self._has(slot)
        elif event.state == BUSY:
            self._wait(slot)
        elif event.state == BAD and slot.state == SENDING and not slot.bads:
            slot.bads = 1
            self._enqueue(slot)
        elif event.state == FULL:
            self._refuse(slot, "STORE_FULL")
        else:
            self._refuse(slot, "CHUNK_HASH")

    def _slot(self, node: int, number: int, shard: int) -> _Slot | None:
        """The slot that an answer is about, if one is awaited."""
        if not 0 <= number < len(self._units) or shard >= len(self._units[number].slots):
            return None
        slot = self._units[number].slots[shard]
        return slot if slot.node == node and slot.state in (ASKED, SENDING) else None

    def _may_send(self, slot: _Slot) -> None:
        if slot.state == SENDING:
            return
        if slot.unit.buffered:
            slot.state = SENDING
            slot.had = False
            self._out.append(Send(slot.node, slot.unit.number, slot.shard, slot.key))
        else:
            self._peers.paid(slot.node, self._now)
            self._out.append(Withdraw(slot.node, slot.unit.number, slot.shard))
            self._drop(slot)

    def _has(self, slot: _Slot) -> None:
        """It is there, claimed under this version."""
        info, size = self._info, slot.unit.size
        if slot.state == SENDING:
            self._info = info._replace(sent_bytes=info.sent_bytes + size)
        elif not slot.had:
            self._info = info._replace(had_bytes=info.had_bytes + size)
        slot.had = True
        slot.bads, slot.busy_ms = 0, -1
        self._settle(slot, KEPT)

    def _wait(self, slot: _Slot) -> None:
        """Somebody else sends it there."""
        if slot.busy_ms < 0:
            slot.busy_ms = self._now
        if self._now - slot.busy_ms >= BUSY_MS_MAX:
            self._refuse(slot, "BUSY")
        else:
            slot.state = WAITING
            self._agenda.set((_BUSY, (slot.unit.number, slot.shard)), self._now + BUSY_MS)

    def _refuse(self, slot: _Slot, why: str) -> None:
        """Its node does not take it."""
        slot.refused[slot.node] = why
        self._drop(slot)

    def _drop(self, slot: _Slot) -> None:
        """Its node has it not; another is to have it, if the bytes are here yet."""
        self._agenda.cancel((_BUSY, (slot.unit.number, slot.shard)))
        del self._at[slot.node][slot]
        slot.node, slot.had, slot.bads, slot.busy_ms = 0, False, 0, -1
        if slot.unit.buffered:
            self._reopen(slot, IDLE)
            self._fresh.append(slot)
        else:
            self._settle(slot, GONE)

    def _settle(self, slot: _Slot, state: int) -> None:
        """KEPT, MISSING or GONE."""
        unit = slot.unit
        if slot.state < KEPT:
            unit.open -= 1
            self._open -= 1
        slot.state = state
        if state != KEPT:
            left = sum(other.state not in (MISSING, GONE) for other in unit.slots)
            if left < unit.least:
                self._fail_lost(unit)
                return
        if not unit.open and unit.buffered:
            unit.buffered = False
            self._buffered -= 1
            self._out.append(LetGo(unit.number))

    def _reopen(self, slot: _Slot, state: int) -> None:
        if slot.state >= KEPT:
            slot.unit.open += 1
            self._open += 1
        slot.state = state

    def _fail_lost(self, unit: _Unit) -> None:
        what = "stripe" if self._coding.m else "chunk"
        if any(slot.state == GONE for slot in unit.slots):
            code = "CHUNKS_LOST"
            text = f"{what} {unit.number} was lost with its nodes before the put was done"
        else:
            code = "UNREACHABLE"
            text = f"no node that gives RAM can be reached for {what} {unit.number}"
        self._fail(code, text)

    # ---- nodes come and go ----

    def _on_members(self, event: MembersChanged) -> None:
        before = self._peers.members
        for node in self._peers.change(event.members):
            self._forget(node)
        for node in sorted(before.ram.keys() - event.members.alive):
            self._lose(node, closed=False)
        for node in sorted(event.members.alive - before.alive):
            self._wake(node)
        self._look_again()
        self._have_asked()

    def _on_link_lost(self, event: LinkLost) -> None:
        self._node_lost(event.node, closed=True)

    def _node_lost(self, node: int, closed: bool) -> None:
        if node in self._peers.members.alive:
            self._peers.lost(node, self._now)
        self._forget(node)
        self._lose(node, closed)
        if not self._peers.usable(node):
            self._look_again()
        self._have_asked()

    def _forget(self, node: int) -> None:
        """What it was asked about the name it will not answer."""
        self._asked.discard(node)
        if self._commit is not None:
            self._commit.lost(node)

    def _lose(self, node: int, closed: bool) -> None:
        """What was under way there is not any more; `closed`: its claims are in danger too."""
        self._queues.pop(node, None)
        members = self._peers.members
        returns = self._peers.usable(node) or node in members.ram.keys() - members.alive
        slots = list(self._at.get(node, ()))
        for slot in slots:
            self._agenda.cancel((_BUSY, (slot.unit.number, slot.shard)))
            if slot.state in (ASKED, SENDING) and not closed:
                self._out.append(Withdraw(node, slot.unit.number, slot.shard))
            if slot.state != KEPT or closed or node not in members.alive:
                self._reopen(slot, LAPSED)
        for slot in slots:
            if not self._over and not (slot.had and returns):
                self._drop(slot)

    def _look_again(self) -> None:
        """Slots that found nobody may find somebody, or need not wait for somebody."""
        self._fresh += self._idle
        self._idle.clear()

    # ---- the last step ----

    def _on_version(self, event: VersionHeard) -> None:
        if self._commit is not None:
            self._peers.sign(event.node, self._now)
            self._commit.heard(event.node, event.what, event.version, self._now)
        elif event.node in self._asked:
            self._clock.heard(event.version, self._unix_ms())
            self._asked.discard(event.node)
            self._have_asked()

    def _on_refused(self, event: Refused) -> None:
        if event.number >= 0:
            slot = self._slot(event.node, event.number, event.shard)
            if slot is not None:
                self._peers.paid(event.node, self._now)
                self._refuse(slot, event.code)
        elif self._commit is not None:
            self._commit.error(event, self._now)
        else:
            self._asked.discard(event.node)
            self._have_asked()

    def _go_on_committing(self, commit: Commit) -> None:
        self._out += commit.step(self._now)
        verdict = commit.verdict()
        if verdict == Verdict.KEPT and not self._open:
            self._finish(commit.entry)
        elif verdict == Verdict.LATER:
            self._overtaken(commit)
        elif verdict in (Verdict.NOBODY, Verdict.REFUSED):
            self._fail(*commit.failure(verdict))

    def _finish(self, entry: Entry) -> None:
        units = self._known.values()
        at_risk = sum(any(slot.state != KEPT for slot in unit.slots) for unit in units)
        self._over = True
        for node in sorted(self._peers.members.alive):
            self._out.append(Release(node, RELEASE_BEFORE, self.digest, entry.version))
        self._out.append(Finish(entry, self._info._replace(at_risk=at_risk)))

    def _overtaken(self, commit: Commit) -> None:
        """A keeper has a greater version: all is claimed again under one that is greater still."""
        assert commit.later is not None
        commit.close(self._now)
        self._heard_of |= not commit.nowhere
        if not self._clock.heard(commit.later, self._unix_ms()):
            text = "a keeper has a version from a clock too far ahead of this one"
            self._fail("VERSION_AHEAD", text)
            return
        if self._rounds == ROUNDS_MAX:
            text = f"somebody put this name later each time, {ROUNDS_MAX} times"
            self._fail("UNCERTAIN", text)
            return
        self._commit = None
        self._draw()
        for unit in self._known.values():
            for slot in unit.slots:
                self._claim_again(slot)
        self._advance()

    def _claim_again(self, slot: _Slot) -> None:
        if slot.state in (ASKED, SENDING):
            self._out.append(Withdraw(slot.node, slot.unit.number, slot.shard))
            self._peers.paid(slot.node, self._now)
        if slot.state in (ASKED, SENDING, WAITING, KEPT):
            self._agenda.cancel((_BUSY, (slot.unit.number, slot.shard)))
            self._reopen(slot, QUEUED)
            self._enqueue(slot)

    # ---- the end ----

    def _on_aborted(self, _event: Aborted) -> None:
        self._fail("CANCELLED", "the put was given up")

    def _is_nowhere(self) -> bool:
        """Surely no keeper has this version's entry; nobody waits for answers to it any more."""
        if self._commit is not None:
            self._commit.close(self._now)
        return self._commit is None or self._commit.nowhere

    def _fail(self, code: str, text: str, figures: tuple[Figure, ...] = ()) -> None:
        """Ends it; its claims too, unless a keeper may have its entry: then it is UNCERTAIN."""
        if self._over:
            return
        self._over = True
        nowhere = self._is_nowhere()
        if code != "VERSION_AHEAD" and (self._heard_of or not nowhere):
            code = "UNCERTAIN"
        for node, slots in self._at.items():
            for slot in slots:
                if slot.state in (ASKED, SENDING):
                    self._out.append(Withdraw(node, slot.unit.number, slot.shard))
        if self._version is not None and nowhere:
            for node in self._claimed:
                self._out.append(Release(node, RELEASE_THIS, self.digest, self._version))
        self._out.append(Fail(code, text, figures))

    def _figures(self) -> tuple[Figure, ...]:
        members = self._peers.members
        return tuple(
            Figure(node, ram.mib, self._free.get(node, ram.free_mib * MIB))
            for node, ram in sorted(members.ram.items())
        )

    # ---- time ----

    def _on_progressed(self, event: Progressed) -> None:
        self._peers.sign(event.node, self._now)

    def _on_time(self, _event: TimePassed) -> None:
        while (alarm := self._agenda.pop(self._now)) is not None:
            kind, what = alarm
            if kind == _VERSION:
                self._draw()
            else:
                number, shard = what
                self._enqueue(self._units[number].slots[shard])
        while not self._over and (found := self._peers.pop(self._now)) is not None:
            kind, node = found
            if kind == SILENT:
                self._node_lost(node, closed=False)
            elif kind == RESTED:
                self._wake(node)
                self._look_again()

    def _wake(self, node: int) -> None:
        """It can be asked again: for what it had, first."""
        for slot in self._at.get(node, ()):
            if slot.state == LAPSED:
                self._enqueue(slot)
