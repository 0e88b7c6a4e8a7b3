"""The members of the shared state: everybody whose copy may hold what others have deleted.

Owns: the members, those that were forgotten, and whether this node may vote (`kvcas.py`). Refuses
to know: who is there now, links, files.

A member is a *store*: one node's copy, with a random number that is drawn when its log is made; a
node without a log draws one at each start. Rosters merge by union, so nobody is lost by two nodes
that learn of others at once, and a member stays one for as long as it is away: until then no
tombstone that it may lack is dropped anywhere.

    a store                                      becomes
    of a link that was opened, or in a roster    a member, unless it is forgotten
    of a node that comes with another store      forgotten: a node has one copy, the new one
    of a node that the operator forgets          forgotten, for good

**Forgetting wins over every sighting**, for a store's number is never used again: no versions are
needed. A node whose store was forgotten is refused, since its copy may hold what all others have
deleted and whose tombstones they have dropped. There is one way back: its operator moves its log
away. Then it comes with a new store, empty, and is as new. To forget a node is to say that what
only it had may be lost, and that nobody outside the mesh goes on with its copy.

**A voter** has, since its roster last changed, completed a pull from every other member whose
roster was the same when it began. So whoever votes under a grown or shrunk roster knows what was
accepted under the one before, and all majorities of all rosters meet. That is `confirmed`; it is
kept with the roster, so a restart does not take it away.

The roster lies beside the log, in NAME.members, as lines of words: `self STORE`, `member ID STORE`,
`forgotten STORE`, `voter DIGEST`; stores and digests have 16 hexadecimal digits. It is on disk
before anything is sent to a member that is new in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from hashlib import blake2b
from typing import Final, NamedTuple

MEMBERS_MAX: Final = 4096  # stores of a mesh, absent ones too
FORGOTTEN_MAX: Final = 16_384  # 8 bytes each, in every roster for good


class Member(NamedTuple):
    """One node's copy."""

    id: int  # 1..65535
    store: int  # 64 random bits


class Meeting(Enum):
    """What becomes of a store that is met."""

    KNOWN = "known"
    NEW = "new"  # the roster has changed
    REFUSED = "refused"  # it is forgotten, or this node's own, or there are too many


class Roster:
    """The roster as this node knows it; `me` is in it, unless it was forgotten."""

    __slots__ = ("_digest", "_forgotten", "_members", "_voter", "me")

    def __init__(
        self, me: Member, members: Iterable[Member] = (), forgotten: Iterable[int] = ()
    ) -> None:
        self.me: Final = me
        self._forgotten = set(forgotten)
        self._members = {m for m in (*members, me) if m.store not in self._forgotten}
        self._voter = 0
        self._count()

    # ---- what it says ----

    @property
    def members(self) -> frozenset[Member]:
        return frozenset(self._members)

    @property
    def others(self) -> frozenset[Member]:
        return frozenset(self._members - {self.me})

    @property
    def forgotten(self) -> frozenset[int]:
        return frozenset(self._forgotten)

    @property
    def is_out(self) -> bool:
        """Whether this node's own store is forgotten."""
        return self.me.store in self._forgotten

    @property
    def digest(self) -> int:
        """Equal for equal rosters."""
        return self._digest

    @property
    def confirmed(self) -> bool:
        """Whether this node may vote."""
        return self._voter == self._digest and not self.is_out

    @property
    def majority(self) -> int:
        """How many are more than half."""
        return len(self._members) // 2 + 1

    # ---- changes ----

    def met(self, member: Member) -> Meeting:
        """A node has opened a link, and says which store it has."""
        if member.store in self._forgotten or member.id == self.me.id:
            return Meeting.REFUSED
        if member in self._members:
            return Meeting.KNOWN
        before = {m for m in self._members if m.id == member.id}
        full = len(self._members) - len(before) >= MEMBERS_MAX
        if full or len(self._forgotten) + len(before) > FORGOTTEN_MAX:
            return Meeting.REFUSED
        self._forget(before)
        self._members.add(member)
        self._count()
        return Meeting.NEW

    def merge(self, members: Iterable[Member], forgotten: Iterable[int]) -> bool:
        """Another's roster; whether this one has changed. One that would make it too large changes
        nothing."""
        gone = self._forgotten.union(forgotten)
        here = {m for m in self._members.union(members) if m.store not in gone}
        if len(here) > MEMBERS_MAX or len(gone) > FORGOTTEN_MAX:
            return False
        before = self._digest
        self._members, self._forgotten = here, gone
        self._count()
        return self._digest != before

    def forget(self, id: int) -> bool:
        """The operator says that a node does not come back; False: there is no such other one, or
        too many were forgotten."""
        gone = {m for m in self._members if m.id == id}
        if not gone or id == self.me.id or len(self._forgotten) + len(gone) > FORGOTTEN_MAX:
            return False
        self._forget(gone)
        self._count()
        return True

    def confirm(self) -> bool:
        """All others were pulled from; whether that is news."""
        news = self._voter != self._digest
        self._voter = self._digest
        return news

    def _forget(self, members: Iterable[Member]) -> None:
        for member in list(members):
            self._members.discard(member)
            self._forgotten.add(member.store)

    def _count(self) -> None:
        lines = [f"{m.id} {m.store:x}" for m in sorted(self._members)]
        lines += [f"{store:x}" for store in sorted(self._forgotten)]
        self._digest = int.from_bytes(
            blake2b("\n".join(lines).encode(), digest_size=8).digest(), "big"
        )
        if self._members == {self.me}:
            self._voter = self._digest  # nobody else can know more

    # ---- on disk ----

    def text(self) -> str:
        """The file's text."""
        lines = [f"self {self.me.store:016x}"]
        lines += [f"member {m.id} {m.store:016x}" for m in sorted(self._members)]
        lines += [f"forgotten {store:016x}" for store in sorted(self._forgotten)]
        lines.append(f"voter {self._voter:016x}")
        return "\n".join(lines) + "\n"


def read_roster(id: int, text: str) -> Roster:
    """Node `id`'s roster of its file. ValueError, which says the line: it is none."""
    store: int | None = None
    voter = 0
    members: list[Member] = []
    forgotten: list[int] = []
    for number, line in enumerate(text.splitlines(), 1):
        match line.split(" "):
            case ["self", digits]:
                store = _digits(digits, number)
            case ["member", who, digits] if who.isdecimal() and 0 < int(who) < 65536:
                members.append(Member(int(who), _digits(digits, number)))
            case ["forgotten", digits]:
                forgotten.append(_digits(digits, number))
            case ["voter", digits]:
                voter = _digits(digits, number)
            case _:
                raise ValueError(f"line {number} of the members is none: {line[:80]!r}")
    if store is None:
        raise ValueError("the members do not say whose they are")
    roster = Roster(Member(id, store), members, forgotten)
    if voter == roster.digest:
        roster.confirm()
    return roster


def _digits(digits: str, number: int) -> int:
    if len(digits) != 16 or set(digits) - set("0123456789abcdef"):
        raise ValueError(f"line {number} of the members has no 16 digits: {digits[:80]!r}")
    return int(digits, 16)
