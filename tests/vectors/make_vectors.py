"""Makes the golden vectors: tests/vectors/*.txt, one file per group of messages.

    python tests/vectors/make_vectors.py                 rewrites the files
    python tests/vectors/make_vectors.py --corpus DIR    writes each as a binary file, for fuzzing

A line is `name hex`, in invalid.txt `name ERROR hex` with what a receiver finds wrong, or MORE for
a frame that is cut short. The bytes come from protocol.py, so from docs/protocol.md. The C codec
must decode every vector, encode it to the same bytes, and refuse every invalid one with its error.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import protocol as p
from file_vectors import chunk_vectors, invalid_chunks, invalid_names, name_vectors
from kv_vectors import invalid_kv, kv_vectors
from protocol import build, raw
from typical import (
    EDGES,
    EMPTY_HEALTH,
    EMPTY_RECORD,
    FULL_HEALTH,
    FULL_RECORD,
    HASH,
    JOB,
    LONG_NAME,
    LONG_TEXT,
    LOOPBACK,
    MANY,
    MODULE,
    STARTED,
    TICKET,
    U8,
    U16,
    U32,
    U64,
    WIDE_NAME,
    beacon,
    call,
    failure,
    health,
    hello,
    i32,
    i64,
    job,
    lease,
    longer,
    patch,
    record,
    result,
    run,
    scatter,
    shorter,
    slices,
    sync,
    task,
    u32,
    u64,
    value,
)

FOLDER = Path(__file__).parent

Vector = tuple[str, bytes]
Invalid = tuple[str, str, bytes]

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


def job_vectors() -> Iterator[Vector]:
    """Scatters."""
    ends = [i64(-(2**63)), i64(2**63 - 1)]
    full = {"flags": 7, "reduce": p.COLLECT, "priority": 100, "slices": p.SLICES_MAX}
    full |= {"timeout_ms": U32, "limit_ms": U32, "fuel": U64, "pages": U32, "created_ms": U64}
    names = {"name": LONG_NAME, "label": LONG_NAME, "args": ends + MANY[2:]}
    yield "scatter", scatter()
    yield "scatter_full", scatter(U64, job=p.JOB_ID_MAX, missing=U64, **full, **names)
    yield "scatter_empty", scatter(0, slices=0, args=[i64(7), i64(7)], name="", label="")
    low = {"result": p.I32, "missing": U32, "reduce": p.FIRST}
    yield "scatter_i32", scatter(**low, slices=1, args=[i32(-1), i32(0), *EDGES])
    yield "scatter_floats", scatter(result=p.F64, reduce=p.MIN, missing=U64, label=WIDE_NAME)
    yield "lease", lease()
    changed = {"flags": 3, "timeout_ms": U32, "fuel": U64, "pages": U32, "name": LONG_NAME}
    last = {"slices": p.SLICES_MAX, "first": p.SLICES_MAX - 1, "count": 1, "priority": 100}
    yield "lease_full", lease(U64, {**changed, "args": ends + MANY[2:]}, job=p.JOB_ID_MAX, **last)
    yield "lease_whole", lease(0, {"name": ""}, job=1, first=0, count=4096, priority=1)
    yield "example_slices", slices()
    yield "slices_last", slices(flags=1, busy_us=0, runs=[], failed=[])
    edge = p.SLICES_MAX - 1
    runs = [run(0, 0, U64), run(3, 1), run(edge - 1, 2, 3)]
    failed = [failure(0, 83), failure(1, U16, "é" * 127), failure(edge, 1, "x" * 255)]
    yield "slices_full", slices(U64, job=p.JOB_ID_MAX, busy_us=U32, runs=runs, failed=failed)
    yield "trim", build("TRIM", TICKET, end=300)
    yield "trim_nothing", build("TRIM", U64, end=0)
    yield "trim_all", build("TRIM", 0, end=p.SLICES_MAX)
    yield "job", job()
    counted = {"done": 4096, "answer": [i64(41_538)], "holders": [], "shares": []}
    yield "job_done", job(3, state=p.DONE, **counted)
    text = "slice 258: trap: integer divide by zero"
    yield "job_failed", job(3, state=p.ENDED_FAILED, failed=1, code=62, text=text)
    yield "job_cancelled", job(3, state=p.ENDED_CANCELLED, code=p.CANCELLED)
    most = {"slices": p.SLICES_MAX, "done": 0, "failed": p.SLICES_MAX, "checksum": U32}
    most |= {"attempt": U16, "epoch": U32, "coordinator": U16, "sequence": U32, "elapsed_ms": U64}
    share = {"node": U16, "leases": U16, "done": U32, "busy_ms": U32}
    ends_full = {"state": p.DONE, "text": LONG_TEXT, "answer": [value(p.F32, 0x7FC00000)]}
    listed = {"holders": [U16 - n for n in range(p.HOLDERS_MAX)], "shares": [share] * 40}
    yield (
        "job_full",
        job(U64, job=p.JOB_ID_MAX, retries=U32, duplicates=U32, **most, **ends_full, **listed),
    )
    for name, ask in (("watch", 1), ("cancel", 2), ("resume", 3), ("hold", 4)):
        yield f"job_ask_{name}", build("JOB_ASK", 3, job=JOB, ask=ask, flags=0)
    yield "job_ask_values", build("JOB_ASK", U64, job=p.JOB_ID_MAX, ask=p.WATCH, flags=p.VALUES)


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
    "jobs": job_vectors,
    "modules": module_vectors,
    "members": member_vectors,
    "query": query_vectors,
    "datagrams": datagram_vectors,
    "chunks": chunk_vectors,
    "names": name_vectors,
    "kv": kv_vectors,
}

# ---- invalid ----


def invalid_headers() -> Iterator[Invalid]:
    """Wrong from the first bytes on, or cut short."""
    ping = build("PING", 1)
    yield "magic_first", "MAGIC", b"G"
    yield "magic_http", "MAGIC", b"GET / HTTP/1.1\r\n\r\n"
    yield "magic_second", "MAGIC", b"VX"
    yield "version_0", "WIRE_VERSION", b"VL\0"
    yield "version_2", "WIRE_VERSION", b"VL\x02" + ping[3:]
    for code in (0x00, 0x05, 0x0F, 0x1E, 0x23, 0x2A, 0x36, 0x3F, 0x49, 0x4F, 0x58, 0x6C, 0xFF):
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
        "result_value_missing": patch(result(), 30, b"\x02"),
        "result_ram_free_past_ram": patch(result(), 26, u32(2049)),
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


def invalid_jobs() -> Iterator[Invalid]:
    """Broken specs and leases."""
    spec, grant = scatter(), lease()
    i32_spec = scatter(result=p.I32, args=[i32(0), i32(500_000)])
    empty = scatter(slices=0, args=[i64(7), i64(7)])
    trim = build("TRIM", TICKET, end=300)
    cases = {
        "scatter_job_0": patch(spec, 0, u64(0)),
        "scatter_job_2_63": patch(spec, 0, u64(2**63)),
        "scatter_reserved_flag": patch(spec, 8, b"\x08"),
        "scatter_reduce_0": patch(spec, 9, b"\0"),
        "scatter_reduce_11": patch(spec, 9, b"\x0b"),
        "scatter_xor_of_floats": patch(scatter(reduce=p.XOR), 11, b"\x7c"),
        "scatter_min_of_nothing": patch(empty, 9, b"\x03"),
        "scatter_max_of_nothing": patch(empty, 9, b"\x04"),
        "scatter_priority_0": patch(spec, 10, b"\0"),
        "scatter_priority_101": patch(spec, 10, b"\x65"),
        "scatter_result_0": patch(spec, 11, b"\0"),
        "scatter_no_slices": patch(spec, 12, u32(0)),
        "scatter_slices_past_limit": patch(spec, 12, u32(p.SLICES_MAX + 1)),
        "scatter_more_slices_than_numbers": patch(spec, 12, u32(500_001)),
        "scatter_slices_of_nothing": patch(empty, 12, u32(1)),
        "scatter_missing_is_too_wide": patch(i32_spec, 36, u64(1 << 32)),
        "scatter_name_not_utf8": patch(spec, 85, b"\xff"),
        "scatter_label_not_utf8": patch(spec, 98, b"\xff"),
        "scatter_label_past_end": patch(spec, 97, b"\xff"),
        "scatter_one_argument": raw(0x18, spec[16:125] + b"\x01" + spec[126:135]),
        "scatter_start_of_floats": patch(patch(spec, 110, b"\x7c"), 119, b"\x7c"),
        "scatter_two_types": patch(spec, 110, b"\x7c"),
        "scatter_end_before_start": patch(spec, 120, u64(U64)),
        "scatter_i32_end_before_start": patch(i32_spec, 116, u32(1 << 31)),
        "scatter_longer": longer(spec),
        "scatter_shorter": shorter(spec),
        "scatter_only_fixed": raw(0x18, spec[16:100]),
        "scatter_empty_payload": raw(0x18, b""),
        "lease_not_placed": patch(grant, 0, b"\0"),
        "lease_only_careful": patch(grant, 0, b"\x02"),
        "lease_reserved_flag": patch(grant, 0, b"\x05"),
        "lease_name_not_utf8": patch(grant, 50, b"\xff"),
        "lease_end_before_start": patch(grant, 73, u64(U64)),
        "lease_job_0": patch(grant, 81, u64(0)),
        "lease_no_slices": patch(grant, 89, u32(0)),
        "lease_more_slices_than_numbers": patch(grant, 89, u32(500_001)),
        "lease_first_past_end": patch(grant, 93, u32(4096)),
        "lease_count_0": patch(grant, 97, u32(0)),
        "lease_count_past_end": patch(grant, 97, u32(4096 - 256 + 1)),
        "lease_count_wraps": patch(grant, 97, u32(U32)),
        "lease_priority_0": patch(grant, 101, b"\0"),
        "lease_priority_101": patch(grant, 101, b"\x65"),
        "lease_longer": longer(grant),
        "lease_shorter": shorter(grant),
        "lease_only_task": raw(0x19, grant[16:97]),
        "task_careful": patch(task(), 0, b"\x03"),
        "trim_past_limit": patch(trim, 0, u32(p.SLICES_MAX + 1)),
        "trim_shorter": shorter(trim),
    }
    for name, frame in cases.items():
        yield name, "PAYLOAD", frame


def invalid_reports() -> Iterator[Invalid]:
    """Broken slices, records and questions about jobs."""
    report, two = slices(), slices(runs=[], failed=[failure(4, 1), failure(9, 1, "é")])
    record, done = job(), job(state=p.DONE, done=4096, answer=[i64(41_538)])
    ask = build("JOB_ASK", 3, job=JOB, ask=p.WATCH, flags=0)
    long_job = job(text="x" * p.TEXT_BYTES_MAX)
    cases = {
        "slices_job_0": patch(report, 0, u64(0)),
        "slices_job_2_63": patch(report, 0, u64(2**63)),
        "slices_reserved_flag": patch(report, 8, b"\x02"),
        "slices_run_missing": patch(report, 13, b"\x03"),
        "slices_run_unread": patch(report, 13, b"\x01"),
        "slices_run_empty": patch(slices(runs=[run(1, 0)], failed=[]), 19, u32(0)),
        "slices_run_past_payload": patch(report, 19, u32(60_000)),
        "slices_run_past_limit": patch(report, 39, u32(p.SLICES_MAX)),
        "slices_run_reaches_past_limit": patch(report, 15, u32(p.SLICES_MAX - 1)),
        "slices_runs_overlap": patch(report, 39, u32(257)),
        "slices_runs_touch": patch(report, 39, u32(258)),
        "slices_runs_descend": patch(report, 39, u32(0)),
        "slices_failure_missing": patch(report, 55, b"\x02"),
        "slices_failure_unread": patch(report, 55, b"\0"),
        "slices_failure_past_limit": patch(report, 57, u32(p.SLICES_MAX)),
        "slices_failure_code_0": patch(report, 61, b"\0\0"),
        "slices_failure_twice": patch(two, 17, u32(9)),
        "slices_failures_descend": patch(two, 17, u32(10)),
        "slices_failure_not_utf8": patch(two, 31, b"\xff"),
        "slices_failure_text_past_end": patch(two, 30, b"\x03"),
        "slices_longer": longer(report),
        "slices_shorter": shorter(report),
        "slices_no_failures": raw(0x1A, report[16:71]),
        "slices_only_fixed": raw(0x1A, report[16:29] + b"\0\0"),
        "slices_empty": raw(0x1A, b""),
        "job_job_0": patch(record, 0, u64(0)),
        "job_state_0": patch(record, 10, b"\0"),
        "job_state_5": patch(record, 10, b"\x05"),
        "job_failed_without_code": patch(record, 10, b"\x03"),
        "job_cancelled_without_code": patch(record, 10, b"\x02"),
        "job_running_with_code": patch(record, 53, b"\x3e"),
        "job_running_with_answer": patch(done, 10, b"\x01"),
        "job_coordinator_0": patch(record, 15, b"\0\0"),
        "job_slices_past_limit": patch(record, 21, u32(p.SLICES_MAX + 1)),
        "job_done_past_slices": patch(record, 25, u32(4097)),
        "job_failed_past_slices": patch(record, 29, u32(3073)),
        "job_failed_wraps": patch(record, 29, u32(U32)),
        "job_text_1025": patch(longer(long_job, b"x"), 55, b"\x01\x04"),
        "job_text_not_utf8": patch(job(text="x"), 57, b"\xff"),
        "job_two_answers": patch(done, 57, b"\x02"),
        "job_answer_type_0": patch(done, 58, b"\0"),
        "job_17_holders": patch(longer(job(holders=[1] * 16), b"\1\0"), 58, b"\x11"),
        "job_holder_0": patch(record, 59, b"\0\0"),
        "job_share_missing": patch(record, 63, b"\x03"),
        "job_share_of_node_0": patch(record, 65, b"\0\0"),
        "job_longer": longer(record),
        "job_shorter": shorter(record),
        "job_empty": raw(0x1C, b""),
        "job_ask_job_0": patch(ask, 0, u64(0)),
        "job_ask_job_2_63": patch(ask, 0, u64(2**63)),
        "job_ask_0": patch(ask, 8, b"\0"),
        "job_ask_5": patch(ask, 8, b"\x05"),
        "job_ask_reserved_flag": patch(ask, 9, b"\x01"),
        "job_ask_shorter": shorter(ask),
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
        "sync_ram_free_past_ram": patch(one, 42, u32(2049)),
        "sync_empty": raw(0x20, b""),
        "health_shorter": shorter(build("HEALTH", **health())),
        "health_no_cores": patch(build("HEALTH", **health()), 2, b"\0"),
        "health_ram_free_past_ram": patch(build("HEALTH", **health()), 20, u32(2049)),
        "health_of_16_bytes": raw(0x22, build("HEALTH", **health())[16:32]),
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
    one_more = probe[p.HEADER_BYTES + 37 :]
    nack = build("NACK", 98, sender=4, target=3)
    cases = {
        "probe_cut": probe[:-1],
        "probe_header_only": probe[:16],
        "probe_trailing": probe + b"\0",
        "probe_longer": longer(probe),
        "probe_sender_0": patch(probe, 0, b"\0\0"),
        "probe_target_0": patch(probe, 2, b"\0\0"),
        "probe_reserved_health_flag": patch(probe, 15, b"\x02"),
        "probe_update_missing": patch(probe, 36, b"\x02"),
        "probe_update_unread": patch(probe, 36, b"\0"),
        "probe_update_role_worker": patch(probe, 40, b"\x03"),
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


INVALID = (
    invalid_headers,
    invalid_link,
    invalid_work,
    invalid_jobs,
    invalid_reports,
    invalid_rest,
    invalid_datagrams,
    invalid_chunks,
    invalid_names,
    invalid_kv,
)


def invalid_vectors() -> Iterator[Invalid]:
    """All of them, with the error a receiver finds."""
    for make in INVALID:
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
