"""The jobs of one node, driven by hand: what tests/unit/test_jobs.py is written in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from tests.unit.scatter_models import checksum_of, model_of, packed, spec_of
from velum.policy import jobs_io as io
from velum.policy.coordination import Held
from velum.policy.job import Ask, Failure, Record, Reduce, Run, Spec, State
from velum.policy.jobs import Jobs
from velum.policy.tasks import Code

Effects = list[io.Effect]
Kind = TypeVar("Kind", bound=io.Effect)
ME = 1
JOB = 17  # a coordinator chooses the lowest two of the other nodes 1 to 5 as its holders
TRAP = 60


class Rig:
    """The jobs of a node that sees some full nodes, a clock, and the leases that are open. Only
    the node itself has workers."""

    def __init__(self, *others: int, me: int = ME, slots: int = 1) -> None:
        self.jobs = Jobs(me)
        self.now = 1000
        self.open: dict[int, io.Grant] = {}
        self.usable(me, slots)
        for node in others:
            self.usable(node)

    def do(self, *events: io.Event) -> Effects:
        effects: Effects = []
        for event in events:
            effects += self.jobs.handle(event, self.now)
            self.jobs.validate()
        for effect in effects:
            if isinstance(effect, io.Grant):
                self.open[effect.ticket] = effect
            elif isinstance(effect, io.Revoke):
                self.open.pop(effect.ticket, None)
        return effects

    def pass_time(self, ms: int) -> Effects:
        """Lets time pass, stopping at every deadline on the way."""
        end, effects = self.now + ms, list[io.Effect]()
        while (due := self.jobs.next_deadline()) is not None and due <= end:
            assert due > self.now, "time does not pass"
            self.now = due
            effects += self.do(io.TimePassed())
        self.now = end
        return effects

    def usable(self, node: int, slots: int = 0, holds: bool = True) -> Effects:
        return self.do(io.MemberUsable(node, slots, 1000, holds))

    def submit(self, spec: Spec, fresh: bool = True, values: bool = False) -> Effects:
        return self.do(io.JobSubmitted(spec, fresh, values))

    def hold(self, spec: Spec, record: Record, module: bool = True) -> None:
        """The node gets a copy from the coordinator, from whom it hears at this moment."""
        self.do(io.SpecHeard(spec, record.coordinator))
        if module:
            self.do(io.ModuleHeld(spec.job))
        self.hear(record)

    def hear(self, record: Record, node: int | None = None) -> Effects:
        """A record comes, from its coordinator if nobody else is named."""
        return self.do(io.RecordHeard(record, record.coordinator if node is None else node))

    def lease(self, first: int) -> io.Grant:
        """The open lease that begins with this slice."""
        (grant,) = [grant for grant in self.open.values() if grant.first == first]
        return grant

    def report(self, grant: io.Grant, *values: int, failures: Sequence[Failure] = ()) -> Effects:
        """The lease ends, with these values or failures; with none given, every slice has its own
        number for a value."""
        del self.open[grant.ticket]
        if not values and not failures:
            values = tuple(range(grant.first, grant.first + grant.count))
        runs = [(grant.first, packed(*values))] if values else []
        job = grant.spec.job
        return self.do(io.LeaseReported(grant.node, grant.ticket, job, runs, failures, 0, True))

    def work(self) -> Effects:
        """All leases are run, and those that follow."""
        effects: Effects = []
        while self.open:
            effects += self.report(next(iter(self.open.values())))
        return effects

    def held(self) -> Held:
        held = self.jobs.get(JOB)
        assert held is not None
        return held

    def record(self) -> Record:
        return self.held().record

    @property
    def claim(self) -> tuple[int, State, int, int]:
        """Of the job: attempt, state, epoch, coordinator."""
        attempt, state, epoch, coordinator = self.record().claim
        return attempt, State(state), epoch, coordinator


def job_of(reduce: int = Reduce.SUM, slices: int = 4, *, flags: int = 0, limit_ms: int = 0) -> Spec:
    spec = spec_of(reduce, slices, flags=flags)
    return spec._replace(job=JOB, hash=bytes(32), limit_ms=limit_ms)


def said(
    coordinator: int = 2,
    holders: tuple[int, ...] = (ME, 3),
    *,
    attempt: int = 1,
    state: State = State.RUNNING,
    epoch: int = 1,
    sequence: int = 1,
    slices: int = 4,
    known: Sequence[Run] = (),
    answer: tuple[int, int] | None = None,
) -> Record:
    """What a coordinator says that has these values."""
    done, checksum = len(model_of(known)), checksum_of(model_of(known), slices)
    code = {State.CANCELLED: int(Code.CANCELLED), State.FAILED: TRAP}.get(state, 0)
    return Record(
        JOB, attempt, state, epoch, coordinator, sequence, slices, done, 0, checksum,
        0, 0, 0, code, "", answer, holders, (),
    )  # fmt: skip


def run(first: int, end: int) -> Run:
    return first, packed(*range(first, end))


def only(effects: Iterable[io.Effect], kind: type[Kind]) -> list[Kind]:
    return [effect for effect in effects if isinstance(effect, kind)]


def told(effects: Iterable[io.Effect]) -> list[int]:
    """The nodes that a record is sent to."""
    return [effect.node for effect in only(effects, io.SendRecord)]


def asked(effects: Iterable[io.Effect], ask: Ask = Ask.HOLD) -> list[int]:
    sent = only(effects, io.SendAsk)
    assert all((effect.job, effect.ask) == (JOB, ask) for effect in sent)
    return [effect.node for effect in sent]


def granted(effects: Iterable[io.Effect]) -> list[int]:
    """The slices of leases of one slice."""
    assert all(grant.count == 1 for grant in only(effects, io.Grant))
    return [grant.first for grant in only(effects, io.Grant)]


def arrived(effects: Iterable[io.Effect], source: int, node: int) -> list[io.Event]:
    """What a node hears of the copies and records that another has sent."""
    events: list[io.Event] = []
    for effect in effects:
        if isinstance(effect, io.SendSpec) and effect.node == node:
            events.append(io.SpecHeard(effect.spec, source))
        elif isinstance(effect, io.SendCopy) and effect.node == node:
            events.append(io.CopyHeard(effect.job, source, effect.runs, effect.failures))
        elif isinstance(effect, io.SendRecord) and effect.node == node:
            events.append(io.RecordHeard(effect.record, source))
    return events


def ended(*others: int, state: State = State.DONE) -> Rig:
    """A job that this node has coordinated has just ended; of a failed one, slice 1 is to blame,
    and slice 0 is done."""
    rig = Rig(*others)
    rig.submit(job_of())
    if state == State.DONE:
        rig.work()
    elif state == State.CANCELLED:
        rig.do(io.CancelRequested(JOB))
    else:
        rig.report(rig.lease(0))
        rig.report(rig.lease(1), failures=[Failure(1, TRAP, "unreachable")])
    rig.open.clear()
    assert rig.record().state == state
    return rig
