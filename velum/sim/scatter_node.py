"""One simulated node of a scatter: the production policies `Jobs` and `Pool` with a played driver.

Owns: a node's process with its policies and clock, its workers, its journal, its membership's view
of the others, and what it expects of its own policies. Refuses to know: how the policies decide (it
performs effects as a node's services do), how frames travel, and when anything befalls it: that is
`scatter.py`.

How: the membership is played by a look at every other node from time to time: one that is not heard
of for a while is suspected, then gone, and usable again when there is a link. A worker runs the
slices of its lease in order, each for its cost, and reports at most every 25 ms, as
`csrc/worker_lease.c` does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from velum.policy import jobs_io as io
from velum.policy import pool as pools
from velum.policy.job import LEASE_BIT, Ask, Failure, Record, Run, Spec, State
from velum.policy.jobs import Jobs
from velum.policy.pool import Pool
from velum.sim.host import Host, Status

if TYPE_CHECKING:
    from velum.sim.scatter import Client, World

REPORT_MS: Final = 25  # csrc/include/velum_opt.h: VELUM_REPORT_MS
PATIENCE_MS: Final = (1_000, 2_500)  # of silence before a member is suspected
DECLARE_MS: Final = (1_500, 4_000)  # more before it is gone
REFUSED_MS: Final = (200, 700)  # before one whose machine refuses connections is gone
SPEED: Final = 1_000  # calibrated speed of a worker of speed 1
REPEATED: Final = 4  # frames that a new link may bring a second time
RECONNECT: Final = 0.3  # chance of a new link at each look


@dataclass(frozen=True, slots=True)
class Lease:
    """The frame LEASE."""

    ticket: int
    spec: Spec
    first: int
    count: int
    careful: bool


@dataclass(frozen=True, slots=True)
class Cut:
    """The frame TRIM."""

    ticket: int
    end: int


@dataclass(frozen=True, slots=True)
class End:
    """The frame CANCEL for a lease."""

    ticket: int


class Link:
    """One connection between two nodes, in both directions; link 0 is a node's way to itself."""

    __slots__ = ("number", "open", "arrives_ms", "held")

    def __init__(self, number: int, ends: tuple[int, int]) -> None:
        self.number = number
        self.open = True
        self.arrives_ms = dict.fromkeys(ends, 0)  # when the latest frame to each end does
        self.held: dict[int, list[Any]] = {end: [] for end in ends}  # wait for a partition's end


@dataclass(slots=True, eq=False)
class Held:
    """A lease at the node that is to run it."""

    key: pools.Key
    link: Link
    sender: int  # its coordinator
    spec: Spec
    first: int
    end: int
    careful: bool
    slot: int | None = None  # that has it


class Process:
    """One worker process."""

    __slots__ = ("alive", "lease", "next", "values", "failures", "reported_ms", "busy_ms", "stuck")

    def __init__(self) -> None:
        self.alive = True
        self.stuck = False  # in a guest that neither ends nor stops
        self.lease: Held | None = None
        self.next = 0
        self.values: list[Run] = []
        self.failures: list[Failure] = []
        self.reported_ms = 0
        self.busy_ms = 0


@dataclass(slots=True)
class View:
    """What one node's membership holds of another."""

    usable: bool = False
    gone: bool = False
    silent_ms: int | None = None  # since when it is not heard
    suspect_ms: int = 0  # it is suspected after so long a silence
    declare_ms: int = 0  # and gone after so long
    doubted_until_ms: int = 0  # suspected without a reason


@dataclass(slots=True)
class Grant:
    """A lease that a coordinator has granted and not ended, as seen from outside."""

    node: int
    job: int
    first: int
    end: int


class Node(Host):
    """A machine with its node process and workers. A `leaf` runs leases only."""

    def __init__(
        self, world: World, id: int, slots: int, speed: float, *, journal: bool, leaf: bool
    ) -> None:
        super().__init__(world, id)
        self.world = world
        self.slots = slots
        self.speed = speed
        self.calibrated = max(1, round(SPEED * speed))
        self.leaf = leaf
        self.journal: dict[int, list[io.Effect]] | None = {} if journal else None
        self.jobs: Jobs
        self.pool: Pool

    # ---- its process ----

    def boot(self) -> None:
        """A new process starts."""
        self.start()
        self.clock_ms = self.world.rng.randint(0, 1 << 40)
        self.jobs = Jobs(self.id)
        self.pool = Pool(self.slots)
        self.views = {node.id: View() for node in self.world.nodes if node is not self}
        self.self_link = Link(0, (self.id, self.id))
        self.leases: dict[pools.Key, Held] = {}
        self.processes: list[Process | None] = [None] * self.slots
        self.modules: set[int] = set()
        self.watchers: dict[int, list[Client]] = {}
        self.book: dict[int, Grant] = {}
        self.tickets: set[int] = set()
        self.attempts: dict[int, int] = {}  # that the journals tell of
        self.recent: dict[tuple[int, int], deque[Any]] = {}  # by sender and its life
        self.step(io.MemberUsable(self.id, self.slots, self.calibrated, not self.leaf))
        self.restore()
        self.serve(pools.TimePassed())

    def end(self, status: Status) -> None:
        """The process ends, and its workers with it."""
        super().end(status)
        for process in self.processes:
            if process is not None:
                process.alive = False

    def restore(self) -> None:
        """What the journal kept comes back."""
        journal = self.journal or {}
        for job, entries in list(journal.items()):
            specs = [entry.spec for entry in entries if isinstance(entry, io.Begin)]
            records = [entry.record for entry in entries if isinstance(entry, io.Tell)]
            if not specs or not records:
                del journal[job]
                continue
            kept = [entry for entry in entries if isinstance(entry, io.Keep)]
            runs = [run for entry in kept for run in entry.runs]
            failures = [failure for entry in kept for failure in entry.failures]
            self.step(io.JobRestored(specs[0], records[-1], runs, failures))
            self.modules.add(job)
            self.step(io.ModuleHeld(job))

    # ---- timers ----

    def on_time(self) -> None:
        """Gives both policies their time if it has come."""
        if (due := self.jobs.next_deadline()) is not None and due <= self.now_ms:
            self.step(io.TimePassed())
        if (due := self.pool.next_deadline()) is not None and due <= self.now_ms:
            self.serve(pools.TimePassed())

    def next_deadline(self) -> int | None:
        """The nearer one of both policies."""
        deadlines = (self.jobs.next_deadline(), self.pool.next_deadline())
        return min((when for when in deadlines if when is not None), default=None)

    # ---- the driver of the jobs ----

    def step(self, event: io.Event) -> None:
        """Hands an event to the jobs and performs what they ask for."""
        if self.leaf:
            return
        self.note_event(event)
        for effect in self.jobs.handle(event, self.now_ms):
            _PERFORM[type(effect)](self, effect)
        self.jobs.validate()
        self.plan_wake()

    def note_event(self, event: io.Event) -> None:
        """Keeps the book of open leases: what this event ends."""
        if isinstance(event, io.MemberLost):
            self.close_grants(lambda grant: grant.node == event.node)
        elif isinstance(event, io.LeaseRefused) or (
            isinstance(event, io.LeaseReported) and event.last
        ):
            self.book.pop(event.ticket, None)

    def close_grants(self, ends: Callable[[Grant], bool]) -> None:
        self.book = {ticket: grant for ticket, grant in self.book.items() if not ends(grant)}

    def perform_grant(self, effect: io.Grant) -> None:
        end = effect.first + effect.count
        assert effect.ticket & LEASE_BIT and effect.ticket not in self.tickets, "a ticket twice"
        assert 0 <= effect.first < end <= effect.spec.slices, "a lease outside its job"
        self.tickets.add(effect.ticket)
        self.world.check_grant(self, effect)
        self.book[effect.ticket] = Grant(effect.node, effect.spec.job, effect.first, end)
        self.world.figures.grants += 1
        lease = Lease(effect.ticket, effect.spec, effect.first, effect.count, effect.careful)
        self.world.send(self, effect.node, lease)

    def perform_trim(self, effect: io.Trim) -> None:
        grant = self.book[effect.ticket]
        assert grant.first <= effect.end < grant.end, "a trim that takes nothing"
        grant.end = effect.end
        self.world.send(self, effect.node, Cut(effect.ticket, effect.end))

    def perform_revoke(self, effect: io.Revoke) -> None:
        self.book.pop(effect.ticket, None)
        self.world.send(self, effect.node, End(effect.ticket))

    def perform_spec(self, effect: io.SendSpec) -> None:
        self.world.send(self, effect.node, io.SpecHeard(effect.spec, self.id))

    def perform_copy(self, effect: io.SendCopy) -> None:
        runs, failures = tuple(effect.runs), tuple(effect.failures)
        self.world.send(self, effect.node, io.CopyHeard(effect.job, self.id, runs, failures))

    def perform_record(self, effect: io.SendRecord) -> None:
        self.world.send(self, effect.node, io.RecordHeard(effect.record, self.id))

    def perform_ask(self, effect: io.SendAsk) -> None:
        asked: dict[int, io.Event] = {
            Ask.CANCEL: io.CancelRequested(effect.job),
            Ask.RESUME: io.ResumeRequested(effect.job),
            Ask.HOLD: io.HoldRequested(effect.job, self.id),
        }
        self.world.send(self, effect.node, asked[effect.ask])

    def perform_need(self, effect: io.NeedModule) -> None:
        if effect.job in self.modules:
            self.after(0, self.step, io.ModuleHeld(effect.job))
        else:
            self.after(self.world.rng.randint(5, 150), self.fetch, effect.job, effect.node)

    def fetch(self, job: int, source: int) -> None:
        """The module comes from another node if that has it; Jobs asks again if it does not."""
        other = self.world.node(source)
        if self.world.linked(self, other) and other.status is Status.UP and job in other.modules:
            self.modules.add(job)
            self.step(io.ModuleHeld(job))

    def perform_begin(self, effect: io.Begin) -> None:
        if self.journal is not None:  # one that was restored has its journal
            self.journal.setdefault(effect.spec.job, [effect])
            self.attempts[effect.spec.job] = 0

    def perform_keep(self, effect: io.Keep) -> None:
        self.world.check_values(effect.job, effect.runs, effect.failures)
        self.write(effect.job, io.Keep(effect.job, list(effect.runs), list(effect.failures)))

    def perform_tell(self, effect: io.Tell) -> None:
        record = effect.record
        if record.state != State.RUNNING or record.coordinator != self.id:
            self.close_grants(lambda grant: grant.job == record.job)
        self.world.check_record(self, record)
        self.write(record.job, effect)
        if record.attempt > self.attempts.get(record.job, record.attempt):
            self.rewrite(record)
        for client in self.watchers.get(record.job, ()):
            client.hear(record)

    def write(self, job: int, entry: io.Effect) -> None:
        if self.journal is not None and job in self.journal:
            self.journal[job].append(entry)

    def rewrite(self, record: Record) -> None:
        """A new attempt forgets failures: the journal is written anew."""
        held = self.jobs.get(record.job)
        if held is not None and self.journal is not None:
            self.attempts[record.job] = record.attempt
            kept = io.Keep(record.job, *held.full_copy())
            self.journal[record.job] = [io.Begin(held.spec), io.Tell(record), kept]

    def perform_refuse(self, effect: io.Refuse) -> None:
        for client in self.watchers.pop(effect.job, ()):
            self.world.refused(client, effect)

    def perform_forget(self, effect: io.Forget) -> None:
        self.modules.discard(effect.job)
        if self.journal is not None:
            self.journal.pop(effect.job, None)

    def leads(self, job: int) -> bool:
        """Whether it coordinates the job."""
        held = None if self.leaf else self.jobs.get(job)
        return held is not None and held.lead is not None

    @property
    def leading(self) -> bool:
        """Whether it coordinates any job."""
        return not self.leaf and self.jobs.coordinated > 0

    # ---- frames ----

    def remember(self, sender: tuple[int, int], message: Any) -> None:
        """Keeps a frame that the next link to its sender may bring again."""
        if sender not in self.recent:
            self.recent[sender] = deque(maxlen=REPEATED)
        self.recent[sender].append(message)

    def receive(self, link: Link, sender: int, message: Any) -> None:
        """A frame has arrived."""
        self.world.figures.frames += 1
        if isinstance(message, Lease):
            self.take(link, sender, message)
        elif isinstance(message, Cut):
            self.trim((link.number, message.ticket), message.end)
        elif isinstance(message, End):
            self.serve(pools.CancelArrived((link.number, message.ticket)))
        elif isinstance(message, io.HoldRequested) and self.knows_not(message.job):
            self.world.send(self, sender, io.JobUnknown(message.job, self.id))
        else:
            self.step(message)

    def knows_not(self, job: int) -> bool:
        return self.leaf or self.jobs.get(job) is None

    def take(self, link: Link, sender: int, lease: Lease) -> None:
        key = (link.number, lease.ticket)
        if key in self.leases:
            return
        end = lease.first + lease.count
        self.leases[key] = Held(key, link, sender, lease.spec, lease.first, end, lease.careful)
        spec = lease.spec
        self.serve(pools.TaskArrived(key, group=spec.job, weight=spec.priority))

    def trim(self, key: pools.Key, end: int) -> None:
        held = self.leases.get(key)
        if held is None:
            return
        held.end = max(held.first, min(held.end, end))
        if held.slot is None and held.end == held.first:
            self.serve(pools.TaskWithdrawn(key))
            self.answer(held, self.report(held, [], [], 0, last=True))

    def answer(self, held: Held, message: Any) -> None:
        """To the lease's coordinator, over the link it came on."""
        self.world.carry(held.link, self, held.sender, message)

    # ---- the driver of the pool ----

    def serve(self, event: pools.Event, answer: Any = None) -> None:
        """Hands an event to the pool and performs what it asks for; `answer` is the frame to pass
        on if that is what it wants."""
        for effect in self.pool.handle(event, self.now_ms):
            if isinstance(effect, pools.Spawn):
                self.after(self.world.rng.randint(5, 60), self.spawned, effect.slot)
            elif isinstance(effect, pools.Give):
                self.give(effect.slot, self.leases[effect.key])
            elif isinstance(effect, pools.CancelOn):
                self.cancel_on(effect)
            elif isinstance(effect, pools.Kill):
                process = self.processes[effect.slot]
                assert process is not None, "kills nobody"
                self.after(1, self.die, effect.slot, process)
            elif isinstance(effect, pools.Forward):
                self.answer(self.leases.pop(effect.key), answer)
            elif isinstance(effect, pools.Reply):
                ticket, code, deaths = effect.key[1], effect.code, effect.deaths
                error = io.LeaseRefused(self.id, ticket, code, deaths, effect.text)
                self.answer(self.leases.pop(effect.key), error)
            elif isinstance(effect, pools.Drop):
                del self.leases[effect.key]
        self.pool.validate()
        self.plan_wake()

    def report(
        self, held: Held, runs: list[Run], failures: list[Failure], busy_ms: int, *, last: bool
    ) -> io.LeaseReported:
        job = held.spec.job
        return io.LeaseReported(
            self.id, held.key[1], job, tuple(runs), tuple(failures), 1000 * busy_ms, last
        )

    # ---- worker processes ----

    def spawned(self, slot: int) -> None:
        self.processes[slot] = Process()
        self.serve(pools.WorkerReady(slot, self.calibrated))

    def die(self, slot: int, process: Process) -> None:
        """The process is gone, and what it had not reported."""
        if self.processes[slot] is process:
            process.alive = False
            self.processes[slot] = None
            self.serve(pools.WorkerDied(slot))

    def give(self, slot: int, held: Held) -> None:
        process = self.processes[slot]
        assert process is not None and process.lease is None, "gives to a busy worker"
        held.slot = slot
        process.lease, process.next = held, held.first
        process.values, process.failures = [], []
        process.reported_ms, process.busy_ms = self.world.now_ms, 0
        self.run_on(slot, process)

    def run_on(self, slot: int, process: Process) -> None:
        """Begins the next slice of the lease."""
        held = process.lease
        if held is not None and not process.stuck:
            work = self.world.works[held.spec.job]
            cost_ms = work.cost_ms[process.next] / self.speed
            self.after(cost_ms, self.sliced, slot, process, held, round(cost_ms))

    def sliced(self, slot: int, process: Process, held: Held, cost_ms: int) -> None:
        """A slice has ended, if the worker is still in it."""
        if process.lease is not held or not process.alive or process.stuck:
            return
        index = process.next
        if self.world.kills(held.spec.job, index, process):
            self.die(slot, process)
            return
        work = self.world.ran(held.spec.job, index)
        if index in work.fails:
            process.failures.append(Failure(index, work.fails[index], "trap"))
        else:
            _append(process.values, index, work.run_bytes(index, index + 1))
        process.next += 1
        process.busy_ms += cost_ms
        last = process.next >= held.end
        if last or held.careful or self.world.now_ms - process.reported_ms >= REPORT_MS:
            self.send_report(slot, process, held, last)
        if not last:
            self.run_on(slot, process)

    def send_report(self, slot: int, process: Process, held: Held, last: bool) -> None:
        report = self.report(held, process.values, process.failures, process.busy_ms, last=last)
        process.values, process.failures, process.busy_ms = [], [], 0
        process.reported_ms = self.world.now_ms
        if last:
            process.lease = None
            self.serve(pools.WorkerAnswered(slot, held.key), report)
        else:
            self.answer(held, report)

    def cancel_on(self, effect: pools.CancelOn) -> None:
        process = self.processes[effect.slot]
        assert process is not None and process.lease is not None, "cancels nothing"
        if not process.stuck:
            self.after(2, self.cancelled, effect.slot, process, process.lease, effect.code)

    def cancelled(self, slot: int, process: Process, held: Held, code: int) -> None:
        if process.lease is held and process.alive:
            process.lease = None
            error = io.LeaseRefused(self.id, held.key[1], code, 0, "lease was cancelled")
            self.serve(pools.WorkerAnswered(slot, held.key), error)

    # ---- members ----

    def link_lost(self, other: int, link: Link) -> None:
        """A link has broken: nobody waits for what came over it, and its member counts as lost."""
        self.serve(pools.OriginLost(link.number))
        self.lose(other, gone=False)

    def lose(self, other: int, *, gone: bool) -> None:
        view = self.views[other]
        if view.usable or gone > view.gone:
            view.usable, view.gone = False, gone
            self.world.figures.losses += 1
            self.step(io.MemberLost(other, gone))

    def doubt(self, other: int, ms: int, *, gone: bool) -> None:
        """Suspects a member for so long without a reason."""
        self.views[other].doubted_until_ms = self.world.now_ms + ms
        self.lose(other, gone=gone)

    def look(self, other: Node) -> None:
        """The membership's word on another, as of now."""
        view, rng, now_ms = self.views[other.id], self.world.rng, self.world.now_ms
        heard = other.status is Status.UP and self.world.network.joined(self.id, other.id)
        if heard:
            view.silent_ms = None
            if not self.world.linked(self, other):
                if rng.random() < RECONNECT:
                    self.world.connect(self, other)
            elif not view.usable and now_ms >= view.doubted_until_ms:
                view.usable, view.gone = True, False
                usable = io.MemberUsable(other.id, other.slots, other.calibrated, not other.leaf)
                self.step(usable)
            return
        if view.silent_ms is None:
            view.silent_ms = now_ms
            view.suspect_ms = rng.randint(*PATIENCE_MS)
            view.declare_ms = view.suspect_ms + rng.randint(*DECLARE_MS)
        if other.status is Status.KILLED:
            view.declare_ms = min(view.declare_ms, rng.randint(*REFUSED_MS))
        silent_ms = now_ms - view.silent_ms
        if silent_ms >= view.declare_ms and not view.gone:
            self.lose(other.id, gone=True)
            self.world.cut(self, other)
        elif silent_ms >= view.suspect_ms:
            self.lose(other.id, gone=False)


def _append(runs: list[Run], index: int, value: bytes) -> None:
    """One more value behind those that a worker has."""
    if runs and runs[-1][0] + len(runs[-1][1]) // 8 == index:
        runs[-1] = (runs[-1][0], runs[-1][1] + value)
    else:
        runs.append((index, value))


_PERFORM: Final[dict[type, Callable[[Node, Any], None]]] = {
    io.Grant: Node.perform_grant,
    io.Trim: Node.perform_trim,
    io.Revoke: Node.perform_revoke,
    io.SendSpec: Node.perform_spec,
    io.SendCopy: Node.perform_copy,
    io.SendRecord: Node.perform_record,
    io.SendAsk: Node.perform_ask,
    io.NeedModule: Node.perform_need,
    io.Begin: Node.perform_begin,
    io.Keep: Node.perform_keep,
    io.Tell: Node.perform_tell,
    io.Refuse: Node.perform_refuse,
    io.Forget: Node.perform_forget,
}
