"""`velum.files` over a store of plain Python: sources, targets, file objects, and what is left."""

from __future__ import annotations

import array
import gc
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fake_files import FakeStore, error, fake_files
from velum import _core
from velum.errors import (
    CallerError,
    ClusterFull,
    FileDamaged,
    FileMissing,
    PeerLost,
    VelumError,
    exit_status,
)
from velum.filebackend import NodeSpace, Space, content_hash, info_of
from velum.files import Files
from velum.pieces import cut, filled, gathered, piece_size, pieces_of
from velum.policy.filetypes import Coding, Manifest
from velum.policy.hybridclock import Version

CHUNK = 1 << 10
BIG = bytes(range(256)) * (40 << 10)  # 10 MiB: more than two pieces


@pytest.fixture
def both() -> tuple[Files, FakeStore]:
    return fake_files()


@pytest.fixture
def files(both: tuple[Files, FakeStore]) -> Files:
    return both[0]


@pytest.fixture
def store(both: tuple[Files, FakeStore]) -> FakeStore:
    return both[1]


# ---- put ----


def sources(tmp_path: Path, data: bytes) -> Iterator[tuple[Any, bool]]:
    """The same bytes in every form, and whether its size is known beforehand."""
    path = tmp_path / "source"
    path.write_bytes(data)
    yield path, True
    yield str(path), True
    yield data, True
    yield bytearray(data), True
    yield memoryview(data), True
    yield io.BytesIO(data), True
    yield iter([data[:7], b"", data[7:]]), False
    yield (bytearray(data[at : at + 999_999]) for at in range(0, len(data), 999_999)), False


@pytest.mark.parametrize("data", [b"", b"x", BIG], ids=["empty", "one", "big"])
def test_put_takes_bytes_in_any_form(
    files: Files, store: FakeStore, tmp_path: Path, data: bytes
) -> None:
    for source, known in sources(tmp_path, data):
        info = files.put(source, "a/b")
        assert files.get("a/b") == data and info.size == len(data), type(source)
        assert store.uploads[-1].size == (len(data) if known else None), type(source)
        assert store.uploads[-1].state == "finished"


def test_put_of_an_array_and_of_a_file_half_read(files: Files, store: FakeStore) -> None:
    files.put(array.array("H", [1, 2, 3]), "array")  # type: ignore[arg-type]
    assert files.get("array") == array.array("H", [1, 2, 3]).tobytes()
    rest = io.BytesIO(b"0123456789")
    rest.read(4)
    files.put(rest, "rest")
    assert files.get("rest") == b"456789" and store.uploads[-1].size == 6


def test_put_of_a_pipe(files: Files, store: FakeStore) -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as source:
        os.write(writing, b"through a pipe")
        os.close(writing)
        files.put(source, "pipe")
    assert files.get("pipe") == b"through a pipe" and store.uploads[-1].size is None


def test_bytes_are_put_from_where_they_lie(files: Files, store: FakeStore) -> None:
    files.put(BIG, "big")
    assert all(view.obj is BIG for view, _ in store.uploads[-1].given)


def test_an_iterable_may_use_one_array_again(files: Files) -> None:
    def blocks() -> Iterator[bytearray]:
        block = bytearray(8 << 20)
        for value in (1, 2):
            block[:] = bytes([value]) * len(block)
            yield block

    files.put(blocks(), "again")
    assert files.get("again") == b"\1" * (8 << 20) + b"\2" * (8 << 20)


@pytest.mark.parametrize("source", ["text".encode, 7, [1, 2], ["text"], io.StringIO("text")])
def test_what_holds_no_bytes_is_refused(files: Files, store: FakeStore, source: Any) -> None:
    with pytest.raises((VelumError, TypeError)):
        files.put(source, "name")
    assert not store.files and all(upload.state == "aborted" for upload in store.uploads)


@pytest.mark.parametrize(
    ("options", "coding"),
    [({}, (2, 0)), ({"copies": 1}, (1, 0)), ({"copies": 16}, (16, 0)), ({"ec": (4, 2)}, (4, 2))],
)
def test_codings(files: Files, store: FakeStore, options: Any, coding: tuple[int, int]) -> None:
    info = files.put(BIG, "name", chunk_bytes=4 << 20, **options)
    assert store.uploads[-1].coding == coding and store.uploads[-1].chunk == 4 << 20
    assert info.copies == (None if coding[1] else coding[0])
    assert info.ec == (coding if coding[1] else None)
    assert (info.chunks, info.chunk_bytes) == (6 if coding[1] else 3, 4 << 20)
    with files.open("name", "wb", **options) as file:
        file.write(BIG)
    assert store.uploads[-1].coding == coding and file.info is not None
    assert files.put_many({"other": BIG}, **options) == 1
    assert files.stat("other").copies == info.copies and files.stat("other").ec == info.ec


@pytest.mark.parametrize(
    "options",
    [
        {"copies": 0},
        {"copies": 17},
        {"ec": (0, 2)},
        {"ec": (4, 0)},
        {"ec": (30, 3)},
        {"copies": 2, "ec": (4, 2)},
        {"chunk_bytes": 0},
        {"chunk_bytes": (8 << 20) + 1},
    ],
)
def test_codings_that_cannot_be(files: Files, store: FakeStore, options: Any) -> None:
    for call in (
        lambda: files.put(b"", "n", **options),
        lambda: files.open("n", "wb", **options),
        lambda: files.put_many([("n", b"")], **options),
    ):
        with pytest.raises(VelumError) as caught:
            call()
        assert caught.value.name == "ARGUMENT" and not store.uploads


def test_progress(files: Files, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    files.put(BIG, "big", progress=lambda *told: seen.append(told))
    assert seen == [(mib << 20, len(BIG)) for mib in range(1, 11)]
    targets: list[Any] = [None, tmp_path / "big", io.BytesIO()]
    for target in targets:
        seen.clear()
        files.get("big", target, progress=lambda *told: seen.append(told))
        assert seen == [(4 << 20, len(BIG)), (8 << 20, len(BIG)), (10 << 20, len(BIG))]
    files.put(iter([b"x"]), "small", progress=lambda *told: seen.append(told))
    assert seen[-1] == (1, None)


@pytest.mark.parametrize("what", ["write", "finish"])
@pytest.mark.parametrize("why", [KeyboardInterrupt(), error("LOST"), error("UNCERTAIN")])
def test_a_put_that_is_broken_off_is_given_up(
    files: Files, store: FakeStore, what: str, why: BaseException
) -> None:
    def broken(done: str) -> None:
        if done == what:
            raise why

    store.on = broken
    with pytest.raises(type(why)):
        files.put(BIG, "big")
    assert store.uploads[-1].state == "aborted" and not store.files


def test_a_source_or_a_progress_that_raises_gives_the_put_up(
    files: Files, store: FakeStore
) -> None:
    def source() -> Iterator[bytes]:
        yield b"x"
        raise OSError("torn")

    with pytest.raises(OSError, match="torn"):
        files.put(source(), "torn")
    with pytest.raises(ZeroDivisionError):
        files.put(b"x", "progress", progress=lambda *_: 1 // 0)
    assert [upload.state for upload in store.uploads] == ["aborted"] * 2 and not store.files


def test_a_full_mesh(store: FakeStore, files: Files) -> None:
    store.budget = 9 << 20
    with pytest.raises(ClusterFull, match="no room for 10485760 bytes"):
        files.put(BIG, "big")
    with pytest.raises(ClusterFull, match="no room"):
        files.put(iter([BIG]), "big")
    assert not store.files


# ---- get ----


def test_get_to_every_kind_of_target(files: Files, tmp_path: Path) -> None:
    files.put(BIG, "big")
    path = tmp_path / "target"
    assert files.get("big", path).size == len(BIG) and path.read_bytes() == BIG
    assert files.get("big", str(path), offset=5, size=3).name == "big"
    assert path.read_bytes() == BIG[5:8]
    stream = io.BytesIO()
    files.get("big", stream)
    assert stream.getvalue() == BIG
    assert files.get("big", offset=len(BIG) - 2) == BIG[-2:]
    assert files.get("big", offset=len(BIG) + 9, size=1) == b""
    assert files.get("big", size=0) == b""


def test_readinto(files: Files) -> None:
    files.put(b"0123456789", "ten")
    buffer = bytearray(4)
    assert files.readinto("ten", buffer, 8) == 2 and bytes(buffer) == b"89\0\0"
    assert files.readinto("ten", memoryview(buffer)[1:], 0) == 3 and bytes(buffer) == b"8012"
    with pytest.raises(VelumError, match="negative"):
        files.readinto("ten", buffer, -1)
    with pytest.raises(VelumError, match="negative"):
        files.get("ten", offset=-1)


def test_gets_say_how_much_more_they_want(files: Files, store: FakeStore, tmp_path: Path) -> None:
    files.put(BIG, "big")
    files.get("big", tmp_path / "target")
    mib = 1 << 20
    assert store.downloads[-1].asked == [
        (0, 4 * mib, 6 * mib),
        (4 * mib, 4 * mib, 2 * mib),
        (8 * mib, 2 * mib, 0),
    ]
    assert all(download.closed for download in store.downloads)


class Slow(io.RawIOBase):
    """Takes a little at a time."""

    def __init__(self) -> None:
        self.taken = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.taken += bytes(data[: 1 << 20])
        return min(len(data), 1 << 20)


def test_a_target_that_takes_little_gets_all(files: Files) -> None:
    files.put(BIG, "big")
    slow = Slow()
    files.get("big", slow)  # type: ignore[call-overload]
    assert slow.taken == BIG


@pytest.mark.parametrize("why", [KeyboardInterrupt(), error("CHUNKS_LOST")])
def test_a_get_that_is_broken_off_leaves_what_was_there(
    files: Files, store: FakeStore, tmp_path: Path, why: BaseException
) -> None:
    files.put(BIG, "big")
    path = tmp_path / "target"
    reads = 0

    def broken(_: str) -> None:
        nonlocal reads
        reads += 1
        if reads == 2:
            raise why

    store.on = broken
    with pytest.raises(type(why)):
        files.get("big", path)
    assert os.listdir(tmp_path) == []
    path.write_bytes(b"before")
    reads = 0
    with pytest.raises(type(why)):
        files.get("big", path)
    assert os.listdir(tmp_path) == ["target"] and path.read_bytes() == b"before"
    assert all(download.closed for download in store.downloads)


def test_a_target_keeps_its_mode_and_its_link(files: Files, tmp_path: Path) -> None:
    files.put(b"new", "n")
    path, link = tmp_path / "target", tmp_path / "link"
    path.write_bytes(b"old")
    path.chmod(0o640)
    link.symlink_to(path)
    files.get("n", link)
    assert link.is_symlink() and path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    files.get("n", tmp_path / "fresh")
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "fresh").stat().st_mode == plain.stat().st_mode
    files.get("n", os.devnull)
    assert not stat.S_ISREG(os.stat(os.devnull).st_mode)


def test_targets_that_cannot_be(files: Files, tmp_path: Path) -> None:
    files.put(b"new", "n")
    with pytest.raises(IsADirectoryError):
        files.get("n", tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        files.get("n", tmp_path / "none" / "n")
    assert caught.value.filename == str(tmp_path / "none" / "n")
    assert os.listdir(tmp_path) == []


def test_a_file_replaced_meanwhile_is_fetched_anew(
    files: Files, store: FakeStore, tmp_path: Path
) -> None:
    files.put(BIG, "big")
    fails = [False, True, False, True, False, False, False]

    def stale(what: str) -> None:
        if what == "read" and fails.pop(0):
            raise error("STALE")

    store.on = stale
    files.get("big", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == BIG and len(store.downloads) == 3
    fails[:] = [True, True, True]
    with pytest.raises(FileDamaged) as caught:
        files.get("big")
    assert caught.value.name == "STALE" and not fails
    fails[:] = [False, True]
    with pytest.raises(FileDamaged):  # what was written to a stream cannot be taken back
        files.get("big", io.BytesIO())


# ---- many ----


def test_many(files: Files) -> None:
    assert files.put_many((f"n{i}", bytearray(b"%d" % i)) for i in range(100)) == 100
    assert files.put_many({"x": b"ex", "n1": memoryview(b"one")}) == 2
    assert dict(files.get_many(["n1", "x", "n99"])) == {"n1": b"one", "x": b"ex", "n99": b"99"}
    found = files.get_many(["n2", "none", "n3"])
    assert next(found) == ("n2", b"2")
    with pytest.raises(FileMissing):
        next(found)
    with pytest.raises(CallerError):
        list(files.get_many(["n2", ""]))
    with pytest.raises(CallerError):
        files.put_many([("", b"")])


# ---- names ----


@pytest.mark.parametrize(
    "name", ["a", "a/b//c/", "/", "näme\n\0\u202e", "x" * 4096, "€" * 1365, " "]
)
def test_names(files: Files, name: str) -> None:
    files.put(b"x", name)
    assert files.get(name) == b"x" and files.exists(name)
    assert [info.name for info in files.ls(name[:3])] == [name]
    files.rm(name)
    assert not files.exists(name) and list(files.ls()) == []


@pytest.mark.parametrize("name", ["", "x" * 4097, "€" * 1366, "\ud800"])
def test_no_names(files: Files, name: str) -> None:
    calls: list[Any] = [files.get, files.stat, files.rm, files.open, files.exists]
    calls += [lambda n: files.put(b"", n), lambda n: files.readinto(n, bytearray(1))]
    calls += [lambda n: files.open(n, "wb"), lambda n: n and files.ls(n) or files.get(n)]
    for call in calls:
        with pytest.raises(CallerError) as caught:
            call(name)
        assert caught.value.name == "NAME" and exit_status(caught.value) == 2


def test_missing_files(files: Files) -> None:
    for call in (files.get, files.stat, files.rm, files.open):
        with pytest.raises(FileNotFoundError) as caught:
            call("none")
        assert isinstance(caught.value, FileMissing) and "no file 'none'" in str(caught.value)
        assert exit_status(caught.value) == 2


def test_listing_and_stat(files: Files, store: FakeStore) -> None:
    for name in ("b/2", "b/1", "a", "z"):
        files.put(name.encode(), name)
    assert [info.name for info in files.ls()] == ["a", "b/1", "b/2", "z"]
    rows = list(files.ls("b/"))
    assert [(info.name, info.size, info.care) for info in rows] == [
        ("b/1", 3, "whole"),
        ("b/2", 3, "whole"),
    ]
    assert rows[0].hash is None and rows[0].copies is None
    info = files.stat("b/1", check=True)
    assert store.checked == ["b/1"] and info.modified == 1_790_000_000.0 and info.copies == 2
    assert info.as_dict()["version"] == info.version > files.stat("b/2").version
    assert files.df().files == 4


# ---- file objects ----


def test_reading(files: Files) -> None:
    files.put(BIG, "big", chunk_bytes=CHUNK)
    with files.open("big") as file:
        assert (file.name, file.size, file.mode, file.info.chunk_bytes) == (
            "big",
            len(BIG),
            "rb",
            CHUNK,
        )
        assert file.readable() and file.seekable() and not file.writable()
        assert file.read(5) == BIG[:5] and file.tell() == 5
        assert file.seek(-3, os.SEEK_END) == len(BIG) - 3 and file.read() == BIG[-3:]
        assert file.read() == b"" and file.read(1) == b""
        assert file.seek(7) == 7 and file.seek(3, os.SEEK_CUR) == 10
        buffer = bytearray(3 << 20)
        assert file.readinto(buffer) == len(buffer) and buffer == BIG[10 : 10 + len(buffer)]
        assert file.seek(len(BIG) + 5) and file.read(2) == b""
        with pytest.raises(ValueError):
            file.seek(-1)
        file.seek(0)
        assert file.read() == BIG
    with pytest.raises(ValueError):
        file.read(1)
    with pytest.raises(io.UnsupportedOperation):
        files.open("big").write(b"")


@given(st.data())
def test_reading_anywhere_is_as_of_bytes(data: st.DataObject) -> None:
    files, _ = fake_files()
    content = BIG[: data.draw(st.sampled_from([0, 1, 5000, 200_000]))]
    files.put(content, "f", chunk_bytes=data.draw(st.sampled_from([100, 1000, 70_000])))
    plain = io.BytesIO(content)
    with files.open("f") as file:
        for _ in range(data.draw(st.integers(1, 8))):
            place = data.draw(st.integers(0, len(content) + 2))
            count = data.draw(st.sampled_from([0, 1, 300, 66_000, 150_000, -1]))
            assert file.seek(place) == plain.seek(place)
            assert file.read(count) == plain.read(count)
            assert file.readline() == plain.readline() and file.tell() == plain.tell()


def test_reading_on_fetches_ahead_and_jumping_does_not(files: Files, store: FakeStore) -> None:
    files.put(BIG, "big")
    mib = 1 << 20
    with files.open("big") as file:
        file.read(10)
        file.seek(5 * mib + 100)
        file.read(10)
        file.seek(6 * mib)
        file.read(10)
    assert store.downloads[-1].asked == [
        (0, mib, 8 * mib),
        (5 * mib + 100, mib - 100, 0),
        (6 * mib, mib, 3 * mib),
    ]
    assert store.downloads[-1].closed


def test_text_and_lines(files: Files) -> None:
    with io.TextIOWrapper(files.open("t", "wb"), encoding="utf-8") as text:
        text.write("eins\nzwei ä\n")
    with io.TextIOWrapper(files.open("t"), encoding="utf-8") as text:
        assert text.readlines() == ["eins\n", "zwei ä\n"]


def test_writing(files: Files, store: FakeStore) -> None:
    with files.open("big", "wb", chunk_bytes=CHUNK) as file:
        assert file.writable() and not file.readable() and not file.seekable()
        assert file.write(BIG[:7]) == 7 and file.tell() == 7
        assert file.write(memoryview(BIG)[7:]) == len(BIG) - 7 and file.tell() == len(BIG)
        assert not files.exists("big")
        with pytest.raises(io.UnsupportedOperation):
            file.read()
    assert file.closed and file.info is not None and file.info.size == len(BIG)
    assert files.get("big") == BIG
    file.close()
    with pytest.raises(ValueError):
        file.write(b"more")
    with files.open("empty", "wb"):
        pass
    assert files.get("empty") == b"" and len(store.uploads) == 2


def test_a_with_block_that_raises_leaves_nothing(files: Files, store: FakeStore) -> None:
    files.put(b"before", "f")
    with pytest.raises(KeyboardInterrupt), files.open("f", "wb") as file:
        file.write(BIG)
        raise KeyboardInterrupt
    assert file.closed and file.info is None
    assert store.uploads[-1].state == "aborted" and files.get("f") == b"before"


def test_a_writer_dropped_unclosed_leaves_nothing(files: Files, store: FakeStore) -> None:
    files.open("f", "wb").write(BIG)
    gc.collect()
    assert store.uploads[-1].state == "aborted" and not store.files


@pytest.mark.parametrize("why", [KeyboardInterrupt(), error("STORE_FULL")])
def test_a_write_that_failed_is_not_forgotten(
    files: Files, store: FakeStore, why: BaseException
) -> None:
    def broken(_: str) -> None:
        raise why

    store.on = broken
    file = files.open("f", "wb")
    with pytest.raises(type(why)):
        file.write(BIG)
    assert store.uploads[-1].state == "aborted"
    with pytest.raises(VelumError) as caught:
        file.write(BIG)
    assert caught.value.name in ("STORE_FULL", "CANCELLED")
    with pytest.raises(VelumError):
        file.close()
    assert file.closed and not store.files


def test_exclusive(files: Files, store: FakeStore) -> None:
    with files.open("f", "xb") as file:
        file.write(b"first")
    with pytest.raises(FileExistsError) as caught:
        files.open("f", "xb")
    assert caught.value.filename == "f" and len(store.uploads) == 1
    for mode in ("r", "w", "ab", "r+b", ""):
        with pytest.raises(VelumError, match="mode"):
            files.open("f", mode)  # type: ignore[call-overload]


def test_a_reader_keeps_its_version(files: Files) -> None:
    files.put(b"one", "f")
    with files.open("f") as file:
        files.put(b"two", "f")
        assert file.read() == b"one"
    assert files.get("f") == b"two"


def test_damage(files: Files, store: FakeStore) -> None:
    files.put(BIG, "f")
    store.lost.add("f")
    with pytest.raises(OSError, match="chunk 0 is on no node"), files.open("f") as file:
        file.read()
    assert files.stat("f").care == "damaged" and files.df().damaged == 1


# ---- pieces ----


@given(st.lists(st.binary(max_size=20)), st.integers(1, 9))
def test_pieces_are_the_same_bytes_in_whole_pieces(blocks: list[bytes], piece_bytes: int) -> None:
    pieces = [bytes(piece) for piece in gathered(blocks, piece_bytes)]
    assert b"".join(pieces) == b"".join(blocks)
    assert all(len(piece) == piece_bytes for piece in pieces[:-1])
    assert all(0 < len(piece) <= piece_bytes for piece in pieces[-1:])
    whole = memoryview(b"".join(blocks))
    assert [bytes(piece) for piece in cut(whole, piece_bytes)] == pieces
    assert [bytes(piece) for piece in filled(io.BytesIO(whole), piece_bytes)] == pieces


def test_an_array_that_is_handed_out_again_and_again() -> None:
    array = bytearray(5)

    def blocks() -> Iterator[bytearray]:
        for number in range(9):
            array[:] = bytes([number]) * 5
            yield array

    pieces = list(gathered(blocks(), 4))  # all of them are still in use
    assert b"".join(pieces) == b"".join(bytes([number]) * 5 for number in range(9))


def test_bytes_are_not_copied() -> None:
    block = bytes(10)
    pieces = list(gathered([block], 4))
    assert [piece.obj is block for piece in pieces] == [True, True, False]


def test_memory_of_pieces_is_apart_from_each_other() -> None:
    blocks = [memoryview(_core.Block(1 << 20)) for _ in range(9)]
    for number, block in enumerate(blocks):
        block[:] = bytes([number]) * len(block)
    del blocks[::2]  # half of them are used again
    blocks += [memoryview(_core.Block(1 << 20)) for _ in range(9)]
    for number, block in enumerate(blocks):
        block[:] = bytes([number]) * len(block)
    assert all(bytes(b) == bytes([number]) * len(b) for number, b in enumerate(blocks))
    with pytest.raises(MemoryError):
        _core.Block(1 << 60)


@pytest.mark.parametrize("chunk_bytes", [1, 3, 1 << 20, 3 << 20, 5 << 20, 8 << 20])
def test_a_piece_is_whole_chunks(chunk_bytes: int) -> None:
    size = piece_size(chunk_bytes)
    assert size % chunk_bytes == 0 and size >= chunk_bytes and size <= 8 << 20


def test_a_path_is_read_no_faster_than_asked(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"0123456789")
    with pieces_of(path, 4) as (pieces, size):
        assert size == 10 and bytes(next(pieces)) == b"0123"
        with path.open("ab") as more:
            more.write(b"ab")
        assert [bytes(piece) for piece in pieces] == [b"4567", b"89ab"]


# ---- shapes ----


def test_hashes_tell_contents_apart() -> None:
    keys = tuple(bytes([i]) * 32 for i in range(6))
    whole = Manifest(9000, 3000, Coding(2, 0), keys[:3])
    coded = Manifest(9000, 3000, Coding(2, 1), (keys[0], keys[1], keys[4], keys[2], b"", keys[5]))
    assert content_hash(whole) == content_hash(whole._replace(coding=Coding(3, 0)))
    assert content_hash(coded) == content_hash(coded._replace(keys=(*keys[:2], b"", keys[2], b"")))
    assert content_hash(coded) != content_hash(whole._replace(keys=keys[:2]))
    assert content_hash(Manifest(1, data=b"x")) != content_hash(Manifest(1, data=b"y"))
    info = info_of("f", Version(5 << 16, 9), coded, 2, 3)
    assert (info.modified, info.version) == (0.005, "0000000000050000-00000009")
    assert (info.care, info.missing, info.ec, info.chunks) == ("at risk", 3, (2, 1), 6)


def test_space() -> None:
    space = Space((NodeSpace(1, 100, 30), NodeSpace(2, 50, 60)), 7, 1, 0, 1000, 500.0)
    assert (space.budget, space.used, space.free, space.repair_eta_s) == (150, 90, 70, 2.0)
    assert Space((), 0, 0, 0, 5, 0.0).repair_eta_s is None
    assert Space((), 0, 0, 0, 0, 0.0).repair_eta_s == 0
    plain = space.as_dict()
    assert plain["nodes"][1] == {"node": 2, "budget": 50, "used": 60, "free": 0}
    assert plain["free"] == 70 and plain["repair_eta_s"] == 2.0


def test_classes_of_errors() -> None:
    kinds = {
        "STORE_FULL": ClusterFull,
        "NAMES_FULL": ClusterFull,
        "CHUNKS_LOST": FileDamaged,
        "UNCERTAIN": PeerLost,
        "NAME": CallerError,
    }
    assert {name: type(error(name)) for name in kinds} == kinds
    assert exit_status(error("STORE_FULL")) == exit_status(error("UNCERTAIN")) == 1
