"""The files of a chaos run: who puts, reads and removes them, and whether they are looked after.

Owns: the threads whose clients keep at it all the time, how long a call and a repair may take, and
the end: every file is read once more, all are removed, and the RAM is free again. What a call is,
and what it must come to, is `velum.chaoscalls`. Refuses to know what befalls the nodes meanwhile
(`velum.chaos`).

A call may fail while a node is gone; it is then made again, through another client, until it
succeeds: only that must not take longer than LATE_S. Errors that no lost node explains are faults,
and so is a mesh that is not whole again HEAL_S after it was left in peace.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from velum.chaoscalls import Calls, Wrong
from velum.chaoshistory import History
from velum.chaosmesh import ChaosMesh
from velum.client import Client, connect
from velum.errors import VelumError
from velum.filebackend import Space

STREAMS: Final = 4  # threads that call
STEADY: Final = 2  # of them, those that never rest
REST_S: Final = (0.0, 0.5)  # of the others between two calls
KEEP_CLIENT: Final = 0.8  # how often a client is used once more
NAMES: Final = 48  # few enough that they are fought for

LATE_S: Final = 60.0  # a node that is silent costs a call 10 s, and may do so for each step of it
HEAL_S: Final = 90.0  # copies at 32 MiB/s and node; who is not first to see to them waits 30 s more
QUIET_S: Final = 3.0  # what members have found out by then they have begun to see to
OVER_S: Final = 60.0  # chunks of what was removed stay so long; a shorter run does not wait for it
DRAIN_S: Final = 200.0  # a lost RELEASE is made good in 60 s, a lost answer in 60 s more
LOOK_S: Final = 0.3
ATTACH_S: Final = 10.0
RETRY_S: Final = 0.1
ABANDON_S: Final = 3.0

# What a call may end in while nodes come and go.
TRANSIENT: Final = frozenset(
    "UNREACHABLE TIMEOUT CLOSED REFUSED LOST LEAVING UNCERTAIN STALE CAPACITY CANCELLED".split()
)

# A put may lose a chunk with the nodes that had it; a file that is there may not.
WRITE_TRANSIENT: Final = TRANSIENT | {"CHUNKS_LOST"}

Call = Callable[[Client, random.Random, str], str]


@dataclass
class FileTally:
    """What came of all calls so far. Under the streams' lock."""

    running: int = 0
    clients: int = 0
    slowest_s: float = 0.0
    calls: Counter[str] = field(default_factory=Counter)  # those that ended well
    errors: Counter[str] = field(default_factory=Counter)  # of calls that were made again
    heals: int = 0  # times that all became whole, at the beginning and after each strike
    slowest_heal_s: float = 0.0

    @property
    def right(self) -> int:
        """Calls that came to what they should."""
        return self.calls.total()

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "calls": dict(self.calls.most_common()),
            "errors": dict(self.errors.most_common()),
            "clients": self.clients,
            "slowest_s": round(self.slowest_s, 3),
            "heals": self.heals,
            "slowest_heal_s": round(self.slowest_heal_s, 3),
        }


class Watch:
    """Looks at the room, and at how whole the files are, all the time."""

    def __init__(self, seed: int, mesh: ChaosMesh, on_fault: Callable[[str], None]) -> None:
        self._rng = random.Random(f"watch {seed}")
        self._mesh = mesh
        self._on_fault = on_fault
        self._stop = threading.Event()
        self._lock = threading.Lock()  # of what follows
        self._whole_since: float | None = None  # when the first look of a row began
        self._looked = 0.0  # when the last one began
        self._said = "nobody was asked yet"
        self._thread = threading.Thread(target=self._run, name="df", daemon=True)
        self._thread.start()

    def whole(self, since: float) -> bool:
        """Whether all files have been whole for QUIET_S, counted from `since` at the earliest."""
        with self._lock:
            if self._whole_since is None:
                return False
            return self._looked - max(since, self._whole_since) >= QUIET_S

    def __str__(self) -> str:
        with self._lock:
            return self._said

    def close(self) -> None:
        """Looks no more."""
        self._stop.set()
        self._thread.join(ABANDON_S)

    def _run(self) -> None:
        ids = set(self._mesh.mesh.nodes)
        while not self._stop.wait(LOOK_S):
            began = time.monotonic()
            try:
                with connect(self._mesh.choose(self._rng), timeout=ATTACH_S) as client:
                    space = client.files.df()
            except VelumError as error:
                self._note(began, False, f"no answer: {error}")
                continue
            unrest = space.unchecked or space.at_risk or space.damaged or space.repair_bytes
            whole = not unrest and {node.node for node in space.nodes} == ids
            self._note(began, whole, _short(space))
            for text in over_budget(space):
                self._on_fault(text)

    def _note(self, began: float, whole: bool, said: str) -> None:
        with self._lock:
            self._looked = began
            self._said = said
            if not whole:
                self._whole_since = None
            elif self._whole_since is None:
                self._whole_since = began


def over_budget(space: Space) -> Iterator[str]:
    """Which nodes use more than they give."""
    for node in space.nodes:
        if node.used > node.budget:
            yield f"node {node.node} uses {node.used} bytes of {node.budget} for chunks"


def _short(space: Space) -> str:
    return (
        f"nodes {[node.node for node in space.nodes]}, of which {space.unchecked} have to look; "
        f"{space.at_risk} files at risk, {space.damaged} damaged; {space.repair_bytes} bytes to be "
        f"copied; {space.used} used"
    )


class FileStreams:
    """Threads that make one call after the other, each through a client of its own."""

    def __init__(
        self,
        seed: int,
        seconds: float,
        mesh: ChaosMesh,
        log: Path,
        on_line: Callable[[str], None],
        on_fault: Callable[[str], None],
    ) -> None:
        """Starts them; `log` gets a line for every call. The callbacks may come from any thread."""
        self.tally = FileTally()
        self._seconds = seconds
        self._mesh = mesh
        self._on_line = on_line
        self._on_fault = on_fault
        self._log = log.open("w", buffering=1)
        self._names = [f"chaos/{number}" for number in range(NAMES)]
        self._calls = Calls(History(self._names), len(mesh.mesh.nodes))
        self._lock = threading.Lock()  # of the tally, the log and what is under way
        self._busy: dict[int, tuple[float, str]] = {}  # by thread: since when, and at what
        self._stop = threading.Event()
        self._give_up = threading.Event()
        self._healing = True
        self.watch = Watch(seed, mesh, on_fault)
        self._rng = random.Random(f"end {seed}")
        self._threads = [
            threading.Thread(
                target=self._run,
                args=(random.Random(f"files {seed} {number}"), number >= STEADY),
                name=f"stream {number}",
                daemon=True,
            )
            for number in range(STREAMS)
        ]
        for thread in self._threads:
            thread.start()

    # ---- what the run asks ----

    def look(self) -> None:
        """Is anything late?"""
        now = time.monotonic()
        with self._lock:
            late = [what for since, what in self._busy.values() if since + LATE_S < now]
        for what in late:
            self._bad(f"{what}: not done within {LATE_S:.0f} s")
        quiet_since = self._mesh.quiet_since
        if quiet_since is None:
            self._healing = True
        elif self._healing and self.watch.whole(quiet_since):
            self._healing = False
            took_s = now - quiet_since
            self.tally.heals += 1
            self.tally.slowest_heal_s = max(self.tally.slowest_heal_s, took_s)
            self._on_line(f"whole {took_s:.1f} s after all nodes stood: {self.watch}")
        elif self._healing and now - quiet_since > HEAL_S:
            self._bad(f"not whole {HEAL_S:.0f} s after all nodes stood: {self.watch}")

    def finish(self) -> None:
        """Begins no more calls, waits for those under way and until all is whole; then reads all
        files once more, removes them, and waits until their RAM is free."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if not self._wait_whole():
            return
        self._on_line("reading every file once more, and removing it")
        calls = self._calls
        for call, names in (
            (calls.list_all, [""]),
            (calls.get, self._names),
            (calls.remove, self._names),
            (calls.list_all, [""]),
        ):
            for name in names:
                client = self._insist(self._rng, call, name, None)
                if client is None:
                    return
                client.close()
        self._wait_drained()

    def abandon(self) -> None:
        """Waits for nothing any more, and not for long for threads that are in a call."""
        self._give_up.set()
        self._stop.set()
        self.watch.close()
        end = time.monotonic() + ABANDON_S
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        with self._lock:
            self._log.close()

    # ---- calls ----

    def _run(self, rng: random.Random, rests: bool) -> None:
        calls = self._calls
        kinds: dict[Call, int] = {
            calls.put: 30,
            calls.get: 30,
            calls.remove: 10,
            calls.get_range: 8,
            calls.read_slowly: 6,
            calls.list_all: 4,
            calls.stat: 4,
            calls.give_up: 4,
            calls.vanish: 2,
        }
        client: Client | None = None
        while not self._stop.is_set():
            call = rng.choices(list(kinds), list(kinds.values()))[0]
            client = self._insist(rng, call, rng.choice(self._names), client)
            if rests:
                self._stop.wait(rng.uniform(*REST_S))
        if client is not None:
            client.close()

    def _insist(
        self, rng: random.Random, call: Call, name: str, client: Client | None
    ) -> Client | None:
        """Makes a call until it succeeds; the client to be used for the next one."""
        what = f"{call.__name__} {name}"
        with self._lock:
            self._busy[threading.get_ident()] = (time.monotonic(), what)
            self.tally.running += 1
        while not self._give_up.is_set():
            if client is not None and (client.closed or rng.random() >= KEEP_CLIENT):
                client.close()
                client = None
            client = client or self._attach(rng)
            if client is not None and self._once(rng, call, name, client):
                break
            self._give_up.wait(RETRY_S)
        with self._lock:
            del self._busy[threading.get_ident()]
            self.tally.running -= 1
        return client

    def _attach(self, rng: random.Random) -> Client | None:
        """A client of a node that is there now, or in a moment."""
        with suppress(VelumError):
            client = connect(self._mesh.choose(rng), timeout=ATTACH_S)
            with self._lock:
                self.tally.clients += 1
            return client
        return None

    def _once(self, rng: random.Random, call: Call, name: str, client: Client) -> bool:
        """Whether a call need not be made again."""
        began = time.monotonic()
        kind, error = call.__name__, ""
        try:
            said = call(client, rng, name)
        except Wrong as wrong:
            said = error = str(wrong)
            self._bad(error)
        except VelumError as failure:
            said, error = f"{failure.name}: {failure}", failure.name
            writes = call in (self._calls.put, self._calls.give_up, self._calls.vanish)
            if failure.name not in (WRITE_TRANSIENT if writes else TRANSIENT):
                self._bad(f"{kind} {name}: {said}")
            elif call == self._calls.vanish:
                error = ""
        except Exception as failure:
            said = error = f"{kind} {name}: {type(failure).__name__}: {failure}"
            self._bad(error)
        took_s = time.monotonic() - began
        with self._lock:
            self._say(f"{took_s:8.3f} s {client.address} {kind} {name}: {said}")
            self.tally.slowest_s = max(self.tally.slowest_s, took_s)
            if error:
                self.tally.errors[error[:40]] += 1
            else:
                self.tally.calls[kind] += 1
        return not error

    def _say(self, text: str) -> None:
        if not self._log.closed:
            self._log.write(f"{datetime.now().isoformat(timespec='milliseconds')} {text}\n")

    def _bad(self, text: str) -> None:
        if not self._give_up.is_set():
            self._on_fault(text)

    # ---- the end ----

    def _wait_whole(self) -> bool:
        """False: it need not be waited for any more; `look` sees to it that this ends."""
        while (since := self._mesh.quiet_since) is None or not self.watch.whole(since):
            if self._give_up.wait(LOOK_S):
                return False
        return True

    def _wait_drained(self) -> None:
        """Waits until no node keeps chunks of the files that were removed."""
        patient = self._seconds >= OVER_S
        end = time.monotonic() + DRAIN_S
        while left := self._left(patient):
            if self._give_up.wait(LOOK_S):
                return
            if time.monotonic() > end:
                self._bad(f"{DRAIN_S:.0f} s after all files were removed nodes keep {left}")
                return
        self._on_line("no chunk is left")

    def _left(self, patient: bool) -> dict[int, Any]:
        """By node: what it keeps though there are no files; but if it will only keep it for
        OVER_S, and nobody is patient."""
        found: dict[int, Any] = {}
        for id, node in self._mesh.mesh.nodes.items():
            with suppress(VelumError), connect(node.address, timeout=ATTACH_S) as client:
                store = client.status()["store"]
                over = 0 if patient else store["chunks"]["over_bytes"]
                if store["used"] > over or store["files"]:
                    found[id] = store
        return found
