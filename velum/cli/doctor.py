"""``velum doctor``: what this machine lacks, and what to do.

Owns how findings are shown. Refuses to know how they are made (velum.machine).
"""

from __future__ import annotations

import sys
from argparse import Namespace

from velum.cli import show

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}
_NAME_CELLS = 12


def run(args: Namespace) -> int:
    """Prints each finding as it is made; 1 when something fails."""
    from velum.machine import examine

    findings = []
    paint = show.Paint(sys.stdout)
    for finding in examine(args.id, args.host, args.beacon_port):
        findings.append(finding)
        if args.json:
            continue
        level = paint(_COLOURS[finding.level], finding.level.ljust(4))
        print(f"{level}  {finding.name.ljust(_NAME_CELLS)}  {finding.text}", flush=True)
        if finding.advice:
            print(f"{' ' * (_NAME_CELLS + 8)}-> {finding.advice}", flush=True)
    healthy = all(finding.level != "fail" for finding in findings)
    if args.json:
        described = [finding.as_dict() for finding in findings]
        print(show.dump({"healthy": healthy, "findings": described}, pretty=True))
    return 0 if healthy else 1
