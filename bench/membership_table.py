"""Makes the table of docs/membership.md: detection, dissemination, traffic and false positives.

    python bench/membership_table.py                    # 128, 300 and 1,000 nodes, some minutes
    python bench/membership_table.py --sizes 10000      # 4 GB of memory, 15 min of CPU

Owns: how many runs of what length give a figure. Refuses to know: the protocol. How: in each run of
one seed, nodes crash one after another, far enough apart not to disturb each other; times are
pooled over all seeds. False positives are counted in runs of their own at 10% loss, without faults.
memberlist's figures are those measured and modelled for its LAN defaults.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median, quantiles

from figures import say

from velum.sim.membership import World
from velum.sim.network import Conditions

IDLE_MS = 10_000  # the traffic of a quiet mesh is measured this long
APART_MS = 15_000  # between two crashes
LOSS = 0.1


@dataclass(frozen=True)
class Plan:
    """How much is simulated of one size."""

    seeds: int
    crashes: int  # in each run
    lossy_seeds: int
    lossy_ms: int


PLANS = {
    128: Plan(seeds=40, crashes=5, lossy_seeds=10, lossy_ms=600_000),
    300: Plan(seeds=40, crashes=5, lossy_seeds=10, lossy_ms=240_000),
    1_000: Plan(seeds=20, crashes=5, lossy_seeds=6, lossy_ms=60_000),
    10_000: Plan(seeds=4, crashes=5, lossy_seeds=0, lossy_ms=0),
}

# Seconds and bytes a second: first detected, last to know (median, p99), idle traffic.
MEMBERLIST = {
    128: ("10.1 / 12.7", "10.4 / 13.1", "163"),
    300: ("11.7 / 15.1", "12.3 / 15.7", "164"),
    1_000: ("13.7 / 16.6", "14.4 / 17.3", "~165"),
    10_000: ("17.9 / 19.8", "18.8 / 20.8", "~165"),
}


@dataclass
class Column:
    """What came out for one size."""

    nodes: int
    first_s: list[float] = field(default_factory=list)
    all_s: list[float] = field(default_factory=list)
    idle_bytes: list[float] = field(default_factory=list)
    lossy_bytes: list[float] = field(default_factory=list)
    node_minutes: float = 0.0
    false_positives: int = 0
    suspicions: int = 0


def measure(nodes: int, plan: Plan) -> Column:
    """All runs of one size."""
    column = Column(nodes)
    for seed in range(plan.seeds):
        say(f"{nodes} nodes, crashes, seed {seed}")
        world = World(nodes, seed)
        world.run(1_000)
        world.begin_figures()
        world.run(IDLE_MS)
        column.idle_bytes.append(world.figures.bytes_per_node_second)
        for _ in range(plan.crashes):
            world.crash(world.rng.choice(world.running()).number)
            world.run(APART_MS)
        for loss in world.losses:
            if loss.first_ms is None or loss.all_ms is None:
                raise SystemExit(f"seed {seed}: node {loss.id} not known to be gone in time")
            column.first_s.append((loss.first_ms - loss.at_ms) / 1_000)
            column.all_s.append((loss.all_ms - loss.at_ms) / 1_000)
    for seed in range(plan.lossy_seeds):
        say(f"{nodes} nodes, {LOSS:.0%} loss, seed {seed}")
        world = World(nodes, seed, Conditions(loss=LOSS))
        world.run(plan.lossy_ms)
        column.node_minutes += world.figures.node_minutes
        column.false_positives += world.figures.false_positives
        column.suspicions += world.figures.suspicions
        column.lossy_bytes.append(world.figures.bytes_per_node_second)
    return column


def table(columns: list[Column]) -> str:
    """The table in Markdown."""
    rows: list[tuple[str, Callable[[Column], str]]] = [
        ("crash first detected, median / p99, s", lambda c: spread(c.first_s)),
        ("the same, memberlist", lambda c: MEMBERLIST[c.nodes][0]),
        ("last node knows, median / p99, s", lambda c: spread(c.all_s)),
        ("the same, memberlist", lambda c: MEMBERLIST[c.nodes][1]),
        ("idle, bytes/s a node, headers included", lambda c: f"{median(c.idle_bytes):.0f}"),
        ("the same, memberlist", lambda c: MEMBERLIST[c.nodes][2]),
        ("crashes (seeds)", lambda c: f"{len(c.first_s)} ({len(c.idle_bytes)})"),
        ("10% loss: false positives in 1,000 node-minutes", false_rate),
        ("10% loss: suspected in error in 1,000 node-minutes", suspect_rate),
        ("10% loss: bytes/s a node", lossy_bytes),
    ]
    lines = ["| nodes | " + " | ".join(f"{column.nodes:,}" for column in columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for label, cell in rows:
        lines.append(f"| {label} | " + " | ".join(cell(column) for column in columns) + " |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    return f"{median(values):.1f} / {quantiles(values, n=100, method='inclusive')[98]:.1f}"


def false_rate(column: Column) -> str:
    if not column.node_minutes:
        return "not run"
    rate = 1_000 * column.false_positives / column.node_minutes
    return f"{rate:.2f} ({column.false_positives} in {column.node_minutes:,.0f})"


def suspect_rate(column: Column) -> str:
    if not column.node_minutes:
        return "not run"
    return f"{1_000 * column.suspicions / column.node_minutes:.0f}"


def lossy_bytes(column: Column) -> str:
    return f"{median(column.lossy_bytes):,.0f}" if column.lossy_bytes else "not run"


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the table of docs/membership.md.")
    sizes = {"type": int, "nargs": "+", "choices": list(PLANS), "default": [128, 300, 1_000]}
    parser.add_argument("--sizes", **sizes)  # type: ignore[arg-type]
    args = parser.parse_args()
    print(table([measure(nodes, PLANS[nodes]) for nodes in args.sizes]))


if __name__ == "__main__":
    main()
