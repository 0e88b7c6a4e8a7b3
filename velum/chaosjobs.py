"""The scatters of a chaos run: what they compute, what they must answer, and who waits for them.

Owns: which works a seed draws, each one's answer from one node with one worker, the threads whose
clients keep some of them going all the time, and whether an answer is right: the same bits. Refuses
to know what befalls the nodes meanwhile (`velum.chaos`).
"""

from __future__ import annotations

import random
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from velum.client import Client, connect
from velum.errors import VelumError
from velum.installed import installed
from velum.node import Node
from velum.policy.job import Record, as_plain
from velum.scatterjob import ScatterJob

SLICES: Final = (8, 20_000)
SIZE: Final = (0.5, 4.0)  # of a work, in what a worker of a quick machine does in a second
FULL_S: Final = 40.0  # a shorter run has smaller works: each is computed alone before it
WORKS_MAX: Final = 12
WORK_EVERY_S: Final = 7.0  # one more work for so much of the run

STREAMS: Final = 4  # threads that want answers
STEADY: Final = 2  # of them, those that never rest
REST_S: Final = (0.0, 6.0)  # of the others between two jobs
KEEP_CLIENT: Final = 0.5  # how often a client is used once more

# A job is late when it takes so many times what one worker needs for it alone, and so much on top.
# Up to four jobs share at least two nodes' workers, and every one of them may be lost every few
# seconds, with its coordinator: two dozen of those times are what that costs when all goes wrong.
LATE_FACTOR: Final = 20
LATE_S: Final = 60.0
ALONE_S: Final = 120.0  # for a work alone
LOOK_S: Final = 0.5
ABANDON_S: Final = 3.0
ATTACH_S: Final = 30.0  # a client may have to wait until a node is started again


@dataclass(frozen=True)
class Kind:
    """A guest's function that is worth a range. `length` takes a worker about a second."""

    guest: str
    function: str
    length: int
    last: int  # no range goes beyond
    reductions: tuple[str, ...]
    slices: tuple[int, int] = SLICES


# The value of a slice says where it was cut (pi), in which order it was added up (floats), what it
# was (the lists), or takes very different times (primes).
KINDS: Final = (
    Kind("primes.wasm", "count_primes", 900_000, 6_000_000, ("sum", "min", "max", "collect")),
    Kind("pi.wasm", "pi_hits", 20_000_000, 1 << 30, ("sum", "xor", "max", "and", "or", "collect")),
    Kind("floats.wasm", "harmonic", 80_000_000, 1 << 30, ("sum", "min", "product")),
    Kind("floats.wasm", "harmonic32", 80_000_000, 1 << 30, ("sum", "collect")),
    Kind("search.wasm", "search", 80_000_000, 1 << 30, ("first",)),
    # It ends where it finds something: only short slices are searched to their ends.
    Kind("search.wasm", "search", 40_000_000, 1 << 30, ("all",), (2_000, 20_000)),
)
_MISSING: Final = -1  # what search() gives where there is nothing


@dataclass(frozen=True)
class Work:
    """One scatter, to be run any number of times. `answer` is that of one node alone, with one
    worker, and `alone_s` how long that took."""

    kind: Kind
    start: int
    end: int
    slices: int
    reduce: str
    answer: Any = None
    alone_s: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.kind.guest} {self.kind.function} {self.start} {self.end} "
            f"--reduce {self.reduce} --slices {self.slices}"
        )

    @property
    def late_s(self) -> float:
        """After which there must be an answer, whatever befalls the mesh."""
        return LATE_S + LATE_FACTOR * self.alone_s

    def scatter(self, mesh: Client | Node, priority: int = 10) -> ScatterJob:
        """Runs it."""
        kind = self.kind
        return mesh.scatter(
            str(installed("guests", kind.guest)),
            kind.function,
            self.start,
            self.end,
            reduce=self.reduce,
            missing=_MISSING if kind.function == "search" else None,
            slices=self.slices,
            priority=priority,
        )


def draw_works(seed: int, seconds: float) -> list[Work]:
    """What the seed makes of the kinds: each of them, then more for a longer run."""
    rng = random.Random(f"works {seed}")
    count = max(len(KINDS), min(WORKS_MAX, round(seconds / WORK_EVERY_S)))
    works = []
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        size = rng.uniform(*SIZE) * min(1.0, seconds / FULL_S)
        length = round(kind.length * size)
        start = rng.randrange(kind.last - length)
        fewest, most = kind.slices
        slices = round(fewest * (most / fewest) ** rng.random())
        reduce = rng.choice(kind.reductions) if number >= len(KINDS) else kind.reductions[0]
        works.append(Work(kind, start, start + length, slices, reduce))
    return works


def answer_alone(works: list[Work]) -> Iterator[Work]:
    """The works with their answers, from one node that knows no other and has one worker."""
    with Node(1, 0, beacon=False, workers=1) as node:
        for work in works:
            began = time.monotonic()
            answer = work.scatter(node).result(ALONE_S)
            yield replace(work, answer=answer, alone_s=time.monotonic() - began)


def bits(answer: Any) -> Any:
    """What two answers must have in common to be the same: types, and bits of floats."""
    if isinstance(answer, list):
        return [bits(value) for value in answer]
    return struct.pack("<d", answer) if isinstance(answer, float) else answer


@dataclass
class Tally:
    """What came of all jobs so far. Under the streams' lock."""

    right: int = 0
    running: int = 0
    slices: int = 0
    retries: int = 0
    duplicates: int = 0
    adoptions: int = 0
    clients: int = 0
    slowest_s: float = 0.0
    slowest_share: float = 0.0  # of the time after which a job is late

    def count(self, record: Record, took_s: float, late_s: float) -> None:
        """A job has ended well."""
        self.right += 1
        self.slices += record.slices
        self.retries += record.retries
        self.duplicates += record.duplicates
        self.adoptions += record.epoch - 1
        self.slowest_s = max(self.slowest_s, took_s)
        self.slowest_share = max(self.slowest_share, took_s / late_s)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        plain = asdict(self)
        del plain["running"]
        return {name: round(v, 3) if name[:4] == "slow" else v for name, v in plain.items()}


@dataclass(frozen=True)
class BadJob:
    """A job whose answer was wrong, late, or an error."""

    work: Work
    what: str
    took_s: float
    answer: Any
    home: str  # the node that the client hung on
    record: dict[str, Any] | None

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "what": self.what,
            "runs": str(self.work),
            "expected": self.work.answer,
            "answer": self.answer,
            "took_s": round(self.took_s, 3),
            "client_at": self.home,
            "record": self.record,
        }


class Streams:
    """Threads that want one answer after the other, each through a client of its own."""

    def __init__(
        self,
        seed: int,
        works: list[Work],
        choose: Callable[[random.Random], str],
        on_right: Callable[[Work, float], None],
        on_bad: Callable[[BadJob], None],
    ) -> None:
        """Starts them. `choose` gives a node to attach to, as host:port; the other two are told of
        every job's end, in any thread."""
        self.tally = Tally()
        self._works = works
        self._choose = choose
        self._on_right = on_right
        self._on_bad = on_bad
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._give_up = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._run,
                args=(random.Random(f"stream {seed} {number}"), number >= STEADY),
                name=f"stream {number}",
                daemon=True,
            )
            for number in range(STREAMS)
        ]
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Begins no more jobs; returns when those under way have ended, or are late."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def abandon(self) -> None:
        """Waits for no answer any more, and not for long for threads that are attaching."""
        self._give_up.set()
        self._stop.set()
        end = time.monotonic() + ABANDON_S
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _run(self, rng: random.Random, rests: bool) -> None:
        client: Client | None = None
        try:
            while not self._stop.is_set():
                if client is not None and (client.closed or rng.random() >= KEEP_CLIENT):
                    client.close()
                    client = None
                client = client or self._attach(rng)
                if client is None:
                    continue
                self._one(client, rng.choice(self._works), rng.randint(1, 30))
                if rests:
                    self._stop.wait(rng.uniform(*REST_S))
        finally:
            if client is not None:
                client.close()

    def _attach(self, rng: random.Random) -> Client | None:
        """A client of a node that is there now, or in a moment."""
        address = self._choose(rng)
        if not address:
            self._stop.wait(0.1)
            return None
        try:
            client = connect(address, timeout=ATTACH_S)
        except VelumError:
            return None  # this node will not be there for long; another one is
        with self._lock:
            self.tally.clients += 1
        return client

    def _one(self, client: Client, work: Work, priority: int) -> None:
        with self._lock:
            self.tally.running += 1
        began = time.monotonic()
        job = work.scatter(client, priority)
        answer, what = self._wait(job, work)
        took_s = time.monotonic() - began
        with self._lock:
            self.tally.running -= 1
            if what == "" and job.record is not None:
                self.tally.count(job.record, took_s, work.late_s)
        if self._give_up.is_set() and what:
            return
        if what == "":
            self._on_right(work, took_s)
            return
        record = None if job.record is None else as_plain(job.record, job.spec)
        self._on_bad(BadJob(work, what, took_s, answer, client.address, record))

    def _wait(self, job: ScatterJob, work: Work) -> tuple[Any, str]:
        """The answer, and what is wrong: nothing, mostly."""
        end = time.monotonic() + work.late_s
        while not job.wait(LOOK_S):
            if self._give_up.is_set():
                return None, "abandoned"
            if time.monotonic() > end:
                return None, f"no answer after {work.late_s:.0f} s"
        try:
            answer = job.result(0)
        except (VelumError, FutureTimeout) as error:
            return None, f"ended with an error: {error}"
        return answer, "" if bits(answer) == bits(work.answer) else "a wrong answer"
