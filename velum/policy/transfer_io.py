"""What putter, getter and remover hear and ask for: the events and effects of a file's way.

Owns: their shapes, what they know of members, and when an entry is acknowledged. Refuses to know:
links, frames, bytes of chunks, and how events and effects come about. Events are past-tense nouns,
effects are verbs; what ends a lookup is named for what it says.

Who performs them, in short: a node named in an effect is reached over its bulk link, which is
opened when there is none; if that fails, or it closes, `LinkLost` is told once. Answers of a link
that has closed are not told any more. A Hold is named by (node, number, shard), a Want by (node,
number): no two of one name are under way at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from .filetypes import Claim, Digest, Entry, Key
from .hybridclock import Version
from .placement import Budget, Ids, Placement


class Ram(NamedTuple):
    """A member and the RAM it gives to chunks."""

    id: int  # 1..65535
    mib: int  # 0: none
    free_mib: int  # of that, not used
    alive: bool = True  # False: suspected; it has its place, and is not talked to


class Members:
    """The members as one moment knows them; made once, shared by all transfers."""

    __slots__ = ("alive", "giving", "placement", "ram")

    def __init__(self, ram: Iterable[Ram]) -> None:
        self.ram: Final = {member.id: member for member in ram}
        self.placement: Final = Placement(Budget(r.id, r.mib) for r in self.ram.values())
        self.alive: Final = frozenset(r.id for r in self.ram.values() if r.alive)
        self.giving: Final = frozenset(r.id for r in self.ram.values() if r.alive and r.mib)

    def keepers(self, digest: Digest, count: int) -> Ids:
        """Of the `count` keepers of a name those that are alive, in order."""
        return tuple(n for n in self.placement.keepers(digest, count) if n in self.alive)


def is_acknowledged(alive_keepers: Collection[int], kept: Collection[int]) -> bool:
    """Whether an entry that these nodes keep is put: all keepers alive have it, at least one."""
    return bool(alive_keepers) and set(alive_keepers) <= set(kept)


class PutInfo(NamedTuple):
    """What a put did."""

    chunks: int = 0  # chunks, or stripes, of different bytes
    sent_bytes: int = 0  # to all holders
    had_bytes: int = 0  # that holders had before
    at_risk: int = 0  # of the chunks or stripes: fewer copies or shards than asked; repair's work


class Figure(NamedTuple):
    """What a node has left, as a full mesh names it."""

    node: int
    mib: int  # its budget
    free_bytes: int


# ---- events ----


@dataclass(slots=True)
class MembersChanged:
    """Members came, went, or have other budgets or more or less left of them."""

    members: Members


@dataclass(slots=True)
class LinkLost:
    """A node could not be reached, or its bulk link closed: nothing more comes from it."""

    node: int
    why: str = ""


@dataclass(slots=True)
class Progressed:
    """Bytes of a chunk went to a node or came from it: it is not silent."""

    node: int


@dataclass(slots=True)
class VersionHeard:
    """VERSION, of an AskVersion, an AskEntry or a SendEntry."""

    node: int
    what: int  # NAMED_*
    version: Version  # as it stands in the frame; NONE: any


@dataclass(slots=True)
class EntryHeard:
    """ENTRY, of an AskEntry."""

    node: int
    entry: Entry


@dataclass(slots=True)
class Refused:
    """ERROR, of an ask, a SendEntry or a Hold."""

    node: int
    code: str  # a name of velum.h's table
    text: str = ""
    number: int = -1  # of a Hold: which, else -1
    shard: int = 0


@dataclass(slots=True)
class Aborted:
    """Whoever asked for it wants it no more."""


@dataclass(slots=True)
class TimePassed:
    """A deadline may have come."""


@dataclass(slots=True)
class SmallFileReady:
    """A put: the whole file, at most INLINE_BYTES_MAX: it lies in its entry."""

    data: bytes


@dataclass(slots=True)
class StreamBegan:
    """A put: the file is longer than that, or of unknown length and longer so far."""

    size: int | None  # if known


@dataclass(slots=True)
class ChunkReady:
    """A put in copies: the next chunk has been read and hashed. Its bytes are the service's to
    keep until LetGo."""

    number: int  # 0, 1, 2, ..
    key: Key
    size: int


@dataclass(slots=True)
class StripeReady:
    """A coded put: the next stripe has been read, coded and hashed. As ChunkReady."""

    number: int  # 0, 1, 2, ..
    keys: tuple[Key, ...]  # of its k + m shards, data first
    size: int  # of each shard


@dataclass(slots=True)
class StreamEnded:
    """A put: all its chunks or stripes were told."""

    size: int  # of the file


@dataclass(slots=True)
class HeldHeard:
    """HELD: of a Hold, or of the Send after it."""

    node: int
    number: int
    shard: int
    state: int  # SEND .. BAD of filetypes
    free_bytes: int = 0


@dataclass(slots=True)
class Needed:
    """A get: bytes [first, end) of the file are wanted next, after those wanted before."""

    first: int
    end: int  # above first, up to the file's size


@dataclass(slots=True)
class NeedsDropped:
    """A get: what was needed and has not been given is not wanted any more."""


@dataclass(slots=True)
class ChunkArrived:
    """A get: a chunk that was wanted is here, and is what its key says."""

    node: int
    number: int


@dataclass(slots=True)
class ChunkFailed:
    """A get: a node lacks a chunk, will not give it, or sent other bytes."""

    node: int
    number: int


@dataclass(slots=True)
class Decoded:
    """A get: the data shards of a stripe are all here; or are not what their keys say."""

    stripe: int
    right: bool = True


@dataclass(slots=True)
class Relooked:
    """A get: how the lookup that Relook asked for has ended."""

    outcome: Found | NotFound | Unreachable


Event = (
    MembersChanged
    | LinkLost
    | Progressed
    | VersionHeard
    | EntryHeard
    | Refused
    | Aborted
    | TimePassed
    | SmallFileReady
    | StreamBegan
    | ChunkReady
    | StripeReady
    | StreamEnded
    | HeldHeard
    | Needed
    | NeedsDropped
    | ChunkArrived
    | ChunkFailed
    | Decoded
    | Relooked
)

# ---- effects ----


@dataclass(slots=True)
class AskVersion:
    """ENTRY_ASK for the version. Ends in VersionHeard, Refused or LinkLost."""

    node: int


@dataclass(slots=True)
class AskEntry:
    """ENTRY_ASK for the entry. Ends in EntryHeard, VersionHeard (NONE), Refused or LinkLost."""

    node: int


@dataclass(slots=True)
class Hold:
    """HOLD. Ends in HeldHeard (but for SEND), Refused, LinkLost, or by Withdraw."""

    node: int
    number: int  # of the chunk or stripe
    shard: int  # of the stripe; of a chunk in copies which of them
    key: Key
    size: int
    claim: Claim


@dataclass(slots=True)
class Send:
    """Send the chunk: its Hold was answered SEND. Ends in HeldHeard KEPT or BAD, as its Hold."""

    node: int
    number: int
    shard: int
    key: Key


@dataclass(slots=True)
class Withdraw:
    """Give a Hold up: send no more of it, give back what is reserved, tell no answer of it."""

    node: int
    number: int
    shard: int


@dataclass(slots=True)
class LetGo:
    """The bytes of this chunk or stripe (put: by ChunkReady's number; get: by its Want's) are not
    needed here any more."""

    number: int


@dataclass(slots=True)
class SendEntry:
    """ENTRY. Ends in VersionHeard (KEPT or LATER), Refused or LinkLost."""

    node: int
    entry: Entry


@dataclass(slots=True)
class Release:
    """RELEASE, if the node can be reached; no answer."""

    node: int
    how: int  # RELEASE_THIS, RELEASE_BEFORE
    digest: Digest
    version: Version


@dataclass(slots=True)
class Finish:
    """A put or a removal is done, and acknowledged. Nothing comes after it."""

    entry: Entry
    info: PutInfo = PutInfo()


@dataclass(slots=True)
class Fail:
    """It has failed. Nothing comes after it."""

    code: str  # a name of velum.h's table
    text: str
    figures: tuple[Figure, ...] = ()  # of STORE_FULL
    numbers: tuple[int, ...] = ()  # of CHUNKS_LOST: indexes in the manifest's keys


@dataclass(slots=True)
class Found:
    """A lookup has ended: this is what the name stands for; no tombstone."""

    entry: Entry


@dataclass(slots=True)
class NotFound:
    """A lookup has ended: there is no such file."""

    tombstone: Entry | None = None


@dataclass(slots=True)
class Unreachable:
    """A lookup has ended: too few keepers have answered to know."""

    text: str


@dataclass(slots=True)
class Want:
    """WANT. Ends in ChunkArrived, ChunkFailed, LinkLost, or by Unwant."""

    node: int
    number: int  # index in the manifest's keys
    key: Key
    size: int


@dataclass(slots=True)
class Unwant:
    """Give a Want up: drop what comes of it, tell nothing of it."""

    node: int
    number: int


@dataclass(slots=True)
class Give:
    """Bytes [first, end) of the file are next for who needs them; they lie in this chunk, at
    `offset`. Its memory may be let go in the same breath: take over or copy at once."""

    number: int
    first: int
    end: int
    offset: int


@dataclass(slots=True)
class Decode:
    """Make the missing data shards of a stripe of these k shards, which are here. Ends in
    Decoded."""

    stripe: int
    have: tuple[int, ...]  # numbers within the stripe, ascending


@dataclass(slots=True)
class Relook:
    """A chunk is nowhere: look the name up again. Ends in Relooked."""


@dataclass(slots=True)
class Restart:
    """The file was replaced before a byte of it was given: this is it now. What was needed is
    forgotten: need it anew. Of an inline file nothing comes after this."""

    entry: Entry


Effect = (
    AskVersion
    | AskEntry
    | Hold
    | Send
    | Withdraw
    | LetGo
    | SendEntry
    | Release
    | Finish
    | Fail
    | Found
    | NotFound
    | Unreachable
    | Want
    | Unwant
    | Give
    | Decode
    | Relook
    | Restart
)
