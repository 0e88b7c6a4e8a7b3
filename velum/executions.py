"""What other nodes and our own policies placed on this node: guests run by its worker processes.

Owns each placed task's and lease's payload and whom to answer, the worker processes and what they
say. Refuses to decide which worker runs what, and when one is killed: that is `policy/pool.py`.

There are two lanes, alike but for what travels on them, each with a pool and processes of its own,
so that a single task never waits behind a scatter's leases. A task has one answer. A lease is
reported on while it runs, may be cut, and ends with its last report; its processes are started when
the first lease comes, and at a lower priority of the system (`workers.py`).

An origin is the link a task or lease came over and the correlation its sender chose; link 0 is this
node itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from velum import _core, frames
from velum.errors import VelumError, code_of
from velum.modulestore import ModuleStore
from velum.outbox import Outbox
from velum.policy import pool as policy
from velum.policy.scheduler_io import TaskFailed
from velum.replies import Replies
from velum.runtime import Runtime, now_ms
from velum.workers import Workers

log = logging.getLogger("velum.executions")

Result = tuple[int, int, int, Any, bytes]  # ticket, node, run_us, value, payload
Answers = Callable[[list[Result], list[TaskFailed]], None]
Failed = tuple[int, int, int, str]  # an ERROR: code, node, deaths, text
Report = tuple[int, int, int, list[Any], list[Any], bytes]
"""A SLICES: job, flags, busy_us, runs, failures, payload."""
Reports = Callable[[int, Report], None]  # of the lease with this correlation
Tell = Callable[["Origin"], None]


class Origin(NamedTuple):
    """Who waits for what was placed; also its key in the pool."""

    link: int
    correlation: int


class Execution:
    """A task or lease: what to send to a worker. `number` is its correlation on a worker's link,
    `slot` the worker that has it, `deadline` is 0 for none, `mute`: nobody waits for it."""

    __slots__ = (
        "deadline",
        "group",
        "hash",
        "mute",
        "number",
        "origin",
        "payload",
        "slot",
        "weight",
    )

    def __init__(self, number: int, origin: Origin, hash: bytes, payload: bytes) -> None:
        self.number = number
        self.origin = origin
        self.hash = hash
        self.payload = payload
        self.deadline = 0
        self.group: int | None = None
        self.weight = 1
        self.slot: int | None = None
        self.mute = False


class Lane:
    """What both have in common: from arrival, over the pool and a worker, to an end. Everything
    runs in the loop's thread."""

    def __init__(
        self,
        runtime: Runtime,
        workers: Workers,
        modules: ModuleStore,
        me: int,
        slots: int,
        local: Answers,
        replies: Replies,
    ) -> None:
        """`local` takes the answers for this node itself."""
        self._hub = runtime.hub
        self._workers = workers
        self._modules = modules
        self._me = me
        self._local = local
        self._replies = replies
        self._pool = policy.Pool(slots)
        self._closed = False
        self._next = 1
        self._arriving: dict[Origin, Execution] = {}  # wait for their module
        self._by_origin: dict[Origin, Execution] = {}
        self._by_number: dict[int, Execution] = {}
        self._tell: Tell | None = None  # passes on what a worker has just answered
        runtime.services.append(self)

    def _send(self, link: int, execution: Execution, timeout_ms: int) -> None:
        """Gives a worker its work; `timeout_ms` is what is left of its time, 0: no limit."""
        raise NotImplementedError

    # ---- timers ----

    def next_deadline(self) -> int | None:
        """The pool's."""
        return None if self._closed else self._pool.next_deadline()

    def on_time(self, now: int) -> None:
        """Gives the pool its time."""
        self._handle(policy.TimePassed())

    # ---- what is placed here ----

    def arrive(
        self,
        origin: Origin,
        hash: bytes,
        timeout_ms: int,
        payload: bytes,
        source: int,
        *,
        group: int | None = None,
        weight: int = 1,
    ) -> None:
        """Something was placed here; its module is pulled from the link `source` if it is missing.

        `timeout_ms` is what is left of its time, 0: no limit. It waits with its group (a lease:
        with its job), else with what came over the same link, and `weight` is the group's share.
        A second one under the same origin is a peer's mistake and ignored.
        """
        if origin in self._by_origin or origin in self._arriving or self._closed:
            return
        execution = Execution(self._next, origin, hash, payload)
        self._next += 1
        execution.deadline = now_ms() + timeout_ms if timeout_ms else 0
        execution.group, execution.weight = group, weight
        self._arriving[origin] = execution
        self._modules.need(hash, source, partial(self._ready, execution))

    def _ready(self, execution: Execution, code: int) -> None:
        origin = execution.origin
        wanted = self._arriving.get(origin) is execution and not self._closed
        if wanted:
            del self._arriving[origin]
        if code or not wanted:
            if not code:
                self._modules.release(execution.hash)
            if wanted:
                self._send_error(origin, code, 0, "its module could not be had from its sender")
            return
        self._by_origin[origin] = execution
        self._by_number[execution.number] = execution
        deadline = execution.deadline
        left_ms = max(1, deadline - now_ms()) if deadline else 0  # fetching has taken some
        self._handle(policy.TaskArrived(origin, left_ms, execution.group, execution.weight))

    def cancel(self, origin: Origin, code: int) -> None:
        """Whoever placed it wants it to end with this error."""
        if self._arriving.pop(origin, None) is not None:
            self._send_error(origin, code, 0, "")
        else:
            self._handle(policy.CancelArrived(origin, code))

    def origin_lost(self, link: int) -> None:
        """A link closed: nobody waits for what came over it."""
        for origin in [origin for origin in self._arriving if origin.link == link]:
            del self._arriving[origin]
        self._handle(policy.OriginLost(link))

    def _end(self, origin: Origin) -> Execution | None:
        execution = self._by_origin.pop(origin, None)
        if execution is not None:
            del self._by_number[execution.number]
            self._modules.release(execution.hash)
        return execution

    # ---- workers ----

    def worker_opened(self, link: int) -> bool:
        """True if the link is one of our workers'; it is ready once its HEALTH has come."""
        if self._workers.slot_of(link) is None:
            return False
        self._hub.accept(link)
        return True

    def worker_ready(self, link: int, speed: int) -> None:
        """A worker has measured itself and waits for tasks."""
        slot = self._workers.slot_of(link)
        if slot is not None:
            self._handle(policy.WorkerReady(slot, speed))

    def worker_closed(self, link: int) -> bool:
        """True if the link was one of our workers'; its process is gone now."""
        slot = self._workers.closed(link)
        if slot is None:
            return False
        if not self._closed:
            log.info("worker %d of this node died", slot)
            self._handle(policy.WorkerDied(slot))
        return True

    def worker_error(self, link: int, number: int, failed: Failed) -> bool:
        """True if the link is a worker's; its ERROR is passed on."""
        slot = self._workers.slot_of(link)
        if slot is None:
            return False
        code, _node, deaths, text = failed
        tell = partial(self._send_error, code=code, deaths=deaths, text=text)
        self._answered(slot, number, tell)
        return True

    def _answered(self, slot: int, number: int, tell: Tell) -> None:
        execution = self._by_number.get(number)
        if execution is not None:
            self._tell = tell
            self._handle(policy.WorkerAnswered(slot, execution.origin))
            self._tell = None

    # ---- effects of the pool ----

    def _handle(self, event: policy.Event) -> None:
        for effect in self._pool.handle(event, now_ms()):
            self._perform[type(effect)](self, effect)

    def _give(self, effect: policy.Give) -> None:
        execution = self._by_origin[Origin(*effect.key)]
        execution.slot = effect.slot
        link = self._workers.link_of(effect.slot)
        if link is not None:
            self._send(link, execution, effect.timeout_ms)

    def _cancel_on(self, effect: policy.CancelOn) -> None:
        link = self._workers.link_of(effect.slot)
        execution = self._by_origin.get(Origin(*effect.key))
        if link is not None and execution is not None:
            self._hub.send_cancel(link, execution.number, effect.code)

    def _kill(self, effect: policy.Kill) -> None:
        log.info("worker %d does not stop its guest and is killed", effect.slot)
        self._workers.kill(effect.slot)

    def _spawn(self, effect: policy.Spawn) -> None:
        try:
            self._workers.spawn(effect.slot)
        except (OSError, VelumError, _core.CoreError) as error:
            log.error("cannot start worker %d: %s", effect.slot, error)
            self._handle(policy.WorkerDied(effect.slot))

    def _forward(self, effect: policy.Forward) -> None:
        origin = Origin(*effect.key)
        if self._end(origin) is not None and self._tell is not None:
            self._tell(origin)

    def _reply(self, effect: policy.Reply) -> None:
        origin = Origin(*effect.key)
        if self._end(origin) is not None:
            self._send_error(origin, effect.code, effect.deaths, effect.text)

    def _send_error(self, origin: Origin, code: int, deaths: int, text: str) -> None:
        if origin.link:
            self._replies.error(origin.link, origin.correlation, code, text, deaths=deaths)
        else:
            self._local([], [TaskFailed(origin.correlation, self._me, code, deaths, text)])

    def _drop(self, effect: policy.Drop) -> None:
        self._end(Origin(*effect.key))

    def _drained(self, _: policy.Drained) -> None:
        """Nothing runs any more; the node does not wait for this."""

    _perform: dict[type, Callable[[Lane, Any], None]] = {
        policy.Give: _give,
        policy.CancelOn: _cancel_on,
        policy.Kill: _kill,
        policy.Spawn: _spawn,
        policy.Forward: _forward,
        policy.Reply: _reply,
        policy.Drop: _drop,
        policy.Drained: _drained,
    }

    # ---- the end ----

    def hand_back(self) -> None:
        """The node leaves: whoever placed something here gets it back at once."""
        self._handle(policy.LeaveStarted())
        for origin in [*self._by_origin, *self._arriving]:
            self._end(origin)
            self._send_error(origin, code_of("LEAVING"), 0, f"node {self._me} leaves the mesh")
        self._arriving.clear()

    def close(self) -> None:
        """Ends the workers."""
        self._closed = True
        self._workers.close()


class Executions(Lane):
    """The lane of single tasks."""

    def worker_results(self, link: int, results: list[Result]) -> bool:
        """True if the link is a worker's; its RESULTs are passed on."""
        slot = self._workers.slot_of(link)
        if slot is None:
            return False
        for result in results:
            self._answered(slot, result[0], partial(self._send_result, result))
        return True

    def _send_result(self, result: Result, origin: Origin) -> None:
        if origin.link:
            self._replies.result(origin.link, origin.correlation, self._me, result[4])
        else:
            self._local([(origin.correlation, *result[1:])], [])

    def _send(self, link: int, execution: Execution, timeout_ms: int) -> None:
        payload = _core.retimed(execution.payload, timeout_ms)
        self._hub.send(link, frames.TASK, execution.number, payload)

    def load(self) -> tuple[int, int, int, int]:
        """(slots, queue, running, speed) for the node's health."""
        return self._pool.slots, self._pool.queued, self._pool.running, self._pool.speed

    def status(self) -> dict[str, Any]:
        """Plain data for `velum status`."""
        return {
            "workers": self._pool.slots,
            "worker_pids": list(self._workers.pids()),
            "queue": self._pool.queued,
            "running": self._pool.running,
            "speed": self._pool.speed,
        }


class Leases(Lane):
    """The lane of scatters' leases."""

    def __init__(
        self,
        runtime: Runtime,
        workers: Workers,
        modules: ModuleStore,
        me: int,
        slots: int,
        local: Answers,
        replies: Replies,
        *,
        local_slices: Reports,
        outbox: Outbox,
    ) -> None:
        """`local` and `local_slices` take what leases of this node's own come to; neither may call
        this lane before it returns. Reports to others leave by the outbox."""
        super().__init__(runtime, workers, modules, me, slots, local, replies)
        self._local_slices = local_slices
        self._outbox = outbox

    def next_deadline(self) -> int | None:
        """The pool's, which starts the workers first thing: none before the first lease."""
        return super().next_deadline() if self._next > 1 else None

    def origin_lost(self, link: int) -> None:
        """A link closed: what runs for it is being stopped, and nobody hears its reports."""
        for execution in self._by_origin.values():
            execution.mute = execution.mute or execution.origin.link == link
        super().origin_lost(link)

    def trim(self, origin: Origin, end: int) -> None:
        """The lease keeps slices below `end` only. One that has ended meanwhile stays so."""
        execution = self._by_origin.get(origin) or self._arriving.get(origin)
        if execution is None:
            return
        if execution.slot is not None:
            link = self._workers.link_of(execution.slot)
            if link is not None:
                self._hub.send(link, frames.TRIM, execution.number, _core.encode_trim(end))
            return
        payload = _core.trim_lease(execution.payload, end)
        if payload is not None:
            execution.payload = payload
            return
        if self._arriving.pop(origin, None) is None:
            self._handle(policy.TaskWithdrawn(origin))
        assert execution.group is not None
        (empty,) = _core.encode_slices(execution.group, [], [], _core.SLICES_LAST)
        self._report((execution.group, _core.SLICES_LAST, 0, [], [], empty), origin)

    def worker_slices(self, link: int, number: int, report: Report) -> bool:
        """True if the link is a worker's; its SLICES are passed on. The last ends the lease."""
        slot = self._workers.slot_of(link)
        if slot is None:
            return False
        execution = self._by_number.get(number)
        if execution is None or execution.slot != slot:
            return True
        if report[1] & _core.SLICES_LAST:
            self._answered(slot, number, partial(self._report, report))
        elif not execution.mute:
            self._report(report, execution.origin)
        return True

    def _report(self, report: Report, origin: Origin) -> None:
        if origin.link:
            self._outbox.send(origin.link, frames.SLICES, origin.correlation, report[5])
        else:
            self._local_slices(origin.correlation, report)

    def _send(self, link: int, execution: Execution, timeout_ms: int) -> None:
        assert execution.slot is not None
        self._workers.settle(execution.slot)
        self._hub.send(link, frames.LEASE, execution.number, execution.payload)

    def status(self) -> dict[str, Any]:
        """Plain data for `velum status`."""
        return {
            "lease_worker_pids": list(self._workers.pids()),
            "leases_queued": self._pool.queued,
            "leases_running": self._pool.running,
        }
