"""`velum sim`: a mesh of any size under faults, and what became of it, as a table or as JSON.

Owns: the arguments, the schedule of faults, and the report. Refuses to know: how nodes decide and
how the network treats them. How: each run is a World of one seed; without any fault asked for, one
node crashes a third of the way through.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from math import inf
from statistics import median
from typing import Any, TextIO

from velum.sim.membership import KILLED, PAUSED, UP, World
from velum.sim.network import Conditions

NODES_MAX = 60_000  # ids are 16 bits; memory ends earlier
SECONDS_DEFAULT = 30.0

# Idle figures leave out this much of the beginning, when all nodes still start at once.
WARM_UP_MS = 1_000


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that befalls machines: at `at_ms`, for `lasts_ms` where it ends again."""

    kind: str  # crash, kill, leave, pause, restart, partition
    at_ms: int
    lasts_ms: int
    count: int  # machines; of a partition: 0
    share: float  # of a partition: the part that is cut off

    @property
    def ends_ms(self) -> int:
        return self.at_ms + self.lasts_ms


class Report(dict[str, Any]):
    """One run's figures; keys and units as --json prints them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `velum sim`."""
    add = parser.add_argument
    add("--nodes", type=_nodes, default=1_000, metavar="N", help="size of the mesh (1000)")
    add("--seed", type=int, default=1, metavar="S", help="the same seed gives the same run (1)")
    add("--runs", type=_count, default=1, metavar="N", help="runs with seeds S, S+1, ... (1)")
    add(
        "--seconds",
        type=_seconds,
        default=None,
        metavar="T",
        help="simulated time (30, or 30 past the last fault)",
    )
    add("--latency-ms", type=_latency, default=(1, 10), metavar="A:B", help="one way (1:10)")
    for name, what in (("loss", "lost"), ("duplicate", "doubled"), ("reorder", "delayed much")):
        add(f"--{name}", type=_share, default=0.0, metavar="P", help=f"share {what}, 0 to 1 (0)")
    add("--segment", type=_count, default=32, metavar="N", help="machines sharing beacons (32)")
    faults = {
        "crash": ("AT[:COUNT]", "machines vanish without a trace"),
        "kill": ("AT[:COUNT]", "processes end, their connections close"),
        "leave": ("AT[:COUNT]", "nodes leave in order"),
        "pause": ("AT:DURATION[:COUNT]", "processes are stopped and go on"),
        "restart": ("AT:DURATION[:COUNT]", "processes are killed and started again"),
        "partition": ("AT:DURATION:SHARE", "that share of the machines is cut off"),
    }
    for kind, (shape, what) in faults.items():
        add(
            f"--{kind}",
            type=_FaultType(kind, shape),
            action="append",
            default=[],
            metavar=shape,
            help=f"{what}; times in seconds; may be repeated",
        )
    add("--json", action="store_true", help="print the figures as JSON, one object a run")


def run(args: argparse.Namespace) -> int:
    """Run the simulation that the arguments describe; prints the report. Returns 0."""
    faults = [fault for kind in _FaultType.SHAPES for fault in getattr(args, kind)]
    seconds = args.seconds
    if not faults:
        length = SECONDS_DEFAULT if seconds is None else seconds
        faults = [Fault("crash", round(1_000 * length / 3), 0, 1, 0.0)]
        seconds = length
    if seconds is None:
        seconds = SECONDS_DEFAULT + max(fault.ends_ms for fault in faults) / 1_000
    conditions = Conditions(args.latency_ms, args.loss, args.duplicate, args.reorder)
    reports = []
    for seed in range(args.seed, args.seed + args.runs):
        progress = _Progress(sys.stderr, f"seed {seed}")
        report = simulate(args.nodes, seed, seconds, conditions, faults, args.segment, progress)
        reports.append(report)
        if args.json:
            print(json.dumps(report), flush=True)
        else:
            _print_run(report)
    if args.runs > 1 and not args.json:
        _print_medians(reports)
    return 0


def simulate(
    nodes: int,
    seed: int,
    seconds: float,
    conditions: Conditions,
    faults: list[Fault],
    segment: int = 32,
    progress: _Progress | None = None,
) -> Report:
    """One run; the report is a function of the arguments alone."""
    world = World(nodes, seed, conditions, segment=segment)
    for fault in faults:
        world.network.at(fault.at_ms, _strike, world, fault)
    idle_ms = min([round(1_000 * seconds), *(fault.at_ms for fault in faults)])
    world.run(min(WARM_UP_MS, idle_ms))
    world.begin_figures()
    idle_bytes = None
    end_ms = round(1_000 * seconds)
    while world.now_ms < end_ms:
        next_ms = min(end_ms, world.now_ms + 500)
        if idle_bytes is None and world.now_ms < idle_ms <= next_ms:
            world.run(idle_ms - 1 - world.now_ms)
            idle_bytes = world.figures.bytes_per_node_second
        world.run(next_ms - world.now_ms)
        if progress is not None:
            progress.show(world.now_ms / end_ms)
    if progress is not None:
        progress.clear()
    return _report(world, idle_bytes)


def _strike(world: World, fault: Fault) -> None:
    """A fault's time has come."""
    if fault.kind == "partition":
        count = round(fault.share * len(world.machines))
        world.part(world.rng.sample(range(len(world.machines)), count))
        world.network.at(fault.ends_ms, world.heal)
        return
    running = [machine.number for machine in world.running()]
    chosen = world.rng.sample(running, min(fault.count, len(running)))
    for number in chosen:
        if fault.kind == "restart":
            world.kill(number)
        else:
            getattr(world, fault.kind)(number)
    if fault.lasts_ms:
        world.network.at(fault.ends_ms, _relent, world, fault.kind, chosen)


def _relent(world: World, kind: str, numbers: list[int]) -> None:
    """A pause or a restart ends."""
    for number in numbers:
        machine = world.machines[number]
        if kind == "pause" and machine.state == PAUSED:
            world.resume(number)
        elif kind == "restart" and machine.state == KILLED:
            up = [other.number for other in world.machines if other.state == UP]
            world.start(number, world.rng.sample(up, min(2, len(up))))


def _report(world: World, idle_bytes: float | None) -> Report:
    losses = [
        {
            "node": loss.id,
            "at_s": loss.at_ms / 1_000,
            "suspected_s": _since(loss.at_ms, loss.suspected_ms),
            "first_s": _since(loss.at_ms, loss.first_ms),
            "all_s": _since(loss.at_ms, loss.all_ms),
            "returned_s": _since(loss.at_ms, loss.returned_ms),
        }
        for loss in world.losses
    ]
    figures = world.figures
    conditions = world.network.conditions
    return Report(
        nodes=len(world.machines),
        seed=world.seed,
        seconds=world.now_ms / 1_000,
        latency_ms=list(conditions.latency_ms),
        loss=conditions.loss,
        losses=losses,
        idle_bytes_per_node_second=None if idle_bytes is None else round(idle_bytes, 1),
        bytes_per_node_second=round(figures.bytes_per_node_second, 1),
        node_minutes=round(figures.node_minutes, 1),
        false_suspicions=figures.suspicions,
        false_positives=figures.false_positives,
        views_agree=world.agreed(),
    )


def _since(at_ms: int, when_ms: int | None) -> float | None:
    return None if when_ms is None else (when_ms - at_ms) / 1_000


# ---- printing ----

LOSSES_SHOWN = 10


def _print_run(report: Report) -> None:
    low, high = report["latency_ms"]
    print(
        f"{report['nodes']} nodes, seed {report['seed']}, {report['seconds']:g} s, "
        f"latency {low} to {high} ms, loss {report['loss']:.0%}"
    )
    losses = report["losses"]
    if losses:
        print(
            f"  {'node gone':>10} {'at':>8} {'suspected':>10} {'detected':>10} {'known to all':>13}"
        )
    for loss in losses[:LOSSES_SHOWN]:
        print(
            f"  {loss['node']:>10} {loss['at_s']:>6.1f} s {_time(loss['suspected_s']):>10} "
            f"{_time(loss['first_s']):>10} {_time(loss['all_s']):>13}"
            + (f"  back after {_time(loss['returned_s'])}" if loss["returned_s"] else "")
        )
    if len(losses) > LOSSES_SHOWN:
        detected, known = (_middle([report], key) for key in ("first_s", "all_s"))
        print(f"  and {len(losses) - LOSSES_SHOWN} more; median {detected} and {known}")
    idle = report["idle_bytes_per_node_second"]
    print(
        "  bytes a second and node, headers included: "
        f"{report['bytes_per_node_second']:.0f}"
        + (f", idle {idle:.0f}" if idle is not None else "")
    )
    print(
        f"  live nodes declared dead: {report['false_positives']}, "
        f"suspected in error: {report['false_suspicions']}, "
        f"in {report['node_minutes']:.0f} node-minutes"
    )
    print(f"  all views agree at the end: {'yes' if report['views_agree'] else 'no'}")


def _print_medians(reports: list[Report]) -> None:
    idle = [report["idle_bytes_per_node_second"] for report in reports]
    measured = [value for value in idle if value is not None]
    minutes = sum(report["node_minutes"] for report in reports)
    false = sum(report["false_positives"] for report in reports)
    print(f"medians of {len(reports)} seeds")
    print(f"  detected {_middle(reports, 'first_s')}, known to all {_middle(reports, 'all_s')}")
    if measured:
        print(f"  idle bytes a second and node {median(measured):.0f}")
    print(f"  live nodes declared dead in 1,000 node-minutes: {1_000 * false / minutes:.2f}")


def _middle(reports: list[Report], key: str) -> str:
    """The median over all nodes that went and did not come back; a time that did not come is the
    longest."""
    gone = [loss for report in reports for loss in report["losses"] if not loss["returned_s"]]
    values = sorted(inf if loss[key] is None else loss[key] for loss in gone)
    middle = median(values) if values else inf
    return _time(None if middle == inf else middle)


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.2f} s"


class _Progress:
    """One line on a terminal that says how far the run is; nothing elsewhere."""

    def __init__(self, stream: TextIO, label: str) -> None:
        self._stream = stream
        self._label = label
        self._shown = 0.0
        self._visible = stream.isatty()

    def show(self, share: float) -> None:
        """Say how much of the run is done, from 0 to 1; a few times a second at most."""
        if self._visible and time.monotonic() - self._shown > 0.2:
            self._shown = time.monotonic()
            bar = "#" * round(30 * share)
            self._stream.write(f"\r{self._label} [{bar:<30}] {share:4.0%}")
            self._stream.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._visible:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


# ---- what the arguments mean ----


def _nodes(text: str) -> int:
    value = _count(text)
    if not 2 <= value <= NODES_MAX:
        raise argparse.ArgumentTypeError(f"{value} is not between 2 and {NODES_MAX}")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a count of at least 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time in seconds")
    return value


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share between 0 and 1")
    return value


def _latency(text: str) -> tuple[int, int]:
    low, colon, high = text.partition(":")
    if not low.isdecimal() or (colon and not high.isdecimal()) or int(low) > int(high or low):
        raise argparse.ArgumentTypeError(f"{text!r} is not LOWEST:HIGHEST in milliseconds")
    return int(low), int(high or low)


class _FaultType:
    """Reads one kind of fault."""

    SHAPES = ("crash", "kill", "leave", "pause", "restart", "partition")

    def __init__(self, kind: str, shape: str) -> None:
        self._kind = kind
        self._shape = shape

    def __call__(self, text: str) -> Fault:
        parts = text.split(":")
        names = self._shape.replace("[", "").replace("]", "").split(":")
        needed = len(self._shape.split("[")[0].split(":"))
        if not needed <= len(parts) <= len(names):
            raise argparse.ArgumentTypeError(f"{text!r} is not {self._shape}")
        given = dict(zip(names, parts, strict=False))
        return Fault(
            self._kind,
            round(1_000 * _seconds(given["AT"])),
            round(1_000 * _seconds(given.get("DURATION", "0"))),
            _count(given.get("COUNT", "1")),
            _share(given.get("SHARE", "0")),
        )
