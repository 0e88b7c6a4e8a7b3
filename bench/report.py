"""Writes docs/benchmarks.md and docs/benchmarks.png from a run's JSON.

`make bench` runs the benchmarks and then this; `python bench/report.py RESULTS.json` alone redraws.
Times are medians; a ratio compares two rows of the same run and group.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from figures import ROOT, picture

PAGE = ROOT / "docs" / "benchmarks.md"
PICTURE = ROOT / "docs" / "benchmarks.png"

INTRODUCTION = """# What Velum measures beside its rivals

Made by `make bench` ({cpu}, {cores} cores, Python {python}). Every group was run together, one
after the other; machines drift, so compare within a group and quote the ratios. "Same core" pins
the caller and the other side to one CPU, "two cores" to one each. Ray runs on two workers of its
own choosing in both.

![time per call, by system](benchmarks.png)
"""


def rows_of(results: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Rows by group: what, microseconds a call, whether it is velum, further figures."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for bench in results["benchmarks"]:
        info = bench["extra_info"]
        groups.setdefault(bench["group"], []).append(
            {
                "what": info.get("what", bench["name"]),
                "us": bench["stats"]["median"] / info.get("units", 1) * 1e6,
                "velum": info.get("velum", False),
                "figures": info.get("figures", {}),
            }
        )
    return groups


def amount(us: float) -> str:
    """Microseconds as a person writes them."""
    if us < 1000:
        return f"{us:.3g} us"
    return f"{us / 1000:.3g} ms" if us < 1e6 else f"{us / 1e6:.3g} s"


def page(results: dict[str, Any], groups: dict[str, list[dict[str, Any]]]) -> str:
    """The page's text."""
    machine = results["machine_info"]
    cpu = machine.get("cpu", {})
    text = INTRODUCTION.format(
        cpu=cpu.get("brand_raw", "unknown CPU"),
        cores=cpu.get("count", "?"),
        python=machine["python_version"],
    )
    for group, rows in groups.items():
        mine = next((row["us"] for row in rows if row["velum"]), None)
        text += f"\n## {group}\n\n| | median | velum / this |\n|---|---|---|\n"
        for row in rows:
            ratio = "" if row["velum"] or mine is None else f"{mine / row['us']:.2f}"
            text += f"| {row['what']} | {amount(row['us'])} | {ratio} |\n"
        for row in rows:
            for name, value in row["figures"].items():
                text += f"| {name} | {value} | |\n"
    return text


def draw(groups: dict[str, list[dict[str, Any]]]) -> None:
    """The picture: time a call of `add`, logarithmic, one panel a way of calling."""
    shown = [name for name in groups if "add" in name]
    with picture(PICTURE, len(shown), 1, (9, 1.1 + 1.5 * len(shown))) as axes:
        for axis, name in zip(axes[:, 0], shown, strict=True):
            rows = sorted(groups[name], key=lambda row: -row["us"])
            colours = ["#2a7f62" if row["velum"] else "#b8b8b8" for row in rows]
            labels = [row["what"].split(",")[0] for row in rows]
            bars = axis.barh(labels, [row["us"] for row in rows], color=colours)
            axis.bar_label(bars, labels=[amount(row["us"]) for row in rows], padding=4)
            axis.set_xscale("log")
            axis.set_xlim(1, 3000)
            axis.set_title(name, loc="left", fontsize=10)
        axes[-1][0].set_xlabel("microseconds a call, median (logarithmic)")


def main() -> int:
    results = json.loads(Path(sys.argv[1]).read_text())
    groups = rows_of(results)
    PAGE.write_text(page(results, groups))
    draw(groups)
    print(f"wrote {PAGE.relative_to(ROOT)} and {PICTURE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
