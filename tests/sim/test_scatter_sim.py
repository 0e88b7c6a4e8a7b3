"""Scatters over whole simulated meshes under faults: every answer right, every job at its end.

`simulate(seed)` draws nodes, jobs and trouble from its seed; the other tests let one thing happen
and say what it may cost. A failure prints the command that runs it again.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from velum.policy.job import KEEP_GOING, Reduce, State
from velum.policy.tasks import Code
from velum.sim.scatter import AGREE_MS, Client, World
from velum.sim.scatter_cli import simulate
from velum.sim.scatter_node import Node
from velum.sim.scatter_work import Work, make_work

SEEDS = 60
BATCH = 20
FOUR = (2, 2, 2, 2)
ADOPTED_MS = 5_000


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_any_trouble(first: int) -> None:
    for seed in range(first, first + BATCH):
        simulate(seed)


def even_work(slices: int, cost_ms: float, seed: int = 1, reduce: Reduce = Reduce.XOR) -> Work:
    """Slices that cost the same."""
    work = make_work(random.Random(seed), slices, cost_ms, reduce=reduce)
    work.cost_ms = [cost_ms] * slices
    return work


def begin(world: World, work: Work, after_ms: int = 500) -> Client:
    """Submits the job at node 1 of a mesh that stands, and lets it run for a while."""
    world.run(500)
    client = world.submit(work, world.node(1))
    world.run(after_ms)
    return client


def adopted(world: World, job: int, but: Node) -> Callable[[], bool]:
    """Whether another node coordinates the job, or it has ended."""
    return lambda: any(node.leads(job) for node in world.running() if node is not but)


def end(world: World) -> None:
    """All jobs end, all copies become the same, and all is forgotten."""
    world.finish()
    world.run(AGREE_MS)
    world.check_leaders()
    world.check_agreement()
    world.forget()


# ---- nothing happens ----


@pytest.mark.parametrize("seed", range(5))
def test_without_trouble_little_is_done_twice(seed: int) -> None:
    world = World(seed, FOUR)
    work = make_work(random.Random(seed), 400, 60, reduce=Reduce.COLLECT)
    begin(world, work)
    world.finish()
    assert world.figures.slices_run[work.job] < 1.05 * 400
    end(world)


@pytest.mark.parametrize("seed", range(5))
def test_a_slow_node_does_not_set_the_pace(seed: int) -> None:
    world = World(seed, FOUR, (1, 1, 1, 0.1), latency_ms=(0, 5))
    work = even_work(600, 62, seed)  # 6 s for the workers together
    client = begin(world, work, 0)
    took_ms = world.until(lambda: client.ended, 60_000, 10)
    assert took_ms < 6_000 * 1.05 + 300
    assert world.figures.slices_run[work.job] < 1.05 * 600


def test_several_jobs_share_the_workers_by_priority() -> None:
    world = World(3, FOUR)
    low, high = even_work(200, 100, 1), even_work(200, 100, 2)
    low.spec = low.spec._replace(priority=10)
    high.spec = high.spec._replace(priority=100)
    begin(world, low, 0)
    begin(world, high, 1_500)
    assert world.figures.slices_run[high.job] > 3 * world.figures.slices_run[low.job] / 2
    end(world)


# ---- nodes go ----


@pytest.mark.parametrize("seed", range(20))
def test_a_crashed_coordinators_job_is_adopted_in_time(seed: int) -> None:
    world = World(seed, FOUR)
    work = even_work(200, 200, seed)
    client = begin(world, work, 300 + 83 * seed)
    first = world.node(1)
    assert first.leads(work.job)
    world.crash(first)
    world.until(adopted(world, work.job, first), ADOPTED_MS)
    world.until(lambda: client.ended, 15_000)
    end(world)


@pytest.mark.parametrize("seed", range(10))
def test_coordinator_and_a_holder_go_at_once(seed: int) -> None:
    world = World(seed, FOUR)
    work = even_work(200, 200, seed)
    client = begin(world, work, 1_000)
    world.abandon(client)  # nobody else remembers the job
    held = world.node(1).jobs.get(work.job)
    assert held is not None
    holder = world.node(held.record.holders[seed % 2])
    world.crash(world.node(1))
    world.crash(holder)
    world.until(adopted(world, work.job, world.node(1)), ADOPTED_MS)
    end(world)


@pytest.mark.parametrize("seed", range(5))
def test_a_worker_node_that_is_stopped_for_good_costs_little(seed: int) -> None:
    world = World(seed, FOUR)
    work = even_work(400, 120, seed)  # 6 s
    client = begin(world, work, 3_000)
    world.pause(world.node(3))
    took_ms = world.until(lambda: client.ended, 60_000)
    assert took_ms < 3_000 * 4 / 3 + 6_000
    world.crash(world.node(3), silent=True)
    end(world)


@pytest.mark.parametrize("seed", range(10))
def test_a_coordinator_that_was_stopped_comes_back(seed: int) -> None:
    world = World(seed, FOUR)
    work = even_work(400, 120, seed)
    begin(world, work, 1_000)
    first = world.node(1)
    world.pause(first)
    world.until(adopted(world, work.job, first), ADOPTED_MS)
    world.resume(first)
    world.until(lambda: not first.leads(work.job), AGREE_MS)
    end(world)


@pytest.mark.parametrize("seed", range(10))
def test_halves_go_on_apart_and_agree(seed: int) -> None:
    world = World(seed, (2,) * 6)
    work = even_work(400, 400, seed)
    begin(world, work, 1_000)
    world.part([1, 2, 3])
    world.run(8_000)
    world.heal()
    world.run(AGREE_MS)
    world.check_leaders()
    end(world)


@pytest.mark.parametrize("seed", range(10))
def test_a_mesh_that_lost_power_resumes_its_jobs(seed: int) -> None:
    world = World(seed, FOUR, journals=True)
    work = even_work(200, 200, seed)
    world.abandon(begin(world, work, 2_500))
    for node in world.nodes:
        world.crash(node, silent=True)
    before = world.figures.slices_run[work.job]
    world.run(1_000)
    for node in world.nodes:
        world.restart(node, lost_entries=seed % 4)
    world.finish()
    assert before > 40 and world.figures.slices_run[work.job] < 200 + before / 2
    end(world)


def test_a_leaving_coordinator_hands_its_job_over() -> None:
    for seed in range(5):
        world = World(seed, FOUR)
        work = even_work(200, 200, seed)
        begin(world, work, 1_000)
        world.leave(world.node(1))
        world.until(adopted(world, work.job, world.node(1)), ADOPTED_MS)
        end(world)


# ---- guests and workers misbehave ----


@pytest.mark.parametrize("keep_going", [False, True])
def test_a_slice_that_kills_its_workers_is_named(keep_going: bool) -> None:
    for seed in range(5):
        world = World(seed, FOUR)
        work = even_work(100, 50, seed, Reduce.COLLECT)
        work.spec = work.spec._replace(flags=KEEP_GOING * keep_going)
        work.kills = {37}
        client = begin(world, work)
        world.until(lambda client=client: client.ended, 20_000)
        assert client.told is not None
        if keep_going:
            assert (client.told.state, client.told.failed) == (State.DONE, 1)
        else:
            assert (client.told.state, client.told.code) == (State.FAILED, Code.POISON)
            assert "37" in client.told.text
        end(world)


def test_a_worker_that_hangs_delays_nothing() -> None:
    for seed in range(5):
        world = World(seed, FOUR)
        work = even_work(200, 100, seed)  # 2.5 s
        client = begin(world, work, 1_000)
        world.stick_worker(world.node(2), 0)
        took_ms = world.until(lambda client=client: client.ended, 20_000)
        assert took_ms < 1_500 + 2_500
        end(world)


def test_workers_that_die_cost_the_slice_they_were_in() -> None:
    world = World(1, FOUR)
    work = even_work(400, 100)
    begin(world, work, 300)
    for kill in range(16):
        world.kill_worker(world.node(1 + kill % 4), kill // 4 % 2)
        world.run(150)
    world.finish()
    assert world.figures.slices_run[work.job] < 400 * 1.05
    end(world)


# ---- people ----


@pytest.mark.parametrize("seed", range(5))
def test_a_job_is_cancelled_and_resumed_from_anywhere(seed: int) -> None:
    world = World(seed, (1,) * 8)
    work = even_work(200, 100, seed)
    begin(world, work, 1_000)
    world.cancel(work.job, world.node(2 + seed))
    world.until(lambda: not world.unfinished(), 3_000)
    before = world.figures.slices_run[work.job]
    world.run(2_000)
    assert world.figures.slices_run[work.job] - before < 10, "work goes on"
    world.resume_job(work.job, world.node(1 + (3 + seed) % 8))
    world.run(1_000)
    world.finish()
    assert world.figures.slices_run[work.job] < 200 * 1.1
    assert any(client.told and client.told.state == State.DONE for client in world.clients)
    end(world)
