"""Threads of a chaos run that make one call after the other, each through a client of its own.

Owns: the threads, how long a call may take, what is counted of them, and their log. Refuses to know
what a call does and is to come to, and what befalls the nodes meanwhile (`velum.chaos`).

A call may fail while a node is gone; it is then made again, through another client, until it
succeeds: only that must not take longer than LATE_S. Errors that no lost node explains are faults.
"""

from __future__ import annotations

import random
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from velum.chaosmesh import ChaosMesh
from velum.client import Client, connect
from velum.errors import VelumError

STREAMS: Final = 4  # threads that call
STEADY: Final = 2  # of them, those that never rest
REST_S: Final = (0.0, 0.5)  # of the others between two calls
KEEP_CLIENT: Final = 0.8  # how often a client is used once more
LATE_S: Final = 60.0  # a node that is silent costs a call 10 s, and may do so for each step of it
ATTACH_S: Final = 10.0
RETRY_S: Final = 0.1
ABANDON_S: Final = 3.0

# What a call may end in while nodes come and go.
TRANSIENT: Final = frozenset(
    "UNREACHABLE TIMEOUT CLOSED REFUSED LOST LEAVING UNCERTAIN STALE CAPACITY CANCELLED".split()
)

Call = Callable[[Client, random.Random, str], str]  # what it did, in words


class Wrong(Exception):
    """What must never be, in words."""


@dataclass
class CallTally:
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


class CallStreams(ABC):
    """The threads. Subclasses say which calls there are, of what, and what may go wrong."""

    rest_s: tuple[float, float] = (0.0, 0.0)  # of those that never rest, between two calls

    def __init__(
        self, seed: int, mesh: ChaosMesh, log: Path, on_fault: Callable[[str], None]
    ) -> None:
        """Starts nothing yet; `log` gets a line for every call. The callback may come from any
        thread."""
        self.tally = CallTally()
        self._mesh = mesh
        self._on_fault = on_fault
        self._log = log.open("w", buffering=1)
        self._lock = threading.Lock()  # of the tally, the log and what is under way
        self._busy: dict[int, tuple[float, str]] = {}  # by thread: since when, and at what
        self._stop = threading.Event()
        self._give_up = threading.Event()
        self._rng = random.Random(f"end {seed}")
        self._threads = [
            threading.Thread(
                target=self._run,
                args=(random.Random(f"stream {seed} {number}"), number),
                name=f"stream {number}",
                daemon=True,
            )
            for number in range(STREAMS)
        ]

    # ---- what is called ----

    @abstractmethod
    def kinds(self) -> dict[Call, int]:
        """The calls, and how often each is made."""

    @abstractmethod
    def subject(self, rng: random.Random, stream: int, call: Call) -> str:
        """What the next call of a stream is about."""

    @abstractmethod
    def passes(self, call: Call, error: str) -> bool:
        """Whether a call may end in this error, and is made again."""

    # ---- what the run asks ----

    def look(self) -> None:
        """Is anything late?"""
        now = time.monotonic()
        with self._lock:
            late = [what for since, what in self._busy.values() if since + LATE_S < now]
        for what in late:
            self._bad(f"{what}: not done within {LATE_S:.0f} s")

    def abandon(self) -> None:
        """Waits for nothing any more, and not for long for threads that are in a call."""
        self._give_up.set()
        self._stop.set()
        end = time.monotonic() + ABANDON_S
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        with self._lock:
            self._log.close()

    def _begin(self) -> None:
        for thread in self._threads:
            thread.start()

    def _end_calls(self) -> None:
        """Begins no more calls, and waits for those under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    # ---- calls ----

    def _run(self, rng: random.Random, stream: int) -> None:
        kinds = self.kinds()
        rest_s = REST_S if stream >= STEADY else self.rest_s
        client: Client | None = None
        while not self._stop.is_set():
            call = rng.choices(list(kinds), list(kinds.values()))[0]
            client = self._insist(rng, call, self.subject(rng, stream, call), client)
            self._stop.wait(rng.uniform(*rest_s))
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
        kind, again = call.__name__, ""
        try:
            said = call(client, rng, name)
        except Wrong as wrong:
            said = again = str(wrong)
            self._bad(said)
        except VelumError as failure:
            said = f"{failure.name}: {failure}"
            again = failure.name if self.again(call) else ""
            if not self.passes(call, failure.name):
                self._bad(f"{kind} {name}: {said}")
        except Exception as failure:
            said = again = f"{kind} {name}: {type(failure).__name__}: {failure}"
            self._bad(said)
        took_s = time.monotonic() - began
        with self._lock:
            self._say(f"{took_s:8.3f} s {client.address} {kind} {name}: {said}")
            self.tally.slowest_s = max(self.tally.slowest_s, took_s)
            if again:
                self.tally.errors[again[:40]] += 1
            else:
                self.tally.calls[kind] += 1
        return not again

    def again(self, call: Call) -> bool:
        """Whether a call that has failed is made again."""
        return True

    def _say(self, text: str) -> None:
        if not self._log.closed:
            self._log.write(f"{datetime.now().isoformat(timespec='milliseconds')} {text}\n")

    def _bad(self, text: str) -> None:
        if not self._give_up.is_set():
            self._on_fault(text)
