"""Velum and its rivals, set up side by side: nodes and servers as processes on a chosen CPU."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from servers import process

from velum.localmesh import LocalMesh
from velum.machine import free_beacon_port
from velum.node import Node

HERE = Path(__file__).parent


@contextlib.contextmanager
def pinned(cpu: int) -> Iterator[None]:
    """Processes started in here run on that CPU."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def mesh_of_two(cpu: int, workers: int = 0) -> Iterator[Node]:
    """Node 1 in this process, node 2 as a process on another CPU; both know each other."""
    beacon_port = free_beacon_port()
    options = ["--beacon-port", str(beacon_port), "--workers", str(workers)]
    with pinned(cpu):
        other = LocalMesh([2], ports=lambda _: 0, options=options)
    with other, Node(1, 0, beacon_port=beacon_port, workers=workers) as node:
        other.wait_complete(10)
        while node.spawn("add", 1, 2, node=2).exception() is not None:
            pass
        yield node


@contextlib.contextmanager
def rival(kind: str, cpu: int, *more: str) -> Iterator[int]:
    """A process of rivals.py; the port it serves on."""
    with process([sys.executable, str(HERE / "rivals.py"), kind, str(cpu), *more]) as started:
        assert started.stdout is not None
        yield int(started.stdout.readline())
