"""Programs that put, get and remove files of a simulated mesh, by the production policies.

Owns: a process's own links to nodes and who waits for which answer on them, as
`velum/transfers.py`; puts, gets and removals, as `uploads.py`, `downloads.py` and `fileaccess.py`;
what a program wants next. Refuses to know: what is decided (`velum.policy`), what a node keeps
(`storage_node.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

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
    Digest,
    Entry,
    Key,
    Manifest,
)
from velum.policy.getting import Get
from velum.policy.hybridclock import Clock, Version
from velum.policy.lookup import Lookup
from velum.policy.putting import Put
from velum.policy.removing import Remove
from velum.sim.host import Status
from velum.sim.storage_files import Write, key_of, shard_of
from velum.sim.storage_link import TO_OPENER, TO_TARGET, Frame, Kind, Link, Process

if TYPE_CHECKING:
    from velum.sim.storage import World
    from velum.sim.storage_node import Node

LINK_IDLE_MS: Final = 60_000  # velum/bulklinks.py
LEARN_MS: Final = (500, 3_000)  # between two times that a client learns who there is
REST_MS: Final = (0, 4_000)  # of a program between two files
READ_MS: Final = (0, 30)  # for a program to read the next chunk of what it puts
DECODE_MS: Final = (0, 20)
RESTARTS_MAX: Final = 3  # of a get whose file is replaced

_VERSION, _ENTRY = -1, -2

Then = Callable[[int, Any], None]
ReadThen = Callable[[str, Version | None], None]


@dataclass(slots=True, eq=False)
class _Pending:
    """An answer that is waited for."""

    run: Run
    node: int
    number: int
    shard: int


class Run:
    """One policy under way; who knows what its end means overrides `ended`."""

    def __init__(self, transfers: Transfers, policy: Any, digest: Digest) -> None:
        self.transfers = transfers
        self.policy = policy
        self.digest = digest
        self.over = False
        self.at: dict[tuple[int, int, int], int] = {}  # (node, number, shard): correlation

    def handle(self, event: Any) -> None:
        """Gives the policy an event and performs what it says."""
        if self.over or self.policy is None:
            return
        for effect in self.policy.handle(event, self.transfers.process.now_ms):
            self.perform(effect)
        self.policy.validate()
        self.transfers.process.plan_wake()

    def perform(self, effect: Any) -> None:
        """Performs one effect; nothing comes after the last."""
        action = getattr(self, "_" + type(effect).__name__, None)
        if action is None:
            assert not self.over, "a second end"
            self.end()
            self.ended(effect)
        else:
            action(effect)

    def start(self, event: Any) -> None:
        self.transfers.runs[self] = None
        self.handle(event)

    def end(self) -> None:
        """No answer is waited for any more."""
        self.over = True
        self.transfers.forget(self)

    def ended(self, outcome: Any) -> None:
        """The last effect."""
        raise NotImplementedError

    def _AskVersion(self, effect: io.AskVersion) -> None:
        self.transfers.ask(self, effect.node, ASK_VERSION)

    def _AskEntry(self, effect: io.AskEntry) -> None:
        self.transfers.ask(self, effect.node, ASK_ENTRY)

    def _SendEntry(self, effect: io.SendEntry) -> None:
        correlation = self.transfers.correlate(self, effect.node)
        self.transfers.send(effect.node, Frame(Kind.ENTRY, correlation, effect.entry))

    def _Release(self, effect: io.Release) -> None:
        body = (effect.how, effect.digest, effect.version)
        self.transfers.send(effect.node, Frame(Kind.RELEASE, 0, body))


class Transfers:
    """What one process asks of nodes."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.clock = Clock(process.world.origin())
        self.members = io.Members([])
        self.runs: dict[Run, None] = {}
        self.on_lost: Callable[[int], None] = lambda _: None
        self._next = 0
        self._links: dict[int, Link] = {}  # by node; dialled or open
        self._used: dict[int, int] = {}
        self._waiting: dict[int, list[Frame]] = {}  # for a link
        self._pending: dict[int, _Pending] = {}
        self._questions: dict[int, tuple[int, Then]] = {}

    # ---- members ----

    def set_members(self, ram: list[io.Ram]) -> None:
        if list(self.members.ram.values()) == sorted(ram):
            return
        self.members = io.Members(sorted(ram))
        for run in list(self.runs):
            run.handle(io.MembersChanged(self.members))

    # ---- sending ----

    def correlate(self, run: Run, node: int, number: int = _VERSION, shard: int = 0) -> int:
        self._next += 1
        self._pending[self._next] = _Pending(run, node, number, shard)
        if number >= 0:
            assert (node, number, shard) not in run.at, "two under way of one name"
            run.at[node, number, shard] = self._next
        return self._next

    def ask(self, run: Run, node: int, how: int) -> None:
        correlation = self.correlate(run, node, _ENTRY if how == ASK_ENTRY else _VERSION)
        self.send(node, Frame(Kind.ENTRY_ASK, correlation, (how, run.digest), True))

    def request(self, node: int, kind: Kind, body: Any, then: Then) -> None:
        """A question of which the caller is told the answer's body, None if it is lost first."""
        self._next += 1
        self._questions[self._next] = (node, then)
        self.send(node, Frame(kind, self._next, body))

    def want(self, run: Run, node: int, number: int, key: Key) -> None:
        self.send(node, Frame(Kind.WANT, self.correlate(run, node, number), key))

    def send_chunk(self, run: Run, name: tuple[int, int, int], key: Key, data: bytes) -> None:
        """The chunk of a Hold that was answered SEND."""
        self.send(name[0], Frame(Kind.CHUNK, run.at[name], (key, data)))

    def send(self, node: int, frame: Frame) -> None:
        """Puts a frame on a node's link, opening one."""
        process = self.process
        self._used[node] = process.world.now_ms
        link = self._links.get(node)
        if link is None:
            target = process.world.node_at(node)
            if node not in self.members.ram or target is None:
                process.after(0, self._lost, node)
                self._waiting.setdefault(node, []).append(frame)
                return
            link = self._links[node] = process.world.links.dial(process, target)
            self._waiting.setdefault(node, [])
        if node in self._waiting:
            self._waiting[node].append(frame)
        else:
            self._put_on(link, node, frame)

    def _put_on(self, link: Link, node: int, frame: Frame) -> None:
        if frame.kind in (Kind.CHUNK, Kind.WANT) and frame.correlation not in self._pending:
            return
        when_ms = self.process.world.links.send(link, TO_TARGET, frame)
        if frame.kind is Kind.CHUNK:
            wait_ms = max(0, when_ms - self.process.world.now_ms - 1)
            self.process.after(wait_ms, self._chunk_sent, link, frame.correlation)

    def _chunk_sent(self, link: Link, correlation: int) -> None:
        pending = self._pending.get(correlation)
        if pending is not None and not link.heard[TO_OPENER] and not link.broken:
            pending.run.handle(io.Progressed(pending.node))

    # ---- links come and go ----

    def opened(self, link: Link) -> None:
        node = link.target.id
        if self._links.get(node) is link:
            for frame in self._waiting.pop(node, ()):
                self._put_on(link, node, frame)

    def ended(self, link: Link) -> None:
        node = link.target.id
        if self._links.get(node) is link:
            del self._links[node]
            self._lost(node)

    def _lost(self, node: int) -> None:
        """A link, or the attempt to open it, is gone, and with it all that is under way there."""
        if node in self._links:
            return
        self._waiting.pop(node, None)
        told: dict[Run, None] = {}
        for correlation, pending in list(self._pending.items()):
            if pending.node == node:
                self._drop(correlation)
                told[pending.run] = None
        for correlation, (asked, then) in list(self._questions.items()):
            if asked == node:
                del self._questions[correlation]
                then(node, None)
        for run in told:
            run.handle(io.LinkLost(node))
        self.on_lost(node)

    def close_idle(self) -> None:
        """Ends links that nobody used for a while."""
        now_ms = self.process.world.now_ms
        busy = {pending.node for pending in self._pending.values()}
        for node, link in list(self._links.items()):
            if now_ms - self._used[node] < LINK_IDLE_MS or node in self._waiting:
                continue
            if node in busy:
                self._used[node] = now_ms
            else:
                self.process.world.links.drop(link, TO_OPENER)
                del self._links[node]
                self._lost(node)

    # ---- answers ----

    def _drop(self, correlation: int) -> _Pending | None:
        pending = self._pending.pop(correlation, None)
        if pending is not None:
            pending.run.at.pop((pending.node, pending.number, pending.shard), None)
        return pending

    def forget(self, run: Run) -> None:
        """The run is over."""
        self.runs.pop(run, None)
        for correlation, pending in list(self._pending.items()):
            if pending.run is run:
                self.withdraw(correlation)

    def withdraw(self, correlation: int) -> None:
        """No answer is waited for."""
        pending = self._drop(correlation)
        link = self._links.get(pending.node) if pending is not None else None
        if pending is None or pending.number < 0 or link is None or pending.node in self._waiting:
            return
        self.process.world.links.send(link, TO_TARGET, Frame(Kind.CANCEL, correlation, None))

    def heard(self, link: Link, frame: Frame) -> None:
        """An answer has come."""
        node = link.target.id
        if self._links.get(node) is not link:
            return
        if (asked := self._questions.pop(frame.correlation, None)) is not None:
            asked[1](node, None if frame.kind is Kind.ERROR else frame.body)
            return
        pending = self._pending.get(frame.correlation)
        if pending is None or pending.node != node:
            return
        if frame.kind is not Kind.HELD or frame.body[0] != SEND:
            self._drop(frame.correlation)
        event = _event_of(pending, frame)
        if event is not None:
            pending.run.handle(event)

    # ---- timers ----

    def next_deadline(self) -> int | None:
        dues = [run.policy.next_deadline() for run in self.runs if run.policy is not None]
        return min((due for due in dues if due is not None), default=None)

    def on_time(self) -> None:
        now = self.process.now_ms
        for run in list(self.runs):
            due = run.policy.next_deadline() if run.policy is not None else None
            if due is not None and due <= now:
                run.handle(io.TimePassed())


def _event_of(pending: _Pending, frame: Frame) -> Any:
    """What an answer says to a policy."""
    node, number, shard = pending.node, pending.number, pending.shard
    if frame.kind is Kind.HELD:
        return io.HeldHeard(node, number, shard, *frame.body)
    if frame.kind is Kind.CHUNK:
        assert isinstance(pending.run, Fetching), "a chunk that nobody wanted"
        key, data = frame.body
        right = key_of(data) == key and pending.run.take(number, key, data)
        return io.ChunkArrived(node, number) if right else io.ChunkFailed(node, number)
    if frame.kind is Kind.ERROR:
        if isinstance(pending.run, Fetching) and number >= 0:
            return io.ChunkFailed(node, number)
        return io.Refused(node, frame.body, "", number, shard)
    if frame.kind is Kind.ENTRY:
        return io.EntryHeard(node, frame.body)
    assert frame.kind is Kind.VERSION, frame.kind
    what, kind, version = frame.body
    if number == _ENTRY and what == NAMED_HERE and kind == TOMBSTONE:
        return io.EntryHeard(node, Entry(b"", version, KEEPERS_MIN, None))
    return io.VersionHeard(node, NAMED_KEPT if what == NAMED_REPLACED else what, version)


class Fetching(Run):
    """One that wants chunks."""

    def take(self, number: int, key: Key, data: bytes) -> bool:
        """A chunk that was wanted, with the right hash; whether it is the one."""
        raise NotImplementedError


# ---- puts ----


class PutRun(Run):
    """A put, its program that reads, and the memory of its chunks."""

    def __init__(self, transfers: Transfers, write: Write, then: Callable[[Any], None]) -> None:
        process = transfers.process
        policy = Put(
            write.digest,
            write.name,
            transfers.clock,
            write.coding,
            write.chunk_bytes,
            transfers.members,
            process.epoch_ms,
        )
        super().__init__(transfers, policy, write.digest)
        self.write = write
        self._then = then
        self._units = [] if not write.chunk_bytes else write.units()
        self._buffers: dict[int, list[bytes]] = {}
        self._number = 0
        self._window = process.world.rng.randint(2, 12)  # units
        self._reading = False

    def begin(self) -> None:
        content = self.write.content
        assert content is not None
        if not self.write.chunk_bytes:
            self.start(io.SmallFileReady(content))
            return
        known = self.transfers.process.world.rng.random() < 0.5
        self.start(io.StreamBegan(len(content) if known else None))
        self._read_on()

    def _read_on(self) -> None:
        """The program reads its next chunk, if there is room for it."""
        if self.over or self._reading or len(self._buffers) >= self._window:
            return
        self._reading = True
        process = self.transfers.process
        process.after(process.world.rng.randint(*READ_MS), self._read)

    def _read(self) -> None:
        self._reading = False
        if self.over:
            return
        number = self._number
        if number == len(self._units):
            assert self.write.content is not None
            self.handle(io.StreamEnded(len(self.write.content)))
            return
        self._number += 1
        shards = self._buffers[number] = self._units[number]
        keys = tuple(key_of(shard) for shard in shards)
        if self.write.coding.m:
            self.handle(io.StripeReady(number, keys, len(shards[0])))
        else:
            self.handle(io.ChunkReady(number, keys[0], len(shards[0])))
        self._read_on()

    def _Hold(self, effect: io.Hold) -> None:
        correlation = self.transfers.correlate(self, effect.node, effect.number, effect.shard)
        body = (effect.key, effect.size, (effect.claim,), False)
        self.transfers.send(effect.node, Frame(Kind.HOLD, correlation, body))

    def _Send(self, effect: io.Send) -> None:
        buffers = self._buffers[effect.number]
        data = buffers[effect.shard if len(buffers) > 1 else 0]
        name = (effect.node, effect.number, effect.shard)
        self.transfers.send_chunk(self, name, effect.key, data)

    def _Withdraw(self, effect: io.Withdraw) -> None:
        correlation = self.at.get((effect.node, effect.number, effect.shard))
        if correlation is not None:
            self.transfers.withdraw(correlation)

    def _LetGo(self, effect: io.LetGo) -> None:
        self._buffers.pop(effect.number, None)
        self._read_on()

    def _SendEntry(self, effect: io.SendEntry) -> None:
        self.transfers.process.world.book.sent(self.write, effect.entry)
        super()._SendEntry(effect)

    def ended(self, outcome: Any) -> None:
        self._buffers.clear()
        self._then(outcome)


class RemoveRun(Run):
    """A removal."""

    def __init__(self, transfers: Transfers, write: Write, then: Callable[[Any], None]) -> None:
        epoch_ms = transfers.process.epoch_ms
        members = transfers.members
        policy = Remove(write.digest, write.name, transfers.clock, members, epoch_ms)
        super().__init__(transfers, policy, write.digest)
        self.write = write
        self._then = then

    def _SendEntry(self, effect: io.SendEntry) -> None:
        self.transfers.process.world.book.sent(self.write, effect.entry)
        super()._SendEntry(effect)

    def ended(self, outcome: Any) -> None:
        self._then(outcome)


# ---- gets ----


class LookupRun(Run):
    """What does a name stand for?"""

    def __init__(self, transfers: Transfers, digest: Digest, then: Callable[[Any], None]) -> None:
        super().__init__(transfers, Lookup(digest, transfers.members), digest)
        self._then = then

    def ended(self, outcome: Any) -> None:
        if isinstance(outcome, io.Found):
            self.transfers.process.world.book.check_entry(outcome.entry)
        self._then(outcome)


class GetRun(Fetching):
    """Ranges of one version, read one after another; `then` is told its Fail or Restart, or None
    when all were read."""

    def __init__(
        self,
        transfers: Transfers,
        entry: Entry,
        ranges: Sequence[tuple[int, int]],
        then: Callable[[Any], None],
    ) -> None:
        super().__init__(transfers, Get(entry, transfers.members), key_of(entry.name))
        assert entry.manifest is not None
        self.entry = entry
        self._manifest: Manifest = entry.manifest
        self._then = then
        self._memory: dict[int, bytes] = {}
        self._ranges = list(ranges)
        self._first = self._end = 0  # of the range that is being read
        self._got = b""

    def begin(self) -> None:
        self.transfers.runs[self] = None
        self._next()

    def _next(self) -> None:
        if self.over:
            return
        if not self._ranges:
            self.end()
            self._then(None)
            return
        self._first, self._end = self._ranges.pop(0)
        self._got = b""
        self.handle(io.Needed(self._first, self._end))

    def take(self, number: int, key: Key, data: bytes) -> bool:
        assert key == self._manifest.keys[number], "another chunk than was wanted"
        self._memory[number] = data
        return True

    def _Want(self, effect: io.Want) -> None:
        self.transfers.want(self, effect.node, effect.number, effect.key)

    def _Unwant(self, effect: io.Unwant) -> None:
        correlation = self.at.get((effect.node, effect.number, 0))
        if correlation is not None:
            self.transfers.withdraw(correlation)

    def _LetGo(self, effect: io.LetGo) -> None:
        del self._memory[effect.number]

    def _Give(self, effect: io.Give) -> None:
        assert effect.first == self._first + len(self._got), "bytes out of order"
        size = effect.end - effect.first
        self._got += self._memory[effect.number][effect.offset : effect.offset + size]
        if self._first + len(self._got) == self._end:
            entry, process = self.entry, self.transfers.process
            process.world.book.check_read(entry.name, entry.version, self._first, self._got)
            process.after(0, self._next)

    def _Decode(self, effect: io.Decode) -> None:
        k, m = self._manifest.coding
        first = effect.stripe * (k + m)
        have = {index: self._memory[first + index] for index in effect.have}
        process = self.transfers.process
        process.after(process.world.rng.randint(*DECODE_MS), self._decode, effect.stripe, have)

    def _decode(self, stripe: int, have: dict[int, bytes]) -> None:
        if self.over:
            return
        k, m = self._manifest.coding
        first = stripe * (k + m)
        data = [shard_of(have, index) for index in range(k)]
        keys = self._manifest.keys[first : first + k]
        right = all(key_of(shard) == key for shard, key in zip(data, keys, strict=True))
        for index, shard in enumerate(data):
            self._memory.setdefault(first + index, shard)
        self.handle(io.Decoded(stripe, right))

    def _Relook(self, _effect: io.Relook) -> None:
        run = LookupRun(self.transfers, self.digest, lambda out: self.handle(io.Relooked(out)))
        run.start(io.TimePassed())

    def ended(self, outcome: Any) -> None:
        self._then(outcome)


# ---- programs ----


class Program:
    """Puts, gets and removes files in one process, one after another, as chance wants."""

    def __init__(self, process: Process, transfers: Transfers) -> None:
        self.process = process
        self.transfers = transfers
        self.busy = False
        self.writing: Write | None = None

    @property
    def world(self) -> World:
        return self.process.world

    def rest(self) -> None:
        """Goes on with another file a little later."""
        self.busy = False
        if self.world.wants_more():
            wait_ms = self.world.rng.randint(*REST_MS)
            self.process.after(wait_ms, self._next)

    def _next(self) -> None:
        if self.world.wants_more() and not self.busy:
            self.busy = True
            self.world.next_act(self)

    # ---- writes ----

    def write(self, write: Write, then: Callable[[], None]) -> None:
        """A put or removal, to its end."""

        def ended(outcome: Any) -> None:
            self.writing = None
            self.world.write_ended(self, write, outcome)
            then()

        self.writing = write
        if write.content is None:
            RemoveRun(self.transfers, write, ended).start(io.TimePassed())
        else:
            run = PutRun(self.transfers, write, ended)
            run.begin()
            self.world.may_abort(self.process, run)

    # ---- reads ----

    def read(self, name: bytes, then: ReadThen, tries: int = RESTARTS_MAX) -> None:
        """A get of some ranges, or of all; `then` is told "" and the version, or why not."""

        def found(outcome: Any) -> None:
            if isinstance(outcome, io.NotFound):
                then("NOT_FOUND", None)
            elif isinstance(outcome, io.Unreachable):
                then("UNREACHABLE", None)
            else:
                self._read_entry(outcome.entry, then, tries)

        LookupRun(self.transfers, key_of(name), found).start(io.TimePassed())

    def _read_entry(self, entry: Entry, then: ReadThen, tries: int) -> None:
        assert entry.manifest is not None
        if not entry.manifest.keys:
            self.world.book.check_read(entry.name, entry.version, 0, entry.manifest.data)
            then("", entry.version)
            return

        def ended(outcome: Any) -> None:
            if outcome is None:
                then("", entry.version)
            elif isinstance(outcome, io.Fail):
                then(outcome.code, None)
            elif tries:
                self.read(entry.name, then, tries - 1)
            else:
                then("STALE", None)

        ranges = self.world.draw_ranges(entry.manifest.size)
        GetRun(self.transfers, entry, ranges, ended).begin()


class Client(Process):
    """A process that is no node: it learns from one who there is."""

    def __init__(self, world: World, id: int) -> None:
        super().__init__(world, id)
        self.home: Node | None = None
        self.start()
        self.transfers = Transfers(self)
        self.program = Program(self, self.transfers)
        self._learn()

    def _learn(self) -> None:
        """Asks its node, or finds another."""
        world = self.world
        if self.home is None or not self._reaches(self.home):
            reached = [node for node in world.running() if self._reaches(node)]
            self.home = world.rng.choice(reached) if reached else None
        if self.home is not None:
            ram = list(self.home.transfers.members.ram.values())
            self.after(2 * world.network.latency_ms(), self.transfers.set_members, ram)
        if self.program.busy or not world.calm:
            self.after(world.rng.randint(*LEARN_MS), self._learn)

    def _reaches(self, node: Node) -> bool:
        return node.status is Status.UP and self.world.network.joined(self.id, node.id)

    def next_deadline(self) -> int | None:
        return self.transfers.next_deadline()

    def on_time(self) -> None:
        self.transfers.on_time()

    def hear_answer(self, link: Link, frame: Frame) -> None:
        self.transfers.heard(link, frame)

    def link_opened(self, link: Link) -> None:
        self.transfers.opened(link)

    def link_ended(self, link: Link) -> None:
        self.transfers.ended(link)
