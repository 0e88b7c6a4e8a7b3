"""Compare and set with a majority: by example, and many rounds under loss, delay and restarts."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from velum.policy import kvcas
from velum.policy import kvtalk as talk
from velum.policy.kvcas import PROMISE_REST_MS, ROUND_MS, Asked, Cas, Outcome, Why
from velum.policy.kvroster import Member, Roster
from velum.policy.kvtalk import NEVER, Stamp

KEY = b"key"
MEMBERS = [Member(id, 100 + id) for id in range(1, 6)]


class Keys:
    """Versions of keys; what has a stamp is visible, unless it was deleted."""

    def __init__(self) -> None:
        self.latest: dict[bytes, Stamp] = {}
        self.deleted: set[bytes] = set()

    def version(self, key: bytes) -> tuple[Stamp, Stamp]:
        latest = self.latest.get(key, NEVER)
        return (NEVER if key in self.deleted else latest), latest


def made(id: int = 1, now: int = 0, count: int = 3) -> tuple[Cas, Keys, Roster]:
    roster = Roster(MEMBERS[id - 1], MEMBERS[:count])
    roster.confirm()
    keys = Keys()
    return Cas(roster, keys, 7, now), keys, roster


def at(time: int, node: int = 1) -> Stamp:
    return Stamp(time, node)


TEN = at(10)


def asked(expected: Stamp = NEVER, ballot: Stamp = TEN, token: int = 1) -> Asked:
    return Asked(token, KEY, expected, ballot, b"record")


READY = PROMISE_REST_MS


def prepare(roster: Roster, ballot: Stamp, round: int = 1) -> talk.Prepare:
    return talk.Prepare(round, roster.digest, ballot, KEY)


def accept(roster: Roster, ballot: Stamp, round: int = 1) -> talk.Accept:
    return talk.Accept(round, roster.digest, ballot, KEY, b"record")


def answer(effects: Sequence[kvcas.Effect]) -> talk.Message:
    (effect,) = effects
    assert isinstance(effect, kvcas.Talk)
    return effect.message


# ---- the acceptor ----


def test_a_promise_tells_what_is_here() -> None:
    cas, keys, roster = made()
    keys.latest[KEY] = at(5)
    said = answer(cas.handle(kvcas.Heard(2, prepare(roster, at(10))), READY))
    assert said == talk.Promise(1, at(5), at(5))
    keys.deleted.add(KEY)
    said = answer(cas.handle(kvcas.Heard(2, prepare(roster, at(11))), READY))
    assert said == talk.Promise(1, NEVER, at(5))


@pytest.mark.parametrize("message", [prepare, accept])
def test_who_has_just_started_does_not_vote(message: object) -> None:
    cas, _, roster = made()
    ask = kvcas.Heard(2, message(roster, at(10)))  # type: ignore[operator]
    assert answer(cas.handle(ask, READY - 1)) == talk.Declined(1, Why.RESTING)
    (effect,) = cas.handle(ask, READY)
    assert not (isinstance(effect, kvcas.Talk) and isinstance(effect.message, talk.Declined))


def test_an_earlier_ballot_is_declined() -> None:
    cas, _, roster = made()
    cas.handle(kvcas.Heard(2, prepare(roster, at(10, 2))), READY)
    for message in (prepare(roster, at(10, 1)), accept(roster, at(10, 1))):
        said = answer(cas.handle(kvcas.Heard(3, message), READY))
        assert said == talk.Declined(1, Why.LATER)
    (write,) = cas.handle(kvcas.Heard(2, accept(roster, at(10, 2))), READY)
    assert write == kvcas.Write(2, 1, KEY, at(10, 2), b"record")


def test_what_is_later_here_is_not_overwritten() -> None:
    cas, keys, roster = made()
    keys.latest[KEY] = at(11)
    for message in (prepare(roster, at(10)), accept(roster, at(10))):
        said = answer(cas.handle(kvcas.Heard(2, message), READY))
        assert said == talk.Declined(1, Why.LATER)


def test_another_roster_or_no_voter_is_declined() -> None:
    cas, _, roster = made()
    other = talk.Prepare(1, roster.digest ^ 1, at(10), KEY)
    assert answer(cas.handle(kvcas.Heard(2, other), READY)) == talk.Declined(1, Why.ROSTER)
    roster.met(MEMBERS[4])
    said = answer(cas.handle(kvcas.Heard(2, prepare(roster, at(10))), READY))
    assert said == talk.Declined(1, Why.ROSTER), "it has not pulled under the new one"


def test_accepted_is_said_once_it_is_on_disk() -> None:
    cas, _, roster = made()
    (write,) = cas.handle(kvcas.Heard(2, accept(roster, at(10))), READY)
    assert isinstance(write, kvcas.Write)
    assert answer(cas.handle(kvcas.Written(2, 1, True), READY)) == talk.Accepted(1)
    assert cas.handle(kvcas.Written(2, 1, True), READY) == []
    cas.handle(kvcas.Heard(2, accept(roster, at(11), 2)), READY)
    assert answer(cas.handle(kvcas.Written(2, 2, False), READY)) == talk.Declined(2, Why.FULL)


def test_promises_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvcas, "PROMISES_MAX", 1)
    cas, _, roster = made()
    cas.handle(kvcas.Heard(2, prepare(roster, at(10))), READY)
    other = talk.Prepare(2, roster.digest, at(10), b"other")
    assert answer(cas.handle(kvcas.Heard(2, other), READY)) == talk.Declined(2, Why.FULL)
    later = READY + PROMISE_REST_MS
    assert isinstance(answer(cas.handle(kvcas.Heard(2, other), later)), talk.Promise)


# ---- the proposer ----


def begun(ask: Asked, joined: Sequence[int] = (2, 3)) -> tuple[Cas, int]:
    """A round whose own node has promised."""
    cas, _, _ = made()
    effects = cas.handle(ask, READY, joined)
    cas.validate()
    (message,) = {e.message for e in effects if isinstance(e, kvcas.Talk)}
    assert isinstance(message, talk.Prepare)
    return cas, message.round


def ends(effects: Sequence[kvcas.Effect]) -> list[tuple[Outcome, Stamp]]:
    return [(e.outcome, e.version) for e in effects if isinstance(e, kvcas.Ended)]


def promise(round: int, version: Stamp = NEVER) -> talk.Promise:
    return talk.Promise(round, version, version)


def test_a_majority_on_disk_is_done() -> None:
    cas, round = begun(asked())
    effects = cas.handle(kvcas.Heard(2, promise(round)), READY)
    assert [e.node for e in effects if isinstance(e, kvcas.Write)] == [1]
    assert [e.node for e in effects if isinstance(e, kvcas.Talk)] == [2]
    assert ends(cas.handle(kvcas.Written(1, round, True), READY)) == []
    done = cas.handle(kvcas.Heard(2, talk.Accepted(round)), READY)
    assert ends(done) == [(Outcome.DONE, at(10))]


def test_another_version_is_a_conflict_and_nothing_is_sent() -> None:
    cas, round = begun(asked())
    effects = cas.handle(kvcas.Heard(2, promise(round, at(5))), READY)
    assert effects == [kvcas.Ended(1, Outcome.CONFLICT, at(5))]


def test_the_version_beside_the_latest_stamp_counts() -> None:
    cas, keys, _ = made()
    keys.latest[KEY] = at(5)
    effects = cas.handle(asked(NEVER), READY, (2, 3))
    round = next(e.message.round for e in effects if isinstance(e, kvcas.Talk))
    effects = cas.handle(kvcas.Heard(2, talk.Promise(round, NEVER, at(6))), READY)
    assert any(isinstance(e, kvcas.Write) for e in effects), "it was deleted there, later"


def test_a_minority_refuses_at_once() -> None:
    cas, _, _ = made()
    assert ends(cas.handle(asked(), READY, ())) == [(Outcome.REFUSED, NEVER)]
    assert ends(cas.handle(asked(), READY, (8, 9))) == [(Outcome.REFUSED, NEVER)]


@pytest.mark.parametrize(
    ("why", "outcome"),
    [(Why.RESTING, Outcome.REFUSED), (Why.ROSTER, Outcome.REFUSED), (Why.LATER, Outcome.BUSY)],
)
def test_too_many_noes(why: Why, outcome: Outcome) -> None:
    cas, round = begun(asked())
    assert ends(cas.handle(kvcas.Heard(2, talk.Declined(round, why)), READY)) == []
    done = cas.handle(kvcas.Heard(3, talk.Declined(round, why)), READY)
    assert ends(done) == [(outcome, NEVER)]


def test_links_that_close_before_and_after_it_was_sent() -> None:
    cas, round = begun(asked())
    cas.handle(kvcas.Lost(2), READY)
    assert ends(cas.handle(kvcas.Lost(3), READY)) == [(Outcome.REFUSED, NEVER)]
    cas, round = begun(asked())
    cas.handle(kvcas.Heard(2, promise(round)), READY)
    assert ends(cas.handle(kvcas.Lost(2), READY)) == [(Outcome.UNCERTAIN, at(10))]


def test_time_before_and_after_it_was_sent() -> None:
    cas, _ = begun(asked())
    assert cas.next_deadline() == READY + ROUND_MS
    done = cas.handle(kvcas.TimePassed(), READY + ROUND_MS)
    assert ends(done) == [(Outcome.REFUSED, NEVER)]
    cas, round = begun(asked())
    cas.handle(kvcas.Heard(2, promise(round)), READY)
    late = kvcas.Heard(2, talk.Accepted(round))
    assert ends(cas.handle(late, READY + ROUND_MS)) == [(Outcome.UNCERTAIN, at(10))]


def test_an_answer_counts_once() -> None:
    roster_of_five = made(count=5)[0]
    effects = roster_of_five.handle(asked(), READY, (2, 3, 4, 5))
    round = next(e.message.round for e in effects if isinstance(e, kvcas.Talk))
    for _ in range(3):
        assert roster_of_five.handle(kvcas.Heard(2, promise(round)), READY) == []
    assert roster_of_five.handle(kvcas.Heard(3, promise(round)), READY) != []


# ---- many rounds ----


class Mesh:
    """Nodes whose frames are late or lost, whose records travel beside, and that start anew."""

    def __init__(self, seed: int, count: int) -> None:
        self.rng = random.Random(seed)
        self.now = 0
        self.count = count
        self.stamp = 0
        self.nodes: dict[int, tuple[Cas, Keys]] = {}
        self.kept = {id: Keys() for id in range(1, count + 1)}
        self.under_way: list[tuple[int, int, int, kvcas.Event]] = []  # when, number, node, event
        self.asks: dict[int, Asked] = {}
        self.ended: dict[int, tuple[Outcome, Stamp]] = {}
        self.number = 0
        for id in self.kept:
            self.start(id)

    def start(self, id: int) -> None:
        self.under_way = [
            w for w in self.under_way if id != w[2] and id != getattr(w[3], "node", 0)
        ]
        roster = Roster(MEMBERS[id - 1], MEMBERS[: self.count])
        roster.confirm()
        cas = Cas(roster, self.kept[id], self.rng.getrandbits(64), self.now)
        self.nodes[id] = (cas, self.kept[id])

    def later(self, node: int, event: kvcas.Event) -> None:
        self.number += 1
        when = self.now + self.rng.choice((1, 10, 100, 2000))
        self.under_way.append((when, self.number, node, event))

    def do(self, id: int, event: kvcas.Event) -> None:
        cas, keys = self.nodes[id]
        for effect in cas.handle(event, self.now, list(self.nodes)):
            match effect:
                case kvcas.Talk(node, message):
                    if self.rng.random() < 0.9:
                        self.later(node, kvcas.Heard(id, message))
                case kvcas.Write(node, round, key, ballot, _):
                    keys.latest[key] = max(ballot, keys.latest.get(key, NEVER))
                    self.later(id, kvcas.Written(node, round, True))
                case kvcas.Ended(token, outcome, version):
                    assert token not in self.ended
                    self.ended[token] = (outcome, version)
        cas.validate()

    def run(self, ms: int) -> None:
        end = self.now + ms
        while self.under_way and min(self.under_way)[0] <= end:
            first = min(self.under_way, key=lambda w: w[:2])
            self.under_way.remove(first)
            self.now = max(self.now, first[0])
            self.do(first[2], first[3])
        self.now = end
        for id in self.nodes:
            self.do(id, kvcas.TimePassed())

    def ask(self, id: int) -> None:
        """With the version that it has, mostly, and a clock that is behind, perhaps."""
        self.stamp += self.rng.choice((1, 1, 5))
        here = self.nodes[id][1].latest.get(KEY, NEVER)
        seen = [keys.latest.get(KEY, NEVER) for _, keys in self.nodes.values()]
        time = max(self.stamp - self.rng.choice((0, 0, 3)), here.time + 1)
        ballot = Stamp(time, id)
        if any(ballot == held.ballot for held in self.asks.values()):
            return
        token = len(self.asks) + 1
        expected = self.rng.choice([here, here, *seen])
        self.asks[token] = Asked(token, KEY, expected, ballot, b"")
        self.do(id, self.asks[token])

    def gossip(self) -> None:
        one, other = self.rng.sample(sorted(self.nodes), 2)
        latest = self.nodes[one][1].latest.get(KEY, NEVER)
        theirs = self.nodes[other][1].latest
        theirs[KEY] = max(latest, theirs.get(KEY, NEVER))


@pytest.mark.parametrize("seed", range(60))
def test_what_is_done_is_one_chain(seed: int) -> None:
    mesh = Mesh(seed, 3 + 2 * (seed % 2))
    mesh.run(PROMISE_REST_MS)
    for _ in range(150):
        mesh.run(mesh.rng.choice((0, 0, 5, 50, 1000)))
        what = mesh.rng.random()
        if what < 0.6:
            mesh.ask(mesh.rng.choice(list(mesh.nodes)))
        elif what < 0.65:
            mesh.start(mesh.rng.choice(list(mesh.nodes)))
        elif what < 0.8:
            mesh.gossip()
    mesh.run(2 * ROUND_MS)
    done = {mesh.asks[token].ballot: mesh.asks[token].expected
            for token, (outcome, _) in mesh.ended.items() if outcome is Outcome.DONE}  # fmt: skip
    assert len(set(done.values())) == len(done), "two are done of one version"
    at_end = max(keys.latest.get(KEY, NEVER) for _, keys in mesh.nodes.values())
    expected = {ask.ballot: ask.expected for ask in mesh.asks.values()}
    chain = set()
    while at_end != NEVER:
        assert at_end not in chain
        chain.add(at_end)
        at_end = expected[at_end]
    assert done.keys() <= chain, "one that was done is not what came after stands on"


def test_rounds_succeed_at_all() -> None:
    outcomes = []
    for seed in range(20):
        mesh = Mesh(seed, 3)
        mesh.run(PROMISE_REST_MS)
        for _ in range(20):
            mesh.ask(1)
            mesh.run(3000)
        outcomes += [outcome for outcome, _ in mesh.ended.values()]
    assert outcomes.count(Outcome.DONE) > 50
