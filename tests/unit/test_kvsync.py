"""Sessions of anti-entropy by example: two policies and their stores, one step at a time."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from velum.policy import kvpull
from velum.policy import kvsync_io as io
from velum.policy import kvtalk as talk
from velum.policy.kvmarks import MARK_MS, Marks
from velum.policy.kvpull import Known, Pull
from velum.policy.kvroster import Member, Roster
from velum.policy.kvsync import MISSED_MS, PULLS_MAX, RETRY_MS, SILENCE_MS, SYNC_MS, Sync
from velum.policy.kvtalk import Stamp
from velum.sim.kv_store import Model, Op, Record

ZEROS = (0,) * 16


def written(key: str, time: int = 1, op: Op = Op.SET) -> Record:
    return Record(op, key, Stamp(time << 1, 1), value="v" if op == Op.SET else "")


class Rig:
    """A node's policy and store, with a clock of its own; effects are kept."""

    def __init__(self, id: int, *members: Member) -> None:
        self.id = id
        self.now = 1000
        self.store = Model()
        self.roster = Roster(Member(id, 100 + id), members)
        self.sync = Sync(self.roster, self.store, 200 + id, random.Random(id), self.now)
        self.effects: list[io.Effect] = []

    def do(self, event: io.Event, ms: int = 0) -> list[io.Effect]:
        self.now += ms
        done = self.sync.handle(event, self.now)
        self.sync.validate()
        self.effects += done
        return done

    def hear(self, node: int, message: talk.Message, ms: int = 0) -> list[io.Effect]:
        return self.do(io.Heard(node, message), ms)

    def meet(self, node: int, life: int = 0) -> list[io.Effect]:
        """A link to another node that welcomes this one."""
        done = self.do(io.LinkOpened(node))
        done += self.hear(node, talk.Hello(100 + node, life or 200 + node))
        done += self.hear(node, talk.Welcome())
        return done

    def begun(self, node: int, sums: Sequence[int] = ZEROS, mark: int = 1) -> list[io.Effect]:
        """The peer answers the session that has just begun."""
        session = [m.session for m in said(self.effects, node) if isinstance(m, talk.Begin)][-1]
        return self.hear(node, talk.Began(session, mark, self.roster.digest, tuple(sums)))


def said(effects: Sequence[io.Effect], node: int) -> list[talk.Message]:
    return [e.message for e in effects if isinstance(e, io.Talk) and e.node == node]


def begins(effects: Sequence[io.Effect]) -> list[int]:
    return [e.node for e in effects if isinstance(e, io.Talk) and isinstance(e.message, talk.Begin)]


def join(*rigs: Rig) -> None:
    """Links all of them, and lets all that follows happen; walks and syncs too."""
    for a in rigs:
        for b in rigs:
            if a is not b:
                a.do(io.LinkOpened(b.id))
    settle(*rigs)


def settle(*rigs: Rig, ms: int = 0) -> int:
    """Performs effects until there are none, in the order of nodes; how many records were sent."""
    by_id = {rig.id: rig for rig in rigs}
    sent = 0
    for rig in rigs:
        if ms:
            rig.do(io.TimePassed(), ms)
    while any(rig.effects for rig in rigs):
        for rig in rigs:
            effects, rig.effects = rig.effects, []
            for effect in effects:
                sent += perform(rig, by_id, effect)
    return sent


def perform(rig: Rig, by_id: dict[int, Rig], effect: io.Effect) -> int:
    match effect:
        case io.Talk(node, message):
            by_id[node].hear(rig.id, talk.decode(talk.encode(message)))
        case io.AskSums(node, session, level, nodes):
            sums = [(n, by_id[node].store.sums(level, n)) for n in nodes]
            rig.do(io.SumsHeard(node, session, level, sums))
        case io.AskLeaves(node, session, leaves):
            records = [r for leaf in leaves for r in by_id[node].store.leaf(leaf)]
            for record in records:
                rig.store.merge(record)
            rig.do(io.LeavesEnded(node, session, len(records), True))
            return len(records)
        case io.SyncLog(node, session):
            rig.do(io.Synced(node, session, True))
        case io.Tend(settle_to, drop_to):
            rig.store.tend(settle_to, drop_to)
            rig.do(io.Tended(settle_to))
    return 0


# ---- links ----


def test_a_link_is_of_use_once_both_ends_are_welcome() -> None:
    rig = Rig(1)
    assert said(rig.do(io.LinkOpened(2)), 2) == [talk.Hello(101, 201)]
    done = rig.hear(2, talk.Hello(102, 202))
    assert done == [io.SaveMembers(), io.Talk(2, talk.Welcome())], "on disk before it is welcome"
    assert rig.sync.joined == []
    done = rig.hear(2, talk.Welcome())
    assert done[0] == io.Join(2) and rig.sync.joined == [2]
    assert begins(done) == [2], "at once"


def test_nothing_is_heard_of_who_has_not_said_hello() -> None:
    rig = Rig(1)
    rig.do(io.LinkOpened(2))
    for message in (talk.Begin(1), talk.Told((Member(9, 9),), ()), talk.Missed()):
        assert rig.hear(2, message) == []
    assert rig.roster.members == {rig.roster.me}


def test_who_is_forgotten_is_refused_and_told() -> None:
    rig = Rig(1, Member(2, 102))
    rig.do(io.ForgetAsked(2))
    rig.do(io.LinkOpened(2))
    done = rig.hear(2, talk.Hello(102, 202))
    assert done == [io.Talk(2, talk.Forgotten()), io.Part(2, ours=False)]
    assert rig.hear(2, talk.Welcome()) == [] and rig.sync.joined == []


def test_who_is_forgotten_while_it_is_there_is_parted_from() -> None:
    rig = Rig(1)
    rig.meet(2)
    rig.meet(3)
    done = rig.do(io.ForgetAsked(2))
    assert io.Part(2, ours=False) in done and done[0] == io.SaveMembers()
    assert [type(m) for m in said(done, 3)] == [talk.Told]


def test_a_node_that_was_forgotten_parts_from_all() -> None:
    rig = Rig(1)
    rig.meet(2)
    rig.meet(3)
    done = rig.hear(2, talk.Told((Member(2, 102),), (101,)))
    assert io.Part(2, ours=True) in done and io.Part(3, ours=True) in done
    rig.do(io.LinkOpened(2))
    assert rig.hear(2, talk.Hello(102, 202)) == [io.Part(2, ours=True)]


def test_rosters_are_told_on_until_all_agree() -> None:
    a, b, c = Rig(1), Rig(2, Member(9, 9)), Rig(3)
    for one, other in ((a, b), (b, a), (b, c), (c, b)):
        one.do(io.LinkOpened(other.id))
    settle(a, b, c)
    assert a.roster.digest == b.roster.digest == c.roster.digest
    assert {m.id for m in a.roster.members} == {1, 2, 3, 9}


def test_a_roster_that_is_too_large_is_not_answered_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("velum.policy.kvroster.MEMBERS_MAX", 2)
    rig = Rig(1)
    rig.meet(2)
    for _ in range(3):
        done = rig.hear(2, talk.Told((Member(8, 8), Member(9, 9)), ()))
        assert done == []


# ---- sessions ----


def test_what_a_peer_has_is_here_after_a_session() -> None:
    a, b = Rig(1), Rig(2)
    for number in range(300):
        a.store.merge(written(f"a{number}"))
        b.store.merge(written(f"b{number}"))
    join(a, b)
    assert len(a.store.keys()) == len(b.store.keys()) == 600
    assert a.store.sums(0, 0) == b.store.sums(0, 0)
    assert a.sync.sessions == b.sync.sessions == 1 and a.sync.records >= 300


def test_equal_stores_ask_nothing() -> None:
    rig = Rig(1)
    rig.store.merge(written("k"))
    rig.meet(2)
    done = rig.begun(2, rig.store.sums(0, 0))
    assert [type(e) for e in done] == [io.SyncLog]


def test_the_difference_alone_is_asked_for() -> None:
    a, b = Rig(1), Rig(2)
    for number in range(2000):
        a.store.merge(written(f"{number}"))
        b.store.merge(written(f"{number}"))
    b.store.merge(written("only"))
    join(a, b)
    assert a.sync.records <= 5 and b.sync.records <= 5


def test_a_session_begins_every_while_with_one_of_all() -> None:
    rig = Rig(1)
    for node in range(2, 5):
        rig.meet(node)
        (sync,) = [e for e in rig.begun(node) if isinstance(e, io.SyncLog)]
        rig.do(io.Synced(node, sync.session, True))
    met = set()
    for _ in range(40):
        (node,) = begins(rig.do(io.TimePassed(), SYNC_MS))
        met.add(node)
        (sync,) = [e for e in rig.begun(node) if isinstance(e, io.SyncLog)]
        rig.do(io.Synced(node, sync.session, True))
    assert met == {2, 3, 4}


def test_a_missed_push_is_told_and_pulled() -> None:
    rig = Rig(1)
    rig.meet(2)
    (sync,) = [e for e in rig.begun(2) if isinstance(e, io.SyncLog)]
    rig.do(io.Synced(2, sync.session, True))
    assert rig.do(io.PushMissed(2)) == [io.Talk(2, talk.Missed())]
    assert begins(rig.hear(2, talk.Missed(), MISSED_MS)) == [2]
    (sync,) = [e for e in rig.begun(2) if isinstance(e, io.SyncLog)]
    rig.do(io.Synced(2, sync.session, True))
    assert begins(rig.hear(2, talk.Missed())) == [], "not at once again"
    assert rig.sync.next_deadline() <= rig.now + MISSED_MS
    assert begins(rig.do(io.TimePassed(), MISSED_MS)) == [2]


def test_one_session_per_peer_and_so_many_in_all() -> None:
    rig = Rig(1)
    for node in range(2, PULLS_MAX + 4):
        rig.meet(node)
    assert rig.sync.pulling == PULLS_MAX == len(begins(rig.effects))
    assert begins(rig.hear(2, talk.Missed())) == []
    assert begins(rig.do(io.LinkClosed(2))) == [PULLS_MAX + 2], "the next one's turn"


def test_silence_ends_a_session_and_it_is_tried_again() -> None:
    rig = Rig(1)
    rig.meet(2)
    rig.do(io.TimePassed(), SILENCE_MS - 1)
    rig.do(io.Progressed(2))
    rig.do(io.TimePassed(), SILENCE_MS - 1)
    assert rig.sync.pulling == 1
    assert begins(rig.do(io.TimePassed(), 1)) == [2]
    assert rig.begun(2) != []


@pytest.mark.parametrize("whole", [False, True])
def test_a_session_of_which_something_was_refused_does_not_count(whole: bool) -> None:
    rig = Rig(1)
    rig.meet(2)
    session = rig.sync._peers[2].session
    asked = rig.begun(2, [1, *ZEROS[1:]])
    assert asked == [io.AskSums(2, session, 1, (0,))]
    asked = rig.do(io.SumsHeard(2, session, 1, [(0, [5, *ZEROS[1:]])]))
    asked = rig.do(io.SumsHeard(2, session, 2, [(0, [5, *ZEROS[1:]])]))
    asked = rig.do(io.SumsHeard(2, session, 3, [(0, [5, 6, *ZEROS[2:]])]))
    assert asked == [io.AskLeaves(2, session, (0, 1))]
    done = rig.do(io.LeavesEnded(2, session, 3, whole))
    assert bool(done) == whole
    if not whole:
        assert rig.do(io.Synced(2, session, True)) == [], "an answer that comes late"
        assert begins(rig.do(io.TimePassed(), RETRY_MS)) == [2]


def test_a_log_that_fails_reports_nothing() -> None:
    rig = Rig(1)
    rig.meet(2)
    (sync,) = [e for e in rig.begun(2) if isinstance(e, io.SyncLog)]
    assert said(rig.do(io.Synced(2, sync.session, False)), 2) == []
    assert rig.sync.sessions == 0


@pytest.mark.parametrize(
    ("level", "sums"),
    [
        (1, [(3, ZEROS)]),
        (2, [(0, ZEROS)]),
        (1, []),
        (1, [(0, ZEROS), (0, ZEROS)]),
        (1, [(0, ZEROS[1:])]),
        (4, [(0, ZEROS)]),
    ],
)
def test_answers_to_nothing_end_the_session(level: int, sums: list[tuple[int, list[int]]]) -> None:
    rig = Rig(1)
    rig.meet(2)
    session = rig.sync._peers[2].session
    rig.begun(2, [1, *ZEROS[1:]])
    assert rig.do(io.SumsHeard(2, session, level, sums)) == []
    assert rig.sync.pulling == 0


def test_a_link_that_closes_ends_its_session() -> None:
    rig = Rig(1)
    rig.meet(2)
    session = rig.sync._peers[2].session
    rig.do(io.LinkClosed(2))
    assert rig.sync.pulling == 0 and rig.sync.joined == []
    assert begins(rig.meet(2)) == [2]
    assert rig.do(io.SumsHeard(2, session, 1, [(0, ZEROS)])) == []


def test_batches_of_leaves_follow_what_comes() -> None:
    pull = Pull(Model(), Known())
    pull.heard_root([1] * 16)
    for level in (1, 2, 3):
        asked = pull.next()
        assert asked is not None and asked[0] == level and len(asked[1]) <= kvpull.ASK_MAX
        assert pull.heard_sums(level, [(n, [1] * 16) for n in asked[1]])
    sizes = []
    for _ in range(6):
        asked = pull.next()
        assert asked is not None and asked[0] == 4
        sizes.append(len(asked[1]))
        assert pull.heard_leaves(10 * len(asked[1]))
    assert sizes == [16, 32, 64, 128, 200, 200], "some 2,000 records"
    asked = pull.next()
    assert asked is not None and pull.heard_leaves(10_000 * len(asked[1]))
    asked = pull.next()
    assert asked is not None and len(asked[1]) == 1


def test_what_differs_for_ever_is_pulled_once() -> None:
    """A tombstone that is settled on one side."""
    a, b = Rig(1, Member(3, 103)), Rig(2, Member(3, 103))
    for rig in (a, b):
        for number in range(50):
            rig.store.merge(written(f"{number}", 2, Op.DEL))
    a.store.tend(9, 0)
    join(a, b)
    assert a.sync.records == 50
    for _ in range(10):
        settle(a, b, ms=SYNC_MS)
    assert a.sync.records == 50 and a.sync.sessions > 5
    b.store.merge(written("new"))
    for _ in range(5):
        settle(a, b, ms=SYNC_MS)
    assert "new" in a.store.keys()
    assert a.sync.records <= 53, "the difference alone"


def test_a_peer_that_starts_anew_is_looked_at_anew() -> None:
    rig = Rig(1)
    rig.meet(2)
    rig.sync._peers[2].known.add({(1, 0): 7})
    rig.do(io.LinkClosed(2))
    rig.meet(2)
    assert [type(e) for e in rig.begun(2, [7, *ZEROS[1:]])] == [io.SyncLog]
    rig.do(io.LinkClosed(2))
    rig.meet(2, life=999)
    assert [type(e) for e in rig.begun(2, [7, *ZEROS[1:]])] == [io.AskSums]


# ---- tombstones ----


def deleted(*rigs: Rig) -> None:
    """One key that all of them have deleted."""
    for rig in rigs:
        rig.store.merge(written("k"))
        rig.store.merge(written("k", 2, Op.DEL))


def test_a_tombstone_goes_once_all_have_settled_it() -> None:
    a, b, c = Rig(1), Rig(2), Rig(3)
    join(a, b, c)
    settle(a, b, c, ms=MARK_MS)
    deleted(a)
    for _ in range(40):
        settle(a, b, c, ms=SYNC_MS)
    assert [rig.store.keys() for rig in (a, b, c)] == [[], [], []]


def test_a_member_that_is_away_holds_it_up() -> None:
    a, b = Rig(1, Member(9, 9)), Rig(2)
    deleted(a)
    join(a, b)
    for _ in range(40):
        settle(a, b, ms=SYNC_MS)
    assert a.store.sums(0, 0) == b.store.sums(0, 0) != list(ZEROS), "in all sums: not settled"
    a.do(io.ForgetAsked(9))
    for _ in range(40):
        settle(a, b, ms=SYNC_MS)
    assert a.store.keys() == b.store.keys() == []


def test_it_is_settled_when_all_have_it_and_not_dropped_before_all_have_settled() -> None:
    rig = Rig(1)
    rig.meet(2)
    rig.meet(3)
    deleted(rig)
    mark = began(rig, 2)
    assert tends(rig.hear(2, pulled(rig, mark))) == []
    later = began(rig, 3, 2 * MARK_MS)
    assert later > mark
    assert tends(rig.hear(3, pulled(rig, later))) == [(mark, 0)]
    assert tends(rig.hear(3, talk.Settled(201, later))) == []
    assert tends(rig.hear(2, talk.Settled(201, mark))) == [(mark, mark)]


def began(rig: Rig, node: int, ms: int = MARK_MS) -> int:
    """The mark that a peer is told that begins a session."""
    (message,) = said(rig.hear(node, talk.Begin(1), ms), node)[:1]
    assert isinstance(message, talk.Began)
    return message.mark


def pulled(rig: Rig, mark: int, life: int = 201) -> talk.Pulled:
    return talk.Pulled(life, mark, rig.roster.digest)


def tends(effects: Sequence[io.Effect]) -> list[tuple[int, int]]:
    return [(e.settle_to, e.drop_to) for e in effects if isinstance(e, io.Tend)]


def test_words_about_another_life_or_roster_count_nothing() -> None:
    rig = Rig(1)
    rig.meet(2)
    mark = began(rig, 2)
    assert tends(rig.hear(2, pulled(rig, mark, life=200))) == []
    assert tends(rig.hear(2, talk.Pulled(201, mark, rig.roster.digest ^ 1))) == []
    assert tends(rig.hear(2, talk.Pulled(201, mark + 9, rig.roster.digest))) == [], "never closed"
    assert tends(rig.hear(2, pulled(rig, mark))) == [(mark, 0)]
    assert tends(rig.hear(2, talk.Settled(200, mark))) == []


def test_who_has_pulled_has_what_was_here_then() -> None:
    rig = Rig(1)
    rig.meet(2)
    rig.meet(3)

    def credits(node: int, message: talk.Message) -> list[io.Effect]:
        return [e for e in rig.hear(node, message) if isinstance(e, (io.Offer, io.Credit))]

    assert credits(2, pulled(rig, 0)) == [], "it has not begun"
    assert credits(2, talk.Begin(7)) == [io.Offer(2)]
    (told,) = [m for m in said(rig.effects, 2) if isinstance(m, talk.Began)]
    assert credits(2, pulled(rig, told.mark, life=200)) == [], "of an earlier life"
    assert credits(2, pulled(rig, told.mark - 1)) == [], "of an earlier pull"
    assert credits(3, pulled(rig, told.mark)) == [], "of another's"
    assert credits(2, pulled(rig, told.mark)) == [io.Credit(2)]
    rig.hear(2, talk.Told((Member(4, 104),), ()))
    assert credits(2, talk.Pulled(201, told.mark, 0)) == [io.Credit(2)], "whatever its roster is"
    rig.meet(2)
    assert credits(2, pulled(rig, told.mark)) == [], "over another link"


def test_what_a_store_marks_is_later_than_what_a_session_was_told() -> None:
    marks: list[int] = []

    class Store(Model):
        def mark(self, mark: int) -> None:
            marks.append(mark)

    rig = Rig(1)
    rig.sync._store = Store()
    rig.meet(2)
    for _ in range(3):
        assert began(rig, 2) < marks[-1]
        assert began(rig, 2, 1) < marks[-1], "too soon for another"


def test_settled_is_said_of_what_was_complete_before() -> None:
    rig = Rig(1)
    rig.meet(2)
    (sync,) = [e for e in rig.begun(2, mark=7) if isinstance(e, io.SyncLog)]
    done = rig.do(io.Synced(2, sync.session, True))
    assert said(done, 2) == [talk.Pulled(202, 7, rig.roster.digest)]
    here = rig.sync._marks.mark
    assert said(rig.do(io.Tended(here - 1)), 2) == []
    assert said(rig.do(io.Tended(here)), 2) == [talk.Settled(202, 7)]
    assert said(rig.do(io.Tended(here + 1)), 2) == [], "once"


def test_settled_is_not_said_to_another_life() -> None:
    rig = Rig(1)
    rig.meet(2)
    (sync,) = [e for e in rig.begun(2, mark=7) if isinstance(e, io.SyncLog)]
    rig.do(io.Synced(2, sync.session, True))
    rig.do(io.LinkClosed(2))
    rig.meet(2, life=999)
    assert said(rig.do(io.Tended(99)), 2) == []


def test_a_mark_does_not_run_out() -> None:
    marks = Marks(0)
    marks.mark = (1 << 32) - 1
    assert marks.close(10 * MARK_MS) == (1 << 32) - 2 and marks.mark == (1 << 32) - 1


def test_alone_a_tombstone_goes() -> None:
    rig = Rig(1)
    deleted(rig)
    for _ in range(3):
        settle(rig, ms=SYNC_MS)
    assert rig.store.keys() == []


# ---- voters ----


def test_a_node_votes_once_it_has_pulled_from_all_under_this_roster() -> None:
    a, b, c = Rig(1), Rig(2), Rig(3)
    join(a, b)
    assert a.roster.confirmed and b.roster.confirmed
    a.do(io.LinkOpened(3))
    c.do(io.LinkOpened(1))
    settle(a, b, c)
    assert not a.roster.confirmed
    b.do(io.LinkOpened(3))
    c.do(io.LinkOpened(2))
    settle(a, b, c)
    for _ in range(40):
        settle(a, b, c, ms=SYNC_MS)
    assert all(rig.roster.confirmed for rig in (a, b, c))


def test_a_pull_under_unlike_rosters_makes_no_voter() -> None:
    rig = Rig(1)
    rig.meet(2)
    began = talk.Began(rig.sync._peers[2].session, 1, rig.roster.digest ^ 1, ZEROS)
    (sync,) = [e for e in rig.hear(2, began) if isinstance(e, io.SyncLog)]
    rig.do(io.Synced(2, sync.session, True))
    assert rig.sync.sessions == 1 and not rig.roster.confirmed
