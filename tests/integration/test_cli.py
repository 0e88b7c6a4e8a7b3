"""What test_cli_mesh.py leaves over: a node as `python -m velum.node`, a command that is
interrupted, and `velum inspect` as a process."""

from __future__ import annotations

import json
import signal
from typing import IO

import pytest

import velum
from tests.integration.meshes import (
    GUESTS,
    PATIENCE_S,
    Processes,
    StartMesh,
    eventually,
    running,
)

LOOP = str(GUESTS / "loop.wasm")


@pytest.fixture(scope="module")
def one(shared_mesh: StartMesh) -> Processes:
    return shared_mesh(1)


def line_with(stream: IO[str] | None, text: str) -> str:
    """Reads lines up to one that holds a text."""
    assert stream is not None
    for line in stream:
        if text in line:
            return line
    raise AssertionError(f"the program ended without {text!r}")


def test_a_node_says_who_it_is_and_whom_it_meets(one: Processes) -> None:
    words = ["3", "--port", "0", "--workers", "1", "--beacon-port", str(one.beacon_port)]
    with running("velum.node", *words) as process:
        assert line_with(process.stdout, "node 3").startswith("node 3 at 127.0.0.1:")
        assert line_with(process.stdout, "node 1") == f"+ node 1 {one.address(1)}\n"
        eventually(lambda: 3 in one.peers(1))
        with velum.Node(4, 0, beacon_port=one.beacon_port, workers=0) as node:
            assert line_with(process.stdout, "node 4") == f"+ node 4 {node.address}\n"
        assert line_with(process.stdout, "node 4") == "- node 4 left\n"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, out, err) == (0, "", "")
    eventually(lambda: one.is_gone(3))


def test_an_interrupted_command_stops_its_task(one: Processes) -> None:
    with velum.connect(one.address(1)) as client:
        with running("velum", "wasm", LOOP, "forever", "--node", one.address(1)) as process:
            eventually(lambda: client.status()["running"] == 1, "the loop runs")
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE_S) == 130
        eventually(lambda: client.status()["running"] == 0, "the loop is stopped")


def test_inspect() -> None:
    with running("velum", "inspect", str(GUESTS / "primes.wasm")) as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (0, "")
    assert "function count_primes(i32, i32) -> i32" in out
    with running("velum", "inspect", __file__, "--json") as process:
        out, _ = process.communicate(timeout=PATIENCE_S)
    report = json.loads(out)
    assert (process.returncode, report["valid"], report["exports"]) == (1, False, [])
