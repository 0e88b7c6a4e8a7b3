"""The parts of membership by example: suspicion, dissemination, probing order, agenda."""

from __future__ import annotations

import random

from velum.policy.agenda import Agenda
from velum.policy.dissemination import Dissemination, copies
from velum.policy.membership_tuning import PERIOD_MS
from velum.policy.probing import PROBE_MS_MAX, PROBE_MS_MIN, ProbeOrder, RoundTrip
from velum.policy.roster import GONE_MAX, Roster
from velum.policy.suspicion import (
    SUSPICION_MAX_MS,
    SUSPICION_MIN_MS,
    SUSPICION_PAIR_MS,
    LocalHealth,
    confirmations_wanted,
    suspicion_timeout_ms,
)
from velum.policy.types import ALIVE, DEAD, NODE, SUSPECT, Address, Update

BORN = 1_000_000  # incarnation of every member here


def record(id: int, state: int = ALIVE, incarnation: int = BORN, *, accuser: int = 0) -> Update:
    return Update(id, state, NODE, incarnation, Address(0x7F000001, 8000), accuser)


def test_suspicion_timeouts() -> None:
    assert [confirmations_wanted(live) for live in (2, 3, 4, 5, 1000)] == [0, 1, 2, 3, 3]
    times = [suspicion_timeout_ms(count, 3) for count in range(5)]
    assert times[0] == SUSPICION_MAX_MS and times[3] == times[4] == SUSPICION_MIN_MS
    assert times == sorted(times, reverse=True)
    assert suspicion_timeout_ms(0, 0) == SUSPICION_PAIR_MS


def test_local_health_is_bounded_and_stretches() -> None:
    local = LocalHealth()
    local.better()
    assert local.stretch(PERIOD_MS) == PERIOD_MS
    local.worse(100)
    assert local.stretch(PERIOD_MS) == 9 * PERIOD_MS


def test_the_round_trip_timeout_follows_within_bounds() -> None:
    trip = RoundTrip()
    assert trip.timeout_ms == PROBE_MS_MIN
    for _ in range(100):
        trip.sample(400)
    assert 400 <= trip.timeout_ms <= PROBE_MS_MAX
    for _ in range(100):
        trip.sample(2_000)
    assert trip.timeout_ms == PROBE_MS_MAX


def test_news_is_sent_least_sent_first_and_so_often() -> None:
    news = Dissemination()
    news.queue(record(2))
    news.queue(record(3))
    assert news.take(1, 2) == (record(2),) and news.take(1, 2) == (record(3),)
    news.queue(record(4))
    assert news.take(2, 2) == (record(4), record(2))
    assert set(news.take(9, 2)) == {record(3), record(4)} and not news


def test_newer_news_replaces_older_and_accusations_stand_side_by_side() -> None:
    news = Dissemination()
    news.queue(record(2))
    accusations = {record(2, SUSPECT, accuser=id) for id in (3, 4)}
    for accusation in accusations:
        news.queue(accusation)
    assert set(news.take(9, 9)) == accusations
    news.queue(record(2, SUSPECT, BORN + 1, accuser=3))
    assert news.take(9, 9) == (record(2, SUSPECT, BORN + 1, accuser=3),)
    news.queue(record(2, DEAD))
    assert news.take(9, 9) == (record(2, DEAD),)
    news.drop(2)
    assert not news
    news.validate(set())


def test_copies_grow_with_the_logarithm() -> None:
    assert [copies(members) for members in (1, 4, 100, 1_000, 10_000)] == [4, 6, 10, 13, 16]


def test_the_order_draws_everybody_once_a_round() -> None:
    order = ProbeOrder(random.Random(1))
    for id in range(1, 101):
        order.add(id)
    for _ in range(3):
        assert sorted(order.next() or 0 for _ in range(100)) == list(range(1, 101))
    order.remove(5)
    order.remove(6)
    order.add(6)
    seen = {order.next() for _ in range(300)}
    assert 5 not in seen and 6 in seen
    order.validate(set(range(1, 101)) - {5})


def test_a_sample_is_of_different_fitting_members() -> None:
    order = ProbeOrder(random.Random(1))
    assert order.sample(3, lambda id: True) == [] and order.next() is None
    for id in range(1, 101):
        order.add(id)
    for _ in range(100):
        few = order.sample(3, lambda id: id % 2 == 0)
        assert len(few) == len(set(few)) and all(id % 2 == 0 for id in few)
        assert len(order.sample(30, lambda id: id > 98)) == 2


def test_the_gone_are_bounded() -> None:
    roster = Roster(1, random.Random(1))
    for id in range(2, GONE_MAX + 12):
        roster.enter(record(id, DEAD), 0)
        roster.forget(0)
    assert len(roster.members) == GONE_MAX and 2 not in roster.members
    roster.validate()


def test_an_agenda_keeps_one_time_a_key() -> None:
    agenda = Agenda()
    for when in range(1_000):
        agenda.set((1, 0), 1_000 - when)
    agenda.set((2, 0), 5)
    agenda.set((2, 0), 50)
    agenda.set((3, 0), 2)
    agenda.cancel((3, 0))
    assert agenda.next() == 1 and agenda.pop(0) is None
    assert agenda.pop(1) == (1, 0) and agenda.next() == 50 and len(agenda) == 1
    agenda.clear()
    assert agenda.next() is None


def test_an_address_reads_as_people_write_it() -> None:
    assert str(Address(0x7F000001, 8001)) == "127.0.0.1:8001"
