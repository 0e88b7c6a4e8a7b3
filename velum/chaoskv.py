"""The keys of a chaos run: what is written, and that every node has it in the end.

Owns: the calls on keys, the book of what was acknowledged, and the end: all nodes become equal, and
each has all that is in the book. Who makes the calls is `velum.chaosstreams`. Refuses to know what
befalls the nodes meanwhile (`velum.chaos`).

Everything is written with durability `fsync`, through any node. What was acknowledged has to be on
every node at the end, and what was deleted on none. A call that failed may have been done, or may
yet be: a stopped node does it when it goes on, after its caller has done the same elsewhere. So an
increment counts once or not at all, and the sum has bounds; a number that was perhaps written may
come late; and a key that was once in doubt is not deleted. Nobody writes what another thread does,
but for counters and sets, which all do.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from velum.chaosmesh import ChaosMesh
from velum.chaosstreams import ABANDON_S, ATTACH_S, TRANSIENT, Call, CallStreams, Wrong
from velum.client import Client, connect
from velum.errors import VelumError

EQUAL_S: Final = 60.0  # until all nodes have the same: tombstones take a pull of all from all
OVER_S: Final = 60.0  # a shorter run does not wait for tombstones
LOOK_S: Final = 0.2
COUNTERS: Final = 4
SETS: Final = 4
SUM_MAX: Final = 1000  # of one increment
DURABILITY: Final = "fsync"
PREFIX: Final = "chaos/"


class Book:
    """What was acknowledged, and what may have been done. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = 0
        self.values: dict[str, bytes] = {}  # by key
        self.gone: set[str] = set()
        self.leaving: dict[int, list[str]] = {}  # by stream: keys of its own that are there
        self.sums: dict[str, list[int]] = {}  # by counter: least and most
        self.members: dict[str, set[bytes]] = {}  # by set
        self.last: dict[str, int] = {}  # by rewritten key: the number that was acknowledged last
        self.doubts: dict[str, set[int]] = {}  # and those that were perhaps written
        self._doubted: set[str] = set()  # new keys that may be written again at any time

    def number(self) -> int:
        """One that nobody has had before."""
        with self._lock:
            self._numbers += 1
            return self._numbers

    def put(self, stream: int, key: str, value: bytes) -> None:
        """A new key was acknowledged."""
        with self._lock:
            self.values[key] = value
            if key not in self._doubted:
                self.leaving.setdefault(stream, []).append(key)

    def doubt(self, key: str) -> None:
        """A new key was perhaps written."""
        with self._lock:
            self._doubted.add(key)

    def to_delete(self, stream: int, rng: random.Random) -> str:
        """A key of the stream's own, "" if it has none: nothing is expected of it from now on."""
        with self._lock:
            keys = self.leaving.get(stream)
            if not keys:
                return ""
            key = keys.pop(rng.randrange(len(keys)))
            del self.values[key]
            return key

    def keep(self, stream: int, key: str, value: bytes) -> None:
        """It was not deleted after all, unless an earlier try has done it."""
        if key not in self._doubted:
            self.put(stream, key, value)

    def deleted(self, key: str) -> None:
        """Nobody may ever see it again."""
        with self._lock:
            self.gone.add(key)

    def incremented(self, key: str, by: int, acknowledged: bool) -> None:
        """Surely, or perhaps."""
        with self._lock:
            least_most = self.sums.setdefault(key, [0, 0])
            least_most[1] += by
            if acknowledged:
                least_most[0] += by

    def added(self, key: str, member: bytes) -> None:
        """An element was acknowledged."""
        with self._lock:
            self.members.setdefault(key, set()).add(member)

    def rewritten(self, key: str, number: int, acknowledged: bool) -> None:
        """Surely, or perhaps."""
        with self._lock:
            if acknowledged:
                self.last[key] = number
            else:
                self.doubts.setdefault(key, set()).add(number)

    def check(self, client: Client) -> None:
        """Compares all of it with what one node has. `Wrong` says what is not as it must be."""
        kv = client.kv
        here = set(kv.keys(PREFIX + "*"))
        for key, value in self.values.items():
            if key not in here or (found := kv.get(key)) != value:
                raise Wrong(f"{key} is {found if key in here else 'not there'}, not {value!r}")
        if back := sorted(self.gone & here):
            raise Wrong(f"{back[0]} is back, and {len(back) - 1} more that were deleted")
        for key, (least, most) in self.sums.items():
            if not least <= (sum := int(kv.get(key, b"0"))) <= most:
                raise Wrong(f"{key} is {sum}, not {least} to {most}")
        for key, members in self.members.items():
            if lost := members - kv.smembers(key):
                raise Wrong(f"{key} lacks {sorted(lost)[0]!r}, and {len(lost) - 1} more")
        for key, number in self.last.items():
            found = int(kv.get(key, b"0"))
            if found != number and found not in self.doubts.get(key, ()):
                raise Wrong(f"{key} is {found}, not {number}")


class KvCalls:
    """What is done with keys. Any thread; a name is what `subject` gave."""

    def __init__(self, book: Book) -> None:
        self.book = book

    def put(self, client: Client, _rng: random.Random, name: str) -> str:
        """A new key; its name says whose it is."""
        value = value_of(name)
        try:
            _acknowledged(client.kv.put(name, value, durability=DURABILITY))
        except BaseException:
            self.book.doubt(name)
            raise
        self.book.put(_stream_of(name), name, value)
        return "written"

    def delete(self, client: Client, _rng: random.Random, name: str) -> str:
        """A key that was written; on a node that does not have it yet that does nothing."""
        if not name:
            return "there is none yet"
        try:
            found = client.kv.delete(name, durability=DURABILITY)
        except BaseException:
            self.book.doubt(name)
            raise
        if found:
            self.book.deleted(name)
            return "deleted"
        self.book.keep(_stream_of(name), name, value_of(name))
        return "not there yet"

    def incr(self, client: Client, rng: random.Random, name: str) -> str:
        """A counter that all streams count on."""
        by = rng.randint(1, SUM_MAX)
        try:
            now = client.kv.incr(name, by, durability=DURABILITY)
        except BaseException:
            self.book.incremented(name, by, acknowledged=False)
            raise
        self.book.incremented(name, by, acknowledged=True)
        return f"{by} more: {now}"

    def sadd(self, client: Client, _rng: random.Random, name: str) -> str:
        """An element of a set that all streams add to."""
        key, _, member = name.partition(" ")
        client.kv.sadd(key, member.encode(), durability=DURABILITY)
        self.book.added(key, member.encode())
        return "added"

    def rewrite(self, client: Client, _rng: random.Random, name: str) -> str:
        """A key that one stream writes again and again."""
        number = self.book.number()
        try:
            _acknowledged(client.kv.put(name, b"%d" % number, durability=DURABILITY))
        except BaseException:
            self.book.rewritten(name, number, acknowledged=False)
            raise
        self.book.rewritten(name, number, acknowledged=True)
        return str(number)

    def get(self, client: Client, rng: random.Random, name: str) -> str:
        """What is there, if it is: another node may not have it yet."""
        key = _key_of(_stream_of(name), rng.randint(1, 1 + self.book.number()))
        value = client.kv.get(key)
        if value is None:
            return f"{key}: not there"
        if value != value_of(key):
            raise Wrong(f"{key} reads {value!r}, which nobody wrote")
        return f"{key}: there"


def value_of(key: str) -> bytes:
    """What is written as a new key."""
    return hashlib.sha256(key.encode()).hexdigest().encode()


def _acknowledged(written: Any) -> None:
    if written.durability != DURABILITY:
        raise Wrong(f"asked for {DURABILITY}, acknowledged with {written.durability!r}")


def _key_of(stream: int, number: int) -> str:
    return f"{PREFIX}{stream}/{number}"


def _stream_of(key: str) -> int:
    return int(key.split("/")[1])


class KvStreams(CallStreams):
    """Threads that write and read keys."""

    rest_s = (0.0, 0.01)  # a log of one process would be all that is measured otherwise

    def __init__(
        self,
        seed: int,
        seconds: float,
        mesh: ChaosMesh,
        log: Path,
        on_line: Callable[[str], None],
        on_fault: Callable[[str], None],
    ) -> None:
        """Starts them. The callbacks may come from any thread."""
        super().__init__(seed, mesh, log, on_fault)
        self._seconds = seconds
        self._on_line = on_line
        self._calls = KvCalls(Book())
        self._begin()

    def kinds(self) -> dict[Call, int]:
        calls = self._calls
        return {
            calls.put: 30,
            calls.get: 20,
            calls.rewrite: 20,
            calls.incr: 15,
            calls.sadd: 10,
            calls.delete: 8,
        }

    def subject(self, rng: random.Random, stream: int, call: Call) -> str:
        calls, book = self._calls, self._calls.book
        if call == calls.delete:
            return book.to_delete(stream, rng)
        if call == calls.incr:
            return f"{PREFIX}counter/{rng.randrange(COUNTERS)}"
        if call == calls.sadd:
            return f"{PREFIX}set/{rng.randrange(SETS)} {book.number()}"
        if call == calls.rewrite:
            return f"{PREFIX}rewritten/{stream}"
        return _key_of(stream, book.number())

    def passes(self, call: Call, error: str) -> bool:
        return error in TRANSIENT

    # ---- the end ----

    def finish(self) -> None:
        """Begins no more calls; waits until every node has what it must have, and all are equal."""
        self._end_calls()
        right = self._wait(self._unlike_the_book, "has all that was acknowledged")
        if right and self._seconds >= OVER_S:
            self._wait(self._unlike_each_other, "is equal to all others, tombstones too")

    def _wait(self, wrong: Callable[[], str], what: str) -> bool:
        """Waits until all nodes stand and nothing is wrong; false if that need not be any more."""
        since = time.monotonic()
        while not self._give_up.wait(LOOK_S):
            if self._mesh.quiet_since is None:
                since = time.monotonic()
                continue
            said = wrong()
            waited_s = time.monotonic() - self._mesh.quiet_since
            if not said:
                self.tally.heals += 1
                self.tally.slowest_heal_s = max(self.tally.slowest_heal_s, waited_s)
                self._on_line(f"each node {what} {waited_s:.1f} s after all stood")
                return True
            if time.monotonic() - since > EQUAL_S:
                self._bad(f"{EQUAL_S:.0f} s after all nodes stood: {said}")
                return False
        return False

    def _unlike_the_book(self) -> str:
        for id, node in self._mesh.mesh.nodes.items():
            try:
                with connect(node.address, timeout=ATTACH_S) as client:
                    self._calls.book.check(client)
            except (Wrong, VelumError) as error:
                return f"node {id}: {error}"
        return ""

    def _unlike_each_other(self) -> str:
        said = self._sums()
        equal = len(said) == len(self._mesh.mesh.nodes) and len(set(said.values())) == 1
        return "" if equal else f"sums differ: {said}"

    def _sums(self) -> dict[int, str]:
        """By node, the sum over all that it has."""
        found = {}
        for id, node in self._mesh.mesh.nodes.items():
            with suppress(VelumError), connect(node.address, timeout=ABANDON_S) as client:
                found[id] = str(client.status()["kv"]["sum"])
        return found
