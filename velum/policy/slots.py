"""What a node knows of one chunk: its claims, its holders, and who is known to have it.

Owns: the holders by the members known, and what they have said in this round of members. Refuses
to know: when to ask, claims' fates, and how copies travel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from .filetypes import OFFERED_FULL, OFFERED_HAVE, OFFERED_LACK, OFFERED_SPARE, Claim, Key
from .placement import Ids, Placement

CLAIMS_PER_HOLD: Final = 16  # VELUM_CLAIMS_PER_HOLD_MAX
THERE: Final = (OFFERED_HAVE, OFFERED_SPARE)

Stays = Callable[[int, int], bool]
"""Of a node and a round: it is a member, and has lived since."""


class Whereabouts(NamedTuple):
    """Who has a chunk, as far as known; of others than this node."""

    have: list[int]
    lack: list[int]  # and would take it
    unsure: list[int]  # have not said that they are holders and have it
    rank: int  # how many that have it, and see to it, come before this node
    short: int  # copies known to lack


@dataclass(slots=True, eq=False)
class Slot:
    """A chunk. `told` are nodes that know all claims; `handed`: how many of them, until then."""

    key: Key
    size: int
    came_ms: int
    here: bool = False  # False for long: it was found bad, and is not back yet
    claims: dict[Claim, None] = field(default_factory=dict)
    round: int = -1
    wanted: Ids = ()  # its holders, best first
    former: int = 0  # who were so before the last change, and live on
    seen: dict[int, int] = field(default_factory=dict)  # a velum_offered by node
    told: Ids = ()
    handed: dict[int, int] = field(default_factory=dict)
    since_ms: int | None = None  # somebody is known to lack it
    drop_ms: int | None = None  # surplus, and confirmed: when it goes
    tries: int = 0

    def place(self, me: int, wanted: Iterable[int], round: int, stays: Stays) -> None:
        """These are the holders now. A node that is none has to tell each the claims itself."""
        now = tuple(dict.fromkeys(wanted))
        lived = tuple([n for n in self.told if n in now and stays(n, self.round)])
        if round != self.round:
            old = [node for node in self.wanted if node not in now and stays(node, self.round)]
            self.former = len([node for node in old if node != me])
            self.seen.clear()
            self.handed.clear()
            self.since_ms, self.tries = None, 0
        if me not in now and (round != self.round or me in self.wanted):
            lived = ()
        self.wanted, self.round, self.told = now, round, lived
        self.drop_ms = None

    def whereabouts(self, me: int, placement: Placement) -> Whereabouts:
        """What the others have said, and what follows. A holder that is full is stood in for by the
        next in the order that is not."""
        seen = self.seen
        order = [*self.wanted]
        full = sum(seen.get(node) == OFFERED_FULL for node in order if node != me)
        if full:
            for node in placement.order(self.key):
                if full and node not in self.wanted and (node != me or self.here):
                    order.append(node)
                    full -= seen.get(node) != OFFERED_FULL
        others = [node for node in order if node != me]
        have = [node for node in others if seen.get(node) in THERE]
        lack = [node for node in others if seen.get(node) == OFFERED_LACK]
        unsure = [node for node in others if seen.get(node) != OFFERED_HAVE]
        first = order[: order.index(me)] if me in order else order
        if me in self.wanted:  # who knows less than this node's claims does not see to them all
            first = [node for node in first if node in self.told]
        copies = len(have) + self.here + self.former
        short = min(len(self.wanted) - copies, len(lack) + full)
        return Whereabouts(have, lack, unsure, len(set(have) & set(first)), max(short, 0))

    def confirmed(self, me: int) -> bool:
        """Whether each holder but this node has said HAVE, there being one."""
        others = [node for node in self.wanted if node != me]
        return bool(self.wanted) and all(self.seen.get(node) == OFFERED_HAVE for node in others)

    def hand(self, node: int) -> list[Claim]:
        """The next claims that a node is to be told."""
        claims, start = list(self.claims), self.handed.get(node, 0)
        return claims[start : start + CLAIMS_PER_HOLD] or claims[:CLAIMS_PER_HOLD]

    def took(self, node: int, count: int) -> None:
        """A node has taken as many claims."""
        total = self.handed.get(node, 0) + count
        if total >= len(self.claims):
            self.told = tuple({*self.told, node})
            self.handed.pop(node, None)
        else:
            self.handed[node] = total
