"""`velum.resp`: requests as Redis has them, every kind of reply, and anything else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from velum import resp
from velum.resp import Malformed, Refusal

# Line by line from the RESP specification of redis.io.
REPLIES: list[tuple[bytes, Any]] = [
    (b"+OK\r\n", "OK"),
    (b":0\r\n", 0),
    (b":-1000\r\n", -1000),
    (b":+7\r\n", 7),
    (b"$5\r\nhello\r\n", b"hello"),
    (b"$0\r\n\r\n", b""),
    (b"$2\r\n\r\n\r\n", b"\r\n"),
    (b"$-1\r\n", None),
    (b"*-1\r\n", None),
    (b"_\r\n", None),
    (b"#t\r\n", True),
    (b"#f\r\n", False),
    (b",1.25\r\n", 1.25),
    (b",-inf\r\n", float("-inf")),
    (
        b"(34928903284092385093248509\r\n",
        34928903284092385093248509,
    ),
    (b"=15\r\ntxt:Some string\r\n", b"Some string"),
    (b"*0\r\n", []),
    (b"*3\r\n:1\r\n$1\r\na\r\n*1\r\n_\r\n", [1, b"a", [None]]),
    (b">2\r\n+message\r\n:1\r\n", ["message", 1]),
    (b"~3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\na\r\n", {b"a", b"b"}),
    (b"%2\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n*0\r\n", {b"a": 1, b"b": []}),
    (b"|1\r\n+ttl\r\n:3\r\n:2\r\n", 2),
]

MALFORMED = [
    b"",
    b"?\r\n",
    b"OK\r\n",
    b"+OK",
    b"+OK\n",
    b":\r\n",
    b":1x\r\n",
    b":1_0\r\n",
    b": 1\r\n",
    b",1_0\r\n",
    b", 1\r\n",
    b"," + b"1" * 500 + b"\r\n",
    b"$5\r\nhell\r\n",
    b"$5\r\nhelloxx",
    b"$-2\r\n",
    b"$x\r\n",
    b"$+1\r\na\r\n",
    b"$9999999999999999999999\r\n",
    b"*2\r\n:1\r\n",
    b"*-2\r\n",
    b"*999999999999999999\r\n",
    b"#x\r\n",
    b"_x\r\n",
    b"%1\r\n:1\r\n",
    b"~1\r\n*0\r\n",
    b"%1\r\n*0\r\n:1\r\n",
    b"=3\r\ntxt\r\n",
    b":1\r\n:2\r\n",
    b"*1\r\n" * 40 + b":1\r\n",
]


@pytest.mark.parametrize(("data", "value"), REPLIES)
def test_replies_are_read(data: bytes, value: Any) -> None:
    read = resp.reply(data)
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(("data", "value"), REPLIES)
def test_no_part_of_a_reply_is_one(data: bytes, value: Any) -> None:
    for size in range(len(data)):
        with pytest.raises(Malformed):
            resp.reply(data[:size])


@pytest.mark.parametrize("data", MALFORMED)
def test_anything_else_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        resp.reply(data)


def test_several_replies_follow_each_other() -> None:
    together = b"".join(data for data, _ in REPLIES)
    assert list(resp.replies(together)) == [value for _, value in REPLIES]
    assert list(resp.replies(b"")) == []


@pytest.mark.parametrize(
    "data", [b"-WRONGTYPE Operation against\r\n", b"!28\r\nWRONGTYPE Operation against\r\n"]
)
def test_errors_are_values(data: bytes) -> None:
    if data[:1] == b"!":
        data = data.replace(b"28", b"%d" % len(b"WRONGTYPE Operation against"))
    refusal = resp.reply(data)
    assert isinstance(refusal, Refusal)
    assert (refusal.kind, refusal.text) == ("WRONGTYPE", "Operation against")
    inside = resp.reply(b"*1\r\n" + data)
    assert isinstance(inside, list) and isinstance(inside[0], Refusal)


def test_requests_are_arrays_of_bulk_strings() -> None:
    assert resp.request([b"GET", b""]) == b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n"


@given(st.lists(st.binary()))
def test_a_request_is_read_as_what_it_says(args: list[bytes]) -> None:
    assert resp.reply(resp.request(args)) == args


@given(st.binary())
def test_bytes_are_read_or_malformed(data: bytes) -> None:
    try:
        list(resp.replies(data))
    except Malformed:
        pass


@given(st.sampled_from([data for data, _ in REPLIES]), st.integers(0, 60), st.integers(0, 255))
def test_a_changed_byte_is_read_or_malformed(data: bytes, at: int, byte: int) -> None:
    changed = bytearray(data)
    changed[at % len(data)] = byte
    try:
        resp.reply(bytes(changed))
    except Malformed:
        pass
