"""The Redis serialization protocol as whoever asks speaks it: requests out, replies (RESP3) in.

Owns: how a request is written and a reply read. Refuses to know: commands, sockets. Source: the
RESP specification of redis.io; `csrc/resp.c` is the other side. A reply is whole when it is read:
it comes in a frame, or from a call. What is malformed is a `Malformed`, never anything else; the
depth of nesting is bounded, and nothing is made before its bytes are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Union

DEPTH_MAX: Final = 16  # arrays in arrays; what velum answers has two
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
    value, end = _Reader(data).value(0, 0)
    if end != len(data):
        raise Malformed(f"{len(data) - end} bytes behind a reply")
    return value


def replies(data: bytes) -> Iterator[Reply]:
    """The replies that `data` is, one behind the other."""
    reader, at = _Reader(data), 0
    while at < len(data):
        value, at = reader.value(at, 0)
        yield value


class _Reader:
    """One piece of bytes; places in it are given and returned."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def value(self, at: int, depth: int) -> tuple[Reply, int]:
        """The value that begins at a place, and where it ends."""
        kind = self._data[at : at + 1]
        line, at = self._line(at + 1)
        if kind in _BULKS:
            return self._bulk(kind, line, at)
        if kind in _AGGREGATES:
            return self._aggregate(kind, line, at, depth)
        return _scalar(kind, line), at

    def _line(self, at: int) -> tuple[bytes, int]:
        end = self._data.find(b"\r\n", at)
        if end < 0:
            raise Malformed("a line does not end")
        return self._data[at:end], end + 2

    def _bulk(self, kind: bytes, line: bytes, at: int) -> tuple[Reply, int]:
        if line == b"-1" and kind == b"$":
            return None, at
        size = _count(line)
        end = at + size
        if self._data[end : end + 2] != b"\r\n":
            raise Malformed(f"a string of {size} bytes does not end")
        data = self._data[at:end]
        if kind == b"$":
            return data, end + 2
        if kind == b"!":
            return Refusal(data.decode(errors="replace")), end + 2
        if data[3:4] != b":":
            raise Malformed("a verbatim string does not say what it is")
        return data[4:], end + 2

    def _aggregate(self, kind: bytes, line: bytes, at: int, depth: int) -> tuple[Reply, int]:
        if line == b"-1" and kind == b"*":
            return None, at
        if depth >= DEPTH_MAX:
            raise Malformed(f"nested deeper than {DEPTH_MAX}")
        items: list[Reply] = []
        for _ in range(_count(line) * (2 if kind in _PAIRED else 1)):
            item, at = self.value(at, depth + 1)
            items.append(item)
        if kind == b"|":  # attributes: the reply itself follows
            return self.value(at, depth + 1)
        try:
            if kind == b"~":
                return set(items), at
            if kind == b"%":
                return dict(zip(items[::2], items[1::2], strict=True)), at
        except TypeError:
            raise Malformed("an element that is an aggregate itself") from None
        return items, at


_BULKS: Final = frozenset((b"$", b"!", b"="))
_AGGREGATES: Final = frozenset((b"*", b"~", b"%", b">", b"|"))
_PAIRED: Final = frozenset((b"%", b"|"))


def _count(line: bytes) -> int:
    if not line.isdigit() or len(line) > 18:
        raise Malformed(f"{line[:20]!r} is no length")
    return int(line)


def _scalar(kind: bytes, line: bytes) -> Reply:
    read = _SCALARS.get(kind)
    if read is None:
        raise Malformed(f"no reply begins with {kind!r}")
    try:
        return read(line)
    except (ValueError, KeyError):
        raise Malformed(f"{kind!r} cannot be {line[:20]!r}") from None


def _integer(line: bytes) -> int:
    digits = line[1:] if line[:1] in (b"-", b"+") else line
    if not digits.isdigit() or len(digits) > NUMBER_BYTES_MAX:
        raise ValueError
    return int(line)


def _double(line: bytes) -> float:
    if len(line) > NUMBER_BYTES_MAX or b"_" in line or line != line.strip():
        raise ValueError
    return float(line)


_SCALARS: Final[dict[bytes, Callable[[bytes], Reply]]] = {
    b"+": lambda line: line.decode(errors="replace"),
    b"-": lambda line: Refusal(line.decode(errors="replace")),
    b":": _integer,
    b"(": _integer,
    b",": _double,
    b"#": {b"t": True, b"f": False}.__getitem__,
    b"_": {b"": None}.__getitem__,
}
