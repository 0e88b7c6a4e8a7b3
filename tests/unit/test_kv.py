"""`velum.kv` over a state of plain Python: values, keys, errors, and watches."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fake_kv import WRONG_TYPE, FakeState, fake_kv
from velum.errors import (
    CasConflict,
    KvRefused,
    NoQuorum,
    PeerLost,
    VelumError,
    WrongType,
    code_of,
    error_from,
)
from velum.kv import ARGS_MAX, Entry, Kv
from velum.kvvalues import key_bytes, key_text, sibling_bytes, sibling_of
from velum.kvwatch import WAITING_BYTES_MAX, Change, Watch


@pytest.fixture
def both() -> tuple[Kv, FakeState]:
    return fake_kv()


@pytest.fixture
def kv(both: tuple[Kv, FakeState]) -> Kv:
    return both[0]


@pytest.fixture
def state(both: tuple[Kv, FakeState]) -> FakeState:
    return both[1]


@contextmanager
def refused_as(name: str) -> Iterator[None]:
    with pytest.raises(VelumError) as caught:
        yield
    assert caught.value.name == name


# ---- values ----


@pytest.mark.parametrize(
    "value",
    [b"", b"\0\xff", b"12", "", "grün", 12, -1.5, True, None, [1, "a", None], {"x": [1.5, {}]}],
)
def test_a_value_comes_out_as_it_went_in(kv: Kv, value: Any) -> None:
    kv["key"] = value
    assert kv["key"] == value and type(kv["key"]) is type(value)
    entry = kv.entry("key")
    assert entry is not None and entry.type == ("bytes" if isinstance(value, bytes) else "json")


@pytest.mark.parametrize("value", [bytearray(b"ab"), memoryview(b"ab")])
def test_what_holds_bytes_is_bytes(kv: Kv, value: Any) -> None:
    kv["key"] = value
    assert kv["key"] == b"ab"


@pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}, {"a": b"bytes"}])
def test_what_json_cannot_say_is_refused(kv: Kv, state: FakeState, value: Any) -> None:
    with refused_as("ARGUMENT"):
        kv["key"] = value
    assert not state.asked


def test_json_of_a_stranger_may_be_none(kv: Kv, state: FakeState) -> None:
    state.keys[b"key"] = (b"json", b"{", 2)
    assert kv["key"] == b"{"


@given(st.text(min_size=1, max_size=200), st.binary(max_size=64))
def test_keys_are_text_of_any_kind(name: str, more: bytes) -> None:
    if any(0xD800 <= ord(char) < 0xE000 for char in name):
        return  # no UTF-8
    assert key_text(key_bytes(name)) == name
    raw = b"k" + more
    assert key_bytes(key_text(raw)) == raw


@pytest.mark.parametrize("key", ["", "k" * 1025, "ü" * 513, 7, b"bytes"])
def test_what_is_no_key_is_refused(kv: Kv, key: Any) -> None:
    with refused_as("ARGUMENT"):
        kv.get(key)


# ---- a mapping ----


def test_it_is_a_mapping(kv: Kv) -> None:
    kv["a"], kv["b"] = 1, b"2"
    assert "a" in kv and "c" not in kv and 7 not in kv
    assert len(kv) == 2 and sorted(kv) == ["a", "b"] == kv.keys()
    del kv["a"]
    assert kv.get("a") is None and kv.get("a", 5) == 5
    for missing in (lambda: kv["a"], lambda: kv.__delitem__("a")):
        with pytest.raises(KeyError):
            missing()


def test_all_keys_are_found_page_by_page_and_once(kv: Kv, state: FakeState) -> None:
    for number in range(9):
        kv[f"a/{number}"] = number
    kv["b"] = 0
    assert kv.keys("a/*") == [f"a/{number}" for number in range(9)]
    assert sum(args[0] == b"SCAN" for args, _, _ in state.asked) > 4


def test_delete_and_exists_take_many(kv: Kv, state: FakeState) -> None:
    names = [f"k{number}" for number in range(2 * ARGS_MAX + 1)]
    for name in names:
        kv[name] = b""
    state.asked.clear()
    assert kv.exists(*names) and not kv.exists("k0", "other")
    assert kv.delete(*names) == len(names) and kv.delete() == 0
    assert max(len(args) for args, _, _ in state.asked) <= ARGS_MAX + 1


# ---- put ----


def test_put_says_what_was_reached(kv: Kv, state: FakeState) -> None:
    state.reaches = "fsync"
    written = kv.put("key", b"v", durability="quorum", timeout=1.5)
    assert written.durability == "fsync"
    assert written.version == kv.entry("key").version  # type: ignore[union-attr]
    assert state.asked[0][1:] == ("quorum", 1.5)
    assert kv.put("key", b"v").durability == "fsync"
    with refused_as("ARGUMENT"):
        kv.put("key", b"v", durability="disk")


def test_other_writes_that_are_not_durable_in_time_are_uncertain(kv: Kv, state: FakeState) -> None:
    state.reaches = "ram"
    for write in (
        lambda: kv.incr("n", durability="fsync"),
        lambda: kv.sadd("s", "a", durability="log"),
        lambda: kv.hset("h", {"f": b"1"}, durability="quorum"),
        lambda: kv.delete("n", durability="fsync"),
    ):
        with refused_as("UNCERTAIN"):
            write()
    assert kv.sadd("s", "a", durability="fsync") == 0  # nothing was written
    assert kv.incr("n2", durability="ram") == 1


def test_a_key_expires(kv: Kv, state: FakeState) -> None:
    kv.put("key", b"v", ttl=1.5)
    assert kv.ttl("key") == 1.5
    state.now_ms += 500
    entry = kv.entry("key")
    assert entry == Entry("key", "bytes", b"v", "0000000000000002-7", 1.0)
    assert kv.persist("key") and not kv.persist("key")
    assert kv.ttl("key") is None
    assert kv.expire("key", 0.0001) and not kv.expire("other", 3)
    assert kv.ttl("key") == 0.001, "at least a millisecond"
    with pytest.raises(KeyError):
        kv.ttl("other")
    for nonsense in (0, -1, float("nan"), float("inf")):
        with refused_as("ARGUMENT"):
            kv.put("key", b"v", ttl=nonsense)


@pytest.mark.parametrize(
    "value", [b"", b"plain", b"\0", b"\0\0", b"\0json", "text", 7, None, {"a": 1}]
)
def test_siblings_are_values(kv: Kv, value: Any) -> None:
    assert sibling_of(sibling_bytes(value)) == value
    kv.put("key", value, siblings=True)
    assert kv.siblings("key") == [value] and kv.siblings("other") == []


def test_siblings_stand_side_by_side(kv: Kv, state: FakeState) -> None:
    state.keys[b"key"] = (b"set", {sibling_bytes("here"), sibling_bytes(b"there")}, 2)
    assert sorted(map(str, kv.siblings("key"))) == ["b'there'", "here"]
    kv.put("key", "both", siblings=True, ttl=3)
    assert kv.siblings("key") == ["both"] and kv.ttl("key") == 3


# ---- compare and set ----


def test_cas_writes_what_has_not_changed(kv: Kv, state: FakeState) -> None:
    first = kv.cas("key", None, "a")
    second = kv.cas("key", first, "b")
    assert kv["key"] == "b" and second != first
    with pytest.raises(CasConflict):
        kv.cas("key", first, "c")
    with pytest.raises(CasConflict):
        kv.cas("key", None, "c")
    assert kv["key"] == "b"


def test_cas_with_a_majority_asks_for_one(kv: Kv, state: FakeState) -> None:
    kv.cas("key", None, "a", quorum=True)
    assert state.asked[-1][1] == "quorum"
    state.refuses = "NOQUORUM too few members vote"
    with pytest.raises(NoQuorum, match="too few"):
        kv.cas("key", None, "a", quorum=True)


# ---- counters, sets, hashes ----


def test_counters_sets_and_hashes(kv: Kv) -> None:
    assert kv.incr("n") == 1 and kv.incr("n", 5) == 6 and kv.incr("n", -7) == -1
    assert kv["n"] == -1
    assert kv.sadd("s", "a", b"b") == 2 and kv.sadd("s", "a") == 0
    assert kv.smembers("s") == {b"a", b"b"} == kv["s"]
    assert kv.srem("s", "a", "c") == 1 and kv.smembers("none") == set()
    assert kv.hset("h", {"f": b"1", "g": "ü"}) == 2 and kv.hset("h", {"f": b"2"}) == 0
    assert kv.hgetall("h") == {"f": b"2", "g": "ü".encode()} == kv["h"]
    assert kv.hget("h", "f") == b"2" and kv.hget("h", "x") is None
    assert kv.hdel("h", "f", "x") == 1 and kv.hgetall("none") == {}


def test_parts_are_bytes_or_text(kv: Kv) -> None:
    with refused_as("ARGUMENT"):
        kv.sadd("s", 7)  # type: ignore[arg-type]


def test_many_fields_go_in_several_requests(kv: Kv, state: FakeState) -> None:
    fields = {f"f{number}": b"%d" % number for number in range(ARGS_MAX)}
    assert kv.hset("h", fields) == ARGS_MAX
    assert len(state.asked) == 2
    assert kv.hgetall("h") == fields


# ---- errors ----


@pytest.mark.parametrize(
    ("line", "kind", "name"),
    [
        (WRONG_TYPE, WrongType, "WRONG_TYPE"),
        ("OOM not written: no room for another key", KvRefused, "STATE_FULL"),
        ("MISCONF not written: the disk is full", KvRefused, "NO_SPACE"),
        ("ERR value is not an integer or out of range", VelumError, "ARGUMENT"),
        ("LOADING something new", VelumError, "ARGUMENT"),
    ],
)
def test_refusals_are_typed_errors(
    kv: Kv, state: FakeState, line: str, kind: type[VelumError], name: str
) -> None:
    state.refuses = line
    with pytest.raises(kind) as caught:
        kv.put("key", b"v")
    assert caught.value.name == name
    assert str(caught.value) == line.removeprefix("ERR ").removeprefix(
        line.partition(" ")[0] + " " if name != "ARGUMENT" else ""
    )


@pytest.mark.parametrize(
    "answer", [None, b"text", 7, [], [1, 2, 3], {b"a": 1}, [b"odd", 1, b"0", 0]]
)
def test_what_nobody_asked_for_is_an_error_of_velum(kv: Kv, state: FakeState, answer: Any) -> None:
    state.reply = lambda: answer
    calls: list[Any] = [kv.stat, kv.__len__, kv.keys, lambda: kv.smembers("k")]
    calls += [lambda: kv.hgetall("k"), lambda: kv.put("k", 1), lambda: kv.entry("k")]
    failures = 0
    for call in calls:
        try:
            call()
        except VelumError as error:
            assert error.name == "PAYLOAD"
            failures += 1
    assert failures >= 4


def test_forgetting_nobody_is_an_error(kv: Kv, state: FakeState) -> None:
    kv.forget(7)
    with refused_as("ARGUMENT"):
        kv.forget(100)
    assert state.forgotten == [7, 100]


def test_figures_are_plain(kv: Kv) -> None:
    kv["a"] = 1
    assert kv.stat()["keys"] == 1
    kv.compact()


# ---- watches ----


def change(event: str, key: str, kind: str, value: bytes, until_ms: int = 0) -> bytes:
    parts = [b"$%d\r\n%b\r\n" % (len(p), p) for p in (event.encode(), key.encode(), kind.encode())]
    return b"*6\r\n" + b"".join(parts) + value + b"$1\r\n1\r\n:%d\r\n" % until_ms


def test_a_watch_tells_of_every_kind_of_change(kv: Kv, state: FakeState) -> None:
    watch = kv.watch("a/*", state=False)
    assert state.watches[0][:2] == (b"a/*", False)
    watch.feed(
        change("state", "a/s", "set", b"*1\r\n$1\r\nx\r\n")
        + change("state", "a/h", "hash", b"%1\r\n$1\r\nf\r\n$1\r\n1\r\n")
        + change("state", "a/b", "bytes", b"_\r\n")
        + change("now", "", "none", b"_\r\n")
    )
    watch.feed(change("set", "a/k", "json", b"$3\r\n[1]\r\n", state.now_ms + 2500))
    watch.feed(
        change("count", "a/n", "counter", b":5\r\n")
        + change("add", "a/s", "set", b"$1\r\nx\r\n")
        + change("field", "a/h", "hash", b"*2\r\n$1\r\nf\r\n$1\r\n1\r\n")
        + change("unfield", "a/h", "hash", b"$1\r\nf\r\n")
        + change("expired", "a/k", "none", b"_\r\n")
        + change("missed", "", "none", b":9\r\n")
    )
    told = [watch.get(0) for _ in range(11)]
    assert [c and (c.event, c.key, c.value) for c in told] == [
        ("state", "a/s", {b"x"}),
        ("state", "a/h", {"f": b"1"}),
        ("state", "a/b", None),
        ("now", "", None),
        ("set", "a/k", [1]),
        ("count", "a/n", 5),
        ("add", "a/s", b"x"),
        ("field", "a/h", ("f", b"1")),
        ("unfield", "a/h", "f"),
        ("expired", "a/k", None),
        ("missed", "", 9),
    ]
    assert told[4] == Change("set", "a/k", "json", [1], "1", 2.5)
    assert watch.get(0) is None and watch.get(0.01) is None


def test_a_thread_waits_for_changes_until_the_watch_is_closed(kv: Kv) -> None:
    watch = kv.watch()
    seen: list[str] = []
    thread = threading.Thread(target=lambda: seen.extend(c.key for c in watch))
    thread.start()
    for number in range(20):
        watch.feed(change("del", str(number), "none", b"_\r\n"))
    end = time.monotonic() + 10
    while len(seen) < 20 and time.monotonic() < end:
        time.sleep(0.001)
    watch.close()
    thread.join(10)
    assert not thread.is_alive() and seen == [str(number) for number in range(20)]


def test_a_watch_is_an_async_iterator(kv: Kv, state: FakeState) -> None:
    watch = kv.watch()

    async def read() -> list[str]:
        keys = []
        async for told in watch:
            keys.append(told.key)
        return keys

    def feed() -> None:
        for number in range(5):
            time.sleep(0.002)
            watch.feed(change("del", str(number), "none", b"_\r\n"))
        while watch._payloads or watch._ready:
            time.sleep(0.001)
        watch.close()

    thread = threading.Thread(target=feed)
    thread.start()
    assert asyncio.run(asyncio.wait_for(read(), 10)) == [str(number) for number in range(5)]
    thread.join()
    assert state.stopped == [watch]


def test_a_watch_is_stopped_once(kv: Kv, state: FakeState) -> None:
    with kv.watch() as watch:
        watch.feed(change("del", "k", "none", b"_\r\n"))
    watch.close()
    assert state.stopped == [watch] and list(watch) == []


def test_what_ends_a_watch_is_raised_behind_what_came(kv: Kv) -> None:
    watch = kv.watch()
    watch.feed(change("del", "k", "none", b"_\r\n"))
    watch.end(error_from(code_of("CLOSED"), "gone"))
    watch.feed(change("del", "late", "none", b"_\r\n"))
    assert watch.get().key == "k"  # type: ignore[union-attr]
    with pytest.raises(PeerLost, match="gone"):
        watch.get()


def test_a_slow_reader_is_told_how_many_it_missed(kv: Kv) -> None:
    watch = kv.watch()
    large = change("set", "k", "bytes", b"$%d\r\n%b\r\n" % (1 << 20, bytes(1 << 20)))
    fits = WAITING_BYTES_MAX // len(large)
    for _ in range(fits + 3):
        watch.feed(large)
    watch.feed(large + change("missed", "", "none", b":40\r\n"))
    assert [watch.get(0).event for _ in range(fits)] == ["set"] * fits  # type: ignore[union-attr]
    missed = watch.get(0)
    assert missed is not None and (missed.event, missed.value) == ("missed", 44)
    watch.feed(change("del", "k", "none", b"_\r\n"))
    assert watch.get(0).event == "del"  # type: ignore[union-attr]
    assert watch.get(0) is None


def test_a_gap_of_unknown_size_is_told(kv: Kv) -> None:
    watch = kv.watch()
    watch.gap()
    missed = watch.get(0)
    assert missed is not None and (missed.event, missed.value) == ("missed", None)


@pytest.mark.parametrize("payload", [b"*5\r\n", b":1\r\n", b"*1\r\n:1\r\n", b"x"])
def test_changes_that_are_none_are_an_error_of_velum(payload: bytes) -> None:
    watch = Watch(lambda _: None, lambda: 0)
    watch.feed(payload)
    with refused_as("PAYLOAD"):
        watch.get(0)


def test_waiting_in_vain_leaves_nothing_behind(kv: Kv) -> None:
    watch = kv.watch()
    for _ in range(50):
        assert watch.get(0.0001) is None
    assert not watch._wakers
