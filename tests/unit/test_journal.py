"""Journals: what was told comes back; what is damaged is noticed, cut off, and never believed."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from velum import _core, journal
from velum.errors import VelumError
from velum.journal import HEAD, MAGIC, SYNC_MS, Contents, Journals, Restored
from velum.policy.job import I32, Record, Reduce, Spec, State
from velum.runtime import now_ms

JOB = 0x1234_5678_9ABC_DEF0
MODULE = b"\0asm\1\0\0\0"
PATIENCE_S = 20.0


def spec_of(job: int) -> bytes:
    args = ((I32, 0), (I32, 100))
    fields = (job, 0, Reduce.SUM, 10, I32, 100, 0, 0, 0, 0, 0, 1, _core.module_hash(MODULE))
    return _core.encode_scatter(Spec(*fields, "run", "guest.wasm", args))


def said(job: int, state: State = State.RUNNING, attempt: int = 0, **changes: Any) -> Record:
    record = Record(
        job, attempt, state, 1, 7, 1, 100, 3, 0, 0, 5, 0, 0, 0, "", None, (7, 8), ()
    )  # fmt: skip
    return record._replace(**changes)


def record_of(job: int, *args: Any, **changes: Any) -> bytes:
    return _core.encode_job(said(job, *args, **changes))


def tell(journals: Journals, record: Record) -> None:
    journals.record(record, _core.encode_job(record))


def slices_of(job: int, first: int, *values: int) -> bytes:
    run = (first, b"".join(value.to_bytes(8, "little") for value in values))
    (payload,) = _core.encode_slices(job, [run], [])
    return payload


class Rig:
    """Journals in a directory, and the warnings they give."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.warnings: list[str] = []
        self.journals = Journals(directory, self.warnings.append)
        self.journals.contents = self.contents
        self.whole: dict[int, Contents] = {}

    def contents(self, job: int) -> Contents:
        return self.whole[job]

    def path(self, job: int = JOB) -> Path:
        return self.directory / "jobs" / f"{job:016x}.job"

    def tick(self) -> None:
        """A second passes."""
        self.journals.on_time(now_ms() + SYNC_MS)

    def settle(self) -> None:
        """Everything is told and on the disk."""
        self.journals.close()

    def again(self) -> Rig:
        """The next start."""
        self.settle()
        return Rig(self.directory)

    def restore(self) -> dict[str, Restored]:
        """By label of the spec's job."""
        return {r.spec[:8].hex(): r for r in self.journals.restore()}

    def only(self) -> Restored:
        (restored,) = self.restore().values()
        return restored


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.settle()


def write_all(journals: Journals, job: int = JOB) -> list[bytes]:
    """A small job, to its end."""
    slices = [slices_of(job, 0, 5, 6), slices_of(job, 2, 7)]
    journals.begin(job, spec_of(job))
    journals.module(job, MODULE)
    journals.slices(job, slices)
    tell(journals, said(job, State.DONE))
    return slices


# ---- the ordinary way ----


def test_what_was_told_comes_back(rig: Rig) -> None:
    slices = write_all(rig.journals)
    write_all(rig.journals, 9)
    rig = rig.again()
    found = rig.restore()
    assert len(found) == 2
    assert found[spec_of(JOB)[:8].hex()] == Restored(
        spec_of(JOB), MODULE, record_of(JOB, State.DONE), slices
    )
    assert rig.warnings == []
    rig.settle()


def test_a_restored_journal_goes_on(rig: Rig) -> None:
    slices = write_all(rig.journals)
    rig = rig.again()
    rig.restore()
    before = rig.path().stat().st_size
    more = slices_of(JOB, 9, 1)
    rig.journals.begin(JOB, spec_of(JOB))
    rig.journals.module(JOB, MODULE)
    tell(rig.journals, said(JOB, State.DONE))
    rig.journals.slices(JOB, [more])
    rig = rig.again()
    assert rig.only().slices == [*slices, more]
    assert rig.path().stat().st_size == before + HEAD.size + len(more), "nothing is told twice"
    rig.settle()


def test_without_a_directory_nothing_is_kept() -> None:
    journals = Journals(None, pytest.fail)
    write_all(journals)
    assert not journals.open and list(journals.restore()) == []
    assert journals.next_deadline() is None
    journals.on_time(now_ms())
    journals.forget(JOB)
    journals.close()


def test_a_forgotten_job_leaves_no_file(rig: Rig) -> None:
    write_all(rig.journals)
    rig.journals.forget(JOB)
    rig.journals.slices(JOB, [slices_of(JOB, 0, 1)])
    rig = rig.again()
    assert rig.restore() == {} and not rig.path().exists()
    rig.settle()


def eventually(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.002)


def test_it_syncs_once_a_second_while_it_grows_and_at_once_at_the_end(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(journal, "_datasync", lambda fd: synced.append(os.fstat(fd).st_size))
    journals = rig.journals
    assert journals.next_deadline() is None
    journals.begin(JOB, spec_of(JOB))
    for first in range(10):
        journals.slices(JOB, [slices_of(JOB, first, 1)])
        tell(journals, said(JOB, done=first))
    due = journals.next_deadline()
    assert due is not None and now_ms() < due <= now_ms() + SYNC_MS
    journals.on_time(due - 1)
    assert journals.next_deadline() == due
    rig.tick()
    assert journals.next_deadline() is None
    eventually(lambda: len(synced) == 1)
    assert rig.path().read_bytes().count(record_of(JOB, done=9)) == 1
    assert record_of(JOB, done=8) not in rig.path().read_bytes(), "one record a second at most"
    tell(journals, said(JOB, State.DONE))
    eventually(lambda: len(synced) == 2)
    assert rig.path().stat().st_size == synced[1]


def test_a_record_that_says_nothing_new_is_not_kept(rig: Rig) -> None:
    rig.journals.begin(JOB, spec_of(JOB))
    tell(rig.journals, said(JOB))
    rig.tick()
    tell(rig.journals, said(JOB, sequence=9, elapsed_ms=999))
    assert rig.journals.next_deadline() is None
    tell(rig.journals, said(JOB, holders=(7,)))
    assert rig.journals.next_deadline() is not None


# ---- damage ----


def saved(rig: Rig) -> tuple[bytes, list[int]]:
    """A small journal's bytes, and where its entries end."""
    write_all(rig.journals)
    rig.settle()
    data = rig.path().read_bytes()
    ends, at = [], len(MAGIC)
    while at < len(data):
        at += HEAD.size + HEAD.unpack_from(data, at)[0]
        ends.append(at)
    return data, ends


def test_every_prefix_gives_what_is_whole_in_it(rig: Rig) -> None:
    data, ends = saved(rig)
    for size in range(len(data) + 1):
        rig.path().write_bytes(data[:size])
        now = Rig(rig.directory)
        found = list(now.journals.restore())
        whole = [end for end in ends if end <= size]
        if not whole:
            assert found == [] and "does not begin as one" in now.warnings[0], size
            assert rig.path().with_suffix(".damaged").read_bytes() == data[:size]
        else:
            (restored,) = found
            count = len(restored.slices) + sum(part is not None for part in restored[:3])
            assert count == len(whole), size
            assert rig.path().read_bytes() == data[: whole[-1]], "the tail is cut off"
            assert bool(now.warnings) == (size != whole[-1]), size
            assert size == whole[-1] or f"offset {whole[-1]}" in now.warnings[0]
        now.settle()


def test_every_flipped_bit_is_noticed(rig: Rig) -> None:
    data, ends = saved(rig)
    for bit in range(8 * len(data)):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        restored, good = journal.read_journal(io.BytesIO(broken), len(broken), JOB)
        whole = [end for end in ends if end <= bit // 8]
        assert good == (whole[-1] if whole else 0), f"bit {bit}"
        assert (restored is None) == (not whole)


def test_entries_of_another_job_or_of_nothing_are_not_believed(rig: Rig) -> None:
    data, _ = saved(rig)
    for bad in (
        journal.entry(journal.SLICES, slices_of(9, 0, 1)),
        journal.entry(journal.JOB, record_of(9)),
        journal.entry(journal.JOB, b"short"),
        journal.entry(journal.MODULE, MODULE + b"\0"),
        journal.entry(journal.SCATTER, spec_of(JOB)),
        journal.entry(5, b""),
        HEAD.pack(0xFFFF_FFFF, 0, journal.SLICES),
    ):
        rig.path().write_bytes(data + bad)
        now = Rig(rig.directory)
        assert len(now.only().slices) == 2
        assert f"{len(bad)} bytes from offset {len(data)}" in now.warnings[0]
        now.settle()
        assert rig.path().read_bytes() == data
    rig.path(9).write_bytes(data)
    now = Rig(rig.directory)
    assert len(now.restore()) == 1, "a file under another job's name is none"
    now.settle()


def test_a_file_that_cannot_be_read_does_not_stop_the_others(rig: Rig) -> None:
    write_all(rig.journals)
    rig.settle()
    rig.path(9).mkdir()
    (rig.directory / "jobs" / "notes.txt").write_text("mine")
    now = Rig(rig.directory)
    assert len(now.restore()) == 1 and len(now.warnings) == 1
    assert str(rig.path(9)) in now.warnings[0]
    now.settle()


# ---- a journal that grows ----


def grow(rig: Rig, kilobytes: int) -> None:
    """Many records, as of a job that goes on for days."""
    size = len(record_of(JOB)) + HEAD.size
    for done in range(kilobytes * 1024 // size):
        tell(rig.journals, said(JOB, done=done % 100))
        rig.tick()


def test_records_do_not_make_a_file_grow_without_bound(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SLACK_BYTES", 8 << 10)
    monkeypatch.setattr(journal, "_datasync", lambda fd: None)
    rig.journals.begin(JOB, spec_of(JOB))
    kept = slices_of(JOB, 0, 1, 2, 3)
    rig.whole[JOB] = (spec_of(JOB), MODULE, [kept], record_of(JOB, done=5))
    grow(rig, 64)
    rig = rig.again()
    assert rig.path().stat().st_size < 12 << 10
    restored = rig.only()
    assert (restored.spec, restored.module, restored.slices) == (spec_of(JOB), MODULE, [kept])
    rig.settle()


def test_what_failed_in_an_earlier_attempt_is_forgotten(rig: Rig) -> None:
    (failed,) = _core.encode_slices(JOB, [], [(3, 60, "trap")])
    rig.journals.begin(JOB, spec_of(JOB))
    rig.journals.slices(JOB, [failed])
    tell(rig.journals, said(JOB, State.FAILED, code=60))
    rig.whole[JOB] = (spec_of(JOB), None, [], record_of(JOB, attempt=1))
    tell(rig.journals, said(JOB, attempt=1))
    rig = rig.again()
    assert rig.only() == Restored(spec_of(JOB), None, record_of(JOB, attempt=1), [])
    rig.settle()


class Crash(BaseException):
    """The process ends here."""


class CrashingSystem:
    """The module `os`, of which the n-th change of a file never happens, nor anything after it."""

    def __init__(self, crash_at: int) -> None:
        self.left = crash_at
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in ("open", "write", "ftruncate", "fdatasync", "fsync", "replace"):
            return real

        def call(*args: Any) -> Any:
            self.calls.append(name)
            self.left -= 1
            if self.left < 0:
                raise Crash
            return real(*args)

        return call


def test_a_crash_at_any_point_of_writing_anew_leaves_one_whole_journal(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, _ = saved(rig)
    new = MAGIC + journal.entry(journal.SCATTER, spec_of(JOB))
    new += journal.entry(journal.JOB, record_of(JOB))
    states = set()
    for crash_at in range(20):
        rig.path().write_bytes(old)
        system = CrashingSystem(crash_at)
        with monkeypatch.context() as patch:
            patch.setattr(journal, "os", system)
            patch.setattr(journal, "_datasync", system.fdatasync)
            try:
                journal.replace(rig.path(), [new[:9], new[9:]])
                ended = True
            except Crash:
                ended = False
        found = rig.path().read_bytes()
        assert found in (old, new)
        states.add(found)
        now = Rig(rig.directory)
        assert len(now.restore()) == 1 and now.warnings == []
        now.settle()
        assert not rig.path().with_suffix(".new").exists()
        if ended:
            break
    assert ended and found == new and states == {old, new}
    order = ["open", "write", "write", "fdatasync", "replace", "open", "fsync"]
    assert system.calls == order, "it is on the disk before it takes the name"


# ---- a disk that fails ----


def test_a_disk_that_fails_ends_that_journal_with_one_warning(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_all(rig.journals, 9)
    rig.journals.begin(JOB, spec_of(JOB))
    eventually(rig.path().exists)

    def fail(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}") == str(rig.path()):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(journal, "_datasync", fail)
    for first in range(5):
        rig.journals.slices(JOB, [slices_of(JOB, first, 1)])
        rig.journals.slices(9, [slices_of(9, first, 1)])
        rig.tick()
    rig.settle()
    (warning,) = rig.warnings
    assert str(rig.path()) in warning and "Input/output error" in warning
    rig = Rig(rig.directory)
    found = rig.restore()
    assert len(found[spec_of(9)[:8].hex()].slices) == 2 + 5, "the other job's journal went on"
    assert found[spec_of(JOB)[:8].hex()].slices == [] and rig.warnings == []
    rig.settle()


def test_full_disk(tmp_path: Path) -> None:
    """A limit on the size of files stands for the end of the disk."""
    program = """
import resource, sys
from tests.unit.test_journal import *
rig = Rig(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
for job in (JOB, 9):
    rig.journals.begin(job, spec_of(job))
for first in range(0, 100, 10):
    rig.journals.slices(JOB, [slices_of(JOB, first, *range(10))] * 30)
    rig.tick()
write_all(rig.journals, 9)
rig.settle()
assert len(rig.warnings) == 1, rig.warnings
print(rig.warnings[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "ends here" in done.stdout and "The job goes on" in done.stdout
    rig = Rig(tmp_path)
    found = rig.restore()
    assert len(found) == 2 and rig.warnings == [], "what did not fit left no torn tail"
    assert found[spec_of(JOB)[:8].hex()].slices, "what fitted is there"
    assert found[spec_of(9)[:8].hex()].record == record_of(9, State.DONE)
    rig.settle()


def test_a_disk_that_hangs_does_not_hold_up_the_loop(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, hangs = threading.Event(), threading.Event()

    def hang(_fd: int) -> None:
        hangs.set()
        assert goes_on.wait(PATIENCE_S)

    monkeypatch.setattr(journal, "_datasync", hang)
    monkeypatch.setattr(journal, "BEHIND_BYTES_MAX", 4096)
    monkeypatch.setattr(journal, "CLOSE_S", 0.01)
    write_all(rig.journals)
    assert hangs.wait(PATIENCE_S)
    for first in range(90):
        rig.journals.slices(JOB, [slices_of(JOB, first, *range(10))])
        rig.tick()
    assert len(rig.warnings) == 1 and "does not keep up" in rig.warnings[0]
    rig.journals.close()
    assert "is slow" in rig.warnings[1]
    goes_on.set()


# ---- two processes ----


def test_a_directory_has_one_user(tmp_path: Path) -> None:
    program = "import sys; from tests.unit.test_journal import *; rig = Rig(Path(sys.argv[1])); " \
              "write_all(rig.journals); rig.tick(); print(flush=True); signal.pause()"  # fmt: skip
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None and other.stdout.readline()
            with pytest.raises(VelumError, match="--state-dir of its own") as caught:
                Rig(tmp_path)
            assert caught.value.name == "ARGUMENT"
            path = tmp_path / "jobs" / f"{JOB:016x}.job"
            eventually(lambda: path.exists() and record_of(JOB, State.DONE) in path.read_bytes())
        finally:
            other.send_signal(signal.SIGKILL)
    rig = Rig(tmp_path)
    assert len(rig.only().slices) == 2, "a process that was killed has kept what it told"
    rig.settle()


def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(VelumError, match="--state-dir") as caught:
        Rig(tmp_path / "file")
    assert caught.value.name == "SYSTEM"
