"""A simulated world of nodes that run the production policies of scatter.

Owns: the links between nodes, clients and the jobs they want, what befalls all of these, and what
must hold of them at every step and in the end. Refuses to know: how a node works
(`scatter_node.py`) and when anything befalls anybody (`scatter_cli.py`).

How: a link behaves as TCP: frames arrive in order, late, or not at all once it has broken; those on
their way into a partition wait for its end. Whatever a job's coordinator says is held against the
answer that its slices' values make (`scatter_work.py`). One seed gives one run, always.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from velum.policy import jobs_io as io
from velum.policy import pool as pools
from velum.policy.job import Failure, Record, Run, Spec, State, job_name
from velum.policy.ledger import Ledger
from velum.policy.reduction import plain_answer
from velum.policy.tasks import Code
from velum.sim.host import Status
from velum.sim.network import Conditions, Network
from velum.sim.scatter_node import Link, Node, Process
from velum.sim.scatter_work import Answer, Work, plain

LOOK_MS: Final = 100  # between two looks at the members
NOTICE_MS: Final = (0, 50)  # until the end of a process is felt at the other end of a link
BREAK_MS: Final = (0, 400)  # and a link that broke between two that live on
ATTACH_MS: Final = (50, 500)  # until a client has found another node
GIVE_UP_MS: Final = 8_000  # a client turns away from a node that has been stopped so long
FAREWELL_MS: Final = 500  # a node that leaves ends so long after it said so
AGREE_MS: Final = 10_000  # within which all copies are the same once a job has ended
RETAIN_MS: Final = 3_600_000 + 60_000  # after which nothing is left of a job
DEATHS_MAX: Final = 3  # in one slice, before it is POISON
LOSSES_MAX: Final = 8  # of a slice's nodes, before it is LOST


@dataclass(slots=True, eq=False)
class Client:
    """A program that wants a job's answer, and submits it again wherever its node is lost."""

    work: Work
    node: Node | None = None
    since_ms: int = 0  # attached there
    told: Record | None = None  # the latest, or the greatest claim of those that tell of an end
    submitted: bool = False

    def hear(self, record: Record) -> None:
        if self.told is None or not self.ended or record.claim > self.told.claim:
            self.told = record

    @property
    def ended(self) -> bool:
        return self.told is not None and self.told.state != State.RUNNING


@dataclass(slots=True)
class Figures:
    """What was done in a run."""

    slices_run: Counter[int] = field(default_factory=Counter)  # by job, to their end
    grants: int = 0
    frames: int = 0
    losses: int = 0  # times that a node lost sight of another


class World:
    """Nodes with ids from 1, and what happens to them. `slots` and `speeds` are by node; `late`
    and `repeats` are the shares of frames that take seconds, and of new links that bring the old
    one's last frames again; `verbose` prints the story."""

    def __init__(
        self,
        seed: int,
        slots: Sequence[int],
        speeds: Sequence[float] | None = None,
        *,
        latency_ms: tuple[int, int] = (0, 50),
        journals: bool = False,
        leaves: int = 0,
        late: float = 0.0,
        repeats: float = 0.0,
        verbose: bool = False,
    ) -> None:
        self.seed = seed
        self.rng = random.Random(f"world {seed}")
        self.network = Network(Conditions(latency_ms), random.Random(f"network {seed}"))
        self.late = late
        self.repeats = repeats
        self.figures = Figures()
        self.works: dict[int, Work] = {}
        self.clients: list[Client] = []
        self.links: dict[tuple[int, int], Link] = {}
        self._linked = 0
        self._verbose = verbose
        self._looking = True
        self._torn = False  # a journal has lost its end
        self._cancelled: set[int] = set()
        self._killed_once: set[tuple[int, int]] = set()
        self._deaths: Counter[tuple[int, int]] = Counter()
        # The answers that coordinators have given: job, claim, answer.
        self._endings: dict[int, dict[tuple[int, ...], Answer | None]] = {}
        self.nodes: list[Node] = []
        for number, count in enumerate(slots):
            speed = speeds[number] if speeds else 1.0
            leaf = number >= len(slots) - leaves
            self.nodes.append(Node(self, number + 1, count, speed, journal=journals, leaf=leaf))
        for node in self.nodes:
            node.boot()
        for node in self.nodes:
            for other in self.nodes[: node.id - 1]:
                self.connect(node, other)
        self._look()

    # ---- time ----

    @property
    def now_ms(self) -> int:
        return self.network.now_ms

    def run(self, milliseconds: int) -> None:
        """Let time pass."""
        self.network.run(self.now_ms + milliseconds)

    def later(self, range_ms: tuple[int, int], action: Callable[..., None], *args: Any) -> None:
        """Let something happen within a range of time."""
        self.network.at(self.now_ms + self.rng.randint(*range_ms), action, *args)

    def until(self, true: Callable[[], bool], limit_ms: int, step_ms: int = 50) -> int:
        """Run until something is true; how long that took. AssertionError if it takes too long."""
        begin_ms = self.now_ms
        while not true():
            assert self.now_ms - begin_ms < limit_ms, f"not within {limit_ms} ms"
            self.run(step_ms)
        return self.now_ms - begin_ms

    def say(self, text: str) -> None:
        """A line of the story."""
        if self._verbose:
            print(f"{self.now_ms / 1000:9.3f} {text}")

    def _look(self) -> None:
        for node in self.nodes:
            for other in self.nodes:
                if other is not node and node.status is Status.UP:
                    node.look(other)
        if self._looking:
            self.network.at(self.now_ms + LOOK_MS, self._look)

    # ---- jobs ----

    def submit(self, work: Work, node: Node | None = None) -> Client:
        """A client wants this job, over this node or any."""
        client = Client(work)
        self.works[work.job] = work
        self.clients.append(client)
        self.attach(client, node)
        return client

    def attach(self, client: Client, node: Node | None = None) -> None:
        """The client finds a node and asks for its job there."""
        if client not in self.clients or client.ended:
            return
        up = [n for n in self.nodes if n.status is Status.UP and not n.leaf]
        if not up:
            self.later(ATTACH_MS, self.attach, client)
            return
        node = self.rng.choice(up) if node is None else node
        spec, fresh = client.work.spec, not client.submitted
        client.node, client.since_ms, client.submitted = node, self.now_ms, True
        self.say(f"job {job_name(spec.job)} submitted at node {node.id}, fresh {fresh}")
        node.modules.add(spec.job)
        node.watchers.setdefault(spec.job, []).append(client)
        node.step(io.JobSubmitted(spec, fresh))

    def refused(self, client: Client, refusal: io.Refuse) -> None:
        """A node cannot have the client's job: it tries another."""
        self.say(f"job {job_name(refusal.job)} refused: {refusal.text}")
        assert refusal.code in (Code.BUSY, Code.LEAVING), refusal.text
        self.later(ATTACH_MS, self.attach, client)

    def abandon(self, client: Client) -> None:
        """The client ends; its job goes on."""
        self.clients.remove(client)
        if client.node is not None:
            self._detach(client, client.node)

    def cancel(self, job: int, node: Node) -> None:
        """A person cancels a job, from any node."""
        self.say(f"job {job_name(job)} cancelled at node {node.id}")
        self._cancelled.add(job)
        node.step(io.CancelRequested(job))

    def resume_job(self, job: int, node: Node) -> None:
        """A person resumes a job, from any node."""
        self.say(f"job {job_name(job)} resumed at node {node.id}")
        node.step(io.ResumeRequested(job))

    def _detach(self, client: Client, node: Node) -> None:
        watchers = node.watchers.get(client.work.job, []) if node.live else []
        if client in watchers:
            watchers.remove(client)

    def _give_up(self, client: Client, node: Node, since_ms: int) -> None:
        if node.status is Status.PAUSED and (client.node, client.since_ms) == (node, since_ms):
            self._detach(client, node)
            self.attach(client)

    # ---- links ----

    def linked(self, one: Node, other: Node) -> bool:
        """Whether there is a link, as far as either can know."""
        return _pair(one, other) in self.links

    def connect(self, one: Node, other: Node) -> None:
        """A new link; it may bring again what came last over the old one."""
        self._linked += 1
        link = self.links[_pair(one, other)] = Link(self._linked, _pair(one, other))
        for end, source in ((one, other), (other, one)):
            recent = end.recent.pop((source.id, source.life), ())
            if self.rng.random() < self.repeats:
                for message in recent:
                    self.carry(link, source, end.id, message)

    def send(self, source: Node, to: int, message: Any) -> None:
        """A frame to a node, which may be the sender."""
        pair = (min(source.id, to), max(source.id, to))
        link = source.self_link if source.id == to else self.links.get(pair)
        if link is not None:
            self.carry(link, source, to, message)

    def carry(self, link: Link, source: Node, to: int, message: Any) -> None:
        """A frame on a link: behind those before it, unless it breaks."""
        when_ms = self.now_ms
        if source.id != to:
            late_ms = self.rng.randint(500, 3_000) if self.rng.random() < self.late else 0
            when_ms = max(link.arrives_ms[to], when_ms + self.network.latency_ms() + late_ms)
            link.arrives_ms[to] = when_ms
        self.network.at(when_ms, self._arrive, link, source, to, message)

    def _arrive(self, link: Link, source: Node, to: int, message: Any) -> None:
        if not link.open:
            return
        if link.held[to] or not self.network.joined(source.id, to):
            link.held[to].append((source, message))
        else:
            self._deliver(link, source, to, message)

    def _deliver(self, link: Link, source: Node, to: int, message: Any) -> None:
        node = self.node(to)
        if link.number:
            node.remember((source.id, source.life), message)
        node.post(node.life, node.receive, link, source.id, message)

    def _flush(self, link: Link, to: int) -> None:
        """What waited for a partition's end arrives."""
        if link.open and self.network.joined(*link.held):
            held, link.held[to] = link.held[to], []
            for source, message in held:
                self._deliver(link, source, to, message)

    def cut(self, one: Node, other: Node, notice_ms: tuple[int, int] = BREAK_MS) -> None:
        """Their link breaks, with everything on its way; each notices in its own time."""
        link = self.links.pop(_pair(one, other), None)
        if link is None:
            return
        link.open = False
        self.say(f"link of nodes {one.id} and {other.id} breaks")
        for node, peer in ((one, other), (other, one)):
            self.later(notice_ms, node.post, node.life, node.link_lost, peer.id, link)

    # ---- what may befall nodes ----

    def node(self, id: int) -> Node:
        return self.nodes[id - 1]

    def running(self) -> list[Node]:
        """Nodes whose process is up."""
        return [node for node in self.nodes if node.status is Status.UP]

    def crash(self, node: Node, *, silent: bool = False) -> None:
        """The process is killed; `silent`: its machine is gone, nothing closes."""
        self.say(f"node {node.id} crashes{' without a trace' if silent else ''}")
        clients = [client for client in self.clients if client.node is node]
        node.end(Status.OFF if silent else Status.KILLED)
        if not silent:
            for other in self.nodes:
                if other is not node:
                    self.cut(node, other, NOTICE_MS)
        for client in clients:
            client.node = None
            self.later(ATTACH_MS, self.attach, client)

    def restart(self, node: Node, lost_entries: int = 0) -> None:
        """A new process begins there; the journals' last entries may be lost."""
        self.say(f"node {node.id} starts again, {lost_entries} entries of a journal lost")
        for other in self.nodes:
            if other is not node:
                self.cut(node, other, NOTICE_MS)
        if node.journal and lost_entries:
            self._torn = True
            node.journal = {job: kept[:-lost_entries] for job, kept in node.journal.items()}
        node.boot()

    def leave(self, node: Node) -> None:
        """The node leaves in order, and ends soon after."""
        self.say(f"node {node.id} leaves")
        node.step(io.LeaveStarted())
        node.serve(pools.LeaveStarted())
        self.network.at(self.now_ms + FAREWELL_MS, self._leave_ends, node, node.life)

    def _leave_ends(self, node: Node, life: int) -> None:
        if node.life == life and node.live:
            self.crash(node)

    def pause(self, node: Node) -> None:
        """The process is stopped (SIGSTOP)."""
        self.say(f"node {node.id} is stopped")
        node.status = Status.PAUSED
        for client in self.clients:
            if client.node is node:
                when_ms = self.now_ms + GIVE_UP_MS
                self.network.at(when_ms, self._give_up, client, node, client.since_ms)

    def resume(self, node: Node) -> None:
        """The process goes on."""
        self.say(f"node {node.id} goes on")
        node.resume()

    def part(self, ids: Iterable[int]) -> None:
        """Cut these nodes off from all others."""
        ids = sorted(ids)
        self.say(f"nodes {ids} are cut off")
        self.network.part(ids)

    def heal(self) -> None:
        """End the partition."""
        self.say("the partition ends")
        self.network.heal()
        for link in self.links.values():
            for to in link.held:
                if link.held[to]:
                    self.network.at(self.now_ms + self.network.latency_ms(), self._flush, link, to)

    def kill_worker(self, node: Node, slot: int) -> None:
        """A worker process dies for a reason of its own."""
        process = node.processes[slot]
        if process is not None:
            self.say(f"worker {slot} of node {node.id} is killed")
            self._died_in(process)
            node.after(0, node.die, slot, process)

    def stick_worker(self, node: Node, slot: int) -> None:
        """A worker hangs in its slice and does not stop when told to."""
        process = node.processes[slot]
        if process is not None and process.lease is not None:
            self.say(f"worker {slot} of node {node.id} hangs")
            process.stuck = True

    # ---- guests ----

    def kills(self, job: int, index: int, process: Process) -> bool:
        """Whether a slice kills the worker that runs it now."""
        work = self.works[job]
        once = index in work.kills_once and (job, index) not in self._killed_once
        if once:
            self._killed_once.add((job, index))
        if once or index in work.kills:
            self._died_in(process)
            return True
        return False

    def _died_in(self, process: Process) -> None:
        if process.lease is not None:
            self._deaths[process.lease.spec.job, process.next] += 1

    def ran(self, job: int, index: int) -> Work:
        """A slice was run to its end."""
        assert 0 <= index < self.works[job].spec.slices, "a slice that the job has not got"
        self.figures.slices_run[job] += 1
        return self.works[job]

    # ---- what must hold at every step ----

    def check_grant(self, node: Node, effect: io.Grant) -> None:
        """No slice is in more than two leases that the coordinator holds to be open."""
        first, end = effect.first, effect.first + effect.count
        covered = Counter(
            slice
            for grant in node.book.values()
            if grant.job == effect.spec.job
            for slice in range(max(first, grant.first), min(end, grant.end))
        )
        assert all(count < 2 for count in covered.values()), "three open leases cover a slice"
        self.say(
            f"node {node.id} grants [{first}, {end}) of {job_name(effect.spec.job)}"
            f" to node {effect.node}{' a second time' if covered else ''}"
        )

    def check_values(self, job: int, runs: Iterable[Run], failures: Iterable[Failure]) -> None:
        """Nobody ever holds a wrong value, or a failure without a cause."""
        work = self.works[job]
        for first, values in runs:
            end = first + len(values) // 8
            assert values == work.run_bytes(first, end), f"wrong values in [{first}, {end})"
        for failure in failures:
            if failure.code == Code.POISON:
                deaths = self._deaths[job, failure.slice]
                assert deaths >= DEATHS_MAX, f"slice {failure.slice} killed only {deaths} workers"
            elif failure.code == Code.LOST:
                assert self.figures.losses >= LOSSES_MAX, f"slice {failure.slice} was not lost"
            else:
                assert work.fails.get(failure.slice) == failure.code, f"{failure} has no cause"

    def check_record(self, node: Node, record: Record) -> None:
        """What a coordinator says is true, and others repeat only what one has said."""
        if record.state == State.RUNNING:
            return
        if record.state == State.CANCELLED:
            assert record.job in self._cancelled, "cancelled by nobody"
            return
        said = self._endings.setdefault(record.job, {})
        if record.claim in said or record.coordinator != node.id:
            assert record.claim in said, "an ending that no coordinator told"
            return
        held = node.jobs.get(record.job)
        assert held is not None, "tells of a job that it does not hold"
        work = self.works[record.job]
        state, answer = work.ending(_failed(held.ledger))
        self.say(f"job {job_name(record.job)} ends at node {node.id}: {State(record.state).name}")
        assert record.state == state, f"{State(record.state).name}, should be {state.name}"
        if state == State.DONE:
            given = _answer(work.spec, held.ledger, record)
            assert given == answer, f"answers {given}, should be {answer}"
        said[record.claim] = answer

    # ---- what must hold in the end ----

    def unfinished(self) -> list[str]:
        """What is still to happen until all jobs have ended."""
        open_ = [
            f"a client of job {job_name(client.work.job)} waits"
            for client in self.clients
            if not client.ended
        ]
        for node in self.running():
            for held in [] if node.leaf else node.jobs.held():
                if held.record.state == State.RUNNING:
                    open_.append(f"job {job_name(held.spec.job)} runs at node {node.id}")
        return open_

    def finish(self) -> int:
        """Run until all jobs have ended, as long as that may take in a world that is calm now; how
        long it took."""
        slots = sum(node.slots * node.speed for node in self.running())
        work_ms = sum(sum(work.cost_ms) for work in self.works.values())
        slice_ms = max((max(work.cost_ms, default=0) for work in self.works.values()), default=0)
        slice_ms /= min(node.speed for node in self.running())
        limit_ms = 60_000 + round(2 * work_ms / slots + (1 + DEATHS_MAX) * slice_ms)
        begin_ms = self.now_ms
        while unfinished := self.unfinished():
            assert self.now_ms - begin_ms < limit_ms, f"after {limit_ms} ms: {unfinished}"
            self.run(100)
        return self.now_ms - begin_ms

    def check_agreement(self) -> None:
        """All copies of a job that has ended have one record, and at least what it counts: late
        values may still come to some after the end."""
        for job in self.works:
            held = {node.id: node.jobs.get(job) for node in self.running() if not node.leaf}
            copies = {id: copy for id, copy in held.items() if copy is not None}
            claims = {id: copy.record.claim for id, copy in copies.items()}
            assert len(set(claims.values())) <= 1, f"records of job {job_name(job)}: {claims}"
            for id, copy in copies.items():
                ledger, record = copy.ledger, copy.record
                known = (ledger.done + ledger.failed, record.done + record.failed)
                lacks = f"node {id} knows of {known[0]} of {known[1]} slices of {job_name(job)}"
                whole = any(other.settled for other in copies.values())
                assert known[0] >= known[1] or not whole, lacks
                if record.state == State.DONE:
                    answer = _answer(copy.spec, ledger, record)
                    assert answer == self.works[job].ending(_failed(ledger))[1], f"at node {id}"
                    assert answer in self._endings[job].values(), f"node {id} answers otherwise"

    def check_leaders(self) -> None:
        """At most one node that is up coordinates each job."""
        for job in self.works:
            leaders = [node.id for node in self.running() if node.leads(job)]
            assert len(leaders) <= 1, f"job {job_name(job)} is coordinated by nodes {leaders}"

    def forget(self) -> None:
        """Run until nothing is to be kept any longer; nothing is."""
        self._looking = False
        self.run(RETAIN_MS)
        for node in self.running():
            held = [] if node.leaf else [job_name(held.spec.job) for held in node.jobs.held()]
            assert not held, f"node {node.id} still holds {held}"
            assert not node.leases and not node.book, f"node {node.id} still has leases"
            assert not node.journal, f"node {node.id} still has journals"


def _failed(ledger: Ledger) -> set[int]:
    return {failure.slice for failure in ledger.failures()}


def _answer(spec: Spec, ledger: Ledger, record: Record) -> Answer:
    """What a copy of a job that is done answers."""
    answer = plain_answer(spec, ledger, record.answer)
    return tuple(map(plain, answer)) if isinstance(answer, list) else plain(answer)


def _pair(one: Node, other: Node) -> tuple[int, int]:
    return (min(one.id, other.id), max(one.id, other.id))
