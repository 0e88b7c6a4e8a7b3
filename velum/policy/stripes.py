"""What a node knows of the stripes of which it holds shards: who has the others, and what lacks.

Owns: for each stripe its shards' holders by the members known, and what they have said in this
round of members. Refuses to know: chunks, claims' fates, when to ask, and how shards are rebuilt.

A stripe's shards each have one holder; a holder that is full is stood in for by the first members
in the order of the shard's key that hold nothing of the stripe. What was said is forgotten with
each change of members, and kept no longer than until the stripe is known to be whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from .filetypes import OFFERED_FULL, OFFERED_HAVE, OFFERED_LACK, Key, Shard
from .holdings_io import Name
from .placement import Ids, Placement
from .slots import THERE

Spot = tuple[int, int]
"""A shard's index and a node."""


class Plan(NamedTuple):
    """What is to be done about a stripe."""

    there: list[Spot]  # shards known to be there, by index, one node for each
    missing: list[Spot]  # shards that lack, and who would take them
    untold: list[Spot]  # shards there, at holders that may have them for another's sake
    unsure: list[Spot]  # who is to be asked


def stripe_id(place: Shard) -> bytes:
    """What names a stripe: longer than a key, and so never one."""
    return place.stripe + bytes([place.k, place.m])


@dataclass(slots=True, eq=False)
class Stripe:
    """One stripe; `seen` by index and node, a velum_offered."""

    k: int
    m: int
    keys: tuple[Key, ...]
    size: int  # of each shard
    round: int = -1
    wanted: Ids = ()  # by shard
    seen: dict[Spot, int] = field(default_factory=dict)
    told: int = 0  # bits: shards whose holders know why
    moved: int = 0  # bits: shards whose former holders live, and so send them
    since_ms: int | None = None  # it has been known to lack something
    tries: int = 0
    claims: dict[Name, int] = field(default_factory=dict)  # bits: shards held here

    def place(self, placement: Placement, round: int, stays: Callable[[int, int], bool]) -> None:
        """Places the shards for a round; `stays` of a node and a round: it has lived since."""
        now = placement.stripe(self.stripe, self.k + self.m)
        before = self.wanted
        told = self.told if before else (1 << len(now)) - 1
        self.told = self.moved = 0
        for index, (old, new) in enumerate(zip(before or now, now, strict=False)):
            if old == new and (not before or stays(new, self.round)):
                self.told |= told & 1 << index
            elif old != new and stays(old, self.round):
                self.moved |= 1 << index
        self.wanted = now
        self.round = round
        self.seen.clear()
        self.since_ms = None
        self.tries = 0

    @property
    def stripe(self) -> Key:
        return Shard(self.k, self.m, 0, self.keys).stripe

    def plan(self, me: int, here: Callable[[Key], bool], placement: Placement) -> Plan:
        """What is known, and what follows. Shards of this node are there if `here` says so."""
        plan = Plan([], [], [], [])
        for index, holder in enumerate(self.wanted):
            self._plan_shard(plan, index, holder, me, here, placement)
        return plan

    def _plan_shard(
        self,
        plan: Plan,
        index: int,
        holder: int,
        me: int,
        here: Callable[[Key], bool],
        placement: Placement,
    ) -> None:
        found = self._state(index, holder, me, here)
        if found != OFFERED_HAVE:
            if holder != me:
                plan.unsure.append((index, holder))
        if found in THERE:
            plan.there.append((index, holder))
            if not self.told >> index & 1:
                plan.untold.append((index, holder))
        elif found == OFFERED_LACK:
            plan.missing.append((index, holder))
        elif found == OFFERED_FULL:
            for node in placement.order(self.keys[index]):
                if node in self.wanted:
                    continue
                stand_in = self._state(index, node, me, here)
                if stand_in == OFFERED_FULL:
                    continue
                if node != me and stand_in != OFFERED_HAVE:
                    plan.unsure.append((index, node))
                if stand_in in THERE:
                    plan.there.append((index, node))
                elif stand_in == OFFERED_LACK:
                    plan.missing.append((index, node))
                return

    def _state(self, index: int, node: int, me: int, here: Callable[[Key], bool]) -> int:
        said = self.seen.get((index, node), 0)
        if node != me:
            return said
        if here(self.keys[index]):
            return OFFERED_HAVE
        return said if said == OFFERED_FULL else OFFERED_LACK
