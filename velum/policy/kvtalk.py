"""What the owners of two nodes' states say to each other: the payload of a KV_TALK frame.

Owns: the messages, and their bytes. Refuses to know: what is done about them (`kvsync.py`,
`kvcas.py`).

How: a message is a line of words with one space between two: its name, then its fields in order.
Numbers are lower-case hexadecimal without zeros before them, bytes two digits each behind an `x`.
A list is the rest of the message. Reading accepts nothing that writing would not have written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from .kvroster import FORGOTTEN_MAX, MEMBERS_MAX, Member

FANOUT: Final = 16  # children of an inner node of the tree of sums
KEY_BYTES_MAX: Final = 1024
RECORD_BYTES_MAX: Final = 4_300_000  # a line of the log, at most
_BITS: Final = {"u8": 8, "u16": 16, "u32": 32, "u64": 64}


class Stamp(NamedTuple):
    """When something was written, and by which node; zeros: before all."""

    time: int
    node: int


NEVER: Final = Stamp(0, 0)


class Hello(NamedTuple):
    """First on a link, from both ends: whose copy this is, and in which life of the process."""

    store: int
    life: int


class Welcome(NamedTuple):
    """Who said hello is a member here."""


class Forgotten(NamedTuple):
    """Who said hello is none: its copy was forgotten."""


class Told(NamedTuple):
    """The roster of who says so."""

    members: tuple[Member, ...]
    forgotten: tuple[int, ...]


class Begin(NamedTuple):
    """A session: the sender pulls."""

    session: int


class Began(NamedTuple):
    """The answer: the age mark up to which tombstones were here, the roster's digest, and the sums
    of the root's children."""

    session: int
    mark: int
    digest: int
    sums: tuple[int, ...]


class Pulled(NamedTuple):
    """The sender has, on disk, all that the other had with marks up to this one in that life."""

    life: int
    mark: int
    digest: int


class Settled(NamedTuple):
    """And has settled all tombstones among that."""

    life: int
    mark: int


class Missed(NamedTuple):
    """Something was not pushed: pull."""


class Prepare(NamedTuple):
    """Compare and set, first phase."""

    round: int
    digest: int
    ballot: Stamp
    key: bytes


class Promise(NamedTuple):
    """Yes; and what is here."""

    round: int
    version: Stamp  # visible; zeros: nothing
    latest: Stamp  # also of a tombstone


class Accept(NamedTuple):
    """Second phase."""

    round: int
    digest: int
    ballot: Stamp
    key: bytes
    record: bytes


class Accepted(NamedTuple):
    """It is on disk."""

    round: int


class Declined(NamedTuple):
    """No, to either phase."""

    round: int
    why: int  # kvcas.Why


Message = (
    Hello | Welcome | Forgotten | Told | Begin | Began | Pulled | Settled | Missed
    | Prepare | Promise | Accept | Accepted | Declined
)  # fmt: skip

# Of each message its name, and the kinds of its fields.
_SHAPES: Final[dict[type[Message], tuple[str, ...]]] = {
    Hello: ("hello", "u64", "u64"),
    Welcome: ("welcome",),
    Forgotten: ("forgotten",),
    Told: ("roster", "members", "stores"),
    Begin: ("begin", "u32"),
    Began: ("began", "u32", "u32", "u64", "sums"),
    Pulled: ("pulled", "u64", "u32", "u64"),
    Settled: ("settled", "u64", "u32"),
    Missed: ("missed",),
    Prepare: ("prepare", "u64", "u64", "stamp", "key"),
    Promise: ("promise", "u64", "stamp", "stamp"),
    Accept: ("accept", "u64", "u64", "stamp", "key", "record"),
    Accepted: ("accepted", "u64"),
    Declined: ("declined", "u64", "u8"),
}
_NAMED: Final = {shape[0]: (kind, shape[1:]) for kind, shape in _SHAPES.items()}
_BYTES_MAX: Final = {"key": KEY_BYTES_MAX, "record": RECORD_BYTES_MAX}


def encode(message: Message) -> bytes:
    """The payload of a KV_TALK."""
    words = [_SHAPES[type(message)][0]]
    fields: Sequence[object] = message
    for kind, value in zip(_SHAPES[type(message)][1:], fields, strict=True):
        words += _words(kind, value)
    return " ".join(words).encode("ascii")


def decode(payload: bytes) -> Message:
    """What a payload says. ValueError: nothing that `encode` would have written."""
    try:
        words = iter(payload.decode("ascii").split(" "))
    except UnicodeDecodeError:
        raise ValueError("a message of something else than words") from None
    named = _NAMED.get(next(words))
    if named is None:
        raise ValueError("a message of no known name")
    kind, shape = named
    values = [_value(field, words) for field in shape]
    if next(words, None) is not None:
        raise ValueError(f"a {_SHAPES[kind][0]} with words behind it")
    return kind(*values)  # type: ignore[arg-type]


def _words(kind: str, value: object) -> Iterator[str]:
    if isinstance(value, bytes):
        yield "x" + value.hex()
    elif isinstance(value, int):
        yield f"{value:x}"
    else:
        assert isinstance(value, tuple)
        if kind in ("members", "stores"):
            yield f"{len(value):x}"
        for part in value:
            yield from _words("", part)


def _value(kind: str, words: Iterator[str]) -> object:
    if kind in _BITS:
        return _number(words, _BITS[kind])
    if kind == "stamp":
        return Stamp(_number(words, 64), _number(words, 16))
    if kind == "sums":
        return tuple(_number(words, 64) for _ in range(FANOUT))
    if kind == "members":
        count = _count(words, MEMBERS_MAX)
        return tuple(Member(_id(words), _number(words, 64)) for _ in range(count))
    if kind == "stores":
        return tuple(_number(words, 64) for _ in range(_count(words, FORGOTTEN_MAX)))
    return _bytes(words, _BYTES_MAX[kind])


def _number(words: Iterator[str], bits: int) -> int:
    word = next(words, "")
    try:
        value = int(word, 16)
    except ValueError:
        raise ValueError("a word that is no number") from None
    if word != f"{value:x}" or not 0 <= value < 1 << bits:
        raise ValueError("a number that is written otherwise, or too great")
    return value


def _id(words: Iterator[str]) -> int:
    id = _number(words, 16)
    if id == 0:
        raise ValueError("a member without an id")
    return id


def _count(words: Iterator[str], most: int) -> int:
    count = _number(words, 32)
    if count > most:
        raise ValueError("a list above the limit")
    return count


def _bytes(words: Iterator[str], most: int) -> bytes:
    word = next(words, "")
    if not word.startswith("x") or len(word) > 1 + 2 * most:
        raise ValueError("a word that is no bytes, or above the limit")
    value = bytes.fromhex(word[1:])
    if value.hex() != word[1:]:
        raise ValueError("bytes that are written otherwise")
    return value
