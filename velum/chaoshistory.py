"""What a file of a chaos run may hold now, by what its clients were told.

Owns: the bytes that are put, who has put or removed what when, and which of it a reader may find.
Refuses to know clients and nodes (`velum.chaosfiles`).

A name is a register that many write and read at once (Lamport, "On interprocess communication",
1986: a regular one). A write has a begin and an end, by the clock of the one process in which all
clients of a run live, and one of three ends:

    it was acknowledged     it has happened between its begin and its end
    it ended in an error    it has happened since its begin, may yet happen, or never does
    it has not happened     a removal of what was not there, a put that was given up: forgotten

A read finds a write that began before the read ended, unless the write was over when another one
began that was acknowledged before the read began. So what was acknowledged is found from then on,
what was deleted does not return, and bytes that are no single write's are always wrong.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import blake2b
from typing import Final

BLOCK_BYTES: Final = 256 << 10  # of contents that files have in common: chunks of this size
BLOCKS: Final = 12  # different ones


@dataclass(frozen=True)
class Content:
    """What is put: `size` bytes that follow from `seed`. Those that are `common` are blocks that
    other files have too, so that chunks belong to several files."""

    seed: int
    size: int
    common: bool

    def data(self) -> bytes:
        """The bytes, made anew."""
        rng = random.Random(self.seed)
        if not self.common:
            return rng.randbytes(self.size)
        count = -(-self.size // BLOCK_BYTES)
        return b"".join(_block(rng.randrange(BLOCKS)) for _ in range(count))[: self.size]

    @cached_property
    def digest(self) -> bytes:
        """What tells it from others."""
        return digest_of(self.data())

    def __str__(self) -> str:
        return f"{self.size} {'common ' * self.common}bytes of seed {self.seed}"


@cache
def _block(number: int) -> bytes:
    return random.Random(f"block {number}").randbytes(BLOCK_BYTES)


def digest_of(data: bytes) -> bytes:
    """A hash that has nothing to do with those by which the mesh checks itself."""
    return blake2b(data, digest_size=16).digest()


@dataclass(eq=False)
class Write:
    """A put, or a removal: `content` is None."""

    content: Content | None
    began: float
    ended: float = math.inf
    acknowledged: bool = False

    def __str__(self) -> str:
        how = "acknowledged" if self.acknowledged else "uncertain"
        if self.ended == math.inf:
            how = "under way"
        what = "nothing" if self.content is None else str(self.content)
        return f"{what} ({how}, {self.began:.3f} to {self.ended:.3f})"


class History:
    """All writes of all names. Any thread."""

    def __init__(self, names: Collection[str]) -> None:
        """Of each of the names there is no file yet."""
        nothing = Write(None, -math.inf, -math.inf, acknowledged=True)
        self._writes: dict[str, list[Write]] = {name: [nothing] for name in names}
        self._lock = threading.Lock()

    def begin(self, name: str, content: Content | None, now: float) -> Write:
        """A put or a removal is about to begin."""
        write = Write(content, now)
        with self._lock:
            self._writes[name].append(write)
        return write

    def acknowledge(self, write: Write, now: float) -> None:
        """It has happened."""
        with self._lock:
            write.ended = now
            write.acknowledged = True

    def doubt(self, write: Write, now: float) -> None:
        """It has ended, and nobody knows how."""
        with self._lock:
            write.ended = now

    def forget(self, name: str, write: Write) -> None:
        """It has not happened."""
        with self._lock:
            self._writes[name].remove(write)

    def possible(self, name: str, began: float, ended: float) -> list[Write]:
        """What a read may have found that lasted from `began` to `ended`."""
        with self._lock:
            writes = self._writes[name]
            settled = max(w.began for w in writes if w.acknowledged and w.ended < began)
            return [w for w in writes if w.began <= ended and w.ended >= settled]

    def writes(self, name: str) -> list[Write]:
        """All of them, in the order of their begins."""
        with self._lock:
            return list(self._writes[name])

    def names(self) -> list[str]:
        """All that files may have."""
        return list(self._writes)
