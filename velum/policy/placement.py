"""Where chunks and names lie: a pure function of the live members.

Owns: the order of members for a key, and what a change of members moves. Refuses to know: who is
alive, what lies where in fact, and when bytes travel.

**Changing this function, or `draws.py`, places every file of a mesh anew**; nodes that disagree on
it lose each other's files. The golden values in its test are there to stop that.

Weighted rendezvous hashing: each member has a score for each key, and the best ones hold it. With h
in (0, 1) from its draw, a member of weight w scores -w / ln(h): the "logarithmic method" of
Schindelhauer and Schomaker ("Weighted distributed hash tables", 2005). 1 / score is then the moment
at which a clock of rate w first rings, so the best is each member with probability w / W, W being
the sum of weights; the second is so among the others, and so on. The weight is a member's budget.
A score depends on nothing but key, id and budget, so for the `copies` best:

* a member that joins enters at about copies * w / W of the keys (w / W exactly with one copy), and
  at each of them only the last holder goes; nothing moves between two others;
* a member that leaves is followed by one member at each key that it held, and only there;
* a budget that grows is like a join and one that shrinks like a leave, but for the keys between.

A member without budget holds nothing. If nobody has any, all weigh the same: they will answer that
they are full, which says more than that a chunk has no place; and "all its holders have it" is
never true of none.

The shards of a stripe choose one after another, the best member that no earlier one has, each by
draws of its own; when all members are taken all are free again. A shard's number is its place in
the list, and one order for the whole stripe would shift every shard behind a member that leaves:
3.5 of 6 by mean. This way 1.2 of 6 move with 16 members and 1.6 with 8. CRUSH does the same for
such lists (Weil, Brandt, Miller and Maltzahn, 2006, where replicas are numbered). While there are
members enough their set changes by one at most.

Scores are doubles. Two C libraries may differ in the last bit of a logarithm: that is felt by fewer
than one key in 2**45, and no worse than when two nodes know different members.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import log
from typing import Final, NamedTuple

from .draws import Draws

Key = bytes
"""A hash of 32 bytes, of which the first 8 place it."""
Ids = tuple[int, ...]

_UNIT: Final = 2.0**-53  # doubles below 1 have 53 bits


class Budget(NamedTuple):
    """A live member and the RAM it gives."""

    id: int  # 1..65535
    mib: int  # 0: it holds no chunks


class Placement:
    """A set of members, ids all different, in any order. 16 members: 6 us a key, 30 us a stripe."""

    __slots__ = ("_all", "_giving", "_ids", "_weights", "weights")

    def __init__(self, members: Iterable[Budget]) -> None:
        budgets = dict(sorted(members))
        giving = {node: mib for node, mib in budgets.items() if mib > 0}
        self.weights: Final = giving or dict.fromkeys(budgets, 1)  # of those that may hold chunks
        self._ids = tuple(self.weights)
        self._weights = tuple(self.weights.values())
        self._giving = Draws(self._ids)
        self._all = Draws(tuple(budgets))

    def order(self, key: Key) -> Ids:
        """All who may hold a chunk, best first; the lower id on a tie."""
        return self.holders(key, len(self._ids))

    def holders(self, key: Key, copies: int) -> Ids:
        """Who holds a chunk, best first: `copies` members, or all if they are fewer."""
        scores = self._scores(key, 0)
        best = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
        return tuple([self._ids[place] for place in best[:copies]])

    def stripe(self, key: Key, shards: int) -> Ids:
        """Who holds each shard of a stripe; none twice unless they are fewer than `shards`."""
        found: list[int] = []
        free: list[int] = []
        for shard in range(shards if self._ids else 0):
            free = free or list(range(len(self._ids)))
            scores = self._scores(key, shard)
            best = max(free, key=scores.__getitem__)
            free.remove(best)
            found.append(self._ids[best])
        return tuple(found)

    def keepers(self, name: Key, count: int) -> Ids:
        """Who keeps a name, given its hash: `count` of all members, without regard to budgets."""
        return tuple(self._all.order(_word(name))[:count])

    def best(self, key: Key, shard: int = 0) -> int:
        """The first of all who may hold a chunk or shard; there is a member."""
        scores = self._scores(key, shard)
        return self._ids[scores.index(max(scores))]

    def _scores(self, key: Key, row: int) -> list[float]:
        """ln(h) / w by place in `_ids`: in the order of -w / ln(h). The bit set keeps h inside."""
        draws = self._giving.of(_word(key), row)
        pairs = zip(draws, self._weights, strict=True)
        return [log((draw >> 11 | 1) * _UNIT) / weight for draw, weight in pairs]


class Change:
    """What a step from one set of members to another moves.

    It looks again only at keys of which a holder left or has another budget, or where a member that
    joined or grew beats the last holder; nobody else's score has changed. With 262,144 chunks, 16
    members and 2 copies a join takes 0.6 s and a leave 0.25 s (all anew: 1.4 s), so the caller
    passes a part at a time: what one part tells does not depend on the others.
    """

    __slots__ = ("_after", "_before", "_grown", "_rivals", "_touched")

    def __init__(self, before: Placement, after: Placement) -> None:
        old, new = before.weights, after.weights
        self._before = before
        self._after = after
        self._touched = {node for node, weight in old.items() if new.get(node) != weight}
        self._grown = [Budget(*item) for item in new.items() if item[1] > old.get(item[0], 0)]
        self._rivals: dict[int, Placement] = {}

    def moved(self, placed: Iterable[tuple[Key, Ids]], copies: int) -> dict[Key, Ids]:
        """The chunks whose holders or their order change, and the new holders; `placed` is chunks
        with their holders before."""

        def beaten(key: Key, held: Ids) -> bool:
            return len(held) < copies or self._beaten(key, 0, held[-1])

        return self._moved(placed, beaten, lambda key: self._after.holders(key, copies))

    def moved_stripes(self, placed: Iterable[tuple[Key, Ids]], shards: int) -> dict[Key, Ids]:
        """The same of stripes, each with its shards' holders."""
        wide = shards > len(self._before.weights)

        def beaten(key: Key, held: Ids) -> bool:
            return wide or any(self._beaten(key, *shard) for shard in enumerate(held))

        return self._moved(placed, beaten, lambda key: self._after.stripe(key, shards))

    def _moved(
        self,
        placed: Iterable[tuple[Key, Ids]],
        beaten: Callable[[Key, Ids], bool],
        place: Callable[[Key], Ids],
    ) -> dict[Key, Ids]:
        moved = {}
        for key, held in placed:
            if not self._touched.isdisjoint(held) or (self._grown and beaten(key, held)):
                now = place(key)
                if now != held:
                    moved[key] = now
        return moved

    def _beaten(self, key: Key, shard: int, holder: int) -> bool:
        """Whether one that joined or grew comes before a holder, who did neither."""
        rivals = self._rivals.get(holder)
        if rivals is None:
            members = [Budget(holder, self._before.weights[holder]), *self._grown]
            rivals = self._rivals[holder] = Placement(members)
        return rivals.best(key, shard) != holder


def _word(key: Key) -> int:
    return int.from_bytes(key[:8], "little")
