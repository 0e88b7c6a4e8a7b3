"""The core's BLAKE3 against another implementation: the reference authors' own, in Rust."""

from __future__ import annotations

import random

import blake3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from velum import _core

# Around the edges of blocks (64), of BLAKE3's chunks (1024) and of the subtrees that its vector
# code takes at once (2 to 16 chunks), up to the largest chunk of a file.
CHUNKS = (1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 64, 100, 256, 1024, 8192)
EDGES = (0, 1, 64, 128, *(1024 * chunks for chunks in CHUNKS))
LENGTHS = sorted({edge + by for edge in EDGES for by in (-1, 0, 1) if edge + by >= 0})
PATTERN = bytes(range(251)) * (max(LENGTHS) // 251 + 1)  # the input of BLAKE3's own test vectors


def expected(data: bytes) -> bytes:
    return bytes(blake3.blake3(data).digest())


@pytest.mark.parametrize("length", LENGTHS)
def test_lengths(length: int) -> None:
    data = PATTERN[:length]
    assert _core.chunk_key(data) == expected(data)


@given(st.binary(max_size=5000))
def test_bytes(data: bytes) -> None:
    assert _core.chunk_key(data) == expected(data)


@given(st.integers(0, 300_000), st.integers(0, 2**32))
def test_any_length(length: int, seed: int) -> None:
    data = random.Random(seed).randbytes(length)
    assert _core.chunk_key(data) == expected(data)
