"""The compute service: tasks that enter the mesh at this node, from its program or its clients.

Owns each task's payload and who waits for its answer, until it has one. Refuses to decide where a
task runs: that is `policy/scheduler.py`; what is placed here runs in `executions.py`. Works by
turning frames and the program's calls into the scheduler's events and performing its effects.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from velum import _core, frames
from velum.api import TaskFuture, Work
from velum.errors import VelumError, code_of, error_from, from_core
from velum.executions import Executions, Origin
from velum.members import Members
from velum.modulestore import ModuleStore
from velum.policy import scheduler_io as policy
from velum.policy import types
from velum.policy.scheduler import Scheduler
from velum.policy.tasks import ID_MAX, Kind, Task, task_id
from velum.replies import Replies
from velum.runtime import Runtime, now_ms

Result = tuple[int, int, int, Any, bytes]  # ticket, node, run_us, value, payload


class Job:
    """A task and who waits for it: a future of this process, or a client's link and correlation."""

    __slots__ = ("correlation", "frame", "future", "hash", "link", "payload", "task")

    def __init__(self, task: Task, frame: int, payload: bytes, hash: bytes | None) -> None:
        self.task = task
        self.frame = frame
        self.payload = payload
        self.hash = hash
        self.future: TaskFuture | None = None
        self.link = 0
        self.correlation = 0


class Compute:
    """The service. `submit` may be called from any thread, everything else runs in the loop's."""

    members: Members  # set by the node: membership and compute know each other

    def __init__(
        self,
        runtime: Runtime,
        me: int,
        modules: ModuleStore,
        replies: Replies,
        executions: Executions,
        stopped: Callable[[], VelumError],
    ) -> None:
        """`executions` runs what is placed here; `stopped` is the error of a node that is over."""
        self._runtime = runtime
        self._hub = runtime.hub
        self._me = me
        self._stopped = stopped
        self._closed = False
        self._scheduler = Scheduler(runtime.random)
        self._modules = modules
        self._replies = replies
        self._executions = executions
        self._jobs: dict[int, Job] = {}
        self._of_client: dict[tuple[int, int], int] = {}
        self._next = 1
        self._sent_again = 0  # tasks whose node was lost or gave them back
        self._usable: set[int] = set()
        self._unsent: dict[int, list[tuple[int, int, bytes]]] = {}
        self._incoming: deque[Work] = deque()
        self._draining = False
        self._taken: list[Task] = []
        runtime.unfinished = self._jobs.__len__
        runtime.at_end(self.hand_back)
        runtime.at_end(self.close)
        runtime.on_event(_core.RESULTS, self._on_results)
        runtime.on_frame(frames.CALL, self._on_call)
        runtime.on_frame(frames.TASK, self._on_task)
        runtime.on_frame(frames.PROGRESS, self._on_progress)
        runtime.services.append(self)

    def start(self) -> None:
        """Starts the workers and schedules from now on."""
        self._usable.add(self._me)
        self._handle(policy.MemberUsable(self._me, self.members.health))

    # ---- from any thread ----

    def submit(self, work: Work) -> None:
        """Takes a task over; many that come at once are scheduled as one batch."""
        work.future.driven_by(self._runtime.drive)
        self._incoming.append(work)
        if not self._draining:
            try:
                self._draining = True
                self._runtime.call_soon(self._drain)
            except BaseException:  # Ctrl-C in between; to drain once too often does no harm
                self._runtime.call_soon(self._drain)
                raise
        if self._closed:
            self._runtime_gone()

    def _runtime_gone(self) -> None:
        while self._incoming:
            try:
                self._incoming.popleft().future.fail(self._stopped())
            except IndexError:
                return

    # ---- timers ----

    def next_deadline(self) -> int | None:
        """The scheduler's."""
        return None if self._closed else self._scheduler.next_deadline()

    def on_time(self, now: int) -> None:
        """Gives the scheduler its time."""
        self._handle(policy.TimePassed())

    # ---- tasks come ----

    def _drain(self) -> None:
        self._draining = False
        if self._closed:
            self._runtime_gone()
            return
        tasks: list[Task] = []
        incoming = self._incoming
        for _ in range(len(incoming)):
            work = incoming.popleft()
            if work.module is not None:
                try:
                    self._modules.add(work.module.bytes, work.module.hash)
                except _core.CoreError as error:
                    work.future.fail(from_core(error))
                    continue
            hash = None if work.module is None else work.module.hash
            job = self._job(work.frame, work.payload, hash, work.timeout_ms, work.node)
            job.future = work.future
            work.future.on_cancel(self._cancel_soon, job.task.id)
            tasks.append(job.task)
        if tasks:
            self._handle(policy.TasksSubmitted(tasks))

    def _job(
        self, frame: int, payload: bytes, hash: bytes | None, timeout_ms: int, node: int | None
    ) -> Job:
        number = self._next
        self._next += 1
        kind = Kind.BUILTIN if frame == frames.CALL else Kind.WASM
        job = Job(Task(number, kind, node, timeout_ms), frame, payload, hash)
        self._jobs[number] = job
        return job

    def _cancel_soon(self, number: int) -> None:
        """What a future's `cancel` calls, in any thread."""
        self._runtime.call_soon(self._handle, policy.CancelRequested(number))

    def _on_call(self, link: int, correlation: int, body: tuple[int, int, None, bytes]) -> None:
        flags, timeout_ms, _, payload = body
        if flags & _core.TASK_PLACED or link not in self.members.peers:
            self._replies.error(link, correlation, code_of("UNEXPECTED"))
            return
        self._take(link, correlation, frames.CALL, payload, None, timeout_ms)

    def _on_task(self, link: int, correlation: int, body: tuple[int, int, bytes, bytes]) -> None:
        flags, timeout_ms, hash, payload = body
        if link not in self.members.peers:
            self._hub.drop(link, code_of("UNEXPECTED"), "a worker gives no tasks")
        elif flags & _core.TASK_PLACED:
            self._executions.arrive(Origin(link, correlation), hash, timeout_ms, payload, link)
        else:
            self._modules.need(
                hash,
                link,
                partial(self._have_module, link, correlation, payload, hash, timeout_ms),
            )

    def _have_module(
        self, link: int, correlation: int, payload: bytes, hash: bytes, timeout_ms: int, code: int
    ) -> None:
        if code:
            self._replies.error(link, correlation, code)
        elif link not in self.members.peers:
            self._modules.release(hash)
        else:
            self._take(link, correlation, frames.TASK, payload, hash, timeout_ms)

    def _take(
        self,
        link: int,
        correlation: int,
        frame: int,
        payload: bytes,
        hash: bytes | None,
        timeout_ms: int,
    ) -> None:
        """A client's task: this node schedules it as if it were its own. Those that come with one
        poll are scheduled as one batch."""
        job = self._job(frame, _core.placed(payload), hash, timeout_ms, None)
        job.link, job.correlation = link, correlation
        self._of_client[link, correlation] = job.task.id
        if not self._taken:
            self._runtime.call_soon(self._schedule_taken)
        self._taken.append(job.task)

    def _schedule_taken(self) -> None:
        taken, self._taken = self._taken, []
        if taken:
            self._handle(policy.TasksSubmitted(taken))

    def on_cancel(self, link: int, correlation: int, code: int) -> None:
        """A CANCEL frame."""
        self._schedule_taken()
        number = self._of_client.get((link, correlation))
        if number is not None:
            self._handle(policy.CancelRequested(number, code))
        else:
            self._executions.cancel(Origin(link, correlation), code)

    # ---- answers come ----

    def _on_results(self, link: int, results: list[Result], health: Sequence[int]) -> None:
        if self._executions.worker_results(link, results):
            return
        peer = self.members.peers.get(link)
        if peer is not None:
            news = None if peer.told == health else types.Health(*health)
            peer.told = health
            self._answered(peer.id, results, news)

    def _answered(self, node: int, results: list[Result], health: types.Health | None) -> None:
        if self._closed:
            return
        by_ticket = {result[0]: result for result in results}
        for effect in self._scheduler.handle(
            policy.TasksAnswered(node, list(by_ticket), health), now_ms()
        ):
            if type(effect) is policy.Finish:
                for ticket in effect.tickets:
                    self._finish(effect.node, by_ticket[ticket])
            else:
                self._perform(effect)

    def _finish(self, node: int, result: Result) -> None:
        ticket, _, run_us, value, payload = result
        job = self._end(task_id(ticket))
        if job is None:
            return
        if job.future is not None:
            job.future.settle(node, run_us, value)
        elif payload:
            self._replies.result(job.link, job.correlation, node, payload)
        else:
            self._replies.value(job.link, job.correlation, node, value)

    def on_error(self, link: int, correlation: int, body: tuple[int, int, int, str]) -> None:
        """An ERROR frame, of a worker or a peer."""
        if self._executions.worker_error(link, correlation, body):
            return
        peer = self.members.peers.get(link)
        if peer is not None:
            code, _node, deaths, text = body
            self._handle(policy.TaskFailed(correlation, peer.id, code, deaths, text))

    def _on_progress(self, link: int, correlation: int, body: tuple[int, int]) -> None:
        """Nobody watches the progress of a single task; the frame only shows that it lives."""

    def local_answers(self, results: list[Result], failures: list[policy.TaskFailed]) -> None:
        """Answers to what this node placed on itself."""
        if results:
            self._answered(self._me, results, None)
        for failure in failures:
            self._handle(failure)

    def _end(self, number: int) -> Job | None:
        job = self._jobs.pop(number, None)
        if job is not None:
            if job.hash is not None:
                self._modules.release(job.hash)
            if job.link:
                self._of_client.pop((job.link, job.correlation), None)
        return job

    # ---- effects of the scheduler ----

    def _handle(self, event: policy.Event) -> None:
        if self._closed:  # all callers have been answered, and links are about to close
            return
        for effect in self._scheduler.handle(event, now_ms()):
            self._perform(effect)

    def _perform(self, effect: policy.Effect) -> None:
        if type(effect) is policy.Send:
            self._sent_again += sum(task.ticket > ID_MAX for task in effect.tasks)
            if effect.node == self._me:
                self._run_here(effect.tasks)
            else:
                self._send(effect.node, effect.tasks)
        elif type(effect) is policy.Fail:
            self._fail(effect)
        elif type(effect) is policy.CancelOn:
            self._cancel_on(effect)

    def _payload(self, task: Task) -> bytes:
        payload = self._jobs[task.id].payload
        return _core.retimed(payload, task.left_ms(now_ms())) if task.deadline else payload

    def _run_here(self, tasks: list[Task]) -> None:
        results: list[Result] = []
        failures: list[policy.TaskFailed] = []
        for task in tasks:
            job = self._jobs[task.id]
            if task.kind is Kind.WASM:
                assert job.hash is not None
                origin = Origin(0, task.ticket)
                self._executions.arrive(origin, job.hash, task.left_ms(now_ms()), job.payload, 0)
                continue
            code, value = _core.run_builtin(job.payload)
            if code:
                failures.append(policy.TaskFailed(task.ticket, self._me, code))
            else:
                results.append((task.ticket, self._me, 0, value, b""))
        if results or failures:
            self._runtime.call_soon(self.local_answers, results, failures)

    def _send(self, node: int, tasks: list[Task]) -> None:
        frames = [(self._jobs[t.id].frame, t.ticket, self._payload(t)) for t in tasks]
        link = self.members.link_to(node)
        if link:
            self._push(node, link, frames)
        else:
            self._unsent.setdefault(node, []).extend(frames)

    def _push(self, node: int, link: int, frames: list[tuple[int, int, bytes]]) -> None:
        taken = self._hub.send_tasks(link, frames)
        for _, ticket, _ in frames[taken:]:
            failed = policy.TaskFailed(ticket, node, code_of("BUSY"), 0, "the link's queue is full")
            self._runtime.call_soon(self._handle, failed)

    def _cancel_on(self, effect: policy.CancelOn) -> None:
        if effect.node == self._me:
            self._executions.cancel(Origin(0, effect.ticket), effect.code)
            return
        unsent = self._unsent.get(effect.node)
        if unsent is not None:
            unsent[:] = [frame for frame in unsent if frame[1] != effect.ticket]
        link = self.members.link_to(effect.node)
        if link:
            self._hub.send_cancel(link, effect.ticket, effect.code)

    def _fail(self, effect: policy.Fail) -> None:
        job = self._end(effect.task_id)
        if job is None:
            return
        if job.future is not None:
            job.future.fail(error_from(effect.code, effect.text, effect.node))
        else:
            self._replies.error(
                job.link, job.correlation, effect.code, effect.text, node=effect.node
            )

    # ---- members come and go ----

    def member_changed(self, member: types.Member) -> None:
        """The membership's word on a member."""
        node = member.id
        if member.state == types.ALIVE:
            if node not in self._usable and node != self._me:
                self._usable.add(node)
                self._handle(policy.MemberUsable(node, member.health))
        elif node in self._usable:
            why = {
                types.SUSPECT: policy.Why.SUSPECTED,
                types.DEAD: policy.Why.DEAD,
                types.LEFT: policy.Why.LEFT,
            }[member.state]
            self._lose(node, why)

    def health_heard(self, node: int, health: types.Health) -> None:
        """A member's fresh figures."""
        if node in self._usable:
            self._handle(policy.HealthHeard(node, health))
        elif node in self.members.alive():
            self._usable.add(node)
            self._handle(policy.MemberUsable(node, health))

    def linked(self, node: int, link: int) -> None:
        """A link to a member is open: sends what waited for it."""
        frames = self._unsent.pop(node, None)
        if frames:
            self._push(node, link, frames)

    def unreachable(self, node: int) -> None:
        """A member could not be dialled."""
        self._lose(node, policy.Why.LINK)

    def unlinked(self, link: int, node: int) -> None:
        """A link closed: a client's tasks end with it, a member's answers will not come."""
        self._schedule_taken()
        for (client, correlation), number in list(self._of_client.items()):
            if client == link:
                self._handle(policy.CancelRequested(number))
                self._of_client.pop((client, correlation), None)
        self._executions.origin_lost(link)
        if node:
            self._lose(node, policy.Why.LINK)

    def _lose(self, node: int, why: policy.Why) -> None:
        self._unsent.pop(node, None)
        if node in self._usable and node != self._me:
            self._usable.discard(node)
            self._handle(policy.MemberLost(node, why))

    # ---- questions, the end ----

    def load(self) -> tuple[int, int, int, int]:
        """(slots, queue, running, speed) for the node's health."""
        return self._executions.load()

    def status(self) -> dict[str, Any]:
        """Plain data for `velum status`."""
        clients = sum(1 for p in self.members.peers.values() if p.role == types.CLIENT)
        return {
            "clients": clients,
            "tasks_unfinished": self._scheduler.unfinished,
            "tasks_sent_again": self._sent_again,
            "calls_answered": self._hub.stats()["calls_answered"],
        }

    def hand_back(self) -> None:
        """The node leaves: others get their tasks back, this program's callers an error. Clients
        hear of it by the end of their links, and send what they wait for to another node."""
        self._closed = True
        self._executions.hand_back()
        error = self._stopped()
        for number in list(self._jobs):
            job = self._end(number)
            if job is not None and job.future is not None:
                job.future.fail(error)
        self._runtime_gone()

    def close(self) -> None:
        """Ends the workers."""
        self._executions.close()
