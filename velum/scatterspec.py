"""The making of a scatter's spec out of a call's arguments.

Owns what a caller can do wrong, and what is said of it before anything is sent. Refuses to know how
a job goes on: that is `velum.scatterjob`.
"""

from __future__ import annotations

import operator
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from velum import _core, wasm
from velum.api import Number
from velum.errors import CallerError, code_of, error_from
from velum.policy.job import KEEP_GOING, PRIORITY_MAX, WRAP, Reduce, Spec, signed
from velum.policy.reduction import bits_of, check_spec
from velum.policy.slices import SLICES_DEFAULT, SLICES_MAX, slice_count

WITH_MISSING: Final = (Reduce.FIRST, Reduce.ALL)

_SIGNED: Final = {"i32": range(-(1 << 31), 1 << 31), "i64": range(-(1 << 63), 1 << 63)}
_UNSIGNED: Final = {"i32": range(1 << 32), "i64": range(1 << 64)}


def make_spec(
    module: wasm.Module,
    func: str,
    args: Sequence[Number],
    *,
    reduce: str,
    missing: Number | None,
    slices: int | None,
    keep_going: bool,
    wrap: bool,
    priority: int,
    timeout_ms: int,
    limit_ms: int,
    fuel: int,
    pages: int,
) -> Spec:
    """A new job's spec; `args` begin with the range's start and end. Raises CallerError, saying
    what to do, for everything that a node would refuse."""
    params, result = module.signature(func)
    shape = f"{func}({', '.join(params)}) -> {result or 'nothing'}"
    if len(params) < 2 or params[0] not in ("i32", "i64") or params[0] != params[1] or not result:
        raise mistake(
            "SIGNATURE",
            f"scatter calls a function with the ends of each slice, two i32 or two i64, first, and "
            f"needs a result; it is {shape}",
        )
    start, end = _range(func, params[0], *args[:2])
    module.encode(func, (start, end, *args[2:]), timeout_ms=0, fuel=0, pages=0, placed=False)
    how = _reduce(reduce, missing)
    spec = Spec(
        job=1 + secrets.randbelow((1 << 63) - 1),
        flags=KEEP_GOING * bool(keep_going) | WRAP * bool(wrap),
        reduce=how,
        priority=_within("priority", priority, 1, PRIORITY_MAX),
        result=_core.TYPE_CODES[result],
        slices=slice_count(
            start,
            end,
            SLICES_DEFAULT if slices is None else _within("slices", slices, 1, SLICES_MAX),
        ),
        timeout_ms=timeout_ms,
        limit_ms=limit_ms,
        fuel=_within("fuel", fuel, 0, (1 << 64) - 1),
        pages=_within("pages", pages, 0, _core.GUEST_PAGES_MAX),
        missing=0 if missing is None else _bits(result, missing, "missing"),
        created_ms=time.time_ns() // 1_000_000,
        hash=module.hash,
        function=func,
        label=module.name,
        args=tuple(
            (_core.TYPE_CODES[kind], _bits(kind, value, "argument"))
            for kind, value in zip(params, (start, end, *args[2:]), strict=True)
        ),
    )
    wrong = check_spec(spec)
    if wrong is not None:
        raise mistake("ARGUMENT", wrong)
    return spec


def mistake(name: str, text: str) -> CallerError:
    """An error of the caller, to be raised."""
    return CallerError(code_of(name), text)


def _range(func: str, kind: str, start: object, end: object) -> tuple[int, int]:
    """The ends of the range as integers that the function's type holds."""
    held = _SIGNED[kind]
    for bound in (start, end):
        if isinstance(bound, bool) or not isinstance(bound, int):
            raise mistake("SIGNATURE", f"a range goes from integer to integer, not {bound!r}")
        if bound not in held:
            hint = "; take a function of i64 for larger ranges" if kind == "i32" else ""
            raise mistake("SIGNATURE", f"{bound} does not fit the {kind} that {func} takes{hint}")
    assert isinstance(start, int) and isinstance(end, int)
    if start > end:
        raise mistake("ARGUMENT", f"the range from {start} to {end} goes backwards")
    return start, end


def _reduce(name: str, missing: Number | None) -> Reduce:
    how = Reduce.__members__.get(str(name).upper())
    if how is None:
        names = ", ".join(known.name.lower() for known in Reduce)
        raise mistake("ARGUMENT", f"{name!r} is no reduction; there are {names}")
    if (how in WITH_MISSING) != (missing is not None):
        if missing is None:
            text = f"reduce {name!r} needs to know the value that means not found: missing=-1"
        else:
            text = f"reduce {name!r} has no use for a missing value; first and all have"
        raise mistake("ARGUMENT", text)
    return how


def _within(what: str, value: object, low: int, high: int) -> int:
    try:
        found = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise mistake("ARGUMENT", f"{what} is an integer, not {value!r}") from None
    if not low <= found <= high:
        raise mistake("ARGUMENT", f"{what} {found} is not in {low}..{high}")
    return found


def _bits(kind: str, value: Number, what: str) -> int:
    """A number as a value of a type; an integer may be meant with or without a sign, as everywhere
    where guests are called."""
    code = _core.TYPE_CODES[kind]
    try:
        if isinstance(value, int) and kind[0] == "i" and value in _UNSIGNED[kind]:
            value = signed(code, value)
        return bits_of(code, value)
    except ValueError as error:
        raise mistake("SIGNATURE", f"{what}: {error}") from None


def job_number(text: str, jobs: Callable[[], list[dict[str, Any]]]) -> int:
    """The id that text names: 16 hexadecimal digits, or the first ones of a job in jobs()."""
    digits = text.strip().lower()
    if not 0 < len(digits) <= 16 or not set(digits) <= set("0123456789abcdef"):
        raise mistake("ARGUMENT", f"{text!r} is no job's id: up to 16 hexadecimal digits")
    if len(digits) == 16:
        return int(digits, 16)
    found = [job["id"] for job in jobs() if job["id"].startswith(digits)]
    if not found:
        raise error_from(code_of("JOB_UNKNOWN"), f"the mesh knows no job {digits}...")
    if len(found) > 1:
        raise mistake("ARGUMENT", f"{digits} may be any of {', '.join(sorted(found))}")
    return int(found[0], 16)
