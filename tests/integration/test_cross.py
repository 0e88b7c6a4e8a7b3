"""velum-worker built for other machines, run under QEMU's user-mode emulation as a member of a mesh
with a native Python node: what they compute is what everybody computes.

`make cross` builds the programs (tools/cross.py) and runs this with VELUM_CROSS=1, under which
nothing is skipped.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.integration.meshes import GUESTS, PATIENCE_S, Processes, StartMesh, answers
from tests.integration.native import ROOT, NativeNode, member, wait_state
from velum.client import Client
from velum.errors import GuestTrap, TaskStopped

sys.path.insert(0, str(ROOT / "tools"))
from cross import BUILD, MACHINES  # noqa: E402  (tools is no package)

pytestmark = pytest.mark.soak

IDS = {machine.name: 200 + place for place, machine in enumerate(MACHINES)}


@pytest.fixture(scope="module")
def nodes(shared_mesh: StartMesh) -> Processes:
    return shared_mesh(1)


@pytest.fixture(scope="module")
def client(nodes: Processes) -> Client:
    return nodes.client()


def emulated(name: str) -> list[str | Path]:
    """The command that runs a machine's program here; skips when there is none."""
    emulator = shutil.which(f"qemu-{name}-static") or shutil.which(f"qemu-{name}")
    program = BUILD / name / "velum-worker"
    missing = ""
    if emulator is None:
        missing = f"no qemu-{name}-static: apt-get install qemu-user-static"
    elif not program.exists():
        missing = f"no {program.relative_to(ROOT)}: make cross"
    if missing and os.environ.get("VELUM_CROSS") != "1":
        pytest.skip(missing)
    assert not missing, missing
    assert emulator is not None
    return [emulator, program]


@pytest.mark.parametrize("name", IDS)
def test_an_emulated_machine_is_a_member(name: str, nodes: Processes, client: Client) -> None:
    id = IDS[name]
    with NativeNode(emulated(name), id, "--join", nodes.address(1)) as leaf:
        wait_state(client, id, "alive")
        row = member(client, id)
        assert row is not None and (row.role, row.slots, row.address) == ("leaf", 1, leaf.address)

        def run(guest: str, function: str, *args: float) -> object:
            module = str(GUESTS / f"{guest}.wasm")
            future = client.spawn_wasm(module, function, *args, node=id, timeout=PATIENCE_S)
            value = future.result(PATIENCE_S)
            assert future.node == id
            return value

        assert run("sum", "sum", 10, 20, 30) == 60
        assert run("primes", "count_primes", 0, 100_000) == 9592
        assert client.spawn("div", -7, 2, node=id).result(PATIENCE_S) == -3
        assert client.spawn("mul", 0.5, 3.0, node=id).result(PATIENCE_S) == 1.5
        with pytest.raises(GuestTrap, match="unreachable"):
            run("traps", "unreachable")
        with pytest.raises(TaskStopped):
            module = str(GUESTS / "loop.wasm")
            client.spawn_wasm(module, "forever", node=id, timeout=0.3).result(PATIENCE_S)
        assert answers([client.spawn("add", n, n, node=id) for n in range(50)]) == [
            2 * n for n in range(50)
        ]
        status, _ = leaf.leave()
        assert status == 0
        wait_state(client, id, "left")
