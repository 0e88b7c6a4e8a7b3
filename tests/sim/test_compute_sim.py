"""A mesh of schedulers and pools over a bad network: every task ends once, with the right answer.

The parts are the ones that run in a node; only the network, the workers and the clock are played.
Links behave as TCP: in order, delayed, and now and then broken, with everything on its way lost.
Nodes crash, restart, pause (and are suspected) and leave; guests trap, loop, or kill their worker.
One seed decides everything; a failure prints it, and

    VELUM_SEED=123 pytest tests/sim/test_compute_sim.py

replays it.
"""

from __future__ import annotations

import heapq
import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import pytest

from velum.policy import pool as pools
from velum.policy import scheduler_io as io
from velum.policy.pool import Pool
from velum.policy.scheduler import NO_WORKER_MS, Scheduler
from velum.policy.tasks import Code, Kind, Task, task_id
from velum.policy.types import Health

TRAP = 60
TICK_MS = 10
REPORT_MS = 500
DETECT_MS = 400  # a pause is suspected, a broken link noticed, after about so long
SEEDS = [int(os.environ["VELUM_SEED"])] if "VELUM_SEED" in os.environ else list(range(20))


class Nature(Enum):
    """What a task does wherever it runs."""

    CALL = "a built-in"
    GUEST = "a guest that returns"
    TRAPS = "a guest that traps"
    LOOPS = "a guest without end, with a timeout"
    DEAF = "the same, and it does not stop when told to"
    KILLS = "a guest that kills its worker"


@dataclass
class Job:
    """A task as its caller sees it."""

    task: Task
    nature: Nature
    home: Node
    life: int  # of its home: a crash takes the callers along
    run_ms: int
    due: int  # by when its caller must have heard; 0: no promise, its node may be paused
    end: tuple[str, int] | None = None  # ("value", v) or ("error", code)


def value_of(number: int) -> int:
    """What task `number` returns."""
    return number * 2654435761 % 1000003


Frame = tuple[str, int, int, int]  # name, ticket, value or code, deaths or timeout


class Link:
    """One TCP connection between two nodes, in both directions."""

    def __init__(self, origin: int) -> None:
        self.origin = origin  # names it at either end
        self.open = True
        self.arrives: dict[int, int] = {}  # when the latest frame to each end does


class Node:
    """A node's scheduler, pool and played workers; `life` counts its restarts."""

    def __init__(self, mesh: Mesh, number: int, slots: int) -> None:
        self.mesh = mesh
        self.id = number
        self.slots = slots
        self.life = 0
        self.up = False
        self.paused_until = 0
        self.leaving = False

    def start(self) -> None:
        self.life += 1
        self.up, self.leaving = True, False
        self.scheduler = Scheduler(self.mesh.rng)
        self.pool = Pool(self.slots)
        self.process = [0] * self.slots  # generation of each worker's process
        self.jobs: dict[int, Job] = {}
        self.frames: dict[pools.Key, int] = {}  # key at the pool: number of the task
        self.decide(io.MemberUsable(self.id, self.health()))

    def health(self) -> Health:
        return Health(
            slots=self.pool.slots,
            cores=max(1, self.slots),
            flags=int(self.leaving),
            queue=self.pool.queued,
            running=self.pool.running,
            speed=1000,
        )

    # ---- the scheduler's driver ----

    def decide(self, event: io.Event, values: dict[int, int] | None = None) -> None:
        effects = self.scheduler.handle(event, self.mesh.now)
        self.scheduler.validate()
        for effect in effects:
            if isinstance(effect, io.Send):
                for task in effect.tasks:
                    left = task.left_ms(self.mesh.now)
                    name = "task" if task.kind is Kind.WASM else "call"
                    self.mesh.send(self, effect.node, (name, task.ticket, 0, left))
            elif isinstance(effect, io.CancelOn):
                self.mesh.send(self, effect.node, ("cancel", effect.ticket, effect.code, 0))
            elif isinstance(effect, io.Finish):
                assert values is not None
                for ticket in effect.tickets:
                    self.end(task_id(ticket), ("value", values[ticket]))
            else:
                self.end(effect.task_id, ("error", effect.code))

    def end(self, number: int, end: tuple[str, int]) -> None:
        job = self.jobs[number]
        assert job.end is None, f"task {number} ended twice"
        assert not job.due or self.mesh.now <= job.due, f"task {number} ended late"
        job.end = end

    # ---- frames ----

    def receive(self, sender: int, origin: int, frame: Frame) -> None:
        name, ticket, number, extra = frame
        if name == "call":
            self.mesh.send(self, sender, ("result", ticket, value_of(task_id(ticket)), 0))
        elif name == "task":
            self.serve(pools.TaskArrived((origin, ticket), extra))
        elif name == "cancel":
            self.serve(pools.CancelArrived((origin, ticket), number))
        elif name == "result":
            health = self.mesh.nodes[sender].health()
            self.decide(io.TasksAnswered(sender, [ticket], health), {ticket: number})
        else:
            self.decide(io.TaskFailed(ticket, sender, number, extra, "played"))

    # ---- the pool's driver, and its workers ----

    def serve(self, event: pools.Event, answer: Frame | None = None) -> None:
        effects = self.pool.handle(event, self.mesh.now)
        self.pool.validate()
        for effect in effects:
            if isinstance(effect, pools.Spawn):
                self.worker(effect.slot, self.mesh.rng.randint(5, 60), self.is_ready)
            elif isinstance(effect, pools.Kill):
                self.worker(effect.slot, 1, self.has_died)
            elif isinstance(effect, pools.Give):
                self.run(effect.slot, effect.key)
            elif isinstance(effect, pools.CancelOn):
                self.stop(effect)
            elif isinstance(effect, pools.Forward):
                assert answer is not None
                self.mesh.answer(self, effect.key, answer)
            elif isinstance(effect, pools.Reply):
                frame = ("error", effect.key[1], effect.code, effect.deaths)
                self.mesh.answer(self, effect.key, frame)

    def worker(self, slot: int, ms: int, then: Callable[[int], None]) -> None:
        """Something befalls the worker's present process a little later."""
        process, life = self.process[slot], self.life

        def happen() -> None:
            if self.process[slot] == process and self.life == life:
                then(slot)

        self.mesh.later(ms, happen, self)

    def is_ready(self, slot: int) -> None:
        if self.mesh.rng.random() < self.mesh.trouble / 10:
            self.has_died(slot)
        else:
            self.serve(pools.WorkerReady(slot, 1000))

    def has_died(self, slot: int) -> None:
        self.process[slot] += 1
        self.serve(pools.WorkerDied(slot))

    def run(self, slot: int, key: pools.Key) -> None:
        job = self.mesh.jobs[task_id(key[1])]
        frame = ("result", key[1], value_of(job.task.id), 0)
        if job.nature is Nature.KILLS:
            self.worker(slot, job.run_ms, self.has_died)
        elif job.nature is Nature.TRAPS:
            frame = ("error", key[1], TRAP, 0)
        if job.nature in (Nature.GUEST, Nature.TRAPS):
            self.worker(slot, job.run_ms, lambda slot: self.done(slot, key, frame))

    def done(self, slot: int, key: pools.Key, frame: Frame) -> None:
        self.serve(pools.WorkerAnswered(slot, key), frame)

    def stop(self, effect: pools.CancelOn) -> None:
        job = self.mesh.jobs[task_id(effect.key[1])]
        if job.nature is not Nature.DEAF:
            frame = ("error", effect.key[1], effect.code, 0)
            self.worker(effect.slot, 2, lambda slot: self.done(slot, effect.key, frame))


class Mesh:
    """The network, the clock, and what goes wrong. `trouble` 0..1 says how much."""

    def __init__(self, seed: int, count: int, trouble: float) -> None:
        self.rng = random.Random(seed)
        self.trouble = trouble
        self.now = 0
        self.order = 0
        self.events: list[tuple[int, int, Node | None, Callable[[], None]]] = []
        self.jobs: dict[int, Job] = {}
        self.links: dict[tuple[int, int], Link] = {}
        self.origins = 0
        slots = [2, 1, 2, 0, 3]
        self.nodes = {n: Node(self, n, slots[n % 5]) for n in range(1, count + 1)}
        for node in self.nodes.values():
            self.boot(node)

    def later(self, ms: int, then: Callable[[], None], node: Node | None = None) -> None:
        """Runs `then` after so long; at `node` only when it is not paused."""
        self.order += 1
        heapq.heappush(self.events, (self.now + ms, self.order, node, then))

    def run(self, ms: int) -> None:
        end = self.now + ms
        while self.now < end:
            self.now += TICK_MS
            while self.events and self.events[0][0] <= self.now:
                _, _, node, then = heapq.heappop(self.events)
                if node is None or node.paused_until <= self.now:
                    then()
                elif node.up:
                    self.later(node.paused_until - self.now, then, node)
            for node in self.nodes.values():
                self.tick(node)

    def tick(self, node: Node) -> None:
        if not node.up or node.paused_until > self.now:
            return
        if (due := node.scheduler.next_deadline()) is not None and due <= self.now:
            node.decide(io.TimePassed())
        if (due := node.pool.next_deadline()) is not None and due <= self.now:
            node.serve(pools.TimePassed())
        if self.now % REPORT_MS == node.id * TICK_MS:
            node.decide(io.HealthHeard(node.id, node.health()))
            for other in self.others(node):
                if other.up and self.links.get(self.pair(node, other)):
                    report, life = io.HealthHeard(node.id, node.health()), other.life
                    self.tell(other, life, report, self.rng.randint(1, 300))

    def others(self, node: Node) -> list[Node]:
        return [other for other in self.nodes.values() if other is not node]

    def tell(self, node: Node, life: int, event: io.Event, ms: int) -> None:
        """Membership's word reaches a node's scheduler, unless it has crashed meanwhile."""
        self.later(ms, lambda: node.decide(event) if node.life == life and node.up else None, node)

    # ---- links ----

    @staticmethod
    def pair(a: Node, b: Node) -> tuple[int, int]:
        return (min(a.id, b.id), max(a.id, b.id))

    def connect(self, a: Node, b: Node) -> None:
        if not (a.up and b.up) or a.leaving or b.leaving or self.pair(a, b) in self.links:
            return
        self.origins += 1
        self.links[self.pair(a, b)] = Link(self.origins)
        a.decide(io.MemberUsable(b.id, b.health()))
        b.decide(io.MemberUsable(a.id, a.health()))

    def disconnect(self, a: Node, b: Node, why: io.Why) -> None:
        """A link breaks; both ends notice, each in its own time, and dial again later."""
        link = self.links.pop(self.pair(a, b), None)
        if link is None:
            return
        link.open = False
        for node, other in ((a, b), (b, a)):
            if node.up:
                ms = 0 if why is io.Why.LEFT else self.rng.randint(0, DETECT_MS)
                self.notice(node, other, link, why, ms)
        self.later(DETECT_MS + self.rng.randint(50, 500), lambda: self.connect(a, b))

    def notice(self, node: Node, other: Node, link: Link, why: io.Why, ms: int) -> None:
        life = node.life

        def lost() -> None:
            if node.life == life and node.up:
                node.decide(io.MemberLost(other.id, why))
                node.serve(pools.OriginLost(link.origin))

        self.later(ms, lost, node)

    def send(self, sender: Node, to: int, frame: Frame) -> None:
        """Puts a frame on the link to a node: in order, unless the link breaks under it."""
        receiver = self.nodes[to]
        if receiver is sender:
            life = sender.life
            self.later(
                0, lambda: sender.receive(to, 0, frame) if sender.life == life else None, sender
            )
            return
        link = self.links.get(self.pair(sender, receiver))
        if link is None:
            return
        if self.rng.random() < 0.003 * self.trouble:
            self.disconnect(sender, receiver, io.Why.LINK)
            return
        at = max(link.arrives.get(to, 0), self.now + self.rng.randint(1, 40))
        link.arrives[to] = at

        def arrive() -> None:
            if link.open and receiver.up:
                receiver.receive(sender.id, link.origin, frame)

        self.later(at - self.now, arrive, receiver)

    def answer(self, node: Node, key: pools.Key, frame: Frame) -> None:
        """An answer goes back over the link its task came by, if that still stands."""
        if key[0] == 0:
            self.send(node, node.id, frame)
            return
        for (a, b), link in self.links.items():
            if link.origin == key[0]:
                self.send(node, b if node.id == a else a, frame)
                return

    # ---- what goes wrong ----

    def boot(self, node: Node) -> None:
        node.start()
        for other in self.others(node):
            self.connect(node, other)

    def crash(self, node: Node) -> None:
        node.up = False
        node.life += 1
        for other in self.others(node):
            self.disconnect(node, other, io.Why.DEAD)
        self.later(self.rng.randint(1000, 3000), lambda: self.boot(node))

    def pause(self, node: Node) -> None:
        """As by SIGSTOP: its links stand, frames wait for it, the others suspect it."""
        node.paused_until = self.now + self.rng.randint(300, 2000)
        back, life = node.paused_until + 50, node.life
        for other in self.others(node):
            if other.up and self.pair(node, other) in self.links:
                link = self.links[self.pair(node, other)]
                suspected = io.MemberLost(node.id, io.Why.SUSPECTED)
                self.tell(other, other.life, suspected, DETECT_MS)
                self.later(
                    max(back - self.now, DETECT_MS + 50), self.refuted(node, other, life, link)
                )

    def refuted(self, node: Node, other: Node, life: int, link: Link) -> Callable[[], None]:
        def alive() -> None:
            if link.open and node.life == life and other.up:
                other.decide(io.MemberUsable(node.id, node.health()))

        return alive

    def leave(self, node: Node) -> None:
        """As by SIGTERM: the pool hands back, then the links close in order."""
        if node.leaving or not node.up:
            return
        node.leaving = True
        node.serve(pools.LeaveStarted())

        def gone() -> None:
            if node.leaving and node.up:
                node.up, node.life = False, node.life + 1
                for other in self.others(node):
                    self.disconnect(node, other, io.Why.LEFT)
                self.later(1000, lambda: self.boot(node))

        self.later(pools.LEAVE_MS + 200, gone)

    def mishap(self) -> None:
        node = self.rng.choice(list(self.nodes.values()))
        if node.up and node.paused_until <= self.now and not node.leaving:
            self.rng.choice([self.crash, self.pause, self.leave])(node)

    # ---- work ----

    def submit(self, node: Node, natures: list[Nature]) -> None:
        tasks = []
        for nature in natures:
            number = len(self.jobs) + 1
            timeout = self.rng.choice([400, 1500]) if nature in (Nature.LOOPS, Nature.DEAF) else 0
            kind = Kind.BUILTIN if nature is Nature.CALL else Kind.WASM
            task = Task(number, kind, None, timeout)
            due = self.now + timeout + 2 * TICK_MS if timeout and not self.trouble else 0
            job = Job(task, nature, node, node.life, self.rng.randint(1, 120), due)
            self.jobs[number] = node.jobs[number] = job
            tasks.append(task)
        node.decide(io.TasksSubmitted(tasks))

    def ends(self) -> Counter[tuple[Nature, str, int]]:
        """How the tasks ended, by (nature, value or error, code). Only a caller's crash or leave
        excuses that one never did."""
        ends: Counter[tuple[Nature, str, int]] = Counter()
        for number, job in self.jobs.items():
            if job.end is None:
                assert job.life != job.home.life, f"task {number} ({job.nature.value}) never ended"
                continue
            word, given = job.end
            if word == "value":
                assert given == value_of(number), f"task {number} got a wrong value"
            ends[job.nature, word, given if word == "error" else 0] += 1
        return ends


# What may befall a task besides its own fate, when nodes come and go under it.
BAD_LUCK = {Code.LOST, Code.BUSY, Code.NO_WORKER, Code.LEAVING}
FATES: dict[Nature, set[tuple[str, int]]] = {
    Nature.CALL: {("value", 0)},
    Nature.GUEST: {("value", 0)},
    Nature.TRAPS: {("error", TRAP)},
    Nature.LOOPS: {("error", Code.DEADLINE)},
    Nature.DEAF: {("error", Code.DEADLINE)},
    Nature.KILLS: {("error", Code.POISON)},
}


def work(mesh: Mesh, rounds: int, mishaps: bool) -> None:
    """Submits mixed tasks everywhere for a while, then lets all of it end in peace."""
    weights = [8, 8, 1, 1, 1, 1 if mishaps else 0.3]
    for _ in range(rounds):
        for node in mesh.nodes.values():
            if node.up and not node.leaving and node.paused_until <= mesh.now:
                mesh.submit(node, mesh.rng.choices(list(Nature), weights, k=mesh.rng.randint(1, 8)))
        if mishaps and mesh.rng.random() < 0.4:
            mesh.mishap()
        mesh.run(200)
    mesh.trouble = 0
    mesh.run(30_000)


@pytest.mark.parametrize("seed", SEEDS)
def test_bad_weather(seed: int) -> None:
    """Crashes, pauses, leaves and broken links: everything ends once, most of it as if nothing
    had happened."""
    mesh = Mesh(seed, count=5, trouble=1.0)
    work(mesh, rounds=40, mishaps=True)
    ends = mesh.ends()
    unlucky = 0
    for (nature, word, code), count in ends.items():
        if (word, code) not in FATES[nature]:
            assert word == "error" and code in BAD_LUCK | {Code.POISON}, (seed, nature, code, count)
            unlucky += count
    assert unlucky <= 0.02 * sum(ends.values()), (seed, ends)


@pytest.mark.parametrize("seed", SEEDS[:5])
def test_fair_weather(seed: int) -> None:
    """With nothing but misbehaving guests, every task meets exactly its own fate."""
    mesh = Mesh(seed, count=5, trouble=0.0)
    work(mesh, rounds=25, mishaps=False)
    for (nature, word, code), count in mesh.ends().items():
        assert (word, code) in FATES[nature], (seed, nature, word, code, count)
    assert all(node.scheduler.flying == 0 for node in mesh.nodes.values())


def test_one_death_loses_nothing_and_the_rest_finish_in_time() -> None:
    """A node crashes under 200 guests: no call is lost, and no longer than the work needs."""
    mesh = Mesh(11, count=5, trouble=0.0)
    mesh.run(200)
    mesh.submit(mesh.nodes[1], [Nature.GUEST] * 200)
    mesh.run(300)
    mesh.crash(mesh.nodes[2])
    mesh.run(6000)
    assert mesh.ends() == {(Nature.GUEST, "value", 0): 200}


def test_a_mesh_without_workers_says_so() -> None:
    mesh = Mesh(1, count=3, trouble=0.0)
    for node in mesh.nodes.values():
        node.slots = 0
        node.start()
    mesh.submit(mesh.nodes[1], [Nature.GUEST, Nature.CALL])
    mesh.run(NO_WORKER_MS + 100)
    assert mesh.ends() == {
        (Nature.GUEST, "error", Code.NO_WORKER): 1,
        (Nature.CALL, "value", 0): 1,
    }
