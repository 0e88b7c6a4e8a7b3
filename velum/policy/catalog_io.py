"""What a catalog of names holds, hears and asks for: entries, events and effects of `catalog.py`.

Owns: their shapes, and which of two entries is the greater. Refuses to know: how events and effects
come about, and what a manifest's bytes mean. Events are past-tense nouns, effects are verbs. They
are not frozen, as in the other policies: some are made for every name.

Between nodes each effect Send* is heard as one event: SendEntry as EntryOffered, SendSums as
SumsHeard, SendListing as ListingHeard, SendHeld as HeldHeard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import NamedTuple

from .hybridclock import Version


class Entry(NamedTuple):
    """What a name stands for: a manifest, or a tombstone if the payload is empty."""

    digest: bytes  # of the name, 32 bytes
    name: bytes  # 1..4096 bytes of UTF-8
    version: Version
    payload: bytes  # the manifest as it travels
    size: int  # of the file, bytes; this and the next follow from the payload
    hash: bytes  # of the file's content, 32 bytes; none of a tombstone

    @property
    def is_tombstone(self) -> bool:
        return not self.payload

    @property
    def rank(self) -> tuple[Version, bytes]:
        """By which entries of one name are ordered: stamp, origin, payload."""
        return self.version, self.payload

    def item(self) -> Item:
        """What names this entry among all others of its name, without its bytes."""
        stamp, origin = self.version
        text = self.digest + stamp.to_bytes(8, "little") + origin.to_bytes(2, "little")
        mark = blake2b(text + self.payload, digest_size=8).digest()
        return Item(self.digest, self.version, int.from_bytes(mark, "little"))


class Item(NamedTuple):
    """One entry in a listing."""

    digest: bytes
    version: Version
    mark: int  # 64 bits of BLAKE2b over digest, version and payload


class Row(NamedTuple):
    """One file in a page of names."""

    name: bytes
    version: Version
    size: int


class Why(Enum):
    """Why an entry is refused."""

    NAME = "name"  # empty, too long, or not UTF-8
    LONG = "manifest too long"
    AHEAD = "version too far ahead"
    FULL = "catalog full"


def greater(one: Entry, other: Entry) -> Entry:
    """The merge of two entries of one name: a join."""
    return other if other.rank > one.rank else one


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
    """A putter or another keeper has this entry. Ends in Kept or Refuse."""

    node: int  # a member, or 0: a putter
    ticket: int  # the caller's own, comes back in the answer
    entry: Entry
    unix_ms: int  # this node's clock, which may be wrong
    age_ms: int = 0  # of a tombstone
    awaited: Sequence[int] = ()  # for whom the sender keeps a tombstone that is old enough


@dataclass(slots=True)
class EntryAsked:
    """Somebody wants to know what a name stands for. Ends in Give."""

    ticket: int
    digest: bytes


@dataclass(slots=True)
class ListAsked:
    """Somebody wants a page of the names with a prefix, after a name. Ends in GivePage."""

    ticket: int
    prefix: bytes  # b"": all
    after: bytes  # b"": from the first
    limit: int  # rows


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
    after: bytes = b""
    end: bytes = b""


@dataclass(slots=True)
class HeldHeard:
    """A node's answer to a listing: what it keeps, that or greater, and what it wants."""

    node: int
    round: int
    held: Sequence[Item]  # as they are there
    wanted: Sequence[bytes]  # digests


@dataclass(slots=True)
class TimePassed:
    """A deadline may have come."""


Event = (
    MemberSeen
    | MemberLost
    | EntryOffered
    | EntryAsked
    | ListAsked
    | SumsHeard
    | ListingHeard
    | HeldHeard
    | TimePassed
)

# ---- effects ----


@dataclass(slots=True)
class Kept:
    """Answer an offer: this is the greatest version known here; the offered one, or a later that
    had superseded it already."""

    node: int
    ticket: int
    version: Version
    superseded: bool


@dataclass(slots=True)
class Refuse:
    """Answer an offer: it is not kept."""

    node: int
    ticket: int
    why: Why
    text: str


@dataclass(slots=True)
class Give:
    """Answer who asked: the entry, or nothing known."""

    ticket: int
    entry: Entry | None


@dataclass(slots=True)
class GivePage:
    """Answer who asked: files by name, and whether there are more."""

    ticket: int
    rows: list[Row]
    more: bool


@dataclass(slots=True)
class Changed:
    """A name stands for something else here: claims of the old version can be ended."""

    old: Entry | None
    new: Entry


@dataclass(slots=True)
class SendEntry:
    """Tell a member of an entry."""

    node: int
    entry: Entry
    age_ms: int
    awaited: tuple[int, ...]


@dataclass(slots=True)
class SendSums:
    """Compare with another keeper."""

    node: int
    counts: tuple[int, ...]
    marks: tuple[int, ...]


@dataclass(slots=True)
class SendListing:
    """List entries to a member."""

    node: int
    round: int
    items: list[Item]
    after: bytes = b""
    end: bytes = b""


@dataclass(slots=True)
class SendHeld:
    """Answer a listing."""

    node: int
    round: int
    held: list[Item]
    wanted: list[bytes]


Effect = Kept | Refuse | Give | GivePage | Changed | SendEntry | SendSums | SendListing | SendHeld
