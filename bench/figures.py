"""What the commands with a page of their own share: kv.py, scaling.py and storage.py.

Owns a command's words (--only, --quick, --report), how its sections run one after the other, the
file in build/ in which each replaces only its own figures, what is said of the machine, and the
pieces of a page: its paragraphs, tables, medians with their spread, and the frame of a picture.
Refuses to know what is measured, and what a page says of it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 100
DPI = 110

Results = dict[str, Any]
"""By section its figures; and `machine`."""


def say(text: str) -> None:
    """How far it is, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


# ---- the command ----


def parser(
    page: Path, sections: Iterable[str], little: str, more: Mapping[str, dict[str, Any]]
) -> argparse.ArgumentParser:
    """What every command takes: sections (all), `--quick` and `--report`; and more options between
    them."""
    name = page.relative_to(ROOT)
    made = argparse.ArgumentParser(description=f"Make the figures of {name}.")
    known = tuple(sections)
    made.add_argument("--only", type=some_of(known), default=set(known), metavar="NAME,...")
    for option, words in more.items():
        made.add_argument(option, **words)
    made.add_argument("--quick", action="store_true", help=little)
    made.add_argument("--report", action="store_true", help="measure nothing, draw the page")
    return made


def some_of(known: tuple[str, ...]) -> Callable[[str], set[str]]:
    """A parser of words that are separated by commas."""

    def parse(text: str) -> set[str]:
        words = set(text.split(","))
        if words - set(known):
            raise argparse.ArgumentTypeError(f"{sorted(words - set(known))}: {', '.join(known)}")
        return words

    return parse


def wrote(paths: Iterable[Path]) -> None:
    """Names the page and its picture."""
    for path in paths:
        say(f"wrote {path.relative_to(ROOT)}")


# ---- measuring ----


def machine() -> dict[str, Any]:
    """What the figures were made on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
    }


def stored(path: Path) -> Results:
    """The results of earlier runs."""
    results: Results = json.loads(path.read_text())
    return results


def measure(
    path: Path, sections: Iterable[tuple[str, Callable[[], Results]]], quick: bool
) -> Results:
    """Runs sections; after each the results are stored. What a section says itself of its seconds
    or of the machine's load counts."""
    results = stored(path) if path.exists() else {}
    results["machine"] = machine()
    for name, section in sections:
        say(f"== {name}")
        began, load = time.monotonic(), os.getloadavg()[0]
        figures = section()
        took = {"quick": quick, "took_s": time.monotonic() - began, "load": load}
        results[name] = figures | {key: took[key] for key in took if key not in figures}
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(results, indent=1))
    return results


# ---- a page ----


def page_of(parts: Iterable[str]) -> str:
    """A page's text, of its head, sections and last words; empty ones are left out. Paragraphs are
    filled; tables, lists, headings and pictures stay as they are."""
    blocks = "\n\n".join(part for part in parts if part).split("\n\n")
    plain = [not block.startswith(("|", "#", "!", "- ")) for block in blocks]
    filled = "\n\n".join(
        textwrap.fill(block, WIDTH, break_long_words=False, break_on_hyphens=False)
        if fill
        else block
        for block, fill in zip(blocks, plain, strict=True)
    )
    return filled + "\n"


def tryout(results: Results, how: str) -> str:
    """A warning, if any section ran with --quick."""
    if not any(section.get("quick") for section in results.values()):
        return ""
    return f"**This was a tryout, with {how}: its figures mean nothing.**"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """``4.65 [4.60-4.71]``: the median, the lowest and the highest."""
    low, high = min(values), max(values)
    text = f"{median(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} [{low:.{digits}f}-{high:.{digits}f}]"


def kept(holds: bool | None) -> str:
    """The cell behind what was promised; None: that was not measured."""
    return "" if holds is None else "yes" if holds else "**no**"


# ---- a picture ----


@contextlib.contextmanager
def picture(
    path: Path, rows: int, columns: int, size: tuple[float, float], gap: float | None = None
) -> Iterator[Any]:
    """Panels to be drawn into, by row and column; the file is written behind that."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False)
    yield axes
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout(w_pad=gap)
    figure.savefig(path, dpi=DPI)
    pyplot.close(figure)
