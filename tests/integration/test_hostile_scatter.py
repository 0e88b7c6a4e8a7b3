"""A scatter among peers that do not behave: its answer stays right, and its nodes live on."""

from __future__ import annotations

import pytest

import velum
from tests.integration import hostile
from tests.integration.hostile import Peer
from tests.integration.meshes import (
    GUESTS,
    PATIENCE_S,
    Processes,
    StartMesh,
    eventually,
    seeded,
)
from tests.vectors import protocol
from velum.policy.job import LEASE_BIT
from velum.scatterjob import ScatterJob

LONG_END, LONG = 2_000_000, 148_933
GROWTH_MIB = 100
JOBS = hostile.vectors("jobs")
# A node that lies has to be a node: it says HELLO with an id of its own.
LIAR = 900


@pytest.fixture(scope="module")
def two(shared_mesh: StartMesh) -> Processes:
    return shared_mesh(2)


def running(client: velum.Client) -> ScatterJob:
    job = client.scatter(GUESTS / "primes.wasm", "count_primes", 0, LONG_END)
    eventually(lambda: job.progress().done > 0, "some slices are done")
    return job


def attacked(two: Processes, role: int, frames: list[bytes]) -> None:
    """Sends these to both nodes while a scatter runs, and checks what comes of it."""
    before = two.rss_mib(1)
    with velum.connect(two.address(1)) as client:
        job = running(client)
        for at in (1, 2):
            id = 0 if role == protocol.CLIENT else LIAR
            with Peer(two.port(at), hostile.hello(role=role, id=id, port=9)) as peer:
                peer.until("HELLO")
                for frame in frames:
                    peer.send(frame)
                peer.send(protocol.build("PING", 99))
                peer.end()
                for heard in peer.frames():  # it answers, or it has closed
                    if heard.name == "PONG" and heard.correlation == 99:
                        break
        assert job.result(PATIENCE_S) == LONG
    assert two.rss_mib(1) - before < GROWTH_MIB
    eventually(two.is_whole, "the mesh is whole")


@pytest.mark.parametrize("role", [protocol.CLIENT, protocol.NODE, protocol.LEAF])
def test_right_frames_that_nobody_asked_for(two: Processes, role: int) -> None:
    attacked(two, role, list(JOBS.values()))


@pytest.mark.parametrize("role", [protocol.CLIENT, protocol.NODE, protocol.LEAF])
def test_mutated_frames(two: Processes, role: int) -> None:
    rng = seeded(f"mutated job frames of role {role}")
    for _ in range(3):
        attacked(two, role, [hostile.mutated(rng.choice(list(JOBS.values())), rng)] * 2)


def test_a_strangers_report_does_not_count(two: Processes) -> None:
    """Somebody who was granted nothing reports under tickets that may exist, for another job."""
    value = {"first": 0, "values_": [1 << 40] * 64}
    frames = [
        protocol.build("SLICES", LEASE_BIT | n, job=77, flags=1, busy_us=1, runs=[value], failed=[])
        for n in range(1, 50)
    ]
    frames += [
        protocol.build("ERROR", LEASE_BIT | n, code=62, node=LIAR, deaths=3, text="trap")
        for n in range(1, 200)
    ]
    attacked(two, protocol.NODE, frames)


def test_many_specs_of_the_largest_kind_are_bounded(two: Processes) -> None:
    """A node holds copies for others, but not without end."""
    before = two.rss_mib(1)
    fields = protocol.parse(JOBS["scatter_full"]).fields
    with Peer(two.port(1), hostile.hello(role=protocol.NODE, id=LIAR, port=9)) as peer:
        peer.until("HELLO")
        for job in range(1, 200):
            peer.send(protocol.build("SCATTER", 0, **{**fields, "job": job}))
        peer.send(protocol.build("PING", 99))
        for heard in peer.frames():
            if heard.name == "PONG":
                break
    assert two.rss_mib(1) - before < 700
    with velum.connect(two.address(1)) as client:
        assert running(client).result(PATIENCE_S) == LONG
