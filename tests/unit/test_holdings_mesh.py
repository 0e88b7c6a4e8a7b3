"""Several nodes' holdings together: joins, deaths, lost messages, bad chunks."""

from __future__ import annotations

from tests.unit.holdings_rig import MIB, Mesh, key_of
from velum.policy import holdings_io as io
from velum.policy.scrub import SCRUB_MS
from velum.policy.tending import PUTTING_MS


def test_a_join_moves_its_share_and_nothing_else() -> None:
    mesh = Mesh(1)
    mesh.validating = False
    mesh.start(*((id, 64) for id in range(1, 8)))
    keys = [key_of(n) for n in range(400)]
    assert mesh.put("f", 1, keys)
    mesh.run(10_000)
    mesh.start((8, 64))
    mesh.run(60_000)
    assert {to for _, to in mesh.moved} == {8}
    assert 50 <= sum(mesh.moved.values()) <= 150  # 2 / 8 of 400, within 5 standard deviations
    for key in keys:
        assert mesh.holders(key) == mesh.wanted(key, 2)


def test_a_death_is_repaired_at_once_by_many() -> None:
    mesh = Mesh(2)
    mesh.validating = False
    mesh.start(*((id, 64) for id in range(1, 8)))
    keys = [key_of(n) for n in range(400)]
    assert mesh.put("f", 1, keys)
    mesh.run(10_000)
    lost = sum(3 in mesh.holders(key) for key in keys)
    mesh.crash(3)
    mesh.run(5000)
    assert all(len(mesh.holders(key)) == 2 for key in keys)
    assert sum(mesh.moved.values()) == lost
    assert len({source for source, _ in mesh.moved}) == 6


def test_lost_shards_are_rebuilt_at_once() -> None:
    mesh = Mesh(7)
    mesh.start(*((id, 64) for id in range(1, 9)))
    keys = [key_of(n) for n in range(6)]
    assert mesh.put_stripe("f", 1, keys, 4, 2)
    mesh.run(10_000)
    at = mesh.shards(keys, 4, 2)
    mesh.crash(at[0], at[3])
    mesh.run(5000)
    assert all(mesh.holders(key) for key in keys)
    mesh.run(60_000)
    assert [mesh.holders(key) for key in keys] == [{id} for id in mesh.shards(keys, 4, 2)]


def test_budgets_are_kept_when_a_death_leaves_too_little_room() -> None:
    mesh = Mesh(3)
    mesh.start(*((id, 1) for id in range(1, 5)))
    keys = [key_of(n) for n in range(6)]
    assert mesh.put("f", 1, keys, size=MIB // 4)
    mesh.run(10_000)
    mesh.crash(2)
    mesh.crash(4)
    mesh.run(300_000)
    assert all(mesh.holders(key) for key in keys if mesh.holders(key))
    assert sum(node.holdings.figures().chunks for node in mesh.nodes.values()) <= 8
    mesh.start((5, 4))
    mesh.run(300_000)
    for key in keys:
        assert not mesh.holders(key) or mesh.holders(key) == mesh.wanted(key, 2)


def test_a_copy_lost_without_a_word_is_noticed_within_an_hour() -> None:
    mesh = Mesh(4)
    mesh.start((1, 8), (2, 8), (3, 8))
    keys = [key_of(n) for n in range(20)]
    assert mesh.put("f", 1, keys)
    mesh.run(10_000)
    victim = next(node for node in mesh.nodes.values() if node.chunks.held)
    key = next(iter(victim.chunks.held))
    others = mesh.holders(key) - {victim.id}
    slot = victim.holdings._tending._slots[key]
    victim.holdings._tending._drop(key, slot)
    mesh.run(SCRUB_MS)
    assert mesh.holders(key) == others | {victim.id}


def test_bad_chunks_are_made_good() -> None:
    mesh = Mesh(5, loss=0.1)
    mesh.start((1, 8), (2, 8), (3, 8))
    keys = [key_of(n) for n in range(20)]
    assert mesh.put("f", 1, keys)
    mesh.run(60_000)
    for key in keys:
        first = min(mesh.holders(key))
        mesh.nodes[first].chunks.bad.add(key)
    mesh.run(SCRUB_MS + 120_000)
    assert all(len(mesh.holders(key)) == 2 for key in keys)
    assert sum(node.holdings.figures().bad for node in mesh.nodes.values()) == 20


def test_a_put_that_goes_on_elsewhere_keeps_what_repair_has_copied() -> None:
    """One holder lost the putter's link, one has its copy from repair; another link is up."""
    mesh = Mesh(6)
    mesh.start((1, 8), (2, 8), (3, 8))
    key = key_of("long")
    assert mesh.put("f", 1, [key], commit=False)
    claim, links = mesh.open
    first, *rest = links
    for id in rest:
        mesh.do(id, io.LinkClosed(links[id]))
    mesh.run(PUTTING_MS * 3)
    mesh.start((4, 8), (5, 8))
    mesh.run(PUTTING_MS * 5)
    assert mesh.holders(key) == mesh.wanted(key, 2)
    mesh.do(first, io.LinkClosed(links[first]))
    mesh.run(PUTTING_MS * 5)
    assert not mesh.holders(key)
