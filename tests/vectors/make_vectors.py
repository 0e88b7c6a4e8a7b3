"""Makes the golden vectors: tests/vectors/*.txt, one file per group of messages.

    python tests/vectors/make_vectors.py                 rewrites the files
    python tests/vectors/make_vectors.py --corpus DIR    writes each as a binary file, for fuzzing

A line is `name hex`, in invalid.txt `name ERROR hex` with what a receiver finds wrong, or MORE for
a frame that is cut short. The bytes come from protocol.py, so from docs/protocol.md. The C codec
must decode every vector, encode it to the same bytes, and refuse every invalid one with its error.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import protocol as p
from protocol import build, raw

FOLDER = Path(__file__).parent

U8, U16, U32, U64 = 0xFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
LOOPBACK = 0x7F000001
STARTED = 1_760_000_000_000
MODULE = b"\0asm\x01\0\0\0"
HASH = hashlib.blake2b(MODULE, digest_size=32).digest()
LONG_NAME = "f" * p.NAME_BYTES_MAX
WIDE_NAME = "наименование→\U0001f680"
LONG_TEXT = "é" * (p.TEXT_BYTES_MAX // 2)

Vector = tuple[str, bytes]
Invalid = tuple[str, str, bytes]


def value(type_code: int, bits: int) -> dict[str, int]:
    """One value of a list."""
    return {"type": type_code, "bits": bits}


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
    return {**typical, "free_mib": 3800, "speed": 250_000, **changes}


FULL_HEALTH = health(
    cpu=100, slots=U8, cores=U8, flags=1, queue=U16, running=U16, free_mib=U32, speed=U32
)
EMPTY_HEALTH = health(cpu=0, slots=0, cores=1, free_mib=0, speed=0)


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


def sync(name: str, *members: tuple[dict[str, int], dict[str, int]]) -> bytes:
    """A SYNC or SYNC_REPLY of these records and healths."""
    return build(name, 21, members=[{"record": m, "health": h} for m, h in members])


def beacon(**changes: int) -> bytes:
    """A typical BEACON."""
    fields = {"sender": 3, "role": p.NODE, "flags": 0, "ip": LOOPBACK, "port": 8003}
    return build("BEACON", **(fields | {"incarnation": STARTED} | changes))


# ---- valid ----


def link_vectors() -> Iterator[Vector]:
    """The handshake and what keeps and ends a link."""
    yield "example_hello", hello()
    yield "hello_client", hello(role=p.CLIENT, slots=0, id=0, incarnation=0, ip=0, port=0)
    yield (
        "hello_worker",
        hello(role=p.WORKER, slots=1, id=0, incarnation=0, ip=0, port=0, version=""),
    )
    yield "hello_leaf", hello(role=p.LEAF, slots=1, id=U16)
    full = {"slots": U8, "id": U16, "features": U32, "incarnation": U64, "ip": U32, "port": U16}
    yield "hello_full", hello(**full, version="v" * 64, key=bytes(range(256)))
    yield "bye_leave", build("BYE", code=0, text="")
    text = "node id 3 is already in use by the node at 127.0.0.1:8003"
    yield "bye_duplicate", build("BYE", code=30, text=text)
    yield "bye_full", build("BYE", code=U16, text=LONG_TEXT)
    yield "ping", build("PING", 1)
    yield "ping_full", build("PING", U64)
    yield "pong", build("PONG", 1)


def work_vectors() -> Iterator[Vector]:
    """Calls and tasks, and what comes back."""
    yield "example_call", call()
    yield "call_to_schedule", call(flags=0, timeout_ms=250, name="div")
    yield "call_empty", call(0, flags=0, name="", args=[])
    yield "call_full", call(U64, timeout_ms=U32, name=LONG_NAME, args=MANY)
    yield "call_edges", call(name=WIDE_NAME, args=EDGES)
    yield "task", task()
    yield "task_full", task(U64, timeout_ms=U32, fuel=U64, pages=U32, name=LONG_NAME, args=MANY)
    yield "task_empty", task(0, flags=0, timeout_ms=0, hash=bytes(32), name="", args=[])
    yield "example_result", result()
    yield "result_of_nothing", result(values_=[])
    yield "result_edges", result(health=EMPTY_HEALTH, values_=EDGES)
    yield "result_full", result(U64, node=U16, run_us=U32, health=FULL_HEALTH, values_=MANY)
    yield "error", build("ERROR", 7, code=43, node=2, deaths=0, text="division by zero: div 1 0")
    yield "error_poison", build("ERROR", 8, code=83, node=0, deaths=3, text="")
    yield "error_full", build("ERROR", U64, code=U16, node=U16, deaths=U8, text=LONG_TEXT)
    yield "progress", build("PROGRESS", 8, done=500, total=1000)
    yield "progress_unknown", build("PROGRESS", 8, done=U64, total=0)
    yield "cancel", build("CANCEL", 8, code=p.CANCELLED)
    yield "cancel_deadline", build("CANCEL", U64, code=p.DEADLINE)


def module_vectors() -> Iterator[Vector]:
    """Modules by hash."""
    yield "module_want", build("MODULE_WANT", 9, hash=HASH, offset=0)
    last = p.MODULE_BYTES_MAX - p.MODULE_PART_BYTES
    yield "module_want_last", build("MODULE_WANT", U64, hash=bytes([U8]) * 32, offset=last)
    yield "module_whole", build("MODULE", 9, hash=HASH, total=8, offset=0, bytes=MODULE)
    part = p.MODULE_PART_BYTES
    yield "module_tail", build("MODULE", 9, hash=HASH, total=part + 1, offset=part, bytes=b"\x0b")


def member_vectors() -> Iterator[Vector]:
    """Health and full-state exchange."""
    yield "health", build("HEALTH", **health())
    yield "health_empty", build("HEALTH", **EMPTY_HEALTH)
    yield "health_full", build("HEALTH", **FULL_HEALTH)
    yield "sync_alone", sync("SYNC", (record(state=p.ALIVE, from_=0), health()))
    three = ((record(), health()), (FULL_RECORD, FULL_HEALTH), (EMPTY_RECORD, EMPTY_HEALTH))
    yield "sync", sync("SYNC", *three)
    yield "sync_reply", sync("SYNC_REPLY", *three)


def query_vectors() -> Iterator[Vector]:
    """Questions about a node."""
    yield "query_nodes", build("QUERY", 5, topic="nodes")
    yield "query_empty", build("QUERY", 5, topic="")
    yield "query_full", build("QUERY", U64, topic=LONG_NAME)
    yield "answer", build("ANSWER", 5, json=b'[{"id":3,"state":"alive"}]')
    yield "answer_empty", build("ANSWER", 5, json=b"")


def datagram_vectors() -> Iterator[Vector]:
    """Membership."""
    many = [record(id=index + 1, state=index % 4 + 1) for index in range(p.UPDATES_MAX)]
    pair = {"sender": 1, "target": 3}
    last = {"sender": U16, "target": U16}
    yield (
        "example_probe",
        build("PROBE", 99, **pair, suspected=0, health=health(), updates=[record()]),
    )
    yield "probe_plain", build("PROBE", 1, **pair, suspected=0, health=health(), updates=[])
    yield "probe_full", build("PROBE", U64, **last, suspected=U64, health=FULL_HEALTH, updates=many)
    yield (
        "ack",
        build("ACK", 99, sender=3, target=3, incarnation=STARTED, health=health(), updates=[]),
    )
    passed = {"sender": 4, "target": 3, "incarnation": STARTED + 1, "health": health()}
    yield "ack_passed_on", build("ACK", 98, **passed, updates=[record()])
    yield "ack_full", build("ACK", U64, **last, incarnation=U64, health=FULL_HEALTH, updates=many)
    asked = {"ip": LOOPBACK, "port": 8003}
    yield "probe_request", build("PROBE_REQUEST", 98, **pair, **asked, updates=[])
    yield "probe_request_full", build("PROBE_REQUEST", U64, **last, ip=U32, port=U16, updates=many)
    yield "nack", build("NACK", 98, sender=4, target=3)
    yield "nack_full", build("NACK", U64, **last)
    edges = [FULL_RECORD, EMPTY_RECORD]
    yield "gossip", build("GOSSIP", sender=3, updates=edges)
    yield "gossip_full", build("GOSSIP", U64, sender=U16, updates=many)
    yield "beacon", beacon()
    yield "beacon_ask", beacon(flags=1, role=p.LEAF)
    yield "beacon_client", beacon(sender=0, role=p.CLIENT, flags=1, ip=0, port=0, incarnation=0)
    yield "beacon_full", beacon(sender=U16, flags=1, ip=U32, port=U16, incarnation=U64)


GROUPS = {
    "link": link_vectors,
    "work": work_vectors,
    "modules": module_vectors,
    "members": member_vectors,
    "query": query_vectors,
    "datagrams": datagram_vectors,
}

# ---- invalid ----


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


def invalid_headers() -> Iterator[Invalid]:
    """Wrong from the first bytes on, or cut short."""
    ping = build("PING", 1)
    yield "magic_first", "MAGIC", b"G"
    yield "magic_http", "MAGIC", b"GET / HTTP/1.1\r\n\r\n"
    yield "magic_second", "MAGIC", b"VX"
    yield "version_0", "WIRE_VERSION", b"VL\0"
    yield "version_2", "WIRE_VERSION", b"VL\x02" + ping[3:]
    for code in (0x00, 0x05, 0x0F, 0x18, 0x23, 0x2A, 0x36, 0x40, 0xFF):
        yield f"type_{code:02x}", "FRAME_TYPE", raw(code, b"")
    for name, (code, limit, _) in p.FRAMES.items():
        head = b"VL\x01" + bytes([code])
        yield f"length_{name.lower()}", "FRAME_LENGTH", head + (limit + 1).to_bytes(4, "little")
    yield "length_huge", "FRAME_LENGTH", b"VL\x01\x20\xff\xff\xff\xff" + bytes(8)
    yield "cut_magic", "MORE", ping[:1]
    yield "cut_header", "MORE", ping[:15]
    yield "cut_payload", "MORE", call()[:-1]
    yield "cut_at_payload", "MORE", call()[:16]


def invalid_link() -> Iterator[Invalid]:
    """Broken HELLO and BYE."""
    bye = build("BYE", code=30, text="é")
    cases = {
        "hello_role_0": patch(hello(), 0, b"\0"),
        "hello_role_5": patch(hello(), 0, b"\x05"),
        "hello_node_without_id": patch(hello(), 2, b"\0\0"),
        "hello_worker_with_id": patch(hello(), 0, b"\x03"),
        "hello_client_with_slots": patch(hello(role=p.CLIENT, slots=0, id=0), 1, b"\x01"),
        "hello_version_65": patch(longer(hello(version="v" * 64), b"v"), 22, b"\x41"),
        "hello_version_past_end": patch(hello(version="v"), 22, b"\x40"),
        "hello_version_not_utf8": patch(hello(), 23, b"\xff"),
        "hello_key_257": patch(longer(hello(key=bytes(256))), 34, b"\x01\x01"),
        "hello_key_past_end": patch(hello(), 34, b"\x01\0"),
        "hello_longer": longer(hello()),
        "hello_shorter": shorter(hello()),
        "hello_empty": raw(0x01, b""),
        "bye_not_utf8": patch(bye, 4, b"\xc3\x28"),
        "bye_overlong": patch(bye, 4, b"\xc0\x80"),
        "bye_longer": longer(bye),
        "bye_text_past_end": patch(bye, 2, b"\x03\0"),
        "bye_empty": raw(0x02, b""),
    }
    for name, frame in cases.items():
        yield name, "PAYLOAD", frame


def invalid_work() -> Iterator[Invalid]:
    """Broken calls, tasks and answers."""
    error = build("ERROR", 7, code=43, node=2, deaths=0, text="x")
    long_error = build("ERROR", 7, code=43, node=2, deaths=0, text="x" * p.TEXT_BYTES_MAX)
    cancel = build("CANCEL", 7, code=p.CANCELLED)
    too_many = call(args=MANY)
    cases = {
        "call_reserved_flag": patch(call(), 0, b"\x03"),
        "call_name_surrogate": patch(call(), 6, b"\xed\xa0\x80"),
        "call_name_past_end": patch(call(), 5, b"\xff"),
        "call_type_0": patch(call(), 10, b"\0"),
        "call_type_7b": patch(call(), 10, b"\x7b"),
        "call_type_80": patch(call(), 10, b"\x80"),
        "call_33_args": patch(longer(too_many, b"\x7e" + bytes(8)), 9, b"\x21"),
        "call_arg_missing": patch(call(), 9, b"\x03"),
        "call_longer": longer(call()),
        "call_shorter": shorter(call()),
        "call_empty": raw(0x10, b""),
        "task_reserved_flag": patch(task(), 0, b"\x80"),
        "task_name_not_utf8": patch(task(), 50, b"\x80"),
        "task_longer": longer(task()),
        "task_shorter": shorter(task()),
        "task_only_fixed": raw(0x11, bytes(49)),
        "result_cpu_101": patch(result(), 6, b"\x65"),
        "result_no_cores": patch(result(), 8, b"\0"),
        "result_reserved_flag": patch(result(), 9, b"\x02"),
        "result_value_missing": patch(result(), 22, b"\x02"),
        "result_longer": longer(result()),
        "error_code_0": patch(error, 0, b"\0\0"),
        "error_text_1025": patch(longer(long_error, b"x"), 5, b"\x01\x04"),
        "error_longer": longer(error),
        "progress_shorter": shorter(build("PROGRESS", 8, done=1, total=2)),
        "cancel_code_0": patch(cancel, 0, b"\0\0"),
        "cancel_code_60": patch(cancel, 0, b"\x3c\0"),
        "cancel_shorter": shorter(cancel),
    }
    for name, frame in cases.items():
        yield name, "PAYLOAD", frame


def invalid_rest() -> Iterator[Invalid]:
    """Broken modules, members and queries."""
    want = build("MODULE_WANT", 9, hash=HASH, offset=0)
    whole = build("MODULE", 9, hash=HASH, total=8, offset=0, bytes=MODULE)
    one = sync("SYNC", (record(), health()))
    cases = {
        "module_want_unaligned": patch(want, 32, b"\x01"),
        "module_want_past_limit": patch(want, 32, p.MODULE_BYTES_MAX.to_bytes(4, "little")),
        "module_want_shorter": shorter(want),
        "module_total_0": patch(whole, 32, bytes(4)),
        "module_total_less": patch(whole, 32, b"\x07"),
        "module_total_more": patch(whole, 32, b"\x09"),
        "module_total_past_limit": patch(whole, 32, (p.MODULE_BYTES_MAX + 1).to_bytes(4, "little")),
        "module_unaligned": patch(patch(whole, 32, b"\x09"), 36, b"\x01"),
        "module_no_bytes": raw(0x17, whole[16:56]),
        "module_only_hash": raw(0x17, HASH),
        "sync_count_0": raw(0x20, b"\0\0"),
        "sync_count_more": patch(one, 0, b"\x02\0"),
        "sync_longer": longer(one),
        "sync_id_0": patch(one, 2, b"\0\0"),
        "sync_state_0": patch(one, 4, b"\0"),
        "sync_state_5": patch(one, 4, b"\x05"),
        "sync_role_client": patch(one, 5, b"\x04"),
        "sync_cpu_101": patch(one, 22, b"\x65"),
        "sync_empty": raw(0x20, b""),
        "health_shorter": shorter(build("HEALTH", **health())),
        "health_no_cores": patch(build("HEALTH", **health()), 2, b"\0"),
        "query_topic_past_end": raw(0x28, b"\x05node"),
        "query_longer": longer(build("QUERY", 5, topic="nodes")),
        "query_not_utf8": raw(0x28, b"\x01\xff"),
        "query_above_unicode": raw(0x28, b"\x04\xf4\x90\x80\x80"),
        "query_empty_payload": raw(0x28, b""),
    }
    for name, frame in cases.items():
        yield name, "PAYLOAD", frame


def invalid_datagrams() -> Iterator[Invalid]:
    """Broken datagrams; one that is cut short is malformed, nothing more can come."""
    pair: dict[str, Any] = {"sender": 1, "target": 3, "health": health()}
    probe = build("PROBE", 99, **pair, suspected=0, updates=[record()])
    many = build("GOSSIP", sender=1, updates=[record()] * p.UPDATES_MAX)
    one_more = probe[p.HEADER_BYTES + 29 :]
    nack = build("NACK", 98, sender=4, target=3)
    cases = {
        "probe_cut": probe[:-1],
        "probe_header_only": probe[:16],
        "probe_trailing": probe + b"\0",
        "probe_longer": longer(probe),
        "probe_sender_0": patch(probe, 0, b"\0\0"),
        "probe_target_0": patch(probe, 2, b"\0\0"),
        "probe_reserved_health_flag": patch(probe, 15, b"\x02"),
        "probe_update_missing": patch(probe, 28, b"\x02"),
        "probe_update_unread": patch(probe, 28, b"\0"),
        "probe_update_role_worker": patch(probe, 32, b"\x03"),
        "gossip_41_updates": patch(longer(many, one_more), 2, b"\x29"),
        "gossip_no_count": raw(0x34, b"\x01\0"),
        "gossip_sender_0": raw(0x34, b"\0\0\0"),
        "nack_cut": shorter(nack),
        "nack_with_updates": longer(nack),
        "beacon_role_worker": patch(beacon(), 2, b"\x03"),
        "beacon_role_0": patch(beacon(), 2, b"\0"),
        "beacon_node_without_id": patch(beacon(), 0, b"\0\0"),
        "beacon_client_with_id": patch(beacon(), 2, b"\x04"),
        "beacon_reserved_flag": patch(beacon(), 3, b"\x02"),
        "beacon_longer": longer(beacon()),
        "beacon_empty": raw(0x35, b""),
    }
    for name, frame in cases.items():
        yield name, "PAYLOAD", frame


def invalid_vectors() -> Iterator[Invalid]:
    """All of them, with the error a receiver finds."""
    for make in (invalid_headers, invalid_link, invalid_work, invalid_rest, invalid_datagrams):
        yield from make()


def render() -> dict[str, str]:
    """File name -> content."""
    files = {
        f"{group}.txt": "".join(f"{name} {frame.hex()}\n" for name, frame in make())
        for group, make in GROUPS.items()
    }
    invalid = "".join(f"{name} {error} {frame.hex()}\n" for name, error, frame in invalid_vectors())
    return {**files, "invalid.txt": invalid}


def write_corpus(folder: Path) -> None:
    """Each vector as a file of its bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for make in GROUPS.values():
        for name, frame in make():
            (folder / name).write_bytes(frame)
    for name, _, frame in invalid_vectors():
        (folder / f"invalid_{name}").write_bytes(frame)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="make the golden vectors of the wire protocol")
    parser.add_argument(
        "--corpus", type=Path, metavar="DIR", help="write seeds for fuzzing instead"
    )
    corpus: Path | None = parser.parse_args().corpus
    if corpus is not None:
        write_corpus(corpus)
        return
    for name, content in render().items():
        (FOLDER / name).write_text(content, encoding="ascii")


if __name__ == "__main__":
    main()
