"""Typical messages, to be changed field by field or broken byte by byte.

Owns: one plausible instance of each larger message, and extreme values. Refuses to know: which
vectors are made of them (make_vectors.py).
"""

from __future__ import annotations

import hashlib
from typing import Any

import protocol as p
from protocol import build, raw

U8, U16, U32, U64 = 0xFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
LOOPBACK = 0x7F000001
STARTED = 1_760_000_000_000
MODULE = b"\0asm\x01\0\0\0"
HASH = hashlib.blake2b(MODULE, digest_size=32).digest()
LONG_NAME = "f" * p.NAME_BYTES_MAX
WIDE_NAME = "наименование→\U0001f680"
LONG_TEXT = "é" * (p.TEXT_BYTES_MAX // 2)
JOB = 0x1F3A5C7E90B2D4F6
TICKET = 1 << 62 | 5
SHARES = [
    {"node": 1, "leases": 2, "done": 700, "busy_ms": 19_000},
    {"node": 3, "leases": 4, "done": 324, "busy_ms": 9_500},
]


def value(type_code: int, bits: int) -> dict[str, int]:
    """One value of a list."""
    return {"type": type_code, "bits": bits}


def i32(number: int) -> dict[str, int]:
    """An i32 from a signed number."""
    return value(p.I32, number & U32)


def i64(number: int) -> dict[str, int]:
    """An i64 from a signed number."""
    return value(p.I64, number & U64)


EDGES = [
    value(p.I32, 0),
    value(p.I32, 0x7FFFFFFF),
    value(p.I32, 0x80000000),
    i64(2**63 - 1),
    i64(-(2**63)),
    value(p.F32, 0x7FC00000),
    value(p.F32, 0x80000000),
    value(p.F64, 0x7FF8000000000000),
    value(p.F64, 0xFFF0000000000000),
    value(p.F64, 1),
]
MANY = [i64(-index) for index in range(p.ARGS_MAX)]


def health(**changes: int) -> dict[str, int]:
    """A typical health."""
    typical = {"cpu": 12, "slots": 2, "cores": 4, "flags": 0, "queue": 0, "running": 0}
    room = {"free_mib": 3800, "speed": 250_000, "ram_mib": 2048, "ram_free_mib": 1500}
    return {**typical, **room, **changes}


_WORDS = {"free_mib": U32, "speed": U32, "ram_mib": U32, "ram_free_mib": U32}
FULL_HEALTH = health(cpu=100, slots=U8, cores=U8, flags=1, queue=U16, running=U16, **_WORDS)
EMPTY_HEALTH = health(cpu=0, slots=0, cores=1, free_mib=0, speed=0, ram_mib=0, ram_free_mib=0)


def record(**changes: int) -> dict[str, int]:
    """A typical record of a member."""
    typical = {"id": 2, "state": p.SUSPECT, "role": p.NODE, "incarnation": STARTED + 123}
    return {**typical, "ip": 0xC0A80102, "port": 8002, "from_": 4, **changes}


FULL_RECORD = record(
    id=U16, state=p.LEFT, role=p.LEAF, incarnation=U64, ip=U32, port=U16, from_=U16
)
EMPTY_RECORD = record(id=1, state=p.ALIVE, incarnation=0, ip=0, port=0, from_=0)


def hello(**changes: Any) -> bytes:
    """A typical HELLO of a node."""
    fields: dict[str, Any] = {"role": p.NODE, "slots": 2, "id": 3, "features": 0}
    fields |= {"incarnation": STARTED, "ip": LOOPBACK, "port": 8003}
    return build("HELLO", **(fields | {"version": "velum 0.1.0", "key": b""} | changes))


def call(correlation: int = 7, **changes: Any) -> bytes:
    """A typical CALL."""
    fields: dict[str, Any] = {
        "flags": 1,
        "timeout_ms": 0,
        "name": "add",
        "args": [i64(10), i64(20)],
    }
    return build("CALL", correlation, **(fields | changes))


def task(correlation: int = 8, **changes: Any) -> bytes:
    """A typical TASK."""
    fields: dict[str, Any] = {"flags": 1, "timeout_ms": 5000, "fuel": 0, "pages": 0, "hash": HASH}
    return build("TASK", correlation, **(fields | {"name": "sum", "args": [i64(10)]} | changes))


def result(correlation: int = 7, **changes: Any) -> bytes:
    """A typical RESULT."""
    fields: dict[str, Any] = {"node": 2, "run_us": 1, "health": health(), "values_": [i64(30)]}
    return build("RESULT", correlation, **(fields | changes))


def scatter(correlation: int = 3, **changes: Any) -> bytes:
    """A typical SCATTER."""
    fields: dict[str, Any] = {"job": JOB, "flags": 0, "reduce": p.SUM, "priority": 10}
    fields |= {"result": p.I64, "slices": 4096, "timeout_ms": 0, "limit_ms": 0, "fuel": 0}
    fields |= {"pages": 0, "missing": 0, "created_ms": STARTED, "hash": HASH}
    fields |= {"name": "count_primes", "label": "primes.wasm", "args": [i64(0), i64(500_000)]}
    return build("SCATTER", correlation, **(fields | changes))


def lease(correlation: int = TICKET, task: dict[str, Any] | None = None, **changes: Any) -> bytes:
    """A typical LEASE; `task` changes fields of its task."""
    fields: dict[str, Any] = {"flags": p.PLACED, "timeout_ms": 0, "fuel": 0, "pages": 0}
    fields |= {"hash": HASH, "name": "count_primes", "args": [i64(0), i64(500_000)]}
    outer = {"job": JOB, "slices": 4096, "first": 256, "count": 64, "priority": 10}
    return build("LEASE", correlation, task=fields | (task or {}), **(outer | changes))


def run(first: int, *values: int) -> dict[str, Any]:
    """A run of done slices."""
    return {"first": first, "values_": list(values)}


def failure(slice: int, code: int, text: str = "") -> dict[str, Any]:
    """A failed slice."""
    return {"slice": slice, "code": code, "text": text}


def slices(correlation: int = TICKET, **changes: Any) -> bytes:
    """A typical SLICES: a report with two runs and a failure."""
    fields: dict[str, Any] = {"job": JOB, "flags": 0, "busy_us": 24_000}
    fields |= {"runs": [run(256, 25, 17), run(259, 20)], "failed": [failure(258, 62)]}
    return build("SLICES", correlation, **(fields | changes))


def job(correlation: int = 0, **changes: Any) -> bytes:
    """A typical JOB: a job that runs."""
    fields: dict[str, Any] = {"job": JOB, "attempt": 1, "state": p.RUNNING, "epoch": 1}
    fields |= {"coordinator": 3, "sequence": 40, "slices": 4096, "done": 1024, "failed": 0}
    fields |= {"checksum": 0x1D0F2A55, "elapsed_ms": 20_000, "retries": 1, "duplicates": 2}
    fields |= {"code": 0, "text": "", "answer": [], "holders": [3, 1], "shares": SHARES}
    return build("JOB", correlation, **(fields | changes))


def sync(name: str, *members: tuple[dict[str, int], dict[str, int]]) -> bytes:
    """A SYNC or SYNC_REPLY of these records and healths."""
    return build(name, 21, members=[{"record": m, "health": h} for m, h in members])


def beacon(**changes: int) -> bytes:
    """A typical BEACON."""
    fields = {"sender": 3, "role": p.NODE, "flags": 0, "ip": LOOPBACK, "port": 8003}
    return build("BEACON", **(fields | {"incarnation": STARTED} | changes))


# ---- files ----


def digest(text: str) -> bytes:
    """Any 32 bytes that look like a hash; which hash it is the protocol's layouts do not say."""
    return hashlib.sha256(text.encode()).digest()


FILE_NAME = "films/отпуск.mkv"
LONG_FILE_NAME = "n" * p.FILE_NAME_BYTES_MAX
VERSION = {"stamp": STARTED << 16 | 3, "origin": 0xC0FFEE01}
FULL_VERSION = {"stamp": U64, "origin": U32}
NO_VERSION = {"stamp": 0, "origin": 0}
STRIPE = [digest(f"shard {index}") for index in range(6)]


def claim(**changes: Any) -> dict[str, Any]:
    """A typical claim: two copies."""
    fields = {"digest": digest(FILE_NAME), "version": VERSION, "k": 2, "m": 0}
    return {**fields, "shard": 0, "keys_": [], **changes}


def shard_claim(shard: int, keys: list[bytes], m: int = 2) -> dict[str, Any]:
    """A claim of one shard of a stripe."""
    return claim(k=len(keys) - m, m=m, shard=shard, keys_=keys)


def hold(correlation: int = 11, **changes: Any) -> bytes:
    """A typical HOLD: a chunk in two copies that is a shard of another file too."""
    claims = [claim(), shard_claim(5, STRIPE)]
    fields = {"key": STRIPE[5], "size": 1 << 20, "claims": claims, "flags": 0}
    return build("HOLD", correlation, **(fields | changes))


def entry(correlation: int = 12, **changes: Any) -> bytes:
    """A typical ENTRY: a file of 1000 bytes in one chunk, in two copies."""
    body = {"chunk_bytes": 1 << 20, "k": 2, "m": 0, "keys_": [STRIPE[0]]}
    fields = {"version": VERSION, "kind": p.MANIFEST, "keepers": 3, "age_ms": 0, "size": 1000}
    fields |= {"awaited": [], "name": "a.txt", "body": body}
    return build("ENTRY", correlation, **(fields | changes))


def tombstone(correlation: int = 0, **changes: Any) -> bytes:
    """A typical ENTRY of a deleted file, which two members have not heard of."""
    fields = {"kind": p.TOMBSTONE, "age_ms": 90_000_000, "size": 0, "awaited": [2, 5], "body": b""}
    return entry(correlation, **(fields | changes))


def inline(data: bytes, correlation: int = 12, **changes: Any) -> bytes:
    """An ENTRY with its file's bytes."""
    fields = {"kind": p.INLINE, "size": len(data), "body": data}
    return entry(correlation, **(fields | changes))


def coded(size: int, chunk_bytes: int, k: int, m: int, keys: list[bytes]) -> dict[str, Any]:
    """What makes an ENTRY that of a file in stripes."""
    body = {"chunk_bytes": chunk_bytes, "k": k, "m": m, "keys_": keys}
    return {"size": size, "keepers": max(3, m + 2), "body": body}


def row(name: str, **changes: Any) -> dict[str, Any]:
    """A row of a page of names."""
    fields = {"version": VERSION, "kind": p.MANIFEST, "care": p.CARE_WHOLE, "missing": 0}
    return {**fields, "size": 1 << 32, "name": name, **changes}


def names(correlation: int = 13, **changes: Any) -> bytes:
    """A typical NAMES."""
    rows = [row("a.txt", size=1000), row("b", care=p.CARE_AT_RISK, missing=7)]
    return build("NAMES", correlation, **({"more": 1, "rows": rows} | changes))


def sums(**changes: Any) -> bytes:
    """A typical SUMS: an entry in one bucket of 256, and two in another."""
    pairs = [{"count": 0, "mark": 0}] * p.BUCKETS
    pairs[7] = {"count": 1, "mark": 0x0123456789ABCDEF}
    pairs[255] = {"count": 2, "mark": 0}
    return build("SUMS", **({"sums": pairs} | changes))


def item(digest: bytes) -> dict[str, Any]:
    """An entry in a listing."""
    return {"digest": digest, "version": VERSION, "mark": 0xFEDCBA9876543210}


def listing(**changes: Any) -> bytes:
    """A typical LISTING: all in the bucket 0x07."""
    items = [item(b"\x07" + bytes([index]) * 31) for index in (1, 2, 255)]
    fields = {"round": 3, "ranged": 1, "after": b"\x07" + bytes(31), "end": b"\x07" + b"\xff" * 31}
    return build("LISTING", **({**fields, "items_": items} | changes))


def listed(**changes: Any) -> bytes:
    """A typical LISTED."""
    fields = {"round": 3, "held": [item(STRIPE[0])], "wanted": STRIPE[1:3]}
    return build("LISTED", **(fields | changes))


# ---- broken ----


def patch(frame: bytes, offset: int, data: bytes) -> bytes:
    """A frame with other bytes at an offset of its payload."""
    at = p.HEADER_BYTES + offset
    return frame[:at] + data + frame[at + len(data) :]


def longer(frame: bytes, tail: bytes = b"\0") -> bytes:
    """A frame with bytes after its payload's end, counted in its length."""
    return raw(frame[3], frame[p.HEADER_BYTES :] + tail)


def shorter(frame: bytes) -> bytes:
    """A frame without its payload's last byte, not counted in its length either."""
    return raw(frame[3], frame[p.HEADER_BYTES : -1])


def u32(number: int) -> bytes:
    """Four bytes."""
    return number.to_bytes(4, "little")


def u64(number: int) -> bytes:
    """Eight bytes."""
    return number.to_bytes(8, "little")
