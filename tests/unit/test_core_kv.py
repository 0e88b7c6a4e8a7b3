"""The binding of the key-value state: a store in memory, lines of a log, frames, checked logs."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from tests.unit.kv_records import KEYS, some_records
from velum import _core, frames, resp
from velum.errors import code_of
from velum.policy.kvtalk import NEVER, Stamp
from velum.sim.kv_core import raw
from velum.sim.kv_store import Op, Record

ROOM = 1 << 24
LEAVES = 1 << 16


def merged(records: list[Record]) -> _core.KvStore:
    store = _core.KvStore(ROOM)
    for record in records:
        store.merge(raw(record))
    return store


@pytest.mark.parametrize("seed", range(40))
def test_order_makes_no_difference(seed: int) -> None:
    rng = random.Random(seed)
    records = some_records(rng, 30)
    one = merged(records)
    other = merged(rng.sample(records, len(records)) + records)
    assert one.sums(0, 0) == other.sums(0, 0)
    assert sorted(one.records()) == sorted(other.records())
    for key in KEYS:
        assert one.look(key.encode()) == other.look(key.encode())


def test_a_key_is_looked_at() -> None:
    store = _core.KvStore(ROOM)
    assert store.look(b"k") is None
    assert store.merge((1, b"k", b"", b"[1]", True, (4, 1), (0, 0), False, 99, 0))
    assert not store.merge((1, b"k", b"", b"[1]", True, (4, 1), (0, 0), False, 99, 0))
    assert store.look(b"k") == ("[1]", (4, 1), 99)
    assert store.merge(raw(Record(Op.ADD, "s", Stamp(2, 1), part="a")))
    assert store.look(b"s") == ({b"a"}, (2, 1), 0)
    assert store.merge(raw(Record(Op.FIELD, "h", Stamp(2, 1), part="f", value="v")))
    assert store.look(b"h") == ({b"f": b"v"}, (2, 1), 0)
    assert store.merge(raw(Record(Op.COUNT, "n", Stamp(2, 1), of=Stamp(2, 1), fresh=True, sum=-3)))
    assert store.look(b"n") == (-3, (2, 1), 0)
    assert store.figures()["keys"] == 4


def test_sums_lead_to_leaves() -> None:
    store = merged([Record(Op.SET, "k", Stamp(2, 1), value="v")])
    index = 0
    for level in range(_core.KV_LEVELS):
        sums = store.sums(level, index)
        assert len(sums) == _core.KV_FANOUT
        (child,) = [at for at, sum in enumerate(sums) if sum]
        index = index * _core.KV_FANOUT + child
    assert index < LEAVES
    (record,) = store.leaf(index)
    assert record == raw(Record(Op.SET, "k", Stamp(2, 1), value="v"))
    for level, place in ((4, 0), (0, 1), (3, LEAVES)):
        with pytest.raises(_core.CoreError):
            store.sums(level, place)
    with pytest.raises(_core.CoreError):
        store.leaf(LEAVES)


def test_tombstones_are_settled_then_dropped() -> None:
    store = _core.KvStore(ROOM)
    store.mark(2)
    store.merge(raw(Record(Op.DEL, "k", Stamp(2, 1))))
    assert store.tend(10, 1, 1) == (0, 0, False)
    assert any(store.sums(0, 0))
    assert store.tend(10, 2, 1) == (1, 0, False)
    assert not any(store.sums(0, 0)) and len(store.records()) == 1
    assert not store.merge(raw(Record(Op.SET, "k", Stamp(2, 1), value="v"))), "it guards"
    assert store.tend(10, 2, 2)[1] == 1 and store.records() == []


def test_a_store_that_is_full_says_so() -> None:
    store = _core.KvStore(100_000)
    with pytest.raises(_core.CoreError) as caught:
        for number in range(1000):
            store.merge(raw(Record(Op.SET, f"k{number}", Stamp(2, 1), value="v" * 1000)))
    assert caught.value.code == code_of("STATE_FULL")


# ---- lines ----


@pytest.mark.parametrize("seed", range(10))
def test_records_are_lines(seed: int) -> None:
    for record in some_records(random.Random(seed), 30):
        line = _core.encode_kv_record(raw(record))
        assert line.endswith(b"\n") and _core.decode_kv_record(line) == raw(record)
        for wrong in (line[:-1], line + b"\n", line.replace(b"#", b"# "), b"", b"k=v\n"):
            with pytest.raises(_core.CoreError):
                _core.decode_kv_record(wrong)


def test_what_is_no_record_is_no_line() -> None:
    for wrong in (
        Record(Op.SET, "", Stamp(2, 1)),
        Record(Op.SET, "k", NEVER),
        Record(Op.SET, "k" * 1025, Stamp(2, 1)),
    ):
        with pytest.raises(_core.CoreError):
            _core.encode_kv_record(raw(wrong))


# ---- logs that are checked ----


def test_a_log_is_checked(tmp_path: Path) -> None:
    lines = [
        _core.encode_kv_record(raw(Record(Op.SET, f"k{n}", Stamp(2 * n, 1), value=f"{n}")))
        for n in range(1, 6)
    ]
    lines.append(_core.encode_kv_record(raw(Record(Op.DEL, "k1", Stamp(20, 1)))))
    path = tmp_path / "a.log"
    path.write_bytes(b"".join(lines))
    whole = {
        "records": 6,
        "plain": 0,
        "keys": 4,
        "tombstones": 1,
        "bytes": path.stat().st_size,
        "compact_bytes": len(b"".join(lines[1:])),
        "torn_bytes": 0,
        "damaged_lines": 0,
        "damaged_bytes": 0,
        "damaged": [],
    }
    assert _core.kv_check(str(path)) == whole
    at, size = len(lines[0]), len(lines[1])
    broken = bytearray(b"".join(lines))
    broken[at + 3] ^= 1
    path.write_bytes(bytes(broken) + b"k9=torn\t@00")
    assert _core.kv_check(str(path)) == {
        **whole,
        "records": 5,
        "keys": 3,
        "bytes": path.stat().st_size,
        "compact_bytes": whole["compact_bytes"] - size,
        "torn_bytes": 11,
        "damaged_lines": 1,
        "damaged_bytes": size,
        "damaged": [(at, size)],
    }
    assert path.read_bytes() == bytes(broken) + b"k9=torn\t@00", "nothing was changed"
    path.write_bytes(b"a=1\nb=2\na=3\n")
    assert _core.kv_check(str(path)) == {
        **whole,
        "records": 3,
        "plain": 3,
        "keys": 2,
        "tombstones": 0,
        "bytes": 12,
        "compact_bytes": ANY,
    }
    with pytest.raises(_core.CoreError):
        _core.kv_check(str(tmp_path / "none"))


# ---- a node's, with a hub of its own ----


@pytest.fixture
def hub() -> Any:
    hub = _core.Hub(watches=8)
    yield hub
    hub.close()


def test_a_hub_has_one_state_and_ends_it(hub: _core.Hub) -> None:
    kv = hub.open_kv(1, ROOM, 1)
    with pytest.raises(_core.CoreError):
        hub.open_kv(1, ROOM, 1)
    assert kv.do(resp.request([b"SET", b"k", b"v"]), 1) == (b"+OK\r\n", 1, True)
    assert kv.do(resp.request([b"GET", b"k"]), 1) == (b"$1\r\nv\r\n", 0, True)
    for nothing in (b"", b"GET k\r\n", b"*1\r\n", resp.request([b"GET"]) + b"x"):
        with pytest.raises(_core.CoreError):
            kv.do(nothing, 1)
    hub.close()
    with pytest.raises(_core.CoreError) as caught:
        kv.figures()
    assert caught.value.code == code_of("CLOSED")


def test_a_write_that_waits_for_the_disk_is_told_of(hub: _core.Hub, tmp_path: Path) -> None:
    kv = hub.open_kv(1, ROOM, 2, str(tmp_path / "a.log"))
    reply, reached, whole = kv.do(resp.request([b"SET", b"k", b"v"]), 7, 3)
    assert reply == b"+OK\r\n"
    told = {} if not whole else {7: reached}
    kv.sync(8)
    for _ in range(100):
        hub.poll(50_000)
        while (done := kv.next()) is not None:
            told[done[0]] = done[1]
        if len(told) == 2:
            break
    assert told == {7: 3, 8: 3}
    assert (tmp_path / "a.log").read_bytes().startswith(b"k=v\t@")


def test_a_sync_without_a_log_is_told_of(hub: _core.Hub) -> None:
    kv = hub.open_kv(1, ROOM, 1)
    kv.sync(5)
    assert kv.next() == (5, 1) and kv.next() is None


def test_a_watch_of_this_program_is_told(hub: _core.Hub) -> None:
    kv = hub.open_kv(1, ROOM, 1)
    kv.watch(9, _core.KV_WATCH_STATE, b"a*")
    kv.do(resp.request([b"SET", b"ab", b"1"]), 1)
    kv.do(resp.request([b"SET", b"b", b"1"]), 1)
    told = b""
    for _ in range(10):
        hub.poll(0)
        while (news := kv.changes()) is not None:
            assert news[0] == 9
            told += news[1]
    events: Any = list(resp.replies(told))
    assert [e[:2] for e in events if e[0] != b"now"] in ([[b"state", b"ab"]], [[b"set", b"ab"]])
    kv.watch(9, _core.KV_WATCH_STOP, b"")
    kv.do(resp.request([b"SET", b"ac", b"1"]), 1)
    hub.poll(0)
    assert kv.changes() is None
    with pytest.raises(_core.CoreError):
        kv.watch(1, 0, b"x" * 1025)


def test_lines_are_taken_as_written_here_or_elsewhere(hub: _core.Hub) -> None:
    kv = hub.open_kv(7, ROOM, 1)
    first = kv.stamp()
    assert first[1] == 7 and kv.stamp() > first
    assert kv.version(b"k") == ((0, 0), (0, 0))
    kv.write(_core.encode_kv_record(raw(Record(Op.SET, "k", Stamp(*first), value="v"))))
    assert kv.version(b"k") == (first, first)
    later = Stamp(kv.stamp()[0], 9)
    kv.hear(_core.encode_kv_record(raw(Record(Op.DEL, "k", later))))
    assert kv.version(b"k") == ((0, 0), later)
    with pytest.raises(_core.CoreError) as caught:
        far = Stamp((1 << 63) - 2, 9)
        kv.hear(_core.encode_kv_record(raw(Record(Op.SET, "k", far, value="v"))))
    assert caught.value.code == code_of("VERSION_AHEAD")
    assert kv.sums(0, 0).count(0) == _core.KV_FANOUT - 1


# ---- frames ----


def test_frames_have_limits() -> None:
    assert frames.KV_DO == 0x60 and frames.KV_TALK == 0x6B
    assert _core.encode_kv_do(b"*0\r\n", 4, 7) == b"\4\7\0\0\0*0\r\n"
    assert _core.encode_kv_done(3, b"_\r\n") == b"\3_\r\n"
    assert _core.encode_kv_watch(1, b"a*") == b"\1\2\0a*"
    assert _core.encode_kv_ask(3, [2, 258]) == b"\3\2\0\2\0\0\0\2\1\0\0"
    assert _core.encode_kv_leaves([65535]) == b"\1\0\xff\xff\0\0"
    for make in (
        lambda: _core.encode_kv_do(b"x", 5),
        lambda: _core.encode_kv_do(b""),
        lambda: _core.encode_kv_done(5, b"_\r\n"),
        lambda: _core.encode_kv_watch(1, b"x" * 1025),
        lambda: _core.encode_kv_ask(4, [0]),
        lambda: _core.encode_kv_ask(0, []),
        lambda: _core.encode_kv_ask(3, [0] * (_core.KV_ASK_MAX + 1)),
        lambda: _core.encode_kv_leaves([0] * (_core.KV_LEAVES_MAX + 1)),
        lambda: _core.encode_kv_leaves([LEAVES]),
    ):
        with pytest.raises(_core.CoreError):
            make()
