"""A state of plain Python behind the face of `velum.kv`, for the tests of commands and robots.

One `FakeState` is what several nodes share; each has a `FakeKv` on it. Every write is noted with
its options; it can be told to fail.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from velum.errors import VelumError, error_from
from velum.kv import Entry, Written
from velum.kvwatch import Change

T0_MS = 1_790_000_000_000  # 2026
CAS_CONFLICT = 103  # codes of csrc/include/velum.h
WRONG_TYPE = 105


class FakeWatch:
    """Changes as they come; ends when it is closed."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.closed = False
        self.ended: VelumError | None = None
        self._came = threading.Condition()
        self._changes: list[Change] = []

    def tell(self, change: Change) -> None:
        if not change.key or fnmatchcase(change.key, self.pattern):
            with self._came:
                self._changes.append(change)
                self._came.notify_all()

    def get(self, timeout: float | None = None) -> Change | None:
        with self._came:
            self._came.wait_for(lambda: self._changes or self.closed or self.ended, timeout)
            if self._changes and not self.closed:
                return self._changes.pop(0)
            if self.ended is not None:
                raise self.ended
            return None

    def end(self, error: VelumError | None = None) -> None:
        with self._came:
            self.ended, self.closed = error, self.closed or error is None
            self._came.notify_all()

    def close(self) -> None:
        self.end()

    def __iter__(self) -> Iterator[Change]:
        while (change := self.get()) is not None:
            yield change


class FakeState:
    """Keys that nodes share."""

    def __init__(self) -> None:
        self.keys: dict[str, Entry] = {}
        self.besides: dict[str, list[Any]] = {}  # siblings
        self.watches: list[FakeWatch] = []
        self.unix_ms = T0_MS
        self._count = 0
        self.guard = threading.RLock()

    def stamp(self, node: int) -> str:
        self._count += 2
        return f"{(self.unix_ms << 16) + self._count:016x}-{node}"

    def tell(self, event: str, key: str, kind: str, value: Any, version: str, left: Any) -> None:
        for watch in self.watches:
            watch.tell(Change(event, key, kind, value, version, left))

    def write(self, node: int, key: str, kind: str, value: Any, left: float | None = None) -> Entry:
        with self.guard:
            entry = self.keys[key] = Entry(key, kind, value, self.stamp(node), left)
            self.tell(
                "count" if kind == "counter" else "set", key, kind, value, entry.version, left
            )
            return entry


class FakeKv:
    """The face of one node."""

    def __init__(self, state: FakeState | None = None, node: int = 1) -> None:
        self.state = state or FakeState()
        self.node = node
        self.puts: list[tuple[str, Any, dict[str, Any]]] = []
        self.calls: list[tuple[Any, ...]] = []
        self.fails: VelumError | None = None
        self.on_watch: Callable[[FakeWatch], None] = lambda watch: None

    def _at(self) -> None:
        if self.fails is not None:
            raise self.fails

    def put(
        self,
        key: str,
        value: Any,
        *,
        ttl: float | None = None,
        durability: str = "",
        siblings: bool = False,
        timeout: float = 5.0,
    ) -> Written:
        self._at()
        options = {"ttl": ttl, "durability": durability, "siblings": siblings, "timeout": timeout}
        self.puts.append((key, value, options))
        if siblings:
            self.state.besides.setdefault(key, []).append(value)
        kind = "bytes" if isinstance(value, bytes) else "json"
        entry = self.state.write(self.node, key, kind, value, ttl)
        return Written(entry.version, durability or "log")

    def entry(self, key: str) -> Entry | None:
        self._at()
        return self.state.keys.get(key)

    def get(self, key: str, default: Any = None) -> Any:
        entry = self.entry(key)
        return default if entry is None else entry.value

    def siblings(self, key: str) -> list[Any]:
        self._at()
        return list(self.state.besides.get(key, []))

    def delete(self, *keys: str, durability: str = "") -> int:
        self._at()
        self.calls.append(("delete", keys, durability))
        count = 0
        with self.state.guard:
            for key in keys:
                if self.state.keys.pop(key, None) is not None:
                    count += 1
                    stamp = self.state.stamp(self.node)
                    self.state.tell("del", key, "none", None, stamp, None)
        return count

    def keys(self, pattern: str = "*") -> list[str]:
        self._at()
        return sorted(key for key in self.state.keys if fnmatchcase(key, pattern))

    def __len__(self) -> int:
        return len(self.state.keys)

    def incr(self, key: str, by: int = 1, *, durability: str = "") -> int:
        self._at()
        self.calls.append(("incr", key, durability))
        before = self.state.keys.get(key)
        if before is not None and before.type != "counter":
            raise error_from(WRONG_TYPE, "the key holds a value of another type")
        total = (before.value if before is not None else 0) + by
        self.state.write(self.node, key, "counter", total)
        return int(total)

    def smembers(self, key: str) -> set[bytes]:
        self._at()
        entry = self.state.keys.get(key)
        return set() if entry is None else set(entry.value)

    def sadd(self, key: str, *elements: bytes | str, durability: str = "") -> int:
        self.calls.append(("sadd", key, durability))
        before = self.smembers(key)
        after = before | set(map(_bytes, elements))
        self.state.write(self.node, key, "set", after)
        return len(after) - len(before)

    def srem(self, key: str, *elements: bytes | str, durability: str = "") -> int:
        self.calls.append(("srem", key, durability))
        before = self.smembers(key)
        after = before - set(map(_bytes, elements))
        self.state.write(self.node, key, "set", after)
        return len(before) - len(after)

    def hset(self, key: str, fields: Mapping[str, bytes | str], *, durability: str = "") -> int:
        self._at()
        values = {name: _bytes(field) for name, field in fields.items()}
        self.state.write(self.node, key, "hash", values)
        return len(values)

    def cas(self, key: str, version: str | None, value: Any, *, quorum: bool = False) -> str:
        self._at()
        self.calls.append(("cas", key, version, value, quorum))
        entry = self.state.keys.get(key)
        if (version or "0") != ("0" if entry is None else entry.version):
            raise error_from(CAS_CONFLICT, f"{key!r} does not have version {version} any more")
        return self.put(key, value).version

    def watch(self, pattern: str = "*", *, state: bool = True) -> FakeWatch:
        self._at()
        self.calls.append(("watch", pattern, state))
        watch = FakeWatch(pattern)
        with self.state.guard:
            for key, entry in sorted(self.state.keys.items() if state else ()):
                facts = (entry.type, entry.value, entry.version, entry.expires_in)
                watch.tell(Change("state", key, *facts))
            watch.tell(Change("now", "", "none", None, "0", None))
            self.state.watches.append(watch)
        self.on_watch(watch)
        return watch

    def stat(self) -> dict[str, Any]:
        self._at()
        return {"keys": len(self), "log_bytes": 4096, "refusing": False, "durability": "log"}

    def compact(self) -> None:
        self._at()
        self.calls.append(("compact",))

    def forget(self, node: int) -> None:
        self._at()
        self.calls.append(("forget", node))


def _bytes(part: bytes | str) -> bytes:
    return part.encode() if isinstance(part, str) else part


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Until it is true; fails when it does not become so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it has not come to pass"
        time.sleep(0.002)
