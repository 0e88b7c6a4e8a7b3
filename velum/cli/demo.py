"""``velum demo``: a mesh from start to end in a few seconds, one node killed on the way.

Owns the story, what is printed of it, and the check of the answers. Refuses to know how nodes are
started (velum.localmesh) and how work is spread (the mesh itself): all that it does, a program of
its users could do.
"""

from __future__ import annotations

import os
import random
import sys
import time
from argparse import Namespace
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from velum.cli import show
from velum.cli.commands import where_and_when
from velum.cli.progress import REDRAW_S, JobDisplay, TransferDisplay
from velum.installed import installed

if TYPE_CHECKING:
    from velum.api import TaskFuture
    from velum.client import Client
    from velum.localmesh import LocalMesh
    from velum.scatterjob import Progress, ScatterJob

COMPLETE_S = 15.0  # until all nodes see each other; half a second unless the machine is busy
WORKERS_S = 2.0  # until their workers have measured themselves
LOOK_S = 0.05
ANSWER_S = 30.0  # for one task
SCATTER_S = 300.0  # for the scatter, on a very slow machine
FEW_END, FEW = 500_000, 41_538  # this many primes are below: counted by one task
MANY_END, MANY = 20_000_000, 1_270_607  # and below this: some seconds for two cores
KILL_AT = 0.5  # share of the slices done
FILE_NAME, FILE_BYTES = "film.mp4", 48 << 20
WHOLE_S = 60.0  # until what a node has lost is whole again, on a very slow machine

_SUMS: tuple[tuple[str, int, int, int], ...] = (("add", 10, 20, 30), ("mul", 6, 7, 42))


@dataclass
class Outcome:
    """What the demonstration came to."""

    single_right: bool = True  # the answers of tasks that ran alone
    primes: int = 0  # below MANY_END
    file_right: bool = False  # what was got, after a node was killed, is what was put
    file_whole: bool = False  # and each of its chunks lies on two nodes again
    killed: int = 0
    adopted_by: int = 0
    job: dict[str, Any] = field(default_factory=dict)  # its last progress

    @property
    def right(self) -> bool:
        """Whether every answer was."""
        files = self.file_right and self.file_whole
        return self.single_right and self.primes == MANY and files


class Story:
    """The steps, in order, on one output."""

    def __init__(self, out: TextIO) -> None:
        self.outcome = Outcome()
        self._out = out
        self._paint = show.Paint(out)
        self._file = random.Random(1).randbytes(FILE_BYTES)

    def say(self, line: str) -> None:
        """One line."""
        print(line, file=self._out, flush=True)

    def command(self, words: str) -> None:
        """A command that the reader could type, before what it does."""
        self.say(f"\n{self._paint('cyan', f'$ velum {words}')}")

    def members(self, mesh: Client) -> None:
        """The mesh as a table, once every node has told of its workers."""
        self.command("nodes")
        end = time.monotonic() + WORKERS_S
        members = mesh.nodes()
        while time.monotonic() < end and not all(info.speed for info in members):
            time.sleep(LOOK_S)
            members = mesh.nodes()
        for line in show.nodes_table(members, self._paint):
            self.say(line)

    def singles(self, mesh: Client, guest: bytes) -> None:
        """Some tasks one by one, each with the node that ran it."""
        for name, a, b, expected in _SUMS:
            self.command(f"call {name} {a} {b}")
            self._single(mesh.spawn(name, a, b), expected)
        self.command(f"wasm primes.wasm count_primes 0 {FEW_END}")
        self._single(mesh.spawn_wasm(guest, "count_primes", 0, FEW_END), FEW)

    def _single(self, future: TaskFuture, expected: int) -> None:
        value = future.result(ANSWER_S)
        self.outcome.single_right &= value == expected
        self.say(f"{value}   {self._paint('dim', f'({where_and_when(future)})')}")

    def scatter(self, mesh: Client, nodes: LocalMesh, guest: bytes) -> None:
        """Counts primes over all nodes, and kills the one that coordinates it at about half."""
        self.command(f"scatter primes.wasm count_primes 0 {MANY_END}")
        job = mesh.scatter(guest, "count_primes", 0, MANY_END)
        display = JobDisplay(self._out, "primes.wasm")
        end = time.monotonic() + SCATTER_S
        while not job.done() and time.monotonic() < end:
            job.wait_progress(REDRAW_S)
            progress = job.progress()
            if not self.outcome.killed and progress.done >= KILL_AT * progress.slices:
                self._kill(job, nodes, display)
            display.update(progress)
        progress = job.progress()
        display.finish(progress)
        self.outcome.primes = job.result(1)
        self.outcome.job = progress.as_dict()
        if progress.coordinator != self.outcome.killed:
            self.outcome.adopted_by = progress.coordinator or 0
        self._sum_up(progress)

    def put(self, mesh: Client) -> None:
        """A file into the RAM of the nodes."""
        self.command(f"store put {FILE_NAME}")
        began = time.monotonic()
        display = TransferDisplay(self._out, FILE_NAME)
        mesh.files.put(self._file, FILE_NAME, progress=display.update)
        display.clear()
        took = show.duration((time.monotonic() - began) * 1e6)
        size = show.byte_count(FILE_BYTES)
        self.say(f"{size}, each chunk on two nodes   {self._paint('dim', f'({took})')}")

    def get(self, mesh: Client) -> None:
        """The file again, although one of the nodes that had it is dead."""
        self.command(f"store get {FILE_NAME}")
        began = time.monotonic()
        self.outcome.file_right = mesh.files.get(FILE_NAME) == self._file
        took = show.duration((time.monotonic() - began) * 1e6)
        verdict = self._paint("green", "right") if self.outcome.file_right else "WRONG"
        self.say(f"{show.byte_count(FILE_BYTES)}   ({verdict}; {took})")
        end = began + WHOLE_S
        while not self.outcome.file_whole and time.monotonic() < end:
            self.outcome.file_whole = mesh.files.stat(FILE_NAME, check=True).care == "whole"
            time.sleep(LOOK_S)
        self.say(
            f"node {self.outcome.killed} had a part of it; what it held lies on two nodes again"
        )

    def _kill(self, job: ScatterJob, nodes: LocalMesh, display: JobDisplay) -> None:
        victim = job.progress().coordinator
        assert victim is not None  # it has told how far it is
        nodes.kill(victim)
        self.outcome.killed = victim
        display.clear()
        self.say(self._paint("red", f"kill -9 node {victim}, which coordinates the job"))

    def _sum_up(self, progress: Progress) -> None:
        primes, killed, adopted = self.outcome.primes, self.outcome.killed, self.outcome.adopted_by
        verdict = self._paint("green", "right")
        if primes != MANY:
            verdict = self._paint("red", f"WRONG, there are {MANY}")
        took = show.duration(progress.elapsed_s * 1e6)
        self.say(f"{primes}   ({verdict}; {took})")
        self.say(f"\nnode {killed} was killed on the way; node {adopted} took the job over,")
        self.say("this program went on at another node, no slice was lost or counted twice")

    def end(self, seconds: float) -> None:
        """How long it took."""
        self.say(f"the whole demonstration took {seconds:.1f} s")


def run(args: Namespace) -> int:
    """Runs the demonstration; 0 only when every answer was right."""
    from velum.client import connect
    from velum.localmesh import LocalMesh
    from velum.machine import free_beacon_port

    began = time.monotonic()
    story = Story(sys.stderr if args.json else sys.stdout)
    guest = installed("guests", "primes.wasm").read_bytes()
    beacon_port = free_beacon_port()
    workers = max(1, (os.cpu_count() or 1) // args.nodes)
    story.say(f"starting {args.nodes} nodes on this machine; they meet on UDP port {beacon_port}")
    options = ["--beacon-port", str(beacon_port), "--workers", str(workers), "--log-level", "error"]
    ids = range(1, args.nodes + 1)
    with LocalMesh(ids, ports=lambda _: 0, options=options) as nodes:
        seconds = nodes.wait_complete(COMPLETE_S)
        story.say(f"each sees the {args.nodes - 1} others after {seconds:.1f} s")
        with connect(nodes.nodes[1].address) as mesh:
            story.members(mesh)
            story.singles(mesh, guest)
            story.put(mesh)
            story.scatter(mesh, nodes, guest)
            story.get(mesh)
    seconds = time.monotonic() - began
    story.end(seconds)
    if args.json:
        print(show.dump(_described(story.outcome, seconds)))
    return 0 if story.outcome.right else 1


def _described(outcome: Outcome, seconds: float) -> dict[str, object]:
    return {
        "right": outcome.right,
        "primes": outcome.primes,
        "file_right": outcome.file_right,
        "file_whole": outcome.file_whole,
        "killed": outcome.killed,
        "adopted_by": outcome.adopted_by,
        "job": outcome.job,
        "seconds": round(seconds, 3),
    }
