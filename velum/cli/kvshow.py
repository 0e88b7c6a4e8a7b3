"""Keys, values and changes of the state in words and in JSON.

Owns how they look, one form for commands, prompts and robots. Refuses to know where they come from
(`velum.kv`). Bytes are shown as the UTF-8 that they mostly are; what a terminal would act on is
escaped, and bytes that are no text are ``\\xHH``.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from velum.cli import show

if TYPE_CHECKING:
    from velum.kv import Entry
    from velum.kvwatch import Change

_COLOURS = {"del": "red", "expired": "red", "missed": "yellow", "state": "dim", "now": "dim"}
_EVENT_CELLS = 7  # "unfield", "expired"
_KEPT = frozenset("\n\t")  # of what is no printable character, in a value that stands alone


def word(value: object) -> str:
    """A key, an element or a field's name as part of one line."""
    return _escaped(_text(value), frozenset())


def block(entry: Entry) -> str:
    """A key's value, standing alone: it may have lines. A set has one element a line, a hash one
    ``NAME=VALUE``."""
    value = entry.value
    if entry.type == "set":
        return lines(value)
    if entry.type == "hash":
        return "\n".join(sorted(f"{word(name)}={word(field)}" for name, field in value.items()))
    return _escaped(_text(value), _KEPT)


def brief(value: object) -> str:
    """A value as part of one line."""
    if isinstance(value, (set, frozenset)):
        return "{" + ", ".join(sorted(map(word, value))) + "}"
    return word(value)


def plain(value: object) -> Any:
    """A value for JSON: bytes as a string, or ``{"base64": ...}`` where they are no UTF-8; a set as
    a list, in order."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, (set, frozenset)):
        return [plain(item) for item in sorted(value, key=_text)]
    if isinstance(value, Mapping):
        return {_text(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def entry_dict(entry: Entry | Change) -> dict[str, Any]:
    """All that is known of a key, for JSON."""
    facts = {"key": entry.key, "type": entry.type, "value": plain(entry.value)}
    return {**facts, "version": entry.version, "expires_in": entry.expires_in}


def change_dict(change: Change) -> dict[str, Any]:
    """A change, for JSON."""
    return {"event": change.event, **entry_dict(change)}


def change_line(change: Change, paint: show.Paint) -> str:
    """``set      status = idle``, ``add      team + robot_B``, ``del      status``."""
    event = change.event
    painted = paint(_COLOURS.get(event, "cyan"), event.ljust(_EVENT_CELLS))
    if event == "now":
        return f"{painted}  that is all there is; changes follow"
    if event == "missed":
        count = "changes" if change.value is None else show.plural(change.value, "change")
        return f"{painted}  {count} came too fast; watch again to see the state"
    return f"{painted}  {word(change.key)}{_about(change)}"


def _about(change: Change) -> str:
    """What a change says beyond its key."""
    event, value = change.event, change.value
    left = "" if change.expires_in is None else f"  ({seconds_text(change.expires_in)} left)"
    if event in ("set", "count", "state"):
        too_large = event == "state" and value is None and change.type != "json"
        return f" = {'(large)' if too_large else brief(value)}{left}"
    if event in ("add", "remove"):
        return f" {'+' if event == 'add' else '-'} {word(value)}"
    if event == "field":
        name, field = value
        return f" . {word(name)} = {word(field)}"
    if event == "unfield":
        return f" . {word(value)}"
    if event == "expire":
        return left or "  stays for good"
    return ""


def seconds_text(seconds: float) -> str:
    """``4.2 s``, ``90 s``."""
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def lines(items: Iterable[object]) -> str:
    """Keys or elements, one a line, in order."""
    return "\n".join(sorted(map(word, items)))


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value if isinstance(value, str) else show.dump(plain(value))


def _escaped(text: str, kept: frozenset[str]) -> str:
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text
    )
