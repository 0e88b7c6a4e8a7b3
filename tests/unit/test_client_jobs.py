"""What a client sends of its scatters, and again when a node is lost; its hub is plain Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fakes import FakeMesh, done, failed, record, values_of
from velum import _core, frames, wasm
from velum.client_jobs import ClientJobs
from velum.errors import code_of, error_from
from velum.policy.job import VALUES, Ask, Record, Spec
from velum.scatterjob import ScatterJob

PRIMES = Path(__file__).parents[1] / "guests" / "primes.wasm"
LINK = 7


class FakeHub:
    """Takes frames while there is `room`; counts pins."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, int, bytes]] = []
        self.room = 1000
        self.pins: dict[bytes, int] = {}

    def send(self, link: int, kind: int, correlation: int, payload: bytes) -> bool:
        assert link == LINK
        if len(self.sent) < self.room:
            self.sent.append((kind, correlation, payload))
            return True
        return False

    def module_pin(self, hash: bytes) -> bool:
        known = hash in self.pins
        if known:
            self.pins[hash] += 1
        return known

    def module_add(self, data: bytes) -> None:
        self.pins[wasm.load(data).hash] = 0

    def module_unpin(self, hash: bytes) -> None:
        self.pins[hash] -= 1


class World:
    """A client's jobs, attached to a node unless `attached` is false."""

    def __init__(self) -> None:
        self.hub = FakeHub()
        self.handlers: dict[int, Callable[..., None]] = {}
        self.attached = True
        self.number = 0
        self.jobs = ClientJobs(self, self._draw, self._pump)  # type: ignore[arg-type]
        self.mesh = FakeMesh()
        self.mesh._follow = self.jobs.follow  # type: ignore[method-assign]
        self.mesh._ask_job = self.jobs.ask  # type: ignore[method-assign]

    def on_frame(self, kind: int, handler: Callable[..., None]) -> None:
        self.handlers[kind] = handler

    def call_soon(self, function: Callable[..., None], *args: Any) -> None:
        function(*args)

    def _draw(self) -> int:
        self.number += 1
        return self.number

    def _pump(self) -> None:
        if self.attached:
            self.jobs.send(LINK)

    def submit(self, **options: Any) -> ScatterJob:
        self.mesh.script = lambda job: self.jobs.submit(job, wasm.load(PRIMES))
        return self.mesh.scatter(PRIMES, "count_primes", 0, 100, slices=4, **options)

    def follow(self, job: ScatterJob) -> ScatterJob:
        again = ScatterJob(self.mesh, job.number)
        self.jobs.follow(again)
        return again

    def hear(self, correlation: int, word: Record) -> None:
        body = (*word[:-1], tuple(map(tuple, word.shares)))
        self.handlers[frames.JOB](LINK, correlation, body)

    def hear_slices(self, correlation: int, job: ScatterJob, values: bytes) -> None:
        body = (job.number, 0, 0, [(0, values)], [(3, 65, "unreachable")], b"")
        self.handlers[frames.SLICES](LINK, correlation, body)

    def taken(self) -> list[tuple[int, int, Any]]:
        """What was sent since this was asked last, decoded."""
        sent, self.hub.sent = self.hub.sent, []
        return [(kind, correlation, decoded(kind, data)) for kind, correlation, data in sent]

    @property
    def pinned(self) -> int:
        return sum(self.hub.pins.values())


def decoded(kind: int, payload: bytes) -> Any:
    if kind == frames.SCATTER:
        return Spec._make(_core.decode_scatter(payload))
    assert kind == frames.JOB_ASK
    return int.from_bytes(payload[:8], "little"), Ask(payload[8]), payload[9]


@pytest.fixture
def world() -> World:
    return World()


def test_a_job_is_submitted_and_let_go_of_at_its_end(world: World) -> None:
    job = world.submit()
    assert world.taken() == [(frames.SCATTER, 1, job.spec)]
    assert (len(world.jobs), world.pinned) == (1, 1)
    world.hear(1, record(job))
    assert job.progress().nodes[0].done == 2 and len(world.jobs) == 1
    world.hear(1, done(job))
    assert (job.result(0), len(world.jobs), world.pinned) == (41538, 0, 0)
    world.hear(1, failed(job, "FUEL", "late"))
    assert job.result(0) == 41538


def test_values_are_asked_for_with_the_job_or_later(world: World) -> None:
    job = world.submit(values=True)
    assert job.spec is not None
    assert world.taken()[0][2] == job.spec._replace(flags=VALUES)
    later = world.submit()
    world.taken()
    values = later.as_completed()
    world.hear_slices(2, later, values_of(1, 2, 3))
    later._want_values()
    assert world.taken() == [(frames.JOB_ASK, 2, (later.number, Ask.WATCH, VALUES))]
    world.hear_slices(2, later, values_of(1, 2, 3))
    assert [next(values), next(values)] == [(0, 1), (1, 2)]
    assert len(world.jobs) == 2, "asked again, it is still one job"


def test_the_values_of_a_job_that_is_over(world: World) -> None:
    job = world.submit()
    world.hear(1, done(job, done=3, failed=1))
    world.taken()
    job._want_values()
    assert world.taken() == [(frames.JOB_ASK, 2, (job.number, Ask.WATCH, VALUES))]
    world.hear_slices(2, job, values_of(1, 2, 3))
    assert [failure.slice for failure in job.failures(0)] == [3]
    assert len(world.jobs) == 0, "all is told"


def test_a_lost_node_is_replaced(world: World) -> None:
    job = world.submit()
    other = world.follow(job)
    world.taken()
    world.attached = False
    world.jobs.lost()
    other.cancel()
    assert world.taken() == []
    world.attached = True
    world.jobs.send(LINK)
    ask, cancel = (job.number, Ask.WATCH, 0), (job.number, Ask.CANCEL, 0)
    assert [(kind, body) for kind, _, body in world.taken()] == [
        (frames.SCATTER, job.spec),
        (frames.JOB_ASK, ask),
        (frames.JOB_ASK, cancel),
    ]


def test_a_wish_outlives_the_node_it_waited_for(world: World) -> None:
    job = world.submit()
    world.taken()
    world.attached = False
    job.cancel()
    world.jobs.lost()
    world.jobs.send(LINK)
    assert [kind for kind, _, _ in world.taken()] == [frames.JOB_ASK, frames.SCATTER]


def test_a_full_queue_keeps_the_order(world: World) -> None:
    world.hub.room = 1
    first, second = world.submit(), world.submit()
    assert [body.job for _, _, body in world.taken()] == [first.number]
    assert world.jobs.send(LINK)
    assert [body.job for _, _, body in world.taken()] == [second.number]
    world.hub.room = 0
    world.submit()
    assert not world.jobs.send(LINK) and world.taken() == []


def test_errors_are_of_their_job(world: World) -> None:
    job, other = world.submit(), world.submit()
    assert not world.jobs.fail(99, error_from(code_of("BUSY")))
    assert world.jobs.fail(1, error_from(code_of("BUSY"), "64 jobs"))
    assert str(job.exception(0)) == "64 jobs" and not other.done() and world.pinned == 1
    assert world.jobs.fail(2, error_from(code_of("LEAVING"))) and len(world.jobs) == 1
    assert not other.done(), "the next node is asked"


def test_a_mesh_that_cannot_be_reached(world: World) -> None:
    job = world.submit()
    world.jobs.fail_all(error_from(code_of("UNREACHABLE")))
    assert job.done() and world.pinned == 0
    assert not world.submit().done(), "there may be a node again"
    world.jobs.close(error_from(code_of("CLOSED")))
    assert world.submit().done() and world.pinned == 0


def test_what_follows_by_id_hears_the_spec(world: World) -> None:
    job = world.submit(reduce="collect")
    other = world.follow(job)
    world.taken()
    assert job.spec is not None
    world.handlers[frames.SCATTER](LINK, 2, tuple(job.spec))
    assert other.spec == job.spec
    assert world.taken() == [(frames.JOB_ASK, 2, (job.number, Ask.WATCH, VALUES))]
    world.handlers[frames.SCATTER](LINK, 99, tuple(job.spec))
    world.handlers[frames.SLICES](LINK, 99, (1, 0, 0, [], [], b""))
