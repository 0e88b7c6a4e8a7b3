"""Files in RAM as binary file objects: what `Files.open` returns.

Owns: position, buffering, and when what was written becomes visible. Refuses to know names, codings
and the mesh: an `Upload` or a `Download` does the rest.

A reader keeps a chunk's bytes and reads up to a chunk's end, since a chunk is fetched and checked
whole anyway; as long as it reads on from where it was, the next chunks are fetched meanwhile. A
writer gathers whole chunks. Its file is there from `close` on; when its with-block raises, or it is
dropped unclosed, there is nothing.
"""

from __future__ import annotations

import io
import os
from typing import Any, Final

from velum.errors import code_of, error_from
from velum.filebackend import Download, FileInfo, Upload
from velum.pieces import Gathering, flat

AHEAD_BYTES: Final = 8 << 20  # half a window: the other half is what is being used
BUFFER_BYTES_MIN: Final = 64 << 10  # so that small chunks are not read line by line


class RawReader(io.RawIOBase):
    """Reads a download, unbuffered."""

    def __init__(self, download: Download) -> None:
        self.download = download
        self._at = 0
        self._went_on = 0  # where the last read ended

    def readable(self) -> bool:
        return not self._is_closed()

    def seekable(self) -> bool:
        return not self._is_closed()

    def tell(self) -> int:
        self._is_closed()
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of any file; behind the end there is nothing to read."""
        self._is_closed()
        starts = {
            os.SEEK_SET: 0,
            os.SEEK_CUR: self._at,
            os.SEEK_END: self.download.info.size,
        }
        if whence not in starts:
            raise ValueError(f"invalid whence {whence}")
        if starts[whence] + offset < 0:
            raise ValueError(f"negative seek position {starts[whence] + offset}")
        self._at = starts[whence] + offset
        return self._at

    def readinto(self, target: Any) -> int:
        """Little ends at its chunk's end, so that the next read begins with a chunk."""
        self._is_closed()
        view = flat(target)
        chunk = self.download.info.chunk_bytes or len(view)
        if len(view) <= chunk:
            view = view[: chunk - self._at % chunk]
        count = self.download.read_into(self._at, view, self._ahead(len(view)))
        self._at = self._went_on = self._at + count
        return count

    def readall(self) -> bytes:
        self._is_closed()
        data = self.download.read(self._at, max(0, self.download.info.size - self._at))
        self._at = self._went_on = self._at + len(data)
        return data

    def close(self) -> None:
        if not self.closed:
            self.download.close()
        super().close()

    def _ahead(self, count: int) -> int:
        """How much behind the next `count` bytes is worth fetching: nothing for a jump."""
        left = self.download.info.size - self._at - count
        return max(0, min(AHEAD_BYTES, left)) if self._at == self._went_on else 0

    def _is_closed(self) -> bool:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        return False


class FileReader(io.BufferedReader):
    """One version of a file, whatever happens to its name meanwhile; `info` says which."""

    mode = "rb"

    def __init__(self, download: Download) -> None:
        self._download = download
        size, chunk = download.info.size, download.info.chunk_bytes or 0
        super().__init__(RawReader(download), max(1, min(size, max(chunk, BUFFER_BYTES_MIN))))

    @property
    def info(self) -> FileInfo:
        """What is read."""
        return self._download.info

    @property
    def name(self) -> str:
        """The file's name in the mesh."""
        return self._download.info.name

    @property
    def size(self) -> int:
        """Its bytes."""
        return self._download.info.size


class FileWriter(io.BufferedIOBase):
    """A file in the making; by one thread at a time. `info` is there once it is closed."""

    mode = "wb"

    def __init__(self, name: str, upload: Upload, piece_bytes: int) -> None:
        self.name = name
        self.info: FileInfo | None = None
        self._upload = upload
        self._held = Gathering(piece_bytes)
        self._sent = 0
        self._failure: BaseException | None = None
        self.held_back = False  # until `commit`: `close` alone makes nothing visible

    def writable(self) -> bool:
        return not self._is_closed()

    def tell(self) -> int:
        self._is_closed()
        return self._sent + self._held.size

    def write(self, data: Any) -> int:
        """Takes everything; waits while too much is under way."""
        self._is_closed()
        view = flat(data)
        at = 0
        while at < len(view):
            at += self._held.take(view[at:])
            if self._held.is_whole:
                self._send()
        return len(view)

    def close(self) -> None:
        """Makes the file visible. After a write that failed it raises that error again, and there
        is no file."""
        if self.closed or self.held_back:
            return
        try:
            if self._held.size:
                self._send()
            self._raise_failure()
            self.info = self._guarded(self._upload.finish)
        finally:
            super().close()

    def commit(self) -> None:
        """Makes a file visible that was held back."""
        self.held_back = False
        self.close()

    def discard(self) -> None:
        """Closes it and leaves nothing in the mesh."""
        if not self.closed:
            self._upload.abort()
            self._held = Gathering(1)
            super().close()

    def __exit__(self, kind: Any, *error: Any) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def __del__(self) -> None:
        if hasattr(self, "_failure"):  # else it was never begun
            self.discard()

    def _send(self) -> None:
        piece = self._held.give()
        self._raise_failure()
        self._guarded(self._upload.write, piece)
        self._sent += len(piece)

    def _guarded(self, do: Any, *args: Any) -> Any:
        """An error ends the put, now: nobody has to remember to close."""
        try:
            return do(*args)
        except BaseException as error:
            self._failure = error
            self._upload.abort()
            raise

    def _raise_failure(self) -> None:
        if isinstance(self._failure, Exception):
            raise self._failure
        if self._failure is not None:  # Ctrl-C is not raised twice
            raise error_from(code_of("CANCELLED"), f"the put of {self.name!r} was interrupted")

    def _is_closed(self) -> bool:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        return False
