"""A network made of a seed: what becomes of each datagram, and when.

Owns: simulated time, the queue of what is to happen, and the conditions between nodes: delay, loss,
duplication, reordering and partition.
Refuses to know: what the datagrams say and what the nodes are.
How: one heap of (time, number, action). The number makes the order of equal times that of their
making, so that one seed gives one run, always. Times are integer milliseconds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

from velum.policy.types import ACK, BEACON, GOSSIP, NACK, PROBE, PROBE_REQUEST, Datagram

# IPv4 and UDP headers, and csrc/wire.h's header and fixed part of each datagram.
UDP_BYTES = 28
FIXED_BYTES = {PROBE: 53, ACK: 53, PROBE_REQUEST: 27, NACK: 20, GOSSIP: 19, BEACON: 34}
UPDATE_BYTES = 20

# IPv4 and TCP headers, and what one segment carries.
TCP_BYTES = 40
SEGMENT_BYTES = 1_460
SYNC_FIXED_BYTES = 18
SYNC_RECORD_BYTES = 44


def datagram_bytes(message: Datagram) -> int:
    """What a datagram costs on the network, IP and UDP headers included."""
    return UDP_BYTES + FIXED_BYTES[message.type] + UPDATE_BYTES * len(message.updates)


def sync_bytes(records: int) -> int:
    """What a SYNC or SYNC_REPLY costs on an open link, IP and TCP headers included."""
    payload = SYNC_FIXED_BYTES + SYNC_RECORD_BYTES * records
    return payload + TCP_BYTES * -(-payload // SEGMENT_BYTES)


@dataclass(frozen=True, slots=True)
class Conditions:
    """How the network treats datagrams; shares are between 0 and 1."""

    latency_ms: tuple[int, int] = (1, 10)  # one way, uniform
    loss: float = 0.0
    duplicate: float = 0.0  # share delivered twice
    reorder: float = 0.0  # share that takes REORDER_TIMES the longest latency more


REORDER_TIMES = 5


class Network:
    """Time and what happens in it. Nodes are named by any integer."""

    def __init__(self, conditions: Conditions, rng: random.Random) -> None:
        self.conditions = conditions
        self.now_ms = 0
        self._rng = rng
        self._queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbered = 0
        self._apart: frozenset[int] = frozenset()

    def at(self, when_ms: int, action: Callable[..., None], *args: Any) -> None:
        """Let something happen at a time."""
        self._numbered += 1
        heappush(self._queue, (when_ms, self._numbered, action, args))

    def run(self, until_ms: int) -> None:
        """Let everything happen that is due until then, that moment included."""
        queue = self._queue
        while queue and queue[0][0] <= until_ms:
            self.now_ms, _, action, args = heappop(queue)
            action(*args)
        self.now_ms = until_ms

    def latency_ms(self) -> int:
        """How long something takes one way, this time."""
        low, high = self.conditions.latency_ms
        return low + int(self._rng.random() * (high - low + 1))

    def carry(self, source: int, target: int, deliver: Callable[..., None], *args: Any) -> None:
        """Send a datagram: `deliver` happens later, or never, or twice."""
        if not self.joined(source, target):
            return
        conditions, chance = self.conditions, self._rng.random
        if conditions.loss and chance() < conditions.loss:
            return
        self.at(self.now_ms + self._delay_ms(), deliver, *args)
        if conditions.duplicate and chance() < conditions.duplicate:
            self.at(self.now_ms + self._delay_ms(), deliver, *args)

    def joined(self, one: int, other: int) -> bool:
        """Whether no partition stands between two nodes."""
        return not self._apart or (one in self._apart) == (other in self._apart)

    @property
    def parted(self) -> bool:
        """Whether anybody is cut off."""
        return bool(self._apart)

    def part(self, nodes: Iterable[int]) -> None:
        """Cut these nodes off from all others; they still reach each other."""
        self._apart = frozenset(nodes)

    def heal(self) -> None:
        """End the partition."""
        self._apart = frozenset()

    def _delay_ms(self) -> int:
        conditions = self.conditions
        delay_ms = self.latency_ms()
        if conditions.reorder and self._rng.random() < conditions.reorder:
            delay_ms += REORDER_TIMES * conditions.latency_ms[1]
        return delay_ms
