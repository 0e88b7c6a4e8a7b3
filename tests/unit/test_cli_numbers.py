"""The notations of a command line, by example and by round trip."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from velum.cli import numbers


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("10", 10),
        ("-3", -3),
        (" -3", -3),
        ("007", 7),
        ("1_000", 1000),
        ("0xff", 255),
        ("-0x10", -16),
        ("0b101", 5),
        ("2.5", 2.5),
        ("-1e3", -1000.0),
        (".5", 0.5),
        ("inf", math.inf),
    ],
)
def test_number(word: str, value: float) -> None:
    found = numbers.number(word)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("word", ["", "ten", "1,000", "0x", "--5", "1 2", "five"])
def test_no_number(word: str) -> None:
    with pytest.raises(ValueError, match="not a number"):
        numbers.number(word)


@given(st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False))
def test_every_number_reads_back(value: float) -> None:
    found = numbers.call_number(repr(value))
    assert (found, type(found)) == (value, type(value))


@given(st.text())
def test_any_text_is_a_number_or_a_value_error(text: str) -> None:
    for read in (
        numbers.number,
        numbers.whole_number,
        numbers.seconds,
        numbers.size,
        numbers.port,
        numbers.address,
    ):
        try:
            read(text)
        except ValueError as error:
            assert str(error)


def test_range_of_integers() -> None:
    assert numbers.call_number(str(2**63 - 1)) == 2**63 - 1
    assert numbers.wasm_number("0xffffffffffffffff") == 2**64 - 1
    for word in (str(2**63), str(-(2**63) - 1)):
        with pytest.raises(ValueError, match="64-bit"):
            numbers.call_number(word)
    with pytest.raises(ValueError, match="64 bits"):
        numbers.wasm_number(str(2**64))


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("10_000_000", 10_000_000),
        ("0x1e1", 481),
        ("1e8", 100_000_000),
        ("2.50e3", 2500),
        ("-1E+2", -100),
        ("0e99", 0),
        (str(-(2**63)), -(2**63)),
        ("9007199254740993e0", 9007199254740993),
    ],
)
def test_whole_number(word: str, value: int) -> None:
    assert numbers.whole_number(word) == value


@pytest.mark.parametrize("word", ["1.5", "1.25e1", "1e-3", "1e19", "1e999", "inf", "", "e8"])
def test_no_whole_number(word: str) -> None:
    with pytest.raises(ValueError, match="no integer|64 bits"):
        numbers.whole_number(word)


@pytest.mark.parametrize(
    ("word", "value"), [("5", 5.0), ("0.2", 0.2), ("500ms", 0.5), ("2min", 120.0), ("1h", 3600.0)]
)
def test_seconds(word: str, value: float) -> None:
    assert numbers.seconds(word) == pytest.approx(value)


@pytest.mark.parametrize("word", ["0", "-1", "inf", "nan", "soon", "5 parsecs", "ms"])
def test_no_seconds(word: str) -> None:
    with pytest.raises(ValueError):
        numbers.seconds(word)


@pytest.mark.parametrize(
    ("word", "value"),
    [("65536", 65536), ("64K", 65536), ("256M", 256 << 20), ("1GiB", 1 << 30), ("0.5mb", 1 << 19)],
)
def test_size(word: str, value: int) -> None:
    assert numbers.size(word) == value


@pytest.mark.parametrize("word", ["0", "-1M", "M", "12X", "inf", "nan", "1e999"])
def test_no_size(word: str) -> None:
    with pytest.raises(ValueError):
        numbers.size(word)


def test_guest_memory_is_a_page_to_four_gib() -> None:
    assert numbers.guest_memory("64K") == numbers.PAGE_BYTES
    assert numbers.guest_memory("4G") == 1 << 32
    for word in ("1K", "5G"):
        with pytest.raises(ValueError, match="between"):
            numbers.guest_memory(word)


def test_address() -> None:
    assert numbers.address("10.0.0.1:8001") == "10.0.0.1:8001"
    assert numbers.address("8001") == "127.0.0.1:8001"
    assert numbers.address(" board.local:9 ") == "board.local:9"
    for word in ("", "host", "host:", ":8001", "host:0", "host:65536", "host:x"):
        with pytest.raises(ValueError, match="host:port"):
            numbers.address(word)


def test_bounded_numbers() -> None:
    assert numbers.node_id("65535") == 65535
    assert numbers.port("0") == 0
    assert numbers.workers("0") == 0
    assert numbers.count("1") == 1
    assert numbers.priority("100") == 100
    assert numbers.slice_count("1_048_576") == 1 << 20
    for read, word in (
        (numbers.node_id, "0"),
        (numbers.node_id, "65536"),
        (numbers.port, "-1"),
        (numbers.workers, "256"),
        (numbers.count, "0"),
        (numbers.demo_nodes, "1"),
        (numbers.count, "2.5"),
        (numbers.priority, "0"),
        (numbers.priority, "101"),
        (numbers.slice_count, "1048577"),
    ):
        with pytest.raises(ValueError):
            read(word)
