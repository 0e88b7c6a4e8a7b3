"""Guests for simulated scatters: what each slice returns, costs and does, and what must come out.

Owns: the jobs that a seed makes, and the right answer of each, computed in the plainest way from
the slices' values. Refuses to know: who runs what, and the production reduction, whose answers are
held against these.
"""

from __future__ import annotations

import functools
import math
import operator
import random
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

from velum.policy.job import (
    F32,
    F64,
    I32,
    I64,
    KEEP_GOING,
    WRAP,
    Reduce,
    Spec,
    State,
    signed,
)

TRAP: Final = 60  # any code that is a guest's own
NAN: Final = {F32: 0x7FC00000, F64: 0x7FF8000000000000}
MISSING: Final = 0

_INTEGERS: Final = (I32, I64)
_BITWISE: Final = (Reduce.AND, Reduce.OR, Reduce.XOR)
_EXTREMES: Final = (Reduce.MIN, Reduce.MAX)  # of an empty range they are refused
_I64_MIN: Final = -(1 << 63)

Number = tuple[str, int]
"""A number that can be compared whatever its width: an integer, or the bits of an f64."""

Answer = Number | tuple[Number, ...]
"""Of a job: one number, or a list."""


@dataclass(slots=True)
class Work:
    """One job and the guest that it calls."""

    spec: Spec
    values: list[int]  # bits, by slice
    cost_ms: list[float]  # on a worker of speed 1
    fails: dict[int, int] = field(default_factory=dict)  # slices that trap, with their code
    kills: set[int] = field(default_factory=set)  # slices that kill their worker, always
    kills_once: set[int] = field(default_factory=set)  # and the first time only

    @property
    def job(self) -> int:
        return self.spec.job

    @property
    def bad(self) -> set[int]:
        """Slices that have no value wherever they run."""
        return self.kills.union(self.fails)

    def run_bytes(self, first: int, end: int) -> bytes:
        """The values of slices [first, end) as a run carries them."""
        return struct.pack(f"<{end - first}Q", *self.values[first:end])

    def ending(self, failed: Collection[int]) -> tuple[State, Answer | None]:
        """How the job ends if these slices fail: DONE with its answer, or FAILED."""
        spec, reduce = self.spec, Reduce(self.spec.reduce)
        if reduce is Reduce.FIRST:
            return self._first(failed)
        if failed and not spec.flags & KEEP_GOING:
            return State.FAILED, None
        values = [bits for slice, bits in enumerate(self.values) if slice not in failed]
        if reduce is Reduce.ALL:
            values = [bits for bits in values if bits != spec.missing]
        if reduce in (Reduce.ALL, Reduce.COLLECT):
            return State.DONE, tuple(number(spec.result, bits) for bits in values)
        if not values and reduce in _EXTREMES:
            return State.FAILED, None
        if spec.result in _INTEGERS:
            return self._integers(reduce, [signed(spec.result, bits) for bits in values])
        return State.DONE, plain(_FLOATS[reduce]([real(spec.result, bits) for bits in values]))

    def _first(self, failed: Collection[int]) -> tuple[State, Answer | None]:
        for slice, bits in enumerate(self.values):
            if slice in failed:
                if not self.spec.flags & KEEP_GOING:
                    return State.FAILED, None
            elif bits != self.spec.missing:
                return State.DONE, number(self.spec.result, bits)
        return State.DONE, number(self.spec.result, self.spec.missing)

    def _integers(self, reduce: Reduce, values: list[int]) -> tuple[State, Answer | None]:
        total = _INTEGERS_BY[reduce](values)
        if self.spec.flags & WRAP:
            return State.DONE, plain(signed(I64, total))
        if not _I64_MIN <= total < -_I64_MIN:
            return State.FAILED, None
        return State.DONE, plain(total)


# ---- numbers ----


def real(kind: int, bits: int) -> float:
    """A float value's number."""
    if kind == F32:
        return float(struct.unpack("<f", struct.pack("<I", bits))[0])
    return float(struct.unpack("<d", struct.pack("<Q", bits))[0])


def number(kind: int, bits: int) -> Number:
    """A value in the form in which answers are compared."""
    return plain(signed(kind, bits) if kind in _INTEGERS else real(kind, bits))


def plain(value: int | float) -> Number:
    """A number in the form in which answers are compared; there is one NaN."""
    if isinstance(value, int):
        return "integer", value
    if math.isnan(value):
        return "float", NAN[F64]
    return "float", int(struct.unpack("<Q", struct.pack("<d", value))[0])


def _least(values: list[float], sign: float = 1.0) -> float:
    """The least of floats, or the greatest with sign -1; -0 is below +0, a NaN makes NaN."""
    if any(math.isnan(value) for value in values):
        return math.nan
    return sign * min((sign * v for v in values), key=lambda v: (v, math.copysign(1.0, v)))


def _one_by_one(step: Callable[[float, float], float], values: list[float], none: float) -> float:
    """From the first value up: the built-in sum() is more exact than the order it promises."""
    return functools.reduce(step, values) if values else none


_INTEGERS_BY: Final[dict[Reduce, Callable[[list[int]], int]]] = {
    Reduce.SUM: sum,
    Reduce.PRODUCT: math.prod,
    Reduce.MIN: min,
    Reduce.MAX: max,
    Reduce.AND: lambda values: functools.reduce(operator.and_, values, -1),
    Reduce.OR: lambda values: functools.reduce(operator.or_, values, 0),
    Reduce.XOR: lambda values: functools.reduce(operator.xor, values, 0),
}
_FLOATS: Final[dict[Reduce, Callable[[list[float]], float]]] = {
    Reduce.SUM: lambda values: _one_by_one(operator.add, values, 0.0),
    Reduce.PRODUCT: lambda values: _one_by_one(operator.mul, values, 1.0),
    Reduce.MIN: _least,
    Reduce.MAX: lambda values: _least(values, -1.0),
}


# ---- jobs by seed ----


def make_work(
    rng: random.Random,
    slices: int,
    cost_ms: float,
    *,
    reduce: Reduce | None = None,
    troubled: bool = False,
    created_ms: int = 1_700_000_000_000,
) -> Work:
    """A job of so many slices that cost so much on average, unevenly. `troubled`: some slices may
    trap or kill their worker."""
    if reduce is None:
        reduce = rng.choice([each for each in Reduce if slices or each not in _EXTREMES])
    result = rng.choice(_INTEGERS if reduce in _BITWISE else (I32, I64, F32, F64, I64, F64))
    flags = KEEP_GOING * (rng.random() < 0.4) | WRAP * (rng.random() < 0.2)
    spec = Spec(
        job=rng.getrandbits(62) + 1,
        flags=flags,
        reduce=reduce,
        priority=rng.choice((1, 10, 10, 100)),
        result=result,
        slices=slices,
        timeout_ms=0,
        limit_ms=0,
        fuel=0,
        pages=0,
        missing=MISSING,
        created_ms=created_ms,
        hash=rng.randbytes(32),
        function="f",
        label="simulated.wasm",
        args=((I64, 0), (I64, 10 * slices)),
    )
    draw = _draws(rng, reduce, result)
    costs = [cost_ms * rng.choice((0.0, 0.2, 0.5, 1.0, 1.0, 1.3, 3.0)) for _ in range(slices)]
    work = Work(spec, [draw() for _ in range(slices)], costs)
    if troubled and slices:
        indexes = range(slices)
        if rng.random() < 0.3:
            work.fails = dict.fromkeys(rng.sample(indexes, min(2, slices)), TRAP)
        if rng.random() < 0.3:
            work.kills = set(rng.sample(indexes, 1)).difference(work.fails)
        if rng.random() < 0.5:
            work.kills_once = set(rng.sample(indexes, min(3, slices))) - work.bad
    return work


def _draws(rng: random.Random, reduce: Reduce, result: int) -> Callable[[], int]:
    """What makes one value after another for a reduction."""
    width = 32 if result in (I32, F32) else 64
    if reduce is Reduce.FIRST or reduce is Reduce.ALL:
        found = rng.choice((0.0, 0.02, 0.2))
        return lambda: rng.getrandbits(20) + 1 if rng.random() < found else MISSING
    if result in _INTEGERS:
        small = reduce is Reduce.PRODUCT or rng.random() < 0.8
        if small:
            least = 1 if reduce is Reduce.PRODUCT else -1000
            most = 2 if reduce is Reduce.PRODUCT else 1000
            return lambda: rng.randint(least, most) & ((1 << width) - 1)
        return lambda: rng.getrandbits(width)
    nan = 0.01 if rng.random() < 0.1 else 0.0

    def real_bits() -> int:
        if rng.random() < nan:
            return NAN[result]
        value = rng.choice((0.0, -0.0, rng.uniform(-1e6, 1e6), rng.uniform(0.1, 10)))
        if result == F32:
            return int(struct.unpack("<I", struct.pack("<f", value))[0])
        return int(struct.unpack("<Q", struct.pack("<d", value))[0])

    return real_bits
