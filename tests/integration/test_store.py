"""Files in RAM over real processes: every size, coding, source and way to read, as a user has it.

What nodes that die, stop and return do to them is in `test_store_losses.py`, peers that do not
behave are in `test_store_hostile.py`.
"""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import velum
from tests.integration.meshes import PATIENCE_S, Processes, StartMesh, eventually, seeded
from tests.integration.stores import (
    KIB,
    MIB,
    RAM,
    assert_reads,
    blocks,
    client_of,
    figures,
    noise,
    space_of,
    used,
)
from velum.errors import CallerError, ClusterFull, FileMissing, VelumError

CHUNK = 64 * KIB
SIZES = (0, 1, 4096, 4097, CHUNK - 1, CHUNK, CHUNK + 1, 7 * CHUNK, 23 * CHUNK + 5)
CODINGS: tuple[dict[str, Any], ...] = (
    {"copies": 1},
    {"copies": 2},
    {"copies": 3},
    {"ec": (2, 1)},
    {"ec": (4, 2)},
)


@pytest.fixture(scope="module")
def five(shared_mesh: StartMesh) -> Processes:
    return shared_mesh(5, options=RAM)


@pytest.fixture(scope="module")
def clients(five: Processes) -> list[velum.Client]:
    return [five.client(id) for id in range(1, 6)]


@pytest.mark.parametrize("coding", CODINGS, ids=str)
def test_every_size_through_any_node(clients: list[velum.Client], coding: dict[str, Any]) -> None:
    rng = seeded(f"sizes {coding}")
    expected = {f"sizes/{coding}/{size}": noise(rng, size) for size in SIZES}
    for name, data in expected.items():
        info = rng.choice(clients).files.put(data, name, chunk_bytes=CHUNK, **coding)
        assert (info.name, info.size) == (name, len(data))
    for client in rng.sample(clients, 2):
        assert_reads(client.files, expected)
    for name, data in expected.items():
        info = rng.choice(clients).files.stat(name, check=True)
        assert (info.size, info.care, info.missing) == (len(data), "whole", 0)


def test_ranges(clients: list[velum.Client]) -> None:
    """Only what is asked for, wherever it begins; whole chunks are checked all the same."""
    rng = seeded("ranges")
    size = 9 * CHUNK + 777
    data = noise(rng, size)
    for number, coding in enumerate(({"copies": 2}, {"ec": (4, 2)})):
        name = f"ranges/{number}"
        clients[0].files.put(data, name, chunk_bytes=CHUNK, **coding)
        files = clients[3].files
        for _ in range(30):
            offset, count = rng.randrange(size + 10), rng.choice((0, 1, CHUNK, rng.randrange(size)))
            assert files.get(name, offset=offset, size=count) == data[offset : offset + count]
        buffer = bytearray(3 * CHUNK)
        assert files.readinto(name, buffer, CHUNK // 2) == len(buffer)
        assert buffer == data[CHUNK // 2 :][: len(buffer)]
        assert files.readinto(name, buffer, size - 5) == 5
        with files.open(name) as reader:
            for _ in range(30):
                offset, count = rng.randrange(size), rng.randrange(2 * CHUNK)
                reader.seek(offset)
                assert reader.read(count) == data[offset : offset + count]
            reader.seek(0)
            assert b"".join(iter(lambda: reader.read(10_001), b"")) == data


def test_streams_of_unknown_length(clients: list[velum.Client]) -> None:
    rng = seeded("streams")
    data = noise(rng, 40 * CHUNK + 3)
    files = clients[1].files
    options: dict[str, Any] = {"chunk_bytes": CHUNK}
    files.put(blocks(data, rng), "streams/generator", **options)
    files.put(blocks(data, rng), "streams/stripes", ec=(4, 2), **options)
    files.put(io.BytesIO(data), "streams/file", **options)
    files.put(iter([b"", b"x", b""]), "streams/one", **options)
    files.put(iter(()), "streams/none", **options)
    read_end, write_end = os.pipe()

    def write() -> None:
        with open(write_end, "wb") as pipe:
            pipe.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    with open(read_end, "rb") as pipe:
        files.put(pipe, "streams/pipe", **options)
    writer.join(PATIENCE_S)
    with files.open("streams/writer", "wb", **options) as made:
        for block in blocks(data, rng):
            made.write(block)
    names = ("generator", "stripes", "file", "pipe", "writer")
    expected = {f"streams/{name}": data for name in names}
    assert_reads(clients[4].files, {**expected, "streams/one": b"x", "streams/none": b""})


def test_a_stream_that_fails_leaves_nothing(five: Processes, clients: list[velum.Client]) -> None:
    files = clients[0].files
    before = used(five)

    def broken() -> Iterator[bytes]:
        yield bytes(10 * MIB)
        yield noise(random.Random(1), 10 * MIB)
        raise RuntimeError("the source is broken")

    with pytest.raises(RuntimeError, match="the source is broken"):
        files.put(broken(), "broken")
    with pytest.raises(RuntimeError), files.open("broken", "wb") as made:
        made.write(noise(random.Random(2), 10 * MIB))
        raise RuntimeError
    assert not files.exists("broken")
    eventually(lambda: used(five) == before, "what was stored of it is freed")


def test_a_node_of_this_program_puts_and_gets(five: Processes, clients: list[velum.Client]) -> None:
    """It gives no RAM itself; and is closed while it waits for nobody."""
    rng = seeded("node")
    expected = {f"node/{size}": noise(rng, size) for size in SIZES}
    with velum.Node(9, 0, join=[five.address(2)], beacon=False, workers=0, ram=0) as node:
        eventually(lambda: len(node.nodes()) == 6, "it has joined")
        eventually(lambda: all(row.ram_mib for row in node.nodes() if row.id != 9), "budgets")
        for name, data in expected.items():
            node.files.put(data, name, chunk_bytes=CHUNK)
        assert_reads(clients[0].files, expected)
        clients[0].files.put(b"from a client", "node/client")
        assert node.files.get("node/client") == b"from a client"
        names = [info.name for info in node.files.ls("node/")]
        assert names == sorted([*expected, "node/client"])
    for call in (lambda: node.files.get("node/1"), lambda: node.files.put(b"x" * MIB, "late")):
        with pytest.raises(VelumError, match="LEAVING|stopped|closed"):
            call()
    five.wait_whole()


def test_a_node_alone_is_a_store() -> None:
    with velum.Node(1, 0, beacon=False, workers=0, ram=64 * MIB) as node:
        data = noise(random.Random(3), 5 * MIB)
        node.files.put(data, "alone")
        assert node.files.get("alone") == data
        assert node.files.stat("alone", check=True).care == "at risk", "two copies were asked for"
        node.files.put(data[:MIB], "alone", copies=1)
        assert node.files.stat("alone", check=True).care == "whole"


def test_the_later_put_wins_and_a_deleted_name_is_gone(clients: list[velum.Client]) -> None:
    rng = seeded("later")
    for size in (10, 5 * CHUNK):
        for round in range(5):
            data = noise(rng, size + round)
            version = rng.choice(clients).files.put(data, "later", chunk_bytes=CHUNK).version
            for client in clients:
                assert client.files.get("later") == data
                assert client.files.stat("later").version == version
        rng.choice(clients).files.rm("later")
        for client in clients:
            assert not client.files.exists("later")
            assert not list(client.files.ls("later"))
            with pytest.raises(FileMissing):
                client.files.get("later")
            with pytest.raises(FileMissing):
                client.files.rm("later")


def test_who_removes_and_goes_at_once_has_told_all(mesh: StartMesh) -> None:
    """Else the nodes would hear of it in their turn of asking, a minute later."""
    nodes = mesh(4, options=RAM)
    with client_of(nodes, 1) as client:
        client.files.put(noise(seeded("goes"), 8 * MIB), "brief", chunk_bytes=CHUNK)
    eventually(lambda: all(h["chunks"]["loose_bytes"] == 0 for h in figures(nodes).values()))
    with client_of(nodes, 2) as client:
        client.files.rm("brief")

    def is_over() -> bool:
        said = figures(nodes).values()
        return all(here["used"] == here["chunks"]["over_bytes"] for here in said)

    assert sum(here["used"] for here in figures(nodes).values()) == 16 * MIB, "readers read on"
    eventually(is_over, "all nodes know", 15.0)


def test_many_put_one_name_at_once(clients: list[velum.Client]) -> None:
    """One of them is what it stands for, whole, wherever it is read. A put that is overtaken three
    times says that it may have come to nothing."""
    contents = [noise(random.Random(n), 3 * CHUNK + n) for n in range(5)]

    def put(number: int) -> None:
        for _ in range(5):
            try:
                clients[number].files.put(contents[number], "contended", chunk_bytes=CHUNK)
            except VelumError as error:
                assert error.name == "UNCERTAIN", error

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(put, range(5)))
    found = {client.files.get("contended") for client in clients}
    assert len(found) == 1 and found < set(contents)


def test_equal_chunks_are_stored_once(five: Processes, clients: list[velum.Client]) -> None:
    before = used(five)
    data = noise(random.Random(4), MIB)
    clients[0].files.put(data * 8, "equal/1")
    clients[1].files.put(data * 3, "equal/2")
    assert used(five) - before == 2 * MIB
    clients[2].files.rm("equal/1")
    assert clients[3].files.get("equal/2") == data * 3


def test_names(clients: list[velum.Client]) -> None:
    names = ["a/b//c", "/", "..", "ü/日本/🙂", "with space\nand line", "n" * 4096, "é" * 2048, "\0"]
    for name in names:
        clients[0].files.put(name.encode(), name)
    for name in names:
        assert clients[1].files.get(name) == name.encode()
    listed = [info.name for info in clients[2].files.ls()]
    assert listed == sorted(listed, key=str.encode) and set(names) <= set(listed)
    for name in names:
        clients[3].files.rm(name)
    for wrong in ("", "n" * 4097, "é" * 2048 + "x", "\udcff"):
        for call in (clients[0].files.get, clients[0].files.rm, clients[0].files.stat):
            with pytest.raises(CallerError):
                call(wrong)
        with pytest.raises(CallerError):
            clients[0].files.put(b"x", wrong)


def test_listing_has_every_name_once_and_in_order(clients: list[velum.Client]) -> None:
    names = [f"list/{number:04}" for number in range(650)]
    assert clients[0].files.put_many((name, name.encode()) for name in names) == 650
    assert [info.name for info in clients[1].files.ls("list/")] == names
    assert [info.name for info in clients[2].files.ls("list/01")] == names[100:200]
    assert not list(clients[3].files.ls("list/9"))
    got = dict(clients[4].files.get_many(names))
    assert got == {name: name.encode() for name in names}
    for name in names[::3]:
        clients[0].files.rm(name)
    left = [name for place, name in enumerate(names) if place % 3]
    assert [info.name for info in clients[3].files.ls("list/")] == left


def test_many_clients_at_once(five: Processes) -> None:
    """Each reads back what it put; nobody waits for long for the others."""
    rng = seeded("many clients")

    def work(number: int) -> None:
        with client_of(five, number % 5 + 1) as client:
            data = noise(random.Random(number), 3 * MIB + number)
            for round in range(3):
                client.files.put(data, f"many/{number}/{round}", copies=1)
                assert client.files.get(f"many/{number}/{round}") == data

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, rng.sample(range(8), 8)))


def test_a_full_mesh_refuses_and_loses_nothing(mesh: StartMesh) -> None:
    """Refused whole, with the figures of each node; room that is given back is taken at once."""
    nodes = mesh(3, options=("--ram", "24M"))
    files = nodes.client().files
    expected: dict[str, bytes] = {}
    rng = seeded("full")
    with pytest.raises(ClusterFull) as refused:
        for number in range(100):
            data = noise(rng, 3 * MIB)
            files.put(iter([data]), f"full/{number}")
            expected[f"full/{number}"] = data
    assert refused.value.name == "STORE_FULL"
    assert all(f"node {id}: " in str(refused.value) for id in (1, 2, 3)), refused.value
    taken = len(expected) * 6 * MIB
    eventually(lambda: used(nodes) == taken, "what was put in vain is freed")
    assert space_of(nodes).budget == 72 * MIB and taken > 50 * MIB
    with pytest.raises(ClusterFull):
        files.put(noise(rng, 40 * MIB), "full/large", copies=1)
    with pytest.raises(ClusterFull):  # of unknown size: what was sent is freed again
        files.put(iter([noise(rng, MIB) for _ in range(40)]), "full/stream", copies=1)
    eventually(lambda: used(nodes) == taken, "what was put in vain is freed")
    assert [info.name for info in files.ls()] == sorted(expected)
    assert_reads(files, expected)
    for number in range(len(expected) // 2):
        files.rm(f"full/{number}")
        del expected[f"full/{number}"]
    for number in range(len(expected)):  # at once: what is over makes room
        data = noise(rng, 2 * MIB)
        files.put(iter([data]), f"again/{number}")
        expected[f"again/{number}"] = data
    assert_reads(files, expected)
    assert all(here["used"] <= here["budget"] for here in figures(nodes).values())


PUTTER = """
import random, sys, velum
blocks = [random.Random(n).randbytes(1 << 20) for n in range(50)]
with velum.connect(sys.argv[1]) as client:
    client.files.put((n.to_bytes(4) + blocks[n % 50][4:] for n in range(200)), "beside", copies=2)
"""


def test_calls_go_on_while_files_are_put(five: Processes, clients: list[velum.Client]) -> None:
    """One call after the other, of all nodes in turn, beside a put of 200 MiB in two copies."""
    took: list[float] = []

    def call(number: int) -> None:
        began = time.perf_counter()
        assert clients[0].spawn("add", number, 1, node=number % 5 + 1).result(PATIENCE_S) > 0
        took.append((time.perf_counter() - began) * 1000)

    def median(values: list[float]) -> float:
        return sorted(values)[len(values) // 2]

    for number in range(200):
        call(number)
    before, took = median(took), []
    five.events.clear()
    with subprocess.Popen([sys.executable, "-c", PUTTER, five.address(2)]) as putter:
        number = 0
        while putter.poll() is None:
            call(number)
            number += 1
    assert putter.returncode == 0
    during = median(took)
    print(f"a call takes {before:.2f} ms, {during:.2f} ms beside a put, {max(took):.0f} at most")
    assert during < 10 * before + 20
    assert max(took) < 1000
    assert not [e for _, _, e in five.events if e.get("state") in ("suspect", "dead")]
