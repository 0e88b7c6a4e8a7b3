"""The clock of versions, by example and by random histories of nodes whose clocks are apart."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from velum.policy.hybridclock import (
    AHEAD_MS_MAX,
    COUNTER_BITS,
    TIME_MS_MAX,
    Clock,
    Version,
)

NOW = 1_700_000_000_000  # unix milliseconds, 2023
STAMPS = 1 << 64
LAST = Version(STAMPS - 1, 65535)
COUNTER_MAX = (1 << COUNTER_BITS) - 1
CARRIES_MAX = 1000  # more than steps in a history: how far counting may take a stamp, ms
CIVIL_MS_MAX = AHEAD_MS_MAX - CARRIES_MAX


def test_a_version_is_the_time_and_a_counter() -> None:
    clock = Clock(3)
    assert clock.next(NOW) == Version(NOW << COUNTER_BITS, 3)
    assert clock.next(NOW) == Version((NOW << COUNTER_BITS) + 1, 3)
    assert clock.next(NOW + 1) == Version((NOW + 1) << COUNTER_BITS, 3), "the counter starts anew"
    assert clock.next(NOW + 1).ms == NOW + 1


def test_later_wins_then_the_greater_id() -> None:
    assert Version(7, 9) < Version(8, 1) < Version(8, 2)


def test_a_clock_that_goes_back_only_counts() -> None:
    clock = Clock(3)
    first = clock.next(NOW)
    assert clock.next(NOW - 10**10) == Version(first.stamp + 1, 3)
    assert clock.next(-5) == Version(first.stamp + 2, 3)


def test_the_counter_carries_into_the_milliseconds() -> None:
    clock = Clock(3)
    drawn = [clock.next(NOW) for _ in range(COUNTER_MAX + 2)]
    assert drawn == sorted(set(drawn))
    assert drawn[-1] == Version((NOW + 1) << COUNTER_BITS, 3)
    assert clock.next(NOW + 1) > drawn[-1], "when the time gets there it is taken already"


def test_what_is_heard_is_surpassed() -> None:
    ahead, behind = Clock(1), Clock(2)
    version = ahead.next(NOW)
    assert behind.heard(version, now_ms=0), "at 1970, for want of a battery"
    assert behind.next(0) == Version(version.stamp + 1, 2)
    assert ahead.heard(Version(1, 2), NOW), "what is long past is heard too"
    assert ahead.next(NOW) == Version(version.stamp + 1, 1), "and moves nothing"


def test_the_greatest_version_leaves_room_for_ours() -> None:
    clock = Clock(3)
    assert not clock.heard(LAST, NOW)
    assert clock.next(NOW) == Version(NOW << COUNTER_BITS, 3)


def test_hearsay_drags_the_clock_so_far_and_no_further() -> None:
    clock = Clock(3)
    edge = (NOW + AHEAD_MS_MAX + 1) << COUNTER_BITS
    assert not clock.heard(Version(edge, 1), NOW)
    assert clock.heard(Version(edge - 1, 1), NOW)
    assert clock.next(NOW) == Version(edge, 3), "its own versions go on beyond the bound"
    assert not Clock(4).heard(Version(edge, 3), NOW), "for others within a clock's error of it"
    assert Clock(4).heard(Version(edge, 3), NOW + 1)


@pytest.mark.parametrize("now", [TIME_MS_MAX, (1 << 48) - 1, 1 << 48, 1 << 64])
def test_the_end_of_time_is_far_from_the_end_of_stamps(now: int) -> None:
    clock = Clock(3)
    assert clock.next(now).ms == TIME_MS_MAX
    assert not clock.heard(LAST, now)
    assert clock.heard(Version(((TIME_MS_MAX + AHEAD_MS_MAX + 1) << COUNTER_BITS) - 1, 1), now)
    assert STAMPS - clock.next(now).stamp > 1 << 62


class ClockMachine(RuleBasedStateMachine):
    """Nodes draw, hear in any order, once, twice or never, and their times jump.

    `civil` histories keep all times within the bound of each other and have no liar: there every
    version is heard. In the others a time may be anything and so may a version.
    """

    sent = Bundle("sent")

    @initialize(nodes=st.integers(min_value=2, max_value=4), civil=st.booleans())
    def begin(self, nodes: int, civil: bool) -> None:
        self.civil = civil
        self.clocks = [Clock(number + 1) for number in range(nodes)]
        self.times = [NOW] * nodes
        self.known = [Version(0, 0)] * nodes  # greatest drawn or heard by each
        self.drawn: set[Version] = set()
        self.time_max = NOW  # of any node, ever

    @rule(at=st.integers(min_value=0), ms=st.integers(min_value=0, max_value=2000))
    def pass_time(self, at: int, ms: int) -> None:
        self.set_time(at % len(self.times), self.times[at % len(self.times)] + ms)

    @rule(
        at=st.integers(min_value=0),
        civil=st.integers(min_value=0, max_value=CIVIL_MS_MAX),
        wild=st.integers(min_value=-(1 << 50), max_value=1 << 50),
    )
    def jump(self, at: int, civil: int, wild: int) -> None:
        self.set_time(at % len(self.times), civil if self.civil else wild)

    def set_time(self, number: int, time: int) -> None:
        self.times[number] = min(time, CIVIL_MS_MAX) if self.civil else time
        self.time_max = max(self.time_max, self.times[number])

    @rule(target=sent, at=st.integers(min_value=0))
    def draw(self, at: int) -> Version:
        number = at % len(self.clocks)
        version = self.clocks[number].next(self.times[number])
        assert version > self.known[number], "later than all it knew"
        assert version.origin == number + 1 and version.stamp < STAMPS
        assert version not in self.drawn, "no two are the same"
        assert version.ms >= min(self.times[number], TIME_MS_MAX), "never behind the time"
        if self.civil:
            assert version.ms <= self.time_max + CARRIES_MAX, "nor ahead of all, but by counting"
        self.known[number] = version
        self.drawn.add(version)
        return version

    @rule(target=sent, at=st.integers(min_value=0))
    def draw_many(self, at: int) -> Version:
        """A stranger that has heard what this node has uses up the counter."""
        return Version(self.known[at % len(self.known)].stamp | COUNTER_MAX, 65534)

    @rule(
        target=sent,
        stamp=st.one_of(st.just(STAMPS - 1), st.integers(min_value=0, max_value=STAMPS - 1)),
    )
    def lie(self, stamp: int) -> Version:
        """A stranger's version: any, or one that is heard everywhere and moves nothing."""
        return Version(0 if self.civil else stamp, 65535)

    def hear(self, at: int, version: Version) -> None:
        number = at % len(self.clocks)
        time = min(max(self.times[number], 0), TIME_MS_MAX)
        heard = self.clocks[number].heard(version, self.times[number])
        assert heard == (version.ms <= time + AHEAD_MS_MAX)
        assert heard or not self.civil
        if heard:
            self.known[number] = max(self.known[number], version)

    @rule(at=st.integers(min_value=0), version=sent)
    def deliver(self, at: int, version: Version) -> None:
        self.hear(at, version)

    @rule(at=st.integers(min_value=0), version=consumes(sent))
    def deliver_last(self, at: int, version: Version) -> None:
        self.hear(at, version)

    @invariant()
    def all_can_go_on(self) -> None:
        for known in getattr(self, "known", ()):
            assert known.ms < 1 << 48 and STAMPS - known.stamp > 1 << 62


TestClocks = ClockMachine.TestCase
