"""`concurrent.futures.Executor` over a mesh.

Owns the shape that programs written for executors expect: submit, map, shutdown. What is submitted
is not Python code: it is the name of a built-in, or a function of a WebAssembly module.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any

from velum import api, wasm
from velum.api import Mesh, ModuleLike, Number, TaskFuture, Work
from velum.errors import code_of, error_from

BATCH = 256  # calls that `map` submits together: waking the loop for them costs nothing any more
SLOW_NS = 100_000  # arguments that take longer to come are not waited for to fill a batch
PRUNE = 4096  # futures that are kept beside those under way, before the done ones are dropped


class WasmFunction:
    """An exported function of a module, to be submitted to a MeshExecutor."""

    def __init__(self, module: ModuleLike, name: str) -> None:
        """Reads and checks the module. Raises CallerError, also for a function it does not have."""
        self.module = wasm.load(module)
        self.name = name
        self.params, self.result = self.module.signature(name)

    def __repr__(self) -> str:
        return f"{self.module.name}:{self.name}({', '.join(self.params)}) -> {self.result}"


class MeshExecutor(Executor):
    """Runs built-ins (by name) and WasmFunctions on a mesh.

    >>> with velum.connect() as mesh, MeshExecutor(mesh) as executor:
    ...     list(executor.map("add", [1, 2], [10, 20]))
    [11, 22]
    """

    def __init__(self, mesh: Mesh | None = None, *, timeout: float | None = None) -> None:
        """`mesh` is a Node or Client of the caller's, which stays open at shutdown; None attaches
        to the first node found and detaches at shutdown. `timeout` in seconds holds for each task.
        """
        if mesh is None:
            from velum.client import connect

            mesh = connect()
            self._owned: Mesh | None = mesh
        else:
            self._owned = None
        self._mesh = mesh
        self._timeout = timeout
        self._lock = threading.Lock()
        self._shut = False
        self._started: list[TaskFuture] = []  # all under way, and some that are done
        self._prune_at = PRUNE

    def submit(  # type: ignore[override]
        self, fn: str | WasmFunction | tuple[ModuleLike, str], /, *args: Number, **kwargs: Any
    ) -> TaskFuture:
        """Submits one call: fn is "add", a WasmFunction, or (module, function name).

        Keyword arguments are those of Mesh.spawn or Mesh.spawn_wasm. RuntimeError after shutdown.
        """
        kwargs.setdefault("timeout", self._timeout)
        (future,) = self._start([self._maker(fn)(*args, **kwargs)])
        return future

    def map(  # type: ignore[override]
        self,
        fn: str | WasmFunction | tuple[ModuleLike, str],
        *iterables: Iterable[Number],
        timeout: float | None = None,
        chunksize: int | None = None,
    ) -> Iterator[Any]:
        """Calls fn over zipped arguments and gives results in order.

        `timeout` is a task's own, in seconds. Arguments are taken ahead up to a bound, so that an
        endless iterable works. Calls are submitted in batches of `chunksize`: the loop is woken
        once for a batch, and still each call is a task of its own that any node may run. Without
        `chunksize` a batch has up to 256 calls, and arguments that come slowly are not waited for.
        Raises ValueError for a `chunksize` below 1.
        """
        if chunksize is not None and chunksize < 1:
            raise ValueError("chunksize must be at least 1")
        timeout = self._timeout if timeout is None else timeout
        make = partial(self._maker(fn), timeout=timeout)
        works = (make(*args) for args in zip(*iterables, strict=False))
        batches = gathered(works) if chunksize is None else gathered(works, chunksize, None)
        return api.ordered(future for batch in batches for future in self._start(batch))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more work; waits for what is under way, or cancels it."""
        with self._lock:
            self._shut = True
            started, self._started = self._started, []
        if cancel_futures:
            for future in started:
                future.cancel()
        if wait:
            for future in started:
                if not future.cancelled():
                    future.exception()
        if self._owned is not None:
            self._owned.close()

    def _maker(self, fn: Any) -> Callable[..., Work]:
        if isinstance(fn, str):
            return partial(self._mesh.call_work, fn)
        if isinstance(fn, tuple) and len(fn) == 2:
            fn = WasmFunction(*fn)
        if isinstance(fn, WasmFunction):
            return partial(self._mesh.wasm_work, fn.module, fn.name)
        raise error_from(
            code_of("ARGUMENT"),
            f"{fn!r} cannot run on a mesh: submit the name of a built-in, a WasmFunction, "
            "or (module, function name)",
        )

    def _start(self, works: Sequence[Work]) -> list[TaskFuture]:
        """Submits a batch. A callback for each future would cost more than the call: the done ones
        are dropped now and then instead."""
        with self._lock:
            if self._shut:
                raise RuntimeError("cannot schedule new tasks after shutdown")
            futures = self._mesh.spawn_many(works)
            self._started += futures
            if len(self._started) >= self._prune_at:
                self._started = [future for future in self._started if not future.done()]
                self._prune_at = PRUNE + 2 * len(self._started)
        return futures


def gathered(
    works: Iterable[Work], size: int = BATCH, slow_ns: int | None = SLOW_NS
) -> Iterator[list[Work]]:
    """The works in lists of `size`; shorter behind one that took longer than `slow_ns` to come."""
    batch: list[Work] = []
    began = time.perf_counter_ns()
    for work in works:
        batch.append(work)
        now = time.perf_counter_ns()
        if len(batch) >= size or (slow_ns is not None and now - began > slow_ns):
            yield batch
            batch, now = [], time.perf_counter_ns()
        began = now
    if batch:
        yield batch
