"""Placement: what it is for ever, that it is fair by budget, and that no change moves more than
it must."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from velum.policy.draws import Draws
from velum.policy.placement import Budget, Change, Ids, Key, Placement

IDS = st.integers(min_value=1, max_value=65535)
MESHES = st.dictionaries(IDS, st.integers(min_value=0, max_value=4096), min_size=1, max_size=8)
KEYS = st.binary(min_size=32, max_size=32)
LISTS = st.lists(KEYS, min_size=1, max_size=20, unique=True)
COPIES = st.integers(min_value=1, max_value=4)
SHARDS = st.integers(min_value=1, max_value=7)
Mesh = dict[int, int]  # MiB by id


def place(mesh: Mesh) -> Placement:
    return Placement([Budget(*item) for item in mesh.items()])


def keys(count: int, seed: int) -> list[Key]:
    rng = random.Random(seed)
    return [rng.randbytes(32) for _ in range(count)]


def chi_square(counts: Counter[Ids], shares: dict[Ids, float]) -> float:
    total = counts.total()
    return sum((counts[what] - total * p) ** 2 / (total * p) for what, p in shares.items())


def chi_square_max(cells: int) -> float:
    """What one honest seed in a million exceeds (Wilson and Hilferty 1931)."""
    freedom = cells - 1
    return freedom * (1 - 2 / (9 * freedom) + 4.75 * math.sqrt(2 / (9 * freedom))) ** 3


# A failure in the next two says: every file of every mesh would be placed anew.


def test_draws_are_those_of_splitmix64() -> None:
    published = (
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    )
    assert Draws((1, 2, 3, 4, 5)).of(1234567) == published
    assert Draws((5, 2)).of(1234567) == (published[4], published[1]), "a node's draw is its own"
    assert Draws((2,)).of(1234567, row=1) == Draws((65538,)).of(1234567), "rows continue the ids"
    assert Draws(()).of(7) == ()


GOLDEN_MESH = {1: 256, 2: 512, 3: 1024, 4: 0, 500: 512, 65535: 64}
GOLDEN: list[tuple[Key, Ids, Ids, Ids]] = [  # key, order, stripe of 7, keepers
    (
        bytes(32),
        (1, 2, 500, 3, 65535),
        (1, 500, 3, 2, 65535, 3, 2),
        (4, 1, 2, 65535, 500, 3),
    ),
    (
        b"\1" * 8 + bytes(24),
        (3, 2, 1, 500, 65535),
        (3, 2, 500, 1, 65535, 500, 2),
        (1, 3, 2, 4, 500, 65535),
    ),
    (
        b"\2" * 8 + bytes(24),
        (500, 3, 2, 1, 65535),
        (500, 3, 2, 1, 65535, 3, 2),
        (4, 500, 3, 2, 65535, 1),
    ),
    (
        bytes(range(32)),
        (3, 1, 2, 500, 65535),
        (3, 500, 2, 65535, 1, 500, 3),
        (1, 3, 2, 65535, 4, 500),
    ),
]


@pytest.mark.parametrize(("key", "order", "stripe", "keepers"), GOLDEN)
def test_placement_never_changes(key: Key, order: Ids, stripe: Ids, keepers: Ids) -> None:
    placement = place(GOLDEN_MESH)
    assert placement.order(key) == order
    assert placement.stripe(key, 7) == stripe
    assert placement.keepers(key, 6) == keepers


@given(MESHES, KEYS)
def test_scores_are_as_written(mesh: Mesh, key: Key) -> None:
    """The definition, one member at a time, against lanes of long integers."""

    def score(node: int) -> float:
        mask = 2**64 - 1
        z = (int.from_bytes(key[:8], "little") + node * 0x9E3779B97F4A7C15) & mask
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
        h = ((z ^ z >> 31) >> 11 | 1) / 2**53
        return -mesh[node] / math.log(h)

    giving = [node for node, mib in mesh.items() if mib]
    assert list(place(mesh).order(key)) == sorted(giving, key=score, reverse=True) or not giving


# Fairness


def test_each_holds_by_its_budget() -> None:
    mesh = {node: 64 << node % 4 for node in range(1, 17)}
    placement = place(mesh)
    shares: dict[Ids, float] = {(node,): mib / sum(mesh.values()) for node, mib in mesh.items()}
    many = keys(20_000, seed=1)
    rules: list[Callable[[Key], Ids]] = [
        lambda key: placement.holders(key, 1),
        lambda key: (placement.best(key),),
        lambda key: placement.stripe(key, 3)[:1],
    ]
    for rule in rules:
        assert chi_square(Counter(map(rule, many)), shares) < chi_square_max(16)


def test_the_second_is_chosen_as_if_the_first_were_not_there() -> None:
    mesh = {1: 100, 2: 200, 3: 300, 4: 400}
    placement = place(mesh)
    shares: dict[Ids, float] = {
        (a, b): mesh[a] / 1000 * mesh[b] / (1000 - mesh[a]) for a in mesh for b in mesh if a != b
    }
    many = keys(20_000, seed=2)
    for rule in (placement.holders, placement.stripe):
        assert chi_square(Counter(rule(key, 2) for key in many), shares) < chi_square_max(12)


def test_keepers_are_drawn_without_regard_to_budgets() -> None:
    placement = place({1: 0, 2: 1, 3: 64, 4: 4096})
    counts = Counter(placement.keepers(key, 1) for key in keys(20_000, seed=3))
    assert chi_square(counts, {(node,): 0.25 for node in (1, 2, 3, 4)}) < chi_square_max(4)


def test_a_joiner_takes_its_share() -> None:
    before = {node: 512 for node in range(1, 16)}
    after = before | {16: 512}
    old, new = place(before), place(after)
    many = keys(20_000, seed=4)
    placed = [(key, old.holders(key, 2)) for key in many]
    taken = len(Change(old, new).moved(placed, 2))
    mean = len(many) * 2 / 16
    assert abs(taken - mean) < 4.75 * math.sqrt(mean), "once in a million seeds"


# How many


@given(MESHES, KEYS, COPIES, SHARDS)
def test_all_differ_and_are_as_many_as_can_be(
    mesh: Mesh, key: Key, copies: int, shards: int
) -> None:
    placement = place(mesh)
    giving = {node for node, mib in mesh.items() if mib} or set(mesh)
    order = placement.order(key)
    assert len(order) == len(giving) and set(order) == giving
    assert placement.holders(key, copies) == order[:copies]
    assert placement.best(key) == order[0]
    assert len(placement.keepers(key, copies)) == min(copies, len(mesh))
    assert set(placement.keepers(key, len(mesh))) == set(mesh)
    stripe = placement.stripe(key, shards)
    assert len(stripe) == shards
    for first in range(0, shards, len(giving)):
        turn = stripe[first : first + len(giving)]
        assert len(set(turn)) == len(turn), "all have one before any has another"


def test_without_members_nothing_has_a_place() -> None:
    placement, key = Placement([]), bytes(32)
    assert placement.order(key) == placement.stripe(key, 3) == placement.keepers(key, 3) == ()
    joined = place({7: 512})
    assert Change(placement, joined).moved([(key, ())], 2) == {key: (7,)}
    assert Change(joined, placement).moved([(key, (7,))], 2) == {key: ()}
    assert Change(placement, joined).moved_stripes([(key, ())], 3) == {key: (7, 7, 7)}


def test_without_any_budget_all_weigh_the_same() -> None:
    nobody, equal = place({1: 0, 2: 0, 3: 0}), place({1: 1, 2: 1, 3: 1})
    for key in keys(50, seed=5):
        assert nobody.order(key) == equal.order(key)
        assert place({1: 0, 2: 0, 3: 9}).order(key) == (3,)


# Movement


@given(MESHES, LISTS, st.randoms(use_true_random=False))
def test_the_order_of_members_does_not_matter(
    mesh: Mesh, many: list[Key], rng: random.Random
) -> None:
    members = [Budget(*item) for item in mesh.items()]
    first = Placement(members)
    rng.shuffle(members)
    second = Placement(members)
    for key in many:
        assert first.order(key) == second.order(key)
        assert first.stripe(key, 5) == second.stripe(key, 5)
        assert first.keepers(key, 3) == second.keepers(key, 3)


@given(MESHES, IDS, st.integers(min_value=1, max_value=4096), LISTS, COPIES)
def test_nothing_moves_between_two_others(
    mesh: Mesh, node: int, mib: int, many: list[Key], copies: int
) -> None:
    """A join read forwards, a leave read backwards."""
    without = {other: budget for other, budget in mesh.items() if other != node}
    if not any(without.values()):
        return  # then all weigh the same, and nobody does once one gives
    old, new = place(without), place(without | {node: mib})
    for key in many:
        assert [n for n in new.order(key) if n != node] == list(old.order(key))
        left, right = old.holders(key, copies), new.holders(key, copies)
        assert set(right) <= {*left, node}
        assert len(set(left) - set(right)) <= 1
        if node not in right:
            assert left == right
        left, right = old.keepers(key, copies), new.keepers(key, copies)
        assert set(right) <= {*left, node} and (node in right or left == right)


@given(MESHES, IDS, st.tuples(*[st.integers(min_value=1, max_value=4096)] * 2), LISTS, COPIES)
def test_a_budget_that_grows_only_wins(
    mesh: Mesh, node: int, budgets: tuple[int, int], many: list[Key], copies: int
) -> None:
    """And one that shrinks only loses: the same read backwards."""
    small, large = place(mesh | {node: min(budgets)}), place(mesh | {node: max(budgets)})
    for key in many:
        left, right = small.order(key), large.order(key)
        assert [n for n in left if n != node] == [n for n in right if n != node]
        assert right.index(node) <= left.index(node)
        assert set(large.holders(key, copies)) <= {*small.holders(key, copies), node}
        assert small.keepers(key, copies) == large.keepers(key, copies)


@given(MESHES, IDS, st.integers(min_value=1, max_value=4096), LISTS, SHARDS)
def test_a_stripe_changes_one_member_at_most(
    mesh: Mesh, node: int, mib: int, many: list[Key], shards: int
) -> None:
    without = {other: budget for other, budget in mesh.items() if other != node and budget}
    if len(without) < shards:
        return
    old, new = place(without), place(without | {node: mib})
    for key in many:
        left, right = old.stripe(key, shards), new.stripe(key, shards)
        assert set(right) <= {*left, node}
        assert node in right or left == right


def test_few_shards_move_when_a_member_leaves() -> None:
    """Of 6 shards; by one order for the stripe it would be 3.5."""
    for members, bound in ((8, 1.75), (16, 1.3)):
        mesh = {node: 512 for node in range(1, members + 1)}
        old, new = place(mesh), place({node: 512 for node in mesh if node != 1})
        moved = []
        for key in keys(2_000, seed=6):
            left = old.stripe(key, 6)
            if 1 in left:
                pairs = zip(left, new.stripe(key, 6), strict=True)
                moved.append(sum(a != b for a, b in pairs))
        assert sum(moved) / len(moved) < bound


FEW = st.dictionaries(st.integers(min_value=1, max_value=9), st.integers(0, 4096), min_size=1)


@given(FEW, FEW, LISTS, COPIES, SHARDS)
def test_what_changes_is_what_differs(
    some: Mesh, others: Mesh, many: list[Key], copies: int, shards: int
) -> None:
    """Any number of joins, leaves and new budgets at once, from one mesh to another."""
    for before, after in ((some, others), (some, some | others), (some | others, some)):
        old, new = place(before), place(after)
        change = Change(old, new)
        placed = [(key, old.holders(key, copies)) for key in many]
        now = {key: new.holders(key, copies) for key in many}
        assert change.moved(placed, copies) == {k: now[k] for k, held in placed if held != now[k]}
        placed = [(key, old.stripe(key, shards)) for key in many]
        now = {key: new.stripe(key, shards) for key in many}
        assert change.moved_stripes(placed, shards) == {
            k: now[k] for k, held in placed if held != now[k]
        }
