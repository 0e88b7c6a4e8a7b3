"""The scheduler: which node runs each task that enters the mesh here, and what if that fails.

Owns: every task submitted through this node until its caller has the answer, and what was sent
where. Refuses to know: sockets, frames, arguments, modules, clocks. Every node has a scheduler of
its own and they do not talk to each other; what one knows of the others' work is what the nodes
report of their health. How a node is chosen is in leastbusy.py, the whole in docs/scheduling.md.

At most a window of tasks is unanswered at one node. The rest waits here, and each answer draws the
next: a node that is twice as fast takes twice as much, whatever anybody estimated.

A task's way, by the place it is in:

    place     event                          then
    -         submitted                      sent, or WAITS; Fail BUSY, NO_WORKER
    WAITS     a node has room                sent
    WAITS     no node can run it, for 10 s   Fail NO_WORKER
    a node    answered by that node          Finish
    a node    failed: the task's own fault   Fail, the same code
    a node    failed: WORKER_DIED            sent again, elsewhere; the third death: Fail POISON
    a node    failed: BUSY NO_WORKER NOMEM   RESTS, longer each time; the 16th time: Fail, same code
    a node    failed: LEAVING                sent again, 16 times at most
    a node    failed: CANCELLED, not by us   as if the node were lost
    a node    node lost or suspected         sent again; the fifth time: Fail LOST
    RESTS     back-off over                  sent, or WAITS
    any       cancelled, or its time is up   Fail at once; CancelOn the node that has it

A pinned task never goes elsewhere: its node's loss is LOST, its leaving LEAVING, its absence
NO_WORKER. Whatever the table does not name comes from the network (an answer nobody waits for, news
of a strange node) and is ignored; only a task id used twice is an error, the driver's.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from .agenda import Agenda
from .leastbusy import Lane, Post, median_speed
from .scheduler_io import (
    CancelOn,
    CancelRequested,
    Effect,
    Event,
    Fail,
    Finish,
    HealthHeard,
    MemberLost,
    MemberUsable,
    Send,
    TaskFailed,
    TasksAnswered,
    TasksSubmitted,
    TimePassed,
    Why,
)
from .tasks import ENDED, ID_BITS, ID_MAX, RESTS, WAITS, Code, Kind, Task, Trouble
from .types import Health

# Tasks one scheduler carries, waiting or sent; some 300 MB with their futures. Several times what
# any caller pipelines, far below what would exhaust a server.
TASKS_MAX: Final = 262_144
# Sends of one task that may be lost with their node. Five nodes lost in the life of one task are a
# mesh in trouble, or a task that takes nodes down with it.
LOST_MAX: Final = 5
# Workers one task may kill before it is refused as poison.
DEATHS_MAX: Final = 3
# Sends of one task that nodes may give back; with the back-off below, ten seconds of full queues.
REFUSED_MAX: Final = 16
# The first wait of a refused task; it doubles each time, up to the maximum.
BACKOFF_MS: Final = 20
BACKOFF_MS_MAX: Final = 1000
# A node that refused a task is sent none of that kind for so long.
REST_MS: Final = 100
# A stopped task holds its place in the node's window until the node confirms, or so long.
GRACE_MS: Final = 500
# A task that no node can run waits so long for one that can: time for a mesh to start or restart.
NO_WORKER_MS: Final = 10_000

_LEAVING_FLAG: Final = 1  # VELUM_HEALTH_LEAVING
_REFUSALS: Final = frozenset((Code.BUSY, Code.NO_WORKER, Code.NOMEM))

# Kinds of alarms, and what their keys name.
_DEADLINE, _STRANDED, _RETRY, _GHOST, _REST = range(5)  # task id x3, (node, ticket), (node, kind)


@dataclass(slots=True, eq=False)
class _Member:
    health: Health
    posts: tuple[Post, Post]  # by kind
    # Tasks pinned to this node that wait for room there, by kind, by id.
    pinned: tuple[OrderedDict[int, Task], OrderedDict[int, Task]]
    leaving: bool = False
    held: dict[int, Task] = field(default_factory=dict)  # by ticket: all that is flying there


class Scheduler:
    """The state machine. `handle()` takes one event and returns what is to be done; whoever drives
    it does that, and calls it with TimePassed when next_deadline() has come."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._tasks: dict[int, Task] = {}
        self._members: dict[int, _Member] = {}
        self._lanes = (Lane(Kind.BUILTIN), Lane(Kind.WASM))
        # What waits for any node, by kind, by id. Empty while a node of the lane has room.
        self._waiting: tuple[OrderedDict[int, Task], ...] = (OrderedDict(), OrderedDict())
        self._median_speed = 0
        self._agenda = Agenda()
        self._now = 0
        self._out: list[Effect] = []
        self._sends: dict[int, Send] = {}
        self._handlers: dict[type, Callable[[Any], None]] = {
            TasksSubmitted: self._on_submitted,
            CancelRequested: self._on_cancel,
            MemberUsable: self._on_usable,
            HealthHeard: self._on_health,
            MemberLost: self._on_lost,
            TasksAnswered: self._on_answered,
            TaskFailed: self._on_failed,
            TimePassed: self._on_time,
        }
        self._alarms: dict[int, Callable[[Any], None]] = {
            _DEADLINE: self._time_up,
            _STRANDED: self._give_up,
            _RETRY: self._retry,
            _GHOST: self._forget,
            _REST: self._rested,
        }

    # ---- the face ----

    def handle(self, event: Event, now: int) -> list[Effect]:
        """Takes one event; `now` in milliseconds, never smaller than before.

        Raises ValueError for a task id that is in use or out of range.
        """
        self._now = now
        self._handlers[type(event)](event)
        out, self._out = self._out, []
        if self._sends:
            # First, so that a task whose time is up in the same step is cancelled after its send.
            out[:0] = self._sends.values()
            self._sends = {}
        return out

    def next_deadline(self) -> int | None:
        """When TimePassed is due, or None."""
        return self._agenda.next()

    @property
    def unfinished(self) -> int:
        """Tasks whose callers have no answer yet."""
        return len(self._tasks)

    @property
    def flying(self) -> int:
        """Sends that are not answered."""
        return sum(len(member.held) for member in self._members.values())

    def validate(self) -> None:
        """Raises AssertionError if an invariant does not hold."""
        where = {number: WAITS for waiting in self._waiting for number in waiting}
        for node, member in self._members.items():
            where.update(self._validate_member(node, member))
        for lane, waiting in zip(self._lanes, self._waiting, strict=True):
            assert lane.posts.keys() <= self._members.keys(), "a lane uses a lost member"
            room = any(post.room for post in lane.posts.values())
            assert not (waiting and room), "tasks wait though a node has room"
            for number, task in waiting.items():
                assert task.kind is lane.kind and task.node is None, "waits in the wrong lane"
                stranded = (_STRANDED, number) in self._agenda
                assert stranded == (not lane.posts), "waits for ever, or gives up with nodes there"
        for number, task in self._tasks.items():
            if task.place == RESTS:
                assert (_RETRY, number) in self._agenda, "rests for ever"
                where[number] = RESTS
            timed = (_DEADLINE, number) in self._agenda
            assert timed == bool(task.deadline), "a deadline is lost"
        places = {number: task.place for number, task in self._tasks.items()}
        assert places == where, "a task is in no place, or not where it says"
        assert len(places) <= TASKS_MAX, "more tasks than the limit"

    def _validate_member(self, node: int, member: _Member) -> dict[int, int]:
        """The same for one member; returns the places of its tasks."""
        places: dict[int, int] = {}
        for lane, post, pinned in self._views(member):
            held = [task for task in member.held.values() if task.kind is lane.kind]
            assert post.id == node and post.flying == len(held), "flying is miscounted"
            able = post.window > 0 and not member.leaving
            assert (lane.posts.get(node) is post) == able, "a lane misjudges a member"
            assert not pinned or (able and not post.room), "pinned tasks wait for nothing"
            assert not post.resting or (_REST, (node, lane.kind)) in self._agenda, "rests for ever"
            places.update(dict.fromkeys(pinned, WAITS))
        for ticket, task in member.held.items():
            if task.place == ENDED:
                assert (_GHOST, (node, ticket)) in self._agenda, "a stopped task stays for ever"
            else:
                assert task.ticket == ticket, "a send is held under another ticket"
                places[task.id] = node
        return places

    # ---- tasks come, are answered, and end ----

    def _on_submitted(self, event: TasksSubmitted) -> None:
        tasks = self._tasks
        fresh: tuple[list[Task], list[Task]] = ([], [])
        for task in event.tasks:
            number = task.id
            if number in tasks or not 0 < number <= ID_MAX:
                raise ValueError(f"task id {number} is in use or out of range")
            if len(tasks) >= TASKS_MAX:
                self._fail(task, Code.BUSY, 0, self._full_text())
                continue
            tasks[number] = task
            task.ticket = number
            if task.timeout_ms:
                task.deadline = self._now + task.timeout_ms
                self._agenda.set((_DEADLINE, number), task.deadline)
            if task.node is None:
                fresh[task.kind].append(task)
            else:
                self._pin(task)
        for new in fresh:
            if new:
                self._place(new)

    def _full_text(self) -> str:
        return (
            f"every queue is full: {len(self._tasks)} tasks are unfinished here, {self.flying} of "
            f"them sent to {len(self._members)} nodes; wait for answers before sending more"
        )

    def _on_answered(self, event: TasksAnswered) -> None:
        member = self._members.get(event.node)
        if member is None:
            return
        take, tasks, agenda = member.held.pop, self._tasks, self._agenda
        freed = [0, 0]
        done = []
        for ticket in event.tickets:
            task = take(ticket, None)
            if task is None:
                continue
            freed[task.kind] += 1
            if task.place == ENDED:
                agenda.cancel((_GHOST, (event.node, ticket)))
                continue
            if task.deadline:
                agenda.cancel((_DEADLINE, task.id))
            task.place = ENDED
            del tasks[task.id]
            done.append(ticket)
        if done:
            self._out.append(Finish(event.node, done))
        for post, count in zip(member.posts, freed, strict=True):
            post.flying -= count
        if event.health is not None:
            self._absorb(member, event.health)
        else:
            self._refill_all(member)

    def _on_cancel(self, event: CancelRequested) -> None:
        task = self._tasks.get(event.id)
        if task is not None:
            self._stop(task, event.code, "task was cancelled")

    def _stop(self, task: Task, code: int, text: str) -> None:
        """Ends a task by its caller's wish, wherever it is."""
        node = max(0, task.place)
        if node:
            self._out.append(CancelOn(node, task.ticket, code))
            self._agenda.set((_GHOST, (node, task.ticket)), self._now + GRACE_MS)
        elif task.place == WAITS and task.node is None:
            del self._waiting[task.kind][task.id]
        elif task.place == WAITS and task.node is not None:
            del self._members[task.node].pinned[task.kind][task.id]
        self._fail(task, code, node, text)

    def _fail(self, task: Task, code: int, node: int, text: str) -> None:
        """Ends a task that is in no queue any more."""
        self._tasks.pop(task.id, None)
        for alarm in (_DEADLINE, _STRANDED, _RETRY):
            self._agenda.cancel((alarm, task.id))
        task.place = ENDED
        self._out.append(Fail(task.id, code, node, text))

    # ---- sends fail ----

    def _on_failed(self, event: TaskFailed) -> None:
        node, code = event.node, event.code
        member = self._members.get(node)
        task = member.held.pop(event.ticket, None) if member else None
        if member is None or task is None:
            return
        post = member.posts[task.kind]
        post.flying -= 1
        if task.place == ENDED:
            self._agenda.cancel((_GHOST, (node, event.ticket)))
            self._refill(member, task.kind)
            return
        if code == Code.LEAVING:
            member.leaving = True
            self._enlist(member)
        elif code in _REFUSALS:
            post.resting = True
            self._agenda.set((_REST, (node, task.kind)), self._now + REST_MS)
        self._refill(member, task.kind)
        if code == Code.WORKER_DIED:
            self._killed(task, node, max(1, event.deaths))
        elif code == Code.LEAVING or code in _REFUSALS:
            self._refused(task, node, code, event.text)
        elif code == Code.CANCELLED:
            if self._survives_loss(task, node, Why.LINK):
                self._place([task], again=True)
        else:
            self._fail(task, code, node, event.text)

    @staticmethod
    def _trouble(task: Task) -> Trouble:
        """The record of a task whose send is over; the next send has another ticket."""
        task.ticket += 1 << ID_BITS
        if task.trouble is None:
            task.trouble = Trouble()
        return task.trouble

    def _killed(self, task: Task, node: int, deaths: int) -> None:
        trouble = self._trouble(task)
        trouble.deaths[node] = trouble.deaths.get(node, 0) + deaths
        if sum(trouble.deaths.values()) >= DEATHS_MAX:
            text = f"task killed worker after worker ({trouble.killers()}) and is refused as poison"
            self._fail(task, Code.POISON, node, text)
        elif task.node is not None:
            self._pin(task)
        else:
            self._place([task], again=True, avoid=trouble.deaths.keys())

    def _refused(self, task: Task, node: int, code: int, text: str) -> None:
        trouble = self._trouble(task)
        trouble.refused += 1
        if task.node is not None and code in (Code.LEAVING, Code.NO_WORKER):
            self._fail(task, code, node, f"pinned to node {node}, which gave it back: {text}")
        elif trouble.refused >= REFUSED_MAX:
            times = f"given back {trouble.refused} times, last by node {node}"
            self._fail(task, code, node, f"{times}: {text}")
        elif code == Code.LEAVING:
            self._place([task], again=True)
        else:
            task.place = RESTS
            delay = min(BACKOFF_MS_MAX, BACKOFF_MS << (trouble.refused - 1))
            self._agenda.set((_RETRY, task.id), self._now + delay)

    def _survives_loss(self, task: Task, node: int, why: Why) -> bool:
        """Notes that a send was lost with its node. False if that has ended the task. A node that
        leaves in order does not count as lost."""
        trouble = self._trouble(task)
        if why is Why.LEFT:
            trouble.refused += 1
        else:
            trouble.lost.append(node)
        if task.node is not None:
            text = f"pinned to node {node}, which is gone ({why.value})"
        elif len(trouble.lost) >= LOST_MAX or trouble.refused >= REFUSED_MAX:
            nodes = ", ".join(map(str, trouble.lost)) or str(node)
            text = f"lost with node after node ({nodes}; last: {why.value})"
        else:
            return True
        self._fail(task, Code.LOST, node, text)
        return False

    # ---- members come, report and go ----

    def _on_usable(self, event: MemberUsable) -> None:
        member = self._members.get(event.id)
        if member is None:
            posts = (Post(event.id), Post(event.id))
            member = _Member(event.health, posts, (OrderedDict(), OrderedDict()))
            self._members[event.id] = member
            self._set_median()
        self._absorb(member, event.health)

    def _on_health(self, event: HealthHeard) -> None:
        member = self._members.get(event.id)
        if member is not None:
            self._absorb(member, event.health)

    def _absorb(self, member: _Member, health: Health) -> None:
        """Takes a member's report in."""
        old, member.health = member.health, health
        member.leaving = bool(health.flags & _LEAVING_FLAG)
        if old.speed != health.speed:
            self._set_median()
        calls, guests = member.posts
        calls.weigh_calls(health)
        guests.weigh_guests(health, self._median_speed)
        self._enlist(member)
        self._refill_all(member)

    def _set_median(self) -> None:
        self._median_speed = median_speed(member.health for member in self._members.values())

    def _enlist(self, member: _Member) -> None:
        """Brings the lanes in line with what a member can run."""
        for lane, post, _ in self._views(member):
            if member.leaving:
                self._withdraw(lane, member, Code.LEAVING, "is leaving the mesh")
            elif post.window == 0:
                self._withdraw(lane, member, Code.NO_WORKER, "has no worker")
            elif post.id not in lane.posts:
                lane.posts[post.id] = post
                for number in self._waiting[lane.kind]:
                    self._agenda.cancel((_STRANDED, number))

    def _withdraw(self, lane: Lane, member: _Member, code: Code, why: str) -> None:
        """Takes a member out of a lane; what waited for it alone fails."""
        pinned, node = member.pinned[lane.kind], member.posts[lane.kind].id
        while pinned:
            self._fail(pinned.popitem(last=False)[1], code, node, f"node {node} {why}")
        if lane.posts.pop(node, None) is not None and not lane.posts:
            for number in self._waiting[lane.kind]:
                self._agenda.set((_STRANDED, number), self._now + NO_WORKER_MS)

    def _on_lost(self, event: MemberLost) -> None:
        node, why = event.id, event.why
        member = self._members.pop(node, None)
        if member is None:
            return
        self._set_median()
        for lane, post, _ in self._views(member):
            self._withdraw(lane, member, Code.NO_WORKER, f"is gone ({why.value})")
            self._agenda.cancel((_REST, (post.id, lane.kind)))
        again: tuple[list[Task], list[Task]] = ([], [])
        for ticket, task in member.held.items():
            if task.place == ENDED:
                self._agenda.cancel((_GHOST, (node, ticket)))
                continue
            if why is Why.SUSPECTED and task.kind is Kind.WASM:
                self._out.append(CancelOn(node, ticket, Code.CANCELLED))
            if self._survives_loss(task, node, why):
                again[task.kind].append(task)
        for tasks in again:
            if tasks:
                self._place(tasks, again=True)

    def _views(self, member: _Member) -> Iterator[tuple[Lane, Post, OrderedDict[int, Task]]]:
        """(lane, post, pinned tasks) of a member, by kind."""
        return zip(self._lanes, member.posts, member.pinned, strict=True)

    # ---- tasks find a node ----

    def _place(self, tasks: list[Task], again: bool = False, avoid: Collection[int] = ()) -> None:
        """Sends tasks of one kind to the least busy nodes; those that find no room wait, at the
        head of the queue if they have been sent before."""
        kind = tasks[0].kind
        lane, waiting = self._lanes[kind], self._waiting[kind]
        at = 0
        if not waiting:
            for post, count in lane.share(len(tasks), self._rng, avoid):
                self._send(post.id, tasks[at : at + count])
                at += count
        rest = tasks[at:]
        for task in reversed(rest) if again else rest:
            task.place = WAITS
            waiting[task.id] = task
            if again:
                waiting.move_to_end(task.id, last=False)
            if not lane.posts:
                self._agenda.set((_STRANDED, task.id), self._now + NO_WORKER_MS)

    def _pin(self, task: Task) -> None:
        """Sends a pinned task, or lets it wait for its node."""
        node = task.node or 0
        member = self._members.get(node)
        task.place = WAITS
        if member is None:
            self._fail(task, Code.NO_WORKER, node, f"node {node} is no member that can be used")
            return
        post, pinned = member.posts[task.kind], member.pinned[task.kind]
        if member.leaving:
            self._fail(task, Code.LEAVING, node, f"node {node} is leaving the mesh")
        elif post.window == 0:
            self._fail(task, Code.NO_WORKER, node, f"node {node} has no worker")
        elif post.room:
            post.flying += 1
            self._send(node, [task])
        else:
            pinned[task.id] = task

    def _refill_all(self, member: _Member) -> None:
        for kind in Kind:
            self._refill(member, kind)

    def _refill(self, member: _Member, kind: Kind) -> None:
        """A node may have got room: it draws what waits, what waits for it alone first."""
        post, pinned, waiting = member.posts[kind], member.pinned[kind], self._waiting[kind]
        if not (pinned or waiting) or post.id not in self._lanes[kind].posts:
            return
        tasks: list[Task] = []
        room = post.room
        for queue in (pinned, waiting):
            for _ in range(min(room - len(tasks), len(queue))):
                tasks.append(queue.popitem(last=False)[1])
        if tasks:
            post.flying += len(tasks)
            self._send(post.id, tasks)

    def _send(self, node: int, tasks: list[Task]) -> None:
        """Notes that tasks, already counted as flying, go to a node."""
        held = self._members[node].held
        for task in tasks:
            task.place = node
            held[task.ticket] = task
        send = self._sends.get(node)
        if send is None:
            self._sends[node] = Send(node, tasks)
        else:
            send.tasks.extend(tasks)

    # ---- time ----

    def _on_time(self, _event: TimePassed) -> None:
        while (key := self._agenda.pop(self._now)) is not None:
            self._alarms[key[0]](key[1])

    def _time_up(self, number: int) -> None:
        task = self._tasks[number]
        self._stop(task, Code.DEADLINE, f"task ran past its timeout of {task.timeout_ms} ms")

    def _give_up(self, number: int) -> None:
        task = self._tasks[number]
        del self._waiting[task.kind][number]
        need = "a worker for it (start one with --workers)" if task.kind is Kind.WASM else "room"
        text = f"no node of the mesh had {need} within {NO_WORKER_MS // 1000} s"
        self._fail(task, Code.NO_WORKER, 0, text)

    def _retry(self, number: int) -> None:
        task = self._tasks[number]
        if task.node is None:
            self._place([task], again=True)
        else:
            self._pin(task)

    def _forget(self, key: tuple[int, int]) -> None:
        """The node did not confirm that a send was stopped: its place is free all the same."""
        node, ticket = key
        member = self._members[node]
        kind = member.held.pop(ticket).kind
        member.posts[kind].flying -= 1
        self._refill(member, kind)

    def _rested(self, key: tuple[int, Kind]) -> None:
        node, kind = key
        member = self._members[node]
        member.posts[kind].resting = False
        self._refill(member, kind)
