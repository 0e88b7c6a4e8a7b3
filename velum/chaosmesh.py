"""The nodes of a chaos run, and all that befalls them.

Owns: the mesh of processes, the networks between them, and adversity: what strikes, when, whom, and
that it passes. Refuses to know what the nodes compute (`velum.chaosjobs`) and what is made of a
fault (`velum.chaos`).

A seed draws the whole plan before the run: the times of the strikes, and for each what it would
like to do. Whom it may strike depends on who stands then, so two runs of a seed differ in what the
clock decides, and in no more. At least two nodes stand at any time: they run, they are not stopped,
and clients reach them. One node, drawn by the seed, is stopped and cut off like the others, but
never killed: what it holds in memory can be watched from the beginning to the end.

A mesh that keeps files may lose one node, and then none before it is whole again: there the plan's
clock stands still while anything is struck, and until `whole` says so. All nodes stand when a
strike comes, so that whom it strikes follows from the seed too.
"""

from __future__ import annotations

import random
import shutil
import signal
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from pathlib import Path
from typing import Final

import psutil

from velum.errors import VelumError, code_of
from velum.localmesh import Event, LocalMesh
from velum.machine import free_beacon_port
from velum.netns import Networks

STANDING_MIN: Final = 2
STRIKE_S: Final = (1.0, 3.0)  # between two strikes
DOWN_S: Final = (0.5, 5.0)  # from a node's end to its return
STOPPED_S: Final = (0.2, 8.0)
PARTED_S: Final = (0.5, 10.0)
FLAPS: Final = (3, 8)  # short cuts of one node's network, one after the other
FLAP_S: Final = (0.05, 0.5)
READY_S: Final = 60.0  # a node starts in half a second, on a machine that has nothing else to do
LEAVE_S: Final = 20.0
COMPLETE_S: Final = 60.0
STOP_S: Final = 20.0

# A node listens where it did before: not where the system takes ports for others' connections from.
PORTS: Final = range(15_000, 30_000)

KILL, STOP, LEAVE = "kill -9", "stop", "leave"
KILL_WORKER, STOP_WORKER = "kill -9 worker", "stop worker"
PART, FLAP = "partition", "flap"
WEIGHTS: Final = {KILL: 5, STOP: 4, LEAVE: 2, KILL_WORKER: 3, STOP_WORKER: 2, PART: 4, FLAP: 2}
WITH_NETWORKS: Final = (PART, FLAP)

Span = tuple[float, float]


@dataclass(frozen=True)
class Manner:
    """How a mesh is treated. Without `whole` one strike does not wait for another to pass."""

    weights: Mapping[str, int]
    down_s: Span = DOWN_S
    stopped_s: Span = STOPPED_S
    parted_s: Span = PARTED_S
    apart_max: int = 1 << 16  # nodes cut off at once
    whole: Callable[[float], bool] | None = None  # since all nodes stand, which they do since then


ROUGH: Final = Manner(WEIGHTS)


@dataclass(frozen=True)
class Strike:
    """One piece of adversity: the kinds to be tried, the first that is possible then strikes."""

    at_s: float
    kinds: tuple[str, ...]
    rng: random.Random


def draw_strikes(
    seed: int, seconds: float, networks: bool, weights: Mapping[str, int] = WEIGHTS
) -> list[Strike]:
    """The plan of a run."""
    rng = random.Random(f"strikes {seed}")
    weights = {k: w for k, w in weights.items() if networks or k not in WITH_NETWORKS}
    strikes: list[Strike] = []
    at_s = rng.uniform(*STRIKE_S)
    while at_s < seconds:
        # A weighted draw of an order (Efraimidis and Spirakis 2006).
        kinds = sorted(weights, key=lambda kind: -(rng.random() ** (1 / weights[kind])))
        strikes.append(Strike(at_s, tuple(kinds), random.Random(f"strike {seed} {len(strikes)}")))
        at_s += rng.uniform(*STRIKE_S)
    return strikes


class ChaosMesh:
    """Nodes 1 to n, as processes, with what befalls them."""

    def __init__(
        self,
        seed: int,
        count: int,
        options: Sequence[str],
        directory: Path,
        *,
        manner: Manner,
        networks: Networks | None,
        own: Callable[[int], Sequence[str]],
        environment: dict[str, str],
        on_fault: Callable[[str], None],
        on_strike: Callable[[str], None],
        on_log: Callable[[int, str], None],
    ) -> None:
        """Starts the nodes; `options` are more words of `velum node`, `own(id)` those of one, and
        `directory` is for what they keep. Without `networks` they share this machine's loopback,
        and none can be cut off. The callbacks may come from any thread."""
        rng = random.Random(f"mesh {seed}")
        self.counts: Counter[str] = Counter()
        self.spared = rng.randint(1, count)
        self._ids = range(1, count + 1)
        self._directory = directory
        self._manner = manner
        self._networks = networks
        self._more = own
        self._on_fault = on_fault
        self._on_strike = on_strike
        self._began = self._stepped = time.monotonic()
        self.quiet_since: float | None = None  # nothing strikes, and all nodes stand
        self._strikes: deque[Strike] = deque()
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._ordered = 0
        self._flapping = False
        self._keeps = {id: rng.random() < 0.5 for id in self._ids}  # what its --state-dir is for
        self._starting: dict[int, float] = {}  # and until when it must be ready
        self._lock = threading.Lock()  # of what follows: nodes' threads tell of their ends
        self._ends: dict[int, list[int]] = {id: [] for id in self._ids}  # statuses to come
        self._closing = False
        self._mesh = LocalMesh(
            self._ids,
            ports=self._ports(),
            options=[*options, *self._options(rng.random() < 0.5)],
            own=self._own,
            prefix=networks.prefix if networks else lambda _: (),
            environment=environment,
            on_event=self._told,
            on_log=on_log,
        )

    def _ports(self) -> Callable[[int], int | None]:
        if self._networks is not None:
            return lambda _: None  # each has all ports to itself
        free = _free_ports(len(self._ids))
        return lambda id: free[id - 1]

    def _options(self, beacons: bool) -> list[str]:
        words = ["--log-level", "debug"]
        if self._networks is None:
            return [*words, "--beacon-port", str(free_beacon_port())]
        joins = [f"{self._networks.address(id)}:{8000 + id}" for id in self._ids]
        return [*words, "--join", ",".join(joins), *([] if beacons else ["--no-beacon"])]

    def _own(self, id: int) -> list[str]:
        words = [*self._more(id)]
        words += ["--state-dir", str(self._state(id))] if self._keeps[id] else []
        return words if self._networks is None else [*words, "--host", self._networks.address(id)]

    def _state(self, id: int) -> Path:
        return self._directory / f"state-{id}"

    def wait_complete(self) -> float:
        """Waits until all see each other; the seconds it took. VelumError TIMEOUT, SYSTEM."""
        return self._mesh.wait_complete(COMPLETE_S)

    # ---- what the nodes tell ----

    def _told(self, id: int, event: Event) -> None:
        if event["event"] != "ended":
            return
        with self._lock:
            if self._closing:
                return
            expected = self._ends[id].pop(0) if self._ends[id] else None
        if expected != event["status"]:
            words = self._mesh.nodes[id].last_words
            wanted = "nobody asked it to" if expected is None else f"not {expected}"
            self._on_fault(f"node {id} ended with status {event['status']} ({wanted}): {words}")

    # ---- looking ----

    @property
    def mesh(self) -> LocalMesh:
        """The processes."""
        return self._mesh

    def serving(self) -> list[int]:
        """Nodes that run and are not stopped, wherever they are."""
        return [id for id in self._ids if self._mesh.nodes[id].serves]

    def standing(self) -> list[int]:
        """Of those, the ones that clients reach."""
        away = self._networks.away if self._networks else frozenset()
        return [id for id in self.serving() if id not in away]

    def seeing(self) -> list[int]:
        """Of those, the ones that see all others of them."""
        standing = self.standing()
        return [id for id in standing if self._mesh.nodes[id].peers >= {*standing} - {id}]

    def choose(self, rng: random.Random) -> str:
        """The address of one of those that stand; empty when there is none at this moment. Where
        one strike waits for another to pass, it sees the others: one that was cut off has a mesh of
        its own until it has found them again."""
        standing = self.standing() if self._manner.whole is None else self.seeing()
        return self._mesh.nodes[rng.choice(standing)].address if standing else ""

    @property
    def calm(self) -> bool:
        """Whether all that struck has passed and every node serves."""
        return not self._later and not self._strikes and self.serving() == list(self._ids)

    @property
    def untouched(self) -> bool:
        """Whether nothing has struck, and something still wants to."""
        return bool(self._strikes) and not self.counts

    # ---- time ----

    def begin(self, strikes: list[Strike]) -> None:
        """The plan starts now."""
        self._began = self._stepped = time.monotonic()
        self._strikes.extend(strikes)

    def cease(self) -> None:
        """What of the plan is left does not happen."""
        self._strikes.clear()

    def step(self) -> None:
        """Does all that is due."""
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            heappop(self._later)[2]()
        self._look_around(now)
        while self._may_strike() and self._began + self._strikes[0].at_s <= now:
            self._strike(self._strikes.popleft())
        for id, by in list(self._starting.items()):
            if self._mesh.nodes[id].ready:
                del self._starting[id]
            elif now > by:
                del self._starting[id]
                self._on_fault(f"node {id} did not serve within {READY_S:.0f} s")

    def _look_around(self, now: float) -> None:
        """Is it quiet? And holds the plan's clock, if the next strike has to wait."""
        away = self._networks is not None and self._networks.away
        if self._later or self._starting or away or self.serving() != list(self._ids):
            self.quiet_since = None
        elif self.quiet_since is None:
            self.quiet_since = now
        if not self._may_strike():
            self._began += now - self._stepped
        self._stepped = now

    def _may_strike(self) -> bool:
        if self._manner.whole is None or not self._strikes:
            return bool(self._strikes)
        return self.quiet_since is not None and self._manner.whole(self.quiet_since)

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        self._ordered += 1
        heappush(self._later, (time.monotonic() + seconds, self._ordered, action))

    def _strike(self, strike: Strike) -> None:
        for kind in strike.kinds:
            story = self._STRIKES[kind](self, strike.rng)
            if story:
                self.quiet_since = None
                self.counts[kind] += 1
                self._on_strike(story)
                return

    def _victim(self, rng: random.Random, mortal: bool = False) -> int:
        """A node that may be struck now, 0 if there is none; `mortal`: one that may end."""
        standing = set(self.standing())
        able = [
            id
            for id in self.serving()
            if len(standing - {id}) >= STANDING_MIN and not (mortal and id == self.spared)
        ]
        return rng.choice(able) if able else 0

    # ---- nodes end and return ----

    def _kill(self, rng: random.Random) -> str:
        id = self._victim(rng, mortal=True)
        if id:
            self._expect_end(id, -signal.SIGKILL)
            self._mesh.kill(id)
            return f"kill -9 node {id}, {self._return(id, rng)}"
        return ""

    def _leave(self, rng: random.Random) -> str:
        id = self._victim(rng, mortal=True)
        if id:
            self._expect_end(id, 0)
            self._mesh.nodes[id].ready = False  # it stands no more from now on
            self._mesh.leave(id)
            return f"node {id} leaves, {self._return(id, rng)}"
        return ""

    def _expect_end(self, id: int, status: int) -> None:
        with self._lock:
            self._ends[id].append(status)

    def _return(self, id: int, rng: random.Random) -> str:
        """Sees to a node's return; with which state, in words."""
        down_s = rng.uniform(*self._manner.down_s)
        kept, loses = self._keeps[id], rng.random() < 0.5
        self._keeps[id] = rng.random() < 0.7
        by = time.monotonic() + down_s + LEAVE_S
        self._after(down_s, partial(self._start, id, loses, by))
        state = "with its state" if kept and self._keeps[id] and not loses else "without state"
        return f"back after {down_s:.1f} s {state}"

    def _start(self, id: int, loses: bool, by: float) -> None:
        if not self._mesh.nodes[id].ended:
            if time.monotonic() > by:
                self._on_fault(f"node {id} did not end within {LEAVE_S:.0f} s")
                self._mesh.kill(id)
            else:
                self._after(0.1, partial(self._start, id, loses, by))
            return
        if loses:
            shutil.rmtree(self._state(id), ignore_errors=True)
        self._mesh.start(id)
        self._starting[id] = time.monotonic() + READY_S

    # ---- nodes and workers stand still ----

    def _stop(self, rng: random.Random) -> str:
        id = self._victim(rng)
        if not id:
            return ""
        stopped_s = rng.uniform(*self._manner.stopped_s)
        self._mesh.pause(id)
        self._after(stopped_s, partial(self._mesh.resume, id))
        return f"stop node {id} for {stopped_s:.1f} s"

    def _worker(self, rng: random.Random) -> tuple[int, psutil.Process] | None:
        """Any worker of any node that serves, and its node."""
        for id in rng.sample(self.serving(), len(self.serving())):
            with suppress(psutil.Error):
                workers = psutil.Process(self._mesh.nodes[id].process.pid).children()
                if workers:
                    return id, rng.choice(workers)
        return None

    def _kill_worker(self, rng: random.Random) -> str:
        found = self._worker(rng)
        if found is None:
            return ""
        with suppress(psutil.Error):
            found[1].kill()
        return f"kill -9 a worker of node {found[0]}"

    def _stop_worker(self, rng: random.Random) -> str:
        found = self._worker(rng)
        if found is None:
            return ""
        stopped_s = rng.uniform(*STOPPED_S)
        with suppress(psutil.Error):
            found[1].suspend()
        self._after(stopped_s, partial(self._continue, found[1]))
        return f"stop a worker of node {found[0]} for {stopped_s:.1f} s"

    @staticmethod
    def _continue(worker: psutil.Process) -> None:
        with suppress(psutil.Error):
            worker.resume()

    # ---- the network parts ----

    def _part(self, rng: random.Random) -> str:
        networks = self._networks
        standing = self.standing()
        most = min(len(standing) - STANDING_MIN, self._manner.apart_max)
        if networks is None or networks.away or self._flapping or most < 1:
            return ""
        away = sorted(rng.sample(standing, rng.randint(1, most)))
        parted_s = rng.uniform(*self._manner.parted_s)
        networks.part(away)
        self._after(parted_s, networks.heal)
        return f"cut off {_nodes(away)} for {parted_s:.1f} s"

    def _flap(self, rng: random.Random) -> str:
        networks = self._networks
        id = self._victim(rng)
        if networks is None or networks.away or self._flapping or not id:
            return ""
        self._flapping = True
        at_s = 0.0
        for _ in range(rng.randint(*FLAPS)):
            self._after(at_s, partial(networks.part, [id]))
            at_s += rng.uniform(*FLAP_S)
            self._after(at_s, networks.heal)
            at_s += rng.uniform(*FLAP_S)
        self._after(at_s, self._flapped)
        return f"the network of node {id} comes and goes for {at_s:.1f} s"

    def _flapped(self) -> None:
        self._flapping = False

    _STRIKES: Final = {
        KILL: _kill,
        STOP: _stop,
        LEAVE: _leave,
        KILL_WORKER: _kill_worker,
        STOP_WORKER: _stop_worker,
        PART: _part,
        FLAP: _flap,
    }

    # ---- the end ----

    def dismiss(self) -> list[str]:
        """Asks all to leave; what was wrong with how they did."""
        with self._lock:
            self._closing = True
        self._mesh.stop(STOP_S)
        return [
            f"node {node.id} ended with status {node.process.returncode} (not 0) when it was "
            f"asked to leave: {node.last_words}"
            for node in self._mesh.nodes.values()
            if node.process.returncode
        ]

    def close(self) -> None:
        """Ends everything at once, however it stands."""
        with self._lock:
            self._closing = True
        for id in self._ids:
            self._mesh.kill(id)
        self._mesh.stop(0)


def _nodes(ids: list[int]) -> str:
    return f"node{'s' * (len(ids) > 1)} {', '.join(map(str, ids))}"


def _free_ports(count: int) -> list[int]:
    """Ports of the loopback network, for TCP and UDP, that nobody has now and nobody is likely to
    have when a node comes back."""
    found: list[int] = []
    first = random.SystemRandom().randrange(len(PORTS))
    for port in (*PORTS[first:], *PORTS[:first]):
        if len(found) == count:
            return found
        with suppress(OSError):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as probe:
                    probe.bind(("127.0.0.1", port))
            found.append(port)
    raise VelumError(code_of("SYSTEM"), f"fewer than {count} ports of {PORTS} are free")
