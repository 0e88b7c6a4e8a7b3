"""What a ledger must hold and what a job must answer, said the slow and obvious way.

Owns: models for tests of the ledger and the reduction. A ledger's model is
{slice: (state, bits or code)}; what is not in it is unknown.
"""

from __future__ import annotations

import math
import struct
import sys
import zlib
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from velum.policy.job import F32, F64, I32, I64, KEEP_GOING, WRAP, Failure, Reduce, Run, Spec, State
from velum.policy.ledger import DONE, FAILED, UNKNOWN, Ledger
from velum.policy.reduction import Verdict

Model = dict[int, tuple[int, int]]
News = Run | Failure
NAN_BITS = 0x7FF8000000000000
LETTERS = {I32: "i", I64: "q", F32: "f", F64: "d"}


def packed(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *values)


def plain(kind: int, bits: int) -> int | float:
    """A value's number, by way of its bytes."""
    return struct.unpack_from("<" + LETTERS[kind], packed(bits))[0]


def bits_for(kind: int, value: int | float) -> int:
    """A number's bits; a NaN's are canonical."""
    if value != value:
        return NAN_BITS if kind == F64 else 0x7FC00000
    return int.from_bytes(struct.pack("<" + LETTERS[kind], value), "little")


def model_of(news: Sequence[News]) -> Model:
    """What a ledger that has merged these must hold."""
    model: Model = {}
    for item in news:
        if isinstance(item, Failure):
            state, code = model.get(item.slice, (FAILED, item.code))
            if state == FAILED:
                model[item.slice] = (FAILED, min(code, item.code))
            continue
        first, data = item
        for index, (bits,) in enumerate(struct.iter_unpack("<Q", data), first):
            state, known = model.get(index, (UNKNOWN, 0))
            model[index] = (DONE, min(bits, known) if state == DONE else bits)
    return model


def tell(ledger: Ledger, item: News) -> None:
    if isinstance(item, Failure):
        ledger.merge_failure(item)
    else:
        ledger.merge(*item)


def ledger_of(news: Sequence[News], slices: int) -> Ledger:
    ledger = Ledger(slices)
    for item in news:
        tell(ledger, item)
        ledger.validate()
    return ledger


def checksum_of(model: Model, slices: int) -> int:
    """As docs/scatter.md, section 3, says it."""
    entries = [model.get(index, (UNKNOWN, 0)) for index in range(slices)]
    states = bytes(state for state, _ in entries)
    return zlib.crc32(states + b"".join(bits.to_bytes(8, "little") for _, bits in entries))


def spec_of(
    reduce: int,
    slices: int,
    *,
    result: int = I64,
    flags: int = 0,
    missing: int = 0,
    width: int = 10,
) -> Spec:
    """A job over [0, width * slices)."""
    ends = ((I64, 0), (I64, width * slices))
    return Spec(1, flags, reduce, 50, result, slices, 0, 0, 0, 0, missing, 0, b"", "f", "m", ends)


def verdict_of(spec: Spec, model: Model) -> Verdict | None:
    """The verdict on a ledger whose failures have no texts."""
    entries = [model.get(index, (UNKNOWN, 0)) for index in range(spec.slices)]
    if spec.reduce == Reduce.FIRST:
        return _first(spec, entries)
    failed = [index for index, (state, _) in enumerate(entries) if state == FAILED]
    if failed and not spec.flags & KEEP_GOING:
        return _failed(failed[0], entries[failed[0]][1])
    if any(state == UNKNOWN for state, _ in entries):
        return None
    if spec.reduce in (Reduce.ALL, Reduce.COLLECT):
        return Verdict(State.DONE)
    values = [plain(spec.result, bits) for state, bits in entries if state == DONE]
    if not values and spec.reduce in (Reduce.MIN, Reduce.MAX):
        return _failed(failed[0], entries[failed[0]][1])
    total = combined(Reduce(spec.reduce), values, spec.result in (F32, F64))
    if isinstance(total, float):
        return Verdict(State.DONE, (F64, bits_for(F64, total)))
    if not -(1 << 63) <= total < 1 << 63 and not spec.flags & WRAP:
        name = Reduce(spec.reduce).name.lower()
        text = f"integer overflow: the {name} does not fit i64 (wrap takes it modulo 2^64)"
        return Verdict(State.FAILED, None, 44, text)
    return Verdict(State.DONE, (I64, total % (1 << 64)))


def _first(spec: Spec, entries: list[tuple[int, int]]) -> Verdict | None:
    for index, (state, bits) in enumerate(entries):
        if state == UNKNOWN:
            return None
        if state == FAILED and not spec.flags & KEEP_GOING:
            return _failed(index, bits)
        if state == DONE and bits != spec.missing:
            return Verdict(State.DONE, (spec.result, bits))
    return Verdict(State.DONE, (spec.result, spec.missing))


def _failed(index: int, code: int) -> Verdict:
    text = f"slice {index} [{10 * index}, {10 * index + 10}): error {code}"
    return Verdict(State.FAILED, None, code, text)


def combined(reduce: Reduce, values: Sequence[Any], floats: bool) -> Any:
    """The answer over some values in slice order."""
    if reduce in (Reduce.MIN, Reduce.MAX):
        if any(value != value for value in values):
            return math.nan
        by = max if reduce == Reduce.MAX else min
        return by(values, key=lambda value: (value, math.copysign(1, value)))
    neutral = {Reduce.PRODUCT: 1, Reduce.AND: -1}.get(reduce, 0)
    if not values:
        return float(neutral) if floats else neutral
    total = values[0]
    for value in values[1:]:
        match reduce:
            case Reduce.SUM:
                total = total + value
            case Reduce.PRODUCT:
                total = total * value
            case Reduce.AND:
                total = total & value
            case Reduce.OR:
                total = total | value
            case Reduce.XOR:
                total = total ^ value
    return total


def lines_run(module: Any, action: Callable[[], Any]) -> int:
    """How many lines of a module an action runs: its cost, whatever else the machine does."""
    lines = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace if frame.f_code.co_filename == module.__file__ else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return lines
