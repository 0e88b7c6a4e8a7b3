"""Honest figures of files in RAM: beside a plain C store, memcached and Redis.

    python bench/storage.py                              # all of it, some 10 minutes
    python bench/storage.py --systems plain,redis        # only some systems
    python bench/storage.py --only rebuild               # one section; the other's figures stay
    python bench/storage.py --congestion reno            # all systems under that, in a network
                                                         # namespace of its own; wants root
    python bench/storage.py --quick                      # little data: to try it out
    python bench/storage.py --report                     # only draws the page again
    python bench/storage.py --json                       # the results on stdout as well

Owns the command, the sections and build/storage.json, in which each section replaces only its own
figures; the page docs/storage_bench.md and its picture are drawn from that. What is not installed
is left out, and said. Nothing else may run on the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import storage_plain
import storage_report
import storage_rivals
import storage_velum
import storage_work
from figures import ROOT, Results, measure, parser, say, some_of, stored, wrote
from storage_work import LOADS, MIB, QUICK_LOADS, System

RESULTS = ROOT / "build" / "storage.json"
CONTROL = Path("/proc/sys/net/ipv4/tcp_congestion_control")
OTHER_CONTROL = "reno"  # bulk over a loopback is fastest with it
SYSTEMS = ("plain", "velum", *storage_rivals.NEEDED)
MEMORY_TIMES = 16  # the largest load: sources, targets, all systems' copies
REBUILD_ROUNDS = 3
LINKS = {"loopback": 1024 * MIB, "10gbit": 512 * MIB, "1gbit": 128 * MIB}
"""Links that copies are remade over, in the words of tc(8), and the bytes of a file."""
QUICK_TIMES = 8  # less with --quick
SHAPED = 'ip link set lo up && tc qdisc add dev lo root tbf rate "$0" burst 1mb latency 50ms'


def values(args: argparse.Namespace, program: Path) -> dict[str, Any]:
    """Every load through all systems."""
    hashing = storage_plain.compiled_hashing(program.parent)
    loads = QUICK_LOADS if args.quick else LOADS
    largest = max(load.bytes for load in loads)
    if psutil.virtual_memory().available < MEMORY_TIMES * largest:
        raise SystemExit(f"this needs {MEMORY_TIMES * largest >> 30} GiB of free memory")
    missing = {n: why for n, why in storage_rivals.missing().items() if n in args.systems}
    touched = {load for load in loads if not load.fresh}
    small = {load for load in touched if load.count > 1}
    with contextlib.ExitStack() as stack:
        systems: list[System] = []
        if "velum" in args.systems:
            why = storage_velum.missing()
            if why is None:
                nodes, client = stack.enter_context(storage_velum.mesh(storage_velum.RAM))
                systems.append(storage_velum.Velum(nodes, client.files))
            else:
                missing["velum"] = why
        if "plain" in args.systems:
            plain = storage_plain.plain
            default = CONTROL.read_text().strip()
            for control in dict.fromkeys((default, OTHER_CONTROL)):
                name = f"plain C, {control}"
                systems.append(stack.enter_context(plain(program, name, touched, control)))
            limits = (
                ("plain C, to three processes", program, small, 3),
                ("plain C, hashing at both ends", hashing, touched - small, 1),
            )
            for name, which, some, count in limits:
                store = plain(which, name, some, count=count, kind="limit")
                systems.append(stack.enter_context(store))
        systems += stack.enter_context(storage_rivals.rivals(args.systems))
        for name, why in missing.items():
            say(f"left out: {name}: {why}")
        if not systems:
            raise SystemExit("nothing is left to be measured")
        rows = [vars(load) | {"rows": storage_work.measure(load, systems)} for load in loads]
    return {
        "loads": rows,
        "missing": missing,
        "versions": storage_rivals.versions(),
        "control": CONTROL.read_text().strip(),
    }


def rebuild(args: argparse.Namespace, program: Path) -> dict[str, Any]:
    """Copies that are remade after a death, over links of several speeds."""
    why = storage_velum.missing()
    if why is not None:
        say(f"left out: velum: {why}")
        return {"links": {}, "missing": why}
    rounds = 1 if args.quick else REBUILD_ROUNDS
    found: dict[str, Any] = {}
    for link, most in LINKS.items():
        size = most // QUICK_TIMES if args.quick else most
        say(f"rebuild over {link}")
        if link == "loopback":
            runs = storage_velum.rebuild(program, rounds, size)
        elif lacks := [word for word in ("unshare", "ip", "tc") if shutil.which(word) is None]:
            say(f"left out: that takes {' and '.join(lacks)} (iproute2)")
            continue
        elif os.geteuid() != 0:
            say("left out: that takes root")
            continue
        else:
            runs = rebuild_over(link, rounds, size)
        found[link] = {"runs": runs, "size": size}
    files, nodes = storage_velum.REBUILD_FILES, storage_velum.NODES
    return {"links": found, "files": files, "nodes": nodes}


def rebuild_over(link: str, rounds: int, size: int) -> list[dict[str, Any]]:
    """The same in a network namespace whose loopback carries no more than that."""
    again = [sys.executable, __file__, "--rebuild", str(rounds), str(size)]
    words = ["unshare", "--net", "sh", "-c", f'{SHAPED} && exec "$@"', link, *again]
    found: list[dict[str, Any]] = json.loads(
        subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout
    )
    return found


def rebuild_here(rounds: int, size: int) -> None:
    """Prints the figures of rebuilds in this network namespace, as JSON."""
    with tempfile.TemporaryDirectory(prefix="velum-storage-") as folder:
        program = storage_plain.compiled(Path(folder))
        print(json.dumps(storage_velum.rebuild(program, rounds, size)))


SECTIONS: dict[str, Callable[[argparse.Namespace, Path], dict[str, Any]]] = {
    "values": values,
    "rebuild": rebuild,
}


def run(args: argparse.Namespace) -> Results:
    """Runs sections."""
    with tempfile.TemporaryDirectory(prefix="velum-storage-") as folder:
        program = storage_plain.compiled(Path(folder))
        names = [name for name in SECTIONS if name in args.only]
        todo = [(name, partial(SECTIONS[name], args, program)) for name in names]
        return measure(RESULTS, todo, args.quick)


def under(control: str) -> None:
    """Runs this command again in a network namespace of its own, where that congestion control is
    the default of every socket. Does not return."""
    for program in ("unshare", "ip"):
        if shutil.which(program) is None:
            raise SystemExit(f"--congestion needs the program {program}")
    script = f'ip link set lo up && echo "$0" > {CONTROL} && exec "$@"'
    again = [sys.executable, *sys.argv, "--congestion", ""]  # of two, the last one counts
    os.execvp("unshare", ["unshare", "--net", "sh", "-c", script, control, *again])


def main() -> int:
    more: dict[str, dict[str, Any]] = {
        "--systems": {"type": some_of(SYSTEMS), "default": set(SYSTEMS), "metavar": "NAME,."},
        "--congestion": {"metavar": "NAME", "help": "congestion control for all"},
    }
    words = parser(storage_report.PAGE, SECTIONS, "little data, few rounds", more)
    words.add_argument("--json", action="store_true", help="print the results")
    words.add_argument("--rebuild", type=int, nargs=2, help=argparse.SUPPRESS)
    args = words.parse_args()
    if args.rebuild:
        rebuild_here(*args.rebuild)
        return 0
    if args.congestion:
        under(args.congestion)
    results = stored(RESULTS) if args.report else run(args)
    if args.json:
        print(json.dumps(results, indent=1))
    wrote(storage_report.write(results))
    say(storage_report.promises(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
