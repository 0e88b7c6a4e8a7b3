"""Fair shares of workers: by time, by weight, and never a credit for time spent elsewhere."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

from velum.policy.shares import Shares

Key = tuple[int, int]
A, B, C = 1, 2, 3


class Mill:
    """Some workers that take what is next; `length(name)` is how long a group's next task runs."""

    def __init__(self, workers: int, length: Callable[[int], int]) -> None:
        self.shares: Shares[Key] = Shares()
        self.length = length
        self.idle = workers
        self.now = 1000
        self.ends: list[tuple[int, Key]] = []
        self.weights: dict[int, int] = {}
        self.count: dict[int, int] = {}
        self.had: dict[int, int] = {}  # running time by group
        self.order: list[int] = []

    def add(self, name: int, count: int = 1, weight: int = 1) -> None:
        self.weights[name] = weight
        for _ in range(count):
            self.count[name] = self.count.get(name, 0) + 1
            self.shares.add((name, self.count[name]), name, weight, self.count[name], self.now)
        self.serve()

    def serve(self) -> None:
        while self.idle and self.shares:
            key, note = self.shares.take(self.now)
            assert note == key[1], "the notes come back"
            heapq.heappush(self.ends, (self.now + self.length(key[0]), key))
            self.idle -= 1
            self.order.append(key[0])
        self.shares.validate([key for _, key in self.ends])

    def run(self, ms: int, refill: bool = True) -> None:
        """Lets time pass; `refill`: each that ends is followed by another of its group."""
        until = self.now + ms
        while self.ends and self.ends[0][0] <= until:
            self.now, key = heapq.heappop(self.ends)
            self.shares.end(key, self.now)
            self.idle += 1
            self.had[key[0]] = self.had.get(key[0], 0) + self.length(key[0])
            if refill:
                self.add(key[0], 1, self.weights[key[0]])
            self.serve()
        self.now = until


def test_equal_groups_take_turns() -> None:
    mill = Mill(1, lambda _: 10)
    mill.add(A)
    mill.add(A, 3)
    mill.add(B, 3)
    mill.add(C, 1)
    mill.run(1000, refill=False)
    assert mill.order == [A, B, C, A, B, A, B, A]


def test_a_newcomer_waits_for_one_task_of_each_slot_only() -> None:
    for workers in (1, 3):
        mill = Mill(workers, lambda name: 100 if name == A else 7)
        mill.add(A, 1000)
        for came in (50, 175, 1099, 2000):
            mill.run(came)
            mill.order.clear()
            mill.add(B)
            mill.run(100, refill=False)
            assert B in mill.order[: workers + 1], (workers, came, mill.order)


def test_shares_are_of_time_not_of_tasks() -> None:
    for workers in (1, 2, 5):
        mill = Mill(workers, lambda name: {A: 100, B: 10}[name])
        mill.add(A, 8)
        mill.add(B, 8)
        mill.run(100_000)
        assert abs(mill.had[A] / mill.had[B] - 1) < 0.05, (workers, mill.had)


def test_weights() -> None:
    for workers in (1, 2, 5):
        mill = Mill(workers, lambda name: {A: 200, B: 30, C: 70}[name])
        for name, weight in ((A, 1), (B, 2), (C, 7)):
            mill.add(name, 2 * workers, weight)
        mill.run(400_000)
        per_weight = [mill.had[A], mill.had[B] / 2, mill.had[C] / 7]
        assert max(per_weight) < 1.1 * min(per_weight), (workers, mill.had)


def test_a_group_whose_queue_is_empty_now_and_then_keeps_its_weight() -> None:
    """A coordinator sends the next lease when one has ended: the queue is empty for a moment."""
    mill = Mill(1, lambda _: 50)
    mill.add(A, 4, 1)
    mill.add(B, 2, 9)
    mill.run(100_000)
    assert 8 < mill.had[B] / mill.had[A] < 10, mill.had


def test_several_slots_do_not_all_take_the_same_group() -> None:
    """Each start counts before it has ended."""
    mill = Mill(4, lambda name: 1000)
    mill.add(A, 20)
    mill.run(5_999)
    mill.add(B, 20)
    mill.order.clear()
    mill.run(1000, refill=False)
    assert mill.order == [B, A, B, A]


def test_time_spent_alone_is_not_held_against_anybody() -> None:
    mill = Mill(2, lambda name: 3_600_000 if name == C else 100)
    mill.add(A, 5)
    mill.run(1_000_000)
    mill.add(B, 5)  # A has had the workers for a thousand seconds
    mill.had.clear()
    mill.run(10_000)
    assert 0.8 < mill.had[A] / mill.had[B] < 1.25, mill.had
    mill.add(C)  # one long task, whose group falls ever further behind
    mill.run(3_000_000)
    mill.had.clear()
    mill.add(4, 5)
    mill.run(10_000)
    assert 0.8 < mill.had[A] / mill.had[4] < 1.25, "who comes does not start where C stands"


def test_a_group_that_returns_has_saved_nothing_up() -> None:
    mill = Mill(1, lambda _: 10)
    mill.add(A, 5)
    mill.add(B, 1)
    mill.run(10, refill=False)
    mill.run(100_000)
    mill.order.clear()
    mill.add(C, 50)
    mill.run(200)
    assert mill.order.count(A) >= 5, mill.order


def test_what_is_removed_never_runs() -> None:
    shares: Shares[Key] = Shares()
    for ticket in range(3):
        shares.add((A, ticket), A, 1, 0, 0)
    shares.remove((A, 1))
    assert list(shares.waiting()) == [(A, 0), (A, 2)] and shares.waiting_of(A) == 2
    assert [shares.take(0)[0] for _ in range(2)] == [(A, 0), (A, 2)]
    shares.end((A, 0), 5)
    shares.end((A, 2), 5)
    shares.validate([])
    assert not shares and shares.waiting_of(A) == 0


def test_nobody_starves_whatever_comes() -> None:
    """Random groups, lengths and weights: all that wait run, and the books are right throughout."""
    for seed in range(30):
        rng = random.Random(seed)
        mill = Mill(rng.randint(1, 4), lambda _, rng=rng: rng.choice((0, 1, 10, 200)))
        for _ in range(60):
            mill.add(rng.randint(1, 6), rng.randint(1, 5), rng.choice((1, 10, 100)))
            if mill.shares and rng.random() < 0.3:
                mill.shares.remove(rng.choice(list(mill.shares.waiting())))
            mill.run(rng.choice((0, 5, 300)), refill=False)
        mill.run(1_000_000, refill=False)
        assert not mill.shares and not mill.ends, f"seed {seed}"
