"""A node's chunks, one rule of the tables at a time; invariants are checked after every event."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.holdings_rig import MIB, RamChunks, key_of
from velum.policy import filetypes as ft
from velum.policy import holdings_io as io
from velum.policy.claims import ASK_FIRST_MS, ASK_MS, CYCLE_MS, OVER_MS, PUTTER_MS, TURN_MS
from velum.policy.filetypes import Claim, Copies, Key, Shard
from velum.policy.holdings import ARRIVAL_MS_MAX, Holdings
from velum.policy.hybridclock import Version
from velum.policy.placement import Budget, Placement
from velum.policy.repairs import JOB_MS_MAX
from velum.policy.scrub import SCRUB_MS
from velum.policy.tending import (
    DROP_MS,
    LOOK_FIRST_MS,
    LOOKS_MAX,
    OVER_BYTES_MIN,
    PATIENCE_MS,
    PUTTING_MS,
    RETRY_MS,
    RETRY_MS_MAX,
    STEP_MS,
)
from velum.policy.wheel import TICK_MS

ME = 1
START = 10_000
PUTTER = 50  # a link
SOON_MS = STEP_MS + 2 * TICK_MS
HAVE, LACK, FULL, BUSY, SPARE = (
    ft.OFFERED_HAVE,
    ft.OFFERED_LACK,
    ft.OFFERED_FULL,
    ft.OFFERED_BUSY,
    ft.OFFERED_SPARE,
)
DIGEST = key_of("name")


def claim(at: int = 1, copies: int = 2, digest: bytes = DIGEST) -> Claim:
    return Claim(digest, Version(at, 7), Copies(copies))


def keys_held_by(me: int, ids: tuple[int, ...], count: int, at: int | None = None) -> list[Key]:
    """Chunks of 2 copies of which a member is a holder, number `at` if given, or None at all."""
    place = Placement([Budget(id, 64) for id in ids])
    found: list[Key] = []
    number = 0
    while len(found) < count:
        number += 1
        key = key_of(("chunk", number))
        holders = place.holders(key, 2)
        if me in holders and (at is None or holders[at] == me):
            found.append(key)
    return found


class Rig:
    """One node's holdings, and what they said."""

    def __init__(self, *ids: int, mib: int = 64, rate: int | None = None) -> None:
        self.chunks = RamChunks(mib * MIB)
        self.holdings = Holdings(ME, self.chunks, rate)
        self.now = START
        self.ids = ids
        if ids:
            self.members(*ids)

    def do(self, event: io.Event) -> list[io.Effect]:
        out = self.holdings.handle(event, self.now)
        self.holdings.validate()
        return out

    def members(self, *ids: int, mib: int = 64, restarted: tuple[int, ...] = ()) -> None:
        self.ids = ids
        self.do(io.MembersChanged([Budget(id, mib) for id in ids], frozenset(restarted)))

    def wait(self, ms: int) -> list[io.Effect]:
        """Everything said meanwhile, with every deadline kept."""
        until, out = self.now + ms, []
        while (due := self.holdings.next_deadline()) is not None and due <= until:
            self.now = max(self.now, due)
            out += self.do(io.TimePassed())
        self.now = until
        return out

    def hold(
        self,
        key: Key,
        *claims: Claim,
        size: int = 1000,
        link: int = PUTTER,
        node: int = 0,
        comes: bool = True,
    ) -> list[int]:
        """What is answered to a HOLD, and to the chunk."""
        event = io.HoldAsked(link, 3, key, size, list(claims) or [claim()], node)
        out = self.do(event)
        if comes and out[0] == io.AnswerHold(link, 3, ft.SEND):
            assert self.chunks.store(key, link)
            out += self.do(io.ChunkStored(link, key, True))
        answers = of(out, io.AnswerHold)
        assert all((answer.link, answer.ticket) == (link, 3) for answer in answers)
        return [answer.state for answer in answers]

    def file(self, *keys: Key, copies: int = 2, at: int = 1) -> None:
        """An acknowledged file of which chunks are here, put long ago."""
        for key in keys:
            assert self.hold(key, claim(at, copies))[-1] in (ft.KEPT, ft.HAVE)
        self.claimed(ft.FAST, at=at)
        self.do(io.LinkClosed(PUTTER))

    def claimed(self, state: int, node: int = 2, at: int = 1) -> list[io.Effect]:
        return self.do(io.ClaimsAnswered(node, [(DIGEST, Version(at, 7))], [state]))

    def answer(self, out: list[io.Effect], says: dict[int, int]) -> list[io.Effect]:
        """Members answer the offers in `out`; those not in `says` are silent."""
        then: list[io.Effect] = []
        for offer in of(out, io.SendOffer):
            if offer.node in says:
                states = [says[offer.node]] * len(offer.keys)
                then += self.do(io.OfferAnswered(offer.node, offer.round, offer.keys, states))
        return then

    def settle(self, **says: int) -> list[io.Effect]:
        """Looks for the first time, with members n2=..., n3=... answering."""
        words = {int(name[1:]): state for name, state in says.items()}
        return self.answer(self.wait(LOOK_FIRST_MS + SOON_MS), words)

    def asked(self, key: Key) -> int:
        (answer,) = of(self.do(io.OfferAsked(2, 9, [key])), io.AnswerOffer)
        assert (answer.node, answer.ticket) == (2, 9)
        return int(answer.states[0])


def of(out: list[io.Effect], kind: type[Any]) -> list[Any]:
    return [effect for effect in out if isinstance(effect, kind)]


KEY = keys_held_by(ME, (1, 2, 3), 1, 0)[0]


# ---- the holder's side of a put ----


def test_a_chunk_is_reserved_stored_and_held() -> None:
    rig = Rig(1, 2, 3)
    assert rig.hold(KEY) == [ft.SEND, ft.KEPT]
    assert rig.hold(KEY) == [ft.HAVE]
    figures = rig.holdings.figures()
    assert (figures.chunks, figures.bytes, figures.loose_bytes) == (1, 1000, 1000)


def test_one_that_arrives_is_busy_until_its_link_closes() -> None:
    rig = Rig(1, 2, 3)
    assert rig.hold(KEY, comes=False) == [ft.SEND]
    assert rig.hold(KEY, link=51) == [ft.BUSY]
    assert rig.asked(KEY) == BUSY
    rig.do(io.LinkClosed(PUTTER))
    assert not rig.chunks.reserved
    assert rig.hold(KEY, link=51) == [ft.SEND, ft.KEPT]


def test_a_sender_that_does_not_send_gives_up_its_place() -> None:
    rig = Rig(1, 2, 3)
    rig.hold(KEY, comes=False)
    assert io.AnswerHold(PUTTER, 3, ft.BAD) in rig.wait(ARRIVAL_MS_MAX)
    assert not rig.chunks.reserved
    assert rig.do(io.ChunkStored(PUTTER, KEY, True)) == []


def test_a_hold_that_is_withdrawn_gives_up_its_place_and_only_its_own() -> None:
    rig = Rig(1, 2, 3)
    rig.hold(KEY, comes=False)
    ticket = next(iter(rig.holdings._arriving.values())).ticket
    rig.do(io.HoldWithdrawn(PUTTER, ticket + 1))
    rig.do(io.HoldWithdrawn(PUTTER + 1, ticket))
    assert rig.chunks.reserved
    assert rig.do(io.HoldWithdrawn(PUTTER, ticket)) == []
    assert not rig.chunks.reserved
    assert rig.hold(KEY, link=51) == [ft.SEND, ft.KEPT]


def test_a_wrong_hash_or_size_or_claim_is_bad() -> None:
    rig = Rig(1, 2, 3)
    rig.hold(KEY, comes=False)
    rig.chunks.abandon(KEY, PUTTER)
    assert rig.do(io.ChunkStored(PUTTER, KEY, False)) == [io.AnswerHold(PUTTER, 3, ft.BAD)]
    assert rig.hold(KEY) == [ft.SEND, ft.KEPT]
    assert rig.hold(KEY, size=999) == [ft.BAD]
    other = Claim(DIGEST, Version(1, 7), Shard(1, 1, 0, (key_of(1), key_of(2))))
    assert rig.hold(key_of(3), other) == [ft.BAD]
    assert rig.hold(key_of(3), size=0) == [ft.BAD]
    assert rig.hold(key_of(3), size=ft.CHUNK_BYTES_MAX + 1) == [ft.BAD]


def test_nothing_held_is_dropped_for_room_but_what_is_over() -> None:
    rig = Rig(1, 2, 3, mib=2)
    old, new = key_of("old"), key_of("new")
    assert rig.hold(old, claim(1), size=MIB) == [ft.SEND, ft.KEPT]
    assert rig.hold(KEY, claim(2), size=MIB) == [ft.SEND, ft.KEPT]
    assert rig.hold(new, claim(3), size=MIB) == [ft.FULL]
    assert rig.asked(new) == FULL
    rig.claimed(ft.OLD, at=1)
    assert rig.asked(new) == LACK
    assert rig.holdings.figures().over_bytes == MIB
    assert rig.hold(new, claim(3), size=MIB) == [ft.SEND, ft.KEPT]
    assert set(rig.chunks.held) == {KEY, new}


def test_of_what_is_over_no_more_stays_than_its_part_of_the_budget() -> None:
    rig = Rig(1, 2, 3, mib=64)
    for version in range(1, 31):
        rig.hold(key_of(version), claim(version), size=MIB)
    for version in range(1, 31):
        rig.claimed(ft.OLD, at=version)
    assert rig.holdings.figures().over_bytes == 30 * MIB, "nothing comes, so nothing need go"
    rig.hold(key_of("new"), claim(31), size=MIB)
    assert rig.holdings.figures().over_bytes == OVER_BYTES_MIN
    kept = {key_of(version) for version in range(15, 31)}
    assert set(rig.chunks.held) == kept | {key_of("new")}, "the oldest go first"


# ---- claims ----


def test_a_loose_claim_is_asked_about_after_2_s_and_then_each_5_s() -> None:
    rig = Rig(1, 2, 3, 4, 5)
    rig.hold(KEY)
    assert not of(rig.wait(ASK_FIRST_MS - 1), io.AskClaims)
    keepers = Placement([Budget(id, 64) for id in rig.ids]).keepers(DIGEST, 3)
    asks = of(rig.wait(1), io.AskClaims)
    assert {ask.node for ask in asks} == set(keepers)
    assert all(ask.names == [(DIGEST, Version(1, 7))] for ask in asks)
    assert not of(rig.wait(ASK_MS - 1), io.AskClaims)
    assert len(of(rig.wait(1), io.AskClaims)) == 3


def test_a_put_given_up_frees_its_chunks_at_once_and_only_its_own() -> None:
    rig = Rig(1, 2, 3)
    other = key_of("other")
    rig.hold(KEY, claim(1))
    rig.hold(KEY, claim(2))
    rig.hold(other, claim(1))
    rig.hold(key_of("arrives"), claim(1), comes=False)
    rig.do(io.Released(ft.RELEASE_THIS, DIGEST, Version(1, 7)))
    rig.wait(SOON_MS)
    assert set(rig.chunks.held) == {KEY}
    assert rig.chunks.store(key_of("arrives"), PUTTER)
    out = rig.do(io.ChunkStored(PUTTER, key_of("arrives"), True))
    assert of(out, io.AnswerHold)[0].state == ft.BAD
    assert set(rig.chunks.held) == {KEY}


def test_a_fast_claim_is_kept_whatever_is_said_but_old() -> None:
    rig = Rig(1, 2, 3)
    rig.file(KEY)
    rig.do(io.Released(ft.RELEASE_THIS, DIGEST, Version(1, 7)))
    for node in (1, 2, 3):
        rig.claimed(ft.UNKNOWN, node)
    rig.wait(4 * OVER_MS)
    assert KEY in rig.chunks.held
    rig.claimed(ft.OLD)
    rig.wait(OVER_MS - 1)
    assert KEY in rig.chunks.held
    rig.claimed(ft.FAST)  # an old answer
    rig.wait(SOON_MS)
    assert not rig.chunks.held
    assert rig.holdings.figures() == io.Figures(*[0] * 10)


def test_a_release_of_all_before_is_only_a_reason_to_ask() -> None:
    rig = Rig(1, 2, 3)
    rig.file(KEY, at=5)
    assert not rig.do(io.Released(ft.RELEASE_BEFORE, DIGEST, Version(5, 7)))
    out = rig.do(io.Released(ft.RELEASE_BEFORE, DIGEST, Version(6, 1)))
    assert [ask.names for ask in of(out, io.AskClaims)] == [[(DIGEST, Version(5, 7))]] * 3
    rig.wait(2 * OVER_MS)
    assert KEY in rig.chunks.held


def test_all_others_are_asked_about_in_turn() -> None:
    rig = Rig(1, 2, 3)
    rig.file(KEY)
    asks = of(rig.wait(3 * (CYCLE_MS + TURN_MS)), io.AskClaims)
    assert 2 <= len(asks) <= 4, "one keeper a cycle"
    assert len({ask.node for ask in asks}) > 1, "the same keeper always"


def unknown(rig: Rig, out: list[io.Effect], silent: int = 0) -> None:
    for ask in of(out, io.AskClaims):
        if ask.node != silent:
            states = [ft.UNKNOWN] * len(ask.names)
            rig.do(io.ClaimsAnswered(ask.node, ask.names, states))


def abandon(rig: Rig, silent: int = 0, ms: int = 6 * ASK_MS) -> None:
    """The putter is gone, and everybody says that nothing is known."""
    rig.do(io.LinkClosed(PUTTER))
    end = rig.now + ms
    while rig.now < end:
        unknown(rig, rig.wait(1000), silent)


def test_without_putter_a_loose_claim_ends_when_everybody_knows_nothing() -> None:
    rig = Rig(1, 2, 3)
    rig.hold(KEY)
    unknown(rig, rig.wait(10 * ASK_MS))
    assert KEY in rig.chunks.held, "its putter is there"
    abandon(rig)
    assert not rig.chunks.held


@pytest.mark.parametrize("how", ["silent", "lost", "pending"])
def test_silence_never_frees(how: str) -> None:
    rig = Rig(1, 2, 3)
    rig.hold(KEY)
    if how == "lost":
        rig.members(1, 2)
    if how == "pending":
        rig.hold(key_of("two"), node=2, link=60)
        abandon(rig, silent=3, ms=PUTTER_MS)
        for _ in range(20):
            unknown(rig, rig.wait(4000), 3)
            rig.claimed(ft.PENDING, 3)
    else:
        abandon(rig, silent=3, ms=60_000)
    assert KEY in rig.chunks.held


def test_who_left_in_order_is_not_waited_for_and_who_comes_is_asked() -> None:
    rig = Rig(1, 2, 3)
    rig.hold(KEY)
    rig.do(io.MemberLeft(3))
    rig.members(1, 2, 4)
    abandon(rig, silent=4, ms=60_000)
    assert KEY in rig.chunks.held
    abandon(rig, ms=180_000)
    assert not rig.chunks.held


def test_a_version_is_pending_while_its_putter_is_connected() -> None:
    rig = Rig(1, 2, 3)
    name = (DIGEST, Version(1, 7))
    rig.hold(KEY, node=2, link=60)
    assert not rig.holdings.pending(name), "copied by repair"
    rig.hold(KEY)
    assert rig.holdings.pending(name)
    rig.do(io.LinkClosed(PUTTER))
    assert not rig.holdings.pending(name)


# ---- repair ----


def test_a_chunk_is_offered_to_its_other_holders_after_2_s() -> None:
    rig = Rig(1, 2, 3)
    rig.file(KEY)
    assert not of(rig.wait(LOOK_FIRST_MS - TICK_MS), io.SendOffer)
    offers = of(rig.wait(SOON_MS + TICK_MS), io.SendOffer)
    second = Placement([Budget(id, 64) for id in rig.ids]).holders(KEY, 2)[1]
    assert [(offer.node, offer.keys) for offer in offers] == [(second, [KEY])]
    assert rig.holdings.figures().unconfirmed == 1
    rig.answer(offers, {second: HAVE})
    assert rig.holdings.figures().unconfirmed == 0
    assert not of(rig.wait(RETRY_MS_MAX), io.SendOffer)


def test_a_put_under_way_is_left_alone_for_a_minute() -> None:
    rig = Rig(1, 2)
    rig.hold(KEY)
    assert not of(rig.wait(PUTTING_MS - 1), io.SendOffer)
    assert of(rig.wait(RETRY_MS + SOON_MS), io.SendOffer)


def test_the_first_sends_what_lacks_and_it_is_asked_for_again() -> None:
    rig = Rig(1, 2)
    rig.file(KEY)
    out = rig.settle(n2=LACK)
    assert of(out, io.SendCopy) == [io.SendCopy(2, KEY, 1000, [claim()])]
    figures = rig.holdings.figures()
    assert (figures.at_risk, figures.repair_bytes, figures.repaired_bytes) == (1, 1000, 0)
    rig.do(io.CopyEnded(2, KEY, ft.KEPT))
    out = rig.wait(SOON_MS)
    assert not of(rig.answer(out, {2: HAVE}), io.SendCopy)
    figures = rig.holdings.figures()
    assert (figures.at_risk, figures.repair_bytes, figures.repaired_bytes) == (0, 0, 1000)
    assert figures.unconfirmed == 0


def test_the_second_waits_for_the_first_and_then_does_it() -> None:
    ids = (1, 2, 3)
    place = Placement([Budget(id, 64) for id in ids])
    key = next(k for n in range(99) if (k := key_of(n)) and place.holders(k, 3)[0] != ME)
    before = [id for id in place.holders(key, 3) if id != ME]
    rig = Rig(*ids)
    rig.file(key, copies=3)
    says = {before[0]: HAVE, before[1]: LACK}
    if place.holders(key, 3)[1] != ME:
        says = {before[1]: HAVE, before[0]: LACK}
    start = rig.now
    out = rig.wait(LOOK_FIRST_MS + SOON_MS)
    while not of(out, io.SendCopy):
        assert rig.now < start + 2 * PATIENCE_MS, "stuck"
        out = rig.answer(out, says) or rig.wait(TICK_MS)
    assert rig.now >= start + PATIENCE_MS


def test_a_copy_that_fails_is_tried_again() -> None:
    rig = Rig(1, 2)
    rig.file(KEY)
    assert of(rig.settle(n2=LACK), io.SendCopy)
    for state in (io.LOST, ft.BUSY, ft.BAD):
        rig.do(io.CopyEnded(2, KEY, state))
        out = rig.answer(rig.wait(RETRY_MS + SOON_MS), {2: LACK})
        assert of(out, io.SendCopy), state
    out = rig.wait(JOB_MS_MAX + RETRY_MS_MAX)  # and one that nobody reports on
    assert of(rig.answer(out, {2: LACK}), io.SendCopy)


def test_who_is_full_is_stood_in_for_and_asked_again() -> None:
    rig = Rig(1, 2, 3, 4)
    order = Placement([Budget(id, 64) for id in rig.ids]).order(KEY)
    key = KEY
    if order[0] != ME:
        key = keys_held_by(ME, rig.ids, 1, 0)[0]
        order = Placement([Budget(id, 64) for id in rig.ids]).order(key)
    rig.file(key)
    rig.answer(rig.wait(LOOK_FIRST_MS + SOON_MS), {order[1]: FULL})
    out = rig.wait(RETRY_MS + SOON_MS)
    assert {offer.node for offer in of(out, io.SendOffer)} == {order[1], order[2]}
    out = rig.answer(out, {order[1]: FULL, order[2]: LACK})
    assert [copy.node for copy in of(out, io.SendCopy)] == [order[2]]
    rig.do(io.CopyEnded(order[2], key, ft.KEPT))
    rig.answer(rig.wait(SOON_MS), {order[1]: FULL, order[2]: SPARE})
    assert rig.holdings.figures().at_risk == 0
    out = rig.answer(rig.wait(RETRY_MS_MAX), {order[1]: LACK, order[2]: SPARE})
    assert [copy.node for copy in of(out, io.SendCopy)] == [order[1]]


@pytest.mark.parametrize("place", [0, 1])
def test_who_became_a_holder_is_told_the_claims_though_it_has_the_chunk(place: int) -> None:
    ids = (1, 2, 3, 4)
    keys = [k for k in keys_held_by(ME, ids, 40, place) if ME in holders(k, (1, 2, 3))]
    key = next(k for k in keys if set(holders(k, ids)) != set(holders(k, (1, 2, 3))))
    fresh = next(id for id in holders(key, ids) if id != ME)
    rig = Rig(1, 2, 3)
    rig.file(key)
    rig.settle(n2=HAVE, n3=HAVE)
    rig.members(*ids)
    out = rig.settle(n2=HAVE, n3=HAVE, n4=HAVE)
    assert [(copy.node, copy.claims) for copy in of(out, io.SendCopy)] == [(fresh, [claim()])]
    assert rig.holdings.figures().repair_bytes == 0, "nothing is expected to travel"


def test_another_claim_is_handed_to_who_may_hold_it_for_the_first_one_only() -> None:
    rig = Rig(1, 2, 3)
    key = keys_held_by(ME, rig.ids, 1)[0]
    (other,) = {*holders(key, rig.ids)} - {ME}
    rig.file(key)
    rig.settle(n2=HAVE, n3=HAVE)
    assert rig.holdings.figures().unconfirmed == 0
    assert rig.hold(key, claim(2)) == [ft.HAVE]
    out = rig.settle(n2=HAVE, n3=HAVE)
    assert [(copy.node, copy.claims) for copy in of(out, io.SendCopy)] == [
        (other, [claim(1), claim(2)])
    ]
    rig.do(io.CopyEnded(other, key, ft.HAVE))
    rig.answer(rig.wait(SOON_MS), {other: HAVE})
    assert rig.holdings.figures().unconfirmed == 0


def holders(key: Key, ids: tuple[int, ...]) -> tuple[int, ...]:
    return Placement([Budget(id, 64) for id in ids]).holders(key, 2)


def surplus(*ids: int) -> tuple[Rig, Key, tuple[int, ...]]:
    """A node that holds a chunk of which others are the holders, after a change of members."""
    place = Placement([Budget(id, 64) for id in ids])
    number = next(n for n in range(999) if ME not in place.holders(key_of(n), 2))
    rig = Rig(*ids)
    rig.file(key_of(number))
    return rig, key_of(number), place.holders(key_of(number), 2)


def test_surplus_goes_once_all_holders_have_it_and_know_why() -> None:
    rig, key, (a, b) = surplus(1, 2, 3)
    out = rig.answer(rig.wait(LOOK_FIRST_MS + SOON_MS), {a: HAVE, b: HAVE})
    copies = of(out, io.SendCopy)
    assert {copy.node for copy in copies} == {a, b} and rig.holdings.figures().repair_bytes == 0
    rig.wait(2 * DROP_MS)
    assert key in rig.chunks.held, "they may hold it for another file"
    for node in (a, b):
        rig.do(io.CopyEnded(node, key, ft.HAVE))
    out = rig.answer(rig.wait(SOON_MS), {a: HAVE})
    rig.wait(2 * DROP_MS)
    assert key in rig.chunks.held, "one has not said that it is a holder"
    rig.answer(rig.wait(RETRY_MS_MAX), {a: HAVE, b: HAVE})
    rig.wait(DROP_MS - TICK_MS)
    assert key in rig.chunks.held, "readers may look for it here"
    rig.wait(2 * TICK_MS)
    assert key not in rig.chunks.held
    assert rig.holdings.figures() == io.Figures(*[0] * 10)


def test_who_becomes_surplus_tells_all_holders_itself() -> None:
    ids = (1, 2, 3, 4)
    keys = [k for k in keys_held_by(ME, (1, 2, 3), 99) if ME not in holders(k, ids)]
    rig = Rig(1, 2, 3)
    rig.file(keys[0])
    rig.settle(n2=HAVE, n3=HAVE)
    rig.members(*ids)
    out = rig.settle(n2=HAVE, n3=HAVE, n4=HAVE)
    assert {copy.node for copy in of(out, io.SendCopy)} == set(holders(keys[0], ids))


def test_what_was_said_before_the_members_changed_does_not_count() -> None:
    rig, key, (a, b) = surplus(1, 2, 3)
    before = rig.wait(LOOK_FIRST_MS + SOON_MS)
    rig.members(1, 2, 3, restarted=(a,))
    rig.wait(LOOK_FIRST_MS + SOON_MS)
    late = [offer for offer in of(before, io.SendOffer) if offer.node == a]
    for _ in range(60):
        out = rig.wait(1000)
        out += rig.answer(out, {b: HAVE}) + rig.answer(late, {a: HAVE})
        for copy in of(out, io.SendCopy):
            rig.do(io.CopyEnded(copy.node, key, ft.HAVE))
    assert key in rig.chunks.held


@pytest.mark.parametrize("why", ["spare", "budgets", "members"])
def test_surplus_stays_when_something_is_not_sure(why: str) -> None:
    rig, key, (a, b) = surplus(1, 2, 3)
    if why == "budgets":
        rig.members(1, 2, 3, mib=0)
        a, b = Placement([Budget(id, 0) for id in rig.ids]).holders(key, 2)
    says = {2: HAVE, 3: HAVE, a: SPARE if why == "spare" else HAVE}
    offers = rig.wait(LOOK_FIRST_MS + SOON_MS)
    rig.answer(offers, says)
    for node in (a, b):
        rig.do(io.CopyEnded(node, key, ft.HAVE))
    rig.answer(rig.wait(SOON_MS), says)
    if why == "members":
        rig.wait(DROP_MS // 2)
        rig.members(1, 2, 3, restarted=(a,))
    for _ in range(40):
        rig.answer(rig.wait(1000), {} if why == "members" else says)
    assert key in rig.chunks.held


def test_have_is_said_only_by_a_holder() -> None:
    rig, key, _ = surplus(1, 2, 3)
    assert rig.asked(key) == SPARE
    assert rig.asked(key_of("none")) == LACK
    rig.members(1)
    assert rig.asked(key) == HAVE


def test_the_same_members_again_are_no_change() -> None:
    rig = Rig(1, 2)
    rig.file(KEY)
    rig.settle(n2=HAVE)
    rig.members(2, 1)
    assert rig.holdings.figures().unconfirmed == 0
    rig.members(1, 2, mib=65)
    assert rig.holdings.figures().unconfirmed == 1


def test_holders_are_the_union_of_all_claims_and_over_ones_do_not_count() -> None:
    rig = Rig(1, 2, 3, 4)
    keys = tuple(key_of(("shard", n)) for n in range(3))
    shard = Claim(key_of("other"), Version(1, 7), Shard(2, 1, 0, keys))
    place = Placement([Budget(id, 64) for id in rig.ids])
    union = {*place.holders(keys[0], 2), place.stripe(ft.stripe_key(keys[:2]), 3)[0]}
    rig.hold(keys[0], claim(), shard, node=2)
    out = rig.wait(LOOK_FIRST_MS + SOON_MS)
    offered = {offer.node for offer in of(out, io.SendOffer) if keys[0] in offer.keys}
    assert offered == union - {ME}
    rig.claimed(ft.OLD)
    rig.wait(OVER_MS + SOON_MS)
    assert keys[0] in rig.chunks.held, "claimed by another file"


def test_looks_and_offers_are_bounded() -> None:
    rig = Rig(1, 2)
    keys = [key_of(n) for n in range(5 * LOOKS_MAX)]
    for key in keys:
        rig.chunks.held[key] = 1000
        rig.holdings.handle(io.HoldAsked(60, 1, key, 1000, [claim()], 2), rig.now)
    rig.members(1, 2, 3)
    seen = 0
    while rig.now < START + 60_000 and seen < len(keys):
        due = rig.holdings.next_deadline()
        assert due is not None, "forgotten"
        rig.now = max(rig.now, due)
        offers = of(rig.do(io.TimePassed()), io.SendOffer)
        assert all(len(offer.keys) <= 256 for offer in offers)
        found = {key for offer in offers for key in offer.keys}
        assert len(found) <= LOOKS_MAX
        seen += len(found)
    assert seen >= len(keys)


# ---- scrub ----


def test_a_bad_chunk_is_dropped_and_fetched() -> None:
    rig = Rig(1, 2)
    rig.file(KEY)
    rig.settle(n2=HAVE)
    rig.chunks.bad.add(KEY)
    out: list[io.Effect] = []
    while not rig.holdings.figures().bad:
        assert rig.now < START + SCRUB_MS
        out = rig.wait(1000)
    assert KEY not in rig.chunks.held and rig.holdings.figures().lost == 1
    assert rig.asked(KEY) == LACK
    out = rig.answer(out or rig.wait(SOON_MS), {2: HAVE})
    (rebuild,) = of(out, io.Rebuild)
    piece = io.Piece(0, ME, KEY, (claim(),))
    assert rebuild == io.Rebuild(KEY, 1, 0, 1000, (KEY,), [(0, 2)], [piece])
    assert rig.hold(KEY, node=1, link=70) == [ft.SEND, ft.KEPT]
    rig.do(io.RebuildEnded(KEY, (ft.KEPT,)))
    rig.answer(rig.wait(LOOK_FIRST_MS), {2: HAVE})
    assert rig.holdings.figures().lost == 0


def test_every_chunk_is_hashed_and_asked_for_again_within_an_hour() -> None:
    rig = Rig(1, 2)
    keys = [key_of(n) for n in range(30)]
    rig.file(*keys)
    rig.settle(n2=HAVE)
    rig.wait(SCRUB_MS // 3)
    rig.file(key_of("late"), at=2)
    last = dict.fromkeys([*keys, key_of("late")], rig.now)
    verify, asked = rig.chunks.verify, dict(last)

    def hashed(key: Key, bytes_max: int) -> io.Checked:
        assert rig.now - last[key] <= SCRUB_MS
        last[key] = rig.now
        return verify(key, bytes_max)

    rig.chunks.verify = hashed  # type: ignore[method-assign]
    while rig.now < START + 4 * SCRUB_MS:
        out = rig.wait(10_000)
        rig.answer(out, {2: HAVE})
        for offer in of(out, io.SendOffer):
            asked.update(dict.fromkeys(offer.keys, rig.now))
    assert min(last.values()) >= rig.now - SCRUB_MS
    assert min(asked.values()) >= rig.now - SCRUB_MS - 10_000


# ---- stripes ----


class Striped(Rig):
    """Holder of shard `mine` of a stripe of 2+2, among four members or more."""

    def __init__(self, mine: int, *ids: int) -> None:
        super().__init__(*ids)
        place = Placement([Budget(id, 64) for id in ids])
        number = 0
        while True:
            number += 1
            self.keys = tuple(key_of(("stripe", number, n)) for n in range(4))
            self.at = place.stripe(ft.stripe_key(self.keys[:2]), 4)
            if self.at[mine] == ME:
                break
        self.mine = mine
        self.hold(self.keys[mine], self.shard(mine), node=2)
        self.claimed(ft.FAST)

    def shard(self, index: int) -> Claim:
        return Claim(DIGEST, Version(1, 7), Shard(2, 2, index, self.keys))

    def look(self, *lacking: int) -> list[io.Effect]:
        """All holders answer the next offers: these shards are not there."""
        return self.during(LOOK_FIRST_MS + SOON_MS, *lacking)

    def during(self, ms: int, *lacking: int) -> list[io.Effect]:
        """Everything said meanwhile, and after the answers to it."""
        out = self.wait(ms)
        then: list[io.Effect] = [*out]
        for offer in of(out, io.SendOffer):
            lacks = {self.keys[index] for index in lacking}
            states = [LACK if key in lacks else HAVE for key in offer.keys]
            then += self.do(io.OfferAnswered(offer.node, offer.round, offer.keys, states))
        return then


def test_the_holder_of_the_first_shard_there_rebuilds_what_lacks() -> None:
    rig = Striped(1, 1, 2, 3, 4)
    out = rig.look(0, 3)
    (rebuild,) = of(out, io.Rebuild)
    assert (rebuild.k, rebuild.m, rebuild.size, rebuild.keys) == (2, 2, 1000, rig.keys)
    assert rebuild.have == [(1, ME), (2, rig.at[2])]
    assert rebuild.missing == [io.Piece(i, rig.at[i], rig.keys[i], (rig.shard(i),)) for i in (0, 3)]
    figures = rig.holdings.figures()
    assert (figures.at_risk, figures.repair_bytes) == (2, 4000)
    rig.do(io.RebuildEnded(rebuild.what, (ft.KEPT, ft.KEPT)))
    rig.during(SOON_MS)
    figures = rig.holdings.figures()
    assert (figures.at_risk, figures.unconfirmed, figures.repaired_bytes) == (0, 0, 4000)


def test_another_claim_of_a_stripe_is_handed_to_the_first_who_hands_it_on() -> None:
    rig = Striped(1, 1, 2, 3, 4)
    rig.look()
    assert rig.holdings.figures().unconfirmed == 0
    again = [rig.shard(index)._replace(version=Version(2, 7)) for index in range(4)]
    assert rig.hold(rig.keys[1], again[1]) == [ft.HAVE]
    out, told = rig.look(), set[int]()
    while rig.holdings.figures().unconfirmed:
        assert rig.now < START + 60_000, "stuck"
        assert rig.holdings.figures().repair_bytes == 0, "nothing is expected to travel"
        for rebuild in of(out, io.Rebuild):
            for piece in rebuild.missing:
                assert piece.claims == (rig.shard(piece.index), again[piece.index])
                told.add(piece.index)
            rig.do(io.RebuildEnded(rebuild.what, [ft.HAVE] * len(rebuild.missing)))
        out = rig.during(1000)
    assert 0 in told


def test_a_later_one_waits_for_the_first() -> None:
    rig = Striped(1, 1, 2, 3, 4)
    start = rig.now
    out = rig.look(3)
    while not of(out, io.Rebuild):
        assert rig.now < start + 2 * PATIENCE_MS, "stuck"
        out = rig.during(1000, 3)
    assert rig.now >= start + PATIENCE_MS


def test_fewer_than_k_rebuild_nothing() -> None:
    rig = Striped(0, 1, 2, 3, 4)
    assert not of(rig.look(1, 2, 3), io.Rebuild)


def test_a_shard_whose_former_holder_lives_is_waited_for() -> None:
    rig = Striped(0, 1, 2, 3, 4)
    rig.look()
    before = rig.at
    for extra in range(5, 99):
        ids = (1, 2, 3, 4, extra)
        place = Placement([Budget(id, 64) for id in ids])
        after = place.stripe(ft.stripe_key(rig.keys[:2]), 4)
        moved = [n for n in range(1, 4) if after[n] == extra]
        if (
            moved
            and after[0] == ME
            and sum(a != b for a, b in zip(before, after, strict=True)) == 1
        ):
            break
    rig.members(*ids)
    start = rig.now
    out = rig.look(*moved)
    assert rig.holdings.figures().at_risk == 0
    while not of(out, io.Rebuild):
        assert rig.now < start + 2 * PATIENCE_MS, "stuck"
        out = rig.during(1000, *moved)
    assert rig.now >= start + PATIENCE_MS


def test_a_bad_shard_is_rebuilt_by_its_own_holder() -> None:
    rig = Striped(3, 1, 2, 3, 4)
    rig.look()
    rig.chunks.bad.add(rig.keys[3])
    out: list[io.Effect] = []
    while not of(out, io.Rebuild):
        assert rig.now < START + SCRUB_MS
        out = rig.during(1000, 3)
    (rebuild,) = of(out, io.Rebuild)
    assert [(piece.index, piece.node) for piece in rebuild.missing] == [(3, ME)]
