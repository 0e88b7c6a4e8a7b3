"""WebAssembly on a real mesh: the same values as the reference engine, each error by its name.

The reference is pywasm3, the same engine without Velum around it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

import pytest
import wasm3

import velum
from tests.integration.meshes import GUESTS, PATIENCE_S, Processes, StartMesh, answers
from velum.api import Number
from velum.client import Client

I32_MIN, I32_MAX = -(2**31), 2**31 - 1
I64_MIN, I64_MAX = -(2**63), 2**63 - 1
NAN, INF = math.nan, math.inf

# What is called of every guest that behaves: the reference must say the same.
CALLS: dict[str, dict[str, list[tuple[Number, ...]]]] = {
    "add": {"run": [(0,), (21,), (-5,), (I32_MAX,)]},
    "collatz": {"run": [(-1,), (0,), (1,), (27,), (837_799,), (I32_MAX,)]},
    "fib": {"fib": [(0,), (1,), (10,), (20,)]},
    "floats": {
        "harmonic": [(0, 0), (0, 1000), (500, 70_000)],
        "harmonic32": [(0, 0), (0, 1000), (500, 70_000)],
    },
    "grow": {
        "pages": [()],
        "grow": [(0,), (1,), (3,)],
        "load": [(0,), (65_532,)],
        "store": [(1024, 7)],
    },
    "loop": {"spin": [(1,), (1000,), (100_000,)]},
    "nan": {
        "quotient": [(1.0, 3.0), (0.0, 0.0), (1.0, 0.0), (-1.0, 0.0), (NAN, 1.0)],
        "quotient32": [(1.0, 3.0), (0.0, 0.0), (1.0, 0.0), (1.0, NAN)],
        "from_bits": [(0,), (1,), (-1,), (I64_MIN,), (0x3FF0000000000000,)],
        "from_bits32": [(0,), (1,), (-1,), (I32_MIN,), (0x3F800000,)],
    },
    "pi": {"pi_hits": [(0, 0), (0, 1000), (1000, 3000)]},
    "primes": {
        "is_prime": [(-7,), (0,), (1,), (2,), (25,), (I32_MAX,)],
        "count_primes": [(0, 0), (0, 10_000), (50_000, 60_000)],
    },
    "recurse": {"depth": [(0,), (1,), (100,)]},
    "search": {"search": [(0, 10), (0, 100_000), (99_991, 199_982)]},
    "sum": {"sum": [(10, 20, 30), (-1, -2, -3), (I32_MAX, 1, 0), (2**32 - 1, 0, 0)]},
    "traps": {
        "load": [(0,), (65_532,)],
        "divide": [(7, 2), (-7, 2), (I32_MIN, 1)],
        "divide64": [(7, 2), (-7, 2), (I64_MIN, 1)],
        "remainder": [(7, 2), (-7, 2), (I32_MIN, -1)],
        "convert": [(1.9,), (-1.9,), (-0.0,), (float(I32_MAX),)],
        "first_index": [()],
        "second_index": [()],
        "indirect": [(1,)],
    },
    "types": {
        "id_i32": [(0,), (-1,), (I32_MIN,), (I32_MAX,), (2**32 - 1,)],
        "id_i64": [(0,), (-1,), (I64_MIN,), (I64_MAX,), (2**64 - 1,)],
        "id_f32": [(0.0,), (-0.0,), (0.1,), (1e-45,), (INF,), (-INF,), (NAN,), (3,)],
        "id_f64": [(0.0,), (-0.0,), (0.1,), (5e-324,), (INF,), (-INF,), (NAN,), (3,)],
        "add_i32": [(I32_MAX, 1), (-1, 1)],
        "add_i64": [(I64_MAX, 1), (-1, 1)],
        "add_f32": [(0.1, 0.2), (3.4e38, 3.4e38), (INF, -INF)],
        "add_f64": [(0.1, 0.2), (1.7e308, 1.7e308), (INF, -INF)],
        "nothing": [()],
        "mixed": [(1, 2**40, 0.5, 0.25)],
        "thirty_two": [tuple(range(32))],
    },
}

# Where the reference is known to be wrong: it does not run the start function, and lets a memory
# grow beyond a maximum of no page.
CORRECTED: dict[tuple[str, str], Number] = {("start", "get"): 1, ("zero_pages", "run"): -1}

# Guests with nothing to compare: what becomes of them is in ERRORS.
MISBEHAVED = {
    "bigmem",
    "data_outside",
    "many_args",
    "nest",
    "start_loop",
    "start_trap",
    "uncompilable",
}

# (guest, function, arguments, limits) and the error's name.
ERRORS: list[tuple[str, str, tuple[Number, ...], dict[str, Any], str]] = [
    ("bigmem", "run", (), {}, "GUEST_MEMORY"),
    ("data_outside", "run", (), {}, "TRAP_MEMORY"),
    ("many_args", "run", (), {}, "TRAP_STACK"),
    ("nest", "run", (), {}, "TRAP_STACK"),
    ("recurse", "forever", (1,), {}, "TRAP_STACK"),
    ("recurse", "depth", (10_000_000,), {}, "TRAP_STACK"),
    ("start_trap", "get", (), {}, "TRAP_UNREACHABLE"),
    ("start_loop", "get", (), {"fuel": 1000}, "FUEL"),
    ("start_loop", "get", (), {"timeout": 0.05}, "DEADLINE"),
    ("uncompilable", "run", (1,), {}, "MODULE_COMPILE"),
    ("grow", "careless", (), {}, "TRAP_MEMORY"),
    ("grow", "careless", (), {"pages": 3}, "TRAP_MEMORY"),
    ("grow", "store", (I32_MIN, 1), {}, "TRAP_MEMORY"),
    ("traps", "unreachable", (), {}, "TRAP_UNREACHABLE"),
    ("traps", "load", (65_533,), {}, "TRAP_MEMORY"),
    ("traps", "load", (-1,), {}, "TRAP_MEMORY"),
    ("traps", "store", (65_536, 0), {}, "TRAP_MEMORY"),
    ("traps", "divide", (1, 0), {}, "TRAP_DIVIDE_BY_ZERO"),
    ("traps", "divide64", (1, 0), {}, "TRAP_DIVIDE_BY_ZERO"),
    ("traps", "remainder", (1, 0), {}, "TRAP_DIVIDE_BY_ZERO"),
    ("traps", "divide", (I32_MIN, -1), {}, "TRAP_OVERFLOW"),
    ("traps", "divide64", (I64_MIN, -1), {}, "TRAP_OVERFLOW"),
    ("traps", "convert", (1e10,), {}, "TRAP_OVERFLOW"),
    ("traps", "convert", (INF,), {}, "TRAP_OVERFLOW"),
    ("traps", "convert", (NAN,), {}, "TRAP_CONVERSION"),
    ("traps", "indirect", (2,), {}, "TRAP_INDIRECT"),
    ("traps", "indirect", (0,), {}, "TRAP_TABLE"),
    ("traps", "indirect", (1000,), {}, "TRAP_TABLE"),
    ("loop", "forever", (), {"fuel": 10_000}, "FUEL"),
    ("loop", "spin", (1001,), {"fuel": 1000}, "FUEL"),
    ("fib", "fib", (25,), {"fuel": 1000}, "FUEL"),
]


@pytest.fixture(scope="module")
def two(shared_mesh: StartMesh) -> Processes:
    return shared_mesh(2)


@pytest.fixture(scope="module")
def client(two: Processes) -> Client:
    return two.client()


def guest(name: str) -> str:
    return str(GUESTS / f"{name}.wasm")


def reference(name: str, function: str) -> Callable[..., Number | None]:
    """A function of a fresh instance in the reference engine, which takes signed integers only."""
    environment = wasm3.Environment()
    runtime = environment.new_runtime(64 * 1024)
    runtime.load(environment.parse_module((GUESTS / f"{name}.wasm").read_bytes()))
    found = runtime.find_function(function)

    def call(*args: Number) -> Number | None:
        value: Number | None = found(*map(signed, args, found.arg_types))
        return value

    return call


def signed(value: Number, type: int) -> Number:
    """An integer as a signed one of its type: 1 is i32, 2 is i64."""
    bits = {1: 32, 2: 64}.get(type, 0)
    return value - (1 << bits) if bits and value >= 1 << (bits - 1) else value


def same(ours: Number | None, theirs: Number | None) -> bool:
    """The same value of the same type; the sign of zero counts, a NaN's bits do not."""
    if isinstance(ours, float) and isinstance(theirs, float):
        return struct.pack("<d", ours) == struct.pack("<d", theirs) or ours != ours != theirs
    return type(ours) is type(theirs) and ours == theirs


# ---- values ----


@pytest.mark.parametrize("name", sorted(CALLS))
def test_a_guest_gives_the_values_of_the_reference(client: Client, name: str) -> None:
    calls = [(func, args) for func, rows in CALLS[name].items() for args in rows]
    ours = answers([client.spawn_wasm(guest(name), func, *args) for func, args in calls])
    for (func, args), value in zip(calls, ours, strict=True):
        expected = reference(name, func)(*args)
        assert same(value, expected), f"{name}.{func}{args}: {value!r}, not {expected!r}"


@pytest.mark.parametrize(("name", "function"), CORRECTED)
def test_where_the_reference_is_wrong(client: Client, name: str, function: str) -> None:
    value = client.spawn_wasm(guest(name), function).result(PATIENCE_S)
    assert value == CORRECTED[name, function] != reference(name, function)()


def test_no_guest_is_forgotten() -> None:
    found = {path.stem for path in GUESTS.glob("*.wasm")}
    assert found == set(CALLS) | {name for name, _ in CORRECTED} | MISBEHAVED
    assert {row[0] for row in ERRORS} >= MISBEHAVED


def test_every_call_starts_from_a_fresh_instance(client: Client) -> None:
    for _ in range(3):
        assert client.spawn_wasm(guest("start"), "get", node=1).result(PATIENCE_S) == 1
        assert client.spawn_wasm(guest("grow"), "grow", 2, node=1).result(PATIENCE_S) == 1


def test_primes_below_half_a_million(client: Client) -> None:
    future = client.spawn_wasm(guest("primes"), "count_primes", 0, 500_000)
    assert future.result(PATIENCE_S) == 41_538
    assert future.node in (1, 2)
    assert 0 < future.run_us <= future.elapsed_us


# ---- errors of the call, found before anything is sent ----


@pytest.mark.parametrize(
    ("name", "function", "args", "error"),
    [
        ("sum", "nope", (), "NO_EXPORT"),
        ("sum", "", (), "NO_EXPORT"),
        ("sum", "sum", (1, 2), "SIGNATURE"),
        ("sum", "sum", (1, 2, 3, 4), "SIGNATURE"),
        ("sum", "sum", (1, 2, 2**32), "SIGNATURE"),
        ("sum", "sum", (1, 2, I32_MIN - 1), "SIGNATURE"),
        ("sum", "sum", (1, 2, 3.0), "SIGNATURE"),
        ("sum", "sum", (1, 2, "3"), "SIGNATURE"),
        ("sum", "sum", (1, 2, None), "SIGNATURE"),
        ("sum", "sum", (1, 2, True), "SIGNATURE"),
        ("types", "id_i64", (2**64,), "SIGNATURE"),
        ("types", "id_i64", (I64_MIN - 1,), "SIGNATURE"),
        ("types", "id_f64", (10**400,), "SIGNATURE"),
        ("types", "id_f32", ("x",), "SIGNATURE"),
    ],
)
def test_a_call_that_cannot_be_right_is_refused_at_once(
    client: Client, name: str, function: str, args: tuple[Any, ...], error: str
) -> None:
    with pytest.raises(velum.CallerError) as caught:
        client.spawn_wasm(guest(name), function, *args)
    assert caught.value.name == error
    if error == "SIGNATURE":
        assert f"{function}(" in str(caught.value), "it shows the signature"
    else:
        assert "it has: sum" in str(caught.value), "it shows what there is"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "MODULE_MALFORMED"),
        (b"\0asm", "MODULE_MALFORMED"),
        (b"#!/bin/sh\n", "MODULE_MALFORMED"),
        (b"\0asm\2\0\0\0", "MODULE_MALFORMED"),
        (b"\0asm\1\0\0\0\xff\0", "MODULE_MALFORMED"),
        ((GUESTS / "sum.wasm").read_bytes()[:-3], "MODULE_MALFORMED"),
        (b"\0asm\1\0\0\0" + bytes([1, 4, 1, 0x60, 0, 0, 3, 2, 1, 7, 10, 4, 1, 2, 0, 11]), None),
        (b"\0asm\1\0\0\0" + b"\2\7\1\1a\1b\0\0", None),
        (b"\0asm\1\0\0\0", "NO_EXPORT"),
        (bytes(64 * 1024 * 1024 + 1), "TOO_LARGE"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else str(value),
)
def test_bytes_that_are_no_module_are_refused_at_once(
    client: Client, data: bytes, error: str | None
) -> None:
    with pytest.raises(velum.CallerError) as caught:
        client.spawn_wasm(data, "f")
    assert caught.value.name == error or (error is None and caught.value.code in range(50, 57))


def test_a_file_that_is_not_there(client: Client) -> None:
    with pytest.raises(FileNotFoundError):
        client.spawn_wasm("no/such/file.wasm", "f")


# ---- errors of the guest ----


@pytest.mark.parametrize(
    ("name", "function", "args", "limits", "error"),
    ERRORS,
    ids=[f"{row[0]}.{row[1]}-{row[4]}" for row in ERRORS],
)
def test_what_goes_wrong_in_a_guest_has_a_name(
    client: Client,
    name: str,
    function: str,
    args: tuple[Number, ...],
    limits: dict[str, Any],
    error: str,
) -> None:
    caught = client.spawn_wasm(guest(name), function, *args, **limits).exception(PATIENCE_S)
    assert isinstance(caught, velum.VelumError) and caught.name == error, caught
    kinds = {"DEADLINE": velum.TaskStopped, "MODULE_COMPILE": velum.CallerError}
    assert type(caught) is kinds.get(error, velum.GuestTrap)
    assert caught.node in (1, 2)
    assert client.spawn_wasm(guest("sum"), "sum", 1, 2, 3, node=caught.node).result(30) == 6


def test_no_guest_has_killed_a_worker(two: Processes) -> None:
    """Runs after all of the above: every error was told by the worker, which lives on."""
    assert not two.logged("died") and not two.logged("is killed")


def test_memory_grows_to_its_limit_and_no_further(client: Client) -> None:
    def grown(**limits: Any) -> Any:
        return client.spawn_wasm(guest("grow"), "grow_until_refused", **limits).result(PATIENCE_S)

    assert grown() == 4096
    assert [grown(pages=pages) for pages in (1, 2, 100)] == [1, 2, 100]


def test_fuel_is_exact(client: Client) -> None:
    """One unit for the call and one for each jump back."""
    spin = client.spawn_wasm(guest("loop"), "spin", 1000, fuel=1000)
    assert spin.result(PATIENCE_S) == 1000
