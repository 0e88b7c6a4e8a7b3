"""A simulated machine with one process at a time: its life, what reaches it, and when it wakes.

Owns: whether the process runs, is stopped or has ended, what waits for it meanwhile, and its next
wake-up. Refuses to know: what the process does, and how anything travels to it.

How: all that reaches a process comes through `post`, so a stopped one finds it later and a new one
never; `life` counts the processes of one machine.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

from velum.sim.network import Network


class Status(Enum):
    """What a process is doing."""

    UP = "up"
    PAUSED = "paused"  # it is stopped (SIGSTOP); its links, and its workers, go on
    KILLED = "killed"  # it has ended; links close at once, dials are refused
    OFF = "off"  # its machine is gone without a trace


class Time(Protocol):
    """What a machine has to know of its world."""

    network: Network

    @property
    def now_ms(self) -> int: ...


class Host:
    """One machine; who knows what runs there overrides `next_deadline` and `on_time`."""

    clock_ms: int  # the process's monotonic clock when the world's was 0

    def __init__(self, time: Time, id: int) -> None:
        self.id = id
        self.status = Status.OFF
        self.life = 0
        self.inbox: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.wake_ms: int | None = None
        self._time = time

    def start(self) -> None:
        """A new process begins."""
        self.life += 1
        self.status = Status.UP
        self.inbox = []
        self.wake_ms = None

    @property
    def now_ms(self) -> int:
        """Its own monotonic clock."""
        return self.clock_ms + self._time.now_ms

    @property
    def live(self) -> bool:
        return self.status in (Status.UP, Status.PAUSED)

    def post(self, life: int, action: Callable[..., None], *args: Any) -> None:
        """Something reaches the process, once it runs on if it is stopped; not a later one."""
        if self.life != life or not self.live:
            return
        if self.status is Status.PAUSED:
            self.inbox.append((action, args))
        else:
            action(*args)

    def after(self, ms: float, action: Callable[..., None], *args: Any) -> None:
        """The same a little later."""
        when_ms = self._time.now_ms + max(0, round(ms))
        self._time.network.at(when_ms, self.post, self.life, action, *args)

    def end(self, status: Status) -> None:
        """The process ends."""
        self.status = status

    def resume(self) -> None:
        """The process runs on, and finds what its sockets kept for it."""
        self.status = Status.UP
        inbox, self.inbox = self.inbox, []
        life = self.life
        for action, args in inbox:
            self.post(life, action, *args)
        if self.life == life and self.status is Status.UP:
            self.on_time()
            self.plan_wake()

    # ---- timers ----

    def next_deadline(self) -> int | None:
        """When `on_time` is due, by its own clock."""
        raise NotImplementedError

    def on_time(self) -> None:
        """Its deadline has come, or may have."""
        raise NotImplementedError

    def plan_wake(self) -> None:
        """To be called after each step."""
        due = self.next_deadline()
        if due is None:
            return
        now_ms = self._time.now_ms
        when_ms = max(now_ms, due - self.clock_ms)
        if self.wake_ms is not None and now_ms <= self.wake_ms <= when_ms:
            return
        self.wake_ms = when_ms
        self._time.network.at(when_ms, self._wake, self.life, when_ms)

    def _wake(self, life: int, planned_ms: int) -> None:
        if self.life != life or self.wake_ms != planned_ms:
            return
        self.wake_ms = None
        if self.status is Status.UP:
            self.on_time()
            self.plan_wake()
