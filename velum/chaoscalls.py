"""The calls of a chaos run on files: what each does, and whether it came to what it should.

Owns: which contents and codings are drawn, and what is done with a file. What a read may find is
`velum.chaoshistory`. Refuses to know who calls, how often, and what befalls the nodes
(`velum.chaosfiles`).

A call raises `Wrong` for what must never be; a VelumError is judged by who calls.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from velum.chaoshistory import BLOCK_BYTES, Content, History, Write, digest_of
from velum.chaosstreams import Wrong
from velum.client import Client
from velum.errors import FileMissing

SIZE_MAX: Final = 16 << 20
SIZES: Final = (  # how often, from, to
    (1, 0, 0),
    (6, 1, 4096),  # such lie with their names
    (6, 4097, 256 << 10),
    (5, 256 << 10, 2 << 20),
    (2, 2 << 20, SIZE_MAX),
)
CHUNKS: Final = (64 << 10, 256 << 10, 1 << 20)
COMMON: Final = 0.3  # of the files have chunks that others have too
PIECE_BYTES: Final = 300_000  # of a file that is read bit by bit
PAUSE_S: Final = 0.02  # between two of them: others put and remove meanwhile
VANISH_S: Final = (0.0, 0.4)


class GivenUp(Exception):
    """What a source raises in the middle of a put."""


class Coding(NamedTuple):
    """How a file is kept, as `Files.put` takes it."""

    copies: int | None = None
    ec: tuple[int, int] | None = None


def codings(nodes: int) -> list[Coding]:
    """Those of which nothing is lost when one node of so many is."""
    found = [Coding(copies=2), Coding(copies=2), Coding(copies=3), Coding(ec=(2, 1))]
    return [*found, Coding(ec=(4, 2))] if nodes >= 6 else found


def draw_content(rng: random.Random) -> Content:
    """Of a size that `SIZES` says."""
    _, least, most = rng.choices(SIZES, [weight for weight, _, _ in SIZES])[0]
    return Content(rng.getrandbits(48), rng.randint(least, most), rng.random() < COMMON)


class Calls:
    """What can be done with the files of a history. Any thread."""

    def __init__(self, history: History, nodes: int) -> None:
        self._history = history
        self._codings = codings(nodes)

    # ---- writing ----

    def put(self, client: Client, rng: random.Random, name: str) -> str:
        """Puts something new; what, in words."""
        content = draw_content(rng)
        data, coding = content.data(), rng.choice(self._codings)
        chunk = _chunk(content, rng)
        write = self._begin(name, content)
        try:
            client.files.put(data, name, copies=coding.copies, ec=coding.ec, chunk_bytes=chunk)
        except BaseException:
            self._history.doubt(write, time.monotonic())
            raise
        self._history.acknowledge(write, time.monotonic())
        return f"{content}, {coding}, chunks of {chunk}"

    def give_up(self, client: Client, rng: random.Random, name: str) -> str:
        """Begins a put that its own source ends: nobody may ever see any of it."""
        content = draw_content(rng)
        data, coding = content.data(), rng.choice(self._codings)
        end = rng.randint(0, len(data))

        def source() -> Iterator[bytes]:
            yield data[:end]
            raise GivenUp

        with suppress(GivenUp):
            client.files.put(source(), name, copies=coding.copies, ec=coding.ec)
        return f"{end} bytes"

    def vanish(self, client: Client, rng: random.Random, name: str) -> str:
        """A put whose client is gone before it ends, perhaps."""
        timer = threading.Timer(rng.uniform(*VANISH_S), client.close)
        timer.start()
        try:
            return self.put(client, rng, name)
        finally:
            timer.cancel()
            timer.join()
            client.close()

    def remove(self, client: Client, _rng: random.Random, name: str) -> str:
        """Removes a file, if there is one."""
        write = self._begin(name, None)
        try:
            client.files.rm(name)
        except FileMissing:
            self._history.forget(name, write)
            self._check(name, None, write.began)
            return "nothing there"
        except BaseException:
            self._history.doubt(write, time.monotonic())
            raise
        self._history.acknowledge(write, time.monotonic())
        return "removed"

    def _begin(self, name: str, content: Content | None) -> Write:
        return self._history.begin(name, content, time.monotonic())

    # ---- reading ----

    def get(self, client: Client, _rng: random.Random, name: str) -> str:
        """Reads a whole file."""
        began = time.monotonic()
        try:
            data = client.files.get(name)
        except FileMissing:
            return self._check(name, None, began)
        return self._check(name, data, began)

    def get_range(self, client: Client, rng: random.Random, name: str) -> str:
        """Reads a part of a file, of whichever version."""
        offset = rng.randrange(rng.choice((4096, 1 << 20, SIZE_MAX)))
        size = rng.randint(0, 1 << 20)
        began = time.monotonic()
        try:
            part = client.files.get(name, offset=offset, size=size)
        except FileMissing:
            return self._check(name, None, began)
        possible = self._history.possible(name, began, time.monotonic())
        for write in possible:
            if write.content is not None and _has(write.content, offset, size, part):
                return f"{len(part)} bytes from {offset}"
        raise Wrong(f"{name}: {len(part)} bytes from {offset} that are of none of {_all(possible)}")

    def read_slowly(self, client: Client, _rng: random.Random, name: str) -> str:
        """Opens a file and reads it bit by bit: all of it is of the version of then."""
        began = time.monotonic()
        try:
            with client.files.open(name) as file:
                opened = time.monotonic()
                pieces = []
                while piece := file.read(PIECE_BYTES):
                    pieces.append(piece)
                    time.sleep(PAUSE_S)
        except FileMissing:
            return self._check(name, None, began)
        return self._check(name, b"".join(pieces), began, opened)

    def stat(self, client: Client, _rng: random.Random, name: str) -> str:
        """Asks what is known of a file."""
        began = time.monotonic()
        try:
            size: int | None = client.files.stat(name).size
        except FileMissing:
            size = None
        self._check_size(name, size, began, time.monotonic())
        return f"size {size}"

    def list_all(self, client: Client, _rng: random.Random, _name: str) -> str:
        """Lists all files: those that are there, and no others."""
        began = time.monotonic()
        found = {info.name: info.size for info in client.files.ls()}
        ended = time.monotonic()
        names = self._history.names()
        for name in names:
            self._check_size(name, found.get(name), began, ended)
        if strange := found.keys() - set(names):
            raise Wrong(f"files that nobody has put: {sorted(strange)}")
        return f"{len(found)} files"

    # ---- what is right ----

    def _check(self, name: str, data: bytes | None, began: float, until: float = 0.0) -> str:
        """Whether a read that lasted until now, or until then, may have found this."""
        possible = self._history.possible(name, began, until or time.monotonic())
        digest = None if data is None else digest_of(data)
        for write in possible:
            if (None if write.content is None else write.content.digest) == digest:
                return "nothing" if write.content is None else str(write.content)
        found = "nothing" if data is None else f"{len(data)} bytes, {self._whose(name, digest)},"
        raise Wrong(f"{name}: {found} where there should be {_all(possible)}")

    def _check_size(self, name: str, size: int | None, began: float, ended: float) -> None:
        possible = self._history.possible(name, began, ended)
        if all((w.content.size if w.content else None) != size for w in possible):
            raise Wrong(f"{name}: of size {size} where there should be {_all(possible)}")

    def _whose(self, name: str, digest: bytes | None) -> str:
        """What bytes are that should not be there."""
        for write in self._history.writes(name):
            if write.content is not None and write.content.digest == digest:
                return f"that is {write}"
        return "of no put of this name"


def _chunk(content: Content, rng: random.Random) -> int:
    return BLOCK_BYTES if content.common else rng.choice(CHUNKS)


def _has(content: Content, offset: int, size: int, part: bytes) -> bool:
    if max(0, min(content.size - offset, size)) != len(part):
        return False
    return content.data()[offset : offset + size] == part


def _all(writes: list[Write]) -> str:
    return "; or ".join(map(str, writes))
