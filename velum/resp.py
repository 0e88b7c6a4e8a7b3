"""The Redis serialization protocol as whoever asks speaks it: requests out, replies (RESP3) in.

Owns: how a request is written and a reply read. Refuses to know: commands, sockets. Source: the
RESP specification of redis.io; `csrc/resp.c` is the other side. A reply is whole when it is read:
it comes in a frame, or from a call. What is malformed is a `Malformed`, never anything else; the
depth of nesting is bounded, and nothing is made before its bytes are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Union

from velum import _core

NUMBER_BYTES_MAX: Final = 400  # of a number's line: a double needs 330, Python reads any length

Reply = Union[
    None,
    bool,
    int,
    float,
    str,
    bytes,
    "Refusal",
    list["Reply"],
    set["Reply"],
    dict["Reply", "Reply"],
]
"""What a reply is: a simple string is str, a bulk string bytes, a push a list."""


class Malformed(ValueError):
    """These bytes are no reply."""


class Refusal(Exception):
    """An error that was answered. Attributes: `kind` ("WRONGTYPE"), `text` behind it."""

    def __init__(self, line: str) -> None:
        self.kind, _, self.text = line.partition(" ")
        super().__init__(line)


def request(args: Sequence[bytes]) -> bytes:
    """A request: an array of bulk strings."""
    out = [b"*%d\r\n" % len(args)]
    for arg in args:
        out.append(b"$%d\r\n%b\r\n" % (len(arg), arg))
    return b"".join(out)


def reply(data: bytes) -> Reply:
    """The one reply that `data` is."""
    reader = _core.RespReader(data, _rare, Malformed)
    value: Reply = reader.next()
    if reader.left():
        raise Malformed(f"{reader.left()} bytes behind a reply")
    return value


def replies(data: bytes) -> Iterator[Reply]:
    """The replies that `data` is, one behind the other."""
    reader = _core.RespReader(data, _rare, Malformed)
    while reader.left():
        yield reader.next()


def _rare(kind: bytes, said: bytes) -> Reply:
    """What is no short integer, no plain string and no aggregate."""
    read = _RARE.get(kind)
    if read is None:
        raise Malformed(f"no reply begins with {kind!r}")
    try:
        return read(said)
    except (ValueError, KeyError):
        raise Malformed(f"{kind!r} cannot be {said[:20]!r}") from None


def _integer(line: bytes) -> int:
    digits = line[1:] if line[:1] in (b"-", b"+") else line
    if not digits.isdigit() or len(digits) > NUMBER_BYTES_MAX:
        raise ValueError
    return int(line)


def _double(line: bytes) -> float:
    if len(line) > NUMBER_BYTES_MAX or b"_" in line or line != line.strip():
        raise ValueError
    return float(line)


def _verbatim(said: bytes) -> bytes:
    if said[3:4] != b":":
        raise ValueError
    return said[4:]


_RARE: Final[dict[bytes, Callable[[bytes], Reply]]] = {
    b"+": lambda line: line.decode(errors="replace"),
    b"-": lambda line: Refusal(line.decode(errors="replace")),
    b":": _integer,
    b"(": _integer,
    b",": _double,
    b"#": {b"t": True, b"f": False}.__getitem__,
    b"_": {b"": None}.__getitem__,
    b"!": lambda said: Refusal(said.decode(errors="replace")),
    b"=": _verbatim,
}
