"""Who writes what in a simulated mesh with a shared state, and what must come of it.

Owns: commands drawn at random, and a book of what they must come to. Refuses to know: how nodes and
links work. How: some keys are written by all in every way, and only have to be equal everywhere.
Others have one thing done to them, so that the book knows what must be there: a key that is set and
deleted once, an element or field of its own name, a counter that is only counted up. What was
written at a node that lost it in a crash may be there or not.
"""

from __future__ import annotations

import random
from typing import Final, NamedTuple

from velum.policy.kvtalk import NEVER, Stamp
from velum.sim.kv import World
from velum.sim.kv_node import Node
from velum.sim.kv_store import Record

TTL_MS: Final = (200, 20_000)
WILD: Final = 6  # keys that are written in every way
COUNTERS: Final = 3
SHARED: Final = 8  # sets, and hashes, in which all have things of their own


class Thing(NamedTuple):
    """A key of its own (no part), or an element or field of its own."""

    kind: str  # "key", "set", "hash"
    key: str
    part: str


class Work:
    """Writes on the running nodes of a world, about `every_ms` apart, until `stop`."""

    def __init__(self, world: World, rng: random.Random, every_ms: int) -> None:
        self.world = world
        self.rng = rng
        self.writing = True
        self._every_ms = every_ms
        self._made: dict[Thing, tuple[int, Record]] = {}
        self._removed: dict[Thing, list[tuple[int, Record]]] = {}
        self._maybe: set[Thing] = set()  # lost by who made or removed it
        self._mortal: set[str] = set()  # keys that expire
        self._least: dict[tuple[str, int], int] = {}  # of a counter, a node's own part
        self._most: dict[tuple[str, int], int] = {}
        for node in world.nodes.values():
            node.on_lost = self.lost
        world.network.at(0, self._act)

    def stop(self) -> None:
        self.writing = False

    def _act(self) -> None:
        if not self.writing:
            return
        running = self.world.running()
        if running:
            node = self.rng.choice(running)
            self.rng.choice((self._make, self._make, self._remove, self._count, self._wild))(node)
            self.world.figures["writes"] += 1
            if self.rng.random() < 0.02:
                node.disk.sync()
            if self.rng.random() < 0.01:
                node.compact()
        wait_ms = self.rng.randint(0, 2 * self._every_ms)
        self.world.network.at(self.world.now_ms + wait_ms, self._act)

    def wiped(self, node: Node) -> None:
        """A node is forgotten and begins anew: what only it had may be gone."""
        self._maybe |= {thing for thing, (id, _) in self._made.items() if id == node.id}
        for thing, removals in self._removed.items():
            if any(id == node.id for id, _ in removals):
                self._maybe.add(thing)
        for key, id in self._least:
            if id == node.id:
                self._least[key, id] = 0

    # ---- what the book knows ----

    def _make(self, node: Node) -> None:
        name = f"{len(self._made)}"
        kind = self.rng.choice(("key", "set", "hash"))
        record: Record | None
        if kind == "key":
            thing = Thing(kind, f"own {name}", "")
            record = node.set(thing.key, name)
        elif kind == "set":
            thing = Thing(kind, f"set {self.rng.randint(1, SHARED)}", name)
            record = node.add(thing.key, name)
        else:
            thing = Thing(kind, f"hash {self.rng.randint(1, SHARED)}", name)
            record = node.put_field(thing.key, name, name)
        if record is not None:
            self._made[thing] = (node.id, record)
        if self.rng.random() < 0.1:
            self._mortal.add(f"mortal {name}")
            node.set(f"mortal {name}", name, self.rng.randint(*TTL_MS))

    def _remove(self, node: Node) -> None:
        some = self.rng.sample(list(self._made), min(10, len(self._made)))
        here = [thing for thing in some if self._is_shown(node, thing)]
        if not here:
            return
        thing = self.rng.choice(here)
        if thing.kind == "key":
            records = [node.delete(thing.key)]
        elif thing.kind == "set":
            records = list(node.remove(thing.key, thing.part))
        else:
            records = [node.remove_field(thing.key, thing.part)]
        self._removed.setdefault(thing, []).extend((node.id, r) for r in records if r is not None)

    @staticmethod
    def _is_shown(node: Node, thing: Thing) -> bool:
        seen = node.look(thing.key)
        if thing.kind == "key":
            return seen.type == "bytes"
        if seen.type == "set":
            return thing.part in seen.value  # type: ignore[operator]
        return seen.type == "hash" and thing.part in dict(seen.value)  # type: ignore[call-overload]

    def _count(self, node: Node) -> None:
        key = f"counter {self.rng.randint(1, COUNTERS)}"
        sum = node.increment(key)
        assert sum is not None
        self._least[key, node.id] = sum
        self._most[key, node.id] = self._most.get((key, node.id), 0) + 1

    def lost(self, node: Node) -> None:
        """A crash took the end of a node's log."""
        safe = node.disk.safe
        for thing, (id, record) in self._made.items():
            if id == node.id and record not in safe:
                self._maybe.add(thing)
        for thing, removals in self._removed.items():
            kept = [(id, r) for id, r in removals if id != node.id or r in safe]
            if removals and not kept:
                self._maybe.add(thing)
            removals[:] = kept
        for key, id in self._least:
            if id == node.id:
                self._least[key, id] = self._own(node.disk.log, key, id)

    @staticmethod
    def _own(records: list[Record], key: str, id: int) -> int:
        """What a node has counted: since it lost its memory, and before."""
        sums: dict[Stamp, tuple[Stamp, int]] = {}  # by the life
        for r in records:
            if r.key == key and r.stamp.node == id:
                sums[r.of] = max(sums.get(r.of, (NEVER, 0)), (r.stamp, r.sum))
        return sum(counted for _, counted in sums.values())

    # ---- what it does not ----

    def _wild(self, node: Node) -> None:
        rng = self.rng
        key, part = f"wild {rng.randint(1, WILD)}", str(rng.randint(1, 3))
        match rng.randint(0, 7):
            case 0:
                node.set(key, part, rng.choice((0, 0, rng.randint(*TTL_MS))))
            case 1 | 2:
                node.delete(key)
            case 3:
                node.expire(key, rng.randint(*TTL_MS))
            case 4:
                node.increment(key)
            case 5:
                node.add(key, part)
                node.remove(key, str(rng.randint(1, 3)))
            case 6:
                node.put_field(key, part, str(rng.random()))
            case _:
                node.remove_field(key, part)

    # ---- what must hold ----

    def check(self) -> None:
        """All are equal, and nobody writes: what was written is there, what was removed is not."""
        node = self.world.running()[0]
        for thing in self._made:
            if thing in self._maybe:
                continue
            shown = self._is_shown(node, thing)
            if self._removed.get(thing):
                assert not shown, f"it is back: {thing}"
            else:
                assert shown, f"it is lost: {thing}"
        for number in range(1, COUNTERS + 1):
            self._check_counter(node, f"counter {number}")

    def _check_counter(self, node: Node, key: str) -> None:
        for (name, id), least in self._least.items():
            if name == key:
                own = self._own(node.store.records(key), key, id)
                most = self._most[key, id]
                assert least <= own <= most, f"{key}: {id} has {own}, not {least} to {most}"
        seen = node.look(key)
        total = sum(r.sum for r in node.store.records(key))
        assert seen.type == "none" or seen.value == total

    def check_mortal(self) -> None:
        """What expires is gone."""
        for node in self.world.running():
            left = [key for key in sorted(self._mortal) if node.look(key).type != "none"]
            assert not left, f"{node.id} still has {left}"
