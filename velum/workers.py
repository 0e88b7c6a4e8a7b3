"""The worker processes of a node.

Owns starting `velum-worker` on one end of a socketpair, adopting the other end into the hub, at
which priority of the system it runs, and ending processes for certain. Refuses to know tasks: which
worker runs what is the pool's business.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from velum import _core
from velum.errors import VelumError, code_of
from velum.installed import installed

PROGRAM = "velum-worker"

# Workers for leases give way a little to the node's loop and to single tasks, where both want a
# core: a nice value of 2 leaves them two parts in five. More would let any other program of the
# machine starve a scatter, while a loop that has slept is run at once anyway.
LEASE_NICE = 2


def worker_program() -> str:
    """The path of the worker program: VELUM_WORKER, or the installed one. VelumError SYSTEM."""
    named = os.environ.get("VELUM_WORKER")
    program = Path(named) if named else installed(PROGRAM)
    if not os.access(program, os.X_OK):
        raise VelumError(code_of("SYSTEM"), f"{program} is no program that can be run")
    return str(program)


def lower_priority(pid: int, nice: int) -> bool:
    """Lowers a process's priority by so much; False if it is to be tried again, nothing being done.

    Linux may group processes by session, and each worker has one of its own (sched(7), "The
    autogroup feature"): nice values then count within a group only, and the group has one too. A
    user may set one such value every tenth of a second.
    """
    try:
        with open(f"/proc/{pid}/autogroup", "w") as file:
            file.write(str(nice))
    except BlockingIOError:
        return False
    except OSError:  # no such feature here
        pass
    with contextlib.suppress(OSError):  # it is gone already
        os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, pid) + nice)
    return True


@dataclass
class Worker:
    """One slot's process. `link` is its handle in the hub, `settled`: it has its priority."""

    slot: int
    process: subprocess.Popen[bytes]
    link: int
    settled: bool = True


class Workers:
    """The processes by slot; at most one a slot."""

    def __init__(self, hub: _core.Hub, node: int, pages: int, nice: int = 0) -> None:
        self._hub = hub
        self._nice = nice
        self._program = ""
        self._arguments = ["--node", str(node), "--memory-pages", str(pages)]
        self._by_slot: dict[int, Worker] = {}
        self._slot_of: dict[int, int] = {}

    def spawn(self, slot: int) -> None:
        """Starts a process in an empty slot. Raises OSError or VelumError when none can be."""
        self._program = self._program or worker_program()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            try:
                process = subprocess.Popen(
                    [self._program, "--fd", str(theirs.fileno()), *self._arguments],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,
                )
            except OSError:
                ours.close()
                raise
        link = self._hub.adopt(ours.detach())
        self._by_slot[slot] = Worker(slot, process, link, settled=not self._nice)
        self._slot_of[link] = slot

    def settle(self, slot: int) -> None:
        """Sees to it that a worker which is ready, and so has set its own priority as all workers
        do, runs from now on at the one that it shall have."""
        worker = self._by_slot.get(slot)
        if worker is not None and not worker.settled:
            worker.settled = lower_priority(worker.process.pid, self._nice)

    def slot_of(self, link: int) -> int | None:
        """The slot whose worker is at this link, None if it is no worker's."""
        return self._slot_of.get(link)

    def link_of(self, slot: int) -> int | None:
        """The link of the worker in a slot."""
        worker = self._by_slot.get(slot)
        return None if worker is None else worker.link

    def pids(self) -> Iterator[int]:
        """Process ids of the workers alive."""
        for worker in self._by_slot.values():
            yield worker.process.pid

    def kill(self, slot: int) -> None:
        """Ends the process in a slot at once; its link closes by that."""
        worker = self._by_slot.get(slot)
        if worker is not None:
            worker.process.kill()

    def closed(self, link: int) -> int | None:
        """The link of a worker closed: reaps its process; the slot, now empty."""
        slot = self._slot_of.pop(link, None)
        if slot is None:
            return None
        worker = self._by_slot.pop(slot)
        worker.process.kill()
        worker.process.wait()
        return slot

    def close(self) -> None:
        """Ends all of them."""
        for worker in self._by_slot.values():
            worker.process.kill()
        for worker in self._by_slot.values():
            worker.process.wait()
        self._by_slot.clear()
        self._slot_of.clear()
