"""The model of the merge rules by example, the store in C beside it, and a simulated node's clock.

VELUM_SEED draws the same records again; a failure shows it.
"""

from __future__ import annotations

from tests.integration.meshes import seeded
from tests.unit.kv_records import KEYS, some_records
from velum.policy.kvpull import LEVELS
from velum.policy.kvtalk import Stamp
from velum.sim.host import Status
from velum.sim.kv import World
from velum.sim.kv_core import CoreStore
from velum.sim.kv_store import KvStore, Model, Op, Record, Seen, look

ROUNDS = 300


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


def in_sums(store: KvStore) -> list[Record]:
    """What is found from the root's sums."""
    nodes = [0]
    for level in range(LEVELS):
        sums = {node: store.sums(level, node) for node in nodes}
        nodes = [
            len(sums[node]) * node + at for node in nodes for at, s in enumerate(sums[node]) if s
        ]
    return sorted(record for leaf in nodes for record in store.leaf(leaf))


def seen_by_core(store: CoreStore, key: str) -> tuple[object, int] | None:
    """What a key shows, by C's word, and until when; a value as `Seen` has it."""
    shown = store.core.look(key.encode())
    match shown:
        case bytes(value), _, until_ms:
            return value.decode(), until_ms
        case set(value), _, until_ms:
            return frozenset(element.decode() for element in value), until_ms
        case dict(value), _, until_ms:
            fields = sorted((name.decode(), text.decode()) for name, text in value.items())
            return tuple(fields), until_ms
        case None:
            return None
    return shown[0], shown[2]


def check_alike(core: CoreStore, model: Model) -> None:
    assert core.keys() == sorted(model.keys())
    assert core.tombstones() == model.tombstones()
    assert in_sums(core) == in_sums(model)
    for key in KEYS:
        assert sorted(core.records(key)) == sorted(model.records(key))
        seen = look(model.records(key))
        shown = None if seen.type == "none" else (seen.value, seen.until_ms)
        assert seen_by_core(core, key) == shown


def test_the_store_in_c_does_what_the_model_does() -> None:
    rng = seeded("as the model")
    for _ in range(ROUNDS):
        core, model = CoreStore(), Model()
        for mark, record in enumerate(some_records(rng, 60), 1):
            for store in (core, model):
                store.mark(mark // 4)
            assert core.merge(record) == model.merge(record), record
            if rng.random() < 0.2:
                settle_to = rng.randint(0, mark // 4)
                drop_to = rng.randint(0, mark // 4)
                core.tend(settle_to, drop_to)
                model.tend(settle_to, drop_to)
            check_alike(core, model)


def test_the_order_of_records_is_nothing_to_either() -> None:
    rng = seeded("in any order")
    for _ in range(ROUNDS):
        records = some_records(rng, 30)
        core, model = CoreStore(), Model()
        for record in rng.sample(records, len(records)):
            core.merge(record)
        for record in records * 2:
            model.merge(record)
        check_alike(core, model)
        core.tend(1, 0)
        model.tend(1, 0)
        check_alike(core, model)


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
