"""The pool: which worker process of this node runs which placed task, and when.

Owns: the queue of tasks that schedulers, our own included, have placed here; what each worker is
doing; when a worker is started, stopped by force, started again. Refuses to know: processes,
sockets, payloads, modules, results; a worker's answer is passed on unread.

A worker has one task at a time. Tasks wait by group: the origin, the link they came over, unless
another is named. Groups share the workers' time fairly (`shares.py`), and those that have had the
same take turns, so that one that sends a thousand delays another's single task by one task only.
The queue is bounded, and a group may hold no more of it than is still free (dynamic queue length
thresholds: Choudhury and Hahne, IEEE/ACM ToN 1998): alone it gets half, and a newcomer always finds
room. A task may also be a scatter's lease: nothing here depends on it.

A worker slot's way:

    state     event                         then
    DOWN      its time to start has come    Spawn, STARTING
    STARTING  ready                         IDLE
    STARTING  10 s passed                   Kill, KILLED
    IDLE      a task waits                  Give, RUNNING
    RUNNING   answered its task             Forward, IDLE
    RUNNING   died                          Reply WORKER_DIED, one death; DOWN, to start at once
    RUNNING   cancelled, or time is up      CancelOn, STOPPING
    RUNNING   origin lost                   CancelOn, STOPPING; its end will be a Drop
    RUNNING   leave's grace over            Kill, KILLED; Reply LEAVING when it is dead
    STOPPING  answered its task             Forward, IDLE
    STOPPING  100 ms passed                 Kill, KILLED
    STOPPING  died                          Reply with the code of the stop; DOWN, to start at once
    KILLED    answered its task             Forward
    KILLED    died                          Reply if it still had a task; DOWN, to start at once
    STARTING, IDLE  died                    DOWN, to start after a back-off

A kill of ours never counts as the task's fault. What the table does not name is ignored: it comes
from a peer, from a worker that was killed meanwhile, or from a guest that broke out of its engine.

A task is known by its key: origin and ticket. Every key that arrives ends with exactly one Forward,
Reply, or, if its origin was lost or it was withdrawn, Drop; one that arrives while it is still here
is ignored. A task is refused when the queue is full (BUSY), no worker can be started (NO_WORKER),
or the node leaves (LEAVING).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from .agenda import Agenda
from .shares import Shares
from .tasks import Code

Key = tuple[int, int]
"""Origin (any number that stands for the link, the same while that lives) and ticket."""

# Tasks that may wait. The schedulers' windows are a few a worker, so this serves hundreds of
# schedulers, and a health report counts to 65,535.
QUEUE_MAX: Final = 4096
# A guest that is cancelled stops at a back-edge within a millisecond or two; one that does not is
# inside something endless, and half of what a caller is promised (200 ms) is left to kill it.
STOP_MS: Final = 100
# A worker starts in some 20 ms and calibrates in 100; much later it hangs.
START_MS_MAX: Final = 10_000
# Back-off of a worker that dies before it has run anything; doubles up to the maximum.
SPAWN_BACKOFF_MS: Final = 100
SPAWN_BACKOFF_MS_MAX: Final = 5000
# When the node leaves, what runs may go on so long; Ctrl-C should not take longer.
LEAVE_MS: Final = 2000


class State(Enum):
    """What a worker slot is doing."""

    DOWN = "down"
    STARTING = "starting"
    IDLE = "idle"
    RUNNING = "running"
    STOPPING = "stopping"
    KILLED = "killed"


# ---- events ----


@dataclass(slots=True)
class TaskArrived:
    """A peer placed a task here; `timeout_ms` is what is left of its time, 0: no limit. It waits
    with its group (None: its origin), whose share of the workers against others is `weight`."""

    key: Key
    timeout_ms: int = 0
    group: int | None = None
    weight: int = 1


@dataclass(slots=True)
class CancelArrived:
    """The origin wants the task stopped; it shall end with `code`. Ignored if it is not here."""

    key: Key
    code: int = Code.CANCELLED


@dataclass(slots=True)
class TaskWithdrawn:
    """Nobody wants the task any more, and nobody waits for an answer. Ignored once it runs."""

    key: Key


@dataclass(slots=True)
class OriginLost:
    """The link that tasks came over is closed: nobody waits for their answers."""

    origin: int


@dataclass(slots=True)
class WorkerReady:
    """A worker said HELLO; `speed` as in Health, 0: unknown."""

    slot: int
    speed: int = 0


@dataclass(slots=True)
class WorkerAnswered:
    """A worker sent RESULT or ERROR for the task of this key."""

    slot: int
    key: Key


@dataclass(slots=True)
class WorkerDied:
    """A worker's process is gone, or could not be started."""

    slot: int


@dataclass(slots=True)
class LeaveStarted:
    """The node leaves the mesh: no more tasks; Drained says when nothing runs any more."""


@dataclass(slots=True)
class TimePassed:
    """The instant that next_deadline() named has come. Early or late does no harm."""


Event = (
    TaskArrived
    | CancelArrived
    | TaskWithdrawn
    | OriginLost
    | WorkerReady
    | WorkerAnswered
    | WorkerDied
    | LeaveStarted
    | TimePassed
)

# ---- effects ----


@dataclass(slots=True)
class Give:
    """Send the task to the worker; `timeout_ms` is what is left of its time, 0: no limit."""

    slot: int
    key: Key
    timeout_ms: int


@dataclass(slots=True)
class CancelOn:
    """Tell the worker to stop its task, which shall end with `code`."""

    slot: int
    key: Key
    code: int


@dataclass(slots=True)
class Kill:
    """End the worker's process by force; WorkerDied must follow."""

    slot: int


@dataclass(slots=True)
class Spawn:
    """Start a worker's process; WorkerReady or WorkerDied must follow."""

    slot: int


@dataclass(slots=True)
class Forward:
    """Pass the worker's answer, the event's, on to the origin."""

    key: Key


@dataclass(slots=True)
class Reply:
    """Answer the origin with ERROR."""

    key: Key
    code: int
    deaths: int
    text: str


@dataclass(slots=True)
class Drop:
    """Forget the task: nobody waits for its answer, and no worker has it any more."""

    key: Key


@dataclass(slots=True)
class Drained:
    """Nothing runs here any more and nothing will. Comes once."""


Effect = Give | CancelOn | Kill | Spawn | Forward | Reply | Drop | Drained

# Kinds of alarms, and what their keys name.
_SLOT, _TASK, _LEAVE = range(3)  # slot, key of the task, nothing (0)


@dataclass(slots=True, eq=False)
class _Slot:
    number: int
    state: State = State.DOWN
    key: Key | None = None  # the task it has
    code: int = 0  # how that ends if the worker dies; 0: it was not stopped
    mute: bool = False  # nobody waits for its answer
    failures: int = 0  # deaths since a worker here last answered a task
    proven: bool = False  # the latest start succeeded
    speed: int = 0


class Pool:
    """The state machine, driven as the scheduler is. The first TimePassed, due at once, starts the
    workers."""

    def __init__(self, slots: int) -> None:
        """A pool of so many workers, 0 to 255."""
        self._slots = [_Slot(number) for number in range(slots)]
        self._idle: list[_Slot] = []  # the one used last is used next: its module is still there
        self._running: dict[Key, _Slot] = {}
        self._queue: Shares[Key] = Shares()  # notes when the task's time is up, 0: never
        self._leaving = False
        self._drained = False
        self._agenda = Agenda()
        self._now = 0
        self._out: list[Effect] = []
        self._handlers: dict[type, Callable[[Any], None]] = {
            TaskArrived: self._on_task,
            CancelArrived: self._on_cancel,
            TaskWithdrawn: self._on_withdrawn,
            OriginLost: self._on_origin_lost,
            WorkerReady: self._on_ready,
            WorkerAnswered: self._on_answered,
            WorkerDied: self._on_died,
            LeaveStarted: self._on_leave,
            TimePassed: self._on_time,
        }
        for slot in self._slots:
            self._agenda.set((_SLOT, slot.number), 0)

    # ---- the face ----

    def handle(self, event: Event, now: int) -> list[Effect]:
        """Takes one event; `now` in milliseconds, never smaller than before."""
        self._now = now
        self._handlers[type(event)](event)
        self._serve()
        if self._leaving and not self._running and not self._drained:
            self._drained = True
            self._out.append(Drained())
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> int | None:
        """When TimePassed is due, or None."""
        return self._agenda.next()

    @property
    def queued(self) -> int:
        """Tasks that wait for a worker: Health.queue."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Workers that are busy: Health.running."""
        return len(self._running)

    @property
    def slots(self) -> int:
        """Workers that tasks can count on: Health.slots. One that is being started counts, for the
        first time or after a task has killed it; one that does not start does not."""
        return sum(slot.proven or not slot.failures for slot in self._slots)

    @property
    def speed(self) -> int:
        """Speed of a worker: Health.speed. The largest measured, for what disturbs a measurement
        can only make it smaller."""
        return max((slot.speed for slot in self._slots), default=0)

    def validate(self) -> None:
        """Raises AssertionError if an invariant does not hold."""
        self._queue.validate(self._running)
        assert self.queued <= QUEUE_MAX, "more tasks wait than the limit"
        assert not (self.queued and self._idle), "a task waits though a worker is idle"
        assert not (self.queued and self._leaving), "a task waits in a node that leaves"
        assert not (self._leaving and not self._running) or self._drained, "Drained is owed"
        for key, deadline in self._queue.waiting().items():
            assert ((_TASK, key) in self._agenda) == bool(deadline), "a deadline is lost"
        for key, slot in self._running.items():
            assert slot.key == key and self._slots[slot.number] is slot, "runs elsewhere"
        for slot in self._slots:
            busy = slot.state in (State.RUNNING, State.STOPPING)
            assert slot.key in self._running or (slot.key is None and not busy), "runs nothing"
            assert slot.key is None or busy or slot.state is State.KILLED, "runs without a worker"
            assert (slot in self._idle) == (slot.state is State.IDLE), "idle is miscounted"
            timed = slot.state in (State.STARTING, State.STOPPING, State.DOWN) and not self._leaving
            assert not timed or (_SLOT, slot.number) in self._agenda, "a slot waits for ever"

    # ---- tasks ----

    def _on_task(self, event: TaskArrived) -> None:
        key = event.key
        if key in self._queue or key in self._running:
            return
        name = key[0] if event.group is None else event.group
        if self._leaving:
            self._reply(key, Code.LEAVING, "node is leaving the mesh")
        elif self._hopeless():
            self._reply(key, Code.NO_WORKER, self._hopeless_text())
        elif (waiting := self._queue.waiting_of(name)) >= QUEUE_MAX - self.queued:
            whose = "over this link" if event.group is None else "for the same job"
            text = f"{self.queued} tasks wait here for {self.slots} workers"
            self._reply(key, Code.BUSY, f"{text}, {waiting} of them {whose}")
        else:
            deadline = self._now + event.timeout_ms if event.timeout_ms else 0
            if deadline:
                self._agenda.set((_TASK, key), deadline)
            self._queue.add(key, name, event.weight, deadline, self._now)

    def _on_cancel(self, event: CancelArrived) -> None:
        self._end(event.key, event.code, "task was cancelled")

    def _end(self, key: Key, code: int, text: str) -> None:
        """Ends a task before its time, wherever it is."""
        slot = self._running.get(key)
        if slot is not None:
            self._stop(slot, code)
        elif key in self._queue:
            self._unqueue(key)
            self._reply(key, code, f"{text} while it waited for a worker")

    def _unqueue(self, key: Key) -> None:
        self._queue.remove(key)
        self._agenda.cancel((_TASK, key))

    def _on_withdrawn(self, event: TaskWithdrawn) -> None:
        if event.key in self._queue:
            self._unqueue(event.key)
            self._out.append(Drop(event.key))

    def _on_origin_lost(self, event: OriginLost) -> None:
        for key in self._queue.waiting():
            if key[0] == event.origin:
                self._unqueue(key)
                self._out.append(Drop(key))
        for key, slot in self._running.items():
            if key[0] == event.origin:
                slot.mute = True
                self._stop(slot, Code.CANCELLED)

    def _on_leave(self, _event: LeaveStarted) -> None:
        if not self._leaving:
            self._leaving = True
            self._agenda.set((_LEAVE, 0), self._now + LEAVE_MS)
            self._refuse_queued(Code.LEAVING, "node is leaving the mesh")

    def _refuse_queued(self, code: Code, text: str) -> None:
        for key in self._queue.waiting():
            self._unqueue(key)
            self._reply(key, code, text)

    def _reply(self, key: Key, code: int, text: str, deaths: int = 0) -> None:
        self._out.append(Reply(key, code, deaths, text))

    def _hopeless(self) -> bool:
        """No worker runs, none has been able to start, or there are to be none."""
        return all(slot.failures and not slot.proven for slot in self._slots)

    def _hopeless_text(self) -> str:
        return (
            f"none of the {len(self._slots)} workers starts" if self._slots else "no workers here"
        )

    # ---- workers ----

    def _serve(self) -> None:
        """Gives waiting tasks to idle workers."""
        while self._idle and self._queue:
            key, deadline = self._queue.take(self._now)
            slot = self._idle.pop()
            slot.state, slot.key = State.RUNNING, key
            self._running[key] = slot
            left = max(1, deadline - self._now) if deadline else 0
            self._out.append(Give(slot.number, key, left))

    def _release(self, slot: _Slot) -> Key | None:
        """Takes the task from a slot; its key, if anybody waits for the answer."""
        key, mute = slot.key, slot.mute
        slot.key, slot.code, slot.mute = None, 0, False
        if key is None:
            return None
        del self._running[key]
        self._queue.end(key, self._now)
        self._agenda.cancel((_TASK, key))
        if mute:
            self._out.append(Drop(key))
            return None
        return key

    def _on_ready(self, event: WorkerReady) -> None:
        slot = self._slots[event.slot]
        if slot.state is State.STARTING:
            slot.state, slot.speed, slot.proven = State.IDLE, event.speed, True
            self._agenda.cancel((_SLOT, slot.number))
            self._idle.append(slot)

    def _on_answered(self, event: WorkerAnswered) -> None:
        slot = self._slots[event.slot]
        if slot.key != event.key:
            return
        slot.failures = 0
        if self._release(slot) is not None:
            self._out.append(Forward(event.key))
        if slot.state is not State.KILLED:
            slot.state = State.IDLE
            self._agenda.cancel((_SLOT, slot.number))
            self._idle.append(slot)

    def _on_died(self, event: WorkerDied) -> None:
        slot = self._slots[event.slot]
        state, code = slot.state, slot.code
        if state is State.DOWN:
            return
        key = self._release(slot)
        if key is not None and state is State.RUNNING:
            self._reply(key, Code.WORKER_DIED, "the worker died while it ran the task", deaths=1)
        elif key is not None:
            self._reply(key, code, "the worker was stopped by force")
        if state is State.IDLE:
            self._idle.remove(slot)
        if state in (State.IDLE, State.STARTING):
            self._fails(slot)
        slot.state = State.DOWN
        if slot.failures:
            delay = SPAWN_BACKOFF_MS << min(slot.failures - 1, 16)
            self._agenda.set((_SLOT, slot.number), self._now + min(delay, SPAWN_BACKOFF_MS_MAX))
        else:
            self._slot_due(slot)
        if self._hopeless():
            self._refuse_queued(Code.NO_WORKER, self._hopeless_text())

    @staticmethod
    def _fails(slot: _Slot) -> None:
        slot.failures += 1
        slot.proven = False

    def _stop(self, slot: _Slot, code: int) -> None:
        """Asks a worker to stop its task; a second wish changes nothing."""
        if slot.state is State.RUNNING and slot.key is not None:
            slot.state, slot.code = State.STOPPING, code
            self._out.append(CancelOn(slot.number, slot.key, code))
            self._agenda.set((_SLOT, slot.number), self._now + STOP_MS)

    def _kill(self, slot: _Slot) -> None:
        slot.state = State.KILLED
        self._agenda.cancel((_SLOT, slot.number))
        self._out.append(Kill(slot.number))

    # ---- time ----

    def _on_time(self, _event: TimePassed) -> None:
        while (due := self._agenda.pop(self._now)) is not None:
            alarm, what = due
            if alarm == _SLOT:
                self._slot_due(self._slots[what])
            elif alarm == _TASK:
                self._end(what, Code.DEADLINE, "task ran past its timeout")
            else:
                self._leave_over()

    def _slot_due(self, slot: _Slot) -> None:
        if slot.state is State.STOPPING:
            self._kill(slot)
        elif slot.state is State.STARTING:
            self._fails(slot)
            self._kill(slot)
        elif not self._leaving:
            slot.state = State.STARTING
            self._agenda.set((_SLOT, slot.number), self._now + START_MS_MAX)
            self._out.append(Spawn(slot.number))

    def _leave_over(self) -> None:
        for slot in self._running.values():
            if slot.state is not State.KILLED:
                slot.code = slot.code or Code.LEAVING
                self._kill(slot)
