"""A store of plain Python behind `velum.files`, for the tests of the faces.

It keeps every file as bytes, holds callers to what the `Backend` asks of them, and can be told to
be full, to break, and to lose chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from velum.errors import VelumError, code_of, error_from
from velum.filebackend import FileInfo, NodeSpace, Space, info_of
from velum.files import Files
from velum.policy.filetypes import (
    CHUNK_BYTES,
    INLINE_BYTES_MAX,
    Coding,
    Manifest,
    stripe_key,
    stripes_of,
)
from velum.policy.hybridclock import Clock

T0_MS = 1_790_000_000_000  # 2026


def error(name: str, text: str = "") -> VelumError:
    return error_from(code_of(name), text)


class FakeUpload:
    """A put under way; notes how it ended."""

    def __init__(self, store: FakeStore, name: str, size: int | None, coding: Coding, chunk: int):
        self.store, self.name, self.size, self.coding, self.chunk = store, name, size, coding, chunk
        self.given: list[tuple[memoryview, bytes]] = []
        self.state = "open"

    def write(self, data: memoryview) -> None:
        assert self.state == "open" and len(data) and data.format == "B"
        assert all(len(earlier) % self.chunk == 0 for _, earlier in self.given), "only the last"
        self.given.append((data, bytes(data)))
        self.store.at("write")
        if sum(len(data) for _, data in self.given) > self.store.free:
            raise error("STORE_FULL", "no room for the file: 0 of 9 MiB are free")

    def finish(self) -> FileInfo:
        assert self.state == "open"
        assert all(view == kept for view, kept in self.given), "the bytes must stay as they are"
        self.store.at("finish")
        self.state = "finished"
        return self.store.keep(
            self.name, b"".join(data for _, data in self.given), self.coding, self.chunk
        )

    def abort(self) -> None:
        if self.state == "open":
            self.state = "aborted"


class FakeDownload:
    """One version of a file; notes what was asked for."""

    def __init__(self, store: FakeStore, info: FileInfo, data: bytes) -> None:
        self.info = info
        self.size = info.size
        self.store, self.data = store, data
        self.asked: list[tuple[int, int, int]] = []  # (offset, size, ahead)
        self.closed = False

    def read_into(self, offset: int, target: memoryview, ahead: int) -> int:
        assert not self.closed and offset >= 0 and ahead >= 0
        self.asked.append((offset, len(target), ahead))
        self.store.at("read")
        if self.info.name in self.store.lost:
            raise error("CHUNKS_LOST", f"{self.info.name}: chunk 0 is on no node any more")
        piece = self.data[offset : offset + len(target)]
        target[: len(piece)] = piece
        return len(piece)

    def read(self, offset: int, size: int) -> bytes:
        data = bytearray(size)
        return bytes(data[: self.read_into(offset, memoryview(data), 0)])

    def close(self) -> None:
        self.closed = True


class FakeStore:
    """The backend. `on` is called with what is done, "write", "finish", "read" or "names": it may
    raise, or change the store meanwhile."""

    def __init__(self, budget: int = 64 << 20) -> None:
        self.files: dict[str, tuple[FileInfo, bytes]] = {}
        self.budget = budget
        self.lost: set[str] = set()
        self.uploads: list[FakeUpload] = []
        self.downloads: list[FakeDownload] = []
        self.on: Callable[[str], None] = lambda what: None
        self.clock = Clock(7)
        self.checked: list[str] = []

    def at(self, what: str) -> None:
        self.on(what)

    @property
    def free(self) -> int:
        return self.budget - sum(len(data) for _, data in self.files.values())

    def keep(self, name: str, data: bytes, coding: Coding, chunk: int) -> FileInfo:
        if len(data) <= INLINE_BYTES_MAX:
            manifest = Manifest(len(data), 0, coding, (), data)
        else:
            k, m = coding
            stripes = stripes_of(len(data), chunk, k)
            count = stripes * (k + m) if m else -(-len(data) // chunk)
            keys = tuple(stripe_key((data[at * chunk :][:chunk],)) for at in range(count))
            manifest = Manifest(len(data), chunk, coding, keys)
        info = info_of(name, self.clock.next(T0_MS), manifest)
        self.files[name] = (info, data)
        return info

    def begin_put(
        self, name: str, size: int | None, coding: Coding, chunk_bytes: int
    ) -> FakeUpload:
        if size is not None and size > self.free:
            raise error("STORE_FULL", f"no room for {size} bytes: {self.free} are free")
        self.uploads.append(FakeUpload(self, name, size, coding, chunk_bytes))
        return self.uploads[-1]

    def put_small(self, name: str, data: bytes, coding: Coding) -> FileInfo:
        upload = self.begin_put(name, len(data), coding, CHUNK_BYTES)
        try:
            if data:
                upload.write(memoryview(data))
            return upload.finish()
        except BaseException:
            upload.abort()
            raise

    def put_many(self, items: Iterable[tuple[str, bytes]], coding: Coding, chunk_bytes: int) -> int:
        count = 0
        for name, data in items:
            assert type(data) is bytes
            self.keep(name, data, coding, chunk_bytes)
            count += 1
        return count

    def lookup(self, name: str) -> FakeDownload:
        self.downloads.append(FakeDownload(self, *self._find(name)))
        return self.downloads[-1]

    def get_many(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | Exception]]:
        for name in names:
            try:
                yield name, self._find(name)[1]
            except VelumError as missing:
                yield name, missing

    def names(self, prefix: str, after: str) -> Iterator[FileInfo]:
        self.at("names")
        for name in sorted(self.files, key=str.encode):
            if name.startswith(prefix) and name.encode() > after.encode():
                known = self.stat(name, False)
                yield FileInfo(name, *(getattr(known, key) for key in self.ROW))

    ROW = ("size", "stamp", "care", "missing")

    def stat(self, name: str, check: bool) -> FileInfo:
        if check:
            self.checked.append(name)
        info = self._find(name)[0]
        if name in self.lost:
            return replace(info, care="damaged", missing=1)
        return replace(info, care="whole")

    def remove(self, name: str) -> None:
        self._find(name)
        del self.files[name]

    def df(self) -> Space:
        half = NodeSpace(1, self.budget // 2, (self.budget - self.free) // 2)
        nodes = (half, replace(half, node=2))
        return Space(nodes, len(self.files), 0, len(self.lost), 30 << 20, 10 << 20)

    def _find(self, name: str) -> Any:
        if name not in self.files:
            raise error("NOT_FOUND", f"no file {name!r}")
        return self.files[name]


def fake_files(budget: int = 64 << 20) -> tuple[Files, FakeStore]:
    """Files over a store of its own."""
    store = FakeStore(budget)
    return Files(store), store
