"""The words of KV_TALK: what is written is read, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from velum.policy import kvtalk as talk
from velum.policy.kvroster import Member
from velum.policy.kvtalk import Stamp, decode, encode

MESSAGES = [
    talk.Hello(1, 2**64 - 1),
    talk.Welcome(),
    talk.Forgotten(),
    talk.Told((Member(1, 2), Member(65535, 0)), (7, 8)),
    talk.Told((), ()),
    talk.Begin(2**32 - 1),
    talk.Began(1, 2, 3, tuple(range(16))),
    talk.Pulled(1, 2, 3),
    talk.Settled(1, 2),
    talk.Missed(),
    talk.Prepare(1, 2, Stamp(3, 4), b"key \x00\xff"),
    talk.Promise(1, Stamp(0, 0), Stamp(2**64 - 1, 65535)),
    talk.Accept(1, 2, Stamp(3, 4), b"k", b"a line\n"),
    talk.Accepted(1),
    talk.Declined(1, 255),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_what_is_written_is_read(message: talk.Message) -> None:
    again = decode(encode(message))
    assert again == message and type(again) is type(message)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_too_few_or_too_many_words(message: talk.Message) -> None:
    payload = encode(message)
    with pytest.raises(ValueError):
        decode(payload + b" 1")
    words = payload.split(b" ")
    if len(words) > 1:
        with pytest.raises(ValueError):
            decode(b" ".join(words[:-1]))


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"hullo", b"hello  1", b"begin 01", b"begin A", b"begin -1", b"begin 100000000",
        b"begin 1_0", b"begin +1", b"begin \xff", b"declined 1 100", b"roster 1 0 1 0",
        b"roster 1001 1 1", b"roster 0 4001", b"prepare 1 1 1 1 61", b"prepare 1 1 1 1 xA1",
        b"prepare 1 1 1 1 x6", b"prepare 1 1 1 10000 x61", b"prepare 1 1 1 1 x6 1",
        b"prepare 1 1 1 1 x" + b"61" * 1025,
    ],
)  # fmt: skip
def test_what_is_none(payload: bytes) -> None:
    with pytest.raises(ValueError):
        decode(payload)


@given(st.binary(max_size=60) | st.text("abdeghilnop 0123456789x", max_size=60).map(str.encode))
def test_anything_is_read_or_refused(payload: bytes) -> None:
    try:
        message = decode(payload)
    except ValueError:
        return
    assert encode(message) == payload
