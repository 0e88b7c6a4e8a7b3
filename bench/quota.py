"""Nodes held to a share of a CPU each, so that eight of them fit honestly on two cores.

Owns cgroups of version 1 made for one run and removed after it, and the plain loops that show what
such a quota really gives. Method: one parent group with a large weight, so that nothing else on the
machine takes the nodes' turns; under it one group a node with a quota in periods of 10 ms.

`python bench/quota.py LIBRARY FILE` is one such loop: it calls the guest's C function without end,
and keeps in the first 8 bytes of the file how often it has.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path("/sys/fs/cgroup/cpu")
PERIOD_US = 10_000
QUOTA_US_MIN = 1_000  # the kernel takes no less
PARENT_SHARES = 100_000  # of the machine's time against everything else's 1,024
GONE_S = 5.0
READY_S = 10.0
POINTS = 20_000  # of a call of the loop: some 50 us


class Group:
    """One cgroup: the processes of one node. It holds them to nothing until `limit`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def prefix(self) -> list[str]:
        """Words of a command that runs its own words as a program in this group, with all that the
        program starts."""
        return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self._path / "cgroup.procs")]

    def limit(self, share: float) -> None:
        """Holds the group to so much of one CPU; less than a tenth in longer periods."""
        period = max(PERIOD_US, round(QUOTA_US_MIN / share))
        self.release()
        (self._path / "cpu.cfs_period_us").write_text(str(period))
        (self._path / "cpu.cfs_quota_us").write_text(str(round(period * share)))

    def release(self) -> None:
        """Holds it to nothing."""
        (self._path / "cpu.cfs_quota_us").write_text("-1")

    def pids(self) -> list[int]:
        """The processes in the group."""
        return [int(pid) for pid in (self._path / "cgroup.procs").read_text().split()]

    def signal(self, number: int) -> None:
        """Sends all processes of the group a signal."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def remove(self) -> None:
        """Ends what is left in the group, and the group."""
        end = time.monotonic() + GONE_S
        while True:
            self.signal(signal.SIGKILL)
            try:
                self._path.rmdir()
                return
            except OSError:  # it can be removed once its last process is gone
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)


def missing() -> str | None:
    """Why quotas cannot be had here, or None."""
    if not (ROOT / "cpu.cfs_quota_us").exists():
        return f"{ROOT} is no cgroup (version 1) CPU controller"
    if not os.access(ROOT, os.W_OK):
        return f"{ROOT} cannot be written: run as root"
    return None


@contextlib.contextmanager
def groups(count: int) -> Iterator[list[Group]]:
    """So many groups under one parent; what still runs in them at the end is killed."""
    path = ROOT / f"velum-bench-{os.getpid()}"
    path.mkdir()
    made = [Group(path)]
    try:
        (path / "cpu.shares").write_text(str(PARENT_SHARES))
        for number in range(count):
            (path / str(number)).mkdir()
            made.append(Group(path / str(number)))
        yield made[1:]
    finally:
        for group in reversed(made):
            group.remove()


# ---- plain loops: what the machine itself makes of the quotas ----


class Loop:
    """A plain loop of C in a group, which it is not held to before it has begun."""

    def __init__(self, library: Path, group: Group) -> None:
        with tempfile.NamedTemporaryFile(prefix="velum-loop-") as file:
            file.write(bytes(8))
            file.flush()
            command = [sys.executable, __file__, str(library), file.name]
            self._process = subprocess.Popen([*group.prefix, *command])
            self._calls = memoryview(mmap.mmap(file.fileno(), 8)).cast("Q")
            end = time.monotonic() + READY_S
            while not self.calls:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise SystemExit("a plain loop did not begin")
                time.sleep(0.01)

    @property
    def calls(self) -> int:
        """How often it has called so far."""
        return int(self._calls[0])

    def stop(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()


def loops(library: Path, shares: Sequence[float], seconds: float) -> int:
    """How many calls loops held to these shares finish together in so many seconds."""
    with groups(len(shares)) as made:
        running = [Loop(library, group) for group in made]
        for group, share in zip(made, shares, strict=True):
            group.limit(share)
        before = sum(loop.calls for loop in running)
        time.sleep(seconds)
        total = sum(loop.calls for loop in running) - before
        for loop in running:
            loop.stop()
        return total


def run(library: str, file: str) -> None:
    """One of them."""
    call = ctypes.CDLL(library).pi_hits
    with open(file, "r+b") as counter:
        calls = memoryview(mmap.mmap(counter.fileno(), 8)).cast("Q")
    while True:
        call(0, POINTS)
        calls[0] += 1


if __name__ == "__main__":
    run(*sys.argv[1:])
