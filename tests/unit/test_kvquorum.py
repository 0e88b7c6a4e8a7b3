"""`velum.kvquorum` on a real core with members that the test speaks for."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from velum import _core
from velum.kvquorum import QUORUM, TRIES_MAX, Quorum, is_quorum_cas, words_of
from velum.policy import kvtalk as talk
from velum.policy.kvcas import ROUND_MS, Why
from velum.policy.kvroster import Member, Roster
from velum.policy.kvtalk import NEVER, Stamp
from velum.resp import request
from velum.runtime import now_ms

CAS = (b"VELUM.CAS", b"k", b"0", b"v")


class Rig:
    """Node 1 of three; what it says to node 2 is noted, node 3 is away."""

    def __init__(self, core: _core.Kv) -> None:
        members = [Member(1, 11), Member(2, 22), Member(3, 33)]
        roster = Roster(members[0], members)
        roster.confirm()
        self.core = core
        self.said: list[Any] = []
        self.told: list[tuple[int, bytes]] = []
        self.uncertain = 0
        self.disk = True
        self.joined = [2]
        self.quorum = Quorum(
            core,
            roster,
            random.Random(1),
            lambda _node, message: self.said.append(message),
            lambda: self.joined,
            lambda done: done(self.disk),
        )

    def ask(self, *words: bytes) -> None:
        def uncertain() -> None:
            self.uncertain += 1

        self.quorum.ask(words, lambda *told: self.told.append(told), uncertain)

    def promise(self, version: Stamp = NEVER) -> None:
        self.quorum.heard(2, talk.Promise(self.said[-1].round, version, version))


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr("velum.policy.kvcas.PROMISE_REST_MS", 0)
    hub = _core.Hub(watches=8)
    yield Rig(hub.open_kv(1, 1 << 20, 1))
    hub.close()


def test_a_majority_writes(rig: Rig) -> None:
    rig.ask(*CAS, b"JSON")
    (prepare,) = rig.said
    assert isinstance(prepare, talk.Prepare) and prepare.key == b"k"
    rig.promise()
    accept = rig.said[-1]
    assert isinstance(accept, talk.Accept) and not rig.told
    record = _core.decode_kv_record(accept.record)
    assert record[1] == b"k" and record[3:6] == (b"v", True, prepare.ballot)
    rig.quorum.heard(2, talk.Accepted(accept.round))
    version = b"%016x-1" % prepare.ballot[0]
    assert rig.told == [(QUORUM, b"$%d\r\n%b\r\n" % (len(version), version))]
    assert rig.core.version(b"k")[0] == prepare.ballot


def test_another_version_is_null(rig: Rig) -> None:
    rig.ask(*CAS)
    rig.promise(Stamp(2, 2))
    assert rig.told == [(0, b"_\r\n")] and rig.core.version(b"k")[0] == NEVER


def test_who_meets_another_tries_again(rig: Rig) -> None:
    rig.ask(*CAS)
    ballots = set()
    for _ in range(TRIES_MAX):
        assert not rig.told
        ballots.add(rig.said[-1].ballot)
        rig.quorum.heard(2, talk.Declined(rig.said[-1].round, Why.LATER))
        rig.quorum.on_time(now_ms() + 1000)
    assert len(ballots) == TRIES_MAX and len(rig.said) == TRIES_MAX
    assert rig.told[0][1].startswith(b"-NOQUORUM others write this key")


def test_who_meets_another_may_win_later(rig: Rig) -> None:
    rig.ask(*CAS)
    rig.quorum.heard(2, talk.Declined(rig.said[-1].round, Why.LATER))
    due = rig.quorum.next_deadline()
    assert due is not None and due - now_ms() <= 20
    rig.quorum.on_time(due)
    rig.promise()
    rig.quorum.heard(2, talk.Accepted(rig.said[-1].round))
    assert rig.told[0][0] == QUORUM


def test_without_a_majority_nothing_is_written(rig: Rig) -> None:
    rig.joined = []
    rig.ask(*CAS)
    assert not rig.said and rig.told[0][1].startswith(b"-NOQUORUM")
    rig.joined = [2]
    rig.ask(*CAS)
    rig.quorum.lost(2)
    assert rig.told[1][1].startswith(b"-NOQUORUM too few")
    assert rig.core.version(b"k")[0] == NEVER


def test_who_is_lost_after_it_was_told_leaves_it_uncertain(rig: Rig) -> None:
    rig.ask(*CAS)
    rig.promise()
    rig.quorum.lost(2)
    assert (rig.told, rig.uncertain) == ([], 1)


def test_a_disk_that_fails_is_no_yes(rig: Rig) -> None:
    rig.disk = False
    rig.ask(*CAS)
    rig.promise()
    assert rig.uncertain == 1 and not rig.told


def test_silence_ends(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.ask(*CAS)
    late = now_ms() + ROUND_MS + 1
    monkeypatch.setattr("velum.kvquorum.now_ms", lambda: late)
    rig.quorum.on_time(late)
    assert rig.told[0][1].startswith(b"-NOQUORUM")


def test_a_record_for_something_else_is_not_taken(rig: Rig) -> None:
    ballot = Stamp(rig.core.stamp()[0], 2)
    line = _core.encode_kv_record((1, b"other", b"", b"v", False, ballot, (0, 0), False, 0, 0))
    digest = rig.quorum._cas._roster.digest
    for number, record in enumerate((line, b"nonsense\n", line[:-1])):
        rig.quorum.heard(2, talk.Accept(number, digest, ballot, b"k", record))
        assert rig.said[-1] == talk.Declined(number, Why.FULL)
    assert rig.core.version(b"other")[0] == NEVER
    rig.quorum.heard(2, talk.Accept(9, digest, ballot, b"other", line))
    assert rig.said[-1] == talk.Accepted(9) and rig.core.version(b"other")[0] == ballot


@pytest.mark.parametrize(
    "words",
    [
        CAS[:3],
        (*CAS, b"PX"),
        (*CAS, b"JSON", b"x"),
        (CAS[0], b"k", b"1", b"v"),
        (CAS[0], b"k", b"00000000000000zz-1", b"v"),
        (CAS[0], b"k", b"0000000000000002-x", b"v"),
        (CAS[0], b"", b"0", b"v"),
        (CAS[0], b"k", b"0", bytes(1 << 21)),
    ],
)
def test_what_is_no_compare_and_set_is_an_error(rig: Rig, words: tuple[bytes, ...]) -> None:
    rig.ask(*words)
    assert rig.told[0][1].startswith(b"-ERR") and not rig.said


def test_requests_are_told_apart() -> None:
    assert is_quorum_cas((b"velum.cas",), QUORUM)
    assert not is_quorum_cas((b"velum.cas",), 3) and not is_quorum_cas((b"SET",), QUORUM)
    assert words_of(request(CAS)) == list(CAS)
    assert words_of(b"GET k\r\n") == [] == words_of(b"*1\r\n:1\r\n") == words_of(b"")
