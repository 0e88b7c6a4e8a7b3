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
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import quota
import scaling_report
from scaling_deaths import deaths
from scaling_meshes import GUESTS, ROOT, Plan, say
from scaling_overhead import overhead
from scaling_rivals import rivals
from scaling_speedup import scaling, slow

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
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("the figures need a C compiler")
    library = folder / "pi.so"
    flags = ["-O2", "-shared", "-fPIC", "-Wno-attributes"]
    subprocess.run([compiler, *flags, "-o", str(library), str(GUESTS / "pi.c")], check=True)
    return library


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


def measure(names: list[str], quick: bool) -> dict[str, Any]:
    """Runs sections; after each the results are stored."""
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results["machine"] = machine()
    with tempfile.TemporaryDirectory(prefix="velum-scaling-") as folder:
        plan = Plan(quick, 1 if quick else ROUNDS, native(Path(folder)))
        for name in names:
            say(f"== {name}")
            began = time.monotonic()
            figures = SECTIONS[name](plan)
            took = time.monotonic() - began
            say(f"== {name}: {took:.0f} s")
            figures |= {"quick": quick, "rounds": plan.rounds, "took_s": took}
            figures["load"] = os.getloadavg()[0]
            results[name] = figures
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(results, indent=1))
    return results


def sections(text: str) -> list[str]:
    """Names of sections, in the order in which they run."""
    words = text.split(",")
    unknown = set(words) - set(SECTIONS)
    if unknown:
        raise argparse.ArgumentTypeError(f"{sorted(unknown)}: sections are {', '.join(SECTIONS)}")
    return [name for name in SECTIONS if name in words]


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the figures of docs/scaling.md.")
    parser.add_argument("--only", type=sections, default=list(SECTIONS), metavar="NAME,...")
    parser.add_argument("--quick", action="store_true", help="small jobs, one round")
    parser.add_argument("--report", action="store_true", help="measure nothing, draw the page")
    args = parser.parse_args()
    if args.report:
        results = json.loads(RESULTS.read_text())
    else:
        why = quota.missing()
        if why:
            raise SystemExit(f"no quotas: {why}")
        results = measure(args.only, args.quick)
    for path in scaling_report.write(results):
        say(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
