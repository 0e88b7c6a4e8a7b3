"""The names in a node's keeping: that all keepers of a name say the same.

Owns: when entries are compared with another keeper, listed, sent, handed over and forgotten, and
how long a tombstone is kept. Refuses to know: links, frames, clocks, chunks, what a manifest says,
and where entries lie: they are in a store (`names.py`) that merges most of them without a word to
this policy. docs/storage.md is the whole protocol; its section 4 is coded here.

An entry's way at one node:

    state    event                                   then
    -        merged, and this node keeps the name    KEPT
    -        merged, and it does not                 FORMER
    any      merged: too far ahead                   refused; the clock has not heard of it
    -        merged, no room                         refused; nothing is dropped to make room
    any      a greater one merged                    it is that one; a longer without room: refused
    any      a lesser one offered                    Kept, with the version here, which is sent to
                                                     the offerer if it is a keeper
    KEPT     other keepers                           listed to the new ones, who ask for what lacks
    KEPT     no keeper any more                      FORMER: listed to all keepers, again and again
    FORMER   keeper again                            KEPT
    FORMER   every keeper holds that or a greater    forgotten
    any      a tombstone, 24 h old                   not compared; forgotten if it awaits nobody
    any      it awaits nobody any more, or 7 days    forgotten

Offered here are tombstones, and what a keeper holds against a tombstone: all else the store merges,
and answers, alone.

**A node says that it holds an entry only while it is a keeper by the members that it knows**, and
what is said counts for the asker only if it asked since its own members last changed: nobody
forgets on the word of one that is about to forget too. Of the live nodes the first in the order of
the name's digest is always a keeper by its own view, however views differ, and does not forget.

How many keepers a name has its entry says, and each mark. A put may ask for fewer than there were:
those beyond have the old entry still, and would hand it to each other, and to those that have
forgotten it, for ever. So where two entries meet the greater takes over the more keepers, and is
then brought to all of them.

Keepers compare: each COMPARE_MS one of those that share names with this node is sent count and XOR
of marks in 256 buckets. Where they differ it lists the bucket in pages, complete between two
digests, so this node sees what is older there or lacking, and sends it, and asks for what is newer.
Sums are kept up to date with every change, so a comparison costs nothing in proportion to names.

Everything that is sent unasked waits in one queue, emptied by a bounded step at a time. The queue
is bounded too: a walk through all entries after a change of members, or through the former ones,
waits for it, and what does not fit otherwise comes up again at the next comparison. What is known
of a hand-over is kept for HANDED_MAX entries; that of the eldest is forgotten for another's, and
asked for again in the next turn.

Tombstones: a deleted file must not come back with a node that was away and has its manifest yet. A
tombstone's age travels with it, so handing it on does not make it younger, and wall clocks have no
say. It *awaits* each member that was known when it was made and has not been present for SETTLE_MS
at a stretch since: by then, having come, it was listed what is its to keep, or has offered what is
not. Who is awaited travels too. The wait ends at TOMBSTONE_MS_MAX: a node that was away for longer
can bring a deleted file back.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from .agenda import Agenda
from .catalog_io import (
    Effect,
    EntryOffered,
    Event,
    HeldHeard,
    Kept,
    ListingHeard,
    MemberLost,
    MemberSeen,
    Refuse,
    SendEntry,
    SendHeld,
    SendListing,
    SendSums,
    SumsHeard,
    TimePassed,
)
from .filetypes import TOMBSTONE, Digest
from .names import BUCKETS, LATER, START, TAKEN, Grave, Item, Known, Names

COMPARE_MS: Final = 10_000  # 3 KiB each: nothing, and a lost message is made good in a few turns
STEP_MS: Final = 20  # between two steps: other work of the node comes in between
STEP_MAX: Final = 256  # listed or sent in a step
STEP_BYTES_MAX: Final = 256 << 10  # of entries sent in a step, or one: 13 MB/s
LOOK_MAX: Final = 2048  # entries passed in a step of a walk: 1 ms with 16 members
QUEUE_MAX: Final = 4096  # waiting to be listed or sent: a third of a second
PAGE_MAX: Final = 512  # items of a page of a bucket: 26 KB
PAGE_LOOK_MAX: Final = 16_384  # entries passed for it: four times a bucket of a full store
KEEPERS_MAX: Final = 34  # of a name
HANDED_MAX: Final = 8192  # former entries whose keepers are being asked: two seconds of asking
GRAVES_MAX: Final = 64  # old tombstones looked at in a step, each beside all members
GRAVES_MS: Final = 60_000  # between two walks over tombstones
AWAITED_MAX: Final = 255  # members that a tombstone is said to await
TOMBSTONE_MS: Final = 24 * 3_600_000  # longer than a network is broken unnoticed
TOMBSTONE_MS_MAX: Final = 7 * TOMBSTONE_MS  # for members that never come back
SETTLE_MS: Final = 6 * COMPARE_MS  # for a member that came to be listed all, and to compare
RECHECK_MS: Final = 600_000  # between two looks at whether a tombstone awaits anybody

_STEP, _COMPARE, _GRAVES = range(3)
_ENTRY, _ITEM, _PAGE = range(3)
_NEVER: Final = -(1 << 62)
_LAST: Final = b"\xff" * 31
_ROUNDS: Final = 1 << 32


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


@dataclass(slots=True)
class _Handed:
    """A former entry, and those of its keepers that hold it; heard since members changed."""

    item: Item
    confirmed: set[int]


class Catalog:
    """The state machine, driven as the scheduler is."""

    def __init__(self, me: int, names: Names) -> None:
        """The catalog of node `me` over its store."""
        self._me = me
        self._names = names
        self._members: dict[int, _Member] = {}
        self._present = {me}
        self._anew: set[int] = set()  # came since all entries were last looked at
        self._round = 0  # changes of members
        self._scan: Digest | None = None  # how far all entries have been looked at
        self._formers: Digest | None = None  # how far the former ones
        self._graves: Digest | None = None  # how far the tombstones
        self._graves_next = 0  # when to look again, as far as these say
        self._handed: dict[Digest, _Handed] = {}  # eldest first
        self._queue: dict[tuple[int, int, bytes], None] = {}  # kind, node, what; oldest first
        self._turn = 0  # who was last compared with
        self._agenda = Agenda()
        self._now = 0
        self._out: list[Effect] = []
        self._handlers: dict[type, Callable[[Any], None]] = {
            MemberSeen: self._on_seen,
            MemberLost: self._on_lost,
            EntryOffered: self._on_offered,
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

    def validate(self) -> None:
        """Raises AssertionError if an invariant does not hold."""
        _, tombstones, formers, *_ = self._names.figures()
        walks = (self._scan, self._formers, self._graves)
        busy = bool(self._queue) or any(walk is not None for walk in walks)
        assert not busy or (_STEP, 0) in self._agenda, "nobody would send"
        waits = self._graves is not None or (_GRAVES, 0) in self._agenda
        assert not tombstones or waits, "a tombstone forever"
        alone = self._present == {self._me}
        assert alone or (_COMPARE, 0) in self._agenda, "nobody would compare"
        assert not (alone and formers) or self._scan is not None, "handed over to nobody"
        assert len(self._queue) <= QUEUE_MAX
        assert len(self._handed) <= HANDED_MAX
        for digest, handed in self._handed.items():
            assert handed.item[0] == digest
            assert handed.confirmed <= self._present - {self._me}
        assert self._anew <= self._present
        assert not self._anew or self._scan is not None, "who came would not be listed"

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
        self._anew.discard(event.id)
        self._forget_sent(event.id)
        self._members_changed()

    def _forget_sent(self, node: int) -> None:
        """What waits for a member that has gone, or has been started anew, is moot."""
        self._queue = {key: None for key in self._queue if key[1] != node}

    def _members_changed(self) -> None:
        self._round = (self._round + 1) % _ROUNDS
        self._names.set_members(sorted(self._present))
        self._handed.clear()
        self._scan, self._formers = START, None
        if self._present == {self._me}:
            self._agenda.cancel((_COMPARE, 0))
        elif (_COMPARE, 0) not in self._agenda:
            self._agenda.set((_COMPARE, 0), self._now + COMPARE_MS)

    def _keepers(self, digest: Digest, mark: int) -> tuple[int, ...]:
        """By the members as they are now; a mark says how many."""
        return self._names.keepers(digest, mark & 0xFF)

    def _keeps(self, digest: Digest, mark: int) -> bool:
        return self._me in self._keepers(digest, mark)

    # ---- offers ----

    def _on_offered(self, event: EntryOffered) -> None:
        what, digest, kind, version = self._names.merge(event.entry, event.unix_ms, self._now)
        if what < 0:
            self._out.append(Refuse(event.node, event.ticket, -what))
            return
        _, offered, _, manifest, age_ms, awaited = event.entry
        if what == TAKEN and manifest is None:
            self._bury(digest, age_ms, awaited)
        if what == TAKEN:
            self._ask_keepers(digest)
        if what == LATER and event.node:
            known = self._names.known(digest)
            assert known is not None
            if event.node in self._keepers(digest, known[1]) or version == offered:
                self._enqueue(_ENTRY, event.node, digest)
        self._out.append(Kept(event.node, event.ticket, kind, version, what == LATER))

    def _ask_keepers(self, digest: Digest) -> None:
        """Hands an entry over at once if it is not this node's to keep."""
        known = self._names.known(digest)
        if known is not None and not self._keeps(digest, known[1]):
            self._hand_over((digest, known[0], known[1]))

    # ---- tombstones ----

    def _bury(self, digest: Digest, age_ms: int, awaited: tuple[int, ...]) -> None:
        """Sets how long a tombstone stays."""
        made = self._now - age_ms
        if age_ms >= TOMBSTONE_MS:
            self._names.retire(digest)
        for node in awaited:
            if node != self._me:
                self._members.setdefault(node, _Member(made, None))
        due = _due(made, self._now)
        if self._graves is not None:
            self._graves_next = min(self._graves_next, due)
        else:
            self._agenda.set((_GRAVES, 0), min(due, self._agenda.when((_GRAVES, 0), due)))

    def _awaited(self, made: int) -> tuple[int, ...]:
        """The members for whose sake a tombstone is kept on."""
        until, now = made + SETTLE_MS, self._now
        known = self._members.items()
        return tuple([n for n, m in known if m.first <= made and m.settled_at(now) < until])

    def _begin_graves(self) -> None:
        self._graves = START
        self._graves_next = self._now + TOMBSTONE_MS_MAX

    def _walk_graves(self, after: Digest) -> None:
        until = self._now - TOMBSTONE_MS
        graves, made, self._graves = self._names.graves(after, until, LOOK_MAX, GRAVES_MAX)
        for grave in graves:
            self._visit(grave)
        if made is not None:
            self._graves_next = min(self._graves_next, made + TOMBSTONE_MS)
        if self._graves is None and self._names.figures()[1]:
            self._agenda.set((_GRAVES, 0), max(self._graves_next, self._now + GRAVES_MS))

    def _visit(self, grave: Grave) -> None:
        """An old tombstone: it is not compared any more, and kept only if it awaits somebody. One
        that came late is kept for a while nevertheless, so that who hands it over can hear that it
        is held."""
        item, made, came = grave
        self._names.retire(item[0])
        again = _due(made, came)
        if again <= self._now:
            if self._now - made >= TOMBSTONE_MS_MAX or not self._awaited(made):
                self._names.forget(item)
                return
            again = self._now + RECHECK_MS
        self._graves_next = min(self._graves_next, again)

    # ---- comparing ----

    def _compare(self) -> None:
        """The next of those that share names is sent the sums; who was a keeper asks again."""
        self._agenda.set((_COMPARE, 0), self._now + COMPARE_MS)
        if self._scan is None and self._formers is None and self._names.figures()[2]:
            self._formers = START
        nodes = [node for node in self._names.sharing() if node in self._present]
        if nodes:
            self._turn = nodes[bisect_right(nodes, self._turn) % len(nodes)]
            counts, marks = self._names.sums(self._turn)
            self._out.append(SendSums(self._turn, counts, marks))

    def _on_sums(self, event: SumsHeard) -> None:
        if event.node not in self._present:
            return
        counts, marks = self._names.sums(event.node)
        for bucket in range(BUCKETS):
            theirs = (event.counts[bucket], event.marks[bucket])
            if theirs != (counts[bucket], marks[bucket]):
                self._enqueue(_PAGE, event.node, bytes([bucket]) + START[1:])

    def _send_page(self, node: int, after: Digest) -> None:
        """Lists a bucket from a digest on."""
        end = after[:1] + _LAST
        items, reached = self._names.shared(node, after, end, PAGE_LOOK_MAX, PAGE_MAX)
        if reached is not None:
            self._enqueue(_PAGE, node, reached)
            end = reached
        self._out.append(SendListing(node, self._round, items, after, end))

    def _on_listing(self, event: ListingHeard) -> None:
        held: list[Item] = []
        wanted: list[Digest] = []
        for item in event.items:
            digest, version, mark = item
            known = self._names.known(digest)
            if known is None or known[0] < version:
                if self._keeps(digest, mark):
                    wanted.append(digest)
                continue
            if known[0] == version and known[1] != mark:
                wanted.append(digest)
                self._enqueue(_ENTRY, event.node, digest)
            elif known[0] > version and self._is_keeper(event.node, digest, known, mark):
                self._enqueue(_ENTRY, event.node, digest)
            if not event.end and self._keeps(digest, known[1]):
                held.append((digest, known[0], known[1]))
        if event.end:
            self._send_unlisted(event)
        if held or wanted:
            self._out.append(SendHeld(event.node, event.round, held, wanted))

    def _is_keeper(self, node: int, digest: Digest, known: Known, mark: int) -> bool:
        """Whether a node is to have what is known here, or what it has listed has it for a
        keeper."""
        return node in self._names.keepers(digest, max(known[1] & 0xFF, mark & 0xFF))

    def _send_unlisted(self, event: ListingHeard) -> None:
        """What both should keep in a range that was listed without it."""
        node, room = event.node, QUEUE_MAX - len(self._queue)
        listed = {item[0] for item in event.items}
        limit = room + len(listed)
        items, _ = self._names.shared(node, event.after, event.end, PAGE_LOOK_MAX, limit)
        for digest, _, _ in items:
            if digest not in listed:
                self._enqueue(_ENTRY, node, digest)

    # ---- handing over ----

    def _hand_over(self, item: Item) -> None:
        """Lists a former entry to those of its keepers that have not said that they hold it."""
        digest = item[0]
        handed = self._handed.get(digest)
        if handed is None or handed.item != item:
            self._handed.pop(digest, None)
            if len(self._handed) >= HANDED_MAX:
                del self._handed[next(iter(self._handed))]
            handed = self._handed[digest] = _Handed(item, set())
        for node in self._keepers(digest, item[2]):
            if node != self._me and node not in handed.confirmed:
                self._enqueue(_ITEM, node, digest)

    def _on_held(self, event: HeldHeard) -> None:
        for digest in event.wanted:
            if self._names.known(digest) is not None:
                self._enqueue(_ENTRY, event.node, digest)
        if event.round != self._round:
            return
        for item in event.held:
            handed = self._handed.get(item[0])
            if handed is not None and (item[1] > handed.item[1] or item == handed.item):
                self._confirm(event.node, handed)

    def _confirm(self, node: int, handed: _Handed) -> None:
        digest, _, mark = handed.item
        keepers = self._keepers(digest, mark)
        if node not in keepers or self._me in keepers:
            return
        handed.confirmed.add(node)
        if handed.confirmed.issuperset(keepers):
            self._names.forget(handed.item)  # not what has taken its place meanwhile
            del self._handed[digest]

    # ---- what waits ----

    def _enqueue(self, kind: int, node: int, what: bytes) -> None:
        """What finds no room here comes up again when catalogs are compared."""
        if node in self._present and len(self._queue) < QUEUE_MAX:
            self._queue[kind, node, what] = None

    def _step(self) -> None:
        """Looks at some entries and sends some of what waits; the rest is for the next step."""
        if self._graves is not None:
            self._walk_graves(self._graves)
        if self._scan is not None:
            self._walk_all(self._scan)
        elif self._formers is not None:
            self._walk_formers(self._formers)
        sent = self._send_some()
        walks = (self._scan, self._formers, self._graves)
        if sent or any(walk is not None for walk in walks):
            self._agenda.set((_STEP, 0), self._now + STEP_MS)

    def _walk_all(self, after: Digest) -> None:
        room = QUEUE_MAX - len(self._queue)
        pairs, self._scan = self._names.scan(after, sorted(self._anew), LOOK_MAX, room)
        for node, digest in pairs:
            self._enqueue(_ITEM, node, digest)
        if self._scan is None:
            self._anew.clear()
            self._formers = START if self._names.figures()[2] else None

    def _walk_formers(self, after: Digest) -> None:
        room = (QUEUE_MAX - len(self._queue)) // KEEPERS_MAX
        items, self._formers = self._names.formers(after, LOOK_MAX, room)
        for item in items:
            self._hand_over(item)

    def _send_some(self) -> bool:
        listed: dict[int, list[Item]] = {}
        left = STEP_BYTES_MAX
        keys = list(islice(self._queue, STEP_MAX))
        for key in keys:
            kind, node, what = key
            known = self._names.known(what) if kind != _PAGE else None
            if kind == _ENTRY and known is not None:
                if left < STEP_BYTES_MAX and known[3] > left:
                    break
                left -= known[3]
                self._send_entry(node, what, known)
            del self._queue[key]
            if kind == _PAGE:
                self._send_page(node, what)
            elif kind == _ITEM and known is not None:
                listed.setdefault(node, []).append((what, known[0], known[1]))
        for node, items in listed.items():
            self._out.append(SendListing(node, self._round, items))
        return bool(keys)

    def _send_entry(self, node: int, digest: Digest, known: Known) -> None:
        _, _, kind, _, made = known
        if kind == TOMBSTONE:
            awaited = sorted(self._awaited(made))[:AWAITED_MAX]
            self._out.append(SendEntry(node, digest, self._now - made, tuple(awaited)))
        else:
            self._out.append(SendEntry(node, digest, 0, ()))

    def _on_time(self, event: TimePassed) -> None:
        while (key := self._agenda.pop(self._now)) is not None:
            kind, _ = key
            if kind == _COMPARE:
                self._compare()
            elif kind == _GRAVES:
                self._begin_graves()


def _due(made: int, came: int) -> int:
    """When a tombstone is old."""
    return made + TOMBSTONE_MS if came - made < TOMBSTONE_MS else came + RECHECK_MS
