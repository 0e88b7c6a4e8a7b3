"""`python -m velum.sim.scatter_cli`: one run of a simulated scatter by its seed, with its story.

Owns: what a seed makes of the world: its nodes, its jobs, and what befalls them and when; and the
command. Refuses to know: how nodes work and what must hold (`scatter.py`).

How: trouble strikes in the first seconds, and all of it ends: what is stopped goes on, what is
apart is joined, and at least one node with workers is up. Then every job has to end, all copies of
each have to be the same, and after an hour nothing may be left.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

from velum.policy.job import State
from velum.sim.host import Status
from velum.sim.scatter import AGREE_MS, World
from velum.sim.scatter_node import Node
from velum.sim.scatter_work import Work, make_work
from velum.sim.seeds import attempt, command

MODULE: Final = "velum.sim.scatter_cli"
TROUBLE_MS: Final = 12_000  # when the last trouble begins
LEADERS: Final = 0.3  # of all trouble, what befalls coordinators for certain
CALM_MS: Final = 20_000  # when all of it has ended
KINDS: Final = (
    "crash",
    "crash silently",
    "leave",
    "pause",
    "part",
    "break a link",
    "suspect",
    "declare gone",
    "kill a worker",
    "hang a worker",
    "cancel",
    "resume",
    "lose a client",
)


class Trouble:
    """What befalls one world, drawn from a seed."""

    def __init__(self, world: World, rng: random.Random, kinds: Sequence[str], count: int) -> None:
        self._world = world
        self._rng = rng
        self._down: list[Node] = []
        for _ in range(count):
            world.network.at(rng.randint(100, TROUBLE_MS), self._strike, rng.choice(kinds))
        world.network.at(CALM_MS, self._calm)

    def _strike(self, kind: str) -> None:
        running = self._world.running()
        leaders = [node for node in running if node.leading]
        if leaders and self._rng.random() < LEADERS:
            running = leaders
        if running:
            self._STRIKES[kind](self, self._rng.choice(running))

    def _for(self, range_ms: tuple[int, int]) -> int:
        """When something that begins now ends."""
        return min(CALM_MS, self._world.now_ms + self._rng.randint(*range_ms))

    def _crash(self, node: Node, silent: bool = False) -> None:
        self._world.crash(node, silent=silent)
        lost = self._rng.choice((0, 0, 1, 10, 1000))
        if self._rng.random() < 0.7:
            when_ms = self._for((20, 9_000))
            self._world.network.at(when_ms, self._restart, node, node.life, lost)
        else:
            self._down.append(node)

    def _crash_silently(self, node: Node) -> None:
        self._crash(node, silent=True)

    def _restart(self, node: Node, life: int, lost: int) -> None:
        if node.life == life and not node.live:
            self._world.restart(node, lost)

    def _leave(self, node: Node) -> None:
        self._world.leave(node)
        self._down.append(node)

    def _pause(self, node: Node) -> None:
        self._world.pause(node)
        self._world.network.at(self._for((10, 9_000)), self._resume, node, node.life)

    def _resume(self, node: Node, life: int) -> None:
        if node.life == life and node.status is Status.PAUSED:
            self._world.resume(node)

    def _part(self, node: Node) -> None:
        others = [other.id for other in self._world.nodes if other is not node]
        apart = self._rng.sample(others, self._rng.randint(0, len(others) - 1))
        self._world.part([node.id, *apart])
        self._world.network.at(self._for((50, 9_000)), self._world.heal)

    def _break(self, node: Node) -> None:
        self._world.cut(node, self._other(node))

    def _suspect(self, node: Node) -> None:
        node.doubt(self._other(node).id, self._rng.randint(100, 4_000), gone=False)

    def _declare(self, node: Node) -> None:
        node.doubt(self._other(node).id, self._rng.randint(100, 4_000), gone=True)

    def _other(self, node: Node) -> Node:
        return self._rng.choice([other for other in self._world.nodes if other is not node])

    def _kill_worker(self, node: Node) -> None:
        self._world.kill_worker(node, self._rng.randrange(node.slots))

    def _hang_worker(self, node: Node) -> None:
        slot = self._rng.randrange(node.slots)
        self._world.stick_worker(node, slot)
        self._world.network.at(self._for((500, 15_000)), self._world.kill_worker, node, slot)

    def _cancel(self, node: Node) -> None:
        if self._world.works:
            self._world.cancel(self._rng.choice(list(self._world.works)), node)

    def _resume_job(self, node: Node) -> None:
        if self._world.works:
            self._world.resume_job(self._rng.choice(list(self._world.works)), node)

    def _lose_client(self, _node: Node) -> None:
        if self._world.clients:
            self._world.abandon(self._rng.choice(self._world.clients))

    def _calm(self) -> None:
        """The end of all trouble."""
        world = self._world
        world.late = world.repeats = 0.0
        world.heal()
        for node in world.nodes:
            if node.status is Status.PAUSED:
                world.resume(node)
            elif not node.live and node not in self._down:
                world.restart(node)
        workers = [node for node in world.running() if not node.leaf]
        if not workers:
            world.restart(world.nodes[0])

    _STRIKES: Final[dict[str, Callable[[Trouble, Node], None]]] = dict(
        zip(
            KINDS,
            (
                _crash,
                _crash_silently,
                _leave,
                _pause,
                _part,
                _break,
                _suspect,
                _declare,
                _kill_worker,
                _hang_worker,
                _cancel,
                _resume_job,
                _lose_client,
            ),
            strict=True,
        )
    )


def simulate(seed: int, *, verbose: bool = False) -> World:
    """One run, from the first node to the last forgotten job; the world as it is then. `Wrong` if
    anything did not hold."""
    return attempt(MODULE, _simulate, seed, verbose)


def _simulate(seed: int, verbose: bool) -> World:
    rng = random.Random(f"scatter {seed}")
    nodes = rng.randint(2, 8)
    slots = [rng.randint(1, 4) for _ in range(nodes)]
    speeds = [rng.choice((0.1, 0.5, 1.0, 1.0, 1.0, 1.0, 2.0)) for _ in range(nodes)]
    world = World(
        seed,
        slots,
        speeds,
        latency_ms=rng.choice(((0, 5), (0, 50), (20, 200))),
        journals=rng.random() < 0.5,
        leaves=int(nodes > 2 and rng.random() < 0.3),
        late=rng.choice((0.0, 0.0, 0.01)),
        repeats=rng.choice((0.0, 0.5)),
        verbose=verbose,
    )
    capacity = sum(count * speed for count, speed in zip(slots, speeds, strict=True))
    for _ in range(rng.choice((1, 1, 2, 3))):
        slices = rng.choice((0, 1, 2, rng.randint(3, 40), rng.randint(40, 200), 200))
        length_ms = rng.choice((500, 3_000, 8_000))
        cost_ms = min(2_000, length_ms * capacity / max(1, slices))
        work = make_work(rng, slices, cost_ms, troubled=rng.random() < 0.5)
        world.network.at(rng.randint(300, 3_000), _submit, world, work)
    kinds = rng.sample(KINDS, rng.randint(1, len(KINDS)))
    Trouble(world, rng, kinds, rng.choice((0, 1, 3, 6, 12)))
    _run(world)
    return world


def _submit(world: World, work: Work) -> None:
    world.submit(work)


def _run(world: World) -> None:
    world.run(CALM_MS)
    world.finish()
    world.run(AGREE_MS)
    world.check_leaders()
    world.check_agreement()
    world.forget()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    return command(MODULE, __doc__, _simulate, _summary, arguments)


def _summary(world: World) -> str:
    figures = world.figures
    told = [client.told for client in world.clients if client.told is not None]
    states = [State(record.state).name.lower() for record in told]
    return (
        f"{len(world.works)} jobs, {', '.join(states)}; {figures.grants} leases, "
        f"{figures.slices_run.total()} slices run, {figures.frames} frames, "
        f"{figures.losses} times a member was lost"
    )


if __name__ == "__main__":
    raise SystemExit(main())
