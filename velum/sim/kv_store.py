"""The shared state's merge rules, simple and slow: a model of csrc/kv.c, and a store to simulate.

Owns: what merging records makes of a key, sums, and the two stages of tombstones (docs/kv.md,
section 2; csrc/kv.h). Refuses to know: logs, links, clocks. How: the records that stand, by key and
place; a change takes the key's marks out of the sums and puts them back after.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple, Protocol

from velum.policy.kvmarks import LOADED
from velum.policy.kvpull import LEVELS
from velum.policy.kvtalk import FANOUT, NEVER, Stamp

LEAF_BITS: Final = 16


class Op(IntEnum):
    """What a record does."""

    SET = 1
    DEL = 2
    EXPIRE = 3
    COUNT = 4
    ADD = 5
    REMOVE = 6
    FIELD = 7
    UNFIELD = 8


TOMBSTONES: Final = (Op.DEL, Op.REMOVE, Op.UNFIELD)


class Record(NamedTuple):
    """One thing that was written."""

    op: Op
    key: str
    stamp: Stamp
    part: str = ""
    value: str = ""
    of: Stamp = NEVER
    fresh: bool = False
    sum: int = 0
    until_ms: int = 0


Place = tuple[str, str, int]
"""Where in a key a record stands: its kind, part, node."""
BASE: Final[Place] = ("base", "", 0)
EXPIRY: Final[Place] = ("expiry", "", 0)


class KvStore(Protocol):
    """A store as the simulator drives it; the one in C is another."""

    def merge(self, record: Record) -> bool: ...
    def sums(self, level: int, index: int) -> list[int]: ...
    def leaf(self, leaf: int) -> list[Record]: ...
    def mark(self, mark: int) -> None: ...
    def tend(self, settle_to: int, drop_to: int) -> None: ...
    def records(self, key: str) -> list[Record]: ...
    def keys(self) -> list[str]: ...
    def tombstones(self) -> int: ...
    def recalled(self) -> int: ...


class _Held:
    """A record that stands, and its age."""

    __slots__ = ("mark", "record", "settled")

    def __init__(self, record: Record, mark: int) -> None:
        self.record = record
        self.mark = mark
        self.settled = False


def place_of(record: Record) -> Place:
    """Of two records in one place one stays."""
    match record.op:
        case Op.SET | Op.DEL:
            return BASE
        case Op.EXPIRE:
            return EXPIRY
        case Op.COUNT:
            life = f"{record.of.time}" if record.fresh else ""
            return ("count", life, record.stamp.node)
        case Op.ADD:
            return ("member", record.part, record.stamp.node)
        case Op.REMOVE:
            return ("member", record.part, record.of.node)
        case _:
            return ("field", record.part, 0)


def _age(record: Record) -> Stamp:
    """Of what a base hides: before it, or not."""
    return record.of if record.op in (Op.COUNT, Op.REMOVE) else record.stamp


def _rank(record: Record) -> tuple[object, ...]:
    """Of two in one place the greater one stays."""
    return (_age(record), record.op in TOMBSTONES, record.stamp, record.sum, record.value)


def _field_rank(record: Record) -> tuple[object, ...]:
    return (record.stamp, record.op == Op.FIELD, record.value)


def is_later(a: Record, b: Record) -> bool:
    """Whether `a` stays of two records in one place."""
    if a.op in (Op.FIELD, Op.UNFIELD):
        return _field_rank(a) > _field_rank(b)
    return _rank(a) > _rank(b)


def is_hidden(base: Record, record: Record) -> bool:
    """Whether a base hides a record for good."""
    if record.op == Op.COUNT and not record.fresh and base.op == Op.SET:
        return record.of < base.stamp
    return _age(record) <= base.stamp


@lru_cache(maxsize=1 << 16)
def _leaf_of(key: str) -> int:
    digest = blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - LEAF_BITS)


@lru_cache(maxsize=1 << 17)
def _sum_of(op: Op, key: str, stamp: Stamp, of: Stamp, sum: int, part: str) -> int:
    text = f"{op} {stamp.time} {stamp.node} {of.time} {of.node} {sum} {key} {part}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


class Model:
    """See above."""

    def __init__(self) -> None:
        self._keys: dict[str, dict[Place, _Held]] = {}
        self._leaves: dict[int, dict[str, None]] = {}
        self._sums: dict[tuple[int, int], int] = {}
        self._mark = LOADED
        self._recalled = 0

    # ---- merging ----

    def merge(self, record: Record) -> bool:
        """Whether it has changed something."""
        cells = self._keys.get(record.key, {})
        place = place_of(record)
        base = cells.get(BASE)
        held = cells.get(place)
        if place != BASE and base is not None and is_hidden(base.record, record):
            self._recall(record, BASE)
            return False
        if held is not None and not is_later(record, held.record):
            same = (record.op, record.stamp, record.of)
            if same != (held.record.op, held.record.stamp, held.record.of):
                self._recall(record, place)
            return False
        shown = EXPIRY in cells and self._shows(cells)
        self._flip(record.key)
        if record.key not in self._keys:
            self._leaves.setdefault(_leaf_of(record.key), {})[record.key] = None
        cells = self._keys.setdefault(record.key, cells)
        cells[place] = _Held(record, self._mark)
        if place == BASE:
            for at in [at for at in cells if at != BASE and is_hidden(record, cells[at].record)]:
                del cells[at]
        if EXPIRY in cells:
            self._age_expiry(cells, record.op, shown)
        self._flip(record.key)
        return True

    def _recall(self, late: Record, place: Place) -> None:
        """What a settled tombstone hides has come: who sent it does not have that, which is to be
        told again. A DEL and an EXPIRE have one mark."""
        cells = self._keys[late.key]
        if not cells[place].settled:
            return
        self._flip(late.key)
        cells[place].settled = False
        for at in cells.keys() & {BASE, EXPIRY} if place in (BASE, EXPIRY) else {place}:
            cells[at].mark = self._mark
        self._flip(late.key)
        self._recalled += 1

    def _age_expiry(self, cells: dict[Place, _Held], op: Op, shown: bool) -> None:
        """It is like a tombstone while nothing shows, as old as that is; it has one mark with a
        DEL. `shown`: whether something did before what came now."""
        if self._shows(cells):
            cells[EXPIRY].settled = False
        elif shown or op in (Op.EXPIRE, Op.DEL):
            for at in cells.keys() & {BASE, EXPIRY}:
                cells[at].mark = self._mark

    @staticmethod
    def _shows(cells: dict[Place, _Held]) -> bool:
        return look([held.record for held in cells.values()]).type != "none"

    # ---- sums ----

    def _flip(self, key: str) -> None:
        sum = 0
        for held in self._keys.get(key, {}).values():
            if not held.settled:
                r = held.record
                sum ^= _sum_of(r.op, r.key, r.stamp, r.of, r.sum, r.part)
        leaf = _leaf_of(key)
        for level in range(1, LEVELS + 1):
            at = (level, leaf >> 4 * (LEVELS - level))
            self._sums[at] = self._sums.get(at, 0) ^ sum

    def sums(self, level: int, index: int) -> list[int]:
        """Of the children of an inner node."""
        first = index * FANOUT
        return [self._sums.get((level + 1, first + child), 0) for child in range(FANOUT)]

    def leaf(self, leaf: int) -> list[Record]:
        """What is in its sum."""
        return [
            held.record
            for key in self._leaves.get(leaf, {})
            for held in self._keys[key].values()
            if not held.settled
        ]

    # ---- tombstones ----

    def mark(self, mark: int) -> None:
        """What comes from now on has this age mark; the least is that of what was loaded."""
        self._mark = max(mark, LOADED)

    def tend(self, settle_to: int, drop_to: int) -> None:
        """A whole walk."""
        for key in list(self._keys):
            cells = self._keys[key]
            old = self._dead(cells)
            if not old:
                continue
            self._flip(key)
            for at in old:
                held = cells[at]
                held.settled = held.settled or held.mark <= settle_to
                if held.settled and held.mark <= drop_to:
                    del cells[at]
            self._flip(key)
            if not cells:
                del self._keys[key]
                del self._leaves[_leaf_of(key)][key]

    # ---- what is here ----

    def records(self, key: str) -> list[Record]:
        """What stands of a key, settled tombstones too: what a log keeps."""
        return [held.record for held in self._keys.get(key, {}).values()]

    def keys(self) -> list[str]:
        """All that anything stands of."""
        return list(self._keys)

    def tombstones(self) -> int:
        """How many there are, settled ones too, and times of expiry of nothing."""
        return sum(len(self._dead(cells)) for cells in self._keys.values())

    def recalled(self) -> int:
        """How many settled ones were unsettled."""
        return self._recalled

    def _dead(self, cells: dict[Place, _Held]) -> list[Place]:
        old = [at for at, held in cells.items() if held.record.op in TOMBSTONES]
        return old if EXPIRY not in cells or self._shows(cells) else [*old, EXPIRY]


# ---- what is visible ----


class Seen(NamedTuple):
    """What a key shows: a type, and its value as text, number, set or hash."""

    type: str
    value: object
    base: Stamp
    until_ms: int
    expiry: Stamp


def look(records: list[Record]) -> Seen:
    """What the records of one key show."""
    base = next((r for r in records if r.op in (Op.SET, Op.DEL)), None)
    at = base.stamp if base is not None else NEVER
    is_set = base is not None and base.op == Op.SET
    over = next((r for r in records if r.op == Op.EXPIRE), base)
    until = over.until_ms if over is not None else 0
    expiry = over.stamp if over is not None and until else NEVER
    number = number_of(base.value) if is_set and base is not None else 0
    counts = [r for r in records if r.op == Op.COUNT and is_counted(r, at, is_set)]
    if counts and number is not None:
        total = _wrapped(number + sum(r.sum for r in counts))
        return Seen("counter", total, at, until, expiry)
    if is_set and base is not None:
        return Seen("bytes", base.value, at, until, expiry)
    members = {r.part for r in records if r.op == Op.ADD}
    if members:
        return Seen("set", frozenset(members), at, until, expiry)
    fields = {r.part: r.value for r in records if r.op == Op.FIELD}
    if fields:
        return Seen("hash", tuple(sorted(fields.items())), at, until, expiry)
    return Seen("none", None, at, until, NEVER)


def number_of(text: str) -> int | None:
    """A decimal number as it is written if nothing of it is superfluous, and it fits 64 bits."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal()) or text != str(int(text)):
        return None
    return int(text) if int(text) == _wrapped(int(text)) else None


def _wrapped(number: int) -> int:
    """As 64 bits have it."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def is_counted(count: Record, base: Stamp, is_set: bool) -> bool:
    """Whether a COUNT adds to what its key shows."""
    return base < count.of if count.fresh else is_set and count.of == base


def latest(records: list[Record]) -> Stamp:
    """The latest stamp of what stands of a key."""
    return max((r.stamp for r in records), default=NEVER)
