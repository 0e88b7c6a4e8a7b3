"""A node's draw for a key: the hash under every rendezvous hashing here.

Owns: the hash, and the order of nodes by it. Refuses to know: what a key stands for, and weights.

In rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates",
1998) each node has a draw for each key, a number as if at random. Whoever knows the nodes finds the
same best ones, and a node that comes or goes changes nobody else's draw. Our keys are as good as
random already (the first 8 bytes of a BLAKE3 hash, a random job id), so a cheap mix with the node's
id is enough: number `node` of SplitMix64 seeded by the key, that is Stafford's finaliser "Mix13" of
key + node * GAMMA (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
It is a bijection of 64 bits, so two nodes never draw the same. It does not stop who searches for
keys that favour a node; no public function would.

All nodes draw at once, each in a lane of 128 bits of one long integer, which holds the product of
two numbers of 64: for 16 nodes in a quarter of the time of one by one, 1.4 us.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final

_MASK: Final = (1 << 64) - 1
_LANE_BYTES: Final = 16
_GAMMA: Final = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio, odd
_ROW: Final = (_GAMMA << 16) & _MASK  # ids have 16 bits, so no two rows share a number


class Draws:
    """The draws of some nodes; ids are 1..65535 and differ."""

    __slots__ = ("_bytes", "_low", "_nodes", "_ones", "_sums", "_unpack")

    def __init__(self, nodes: Sequence[int]) -> None:
        sums = [(node * _GAMMA & _MASK).to_bytes(_LANE_BYTES, "little") for node in nodes]
        self._nodes = tuple(nodes)
        self._bytes = _LANE_BYTES * len(nodes)
        self._sums = int.from_bytes(b"".join(sums), "little")
        self._ones = int.from_bytes((1).to_bytes(_LANE_BYTES, "little") * len(nodes), "little")
        self._low = self._ones * _MASK
        self._unpack = Struct("<" + "Q8x" * len(nodes)).unpack

    def of(self, key: int, row: int = 0) -> tuple[int, ...]:
        """Each node's draw, 0..2**64 - 1, for a key of 64 bits; every row, 0.., is drawn anew."""
        low = self._low
        z = (((key + row * _ROW) & _MASK) * self._ones + self._sums) & low
        z = (((z ^ (z >> 30)) & low) * 0xBF58476D1CE4E5B9) & low
        z = (((z ^ (z >> 27)) & low) * 0x94D049BB133111EB) & low
        return self._unpack((z ^ (z >> 31)).to_bytes(self._bytes, "little"))

    def order(self, key: int) -> list[int]:
        """The nodes, the greatest draw first."""
        pairs = zip(self.of(key), self._nodes, strict=True)
        return [node for _, node in sorted(pairs, reverse=True)]
