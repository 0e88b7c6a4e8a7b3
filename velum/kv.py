"""The state that every node holds, as a program uses it: `node.kv`, `client.kv`.

Owns: what a caller may give and gets, how values become bytes and bytes values, and which error a
refusal is. Refuses to know: where the state is and how it is spoken to: that is the `Backend`;
watches are in `velum.kvwatch`. docs/kv.md says what the state means.

Bytes go in and come out as bytes; anything else that JSON can say goes in as JSON and comes out as
what it was. Keys are text. An element of a set and a field's value are bytes, and text given for
them is UTF-8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from velum.errors import code_of, error_from
from velum.kvvalues import (
    Element,
    elements_of,
    expires_in,
    fields_of,
    key_bytes,
    key_text,
    list_of,
    milliseconds,
    number_of,
    part_bytes,
    raw,
    refused,
    sibling_bytes,
    sibling_of,
    text_of,
    unexpected,
    value_of,
    value_words,
)
from velum.kvwatch import Change as Change
from velum.kvwatch import Watch as Watch
from velum.resp import Refusal, Reply

TIMEOUT_S: Final = 5.0  # for an answer, and for a quorum, unless a call says otherwise
PAGE_KEYS: Final = 1000  # that one question for names passes
ARGS_MAX: Final = 1000  # of a request: csrc/resp.h has 1024

DURABILITIES: Final = ("", "ram", "log", "fsync", "quorum")
"""How durable a write is once it is acknowledged, by its code on the wire. "": what the node was
told, or of an answer that nothing was written."""

FORGET: Final = "kv forget"  # the QUERY, with an id behind it
NONE_VERSION: Final = "0"  # of a key that is not there


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a put."""

    version: str  # of the key, until it is written again: for `cas`
    durability: str  # that was reached: "ram", "log", "fsync" or "quorum"


@dataclass(frozen=True, slots=True)
class Entry:
    """A key as it is now."""

    key: str
    type: str  # "bytes", "json", "counter", "set" or "hash"
    value: Any  # bytes, what JSON says, int, set[bytes] or dict[str, bytes]
    version: str
    expires_in: float | None  # seconds; None: never


class Backend(Protocol):
    """The state of a mesh, as one of its nodes has it. Any thread but the loop's; blocks."""

    def do(self, args: Sequence[bytes], durability: str, timeout: float) -> tuple[Reply, str]:
        """Does one command; its reply, and how durable what it wrote is. `timeout` in seconds.

        A VELUM.CAS with "quorum" is done by a majority or not at all: then its reply is a Refusal
        of the kind NOQUORUM. VelumError UNCERTAIN: the node went away, and nobody knows whether the
        command was done; UNREACHABLE, TIMEOUT, CLOSED.
        """

    def watch(self, pattern: bytes, state: bool) -> Watch:
        """A watch that is told from now on."""

    def forget(self, node: int) -> bool:
        """Takes a node out of the members; False if it is none."""

    def unix_ms(self) -> int:
        """The clock that times of expiry are told by."""


class Kv:
    """The state of one mesh: a mapping, and more. Any thread; every call blocks until the node has
    answered, which is at once but for "fsync" and "quorum".

    Errors are VelumErrors: WrongType, KvRefused (the disk or the memory is full: nothing was
    written), PeerLost, ARGUMENT. `kv[key]` raises KeyError.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    # ---- a mapping ----

    def __getitem__(self, key: str) -> Any:
        found = self.entry(key)
        if found is None:
            raise KeyError(key)
        return found.value

    def __setitem__(self, key: str, value: Any) -> None:
        self.put(key, value)

    def __delitem__(self, key: str) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.exists(key)

    def __len__(self) -> int:
        return number_of(self._do(b"DBSIZE"))

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    # ---- one value ----

    def put(
        self,
        key: str,
        value: Any,
        *,
        ttl: float | None = None,
        durability: str = "",
        siblings: bool = False,
        timeout: float = TIMEOUT_S,
    ) -> Written:
        """Writes a key, whatever it was. After `ttl` seconds it is gone, unless it was written
        again.

        Returns once the write is as durable as asked for ("ram", "log", "fsync" or "quorum"; "":
        the node's own), or will not be within `timeout` seconds: the answer says what was reached.
        With `siblings` it replaces only what this node has seen: values that others put meanwhile
        stay beside it, and `siblings(key)` has them all.
        """
        name = key_bytes(key)
        if siblings:
            words = [b"VELUM.REPLACE", name, sibling_bytes(value)]
        else:
            words = [b"VELUM.PUT", name, *value_words(value)]
            words += [b"PX", b"%d" % milliseconds(ttl)] if ttl is not None else []
        version, reached = self._reached(words, durability, timeout)
        if siblings and ttl is not None:
            self.expire(key, ttl)
        return Written(text_of(version), reached)

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or `default`."""
        found = self.entry(key)
        return default if found is None else found.value

    def entry(self, key: str) -> Entry | None:
        """A key with all that is known of it, or None."""
        found = self._do(b"VELUM.GET", key_bytes(key))
        if found is None:
            return None
        kind, value, version, until_ms = list_of(found, 4)
        return Entry(
            key,
            text_of(kind),
            value_of(text_of(kind), value),
            text_of(version),
            expires_in(number_of(until_ms), self._backend.unix_ms()),
        )

    def siblings(self, key: str) -> list[Any]:
        """All values that stand side by side, put with `siblings`; [] if there is no such key."""
        return [sibling_of(element) for element in sorted(self.smembers(key))]

    def cas(self, key: str, version: str | None, value: Any, *, quorum: bool = False) -> str:
        """Writes a key if it still has this version (None: if it is not there); the new version.

        Raises CasConflict if it has another. That is so at one node: another node may write the
        key at the same moment, and the later of both stays. With `quorum` more than half of the
        members have to agree, and NoQuorum is raised, and nothing written, if they cannot.
        """
        words = [b"VELUM.CAS", key_bytes(key), (version or NONE_VERSION).encode()]
        words += value_words(value)
        reply, _ = self._reached(words, "quorum" if quorum else "", TIMEOUT_S)
        if reply is None:
            raise error_from(
                code_of("CAS_CONFLICT"), f"{key!r} does not have version {version} any more"
            )
        return text_of(reply)

    # ---- keys ----

    def delete(self, *keys: str, durability: str = "") -> int:
        """Deletes keys; how many there were."""
        return self._counted(b"DEL", keys, durability)

    def keys(self, pattern: str = "*") -> list[str]:
        """The keys that a pattern fits, sorted. As in Redis `*` is anything, also across a `/`."""
        return sorted(set(self._scan(key_bytes(pattern))))

    def exists(self, *keys: str) -> bool:
        """Whether all of these keys are there."""
        return self._counted(b"EXISTS", keys) == len(keys)

    def expire(self, key: str, seconds: float) -> bool:
        """A key is gone after so many seconds; False if there is none."""
        words = (b"PEXPIRE", key_bytes(key), b"%d" % milliseconds(seconds))
        return bool(number_of(self._do(*words)))

    def ttl(self, key: str) -> float | None:
        """Seconds until a key is gone; None: it stays. KeyError if there is none."""
        left = number_of(self._do(b"PTTL", key_bytes(key)))
        if left == -2:
            raise KeyError(key)
        return None if left < 0 else left / 1000

    def persist(self, key: str) -> bool:
        """A key stays; False if it would have anyway."""
        return bool(number_of(self._do(b"PERSIST", key_bytes(key))))

    # ---- counters, sets, hashes ----

    # What was written and is not as durable as was asked for in time is a VelumError UNCERTAIN.

    def incr(self, key: str, by: int = 1, *, durability: str = "") -> int:
        """Adds to a counter; its sum here. What others add at the same time counts too."""
        return number_of(self._do(b"INCRBY", key_bytes(key), b"%d" % by, durability=durability))

    def sadd(self, key: str, *elements: Element, durability: str = "") -> int:
        """Adds elements to a set; how many were not in it."""
        return self._parts(b"SADD", key, elements, durability)

    def srem(self, key: str, *elements: Element, durability: str = "") -> int:
        """Removes elements from a set; how many were in it. One that somebody adds meanwhile
        stays."""
        return self._parts(b"SREM", key, elements, durability)

    def smembers(self, key: str) -> set[bytes]:
        """The elements of a set; none if there is no such key."""
        return elements_of(self._do(b"SMEMBERS", key_bytes(key)))

    def hset(self, key: str, fields: Mapping[str, Element], *, durability: str = "") -> int:
        """Writes fields of a hash; how many were not in it."""
        words = [part for field in fields.items() for part in field]
        return self._parts(b"HSET", key, words, durability)

    def hget(self, key: str, field: str) -> bytes | None:
        """The value of one field, or None."""
        found = self._do(b"HGET", key_bytes(key), part_bytes(field))
        return None if found is None else raw(found)

    def hgetall(self, key: str) -> dict[str, bytes]:
        """All fields of a hash; none if there is no such key."""
        return fields_of(self._do(b"HGETALL", key_bytes(key)))

    def hdel(self, key: str, *fields: str, durability: str = "") -> int:
        """Removes fields of a hash; how many were in it."""
        return self._parts(b"HDEL", key, fields, durability)

    # ---- the rest ----

    def watch(self, pattern: str = "*", *, state: bool = True) -> Watch:
        """All changes of keys that a pattern fits, from now on, as an iterator and an async one;
        with `state` what they are now comes first, then an event "now"."""
        return self._backend.watch(key_bytes(pattern), state)

    def stat(self) -> dict[str, Any]:
        """Figures of the node's state."""
        found = self._do(b"VELUM.STAT")
        if not isinstance(found, dict):
            raise unexpected(found)
        plain = {}
        for name, value in found.items():
            plain[text_of(name)] = value.decode() if isinstance(value, bytes) else value
        return plain

    def compact(self) -> None:
        """Begins to write the node's log anew, without what is over; it goes on in the
        background."""
        self._do(b"VELUM.COMPACT")

    def forget(self, node: int) -> None:
        """A node that was a member will never come back: deleted keys need not be remembered for
        its sake, and no majority counts it. Its copy is refused if it comes after all.

        Raises VelumError ARGUMENT if it is no member, or is this one."""
        if not self._backend.forget(node):
            raise error_from(code_of("ARGUMENT"), f"no other member has the id {node}")

    # ---- asking ----

    def _reached(
        self, words: Sequence[bytes], durability: str, timeout: float
    ) -> tuple[Reply, str]:
        if durability not in DURABILITIES:
            names = ", ".join(DURABILITIES[1:])
            raise error_from(code_of("ARGUMENT"), f"{durability!r} is not one of {names}")
        reply, reached = self._backend.do(words, durability, timeout)
        if isinstance(reply, Refusal):
            raise refused(reply)
        return reply, reached

    def _do(self, *words: bytes, durability: str = "") -> Reply:
        reply, reached = self._reached(words, durability, TIMEOUT_S)
        if reached and DURABILITIES.index(reached) < DURABILITIES.index(durability):
            text = f"written, but no more durable than {reached!r} yet"
            raise error_from(code_of("UNCERTAIN"), text)
        return reply

    def _counted(self, command: bytes, keys: Sequence[str], durability: str = "") -> int:
        names = [key_bytes(key) for key in keys]
        return self._summed((command,), names, durability)

    def _parts(self, command: bytes, key: str, parts: Sequence[Element], durability: str) -> int:
        words = [part_bytes(part) for part in parts]
        return self._summed((command, key_bytes(key)), words, durability)

    def _summed(self, head: Sequence[bytes], words: Sequence[bytes], durability: str) -> int:
        """The numbers that are answered, of as many requests as it takes."""
        count = 0
        for at in range(0, len(words), ARGS_MAX):
            page = words[at : at + ARGS_MAX]
            count += number_of(self._do(*head, *page, durability=durability))
        return count

    def _scan(self, pattern: bytes) -> Iterator[str]:
        cursor = b"0"
        while True:
            page = self._do(b"SCAN", cursor, b"MATCH", pattern, b"COUNT", b"%d" % PAGE_KEYS)
            after, names = list_of(page, 2)
            yield from (key_text(raw(name)) for name in list_of(names))
            cursor = raw(after)
            if cursor == b"0":
                return
