"""The Velum protocol as a `construct` description, written from docs/protocol.md.

Owns: a second, independent statement of every frame and datagram, to check the C codec from the
outside. Refuses to know: the C code, sockets, what messages are for.
How: one construct per payload with every rule of the document as a validator. `build` makes the
bytes of a message from its fields, `parse` reads them back or says which error a receiver finds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import construct as c
from kv_protocol import KV_FRAMES

VERSION = 1
HEADER_BYTES = 16
FRAME_BYTES_MAX = 1_048_576
HELLO_BYTES_MAX = 512
DATAGRAM_BYTES_MAX = 1_200
NAME_BYTES_MAX = 255
ARGS_MAX = 32
TEXT_BYTES_MAX = 1_024
MODULE_BYTES_MAX = 67_108_864
MODULE_PART_BYTES = 262_144
UPDATES_MAX = 40
SLICES_MAX = 1_048_576
PRIORITY_MAX = 100
HOLDERS_MAX = 16
JOB_ID_MAX = 2**63 - 1
CHUNK_BYTES_MAX = 8_388_608
CHUNK_PART_BYTES = 262_144
COPIES_MAX = 16
SHARDS_MAX = 32
CLAIMS_PER_HOLD_MAX = 16
HOLD_REPAIR = 1
OFFER_KEYS_MAX = 1024
CLAIMS_MAX = 1024
FILE_NAME_BYTES_MAX = 4096
INLINE_BYTES_MAX = 4096
MANIFEST_KEYS_MAX = 32_000
KEEPERS_MIN, KEEPERS_MAX = 2, 34
AWAITED_MAX = 255
NAMES_PAGE_MAX = 200
LISTING_MAX = 512
BUCKETS = 256

NODE, LEAF, WORKER, CLIENT = 1, 2, 3, 4
ALIVE, SUSPECT, DEAD, LEFT = 1, 2, 3, 4
I32, I64, F32, F64 = 0x7F, 0x7E, 0x7D, 0x7C
CANCELLED, DEADLINE = 80, 81
PLACED, CAREFUL = 1, 2
SUM, PRODUCT, MIN, MAX, AND, OR, XOR, FIRST, ALL, COLLECT = range(1, 11)
RUNNING, ENDED_CANCELLED, ENDED_FAILED, DONE = 1, 2, 3, 4
WATCH, ASK_CANCEL, RESUME, HOLD = 1, 2, 3, 4
VALUES = 4
TOMBSTONE, INLINE, MANIFEST = 0, 1, 2
HELD_SEND, HELD_HAVE, HELD_KEPT, HELD_FULL, HELD_BUSY, HELD_BAD = range(1, 7)
THIS, BEFORE = 1, 2
ASK_ENTRY, ASK_VERSION = 1, 2
KEPT, LATER, HERE, NONE, REPLACED = range(1, 6)
CARE_UNKNOWN, CARE_WHOLE, CARE_AT_RISK, CARE_DAMAGED = range(4)


class ProtocolError(Exception):
    """What a receiver finds wrong: `name` is an error of the document's table, or MORE when the
    bytes are a frame's beginning."""

    def __init__(self, name: str, detail: str = "") -> None:
        super().__init__(f"{name}: {detail}" if detail else name)
        self.name = name


@dataclass(frozen=True)
class Message:
    """One frame: its name in the table of types, correlation and payload fields."""

    name: str
    correlation: int
    fields: dict[str, Any]


# ---- elements ----


def _where(subcon: Any, rule: Callable[[Any], bool]) -> Any:
    """A field whose value must satisfy a rule."""
    return c.ExprValidator(subcon, lambda obj, _ctx: rule(obj))


def _at_most(subcon: Any, most: int) -> Any:
    return _where(subcon, lambda n: n <= most)


def _text(length: Any, most: int) -> Any:
    return c.Prefixed(_at_most(length, most), c.GreedyString("utf-8"))


def _list(count: Any, element: Any) -> Any:
    return c.PrefixedArray(count, element)


_U8, _U16, _U32, _U64 = c.Int8ul, c.Int16ul, c.Int32ul, c.Int64ul
_HASH = c.Bytes(32)
_ID = _where(_U16, lambda id: id != 0)
_MEMBER_ROLE = c.OneOf(_U8, [NODE, LEAF])
_FLAG = _at_most(_U8, 1)

VALUE = c.Struct(
    "type" / c.OneOf(_U8, [I32, I64, F32, F64]),
    "bits" / c.IfThenElse(lambda ctx: ctx.type in (I32, F32), _U32, _U64),
)
_VALUES = _list(_at_most(_U8, ARGS_MAX), VALUE)

HEALTH = c.Struct(
    "cpu" / _at_most(_U8, 100),
    "slots" / _U8,
    "cores" / _where(_U8, lambda n: n >= 1),
    "flags" / _FLAG,
    "queue" / _U16,
    "running" / _U16,
    "free_mib" / _U32,
    "speed" / _U32,
    "ram_mib" / _U32,
    "ram_free_mib" / _U32,
    c.Check(lambda ctx: ctx.ram_free_mib <= ctx.ram_mib),
)

RECORD = c.Struct(
    "id" / _ID,
    "state" / c.OneOf(_U8, [ALIVE, SUSPECT, DEAD, LEFT]),
    "role" / _MEMBER_ROLE,
    "incarnation" / _U64,
    "ip" / _U32,
    "port" / _U16,
    "from_" / _U16,
)
_UPDATES = _list(_at_most(_U8, UPDATES_MAX), RECORD)
_SYNC = c.Struct(
    "members"
    / _list(
        _where(_U16, lambda n: 1 <= n <= 23_831), c.Struct("record" / RECORD, "health" / HEALTH)
    )
)

# ---- payloads ----


def _hello_fits(ctx: Any) -> bool:
    is_member = ctx.role in (NODE, LEAF)
    return bool(is_member == (ctx.id != 0) and (ctx.role != CLIENT or ctx.slots == 0))


def _part_fits(ctx: Any) -> bool:
    rest = int(ctx.total) - int(ctx.offset)
    return rest > 0 and len(ctx.bytes) == min(rest, MODULE_PART_BYTES)


def _beacon_fits(ctx: Any) -> bool:
    return bool((ctx.role == CLIENT) == (ctx.sender == 0))


def _signed(value: Any) -> int:
    width = 32 if value.type == I32 else 64
    return int(value.bits) - (1 << width) * (int(value.bits) >> (width - 1))


def _range_fits(args: Any, slices: int) -> bool:
    """Start and end come first; the range has as many numbers as slices or more."""
    if len(args) < 2 or args[0].type != args[1].type or args[0].type not in (I32, I64):
        return False
    length = _signed(args[1]) - _signed(args[0])
    return 0 <= slices <= length and (slices > 0) == (length > 0)


def _scatter_fits(ctx: Any) -> bool:
    if ctx.result in (I32, F32) and ctx.missing >> 32:
        return False
    if ctx.reduce in (AND, OR, XOR) and ctx.result not in (I32, I64):
        return False
    if ctx.reduce in (MIN, MAX) and ctx.slices == 0:
        return False
    return _range_fits(ctx.args, ctx.slices)


def _lease_fits(ctx: Any) -> bool:
    inside = ctx.count >= 1 and ctx.first + ctx.count <= ctx.slices
    return bool(inside and _range_fits(ctx.task.args, ctx.slices))


def _slices_fit(ctx: Any) -> bool:
    """Runs ascend with gaps between them, failures ascend; both lie below the limit."""
    ends = [run.first + len(run.values_) for run in ctx.runs]
    runs = all(end < run.first for end, run in zip(ends, ctx.runs[1:], strict=False))
    failed = [failure.slice for failure in ctx.failed]
    return bool(
        runs
        and all(end <= SLICES_MAX for end in ends)
        and all(low < high for low, high in zip(failed, failed[1:], strict=False))
    )


def _job_fits(ctx: Any) -> bool:
    broken = ctx.state in (ENDED_CANCELLED, ENDED_FAILED)
    return bool(
        ctx.done + ctx.failed <= ctx.slices
        and broken == (ctx.code != 0)
        and (ctx.state == DONE or len(ctx.answer) == 0)
    )


_JOB_ID = _where(_U64, lambda job: 1 <= job <= JOB_ID_MAX)
_PRIORITY = _where(_U8, lambda priority: 1 <= priority <= PRIORITY_MAX)
_SLICES = _at_most(_U32, SLICES_MAX)
_SLICE = _where(_U32, lambda slice: slice < SLICES_MAX)
_CODE = _where(_U16, lambda code: code != 0)
_RUN = c.Struct("first" / _SLICE, "values_" / _list(_where(_SLICES, lambda n: n >= 1), _U64))
_FAILURE = c.Struct("slice" / _SLICE, "code" / _CODE, "text" / _text(_U8, 255))
_SHARE = c.Struct("node" / _ID, "leases" / _U16, "done" / _U32, "busy_ms" / _U32)

_OFFSET = _where(_U32, lambda n: n < MODULE_BYTES_MAX and n % MODULE_PART_BYTES == 0)
_NAME = _text(_U8, NAME_BYTES_MAX)
_TEXT = _text(_U16, TEXT_BYTES_MAX)


def _task(flags: Any) -> Any:
    return c.Struct(
        "flags" / flags,
        "timeout_ms" / _U32,
        "fuel" / _U64,
        "pages" / _U32,
        "hash" / _HASH,
        "name" / _NAME,
        "args" / _VALUES,
    )


# ---- payloads of files ----


def _coding_fits(ctx: Any) -> bool:
    return bool(ctx.k >= 1 and (ctx.k <= COPIES_MAX if ctx.m == 0 else ctx.k + ctx.m <= SHARDS_MAX))


def _shards(ctx: Any) -> int:
    return int(ctx.k) + int(ctx.m) if ctx.m else 0


def _hold_fits(ctx: Any) -> bool:
    """Each claim of a stripe has the chunk's key in the chunk's place."""
    return all(
        claim.keys_[claim.shard] == ctx.key if claim.m else claim.shard == 0 for claim in ctx.claims
    )


def _chunk_fits(ctx: Any) -> bool:
    size = len(ctx.bytes)
    return 1 <= size <= CHUNK_PART_BYTES and int(ctx.offset) + size <= int(ctx.total)


def _size_fits(ctx: Any) -> bool:
    """What a file's size may be, by the kind of its entry."""
    if ctx.kind == MANIFEST:
        return bool(ctx.size >= 1)
    return bool(ctx.size <= (INLINE_BYTES_MAX if ctx.kind == INLINE else 0))


def _keys_needed(entry: Any, manifest: Any) -> int:
    span = int(manifest.chunk_bytes) * (int(manifest.k) if manifest.m else 1)
    return -(-int(entry.size) // span) * (_shards(manifest) or 1)


def _entry_fits(ctx: Any) -> bool:
    if ctx.kind != TOMBSTONE and (ctx.age_ms or ctx.awaited):
        return False
    if ctx.kind != MANIFEST:
        return _size_fits(ctx) and len(ctx.body) == ctx.size
    needed = _keys_needed(ctx, ctx.body)
    return _size_fits(ctx) and needed == len(ctx.body.keys_) <= MANIFEST_KEYS_MAX


def _version_fits(ctx: Any) -> bool:
    zeros = (ctx.kind, ctx.version.stamp, ctx.version.origin) == (0, 0, 0)
    return bool(ctx.what != NONE or zeros)


def _row_fits(ctx: Any) -> bool:
    return _size_fits(ctx) and (ctx.missing >= 1) == (ctx.care in (CARE_AT_RISK, CARE_DAMAGED))


def _page_fits(ctx: Any) -> bool:
    names = [row.name.encode() for row in ctx.rows]
    return bool(_ascend(names) and (names or not ctx.more))


def _ascend(values: Any) -> bool:
    return all(low < high for low, high in zip(values, values[1:], strict=False))


def _listing_fits(ctx: Any) -> bool:
    digests = [item.digest for item in ctx.items_]
    if not ctx.ranged:
        return bool(digests and ctx.after == ctx.end == bytes(32))
    inside = not digests or (ctx.after < digests[0] and digests[-1] <= ctx.end)
    return bool(ctx.after[0] == ctx.end[0] and ctx.after < ctx.end and inside and _ascend(digests))


_VERSION = c.Struct("stamp" / _U64, "origin" / _U32)
_KIND = c.OneOf(_U8, [TOMBSTONE, INLINE, MANIFEST])
_FILE_NAME = _where(_text(_U16, FILE_NAME_BYTES_MAX), lambda name: name != "")
_FILE_PREFIX = _text(_U16, FILE_NAME_BYTES_MAX)
_CHUNK_BYTES = _where(_U32, lambda n: 1 <= n <= CHUNK_BYTES_MAX)
_CLAIM = c.Struct(
    "digest" / _HASH,
    "version" / _VERSION,
    "k" / _U8,
    "m" / _U8,
    "shard" / _U8,
    c.Check(_coding_fits),
    c.Check(lambda ctx: ctx.shard < max(_shards(ctx), 1)),
    "keys_" / c.Array(_shards, _HASH),
)
_MANIFEST = c.Struct(
    "chunk_bytes" / _CHUNK_BYTES,
    "k" / _U8,
    "m" / _U8,
    c.Check(_coding_fits),
    "keys_" / c.GreedyRange(_HASH),
    c.Terminated,
)
_ITEM = c.Struct("digest" / _HASH, "version" / _VERSION, "mark" / _U64)
_ITEMS = _list(_at_most(_U16, LISTING_MAX), _ITEM)


def _many(most: int) -> Any:
    return _where(_U16, lambda n: 1 <= n <= most)


def _states(most: int, greatest: int) -> Any:
    return _list(_many(most), _where(_U8, lambda state: 1 <= state <= greatest))


FILE_FRAMES: dict[str, tuple[int, int, Any]] = {
    "HOLD": (
        0x40,
        65_536,
        c.Struct(
            "key" / _HASH,
            "size" / _CHUNK_BYTES,
            "claims" / _list(_where(_U8, lambda n: 1 <= n <= CLAIMS_PER_HOLD_MAX), _CLAIM),
            "flags" / _at_most(_U8, HOLD_REPAIR),
            c.Check(_hold_fits),
        ),
    ),
    "HELD": (
        0x41,
        9,
        c.Struct(
            "state" / _where(_U8, lambda state: HELD_SEND <= state <= HELD_BAD),
            "free_bytes" / _U64,
        ),
    ),
    "CHUNK": (
        0x42,
        262_184,
        c.Struct(
            "key" / _HASH,
            "total" / _CHUNK_BYTES,
            "offset" / _U32,
            "bytes" / c.GreedyBytes,
            c.Check(_chunk_fits),
        ),
    ),
    "WANT": (0x43, 32, c.Struct("key" / _HASH)),
    "RELEASE": (
        0x44,
        45,
        c.Struct("how" / c.OneOf(_U8, [THIS, BEFORE]), "digest" / _HASH, "version" / _VERSION),
    ),
    "OFFER": (0x45, 32_770, c.Struct("keys_" / _list(_many(OFFER_KEYS_MAX), _HASH))),
    "OFFERED": (0x46, 1026, c.Struct("states" / _states(OFFER_KEYS_MAX, 5))),
    "CLAIMS": (
        0x47,
        45_058,
        c.Struct(
            "claims" / _list(_many(CLAIMS_MAX), c.Struct("digest" / _HASH, "version" / _VERSION)),
        ),
    ),
    "CLAIMED": (0x48, 1026, c.Struct("states" / _states(CLAIMS_MAX, 4))),
    "ENTRY": (
        0x50,
        FRAME_BYTES_MAX,
        c.Struct(
            "version" / _VERSION,
            "kind" / _KIND,
            "keepers" / _where(_U8, lambda n: KEEPERS_MIN <= n <= KEEPERS_MAX),
            "age_ms" / _U64,
            "size" / _U64,
            "awaited" / _where(_list(_U8, _ID), _ascend),
            "name" / _FILE_NAME,
            "body" / c.IfThenElse(lambda ctx: ctx.kind == MANIFEST, _MANIFEST, c.GreedyBytes),
            c.Check(_entry_fits),
        ),
    ),
    "ENTRY_ASK": (
        0x51,
        33,
        c.Struct("how" / c.OneOf(_U8, [ASK_ENTRY, ASK_VERSION]), "digest" / _HASH),
    ),
    "VERSION": (
        0x52,
        14,
        c.Struct(
            "what" / c.OneOf(_U8, [KEPT, LATER, HERE, NONE, REPLACED]),
            "kind" / _KIND,
            "version" / _VERSION,
            c.Check(_version_fits),
        ),
    ),
    "NAMES_ASK": (
        0x53,
        8198,
        c.Struct("limit" / _many(NAMES_PAGE_MAX), "prefix" / _FILE_PREFIX, "after" / _FILE_PREFIX),
    ),
    "NAMES": (
        0x54,
        FRAME_BYTES_MAX,
        c.Struct(
            "more" / _FLAG,
            "rows"
            / _list(
                _at_most(_U16, NAMES_PAGE_MAX),
                c.Struct(
                    "version" / _VERSION,
                    "kind" / _KIND,
                    "care" / _at_most(_U8, CARE_DAMAGED),
                    "missing" / _U32,
                    "size" / _U64,
                    "name" / _FILE_NAME,
                    c.Check(_row_fits),
                ),
            ),
            c.Check(_page_fits),
        ),
    ),
    "SUMS": (
        0x55,
        3072,
        c.Struct(
            "sums"
            / c.Array(
                BUCKETS,
                c.Struct(
                    "count" / _U32, "mark" / _U64, c.Check(lambda ctx: ctx.count or not ctx.mark)
                ),
            )
        ),
    ),
    "LISTING": (
        0x56,
        26_695,
        c.Struct(
            "round" / _U32,
            "ranged" / _FLAG,
            "after" / _HASH,
            "end" / _HASH,
            "items_" / _ITEMS,
            c.Check(_listing_fits),
        ),
    ),
    "LISTED": (
        0x57,
        43_016,
        c.Struct(
            "round" / _U32,
            "held" / _ITEMS,
            "wanted" / _list(_at_most(_U16, LISTING_MAX), _HASH),
        ),
    ),
}

# name -> (type, largest payload, layout); the document's table of types.
FRAMES: dict[str, tuple[int, int, Any]] = {
    "HELLO": (
        0x01,
        HELLO_BYTES_MAX,
        c.Struct(
            "role" / c.OneOf(_U8, [NODE, LEAF, WORKER, CLIENT]),
            "slots" / _U8,
            "id" / _U16,
            "features" / _U32,
            "incarnation" / _U64,
            "ip" / _U32,
            "port" / _U16,
            "version" / _text(_U8, 64),
            "key" / c.Prefixed(_at_most(_U16, 256), c.GreedyBytes),
            c.Check(_hello_fits),
        ),
    ),
    "BYE": (0x02, 1028, c.Struct("code" / _U16, "text" / _TEXT)),
    "PING": (0x03, 0, c.Struct()),
    "PONG": (0x04, 0, c.Struct()),
    "CALL": (
        0x10,
        1024,
        c.Struct("flags" / _FLAG, "timeout_ms" / _U32, "name" / _NAME, "args" / _VALUES),
    ),
    "TASK": (0x11, 1024, _task(_FLAG)),
    "RESULT": (
        0x12,
        1024,
        c.Struct("node" / _U16, "run_us" / _U32, "health" / HEALTH, "values_" / _VALUES),
    ),
    "ERROR": (
        0x13,
        1040,
        c.Struct(
            "code" / _CODE,
            "node" / _U16,
            "deaths" / _U8,
            "text" / _TEXT,
        ),
    ),
    "PROGRESS": (0x14, 16, c.Struct("done" / _U64, "total" / _U64)),
    "CANCEL": (0x15, 2, c.Struct("code" / c.OneOf(_U16, [CANCELLED, DEADLINE]))),
    "MODULE_WANT": (0x16, 36, c.Struct("hash" / _HASH, "offset" / _OFFSET)),
    "MODULE": (
        0x17,
        262_184,
        c.Struct(
            "hash" / _HASH,
            "total" / _at_most(_U32, MODULE_BYTES_MAX),
            "offset" / _OFFSET,
            "bytes" / c.GreedyBytes,
            c.Check(_part_fits),
        ),
    ),
    "SCATTER": (
        0x18,
        1024,
        c.Struct(
            "job" / _JOB_ID,
            "flags" / _at_most(_U8, 7),
            "reduce" / _where(_U8, lambda reduce: SUM <= reduce <= COLLECT),
            "priority" / _PRIORITY,
            "result" / c.OneOf(_U8, [I32, I64, F32, F64]),
            "slices" / _SLICES,
            "timeout_ms" / _U32,
            "limit_ms" / _U32,
            "fuel" / _U64,
            "pages" / _U32,
            "missing" / _U64,
            "created_ms" / _U64,
            "hash" / _HASH,
            "name" / _NAME,
            "label" / _NAME,
            "args" / _VALUES,
            c.Check(_scatter_fits),
        ),
    ),
    "LEASE": (
        0x19,
        1056,
        c.Struct(
            "task" / _task(c.OneOf(_U8, [PLACED, PLACED | CAREFUL])),
            "job" / _JOB_ID,
            "slices" / _SLICES,
            "first" / _U32,
            "count" / _U32,
            "priority" / _PRIORITY,
            c.Check(_lease_fits),
        ),
    ),
    "SLICES": (
        0x1A,
        FRAME_BYTES_MAX,
        c.Struct(
            "job" / _JOB_ID,
            "flags" / _FLAG,
            "busy_us" / _U32,
            "runs" / _list(_U16, _RUN),
            "failed" / _list(_U16, _FAILURE),
            c.Check(_slices_fit),
        ),
    ),
    "TRIM": (0x1B, 4, c.Struct("end" / _SLICES)),
    "JOB": (
        0x1C,
        FRAME_BYTES_MAX,
        c.Struct(
            "job" / _JOB_ID,
            "attempt" / _U16,
            "state" / c.OneOf(_U8, [RUNNING, ENDED_CANCELLED, ENDED_FAILED, DONE]),
            "epoch" / _U32,
            "coordinator" / _ID,
            "sequence" / _U32,
            "slices" / _SLICES,
            "done" / _U32,
            "failed" / _U32,
            "checksum" / _U32,
            "elapsed_ms" / _U64,
            "retries" / _U32,
            "duplicates" / _U32,
            "code" / _U16,
            "text" / _TEXT,
            "answer" / _list(_at_most(_U8, 1), VALUE),
            "holders" / _list(_at_most(_U8, HOLDERS_MAX), _ID),
            "shares" / _list(_U16, _SHARE),
            c.Check(_job_fits),
        ),
    ),
    "JOB_ASK": (
        0x1D,
        10,
        c.Struct(
            "job" / _JOB_ID,
            "ask" / c.OneOf(_U8, [WATCH, ASK_CANCEL, RESUME, HOLD]),
            "flags" / c.OneOf(_U8, [0, VALUES]),
        ),
    ),
    "SYNC": (0x20, FRAME_BYTES_MAX, _SYNC),
    "SYNC_REPLY": (0x21, FRAME_BYTES_MAX, _SYNC),
    "HEALTH": (0x22, 24, HEALTH),
    "QUERY": (0x28, 256, c.Struct("topic" / _NAME)),
    "ANSWER": (0x29, FRAME_BYTES_MAX, c.Struct("json" / c.GreedyBytes)),
    "PROBE": (
        0x30,
        DATAGRAM_BYTES_MAX,
        c.Struct(
            "sender" / _ID,
            "target" / _ID,
            "suspected" / _U64,
            "health" / HEALTH,
            "updates" / _UPDATES,
        ),
    ),
    "ACK": (
        0x31,
        DATAGRAM_BYTES_MAX,
        c.Struct(
            "sender" / _ID,
            "target" / _ID,
            "incarnation" / _U64,
            "health" / HEALTH,
            "updates" / _UPDATES,
        ),
    ),
    "PROBE_REQUEST": (
        0x32,
        DATAGRAM_BYTES_MAX,
        c.Struct("sender" / _ID, "target" / _ID, "ip" / _U32, "port" / _U16, "updates" / _UPDATES),
    ),
    "NACK": (0x33, DATAGRAM_BYTES_MAX, c.Struct("sender" / _ID, "target" / _ID)),
    "GOSSIP": (0x34, DATAGRAM_BYTES_MAX, c.Struct("sender" / _ID, "updates" / _UPDATES)),
    "BEACON": (
        0x35,
        64,
        c.Struct(
            "sender" / _U16,
            "role" / c.OneOf(_U8, [NODE, LEAF, CLIENT]),
            "flags" / _FLAG,
            "ip" / _U32,
            "port" / _U16,
            "incarnation" / _U64,
            c.Check(_beacon_fits),
        ),
    ),
    **FILE_FRAMES,
    **KV_FRAMES,
}
_NAME_OF_TYPE = {code: name for name, (code, _, _) in FRAMES.items()}
_HEADER = c.Struct(
    "magic" / c.Const(b"VL"),
    "version" / c.Const(VERSION, _U8),
    "type" / _U8,
    "length" / _U32,
    "correlation" / _U64,
)

# ---- whole frames ----


def is_datagram(name: str) -> bool:
    """Whether a type travels in datagrams."""
    return 0x30 <= FRAMES[name][0] <= 0x3F


def raw(type_code: int, payload: bytes, correlation: int = 0) -> bytes:
    """A frame with any type and payload, right or wrong."""
    fields = {"type": type_code, "length": len(payload), "correlation": correlation}
    return bytes(_HEADER.build(fields)) + payload


def build(name: str, correlation: int = 0, /, **fields: Any) -> bytes:
    """The frame of a message. construct.ConstructError for fields that break a rule."""
    type_code, limit, layout = FRAMES[name]
    payload = layout.build(fields)
    if len(payload) > limit:
        raise ProtocolError("FRAME_LENGTH", f"{name} of {len(payload)} bytes")
    return raw(type_code, payload, correlation)


def _check_header(frame: bytes) -> None:
    """Finds the first thing wrong with a header, as early as it can be seen."""
    if not b"VL".startswith(frame[:2]):
        raise ProtocolError("MAGIC")
    if len(frame) > 2 and frame[2] != VERSION:
        raise ProtocolError("WIRE_VERSION")
    if len(frame) > 3 and frame[3] not in _NAME_OF_TYPE:
        raise ProtocolError("FRAME_TYPE")
    if len(frame) >= 8:
        limit = FRAMES[_NAME_OF_TYPE[frame[3]]][1]
        if int.from_bytes(frame[4:8], "little") > limit:
            raise ProtocolError("FRAME_LENGTH")
    if len(frame) < HEADER_BYTES:
        raise ProtocolError("MORE")


def parse(frame: bytes) -> Message:
    """Reads one whole frame or datagram; a ProtocolError says what is wrong with it."""
    _check_header(frame)
    header = _HEADER.parse(frame[:HEADER_BYTES])
    name = _NAME_OF_TYPE[header.type]
    payload = frame[HEADER_BYTES:]
    if len(payload) < header.length and not is_datagram(name):
        raise ProtocolError("MORE")
    if len(payload) != header.length:
        raise ProtocolError("PAYLOAD", "other than the length says")
    try:
        fields = c.Struct("fields" / FRAMES[name][2], c.Terminated).parse(payload).fields
    except (c.ConstructError, UnicodeDecodeError) as error:
        raise ProtocolError("PAYLOAD", str(error)) from error
    return Message(name, header.correlation, _plain(fields))


def _plain(value: Any) -> Any:
    """Containers as dicts and lists, without construct's bookkeeping."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if not key.startswith("_io")}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
