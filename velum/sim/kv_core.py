"""The store of a node, in C, as the simulator drives a store.

Owns: what its records are called there and here. Refuses to know: what merging makes of them
(`csrc/kv.h`; `kv_store.py` is a model of it). How: every call passes through; keys are sorted,
since the order that the store has them in is another in each process.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from velum import _core
from velum.policy.kvtalk import Stamp
from velum.sim.kv_store import Op, Record

ROOM_BYTES: Final = 1 << 28  # more than any run fills
WALK_KEYS: Final = 64  # at once, so that a walk has several pieces


def raw(record: Record) -> _core.KvRecord:
    """A record as the binding has it."""
    key, part, value = record.key.encode(), record.part.encode(), record.value.encode()
    of, fresh, until_ms, sum = record.of, record.fresh, record.until_ms, record.sum
    return (int(record.op), key, part, value, False, record.stamp, of, fresh, until_ms, sum)


@lru_cache(maxsize=1 << 16)  # each is looked at again and again
def cooked(raw: _core.KvRecord) -> Record:
    """The same back."""
    op, key, part, value, _, stamp, of, fresh, until_ms, sum = raw
    text = key.decode(), Stamp(*stamp), part.decode(), value.decode()
    return Record(Op(op), *text, Stamp(*of), fresh, sum, until_ms)


class CoreStore:
    """See above."""

    def __init__(self) -> None:
        self.core = _core.KvStore(ROOM_BYTES)

    def merge(self, record: Record) -> bool:
        """Whether it has changed something."""
        return self.core.merge(raw(record))

    def sums(self, level: int, index: int) -> list[int]:
        """Of the children of an inner node."""
        return list(self.core.sums(level, index))

    def leaf(self, leaf: int) -> list[Record]:
        """What is in its sum."""
        return [cooked(record) for record in self.core.leaf(leaf)]

    def mark(self, mark: int) -> None:
        """What comes from now on has this age mark."""
        self.core.mark(mark)

    def tend(self, settle_to: int, drop_to: int) -> None:
        """A whole walk."""
        while self.core.tend(WALK_KEYS, settle_to, drop_to)[2]:
            pass

    def recalled(self) -> int:
        """How many settled tombstones were unsettled."""
        count: int = self.core.figures()["recalled"]
        return count

    def records(self, key: str) -> list[Record]:
        """What stands of a key, settled tombstones too."""
        return [cooked(record) for record in self.core.records(key.encode())]

    def keys(self) -> list[str]:
        """All that anything stands of."""
        return sorted(key.decode() for key in self.core.keys())

    def tombstones(self) -> int:
        """How many there are, settled ones too, and times of expiry of nothing."""
        idle = (r for r in self.core.records() if r[0] == Op.EXPIRE)
        count: int = self.core.figures()["tombstones"]
        return count + sum(self.core.look(r[1]) is None for r in idle)
