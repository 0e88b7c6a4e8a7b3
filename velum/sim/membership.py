"""A simulated world of nodes that run the production membership policy.

Owns: machines and their processes, what befalls them, and what is measured about it.
Refuses to know: how membership decides; it performs effects as a node's driver does.
How: every machine has one address and at most one process. A datagram goes through the seeded
network; TCP is modelled by what a driver sees of it: a dial that succeeds, is refused or times out,
an exchange of full states, a link that closes when its process ends. Beacons are heard within a
segment of machines with neighbouring numbers, as in a LAN cut into broadcast domains.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from velum.policy.membership import Config, Membership
from velum.policy.membership_io import (
    AnswerBeacon,
    BroadcastBeacon,
    CheckLink,
    DatagramArrived,
    DialFailed,
    Event,
    ExchangeState,
    HealthHeard,
    IdConflict,
    LeaveRequested,
    LinkClosed,
    MemberChanged,
    OpenLink,
    SendDatagram,
    Started,
    SyncArrived,
    TimePassed,
)
from velum.policy.membership_tuning import SMALL_MEMBERS
from velum.policy.suspicion import SUSPICION_MAX_MS
from velum.policy.types import (
    ALIVE,
    BEACON,
    BEACON_ASK,
    DEAD,
    NO_HEALTH,
    NODE,
    SUSPECT,
    Address,
    Datagram,
    Member,
    Update,
)
from velum.sim.network import Conditions, Network, datagram_bytes, sync_bytes

EPOCH_MS: Final = 1_700_000_000_000  # the wall clock when simulated time begins
DIAL_TIMEOUT_MS: Final = 2_000  # csrc/include/velum_opt.h: VELUM_HANDSHAKE_MS
INBOX_MAX: Final = 256  # datagrams a stopped process's socket holds, near Linux's default
AFTERMATH_MS: Final = SUSPICION_MAX_MS  # a doubt this long after a stop or a cut was no error
FAREWELL_MS: Final = 500  # a node that leaves ends so long after it said so

# What a machine is doing.
UP: Final = 1
PAUSED: Final = 2  # its process is stopped (SIGSTOP); the kernel still accepts
KILLED: Final = 3  # its process ended; the kernel refuses
OFF: Final = 4  # nothing answers

_FIRST_IP: Final = 10 << 24
_TIME_PASSED: Final = TimePassed()


class Machine:
    """One machine and the process on it."""

    __slots__ = (
        "number",
        "id",
        "address",
        "state",
        "policy",
        "born",
        "sound_ms",
        "life",
        "wake_ms",
        "inbox",
    )

    def __init__(self, number: int, id: int, address: Address) -> None:
        self.number = number
        self.id = id
        self.address = address
        self.state = OFF
        self.policy: Membership
        self.born = 0  # incarnation of its process at the start
        self.sound_ms = -AFTERMATH_MS  # since when it was neither stopped nor cut off
        self.life = 0  # counts its processes
        self.wake_ms: int | None = None  # when the process is woken next
        self.inbox: list[tuple[Datagram, Address]] = []


@dataclass(slots=True)
class Loss:
    """The end of one process, and who noticed when. Times are None until it happens."""

    id: int
    at_ms: int
    waiting: set[int]  # machines that do not know yet
    suspected_ms: int | None = None  # first suspected by anybody
    first_ms: int | None = None  # first held dead or departed by anybody
    all_ms: int | None = None  # known to all
    returned_ms: int | None = None  # a new process began before all knew


@dataclass(slots=True)
class Figures:
    """What was measured since `since_ms`."""

    since_ms: int = 0
    bytes: int = 0  # sent, all headers included
    datagrams: int = 0
    suspicions: int = 0  # of processes that run and can be reached, by anybody, each once
    false_positives: int = 0  # of processes that run, declared dead by anybody, each once
    node_ms: int = 0  # running time of all processes together
    _seen: set[tuple[int, int, int]] = field(default_factory=set)

    def is_first(self, update: Update) -> bool:
        """Whether this state of this incarnation is seen for the first time anywhere."""
        key = (update.id, update.incarnation, update.state)
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    @property
    def node_minutes(self) -> float:
        return self.node_ms / 60_000

    @property
    def bytes_per_node_second(self) -> float:
        return 1_000 * self.bytes / max(1, self.node_ms)


class World:
    """Machines numbered from 0, with ids from 1, and what happens to them.

    `settled`: the mesh stands at time 0 and everybody knows everybody; else call `start`.
    `segment`: how many machines hear each other's beacons; 1 for none. `validate`: check every
    policy's invariants after each event.
    """

    def __init__(
        self,
        nodes: int,
        seed: int,
        conditions: Conditions | None = None,
        *,
        segment: int = 32,
        settled: bool = True,
        validate: bool = False,
    ) -> None:
        self.seed = seed
        self.rng = random.Random(f"world {seed}")
        self.network = Network(conditions or Conditions(), random.Random(f"network {seed}"))
        self.machines: list[Machine] = []
        self.losses: list[Loss] = []
        self.conflicts: list[tuple[int, Address]] = []  # (machine number, who was there first)
        self.figures = Figures()
        self._segment = segment
        self._validate = validate
        self._by_address: dict[Address, Machine] = {}
        self._links: set[tuple[int, int]] = set()  # machine numbers, the smaller first
        self._counted_ms = 0
        for id in range(1, nodes + 1):
            self.add_machine(id)
        if settled:
            self._settle()

    # ---- what may befall machines ----

    def add_machine(self, id: int) -> int:
        """One more machine, switched off; returns its number."""
        number = len(self.machines)
        machine = Machine(number, id, Address(_FIRST_IP + number + 1, 8000))
        self.machines.append(machine)
        self._by_address[machine.address] = machine
        return number

    def start(self, number: int, seeds: Iterable[int] = (), clock_ms: int = 0) -> None:
        """Start a process where none runs. `seeds`: machines it shall join; `clock_ms`: how far its
        wall clock is wrong."""
        machine = self.machines[number]
        assert machine.state in (KILLED, OFF), "one process a machine"
        self._count_time()
        for loss in self.losses:
            if loss.id == machine.id and loss.all_ms is None and loss.returned_ms is None:
                loss.returned_ms = self.now_ms
        self._begin(machine, EPOCH_MS + self.now_ms + clock_ms)
        self._step(machine, Started(tuple(self.machines[seed].address for seed in seeds)))

    def crash(self, number: int) -> None:
        """The machine is gone without a trace: nothing closes, nothing is refused."""
        self._end(self.machines[number], OFF)

    def kill(self, number: int) -> None:
        """The process is gone: its links close, dials are refused."""
        machine = self.machines[number]
        self._end(machine, KILLED)
        for link in sorted(link for link in self._links if number in link):
            self._links.remove(link)
            other = self.machines[link[0] + link[1] - number]
            if self.network.joined(number, other.number):
                self._later(other, LinkClosed(machine.id))

    def leave(self, number: int) -> None:
        """The node leaves in order, over UDP alone; its process ends soon after."""
        machine = self.machines[number]
        self._step(machine, LeaveRequested())
        self._note_end(machine)
        self.network.at(self.now_ms + FAREWELL_MS, self._end_life, machine, machine.life)

    def pause(self, number: int) -> None:
        """The process is stopped."""
        self._count_time()
        self.machines[number].state = PAUSED

    def resume(self, number: int) -> None:
        """The process goes on, and finds what its sockets kept for it."""
        machine = self.machines[number]
        self._count_time()
        machine.state = UP
        machine.sound_ms = self.now_ms
        inbox, machine.inbox = machine.inbox, []
        for message, source in inbox:
            self._step(machine, DatagramArrived(message, source))
        self._step(machine, _TIME_PASSED)

    def part(self, numbers: Iterable[int]) -> None:
        """Cut these machines off from all others."""
        self.network.part(numbers)

    def heal(self) -> None:
        """End the partition."""
        self.network.heal()
        for machine in self.machines:
            machine.sound_ms = self.now_ms

    # ---- running and looking ----

    @property
    def now_ms(self) -> int:
        return self.network.now_ms

    def run(self, milliseconds: int) -> None:
        """Let time pass."""
        self.network.run(self.now_ms + milliseconds)
        self._count_time()

    def begin_figures(self) -> None:
        """Measure from now on."""
        self._count_time()
        self.figures = Figures(since_ms=self.now_ms)

    def running(self) -> list[Machine]:
        """Machines whose process is up."""
        return [machine for machine in self.machines if machine.state == UP]

    def agreed(self) -> bool:
        """Whether every process that is up holds exactly those to be live."""
        running = self.running()
        ids = {machine.id for machine in running}
        return all(machine.policy.live_ids() == ids for machine in running)

    def state_of(self, number: int, seen_by: int) -> int | None:
        """The state of one machine's node in the view of another."""
        member = self.machines[seen_by].policy.member(self.machines[number].id)
        return None if member is None else member.state

    # ---- processes ----

    def _settle(self) -> None:
        order = array("H", range(1, len(self.machines) + 1))
        members: dict[int, Member] = {}
        for machine in self.machines:
            self._begin(machine, EPOCH_MS)
            members[machine.id] = Member(machine.policy.me, NO_HEALTH, 0, 0)
        for machine in self.machines:
            machine.policy.adopt(members, order, self.now_ms)
            self._plan_wake(machine)
        numbers = range(len(self.machines))
        if len(self.machines) <= SMALL_MEMBERS:
            self._links = {(one, other) for other in numbers for one in range(other)}

    def _begin(self, machine: Machine, incarnation: int) -> None:
        machine.life += 1
        machine.state = UP
        machine.born = incarnation
        machine.wake_ms = None
        machine.inbox = []
        me = Update(machine.id, ALIVE, NODE, incarnation, machine.address)
        rng = random.Random(f"node {self.seed} {machine.number} {machine.life}")
        machine.policy = Membership(Config(beacons=self._segment > 1), me, rng)

    def _end(self, machine: Machine, state: int) -> None:
        assert machine.state in (UP, PAUSED), "no process to end"
        self._note_end(machine)
        self._count_time()
        machine.state = state
        if state == OFF:
            self._links = {link for link in self._links if machine.number not in link}

    def _end_life(self, machine: Machine, life: int) -> None:
        if machine.life == life and machine.state in (UP, PAUSED):
            self._count_time()
            machine.state = KILLED

    def _step(self, machine: Machine, event: Event) -> None:
        policy = machine.policy
        for effect in policy.handle(event, self.network.now_ms):
            _PERFORM[type(effect)](self, machine, effect)
        if self._validate:
            policy.validate()
        self._plan_wake(machine)

    def _plan_wake(self, machine: Machine) -> None:
        deadline = machine.policy.next_deadline()
        if deadline is None or (machine.wake_ms is not None and machine.wake_ms <= deadline):
            return
        machine.wake_ms = deadline
        self.network.at(max(deadline, self.now_ms), self._wake, machine, machine.life, deadline)

    def _wake(self, machine: Machine, life: int, planned_ms: int) -> None:
        if machine.life != life or machine.wake_ms != planned_ms:
            return
        machine.wake_ms = None
        if machine.state != UP:
            return
        deadline = machine.policy.next_deadline()
        if deadline is not None and deadline <= self.now_ms:
            self._step(machine, _TIME_PASSED)
        else:
            self._plan_wake(machine)

    def _later(self, machine: Machine, event: Event) -> None:
        """Something reaches a process a latency from now, if it is still the same and up."""
        when_ms = self.now_ms + self.network.latency_ms()
        self.network.at(when_ms, self._arrive, machine, machine.life, event)

    def _arrive(self, machine: Machine, life: int, event: Event) -> None:
        if machine.life == life and machine.state == UP:
            self._step(machine, event)

    # ---- datagrams ----

    def _perform_send(self, machine: Machine, effect: SendDatagram) -> None:
        self._count_datagram(effect.message)
        target = self._by_address.get(effect.to)
        if target is not None and target.state <= PAUSED:
            self._carry(machine, target, effect.message)

    def _carry(self, source: Machine, target: Machine, message: Datagram) -> None:
        address = source.address
        self.network.carry(source.number, target.number, self._deliver, target, message, address)

    def _deliver(self, machine: Machine, message: Datagram, source: Address) -> None:
        if machine.state == UP:
            self._step(machine, DatagramArrived(message, source))
        elif machine.state == PAUSED and len(machine.inbox) < INBOX_MAX:
            machine.inbox.append((message, source))

    def _perform_broadcast(self, machine: Machine, effect: BroadcastBeacon) -> None:
        message = self._beacon(machine, effect.ask)
        self._count_datagram(message)
        first = machine.number - machine.number % self._segment
        for other in self.machines[first : first + self._segment]:
            if other is not machine and other.state <= PAUSED:
                self._carry(machine, other, message)

    def _perform_answer(self, machine: Machine, effect: AnswerBeacon) -> None:
        self._perform_send(machine, SendDatagram(effect.to, self._beacon(machine, False)))

    def _beacon(self, machine: Machine, ask: bool) -> Datagram:
        return Datagram(
            BEACON,
            0,
            machine.id,
            incarnation=machine.policy.me.incarnation,
            address=machine.address,
            role=NODE,
            flags=BEACON_ASK if ask else 0,
        )

    # ---- TCP, as a driver sees it ----

    def _dial(
        self,
        caller: Machine,
        to: Address,
        connected: Callable[[Machine, Machine], None],
        failed: Callable[[bool], Event | None],
    ) -> None:
        """Dial an address: `connected` is called after a round trip, or the event that `failed`
        makes arrives at the caller: with True after a refusal, with False after a time."""
        callee = self._by_address.get(to)
        reached = callee is not None and self.network.joined(caller.number, callee.number)
        if callee is not None and reached and callee.state in (UP, KILLED):
            round_trip_ms = self.network.latency_ms() + self.network.latency_ms()
            when_ms, refused = self.now_ms + round_trip_ms, callee.state == KILLED
        else:
            when_ms, refused = self.now_ms + DIAL_TIMEOUT_MS, False
            callee = None
        if callee is None or refused:
            event = failed(refused)
            if event is not None:
                self.network.at(when_ms, self._arrive, caller, caller.life, event)
            return
        lives = (caller.life, callee.life)
        self.network.at(when_ms, self._connect, caller, callee, lives, connected)

    def _connect(
        self,
        caller: Machine,
        callee: Machine,
        lives: tuple[int, int],
        connected: Callable[[Machine, Machine], None],
    ) -> None:
        if lives != (caller.life, callee.life) or caller.state != UP or callee.state != UP:
            return
        holder = callee.policy.holder(caller.id, caller.address)
        if holder is not None:
            if not caller.policy.joined:
                self._stop_for(caller, holder.address)
        elif self.network.joined(caller.number, callee.number):
            connected(caller, callee)

    def _perform_exchange(self, machine: Machine, effect: ExchangeState) -> None:
        to = effect.with_
        self._dial(machine, to, self._exchange, lambda refused: DialFailed(to, refused))

    def _exchange(self, caller: Machine, callee: Machine) -> None:
        records = caller.policy.sync_records()
        self._step(callee, SyncArrived(records))
        reply = callee.policy.sync_records()
        self.figures.bytes += sync_bytes(len(records)) + sync_bytes(len(reply))
        self._later(caller, SyncArrived(reply))

    def _perform_link(self, machine: Machine, effect: OpenLink | CheckLink) -> None:
        member = machine.policy.member(effect.id)
        assert member is not None, "a link is wanted to nobody"

        def failed(refused: bool) -> Event | None:
            return LinkClosed(effect.id, refused=True) if refused else None

        self._dial(machine, member.address, self._link, failed)

    def _link(self, caller: Machine, callee: Machine) -> None:
        one, other = sorted((caller.number, callee.number))
        self._links.add((one, other))

    # ---- what is seen and measured ----

    def _perform_conflict(self, machine: Machine, effect: IdConflict) -> None:
        self._stop_for(machine, effect.address)

    def _stop_for(self, machine: Machine, first: Address) -> None:
        if machine.state == UP:
            self.conflicts.append((machine.number, first))
            self.kill(machine.number)

    def _perform_nothing(self, machine: Machine, effect: HealthHeard) -> None:
        """Load is for schedulers, which are not simulated."""

    def _perform_changed(self, machine: Machine, effect: MemberChanged) -> None:
        update = effect.member.update
        if update.state == ALIVE:
            return
        subject = self._by_address[update.address]
        if subject.state == UP and update.incarnation >= subject.born:
            self._note_doubt(machine, subject, update)
        for loss in self.losses:
            if loss.id != update.id or loss.all_ms is not None or loss.returned_ms is not None:
                continue
            if update.state == SUSPECT:
                loss.suspected_ms = self.now_ms if loss.suspected_ms is None else loss.suspected_ms
                continue
            loss.first_ms = self.now_ms if loss.first_ms is None else loss.first_ms
            loss.waiting.discard(machine.number)
            loss.all_ms = None if loss.waiting else self.now_ms

    def _note_doubt(self, observer: Machine, subject: Machine, update: Update) -> None:
        """Somebody doubts a process that runs. The first to say so decides whether it is an error:
        who is cut off from it, or was until just now, is right."""
        if subject.policy.me.state != ALIVE or not self.figures.is_first(update):
            return
        if not self.network.joined(observer.number, subject.number):
            return
        if self.now_ms - subject.sound_ms < AFTERMATH_MS:
            return
        self.figures.suspicions += update.state == SUSPECT
        self.figures.false_positives += update.state == DEAD

    def _note_end(self, machine: Machine) -> None:
        for loss in self.losses:
            loss.waiting.discard(machine.number)
        others = {other.number for other in self.running() if other is not machine}
        self.losses.append(Loss(machine.id, self.now_ms, others))

    def _count_datagram(self, message: Datagram) -> None:
        self.figures.bytes += datagram_bytes(message)
        self.figures.datagrams += 1

    def _count_time(self) -> None:
        """Add the running time since the last call; to be called before a process starts or
        ends."""
        passed_ms = self.now_ms - self._counted_ms
        self._counted_ms = self.now_ms
        if passed_ms:
            self.figures.node_ms += passed_ms * len(self.running())


_PERFORM: dict[type, Callable[[World, Machine, Any], None]] = {
    SendDatagram: World._perform_send,
    BroadcastBeacon: World._perform_broadcast,
    AnswerBeacon: World._perform_answer,
    ExchangeState: World._perform_exchange,
    OpenLink: World._perform_link,
    CheckLink: World._perform_link,
    MemberChanged: World._perform_changed,
    HealthHeard: World._perform_nothing,
    IdConflict: World._perform_conflict,
}
