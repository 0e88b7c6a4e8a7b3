"""Honest figures of scatters: speed-up over held nodes, overhead, rivals, failures.

    python bench/scaling.py                             # all of it, some 25 minutes, as root
    python bench/scaling.py --only slow,overhead        # some sections; the others' figures stay
    python bench/scaling.py --quick                     # small jobs, one round: to try it out
    python bench/scaling.py --report                    # only draws the page again

Owns the sections' order, and build/scaling.json, in which each section replaces only its own
figures; the page docs/scaling.md and its picture are drawn from that. Quotas need a cgroup
controller of version 1 that can be written (quota.py). Nothing else may run on the machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import quota
import scaling_report
from figures import ROOT, Results, measure, parser, say, stored, wrote
from scaling_deaths import deaths
from scaling_meshes import GUESTS, Plan
from scaling_overhead import overhead
from scaling_rivals import rivals
from scaling_speedup import scaling, slow
from servers import compiled

RESULTS = ROOT / "build" / "scaling.json"
ROUNDS = 3
SECTIONS: dict[str, Callable[[Plan], dict[str, Any]]] = {
    "scaling": scaling,
    "slow": slow,
    "overhead": overhead,
    "rivals": rivals,
    "deaths": deaths,
}


def native(folder: Path) -> Path:
    """The guest pi.c as a native library; what marks exports to wasm means nothing there."""
    flags = ("-shared", "-fPIC", "-Wno-attributes")
    return compiled(GUESTS / "pi.c", folder / "pi.so", *flags)


def section(name: str, plan: Plan) -> dict[str, Any]:
    """Runs one, and says how long that took; the load is what it has made itself."""
    began = time.monotonic()
    found = SECTIONS[name](plan)
    say(f"== {name}: {time.monotonic() - began:.0f} s")
    return found | {"rounds": plan.rounds, "load": os.getloadavg()[0]}


def run(args: argparse.Namespace) -> Results:
    """Runs sections."""
    why = quota.missing()
    if why:
        raise SystemExit(f"no quotas: {why}")
    with tempfile.TemporaryDirectory(prefix="velum-scaling-") as folder:
        plan = Plan(args.quick, 1 if args.quick else ROUNDS, native(Path(folder)))
        todo = [(name, partial(section, name, plan)) for name in SECTIONS if name in args.only]
        return measure(RESULTS, todo, args.quick)


def main() -> int:
    args = parser(scaling_report.PAGE, SECTIONS, "small jobs, one round", {}).parse_args()
    results = stored(RESULTS) if args.report else run(args)
    wrote(scaling_report.write(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
