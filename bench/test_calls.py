"""Remote `add`: one after another, and many at once.

(a) sequential calls on another node, beside pyzmq REQ/REP with msgpack and a plain C echo;
(b) 100,000 pipelined calls of one Python caller, scheduled over two nodes, beside pyzmq
DEALER/ROUTER and Ray. Both sides run on one core, then on two.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import pytest
from beside import mesh_of_two, rival

ROUNDS = 5000
CALLS = 100_000
WINDOW = 1000
RAY_CALLS = 5000


def sequential(benchmark: Any, group: str, what: str, call: Callable[[], Any], velum: bool) -> None:
    benchmark.group = f"sequential add, {group}"
    benchmark.extra_info.update(what=what, units=1, velum=velum)
    benchmark.pedantic(call, rounds=ROUNDS, iterations=1, warmup_rounds=500)


def test_sequential_velum(benchmark: Any, placement: tuple[str, int]) -> None:
    with mesh_of_two(placement[1]) as node:
        sequential(
            benchmark,
            placement[0],
            "velum",
            lambda: node.spawn("add", 10, 20, node=2).result(),
            True,
        )


def test_sequential_zmq(benchmark: Any, placement: tuple[str, int]) -> None:
    import msgpack
    import zmq

    with rival("zmq-rep", placement[1]) as port, zmq.Context() as context:
        with context.socket(zmq.REQ) as socket:
            socket.connect(f"tcp://127.0.0.1:{port}")

            def call() -> int:
                socket.send(msgpack.packb((1, "add", 10, 20)))
                return int(msgpack.unpackb(socket.recv())[1])

            assert call() == 30
            sequential(benchmark, placement[0], "pyzmq REQ/REP + msgpack", call, False)


def test_sequential_c_echo(
    benchmark: Any, placement: tuple[str, int], echo: ctypes.CDLL, echo_library: str
) -> None:
    with rival("echo", placement[1], echo_library) as port:
        fd = echo.echo_connect(port)
        assert echo.echo_round(fd) == 0
        sequential(
            benchmark, placement[0], "plain C select() echo", lambda: echo.echo_round(fd), False
        )


def pipelined(
    benchmark: Any, group: str, what: str, run: Callable[[], Any], calls: int, velum: bool
) -> None:
    benchmark.group = f"pipelined adds, {group}"
    benchmark.extra_info.update(what=what, units=calls, velum=velum)
    benchmark.pedantic(run, rounds=5, iterations=1, warmup_rounds=1)


def test_pipelined_velum(benchmark: Any, placement: tuple[str, int]) -> None:
    with mesh_of_two(placement[1]) as node:
        numbers = range(CALLS)

        def run() -> None:
            assert sum(node.map("add", numbers, numbers)) == CALLS * (CALLS - 1)

        pipelined(benchmark, placement[0], "velum, 100,000 calls over 2 nodes", run, CALLS, True)


def test_pipelined_zmq(benchmark: Any, placement: tuple[str, int]) -> None:
    import msgpack
    import zmq

    with rival("zmq-router", placement[1]) as port, zmq.Context() as context:
        with context.socket(zmq.DEALER) as socket:
            socket.set_hwm(0)
            socket.connect(f"tcp://127.0.0.1:{port}")

            def run() -> None:
                total = 0
                for number in range(CALLS + WINDOW):
                    if number < CALLS:
                        socket.send(msgpack.packb((number, "add", number, number)))
                    if number >= WINDOW:
                        total += msgpack.unpackb(socket.recv())[1]
                assert total == CALLS * (CALLS - 1)

            what = f"pyzmq DEALER/ROUTER + msgpack, window {WINDOW}"
            pipelined(benchmark, placement[0], what, run, CALLS, False)


def test_pipelined_ray(benchmark: Any, placement: tuple[str, int]) -> None:
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install velum[bench]")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:

        @ray.remote
        def add(a: int, b: int) -> int:
            return a + b

        def run() -> None:
            refs = [add.remote(n, n) for n in range(RAY_CALLS)]
            assert sum(ray.get(refs)) == RAY_CALLS * (RAY_CALLS - 1)

        what = f"Ray tasks, {RAY_CALLS} calls on 2 workers"
        pipelined(benchmark, placement[0], what, run, RAY_CALLS, False)
    finally:
        ray.shutdown()
