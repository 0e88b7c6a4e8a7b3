"""Numbers that policies may not import from the core, held to the core's."""

from __future__ import annotations

import re
from enum import IntEnum
from math import prod
from pathlib import Path

import pytest

from velum import _core, errors, kv, kvvalues
from velum.policy import job, kvpull, kvtalk, slices, tasks, types

CSRC = Path(__file__).parents[2] / "csrc"
HEADERS = "".join(
    (CSRC / name).read_text(encoding="utf-8")
    for name in (
        "include/velum.h",
        "include/velum_opt.h",
        "wire.h",
        "resp.h",
        "kv_record.h",
        "kv.h",
        "wire_kv.h",
        "kv_server.h",
    )
)


def defined(name: str) -> int:
    """The number that a header gives a name."""
    found = re.search(rf"\b{name} +(?:= )?\(?(0x[0-9a-f]+|[\du* ]+)", HEADERS)
    assert found is not None, name
    return prod(int(factor, 0) for factor in found[1].replace("u", "").split("*"))


def enumerated(name: str, prefix: str) -> dict[str, int]:
    """The enum of a header: its names without their prefix."""
    code = re.sub(r"/\*.*?\*/", "", HEADERS, flags=re.S)
    found = re.search(rf"typedef enum \{{([^}}]*)\}} {name};", code)
    assert found is not None, name
    members: dict[str, int] = {}
    for member in found[1].split(","):
        key, _, value = member.strip().partition(" = ")
        members[key.removeprefix(prefix)] = int(value) if value else max(members.values()) + 1
    return members


@pytest.mark.parametrize("name", ["PROBE", "ACK", "PROBE_REQUEST", "NACK", "GOSSIP", "BEACON"])
def test_datagram_types(name: str) -> None:
    assert getattr(types, name) == _core.frame_types()[name]


def test_a_datagram_survives_the_wire() -> None:
    update = types.Update(7, types.SUSPECT, types.LEAF, 2**40, types.Address(1, 2), 9)
    health = types.Health(50, 2, 4, 0, 1, 2, 9, 8, 7, 6)
    for kind in (types.PROBE, types.ACK):
        sent = types.Datagram(
            kind, 1, 2, 3, 4, health=health, updates=(update,) * types.UPDATES_MAX
        )
        assert _core.decode_datagram(_core.encode_datagram(sent)) == sent
    gossip = types.Datagram(types.GOSSIP, 1, 2, updates=(update,))
    assert _core.decode_datagram(_core.encode_datagram(gossip))[9] == (update,)
    beacon = types.Datagram(
        types.BEACON, 0, 5, incarnation=6, address=types.Address(7, 8), role=types.NODE, flags=1
    )
    heard = types.Datagram(*_core.decode_datagram(_core.encode_datagram(beacon)))
    assert (heard.sender, heard.incarnation, heard.role, heard.flags) == (5, 6, types.NODE, 1)
    assert heard.address == beacon.address


@pytest.mark.parametrize(
    ("mirror", "name", "prefix"),
    [
        (job.Reduce, "velum_reduce", "VELUM_REDUCE_"),
        (job.State, "velum_job_state", "VELUM_JOB_"),
        (job.Ask, "velum_ask", "VELUM_ASK_"),
    ],
)
def test_codes_of_jobs(mirror: type[IntEnum], name: str, prefix: str) -> None:
    assert {member.name: member.value for member in mirror} == enumerated(name, prefix)


@pytest.mark.parametrize(
    ("mirror", "name"),
    [
        (job.I32, "VELUM_I32"),
        (job.I64, "VELUM_I64"),
        (job.F32, "VELUM_F32"),
        (job.F64, "VELUM_F64"),
        (job.KEEP_GOING, "VELUM_JOB_KEEP_GOING"),
        (job.WRAP, "VELUM_JOB_WRAP"),
        (job.VALUES, "VELUM_JOB_VALUES"),
        (job.KEEP_GOING | job.WRAP | job.VALUES, "VELUM_JOB_FLAGS"),
        (job.PRIORITY_MAX, "VELUM_PRIORITY_MAX"),
        (job.HOLDERS_MAX, "VELUM_HOLDERS_MAX"),
        (slices.SLICES_MAX, "VELUM_SLICES_MAX"),
    ],
)
def test_numbers_of_jobs(mirror: int, name: str) -> None:
    assert mirror == defined(name)


@pytest.mark.parametrize("code", tasks.Code)
def test_error_codes(code: tasks.Code) -> None:
    assert re.search(rf"X\({code.name}, {code.value}, ", HEADERS) is not None


@pytest.mark.parametrize(
    ("mirror", "name"),
    [
        (kvtalk.FANOUT, "VELUM_KV_FANOUT"),
        (kvtalk.KEY_BYTES_MAX, "VELUM_KV_KEY_BYTES_MAX"),
        (kvvalues.KEY_BYTES_MAX, "VELUM_KV_KEY_BYTES_MAX"),
        (kvpull.LEVELS, "VELUM_KV_LEVELS"),
        (kvpull.ASK_MAX, "VELUM_KV_ASK_MAX"),
        (kvpull.LEAVES_MAX, "VELUM_KV_LEAVES_MAX"),
        (_core.KV_WATCH_STATE, "VELUM_KV_WATCH_STATE"),
        (_core.KV_WATCH_STOP, "VELUM_KV_WATCH_STOP"),
    ],
)
def test_numbers_of_the_state(mirror: int, name: str) -> None:
    assert mirror == defined(name)


def test_requests_of_the_state_have_room() -> None:
    assert kv.ARGS_MAX + 2 <= defined("VELUM_RESP_ARGS_MAX")


def test_durabilities() -> None:
    known = enumerated("velum_kv_durability", "VELUM_KV_")
    assert {name.upper(): code for code, name in enumerate(kv.DURABILITIES) if name} == known


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("LOCKED", errors.KvRefused),
        ("NO_SPACE", errors.KvRefused),
        ("STATE_FULL", errors.KvRefused),
        ("CAS_CONFLICT", errors.CasConflict),
        ("NO_QUORUM", errors.NoQuorum),
        ("WRONG_TYPE", errors.WrongType),
        ("NOT_A_LOG", errors.KvRefused),
    ],
)
def test_errors_of_the_state(name: str, kind: type[errors.VelumError]) -> None:
    code = errors.code_of(name)
    assert re.search(rf"X\({name}, {code}, ", HEADERS) is not None
    assert type(errors.error_from(code)) is kind
