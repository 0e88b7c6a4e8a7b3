"""A mesh of plain Python for the tests of the faces.

It knows just enough to answer: built-ins are done here, wasm functions are looked up in a table,
and every call is noted. It keeps the shapes of velum.api and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from velum.api import Mesh, NodeInfo, TaskFuture, Work
from velum.errors import VelumError, code_of, error_from

SUMS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
}


def node_info(id: int, **changes: Any) -> NodeInfo:
    """A member, alive unless told otherwise; node 1 is the one asked."""
    facts: dict[str, Any] = {
        "id": id,
        "role": "node",
        "state": "alive",
        "address": f"127.0.0.1:{8000 + id}",
        "slots": 2,
        "cores": 2,
        "cpu": 7,
        "queue": 0,
        "running": 1,
        "free_mib": 2048,
        "speed": 250_000,
        "seen_ms": 450,
        "me": id == 1,
    }
    return NodeInfo(**{**facts, **changes})


class FakeMesh(Mesh):
    """Answers at once; `fails` makes every task end with an error, `hangs` makes none end."""

    def __init__(self) -> None:
        self.address = "127.0.0.1:8001"
        self.calls: list[tuple[Any, ...]] = []
        self.members = [node_info(1), node_info(2)]
        self.wasm_value: Any = 41538
        self.fails: VelumError | None = None
        self.hangs = False
        self.futures: list[TaskFuture] = []
        self.closed = False
        self.left = 0

    def spawn(self, name: str, *args: Any, **options: Any) -> TaskFuture:
        self.calls.append((name, args, options))
        if name not in SUMS:
            return self._finish(error_from(code_of("UNKNOWN_NAME"), name))
        return self._finish(SUMS[name](*args))

    def spawn_wasm(self, module: Any, func: str, *args: Any, **options: Any) -> TaskFuture:
        self.calls.append((module, func, args, options))
        return self._finish(self.wasm_value)

    def _finish(self, outcome: Any) -> TaskFuture:
        future = TaskFuture()
        self.futures.append(future)
        failure = outcome if isinstance(outcome, VelumError) else self.fails
        if self.hangs:
            return future
        if failure is not None:
            future.fail(failure)
        else:
            future.settle(2, 900, outcome)
            future.elapsed_us = 1234
        return future

    def nodes(self) -> list[NodeInfo]:
        return self.members

    def status(self) -> dict[str, Any]:
        return {
            "id": 1,
            "workers": 2,
            "modules": {"count": 2, "bytes": 99},
            "uptime_s": 1.25,
            "links": [],
        }

    def close(self) -> None:
        self.closed = True

    def leave(self) -> None:
        self.left += 1

    def _submit(self, work: Work) -> None:
        raise AssertionError("the fake answers above this")


def install(monkeypatch: pytest.MonkeyPatch) -> FakeMesh:
    """Makes `connect` of every command give this mesh; its arguments are the first call noted."""
    mesh = FakeMesh()

    def connect(address: str | None = None, **options: Any) -> FakeMesh:
        mesh.calls.append(("connect", address, options))
        return mesh

    monkeypatch.setattr("velum.client.connect", connect)
    return mesh
