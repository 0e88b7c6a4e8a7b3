"""What stands between the faces of files in RAM and the mesh: the shapes both sides keep to.

Owns: `FileInfo` and `Space`, which callers see, and the `Backend` that a node or a client is to
`velum.files`. Refuses to know who keeps what (docs/storage.md) and what callers put and get.

Every method may be called from any thread but the loop's, and blocks. Ctrl-C may be raised in any
of them: it leaves them usable for `abort` and `close`. Names have been checked: 1 to 4096 bytes of
UTF-8. Errors are VelumErrors, among them

| name | from | means |
|---|---|---|
| STORE_FULL, NAMES_FULL | begin_put, write, finish, put_many, remove | no room: nothing stored |
| TOO_LARGE | the same | more chunks than a manifest has room for: take larger ones |
| UNCERTAIN | finish, put_many, remove | the last step was not confirmed |
| NOT_FOUND | lookup, stat, get_many, remove | no such file |
| CHUNKS_LOST | read_into, read, get_many | which chunks are on no node any more |
| STALE | read_into, read | replaced, and its old chunks are gone |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Protocol

from velum import _core
from velum.policy.filetypes import (
    CARE_AT_RISK,
    CARE_DAMAGED,
    CARE_UNKNOWN,
    CARE_WHOLE,
    Coding,
    Manifest,
)
from velum.policy.hybridclock import Version

CARE: Final = {
    CARE_UNKNOWN: "unknown",
    CARE_WHOLE: "whole",
    CARE_AT_RISK: "at risk",
    CARE_DAMAGED: "damaged",
}


@dataclass(slots=True)
class FileInfo:
    """One version of one file. A listing knows name, size, version and care: the rest is None."""

    name: str
    size: int
    stamp: Version  # when it was put; they compare as their files were put
    care: str = "unknown"  # "whole", "at risk" or "damaged"
    missing: int = 0  # at risk: copies or shards; damaged: chunks that are nowhere
    content: Manifest | None = field(default=None, repr=False, compare=False)

    @property
    def modified(self) -> float:
        """Unix seconds, by the clock of whoever put it."""
        return self.stamp.ms / 1000

    @property
    def version(self) -> str:
        """Text that differs between any two puts; a later one is greater."""
        return f"{self.stamp.stamp:016x}-{self.stamp.origin:08x}"

    @property
    def chunk_bytes(self) -> int | None:
        """Of each chunk but the last; 0: the file is so small that it lies with its name."""
        return None if self.content is None else self.content.chunk_bytes

    @property
    def chunks(self) -> int | None:
        """Keys in the manifest, parity too."""
        return None if self.content is None else len(self.content.keys)

    @property
    def copies(self) -> int | None:
        """Of each chunk; None also when it is in stripes."""
        return None if self.content is None or self.content.coding.m else self.content.coding.k

    @property
    def ec(self) -> tuple[int, int] | None:
        """(k, m) of its stripes."""
        if self.content is None or not self.content.coding.m:
            return None
        return self.content.coding.k, self.content.coding.m

    @property
    def hash(self) -> str | None:
        """Hex; equal hashes are equal bytes."""
        return None if self.content is None else content_hash(self.content)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {name: getattr(self, name) for name in _FACTS}


_FACTS: Final = (
    "name",
    "size",
    "modified",
    "version",
    "care",
    "missing",
    "chunk_bytes",
    "chunks",
    "copies",
    "ec",
    "hash",
)


@dataclass(frozen=True, slots=True)
class NodeSpace:
    """The RAM that one node gives to chunks, in bytes."""

    node: int
    budget: int
    used: int

    @property
    def free(self) -> int:
        """What is left of the budget."""
        return max(0, self.budget - self.used)


@dataclass(frozen=True, slots=True)
class Space:
    """The store as a whole."""

    nodes: tuple[NodeSpace, ...]  # by id
    files: int
    at_risk: int  # files of fewer copies than they were asked for
    damaged: int  # files of which chunks are nowhere
    repair_bytes: int  # what is still to be copied, as far as the nodes have found out
    repair_rate: float  # bytes a second, of the last seconds
    unchecked: int = 0  # nodes that have still to look since members changed: more may be at risk

    @property
    def budget(self) -> int:
        """Of all nodes together."""
        return sum(node.budget for node in self.nodes)

    @property
    def used(self) -> int:
        """Of all nodes together: every copy counts."""
        return sum(node.used for node in self.nodes)

    @property
    def free(self) -> int:
        """Of all nodes together."""
        return sum(node.free for node in self.nodes)

    @property
    def repair_eta_s(self) -> float | None:
        """Seconds until all is whole at this rate: 0 when nothing is to be done, None unknown."""
        if not self.repair_bytes:
            return 0.0
        return self.repair_bytes / self.repair_rate if self.repair_rate else None

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        nodes = [{**asdict(node), "free": node.free} for node in self.nodes]
        totals = {"budget": self.budget, "used": self.used, "free": self.free}
        counts = {"files": self.files, "at_risk": self.at_risk, "damaged": self.damaged}
        counts["unchecked"] = self.unchecked
        repair = {"repair_bytes": self.repair_bytes, "repair_rate": self.repair_rate}
        eta = {"repair_eta_s": self.repair_eta_s}
        return {**totals, **counts, **repair, **eta, "nodes": nodes}


class Upload(Protocol):
    """A put under way. Ends with `finish` or `abort`; until then nobody sees anything of it."""

    def write(self, data: memoryview) -> None:
        """Takes whole chunks; only the last write may end within one. Returns when the window has
        room again: that is the back-pressure. The bytes stay as they are until `finish` or `abort`
        has returned, so that they can be hashed and sent from where they lie."""

    def finish(self) -> FileInfo:
        """Makes the file visible, once every chunk has its copies. An error is the end too. A file
        that is small enough to lie with its name needs the mesh in here only."""

    def abort(self) -> None:
        """Gives the put up and frees what it has stored, soon: it does not wait, and may be called
        from any thread, again, and after the end."""


class Download(Protocol):
    """One version of a file, open for reading, by one thread at a time."""

    @property
    def info(self) -> FileInfo:
        """All that its manifest says; care is unknown."""

    @property
    def size(self) -> int:
        """Of the file; the same, and cheaper."""

    def read_into(self, offset: int, target: memoryview, ahead: int) -> int:
        """Fills `target` from `offset` on, checked; fewer bytes only at the file's end, 0 behind
        it. `ahead`: about so many bytes behind these will be asked for next, and may be fetched
        meanwhile; 0 when nobody knows."""

    def read(self, offset: int, size: int) -> bytes:
        """The same as new bytes, at most `size`."""

    def close(self) -> None:
        """Lets go of what was fetched ahead; may be called again."""


class Backend(Protocol):
    """The store of one mesh."""

    def begin_put(self, name: str, size: int | None, coding: Coding, chunk_bytes: int) -> Upload:
        """`size`: as far as it is known beforehand, to refuse early what cannot fit; what is
        written counts. Does not wait for the mesh unless it refuses."""

    def put_small(self, name: str, data: bytes, coding: Coding) -> FileInfo:
        """A whole put of a file of at most INLINE_BYTES_MAX bytes, in one call."""

    def put_many(self, items: Iterable[tuple[str, bytes]], coding: Coding, chunk_bytes: int) -> int:
        """Puts them with many under way at once; how many there were. The first error is raised
        when what was under way has ended."""

    def lookup(self, name: str) -> Download:
        """The version of now."""

    def get_many(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | Exception]]:
        """Whole files in the order of `names`, many under way at once; an error in its place."""

    def names(self, prefix: str, after: str) -> Iterator[FileInfo]:
        """All files whose names start with `prefix` and are greater than `after`, ascending by
        their UTF-8 bytes; page after page, so that what comes late may be newer."""

    def stat(self, name: str, check: bool) -> FileInfo:
        """What the keepers say of a file. `check`: also asks who has its chunks now."""

    def remove(self, name: str) -> None:
        """Deletes a file: its name gets a tombstone."""

    def df(self) -> Space:
        """Room, and how whole the files are."""


def info_of(
    name: str, version: Version, manifest: Manifest, care: int = CARE_UNKNOWN, missing: int = 0
) -> FileInfo:
    """What an entry says of its file."""
    return FileInfo(name, manifest.size, version, CARE[care], missing, manifest)


def content_hash(manifest: Manifest) -> str:
    """The hash of a file's bytes: BLAKE3 of the keys of its chunks, or of the bytes themselves if
    they lie with the name. The same bytes put in another way have another."""
    k, m = manifest.coding
    keys = manifest.keys
    data = [key for place, key in enumerate(keys) if place % (k + m) < k] if m else keys
    content = b"".join(data) if manifest.chunk_bytes else manifest.data
    return _core.chunk_key(content).hex()
