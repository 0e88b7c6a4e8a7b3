"""Writes docs/scaling.md from build/scaling.json.

Owns the page's words and tables, and every figure that is computed from what was measured; the
picture is scaling_picture.py. A section that was not run is left out. Seconds are medians; their
spread stands behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from figures import ROOT, Results, kept, page_of, spread, table, tryout

PAGE = ROOT / "docs" / "scaling.md"
PICTURE = ROOT / "docs" / "scaling.png"
SEED = {1: 1.0, 2: 1.91, 4: 3.70, 8: 7.10}
"""The speed-ups in the table of the project that Velum grew from."""
SYSTEMS = {"velum": "Velum", "processpool": "ProcessPool", "ray": "Ray", "dask": "Dask"}

Runs = Sequence[dict[str, Any]]


# ---- figures ----


def even(results: Results) -> Results:
    """The results with `even` seconds in each run beside which beats were counted: what its seconds
    would be if the machine had always been as fast as in the section's median run."""
    for name, groups in BEATEN.items():
        if name in results:
            ended = [run for runs in groups(results[name]) for run in runs if run["seconds"]]
            rate = median(run["beats"] / run["seconds"] for run in ended)
            for run in ended:
                run["even"] = run["beats"] / rate
            drift = [run["beats"] / run["seconds"] / rate for run in ended]
            results[name]["drift"] = (min(drift), max(drift))
    return results


BEATEN: dict[str, Callable[[Results], list[Runs]]] = {
    "scaling": lambda section: [runs for sizes in section["times"].values()
                                for runs in sizes.values()],
    "slow": lambda section: list(section["runs"].values()),
    "deaths": lambda section: list(section["nodes"].values()),
}  # fmt: skip


def times(runs: Runs) -> list[float]:
    """The seconds of those that came to an end, even ones where there are."""
    return [run.get("even", run["seconds"]) for run in runs if run["seconds"] is not None]


def middle(runs: Runs) -> float:
    """Their median."""
    return median(times(runs))


def speedups(section: Results) -> dict[str, dict[int, float]]:
    """By job and nodes: how many times faster than one node."""
    return {
        job: {int(n): middle(sizes["1"]) / middle(runs) for n, runs in sizes.items()}
        for job, sizes in section["times"].items()
    }


def loop_speedup(loops: dict[str, list[int]], few: str, many: str) -> float:
    """What plain loops reached together, against one."""
    return median(loops[many]) / median(loops[few])


def used(section: Results) -> float:
    """With a slow node: the share of the summed capacity that the job could use."""
    runs = section["runs"]
    return middle(runs["alone"]) / (section["capacity"] * middle(runs["mixed"]))


def overheads(section: Results) -> dict[str, float]:
    """What a scatter takes more than the same range as one task, and called directly: the median of
    the rounds, each by the beats of the loop beside."""
    beats = {name: [run[1] for run in runs] for name, runs in section["one"]["times"].items()}
    return {name: ratio(beats["scatter"], beats[name]) - 1 for name in ("task", "direct")}


def ratio(these: Sequence[float], those: Sequence[float]) -> float:
    """The median of the ratios of what was measured next to each other."""
    return median(this / that for this, that in zip(these, those, strict=True))


def ideal_shares(results: Results) -> dict[str, dict[int, float]]:
    """By system and milliseconds of a chunk: the ideal's time over the system's."""
    shares: dict[str, dict[int, float]] = {}
    for row in results.get("overhead", {}).get("chunks", []):
        shares.setdefault("velum", {})[row["ms"]] = ratio(row["ideal"], row["seconds"])
    for row in results.get("rivals", {}).get("rows", []):
        for name in row["times"].keys() & SYSTEMS.keys():
            found = ratio(row["times"]["plain"], row["times"][name])
            shares.setdefault(name, {})[row["ms"]] = found
    return shares


def added(runs: dict[str, Runs], name: str) -> float | None:
    """Seconds that a failure added; None: at least one job did not end well."""
    if any(run["seconds"] is None for run in runs[name]):
        return None
    return middle(runs[name]) - middle(runs["undisturbed"])


def lost_share(section: Results, name: str) -> float:
    """What the lost node would have done of the rest of the job, shared by the others."""
    whole = middle(section["nodes"]["undisturbed"])
    struck = median(
        run["struck_s"] * run["even"] / run["seconds"] for run in section["nodes"][name]
    )
    return (whole - struck) / (int(section["count"]) - 1)


# ---- the page ----


def write(results: Results) -> list[Path]:
    """Writes page and picture."""
    import scaling_picture

    results = even(results)
    PAGE.write_text(page(results))
    scaling_picture.draw(results, PICTURE)
    return [PAGE, PICTURE]


def page(results: Results) -> str:
    """The page's text."""
    machine = results["machine"]
    head = HEAD.format(**machine, versions=_versions(results), drift=_drift(results))
    warning = tryout(results, "short jobs, once")
    told = [tell(results) for name, tell in SECTIONS.items() if name in results]
    return page_of([head, warning, promises(results), *told, WORDS])


HEAD = """# How far scatters scale, and what they cost

Made by `make scaling`: {cpu}, {cores} cores, Linux {kernel}, Python {python}{versions}. Figures are
medians, with the least and the largest behind them; what is compared ran in turn, in the same run.
{drift}

![speed-up by nodes, share of the ideal by system, time added by failures](scaling.png)"""

WORDS = """## What these figures do not say

- All nodes are processes of one machine. There is no network between them but its loopback: no
  latency of a real one, no lost packets, no slow link. A module of a kilobyte is there at once.
- A quota gives a node its part of a core in portions of 1 ms every 10 ms. That is fair among nodes,
  but each is asleep for most of the time: the figures are of throughput, and say nothing of
  latency. What a node does beside the guest comes out of its own quota; the command runs outside.
- One node alone has that cost as well: its speed-up of 1 is not the guest's bare speed. The
  section on overhead measures that.
- Up to eight nodes were measured, and jobs of 4 to 40 s. One coordinator takes all reports of a
  job; where that ends is not measured here.
- The guests are small loops without state. A guest that writes to its memory is put back to a fresh
  state before each slice, which costs what its memory is large.
- Ray and Dask do much that Velum does not: objects, data frames, actors, Python itself. They are
  measured at what Velum does, with native code called through `ctypes`; Velum runs WebAssembly in
  an interpreter, some five times slower than that native code. The chunks are as long in time, not
  in work: the share of the ideal is what is compared, and the speed of the code is not.
- Killing a process is kind to whoever waits for it, because its system closes the connections at
  once. A stopped process is like a machine that lost its power. Neither is a flaky network."""


def _versions(results: Results) -> str:
    found = results.get("rivals", {}).get("versions", {})
    return "".join(f", {SYSTEMS[name]} {version}" for name, version in found.items())


def _drift(results: Results) -> str:
    found = [results[name]["drift"] for name in BEATEN if name in results]
    if not found:
        return ""
    low, high = min(low for low, _ in found), max(high for _, high in found)
    return (
        f"The speed of this machine's cores went from {low:.0%} to {high:.0%} of its median "
        "meanwhile. So a plain loop ran beside each job on held nodes, under the quota of one of "
        "them, and counted the time: a second is as many of its calls as it made in a median "
        "second."
    )


def seconds_or_why(runs: Runs) -> str:
    """The same of runs; what became of those that did not end."""
    failed = [run["why"] for run in runs if run["seconds"] is None]
    return ", ".join(dict.fromkeys(failed)) if failed else f"{spread(times(runs))} s"


def plus(seconds: float | None) -> str:
    """``+2.96 s``."""
    return "did not end" if seconds is None else f"{seconds:+.2f} s"


# ---- what was promised ----


def promises(results: Results) -> str:
    """The promised figures beside the measured ones."""
    rows: list[tuple[str, str, str, bool]] = []
    if "scaling" in results:
        found = speedups(results["scaling"])
        for job, least in (("pi", 7.6), ("primes", 7.2)):
            value = found[job][8]
            rows.append((f"speed-up of {job} on 8 nodes", f"{value:.2f}", f">= {least}",
                         value >= least))  # fmt: skip
    if "slow" in results:
        value = used(results["slow"])
        rows.append(("capacity used with a slow node", f"{value:.1%}", ">= 95%", value >= 0.95))
    if "overhead" in results:
        rows += _promised_overhead(results)
    if "deaths" in results:
        rows += _promised_deaths(results["deaths"])
    cells = [(what, value, bound, kept(holds)) for what, value, bound, holds in rows]
    return table(("figure", "measured", "promised", "kept"), cells)


def _promised_overhead(results: Results) -> list[tuple[str, str, str, bool]]:
    section = results["overhead"]
    direct = overheads(section)["direct"]
    shares = ideal_shares(results)["velum"]
    empty = 1000 * max(*section["empty"]["first"], *section["empty"]["later"])
    return [
        ("overhead of a 10 s job on one worker", f"{direct:+.1%}", "< 2%", direct < 0.02),
        *(
            (f"share of the ideal, {ms} ms slices", f"{shares[ms]:.1%}", f">= {least:.0%}",
             shares[ms] >= least)
            for ms, least in ((1, 0.95), (10, 0.99))
        ),
        (f"{section['empty']['slices']:,} empty slices, the slowest", f"{empty:.1f} ms",
         "< 100 ms", empty < 100),
    ]  # fmt: skip


def _promised_deaths(section: Results) -> list[tuple[str, str, str, bool]]:
    rows = []
    for name, more in (("node killed", 1.0), ("node stopped", 6.0)):
        value, bound = added(section["nodes"], name), lost_share(section, name) + more
        text = f"<= {bound:.2f} s: its share + {more:.0f} s"
        rows.append((f"{name}, added", plus(value), text, value is not None and value <= bound))
    value = added(section["nodes"], "coordinator killed")
    holds = value is not None and value <= 6
    return [*rows, ("coordinator killed, added", plus(value), "<= 6 s", holds)]


# ---- sections ----


def tell_scaling(results: Results) -> str:
    section = results["scaling"]
    sizes = [int(n) for n in next(iter(section["times"].values()))]
    found = speedups(section)
    rows = []
    for job, runs in section["times"].items():
        rows.append([job, *(f"{spread(times(runs[str(n)]))} s" for n in sizes)])
        rows.append(["", *(f"**{found[job][n]:.2f}**" for n in sizes)])
    loops = loop_speedup(section["loops"], "1", str(sizes[-1]))
    gaps = [""] * (len(sizes) - 2)
    rows.append(["plain loops", "1.00", *gaps, f"{loops:.2f}"])
    rows.append(["the seed's own table", *(f"{SEED[n]:.2f}" for n in sizes)])
    jobs = "\n".join(f"- {job}: `velum scatter {text}`" for job, text in section["jobs"].items())
    return f"""## Speed-up

Each node has one worker and is held to {section["quota"]:.0%} of a core by a cgroup: a quota of
{section["quota"] * section["period_us"] / 1000:.0f} ms in periods of
{section["period_us"] / 1000:.0f} ms. All groups share a parent of large weight, so that nothing
else takes their turns. What such quotas really give is shown by plain loops of C under the same
quotas. The whole job is timed, from starting the command to its end; nodes have worked before, but
not seen the module. Rounds: {section["rounds"]}.

{jobs}

The range of primes is uneven: its last slices take longest. In every other slice of the search
there is a number to be found, and a slice ends where it is found.

{table(["nodes", *map(str, sizes)], rows)}"""


def tell_slow(results: Results) -> str:
    section = results["slow"]
    runs, nodes = section["runs"], section["nodes"]
    loops = loop_speedup(section["loops"], "alone", "mixed")
    rows = [
        ("one node", seconds_or_why(runs["alone"]), "1.00"),
        (f"{nodes - 1} nodes and a slow one", seconds_or_why(runs["mixed"]),
         f"{middle(runs['alone']) / middle(runs['mixed']):.2f}"),
        ("plain loops under the same quotas", "", f"{loops:.2f}"),
    ]  # fmt: skip
    return f"""## One slow node

{nodes} nodes, of which one, not the coordinator, is held to {section["slow"]:.0%} of a core and the
others to {section["quota"]:.0%}: {section["capacity"]:.1f} nodes in sum. `velum scatter
{section["job"]}` uses **{used(section):.1%}** of that.

{table(["", "time", "speed-up"], rows)}"""


def tell_overhead(results: Results) -> str:
    section = results["overhead"]
    one, empty = section["one"], section["empty"]
    names = {
        "scatter": "scatter, 4096 slices, by a client",
        "task": "one task of the same worker",
        "direct": "called directly, by pywasm3",
    }
    more = overheads(section)
    rows = [
        (text, f"{spread([run[0] for run in one['times'][name]])} s",
         f"{more[name]:+.2%}" if name in more else "")
        for name, text in names.items()
    ]  # fmt: skip
    later = [1000 * s for s in empty["later"]]
    first = [1000 * s for s in empty["first"]]
    many = median(empty["many"])
    empties = [
        (f"{empty['slices']:,} empty slices, the first job of a node", f"{spread(first, 1)} ms"),
        ("the same, later", f"{spread(later, 1)} ms"),
        (f"{empty['many_slices']:,} empty slices", f"{spread(empty['many'])} s, "
         f"{empty['many_slices'] / many / 1e6:.1f} million a second"),
    ]  # fmt: skip
    return f"""## Overhead

Nodes here are held to nothing. `count_primes` over [0, {one["end"]:,}) on one worker; caller,
node and worker share one CPU, and what is compared is counted by a plain loop that has
{one["beat"]:.0%} of it:

{table(["", "time", "scatter over this"], rows)}

{section["workers"]} workers, from the call of `scatter` to its answer:

{table(["", "time"], empties)}"""


def tell_rivals(results: Results) -> str:
    shares = ideal_shares(results)
    section = results["rivals"]
    chunks = {row["ms"]: row["chunks"] for row in section["rows"]}
    head = ["chunk", *(name for key, name in SYSTEMS.items() if key in shares)]
    systems = [shares[key] for key in SYSTEMS if key in shares]
    rows = [
        [
            f"{ms} ms x {count}",
            *(f"{found[ms]:.1%}" if ms in found else "" for found in systems),
        ]
        for ms, count in chunks.items()
    ]
    return f"""## Share of the ideal, on 2 workers

For Velum the ideal is the same range in two plain tasks, half of it each; for the others it is two
processes that call the same native function as often, with nothing between them. Above 100% is
noise of the machine.

{table(head, rows)}"""


def tell_deaths(results: Results) -> str:
    section = results["deaths"]
    runs = section["nodes"]
    rows = [
        (name, seconds_or_why(found), "" if name == "undisturbed" else plus(added(runs, name)))
        for name, found in runs.items()
    ]
    loops, count = section["loops"], section["count"]
    names = {"undisturbed": "undisturbed", "kill": "killed", "stop": "stopped for good"}
    beside = []
    for system, found in section["workers"].items():
        cells = [SYSTEMS[system], seconds_or_why(found["undisturbed"])]
        for name in ("kill", "stop"):
            well = name in found and added(found, name) is not None
            cells.append(plus(added(found, name)) if well else _why(found, name))
        beside.append(cells)
    return f"""## Failures

{count} nodes with one worker each, held to {section["quota"]:.0%} of a core ({count} plain loops
reach {loops[str(count)] / loops["1"]:.2f} times one). At half of the undisturbed job's time every
process of a node is killed (SIGKILL), or stopped for good (SIGSTOP). What the lost node would have
done costs the others {lost_share(section, "node killed"):.2f} s. The command is attached to the
coordinator, and finds another node by itself.

{table(["", "whole job", "added"], rows)}

One worker process of two is killed or stopped, half-way through a job of chunks of
{section["chunk_ms"]} ms; for the rivals, of native code. Nobody waited longer than
{section["late_s"]:.0f} s.

{table(["", names["undisturbed"], f"one {names['kill']}", f"one {names['stop']}"], beside)}"""


def _why(found: dict[str, Runs], name: str) -> str:
    return seconds_or_why(found[name]) if name in found else "not measured"


SECTIONS = {
    "scaling": tell_scaling,
    "slow": tell_slow,
    "overhead": tell_overhead,
    "rivals": tell_rivals,
    "deaths": tell_deaths,
}
