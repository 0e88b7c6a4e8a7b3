"""The files of a chaos run: which calls are made of them, and whether they are looked after.

Owns: how often what is called, how long a repair may take, and the end: every file is read once
more, all are removed, and the RAM is free again. What a call is, and what it must come to, is
`velum.chaoscalls`; who makes them, `velum.chaosstreams`. Refuses to know what befalls the nodes
meanwhile (`velum.chaos`).

A mesh that is not whole again HEAL_S after it was left in peace is a fault.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from velum.chaoscalls import Calls
from velum.chaoshistory import History
from velum.chaosmesh import ChaosMesh
from velum.chaosstreams import ABANDON_S, ATTACH_S, TRANSIENT, Call, CallStreams
from velum.client import connect
from velum.errors import VelumError
from velum.filebackend import Space

NAMES: Final = 48  # few enough that they are fought for

HEAL_S: Final = 90.0  # copies at 32 MiB/s and node; who is not first to see to them waits 30 s more
QUIET_S: Final = 3.0  # what members have found out by then they have begun to see to
OVER_S: Final = 60.0  # chunks of what was removed stay so long; a shorter run does not wait for it
DRAIN_S: Final = 200.0  # a lost RELEASE is made good in 60 s, a lost answer in 60 s more
LOOK_S: Final = 0.3

# A put may lose a chunk with the nodes that had it; a file that is there may not.
WRITE_TRANSIENT: Final = TRANSIENT | {"CHUNKS_LOST"}


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


class FileStreams(CallStreams):
    """Threads that put, read and remove files."""

    def __init__(
        self,
        seed: int,
        seconds: float,
        mesh: ChaosMesh,
        log: Path,
        on_line: Callable[[str], None],
        on_fault: Callable[[str], None],
    ) -> None:
        """Starts them. The callbacks may come from any thread."""
        super().__init__(seed, mesh, log, on_fault)
        self._seconds = seconds
        self._on_line = on_line
        self._names = [f"chaos/{number}" for number in range(NAMES)]
        self._calls = Calls(History(self._names), len(mesh.mesh.nodes))
        self._healing = True
        self.watch = Watch(seed, mesh, on_fault)
        self._begin()

    def kinds(self) -> dict[Call, int]:
        calls = self._calls
        return {
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

    def subject(self, rng: random.Random, stream: int, call: Call) -> str:
        return rng.choice(self._names)

    def passes(self, call: Call, error: str) -> bool:
        writes = call in (self._calls.put, self._calls.give_up, self._calls.vanish)
        return error in (WRITE_TRANSIENT if writes else TRANSIENT)

    def again(self, call: Call) -> bool:
        return call != self._calls.vanish

    # ---- what the run asks ----

    def look(self) -> None:
        """Is anything late, or not whole for too long?"""
        super().look()
        now = time.monotonic()
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
        self._end_calls()
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
        """Waits for nothing any more."""
        self.watch.close()
        super().abandon()

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
