"""The crew of a job: the nodes that run its leases, how fast they are, when their work will end.

Owns: leases as their coordinator knows them, each node's queue of them, and every estimate of time.
Refuses to know: which slices are free, who is to get them, and the clock.

A node runs `slots` leases at a time, in the order of their grants; the others wait there. Its
*pace*, the milliseconds that one slot takes for one slice, is a moving average of what its reports
show, on the wall's clock: what others take of the same CPUs counts. Until a node has
reported, its calibrated speed stands in, by the ratio of pace to speed of those that have.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from math import inf
from typing import Final

# Leases a node may have open for each slot: one runs, one waits so that no slot waits for us.
LEASES_PER_SLOT: Final = 2
# Of a new measurement, what goes into the average. A few reports follow a change of the slices'
# cost or of the node's load; one odd report does little.
PACE_GAIN: Final = 0.4
# No slice is faster: a call into a guest takes about as long.
PACE_MS_MIN: Final = 0.0001
# The pace of a node of median speed while nobody has measured any.
PACE_MS_UNKNOWN: Final = 500
# So long silence is no delay: two of the worker's reports (VELUM_REPORT_MS) and the network.
QUIET_MS: Final = 50
# A slice that takes this many times its node's pace is late.
LATE_FACTOR: Final = 1.5
# A lease without progress for so many times its node's pace stands still, but not before
# STILL_MS_MIN: a busy machine or a lost packet explains that much. Of a node that has not reported
# on this job, the module may still be on its way there: NEW_MS.
STILL_FACTOR: Final = 3
STILL_MS_MIN: Final = 1000
NEW_MS: Final = 2000

_UNIT: Final = 10**9  # rates are slices in so many milliseconds: integers, so that sums stay exact


@dataclass(slots=True, eq=False)
class Lease:
    """The right of one node to run slices [first, end)."""

    ticket: int
    node: int
    position: int  # its first unreported slice; at first, its first
    end: int
    careful: bool
    granted_at: int
    since: int | None = None  # when it progressed last, or began; None: it waits there
    heard: bool = False  # it has reported
    still: bool = False  # it was found to stand still, and has not progressed since
    twin: Lease | None = None  # the other lease of a doubled slice; both have just that one left
    double: bool = False  # of the two, the later one

    @property
    def left(self) -> int:
        """Slices it has not reported; 0: its end has not been heard yet, that is all."""
        return self.end - self.position

    @property
    def spare(self) -> int:
        """Slices that can be taken away: all but the one it is in."""
        return self.left if self.since is None else self.left - 1


@dataclass(slots=True, eq=False)
class Member:
    """A node that can be sent leases."""

    id: int
    slots: int = 0
    speed: int = 0  # calibrated; 0: unknown
    worth: int = 1  # the same; the median's if unknown
    pace: float | None = None  # measured, ms of one slot for one slice
    rate: int = 0  # the same as slices in _UNIT ms
    leases: dict[int, Lease] = field(default_factory=dict)  # open ones by ticket, as granted
    resting: bool = False  # gave a lease back and is sent none for a while
    backoff_ms: int = 0  # how long it rested last
    mute: bool = False  # stood still or was overtaken, and has not been heard since

    def room(self, per_slot: int = LEASES_PER_SLOT) -> bool:
        """Whether it can take another lease, at so many a slot. A mute one has one at a time, those
        that stand still aside: it may be one of its workers that hangs, and not the node."""
        if self.resting or not self.slots:
            return False
        if not self.mute:
            return len(self.leases) < self.slots * per_slot
        return len(self.leases) < self.slots and all(x.still for x in self.leases.values())

    def promote(self, now: int) -> None:
        """Notes that the leases at the head of its queue run now."""
        running = sum(lease.since is not None for lease in self.leases.values())
        for lease in self.leases.values():
            if running >= self.slots:
                return
            if lease.since is None:
                lease.since = now
                running += 1


class Crew:
    """The members, and what their paces mean for each other."""

    def __init__(self) -> None:
        self.members: dict[int, Member] = {}
        self._speeds: list[int] = []  # the known ones, ascending
        self._unknown: dict[int, Member] = {}  # members whose speed is not
        # Sums over the slots of all members: rate and worth of measured ones, worth of the others.
        self._rate = 0
        self._graded = 0
        self._ungraded = 0

    # ---- who is there ----

    def put(self, node: int, slots: int, speed: int) -> Member:
        """A member is new, or its figures are."""
        member = self.members.get(node)
        if member is None:
            member = self.members[node] = Member(node)
        elif (slots, speed) == (member.slots, member.speed):
            return member
        else:
            self._leave(member)
        member.slots, member.speed = slots, speed
        if speed:
            insort(self._speeds, speed)
            member.worth = speed
        else:
            self._unknown[node] = member
            member.worth = self._median()
        self._count(member, 1)
        self._regrade()
        return member

    def remove(self, node: int) -> Member | None:
        """A member is gone; returns it as it was."""
        member = self.members.pop(node, None)
        if member is not None:
            self._leave(member)
            self._regrade()
        return member

    def _leave(self, member: Member) -> None:
        self._count(member, -1)
        if member.speed:
            del self._speeds[bisect_left(self._speeds, member.speed)]
        else:
            del self._unknown[member.id]

    def _regrade(self) -> None:
        """The median may have changed, and with it what unknown speeds are taken for."""
        median = self._median()
        for member in self._unknown.values():
            if member.worth != median:
                self._count(member, -1)
                member.worth = median
                self._count(member, 1)

    def _count(self, member: Member, sign: int) -> None:
        slots = sign * member.slots
        if member.pace is None:
            self._ungraded += slots * member.worth
        else:
            self._rate += slots * member.rate
            self._graded += slots * member.worth

    def _median(self) -> int:
        return self._speeds[len(self._speeds) // 2] if self._speeds else 1

    # ---- how fast they are ----

    def measure(self, member: Member, pace_ms: float) -> None:
        """A slot of the member took so long for a slice."""
        pace_ms = max(PACE_MS_MIN, pace_ms)
        if member.pace is not None:
            pace_ms = member.pace + PACE_GAIN * (pace_ms - member.pace)
        self._count(member, -1)
        member.pace = pace_ms
        member.rate = max(1, round(_UNIT / pace_ms))
        self._count(member, 1)

    @property
    def measured(self) -> bool:
        """Whether anybody's pace on this job is known."""
        return self._graded > 0

    def _scale(self) -> float:
        """The rate of a slot of speed 1."""
        if self._graded:
            return self._rate / self._graded
        return _UNIT / (PACE_MS_UNKNOWN * self._median())

    def pace(self, member: Member) -> float:
        """The expected pace of a member, measured or not."""
        return _UNIT / (member.worth * self._scale()) if member.pace is None else member.pace

    def share(self, member: Member) -> float:
        """One slot's share of all there is; only of a member with slots."""
        scale = self._scale()
        rate = member.worth * scale if member.pace is None else member.rate
        return rate / (self._rate + self._ungraded * scale)

    # ---- how long things take ----

    def due_ms(self, member: Member) -> float:
        """Within so long a lease is heard of, if all is as expected."""
        return max(self.pace(member), QUIET_MS)

    def late_ms(self, member: Member) -> float:
        """A slice that takes longer is late."""
        pace = self.pace(member)
        if member.pace is None:
            return max(LATE_FACTOR * pace, NEW_MS)
        return max(LATE_FACTOR * pace, pace + QUIET_MS)

    def still_ms(self, member: Member) -> float:
        """A lease without progress for longer stands still."""
        least = NEW_MS if member.pace is None else STILL_MS_MIN
        return max(STILL_FACTOR * self.pace(member), least)

    def ends(self, lease: Lease, since: int, now: int) -> float:
        """When a running lease is expected to end. One that is late is expected to take as long
        again as it is late already."""
        pace = self.pace(self.members[lease.node])
        delay = max(0.0, now - since - self.due_ms(self.members[lease.node]))
        return max(now, since + lease.left * pace + 2 * delay)

    def forecast(self, member: Member, now: int) -> Iterator[tuple[float, Lease]]:
        """(expected end, lease) of all that a member has; `inf` for what waits behind leases that
        stand still."""
        pace, still_ms = self.pace(member), self.still_ms(member)
        busy: list[float] = []  # till when, by slot
        waiting = []
        for lease in member.leases.values():
            if lease.since is None:
                waiting.append(lease)
                continue
            end = self.ends(lease, lease.since, now)
            busy.append(inf if now - lease.since > still_ms else end)
            yield end, lease
        busy = sorted([*busy, *[float(now)] * (member.slots - len(busy))])
        slots = busy[len(busy) - member.slots :]  # ran more than it has slots: the first end unused
        heapify(slots)
        for lease in waiting:
            end = (heappop(slots) if slots else inf) + lease.left * pace
            heappush(slots, end)
            yield end, lease
