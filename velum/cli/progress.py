"""Live pictures: of a job, a bar and a line for every node that works for it; of a file on its
way, a bar.

Owns what a picture shows, that it fits the terminal, and how often it is drawn. Refuses to know
where the figures come from (`velum.scatterjob`, `velum.files`). On a terminal the picture is
redrawn in place; a stream that nobody looks at gets a line now and then, and none for what is over
in a moment.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TextIO

from velum.cli import show
from velum.scatterjob import Pace

if TYPE_CHECKING:
    from velum.scatterjob import Progress

REDRAW_S = 0.1  # ten pictures a second: as smooth as figures can be read
LINE_S = 2.0  # between lines where nobody looks
QUIET_S = 1.0  # before the first of them
SMALLEST = (20, 3)  # columns and lines: what a terminal that does not say its size, or 0, gets
ROOMY = (80, 24)

BAR_CELLS = 24
SHARE_CELLS = 16

Part = tuple[str, str]
"""A colour, or none, and text."""


class Display:
    """One picture on one stream, drawn again and again. Its kinds say what is on it."""

    def __init__(self, stream: TextIO, title: str, quiet_s: float) -> None:
        """`title` names what goes on, in few words; part of it may come from a peer. A terminal
        shows nothing for `quiet_s`, another stream nothing for QUIET_S."""
        self._stream = stream
        self._title = "".join(c if " " <= c <= "~" else "?" for c in title)
        self._paint = show.Paint(stream)
        self._live = show.is_terminal(stream) and os.environ.get("TERM") != "dumb"
        self._drawn = 0  # lines of the picture that stands there
        self._next = time.monotonic() + (quiet_s if self._live else QUIET_S)

    def clear(self) -> None:
        """Takes the picture away."""
        if self._drawn:
            self._stream.write(f"\x1b[{self._drawn}A\r\x1b[J")
            self._stream.flush()
            self._drawn = 0

    def _show(self, lines: Callable[[], list[str]], line: Callable[[], str]) -> None:
        """Shows `lines`, or where nobody looks `line`, if it is time for that."""
        now = time.monotonic()
        if now < self._next:
            return
        if self._live:
            self._next = now + REDRAW_S
            self._draw(lines())
        else:
            self._next = now + LINE_S
            print(line(), file=self._stream, flush=True)

    def _leave(self, lines: Callable[[], list[str]]) -> None:
        """Leaves the last picture where it is; what follows starts below it."""
        if self._drawn:
            self._draw(lines())
            self._drawn = 0

    def _draw(self, lines: list[str]) -> None:
        back = f"\x1b[{self._drawn}A" if self._drawn else ""
        # Each line ends its old text, the last ends what stood below: nothing ever flickers.
        body = "".join(f"\r{line}\x1b[K\n" for line in lines)
        self._stream.write(f"{back}{body}\x1b[J")
        self._stream.flush()
        self._drawn = len(lines)


class JobDisplay(Display):
    """Shows one job."""

    def __init__(self, stream: TextIO, title: str) -> None:
        super().__init__(stream, title, 0.0)

    def update(self, progress: Progress) -> None:
        """Shows how far the job is now, if it is time for that."""
        self._show(lambda: self._lines(progress), lambda: plain_line(self._title, progress))

    def finish(self, progress: Progress) -> None:
        """Leaves the last picture where it is."""
        self._leave(lambda: self._lines(progress))

    def _lines(self, progress: Progress) -> list[str]:
        return picture(self._title, progress, terminal_size(self._stream), self._paint)


class TransferDisplay(Display):
    """Shows a file on its way; nothing of one that is over in a second."""

    def __init__(self, stream: TextIO, title: str) -> None:
        super().__init__(stream, title, QUIET_S)
        self._began = time.monotonic()
        self._pace = Pace()
        self._pace.note(0, 0)

    def update(self, done: int, total: int | None) -> None:
        """Shows how many bytes have passed, of how many, if it is time for that."""
        self._pace.note(self._elapsed_ms(), done)
        self._show(
            lambda: self._lines(done, total),
            lambda: f"{self._title}: {self._figures(done, total).strip().replace('  ', ', ')}",
        )

    def _elapsed_ms(self) -> int:
        return round((time.monotonic() - self._began) * 1000)

    def _lines(self, done: int, total: int | None) -> list[str]:
        columns = terminal_size(self._stream)[0] - 1  # the last one wraps
        share = None if total is None else done / total if total else 1.0
        parts = bar_line(self._title, share, self._figures(done, total), columns)
        return [fit(parts, columns, self._paint)]

    def _figures(self, done: int, total: int | None) -> str:
        """``  50%  512 MiB of 1.0 GiB  216.0 MB/s  ETA 3 s``"""
        rate = self._pace.rate
        if total is None:
            figures = f"  {show.byte_count(done)}"
        else:
            percent = math.floor(100 * done / total) if total else 100
            figures = f" {percent:3d}%  {show.byte_count(done)} of {show.byte_count(total)}"
        if rate:
            figures += f"  {show.byte_rate(rate)}"
            figures += f"  ETA {clock((total - done) / rate)}" if total is not None else ""
        return figures


def terminal_size(stream: TextIO) -> tuple[int, int]:
    """(columns, lines) of the terminal behind a stream."""
    try:
        columns, lines = os.get_terminal_size(stream.fileno())
    except (AttributeError, ValueError, OSError):
        columns, lines = ROOMY
    return max(columns or ROOMY[0], SMALLEST[0]), max(lines or ROOMY[1], SMALLEST[1])


def picture(title: str, progress: Progress, size: tuple[int, int], paint: show.Paint) -> list[str]:
    """The lines of the picture, none wider than the terminal, and fewer than it has."""
    columns, lines = (
        size[0] - 1,
        size[1] - 1,
    )  # the last column wraps, the last line is the cursor's
    rows = [head(title, progress, columns)]
    nodes = progress.nodes
    room = lines - len(rows)
    if len(nodes) > room:
        nodes = tuple(sorted(nodes, key=lambda share: -share.done)[: max(0, room - 1)])
    width = max((len(str(share.node)) for share in nodes), default=1)
    for share in sorted(nodes):
        rows.append(node_line(share, progress, width))
    if len(nodes) < len(progress.nodes) and len(rows) < lines:
        rows.append(
            [("dim", f"  and {show.plural(len(progress.nodes) - len(nodes), 'node')} more")]
        )
    return [fit(row, columns, paint) for row in rows]


def head(title: str, progress: Progress, columns: int) -> list[Part]:
    """``primes.wasm [######......]  50%  2048/4096  233/s  ETA 9 s``; the bar gives way first."""
    share = progress.done / progress.slices if progress.slices else 1.0
    facts = f" {math.floor(share * 100):3d}%  {progress.done}/{progress.slices}"
    if progress.rate:
        facts += f"  {rate_text(progress.rate)}"
    if progress.state == "waiting":
        facts += "  waiting"
    elif progress.state != "running":
        facts += f"  {clock(progress.elapsed_s)}"
    elif progress.eta_s is not None:
        facts += f"  ETA {clock(progress.eta_s)}"
    failed = f"  {progress.failed} failed" if progress.failed else ""
    return [*bar_line(title, share, facts, columns - len(failed)), ("red", failed)]


def bar_line(title: str, share: float | None, facts: str, columns: int) -> list[Part]:
    """Title, a bar if the share done is known, and figures."""
    left = columns - len(facts)
    title = title[: max(8, left // 2)]
    cells = min(BAR_CELLS, left - len(title) - 3)
    bar: list[Part] = []
    if share is not None and cells >= 4:
        full = int(min(share, 1.0) * cells)
        bar = [("", " ["), ("green", "#" * full), ("dim", "." * (cells - full)), ("", "]")]
    return [("bold", title), *bar, ("", facts)]


def node_line(share: Sequence[int], progress: Progress, width: int) -> list[Part]:
    """``* node 2 [####............]  1024  25%  3.1 s busy  2 leases``; the star coordinates."""
    node, leases, done, busy_ms = share
    part = done / progress.done if progress.done else 0.0
    full = min(SHARE_CELLS, int(part * SHARE_CELLS))
    mark = "*" if node == progress.coordinator else " "
    figures = f"] {done:>{len(str(progress.slices))}} {part:4.0%}  {busy_ms / 1000:.1f} s busy"
    under_way = f"  {show.plural(leases, 'lease')}" if leases else ""
    return [
        ("cyan", f"{mark} node {node:>{width}} "),
        ("", "["),
        ("green", "#" * full),
        ("dim", "." * (SHARE_CELLS - full)),
        ("", figures),
        ("dim", under_way),
    ]


def fit(parts: Sequence[Part], columns: int, paint: show.Paint) -> str:
    """The parts as one painted line of at most so many columns."""
    line = ""
    for colour, text in parts:
        text = text[:columns]
        columns -= len(text)
        line += paint(colour, text) if colour else text
    return line


def plain_line(title: str, progress: Progress) -> str:
    """``primes.wasm: 50%, 2048 of 4096 slices, 233/s, ETA 9 s, 4 nodes``."""
    share = progress.done / progress.slices if progress.slices else 1.0
    words = [f"{math.floor(share * 100)}%", f"{progress.done} of {progress.slices} slices"]
    if progress.failed:
        words.append(f"{progress.failed} failed")
    if progress.rate:
        words.append(rate_text(progress.rate))
    if progress.eta_s is not None:
        words.append(f"ETA {clock(progress.eta_s)}")
    words.append(show.plural(len(progress.nodes), "node"))
    return f"{title}: {', '.join(words)}"


def summary(progress: Progress) -> str:
    """``4096 slices in 3.21 s on 4 nodes; 2 leases granted again, 7 slices run twice``."""
    text = f"{show.plural(progress.done, 'slice')} in {show.duration(progress.elapsed_s * 1e6)}"
    text += f" on {show.plural(sum(bool(share.done) for share in progress.nodes), 'node')}"
    more = []
    if progress.failed:
        more.append(f"{progress.failed} failed")
    if progress.retries:
        more.append(f"{show.plural(progress.retries, 'lease')} granted again")
    if progress.duplicates:
        more.append(f"{show.plural(progress.duplicates, 'slice')} run twice")
    return "; ".join([text, ", ".join(more)]) if more else text


def rate_text(rate: float) -> str:
    """``0.4/s``, ``233/s``."""
    return f"{rate:.0f}/s" if rate >= 10 else f"{rate:.1f}/s"


def clock(seconds: float) -> str:
    """``9 s``, ``2:05``, ``1:02:05``."""
    whole = math.ceil(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
