"""``velum://``: files in the RAM of the mesh as a filesystem of fsspec, for pandas, pyarrow, dask.

Owns: what a path and a directory are. Refuses to know anything but `velum.files`.

    pandas.read_csv("velum://tables/data.csv")
    pandas.read_csv("velum://10.0.0.1:8001/tables/data.csv")        through that node
    fsspec.filesystem("velum", address="10.0.0.1:8001", ec=(4, 2))

A mesh knows names, not directories: a path is a name without slashes at its ends, and a directory
is there as long as a name goes on behind it. One that has to be there while it is empty is an empty
file whose name ends in a slash; so `mkdir` makes one, and nothing else does. A move is a copy and a
deletion. Nothing is cached: other programs put and delete at any time. What is opened here and
closed is visible; so it is, as of any filesystem of fsspec, when a with-block over `fsspec.open` or
over a text file raises, since those close it all the same.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timezone
from errno import EEXIST, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY
from itertools import islice
from typing import Any, Final

from fsspec import AbstractFileSystem
from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.compression import compr
from fsspec.core import get_compression
from fsspec.utils import isfilelike, stringify_path

from velum.errors import CallerError, FileMissing
from velum.filebackend import FileInfo
from velum.fileobjects import FileReader, FileWriter
from velum.files import Files
from velum.pieces import READ_BYTES
from velum.policy.filetypes import CHUNK_BYTES

PROTOCOL: Final = "velum"
_ADDRESS = re.compile(r"[^/:]+:\d+(?=/|$)")  # of a node, where a URL has its host

_attached: dict[tuple[int, str], Files] = {}
_attaching = threading.Lock()


class VelumFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """The files of one mesh, as fsspec wants them."""

    protocol = PROTOCOL
    root_marker = ""

    def __init__(
        self,
        address: str | None = None,
        *,
        copies: int | None = None,
        ec: tuple[int, int] | None = None,
        chunk_bytes: int = CHUNK_BYTES,
        files: Files | None = None,
        **options: Any,
    ) -> None:
        """`address` of a node; else this program's own node, else the first found on this machine.
        `copies`, `ec` and `chunk_bytes` are for what is put. `files` is there already."""
        super().__init__(**options)
        self._address = address
        self._coding: dict[str, Any] = {"copies": copies, "ec": None if ec is None else tuple(ec)}
        self._chunk_bytes = chunk_bytes
        self._given = files

    @property
    def files(self) -> Files:
        """The files that this filesystem shows; attaches to the mesh when it is first used."""
        return self._given or files_of(self._address)

    # ---- paths ----

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        path = stringify_path(path)
        url = path.startswith(f"{PROTOCOL}://")
        path = path.removeprefix(f"{PROTOCOL}://").removeprefix(f"{PROTOCOL}::")
        return (_ADDRESS.sub("", path, count=1) if url and _ADDRESS.match(path) else path).strip(
            "/"
        )

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        found = _ADDRESS.match(path.removeprefix(f"{PROTOCOL}://"))
        return {"address": found[0]} if found and path.startswith(f"{PROTOCOL}://") else {}

    def unstrip_protocol(self, name: str) -> str:
        """The URL of a path, with the node's address if one was given."""
        host = f"{self._address}/" if self._address else ""
        return f"{PROTOCOL}://{host}{self._strip_protocol(name)}"

    # ---- looking ----

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """A file's or directory's facts; a file comes before a directory of the same name."""
        path = self._strip_protocol(path)
        if path:
            try:
                return _file(self.files.stat(path))
            except FileMissing:
                if not self._has_below(path):
                    raise
        return _directory(path)

    def exists(self, path: str, **_: Any) -> bool:
        """Whether there is one; a mesh that does not answer is an error."""
        return self._type(path) is not None

    def isfile(self, path: str) -> bool:
        """Whether it is a file."""
        return self._type(path) == "file"

    def isdir(self, path: str) -> bool:
        """Whether it is a directory."""
        return self._type(path) == "directory"

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """What is in a directory; of a file itself."""
        path = self._strip_protocol(path)
        found, there = [], not path
        for entry in self._below(path, maxdepth=1):
            there = True
            if entry["name"] != path:
                found.append(entry)
        if not there:
            found.append(_file(self.files.stat(path)))
        found.sort(key=lambda entry: str(entry["name"]))
        return found if detail else [entry["name"] for entry in found]

    def find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        **_: Any,
    ) -> Any:
        """All files below a path, with one listing."""
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        path = self._strip_protocol(path)
        found = {
            entry["name"]: entry
            for entry in self._below(path, maxdepth)
            if entry["type"] == "file" or (withdirs and entry["name"])
        }
        if not found and path:
            with suppress(FileMissing):
                found[path] = _file(self.files.stat(path))
        names = sorted(found)
        return {name: found[name] for name in names} if detail else names

    def created(self, path: str) -> datetime:
        """When this version was put: files are never changed."""
        return self.modified(path)

    def modified(self, path: str) -> datetime:
        """When it was put."""
        known = self.files.stat(self._strip_protocol(path))
        return datetime.fromtimestamp(known.modified, tz=timezone.utc)

    def ukey(self, path: str) -> str:
        """The version: it differs between any two puts."""
        return str(self.info(path).get("version", ""))

    def checksum(self, path: str) -> int:
        """The version as a number."""
        return int(self.ukey(path).replace("-", "") or "0", 16)

    def _type(self, path: str) -> str | None:
        try:
            return str(self.info(path)["type"])
        except (FileMissing, CallerError):  # a name that cannot be is nobody's
            return None

    def _has_below(self, path: str) -> bool:
        return any(True for _ in islice(self.files.ls(f"{path}/"), 1))

    def _below(self, path: str, maxdepth: int | None) -> Iterator[dict[str, Any]]:
        """Files and directories below a path, and itself if it is a directory, each once."""
        prefix = f"{path}/" if path else ""
        seen: set[str] = set()
        for known in self.files.ls(prefix):
            if not seen:
                seen.add(path)
                yield _directory(path)
            parts = known.name[len(prefix) :].split("/")
            if "" in parts[:-1]:
                continue  # two slashes in a row: no path leads there
            for depth in range(1, len(parts)):
                name = prefix + "/".join(parts[:depth])
                if name not in seen and (maxdepth is None or depth <= maxdepth):
                    seen.add(name)
                    yield _directory(name)
            if parts[-1] and (maxdepth is None or len(parts) <= maxdepth):
                yield _file(known)

    # ---- directories ----

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        """Makes an empty directory."""
        path = self._strip_protocol(path)
        parent = self._parent(path)
        if self.exists(path):
            raise FileExistsError(EEXIST, os.strerror(EEXIST), path)
        if parent and self.isfile(parent):
            raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR), parent)
        if parent and not create_parents and not self.isdir(parent):
            raise FileNotFoundError(ENOENT, os.strerror(ENOENT), parent)
        self.files.put(b"", f"{path}/")

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """The same; one that is there already may be right."""
        if not (exist_ok and self.isdir(path)):
            self.mkdir(path)

    def rmdir(self, path: str) -> None:
        """Deletes an empty directory."""
        path = self._strip_protocol(path)
        names = [known.name for known in islice(self.files.ls(f"{path}/"), 2)]
        if names == [f"{path}/"]:
            self.files.rm(names[0])
        elif names:
            raise OSError(ENOTEMPTY, os.strerror(ENOTEMPTY), path)
        else:
            missing = ENOTDIR if self.isfile(path) else ENOENT
            raise OSError(missing, os.strerror(missing), path)

    # ---- deleting and copying ----

    def rm_file(self, path: str) -> None:
        """Deletes a file."""
        self.files.rm(self._strip_protocol(path))

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Deletes files and empty directories; with `recursive` all that is below."""
        for each in reversed(self.expand_path(path, maxdepth=maxdepth)):
            if recursive:
                self._rm_tree(each, maxdepth)
            elif self.isdir(each):
                self.rmdir(each)
            else:
                self.rm_file(each)

    def _rm_tree(self, path: str, maxdepth: int | None) -> None:
        below = [known.name for known in self.files.ls(f"{path}/" if path else "")]
        if maxdepth is not None:
            depth = path.count("/") + maxdepth
            below = [name for name in below if name.rstrip("/").count("/") <= depth]
        for name in below:
            with suppress(FileMissing):  # another program may delete too
                self.files.rm(name)
        if path:
            with suppress(*([FileMissing] if below else [])):
                self.files.rm(path)

    def cp_file(self, path1: str, path2: str, **options: Any) -> None:
        """Copies a file, or makes a directory like another."""
        path1, path2 = self._strip_protocol(path1), self._strip_protocol(path2)
        try:
            source = self.files.open(path1)
        except FileMissing:
            if not self.isdir(path1):
                raise
            self.makedirs(path2, exist_ok=True)
            return
        with source:
            if self._intrans:
                with self.open(path2, "wb", **options) as target:
                    shutil.copyfileobj(source, target, READ_BYTES)
            else:
                self.files.put(source, path2, **self._put_options(options))

    # ---- reading and writing ----

    def open(
        self, path: str, mode: str = "rb", compression: str | None = None, **options: Any
    ) -> Any:
        """As fsspec has it; and closing a compressed file closes the file itself, or it would never
        become visible."""
        codec = get_compression(path, compression)
        if codec is None or "b" not in mode or "r" in mode:
            return super().open(path, mode, compression=compression, **options)
        inner = super().open(path, mode, **options)
        return CompressedWriter(compr[codec](inner, mode=mode[0]), inner)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: Any = None,
        **options: Any,
    ) -> FileReader | FileWriter:
        path = self._strip_protocol(path)
        if not path:
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR), path)
        if mode == "rb":
            return self.files.open(path)
        if mode not in ("wb", "xb"):
            raise ValueError(f"mode {mode!r}: a file in the mesh is read, or written as a whole")
        writer = self.files.open(path, "wb" if mode == "wb" else "xb", **self._put_options(options))
        writer.held_back = not autocommit
        return writer

    def _put_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """What is said at a call, before what was said of the filesystem."""
        wanted: dict[str, Any] = {
            name: options[name] for name in ("copies", "ec") if name in options
        }
        chunk = options.get("chunk_bytes", self._chunk_bytes)
        return {**(wanted or self._coding), "chunk_bytes": chunk}

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        """A file's bytes, or a slice of them."""
        path = self._strip_protocol(path)
        if (start or 0) < 0 or (end or 0) < 0:
            start, end, _step = slice(start, end).indices(self.files.stat(path).size)
        first = start or 0
        return self.files.get(path, offset=first, size=None if end is None else max(0, end - first))

    def pipe_file(self, path: str, value: Any, mode: str = "overwrite", **options: Any) -> None:
        """Stores bytes as a file."""
        if self._intrans:
            super().pipe_file(path, value, mode=mode, **options)
            return
        path = self._strip_protocol(path)
        self._refuse_taken(path, mode)
        self.files.put(value, path, **self._put_options(options))

    def put_file(
        self,
        lpath: Any,
        rpath: str,
        callback: Any = DEFAULT_CALLBACK,
        mode: str = "overwrite",
        **options: Any,
    ) -> None:
        """Stores a local file."""
        if self._intrans:
            super().put_file(lpath, rpath, callback=callback, mode=mode, **options)
            return
        rpath = self._strip_protocol(rpath)
        self._refuse_taken(rpath, mode)
        if os.path.isdir(lpath):
            self.makedirs(rpath, exist_ok=True)
            return
        callback.set_size(os.path.getsize(lpath))
        self.files.put(
            os.fspath(lpath),
            rpath,
            progress=lambda done, _: callback.absolute_update(done),
            **self._put_options(options),
        )

    def get_file(
        self,
        rpath: str,
        lpath: Any,
        callback: Any = DEFAULT_CALLBACK,
        outfile: Any = None,
        **_: Any,
    ) -> None:
        """Fetches a file to a path, which holds all of it or what it held, or to a file object."""
        rpath = self._strip_protocol(rpath)
        if outfile is None and isfilelike(lpath):
            outfile = lpath
        elif outfile is None and not self.files.exists(rpath) and self.isdir(rpath):
            os.makedirs(lpath, exist_ok=True)
            return
        if outfile is None:
            os.makedirs(os.path.dirname(os.path.abspath(lpath)), exist_ok=True)

        def progress(done: int, total: int | None) -> None:
            callback.set_size(total)
            callback.absolute_update(done)

        self.files.get(rpath, lpath if outfile is None else outfile, progress=progress)

    def _refuse_taken(self, path: str, mode: str) -> None:
        if mode == "create" and self.exists(path):
            raise FileExistsError(EEXIST, os.strerror(EEXIST), path)


class CompressedWriter(io.BufferedIOBase):
    """A compressing file object and the file that it writes to, as one."""

    def __init__(self, outer: Any, inner: FileWriter) -> None:
        self._outer = outer
        self._inner = inner

    def writable(self) -> bool:
        return not self.closed

    def write(self, data: Any) -> int:
        return int(self._outer.write(data))

    def close(self) -> None:
        """Makes the file visible."""
        if not self.closed:
            try:
                self._outer.close()
                self._inner.close()
            finally:
                super().close()

    def __exit__(self, kind: Any, *error: Any) -> None:
        if kind is not None:
            self._inner.discard()
            super().close()
        else:
            self.close()

    def __del__(self) -> None:
        """One that was dropped leaves nothing, as any that is written."""
        if hasattr(self, "_inner"):
            self._inner.discard()


def files_of(address: str | None) -> Files:
    """The files seen through a node; all filesystems of a process share a link to it."""
    import velum

    if address is None:
        return velum.default_mesh().files
    key = (os.getpid(), address)
    with _attaching:
        if key not in _attached:
            import atexit

            from velum.client import connect

            client = connect(address)
            atexit.register(client.close)
            _attached[key] = client.files
        return _attached[key]


def _file(known: FileInfo) -> dict[str, Any]:
    facts = {"mtime": known.modified, "version": known.version}
    return {"name": known.name, "size": known.size, "type": "file", **facts}


def _directory(path: str) -> dict[str, Any]:
    return {"name": path, "size": 0, "type": "directory"}
