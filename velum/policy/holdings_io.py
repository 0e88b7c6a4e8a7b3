"""What a node's chunks hear and ask for: events and effects of `holdings.py`, and what it needs of
the store of bytes.

Owns: their shapes. Refuses to know: how either comes about, and the bytes of chunks. Events are
past-tense nouns, effects are verbs. They are not frozen: some are made for every chunk.

Between nodes each of these is heard as the other: SendOffer as OfferAsked, AnswerOffer as
OfferAnswered, SendCopy as HoldAsked and the chunk's bytes, AnswerHold as the state in CopyEnded. A
node sends to itself as to any other.

The caller reports one CopyEnded for each SendCopy, and one RebuildEnded for each Rebuild, whatever
happens. Nothing that a member's former life has sent is told after the MembersChanged that says it
was started anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, Protocol

from .filetypes import Claim, Digest, Key
from .hybridclock import Version
from .placement import Budget

Name = tuple[Digest, Version]
"""One version of a file."""

LOST = 0
"""How a copy ended that no answer came to, beside the states of HELD."""


class Checked(IntEnum):
    """What a step of hashing a chunk again found."""

    MORE = 0  # call again
    RIGHT = 1
    WRONG = 2  # it is held still
    GONE = 3  # it is not held


class Chunks(Protocol):
    """A node's chunks in RAM, as csrc/chunks.h has them."""

    def reserve(self, key: Key, size: int, sender: int) -> int:
        """SEND, HAVE, BUSY, FULL or BAD (it is held, and has another size)."""

    def abandon(self, key: Key, sender: int) -> None:
        """Gives up a sender's reservation, if there is one."""

    def abandon_all(self, sender: int) -> None:
        """Gives up all reservations of a sender that is gone."""

    def drop(self, key: Key) -> None:
        """Frees a chunk that is held."""

    def size(self, key: Key) -> int | None:
        """Of a chunk that is held, complete; else None."""

    def free_bytes(self) -> int:
        """Of the budget."""

    def verify(self, key: Key, bytes_max: int) -> int:
        """Hashes a chunk again, at most so many bytes a call; one chunk at a time. A Checked."""


# ---- events ----


@dataclass(slots=True)
class MembersChanged:
    """The live full members, this node included, are these now; or one of them gives another budget
    than before, or has been started anew. What is free of a budget is no change."""

    budgets: Sequence[Budget]
    restarted: frozenset[int] = frozenset()  # have forgotten everything


@dataclass(slots=True)
class MemberLeft:
    """A member has left in order: its entries are with others. Comes before MembersChanged."""

    id: int


@dataclass(slots=True)
class HoldAsked:
    """Somebody has a chunk for this node. Ends in AnswerHold; if that says SEND, in ChunkStored or
    LinkClosed, and then in a second AnswerHold."""

    link: int
    ticket: int  # the caller's own, comes back in the answer
    key: Key
    size: int
    claims: Sequence[Claim]
    node: int  # a member that repairs, or 0: a putter, be it a client or a node


@dataclass(slots=True)
class HoldWithdrawn:
    """Who said HOLD with this ticket does not send the chunk after all, or not to its end."""

    link: int
    ticket: int


@dataclass(slots=True)
class ChunkStored:
    """The last part of a chunk that a link was told to send has come. Not `ok`: its hash is
    wrong, and it is not held."""

    link: int
    key: Key
    ok: bool


@dataclass(slots=True)
class LinkClosed:
    """A link on which chunks came is gone."""

    link: int


@dataclass(slots=True)
class Released:
    """A putter says that claims have ended: RELEASE_THIS or RELEASE_BEFORE."""

    how: int
    digest: Digest
    version: Version


@dataclass(slots=True)
class OfferAsked:
    """A member wants to know which of these chunks are here. Ends in AnswerOffer."""

    node: int
    ticket: int
    keys: Sequence[Key]


@dataclass(slots=True)
class OfferAnswered:
    """A member's answer to SendOffer: an OFFERED_* for each key. `round` as it was sent."""

    node: int
    round: int
    keys: Sequence[Key]
    states: Sequence[int]


@dataclass(slots=True)
class ClaimsAnswered:
    """A keeper's answer to AskClaims: FAST, OLD, UNKNOWN or PENDING for each name."""

    node: int
    names: Sequence[Name]
    states: Sequence[int]


@dataclass(slots=True)
class CopyEnded:
    """A SendCopy is over: HAVE, KEPT, FULL, BUSY, BAD or LOST."""

    node: int
    key: Key
    state: int


@dataclass(slots=True)
class RebuildEnded:
    """A Rebuild is over: for each of its pieces HAVE, KEPT, FULL, BUSY, BAD or LOST."""

    what: bytes
    states: Sequence[int]


@dataclass(slots=True)
class TimePassed:
    """The deadline has come."""


Event = (
    MembersChanged
    | MemberLeft
    | HoldAsked
    | HoldWithdrawn
    | ChunkStored
    | LinkClosed
    | Released
    | OfferAsked
    | OfferAnswered
    | ClaimsAnswered
    | CopyEnded
    | RebuildEnded
    | TimePassed
)

# ---- effects ----


@dataclass(slots=True)
class AnswerHold:
    """HELD: SEND, HAVE, KEPT, FULL, BUSY or BAD."""

    link: int
    ticket: int
    state: int


@dataclass(slots=True)
class AnswerOffer:
    """OFFERED: an OFFERED_* for each key."""

    node: int
    ticket: int
    states: list[int]


@dataclass(slots=True)
class SendOffer:
    """Ask a member, never this one, which of these chunks it has: OFFER_KEYS of them at most."""

    node: int
    round: int
    keys: list[Key]


@dataclass(slots=True)
class AskClaims:
    """Ask a keeper, perhaps this node, what has become of these: ASK_NAMES of them at most."""

    node: int
    names: list[Name]


@dataclass(slots=True)
class SendCopy:
    """Say HOLD with these claims (a put's limit of them at most), and send the chunk's bytes if the
    answer is SEND."""

    node: int
    key: Key
    size: int
    claims: list[Claim]


@dataclass(slots=True)
class Piece:
    """A shard that a node lacks, and the claims to hold it under."""

    index: int
    node: int  # perhaps this one
    key: Key
    claims: tuple[Claim, ...]


@dataclass(slots=True)
class Rebuild:
    """Say HOLD to the nodes of all `missing`; if any answers SEND collect K shards from `have`
    (WANT), decode those shards and send them. k == 1 and m == 0: a whole chunk is fetched."""

    what: bytes  # comes back in RebuildEnded
    k: int
    m: int
    size: int  # of each shard
    keys: tuple[Key, ...]  # of all k + m shards
    have: list[tuple[int, int]]  # index, node; perhaps this one
    missing: list[Piece]


Effect = AnswerHold | AnswerOffer | SendOffer | AskClaims | SendCopy | Rebuild


class Figures(NamedTuple):
    """What `df` shows of a node's chunks."""

    chunks: int
    bytes: int
    loose_bytes: int  # claimed by puts that are under way, or were given up; about
    over_bytes: int  # claimed by versions that are over, freed soon or when room is needed; about
    unconfirmed: int  # chunks and stripes of which not all copies are known to be there
    at_risk: int  # copies and shards known to lack, of which this node is the first to see to it
    lost: int  # chunks that this node should have, were found bad, and are not back yet
    bad: int  # chunks found bad, ever
    repair_bytes: int  # copies waiting and under way
    repaired_bytes: int  # copies sent, ever
