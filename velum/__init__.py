"""Velum: one leaderless computer out of any set of machines.

    import velum

    velum.init(1, 8001)                                  # start a node in this process ...
    velum.spawn("add", 10, 20).result()                  # ... 30, from the least busy node
    velum.spawn_wasm("sum.wasm", "sum", 10, 20, 30).result()
    velum.spawn_wasm_distributed("primes.wasm", "count_primes", 0, 50_000_000).result()

or, without being a member, `with velum.connect() as mesh: mesh.spawn("add", 10, 20)`. The parts are
imported when they are first used, so that a short command starts fast.
"""

# ruff: noqa: F401  (names for type checkers; at run time __getattr__ finds them)
from __future__ import annotations

import atexit
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from velum.api import Mesh, ModuleLike, NodeInfo, Number, TaskFuture
    from velum.client import Client, connect
    from velum.errors import (
        CallerError,
        CasConflict,
        ClusterFull,
        FileDamaged,
        FileMissing,
        GuestTrap,
        JoinRefused,
        KvRefused,
        NoQuorum,
        PeerLost,
        TaskStopped,
        VelumError,
        WrongType,
    )
    from velum.executor import MeshExecutor, WasmFunction
    from velum.filebackend import FileInfo
    from velum.files import Files
    from velum.kv import Kv
    from velum.node import Node
    from velum.robots import RobotNode
    from velum.scatterjob import Progress, ScatterJob

_WHERE = {
    "CallerError": "errors",
    "CasConflict": "errors",
    "Client": "client",
    "ClusterFull": "errors",
    "FileDamaged": "errors",
    "FileInfo": "filebackend",
    "FileMissing": "errors",
    "Files": "files",
    "GuestTrap": "errors",
    "JoinRefused": "errors",
    "Kv": "kv",
    "KvRefused": "errors",
    "MeshExecutor": "executor",
    "NoQuorum": "errors",
    "Node": "node",
    "NodeInfo": "api",
    "PeerLost": "errors",
    "Progress": "scatterjob",
    "RobotNode": "robots",
    "ScatterJob": "scatterjob",
    "TaskFuture": "api",
    "TaskStopped": "errors",
    "VelumError": "errors",
    "WasmFunction": "executor",
    "WrongType": "errors",
    "connect": "client",
}

__all__ = ["init", "shutdown", "spawn", "spawn_wasm", "spawn_wasm_distributed", *_WHERE]

_lock = threading.Lock()
_node: Node | None = None
_client: Client | None = None  # of `default_mesh` in a program without a node


def init(id: int, port: int | None = None, **options: Any) -> Node:
    """Starts this process's node, which `spawn` and `spawn_wasm` use; options as for `Node`.

    Raises VelumError ARGUMENT when there is one already.
    """
    from velum.errors import code_of, error_from
    from velum.node import Node

    global _node
    with _lock:
        if _node is not None and not _node.stopped:
            raise error_from(
                code_of("ARGUMENT"),
                f"velum.init was called before: node {_node.id} runs in this process; "
                "call velum.shutdown() first",
            )
        _node = Node(id, port, **options)
        atexit.register(shutdown)
        return _node


def shutdown() -> None:
    """Stops the node that `init` started; does nothing when there is none."""
    global _node
    with _lock:
        node, _node = _node, None
    if node is not None:
        node.close()


def _default() -> Node:
    if _node is None:
        from velum.errors import code_of, error_from

        raise error_from(
            code_of("ARGUMENT"),
            "no node in this process: call velum.init(id) first, or use velum.connect()",
        )
    return _node


def spawn(name: str, *args: Number, **options: Any) -> TaskFuture:
    """Calls a built-in on the least busy node; see `Mesh.spawn`."""
    return _default().spawn(name, *args, **options)


def spawn_wasm(module: ModuleLike, func: str, *args: Number, **options: Any) -> TaskFuture:
    """Calls a WebAssembly function on the least busy node; see `Mesh.spawn_wasm`."""
    return _default().spawn_wasm(module, func, *args, **options)


def spawn_wasm_distributed(
    module: ModuleLike, func: str, start: int, end: int, *args: Number, **options: Any
) -> ScatterJob:
    """Calls a WebAssembly function on slices of [start, end) over the whole mesh, and combines the
    values; see `Mesh.scatter`.

    Uses the node that `init` started. Without one it attaches to the first node found on this
    machine, and stays attached for later calls until the program ends. Raises PeerLost UNREACHABLE
    when there is none.
    """
    return default_mesh().scatter(module, func, start, end, *args, **options)


def default_mesh() -> Mesh:
    """The node that `init` started; in a program without one the first found on this machine, to
    which it stays attached until it ends. Raises PeerLost UNREACHABLE when there is none."""
    return _node if _node is not None else _attached()


def _attached() -> Client:
    global _client
    from velum.client import connect

    with _lock:
        if _client is None or _client.closed:
            _client = connect()
            atexit.register(_client.close)
        return _client


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("velum")
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(f"velum.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'velum' has no attribute {name!r}")
