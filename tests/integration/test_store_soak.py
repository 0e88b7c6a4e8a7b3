"""Files in RAM at the size that was asked for: a thousand files, and nodes that die.

Run by `make soak`. One mesh of five with two copies of everything, one of six with stripes of 4+2.
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.integration.meshes import Processes, StartMesh, eventually, seeded
from tests.integration.stores import (
    MIB,
    assert_reads,
    client_of,
    figures,
    used,
    wait_gone,
    wait_whole,
)

pytestmark = pytest.mark.soak

FILES = 1000
LARGEST = 64 * MIB
LARGE = 12  # of them this large or nearly: what a machine with 8 GiB can hold twice
THREADS = 4
HEAL_S = 180.0


class Contents:
    """What each file holds, made anew from its seed whenever it is compared."""

    def __init__(self, what: str) -> None:
        rng = seeded(what)
        self.rng = rng
        small = [int(2 ** rng.uniform(0, 20)) for _ in range(FILES - LARGE - 2)]
        large = [rng.randrange(LARGEST // 2, LARGEST) for _ in range(LARGE)]
        self.sizes = [0, LARGEST, *large, *small]
        self._seeds = [rng.randrange(1 << 32) for _ in self.sizes]

    def of(self, number: int) -> bytes:
        return random.Random(self._seeds[number]).randbytes(self.sizes[number])


def put_all(nodes: Processes, contents: Contents, **coding: Any) -> None:
    """Through random nodes, several at once."""

    def put(number: int) -> None:
        with client_of(nodes, contents.rng.choice(nodes.running())) as client:
            client.files.put(contents.of(number), f"soak/{number}", **coding)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(put, contents.rng.sample(range(FILES), FILES)))


def check_all(nodes: Processes, contents: Contents) -> None:
    """Every file reads back through some node, and every node lists all of them."""

    def check(number: int) -> None:
        with client_of(nodes, contents.rng.choice(nodes.running())) as client:
            assert_reads(client.files, {f"soak/{number}": contents.of(number)})

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(check, range(FILES)))
    names = sorted(f"soak/{number}" for number in range(FILES))
    for id in nodes.running():
        with client_of(nodes, id) as client:
            assert [info.name for info in client.files.ls("soak/")] == names


@pytest.mark.parametrize(
    ("count", "killed", "coding"),
    [(5, 1, {"copies": 2}), (6, 2, {"ec": (4, 2)})],
    ids=["two copies, one killed", "4+2, two killed"],
)
def test_a_thousand_files(mesh: StartMesh, count: int, killed: int, coding: dict[str, Any]) -> None:
    nodes = mesh(count, options=("--ram", "1G"))
    contents = Contents(f"thousand {coding}")
    put_all(nodes, contents, **coding)
    check_all(nodes, contents)
    print(f"settled {wait_whole(nodes, HEAL_S, deep=True):.1f} s after the puts")
    before = used(nodes)
    dead = contents.rng.sample(range(1, count + 1), killed)
    for id in dead:
        nodes.kill(id)
    wait_gone(nodes, *dead)
    check_all(nodes, contents)
    print(f"whole {wait_whole(nodes, HEAL_S):.1f} s after all was read beside the dead {dead}")
    check_all(nodes, contents)
    print(f"settled {wait_whole(nodes, HEAL_S, deep=True):.1f} s later")
    nodes.start(dead, again=True)
    print(f"settled {wait_whole(nodes, HEAL_S, deep=True):.1f} s after they came back")
    eventually(lambda: used(nodes) <= before, "surplus is dropped", HEAL_S)
    check_all(nodes, contents)
    for here in figures(nodes).values():
        assert here["used"] <= here["budget"] and here["chunks"]["bad"] == 0
    with client_of(nodes, 1) as client:
        for number in range(FILES):
            client.files.rm(f"soak/{number}")
        assert not list(client.files.ls())
    eventually(lambda: used(nodes) == 0, "all is freed", HEAL_S)
