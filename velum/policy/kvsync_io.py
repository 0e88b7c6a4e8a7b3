"""What anti-entropy hears and asks for: its events and effects, and the store as it sees it.

Owns: their shapes. Refuses to know: how either comes about. Events are past-tense nouns, effects
are verbs. Effects are to be performed in their order; what an event says of a peer is told in the
order in which its frames came. A peer has one link at a time; events of one that has closed, or
that another has taken the place of, are not told any more, nor are its frames merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .kvtalk import Message


class Store(Protocol):
    """The keys, as far as they are looked at from here."""

    def sums(self, level: int, index: int) -> Sequence[int]:
        """The sums of the 16 children of an inner node; level 0 is the root's."""

    def mark(self, mark: int) -> None:
        """What comes from now on has this age mark."""


# ---- events ----


@dataclass(frozen=True, slots=True)
class LinkOpened:
    """A link to a node of the mesh is open."""

    node: int


@dataclass(frozen=True, slots=True)
class LinkClosed:
    """It is closed."""

    node: int


@dataclass(frozen=True, slots=True)
class Heard:
    """KV_TALK of a peer."""

    node: int
    message: Message


@dataclass(frozen=True, slots=True)
class SumsHeard:
    """KV_SUMS: of each inner node that was asked for its 16 sums."""

    node: int
    session: int  # the frame's correlation
    level: int
    sums: Sequence[tuple[int, Sequence[int]]]


@dataclass(frozen=True, slots=True)
class LeavesEnded:
    """KV_END, once all records before it are merged. `whole`: it says so, and all that the peer has
    sent since the session began was taken: none was too far ahead, none met a full store or log."""

    node: int
    session: int
    records: int
    whole: bool


@dataclass(frozen=True, slots=True)
class Progressed:
    """Records of a peer came: it is not silent."""

    node: int


@dataclass(frozen=True, slots=True)
class Synced:
    """A `SyncLog` is done; `well`: what was merged before it is on disk, or there is no log."""

    node: int
    session: int
    well: bool


@dataclass(frozen=True, slots=True)
class PushMissed:
    """Something that was written here did not fit into a peer's queue."""

    node: int


@dataclass(frozen=True, slots=True)
class Tended:
    """A whole walk of `Tend` is done: all tombstones with marks up to this one are settled."""

    settled_to: int


@dataclass(frozen=True, slots=True)
class ForgetAsked:
    """The operator says that a node does not come back."""

    node: int


@dataclass(frozen=True, slots=True)
class TimePassed:
    """`next_deadline()` has come."""


Event = (
    LinkOpened | LinkClosed | Heard | SumsHeard | LeavesEnded | Progressed | Synced | PushMissed
    | Tended | ForgetAsked | TimePassed
)  # fmt: skip

# ---- effects ----


@dataclass(frozen=True, slots=True)
class Talk:
    """Send KV_TALK."""

    node: int
    message: Message


@dataclass(frozen=True, slots=True)
class SaveMembers:
    """Bring the roster's text to disk, before anything that comes after this."""


@dataclass(frozen=True, slots=True)
class Join:
    """Push to a peer from now on what is written here, over this link."""

    node: int


@dataclass(frozen=True, slots=True)
class Part:
    """Do not any more, merge nothing that it sends, and close the link: one of the two copies was
    forgotten. `ours`: it is this node's, whose log has to be moved away."""

    node: int
    ours: bool


@dataclass(frozen=True, slots=True)
class AskSums:
    """Send KV_ASK, with the session for a correlation."""

    node: int
    session: int
    level: int
    nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AskLeaves:
    """Send KV_LEAVES, with the session for a correlation."""

    node: int
    session: int
    leaves: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SyncLog:
    """Bring all that is merged to disk, then tell `Synced`."""

    node: int
    session: int


@dataclass(frozen=True, slots=True)
class Tend:
    """Walk over all keys in the background: settle tombstones up to one mark, drop settled ones up
    to the other (0: none). The next one takes its place."""

    settle_to: int
    drop_to: int


@dataclass(frozen=True, slots=True)
class Offer:
    """A peer begins to pull what is here now."""

    node: int


@dataclass(frozen=True, slots=True)
class Credit:
    """It has all that was here when it last began, on disk."""

    node: int


Effect = Talk | SaveMembers | Join | Part | AskSums | AskLeaves | SyncLog | Tend | Offer | Credit
