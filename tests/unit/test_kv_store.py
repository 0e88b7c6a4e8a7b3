"""The model of the merge rules by example, and the clock of a simulated node."""

from __future__ import annotations

from velum.sim.host import Status
from velum.sim.kv import World
from velum.sim.kv_store import Model, Op, Record, Seen, Stamp, look


def at(time: int, node: int = 1) -> Stamp:
    return Stamp(2 * time, node)


def merged(*records: Record) -> Model:
    store = Model()
    for record in records:
        store.merge(record)
    return store


def shown(*records: Record) -> Seen:
    return look(merged(*records).records("k"))


SET = Record(Op.SET, "k", at(5), value="12")
DEL = Record(Op.DEL, "k", at(6))


def test_counts_add_to_the_base_that_they_name() -> None:
    one = Record(Op.COUNT, "k", at(6, 1), of=at(5), sum=3)
    two = Record(Op.COUNT, "k", at(7, 2), of=at(5), sum=-1)
    assert shown(SET, one, two).value == 14
    assert shown(SET, one, DEL._replace(stamp=at(8))).type == "none"
    assert shown(one).type == "none", "it waits for its base"


def test_fresh_counts_show_without_a_base_and_over_one_before_them() -> None:
    fresh = Record(Op.COUNT, "k", at(9), of=at(7), fresh=True, sum=2)
    assert shown(fresh).value == shown(fresh, DEL).value == shown(DEL, fresh).value == 2
    assert shown(fresh, DEL._replace(stamp=at(8))).type == "none"
    assert shown(fresh, SET).value == 14
    again = fresh._replace(of=at(9), sum=5)
    assert shown(fresh, again, fresh._replace(stamp=at(10), sum=3)).value == 8, "of two lives"


def test_an_addition_that_the_remover_has_not_seen_stays() -> None:
    add, other = (Record(Op.ADD, "k", at(5, node), part="x") for node in (1, 2))
    removal = Record(Op.REMOVE, "k", at(9, 2), part="x", of=at(5, 1))
    assert shown(add, removal).type == shown(removal, add).type == "none"
    assert shown(other, removal, add).value == frozenset("x")


def test_a_tombstone_is_settled_and_then_dropped_by_its_mark() -> None:
    store = merged(SET)
    store.mark(4)
    store.merge(DEL)
    before = store.sums(0, 0)
    store.tend(3, 9)
    assert store.sums(0, 0) == before and store.keys() == ["k"], "not settled: not dropped"
    store.tend(4, 3)
    assert not any(store.sums(0, 0)) and store.records("k") == [DEL]
    assert not store.merge(SET), "it guards"
    store.tend(4, 4)
    assert store.keys() == []


def test_a_time_of_expiry_of_nothing_goes_as_a_tombstone() -> None:
    expire = Record(Op.EXPIRE, "k", at(9), until_ms=7)
    store = merged(expire)
    store.tend(1, 0)
    assert not any(store.sums(0, 0))
    store.mark(2)
    store.merge(Record(Op.ADD, "k", at(3), part="x"))
    assert store.tombstones() == 0
    assert store.sums(0, 0) == merged(*store.records("k")).sums(0, 0), "in the sums again"


def test_a_stamp_that_a_crash_took_is_not_made_again() -> None:
    """The clock counts on behind another's, which is years ahead; some of it was not synced."""
    world = World(1, 2, skew_ms=0)
    world.nodes[2].skew_ms += 10**11
    world.run(1_000)
    world.nodes[2].set("ahead", "")
    world.run(100)
    node = world.nodes[1]
    node.set("kept", "")
    node.disk.sync()
    lost = {node.set(f"lost {number}", "").stamp for number in range(20)}
    node.end(Status.KILLED)
    del node.disk.log[node.disk.synced :]
    node.start()
    assert not lost & {node.set(f"again {number}", "").stamp for number in range(40)}
