"""A scatter's job as plain data: its spec, its record, and what its slices' values mean.

Owns: the Python mirror of what ``csrc/wire.h`` says of SCATTER and JOB: the same names, codes and
ranges. Refuses to know: bytes, links, who does what when. docs/scatter.md explains the words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NamedTuple

# Types of values; WebAssembly's codes.
I32: Final = 0x7F
I64: Final = 0x7E
F32: Final = 0x7D
F64: Final = 0x7C

KEEP_GOING: Final = 1  # flags of a spec
WRAP: Final = 2
VALUES: Final = 4

PRIORITY_MAX: Final = 100
HOLDERS_MAX: Final = 16

# Tickets of leases have this bit, which tickets of tasks never reach (`tasks.ID_BITS`).
LEASE_BIT: Final = 1 << 62


class Reduce(IntEnum):
    """How slice values become the answer, ``velum_reduce``."""

    SUM = 1
    PRODUCT = 2
    MIN = 3
    MAX = 4
    AND = 5
    OR = 6
    XOR = 7
    FIRST = 8
    ALL = 9
    COLLECT = 10


class State(IntEnum):
    """Where a job stands, ``velum_job_state``. A later one wins at the same attempt."""

    RUNNING = 1
    CANCELLED = 2
    FAILED = 3
    DONE = 4


class Ask(IntEnum):
    """What JOB_ASK asks for, ``velum_ask``."""

    WATCH = 1
    CANCEL = 2
    RESUME = 3
    HOLD = 4


class Spec(NamedTuple):
    """What a job is; never changes. ``velum_scatter``."""

    job: int  # 1..2^63-1, drawn at random by whoever submits
    flags: int
    reduce: int  # Reduce
    priority: int  # 1..100
    result: int  # type of a slice's value
    slices: int
    timeout_ms: int  # of one slice, 0: none
    limit_ms: int  # of the whole job, 0: none
    fuel: int  # of one slice, 0: no limit
    pages: int  # 0: the node's own limit
    missing: int  # bits of the value that means "not found"
    created_ms: int  # unix time
    hash: bytes
    function: str
    label: str  # the module's file name, for people
    args: tuple[tuple[int, int], ...]  # (type, bits): start, end, then what every call gets

    @property
    def range_type(self) -> int:
        """I32 or I64."""
        return self.args[0][0]

    @property
    def start(self) -> int:
        """First number of the range."""
        return signed(*self.args[0])

    @property
    def end(self) -> int:
        """The number behind its last."""
        return signed(*self.args[1])


class Share(NamedTuple):
    """What one node did for a job, ``velum_share``."""

    node: int
    leases: int  # open there now
    done: int  # slices whose value came from there first
    busy_ms: int  # in the guest


class Record(NamedTuple):
    """What a job's coordinator says of it at a moment, ``velum_job``."""

    job: int
    attempt: int
    state: int  # State
    epoch: int
    coordinator: int
    sequence: int
    slices: int
    done: int
    failed: int
    checksum: int
    elapsed_ms: int
    retries: int
    duplicates: int
    code: int  # of FAILED and CANCELLED, else 0
    text: str
    answer: tuple[int, int] | None  # (type, bits) when DONE and it is one number
    holders: tuple[int, ...]  # by rank
    shares: tuple[Share, ...]

    @property
    def claim(self) -> tuple[int, int, int, int]:
        """The greater claim holds."""
        return (self.attempt, self.state, self.epoch, self.coordinator)


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed slice."""

    slice: int
    code: int
    text: str = ""


Run = tuple[int, bytes]
"""A run of done slices: the first, and 8 bytes a value, little-endian."""


def signed(kind: int, bits: int) -> int:
    """An integer value's number."""
    width = 32 if kind == I32 else 64
    bits &= (1 << width) - 1
    return bits - (1 << width) if bits >> (width - 1) else bits


def job_name(job: int) -> str:
    """A job's id as people write it: 16 hexadecimal digits."""
    return f"{job:016x}"


def record_of(fields: Sequence[Any]) -> Record:
    """A record from its plain fields, as the binding gives them."""
    record = Record._make(fields)
    return record._replace(shares=tuple(map(Share._make, record.shares)))


def as_plain(record: Record, spec: Spec | None) -> dict[str, Any]:
    """A record as plain data, for JSON; the answer is not in it."""
    plain: dict[str, Any] = {
        "id": job_name(record.job),
        "state": State(record.state).name.lower(),
        "attempt": record.attempt,
        "epoch": record.epoch,
        "coordinator": record.coordinator,
        "holders": list(record.holders),
        "slices": record.slices,
        "done": record.done,
        "failed": record.failed,
        "elapsed_ms": record.elapsed_ms,
        "retries": record.retries,
        "duplicates": record.duplicates,
        "code": record.code,
        "text": record.text,
        "nodes": [share._asdict() for share in record.shares],
    }
    if spec is not None:
        plain |= {
            "module": spec.label,
            "function": spec.function,
            "start": spec.start,
            "end": spec.end,
            "reduce": Reduce(spec.reduce).name.lower(),
            "priority": spec.priority,
            "created_ms": spec.created_ms,
        }
    return plain
