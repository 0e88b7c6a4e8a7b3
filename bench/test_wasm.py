"""(c) WebAssembly in a worker: how much the mesh adds to the engine.

A job of a good second beside the same function called straight through pywasm3 (the same wasm3
release), and a short call of a known module, end to end.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import wasm3
from beside import mesh_of_two

from velum.executor import WasmFunction

GUESTS = Path(__file__).parent.parent / "tests" / "guests"
END = 1_000_000
PRIMES = 78498


def test_job_velum(benchmark: Any, placement: tuple[str, int]) -> None:
    with mesh_of_two(placement[1], workers=1) as node:
        primes = WasmFunction(GUESTS / "primes.wasm", "count_primes")
        benchmark.group = f"count_primes(0, {END}), {placement[0]}"
        benchmark.extra_info.update(what="velum, on another node", units=1, velum=True)

        def run() -> int:
            return int(node.spawn_wasm(primes.module, "count_primes", 0, END, node=2).result())

        assert benchmark.pedantic(run, rounds=5, iterations=1, warmup_rounds=1) == PRIMES


def test_job_pywasm3(benchmark: Any, placement: tuple[str, int]) -> None:
    environment = wasm3.Environment()
    runtime = environment.new_runtime(64 * 1024)
    runtime.load(environment.parse_module((GUESTS / "primes.wasm").read_bytes()))
    count = runtime.find_function("count_primes")
    benchmark.group = f"count_primes(0, {END}), {placement[0]}"
    benchmark.extra_info.update(what="pywasm3, called directly", units=1, velum=False)
    assert benchmark.pedantic(count, (0, END), rounds=5, iterations=1, warmup_rounds=1) == PRIMES


@pytest.mark.parametrize(("where", "node"), [("another node", 2), ("the caller's own node", 1)])
def test_second_call(benchmark: Any, placement: tuple[str, int], where: str, node: int) -> None:
    with mesh_of_two(placement[1], workers=1) as mesh:
        total = WasmFunction(GUESTS / "sum.wasm", "sum")
        benchmark.group = f"short call of a known module, {placement[0]}"
        benchmark.extra_info.update(what=f"velum, on {where}", units=1, velum=node == 2)

        def run() -> int:
            return int(mesh.spawn_wasm(total.module, "sum", 10, 20, 30, node=node).result())

        assert benchmark.pedantic(run, rounds=2000, iterations=1, warmup_rounds=100) == 60
