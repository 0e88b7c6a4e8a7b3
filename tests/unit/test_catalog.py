"""The catalog of names, one rule of its table at a time; invariants are checked after every
event."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from velum.policy import catalog
from velum.policy import catalog_io as io
from velum.policy.catalog import (
    BUCKETS,
    COMPARE_MS,
    NAME_BYTES_MAX,
    PAGE_MAX,
    PAYLOAD_BYTES_MAX,
    RECHECK_MS,
    ROWS_BYTES_MAX,
    SETTLE_MS,
    STEP_BYTES_MAX,
    STEP_MAX,
    TOMBSTONE_MS,
    TOMBSTONE_MS_MAX,
    Catalog,
)
from velum.policy.hybridclock import AHEAD_MS_MAX, COUNTER_BITS, Clock, Version
from velum.policy.placement import Budget, Placement

UNIX_MS = 1_700_000_000_000
START = 1000
DAY_MS = 86_400_000


def entry(name: bytes, at: int = 1, payload: bytes = b"m", origin: int = 1) -> io.Entry:
    return io.Entry(sha256(name).digest(), name, Version(at, origin), payload, len(payload), b"")


def grave(name: bytes, at: int = 1) -> io.Entry:
    return entry(name, at, b"")


def names(count: int) -> list[bytes]:
    return [b"n%05d" % n for n in range(count)]


def kept_by(name: bytes, ids: list[int], count: int) -> tuple[int, ...]:
    return Placement([Budget(id, 0) for id in ids]).keepers(sha256(name).digest(), count)


class Rig:
    """One catalog, and what it said last."""

    def __init__(self, *members: int, me: int = 1, keepers: int = 3) -> None:
        self.clock = Clock(me)
        self.catalog = Catalog(me, self.clock, keepers)
        self.now = START
        for node in members:
            self.do(io.MemberSeen(node))

    def do(self, event: io.Event) -> list[io.Effect]:
        out = self.catalog.handle(event, self.now)
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
        self, what: io.Entry, node: int = 0, age: int = 0, awaited: tuple[int, ...] = ()
    ) -> list[io.Effect]:
        return self.do(io.EntryOffered(node, 7, what, UNIX_MS, age, awaited))

    def list(self, prefix: bytes = b"", after: bytes = b"", limit: int = 100) -> io.GivePage:
        (page,) = self.do(io.ListAsked(5, prefix, after, limit))
        assert isinstance(page, io.GivePage)
        return page


def only(effects: list[io.Effect], kind: type) -> list:
    return [effect for effect in effects if isinstance(effect, kind)]


# ---- merging ----

ENTRIES = st.builds(
    entry,
    st.just(b"x"),
    st.integers(0, 3),
    st.sampled_from([b"", b"m", b"n"]),
    st.integers(1, 2),
)


@given(ENTRIES, ENTRIES, ENTRIES)
def test_merge_is_a_join(a: io.Entry, b: io.Entry, c: io.Entry) -> None:
    assert io.greater(a, a) == a
    assert io.greater(a, b) == io.greater(b, a)
    assert io.greater(io.greater(a, b), c) == io.greater(a, io.greater(b, c))


def test_entries_are_ordered_by_version_origin_and_bytes() -> None:
    ordered = [entry(b"x", 1), entry(b"x", 1, b"n"), entry(b"x", 1, b"a", 2), entry(b"x", 2, b"")]
    for less, more in zip(ordered, ordered[1:], strict=False):
        assert io.greater(less, more) is io.greater(more, less) is more
    assert len({one.item().mark for one in ordered}) == len(ordered)


# ---- offers ----


def test_an_entry_is_kept_and_given() -> None:
    rig = Rig()
    one = entry(b"x")
    assert rig.offer(one) == [io.Changed(None, one), io.Kept(0, 7, one.version, False)]
    assert rig.offer(one) == [io.Kept(0, 7, one.version, False)], "again: nothing has changed"
    assert rig.do(io.EntryAsked(3, one.digest)) == [io.Give(3, one)]
    assert rig.do(io.EntryAsked(3, bytes(32))) == [io.Give(3, None)]
    assert len(rig.catalog) == 1


def test_the_greater_wins_and_the_answer_says_so() -> None:
    rig = Rig()
    old, new = entry(b"x", 1), entry(b"x", 2)
    rig.offer(old)
    assert rig.offer(new) == [io.Changed(old, new), io.Kept(0, 7, new.version, False)]
    assert rig.offer(old) == [io.Kept(0, 7, new.version, True)]
    assert rig.clock.next(0) > new.version, "the clock has heard of it"


def test_a_keeper_that_offers_a_lesser_entry_is_sent_the_greater() -> None:
    rig = Rig(2, 3)
    new = entry(b"x", 2)
    rig.offer(new)
    out = rig.offer(entry(b"x", 1), node=2)
    assert out == [io.Kept(2, 7, new.version, True), io.SendEntry(2, new, 0, ())]


def test_a_deleted_name_stays_so() -> None:
    rig = Rig()
    rig.offer(entry(b"x", 1))
    rig.offer(grave(b"x", 2))
    assert only(rig.offer(entry(b"x", 1)), io.Kept)[0].superseded
    assert rig.catalog.get(sha256(b"x").digest()) == grave(b"x", 2)
    assert rig.list().rows == []
    rig.offer(entry(b"x", 3))
    assert [row.name for row in rig.list().rows] == [b"x"]


@pytest.mark.parametrize("name", [b"", b"\xff", b"x" * (NAME_BYTES_MAX + 1)])
def test_what_is_no_name_is_refused(name: bytes) -> None:
    (refused,) = Rig().offer(entry(name))
    assert isinstance(refused, io.Refuse) and refused.why == io.Why.NAME


def test_the_longest_name_and_manifest() -> None:
    rig = Rig()
    assert only(rig.offer(entry(b"x" * NAME_BYTES_MAX)), io.Kept)
    assert only(rig.offer(entry(b"y", 1, bytes(PAYLOAD_BYTES_MAX))), io.Kept)
    (refused,) = rig.offer(entry(b"z", 1, bytes(PAYLOAD_BYTES_MAX + 1)))
    assert refused.why == io.Why.LONG


def test_a_version_too_far_ahead_is_refused_and_not_heard_of() -> None:
    rig = Rig()
    rig.offer(entry(b"x"))
    (refused,) = rig.offer(entry(b"x", UNIX_MS + AHEAD_MS_MAX + 1 << COUNTER_BITS))
    assert isinstance(refused, io.Refuse) and refused.why == io.Why.AHEAD
    assert rig.catalog.get(sha256(b"x").digest()) == entry(b"x")
    assert rig.clock.next(UNIX_MS).ms == UNIX_MS


def test_a_full_catalog_refuses_new_names_and_drops_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "ENTRIES_MAX", 2)
    rig = Rig()
    rig.offer(entry(b"a"))
    rig.offer(entry(b"b"))
    (refused,) = rig.offer(entry(b"c"))
    assert refused.why == io.Why.FULL and "full: 2 names of 2" in refused.text
    assert only(rig.offer(entry(b"a", 2, b"longer")), io.Changed), "a name that is known"
    assert only(rig.offer(grave(b"b", 2)), io.Changed)
    assert len(rig.catalog) == 2


def test_bytes_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    rig.offer(entry(b"a"))
    monkeypatch.setattr(catalog, "BYTES_MAX", rig.catalog.used_bytes)
    assert rig.offer(entry(b"a", 2, b"longer"))[0].why == io.Why.FULL
    assert not only(rig.offer(entry(b"a", 0, b"longer")), io.Refuse), "an old one takes no room"
    assert rig.offer(entry(b"b"))[0].why == io.Why.FULL
    assert only(rig.offer(grave(b"a", 2)), io.Changed), "a delete always has room"


# ---- lists ----


def test_names_are_listed_in_order_by_pages() -> None:
    rig = Rig()
    for name in (b"d/b", b"c", b"d/a", b"d", b"e"):
        rig.offer(entry(name, 4, b"1234"))
    page = rig.list(limit=2)
    assert page == io.GivePage(5, [io.Row(n, Version(4, 1), 4) for n in (b"c", b"d")], True)
    page = rig.list(after=b"d", limit=3)
    assert [row.name for row in page.rows] == [b"d/a", b"d/b", b"e"] and not page.more
    assert [row.name for row in rig.list(b"d/").rows] == [b"d/a", b"d/b"]
    assert [row.name for row in rig.list(b"d/", b"d/a").rows] == [b"d/b"]
    assert [row.name for row in rig.list(b"d/", b"a").rows] == [b"d/a", b"d/b"]
    assert rig.list(b"d/", b"d/b") == io.GivePage(5, [], False)


def test_a_page_of_names_is_bounded_in_bytes() -> None:
    rig = Rig()
    long = b"x" * (NAME_BYTES_MAX - 5)
    for name in names(100):
        rig.offer(entry(long + name[1:]))
    page = rig.list()
    assert page.more and len(page.rows) == ROWS_BYTES_MAX // (NAME_BYTES_MAX)


# ---- members change ----


def test_a_new_keeper_is_listed_what_it_may_lack_and_sent_what_it_wants() -> None:
    rig = Rig(2, 3)
    one = entry(b"x")
    rig.offer(one)
    new = next(n for n in range(4, 100) if n in (k := kept_by(b"x", [1, 2, 3, n], 3)) and 1 in k)
    (listed,) = rig.do(io.MemberSeen(new))
    assert listed == io.SendListing(new, 3, [one.item()])
    answer = io.HeldHeard(new, 3, [], [one.digest])
    assert rig.do(answer) + rig.wait(100) == [io.SendEntry(new, one, 0, ())]
    assert rig.do(io.MemberLost(new)) + rig.wait(100), "the one that follows is listed it"
    assert rig.do(io.MemberLost(new)) == [], "it is lost already"


def test_a_member_started_anew_is_listed_all() -> None:
    rig = Rig(2, 3)
    one = entry(b"x")
    rig.offer(one)
    (listed,) = rig.do(io.MemberSeen(2))
    assert listed == io.SendListing(2, 3, [one.item()])


def test_what_waits_for_a_member_goes_with_it() -> None:
    rig = Rig(2, keepers=2)
    for name in names(STEP_MAX + 1):
        rig.offer(entry(name))
    wanted = [sha256(name).digest() for name in names(STEP_MAX + 1)]
    for gone in (io.MemberSeen(2), io.MemberLost(2)):
        assert len(only(rig.do(io.HeldHeard(2, 0, [], wanted)), io.SendEntry)) == STEP_MAX
        rig.do(gone)
        assert not only(rig.wait(1000), io.SendEntry)


def former() -> tuple[Rig, io.Entry, tuple[int, ...]]:
    """A node that has an entry which is not its to keep, right after it has listed it."""
    rig = Rig(2, 3, 4, 5)
    name = next(n for n in names(100) if 1 not in kept_by(n, [1, 2, 3, 4, 5], 3))
    one = entry(name)
    out = rig.offer(one)
    keepers = kept_by(name, [1, 2, 3, 4, 5], 3)
    assert only(out, io.SendListing) == [io.SendListing(n, 4, [one.item()]) for n in keepers]
    return rig, one, keepers


def test_a_former_keeper_forgets_once_all_keepers_hold_it() -> None:
    rig, one, keepers = former()
    for node in keepers[:-1]:
        rig.do(io.HeldHeard(node, 4, [one.item()], []))
    assert rig.catalog.get(one.digest) == one
    greater = entry(one.name, 2)
    assert rig.do(io.HeldHeard(keepers[-1], 4, [greater.item()], [])) == []
    assert rig.catalog.get(one.digest) is None


def test_what_does_not_count_as_held() -> None:
    rig, one, keepers = former()
    lesser, twin = entry(one.name, 0), entry(one.name, 1, b"other")
    for wrong in (lesser.item(), twin.item()):
        for node in keepers:
            rig.do(io.HeldHeard(node, 4, [wrong], []))
    for node in keepers:
        rig.do(io.HeldHeard(node, 3, [one.item()], []))  # asked before members changed
    for node in keepers[:-1]:
        rig.do(io.HeldHeard(node, 4, [one.item()], []))
    rig.do(io.MemberSeen(keepers[-1]))  # anew: and what was heard is void
    rig.wait(100)
    rig.do(io.HeldHeard(keepers[-1], 5, [one.item()], []))
    assert rig.catalog.get(one.digest) == one


def test_a_former_keeper_asks_again() -> None:
    rig, one, keepers = former()
    rig.do(io.HeldHeard(keepers[0], 4, [one.item()], []))
    listed = only(rig.wait(COMPARE_MS + 100), io.SendListing)
    assert {effect.node for effect in listed} == set(keepers[1:])


def test_a_former_keeper_becomes_one_again() -> None:
    rig, one, keepers = former()
    for node in keepers:
        rig.do(io.MemberLost(node))
    rig.wait(100)
    rig.catalog.validate()
    answer = rig.do(io.ListingHeard(9, 1, [one.item()]))
    assert answer == [io.SendHeld(9, 1, [one.item()], [])]


def test_only_a_keeper_says_that_it_holds_or_wants() -> None:
    rig, one, keepers = former()
    rig.wait(100)
    assert rig.do(io.ListingHeard(keepers[0], 1, [one.item()])) == []
    unknown = next(
        n for n in names(100) if n != one.name and 1 not in kept_by(n, [1, 2, 3, 4, 5], 3)
    )
    assert rig.do(io.ListingHeard(keepers[0], 1, [entry(unknown).item()])) == []


def test_what_is_sent_in_a_step_is_bounded() -> None:
    rig = Rig(2, keepers=2)
    big = STEP_BYTES_MAX // 3
    for name in names(STEP_MAX + 100):
        rig.offer(entry(name, payload=bytes(big) if name < b"n00004" else b"m"))
    out = rig.do(io.MemberSeen(2))
    assert sum(len(effect.items) for effect in only(out, io.SendListing)) == STEP_MAX
    rest = rig.wait(100)
    assert sum(len(effect.items) for effect in only(rest, io.SendListing)) == 100
    wanted = [sha256(name).digest() for name in names(4)]
    assert len(only(rig.do(io.HeldHeard(2, 0, [], wanted)), io.SendEntry)) == 2
    assert len(only(rig.wait(1000), io.SendEntry)) == 2
    huge = entry(b"huge", payload=bytes(2 * STEP_BYTES_MAX))
    rig.offer(huge)
    assert only(rig.do(io.HeldHeard(2, 0, [], [huge.digest])), io.SendEntry), "one is always sent"


# ---- comparing ----


def pair(count: int) -> tuple[Rig, Rig]:
    one, two = Rig(2, keepers=2), Rig(1, me=2, keepers=2)
    for name in names(count):
        one.offer(entry(name))
        two.offer(entry(name))
    return one, two


def talk(one: Rig, two: Rig, ms: int) -> list[io.Effect]:
    """Lets two nodes talk; everything that was sent."""
    sent: list[io.Effect] = []
    for _ in range(0, ms, 20):
        for rig, other in ((one, two), (two, one)):
            me = 1 if rig is one else 2
            mail = rig.wait(20)
            while mail:
                effect = mail.pop(0)
                sent.append(effect)
                if isinstance(effect, io.SendSums):
                    out = other.do(io.SumsHeard(me, effect.counts, effect.marks))
                elif isinstance(effect, io.SendListing):
                    heard = io.ListingHeard(
                        me, effect.round, effect.items, effect.after, effect.end
                    )
                    out = other.do(heard)
                elif isinstance(effect, io.SendHeld):
                    out = other.do(io.HeldHeard(me, effect.round, effect.held, effect.wanted))
                elif isinstance(effect, io.SendEntry):
                    out = other.offer(effect.entry, me, effect.age_ms, effect.awaited)
                else:
                    continue
                mail += deliver_back(rig, 3 - me, out)
    return sent


def deliver_back(rig: Rig, source: int, effects: list[io.Effect]) -> list[io.Effect]:
    out: list[io.Effect] = []
    for effect in effects:
        if isinstance(effect, io.SendListing):
            after, end = effect.after, effect.end
            out += rig.do(io.ListingHeard(source, effect.round, effect.items, after, end))
        elif isinstance(effect, io.SendHeld):
            out += rig.do(io.HeldHeard(source, effect.round, effect.held, effect.wanted))
        elif isinstance(effect, io.SendEntry):
            out += rig.offer(effect.entry, source, effect.age_ms, effect.awaited)
    return out


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
        assert other.catalog.get(sha256(b"only%d" % base).digest()) is None
    talk(one, two, 2 * COMPARE_MS)
    for base in (0, 10):
        for what in (
            entry(b"n%05d" % base, 2),
            grave(b"n%05d" % (base + 1), 2),
            entry(b"only%d" % base),
            entry(b"n%05d" % (base + 2), 1, b"twin"),
        ):
            assert one.catalog.get(what.digest) == two.catalog.get(what.digest) == what
    rest = talk(one, two, 2 * COMPARE_MS)
    assert all(isinstance(effect, io.SendSums) for effect in rest)


def test_a_listing_is_answered_with_what_is_newer_or_lacks_and_no_more() -> None:
    rig, end = Rig(2, keepers=2), b"\xff" * 32
    same, newer, older, lacking = (entry(n, 5) for n in names(800) if sha256(n).digest()[0] == 0xFF)
    for one in (same, newer, older, lacking):
        rig.offer(one)
    items = [
        same.item(),
        newer._replace(version=Version(4, 1)).item(),
        older._replace(version=Version(6, 1)).item(),
    ]
    out = rig.do(io.ListingHeard(2, 3, items, b"\xff", end)) + rig.wait(100)
    assert out[0] == io.SendHeld(2, 3, [], [older.digest])
    assert [one.entry for one in only(out, io.SendEntry)] == [newer, lacking]


def test_a_long_bucket_is_listed_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "PAGE_MAX", 3)
    one, two = pair(0)
    same = [n for n in names(4000) if sha256(n).digest()[0] == 7]
    assert 3 < len(same) < PAGE_MAX
    for name in same:
        one.offer(entry(name))
    two.offer(entry(same[0], 2))
    sent = talk(one, two, 3 * COMPARE_MS)
    assert max(len(effect.items) for effect in only(sent, io.SendListing)) <= 3
    for name in same:
        digest = sha256(name).digest()
        assert one.catalog.get(digest) == two.catalog.get(digest) is not None


def test_keepers_are_compared_with_in_turn() -> None:
    rig = Rig(2, 3, 4, keepers=4)
    assert rig.wait(2 * COMPARE_MS) == [], "nothing to compare"
    rig.offer(entry(b"x"))
    assert [effect.node for effect in rig.wait(4 * COMPARE_MS)] == [2, 3, 4, 2]


def test_sums_of_a_stranger_are_ignored() -> None:
    assert Rig().do(io.SumsHeard(9, [1] * BUCKETS, [1] * BUCKETS)) == []


# ---- tombstones ----


def test_a_tombstone_is_forgotten_after_a_day() -> None:
    rig = Rig()
    rig.offer(grave(b"x"))
    rig.wait(TOMBSTONE_MS - 1)
    assert len(rig.catalog) == 1
    rig.wait(1)
    assert len(rig.catalog) == 0 and rig.catalog.next_deadline() is None


def test_a_tombstone_is_as_old_as_its_sender_says() -> None:
    rig = Rig(2)
    rig.offer(grave(b"x"), 2, TOMBSTONE_MS - 1000)
    rig.wait(1000)
    assert len(rig.catalog) == 0
    rig.offer(grave(b"x"), 2, TOMBSTONE_MS)
    rig.wait(RECHECK_MS - 1)
    assert len(rig.catalog) == 1, "so that who hands it over hears that it is held"
    rig.wait(1)
    assert len(rig.catalog) == 0


def test_a_tombstone_awaits_a_member_that_is_away() -> None:
    rig = Rig(2, 3)
    rig.do(io.MemberLost(3))
    rig.offer(grave(b"x"))
    out = rig.wait(TOMBSTONE_MS + DAY_MS)
    assert len(rig.catalog) == 1
    assert len(only(out, io.SendSums)) == DAY_MS // COMPARE_MS, "from then on it is not compared"
    rig.do(io.MemberSeen(3))
    rig.wait(SETTLE_MS)
    rig.do(io.MemberLost(3))
    rig.wait(RECHECK_MS)
    assert len(rig.catalog) == 0, "it was here for long enough"


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
    assert len(rig.catalog) == 1
    due = rig.catalog.next_deadline()
    assert due is not None
    rig.wait(due - rig.now - 1)
    rig.do(io.MemberSeen(2))
    rig.wait(1)
    assert len(rig.catalog) == 1, "it has only just come"


def test_the_wait_for_a_member_ends() -> None:
    rig = Rig(2)
    rig.do(io.MemberLost(2))
    rig.offer(grave(b"x"))
    rig.wait(TOMBSTONE_MS_MAX - 1)
    assert len(rig.catalog) == 1
    rig.wait(RECHECK_MS + 1)
    assert len(rig.catalog) == 0


def test_who_came_later_is_not_awaited() -> None:
    rig = Rig()
    rig.offer(grave(b"x"))
    rig.now += 1
    rig.do(io.MemberSeen(2))
    rig.do(io.MemberLost(2))
    rig.wait(TOMBSTONE_MS)
    assert len(rig.catalog) == 0


def test_who_is_awaited_travels() -> None:
    rig = Rig(2, keepers=2)
    rig.offer(grave(b"x"), 2, 5000, (1, 9))
    rig.wait(TOMBSTONE_MS)
    assert len(rig.catalog) == 1
    rig.do(io.HeldHeard(2, 0, [], [grave(b"x").digest]))
    rig.do(io.MemberSeen(2))
    sent = rig.do(io.HeldHeard(2, 0, [], [grave(b"x").digest])) + rig.wait(100)
    (one,) = only(sent, io.SendEntry)[-1:]
    assert one.awaited == (9,) and one.age_ms >= TOMBSTONE_MS


def test_an_old_tombstone_stops_what_a_member_brings_back() -> None:
    one, two = pair(0)
    one.do(io.MemberSeen(3))
    one.do(io.MemberLost(3))
    one.offer(grave(b"x", 2))
    one.wait(TOMBSTONE_MS)
    two.now = one.now
    two.offer(entry(b"x", 1))
    talk(one, two, 3 * COMPARE_MS)
    assert two.catalog.get(sha256(b"x").digest()) == grave(b"x", 2)
