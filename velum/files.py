"""Files in the RAM of the mesh, as a program uses them: `node.files`, `client.files`.

Owns: what a caller may give and gets, and that nothing stays half, here or in the mesh. Refuses to
know chunks' whereabouts and how the mesh is spoken to: that is the `Backend`. Sources are cut in
`velum.pieces`; file objects are in `velum.fileobjects`.

A put hands whole chunks to the backend, from where they lie if it can, and whatever interrupts it
gives it up. A get fills a buffer and says how much more it will want; a local file is written
beside its target and renamed.
"""

from __future__ import annotations

import io
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from errno import EEXIST
from typing import Any, BinaryIO, Final, Literal, overload

from velum.errors import FileMissing, VelumError, code_of, error_from
from velum.filebackend import Backend, Download, FileInfo, Space
from velum.fileobjects import AHEAD_BYTES, FileReader, FileWriter
from velum.pieces import READ_BYTES, Buffer, PathLike, Source, flat, piece_size, pieces_of
from velum.policy.filetypes import (
    CHUNK_BYTES,
    CHUNK_BYTES_MAX,
    COPIES,
    COPIES_MAX,
    INLINE_BYTES_MAX,
    NAME_BYTES_MAX,
    SHARDS_MAX,
    Coding,
)

Progress = Callable[[int, int | None], object]
"""Is told bytes done, and of how many if that is known."""

STALE_TRIES: Final = 3  # times that a get begins anew because the file was replaced meanwhile


class Files:
    """The files of one mesh. Any thread; every call blocks until the mesh has answered.

    A name is 1 to 4096 bytes of UTF-8; slashes are allowed and mean nothing. Of two puts of a name
    the later wins, whole. Errors are VelumErrors: FileMissing, FileDamaged, ClusterFull (nothing
    that is stored is dropped to make room), CallerError.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    # ---- put ----

    def put(
        self,
        source: Source,
        name: str,
        *,
        copies: int | None = None,
        ec: tuple[int, int] | None = None,
        chunk_bytes: int = CHUNK_BYTES,
        progress: Progress | None = None,
    ) -> FileInfo:
        """Stores `source` (a path, bytes, a binary file, or an iterable of bytes) as `name`.

        It becomes visible in one step when all of it has its copies; an error, Ctrl-C too, leaves
        what was there before. `copies` (2 unless told otherwise) of each chunk lie on different
        nodes; or `ec` = (k, m): stripes of k chunks and m parity chunks, any k of which do.
        """
        check_name(name)
        coding = coding_of(copies, ec)
        if isinstance(source, bytes) and len(source) <= INLINE_BYTES_MAX and progress is None:
            check_chunk(chunk_bytes)
            return self._backend.put_small(name, source, coding)
        with pieces_of(source, piece_size(check_chunk(chunk_bytes))) as (pieces, size):
            upload = self._backend.begin_put(name, size, coding, chunk_bytes)
            try:
                done = 0
                for piece in pieces:
                    upload.write(piece)
                    done += len(piece)
                    if progress is not None:
                        progress(done, size)
                return upload.finish()
            except BaseException:
                upload.abort()
                raise

    def put_many(
        self,
        items: Mapping[str, Buffer] | Iterable[tuple[str, Buffer]],
        *,
        copies: int | None = None,
        ec: tuple[int, int] | None = None,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> int:
        """Stores many small files, many under way at once; how many. The first error is raised, and
        then each of the others is there or not."""
        coding = coding_of(copies, ec)
        pairs = items.items() if isinstance(items, Mapping) else items
        checked = (
            (check_name(name), data if isinstance(data, bytes) else bytes(flat(data)))
            for name, data in pairs
        )
        return self._backend.put_many(checked, coding, check_chunk(chunk_bytes))

    # ---- get ----

    @overload
    def get(
        self,
        name: str,
        target: None = None,
        *,
        offset: int = 0,
        size: int | None = None,
        progress: Progress | None = None,
    ) -> bytes: ...
    @overload
    def get(
        self,
        name: str,
        target: PathLike | BinaryIO,
        *,
        offset: int = 0,
        size: int | None = None,
        progress: Progress | None = None,
    ) -> FileInfo: ...
    def get(
        self,
        name: str,
        target: PathLike | BinaryIO | None = None,
        *,
        offset: int = 0,
        size: int | None = None,
        progress: Progress | None = None,
    ) -> bytes | FileInfo:
        """Fetches a file, or `size` bytes of it from `offset` on (fewer at its end).

        Without a target its bytes are returned; else they are written to a path or a binary file,
        and what they are is returned. A path holds all or what it held before.
        """
        check_name(name)
        if offset < 0 or (size is not None and size < 0):
            raise error_from(code_of("ARGUMENT"), "offset and size of a get are not negative")
        if target is not None and hasattr(target, "write"):
            with closing(self._backend.lookup(name)) as download:
                _copy(download, target, *_span(download, offset, size), progress)
                return download.info
        for tries_left in reversed(range(STALE_TRIES)):
            try:
                with closing(self._backend.lookup(name)) as download:
                    span = _span(download, offset, size)
                    if target is None:
                        return _bytes(download, *span, progress)
                    with _replacing(target) as file:
                        _copy(download, file, *span, progress)
                    return download.info
            except VelumError as error:
                if error.name != "STALE" or not tries_left:
                    raise
        raise AssertionError("the last try returns or raises")

    def get_many(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """(name, bytes) of many small files, in order, many under way at once. The first error,
        FileMissing too, is raised where its file would stand."""
        for name, data in self._backend.get_many(check_name(name) for name in names):
            if not isinstance(data, bytes):
                raise data
            yield name, data

    def readinto(self, name: str, buffer: Any, offset: int = 0) -> int:
        """Fills a writable buffer with a file's bytes from `offset` on, straight from the mesh; how
        many: fewer than it holds only at the file's end."""
        if offset < 0:
            raise error_from(code_of("ARGUMENT"), "the offset of a read is not negative")
        with closing(self._backend.lookup(check_name(name))) as download:
            return download.read_into(offset, flat(buffer), 0)

    # ---- file objects ----

    @overload
    def open(self, name: str, mode: Literal["rb"] = "rb") -> FileReader: ...
    @overload
    def open(
        self,
        name: str,
        mode: Literal["wb", "xb"],
        *,
        copies: int | None = None,
        ec: tuple[int, int] | None = None,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> FileWriter: ...
    def open(
        self,
        name: str,
        mode: str = "rb",
        *,
        copies: int | None = None,
        ec: tuple[int, int] | None = None,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> FileReader | FileWriter:
        """A buffered binary file object. What is written becomes visible at `close`, and never if
        the with-block raises or the object is dropped unclosed. "xb" raises FileExistsError for a
        name that is taken now; another put may still come before this one ends, and then the later
        wins."""
        check_name(name)
        if mode == "rb":
            return FileReader(self._backend.lookup(name))
        if mode not in ("wb", "xb"):
            raise error_from(code_of("ARGUMENT"), f"mode {mode!r}: there are 'rb', 'wb' and 'xb'")
        coding = coding_of(copies, ec)
        piece_bytes = piece_size(check_chunk(chunk_bytes))
        if mode == "xb" and self.exists(name):
            raise FileExistsError(EEXIST, os.strerror(EEXIST), name)
        upload = self._backend.begin_put(name, None, coding, chunk_bytes)
        return FileWriter(name, upload, piece_bytes)

    # ---- names ----

    def ls(self, prefix: str = "") -> Iterator[FileInfo]:
        """The files whose names start with `prefix`, ascending by their UTF-8 bytes."""
        if prefix:
            check_name(prefix)
        return self._backend.names(prefix, "")

    def stat(self, name: str, *, check: bool = False) -> FileInfo:
        """What is known of a file; `check` asks the nodes whether each chunk has its copies."""
        return self._backend.stat(check_name(name), check)

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        try:
            self.stat(name)
        except FileMissing:
            return False
        return True

    def rm(self, name: str) -> None:
        """Deletes a file."""
        self._backend.remove(check_name(name))

    def df(self) -> Space:
        """Room by node, and how whole the files are."""
        return self._backend.df()


def check_name(name: str) -> str:
    """The name, if it can be one. Raises CallerError NAME."""
    try:
        count = len(name.encode())
    except UnicodeEncodeError as error:
        raise error_from(code_of("NAME"), f"file name {name!r} is no UTF-8: {error}") from None
    if not count:
        raise error_from(code_of("NAME"), "a file's name is empty")
    if count > NAME_BYTES_MAX:
        text = f"a file's name of {count} bytes, {name[:20]!r}...: at most {NAME_BYTES_MAX}"
        raise error_from(code_of("NAME"), text)
    return name


def check_chunk(chunk_bytes: int) -> int:
    """The size, if chunks can have it. Raises VelumError ARGUMENT."""
    if not 1 <= chunk_bytes <= CHUNK_BYTES_MAX:
        text = f"chunks of {chunk_bytes} bytes: a chunk has 1 to {CHUNK_BYTES_MAX}"
        raise error_from(code_of("ARGUMENT"), text)
    return chunk_bytes


def coding_of(copies: int | None, ec: tuple[int, int] | None) -> Coding:
    """How a file is to be kept. Raises VelumError ARGUMENT."""
    if ec is not None:
        k, m = ec
        if copies is not None:
            raise error_from(code_of("ARGUMENT"), "a file has copies or is in stripes, not both")
        if k < 1 or m < 1 or k + m > SHARDS_MAX:
            text = f"stripes of {k}+{m}: at least 1+1, at most {SHARDS_MAX} together"
            raise error_from(code_of("ARGUMENT"), text)
        return Coding(k, m)
    count = COPIES if copies is None else copies
    if not 1 <= count <= COPIES_MAX:
        raise error_from(code_of("ARGUMENT"), f"{count} copies: 1 to {COPIES_MAX} are possible")
    return Coding(count, 0)


def _span(download: Download, offset: int, size: int | None) -> tuple[int, int]:
    """(first byte, the one behind the last) of a range of a file."""
    end = download.size if size is None else min(offset + size, download.size)
    return offset, max(offset, end)


def _bytes(download: Download, begin: int, end: int, progress: Progress | None) -> bytes:
    """A span as bytes; piece by piece only when somebody wants to see it grow."""
    if progress is None:
        return download.read(begin, end - begin)
    target = io.BytesIO()
    _copy(download, target, begin, end, progress)
    return target.getvalue()


def _copy(download: Download, target: Any, begin: int, end: int, progress: Progress | None) -> None:
    """Writes a span to a binary file, with one buffer."""
    buffer = memoryview(bytearray(min(READ_BYTES, end - begin)))
    for at in range(begin, end, READ_BYTES):
        piece = buffer[: end - at]
        left = end - at - len(piece)
        count = download.read_into(at, piece, min(AHEAD_BYTES, left))
        _write(target, piece[:count])
        if progress is not None:
            progress(at + count - begin, end - begin)


def _write(target: Any, view: memoryview) -> None:
    """All of it, to a file that may take less at once; one that does not block cannot be used."""
    while len(view):
        taken = target.write(view)
        if taken is None:  # as of some that take everything
            return
        view = view[taken:]


@contextmanager
def _replacing(path: PathLike) -> Iterator[BinaryIO]:
    """A file for writing that takes the path's place when all is written; an error leaves what was
    there. What is no regular file, as a pipe, is written to as it is."""
    target = os.path.realpath(path)
    mode = _mode_of(target)
    if mode is not None and not stat.S_ISREG(mode):
        with open(target, "wb", buffering=0) as file:
            yield file
        return
    beside = os.path.join(os.path.dirname(target), f".velum-{secrets.token_hex(6)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(beside, flags, 0o666)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, os.fspath(path)) from None
    try:
        with open(descriptor, "wb", buffering=0) as file:
            yield file
        if mode is not None:
            os.chmod(beside, stat.S_IMODE(mode))
        os.replace(beside, target)
    except BaseException:
        os.unlink(beside)
        raise


def _mode_of(path: str) -> int | None:
    """What stat says of a path; None when there is nothing yet."""
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return None
