"""`concurrent.futures.Executor` over a mesh.

Owns the shape that programs written for executors expect: submit, map, shutdown. What is submitted
is not Python code: it is the name of a built-in, or a function of a WebAssembly module.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any

from velum import api, wasm
from velum.api import Mesh, ModuleLike, Number, TaskFuture
from velum.errors import code_of, error_from


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
        self._pending: set[Future[Any]] = set()

    def submit(  # type: ignore[override]
        self, fn: str | WasmFunction | tuple[ModuleLike, str], /, *args: Number, **kwargs: Any
    ) -> TaskFuture:
        """Submits one call: fn is "add", a WasmFunction, or (module, function name).

        Keyword arguments are those of Mesh.spawn or Mesh.spawn_wasm. RuntimeError after shutdown.
        """
        kwargs.setdefault("timeout", self._timeout)
        return self._start(self._caller(fn), args, kwargs)

    def map(  # type: ignore[override]
        self,
        fn: str | WasmFunction | tuple[ModuleLike, str],
        *iterables: Iterable[Number],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[Any]:
        """Calls fn over zipped arguments and gives results in order.

        `timeout` is a task's own, in seconds. Arguments are taken ahead up to a bound, so that an
        endless iterable works. `chunksize` is accepted for compatibility: calls are batched anyway.
        """
        call = self._caller(fn)
        kwargs = {"timeout": self._timeout if timeout is None else timeout}
        futures = (self._start(call, args, kwargs) for args in zip(*iterables, strict=False))
        return api.ordered(futures)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more work; waits for what is under way, or cancels it."""
        with self._lock:
            self._shut = True
            pending = list(self._pending)
        if cancel_futures:
            for future in pending:
                future.cancel()
        if wait:
            for future in pending:
                if not future.cancelled():
                    future.exception()
        if self._owned is not None:
            self._owned.close()

    def _caller(self, fn: Any) -> Callable[..., TaskFuture]:
        if isinstance(fn, str):
            return partial(self._mesh.spawn, fn)
        if isinstance(fn, tuple) and len(fn) == 2:
            fn = WasmFunction(*fn)
        if isinstance(fn, WasmFunction):
            return partial(self._mesh.spawn_wasm, fn.module, fn.name)
        raise error_from(
            code_of("ARGUMENT"),
            f"{fn!r} cannot run on a mesh: submit the name of a built-in, a WasmFunction, "
            "or (module, function name)",
        )

    def _start(
        self, call: Callable[..., TaskFuture], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> TaskFuture:
        with self._lock:
            if self._shut:
                raise RuntimeError("cannot schedule new tasks after shutdown")
            future = call(*args, **kwargs)
            self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        return future
