"""Tasks that run long, are stopped, lose their workers or nodes, and bring large modules.

Every node here has one worker, so that what a stopped task gives back is seen at once: the next
task pinned to the node can only run in the place of the one before.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections import Counter

import psutil
import pytest

import velum
from tests.guests import build
from tests.integration.meshes import GUESTS, PATIENCE_S, Processes, StartMesh, answers, eventually
from velum.api import TaskFuture
from velum.client import Client

PROMISE_MS = 200  # a stop takes so long at most; on a busy machine the tests allow the double
LATE_S = 5.0
LOOP = str(GUESTS / "loop.wasm")
PRIMES = str(GUESTS / "primes.wasm")
SUM = str(GUESTS / "sum.wasm")
MIB = 1 << 20


@pytest.fixture(scope="module")
def two(shared_mesh: StartMesh) -> Processes:
    return shared_mesh(2)


@pytest.fixture(scope="module")
def client(two: Processes) -> Client:
    return two.client()


def next_task_ms(client: Client, node: int) -> float:
    """How long a short task takes on a node, in milliseconds."""
    began = time.monotonic()
    assert client.spawn_wasm(SUM, "sum", 1, 2, 3, node=node).result(PATIENCE_S) == 6
    return (time.monotonic() - began) * 1000


def worker_pids(nodes: Processes, id: int) -> list[int]:
    with velum.connect(nodes.address(id)) as there:
        return list(there.status()["worker_pids"])


def runs(pid: int) -> bool:
    """Whether a process has not ended, waited for by somebody or not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def busy_workers(nodes: Processes) -> dict[int, int]:
    """Node and process id of every worker that has a task."""
    busy = {}
    for id in nodes.running():
        with velum.connect(nodes.address(id)) as there:
            status = there.status()
            if status["running"]:
                busy[id] = status["worker_pids"][0]
    return busy


# ---- stopping ----


@pytest.mark.parametrize("node", [1, 2])
def test_an_endless_loop_is_stopped_at_its_timeout(client: Client, node: int) -> None:
    next_task_ms(client, node)
    future = client.spawn_wasm(LOOP, "forever", timeout=0.3, node=node)
    error = future.exception(PATIENCE_S)
    late_ms = future.elapsed_us / 1000 - 300
    after_ms = next_task_ms(client, node)
    print(
        f"stopped {late_ms:.1f} ms after the timeout, the next task was done in {after_ms:.1f} ms"
    )
    assert isinstance(error, velum.TaskStopped) and error.name == "DEADLINE"
    assert re.search(r"(29\d|300) ms", str(error)), "what was left of it there"
    assert -2 < late_ms < PROMISE_MS * 2, "milliseconds are counted whole"
    assert after_ms < PROMISE_MS * 2


def test_the_timeout_counts_while_a_task_waits(client: Client) -> None:
    endless = client.spawn_wasm(LOOP, "forever", node=1)
    waiting = [client.spawn_wasm(SUM, "sum", 1, 2, 3, timeout=0.2, node=1) for _ in range(3)]
    for future in waiting:
        error = future.exception(PATIENCE_S)
        assert isinstance(error, velum.TaskStopped) and error.name == "DEADLINE"
        assert -2 < future.elapsed_us / 1000 - 200 < PROMISE_MS * 2, "milliseconds are whole"
    assert endless.cancel()
    next_task_ms(client, 1)


@pytest.mark.parametrize("node", [1, 2])
def test_a_cancelled_loop_gives_its_worker_back(two: Processes, client: Client, node: int) -> None:
    pids = worker_pids(two, node)
    future = client.spawn_wasm(LOOP, "forever", node=node)
    eventually(lambda: node in busy_workers(two), "the loop runs")
    assert future.cancel()
    after_ms = next_task_ms(client, node)
    print(f"the next task was done {after_ms:.1f} ms after the cancel")
    assert after_ms < PROMISE_MS * 2
    assert worker_pids(two, node) == pids, "the guest was stopped, not its process"


def test_many_loops_are_cancelled_at_once(two: Processes, client: Client) -> None:
    futures = [client.spawn_wasm(LOOP, "forever") for _ in range(100)]
    eventually(lambda: len(busy_workers(two)) == 2, "both workers run a loop")
    for future in futures:
        assert future.cancel()
    assert next_task_ms(client, 1) < LATE_S * 1000
    assert next_task_ms(client, 2) < LATE_S * 1000
    eventually(lambda: client.status()["tasks_unfinished"] == 0)


def test_a_client_that_goes_takes_its_tasks_along(two: Processes, client: Client) -> None:
    with velum.connect(two.address(1)) as leaving:
        for _ in range(10):
            leaving.spawn_wasm(LOOP, "forever")
        eventually(lambda: len(busy_workers(two)) == 2, "both workers run a loop")
    took = eventually(lambda: not busy_workers(two), "nobody runs a loop any more", LATE_S)
    print(f"the workers were idle {took * 1000:.0f} ms after the client had gone")
    next_task_ms(client, 1)


# ---- workers that die ----


def kill_worker_of(nodes: Processes, future: TaskFuture) -> int:
    """Waits until the only task there is runs, and kills its worker; the node where it ran."""
    while not future.done():
        for id, pid in busy_workers(nodes).items():
            os.kill(pid, signal.SIGKILL)
            eventually(lambda id=id, pid=pid: busy_workers(nodes).get(id) != pid, "it is noticed")
            return id
    raise AssertionError(f"it is over: {future.exception()}")


def test_a_task_that_kills_three_workers_is_poison(mesh: StartMesh) -> None:
    nodes = mesh(3)
    client = nodes.client(1)
    future = client.spawn_wasm(LOOP, "forever")
    killed = [kill_worker_of(nodes, future) for _ in range(3)]
    error = future.exception(PATIENCE_S)
    print(f"killed workers of nodes {killed}: {error}")
    assert isinstance(error, velum.PeerLost) and error.name == "POISON"
    assert "poison" in str(error)
    assert len(set(killed)) == 3, "it was tried elsewhere each time"
    assert sum(answers([client.spawn_wasm(SUM, "sum", i, 0, 0) for i in range(30)])) == 435


def test_a_task_survives_one_death_of_its_worker(mesh: StartMesh) -> None:
    nodes = mesh(2)
    client = nodes.client(1)
    future = client.spawn_wasm(PRIMES, "count_primes", 0, 5_000_000)
    killed = kill_worker_of(nodes, future)
    assert future.result(PATIENCE_S) == 348_513
    assert future.node != killed
    for id in (1, 2):
        next_task_ms(client, id)


def test_a_pinned_task_stays_on_its_node_when_its_worker_dies(mesh: StartMesh) -> None:
    nodes = mesh(2)
    client = nodes.client(1)
    future = client.spawn_wasm(PRIMES, "count_primes", 0, 2_000_000, node=2)
    assert kill_worker_of(nodes, future) == 2
    assert (future.result(PATIENCE_S), future.node) == (148_933, 2)
    endless = client.spawn_wasm(LOOP, "forever", node=2)
    assert {kill_worker_of(nodes, endless) for _ in range(3)} == {2}
    error = endless.exception(PATIENCE_S)
    assert isinstance(error, velum.PeerLost) and error.name == "POISON"
    next_task_ms(client, 2)


def test_workers_end_with_their_node(mesh: StartMesh) -> None:
    nodes = mesh(2, workers=2)
    eventually(lambda: len(worker_pids(nodes, 1)) == 2)
    pids = worker_pids(nodes, 1)
    loop = nodes.client(2).spawn_wasm(LOOP, "forever", node=1)
    eventually(lambda: 1 in busy_workers(nodes))
    nodes.kill(1)
    took = eventually(lambda: not any(map(runs, pids)), "the workers are gone")
    print(f"the workers were gone {took * 1000:.0f} ms after their node")
    assert isinstance(loop.exception(PATIENCE_S), velum.PeerLost)


# ---- many tasks ----


def test_five_hundred_tasks_while_a_node_is_killed(mesh: StartMesh) -> None:
    nodes = mesh(3)
    client = nodes.client(1)
    futures = [
        client.spawn_wasm(PRIMES, "count_primes", i * 1000, i * 1000 + 1000) for i in range(500)
    ]
    eventually(lambda: sum(future.done() for future in futures) > 100)
    nodes.kill(3)
    counts = answers(futures)
    by_node = Counter(future.node for future in futures)
    print(f"tasks by node: {dict(by_node)}")
    assert sum(counts) == 41_538
    assert by_node[1] + by_node[2] > 300


def test_tasks_of_several_clients_are_shared_out(two: Processes) -> None:
    """One that sends a thousand delays another's single task by little."""
    many, one = two.client(1), two.client(2)
    futures = [many.spawn_wasm(PRIMES, "count_primes", 0, 50_000) for _ in range(1000)]
    eventually(lambda: len(busy_workers(two)) == 2)
    waiting = sum(not future.done() for future in futures)
    began = time.monotonic()
    assert one.spawn_wasm(SUM, "sum", 1, 2, 3).result(PATIENCE_S) == 6
    took = time.monotonic() - began
    left = sum(not future.done() for future in futures)
    print(f"a single task took {took * 1000:.0f} ms; of another's {waiting}, {left} were left")
    assert left > waiting / 2 > 50
    assert set(answers(futures)) == {5133}


# ---- large modules ----


def padded(content: bytes) -> bytes:
    """sum.wasm with a custom section of this content (WebAssembly Core Specification 5.5.3)."""
    section = build.leb(5) + b"extra" + content
    return (GUESTS / "sum.wasm").read_bytes() + b"\0" + build.leb(len(section)) + section


def large_module(mib: int) -> bytes:
    """A module of so many MiB, another one each time."""
    return padded(os.urandom(1024) * (mib * 1024))


def received(nodes: Processes) -> Counter[int]:
    """Bytes that each node has received on its links."""
    counts: Counter[int] = Counter()
    for id in nodes.running():
        with velum.connect(nodes.address(id)) as there:
            counts[id] = there.status()["hub"]["bytes_in"]
    return counts


def test_a_large_module_travels_once(two: Processes, client: Client) -> None:
    module = large_module(20)
    before = received(two)
    began = time.monotonic()
    futures = [client.spawn_wasm(module, "sum", i, 1, 1) for i in range(16)]
    assert answers(futures) == [i + 2 for i in range(16)]
    print(f"20 MiB and 16 calls of it: {time.monotonic() - began:.2f} s")
    assert {future.node for future in futures} == {1, 2}
    first = received(two)
    for id in (1, 2):
        assert 20 * MIB <= first[id] - before[id] < 21 * MIB, "it came once"
    again = [client.spawn_wasm(module, "sum", i, 1, 1) for i in range(16)]
    assert answers(again) == [i + 2 for i in range(16)]
    second = received(two)
    assert all(second[id] - first[id] < MIB for id in (1, 2)), "it was there already"
    held = client.status()["modules"]
    assert held["bytes"] >= len(module)


def test_two_clients_bring_the_same_module_at_once(two: Processes) -> None:
    module = large_module(8)
    before = received(two)
    clients = [two.client(1), two.client(1), two.client(2)]
    start = threading.Barrier(len(clients))
    results: list[list[int]] = []

    def use(client: Client) -> None:
        start.wait(PATIENCE_S)
        results.append(answers([client.spawn_wasm(module, "sum", i, 0, 0) for i in range(20)]))

    threads = [threading.Thread(target=use, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert results == [list(range(20))] * 3
    after = received(two)
    for id in (1, 2):
        assert after[id] - before[id] < 17 * MIB, "hardly more often than once"
    for client in clients:
        client.close()


def test_the_bringer_of_a_module_goes_away(two: Processes, client: Client) -> None:
    """Nobody waits for the task of a client that is gone; the module may come from another."""
    module = large_module(20)
    with velum.connect(two.address(1)) as leaving:
        leaving.spawn_wasm(module, "sum", 1, 2, 3)
    assert client.spawn_wasm(module, "sum", 1, 2, 4).result(PATIENCE_S) == 7


def test_many_modules_at_once(client: Client) -> None:
    modules = [padded(n.to_bytes(4, "little")) for n in range(200)]
    futures = [client.spawn_wasm(module, "sum", n, 0, 0) for n, module in enumerate(modules)]
    assert answers(futures) == list(range(200))


def test_more_modules_than_a_node_keeps(client: Client) -> None:
    """The one that was not used for longest is dropped, and fetched again when it is needed."""
    modules = [large_module(60) for _ in range(5)]
    for module in [*modules, modules[0]]:
        assert client.spawn_wasm(module, "sum", 1, 1, 1, node=1).result(PATIENCE_S) == 3
    assert client.status()["modules"]["bytes"] <= 256 * MIB
