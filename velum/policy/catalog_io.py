"""What the policy of names hears and asks for: events and effects of `catalog.py`.

Owns: their shapes. Refuses to know: how events and effects come about, and what a manifest says.
Events are past-tense nouns, effects are verbs. They are not frozen, as in the other policies: some
are made for every name. Items and digests are plain, as `names.py` has them.

Between nodes SendSums is heard as SumsHeard, SendListing as ListingHeard, SendHeld as HeldHeard.
SendEntry is merged by the other's store, or heard as EntryOffered if it is a tombstone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .filetypes import Digest
from .names import Item, PlainEntry, Stamped

# ---- events ----


@dataclass(slots=True)
class MemberSeen:
    """A full member is present. Of one that was so already: it has been started anew and has
    forgotten everything. Nothing that its former life sent is told after this."""

    id: int


@dataclass(slots=True)
class MemberLost:
    """A member is dead, or has left."""

    id: int


@dataclass(slots=True)
class EntryOffered:
    """Somebody has this entry, and the store has not merged it: a tombstone, or what a keeper holds
    against a tombstone here. Ends in Kept or Refuse."""

    node: int  # a member, or 0: a putter
    ticket: int  # the caller's own, comes back in the answer
    entry: PlainEntry
    unix_ms: int  # this node's clock, which may be wrong


@dataclass(slots=True)
class SumsHeard:
    """Another keeper's sums over the names that it and this node keep, by the digest's first
    byte: how many, and the XOR of their marks."""

    node: int
    counts: Sequence[int]  # 256
    marks: Sequence[int]  # 256, each 64 bits


@dataclass(slots=True)
class ListingHeard:
    """Another node lists entries. With an `end`: these are all that it and this node keep whose
    digests are above `after` and up to `end`. Without: it offers these and wants to hear whether
    they are held."""

    node: int
    round: int  # the sender's own, comes back in the answer
    items: Sequence[Item]
    after: Digest = b""
    end: Digest = b""


@dataclass(slots=True)
class HeldHeard:
    """A node's answer to a listing: what it keeps, that or greater, and what it wants."""

    node: int
    round: int
    held: Sequence[Item]  # as they are there
    wanted: Sequence[Digest]


@dataclass(slots=True)
class TimePassed:
    """A deadline may have come."""


Event = MemberSeen | MemberLost | EntryOffered | SumsHeard | ListingHeard | HeldHeard | TimePassed

# ---- effects ----


@dataclass(slots=True)
class Kept:
    """Answer an offer: this is the greatest known here; the offered one, or a later that had
    superseded it already."""

    node: int
    ticket: int
    kind: int
    version: Stamped
    superseded: bool


@dataclass(slots=True)
class Refuse:
    """Answer an offer: it is not kept."""

    node: int
    ticket: int
    error: int  # NAMES_FULL or VERSION_AHEAD


@dataclass(slots=True)
class SendEntry:
    """Tell a member of the entry that the store has for a name."""

    node: int
    digest: Digest
    age_ms: int
    awaited: tuple[int, ...]


@dataclass(slots=True)
class SendSums:
    """Compare with another keeper."""

    node: int
    counts: Sequence[int]
    marks: Sequence[int]


@dataclass(slots=True)
class SendListing:
    """List entries to a member."""

    node: int
    round: int
    items: list[Item]
    after: Digest = b""
    end: Digest = b""


@dataclass(slots=True)
class SendHeld:
    """Answer a listing."""

    node: int
    round: int
    held: list[Item]
    wanted: list[Digest]


Effect = Kept | Refuse | SendEntry | SendSums | SendListing | SendHeld
