"""The getter and the lookup, one rule of their tables at a time; invariants are checked after
every event."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.transfer_rig import (
    DIGEST,
    MIB,
    Rig,
    entry,
    key,
    manifest,
    members,
    size_of,
)
from velum.policy import filetypes as ft
from velum.policy import transfer_io as io
from velum.policy.filetypes import Coding, Manifest
from velum.policy.getting import SILENCE_MS, SPAN_BYTES, SPAN_MAX, Get
from velum.policy.hybridclock import Version
from velum.policy.lookup import HEDGE_MS, WAIT_MS, Lookup
from velum.policy.peers import LOSSES_MAX, REST_MS

NONE = Version(0, 0)


class GetRig(Rig):
    """A get of `size` bytes."""

    def __init__(self, who: io.Members, size: int, coding: Coding | None = None) -> None:
        self.who = who
        self.manifest = manifest(size, MIB, coding)
        self.get = Get(entry(self.manifest), who)
        super().__init__(self.get)

    def need(self, first: int, end: int) -> list[io.Want]:
        self.do(io.Needed(first, end))
        return self.all(io.Want)

    def arrive(self, *wants: io.Want) -> list[Any]:
        return self.do(*[io.ChunkArrived(want.node, want.number) for want in wants])

    def fail(self, *wants: io.Want) -> list[Any]:
        return self.do(*[io.ChunkFailed(want.node, want.number) for want in wants])

    def nowhere(self, want: io.Want) -> list[Any]:
        """Everybody that is asked lacks it; what follows from the last one."""
        wants = [want]
        while wants:
            self.fail(wants[0])
            wants = [w for w in self.all(io.Want) if w.number == want.number]
        return self.said

    def relooked(self, outcome: Any) -> list[Any]:
        return self.do(io.Relooked(outcome))


def test_a_range_wants_only_its_chunks_and_gives_only_its_bytes() -> None:
    rig = GetRig(members(1, 2, 3), 10 * MIB)
    a, b = rig.need(MIB + 5, 3 * MIB - 5)
    assert [(w.number, w.key, w.size) for w in (a, b)] == [(1, key(1), MIB), (2, key(2), MIB)]
    assert rig.arrive(a) == [io.Give(1, MIB + 5, 2 * MIB, 5), io.LetGo(1)]
    assert rig.arrive(b) == [io.Give(2, 2 * MIB, 3 * MIB - 5, 0)], "its rest may be needed next"
    assert rig.need(0, 1)
    assert rig.all(io.LetGo) == [io.LetGo(2)]


def test_bytes_come_in_order_whatever_the_order_of_arrival() -> None:
    rig = GetRig(members(1, 2, 3), 3 * MIB - 1)
    a, b, c = rig.need(0, 3 * MIB - 1)
    assert rig.arrive(c) == [] and rig.arrive(b) == []
    gives = [e for e in rig.arrive(a) if isinstance(e, io.Give)]
    assert [(g.number, g.first, g.end) for g in gives] == [
        (0, 0, MIB),
        (1, MIB, 2 * MIB),
        (2, 2 * MIB, 3 * MIB - 1),
    ]
    assert c.size == MIB - 1


def test_the_window_bounds_what_is_under_way() -> None:
    rig = GetRig(members(1, 2, 3), 100 * MIB)
    wants = rig.need(0, 100 * MIB)
    assert [want.number for want in wants] == list(range(SPAN_BYTES // MIB))
    assert rig.arrive(*wants[1:]) == [], "the first is lacking"
    rig.arrive(wants[0])
    assert len(rig.all(io.Give)) == len(rig.all(io.LetGo)) == len(wants)
    assert len(rig.all(io.Want)) == len(wants)


@pytest.mark.parametrize(("chunk_bytes", "span"), [(8 * MIB, 2), (16 * MIB, 2), (4096, SPAN_MAX)])
def test_few_large_chunks_and_many_small_ones(chunk_bytes: int, span: int) -> None:
    rig = Rig(Get(entry(manifest(100 * chunk_bytes, chunk_bytes)), members(1)))
    rig.do(io.Needed(0, 100 * chunk_bytes))
    assert len(rig.all(io.Want)) == span


def test_a_sequential_reader_is_read_ahead_for() -> None:
    rig = GetRig(members(1, 2, 3), 100 * MIB)
    seen = []
    at = 0
    for _ in range(8):
        wants = rig.need(at, at + MIB)
        seen.append(len(wants))
        rig.arrive(*wants)
        at += MIB
    assert seen[0] == 1 and max(seen) > 3
    assert sum(seen) <= 8 + SPAN_BYTES // MIB
    rig.need(90 * MIB, 91 * MIB)
    assert [w.number for w in rig.all(io.Want)] == [90]
    assert len(rig.all(io.LetGo)) == sum(seen) - 8, "what was read ahead in vain"


def test_what_is_not_needed_any_more_is_unwanted() -> None:
    rig = GetRig(members(1, 2, 3), 10 * MIB)
    a, b = rig.need(0, 2 * MIB)
    rig.arrive(b)
    assert rig.do(io.NeedsDropped()) == [io.Unwant(a.node, 0), io.LetGo(1)]
    assert rig.arrive(a) == [], "it is told in vain"


def test_copies_share_the_load() -> None:
    who = members(*range(1, 9))
    rig = GetRig(who, 16 * MIB)
    wants = rig.need(0, 16 * MIB)
    by: dict[int, int] = {}
    for want in wants:
        assert want.node in who.placement.holders(want.key, 2)
        by[want.node] = by.get(want.node, 0) + 1
    assert max(by.values()) <= 3


def test_two_nodes_with_all_chunks_give_half_each() -> None:
    rig = GetRig(members(1, 2), 16 * MIB)
    wants = rig.need(0, 16 * MIB)
    assert sum(want.node == 1 for want in wants) == 8


# ---- who has it not ----


def test_a_chunk_is_sought_at_its_holders_then_at_all() -> None:
    who = members(1, 2, 3, 4, 5)
    rig = GetRig(who, MIB)
    asked = []
    wants = rig.need(0, 1)
    while wants:
        asked.append(wants[0].node)
        rig.fail(wants[0])
        wants = rig.all(io.Want)
    order = who.placement.order(key(0))
    assert sorted(asked[:2]) == sorted(order[:2]) and asked[2:] == list(order[2:])
    assert rig.said == [io.Relook()]


def test_an_error_is_a_lack() -> None:
    rig = GetRig(members(1, 2), MIB)
    (want,) = rig.need(0, 1)
    (other,) = rig.do(io.Refused(want.node, "CHUNK_MISSING", "", 0))
    assert other.node != want.node


def test_members_without_ram_are_asked_too() -> None:
    who = io.Members([io.Ram(1, 512, 1), io.Ram(2, 0, 0)])
    rig = GetRig(who, MIB)
    (want,) = rig.need(0, 1)
    (other,) = rig.fail(want)
    assert other.node == 2


def test_a_lost_node_rests() -> None:
    rig = GetRig(members(1, 2), MIB)
    (want,) = rig.need(0, 1)
    (other,) = rig.do(io.LinkLost(want.node))
    assert other.node != want.node
    assert rig.fail(other) == [], "it is worth waiting for"
    assert rig.wait(REST_MS) == [want]


def test_a_node_lost_again_and_again_is_given_up() -> None:
    rig = GetRig(members(1), MIB)
    rig.need(0, 1)
    for _ in range(LOSSES_MAX - 1):
        rig.do(io.LinkLost(1))
        rig.wait(REST_MS)
        assert rig.one(io.Want)
    assert rig.do(io.LinkLost(1)) == [io.Relook()]


def test_a_silent_node_is_as_lost() -> None:
    rig = GetRig(members(1, 2), MIB)
    (want,) = rig.need(0, 1)
    rig.wait(SILENCE_MS - 1)
    rig.do(io.Progressed(want.node))
    assert rig.wait(SILENCE_MS - 1) == []
    unwant, other = rig.wait(1)
    assert unwant == io.Unwant(want.node, 0) and other.node != want.node


def test_what_a_dead_node_was_to_give_comes_of_others() -> None:
    rig = GetRig(members(1, 2), MIB)
    (want,) = rig.need(0, 1)
    (other,) = {1, 2} - {want.node}
    unwant, again = rig.do(io.MembersChanged(members(other)))
    assert unwant == io.Unwant(want.node, 0) and again.node == other


def test_a_suspected_node_is_waited_for() -> None:
    rig = GetRig(members(1), MIB)
    (want,) = rig.need(0, 1)
    assert rig.do(io.MembersChanged(members(1, suspected=(1,)))) == [io.Unwant(1, 0)]
    assert rig.do(io.MembersChanged(members(1))) == [want]


# ---- nowhere ----


def test_a_chunk_that_nobody_has_is_sought_twice_and_then_named() -> None:
    rig = GetRig(members(1, 2), 4 * MIB)
    wants = rig.need(0, 4 * MIB)
    rig.arrive(wants[0], wants[2])
    assert rig.nowhere(wants[1]) == [], "another is under way yet"
    assert rig.nowhere(wants[3]) == [io.Relook()]
    again = [e for e in rig.relooked(io.Found(entry(rig.manifest))) if isinstance(e, io.Want)]
    assert [want.number for want in again] == [1, 3], "they may have moved meanwhile"
    rig.nowhere(again[0])
    rig.nowhere(again[1])
    fail = rig.one(io.Fail)
    assert fail.code == "CHUNKS_LOST" and fail.numbers == (1, 3)
    assert "1, 3" in fail.text


def test_a_lost_chunk_that_is_only_read_ahead_harms_nobody() -> None:
    rig = GetRig(members(1), 8 * MIB)
    rig.arrive(*rig.need(0, MIB))
    wants = rig.need(MIB, 2 * MIB)
    assert [want.number for want in wants] == [1, 2]
    assert rig.nowhere(wants[1]) == []
    assert rig.arrive(wants[0])[0] == io.Give(1, MIB, 2 * MIB, 0)


def test_a_lost_chunk_is_sought_at_who_joins() -> None:
    rig = GetRig(members(1), 2 * MIB)
    a, b = rig.need(0, 2 * MIB)
    rig.nowhere(b)
    (want,) = rig.do(io.MembersChanged(members(1, 2)))
    assert (want.node, want.number) == (2, 1)


def test_a_replaced_file_begins_anew_if_nothing_was_given() -> None:
    rig = GetRig(members(1), 2 * MIB)
    a, b = rig.need(0, 2 * MIB)
    rig.arrive(b)
    rig.nowhere(a)
    now = entry(manifest(5 * MIB), at=9)
    assert rig.relooked(io.Found(now)) == [io.LetGo(1), io.Restart(now)]
    assert rig.get.entry == now
    assert len(rig.need(0, 5 * MIB)) == 5


def test_a_file_replaced_by_a_small_one() -> None:
    rig = GetRig(members(1), MIB)
    rig.nowhere(*rig.need(0, 1))
    now = entry(Manifest(3, data=b"abc"), at=9)
    assert rig.relooked(io.Found(now)) == [io.Restart(now)]
    assert rig.do(io.TimePassed()) == []


@pytest.mark.parametrize(
    ("outcome", "fresh", "begun"),
    [
        (io.Found(entry(manifest(MIB), at=9)), None, "STALE"),
        (io.NotFound(), "NOT_FOUND", "STALE"),
        (io.Unreachable("nobody"), "UNREACHABLE", "UNREACHABLE"),
    ],
)
def test_what_a_second_look_at_the_name_says(outcome: Any, fresh: str | None, begun: str) -> None:
    for given, code in ((False, fresh), (True, begun)):
        rig = GetRig(members(1), 2 * MIB)
        a, b = rig.need(0, 2 * MIB)
        if given:
            rig.arrive(a)
            rig.nowhere(b)
        else:
            rig.arrive(b)
            rig.nowhere(a)
        rig.relooked(outcome)
        assert [fail.code for fail in rig.all(io.Fail)] == ([code] if code else [])


def test_given_up() -> None:
    rig = GetRig(members(1), MIB)
    rig.need(0, 1)
    unwant, fail = rig.do(io.Aborted())
    assert unwant == io.Unwant(1, 0) and fail.code == "CANCELLED"
    assert rig.get.next_deadline() is None and rig.do(io.Needed(0, 1)) == []


# ---- stripes ----

EIGHT = tuple(range(1, 9))


def test_only_data_shards_are_wanted_and_each_of_its_holder() -> None:
    who = members(*EIGHT)
    size = 8 * MIB + 5
    rig = GetRig(who, size, Coding(4, 2))
    wants = rig.need(0, size)
    assert [want.number for want in wants] == [0, 1, 2, 3, 6, 7, 8, 9, 12, 13, 14]
    for want in wants:
        stripe = want.number // 6 * 6
        name = ft.stripe_key(rig.manifest.keys[stripe : stripe + 4])
        assert want.node == who.placement.stripe(name, 6)[want.number % 6]
        assert want.size == size_of(rig.manifest, want.number)
    rig.arrive(*wants)
    gives = [(g.number, g.first, g.end) for g in rig.all(io.Give)]
    last = 8 * MIB
    assert gives[-3:] == [(12, last, last + 2), (13, last + 2, last + 4), (14, last + 4, last + 5)]


def test_a_lost_shard_is_made_of_the_others() -> None:
    rig = GetRig(members(*EIGHT), 4 * MIB, Coding(4, 2))
    wants = rig.need(0, 4 * MIB)
    said = rig.nowhere(wants[1])
    (parity,) = [effect for effect in said if isinstance(effect, io.Want)]
    assert parity.number == 4
    rig.arrive(wants[0], wants[2])
    assert rig.one(io.Give).number == 0 and not rig.all(io.LetGo), "the stripe needs it yet"
    rig.arrive(wants[3], parity)
    assert rig.said == [io.Decode(0, (0, 2, 3, 4))]
    rig.do(io.Decoded(0))
    assert [give.number for give in rig.all(io.Give)] == [1, 2, 3]
    assert sorted(gone.number for gone in rig.all(io.LetGo)) == [0, 1, 2, 3, 4]


def test_what_a_stripe_is_made_of_stays_until_it_is_made() -> None:
    rig = GetRig(members(*EIGHT), 4 * MIB, Coding(4, 2))
    wants = rig.need(0, 4 * MIB)
    (parity,) = [e for e in rig.nowhere(wants[1]) if isinstance(e, io.Want)]
    rig.arrive(wants[0], wants[2], wants[3], parity)
    assert rig.one(io.Decode).have == (0, 2, 3, 4)
    rig.do(io.MembersChanged(members(*EIGHT, 9)))
    (found,) = rig.all(io.Want)
    rig.arrive(found)
    assert [give.number for give in rig.all(io.Give)] == [1, 2, 3]
    assert [gone.number for gone in rig.all(io.LetGo)] == [1]
    rig.do(io.Decoded(0))
    assert sorted({gone.number for gone in rig.all(io.LetGo)}) == [0, 1, 2, 3, 4]


def test_a_stripe_wants_other_parity_when_one_is_lost_too() -> None:
    rig = GetRig(members(*EIGHT), 4 * MIB, Coding(4, 2))
    (want,) = rig.need(MIB, MIB + 1)
    rig.nowhere(want)
    rescuers = rig.all(io.Want)
    assert [w.number for w in rescuers] == [0, 2, 3, 4]
    rig.nowhere(rescuers[0])
    (other,) = rig.all(io.Want)
    assert other.number == 5
    rig.arrive(*rescuers[1:], other)
    assert rig.one(io.Decode).have == (2, 3, 4, 5)
    assert rig.do(io.Decoded(0))[:1] == [io.LetGo(0)], "decoded as well, and not needed"
    assert rig.one(io.Give) == io.Give(1, MIB, MIB + 1, 0)


def test_a_stripe_that_lost_more_than_m_is_lost() -> None:
    rig = GetRig(members(1), 4 * MIB, Coding(2, 1))
    (want,) = rig.need(0, 1)
    rig.nowhere(want)
    assert [w.number for w in rig.all(io.Want)] == [1, 2]
    rig.nowhere(rig.all(io.Want)[0])
    assert rig.all(io.Relook)
    rig.relooked(io.Found(entry(rig.manifest)))
    for number in (0, 1):
        assert [w.number for w in rig.all(io.Want)][:1] == [number]
        rig.nowhere(rig.all(io.Want)[0])
    assert rig.one(io.Fail).numbers == (0,)


def test_shards_that_make_something_else_are_no_rescue() -> None:
    rig = GetRig(members(1), 2 * MIB, Coding(2, 1))
    (want,) = rig.need(0, 1)
    rig.nowhere(want)
    rig.arrive(*rig.all(io.Want))
    rig.do(io.Decoded(0, right=False))
    assert rig.all(io.Relook)


# ---- lookup ----


class LookRig(Rig):
    """A lookup, begun."""

    def __init__(self, *ids: int, suspected: tuple[int, ...] = ()) -> None:
        self.who = members(*ids, suspected=suspected)
        super().__init__(Lookup(DIGEST, self.who))
        self.order = self.who.placement.keepers(DIGEST, len(ids))
        self.do(io.TimePassed())

    def none(self, *nodes: int) -> list[Any]:
        return self.do(*[io.VersionHeard(node, ft.NAMED_NONE, NONE) for node in nodes])

    def here(self, node: int, at: int) -> list[Any]:
        return self.do(io.VersionHeard(node, ft.NAMED_HERE, Version(at, 1)))

    def has(self, node: int, at: int) -> list[Any]:
        return self.do(io.EntryHeard(node, entry(manifest(MIB), at)))


def test_the_first_gives_the_entry_and_the_second_its_version() -> None:
    rig = LookRig(1, 2, 3, 4)
    a, b = rig.order[:2]
    assert rig.said == [io.AskEntry(a), io.AskVersion(b)]
    assert rig.has(a, 5) == []
    assert rig.here(b, 5) == [io.Found(entry(manifest(MIB), 5))]
    assert rig.policy.next_deadline() is None


def test_the_greater_is_fetched_where_it_is() -> None:
    rig = LookRig(1, 2, 3)
    a, b = rig.order[:2]
    rig.has(a, 5)
    assert rig.here(b, 7) == [io.AskEntry(b)]
    assert rig.has(b, 8) == [io.Found(entry(manifest(MIB), 8))]


def test_who_was_to_give_the_greater_and_is_lost() -> None:
    rig = LookRig(1, 2, 3)
    a, b, c = rig.order
    rig.has(a, 5)
    rig.here(b, 7)
    assert rig.do(io.LinkLost(b)) == [io.AskEntry(c)]
    assert rig.has(c, 7) == [io.Found(entry(manifest(MIB), 7))]


def test_one_alone_is_enough_when_there_is_no_other() -> None:
    rig = LookRig(1)
    assert rig.has(1, 5) == [io.Found(entry(manifest(MIB), 5))]
    rig = LookRig(1)
    assert rig.none(1) == [io.NotFound()]


def test_silence_is_hedged() -> None:
    rig = LookRig(1, 2, 3, 4)
    a, b, c, d = rig.order
    rig.here(b, 5)
    assert rig.wait(HEDGE_MS - 1) == []
    assert rig.wait(1) == [io.AskEntry(c)]
    assert rig.has(c, 5) == [io.Found(entry(manifest(MIB), 5))]


def test_a_lost_link_leads_to_the_next_at_once() -> None:
    rig = LookRig(1, 2, 3)
    a, _, c = rig.order
    assert rig.do(io.LinkLost(a)) == [io.AskEntry(c)]
    assert rig.do(io.Refused(c, "LEAVING")) == []


def test_a_keeper_that_died() -> None:
    rig = LookRig(1, 2, 3)
    a, b, c = rig.order
    said = rig.do(io.MembersChanged(members(b, c)))
    assert said == [io.AskEntry(c)]


def test_none_at_both_leads_to_the_third_and_then_to_all() -> None:
    rig = LookRig(1, 2, 3, 4, 5)
    a, b, c, d, e = rig.order
    assert rig.none(a, b) == [io.AskEntry(c)]
    assert rig.none(c) == [io.AskEntry(d), io.AskEntry(e)]
    assert rig.none(d) == []
    assert rig.none(e) == [io.NotFound()]


def test_a_former_keeper_has_it_yet() -> None:
    rig = LookRig(1, 2, 3, 4)
    a, b, c, d = rig.order
    rig.none(a, b, c)
    assert rig.has(d, 5) == [io.Found(entry(manifest(MIB), 5))]


def test_none_at_the_first_and_a_version_at_the_second() -> None:
    rig = LookRig(1, 2, 3)
    a, b, _ = rig.order
    rig.none(a)
    assert rig.here(b, 5) == [io.AskEntry(b)]
    assert rig.has(b, 5) == [io.Found(entry(manifest(MIB), 5))]


def test_a_tombstone_is_not_found() -> None:
    rig = LookRig(1, 2)
    a, b = rig.order
    rig.do(io.EntryHeard(a, entry(None, 5)))
    assert rig.here(b, 4) == [io.NotFound(entry(None, 5))]


def test_a_silent_member_that_keeps_nothing_does_not_hide_that_there_is_none() -> None:
    rig = LookRig(1, 2, 3, 4)
    a, b, c, _ = rig.order
    rig.none(a, b, c)
    assert rig.wait(WAIT_MS) == [io.NotFound()]


def test_too_few_keepers_to_know() -> None:
    rig = LookRig(1, 2, 3, 4)
    a = rig.order[0]
    rig.none(a)
    said = rig.wait(WAIT_MS)
    assert isinstance(said[-1], io.Unreachable) and "no answer in time" in said[-1].text


def test_suspected_keepers_may_know_what_the_others_do_not() -> None:
    a, b, c, d = LookRig(1, 2, 3, 4).order
    rig = LookRig(1, 2, 3, 4, suspected=(b, c))
    said = rig.none(a, d)
    assert isinstance(said[-1], io.Unreachable), "here may be what was cut off"
    rig = LookRig(1, 2, 3, 4, suspected=(b,))
    assert rig.none(a, c, d)[-1] == io.NotFound(), "two keepers know that there is none"
    rig = LookRig(1, 2, suspected=(2,))
    assert isinstance(rig.none(1)[-1], io.Unreachable)


def test_one_answer_will_do_when_the_others_are_silent() -> None:
    rig = LookRig(1, 2, 3)
    rig.has(rig.order[0], 5)
    assert rig.wait(WAIT_MS)[-1] == io.Found(entry(manifest(MIB), 5))


def test_nobody_is_alive() -> None:
    rig = LookRig()
    assert isinstance(rig.said[0], io.Unreachable)


def test_one_that_gives_a_version_for_an_entry_has_not_answered() -> None:
    rig = LookRig(1, 2, 3)
    a, _, c = rig.order
    assert rig.here(a, 5) == [io.AskEntry(c)]
