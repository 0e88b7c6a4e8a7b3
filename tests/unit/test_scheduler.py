"""The scheduler, one rule of its table at a time; invariants are checked after every event."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import pytest

from velum.policy import leastbusy, scheduler
from velum.policy.leastbusy import CALLS_WINDOW, CANDIDATES, GUESTS_WINDOW_PER_SLOT, water_fill
from velum.policy.scheduler import (
    BACKOFF_MS,
    BACKOFF_MS_MAX,
    DEATHS_MAX,
    GRACE_MS,
    LOST_MAX,
    NO_WORKER_MS,
    REFUSED_MAX,
    REST_MS,
    Scheduler,
)
from velum.policy.scheduler_io import (
    CancelOn,
    CancelRequested,
    Effect,
    Event,
    Fail,
    Finish,
    HealthHeard,
    MemberLost,
    MemberUsable,
    Send,
    TaskFailed,
    TasksAnswered,
    TasksSubmitted,
    TimePassed,
    Why,
)
from velum.policy.tasks import ID_MAX, Code, Kind, Task, task_id
from velum.policy.types import Health

TRAP = 60
IDLE = Health(cpu=5, slots=2, cores=2, free_mib=1000, speed=1000)
LEAF = IDLE._replace(slots=0)


class Rig:
    """A scheduler, a clock, and what is under way where, as the network would see it."""

    def __init__(self, *nodes: int, health: Health = IDLE) -> None:
        self.scheduler = Scheduler(random.Random(7))
        self.now = 1000
        self.last_id = 0
        self.sent: dict[int, list[Task]] = {}
        for node in nodes:
            self.do(MemberUsable(node, health))

    def do(self, event: Event) -> list[Effect]:
        effects = self.scheduler.handle(event, self.now)
        self.scheduler.validate()
        for effect in effects:
            if isinstance(effect, Send):
                self.sent.setdefault(effect.node, []).extend(effect.tasks)
        return effects

    def tasks(self, count: int, kind: Kind = Kind.WASM, **more: int) -> list[Task]:
        first = self.last_id + 1
        self.last_id += count
        return [Task(number, kind, **more) for number in range(first, first + count)]

    def submit(self, count: int = 1, kind: Kind = Kind.WASM, **more: int) -> list[Effect]:
        return self.do(TasksSubmitted(self.tasks(count, kind, **more)))

    def answer(self, node: int, count: int | None = None, health: Health | None = None) -> None:
        tasks = self.sent[node][:count]
        del self.sent[node][: len(tasks)]
        effects = self.do(TasksAnswered(node, [task.ticket for task in tasks], health))
        assert Finish(node, [task.ticket for task in tasks]) in effects

    def fail(self, node: int, code: int, deaths: int = 0) -> list[Effect]:
        """The oldest send of a node fails there."""
        ticket = self.sent[node].pop(0).ticket
        return self.do(TaskFailed(ticket, node, code, deaths, "as the test says"))

    def lose(self, node: int, why: Why = Why.DEAD) -> list[Effect]:
        self.sent.pop(node, None)
        return self.do(MemberLost(node, why))

    def pass_time(self, ms: int) -> list[Effect]:
        """Lets time pass, stopping at every deadline on the way."""
        end, effects = self.now + ms, []
        while (due := self.scheduler.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            effects += self.do(TimePassed())
        self.now = end
        return effects

    def spread(self) -> dict[int, int]:
        return {node: len(tasks) for node, tasks in self.sent.items()}

    def holder(self) -> int:
        """The node that has the only task under way."""
        (node,) = [node for node, tasks in self.sent.items() if tasks]
        return node


def fails(effects: list[Effect]) -> list[Fail]:
    return [effect for effect in effects if isinstance(effect, Fail)]


def only_fail(effects: list[Effect]) -> Fail:
    (fail,) = fails(effects)
    return fail


# ---- the choice ----


@pytest.mark.parametrize("kind", list(Kind))
def test_sequential_calls_spread_evenly(kind: Kind) -> None:
    rig = Rig(1, 2, 3, 4)
    got: Counter[int] = Counter()
    for _ in range(1000):
        rig.submit(1, kind)
        node = rig.holder()
        got[node] += 1
        rig.answer(node, health=IDLE)
    assert all(240 <= got[node] <= 260 for node in (1, 2, 3, 4)), got


def test_sequential_calls_spread_evenly_though_reports_differ_by_chance() -> None:
    rig, noise = Rig(1, 2, 3, 4), random.Random(3)
    got: Counter[int] = Counter()
    health = {n: IDLE._replace(cpu=noise.randrange(101)) for n in (1, 2, 3, 4)}
    for _ in range(1000):
        rig.submit(1, Kind.BUILTIN)
        node = rig.holder()
        got[node] += 1
        rig.answer(node, health=health[node])
    assert all(200 <= got[node] <= 300 for node in (1, 2, 3, 4)), got


def test_a_batch_of_calls_spreads_evenly() -> None:
    rig = Rig(1, 2, 3, 4)
    assert len(rig.submit(1000, Kind.BUILTIN)) == 4
    assert rig.spread() == {1: 250, 2: 250, 3: 250, 4: 250}


def test_calls_level_lines_that_are_uneven() -> None:
    rig = Rig(1)
    rig.submit(60, Kind.BUILTIN)
    rig.do(MemberUsable(2, IDLE))
    rig.do(MemberUsable(3, IDLE))
    rig.submit(60, Kind.BUILTIN)
    assert rig.spread() == {1: 60, 2: 30, 3: 30}
    rig.submit(90, Kind.BUILTIN)
    assert rig.spread() == {1: 70, 2: 70, 3: 70}


def test_water_fill_is_level_and_complete() -> None:
    rng = random.Random(5)
    for _ in range(500):
        loads = sorted(rng.randrange(20) for _ in range(rng.randint(1, 8)))
        count = rng.randrange(1, 60)
        k, level, extra = water_fill(loads, count)
        filled = [level + (i < extra) for i in range(k)] + loads[k:]
        by_hand = list(loads)
        for _ in range(count):
            by_hand[by_hand.index(min(by_hand))] += 1
        assert sorted(filled) == sorted(by_hand)


def test_guests_take_free_slots_first() -> None:
    rig = Rig(1, 2, 3)
    rig.do(HealthHeard(1, IDLE._replace(running=2, queue=3)))
    rig.do(HealthHeard(2, IDLE._replace(running=1)))
    rig.submit(3)
    assert rig.spread() == {2: 1, 3: 2}


def test_guests_go_where_there_are_more_and_faster_slots() -> None:
    rig = Rig()
    rig.do(MemberUsable(1, IDLE._replace(slots=8, cores=8)))
    rig.do(MemberUsable(2, IDLE._replace(slots=2)))
    rig.do(MemberUsable(3, IDLE._replace(slots=2, speed=250)))
    rig.submit(20)
    spread = rig.spread()
    assert 14 <= spread[1] <= 17 and 3 <= spread[2] <= 4 and spread.get(3, 0) <= 1


def test_unknown_speed_is_the_median() -> None:
    healths = [IDLE._replace(speed=speed) for speed in (100, 0, 900, 1000, 1100)]
    median = leastbusy.median_speed(healths)
    assert median == 1000
    assert leastbusy.rate(healths[1], median) == leastbusy.rate(IDLE, median) == 1.0
    assert leastbusy.median_speed([LEAF._replace(speed=0)]) == 0


def test_own_workers_do_not_make_a_node_busy_but_others_do() -> None:
    own = IDLE._replace(cpu=100, running=2)
    foreign = IDLE._replace(cpu=100)
    assert leastbusy.rate(own, 1000) == 1.0
    assert leastbusy.rate(foreign, 1000) == 0.25


def test_no_herding_within_one_gossip_interval() -> None:
    rig = Rig(*range(1, 9))
    for _ in range(16):
        rig.submit(1)
    assert rig.spread() == dict.fromkeys(range(1, 9), 2)


def test_a_report_does_not_count_our_own_tasks_twice() -> None:
    rig = Rig(1, 2)
    rig.submit(2, node=1)
    rig.do(HealthHeard(1, IDLE._replace(running=2)))
    rig.do(HealthHeard(2, IDLE._replace(running=2, queue=1)))
    rig.submit(1)
    assert rig.spread() == {1: 3}, "two of ours there, against three of others here"


def test_of_free_slots_those_of_the_emptier_node_are_taken() -> None:
    rig = Rig(1, 2, health=IDLE._replace(slots=4, cores=4))
    rig.do(HealthHeard(1, IDLE._replace(slots=4, cores=4, running=3)))
    rig.submit(2)
    assert rig.spread() == {2: 2}


def test_nearly_equal_speeds_are_equal() -> None:
    rig = Rig(1, 2)
    for node, speed in ((1, 1000), (2, 1100)):
        rig.do(HealthHeard(node, IDLE._replace(speed=speed)))
    rig.do(HealthHeard(1, IDLE))
    for node in (1, 2, 1, 2):
        rig.submit(1)
        assert rig.holder() == node
        rig.answer(node)


@pytest.mark.parametrize("kind", list(Kind))
def test_a_newcomer_gets_its_turns_but_no_arrears(kind: Kind) -> None:
    rig = Rig(1, 2)
    for _ in range(100):
        rig.submit(1, kind)
        rig.answer(rig.holder())
    rig.do(MemberUsable(3, IDLE))
    got: Counter[int] = Counter()
    for _ in range(30):
        rig.submit(1, kind)
        got[rig.holder()] += 1
        rig.answer(rig.holder())
    assert all(9 <= got[node] <= 11 for node in (1, 2, 3)), got


def test_a_large_mesh_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(*range(1, 101))
    drawn: list[int] = []

    def sample(_: random.Random, posts: list[leastbusy.Post], k: int) -> list[leastbusy.Post]:
        drawn.append(k)
        return posts[-k:]

    monkeypatch.setattr(random.Random, "sample", sample)
    rig.submit(1)
    rig.submit(20, Kind.BUILTIN)
    assert drawn == [CANDIDATES, 40]
    rig.submit(200, Kind.BUILTIN)
    assert len(drawn) == 2, "a large batch looks at everybody anyhow"
    assert max(rig.spread().values()) <= 4


@pytest.mark.parametrize("kind", list(Kind))
def test_the_last_room_of_a_large_mesh_is_found(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leastbusy, "CALLS_WINDOW", 4)
    rig = Rig(*range(1, 101), health=IDLE._replace(slots=1))
    rig.submit(400, kind)
    rig.answer(77, 1)
    rig.submit(2, kind)
    assert set(rig.spread().values()) == {4} and rig.scheduler.unfinished == 401


# ---- windows ----


def test_guests_beyond_the_window_wait_and_are_drawn_by_answers() -> None:
    rig = Rig(1, 2)
    window = 2 * GUESTS_WINDOW_PER_SLOT
    rig.submit(100)
    assert rig.spread() == {1: window, 2: window}
    for _ in range(40):
        rig.answer(1, 1)
    rig.answer(2, 1)
    assert rig.spread() == {1: window, 2: window}
    assert rig.scheduler.unfinished == 100 - 41


def test_calls_beyond_the_window_wait() -> None:
    rig = Rig(1)
    rig.submit(CALLS_WINDOW + 5, Kind.BUILTIN)
    assert rig.spread() == {1: CALLS_WINDOW}
    rig.answer(1, 3)
    assert rig.spread() == {1: CALLS_WINDOW}


def test_a_waiting_task_goes_to_a_node_that_joins() -> None:
    rig = Rig(1)
    rig.submit(20)
    rig.do(MemberUsable(2, IDLE))
    assert rig.spread()[2] == 8


def test_more_tasks_than_the_limit_are_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "TASKS_MAX", 10)
    rig = Rig(1)
    fail = only_fail(rig.submit(11))
    assert fail.code == Code.BUSY and fail.task_id == 11
    assert "10 tasks" in fail.text and "1 nodes" in fail.text


# ---- loss ----


@pytest.mark.parametrize("why", list(Why))
def test_tasks_of_a_lost_node_are_sent_again_and_late_answers_dropped(why: Why) -> None:
    rig = Rig(1, 2)
    rig.submit(2)
    task = rig.sent[1][0]
    first = task.ticket
    effects = rig.lose(1, why)
    assert (CancelOn(1, first, Code.CANCELLED) in effects) == (why is Why.SUSPECTED)
    assert task in rig.sent[2] and task.ticket != first and task_id(task.ticket) == task.id
    assert rig.do(TasksAnswered(1, [first])) == []
    assert rig.do(TasksAnswered(2, [first])) == []
    rig.do(MemberUsable(1, IDLE))
    assert rig.do(TasksAnswered(1, [first])) == []
    rig.answer(2)
    assert rig.scheduler.unfinished == 0


def test_duplicate_answers_are_dropped() -> None:
    rig = Rig(1)
    rig.submit(1)
    ticket = rig.sent[1][0].ticket
    rig.answer(1)
    assert rig.do(TasksAnswered(1, [ticket, ticket])) == []
    assert rig.do(TaskFailed(ticket, 1, TRAP)) == []
    assert rig.do(TasksAnswered(9, [ticket])) == []


def test_a_late_error_of_an_earlier_send_to_the_same_node_is_dropped() -> None:
    rig = Rig(1)
    rig.submit(1)
    first = rig.sent[1][0].ticket
    rig.lose(1, Why.SUSPECTED)
    rig.do(MemberUsable(1, IDLE))
    assert rig.do(TaskFailed(first, 1, Code.CANCELLED)) == []
    rig.answer(1)


def test_a_task_is_lost_after_so_many_nodes() -> None:
    rig = Rig(1)
    rig.submit(1)
    for _ in range(LOST_MAX - 1):
        assert not fails(rig.lose(1))
        rig.do(MemberUsable(1, IDLE))
    fail = only_fail(rig.lose(1, Why.LINK))
    assert fail.code == Code.LOST and "link lost" in fail.text


def test_tasks_sent_again_go_before_those_that_wait() -> None:
    rig = Rig(1, 2)
    rig.submit(20)
    lost = list(rig.sent[2])
    rig.lose(2)
    rig.answer(1)
    assert rig.sent[1] == lost


def test_leaving_does_not_count_as_lost() -> None:
    rig = Rig(1)
    rig.submit(1)
    for _ in range(REFUSED_MAX - 1):
        assert not fails(rig.lose(1, Why.LEFT))
        rig.do(MemberUsable(1, IDLE))
    assert only_fail(rig.lose(1, Why.LEFT)).code == Code.LOST


def test_suspects_are_never_chosen() -> None:
    rig = Rig(1, 2)
    rig.lose(2, Why.SUSPECTED)
    rig.do(HealthHeard(2, IDLE))
    rig.submit(5, Kind.BUILTIN)
    rig.submit(5)
    assert rig.spread() == {1: 10}


# ---- errors ----


@pytest.mark.parametrize("code", [TRAP, 42, 43, 51, 54, Code.DEADLINE])
def test_the_tasks_own_errors_end_it(code: int) -> None:
    rig = Rig(1, 2)
    rig.submit(1)
    node = rig.holder()
    assert rig.fail(node, code) == [Fail(1, code, node, "as the test says")]


def test_poison_is_tried_elsewhere_then_refused() -> None:
    rig = Rig(1, 2, 3, 4)
    rig.submit(1)
    nodes = [rig.holder()]
    for _ in range(DEATHS_MAX - 1):
        assert not fails(rig.fail(nodes[-1], Code.WORKER_DIED, 1))
        nodes.append(rig.holder())
    assert len(set(nodes)) == DEATHS_MAX
    fail = only_fail(rig.fail(nodes[-1], Code.WORKER_DIED, 1))
    assert fail.code == Code.POISON
    assert all(f"node {node}" in fail.text for node in nodes)


def test_a_task_that_killed_a_worker_goes_elsewhere_even_to_a_slower_node() -> None:
    rig = Rig(1)
    rig.do(MemberUsable(2, IDLE._replace(slots=1, speed=10)))
    rig.submit(1)
    assert rig.holder() == 1
    rig.fail(1, Code.WORKER_DIED, 1)
    assert rig.holder() == 2


def test_deaths_are_summed_and_never_taken_for_none() -> None:
    rig = Rig(1)
    rig.submit(1)
    for _ in range(DEATHS_MAX - 1):
        assert not fails(rig.fail(1, Code.WORKER_DIED, 0))
    assert only_fail(rig.fail(1, Code.WORKER_DIED, 0)).code == Code.POISON
    rig.submit(1)
    assert only_fail(rig.fail(1, Code.WORKER_DIED, 200)).code == Code.POISON


def test_busy_is_tried_elsewhere_after_a_pause() -> None:
    rig = Rig(1, 2)
    rig.submit(1)
    node = rig.holder()
    assert rig.fail(node, Code.BUSY) == []
    rig.submit(4)
    assert rig.spread()[node] == 0, "a node that refused gets no more for a while"
    rig.pass_time(BACKOFF_MS)
    assert rig.spread()[3 - node] == 5
    rig.pass_time(REST_MS)
    rig.submit(1)
    assert rig.spread()[node] == 1


def test_a_node_that_rests_or_has_ghosts_may_be_lost() -> None:
    rig = Rig(1, 2)
    rig.submit(4)
    first, second = rig.sent[1]
    rig.fail(1, Code.BUSY)
    rig.do(CancelRequested(second.id))
    rig.lose(1)
    rig.pass_time(GRACE_MS)
    assert first in rig.sent[2] and second not in rig.sent[2]
    rig.answer(2)
    assert rig.scheduler.unfinished == rig.scheduler.flying == 0


@pytest.mark.parametrize("code", [Code.BUSY, Code.NO_WORKER, Code.NOMEM])
def test_refusals_are_bounded(code: Code) -> None:
    rig = Rig(1)
    rig.submit(1)
    for _ in range(REFUSED_MAX - 1):
        assert not fails(rig.fail(1, code))
        rig.pass_time(2000)
    fail = only_fail(rig.fail(1, code))
    assert fail.code == code and "16 times" in fail.text


def test_the_pause_of_a_refused_task_doubles_up_to_a_limit() -> None:
    rig = Rig(1)
    rig.submit(1)
    for times in range(1, REFUSED_MAX):
        rig.fail(1, Code.BUSY)
        pause = max(REST_MS, min(BACKOFF_MS << (times - 1), BACKOFF_MS_MAX))
        rig.pass_time(pause - 1)
        assert not rig.sent[1]
        rig.pass_time(1)
        assert rig.sent[1]


def test_a_node_that_answers_leaving_gets_no_more() -> None:
    rig = Rig(1, 2)
    rig.submit(4)
    assert not fails(rig.fail(1, Code.LEAVING))
    rig.submit(2, Kind.BUILTIN)
    assert rig.spread() == {1: 1, 2: 5}
    rig.do(HealthHeard(1, IDLE))
    rig.submit(2, Kind.BUILTIN)
    assert rig.spread()[1] == 3


def test_the_leaving_flag_stops_new_tasks() -> None:
    rig = Rig(1, 2)
    rig.do(HealthHeard(1, IDLE._replace(flags=1)))
    rig.submit(4)
    assert rig.spread() == {2: 4}


def test_cancelled_by_the_node_itself_counts_as_lost() -> None:
    rig = Rig(1)
    rig.submit(1)
    for _ in range(LOST_MAX - 1):
        assert not fails(rig.fail(1, Code.CANCELLED))
    assert only_fail(rig.fail(1, Code.CANCELLED)).code == Code.LOST


# ---- the caller's wishes ----


def test_deadline_of_a_task_that_runs() -> None:
    rig = Rig(1)
    rig.submit(1, timeout_ms=300)
    task = rig.sent[1][0]
    rig.now += 100
    assert task.left_ms(rig.now) == 200
    effects = rig.pass_time(200)
    assert effects[0] == CancelOn(1, task.ticket, Code.DEADLINE)
    fail = only_fail(effects)
    assert fail.code == Code.DEADLINE and fail.node == 1 and "300 ms" in fail.text
    assert rig.scheduler.unfinished == 0 and rig.scheduler.flying == 1
    assert rig.do(TasksAnswered(1, [task.ticket])) == []
    assert rig.scheduler.flying == 0


def test_a_stopped_task_that_is_never_confirmed_gives_its_place_back() -> None:
    rig = Rig(1)
    rig.submit(9, timeout_ms=0)
    rig.do(CancelRequested(1))
    assert rig.scheduler.flying == 8
    rig.pass_time(GRACE_MS)
    assert rig.scheduler.flying == 8 and len(rig.sent[1]) == 9, "the ninth was sent instead"
    rig.do(CancelRequested(2))
    rig.do(TaskFailed(2, 1, Code.CANCELLED))
    assert rig.scheduler.flying == 7


def test_deadline_of_a_task_that_waits() -> None:
    rig = Rig(1)
    rig.submit(8)
    rig.submit(3, timeout_ms=50)
    effects = rig.pass_time(50)
    assert [(fail.code, fail.node) for fail in fails(effects)] == [(Code.DEADLINE, 0)] * 3
    assert len(effects) == 3


def test_cancel_in_every_place() -> None:
    rig = Rig(1)
    rig.submit(9)
    assert only_fail(rig.do(CancelRequested(9))).code == Code.CANCELLED
    effects = rig.do(CancelRequested(8, Code.DEADLINE))
    assert effects[0] == CancelOn(1, 8, Code.DEADLINE)
    assert only_fail(effects).code == Code.DEADLINE and only_fail(effects).node == 1
    rig.fail(1, Code.BUSY)
    assert only_fail(rig.do(CancelRequested(1))).node == 0
    assert rig.do(CancelRequested(1)) == []
    assert rig.do(CancelRequested(12345)) == []


def test_a_retried_task_has_only_the_rest_of_its_time() -> None:
    rig = Rig(1, 2)
    rig.submit(1, timeout_ms=1000)
    rig.now += 400
    rig.lose(rig.holder())
    assert rig.sent[rig.holder()][0].left_ms(rig.now) == 600


def test_send_precedes_the_cancel_of_a_late_step() -> None:
    rig = Rig(1)
    rig.submit(1, timeout_ms=REST_MS + 1)
    rig.fail(1, Code.BUSY)
    rig.now += 10_000
    send, cancel, fail = rig.do(TimePassed())
    assert isinstance(send, Send) and isinstance(cancel, CancelOn) and isinstance(fail, Fail)
    assert send.tasks[0].ticket == cancel.ticket


# ---- pinned tasks ----


def test_pinned_to_a_node_that_is_not_there() -> None:
    rig = Rig(1)
    fail = only_fail(rig.submit(1, node=7))
    assert fail.code == Code.NO_WORKER and "node 7" in fail.text


def test_pinned_guest_of_a_node_without_workers() -> None:
    rig = Rig(1, 2, health=LEAF)
    assert only_fail(rig.submit(1, node=2)).code == Code.NO_WORKER
    assert not fails(rig.submit(1, Kind.BUILTIN, node=2))
    assert rig.spread() == {2: 1}


def test_pinned_tasks_wait_for_their_node_and_die_with_it() -> None:
    rig = Rig(1, 2)
    rig.submit(10, node=1)
    assert rig.spread() == {1: 8}
    rig.submit(8)
    assert rig.spread() == {1: 8, 2: 8}
    rig.answer(1, 1)
    assert rig.sent[1][-1].node == 1
    assert only_fail(rig.do(CancelRequested(10))).code == Code.CANCELLED
    codes = Counter(fail.code for fail in fails(rig.lose(1)))
    assert codes == {Code.LOST: 8}


def test_what_waits_for_a_lost_node_alone_finds_no_worker() -> None:
    rig = Rig(1)
    rig.submit(10, node=1)
    codes = Counter(fail.code for fail in fails(rig.lose(1)))
    assert codes == {Code.LOST: 8, Code.NO_WORKER: 2}


@pytest.mark.parametrize("code", [Code.LEAVING, Code.NO_WORKER])
def test_pinned_and_given_back_for_good(code: Code) -> None:
    rig = Rig(1, 2)
    rig.submit(10, node=1)
    expected = {1, 9, 10} if code is Code.LEAVING else {1}
    got = fails(rig.fail(1, code))
    assert {fail.task_id for fail in got} == expected
    assert {fail.code for fail in got} == {code}
    if code is Code.LEAVING:
        assert only_fail(rig.submit(1, node=1)).code == Code.LEAVING


def test_pinned_and_refused_or_killed_is_tried_there_again() -> None:
    rig = Rig(1, 2)
    rig.submit(1, node=1)
    assert rig.fail(1, Code.BUSY) == []
    rig.pass_time(REST_MS)
    assert rig.spread() == {1: 1}
    assert not fails(rig.fail(1, Code.WORKER_DIED, 1))
    assert rig.spread() == {1: 1}


# ---- nobody there ----


@pytest.mark.parametrize("kind", list(Kind))
def test_a_task_waits_for_a_node_that_can_run_it(kind: Kind) -> None:
    rig = Rig()
    rig.submit(1, kind)
    rig.pass_time(NO_WORKER_MS - 1)
    rig.do(MemberUsable(1, IDLE))
    assert rig.spread() == {1: 1}
    rig.lose(1)
    assert not fails(rig.pass_time(NO_WORKER_MS - 1))
    assert only_fail(rig.pass_time(1)).code == Code.NO_WORKER


def test_a_guest_waits_for_a_worker_then_gives_up() -> None:
    rig = Rig(1, health=LEAF)
    rig.submit(1)
    rig.submit(1, Kind.BUILTIN)
    rig.answer(1)
    fail = only_fail(rig.pass_time(NO_WORKER_MS))
    assert fail.code == Code.NO_WORKER and "--workers" in fail.text


def test_workers_that_vanish_strand_what_waits() -> None:
    rig = Rig(1)
    rig.submit(10)
    rig.do(HealthHeard(1, LEAF))
    assert [fail.task_id for fail in fails(rig.pass_time(NO_WORKER_MS))] == [9, 10]
    rig.do(HealthHeard(1, IDLE))
    rig.answer(1)


# ---- misuse, and what others own ----


def test_a_task_id_used_twice_is_the_drivers_mistake() -> None:
    rig = Rig(1)
    rig.submit(1)
    for number in (1, 0, ID_MAX + 1):
        with pytest.raises(ValueError, match="task id"):
            rig.scheduler.handle(TasksSubmitted([Task(number, Kind.WASM)]), rig.now)


def test_news_of_strangers_is_ignored() -> None:
    rig = Rig()
    assert rig.do(HealthHeard(3, IDLE)) == rig.do(MemberLost(3, Why.DEAD)) == []
    assert rig.do(TasksAnswered(3, [1], IDLE)) == rig.do(TaskFailed(1, 3, Code.BUSY)) == []


def test_codes_are_those_of_the_core() -> None:
    header = Path(__file__).parents[2] / "csrc" / "include" / "velum.h"
    table = dict(re.findall(r"X\((\w+), (\d+), ", header.read_text()))
    assert {code.name: str(int(code)) for code in Code}.items() <= table.items()
