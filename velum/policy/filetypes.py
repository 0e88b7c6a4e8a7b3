"""Files as plain data: what policies, services and faces say of claims, manifests and names.

Owns: the Python mirror of what ``csrc/wire_store.h`` says, with the same codes and ranges, and how
a file's length, chunk length and coding make its chunks. Refuses to know: bytes of frames, members.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final, NamedTuple

from .hybridclock import Version

Key = bytes  # BLAKE3 of a chunk's bytes, 32
Digest = bytes  # BLAKE3 of a name, 32

CHUNK_BYTES: Final = 1 << 20
CHUNK_BYTES_MAX: Final = 8 << 20
INLINE_BYTES_MAX: Final = 4096  # files up to this lie in their entry
NAME_BYTES_MAX: Final = 4096
COPIES: Final = 2
COPIES_MAX: Final = 16
SHARDS_MAX: Final = 32
KEYS_MAX: Final = 32_000  # of a manifest
KEEPERS_MIN: Final = 2
KEEPERS_ASKED: Final = 3  # of a name, by who does not know how many it has

# ``velum_held_state``
SEND: Final = 1
HAVE: Final = 2
KEPT: Final = 3
FULL: Final = 4
BUSY: Final = 5
BAD: Final = 6

# ``velum_offered``
OFFERED_HAVE: Final = 1
OFFERED_LACK: Final = 2
OFFERED_FULL: Final = 3
OFFERED_BUSY: Final = 4
OFFERED_SPARE: Final = 5

# ``velum_claimed``
FAST: Final = 1
OLD: Final = 2
UNKNOWN: Final = 3
PENDING: Final = 4

# VELUM_RELEASE_*
RELEASE_THIS: Final = 1
RELEASE_BEFORE: Final = 2

# ``velum_entry_kind``
TOMBSTONE: Final = 0
INLINE: Final = 1
MANIFEST: Final = 2

# VELUM_ASK_*
ASK_ENTRY: Final = 1
ASK_VERSION: Final = 2

# ``velum_named``
NAMED_KEPT: Final = 1
NAMED_LATER: Final = 2
NAMED_HERE: Final = 3
NAMED_NONE: Final = 4
NAMED_REPLACED: Final = 5

# ``velum_care``
CARE_UNKNOWN: Final = 0
CARE_WHOLE: Final = 1
CARE_AT_RISK: Final = 2
CARE_DAMAGED: Final = 3


class Copies(NamedTuple):
    """The place of a chunk that lies whole on the first members of its own order."""

    count: int  # type: ignore[assignment]  # 1..COPIES_MAX


class Shard(NamedTuple):
    """The place of a chunk that is one shard of a stripe."""

    k: int
    m: int
    index: int  # type: ignore[assignment]  # below k + m
    keys: tuple[Key, ...]  # of all k + m shards, data first

    @property
    def stripe(self) -> Key:
        """What places the stripe."""
        return stripe_key(self.keys[: self.k])


Place = Copies | Shard


class Claim(NamedTuple):
    """Why a node holds a chunk."""

    digest: Digest
    version: Version
    place: Place


class Coding(NamedTuple):
    """How a file is kept: m == 0: k copies of each chunk; else stripes of k + m shards."""

    k: int = COPIES
    m: int = 0

    @property
    def tolerance(self) -> int:
        """How many of a chunk's or stripe's holders may be lost."""
        return self.m or self.k - 1

    @property
    def keepers(self) -> int:
        """How many nodes keep the file's name."""
        return self.tolerance + 2


class Manifest(NamedTuple):
    """What a name stands for, but for a tombstone."""

    size: int
    chunk_bytes: int = 0  # 0: inline
    coding: Coding = Coding()
    keys: tuple[Key, ...] = ()  # in order; of a stripe k data keys, then m parity keys
    data: bytes = b""  # inline


class Entry(NamedTuple):
    """A name's entry as it travels."""

    name: bytes
    version: Version
    keepers: int
    manifest: Manifest | None  # None: a tombstone
    age_ms: int = 0
    awaited: tuple[int, ...] = ()


def entry_of(plain: tuple[Any, ...]) -> Entry:
    """An entry out of the plain tuples that the binding and stores of names give."""
    name, version, keepers, manifest, age_ms, awaited = plain
    if manifest is not None:
        size, chunk_bytes, coding, keys, data = manifest
        manifest = Manifest(size, chunk_bytes, Coding._make(coding), keys, data)
    return Entry(name, Version._make(version), keepers, manifest, age_ms, awaited)


def claim_of(plain: tuple[Any, ...]) -> Claim:
    """A claim out of such tuples."""
    digest, version, place = plain
    kind: type[Place] = Copies if len(place) == 1 else Shard
    return Claim(digest, Version._make(version), kind._make(place))


def stripe_key(data_keys: tuple[Key, ...]) -> Key:
    """What places a stripe: BLAKE2b-256 of its data keys."""
    return blake2b(b"".join(data_keys), digest_size=32).digest()


def stripes_of(size: int, chunk_bytes: int, k: int) -> int:
    """How many stripes a coded file has."""
    return -(-size // (chunk_bytes * k))


def shard_bytes(size: int, chunk_bytes: int, k: int, stripe: int) -> int:
    """How long each shard of a stripe is; of the last one fewer, filled up with zeros."""
    rest = size - stripe * chunk_bytes * k
    return min(chunk_bytes, -(-rest // k))


def chunk_size(size: int, chunk_bytes: int, index: int) -> int:
    """How long chunk number `index` of a file in copies is."""
    return min(chunk_bytes, size - index * chunk_bytes)
