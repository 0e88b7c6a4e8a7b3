"""How whole the files are: the first keeper of each name looks whether its chunks are there.

Owns: which names have been looked at since members were lost, and what was found. Refuses to know:
links, and how copies are made again (`holdings.py`). docs/storage.md, section 6.

    event                          then
    members changed                SETTLE_MS later: all names whose first keeper this node is
    a name                         its keys, STEP_KEYS at a time, are asked of their holders
    all asked have answered        what too few have is asked of all other members
    these too                      counted; the next keys, or the next name, STEP_MS later
    all names looked at            those not whole again after AGAIN_MS; all after REST_MS, and each
                                   time twice as long, up to ALL_MS

All are soon looked at once more because entries come from other keepers, and copies are made, a
while after the members have changed. A member that does not answer has nothing. What is found is of
a version: a name put anew is whole, because its put was not acknowledged before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from .agenda import Agenda
from .filetypes import (
    CARE_AT_RISK,
    CARE_DAMAGED,
    CARE_UNKNOWN,
    CARE_WHOLE,
    OFFERED_HAVE,
    OFFERED_SPARE,
    Coding,
    Digest,
    Entry,
    Key,
    Manifest,
    entry_of,
    stripe_key,
)
from .hybridclock import Version
from .names import START
from .placement import Budget, Placement

SETTLE_MS: Final = 2500  # repair begins after 2 s: what is missing by then is worth a look
STEP_MS: Final = 20  # between two steps: other work of the node comes in between
STEP_KEYS: Final = 256  # 1.5 ms of placing with 16 members
ENTRIES_MAX: Final = 500  # looked at in a step: most are small and have no chunks
AGAIN_MS: Final = 1000
REST_MS: Final = 15_000  # keepers compare their entries each 10 s
ALL_MS: Final = 600_000
ANSWER_MS: Final = 5000  # who has not answered by then is taken to have nothing

_STEP, _WALK, _AGAIN, _ANSWER = range(4)


class Names(Protocol):
    """What is needed of the entries kept here."""

    def next(self, after: Digest) -> tuple[Digest, tuple[Any, ...]] | None:
        """The entry with the least digest above `after`, plain."""

    def get(self, digest: Digest) -> tuple[Any, ...] | None:
        """What a name stands for, plain."""


# ---- events ----


@dataclass(slots=True)
class MembersChanged:
    """The live full members and their budgets, this node included."""

    budgets: Sequence[Budget]


@dataclass(slots=True)
class Answered:
    """A member's answer to Ask: an OFFERED_* for each key; none if it was lost."""

    node: int
    ticket: int
    states: Sequence[int]


@dataclass(slots=True)
class TimePassed:
    """A deadline may have come."""


Event = MembersChanged | Answered | TimePassed


@dataclass(slots=True)
class Ask:
    """Ask a member, perhaps this one, which of these chunks it has. Ends in Answered."""

    node: int
    ticket: int
    keys: tuple[Key, ...]


class Found(NamedTuple):
    """A file that is not whole."""

    version: Version
    care: int  # CARE_AT_RISK or CARE_DAMAGED
    missing: int  # copies or shards that lack; chunks that are nowhere


class _Look:
    """One name being looked at."""

    __slots__ = ("asked", "at", "digest", "entry", "gone", "had", "keys", "lacking", "second")

    def __init__(self, digest: Digest, entry: Entry) -> None:
        self.digest = digest
        self.entry = entry
        self.at = 0  # index of the first key of this step
        self.keys: tuple[Key, ...] = ()  # of this step
        self.had: dict[int, set[int]] = {}  # index: who has it
        self.asked: dict[int, tuple[int, tuple[int, ...]]] = {}  # ticket: node, indexes
        self.second = False  # all members are asked
        self.lacking = 0
        self.gone = 0


class Care:
    """The state machine, driven as the catalog is."""

    def __init__(self, me: int, names: Names) -> None:
        self._me = me
        self._names = names
        self._members: tuple[int, ...] = ()
        self._placement = Placement([])
        self._after: Digest | None = None  # where the walk is; None: it has ended
        self._again: list[Digest] = []
        self._look: _Look | None = None
        self._found: dict[Digest, Found] = {}
        self._whole = False  # a walk has ended since members changed
        self._rest_ms = REST_MS  # until the next walk
        self._ticket = 0
        self._agenda = Agenda()
        self._now = 0
        self._out: list[Ask] = []

    def handle(self, event: Event, now: int) -> list[Ask]:
        """Takes one event; `now` in milliseconds, never smaller than before."""
        self._now = now
        if isinstance(event, MembersChanged):
            self._on_members(event)
        elif isinstance(event, Answered):
            self._on_answered(event)
        else:
            self._on_time()
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> int | None:
        """When TimePassed is due, or None."""
        return self._agenda.next()

    def of(self, digest: Digest, version: Version) -> tuple[int, int]:
        """(CARE_*, missing) of a version, as last found."""
        found = self._found.get(digest)
        if found is not None and found.version == version:
            return found.care, found.missing
        return (CARE_WHOLE if self._whole else CARE_UNKNOWN), 0

    def counts(self) -> tuple[int, int, bool]:
        """Files at risk, damaged; whether all were looked at since the members last changed."""
        damaged = sum(found.care == CARE_DAMAGED for found in self._found.values())
        return len(self._found) - damaged, damaged, self._whole

    def validate(self) -> None:
        """Raises AssertionError if an invariant does not hold."""
        busy = self._look is not None and bool(self._look.asked)
        assert busy == ((_ANSWER, 0) in self._agenda), "asked, and no deadline"
        if self._look is not None or self._again:
            assert busy or (_STEP, 0) in self._agenda, "nobody would go on"
        walks = self._after is not None or (_WALK, 0) in self._agenda
        assert walks or not self._members, "nobody would look"

    # ---- when ----

    def _on_members(self, event: MembersChanged) -> None:
        self._members = tuple(sorted(budget.id for budget in event.budgets))
        self._placement = Placement(event.budgets)
        self._whole = False
        self._rest_ms = REST_MS
        self._look, self._after, self._again = None, None, []
        for kind in (_STEP, _AGAIN, _ANSWER):
            self._agenda.cancel((kind, 0))
        self._agenda.set((_WALK, 0), self._now + SETTLE_MS)

    def _on_time(self) -> None:
        while (key := self._agenda.pop(self._now)) is not None:
            kind = key[0]
            if kind == _ANSWER:
                self._silent()
            elif kind == _STEP:
                self._step()
            else:
                idle = self._look is None and (_STEP, 0) not in self._agenda
                if kind == _WALK:
                    self._after = START
                else:
                    self._again = sorted(self._found)
                if idle:
                    self._step()

    def _step(self) -> None:
        """The next keys, or the next name, or the end of the walk."""
        if self._look is None:
            self._look = self._next_name()
        if self._look is not None:
            self._ask_holders(self._look)
        elif self._after is not None:
            self._agenda.set((_STEP, 0), self._now + STEP_MS)
        else:
            self._rest()

    def _rest(self) -> None:
        """All have been looked at for now."""
        if self._found:
            self._agenda.set((_AGAIN, 0), self._now + AGAIN_MS)
        if (_WALK, 0) not in self._agenda:
            self._agenda.set((_WALK, 0), self._now + self._rest_ms)
            self._rest_ms = min(2 * self._rest_ms, ALL_MS)

    def _next_name(self) -> _Look | None:
        """None: no more of this walk, or of this step."""
        while self._again:
            digest = self._again.pop()
            plain = self._names.get(digest)
            if plain is not None and self._is_mine(digest, entry_of(plain)):
                return _Look(digest, entry_of(plain))
            self._found.pop(digest, None)
        for _ in range(ENTRIES_MAX):
            if self._after is None:
                return None
            step = self._names.next(self._after)
            if step is None:
                self._after = None
                self._whole = True
                return None
            self._after, plain = step
            if self._is_mine(self._after, entry_of(plain)):
                return _Look(self._after, entry_of(plain))
            self._found.pop(self._after, None)
        return None

    def _is_mine(self, digest: Digest, entry: Entry) -> bool:
        manifest = entry.manifest
        if manifest is None or not manifest.keys:
            return False
        return self._placement.keepers(digest, 1) == (self._me,)

    # ---- one name ----

    def _ask_holders(self, look: _Look) -> None:
        manifest = _manifest(look.entry)
        width = manifest.coding.k + manifest.coding.m if manifest.coding.m else 1
        count = max(width, STEP_KEYS // width * width)
        look.keys = manifest.keys[look.at : look.at + count]
        look.had = {}
        look.second = False
        wanted: dict[int, list[int]] = {}
        for index in range(len(look.keys)):
            for node in self._holders(manifest, look, index):
                wanted.setdefault(node, []).append(index)
        self._ask(look, wanted)

    def _holders(self, manifest: Manifest, look: _Look, index: int) -> tuple[int, ...]:
        k, m = manifest.coding
        if not m:
            return self._placement.holders(look.keys[index], k)
        first = index - index % (k + m)
        stripe = stripe_key(look.keys[first : first + k])
        holders = self._placement.stripe(stripe, k + m)
        return holders[index % (k + m) : index % (k + m) + 1]

    def _ask(self, look: _Look, wanted: dict[int, list[int]]) -> None:
        for node, indexes in sorted(wanted.items()):
            self._ticket += 1
            look.asked[self._ticket] = (node, tuple(indexes))
            keys = tuple(look.keys[index] for index in indexes)
            self._out.append(Ask(node, self._ticket, keys))
        if wanted:
            self._agenda.set((_ANSWER, 0), self._now + ANSWER_MS)
        else:
            self._count(look)

    def _on_answered(self, event: Answered) -> None:
        look = self._look
        asked = look.asked.pop(event.ticket, None) if look is not None else None
        if look is None or asked is None:
            return
        node, indexes = asked
        for index, state in zip(indexes, event.states, strict=False):
            if state in (OFFERED_HAVE, OFFERED_SPARE):
                look.had.setdefault(index, set()).add(node)
        if not look.asked:
            self._heard(look)

    def _silent(self) -> None:
        if self._look is not None:
            self._look.asked.clear()
            self._heard(self._look)

    def _heard(self, look: _Look) -> None:
        self._agenda.cancel((_ANSWER, 0))
        manifest = _manifest(look.entry)
        enough = 1 if manifest.coding.m else manifest.coding.k
        short = [i for i in range(len(look.keys)) if len(look.had.get(i, ())) < enough]
        if short and not look.second:
            look.second = True
            wanted: dict[int, list[int]] = {}
            for index in short:
                holders = self._holders(manifest, look, index)
                for node in self._members:
                    if node not in holders:
                        wanted.setdefault(node, []).append(index)
            self._ask(look, wanted)
        else:
            self._count(look)

    def _count(self, look: _Look) -> None:
        """What this step's keys lack; then the next ones, or the verdict."""
        manifest = _manifest(look.entry)
        counts = [len(look.had.get(index, ())) for index in range(len(look.keys))]
        lack, gone = lacking(manifest.coding, counts)
        look.lacking += lack
        look.gone += gone
        look.at += len(look.keys)
        if look.at >= len(manifest.keys):
            self._judge(look)
            self._look = None
        self._agenda.set((_STEP, 0), self._now + STEP_MS)

    def _judge(self, look: _Look) -> None:
        version = look.entry.version
        if look.gone:
            self._found[look.digest] = Found(version, CARE_DAMAGED, look.gone)
        elif look.lacking:
            self._found[look.digest] = Found(version, CARE_AT_RISK, look.lacking)
        else:
            self._found.pop(look.digest, None)


def lacking(coding: Coding, counts: Sequence[int]) -> tuple[int, int]:
    """(copies or shards that lack, chunks that are nowhere) of keys, whole stripes of them, of
    which so many copies are known."""
    k, m = coding
    if not m:
        return sum(max(0, k - count) for count in counts), sum(not count for count in counts)
    lack = gone = 0
    for first in range(0, len(counts), k + m):
        there = [count > 0 for count in counts[first : first + k + m]]
        lack += k + m - sum(there)
        if sum(there) < k:
            gone += k - sum(there[:k])
    return lack, gone


def _manifest(entry: Entry) -> Manifest:
    assert entry.manifest is not None, "a tombstone has no chunks"
    return entry.manifest
