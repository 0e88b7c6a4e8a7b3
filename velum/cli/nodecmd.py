"""``velum node ID``: a node, what it says of its peers, and its end.

Owns the life of a node's process: start, serving or prompt, signals, leaving. Refuses to know how
nodes find each other and what they do (velum.node).

The first SIGTERM or Ctrl-C leaves the mesh, which hands work back, and ends with status 0; the
second ends the process at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Mapping
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from velum.cli import logs, show
from velum.cli.signals import Stop, StopRequested, end_at_next_signal

if TYPE_CHECKING:
    from velum.api import NodeInfo
    from velum.node import Node
    from velum.repl import Repl


FLUSH_S = 1.0  # what a slow reader of stdout may hold up the end


class Announcer:
    """Prints a node's start, and its peers as they come and go; calls may come from any thread.

    What happens before `ready` is told after it, so that the node's own line is always the first.
    A thread of its own prints: a reader that stops reading must not stop the node.
    """

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._ready = threading.Event()
        self._paint = show.Paint(sys.stdout)
        self._first = ""
        self._changes: SimpleQueue[tuple[NodeInfo, str | None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._print, name="velum say", daemon=True)
        self._thread.start()

    def ready(self, node_id: int, address: str, workers: int, resp: str | None = None) -> None:
        """The node serves, the Redis protocol too if `resp` says where."""
        if self._json:
            facts: dict[str, Any] = {"id": node_id, "address": address, "workers": workers}
            if resp is not None:
                facts["resp"] = resp
            self._first = show.dump({"event": "ready", **facts, "pid": os.getpid()})
        else:
            name = self._paint("bold", f"node {node_id}")
            self._first = f"{name} at {address}, {show.plural(workers, 'worker')}"
            if resp is not None:
                self._first += f", Redis at {resp}"
        self._ready.set()

    def member(self, info: NodeInfo, before: str | None) -> None:
        """A member's state changed; `before` is the one it had, None for a new member."""
        self._changes.put((info, before))

    def close(self) -> None:
        """Prints what is left to print."""
        self._changes.put(None)
        if self._ready.is_set():
            self._thread.join(FLUSH_S)

    def _print(self) -> None:
        self._ready.wait()
        try:
            self._say(self._first)
            while (change := self._changes.get()) is not None:
                info, before = change
                if not info.me and info.state != before:
                    self._tell(info, before)
        except (OSError, ValueError):  # nobody reads any more: the node serves on
            return

    def _tell(self, info: NodeInfo, before: str | None) -> None:
        if self._json:
            facts = {"id": info.id, "state": info.state, "before": before}
            more = {"address": info.address, "role": info.role, "workers": info.slots}
            self._say(show.dump({"event": "member", **facts, **more}))
        else:
            self._say(member_line({**info.as_dict(), "before": before}, self._paint))

    @staticmethod
    def _say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def member_line(change: Mapping[str, Any], paint: show.Paint) -> str:
    """A change of a member's state, as a person reads it: ``+ node 2 127.0.0.1:8002``.

    `change` holds id, state, address, and before: the state it had, None for a new member.
    """
    name = f"node {change['id']}"
    if change["state"] == "alive":
        if change["before"] == "suspect":
            return f"{paint('green', '=')} {name} answers again"
        return f"{paint('green', '+')} {name} {change['address']}"
    if change["state"] == "suspect":
        return f"{paint('yellow', '?')} {name} is silent"
    if change["state"] == "left":
        return f"{paint('dim', '-')} {name} left"
    return f"{paint('red', '-')} {name} lost"


def run(args: Namespace) -> int:
    """Starts the node and stays until it is told to go."""
    logs.configure(args.log_level, args.log_json)
    stop = Stop()
    stop.on_signals()
    announcer = Announcer(args.json)
    try:
        with _start(args, announcer) as node:
            stop.check()
            announcer.ready(args.id, node.address, _workers(args), node.resp_address)
            if args.until_eof:
                in_background(partial(_ask_at_eof, stop), "velum eof")
            elif _has_terminal(args):
                return _at_prompt(node, stop)
            return _serve(node, stop)
    except StopRequested:  # the node was asked to leave while it started
        return 0
    finally:
        announcer.close()


def _start(args: Namespace, announcer: Announcer) -> Node:
    from velum.node import Node

    return Node(
        args.id,
        args.port,
        host=args.host,
        beacon_port=args.beacon_port,
        join=tuple(args.join),
        workers=args.workers,
        memory=args.memory,
        ram=args.ram,
        repair_rate=args.repair_rate,
        log=args.log,
        durability=args.durability,
        resp_port=args.resp,
        beacon=not args.no_beacon,
        state_dir=args.state_dir,
        on_member=announcer.member,
    )


def _workers(args: Namespace) -> int:
    """How many it starts; at this moment they are not ready yet."""
    from velum.health import core_count

    return core_count() if args.workers is None else int(args.workers)


def _has_terminal(args: Namespace) -> bool:
    return not args.json and show.is_terminal(sys.stdin) and show.is_terminal(sys.stdout)


def _serve(node: Node, stop: Stop) -> int:
    """Without a prompt: until a signal, or until the node ends by itself."""

    def watch() -> None:
        node.wait()
        stop.poke()

    in_background(watch, "velum watch")
    try:
        while not node.stopped:
            stop.sleep()
        stop.check()
    except StopRequested:
        node.leave()
        return 0
    return _ended(node.wait())


def _at_prompt(node: Node, stop: Stop) -> int:
    from velum.repl import Repl

    return prompt(node, Repl(node), stop)


def prompt(node: Node, repl: Repl, stop: Stop) -> int:
    """With a prompt, until the person quits, a signal comes, or the node ends by itself."""
    ended: list[BaseException | None] = []

    def watch() -> None:
        ended.append(node.wait())
        repl.stop()

    signal.signal(signal.SIGTERM, lambda *_: repl.stop())
    signal.signal(signal.SIGINT, lambda *_: repl.interrupt())
    stop.check()  # what came before these handlers is nobody's else
    in_background(watch, "velum watch")
    repl.run()
    if ended:
        return _ended(ended[0])
    end_at_next_signal()
    node.leave()
    return 0


def in_background(function: Callable[[], object], name: str) -> None:
    """Runs it in a thread that does not outlive the program."""
    threading.Thread(target=function, name=name, daemon=True).start()


def _ended(error: BaseException | None) -> int:
    if error is not None:
        raise error
    return 0


def _ask_at_eof(stop: Stop) -> None:
    stdin = sys.stdin.fileno()  # not sys.stdin: a thread in there when the process ends is fatal
    while os.read(stdin, 4096):
        pass
    stop.ask()
