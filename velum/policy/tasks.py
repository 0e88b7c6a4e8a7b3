"""Tasks as plain data, for the two policies that move them: the scheduler and the pool.

Owns: what a task is to them, the numbers by which a send is known, and the error codes they act on.
Refuses to know: arguments, modules, payloads, links.

A task may be sent more than once. Each send has a number of its own, its *ticket*, which is the
correlation number on the wire: the task's id in the low 56 bits, the count of earlier sends above.
The first ticket of a task is therefore its id, and an answer to an earlier send can never be taken
for an answer to a later one, not even when both went to the same node.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

ID_BITS: Final = 56  # the 8 bits above are ample: retries are bounded at a few tens
ID_MAX: Final = (1 << ID_BITS) - 1  # 28,000 years of 80,000 tasks a second


class Kind(IntEnum):
    """What runs a task. Values index the scheduler's lanes; they do not travel."""

    BUILTIN = 0
    """Arithmetic answered by the node itself, a few microseconds, no worker needed."""
    WASM = 1
    """A guest function; takes a worker for as long as it runs."""


class Code(IntEnum):
    """The errors that these policies give or act on: a part of VELUM_ERRORS in velum.h, which owns
    names and numbers. Every other code is the task's own failure and only passes through."""

    NOMEM = 1
    ARGUMENT = 3
    LEAVING = 31
    OVERFLOW = 44
    CANCELLED = 80
    DEADLINE = 81
    WORKER_DIED = 82
    POISON = 83
    LOST = 84
    BUSY = 85
    NO_WORKER = 86
    JOB_UNKNOWN = 88


# Where a task is, when it is not at a node (node ids start at 1).
WAITS: Final = 0  # in the scheduler's queue: nobody has room for it
RESTS: Final = -1  # refused; is tried again when its back-off ends
ENDED: Final = -2  # its caller has the answer


@dataclass(slots=True)
class Trouble:
    """What went wrong with one task so far. Most tasks have none."""

    lost: list[int] = field(default_factory=list)
    """Nodes that were lost while they held it, in order."""
    refused: int = 0
    """Sends that a node gave back: busy, leaving, no worker."""
    deaths: dict[int, int] = field(default_factory=dict)
    """Workers that died running it, by node."""

    def killers(self) -> str:
        """The nodes where it killed workers, for a person."""
        return ", ".join(f"{count} on node {node}" for node, count in sorted(self.deaths.items()))


@dataclass(slots=True, eq=False)
class Task:
    """One task of a caller. The first four fields are the caller's; the others are the scheduler's
    notes, kept here to save an object a task, and read-only to everyone else."""

    id: int
    """1..ID_MAX, never used twice."""
    kind: Kind
    node: int | None = None
    """Where it must run; None: wherever it ends soonest."""
    timeout_ms: int = 0
    """For the whole task from its submission, retries included; 0: none."""

    ticket: int = field(init=False, default=0)
    """Correlation number of the latest send."""
    place: int = field(init=False, default=WAITS)
    """The node that has it, or WAITS, RESTS, ENDED."""
    deadline: int = field(init=False, default=0)
    """When its time is up; 0: never."""
    trouble: Trouble | None = field(init=False, default=None)

    def left_ms(self, now: int) -> int:
        """What is left of its time, to be written into the frame of a send; 0: no limit."""
        return max(1, self.deadline - now) if self.deadline else 0


def task_id(ticket: int) -> int:
    """The task that a ticket belongs to."""
    return ticket & ID_MAX
