"""What is put in a simulated mesh: files of a few bytes, their chunks, and who wrote what when.

Owns: a node's stores of chunks, with their bytes, and of names; a Reed-Solomon code as plain as can
be; and the book of all writes, against which every read is held. Refuses to know: nodes, links,
policies.

How: a chunk has a few bytes, which are hashed and sent like any others, and counts in a budget as
CHARGE_BYTES. Contents of two writes differ, but for chunks that some share on purpose.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from velum.policy.filetypes import (
    BAD,
    BUSY,
    FULL,
    HAVE,
    SEND,
    Coding,
    Digest,
    Entry,
    Key,
    Manifest,
)
from velum.policy.holdings_io import Checked
from velum.policy.hybridclock import Version
from velum.policy.names import Item, MemoryNames

CHARGE_BYTES: Final = 64 << 10  # of each chunk: 16 fill a MiB
SHARED: Final = 0.15  # of all chunks, those that other files have too


def key_of(data: bytes) -> bytes:
    """The hash of chunks and names, instead of BLAKE3."""
    return blake2b(data, digest_size=32).digest()


# ---- a node's chunks ----


class RamChunks:
    """A store as csrc/chunks.h has it."""

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.held: dict[Key, bytes] = {}
        self.reserved: dict[Key, tuple[int, int]] = {}  # size, sender
        self.on_drop: Callable[[Key], None] = lambda _: None

    def reserve(self, key: Key, size: int, sender: int) -> int:
        if key in self.held:
            return HAVE if len(self.held[key]) == size else BAD
        if key in self.reserved:
            return BUSY
        if self.free_bytes() < CHARGE_BYTES:
            return FULL
        self.reserved[key] = (size, sender)
        return SEND

    def arrive(self, key: Key, data: bytes, sender: int) -> bool | None:
        """A chunk has come: whether it is right; None if this sender is not to send it."""
        if self.reserved.get(key) != (len(data), sender):
            return None
        del self.reserved[key]
        if key_of(data) != key:
            return False
        self.held[key] = data
        return True

    def abandon(self, key: Key, sender: int) -> None:
        if key in self.reserved and self.reserved[key][1] == sender:
            del self.reserved[key]

    def abandon_all(self, sender: int) -> None:
        for key in list(self.reserved):
            self.abandon(key, sender)

    def drop(self, key: Key) -> None:
        del self.held[key]
        self.on_drop(key)

    def size(self, key: Key) -> int | None:
        data = self.held.get(key)
        return None if data is None else len(data)

    def free_bytes(self) -> int:
        return self.budget_bytes - CHARGE_BYTES * (len(self.held) + len(self.reserved))

    def verify(self, key: Key, bytes_max: int) -> Checked:
        data = self.held.get(key)
        if data is None:
            return Checked.GONE
        return Checked.RIGHT if key_of(data) == key else Checked.WRONG

    def flip(self, key: Key) -> None:
        """A bit of a chunk changes in RAM."""
        data = self.held[key]
        self.held[key] = bytes([data[0] ^ 1]) + data[1:]


class WatchedNames(MemoryNames):
    """A store of names that tells what it forgets."""

    on_forget: Callable[[Digest], None]

    def forget(self, item: Item) -> bool:
        gone = super().forget(item)
        if gone:
            self.on_forget(item[0])
        return gone


# ---- stripes ----


def _tables() -> tuple[list[int], list[int]]:
    powers, logs, value = [], [0] * 256, 1
    for exponent in range(255):
        powers.append(value)
        logs[value] = exponent
        value = value << 1 ^ (value >> 7) * 0x11D
    return powers * 2, logs


_POWERS, _LOGS = _tables()


def shard_of(have: Mapping[int, bytes], index: int) -> bytes:
    """Any shard of a stripe out of k others by their numbers: in GF(2**8) a stripe's shards are
    the values of one polynomial of degree k - 1 at 0, 1, 2, .."""
    if index in have:
        return have[index]
    out = bytearray(len(next(iter(have.values()))))
    for at, data in have.items():
        others = [other for other in have if other != at]
        weight = sum(_LOGS[index ^ other] - _LOGS[at ^ other] for other in others) % 255
        for place, byte in enumerate(data):
            if byte:
                out[place] ^= _POWERS[_LOGS[byte] + weight]
    return bytes(out)


def stripe_of(data: bytes, k: int, m: int) -> list[bytes]:
    """The k + m shards of a stripe's bytes, filled up with zeros."""
    size = -(-len(data) // k)
    whole = data.ljust(size * k, b"\0")
    shards = {place: whole[place * size : (place + 1) * size] for place in range(k)}
    return [shard_of(shards, index) for index in range(k + m)]


# ---- files ----


@dataclass(slots=True, eq=False)
class Write:
    """One put or removal, from its beginning."""

    number: int
    name: bytes
    content: bytes | None  # None: a removal
    coding: Coding
    chunk_bytes: int  # 0: the file lies in its entry
    begun_ms: int
    sent: list[Version] = field(default_factory=list)  # to any keeper, so some may have it
    kept: Version | None = None  # acknowledged
    kept_ms: int = 0
    sure: bool = True  # its program saw all members all the while
    ended: bool = False  # somebody was told how

    def units(self) -> list[list[bytes]]:
        """The chunks, or the shards of each stripe, in order."""
        content, (k, m) = self.content or b"", self.coding
        step = self.chunk_bytes * (k if m else 1)
        parts = [content[at : at + step] for at in range(0, len(content), step)]
        return [stripe_of(part, k, m) if m else [part] for part in parts]

    @property
    def digest(self) -> Digest:
        return key_of(self.name)


class Book:
    """All writes of a world, and what must be true of reads."""

    def __init__(self) -> None:
        self.writes: list[Write] = []
        self._versions: dict[tuple[bytes, Version], Write] = {}
        self._chunks: list[bytes] = []

    def draw(
        self,
        rng: random.Random,
        name: bytes,
        coding: Coding,
        chunk_bytes: int,
        chunks: int,
        now_ms: int,
    ) -> Write:
        """A new put of a file of about so many chunks, of random bytes."""
        content = bytearray()
        for _ in range(chunks):
            if self._chunks and rng.random() < SHARED:
                content += rng.choice(self._chunks)[:chunk_bytes]
            else:
                content += rng.randbytes(chunk_bytes)
                self._chunks.append(bytes(content[-chunk_bytes:]))
        if chunk_bytes:
            del content[len(content) - rng.randrange(chunk_bytes) :]
        else:
            content += rng.randbytes(rng.randint(0, 8))
        return self._add(name, bytes(content), coding, chunk_bytes, now_ms)

    def remove(self, name: bytes, now_ms: int) -> Write:
        """A new removal."""
        return self._add(name, None, Coding(), 0, now_ms)

    def _add(
        self, name: bytes, content: bytes | None, coding: Coding, chunk_bytes: int, now_ms: int
    ) -> Write:
        write = Write(len(self.writes), name, content, coding, chunk_bytes, now_ms)
        self.writes.append(write)
        return write

    def sent(self, write: Write, entry: Entry) -> None:
        """A keeper is sent a write's entry: it may become visible from now on."""
        assert entry.name == write.name and (entry.manifest is None) == (write.content is None)
        known = self._versions.setdefault((write.name, entry.version), write)
        assert known is write, "two writes under one version"
        if entry.version not in write.sent:
            write.sent.append(entry.version)

    def last_sent(self, name: bytes) -> Version | None:
        """The greatest version that any keeper was ever sent: those before it may go."""
        sent = (version for known, version in self._versions if known == name)
        return max(sent, default=None)

    def write_of(self, name: bytes, version: Version) -> Write:
        """Who made this version; it was made by somebody."""
        write = self._versions.get((name, version))
        assert write is not None, f"a version of {name!r} that nobody put: {version}"
        return write

    def check_entry(self, entry: Entry) -> None:
        """An entry that somebody gives for a name is what was put under its version."""
        write, manifest = self.write_of(entry.name, entry.version), entry.manifest
        assert (manifest is None) == (write.content is None), "a put for a removal"
        if manifest is not None and write.content is not None:
            assert manifest == manifest_of(write), "another manifest than was put"

    def check_order(self, write: Write) -> None:
        """A write that began when others had been acknowledged is later than they."""
        for other in self.writes:
            before = other.kept is not None and other.kept_ms < write.begun_ms
            if before and other.name == write.name and other.sure:
                assert write.kept and other.kept and write.kept > other.kept, (
                    f"write {write.number} is {write.kept}, and began after {other.number} was "
                    f"acknowledged as {other.kept}"
                )

    def check_read(self, name: bytes, version: Version, first: int, data: bytes) -> None:
        """Bytes that were given out are those of the version that they were given as."""
        content = self.write_of(name, version).content
        assert content is not None, "bytes of a file that was removed"
        assert content[first : first + len(data)] == data, f"wrong bytes of {name!r}"

    def names(self) -> list[bytes]:
        """All that anything was written to."""
        return sorted({write.name for write in self.writes})

    def check_last(self, name: bytes, version: Version | None) -> None:
        """A version may be the last one of a name, now that all has ended: no write that was
        acknowledged is later."""
        kept = [w.kept for w in self.writes if w.name == name and w.kept is not None]
        if version is not None:
            self.write_of(name, version)
        if kept:
            assert version is not None, f"{name!r} is lost, and was acknowledged"
            assert version >= max(kept), f"{name!r} is {version}, and {max(kept)} was acknowledged"


def manifest_of(write: Write) -> Manifest:
    """What a put's entry says."""
    assert write.content is not None
    if not write.chunk_bytes:
        return Manifest(len(write.content), coding=write.coding, data=write.content)
    keys: Sequence[Key] = [key_of(shard) for unit in write.units() for shard in unit]
    return Manifest(len(write.content), write.chunk_bytes, write.coding, tuple(keys))
