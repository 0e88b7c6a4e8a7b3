"""The handle of a scatter and the making of its spec: what is refused, told, waited for, asked."""

from __future__ import annotations

import asyncio
import concurrent.futures
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import velum
from tests.unit.fakes import FakeMesh, done, failed, record, values_of
from velum import wasm
from velum.errors import CallerError, PeerLost, TaskStopped, code_of, error_from
from velum.policy.job import F64, I32, I64, Ask, Failure, Reduce, Spec, State
from velum.policy.slices import SLICES_MAX
from velum.scatterjob import ASKS_MAX, Pace, ScatterJob
from velum.scatterspec import job_number

GUESTS = Path(__file__).parents[1] / "guests"
PRIMES = GUESTS / "primes.wasm"
TYPES = GUESTS / "types.wasm"
PATIENCE_S = 10.0


@pytest.fixture
def mesh() -> FakeMesh:
    """Its jobs hear nothing but what the test says."""
    mesh = FakeMesh()
    mesh.script = lambda job: None
    return mesh


def primes(mesh: FakeMesh, slices: int = 4, **options: Any) -> ScatterJob:
    return mesh.scatter(PRIMES, "count_primes", 0, 100, slices=slices, **options)


def later(*steps: Callable[[], object]) -> threading.Thread:
    """Runs the steps in another thread, as the loop does."""
    thread = threading.Thread(target=lambda: [step() for step in steps])
    thread.start()
    return thread


# ---- the spec ----


def spec_of(mesh: FakeMesh, *args: Any, **options: Any) -> Spec:
    spec = mesh.scatter(*args, **options).spec
    assert spec is not None
    return spec


def test_spec(mesh: FakeMesh) -> None:
    spec = spec_of(mesh, PRIMES, "count_primes", 0, 50_000_000)
    assert 0 < spec.job < 1 << 63
    assert (spec.flags, spec.reduce, spec.priority, spec.result) == (0, Reduce.SUM, 10, I32)
    assert (spec.slices, spec.timeout_ms, spec.limit_ms, spec.fuel, spec.pages) == (
        4096,
        0,
        0,
        0,
        0,
    )
    assert (spec.function, spec.label) == ("count_primes", "primes.wasm")
    assert spec.hash == wasm.load(PRIMES).hash
    assert spec.args == ((I32, 0), (I32, 50_000_000))
    assert spec.job != spec_of(mesh, PRIMES, "count_primes", 0, 50_000_000).job


def test_spec_with_everything(mesh: FakeMesh) -> None:
    job = mesh.scatter(
        PRIMES,
        "count_primes",
        -100,
        100,
        reduce="all",
        missing=-1,
        slices=10,
        keep_going=True,
        wrap=True,
        priority=100,
        timeout=0.5,
        limit=60,
        fuel=7,
        pages=2,
    )
    spec = job.spec
    assert spec is not None
    assert (spec.flags, spec.reduce, spec.priority, spec.slices) == (3, Reduce.ALL, 100, 10)
    assert (spec.timeout_ms, spec.limit_ms, spec.fuel, spec.pages) == (500, 60_000, 7, 2)
    assert (spec.missing, spec.start, spec.end) == (0xFFFFFFFF, -100, 100)
    assert job.wants_values and not primes(mesh).wants_values
    assert primes(mesh, values=True).wants_values


def test_extra_arguments_are_typed_by_the_signature(mesh: FakeMesh) -> None:
    spec = spec_of(mesh, GUESTS / "sum.wasm", "sum", 0, 10, 0xFFFFFFFF)
    assert spec.args[2] == (I32, 0xFFFFFFFF)
    assert spec_of(mesh, GUESTS / "sum.wasm", "sum", 0, 10, -1).args[2] == (I32, 0xFFFFFFFF)


@pytest.mark.parametrize(("start", "end", "slices"), [(0, 0, 0), (5, 5, 0), (0, 3, 3), (-1, 1, 2)])
def test_a_short_range_has_fewer_slices(mesh: FakeMesh, start: int, end: int, slices: int) -> None:
    assert spec_of(mesh, PRIMES, "count_primes", start, end).slices == slices


def test_i64_ranges(mesh: FakeMesh) -> None:
    spec = spec_of(mesh, TYPES, "add_i64", -(1 << 63), (1 << 63) - 1)
    assert (spec.start, spec.end, spec.result) == (-(1 << 63), (1 << 63) - 1, I64)


@pytest.mark.parametrize(
    ("args", "options", "name", "text"),
    [
        ((PRIMES, "is_prime", 0, 9), {}, "SIGNATURE", r"is_prime\(i32\) -> i32"),
        ((TYPES, "add_f64", 0, 9), {}, "SIGNATURE", "two i32 or two i64"),
        ((TYPES, "mixed", 0, 9), {}, "SIGNATURE", "two i32 or two i64"),
        ((TYPES, "nope", 0, 9), {}, "NO_EXPORT", "it has: "),
        ((PRIMES, "count_primes", 0, 9, 1), {}, "SIGNATURE", "takes 2 arguments, got 3"),
        ((GUESTS / "sum.wasm", "sum", 0, 9, 1.5), {}, "SIGNATURE", "1.5 is not an integer"),
        ((PRIMES, "count_primes", 0, 1 << 31), {}, "SIGNATURE", "function of i64 for larger"),
        ((PRIMES, "count_primes", -(1 << 31) - 1, 0), {}, "SIGNATURE", "does not fit the i32"),
        ((TYPES, "add_i64", 0, 1 << 63), {}, "SIGNATURE", "does not fit the i64"),
        ((PRIMES, "count_primes", 0.0, 9), {}, "SIGNATURE", "from integer to integer"),
        ((PRIMES, "count_primes", False, 9), {}, "SIGNATURE", "from integer to integer"),
        ((PRIMES, "count_primes", 9, 0), {}, "ARGUMENT", "backwards"),
        ((PRIMES, "count_primes", 0, 9), {"reduce": "avg"}, "ARGUMENT", "there are sum, product"),
        ((PRIMES, "count_primes", 0, 9), {"reduce": "first"}, "ARGUMENT", "missing=-1"),
        ((PRIMES, "count_primes", 0, 9), {"missing": -1}, "ARGUMENT", "no use for a missing"),
        (
            (PRIMES, "count_primes", 0, 9),
            {"reduce": "all", "missing": 1 << 32},
            "SIGNATURE",
            "missing: 4294967296 does not fit i32",
        ),
        ((PRIMES, "count_primes", 0, 0), {"reduce": "min"}, "ARGUMENT", "empty range"),
        ((PRIMES, "count_primes", 0, 9), {"slices": 0}, "ARGUMENT", "slices 0 is not in 1.."),
        ((PRIMES, "count_primes", 0, 9), {"slices": SLICES_MAX + 1}, "ARGUMENT", "slices"),
        ((PRIMES, "count_primes", 0, 9), {"slices": "x"}, "ARGUMENT", "slices is an integer"),
        ((PRIMES, "count_primes", 0, 9), {"priority": 0}, "ARGUMENT", "priority"),
        ((PRIMES, "count_primes", 0, 9), {"priority": 101}, "ARGUMENT", "priority"),
        ((PRIMES, "count_primes", 0, 9), {"fuel": -1}, "ARGUMENT", "fuel"),
        ((PRIMES, "count_primes", 0, 9), {"timeout": 0}, "ARGUMENT", "not positive"),
        ((PRIMES, "count_primes", 0, 9), {"limit": -1}, "ARGUMENT", "not positive"),
    ],
)
def test_mistakes_are_said_before_anything_is_sent(
    mesh: FakeMesh, args: Any, options: Any, name: str, text: str
) -> None:
    with pytest.raises(velum.VelumError, match=text) as caught:
        mesh.scatter(*args, **options)
    assert caught.value.name == name
    assert mesh.jobs_known == []


def test_floats_have_no_bitwise_reductions(mesh: FakeMesh, tmp_path: Path) -> None:
    with pytest.raises(velum.VelumError, match="xor takes integers"):
        mesh.scatter(GUESTS / "floats.wasm", floats_function(), 0, 9, reduce="xor")


def floats_function() -> str:
    """A function of floats.wasm that takes a range and returns a float."""
    module = wasm.load(GUESTS / "floats.wasm")
    for name in module.functions():
        params, result = module.signature(name)
        if params in (("i32", "i32"), ("i64", "i64")) and result in ("f32", "f64"):
            return name
    pytest.skip("no float function over a range among the guests")


@pytest.mark.parametrize("text", ["", "xyz", "0x12", "12345678901234567", "-1", "1_0"])
def test_ids_that_are_none(text: str) -> None:
    with pytest.raises(velum.VelumError, match="no job's id"):
        job_number(text, list)


def test_ids_by_their_first_digits() -> None:
    def jobs() -> list[dict[str, Any]]:
        return [{"id": "00ab000000000001"}, {"id": "00ac000000000002"}, {"id": "f" * 16}]

    assert job_number("00AB", jobs) == 0x00AB000000000001
    assert job_number("f", jobs) == (1 << 64) - 1
    assert job_number("0000000000000007", lambda: []) == 7
    with pytest.raises(velum.VelumError, match="00ab000000000001, 00ac000000000002"):
        job_number("00a", jobs)
    with pytest.raises(velum.VelumError) as caught:
        job_number("1", jobs)
    assert caught.value.name == "JOB_UNKNOWN"


# ---- the answer ----


def test_the_answer_of_a_number(mesh: FakeMesh) -> None:
    job = primes(mesh)
    assert not job.done() and job.progress().state == "waiting"
    thread = later(lambda: job.heard(record(job)), lambda: job.heard(done(job)))
    assert job.result(PATIENCE_S) == 41538
    thread.join()
    assert job.done() and job.exception() is None and job.over
    assert repr(job) == f"<ScatterJob {job.id} done>" and len(job.id) == 16


def test_answers_have_their_type(mesh: FakeMesh) -> None:
    for kind, bits, expected in (
        (I64, (1 << 64) - 5, -5),
        (I32, 0xFFFFFFFF, -1),
        (F64, struct.unpack("<Q", struct.pack("<d", -0.0))[0], -0.0),
    ):
        job = primes(mesh)
        job.heard(done(job, answer=(kind, bits)))
        assert repr(job.result()) == repr(expected)


def test_a_list_is_made_of_the_slices(mesh: FakeMesh) -> None:
    job = primes(mesh, reduce="collect")
    job.heard_slices([(2, values_of(30, -40))], [])
    job.heard(done(job, answer=None))
    assert not job.done(), "the first two are not here"
    job.heard_slices([(0, values_of(10, 20))], [])
    assert job.result(PATIENCE_S) == [10, 20, 30, -40]


def test_an_empty_list(mesh: FakeMesh) -> None:
    job = mesh.scatter(PRIMES, "count_primes", 7, 7, reduce="collect")
    job.heard(done(job, answer=None))
    assert job.result(0) == [] and list(job) == [] and list(job.as_completed()) == []


def test_a_failed_job(mesh: FakeMesh) -> None:
    job = primes(mesh)
    job.heard(failed(job, "TRAP_MEMORY", "slice 3 [75, 100): memory access out of bounds"))
    with pytest.raises(velum.GuestTrap, match=r"slice 3 \[75, 100\)"):
        job.result()
    assert isinstance(job.exception(), velum.GuestTrap)


def test_waiting_too_short(mesh: FakeMesh) -> None:
    job = primes(mesh)
    for wait in (job.result, job.exception):
        with pytest.raises(concurrent.futures.TimeoutError):
            wait(0.01)
    assert not job.wait(0.01) and not job.wait_progress(0.01)


def test_it_is_a_future(mesh: FakeMesh) -> None:
    job, other = primes(mesh), primes(mesh)
    seen: list[Any] = []
    job.add_done_callback(lambda done: seen.append(done.result()))
    later(lambda: job.heard(done(job)))
    finished, unfinished = concurrent.futures.wait([job, other], PATIENCE_S, "FIRST_COMPLETED")
    assert (finished, unfinished, seen) == ({job}, {other}, [41538])


def test_await(mesh: FakeMesh) -> None:
    async def wait() -> Any:
        job = primes(mesh)
        later(lambda: job.heard(done(job)))
        return await job

    assert asyncio.run(wait()) == 41538


def test_an_awaited_job_is_cancelled_with_its_waiter(mesh: FakeMesh) -> None:
    async def impatient() -> None:
        job = primes(mesh)

        async def wait() -> None:
            await job

        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(wait(), 0.01)

    asyncio.run(impatient())
    assert [ask for _, ask in mesh.asked] == [Ask.CANCEL]


def test_a_lost_mesh(mesh: FakeMesh) -> None:
    job = primes(mesh, values=True)
    job.heard_slices([(0, values_of(1))], [])
    values = iter(job)
    assert next(values) == 1
    later(lambda: job.fail(error_from(code_of("UNREACHABLE"))))
    with pytest.raises(PeerLost):
        next(values)
    with pytest.raises(PeerLost):
        job.result(PATIENCE_S)


# ---- words ----


def test_a_lesser_claim_and_an_older_word_are_ignored(mesh: FakeMesh) -> None:
    job = primes(mesh)
    job.heard(record(job, epoch=2, sequence=5, done=3))
    job.heard(record(job, epoch=1, sequence=9, done=1))
    job.heard(record(job, epoch=2, sequence=4, done=2))
    assert job.progress().done == 3
    job.heard(record(job, epoch=3, sequence=1, done=2))
    assert job.progress().done == 2
    job.heard(record(job, epoch=9, done=4)._replace(job=job.number ^ 1))
    assert job.progress().done == 2


def test_words_behind_the_end_change_nothing(mesh: FakeMesh) -> None:
    job = primes(mesh)
    job.heard(failed(job, "FUEL", "slice 1: out of fuel"))
    job.heard(done(job, attempt=2))
    assert job.progress().state == "failed"
    assert isinstance(job.exception(), velum.GuestTrap)


def test_slices_that_are_none_of_the_job(mesh: FakeMesh) -> None:
    job = primes(mesh, values=True)
    job.heard_slices([(3, values_of(1, 2)), (9, values_of(3))], [Failure(4, 60), Failure(1, 0)])
    job.heard_slices([(0, values_of(1, 2, 3, 4))], [])
    job.heard(done(job))
    assert list(job) == [1, 2, 3, 4]


def test_values_are_not_kept_unless_wanted(mesh: FakeMesh) -> None:
    job = primes(mesh)
    job.heard_slices([(0, values_of(1, 2, 3, 4))], [])
    assert job._ledger is None


# ---- values ----


def test_iteration_in_order_as_they_come(mesh: FakeMesh) -> None:
    job = primes(mesh, values=True)
    values = iter(job)
    job.heard_slices([(2, values_of(30))], [])
    job.heard_slices([(0, values_of(10))], [])
    assert next(values) == 10
    thread = later(
        lambda: job.heard_slices([(3, values_of(40))], []),
        lambda: job.heard_slices([(1, values_of(20))], []),
        lambda: job.heard(done(job)),
    )
    assert list(values) == [20, 30, 40]
    thread.join()
    assert list(job.as_completed()) == [(2, 30), (0, 10), (3, 40), (1, 20)]


def test_as_completed_while_runs_grow(mesh: FakeMesh) -> None:
    job = primes(mesh, slices=100, values=True)
    found = job.as_completed()
    for index in range(99, -1, -1):
        job.heard_slices([(index, values_of(index))], [])
        assert next(found) == (index, index)
    job.heard_slices([(0, values_of(*range(100)))], [])
    job.heard(done(job))
    assert list(found) == []


def test_many_values(mesh: FakeMesh) -> None:
    job = mesh.scatter(PRIMES, "count_primes", 0, 10_000, slices=10_000, reduce="collect")
    later(
        lambda: job.heard_slices([(5000, values_of(*range(5000, 10_000)))], []),
        lambda: job.heard_slices([(0, values_of(*range(5000)))], []),
        lambda: job.heard(done(job, answer=None)),
    )
    assert list(job) == list(range(10_000)) == job.result(PATIENCE_S)
    assert dict(job.as_completed()) == {index: index for index in range(10_000)}


def test_iterating_asks_for_the_values_once(mesh: FakeMesh) -> None:
    job = primes(mesh)
    job.heard(done(job))
    assert job.over and mesh.followed == []

    def tell(again: ScatterJob) -> None:
        later(lambda: again.heard_slices([(0, values_of(1, 2, 3, 4))], []))

    mesh.script = tell
    assert list(job) == [1, 2, 3, 4]
    assert list(job) == [1, 2, 3, 4] and mesh.followed == [(job, True)]


def test_failed_slices_are_left_out_with_keep_going(mesh: FakeMesh) -> None:
    job = primes(mesh, keep_going=True, values=True)
    job.heard_slices([(0, values_of(1)), (3, values_of(4))], [Failure(1, 65, "unreachable")])
    job.heard_slices([], [Failure(2, 66)])
    assert job.failures() == [], "the coordinator has not told of any"
    job.heard(done(job, done=2, failed=2))
    assert list(job) == [1, 4]
    assert job.failures() == [Failure(1, 65, "unreachable"), Failure(2, 66)]


def test_a_failed_slice_is_an_error_in_its_place(mesh: FakeMesh) -> None:
    job = primes(mesh, values=True)
    values = iter(job)
    job.heard_slices([(0, values_of(1)), (2, values_of(3))], [Failure(1, 65, "unreachable")])
    job.heard(failed(job, "TRAP_UNREACHABLE", "slice 1: unreachable", done=2, failed=1))
    assert next(values) == 1
    with pytest.raises(velum.GuestTrap, match="slice 1"):
        next(values)
    found = job.as_completed()
    assert [next(found), next(found)] == [(0, 1), (2, 3)]
    with pytest.raises(velum.GuestTrap):
        next(found)


def test_an_error_of_the_answer_alone_leaves_the_values(mesh: FakeMesh) -> None:
    job = primes(mesh, values=True)
    job.heard_slices([(0, values_of(1, 2, 3, 4))], [])
    job.heard(failed(job, "OVERFLOW", "the sum does not fit i64", done=4))
    assert list(job) == [1, 2, 3, 4]


def test_first_ends_the_values_early(mesh: FakeMesh) -> None:
    job = primes(mesh, reduce="first", missing=-1, values=True)
    job.heard_slices([(0, values_of(-1, 25))], [])
    job.heard(done(job, done=2, answer=(I32, 25)))
    assert list(job) == [-1, 25] and job.result() == 25


def test_failures_are_asked_for(mesh: FakeMesh) -> None:
    job = primes(mesh, keep_going=True)
    job.heard(done(job, done=3, failed=1))
    with pytest.raises(concurrent.futures.TimeoutError):
        job.failures(0.01)
    later(lambda: job.heard_slices([(0, values_of(1, 2, 3))], [Failure(3, 65)]))
    assert job.failures(PATIENCE_S) == [Failure(3, 65)]
    assert mesh.followed == [(job, True)]


# ---- following ----


def test_following_by_id(mesh: FakeMesh) -> None:
    first = primes(mesh, reduce="collect")
    job = mesh.job(first.id[:12])
    assert job.spec == first.spec and job.number == first.number
    assert [wants for _, wants in mesh.followed] == [False, True], "a list needs its values"
    job.heard_slices([(0, values_of(1, 2, 3, 4))], [])
    job.heard(done(job, answer=None))
    assert job.result(0) == [1, 2, 3, 4]
    assert mesh.job(first.number).number == first.number
    assert [row["id"] for row in mesh.jobs()] == [first.id]


def test_following_nothing(mesh: FakeMesh) -> None:
    with pytest.raises(velum.VelumError, match="knows a job 0000000000000007"):
        mesh.job("0000000000000007").result(0)


def test_cancel(mesh: FakeMesh) -> None:
    job = primes(mesh)
    assert job.cancel() and job.done() and not job.cancelled()
    with pytest.raises(TaskStopped, match="cancelled"):
        job.result()
    assert not job.cancel()
    assert mesh.asked == [(job.number, Ask.CANCEL)]


def test_a_cancel_that_is_lost_is_sent_again(mesh: FakeMesh, monkeypatch: Any) -> None:
    job = primes(mesh)
    asked: list[Ask] = []
    monkeypatch.setattr(mesh, "_ask_job", lambda _number, ask: asked.append(ask))
    assert job.cancel() and not job.done()
    job.heard(record(job, epoch=2))
    assert asked == [Ask.CANCEL, Ask.CANCEL]
    job.heard(done(job, epoch=2))
    assert job.result() == 41538 and len(asked) == 2


def test_resume(mesh: FakeMesh) -> None:
    job = primes(mesh, values=True)
    job.heard_slices([(0, values_of(1))], [Failure(1, 70)])
    job.heard(failed(job, "FUEL", "slice 1: out of fuel", done=1, failed=1))
    again = job.resume()
    assert mesh.asked == [(job.number, Ask.RESUME)] and mesh.followed[-1] == (again, True)
    again.heard_slices([(0, values_of(1))], [Failure(1, 70)])
    again.heard(failed(job, "FUEL", "slice 1: out of fuel", done=1, failed=1))
    assert not again.done(), "that is the end from before"
    assert mesh.asked[1:] == [(job.number, Ask.RESUME)], "the wish may have been lost"
    again.heard(record(job, attempt=2, epoch=2, done=1, elapsed_ms=0))
    again.heard_slices([(1, values_of(2, 3, 4))], [])
    again.heard(done(job, attempt=2, epoch=2))
    assert again.result(0) == 41538 and list(again) == [1, 2, 3, 4]
    assert job.progress().state == "failed"


def test_a_resume_that_nobody_does(mesh: FakeMesh) -> None:
    job = primes(mesh)
    end = failed(job, "FUEL", "out of fuel")
    job.heard(end)
    again = job.resume()
    for _ in range(ASKS_MAX):
        again.heard(end)
        assert not again.done()
    again.heard(end)
    assert isinstance(again.exception(0), velum.GuestTrap)
    assert len(mesh.asked) == 1 + ASKS_MAX


def test_a_resume_that_finds_the_job_done(mesh: FakeMesh) -> None:
    job = primes(mesh)
    job.heard(record(job, state=State.CANCELLED, code=code_of("CANCELLED")))
    again = job.resume()
    again.heard(done(job))
    assert again.result(0) == 41538


@pytest.mark.parametrize("end", [None, record, done])
def test_only_an_end_is_resumed(mesh: FakeMesh, end: Any) -> None:
    job = primes(mesh)
    if end is not None:
        job.heard(end(job))
    with pytest.raises(CallerError, match="only"):
        job.resume()
    assert mesh.asked == []


# ---- progress ----


def test_progress(mesh: FakeMesh) -> None:
    job = primes(mesh, slices=100)
    job.heard(record(job, elapsed_ms=0, done=0, shares=()))
    for sequence in range(2, 12):
        word = record(job, sequence=sequence, elapsed_ms=sequence * 100, done=sequence * 4)
        job.heard(word)
    now = job.progress()
    assert (now.state, now.done, now.slices, now.coordinator) == ("running", 44, 100, 2)
    assert now.rate == pytest.approx(40, rel=0.01)
    assert now.eta_s is not None and 0 < now.eta_s <= 1.4
    assert 1.1 <= now.elapsed_s < 1.1 + PATIENCE_S
    assert [share.node for share in now.nodes] == [1, 2]
    job.heard(done(job, elapsed_ms=2000))
    end = job.progress()
    assert (end.rate, end.eta_s, end.elapsed_s) == (50.0, None, 2.0)
    assert end.as_dict()["nodes"][0]["node"] == 1


def test_wait_progress_wakes_with_every_word(mesh: FakeMesh) -> None:
    job = primes(mesh)
    later(lambda: job.heard(record(job)))
    assert job.wait_progress(PATIENCE_S)
    assert not job.wait_progress(0.01), "that was told already"
    later(lambda: job.heard(record(job, sequence=2)))
    assert job.wait_progress(PATIENCE_S) and job._watching == []


def test_pace_is_that_of_the_last_seconds() -> None:
    pace = Pace()
    assert pace.rate == 0
    for second in range(60):
        pace.note(second * 1000, second * 100 if second < 30 else 3000 + (second - 30) * 10)
    assert pace.rate == pytest.approx(10)
    pace.note(100, 0)
    assert pace.rate == 0, "another coordinator began anew"


def test_pace_of_a_job_that_stands_still() -> None:
    pace = Pace()
    for second in range(20):
        pace.note(second * 1000, min(second, 3) * 100)
    assert pace.rate == 0
