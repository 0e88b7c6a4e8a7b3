"""Compare and set with a majority: both roles of a round, the proposer's and the acceptor's.

Owns: rounds, promises, who may vote, and what a caller is told. Refuses to know: links, clocks,
keys' values; a record is bytes here.

CASPaxos (Rystsov, "CASPaxos: Replicated State Machines without logs", 2018), a register of its own
for each key, without a leader. **The ballot is the stamp of the record that is to be written**: so
the order of ballots is the order by which the last writer wins, an accepted record merges and
travels as any other, and where two meet the one of the later ballot stays, everywhere.

    phase     asked of members       yes if                              and tells or does
    Prepare   key, ballot            it votes, and has promised the      promises; its version and
                                     key to no later ballot, and has     its latest stamp
                                     nothing later of it
    Accept    key, ballot, record    the same                            merges, syncs, answers

A majority of promises: if the version beside the latest stamp among them is the expected one, the
record is sent; else the caller hears CONFLICT and the version. A majority on disk: DONE. If that
cannot be any more, or not within ROUND_MS of the start: REFUSED before any Accept was sent, so that
surely nothing is written; after that UNCERTAIN: it may have been written, and may yet show.

    a promise                                     because
    is kept in memory, for PROMISE_REST_MS        a round is over long before that
    is not given, and nothing accepted, in        one that was given before may be forgotten
    the first PROMISE_REST_MS of a process
    only under an equal roster, by a voter        all majorities meet (`kvroster.py`)

A member that is away counts: a minority refuses rather than errs, whatever it takes for a majority.

**What it means beside plain writes.** Among compare-and-sets of a key, all with a majority, one
happens after another: of two that expect the same version at most one is DONE. A plain write asks
nobody. One that a majority has not heard of is not compared with; it may be overwritten by a record
with a later stamp, or hide one that was DONE, if its own is later: by the rule of the last writer,
as any two plain writes. So a key that is to be right is written by compare-and-set alone; its value
may be read anywhere, and is then perhaps not the latest.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Final, NamedTuple, Protocol

from . import kvtalk as talk
from .agenda import Agenda
from .kvroster import Roster
from .kvtalk import NEVER, Stamp

ROUND_MS: Final = 5000  # a caller waits so long, and a fsync of a slow disk takes a second
PROMISE_REST_MS: Final = 30_000  # six rounds
PROMISES_MAX: Final = 65_536  # keys promised at once: peers ask for them
ROUNDS_MAX: Final = 1024  # under way from here
_ROUND_MASK: Final = (1 << 64) - 1


class Keys(Protocol):
    """What is here of a key."""

    def version(self, key: bytes) -> tuple[Stamp, Stamp]:
        """Of what is visible (zeros: nothing), and the latest of all, tombstones too."""


class Why(IntEnum):
    """Why a node says no."""

    RESTING = 1  # it has just started
    ROSTER = 2  # its roster is another, or it does not vote under it
    LATER = 3  # it has promised the key to a later ballot, or has something later of it
    FULL = 4  # it could not take the record, or has too many promises


class Outcome(Enum):
    """How a round ends."""

    DONE = "done"  # a majority has it on disk
    CONFLICT = "conflict"  # the version is another
    BUSY = "busy"  # another round or write came first: nothing written, may be tried again at once
    REFUSED = "refused"  # no majority; nothing written
    UNCERTAIN = "uncertain"  # no majority has said that it is written, and it may be


# ---- events ----


@dataclass(frozen=True, slots=True)
class Asked:
    """A caller wants a key to become what a record says. `ballot`: that record's stamp, fresh."""

    token: int
    key: bytes
    expected: Stamp  # NEVER: nothing is to be there
    ballot: Stamp
    record: bytes


@dataclass(frozen=True, slots=True)
class Heard:
    """KV_TALK of a member whose link is of use."""

    node: int
    message: talk.Message


@dataclass(frozen=True, slots=True)
class Lost:
    """A member's link closed."""

    node: int


@dataclass(frozen=True, slots=True)
class Written:
    """A `Write` is done. `well`: the record, or what is later, is on disk."""

    node: int
    round: int
    well: bool


@dataclass(frozen=True, slots=True)
class TimePassed:
    """`next_deadline()` has come."""


Event = Asked | Heard | Lost | Written | TimePassed

# ---- effects ----


@dataclass(frozen=True, slots=True)
class Talk:
    """Send KV_TALK."""

    node: int
    message: talk.Message


@dataclass(frozen=True, slots=True)
class Write:
    """Merge the record, push it as one of this node's own, sync the log, then tell `Written`."""

    node: int
    round: int
    key: bytes
    ballot: Stamp  # a record whose key and stamp are not these is not merged: it did not go well
    record: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """The answer for a caller."""

    token: int
    outcome: Outcome
    version: Stamp  # DONE, UNCERTAIN: the new one; CONFLICT: the one that is there


Effect = Talk | Write | Ended


class _Promise(NamedTuple):
    ballot: Stamp
    until_ms: int


@dataclass(slots=True, eq=False)
class _Round:
    asked: Asked
    digest: int
    majority: int
    waiting: set[int]
    yes: dict[int, tuple[Stamp, Stamp]] = field(default_factory=dict)  # latest, version
    no: dict[int, int] = field(default_factory=dict)
    accepting: bool = False


class Cas:
    """See above. `now` is a monotonic clock, milliseconds; the process has just started."""

    def __init__(self, roster: Roster, keys: Keys, first_round: int, now: int) -> None:
        self._roster = roster
        self._keys = keys
        self._votes_from_ms = now + PROMISE_REST_MS
        self._promises: dict[bytes, _Promise] = {}  # the oldest first
        self._rounds: dict[int, _Round] = {}
        self._last = first_round & _ROUND_MASK  # random: answers to an earlier life are no answers
        self._writing: dict[tuple[int, int], None] = {}  # for others, under way
        self._agenda = Agenda()
        self._effects: list[Effect] = []
        self._now = now

    def next_deadline(self) -> int | None:
        """When `TimePassed` is due."""
        return self._agenda.next()

    def handle(self, event: Event, now: int, joined: Collection[int] = ()) -> list[Effect]:
        """What is to be done about an event; `joined`: members whose links are of use."""
        self._now = now
        self._time_passed()
        match event:
            case Asked():
                self._asked(event, joined)
            case Heard(node, message):
                self._heard(node, message)
            case Lost(node):
                for key in [key for key in self._writing if key[0] == node]:
                    del self._writing[key]
                for number in list(self._rounds):
                    self._no(number, node, 0)
            case Written(node, round, well):
                self._written(node, round, well)
        effects, self._effects = self._effects, []
        return effects

    def _talk(self, node: int, message: talk.Message) -> None:
        """To a member; to oneself at once."""
        if node == self._roster.me.id:
            self._heard(node, message)
        else:
            self._effects.append(Talk(node, message))

    def _heard(self, node: int, message: talk.Message) -> None:
        match message:
            case talk.Prepare():
                self._prepare(node, message)
            case talk.Accept():
                self._accept(node, message)
            case talk.Promise(round, version, latest):
                self._promised(round, node, version, latest)
            case talk.Accepted(round):
                self._accepted(round, node)
            case talk.Declined(round, why):
                self._no(round, node, why)

    # ---- the acceptor ----

    def _objection(self, message: talk.Prepare | talk.Accept) -> Why | None:
        """Why it is not to be promised or accepted."""
        if self._now < self._votes_from_ms:
            return Why.RESTING
        if message.digest != self._roster.digest or not self._roster.confirmed:
            return Why.ROSTER
        held = self._promises.get(message.key)
        if held is not None and held.until_ms > self._now and held.ballot > message.ballot:
            return Why.LATER
        if self._keys.version(message.key)[1] > message.ballot:
            return Why.LATER
        return None

    def _promise(self, key: bytes, ballot: Stamp) -> bool:
        self._promises.pop(key, None)
        for old in list(self._promises):
            if self._promises[old].until_ms > self._now:
                break
            del self._promises[old]
        if len(self._promises) >= PROMISES_MAX:
            return False
        self._promises[key] = _Promise(ballot, self._now + PROMISE_REST_MS)
        return True

    def _prepare(self, node: int, message: talk.Prepare) -> None:
        why = self._objection(message)
        if why is None and not self._promise(message.key, message.ballot):
            why = Why.FULL
        if why is not None:
            self._talk(node, talk.Declined(message.round, why))
            return
        version, latest = self._keys.version(message.key)
        self._talk(node, talk.Promise(message.round, version, latest))

    def _accept(self, node: int, message: talk.Accept) -> None:
        why = self._objection(message)
        if why is None and not self._promise(message.key, message.ballot):
            why = Why.FULL
        if why is not None:
            self._talk(node, talk.Declined(message.round, why))
            return
        self._writing[node, message.round] = None
        self._effects.append(
            Write(node, message.round, message.key, message.ballot, message.record)
        )

    def _written(self, node: int, round: int, well: bool) -> None:
        if (node, round) not in self._writing:
            return
        del self._writing[node, round]
        self._talk(node, talk.Accepted(round) if well else talk.Declined(round, Why.FULL))

    # ---- the proposer ----

    def _asked(self, asked: Asked, joined: Collection[int]) -> None:
        roster = self._roster
        here = {m.id for m in roster.members}
        reach = {roster.me.id, *joined} & here
        if len(reach) < roster.majority or roster.is_out or len(self._rounds) >= ROUNDS_MAX:
            self._effects.append(Ended(asked.token, Outcome.REFUSED, NEVER))
            return
        self._last = self._last + 1 & _ROUND_MASK
        number = self._last
        self._rounds[number] = _Round(asked, roster.digest, roster.majority, set(reach))
        self._agenda.set((0, number), self._now + ROUND_MS)
        for node in sorted(reach):
            self._talk(node, talk.Prepare(number, roster.digest, asked.ballot, asked.key))

    def _promised(self, number: int, node: int, version: Stamp, latest: Stamp) -> None:
        held = self._rounds.get(number)
        if held is None or held.accepting or node not in held.waiting:
            return
        held.waiting.discard(node)
        held.yes[node] = (latest, version)
        if len(held.yes) < held.majority:
            return
        asked = held.asked
        _, there = max(held.yes.values())
        if there != asked.expected:
            self._end(number, Outcome.CONFLICT, there)
            return
        held.accepting = True
        held.waiting = set(held.yes)
        held.yes, held.no = {}, {}
        for node in sorted(held.waiting):
            self._talk(
                node, talk.Accept(number, held.digest, asked.ballot, asked.key, asked.record)
            )

    def _accepted(self, number: int, node: int) -> None:
        held = self._rounds.get(number)
        if held is None or not held.accepting or node not in held.waiting:
            return
        held.waiting.discard(node)
        held.yes[node] = (NEVER, NEVER)
        if len(held.yes) >= held.majority:
            self._end(number, Outcome.DONE, held.asked.ballot)

    def _no(self, number: int, node: int, why: int) -> None:
        """A node says no, or nothing any more."""
        held = self._rounds.get(number)
        if held is None or node not in held.waiting:
            return
        held.waiting.discard(node)
        held.no[node] = why
        if len(held.yes) + len(held.waiting) >= held.majority:
            return
        if held.accepting:
            self._end(number, Outcome.UNCERTAIN, held.asked.ballot)
        elif Why.LATER in held.no.values():
            self._end(number, Outcome.BUSY, NEVER)
        else:
            self._end(number, Outcome.REFUSED, NEVER)

    def _end(self, number: int, outcome: Outcome, version: Stamp) -> None:
        held = self._rounds.pop(number)
        self._agenda.cancel((0, number))
        self._effects.append(Ended(held.asked.token, outcome, version))

    def _time_passed(self) -> None:
        while (key := self._agenda.pop(self._now)) is not None:
            held = self._rounds[key[1]]
            if held.accepting:
                self._end(key[1], Outcome.UNCERTAIN, held.asked.ballot)
            else:
                self._end(key[1], Outcome.REFUSED, NEVER)

    def validate(self) -> None:
        """Raises AssertionError if an invariant does not hold."""
        assert len(self._promises) <= PROMISES_MAX and len(self._rounds) <= ROUNDS_MAX
        for number, held in self._rounds.items():
            assert (0, number) in self._agenda, "a round without an end"
            assert len(held.yes) < held.majority, "a majority, and no end"
            assert len(held.yes) + len(held.waiting) >= held.majority, "no majority, and no end"
