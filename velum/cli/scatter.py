"""``velum scatter``, ``velum jobs``, ``velum job``: jobs over the whole mesh.

Owns what a person sees of a job: its live progress, its answer, its end, its failed slices. Refuses
to know how the mesh does it (`velum.scatterjob`) and how progress is drawn (`velum.cli.progress`).
The prompt of a node runs the same functions, with its own mesh and its own way to say a line.
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from velum.cli import explain, show
from velum.cli.commands import CLEAR_SCREEN, WATCH_S, attach
from velum.cli.numbers import PAGE_BYTES
from velum.cli.options import UsageError
from velum.cli.progress import REDRAW_S, JobDisplay, summary
from velum.policy.job import Failure, State, as_plain
from velum.policy.slices import slice_bounds

if TYPE_CHECKING:
    from velum.api import Mesh
    from velum.scatterjob import ScatterJob

WORD_S = 10.0  # until the mesh has said something of a job
CANCEL_S = 10.0  # until a cancelled one has ended
LOOK_S = 1.0  # between pictures of a job that nothing is heard of: its clock goes on
FAILED_SHOWN = 10  # failed slices that are named to a person

Say = Callable[[str], object]


def say_line(text: str) -> None:
    """On stdout, at once."""
    print(text, flush=True)


def never() -> bool:
    """Nothing but the job's end ends the watching."""
    return False


# ---- the commands ----


def scatter(args: Namespace) -> int:
    """``velum scatter FILE FUNC START END ARGS...``"""
    with attach(args) as mesh:
        return start(mesh, args) or 0


def jobs(args: Namespace) -> int:
    """``velum jobs``"""
    with attach(args) as mesh:
        while True:
            text = jobs_text(mesh, args)
            clear = args.watch and not args.json and show.is_terminal(sys.stdout)
            say_line(CLEAR_SCREEN + text if clear else text)
            if not args.watch:
                return 0
            time.sleep(WATCH_S)


def job(args: Namespace) -> int:
    """``velum job ID``"""
    with attach(args) as mesh:
        return look(mesh, args) or 0


# ---- what the prompt shares ----


def start(
    mesh: Mesh, args: Namespace, say: Say = say_line, stop: Callable[[], bool] = never
) -> int | None:
    """Submits a job and sees it through. The exit status; None when `stop` was true first."""
    job = mesh.scatter(
        args.file,
        args.function,
        args.start,
        args.end,
        *args.args,
        reduce=args.reduce,
        missing=args.missing,
        slices=args.slices,
        keep_going=args.keep_going,
        wrap=args.wrap,
        priority=args.priority,
        timeout=args.timeout,
        limit=args.limit,
        fuel=args.fuel,
        pages=args.memory // PAGE_BYTES if args.memory else None,
    )
    if not args.detach:
        return watch(job, args, say, stop, owned=True)
    wait_word(job)
    say(show.dump({"id": job.id}) if args.json else job.id)
    return 0


def look(
    mesh: Mesh, args: Namespace, say: Say = say_line, stop: Callable[[], bool] = never
) -> int | None:
    """Shows one job, ends it, or takes it up again. As `start`."""
    if args.cancel and (args.resume or args.watch):
        raise UsageError("--cancel goes with neither --resume nor --watch")
    job = mesh.job(args.id)
    wait_word(job)
    if args.cancel:
        return _cancel(job, args, say)
    if args.resume:
        job = job.resume()
        wait_word(job)
    if args.watch:
        return watch(job, args, say, stop, owned=False)
    if args.resume:
        _say_state(job, args, say)
    elif args.json:
        say(show.dump(described(job), pretty=True))
    else:
        say("\n".join(facts(job, show.Paint(sys.stdout))))
    return 0


def jobs_text(mesh: Mesh, args: Namespace) -> str:
    """All jobs that the mesh knows, as a table or as JSON."""
    found = mesh.jobs()
    if args.json:
        return show.dump(found)
    return "\n".join(show.jobs_table(found, show.Paint(sys.stdout)))


def watch(
    job: ScatterJob, args: Namespace, say: Say, stop: Callable[[], bool], *, owned: bool
) -> int | None:
    """Shows a job's progress until it ends, then its answer. Ctrl-C cancels one that is `owned`;
    a second one does not wait for that."""
    display = JobDisplay(sys.stderr, title(job))
    try:
        while not job.done():
            if stop():
                display.clear()
                return None
            job.wait_progress(LOOK_S)
            display.update(job.progress())
            job.wait(REDRAW_S)
    except KeyboardInterrupt:
        display.clear()
        if owned and job.cancel():
            job.wait(CANCEL_S)
        raise
    display.finish(job.progress())
    return conclude(job, args, say)


def conclude(job: ScatterJob, args: Namespace, say: Say) -> int:
    """Says how a job has ended. The exit status; a job's error is raised, but with --json."""
    error = job.exception()
    if error is not None and (not args.json or job.record is None):
        raise error
    if args.json:
        final = described(job)
        if error is None:
            say(show.dump(final))
            return 0
        status = explain(error, as_json=True, facts=final)
        if status is None:
            raise error
        return status
    for line in answer_lines(job.result()):
        say(line)
    terminal = show.is_terminal(sys.stderr) and show.is_terminal(sys.stdout)
    paint = show.Paint(sys.stderr)
    if getattr(args, "verbose", False) or terminal:
        print(paint("dim", summary(job.progress())), file=sys.stderr)
    for line in failed_lines(job):
        print(paint("yellow", line), file=sys.stderr)
    return 0


def wait_word(job: ScatterJob) -> None:
    """Waits until the mesh has said how the job stands. Raises what it says when there is none, and
    TimeoutError when it says nothing."""
    from concurrent.futures import TimeoutError as FutureTimeout

    end = time.monotonic() + WORD_S
    while not job.done() and (job.record is None or job.record.state != State.RUNNING):
        if not job.wait_progress(max(0.0, end - time.monotonic())) and time.monotonic() >= end:
            raise FutureTimeout()
    if job.record is None:
        job.result()


def _cancel(job: ScatterJob, args: Namespace, say: Say) -> int:
    if not job.cancel():
        show.complain(f"job {job.id} is {job.progress().state} already")
        return 1
    job.exception(CANCEL_S)
    _say_state(job, args, say)
    return 0 if job.progress().state == "cancelled" else 1


def _say_state(job: ScatterJob, args: Namespace, say: Say) -> None:
    state = job.progress().state
    say(show.dump({"id": job.id, "state": state}) if args.json else f"{job.id} {state}")


# ---- a job in words ----


def title(job: ScatterJob) -> str:
    """What the job runs, in few words."""
    return f"{job.spec.label} {job.spec.function}" if job.spec is not None else f"job {job.id}"


def answer_lines(answer: Any) -> list[str]:
    """A list one value a line; else one line."""
    return [show.value_text(value) for value in (answer if isinstance(answer, list) else [answer])]


def described(job: ScatterJob) -> dict[str, Any]:
    """All that is known of a job, as plain data; `answer` is null unless it is done."""
    assert job.record is not None
    answer = job.result() if job.done() and job.exception() is None else None
    failures = [
        {
            "slice": failure.slice,
            "range": slice_range(job, failure),
            "code": failure.code,
            "name": error_name(failure)[0],
            "text": failure.text,
        }
        for failure in job.failures(WORD_S)
    ]
    return {**as_plain(job.record, job.spec), "answer": answer, "failures": failures}


def facts(job: ScatterJob, paint: show.Paint) -> list[str]:
    """A job's state as aligned lines, and its failed slices."""
    record, spec, progress = job.record, job.spec, job.progress()
    assert record is not None
    values: dict[str, Any] = {"id": job.id, "state": progress.state}
    if spec is not None:
        plain = as_plain(record, spec)
        values |= {name: show.tame(plain[name]) for name in ("module", "function")}
        values["range"] = show.range_text(spec.start, spec.end)
        values |= {name: plain[name] for name in ("reduce", "priority")}
    values["done"] = f"{progress.done} of {progress.slices} slices"
    values |= {"failed": progress.failed, "elapsed": show.duration(progress.elapsed_s * 1e6)}
    values |= {"coordinator": record.coordinator, "holders": list(record.holders)}
    values |= {"attempt": record.attempt, "epoch": record.epoch}
    values |= {"retries": progress.retries, "duplicates": progress.duplicates}
    for share in progress.nodes:
        busy = f"{share.busy_ms / 1000:.1f} s busy"
        done = f"{show.plural(share.done, 'slice')}, {show.plural(share.leases, 'lease')}, {busy}"
        values[f"node {share.node}"] = done
    if record.text:
        values["error"] = show.tame(record.text)
    if job.done() and job.exception() is None:
        answer = job.result()
        text = show.plural(len(answer), "value") if isinstance(answer, list) else repr(answer)
        values["answer"] = text
    return [*show.facts(values, paint), *(paint("yellow", line) for line in failed_lines(job))]


def failed_lines(job: ScatterJob) -> list[str]:
    """The failed slices, the first of them by name."""
    failures = job.failures(WORD_S)
    lines = []
    for failure in failures[:FAILED_SHOWN]:
        where = show.range_text(*slice_range(job, failure))
        why = show.tame(failure.text) or error_name(failure)[1]
        lines.append(f"slice {failure.slice} {where} failed: {why}")
    if len(failures) > FAILED_SHOWN:
        lines.append(f"and {len(failures) - FAILED_SHOWN} more slices failed")
    return lines


def slice_range(job: ScatterJob, failure: Failure) -> tuple[int, int]:
    """The part of the range that a slice is."""
    spec = job.spec
    assert spec is not None
    return slice_bounds(spec.start, spec.end, spec.slices, failure.slice)


def error_name(failure: Failure) -> tuple[str, str]:
    """Name and meaning of a failed slice's error."""
    from velum.errors import error_table

    return error_table().get(failure.code, ("UNKNOWN", f"error {failure.code}"))
