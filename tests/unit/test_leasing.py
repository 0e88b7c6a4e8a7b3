"""The leases of a job, one rule of its table at a time; invariants are checked at every step."""

from __future__ import annotations

import itertools

import pytest

from velum.policy.crew import (
    LATE_FACTOR,
    NEW_MS,
    PACE_MS_UNKNOWN,
    QUIET_MS,
    STILL_MS_MIN,
    Crew,
)
from velum.policy.job import I64, LEASE_BIT, Failure, Reduce, Spec
from velum.policy.jobs_io import Grant, Revoke, Trim
from velum.policy.leasing import (
    BACKOFF_MS,
    BACKOFF_MS_MAX,
    DEATH_REST_MS,
    DEATHS_MAX,
    LEASE_MS_MAX,
    LEASE_MS_MIN,
    LOSSES_MAX,
    SCAN_PER_MS,
    SHARE_PART,
    Leasing,
)
from velum.policy.slices import Span, Spans
from velum.policy.tasks import Code

Effects = list[Grant | Trim | Revoke]
TRAP = 60


class Rig:
    """A job's leases, a clock, and what is open, as the nodes would see it."""

    def __init__(self, slices: int, *slots: int) -> None:
        args = ((I64, 0), (I64, slices))
        self.spec = Spec(
            7, 0, Reduce.SUM, 50, I64, slices, 0, 0, 0, 0, 0, 0, bytes(32), "f", "f.wasm", args
        )
        tickets = itertools.count(LEASE_BIT)
        self.leasing = Leasing(self.spec, Spans([(0, slices)]), lambda: next(tickets))
        self.now = 1000
        self.open: dict[int, Grant] = {}
        for node, count in enumerate(slots, 1):
            self.leasing.member_usable(node, count, 1000)
        self.first = self.step()

    def step(self) -> Effects:
        effects = self.leasing.step(self.now)
        self.leasing.validate()
        for effect in effects:
            if isinstance(effect, Grant):
                self.open[effect.ticket] = effect
            elif isinstance(effect, Trim):
                grant = self.open[effect.ticket]
                grant.count = effect.end - grant.first
            else:
                del self.open[effect.ticket]
        return effects

    def usable(self, node: int, slots: int, speed: int = 1000) -> Effects:
        self.leasing.member_usable(node, slots, speed)
        return self.step()

    def lose(self, node: int) -> Effects:
        for ticket in [t for t, grant in self.open.items() if grant.node == node]:
            del self.open[ticket]
        self.leasing.member_lost(node)
        return self.step()

    def lease(self, node: int, at: int = 0) -> Grant:
        """What a node has open, the oldest first."""
        return [grant for grant in self.open.values() if grant.node == node][at]

    def report(self, grant: Grant, count: int | None = None, busy_us: int = 0) -> Effects:
        """The node goes on by `count` slices; with none given, to the lease's end."""
        last = count is None or count == grant.count
        span = (grant.first, grant.first + (grant.count if count is None else count))
        if last:
            del self.open[grant.ticket]
        spans = [span] if span[0] < span[1] else []
        self.leasing.reported(grant.ticket, grant.node, spans, busy_us, last, self.now)
        grant.count -= span[1] - span[0]
        grant.first = span[1]
        return self.step()

    def told(self, ticket: int, node: int, *spans: Span, last: bool = False) -> Effects:
        self.leasing.reported(ticket, node, spans, 0, last, self.now)
        return self.step()

    def refuse(self, grant: Grant, code: int = Code.BUSY, deaths: int = 0) -> Failure | None:
        del self.open[grant.ticket]
        return self.leasing.refused(grant.ticket, grant.node, code, deaths, self.now)

    def pass_time(self, ms: int) -> Effects:
        """Lets time pass, stopping at every deadline on the way."""
        end, effects = self.now + ms, []
        while (due := self.leasing.next_deadline()) is not None and due <= end:
            assert due > self.now
            self.now = due
            effects += self.step()
        self.now = end
        return effects

    def measure(self, node: int, pace_ms: int) -> None:
        """The node's oldest lease, of one slice, ends after so long."""
        self.now += pace_ms
        self.report(self.lease(node), busy_us=1000 * pace_ms)

    def spans(self, node: int) -> list[Span]:
        return [(g.first, g.first + g.count) for g in self.open.values() if g.node == node]


def grants(effects: Effects) -> list[Grant]:
    return [effect for effect in effects if isinstance(effect, Grant)]


def only_grant(effects: Effects) -> Grant:
    (grant,) = grants(effects)
    return grant


def running(length: int, pace_ms: int) -> Rig:
    """One node of one slot and known pace has just begun a lease of so many slices from 2 up, and
    there is no other slice."""
    assert length * pace_ms <= LEASE_MS_MAX
    rig = Rig(2 + SHARE_PART * length, 1)
    rig.measure(1, pace_ms)
    rig.leasing.narrow(2 + length)
    rig.measure(1, pace_ms)
    assert rig.spans(1) == [(2, 2 + length)]
    return rig


# ---- grants ----


def test_the_first_leases_are_one_slice_each_to_measure_by_and_two_a_slot() -> None:
    rig = Rig(1000, 2, 1)
    assert [(g.node, g.first, g.count, g.careful) for g in grants(rig.first)] == [
        (1, 0, 1, False), (1, 1, 1, False), (2, 2, 1, False),  # idle slots first
        (1, 3, 1, False), (1, 4, 1, False), (2, 5, 1, False),
    ]  # fmt: skip
    assert all(grant.spec is rig.spec for grant in grants(rig.first))
    assert rig.leasing.open_leases(1) == 4 and rig.leasing.open_leases(9) == 0
    assert rig.leasing.has(rig.lease(1).ticket) and not rig.leasing.has(1)
    assert rig.step() == []


def test_a_run_is_a_part_of_the_slots_share_of_what_is_free() -> None:
    rig = Rig(1000, 1, 1)
    rig.measure(1, 4)
    assert rig.lease(1, 1).count == round(996 / 2 / SHARE_PART)
    rig.report(rig.lease(1), busy_us=4000)
    free = 996 - round(996 / 2 / SHARE_PART)
    assert rig.lease(1, 1).count == round(free / 2 / SHARE_PART)


def test_a_run_is_at_most_a_second_of_work() -> None:
    rig = Rig(1000, 1)
    rig.measure(1, 50)
    assert rig.lease(1, 1).count == LEASE_MS_MAX / 50
    rig = Rig(1000, 1)
    rig.measure(1, 3000)
    assert rig.lease(1, 1).count == 1


def test_a_run_is_at_least_worth_its_frames_while_there_is_enough_for_all() -> None:
    rig = Rig(60, 1, 1)
    rig.measure(1, 1)
    assert rig.lease(1, 1).count == LEASE_MS_MIN
    rig = Rig(24, 1, 1)
    rig.measure(1, 1)
    assert rig.lease(1, 1).count == 10


def test_calibrated_speeds_stand_in_until_paces_are_measured() -> None:
    crew = Crew()
    slow, fast, unknown = crew.put(1, 1, 1000), crew.put(2, 1, 3000), crew.put(3, 2, 0)
    shares = [crew.share(member) for member in (slow, fast, unknown)]
    assert shares == pytest.approx([0.1, 0.3, 0.3]), "an unknown speed is the median"
    crew.measure(slow, 10)
    assert crew.pace(fast) == pytest.approx(10 / 3)
    crew.measure(fast, 10)
    assert crew.share(fast) == crew.share(slow)
    crew.remove(1)
    crew.remove(2)
    assert crew.pace(unknown) == PACE_MS_UNKNOWN


def test_a_node_that_shows_to_be_faster_takes_more() -> None:
    rig = Rig(4000, 1, 1)
    rig.measure(1, 1)
    rig.measure(2, 4)
    slow, fast = rig.lease(2, 1).count, rig.lease(1, 1).count
    assert fast == round(3996 / 2 / SHARE_PART), "as much as the other, as far as anybody knows"
    assert slow == round((3996 - fast) / 5 / SHARE_PART)


def test_a_lease_that_turns_out_long_is_cut_back_to_a_second() -> None:
    rig = Rig(4000, 1)
    rig.measure(1, 1)
    rig.measure(1, 1)
    long = rig.lease(1)
    assert long.count == 1000
    rig.now += 100
    for _ in range(9):
        rig.now += 100
        effects = rig.report(long, 10)  # 10 ms a slice now
        if effects:
            break
    assert isinstance(effects[0], Trim) and effects[0].ticket == long.ticket
    assert 1 <= long.count <= LEASE_MS_MAX / 4


def test_time_before_a_leases_first_report_counts_only_as_far_as_the_guest_ran() -> None:
    rig = Rig(1000, 1)
    for _ in range(2):  # the module came, then another job had its turn
        rig.now += 3000
        rig.report(rig.lease(1), busy_us=10_000)
    assert rig.lease(1).count == LEASE_MS_MAX / 10
    rig.now += 100
    rig.report(rig.lease(1), 10, busy_us=100_000)
    rig.now += 200
    rig.report(rig.lease(1), 10, busy_us=100_000)
    assert rig.lease(1, 1).count == LEASE_MS_MAX / 10
    rig.report(rig.lease(1), busy_us=800_000)
    assert rig.lease(1, 1).count < LEASE_MS_MAX / 10, "others had their part of the CPU"


def test_members_without_slots_get_nothing() -> None:
    rig = Rig(100, 0)
    assert rig.first == [] and rig.leasing.next_deadline() is None
    assert len(grants(rig.usable(1, 1))) == 2
    assert rig.usable(1, 0) == []
    assert grants(rig.report(rig.lease(1))) == []


# ---- slots without work take from others ----


def test_an_idle_slot_takes_such_a_part_that_both_end_together() -> None:
    rig = running(100, 10)
    effects = rig.usable(2, 1)
    grant = only_grant(effects)
    assert effects[0] == Trim(1, rig.lease(1).ticket, 52)
    assert (grant.node, grant.first, grant.count) == (2, 52, 50)


def test_a_slow_thief_takes_less() -> None:
    rig = running(90, 10)
    assert only_grant(rig.usable(2, 1, speed=125)).count == 10


def test_several_thieves_share_and_nobody_is_told_twice() -> None:
    rig = running(100, 10)
    effects = rig.usable(2, 3)
    assert len(effects) == 4 and isinstance(effects[0], Trim)
    assert [count for _, count in sorted(grant_sizes(rig))] == [25, 25, 25, 25]


def grant_sizes(rig: Rig) -> list[Span]:
    return [(grant.first, grant.count) for grant in rig.open.values()]


def test_what_the_victim_has_done_unreported_stays_its_own() -> None:
    rig = running(100, 10)
    rig.now += 24
    assert only_grant(rig.usable(2, 1)).count == 49
    rig = running(2, 100)
    assert only_grant(rig.usable(2, 1)).count == 1
    assert rig.spans(1) == [(2, 3)], "never the slice it is in"


def test_little_is_not_worth_moving() -> None:
    rig = running(2, 9)
    assert rig.usable(2, 1) == []


def test_a_lease_that_waits_can_be_taken_whole() -> None:
    rig = Rig(2, 1)
    waiting = rig.lease(1, 1)
    effects = rig.usable(2, 1)
    assert effects == [Revoke(1, waiting.ticket), only_grant(effects)]
    assert rig.spans(2) == [(1, 2)]


def test_a_node_takes_from_its_own_other_slot_but_one_slot_has_no_other() -> None:
    rig = running(50, 10)
    assert rig.leasing.next_deadline() is None and rig.pass_time(5000) == []
    rig = running(50, 10)
    assert only_grant(rig.usable(1, 2)).count == 25


def test_a_lease_that_stands_still_keeps_the_slice_it_is_in() -> None:
    rig = running(100, 10)
    rig.now += STILL_MS_MIN + 1
    grant = grants(rig.usable(2, 1))[0]
    assert (grant.first, rig.spans(1)) == (3, [(2, 3)])
    assert grant.count == round(99 / 2 / SHARE_PART), "what it keeps back is free for all"


def test_behind_a_lease_that_stands_still_nothing_waits() -> None:
    rig = Rig(3, 1)
    waiting = rig.lease(1, 1)
    rig.now += NEW_MS + 1
    rig.usable(2, 1)
    effects = rig.report(rig.lease(2), busy_us=1000)
    assert effects == [Revoke(1, waiting.ticket), only_grant(effects)]
    assert (rig.spans(1), rig.spans(2)) == ([(0, 1)], [(1, 2)])


def test_a_node_that_stood_still_has_one_slice_at_a_time_until_it_is_heard() -> None:
    rig = running(100, 10)
    rig.now += STILL_MS_MIN + 1
    rig.usable(2, 1)
    assert rig.spans(1) == [(2, 3)], "though slices are free"
    over = rig.lease(1)
    rig.leasing.settled([(2, 3)])
    assert rig.step() == [Revoke(1, over.ticket), rig.lease(1)]
    assert rig.lease(1).count == 1
    rig.report(rig.lease(1))
    assert len(rig.spans(1)) == 2


def test_a_worker_that_hangs_leaves_its_nodes_other_slots_at_work() -> None:
    rig = running(100, 10)
    rig.now += STILL_MS_MIN + 1
    rig.usable(1, 2)
    assert rig.spans(1) == [(2, 3), (3, 4)], "one at a time, beside the one that stands still"
    rig.report(rig.lease(1, 1))
    assert len(rig.spans(1)) == 4, "it is heard again: all that its slots may have"


def test_scans_for_what_can_be_moved_are_spread_out() -> None:
    rig = running(100, 10)
    for node in range(2, 2 + 2 * SCAN_PER_MS):
        rig.leasing.member_usable(node, 1, 1000)
    rig.step()
    victim = rig.lease(1)
    rig.now += 1
    assert rig.report(victim, 0) == []
    due = rig.leasing.next_deadline()
    assert due is not None and due - rig.now <= 3


# ---- doubles ----


def test_a_slice_that_is_late_is_doubled_and_the_first_answer_wins() -> None:
    for winner, loser in ((1, 2), (2, 1)):
        rig = running(1, 200)
        assert rig.usable(2, 1) == []
        assert rig.leasing.next_deadline() is not None
        grant = only_grant(rig.pass_time(round(LATE_FACTOR * 200) + 2))
        assert (grant.node, rig.spans(2)) == (2, [(2, 3)])
        assert rig.usable(3, 1) == [] and rig.pass_time(5000) == [], "twice is enough"
        over = rig.lease(loser)
        assert rig.report(rig.lease(winner)) == [Revoke(loser, over.ticket)]
        assert rig.leasing.retries == 0


def test_a_short_slice_is_late_when_the_network_does_not_explain_it() -> None:
    rig = running(1, 10)
    rig.usable(2, 1)
    assert rig.pass_time(10 + QUIET_MS - 1) == []
    assert rig.pass_time(2) != []


def test_a_slice_on_a_slow_node_is_doubled_at_once() -> None:
    rig = running(1, 500)
    assert only_grant(rig.usable(2, 1, speed=2000)).first == 2
    rig = running(1, 500)
    rig.now += 300
    assert rig.usable(2, 1, speed=2000) == [], "it has less to go than the thief would take"


def test_nothing_is_doubled_before_anything_is_known_of_its_length() -> None:
    rig = Rig(1, 1)
    rig.usable(2, 1)
    assert rig.pass_time(NEW_MS) == []
    assert only_grant(rig.pass_time(2)).node == 2


def test_a_slice_is_doubled_on_its_own_node_only_if_that_is_alone_and_it_stands_still() -> None:
    rig = running(1, 100)
    rig.usable(1, 2)
    assert rig.pass_time(STILL_MS_MIN - 1) == []
    assert only_grant(rig.pass_time(3)).node == 1
    rig = running(1, 100)
    rig.usable(1, 2)
    rig.usable(2, 0)
    assert only_grant(rig.pass_time(STILL_MS_MIN + 1)).node == 1


@pytest.mark.parametrize("gone", [1, 2])
def test_of_a_doubled_slice_one_lease_may_be_lost(gone: int) -> None:
    rig = running(1, 100)
    rig.usable(2, 1)
    rig.pass_time(200)
    assert len(rig.open) == 2
    assert grants(rig.lose(gone)) == [] and rig.leasing.retries == 1
    other = rig.lease(3 - gone)
    assert rig.refuse(other) is None
    rig.step()
    rig.pass_time(BACKOFF_MS)
    assert rig.spans(3 - gone) == [(2, 3)], "nobody else has it now"


def test_a_node_that_was_overtaken_has_one_slice_at_a_time_too() -> None:
    rig = Rig(5, 1)
    for node in (2, 3, 4, 5):
        rig.usable(node, 1, speed=9000)
    rig.now += 1
    rig.report(rig.lease(1), busy_us=1000)
    index = only_grant(rig.pass_time(NEW_MS)).first
    (over,) = [g for g in rig.open.values() if g.first == index and g.node != 1]
    assert Revoke(over.node, over.ticket) in rig.report(rig.lease(1))
    for node in {2, 3, 4, 5} - {over.node}:
        rig.leasing.member_lost(node)
    rig.step()
    assert rig.leasing.open_leases(1) == 2
    assert rig.leasing.open_leases(over.node) == 1, "though it is the faster"
    assert rig.leasing.retries == 3


# ---- reports ----


def test_reports_that_come_late_or_under_no_ticket_count_all_the_same() -> None:
    rig = Rig(100, 1)
    lease = rig.lease(1)
    effects = rig.told(LEASE_BIT - 1, 9, (lease.first, lease.first + 1))
    assert effects == [Revoke(1, lease.ticket), only_grant(effects)]
    assert rig.told(lease.ticket, 1, (50, 60)) == []
    assert rig.told(rig.lease(1).ticket, 2, (60, 100)) == [], "of another node's lease"
    run = []
    while rig.open:
        run += range(rig.spans(1)[0][0], rig.spans(1)[0][1])
        rig.report(rig.lease(1))
    assert run == list(range(1, 50))


def test_what_a_victim_ran_before_it_heard_is_cut_out_of_the_thiefs_lease() -> None:
    rig = running(100, 10)
    rig.usable(2, 1)
    victim, thief = rig.lease(1), rig.lease(2)
    effects = rig.told(victim.ticket, 1, (2, 55))
    assert effects[0] == Revoke(2, thief.ticket)
    assert (rig.lease(1), rig.lease(2).first) == (victim, 55)
    effects = rig.told(victim.ticket, 1, (55, 102))
    assert [type(effect) for effect in effects] == [Revoke] * len(effects)


def test_slices_known_by_other_ways_are_cut_out_of_leases() -> None:
    rig = running(100, 10)
    lease = rig.lease(1)
    rig.leasing.settled([(50, 60)])
    effects = rig.step()
    assert effects[0] == Trim(1, lease.ticket, 50)
    assert rig.spans(1)[1][0] == 60, "what is behind them is free"
    rig.leasing.settled([(0, 102)])
    assert {type(effect) for effect in rig.step()} == {Revoke}
    assert rig.open == {}


def test_slices_that_are_not_needed_are_given_up() -> None:
    rig = running(100, 10)
    rig.leasing.narrow(40)
    assert rig.step() == [Trim(1, rig.lease(1).ticket, 40)]
    rig.leasing.narrow(50)
    assert rig.step() == []
    over = rig.lease(1)
    rig.leasing.narrow(2)
    assert rig.step() == [Revoke(1, over.ticket)]


def test_a_lease_that_its_node_ends_early_comes_back() -> None:
    rig = running(100, 10)
    effects = rig.told(rig.lease(1).ticket, 1, (2, 22), last=True)
    assert (effects, rig.leasing.retries) == ([], 1)
    del rig.open[next(iter(rig.open))]
    assert only_grant(rig.pass_time(BACKOFF_MS)[:1]).first == 22


def test_a_report_with_gaps_leaves_them_free() -> None:
    rig = running(100, 10)
    lease = rig.lease(1)
    assert only_grant(rig.told(lease.ticket, 1, (10, 12))).first == 2


# ---- leases come back ----


def test_a_node_that_gives_leases_back_rests_longer_each_time_until_it_reports() -> None:
    rig = Rig(100, 1)
    rest = BACKOFF_MS
    for _ in range(8):
        while rig.open:
            assert rig.refuse(rig.lease(1)) is None
        assert rig.step() == []
        due = rig.leasing.next_deadline()
        assert due is not None
        rest, waited = min(2 * rest, BACKOFF_MS_MAX), due - rig.now
        assert waited == rest
        assert len(grants(rig.pass_time(waited))) == 2
        rest = min(2 * rest, BACKOFF_MS_MAX)
    rig.report(rig.lease(1))
    rig.refuse(rig.lease(1))
    assert rig.leasing.next_deadline() == rig.now + BACKOFF_MS
    assert rig.leasing.retries == 17


def test_while_one_rests_another_takes_what_came_back() -> None:
    rig = Rig(100, 1, 1)
    first = rig.lease(1)
    rig.refuse(first, Code.LEAVING)
    assert rig.step() == []
    assert only_grant(rig.report(rig.lease(2), busy_us=1000)).first == first.first


def test_refusals_of_strange_leases_are_ignored() -> None:
    rig = Rig(100, 1)
    ticket = rig.lease(1).ticket
    assert rig.leasing.refused(ticket, 2, Code.BUSY, 0, rig.now) is None
    assert rig.leasing.refused(5, 1, Code.WORKER_DIED, 3, rig.now) is None
    assert rig.step() == [] and rig.leasing.open_leases(1) == 2 and rig.leasing.retries == 0


def test_a_lost_nodes_slices_are_free_but_for_what_it_reported() -> None:
    rig = running(100, 10)
    rig.report(rig.lease(1), 30)
    assert rig.lose(1) == [] and rig.leasing.retries == 1
    assert rig.lose(1) == [] and rig.leasing.next_deadline() is None
    assert grants(rig.usable(2, 1))[0].first == 32


def test_a_slice_under_way_at_the_loss_of_many_nodes_fails() -> None:
    rig = Rig(2)
    for node in range(1, 1 + LOSSES_MAX):
        assert rig.leasing.lost_failures() == []
        rig.usable(node, 1)
        assert rig.spans(node) == [(0, 1), (1, 2)], "the second waits, and is not to blame"
        rig.lose(node)
    (failure,) = rig.leasing.lost_failures()
    assert (failure.slice, failure.code) == (0, Code.LOST) and str(LOSSES_MAX) in failure.text
    assert rig.leasing.lost_failures() == []
    assert grants(rig.usable(99, 1))[0].first == 1


# ---- slices that kill ----


def test_what_a_dead_worker_left_is_run_carefully_and_apart() -> None:
    rig = Rig(2 + 2 * SHARE_PART * 10, 1)
    rig.measure(1, 10)
    rig.measure(1, 10)
    lease = rig.lease(1)
    assert (lease.first, lease.count) == (2, 20)
    rig.report(lease, 15)
    assert rig.refuse(lease, Code.WORKER_DIED, 1) is None, "it may have been a later slice"
    rig.step()
    grant = only_grant(rig.pass_time(BACKOFF_MS))
    assert (grant.first, grant.count, grant.careful) == (17, 5, True)
    for _ in range(2):
        rig.report(rig.lease(1))
        assert not rig.lease(1, 1).careful


def test_the_third_death_in_a_careful_slice_is_poison() -> None:
    rig = Rig(1, 1)
    assert rig.refuse(rig.lease(1), Code.WORKER_DIED, 1) is None
    rig.step()
    for death in range(1, 1 + DEATHS_MAX):
        rig.pass_time(DEATH_REST_MS)
        assert rig.lease(1).careful
        failure = rig.refuse(rig.lease(1), Code.WORKER_DIED, 1)
        rig.step()
        assert (failure is not None) == (death == DEATHS_MAX)
    assert failure is not None
    assert (failure.slice, failure.code) == (0, Code.POISON) and "3 on node 1" in failure.text
    assert rig.pass_time(BACKOFF_MS_MAX) == []


def test_where_a_careful_lease_died_others_come_first() -> None:
    rig = Rig(1, 1)
    rig.usable(2, 1)
    rig.refuse(rig.lease(1), Code.WORKER_DIED, 1)
    assert only_grant(rig.step()).node == 2
    rig.refuse(rig.lease(2), Code.WORKER_DIED, 1)
    rig.step()
    due = rig.leasing.next_deadline()
    assert due == rig.now + BACKOFF_MS, "the other one, which has killed nothing carefully"
    assert only_grant(rig.pass_time(BACKOFF_MS)).node == 1


# ---- the end ----


def test_stop_gives_up_every_lease() -> None:
    rig = running(100, 10)
    rig.usable(2, 3)
    rig.leasing.settled([(2, 3)])
    tickets = set(rig.open)
    assert {revoke.ticket for revoke in rig.leasing.stop()} == tickets
    assert rig.leasing.next_deadline() is None and rig.leasing.stop() == []
    rig.open.clear()
    assert rig.step() == []
    assert grants(rig.usable(1, 1))[0].first == 3
    assert rig.leasing.retries == 0
