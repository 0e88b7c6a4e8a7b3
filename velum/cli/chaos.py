"""``velum chaos``: everything that may befall a mesh, and every answer or file checked.

Owns what is printed of a run, and how signals end it. Refuses to know what is done to whom and what
is right (velum.chaos).
"""

from __future__ import annotations

import secrets
import signal
import sys
import threading
import time
from argparse import Namespace
from typing import TYPE_CHECKING, TextIO

from velum.cli import show
from velum.cli.options import UsageError
from velum.cli.progress import terminal_size

if TYPE_CHECKING:
    from collections import Counter

    from velum.chaos import Glance, Report
    from velum.chaosjobs import Tally
    from velum.chaosstreams import CallTally
    from velum.chaoswatch import Life

SEED_MAX = 999_999_999  # easily typed again
RAM_MIN = 128 << 20  # so that all files, and those that they replaced, have room on 4 nodes


class Story:
    """The run as it goes: one line on a terminal, with what happened last; elsewhere a line for
    all that happens."""

    def __init__(self, stream: TextIO, seconds: float, thing: str) -> None:
        """`thing`: what comes out right, as "job"."""
        self._stream = stream
        self._thing = thing
        self._live = show.is_terminal(stream)
        self._seconds = seconds
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._how = ""

    def line(self, text: str) -> None:
        """Something has happened."""
        with self._lock:
            if self._live:
                self._draw(text)
            else:
                at_s = time.monotonic() - self._began
                print(f"{at_s:7.1f} s  {text}", file=self._stream, flush=True)

    def glance(self, now: Glance) -> None:
        """How it stands; shown with the next line."""
        if self._live:
            with self._lock:
                self._how = (
                    f"{now.elapsed_s:.0f} of {self._seconds:.0f} s, "
                    f"{show.plural(now.right, self._thing)} right, {now.running} running, "
                    f"{show.plural(now.standing, 'node')} up; "
                )

    def close(self) -> None:
        """Takes the line away."""
        if self._live:
            with self._lock:
                self._stream.write("\r\x1b[K")
                self._stream.flush()

    def _draw(self, text: str) -> None:
        line = f"{self._how}{text}"[: terminal_size(self._stream)[0] - 1]
        self._stream.write(f"\r{line}\x1b[K")
        self._stream.flush()


def run(args: Namespace) -> int:
    """Runs it; 0 only when everything was right."""
    from velum.chaos import NODES_MAX, NODES_MIN, STORE_NODES_MIN, Chaos, Settings

    nodes_min = STORE_NODES_MIN if args.store else NODES_MIN
    if not nodes_min <= args.nodes <= NODES_MAX:
        raise UsageError(f"chaos takes {nodes_min} to {NODES_MAX} nodes")
    if args.store and args.kv:
        raise UsageError("files or keys: --store or --kv")
    calls = args.store or args.kv
    if not args.workers and not calls:
        raise UsageError("without workers there are no answers: --workers 1 at least")
    if args.store and args.ram < RAM_MIN:
        raise UsageError(f"the files of a run need --ram {RAM_MIN >> 20}M at least")
    seed = args.seed or 1 + secrets.randbelow(SEED_MAX)
    settings = Settings(
        seed,
        args.seconds,
        args.nodes,
        args.workers,
        args.netns,
        store=args.store,
        kv=args.kv,
        ram_mib=args.ram >> 20,
    )
    story = Story(sys.stderr, args.seconds, "call" if calls else "job")
    story.line(f"seed {seed}")
    _interrupt_on_sigterm()
    try:
        report = Chaos(settings, story.line, story.glance).run()
    finally:
        story.close()
    if args.json:
        print(show.dump(report.as_dict()))
    else:
        for line in report_lines(report, show.Paint(sys.stdout)):
            print(line)
    return 0 if report.right else 1


def _interrupt_on_sigterm() -> None:
    """What Ctrl-C does: nodes are ended and networks removed on the way out."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def report_lines(report: Report, paint: show.Paint) -> list[str]:
    """What a person wants to know of a run."""
    from velum.chaosstreams import CallTally

    tally, strikes = report.tally, report.strikes
    lines = [
        *(file_lines(tally) if isinstance(tally, CallTally) else job_lines(tally, report.works)),
        f"{show.plural(strikes.total(), 'strike')}: {_counts(strikes)}",
        *memory_table(report.lives, paint),
    ]
    if report.right:
        return [*lines, paint("green", f"all right after {report.elapsed_s:.0f} s")]
    lines += [paint("red", f"FAULT: {fault}") for fault in report.faults]
    if report.job is not None:
        lines.append(show.dump(report.job.as_dict(), pretty=True))
    return [*lines, f"logs: {report.logs}", f"to run it again: {report.replay}"]


def job_lines(tally: Tally, works: int) -> list[str]:
    """What came of the scatters."""
    return [
        f"{show.plural(tally.right, 'job')} right, {tally.slices} slices, of {works} works; "
        f"the slowest took {tally.slowest_s:.1f} s, "
        f"the latest {tally.slowest_share:.0%} of its time",
        f"{show.plural(tally.retries, 'lease')} granted again, "
        f"{show.plural(tally.duplicates, 'slice')} run twice, "
        f"{show.plural(tally.adoptions, 'job')} adopted by another coordinator, "
        f"{show.plural(tally.clients, 'client')}",
    ]


def file_lines(tally: CallTally) -> list[str]:
    """What came of the calls on files."""
    return [
        f"{show.plural(tally.right, 'call')} right: {_counts(tally.calls)}; "
        f"the slowest took {tally.slowest_s:.1f} s; {show.plural(tally.clients, 'client')}",
        f"made again because of errors: {_counts(tally.errors)}",
        f"whole {show.plural(tally.heals, 'time')}, at the latest "
        f"{tally.slowest_heal_s:.1f} s after all nodes stood",
    ]


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counter.most_common()) or "none"


def memory_table(lives: list[Life], paint: show.Paint) -> list[str]:
    """The memory of the nodes' processes."""
    lines = show.table(
        ("node", "lived", "min", "median", "max MiB", "MiB/min"),
        [
            (
                str(life.node),
                f"{life.seconds:.0f} s",
                f"{life.min_mib:.1f}",
                f"{life.median_mib:.1f}",
                f"{life.max_mib:.1f}",
                "-" if life.slope_mib_per_min is None else f"{life.slope_mib_per_min:+.2f}",
            )
            for life in lives
        ],
        right=frozenset(range(6)),
    )
    return [paint("bold", lines[0]), *lines[1:]]
