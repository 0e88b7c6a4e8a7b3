"""Which copies a node makes next: the queue of repair, and its rate.

Owns: jobs that wait, most urgent first, those under way, and how many bytes may be moved by when.
Refuses to know: what a job is about, and whether it is still wanted.

A job's urgency is its margin: how many more losses its chunk or stripe stands. Of equal margin the
oldest goes first. The rate is a token bucket in integers: a job starts while there are tokens, and
takes what it costs, if need be on debt; so the mean is right for jobs of any size. *Hints* cost
nothing, a HOLD that is expected to end in HAVE, and wait in a queue of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

SENDS_MAX: Final = 8  # under way at once: 8 MiB of the usual chunks, enough to fill a link
HINTS_MAX: Final = 64  # the same of hints, small frames
MARGINS: Final = 4  # the last one stands for all greater
BURST_MS: Final = 250  # of the rate may be saved up
JOB_MS_MAX: Final = 120_000  # after which a job nobody has reported on counts as lost


class Job(NamedTuple):
    """A copy of a chunk to a node, or the rebuilding of what lacks of a chunk or stripe."""

    what: bytes
    node: int  # 0: rebuild


class Repairs:
    """The queue; rates in bytes per second, None for no bound."""

    def __init__(self, rate: int | None) -> None:
        self._rate = rate
        self._tokens = 0 if rate is None else rate * BURST_MS  # thousandths of a byte
        self._filled_ms: int | None = None
        self._queues: tuple[dict[Job, int], ...] = tuple({} for _ in range(MARGINS))
        self._hints: dict[Job, None] = {}
        self._place: dict[Job, int] = {}  # which queue; -1: hints
        self._under: dict[Job, tuple[int, int]] = {}  # bytes, since when; oldest first
        self._hints_under = 0
        self._waiting_bytes = 0
        self._moving_bytes = 0
        self.moved_bytes = 0  # ever

    @property
    def bytes_left(self) -> int:
        return self._waiting_bytes + self._moving_bytes

    def __contains__(self, job: Job) -> bool:
        return job in self._place or job in self._under

    def is_under_way(self, job: Job) -> bool:
        return job in self._under

    def add(self, job: Job, margin: int, cost: int) -> None:
        """Puts a job in its place; a job under way stays as it is. A hint costs 0."""
        if job in self._under:
            return
        place = min(max(margin, 0), MARGINS - 1) if cost else -1
        if self._place.get(job) == place:
            return
        self.discard(job)
        self._place[job] = place
        if place < 0:
            self._hints[job] = None
        else:
            self._queues[place][job] = cost
            self._waiting_bytes += cost

    def discard(self, job: Job) -> None:
        """A job that waits is not wanted any more."""
        place = self._place.pop(job, None)
        if place is None:
            return
        if place < 0:
            del self._hints[job]
        else:
            self._waiting_bytes -= self._queues[place].pop(job)

    def clear(self) -> None:
        """None that waits is wanted any more."""
        for job in list(self._place):
            self.discard(job)

    def due(self, now: int) -> Iterator[Job]:
        """Takes out the jobs that may start; the caller says `began` of each, or it is void."""
        self._fill(now)
        while self._hints and self._hints_under < HINTS_MAX:
            job = next(iter(self._hints))
            self.discard(job)
            yield job
        while self._may_start():
            queue = next((queue for queue in self._queues if queue), None)
            if queue is None:
                return
            job = next(iter(queue))
            self.discard(job)
            yield job

    def _may_start(self) -> bool:
        free = len(self._under) - self._hints_under < SENDS_MAX
        return free and (self._rate is None or self._tokens > 0)

    def began(self, job: Job, cost: int, now: int) -> None:
        """A job is under way."""
        self._under[job] = (cost, now)
        self._hints_under += not cost
        self._moving_bytes += cost
        if self._rate is not None:
            self._tokens -= cost * 1000

    def ended(self, job: Job, moved: int) -> bool:
        """A job is over and has moved so many bytes; False: it was not known to be under way."""
        found = self._under.pop(job, None)
        if found is None:
            return False
        cost = found[0]
        self._hints_under -= not cost
        self._moving_bytes -= cost
        self.moved_bytes += moved
        if self._rate is not None:
            self._tokens += (cost - moved) * 1000
        return True

    def overdue(self, now: int) -> list[Job]:
        """Those under way for too long."""
        found = []
        for job, (_, since) in self._under.items():
            if now - since < JOB_MS_MAX:
                break
            found.append(job)
        return found

    def next_deadline(self, now: int) -> int | None:
        """When a job may start, or one under way is overdue."""
        due = [since + JOB_MS_MAX for _, since in self._first_under()]
        if self._hints and self._hints_under < HINTS_MAX:
            due.append(now)
        free = len(self._under) - self._hints_under < SENDS_MAX
        if any(self._queues) and free:
            if self._rate is None or self._tokens > 0:
                due.append(now)
            else:
                due.append((self._filled_ms or 0) + -self._tokens // self._rate + 1)
        return min(due, default=None)

    def _first_under(self) -> Iterator[tuple[int, int]]:
        for entry in self._under.values():
            yield entry
            return

    def _fill(self, now: int) -> None:
        if self._rate is not None and self._filled_ms is not None:
            grown = self._tokens + (now - self._filled_ms) * self._rate
            self._tokens = min(grown, self._rate * BURST_MS)
        self._filled_ms = now

    def validate(self) -> None:
        """Raises AssertionError if an invariant does not hold."""
        waiting = [cost for queue in self._queues for cost in queue.values()]
        assert len(self._place) == len(waiting) + len(self._hints)
        assert self._waiting_bytes == sum(waiting)
        assert self._moving_bytes == sum(cost for cost, _ in self._under.values())
        assert self._hints_under == sum(not cost for cost, _ in self._under.values())
        assert not self._place.keys() & self._under.keys()
