"""The pool, one rule of its table at a time; invariants are checked after every event."""

from __future__ import annotations

import pytest

from velum.policy import pool as policy
from velum.policy.pool import (
    LEAVE_MS,
    SPAWN_BACKOFF_MS,
    SPAWN_BACKOFF_MS_MAX,
    START_MS_MAX,
    STOP_MS,
    CancelArrived,
    CancelOn,
    Drained,
    Drop,
    Effect,
    Event,
    Forward,
    Give,
    Kill,
    LeaveStarted,
    OriginLost,
    Pool,
    Reply,
    Spawn,
    TaskArrived,
    TaskWithdrawn,
    TimePassed,
    WorkerAnswered,
    WorkerDied,
    WorkerReady,
)
from velum.policy.tasks import Code

A, B, C = 10, 20, 30  # origins


class Rig:
    """A pool and a clock."""

    def __init__(self, slots: int, ready: bool = True) -> None:
        self.pool = Pool(slots)
        self.now = 5000
        assert self.do(TimePassed()) == [Spawn(slot) for slot in range(slots)]
        for slot in range(slots if ready else 0):
            assert self.do(WorkerReady(slot, 1000 + slot)) == []

    def do(self, event: Event) -> list[Effect]:
        effects = self.pool.handle(event, self.now)
        self.pool.validate()
        return effects

    def arrive(self, *keys: policy.Key, timeout_ms: int = 0) -> list[Effect]:
        return [e for key in keys for e in self.do(TaskArrived(key, timeout_ms))]

    def pass_time(self, ms: int) -> list[Effect]:
        end, effects = self.now + ms, []
        while (due := self.pool.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            effects += self.do(TimePassed())
        self.now = end
        return effects


def replies(effects: list[Effect]) -> list[tuple[policy.Key, int, int]]:
    return [(e.key, e.code, e.deaths) for e in effects if isinstance(e, Reply)]


# ---- the ordinary way ----


def test_one_task_a_worker_at_a_time() -> None:
    rig = Rig(2)
    given = rig.arrive((A, 1), (A, 2), (A, 3))
    assert given == [Give(1, (A, 1), 0), Give(0, (A, 2), 0)]
    assert (rig.pool.running, rig.pool.queued, rig.pool.slots, rig.pool.speed) == (2, 1, 2, 1001)
    assert rig.do(WorkerAnswered(1, (A, 1))) == [Forward((A, 1)), Give(1, (A, 3), 0)]
    assert rig.do(WorkerAnswered(0, (A, 2))) == [Forward((A, 2))]
    assert rig.do(WorkerAnswered(1, (A, 3))) == [Forward((A, 3))]
    assert (rig.pool.running, rig.pool.queued) == (0, 0)


def test_tasks_that_come_before_the_workers_wait() -> None:
    rig = Rig(1, ready=False)
    assert rig.arrive((A, 1)) == [] and rig.pool.slots == 1
    assert rig.do(WorkerReady(0)) == [Give(0, (A, 1), 0)]
    assert rig.do(WorkerReady(0)) == [], "ready twice is ignored"


def test_origins_take_turns() -> None:
    rig = Rig(1)
    rig.arrive((A, 0), *((A, n) for n in range(1, 5)), (B, 1), (B, 2), (C, 1))
    order, key = [], (A, 0)
    while rig.pool.queued:
        _, give = rig.do(WorkerAnswered(0, key))
        assert isinstance(give, Give)
        key = give.key
        order.append(key)
    assert order == [(A, 1), (B, 1), (C, 1), (A, 2), (B, 2), (A, 3), (A, 4)]


def test_groups_share_by_time_and_weight_across_origins() -> None:
    """Leases of two jobs: the heavier job gets more time, whoever sent its leases."""
    rig = Rig(1)
    ends = {7: 0, 8: 0}
    for ticket in range(100):
        rig.do(TaskArrived((A, ticket), group=7, weight=3))
        rig.do(TaskArrived((B if ticket % 2 else A, 1000 + ticket), group=8, weight=1))
    key = (A, 0)
    for _ in range(80):
        rig.now += 100
        forward, give = rig.do(WorkerAnswered(0, key))
        assert forward == Forward(key) and isinstance(give, Give)
        ends[8 if key[1] >= 1000 else 7] += 1
        key = give.key
    assert ends == {7: 60, 8: 20}


def test_a_key_that_is_here_is_not_taken_twice() -> None:
    rig = Rig(1)
    rig.arrive((A, 1), (A, 2))
    assert rig.arrive((A, 1), (A, 2)) == []
    assert rig.pool.queued == 1
    rig.do(WorkerAnswered(0, (A, 1)))
    rig.do(WorkerAnswered(0, (A, 2)))
    assert rig.arrive((A, 1)) == [Give(0, (A, 1), 0)], "an ended key is a new task"


def test_answers_of_other_tasks_are_ignored() -> None:
    rig = Rig(2)
    rig.arrive((A, 1))
    assert rig.do(WorkerAnswered(0, (A, 1))) == rig.do(WorkerAnswered(1, (B, 1))) == []
    assert rig.do(WorkerAnswered(1, (A, 1))) == [Forward((A, 1))]
    assert rig.do(WorkerAnswered(1, (A, 1))) == []


# ---- refusals ----


def test_the_queue_is_bounded_and_leaves_room_for_newcomers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(policy, "QUEUE_MAX", 8)
    rig = Rig(1)
    rig.arrive((A, 0))
    assert replies(rig.arrive(*((A, n) for n in range(1, 7)))) == [
        ((A, 5), Code.BUSY, 0),
        ((A, 6), Code.BUSY, 0),
    ]
    (reply,) = rig.arrive(*((B, n) for n in range(1, 4)))
    assert isinstance(reply, Reply) and reply.key == (B, 3)
    assert "6 tasks wait" in reply.text and "2 of them over this link" in reply.text
    rig.do(TaskArrived((C, 1), group=5))
    (reply,) = rig.do(TaskArrived((B, 9), group=5))
    assert isinstance(reply, Reply) and "1 of them for the same job" in reply.text


def test_no_workers_at_all() -> None:
    rig = Rig(0)
    assert replies(rig.arrive((A, 1))) == [((A, 1), Code.NO_WORKER, 0)]
    assert (rig.pool.slots, rig.pool.speed, rig.pool.next_deadline()) == (0, 0, None)


def test_workers_that_do_not_start_are_tried_ever_less_often() -> None:
    rig = Rig(1, ready=False)
    rig.arrive((A, 1))
    assert replies(rig.do(WorkerDied(0))) == [((A, 1), Code.NO_WORKER, 0)]
    assert replies(rig.arrive((A, 2))) == [((A, 2), Code.NO_WORKER, 0)]
    assert rig.do(WorkerDied(0)) == [], "it cannot die twice"
    delay = SPAWN_BACKOFF_MS
    for _ in range(8):
        assert rig.pass_time(delay - 1) == []
        assert rig.pass_time(1) == [Spawn(0)]
        rig.do(WorkerDied(0))
        delay = min(2 * delay, SPAWN_BACKOFF_MS_MAX)
    rig.pass_time(delay)
    rig.do(WorkerReady(0))
    assert rig.arrive((A, 3)) == [Give(0, (A, 3), 0)]
    rig.do(WorkerAnswered(0, (A, 3)))
    rig.do(WorkerDied(0))
    assert rig.pass_time(SPAWN_BACKOFF_MS) == [Spawn(0)], "an answer has cleared its record"


def test_a_worker_that_hangs_at_start_is_killed() -> None:
    rig = Rig(1, ready=False)
    assert rig.pass_time(START_MS_MAX) == [Kill(0)]
    assert rig.do(WorkerReady(0)) == [], "too late"
    rig.do(WorkerDied(0))
    assert rig.pass_time(SPAWN_BACKOFF_MS) == [Spawn(0)]


# ---- death ----


def test_a_death_is_the_tasks_fault_and_the_worker_starts_again() -> None:
    rig = Rig(1)
    rig.arrive((A, 1), (A, 2))
    effects = rig.do(WorkerDied(0))
    assert replies(effects) == [((A, 1), Code.WORKER_DIED, 1)]
    assert effects[1:] == [Spawn(0)] and rig.pool.slots == 1
    assert rig.do(WorkerReady(0)) == [Give(0, (A, 2), 0)]


def test_an_idle_worker_that_dies_backs_off() -> None:
    rig = Rig(2)
    assert rig.do(WorkerDied(1)) == [] and rig.pool.slots == 1
    assert rig.arrive((A, 1)) == [Give(0, (A, 1), 0)]
    assert rig.pass_time(SPAWN_BACKOFF_MS) == [Spawn(1)]


# ---- cancel and timeout ----


def test_cancel_of_a_waiting_task() -> None:
    rig = Rig(1)
    rig.arrive((A, 1), (A, 2))
    assert replies(rig.do(CancelArrived((A, 2)))) == [((A, 2), Code.CANCELLED, 0)]
    assert rig.do(CancelArrived((A, 2))) == rig.do(CancelArrived((C, 9))) == []


@pytest.mark.parametrize("code", [Code.CANCELLED, Code.DEADLINE])
def test_cancel_of_a_running_task_that_obeys(code: Code) -> None:
    rig = Rig(1)
    rig.arrive((A, 1), (A, 2))
    assert rig.do(CancelArrived((A, 1), code)) == [CancelOn(0, (A, 1), code)]
    assert rig.do(CancelArrived((A, 1), code)) == [], "once is enough"
    assert rig.do(WorkerAnswered(0, (A, 1))) == [Forward((A, 1)), Give(0, (A, 2), 0)]
    assert rig.pass_time(1000) == []


def test_cancel_of_a_task_that_does_not_stop_kills_the_worker() -> None:
    rig = Rig(1)
    rig.arrive((A, 1), (A, 2))
    rig.do(CancelArrived((A, 1)))
    assert rig.pass_time(STOP_MS) == [Kill(0)]
    effects = rig.do(WorkerDied(0))
    assert replies(effects) == [((A, 1), Code.CANCELLED, 0)], "our kill is not its fault"
    assert Spawn(0) in effects


def test_an_answer_may_overtake_the_kill() -> None:
    rig = Rig(1)
    rig.arrive((A, 1), (A, 2))
    rig.do(CancelArrived((A, 1)))
    rig.pass_time(STOP_MS)
    assert rig.do(WorkerAnswered(0, (A, 1))) == [Forward((A, 1))], "and the slot stays killed"
    assert rig.do(WorkerDied(0)) == [Spawn(0)]


def test_timeouts_of_running_and_waiting_tasks() -> None:
    rig = Rig(1)
    assert rig.arrive((A, 1), timeout_ms=50) == [Give(0, (A, 1), 50)]
    rig.arrive((A, 2), timeout_ms=30)
    rig.arrive((A, 3), timeout_ms=500)
    assert replies(rig.pass_time(30)) == [((A, 2), Code.DEADLINE, 0)]
    assert rig.pass_time(20) == [CancelOn(0, (A, 1), Code.DEADLINE)]
    assert rig.do(WorkerAnswered(0, (A, 1))) == [Forward((A, 1)), Give(0, (A, 3), 450)]


# ---- a task is withdrawn ----


def test_a_withdrawn_task_ends_without_a_reply_if_it_waits() -> None:
    rig = Rig(1)
    rig.arrive((A, 1), timeout_ms=50)
    rig.arrive((A, 2), timeout_ms=50)
    assert rig.do(TaskWithdrawn((A, 1))) == [], "it runs"
    assert rig.do(TaskWithdrawn((A, 2))) == [Drop((A, 2))]
    assert rig.do(TaskWithdrawn((A, 2))) == rig.do(TaskWithdrawn((C, 9))) == []
    assert rig.do(WorkerAnswered(0, (A, 1))) == [Forward((A, 1))]
    assert rig.pool.next_deadline() is None


# ---- an origin goes ----


def test_tasks_of_a_lost_origin_are_dropped() -> None:
    rig = Rig(2)
    rig.arrive((A, 1), (A, 2), (A, 3), (B, 1))
    effects = rig.do(OriginLost(A))
    assert effects == [
        Drop((A, 3)),
        CancelOn(1, (A, 1), Code.CANCELLED),
        CancelOn(0, (A, 2), Code.CANCELLED),
    ]
    assert rig.do(WorkerAnswered(1, (A, 1))) == [Drop((A, 1)), Give(1, (B, 1), 0)]
    assert rig.pass_time(STOP_MS) == [Kill(0)]
    assert rig.do(WorkerDied(0)) == [Drop((A, 2)), Spawn(0)]
    assert rig.do(OriginLost(A)) == []


def test_an_origin_lost_while_its_task_is_being_stopped() -> None:
    rig = Rig(1)
    rig.arrive((A, 1))
    rig.do(CancelArrived((A, 1)))
    assert rig.do(OriginLost(A)) == []
    assert rig.do(WorkerAnswered(0, (A, 1))) == [Drop((A, 1))]


# ---- the node leaves ----


def test_leaving_hands_back_what_waits_and_lets_run_what_runs() -> None:
    rig = Rig(1)
    rig.arrive((A, 1), (A, 2))
    assert replies(rig.do(LeaveStarted())) == [((A, 2), Code.LEAVING, 0)]
    assert replies(rig.arrive((A, 3))) == [((A, 3), Code.LEAVING, 0)]
    assert rig.do(LeaveStarted()) == []
    assert rig.do(WorkerAnswered(0, (A, 1))) == [Forward((A, 1)), Drained()]
    assert rig.pass_time(60_000) == []


def test_leaving_ends_what_does_not_end_itself() -> None:
    rig = Rig(2)
    rig.arrive((A, 1), (A, 2))
    rig.do(LeaveStarted())
    assert rig.do(WorkerDied(1))[0] == Reply(
        (A, 1), Code.WORKER_DIED, 1, "the worker died while it ran the task"
    )
    assert rig.pass_time(LEAVE_MS) == [Kill(0)]
    effects = rig.do(WorkerDied(0))
    assert replies(effects) == [((A, 2), Code.LEAVING, 0)] and effects[-1] == Drained()


def test_leaving_idle_is_drained_at_once() -> None:
    rig = Rig(1)
    assert rig.do(LeaveStarted()) == [Drained()]
