"""The entries in a node's keeping, as its policies see them, and a store of them in plain Python.

Owns: what a store of entries has to offer (`Names`); which of two entries is the greater, what an
entry's mark is, and who keeps it, written a second time (`MemoryNames`). Refuses to know: links,
clocks, and when anything is compared, handed over or forgotten (`catalog.py`).

A node's store is ``csrc/names.c``, bound as ``velum._core.Names``: tens of thousands of small files
a second are merged there without Python. ``csrc/names.h`` says what all of it means. `MemoryNames`
is the simulator's and the tests', as plain as can be; a test holds both to the same answers. What a
store gives are plain tuples, in the order of `filetypes`.

A walk goes by digest, `after` one, from START; a step of it passes at most `look_max` entries and
returns the last digest that it passed, or None at the end. In between anything may change.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from .draws import Draws
from .filetypes import (
    INLINE,
    MANIFEST,
    TOMBSTONE,
    Coding,
    Digest,
    Entry,
    Manifest,
)
from .hybridclock import AHEAD_MS_MAX, COUNTER_BITS, TIME_MS_MAX, Version

START: Final = bytes(32)  # no name has this digest
BUCKETS: Final = 256

# What `merge` says; or a negative error.
TAKEN: Final = 1
HELD: Final = 2  # it is here already
LATER: Final = 3  # a greater one is
NAMES_FULL: Final = 98  # as in ``velum.h``
VERSION_AHEAD: Final = 99

# As in ``velum_opt.h``.
ENTRIES_MAX: Final = 1 << 20
ENTRY_BYTES: Final = 256  # what an entry counts as beside its payload

_FIXED_BYTES: Final = 12 + 1 + 1 + 8 + 8 + 1 + 2  # of a payload, but for name and body

# Plain tuples; a Version, an Entry are such.
Stamped = tuple[int, int]  # stamp, origin
PlainManifest = tuple[int, int, tuple[int, int], tuple[bytes, ...], bytes]
PlainEntry = tuple[bytes, Stamped, int, PlainManifest | None, int, tuple[int, ...]]
Item = tuple[Digest, Stamped, int]  # digest, version, mark: one entry in a listing
Known = tuple[Stamped, int, int, int, int]  # version, mark, kind, payload bytes, made at ms
Merged = tuple[int, Digest, int, Stamped]  # what; the name's digest, kind and version here
Row = tuple[bytes, Stamped, int, int, Digest]  # name, version, kind, size, digest
Grave = tuple[Item, int, int]  # a tombstone, made at, came at ms
Sums = tuple[Sequence[int], Sequence[int]]  # counts and marks of 256 buckets


class Names(Protocol):
    """A node's store of entries. Of a node alone at first."""

    def set_room(self, room_bytes: int) -> None: ...

    def set_members(self, ids: Sequence[int]) -> None:
        """The live full members, this node included, ascending. What is here is placed by them
        when `scan` comes by."""

    def keepers(self, digest: Digest, count: int) -> tuple[int, ...]:
        """Who keeps a name whose entry has `count` keepers, best first."""

    def figures(self) -> tuple[int, int, int, int, int, int, int]:
        """Entries, tombstones and formers among them, bytes, room, the greatest stamp merged; files
        whose first keeper this node is."""

    def merge(self, entry: PlainEntry, unix_ms: int, now_ms: int) -> Merged:
        """Keeps the greater of an entry and what is here; -VERSION_AHEAD or -NAMES_FULL change
        nothing, and tell what is here with zeros for nothing."""

    def get(self, digest: Digest) -> PlainEntry | None:
        """What a name stands for: of a tombstone without its age, and awaited by nobody."""

    def next(self, after: Digest) -> tuple[Digest, PlainEntry] | None:
        """The entry with the least digest above `after`."""

    def known(self, digest: Digest) -> Known | None:
        """About a name's entry."""

    def retire(self, digest: Digest) -> None:
        """A tombstone is not compared any more."""

    def forget(self, item: Item) -> bool:
        """Forgets exactly this entry, if it is here."""

    def page(self, prefix: bytes, after: bytes, limit: int) -> tuple[list[Row], bool]:
        """The first names with a prefix behind `after`, tombstones too; whether there are more."""

    def sharing(self) -> tuple[int, ...]:
        """The other nodes, ascending, that keep an entry that this node keeps, as last placed."""

    def sums(self, peer: int) -> Sums:
        """Over what this node and another keep, retired tombstones aside."""

    def shared(
        self, peer: int, after: Digest, end: Digest, look_max: int, limit: int
    ) -> tuple[list[Item], Digest | None]:
        """A step over what counts in these sums, up to `end`."""

    def scan(
        self, after: Digest, anew: Sequence[int], look_max: int, limit: int
    ) -> tuple[list[tuple[int, Digest]], Digest | None]:
        """A step over all entries, which are placed by the members as they are now. Of what this
        node keeps: (node, digest) for each other keeper that was none when it was last placed, or
        is among `anew` (ascending). `limit` is KEEPERS_MAX at least, or nothing may be passed."""

    def formers(self, after: Digest, look_max: int, limit: int) -> tuple[list[Item], Digest | None]:
        """A step over entries that this node does not keep, as last placed."""

    def graves(
        self, after: Digest, until_ms: int, look_max: int, limit: int
    ) -> tuple[list[Grave], int | None, Digest | None]:
        """A step over tombstones: those made at `until_ms` or before; when the eldest of the others
        that it passed was made."""


@dataclass(slots=True)
class _Held:
    """An entry kept here."""

    entry: Entry  # without age
    kind: int
    mark: int
    payload_bytes: int
    made: int
    came: int
    ids: tuple[int, ...]  # its keepers when it was last placed
    retired: bool = False

    def item(self, digest: Digest) -> Item:
        return digest, self.entry.version, self.mark


class MemoryNames:
    """A store in plain Python; `hash` (BLAKE3 at a node) gives 32 bytes."""

    def __init__(self, me: int, room_bytes: int, hash: Callable[[bytes], bytes]) -> None:
        self._me = me
        self._room = room_bytes
        self._hash = hash
        self._draws = Draws((me,))
        self._held: dict[Digest, _Held] = {}
        self._order: list[Digest] = []
        self._bytes = 0
        self._stamp_max = 0

    def set_room(self, room_bytes: int) -> None:
        self._room = room_bytes

    def set_members(self, ids: Sequence[int]) -> None:
        self._draws = Draws(tuple(ids))

    def keepers(self, digest: Digest, count: int) -> tuple[int, ...]:
        return tuple(self._draws.order(int.from_bytes(digest[:8], "little"))[:count])

    def figures(self) -> tuple[int, int, int, int, int, int, int]:
        held = self._held.values()
        tombstones = sum(one.kind == TOMBSTONE for one in held)
        formers = sum(self._is_former(one) for one in held)
        files = sum(one.kind != TOMBSTONE and one.ids[:1] == (self._me,) for one in held)
        return len(held), tombstones, formers, self._bytes, self._room, self._stamp_max, files

    # ---- entries ----

    def merge(self, entry: PlainEntry, unix_ms: int, now_ms: int) -> Merged:
        name, (stamp, origin), keepers, manifest, age_ms, _ = entry
        whole = None if manifest is None else _whole(manifest)
        new = Entry(name, Version(stamp, origin), keepers, whole)
        digest = self._hash(name)
        old = self._held.get(digest)
        time_ms = min(max(unix_ms, 0), TIME_MS_MAX)
        if stamp >> COUNTER_BITS > time_ms + AHEAD_MS_MAX:
            return self._merged(-VERSION_AHEAD, digest)
        what = TAKEN
        if old is not None:
            if _rank(new) <= _rank(old.entry):
                what = HELD if _rank(new) == _rank(old.entry) else LATER
            new = greater(old.entry, new)
        if what == TAKEN:
            size = _FIXED_BYTES + len(name) + len(body(whole))
            if not self._fits(size, old):
                return self._merged(-NAMES_FULL, digest)
            if old is not None:
                self._drop(digest)
            self._held[digest] = _Held(new, kind(whole), 0, size, now_ms - age_ms, now_ms, ())
            insort(self._order, digest)
            self._bytes += size + ENTRY_BYTES
        if old is None or old.entry != new:
            held = self._held[digest]
            held.entry, held.mark = new, self._mark(digest, new)
            held.ids = self.keepers(digest, new.keepers)
        self._stamp_max = max(self._stamp_max, stamp)
        return self._merged(what, digest)

    def _merged(self, what: int, digest: Digest) -> Merged:
        held = self._held.get(digest)
        if held is None:
            return what, digest, 0, Version(0, 0)
        return what, digest, held.kind, held.entry.version

    def _mark(self, digest: Digest, entry: Entry) -> int:
        manifest = entry.manifest
        numbers = entry.version.stamp.to_bytes(8, "little")
        numbers += entry.version.origin.to_bytes(4, "little")
        numbers += bytes([kind(manifest), entry.keepers])
        numbers += (0 if manifest is None else manifest.size).to_bytes(8, "little")
        hashed = self._hash(body(manifest) + digest + numbers)
        return int.from_bytes(hashed[:7], "little") << 8 | entry.keepers

    def _fits(self, size: int, old: _Held | None) -> bool:
        if old is not None:
            return size <= old.payload_bytes or (
                self._bytes + size - old.payload_bytes <= self._room
            )
        room = self._room - self._bytes
        return len(self._held) < ENTRIES_MAX and size + ENTRY_BYTES <= room

    def _drop(self, digest: Digest) -> None:
        self._bytes -= self._held.pop(digest).payload_bytes + ENTRY_BYTES
        del self._order[bisect_left(self._order, digest)]

    def get(self, digest: Digest) -> Entry | None:
        held = self._held.get(digest)
        return None if held is None else held.entry

    def next(self, after: Digest) -> tuple[Digest, Entry] | None:
        for digest, held in self._above(after):
            return digest, held.entry
        return None

    def known(self, digest: Digest) -> Known | None:
        held = self._held.get(digest)
        if held is None:
            return None
        return held.entry.version, held.mark, held.kind, held.payload_bytes, held.made

    def retire(self, digest: Digest) -> None:
        held = self._held.get(digest)
        if held is not None:
            held.retired = held.kind == TOMBSTONE

    def forget(self, item: Item) -> bool:
        held = self._held.get(item[0])
        if held is None or held.item(item[0]) != item:
            return False
        self._drop(item[0])
        return True

    def page(self, prefix: bytes, after: bytes, limit: int) -> tuple[list[Row], bool]:
        rows: list[Row] = []
        for digest, held in self._held.items():
            name, version, _, manifest, _, _ = held.entry
            if name.startswith(prefix) and name > after:
                size = 0 if manifest is None else manifest.size
                rows.append((name, version, held.kind, size, digest))
        rows.sort()
        return rows[:limit], len(rows) > limit

    # ---- walks ----

    def _above(self, after: Digest) -> Iterator[tuple[Digest, _Held]]:
        order = self._order
        for place in range(bisect_right(order, after), len(order)):
            yield order[place], self._held[order[place]]

    def _is_former(self, held: _Held) -> bool:
        return self._me not in held.ids

    def _is_shared(self, held: _Held, peer: int) -> bool:
        ids = held.ids
        return peer != self._me and self._me in ids and peer in ids and not held.retired

    def sharing(self) -> tuple[int, ...]:
        found: set[int] = set()
        for held in self._held.values():
            found.update(node for node in held.ids if self._is_shared(held, node))
        return tuple(sorted(found))

    def sums(self, peer: int) -> Sums:
        counts, marks = [0] * BUCKETS, [0] * BUCKETS
        for digest, held in self._held.items():
            if self._is_shared(held, peer):
                counts[digest[0]] += 1
                marks[digest[0]] ^= held.mark
        return counts, marks

    def shared(
        self, peer: int, after: Digest, end: Digest, look_max: int, limit: int
    ) -> tuple[list[Item], Digest | None]:
        items: list[Item] = []
        for digest, held in self._above(after):
            if digest > end:
                break
            if look_max == 0 or len(items) == limit:
                return items, after
            after = digest
            look_max -= 1
            if self._is_shared(held, peer):
                items.append(held.item(digest))
        return items, None

    def scan(
        self, after: Digest, anew: Sequence[int], look_max: int, limit: int
    ) -> tuple[list[tuple[int, Digest]], Digest | None]:
        pairs: list[tuple[int, Digest]] = []
        for digest, held in self._above(after):
            if look_max == 0 or limit - len(pairs) < held.entry.keepers:
                return pairs, after
            after = digest
            look_max -= 1
            before = set(held.ids).difference(anew)
            held.ids = self.keepers(digest, held.entry.keepers)
            if self._me in held.ids:
                before.add(self._me)
                pairs += [(node, digest) for node in held.ids if node not in before]
        return pairs, None

    def formers(self, after: Digest, look_max: int, limit: int) -> tuple[list[Item], Digest | None]:
        items: list[Item] = []
        for digest, held in self._above(after):
            if look_max == 0 or len(items) == limit:
                return items, after
            after = digest
            look_max -= 1
            if self._is_former(held):
                items.append(held.item(digest))
        return items, None

    def graves(
        self, after: Digest, until_ms: int, look_max: int, limit: int
    ) -> tuple[list[Grave], int | None, Digest | None]:
        graves: list[Grave] = []
        others: list[int] = []
        for digest, held in self._above(after):
            if look_max == 0 or len(graves) == limit:
                return graves, min(others, default=None), after
            after = digest
            look_max -= 1
            if held.kind == TOMBSTONE and held.made <= until_ms:
                graves.append((held.item(digest), held.made, held.came))
            elif held.kind == TOMBSTONE:
                others.append(held.made)
        return graves, min(others, default=None), None


def _whole(manifest: PlainManifest) -> Manifest:
    size, chunk_bytes, coding, keys, data = manifest
    return Manifest(size, chunk_bytes, Coding(*coding), keys, data)


def kind(manifest: Manifest | None) -> int:
    """A ``velum_entry_kind``."""
    if manifest is None:
        return TOMBSTONE
    return MANIFEST if manifest.chunk_bytes else INLINE


def body(manifest: Manifest | None) -> bytes:
    """An entry's body as it travels."""
    if manifest is None:
        return b""
    if not manifest.chunk_bytes:
        return manifest.data
    head = manifest.chunk_bytes.to_bytes(4, "little") + bytes(manifest.coding)
    return head + b"".join(manifest.keys)


def greater(one: Entry, other: Entry) -> Entry:
    """The merge of two entries of one name, a join: that of the greater rank, and the more keepers,
    so that what had more keepers once is replaced at all of them."""
    best = other if _rank(other) > _rank(one) else one
    return best._replace(keepers=max(one.keepers, other.keepers))


def _rank(entry: Entry) -> tuple[Version, int, int, bytes]:
    manifest = entry.manifest
    size = 0 if manifest is None else manifest.size
    return entry.version, kind(manifest), size, body(manifest)
