"""Reed-Solomon stripes: parity of data shards, and data shards out of any k.

Owns the one place where zfec is called. Refuses to know where shards lie. A stripe's shards are of
equal length; the last stripe of a file is filled up with zeros. About 1.4 GB of data a second for
4+2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Buffer


@lru_cache(maxsize=16)
def _encoder(k: int, m: int) -> Any:
    import zfec  # here, because few files are in stripes

    return zfec.Encoder(k, k + m)


@lru_cache(maxsize=16)
def _decoder(k: int, m: int) -> Any:
    import zfec

    return zfec.Decoder(k, k + m)


def parity(data: Sequence[Buffer], m: int) -> list[bytes]:
    """The m parity shards of k data shards of equal length."""
    k = len(data)
    return list(_encoder(k, m).encode(tuple(data), tuple(range(k, k + m))))


def data_of(have: Mapping[int, Buffer], k: int, m: int) -> list[bytes]:
    """The k data shards out of at least k shards by their numbers."""
    numbers = tuple(sorted(have)[:k])
    return list(_decoder(k, m).decode(tuple(have[number] for number in numbers), numbers))


def shards_of(have: Mapping[int, Buffer], k: int, m: int, wanted: Sequence[int]) -> list[bytes]:
    """Any shards of a stripe, by their numbers, out of at least k."""
    data = data_of(have, k, m)
    return list(_encoder(k, m).encode(tuple(data), tuple(wanted)))
