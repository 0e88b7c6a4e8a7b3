"""What a caller holds: a mesh, its nodes, and the future of one task.

Owns the shape that `Node` and `Client` share, so that a program, the REPL and the commands do not
care which of the two they talk to. Refuses to know sockets and frames; a scatter's job is
`velum.scatterjob`.
"""

from __future__ import annotations

import abc
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from velum import _core, frames, wasm
from velum.errors import VelumError, code_of, error_from

if TYPE_CHECKING:
    from velum.files import Files
    from velum.kv import Kv
    from velum.policy.job import Ask
    from velum.scatterjob import ScatterJob

Number = int | float
ModuleLike = str | os.PathLike[str] | bytes | wasm.Module


class Drive(Protocol):
    """What runs a loop for a thread that waits: `velum.runtime.Runtime.drive`."""

    def __call__(
        self, done: Callable[[], bool], timeout: float | None = None, patient: bool = False
    ) -> None: ...


TIMEOUT_MS_MAX = 0xFFFFFFFF
IN_FLIGHT_MAX = 16384  # calls that `map` keeps going at once


_guard = threading.Lock()  # held for a few instructions: making a condition, settling without one


class TaskFuture(Future[Any]):
    """The future of one task: a `concurrent.futures.Future` that can also be awaited.

    When it is done, `node` is the id of the node that ran it, `run_us` the microseconds inside the
    function there, `elapsed_us` from the call to the answer.

    A plain Future makes a lock and a condition at once, which costs more than a remote call does
    here. This one makes its condition when somebody first waits on it or adds a callback; until
    then an answer is stored under a lock that all futures share.
    """

    def __init__(self) -> None:
        self._state = "PENDING"
        self._result: Any = None
        self._exception: BaseException | None = None
        self._waiters: list[Any] = []
        self._done_callbacks: list[Callable[[TaskFuture], object]] = []
        self._made: threading.Condition | None = None
        self._sleepers: list[threading.Lock] = []
        self.node: int | None = None
        self.run_us = 0
        self.elapsed_us = 0
        self._began = time.perf_counter_ns()
        self._stop: Callable[[int], None] | None = None
        self._number = 0
        self._drive: Drive | None = None

    if not TYPE_CHECKING:  # to a type checker it is the attribute that Future declares

        @property
        def _condition(self):
            if self._made is None:
                with _guard:
                    if self._made is None:
                        self._made = threading.Condition()
            return self._made

    def result(self, timeout: float | None = None) -> Any:
        """The number, or None of a function without result. Raises the task's error;
        concurrent.futures.TimeoutError when it is not done in `timeout` seconds."""
        if self._state == "PENDING":
            self._await(timeout)
        if self._state == "FINISHED" and self._exception is None:
            return self._result
        return super().result(timeout)

    def _await(self, timeout: float | None) -> None:
        """Waits without the condition: Ctrl-C inside one can leave its lock held for ever, and the
        loop would stop there. A bare lock is either taken or not."""
        end = None if timeout is None else time.monotonic() + timeout
        if self._drive is not None:
            self._drive(self.done, timeout)
        sleeper = threading.Lock()
        sleeper.acquire()
        with _guard:
            if self._state != "PENDING":
                return
            self._sleepers.append(sleeper)
        left = -1.0 if end is None else min(max(0.0, end - time.monotonic()), threading.TIMEOUT_MAX)
        if not sleeper.acquire(timeout=left):
            raise FutureTimeout()

    def _wake(self) -> None:
        with _guard:
            sleepers, self._sleepers = self._sleepers, []
        for sleeper in sleepers:
            sleeper.release()

    def done(self) -> bool:
        """Whether it has ended, well or not, or was cancelled. Takes no lock."""
        return self._state != "PENDING"

    def cancel(self) -> bool:
        """Stops the task, running or not. False when it was done already."""
        if not super().cancel():
            return False
        self._wake()
        if self._stop is not None:
            self._stop(self._number)
        return True

    def driven_by(self, drive: Drive) -> None:
        """Names what runs the loop that brings the answer, for a thread that waits for it."""
        self._drive = drive

    def on_cancel(self, stop: Callable[[int], None], number: int) -> None:
        """Names what `cancel` calls beyond marking this future; it is called at once if it was."""
        self._number = number
        self._stop = stop
        if self._state.startswith("CANCELLED"):
            stop(number)

    def settle(self, node: int, run_us: int, value: Any) -> None:
        """Gives the answer; an answer to a cancelled task is dropped."""
        self.node = node or None
        self.run_us = run_us
        self._end(value, None)

    def fail(self, error: VelumError) -> None:
        """Gives the error; an error for a cancelled task is dropped."""
        self.node = error.node
        self._end(None, error)

    def _end(self, value: Any, error: VelumError | None) -> None:
        self.elapsed_us = (time.perf_counter_ns() - self._began) // 1000
        with _guard:
            if self._made is None:
                self._result, self._exception = value, error
                self._state = "FINISHED"
                for sleeper in self._sleepers:
                    sleeper.release()
                return
        try:
            if error is None:
                self.set_result(value)
            else:
                self.set_exception(error)
        except InvalidStateError:
            pass  # it was cancelled: nobody waits for it
        self._wake()

    def __await__(self) -> Generator[Any, None, Any]:
        import asyncio  # here, because a short command must start fast

        return asyncio.wrap_future(self).__await__()


@dataclass(frozen=True)
class NodeInfo:
    """One member of the mesh as this side knows it."""

    id: int
    role: str  # "node" or "leaf"
    state: str  # "alive", "suspect", "dead" or "left"
    address: str  # host:port
    slots: int  # workers
    cores: int
    cpu: int  # percent of the machine
    queue: int  # tasks waiting there
    running: int  # workers busy
    free_mib: int
    speed: int  # thousand loop rounds a second of one worker
    seen_ms: int  # since anything was heard of it
    me: bool
    ram_mib: int = 0  # that it gives to files
    ram_free_mib: int = 0  # of that, not used

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


@dataclass
class Work:
    """One task as the caller's thread hands it over: a payload ready to send, and its future."""

    __slots__ = ("frame", "future", "module", "node", "payload", "timeout_ms")

    frame: int  # frames.CALL or frames.TASK
    payload: bytes
    future: TaskFuture
    timeout_ms: int
    node: int | None
    module: wasm.Module | None


def timeout_to_ms(timeout: float | None) -> int:
    """Seconds (None: no limit) as the wire's milliseconds. VelumError ARGUMENT."""
    if timeout is None:
        return 0
    if not timeout > 0:
        raise error_from(code_of("ARGUMENT"), f"a timeout of {timeout} s is not positive")
    return max(1, min(round(timeout * 1000), TIMEOUT_MS_MAX))


class Mesh(abc.ABC):
    """A way into a mesh: a node of this process, or a client of one elsewhere."""

    _placed = False  # whether payloads say "run it here": a node sends to the node it chose

    @abc.abstractmethod
    def _submit(self, work: Work) -> None:
        """Takes the task over; every outcome goes to its future."""

    def _submit_many(self, works: Sequence[Work]) -> None:
        """The same for several at once."""
        for work in works:
            self._submit(work)

    @abc.abstractmethod
    def _scatter(self, job: ScatterJob, module: wasm.Module) -> None:
        """Submits a job, whose spec is known, and tells its handle of it from then on."""

    @abc.abstractmethod
    def _follow(self, job: ScatterJob) -> None:
        """Tells the handle of a job that exists, of its slices too if `job.wants_values`; called
        again when that has changed. Any thread, the loop's too."""

    @abc.abstractmethod
    def _ask_job(self, job_id: int, ask: Ask) -> None:
        """Passes a wish to cancel or resume on, once. Any thread."""

    @abc.abstractmethod
    def _jobs(self) -> list[dict[str, Any]]:
        """The jobs of the mesh as `velum.policy.job.as_plain` gives them, the newest first."""

    @property
    @abc.abstractmethod
    def files(self) -> Files:
        """The files in the RAM of the nodes."""

    @property
    @abc.abstractmethod
    def kv(self) -> Kv:
        """The state that every node holds."""

    @abc.abstractmethod
    def nodes(self) -> list[NodeInfo]:
        """Every member this side knows, itself included, by id."""

    @abc.abstractmethod
    def status(self) -> dict[str, Any]:
        """The state of the node, as plain data."""

    @abc.abstractmethod
    def close(self) -> None:
        """Ends it; tasks that are not done fail."""

    def spawn(
        self, name: str, *args: Number, timeout: float | None = None, node: int | None = None
    ) -> TaskFuture:
        """Calls a built-in (add, sub, mul, div) on the least busy node, or on `node`.

        Integers are 64-bit, floats double. `timeout` in seconds. Raises CallerError at once when an
        argument is no number or does not fit; every other outcome is in the future.
        """
        work = self.call_work(name, *args, timeout=timeout, node=node)
        self._submit(work)
        return work.future

    def spawn_wasm(
        self,
        module: ModuleLike,
        func: str,
        *args: Number,
        timeout: float | None = None,
        fuel: int | None = None,
        pages: int | None = None,
        node: int | None = None,
    ) -> TaskFuture:
        """Calls an exported function of a WebAssembly module on the least busy node, or on `node`.

        `module` is a path or the bytes. `timeout` in seconds, `fuel` in loop rounds and calls,
        `pages` of 64 KiB limit the guest. Raises CallerError at once for a module that velum does
        not run, a missing export, or arguments that do not fit the signature.
        """
        work = self.wasm_work(
            module, func, *args, timeout=timeout, fuel=fuel, pages=pages, node=node
        )
        self._submit(work)
        return work.future

    def call_work(
        self, name: str, *args: Number, timeout: float | None = None, node: int | None = None
    ) -> Work:
        """What `spawn` submits, for `spawn_many`."""
        timeout_ms = timeout_to_ms(timeout)
        try:
            payload = _core.encode_call(name.encode(), args, timeout_ms, self._placed)
        except _core.CoreError as error:
            raise error_from(error.code, f"{name}: {error}") from None
        return Work(frames.CALL, payload, TaskFuture(), timeout_ms, node, None)

    def wasm_work(
        self,
        module: ModuleLike,
        func: str,
        *args: Number,
        timeout: float | None = None,
        fuel: int | None = None,
        pages: int | None = None,
        node: int | None = None,
    ) -> Work:
        """What `spawn_wasm` submits, for `spawn_many`."""
        loaded = wasm.load(module)
        timeout_ms = timeout_to_ms(timeout)
        payload = loaded.encode(
            func,
            args,
            timeout_ms=timeout_ms,
            fuel=fuel or 0,
            pages=pages or 0,
            placed=self._placed,
        )
        return Work(frames.TASK, payload, TaskFuture(), timeout_ms, node, loaded)

    def spawn_many(self, works: Sequence[Work]) -> list[TaskFuture]:
        """Submits calls made by `call_work` and `wasm_work` together, waking the loop once."""
        self._submit_many(works)
        return [work.future for work in works]

    def map(self, name: str, *iterables: Iterable[Number]) -> Iterator[Any]:
        """Calls a built-in over zipped arguments, many at once; results in order, lazily.

        The first error is raised where its result would stand; what is under way is cancelled.
        """
        return ordered(self.spawn(name, *args) for args in zip(*iterables, strict=False))

    def scatter(
        self,
        module: ModuleLike,
        func: str,
        start: int,
        end: int,
        *args: Number,
        reduce: str = "sum",
        missing: Number | None = None,
        slices: int | None = None,
        keep_going: bool = False,
        wrap: bool = False,
        priority: int = 10,
        timeout: float | None = None,
        limit: float | None = None,
        fuel: int | None = None,
        pages: int | None = None,
        values: bool = False,
    ) -> ScatterJob:
        """Calls func(from, to, *args) on slices of [start, end) over all workers of the mesh, and
        combines the values in slice order: the answer of one node alone, whichever nodes die.

        `reduce` is sum, product, min, max, and, or, xor, first, all or collect; `missing` is the
        value that means "not found", for first and all. Integer sums and products that do not fit
        64 bits are an error unless `wrap`. A slice that fails fails the job unless `keep_going`.

        `slices` is how many (default: 4096, fewer for a short range). `priority`, 1 to 100, is the
        job's share against other jobs. `timeout` (seconds), `fuel` and `pages` limit one slice,
        `limit` (seconds) the whole job. `values` asks for the slices' own values from the start;
        iterating the job asks for them too.

        Raises CallerError at once for what cannot be right: see docs/scatter.md.
        """
        from velum.scatterjob import ScatterJob
        from velum.scatterspec import make_spec

        loaded = wasm.load(module)
        spec = make_spec(
            loaded,
            func,
            (start, end, *args),
            reduce=reduce,
            missing=missing,
            slices=slices,
            keep_going=keep_going,
            wrap=wrap,
            priority=priority,
            timeout_ms=timeout_to_ms(timeout),
            limit_ms=timeout_to_ms(limit),
            fuel=fuel or 0,
            pages=pages or 0,
        )
        job = ScatterJob(self, spec.job, spec, values=values)
        self._scatter(job, loaded)
        return job

    def job(self, id: int | str) -> ScatterJob:
        """Follows a scatter that was submitted before, here or elsewhere: its id as a number or as
        text, of which the first digits do. An unknown id is an error in the handle."""
        from velum.scatterjob import ScatterJob
        from velum.scatterspec import job_number

        job = ScatterJob(self, job_number(id, self.jobs) if isinstance(id, str) else id)
        self._follow(job)
        return job

    def jobs(self) -> list[dict[str, Any]]:
        """The scatters that the mesh knows, running or over, as plain data; the newest first."""
        return self._jobs()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def ordered(futures: Iterable[TaskFuture], at_once: int = IN_FLIGHT_MAX) -> Iterator[Any]:
    """Results in the order of the futures, keeping up to `at_once` of them under way."""
    source = iter(futures)
    window: deque[TaskFuture] = deque()
    try:
        for future in source:
            window.append(future)
            if len(window) >= at_once:
                yield window.popleft().result()
        while window:
            yield window.popleft().result()
    finally:
        for future in window:
            future.cancel()
