"""The jobs of a node: those that it coordinates, and those that it only holds a copy of.

Owns: what this node knows of every job, who coordinates each as far as it has heard, when it adopts
one, and for how long a finished one is kept. Refuses to know: links, frames, modules' bytes, files,
clocks. docs/scatter.md is the whole protocol; its section 6 is coded here, section 5 in leasing.py.

A job's way at one node:

    state     event                                  then
    -         submitted, just made                   COORDINATED: Begin, leases
    -         submitted again, or asked for by id    SOUGHT: ask every full member
    -         spec heard                             HELD: Begin, NeedModule
    SOUGHT    spec heard                             HELD
    SOUGHT    nobody has it, or 1.5 s passed         COORDINATED if its spec was given; or Refuse
    HELD      greater claim heard                    HELD, under that one; what it lacks is sent
    HELD      coordinator silent, dead or gone       COORDINATED: epoch + 1, the others are told
    HELD      not among the holders, nobody watches  Forget
    HELD      its module is nowhere to be had        Forget, after a minute
    COORD.    answer decided, a slice failed, limit  ENDED: holders told, leases revoked
    COORD.    greater claim heard                    HELD or ENDED: leases revoked, ledger sent
    any       cancelled                              ENDED, whoever coordinates hears of it
    ENDED     resumed                                COORDINATED: attempt + 1, failures forgotten
    ENDED     DONE, values are waited for, all lost  the same
    ENDED     a full member comes, new or again      it is told of the end; what lacks is asked for
    ENDED     an hour, or memory needed              Forget

Values are merged in every state, but into what is done and whole. What the table does not name
comes late or from a confused peer and is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from . import jobs_tuning as tuning
from .agenda import Agenda
from .coordination import Coordination, Held, Member, known, merge
from .job import LEASE_BIT, Ask, Failure, Record, Spec, State, job_name
from .jobs_io import (
    Begin,
    CancelRequested,
    CopyHeard,
    Effect,
    Event,
    Forget,
    HoldRequested,
    JobRestored,
    JobSubmitted,
    JobUnknown,
    Keep,
    LeaseRefused,
    LeaseReported,
    LeaveStarted,
    MemberLost,
    MemberUsable,
    ModuleHeld,
    NeedModule,
    RecordHeard,
    Refuse,
    ResumeRequested,
    Revoke,
    SendAsk,
    SendCopy,
    SendRecord,
    SendSpec,
    SpecHeard,
    Tell,
    TimePassed,
    WatchBegan,
)
from .ledger import Ledger
from .reduction import Reduction, check_spec
from .slices import Spans
from .tasks import Code

_BEAT, _LEASES, _LIMIT, _ADOPT, _SEEK, _FORGET, _IDLE = range(7)


@dataclass(slots=True)
class _Seek:
    """A job that members were asked for."""

    spec: Spec | None
    asked: set[int]
    wanted: bool  # its values are, by a client here
    then: list[Event] = field(default_factory=list)


class Jobs:
    """The state machine, driven as the scheduler is."""

    def __init__(self, me: int) -> None:
        """The jobs of node `me`."""
        self._me = me
        self._held: dict[int, Held] = {}
        self._reductions: dict[int, Reduction] = {}
        self._seeks: dict[int, _Seek] = {}
        self._members: dict[int, Member] = {}
        self._ended: dict[int, int] = {}  # job: when, oldest first
        self._ticket = LEASE_BIT
        self._leaving = False
        self._agenda = Agenda()
        self._now = 0
        self._out: list[Effect] = []
        self._handlers: dict[type, Callable[[Any], None]] = {
            JobSubmitted: self._on_submitted,
            WatchBegan: self._on_watch,
            CancelRequested: self._on_cancel,
            ResumeRequested: self._on_resume,
            HoldRequested: self._on_hold,
            JobUnknown: self._on_unknown,
            SpecHeard: self._on_spec,
            RecordHeard: self._on_record,
            CopyHeard: self._on_copy,
            LeaseReported: self._on_reported,
            LeaseRefused: self._on_refused,
            ModuleHeld: self._on_module,
            JobRestored: self._on_restored,
            MemberUsable: self._on_usable,
            MemberLost: self._on_lost,
            LeaveStarted: self._on_leave,
            TimePassed: self._on_time,
        }

    # ---- the face ----

    def handle(self, event: Event, now: int) -> list[Effect]:
        """Takes one event; `now` in milliseconds, never smaller than before."""
        self._now = now
        self._handlers[type(event)](event)
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> int | None:
        """When TimePassed is due, or None."""
        return self._agenda.next()

    def held(self) -> list[Held]:
        """Every job that this node has a copy of; read-only."""
        return list(self._held.values())

    def get(self, job: int) -> Held | None:
        """The job, if this node has a copy; read-only."""
        return self._held.get(job)

    @property
    def coordinated(self) -> int:
        """Jobs that this node coordinates now."""
        return sum(job.lead is not None for job in self._held.values())

    def validate(self) -> None:
        """Raises AssertionError if an invariant does not hold."""
        for number, job in self._held.items():
            record = job.record
            leads = record.coordinator == self._me and record.state == State.RUNNING
            assert number == job.spec.job == record.job, "a job is held under another's number"
            assert not job.lead or leads, "coordinates what another does, or what has ended"
            assert (number in self._ended) == (record.state != State.RUNNING), "end not noted"
            job.ledger.validate()
            if job.lead:
                job.lead.leasing.validate()
                assert (_BEAT, number) in self._agenda or self._leaving, "a coordinator is silent"
            elif record.state == State.RUNNING:
                assert (_ADOPT, number) in self._agenda or self._leaving, "nobody would adopt it"
        assert not self._seeks.keys() & self._held.keys(), "seeks what it holds"

    # ---- jobs come ----

    def _on_submitted(self, event: JobSubmitted) -> None:
        spec = event.spec
        if spec.job in self._held:
            self._held[spec.job].module = True
            self._on_watch(WatchBegan(spec.job, event.values))
        elif spec.job in self._seeks:
            seek = self._seeks[spec.job]
            seek.spec = spec
            seek.wanted |= event.values
        elif event.fresh:
            self._start(spec, event.values)
        else:
            self._seek(spec.job, spec, event.values)

    def _start(self, spec: Spec, wanted: bool) -> None:
        wrong = check_spec(spec)
        if wrong is not None:
            self._out.append(Refuse(spec.job, Code.ARGUMENT, wrong))
        elif self._leaving:
            self._out.append(Refuse(spec.job, Code.LEAVING, f"node {self._me} leaves the mesh"))
        elif self.coordinated >= tuning.RUNNING_MAX or not self._has_room(spec):
            text = (
                f"node {self._me} coordinates {self.coordinated} jobs; try again, or another node"
            )
            self._out.append(Refuse(spec.job, Code.BUSY, text))
        else:
            job = self._hold(spec, self._first_record(spec, 1, 1, self._me))
            job.module = job.watched = True
            job.wanted = wanted
            self._lead(job)

    @staticmethod
    def _first_record(spec: Spec, attempt: int, epoch: int, coordinator: int) -> Record:
        return Record(
            job=spec.job,
            attempt=attempt,
            state=State.RUNNING,
            epoch=epoch,
            coordinator=coordinator,
            sequence=0,
            slices=spec.slices,
            done=0,
            failed=0,
            checksum=0,
            elapsed_ms=0,
            retries=0,
            duplicates=0,
            code=0,
            text="",
            answer=None,
            holders=(),
            shares=(),
        )

    def _has_room(self, spec: Spec) -> bool:
        held = sum(self._bytes(j) for n, j in self._held.items() if n not in self._ended)
        return held + spec.slices * tuning.SLICE_BYTES + tuning.JOB_BYTES <= tuning.HELD_BYTES_MAX

    @staticmethod
    def _bytes(job: Held) -> int:
        return job.spec.slices * tuning.SLICE_BYTES + tuning.JOB_BYTES

    def _hold(self, spec: Spec, record: Record) -> Held:
        job = Held(spec, Ledger(spec.slices), record, module=False)
        self._held[spec.job] = job
        self._reductions[spec.job] = Reduction(spec, job.ledger)
        self._out.append(Begin(spec))
        return job

    def _on_spec(self, event: SpecHeard) -> None:
        spec = event.spec
        if spec.job in self._held or not self._has_room(spec) or check_spec(spec) is not None:
            return
        seek = self._seeks.pop(spec.job, None)
        job = self._hold(spec, self._first_record(spec, 0, 0, event.node))
        if seek is not None:
            self._agenda.cancel((_SEEK, spec.job))
            job.watched, job.wanted = True, seek.wanted
        if seek is not None and seek.spec is not None:
            job.module = True
        else:
            self._out.append(NeedModule(spec.job, spec.hash, event.node))
        self._expect_beat(job)
        for then in seek.then if seek is not None else ():
            ask = Ask.CANCEL if isinstance(then, CancelRequested) else Ask.RESUME
            self._out.append(SendAsk(event.node, spec.job, ask))  # it knows how the job stands

    def _on_restored(self, event: JobRestored) -> None:
        job = self._hold(event.spec, event.record)
        job.restored = True
        merge(job, event.runs, event.failures)
        if event.record.state == State.DONE and job.lacks:  # the journal has lost its end
            job.record = event.record._replace(state=State.RUNNING, answer=None)
        if job.record.state == State.RUNNING:
            self._expect_beat(job)
            for node in self._full_members():
                self._out.append(SendAsk(node, event.spec.job, Ask.HOLD))
        else:
            self._ended_now(job)

    def _on_module(self, event: ModuleHeld) -> None:
        job = self._held.get(event.job)
        if job is not None:
            job.module = True
            if (_ADOPT, event.job) in self._agenda:
                self._expect_beat(job, tuning.SILENT_MS, sooner=True)

    # ---- looking for jobs ----

    def _full_members(self) -> list[int]:
        return [n for n, member in self._members.items() if member.holds and n != self._me]

    def _on_watch(self, event: WatchBegan) -> None:
        job = self._held.get(event.job)
        if job is None:
            if event.job in self._seeks:
                self._seeks[event.job].wanted |= event.values
            else:
                self._seek(event.job, None, event.values)
            return
        job.watched = True
        job.wanted = job.wanted or event.values
        self._out.append(Tell(job.record))
        self._ask_to_hold(job)
        self._complete(job)

    def _ask_to_hold(self, job: Held) -> None:
        """A client here watches: this node has to hear of the job as it goes on."""
        record = job.record
        if record.coordinator != self._me and self._me not in record.holders:
            self._out.append(SendAsk(record.coordinator, record.job, Ask.HOLD))

    def _seek(self, number: int, spec: Spec | None, wanted: bool, *then: Event) -> None:
        asked = self._full_members()
        self._seeks[number] = _Seek(spec, set(asked), wanted, list(then))
        self._out += [SendAsk(node, number, Ask.HOLD) for node in asked]
        self._agenda.set((_SEEK, number), self._now + tuning.SEEK_MS)
        if not asked:
            self._found_nowhere(number)

    def _on_unknown(self, event: JobUnknown) -> None:
        job = self._held.get(event.job)
        if job is not None:
            self._complete(job)
        seek = self._seeks.get(event.job)
        if seek is not None:
            seek.asked.discard(event.node)
            if not seek.asked:
                self._found_nowhere(event.job)

    def _found_nowhere(self, number: int) -> None:
        seek = self._seeks.pop(number)
        self._agenda.cancel((_SEEK, number))
        if seek.spec is None:
            text = f"no node of the mesh knows a job {job_name(number)}"
            self._out.append(Refuse(number, Code.JOB_UNKNOWN, text))
            return
        self._start(seek.spec, seek.wanted)
        for then in seek.then:
            self._handlers[type(then)](then)

    # ---- coordinating ----

    def _tickets(self) -> int:
        self._ticket += 1
        return self._ticket

    def _lead(self, job: Held) -> None:
        """This node coordinates the job from now on; its record says so already."""
        number = job.spec.job
        job.restored = False
        job.lead = Coordination(job, self._me, self._members, self._tickets)
        job.lead.start(self._now)
        self._agenda.cancel((_ADOPT, number))
        if job.spec.limit_ms:
            left = job.spec.limit_ms - job.record.elapsed_ms
            self._agenda.set((_LIMIT, number), self._now + max(0, left))
        self._advance(job)
        if job.lead is not None:
            self._beat(job)

    def _advance(self, job: Held) -> None:
        """Something has changed for a job coordinated here: it ends, or leases move."""
        lead = job.lead
        if lead is None or self._leaving:
            return
        for failure in lead.leasing.lost_failures():
            self._slice_failed(job, failure)
        reduction = self._reductions[job.spec.job]
        verdict = reduction.look()
        if verdict is not None:
            self._end(job, verdict.state, verdict.code, verdict.text, verdict.answer)
            return
        if any(member.slots for member in self._members.values()):
            self._agenda.cancel((_IDLE, job.spec.job))
        elif (_IDLE, job.spec.job) not in self._agenda:
            self._agenda.set((_IDLE, job.spec.job), self._now + tuning.NO_WORKER_MS)
        lead.leasing.narrow(reduction.needed_end)
        self._out += lead.leasing.step(self._now)
        due = lead.leasing.next_deadline()
        if due is None:
            self._agenda.cancel((_LEASES, job.spec.job))
        else:
            self._agenda.set((_LEASES, job.spec.job), due)

    def _slice_failed(self, job: Held, failure: Failure) -> None:
        if job.ledger.merge_failure(failure):
            new = Spans([(failure.slice, failure.slice + 1)])
            self._out.append(Keep(job.spec.job, [], [failure]))
            if job.lead is not None:
                job.lead.settled(new)

    def _beat(self, job: Held) -> None:
        assert job.lead is not None
        job.record = job.lead.record(self._now)
        job.lead.tell_holders(self._out)
        self._out.append(Tell(job.record))
        self._agenda.set((_BEAT, job.spec.job), self._now + tuning.BEAT_MS)

    def _end(
        self, job: Held, state: State, code: int, text: str, answer: tuple[int, int] | None
    ) -> None:
        lead = job.lead
        assert lead is not None
        self._out += lead.leasing.stop()
        job.record = lead.record(self._now, state=state, code=code, text=text, answer=answer)
        lead.tell_holders(self._out)
        self._ended_now(job)
        self._out.append(Tell(job.record))

    def _step_down(self, job: Held, record: Record) -> None:
        """Another coordinates the job, or it has ended: gives up its leases."""
        assert job.lead is not None
        self._out += job.lead.leasing.stop()
        holders = job.lead.copies.holders
        job.lead = None
        for alarm in (_BEAT, _LEASES, _LIMIT, _IDLE):
            self._agenda.cancel((alarm, job.spec.job))
        self._out += [SendRecord(n, record) for n in holders if n in self._members]
        to = record.coordinator
        if record.state == State.RUNNING and self._me not in record.holders and to in self._members:
            self._out.append(SendCopy(to, record.job, *job.full_copy()))  # it may be forgotten now

    def _on_reported(self, event: LeaseReported) -> None:
        job = self._held.get(event.job)
        if job is None:
            self._out.append(Revoke(event.node, event.ticket))
            return
        if job.settled:
            return
        new, told = merge(job, event.runs, event.failures)
        self._gained(job, new)
        if job.lead is not None:
            job.lead.reported(event, new, told, self._now)
            self._advance(job)
        elif new:
            self._pass_on(job, new, event.node)

    def _gained(self, job: Held, new: Spans) -> None:
        if new:
            self._out.append(Keep(job.spec.job, *known(job.ledger, new)))

    def _pass_on(self, job: Held, new: Spans, source: int) -> None:
        """News of a job that another coordinates came to this node."""
        to = job.record.coordinator
        if job.record.state == State.RUNNING and to not in (self._me, source):
            self._out.append(SendCopy(to, job.spec.job, *known(job.ledger, new)))

    def _on_refused(self, event: LeaseRefused) -> None:
        for job in self._held.values():
            if job.lead is None or not job.lead.leasing.has(event.ticket):
                continue
            failure = job.lead.refused(event, self._now)
            if event.code in tuning.JOB_FAULTS and event.code != tuning.MODULE_MISSING:
                text = f"{event.text} (node {event.node})"
                self._end(job, State.FAILED, event.code, text, None)
                return
            if failure is not None:
                self._slice_failed(job, failure)
            hopeless = job.lead.hopeless
            if hopeless is not None:
                self._end(job, State.FAILED, *hopeless, None)
            else:
                self._advance(job)
            return

    def _on_copy(self, event: CopyHeard) -> None:
        job = self._held.get(event.job)
        if job is None:
            return
        if job.settled:
            return
        new, _ = merge(job, event.runs, event.failures)
        if not new:
            return
        self._gained(job, new)
        if job.lead is not None:
            job.lead.settled(new)
            self._advance(job)
        else:
            self._pass_on(job, new, event.node)

    # ---- claims ----

    def _on_record(self, event: RecordHeard) -> None:
        record, node = event.record, event.node
        job = self._held.get(record.job)
        if job is None:
            if record.job in self._seeks or self._me in record.holders:
                self._out.append(SendAsk(node, record.job, Ask.HOLD))
            return
        if record.slices != job.spec.slices:
            return  # no record of this job: a confused peer
        mine = job.record
        if record.claim < mine.claim:
            if node in self._members:
                self._out.append(SendRecord(node, mine))
            return
        if record.claim > mine.claim:
            self._accept(job, record)
        elif record.state == State.RUNNING:
            if job.lead is not None or record.sequence <= mine.sequence:
                return
            self._update(job, record)
        if record.state != State.RUNNING:
            self._complete(job, node)
        elif record.job in self._held and job.lead is None and node == record.coordinator:
            self._compare(job, record, node)

    def _accept(self, job: Held, record: Record) -> None:
        """A greater claim than this node knew."""
        before = job.record
        job.asked.clear()
        if 0 < before.attempt < record.attempt:
            self._forget_failures(job)
        if job.lead is not None:
            self._step_down(job, record)
        elif before.state != State.RUNNING:
            # Rare: two have ended it, or it was resumed. Who knows only of the lesser end, maybe
            # from this node, may hear of the greater from nobody else.
            self._out += [SendRecord(node, record) for node in self._full_members()]
        if record.state == State.RUNNING:
            self._runs_again(record.job)
        self._update(job, record)

    def _update(self, job: Held, record: Record) -> None:
        job.record = record
        job.restored = False
        self._out.append(Tell(record))
        if record.state != State.RUNNING:
            self._ended_now(job)
            return
        self._expect_beat(job)
        if record.coordinator != self._me and self._me not in record.holders:
            if job.watched:
                self._ask_to_hold(job)
            else:
                self._forget(record.job)

    def _compare(self, job: Held, record: Record, node: int) -> None:
        """The coordinator's record came behind all that it has sent: equal ledgers, or one lacks
        something."""
        ledger = job.ledger
        soon = self._now < job.asked_at + tuning.COMPARE_MS
        if soon or record.checksum in (0, ledger.checksum()) or node not in self._members:
            return
        job.asked_at = self._now
        if ledger.done + ledger.failed < record.done + record.failed:
            self._out.append(SendAsk(node, record.job, Ask.HOLD))
        else:
            self._out.append(SendCopy(node, record.job, *job.full_copy()))

    def _complete(self, job: Held, teller: int = 0) -> None:
        """A copy that learnt of the end, and not of all before it, asks those who should know, then
        all others, one after the other: who answers sends its record last, or says that it has
        nothing. Values that have died with all who had them are computed again for who waits."""
        record = job.record
        if record.state == State.RUNNING or not job.lacks:
            return
        for node in (teller, record.coordinator, *record.holders, *self._full_members()):
            if node in self._members and node != self._me and node not in job.asked:
                job.asked.add(node)
                self._out.append(SendAsk(node, record.job, Ask.HOLD))
                return
        waited_for = job.watched and (job.wanted or record.answer is None)
        if record.state == State.DONE and waited_for and job.module:
            self._again(job)

    def _on_hold(self, event: HoldRequested) -> None:
        job = self._held.get(event.job)
        if job is None:
            return
        if job.lead is not None:
            job.lead.copies.ask(event.node)
            job.record = job.lead.record(self._now)
            if event.node in job.record.holders:
                job.lead.tell_holder(event.node, self._out)
                return
        self._out.append(SendSpec(event.node, job.spec))
        self._out.append(SendCopy(event.node, event.job, *job.full_copy()))
        self._out.append(SendRecord(event.node, job.record))

    def _expect_beat(
        self, job: Held, within_ms: int = tuning.SILENT_MS, *, sooner: bool = False
    ) -> None:
        """Arms the adoption of a job that another coordinates, or makes it come `sooner`, if that
        is so; here the order of ranks is kept."""
        if self._leaving:
            return
        record = job.record
        if record.coordinator == self._me:
            rank = 0
        elif self._me in record.holders:
            rank = record.holders.index(self._me)
        else:
            rank = tuning.UNRANKED
        wait_ms = within_ms + rank * tuning.RANK_MS + (0 if job.module else tuning.MODULE_MS)
        when = self._now + wait_ms
        if sooner:
            when = min(when, self._agenda.when((_ADOPT, record.job), when))
        self._agenda.set((_ADOPT, record.job), when)

    def _adopt(self, job: Held) -> None:
        if not job.module:
            job.tries += 1
            if job.tries > tuning.MODULE_TRIES_MAX:
                text = "the job is lost: no node that is left has its module; submit it again"
                self._out.append(Refuse(job.spec.job, Code.LOST, text))
                self._forget(job.spec.job)
                return
            for node in self._full_members():
                self._out.append(NeedModule(job.spec.job, job.spec.hash, node))
            self._agenda.set((_ADOPT, job.spec.job), self._now + tuning.MODULE_MS)
            return
        before = job.record
        job.record = before._replace(
            attempt=max(1, before.attempt), epoch=before.epoch + 1, coordinator=self._me
        )
        self._lead(job)
        for node in (before.coordinator, *before.holders):
            if node in self._members and node not in (self._me, *job.record.holders):
                self._out.append(SendRecord(node, job.record))

    # ---- people ----

    def _on_cancel(self, event: CancelRequested) -> None:
        self._act(event, event.job, self._cancel)

    def _on_resume(self, event: ResumeRequested) -> None:
        self._act(event, event.job, self._resume)

    def _act(self, event: Event, number: int, act: Callable[[Held], None]) -> None:
        job = self._held.get(number)
        if job is not None:
            act(job)
        elif number in self._seeks:
            self._seeks[number].then.append(event)
        else:
            self._seek(number, None, False, event)

    def _cancel(self, job: Held) -> None:
        if job.record.state != State.RUNNING:
            return
        if job.lead is not None:
            self._end(job, State.CANCELLED, Code.CANCELLED, "job was cancelled", None)
            return
        record = job.record._replace(
            state=State.CANCELLED, code=Code.CANCELLED, text="job was cancelled"
        )
        self._accept(job, record)
        for node in (record.coordinator, *record.holders):
            if node != self._me:
                self._out.append(SendRecord(node, record))

    def _resume(self, job: Held) -> None:
        before = job.record
        resumable = before.state in (State.CANCELLED, State.FAILED) and job.module
        if not resumable or self._leaving or self.coordinated >= tuning.RUNNING_MAX:
            self._out.append(Tell(before))
        else:
            self._again(job)

    def _again(self, job: Held) -> None:
        """Takes up a job that has ended: what is done stays done, what failed is tried again."""
        before = job.record
        self._forget_failures(job)
        self._runs_again(before.job)
        job.record = before._replace(
            attempt=before.attempt + 1,
            state=State.RUNNING,
            epoch=before.epoch + 1,
            coordinator=self._me,
            elapsed_ms=0,
            code=0,
            text="",
            answer=None,
        )
        self._lead(job)
        for node in self._full_members():  # anybody may have a copy that says how it ended
            if node not in job.record.holders:
                self._out.append(SendRecord(node, job.record))

    def _forget_failures(self, job: Held) -> None:
        """A new attempt: what failed in the last one is unknown again."""
        job.ledger.forget_failures()
        self._reductions[job.spec.job] = Reduction(job.spec, job.ledger)

    def _runs_again(self, number: int) -> None:
        """A job that may have ended has not: it is not to be forgotten."""
        self._ended.pop(number, None)
        self._agenda.cancel((_FORGET, number))

    # ---- members ----

    def _leads(self) -> Iterable[tuple[Held, Coordination]]:
        return [(job, job.lead) for job in self._held.values() if job.lead is not None]

    def _on_usable(self, event: MemberUsable) -> None:
        node = event.node
        new = node not in self._members
        self._members[node] = Member(event.slots, event.speed, event.holds)
        for job, lead in self._leads():
            lead.usable(node)
            if new and event.holds and node != self._me:
                self._choose(job, lead)
                self._out.append(SendRecord(node, job.record))
            self._advance(job)
        if new and event.holds and node != self._me:
            self._meet(node)

    def _meet(self, node: int) -> None:
        """A full member is here, for the first time or again: either may have missed the end of
        jobs that the other knows of."""
        for number in list(self._ended)[-tuning.TOLD_AGAIN_MAX :]:
            self._out.append(SendRecord(node, self._held[number].record))
        for number, job in self._held.items():
            if job.restored if job.record.state == State.RUNNING else job.lacks:
                self._out.append(SendAsk(node, number, Ask.HOLD))

    def _choose(self, job: Held, lead: Coordination) -> None:
        gone = lead.choose()
        job.record = lead.record(self._now)
        lead.tell_holders(self._out)
        self._out += [SendRecord(node, job.record) for node in gone if node in self._members]

    def _on_lost(self, event: MemberLost) -> None:
        node = event.node
        self._members.pop(node, None)
        for job, lead in self._leads():
            lead.leasing.member_lost(node)
            lead.copies.lost(node)
            self._choose(job, lead)
            self._advance(job)
        for job in list(self._held.values()):
            record = job.record
            self._complete(job)
            if job.lead is None and record.state == State.RUNNING and record.coordinator == node:
                self._expect_beat(
                    job, tuning.GONE_MS if event.gone else tuning.SUSPECTED_MS, sooner=True
                )
        for number in list(self._seeks):
            self._on_unknown(JobUnknown(number, node))

    def _on_leave(self, _event: LeaveStarted) -> None:
        self._leaving = True
        for job, lead in self._leads():
            self._out += lead.leasing.stop()
            self._beat(job)
        self._agenda.clear()

    # ---- time ----

    def _on_time(self, _event: TimePassed) -> None:
        while (due := self._agenda.pop(self._now)) is not None:
            alarm, number = due
            job = self._held.get(number)
            if alarm == _SEEK:
                self._found_nowhere(number)
            elif job is None:
                continue
            elif alarm == _FORGET:
                self._forget(number)
            elif alarm == _ADOPT:
                self._adopt(job)
            elif alarm == _LIMIT and job.lead is not None:
                text = f"job ran past its limit of {job.spec.limit_ms} ms, "
                text += f"{job.ledger.done} of {job.spec.slices} slices done"
                self._end(job, State.FAILED, Code.DEADLINE, text, None)
            elif alarm == _IDLE and job.lead is not None:
                text = "no node of the mesh has workers"
                self._end(job, State.FAILED, Code.NO_WORKER, text, None)
            elif alarm == _LEASES:
                self._advance(job)
            elif alarm == _BEAT and job.lead is not None:
                self._beat(job)

    def _ended_now(self, job: Held) -> None:
        number = job.spec.job
        job.lead = None
        for alarm in (_BEAT, _LEASES, _LIMIT, _ADOPT, _IDLE):
            self._agenda.cancel((alarm, number))
        if number not in self._ended:
            self._ended[number] = self._now
            self._agenda.set((_FORGET, number), self._now + tuning.RETAIN_MS)
        kept = sum(self._bytes(self._held[n]) for n in self._ended)
        for oldest in list(self._ended):
            if kept <= tuning.RETAIN_BYTES_MAX or oldest == number:
                break
            kept -= self._bytes(self._held[oldest])
            self._forget(oldest)

    def _forget(self, number: int) -> None:
        del self._held[number], self._reductions[number]
        self._ended.pop(number, None)
        for alarm in (_BEAT, _LEASES, _LIMIT, _ADOPT, _FORGET, _IDLE):
            self._agenda.cancel((alarm, number))
        self._out.append(Forget(number))
