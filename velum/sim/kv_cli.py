"""`python -m velum.sim.kv_cli`: one run of a simulated mesh with a shared state by its seed.

Owns: what a seed makes of the world, what befalls it and when; and the command. Refuses to know:
how nodes work and what must hold (`kv.py`, `kv_work.py`).

How: five nodes whose clocks are up to years apart write for a while, and links break, pushes do not
fit, machines lose power, are away for long, are stopped, are cut off, or are forgotten and come
back with an empty log. Then all are back, nobody writes, and within two seconds all show the same;
what was written and is on a disk is there, what was deleted is not; and in time no tombstone is
left. Odd seeds run on the store in C (`kv_core.py`), even ones on its model (`kv_store.py`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

from velum.sim.host import Status
from velum.sim.kv import World
from velum.sim.kv_core import CoreStore
from velum.sim.kv_node import Node
from velum.sim.kv_store import KvStore, Model
from velum.sim.kv_work import TTL_MS, Work
from velum.sim.seeds import attempt, command

MODULE: Final = "velum.sim.kv_cli"
STORES: Final[tuple[Callable[[], KvStore], ...]] = (Model, CoreStore)
NODES: Final = 5
YEAR_MS: Final = 365 * 86_400_000
TROUBLES: Final = ("break", "part", "crash", "crash", "stop", "forget", "calm")


class Trouble:
    """What befalls one world, drawn from a seed, until `end_ms`."""

    def __init__(self, world: World, work: Work, rng: random.Random, end_ms: int) -> None:
        self.world = world
        self.work = work
        self.rng = rng
        self.end_ms = end_ms
        self._kinds = rng.sample(TROUBLES, rng.randint(1, len(TROUBLES)))
        self._every_ms = rng.choice((500, 2_000, 8_000))
        self._later((0, self._every_ms), self._strike)

    def _later(self, range_ms: tuple[int, int], action: Callable[..., None], *args: object) -> None:
        when_ms = self.world.now_ms + self.rng.randint(*range_ms)
        if when_ms < self.end_ms:
            self.world.network.at(when_ms, action, *args)

    def _for(self) -> tuple[int, int]:
        return self.rng.choice(((10, 500), (500, 8_000), (8_000, 90_000)))

    def _strike(self) -> None:
        world, rng = self.world, self.rng
        running = world.running()
        kind = rng.choice(self._kinds)
        world.figures[kind] += 1
        if kind == "break":
            world.break_link(*rng.sample(sorted(world.nodes), 2))
        elif kind == "part":
            world.part(rng.sample(sorted(world.nodes), rng.randint(1, NODES - 1)))
            self._later(self._for(), world.heal)
        elif kind == "calm":
            self._later((0, 30_000), self._strike)
            return
        elif running:
            self._strike_one(kind, rng.choice(running))
        self._later((0, 2 * self._every_ms), self._strike)

    def _strike_one(self, kind: str, node: Node) -> None:
        world = self.world
        if kind == "stop":
            world.pause(node)
            self._later(self._for(), world.resume, node)
            return
        world.crash(node)
        if kind == "forget" and len(world.running()) == NODES - 1 and not world.network.parted:
            world.forget(node)
            self.work.wiped(node)
        self._later(self._for(), self._restart, node, node.life)

    def _restart(self, node: Node, life: int) -> None:
        if node.life == life and node.status is Status.KILLED:
            self.world.restart(node)


def simulate(seed: int, *, verbose: bool = False) -> World:
    """One run; the world as it is then. `Wrong` if anything did not hold."""
    return attempt(MODULE, _run, seed, verbose)


def _run(seed: int, verbose: bool) -> World:
    rng = random.Random(f"kv {seed}")
    world = World(
        seed,
        NODES,
        latency_ms=rng.choice(((0, 2), (1, 10), (5, 30))),
        missed=rng.choice((0.0, 0.0, 0.05, 0.3)),
        skew_ms=rng.choice((0, 1_000, YEAR_MS, 20 * YEAR_MS)),
        store=STORES[seed % 2],
        verbose=verbose,
    )
    every_ms, end_ms = rng.choice(((20, 5_000), (50, 20_000), (200, 60_000)))
    work = Work(world, rng, every_ms)
    Trouble(world, work, rng, end_ms)
    world.run(end_ms)
    work.stop()
    world.finish()
    work.check()
    world.run(2 * max(TTL_MS))
    work.check_mortal()
    world.settle()
    work.check()
    return world


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    return command(MODULE, __doc__, _run, _summary, arguments)


def _summary(world: World) -> str:
    counts = [f"{count} {what}" for what, count in sorted(world.figures.items())]
    return f"{', '.join(counts)}; {world.frames} frames, {world.now_ms / 1000:.0f} s"


if __name__ == "__main__":
    raise SystemExit(main())
