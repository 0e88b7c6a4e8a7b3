"""What a node holds of its jobs, on disk: so that a mesh that lost power resumes its scatters.

Owns: the journals of one directory, one file a job, and the order in which bytes reach the disk.
Refuses to know: what a job is, but that every payload is one of it; when one is adopted.

A journal is the magic, then entries `length u32 | crc32 u32 | kind u8 | payload`, the first the
job's spec; length is the payload's, the CRC is over kind and payload. Entries are only ever
appended. What is read is believed as far as CRCs, lengths and decoders agree; there it is cut, for
what is lost is recomputed. A file that has grown much beyond what it says is written anew beside
the old one and takes its name once it is on the disk, so one of the two is always whole.

The loop never waits for the disk. What it is told gathers here and goes once a second, the end of a
job at once, to a thread that writes it and syncs. That thread alone touches files after the start.
When it cannot write, a job's journal ends with one warning, and the job goes on without.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO, Final, NamedTuple
from zlib import crc32

from velum import _core
from velum.errors import code_of, error_from
from velum.policy.job import Record, State, job_name
from velum.runtime import now_ms

MAGIC: Final = b"VELUMJ1\n"
HEAD: Final = struct.Struct("<IIB")  # length, CRC, kind
SCATTER, SLICES, JOB, MODULE = 1, 2, 3, 4  # kinds of entries

ENTRY_BYTES_MAX: Final = _core.MODULE_BYTES_MAX + 1024  # the largest payload is a module
SYNC_MS: Final = 1000  # how much work a loss of power may cost
# A file is written anew when it has grown by this and to four times what it had to be: rare enough
# to cost little, and records alone, a hundred bytes a second, take hours to get there.
SLACK_BYTES: Final = 1 << 20
GROWTH: Final = 3
# A disk that is so much behind does not keep up with what it is to keep.
BEHIND_BYTES_MAX: Final = 256 << 20
CLOSE_S: Final = 2.0  # a node that leaves waits so long for its disk

Contents = tuple[bytes, "bytes | None", list[bytes], bytes]  # spec, module, slices, record
Warn = Callable[[str], None]

_DECODERS: Final[dict[int, Callable[[bytes], tuple[Any, ...]]]] = {
    SCATTER: _core.decode_scatter,
    SLICES: _core.decode_slices,
    JOB: _core.decode_job,
}
_datasync: Final[Callable[[int], None]] = getattr(os, "fdatasync", os.fsync)


class Restored(NamedTuple):
    """What a journal tells of a job, as payloads."""

    spec: bytes
    module: bytes | None
    record: bytes | None
    slices: list[bytes]


@dataclass(slots=True, eq=False)
class _Journal:
    """One job's. `ended` is set by the writing thread too: it could not write."""

    path: Path
    size: int = 0  # of the file, once all that was told is written
    base: int = 0  # what it had to be when it was written as a whole
    waiting: list[bytes] = field(default_factory=list)  # entries for the next write
    record: bytes | None = None  # an entry for the next write; the latest replaces the others
    known: tuple[Any, ...] = ()  # what the latest record said, but for times
    attempt: int = 0
    module: bool = False
    outdated: bool = False  # an attempt is over, and what failed in it is to be forgotten
    ended: bool = False


def entry(kind: int, payload: bytes) -> bytes:
    """An entry's bytes."""
    return HEAD.pack(len(payload), crc32(payload, crc32(bytes((kind,)))), kind) + payload


# ---- reading ----


def _entries(file: BinaryIO, size: int) -> Iterator[tuple[int, bytes, int]]:
    """(kind, payload, offset behind it) of entries from here on, as long as they are whole."""
    while len(head := file.read(HEAD.size)) == HEAD.size:
        length, crc, kind = HEAD.unpack(head)
        if length > min(ENTRY_BYTES_MAX, size - file.tell()):
            return
        payload = file.read(length)
        if crc32(payload, crc32(bytes((kind,)))) != crc:
            return
        yield kind, payload, file.tell()


def _fits(kind: int, payload: bytes, job: int, hash: bytes) -> bool:
    """Whether an entry is one of this job."""
    if kind == MODULE:
        return _core.module_hash(payload) == hash
    decoder = _DECODERS.get(kind)
    try:
        return decoder is not None and decoder(payload)[0] == job
    except _core.CoreError:
        return False


def read_journal(file: BinaryIO, size: int, job: int) -> tuple[Restored | None, int]:
    """What is in a journal, and how far it is whole. None: it is none of this job's."""
    spec = module = record = None
    slices: list[bytes] = []
    hash, good = b"", len(MAGIC)
    if file.read(len(MAGIC)) != MAGIC:
        return None, 0
    for kind, payload, end in _entries(file, size):
        if (spec is None) != (kind == SCATTER) or not _fits(kind, payload, job, hash):
            break
        if kind == SCATTER:
            spec, hash = payload, _core.decode_scatter(payload)[12]
        elif kind == SLICES:
            slices.append(payload)
        elif kind == JOB:
            record = payload
        else:
            module = payload
        good = end
    return (None, 0) if spec is None else (Restored(spec, module, record, slices), good)


# ---- writing, in a thread of its own ----


def _sync_directory(directory: Path) -> None:
    """A file's name is on the disk once its directory is."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write(path: Path, flags: int, data: Iterable[bytes], sync: bool) -> None:
    """Writes all of it behind what is there, or nothing."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | flags, 0o644)
    try:
        before = os.fstat(fd).st_size
        try:
            for part in data:
                view = memoryview(part)
                while view:
                    view = view[os.write(fd, view) :]
            if sync:
                _datasync(fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, before)
            raise
    finally:
        os.close(fd)


def create(path: Path, data: list[bytes]) -> None:
    """A new journal, without its bytes being on the disk yet."""
    _write(path, os.O_CREAT | os.O_TRUNC, data, sync=False)
    _sync_directory(path.parent)


def append(path: Path, data: list[bytes]) -> None:
    """More entries, on the disk when this returns."""
    _write(path, 0, data, sync=True)


def replace(path: Path, data: list[bytes]) -> None:
    """A whole journal in the place of another, of which one is there whenever this is cut short."""
    fresh = path.with_suffix(".new")
    try:
        _write(fresh, os.O_CREAT | os.O_TRUNC, data, sync=True)
        os.replace(fresh, path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def remove(path: Path, _: list[bytes]) -> None:
    """No journal any more."""
    path.unlink(missing_ok=True)


Operation = Callable[[Path, list[bytes]], None]


class Writer:
    """The thread: operations on journals one after another."""

    def __init__(self, warn: Warn) -> None:
        self._warn = warn
        self._queue: SimpleQueue[tuple[_Journal, Operation, list[bytes]] | None] = SimpleQueue()
        self._given = 0  # bytes; the loop's thread counts these,
        self._done = 0  # and the writing one these
        self._thread = threading.Thread(target=self._run, name="velum journal", daemon=True)
        self._thread.start()

    def give(self, journal: _Journal, operation: Operation, data: list[bytes]) -> None:
        """Has it done soon. A journal for which there is no room in memory any more ends."""
        size = sum(map(len, data))
        if self._given - self._done + size > BEHIND_BYTES_MAX:
            self.end(journal, "the disk does not keep up")
            return
        self._given += size
        self._queue.put((journal, operation, data))

    def end(self, journal: _Journal, why: str) -> None:
        """Gives a journal up, with the one warning."""
        if not journal.ended:
            journal.ended = True
            self._warn(
                f"journal {journal.path} ends here: {why}. The job goes on; should the whole mesh "
                f"stop, what is done from now on is done again. Make room, or name a --state-dir "
                f"elsewhere, for the jobs to come"
            )

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            journal, operation, data = work
            try:
                if operation is remove or not journal.ended:
                    operation(journal.path, data)
            except OSError as error:
                self.end(journal, str(error))
            self._done += sum(map(len, data))

    def close(self) -> bool:
        """Waits for what was given, but not for ever; whether it is done."""
        self._queue.put(None)
        self._thread.join(CLOSE_S)
        return not self._thread.is_alive()


# ---- in the loop's thread ----


def take_lock(directory: Path) -> int:
    """Locks a state directory for this process; the lock's descriptor. VelumError ARGUMENT, SYSTEM.
    The system lets go of it when the process ends, however it does."""
    fd = -1
    try:
        (directory / "jobs").mkdir(parents=True, exist_ok=True)
        fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise error_from(
            code_of("ARGUMENT"),
            f"another node uses {directory}: give each node a --state-dir of its own",
        ) from None
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        raise error_from(
            code_of("SYSTEM"), f"cannot keep journals in {directory}: {error}; name another "
            f"directory with --state-dir, or none",
        ) from None  # fmt: skip
    return fd


class Journals:
    """The journals of a node. A service, to be put among the runtime's; of no directory, nothing is
    kept and nothing is restored."""

    contents: Callable[[int], Contents]
    """What the journal of a job would be, written now; set by whoever keeps the jobs."""

    def __init__(self, directory: Path | None, warn: Warn) -> None:
        """Keeps journals in DIR/jobs. Raises VelumError ARGUMENT when another process does, SYSTEM
        when the directory cannot be used. `warn` may be called from another thread."""
        self._warn = warn
        self._journals: dict[int, _Journal] = {}
        self._grown: dict[int, _Journal] = {}
        self._due: int | None = None
        self._directory = directory
        self._lock = -1 if directory is None else take_lock(directory)
        self._writer = None if directory is None else Writer(warn)

    @property
    def open(self) -> bool:
        """Whether anything is kept."""
        return self._writer is not None

    def restore(self) -> Iterator[Restored]:
        """What the journals tell, job by job; for the start. Damage is cut off, with a warning."""
        if self._directory is None:
            return
        for path in sorted((self._directory / "jobs").iterdir()):
            if path.suffix == ".new":  # its writing was cut short
                path.unlink(missing_ok=True)
            elif re.fullmatch("[0-9a-f]{16}[.]job", path.name):
                try:
                    restored = self._read(path, int(path.stem, 16))
                except OSError as error:
                    self._warn(f"journal {path} cannot be read and is left as it is: {error}")
                    continue
                if restored is not None:
                    yield restored

    def _read(self, path: Path, job: int) -> Restored | None:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            restored, good = read_journal(file, size, job)
        if restored is None:
            damaged = path.with_suffix(".damaged")
            path.replace(damaged)
            self._warn(f"journal {path} does not begin as one; kept as {damaged.name}")
            return None
        if good < size:
            os.truncate(path, good)
            lost = f"{size - good} bytes from offset {good} on"
            self._warn(f"journal {path} is damaged: {lost} are cut off and will be recomputed")
        base = len(MAGIC) + len(restored.spec) + len(restored.module or b"")
        journal = _Journal(path, good, base, module=restored.module is not None)
        if restored.record is not None:
            self._note(journal, Record._make(_core.decode_job(restored.record)))
        self._journals[job] = journal
        return restored

    # ---- what is kept ----

    def begin(self, job: int, spec: bytes) -> None:
        """This node holds the job from now on; one that was restored has its journal."""
        if self._writer is None or self._directory is None or job in self._journals:
            return
        path = self._directory / "jobs" / f"{job_name(job)}.job"
        journal = self._journals[job] = _Journal(path)
        data = [MAGIC, entry(SCATTER, spec)]
        journal.size = journal.base = sum(map(len, data))
        self._writer.give(journal, create, data)

    def module(self, job: int, module: bytes) -> None:
        """The job's module is here; once is enough."""
        journal = self._journals.get(job)
        if journal is not None and not journal.module:
            journal.module = True
            journal.base += HEAD.size + len(module)
            self._add(job, journal, entry(MODULE, module))

    def slices(self, job: int, payloads: Iterable[bytes]) -> None:
        """The ledger has gained these."""
        journal = self._journals.get(job)
        if journal is not None:
            for payload in payloads:
                self._add(job, journal, entry(SLICES, payload))

    def record(self, record: Record, payload: bytes) -> None:
        """The job's record is this now, `payload` in bytes. What only tells how time goes by is not
        kept; the job's end is kept at once."""
        job = record.job
        journal = self._journals.get(job)
        if journal is None:
            return
        attempt = journal.attempt
        if self._note(journal, record):
            journal.outdated = journal.outdated or record.attempt > attempt
            journal.record = entry(JOB, payload)
            self._dirty(job, journal)
            if record.state != State.RUNNING:
                self._flush(job, journal)

    @staticmethod
    def _note(journal: _Journal, record: Record) -> bool:
        """True if the record says anything new."""
        known = (record.claim, record.holders, record.done, record.failed)
        new = known != journal.known
        journal.known, journal.attempt = known, record.attempt
        return new

    def forget(self, job: int) -> None:
        """The job's time is up."""
        journal = self._journals.pop(job, None)
        self._grown.pop(job, None)
        if journal is not None and self._writer is not None:
            self._writer.give(journal, remove, [])

    def _add(self, job: int, journal: _Journal, data: bytes) -> None:
        journal.waiting.append(data)
        journal.size += len(data)
        self._dirty(job, journal)

    def _dirty(self, job: int, journal: _Journal) -> None:
        if journal.ended:
            journal.waiting.clear()
        else:
            self._grown[job] = journal
            if self._due is None:
                self._due = now_ms() + SYNC_MS

    # ---- to the disk ----

    def next_deadline(self) -> int | None:
        """When what has gathered goes to the disk."""
        return self._due

    def on_time(self, now: int) -> None:
        """Sends it there."""
        if self._due is not None and now >= self._due:
            self._flush_all()

    def _flush_all(self) -> None:
        self._due = None
        for job, journal in list(self._grown.items()):
            self._flush(job, journal)

    def _flush(self, job: int, journal: _Journal) -> None:
        """Gives the writer what a journal gains, or the whole of it if it has become too long."""
        self._grown.pop(job, None)
        if self._writer is None or journal.ended:
            return
        data, journal.waiting = journal.waiting, []
        if journal.record is not None:  # first: without one, the rest tells nothing
            data.insert(0, journal.record)
            journal.size += len(journal.record)
            journal.record = None
        if journal.outdated or journal.size > SLACK_BYTES + GROWTH * journal.base:
            data = self._whole(job)
            journal.size = journal.base = sum(map(len, data))
            journal.outdated = False
            self._writer.give(journal, replace, data)
        else:
            self._writer.give(journal, append, data)

    def _whole(self, job: int) -> list[bytes]:
        """A whole journal; what is last is lost first."""
        spec, module, slices, record = self.contents(job)
        data = [MAGIC, entry(SCATTER, spec), entry(JOB, record)]
        if module is not None:
            data.append(entry(MODULE, module))
        return data + [entry(SLICES, payload) for payload in slices]

    def close(self) -> None:
        """Keeps what has gathered and lets go of the directory. Twice is fine."""
        if self._writer is None:
            return
        self._flush_all()
        self._journals.clear()
        writer, self._writer = self._writer, None
        if writer.close():
            os.close(self._lock)
        else:  # the lock stays for as long as the thread may write
            self._warn(f"the disk of {self._directory} is slow: journals may lack their ends")
