"""The names in a node's keeping: what each stands for, and that all its keepers say the same.

Owns: for each name of which this node is a keeper, or was and has not yet handed it over, the
greatest entry heard; and how long a tombstone is kept. Refuses to know: links, frames, clocks, what
a manifest says, and chunks. docs/storage.md is the whole protocol; its section 4 is coded here.

An entry's way at one node:

    state    event                                   then
    -        offered, and this node keeps the name   KEPT: Changed
    -        offered, and it does not                FORMER: Changed, offered to the keepers
    any      offered: malformed, too far ahead       Refuse; the clock has not heard of it
    -        offered, no room                        Refuse; nothing is dropped to make room
    any      a greater one offered                   Changed; a longer one without room: Refuse
    any      a lesser one offered                    Kept, with the version here, which is sent to
                                                     the offerer if it is a keeper
    KEPT     other keepers                           listed to the new ones, who ask for what lacks
    KEPT     no keeper any more                      FORMER: listed to all keepers, again and again
    FORMER   keeper again                            KEPT
    FORMER   every keeper holds that or a greater    forgotten
    any      a tombstone, 24 h old                   not compared; forgotten if it awaits nobody
    any      it awaits nobody any more, or 7 days    forgotten

**A node says that it holds an entry only while it is a keeper by the members that it knows**, and
what is said counts for the asker only if it asked since its own members last changed: nobody
forgets on the word of one that is about to forget too. Of the live nodes the first in the order of
the name's digest is always a keeper by its own view, however views differ, and does not forget.

Keepers compare: each COMPARE_MS one of those that share names with this node is sent count and XOR
of marks in 256 buckets. Where they differ it lists the bucket in pages, complete between two
digests, so this node sees what is older there or lacking, and sends it, and asks for what is newer.
Sums are kept up to date with every change, so a comparison costs nothing in proportion to names.

Everything that is sent unasked waits in one queue, emptied by a bounded step at a time. The queue
is bounded too: a look through all entries after a change of members waits for it, and what does not
fit otherwise comes up again at the next comparison.

Tombstones: a deleted file must not come back with a node that was away and has its manifest yet. A
tombstone's age travels with it, so handing it on does not make it younger, and wall clocks have no
say. It *awaits* each member that was known when it was made and has not been present for SETTLE_MS
at a stretch since: by then, having come, it was listed what is its to keep, or has offered what is
not. Who is awaited travels too. The wait ends at TOMBSTONE_MS_MAX: a node that was away for longer
can bring a deleted file back.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from .agenda import Agenda
from .catalog_io import (
    Changed,
    Effect,
    Entry,
    EntryAsked,
    EntryOffered,
    Event,
    Give,
    GivePage,
    HeldHeard,
    Item,
    Kept,
    ListAsked,
    ListingHeard,
    MemberLost,
    MemberSeen,
    Refuse,
    Row,
    SendEntry,
    SendHeld,
    SendListing,
    SendSums,
    SumsHeard,
    TimePassed,
    Why,
    greater,
)
from .hybridclock import Clock
from .placement import Budget, Placement

KEEPERS: Final = 3  # of a name; any two may die at once
NAME_BYTES_MAX: Final = 4096
PAYLOAD_BYTES_MAX: Final = 4 << 20  # a manifest of 131,072 keys: 128 GiB in chunks of 1 MiB
ENTRIES_MAX: Final = 1 << 17  # tombstones too
BYTES_MAX: Final = 192 << 20  # so each entry may have 600 bytes of its own
ENTRY_BYTES: Final = 900  # of an entry beside its name and payload; measured: 480, and 400 its own
COMPARE_MS: Final = 10_000  # 3 KiB each: nothing, and a lost message is made good in a few turns
STEP_MS: Final = 20  # between two steps: other work of the node comes in between
STEP_MAX: Final = 256  # listed or sent in a step
STEP_BYTES_MAX: Final = 256 << 10  # of entries sent in a step, or one: 13 MB/s
SCAN_MAX: Final = 1000  # entries placed anew in a step: 5 ms with 16 members
QUEUE_MAX: Final = 4096  # waiting to be listed or sent: a third of a second
PAGE_MAX: Final = 512  # items of a page of a bucket: 26 KB
ROWS_MAX: Final = 1000  # of a page of names
ROWS_BYTES_MAX: Final = 256 << 10  # of their names, or one
TOMBSTONE_MS: Final = 24 * 3_600_000  # longer than a network is broken unnoticed
TOMBSTONE_MS_MAX: Final = 7 * TOMBSTONE_MS  # for members that never come back
SETTLE_MS: Final = 6 * COMPARE_MS  # for a member that came to be listed all, and to compare
RECHECK_MS: Final = 600_000  # between two looks at whether a tombstone awaits anybody
BUCKETS: Final = 256

_STEP, _COMPARE, _TOMBSTONE = range(3)
_ENTRY, _ITEM, _PAGE = range(3)
_NEVER: Final = -(1 << 62)
_LAST: Final = b"\xff" * 31


@dataclass(slots=True)
class _Slot:
    """An entry kept here."""

    entry: Entry
    item: Item
    keepers: tuple[int, ...] = ()  # when last looked at
    confirmed: frozenset[int] = frozenset()  # keepers that hold it, heard in `round`
    round: int = 0
    made: int = 0  # of a tombstone: when, by this node's `now`
    compared: bool = True  # it counts in the sums

    @property
    def cost(self) -> int:
        return _cost(self.entry)


@dataclass(slots=True)
class _Member:
    """A member ever known; there are 65,535 ids at most."""

    first: int  # known since
    since: int | None  # present since
    settled: int = _NEVER  # when it had last been present for SETTLE_MS at a stretch

    def settled_at(self, now: int) -> int:
        if self.since is not None and now - self.since >= SETTLE_MS:
            return now
        return self.settled


class _Sums:
    """Count and XOR by bucket, over the names that two nodes keep."""

    __slots__ = ("counts", "marks")

    def __init__(self) -> None:
        self.counts = [0] * BUCKETS
        self.marks = [0] * BUCKETS

    def add(self, item: Item, sign: int) -> None:
        self.counts[item.digest[0]] += sign
        self.marks[item.digest[0]] ^= item.mark


class Catalog:
    """The state machine, driven as the scheduler is."""

    def __init__(self, me: int, clock: Clock, keepers: int = KEEPERS) -> None:
        """The catalog of node `me`, whose versions `clock` draws; `keepers` of each name, the same
        at all nodes."""
        self._me = me
        self._clock = clock
        self._count = keepers
        self._slots: dict[bytes, _Slot] = {}
        self._buckets: list[set[bytes]] = [set() for _ in range(BUCKETS)]
        self._names: list[tuple[bytes, bytes]] = []  # of manifests, sorted, with their digests
        self._former: set[bytes] = set()  # not this node's to keep
        self._bytes = 0
        self._sums: dict[int, _Sums] = {}
        self._members: dict[int, _Member] = {}
        self._present = {me}
        self._anew: set[int] = set()  # came since all entries were last looked at
        self._placement = Placement([Budget(me, 0)])
        self._round = 0  # changes of members
        self._scan: list[bytes] = []  # entries to be looked at
        self._queue: dict[tuple[int, int, bytes], None] = {}  # kind, node, what; oldest first
        self._turn = 0  # who was last compared with
        self._agenda = Agenda()
        self._now = 0
        self._out: list[Effect] = []
        self._handlers: dict[type, Callable[[Any], None]] = {
            MemberSeen: self._on_seen,
            MemberLost: self._on_lost,
            EntryOffered: self._on_offered,
            EntryAsked: self._on_asked,
            ListAsked: self._on_list,
            SumsHeard: self._on_sums,
            ListingHeard: self._on_listing,
            HeldHeard: self._on_held,
            TimePassed: self._on_time,
        }

    # ---- the face ----

    def handle(self, event: Event, now: int) -> list[Effect]:
        """Takes one event; `now` in milliseconds, never smaller than before."""
        self._now = now
        self._handlers[type(event)](event)
        if (_STEP, 0) not in self._agenda:
            self._step()
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> int | None:
        """When TimePassed is due, or None."""
        return self._agenda.next()

    def get(self, digest: bytes) -> Entry | None:
        """What a name stands for, as far as this node knows."""
        slot = self._slots.get(digest)
        return slot.entry if slot is not None else None

    def __len__(self) -> int:
        """Entries here, tombstones too."""
        return len(self._slots)

    @property
    def used_bytes(self) -> int:
        """What they take, about."""
        return self._bytes

    def validate(self) -> None:
        """Raises AssertionError if an invariant does not hold."""
        sums: dict[int, _Sums] = {}
        for digest, slot in self._slots.items():
            assert digest == slot.entry.digest, "an entry is kept under another's digest"
            assert slot.item == slot.entry.item()
            assert digest in self._buckets[digest[0]]
            assert (digest in self._former) == (self._me not in slot.keepers)
            waits = (_TOMBSTONE, digest) in self._agenda
            assert waits == slot.entry.is_tombstone, "a tombstone forever, or a manifest not"
            for node in self._shared_with(slot):
                sums.setdefault(node, _Sums()).add(slot.item, 1)
        for node in sums.keys() | self._sums.keys():
            mine, true = self._sums.get(node, _Sums()), sums.get(node, _Sums())
            assert (mine.counts, mine.marks) == (true.counts, true.marks), "sums are wrong"
        files = [s.entry for s in self._slots.values() if not s.entry.is_tombstone]
        assert self._names == sorted((entry.name, entry.digest) for entry in files)
        assert sum(map(len, self._buckets)) == len(self._slots) <= ENTRIES_MAX
        assert self._bytes == sum(slot.cost for slot in self._slots.values()) <= BYTES_MAX
        assert self._former <= self._slots.keys(), "former, and forgotten"
        assert len(self._queue) <= QUEUE_MAX
        assert not (self._queue or self._scan) or (_STEP, 0) in self._agenda, "nobody would send"
        alone = self._present == {self._me}
        assert alone or (_COMPARE, 0) in self._agenda, "nobody would compare"

    # ---- members ----

    def _on_seen(self, event: MemberSeen) -> None:
        node = event.id
        if node == self._me:
            return
        if node in self._present:
            self._forget_sent(node)
        member = self._members.setdefault(node, _Member(self._now, None))
        member.settled = member.settled_at(self._now)
        member.since = self._now
        self._present.add(node)
        self._anew.add(node)
        self._members_changed()

    def _on_lost(self, event: MemberLost) -> None:
        if event.id == self._me or event.id not in self._present:
            return
        member = self._members[event.id]
        member.settled = member.settled_at(self._now)
        member.since = None
        self._present.discard(event.id)
        self._forget_sent(event.id)
        self._members_changed()

    def _forget_sent(self, node: int) -> None:
        """What waits for a member that has gone, or has been started anew, is moot."""
        self._queue = {key: None for key in self._queue if key[1] != node}

    def _members_changed(self) -> None:
        self._round += 1
        self._placement = Placement([Budget(node, 0) for node in self._present])
        self._scan = list(self._slots)
        if self._present == {self._me}:
            self._agenda.cancel((_COMPARE, 0))
        elif (_COMPARE, 0) not in self._agenda:
            self._agenda.set((_COMPARE, 0), self._now + COMPARE_MS)

    def _keepers(self, digest: bytes) -> tuple[int, ...]:
        return self._placement.keepers(digest, self._count)

    def _keeps(self, digest: bytes) -> bool:
        return self._me in self._keepers(digest)

    def _look(self, digest: bytes) -> None:
        """Places an entry anew, and lists it to those who may lack it."""
        slot = self._slots.get(digest)
        if slot is None:
            return
        if slot.round != self._round:
            slot.round, slot.confirmed = self._round, frozenset()
        before = set(slot.keepers) - self._anew
        self._place(slot)
        have = slot.confirmed if digest in self._former else before
        for node in slot.keepers:
            if node != self._me and node not in have:
                self._enqueue(_ITEM, node, digest)

    def _place(self, slot: _Slot) -> None:
        digest = slot.entry.digest
        self._count_in_sums(slot, -1)
        slot.keepers = self._keepers(digest)
        self._count_in_sums(slot, 1)
        if self._me in slot.keepers:
            self._former.discard(digest)
        else:
            self._former.add(digest)

    # ---- entries ----

    def _on_offered(self, event: EntryOffered) -> None:
        entry = event.entry
        slot = self._slots.get(entry.digest)
        refused = self._refused(entry, slot, event.unix_ms)
        if refused is not None:
            self._out.append(Refuse(event.node, event.ticket, *refused))
            return
        if slot is None or greater(slot.entry, entry) is not slot.entry:
            slot = self._take(slot, event)
        elif event.node and slot.entry.rank > entry.rank:
            if event.node in slot.keepers or slot.entry.version == entry.version:
                self._enqueue(_ENTRY, event.node, entry.digest)
        superseded = slot.entry.rank > entry.rank
        self._out.append(Kept(event.node, event.ticket, slot.entry.version, superseded))

    def _refused(self, entry: Entry, slot: _Slot | None, unix_ms: int) -> tuple[Why, str] | None:
        if not is_name(entry.name):
            return Why.NAME, f"a name is 1 to {NAME_BYTES_MAX} bytes of UTF-8"
        if len(entry.payload) > PAYLOAD_BYTES_MAX:
            return Why.LONG, f"a manifest is {PAYLOAD_BYTES_MAX} bytes at most"
        if not self._clock.heard(entry.version, unix_ms):
            return Why.AHEAD, f"version {entry.version.ms} ms is too far ahead of {unix_ms} ms"
        grows = _cost(entry) - (slot.cost if slot is not None else 0)
        if slot is not None and (grows <= 0 or greater(slot.entry, entry) is slot.entry):
            return None
        new = slot is None
        if len(self._slots) + new > ENTRIES_MAX or self._bytes + grows > BYTES_MAX:
            text = f"the catalog of node {self._me} is full: {len(self._slots)} names of "
            text += f"{ENTRIES_MAX}, {self._bytes} bytes of {BYTES_MAX}"
            return Why.FULL, text
        return None

    def _take(self, slot: _Slot | None, event: EntryOffered) -> _Slot:
        entry = event.entry
        old = slot.entry if slot is not None else None
        if slot is not None:
            self._remove(slot)
        slot = _Slot(entry, entry.item(), round=self._round)
        if entry.is_tombstone:
            self._bury(slot, event)
        else:
            insort(self._names, (entry.name, entry.digest))
        self._slots[entry.digest] = slot
        self._buckets[entry.digest[0]].add(entry.digest)
        self._bytes += slot.cost
        self._place(slot)
        if entry.digest in self._former:
            self._look(entry.digest)
        self._out.append(Changed(old, entry))
        return slot

    def _remove(self, slot: _Slot) -> None:
        entry = slot.entry
        self._count_in_sums(slot, -1)
        if entry.is_tombstone:
            self._agenda.cancel((_TOMBSTONE, entry.digest))
        else:
            del self._names[bisect_left(self._names, (entry.name, entry.digest))]
        del self._slots[entry.digest]
        self._buckets[entry.digest[0]].discard(entry.digest)
        self._former.discard(entry.digest)
        self._bytes -= slot.cost

    def _on_asked(self, event: EntryAsked) -> None:
        self._out.append(Give(event.ticket, self.get(event.digest)))

    def _on_list(self, event: ListAsked) -> None:
        names, prefix = self._names, event.prefix
        place = bisect_left(names, (prefix, b""))
        if event.after >= prefix:
            place = bisect_right(names, event.after, key=lambda pair: pair[0])
        rows: list[Row] = []
        left = ROWS_BYTES_MAX
        limit = min(event.limit, ROWS_MAX)
        while place < len(names) and names[place][0].startswith(prefix):
            name, digest = names[place]
            left -= len(name)
            if len(rows) >= limit or (left < 0 and rows):
                self._out.append(GivePage(event.ticket, rows, True))
                return
            entry = self._slots[digest].entry
            rows.append(Row(name, entry.version, entry.size))
            place += 1
        self._out.append(GivePage(event.ticket, rows, False))

    # ---- tombstones ----

    def _bury(self, slot: _Slot, event: EntryOffered) -> None:
        """Sets how long a tombstone stays. One that comes late is kept for a while nevertheless, so
        that who hands it over can hear that it is held."""
        slot.made = self._now - event.age_ms
        slot.compared = event.age_ms < TOMBSTONE_MS
        due = slot.made + TOMBSTONE_MS if slot.compared else self._now + RECHECK_MS
        self._agenda.set((_TOMBSTONE, slot.entry.digest), due)
        for node in event.awaited:
            if node != self._me:
                self._members.setdefault(node, _Member(slot.made, None))

    def _awaited(self, slot: _Slot) -> tuple[int, ...]:
        """The members for whose sake a tombstone is kept on."""
        made, until, now = slot.made, slot.made + SETTLE_MS, self._now
        known = self._members.items()
        return tuple([n for n, m in known if m.first <= made and m.settled_at(now) < until])

    def _tombstone_due(self, digest: bytes) -> None:
        slot = self._slots[digest]
        self._count_in_sums(slot, -1)
        slot.compared = False
        if self._now - slot.made < TOMBSTONE_MS_MAX and self._awaited(slot):
            self._agenda.set((_TOMBSTONE, digest), self._now + RECHECK_MS)
        else:
            self._remove(slot)

    # ---- comparing ----

    def _shared_with(self, slot: _Slot) -> list[int]:
        """The other keepers in whose sums an entry counts."""
        if not slot.compared or self._me not in slot.keepers:
            return []
        return [node for node in slot.keepers if node != self._me]

    def _count_in_sums(self, slot: _Slot, sign: int) -> None:
        for node in self._shared_with(slot):
            sums = self._sums.setdefault(node, _Sums())
            sums.add(slot.item, sign)
            if not any(sums.counts):
                del self._sums[node]

    def _compare(self) -> None:
        """The next of those that share names is sent the sums; who was a keeper asks again."""
        if not self._scan:
            self._scan = list(self._former)
        self._agenda.set((_COMPARE, 0), self._now + COMPARE_MS)
        nodes = sorted(self._sums.keys() & self._present)
        if nodes:
            self._turn = nodes[bisect_right(nodes, self._turn) % len(nodes)]
            sums = self._sums[self._turn]
            self._out.append(SendSums(self._turn, tuple(sums.counts), tuple(sums.marks)))

    def _on_sums(self, event: SumsHeard) -> None:
        if event.node not in self._present:
            return
        mine = self._sums.get(event.node) or _Sums()
        for bucket in range(BUCKETS):
            theirs = (event.counts[bucket], event.marks[bucket])
            if theirs != (mine.counts[bucket], mine.marks[bucket]):
                self._enqueue(_PAGE, event.node, bytes([bucket]))

    def _between(self, node: int, after: bytes, end: bytes) -> list[bytes]:
        """Digests of one bucket in what is compared with a node, sorted."""
        found = []
        for digest in self._buckets[end[0]]:
            if after < digest <= end and node in self._shared_with(self._slots[digest]):
                found.append(digest)
        return sorted(found)

    def _send_page(self, node: int, after: bytes) -> None:
        """Lists a bucket from a digest on, or from its first byte alone."""
        end = after[:1] + _LAST
        digests = self._between(node, after, end)
        if len(digests) > PAGE_MAX:
            end = digests[PAGE_MAX - 1]
            self._enqueue(_PAGE, node, end)
        items = [self._slots[digest].item for digest in digests[:PAGE_MAX]]
        self._out.append(SendListing(node, self._round, items, after, end))

    def _on_listing(self, event: ListingHeard) -> None:
        node = event.node
        held: list[Item] = []
        wanted: list[bytes] = []
        for item in event.items:
            digest, slot = item.digest, self._slots.get(item.digest)
            if slot is None or slot.item.version < item.version:
                if self._keeps(digest):
                    wanted.append(digest)
                continue
            if slot.item.version == item.version and slot.item.mark != item.mark:
                wanted.append(digest)
                self._enqueue(_ENTRY, node, digest)
            elif slot.item.version > item.version and node in self._keepers(digest):
                self._enqueue(_ENTRY, node, digest)
            if not event.end and self._keeps(digest):
                held.append(slot.item)
        if event.end:
            listed = {item.digest for item in event.items}
            for digest in self._between(node, event.after, event.end):
                if digest not in listed:
                    self._enqueue(_ENTRY, node, digest)
        if held or wanted:
            self._out.append(SendHeld(node, event.round, held, wanted))

    def _on_held(self, event: HeldHeard) -> None:
        for digest in event.wanted:
            if digest in self._slots:
                self._enqueue(_ENTRY, event.node, digest)
        if event.round != self._round:
            return
        for item in event.held:
            slot = self._slots.get(item.digest)
            if slot is None or not (item.version > slot.item.version or item == slot.item):
                continue
            if item.digest in self._former and slot.round == self._round:
                slot.confirmed |= {event.node}
                if slot.confirmed.issuperset(slot.keepers):
                    self._remove(slot)

    # ---- what waits ----

    def _enqueue(self, kind: int, node: int, what: bytes) -> None:
        """What finds no room here comes up again when catalogs are compared."""
        if node in self._present and len(self._queue) < QUEUE_MAX:
            self._queue[kind, node, what] = None

    def _step(self) -> None:
        """Looks at some entries and sends some of what waits; the rest is for the next step."""
        room = (QUEUE_MAX - len(self._queue)) // self._count
        for _ in range(min(SCAN_MAX, room, len(self._scan))):
            self._look(self._scan.pop())
        if not self._scan:
            self._anew.clear()
        listed: dict[int, list[Item]] = {}
        left = STEP_BYTES_MAX
        keys = list(islice(self._queue, STEP_MAX))
        for key in keys:
            kind, node, what = key
            slot = self._slots.get(what)
            if kind == _ENTRY and slot is not None:
                if left < STEP_BYTES_MAX and slot.cost > left:
                    break
                left -= slot.cost
                self._send_entry(node, slot)
            del self._queue[key]
            if kind == _PAGE:
                self._send_page(node, what)
            elif kind == _ITEM and slot is not None:
                listed.setdefault(node, []).append(slot.item)
        for node, items in listed.items():
            self._out.append(SendListing(node, self._round, items))
        if keys or self._scan:
            self._agenda.set((_STEP, 0), self._now + STEP_MS)

    def _send_entry(self, node: int, slot: _Slot) -> None:
        if slot.entry.is_tombstone:
            age_ms, awaited = self._now - slot.made, self._awaited(slot)
            self._out.append(SendEntry(node, slot.entry, age_ms, awaited))
        else:
            self._out.append(SendEntry(node, slot.entry, 0, ()))

    def _on_time(self, event: TimePassed) -> None:
        while (key := self._agenda.pop(self._now)) is not None:
            kind, what = key
            if kind == _COMPARE:
                self._compare()
            elif kind == _TOMBSTONE:
                self._tombstone_due(what)


def is_name(name: bytes) -> bool:
    """Whether bytes can be a name."""
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return 0 < len(name) <= NAME_BYTES_MAX


def _cost(entry: Entry) -> int:
    return ENTRY_BYTES + len(entry.name) + len(entry.payload)
