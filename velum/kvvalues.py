"""Values of the state as a program has them, and as bytes and replies; and back.

Owns: how keys, values, elements and siblings lie in the state, and what a reply has to be. Refuses
to know: who asks what (`velum.kv`), and how. A node of another version may answer anything: what is
not what was asked for is a VelumError PAYLOAD.
"""

from __future__ import annotations

import json
from typing import Any, Final

from velum.errors import VelumError, code_of, error_from
from velum.resp import Refusal, Reply

KEY_BYTES_MAX: Final = 1024  # as csrc/kv_record.h

Element = bytes | str


def key_bytes(key: str) -> bytes:
    """A key as it lies in the state. VelumError ARGUMENT."""
    if not isinstance(key, str):
        raise error_from(code_of("ARGUMENT"), f"a key is text, not {type(key).__name__}")
    name = key.encode(errors="surrogateescape")
    if not 1 <= len(name) <= KEY_BYTES_MAX:
        raise error_from(code_of("ARGUMENT"), f"a key has 1 to {KEY_BYTES_MAX} bytes")
    return name


def key_text(key: bytes) -> str:
    """A key as text; `key_bytes` gives the same bytes again."""
    return key.decode(errors="surrogateescape")


def part_bytes(part: Element) -> bytes:
    """An element of a set, or a field's name or value."""
    if isinstance(part, str):
        return part.encode(errors="surrogateescape")
    if isinstance(part, bytes | bytearray | memoryview):
        return bytes(part)
    raise error_from(code_of("ARGUMENT"), f"bytes or text, not {type(part).__name__}")


def value_words(value: Any) -> list[bytes]:
    """A value as words of VELUM.PUT. VelumError ARGUMENT for what JSON cannot say."""
    if isinstance(value, bytes | bytearray | memoryview):
        return [bytes(value)]
    return [_json(value), b"JSON"]


def value_of(kind: str, value: Reply) -> Any:
    """What a key of this type holds, of VELUM.GET's reply."""
    if kind == "bytes":
        return raw(value)
    if kind == "json":
        return json_of(raw(value))
    if kind == "counter":
        return number_of(value)
    if kind == "set":
        return elements_of(value)
    if kind == "hash":
        return fields_of(value)
    raise unexpected(kind)


def json_of(data: bytes) -> Any:
    """A JSON value; its bytes if they are none: a log may have been written by anybody."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return data


def sibling_bytes(value: Any) -> bytes:
    """A value as an element of the set that siblings are. Only JSON begins with a zero byte, and
    bytes that begin with one have another in front."""
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        return b"\0" + data if data[:1] == b"\0" else data
    return b"\0" + _json(value)


def sibling_of(element: bytes) -> Any:
    """The value again."""
    if element[:1] != b"\0":
        return element
    return element[1:] if element[:2] == b"\0\0" else json_of(element[1:])


def refused(refusal: Refusal) -> VelumError:
    """The error that a refusal of the node is."""
    name = _KINDS.get(refusal.kind, "ARGUMENT")
    text = str(refusal) if refusal.kind not in (*_KINDS, "ERR") else refusal.text
    return error_from(code_of(name), text)


_KINDS: Final = {
    "WRONGTYPE": "WRONG_TYPE",
    "OOM": "STATE_FULL",
    "MISCONF": "NO_SPACE",
    "NOQUORUM": "NO_QUORUM",
}


def _json(value: Any) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise error_from(code_of("ARGUMENT"), f"neither bytes nor JSON: {error}") from None


def milliseconds(seconds: float) -> int:
    if not 0 < seconds < float("inf"):
        raise error_from(code_of("ARGUMENT"), f"{seconds} s is no time to live")
    return max(1, round(seconds * 1000))


# ---- replies ----


def unexpected(reply: object) -> VelumError:
    return error_from(code_of("PAYLOAD"), f"the node answered {str(reply)[:80]!r}")


def raw(reply: Reply) -> bytes:
    if not isinstance(reply, bytes):
        raise unexpected(reply)
    return reply


def text_of(reply: Reply) -> str:
    if isinstance(reply, str):
        return reply
    return raw(reply).decode(errors="replace")


def number_of(reply: Reply) -> int:
    if not isinstance(reply, int):
        raise unexpected(reply)
    return reply


def list_of(reply: Reply, size: int | None = None) -> list[Reply]:
    if not isinstance(reply, list) or (size is not None and len(reply) != size):
        raise unexpected(reply)
    return reply


def elements_of(reply: Reply) -> set[bytes]:
    if not isinstance(reply, list | set):
        raise unexpected(reply)
    return {raw(element) for element in reply}


def fields_of(reply: Reply) -> dict[str, bytes]:
    if not isinstance(reply, dict):
        raise unexpected(reply)
    return {key_text(raw(name)): raw(value) for name, value in reply.items()}


def expires_in(until_ms: int, unix_ms: int) -> float | None:
    """Seconds that are left; None: it stays."""
    return max(0, until_ms - unix_ms) / 1000 if until_ms else None
