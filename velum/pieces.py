"""Whatever a program puts, as pieces of whole chunks.

Owns: reading a path, bytes, a binary file or an iterable, no faster than somebody asks. Refuses to
know where the pieces go. Large blocks are passed on as views of where they lie; what is smaller
than a piece is gathered into one. A piece is never written to again once it was given out.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Final

from velum.errors import code_of, error_from

Buffer = bytes | bytearray | memoryview
"""Or anything else with the buffer protocol, as an array of numpy."""
PathLike = str | os.PathLike[str]
Source = PathLike | Buffer | BinaryIO | Iterable[Buffer]

# A read or write of a file of this size costs next to nothing beside its bytes, and four chunks are
# enough to keep several nodes busy.
PIECE_BYTES: Final = 4 << 20


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
            yield gathered(_reads(file, piece_bytes), piece_bytes), _size_of(file)
    elif hasattr(source, "read"):
        yield gathered(_reads(source, piece_bytes), piece_bytes), _size_of(source)
    elif _is_buffer(source):
        view = flat(source)
        yield cut(view, piece_bytes), len(view)
    else:
        # An iterable may hand out the same array again and again; bytes never change.
        blocks = (b if isinstance(b, bytes) else bytes(flat(b)) for b in source)
        yield gathered(blocks, piece_bytes), None


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


def gathered(blocks: Iterable[bytes], piece_bytes: int) -> Iterator[memoryview]:
    """Pieces of blocks of any size."""
    held = bytearray()
    for block in blocks:
        view, at = memoryview(block), 0
        if held:
            at = min(piece_bytes - len(held), len(view))
            held += view[:at]
            if len(held) < piece_bytes:
                continue
            yield memoryview(held)
            held = bytearray()
        whole = len(view) - (len(view) - at) % piece_bytes
        yield from cut(view[at:whole], piece_bytes)
        held += view[whole:]
    if held:
        yield memoryview(held)


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
