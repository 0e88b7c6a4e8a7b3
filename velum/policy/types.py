"""Plain data that policies share, and that the binding builds from the wire.

Owns: the Python mirror of what ``csrc/wire.h`` says of members, health and datagrams: the same
names, the same codes, the same ranges.
Refuses to know: bytes, sockets, and what anybody does with these values.
How: immutable tuples, cheap to build, to compare and to share between nodes of a simulation.
"""

from __future__ import annotations

from typing import Final, NamedTuple

# States of a member, ``velum_member_state``. A higher one wins at the same incarnation.
ALIVE: Final = 1
SUSPECT: Final = 2
DEAD: Final = 3
LEFT: Final = 4
STATE_NAMES: Final = {ALIVE: "alive", SUSPECT: "suspect", DEAD: "dead", LEFT: "left"}

# Roles, ``velum_role``. Only nodes and leaves are members.
NODE: Final = 1
LEAF: Final = 2
WORKER: Final = 3
CLIENT: Final = 4
ROLE_NAMES: Final = {NODE: "node", LEAF: "leaf", WORKER: "worker", CLIENT: "client"}

# Frame types of datagrams, ``velum_frame_type``.
PROBE: Final = 0x30
ACK: Final = 0x31
PROBE_REQUEST: Final = 0x32
NACK: Final = 0x33
GOSSIP: Final = 0x34
BEACON: Final = 0x35

BEACON_ASK: Final = 1  # flag of a BEACON: answer me
UPDATES_MAX: Final = 40  # updates in one datagram

# A record that claims more is ignored: its owner could not rise above it in 64 bits. Honest
# incarnations are milliseconds since 1970, near 2**41.
INCARNATION_MAX: Final = 2**63 - 1


class Address(NamedTuple):
    """An IPv4 address as a number in host order, and a port; UDP and TCP use the same port."""

    ip: int
    port: int

    def __str__(self) -> str:
        ip = self.ip
        return f"{ip >> 24}.{ip >> 16 & 255}.{ip >> 8 & 255}.{ip & 255}:{self.port}"


class Health(NamedTuple):
    """What a node says of its load, ``velum_health``."""

    cpu: int = 0  # busy share of the machine's CPUs, percent
    slots: int = 0  # workers it runs
    cores: int = 1  # CPUs of the machine
    flags: int = 0  # bit 0: leaving
    queue: int = 0  # tasks waiting for a worker
    running: int = 0  # workers busy
    free_mib: int = 0  # RAM available, MiB
    speed: int = 0  # calibrated speed of one worker, thousand loop rounds a second
    ram_mib: int = 0  # given to chunks of files, MiB
    ram_free_mib: int = 0  # of that, not used


class Update(NamedTuple):
    """A member as gossip tells of it, ``velum_member``."""

    id: int  # 1..65535
    state: int  # ALIVE, SUSPECT, DEAD or LEFT
    role: int  # NODE or LEAF
    incarnation: int  # unix milliseconds at the node's start, raised to refute
    address: Address
    accuser: int = 0  # who says so of a suspect, else 0


NOWHERE: Final = Address(0, 0)
NO_HEALTH: Final = Health()


class Datagram(NamedTuple):
    """One datagram, ``velum_datagram``; fields that its type does not carry keep their defaults.

    In an ACK, ``target`` is who answers; ``incarnation`` and ``health`` are the target's, also when
    ``sender`` is a helper that passes the answer on.
    """

    type: int  # PROBE .. BEACON
    sequence: int  # ties an ACK or NACK to its PROBE or PROBE_REQUEST
    sender: int  # 0 in a BEACON of a client
    target: int = 0
    incarnation: int = 0  # PROBE: at which the target is suspected, 0 for not at all
    address: Address = NOWHERE  # PROBE_REQUEST: the target's; BEACON: the sender's
    role: int = 0  # BEACON: the sender's
    flags: int = 0  # BEACON: BEACON_ASK
    health: Health = NO_HEALTH  # PROBE, ACK
    updates: tuple[Update, ...] = ()


class Member(NamedTuple):
    """What a node holds about another member."""

    update: Update
    health: Health  # newest heard
    since_ms: int  # when this state began, on the holder's clock
    heard_ms: int  # when its health was last heard; 0: never

    @property
    def id(self) -> int:
        return self.update.id

    @property
    def state(self) -> int:
        return self.update.state

    @property
    def address(self) -> Address:
        return self.update.address
