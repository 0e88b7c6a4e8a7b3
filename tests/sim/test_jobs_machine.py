"""The jobs of three nodes under arbitrary events in arbitrary order.

The rules know nothing of what is likely: frames arrive in any order, twice, late or never, nodes
lose sight of each other without a reason, crash and come back with a journal or without, leases
stall, are refused or run on though nobody wants them. Whatever happens, validate() holds and nobody
holds a wrong value; and once the world calms down every job that is left ends as its values say,
and all copies are the same. Hypothesis prints the steps of a failure, shrunk, as a program.
"""

from __future__ import annotations

import random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from velum.policy import jobs_io as io
from velum.policy.job import Failure, Reduce, State
from velum.policy.jobs import Jobs
from velum.policy.reduction import plain_answer
from velum.policy.tasks import Code
from velum.sim.scatter_work import Work, make_work, plain

IDS = (1, 2, 3)
NODES = st.sampled_from(IDS)
REFUSALS = st.sampled_from([Code.BUSY, Code.LEAVING, Code.NO_WORKER, Code.WORKER_DIED])
CALM_MS = 90_000
STEP_MS = 50
AGREE_MS = 15_000
LOSSES_MAX = 8
KEPT = (io.Grant, io.Trim, io.Revoke, io.LeaseReported, io.LeaseRefused, io.ModuleHeld)

Frame = tuple[int, int, int, Any]  # from, to, life of the receiver, what


class Node:
    """A node process; `journal` outlives it."""

    def __init__(self, id: int) -> None:
        self.id = id
        self.life = 0
        self.up = False
        self.journal: dict[int, list[io.Effect]] = {}
        self.jobs: Jobs


class JobsMachine(RuleBasedStateMachine):
    """The model: frames on their way, leases under way, and what each job must answer."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.nodes = {id: Node(id) for id in IDS}
        self.mail: list[Frame] = []
        self.leases: dict[tuple[int, int, int, int], list[int]] = {}  # see `granted`
        self.works: dict[int, Work] = {}
        self.losses = 0
        self.deaths = False
        self.cancelled: set[int] = set()
        for node in self.nodes.values():
            self.boot(node)

    # ---- the drivers ----

    def boot(self, node: Node) -> None:
        node.life += 1
        node.up = True
        node.jobs = Jobs(node.id)
        self.do(node, io.MemberUsable(node.id, 1, 1000, True))

    def do(self, node: Node, event: io.Event) -> None:
        for effect in node.jobs.handle(event, self.now):
            self.perform(node, effect)

    def perform(self, node: Node, effect: io.Effect) -> None:
        if isinstance(effect, io.Grant | io.Trim | io.Revoke):
            self.post(node, effect.node, effect)
        elif isinstance(effect, io.SendSpec):
            self.post(node, effect.node, io.SpecHeard(effect.spec, node.id))
        elif isinstance(effect, io.SendCopy):
            copy = io.CopyHeard(effect.job, node.id, tuple(effect.runs), tuple(effect.failures))
            self.post(node, effect.node, copy)
        elif isinstance(effect, io.SendRecord):
            self.post(node, effect.node, io.RecordHeard(effect.record, node.id))
        elif isinstance(effect, io.SendAsk):
            self.post(node, effect.node, io.HoldRequested(effect.job, node.id))
        elif isinstance(effect, io.NeedModule):
            self.post(node, node.id, io.ModuleHeld(effect.job))
        elif isinstance(effect, io.Begin):
            node.journal.setdefault(effect.spec.job, [effect])
        elif isinstance(effect, io.Keep):
            self.right(effect)
            node.journal[effect.job].append(effect)
        elif isinstance(effect, io.Tell):
            self.true(node, effect)
            node.journal[effect.record.job].append(effect)
        elif isinstance(effect, io.Forget):
            del node.journal[effect.job]
        else:
            assert isinstance(effect, io.Refuse)

    def post(self, source: Node, to: int, what: Any) -> None:
        self.mail.append((source.id, to, self.nodes[to].life, what))

    def receive(self, frame: Frame) -> None:
        source, to, life, what = frame
        node = self.nodes[to]
        if node.life != life or not node.up:
            return
        if isinstance(what, io.Grant):
            key = (to, source, self.nodes[source].life, what.ticket)
            self.leases.setdefault(key, [what.spec.job, what.first, what.first + what.count])
        elif isinstance(what, io.Trim | io.Revoke):
            end = what.end if isinstance(what, io.Trim) else 0
            for key, lease in self.leases.items():
                if (key[0], key[1], key[3]) == (to, source, what.ticket):
                    lease[2] = min(lease[2], end)
        elif isinstance(what, io.HoldRequested) and node.jobs.get(what.job) is None:
            self.post(node, source, io.JobUnknown(what.job, to))
        else:
            self.do(node, what)

    # ---- what is true ----

    def right(self, kept: io.Keep) -> None:
        work = self.works[kept.job]
        for first, values in kept.runs:
            assert values == work.run_bytes(first, first + len(values) // 8), "a wrong value"
        for failure in kept.failures:
            if failure.code == Code.LOST:
                assert self.losses >= LOSSES_MAX, "nothing was lost so often"
            else:
                assert failure.code == Code.POISON and self.deaths, "a failure without a cause"

    def true(self, node: Node, told: io.Tell) -> None:
        record = told.record
        if record.state == State.CANCELLED:
            assert record.job in self.cancelled
        elif record.state != State.RUNNING and record.coordinator == node.id:
            held = node.jobs.get(record.job)
            assert held is not None, "coordinates what it does not hold"
            work = self.works[record.job]
            state, answer = work.ending({failure.slice for failure in held.ledger.failures()})
            assert record.state == state
            if state == State.DONE:
                given = plain_answer(work.spec, held.ledger, record.answer)
                given = tuple(map(plain, given)) if isinstance(given, list) else plain(given)
                assert given == answer

    # ---- rules: jobs ----

    def up(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.up]

    @precondition(lambda self: len(self.works) < 2 and self.up())
    @rule(
        data=st.data(),
        seed=st.integers(0, 1000),
        slices=st.integers(0, 12),
        reduce=st.sampled_from(Reduce),
    )
    def submit(self, data: st.DataObject, seed: int, slices: int, reduce: Reduce) -> None:
        if not slices and reduce in (Reduce.MIN, Reduce.MAX):
            slices = 1
        work = make_work(random.Random(seed), slices, 1.0, reduce=reduce)
        if work.job not in self.works:
            self.works[work.job] = work
            node = data.draw(st.sampled_from([node.id for node in self.up()]))
            self.do(self.nodes[node], io.JobSubmitted(work.spec, True))

    @precondition(lambda self: self.works)
    @rule(data=st.data(), node=NODES)
    def act(self, data: st.DataObject, node: int) -> None:
        """A client or a person at some node."""
        job = data.draw(st.sampled_from(list(self.works)))
        wish = data.draw(st.sampled_from(["submit", "submit", "watch", "cancel", "resume"]))
        if not self.nodes[node].up:
            return
        if wish == "cancel":
            self.cancelled.add(job)
        events: dict[str, io.Event] = {
            "submit": io.JobSubmitted(self.works[job].spec, False),
            "watch": io.WatchBegan(job),
            "cancel": io.CancelRequested(job),
            "resume": io.ResumeRequested(job),
        }
        self.do(self.nodes[node], events[wish])

    # ---- rules: frames ----

    @precondition(lambda self: self.mail)
    @rule(count=st.integers(1, 20))
    def deliver(self, count: int) -> None:
        """The oldest frames arrive."""
        frames, self.mail = self.mail[:count], self.mail[count:]
        for frame in frames:
            self.receive(frame)

    @precondition(lambda self: self.mail)
    @rule(data=st.data(), fate=st.sampled_from(["arrives", "arrives", "twice", "lost"]))
    def any_frame(self, data: st.DataObject, fate: str) -> None:
        """Any frame arrives before the others, and perhaps once more later; or never."""
        at = data.draw(st.integers(0, len(self.mail) - 1))
        frame = self.mail[at]
        if fate == "lost" and isinstance(frame[3], KEPT):
            return  # those go only with their link
        if fate != "twice":
            del self.mail[at]
        if fate != "lost":
            self.receive(frame)

    # ---- rules: leases ----

    def report(self, key: tuple[int, int, int, int], count: int, last: bool) -> None:
        """Runs some slices of a lease, and says so."""
        at, coordinator, life, ticket = key
        job, first, end = lease = self.leases[key]
        stop = max(first, min(end, first + count))
        last = last or stop >= end
        runs = ((first, self.works[job].run_bytes(first, stop)),) if stop > first else ()
        lease[1] = stop
        if last:
            del self.leases[key]
        report = io.LeaseReported(at, ticket, job, runs, (), 1000 * count, last)
        self.mail.append((at, coordinator, life, report))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), count=st.integers(0, 6), last=st.booleans())
    def work(self, data: st.DataObject, count: int, last: bool) -> None:
        """A worker goes on with a lease; it may end it early, as one that was cut does."""
        self.report(data.draw(st.sampled_from(list(self.leases))), count, last)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), code=REFUSALS)
    def refuse(self, data: st.DataObject, code: Code) -> None:
        key = data.draw(st.sampled_from(list(self.leases)))
        del self.leases[key]
        deaths = int(code == Code.WORKER_DIED)
        self.deaths = self.deaths or deaths > 0
        refusal = io.LeaseRefused(key[0], key[3], code, deaths, "played")
        self.mail.append((key[0], key[1], key[2], refusal))

    @precondition(lambda self: self.works and self.up())
    @rule(data=st.data(), ticket=st.integers(0, 2**63), source=NODES)
    def confuse(self, data: st.DataObject, ticket: int, source: int) -> None:
        """Reports and refusals of leases that nobody granted, right values in them or none."""
        node = self.nodes[data.draw(st.sampled_from([node.id for node in self.up()]))]
        work = self.works[data.draw(st.sampled_from(list(self.works)))]
        end = data.draw(st.integers(0, work.spec.slices))
        runs = ((0, work.run_bytes(0, end)),) if end else ()
        beyond = (Failure(work.spec.slices, Code.POISON),)
        self.do(node, io.LeaseReported(source, ticket, work.job, runs, beyond, 0, True))
        self.do(node, io.LeaseRefused(source, ticket, Code.BUSY, 0, "confused"))

    # ---- rules: nodes and time ----

    @rule(node=NODES, other=NODES, gone=st.booleans())
    def lose(self, node: int, other: int, gone: bool) -> None:
        """A node loses sight of another."""
        if node != other and self.nodes[node].up:
            self.losses += 1
            self.do(self.nodes[node], io.MemberLost(other, gone))

    @rule(node=NODES, other=NODES)
    def cut(self, node: int, other: int) -> None:
        """A link breaks, and all that was on its way, or waited for it, is lost."""
        if node != other:
            ends = {node, other}
            self.mail = [frame for frame in self.mail if {frame[0], frame[1]} != ends]
            self.leases = {key: v for key, v in self.leases.items() if {key[0], key[1]} != ends}
            self.lose(node, other, False)
            self.lose(other, node, False)

    @rule(node=NODES, other=NODES, slots=st.integers(0, 2), speed=st.sampled_from([0, 10, 1000]))
    def usable(self, node: int, other: int, slots: int, speed: int) -> None:
        if self.nodes[node].up and (node != other or slots):
            self.do(self.nodes[node], io.MemberUsable(other, slots, speed, True))

    @rule(node=NODES)
    def crash(self, node: int) -> None:
        self.nodes[node].up = False
        self.leases = {key: lease for key, lease in self.leases.items() if key[0] != node}

    @rule(node=NODES, keep=st.integers(0, 12))
    def restart(self, node: int, keep: int) -> None:
        """The process begins again with the first entries of its journals."""
        self.start(self.nodes[node], keep)

    def start(self, node: Node, keep: int) -> None:
        if node.up:
            return
        journal = {job: entries[:keep] for job, entries in node.journal.items()}
        node.journal = {}
        self.boot(node)
        for job, entries in journal.items():
            records = [entry.record for entry in entries if isinstance(entry, io.Tell)]
            kept = [entry for entry in entries if isinstance(entry, io.Keep)]
            if records:
                node.journal[job] = entries
                runs = [run for entry in kept for run in entry.runs]
                failures = [failure for entry in kept for failure in entry.failures]
                spec = self.works[job].spec
                self.do(node, io.JobRestored(spec, records[-1], runs, failures))
                self.do(node, io.ModuleHeld(job))

    @rule(ms=st.sampled_from([0, 1, 20, 300, 1000, 3000, 20_000]))
    def wait(self, ms: int) -> None:
        self.now += ms
        self.tick()

    def tick(self) -> None:
        for node in self.up():
            self.do(node, io.TimePassed())
            due = node.jobs.next_deadline()
            assert due is None or due > self.now, "time does not pass"

    @invariant()
    def holds(self) -> None:
        for node in self.up():
            node.jobs.validate()

    # ---- the end ----

    def teardown(self) -> None:
        """The world calms down: all nodes are up, see each other, and do as they are told."""
        self.mail = [frame for frame in self.mail if frame[0] == frame[1]]
        self.leases = {key: lease for key, lease in self.leases.items() if key[0] == key[1]}
        for node in self.nodes.values():
            self.start(node, 1000)
        for node in self.nodes.values():
            for other in IDS:
                if other != node.id:
                    self.do(node, io.MemberLost(other, False))
                self.do(node, io.MemberUsable(other, 2, 1000, True))
        for work in self.works.values():
            if all(node.jobs.get(work.job) is None for node in self.nodes.values()):
                self.do(self.nodes[1], io.JobSubmitted(work.spec, False))
        calm_until = self.now + CALM_MS
        while running := self.running():
            assert self.now < calm_until, f"still running: {running}"
            self.calm_step()
        agree_until = self.now + AGREE_MS
        while self.now < agree_until:
            self.calm_step()
        assert not self.running(), "what has ended runs again"
        for job in self.works:
            self.agree(job)

    def calm_step(self) -> None:
        self.now += STEP_MS
        mail, self.mail = self.mail, []
        for frame in mail:
            self.receive(frame)
        for key in list(self.leases):
            self.report(key, 2, False)
        self.tick()
        self.holds()

    def running(self) -> list[tuple[int, int]]:
        return [
            (node.id, held.spec.job)
            for node in self.nodes.values()
            for held in node.jobs.held()
            if held.record.state == State.RUNNING
        ]

    def agree(self, job: int) -> None:
        copies = [node.jobs.get(job) for node in self.nodes.values()]
        held = [copy for copy in copies if copy is not None]
        assert held, "a job is lost"
        assert len({copy.record.claim for copy in held}) == 1, "several records"
        for copy in held:
            known = copy.ledger.done + copy.ledger.failed
            assert known >= copy.record.done + copy.record.failed, "a copy lacks slices"
        if job not in self.cancelled and not self.deaths and self.losses < LOSSES_MAX:
            state, _ = self.works[job].ending(())
            assert held[0].record.state == state


TestJobs = JobsMachine.TestCase
TestJobs.settings = settings(
    max_examples=300, stateful_step_count=50, deadline=None, report_multiple_bugs=False
)
