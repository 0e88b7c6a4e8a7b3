"""What the faces put on the screen: colours, tables, times, sizes, a progress bar, errors.

Owns how things look. Refuses to know where they come from. Data goes to stdout, everything said to
a person beside it to stderr; colours only on a terminal that wants them.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def is_terminal(stream: TextIO) -> bool:
    """Whether a person looks at the stream; a closed stream is nobody's."""
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False


def wants_colour(stream: TextIO) -> bool:
    """A terminal, not a dumb one, and NO_COLOR (https://no-color.org) is not set."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return is_terminal(stream)


class Paint:
    """Colours for one stream, or none: ``Paint(sys.stdout)("red", "lost")``."""

    def __init__(self, stream: TextIO) -> None:
        self.on = wants_colour(stream)

    def __call__(self, colour: str, text: str) -> str:
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if self.on and text else text


def duration(us: float) -> str:
    """Microseconds as a person says them: ``87 us``, ``1.2 ms``, ``340 ms``, ``2.51 s``."""
    if us < 1_000:
        return f"{us:.0f} us"
    if us < 10_000:
        return f"{us / 1e3:.1f} ms"
    if us < 1_000_000:
        return f"{us / 1e3:.0f} ms"
    return f"{us / 1e6:.2f} s"


def age(ms: float) -> str:
    """How long ago: ``now`` below a tenth of a second, then ``0.4 s``, ``12 s``, ``5 min``."""
    if ms < 100:
        return "now"
    if ms < 10_000:
        return f"{ms / 1e3:.1f} s"
    if ms < 600_000:
        return f"{ms / 1e3:.0f} s"
    return f"{ms / 60e3:.0f} min"


def mebibytes(mib: float) -> str:
    """``512 MiB``, ``23.4 GiB``."""
    return f"{mib:.0f} MiB" if mib < 1024 else f"{mib / 1024:.1f} GiB"


def byte_count(count: float) -> str:
    """``512 B``, ``1.5 KiB``, ``64.0 MiB``, ``2.0 GiB``."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1023.95:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TiB"


def byte_rate(rate: float) -> str:
    """Bytes a second as ``216.0 MB/s``; 1 MB is 1,000,000 bytes."""
    return f"{rate / 1e6:.1f} MB/s"


def plural(n: int, noun: str) -> str:
    """``1 worker``, ``2 workers``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def value_text(value: object) -> str:
    """A result as text that reads back as the same number; nothing for a function without one."""
    return "" if value is None else repr(value)


def dump(value: object, *, pretty: bool = False) -> str:
    """JSON that any parser reads: a float that JSON has no word for becomes "nan", "inf" or
    "-inf"."""
    return json.dumps(_plain(value), indent=2 if pretty else None, allow_nan=False)


def _plain(value: object) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def table(
    titles: Sequence[str], rows: Iterable[Sequence[str]], *, right: frozenset[int] = frozenset()
) -> list[str]:
    """Lines of aligned columns, titles first; columns in `right` are aligned to the right."""
    lines = [list(titles), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    return [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


_NODE_TITLES = (
    "node",
    "state",
    "address",
    "role",
    "workers",
    "running",
    "queue",
    "cpu",
    "free RAM",
    "speed",
    "heard",
)
_NODE_RIGHT = frozenset({0, 4, 5, 6, 7, 8, 9, 10})
_STATE_COLOURS = {"alive": "green", "suspect": "yellow", "dead": "red", "left": "dim"}


def nodes_table(nodes: Iterable[Any], paint: Paint) -> list[str]:
    """The members as a table, by id; a star marks the node that was asked."""
    members = sorted(nodes, key=lambda info: info.id)
    lines = table(
        _NODE_TITLES,
        [
            (
                f"{'*' if info.me else ''}{info.id}",
                info.state,
                info.address,
                info.role,
                str(info.slots),
                str(info.running),
                str(info.queue),
                f"{info.cpu} %",
                mebibytes(info.free_mib),
                f"{info.speed / 1000:.0f} M/s" if info.speed else "-",
                "-" if info.me or info.seen_ms < 0 else age(info.seen_ms),
            )
            for info in members
        ],
        right=_NODE_RIGHT,
    )
    painted = [paint("bold", lines[0])]
    for info, line in zip(members, lines[1:], strict=True):
        colour = _STATE_COLOURS.get(info.state, "dim")
        painted.append(line.replace(info.state, paint(colour, info.state), 1))
    return painted


_JOB_TITLES = ("id", "state", "runs", "range", "done", "elapsed", "coordinator", "holders")
_JOB_RIGHT = frozenset({4, 5, 6})
_JOB_COLOURS = {"running": "cyan", "done": "green", "failed": "red", "cancelled": "yellow"}


def range_text(start: int, end: int) -> str:
    """``[0, 500000)``."""
    return f"[{start}, {end})"


def jobs_table(jobs: Sequence[Mapping[str, Any]], paint: Paint) -> list[str]:
    """Scatters as a table, in the order given."""
    lines = table(
        _JOB_TITLES,
        [
            (
                job["id"],
                job["state"],
                tame(f"{job.get('module', '?')} {job.get('function', '?')}"),
                range_text(job["start"], job["end"]) if "start" in job else "?",
                f"{100 * job['done'] // max(job['slices'], 1)}%",
                duration(job["elapsed_ms"] * 1e3),
                str(job["coordinator"]),
                " ".join(map(str, job["holders"])),
            )
            for job in jobs
        ],
        right=_JOB_RIGHT,
    )
    painted = [paint("bold", lines[0])]
    for job, line in zip(jobs, lines[1:], strict=True):
        colour = _JOB_COLOURS.get(job["state"], "dim")
        painted.append(line.replace(job["state"], paint(colour, job["state"]), 1))
    return painted


def facts(values: Mapping[str, Any], paint: Paint) -> list[str]:
    """A mapping as aligned ``name  value`` lines; nested mappings as ``outer.inner``."""
    flat = list(_flatten("", values))
    width = max((len(name) for name, _ in flat), default=0)
    return [f"{paint('bold', name.ljust(width))}  {text}" for name, text in flat]


def _flatten(prefix: str, values: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flatten(f"{name}.", value)
        elif isinstance(value, (list, tuple)):
            yield name, ", ".join(str(item) for item in value) or "none"
        elif isinstance(value, float):
            yield name, f"{value:.1f}"
        else:
            yield name, str(value)


def tame(text: str) -> str:
    """Text that may come from a peer, without line ends and control characters: those are not
    passed on to the terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def complain(message: str) -> None:
    """One line of trouble on stderr: ``velum: message``."""
    paint = Paint(sys.stderr)
    print(f"{paint('red', 'velum:')} {tame(message)}", file=sys.stderr, flush=True)
