"""Files in RAM are hard to kill: nodes that die, stop, return and come late, clients that vanish.

Real processes; every wait is for what `df` and the nodes' own figures say, with a deadline.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

import velum
from tests.integration.meshes import PATIENCE_S, Calling, Processes, StartMesh, eventually, seeded
from tests.integration.stores import (
    KIB,
    MIB,
    RAM,
    assert_reads,
    client_of,
    figures,
    noise,
    space_of,
    used,
    wait_gone,
    wait_whole,
)
from velum.errors import FileDamaged
from velum.files import Files

CHUNK = 64 * KIB
FAST = (*RAM, "--repair-rate", "max")


class Reader(Calling):
    """Reads files over and over, one after the other; each has to be what it is."""

    def __init__(self, files: Files, expected: dict[str, bytes]) -> None:
        super().__init__()
        self._files = files
        self._turns = itertools.cycle(expected.copy().items())

    def _round(self) -> int:
        name, data = next(self._turns)
        assert self._files.get(name) == data, name
        return 1


def stored(nodes: Processes, count: int, what: str, **coding: Any) -> dict[str, bytes]:
    """Puts files of all kinds of sizes through nodes in turn."""
    rng = seeded(what)
    expected = {}
    for number in range(count):
        size = rng.choice((100, 4096, 4097, CHUNK + 1, rng.randrange(5 * CHUNK), 20 * CHUNK + 1))
        name = f"{what}/{number}"
        expected[name] = noise(rng, size)
        with client_of(nodes, nodes.running()[number % len(nodes.running())]) as client:
            client.files.put(expected[name], name, chunk_bytes=CHUNK, **coding)
    return expected


PUTTER = """
import sys, velum
with velum.connect(sys.argv[1]) as client:
    def source():
        for number in range(1000):
            yield number.to_bytes(4, "little") * (1 << 18)
            print(number, flush=True)
            if number == 20:
                sys.stdin.read()
    client.files.put(source(), "vanished")
"""


@pytest.fixture(scope="module")
def vanished(shared_mesh: StartMesh) -> tuple[Processes, int]:
    """A mesh in which putters have vanished, and what it held before. That takes its time: the test
    that looks at it comes last."""
    nodes = shared_mesh(3, options=FAST)
    nodes.client(1).files.put(b"x" * 10_000, "kept")
    before = used(nodes)
    words = [sys.executable, "-c", PUTTER, nodes.address(2)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as putter:
        assert putter.stdout is not None
        while putter.stdout.readline() != b"20\n":
            pass
        assert used(nodes) > before + 8 * MIB
        putter.send_signal(signal.SIGKILL)
    reached = used(nodes)
    words = [sys.executable, "-m", "velum", "store", "put", "-", "interrupted"]
    with subprocess.Popen(
        [*words, "--node", nodes.address(3)], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as command:
        assert command.stdin is not None and command.stderr is not None
        for _ in range(24):
            command.stdin.write(os.urandom(MIB))
        eventually(lambda: used(nodes) > reached, "the command has put some")
        command.send_signal(signal.SIGINT)
        assert command.wait(PATIENCE_S) == 130
        assert b"Traceback" not in command.stderr.read()
        with contextlib.suppress(BrokenPipeError):
            command.stdin.close()
    eventually(lambda: used(nodes) <= reached, "who was interrupted has freed what it put")
    return nodes, before


@pytest.fixture(autouse=True)
def begun(vanished: tuple[Processes, int]) -> None:
    """It begins with the first test here."""


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., velum.Node]]:
    """hasty(id, join): nodes of this program, to which a minute is a moment."""
    monkeypatch.setattr("velum.policy.tending.DROP_MS", 500)
    monkeypatch.setattr("velum.policy.tending.LOOK_FIRST_MS", 200)
    monkeypatch.setattr("velum.policy.tending.RETRY_MS", 200)
    monkeypatch.setattr("velum.policy.claims.OVER_MS", 500)
    with ExitStack() as stack:

        def start(id: int, join: Sequence[velum.Node] = ()) -> velum.Node:
            addresses = [node.address for node in join]
            options: dict[str, Any] = {"workers": 0, "beacon": False, "ram": 64 * MIB}
            node = velum.Node(id, 0, join=addresses, repair_rate=0, **options)
            return stack.enter_context(node)

        yield start


def test_a_node_is_killed_and_returns(mesh: StartMesh) -> None:
    """Everything reads on; copies are made again; what was deleted meanwhile stays deleted, also
    by the one that was away."""
    nodes = mesh(5, options=FAST)
    expected = stored(nodes, 20, "twice", copies=2) | stored(nodes, 8, "thrice", copies=3)
    whole = used(nodes)
    files = nodes.client(1).files
    with Reader(files, expected) as reader:
        nodes.kill(3)
        wait_gone(nodes, 3)
        took = wait_whole(nodes, deep=True)
        print(f"whole {took:.1f} s after a death; a read took {reader.slowest_s:.2f} s at most")
    assert used(nodes) == whole
    for id in nodes.running():
        with client_of(nodes, id) as client:
            assert_reads(client.files, expected)
    gone = list(expected)[::5]
    for name in gone:
        files.rm(name)
        del expected[name]
    expected |= stored(nodes, 8, "stripes", ec=(2, 1))
    with Reader(files, expected) as reader:
        nodes.start([3], again=True)
        took = wait_whole(nodes)
        print(f"whole {took:.1f} s after a return; a read took {reader.slowest_s:.2f} s at most")
    nodes.kill(1)
    wait_gone(nodes, 1)
    for id in nodes.running():
        with client_of(nodes, id) as client:
            assert_reads(client.files, expected)
            assert [info.name for info in client.files.ls()] == sorted(expected)
            assert not any(client.files.exists(name) for name in gone)


def test_two_nodes_are_killed_at_once(mesh: StartMesh) -> None:
    """With stripes of 4+2 everything reads on, and its shards are made again."""
    nodes = mesh(6, options=FAST)
    expected = stored(nodes, 20, "stripes", ec=(4, 2))
    files = nodes.client(1).files
    with Reader(files, expected) as reader:
        nodes.kill(2)
        nodes.kill(5)
        wait_gone(nodes, 2, 5)
        for name, data in expected.items():  # stripes are made from what is left, piece by piece
            with files.open(name) as reading:
                assert b"".join(iter(partial(reading.read, 100_001), b"")) == data
        took = wait_whole(nodes)
        print(f"whole {took:.1f} s after two deaths; a read took {reader.slowest_s:.2f} s at most")
    for id in nodes.running():
        with client_of(nodes, id) as client:
            assert_reads(client.files, expected)


def know_each_other(nodes: Sequence[velum.Node]) -> bool:
    """Whether each sees exactly these alive, and the RAM that they give."""
    ids = {node.id for node in nodes}
    return all(
        {row.id for row in node.nodes() if row.state == "alive" and row.ram_mib} == ids
        for node in nodes
    )


def test_a_node_joins(hasty: Callable[..., velum.Node]) -> None:
    """It receives about its share, which the others drop; and nothing moves between those."""
    nodes = [hasty(1)]
    nodes += [hasty(id, nodes) for id in (2, 3, 4)]
    eventually(lambda: know_each_other(nodes), "they know each other")
    rng = seeded("join")
    expected = {f"{n}": noise(rng, rng.randrange(5000, 10 * CHUNK)) for n in range(60)}
    for name, data in expected.items():
        rng.choice(nodes).files.put(data, name, chunk_bytes=CHUNK)

    def settled() -> bool:
        said = [node.status()["store"]["chunks"] for node in nodes]
        return all(not (s["unconfirmed"] or s["repair_bytes"] or s["loose_bytes"]) for s in said)

    eventually(settled, "all is confirmed")
    before = [node.status()["store"] for node in nodes]
    total = sum(here["used"] for here in before)
    nodes.append(hasty(5, nodes))
    with Reader(nodes[0].files, expected):
        eventually(lambda: know_each_other(nodes), "it has joined")
        took = eventually(
            lambda: settled() and sum(n.status()["store"]["used"] for n in nodes) == total,
            "copies are at their places, and surplus is dropped",
        )
    after = [node.status()["store"] for node in nodes]
    share = after[4]["used"] / total
    repaired = [sum(here["chunks"]["repaired_bytes"] for here in s) for s in (before, after)]
    moved = (repaired[1] - repaired[0]) / total
    print(
        f"settled {took:.1f} s after a join: its share {share:.2f}, moved {moved:.2f} of all bytes"
    )
    assert 0.1 < share < 0.3 and moved < 1.5 * share
    assert_reads(nodes[4].files, expected)
    nodes.pop(1).leave()
    assert_reads(nodes[0].files, expected)
    eventually(lambda: know_each_other(nodes), "it has left")
    eventually(settled, "all is confirmed again")
    assert sum(node.status()["store"]["used"] for node in nodes) == total


def test_what_is_over_is_freed(hasty: Callable[..., velum.Node]) -> None:
    """Replaced, or deleted: after a while its chunks are gone from all nodes."""
    nodes = [hasty(1)]
    nodes += [hasty(id, nodes) for id in (2, 3)]
    eventually(lambda: know_each_other(nodes), "they know each other")
    rng = seeded("over")
    files = nodes[0].files
    data = [noise(rng, 10 * CHUNK) for _ in range(3)]

    def held() -> int:
        return sum(node.status()["store"]["used"] for node in nodes)

    files.put(data[0], "replaced", chunk_bytes=CHUNK)
    files.put(data[1], "replaced", chunk_bytes=CHUNK, copies=3)
    files.put(data[2], "deleted", chunk_bytes=CHUNK, ec=(2, 1))
    files.rm("deleted")
    eventually(lambda: held() == 30 * CHUNK, "what was replaced, and what was deleted, is freed")
    files.put(b"small", "replaced")
    eventually(lambda: held() == 0, "all is freed")
    assert nodes[1].files.get("replaced") == b"small"


def test_a_holder_stops_during_a_get_and_a_put(mesh: StartMesh) -> None:
    """It keeps its connections and says nothing: others are asked instead."""
    nodes = mesh(4, options=FAST)
    rng = seeded("stopped")
    data = noise(rng, 40 * MIB)
    files = nodes.client(1).files
    files.put(data, "before")
    with files.open("before") as reader:
        first = reader.read(3 * MIB)
        nodes.pause(4)
        began = time.monotonic()
        assert first + reader.read() == data
        print(f"a get beside a stopped holder: {time.monotonic() - began:.1f} s")

    began = time.monotonic()

    def source() -> Iterator[bytes]:
        for at in range(0, len(data), MIB):
            if at == 10 * MIB:
                nodes.pause(3)
            yield data[at : at + MIB]

    nodes.resume(4)
    nodes.wait_whole()
    files.put(source(), "during")
    print(f"a put beside a stopped holder: {time.monotonic() - began:.1f} s")
    assert files.get("during") == data
    nodes.resume(3)
    nodes.wait_whole()
    for id in (2, 3):
        with client_of(nodes, id) as client:
            assert_reads(client.files, {"before": data, "during": data})


def test_more_nodes_are_lost_than_there_are_copies(mesh: StartMesh) -> None:
    """A get says which chunks are gone, a listing marks the file; all others are unharmed, and the
    name can be put anew."""
    nodes = mesh(4, options=FAST)
    rng = seeded("lost")
    files = nodes.client(1).files
    once = noise(rng, 40 * CHUNK)
    files.put(once, "once", copies=1, chunk_bytes=CHUNK)
    expected = stored(nodes, 10, "twice", copies=2)
    nodes.kill(4)
    wait_gone(nodes, 4)

    def marked() -> bool:
        space = space_of(nodes)
        return space.damaged == 1 and not space.unchecked and not space.repair_bytes

    took = eventually(marked, "the damage is seen", PATIENCE_S)
    print(f"marked after {took:.1f} s")
    listed = {info.name: info for info in files.ls()}
    assert listed["once"].care == "damaged" and 0 < listed["once"].missing < 40
    assert all(listed[name].care == "whole" for name in expected)
    assert files.stat("once", check=True).missing == listed["once"].missing
    with pytest.raises(FileDamaged) as lost:
        files.get("once")
    assert lost.value.name == "CHUNKS_LOST"
    numbers = {int(number) for number in str(lost.value).rpartition(": ")[2].split(", ")}
    here = {number for number in range(40) if has(files, number)}
    print(f"{lost.value}; here are {here}")
    assert numbers and not numbers & here and len(here) == 40 - listed["once"].missing
    for number in here:
        at = number * CHUNK
        assert files.get("once", offset=at, size=CHUNK) == once[at : at + CHUNK]
    assert_reads(files, expected)
    files.put(once, "once")
    assert files.get("once") == once
    eventually(lambda: space_of(nodes).damaged == 0, "it is whole again", PATIENCE_S)


def has(files: Files, chunk: int) -> bool:
    """Whether a chunk of the file that was harmed can be read."""
    try:
        return bool(files.get("once", offset=chunk * CHUNK, size=1))
    except FileDamaged:
        return False


STREAMER = """
import random, sys, psutil, velum
me = psutil.Process()
with velum.connect(sys.argv[1]) as client:
    client.files.put(bytes(1 << 20), "warm", copies=1)
    client.files.get("warm")
    before = peak = me.memory_info().rss
    def source():
        global peak
        for number in range(400):
            yield random.Random(number).randbytes(1 << 20)
            peak = max(peak, me.memory_info().rss)
    client.files.put(source(), "stream", copies=1)
    put = peak
    with client.files.open("stream") as reader:
        for number in range(400):
            assert reader.read(1 << 20) == random.Random(number).randbytes(1 << 20)
            peak = max(peak, me.memory_info().rss)
    print(put - before, peak - before)
"""


def test_memory_is_bounded(mesh: StartMesh) -> None:
    """A file larger than what any node gives, and than the client may use."""
    nodes = mesh(3, options=("--ram", "160M"))
    nodes.client(1).files.put(bytes(MIB), "warm")
    before = {id: nodes.rss_mib(id) for id in nodes.running()}
    words = [sys.executable, "-c", STREAMER, nodes.address(1)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    put, get = (int(word) / MIB for word in done.stdout.split())
    grown = {id: nodes.rss_mib(id) - before[id] for id in before}
    held = {id: here["chunks"]["bytes"] / MIB for id, here in figures(nodes).items()}
    beside = {id: round(grown[id] - held[id]) for id in held}
    print(f"the client grew by {put:.0f} MiB in the put, {get:.0f} in all; nodes, beside {beside}")
    assert put < 32 and get < 32
    assert all(extra < 32 for extra in beside.values())
    assert all(grown[id] < 160 + 32 for id in grown)


def test_who_vanished_while_it_put_has_left_nothing(vanished: tuple[Processes, int]) -> None:
    """A client that was killed with -9 in the middle, and Ctrl-C in the command."""
    nodes, before = vanished
    took = eventually(lambda: used(nodes) == before, "what they have put is freed", 60)
    print(f"freed after {took:.1f} s")
    assert [info.name for info in nodes.client(1).files.ls()] == ["kept"]
    assert all(here["chunks"]["loose_bytes"] == 0 for here in figures(nodes).values())
    assert nodes.client(2).files.get("kept") == b"x" * 10_000
