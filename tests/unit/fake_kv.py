"""A state of plain Python behind `velum.kv`, for the tests of what stands on it.

It does the commands that the face sends, as `csrc/kv_commands*.c` words their replies, and can be
told to refuse, and to be less durable than is asked for.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from typing import Any

from velum.kv import DURABILITIES, Kv
from velum.kvwatch import Watch
from velum.resp import Refusal, Reply

T0_MS = 1_790_000_000_000  # 2026
WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"


class FakeState:
    """It is a `velum.kv.Backend`."""

    def __init__(self) -> None:
        self.now_ms = T0_MS
        self.keys: dict[bytes, tuple[bytes, Any, int]] = {}  # type, value, version
        self.until: dict[bytes, int] = {}
        self.asked: list[tuple[list[bytes], str, float]] = []
        self.watches: list[tuple[bytes, bool, Watch]] = []
        self.stopped: list[Watch] = []
        self.forgotten: list[int] = []
        self.refuses: str = ""  # a line of an error, for everything
        self.reaches = "log"
        self.reply: Callable[[], Reply] | None = None  # instead of all others
        self._stamp = 0

    def do(self, args: Sequence[bytes], durability: str, timeout: float) -> tuple[Reply, str]:
        self.asked.append((list(args), durability, timeout))
        if self.reply is not None:
            return self.reply(), ""
        if self.refuses:
            return Refusal(self.refuses), ""
        name = args[0].decode().lower().replace("velum.", "velum_")
        before = self._stamp
        reply: Reply = getattr(self, f"_{name}")(*args[1:])
        if isinstance(reply, Refusal) or self._stamp == before:
            return reply, ""
        at_most = DURABILITIES.index(self.reaches)
        wanted = DURABILITIES.index(durability) or at_most
        return reply, DURABILITIES[min(wanted, at_most)]

    def watch(self, pattern: bytes, state: bool) -> Watch:
        watch = Watch(self.stopped.append, self.unix_ms)
        self.watches.append((pattern, state, watch))
        return watch

    def forget(self, node: int) -> bool:
        self.forgotten.append(node)
        return node < 100

    def unix_ms(self) -> int:
        return self.now_ms

    # ---- what is there ----

    def _write(self, key: bytes, kind: bytes, value: Any) -> bytes:
        self._stamp += 2
        self.keys[key] = (kind, value, self._stamp)
        self.until.pop(key, None)
        return self._version(key)

    def _version(self, key: bytes) -> bytes:
        return b"%016x-7" % self.keys[key][2] if key in self.keys else b"0"

    def _velum_put(self, key: bytes, value: bytes, *words: bytes) -> Reply:
        version = self._write(key, b"json" if b"JSON" in words else b"bytes", value)
        if b"PX" in words:
            self.until[key] = self.now_ms + int(words[-1])
        return version

    def _velum_get(self, key: bytes) -> Reply:
        if key not in self.keys:
            return None
        kind, value, _ = self.keys[key]
        shown = list(value) if kind == b"set" else value
        return [kind, shown, self._version(key), self.until.get(key, 0)]

    def _velum_cas(self, key: bytes, version: bytes, value: bytes, *words: bytes) -> Reply:
        if self._version(key) != version:
            return None
        return self._velum_put(key, value, *words)

    def _velum_replace(self, key: bytes, value: bytes) -> Reply:
        return self._write(key, b"set", {value})

    def _velum_stat(self) -> Reply:
        return {b"keys": len(self.keys), b"now_ms": self.now_ms}

    def _velum_compact(self) -> Reply:
        return "OK"

    def _dbsize(self) -> Reply:
        return len(self.keys)

    def _del(self, *keys: bytes) -> Reply:
        gone = [key for key in keys if self.keys.pop(key, None) is not None]
        self._stamp += 2 * len(gone)
        return len(gone)

    def _exists(self, *keys: bytes) -> Reply:
        return sum(key in self.keys for key in keys)

    def _scan(self, cursor: bytes, *words: bytes) -> Reply:
        """Two keys a page, the first of the next one again."""
        names = sorted(self.keys)
        at = int(cursor)
        page = [key for key in names[at : at + 2] if fnmatch.fnmatch(key, words[1])]
        return [b"%d" % (at + 1) if at + 2 < len(names) else b"0", list(page)]

    def _pexpire(self, key: bytes, left_ms: bytes) -> Reply:
        if key in self.keys:
            self.until[key] = self.now_ms + int(left_ms)
        return int(key in self.keys)

    def _pttl(self, key: bytes) -> Reply:
        if key not in self.keys:
            return -2
        return self.until[key] - self.now_ms if key in self.until else -1

    def _persist(self, key: bytes) -> Reply:
        return int(self.until.pop(key, None) is not None)

    def _incrby(self, key: bytes, by: bytes) -> Reply:
        kind, value, _ = self.keys.get(key, (b"counter", 0, 0))
        if kind != b"counter":
            return Refusal(WRONG_TYPE)
        self._write(key, b"counter", value + int(by))
        return int(value) + int(by)

    def _parts(self, key: bytes, kind: bytes) -> Any:
        return self.keys.get(key, (kind, {} if kind == b"hash" else set(), 0))[1]

    def _sadd(self, key: bytes, *elements: bytes) -> Reply:
        before = self._parts(key, b"set")
        if elements_new := set(elements) - before:
            self._write(key, b"set", before | elements_new)
        return len(elements_new)

    def _srem(self, key: bytes, *elements: bytes) -> Reply:
        before = self._parts(key, b"set")
        self._write(key, b"set", before - set(elements))
        return len(before & set(elements))

    def _smembers(self, key: bytes) -> Reply:
        return set(self._parts(key, b"set"))

    def _hset(self, key: bytes, *words: bytes) -> Reply:
        before = self._parts(key, b"hash")
        fields = dict(zip(words[::2], words[1::2], strict=True))
        self._write(key, b"hash", {**before, **fields})
        return len(fields.keys() - before.keys())

    def _hget(self, key: bytes, field: bytes) -> Reply:
        found: bytes | None = self._parts(key, b"hash").get(field)
        return found

    def _hgetall(self, key: bytes) -> Reply:
        return dict(self._parts(key, b"hash"))

    def _hdel(self, key: bytes, *fields: bytes) -> Reply:
        before = self._parts(key, b"hash")
        self._write(key, b"hash", {f: v for f, v in before.items() if f not in fields})
        return len(before.keys() & set(fields))


def fake_kv() -> tuple[Kv, FakeState]:
    """A face, and what is behind it."""
    state = FakeState()
    return Kv(state), state
