"""The policy of names, one rule of its table at a time; invariants are checked after every
event."""

from __future__ import annotations

import pytest

from tests.unit.catalog_rig import (
    UNIX_MS,
    Node,
    digest_of,
    entry,
    grave,
    item_of,
    kept_by,
)
from velum.policy import catalog
from velum.policy import catalog_io as io
from velum.policy.catalog import (
    AWAITED_MAX,
    COMPARE_MS,
    GRAVES_MS,
    PAGE_MAX,
    RECHECK_MS,
    SETTLE_MS,
    STEP_BYTES_MAX,
    STEP_MAX,
    TOMBSTONE_MS,
    TOMBSTONE_MS_MAX,
)
from velum.policy.filetypes import INLINE, TOMBSTONE, Entry
from velum.policy.hybridclock import AHEAD_MS_MAX, COUNTER_BITS, Version
from velum.policy.names import BUCKETS, NAMES_FULL, VERSION_AHEAD

START = 1000
DAY_MS = 86_400_000


def names(count: int) -> list[bytes]:
    return [b"n%05d" % n for n in range(count)]


class Rig(Node):
    """One node, and what it said last."""

    def __init__(self, *members: int, me: int = 1) -> None:
        super().__init__(me)
        self.now = START
        for node in members:
            self.do(io.MemberSeen(node))

    def __len__(self) -> int:
        return self.names.figures()[0]

    def do(self, event: io.Event) -> list[io.Effect]:
        out = self.handle(event, self.now)
        self.catalog.validate()
        return out

    def wait(self, ms: int) -> list[io.Effect]:
        """Everything said meanwhile, with every deadline kept."""
        until, out = self.now + ms, []
        while (due := self.catalog.next_deadline()) is not None and due <= until:
            self.now = max(self.now, due)
            out += self.do(io.TimePassed())
        self.now = until
        return out

    def offer(
        self, what: Entry, node: int = 0, age: int = 0, awaited: tuple[int, ...] = ()
    ) -> list[io.Effect]:
        sent = what._replace(age_ms=age, awaited=awaited)
        return self.do(io.EntryOffered(node, 7, sent, UNIX_MS))


def only(effects: list[io.Effect], kind: type) -> list:
    return [effect for effect in effects if isinstance(effect, kind)]


# ---- offers ----


def test_a_tombstone_is_kept() -> None:
    rig = Rig()
    one = grave(b"x")
    assert rig.offer(one) == [io.Kept(0, 7, TOMBSTONE, one.version, False)]
    assert rig.offer(one) == [io.Kept(0, 7, TOMBSTONE, one.version, False)], "again: the same"
    assert rig.get(b"x") == one
    assert len(rig) == 1


def test_the_greater_wins_and_the_answer_says_so() -> None:
    rig = Rig()
    old, new = grave(b"x", 1), entry(b"x", 2)
    rig.offer(old)
    assert rig.offer(new) == [io.Kept(0, 7, INLINE, new.version, False)]
    assert rig.offer(old) == [io.Kept(0, 7, INLINE, new.version, True)]
    assert rig.names.figures()[5] == new.version.stamp, "for the node's clock to hear of"


def test_a_keeper_that_offers_a_lesser_entry_is_sent_the_greater() -> None:
    for new in (entry(b"x", 2), grave(b"x", 2)):
        for old in (entry(b"x", 1), grave(b"x", 1)):
            rig = Rig(2, 3)
            rig.offer(new)
            kept, sent = rig.offer(old, node=2) + rig.wait(100)
            assert isinstance(kept, io.Kept) and kept.superseded and kept.node == 2
            assert isinstance(sent, io.SendEntry) and sent.node == 2
            assert sent.digest == digest_of(b"x")


def test_who_is_no_keeper_is_answered_and_no_more() -> None:
    ids = [1, 2, 3, 4, 5]
    name = next(n for n in names(100) if 1 in (k := kept_by(n, ids, 3)) and 2 not in k)
    rig = Rig(2, 3, 4, 5)
    rig.offer(grave(name, 2))
    (kept,) = rig.offer(grave(name, 1), node=2) + rig.wait(100)
    assert isinstance(kept, io.Kept) and kept.superseded
    old = grave(name, 1, keepers=5)
    assert only(rig.offer(old, node=2) + rig.wait(100), io.SendEntry), "it takes itself for one"


def test_a_deleted_name_stays_so() -> None:
    rig = Rig()
    rig.offer(entry(b"x", 1))
    rig.offer(grave(b"x", 2))
    assert only(rig.offer(entry(b"x", 1)), io.Kept)[0].superseded
    assert rig.get(b"x") == grave(b"x", 2)
    rig.offer(entry(b"x", 3))
    assert rig.get(b"x") == entry(b"x", 3)
    rig.wait(TOMBSTONE_MS)
    assert rig.get(b"x") == entry(b"x", 3), "not buried with the tombstone"
    assert rig.catalog.next_deadline() is None


def test_a_version_too_far_ahead_is_refused_and_not_heard_of() -> None:
    rig = Rig()
    rig.offer(entry(b"x"))
    far = grave(b"x", UNIX_MS + AHEAD_MS_MAX + 1 << COUNTER_BITS)
    assert rig.offer(far) == [io.Refuse(0, 7, VERSION_AHEAD)]
    assert rig.get(b"x") == entry(b"x")
    assert rig.names.figures()[5] == 1


def test_a_full_store_refuses_new_names_and_drops_none() -> None:
    rig = Rig()
    rig.offer(entry(b"a"))
    rig.names.set_room(1)
    assert rig.offer(grave(b"b")) == [io.Refuse(0, 7, NAMES_FULL)]
    assert rig.offer(entry(b"a", 2, b"longer")) == [io.Refuse(0, 7, NAMES_FULL)]
    assert not only(rig.offer(entry(b"a", 0, b"longer")), io.Refuse), "an old one takes no room"
    assert rig.get(b"a") == entry(b"a")
    assert only(rig.offer(grave(b"a", 2)), io.Kept), "a delete always has room"
    assert len(rig) == 1


# ---- members change ----


def test_a_new_keeper_is_listed_what_it_may_lack_and_sent_what_it_wants() -> None:
    rig = Rig(2, 3)
    one = entry(b"x")
    rig.offer(one)
    new = next(n for n in range(4, 100) if n in (k := kept_by(b"x", [1, 2, 3, n], 3)) and 1 in k)
    (listed,) = rig.do(io.MemberSeen(new))
    assert listed == io.SendListing(new, 3, [item_of(one)])
    answer = io.HeldHeard(new, 3, [], [digest_of(one.name)])
    assert rig.do(answer) + rig.wait(100) == [io.SendEntry(new, digest_of(b"x"), 0, ())]
    assert rig.do(io.MemberLost(new)) + rig.wait(100), "the one that follows is listed it"
    assert rig.do(io.MemberLost(new)) == [], "it is lost already"


def test_a_member_started_anew_is_listed_all() -> None:
    rig = Rig(2, 3)
    one = entry(b"x")
    rig.offer(one)
    (listed,) = rig.do(io.MemberSeen(2))
    assert listed == io.SendListing(2, 3, [item_of(one)])


def test_what_waits_for_a_member_goes_with_it() -> None:
    rig = Rig(2)
    for name in names(STEP_MAX + 1):
        rig.offer(entry(name))
    wanted = [digest_of(name) for name in names(STEP_MAX + 1)]
    for gone in (io.MemberSeen(2), io.MemberLost(2)):
        assert len(only(rig.do(io.HeldHeard(2, 0, [], wanted)), io.SendEntry)) == STEP_MAX
        rig.do(gone)
        assert not only(rig.wait(1000), io.SendEntry)


def former() -> tuple[Rig, Entry, tuple[int, ...]]:
    """A node that has an entry which is not its to keep, right after it has listed it."""
    rig = Rig(2, 3, 4, 5)
    name = next(n for n in names(100) if 1 not in kept_by(n, [1, 2, 3, 4, 5], 3))
    one = entry(name)
    rig.offer(one)
    out = rig.wait(COMPARE_MS)
    keepers = kept_by(name, [1, 2, 3, 4, 5], 3)
    assert only(out, io.SendListing) == [io.SendListing(n, 4, [item_of(one)]) for n in keepers]
    return rig, one, keepers


def test_a_former_keeper_forgets_once_all_keepers_hold_it() -> None:
    rig, one, keepers = former()
    for node in keepers[:-1]:
        rig.do(io.HeldHeard(node, 4, [item_of(one)], []))
    assert rig.get(one.name) == one
    greater = entry(one.name, 2)
    assert rig.do(io.HeldHeard(keepers[-1], 4, [item_of(greater)], [])) == []
    assert rig.get(one.name) is None


def test_what_does_not_count_as_held() -> None:
    rig, one, keepers = former()
    lesser, twin = entry(one.name, 0), entry(one.name, 1, b"other")
    for wrong in (item_of(lesser), item_of(twin)):
        for node in keepers:
            rig.do(io.HeldHeard(node, 4, [wrong], []))
    for node in keepers:
        rig.do(io.HeldHeard(node, 3, [item_of(one)], []))  # asked before members changed
    for node in keepers[:-1]:
        rig.do(io.HeldHeard(node, 4, [item_of(one)], []))
    rig.do(io.MemberSeen(keepers[-1]))  # anew: and what was heard is void
    rig.wait(100)
    rig.do(io.HeldHeard(keepers[-1], 5, [item_of(one)], []))
    assert rig.get(one.name) == one


def test_what_was_held_counts_for_that_entry_alone() -> None:
    rig, one, keepers = former()
    for node in keepers[:-1]:
        rig.do(io.HeldHeard(node, 4, [item_of(one)], []))
    greater = entry(one.name, 2)
    rig.offer(greater)  # merged without a word to the policy
    listed = only(rig.wait(COMPARE_MS + 100), io.SendListing)
    assert listed == [io.SendListing(n, 4, [item_of(greater)]) for n in keepers]
    for node in keepers:
        assert rig.get(one.name) == greater
        rig.do(io.HeldHeard(node, 4, [item_of(one)], []))  # of before
        rig.do(io.HeldHeard(node, 4, [item_of(greater)], []))
    assert rig.get(one.name) is None


def test_what_took_the_place_of_an_entry_is_not_forgotten_for_it() -> None:
    rig, one, keepers = former()
    greater = entry(one.name, 2)
    rig.offer(greater)
    for node in keepers:
        rig.do(io.HeldHeard(node, 4, [item_of(one)], []))
    assert rig.get(one.name) == greater


def test_a_tombstone_that_is_not_its_to_keep_is_handed_over_at_once() -> None:
    rig = Rig(2, 3, 4, 5)
    name = next(n for n in names(100) if 1 not in kept_by(n, [1, 2, 3, 4, 5], 3))
    one, keepers = grave(name), kept_by(name, [1, 2, 3, 4, 5], 3)
    out = rig.offer(one) + rig.wait(100)
    assert only(out, io.SendListing) == [io.SendListing(n, 4, [item_of(one)]) for n in keepers]
    for node in keepers:
        rig.do(io.HeldHeard(node, 4, [item_of(one)], []))
    assert rig.get(name) is None


def test_many_former_entries_are_handed_over_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known of a few at a time is enough, as long as they are answered meanwhile."""
    monkeypatch.setattr(catalog, "HANDED_MAX", 10)
    monkeypatch.setattr(catalog, "LOOK_MAX", 10)
    rig = Rig(2, 3, 4, 5)
    for name in names(200):
        rig.offer(entry(name))
    assert rig.names.figures()[2] > 50
    silent = {item_of(entry(name)) for name in names(200)[:30]}
    for _ in range(3 * COMPARE_MS // 20):
        for listed in only(rig.wait(20), io.SendListing):
            held = [item for item in listed.items if item not in silent]
            rig.do(io.HeldHeard(listed.node, listed.round, held, []))
    left = [n for n in names(200) if rig.get(n) and 1 not in kept_by(n, [1, 2, 3, 4, 5], 3)]
    assert left and set(left) <= set(names(200)[:30]), "only what nobody said that he holds"


def test_a_former_keeper_asks_again() -> None:
    rig, one, keepers = former()
    rig.do(io.HeldHeard(keepers[0], 4, [item_of(one)], []))
    listed = only(rig.wait(COMPARE_MS + 100), io.SendListing)
    assert {effect.node for effect in listed} == set(keepers[1:])


def test_a_former_keeper_becomes_one_again() -> None:
    rig, one, keepers = former()
    for node in keepers:
        rig.do(io.MemberLost(node))
    rig.wait(100)
    rig.catalog.validate()
    answer = rig.do(io.ListingHeard(9, 1, [item_of(one)]))
    assert answer == [io.SendHeld(9, 1, [item_of(one)], [])]


def test_only_a_keeper_says_that_it_holds_or_wants() -> None:
    rig, one, keepers = former()
    rig.wait(100)
    assert rig.do(io.ListingHeard(keepers[0], 1, [item_of(one)])) == []
    unknown = next(
        n for n in names(100) if n != one.name and 1 not in kept_by(n, [1, 2, 3, 4, 5], 3)
    )
    assert rig.do(io.ListingHeard(keepers[0], 1, [item_of(entry(unknown))])) == []


def test_what_is_sent_in_a_step_is_bounded() -> None:
    rig = Rig(2)
    big = STEP_BYTES_MAX // 3
    for name in names(STEP_MAX + 100):
        rig.offer(entry(name, data=bytes(big) if name < b"n00004" else b"m"))
    out = rig.do(io.MemberSeen(2))
    assert sum(len(effect.items) for effect in only(out, io.SendListing)) == STEP_MAX
    rest = rig.wait(100)
    assert sum(len(effect.items) for effect in only(rest, io.SendListing)) == 100
    wanted = [digest_of(name) for name in names(4)]
    assert len(only(rig.do(io.HeldHeard(2, 0, [], wanted)), io.SendEntry)) == 2
    assert len(only(rig.wait(1000), io.SendEntry)) == 2
    huge = entry(b"huge", data=bytes(2 * STEP_BYTES_MAX))
    rig.offer(huge)
    assert only(rig.do(io.HeldHeard(2, 0, [], [digest_of(b"huge")])), io.SendEntry), (
        "one is always sent"
    )


# ---- comparing ----


def pair(count: int) -> tuple[Rig, Rig]:
    one, two = Rig(2), Rig(1, me=2)
    for name in names(count):
        one.offer(entry(name))
        two.offer(entry(name))
    return one, two


def talk(one: Rig, two: Rig, ms: int) -> list[io.Effect]:
    """Lets two nodes talk; everything that was sent."""
    sent: list[io.Effect] = []
    for _ in range(0, ms, 20):
        for rig, other in ((one, two), (two, one)):
            mail = [(rig, other, effect) for effect in rig.wait(20)]
            while mail:
                source, target, effect = mail.pop(0)
                if isinstance(effect, (io.Kept, io.Refuse)):
                    continue
                sent.append(effect)
                out = target.do(source.heard(effect, UNIX_MS))
                mail += [(target, source, effect) for effect in out]
    return sent


def test_between_equal_catalogs_only_sums_travel() -> None:
    sent = talk(*pair(100), 3 * COMPARE_MS)
    assert len(sent) == 6 and all(isinstance(effect, io.SendSums) for effect in sent)
    assert sum(sent[0].counts) == 100 and len(sent[0].marks) == BUCKETS


def test_what_is_newer_on_either_side_travels() -> None:
    one, two = pair(50)
    for rig, other, base in ((one, two, 0), (two, one, 10)):
        rig.offer(entry(b"n%05d" % base, 2))
        rig.offer(grave(b"n%05d" % (base + 1), 2))
        rig.offer(entry(b"only%d" % base))
        rig.offer(entry(b"n%05d" % (base + 2), 1, b"twin"))
        assert other.get(b"only%d" % base) is None
    talk(one, two, 2 * COMPARE_MS)
    for base in (0, 10):
        for what in (
            entry(b"n%05d" % base, 2),
            grave(b"n%05d" % (base + 1), 2),
            entry(b"only%d" % base),
            entry(b"n%05d" % (base + 2), 1, b"twin"),
        ):
            assert one.get(what.name) == two.get(what.name) == what
    rest = talk(one, two, 2 * COMPARE_MS)
    assert all(isinstance(effect, io.SendSums) for effect in rest)


def test_a_listing_is_answered_with_what_is_newer_or_lacks_and_no_more() -> None:
    rig, end = Rig(2), b"\xff" * 32
    same, newer, older, lacking = (entry(n, 5) for n in names(800) if digest_of(n)[0] == 0xFF)
    for one in (same, newer, older, lacking):
        rig.offer(one)
    items = [
        item_of(same),
        item_of(newer._replace(version=Version(4, 1))),
        item_of(older._replace(version=Version(6, 1))),
    ]
    out = rig.do(io.ListingHeard(2, 3, items, b"\xff" + bytes(31), end)) + rig.wait(100)
    assert out[0] == io.SendHeld(2, 3, [], [digest_of(older.name)])
    sent = [effect.digest for effect in only(out, io.SendEntry)]
    assert sent == [digest_of(newer.name), digest_of(lacking.name)]


def test_who_keeps_an_old_entry_only_is_sent_the_new_one() -> None:
    """The new one has fewer keepers."""
    name = next(n for n in names(100) if kept_by(n, [1, 2], 1) == (1,))
    new, old = entry(name, 2, keepers=1), entry(name, 1, keepers=2)
    one, two = Rig(2), Rig(1, me=2)
    one.offer(new)
    said = one.do(io.ListingHeard(2, 1, [item_of(old)])) + one.wait(100)
    assert io.SendHeld(2, 1, [item_of(new)], []) in said
    assert io.SendEntry(2, digest_of(name), 0, ()) in said, "it takes itself for a keeper"
    two.offer(old)
    talk(one, two, 4 * COMPARE_MS)
    assert one.get(name) == two.get(name) == new._replace(keepers=2), "the more keepers count"
    rest = talk(one, two, 2 * COMPARE_MS)
    assert all(isinstance(effect, io.SendSums) for effect in rest)


def test_a_long_bucket_is_listed_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "PAGE_MAX", 3)
    one, two = pair(0)
    same = [n for n in names(4000) if digest_of(n)[0] == 7]
    assert 3 < len(same) < PAGE_MAX
    for name in same:
        one.offer(entry(name))
    two.offer(entry(same[0], 2))
    sent = talk(one, two, 3 * COMPARE_MS)
    assert max(len(effect.items) for effect in only(sent, io.SendListing)) <= 3
    for name in same:
        assert one.get(name) == two.get(name) is not None


def test_keepers_are_compared_with_in_turn() -> None:
    rig = Rig(2, 3, 4)
    assert rig.wait(2 * COMPARE_MS) == [], "nothing to compare"
    rig.offer(entry(b"x", keepers=4))
    assert [effect.node for effect in rig.wait(4 * COMPARE_MS)] == [2, 3, 4, 2]


def test_sums_of_a_stranger_are_ignored() -> None:
    assert Rig().do(io.SumsHeard(9, [1] * BUCKETS, [1] * BUCKETS)) == []


# ---- tombstones ----


def test_a_tombstone_is_forgotten_after_a_day() -> None:
    rig = Rig()
    rig.offer(grave(b"x"))
    rig.wait(TOMBSTONE_MS - 1)
    assert len(rig) == 1
    rig.wait(1)
    assert len(rig) == 0 and rig.catalog.next_deadline() is None


def test_a_tombstone_is_as_old_as_its_sender_says() -> None:
    rig = Rig(2)
    rig.offer(grave(b"x"), 2, TOMBSTONE_MS - 1000)
    rig.wait(1000)
    assert len(rig) == 0
    rig.offer(grave(b"x"), 2, TOMBSTONE_MS)
    rig.wait(RECHECK_MS - 1)
    assert len(rig) == 1, "so that who hands it over hears that it is held"
    rig.wait(1)
    assert len(rig) == 0


def test_a_tombstone_awaits_a_member_that_is_away() -> None:
    rig = Rig(2, 3)
    rig.do(io.MemberLost(3))
    rig.offer(grave(b"x"))
    out = rig.wait(TOMBSTONE_MS + DAY_MS)
    assert len(rig) == 1
    assert len(only(out, io.SendSums)) == DAY_MS // COMPARE_MS, "from then on it is not compared"
    rig.do(io.MemberSeen(3))
    rig.wait(SETTLE_MS)
    rig.do(io.MemberLost(3))
    rig.wait(RECHECK_MS)
    assert len(rig) == 0, "it was here for long enough"


def test_a_glimpse_of_a_member_is_not_enough() -> None:
    rig = Rig(2)
    rig.offer(grave(b"x"))
    rig.wait(SETTLE_MS - 1)
    rig.do(io.MemberLost(2))
    rig.wait(DAY_MS)
    rig.do(io.MemberSeen(2))
    rig.wait(SETTLE_MS - 1)
    rig.do(io.MemberLost(2))
    rig.wait(TOMBSTONE_MS)
    assert len(rig) == 1
    due = rig.catalog.next_deadline()
    assert due is not None
    rig.wait(due - rig.now - 1)
    rig.do(io.MemberSeen(2))
    rig.wait(1)
    assert len(rig) == 1, "it has only just come"


def test_the_wait_for_a_member_ends() -> None:
    rig = Rig(2)
    rig.do(io.MemberLost(2))
    rig.offer(grave(b"x"))
    rig.wait(TOMBSTONE_MS_MAX - 1)
    assert len(rig) == 1
    rig.wait(RECHECK_MS + 1)
    assert len(rig) == 0


def test_who_came_later_is_not_awaited() -> None:
    rig = Rig()
    rig.offer(grave(b"x"))
    rig.now += 1
    rig.do(io.MemberSeen(2))
    rig.do(io.MemberLost(2))
    rig.wait(TOMBSTONE_MS)
    assert len(rig) == 0


def test_who_is_awaited_travels() -> None:
    rig = Rig(2)
    rig.offer(grave(b"x"), 2, 5000, (1, 9))
    rig.wait(TOMBSTONE_MS)
    assert len(rig) == 1
    rig.do(io.HeldHeard(2, 0, [], [digest_of(b"x")]))
    rig.do(io.MemberSeen(2))
    sent = rig.do(io.HeldHeard(2, 0, [], [digest_of(b"x")])) + rig.wait(100)
    (one,) = only(sent, io.SendEntry)[-1:]
    assert one.awaited == (9,) and one.age_ms >= TOMBSTONE_MS


def test_many_tombstones_each_in_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Walks through them are bounded, and not many; each is forgotten a minute late at most."""
    monkeypatch.setattr(catalog, "LOOK_MAX", 7)
    rig = Rig()
    walks = 0
    begin = rig.catalog._begin_graves

    def counted() -> None:
        nonlocal walks
        walks += 1
        begin()

    monkeypatch.setattr(rig.catalog, "_begin_graves", counted)
    ages = {name: 100 * n for n, name in enumerate(names(100))}
    for name, age in ages.items():
        rig.offer(grave(name), age=age)
    rig.offer(entry(b"file"))
    rig.wait(TOMBSTONE_MS - max(ages.values()) - 1)
    assert len(rig) == 101
    for late in range(0, max(ages.values()) + GRAVES_MS + 1000, 500):
        for name, age in ages.items():
            left = TOMBSTONE_MS - age - (rig.now - START)
            assert left <= 0 or rig.get(name) is not None, (late, name)
            assert left > -GRAVES_MS - 1000 or rig.get(name) is None, (late, name)
        rig.wait(500)
    assert len(rig) == 1 and walks <= 3
    assert rig.catalog.next_deadline() is None


def test_as_many_are_said_to_be_awaited_as_fit() -> None:
    rig = Rig(2)
    away = tuple(range(1000, 1000 + AWAITED_MAX + 1))
    rig.offer(grave(b"x"), 2, 0, away)
    rig.wait(SETTLE_MS)
    (sent,) = only(rig.do(io.HeldHeard(2, 0, [], [digest_of(b"x")])) + rig.wait(100), io.SendEntry)
    assert sent.awaited == away[:AWAITED_MAX]


def test_an_old_tombstone_stops_what_a_member_brings_back() -> None:
    one, two = pair(0)
    one.do(io.MemberSeen(3))
    one.do(io.MemberLost(3))
    one.offer(grave(b"x", 2))
    one.wait(TOMBSTONE_MS)
    two.now = one.now
    two.offer(entry(b"x", 1))
    talk(one, two, 3 * COMPARE_MS)
    assert two.get(b"x") == grave(b"x", 2)
