"""The ledger against a dictionary, by example and in every order."""

from __future__ import annotations

import random
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.scatter_models import (
    Model,
    News,
    checksum_of,
    ledger_of,
    lines_run,
    model_of,
    packed,
    tell,
)
from velum.policy import ledger as ledgers
from velum.policy.job import Failure, Run
from velum.policy.ledger import DONE, FAILED, TEXTS_MAX, UNKNOWN, Ledger
from velum.policy.slices import SLICES_MAX, Spans

SLICES = 24


def check_against(ledger: Ledger, model: Model) -> None:
    """Everything a ledger tells, against the model."""
    slices = ledger.slices
    of = {state: [i for i, (s, _) in model.items() if s == state] for state in (FAILED, DONE)}
    assert (ledger.done, ledger.failed) == (len(of[DONE]), len(of[FAILED]))
    assert ledger.unknown == slices - len(model)
    for index in range(slices):
        state, bits = model.get(index, (UNKNOWN, 0))
        assert ledger.state(index) == state
        assert ledger.bits(index) == (bits if state == DONE else 0)
        assert ledger.code(index) == (bits if state == FAILED else 0)
    unknown = Spans((i, i + 1) for i in range(slices) if i not in model)
    assert ledger.unknown_spans() == unknown
    assert ledger.missing_in(0, slices) == list(unknown)
    runs = list(ledger.done_runs())
    assert [(first, first + len(data) // 8) for first, data in runs] == list(
        Spans((i, i + 1) for i in of[DONE])
    )
    assert model_of(runs) == {i: model[i] for i in of[DONE]}
    assert [(f.slice, f.code) for f in ledger.failures()] == [
        (i, model[i][1]) for i in sorted(of[FAILED])
    ]
    assert ledger.checksum() == checksum_of(model, slices)


BITS = st.sampled_from([0, 1, 2, 255, 1 << 63, (1 << 64) - 1])
RUNS = st.tuples(st.integers(0, SLICES - 1), st.lists(BITS, min_size=1, max_size=SLICES)).map(
    lambda run: (run[0], packed(*run[1][: SLICES - run[0]]))
)
FAILURES = st.builds(
    Failure,
    st.integers(0, SLICES - 1),
    st.sampled_from([1, 60, 83, 0xFFFF]),
    st.sampled_from(["", "a", "b"]),
)
NEWS = st.lists(RUNS | FAILURES, max_size=12)


@given(NEWS)
def test_it_is_the_model(news: list[News]) -> None:
    check_against(ledger_of(news, SLICES), model_of(news))


@given(NEWS, st.randoms(use_true_random=False))
def test_order_repetition_and_cuts_do_not_matter(news: list[News], rng: random.Random) -> None:
    pieces: list[News] = []
    for item in news:
        if isinstance(item, tuple) and rng.random() < 0.5:
            first, data = item
            cut = 8 * rng.randint(0, len(data) // 8)
            pieces += [(first, data[:cut]), (first + cut // 8, data[cut:])]
        else:
            pieces.append(item)
    pieces += rng.choices(pieces, k=4) if pieces else []
    rng.shuffle(pieces)
    one, other = ledger_of(news, SLICES), ledger_of(pieces, SLICES)
    assert one.checksum() == other.checksum()
    assert bytes(one.values()) == bytes(other.values())
    check_against(other, model_of(news))


@given(NEWS, NEWS)
def test_copies_that_hear_of_each_other_are_equal(here: list[News], there: list[News]) -> None:
    one, other = ledger_of(here, SLICES), ledger_of(there, SLICES)
    for item in [*other.done_runs(), *other.failures()]:
        tell(one, item)
    for item in [*one.done_runs(), *one.failures()]:
        tell(other, item)
    assert one.checksum() == other.checksum()
    assert one.failures() == other.failures()
    check_against(one, model_of(here + there))


@given(NEWS, RUNS)
def test_a_merge_tells_what_is_newly_done(news: list[News], run: Run) -> None:
    ledger = ledger_of(news, SLICES)
    ledger.news = Spans([(0, 1)])
    done = {i for i, (state, _) in model_of(news).items() if state == DONE}
    first, data = run
    gained = ledger.merge(first, data)
    expected = Spans((i, i + 1) for i in range(first, first + len(data) // 8) if i not in done)
    assert gained == list(expected)
    expected.add(0, 1)
    assert ledger.news == expected


@given(NEWS, st.lists(st.tuples(st.integers(0, SLICES), st.integers(0, SLICES)), max_size=5))
def test_parts_of_it(news: list[News], edges: list[tuple[int, int]]) -> None:
    ledger, model = ledger_of(news, SLICES), model_of(news)
    spans = [(min(pair), max(pair)) for pair in edges]
    runs = list(ledger.done_runs(spans))
    inside = [i for first, end in spans for i in range(first, end)]
    assert [i for first, data in runs for i in range(first, first + len(data) // 8)] == [
        i for i in inside if ledger.state(i) == DONE
    ]
    for first, end in spans:
        missing = [i for low, high in ledger.missing_in(first, end) for i in range(low, high)]
        assert missing == [i for i in range(first, end) if i not in model]
        walked = list(ledger.runs(first, end))
        assert [i for _, low, high in walked for i in range(low, high)] == [*range(first, end)]
        assert all(ledger.state(i) == state for state, low, high in walked for i in (low, high - 1))
        assert all(a[0] != b[0] for a, b in zip(walked, walked[1:], strict=False))


@given(NEWS)
def test_a_resume_forgets_failures_and_nothing_else(news: list[News]) -> None:
    ledger, model = ledger_of(news, SLICES), model_of(news)
    revisions = ledger.revisions
    ledger.forget_failures()
    ledger.validate()
    check_against(ledger, {i: entry for i, entry in model.items() if entry[0] == DONE})
    failed = any(state == FAILED for state, _ in model.values())
    assert (ledger.revisions > revisions) == failed


def test_a_value_beats_a_failure_whichever_comes_first() -> None:
    ledger = ledger_of([Failure(3, 60, "trap"), (2, packed(7, 8))], 5)
    assert (ledger.state(3), ledger.bits(3), ledger.failed, ledger.revisions) == (DONE, 8, 0, 1)
    assert not ledger.merge_failure(Failure(3, 60, "trap")) and ledger.failures() == []
    assert ledger.disagreements == 0


def test_the_checksum_is_of_these_bytes() -> None:
    ledger = ledger_of([(2, packed(0x0102030405060708)), Failure(1, 60)], 3)
    values = bytes(8) + b"\x3c" + bytes(7) + bytes([8, 7, 6, 5, 4, 3, 2, 1])
    assert ledger.checksum() == zlib.crc32(b"\x00\x01\x02" + values)


def test_values_that_differ_are_counted_and_the_smaller_holds() -> None:
    ledger = ledger_of([(0, packed(5, 5, 5, 5))], 4)
    assert ledger.merge(0, packed(5, 9, 2, 5)) == []
    assert (ledger.disagreements, ledger.revisions) == (2, 1)
    assert [ledger.bits(index) for index in range(4)] == [5, 5, 2, 5]
    ledger.merge(0, packed(5, 5, 2, 5))
    assert ledger.disagreements == 2


def test_patterns_are_compared_without_sign() -> None:
    ledger = ledger_of([(0, packed(1 << 63)), (0, packed(1))], 1)
    assert ledger.bits(0) == 1
    ledger.merge(0, packed(0xFFFFFFFFFFFFFFFF))
    assert ledger.bits(0) == 1 and ledger.disagreements == 2


def test_the_smaller_code_holds_with_its_text() -> None:
    ledger = Ledger(2)
    assert ledger.merge_failure(Failure(1, 83, "poison"))
    assert ledger.merge_failure(Failure(1, 60, "b")) and ledger.revisions == 1
    assert not ledger.merge_failure(Failure(1, 83, "poison"))
    assert not ledger.merge_failure(Failure(1, 60, "c"))
    assert not ledger.merge_failure(Failure(1, 60))
    assert ledger.merge_failure(Failure(1, 60, "a"))
    assert ledger.failure(1) == Failure(1, 60, "a") and ledger.failed == 1
    assert ledger.merge_failure(Failure(1, 50)) and ledger.failure(1) == Failure(1, 50)


@given(st.permutations(range(TEXTS_MAX + 6)))
def test_texts_of_the_lowest_failures_only(order: list[int]) -> None:
    ledger = Ledger(TEXTS_MAX + 6)
    for index in order:
        assert ledger.merge_failure(Failure(index, 60, f"text {index}"))
    ledger.validate()
    texts = [failure.text for failure in ledger.failures()]
    assert texts == [f"text {i}" for i in range(TEXTS_MAX)] + [""] * 6
    assert not ledger.merge_failure(Failure(TEXTS_MAX, 60, "no room"))
    assert [failure.slice for failure in ledger.failures(3)] == [0, 1, 2]
    assert ledger.failures(0) == []


def test_what_is_not_of_the_job_is_refused_and_changes_nothing() -> None:
    ledger = ledger_of([(0, packed(1)), Failure(1, 60)], 3)
    before = ledger.checksum()
    for first, data in [(-1, packed(1)), (2, packed(1, 2)), (3, packed(1)), (4, b""), (0, b"1234")]:
        with pytest.raises(ValueError):
            ledger.merge(first, data)
    for index, code in [(-1, 60), (3, 60), (2, 0), (2, 0x10000), (2, -1)]:
        with pytest.raises(ValueError):
            ledger.merge_failure(Failure(index, code))
    for ask in (ledger.state, ledger.bits, ledger.code, ledger.failure):
        for index in (-1, 3):
            with pytest.raises(ValueError):
                ask(index)
    for index in (0, 2):
        with pytest.raises(ValueError):
            ledger.failure(index)
    with pytest.raises(ValueError):
        ledger.missing_in(0, 4)
    with pytest.raises(ValueError):
        list(ledger.done_runs([(2, 1)]))
    for slices in (-1, SLICES_MAX + 1):
        with pytest.raises(ValueError):
            Ledger(slices)
    assert ledger.checksum() == before


def test_an_empty_job() -> None:
    ledger = Ledger(0)
    assert ledger.merge(0, b"") == [] and ledger.unknown == 0 and not ledger.unknown_spans()
    assert list(ledger.done_runs()) == [] and ledger.checksum() == 0
    ledger.forget_failures()
    ledger.validate()


def test_the_view_of_values_goes_on_and_cannot_be_written() -> None:
    ledger = Ledger(2)
    view = ledger.values()
    ledger.merge(1, packed(7))
    ledger.merge_failure(Failure(0, 60))
    assert bytes(view) == packed(60, 7) and view.readonly


@pytest.mark.parametrize(
    ("name", "first", "data"),
    [
        ("_states", 0, b"\x02"),  # one more than was counted
        ("_values", 16, packed(1)),  # an unknown slice's value
        ("_values", 8, packed(1 << 16)),  # no code of a failed one
        ("_values", 8, packed(0)),
        ("_values", 24, b""),  # too short
    ],
)
def test_validate_sees_a_ledger_that_contradicts_itself(name: str, first: int, data: bytes) -> None:
    ledger = ledger_of([(3, packed(1)), Failure(1, 60)], 4)
    getattr(ledger, name)[first : first + max(1, len(data))] = data
    with pytest.raises(AssertionError):
        ledger.validate()


# ---- a million slices: by lines of Python run, which no load on the machine changes ----


def test_a_million_slices_are_not_looked_at_one_by_one() -> None:
    ledger, full = Ledger(SLICES_MAX), bytes(8 * SLICES_MAX)
    ledger.merge_failure(Failure(SLICES_MAX // 2, 60))
    assert lines_run(ledgers, lambda: ledger.merge(0, full)) < 3000  # a few for each 4,096 slices
    assert ledger.done == SLICES_MAX and ledger.failed == 0
    assert lines_run(ledgers, lambda: ledger.merge(0, full)) < 3000
    assert lines_run(ledgers, lambda: ledger.merge(SLICES_MAX - 1, bytes(8))) < 50
    assert lines_run(ledgers, lambda: list(ledger.done_runs())) < 3000
    assert lines_run(ledgers, ledger.checksum) < 10
    assert lines_run(ledgers, ledger.failures) < 10
    assert lines_run(ledgers, ledger.validate) < 3000


def test_a_million_slices_take_nine_megabytes() -> None:
    ledger = Ledger(SLICES_MAX)
    sizes = [sys.getsizeof(getattr(ledger, name)) for name in ("_states", "_values")]
    assert sum(sizes) < 9 * SLICES_MAX + 1000


def test_runs_longer_than_a_window_and_borders_at_its_edges() -> None:
    window = ledgers._WINDOW
    for edge in (window - 1, window, window + 1, 2 * window):
        ledger = Ledger(3 * window)
        ledger.merge(0, bytes(8 * edge))
        assert list(ledger.runs(0, 3 * window)) == [(DONE, 0, edge), (UNKNOWN, edge, 3 * window)]
        assert ledger.run_end(0, edge - 1) == edge - 1
        ledger.merge(edge + 1, bytes(8))
        assert ledger.missing_in(edge - 1, edge + 2) == [(edge, edge + 1)]
