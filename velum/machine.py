"""What this machine offers a node: ports, beacons, limits, versions, the worker program.

Owns the examination behind `velum doctor`, and finding a free beacon port for a mesh that must not
meet another. Refuses to know how findings are shown. Works by doing what a node would do (listen,
send and hear a beacon, run the worker) and saying what came of it and what to do.
"""

from __future__ import annotations

import os
import platform
import resource
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import psutil

from velum import _core, addresses
from velum.client import connect, find_nodes
from velum.errors import VelumError, code_of
from velum.node import beacon_sockets
from velum.policy import types
from velum.workers import worker_program

PYTHON_MIN = (3, 10)
DESCRIPTORS_MIN = 1024  # select() serves no descriptor above; a node holds up to 256 links
FREE_MIB_MIN = 128  # a node, its workers and one small guest
HEAR_S = 0.5  # loopback takes microseconds; a loaded machine takes longer
FIND_S = 0.6  # three questions, as a client asks them
WORKER_S = 5.0


@dataclass(frozen=True)
class Finding:
    """One thing looked at: its `level` is "ok", "warn" or "fail"; `advice` says what to do."""

    name: str
    level: str
    text: str
    advice: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


def examine(node: int, host: str, beacon_port: int) -> Iterator[Finding]:
    """Looks at everything a node `node` on `host` would need, one finding after the other."""
    yield check_python()
    yield check_versions()
    yield check_worker()
    yield check_port(host, addresses.TCP_PORT_BASE + node)
    yield check_beacon(host, beacon_port)
    yield check_mesh(beacon_port)
    yield check_descriptors()
    yield check_memory()


def check_python() -> Finding:
    """The interpreter is new enough."""
    text = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < PYTHON_MIN:
        return Finding("python", "fail", text, "velum needs Python 3.10 or newer")
    return Finding("python", "ok", text)


def check_versions() -> Finding:
    """The installed package and the compiled core are of one version."""
    core = _core.C_VERSION
    try:
        package = metadata.version("velum")
    except metadata.PackageNotFoundError:
        return Finding(
            "versions", "warn", f"core {core}; velum is not installed", "pip install velum"
        )
    text = f"package {package}, core {core}, wire {_core.WIRE_VERSION}"
    if package != core:
        return Finding("versions", "fail", text, "the core is of another build: reinstall velum")
    return Finding("versions", "ok", text)


def check_worker() -> Finding:
    """The worker program is there, starts, and is of this version."""
    try:
        program = worker_program()
    except VelumError as error:
        return Finding("worker", "fail", str(error), "pip install --force-reinstall velum")
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=WORKER_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("worker", "fail", f"{program}: {error}", "reinstall velum on this machine")
    said = done.stdout.strip()
    if _core.C_VERSION not in said.split():
        advice = "the worker is of another build: reinstall velum, or unset VELUM_WORKER"
        return Finding("worker", "fail", f"{program} is {said!r}", advice)
    return Finding("worker", "ok", f"{said} ({program})")


def check_port(host: str, port: int) -> Finding:
    """A node could listen on the port; else who does."""
    name = f"port {port}"
    if port > 65535:
        return Finding(name, "warn", "is no port", "this node needs --port N")
    hub = _core.Hub(links_max=1)
    try:
        hub.identity(role=types.CLIENT)
        hub.serve((addresses.ip_number(host), port))
        return Finding(name, "ok", f"free on {host}")
    except VelumError as error:
        return Finding(name, "fail", str(error), "name an address of this machine with --host")
    except _core.CoreError as error:
        if error.code != code_of("ADDRESS_IN_USE"):
            return Finding(name, "fail", f"{host}: {error}", "is that an address of this machine?")
    finally:
        hub.close()
    node = _node_at(f"{host}:{port}")
    if node is not None:
        return Finding(name, "ok", f"velum node {node} runs there")
    advice = "stop that program, or start the node with --port N"
    return Finding(name, "warn", f"taken by {_holder(port)}", advice)


def _node_at(address: str) -> int | None:
    try:
        with connect(address, timeout=HEAR_S) as mesh:
            return int(mesh.status()["id"])
    except VelumError:
        return None


def _holder(port: int) -> str:
    """The program that listens on a TCP port, as far as this user may know."""
    try:
        for entry in psutil.net_connections("tcp"):
            here = entry.status == psutil.CONN_LISTEN and entry.laddr[1:] == (port,)
            if here and entry.pid:
                return f"{psutil.Process(entry.pid).name()} (process {entry.pid})"
    except psutil.Error:
        pass
    return "another program"


def check_beacon(host: str, port: int) -> Finding:
    """A beacon sent as a node would send it is heard where a node would listen."""
    name = f"beacon {port}"
    without = "start nodes with --join HOST:PORT instead of beacons, or choose --beacon-port"
    hub = _core.Hub(links_max=1)
    try:
        sockets = beacon_sockets(host, port)
        assert sockets is not None  # only a node without beacons has none
        heard_at, sent_to = sockets
        hub.udp(heard_at, shared=True)
        sender, _ = hub.udp((addresses.ip_number(host), 0))
        where = addresses.address_text(sent_to)
        if _is_heard(hub, sender, sent_to):
            return Finding(name, "ok", f"sent to {where} and heard")
        return Finding(name, "fail", f"sent to {where}, not heard", f"a firewall? {without}")
    except (VelumError, _core.CoreError) as error:
        return Finding(name, "fail", str(error), without)
    finally:
        hub.close()


def _is_heard(hub: _core.Hub, sender: int, to: addresses.Address) -> bool:
    """Sends a beacon that no node answers (sender 0, not asking) and waits for it."""
    token = secrets.randbits(63) | 1
    beacon = (types.BEACON, 0, 0, 0, token, (0, 0), types.CLIENT, 0, None, ())
    hub.udp_send(sender, to, beacon)
    end = time.monotonic() + HEAR_S
    while (left := end - time.monotonic()) > 0:
        for event in hub.poll(round(left * 1e6)):
            if event[0] == _core.DATAGRAM and event[3][4] == token:
                return True
    return False


def check_mesh(beacon_port: int) -> Finding:
    """A running node is found on this machine."""
    found = [addresses.address_text(address) for address in find_nodes(beacon_port, FIND_S)]
    if not found:
        return Finding("mesh", "warn", "no node runs on this machine", "start one: velum node 1")
    return Finding("mesh", "ok", f"found {', '.join(sorted(found))}")


def check_descriptors() -> Finding:
    """The process may open enough files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = "no limit" if hard == resource.RLIM_INFINITY else f"at most {hard}"
    text = f"{soft} open files ({most})"
    if soft != resource.RLIM_INFINITY and soft < DESCRIPTORS_MIN:
        return Finding("files", "warn", text, f"ulimit -n {DESCRIPTORS_MIN}")
    return Finding("files", "ok", text)


def check_memory() -> Finding:
    """Some memory is free."""
    free_mib = psutil.virtual_memory().available >> 20
    text = f"{free_mib} MiB of RAM free, {os.cpu_count()} CPUs"
    if free_mib < FREE_MIB_MIN:
        return Finding("memory", "warn", text, "few or small guests only: --workers 1 --memory 16M")
    return Finding("memory", "ok", text)


def free_beacon_port() -> int:
    """A UDP port that no beacon uses now; the system picks it."""
    hub = _core.Hub(links_max=1)
    try:
        _, (_, port) = hub.udp((addresses.ip_number("127.255.255.255"), 0))
        return int(port)
    finally:
        hub.close()
