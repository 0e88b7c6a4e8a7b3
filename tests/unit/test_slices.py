"""Where a range is cut, and sets of slices, against plain arithmetic and plain sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from velum.policy.slices import SLICES_DEFAULT, SLICES_MAX, Spans, slice_bounds, slice_count

I64_MIN, I64_MAX = -(1 << 63), (1 << 63) - 1


@st.composite
def cuts(draw: st.DrawFn) -> tuple[int, int, int]:
    """A range that is not empty, and a number of slices that fits it."""
    start = draw(st.integers(I64_MIN, I64_MAX - 1) | st.integers(-5, 5))
    length = draw(st.integers(1, 50) | st.integers(1, I64_MAX - start))
    end = min(start + length, I64_MAX)
    slices = draw(st.integers(1, 50) | st.integers(1, SLICES_MAX))
    return start, end, min(slices, end - start)


@given(cuts(), st.data())
def test_each_slice_begins_where_the_one_before_ends(
    cut: tuple[int, int, int], data: st.DataObject
) -> None:
    start, end, slices = cut
    index = data.draw(st.integers(0, slices - 1))
    low, high = slice_bounds(start, end, slices, index)
    quotient, rest = divmod(end - start, slices)
    assert low == start + quotient * index + rest * index // slices  # docs/scatter.md, 1
    assert high - low in (quotient, quotient + (rest > 0)) and high > low
    if index == 0:
        assert low == start
    if index + 1 < slices:
        assert slice_bounds(start, end, slices, index + 1)[0] == high
    else:
        assert high == end


@given(st.integers(-100, 100), st.integers(1, 300), st.data())
def test_the_slices_are_the_range(start: int, length: int, data: st.DataObject) -> None:
    slices = data.draw(st.integers(1, length))
    bounds = [slice_bounds(start, start + length, slices, index) for index in range(slices)]
    numbers = [number for low, high in bounds for number in range(low, high)]
    assert numbers == list(range(start, start + length))
    sizes = [high - low for low, high in bounds]
    assert max(sizes) - min(sizes) <= 1


def test_the_whole_of_64_bits_is_cut_exactly() -> None:
    assert slice_bounds(I64_MIN, I64_MAX, 1, 0) == (I64_MIN, I64_MAX)
    assert slice_bounds(I64_MIN, I64_MAX, 2, 0) == (I64_MIN, -1)
    assert slice_bounds(I64_MIN, I64_MAX, SLICES_MAX, SLICES_MAX - 1)[1] == I64_MAX
    assert [slice_bounds(0, 10, 3, index) for index in range(3)] == [(0, 3), (3, 6), (6, 10)]


@pytest.mark.parametrize(
    ("length", "wanted", "count"),
    [
        (0, SLICES_DEFAULT, 0),
        (1, SLICES_DEFAULT, 1),
        (4095, SLICES_DEFAULT, 4095),
        (1 << 63, SLICES_DEFAULT, 4096),
        (10, 3, 3),
        (1 << 40, SLICES_MAX, SLICES_MAX),
    ],
)
def test_a_short_range_has_fewer_slices(length: int, wanted: int, count: int) -> None:
    assert slice_count(-7, length - 7, wanted) == count


# ---- sets ----

EDGES = st.integers(0, 40)
CHANGES = st.lists(st.tuples(st.sampled_from(["add", "remove", "take"]), EDGES, EDGES), max_size=30)


def members(spans: Spans) -> set[int]:
    return {index for first, end in spans for index in range(first, end)}


def check_form(spans: Spans) -> None:
    """Runs are not empty, ascend and do not touch, and all ways of counting agree."""
    edges = [edge for span in spans for edge in span]
    assert edges == sorted(set(edges))
    assert len(spans) == len(members(spans)) and bool(spans) == bool(edges)
    assert spans.runs == len(edges) // 2
    assert spans.first() == (tuple(edges[:2]) if edges else None)


@given(CHANGES, EDGES, EDGES)
def test_spans_are_a_set(changes: list[tuple[str, int, int]], low: int, high: int) -> None:
    spans, model = Spans(), set[int]()
    for change, first, end in changes:
        before = spans.copy()
        if change == "add":
            spans.add(first, end)
            model |= set(range(first, end))
        elif change == "remove":
            spans.remove(first, end)
            model -= set(range(first, end))
        else:
            check_take(spans, model, first)
        assert members(spans) == model
        check_form(spans)
        assert (before == spans) == (members(before) == model)
    assert all((index in spans) == (index in model) for index in range(-1, 42))
    inside = list(spans.within(low, high))
    assert all(first < end for first, end in inside)
    assert members(Spans(inside)) == model & set(range(low, high))
    assert Spans(inside).runs == len(inside)
    assert Spans(spans) == spans and repr(spans) == f"Spans({list(spans)})"


def check_take(spans: Spans, model: set[int], count: int) -> None:
    """Takes from both; what is taken begins the lowest run."""
    lowest = spans.first()
    taken = spans.take(count)
    if lowest is None or count == 0:
        assert taken is None
        return
    assert taken == (lowest[0], min(lowest[1], lowest[0] + count))
    model -= set(range(*taken))


def test_runs_that_touch_become_one() -> None:
    spans = Spans([(0, 2), (4, 6)])
    spans.add(2, 4)
    assert list(spans) == [(0, 6)] and spans.runs == 1
    spans.remove(2, 4)
    assert list(spans) == [(0, 2), (4, 6)] and len(spans) == 4
    spans.add(10, 12)
    spans.add(1, 11)
    assert list(spans) == [(0, 12)]


def test_nothing_lies_within_nothing() -> None:
    spans = Spans([(0, 10)])
    assert list(spans.within(5, 5)) == [] and list(spans.within(7, 5)) == []
    assert spans.take(0) is None and spans.take(-1) is None and len(spans) == 10


def test_a_set_may_be_changed_while_it_is_walked() -> None:
    spans = Spans([(0, 2), (4, 6), (8, 10)])
    for span in spans:
        spans.remove(*span)
    assert not spans
    spans = Spans([(0, 2), (4, 6), (8, 10)])
    for span in spans.within(1, 9):
        spans.remove(*span)
    assert list(spans) == [(0, 1), (9, 10)]


def test_a_copy_is_another_set() -> None:
    spans = Spans([(0, 4)])
    copy = spans.copy()
    copy.remove(0, 1)
    assert list(spans) == [(0, 4)] and len(copy) == 3 and spans != copy
    assert spans != [(0, 4)]
