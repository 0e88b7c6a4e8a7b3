"""The C library as a stranger uses it: built alone, embedded in a program, loaded by cffi, and as a
node without Python, each in a mesh with real Python nodes.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.integration.meshes import GUESTS, PATIENCE_S, Processes, StartMesh, answers, eventually
from tests.integration.native import ROOT, NativeNode, build_core, member, run, tool, wait_state
from velum.client import Client
from velum.errors import TaskStopped, VelumError

EMBED_ID = 42
FAR = 2_000_000_000  # counting primes up to there takes hours
PROMISE_S = 0.4  # a stop takes 200 ms at most; a busy machine gets the double
SUM = str(GUESTS / "sum.wasm")
PRIMES = str(GUESTS / "primes.wasm")
LOOP = str(GUESTS / "loop.wasm")
TRAPS = str(GUESTS / "traps.wasm")


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """csrc's build folder."""
    return build_core(tmp_path_factory.mktemp("core"))


def compile_example(core: Path, name: str) -> Path:
    """examples/NAME.c, compiled as its head says, warnings as errors."""
    program = core / name
    flags = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    source, library = ROOT / "examples" / f"{name}.c", core / "libvelum.a"
    compiler = tool("cc") or tool("gcc") or tool("clang") or "cc"
    run(compiler, *flags, "-I", ROOT / "csrc" / "include", source, library, "-lm", "-o", program)
    return program


@pytest.fixture(scope="module")
def embed(core: Path) -> Path:
    """The example that joins a mesh."""
    return compile_example(core, "embed")


@pytest.fixture(scope="module")
def scatter(core: Path) -> Path:
    """The example that gives a job to a mesh."""
    return compile_example(core, "scatter")


@pytest.fixture(scope="module")
def nodes(shared_mesh: StartMesh) -> Processes:
    return shared_mesh(1)


@pytest.fixture(scope="module")
def client(nodes: Processes) -> Client:
    return nodes.client()


def start(program: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(program), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


# ---- an embedded member ----


def test_embed_uses_the_mesh_and_works_for_it(
    embed: Path, nodes: Processes, client: Client
) -> None:
    words = (nodes.address(1), str(EMBED_ID), "3", SUM, "sum", "10", "20", "30")
    with start(embed, *words) as process:
        wait_state(client, EMBED_ID, "alive")
        row = member(client, EMBED_ID)
        assert row is not None and (row.role, row.slots) == ("leaf", 1) and row.speed > 0
        assert client.spawn_wasm(SUM, "sum", 1, 2, 3, node=EMBED_ID).result(PATIENCE_S) == 6
        assert client.spawn("mul", 6, 7, node=EMBED_ID).result(PATIENCE_S) == 42
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (0, "")
    first, members, added, summed = out.splitlines()
    assert first.startswith(f"member {EMBED_ID} on port ")
    seen = json.loads(members.removeprefix("members "))
    assert {row["id"]: row["role"] for row in seen} == {1: "node", EMBED_ID: "leaf"}
    assert added.startswith("add(10, 20) = 30 (node ")
    assert summed.startswith("sum = 60 (node ")
    wait_state(client, EMBED_ID, "left")


def test_embed_is_told_what_is_wrong(embed: Path, nodes: Processes) -> None:
    with start(embed, nodes.address(1), "1", "0") as twin:
        out, err = twin.communicate(timeout=PATIENCE_S)
    assert (twin.returncode, out) == (1, "")
    assert "DUPLICATE_ID" in err and nodes.address(1) in err
    words = (nodes.address(1), "43", "0", SUM, "sum", "1", "2")
    with start(embed, *words) as wrong:
        _, err = wrong.communicate(timeout=PATIENCE_S)
    assert wrong.returncode == 1 and "arguments do not fit" in err


def test_embed_outlives_the_node_it_came_through(embed: Path, mesh: StartMesh) -> None:
    both = mesh(2)
    other = both.client(2)
    with start(embed, both.address(1), str(EMBED_ID), "60") as process:
        wait_state(other, EMBED_ID, "alive")
        both.kill(1)
        eventually(lambda: both.is_gone(1), "node 1 is gone")
        tasks = [other.spawn_wasm(SUM, "sum", n, 2, 3, node=EMBED_ID) for n in range(5)]
        assert answers(tasks) == [5, 6, 7, 8, 9]
        row = member(other, EMBED_ID)
        assert row is not None and row.state == "alive"
        process.kill()
        wait_state(other, EMBED_ID, "dead")
        process.communicate()


# ---- a program that scatters ----


def test_a_program_scatters(scatter: Path, nodes: Processes) -> None:
    with start(scatter, nodes.address(1), PRIMES, "count_primes", "0", "500000") as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (0, "41538\n"), err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((TRAPS, "divide", "-10", "10"), ("TRAP_DIVIDE_BY_ZERO", "slice 9")),
        ((PRIMES, "count_primes", "0", "3000000000"), ("arguments do not fit",)),
        ((SUM, "sum", "0", "10"), ("arguments do not fit",)),
    ],
    ids=["a slice fails", "a bound does not fit", "another kind of function"],
)
def test_a_scatter_that_fails_says_why(
    scatter: Path, nodes: Processes, words: tuple[str, ...], told: tuple[str, ...]
) -> None:
    with start(scatter, nodes.address(1), *words) as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (1, "")
    assert all(part in err for part in told), err


def test_a_scatter_outlives_the_node_it_came_through(scatter: Path, mesh: StartMesh) -> None:
    three = mesh(3)
    words = (three.address(1), PRIMES, "count_primes", "0", "12000000")
    with start(scatter, *words) as process:
        assert process.stderr is not None
        while (line := process.stderr.readline()) and line.startswith("0 of "):
            pass
        assert line.endswith(" nodes\n"), line
        three.kill(1)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (0, "788060\n"), err


def test_the_header_is_good_for_cpp() -> None:
    compiler = tool("c++") or tool("g++") or tool("clang++")
    if compiler is None:
        pytest.skip("there is no C++ compiler here")
    header = ROOT / "csrc" / "include" / "velum.h"
    run(compiler, "-std=c++11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c++", header)


# ---- the shared library ----

DECLARATIONS = """
typedef struct { uint8_t type; uint64_t bits; } velum_value;
typedef struct velum velum;
typedef struct {
    uint16_t id, port; const char *host, *join; uint16_t beacon_port; uint8_t workers;
    uint32_t pages_max;
} velum_config;
typedef struct {
    int error; uint16_t node; uint32_t run_us; uint8_t nvalues; velum_value value; char text[128];
} velum_outcome;
int velum_open(velum **out, const velum_config *config, uint32_t timeout_ms);
const char *velum_open_error(void);
void velum_close(velum *v);
int velum_spawn(velum *v, const char *name, const velum_value *args, size_t nargs,
                uint32_t timeout_ms, uint32_t *out);
int velum_spawn_wasm(velum *v, const void *module, size_t size, const char *function,
                     const velum_value *args, size_t nargs, uint32_t timeout_ms, uint32_t *out);
int velum_wait(velum *v, uint32_t ticket, uint32_t timeout_ms, velum_outcome *out);
typedef struct {
    uint8_t reduce, priority; uint32_t slices, timeout_ms, limit_ms; uint64_t fuel; uint32_t pages;
    velum_value missing; bool keep_going, wrap; const char *label;
} velum_scatter_options;
typedef struct {
    uint32_t slices, done, failed; uint64_t elapsed_ms; uint8_t state; uint16_t nodes;
} velum_job_progress;
int velum_spawn_wasm_distributed(velum *v, const void *module, size_t size, const char *function,
                                 int64_t start, int64_t end, const velum_scatter_options *options,
                                 uint32_t *out);
int velum_get_progress(velum *v, uint32_t ticket, velum_job_progress *out);
int velum_cancel(velum *v, uint32_t ticket);
int velum_nodes(velum *v, uint32_t timeout_ms, const char **json);
velum_value velum_i32(int32_t x);
velum_value velum_i64(int64_t x);
int64_t velum_as_i64(velum_value v);
const char *velum_errname(int err);
"""


class Library:
    """libvelum as cffi sees it, and one instance: a client of a node."""

    def __init__(self, core: Path, node: str) -> None:
        from cffi import FFI

        suffix = "dylib" if sys.platform == "darwin" else "so"
        self.ffi: Any = FFI()
        self.ffi.cdef(DECLARATIONS)
        self.c: Any = self.ffi.dlopen(str(core / f"libvelum.{suffix}"))
        join = self.ffi.new("char[]", node.encode())
        config = self.ffi.new("velum_config *", {"id": 0, "join": join})
        out = self.ffi.new("velum **")
        assert self.c.velum_open(out, config, 5000) == 0, self.ffi.string(self.c.velum_open_error())
        self.mesh = out[0]

    def outcome(self, ticket: Any) -> Any:
        """The outcome of a ticket that was just written."""
        outcome = self.ffi.new("velum_outcome *")
        assert self.c.velum_wait(self.mesh, ticket[0], 20000, outcome) == 1
        return outcome


def test_cffi_loads_the_library_and_calls(core: Path, nodes: Processes) -> None:
    lib = Library(core, nodes.address(1))
    c, ffi = lib.c, lib.ffi
    ticket = ffi.new("uint32_t *")
    args = ffi.new("velum_value[]", [c.velum_i64(1 << 40), c.velum_i64(20)])
    assert c.velum_spawn(lib.mesh, b"add", args, 2, 0, ticket) == 0
    outcome = lib.outcome(ticket)
    assert (outcome.error, c.velum_as_i64(outcome.value)) == (0, (1 << 40) + 20)
    assert c.velum_spawn(lib.mesh, b"pow", args, 2, 0, ticket) == 0
    assert ffi.string(c.velum_errname(lib.outcome(ticket).error)) == b"UNKNOWN_NAME"
    module = Path(PRIMES).read_bytes()
    span = ffi.new("velum_value[]", [c.velum_i32(0), c.velum_i32(100_000)])
    words = (lib.mesh, module, len(module), b"count_primes", span)
    assert c.velum_spawn_wasm(*words, 1, 0, ticket) < 0  # one argument too few
    assert c.velum_spawn_wasm(*words, 2, 0, ticket) == 0
    assert c.velum_as_i64(lib.outcome(ticket).value) == 9592
    text = ffi.new("char **")
    assert c.velum_nodes(lib.mesh, 5000, ffi.cast("const char **", text)) == 0
    assert 1 in {row["id"] for row in json.loads(ffi.string(text[0]))}
    c.velum_close(lib.mesh)


def test_cffi_scatters(core: Path, nodes: Processes, client: Client) -> None:
    lib = Library(core, nodes.address(1))
    c, ffi = lib.c, lib.ffi
    ticket = ffi.new("uint32_t *")
    now = ffi.new("velum_job_progress *")
    options = ffi.new("velum_scatter_options *", {"reduce": 8, "slices": 100})  # FIRST
    options.missing = c.velum_i32(-1)
    module = (GUESTS / "search.wasm").read_bytes()
    words = (lib.mesh, module, len(module), b"search", 0, 100_000)
    assert c.velum_spawn_wasm_distributed(*words, options, ticket) == 0
    assert c.velum_get_progress(lib.mesh, ticket[0], now) == 0 and now.slices == 100
    assert c.velum_as_i64(lib.outcome(ticket).value) == 62596
    module = Path(PRIMES).read_bytes()
    words = (lib.mesh, module, len(module), b"count_primes", 0, FAR)
    assert c.velum_spawn_wasm_distributed(*words, ffi.NULL, ticket) == 0
    began = time.monotonic()
    while now.state == 0 and time.monotonic() - began < PATIENCE_S:
        assert c.velum_wait(lib.mesh, ticket[0], 10, ffi.new("velum_outcome *")) == 0
        assert c.velum_get_progress(lib.mesh, ticket[0], now) == 0
    assert c.velum_cancel(lib.mesh, ticket[0]) == 0
    assert ffi.string(c.velum_errname(lib.outcome(ticket).error)) == b"CANCELLED"
    c.velum_close(lib.mesh)
    eventually(
        lambda: [job["state"] for job in client.jobs() if job["end"] == FAR] == ["cancelled"],
        "the mesh has stopped it",
    )


# ---- a node without Python ----


FREE_IDS = count(70)


@pytest.fixture
def leaf_id() -> int:
    """An id of the test's own: the mesh holds on to that of a killed node for a moment."""
    return next(FREE_IDS)


def native(core: Path, id: int, *options: str) -> NativeNode:
    return NativeNode([core / "velum-worker"], id, *options)


def test_a_native_node_joins_works_and_leaves(
    core: Path, nodes: Processes, client: Client, leaf_id: int
) -> None:
    with native(core, leaf_id, "--beacon-port", str(nodes.beacon_port)) as leaf:
        assert leaf.line == (
            f"node {leaf_id} at {leaf.address} joined through {nodes.address(1)}\n"
        )
        wait_state(client, leaf_id, "alive")
        assert client.spawn_wasm(SUM, "sum", 10, 20, 30, node=leaf_id).result(PATIENCE_S) == 60
        primes = [
            client.spawn_wasm(PRIMES, "count_primes", 0, n * 1000, node=leaf_id)
            for n in range(1, 9)
        ]
        assert answers(primes) == [168, 303, 430, 550, 669, 783, 900, 1007]
        looping = client.spawn_wasm(LOOP, "forever", node=leaf_id)
        status, took_s = leaf.leave()  # in the middle of a guest
        assert status == 0 and took_s < PROMISE_S
        with pytest.raises(VelumError):
            looping.result(PATIENCE_S)
        wait_state(client, leaf_id, "left")


def test_a_native_node_stops_its_guests(
    core: Path, nodes: Processes, client: Client, leaf_id: int
) -> None:
    with native(core, leaf_id, "--join", nodes.address(1)):
        wait_state(client, leaf_id, "alive")
        with pytest.raises(TaskStopped, match="300 ms"):
            client.spawn_wasm(LOOP, "forever", node=leaf_id, timeout=0.3).result(PATIENCE_S)
        looping = client.spawn_wasm(LOOP, "forever", node=leaf_id)
        calls = [client.spawn("add", n, n, node=leaf_id) for n in range(20)]
        assert answers(calls) == [2 * n for n in range(20)]  # while it runs a guest
        began = time.monotonic()
        assert looping.cancel()
        after = client.spawn_wasm(SUM, "sum", 1, 2, 3, node=leaf_id)
        assert after.result(PATIENCE_S) == 6
        assert time.monotonic() - began < PROMISE_S


def test_a_native_node_that_slept_refutes(
    core: Path, nodes: Processes, client: Client, leaf_id: int
) -> None:
    with native(core, leaf_id, "--join", nodes.address(1)) as leaf:
        wait_state(client, leaf_id, "alive")
        for doubt in ("suspect", "dead"):
            leaf.signal(signal.SIGSTOP)
            wait_state(client, leaf_id, doubt)
            leaf.signal(signal.SIGCONT)
            wait_state(client, leaf_id, "alive", within=10)
        assert client.spawn("add", 1, 2, node=leaf_id).result(PATIENCE_S) == 3


def test_no_task_is_lost_with_a_native_node(
    core: Path, nodes: Processes, client: Client, leaf_id: int
) -> None:
    with native(core, leaf_id, "--join", nodes.address(1)) as leaf:
        wait_state(client, leaf_id, "alive")
        tasks = [client.spawn_wasm(PRIMES, "count_primes", 0, 200_000) for _ in range(40)]
        eventually(lambda: any(t.done() and t.node == leaf_id for t in tasks), "it got some")
        leaf.signal(signal.SIGKILL)
        assert answers(tasks) == [17984] * 40
        wait_state(client, leaf_id, "dead")


def test_a_second_node_of_one_id_is_refused(
    core: Path, nodes: Processes, client: Client, leaf_id: int
) -> None:
    with native(core, leaf_id, "--join", nodes.address(1)) as leaf:
        words = [str(core / "velum-worker"), "--listen", "0", "--id", str(leaf_id)]
        words += ["--join", nodes.address(1)]
        twin = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S)
        assert (twin.returncode, twin.stdout) == (1, "")
        assert f"node id {leaf_id}" in twin.stderr and leaf.address in twin.stderr
        wait_state(client, leaf_id, "alive")


@pytest.mark.parametrize(
    "words",
    [
        ("--listen", "x", "--id", "7"),
        ("--listen", "localhost:1", "--id", "7"),
        ("--listen", "0"),
        ("--listen", "0", "--id", "70000"),
        ("--listen", "0", "--id", "7", "--join", "nowhere"),
        ("--listen", "0", "--id", "7", "--fd", "3"),
    ],
)
def test_wrong_options_are_said(core: Path, words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [str(core / "velum-worker"), *words], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 2 and done.stderr.startswith("velum-worker: ")
