"""Tasks placed on this node: guests run by its worker processes.

Owns each placed task's payload and whom to answer, the worker processes and what they say. Refuses
to decide which worker runs what, and when one is killed: that is `policy/pool.py`. An origin is the
link a task came over and the correlation its sender chose; link 0 is this node's own scheduler.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from velum import _core, frames
from velum.errors import VelumError, code_of
from velum.modulestore import ModuleStore
from velum.policy import pool as policy
from velum.policy.scheduler_io import TaskFailed
from velum.replies import Replies
from velum.runtime import Runtime, now_ms
from velum.workers import Workers

log = logging.getLogger("velum.executions")

Result = tuple[int, int, int, Any, bytes]  # ticket, node, run_us, value, payload
Answers = Callable[[list[Result], list[TaskFailed]], None]


class Origin(NamedTuple):
    """Who waits for a placed task; also its key in the pool."""

    link: int
    correlation: int


class Execution:
    """A placed task: what to send to a worker. `number` is its correlation on a worker's link."""

    __slots__ = ("hash", "number", "origin", "payload")

    def __init__(self, number: int, origin: Origin, hash: bytes, payload: bytes) -> None:
        self.number = number
        self.origin = origin
        self.hash = hash
        self.payload = payload


class Executions:
    """The service. Everything runs in the loop's thread."""

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
        """`local` takes the answers for this node's own scheduler."""
        self._hub = runtime.hub
        self._workers = workers
        self._modules = modules
        self._me = me
        self._local = local
        self._replies = replies
        self._pool = policy.Pool(slots)
        self._closed = False
        self._next = 1
        self._by_origin: dict[Origin, Execution] = {}
        self._by_number: dict[int, Execution] = {}
        self._arriving: set[Origin] = set()  # wait for their module
        self._answer: tuple[Result, None] | tuple[None, tuple[int, int, int, str]] | None = None
        runtime.services.append(self)

    # ---- timers ----

    def next_deadline(self) -> int | None:
        """The pool's."""
        return None if self._closed else self._pool.next_deadline()

    def on_time(self, now: int) -> None:
        """Gives the pool its time."""
        self._handle(policy.TimePassed())

    # ---- tasks ----

    def arrive(
        self, origin: Origin, hash: bytes, timeout_ms: int, payload: bytes, source: int
    ) -> None:
        """A task was placed here; its module is pulled from the link `source` if it is missing.

        A second task under the same origin is a peer's mistake and ignored.
        """
        if origin in self._by_origin or origin in self._arriving or self._closed:
            return
        self._arriving.add(origin)
        deadline = now_ms() + timeout_ms if timeout_ms else 0
        self._modules.need(hash, source, partial(self._ready, origin, hash, deadline, payload))

    def _ready(self, origin: Origin, hash: bytes, deadline: int, payload: bytes, code: int) -> None:
        wanted = origin in self._arriving
        self._arriving.discard(origin)
        if code or not wanted or self._closed:
            if not code:
                self._modules.release(hash)
            if wanted and code:
                self._send_error(origin, code, 0, "its module could not be had from its sender")
            return
        execution = Execution(self._next, origin, hash, payload)
        self._next += 1
        self._by_origin[origin] = execution
        self._by_number[execution.number] = execution
        left_ms = max(1, deadline - now_ms()) if deadline else 0  # fetching has taken some
        self._handle(policy.TaskArrived(origin, left_ms))

    def cancel(self, origin: Origin, code: int) -> None:
        """Whoever placed the task wants it to end with this error."""
        if origin in self._arriving:
            self._arriving.discard(origin)
            self._send_error(origin, code, 0, "")
        else:
            self._handle(policy.CancelArrived(origin, code))

    def origin_lost(self, link: int) -> None:
        """A link closed: nobody waits for what came over it."""
        self._arriving = {origin for origin in self._arriving if origin.link != link}
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

    def worker_results(self, link: int, results: list[Result]) -> bool:
        """True if the link is a worker's; its RESULTs are passed on."""
        slot = self._workers.slot_of(link)
        if slot is None:
            return False
        for result in results:
            self._answered(slot, result[0], (result, None))
        return True

    def worker_error(self, link: int, number: int, body: tuple[int, int, int, str]) -> bool:
        """True if the link is a worker's; its ERROR is passed on."""
        slot = self._workers.slot_of(link)
        if slot is None:
            return False
        self._answered(slot, number, (None, body))
        return True

    def _answered(self, slot: int, number: int, answer: Any) -> None:
        execution = self._by_number.get(number)
        if execution is None:
            return
        self._answer = answer
        self._handle(policy.WorkerAnswered(slot, execution.origin))
        self._answer = None

    # ---- effects of the pool ----

    def _handle(self, event: policy.Event) -> None:
        for effect in self._pool.handle(event, now_ms()):
            self._perform[type(effect)](self, effect)

    def _give(self, effect: policy.Give) -> None:
        execution = self._by_origin[Origin(*effect.key)]
        link = self._workers.link_of(effect.slot)
        payload = _core.retimed(execution.payload, effect.timeout_ms)
        if link is not None:
            self._hub.send(link, frames.TASK, execution.number, payload)

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
        execution = self._end(Origin(*effect.key))
        if execution is None or self._answer is None:
            return
        origin = execution.origin
        result, error = self._answer
        if result is None:
            assert error is not None
            code, _node, deaths, text = error
            self._send_error(origin, code, deaths, text)
        elif origin.link:
            _, _, _, _, payload = result
            self._replies.result(origin.link, origin.correlation, self._me, payload)
        else:
            self._local([(origin.correlation, *result[1:])], [])

    def _reply(self, effect: policy.Reply) -> None:
        origin = Origin(*effect.key)
        self._end(origin)
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

    _perform: dict[type, Callable[[Executions, Any], None]] = {
        policy.Give: _give,
        policy.CancelOn: _cancel_on,
        policy.Kill: _kill,
        policy.Spawn: _spawn,
        policy.Forward: _forward,
        policy.Reply: _reply,
        policy.Drop: _drop,
        policy.Drained: _drained,
    }

    # ---- questions, the end ----

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

    def hand_back(self) -> None:
        """The node leaves: whoever placed a task here gets it back at once."""
        self._handle(policy.LeaveStarted())
        for origin in [*self._by_origin, *self._arriving]:
            self._end(origin)
            self._send_error(origin, code_of("LEAVING"), 0, f"node {self._me} leaves the mesh")
        self._arriving.clear()

    def close(self) -> None:
        """Ends the workers."""
        self._closed = True
        self._workers.close()
