"""The shared state in whole simulated meshes: equal after healing, nothing lost, nothing back.

`simulate(seed)` draws a mesh, its trouble and stores from its seed; a failure prints the command
that runs it again. The other tests let one thing happen, on the stores that a seed has there.
"""

from __future__ import annotations

from typing import Any

import pytest

from velum.policy import kvsync_io as io
from velum.policy.kvmarks import Marks
from velum.policy.kvsync import Sync
from velum.sim.kv import World
from velum.sim.kv_cli import STORES, simulate
from velum.sim.seeds import Wrong

SEEDS = 20
BATCH = 20
DAY_MS = 86_400_000


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_any_trouble(first: int) -> None:
    for seed in range(first, first + BATCH):
        simulate(seed)


def standing(seed: int = 1, count: int = 5) -> World:
    world = World(seed, count, skew_ms=10 * 365 * DAY_MS, store=STORES[seed % 2])
    world.run(3_000)
    return world


def test_a_write_is_everywhere_at_once() -> None:
    world = standing()
    world.nodes[1].set("key", "value")
    world.run(10)
    assert all(node.shown() == {"key": ("bytes", "value")} for node in world.nodes.values())


def test_who_was_away_for_an_hour_brings_nothing_back() -> None:
    world = standing()
    for number in range(50):
        world.nodes[1 + number % 5].set(f"{number}", "value")
    world.run(5_000)
    world.crash(world.nodes[5])
    for number in range(40):
        assert world.nodes[1 + number % 4].delete(f"{number}")
    world.run(3_600_000)
    assert all(world.nodes[id].store.tombstones() == 40 for id in range(1, 5)), "it may need them"
    world.finish()
    assert len(world.nodes[1].shown()) == 10
    world.settle()
    assert len(world.nodes[5].shown()) == 10


def test_a_forgotten_node_holds_nothing_up_and_is_refused() -> None:
    world = standing()
    away = world.nodes[5]
    world.nodes[1].set("key", "value")
    world.run(5_000)
    world.crash(away)
    world.nodes[1].delete("key")
    world.run(5_000)
    disk = away.disk
    world.forget(away)
    away.disk = disk  # the operator was wrong
    world.run(180_000)
    assert all(not world.nodes[id].store.keys() for id in range(1, 5))
    world.restart(away)
    world.run(60_000)
    assert away.shown() == {"key": ("bytes", "value")}
    assert all(not world.nodes[id].shown() for id in range(1, 5)), "it is back"
    world.crash(away)
    away.disk = type(disk)()
    world.restart(away)
    world.run(5_000)
    assert not away.shown() and away.joined == {1, 2, 3, 4}


@pytest.mark.parametrize("seed", range(5))
def test_halves_write_and_all_counts(seed: int) -> None:
    world = standing(seed)
    world.part([4, 5])
    for number in range(100):
        node = world.nodes[1 + number % 5]
        node.increment("counter")
        node.add("set", f"{number}")
        world.run(50)
    world.finish()
    for node in world.nodes.values():
        shown = node.shown()
        assert shown["counter"] == ("counter", 100)
        assert shown["set"] == ("set", frozenset(map(str, range(100))))


def test_tombstones_that_go_too_soon_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are settled and dropped whoever has them."""
    monkeypatch.setattr(Marks, "settle_to", lambda marks, others: marks.mark - 1)
    monkeypatch.setattr(Marks, "drop_to", lambda marks, others: marks.mark - 1)
    with pytest.raises(Wrong, match="it is back|which lacks"):
        for seed in range(20):
            simulate(seed)


def test_a_peer_that_is_counted_on_too_soon_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts as soon as it begins to pull."""
    begin = Sync._begin

    def begin_and_credit(sync: Sync, node: int, *rest: Any) -> None:
        begin(sync, node, *rest)
        sync._effects.append(io.Credit(node))

    monkeypatch.setattr(Sync, "_begin", begin_and_credit)
    with pytest.raises(Wrong, match="which lacks"):
        for seed in range(20):
            simulate(seed)
