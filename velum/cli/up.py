"""``velum up N``: a mesh of N nodes in one terminal.

Owns what is printed of them and when they stop. Refuses to know how they are started and watched
(velum.localmesh). The first Ctrl-C or SIGTERM stops all in order, the second kills them.
"""

from __future__ import annotations

import os
import sys
import threading
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from velum.cli import logs, show
from velum.cli.nodecmd import member_line
from velum.cli.numbers import NODE_ID_MAX, PORT_MAX
from velum.cli.options import UsageError
from velum.cli.signals import Stop, StopRequested, at_next_signal

if TYPE_CHECKING:
    from velum.localmesh import LocalMesh

COMPLETE_S = 20.0  # many nodes on a small machine start slowly


class Printer:
    """Lines of many nodes, each with its node's id in front; any thread."""

    def __init__(self, ids: range) -> None:
        self._lock = threading.Lock()
        self._width = len(str(ids[-1]))
        self._paint = show.Paint(sys.stdout)

    def event(self, id: int, event: dict[str, Any]) -> None:
        """Something a node reported."""
        if event["event"] == "ready":
            workers = show.plural(event["workers"], "worker")
            self._say(id, f"serves at {event['address']}, {workers}")
        elif event["event"] == "member":
            self._say(id, member_line(event, self._paint))
        elif event["status"] != 0:
            self._say(id, self._paint("red", f"ended with status {event['status']}"))

    def log(self, id: int, line: str) -> None:
        """A line of a node's log; it goes to stderr, as the node wrote it there."""
        with self._lock:
            print(f"[{id:>{self._width}}] {line}", file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        """A line about all of them."""
        with self._lock:
            print(line, flush=True)

    def _say(self, id: int, text: str) -> None:
        self.say(f"{self._paint('dim', f'[{id:>{self._width}}]')} {text}")


def run(args: Namespace) -> int:
    """Starts the nodes and stays until all have ended or a signal comes."""
    from velum.localmesh import LocalMesh

    ids = range(args.first_id, args.first_id + args.count)
    if ids[-1] > NODE_ID_MAX:
        raise UsageError(f"ids {ids[0]} to {ids[-1]}: the highest id is {NODE_ID_MAX}")
    if args.port and args.port + args.count > PORT_MAX + 1:
        raise UsageError(f"ports from {args.port}: the highest port is {PORT_MAX}")
    logs.configure(args.log_level, args.log_json)
    printer = Printer(ids)
    stop = Stop()
    stop.on_signals()
    mesh = None
    try:
        mesh = LocalMesh(
            ids,
            ports=ports_from(args),
            options=node_options(args),
            on_event=printer.event,
            on_log=printer.log,
        )
        seconds = mesh.wait_complete(COMPLETE_S, stop.check)
        if args.count > 1:
            printer.say(f"{args.count} nodes see each other after {seconds:.1f} s")
        printer.say("in another terminal: velum call add 10 20    (Ctrl-C here stops the mesh)")
        mesh.wait_ended(stop.check)
        return 1  # nobody asked them to end
    except StopRequested:
        return 0
    finally:
        if mesh is not None:
            at_next_signal(partial(_kill, mesh))
            mesh.stop()


def ports_from(args: Namespace) -> Callable[[int], int | None]:
    """Each node's port: counted up from the first's, or any free one, or the node's own default."""

    first: int | None = args.port
    return lambda id: first + id - args.first_id if first else first


def node_options(args: Namespace) -> list[str]:
    """The words of `velum node` that are the same for every node."""
    workers = args.workers
    if workers is None:
        workers = max(1, (os.cpu_count() or 1) // args.count)
    words = ["--host", args.host, "--beacon-port", str(args.beacon_port)]
    words += ["--workers", str(workers), "--memory", str(args.memory)]
    words += ["--log-level", args.log_level]
    if args.ram is not None:
        words += ["--ram", str(args.ram)]
    if args.log_json:
        words.append("--log-json")
    if args.join:
        words += ["--join", ",".join(args.join)]
    return words


def _kill(mesh: LocalMesh) -> None:
    for id in mesh.nodes:
        mesh.kill(id)
