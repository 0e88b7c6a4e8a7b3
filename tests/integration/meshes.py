"""What the integration tests share: meshes of real processes, callers, and waiting with a deadline.

Owns the processes of a test and that none outlives it. Refuses to know what a test is about. Every
mesh has a beacon port of its own, so that meshes of tests that run side by side never meet; every
other port is picked by the system.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil

from velum.api import Mesh, TaskFuture
from velum.client import Client, connect
from velum.localmesh import Event, LocalMesh, LocalNode
from velum.machine import free_beacon_port

GUESTS = Path(__file__).parents[1] / "guests"
PATIENCE_S = 30.0  # for what takes well under a second on an idle machine
FAULTS = ("Traceback (most recent call last)", "the loop failed")  # no log may ever show them


def _state(task: Path) -> str:
    """A thread's, as proc_pid_stat(5) has it behind the name; empty when it has ended."""
    try:
        return (task / "stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return ""


def eventually(condition: Callable[[], Any], what: str = "", within: float = PATIENCE_S) -> float:
    """Waits until the condition holds; the seconds it took. Fails saying `what` was waited for."""
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        assert waited < within, f"not within {within} s: {what or condition}"
        time.sleep(0.005)
    return time.monotonic() - began


def seeded(what: str) -> random.Random:
    """A generator for one test. VELUM_SEED replays a failure, whose output shows the seed."""
    seed = int(os.environ.get("VELUM_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
    print(f"{what}: VELUM_SEED={seed}")
    return random.Random(f"{seed} {what}")


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[str]]:
    """`python -m` these words under way, ended for certain."""
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


class Processes:
    """Nodes as processes, which can be killed, stopped, continued and started again one by one."""

    def __init__(self, workers: int, options: Sequence[str], beacons: bool) -> None:
        self.beacon_port = free_beacon_port()
        self._options = ["--workers", str(workers), "--log-level", "info", *options]
        self._options += ["--beacon-port", str(self.beacon_port)] if beacons else ["--no-beacon"]
        self._stack = ExitStack()
        self._nodes: dict[int, LocalNode] = {}
        self._paused: set[int] = set()
        self._killed: set[int] = set()  # their processes may take a moment yet to end
        self._logs: deque[str] = deque(maxlen=2000)
        self._faults: list[str] = []
        self.events: deque[tuple[float, int, Event]] = deque(maxlen=10_000)

    # ---- starting and stopping ----

    def start(
        self,
        ids: Iterable[int],
        *,
        join: str = "",
        again: bool = False,
        options: Sequence[str] = (),
    ) -> None:
        """Starts nodes and waits until each sees all that run. `again`: on the ports they had."""
        ids = list(ids)
        ports = {id: int(self.address(id).rpartition(":")[2]) if again else 0 for id in ids}
        group = LocalMesh(
            ids,
            ports=ports.__getitem__,
            options=[*self._options, *options, *(["--join", join] if join else [])],
            on_event=self._event,
            on_log=self._log,
        )
        self._stack.callback(group.stop)
        self._nodes.update(group.nodes)
        self._killed.difference_update(ids)
        group.wait_complete(PATIENCE_S)
        self.wait_whole()

    def stop(self) -> None:
        """Ends everything, and fails if a log shows that something was thrown. What is printed is
        seen of a test that fails: how each node ended, and its last words."""
        for id, node in self._nodes.items():
            print(f"node {id} at {node.address}: exit status {node.process.poll()}")
        print(*list(self._logs)[-100:], sep="\n")
        for id in list(self._paused):
            self.resume(id)
        self._stack.close()
        assert not self._faults, "\n".join(self._logs)

    def kill(self, id: int) -> None:
        """SIGKILL: it says nothing to anybody."""
        self._killed.add(id)
        self._signal(id, signal.SIGKILL)

    def leave(self, id: int) -> None:
        """SIGTERM: it is asked to leave."""
        self._signal(id, signal.SIGTERM)

    def pause(self, id: int) -> None:
        """SIGSTOP: it keeps its connections and does nothing, from the end of this call on."""
        self._paused.add(id)
        self._signal(id, signal.SIGSTOP)
        tasks = Path(f"/proc/{self.pid(id)}/task")
        if tasks.exists():
            eventually(
                lambda: {_state(task) for task in tasks.iterdir()} == {"T"}, "it has stopped"
            )

    def resume(self, id: int) -> None:
        """SIGCONT."""
        self._paused.discard(id)
        self._signal(id, signal.SIGCONT)

    def _signal(self, id: int, number: int) -> None:
        process = self._nodes[id].process
        if process.poll() is None:
            process.send_signal(number)

    # ---- looking ----

    def running(self) -> list[int]:
        """Ids of the nodes whose processes have not ended, nor were killed, and are not stopped."""
        return [
            id
            for id, node in self._nodes.items()
            if node.process.poll() is None and id not in self._paused | self._killed
        ]

    def address(self, id: int) -> str:
        return self._nodes[id].address

    def port(self, id: int) -> int:
        return int(self.address(id).rpartition(":")[2])

    def pid(self, id: int) -> int:
        return self._nodes[id].process.pid

    def exit_status(self, id: int) -> int:
        """Waits for a node's end."""
        return self._nodes[id].process.wait(PATIENCE_S)

    def peers(self, id: int) -> set[int]:
        """Whom a node sees alive, as it has reported."""
        return set(self._nodes[id].peers)

    def rss_mib(self, id: int) -> float:
        """Memory that a node's process holds."""
        return float(psutil.Process(self.pid(id)).memory_info().rss) / (1 << 20)

    def is_whole(self) -> bool:
        """Whether every running node sees exactly the others."""
        ids = set(self.running())
        return all(self.peers(id) == ids - {id} for id in ids)

    def wait_whole(self, within: float = PATIENCE_S) -> float:
        return eventually(self.is_whole, "every node sees exactly the others", within)

    def is_gone(self, *ids: int) -> bool:
        """Whether no running node sees any of these alive."""
        return not any(self.peers(id) & set(ids) for id in self.running())

    def logged(self, text: str) -> list[str]:
        """Log lines of any node that hold a text."""
        return [line for line in list(self._logs) if text in line]

    def _event(self, id: int, event: Event) -> None:
        self.events.append((time.monotonic(), id, event))

    def _log(self, id: int, line: str) -> None:
        self._logs.append(f"[{id}] {line}")
        if any(fault in line for fault in FAULTS):
            self._faults.append(line)

    # ---- using ----

    def client(self, id: int = 1) -> Client:
        """A client attached to a node, closed with the mesh."""
        return self._stack.enter_context(connect(self.address(id), timeout=5.0))


StartMesh = Callable[..., Processes]  # what the fixtures `mesh` and `shared_mesh` are
SomeCalling = TypeVar("SomeCalling", bound="Calling")


class Calling(ABC):
    """Calls that go on all the time from a thread of their own; `with` checks that all were right.

    Between two rounds of them passes `pause` seconds. Subclasses say what a round is.
    """

    def __init__(self, pause: float = 0.0) -> None:
        self._pause = pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="calling", daemon=True)
        self.calls = 0
        self.slowest_s = 0.0  # round
        self.failure: BaseException | None = None

    def __enter__(self: SomeCalling) -> SomeCalling:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_S)
        if exc[0] is None:
            assert not self._thread.is_alive(), "a call was never answered"
            self.check()

    def check(self) -> None:
        """Fails if a call has failed or had a wrong answer."""
        if self.failure is not None:
            raise AssertionError(f"after {self.calls} calls: {self.failure!r}") from self.failure

    def more(self, calls: int = 100, within: float = PATIENCE_S) -> float:
        """Waits until so many more calls are answered; the seconds it took."""
        wanted = self.calls + calls
        took = eventually(
            lambda: self.calls >= wanted or self.failure, f"{calls} more calls", within
        )
        self.check()
        return took

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                began = time.monotonic()
                done = self._round()
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)
                self.calls += done
                self._stop.wait(self._pause)
        except BaseException as error:  # for the test's thread to raise
            self.failure = error

    @abstractmethod
    def _round(self) -> int:
        """Some calls, whose answers it checks; how many."""


class Stream(Calling):
    """Tasks, of which `at_once` are under way together."""

    def __init__(self, mesh: Mesh, at_once: int = 8, pause: float = 0.001) -> None:
        super().__init__(pause)
        self._mesh = mesh
        self._at_once = at_once
        self.by_node: Counter[int | None] = Counter()

    def _round(self) -> int:
        first = self.calls
        futures = [self._mesh.spawn("add", first, more) for more in range(self._at_once)]
        for more, future in enumerate(futures):
            assert future.result(PATIENCE_S) == first + more
            self.by_node[future.node] += 1
        return self._at_once


def answers(futures: Sequence[TaskFuture]) -> list[Any]:
    """Every result, in order."""
    end = time.monotonic() + PATIENCE_S
    return [future.result(max(0.001, end - time.monotonic())) for future in futures]
