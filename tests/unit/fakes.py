"""A mesh of plain Python for the tests of the faces.

It knows just enough to answer: built-ins are done here, wasm functions are looked up in a table, a
scatter ends as its script says, and every call is noted. It keeps the shapes of velum.api and
nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from velum.api import Mesh, NodeInfo, TaskFuture, Work
from velum.errors import VelumError, code_of, error_from
from velum.policy.job import I64, Ask, Record, Share, State, as_plain
from velum.scatterjob import ScatterJob
from velum.wasm import Module

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


def record(job: ScatterJob, **changes: Any) -> Record:
    """A word of node 2 on a job, of which half is done unless told otherwise."""
    slices = job.spec.slices if job.spec is not None else 100
    facts: dict[str, Any] = {
        "job": job.number,
        "attempt": 1,
        "state": State.RUNNING,
        "epoch": 1,
        "coordinator": 2,
        "sequence": 1,
        "slices": slices,
        "done": slices // 2,
        "failed": 0,
        "checksum": 0,
        "elapsed_ms": 1000,
        "retries": 0,
        "duplicates": 0,
        "code": 0,
        "text": "",
        "answer": None,
        "holders": (1, 3),
        "shares": (Share(1, 2, slices // 2, 900), Share(2, 1, 0, 50)),
    }
    return Record(**{**facts, **changes})


def done(job: ScatterJob, **changes: Any) -> Record:
    """Its last word: the answer is 41538 unless told otherwise."""
    slices = job.spec.slices if job.spec is not None else 100
    facts = {"state": State.DONE, "done": slices, "answer": (I64, 41538), "sequence": 9}
    return record(job, **{**facts, **changes})


def failed(job: ScatterJob, name: str, text: str, **changes: Any) -> Record:
    """Its last word: an error."""
    facts = {"state": State.FAILED, "code": code_of(name), "text": text, "sequence": 9}
    return record(job, **{**facts, **changes})


def values_of(*numbers: int) -> bytes:
    """Integers as values of slices."""
    return b"".join((number & (1 << 64) - 1).to_bytes(8, "little") for number in numbers)


class FakeMesh(Mesh):
    """Answers at once; `fails` makes every task end with an error, `hangs` makes none end.

    `script(job)` is what a scatter hears when it is submitted or followed. A cancel ends it, and
    every wish is noted in `asked`.
    """

    files: Any = None  # those who need them give their own
    kv: Any = None

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
        self.jobs_known: list[ScatterJob] = []
        self.followed: list[tuple[ScatterJob, bool]] = []
        self.asked: list[tuple[int, Ask]] = []
        self.script: Callable[[ScatterJob], None] = lambda job: job.heard(done(job))

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

    def _scatter(self, job: ScatterJob, module: Module) -> None:
        self.jobs_known.append(job)
        self.script(job)

    def _follow(self, job: ScatterJob) -> None:
        self.followed.append((job, job.wants_values))
        known = next((known for known in self.jobs_known if known.number == job.number), None)
        if known is None:
            text = f"no node of the mesh knows a job {job.id}"
            job.fail(error_from(code_of("JOB_UNKNOWN"), text))
            return
        assert known.spec is not None
        job.heard_spec(known.spec)
        self.script(job)

    def _ask_job(self, job_id: int, ask: Ask) -> None:
        self.asked.append((job_id, ask))
        if ask is Ask.CANCEL:
            for job in [*self.jobs_known, *(job for job, _ in self.followed)]:
                if job.number == job_id:
                    over = {"state": State.CANCELLED, "code": code_of("CANCELLED")}
                    job.heard(record(job, **over, text="job was cancelled", sequence=99))

    def _jobs(self) -> list[dict[str, Any]]:
        return [as_plain(job.record or record(job), job.spec) for job in self.jobs_known]


def install(monkeypatch: pytest.MonkeyPatch) -> FakeMesh:
    """Makes `connect` of every command give this mesh; its arguments are the first call noted."""
    mesh = FakeMesh()

    def connect(address: str | None = None, **options: Any) -> FakeMesh:
        mesh.calls.append(("connect", address, options))
        return mesh

    monkeypatch.setattr("velum.client.connect", connect)
    return mesh
