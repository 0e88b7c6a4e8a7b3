"""What a caller holds of a scatter: its handle `ScatterJob`.

Owns what was last heard of the job, the slices' values if somebody wants them, and who waits for
what. Refuses to know links and who computes what: the mesh tells the handle by `heard...` and
`fail`, from its loop's thread; callers read it from any other.
"""

from __future__ import annotations

import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from velum.api import Number, TaskFuture
from velum.errors import VelumError, error_from
from velum.policy.job import (
    KEEP_GOING,
    Ask,
    Failure,
    Record,
    Run,
    Share,
    Spec,
    State,
    job_name,
)
from velum.policy.ledger import DONE, FAILED, VALUE_BYTES, Ledger
from velum.policy.reduction import LISTS, number, plain_answer
from velum.policy.slices import Span
from velum.scatterspec import mistake

if TYPE_CHECKING:
    from velum.api import Mesh

CHUNK: Final = 4096  # slices that an iterator takes at once: the loop waits for it meanwhile
PACE_MS: Final = 5000  # the rate is that of the last seconds: slices differ
PACE_STEP_MS: Final = 100

ASKS_MAX: Final = 3  # times that a resume is asked for: the end it finds may be a word from before

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """How far a job is, as its coordinator has last told."""

    state: str  # "waiting" before its first word; then "running", "cancelled", "failed" or "done"
    done: int
    slices: int
    failed: int
    rate: float  # slices a second, of the last seconds
    eta_s: float | None  # None: not known
    elapsed_s: float
    coordinator: int | None
    nodes: tuple[Share, ...]  # by id
    retries: int
    duplicates: int

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {**asdict(self), "nodes": [share._asdict() for share in self.nodes]}


class Pace:
    """Slices a second over the last seconds, from what records say."""

    def __init__(self) -> None:
        self._points: deque[tuple[int, int]] = deque()  # (elapsed ms, done)

    def note(self, elapsed_ms: int, done: int) -> None:
        """A record says so; one that goes back begins anew."""
        points = self._points
        if points and (elapsed_ms < points[-1][0] or done < points[-1][1]):
            points.clear()
        if not points:
            points.append((0, 0) if elapsed_ms <= PACE_STEP_MS else (elapsed_ms, done))
        if elapsed_ms - points[-1][0] >= PACE_STEP_MS:
            points.append((elapsed_ms, done))
        while len(points) > 2 and elapsed_ms - points[1][0] > PACE_MS:
            points.popleft()

    @property
    def rate(self) -> float:
        """Slices a second; 0 before anything is known."""
        if len(self._points) < 2:
            return 0.0
        (begin_ms, before), (end_ms, after) = self._points[0], self._points[-1]
        return (after - before) * 1000 / max(end_ms - begin_ms, 1)


class ScatterJob(TaskFuture):
    """A scatter under way or over: a `concurrent.futures.Future` of its answer, and more.

    It can be awaited, waited for with others, and iterated: the slices' values in slice order, each
    as soon as it is there. Other than a task it is not this program's: it goes on when the program
    ends, and `Mesh.job` follows it again.
    """

    def __init__(
        self,
        mesh: Mesh,
        number: int,
        spec: Spec | None = None,
        *,
        values: bool = False,
        attempt: int = 0,
    ) -> None:
        """`attempt`: the end of an earlier one is not this handle's end."""
        super().__init__()
        self.number = number
        self.spec = spec  # None: not known yet
        self.record: Record | None = None
        self.wants_values = values or (spec is not None and spec.reduce in LISTS)
        self._mesh = mesh
        self._attempt = attempt
        self._asked: Ask | None = Ask.RESUME if attempt else None  # and not seen done
        self._asks = 0
        self._heard_at = 0.0
        self._pace = Pace()
        # Under this lock, held for an instant by whoever reads or writes what follows. A thread
        # that waits does so on a bare lock of its own, as in TaskFuture, for Ctrl-C.
        self._lock = threading.Lock()
        self._changes = 0
        self._noticed = 0
        self._watching: list[threading.Lock] = []
        self._ledger: Ledger | None = None
        self._gained: list[Span] = []  # done slices, as they came
        self._cut: VelumError | None = None  # why nothing more will be heard

    def __repr__(self) -> str:
        state = State(self.record.state).name.lower() if self.record else "waiting"
        return f"<ScatterJob {self.id} {state}>"

    @property
    def id(self) -> str:
        """16 hexadecimal digits."""
        return job_name(self.number)

    # ---- what the mesh tells, in its loop's thread ----

    def heard_spec(self, spec: Spec) -> None:
        """What the job is, for a handle that follows by id."""
        if self.spec is None and spec.job == self.number:
            self.spec = spec
            if spec.reduce in LISTS:
                self._want_values()
            self._changed()

    def heard(self, record: Record) -> None:
        """How the job stands. A lesser claim than the known one, and an older word, are ignored."""
        known = self.record
        if record.job != self.number:
            return
        if known is not None:
            if (record.claim, record.sequence) < (known.claim, known.sequence):
                return
            if known.attempt < record.attempt:
                if self._has_ended():
                    return  # resumed: that is the new handle's
                self._forget_failures()
        self.record = record
        self._heard_at = time.monotonic()
        self._pace.note(record.elapsed_ms, record.done)
        self._insist(record)
        self._conclude()
        self._changed()

    def heard_slices(self, runs: Sequence[Run], failures: Sequence[Failure]) -> None:
        """Slices that are done or failed. What is no slice of the job is ignored."""
        spec = self.spec
        if spec is None or not self.wants_values:
            return
        with self._lock:
            if self._ledger is None:
                self._ledger = Ledger(spec.slices)
            for first, values in runs:
                if first + len(values) // VALUE_BYTES <= spec.slices:
                    self._gained += self._ledger.merge(first, values)
            for failure in failures:
                if failure.slice < spec.slices and failure.code:
                    self._ledger.merge_failure(failure)
        self._conclude()
        self._changed()

    def fail(self, error: VelumError) -> None:
        """Nothing more will be heard of the job."""
        self._cut = error
        if not self.done():
            super().fail(error)
        self._changed()

    @property
    def over(self) -> bool:
        """Whether nothing more needs to be heard."""
        return self.done() and (not self.wants_values or self._is_told())

    def _insist(self, record: Record) -> None:
        """Asks again for what a word shows not to be done: a wish may be lost with a node."""
        if self._asked is Ask.RESUME and record.attempt >= self._attempt:
            self._asked = None
        running = record.state == State.RUNNING
        if self._asked is None or running != (self._asked is Ask.CANCEL):
            return
        if self._asked is Ask.RESUME:
            self._asks += 1
            if self._asks > ASKS_MAX or record.state == State.DONE:
                self._asked, self._attempt = None, 0  # as it is now, it stays
                return
        self._mesh._ask_job(self.number, self._asked)

    def _has_ended(self) -> bool:
        """Whether the job has, in the attempt that this handle follows."""
        record = self.record
        return (
            record is not None and record.state != State.RUNNING and record.attempt >= self._attempt
        )

    def _is_told(self) -> bool:
        """Whether the job has ended and all is here that was found out of its slices."""
        record, ledger = self.record, self._ledger
        if record is None or not self._has_ended():
            return False
        done, failed = (ledger.done, ledger.failed) if ledger is not None else (0, 0)
        return done >= record.done and done + failed >= record.done + record.failed

    def _conclude(self) -> None:
        """Gives the answer if it is there."""
        record = self.record
        if record is None or self.done() or not self._has_ended():
            return
        if record.state != State.DONE:
            super().fail(error_from(record.code, record.text))
        elif record.answer is not None:
            self._end(number(*record.answer), None)
        elif not self.wants_values:
            self._want_values()
        elif self.spec is not None and self._is_told():
            ledger = self._ledger or Ledger(self.spec.slices)
            self._end(plain_answer(self.spec, ledger, None), None)

    def _forget_failures(self) -> None:
        with self._lock:
            if self._ledger is not None:
                self._ledger.forget_failures()

    # ---- waiting ----

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The job's error, None when it has none; waits for the end as `result` does."""
        if not self.wait(timeout):
            raise FutureTimeout()
        return super().exception()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the end, well or not. False: it has not come in `timeout` seconds."""
        if not self.done():
            try:
                self._await(timeout)
            except FutureTimeout:
                return self.done()
        return True

    def wait_progress(self, timeout: float | None = None) -> bool:
        """Waits until something was heard of the job since this has returned last. False: nothing
        in `timeout` seconds. For one thread at a time."""
        changed = self._wait_change(self._noticed, timeout)
        self._noticed = self._changes
        return changed

    def _changed(self) -> None:
        with self._lock:
            self._changes += 1
            sleepers, self._watching = self._watching, []
        for sleeper in sleepers:
            sleeper.release()

    def _wait_change(self, seen: int, timeout: float | None) -> bool:
        """Waits until there were more changes than `seen`, on a bare lock as `_await` does."""
        sleeper = threading.Lock()
        sleeper.acquire()
        with self._lock:
            if self._changes != seen:
                return True
            self._watching.append(sleeper)
        if sleeper.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX)):
            return True
        with self._lock:
            if sleeper in self._watching:
                self._watching.remove(sleeper)
        return self._changes != seen

    # ---- wishes ----

    def cancel(self) -> bool:
        """Asks the mesh to stop the job; False when it has ended. The handle ends when the mesh
        says so: with TaskStopped, or with an answer that came first."""
        if self.done():
            return False
        self._asked = Ask.CANCEL
        self._mesh._ask_job(self.number, Ask.CANCEL)
        return True

    def resume(self) -> ScatterJob:
        """Takes a failed or cancelled job up again: what is done stays done, failed slices run
        again. Returns a new handle, as this one has ended. CallerError for any other job."""
        record = self.record
        if record is None or record.state in (State.RUNNING, State.DONE):
            state = State(record.state).name.lower() if record else "not known yet"
            raise mistake(
                "ARGUMENT", f"job {self.id} is {state}; only a failed or cancelled one is resumed"
            )
        job = ScatterJob(
            self._mesh,
            self.number,
            self.spec,
            values=self.wants_values,
            attempt=record.attempt + 1,
        )
        self._mesh._ask_job(self.number, Ask.RESUME)
        self._mesh._follow(job)
        return job

    # ---- how far it is ----

    def progress(self) -> Progress:
        """How far the job is; does not wait."""
        record, spec = self.record, self.spec
        if record is None:
            slices = spec.slices if spec else 0
            return Progress("waiting", 0, slices, 0, 0.0, None, 0.0, None, (), 0, 0)
        rate, eta_s, elapsed_s = self._pace.rate, None, record.elapsed_ms / 1000
        if not self._has_ended():
            since_s = time.monotonic() - self._heard_at
            elapsed_s += since_s
            if rate:
                left = record.slices - record.done - record.failed
                eta_s = max(0.0, left / rate - since_s)
        elif elapsed_s:
            rate = record.done / elapsed_s
        return Progress(
            state=State(record.state).name.lower(),
            done=record.done,
            slices=record.slices,
            failed=record.failed,
            rate=rate,
            eta_s=eta_s,
            elapsed_s=elapsed_s,
            coordinator=record.coordinator,
            nodes=tuple(sorted(record.shares)),
            retries=record.retries,
            duplicates=record.duplicates,
        )

    def failures(self, timeout: float | None = None) -> list[Failure]:
        """The failed slices as of now, the lowest first. The mesh is asked for them if it was not
        for values; concurrent.futures.TimeoutError when they do not come in `timeout` seconds."""
        record = self.record
        if record is None or not record.failed:
            return []
        self._want_values()
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            seen = self._changes
            with self._lock:
                ledger = self._ledger
                if ledger and ledger.done + ledger.failed >= record.done + record.failed:
                    return ledger.failures()
            if self._cut is not None:
                raise self._cut
            left = None if end is None else max(0.0, end - time.monotonic())
            if not self._wait_change(seen, left):
                raise FutureTimeout()

    # ---- the values of slices ----

    def __iter__(self) -> Iterator[Number]:
        """The slices' values in slice order, each as soon as it and all before it are there.

        A failed slice is left out with `keep_going`; else the job's error is raised in its place.
        With `first` the values may end early, where the answer was found.
        """
        at = 0

        def take(ledger: Ledger, spec: Spec) -> list[Number]:
            nonlocal at
            while at < spec.slices:
                end = ledger.run_end(at, min(at + CHUNK, spec.slices))
                state, first = ledger.state(at), at
                if state == DONE:
                    at = end
                    return _numbers(spec, ledger, (first, end))
                if state != FAILED or not spec.flags & KEEP_GOING:
                    return []
                at = end
            return []

        yield from self._stream(take)

    def as_completed(self) -> Iterator[tuple[int, Number]]:
        """(slice, value) of each slice that is done, in the order in which they came; the job's
        error behind them if it has one."""
        run, at = 0, 0

        def take(ledger: Ledger, spec: Spec) -> list[tuple[int, Number]]:
            nonlocal run, at
            if run == len(self._gained):
                return []
            first, last = self._gained[run]
            first = max(first, at)
            end = min(first + CHUNK, last)
            run, at = (run + 1, 0) if end == last else (run, end)
            return list(enumerate(_numbers(spec, ledger, (first, end)), first))

        yield from self._stream(take)

    def _stream(self, take: Callable[[Ledger, Spec], list[T]]) -> Iterator[T]:
        """What take() gives until the job has ended and it gives nothing more."""
        self._want_values()
        while True:
            seen, told, items = self._changes, self._is_told(), []
            with self._lock:
                if self._ledger is not None and self.spec is not None:
                    items = take(self._ledger, self.spec)
            if items:
                yield from items
            elif told:
                break
            elif self._cut is not None:
                raise self._cut
            else:
                self._wait_change(seen, None)
        record = self.record
        if self._exception is not None and record is not None and record.done < record.slices:
            raise self._exception

    def _want_values(self) -> None:
        with self._lock:
            wanted, self.wants_values = self.wants_values, True
        if not wanted:
            self._mesh._follow(self)


def _numbers(spec: Spec, ledger: Ledger, span: Span) -> list[Number]:
    """The values of a span of done slices."""
    data = b"".join(values for _, values in ledger.done_runs([span]))
    return [number(spec.result, bits) for (bits,) in struct.iter_unpack("<Q", data)]
