"""Draws docs/scaling.png: speed-up by nodes, share of the ideal, time that failures add.

Owns how it looks. What it shows is computed in scaling_report.py; a panel whose section was not run
is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from figures import Results, picture
from scaling_report import SEED, SYSTEMS, added, ideal_shares, lost_share, speedups

VELUM = "#2a7f62"
JOBS = {"pi": "#2a7f62", "primes": "#3f6fb0", "search": "#b0703f"}
COLOURS = {"velum": VELUM, "processpool": "#8a8a8a", "ray": "#b8b8b8", "dask": "#dcdcdc"}


def draw(results: Results, path: Path) -> None:
    """The picture."""
    shown = [panel for section, panel in PANELS.items() if section in results]
    if not shown:
        return
    with picture(path, 1, len(shown), (5.2 * len(shown), 4.4), 2.5) as axes:
        for axis, panel in zip(axes[0], shown, strict=True):
            panel(axis, results)


def draw_speedups(axis: Any, results: Results) -> None:
    """Speed-up against nodes, with the ideal line and the seed's table."""
    sizes = list(SEED)
    axis.plot(sizes, sizes, color="#999999", linewidth=1, label="ideal")
    axis.plot(sizes, list(SEED.values()), "x--", color="#c05050", linewidth=1, label="seed")
    for job, found in speedups(results["scaling"]).items():
        style = {"color": JOBS[job], "linewidth": 1.2, "markersize": 5}
        axis.plot(list(found), list(found.values()), "o-", label=job, **style)
    axis.set_xticks(sizes)
    axis.set_yticks(range(0, 9, 2))
    axis.set_xlabel("nodes, each held to a tenth of a core")
    axis.set_title("times faster than one node", loc="left", fontsize=10)
    axis.legend(frameon=False)


def draw_shares(axis: Any, results: Results) -> None:
    """Bars by chunk and system."""
    shares = ideal_shares(results)
    systems = [name for name in SYSTEMS if name in shares]
    chunks = sorted({ms for found in shares.values() for ms in found})
    width = 0.8 / len(systems)
    for number, system in enumerate(systems):
        places = [i + (number - (len(systems) - 1) / 2) * width for i in range(len(chunks))]
        values = [100 * shares[system].get(ms, 0) for ms in chunks]
        bars = axis.bar(places, values, width, label=SYSTEMS[system], color=COLOURS[system])
        axis.bar_label(bars, fmt="%.0f", fontsize=7, padding=1)
    axis.axhline(100, color="#999999", linewidth=1)
    axis.set_xticks(range(len(chunks)), [f"{ms} ms" for ms in chunks])
    axis.set_xlabel("length of a slice or chunk")
    axis.set_ylim(0, 130)
    axis.set_title("share of the ideal on 2 workers, %", loc="left", fontsize=10)
    axis.legend(frameon=False, ncols=2, loc="upper left", fontsize=8)


def draw_failures(axis: Any, results: Results) -> None:
    """Seconds that failures add: Velum's nodes, then one worker of two by system."""
    section = results["deaths"]
    limit = section["late_s"]
    rows: list[tuple[str, float | None, str]] = []
    for name in section["nodes"]:
        if name != "undisturbed":
            rows.append((f"{name}, 1 of {section['count']}", added(section["nodes"], name), VELUM))
    for name, word in (("kill", "killed"), ("stop", "stopped")):
        for system, found in section["workers"].items():
            if name in found:
                label = f"worker {word}, {SYSTEMS[system]}"
                rows.append((label, added(found, name), COLOURS[system]))
    rows.reverse()
    values = [limit if seconds is None else max(0.0, seconds) for _, seconds, _ in rows]
    labels = ["did not end" if seconds is None else f"+{seconds:.1f} s" for _, seconds, _ in rows]
    bars = axis.barh([row[0] for row in rows], values, color=[row[2] for row in rows])
    axis.bar_label(bars, labels=labels, padding=3, fontsize=8)
    axis.axvline(lost_share(section, "node killed"), color="#999999", linewidth=1, linestyle=":")
    axis.set_xscale("symlog", linthresh=1)
    axis.set_xlim(0, 6 * limit)
    axis.tick_params(axis="y", labelsize=8)
    axis.set_xlabel("seconds; dotted: the lost node's share of the work")
    axis.set_title("time added by a failure half-way", loc="left", fontsize=10)


PANELS: dict[str, Callable[[Any, Results], None]] = {
    "scaling": draw_speedups,
    "rivals": draw_shares,
    "deaths": draw_failures,
}
