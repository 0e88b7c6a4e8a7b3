"""Writes docs/storage_bench.md and its picture from build/storage.json.

Owns the page's words and tables, what was promised, and every figure that is computed from what was
measured. A section that was not run is left out; a system that was left out is named. Rates are
those of the median time; in brackets the lowest and the highest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

from figures import ROOT, Results, kept, page_of, picture, spread, table, tryout

PAGE = ROOT / "docs" / "storage_bench.md"
PICTURE = ROOT / "docs" / "storage_bench.png"

VELUM = "velum"
AS_BYTES = "velum, as new bytes"
PIPELINED = "Redis, redis-py"
GET_PLAIN, PUT_PLAIN = 0.40, 0.30  # of what the plain C store does
GET_OTHERS, PUT_OTHERS = 1.5, 1.0  # times the best of the others
FILES = 1.0  # times redis-py
REBUILD = 0.5  # of what links carry
WAYS = {"one": "one direction", "both": "both directions"}
COLOURS = {"velum": "#2a7f62", "plain": "#8a8a8a", "limit": "#8a8a8a", "rival": "#d0d0d0"}

Load = dict[str, Any]


# ---- figures ----


def rates(load: Load, row: str, what: str) -> list[float]:
    """By round: GB a second of a single value, thousands of files a second of many."""
    amount = load["size"] / 1e9 if load["count"] == 1 else load["count"] / 1e3
    return [amount / seconds for seconds in load["rows"][row].get(what, [])]


def rate(load: Load, row: str, what: str) -> float:
    """In the median of the rounds."""
    return median(rates(load, row, what))


def rows_of(load: Load, kind: str, what: str) -> list[str]:
    """The rows of a kind that have this."""
    return [name for name, row in load["rows"].items() if row["kind"] == kind and what in row]


def plain_row(load: Load, what: str) -> str | None:
    """The plain C store with Velum's congestion control; the fastest if that is not known."""
    plain = rows_of(load, "plain", what)
    mine = load["rows"].get(VELUM, {}).get("control")
    same = [name for name in plain if load["rows"][name]["control"] == mine]
    return max(same or plain, key=lambda name: rate(load, name, what), default=None)


def best_of(load: Load, kind: str, what: str) -> str | None:
    """The fastest row of a kind."""
    return max(rows_of(load, kind, what), key=lambda name: rate(load, name, what), default=None)


# ---- the page ----


def write(results: Results) -> list[Path]:
    """Writes page and picture."""
    PAGE.write_text(page(results))
    written = [PAGE]
    if "values" in results:
        draw(results["values"]["loads"])
        written.append(PICTURE)
    return written


def page(results: Results) -> str:
    """The page's text."""
    values = results.get("values", {})
    versions = [f"{name} {version}" for name, version in values.get("versions", {}).items()]
    control = values.get("control", "unknown")
    parts = [HEAD.format(**results["machine"], versions=", ".join(versions), control=control)]
    parts.append(tryout(results, "little data"))
    parts += [f"Not measured: {name} ({why})." for name, why in missing(results).items()]
    parts.append(promises(results))
    parts += [tell_load(load) for load in values.get("loads", [])]
    if results.get("rebuild", {}).get("links"):
        parts.append(tell_rebuild(results["rebuild"]))
    return page_of([*parts, WORDS])


def missing(results: Results) -> dict[str, str]:
    """What was left out, and why."""
    found: dict[str, str] = dict(results.get("values", {}).get("missing", {}))
    if "missing" in results.get("rebuild", {}):
        found["velum's rebuild"] = results["rebuild"]["missing"]
    return found


HEAD = """# Files in RAM, beside a plain C store, memcached and Redis

Made by `make storage-bench`: {cpu}, {cores} cores, Linux {kernel}, Python {python}; {versions}. One
client, all over loopback, nothing pinned to a core; the system's congestion control is {control}.
Figures are medians, with the lowest and the highest behind them; what is compared ran in turn, in
the same run.

![GB and files a second by system](storage_bench.png)"""

WORDS = """## How this was measured

- Velum is one client over three nodes, one copy of each chunk, chunks of 1 MiB. Its put is
  acknowledged when all nodes concerned have checked every hash; its get checks them again. All
  bytes are random, and stamped anew before each put, because Velum keeps equal chunks once.
- The plain C store is one client and one server process over one connection: bytes from touched
  memory into a socket and out of it into touched memory. It names, hashes and checks nothing. The
  row whose congestion control is that of Velum's links is what Velum is compared with. Sent to
  three processes, it shows what a client can reach that has each file acknowledged by three.
  Hashing each MiB with BLAKE3 before it is sent in a put, and again as it comes, it shows what any
  store can reach on these cores that names chunks by their hash and checks them at both ends.
- memcached has one thread, as it has one client. Its largest value is less than 1 GiB, so that is
  in pieces; Redis takes it whole, and is also measured in pieces. Puts of pymemcache wait for their
  acknowledgement, which they would not by default. Batches are `set_multi` and `get_multi`,
  `set_many` and `get_many`, and a pipeline of Redis without a transaction.
- Pages that are touched for the first time cost as much as several copies. So every system has put
  and got the same two times before the clock runs, and servers use memory again that they have.
  Under new names they have to take memory that they have not used, and nothing is freed. The plain
  C store and Velum's `readinto` fill a buffer that was there before. No other client
  can: they return new bytes, and so does Velum in the row of that name.
- Everything runs on one machine: systems share its cores with their clients, and no network is
  between them. Velum's three nodes and its client have as many cores as the others' two
  processes."""


def promises(results: Results) -> str:
    """What was promised beside what was measured."""
    rows: list[tuple[str, float | None, float, str]] = []
    for load in results.get("values", {}).get("loads", []):
        rows += promised_value(load) if load["count"] == 1 else promised_files(load)
    for link, section in results.get("rebuild", {}).get("links", {}).items():
        found = median(run["rate"] / run["links"]["both"] for run in section["runs"])
        rows.append((f"rebuild over {link}", found, REBUILD, "plain C, both directions"))
    cells = []
    for what, ratio, least, which in rows:
        measured = "not measured" if ratio is None else f"{ratio:.2f}"
        holds = None if ratio is None else ratio >= least
        cells.append((what, which, measured, f">= {least:.2f}", kept(holds)))
    return table(("velum over this", "which", "measured", "promised", "kept"), cells)


def promised_value(load: Load) -> Iterable[tuple[str, float | None, float, str]]:
    """Of one large value; under new names the plain C store does not put it."""
    if load["fresh"]:
        best = best_of(load, "rival", "put")
        yield compared(load, "put", f"{load['name']}, put, best other", best, PUT_OTHERS)
        return
    for what, plain, others in (("get", GET_PLAIN, GET_OTHERS), ("put", PUT_PLAIN, PUT_OTHERS)):
        name = f"{load['name']}, {what}"
        yield compared(load, what, f"{name}, plain C", plain_row(load, what), plain)
        best = best_of(load, "rival", what)
        yield compared(load, what, f"{name}, best other", best, others)
        if what == "get":
            yield compared(load, what, f"{name} as new bytes, best other", best, others, AS_BYTES)


def promised_files(load: Load) -> Iterable[tuple[str, float | None, float, str]]:
    """Of many small ones."""
    row = PIPELINED if PIPELINED in load["rows"] else None
    for what in ("put", "get"):
        yield compared(load, what, f"{load['name']}, {what}, redis-py", row, FILES)


def compared(
    load: Load, what: str, name: str, row: str | None, least: float, mine: str = VELUM
) -> tuple[str, float | None, float, str]:
    """Velum's rate over a row's."""
    ratio = None
    if row is not None and mine in load["rows"]:
        ratio = rate(load, mine, what) / rate(load, row, what)
    return name, ratio, least, row or ""


def tell_load(load: Load) -> str:
    """A load's table."""
    single = load["count"] == 1
    unit = "GB/s" if single else "thousand files a second"
    rows = []
    for name, row in load["rows"].items():
        cells = [f"{name} ({row['note']})" if row["note"] else name]
        for what in ("put", "get"):
            found = rates(load, name, what)
            cells.append(spread(found, 2 if single else 1) if found else "")
            mine = VELUM in load["rows"] and name != VELUM and found
            ratio = rate(load, VELUM, what) / median(found) if mine else None
            cells.append("" if ratio is None else f"{ratio:.2f}")
        rows.append(cells)
    head = ("", f"put, {unit}", "velum / this", f"get, {unit}", "velum / this")
    what = "One value" if single else f"{load['count']:,} files"
    return f"""## {what} of {load["name"]}

Rounds: {load["rounds"]}.

{table(head, rows)}"""


def tell_rebuild(section: Results) -> str:
    """The rebuild's table."""
    links = section["links"].values()

    def row(what: str, figure: Callable[[Results], float]) -> list[str]:
        return [what, *(spread([figure(run) for run in link["runs"]]) for link in links)]

    rows = [
        ["files", *(f"{section['files']} of {link['size'] >> 20} MiB" for link in links)],
        row("copies remade, GB", lambda run: run["bytes"] / 1e9),
        row("seconds from the death until they were", lambda run: run["seconds"]),
        row("meanwhile, GB/s", lambda run: run["rate"] / 1e9),
    ]
    for ways, text in WAYS.items():
        rows.append(row(f"plain C, {text}, GB/s", lambda run, ways=ways: run["links"][ways] / 1e9))
    return f"""## Copies remade after a death

{section["nodes"]} nodes hold files in two copies, with `--repair-rate max`. One is killed with
SIGKILL; the two others give each other what they lack. Seconds count from the kill, and contain the
two that nodes wait before they repair; the rate is that of the middle eight tenths of the bytes, as
the loopback counts them. Before and after it a process of plain C sends another what it can over
one connection, and then both do. In the end another node is killed, and all files are read back
from the last one. Over 10gbit and 1gbit all of it runs in a network namespace whose loopback tc
holds to that rate, both directions together; the bare loopback is as fast as memory, and there the
nodes, which hash what they send and receive, are at the end of their two cores.

{table(["", *section["links"]], rows)}"""


# ---- the picture ----


def draw(loads: list[Load]) -> None:
    """Bars by system: values above, small files below; put left, get right."""
    groups = [
        [load for load in loads if (load["count"] == 1) is single] for single in (True, False)
    ]
    shown = [(loads, "GB/s" if n == 0 else "thousand files/s") for n, loads in enumerate(groups)]
    with picture(PICTURE, 2, 2, (12, 9), 2) as axes:
        for panels, (some, unit) in zip(axes, shown, strict=True):
            for axis, what in zip(panels, ("put", "get"), strict=True):
                draw_bars(axis, some, what, unit)


def draw_bars(axis: Any, loads: list[Load], what: str, unit: str) -> None:
    """One panel: a bar for each load of each system, the first load's in full colour."""
    names = [
        name
        for name in dict.fromkeys(name for load in loads for name in load["rows"])
        if any(what in load["rows"].get(name, {}) for load in loads)
    ]
    height = 0.8 / max(1, len(loads))
    for number, load in enumerate(loads):
        found = [(n, name) for n, name in enumerate(names) if what in load["rows"].get(name, {})]
        bars = axis.barh(
            [n + (number - (len(loads) - 1) / 2) * height for n, _ in found],
            [rate(load, name, what) for _, name in found],
            height,
            color=[COLOURS[load["rows"][name]["kind"]] for _, name in found],
            alpha=1 - 0.3 * number,
            label=load["name"],
        )
        axis.bar_label(bars, fmt="%.3g", padding=3, fontsize=7)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.12)
    order = ", ".join(load["name"] for load in loads)
    axis.set_title(f"{what}, {unit}\nof each from above: {order}", loc="left", fontsize=8)
