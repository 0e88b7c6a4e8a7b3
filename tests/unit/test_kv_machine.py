"""Merging and anti-entropy under any order of what can happen: a state machine.

Nodes write, records travel singly, late, twice or never, nodes pull from each other by the policy,
walk over their tombstones, and lose their links or their process. In the end all pull until nothing
is new: then all show the same, nothing that was deleted is back, nothing that was counted or added
is lost, and no tombstone is left.
"""

from __future__ import annotations

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from velum.sim.kv import World
from velum.sim.kv_node import Node
from velum.sim.kv_store import Model, Op, Record, look, place_of

NODES = st.integers(1, 3)
KEYS = st.sampled_from(["a", "b", "c"])
PARTS = st.sampled_from(["x", "y"])


class MergeMachine(RuleBasedStateMachine):
    """One list of records of honest nodes, merged in three orders."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(0, 3)
        self.records: list[Record] = []
        self.taken: dict[int, int] = {1: 0, 2: 0, 3: 0}

    def node(self, id: int) -> Node:
        self.world.network.now_ms += 1
        return self.world.nodes[id]

    @rule(id=NODES, key=KEYS, what=st.integers(0, 7), part=PARTS)
    def write(self, id: int, key: str, what: int, part: str) -> None:
        node = self.node(id)
        match what:
            case 0:
                node.set(key, part)
            case 1:
                node.set(key, "12")
            case 2:
                node.delete(key)
            case 3 | 4:
                node.increment(key)
            case 5:
                node.add(key, part)
                node.put_field(key, part, part)
            case 6:
                node.remove(key, part)
            case _:
                node.remove_field(key, part)
        self.take(node)

    @rule(id=NODES, key=KEYS, ms=st.integers(1, 50))
    def expire(self, id: int, key: str, ms: int) -> None:
        self.node(id).expire(key, ms)
        self.world.network.now_ms += 2 * ms if ms % 2 else 0
        self.take(self.node(id))

    def take(self, node: Node) -> None:
        """What the node has written, for the others."""
        self.records += node.disk.log[self.taken[node.id] :]
        self.taken[node.id] = len(node.disk.log)

    @rule(id=NODES, data=st.data())
    def tell(self, id: int, data: st.DataObject) -> None:
        if self.records:
            node = self.node(id)
            node.hear(data.draw(st.sampled_from(self.records)), node.unix_ms)
            self.taken[id] = len(node.disk.log)

    @invariant()
    def any_order_is_the_same(self) -> None:
        stores = [Model(), Model(), Model()]
        shuffled = random.Random(len(self.records)).sample(self.records, len(self.records))
        for store, records in zip(
            stores, (self.records, self.records[::-1], shuffled * 2), strict=True
        ):
            for record in records:
                store.merge(record)
        first, *others = stores
        for other in others:
            assert first.sums(0, 0) == other.sums(0, 0)
            for key in "abc":
                assert sorted(first.records(key)) == sorted(other.records(key))

    @invariant()
    def sums_are_of_what_is_there(self) -> None:
        for node in self.world.nodes.values():
            again = Model()
            for key in node.store.keys():
                for record in node.store.records(key):
                    again.merge(record)
            assert again.sums(0, 0) == node.store.sums(0, 0)

    @invariant()
    def one_record_in_a_place(self) -> None:
        for node in self.world.nodes.values():
            for key in node.store.keys():
                places = [place_of(record) for record in node.store.records(key)]
                assert len(places) == len(set(places))


class MeshMachine(RuleBasedStateMachine):
    """Three nodes with policies, links and logs."""

    @initialize(seed=st.integers(0, 1 << 16), missed=st.sampled_from([0.0, 0.5]))
    def begin(self, seed: int, missed: float) -> None:
        self.world = World(seed, 3, skew_ms=10**11, missed=missed)
        self.alive: dict[str, tuple[int, Record]] = {}
        self.dead: dict[str, tuple[int, Record]] = {}
        self.counted = dict.fromkeys((1, 2, 3), 0)
        self.number = 0
        self.world.run(500)

    @rule(id=NODES)
    def create(self, id: int) -> None:
        node = self.world.nodes[id]
        if node.live:
            self.number += 1
            name = f"own {self.number}"
            self.alive[name] = (id, node.set(name, "value"))

    @rule(id=NODES, data=st.data())
    def delete(self, id: int, data: st.DataObject) -> None:
        node = self.world.nodes[id]
        here = [n for n in sorted(self.alive) if node.live and node.store.records(n)]
        if here:
            name = data.draw(st.sampled_from(here))
            record = node.delete(name)
            if record is not None:
                del self.alive[name]
                self.dead[name] = (id, record)

    @rule(id=NODES)
    def count(self, id: int) -> None:
        node = self.world.nodes[id]
        if node.live:
            self.counted[id] = node.increment("counter") or 0

    @rule(ms=st.sampled_from([1, 10, 100, 3000, 20_000]))
    def wait(self, ms: int) -> None:
        self.world.run(ms)

    @rule(id=NODES)
    def part(self, id: int) -> None:
        self.world.part([id])

    @rule()
    def heal(self) -> None:
        self.world.heal()

    @rule(id=NODES)
    def crash(self, id: int) -> None:
        """What it had not synced is gone, and nobody counts on it."""
        node = self.world.nodes[id]
        if not node.live:
            return
        self.world.crash(node)
        for table in (self.alive, self.dead):
            for name, (by, record) in list(table.items()):
                if by == id and record not in node.disk.safe:
                    del table[name]
        own = [r for r in node.disk.safe if r.op == Op.COUNT and r.stamp.node == id]
        self.counted[id] = max(own, key=lambda r: r.stamp).sum if own else 0

    @rule(id=NODES)
    def restart(self, id: int) -> None:
        self.world.restart(self.world.nodes[id])

    @rule(id=NODES)
    def compact(self, id: int) -> None:
        if self.world.nodes[id].live:
            self.world.nodes[id].compact()

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.finish()
        shown = self.world.nodes[1].shown()
        assert self.alive.keys() <= shown.keys(), "lost"
        assert not self.dead.keys() & shown.keys(), "back"
        for id, least in self.counted.items():
            counts = self.world.nodes[1].store.records("counter")
            assert sum(r.sum for r in counts if r.stamp.node == id) >= least
        self.world.settle()
        assert self.world.nodes[1].shown() == shown
        assert not self.dead.keys() & {key for key in shown}


def test_what_a_key_shows_when_two_made_different_things_of_it() -> None:
    world = World(0, 3)
    one, two = world.nodes[1], world.nodes[2]
    one.add("k", "x")
    two.increment("k")
    both = one.store.records("k") + two.store.records("k")
    assert look(both).type == "counter"
    assert look(one.store.records("k")).value == frozenset("x")


TestMergeMachine = MergeMachine.TestCase
TestMergeMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)

TestMeshMachine = MeshMachine.TestCase
TestMeshMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
