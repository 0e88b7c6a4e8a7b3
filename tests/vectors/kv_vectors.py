"""Golden vectors of the key-value state's frames, right and wrong; make_vectors.py writes them.

Owns: what is tried of frames 0x60 to 0x6b. Refuses to know: layouts (kv_protocol.py).
"""

from __future__ import annotations

from collections.abc import Iterator

from kv_protocol import KV_ASK_MAX, KV_LEAVES, KV_LEAVES_MAX, WATCH_STATE, WATCH_STOP
from protocol import build, raw
from typical import U32, U64, longer, shorter, u32

Vector = tuple[str, bytes]
Invalid = tuple[str, str, bytes]

REQUEST = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n"
LINE = b"status=active\t@0199f3a1c2000000-7 set #1a8a2dc6\n"
CHANGE = (
    b"*6\r\n$3\r\nset\r\n$6\r\nstatus\r\n$5\r\nbytes\r\n$6\r\nactive\r\n"
    b"$18\r\n0199f3a1c2000000-7\r\n:0\r\n"
)


def _do(correlation: int = 7, **fields: object) -> bytes:
    typical = {"durability": 2, "timeout_ms": 0, "request": REQUEST}
    return build("KV_DO", correlation, **typical | fields)


def _sums(*indexes: int) -> list[dict[str, object]]:
    return [{"index": index, "sums": [index * 100 + i for i in range(16)]} for index in indexes]


def kv_vectors() -> Iterator[Vector]:
    """The key-value state: requests, records, sums, leaves, watches."""
    yield "kv_do", _do()
    yield "kv_do_quorum", _do(U64, durability=4, timeout_ms=U32)
    yield "kv_done", build("KV_DONE", 7, reached=2, reply=b"+OK\r\n")
    yield "kv_done_read", build("KV_DONE", 8, reached=0, reply=b"_\r\n")
    yield "kv_records", build("KV_RECORDS", 9, unix_ms=1_760_000_000_000, lines=LINE)
    yield "kv_records_none", build("KV_RECORDS", 10, unix_ms=0, lines=b"")
    yield "kv_heard", build("KV_HEARD", 9)
    yield "kv_ask_root", build("KV_ASK", 1, level=0, nodes=[0])
    yield "kv_ask", build("KV_ASK", 2, level=2, nodes=[0, 17, 255])
    yield "kv_ask_full", build("KV_ASK", 3, level=3, nodes=[4095 - i for i in range(KV_ASK_MAX)])
    yield "kv_sums_root", build("KV_SUMS", 1, level=0, nodes=_sums(0))
    yield "kv_sums", build("KV_SUMS", 2, level=2, nodes=_sums(0, 17, 255))
    yield "kv_leaves", build("KV_LEAVES", 4, leaves=[0, KV_LEAVES - 1])
    yield "kv_leaves_full", build("KV_LEAVES", 5, leaves=list(range(KV_LEAVES_MAX)))
    yield "kv_end", build("KV_END", 4, records=U32, whole=1)
    yield "kv_end_changed", build("KV_END", 5, records=0, whole=0)
    yield "kv_watch", build("KV_WATCH", 6, flags=WATCH_STATE, pattern=b"robot/*")
    yield "kv_watch_stop", build("KV_WATCH", 6, flags=WATCH_STOP, pattern=b"")
    yield "kv_watch_long", build("KV_WATCH", 6, flags=0, pattern=b"x" * 1024)
    yield "kv_changes", build("KV_CHANGES", 6, changes=CHANGE)
    yield "kv_publish", build("KV_PUBLISH", channel=b"news", message=b"hello")
    yield "kv_publish_empty", build("KV_PUBLISH", channel=b"", message=b"")
    yield "kv_talk", build("KV_TALK", talk=b'{"session": 1}')


def invalid_kv() -> Iterator[Invalid]:
    """The same, wrong."""
    ask = build("KV_ASK", 2, level=2, nodes=[0, 17])
    sums = build("KV_SUMS", 2, level=2, nodes=_sums(0, 17))
    leaves = build("KV_LEAVES", 4, leaves=[0, 1])
    watch = build("KV_WATCH", 6, flags=0, pattern=b"a*")
    payloads = {
        "kv_do_durability": raw(0x60, b"\x05" + _do()[17:]),
        "kv_do_no_request": raw(0x60, bytes(5)),
        "kv_do_short": raw(0x60, bytes(4)),
        "kv_done_reached": raw(0x61, b"\x05+OK\r\n"),
        "kv_done_no_reply": raw(0x61, b"\x02"),
        "kv_done_empty": raw(0x61, b""),
        "kv_records_short": raw(0x62, bytes(7)),
        "kv_ask_level": raw(0x64, b"\x04" + ask[17:]),
        "kv_ask_other_level": raw(0x64, b"\x01" + ask[17:]),
        "kv_ask_none": raw(0x64, b"\0\0\0"),
        "kv_ask_longer": longer(ask),
        "kv_ask_shorter": shorter(ask),
        "kv_sums_level": raw(0x65, b"\x01" + sums[17:]),
        "kv_sums_longer": longer(sums),
        "kv_sums_shorter": shorter(sums),
        "kv_leaves_none": raw(0x66, b"\0\0"),
        "kv_leaves_past": raw(0x66, b"\x01\0" + u32(KV_LEAVES)),
        "kv_leaves_longer": longer(leaves),
        "kv_leaves_shorter": shorter(leaves),
        "kv_end_whole": raw(0x67, bytes(4) + b"\x02"),
        "kv_end_short": raw(0x67, bytes(4)),
        "kv_watch_flags": raw(0x68, b"\x03" + watch[17:]),
        "kv_watch_longer": longer(watch),
        "kv_watch_shorter": shorter(watch),
        "kv_publish_channel": raw(0x6A, b"\x05\0news"),
        "kv_publish_short": raw(0x6A, b"\0"),
    }
    for name, frame in payloads.items():
        yield name, "PAYLOAD", frame
    yield "kv_heard_something", "FRAME_LENGTH", raw(0x63, b"\0")
    yield "kv_ask_many", "FRAME_LENGTH", raw(0x64, b"\x03\x01\x01" + bytes(257 * 4))
    yield "kv_leaves_many", "FRAME_LENGTH", raw(0x66, b"\x01\x04" + bytes(1025 * 4))
    yield "kv_watch_pattern", "FRAME_LENGTH", raw(0x68, b"\0\x01\x04" + bytes(1025))
