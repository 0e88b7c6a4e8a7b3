"""What jobs answer and when, against the obvious way to compute it, in every order of arrival."""

from __future__ import annotations

import math
import random
import struct
import sys
from collections.abc import Sequence
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.scatter_models import (
    NAN_BITS,
    News,
    bits_for,
    ledger_of,
    lines_run,
    model_of,
    packed,
    plain,
    spec_of,
    tell,
    verdict_of,
)
from velum.policy import reduction as reductions
from velum.policy.job import F32, F64, I32, I64, KEEP_GOING, WRAP, Failure, Reduce, Spec, State
from velum.policy.ledger import DONE, Ledger
from velum.policy.reduction import (
    Reduction,
    Verdict,
    answer_list,
    bits_of,
    check_spec,
    number,
    plain_answer,
)
from velum.policy.slices import SLICES_MAX
from velum.policy.tasks import Code

FLOATS = (F32, F64)
BITWISE = (Reduce.AND, Reduce.OR, Reduce.XOR)
SPECIAL = [0.0, -0.0, 1.0, -1.5, math.inf, -math.inf, math.nan, 3.0e38, 1e-45]


def values_of(kind: int) -> st.SearchStrategy[int]:
    """Bits of values of a type: the interesting ones often."""
    if kind in FLOATS:
        width = 32 if kind == F32 else 64
        every = st.sampled_from(SPECIAL) | st.floats(width=width)
        return every.map(lambda value: bits_for(kind, plain(kind, bits_for(kind, value))))
    top = 1 << (31 if kind == I32 else 63)
    few = st.sampled_from([0, 1, -1, 2, -3, top - 1, -top])
    return (few | st.integers(-top, top - 1)).map(lambda value: bits_for(kind, value))


@st.composite
def jobs(draw: st.DrawFn, reduce: Reduce | None = None) -> tuple[Spec, list[News]]:
    """A spec, and what comes for its slices, one by one: most are done, some fail, some of those
    are done after all; not all need come."""
    how = reduce or draw(st.sampled_from(Reduce))
    kind = draw(st.sampled_from((I32, I64) if how in BITWISE else (I32, I64, F32, F64)))
    slices = draw(st.integers(1, 10))
    missing = draw(values_of(kind))
    bits = (
        st.just(missing) | values_of(kind) if how in (Reduce.FIRST, Reduce.ALL) else values_of(kind)
    )
    values = draw(st.lists(bits, min_size=slices, max_size=slices))
    flags = draw(st.sampled_from([0, KEEP_GOING, WRAP, KEEP_GOING | WRAP]))
    news: list[News] = [(index, packed(value)) for index, value in enumerate(values)]
    for index in draw(st.sets(st.integers(0, slices - 1), max_size=3)):
        failure = Failure(index, draw(st.sampled_from([60, 83])))
        if draw(st.booleans()):
            news.append(failure)
        else:
            news[index] = failure
    news = draw(st.permutations(news))
    return spec_of(how, slices, result=kind, flags=flags, missing=missing), news


def check_story(spec: Spec, news: Sequence[News]) -> None:
    """After each piece of news, the verdict is the model's."""
    ledger = Ledger(spec.slices)
    reduction = Reduction(spec, ledger)
    assert reduction.look() is None
    for count, item in enumerate(news, 1):
        tell(ledger, item)
        model = model_of(news[:count])
        assert reduction.look() == verdict_of(spec, model)
        finds = [i for i, (state, bits) in model.items() if state == DONE and bits != spec.missing]
        first = spec.reduce == Reduce.FIRST and finds
        assert reduction.needed_end == (min(finds) + 1 if first else spec.slices)


@settings(max_examples=400)
@given(jobs())
def test_every_reduction_at_every_moment(job: tuple[Spec, list[News]]) -> None:
    check_story(*job)


@settings(max_examples=300)
@given(jobs(Reduce.FIRST))
def test_first_at_every_moment(job: tuple[Spec, list[News]]) -> None:
    check_story(*job)


@given(jobs(), st.randoms(use_true_random=False))
def test_the_order_of_events_does_not_matter(
    job: tuple[Spec, list[News]], rng: random.Random
) -> None:
    spec, news = job
    verdicts = []
    for _ in range(3):
        ledger = Ledger(spec.slices)
        reduction = Reduction(spec, ledger)
        for item in news:
            tell(ledger, item)
            if rng.random() < 0.5:
                reduction.look()
        verdicts.append(reduction.look())
        rng.shuffle(news)
    assert verdicts[0] == verdicts[1] == verdicts[2]


@given(jobs(Reduce.ALL) | jobs(Reduce.COLLECT))
def test_lists(job: tuple[Spec, list[News]]) -> None:
    spec, news = job
    ledger = ledger_of(news, spec.slices)
    done = [bits for _, (state, bits) in sorted(model_of(news).items()) if state == DONE]
    if spec.reduce == Reduce.ALL:
        done = [bits for bits in done if bits != spec.missing]
    answer = answer_list(spec, ledger)
    assert [bits_for(spec.result, value) for value in answer] == done
    assert all(isinstance(value, float if spec.result in FLOATS else int) for value in answer)


@given(jobs(Reduce.SUM), jobs(Reduce.FIRST))
def test_the_plain_answer(one: tuple[Spec, list[News]], other: tuple[Spec, list[News]]) -> None:
    for spec, news in (one, other):
        ledger = ledger_of(news, spec.slices)
        verdict = Reduction(spec, ledger).look()
        if verdict is not None and verdict.answer is not None:
            answer = plain_answer(spec, ledger, verdict.answer)
            assert bits_of(verdict.answer[0], answer) == verdict.answer[1]


def decided(reduce: Reduce, values: Sequence[float], kind: int = I64, flags: int = 0) -> Verdict:
    """The verdict on some numbers."""
    bits = packed(*[bits_for(kind, value) for value in values])
    spec = spec_of(reduce, len(values), result=kind, flags=flags)
    verdict = Reduction(spec, ledger_of([(0, bits)], len(values))).look()
    assert verdict is not None
    return verdict


def answered(reduce: Reduce, values: Sequence[float], kind: int = I64, flags: int = 0) -> float:
    verdict = decided(reduce, values, kind, flags)
    assert verdict.answer is not None, verdict
    assert verdict.answer[0] == (F64 if kind in FLOATS else I64)
    return number(*verdict.answer)


# ---- integers ----

I64_MAX, I64_MIN = (1 << 63) - 1, -(1 << 63)


def test_sums_are_exact_whatever_they_pass_through() -> None:
    assert answered(Reduce.SUM, [I64_MAX, 1, -1]) == I64_MAX
    assert answered(Reduce.SUM, [I64_MIN, -1, 1]) == I64_MIN
    assert answered(Reduce.SUM, [-(1 << 31), -(1 << 31)], I32) == -(1 << 32)


@pytest.mark.parametrize("values", [[I64_MAX, 1], [I64_MIN, -1], [I64_MAX] * 3])
def test_a_sum_that_does_not_fit(values: list[int]) -> None:
    verdict = decided(Reduce.SUM, values)
    assert (verdict.state, verdict.code, verdict.answer) == (State.FAILED, Code.OVERFLOW, None)
    assert "sum does not fit i64" in verdict.text
    wrapped = answered(Reduce.SUM, values, flags=WRAP)
    assert (wrapped - sum(values)) % (1 << 64) == 0 and I64_MIN <= wrapped <= I64_MAX


def test_products_at_the_edges() -> None:
    assert answered(Reduce.PRODUCT, [1 << 62, 2, -1]) == I64_MIN
    assert answered(Reduce.PRODUCT, [1 << 62, 2, 2, 0]) == 0
    assert decided(Reduce.PRODUCT, [1 << 62, 2]).code == Code.OVERFLOW
    assert decided(Reduce.PRODUCT, [I64_MIN, -1]).code == Code.OVERFLOW
    assert answered(Reduce.PRODUCT, [I64_MIN, -1], flags=WRAP) == I64_MIN
    assert answered(Reduce.PRODUCT, [1 << 32, 1 << 32, 7], flags=WRAP) == 0
    assert (answered(Reduce.PRODUCT, [-3] * 51, flags=WRAP) + 3**51) % (1 << 64) == 0


def test_bits_with_sign_extended() -> None:
    assert answered(Reduce.OR, [-(1 << 31), 1], I32) == -(1 << 31) + 1
    assert answered(Reduce.AND, [-1, 5], I32) == 5
    assert answered(Reduce.XOR, [-1, -1, -1], I32) == -1


def test_the_high_half_of_an_i32_is_no_part_of_it() -> None:
    for reduce in (Reduce.SUM, Reduce.FIRST):
        spec = spec_of(reduce, 1, result=I32)
        verdict = Reduction(spec, ledger_of([(0, packed(0xABCD << 32 | 0xFFFFFFFE))], 1)).look()
        assert verdict is not None and verdict.answer is not None
        assert number(*verdict.answer) == -2
    assert verdict.answer == (I32, 0xFFFFFFFE)


# ---- floats ----


def test_float_sums_are_of_this_order_and_no_better() -> None:
    values = [1e16, 1.0, 1.0, -1e16, 0.1, 0.2, 0.3]
    total = values[0]
    for value in values[1:]:
        total = total + value
    assert answered(Reduce.SUM, values, F64) == total != math.fsum(values)
    assert answered(Reduce.SUM, [1e16, 1.0, -1e16], F64) == 0.0
    assert answered(Reduce.SUM, [1e16, -1e16, 1.0], F64) == 1.0


def test_zeros_keep_their_sign() -> None:
    for values, least, greatest in [([0.0, -0.0], -1, 1), ([-0.0, 0.0], -1, 1), ([-0.0], -1, -1)]:
        for kind in FLOATS:
            assert math.copysign(1, answered(Reduce.MIN, values, kind)) == least
            assert math.copysign(1, answered(Reduce.MAX, values, kind)) == greatest
    assert math.copysign(1, answered(Reduce.SUM, [-0.0, -0.0], F64)) == -1
    assert math.copysign(1, answered(Reduce.PRODUCT, [-0.0], F64)) == -1


@pytest.mark.parametrize("reduce", [Reduce.SUM, Reduce.PRODUCT, Reduce.MIN, Reduce.MAX])
def test_a_nan_makes_the_canonical_one(reduce: Reduce) -> None:
    for nan in (NAN_BITS, 0xFFF8000000000000, 0x7FF8000000000001, 0x7FF0000000000001):
        for at in range(3):
            bits = [bits_for(F64, 1.0), bits_for(F64, -math.inf)]
            bits.insert(at, nan)
            ledger = ledger_of([(0, packed(*bits))], 3)
            verdict = Reduction(spec_of(reduce, 3, result=F64), ledger).look()
            assert verdict == Verdict(State.DONE, (F64, NAN_BITS))


def test_a_nan_that_arises_is_canonical() -> None:
    assert decided(Reduce.SUM, [math.inf, -math.inf], F64).answer == (F64, NAN_BITS)
    assert decided(Reduce.PRODUCT, [math.inf, 0.0], F32).answer == (F64, NAN_BITS)


def test_f32_values_are_combined_in_f64() -> None:
    big = plain(F32, bits_for(F32, 3e38))
    assert answered(Reduce.SUM, [big, big], F32) == big + big < math.inf


def test_a_found_nan_is_canonical() -> None:
    for kind, nan, canonical in [(F64, NAN_BITS | 5, NAN_BITS), (F32, 0xFFC00001, 0x7FC00000)]:
        ledger = ledger_of([(0, packed(nan))], 1)
        verdict = Reduction(spec_of(Reduce.FIRST, 1, result=kind), ledger).look()
        assert verdict == Verdict(State.DONE, (kind, canonical))


# ---- blocks ----


@pytest.mark.parametrize("kind", [I32, I64, F32, F64])
@pytest.mark.parametrize("reduce", Reduce)
def test_ranges_of_several_blocks(reduce: Reduce, kind: int) -> None:
    if kind in FLOATS and reduce in BITWISE:
        return
    slices = 2 * reductions._BLOCK + 77
    rng = random.Random(f"{reduce} {kind}")
    low = 1 if reduce == Reduce.PRODUCT else -1000
    numbers = [rng.randint(low, 1000) for _ in range(slices)]
    if reduce == Reduce.PRODUCT:
        numbers = [1 - 2 * (value % 2) for value in numbers]
    if reduce == Reduce.FIRST:
        numbers = [5] * (slices - 3) + [6, 7, 8]
    values = [bits_for(kind, value) for value in numbers]
    news: list[News] = [(0, packed(*values[:5000])), Failure(5000, 60)]
    news.append((5001, packed(*values[5001:])))
    spec = spec_of(reduce, slices, result=kind, flags=KEEP_GOING, missing=bits_for(kind, 5))
    ledger = ledger_of(news, slices)
    assert Reduction(spec, ledger).look() == verdict_of(spec, model_of(news))
    if reduce == Reduce.COLLECT:
        assert answer_list(spec, ledger) == numbers[:5000] + numbers[5001:]


# ---- first ----

NOTHING = packed(0)


def test_a_find_gives_up_what_is_behind_it_at_once() -> None:
    ledger = Ledger(100)
    reduction = Reduction(spec_of(Reduce.FIRST, 100), ledger)
    for first, value, end in [(50, 0, 100), (70, 3, 71), (80, 4, 71), (60, 0, 71), (10, 9, 11)]:
        ledger.merge(first, packed(value))
        assert reduction.look() is None and reduction.needed_end == end
    ledger.merge(0, NOTHING * 10)
    assert reduction.look() == Verdict(State.DONE, (I64, 9))


def test_finds_from_before_the_reduction_count() -> None:
    ledger = ledger_of([(70, packed(3))], 100)
    reduction = Reduction(spec_of(Reduce.FIRST, 100), ledger)
    assert reduction.look() is None and reduction.needed_end == 71


def test_a_failure_behind_a_find_does_not_count() -> None:
    ledger = ledger_of([Failure(3, 60), (2, packed(1))], 9)
    reduction = Reduction(spec_of(Reduce.FIRST, 9), ledger)
    assert reduction.look() is None
    ledger.merge(0, NOTHING * 2)
    assert reduction.look() == Verdict(State.DONE, (I64, 1))


def test_a_failure_before_a_find_counts_once_all_before_it_are_done() -> None:
    ledger = ledger_of([Failure(2, 60, "trap: unreachable executed"), (3, packed(1))], 9)
    reduction = Reduction(spec_of(Reduce.FIRST, 9), ledger)
    assert reduction.look() is None
    ledger.merge(0, NOTHING * 2)
    verdict = reduction.look()
    assert verdict is not None and verdict.code == 60 and verdict.answer is None
    assert verdict.text == "slice 2 [20, 30): trap: unreachable executed"


def test_a_failure_passed_over_may_be_done_after_all() -> None:
    ledger = ledger_of([(0, NOTHING), Failure(1, 84), (2, NOTHING)], 9)
    reduction = Reduction(spec_of(Reduce.FIRST, 9, flags=KEEP_GOING), ledger)
    assert reduction.look() is None and reduction.needed_end == 9
    ledger.merge(1, packed(4))
    assert reduction.look() == Verdict(State.DONE, (I64, 4)) and reduction.needed_end == 2


def test_a_find_that_was_a_lie_is_taken_back() -> None:
    ledger = ledger_of([(2, packed(4))], 9)
    reduction = Reduction(spec_of(Reduce.FIRST, 9), ledger)
    assert reduction.look() is None and reduction.needed_end == 3
    ledger.merge(2, NOTHING)
    assert reduction.look() is None and reduction.needed_end == 9
    ledger.merge(0, NOTHING * 9)
    assert reduction.look() == Verdict(State.DONE, (I64, 0))


def test_a_resume_begins_anew() -> None:
    ledger = ledger_of([(0, NOTHING), Failure(1, 60)], 3)
    reduction = Reduction(spec_of(Reduce.FIRST, 3), ledger)
    verdict = reduction.look()
    assert verdict is not None and verdict.state == State.FAILED
    ledger.forget_failures()
    assert reduction.look() is None
    ledger.merge(1, NOTHING * 2)
    assert Reduction(spec_of(Reduce.FIRST, 3), ledger).look() == Verdict(State.DONE, (I64, 0))


# ---- failures ----


def test_the_lowest_failed_slice_is_named_with_its_bounds() -> None:
    ledger = ledger_of([Failure(17, 60, "trap: unreachable executed"), Failure(30, 61)], 100)
    verdict = Reduction(spec_of(Reduce.SUM, 100), ledger).look()
    text = "slice 17 [170, 180): trap: unreachable executed"
    assert verdict == Verdict(State.FAILED, None, 60, text)
    ledger.merge(17, NOTHING)
    verdict = Reduction(spec_of(Reduce.SUM, 100), ledger).look()
    assert verdict == Verdict(State.FAILED, None, 61, "slice 30 [300, 310): error 61")


def test_keep_going_with_nothing_left() -> None:
    ledger = ledger_of([Failure(0, 61), Failure(1, 60)], 2)
    look = partial(spec_of, slices=2, flags=KEEP_GOING, missing=5)
    for reduce, bits in [(Reduce.SUM, 0), (Reduce.PRODUCT, 1), (Reduce.FIRST, 5)]:
        assert Reduction(look(reduce), ledger).look() == Verdict(State.DONE, (I64, bits))
    for reduce in (Reduce.MIN, Reduce.MAX):
        verdict = Reduction(look(reduce), ledger).look()
        assert verdict == Verdict(State.FAILED, None, 61, "slice 0 [0, 10): error 61")
    assert answer_list(look(Reduce.COLLECT), ledger) == []


# ---- empty ranges and specs ----


@pytest.mark.parametrize(
    ("reduce", "kind", "answer"),
    [
        (Reduce.SUM, I32, (I64, 0)),
        (Reduce.SUM, F32, (F64, 0)),
        (Reduce.PRODUCT, I64, (I64, 1)),
        (Reduce.PRODUCT, F64, (F64, bits_for(F64, 1.0))),
        (Reduce.AND, I32, (I64, (1 << 64) - 1)),
        (Reduce.OR, I64, (I64, 0)),
        (Reduce.XOR, I64, (I64, 0)),
        (Reduce.FIRST, I32, (I32, 7)),
        (Reduce.ALL, I32, None),
        (Reduce.COLLECT, F64, None),
    ],
)
def test_an_empty_range(reduce: Reduce, kind: int, answer: tuple[int, int] | None) -> None:
    spec, ledger = spec_of(reduce, 0, result=kind, missing=7), Ledger(0)
    assert Reduction(spec, ledger).look() == Verdict(State.DONE, answer)
    assert answer is not None or answer_list(spec, ledger) == []


GOOD = spec_of(Reduce.SUM, 5)


@pytest.mark.parametrize(
    ("spec", "wrong"),
    [
        (spec_of(Reduce.MIN, 0), "an empty range has no min"),
        (spec_of(Reduce.MAX, 0, result=F64), "an empty range has no max"),
        (spec_of(Reduce.XOR, 5, result=F32), "xor takes integers, and the function returns f32"),
        (spec_of(Reduce.FIRST, 5, result=I32, missing=1 << 32), "0x100000000 is no i32"),
        (spec_of(Reduce.ALL, 5, missing=1 << 64), "is no i64"),
        (spec_of(Reduce.ALL, 5, missing=-1), "is no i64"),
        (spec_of(Reduce.FIRST, 5, result=F64, missing=NAN_BITS + 1), "is no f64"),
        (GOOD._replace(reduce=0), "unknown reduction"),
        (GOOD._replace(reduce=11), "unknown reduction"),
        (GOOD._replace(result=0x70), "unknown reduction or type"),
        (GOOD._replace(args=()), "first two parameters"),
        (GOOD._replace(args=((I64, 0), (I32, 50))), "of one type"),
        (GOOD._replace(args=((F64, 0), (F64, 50))), "must be i32 or i64"),
        (GOOD._replace(args=((I32, 0), (I32, 1 << 32))), "do not fit i32"),
        (GOOD._replace(args=((I64, 9), (I64, 8))), "ends at 8, before its start 9"),
        (GOOD._replace(args=((I64, 0), (I64, 4))), "5 slices of a range of 4"),
        (GOOD._replace(slices=0), "0 slices of a range of 50"),
        (GOOD._replace(slices=-1), "-1 slices"),
        (GOOD._replace(args=((I64, 0), (I64, 1 << 40)), slices=SLICES_MAX + 1), "1048577 slices"),
    ],
)
def test_specs_without_an_answer(spec: Spec, wrong: str) -> None:
    text = check_spec(spec)
    assert text is not None and wrong in text
    with pytest.raises(ValueError):
        Reduction(spec, Ledger(min(max(spec.slices, 0), SLICES_MAX)))


@pytest.mark.parametrize(
    "spec",
    [
        GOOD,
        GOOD._replace(missing=1 << 70),  # which a sum does not look at
        GOOD._replace(args=((I64, 1 << 63), (I64, (1 << 63) - 1)), slices=SLICES_MAX),
        GOOD._replace(args=((I32, 1 << 31), (I32, (1 << 31) - 1), (F32, 5))),
        spec_of(Reduce.FIRST, 5, result=I32, missing=0xFFFFFFFF),
        spec_of(Reduce.FIRST, 5, result=F64, missing=NAN_BITS),
        spec_of(Reduce.ALL, 5, result=F32, missing=0x7FC00000),
    ],
)
def test_specs_with_one(spec: Spec) -> None:
    assert check_spec(spec) is None
    assert Reduction(spec, Ledger(spec.slices)).look() is None


def test_a_ledger_of_another_job_is_refused() -> None:
    with pytest.raises(ValueError):
        Reduction(GOOD, Ledger(4))


# ---- numbers ----


@given(st.sampled_from([I32, I64, F32, F64]), st.data())
def test_numbers_and_bits_are_each_others_inverse(kind: int, data: st.DataObject) -> None:
    bits = data.draw(values_of(kind))
    value = number(kind, bits)
    assert bits_of(kind, value) == bits
    assert value == plain(kind, bits) or math.isnan(value)
    assert type(value) is (float if kind in FLOATS else int)


def test_numbers_are_rounded_to_their_type() -> None:
    assert bits_of(F32, 0.1) == 0x3DCCCCCD and number(F32, 0x3DCCCCCD) != 0.1
    assert bits_of(F64, 3) == bits_of(F64, 3.0) and bits_of(F32, -0.0) == 1 << 31
    assert bits_of(F32, math.nan) == 0x7FC00000 and bits_of(F64, -math.nan) == NAN_BITS
    assert bits_of(F32, math.inf) == 0x7F800000


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (I32, 1 << 31),
        (I32, -(1 << 31) - 1),
        (I64, 1 << 63),
        (I64, 1.0),
        (I64, math.nan),
        (I32, True),
        (F64, True),
        pytest.param(F64, 1 << 1024, id="f64-huge"),
        pytest.param(F32, 1 << 1024, id="f32-huge"),
        (F32, 1e39),
        (I64, "1"),
        (F64, None),
    ],
)
def test_what_does_not_fit_is_refused(kind: int, value: float) -> None:
    with pytest.raises(ValueError):
        bits_of(kind, value)


# ---- a million slices: by lines of Python run ----


def full(letter: str, value: float) -> Ledger:
    ledger = Ledger(SLICES_MAX)
    ledger.merge(0, struct.pack("<" + letter, value) * SLICES_MAX)
    return ledger


@pytest.mark.parametrize(
    ("reduce", "kind", "value"),
    [
        (Reduce.SUM, I64, 3),
        (Reduce.SUM, F64, 0.5),
        (Reduce.PRODUCT, I64, 7),
        (Reduce.PRODUCT, I64, 0),
        (Reduce.MIN, I64, -5),
        (Reduce.MAX, I64, 5),
        (Reduce.FIRST, I64, 3),
    ],
)
def test_a_million_values_are_not_combined_one_by_one(
    reduce: Reduce, kind: int, value: float
) -> None:
    ledger = full("q" if kind == I64 else "d", value)
    spec = spec_of(reduce, SLICES_MAX, result=kind, missing=bits_for(I64, 3))
    reduction = Reduction(spec, ledger)
    assert lines_run(reductions, reduction.look) < 6000  # a few for each 4,096 slices
    assert lines_run(reductions, reduction.look) < 10


def test_looking_after_each_merge_costs_what_the_merge_brought() -> None:
    ledger = Ledger(SLICES_MAX)
    reduction = Reduction(spec_of(Reduce.FIRST, SLICES_MAX, missing=0), ledger)
    ledger.merge(0, bytes(8 * 700_000))
    ledger.merge(900_000, bytes(8 * 100_000))
    reduction.look()
    for first in (700_000, 700_001, 800_000, 850_000):
        ledger.merge(first, NOTHING)
        assert lines_run(reductions, reduction.look) < 60
    ledger.merge(850_001, packed(1))
    assert lines_run(reductions, reduction.look) < 60 and reduction.needed_end == 850_002


def test_a_float_sum_is_not_the_built_in_one() -> None:
    """Which gives other bits since Python 3.12; this holds on every version."""
    values = [0.1] * 10
    assert answered(Reduce.SUM, values, F64) == 0.9999999999999999
    assert sys.version_info < (3, 12) or sum(values) == 1.0
