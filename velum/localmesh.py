"""Nodes as processes of this machine: a mesh that one program starts, watches and stops.

Owns the processes and what they report: each is `velum node ID --json --until-eof`, whose stdout
says when it serves and how its peers change, and which leaves when this program's end of its stdin
closes, however this program ends. A node can be killed, stopped, continued, asked to leave, and
started again. Refuses to know terminals: what the nodes report is handed to `on_event` and
`on_log`, called from one thread a node. `velum up`, `velum demo`, `velum chaos` and tests use it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from velum.errors import VelumError, code_of

LOOK_S = 0.1  # how often who waits looks for what wakes nobody
STOP_S = 5.0  # a node hands back its work and leaves well within

# The settings of this program are not its nodes': VELUM_PORT would give all the same one.
_INHERITED = frozenset({"VELUM_WORKER"})

Event = dict[str, Any]


class LocalNode:
    """One process. `address` is known once it is ready; `peers` are the ids it sees alive."""

    def __init__(self, id: int, process: subprocess.Popen[str]) -> None:
        self.id = id
        self.process = process
        self.address = ""
        self.ready = False
        self.paused = False
        self.peers: set[int] = set()
        self.last_words = ""  # the last line of its log: why it ended, if it ended badly

    @property
    def ended(self) -> bool:
        """Whether the process is no more."""
        return self.process.poll() is not None

    @property
    def serves(self) -> bool:
        """Whether it is ready, and neither stopped nor ended."""
        return self.ready and not self.paused and not self.ended

    def signal(self, number: int) -> None:
        """Sends the process a signal; nothing happens when it has ended."""
        if not self.ended:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


class LocalMesh:
    """Some nodes; a context manager that stops all of them."""

    def __init__(
        self,
        ids: Iterable[int],
        *,
        ports: Callable[[int], int | None] = lambda _: None,
        options: Sequence[str] = (),
        own: Callable[[int], Sequence[str]] = lambda _: (),
        prefix: Callable[[int], Sequence[str]] = lambda _: (),
        environment: Mapping[str, str] | None = None,
        on_event: Callable[[int, Event], None] = lambda *_: None,
        on_log: Callable[[int, str], None] = lambda *_: None,
    ) -> None:
        """Starts the nodes at once; none is ready yet.

        `ports(id)` gives a node's port: None for 8000 + id, 0 for any free one. `options` are more
        words of `velum node`, the same for all, and `own(id)` those of one. `prefix(id)` are words
        of a command that runs its own words as a program, as `ip netns exec NAME` does.
        `environment` is added to that of the nodes.
        """
        self._ports = ports
        self._options = tuple(options)
        self._own = own
        self._prefix = prefix
        self._environment = {**_environment(), **(environment or {})}
        self._on_event = on_event
        self._on_log = on_log
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self.nodes: dict[int, LocalNode] = {}
        try:
            for id in ids:
                self.start(id)
        except BaseException:
            self.stop(0)
            raise

    def start(self, id: int) -> None:
        """Starts a node; one that has ended again, on the port that it had. It is not ready yet."""
        before = self.nodes.get(id)
        port = self._ports(id)
        if before is not None:
            assert before.ended, f"node {id} runs"
            self._close_stdin(before)
            if before.address:
                port = int(before.address.rpartition(":")[2])
        words = [] if port is None else ["--port", str(port)]
        words += [*self._options, *self._own(id)]
        command = [sys.executable, "-m", "velum", "node", str(id), "--json", "--until-eof", *words]
        process = subprocess.Popen(
            [*self._prefix(id), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
            start_new_session=True,  # Ctrl-C reaches this program only, which then stops them
        )
        node = self.nodes[id] = LocalNode(id, process)
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        for target in (self._read_events, self._read_log):
            thread = threading.Thread(target=target, args=(node,), name=f"node {id}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def __enter__(self) -> LocalMesh:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    # ---- what the nodes say ----

    def _read_events(self, node: LocalNode) -> None:
        assert node.process.stdout is not None
        with node.process.stdout as lines:
            for line in lines:
                if line.endswith("\n"):  # else it was killed within a word
                    self._told(node, json.loads(line))
        node.process.wait()
        with self._changed:
            node.ready = False
            self._changed.notify_all()
        self._on_event(node.id, {"event": "ended", "status": node.process.returncode})

    def _told(self, node: LocalNode, event: Event) -> None:
        if "event" not in event:
            return  # the error that ends it; the log has it too
        self._on_event(node.id, event)  # before anybody who waits for it goes on
        with self._changed:
            self._note(node, event)
            self._changed.notify_all()

    @staticmethod
    def _note(node: LocalNode, event: Event) -> None:
        if event["event"] == "ready":
            node.address = event["address"]
            node.ready = True
        elif event["event"] == "member":
            change = node.peers.add if event["state"] == "alive" else node.peers.discard
            change(event["id"])

    def _read_log(self, node: LocalNode) -> None:
        assert node.process.stderr is not None
        with node.process.stderr as lines:
            for line in lines:
                node.last_words = line.rstrip()
                self._on_log(node.id, node.last_words)

    # ---- waiting ----

    def wait_complete(self, timeout: float, check: Callable[[], object] = lambda: None) -> float:
        """Waits until every node serves and sees all others; the seconds it took.

        Raises VelumError TIMEOUT saying who sees whom, or the error of a node that ended; and
        whatever `check` does, which is called meanwhile.
        """
        began = time.monotonic()
        with self._changed:
            while not self._is_complete():
                check()
                for node in self.nodes.values():
                    if node.ended:
                        raise VelumError(
                            code_of("SYSTEM"), f"node {node.id} ended at once: {self._why(node)}"
                        )
                left = began + timeout - time.monotonic()
                if left <= 0:
                    raise VelumError(code_of("TIMEOUT"), f"no complete mesh: {self._describe()}")
                self._changed.wait(min(left, LOOK_S))
        return time.monotonic() - began

    def _is_complete(self) -> bool:
        ids = set(self.nodes)
        return all(node.ready and node.peers >= ids - {node.id} for node in self.nodes.values())

    def _why(self, node: LocalNode) -> str:
        return node.last_words or f"status {node.process.returncode}"

    def _describe(self) -> str:
        return "; ".join(
            f"node {node.id} sees {sorted(node.peers) or 'nobody'}"
            if node.ready
            else f"node {node.id} does not serve"
            for node in self.nodes.values()
        )

    def wait_ended(self, check: Callable[[], object] = lambda: None) -> None:
        """Waits until every node has ended by itself, or `check` raises."""
        with self._changed:
            while not all(node.ended for node in self.nodes.values()):
                check()
                self._changed.wait(LOOK_S)

    # ---- what befalls them ----

    def kill(self, id: int) -> None:
        """Ends a node with SIGKILL: it says nothing to anybody."""
        self.nodes[id].signal(signal.SIGKILL)

    def leave(self, id: int) -> None:
        """Asks a node to leave the mesh and to end."""
        self.nodes[id].signal(signal.SIGTERM)

    def pause(self, id: int) -> None:
        """Stops a node's process: it keeps its connections and does nothing."""
        self.nodes[id].paused = True
        self.nodes[id].signal(signal.SIGSTOP)

    def resume(self, id: int) -> None:
        """Lets it go on."""
        self.nodes[id].signal(signal.SIGCONT)
        self.nodes[id].paused = False

    # ---- ending ----

    def stop(self, timeout: float = STOP_S) -> None:
        """Asks every node to leave, and kills those that have not after `timeout` seconds."""
        for id in self.nodes:
            self.leave(id)
            self.resume(id)
        end = time.monotonic() + timeout
        for node in self.nodes.values():
            try:
                node.process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                node.process.kill()
                node.process.wait()
        for thread in self._threads:
            thread.join(1.0)  # each closes the pipe that it reads
        for node in self.nodes.values():
            self._close_stdin(node)

    @staticmethod
    def _close_stdin(node: LocalNode) -> None:
        assert node.process.stdin is not None
        node.process.stdin.close()


def _environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("VELUM_") or name in _INHERITED
    }
