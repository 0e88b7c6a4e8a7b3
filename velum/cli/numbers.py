"""Words of a command line into values: numbers, durations, sizes, ports, addresses.

Owns the notations a person may type. Refuses to know which command a word belongs to, and what a
function's signature is (the API checks that). Every function takes one word and returns its value
or raises ValueError with a text that completes "argument X: ...".
"""

from __future__ import annotations

import re

Number = int | float

INT64_MIN = -(2**63)
INT64_MAX = 2**63 - 1
UINT64_MAX = 2**64 - 1
PAGE_BYTES = 65536
NODE_ID_MAX = 65535
PORT_MAX = 65535
# As in velum.policy.filetypes, which is not imported for every command's sake.
CHUNK_BYTES_MAX = 8 << 20
COPIES_MAX = 16
SHARDS_MAX = 32

# An integer with a power of ten; two digits of exponent are more than 64 bits have room for.
_POWER = re.compile(r"([+-]?)(\d[\d_]*)(?:\.(\d+))?[eE]\+?(\d{1,2})")

_SIZE_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_TIME_UNITS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}


def number(word: str) -> Number:
    """An integer (``10 -3 1_000 0xff 0b11 0o7``) or a float (``2.5 -1e9 inf nan``)."""
    text = word.strip()
    try:
        return _integer(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number; write 10, -3, 0xff, 2.5 or 1e9") from None


def call_number(word: str) -> Number:
    """A number for a built-in: an integer must fit 64 bits with sign."""
    value = number(word)
    if isinstance(value, int) and not INT64_MIN <= value <= INT64_MAX:
        raise ValueError(
            f"{word.strip()} does not fit a 64-bit integer; write {word.strip()}.0 for a float"
        )
    return value


def wasm_number(word: str) -> Number:
    """A number for a guest: an integer may also be written as 64 unsigned bits."""
    value = number(word)
    if isinstance(value, int) and not INT64_MIN <= value <= UINT64_MAX:
        raise ValueError(f"{word.strip()} does not fit 64 bits")
    return value


def whole_number(word: str) -> int:
    """An integer of 64 bits with sign: ``10 -3 10_000_000 0xff``; ``1e8`` and ``2.5e6`` are exact
    too."""
    text = word.strip()
    found = _POWER.fullmatch(text)
    try:
        value = _powered(*found.groups()) if found else _integer(text)
    except ValueError:
        raise ValueError(f"{text!r} is no integer; write 10, -3, 50_000_000, 0xff or 1e8") from None
    if not INT64_MIN <= value <= INT64_MAX:
        raise ValueError(f"{text} does not fit 64 bits")
    return value


def seconds(word: str) -> float:
    """A duration above zero: ``5``, ``0.2``, ``500ms``, ``2s``, ``1min``, in seconds."""
    text = word.strip().lower()
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = text[len(digits) :] or "s"
    try:
        value = float(digits) * _TIME_UNITS[unit]
    except (ValueError, KeyError):
        raise ValueError(f"{word!r} is not a duration; write 5, 0.2, 500ms or 2min") from None
    if not 0 < value < float("inf"):
        raise ValueError("a duration must be above zero")
    return value


def size(word: str) -> int:
    """A number of bytes above zero: ``65536``, ``512K``, ``256M``, ``1GiB``; 1K is 1,024."""
    text = word.strip().lower()
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = text[len(digits) :]
    for tail in ("ib", "b"):
        if unit.endswith(tail):
            unit = unit[: -len(tail)]
            break
    try:
        value = int(float(digits) * _SIZE_UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        raise ValueError(f"{word!r} is not a size; write 65536, 512K, 256M or 1G") from None
    if value < 1:
        raise ValueError("a size must be at least 1 byte")
    return value


def guest_memory(word: str) -> int:
    """A size for a guest's linear memory: 64 KiB to 4 GiB, in bytes."""
    value = size(word)
    if not PAGE_BYTES <= value <= PAGE_BYTES * 65536:
        raise ValueError("a guest's memory is between 64K and 4G")
    return value


def chunk_size(word: str) -> int:
    """The size of a file's chunks, 1 byte to 8 MiB."""
    value = size(word)
    if value > CHUNK_BYTES_MAX:
        raise ValueError("a chunk is at most 8M")
    return value


def ram(word: str) -> int:
    """A size, or 0."""
    return 0 if word.strip() == "0" else size(word)


def rate(word: str) -> int:
    """A size per second; ``max`` is 0, which stands for no limit."""
    return 0 if word.strip().lower() == "max" else size(word)


def copies(word: str) -> int:
    """Copies of a file, 1 to 16."""
    return _within(word, 1, COPIES_MAX, f"a file has 1 to {COPIES_MAX} copies")


def stripes(word: str) -> tuple[int, int]:
    """``4+2``: chunks of data and of parity in each stripe of a file, at most 32 together."""
    k, plus, m = word.strip().partition("+")
    why = f"{word!r} are no stripes; write 4+2: data and parity, at most {SHARDS_MAX} together"
    if not (plus and k.isascii() and k.isdigit() and m.isascii() and m.isdigit()):
        raise ValueError(why)
    if not (1 <= int(k) and 1 <= int(m) and int(k) + int(m) <= SHARDS_MAX):
        raise ValueError(why)
    return int(k), int(m)


def port(word: str) -> int:
    """A TCP or UDP port, 0 to 65535; 0 lets the system choose."""
    return _within(word, 0, PORT_MAX, "a port is a number from 0 to 65535")


def node_id(word: str) -> int:
    """A node's id, 1 to 65535."""
    return _within(word, 1, NODE_ID_MAX, f"a node id is a number from 1 to {NODE_ID_MAX}")


def workers(word: str) -> int:
    """Worker processes of a node, 0 (it only schedules) to 255."""
    return _within(word, 0, 255, "the number of workers is from 0 to 255")


def count(word: str) -> int:
    """A whole number of at least 1."""
    return _within(word, 1, UINT64_MAX, "must be a whole number of at least 1")


def priority(word: str) -> int:
    """A job's share of the workers, 1 to 100."""
    return _within(word, 1, 100, "a priority is a number from 1 to 100")


def slice_count(word: str) -> int:
    """Slices of a job, 1 to 1,048,576."""
    return _within(word, 1, 1 << 20, "the number of slices is from 1 to 1048576")


def demo_nodes(word: str) -> int:
    """Nodes of the demo, 2 to 16: one must die and one must live."""
    return _within(word, 2, 16, "the demo takes 2 to 16 nodes")


def address(word: str) -> str:
    """``host:port``; a bare port means this machine."""
    host, colon, tail = word.strip().rpartition(":")
    try:
        number_ = port(tail)
    except ValueError:
        raise ValueError(f"{word!r} is not an address; write host:port") from None
    if number_ == 0 or (colon and not host):
        raise ValueError(f"{word!r} is not an address; write host:port")
    return f"{host or '127.0.0.1'}:{number_}"


def _integer(text: str) -> int:
    try:
        return int(text, 10)
    except ValueError:
        return int(text, 0)


def _powered(sign: str, digits: str, behind: str | None, exponent: str) -> int:
    """``2.5e6`` exactly; ValueError when it is no integer."""
    behind = (behind or "").rstrip("0")
    zeros = int(exponent) - len(behind)
    if zeros < 0:
        raise ValueError
    return int(int(f"{sign}{digits}{behind}") * 10**zeros)


def _within(word: str, low: int, high: int, why: str) -> int:
    try:
        value = _integer(word.strip())
    except ValueError:
        raise ValueError(f"{word!r}: {why}") from None
    if not low <= value <= high:
        raise ValueError(f"{word!r}: {why}")
    return value
