"""`python -m velum.sim.storage_cli`: one run of a simulated mesh of files by its seed.

Owns: what a seed makes of the world: its nodes, its files, and what befalls them and when; and the
command. Refuses to know: how nodes work and what must hold (`storage.py`).

How: trouble strikes for a minute or two, and all of it ends. A seed is *gentle* or *harsh*. In a
gentle one at most as many nodes are down at once as every file of that world stands, and nobody
else goes down until everything is where it belongs again; then no file that was acknowledged may be
lost. A stopped node is down, and one that is cut off or wrongly taken for dead is so for all that
it sees and does, so nobody crashes then. In a harsh one anything may befall anybody, and only what
holds always is held against the mesh. Then all are back, all files are read, and in time nothing is
left of what was given up, replaced or removed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

from velum.policy.filetypes import Coding
from velum.sim.host import Status
from velum.sim.seeds import attempt, command
from velum.sim.storage import Codings, Plan, World
from velum.sim.storage_node import Node

MODULE: Final = "velum.sim.storage_cli"
BEGIN_MS: Final = 3_000  # by then all nodes see each other
LOOK_MS: Final = 500  # between two looks at whether all is whole again
HARSH: Final = 0.3  # share of seeds
NODES_MAX: Final = 10  # joined in all

# By how many losses each of a world's files stands: its codings with their chunk sizes.
CODINGS: Final[dict[int, Codings]] = {
    0: ((Coding(1), 8), (Coding(2), 8), (Coding(2, 1), 6)),
    1: ((Coding(2), 8), (Coding(2), 16), (Coding(3), 8), (Coding(2, 1), 6), (Coding(3, 2), 8)),
    2: ((Coding(3), 8), (Coding(4), 8), (Coding(2, 2), 6), (Coding(3, 2), 8)),
}
LOSSES: Final = ("crash", "crash", "crash silently", "leave", "stop", "part", "take for dead")
HARMLESS: Final = (
    "break a link",
    "suspect",
    "join",
    "slow",
    "late",
    "lose a client",
    "part a client",
)


class Trouble:
    """What befalls one world, drawn from a seed."""

    def __init__(self, world: World, rng: random.Random, losses: int, end_ms: int) -> None:
        self.world = world
        self.rng = rng
        self.end_ms = end_ms
        self._losses = losses
        self._every_ms = rng.choice((2_000, 6_000, 20_000))
        self._harmless = rng.sample(HARMLESS, rng.randint(0, len(HARMLESS)))
        self._later((0, self._every_ms), self._strike)

    def _later(self, range_ms: tuple[int, int], action: Callable[..., None], *args: object) -> None:
        """Something happens within a range of time, unless all trouble has ended."""
        when_ms = self.world.now_ms + self.rng.randint(*range_ms)
        if when_ms < self.end_ms:
            self.world.network.at(when_ms, action, *args)

    def _strike(self) -> None:
        if self._harmless:
            self._befall(self.rng.choice(self._harmless))
        self._later((0, self._every_ms), self._strike)

    # ---- what loses nothing ----

    def _befall(self, kind: str) -> None:
        world, rng = self.world, self.rng
        running = world.running()
        if not running:
            return
        node, other = rng.choice(running), rng.choice(running)
        client = rng.choice(world.clients)
        if kind == "break a link":
            world.say(f"links between {node.id} and {other.id} break")
            world.links.cut(rng.choice((node, client)), other)
        elif kind == "suspect" and node is not other:
            world.doubt(node, other, rng.randint(100, 5_000), gone=False)
        elif kind == "join" and len(world.nodes) < NODES_MAX:
            for _ in range(rng.choice((1, 1, NODES_MAX - len(world.nodes)))):
                world.join(rng.choice((16, 32, 64, 0)))
        elif kind == "slow":
            world.say(f"the links of {node.id} become slow")
            world.links.slow[node.id] = rng.choice((1, 10, 50))
        elif kind == "late":
            world.links.late = rng.choice((0.0, 0.02))
        elif kind == "lose a client" and client.live:
            world.crash_client(client)
            world.add_client()

    # ---- what loses nodes, for a while or for good ----

    def _down_for(self) -> tuple[int, int]:
        return self.rng.choice(((10, 500), (500, 8_000), (8_000, 60_000)))

    def crash(self, node: Node) -> None:
        if node.live:
            self.world.crash(node, silent=self.rng.random() < 0.5)
            if self.rng.random() < 0.8:
                self._later(self._down_for(), self._restart, node, node.life)

    def _restart(self, node: Node, life: int) -> None:
        if node.life == life and not node.live:
            self.world.restart(node, self.rng.choice((node.mib, node.mib, 16, 64)))

    def stop(self, node: Node) -> None:
        if node.status is Status.UP:
            self.world.pause(node)
            self._later(self._down_for(), self._resume, node, node.life)

    def _resume(self, node: Node, life: int) -> None:
        if node.life == life and node.status is Status.PAUSED:
            self.world.resume(node)

    def part(self, ids: Sequence[int]) -> None:
        clients = [client.id for client in self.world.clients if self.rng.random() < 0.3]
        self.world.part([*ids, *clients])
        self._later(self._down_for(), self.world.heal)

    def take_for_dead(self, node: Node) -> None:
        """Somebody, or everybody, takes it for dead without a reason."""
        others = [other for other in self.world.running() if other is not node]
        if self.rng.random() < 0.5:
            others = others[:1]
        for other in others:
            self.world.doubt(other, node, self.rng.randint(500, 15_000), gone=True)


class Gentle(Trouble):
    """At most `losses` nodes are down at once."""

    def __init__(self, world: World, rng: random.Random, losses: int, end_ms: int) -> None:
        super().__init__(world, rng, losses, end_ms)
        # With fewer members some hold two shards, or there are fewer copies.
        self._width = max(coding.k + coding.m for coding, _ in world.plan.codings)
        if losses:
            self._later((0, 5_000), self._recover)

    def _lose(self) -> None:
        """Strikes; then waits until all is whole again. Since it was so, others may have joined."""
        world, rng = self.world, self.rng
        running = world.running()
        chosen = rng.sample(running, min(len(running) - 1, rng.randint(1, self._losses)))
        giving = sum(node.mib > 0 for node in running)
        stands = giving >= self._width and world.observer.stands([node.id for node in chosen])
        if not stands or self._unready():
            self._later((LOOK_MS, LOOK_MS), self._lose)
            return
        kind = rng.choice(LOSSES)
        world.say(f"-- {kind} {[node.id for node in chosen]}")
        world.figures.acts[kind] += 1
        if kind == "part":
            self.part([node.id for node in chosen])
        elif kind == "take for dead":
            for node in chosen:
                self.take_for_dead(node)
        else:
            for node in chosen:
                self._later((0, 200), self._lose_one, kind, node, node.life)
        self._later((250, 1_000), self._recover)

    def _lose_one(self, kind: str, node: Node, life: int) -> None:
        if node.life != life or node.status is not Status.UP:
            return
        if kind == "leave":
            self.world.leave(node)
            self._later(self._down_for(), self._restart, node, node.life)
        elif kind == "stop":
            self.stop(node)
        elif kind == "crash silently":
            self.world.crash(node, silent=True)
        else:
            self.crash(node)

    def _unready(self) -> str:
        """Why nobody may go down now."""
        world = self.world
        if any(node.status is Status.PAUSED for node in world.nodes.values()):
            return "a node is stopped"
        if world.network.parted:
            return "the mesh is in two"
        return ""

    def _recover(self) -> None:
        """Once all see each other the writes that are under way must end; then all must be where
        it belongs."""
        world = self.world
        if self._unready() or not world.agree():
            self._later((LOOK_MS, LOOK_MS), self._recover)
            return
        self._wait_for_writes(world.under_way())

    def _wait_for_writes(self, numbers: set[int]) -> None:
        world = self.world
        left = numbers & world.under_way()
        if self._unready():
            self._recover()
        elif left or world.observer.lacks():
            self._later((LOOK_MS, LOOK_MS), self._wait_for_writes, left)
        else:
            world.say("-- all is whole")
            self._later((0, 5_000), self._lose)


class Harsh(Trouble):
    """Anything may befall anybody."""

    def __init__(self, world: World, rng: random.Random, losses: int, end_ms: int) -> None:
        super().__init__(world, rng, losses, end_ms)
        self._kinds = rng.sample(LOSSES, rng.randint(1, len(LOSSES)))
        self._later((0, self._every_ms), self._lose)

    def _lose(self) -> None:
        world, rng = self.world, self.rng
        running = world.running()
        if running:
            node, kind = rng.choice(running), rng.choice(self._kinds)
            if kind == "part":
                self.part([other.id for other in running if rng.random() < 0.5])
            elif kind == "take for dead":
                self.take_for_dead(node)
            elif kind == "stop":
                self.stop(node)
            elif kind == "leave":
                world.leave(node)
                self._later(self._down_for(), self._restart, node, node.life)
            else:
                self.crash(node)
            if node.live and node.chunks.held and rng.random() < 0.3:
                world.flip(node, rng.choice(sorted(node.chunks.held)))
        self._later((0, 2 * self._every_ms), self._lose)


def simulate(seed: int, *, verbose: bool = False) -> World:
    """One run, from the first node to the last chunk freed; the world as it is then. `Wrong` if
    anything did not hold."""
    return attempt(MODULE, _simulate, seed, verbose)


def _simulate(seed: int, verbose: bool) -> World:
    rng = random.Random(f"storage {seed}")
    harsh = rng.random() < HARSH
    losses = rng.choice((0, 1, 1, 1, 2))
    codings = rng.sample(CODINGS[losses], rng.randint(1, len(CODINGS[losses])))
    nodes = rng.randint(2, 6) if harsh else rng.randint(3 + losses, 7)
    sizes = rng.choice(((32,), (16, 32, 64), (8, 32, 0)) if not harsh else ((1, 2), (16, 64, 0)))
    names = [f"file {number}".encode() for number in range(rng.choice((1, 2, 5)))]
    acts, chunks_max = rng.choice((6, 12, 20)), rng.choice((1, 4, 10))
    plan = Plan(names, codings, acts, rng.choice((0.0, 0.1, 0.4)), chunks_max)
    world = World(
        seed,
        [rng.choice(sizes) for _ in range(nodes)],
        plan,
        latency_ms=rng.choice(((0, 2), (0, 20), (10, 150))),
        chunk_ms=rng.choice(((0, 1), (0, 20), (50, 400))),
        rate=rng.choice((None, None, 100, 20)),
        verbose=verbose,
    )
    world.orderly = not harsh
    world.run(BEGIN_MS)
    for _ in range(rng.randint(1, 4)):
        world.add_client()
    end_ms = world.now_ms + rng.choice((20_000, 60_000, 120_000))
    trouble = Harsh if harsh else Gentle
    trouble(world, rng, losses, end_ms)
    world.run(end_ms - world.now_ms)
    if harsh:
        world.finish_harshly()
    else:
        world.finish()
    return world


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    return command(MODULE, __doc__, _simulate, _summary, arguments)


def _summary(world: World) -> str:
    figures = world.figures
    counts = [f"{count} {what}" for what, count in sorted((figures.acts + figures.ends).items())]
    return (
        f"{len(world.nodes)} nodes, {', '.join(counts)}; {world.links.frames} frames, "
        f"{world.now_ms / 1000:.0f} s"
    )


if __name__ == "__main__":
    raise SystemExit(main())
