"""The commands as processes, against real nodes: what they print, their status, their end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from velum import machine
from velum.errors import VelumError
from velum.localmesh import LocalMesh

GUESTS = Path(__file__).parents[1] / "guests"
PATIENCE_S = 30.0


def velum(
    *words: str, patience_s: float = PATIENCE_S, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end; `settings` are environment variables."""
    return subprocess.run(
        [sys.executable, "-m", "velum", *words],
        capture_output=True,
        text=True,
        timeout=patience_s,
        env={**os.environ, **settings},
    )


@pytest.fixture(scope="module")
def beacon_port() -> int:
    return machine.free_beacon_port()


@pytest.fixture(scope="module")
def mesh(beacon_port: int) -> Iterator[LocalMesh]:
    options = ["--beacon-port", str(beacon_port), "--workers", "1"]
    with LocalMesh([1, 2], ports=lambda _: 0, options=options) as mesh:
        mesh.wait_complete(PATIENCE_S)
        yield mesh


@pytest.fixture
def node(mesh: LocalMesh) -> str:
    return mesh.nodes[1].address


def test_call(node: str, beacon_port: int) -> None:
    done = velum("call", "add", "10", "20", "--node", node)
    assert (done.returncode, done.stdout, done.stderr) == (0, "30\n", "")
    found = velum("call", "sub", "1", "-0x10", VELUM_BEACON_PORT=str(beacon_port))
    assert (found.returncode, found.stdout) == (0, "17\n")
    placed = velum("call", "mul", "6", "7", "--on", "2", "--json", VELUM_NODE=node)
    answer = json.loads(placed.stdout)
    assert (answer["value"], answer["node"]) == (42, 2)


def test_wasm(node: str) -> None:
    words = ("wasm", str(GUESTS / "primes.wasm"), "count_primes", "0", "500000")
    done = velum(*words, "--node", node, "-v")
    assert (done.returncode, done.stdout) == (0, "41538\n")
    assert done.stderr.startswith("node ")


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("call", "div", "1", "0"), 1, "division by zero"),
        (("call", "pow", "1", "2"), 2, "no built-in function"),
        (("wasm", "primes.wasm", "nope"), 2, "nope"),
        (("wasm", "primes.wasm", "is_prime"), 2, "is_prime(i32) -> i32"),
        (("wasm", "loop.wasm", "forever", "--timeout", "300ms"), 4, "timeout"),
        (("wasm", "loop.wasm", "forever", "--fuel", "1000"), 1, "fuel"),
        (("wasm", "none.wasm", "f"), 2, "none.wasm: No such file"),
        (("call", "add", "1", "2", "--on", "99"), 1, "99"),
    ],
)
def test_errors(node: str, words: tuple[str, ...], status: int, message: str) -> None:
    words = tuple(str(GUESTS / word) if word.endswith(".wasm") else word for word in words)
    done = velum(*words, "--node", node)
    assert (done.returncode, done.stdout) == (status, "")
    assert message in done.stderr and done.stderr.count("\n") == 1


def test_no_node() -> None:
    done = velum("status", "--beacon-port", str(machine.free_beacon_port()))
    assert done.returncode == 3 and "velum node 1" in done.stderr
    done = velum("status", "--node", "127.0.0.1:9")
    assert done.returncode == 3 and "127.0.0.1:9" in done.stderr


def test_nodes_and_status(node: str) -> None:
    rows = json.loads(velum("nodes", "--json", "--node", node).stdout)
    assert [(row["id"], row["state"], row["me"]) for row in rows] == [
        (1, "alive", True),
        (2, "alive", False),
    ]
    status = json.loads(velum("status", "--json", "--node", node).stdout)
    assert (status["id"], status["address"]) == (1, node)


def test_doctor(mesh: LocalMesh, beacon_port: int) -> None:
    done = velum("doctor", "1", "--json", "--beacon-port", str(beacon_port))
    report = json.loads(done.stdout)
    findings = {finding["name"]: finding for finding in report["findings"]}
    assert (done.returncode == 0) == report["healthy"]
    for name in ("python", "versions", "worker", f"beacon {beacon_port}", "mesh"):
        assert findings[name]["level"] == "ok", findings[name]
    assert mesh.nodes[1].address in findings["mesh"]["text"]


def test_doctor_says_who_holds_a_port() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        finding = machine.check_port("127.0.0.1", port)
    assert (finding.level, finding.advice[:4]) == ("warn", "stop")
    assert f"process {os.getpid()}" in finding.text
    assert machine.check_port("127.0.0.1", port).level == "ok"


def test_a_node_that_cannot_start_says_why(mesh: LocalMesh) -> None:
    port = mesh.nodes[1].address.rpartition(":")[2]
    with LocalMesh([31], options=["--port", port, "--workers", "0"]) as nodes:
        with pytest.raises(VelumError, match=f"node 31 ended at once: velum: .*:{port}"):
            nodes.wait_complete(PATIENCE_S)


class Lines:
    """Events of one node process, waited for with a deadline."""

    def __init__(self) -> None:
        self._queue: Queue[dict[str, Any]] = Queue()

    def put(self, _id: int, event: dict[str, Any]) -> None:
        self._queue.put(event)

    def until(self, **facts: Any) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE_S
        while True:
            event = self._queue.get(timeout=max(0.001, end - time.monotonic()))
            if facts.items() <= event.items():
                return event


@contextlib.contextmanager
def process(*words: str) -> Iterator[subprocess.Popen[str]]:
    """A process that does not outlive its test."""
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_node_without_a_terminal_serves_until_a_signal(number: int) -> None:
    words = ("node", "9", "--port", "0", "--workers", "1", "--no-beacon")
    with process(sys.executable, "-m", "velum", *words) as node:
        assert node.stdout is not None
        line = node.stdout.readline()
        address = line.split()[3].rstrip(",")
        assert line == f"node 9 at {address}, 1 worker\n"
        assert velum("call", "add", "1", "2", "--node", address).stdout == "3\n"
        node.send_signal(number)
        out, err = node.communicate(timeout=PATIENCE_S)
        assert (node.returncode, out, err) == (0, "", "")


def test_leaving_is_told_from_dying(beacon_port: int, mesh: LocalMesh) -> None:
    lines = Lines()
    options = ["--beacon-port", str(beacon_port), "--workers", "1"]
    with LocalMesh([21], ports=lambda _: 0, options=options, on_event=lines.put) as first:
        lines.until(event="member", id=1, state="alive")
        with LocalMesh([22], ports=lambda _: 0, options=options):
            lines.until(event="member", id=22, state="alive")
        lines.until(event="member", id=22, state="left")
        with LocalMesh([23], ports=lambda _: 0, options=options) as third:
            lines.until(event="member", id=23, state="alive")
            third.kill(23)
            lines.until(event="member", id=23, state="dead")
        assert first.nodes[21].peers == {1, 2}


def test_a_second_node_of_one_id_is_refused(beacon_port: int, mesh: LocalMesh) -> None:
    done = velum(
        "node", "2", "--port", "0", "--beacon-port", str(beacon_port), "--workers", "1", "--json"
    )
    assert done.returncode == 1
    assert "node id 2" in done.stderr and mesh.nodes[2].address in done.stderr


def test_a_port_in_use_is_said(mesh: LocalMesh) -> None:
    port = mesh.nodes[1].address.rpartition(":")[2]
    done = velum("node", "5", "--port", port, "--no-beacon", "--workers", "1")
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr and done.stdout == ""


def test_up_starts_says_so_and_stops_everything() -> None:
    words = ["up", "2", "--first-id", "61", "--workers", "1", "--port", "0"]
    words += ["--beacon-port", str(machine.free_beacon_port())]
    with process(sys.executable, "-m", "velum", *words) as nodes:
        assert nodes.stdout is not None
        lines = []
        for line in nodes.stdout:
            lines.append(line)
            if "in another terminal" in line:
                break
        nodes.send_signal(signal.SIGINT)
        lines += nodes.stdout.read().splitlines(keepends=True)
        assert nodes.wait(PATIENCE_S) == 0
    text = "".join(lines)
    addresses = dict(re.findall(r"\[(\d+)\] serves at ([\d.:]+), 1 worker\n", text))
    assert "\n2 nodes see each other after " in text
    assert set(addresses) == {"61", "62"}
    assert f"[61] + node 62 {addresses['62']}\n" in text
    for address in addresses.values():
        assert velum("status", "--node", address).returncode == 3


def test_nodes_leave_when_their_starter_dies() -> None:
    program = (
        "import sys, time\n"
        "from velum.localmesh import LocalMesh\n"
        "mesh = LocalMesh([71], ports=lambda _: 0, options=['--no-beacon', '--workers', '1'])\n"
        f"mesh.wait_complete({PATIENCE_S})\n"
        "print(mesh.nodes[71].address, flush=True)\n"
        "time.sleep(600)\n"
    )
    with process(sys.executable, "-c", program) as starter:
        assert starter.stdout is not None
        address = starter.stdout.readline().strip()
        assert velum("call", "add", "1", "2", "--node", address).returncode == 0
        starter.kill()
    end = time.monotonic() + PATIENCE_S
    while velum("status", "--node", address).returncode == 0:
        assert time.monotonic() < end, "the node outlived its starter"


def test_demo() -> None:
    done = velum("demo", "--nodes", "3", "--json", patience_s=3 * PATIENCE_S)
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert (outcome["right"], outcome["primes"], outcome["killed"]) == (True, 1270607, 1)
    assert outcome["adopted_by"] in (2, 3)
    assert outcome["file_right"] and outcome["file_whole"]
    assert sum(node["done"] for node in outcome["job"]["nodes"]) == outcome["job"]["slices"]
    assert "each sees the 2 others" in done.stderr
