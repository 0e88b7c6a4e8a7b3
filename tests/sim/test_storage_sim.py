"""Files in whole simulated meshes under faults: what was acknowledged stays, what is over goes.

`simulate(seed)` draws nodes, files and trouble from its seed; the other tests let one thing happen
and say what it may cost. A failure prints the command that runs it again.
"""

from __future__ import annotations

import pytest

from velum.policy.filetypes import CARE_DAMAGED, Coding
from velum.policy.hybridclock import Version
from velum.sim.host import Status
from velum.sim.storage import Plan, World
from velum.sim.storage_cli import simulate
from velum.sim.storage_client import Client
from velum.sim.storage_files import CHARGE_BYTES, RamChunks, Write, key_of

SEEDS = 40
BATCH = 20
TWICE = Coding(2)
FOUR = (64,) * 4  # MiB that each of four nodes gives
CHUNKS_A_MIB = (1 << 20) // CHARGE_BYTES
SEEN_MS = 3_000
DECLARED_MS = 8_000  # from a stop until all hold the node for dead
WHOLE_MS = 20_000  # from a death until all copies are made again


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_any_trouble(first: int) -> None:
    for seed in range(first, first + BATCH):
        simulate(seed)


def standing(seed: int, budgets: tuple[int, ...] = FOUR, aborts: float = 0.0) -> World:
    """A mesh in which all see each other and nothing happens by itself."""
    world = World(seed, budgets, Plan([b"file"], [(TWICE, 8)], 0, aborts))
    world.wait_for("members", lambda: "" if world.agree() else "they do not agree", 10_000)
    return world


def client_of(world: World) -> Client:
    """A client that knows all nodes."""
    client = world.add_client()
    world.run(SEEN_MS)
    return client


def do(world: World, client: Client, write: Write) -> Write:
    """A put or a removal, to its end."""
    world.write(client.program, write)
    world.wait_for("a write", lambda: "" if write.ended else "it waits", 60_000)
    return write


def put(
    world: World, client: Client, name: bytes, coding: Coding = TWICE, chunks: int = 4
) -> Write:
    """Puts a file of so many chunks of 8 bytes, or fewer."""
    write = world.book.draw(world.rng, name, coding, 8, chunks, world.now_ms)
    return do(world, client, write)


def remove(world: World, client: Client, name: bytes) -> Write:
    return do(world, client, world.book.remove(name, world.now_ms))


def read(world: World, client: Client, name: bytes) -> tuple[str, Version | None]:
    """How a get ends; what it gave has been held against what was put."""
    told: list[tuple[str, Version | None]] = []
    client.program.read(name, lambda code, version: told.append((code, version)))
    world.wait_for("a read", lambda: "" if told else "it waits", 60_000)
    return told[0]


def whole(world: World) -> int:
    """Waits until all is where it belongs and the nodes say so; how long that took, in ms."""
    return world.wait_for("whole", lambda: world.observer.unsettled() or world.observer.lacks())


def held(world: World) -> int:
    """Chunks in all nodes together."""
    return sum(len(node.chunks.held) for node in world.observer.live())


# ---- nodes go and come ----


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_copies_are_made_again_after_a_death(seed: int, silent: bool) -> None:
    world = standing(seed, (64,) * 5)
    client = client_of(world)
    for number in range(20):
        assert put(world, client, b"%d" % number).kept
    world.crash(world.nodes[1 + seed], silent=silent)
    world.wait_for("a death", lambda: "" if world.agree() else "they do not agree", DECLARED_MS)
    assert whole(world) < WHOLE_MS
    world.finish()


@pytest.mark.parametrize("seed", range(5))
def test_two_of_six_die_under_4_and_2(seed: int) -> None:
    world = standing(seed, (64,) * 6)
    client = client_of(world)
    for number in range(8):
        assert put(world, client, b"%d" % number, Coding(4, 2), 9).kept
    for id in world.rng.sample(range(1, 7), 2):
        world.crash(world.nodes[id])
    for number in range(8):
        assert read(world, client, b"%d" % number)[0] == "", "before anything is rebuilt"
    world.finish()


@pytest.mark.parametrize("seed", range(5))
def test_who_joins_gets_its_share_and_nothing_else_moves(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = standing(seed)
    client = client_of(world)
    for number in range(30):
        put(world, client, b"%d" % number, chunks=8)
    whole(world)
    before = held(world)
    moved = []
    arrive = RamChunks.arrive
    monkeypatch.setattr(RamChunks, "arrive", lambda *a: (moved.append(a), arrive(*a))[1])
    node = world.join(64)
    world.run(SEEN_MS)
    whole(world)
    world.wait_for("surplus goes", world.observer.surplus)
    share = before / 5
    assert held(world) == before
    assert len(moved) == len(node.chunks.held), "a chunk moved between those who had been there"
    assert 0.6 * share < len(moved) < 1.4 * share


@pytest.mark.parametrize("seed", range(5))
def test_a_stopped_holder_delays_a_get_and_a_put_by_seconds(seed: int) -> None:
    world = standing(seed)
    client = client_of(world)
    put(world, client, b"before", chunks=8)
    world.pause(world.nodes[1 + seed % 4])
    begin_ms = world.now_ms
    assert read(world, client, b"before")[0] == ""
    assert put(world, client, b"after", chunks=8).kept
    assert world.now_ms - begin_ms < 30_000
    world.finish()


@pytest.mark.parametrize("seed", range(10))
def test_what_was_removed_does_not_come_back_with_a_node(seed: int) -> None:
    world = standing(seed)
    client = client_of(world)
    put(world, client, b"file")
    entry = world.observer.greatest(key_of(b"file"))
    assert entry is not None
    away = world.nodes[world.observer.placement().keepers(key_of(b"file"), entry.keepers)[seed % 3]]
    world.pause(away)
    world.run(DECLARED_MS)
    assert remove(world, client, b"file").kept
    world.run(600_000)
    world.resume(away)
    world.run(60_000)
    assert read(world, client, b"file")[0] == "NOT_FOUND"
    world.finish()
    assert held(world) == 0


# ---- versions ----


@pytest.mark.parametrize("seed", range(10))
def test_the_later_put_wins_whatever_the_clocks_say(seed: int) -> None:
    """Those of simulated processes are up to decades apart."""
    world = standing(seed)
    last = None
    for _ in range(6):
        last = put(world, client_of(world), b"file")
        assert last.kept
    assert last is not None and read(world, client_of(world), b"file") == ("", last.kept)
    world.finish()
    assert held(world) == 2 * len(set(map(key_of, (part for [part] in last.units()))))


@pytest.mark.parametrize("seed", range(10))
def test_halves_write_one_name_and_agree_on_one(seed: int) -> None:
    world = standing(seed, (64,) * 6)
    left, right = client_of(world), client_of(world)
    put(world, left, b"file")
    left.home, right.home = world.nodes[1], world.nodes[4]
    world.part([4, 5, 6, right.id])
    world.run(DECLARED_MS + SEEN_MS)
    writes = [put(world, client, b"file") for client in (left, right)]
    assert all(write.kept for write in writes)
    world.heal()
    world.run(60_000)
    assert read(world, left, b"file")[1] == max(w.kept for w in writes if w.kept)
    world.finish()


# ---- what cannot be ----


@pytest.mark.parametrize("seed", range(5))
def test_a_put_that_is_given_up_leaves_nothing(seed: int) -> None:
    world = standing(seed, aborts=1.0)
    client = client_of(world)
    writes = [put(world, client, b"file", chunks=10) for _ in range(5)]
    if not any(write.sent for write in writes):
        assert read(world, client, b"file")[0] == "NOT_FOUND"
    world.finish()
    assert bool(held(world)) == any(write.kept for write in writes)


@pytest.mark.parametrize("seed", range(5))
def test_a_putter_that_dies_leaves_nothing(seed: int) -> None:
    world = standing(seed)
    client = client_of(world)
    write = world.book.draw(world.rng, b"file", TWICE, 8, 10, world.now_ms)
    world.write(client.program, write)
    while held(world) < 4:
        world.run(5)
    world.crash_client(client)
    world.finish()
    assert write.kept is None and held(world) == 0


@pytest.mark.parametrize("seed", range(5))
def test_a_full_mesh_refuses_and_drops_nothing(seed: int) -> None:
    world = standing(seed, (1, 1, 1))
    client = client_of(world)
    kept = []
    for number in range(3 * CHUNKS_A_MIB // 2):
        write = put(world, client, b"%d" % number)
        if not write.kept:
            break
        kept.append(write)
    assert world.figures.ends["STORE_FULL"] == 1
    world.run(120_000)
    for write in kept:
        assert read(world, client, write.name) == ("", write.kept)
    for write in kept[::2]:
        assert remove(world, client, write.name).kept
    world.finish()


def test_losing_more_than_copies_allow_loses_those_files_and_says_so() -> None:
    world = standing(1)
    client = client_of(world)
    single = [put(world, client, b"single %d" % number, Coding(1)) for number in range(6)]
    double = [put(world, client, b"double %d" % number) for number in range(6)]
    lost = world.nodes[2]
    gone = set(lost.chunks.held)
    world.crash(lost)
    world.run(DECLARED_MS)
    world.wait_for("repair", lambda: "" if not any_at_risk(world) else "at risk")
    for write in double:
        assert read(world, client, write.name) == ("", write.kept)
    codes = {read(world, client, write.name)[0] for write in single if hit(write, gone)}
    assert codes == {"CHUNKS_LOST"}
    for write in single:
        if not hit(write, gone):
            assert read(world, client, write.name) == ("", write.kept)
            continue
        entry = world.observer.greatest(write.digest)
        assert entry is not None and world.observer.care(entry, right=False)[0] == CARE_DAMAGED
    world.finish_harshly()


def hit(write: Write, gone: set[bytes]) -> bool:
    """Whether a file had a chunk among these."""
    return any(key_of(part) in gone for unit in write.units() for part in unit)


def any_at_risk(world: World) -> bool:
    return any(node.holdings.figures().at_risk for node in world.running())


# ---- the simulator itself ----


def test_a_loss_is_noticed() -> None:
    """A node that drops what it should keep is what the observer is for."""
    world = standing(1)
    client = client_of(world)
    put(world, client, b"file", chunks=8)
    whole(world)
    world.run(2_000)
    holder = next(node for node in world.running() if node.chunks.held)
    assert holder.status is Status.UP
    with pytest.raises(AssertionError, match="are left of 2"):
        holder.chunks.drop(next(iter(holder.chunks.held)))
