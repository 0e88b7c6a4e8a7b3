"""Whatever a program puts, as pieces of whole chunks.

Owns: reading a path, bytes, a binary file or an iterable, no faster than somebody asks. Refuses to
know where the pieces go. Large blocks are passed on as views of where they lie; what is smaller
than a piece is gathered into one, in memory apart from the heap. A piece is never written to again
once it was given out.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Final, cast

from velum import _core
from velum.errors import code_of, error_from

Buffer = bytes | bytearray | memoryview
"""Or anything else with the buffer protocol, as an array of numpy."""
PathLike = str | os.PathLike[str]
Source = PathLike | Buffer | BinaryIO | Iterable[Buffer]

READ_BYTES: Final = 4 << 20  # of a get at once; four chunks keep several nodes busy
PIECE_BYTES: Final = 1 << 20  # of a put: one whose chunks are not all on their way is kept whole


def piece_size(chunk_bytes: int) -> int:
    """The size of a piece: about PIECE_BYTES, and a whole number of chunks."""
    return max(1, PIECE_BYTES // chunk_bytes) * chunk_bytes


@contextmanager
def pieces_of(
    source: Source, piece_bytes: int
) -> Iterator[tuple[Iterator[memoryview], int | None]]:
    """(pieces, bytes in all as far as that is known); a path is open inside. All pieces but the
    last have exactly `piece_bytes`. Raises VelumError ARGUMENT for what holds no bytes."""
    if isinstance(source, (str, os.PathLike)):
        with open(source, "rb", buffering=0) as file:
            yield filled(file, piece_bytes), _size_of(file)
    elif hasattr(source, "readinto"):
        yield filled(source, piece_bytes), _size_of(source)
    elif hasattr(source, "read"):
        yield gathered(_reads(source, piece_bytes), piece_bytes), _size_of(source)
    elif _is_buffer(source):
        view = flat(source)
        yield cut(view, piece_bytes), len(view)
    else:
        yield gathered(cast("Iterable[Buffer]", source), piece_bytes), None


def flat(data: Any) -> memoryview:
    """The bytes of a buffer, without a copy."""
    try:
        return memoryview(data).cast("B")
    except TypeError:
        kind = type(data).__name__
        text = f"bytes are wanted, not {kind}; text has to be encoded, arrays be contiguous"
        raise error_from(code_of("ARGUMENT"), text) from None


def cut(view: memoryview, piece_bytes: int) -> Iterator[memoryview]:
    """Consecutive pieces of one block."""
    return (view[at : at + piece_bytes] for at in range(0, len(view), piece_bytes))


_NOWHERE: Final = memoryview(b"")


class Gathering:
    """A piece in the making."""

    def __init__(self, piece_bytes: int) -> None:
        self._piece_bytes = piece_bytes
        self._memory = _NOWHERE
        self.size = 0

    @property
    def is_whole(self) -> bool:
        """There is no room in it."""
        return self.size == self._piece_bytes

    def take(self, view: memoryview) -> int:
        """Takes what there is room for, of the beginning; how many bytes."""
        room = self._room()[: len(view)]
        room[:] = view[: len(room)]
        self.size += len(room)
        return len(room)

    def fill(self, file: Any) -> int:
        """Reads from a file what it gives at once, into the room; how many bytes."""
        count = file.readinto(self._room())
        if count is None:
            raise error_from(code_of("ARGUMENT"), "a file that does not block cannot be put")
        self.size += count
        return int(count)

    def give(self) -> memoryview:
        """What was gathered, one byte at least; another piece begins."""
        piece = self._memory[: self.size]
        self._memory, self.size = _NOWHERE, 0
        return piece

    def _room(self) -> memoryview:
        if self._memory is _NOWHERE:
            self._memory = memoryview(_core.Block(self._piece_bytes))
        return self._memory[self.size :]


def gathered(blocks: Iterable[Buffer], piece_bytes: int) -> Iterator[memoryview]:
    """Pieces of blocks of any size. Large ones are not copied if they are bytes, which never
    change; who iterates may hand out the same array again and again."""
    held = Gathering(piece_bytes)
    for block in blocks:
        view = flat(block)
        while len(view):
            if isinstance(block, bytes) and not held.size and len(view) >= piece_bytes:
                yield view[:piece_bytes]
                view = view[piece_bytes:]
                continue
            view = view[held.take(view) :]
            if held.is_whole:
                yield held.give()
    if held.size:
        yield held.give()


def filled(file: Any, piece_bytes: int) -> Iterator[memoryview]:
    """Pieces of a file, read to where they stay."""
    held = Gathering(piece_bytes)
    while held.fill(file):
        if held.is_whole:
            yield held.give()
    if held.size:
        yield held.give()


def _is_buffer(source: object) -> bool:
    try:
        memoryview(source)  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


def _reads(file: Any, piece_bytes: int) -> Iterator[bytes]:
    while True:
        block = file.read(piece_bytes)
        if not isinstance(block, bytes):  # text; or None, of one that does not block
            block = bytes(flat(block))
        if not block:
            return
        yield block


def _size_of(file: Any) -> int | None:
    """What is left to read of a file, if it says so."""
    try:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return None
    except (AttributeError, OSError, ValueError):
        pass  # no file of the system's, as BytesIO: it may know its end all the same
    try:
        here = int(file.tell())
        end = int(file.seek(0, os.SEEK_END))
        file.seek(here)
    except (AttributeError, OSError, ValueError, TypeError):
        return None
    return max(0, end - here)
