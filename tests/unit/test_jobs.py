"""The jobs of a node, one line of their table at a time; invariants are checked at every step."""

from __future__ import annotations

import pytest

from tests.unit.jobs_rig import (
    JOB,
    ME,
    TRAP,
    Rig,
    arrived,
    asked,
    ended,
    granted,
    job_of,
    only,
    run,
    said,
    told,
)
from tests.unit.scatter_models import packed
from velum.policy import jobs_io as io
from velum.policy import jobs_tuning as tuning
from velum.policy.job import I64, KEEP_GOING, Ask, Failure, Reduce, Spec, State
from velum.policy.jobs_tuning import (
    GONE_MS,
    MODULE_MS,
    MODULE_TRIES_MAX,
    NO_WORKER_MS,
    RANK_MS,
    RETAIN_MS,
    SEEK_MS,
    SILENT_MS,
    SUSPECTED_MS,
)
from velum.policy.leasing import LOSSES_MAX
from velum.policy.tasks import Code

UNFIT = 61
LONG_MS = 60_000


# ---- a job that is new here ----


def test_a_fresh_job_is_begun_and_granted_at_once() -> None:
    rig, spec = Rig(2, 3, 4), job_of()
    effects = rig.submit(spec)
    assert effects[0] == io.Begin(spec)
    assert granted(effects) == [0, 1] and asked(effects) == []
    assert rig.claim == (1, State.RUNNING, 1, ME) and rig.jobs.coordinated == 1
    record = rig.record()
    assert effects[-5:] == [
        io.SendSpec(2, spec), io.SendRecord(2, record),
        io.SendSpec(3, spec), io.SendRecord(3, record),
        io.Tell(record),
    ]  # fmt: skip
    assert record.holders == (2, 3)


def test_a_node_coordinates_so_many_jobs_and_refuses_more() -> None:
    rig = Rig()
    for number in range(1, 1 + tuning.RUNNING_MAX):
        rig.submit(job_of()._replace(job=number))
    (refusal,) = only(rig.submit(job_of()._replace(job=tuning.RUNNING_MAX + 1)), io.Refuse)
    assert (refusal.job, refusal.code) == (tuning.RUNNING_MAX + 1, Code.BUSY)
    rig.do(io.CancelRequested(1))
    assert only(rig.submit(job_of()._replace(job=tuning.RUNNING_MAX + 1)), io.Begin)


def test_a_job_submitted_again_is_first_looked_for_at_every_full_member() -> None:
    rig = Rig(2, 3, 4)
    rig.usable(5, holds=False)
    effects = rig.submit(job_of(), fresh=False)
    assert effects == [io.SendAsk(node, JOB, Ask.HOLD) for node in (2, 3, 4)]
    assert rig.do(io.WatchBegan(JOB)) == rig.submit(job_of(), fresh=False) == [], "once is enough"


def test_a_job_asked_for_by_its_id_is_looked_for_too() -> None:
    for event in (io.WatchBegan(JOB), io.CancelRequested(JOB), io.ResumeRequested(JOB)):
        assert asked(Rig(2, 3).do(event)) == [2, 3]


def test_a_spec_heard_makes_a_copy_and_its_module_is_asked_for() -> None:
    rig, spec = Rig(2, 3), job_of()
    assert rig.do(io.SpecHeard(spec, 2)) == [io.Begin(spec), io.NeedModule(JOB, spec.hash, 2)]
    assert rig.do(io.SpecHeard(spec, 3)) == []
    assert rig.claim == (0, State.RUNNING, 0, 2), "less than any record of it"
    assert rig.hear(said()) == [io.Tell(said())]


def test_a_job_that_is_found_is_held_and_not_started() -> None:
    rig = Rig(2, 3)
    rig.submit(job_of(), fresh=False)
    rig.do(io.JobUnknown(JOB, 2))
    assert rig.do(io.SpecHeard(job_of(), 3)) == [io.Begin(job_of())], "its module is here already"
    assert rig.hear(said(3, (ME, 2))) == [io.Tell(said(3, (ME, 2)))]
    rig.do(io.JobUnknown(JOB, 2))
    assert rig.pass_time(SEEK_MS) == [] and rig.jobs.coordinated == 0


def test_what_was_wanted_of_a_job_meanwhile_is_passed_to_where_it_is_found() -> None:
    wishes = ((io.CancelRequested(JOB), Ask.CANCEL), (io.ResumeRequested(JOB), Ask.RESUME))
    for event, ask in wishes:
        rig = Rig(2, 3)
        rig.submit(job_of(), fresh=False)
        assert rig.do(event) == []
        assert asked(rig.do(io.SpecHeard(job_of(), 3)), ask) == [3]


def test_a_job_that_nobody_knows_is_started() -> None:
    rig, spec = Rig(2, 3, 4), job_of()
    rig.submit(spec, fresh=False)
    assert rig.do(io.JobUnknown(JOB, 2), io.JobUnknown(JOB, 2), io.JobUnknown(JOB, 3)) == []
    effects = rig.do(io.MemberLost(4, gone=False))
    assert effects[0] == io.Begin(spec) and granted(effects) == [0, 1]
    assert only(Rig().submit(spec, fresh=False), io.Begin), "nobody else is there"


def test_a_job_that_was_not_found_in_time_is_started() -> None:
    rig = Rig(2, 3, 4)
    rig.submit(job_of(), fresh=False)
    assert rig.pass_time(SEEK_MS - 1) == []
    assert only(rig.pass_time(1), io.Begin) and rig.claim == (1, State.RUNNING, 1, ME)


def test_an_id_that_nobody_knows_is_refused() -> None:
    rig = Rig(2)
    rig.do(io.WatchBegan(JOB))
    (refusal,) = rig.do(io.JobUnknown(JOB, 2))
    assert isinstance(refusal, io.Refuse) and (refusal.job, refusal.code) == (JOB, Code.JOB_UNKNOWN)


# ---- held ----


def test_the_greater_claim_holds_and_a_lesser_is_answered_with_it() -> None:
    rig, greater = Rig(2, 3), said(3, (ME, 2), epoch=2)
    rig.hold(job_of(), said())
    assert rig.hear(greater) == [io.Tell(greater)]
    assert rig.hear(said(sequence=99)) == [io.SendRecord(2, greater)]
    assert rig.hear(greater, 2) == [], "nothing later"
    assert rig.hear(said(epoch=9, slices=5)) == [], "of another job"
    assert rig.record() == greater


def test_a_coordinator_that_lacks_something_is_sent_the_copy() -> None:
    rig = Rig(2, 3)
    rig.hold(job_of(), said())
    rig.do(io.CopyHeard(JOB, 2, [run(0, 2)], []))
    greater = said(3, (ME, 2), epoch=2, known=[run(2, 3)])
    assert rig.hear(greater)[1:] == [io.SendCopy(3, JOB, [run(0, 2)], [])]
    assert only(rig.hear(greater._replace(sequence=2)), io.SendCopy) == [], "it is under way"
    rig.now += tuning.COMPARE_MS
    assert only(rig.hear(greater._replace(sequence=3)), io.SendCopy)
    rig.now += tuning.COMPARE_MS
    more = said(3, (ME, 2), epoch=2, sequence=4, known=[run(1, 4)])
    assert asked(rig.hear(more)) == [3], "it knows more: its copy is asked for first"


def test_what_a_holder_hears_is_kept_and_passed_to_the_coordinator() -> None:
    rig = Rig(2, 3)
    rig.hold(job_of(), said())
    copy = io.CopyHeard(JOB, 3, [run(0, 2)], [])
    late = io.LeaseReported(3, 5, JOB, [run(1, 4)], (), 0, True)
    assert rig.do(copy) == [io.Keep(JOB, [run(0, 2)], []), io.SendCopy(2, JOB, [run(0, 2)], [])]
    assert rig.do(copy) == []
    assert told(rig.do(io.HoldRequested(JOB, 4))) == [4]
    assert rig.do(late) == [io.Keep(JOB, [run(2, 4)], []), io.SendCopy(2, JOB, [run(2, 4)], [])]


def test_a_holder_whose_coordinator_is_silent_adopts_the_job() -> None:
    rig = Rig(2, 3, 4)
    rig.hold(job_of(), said(holders=(ME, 4)))
    rig.do(io.CopyHeard(JOB, 2, [run(0, 1)], []))
    assert rig.pass_time(SILENT_MS - 1) == []
    effects = rig.pass_time(1)
    record = rig.record()
    assert rig.claim == (1, State.RUNNING, 2, ME) and record.holders == (2, 3)
    assert granted(effects) == [1, 2], "what is done stays done"
    assert io.SendCopy(3, JOB, [run(0, 1)], []) in effects
    assert told(effects) == [2, 3, 4], "its holders, and those of the old record"


def test_a_beat_from_the_coordinator_puts_the_adoption_off() -> None:
    rig = Rig(2, 3)
    rig.hold(job_of(), said())
    for sequence in range(2, 12):
        rig.pass_time(SILENT_MS - 1)
        rig.hear(said(sequence=sequence))
    assert rig.pass_time(SILENT_MS - 1) == []
    assert rig.hear(said(sequence=11), 3) == [], "an old one that another passes on does not"
    assert only(rig.pass_time(1), io.Grant)


def test_a_coordinator_whose_link_closed_or_that_is_gone_is_waited_for_less() -> None:
    for gone, wait_ms in ((False, SUSPECTED_MS), (True, GONE_MS)):
        rig = Rig(2, 3)
        rig.hold(job_of(), said())
        assert rig.do(io.MemberLost(3, gone)) == [], "that is only a holder"
        assert rig.do(io.MemberLost(2, gone)) == [] and rig.pass_time(wait_ms - 1) == []
        assert only(rig.pass_time(1), io.Grant) and rig.claim == (1, State.RUNNING, 2, ME)
        assert wait_ms < SILENT_MS


def test_what_is_heard_of_a_lost_coordinator_later_puts_nothing_off() -> None:
    rig = Rig(2, 3)
    rig.hold(job_of(), said())
    rig.do(io.MemberLost(2, gone=True), io.MemberLost(2, gone=False))
    assert only(rig.pass_time(GONE_MS), io.Grant)


def test_a_module_that_comes_late_makes_the_adoption_come_sooner() -> None:
    rig = Rig(2, 3)
    rig.hold(job_of(), said(), module=False)
    rig.do(io.ModuleHeld(JOB))
    assert rig.pass_time(SILENT_MS - 1) == []
    assert only(rig.pass_time(1), io.Grant)


def test_the_second_holder_waits_for_the_first() -> None:
    for gone, wait_ms in ((None, SILENT_MS), (False, SUSPECTED_MS), (True, GONE_MS)):
        rig = Rig(2, 3)
        rig.hold(job_of(), said(holders=(3, ME)))
        if gone is not None:
            rig.do(io.MemberLost(2, gone))
        assert rig.pass_time(wait_ms + RANK_MS - 1) == []
        assert only(rig.pass_time(1), io.Grant)


def test_a_copy_that_no_record_names_is_the_last_to_adopt() -> None:
    rig = Rig(2, 3)
    rig.do(io.WatchBegan(JOB))
    rig.hold(job_of(), said(holders=(3, 4)))
    wait_ms = SILENT_MS + tuning.UNRANKED * RANK_MS
    assert rig.pass_time(wait_ms - 1) == []
    assert only(rig.pass_time(1), io.Grant)


def test_a_holder_without_the_module_waits_and_asks_for_it_instead() -> None:
    rig, spec = Rig(2, 3), job_of()
    rig.hold(spec, said(), module=False)
    rig.do(io.MemberLost(2, gone=True))
    assert rig.pass_time(GONE_MS + MODULE_MS - 1) == []
    assert rig.pass_time(1) == [io.NeedModule(JOB, spec.hash, 3)]
    assert rig.do(io.ModuleHeld(JOB)) == [] and rig.jobs.coordinated == 0
    assert only(rig.pass_time(MODULE_MS), io.Grant) and rig.claim == (1, State.RUNNING, 2, ME)


def test_a_holder_that_is_one_no_longer_forgets_the_job() -> None:
    rig, other = Rig(2, 3), said(holders=(3, 4), sequence=2)
    rig.hold(job_of(), said())
    assert rig.hear(other) == [io.Tell(other), io.Forget(JOB)]
    assert rig.jobs.held() == [] and rig.jobs.next_deadline() is None


def test_a_job_that_is_watched_here_is_asked_for_instead() -> None:
    rig, other = Rig(2, 3), said(holders=(3, 4), sequence=2)
    rig.hold(job_of(), said())
    rig.do(io.WatchBegan(JOB))
    assert rig.hear(other) == [io.Tell(other), io.SendAsk(2, JOB, Ask.HOLD)]
    assert rig.jobs.get(JOB) is not None


def test_a_job_whose_module_is_nowhere_is_given_up_after_a_minute() -> None:
    rig, spec = Rig(2, 3), job_of()
    rig.hold(spec, said(), module=False)
    rig.do(io.MemberLost(2, gone=True))
    asks = rig.pass_time(GONE_MS + MODULE_TRIES_MAX * MODULE_MS)
    assert asks == [io.NeedModule(JOB, spec.hash, 3)] * MODULE_TRIES_MAX
    refusal, forget = rig.pass_time(MODULE_MS)
    assert isinstance(refusal, io.Refuse) and refusal.code == Code.LOST
    assert forget == io.Forget(JOB) and rig.jobs.next_deadline() is None


# ---- coordinated ----


def test_holders_hear_of_the_job_at_every_beat_and_of_what_it_gained() -> None:
    rig = Rig(2, 3, 4)
    rig.submit(job_of(slices=100))
    rig.pass_time(tuning.BEAT_MS - 1)
    rig.report(rig.lease(0))
    effects = rig.pass_time(1)
    assert [effect for effect in effects if not isinstance(effect, io.Grant)] == [
        io.SendCopy(2, JOB, [run(0, 1)], []), io.SendRecord(2, rig.record()),
        io.SendCopy(3, JOB, [run(0, 1)], []), io.SendRecord(3, rig.record()),
        io.Tell(rig.record()),
    ]  # fmt: skip
    assert told(rig.pass_time(4 * tuning.BEAT_MS)) == 4 * [2, 3]


def test_a_node_that_asks_becomes_a_holder_and_gets_everything() -> None:
    rig, spec = Rig(2, 3, 4), job_of()
    rig.submit(spec)
    rig.report(rig.lease(0))
    effects = rig.do(io.HoldRequested(JOB, 4))
    copy = io.SendCopy(4, JOB, [run(0, 1)], [])
    assert effects == [io.SendSpec(4, spec), copy, io.SendRecord(4, rig.record())]
    assert rig.record().holders == (2, 3, 4)


def test_a_job_is_done_when_every_slice_is() -> None:
    rig = Rig(2, 3, 4)
    rig.submit(job_of())
    effects = rig.work()
    record = rig.record()
    assert rig.claim == (1, State.DONE, 1, ME) and rig.jobs.coordinated == 0
    assert (record.done, record.answer) == (4, (I64, 6))
    assert told(effects) == [2, 3] and effects[-1] == io.Tell(record)
    copy = effects.index(io.SendCopy(2, JOB, [run(0, 4)], []))
    assert effects[copy + 1] == io.SendRecord(2, record)
    assert rig.pass_time(LONG_MS) == []


def test_a_slice_that_failed_fails_the_job_and_is_named() -> None:
    rig = Rig(2, 3)
    rig.submit(job_of())
    other = rig.lease(0)
    effects = rig.report(rig.lease(1), failures=[Failure(1, TRAP, "unreachable")])
    record = rig.record()
    assert rig.claim == (1, State.FAILED, 1, ME)
    assert (record.code, record.text) == (TRAP, "slice 1 [10, 20): unreachable")
    assert io.Revoke(ME, other.ticket) in effects and rig.open == {}
    assert told(effects) == [2, 3] and effects[-1] == io.Tell(record)


def test_a_job_that_keeps_going_combines_the_rest() -> None:
    rig = Rig(2, 3)
    rig.submit(job_of(flags=KEEP_GOING))
    rig.report(rig.lease(1), failures=[Failure(1, TRAP, "unreachable")])
    rig.work()
    record = rig.record()
    assert (record.state, record.answer) == (State.DONE, (I64, 0 + 2 + 3))
    assert (record.done, record.failed) == (3, 1)


def test_a_search_gives_up_what_is_behind_a_find_and_ends_early() -> None:
    rig = Rig(2, 3, slots=3)
    rig.submit(job_of(Reduce.FIRST, 100))
    behind = [rig.lease(first) for first in (3, 4, 5)]
    effects = rig.report(rig.lease(2), 42)
    assert only(effects, io.Revoke) == [io.Revoke(ME, lease.ticket) for lease in behind]
    assert only(effects, io.Grant) == [] and rig.record().state == State.RUNNING
    rig.report(rig.lease(0), 0)
    rig.report(rig.lease(1), 0)
    assert (rig.record().state, rig.record().answer) == (State.DONE, (I64, 42))
    assert rig.record().done == 3


def test_a_job_that_runs_past_its_limit_fails() -> None:
    rig = Rig(2, 3)
    rig.submit(job_of(limit_ms=5000))
    rig.report(rig.lease(0))
    leases = set(rig.open)
    assert only(rig.pass_time(4999), io.Revoke) == []
    assert {revoke.ticket for revoke in only(rig.pass_time(1), io.Revoke)} == leases
    record = rig.record()
    assert (record.state, record.code) == (State.FAILED, Code.DEADLINE)
    assert record.text == "job ran past its limit of 5000 ms, 1 of 4 slices done"


def test_a_guest_that_can_be_started_nowhere_fails_the_job() -> None:
    rig = Rig(2)
    rig.usable(2, 1)
    rig.submit(job_of())
    rig.do(io.LeaseRefused(ME, rig.lease(0).ticket, UNFIT, 0, "no memory"))
    assert rig.record().state == State.RUNNING, "it may fit another node"
    ticket = next(grant.ticket for grant in rig.open.values() if grant.node == 2)
    rig.do(io.LeaseRefused(2, ticket, UNFIT, 0, "no memory"))
    assert (rig.record().state, rig.record().code) == (State.FAILED, UNFIT)


def test_a_job_that_finds_no_worker_in_the_mesh_fails() -> None:
    rig = Rig(2, slots=0)
    rig.submit(job_of())
    rig.pass_time(NO_WORKER_MS - 1)
    rig.usable(2, 1)
    rig.pass_time(LONG_MS)
    assert rig.record().state == State.RUNNING, "there was one"
    rig.do(io.MemberLost(2, gone=False))
    rig.pass_time(NO_WORKER_MS - 1)
    assert rig.record().state == State.RUNNING
    rig.pass_time(1)
    assert (rig.record().state, rig.record().code) == (State.FAILED, Code.NO_WORKER)


def test_a_slice_at_whose_start_node_after_node_was_lost_fails_the_job() -> None:
    rig = Rig(2, slots=0)
    rig.submit(job_of())
    for _ in range(LOSSES_MAX):
        assert rig.record().state == State.RUNNING
        rig.usable(5, 1)
        rig.do(io.MemberLost(5, gone=True))
    assert (rig.record().state, rig.record().code) == (State.FAILED, Code.LOST)
    assert rig.record().text.startswith("slice 0 [0, 10): ")


def test_a_lease_refused_for_the_jobs_own_fault_fails_it() -> None:
    for code in tuning.JOB_FAULTS:
        rig = Rig(2)
        rig.submit(job_of())
        rig.do(io.LeaseRefused(ME, rig.lease(0).ticket, code, 0, "no function"))
        if code == tuning.MODULE_MISSING:
            assert rig.record().state == State.RUNNING
        else:
            assert (rig.record().code, rig.record().text) == (code, "no function (node 1)")


def test_of_two_coordinators_the_lesser_steps_down_and_sends_its_ledger() -> None:
    rig, greater = Rig(2, 3), said(3, (ME, 2), epoch=2)
    rig.submit(job_of())
    rig.report(rig.lease(0))
    leases = set(rig.open)
    effects = rig.hear(greater)
    assert {revoke.ticket for revoke in only(effects, io.Revoke)} == leases and rig.open == {}
    assert told(effects) == [2, 3], "its holders hear who it is now"
    assert effects[-2:] == [io.Tell(greater), io.SendCopy(3, JOB, [run(0, 1)], [])]
    assert rig.record() == greater and rig.jobs.coordinated == 0
    assert rig.pass_time(SILENT_MS - 1) == [], "it beats no longer"
    assert only(rig.pass_time(1), io.Grant), "it is a holder as any other"


def test_one_that_is_no_holder_any_more_sends_its_ledger_before_it_forgets_the_job() -> None:
    rig, greater = Rig(2, 3), said(3, (2,), epoch=3)
    rig.hold(job_of(), said())
    rig.pass_time(SILENT_MS)
    rig.report(rig.lease(0))
    effects = rig.hear(greater)
    assert io.SendCopy(3, JOB, [run(0, 1)], []) in effects
    assert effects[-1] == io.Forget(JOB) and rig.jobs.get(JOB) is None


def test_the_greater_of_two_coordinators_answers_the_lessers_record_with_its_own() -> None:
    rig = Rig(2, 3)
    rig.hold(job_of(), said(3, (ME, 2)))
    rig.pass_time(SILENT_MS)
    assert rig.hear(said(3, (ME, 2), sequence=99)) == [io.SendRecord(3, rig.record())]
    assert rig.claim == (1, State.RUNNING, 2, ME) and rig.open


def test_two_coordinators_end_as_one_with_the_values_of_both() -> None:
    lesser, greater = Rig(2, 3), Rig(ME, 3, me=2)
    began = lesser.submit(job_of(slices=3))
    greater.do(*arrived(began, ME, 2), io.ModuleHeld(JOB), io.MemberLost(ME, gone=True))
    greater.pass_time(GONE_MS)
    lesser.report(lesser.lease(0))
    greater.report(greater.lease(1))
    answer = lesser.do(*arrived(greater.usable(ME), 2, ME))
    assert lesser.claim == (1, State.RUNNING, 2, 2)
    end = greater.do(*arrived(answer, ME, 2)) + greater.work()
    assert greater.record().answer == (I64, 3) and greater.record().duplicates == 0
    lesser.do(*arrived(end, 2, ME))
    assert lesser.record() == greater.record()


def test_an_end_heard_from_another_ends_the_job_here() -> None:
    rig, end = Rig(2, 3), said(state=State.CANCELLED, epoch=5)
    rig.submit(job_of())
    leases = set(rig.open)
    effects = rig.hear(end)
    assert {revoke.ticket for revoke in only(effects, io.Revoke)} == leases
    assert told(effects) == [2, 3] and io.Tell(end) in effects
    assert rig.record() == end and rig.pass_time(LONG_MS) == []


def test_a_job_cancelled_at_its_coordinator_ends_there() -> None:
    rig = Rig(2, 3)
    rig.submit(job_of())
    effects = rig.do(io.CancelRequested(JOB))
    assert rig.claim == (1, State.CANCELLED, 1, ME) and rig.open == {}
    assert rig.record().code == Code.CANCELLED and told(effects) == [2, 3]
    for state in (State.DONE, State.FAILED, State.CANCELLED):
        assert ended(2, 3, state=state).do(io.CancelRequested(JOB)) == [], "it is over already"


def test_a_job_cancelled_at_a_holder_ends_there_and_its_coordinator_hears_of_it() -> None:
    holder, coordinator = Rig(ME, 3, me=2), Rig(2, 3)
    holder.do(*arrived(coordinator.submit(job_of()), ME, 2))
    effects = holder.do(io.CancelRequested(JOB))
    assert effects[0] == io.Tell(holder.record()) and told(effects) == [1, 3]
    assert holder.claim == (1, State.CANCELLED, 1, ME)
    coordinator.do(*arrived(effects, 2, ME))
    assert coordinator.record() == holder.record() and coordinator.open == {}


# ---- ended ----


def test_a_failed_job_resumed_keeps_what_is_done_and_tries_again_what_failed() -> None:
    rig = ended(2, 3, 4, state=State.FAILED)
    effects = rig.do(io.ResumeRequested(JOB))
    record = rig.record()
    assert rig.claim == (2, State.RUNNING, 2, ME)
    assert (record.done, record.failed, record.code, record.text) == (1, 0, 0, "")
    assert granted(effects) == [1, 2]
    assert set(told(effects)) == {2, 3, 4}, "anybody may have heard of the end"
    rig.work()
    assert (rig.record().state, rig.record().answer) == (State.DONE, (I64, 6))


def test_a_cancelled_job_can_be_resumed_and_a_done_one_cannot() -> None:
    rig = ended(2, 3, state=State.CANCELLED)
    assert granted(rig.do(io.ResumeRequested(JOB))) == [0, 1]
    rig = ended(2, 3)
    assert rig.do(io.ResumeRequested(JOB)) == [io.Tell(rig.record())]
    rig = Rig(2, 3)
    rig.hold(job_of(), said(state=State.FAILED), module=False)
    assert rig.do(io.ResumeRequested(JOB)) == [io.Tell(rig.record())], "nor one without its module"


def test_a_job_resumed_elsewhere_runs_here_too_without_its_failures() -> None:
    rig, resumed = ended(2, 3, state=State.FAILED), said(attempt=2, epoch=2)
    effects = rig.hear(resumed)
    assert rig.record() == resumed and io.Tell(resumed) in effects
    held = rig.held()
    assert (held.ledger.done, held.ledger.failed) == (1, 0)
    assert io.SendCopy(2, JOB, [run(0, 1)], []) in effects
    assert only(rig.pass_time(SILENT_MS), io.Grant), "its coordinator is silent"


def lacking(spec: Spec, answer: tuple[int, int] | None) -> Rig:
    """A holder without values hears from node 4 that the job of nodes 2 and 3 is done, and nobody
    of them and of the other members has the values."""
    rig = Rig(2, 3, 4, 5)
    rig.hold(spec, said())
    end = said(state=State.DONE, sequence=9, known=[run(0, 4)], answer=answer)
    assert asked(rig.hear(end, 4)) == [4], "who told of it first"
    for node, following in ((4, [2]), (2, [3]), (3, [5]), (5, [])):
        assert asked(rig.do(io.JobUnknown(JOB, node))) == following
    return rig


def test_values_of_a_done_job_are_asked_for_one_node_at_a_time() -> None:
    rig = lacking(job_of(), (I64, 6))
    assert rig.record().state == State.DONE and rig.pass_time(LONG_MS) == []


def test_a_node_that_is_lost_while_it_is_asked_is_passed_over() -> None:
    rig = Rig(2, 3, 4)
    rig.hold(job_of(), said())
    end = said(state=State.DONE, known=[run(0, 4)], answer=(I64, 6))
    assert asked(rig.hear(end)) == [2]
    assert asked(rig.do(io.MemberLost(2, gone=False))) == [3]
    assert asked(rig.do(io.CopyHeard(JOB, 3, [run(0, 1)], []), io.RecordHeard(end, 3))) == [4]
    rig.do(io.CopyHeard(JOB, 4, [run(1, 4)], []))
    assert rig.hear(end, 4) == [], "it has all of them now"


def test_values_that_all_have_lost_are_computed_again_for_who_waits_for_them() -> None:
    rig = lacking(job_of(), (I64, 6))
    effects = rig.do(io.WatchBegan(JOB, values=True))
    assert rig.claim == (2, State.RUNNING, 2, ME) and granted(effects) == [0, 1]
    assert rig.record().answer is None and set(told(effects)) == {2, 3, 4, 5}
    rig.work()
    assert (rig.claim, rig.record().answer) == ((2, State.DONE, 2, ME), (I64, 6))
    rig = lacking(job_of(), (I64, 6))
    assert granted(rig.submit(job_of(), fresh=False, values=True)) == [0, 1]
    rig = lacking(job_of(Reduce.COLLECT), None)
    assert granted(rig.do(io.WatchBegan(JOB))) == [0, 1], "the answer is a list of them"


def test_who_waits_for_one_number_has_it_and_nothing_is_computed_again() -> None:
    rig = lacking(job_of(), (I64, 6))
    assert rig.do(io.WatchBegan(JOB)) == [io.Tell(rig.record())]
    assert rig.record().answer == (I64, 6)


def test_who_waits_already_has_the_values_computed_when_the_last_has_not_got_them() -> None:
    rig = Rig(2)
    rig.hold(job_of(), said())
    rig.do(io.WatchBegan(JOB, values=True))
    end = said(state=State.DONE, known=[run(0, 4)], answer=(I64, 6))
    assert asked(rig.hear(end)) == [2]
    assert granted(rig.do(io.JobUnknown(JOB, 2))) == [0, 1]


def test_values_wanted_of_a_job_that_had_to_be_looked_for_are_computed_again_too() -> None:
    end = said(state=State.DONE, known=[run(0, 4)], answer=(I64, 6))
    for wish in (io.WatchBegan(JOB, values=True), io.JobSubmitted(job_of(), False, values=True)):
        rig = Rig(2)
        assert asked(rig.do(wish)) == [2]
        rig.hold(job_of(), said())
        assert asked(rig.hear(end)) == [2]
        assert granted(rig.do(io.JobUnknown(JOB, 2))) == [0, 1]


def test_values_wanted_by_a_submission_stay_wanted_through_a_search_too() -> None:
    plain, wanting = io.JobSubmitted(job_of(), False), io.JobSubmitted(job_of(), False, values=True)
    nowhere, found = io.JobUnknown(JOB, 2), io.SpecHeard(job_of(), 2)
    for wishes in ([wanting], [plain, wanting], [wanting, plain], [io.WatchBegan(JOB), wanting]):
        for outcome in (nowhere, found):
            rig = Rig(2)
            rig.do(*wishes, outcome)
            assert rig.held().wanted, (wishes, outcome)
    for fresh in (True, False):
        rig = Rig()
        rig.submit(job_of(), fresh, values=True)
        assert rig.held().wanted, "nobody else is there to be asked"
        rig = Rig()
        rig.submit(job_of(), fresh)
        assert not rig.held().wanted


def test_of_two_ends_the_greater_wins_and_all_full_members_hear_of_it() -> None:
    rig = ended(2, 3, 4, 5, state=State.CANCELLED)
    end = said(state=State.FAILED)
    effects = rig.hear(end)
    assert effects == [*(io.SendRecord(node, end) for node in (2, 3, 4, 5)), io.Tell(end)]
    assert rig.hear(said(state=State.CANCELLED, epoch=9), 4) == [io.SendRecord(4, end)]
    assert rig.hear(end) == [] and rig.record() == end


def test_a_full_member_that_comes_is_told_of_the_end() -> None:
    rig = ended(2)
    assert rig.usable(3) == [io.SendRecord(3, rig.record())]
    assert rig.usable(3) == [], "it is there already"
    rig.do(io.MemberLost(3, gone=False))
    assert told(rig.usable(3)) == [3]
    assert rig.usable(4, holds=False) == [], "it keeps no copies"
    rig = lacking(job_of(), (I64, 6))
    rig.do(io.MemberLost(3, gone=False))
    assert asked(rig.usable(3)) == [3], "of what this one lacks"


def test_into_a_done_job_nothing_is_merged_and_into_a_failed_one_all() -> None:
    rig = ended(2, 3)
    assert rig.do(io.CopyHeard(JOB, 2, [(0, packed(0, 0))], [])) == []
    rig = ended(2, 3, state=State.FAILED)
    assert rig.do(io.CopyHeard(JOB, 2, [run(0, 3)], [])) == [io.Keep(JOB, [run(1, 3)], [])]
    assert rig.record().state == State.FAILED


def test_a_job_that_has_ended_is_kept_for_an_hour() -> None:
    for state in (State.DONE, State.FAILED, State.CANCELLED):
        rig = ended(2, 3, state=state)
        assert rig.pass_time(RETAIN_MS - 1) == []
        assert rig.pass_time(1) == [io.Forget(JOB)]
        assert rig.jobs.held() == [] and rig.jobs.next_deadline() is None


def test_for_want_of_memory_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "RETAIN_BYTES_MAX", 2 * (tuning.JOB_BYTES + 4 * tuning.SLICE_BYTES))
    rig = Rig()
    rig.submit(job_of()._replace(job=9))
    forgotten = []
    for number in (4, 3, 2, 1):
        rig.now += 1
        rig.submit(job_of()._replace(job=number))
        forgotten += only(rig.do(io.CancelRequested(number)), io.Forget)
    assert forgotten == [io.Forget(4), io.Forget(3)]
    assert [held.spec.job for held in rig.jobs.held()] == [9, 2, 1], "what runs is kept"


# ---- beside the table ----


def test_a_node_that_leaves_hands_its_jobs_over() -> None:
    rig, heir = Rig(2, 3), Rig(ME, 3, me=2)
    heir.do(*arrived(rig.submit(job_of()), ME, 2), io.ModuleHeld(JOB))
    rig.report(rig.lease(0))
    leases = set(rig.open)
    effects = rig.do(io.LeaveStarted())
    assert {revoke.ticket for revoke in only(effects, io.Revoke)} == leases
    assert rig.jobs.next_deadline() is None
    (refusal,) = rig.submit(job_of()._replace(job=9))
    assert isinstance(refusal, io.Refuse) and refusal.code == Code.LEAVING
    heir.do(*arrived(effects, ME, 2), io.MemberLost(ME, gone=True))
    assert granted(heir.pass_time(GONE_MS)) == [1, 2]
    heir.work()
    assert (heir.record().coordinator, heir.record().answer) == (2, (I64, 6))


def test_a_node_that_leaves_takes_up_nothing_more() -> None:
    rig = Rig(2, 3)
    rig.submit(job_of())
    rig.do(io.LeaveStarted())
    assert only(rig.usable(4, slots=4), io.Grant) == []
    failed = ended(2, state=State.FAILED)
    failed.do(io.LeaveStarted())
    assert failed.do(io.ResumeRequested(JOB)) == [io.Tell(failed.record())]
    holder = Rig(2, 3)
    holder.hold(job_of(), said())
    holder.do(io.LeaveStarted(), io.MemberLost(2, gone=True))
    assert holder.pass_time(LONG_MS) == []


def test_a_job_from_a_journal_is_asked_for_and_then_adopted() -> None:
    rig = Rig(2, 3)
    effects = rig.do(io.JobRestored(job_of(), said(), [run(0, 1)], []), io.ModuleHeld(JOB))
    assert effects[0] == io.Begin(job_of()) and asked(effects) == [2, 3]
    assert asked(rig.usable(4)) == [4], "one that comes later may know of it"
    assert granted(rig.pass_time(SILENT_MS + MODULE_MS)) == [1, 2]
    assert rig.claim == (1, State.RUNNING, 2, ME)


def test_what_comes_of_unknown_jobs_is_ignored_and_their_leases_are_ended() -> None:
    rig = Rig(2, 3)
    assert rig.do(io.CopyHeard(JOB, 2, [run(0, 1)], []), io.HoldRequested(JOB, 2)) == []
    assert rig.do(io.ModuleHeld(JOB), io.JobUnknown(JOB, 2)) == []
    assert rig.hear(said(holders=(3,))) == []
    assert asked(rig.hear(said(), 3)) == [3], "this node is named as a holder"
    assert rig.do(io.LeaseRefused(2, 5, Code.BUSY, 0, "")) == []
    assert rig.do(io.LeaseReported(2, 5, JOB, [run(0, 1)], [], 0, True)) == [io.Revoke(2, 5)]
