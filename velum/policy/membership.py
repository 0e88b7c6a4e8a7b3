"""Who is in the mesh: SWIM with Lifeguard's refinements, as a state machine without I/O.

Owns: when to say what to whom about the members, and what their silence means.
Refuses to know: sockets, clocks, threads, bytes. Time comes in as integer milliseconds of any
monotonic clock, randomness as a generator; what is to be done goes out as effects.
How: `handle(event, now)` returns effects, `next_deadline()` says when to come back with TimePassed.
All that is learned of a member, from others or by this node itself, becomes a record that the table
in roster.py lets through or not; what the node finds out itself says:

    a probe stayed without answer           SUSPECT by this node     at the incarnation held
    a TCP link closed without BYE           SUSPECT by this node     at the incarnation held
    a suspicion ran out                     DEAD                     at the incarnation held
    a dial was refused                      DEAD                     at the incarnation held
    BYE came over TCP                       LEFT                     at the incarnation held
    an ACK came                             ALIVE                    at the incarnation it carries
    a full state calls a live member DEAD   SUSPECT by its sender    at the incarnation it carries

A record about the node itself that makes it less than ALIVE is refuted: it takes an incarnation one
above. The node's own life: Started, once; after LeaveRequested it only spreads its farewell.
docs/membership.md tells the whole in order.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from . import membership_io as io
from . import membership_tuning as tuning
from .agenda import Agenda, Key
from .dissemination import Dissemination, copies
from .probing import CONFIRM, RELAY, ROUND, SEEK, TELL, Probe, RoundTrip
from .roster import CLASH, CONFIRMATION, GONE_MAX, STALE, Roster
from .suspicion import LocalHealth
from .types import (
    ACK,
    ALIVE,
    BEACON,
    BEACON_ASK,
    DEAD,
    GOSSIP,
    INCARNATION_MAX,
    LEAF,
    LEFT,
    NACK,
    NO_HEALTH,
    NODE,
    PROBE,
    PROBE_REQUEST,
    SUSPECT,
    UPDATES_MAX,
    Address,
    Datagram,
    Health,
    Member,
    Update,
)

# Kinds of alarm; the key's second part is an id, a sequence number, an address, or 0. The last
# three are holds: what they stand for is not done again while they are armed.
_PERIOD, _ANSWER, _GOSSIP, _SUSPICION, _TELL, _BEACON, _SEED, _SEEK = range(8)
_EXCHANGE, _CLASH, _CHECK = range(8, 11)


@dataclass(frozen=True, slots=True)
class Config:
    """What a node may choose. `beacons`: find others, and be found, by broadcast."""

    beacons: bool = True


class Membership:
    """One node's view of the mesh. `me`: its own record, ALIVE, a NODE; its incarnation is the time
    of its start in unix milliseconds, its address where others reach it."""

    def __init__(self, config: Config, me: Update, rng: random.Random) -> None:
        if me.state != ALIVE or me.role != NODE or not 1 <= me.id <= 0xFFFF:
            raise ValueError(f"a node begins as a live NODE with an id of 1 to 65535, not {me}")
        self._config = config
        self._me = me
        self._born = me.incarnation
        self._rng = rng
        self._health = NO_HEALTH
        self._roster = Roster(me.id, rng)
        self._news = Dissemination()
        self._probes: dict[int, Probe] = {}  # by sequence number
        self._relays = 0  # of these, for others
        self._exchanges = 0  # asked for within HOLD_MS, but for those with seeds
        self._sequence = rng.getrandbits(32)
        self._round_trip = RoundTrip()
        self._local = LocalHealth()
        self._agenda = Agenda()
        self._seeds: tuple[Address, ...] = ()
        self._seed_wait_ms = tuning.SEED_MS_MIN
        self._eager_seeks = 0  # more to do, since a dead member came back
        self._started = False
        self._started_ms = 0
        self._joined = False  # has merged somebody's full state
        self._now = 0
        self._effects: list[io.Effect] = []

    # ---- the machine ----

    def handle(self, event: io.Event, now_ms: int) -> list[io.Effect]:
        """Take in what happened at `now_ms`, never earlier than before; returns what to do.

        Raises RuntimeError for what cannot happen now: anything before Started, a second Started.
        """
        if self._started == isinstance(event, io.Started):
            raise RuntimeError(f"{type(event).__name__} when started is {self._started}")
        self._now = now_ms
        effects: list[io.Effect] = []
        self._effects = effects
        due = self._agenda.next()
        if due is not None and now_ms - due > tuning.OVERSLEPT_MS:
            self._oversleep(now_ms - due)
        if self._me.state == ALIVE:
            _ON_EVENT[type(event)](self, event)
        while (alarm := self._agenda.pop(now_ms)) is not None:
            kind, what = alarm
            _ON_ALARM[kind](self, what)
        return effects

    def next_deadline(self) -> int | None:
        """When TimePassed is wanted next; None: not until something else happens."""
        return self._agenda.next()

    def adopt(self, members: Mapping[int, Member], order: array[int], now_ms: int) -> None:
        """Start in the middle of a mesh that stands already, instead of by Started: `members` are
        all of it, live, this node included, and `order` their ids. For simulations."""
        if self._started:
            raise RuntimeError("this node has started already")
        self._now = now_ms
        self._roster.fill(members, order)
        self._joined = True
        self._start_timers(
            int(self._rng.random() * self._paced(tuning.BEACON_MS, tuning.BEACON_MEMBERS))
        )

    def validate(self) -> None:
        """Check what must always hold; an AssertionError is a fault in this program."""
        self._roster.validate()
        self._news.validate(self._roster.suspicions.keys())
        relays = sum(probe.kind == RELAY for probe in self._probes.values())
        assert relays == self._relays <= tuning.RELAYS_MAX, "the count of relays is wrong"
        assert all((_ANSWER, s) in self._agenda for s in self._probes), "a probe without an end"
        assert not self._news or (_GOSSIP, 0) in self._agenda, "news and no plan to tell it"
        if not self._started or self._me.state == LEFT:
            return
        assert (_PERIOD, 0) in self._agenda, "no probe is planned"
        assert len(self._roster.gone) <= GONE_MAX, "too many of the gone are remembered"
        for id in self._roster.suspicions:
            assert (_SUSPICION, id) in self._agenda, "a suspicion without an end"
        assert not self._roster.gone or (_SEEK, 0) in self._agenda, "the dead are never looked for"

    # ---- what others may read ----

    @property
    def me(self) -> Update:
        """This node's own record as it now stands."""
        return self._me

    @property
    def joined(self) -> bool:
        """Whether it has merged another's full state. A node that has not, and is refused because
        its id is taken, has to stop; one that has was there itself, and goes on: who of the two is
        to stop is settled by gossip."""
        return self._joined

    @property
    def live(self) -> int:
        """How many members are not known to be gone, this node included."""
        return self._roster.live

    @property
    def local_health(self) -> int:
        """Lifeguard's score of this node itself, 0 (well) to 8."""
        return self._local.score

    def live_ids(self) -> set[int]:
        """Who is not known to be gone, this node included."""
        return self._roster.live_ids()

    @property
    def members(self) -> Iterable[Member]:
        """All other members it remembers, the gone included."""
        return self._roster.members.values()

    def member(self, id: int) -> Member | None:
        """Another member by its id."""
        return self._roster.members.get(id)

    def holder(self, id: int, address: Address) -> Member | None:
        """Who keeps a node at `address` from bearing `id`: a live member elsewhere, or None."""
        if id == self._me.id:
            mine = Member(self._me, self._health, self._now, self._now)
            return None if address == self._me.address else mine
        known = self._roster.members.get(id)
        taken = known is not None and known.state == ALIVE and known.address != address
        return known if taken else None

    def sync_records(self) -> tuple[tuple[Update, Health], ...]:
        """All it knows, for SYNC and SYNC_REPLY: its own record first."""
        others = ((member.update, member.health) for member in self._roster.members.values())
        return ((self._me, self._health), *others)

    # ---- start, leave, time ----

    def _on_started(self, event: io.Started) -> None:
        self._seeds = tuple(seed for seed in event.seeds if seed != self._me.address)
        self._start_timers(0)
        if self._seeds:
            self._on_seed(0)

    def _start_timers(self, first_beacon_ms: int) -> None:
        self._started = True
        self._started_ms = self._now
        self._arm((_PERIOD, 0), int(self._rng.random() * tuning.PERIOD_MS))
        if self._config.beacons:
            self._arm((_BEACON, 0), first_beacon_ms)

    def _on_leave_requested(self, _: io.LeaveRequested) -> None:
        self._me = self._me._replace(state=LEFT)
        self._agenda.clear()
        self._probes.clear()
        self._relays = 0
        self._news = Dissemination()
        self._announce(self._me)
        for id in self._roster.order.sample(tuning.FAREWELLS, self._roster.is_gossip):
            self._gossip_to(self._roster.members[id].address, (self._me,))

    def _on_time_passed(self, _: io.TimePassed) -> None:
        """Nothing more: every event lets the alarms that are due go off."""

    def _on_health_measured(self, event: io.HealthMeasured) -> None:
        self._health = event.health

    def _oversleep(self, late_ms: int) -> None:
        """This node did not run for a while. Its open probes prove nothing, and suspects have not
        had the time to refute that the clock says they had."""
        self._local.worse(1)
        for sequence in tuple(self._probes):
            self._close(sequence)
        for id, suspicion in self._roster.suspicions.items():
            suspicion.since_ms += late_ms
            self._agenda.set((_SUSPICION, id), suspicion.deadline_ms)

    def _arm(self, key: Key, in_ms: int) -> None:
        self._agenda.set(key, self._now + in_ms)

    def _paced(self, interval_ms: int, members: int) -> int:
        """An interval at which a mesh of any size does as much as one of `members`, varied a bit so
        that nodes drift apart."""
        interval_ms = interval_ms * max(members, self._roster.live) // members
        spread_ms = interval_ms * tuning.JITTER_PERCENT // 100
        return interval_ms - spread_ms + int(self._rng.random() * 2 * spread_ms)

    # ---- records: what is said of members ----

    def _hear(self, said: Update, teller: Address | None = None, spread: bool = True) -> None:
        """Take in a record, from whomever; `teller` is told if it is wrong about this node."""
        if said.id == self._me.id:
            self._hear_of_me(said, teller)
            return
        verdict = self._roster.judge(said)
        if verdict == STALE:
            return
        if verdict == CLASH:
            self._clash(self._roster.members[said.id].update, said)
        elif verdict == CONFIRMATION:
            self._confirm(said)
        else:
            self._enter(said, spread)

    def _find(self, id: int, state: int, accuser: int = 0) -> None:
        """This node finds a member to be in that state, at the incarnation held."""
        held = self._roster.members[id].update
        self._hear(held._replace(state=state, accuser=accuser))

    def _enter(self, said: Update, spread: bool) -> None:
        before = self._roster.enter(said, self._now)
        self._agenda.cancel((_SUSPICION, said.id))
        self._agenda.cancel((_TELL, said.id))
        if said.state in (DEAD, LEFT):
            self._roster.forget(self._now)
            if (_SEEK, 0) not in self._agenda:
                self._arm((_SEEK, 0), self._paced(tuning.SEEK_MS, tuning.SEEK_MEMBERS))
            if before not in (ALIVE, SUSPECT):
                return
        if spread:
            self._announce(said)
        else:
            self._news.drop(said.id)
        if before == DEAD and self._roster.gone:
            self._eager_seeks = tuning.EAGER_SEEKS
            self._arm((_SEEK, 0), int(self._rng.random() * tuning.EAGER_SEEK_MS))
        self._effects.append(io.MemberChanged(self._roster.members[said.id], before))
        if said.state == SUSPECT:
            self._begin_suspicion(said)
        elif said.state == ALIVE and before != ALIVE and self._dials(said):
            self._effects.append(io.OpenLink(said.id))

    def _dials(self, other: Update) -> bool:
        """Whether this node keeps the link to that member: of two nodes the smaller id does."""
        small = self._roster.live <= tuning.SMALL_MEMBERS
        return small and (other.role == LEAF or self._me.id < other.id)

    def _begin_suspicion(self, said: Update) -> None:
        suspicion = self._roster.suspicions[said.id]
        self._agenda.set((_SUSPICION, said.id), suspicion.deadline_ms)
        if said.accuser == self._me.id:
            self._arm((_TELL, said.id), tuning.TELL_MS)
            return
        self._arm((_TELL, said.id), tuning.DOUBT_MS)
        if self._rng.random() * self._roster.live < tuning.CONFIRMERS:
            self._probe(said.id, CONFIRM)

    def _confirm(self, said: Update) -> None:
        suspicion = self._roster.suspicions[said.id]
        earlier = tuple(suspicion.accusers)
        if not suspicion.confirm(said.accuser):
            return
        self._agenda.set((_SUSPICION, said.id), suspicion.deadline_ms)
        self._announce(said)
        if said.accuser == self._me.id:
            self._arm((_TELL, said.id), tuning.TELL_MS)
            for accuser in earlier:
                self._tell_member(accuser, said)

    def _on_suspicion(self, id: int) -> None:
        self._find(id, DEAD)

    def _on_tell(self, id: int) -> None:
        self._probe(id, TELL)
        self._arm((_TELL, id), tuning.TELL_MS)

    def _hear_of_me(self, said: Update, teller: Address | None) -> None:
        me = self._me
        if said.incarnation > INCARNATION_MAX:
            return
        if said.state == ALIVE and said.address != me.address:
            self._settle_conflict(said)
            return
        if said.incarnation < me.incarnation or said == me:
            return
        if said.incarnation == me.incarnation and said.state == ALIVE:
            return
        if said.incarnation == me.incarnation and said.state in (SUSPECT, DEAD):
            self._local.worse(1)
        self._rise_above(said.incarnation)
        if teller is not None:
            self._gossip_to(teller, (self._me,))
        accuser = self._roster.members.get(said.accuser)
        if accuser is not None and accuser.address != teller:
            self._tell_member(said.accuser, self._me)

    def _rise_above(self, incarnation: int) -> None:
        """Refute: say ALIVE at a higher incarnation than what was said."""
        self._me = self._me._replace(incarnation=incarnation + 1)
        self._announce(self._me)

    # ---- gossip ----

    def _announce(self, update: Update) -> None:
        self._news.queue(update)
        if (_GOSSIP, 0) not in self._agenda:
            self._arm((_GOSSIP, 0), tuning.GOSSIP_MS)

    def _take_news(self, room: int = UPDATES_MAX) -> tuple[Update, ...]:
        """Updates to ride on a datagram."""
        if not self._news:
            return ()
        return self._news.take(room, copies(self._roster.live))

    def _on_gossip(self, _: int) -> None:
        targets = self._roster.order.sample(tuning.GOSSIP_WIDTH, self._roster.is_gossip)
        for id in targets:
            updates = self._take_news()
            if updates:
                self._gossip_to(self._roster.members[id].address, updates)
        if not targets:
            self._take_news()  # nobody to tell it to: it ages all the same
        if self._news:
            self._arm((_GOSSIP, 0), tuning.GOSSIP_MS)

    def _gossip_to(self, to: Address, updates: tuple[Update, ...]) -> None:
        self._send(to, Datagram(GOSSIP, self._next_sequence(), self._me.id, updates=updates))

    def _tell_member(self, id: int, update: Update) -> None:
        """Tell one member one thing, beside the gossip, if it is a node that is known."""
        known = self._roster.members.get(id)
        if known is not None and known.update.role == NODE:
            self._gossip_to(known.address, (update,))

    def _send(self, to: Address, message: Datagram) -> None:
        self._effects.append(io.SendDatagram(to, message))

    def _next_sequence(self) -> int:
        self._sequence += 1
        return self._sequence

    # ---- probes ----

    def _on_period(self, _: int) -> None:
        small = self._roster.live <= tuning.SMALL_MEMBERS
        period_ms = tuning.PERIOD_SMALL_MS if small else tuning.PERIOD_MS
        self._arm((_PERIOD, 0), self._local.stretch(period_ms))
        target = self._roster.order.next()
        if target is not None:
            self._probe(target, ROUND)

    def _probe(self, id: int, kind: int) -> None:
        probe = Probe(kind, id, self._roster.members[id].address, self._now)
        sequence = self._open(probe)
        if kind == CONFIRM:
            self._widen(sequence, probe)
        else:
            self._send_probe(sequence, probe)
            self._arm((_ANSWER, sequence), self._local.stretch(self._round_trip.timeout_ms))

    def _open(self, probe: Probe) -> int:
        sequence = self._next_sequence()
        self._probes[sequence] = probe
        self._relays += probe.kind == RELAY
        return sequence

    def _close(self, sequence: int) -> None:
        self._agenda.cancel((_ANSWER, sequence))
        self._relays -= self._probes.pop(sequence).kind == RELAY

    def _send_probe(self, sequence: int, probe: Probe) -> None:
        known = self._roster.members.get(probe.target)
        doubted = known is not None and known.state in (SUSPECT, DEAD)
        suspected = known.update.incarnation if known is not None and doubted else 0
        message = Datagram(
            PROBE,
            sequence,
            self._me.id,
            probe.target,
            suspected,
            health=self._health,
            updates=self._take_news(),
        )
        self._send(probe.address, message)

    def _widen(self, sequence: int, probe: Probe) -> None:
        """Second stage: ask helpers, and try once more directly."""
        self._send_probe(sequence, probe)
        probe.indirect = True
        helpers = self._roster.order.sample(
            tuning.HELPERS, lambda id: self._helps(id, probe.target)
        )
        for id in helpers:
            request = Datagram(
                PROBE_REQUEST,
                sequence,
                self._me.id,
                probe.target,
                address=probe.address,
                updates=self._take_news(),
            )
            self._send(self._roster.members[id].address, request)
        probe.helpers = len(helpers)
        probe.silent = set(helpers)
        self._arm((_ANSWER, sequence), self._local.stretch(tuning.INDIRECT_MS))

    def _helps(self, id: int, target: int) -> bool:
        update = self._roster.members[id].update
        return update.state == ALIVE and update.role == NODE and id != target

    def _on_no_answer(self, sequence: int) -> None:
        probe = self._probes[sequence]
        if probe.kind == ROUND and not probe.indirect:
            self._widen(sequence, probe)
            return
        self._close(sequence)
        if probe.reply is not None:
            to, theirs = probe.reply
            self._send(to, Datagram(NACK, theirs, self._me.id, probe.target))
        elif probe.kind == ROUND:
            self._local.worse(len(probe.silent) if probe.helpers else 1)
            if self._roster.is_live(probe.target):
                self._find(probe.target, SUSPECT, self._me.id)
        elif probe.kind == CONFIRM and probe.target in self._roster.suspicions:
            self._find(probe.target, SUSPECT, self._me.id)

    # ---- datagrams ----

    def _on_datagram_arrived(self, event: io.DatagramArrived) -> None:
        message, source = event.message, event.source
        if message.sender == self._me.id and message.type != BEACON:
            self._gossip_to(source, (self._me,))
            return
        if message.type == PROBE and message.target != self._me.id:
            return  # meant for one that had this address before, in another mesh perhaps
        _ON_DATAGRAM[message.type](self, message, source)
        for update in message.updates:
            self._hear(update, source)

    def _on_probe(self, message: Datagram, source: Address) -> None:
        if self._me.incarnation <= message.incarnation <= INCARNATION_MAX:
            self._local.worse(1)
            self._rise_above(message.incarnation)
        known = self._roster.members.get(message.sender)
        first: tuple[Update, ...] = ()
        if known is None or known.state == DEAD:
            self._exchange(source)
        if known is not None:
            if known.state != ALIVE or known.address != source:
                first = (known.update,)  # it does not know how we see it
            self._note_health(message.sender, message.health)
        news = self._take_news(UPDATES_MAX - len(first))
        answer = Datagram(
            ACK,
            message.sequence,
            self._me.id,
            self._me.id,
            self._me.incarnation,
            health=self._health,
            updates=first + news,
        )
        self._send(source, answer)

    def _on_ack(self, message: Datagram, source: Address) -> None:
        probe = self._probes.get(message.sequence)
        if probe is None or probe.target != message.target:
            return
        self._close(message.sequence)
        if probe.reply is not None:
            to, theirs = probe.reply
            relayed = message._replace(sequence=theirs, sender=self._me.id, updates=())
            self._send(to, relayed)
        elif probe.kind == ROUND:
            self._local.better()
            if not probe.indirect:
                self._round_trip.sample(self._now - probe.sent_ms)
        if probe.target in self._roster.members:
            self._witness(probe, message)
            self._note_health(probe.target, message.health)

    def _witness(self, probe: Probe, answer: Datagram) -> None:
        """A member answered: whatever is said of it, it runs at the answer's incarnation."""
        held = self._roster.members[probe.target].update
        if held.state == DEAD:
            self._exchange(held.address)  # it may have been cut off, and others with it
        if answer.incarnation > held.incarnation:
            self._hear(held._replace(state=ALIVE, incarnation=answer.incarnation, accuser=0))
        elif held.state == SUSPECT and probe.kind == ROUND:
            self._probe(probe.target, TELL)  # it had not been told

    def _on_probe_request(self, message: Datagram, source: Address) -> None:
        if self._relays >= tuning.RELAYS_MAX or message.target == self._me.id:
            return
        probe = Probe(RELAY, message.target, message.address, self._now)
        probe.reply = (source, message.sequence)
        sequence = self._open(probe)
        self._send_probe(sequence, probe)
        self._arm((_ANSWER, sequence), tuning.NACK_MS)

    def _on_nack(self, message: Datagram, _: Address) -> None:
        probe = self._probes.get(message.sequence)
        if probe is not None:
            probe.silent.discard(message.sender)

    def _on_gossip_datagram(self, message: Datagram, source: Address) -> None:
        """Its updates are all there is to it."""

    def _note_health(self, id: int, health: Health) -> None:
        if self._roster.is_live(id):
            self._roster.note_health(id, health, self._now)
            self._effects.append(io.HealthHeard(id, health))

    # ---- links: what TCP knows ----

    def _on_sync_arrived(self, event: io.SyncArrived) -> None:
        if not event.records:
            return
        sender = event.records[0][0]
        joining = not self._joined
        self._joined = True
        for update, health in event.records:
            said = update
            if said.id == self._me.id:
                if joining and said.state == ALIVE and said.address != self._me.address:
                    self._effects.append(io.IdConflict(said.id, said.address))
                else:
                    self._hear_of_me(said, sender.address)
                continue
            if said.state == SUSPECT and said.accuser in (0, self._me.id):
                said = said._replace(accuser=sender.id)
            elif said.state == DEAD and self._roster.is_live(said.id):
                said = said._replace(state=SUSPECT, accuser=sender.id)  # it may refute
            self._hear(said, sender.address, spread=not joining)
            if joining or said.id == sender.id:
                self._note_health(said.id, health)

    def _on_link_closed(self, event: io.LinkClosed) -> None:
        if not self._roster.is_live(event.id):
            return
        if event.refused:
            self._find(event.id, DEAD)
            return
        self._find(event.id, SUSPECT, self._me.id)
        if (_CHECK, event.id) not in self._agenda:
            self._arm((_CHECK, event.id), tuning.HOLD_MS)
            self._probe(event.id, TELL)
            self._effects.append(io.CheckLink(event.id))

    def _on_bye_received(self, event: io.ByeReceived) -> None:
        if event.id in self._roster.members:
            self._find(event.id, LEFT)

    def _on_dial_failed(self, event: io.DialFailed) -> None:
        if not event.refused:
            return  # a lost way proves nothing: probes find out
        for id in self._roster.live_ids() - {self._me.id}:
            if self._roster.members[id].address == event.address:
                self._find(id, DEAD)

    def _exchange(self, address: Address) -> None:
        key = (_EXCHANGE, address)
        if self._exchanges >= tuning.EXCHANGES_MAX or key in self._agenda:
            return
        if address != self._me.address:
            self._exchanges += 1
            self._arm(key, tuning.HOLD_MS)
            self._effects.append(io.ExchangeState(address))

    def _on_exchange_over(self, _: Address) -> None:
        self._exchanges -= 1

    def _on_hold_over(self, _: object) -> None:
        """The key has left the agenda: that is all a hold is for."""

    # ---- finding each other ----

    def _on_beacon(self, message: Datagram, source: Address) -> None:
        address = (
            message.address if message.address.ip else Address(source.ip, message.address.port)
        )
        said = Update(message.sender, ALIVE, message.role, message.incarnation, address)
        asks = bool(message.flags & BEACON_ASK)
        if message.role not in (NODE, LEAF):
            if asks and self._is_one_of_few():
                self._effects.append(io.AnswerBeacon(source))
            return
        if said.id == self._me.id:
            if address != self._me.address:
                self._clash(self._me, said)
            return
        known = self._roster.members.get(said.id)
        if known is not None and known.state == ALIVE and known.address != address:
            self._clash(known.update, said)
            return
        is_news = known is None or known.state in (DEAD, LEFT)
        if known is None or is_news or said.incarnation > known.update.incarnation:
            if self._is_one_of_few():
                self._exchange(address)
        elif asks and self._is_one_of_few():
            self._effects.append(io.AnswerBeacon(source))

    def _is_one_of_few(self) -> bool:
        """Chosen by lot, so that about BEACON_ANSWERS of all members are."""
        return self._rng.random() * self._roster.live < tuning.BEACON_ANSWERS

    def _on_beacon_due(self, _: int) -> None:
        self._effects.append(io.BroadcastBeacon(ask=self._roster.live == 1))
        self._arm((_BEACON, 0), self._paced(tuning.BEACON_MS, tuning.BEACON_MEMBERS))

    def _on_seed(self, _: int) -> None:
        """Alone: try all seeds. Among others: try one that is not among them."""
        if self._roster.live == 1:
            for seed in self._seeds:
                self._effects.append(io.ExchangeState(seed))
            self._arm((_SEED, 0), self._seed_wait_ms)
            self._seed_wait_ms = min(2 * self._seed_wait_ms, tuning.SEED_MS_MAX)
            return
        self._seed_wait_ms = tuning.SEED_MS_MIN
        self._arm((_SEED, 0), self._paced(tuning.SEED_MISSING_MS, tuning.SEEK_MEMBERS))
        known = {self._roster.members[id].address for id in self._roster.live_ids() - {self._me.id}}
        missing = [seed for seed in self._seeds if seed not in known]
        if missing:
            self._exchange(self._rng.choice(missing))

    def _on_seek(self, _: int) -> None:
        """Look whether one of the dead is back, the long dead more rarely."""
        self._roster.forget(self._now)
        if not self._roster.gone:
            return
        id = self._rng.choice(tuple(self._roster.gone))
        age_ms = self._now - self._roster.gone[id]
        is_turn = self._rng.random() * age_ms < tuning.SEEK_FADE_MS
        if self._eager_seeks:
            self._eager_seeks -= 1
            is_turn = True
            self._arm((_SEEK, 0), tuning.EAGER_SEEK_MS)
        else:
            self._arm((_SEEK, 0), self._paced(tuning.SEEK_MS, tuning.SEEK_MEMBERS))
        if is_turn and self._roster.members[id].state == DEAD:
            self._probe(id, SEEK)

    # ---- two nodes with one id ----

    def _clash(self, held: Update, said: Update) -> None:
        """Another address for the id of a live member: it is not accepted. Whoever uses the id
        there is told who has it; if it is gone again, the one held is told to rise above it."""
        key = (_CLASH, said.id)
        if key in self._agenda:
            return
        self._arm(key, tuning.HOLD_MS)
        if said.state == ALIVE:
            self._gossip_to(said.address, (held,))
        else:
            self._gossip_to(held.address, (said,))

    def _settle_conflict(self, said: Update) -> None:
        """Another node lives under this node's id: the one that started later has to stop. A node
        that has only just started is the later one also when its clock is behind."""
        age_ms = self._now - self._started_ms + tuning.CLOCK_SKEW_MS
        is_behind = not self._joined and said.incarnation > self._born + age_ms
        if is_behind or (self._born, self._me.address) > (said.incarnation, said.address):
            self._effects.append(io.IdConflict(said.id, said.address))
        else:
            self._clash(self._me, said)


_ON_EVENT: dict[type, Callable[[Membership, Any], None]] = {
    io.Started: Membership._on_started,
    io.DatagramArrived: Membership._on_datagram_arrived,
    io.SyncArrived: Membership._on_sync_arrived,
    io.LinkClosed: Membership._on_link_closed,
    io.ByeReceived: Membership._on_bye_received,
    io.DialFailed: Membership._on_dial_failed,
    io.HealthMeasured: Membership._on_health_measured,
    io.LeaveRequested: Membership._on_leave_requested,
    io.TimePassed: Membership._on_time_passed,
}
_ON_ALARM: dict[int, Callable[[Membership, Any], None]] = {
    _PERIOD: Membership._on_period,
    _ANSWER: Membership._on_no_answer,
    _GOSSIP: Membership._on_gossip,
    _SUSPICION: Membership._on_suspicion,
    _TELL: Membership._on_tell,
    _BEACON: Membership._on_beacon_due,
    _SEED: Membership._on_seed,
    _SEEK: Membership._on_seek,
    _EXCHANGE: Membership._on_exchange_over,
    _CLASH: Membership._on_hold_over,
    _CHECK: Membership._on_hold_over,
}
_ON_DATAGRAM: dict[int, Callable[[Membership, Datagram, Address], None]] = {
    PROBE: Membership._on_probe,
    ACK: Membership._on_ack,
    PROBE_REQUEST: Membership._on_probe_request,
    NACK: Membership._on_nack,
    GOSSIP: Membership._on_gossip_datagram,
    BEACON: Membership._on_beacon,
}
