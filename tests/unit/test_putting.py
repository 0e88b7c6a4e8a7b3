"""The putter and the remover, one rule of their tables at a time; invariants are checked after
every event."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.transfer_rig import (
    DIGEST,
    MIB,
    NAME,
    START,
    UNIX_MS,
    Rig,
    entry,
    key,
    manifest,
    members,
)
from velum.policy import filetypes as ft
from velum.policy import transfer_io as io
from velum.policy.filetypes import Coding, Copies, Shard
from velum.policy.hybridclock import AHEAD_MS_MAX, COUNTER_BITS, Clock, Version
from velum.policy.peers import LOSSES_MAX, REST_MS
from velum.policy.putting import (
    BUSY_MS,
    BUSY_MS_MAX,
    HOLDS_MAX,
    ROUNDS_MAX,
    SILENCE_MS,
    VERSION_WAIT_MS,
    WINDOW_BYTES,
    Put,
)
from velum.policy.removing import Remove

NONE = Version(0, 0)


class PutRig(Rig):
    """A put, begun; keepers know nothing of the name unless told otherwise."""

    def __init__(
        self, who: io.Members, coding: Coding | None = None, chunk_bytes: int = MIB
    ) -> None:
        self.clock = Clock(1)
        self.coding = coding or Coding(2)
        self.who = who
        self.put = Put(DIGEST, NAME, self.clock, self.coding, chunk_bytes, who, UNIX_MS)
        super().__init__(self.put)
        self.chunk_bytes = chunk_bytes
        self.count = 0

    def begin(self, size: int | None = None) -> PutRig:
        for ask in [*self.do(io.StreamBegan(size))]:
            if isinstance(ask, io.AskVersion):
                self.do(io.VersionHeard(ask.node, ft.NAMED_NONE, NONE))
        return self

    def chunk(self, which: int | None = None) -> list[Any]:
        number, self.count = self.count, self.count + 1
        name = key(number if which is None else which)
        return self.do(io.ChunkReady(number, name, self.chunk_bytes))

    def stripe(self, which: int | None = None) -> list[Any]:
        number, self.count = self.count, self.count + 1
        shards = self.coding.k + self.coding.m
        first = (number if which is None else which) * shards
        keys = tuple(key(first + index) for index in range(shards))
        return self.do(io.StripeReady(number, keys, self.chunk_bytes))

    def held(self, hold: Any, state: int, free: int = 0) -> list[Any]:
        return self.do(io.HeldHeard(hold.node, hold.number, hold.shard, state, free))

    def take(self, hold: Any) -> list[Any]:
        """The holder takes it, and what else is asked is returned."""
        said = self.held(hold, ft.SEND)
        assert said == [io.Send(hold.node, hold.number, hold.shard, hold.key)]
        return self.held(hold, ft.KEPT)

    def hold_all(self, state: int = ft.HAVE) -> list[Any]:
        """Every Hold of the last effects, and those that follow from it, is answered so."""
        todo, said = self.all(io.Hold), list(self.said)
        while todo:
            hold = todo.pop(0)
            said += self.held(hold, state) if state == ft.HAVE else self.take(hold)
            todo += self.all(io.Hold)
        self.said = said
        return said

    def end(self) -> list[Any]:
        return self.do(io.StreamEnded(self.count * self.chunk_bytes * self.data))

    @property
    def data(self) -> int:
        return self.coding.k if self.coding.m else 1

    def kept(self, *sends: io.SendEntry) -> list[Any]:
        said = []
        for send in sends:
            said += self.do(io.VersionHeard(send.node, ft.NAMED_KEPT, send.entry.version))
        self.said = said
        return said

    def put_chunks(self, count: int) -> list[io.SendEntry]:
        """Chunks that all holders have, up to the entries."""
        for _ in range(count):
            self.chunk()
            self.hold_all()
        self.end()
        return self.all(io.SendEntry)


def three() -> PutRig:
    return PutRig(members(1, 2, 3)).begin()


# ---- versions first ----


def test_a_version_is_later_than_the_keepers_ones() -> None:
    rig = PutRig(members(1, 2, 3))
    rig.do(io.StreamBegan(None))
    asked = [ask.node for ask in rig.all(io.AskVersion)]
    assert sorted(asked) == [1, 2, 3]
    theirs = Version((UNIX_MS + 86_400_000) << COUNTER_BITS, 9)
    rig.do(io.VersionHeard(asked[0], ft.NAMED_HERE, theirs))
    assert rig.chunk() == [], "a claim has a version, and not all have answered"
    rig.do(io.Refused(asked[1], "BUSY"), io.LinkLost(asked[2]))
    assert rig.put.version is not None and rig.put.version > theirs
    assert len(rig.all(io.Hold)) == 2


def test_keepers_that_say_nothing_are_waited_for_a_little() -> None:
    rig = PutRig(members(1, 2, 3))
    rig.do(io.StreamBegan(None))
    rig.chunk()
    rig.wait(VERSION_WAIT_MS - 1)
    assert rig.put.version is None
    assert len([e for e in rig.wait(1) if isinstance(e, io.Hold)]) == 2


def test_a_small_file_goes_straight_to_its_keepers() -> None:
    rig = PutRig(members(1, 2, 3, 4, mib=0))
    sends = rig.do(io.SmallFileReady(b"tiny"))
    assert sorted(send.node for send in sends) == sorted(rig.who.keepers(DIGEST, 3))
    assert sends[0].entry.manifest == ft.Manifest(4, coding=Coding(2), data=b"tiny")
    said = rig.kept(*sends)
    version = sends[0].entry.version
    assert rig.all(io.Release) == [
        io.Release(node, ft.RELEASE_BEFORE, DIGEST, version) for node in (1, 2, 3, 4)
    ]
    assert said[-1] == io.Finish(sends[0].entry, io.PutInfo())
    assert rig.put.next_deadline() is None and rig.put.room() == 0
    assert rig.do(io.LinkLost(1)) == [], "it is over"


# ---- chunks ----


def test_a_chunk_goes_to_the_first_in_its_order() -> None:
    rig = PutRig(members(1, 2, 3, 4, 5)).begin()
    rig.chunk(7)
    holds = rig.all(io.Hold)
    assert tuple(h.node for h in holds) == rig.who.placement.holders(key(7), 2)
    assert rig.put.version is not None
    claim = ft.Claim(DIGEST, rig.put.version, Copies(2))
    assert {(h.number, h.key, h.size, h.claim) for h in holds} == {(0, key(7), MIB, claim)}


def test_its_bytes_are_let_go_when_all_copies_are_there() -> None:
    rig = three()
    a, b = rig.chunk()
    assert rig.put.room() == WINDOW_BYTES - MIB
    assert rig.held(a, ft.SEND) == [io.Send(a.node, 0, a.shard, a.key)]
    assert rig.held(a, ft.KEPT) == []
    assert rig.held(b, ft.HAVE) == [io.LetGo(0)]
    assert rig.put.room() == WINDOW_BYTES


def test_the_stream_is_read_no_faster_than_the_window() -> None:
    rig = three()
    for _ in range(WINDOW_BYTES // MIB):
        assert rig.put.room() > 0
        rig.chunk()
    assert rig.put.room() == 0


def test_equal_chunks_are_one() -> None:
    rig = three()
    rig.chunk(7)
    holds = rig.all(io.Hold)
    assert rig.chunk(7) == [io.LetGo(1)]
    for hold in holds:
        rig.held(hold, ft.HAVE)
    assert rig.chunk(7) == [io.LetGo(2)]
    rig.end()
    (keys,) = {send.entry.manifest.keys for send in rig.all(io.SendEntry) if send.entry.manifest}
    assert keys == (key(7),) * 3


def test_a_full_holder_is_replaced_by_the_next() -> None:
    rig = three()
    a, b = rig.chunk()
    (other,) = {1, 2, 3} - {a.node, b.node}
    (again,) = rig.held(a, ft.FULL)
    assert (again.node, again.shard) == (other, a.shard)


def test_when_none_is_left_the_put_fails_with_the_figures() -> None:
    rig = three()
    a, b = rig.chunk()
    (c,) = rig.held(a, ft.FULL, free=17)
    rig.held(b, ft.SEND)
    said = rig.held(c, ft.FULL, free=18)
    fail = rig.one(io.Fail)
    assert fail.code == "STORE_FULL" and said[-1] is fail
    assert {(f.node, f.free_bytes) for f in fail.figures} >= {(a.node, 17), (c.node, 18)}
    assert rig.all(io.Withdraw) == [io.Withdraw(b.node, 0, b.shard)]
    assert {(r.node, r.how, r.version) for r in rig.all(io.Release)} == {
        (node, ft.RELEASE_THIS, rig.put.version) for node in (1, 2, 3)
    }


def test_what_came_wrong_is_sent_once_more() -> None:
    rig = three()
    a, _ = rig.chunk()
    rig.held(a, ft.SEND)
    assert rig.held(a, ft.BAD) == [a]
    rig.held(a, ft.SEND)
    (other,) = rig.held(a, ft.BAD)
    assert other.node != a.node


def test_another_size_there_is_no_copy() -> None:
    rig = three()
    a, _ = rig.chunk()
    (other,) = rig.held(a, ft.BAD)
    assert other.node != a.node


def test_a_busy_holder_is_asked_again() -> None:
    rig = three()
    a, _ = rig.chunk()
    rig.held(a, ft.BUSY)
    assert rig.wait(BUSY_MS - 1) == []
    assert rig.wait(1) == [a]
    rig.held(a, ft.HAVE)


def test_one_that_is_busy_for_long_is_replaced() -> None:
    rig = three()
    a, b = rig.chunk()
    rig.held(b, ft.HAVE)
    held = a
    for _ in range(BUSY_MS_MAX // BUSY_MS):
        rig.held(held, ft.BUSY)
        (held,) = rig.wait(BUSY_MS)
    (other,) = rig.held(held, ft.BUSY)
    assert other.node not in (a.node, b.node)


def test_an_error_is_a_refusal() -> None:
    rig = three()
    a, _ = rig.chunk()
    (other,) = rig.do(io.Refused(a.node, "LEAVING", "", a.number, a.shard))
    assert other.node != a.node


def test_at_most_so_many_are_asked_of_a_node() -> None:
    rig = PutRig(members(1), Coding(1), chunk_bytes=4096).begin()
    holds = [hold for _ in range(HOLDS_MAX) for hold in rig.chunk()]
    assert len(holds) == HOLDS_MAX and rig.chunk() == []
    let_go, more = rig.held(holds[0], ft.HAVE)
    assert let_go == io.LetGo(0) and isinstance(more, io.Hold)


# ---- nodes come and go ----


def test_a_lost_holder_is_replaced_at_once() -> None:
    rig = three()
    a, b = rig.chunk()
    (other,) = rig.do(io.LinkLost(a.node))
    assert other.node not in (a.node, b.node)
    assert rig.held(a, ft.KEPT) == [], "too late"


def test_a_silent_holder_is_as_lost() -> None:
    rig = three()
    a, b = rig.chunk()
    rig.held(b, ft.HAVE)
    rig.held(a, ft.SEND)
    rig.wait(SILENCE_MS - 1)
    rig.do(io.Progressed(a.node))
    assert rig.wait(SILENCE_MS - 1) == [], "its bytes are on their way"
    withdraw, hold = rig.wait(1)
    assert withdraw == io.Withdraw(a.node, 0, a.shard)
    assert hold.node not in (a.node, b.node)


def test_the_only_node_is_waited_for() -> None:
    rig = PutRig(members(1), Coding(1)).begin()
    (a,) = rig.chunk()
    assert rig.do(io.LinkLost(1)) == []
    assert rig.wait(REST_MS) == [a]


def test_a_node_lost_again_and_again_is_given_up() -> None:
    rig = PutRig(members(1, 2), Coding(2)).begin()
    rig.chunk()
    for hold in rig.all(io.Hold):
        if hold.node == 1:
            rig.held(hold, ft.HAVE)
    for _ in range(LOSSES_MAX - 1):
        assert rig.do(io.LinkLost(2)) == []
        assert [hold.node for hold in rig.wait(REST_MS)] == [2]
    assert rig.do(io.LinkLost(2)) == [io.LetGo(0)], "as many copies as there are members"
    sends = rig.end()
    rig.kept(*sends)
    assert rig.one(io.Finish).info.at_risk == 1


def test_a_suspected_holder_is_waited_for_if_there_is_no_other() -> None:
    rig = PutRig(members(1, 2)).begin()
    a, b = rig.chunk()
    rig.held(a, ft.HAVE)
    said = rig.do(io.MembersChanged(members(1, 2, suspected=(b.node,))))
    assert said == [io.Withdraw(b.node, 0, b.shard)]
    assert rig.do(io.MembersChanged(members(1, 2))) == [b]


def test_a_dead_holder_is_not() -> None:
    rig = PutRig(members(1, 2)).begin()
    a, b = rig.chunk()
    rig.held(a, ft.HAVE)
    said = rig.do(io.MembersChanged(members(a.node)))
    assert said == [io.Withdraw(b.node, 0, b.shard), io.LetGo(0)]


def test_fewer_members_than_copies() -> None:
    rig = PutRig(members(1, 2), Coding(3)).begin(MIB)
    rig.chunk()
    rig.hold_all()
    sends = rig.end()
    assert sends[0].entry.manifest.coding == Coding(3)
    rig.kept(*sends)
    assert rig.one(io.Finish).info == io.PutInfo(1, 0, 2 * MIB, 1)


def test_claims_are_made_again_after_a_link_closed() -> None:
    rig = three()
    a, b = rig.chunk()
    rig.held(a, ft.HAVE)
    rig.held(b, ft.HAVE)
    assert rig.do(io.LinkLost(a.node)) == []
    assert rig.end() == [], "its claim there may end"
    assert rig.wait(REST_MS) == [a]
    assert len(rig.held(a, ft.HAVE)) == 3


def test_a_copy_that_is_gone_is_made_anew_while_its_bytes_are_here() -> None:
    rig = three()
    a, b = rig.chunk()
    rig.held(a, ft.HAVE)
    rig.do(io.LinkLost(a.node))
    rig.wait(REST_MS)
    assert rig.held(a, ft.SEND) == [io.Send(a.node, 0, a.shard, a.key)]
    rig.held(a, ft.KEPT)
    assert rig.held(b, ft.HAVE) == [io.LetGo(0)]


def test_a_copy_that_is_gone_later_is_repairs_work() -> None:
    rig = three()
    a, _ = rig.chunk()
    rig.hold_all()
    rig.do(io.LinkLost(a.node))
    rig.wait(REST_MS)
    assert rig.held(a, ft.SEND) == [io.Withdraw(a.node, 0, a.shard)]
    rig.kept(*rig.end())
    assert rig.one(io.Finish).info.at_risk == 1


def test_a_chunk_that_is_nowhere_any_more_ends_the_put() -> None:
    rig = PutRig(members(1, 2), Coding(1)).begin()
    (a,) = rig.chunk()
    rig.held(a, ft.HAVE)
    (other,) = {1, 2} - {a.node}
    rig.do(io.MembersChanged(members(other)))
    assert rig.one(io.Fail).code == "CHUNKS_LOST"


def test_a_chunk_that_is_lost_while_keepers_are_told_leaves_it_uncertain() -> None:
    rig = PutRig(members(1, 2, 3), Coding(1)).begin()
    (a,) = rig.chunk()
    rig.held(a, ft.HAVE)
    sends = [send for send in rig.end() if send.node != a.node]
    rig.kept(sends[0])
    rig.do(io.MembersChanged(members(*{1, 2, 3} - {a.node})))
    assert rig.one(io.Fail).code == "UNCERTAIN"
    assert not rig.all(io.Release), "its chunks may be some file's"


def test_new_chunks_go_to_new_members() -> None:
    rig = PutRig(members(1), Coding(2)).begin()
    rig.chunk()
    rig.do(io.MembersChanged(members(1, 2)))
    assert {hold.node for hold in rig.chunk()} == {1, 2}


# ---- what is refused before the first chunk ----


@pytest.mark.parametrize(
    ("coding", "size", "fits"),
    [
        (Coding(2), 15 * MIB, True),
        (Coding(2), 15 * MIB + 1, False),
        (Coding(1), 30 * MIB, True),
        (Coding(5), 10 * MIB, True),  # three members: three copies
        (Coding(4, 2), 20 * MIB, True),
        (Coding(4, 2), 20 * MIB + 1, False),
    ],
)
def test_a_mesh_without_room_refuses_a_known_size(coding: Coding, size: int, fits: bool) -> None:
    rig = PutRig(members(1, 2, 3, free=10), coding)
    said = rig.do(io.StreamBegan(size))
    assert [type(e) for e in said] == ([io.AskVersion] * len(said) if fits else [io.Fail])
    if not fits:
        fail = rig.one(io.Fail)
        assert fail.code == "STORE_FULL"
        assert fail.figures[0] == io.Figure(1, 512, 10 * MIB)


def test_no_member_gives_ram() -> None:
    rig = PutRig(members(1, 2, mib=0))
    (fail,) = rig.do(io.StreamBegan(None))
    assert fail.code == "STORE_FULL" and "gives RAM" in fail.text


@pytest.mark.parametrize(
    ("chunks", "coding", "says"),
    [
        (ft.KEYS_MAX, Coding(1), None),
        (ft.KEYS_MAX + 1, Coding(1), f"chunks of {2 * MIB} "),
        (8 * ft.KEYS_MAX, Coding(1), f"chunks of {8 * MIB} "),
        (8 * ft.KEYS_MAX + 1, Coding(1), f"at most {8 * MIB * ft.KEYS_MAX}"),
        (ft.KEYS_MAX, Coding(4, 2), f"chunks of {2 * MIB} "),
    ],
)
def test_too_many_chunks(chunks: int, coding: Coding, says: str | None) -> None:
    rig = PutRig(members(1, mib=1 << 30), coding)
    said = rig.do(io.StreamBegan(chunks * MIB))
    if says is None:
        assert isinstance(said[0], io.AskVersion)
    else:
        assert said[0].code == "TOO_LARGE" and says in said[0].text


def test_too_many_chunks_of_a_stream() -> None:
    rig = PutRig(members(1), Coding(1), chunk_bytes=1).begin()
    for number in range(ft.KEYS_MAX):
        rig.put.handle(io.ChunkReady(number, key(0), 1), rig.now)
    said = rig.do(io.ChunkReady(ft.KEYS_MAX, key(0), 1))
    assert rig.one(io.Fail).code == "TOO_LARGE" and "chunks of 2 bytes" in said[-1].text
    assert rig.all(io.Release) == [io.Release(1, ft.RELEASE_THIS, DIGEST, rig.put.version)]


def test_a_stripe_that_no_window_holds() -> None:
    rig = PutRig(members(1), Coding(10, 4), chunk_bytes=8 * MIB)
    assert rig.do(io.StreamBegan(None))[0].code == "TOO_LARGE"


# ---- stripes ----


def test_shards_go_to_the_stripes_holders() -> None:
    rig = PutRig(members(*range(1, 9)), Coding(4, 2)).begin()
    holds = rig.stripe()
    keys = tuple(key(index) for index in range(6))
    placed = rig.who.placement.stripe(ft.stripe_key(keys[:4]), 6)
    assert tuple(hold.node for hold in holds) == placed
    assert [hold.claim.place for hold in holds] == [Shard(4, 2, i, keys) for i in range(6)]
    assert rig.put.room() == 4 * MIB, "two stripes with their parity"
    (again,) = rig.held(holds[2], ft.FULL)
    assert again.node not in placed and again.shard == 2
    for hold in [*holds[:2], again, *holds[3:]]:
        rig.held(hold, ft.HAVE)
    assert rig.said == [io.LetGo(0)]


def test_fewer_members_than_shards_hold_several() -> None:
    rig = PutRig(members(1, 2, 3), Coding(4, 2)).begin()
    nodes = [hold.node for hold in rig.stripe()]
    assert sorted(nodes) == [1, 1, 2, 2, 3, 3]


def test_a_stripe_needs_k_shards() -> None:
    rig = PutRig(members(1, 2, 3, 4), Coding(2, 2)).begin()
    rig.stripe()
    rig.hold_all()
    rig.do(io.MembersChanged(members(1, 2)))
    assert rig.said == []
    rig.do(io.MembersChanged(members(1)))
    assert rig.one(io.Fail).code == "CHUNKS_LOST"


def test_equal_stripes_are_one() -> None:
    rig = PutRig(members(1, 2, 3), Coding(2, 1)).begin()
    rig.stripe(0)
    rig.hold_all()
    assert rig.stripe(0) == [io.LetGo(1)]
    (first, *_) = rig.end()
    assert first.entry.manifest.keys == tuple(key(i) for i in range(3)) * 2
    assert first.entry.keepers == 3 and first.entry.manifest.size == 4 * MIB


# ---- the last step ----


def test_the_entry_goes_to_all_keepers_when_all_chunks_have_their_copies() -> None:
    rig = PutRig(members(1, 2, 3, 4, 5), Coding(3)).begin()
    rig.chunk()
    assert rig.end() == []
    holds = [h for h in PutRig(rig.who, Coding(3)).begin().chunk()]
    for hold in holds:
        rig.held(hold, ft.KEPT)
    sends = rig.all(io.SendEntry)
    assert tuple(send.node for send in sends) == rig.who.keepers(DIGEST, 4)
    assert sends[0].entry.keepers == 4
    assert rig.kept(*sends[:3]) == [], "not all have it"
    assert isinstance(rig.kept(sends[3])[-1], io.Finish)


def test_a_keeper_that_died_is_not_waited_for() -> None:
    rig = three()
    sends = rig.put_chunks(0) or rig.do(io.SmallFileReady(b"x"))
    rig.kept(*sends[:2])
    rig.do(io.MembersChanged(members(*(send.node for send in sends[:2]))))
    assert rig.one(io.Finish)


def test_who_becomes_a_keeper_meanwhile_is_told() -> None:
    rig = PutRig(members(1))
    (first,) = rig.do(io.SmallFileReady(b"x"))
    (second,) = rig.do(io.MembersChanged(members(1, 2)))
    assert rig.kept(first) == []
    assert isinstance(rig.kept(second)[-1], io.Finish)


def test_a_keeper_whose_link_closed_is_told_again() -> None:
    rig = PutRig(members(1, 2, 3))
    sends = rig.do(io.SmallFileReady(b"x"))
    rig.kept(*sends[:2])
    rig.do(io.LinkLost(sends[2].node))
    assert rig.wait(REST_MS) == [sends[2]]
    assert isinstance(rig.kept(sends[2])[-1], io.Finish)


def test_a_keeper_that_may_have_been_started_anew_is_told_again() -> None:
    rig = PutRig(members(1, 2, 3))
    sends = rig.do(io.SmallFileReady(b"x"))
    rig.kept(*sends[:2])
    rig.do(io.LinkLost(sends[0].node))
    assert rig.kept(sends[2]) == [], "one of them may have nothing any more"
    assert rig.wait(REST_MS) == [sends[0]]
    assert isinstance(rig.kept(sends[0])[-1], io.Finish)


def test_it_is_not_done_before_claims_in_danger_are_made_again() -> None:
    rig = PutRig(members(*range(1, 9))).begin()
    keepers, place = rig.who.keepers(DIGEST, 3), rig.who.placement
    which = next(n for n in range(100) if place.holders(key(n), 2)[0] not in keepers)
    a, b = rig.chunk(which)
    rig.held(a, ft.HAVE)
    rig.held(b, ft.HAVE)
    sends = rig.end()
    rig.do(io.LinkLost(a.node))
    assert rig.kept(*sends) == []
    for hold in rig.wait(REST_MS):
        rig.held(hold, ft.HAVE)
    assert rig.one(io.Finish).info.at_risk == 0


def test_a_later_version_is_overtaken_and_nothing_is_sent_again() -> None:
    rig = three()
    sends = rig.put_chunks(2)
    first = sends[0].entry.version
    theirs = Version(first.stamp + 1000, 9)
    rig.kept(*sends[:2])
    rig.do(io.VersionHeard(sends[2].node, ft.NAMED_LATER, theirs))
    holds = rig.all(io.Hold)
    assert len(holds) == 4 and {h.claim.version for h in holds} == {rig.put.version}
    assert rig.put.version is not None and rig.put.version > theirs
    rig.hold_all()
    again = rig.all(io.SendEntry)
    assert {send.entry.version for send in again} == {rig.put.version}
    rig.do(io.VersionHeard(again[0].node, ft.NAMED_KEPT, first))
    assert rig.said == [], "that was about the first one"
    rig.kept(*again)
    assert rig.one(io.Finish).info == io.PutInfo(2, 0, 4 * MIB, 0)


def test_it_gives_up_when_others_are_later_each_time() -> None:
    rig = PutRig(members(1))
    (send,) = rig.do(io.SmallFileReady(b"x"))
    for _ in range(ROUNDS_MAX - 1):
        later = Version(send.entry.version.stamp + 5, 9)
        (send,) = rig.do(io.VersionHeard(1, ft.NAMED_LATER, later))
    later = Version(send.entry.version.stamp + 5, 9)
    assert rig.do(io.VersionHeard(1, ft.NAMED_LATER, later))[-1].code == "UNCERTAIN"


def test_what_a_keeper_took_in_an_earlier_round_leaves_it_uncertain() -> None:
    rig = three()
    first, second, *_ = rig.put_chunks(1)
    rig.kept(first)
    later = Version(first.entry.version.stamp + 5, 9)
    rig.do(io.VersionHeard(second.node, ft.NAMED_LATER, later))
    rig.do(io.Aborted())
    assert rig.one(io.Fail).code == "UNCERTAIN"
    releases = rig.all(io.Release)
    assert releases and {r.version for r in releases} == {rig.put.version}, "only of this round"


def test_a_version_from_too_far_ahead_cannot_be_overtaken() -> None:
    rig = PutRig(members(1))
    rig.do(io.SmallFileReady(b"x"))
    far = Version((UNIX_MS + AHEAD_MS_MAX + 2 * START) << COUNTER_BITS, 9)
    assert rig.do(io.VersionHeard(1, ft.NAMED_LATER, far))[-1].code == "VERSION_AHEAD"


def test_no_keeper_left_is_uncertain() -> None:
    rig = PutRig(members(1, 2, 3))
    sends = rig.do(io.SmallFileReady(b"x"))
    rig.kept(sends[0])
    rig.do(io.MembersChanged(members()))
    assert rig.one(io.Fail).code == "UNCERTAIN"
    assert rig.all(io.Release) == []


def test_an_entry_that_all_refuse_is_nowhere() -> None:
    rig = three()
    sends = rig.put_chunks(1)
    for send in sends:
        rig.do(io.Refused(send.node, "NAMES_FULL", "no room"))
    assert rig.one(io.Fail).code == "NAMES_FULL"
    assert {r.how for r in rig.all(io.Release)} == {ft.RELEASE_THIS}


def test_an_entry_that_some_refuse_is_uncertain() -> None:
    rig = three()
    sends = rig.put_chunks(1)
    rig.kept(*sends[:2])
    rig.do(io.Refused(sends[2].node, "NAMES_FULL", "no room"))
    assert rig.one(io.Fail).code == "UNCERTAIN"
    assert rig.all(io.Release) == []


def test_given_up_before_the_last_step() -> None:
    rig = three()
    a, b = rig.chunk()
    rig.held(a, ft.HAVE)
    rig.do(io.Aborted())
    assert rig.one(io.Fail).code == "CANCELLED"
    assert {release.node for release in rig.all(io.Release)} == {a.node, b.node}
    assert rig.all(io.Withdraw) == [io.Withdraw(b.node, 0, b.shard)]


def test_given_up_in_the_last_step() -> None:
    rig = three()
    rig.put_chunks(1)
    rig.do(io.Aborted())
    assert rig.one(io.Fail).code == "UNCERTAIN"
    assert rig.all(io.Release) == []


def test_acknowledged() -> None:
    assert not io.is_acknowledged([], [])
    assert not io.is_acknowledged([], [1])
    assert not io.is_acknowledged([1, 2], [1])
    assert io.is_acknowledged([1, 2], [1, 2, 3])


# ---- removal ----


class RemoveRig(Rig):
    """A removal, begun; the first keeper has the entry."""

    def __init__(self, who: io.Members, found: ft.Entry | None) -> None:
        super().__init__(Remove(DIGEST, NAME, Clock(1), who, UNIX_MS))
        for ask in self.do(io.TimePassed()):
            if found is None:
                self.do(io.VersionHeard(ask.node, ft.NAMED_NONE, NONE))
            elif isinstance(ask, io.AskEntry):
                self.do(io.EntryHeard(ask.node, found))
            else:
                self.do(io.VersionHeard(ask.node, ft.NAMED_HERE, found.version))


def test_a_tombstone_goes_to_all_keepers_of_the_entry() -> None:
    old = entry(manifest(MIB), at=(UNIX_MS + 10_000) << COUNTER_BITS, keepers=4)
    rig = RemoveRig(members(1, 2, 3, 4, 5), old)
    sends = rig.all(io.SendEntry)
    assert len(sends) == 4 and sends[0].entry.manifest is None
    assert sends[0].entry.version > old.version and sends[0].entry.keepers == 4
    for send in sends:
        rig.do(io.VersionHeard(send.node, ft.NAMED_KEPT, send.entry.version))
    assert rig.one(io.Finish).entry == sends[0].entry
    assert [release.node for release in rig.all(io.Release)] == [1, 2, 3, 4, 5]
    assert {release.how for release in rig.all(io.Release)} == {ft.RELEASE_BEFORE}


@pytest.mark.parametrize("found", [None, entry(None)])
def test_there_is_nothing_to_remove(found: ft.Entry | None) -> None:
    rig = RemoveRig(members(1), found)
    assert rig.one(io.Fail).code == "NOT_FOUND"


def test_a_removal_overtakes_too() -> None:
    rig = RemoveRig(members(1), entry(manifest(MIB)))
    send = rig.one(io.SendEntry)
    later = Version(send.entry.version.stamp + 5, 9)
    rig.do(io.VersionHeard(1, ft.NAMED_LATER, later))
    again = rig.one(io.SendEntry)
    assert again.entry.version > later
    rig.do(io.VersionHeard(1, ft.NAMED_KEPT, again.entry.version))
    assert rig.one(io.Finish)


def test_a_removal_whose_keepers_die_is_uncertain() -> None:
    rig = RemoveRig(members(1), entry(manifest(MIB)))
    rig.do(io.MembersChanged(members()))
    assert rig.one(io.Fail).code == "UNCERTAIN"


def test_a_removal_is_told_again_to_a_keeper_that_is_silent() -> None:
    rig = RemoveRig(members(1), entry(manifest(MIB)))
    send = rig.one(io.SendEntry)
    assert rig.wait(SILENCE_MS + REST_MS) == [send]


def test_a_removal_given_up() -> None:
    rig = Rig(Remove(DIGEST, NAME, Clock(1), members(1), UNIX_MS))
    rig.do(io.TimePassed())
    assert rig.do(io.Aborted())[0].code == "CANCELLED"
