"""``velum demo``: a mesh from start to end in a few seconds, one node killed on the way.

Owns the story, what is printed of it, and the check of the answers. Refuses to know how nodes are
started (velum.localmesh) and how work is spread (the mesh itself): all that it does, a program of
its users could do.
"""

from __future__ import annotations

import os
import sys
import time
from argparse import Namespace
from collections import Counter
from concurrent.futures import Future, as_completed
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from velum.api import TaskFuture
from velum.cli import show
from velum.cli.commands import where_and_when
from velum.installed import installed

if TYPE_CHECKING:
    from velum.client import Client
    from velum.localmesh import LocalMesh

COMPLETE_S = 15.0  # until all nodes see each other; half a second unless the machine is busy
WORKERS_S = 2.0  # until their workers have measured themselves
LOOK_S = 0.05
ANSWER_S = 30.0  # for all tasks together
FEW_END, FEW = 500_000, 41_538  # this many primes are below: counted by one task
MANY_END, MANY = 5_000_000, 348_513  # and below this: about a second for two cores
TASKS = 200
KILL_AT = 0.4  # share of the tasks answered

_SUMS: tuple[tuple[str, int, int, int], ...] = (("add", 10, 20, 30), ("mul", 6, 7, 42))


@dataclass
class Outcome:
    """What the demonstration came to."""

    single_right: bool = True  # the answers of tasks that ran alone
    primes: int = 0  # below MANY_END
    count_s: float = 0.0
    killed: int = 0
    by_node: Counter[int] = field(default_factory=Counter)
    sent_again: int | None = None  # None: the node asked does not count it

    @property
    def right(self) -> bool:
        """Whether every answer was."""
        return self.single_right and self.primes == MANY


class Story:
    """The steps, in order, on one output."""

    def __init__(self, out: TextIO) -> None:
        self.outcome = Outcome()
        self._out = out
        self._paint = show.Paint(out)

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
        while time.monotonic() < end and not all(info.slots for info in members):
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

    def many(self, mesh: Client, nodes: LocalMesh, guest: bytes) -> None:
        """Counts primes in many tasks, and kills a node when some are answered."""
        outcome = self.outcome
        victim = max(nodes.nodes)
        self.say(f"\nprimes below {MANY_END:,}, as {TASKS} tasks at once;")
        self.say(f"node {victim} will be killed when {KILL_AT:.0%} are answered")
        step = MANY_END // TASKS
        began = time.monotonic()
        futures: list[Future[Any]] = [
            mesh.spawn_wasm(guest, "count_primes", start, start + step)
            for start in range(0, MANY_END, step)
        ]
        bar = show.Progress(self._out, "primes", TASKS)
        try:
            for done, future in enumerate(as_completed(futures, ANSWER_S), 1):
                assert isinstance(future, TaskFuture)
                outcome.primes += future.result()
                outcome.by_node[future.node or 0] += 1
                if done == round(TASKS * KILL_AT):
                    nodes.kill(victim)
                    outcome.killed = victim
                    bar.interject(self._paint("red", f"kill -9 node {victim}"))
                bar.update(done, _shares(outcome.by_node))
        finally:
            bar.close()
        outcome.count_s = time.monotonic() - began
        outcome.sent_again = mesh.status().get("tasks_sent_again")

    def end(self, seconds: float) -> None:
        """What came of it."""
        outcome = self.outcome
        verdict = self._paint("green", "right")
        if outcome.primes != MANY:
            verdict = self._paint("red", f"WRONG, there are {MANY}")
        self.say(f"{outcome.primes}   ({verdict}; {show.duration(outcome.count_s * 1e6)})")
        self.say(f"\ntasks answered by: {_shares(outcome.by_node)}")
        again = ""
        if outcome.sent_again is not None:
            again = f"; {show.plural(outcome.sent_again, 'task')} sent again"
        self.say(f"node {outcome.killed} was killed on the way{again}; none lost")
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
            story.many(mesh, nodes, guest)
    seconds = time.monotonic() - began
    story.end(seconds)
    if args.json:
        print(show.dump(_described(story.outcome, seconds)))
    return 0 if story.outcome.right else 1


def _described(outcome: Outcome, seconds: float) -> dict[str, object]:
    return {
        "right": outcome.right,
        "primes": outcome.primes,
        "tasks": TASKS,
        "tasks_by_node": dict(sorted(outcome.by_node.items())),
        "killed": outcome.killed,
        "sent_again": outcome.sent_again,
        "count_s": round(outcome.count_s, 3),
        "seconds": round(seconds, 3),
    }


def _shares(by_node: Counter[int]) -> str:
    return "  ".join(f"node {node}: {count}" for node, count in sorted(by_node.items()))
