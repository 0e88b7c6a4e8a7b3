"""The key-value state's frames as a `construct` description; protocol.py has them with the rest.

Owns: frames 0x60 to 0x6b, written from docs/protocol.md, section 15. Refuses to know: requests,
replies, records and changes, which are bytes here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import construct as c

KV_FRAME_BYTES_MAX = 4_259_840
KV_MESSAGE_BYTES_MAX = 1_048_640
KV_ASK_MAX = 256
KV_LEAVES_MAX = 1024
KV_PATTERN_BYTES_MAX = 1024
KV_LEVELS, KV_FANOUT, KV_LEAVES = 4, 16, 65_536
WATCH_STATE, WATCH_STOP = 1, 2

_U8, _U16, _U32, _U64 = c.Int8ul, c.Int16ul, c.Int32ul, c.Int64ul


def _where(part: Any, holds: Callable[[Any], bool]) -> Any:
    return c.ExprValidator(part, lambda value, _: holds(value))


def _of_level(ctx: Any) -> bool:
    nodes = [item if isinstance(item, int) else item.index for item in ctx.nodes]
    return all(node < KV_FANOUT**ctx.level for node in nodes)


def _nodes(item: Any) -> Any:
    count = _where(_U16, lambda n: 1 <= n <= KV_ASK_MAX)
    return c.Struct(
        "level" / _where(_U8, lambda level: level < KV_LEVELS),
        "nodes" / c.PrefixedArray(count, item),
        c.Check(_of_level),
    )


_DURABILITY = _where(_U8, lambda n: n <= 4)
_SOME = _where(c.GreedyBytes, lambda data: data != b"")
_BYTES16 = c.Prefixed(_U16, c.GreedyBytes)
_LEAF = _where(_U32, lambda leaf: leaf < KV_LEAVES)

KV_FRAMES: dict[str, tuple[int, int, Any]] = {
    "KV_DO": (
        0x60,
        KV_FRAME_BYTES_MAX,
        c.Struct("durability" / _DURABILITY, "timeout_ms" / _U32, "request" / _SOME),
    ),
    "KV_DONE": (0x61, KV_FRAME_BYTES_MAX, c.Struct("reached" / _DURABILITY, "reply" / _SOME)),
    "KV_RECORDS": (
        0x62,
        KV_FRAME_BYTES_MAX,
        c.Struct("unix_ms" / _U64, "lines" / c.GreedyBytes),
    ),
    "KV_HEARD": (0x63, 0, c.Struct()),
    "KV_ASK": (0x64, 3 + KV_ASK_MAX * 4, _nodes(_U32)),
    "KV_SUMS": (
        0x65,
        3 + KV_ASK_MAX * 132,
        _nodes(c.Struct("index" / _U32, "sums" / c.Array(KV_FANOUT, _U64))),
    ),
    "KV_LEAVES": (
        0x66,
        2 + KV_LEAVES_MAX * 4,
        c.Struct(
            "leaves" / c.PrefixedArray(_where(_U16, lambda n: 1 <= n <= KV_LEAVES_MAX), _LEAF)
        ),
    ),
    "KV_END": (0x67, 5, c.Struct("records" / _U32, "whole" / c.OneOf(_U8, [0, 1]))),
    "KV_WATCH": (
        0x68,
        3 + KV_PATTERN_BYTES_MAX,
        c.Struct(
            "flags" / c.OneOf(_U8, [0, WATCH_STATE, WATCH_STOP]),
            "pattern" / _where(_BYTES16, lambda data: len(data) <= KV_PATTERN_BYTES_MAX),
        ),
    ),
    "KV_CHANGES": (0x69, KV_FRAME_BYTES_MAX, c.Struct("changes" / c.GreedyBytes)),
    "KV_PUBLISH": (
        0x6A,
        2_097_152,
        c.Struct(
            "channel" / _BYTES16,
            "message" / _where(c.GreedyBytes, lambda data: len(data) <= KV_MESSAGE_BYTES_MAX),
        ),
    ),
    "KV_TALK": (0x6B, 1_048_576, c.Struct("talk" / c.GreedyBytes)),
}
