"""One job as its coordinator sees it: who works for it, who holds copies, what its record says.

Owns: the job's leases (`Leasing`), its holders (`Copies`), and the figures of its record. Refuses
to know: other jobs, claims of other coordinators, when a job ends (`jobs.py`). Everything that it
wants done is appended to the list of effects that it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from .copies import Copies
from .job import Failure, Record, Run, Share, Spec, State
from .jobs_io import Effect, LeaseRefused, LeaseReported, SendCopy, SendRecord, SendSpec
from .leasing import Leasing
from .ledger import Ledger
from .slices import Span, Spans

# Ledgers above this many slices are summed in every eighth record only: it takes milliseconds.
CHECKED_SLICES_MAX: Final = 65_536
CHECKED_EVERY: Final = 8
# Errors of a whole lease that may be the node's: its limits, the memory it has left.
UNFIT: Final = range(60, 80)
U32_MAX: Final = 0xFFFFFFFF


@dataclass(slots=True)
class Member:
    """A member that can be sent leases."""

    slots: int
    speed: int
    holds: bool


@dataclass(slots=True)
class _Done:
    """What one node has done for the job."""

    slices: int = 0
    busy_us: int = 0


@dataclass(slots=True, eq=False)
class Held:
    """One job that this node holds a copy of."""

    spec: Spec
    ledger: Ledger
    record: Record  # the greatest claim heard of
    module: bool  # its module is here: this node could coordinate it
    tries: int = 0  # at getting the module
    watched: bool = False  # a client here wants to know of it
    wanted: bool = False  # and of its values
    lead: Coordination | None = None  # this node coordinates it
    asked: set[int] = field(default_factory=set)  # for what it lacked at the job's end
    asked_at: int = -1_000_000  # when a copy was last asked for or given for a wrong checksum
    restored: bool = False  # from a journal; nobody else has been heard of it yet

    @property
    def lacks(self) -> bool:
        """Its record counts more slices than its ledger knows."""
        return self.ledger.done + self.ledger.failed < self.record.done + self.record.failed

    @property
    def settled(self) -> bool:
        """Done, and whole here: what comes late would change an answer that was given."""
        return self.record.state == State.DONE and not self.lacks

    def full_copy(self) -> tuple[list[Run], list[Failure]]:
        """All that its ledger knows."""
        return list(self.ledger.done_runs()), self.ledger.failures()


def merge(job: Held, runs: Iterable[Run], failures: Iterable[Failure]) -> tuple[Spans, int]:
    """Puts what a peer told into the ledger: what was new of it, and how many slices it told of.
    What lies outside the job is a peer's mistake and ignored."""
    new = Spans()
    told = 0
    slices = job.spec.slices
    for first, values in runs:
        count = len(values) // 8
        if first + count <= slices:
            told += count
            for span in job.ledger.merge(first, values):
                new.add(*span)
    for failure in failures:
        if failure.slice < slices:
            told += 1
            if job.ledger.merge_failure(failure):
                new.add(failure.slice, failure.slice + 1)
    return new, told


def known(ledger: Ledger, spans: Spans) -> tuple[list[Run], list[Failure]]:
    """What the ledger knows of these slices."""
    failures: list[Failure] = []
    if ledger.failed:
        failures = [failure for failure in ledger.failures() if failure.slice in spans]
    return list(ledger.done_runs(spans)), failures


class Coordination:
    """The coordinator's side of one job. `now` in milliseconds, `out` takes the effects."""

    def __init__(
        self, job: Held, me: int, members: Mapping[int, Member], tickets: Callable[[], int]
    ) -> None:
        """Takes over where the job's record stands: shares and counts go on from there."""
        self._job = job
        self._me = me
        self._members = members
        self.leasing = Leasing(job.spec, job.ledger.unknown_spans(), tickets)
        self.copies = Copies(job.spec.job, job.spec.slices, me)
        self._shares = {
            share.node: _Done(share.done, share.busy_ms * 1000) for share in job.record.shares
        }
        self._retries = job.record.retries
        self._duplicates = job.record.duplicates
        self._elapsed_ms = job.record.elapsed_ms
        self._began: int | None = None
        self._sequence = 0
        self._unfit: dict[int, tuple[int, str]] = {}  # nodes that cannot run the guest, and why

    def start(self, now: int) -> None:
        """Begins to count time, takes the members in."""
        self._began = now
        for node in self._members:
            self.usable(node)
        self.choose()

    def elapsed_ms(self, now: int) -> int:
        """Since the job began, under whichever coordinator; what nobody saw is not counted."""
        return self._elapsed_ms + (0 if self._began is None else now - self._began)

    # ---- what happens ----

    def choose(self) -> list[int]:
        """Chooses holders among the members; who is none any longer."""
        return self.copies.choose([n for n, member in self._members.items() if member.holds])

    def reported(self, event: LeaseReported, new: Spans, told: int, now: int) -> None:
        """A lease's report has been merged: `new` is what was not known of the slices told."""
        share = self._shares.setdefault(event.node, _Done())
        share.slices += len(new)
        share.busy_us += event.busy_us
        self._duplicates += told - len(new)
        covered: list[Span] = [(first, first + len(v) // 8) for first, v in event.runs]
        covered += [(failure.slice, failure.slice + 1) for failure in event.failures]
        self.copies.gained(new)
        self.leasing.reported(event.ticket, event.node, covered, event.busy_us, event.last, now)

    def usable(self, node: int) -> None:
        """A member can be sent leases, or its figures have changed."""
        member = self._members[node]
        slots = 0 if node in self._unfit else member.slots
        self.leasing.member_usable(node, slots, member.speed)

    @property
    def hopeless(self) -> tuple[int, str] | None:
        """The error of a job that nobody can run: there are workers, but the guest cannot be
        started at any of them."""
        fit = any(m.slots and node not in self._unfit for node, m in self._members.items())
        return None if fit or not self._unfit else next(iter(self._unfit.values()))

    def refused(self, event: LeaseRefused, now: int) -> Failure | None:
        """A lease ended with an error; the slice that is to blame, if that is certain. A guest that
        cannot even be started there may still fit another node, which allows it more memory."""
        if event.code in UNFIT:
            self._unfit[event.node] = (event.code, f"{event.text} (node {event.node})")
            self.usable(event.node)
        return self.leasing.refused(event.ticket, event.node, event.code, event.deaths, now)

    def settled(self, new: Spans) -> None:
        """The ledger has gained these from a copy."""
        self.copies.gained(new)
        self.leasing.settled(new)

    # ---- what the others are told ----

    def record(self, now: int, **changes: object) -> Record:
        """The job's record as of now, with these fields changed."""
        job, ledger = self._job, self._job.ledger
        self._sequence += 1
        checked = job.spec.slices <= CHECKED_SLICES_MAX or self._sequence % CHECKED_EVERY == 0
        record = job.record._replace(
            coordinator=self._me,
            sequence=self._sequence,
            done=ledger.done,
            failed=ledger.failed,
            checksum=ledger.checksum() if checked or changes else 0,
            elapsed_ms=self.elapsed_ms(now),
            retries=min(self._retries + self.leasing.retries, U32_MAX),
            duplicates=min(self._duplicates, U32_MAX),
            holders=self.copies.holders,
            shares=self._share_list(),
        )
        return record._replace(**changes)  # type: ignore[arg-type]

    def _share_list(self) -> tuple[Share, ...]:
        nodes = sorted({*self._shares, *(n for n, m in self._members.items() if m.slots)})
        none = _Done()
        return tuple(
            Share(
                node,
                self.leasing.open_leases(node),
                self._shares.get(node, none).slices,
                min(self._shares.get(node, none).busy_us // 1000, U32_MAX),
            )
            for node in nodes
        )

    def tell_holders(self, out: list[Effect]) -> None:
        """Sends every holder what it lacks, then the record: in that order, so that a holder with
        the record has all that it counts."""
        for node in self.copies.holders:
            if node in self._members:
                self.tell_holder(node, out)

    def tell_holder(self, node: int, out: list[Effect]) -> None:
        """The same for one of them."""
        job = self._job
        if not self.copies.has_spec(node):
            out.append(SendSpec(node, job.spec))
        runs, failures = known(job.ledger, self.copies.take(node))
        if runs or failures:
            out.append(SendCopy(node, job.spec.job, runs, failures))
        out.append(SendRecord(node, job.record))
