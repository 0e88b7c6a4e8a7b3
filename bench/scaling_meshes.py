"""What the scaling figures share: meshes of nodes held to quotas, jobs, and the command that runs
them.

Owns how a mesh is made ready to be measured: its nodes are in groups of quota.py from their first
instruction on, but held to nothing until all know each other and each has run a slice of another
job, so that its worker process runs. Then the quotas begin. What is measured finds nodes that have
never heard of its module. All nodes end with SIGKILL: nothing of theirs is needed any more.

Beside every job runs a plain loop under the quota of a node, and its calls meanwhile, *beats*, are
counted: the speed of these machines drifts by a quarter within minutes, and a job's beats do not.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import quota
from figures import ROOT

import velum
from velum.localmesh import LocalMesh
from velum.machine import free_beacon_port

GUESTS = ROOT / "tests" / "guests"
COMPLETE_S = 60.0
WARM_SLICES = 64  # for each node
WARM_ROUNDS = 50
QUICK = 0.15  # of the work, where figures do not matter


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    quick: bool
    rounds: int
    library: Path  # the guest pi.c as native code

    def some(self, amount: int) -> int:
        """An amount of work, much smaller when it shall be quick."""
        return round(amount * QUICK) if self.quick else amount


@dataclass(frozen=True)
class Job:
    """A scatter as a command would start it."""

    name: str
    guest: str
    function: str
    end: int
    options: tuple[str, ...] = ()

    def words(self, address: str) -> list[str]:
        """The command that runs it through a node."""
        job = ["scatter", str(GUESTS / self.guest), self.function, "0", str(self.end)]
        return [sys.executable, "-m", "velum", *job, *self.options, "--node", address, "--json"]

    @property
    def text(self) -> str:
        """The same as a person would write it."""
        return " ".join([self.guest, self.function, "0", f"{self.end:_}", *self.options])


@dataclass(frozen=True)
class Held:
    """A mesh that is ready to be measured; node `id` is in `groups[id - 1]`."""

    mesh: LocalMesh
    groups: list[quota.Group]
    loop: quota.Loop | None

    @property
    def address(self) -> str:
        """Of node 1, which coordinates what comes in through it."""
        return self.mesh.nodes[1].address


@contextlib.contextmanager
def held(plan: Plan, shares: Sequence[float], beat: float = 0, workers: int = 1) -> Iterator[Held]:
    """A mesh with a node for each share of a CPU (0: held to nothing), and a loop held to `beat`
    (0: none)."""
    with quota.groups(len(shares) + 1) as (own, *groups):
        options = ["--beacon-port", str(free_beacon_port()), "--workers", str(workers)]
        with LocalMesh(
            range(1, len(shares) + 1),
            ports=lambda _: 0,
            options=options,
            prefix=lambda id: groups[id - 1].prefix,
        ) as mesh:
            loop = None
            try:
                mesh.wait_complete(COMPLETE_S)
                warm_up(mesh.nodes[1].address, len(shares), workers)
                loop = quota.Loop(plan.library, own) if beat else None
                for group, share in zip((own, *groups), (beat, *shares), strict=True):
                    if share:
                        group.limit(share)
                yield Held(mesh, groups, loop)
            finally:
                if loop is not None:
                    loop.stop()
                for group in groups:
                    group.signal(signal.SIGKILL)


@contextlib.contextmanager
def free(nodes: int, workers: int, *more: str) -> Iterator[LocalMesh]:
    """A mesh as users start it: in no group, held to nothing, and cold; with more options."""
    options = ["--beacon-port", str(free_beacon_port()), "--workers", str(workers), *more]
    with LocalMesh(range(1, nodes + 1), ports=lambda _: 0, options=options) as mesh:
        mesh.wait_complete(COMPLETE_S)
        yield mesh


def warm_up(address: str, nodes: int, workers: int) -> None:
    """Small jobs until every node has run a slice: its workers have been started then."""
    slices = WARM_SLICES * nodes * workers
    with velum.connect(address) as client:
        for _ in range(WARM_ROUNDS):
            job = client.scatter(
                GUESTS / "floats.wasm", "harmonic", 1, 1 + 100_000 * slices, slices=slices
            )
            job.result(COMPLETE_S)
            if sum(share.done > 0 for share in job.progress().nodes) == nodes:
                return
    raise SystemExit(f"not all of {nodes} nodes work: {job.progress().nodes}")


class Command:
    """A `velum scatter` under way, timed from before its process starts to behind its end."""

    def __init__(self, job: Job, mesh: Held) -> None:
        self._loop = mesh.loop
        environment = {n: v for n, v in os.environ.items() if not n.startswith("VELUM_")}
        self.began = time.monotonic()
        self._calls = self._beats()
        self._process = subprocess.Popen(
            job.words(mesh.address),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def _beats(self) -> int:
        return self._loop.calls if self._loop is not None else 0

    def outcome(self, limit_s: float | None = None) -> dict[str, Any]:
        """Its seconds, beats, and what it says of itself; a list of values as its checksum. Without
        an end in so many seconds, `seconds` is null."""
        try:
            out, log = self._process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            return {"seconds": None, "why": f"not done after {limit_s:.0f} s"}
        seconds = time.monotonic() - self.began
        beats = self._beats() - self._calls
        if self._process.returncode:
            raise SystemExit(f"velum scatter failed: {log.strip() or out.strip()}")
        said = json.loads(out)
        if isinstance(said["answer"], list):
            said["answer"] = zlib.crc32(json.dumps(said["answer"]).encode())
        kept = ("answer", "elapsed_ms", "slices", "retries", "duplicates", "epoch", "nodes")
        return {"seconds": seconds, "beats": beats, **{name: said[name] for name in kept}}


def run(job: Job, mesh: Held) -> dict[str, Any]:
    """Runs a job to its end."""
    return Command(job, mesh).outcome()


def same_answers(runs: Sequence[dict[str, Any]]) -> None:
    """All that came to an end must have answered the same."""
    answers = {run["answer"] for run in runs if run["seconds"] is not None}
    if len(answers) > 1:
        raise SystemExit(f"answers differ: {sorted(answers)}")
