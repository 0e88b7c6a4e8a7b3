"""The store of entries in C and the one in Python, held to the same answers; what both say of
merging, keepers and marks, held to what is written elsewhere."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import blake3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from velum import _core
from velum.policy import names
from velum.policy.catalog import KEEPERS_MAX
from velum.policy.filetypes import Coding, Entry, Manifest
from velum.policy.hybridclock import AHEAD_MS_MAX, COUNTER_BITS, TIME_MS_MAX, Version
from velum.policy.names import HELD, LATER, NAMES_FULL, START, TAKEN, VERSION_AHEAD, Names
from velum.policy.placement import Budget, Placement

CSRC = Path(__file__).parents[2] / "csrc"
ROOM = 1 << 30
LAST = b"\xff" * 32
UNIX_MS = 1_700_000_000_000
ME = 3
NAMES = [b"a", b"b/c", b"b/d", b"b", "\u00e9".encode(), b"x" * 4096] + [
    b"n%d" % n for n in range(20)
]
ID_MAX = 65535


def digest_of(data: bytes) -> bytes:
    return bytes(blake3.blake3(data).digest())


def in_python(room: int = ROOM) -> Names:
    return names.MemoryNames(ME, room, digest_of)


def in_c(room: int = ROOM) -> Names:
    return _core.Names(ME, room)


STORES = pytest.mark.parametrize("make", [in_python, in_c])

VERSIONS = st.builds(Version, st.integers(0, 3), st.integers(0, 2))
KEEPERS = st.sampled_from([3, 3, 3, 4, 5, KEEPERS_MAX])
KEYS = st.binary(min_size=32, max_size=32)
INLINES = st.binary(max_size=3).map(lambda data: Manifest(len(data), data=data))
CHUNKED = st.lists(KEYS, min_size=1, max_size=3).map(
    lambda keys: Manifest(len(keys) * 10 - 1, 10, Coding(2, 0), tuple(keys))
)
CODED = st.lists(KEYS, min_size=3, max_size=3).map(
    lambda keys: Manifest(17, 10, Coding(2, 1), tuple(keys))
)
MANIFESTS = st.one_of(st.none(), INLINES, CHUNKED, CODED)


def entries(name: st.SearchStrategy[bytes]) -> st.SearchStrategy[Entry]:
    return st.builds(Entry, name, VERSIONS, KEEPERS, MANIFESTS, st.just(0), st.just(()))


# ---- merging ----

X = entries(st.just(b"x"))


@given(X, X, X)
def test_merge_is_a_join(a: Entry, b: Entry, c: Entry) -> None:
    greater = names.greater
    assert greater(a, a) == a
    assert greater(a, b) == greater(b, a)
    assert greater(greater(a, b), c) == greater(a, greater(b, c))


@STORES
@given(st.permutations(range(5)), st.lists(X, min_size=5, max_size=5))
@settings(max_examples=50)
def test_any_order_of_arrival_ends_in_the_same(
    make: Any, order: list[int], offered: list[Entry]
) -> None:
    one, other = make(), make()
    for entry in offered:
        one.merge(entry, UNIX_MS, 0)
    for place in order:
        other.merge(offered[place], UNIX_MS, 0)
    best = offered[0]
    for entry in offered:
        best = names.greater(best, entry)
    digest = digest_of(b"x")
    assert one.get(digest) == other.get(digest) == best
    assert one.known(digest)[1] == other.known(digest)[1]


@STORES
def test_what_merge_says(make: Any) -> None:
    store, digest = make(), digest_of(b"x")
    old = Entry(b"x", Version(5, 1), 3, Manifest(1, data=b"m"))
    new = Entry(b"x", Version(6, 1), 3, None, 20)
    assert store.merge(old, UNIX_MS, 100) == (TAKEN, digest, 1, (5, 1))
    assert store.merge(old, UNIX_MS, 200) == (HELD, digest, 1, (5, 1))
    assert store.merge(new, UNIX_MS, 300) == (TAKEN, digest, 0, (6, 1))
    assert store.merge(old, UNIX_MS, 400) == (LATER, digest, 0, (6, 1))
    assert store.known(digest)[4] == 280
    assert store.get(digest) == new._replace(age_ms=0)
    assert store.figures()[5] == 6


@STORES
def test_a_version_too_far_ahead_is_refused_and_not_heard_of(make: Any) -> None:
    store, digest = make(), digest_of(b"x")
    for unix_ms, ms in ((UNIX_MS, UNIX_MS), (0, 0), (1 << 60, TIME_MS_MAX)):
        last = ms + AHEAD_MS_MAX << COUNTER_BITS | 0xFFFF
        far = Entry(b"x", Version(last + 1, 1), 3, None)
        assert store.merge(far, unix_ms, 0)[0] == -VERSION_AHEAD
        assert store.figures()[0] == store.figures()[5] == 0
        assert store.merge(far._replace(version=Version(last, 1)), unix_ms, 0)[0] == TAKEN
        assert store.figures()[5] == last
        assert store.merge(far, unix_ms, 0) == (-VERSION_AHEAD, digest, 0, (last, 1))
        store = make()


@STORES
def test_no_room(make: Any) -> None:
    store = make(0)
    one = Entry(b"a", Version(1, 1), 3, Manifest(4, data=b"1234"))
    assert store.merge(one, UNIX_MS, 0) == (-NAMES_FULL, digest_of(b"a"), 0, (0, 0))
    store.set_room(ROOM)
    store.merge(one, UNIX_MS, 0)
    store.merge(one._replace(name=b"b"), UNIX_MS, 0)
    used = store.figures()[3]
    store.set_room(used)
    longer = one._replace(version=Version(2, 1), manifest=Manifest(5, data=b"12345"))
    assert store.merge(longer, UNIX_MS, 0)[0] == -NAMES_FULL
    assert store.merge(longer._replace(version=Version(0, 1)), UNIX_MS, 0)[0] == LATER
    assert store.merge(one._replace(name=b"c"), UNIX_MS, 0)[0] == -NAMES_FULL
    store.set_room(1)
    grave = Entry(b"a", Version(2, 1), 3, None)
    assert store.merge(grave, UNIX_MS, 0)[0] == TAKEN, "a delete always has room"
    assert store.merge(longer._replace(version=Version(3, 1)), UNIX_MS, 0)[0] == -NAMES_FULL
    assert store.figures()[0] == 2 and store.figures()[3] == used - 4


# ---- pages ----


@STORES
def test_names_are_listed_in_order_by_pages(make: Any) -> None:
    store = make()
    for name in (b"d/b", b"c", b"d/a", b"d", b"e"):
        store.merge(Entry(name, Version(4, 1), 3, Manifest(4, data=b"1234")), UNIX_MS, 0)
    store.merge(Entry(b"c", Version(5, 1), 3, None), UNIX_MS, 0)

    def page(*args: Any) -> tuple[list[bytes], bool]:
        rows, more = store.page(*args)
        return [row[0] for row in rows], more

    rows, more = store.page(b"", b"", 2)
    assert more and rows[0] == (b"c", (5, 1), 0, 0, digest_of(b"c")), "a tombstone too"
    assert rows[1] == (b"d", (4, 1), 1, 4, digest_of(b"d"))
    assert page(b"", b"d", 3) == ([b"d/a", b"d/b", b"e"], False)
    assert page(b"d/", b"", 100) == ([b"d/a", b"d/b"], False)
    assert page(b"d/", b"d/a", 100) == ([b"d/b"], False)
    assert page(b"d/", b"a", 1) == ([b"d/a"], True)
    assert page(b"d/", b"d/b", 100) == ([], False)


# ---- keepers, marks ----


@STORES
def test_keepers_are_those_of_placement(make: Any) -> None:
    rng = random.Random(4)
    store = make()
    for count in (1, 2, 3, 7, 40):
        ids = sorted(rng.sample(range(1, ID_MAX + 1), count))
        store.set_members(ids)
        placement = Placement([Budget(id, 0) for id in ids])
        for _ in range(50):
            digest = rng.randbytes(32)
            for keepers in (0, 1, 3, KEEPERS_MAX, 255):
                assert store.keepers(digest, keepers) == placement.keepers(digest, keepers)


@STORES
def test_marks(make: Any) -> None:
    """The vectors of ``csrc/test/test_names.c``."""
    store = make()
    store.merge(Entry(b"a", Version(5 << 16, 9), 3, Manifest(2, data=b"hi")), UNIX_MS, 0)
    assert store.known(digest_of(b"a"))[1] == 0xD709A9212F3A3B03
    store = make()
    store.merge(Entry(b"a", Version(5 << 16, 9), 34, None), UNIX_MS, 0)
    assert store.known(digest_of(b"a"))[1] == 0xF6A496A760817222


@STORES
@given(st.lists(X, min_size=2, max_size=8))
@settings(max_examples=50)
def test_marks_tell_entries_apart_and_how_many_keepers(make: Any, offered: list[Entry]) -> None:
    marks = {}
    for entry in offered:
        store = make()
        store.merge(entry, UNIX_MS, 0)
        marks[entry] = store.known(digest_of(b"x"))[1]
        assert marks[entry] & 0xFF == entry.keepers
    assert len(set(marks.values())) == len(marks)


def test_numbers_as_in_the_headers() -> None:
    text = "".join((CSRC / f"include/{name}.h").read_text() for name in ("velum", "velum_opt"))
    assert f"NAMES_FULL, {NAMES_FULL}," in text and f"VERSION_AHEAD, {VERSION_AHEAD}," in text
    assert f"VELUM_NAMES_ENTRY_BYTES {names.ENTRY_BYTES}u" in text
    assert names.ENTRIES_MAX == 1024 * 1024 and "VELUM_NAMES_MAX (1024u * 1024u)" in text
    wire = (CSRC / "wire_store.h").read_text()
    assert re.search(rf"VELUM_KEEPERS_MAX +{KEEPERS_MAX}u", wire)


# ---- both at once ----


class Both(RuleBasedStateMachine):
    """The same calls on both; what either says is what the other says."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = in_python(), in_c()
        self.now = 0
        self.members = [ME]

    def both(self, method: str, *args: Any) -> Any:
        one = getattr(self.one, method)(*args)
        assert plain(one) == plain(getattr(self.other, method)(*args)), (method, args)
        return one

    @rule(
        entry=entries(st.sampled_from(NAMES)),
        age=st.integers(0, 2000),
        unix_ms=st.sampled_from([UNIX_MS, 0, 1 << 63]),
        far=st.sampled_from([0, 0, 0, AHEAD_MS_MAX << COUNTER_BITS]),
    )
    def merge(self, entry: Entry, age: int, unix_ms: int, far: int) -> None:
        version = entry.version._replace(stamp=entry.version.stamp + far)
        if entry.manifest is None:
            entry = entry._replace(age_ms=age, awaited=(1, 9))
        self.both("merge", entry._replace(version=version), unix_ms, self.now)

    @rule(ids=st.sets(st.sampled_from([1, 2, 4, 5, 6, 500, ID_MAX]), max_size=6))
    def set_members(self, ids: set[int]) -> None:
        self.members = sorted({*ids, ME})
        self.both("set_members", self.members)

    @rule(
        data=st.data(),
        look_max=st.sampled_from([0, 1, 3, 1000]),
        room=st.sampled_from([0, KEEPERS_MAX, 1000]),
    )
    def scan(self, data: st.DataObject, look_max: int, room: int) -> None:
        others = [node for node in self.members if node != ME]
        anew = sorted(data.draw(st.sets(st.sampled_from(others)))) if others else []
        after = START
        for _ in range(100):
            _, reached = self.both("scan", after, anew, look_max, room)
            if reached is None or reached == after:
                break
            after = reached

    @rule(after=st.one_of(st.just(START), KEYS), look_max=st.sampled_from([0, 2, 1000]))
    def walk(self, after: bytes, look_max: int) -> None:
        for limit in (0, 1, 2, 1000):
            self.both("formers", after, look_max, limit)
            for until in (-1000, self.now - 1000, self.now):
                self.both("graves", after, until, look_max, limit)

    @rule(
        after=st.one_of(st.just(START), KEYS),
        end=st.one_of(st.just(LAST), KEYS),
        look_max=st.sampled_from([0, 3, 1000]),
    )
    def share(self, after: bytes, end: bytes, look_max: int) -> None:
        for node in (*self.members, 7):
            if node != ME:
                for limit in (0, 2, 1000):
                    self.both("shared", node, after, end, look_max, limit)

    @rule(name=st.sampled_from(NAMES), off=st.sampled_from([0, 0, 1 << 8]))
    def forget(self, name: bytes, off: int) -> None:
        known = self.one.known(digest_of(name))
        if known is not None:
            self.both("forget", (digest_of(name), known[0], known[1] ^ off))

    @rule(name=st.sampled_from(NAMES))
    def retire(self, name: bytes) -> None:
        self.both("retire", digest_of(name))

    @rule(
        prefix=st.sampled_from([b"", b"b", b"b/", b"n1", b"zz"]),
        after=st.sampled_from([b"", *NAMES]),
        limit=st.sampled_from([1, 2, 200]),
    )
    def page(self, prefix: bytes, after: bytes, limit: int) -> None:
        self.both("page", prefix, after, limit)

    @rule(short=st.sampled_from([0, 1, 300, 5000]))
    def set_room(self, short: int) -> None:
        used = self.one.figures()[3]
        self.both("set_room", ROOM if short == 0 else max(0, used + 1000 - short))

    @rule(ms=st.sampled_from([1, 1000]))
    def wait(self, ms: int) -> None:
        self.now += ms

    @invariant()
    def same(self) -> None:
        self.both("figures")
        after, count = START, 0
        while (step := self.both("next", after)) is not None:
            assert step[0] > after
            after, count = step[0], count + 1
            self.both("get", after)
            self.both("known", after)
        assert count == self.one.figures()[0]
        for node in (*self.both("sharing"), 7):
            self.both("sums", node)


def plain(value: Any) -> Any:
    """Lists and tuples as tuples, named or not."""
    if isinstance(value, (list, tuple)):
        return tuple(plain(part) for part in value)
    return value


TestBoth = Both.TestCase
TestBoth.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
