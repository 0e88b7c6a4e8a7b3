"""Files in the RAM of three nodes, as one client puts and gets them; and copies that are remade.

Owns the mesh, Velum as a system of storage_work.py, and the section `rebuild`: one of three nodes
is killed, and the two that are left give each other what they lack, as fast as they can.

The same bytes would be kept once: they are stamped anew before every put. Values of one large file
come back into a buffer of the caller's, which is there from before, and as new bytes in a row of
their own. What a rebuild carries is read from the loopback's own counter, so that nothing has to be
asked of nodes that work; that the copies are whole is shown by killing another node: everything can
still be read.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from figures import say
from scaling_meshes import free
from storage_plain import DEFAULT, link_rates
from storage_work import MIB, Load, Pair, PythonSystem, Step, source

from velum.client import connect
from velum.errors import VelumError
from velum.localmesh import LocalMesh

NODES = 3
RAM = "1G"  # of a node: two versions of 1 GiB fit into three, as a put that replaces needs
STAMP_BYTES = 4096  # no chunk and no file is shorter
HEARD_S = 3.0  # budgets travel with the members' health

REBUILD_RAM = "3G"  # of a node: two survivors hold all of it
REBUILD_FILES = 2
COPIES = 2
LINK_BYTES = 512 * MIB  # that two processes of plain C send each other
LOOK_S = 0.005
QUIET_S = 4.0  # nodes begin to repair 2 s after a death
QUIET_BYTES = MIB  # less than that in QUIET_S is gossip
LEAST_SHARE = 0.85  # of what a third of all copies would be: shares of a random placement
WHOLE_S = 120.0


@contextlib.contextmanager
def mesh(ram: str, *more: str) -> Iterator[tuple[LocalMesh, Any]]:
    """Three nodes, and a client of the first."""
    with free(NODES, 0, "--ram", ram, *more) as nodes:
        time.sleep(HEARD_S)
        with connect(nodes.nodes[1].address) as client:
            yield nodes, client


def missing() -> str | None:
    """Why this build cannot be measured, or None."""
    try:
        with mesh(RAM) as (_, client):
            return None if hasattr(client, "files") else "this build of velum has no files"
    except VelumError as error:
        return str(error)


def control_in_use(nodes: LocalMesh) -> str:
    """The congestion control of that connection with a node which has carried most; empty where
    `ss` cannot say it."""
    if shutil.which("ss") is None:
        return ""
    known = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
    ports = {node.address.rpartition(":")[2] for node in nodes.nodes.values()}
    said = subprocess.run(["ss", "-tinHO"], stdout=subprocess.PIPE, text=True).stdout
    found = [(0, "")]
    for line in said.splitlines():
        words = line.split()
        if {word.rpartition(":")[2] for word in words[3:5]} & ports:
            counts = [word.partition(":") for word in words if word.startswith("bytes_")]
            moved = sum(int(n) for what, _, n in counts if what in ("bytes_sent", "bytes_received"))
            found += [(moved, word) for word in words if word in known]
    return max(found)[1]


# ---- values ----


class Velum(PythonSystem):
    """Files in one copy, through one client."""

    kind = "velum"

    def __init__(self, nodes: LocalMesh, files: Any) -> None:
        super().__init__("velum")
        self._nodes = nodes
        self._files = files
        self._data = bytearray()
        self._target = bytearray()

    def steps(self, load: Load) -> list[tuple[str, str, Step]]:
        more: list[tuple[str, str, Step]] = []
        if load.count == 1:
            more.append(("velum, as new bytes", "get", super().get))
        return [*super().steps(load), *more]

    def values(self, load: Load) -> Sequence[Any]:
        if len(self._data) != load.bytes:
            self._data = bytearray(source(load.bytes))
            self._target = bytearray(self._data)  # touched
        if load.count == 1:
            return [self._data]
        return [bytes(self._data[at : at + load.size]) for at in range(0, load.bytes, load.size)]

    def put(self, load: Load) -> float:
        self.values(load)
        words = memoryview(self._data).cast("Q")[:: STAMP_BYTES // 8]
        words[:] = memoryview(array("Q", [self._puts]) * len(words))
        words.release()
        seconds = super().put(load)
        self.control = control_in_use(self._nodes)
        return seconds

    def get(self, load: Load) -> float:
        if load.count > 1:
            return super().get(load)
        (name,) = self.names(load)
        began = time.perf_counter()
        self._files.readinto(name, self._target)
        return time.perf_counter() - began

    def check(self, load: Load) -> bool:
        if load.count == 1:
            self._target[:] = bytes(load.bytes)
            self.get(load)
            if self._target != self._data:
                return False
        return super().check(load)

    def forget(self, load: Load) -> None:
        super().forget(load)
        self._data, self._target = bytearray(), bytearray()

    def put_one(self, name: str, value: bytes) -> None:
        self._files.put(value, name, copies=1)

    def get_one(self, name: str) -> Any:
        return self._files.get(name)

    def put_many(self, some: Sequence[Pair]) -> None:
        self._files.put_many(some, copies=1)

    def get_many(self, names: Sequence[str]) -> Sequence[Any]:
        return [value for _, value in self._files.get_many(names)]

    def remove(self, name: str) -> None:
        self._files.rm(name)


# ---- copies that are remade ----


def rebuild(program: Path, rounds: int, size: int) -> list[dict[str, Any]]:
    """Rounds of: what a link of plain C carries, a rebuild, and that link again, which has Velum's
    congestion control from the first rebuild on; what was before that does not count."""
    runs: list[dict[str, Any]] = []
    control = DEFAULT
    for number in range(rounds):
        before = link_rates(program, control, min(LINK_BYTES, size))
        run = rebuilt(size)
        control = run["control"] or DEFAULT
        after = link_rates(program, control, min(LINK_BYTES, size))
        run["links"] = {ways: mean([before[ways], after[ways]]) if runs else after[ways]
                        for ways in after}  # fmt: skip
        runs.append(run)
        say(f"rebuild {number + 1}: {run}")
    return runs


def rebuilt(size: int) -> dict[str, Any]:
    """Seconds from a node's death until its copies are remade, and how fast they were."""
    with mesh(REBUILD_RAM, "--repair-rate", "max") as (nodes, client):
        data = {f"file-{i}": os.urandom(size) for i in range(REBUILD_FILES)}
        for name, value in data.items():
            client.files.put(value, name, copies=COPIES)
        least = round(LEAST_SHARE * COPIES * size * len(data) / NODES)
        control = control_in_use(nodes)
        watch(0)
        nodes.kill(NODES)
        seen = watch(least)
        nodes.kill(NODES - 1)
        target = bytearray(size)
        for name, value in data.items():
            client.files.readinto(name, target)
            if target != value:
                raise SystemExit(f"{name} is not what was put")
    return {**progress(seen), "control": control}


def carried() -> int:
    """Bytes that the loopback has carried."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == "lo":
            return int(counts.split()[0])
    raise SystemExit("this machine's loopback is not called lo")


def watch(least: int) -> list[tuple[float, int]]:
    """(seconds, bytes carried) from now until at least so many were, and then nothing for a
    while."""
    began, start = time.monotonic(), carried()
    seen = [(0.0, 0)]
    moved = (0.0, 0)  # when it last was more than gossip
    while True:
        now, count = time.monotonic() - began, carried() - start
        seen.append((now, count))
        if count - moved[1] > QUIET_BYTES:
            moved = (now, count)
        if count >= least and now - moved[0] > QUIET_S:
            return seen
        if now > WHOLE_S:
            raise SystemExit(f"after {WHOLE_S:.0f} s {count} bytes were carried, not {least}")
        time.sleep(LOOK_S)


def progress(seen: Sequence[tuple[float, int]]) -> dict[str, Any]:
    """What was carried, when the last of it, and how fast its middle eight tenths."""
    total = seen[-1][1]

    def when(share: float) -> float:
        return next(at for at, count in seen if count >= share * total)

    rate = 0.8 * total / max(when(0.9) - when(0.1), LOOK_S)
    return {"bytes": total, "seconds": when(0.99), "rate": rate}
