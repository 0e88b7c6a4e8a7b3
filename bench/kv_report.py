"""Writes docs/kv_bench.md and its picture from build/kv.json.

Owns the page's words and tables, what was promised, and every figure that is computed from what was
measured. A section that was not run is left out. Figures are medians over rounds; in brackets the
lowest and the highest.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from figures import ROOT, Results, kept, page_of, picture, spread, table, tryout

PAGE = ROOT / "docs" / "kv_bench.md"
PICTURE = ROOT / "docs" / "kv_bench.png"
NAMES = {
    "velum": "Velum",
    "zenoh": "Zenoh",
    "redis": "Redis, redis-py",
    "redis-plain": "Redis, plain sockets",
}
COLOURS = {"velum": "#2a7f62", "redis": "#c0504d", "redis-plain": "#d99795", "zenoh": "#8a8a8a"}
ASKED = {"ram": "memory", "log": "the file", "fsync": "the disk", "quorum": "disk and majority"}

RATES = {"log 1": 0.7, "log 16": 0.4, "fsync 1": 0.8}  # of Redis's
WATCH_ZENOH, WATCH_REDIS = 1.5, 1.0  # times its time
LOAD_S, KEY_BYTES = 5.0, 400
EQUAL_BYTES, DIFFERING_BYTES = 10 << 10, 100 << 10
PROMISED_KEYS = 1_000_000

Runs = dict[str, list[Any]]


# ---- figures ----


def rates(runs: Runs, system: str, test: str) -> list[float]:
    """Thousands of requests a second, by round."""
    return [run[test]["rps"] / 1e3 for run in runs[system]]


def ratio(runs: Runs, test: str) -> float:
    """Velum's median rate over Redis's."""
    return median(rates(runs, "velum", test)) / median(rates(runs, "redis", test))


def tests(runs: Runs) -> list[str]:
    """The commands that were measured."""
    return list(runs["velum"][0])


def short(runs: Runs) -> str:
    """For the eye of who waits."""
    return ", ".join(
        f"{test} {median(rates(runs, 'velum', test)):.0f} k/s, {ratio(runs, test):.2f} of Redis"
        for test in tests(runs)
    )


def times(runs: list[Any], share: str, scale: float) -> list[float]:
    """One quantile by round, in microseconds."""
    return [run[share] * scale for run in runs]


# ---- the page ----


def write(results: Results) -> list[Path]:
    """Writes page and picture."""
    PAGE.write_text(page(results))
    written = [PAGE]
    if "latency" in results:
        draw(results)
        written.append(PICTURE)
    return written


def page(results: Results) -> str:
    """The page's text."""
    head = HEAD.format(**results["machine"])
    told = [tell(results[name]) for name, tell in SECTIONS.items() if name in results]
    return page_of([head, tryout(results, "few requests"), promises(results), *told, WORDS])


HEAD = """# State that every node holds, beside Redis and Zenoh

Made by `make kv-bench`: {cpu}, {cores} cores, Linux {kernel}, Python {python}. Figures are medians,
with the lowest and the highest behind them; what is compared ran in turn, in the same run.

![latency of a put by durability; one way from a put to a watcher](kv_bench.png)"""

WORDS = """## How this was measured

- Rates and latencies are those of Debian's `redis-benchmark`, unchanged, on one core; the server is
  on the other. Values have 100 bytes, under 10,000 keys. Velum answers over `--resp`.
- *The file*: Redis with `appendonly yes, appendfsync everysec`, Velum with `--durability log`; what
  was acknowledged survives the process, and Velum's log is on disk when it is next synced.
  *The disk*: `appendfsync always` and `--durability fsync`.
- One way: the writer's process is on one core, the watcher's on the other; a message carries the
  time of its put by the clock they share, and puts are a millisecond apart. Velum and Zenoh are
  used through their Python packages, each side a node (a peer) of its own. Redis has no watcher of
  that kind: it is PUBLISH on the master to a client of the replica that is subscribed, both through
  redis-py; the row with plain sockets is without any client library.
- Everything runs on one machine, over its loopback: no network is between them."""


def promises(results: Results) -> str:
    """What was promised beside what was measured."""
    rows = [*promised_rates(results), *promised_ways(results), *promised_size(results)]
    return table(("what", "measured", "promised", "kept"), rows)


def promised_rates(results: Results) -> Iterable[tuple[str, str, str, str]]:
    """Of redis-benchmark."""
    for name, least in RATES.items():
        runs = results.get("commands", {}).get("rates", {}).get(name)
        if runs is None:
            continue
        for test in tests(runs):
            found = ratio(runs, test)
            asked, pipeline = name.split()
            what = f"{test}, {asked}, -P {pipeline}: Velum's rate over Redis's"
            yield what, f"{found:.2f}", f">= {least}", kept(found >= least)


def promised_ways(results: Results) -> Iterable[tuple[str, str, str, str]]:
    """Of watching."""
    ways = results.get("watch", {}).get("ways", {})
    if "velum" not in ways:
        return
    mine = median(times(ways["velum"], "p50", 1))
    for system, most in (("zenoh", WATCH_ZENOH), ("redis", WATCH_REDIS), ("redis-plain", None)):
        if system in ways:
            found = mine / median(times(ways[system], "p50", 1))
            what = f"one way, put to watcher: Velum's time over that of {NAMES[system]}"
            if most is None:
                yield what, f"{found:.2f}", "", ""
            else:
                yield what, f"{found:.2f}", f"<= {most}", kept(found <= most)


def promised_size(results: Results) -> Iterable[tuple[str, str, str, str]]:
    """Of a large store."""
    section = results.get("million")
    if section is None:
        return
    keys = f"{section['keys']:,} keys of 100 bytes"
    load_s, size = section["load_s"], section["bytes_a_key"]
    equal, differing = section["equal_bytes"], section["differing_bytes"]
    rows = (
        ("start", f"{load_s:.1f} s", f"<= {LOAD_S:.0f} s", load_s <= LOAD_S),
        ("memory of one", f"{size:.0f} bytes", f"<= {KEY_BYTES}", size <= KEY_BYTES),
        ("two equal nodes compared", f"{equal:,} bytes", f"< {EQUAL_BYTES:,}", equal < EQUAL_BYTES),
        (f"{section['differing']} of them differing", f"{differing:,} bytes",
         f"< {DIFFERING_BYTES:,}", differing < DIFFERING_BYTES),
    )  # fmt: skip
    promised = section["keys"] == PROMISED_KEYS
    for what, found, bound, holds in rows:
        yield f"{keys}: {what}", found, bound, kept(holds if promised else None)


def tell_commands(section: Results) -> str:
    """Tables of rates."""
    rows = []
    for name, runs in section["rates"].items():
        asked, pipeline = name.split()
        for test in tests(runs):
            mine, theirs = (spread(rates(runs, s, test), 0) for s in ("velum", "redis"))
            rows.append((test, ASKED[asked], pipeline, mine, theirs, f"{ratio(runs, test):.2f}"))
    head = ("command", "acknowledged when in", "-P", "Velum, k/s", "Redis, k/s", "ratio")
    return f"""## Commands over the Redis protocol

`redis-benchmark` with {section["connections"]} connections.

{table(head, rows)}"""


def tell_latency(section: Results) -> str:
    """A table of latencies."""
    rows = []
    for asked, runs in section["latencies"].items():
        cells = [ASKED[asked]]
        for system in ("velum", "redis"):
            for share in ("p50", "p99"):
                some = runs.get(system)
                cells.append(spread(times(some, share, 1e3), 0) if some else "")
        rows.append(cells)
    head = ("acknowledged when in", "Velum p50, us", "p99", "Redis p50, us", "p99")
    return f"""## A put of one client, one after the other

{table(head, rows)}"""


def tell_watch(section: Results) -> str:
    """A table of one-way times."""
    rows = []
    for system, runs in section["ways"].items():
        shares = [spread(times(runs, share, 1), 0) for share in ("p50", "p95", "p99")]
        rows.append((NAMES[system], *shares))
    return f"""## One way: from a put to a watcher on another node

{table(("", "p50, us", "p95, us", "p99, us"), rows)}"""


def tell_million(section: Results) -> str:
    """What a large store costs."""
    return f"""## {section["keys"]:,} keys of 100 bytes

The log has {section["log_bytes"] / 1e6:.0f} MB. A node that starts from it serves after
{section["load_s"]:.1f} s, Python's own start included, and holds {section["bytes_a_key"]:.0f} bytes
for each key beside what an empty node holds. A second node with the same log exchanges
{section["equal_bytes"]:,} bytes with the first until both know that nothing differs, and
{section["differing_bytes"]:,} bytes if {section["differing"]} keys do."""


SECTIONS = {
    "commands": tell_commands,
    "latency": tell_latency,
    "watch": tell_watch,
    "million": tell_million,
}


# ---- the picture ----


def draw(results: Results) -> None:
    """Bars: latency by durability, beside Redis; one way by system."""
    ways = results.get("watch", {}).get("ways", {})
    with picture(PICTURE, 1, 2 if ways else 1, (11, 4.2), 3) as axes:
        draw_latency(axes[0][0], results["latency"]["latencies"])
        if ways:
            draw_ways(axes[0][1], ways)


def draw_latency(axis: Any, latencies: dict[str, Runs]) -> None:
    """By what was asked of the log, for both systems."""
    for number, system in enumerate(("velum", "redis")):
        for place, runs in enumerate(latencies.values()):
            if system in runs:
                label = NAMES[system].split(",")[0] if place == 0 else None
                at = place + (number - 0.5) * 0.4
                draw_bar(axis, at, 0.38, system, runs[system], 1e3, label)
    axis.set_yscale("log")
    axis.set_xticks(range(len(latencies)), [ASKED[name] for name in latencies], fontsize=8)
    axis.set_title(
        "a put, one after the other: p50, p99, us\nacknowledged when it is in",
        loc="left",
        size=9,
    )
    axis.legend(frameon=False, fontsize=8)


def draw_ways(axis: Any, ways: dict[str, list[Any]]) -> None:
    """By system."""
    for place, (system, runs) in enumerate(ways.items()):
        draw_bar(axis, place, 0.6, system, runs, 1)
    axis.set_xticks(range(len(ways)), [NAMES[system] for system in ways], fontsize=8)
    axis.set_title("from a put to a watcher on another node: p50 and p99, us", loc="left", size=9)


def draw_bar(
    axis: Any,
    at: float,
    width: float,
    system: str,
    runs: list[Any],
    scale: float,
    label: str | None = None,
) -> None:
    """p50 as a bar, p99 as its whisker."""
    middle, high = (median(times(runs, share, scale)) for share in ("p50", "p99"))
    bar = axis.bar(
        at,
        middle,
        width,
        yerr=[[0], [max(0.0, high - middle)]],
        color=COLOURS[system],
        ecolor="#555555",
        capsize=3,
        label=label,
    )
    axis.bar_label(bar, fmt="%.0f", padding=2, fontsize=8)
