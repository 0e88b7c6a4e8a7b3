"""What the tests of files in RAM share: bytes to put, and waiting until a mesh has settled.

Owns: looking at all nodes' figures at once, and what "whole" and "nothing left behind" mean of
them. Refuses to know what a test does to the mesh.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import velum
from tests.integration.meshes import PATIENCE_S, Processes, eventually
from velum.client import Client
from velum.errors import VelumError
from velum.filebackend import Space
from velum.files import Files

KIB = 1 << 10
MIB = 1 << 20
RAM = ("--ram", "192M")
LOOK_S = 0.1  # between two looks: each asks every node
SETTLE_S = 60.0  # repair of what these tests store: seconds on an idle machine


def noise(rng: random.Random, size: int) -> bytes:
    """Bytes of which no two chunks are equal."""
    return rng.randbytes(size)


def blocks(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """The same in blocks of any size, as a generator has it."""
    at = 0
    while at < len(data):
        size = rng.choice((1, 7, 1000, 64 * KIB, 300 * KIB, MIB + 1))
        yield data[at : at + size]
        at += size


@contextmanager
def client_of(nodes: Processes, id: int) -> Iterator[Client]:
    """A client of one node, closed at once."""
    with velum.connect(nodes.address(id), timeout=5.0) as client:
        yield client


def figures(nodes: Processes) -> dict[int, dict[str, Any]]:
    """What each running node says of its store."""
    said = {}
    for id in nodes.running():
        with client_of(nodes, id) as client:
            said[id] = client.status()["store"]
    return said


def space_of(nodes: Processes) -> Space:
    """`df`, by the first running node."""
    with client_of(nodes, nodes.running()[0]) as client:
        return client.files.df()


def unrest(nodes: Processes, deep: bool) -> str:
    """Why the mesh has not settled yet; "" if all files are whole. `deep`: and every node knows
    that of each of its chunks, and has nothing that is not its own to keep."""
    try:
        space = space_of(nodes)
        said = figures(nodes) if deep else {}
    except VelumError as error:
        return str(error)
    if {node.node for node in space.nodes} != set(nodes.running()):
        return f"{[node.node for node in space.nodes]} answer"
    totals = {name: getattr(space, name) for name in ("unchecked", "at_risk", "damaged")}
    totals["repair_bytes"] = space.repair_bytes
    for name in ("unconfirmed", "at_risk", "lost", "repair_bytes", "loose_bytes"):
        totals[f"chunks.{name}"] = sum(here["chunks"][name] for here in said.values())
    totals["formers"] = sum(here["names"]["formers"] for here in said.values())
    left = {name: count for name, count in totals.items() if count}
    return str(left) if left else ""


def wait_whole(nodes: Processes, within: float = SETTLE_S, deep: bool = False) -> float:
    """Waits until every file is whole, as `unrest` says; the seconds it took."""
    began = time.monotonic()
    while left := unrest(nodes, deep):
        waited = time.monotonic() - began
        assert waited < within, f"not whole within {within} s: {left}"
        time.sleep(LOOK_S)
    return time.monotonic() - began


def used(nodes: Processes) -> int:
    """Bytes of chunks in the whole mesh, what arrives included."""
    return space_of(nodes).used


def assert_reads(files: Files, expected: dict[str, bytes]) -> None:
    """Every file is what it should be; says which is not."""
    for name, data in expected.items():
        assert files.get(name) == data, f"{name}, {len(data)} bytes, reads back otherwise"


def wait_gone(nodes: Processes, *ids: int) -> None:
    """Waits until no running node sees these any more."""
    eventually(lambda: nodes.is_gone(*ids), f"{ids} are given up", PATIENCE_S)
