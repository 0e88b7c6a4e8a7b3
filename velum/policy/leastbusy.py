"""The least busy node: where tasks go when any node may run them.

Owns: what one lane (built-ins, or guests) knows of each member, and the choice. Refuses to know:
tasks, tickets, answers, time; docs/scheduling.md says why the rules are as they are.

* Built-ins cost a node a few microseconds, so what counts is that no node has a long line: they go
  where the fewest of ours are unanswered. A batch is poured like water: the level at which all
  lines end is computed once for the whole batch.
* A guest takes a worker, so it goes where it ends soonest. With n tasks there (ours unanswered, and
  those of others by the last report) on so many slots, that is max(1, (n + 1) / slots) / rate, the
  rate being the speed of a slot, less by what else keeps the CPUs busy. Equal: the emptier node.
* All else equal, they take turns (start-time fair queueing: Goyal, Vin and Cheng, SIGCOMM 1996), so
  that calls made one after another spread as evenly as a batch does.

In a large mesh some candidates are drawn at random first ("the power of two choices", Mitzenmacher,
1996); the others are looked at only if none of those has room.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from operator import itemgetter
from typing import Final

from .tasks import Kind
from .types import Health

# Built-ins unanswered at one node: some 10 ms of its work, enough to hide any round trip.
CALLS_WINDOW: Final = 8192
# Guests unanswered at one node for each of its workers: one runs, the next is there when it ends,
# two more hide the round trip of short guests. More would bind tasks to a node too early.
GUESTS_WINDOW_PER_SLOT: Final = 4
# Nodes looked at for one task; all of them in a mesh no larger. Keeps the cost of a choice flat.
CANDIDATES: Final = 16
# Speeds this close to the median count as the median: calibration is not more exact, and equal
# nodes are to be treated equally.
SPEED_NOISE: Final = 0.25
# A node's built-ins weigh so much more with its CPUs full. No more, for reports of equal nodes
# differ by chance; a node that is slow in fact keeps its line longer and is served less by that.
CALLS_CPU_WEIGHT: Final = 0.25


@dataclass(slots=True, eq=False)
class Post:
    """One member as one lane sees it."""

    id: int
    window: int = 0  # most sends unanswered at once
    flying: int = 0  # sends unanswered, stopped ones within their grace included
    resting: bool = False  # it has just refused one
    slots: int = 1  # tasks it runs at once
    others: int = 0  # tasks that other schedulers have there
    weight: float = (
        1.0  # how far one task moves its turn; for guests also a task's length on a slot
    )
    turn: float = 0.0  # its place in the round of those that are equal

    @property
    def room(self) -> int:
        """Sends it may be given now."""
        return 0 if self.resting else max(0, self.window - self.flying)

    def weigh_calls(self, health: Health) -> None:
        """Takes a report in, as the lane of built-ins does."""
        self.window = CALLS_WINDOW
        self.weight = 1 + CALLS_CPU_WEIGHT * health.cpu / 100

    def weigh_guests(self, health: Health, median_speed: int) -> None:
        """Takes a report in, as the lane of guests does.

        What of ours has arrived there is in the report too; it counts once, as ours. What is still
        on its way is taken off as well, so the others' work may look too small until next time.
        """
        self.window = health.slots * GUESTS_WINDOW_PER_SLOT
        self.slots = max(1, health.slots)
        self.others = max(0, health.queue + health.running - self.flying)
        self.weight = 1 / (self.slots * rate(health, median_speed))


def rate(health: Health, median_speed: int) -> float:
    """How fast a slot works off a task: 1.0 for one of median speed on otherwise idle CPUs.

    An unknown speed counts as the median. What the node's own workers take of the CPUs is not
    counted as busy, and the rest in steps of a quarter, down to a quarter.
    """
    speed = health.speed / median_speed if health.speed and median_speed else 1.0
    if abs(speed - 1) <= SPEED_NOISE:
        speed = 1.0
    foreign = health.cpu - 100 * health.running // max(1, health.cores)
    return speed * (4 - min(3, max(0, foreign) // 25)) / 4


def median_speed(healths: Iterable[Health]) -> int:
    """The median of the known speeds; 0 if none is known."""
    speeds = sorted(health.speed for health in healths if health.speed)
    return speeds[len(speeds) // 2] if speeds else 0


def water_fill(loads: Sequence[int], count: int) -> tuple[int, int, int]:
    """How to pour `count` unit tasks over ascending loads so that they end as level as can be.

    Returns (k, level, extra): the first k are filled up to `level`, and `extra` (< k) of those take
    one more.
    """
    k, total = 1, loads[0]
    while k < len(loads) and loads[k] * k - total < count:
        total += loads[k]
        k += 1
    level, extra = divmod(total + count, k)
    return k, level, extra


@dataclass(slots=True, eq=False)
class Lane:
    """The members that can run one kind of task."""

    kind: Kind
    posts: dict[int, Post] = field(default_factory=dict)
    clock: float = 0.0  # turn of the latest choice: nobody saves turns up while it is busy

    def share(
        self, count: int, rng: random.Random, avoid: Collection[int] = ()
    ) -> list[tuple[Post, int]]:
        """How many of `count` tasks each member gets, and counts them as flying. Less in all than
        `count` when there is no more room. A guest goes to a node in `avoid` only if it must."""
        posts = list(self.posts.values())
        sample = max(CANDIDATES, 2 * count)
        if sample >= len(posts):
            return self._choose(posts, count, avoid)
        shares = self._choose(rng.sample(posts, sample), count, avoid)
        count -= sum(given for _, given in shares)
        return shares + self._choose(posts, count, avoid) if count else shares

    def _choose(
        self, posts: list[Post], count: int, avoid: Collection[int]
    ) -> list[tuple[Post, int]]:
        if self.kind is Kind.BUILTIN:
            return self._choose_for_calls(posts, count)
        return self._choose_for_guests(posts, count, avoid)

    def _choose_for_calls(self, posts: list[Post], count: int) -> list[tuple[Post, int]]:
        """A whole batch at once."""
        clock = self.clock
        ranked = sorted(
            (post.flying, post.turn if post.turn > clock else clock, post.id, post)
            for post in posts
            if post.flying < post.window and not post.resting
        )
        if not ranked:
            return []
        count = min(count, sum(post.window - line for line, _, _, post in ranked))
        k, level, extra = water_fill([rank[0] for rank in ranked], count)
        shares = []
        for line, start, _, post in sorted(ranked[:k], key=itemgetter(1)):
            given = level - line
            if extra:
                extra -= 1
                given += 1
                post.turn = start + post.weight
                self.clock = start
            if given:
                post.flying += given
                shares.append((post, given))
        return shares

    def _choose_for_guests(
        self, posts: list[Post], count: int, avoid: Collection[int]
    ) -> list[tuple[Post, int]]:
        """One by one, each counted before the next is placed."""

        def rank(post: Post) -> tuple[bool, float, float, float, int, Post]:
            there = post.flying + post.others
            ends = max(post.slots, there + 1) * post.weight
            start = max(post.turn, self.clock)
            return (post.id in avoid, ends, there / post.slots, start, post.id, post)

        heap = [rank(post) for post in posts if post.room]
        heapify(heap)
        given: dict[int, int] = {}
        while heap and count:
            _, _, _, start, number, post = heap[0]
            self.clock = max(self.clock, start)
            post.turn = start + post.weight
            post.flying += 1
            given[number] = given.get(number, 0) + 1
            count -= 1
            if post.room:
                heapreplace(heap, rank(post))
            else:
                heappop(heap)
        return [(self.posts[number], n) for number, n in given.items()]
