"""Whom to probe next, how long to wait, and the probes under way.

Owns: the probing order, the round trip estimate, the record of a probe. Refuses to know: messages,
member states (a caller's predicate answers) and time beyond the numbers it is given.
How: each round visits every member once in a fresh random order (SWIM, section 4.3: a crash is
probed within a bounded time). The order is drawn as it is used, one Fisher-Yates step a probe, so
a round costs no shuffle and a newcomer has the same chance as anybody still to be visited.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Iterable

from .types import Address

# Direct probe: the timeout follows the measured round trip within these bounds. The lower absorbs
# a scheduler's hiccup, the upper keeps both stages of a probe within the protocol period.
PROBE_MS_MIN = 300
PROBE_MS_MAX = 500

# Why a probe was sent, which decides what its silence means.
ROUND = 1  # the protocol period's own probe: silence makes the target suspect
CONFIRM = 2  # checks another node's accusation: silence confirms it
TELL = 3  # tells a suspect of its suspicion: silence means nothing
SEEK = 4  # looks whether a dead member is back: silence means nothing
RELAY = 5  # sent for another node: silence is reported to it


class Probe:
    """A PROBE that has not been answered yet."""

    __slots__ = ("kind", "target", "address", "sent_ms", "indirect", "silent", "helpers", "reply")

    def __init__(self, kind: int, target: int, address: Address, sent_ms: int) -> None:
        self.kind = kind
        self.target = target
        self.address = address
        self.sent_ms = sent_ms
        self.indirect = False  # helpers have been asked
        self.helpers = 0
        self.silent: set[int] = set()  # helpers that have not answered
        self.reply: tuple[Address, int] | None = None  # RELAY: whom to answer, with what sequence


class RoundTrip:
    """Smoothed round trip time (Jacobson 1988, RFC 6298), in integer milliseconds."""

    __slots__ = ("_mean8", "_deviation4")

    def __init__(self) -> None:
        self._mean8 = 0  # mean times 8
        self._deviation4 = 0  # mean deviation times 4

    def sample(self, round_trip_ms: int) -> None:
        """Take in a measurement of a probe that was sent once only."""
        error = round_trip_ms - (self._mean8 >> 3)
        self._mean8 += error
        self._deviation4 += abs(error) - (self._deviation4 >> 2)

    @property
    def timeout_ms(self) -> int:
        """How long a direct answer may take."""
        return min(PROBE_MS_MAX, max(PROBE_MS_MIN, (self._mean8 >> 3) + self._deviation4))


class ProbeOrder:
    """The members to visit, and a source of random members.

    Removal is lazy: a departed member stays in the array until a draw meets it.
    """

    __slots__ = ("_rng", "_ids", "_done", "_departed")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._ids = array("H")
        self._done = 0  # ids before this index have been visited in this round
        self._departed: set[int] = set()  # still in the array, to be dropped when met

    def fill(self, ids: Iterable[int], without: int) -> None:
        """Begin with these members, but for one of them: cheap from an array."""
        self._ids = array("H", ids)
        self._departed = {without}

    def add(self, member: int) -> None:
        """A member came, or came back: it is visited in this round, or else in the next."""
        if member in self._departed:
            self._departed.remove(member)
        else:
            self._ids.append(member)

    def remove(self, member: int) -> None:
        """A member is gone."""
        self._departed.add(member)

    def next(self) -> int | None:
        """The next member to probe; None when there is none."""
        ids = self._ids
        while ids:
            if self._done >= len(ids):
                self._done = 0
            at = self._done + int(self._rng.random() * (len(ids) - self._done))
            member = ids[at]
            if member in self._departed:
                self._drop(at)
                continue
            ids[at], ids[self._done] = ids[self._done], member
            self._done += 1
            return member
        return None

    def sample(self, count: int, fits: Callable[[int], bool]) -> list[int]:
        """Up to `count` different random members that fit. May miss some that would when few do."""
        ids = self._ids
        if len(ids) <= 4 * count:
            fitting = [member for member in ids if member not in self._departed and fits(member)]
            return self._rng.sample(fitting, min(count, len(fitting)))
        chosen: list[int] = []
        for _ in range(4 * count):
            member = ids[int(self._rng.random() * len(ids))]
            if member not in chosen and member not in self._departed and fits(member):
                chosen.append(member)
                if len(chosen) == count:
                    break
        return chosen

    def validate(self, live: set[int]) -> None:
        """Check that exactly the live members are in the order, once each."""
        ids = [member for member in self._ids if member not in self._departed]
        assert len(ids) == len(set(ids)), "a member is visited twice in a round"
        assert set(ids) == live, "the probing order differs from the live members"
        assert 0 <= self._done <= len(self._ids), "the round is out of its bounds"
        assert self._departed <= set(self._ids), "a departed member is not in the order"

    def _drop(self, at: int) -> None:
        """Take the id at an index that is still to be visited out of the array."""
        self._departed.remove(self._ids[at])
        self._ids[at] = self._ids[-1]
        self._ids.pop()
