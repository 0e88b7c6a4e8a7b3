"""The leases of one job, as its coordinator grants them: who runs which slices.

Owns: which slices are still to be run, every open lease, and the decisions of docs/scatter.md,
section 5. Refuses to know: values, frames, copies, when the job is done, the clock. How fast nodes
are and when a lease will end is in crew.py. Each call tells what happened; step() then decides all
that can be decided now.

    a slice is      event                                  then
    free            a node has room                        leased, with those behind it
    leased          reported, or known some other way      known; other leases give it up
    leased          its lease's end came without it        free; the node rests
    leased          its lease was refused, its node lost   free; the node rests, or is forgotten
    leased, begun   the 8th node was lost with it          known: failed, LOST
    leased          its worker died                        free and fragile
    leased, fragile the third worker died in it            known: failed, POISON
    leased          no slice is free, a slot is idle       leased to that slot, if that gains time;
                                                           free, if its lease stands still
    leased, late    the same, and it cannot be taken       doubled: leased to that slot as well
    doubled         reported by one of the two             known; the other is revoked
    doubled         one of the two came back               leased
    any             not needed any more                    known

Runs of free slices get smaller towards the end: each is a part of the slot's share of what is free
(factoring: Hummel, Schonberg and Flynn, CACM 1992; guided self-scheduling: Polychronopoulos and
Kuck, IEEE ToC 1987). What that leaves uneven, taking tails away and doubling the last slices (the
backup tasks of Dean and Ghemawat, OSDI 2004) makes even.

Fragile slices are leased apart from others and carefully, so that a death tells which slice it was.
Whatever the table does not name, like a report under a ticket that is not open, is taken for what
it says of slices; everything else of it is ignored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from math import ceil, inf
from typing import Final

from .agenda import Agenda
from .crew import LEASES_PER_SLOT, Crew, Lease, Member
from .job import Failure, Spec
from .jobs_io import Grant, Revoke, Trim
from .slices import Span, Spans
from .tasks import Code

# A new lease is this part of its slot's share of the free slices: what is granted early may turn
# out slow, and what is left can still make up for it.
SHARE_PART: Final = 4
# A lease is at most so much work, so that jobs take turns on a worker; twice as much is cut back.
LEASE_MS_MAX: Final = 1000
# And at least so much, if there is enough for everybody: a lease costs each side some 0.1 ms.
LEASE_MS_MIN: Final = 20
# Work is not moved for less: two ways through a busy network.
GAIN_MS: Final = 10
# A slice is doubled where that takes at most 1 / DOUBLE_FACTOR of what it has left to go.
DOUBLE_FACTOR: Final = 1.25
# Leases and idle nodes looked at in one millisecond, on the average, to find what can be moved. It
# takes about 5 us each, so that a coordinator of 1,000 nodes has its time for reports.
SCAN_PER_MS: Final = 64
# Workers one slice may kill.
DEATHS_MAX: Final = 3
# Nodes that may be lost with one slice. More than a single task may take with it: a slice is often
# only near when a node of a large mesh goes.
LOSSES_MAX: Final = 8
# A node that gave a lease back rests; doubles until it reports, up to the maximum.
BACKOFF_MS: Final = 50
BACKOFF_MS_MAX: Final = 2000
# Where a careful lease died, others shall come first, lest one broken node make poison of a slice.
DEATH_REST_MS: Final = LEASE_MS_MAX

_REST: Final = 0  # kind of alarm; its key names a node


class Leasing:
    """The state machine. `free` are the slices to be run, `tickets` gives a new ticket each call.
    Times are integer milliseconds and never go back."""

    def __init__(self, spec: Spec, free: Spans, tickets: Callable[[], int]) -> None:
        self.retries = 0
        """Leases that came back without an end: lost, refused, died, cut short by their node."""
        self._spec = spec
        self._tickets = tickets
        self._needed_end = spec.slices
        self._left = free.copy()  # all that is not known
        self._free = free.copy()  # of those, what no lease has
        self._fragile = Spans()  # of those, what a worker may have died of
        self._crew = Crew()
        self._leases: dict[int, Lease] = {}
        self._deaths: dict[int, Counter[int]] = {}  # of workers: by slice, by node
        self._losses: Counter[int] = Counter()  # of nodes, by slice
        self._lost: list[Failure] = []
        self._agenda = Agenda()
        # Members with room for a lease; with a slot that has nothing to run; to be looked at again.
        self._roomy: dict[int, Member] = {}
        self._idle: dict[int, Member] = {}
        self._touched: dict[int, Member] = {}
        self._scan_at = 0  # not earlier
        self._look_at: int | None = None  # when idle slots may find something
        # What step() will return, by ticket.
        self._grants: dict[int, Grant] = {}
        self._trims: dict[int, Trim] = {}
        self._revokes: dict[int, Revoke] = {}

    # ---- members ----

    def has(self, ticket: int) -> bool:
        """Whether a lease of this ticket is open."""
        return ticket in self._leases

    def member_usable(self, node: int, slots: int, speed: int) -> None:
        """A node can be sent leases, or its figures are others now; `slots` may be 0."""
        self._touched[node] = self._crew.put(node, slots, speed)

    def member_lost(self, node: int) -> None:
        """A node cannot be sent leases any more; what it had is free, lost_failures() aside."""
        member = self._crew.members.get(node)
        if member is None:
            return
        for lease in list(member.leases.values()):
            index, begun = lease.position, lease.left > 0 and lease.since is not None
            self._come_back(lease)
            if begun:
                self._losses[index] += 1
                if self._losses[index] >= LOSSES_MAX:
                    self._cover([(index, index + 1)])
                    text = f"slice {index} was under way at the loss of {LOSSES_MAX} nodes"
                    self._lost.append(Failure(index, Code.LOST, text))
        self._crew.remove(node)
        self._agenda.cancel((_REST, node))
        for members in (self._roomy, self._idle, self._touched):
            members.pop(node, None)

    def lost_failures(self) -> list[Failure]:
        """Slices that failed with LOST since the last call."""
        lost, self._lost = self._lost, []
        return lost

    # ---- reports ----

    def reported(
        self, ticket: int, node: int, covered: Iterable[Span], busy_us: int, last: bool, now: int
    ) -> None:
        """A node reports of a lease: of slices `covered`, done or failed, after `busy_us` in the
        guest. `last`: the lease is over."""
        spans = list(covered)
        lease = self._leases.get(ticket)
        if lease is None or lease.node != node:
            self._cover(spans)
            return
        member = self._crew.members[node]
        if spans:
            self._progress(lease, member, spans, busy_us, now)
        if last and lease.left:
            self._come_back(lease)
            self._rest(member, now)
        elif last:
            self._drop(lease)

    def _progress(
        self, lease: Lease, member: Member, spans: list[Span], busy_us: int, now: int
    ) -> None:
        """A lease has gone on, mostly to the end of `spans`."""
        first, end = lease.position, lease.end
        inside = [span for span in spans if first <= span[0] and span[1] <= end]
        reach = max((min(e, end) for f, e in spans if f < end and e > first), default=first)
        if reach > first:
            self._measure(lease, member, reach - first, busy_us, now)
            lease.position, lease.since, lease.still = reach, now, False
        member.mute, member.backoff_ms = False, 0
        self._touched[member.id] = member
        self._forget(spans)
        for part in list(self._left.within(first, reach)):  # a report with gaps
            self._free.add(*part)
        if lease.twin is not None or len(inside) < len(spans):
            self._mend(spans)
        pace = self._crew.pace(member)
        if lease.left * pace > 2 * LEASE_MS_MAX:
            self._give_up(lease, max(1, int(LEASE_MS_MAX / pace)))

    def _measure(self, lease: Lease, member: Member, count: int, busy_us: int, now: int) -> None:
        """The time in the guest is the node's word; the wall's clock shows what else there is, but
        from a lease's second report on only: before, it may have waited for its turn."""
        took = min(busy_us / 1000, now - lease.granted_at + 1)
        if lease.since is not None and (lease.heard or not took):
            took = max(took, now - lease.since)
        lease.heard = True
        self._crew.measure(member, took / count)

    def settled(self, spans: Iterable[Span]) -> None:
        """These slices have become known by other ways than a report."""
        self._cover(list(spans))

    def narrow(self, end: int) -> None:
        """Slices from `end` up are not needed any more."""
        if end < self._needed_end:
            self._cover([(end, self._needed_end)])
            self._needed_end = end

    def _cover(self, spans: list[Span]) -> None:
        """These slices are not to be run any more; leases on them end or are cut."""
        self._forget(spans)
        self._mend(spans)

    def _forget(self, spans: list[Span]) -> None:
        for first, end in spans:
            self._left.remove(first, end)
            self._free.remove(first, end)
            self._fragile.remove(first, end)

    def _mend(self, spans: list[Span]) -> None:
        """Brings leases in line with what is left of `spans`."""
        low = min((first for first, _ in spans), default=0)
        high = max((end for _, end in spans), default=0)
        for lease in list(self._leases.values()):
            if not (lease.position < high and low < lease.end and lease.left):
                continue
            parts = list(self._left.within(lease.position, lease.end))
            if parts and parts[0][0] == lease.position:
                self._give_up(lease, parts[0][1] - lease.position)
                continue
            # It runs slices that are known: better it stops, and somebody takes the others.
            if lease.twin is not None and not lease.double:
                self._crew.members[lease.node].mute = True
            self._revoke(lease)
            for part in parts:
                self._free.add(*part)

    # ---- leases that come back ----

    def refused(self, ticket: int, node: int, code: int, deaths: int, now: int) -> Failure | None:
        """A lease ended with an error. Returns the failure of a slice that has killed its third
        worker. Whether another code fails the job is the caller's business."""
        lease = self._leases.get(ticket)
        if lease is None or lease.node != node:
            return None
        member, span = self._crew.members[node], (lease.position, lease.end)
        careful, left = lease.careful, lease.left
        self._come_back(lease)
        if code != Code.WORKER_DIED or not left:
            self._rest(member, now)
            return None
        self._fragile.add(*span)
        self._rest(member, now, DEATH_REST_MS if careful else 0)
        return self._killed(span[0], node, max(1, deaths)) if careful else None

    def _killed(self, index: int, node: int, deaths: int) -> Failure | None:
        """Workers died in this slice; the failure if they were too many."""
        killed = self._deaths.setdefault(index, Counter())
        killed[node] += deaths
        if killed.total() < DEATHS_MAX:
            return None
        self._cover([(index, index + 1)])
        where = ", ".join(f"{count} on node {at}" for at, count in sorted(killed.items()))
        text = f"slice {index} killed worker after worker ({where}) and is refused as poison"
        return Failure(index, Code.POISON, text)

    def _come_back(self, lease: Lease) -> None:
        """A lease is over before its end: what it has not reported is free, unless its twin has
        it."""
        self.retries += 1
        if lease.twin is None:
            self._free.add(lease.position, lease.end)
        self._drop(lease)

    def _rest(self, member: Member, now: int, least_ms: int = 0) -> None:
        """A node is sent no lease for a while, longer each time."""
        member.backoff_ms = min(BACKOFF_MS_MAX, max(BACKOFF_MS, 2 * member.backoff_ms))
        member.resting = True
        self._agenda.set((_REST, member.id), now + max(member.backoff_ms, least_ms))

    def stop(self) -> list[Revoke]:
        """Gives up every lease and forgets the members; nothing is granted until there are new
        ones."""
        for node, member in list(self._crew.members.items()):
            for lease in list(member.leases.values()):
                if lease.twin is None:
                    self._free.add(lease.position, lease.end)
                self._revoke(lease)
            self._crew.remove(node)
        for members in (self._roomy, self._idle, self._touched):
            members.clear()
        self._agenda.clear()
        self._look_at = None
        revokes = list(self._revokes.values())
        self._trims.clear()
        self._revokes.clear()
        return revokes

    # ---- leases begin, shrink and end ----

    def _issue(self, member: Member, span: Span, now: int) -> Lease:
        first, end = span
        careful = first in self._fragile
        lease = Lease(self._tickets(), member.id, first, end, careful, now)
        self._leases[lease.ticket] = member.leases[lease.ticket] = lease
        grant = Grant(member.id, lease.ticket, self._spec, first, end - first, careful)
        self._grants[lease.ticket] = grant
        member.promote(now)
        self._enlist(member)
        return lease

    def _give_up(self, lease: Lease, keep: int) -> None:
        """A lease keeps `keep` of its slices; what is still to be run of the others is free."""
        end = lease.end
        if keep < lease.left:
            self._shorten(lease, lease.position + keep)
            for part in list(self._left.within(lease.end, end)):
                self._free.add(*part)

    def _shorten(self, lease: Lease, end: int) -> None:
        grant = self._grants.get(lease.ticket)
        if grant is not None:
            grant.count -= lease.end - end
        else:
            self._trims[lease.ticket] = Trim(lease.node, lease.ticket, end)
        lease.end = end

    def _revoke(self, lease: Lease) -> None:
        self._trims.pop(lease.ticket, None)
        if self._grants.pop(lease.ticket, None) is None:
            self._revokes[lease.ticket] = Revoke(lease.node, lease.ticket)
        self._drop(lease)

    def _drop(self, lease: Lease) -> None:
        """A lease is over, or nobody waits for its end."""
        member = self._crew.members[lease.node]
        del self._leases[lease.ticket], member.leases[lease.ticket]
        self._trims.pop(lease.ticket, None)
        self._touched[member.id] = member
        if lease.twin is not None:
            lease.twin.twin, lease.twin.double = None, False
            lease.twin = None

    # ---- decisions ----

    def step(self, now: int) -> list[Grant | Trim | Revoke]:
        """What is to be done now."""
        while (key := self._agenda.pop(now)) is not None:
            member = self._touched[key[1]] = self._crew.members[key[1]]
            member.resting = False
        self._look_at = None
        self._refresh(now)
        self._grant(now)
        if self._left and self._idle and not self._free:
            self._level(now)
        out: list[Grant | Trim | Revoke] = [*self._revokes.values(), *self._trims.values()]
        out += self._grants.values()
        self._revokes.clear()
        self._trims.clear()
        self._grants.clear()
        return out

    def next_deadline(self) -> int | None:
        """When step() is due though nothing happens, or None."""
        rest, look = self._agenda.next(), self._look_at
        return min((at for at in (rest, look) if at is not None), default=None)

    def _refresh(self, now: int) -> None:
        """Takes in what has changed at members."""
        for member in self._touched.values():
            member.promote(now)
            self._enlist(member)
        self._touched.clear()

    def _enlist(self, member: Member) -> None:
        for members, room in ((self._roomy, member.room()), (self._idle, member.room(1))):
            if room:
                members[member.id] = member
            else:
                members.pop(member.id, None)

    def _fastest(self, members: Iterable[Member]) -> list[Member]:
        return sorted(members, key=self._crew.pace)

    def _grant(self, now: int) -> None:
        """Free slices go to slots with nothing to run, then to the queues behind the others."""
        for per_slot in range(1, LEASES_PER_SLOT + 1):
            if not self._free:
                return
            for member in self._fastest(self._roomy.values()):
                while member.room(per_slot) and (span := self._take(member)) is not None:
                    self._issue(member, span, now)

    def _take(self, member: Member) -> Span | None:
        """Takes out the next free run for a member, all of it fragile or none."""
        lowest = self._free.first()
        if lowest is None:
            return None
        first, end = lowest
        for fragile, fragile_end in self._fragile.within(first, end):
            end = fragile_end if fragile == first else fragile
            break
        return self._free.take(min(end - first, self._count(member)))

    def _count(self, member: Member) -> int:
        """How many slices a member's next lease is to have."""
        if member.mute or (member.pace is None and not self._crew.measured):
            return 1  # to see how long it takes, before anything depends on it
        pace = self._crew.pace(member)
        share = len(self._free) * self._crew.share(member)
        count = max(share / SHARE_PART, min(share, LEASE_MS_MIN / pace))
        return max(1, round(min(count, LEASE_MS_MAX / pace)))

    # ---- nothing is free, and a slot is idle ----

    def _level(self, now: int) -> None:
        """Idle slots take what others have."""
        if now < self._scan_at:
            self._look_at = self._scan_at
            return
        self._scan_at = now + (len(self._leases) + len(self._idle)) // SCAN_PER_MS
        if self._reclaim(now):
            self._refresh(now)
            self._grant(now)
        if self._idle:
            self._steal(now)
            self._refresh(now)
        if self._idle:
            self._double(now)
        if self._idle:
            self._look_at = self._next_look(now)

    def _forecast(self, now: int) -> list[tuple[float, Lease]]:
        members = self._crew.members.values()
        return [pair for member in members for pair in self._crew.forecast(member, now)]

    def _reclaim(self, now: int) -> bool:
        """Leases that stand still keep the slice they are in, those behind them nothing. Whether
        that has made slices free."""
        for end, lease in self._forecast(now):
            member = self._crew.members[lease.node]
            if lease.since is not None and now - lease.since > self._crew.still_ms(member):
                lease.still = True
                self._touched[member.id] = member
            if not lease.spare:
                continue
            if lease.still:
                self._give_up(lease, 1)
                member.mute = True
            elif lease.since is None and end == inf:
                self._free.add(lease.position, lease.end)
                self._revoke(lease)
                member.mute = True
        return bool(self._free)

    def _steal(self, now: int) -> None:
        """The lease that ends last is cut so that it and what the idle slot gets end together;
        then the next one, while that gains time."""
        heap = [(-end, lease.ticket, lease) for end, lease in self._forecast(now) if lease.spare]
        heapify(heap)
        for thief in self._fastest(self._idle.values()):
            pace = self._crew.pace(thief)
            while thief.room(1) and not thief.mute:
                if not heap or -heap[0][0] - now < pace + GAIN_MS:
                    return
                rest, _, victim = heappop(heap)
                rest = -rest - now
                count = self._part(victim, rest, pace)
                if not count:
                    continue
                span = (victim.end - count, victim.end)
                if count == victim.left:
                    self._revoke(victim)
                else:
                    self._shorten(victim, span[0])
                    rest -= count * self._crew.pace(self._crew.members[victim.node])
                    if victim.spare:
                        heappush(heap, (-now - rest, victim.ticket, victim))
                new = self._issue(thief, span, now)
                if new.spare:
                    heappush(heap, (-now - count * pace, new.ticket, new))

    def _part(self, victim: Lease, rest_ms: float, thief_pace: float) -> int:
        """How many slices are taken from a lease that would end in `rest_ms`; 0 if it gains
        nothing."""
        pace = self._crew.pace(self._crew.members[victim.node])
        even = int(rest_ms / (pace + thief_pace))

        def length(count: int) -> float:
            kept = rest_ms - count * pace if count < victim.left else 0
            return max(kept, count * thief_pace)

        count = min((min(victim.spare, n) for n in (even, even + 1)), key=length)
        return count if rest_ms - length(count) >= GAIN_MS else 0

    def _double(self, now: int) -> None:
        """What is left of leases is one slice each: idle slots run those that are late or slow as
        well, those that will end last first."""
        suspects = [
            (self._crew.ends(lease, lease.since, now), lease.ticket, lease)
            for lease in self._leases.values()
            if lease.since is not None and lease.left == 1 and lease.twin is None
        ]
        thieves = self._fastest(self._idle.values())
        thieves.sort(key=lambda member: member.mute)
        for end, _, lease in sorted(suspects, reverse=True):
            thief = next((m for m in thieves if m.id != lease.node or self._is_alone(m)), None)
            if thief is not None and self._is_worth_it(lease, end, thief, now):
                new = self._issue(thief, (lease.position, lease.end), now)
                new.twin, lease.twin, new.double = lease, new, True
                if not thief.room(1):
                    thieves.remove(thief)

    def _is_alone(self, member: Member) -> bool:
        """Whether only this member has slots."""
        return all(m is member or not m.slots for m in self._crew.members.values())

    def _is_worth_it(self, lease: Lease, end: float, thief: Member, now: int) -> bool:
        """Whether a thief should double a lease that is expected to end at `end`."""
        member = self._crew.members[lease.node]
        waited = now - (lease.since or 0)
        if member is thief:
            return waited > self._crew.still_ms(member)
        if waited > self._crew.late_ms(member):
            return True
        return member.pace is not None and end - now > self._double_ms(self._crew.pace(thief))

    @staticmethod
    def _double_ms(thief_pace: float) -> float:
        """What a slice must have left to go, to be worth doubling."""
        return DOUBLE_FACTOR * thief_pace + GAIN_MS

    def _next_look(self, now: int) -> int | None:
        """When a lease becomes late, too slow for an idle slot, or stands still, if nothing is
        heard of it."""
        crew = self._crew
        double_ms = self._double_ms(min(map(crew.pace, self._idle.values())))
        soonest = inf
        for lease in self._leases.values():
            if lease.since is None or not lease.left or lease.twin is not None:
                continue
            member = crew.members[lease.node]
            moments = [crew.still_ms(member)]
            if lease.left == 1:
                moments += [crew.late_ms(member), crew.due_ms(member) + double_ms]
            for after in moments:
                if now - lease.since <= after:
                    soonest = min(soonest, lease.since + after)
        return None if soonest == inf else max(now, ceil(soonest)) + 1

    # ---- for display and tests ----

    def open_leases(self, node: int) -> int:
        """Leases that a node has."""
        member = self._crew.members.get(node)
        return len(member.leases) if member else 0

    def validate(self) -> None:
        """Raises AssertionError if an invariant does not hold."""
        for spans in (self._free, self._fragile):
            for first, end in spans:
                assert list(self._left.within(first, end)) == [(first, end)], "known, and to be run"
        held = sorted(self._free)
        by_member: dict[int, Lease] = {}
        for node, member in self._crew.members.items():
            assert member.id == node and all(lease.node == node for lease in member.leases.values())
            by_member.update(member.leases)
            resting = (_REST, node) in self._agenda
            assert member.resting == resting, "rests for ever, or an alarm is left"
            if node not in self._touched:
                assert (self._roomy.get(node) is member) == member.room(), "room is misjudged"
                assert (self._idle.get(node) is member) == member.room(1), "idleness is misjudged"
        assert by_member == self._leases, "a lease is not where it says"
        for lease in self._leases.values():
            assert lease.position <= lease.end, "a lease ends before it begins"
            twin = lease.twin
            if twin is not None:
                assert twin.twin is lease and twin.double != lease.double, "a twin knows no other"
                assert (twin.position, twin.end) == (lease.position, lease.end), "twins differ"
                assert lease.left == 1, "more than a slice is doubled"
            if lease.left and not lease.double:
                held.append((lease.position, lease.end))
        held.sort()
        for (_, end), (first, _) in zip(held, held[1:], strict=False):
            assert end <= first, "two leases cover a slice, or a leased one is free"
        assert Spans(held) == self._left, "a slice is nobody's, or is run though it is known"
