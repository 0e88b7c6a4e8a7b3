"""The queue of repair, and the wheel of times: what they hold chunks by."""

from __future__ import annotations

from tests.unit.holdings_rig import key_of
from velum.policy.repairs import JOB_MS_MAX, SENDS_MAX, Job, Repairs
from velum.policy.wheel import Wheel


def test_the_least_safe_goes_first_then_the_oldest() -> None:
    repairs = Repairs(1)
    jobs = [Job(key_of(n), 2) for n in range(4)]
    for job, margin in zip(jobs, (2, 1, 0, 0), strict=True):
        repairs.add(job, margin, 1000)
    repairs.add(jobs[0], 0, 1000)  # it has become urgent
    found: list[Job] = []
    now = 0
    while repairs.bytes_left and len(found) < 4:
        now = repairs.next_deadline(now) or 0
        for job in repairs.due(now):
            repairs.began(job, 1000, now)
            found.append(job)
            repairs.ended(job, 1000)
        repairs.validate()
    assert found == [jobs[2], jobs[3], jobs[0], jobs[1]]
    assert now >= 2_900_000, "faster than 1 byte a second"


def test_the_rate_is_kept_on_the_mean() -> None:
    rate = 1 << 20
    repairs = Repairs(rate)
    for n in range(40):
        repairs.add(Job(key_of(n), 2), 0, 1 << 20)
    now = 0
    while repairs.bytes_left:
        for job in repairs.due(now):
            repairs.began(job, 1 << 20, now)
            repairs.ended(job, 1 << 20)
        due = repairs.next_deadline(now)
        now = now if due is None else max(now, due)
    assert 37_000 <= now <= 40_000


def test_at_most_so_many_are_under_way_and_what_did_not_travel_is_not_counted() -> None:
    repairs = Repairs(None)
    for n in range(20):
        repairs.add(Job(key_of(n), 2), 0, 10)
    started = []
    for job in repairs.due(0):
        repairs.began(job, 10, 0)
        started.append(job)
    assert len(started) == SENDS_MAX
    assert repairs.next_deadline(0) == JOB_MS_MAX
    assert repairs.ended(started[0], 0) and not repairs.ended(started[0], 0)
    assert (repairs.bytes_left, repairs.moved_bytes) == (190, 0)


def test_a_wheel_gives_what_is_meant_and_visits_as_many_as_it_may() -> None:
    wheel = Wheel()
    for n in range(100):
        wheel.set(b"%d" % n, 1000 + n % 3)
    wheel.set(b"7", 5000)
    for n in range(50, 100):
        wheel.cancel(b"%d" % n)
    assert wheel.next() is not None and wheel.take(999, 1000) == []
    found = []
    for _ in range(10):
        part = wheel.take(1100, 10)
        assert len(part) <= 10
        found += part
    assert sorted(found) == sorted(b"%d" % n for n in range(50) if n != 7)
    assert wheel.next() == wheel.when(b"7", 0) == 5000
