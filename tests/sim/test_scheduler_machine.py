"""Scheduler and pool under arbitrary events in arbitrary order, checked against small models.

The rules know nothing of what is likely: nodes answer for tickets they never had, die twice, report
nonsense. Whatever happens, validate() holds, every task ends exactly once, and once the world calms
down every task ends soon. Hypothesis prints the steps of a failure, shrunk, as a program to paste.
"""

from __future__ import annotations

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from velum.policy import pool as pools
from velum.policy.pool import Pool
from velum.policy.scheduler import DEATHS_MAX, LOST_MAX, REFUSED_MAX, Scheduler
from velum.policy.scheduler_io import (
    CancelOn,
    CancelRequested,
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
from velum.policy.tasks import Code, Kind, Task, task_id
from velum.policy.types import Health

NODES = st.integers(1, 5)
CODES = st.sampled_from([*Code, 43, 60])
HEALTHS = st.builds(
    Health,
    cpu=st.integers(0, 100),
    slots=st.integers(0, 3),
    cores=st.integers(1, 4),
    flags=st.sampled_from([0, 0, 0, 1]),
    queue=st.integers(0, 9),
    running=st.integers(0, 3),
    speed=st.sampled_from([0, 100, 1000, 1100]),
)
CALM = Health(slots=2, cores=2, speed=1000)
SENDS_MAX = LOST_MAX + DEATHS_MAX + REFUSED_MAX


class SchedulerMachine(RuleBasedStateMachine):
    """The model: who is open, and which send of each open task is the latest."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(random.Random(0))
        self.now = 0
        self.last = 0
        self.open: dict[int, Task] = {}
        self.latest: dict[int, tuple[int, int]] = {}  # task: (node, ticket)
        self.sends: dict[tuple[int, int], None] = {}  # every (node, ticket) ever, in order
        self.count: dict[int, int] = {}

    def do(self, event: Event) -> None:
        for effect in self.scheduler.handle(event, self.now):
            if isinstance(effect, Send):
                for task in effect.tasks:
                    self.sent(effect.node, task)
            elif isinstance(effect, Finish):
                assert isinstance(event, TasksAnswered) and effect.node == event.node
                for ticket in effect.tickets:
                    assert ticket in event.tickets
                    assert self.latest.pop(task_id(ticket)) == (effect.node, ticket)
                    del self.open[task_id(ticket)]
            elif isinstance(effect, Fail):
                assert effect.text or isinstance(event, TaskFailed)
                del self.open[effect.task_id]
                self.latest.pop(effect.task_id, None)
            else:
                assert isinstance(effect, CancelOn)
                assert (effect.node, effect.ticket) in self.sends

    def sent(self, node: int, task: Task) -> None:
        assert task.node in (None, node)
        assert (node, task.ticket) not in self.sends, "a ticket was used twice"
        self.sends[node, task.ticket] = None
        self.latest[task.id] = (node, task.ticket)
        self.count[task.id] = self.count.get(task.id, 0) + 1
        assert self.count[task.id] <= SENDS_MAX, "retries are not bounded"

    @rule(
        count=st.integers(1, 20),
        kind=st.sampled_from(Kind),
        node=st.none() | NODES,
        timeout_ms=st.sampled_from([0, 0, 50, 5000]),
    )
    def submit(self, count: int, kind: Kind, node: int | None, timeout_ms: int) -> None:
        numbers = range(self.last + 1, self.last + 1 + count)
        tasks = [Task(number, kind, node, timeout_ms) for number in numbers]
        self.last += count
        self.open.update({task.id: task for task in tasks})
        self.do(TasksSubmitted(tasks))

    @rule(node=NODES, health=HEALTHS)
    def usable(self, node: int, health: Health) -> None:
        self.do(MemberUsable(node, health))

    @rule(node=NODES, health=HEALTHS)
    def heard(self, node: int, health: Health) -> None:
        self.do(HealthHeard(node, health))

    @rule(node=NODES, why=st.sampled_from(Why))
    def lost(self, node: int, why: Why) -> None:
        self.do(MemberLost(node, why))

    @precondition(lambda self: self.sends)
    @rule(data=st.data(), health=st.none() | HEALTHS)
    def answer(self, data: st.DataObject, health: Health | None) -> None:
        """Some sends of one node, old and new."""
        node, _ = data.draw(st.sampled_from(list(self.sends)))
        tickets = [ticket for at, ticket in self.sends if at == node]
        some = data.draw(st.lists(st.sampled_from(tickets), max_size=10))
        self.do(TasksAnswered(node, some, health))

    @precondition(lambda self: self.latest)
    @rule(data=st.data(), code=CODES, deaths=st.integers(0, 2))
    def fail(self, data: st.DataObject, code: int, deaths: int) -> None:
        node, ticket = data.draw(st.sampled_from(sorted(self.latest.values())))
        self.do(TaskFailed(ticket, node, code, deaths))

    @rule(node=NODES, ticket=st.integers(0, 2**64 - 1), code=CODES)
    def lie(self, node: int, ticket: int, code: int) -> None:
        self.do(TasksAnswered(node, [ticket]))
        self.do(TaskFailed(ticket, node, code))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.open)))
        self.do(CancelRequested(number))
        assert number not in self.open

    @rule(ms=st.sampled_from([0, 1, 20, 100, 500, 10_000]))
    def wait(self, ms: int) -> None:
        self.now += ms
        self.do(TimePassed())
        due = self.scheduler.next_deadline()
        assert due is None or due > self.now

    @invariant()
    def holds(self) -> None:
        self.scheduler.validate()
        assert self.scheduler.unfinished == len(self.open)
        for task in self.open.values():
            assert not task.deadline or task.deadline >= self.now

    def teardown(self) -> None:
        """The world calms down: every node is there and answers all it is asked."""
        for node in range(1, 6):
            self.do(MemberUsable(node, CALM))
        for _ in range(200):
            if not self.open:
                return
            for node in range(1, 6):
                tickets = [ticket for at, ticket in self.latest.values() if at == node]
                self.do(TasksAnswered(node, tickets, CALM))
            self.now += 100
            self.do(TimePassed())
            self.scheduler.validate()
        raise AssertionError(f"still open after 20 s of calm: {self.open}")


class PoolMachine(RuleBasedStateMachine):
    """The model: which keys are here, and what each worker has been told."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool(3)
        self.now = 0
        self.here: set[pools.Key] = set()
        self.gone: set[int] = set()  # origins lost while tasks of theirs were here
        self.withdrawn: pools.Key | None = None  # just now
        self.given: dict[int, pools.Key] = {}
        self.alive: set[int] = set()
        self.killed: set[int] = set()  # and not dead yet
        self.drained = 0

    def do(self, event: pools.Event) -> None:
        for effect in self.pool.handle(event, self.now):
            if isinstance(effect, pools.Give):
                assert effect.slot in self.alive and effect.slot not in self.given
                assert effect.key in self.here
                self.given[effect.slot] = effect.key
            elif isinstance(effect, pools.Spawn):
                assert effect.slot not in self.alive and not self.drained
                self.alive.add(effect.slot)
            elif isinstance(effect, pools.Kill):
                assert effect.slot in self.alive and effect.slot not in self.killed
                self.killed.add(effect.slot)
            elif isinstance(effect, pools.CancelOn):
                assert self.given[effect.slot] == effect.key
            elif isinstance(effect, pools.Drained):
                self.drained += 1
                assert self.drained == 1 and not self.here
            else:
                self.here.remove(effect.key)
                lost = effect.key[0] in self.gone or effect.key == self.withdrawn
                assert isinstance(effect, pools.Drop) == lost, "a lost origin gets no answer"

    @rule(
        origin=st.integers(1, 3),
        count=st.integers(1, 6),
        timeout_ms=st.sampled_from([0, 80]),
        group=st.none() | st.integers(1, 4),
        weight=st.sampled_from([1, 10, 100]),
    )
    def arrive(
        self, origin: int, count: int, timeout_ms: int, group: int | None, weight: int
    ) -> None:
        if origin in self.gone and any(key[0] == origin for key in self.here):
            return  # the number stands for another link once the old one's tasks are gone
        self.gone.discard(origin)
        for ticket in range(count):
            self.here.add((origin, ticket))
            self.do(pools.TaskArrived((origin, ticket), timeout_ms, group, weight))

    @rule(origin=st.integers(1, 3), ticket=st.integers(0, 6))
    def cancel(self, origin: int, ticket: int) -> None:
        self.do(pools.CancelArrived((origin, ticket)))

    @rule(origin=st.integers(1, 3), ticket=st.integers(0, 6))
    def withdraw(self, origin: int, ticket: int) -> None:
        self.withdrawn = (origin, ticket)
        runs = self.withdrawn in self.given.values()
        self.do(pools.TaskWithdrawn(self.withdrawn))
        assert runs or self.withdrawn not in self.here
        self.withdrawn = None

    @rule(origin=st.integers(1, 3))
    def origin_lost(self, origin: int) -> None:
        if any(key[0] == origin for key in self.here):
            self.gone.add(origin)
        self.do(pools.OriginLost(origin))

    @rule(slot=st.integers(0, 2), speed=st.integers(0, 9))
    def ready(self, slot: int, speed: int) -> None:
        if slot in self.alive:
            self.do(pools.WorkerReady(slot, speed))

    @rule(slot=st.integers(0, 2), right=st.booleans())
    def answer(self, slot: int, right: bool) -> None:
        if slot in self.given and right:
            key = self.given.pop(slot)
            self.do(pools.WorkerAnswered(slot, key))
        else:
            self.do(pools.WorkerAnswered(slot, (1, 99)))

    @rule(slot=st.integers(0, 2))
    def die(self, slot: int) -> None:
        if slot in self.alive:
            self.alive.discard(slot)
            self.killed.discard(slot)
            self.given.pop(slot, None)
            self.do(pools.WorkerDied(slot))

    @rule(ms=st.sampled_from([0, 1, 80, 100, 5000]))
    def wait(self, ms: int) -> None:
        self.now += ms
        self.do(pools.TimePassed())
        due = self.pool.next_deadline()
        assert due is None or due > self.now

    @invariant()
    def holds(self) -> None:
        self.pool.validate()
        assert self.pool.queued + self.pool.running == len(self.here)

    def teardown(self) -> None:
        """Workers that start, answer and die as they should end everything; the node leaves."""
        for _ in range(100):
            self.wait(100)
            for slot in range(3):
                self.ready(slot, 1)
                if slot in self.killed:
                    self.die(slot)
                else:
                    self.answer(slot, True)
        assert not self.here
        self.do(pools.LeaveStarted())
        assert self.drained == 1


_SETTINGS = settings(max_examples=200, stateful_step_count=50, deadline=None)
TestScheduler = SchedulerMachine.TestCase
TestScheduler.settings = _SETTINGS
TestPool = PoolMachine.TestCase
TestPool.settings = _SETTINGS
