"""Errors that a caller meets, and how a program's exit status tells them apart.

Owns the Python side of the core's one error table (`VELUM_ERRORS` in `csrc/include/velum.h`). A
caller's mistake, a guest's trap, a stopped task, a lost peer, a full mesh, a refused join, a
missing or damaged file and a write that the state refuses are different classes, because they ask
for different answers.
"""

from __future__ import annotations

from functools import cache

from velum import _core


class VelumError(Exception):
    """Base of all: `code` (positive number of the table), `name`, and `node` where it happened."""

    def __init__(self, code: int, text: str = "", node: int | None = None) -> None:
        self.code = code
        self.name, meaning = error_table().get(code, ("UNKNOWN", f"error {code}"))
        self.node = node or None
        super().__init__(text or meaning)

    def __str__(self) -> str:
        text = str(self.args[0])
        return f"{text} (node {self.node})" if self.node else text

    def __reduce__(self) -> tuple[object, ...]:
        return error_from, (self.code, str(self.args[0]), self.node)


class CallerError(VelumError, ValueError):
    """The call cannot be right wherever it runs: bad arguments, a bad module, no such function."""


class GuestTrap(VelumError):
    """The guest function itself failed: a trap, its memory limit, its fuel."""


class TaskStopped(VelumError):
    """The task was cancelled or ran past its timeout."""


class PeerLost(VelumError, ConnectionError):
    """The other side cannot be reached, or the task was lost with its nodes too often."""


class ClusterFull(VelumError):
    """Nobody can take the work now: queues, memory or connections are used up, or no worker."""


class JoinRefused(VelumError):
    """The mesh does not take this node: its id is in use, or the peer is leaving."""


class FileMissing(VelumError, FileNotFoundError):
    """There is no file of that name in the mesh."""


class FileDamaged(VelumError, OSError):
    """The file can not be read to its end: chunks of it are lost, or it was replaced meanwhile."""


class KvRefused(VelumError):
    """The state takes no write now, and goes on being read: its disk or its memory is full; or its
    log is another process's."""


class CasConflict(VelumError):
    """The key has another version than the one that was named; nothing was written."""


class NoQuorum(VelumError):
    """More than half of the members have to agree, and could not be reached; nothing was
    written."""


class WrongType(CallerError, TypeError):
    """The key holds another type than the call is for: a set, say, and no counter."""


_CLASSES: tuple[tuple[range, type[VelumError]], ...] = (
    (range(40, 60), CallerError),
    (range(60, 80), GuestTrap),
    (range(80, 82), TaskStopped),
    (range(82, 85), PeerLost),
    (range(85, 87), ClusterFull),
    (range(87, 89), CallerError),
    (range(5, 9), PeerLost),
    (range(4, 5), ClusterFull),
    (range(32, 33), ClusterFull),
    (range(30, 32), JoinRefused),
    (range(92, 93), ClusterFull),
    (range(93, 94), FileMissing),
    (range(94, 96), FileDamaged),
    (range(96, 97), PeerLost),
    (range(97, 98), CallerError),
    (range(98, 99), ClusterFull),
    (range(100, 103), KvRefused),
    (range(103, 104), CasConflict),
    (range(104, 105), NoQuorum),
    (range(105, 106), WrongType),
    (range(106, 107), KvRefused),
)

_USAGE = frozenset(
    "UNKNOWN_NAME NO_EXPORT SIGNATURE ARGUMENT QUERY JOB_UNKNOWN NAME NOT_FOUND".split()
)


@cache
def error_table() -> dict[int, tuple[str, str]]:
    """{code: (NAME, text)} of every error of the core."""
    return _core.error_table()


@cache
def code_of(name: str) -> int:
    """The positive code of an error's name, as "DUPLICATE_ID". KeyError for an unknown name."""
    return next(code for code, (known, _) in error_table().items() if known == name)


def error_from(code: int, text: str = "", node: int | None = None) -> VelumError:
    """The exception of the right class for a code of the table."""
    for codes, kind in _CLASSES:
        if code in codes:
            return kind(code, text, node)
    return VelumError(code, text, node)


def from_core(error: _core.CoreError) -> VelumError:
    """A core error as one of ours."""
    return error_from(error.code, str(error))


def exit_status(error: BaseException) -> int:
    """The exit status of a command that ended with this error.

    1 the work failed, 2 wrong usage, 3 no node reachable, 4 timed out, 130 interrupted.
    """
    if isinstance(error, KeyboardInterrupt):
        return 130
    if not isinstance(error, VelumError):
        return 1
    if error.name in ("DEADLINE", "TIMEOUT"):
        return 4
    if error.name in _USAGE:
        return 2
    if isinstance(error, PeerLost) and error.code < 10:
        return 3
    return 1
