"""Puts, gets and removals under way: policies of files joined to the loop and to bulk links.

Owns: which policy waits for which answer, chunks that wait for a link to take them, and the memory
of chunks on their way. Refuses to know: what is decided (`velum.policy.putting`, `getting`), what a
caller holds (`velum.fileaccess`), and what a node keeps (`velum.store`). A client and a node run
the same code; a node reaches even itself over a link.

How: a `Run` is one policy; it performs effects by putting a frame or a chunk on a node's bulk link
under a correlation of its own, and an answer finds its run by the correlation. What a link does not
take now waits in the node's queue. A node that is lost is told to every run that has something
there.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from velum import _core, frames
from velum.addresses import Address
from velum.api import TaskFuture
from velum.bulklinks import BulkLinks
from velum.errors import code_of, error_from, error_table
from velum.outbox import Outbox
from velum.policy import transfer_io as io
from velum.policy.filetypes import (
    ASK_ENTRY,
    ASK_VERSION,
    KEEPERS_MIN,
    NAMED_HERE,
    NAMED_KEPT,
    NAMED_REPLACED,
    SEND,
    TOMBSTONE,
    Coding,
    Entry,
    entry_of,
)
from velum.policy.hybridclock import Clock, Version
from velum.policy.putting import Put
from velum.runtime import Runtime, epoch_ms, now_ms
from velum.smallfiles import SmallFiles

_VERSION, _ENTRY = -1, -2

RETRY_MS = 2  # between two attempts to put on a link what it did not take
LOOK_S = 0.5  # who waits for the loop looks so often whether it has ended

_ANSWERS: Final = {  # questions, and the frames that answer them
    frames.QUERY: frames.ANSWER,
    frames.NAMES_ASK: frames.NAMES,
    frames.OFFER: frames.OFFERED,
    frames.CLAIMS: frames.CLAIMED,
}
_AT_FAULT: Final = frozenset({code_of("CHUNK_MISSING"), code_of("CHUNK_HASH")})

Effects = list[Any]
Then = Callable[[int, Any], None]


class Policy(Protocol):
    """What putter, getter, lookup and remover have in common."""

    def handle(self, event: Any, now: int) -> Effects: ...

    def next_deadline(self) -> int | None: ...


@dataclass(slots=True)
class _Pending:
    """An answer that is waited for."""

    run: Run
    node: int
    number: int = _VERSION  # of a Hold or Want; or what it asked for
    shard: int = 0
    link: int = 0  # of a Want: where its chunk comes


@dataclass(slots=True)
class _Question:
    """One whose answer is no policy's."""

    node: int
    answer: int  # the frame's type
    count: int  # of its body; 0: any
    then: Then


class Run:
    """One policy under way. Those who know what its end means override `ended`."""

    def __init__(self, transfers: Transfers, policy: Policy | None, digest: bytes) -> None:
        """`digest` is of the name that it is about."""
        self.transfers = transfers
        self.policy = policy
        self.digest = digest
        self.over = False
        self.at: dict[tuple[int, int, int], int] = {}  # (node, number, shard): correlation

    def handle(self, event: Any) -> None:
        """Gives the policy an event and performs what it says."""
        if self.over or self.policy is None:
            return
        for effect in self.policy.handle(event, now_ms()):
            self.perform(effect)

    def next_deadline(self) -> int | None:
        """When the policy is to be told the time."""
        return self.policy.next_deadline() if self.policy is not None else None

    def perform(self, effect: Any) -> None:
        """Performs one effect; nothing comes after the last."""
        action = getattr(self, "_" + type(effect).__name__, None)
        if action is None:
            self.end()
            self.ended(effect)
        else:
            action(effect)

    def start(self, event: Any) -> None:
        """Begins with the policy's first event."""
        self.transfers.runs.add(self)
        self.handle(event)

    def end(self) -> None:
        """It is over: no answer is waited for any more."""
        self.over = True
        self.transfers.forget(self)

    def ended(self, outcome: Any) -> None:
        """The last effect: Finish, Fail, Found, NotFound or Unreachable."""
        raise NotImplementedError

    # ---- effects that all share ----

    def _AskVersion(self, effect: io.AskVersion) -> None:
        self.transfers.ask(self, effect.node, ASK_VERSION)

    def _AskEntry(self, effect: io.AskEntry) -> None:
        self.transfers.ask(self, effect.node, ASK_ENTRY)

    def _SendEntry(self, effect: io.SendEntry) -> None:
        self.transfers.send_entry(self, effect.node, effect.entry)

    def _Release(self, effect: io.Release) -> None:
        self.transfers.release(effect)


class Transfers:
    """All runs of one runtime. Everything runs in its loop."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.hub = runtime.hub
        self.call_soon = runtime.call_soon
        self.clock = Clock(int.from_bytes(os.urandom(4), "little"))
        self._next = 0
        self.links = BulkLinks(runtime, self._opened, self._lost)
        self._outbox = Outbox(runtime, self._link_to, self._cut)
        self.members = io.Members([])
        self.keepers = keepers_of(self.members)
        self.runs: set[Run] = set()
        self.small = SmallFiles(self)
        self._pending: dict[int, _Pending] = {}
        self._queues: dict[int, deque[Callable[[int], bool]]] = {}  # by node
        self._retry: int | None = None
        self.on_stored: Callable[[int, bytes, int], None] = lambda *_: None  # a node's store
        self.on_lost: Callable[[int], None] = lambda _: None  # a member that was not reached
        self._questions: dict[int, _Question] = {}
        runtime.on_frame(frames.HELD, self._on_held)
        for frame in (frames.NAMES, frames.OFFERED, frames.CLAIMED):
            runtime.on_frame(frame, partial(self.on_answer, frame=frame))
        runtime.on_event(_core.CHUNK, self._on_chunk)
        runtime.services.append(self)

    def next_number(self) -> int:
        """A correlation that was never used on these links."""
        self._next += 1
        return self._next

    # ---- members ----

    def set_members(self, ram: list[io.Ram], addresses: Mapping[int, Address]) -> None:
        """Who there is now."""
        if list(self.members.ram.values()) == sorted(ram):
            self.links.set_addresses(addresses)
            return
        self.members = io.Members(sorted(ram))
        self.keepers = keepers_of(self.members)
        self.links.set_addresses(addresses)
        for run in list(self.runs):
            run.handle(io.MembersChanged(self.members))
        self.links.cut_others(self.members.ram)

    def outcome(self, future: TaskFuture) -> Any:
        """The result of a future that the loop settles; LEAVING when it has ended. Any thread."""
        while True:
            try:
                return future.result(LOOK_S)
            except FutureTimeout:
                if self._runtime.stopped.is_set() and not future.done():
                    text = "the node or client was closed"
                    raise error_from(code_of("LEAVING"), text) from None

    def put(self, digest: bytes, name: bytes, coding: Coding, chunk_bytes: int) -> Put:
        """The policy of a new put. Any thread."""
        return Put(digest, name, self.clock, coding, chunk_bytes, self.members, epoch_ms())

    # ---- sending ----

    def correlate(self, run: Run, node: int, number: int = _VERSION, shard: int = 0) -> int:
        """A correlation whose answer is the run's."""
        correlation = self.next_number()
        self._pending[correlation] = _Pending(run, node, number, shard)
        if number >= 0:
            run.at[node, number, shard] = correlation
        return correlation

    def ask(self, run: Run, node: int, how: int) -> None:
        """ENTRY_ASK."""
        number = _ENTRY if how == ASK_ENTRY else _VERSION
        correlation = self.correlate(run, node, number) | _core.ANSWER_BIT
        payload = _core.encode_entry_ask(how, run.digest)
        self.send(node, frames.ENTRY_ASK, correlation, payload)

    def send_entry(self, run: Run, node: int, entry: Entry) -> None:
        """ENTRY."""
        correlation = self.correlate(run, node)
        self.send(node, frames.ENTRY, correlation, _core.encode_entry(entry))

    def release(self, effect: io.Release) -> None:
        """RELEASE."""
        payload = _core.encode_release(effect.how, effect.digest, effect.version)
        self.send(effect.node, frames.RELEASE, 0, payload)

    def send(self, node: int, frame: int, correlation: int, payload: bytes) -> None:
        """Puts a frame on a node's link, opening one."""
        self._outbox.send_to(node, frame, correlation, payload)

    @property
    def is_sent(self) -> bool:
        """Whether all that was to be said is on its way. Any thread."""
        return self._outbox.is_empty

    def query(self, node: int, topic: str, then: Then) -> None:
        """QUERY; calls then(node, answer), None if it is lost first."""
        correlation = self.next_number()
        self._questions[correlation] = _Question(node, frames.ANSWER, 0, then)

        def send(link: int) -> bool:
            return self.hub.send_query(link, correlation, topic)

        self.put_on(node, send)

    def request(self, node: int, frame: int, payload: bytes, then: Then, count: int = 0) -> None:
        """Sends a frame whose answer has one of its own; calls then(node, its body or None). An
        answer of another length than `count` is none."""
        correlation = self.next_number()
        self._questions[correlation] = _Question(node, _ANSWERS[frame], count, then)
        self.send(node, frame, correlation, payload)

    def send_chunk(self, run: Run, name: tuple[int, int, int], key: bytes, data: Any) -> None:
        """Sends the chunk of a Hold that was answered SEND, named by (node, number, shard)."""
        correlation = run.at[name]

        def send(link: int) -> bool:
            if correlation not in self._pending:
                return True
            return self.hub.send_chunk(link, correlation, key, data)

        self.put_on(name[0], send)

    def want(self, run: Run, node: int, number: int, key: bytes, target: Any) -> None:
        """Asks a node for a chunk, received into a buffer of its size."""
        correlation = self.correlate(run, node, number)

        def ask(link: int) -> bool:
            pending = self._pending.get(correlation)
            if pending is None:
                return True
            pending.link = link if self.hub.want(link, correlation, key, target) else 0
            return pending.link != 0

        self.put_on(node, ask)

    def put_on(self, node: int, action: Callable[[int], bool]) -> None:
        """Calls action(link) once the node's link is open, again until it returns True."""
        queue = self._queues.get(node)
        if queue:
            queue.append(action)
            return
        link = self._link_to(node)
        if not link or not action(link):
            self._queues.setdefault(node, deque()).append(action)
            self._retry = self._retry or now_ms() + RETRY_MS

    def _pump(self, node: int) -> None:
        queue = self._queues.get(node)
        link = self._link_to(node) if queue else 0
        while queue and link and queue[0](link):
            queue.popleft()
        if not queue:
            self._queues.pop(node, None)

    def _link_to(self, node: int) -> int:
        try:
            return self.links.link(node)
        except _core.CoreError as error:
            self._runtime.call_soon(self._lost, node, error.code, str(error))
            return 0

    def _cut(self, link: int, code: int, text: str) -> None:
        node = self.links.node_at(link)
        if node:
            self.links.cut(node, code, text)

    # ---- links come and go ----

    def _opened(self, node: int) -> None:
        self._outbox.linked(node, self.links.link(node))
        self._pump(node)

    def _lost(self, node: int, code: int, text: str) -> None:
        self._outbox.lost(node)
        self._queues.pop(node, None)
        why = text or str(error_from(code))
        told = dict.fromkeys(self.runs)  # a put must hear it of every node where it has claims
        for correlation, pending in list(self._pending.items()):
            if pending.node == node:
                self._drop(correlation)
                told[pending.run] = None
        for correlation, question in list(self._questions.items()):
            if question.node == node:
                self._answer(correlation, None)
        self.small.on_lost()
        for run in told:
            run.handle(io.LinkLost(node, why))
        self.on_lost(node)

    def on_closed(self, link: int, code: int, text: str) -> bool:
        """Whether a link that is gone was one of these."""
        self._outbox.closed(link)
        return self.links.on_closed(link, code, text)

    # ---- answers ----

    def _drop(self, correlation: int) -> _Pending | None:
        pending = self._pending.pop(correlation, None)
        if pending is not None:
            pending.run.at.pop((pending.node, pending.number, pending.shard), None)
        return pending

    def forget(self, run: Run) -> None:
        """The run is over."""
        self.runs.discard(run)
        for correlation, pending in list(self._pending.items()):
            if pending.run is run:
                self.withdraw(correlation)

    def withdraw(self, correlation: int) -> None:
        """No answer is waited for. Nothing of a chunk that was wanted comes any more; of one that
        was to be held nothing is kept, though what the hub was given it still sends."""
        pending = self._drop(correlation)
        if pending is None or pending.number < 0:
            return
        if pending.link:
            self.hub.unwant(pending.link, correlation)
        elif link := self._link_if_open(pending.node):
            payload = code_of("CANCELLED").to_bytes(2, "little")
            self._outbox.send(link, frames.CANCEL, correlation, payload)

    def _link_if_open(self, node: int) -> int:
        return self.links.link(node) if self.links.is_open(node) else 0

    def is_pending(self, correlation: int) -> bool:
        """Whether somebody still waits for its answer."""
        return correlation in self._pending

    def on_named(self, link: int, named: list[tuple[int, Any]]) -> bool:
        """ENTRYs and VERSIONs; False if they came on another link."""
        node = self.links.node_at(link)
        if not node:
            return False
        for correlation, body in named:
            if not self.small.on_named(correlation, body):
                self._named(node, correlation, body)
        return True

    def _named(self, node: int, correlation: int, body: tuple[Any, ...]) -> None:
        pending = self._answered(node, correlation & ~_core.ANSWER_BIT)
        if pending is None:
            return
        if len(body) == 3:
            what, kind, version = body
            what = NAMED_KEPT if what == NAMED_REPLACED else what
            event: Any = io.VersionHeard(pending.node, what, Version(*version))
            if pending.number == _ENTRY and what == NAMED_HERE and kind == TOMBSTONE:
                tombstone = Entry(b"", Version(*version), KEEPERS_MIN, None)
                event = io.EntryHeard(pending.node, tombstone)
        else:
            event = io.EntryHeard(pending.node, entry_of(body))
        pending.run.handle(event)

    def on_error(self, link: int, correlation: int, body: tuple[int, int, int, str]) -> bool:
        """ERROR; False if it came on another link."""
        node = self.links.node_at(link)
        if not node:
            return False
        correlation &= ~_core.ANSWER_BIT
        if self.small.on_error(correlation):
            return True
        question = self._questions.get(correlation)
        if question is not None and question.node == node:
            self._answer(correlation, None)
            return True
        pending = self._answered(node, correlation)
        if pending is None:
            return True
        code, _node, _deaths, text = body
        name = error_table().get(code, ("UNKNOWN", ""))[0]
        pending.run.handle(io.Refused(pending.node, name, text, pending.number, pending.shard))
        return True

    def on_answer(self, link: int, correlation: int, body: Any, frame: int = frames.ANSWER) -> bool:
        """ANSWER, NAMES, OFFERED or CLAIMED; False if it came on another link."""
        node = self.links.node_at(link)
        question = self._questions.get(correlation)
        if question is not None and question.node == node and question.answer == frame:
            right = not question.count or len(body) == question.count
            self._answer(correlation, body if right else None)
        return node != 0

    def _answer(self, correlation: int, body: Any) -> None:
        question = self._questions.pop(correlation)
        question.then(question.node, body)

    def _answered(self, node: int, correlation: int) -> _Pending | None:
        """What a node has answered, if it was asked."""
        pending = self._pending.get(correlation)
        return self._drop(correlation) if pending is not None and pending.node == node else None

    def _on_held(self, link: int, correlation: int, body: tuple[int, int]) -> None:
        pending = self._pending.get(correlation)
        if pending is None or pending.node != self.links.node_at(link):
            return
        state, free_bytes = body
        if state != SEND:
            self._drop(correlation)
        pending.run.handle(
            io.HeldHeard(pending.node, pending.number, pending.shard, state, free_bytes)
        )

    def _on_chunk(self, link: int, what: int, correlation: int, key: bytes, error: int) -> None:
        if what == _core.CHUNK_STORED:
            self.on_stored(link, key, error)
            return
        node = self.links.node_at(link)
        if what == _core.CHUNK_SENT:
            pending = self._pending.get(correlation)
            if pending is not None and not error:
                pending.run.handle(io.Progressed(pending.node))
        elif not error or error in _AT_FAULT:  # else the link is over: that will be told
            pending = self._drop(correlation)
            if pending is not None:
                kind = io.ChunkFailed if error else io.ChunkArrived
                pending.run.handle(kind(pending.node, pending.number))
        self._pump(node)

    # ---- timers ----

    def next_deadline(self) -> int | None:
        """The nearest of all runs'."""
        times = [run.next_deadline() for run in self.runs]
        times += [self._retry, self.links.next_deadline(), self.small.next_deadline()]
        return min((time for time in times if time is not None), default=None)

    def on_time(self, now: int) -> None:
        """Tells the policies the time; tries again what links did not take."""
        if self._retry is not None and self._retry <= now:
            for node in list(self._queues):
                self._pump(node)
            self._retry = now + RETRY_MS if self._queues else None
        self.small.on_time(now)
        for run in list(self.runs):
            due = run.next_deadline()
            if due is not None and due <= now:
                run.handle(io.TimePassed())
        busy = {pending.node for pending in self._pending.values()}
        self.links.close_idle(now, busy.__contains__)


def keepers_of(members: io.Members) -> Callable[[bytes, int], tuple[int, ...]]:
    """Who keeps a name: as `Members.placement.keepers`, five times as quick."""
    if not members.ram:
        return lambda _digest, _count: ()
    ids = sorted(members.ram)
    names = _core.Names(ids[0], 0)
    names.set_members(ids)
    return names.keepers
