"""News on its way: which updates still ride on this node's datagrams.

Owns: the queue of updates and how often each has been sent. Refuses to know: members, time, peers.
How: SWIM's infection-style dissemination (Das, Gupta, Motivala 2002, section 4.1). An update is
sent a number of times that grows with the logarithm of the mesh, the least sent first. Updates
stand in one shelf for each count, so that taking some costs only what is taken, also while a
partition heals and thousands are queued. A newer word about a member replaces the older one;
accusations of a suspect by different accusers stand side by side, since each is a confirmation.
"""

from __future__ import annotations

import math
from collections.abc import Set

from .types import SUSPECT, Update

# Times each holder sends an update: COPIES_BASE + COPIES_PER_DECADE * log10(members). When every
# member sends r copies to random others, a given one misses all of them with probability exp(-r):
# 13 copies at 1,000 members leave somebody out in 1 of 400 broadcasts, 16 at 10,000 in 1 of 900.
COPIES_BASE = 4
COPIES_PER_DECADE = 3


def copies(members: int) -> int:
    """How often each holder sends an update in a mesh of that size."""
    return COPIES_BASE + math.ceil(COPIES_PER_DECADE * math.log10(max(members, 1)))


class Dissemination:
    """The queue of updates to pass on."""

    __slots__ = ("_sent", "_shelves", "_accusations")

    def __init__(self) -> None:
        self._sent: dict[int, int] = {}  # key -> times sent, which is its shelf
        self._shelves: list[dict[int, Update]] = [{}]
        self._accusations: dict[int, list[int]] = {}  # suspect -> keys

    def __len__(self) -> int:
        return len(self._sent)

    def queue(self, update: Update) -> None:
        """Pass this on from now, instead of what was queued about the member before.

        An accusation replaces only what is no accusation at the same incarnation.
        """
        key = update.id
        if update.state == SUSPECT:
            self._drop_others(update)
            key |= update.accuser << 16
            self._accusations.setdefault(update.id, []).append(key)
        else:
            self.drop(update.id)
        self._remove(key)
        self._sent[key] = 0
        self._shelves[0][key] = update

    def drop(self, member: int) -> None:
        """Forget all news about a member."""
        self._remove(member)
        for key in self._accusations.pop(member, ()):
            self._remove(key)

    def take(self, most: int, limit: int) -> tuple[Update, ...]:
        """Up to `most` updates for one datagram, the least sent first; each now counts as sent once
        more, and is forgotten when that makes `limit` times."""
        if not self._sent:
            return ()
        taken: list[tuple[int, int, Update]] = []
        for count, shelf in enumerate(self._shelves):
            for key, update in shelf.items():
                if len(taken) == most:
                    break
                taken.append((key, count, update))
        for key, count, _ in taken:
            del self._shelves[count][key]
        for key, count, update in taken:
            self._put_back(key, count + 1, limit, update)
        return tuple([update for _, _, update in taken])

    def validate(self, suspects: Set[int]) -> None:
        """Check what must always hold; `suspects`: the members now under suspicion."""
        shelved = {key: n for n, shelf in enumerate(self._shelves) for key in shelf}
        assert shelved == self._sent, "shelves and counts differ"
        assert suspects >= self._accusations.keys(), "news of a suspicion that is over"

    def _put_back(self, key: int, count: int, limit: int, update: Update) -> None:
        if count >= limit:
            self._forget(key)
            return
        if count == len(self._shelves):
            self._shelves.append({})
        self._shelves[count][key] = update
        self._sent[key] = count

    def _forget(self, key: int) -> None:
        del self._sent[key]
        keys = self._accusations.get(key & 0xFFFF)
        if keys is not None and key in keys:
            keys.remove(key)
            if not keys:
                del self._accusations[key & 0xFFFF]

    def _drop_others(self, accusation: Update) -> None:
        """Drop what an accusation makes old: other states, and other incarnations."""
        self._remove(accusation.id)
        for key in tuple(self._accusations.get(accusation.id, ())):
            queued = self._shelves[self._sent[key]][key]
            if queued.incarnation != accusation.incarnation or queued.accuser == accusation.accuser:
                self._remove(key)

    def _remove(self, key: int) -> None:
        shelf = self._sent.get(key)
        if shelf is not None:
            del self._shelves[shelf][key]
            self._forget(key)
