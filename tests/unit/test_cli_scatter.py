"""scatter, jobs and job through main(argv), and the picture of a job, against a mesh of Python."""

from __future__ import annotations

import io
import json
import os
import re
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit import fakes
from tests.unit.fakes import done, failed, record, values_of
from velum.cli import main, progress, scatter, show, table
from velum.cli.progress import JobDisplay
from velum.errors import code_of, error_from
from velum.policy.job import I32, Ask, Failure, Reduce, Share, State
from velum.scatterjob import Progress, ScatterJob

GUESTS = Path(__file__).parents[1] / "guests"
PRIMES = f"{GUESTS}/primes.wasm"
WORDS = ["scatter", PRIMES, "count_primes", "0", "1e2", "--slices", "4"]
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@pytest.fixture
def mesh(monkeypatch: pytest.MonkeyPatch) -> fakes.FakeMesh:
    for name in list(os.environ):
        if name.startswith("VELUM_") and name != "VELUM_WORKER":
            monkeypatch.delenv(name)
    return fakes.install(monkeypatch)


class Terminal(io.StringIO):
    """A stream that says a person looks at it."""

    def isatty(self) -> bool:
        return True


# ---- velum scatter ----


def test_the_answer_alone(mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(WORDS) == 0
    assert capsys.readouterr() == ("41538\n", "")
    assert mesh.closed and mesh.calls == [("connect", None, {"beacon_port": 8888})]


def test_options_become_the_spec(mesh: fakes.FakeMesh) -> None:
    options = "--reduce first --missing -1 --keep-going --wrap --priority 50 --timeout 500ms"
    more = "--limit 1min --fuel 9 --memory 1M -v"
    assert main([*WORDS, *options.split(), *more.split()]) == 0
    (job,) = mesh.jobs_known
    spec = job.spec
    assert spec is not None
    assert (spec.reduce, spec.missing, spec.flags) == (Reduce.FIRST, 0xFFFFFFFF, 3)
    assert (spec.priority, spec.timeout_ms, spec.limit_ms) == (50, 500, 60_000)
    assert (spec.fuel, spec.pages, spec.slices) == (9, 16, 4)


def test_extra_arguments(mesh: fakes.FakeMesh) -> None:
    assert main(["scatter", f"{GUESTS}/sum.wasm", "sum", "-5", "0x10", "-7"]) == 0
    (job,) = mesh.jobs_known
    assert job.spec is not None and job.spec.args == (
        (I32, 0xFFFFFFFB),
        (I32, 16),
        (I32, 0xFFFFFFF9),
    )


def test_the_reductions_are_those_of_the_policy() -> None:
    (reduce,) = (setting for setting in table.SCATTER.settings if setting.name == "reduce")
    assert reduce.choices == tuple(known.name.lower() for known in Reduce)


def test_a_list_is_a_value_a_line(mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str]) -> None:
    def script(job: ScatterJob) -> None:
        job.heard_slices([(0, values_of(1, -2, 3, 4))], [])
        job.heard(done(job, answer=None))

    mesh.script = script
    assert main([*WORDS, "--reduce", "collect"]) == 0
    assert capsys.readouterr().out == "1\n-2\n3\n4\n"


def test_verbose_says_how_it_went(mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str]) -> None:
    mesh.script = lambda job: job.heard(done(job, elapsed_ms=3210, retries=1, duplicates=7))
    assert main([*WORDS, "-v"]) == 0
    told = "4 slices in 3.21 s on 1 node; 1 lease granted again, 7 slices run twice\n"
    assert capsys.readouterr() == ("41538\n", told)


def test_json(mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str]) -> None:
    mesh.script = lambda job: job.heard(done(job, retries=3, duplicates=2))
    assert main([*WORDS, "--json"]) == 0
    final = json.loads(capsys.readouterr().out)
    (job,) = mesh.jobs_known
    assert (final["id"], final["state"], final["answer"]) == (job.id, "done", 41538)
    assert (final["retries"], final["duplicates"], final["failures"]) == (3, 2, [])
    assert final["nodes"][0] == {"node": 1, "leases": 2, "done": 2, "busy_ms": 900}
    assert (final["module"], final["function"]) == ("primes.wasm", "count_primes")


def test_failed_slices_are_listed(mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str]) -> None:
    failures = [Failure(1, code_of("TRAP_MEMORY"), "out\nof bounds"), Failure(3, code_of("FUEL"))]

    def script(job: ScatterJob) -> None:
        job.heard(done(job, done=2, failed=2))
        job.heard_slices([(0, values_of(1)), (2, values_of(3))], failures)

    mesh.script = script
    assert main([*WORDS, "--keep-going"]) == 0
    out, err = capsys.readouterr()
    first, second = err.splitlines()
    assert out == "41538\n" and first == "slice 1 [25, 50) failed: out of bounds"
    assert second.startswith("slice 3 [75, 100) failed: ") and "fuel" in second
    assert main([*WORDS, "--keep-going", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)["failures"]
    assert described[0] == {
        "slice": 1,
        "range": [25, 50],
        "code": code_of("TRAP_MEMORY"),
        "name": "TRAP_MEMORY",
        "text": "out\nof bounds",
    }


def test_many_failed_slices_are_counted(
    mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str]
) -> None:
    def script(job: ScatterJob) -> None:
        job.heard(done(job, done=0, failed=30))
        job.heard_slices([], [Failure(index, 65) for index in range(30)])

    mesh.script = script
    words = ["scatter", PRIMES, "count_primes", "0", "30", "--keep-going"]
    assert main(words) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11 and lines[-1] == "and 20 more slices failed"


@pytest.mark.parametrize(
    ("name", "status"),
    [("TRAP_MEMORY", 1), ("OVERFLOW", 1), ("DEADLINE", 4), ("POISON", 1), ("CANCELLED", 1)],
)
def test_how_a_job_fails(
    mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str], name: str, status: int
) -> None:
    mesh.script = lambda job: job.heard(failed(job, name, "slice 1: no luck"))
    assert main(WORDS) == status
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("velum: slice 1: no luck") and err.count("\n") == 1
    assert main([*WORDS, "--json"]) == status
    out, err = capsys.readouterr()
    final = json.loads(out)
    assert final["error"]["name"] == name and final["answer"] is None
    assert (final["state"], final["slices"]) == ("failed", 4)
    assert err.startswith("velum: slice 1")


def test_a_mesh_that_is_lost(mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str]) -> None:
    mesh.script = lambda job: job.fail(error_from(code_of("UNREACHABLE"), "no node answers"))
    for words in (WORDS, [*WORDS, "--json"], [*WORDS, "--detach"]):
        assert main(words) == 3
        assert capsys.readouterr().err == "velum: no node answers\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("scatter", "FILE"),
        (f"scatter {PRIMES} count_primes 0 1.5", "no integer"),
        (f"scatter {PRIMES} count_primes 0 1e99", "64 bits"),
        (f"scatter {PRIMES} count_primes 0 1e10", "does not fit the i32"),
        (f"scatter {PRIMES} is_prime 0 9", "two i32 or two i64"),
        (f"scatter {PRIMES} nope 0 9", "it has: "),
        (f"scatter {PRIMES} count_primes 0 9 --reduce avg", "avg"),
        (f"scatter {PRIMES} count_primes 0 9 --reduce first", "missing"),
        (f"scatter {PRIMES} count_primes 0 9 --slices 0", "1048576"),
        (f"scatter {PRIMES} count_primes 0 9 --priority 0", "1 to 100"),
        ("scatter none.wasm f 0 9", "none.wasm: No such file"),
        ("job", "ID"),
        ("job nonsense", "no job's id"),
        ("job 1 --cancel --resume", "--cancel goes with neither"),
    ],
)
def test_usage_errors_end_with_2(
    mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1
    assert mesh.jobs_known == []


def test_detach(mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str]) -> None:
    mesh.script = lambda job: job.heard(record(job))
    assert main([*WORDS, "--detach"]) == 0
    (job,) = mesh.jobs_known
    assert capsys.readouterr() == (f"{job.id}\n", "") and mesh.asked == []
    assert main([*WORDS, "--detach", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"id": mesh.jobs_known[1].id}


def test_nobody_says_anything(
    mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scatter, "WORD_S", 0.01)
    mesh.script = lambda job: None
    assert main([*WORDS, "--detach"]) == 4
    assert "no answer in time" in capsys.readouterr().err


@pytest.mark.parametrize("strikes", [1, 2])
def test_an_interrupt_cancels_and_a_second_does_not_wait(
    mesh: fakes.FakeMesh, monkeypatch: pytest.MonkeyPatch, strikes: int
) -> None:
    waits: list[float | None] = []

    def wait(job: ScatterJob, timeout: float | None = None) -> bool:
        waits.append(timeout)
        if len(waits) <= strikes:
            raise KeyboardInterrupt
        return True

    mesh.script = lambda job: job.heard(record(job))
    monkeypatch.setattr(ScatterJob, "wait", wait)
    assert main(WORDS) == 130
    assert [ask for _, ask in mesh.asked] == [Ask.CANCEL] and mesh.closed
    assert waits == [progress.REDRAW_S, scatter.CANCEL_S]


# ---- velum jobs, velum job ----


def submitted(mesh: fakes.FakeMesh, script: Callable[[ScatterJob], None]) -> ScatterJob:
    mesh.script = script
    return mesh.scatter(PRIMES, "count_primes", 0, 100, slices=4, keep_going=True)


def test_jobs(mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [
        submitted(mesh, lambda job: job.heard(record(job))),
        submitted(mesh, lambda job: job.heard(done(job, elapsed_ms=12))),
    ]
    assert main(["jobs"]) == 0
    title, first, second = capsys.readouterr().out.splitlines()
    assert title.split()[:3] == ["id", "state", "runs"]
    facts = "running  primes.wasm count_primes  [0, 100)   50%   1.00 s            2  1 3"
    assert first == f"{jobs[0].id}  {facts}"
    assert second.split()[:2] == [jobs[1].id, "done"] and "100%" in second
    assert main(["jobs", "--json"]) == 0
    assert [row["id"] for row in json.loads(capsys.readouterr().out)] == [j.id for j in jobs]


def test_jobs_of_unknown_spec() -> None:
    row = {"id": "0" * 16, "state": "running", "done": 0, "slices": 0, "elapsed_ms": 0}
    lines = show.jobs_table([{**row, "coordinator": 1, "holders": []}], show.Paint(io.StringIO()))
    assert lines[1].split()[:5] == ["0" * 16, "running", "?", "?", "?"]


def test_jobs_watch(
    mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def sleep(_: float) -> None:
        looks.append(1)
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(scatter.time, "sleep", sleep)
    assert main(["jobs", "--watch", "--json"]) == 130
    assert capsys.readouterr().out == "[]\n[]\n[]\n"


def test_job_as_facts(mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str]) -> None:
    def script(job: ScatterJob) -> None:
        job.heard(done(job, done=3, failed=1))
        job.heard_slices([(0, values_of(1, 2, 3))], [Failure(3, 65)])

    job = submitted(mesh, script)
    assert main(["job", job.id[:9]]) == 0
    facts = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert (facts["id"], facts["state"], facts["answer"]) == (job.id, "done", "41538")
    assert facts["range"] == "[0, 100)" and facts["done"] == "3 of 4 slices"
    assert facts["slice"].startswith("3 [75, 100) failed: ")
    assert facts["holders"] == "1, 3"
    assert main(["job", job.id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answer"] == 41538


def test_job_that_failed_is_shown(mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str]) -> None:
    job = submitted(mesh, lambda job: job.heard(failed(job, "FUEL", "slice 1: no fuel")))
    assert main(["job", job.id]) == 0
    assert "slice 1: no fuel" in capsys.readouterr().out
    assert main(["job", job.id, "--watch"]) == 1
    assert capsys.readouterr().err.startswith("velum: slice 1: no fuel")


def test_a_job_that_runs_is_shown(mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str]) -> None:
    job = submitted(mesh, lambda job: job.heard(record(job)))
    assert main(["job", job.id]) == 0
    out = capsys.readouterr().out
    assert "node 1       2 slices, 2 leases, 0.9 s busy\n" in out and "answer" not in out
    assert main(["job", job.id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answer"] is None


def test_job_watch(mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str]) -> None:
    def script(job: ScatterJob) -> None:
        job.heard(record(job))
        threading.Thread(target=lambda: job.heard(done(job))).start()

    job = submitted(mesh, script)
    assert main(["job", job.id, "--watch"]) == 0
    assert capsys.readouterr().out == "41538\n"
    assert main(["job", job.id, "--watch", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answer"] == 41538


def test_job_watch_does_not_own_the_job(
    mesh: fakes.FakeMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    job = submitted(mesh, lambda job: job.heard(record(job)))
    monkeypatch.setattr(ScatterJob, "wait_progress", interrupted)
    assert main(["job", job.id, "--watch"]) == 130
    assert mesh.asked == []


def test_job_cancel(mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str]) -> None:
    job = submitted(mesh, lambda job: job.heard(record(job)))
    assert main(["job", job.id, "--cancel"]) == 0
    assert capsys.readouterr().out == f"{job.id} cancelled\n"
    mesh.script = lambda job: job.heard(record(job))
    assert main(["job", job.id, "--cancel", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"id": job.id, "state": "cancelled"}
    mesh.script = lambda job: job.heard(done(job))
    assert main(["job", job.id, "--cancel"]) == 1
    assert "is done already" in capsys.readouterr().err


def test_job_resume(mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str]) -> None:
    job = submitted(mesh, lambda job: job.heard(failed(job, "FUEL", "no fuel")))

    def script(job: ScatterJob) -> None:
        if mesh.asked:
            job.heard(record(job, attempt=2, sequence=10))
        else:
            job.heard(failed(job, "FUEL", "no fuel"))

    mesh.script = script
    assert main(["job", job.id, "--resume"]) == 0
    assert capsys.readouterr().out == f"{job.id} running\n"
    assert [ask for _, ask in mesh.asked] == [Ask.RESUME]
    assert main(["job", job.id, "--resume"]) == 2
    assert "only a failed or cancelled one" in capsys.readouterr().err


def test_an_unknown_job(mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["job", "0000000000000007"]) != 0
    assert "velum jobs shows" in capsys.readouterr().err


# ---- the picture ----


def word(**changes: Any) -> Progress:
    facts: dict[str, Any] = {
        "state": "running",
        "done": 2048,
        "slices": 4096,
        "failed": 0,
        "rate": 233.4,
        "eta_s": 8.2,
        "elapsed_s": 9.0,
        "coordinator": 2,
        "nodes": (Share(1, 2, 1024, 3100), Share(12, 0, 1024, 0)),
        "retries": 0,
        "duplicates": 0,
    }
    return Progress(**{**facts, **changes})


def drawn(progress_: Progress, columns: int = 100, lines: int = 24) -> list[str]:
    return progress.picture("primes", progress_, (columns, lines), show.Paint(io.StringIO()))


def test_picture() -> None:
    assert drawn(word()) == [
        "primes [############............]  50%  2048/4096  233/s  ETA 9 s",
        "  node  1 [########........] 1024  50%  3.1 s busy  2 leases",
        "  node 12 [########........] 1024  50%  0.0 s busy",
    ]
    assert drawn(word(coordinator=12))[2].startswith("* node 12 ")
    end = drawn(word(state="done", done=4096, eta_s=None, rate=0.4, elapsed_s=3725.2, nodes=()))
    assert end == ["primes [########################] 100%  4096/4096  0.4/s  1:02:06"]
    assert drawn(word(failed=3))[0].endswith("ETA 9 s  3 failed")
    waiting = word(state="waiting", done=0, slices=0, rate=0, eta_s=None, nodes=())
    assert drawn(waiting)[0].endswith("0/0  waiting")


@pytest.mark.parametrize("columns", [20, 30, 40, 60, 80, 200])
@pytest.mark.parametrize("lines", [3, 4, 24])
def test_picture_fits_the_terminal(columns: int, lines: int) -> None:
    nodes = tuple(Share(id, 2, id * 7, 10**7) for id in range(1, 60))
    shown = progress.picture(
        "a" * 300, word(nodes=nodes, failed=12), (columns, lines), show.Paint(Terminal())
    )
    assert all(len(ESCAPES.sub("", line)) < columns for line in shown)
    assert len(shown) < lines
    if lines > 3:
        assert "more" in shown[-1]
    assert "59" in shown[-2 if lines > 3 else -1] or lines == 3


def test_picture_paints_only_what_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    painted = progress.picture("primes", word(), (100, 24), show.Paint(Terminal()))
    assert "\x1b[32m" in painted[0]
    assert [ESCAPES.sub("", line) for line in painted] == drawn(word())
    monkeypatch.setenv("NO_COLOR", "1")
    assert progress.picture("primes", word(), (100, 24), show.Paint(Terminal())) == drawn(word())


def test_display_redraws_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    out = Terminal()
    display = JobDisplay(out, "primes\x1b\n")
    for _ in range(100):
        display.update(word())
        clock[0] += 0.03
    assert out.getvalue().count("primes??") == 25, "about ten a second, three seconds long"
    assert out.getvalue().count("\x1b[3A") == 24
    display.finish(word(nodes=()))
    assert "\x1b[3A\rprimes??" in out.getvalue() and out.getvalue().endswith("\x1b[K\n\x1b[J")
    display.clear()
    assert not out.getvalue().endswith("\x1b[1A\r\x1b[J"), "the last picture stays"


def test_display_can_be_cleared() -> None:
    out = Terminal()
    display = JobDisplay(out, "primes")
    display.clear()
    display.finish(word())
    assert out.getvalue() == "", "nothing was drawn"
    display.update(word())
    display.clear()
    assert out.getvalue().endswith("\x1b[3A\r\x1b[J")


@pytest.mark.parametrize("dumb", [False, True])
def test_lines_where_nobody_looks(monkeypatch: pytest.MonkeyPatch, dumb: bool) -> None:
    monkeypatch.setenv("TERM", "dumb")
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    out = Terminal() if dumb else io.StringIO()
    display = JobDisplay(out, "primes")
    for _ in range(50):
        display.update(word(failed=1))
        clock[0] += 0.1
    display.finish(word())
    line = "primes: 50%, 2048 of 4096 slices, 1 failed, 233/s, ETA 9 s, 2 nodes\n"
    assert out.getvalue() == line * 2, "after one second and after three"


def test_terminal_size_of_what_has_none() -> None:
    assert progress.terminal_size(io.StringIO()) == progress.ROOMY


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (8.2, "9 s"), (60, "1:00"), (3599, "59:59"), (3600, "1:00:00")],
)
def test_clock(seconds: float, text: str) -> None:
    assert progress.clock(seconds) == text


def test_summary() -> None:
    assert progress.summary(word()) == "2048 slices in 9.00 s on 2 nodes"
    told = progress.summary(word(failed=1, retries=2, duplicates=1))
    assert told.endswith("; 1 failed, 2 leases granted again, 1 slice run twice")


def test_states_have_a_colour() -> None:
    assert set(show._JOB_COLOURS) == {state.name.lower() for state in State}


def test_floats_are_printed_so_that_they_read_back(
    mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str]
) -> None:
    bits = struct.unpack("<Q", struct.pack("<d", 0.1))[0]
    mesh.script = lambda job: job.heard(done(job, answer=(0x7C, bits)))
    assert main(WORDS) == 0
    assert capsys.readouterr().out == "0.1\n"
