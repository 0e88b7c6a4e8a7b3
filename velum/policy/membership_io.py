"""What membership hears and what it asks for: its events and effects.

Owns: their shapes. Refuses to know: how either comes about. Events are past-tense nouns, effects
are verbs; both are plain frozen data.
"""

from __future__ import annotations

from dataclasses import dataclass

from .types import Address, Datagram, Health, Member, Update

# ---- events ----


@dataclass(frozen=True, slots=True)
class Started:
    """The node listens. `seeds`: addresses given by --join, tried until somebody answers."""

    seeds: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class DatagramArrived:
    """A datagram that the codec accepted, and where it came from."""

    message: Datagram
    source: Address


@dataclass(frozen=True, slots=True)
class SyncArrived:
    """The records of a SYNC or SYNC_REPLY, the sender's own first. The driver answers a SYNC with
    `Membership.sync_records()`, taken after this event."""

    records: tuple[tuple[Update, Health], ...]


@dataclass(frozen=True, slots=True)
class LinkClosed:
    """The TCP link to a member ended without BYE. `refused`: a dial was refused, so that nothing
    listens there any more."""

    id: int
    refused: bool = False


@dataclass(frozen=True, slots=True)
class ByeReceived:
    """A member said over TCP that it leaves (BYE with code 0)."""

    id: int


@dataclass(frozen=True, slots=True)
class DialFailed:
    """No link to an address could be made for ExchangeState."""

    address: Address
    refused: bool = False


@dataclass(frozen=True, slots=True)
class HealthMeasured:
    """This node's own load, to be told to others."""

    health: Health


@dataclass(frozen=True, slots=True)
class LeaveRequested:
    """The node is to leave in order. `next_deadline()` is None when all has been said."""


@dataclass(frozen=True, slots=True)
class TimePassed:
    """`next_deadline()` has come."""


Event = (
    Started
    | DatagramArrived
    | SyncArrived
    | LinkClosed
    | ByeReceived
    | DialFailed
    | HealthMeasured
    | LeaveRequested
    | TimePassed
)

# ---- effects ----


@dataclass(frozen=True, slots=True)
class SendDatagram:
    """Send one datagram."""

    to: Address
    message: Datagram


@dataclass(frozen=True, slots=True)
class BroadcastBeacon:
    """Broadcast a BEACON with this node's own record; `ask`: whoever hears it shall answer."""

    ask: bool


@dataclass(frozen=True, slots=True)
class AnswerBeacon:
    """Send a BEACON with this node's own record to one address."""

    to: Address


@dataclass(frozen=True, slots=True)
class ExchangeState:
    """Open or use a TCP link to this address and exchange SYNC for SYNC_REPLY over it."""

    with_: Address


@dataclass(frozen=True, slots=True)
class CheckLink:
    """Redial a member over TCP at once, to learn whether its process is gone. A refusal is
    reported as LinkClosed(refused=True); a link that comes about needs no report."""

    id: int


@dataclass(frozen=True, slots=True)
class OpenLink:
    """Keep a TCP link to this member, so that its end is noticed at once. A refusal is reported
    as LinkClosed(refused=True)."""

    id: int


@dataclass(frozen=True, slots=True)
class MemberChanged:
    """A member came, went, or is suspected; `before`: its state until now, None for a new one."""

    member: Member
    before: int | None


@dataclass(frozen=True, slots=True)
class HealthHeard:
    """A member told its load just now."""

    id: int
    health: Health


@dataclass(frozen=True, slots=True)
class IdConflict:
    """Another node at this address holds this node's id and was there first: stop this node."""

    id: int
    address: Address


Effect = (
    SendDatagram
    | BroadcastBeacon
    | AnswerBeacon
    | ExchangeState
    | CheckLink
    | OpenLink
    | MemberChanged
    | HealthHeard
    | IdConflict
)
