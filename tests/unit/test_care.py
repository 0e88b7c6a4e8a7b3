"""How whole files are: every row of the table in `velum/policy/care.py`, stripes, silence, and
members that change in between.

The rig is one first keeper over a store of names; a dict says who holds which chunk, and answers
its questions.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import pytest

from velum.policy import care as io
from velum.policy.care import (
    AGAIN_MS,
    ALL_MS,
    ANSWER_MS,
    ENTRIES_MAX,
    REST_MS,
    SETTLE_MS,
    STEP_KEYS,
    STEP_MS,
    Care,
    lacking,
)
from velum.policy.filetypes import (
    CARE_AT_RISK,
    CARE_DAMAGED,
    CARE_UNKNOWN,
    CARE_WHOLE,
    OFFERED_BUSY,
    OFFERED_HAVE,
    OFFERED_LACK,
    OFFERED_SPARE,
    Coding,
    Entry,
    Key,
    Manifest,
    stripe_key,
)
from velum.policy.hybridclock import Version
from velum.policy.names import MemoryNames
from velum.policy.placement import Budget, Placement

ME = 1
FIVE = (1, 2, 3, 4, 5)


def digest_of(name: bytes) -> bytes:
    return blake2b(name, digest_size=32).digest()


def key(name: bytes, number: int) -> Key:
    return digest_of(name + b" %d" % number)


class Rig:
    """A node's care, and where chunks lie."""

    def __init__(self, *ids: int) -> None:
        self.names = MemoryNames(ME, 1 << 24, digest_of)
        self.care = Care(ME, self.names)
        self.now = 1000
        self.asks: list[io.Ask] = []
        self.there: dict[Key, set[int]] = {}
        self.silent: set[int] = set()
        self.versions: dict[bytes, Version] = {}
        if ids:
            self.members(*ids)

    # ---- files ----

    def mine(self, *ids: int, after: int = 0) -> bytes:
        """A name whose first keeper this node is among those."""
        placement = Placement([Budget(id, 100) for id in ids])
        number = after
        while placement.keepers(digest_of(b"name %d" % number), 1) != (ME,):
            number += 1
        return b"name %d" % number

    def put(
        self, name: bytes, chunks: int = 3, coding: Coding | None = None, at: int = 5
    ) -> tuple[Key, ...]:
        """A file of chunks or stripes, each where it belongs; its keys."""
        coding = coding or Coding(2)
        width = coding.k + coding.m if coding.m else 1
        keys = tuple(key(name, number) for number in range(chunks * width))
        data = chunks * (coding.k if coding.m else 1)
        self.merge(name, Manifest(8 * data, 8, coding, keys), at)
        for number, holders in enumerate(self.holders(keys, coding)):
            self.there.setdefault(keys[number], set()).update(holders)
        return keys

    def holders(self, keys: tuple[Key, ...], coding: Coding) -> list[tuple[int, ...]]:
        k, m = coding
        if not m:
            return [self.placement.holders(key, k) for key in keys]
        found: list[tuple[int, ...]] = []
        for first in range(0, len(keys), k + m):
            stripe = stripe_key(keys[first : first + k])
            found += [(node,) for node in self.placement.stripe(stripe, k + m)]
        return found

    def merge(self, name: bytes, manifest: Manifest | None, at: int = 5) -> None:
        version = self.versions[name] = Version(at, 1)
        self.names.merge(Entry(name, version, 3, manifest), 1 << 40, self.now)

    def of(self, name: bytes) -> tuple[int, int]:
        return self.care.of(digest_of(name), self.versions[name])

    # ---- events ----

    def members(self, *ids: int) -> None:
        budgets = [Budget(id, 100) for id in ids]
        self.placement = Placement(budgets)
        self.names.set_members(ids)
        self.do(io.MembersChanged(budgets))

    def do(self, event: io.Event) -> list[io.Ask]:
        asks = self.care.handle(event, self.now)
        self.care.validate()
        self.asks += asks
        return asks

    def answer(self, ask: io.Ask, states: Any = None) -> list[io.Ask]:
        if states is None:
            there = [ask.node in self.there.get(key, ()) for key in ask.keys]
            states = [OFFERED_HAVE if has else OFFERED_LACK for has in there]
        return self.do(io.Answered(ask.node, ask.ticket, states))

    def wait(self, ms: int, answering: bool = True) -> list[io.Ask]:
        """All that is asked meanwhile, and answered by who is not silent."""
        until, asked = self.now + ms, []
        todo = list(self.asks) if answering else []
        while True:
            while todo:
                ask = todo.pop(0)
                asked.append(ask)
                if ask.node not in self.silent:
                    todo += self.answer(ask)
            due = self.care.next_deadline()
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            fresh = self.do(io.TimePassed())
            if answering:
                todo += fresh
        self.now = until
        self.asks.clear()
        return asked


def keys_of(asks: list[io.Ask]) -> set[Key]:
    return {key for ask in asks for key in ask.keys}


# ---- members changed: all names whose first keeper this node is ----


def test_nothing_is_looked_at_before_members_are_known() -> None:
    rig = Rig()
    assert rig.care.next_deadline() is None
    assert rig.care.counts() == (0, 0, False)
    assert rig.care.of(digest_of(b"any"), Version(1, 1)) == (CARE_UNKNOWN, 0)


def test_all_is_looked_at_once_members_have_settled() -> None:
    rig = Rig(*FIVE)
    name = rig.mine(*FIVE)
    keys = rig.put(name)
    assert rig.wait(SETTLE_MS - 1) == []
    assert rig.of(name) == (CARE_UNKNOWN, 0)
    asked = rig.wait(1 + STEP_MS)
    assert keys_of(asked) == set(keys)
    assert {(ask.node, key) for ask in asked for key in ask.keys} == {
        (node, key) for key in keys for node in rig.placement.holders(key, 2)
    }
    assert rig.of(name) == (CARE_WHOLE, 0)
    assert rig.care.counts() == (0, 0, True)


def test_only_the_first_keeper_looks() -> None:
    rig = Rig(*FIVE)
    others = [b"name %d" % n for n in range(40) if b"name %d" % n != rig.mine(*FIVE, after=n)]
    for name in others:
        rig.put(name)
    assert rig.wait(SETTLE_MS + 1000) == []
    assert rig.care.counts() == (0, 0, True)


def test_inline_files_and_tombstones_have_no_chunks() -> None:
    rig = Rig(*FIVE)
    inline = rig.mine(*FIVE)
    gone = rig.mine(*FIVE, after=int(inline[5:]) + 1)
    rig.merge(inline, Manifest(3, data=b"abc"))
    rig.merge(gone, None)
    assert rig.wait(SETTLE_MS + 1000) == []
    assert rig.of(inline) == (CARE_WHOLE, 0)


def test_members_that_change_again_put_it_off() -> None:
    rig = Rig(*FIVE)
    name = rig.mine(*FIVE)
    rig.put(name)
    rig.wait(SETTLE_MS - 100)
    rig.members(*FIVE)
    assert rig.wait(SETTLE_MS - 1) == []
    assert rig.wait(1 + STEP_MS) != []


# ---- a name: its keys, some at a time ----


def test_a_large_file_is_asked_about_in_steps() -> None:
    rig = Rig(*FIVE)
    name = rig.mine(*FIVE)
    keys = rig.put(name, chunks=2 * STEP_KEYS + 10)
    first = rig.wait(SETTLE_MS)
    assert keys_of(first) == set(keys[:STEP_KEYS])
    assert all(len(ask.keys) <= STEP_KEYS for ask in first)
    assert rig.of(name) == (CARE_UNKNOWN, 0)
    assert keys_of(rig.wait(STEP_MS)) == set(keys[STEP_KEYS : 2 * STEP_KEYS])
    assert keys_of(rig.wait(STEP_MS)) == set(keys[2 * STEP_KEYS :])
    rig.wait(STEP_MS)
    assert rig.of(name) == (CARE_WHOLE, 0)


def test_steps_are_whole_stripes() -> None:
    rig = Rig(*FIVE)
    name = rig.mine(*FIVE)
    keys = rig.put(name, chunks=100, coding=Coding(3, 2))
    count = STEP_KEYS // 5 * 5
    assert keys_of(rig.wait(SETTLE_MS)) == set(keys[:count])
    rig.wait(1000)
    assert rig.of(name) == (CARE_WHOLE, 0)


def test_names_follow_each_other() -> None:
    rig = Rig(*FIVE)
    first = rig.mine(*FIVE)
    second = rig.mine(*FIVE, after=int(first[5:]) + 1)
    keys = {*rig.put(first), *rig.put(second)}
    one = keys_of(rig.wait(SETTLE_MS))
    other = keys_of(rig.wait(STEP_MS))
    assert len(one) == len(other) == 3 and one | other == keys


def test_a_store_of_many_names_is_walked_in_steps() -> None:
    rig = Rig(ME)
    for number in range(ENTRIES_MAX + 5):
        rig.merge(b"small %d" % number, Manifest(1, data=b"x"))
    rig.wait(SETTLE_MS)
    assert rig.care.counts() == (0, 0, False)
    rig.wait(STEP_MS)
    assert rig.care.counts() == (0, 0, True)


# ---- what too few have is asked of all others ----


def test_what_too_few_have_is_asked_of_all_others() -> None:
    rig = Rig(*FIVE)
    name = rig.mine(*FIVE)
    keys = rig.put(name)
    holder, other = rig.placement.holders(keys[1], 2)
    rig.there[keys[1]] = {other}
    asked = rig.wait(SETTLE_MS)
    more = [ask for ask in asked if ask.node not in rig.placement.holders(keys[1], 2)]
    more = [ask for ask in more if ask.keys == (keys[1],)]
    assert sorted(ask.node for ask in more) == sorted(set(FIVE) - {holder, other})
    rig.wait(STEP_MS)
    assert rig.of(name) == (CARE_AT_RISK, 1)
    assert rig.care.counts() == (1, 0, True)


@pytest.mark.parametrize("state", [OFFERED_HAVE, OFFERED_SPARE])
def test_a_copy_anywhere_counts(state: int) -> None:
    rig = Rig(*FIVE)
    name = rig.mine(*FIVE)
    (only,) = rig.put(name, chunks=1)
    holder, other = rig.placement.holders(only, 2)
    spare = min(set(FIVE) - {holder, other})
    rig.now += SETTLE_MS
    first, second = rig.do(io.TimePassed())
    assert {first.node, second.node} == {holder, other}
    assert rig.answer(first, [OFFERED_HAVE]) == []
    asks = rig.answer(second, [OFFERED_BUSY])
    assert len(asks) == 3
    for ask in asks:
        rig.answer(ask, [state if ask.node == spare else OFFERED_LACK])
    rig.asks.clear()
    rig.wait(STEP_MS)
    assert rig.of(name) == (CARE_WHOLE, 0)


def test_a_chunk_that_is_nowhere_is_damage() -> None:
    rig = Rig(*FIVE)
    name = rig.mine(*FIVE)
    keys = rig.put(name, chunks=4)
    rig.there[keys[0]], rig.there[keys[2]] = set(), set()
    rig.there[keys[3]].pop()
    rig.wait(SETTLE_MS + STEP_MS)
    assert rig.of(name) == (CARE_DAMAGED, 2)
    assert rig.care.counts() == (0, 1, True)


def test_damage_in_different_steps_is_added() -> None:
    rig = Rig(*FIVE)
    name = rig.mine(*FIVE)
    keys = rig.put(name, chunks=STEP_KEYS + 10)
    rig.there[keys[3]] = rig.there[keys[STEP_KEYS + 3]] = set()
    rig.wait(SETTLE_MS + 3 * STEP_MS)
    assert rig.of(name) == (CARE_DAMAGED, 2)


def test_each_step_asks_all_others_anew() -> None:
    rig = Rig(*FIVE)
    name = rig.mine(*FIVE)
    keys = rig.put(name, chunks=STEP_KEYS + 10)
    for late in (keys[3], keys[STEP_KEYS + 3]):  # one copy is nowhere, one is at a former holder
        rig.there[late] = {min(set(FIVE) - rig.there[late])}
    rig.wait(SETTLE_MS + 3 * STEP_MS)
    assert rig.of(name) == (CARE_AT_RISK, 2)


def test_fewer_members_than_copies_are_a_risk() -> None:
    rig = Rig(1, 2)
    name = rig.mine(1, 2)
    rig.put(name, chunks=2, coding=Coding(3))
    rig.wait(SETTLE_MS + STEP_MS)
    assert rig.of(name) == (CARE_AT_RISK, 2)


def test_a_node_alone_asks_itself() -> None:
    rig = Rig(ME)
    rig.put(b"file", coding=Coding(1))
    assert {ask.node for ask in rig.wait(SETTLE_MS + STEP_MS)} == {ME}
    assert rig.of(b"file") == (CARE_WHOLE, 0)


# ---- stripes ----


def test_a_stripe_counts_its_shards() -> None:
    rig = Rig(*FIVE)
    name = rig.mine(*FIVE)
    keys = rig.put(name, chunks=2, coding=Coding(3, 2))
    for key_ in keys[4:7]:  # one of the first stripe, two of the second
        rig.there[key_] = set()
    rig.wait(SETTLE_MS + STEP_MS)
    assert rig.of(name) == (CARE_AT_RISK, 3)


def test_a_stripe_with_fewer_shards_than_it_takes_is_damage() -> None:
    rig = Rig(*FIVE)
    name = rig.mine(*FIVE)
    keys = rig.put(name, chunks=2, coding=Coding(3, 2))
    for key_ in (keys[0], keys[1], keys[4], keys[9]):
        rig.there[key_] = set()
    rig.wait(SETTLE_MS + STEP_MS)
    assert rig.of(name) == (CARE_DAMAGED, 2), "the data chunks; parity is no loss by itself"


def test_a_shard_is_asked_of_its_one_holder_first() -> None:
    rig = Rig(*FIVE)
    name = rig.mine(*FIVE)
    keys = rig.put(name, chunks=1, coding=Coding(3, 2))
    asked = [(ask.node, key_) for ask in rig.wait(SETTLE_MS) for key_ in ask.keys]
    holders = rig.holders(keys, Coding(3, 2))
    assert sorted(asked) == sorted((node, k) for k, (node,) in zip(keys, holders, strict=True))


@pytest.mark.parametrize(
    ("coding", "counts", "found"),
    [
        (Coding(2), [2, 2], (0, 0)),
        (Coding(2), [3, 1], (1, 0)),
        (Coding(2), [0, 1], (3, 1)),
        (Coding(1), [1, 0], (1, 1)),
        (Coding(2, 1), [1, 1, 1], (0, 0)),
        (Coding(2, 1), [1, 2, 0], (1, 0)),
        (Coding(2, 1), [0, 1, 1], (1, 0)),
        (Coding(2, 1), [0, 1, 0], (2, 1)),
        (Coding(2, 1), [0, 0, 1], (2, 2)),
        (Coding(2, 1), [0, 0, 0], (3, 2)),
        (Coding(2, 1), [1, 1, 0, 0, 0, 1], (3, 2)),
    ],
)
def test_what_lacks(coding: Coding, counts: list[int], found: tuple[int, int]) -> None:
    assert lacking(coding, counts) == found


# ---- silence ----


def test_who_does_not_answer_has_nothing() -> None:
    rig = Rig(*FIVE)
    name = rig.mine(*FIVE)
    (only,) = rig.put(name, chunks=1)
    rig.silent.add(rig.placement.holders(only, 2)[0])
    rig.wait(SETTLE_MS + ANSWER_MS - 1)
    assert rig.care.counts() == (0, 0, False)
    rig.wait(1 + STEP_MS)
    assert rig.of(name) == (CARE_AT_RISK, 1)


def test_all_others_are_waited_for_as_long_again() -> None:
    rig = Rig(*FIVE)
    name = rig.mine(*FIVE)
    rig.put(name, chunks=1)
    rig.silent.update(FIVE)
    rig.wait(SETTLE_MS + 2 * ANSWER_MS - 1)
    assert rig.care.counts() == (0, 0, False)
    rig.wait(1 + STEP_MS)
    assert rig.of(name) == (CARE_DAMAGED, 1)


def test_a_lost_answer_is_an_empty_one() -> None:
    rig = Rig(1, 2)
    name = rig.mine(1, 2)
    rig.put(name, chunks=1)
    rig.now += SETTLE_MS
    first, second = rig.do(io.TimePassed())
    rig.answer(first)
    rig.answer(second, b"")
    rig.asks.clear()
    rig.wait(STEP_MS)
    assert rig.of(name) == (CARE_AT_RISK, 1)


def test_answers_that_nobody_waits_for_change_nothing() -> None:
    rig = Rig(*FIVE)
    name = rig.mine(*FIVE)
    rig.put(name, chunks=1)
    rig.now += SETTLE_MS
    asks = rig.do(io.TimePassed())
    rig.wait(ANSWER_MS, answering=False)
    for ask in asks:  # late: the others are being asked
        assert rig.answer(ask) == []
    assert rig.do(io.Answered(2, 999, [OFFERED_HAVE])) == []
    rig.asks.clear()
    rig.wait(ANSWER_MS + STEP_MS, answering=False)
    assert rig.of(name) == (CARE_DAMAGED, 1)


# ---- again ----


def test_what_is_not_whole_is_looked_at_until_it_is() -> None:
    rig = Rig(*FIVE)
    name, other = rig.mine(*FIVE), rig.mine(*FIVE, after=100)
    keys = rig.put(name)
    rig.put(other)
    lost = rig.there[keys[1]].pop()
    rig.wait(SETTLE_MS + 3 * STEP_MS)
    assert rig.of(name) == (CARE_AT_RISK, 1)
    again = rig.wait(AGAIN_MS)
    assert keys_of(again) == set(keys), "and not the other's"
    rig.there[keys[1]].add(lost)
    rig.wait(AGAIN_MS + STEP_MS)
    assert rig.of(name) == (CARE_WHOLE, 0)
    assert rig.care.counts() == (0, 0, True)
    assert rig.wait(5 * AGAIN_MS) == []


def test_damage_is_mended_when_a_node_comes_back() -> None:
    rig = Rig(*FIVE)
    name = rig.mine(*FIVE)
    keys = rig.put(name)
    there, rig.there[keys[0]] = rig.there[keys[0]], set()
    rig.wait(SETTLE_MS + AGAIN_MS)
    assert rig.care.counts() == (0, 1, True)
    rig.there[keys[0]] = there
    rig.wait(AGAIN_MS + STEP_MS)
    assert rig.care.counts() == (0, 0, True)


def test_all_are_looked_at_again_seldomer_and_seldomer() -> None:
    rig = Rig(*FIVE)
    rig.put(rig.mine(*FIVE), chunks=1)
    rig.wait(SETTLE_MS + STEP_MS)
    rests: list[int] = []
    for _ in range(9):
        due = rig.care.next_deadline()
        assert due is not None
        rests.append(due - rig.now)
        assert len(rig.wait(due - rig.now + STEP_MS)) == 2
    assert rests[:5] == [REST_MS * 2**n for n in range(5)]
    assert rests[-1] == ALL_MS


def test_entries_that_come_after_the_walk_are_found_by_the_next() -> None:
    rig = Rig(*FIVE)
    rig.wait(SETTLE_MS + STEP_MS)
    name = rig.mine(*FIVE)
    keys = rig.put(name)
    for key_ in keys:
        rig.there[key_] = set()
    assert rig.of(name) == (CARE_WHOLE, 0), "as far as known"
    rig.wait(REST_MS + STEP_MS)
    assert rig.of(name) == (CARE_DAMAGED, 3)


def test_one_that_stays_damaged_does_not_keep_others_from_being_looked_at() -> None:
    rig = Rig(*FIVE)
    name = rig.mine(*FIVE)
    for key_ in rig.put(name):
        rig.there[key_] = set()
    rig.wait(SETTLE_MS + 10 * AGAIN_MS)
    other = rig.mine(*FIVE, after=int(name[5:]) + 1)
    rig.there[rig.put(other)[0]].pop()
    rig.wait(REST_MS)
    assert rig.care.counts() == (1, 1, True)


def test_a_walk_that_is_due_while_a_name_is_looked_at_waits_for_it() -> None:
    rig = Rig(*FIVE)
    name = rig.mine(*FIVE)
    for key_ in rig.put(name):
        rig.there[key_] = set()
    rig.silent.update(FIVE)  # so most of the time one is being looked at
    asked = -ANSWER_MS
    while rig.now < SETTLE_MS + 20 * REST_MS:
        due = rig.care.next_deadline()
        assert due is not None
        rig.now = due
        if rig.do(io.TimePassed()):
            assert rig.now >= asked + ANSWER_MS, "asked twice at once"
            asked = rig.now
    rig.silent.clear()
    rig.asks.clear()
    rig.wait(2 * ANSWER_MS + 2 * AGAIN_MS)
    assert rig.of(name) == (CARE_DAMAGED, 3)


# ---- versions, and names that go ----


def test_a_finding_is_of_one_version() -> None:
    rig = Rig(*FIVE)
    name = rig.mine(*FIVE)
    rig.there[rig.put(name, chunks=1)[0]].pop()
    rig.wait(SETTLE_MS + STEP_MS)
    assert rig.of(name) == (CARE_AT_RISK, 1)
    rig.merge(name, Manifest(1, data=b"x"), at=6)
    assert rig.of(name) == (CARE_WHOLE, 0)
    rig.wait(AGAIN_MS + STEP_MS)
    assert rig.care.counts() == (0, 0, True)


def test_a_name_that_is_removed_is_no_damage() -> None:
    rig = Rig(*FIVE)
    name = rig.mine(*FIVE)
    rig.there[rig.put(name, chunks=1)[0]].clear()
    rig.wait(SETTLE_MS + STEP_MS)
    assert rig.care.counts() == (0, 1, True)
    rig.merge(name, None, at=6)
    rig.wait(AGAIN_MS + STEP_MS)
    assert rig.care.counts() == (0, 0, True)


def test_a_name_that_is_forgotten_here_is_no_damage() -> None:
    rig = Rig(*FIVE)
    name = rig.mine(*FIVE)
    rig.there[rig.put(name, chunks=1)[0]].clear()
    rig.wait(SETTLE_MS + STEP_MS)
    known = rig.names.known(digest_of(name))
    assert known is not None
    rig.names.forget((digest_of(name), known[0], known[1]))
    rig.wait(AGAIN_MS + STEP_MS)
    assert rig.care.counts() == (0, 0, True)


# ---- members that change in the middle ----


def test_members_that_change_begin_it_anew() -> None:
    rig = Rig(*FIVE)
    name = rig.mine(*FIVE)
    keys = rig.put(name, chunks=STEP_KEYS + 1)
    rig.now += SETTLE_MS
    asks = rig.do(io.TimePassed())
    rig.answer(asks[0])
    rig.members(1, 2, 3, 4)
    assert rig.care.counts() == (0, 0, False)
    for ask in asks[1:]:
        assert rig.answer(ask) == [], "an answer to what was asked before"
    rig.asks.clear()
    assert rig.wait(SETTLE_MS - 1) == []
    assert keys_of(rig.wait(1)) == set(keys[:STEP_KEYS])


def test_between_two_steps_they_begin_it_anew() -> None:
    rig = Rig(*FIVE)
    rig.put(rig.mine(*FIVE), chunks=STEP_KEYS + 1)
    rig.wait(SETTLE_MS)
    rig.members(*FIVE)
    assert rig.wait(SETTLE_MS - 1) == [], "not even the keys that were next"
    assert rig.wait(1) != []


def test_a_name_that_another_looks_after_now_is_dropped() -> None:
    rig = Rig(1, 2, 3)
    name = rig.mine(1, 2, 3)
    number = int(name[5:])
    while rig.mine(1, 2, 3, after=number) == rig.mine(*FIVE, after=number):
        number = int(rig.mine(1, 2, 3, after=number)[5:]) + 1
    name = rig.mine(1, 2, 3, after=number)
    rig.there[rig.put(name, chunks=1)[0]].clear()
    rig.wait(SETTLE_MS + STEP_MS)
    assert rig.care.counts() == (0, 1, True)
    rig.members(*FIVE)
    rig.wait(SETTLE_MS + STEP_MS)
    assert rig.care.counts() == (0, 0, True)
    assert rig.of(name) == (CARE_WHOLE, 0), "as far as this node is asked"


def test_what_was_lost_with_a_member_is_seen() -> None:
    rig = Rig(*FIVE)
    name = rig.mine(*FIVE)
    keys = rig.put(name, chunks=8)
    rig.wait(SETTLE_MS + STEP_MS)
    assert rig.care.counts() == (0, 0, True)
    dead = next(id for id in FIVE[1:] if any(id in rig.there[k] for k in keys))
    lost = sum(dead in rig.there[k] for k in keys)
    for k in keys:
        rig.there[k].discard(dead)
    rig.members(*[id for id in FIVE if id != dead])
    rig.wait(SETTLE_MS + STEP_MS)
    assert rig.of(name) == (CARE_AT_RISK, lost)
