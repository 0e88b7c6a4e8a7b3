"""The answer of a job: when it is decided, and what it is.

Owns: what every `Reduce` makes of the slices' values, and which specs can have an answer at all.
Refuses to know: where values come from, and what becomes of a job that is decided. A verdict is a
function of spec and ledger, never of the order in which the ledger has grown:

    reduce       the ledger                                            the verdict
    not FIRST    a slice has failed, without keep_going                FAILED: the lowest such
    not FIRST    no slice is unknown                                   DONE, by the done ones
    MIN, MAX     every slice has failed                                FAILED: the lowest
    integers     the sum or product does not fit i64, without wrap     FAILED: OVERFLOW
    FIRST        a value found, no slice before it unknown             DONE, that value
    FIRST        a slice failed, without keep_going, and all before    FAILED: that one
                 it done and `missing`
    FIRST        none unknown, none found                              DONE, `missing`

Else it is not decided. With keep_going, FIRST passes over failed slices as if they were `missing`.

FIRST keeps a *front*: what is before it is known and holds nothing. The front only advances, over
thousands of values a comparison, unless the ledger takes something back (a revision). It searches
the ledger's news as well, so that work behind a find ends before all slices ahead of it are known.
The other reductions read the values once, when nothing is unknown any more.
"""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain
from typing import Any, Final

from .job import F32, F64, I32, I64, KEEP_GOING, WRAP, Failure, Reduce, Spec, State, signed
from .ledger import FAILED, UNKNOWN, VALUE_BYTES, Ledger
from .slices import SLICES_MAX, Span, Spans, slice_bounds
from .tasks import Code

Answer = tuple[int, int]
"""One number: its type and bits."""

NAMES: Final = {I32: "i32", I64: "i64", F32: "f32", F64: "f64"}
LISTS: Final = (Reduce.ALL, Reduce.COLLECT)

_MASK: Final = {I32: (1 << 32) - 1, I64: (1 << 64) - 1, F32: (1 << 32) - 1, F64: (1 << 64) - 1}
_NAN: Final = {F32: 0x7FC00000, F64: 0x7FF8000000000000}
# How 8 bytes of value are unpacked: the letter of `struct`, and how many of them there are, of
# which the first counts.
_LAYOUT: Final = {I32: ("i", 2), I64: ("q", 1), F32: ("f", 2), F64: ("d", 1)}
# Values made into Python numbers at once: 32 KiB of bytes, a few hundred of numbers.
_BLOCK: Final = 4096

Block = Sequence[Any]
"""Numbers of one type: all int, or all float."""


# ---- values ----


def number(kind: int, bits: int) -> int | float:
    """The number that a value's bits mean; integers have a sign."""
    if kind in (I32, I64):
        return signed(kind, bits)
    data = (bits & _MASK[kind]).to_bytes(VALUE_BYTES, "little")
    (value,) = struct.unpack_from("<f" if kind == F32 else "<d", data)
    return float(value)


def bits_of(kind: int, value: int | float) -> int:
    """The bits of a number as a value of a type: rounded to f32, every NaN the canonical one.
    ValueError if it does not fit."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a number")
    if kind in (I32, I64):
        if isinstance(value, int) and signed(kind, value) == value:
            return value & _MASK[kind]
    elif value != value:
        return _NAN[kind]
    else:
        try:
            data = struct.pack("<f" if kind == F32 else "<d", value)
            return int.from_bytes(data, "little")
        except (OverflowError, struct.error):
            pass
    raise ValueError(f"{value!r} does not fit {NAMES[kind]}")


# ---- specs ----


def check_spec(spec: Spec) -> str | None:
    """Why a spec has no answer, for whoever wrote it; None if it has one."""
    if spec.reduce not in list(Reduce) or spec.result not in NAMES:
        return "unknown reduction or type of result"
    name, kind = Reduce(spec.reduce).name.lower(), NAMES[spec.result]
    if spec.result in (F32, F64) and spec.reduce in (Reduce.AND, Reduce.OR, Reduce.XOR):
        return f"{name} takes integers, and the function returns {kind}"
    if spec.reduce in (Reduce.FIRST, Reduce.ALL) and not _fits(spec.result, spec.missing):
        return f"{spec.missing:#x} is no {kind}, so no value can equal it: nothing would be missing"
    if (wrong := _check_range(spec)) is not None:
        return wrong
    if not spec.slices and spec.reduce in (Reduce.MIN, Reduce.MAX):
        return f"an empty range has no {name}"
    return None


def _check_range(spec: Spec) -> str | None:
    """What is wrong with the range, or with how it is cut."""
    if len(spec.args) < 2 or spec.args[0][0] != spec.args[1][0]:
        return "the function's first two parameters must be the range's ends, of one type"
    if spec.range_type not in (I32, I64):
        return "the range's ends must be i32 or i64"
    if not all(_fits(kind, bits) for kind, bits in spec.args[:2]):
        return f"the range's ends do not fit {NAMES[spec.range_type]}"
    length = spec.end - spec.start
    if length < 0:
        return f"the range ends at {spec.end}, before its start {spec.start}"
    if not min(1, length) <= spec.slices <= min(SLICES_MAX, length):
        return f"{spec.slices} slices of a range of {length}, at most {SLICES_MAX} are possible"
    return None


def _fits(kind: int, bits: int) -> bool:
    """Whether these can be the bits of a value: no more of them than it has, and of all NaNs only
    the canonical one."""
    return 0 <= bits <= _MASK[kind] and bits_of(kind, number(kind, bits)) == bits


# ---- verdicts ----


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a job ends."""

    state: State
    """DONE or FAILED."""
    answer: Answer | None = None
    """Of DONE, if it is one number. Integers are i64 and floats f64, but FIRST answers a value of
    the function's own type. None for ALL and COLLECT: `answer_list` makes their list."""
    code: int = 0
    """Of FAILED."""
    text: str = ""
    """Of FAILED, for people; it names the slice."""


class Reduction:
    """Follows a job's ledger, the only one to do so. ValueError for a spec that has no answer
    (`check_spec`)."""

    __slots__ = ("_found", "_front", "_ledger", "_seen", "_spec", "_verdict")

    def __init__(self, spec: Spec, ledger: Ledger) -> None:
        if (wrong := check_spec(spec)) is not None:
            raise ValueError(wrong)
        if ledger.slices != spec.slices:
            raise ValueError(f"a ledger of {ledger.slices} slices for a job of {spec.slices}")
        self._spec = spec
        self._ledger = ledger
        self._seen = (-1, -1, -1)  # done, failed and revisions of the ledger at the last look
        self._verdict: Verdict | None = None
        self._begin()

    def look(self) -> Verdict | None:
        """The verdict; None while there is none."""
        ledger = self._ledger
        seen = (ledger.done, ledger.failed, ledger.revisions)
        if seen != self._seen:
            if seen[2] != self._seen[2]:
                self._begin()
            self._seen = seen
            self._verdict = self._look_first() if self._is_first else self._look_all()
        return self._verdict

    @property
    def needed_end(self) -> int:
        """Slices from here on cannot change the answer, as far as the last look has seen: FIRST
        needs nothing behind a find. Only a disagreement can make it grow again."""
        return self._ledger.slices if self._found is None else self._found + 1

    def _begin(self) -> None:
        """Nothing has been seen of the ledger yet."""
        self._front = 0  # FIRST: slices before it are known and hold nothing
        self._found: int | None = None  # FIRST: the lowest slice seen that holds something
        if self._is_first:
            self._ledger.news = Spans([(0, self._ledger.slices)])

    @property
    def _is_first(self) -> bool:
        return self._spec.reduce == Reduce.FIRST

    @property
    def _keeps_going(self) -> bool:
        return bool(self._spec.flags & KEEP_GOING)

    def _look_all(self) -> Verdict | None:
        """Of every reduction but FIRST."""
        spec, ledger = self._spec, self._ledger
        if ledger.failed and not self._keeps_going:
            return self._failed(ledger.failures(1)[0])
        if ledger.unknown:
            return None
        if spec.reduce in LISTS:
            return Verdict(State.DONE)
        if not ledger.done and spec.reduce in (Reduce.MIN, Reduce.MAX):
            return self._failed(ledger.failures(1)[0])
        if spec.result in (F32, F64):
            return Verdict(State.DONE, (F64, bits_of(F64, _combine_floats(spec, ledger))))
        total = _combine_integers(spec, ledger)
        if signed(I64, total) == total or spec.flags & WRAP:
            return Verdict(State.DONE, (I64, total & _MASK[I64]))
        name = Reduce(spec.reduce).name.lower()
        text = f"integer overflow: the {name} does not fit i64 (wrap takes it modulo 2^64)"
        return Verdict(State.FAILED, code=Code.OVERFLOW, text=text)

    def _look_first(self) -> Verdict | None:
        spec, ledger = self._spec, self._ledger
        fresh, ledger.news = ledger.news or (), Spans()
        for first, end in fresh:
            self._search(first, end)
        while self._front < self.needed_end:
            state = ledger.state(self._front)
            if state == UNKNOWN:
                return None
            if state == FAILED and not self._keeps_going:
                return self._failed(ledger.failure(self._front))
            end = ledger.run_end(self._front, self.needed_end)
            self._search(self._front, end)
            self._front = end
        bits = spec.missing if self._found is None else ledger.bits(self._found)
        return Verdict(State.DONE, (spec.result, bits_of(spec.result, number(spec.result, bits))))

    def _search(self, first: int, end: int) -> None:
        """Looks in the done slices of [first, end) for one that holds something and is lower than
        what was found."""
        missing = self._spec.missing.to_bytes(VALUE_BYTES, "little")
        nothing = missing * min(_BLOCK, end - first)
        for at, data in self._ledger.done_runs(_blocks(first, min(end, self.needed_end))):
            if not nothing.startswith(data):
                offset = 0
                while data.startswith(missing, offset):
                    offset += VALUE_BYTES
                self._found = at + offset // VALUE_BYTES
                return

    def _failed(self, failure: Failure) -> Verdict:
        spec, code = self._spec, failure.code
        start, end = slice_bounds(spec.start, spec.end, spec.slices, failure.slice)
        why = failure.text or f"error {code}"
        text = f"slice {failure.slice} [{start}, {end}): {why}"
        return Verdict(State.FAILED, code=code, text=text)


# ---- answers ----


def plain_answer(spec: Spec, ledger: Ledger, answer: Answer | None) -> int | float | list[Any]:
    """What a job that is done has answered, given its record's `answer`: a number, or a list."""
    return answer_list(spec, ledger) if answer is None else number(*answer)


def answer_list(spec: Spec, ledger: Ledger) -> list[int | float]:
    """The list that ALL and COLLECT answer: the done slices' values, in slice order."""
    numbers: list[int | float] = []
    for _, data in ledger.done_runs(_blocks(0, ledger.slices)):
        block = _numbers(spec.result, data)
        if spec.reduce == Reduce.ALL:
            patterns = _numbers(I64, data)  # of floats, only equal bits are equal
            missing = signed(I64, spec.missing)
            block = [v for v, bits in zip(block, patterns, strict=True) if bits != missing]
        numbers += block
    return numbers


def _combine_integers(spec: Spec, ledger: Ledger) -> int:
    """Any size. A product that does not fit i64 is only some number that does not fit either."""
    blocks = _done_numbers(spec, ledger)
    match spec.reduce:
        case Reduce.SUM:
            return sum(map(sum, blocks))
        case Reduce.PRODUCT:
            return _wrapped_product(blocks) if spec.flags & WRAP else _product(blocks)
        case Reduce.MIN:
            return int(min(map(min, blocks)))
        case Reduce.MAX:
            return int(max(map(max, blocks)))
        case Reduce.AND:
            return reduce(operator.and_, chain.from_iterable(blocks), -1)
        case Reduce.OR:
            return reduce(operator.or_, chain.from_iterable(blocks), 0)
        case _:
            return reduce(operator.xor, chain.from_iterable(blocks), 0)


def _combine_floats(spec: Spec, ledger: Ledger) -> float:
    """Sums and products one by one in slice order, in f64: the built-in sum() compensates since
    Python 3.12, so it would not be the same everywhere."""
    blocks = _done_numbers(spec, ledger)
    match spec.reduce:
        case Reduce.SUM:
            return _one_by_one(operator.add, blocks, 0.0)
        case Reduce.PRODUCT:
            return _one_by_one(operator.mul, blocks, 1.0)
        case Reduce.MIN:
            return _extreme(min, [_extreme(min, block) for block in blocks])
        case _:
            return _extreme(max, [_extreme(max, block) for block in blocks])


def _product(blocks: Iterable[Block]) -> int:
    """A zero anywhere makes it 0, so after an overflow zeros are all that is looked for."""
    product = 1
    for block in blocks:
        if 0 in block:
            return 0
        for value in block:
            if abs(product) > 1 << 63:  # -2^63 fits, and 2^63 may still meet a -1
                break
            product *= value
    return product


def _wrapped_product(blocks: Iterable[Block]) -> int:
    """Modulo 2^64 all along, so that it stays short."""
    mask = _MASK[I64]
    product = 1
    for value in chain.from_iterable(blocks):
        product = product * value & mask
        if not product:
            break
    return product


def _one_by_one(
    operation: Callable[[float, float], float], blocks: Iterable[Block], empty: float
) -> float:
    """Begins with the first value itself: -0 is not 0 + -0."""
    values = chain.from_iterable(blocks)
    first = next(values, empty)
    return reduce(operation, values, first)


def _extreme(pick: Callable[[Iterable[float]], float], values: Sequence[float]) -> float:
    """The least or greatest of floats: a NaN makes NaN, and -0 is below +0."""
    if any(map(math.isnan, values)):
        return math.nan
    best = pick(values)
    if best == 0:
        return pick(math.copysign(1, value) for value in values if value == 0) * 0.0
    return best


def _done_numbers(spec: Spec, ledger: Ledger) -> Iterator[Block]:
    """The values of the done slices in slice order, a block at a time; no block is empty."""
    for _, data in ledger.done_runs(_blocks(0, ledger.slices)):
        yield _numbers(spec.result, data)


def _numbers(kind: int, data: bytes) -> Block:
    """Values of a run as numbers."""
    letter, width = _LAYOUT[kind]
    return struct.unpack(f"<{len(data) // VALUE_BYTES * width}{letter}", data)[::width]


def _blocks(first: int, end: int) -> Iterator[Span]:
    """Slices [first, end) in blocks."""
    for at in range(first, end, _BLOCK):
        yield at, min(at + _BLOCK, end)
