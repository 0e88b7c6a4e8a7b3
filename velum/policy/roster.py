"""The members a node knows, and the one table that says which word about them counts.

Owns: each member's record, who is live, who is gone and since when, who is suspected by whom.
Refuses to know: what to send because of it; that is membership.py's.
How: a record about a member supersedes the one held when its incarnation is ahead by at least so
much (0: the same will do, 1: it must be higher); rows are the state held, columns the state told:

    held \\ told   ALIVE  SUSPECT  DEAD  LEFT
    ALIVE            1       0       0     0
    SUSPECT          1       0       0     0      SUSPECT at the same incarnation: a confirmation
    DEAD             1       1       1     0
    LEFT             1       1       1     1

An unknown member is entered with any state. A member becomes unknown again only from DEAD or LEFT,
when it is forgotten. There is no other transition: what the table does not let through is an error
to enter. A live member keeps its address: a record with its id and another address is a clash.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Mapping
from typing import Final

from .probing import ProbeOrder
from .suspicion import Suspicion, confirmations_wanted
from .types import (
    ALIVE,
    DEAD,
    INCARNATION_MAX,
    LEFT,
    NO_HEALTH,
    NODE,
    STATE_NAMES,
    SUSPECT,
    Health,
    Member,
    Update,
)

# How long, and how many at most, the dead and the departed are remembered: a node that was away
# for a day is found again, and a mesh with much coming and going does not grow without end.
FORGET_MS = 24 * 3_600_000
GONE_MAX = 4_096

_SUPERSEDES: Final = {
    (ALIVE, ALIVE): 1,
    (ALIVE, SUSPECT): 0,
    (ALIVE, DEAD): 0,
    (ALIVE, LEFT): 0,
    (SUSPECT, ALIVE): 1,
    (SUSPECT, SUSPECT): 0,
    (SUSPECT, DEAD): 0,
    (SUSPECT, LEFT): 0,
    (DEAD, ALIVE): 1,
    (DEAD, SUSPECT): 1,
    (DEAD, DEAD): 1,
    (DEAD, LEFT): 0,
    (LEFT, ALIVE): 1,
    (LEFT, SUSPECT): 1,
    (LEFT, DEAD): 1,
    (LEFT, LEFT): 1,
}

# What a record is, beside what is held.
STALE = 0  # older, or known already
NEWS = 1  # supersedes what is held
CONFIRMATION = 2  # another accusation of a suspect, at the same incarnation
CLASH = 3  # another address for the id of a live member


class Roster:
    """All members but the node itself."""

    __slots__ = ("members", "gone", "suspicions", "order", "live", "_me")

    def __init__(self, me: int, rng: random.Random) -> None:
        self._me = me
        self.members: dict[int, Member] = {}
        self.gone: dict[int, int] = {}  # DEAD and LEFT ones, the longest gone first -> since
        self.suspicions: dict[int, Suspicion] = {}
        self.order = ProbeOrder(rng)
        self.live = 1  # ALIVE and SUSPECT ones, and the node itself

    def fill(self, members: Mapping[int, Member], order: array[int]) -> None:
        """Begin with these live members, the node itself among them; `order`: their ids."""
        self.members = dict(members)
        del self.members[self._me]
        self.live = len(members)
        self.order.fill(order, without=self._me)

    def judge(self, said: Update) -> int:
        """What a record is worth: STALE, NEWS, CONFIRMATION or CLASH."""
        known = self.members.get(said.id)
        _, port = said.address
        if port == 0:
            return STALE  # nobody listens there: made up, or damaged
        if known is None:
            return STALE if said.incarnation > INCARNATION_MAX else NEWS
        held = known.update
        lead = said.incarnation - held.incarnation
        if said.address != held.address and held.state == ALIVE:
            return CLASH if lead >= 0 or said.state == ALIVE else STALE
        if lead < _SUPERSEDES[held.state, said.state] or said.incarnation > INCARNATION_MAX:
            return STALE
        if lead == 0 and held.state == said.state == SUSPECT:
            return CONFIRMATION
        return NEWS

    def enter(self, said: Update, now_ms: int) -> int | None:
        """Hold this record, which is NEWS; returns the state held before, None for a new member."""
        if self.judge(said) != NEWS:
            raise ValueError(f"not in the table: {self.members.get(said.id)} to {said}")
        known = self.members.get(said.id)
        before = None if known is None else known.state
        health, heard_ms, since_ms = NO_HEALTH, 0, now_ms
        if known is not None:
            health, heard_ms = known.health, known.heard_ms
            since_ms = known.since_ms if before == said.state else now_ms
        self.members[said.id] = Member(said, health, since_ms, heard_ms)
        was_live, is_live = before in (ALIVE, SUSPECT), said.state in (ALIVE, SUSPECT)
        if is_live and not was_live:
            self.live += 1
            self.gone.pop(said.id, None)
            self.order.add(said.id)
        elif was_live and not is_live:
            self.live -= 1
            self.order.remove(said.id)
        if not is_live:
            self.gone.pop(said.id, None)
            self.gone[said.id] = now_ms
        if said.state == SUSPECT:
            wanted = confirmations_wanted(self.live)
            suspicion = Suspicion(said.incarnation, now_ms, wanted, said.accuser)
            self.suspicions[said.id] = suspicion
        else:
            self.suspicions.pop(said.id, None)
        return before

    def note_health(self, id: int, health: Health, heard_ms: int) -> None:
        """A member's load as it was told."""
        known = self.members[id]
        self.members[id] = Member(known.update, health, known.since_ms, heard_ms)

    def forget(self, now_ms: int) -> None:
        """Let go of those that are gone for FORGET_MS, and of the longest gone above GONE_MAX."""
        while self.gone:
            id, since_ms = next(iter(self.gone.items()))
            if now_ms - since_ms < FORGET_MS and len(self.gone) <= GONE_MAX:
                return
            del self.gone[id]
            del self.members[id]

    def is_live(self, id: int) -> bool:
        """Known, and ALIVE or SUSPECT."""
        return id in self.members and id not in self.gone

    def is_gossip(self, id: int) -> bool:
        """A live member that takes part in gossip, which a leaf does not."""
        update = self.members[id].update
        return update.role == NODE and update.state in (ALIVE, SUSPECT)

    def live_ids(self) -> set[int]:
        """The live members, the node itself included."""
        return (self.members.keys() - self.gone.keys()) | {self._me}

    def validate(self) -> None:
        """Check what must always hold; an AssertionError is a fault in this program."""
        live = {m.id for m in self.members.values() if m.state in (ALIVE, SUSPECT)}
        suspects = {m.id for m in self.members.values() if m.state == SUSPECT}
        assert self._me not in self.members, "a node is a member of its own view"
        assert all(key == m.id for key, m in self.members.items()), "a member under a wrong id"
        assert all(m.state in STATE_NAMES for m in self.members.values()), "an unknown state"
        assert self.live == len(live) + 1, "the count of live members is wrong"
        assert self.gone.keys() == self.members.keys() - live, "the gone are not the others"
        assert self.suspicions.keys() == suspects, "suspects and suspicions differ"
        for id, suspicion in self.suspicions.items():
            assert suspicion.incarnation == self.members[id].update.incarnation
        self.order.validate(live)
