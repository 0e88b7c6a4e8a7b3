"""Fixtures of the integration tests: meshes that end with the test or the module that made them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.integration.meshes import Processes, StartMesh
from velum.machine import free_beacon_port

# What runs in the background of a shell ignores SIGINT, and all that it starts would do so too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def _starter() -> Iterator[StartMesh]:
    with ExitStack() as stack:

        def start(
            count: int, *, workers: int = 1, options: tuple[str, ...] = (), beacons: bool = True
        ) -> Processes:
            mesh = Processes(workers, options, beacons)
            stack.callback(mesh.stop)
            if count:
                mesh.start(range(1, count + 1))
            return mesh

        yield start


@pytest.fixture
def mesh() -> Iterator[StartMesh]:
    """mesh(n, workers=..., options=..., beacons=...): nodes 1 to n, which see each other."""
    with _starter() as start:
        yield start


@pytest.fixture(scope="module")
def shared_mesh() -> Iterator[StartMesh]:
    """The same, for a mesh that the tests of a module share."""
    with _starter() as start:
        yield start


@pytest.fixture
def beacon_port() -> int:
    """A beacon port that nobody else uses."""
    return free_beacon_port()
