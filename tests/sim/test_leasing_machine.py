"""The leases of a job: arbitrary events in arbitrary order, and seeded runs of workers with speeds.

The machine knows nothing of what is likely: nodes report what they never had, come, go, refuse and
are stuck. Whatever happens, validate() holds, no grant breaks I2 or a window, and once the world
calms down every slice ends. Hypothesis prints the steps of a failure, shrunk, as a program to
paste.

The runs show what the decisions are worth: how long a job takes beside the ideal, with uneven
slices, slow, stuck, dying and joining nodes. One seed decides everything; a failure prints it, and

    VELUM_SEED=123 pytest tests/sim/test_leasing_machine.py

replays it.
"""

from __future__ import annotations

import heapq
import itertools
import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from velum.policy.job import I64, LEASE_BIT, Reduce, Spec
from velum.policy.jobs_io import Grant, Revoke, Trim
from velum.policy.leasing import LOSSES_MAX, Leasing
from velum.policy.slices import Span, Spans
from velum.policy.tasks import Code

SEEDS = [int(os.environ["VELUM_SEED"])] if "VELUM_SEED" in os.environ else list(range(12))
REPORT_MS = 25  # VELUM_REPORT_MS


def make_spec(slices: int) -> Spec:
    args = ((I64, 0), (I64, slices))
    return Spec(1, 0, Reduce.SUM, 50, I64, slices, 0, 0, 0, 0, 0, 0, bytes(32), "f", "f.wasm", args)


# ---- arbitrary events ----

SLICES = 200
NODES = st.integers(1, 4)


@dataclass
class Open:
    """A lease as its node knows it."""

    node: int
    position: int
    end: int
    careful: bool


class LeasingMachine(RuleBasedStateMachine):
    """The model: which slices are known, and which leases are open with what bounds."""

    def __init__(self) -> None:
        super().__init__()
        self.tickets = itertools.count(LEASE_BIT)
        self.leasing = Leasing(make_spec(SLICES), Spans([(0, SLICES)]), lambda: next(self.tickets))
        self.now = 0
        self.slots: dict[int, int] = {}
        self.open: dict[int, Open] = {}
        self.old: dict[int, Open] = {}  # revoked, lost or over: some workers have not heard
        self.known = Spans()
        self.died = Spans()  # parts of leases whose worker died
        self.failed: list[int] = []

    def step(self) -> None:
        """Every event is followed by one."""
        for failure in self.leasing.lost_failures():
            assert failure.code == Code.LOST
            self.fail(failure.slice)
        effects = self.leasing.step(self.now)
        self.leasing.validate()
        assert [type(effect) for effect in effects] == sorted(
            (type(effect) for effect in effects), key=[Revoke, Trim, Grant].index
        )
        for effect in effects:
            if isinstance(effect, Revoke):
                self.close(effect.ticket)
            elif isinstance(effect, Trim):
                lease = self.open[effect.ticket]
                assert lease.node == effect.node and lease.position < effect.end < lease.end
                lease.end = effect.end
            else:
                self.granted(effect)
        self.check_overlaps()
        due = self.leasing.next_deadline()
        assert due is None or due > self.now
        assert self.leasing.step(self.now) == [], "a second look finds more"

    def granted(self, grant: Grant) -> None:
        assert grant.ticket not in self.open and grant.ticket not in self.old
        assert grant.count >= 1
        first, end = grant.first, grant.first + grant.count
        assert not list(self.known.within(first, end)), "a known slice is run again"
        fragile = sum(e - f for f, e in self.died.within(first, end))
        assert fragile == (grant.count if grant.careful else 0), "fragile and others are mixed"
        self.open[grant.ticket] = Open(grant.node, first, end, grant.careful)
        open_there = sum(lease.node == grant.node for lease in self.open.values())
        assert open_there <= 2 * self.slots[grant.node], "more than the window"

    def check_overlaps(self) -> None:
        """I2: a slice is leased once, or twice and the coordinator knows."""
        runs: Counter[int] = Counter()
        for lease in self.open.values():
            runs.update(i for i in range(lease.position, lease.end) if i not in self.known)
        for index, count in runs.items():
            assert count == 1 or count == 2 and self.is_doubled(index)

    def is_doubled(self, index: int) -> bool:
        """Only slices that are all that two nodes, or one alone in the mesh, have left."""
        pair = [lease for lease in self.open.values() if lease.position <= index < lease.end]
        return all(lease.end - lease.position == 1 for lease in pair)

    def close(self, ticket: int) -> Open:
        lease = self.old[ticket] = self.open.pop(ticket)
        return lease

    def learn(self, first: int, end: int) -> list[Span]:
        """Slices are known now; those that were not before."""
        fresh = Spans([(first, end)])
        for span in list(self.known.within(first, end)):
            fresh.remove(*span)
        self.known.add(first, end)
        self.died.remove(first, end)
        return list(fresh)

    def fail(self, index: int) -> None:
        assert index not in self.known, "a known slice fails"
        self.learn(index, index + 1)
        self.failed.append(index)

    def report(self, ticket: int, node: int, first: int, end: int, last: bool) -> None:
        self.learn(first, end)
        told = [(first, end)] if first < end else []
        self.leasing.reported(ticket, node, told, 10 * (end - first), last, self.now)
        self.step()

    @initialize(slots=st.lists(st.integers(0, 2), min_size=1, max_size=4))
    def begin(self, slots: list[int]) -> None:
        for node, count in enumerate(slots, 1):
            self.usable(node, count, 0)

    @rule(node=NODES, slots=st.integers(0, 2), speed=st.sampled_from([0, 100, 1000]))
    def usable(self, node: int, slots: int, speed: int) -> None:
        self.slots[node] = slots
        self.leasing.member_usable(node, slots, speed)
        self.step()

    @rule(node=NODES)
    def lost(self, node: int) -> None:
        for ticket, lease in list(self.open.items()):
            if lease.node == node:
                self.close(ticket)
        self.slots.pop(node, None)
        self.leasing.member_lost(node)
        assert self.leasing.open_leases(node) == 0
        self.step()

    @precondition(lambda self: self.open)
    @rule(data=st.data(), count=st.integers(0, 12), last=st.booleans())
    def progress(self, data: st.DataObject, count: int, last: bool) -> None:
        """A node goes on with a lease; it may end it early, or end it silently."""
        ticket = data.draw(st.sampled_from(sorted(self.open)))
        lease = self.open[ticket]
        first = lease.position
        lease.position = min(lease.end, first + count)
        if last:
            self.close(ticket)
        self.report(ticket, lease.node, first, lease.position, last)

    @rule(but=NODES, times=st.integers(1, 20), ms=st.sampled_from([1, 5, 30, 200]))
    def rush(self, but: int, times: int, ms: int) -> None:
        """All nodes but one go on as they should: the end draws near."""
        for _ in range(times):
            self.now += ms
            for ticket, lease in sorted(self.open.items()):
                if ticket in self.open and lease.node != but:
                    first = lease.position
                    lease.position = min(lease.end, first + 5)
                    last = lease.position == lease.end
                    if last:
                        self.close(ticket)
                    self.report(ticket, lease.node, first, lease.position, last)

    @precondition(lambda self: self.old or self.open)
    @rule(data=st.data(), node=NODES, count=st.integers(1, 9), last=st.booleans())
    def lie(self, data: st.DataObject, node: int, count: int, last: bool) -> None:
        """A report that is late, of a trimmed lease, or made up."""
        ticket = data.draw(st.sampled_from(sorted([*self.old, *self.open])))
        first = data.draw(st.integers(0, SLICES - 1))
        end = min(SLICES, first + count)
        lease = self.open.get(ticket)
        if lease is not None and lease.node == node:
            if first < lease.end and end > lease.position:
                lease.position = min(end, lease.end)
            if last:
                self.close(ticket)
        self.report(ticket, node, first, end, last)

    @rule(first=st.integers(0, SLICES - 1), count=st.integers(1, 15))
    def settle(self, first: int, count: int) -> None:
        end = min(SLICES, first + count)
        self.learn(first, end)
        self.leasing.settled([(first, end)])
        self.step()

    def refuse(self, ticket: int, code: int, deaths: int) -> None:
        lease = self.close(ticket)
        assert self.leasing.refused(ticket, lease.node % 4 + 1, code, deaths, self.now) is None
        if code == Code.WORKER_DIED:
            rest = Spans([(lease.position, lease.end)])
            for span in self.known.within(lease.position, lease.end):
                rest.remove(*span)
            for span in rest:
                self.died.add(*span)
        failure = self.leasing.refused(ticket, lease.node, code, deaths, self.now)
        if failure is not None:
            assert lease.careful and failure.slice == lease.position
            assert failure.code == Code.POISON and failure.text
            self.fail(failure.slice)
        self.step()

    @precondition(lambda self: self.open)
    @rule(data=st.data(), code=st.sampled_from([*Code, 60]), deaths=st.integers(0, 2))
    def come_back(self, data: st.DataObject, code: int, deaths: int) -> None:
        self.refuse(data.draw(st.sampled_from(sorted(self.open))), code, deaths)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), dies=st.booleans(), times=st.integers(1, LOSSES_MAX + 2))
    def doom(self, data: st.DataObject, dies: bool, times: int) -> None:
        """Whoever runs one slice dies of it, or its node is lost."""
        index = self.open[data.draw(st.sampled_from(sorted(self.open)))].position
        for _ in range(times):
            for ticket, lease in sorted(self.open.items()):
                if ticket not in self.open or lease.position != index:
                    continue
                if dies:
                    self.refuse(ticket, Code.WORKER_DIED, 1)
                else:
                    slots = self.slots[lease.node]
                    self.lost(lease.node)
                    self.usable(lease.node, slots, 0)
            self.wait(1000)

    @rule()
    def stop(self) -> None:
        """The job is given up, and taken up again."""
        assert {revoke.ticket for revoke in self.leasing.stop()} == set(self.open)
        assert self.leasing.next_deadline() is None
        for ticket in list(self.open):
            self.close(ticket)
        self.step()
        assert not self.open
        for node, slots in self.slots.items():
            self.leasing.member_usable(node, slots, 0)
        self.step()

    @rule(end=st.integers(SLICES - 5, SLICES))
    def narrow(self, end: int) -> None:
        self.learn(end, SLICES)
        self.leasing.narrow(end)
        self.step()

    @rule(ms=st.sampled_from([0, 1, 25, 200, 1500, 10_000]))
    def wait(self, ms: int) -> None:
        self.now += ms
        self.step()

    @invariant()
    def counts(self) -> None:
        for node in range(1, 5):
            there = sum(lease.node == node for lease in self.open.values())
            assert self.leasing.open_leases(node) == there

    def teardown(self) -> None:
        """The world calms down: every node is there and does what it is told."""
        for node in range(1, 5):
            self.usable(node, 1, 1000)
        for _ in range(400):
            if len(self.known) == SLICES:
                return
            for ticket, lease in sorted(self.open.items()):
                if ticket in self.open:
                    self.close(ticket)
                    self.report(ticket, lease.node, lease.position, lease.end, True)
            self.now += 100
            self.step()
        raise AssertionError(f"still to be run after 40 s of calm: all but {self.known}")


TestLeasing = LeasingMachine.TestCase
TestLeasing.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)


# ---- seeded runs ----


@dataclass
class Running:
    """A lease at its node."""

    grant: Grant
    next: int
    end: int
    done: list[int] = field(default_factory=list)  # since the last report
    busy_ms: float = 0
    reported_at: float = 0
    revoked: bool = False


@dataclass
class Node:
    """A machine: `slots` workers that take 1 / `speed` of a slice's cost."""

    id: int
    slots: int
    speed: float
    rival_ms: float = 0  # another job's leases take turns with ours, so long each
    ahead_ms: float = 0  # what ours have had more than it
    queue: list[Running] = field(default_factory=list)
    running: dict[int, Running] = field(default_factory=dict)
    stuck: bool = False  # for good
    dead: bool = False
    line: float = 0  # when the latest frame to it arrives
    line_back: float = 0


class Mesh:
    """The network, the workers and the clock, all played; and the real coordinator of one job."""

    def __init__(self, seed: int, costs: list[float]) -> None:
        self.rng = random.Random(seed)
        self.costs = costs
        self.clock = 0.0
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.order = itertools.count()
        tickets = itertools.count(LEASE_BIT)
        slices = len(costs)
        self.leasing = Leasing(make_spec(slices), Spans([(0, slices)]), lambda: next(tickets))
        self.nodes: dict[int, Node] = {}
        self.known: set[int] = set()
        self.duplicates = self.grants = self.trims = self.revokes = self.steps = 0
        self.tick_at: int | None = None

    # -- events --

    def at(self, when: float, do: Callable[[], None]) -> None:
        heapq.heappush(self.events, (when, next(self.order), do))

    def delay(self) -> float:
        return self.rng.uniform(0.1, 1.0) if self.rng.random() < 0.98 else self.rng.uniform(1, 20)

    def to_node(self, node: Node, do: Callable[[], None]) -> None:
        node.line = max(node.line, self.clock + self.delay())
        self.at(node.line, lambda: None if node.stuck or node.dead else do())

    def to_coordinator(self, node: Node, do: Callable[[], None]) -> None:
        node.line_back = max(node.line_back, self.clock + self.delay())

        def arrive() -> None:
            do()
            self.step()

        self.at(node.line_back, arrive)

    # -- the coordinator --

    def step(self) -> None:
        now = int(self.clock)
        self.steps += 1
        for effect in self.leasing.step(now):
            node = self.nodes[effect.node]
            if isinstance(effect, Grant):
                self.grants += 1
                self.to_node(node, lambda n=node, g=effect: self.arrived(n, g))
            elif isinstance(effect, Trim):
                self.trims += 1
                self.to_node(node, lambda n=node, t=effect: self.trimmed(n, t))
            else:
                self.revokes += 1
                self.to_node(node, lambda n=node, r=effect: self.revoked(n, r))
        if self.steps % 50 == 0:
            self.leasing.validate()
        due = self.leasing.next_deadline()
        if due is not None and due != self.tick_at:
            assert due > now
            self.tick_at = due
            self.at(due, lambda: self.tick(due))

    def tick(self, due: int) -> None:
        if due == self.tick_at:
            self.tick_at = None
            self.step()

    def told(self, node: Node, run: Running, done: list[int], busy_ms: float, last: bool) -> None:
        fresh = [i for i in done if i not in self.known]
        self.duplicates += len(done) - len(fresh)
        self.known.update(fresh)
        self.leasing.reported(
            run.grant.ticket,
            node.id,
            Spans((i, i + 1) for i in done),
            int(busy_ms * 1000),
            last,
            int(self.clock),
        )

    # -- nodes --

    def arrived(self, node: Node, grant: Grant) -> None:
        node.queue.append(Running(grant, grant.first, grant.first + grant.count))
        self.fill(node)

    def fill(self, node: Node) -> None:
        while node.queue and len(node.running) < node.slots:
            run = node.queue.pop(0)
            if run.next >= run.end:
                self.report(node, run, last=True)
                continue
            node.running[run.grant.ticket] = run
            wait = node.rival_ms if node.ahead_ms >= 0 else 0
            node.ahead_ms -= wait
            run.reported_at = self.clock + wait
            self.at(run.reported_at, lambda run=run: self.work(node, run))

    def work(self, node: Node, run: Running) -> None:
        if run.revoked:
            return
        took = self.costs[run.next] / node.speed
        self.at(self.clock + took, lambda: self.worked(node, run, took))

    def worked(self, node: Node, run: Running, took: float) -> None:
        if node.stuck or node.dead or run.revoked:
            return
        run.done.append(run.next)
        run.busy_ms += took
        node.ahead_ms += took
        run.next += 1
        last = run.next >= run.end
        if last:
            del node.running[run.grant.ticket]
        if last or run.grant.careful or self.clock - run.reported_at >= REPORT_MS:
            self.report(node, run, last)
        if last:
            self.fill(node)
        else:
            self.work(node, run)

    def report(self, node: Node, run: Running, last: bool) -> None:
        done, busy_ms, run.done, run.busy_ms = run.done, run.busy_ms, [], 0.0
        run.reported_at = self.clock
        self.to_coordinator(node, lambda: self.told(node, run, done, busy_ms, last))

    def trimmed(self, node: Node, trim: Trim) -> None:
        for run in [*node.queue, *node.running.values()]:
            if run.grant.ticket == trim.ticket:
                run.end = min(run.end, trim.end)

    def revoked(self, node: Node, revoke: Revoke) -> None:
        for run in [*node.queue, *node.running.values()]:
            if run.grant.ticket == revoke.ticket:
                run.revoked = True
                node.running.pop(revoke.ticket, None)
                if run in node.queue:
                    node.queue.remove(run)
        self.fill(node)

    # -- the world --

    def join(self, node: Node, calibrated: int) -> None:
        self.nodes[node.id] = node
        self.leasing.member_usable(node.id, node.slots, calibrated)
        self.step()

    def kill(self, node: Node) -> None:
        """It is gone now, and the mesh hears of it a little later."""
        node.dead = True

        def heard() -> None:
            self.leasing.member_lost(node.id)
            self.step()

        self.at(self.clock + self.rng.uniform(50, 400), heard)

    def run(self, limit_ms: float) -> float:
        """Plays until every slice is known; when that was."""
        while len(self.known) < len(self.costs):
            self.clock, _, do = heapq.heappop(self.events)
            assert self.clock < limit_ms, f"{len(self.known)} slices are known after {limit_ms} ms"
            do()
        self.leasing.validate()
        assert self.leasing.lost_failures() == []
        return self.clock


def mixed(seed: int, slices: int, total_ms: float) -> tuple[Mesh, float]:
    """A mesh of mixed speeds with one node ten times slower than the others, a job whose slices'
    costs grow tenfold over the range; and the ideal time."""
    rng = random.Random(seed)
    costs = [(1 + 9 * i / slices) * rng.uniform(0.8, 1.2) for i in range(slices)]
    factor = total_ms / sum(costs)
    mesh = Mesh(seed, [cost * factor for cost in costs])
    count = rng.randint(3, 8)
    for number in range(1, count + 1):
        speed = rng.uniform(0.5, 2) if number > 1 else 0.1
        calibrated = rng.choice([0, round(1000 * speed * rng.uniform(0.8, 1.25)), 1000])
        mesh.join(Node(number, rng.randint(1, 4), speed), calibrated)
    return mesh, total_ms / sum(node.slots * node.speed for node in mesh.nodes.values())


@pytest.mark.parametrize("seed", SEEDS)
def test_mixed_speeds_and_uneven_slices_take_about_the_ideal_time(seed: int) -> None:
    mesh, ideal = mixed(seed, 1024, 60_000)
    assert mesh.run(10 * ideal) <= 1.1 * ideal
    assert mesh.duplicates <= 0.02 * 1024
    assert mesh.leasing.retries == 0


def capacity_time(work_ms: float, changes: list[tuple[float, float]]) -> float:
    """When `work_ms` is done if all are used all the time; `changes` are (when, by how much)."""
    clock = capacity = 0.0
    for when, change in sorted(changes):
        if capacity * (when - clock) >= work_ms:
            break
        work_ms -= capacity * (when - clock)
        clock, capacity = when, capacity + change
    return clock + work_ms / capacity


@pytest.mark.parametrize("seed", SEEDS)
def test_a_node_stuck_for_good_costs_its_share_and_two_seconds(seed: int) -> None:
    """Nobody says that it is lost: the leases alone show it."""
    mesh, ideal = mixed(seed, 1024, 60_000)
    victim = mesh.nodes[mesh.rng.randint(2, len(mesh.nodes))]
    when = mesh.rng.uniform(0.05, 0.98) * ideal
    mesh.at(when, lambda: setattr(victim, "stuck", True))
    changes = [(0.0, node.slots * node.speed) for node in mesh.nodes.values()]
    changes.append((when, -victim.slots * victim.speed))
    assert mesh.run(20 * ideal) <= 1.05 * capacity_time(60_000, changes) + 2000
    assert mesh.duplicates <= 0.02 * 1024


@pytest.mark.parametrize("seed", SEEDS)
def test_nodes_join_and_die(seed: int) -> None:
    mesh, ideal = mixed(seed, 1024, 60_000)
    changes = [(0.0, node.slots * node.speed) for node in mesh.nodes.values()]
    for victim in list(mesh.nodes.values())[2:]:
        when = mesh.rng.uniform(0, 1.5) * ideal
        mesh.at(when, lambda node=victim: mesh.kill(node))
        changes.append((when, -victim.slots * victim.speed))
    for number in range(101, 101 + mesh.rng.randint(1, 4)):
        node = Node(number, mesh.rng.randint(1, 4), mesh.rng.uniform(0.5, 2))
        when = mesh.rng.uniform(0, 0.9) * ideal
        mesh.at(when, lambda node=node: mesh.join(node, 0))
        changes.append((when, node.slots * node.speed))
    assert mesh.run(30 * ideal) <= 1.1 * capacity_time(60_000, changes) + 1000
    assert mesh.duplicates <= 0.02 * 1024


@pytest.mark.parametrize("at", [0.5, 0.9, 0.99])
def test_a_node_that_joins_late_takes_from_the_others_at_once(at: float) -> None:
    mesh = Mesh(1, [20.0] * 512)
    mesh.join(Node(1, 1, 1), 1000)
    mesh.at(at * 512 * 20, lambda: mesh.join(Node(2, 3, 1), 1000))
    ideal = capacity_time(512 * 20, [(0, 1), (at * 512 * 20, 3)])
    assert mesh.run(20_000) <= ideal + 40


def test_one_node_with_one_slot_is_left_alone() -> None:
    mesh = Mesh(1, [5.0] * 500 + [50.0] * 50)
    mesh.join(Node(1, 1, 1), 1000)
    assert mesh.run(10_000) <= 1.01 * 5000
    assert mesh.revokes == mesh.duplicates == 0


@pytest.mark.parametrize("seed", SEEDS[:3])
def test_a_thousand_empty_slices_end_in_no_time(seed: int) -> None:
    mesh = Mesh(seed, [0.001] * 1000)
    for number in range(1, 5):
        mesh.join(Node(number, 1, 1), 1000)
    assert mesh.run(1000) <= 50
    assert mesh.grants <= 200


@pytest.mark.parametrize("cost", [2.0, 20.0, 200.0])
def test_workers_that_another_job_shares_give_their_half(cost: float) -> None:
    mesh = Mesh(1, [cost] * int(60_000 / cost))
    for number in range(1, 5):
        mesh.join(Node(number, 2, 1, rival_ms=1000), 1000)
    assert mesh.run(60_000) <= 1.1 * 2 * 60_000 / 8
    assert mesh.duplicates <= 8


@pytest.mark.parametrize("slots", [1, 3])
def test_all_capacity_is_used_beside_a_node_of_a_tenth(slots: int) -> None:
    mesh = Mesh(1, [25.0] * 4096)
    for number in range(1, 8):
        mesh.join(Node(number, slots, 1), 1000)
    mesh.join(Node(8, slots, 0.1), 100)
    assert mesh.run(100_000) <= 4096 * 25 / (7.1 * slots) / 0.97
