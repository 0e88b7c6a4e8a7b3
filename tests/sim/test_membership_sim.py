"""Whole meshes under faults: what is noticed when, and that all views agree in the end.

Every scenario is a function of its seed; a failing one names it, and runs the same again.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import pytest

from velum.policy.types import ALIVE, DEAD, LEFT, SUSPECT
from velum.sim.membership import World
from velum.sim.network import Conditions

LOSSY = Conditions(loss=0.1)
ROUGH = Conditions(latency_ms=(1, 40), loss=0.1, duplicate=0.1, reorder=0.1)
SEEDS = range(3)


def until(world: World, true: Callable[[], bool], limit_ms: int, step_ms: int = 20) -> int:
    """Run until something is true; returns how long that took."""
    begin_ms = world.now_ms
    while not true():
        if world.now_ms - begin_ms >= limit_ms:
            pytest.fail(f"not within {limit_ms} ms, seed {world.seed}")
        world.run(step_ms)
    return world.now_ms - begin_ms


def others_hold(world: World, number: int, *states: int) -> bool:
    """Whether every other running process holds a machine's node in one of these states."""
    viewers = (machine.number for machine in world.running() if machine.number != number)
    return all(world.state_of(number, viewer) in states for viewer in viewers)


# ---- one node goes ----


def test_a_crash_is_detected_and_known_in_time() -> None:
    first, everyone = [], []
    for seed in range(10):
        world = World(200, seed)
        world.run(5_000)
        assert world.figures.bytes_per_node_second <= 300
        world.crash(world.rng.randrange(200))
        world.run(12_000)
        (loss,) = world.losses
        assert loss.first_ms is not None and loss.all_ms is not None, f"seed {seed}"
        first.append(loss.first_ms - loss.at_ms)
        everyone.append(loss.all_ms - loss.at_ms)
        assert world.figures.false_positives == 0 and world.agreed(), f"seed {seed}"
    assert median(first) <= 5_000 and median(everyone) <= 6_000


def test_several_crashes_at_once_under_loss() -> None:
    world = World(100, 3, LOSSY)
    world.run(2_000)
    for number in range(0, 100, 5):
        world.crash(number)
    until(world, world.agreed, 20_000)
    assert all(loss.all_ms is not None for loss in world.losses)
    assert world.figures.false_positives == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_process_is_gone_within_a_second(seed: int) -> None:
    world = World(4, seed, validate=True)
    world.run(5_000)
    world.kill(2)
    until(world, lambda: others_hold(world, 2, DEAD), 1_000)


def test_a_closed_link_of_a_living_process_harms_nobody() -> None:
    world = World(4, 1, validate=True)
    world.run(3_000)
    world.kill(1)
    world.start(1, seeds=[0])  # the same process name and port, at once
    until(world, world.agreed, 2_000)
    world.run(30_000)
    assert world.agreed() and world.figures.false_positives == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_leave_is_known_at_once_and_its_address_left_alone(seed: int) -> None:
    world = World(40, seed, Conditions(loss=0.02), validate=True)
    world.run(3_000)
    world.leave(7)
    until(world, lambda: others_hold(world, 7, LEFT), 1_000)
    world.run(20_000)
    assert others_hold(world, 7, LEFT) and world.figures.false_positives == 0


# ---- a process is stopped and goes on ----


@pytest.mark.parametrize("stopped_ms", [6_000, 60_000])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_stopped_process_is_suspected_and_found_again(seed: int, stopped_ms: int) -> None:
    world = World(4, seed, validate=True)
    world.run(5_000)
    world.pause(3)
    noticed_ms = until(world, lambda: others_hold(world, 3, SUSPECT, DEAD), 5_000)
    world.run(stopped_ms - noticed_ms)
    world.resume(3)
    until(world, lambda: others_hold(world, 3, ALIVE), 5_000)
    world.run(2_000)
    assert world.agreed() and world.figures.false_positives == 0


def test_a_short_stop_kills_nobody() -> None:
    for seed in range(20):
        world = World(20, seed, validate=True)
        world.run(3_000)
        world.pause(5)
        world.run(1_500)
        world.resume(5)
        world.run(15_000)
        assert world.agreed(), f"seed {seed}"
        assert not any(m.state == DEAD for n in world.running() for m in n.policy.members)


def test_a_stopped_process_declares_nobody_dead_when_it_goes_on() -> None:
    for seed in SEEDS:
        world = World(16, seed, LOSSY)
        world.run(20_000)
        world.pause(0)
        world.run(40_000)
        world.begin_figures()
        world.resume(0)
        world.run(10_000)
        assert world.figures.false_positives == 0 and world.agreed(), f"seed {seed}"


# ---- partitions and restarts ----


@pytest.mark.parametrize("segment", [32, 1], ids=["beacons", "no beacons"])
@pytest.mark.parametrize("apart_ms", [3_000, 60_000])
def test_a_healed_partition_grows_together(segment: int, apart_ms: int) -> None:
    for seed in range(3):
        world = World(60, seed, Conditions(loss=0.01), segment=segment)
        world.run(2_000)
        world.part(range(0, 60, 3))
        world.run(apart_ms)
        world.heal()
        until(world, world.agreed, 10_000, 100)
        world.run(20_000)
        assert world.agreed(), f"seed {seed}"


def test_a_node_that_was_cut_off_alone_comes_back() -> None:
    for seed in SEEDS:
        world = World(8, seed, segment=1, validate=True)
        world.run(2_000)
        world.part([4])
        world.run(120_000)
        world.heal()
        until(world, world.agreed, 20_000, 100)


@pytest.mark.parametrize("clock_ms", [0, -86_400_000], ids=["clocks right", "clocks set back"])
def test_a_mass_restart_ends_in_the_same_mesh(clock_ms: int) -> None:
    for seed in range(3):
        world = World(30, seed, LOSSY, segment=1)
        world.run(5_000)
        for number in range(1, 30):  # one is left that remembers
            world.kill(number)
        world.run(2_000)
        for number in range(1, 30):
            world.start(number, seeds=[0, 1], clock_ms=clock_ms)
        until(world, world.agreed, 30_000, 100)
        world.run(20_000)
        assert world.agreed(), f"seed {seed}"


def test_halves_that_restarted_apart_find_each_other_by_their_seeds() -> None:
    world = World(6, 4, segment=1, settled=False, validate=True)
    world.part([0, 1, 2])
    for number in range(6):
        world.start(number, seeds=[0, 3])
    world.run(20_000)
    assert world.machines[1].policy.live_ids() == {1, 2, 3}
    assert world.machines[5].policy.live_ids() == {4, 5, 6}
    world.heal()
    until(world, world.agreed, 40_000, 100)


# ---- beginnings ----


@pytest.mark.parametrize("seed", SEEDS)
def test_four_nodes_find_each_other_by_beacons_within_two_seconds(seed: int) -> None:
    world = World(4, seed, settled=False, validate=True)
    for number in range(4):
        world.start(number)
        world.run(700)
    until(world, world.agreed, 1_300)


def test_many_nodes_join_over_one_seed() -> None:
    world = World(150, 6, LOSSY, segment=1, settled=False)
    world.start(0)
    for number in range(1, 150):
        world.start(number, seeds=[0])
        world.run(20)
    until(world, world.agreed, 20_000, 100)
    assert world.figures.false_positives == 0


def test_a_seed_that_starts_late_is_tried_again() -> None:
    world = World(2, 1, segment=1, settled=False, validate=True)
    world.start(0, seeds=[1])
    world.run(30_000)
    world.start(1)
    until(world, world.agreed, 6_000)


# ---- two nodes with one id ----


@pytest.mark.parametrize("segment", [32, 1], ids=["beacons", "seed"])
@pytest.mark.parametrize("clock_ms", [0, -86_400_000], ids=["clock right", "clock set back"])
def test_the_second_node_with_an_id_stops(segment: int, clock_ms: int) -> None:
    for seed in range(3):
        world = World(5, seed, segment=segment, validate=True)
        world.run(5_000)
        twin = world.add_machine(3)
        world.start(twin, seeds=[0], clock_ms=clock_ms)
        world.run(10_000)
        assert world.conflicts == [(twin, world.machines[2].address)], f"seed {seed}"
        assert world.agreed()


def test_twins_that_started_apart_are_told_when_they_meet() -> None:
    for seed in range(5):
        world = World(6, seed, segment=1)
        world.run(2_000)
        world.part([0, 1, 2])
        world.crash(0)
        world.crash(3)
        world.run(20_000)
        first, second = world.add_machine(50), world.add_machine(50)
        world.part([0, 1, 2, first])
        world.start(first, seeds=[1])
        world.run(1_000)
        world.start(second, seeds=[4])
        world.run(20_000)
        assert world.conflicts == []
        world.heal()
        while not world.conflicts and world.now_ms < 120_000:
            world.run(100)
        assert world.conflicts == [(second, world.machines[first].address)], f"seed {seed}"
        until(world, world.agreed, 30_000, 100)


# ---- bad networks ----


@pytest.mark.parametrize("nodes", [2, 3, 4, 32])
def test_loss_alone_kills_nobody(nodes: int) -> None:
    world = World(nodes, 11, LOSSY)
    world.run(600_000 // nodes * 4)
    assert world.figures.suspicions > 0, "the network was too kind to tell"
    assert world.figures.false_positives == 0


def test_a_rough_network_is_survived() -> None:
    world = World(50, 2, ROUGH, validate=True)
    world.run(20_000)
    world.crash(9)
    world.run(25_000)
    assert world.losses[0].all_ms is not None
    assert world.figures.false_positives == 0


def test_one_seed_is_one_run() -> None:
    def run() -> tuple[int, int, int, list[int | None]]:
        world = World(50, 8, ROUGH)
        world.run(10_000)
        world.crash(1)
        world.run(15_000)
        figures = world.figures
        return (
            figures.bytes,
            figures.datagrams,
            figures.suspicions,
            [loss.all_ms for loss in world.losses],
        )

    assert run() == run()
