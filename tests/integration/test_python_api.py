"""The Python face on a real mesh: nodes in this process, executors, futures, errors."""

from __future__ import annotations

import asyncio
import concurrent.futures
import pickle
from collections.abc import Iterator

import pytest

import velum
from tests.integration.meshes import GUESTS, PATIENCE_S, Processes, StartMesh, answers, eventually
from velum.api import NodeInfo
from velum.client import Client
from velum.errors import error_from, error_table, exit_status

SUM = str(GUESTS / "sum.wasm")
PRIMES = str(GUESTS / "primes.wasm")
LOOP = str(GUESTS / "loop.wasm")


@pytest.fixture(scope="module")
def two(shared_mesh: StartMesh) -> Processes:
    return shared_mesh(2)


@pytest.fixture(scope="module")
def client(two: Processes) -> Client:
    return two.client()


@pytest.fixture
def executor(client: Client) -> Iterator[velum.MeshExecutor]:
    with velum.MeshExecutor(client) as executor:
        yield executor


# ---- a node in this process ----


def test_init_spawn_and_shutdown(beacon_port: int) -> None:
    with pytest.raises(velum.VelumError, match="velum.init"):
        velum.spawn("add", 1, 2)
    node = velum.init(1, 0, beacon_port=beacon_port, workers=1)
    try:
        assert velum.spawn("add", 10, 20).result(PATIENCE_S) == 30
        future = velum.spawn_wasm(SUM, "sum", 10, 20, 30)
        assert (future.result(PATIENCE_S), future.node) == (60, 1)
        with pytest.raises(velum.VelumError, match="node 1 runs in this process"):
            velum.init(2, 0)
    finally:
        velum.shutdown()
    assert node.stopped
    velum.shutdown()
    with pytest.raises(velum.VelumError, match="velum.init"):
        velum.spawn("add", 1, 2)


def test_init_again_after_shutdown(beacon_port: int) -> None:
    for id in (1, 2):
        velum.init(id, 0, beacon_port=beacon_port, workers=0)
        assert velum.spawn("add", id, 1).result(PATIENCE_S) == id + 1
        velum.shutdown()


def test_a_node_of_this_process_joins_others(two: Processes) -> None:
    heard: list[tuple[int, str, str | None]] = []

    def on_member(info: NodeInfo, before: str | None) -> None:
        heard.append((info.id, info.state, before))

    def calls_are_shared() -> bool:
        futures = [node.spawn("add", i, i) for i in range(100)]
        assert answers(futures) == [2 * i for i in range(100)]
        return {future.node for future in futures} == {1, 2, 9}

    with velum.Node(9, 0, beacon_port=two.beacon_port, workers=1, on_member=on_member) as node:
        eventually(lambda: {1, 2} <= {row.id for row in node.nodes() if row.state == "alive"})
        eventually(lambda: 9 in two.peers(1) and 9 in two.peers(2))
        assert {(1, "alive", None), (2, "alive", None)} <= set(heard)
        eventually(calls_are_shared, "calls run on all three")
        for id in (1, 2, 9):
            future = node.spawn_wasm(SUM, "sum", id, 0, 0, node=id)
            assert (future.result(PATIENCE_S), future.node) == (id, id)
        with velum.connect(node.address) as there:
            assert there.spawn("add", 1, 2, node=9).result(PATIENCE_S) == 3
    eventually(lambda: two.is_gone(9))
    assert node.stopped
    with pytest.raises(velum.JoinRefused, match="node 9 has stopped"):
        node.spawn("add", 1, 2).result(PATIENCE_S)


def test_a_second_node_of_one_id_is_refused(two: Processes) -> None:
    with velum.Node(2, 0, beacon_port=two.beacon_port, workers=0) as second:
        error = second.wait(PATIENCE_S)
    assert isinstance(error, velum.JoinRefused) and error.name == "DUPLICATE_ID"
    assert "node id 2" in str(error) and two.address(2) in str(error)
    assert exit_status(error) == 1
    assert two.is_whole()


def test_a_port_in_use_is_said(two: Processes) -> None:
    with pytest.raises(velum.VelumError, match=two.address(1)) as caught:
        velum.Node(5, two.port(1), beacon=False, workers=0)
    assert caught.value.name == "ADDRESS_IN_USE"
    assert exit_status(caught.value) == 1


@pytest.mark.parametrize("id", [0, -1, 65536])
def test_ids_that_are_none(id: int) -> None:
    with pytest.raises(velum.VelumError, match="not in 1..65535"):
        velum.Node(id, 0, beacon=False, workers=0)


def test_the_highest_id() -> None:
    with pytest.raises(velum.VelumError, match="name one with --port"):
        velum.Node(65535, beacon=False, workers=0)
    with velum.Node(65535, 0, beacon=False, workers=0) as node:
        future = node.spawn("add", 1, 2)
        assert (future.result(PATIENCE_S), future.node) == (3, 65535)


@pytest.mark.parametrize("workers", [-1, 256])
def test_worker_counts_that_are_none(workers: int) -> None:
    with pytest.raises(velum.VelumError, match="not in 0..255"):
        velum.Node(1, 0, beacon=False, workers=workers)


def test_a_host_that_is_not_here() -> None:
    with pytest.raises(velum.VelumError, match="192.0.2.1"):
        velum.Node(1, 0, host="192.0.2.1", beacon=False, workers=0)


# ---- executors ----


def test_submit(executor: velum.MeshExecutor) -> None:
    assert executor.submit("add", 1, 2).result(PATIENCE_S) == 3
    assert executor.submit((SUM, "sum"), 1, 2, 3).result(PATIENCE_S) == 6
    is_prime = velum.WasmFunction(PRIMES, "is_prime")
    assert repr(is_prime) == "primes.wasm:is_prime(i32) -> i32"
    assert executor.submit(is_prime, 97).result(PATIENCE_S) == 1
    with pytest.raises(velum.VelumError, match="cannot run on a mesh"):
        executor.submit(len, "abc")  # type: ignore[arg-type]


def test_map(executor: velum.MeshExecutor) -> None:
    assert list(executor.map("add", range(1000), range(1000))) == [2 * i for i in range(1000)]
    is_prime = velum.WasmFunction(PRIMES, "is_prime")
    assert sum(executor.map(is_prime, range(1000))) == 168


def test_map_raises_the_first_error_in_its_place(executor: velum.MeshExecutor) -> None:
    results = executor.map("div", [6, 6, 6, 6], [3, 2, 0, 1])
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(velum.CallerError, match="division by zero"):
        next(results)


def test_map_takes_an_endless_iterable(executor: velum.MeshExecutor) -> None:
    def endless() -> Iterator[int]:
        number = 0
        while True:
            yield (number := number + 1)

    results = executor.map("add", endless(), endless())
    assert [next(results) for _ in range(10)] == [2 * i for i in range(1, 11)]


def test_wait_and_as_completed(executor: velum.MeshExecutor) -> None:
    futures = [executor.submit("mul", i, 2) for i in range(100)]
    done, not_done = concurrent.futures.wait(futures, PATIENCE_S)
    assert (len(done), len(not_done)) == (100, 0)
    futures = [executor.submit("mul", i, 2) for i in range(100)]
    results = {f.result() for f in concurrent.futures.as_completed(futures, PATIENCE_S)}
    assert results == {2 * i for i in range(100)}
    endless = executor.submit((LOOP, "forever"))
    quick = executor.submit("add", 1, 2)
    done, _ = concurrent.futures.wait([endless, quick], PATIENCE_S, "FIRST_COMPLETED")
    assert done == {quick}
    assert endless.cancel()


def test_shutdown(client: Client) -> None:
    executor = velum.MeshExecutor(client)
    futures = [executor.submit("add", i, 1) for i in range(100)]
    executor.shutdown()
    assert all(future.done() for future in futures)
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit("add", 1, 2)
    assert client.spawn("add", 1, 2).result(PATIENCE_S) == 3  # the client stays open


def test_shutdown_that_cancels(client: Client) -> None:
    executor = velum.MeshExecutor(client)
    futures = [executor.submit((LOOP, "forever")) for _ in range(8)]
    executor.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in futures)


def test_a_timeout_for_every_task(client: Client) -> None:
    with velum.MeshExecutor(client, timeout=0.2) as executor:
        with pytest.raises(velum.TaskStopped):
            executor.submit((LOOP, "forever")).result(PATIENCE_S)
        assert executor.submit("add", 1, 2).result(PATIENCE_S) == 3


# ---- futures ----


def test_await(client: Client) -> None:
    async def calls() -> list[int]:
        assert await client.spawn("add", 1, 2) == 3
        with pytest.raises(velum.CallerError, match="division by zero"):
            await client.spawn("div", 1, 0)
        return await asyncio.gather(*(client.spawn("add", i, 1) for i in range(100)))

    assert asyncio.run(calls()) == [i + 1 for i in range(100)]


def test_an_awaited_task_is_stopped_with_its_waiter(client: Client) -> None:
    async def impatient() -> None:
        async def wait() -> None:
            await client.spawn_wasm(LOOP, "forever")

        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(wait(), 0.3)

    asyncio.run(impatient())
    eventually(lambda: client.status()["tasks_unfinished"] == 0, "the task was stopped")


def test_cancel_before_and_after_the_answer(client: Client) -> None:
    done = client.spawn("add", 1, 2)
    assert done.result(PATIENCE_S) == 3
    assert not done.cancel() and not done.cancelled()
    endless = client.spawn_wasm(LOOP, "forever")
    assert endless.cancel() and endless.cancelled() and endless.done()
    with pytest.raises(concurrent.futures.CancelledError):
        endless.result(PATIENCE_S)
    eventually(lambda: client.status()["tasks_unfinished"] == 0, "the task was stopped")


def test_callbacks(client: Client) -> None:
    seen: list[object] = []
    future = client.spawn("add", 1, 2)
    future.add_done_callback(lambda done: seen.append(done.result()))
    eventually(lambda: seen == [3])
    future.add_done_callback(lambda done: seen.append(done.result()))
    assert seen == [3, 3]


def test_waiting_too_short(client: Client) -> None:
    endless = client.spawn_wasm(LOOP, "forever")
    with pytest.raises(concurrent.futures.TimeoutError):
        endless.result(0.05)
    assert not endless.done()
    endless.cancel()


def test_closing_a_client_fails_what_is_under_way(two: Processes) -> None:
    with velum.connect(two.address(1)) as client:
        endless = client.spawn_wasm(LOOP, "forever")
    with pytest.raises(velum.PeerLost, match="closed"):
        endless.result(PATIENCE_S)
    with pytest.raises(velum.PeerLost, match="closed"):
        client.spawn("add", 1, 2).result(PATIENCE_S)


# ---- errors ----


@pytest.mark.parametrize("code", sorted(error_table()))
def test_every_error_survives_pickling(code: int) -> None:
    for error in (error_from(code, "what was wrong", 3), error_from(code)):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert (copy.code, copy.name, copy.node) == (error.code, error.name, error.node)
        assert str(copy) == str(error)


def test_arithmetic_errors_come_back_by_name(client: Client) -> None:
    cases: list[tuple[str, tuple[float, ...], str]] = [
        ("div", (1, 0), "DIVIDE_BY_ZERO"),
        ("div", (1.0, 0.0), "DIVIDE_BY_ZERO"),
        ("add", (2**63 - 1, 1), "OVERFLOW"),
        ("div", (-(2**63), -1), "OVERFLOW"),
        ("pow", (2, 3), "UNKNOWN_NAME"),
        ("add", (1,), "SIGNATURE"),
        ("add", (1, 2, 3), "SIGNATURE"),
    ]
    for name, args, expected in cases:
        error = client.spawn(name, *args).exception(PATIENCE_S)
        assert isinstance(error, velum.CallerError) and error.name == expected, (name, args, error)
        assert isinstance(error, ValueError) and error.node in (1, 2)


@pytest.mark.parametrize("args", [(2**63,), (-(2**63) - 1,), ("1",), (None,), (1,) * 33])
def test_arguments_that_no_call_takes(client: Client, args: tuple[object, ...]) -> None:
    with pytest.raises(velum.CallerError):
        client.spawn("add", *args)  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_timeouts_that_are_none(client: Client, timeout: float) -> None:
    with pytest.raises(velum.VelumError, match="not positive"):
        client.spawn("add", 1, 2, timeout=timeout)
