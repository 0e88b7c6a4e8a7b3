"""Which tombstones may be settled, and which dropped: what is known of who has what.

Owns: this node's age mark, what every member has pulled from here and has settled, and what this
node has to tell others of that. Refuses to know: sessions' steps, keys, records, links.

Nothing that was deleted may come back with a node that was away, a late push, or a crash that takes
the end of a log; and in the end tombstones are to be gone. A tombstone goes in two steps:

    step     when                                             then it
    settled  every member has it on disk                      is in no sum and sent to nobody, but
                                                              hides late copies of what it deleted
    dropped  every member has said so of itself: settled      is gone

**Marks.** Every tombstone keeps the mark that stood when it came here; those of the log have 1.
When member n begins to pull, the mark is *closed*: later ones get a greater one, and n is told the
closed mark m. When n has pulled all and synced its log it says `Pulled m`, and then n has every
tombstone here with a mark up to m: what it did not get was equal in the sums, or settled here, and
then it has it anyway. So `settle_to` is the least such m of all members.

**Why nobody can have the deleted thing any more.** A tombstone here is settled: then every member
of this roster has it on disk, and who has a tombstone shows, logs and sends nothing that it hides.
Might somebody outside the roster have got the deleted thing from member n? Before n had the
tombstone: then he was in n's roster before it was sent to him, and a `Pulled` counts only if the
rosters of both are equal, so he is in this one. After: n had nothing to give.

**Why settled ones stay.** The deleted thing may still be on its way, in the queue of a link. One
node's frames come in order, pushes too, so what n sent before it had the tombstone is here once n
says anything that it says after. n says `Settled m` of its last pull from here once it has settled
all that it had when that was complete; that is itself, over its own link to here, never by others.
`drop_to` is the least such m. By then all have settled it, so nobody sends it here again either.

**Restarts.** Marks are of one life of a process; a word about another life counts nothing. After a
start all tombstones of the log are unsettled again, and a mark for all has to be earned anew. What
a member has said stays true when it starts anew: it has it on disk. A tombstone that somebody has
dropped and another brings back, from its log, is only a tombstone: it goes the same way again.

**Forgotten members** count no more; a member that is away holds both steps up for as long.

What this rests on: a log that is not put back to an older copy, and in which no line of a tombstone
is damaged while the line of what it deleted is whole (compaction leaves only one of the two); and
that a node's frames are merged in the order in which they were sent, so that nothing of an older
link is, once a newer one of the same node was welcomed.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from .kvroster import Member

LOADED: Final = 1  # the mark of what the log held; 0: nothing
MARK_MAX: Final = (1 << 32) - 1
MARK_MS: Final = 1000  # between two marks: 32 bits last for 136 years, whoever begins sessions


class _Pull(NamedTuple):
    """A pull of this node's that is complete."""

    life: int  # the other's
    mark: int  # the other's
    here: int  # this node's own when it was complete


class Marks:
    """See above. `now` is this node's monotonic clock, milliseconds."""

    __slots__ = ("_closed_ms", "_pulled", "_pulls", "_settled", "_settled_to", "mark")

    def __init__(self, now: int) -> None:
        self.mark = LOADED + 1  # of what comes now
        self._closed_ms = now
        self._pulled: dict[Member, int] = {}
        self._settled: dict[Member, int] = {}
        self._pulls: dict[Member, _Pull] = {}  # of which `Settled` is still to be said
        self._settled_to = 0

    def close(self, now: int) -> int:
        """The greatest mark that no tombstone gets any more. `mark` is the store's then."""
        if now - self._closed_ms >= MARK_MS and self.mark < MARK_MAX:
            self._closed_ms = now
            self.mark += 1
        return self.mark - 1

    # ---- what others say ----

    def pulled(self, member: Member, mark: int) -> None:
        """It has all up to a mark, on disk; rosters are equal."""
        if mark < self.mark:
            self._pulled[member] = max(mark, self._pulled.get(member, 0))

    def settled(self, member: Member, mark: int) -> None:
        """It has settled all up to a mark."""
        if mark < self.mark:
            self._settled[member] = max(mark, self._settled.get(member, 0))

    def settle_to(self, others: Collection[Member]) -> int:
        """The greatest mark whose tombstones may be settled; 0: none."""
        return min((self._pulled.get(m, 0) for m in others), default=self.mark - 1)

    def drop_to(self, others: Collection[Member]) -> int:
        """The greatest mark whose settled tombstones may be dropped; 0: none."""
        return min((self._settled.get(m, 0) for m in others), default=self.mark - 1)

    def keep(self, others: Collection[Member]) -> None:
        """The members are others now."""
        self._pulled = {m: mark for m, mark in self._pulled.items() if m in others}
        self._settled = {m: mark for m, mark in self._settled.items() if m in others}
        self._pulls = {m: pull for m, pull in self._pulls.items() if m in others}

    # ---- what is to be said ----

    def complete(self, member: Member, life: int, mark: int) -> None:
        """This node has pulled all that a member had up to a mark of that life."""
        held = self._pulls.get(member)
        if held is None or held.life != life:  # else it would wait anew at each session
            self._pulls[member] = _Pull(life, mark, self.mark)

    def walked(self, settled_to: int) -> None:
        """All tombstones here with marks up to this one are settled."""
        self._settled_to = max(settled_to, self._settled_to)

    def to_say(self, member: Member, life: int) -> int | None:
        """The mark of a `Settled` that can be said to a member in this life of it; once."""
        pull = self._pulls.get(member)
        if pull is None or pull.life != life or pull.here > self._settled_to:
            return None
        del self._pulls[member]
        return pull.mark
