"""Records of the shared state drawn at random, for tests of what merging makes of them."""

from __future__ import annotations

import random

from velum.policy.kvtalk import Stamp
from velum.sim.kv_store import Op, Record

KEYS = ("k0", "k1")
NUMBERS = ("0", "12", "-7", "007", "-0", "+1", "", "x", str((1 << 63) - 1), str(1 << 63))


def some_records(rng: random.Random, count: int, times: int = 8) -> list[Record]:
    """Of few keys, parts, times and nodes, so that they meet; some stamps are equal."""
    stamps = [Stamp(2 * rng.randint(1, times), rng.choice((1, 2, 3))) for _ in range(count)]
    return [_record(rng, stamp, stamps) for stamp in stamps]


def _record(rng: random.Random, stamp: Stamp, stamps: list[Stamp]) -> Record:
    key, part = rng.choice(KEYS), rng.choice(("", "p"))
    of = rng.choice(stamps)
    first = rng.choice([s for s in stamps if s.node == stamp.node and s <= stamp])
    until_ms = stamp.time // 4 % 3  # of equal stamps the same: a time of expiry has no say
    value, sum = rng.choice(NUMBERS), rng.randint(-9, 9)
    match rng.choice((*Op, Op.EXPIRE, Op.COUNT)):
        case Op.SET:
            return Record(Op.SET, key, stamp, value=value, until_ms=until_ms)
        case Op.DEL:
            return Record(Op.DEL, key, stamp._replace(time=stamp.time + rng.randint(0, 1)))
        case Op.EXPIRE:
            return Record(Op.EXPIRE, key, stamp, until_ms=until_ms)
        case Op.COUNT if rng.random() < 0.5:
            return Record(Op.COUNT, key, stamp, of=first, fresh=True, sum=sum)
        case Op.COUNT:
            return Record(Op.COUNT, key, stamp, of=of, sum=sum)
        case Op.REMOVE:
            return Record(Op.REMOVE, key, stamp, part=part, of=of)
        case Op.FIELD:
            return Record(Op.FIELD, key, stamp, part=part, value=value)
        case op:
            return Record(op, key, stamp, part=part)
