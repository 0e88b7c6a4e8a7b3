"""Membership by example: each transition of its table, and what is said to whom because of it.

Node 1 is the one under test. `Node` below drives it by hand: events in, effects out, invariants
checked after every event.
"""

from __future__ import annotations

import random
from typing import TypeVar

import pytest

from velum.policy.membership import Config, Membership
from velum.policy.membership_io import (
    AnswerBeacon,
    BroadcastBeacon,
    ByeReceived,
    CheckLink,
    DatagramArrived,
    DialFailed,
    Effect,
    Event,
    ExchangeState,
    HealthHeard,
    HealthMeasured,
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
from velum.policy.membership_tuning import (
    BEACON_MS,
    EAGER_SEEKS,
    EXCHANGES_MAX,
    HOLD_MS,
    NACK_MS,
    SEED_MS_MAX,
    SEED_MS_MIN,
    TELL_MS,
)
from velum.policy.probing import PROBE_MS_MIN
from velum.policy.roster import FORGET_MS, Roster
from velum.policy.suspicion import (
    SUSPICION_MAX_MS,
    SUSPICION_MIN_MS,
)
from velum.policy.types import (
    ACK,
    ALIVE,
    BEACON,
    BEACON_ASK,
    CLIENT,
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
    STATE_NAMES,
    SUSPECT,
    Address,
    Datagram,
    Health,
    Update,
)

E = TypeVar("E")
BORN = 1_000_000  # incarnation of every node here


def at(id: int) -> Address:
    return Address(0x7F000001, 8000 + id)


def record(
    id: int,
    state: int = ALIVE,
    incarnation: int = BORN,
    *,
    role: int = NODE,
    address: Address | None = None,
    accuser: int = 0,
) -> Update:
    return Update(id, state, role, incarnation, address or at(id), accuser)


class Node:
    """Node 1 with a mesh of others, at a time that the test moves."""

    def __init__(
        self, others: int = 0, *, beacons: bool = False, rng: random.Random | None = None
    ) -> None:
        self.now = 5_000
        rng = rng or random.Random(7)
        self.policy = Membership(Config(beacons=beacons), record(1), rng)
        self.start = self.hear_event(Started())
        if others:
            self.merge(*(record(id) for id in range(2, 2 + others)))

    def hear_event(self, event: Event) -> list[Effect]:
        effects = self.policy.handle(event, self.now)
        self.policy.validate()
        return effects

    def hear(self, message: Datagram, source: Address | None = None) -> list[Effect]:
        return self.hear_event(DatagramArrived(message, source or at(message.sender)))

    def tell(self, *updates: Update, sender: int = 2) -> list[Effect]:
        """A GOSSIP arrives."""
        return self.hear(Datagram(GOSSIP, 1, sender, updates=updates))

    def merge(self, *updates: Update, health: Health = NO_HEALTH) -> list[Effect]:
        """A full state arrives; the first record is its sender's."""
        return self.hear_event(SyncArrived(tuple((update, health) for update in updates)))

    def wait(self, milliseconds: int) -> list[Effect]:
        """Let time pass, waking the node whenever it wants."""
        end, effects = self.now + milliseconds, []
        while (deadline := self.policy.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            effects += self.hear_event(TimePassed())
        self.now = end
        return effects

    def state(self, id: int) -> int | None:
        member = self.policy.member(id)
        return None if member is None else member.state

    def until_probe(self, id: int) -> Datagram:
        """Wait for this node's own probe of a member, answering all others."""
        for _ in range(2_000):
            for effect in of(SendDatagram, self.wait(50)):
                message = effect.message
                if message.type == PROBE and message.target == id:
                    return message
                if message.type == PROBE:
                    self.hear(answer(message))
        raise AssertionError("no probe")


class Unlucky(random.Random):
    """No lot falls on the node, so that it does not check an accusation itself."""

    def random(self) -> float:
        return 0.999


def of(kind: type[E], effects: list[Effect]) -> list[E]:
    return [effect for effect in effects if isinstance(effect, kind)]


def sent(effects: list[Effect], type: int, to: int | None = None) -> list[Datagram]:
    return [
        effect.message
        for effect in of(SendDatagram, effects)
        if effect.message.type == type and (to is None or effect.to == at(to))
    ]


def told(effects: list[Effect], to: int | None = None) -> list[Update]:
    """Every update that went out on any datagram."""
    return [
        update
        for effect in of(SendDatagram, effects)
        if to is None or effect.to == at(to)
        for update in effect.message.updates
    ]


def answer(probe: Datagram, incarnation: int = BORN, health: Health = NO_HEALTH) -> Datagram:
    return Datagram(ACK, probe.sequence, probe.target, probe.target, incarnation, health=health)


# ---- the table: what is held, what is told, what is then held ----

# (held, told, incarnation ahead by): state afterwards. Whatever is not here leaves all as it was.
TABLE = {
    (ALIVE, ALIVE, 1): ALIVE,
    (ALIVE, SUSPECT, 0): SUSPECT,
    (ALIVE, SUSPECT, 1): SUSPECT,
    (ALIVE, DEAD, 0): DEAD,
    (ALIVE, DEAD, 1): DEAD,
    (ALIVE, LEFT, 0): LEFT,
    (ALIVE, LEFT, 1): LEFT,
    (SUSPECT, ALIVE, 1): ALIVE,
    (SUSPECT, SUSPECT, 1): SUSPECT,
    (SUSPECT, DEAD, 0): DEAD,
    (SUSPECT, DEAD, 1): DEAD,
    (SUSPECT, LEFT, 0): LEFT,
    (SUSPECT, LEFT, 1): LEFT,
    (DEAD, ALIVE, 1): ALIVE,
    (DEAD, SUSPECT, 1): SUSPECT,
    (DEAD, DEAD, 1): DEAD,
    (DEAD, LEFT, 0): LEFT,
    (DEAD, LEFT, 1): LEFT,
    (LEFT, ALIVE, 1): ALIVE,
    (LEFT, SUSPECT, 1): SUSPECT,
    (LEFT, DEAD, 1): DEAD,
    (LEFT, LEFT, 1): LEFT,
}
CASES = [
    pytest.param(held, said, lead, id=f"{STATE_NAMES[held]}-{STATE_NAMES[said]}{lead:+}")
    for held in STATE_NAMES
    for said in STATE_NAMES
    for lead in (-1, 0, 1)
]


@pytest.mark.parametrize(("held", "said", "lead"), CASES)
def test_which_word_counts(held: int, said: int, lead: int) -> None:
    node = Node(4)
    if held != ALIVE:
        node.tell(record(3, held, accuser=2))
    assert node.state(3) == held
    effects = node.tell(record(3, said, BORN + lead, accuser=4))
    after = TABLE.get((held, said, lead))
    assert node.state(3) == (held if after is None else after)
    member = node.policy.member(3)
    assert member is not None
    assert member.update.incarnation == (BORN if after is None else BORN + lead)
    changes = of(MemberChanged, effects)
    silent = after is None or (held in (DEAD, LEFT) and after in (DEAD, LEFT))
    assert changes == ([] if silent else [MemberChanged(member, held)])


@pytest.mark.parametrize(("held", "said", "lead"), CASES)
def test_the_roster_refuses_what_is_not_in_the_table(held: int, said: int, lead: int) -> None:
    roster = Roster(1, random.Random(1))
    roster.enter(record(3, held), 0)
    update = record(3, said, BORN + lead)
    if (held, said, lead) in TABLE:
        assert roster.enter(update, 1) == held
    else:
        with pytest.raises(ValueError, match="not in the table"):
            roster.enter(update, 1)


@pytest.mark.parametrize("said", list(STATE_NAMES))
def test_an_unknown_member(said: int) -> None:
    node = Node(3)
    effects = node.tell(record(9, said, accuser=2))
    assert node.state(9) == said
    assert bool(of(MemberChanged, effects)) == (said in (ALIVE, SUSPECT))
    assert (9 in node.policy.live_ids()) == (said in (ALIVE, SUSPECT))


def test_nonsense_is_ignored() -> None:
    node = Node(2)
    node.tell(record(9, incarnation=INCARNATION_MAX + 1))
    node.tell(record(9, address=Address(1, 0)))
    node.tell(record(3, DEAD, INCARNATION_MAX + 1), record(1, DEAD, INCARNATION_MAX + 1))
    assert node.state(9) is None and node.state(3) == ALIVE
    assert node.policy.me == record(1)


def test_a_malformed_full_state_is_ignored() -> None:
    node = Node(2)
    assert node.merge() == []
    assert node.merge(record(9, address=Address(1, 0))) == []
    assert node.state(9) is None


def test_invented_senders_make_a_node_dial_a_bounded_number() -> None:
    node = Node(2)
    sources = [Address(0x0A000000 + n, 99) for n in range(1_000)]
    effects = [effect for s in sources for effect in node.hear(Datagram(PROBE, 1, 9, 1), s)]
    assert len(of(ExchangeState, effects)) == EXCHANGES_MAX
    node.wait(HOLD_MS)
    assert of(ExchangeState, node.hear(Datagram(PROBE, 1, 9, 1), sources[-1]))


# ---- life of the node itself ----


def test_events_before_the_start_and_a_second_start_are_errors() -> None:
    policy = Membership(Config(), record(1), random.Random(1))
    with pytest.raises(RuntimeError):
        policy.handle(TimePassed(), 0)
    policy.handle(Started(), 0)
    with pytest.raises(RuntimeError):
        policy.handle(Started(), 0)


@pytest.mark.parametrize("me", [record(0), record(1, LEFT), record(1, role=LEAF)])
def test_only_a_live_node_with_an_id_can_begin(me: Update) -> None:
    with pytest.raises(ValueError, match="live NODE"):
        Membership(Config(), me, random.Random(1))


def test_a_node_alone_asks_by_beacon_and_retries_its_seeds_ever_more_slowly() -> None:
    node = Node(beacons=True)
    assert of(BroadcastBeacon, node.start) == [BroadcastBeacon(ask=True)]
    assert len(of(BroadcastBeacon, node.wait(10 * BEACON_MS))) in range(8, 13)

    policy = Membership(Config(beacons=False), record(1), random.Random(1))
    now, tries = 0, []
    effects = policy.handle(Started((at(2), at(1))), 0)
    while now < 30_000:
        tries += [now for effect in of(ExchangeState, effects) if effect.with_ == at(2)]
        now = policy.next_deadline() or now
        effects = policy.handle(TimePassed(), now)
    gaps = [later - earlier for earlier, later in zip(tries, tries[1:], strict=False)]
    assert gaps[:4] == [SEED_MS_MIN, 2 * SEED_MS_MIN, 4 * SEED_MS_MIN, 8 * SEED_MS_MIN]
    assert set(gaps[4:]) == {SEED_MS_MAX}


def test_a_leave_is_told_to_all_and_then_there_is_silence() -> None:
    node = Node(5)
    effects = node.hear_event(LeaveRequested())
    farewell = record(1, LEFT)
    assert all(farewell in told(effects, to=id) for id in range(2, 7))
    node.wait(5_000)
    assert node.policy.next_deadline() is None
    assert node.tell(record(1, DEAD)) == [] and node.policy.me == farewell


def test_own_health_rides_on_probe_ack_and_sync() -> None:
    node, load = Node(2), Health(cpu=50, slots=2, cores=4)
    node.hear_event(HealthMeasured(load))
    (ack,) = sent(node.hear(Datagram(PROBE, 5, 2, 1)), ACK, to=2)
    assert ack.health == load and node.until_probe(2).health == load
    assert node.policy.sync_records()[0] == (record(1), load)


# ---- probes ----


def test_each_round_probes_every_member_once() -> None:
    node = Node(6)
    for _ in range(3):
        targets: list[int] = []
        while len(targets) < 6:
            for probe in sent(node.wait(10), PROBE):
                targets.append(probe.target)
                node.hear(answer(probe))
        assert sorted(targets) == [2, 3, 4, 5, 6, 7]


def test_an_unanswered_probe_goes_over_helpers_and_then_accuses() -> None:
    node = Node(5)
    probe = node.until_probe(3)
    effects = node.wait(PROBE_MS_MIN)
    requests = sent(effects, PROBE_REQUEST)
    assert len(requests) == 3 and len(sent(effects, PROBE, to=3)) == 1
    assert {r.sequence for r in requests} == {probe.sequence}
    assert all((r.target, r.address) == (3, at(3)) for r in requests)
    assert node.state(3) == ALIVE
    for request in of(SendDatagram, effects):
        if request.message.type == PROBE_REQUEST:
            helper = request.to.port - 8000
            node.hear(Datagram(NACK, probe.sequence, helper, 3))
    effects = node.wait(550)
    assert node.state(3) == SUSPECT
    assert record(3, SUSPECT, accuser=1) in told(effects)
    assert node.policy.local_health == 0, "all helpers answered: the silence is the target's"


def test_helpers_that_do_not_answer_speak_against_this_node() -> None:
    node = Node(5)
    node.until_probe(3)
    node.wait(PROBE_MS_MIN + 520)
    assert node.policy.local_health == 3


def test_an_answer_over_a_helper_counts() -> None:
    node, load = Node(5), Health(queue=3)
    probe = node.until_probe(3)
    node.wait(PROBE_MS_MIN)
    ack = answer(probe, health=load)._replace(sender=4)
    assert of(HealthHeard, node.hear(ack)) == [HealthHeard(3, load)]
    node.wait(600)
    assert node.state(3) == ALIVE


def test_a_probe_is_answered_with_what_is_held_of_its_sender() -> None:
    node = Node(3)
    node.tell(record(3, DEAD))
    effects = node.hear(Datagram(PROBE, 5, 3, 1))
    (ack,) = sent(effects, ACK, to=3)
    assert ack.sequence == 5 and ack.target == 1 and ack.incarnation == BORN
    assert ack.updates[0] == record(3, DEAD)
    assert of(ExchangeState, effects) == [ExchangeState(at(3))]


def test_a_probe_by_a_stranger_leads_to_an_exchange_once() -> None:
    node = Node(2)
    effects = node.hear(Datagram(PROBE, 5, 9, 1)) + node.hear(Datagram(PROBE, 6, 9, 1))
    assert of(ExchangeState, effects) == [ExchangeState(at(9))]
    assert len(sent(effects, ACK, to=9)) == 2
    node.wait(HOLD_MS)
    assert of(ExchangeState, node.hear(Datagram(PROBE, 7, 9, 1))) == [ExchangeState(at(9))]


def test_a_probe_for_another_is_dropped_with_its_news() -> None:
    """It may be of another mesh, whose dead had this address: two of its ids would be one here."""
    node = Node(2)
    stray = Datagram(PROBE, 5, 9, 77, updates=(record(2, LEFT), record(8), record(9)))
    assert node.hear(stray) == []
    assert node.state(2) == ALIVE
    assert all(node.policy.member(id) is None for id in (8, 9))


def test_a_record_without_a_port_is_passed_over() -> None:
    """Whatever is known of that member: it would be given to whom an address must be one."""
    node, nowhere = Node(2), Address(0x7F000001, 0)
    node.tell(record(8, address=nowhere), record(9), record(10))
    node.tell(record(9, incarnation=BORN + 2, address=nowhere), record(10, DEAD))
    node.tell(record(10, incarnation=BORN + 2, address=nowhere))
    assert node.policy.member(8) is None
    assert (node.state(9), node.state(10)) == (ALIVE, DEAD)
    assert [node.policy.member(id).address for id in (9, 10)] == [at(9), at(10)]


def test_a_helper_passes_the_answer_on_or_says_that_there_is_none() -> None:
    node, load = Node(3), Health(cpu=9)
    effects = node.hear(Datagram(PROBE_REQUEST, 50, 2, 9, address=at(9)))
    (probe,) = sent(effects, PROBE, to=9)
    effects = node.hear(answer(probe, 123, load))
    (ack,) = sent(effects, ACK, to=2)
    assert (ack.sequence, ack.sender, ack.target) == (50, 1, 9)
    assert (ack.incarnation, ack.health) == (123, load)
    assert sent(node.wait(NACK_MS), NACK) == []

    node.hear(Datagram(PROBE_REQUEST, 51, 2, 9, address=at(9)))
    assert sent(node.wait(NACK_MS), NACK, to=2) == [Datagram(NACK, 51, 1, 9)]


def test_a_late_or_double_answer_changes_nothing() -> None:
    node = Node(2)
    probe = node.until_probe(3)
    node.hear(answer(probe))
    assert node.hear(answer(probe, BORN + 5)) == []
    assert node.hear(Datagram(ACK, 999, 3, 3, BORN + 5)) == []


def test_a_leaf_is_probed_but_neither_helps_nor_gossips() -> None:
    node = Node()
    node.merge(record(2), *(record(id, role=LEAF) for id in range(3, 9)))
    node.tell(record(20))
    effects = node.wait(60_000)
    assert {probe.target for probe in sent(effects, PROBE)} == {2, *range(3, 9), 20}
    assert {e.to for e in of(SendDatagram, effects) if e.message.type == GOSSIP} <= {at(2), at(20)}
    helped = {e.to for e in of(SendDatagram, effects) if e.message.type == PROBE_REQUEST}
    assert helped and helped <= {at(2), at(20)}


def test_a_node_that_overslept_blames_nobody() -> None:
    node = Node(3)
    node.until_probe(3)
    node.tell(record(4, SUSPECT, accuser=2))
    node.now += 60_000
    effects = node.hear_event(TimePassed())
    assert node.state(3) == ALIVE and node.state(4) == SUSPECT
    assert of(MemberChanged, effects) == [] and node.policy.local_health == 1


# ---- suspicion and refutation ----


def test_a_suspicion_that_few_confirm_lasts_long_and_ends_in_death() -> None:
    node = Node(30)
    node.tell(record(3, SUSPECT, accuser=2))
    node.wait(3 * SUSPICION_MIN_MS // 2)
    assert node.state(3) == SUSPECT
    node.wait(SUSPICION_MAX_MS)
    assert node.state(3) == DEAD


def test_confirmations_shorten_a_suspicion() -> None:
    node = Node(30, rng=Unlucky(7))
    node.tell(record(3, SUSPECT, accuser=2))
    node.tell(record(3, SUSPECT, accuser=2))
    node.tell(*(record(3, SUSPECT, accuser=id) for id in (4, 5, 6)))
    node.wait(SUSPICION_MIN_MS - 1)
    assert node.state(3) == SUSPECT
    effects = node.wait(1)
    assert node.state(3) == DEAD
    assert [(c.before, c.member.state) for c in of(MemberChanged, effects)] == [(SUSPECT, DEAD)]
    assert record(3, DEAD) in told(node.wait(100))


def test_a_fresh_accusation_is_checked_and_confirmed_to_the_accuser() -> None:
    node = Node(4)  # so small that everybody checks
    effects = node.tell(record(3, SUSPECT, accuser=2))
    (probe,) = sent(effects, PROBE, to=3)
    assert probe.incarnation == BORN, "the suspect is told at which incarnation"
    assert len(sent(effects, PROBE_REQUEST)) == 3
    effects = node.wait(500)
    assert record(3, SUSPECT, accuser=1) in told(effects, to=2)


def test_an_accusation_that_proves_wrong_is_refuted_for_all() -> None:
    node = Node(4)
    (probe,) = sent(node.tell(record(3, SUSPECT, accuser=2)), PROBE, to=3)
    effects = node.hear(answer(probe, BORN + 1))
    assert node.state(3) == ALIVE
    assert [c.before for c in of(MemberChanged, effects)] == [SUSPECT]
    assert record(3, ALIVE, BORN + 1) in told(node.wait(60))


def test_an_accuser_keeps_telling_the_suspect() -> None:
    node = Node(4)
    node.hear_event(LinkClosed(3))
    for _ in range(2):
        probes = sent(node.wait(TELL_MS), PROBE, to=3)
        assert probes and all(probe.incarnation == BORN for probe in probes)


def test_a_suspect_that_was_not_told_is_told_when_it_answers() -> None:
    node = Node(30)
    probe = node.until_probe(3)
    node.tell(record(3, SUSPECT, accuser=2))
    effects = node.hear(answer(probe, BORN))
    assert node.state(3) == SUSPECT
    assert sent(effects, PROBE, to=3)[0].incarnation == BORN


def test_it_refutes_what_is_said_of_itself_to_teller_accuser_and_all() -> None:
    node = Node(5)
    effects = node.tell(record(1, SUSPECT, accuser=4), sender=3)
    refuted = record(1, ALIVE, BORN + 1)
    assert node.policy.me == refuted and node.policy.local_health == 1
    assert told(effects, to=3) == [refuted] and told(effects, to=4) == [refuted]
    assert refuted in told(node.wait(60))
    assert node.tell(record(1, SUSPECT, accuser=4)) == [], "refuted already"


def test_it_refutes_a_probe_that_suspects_it() -> None:
    node = Node(2)
    (ack,) = sent(node.hear(Datagram(PROBE, 5, 2, 1, BORN + 6)), ACK)
    assert ack.incarnation == BORN + 7 == node.policy.me.incarnation


@pytest.mark.parametrize("state", [ALIVE, DEAD, LEFT])
def test_it_rises_above_a_former_life_with_a_later_clock(state: int) -> None:
    node = Node()
    node.merge(record(2), record(1, state, BORN + 50))
    assert node.policy.me == record(1, ALIVE, BORN + 51)
    assert node.policy.local_health == 0


# ---- links ----


def test_a_closed_link_makes_suspect_at_once_and_asks_for_the_truth() -> None:
    node = Node(3)
    effects = node.hear_event(LinkClosed(3))
    assert node.state(3) == SUSPECT
    assert of(CheckLink, effects) == [CheckLink(3)] and sent(effects, PROBE, to=3)
    assert of(CheckLink, node.hear_event(LinkClosed(3))) == [], "not again so soon"
    effects = node.hear_event(LinkClosed(3, refused=True))
    assert node.state(3) == DEAD and record(3, DEAD) in told(node.wait(60))
    assert node.hear_event(LinkClosed(3)) == [] == node.hear_event(LinkClosed(99))


def test_a_refused_dial_is_a_death_and_a_lost_one_is_nothing() -> None:
    node = Node(3)
    assert node.hear_event(DialFailed(at(3), refused=False)) == []
    node.hear_event(DialFailed(at(3), refused=True))
    assert node.state(3) == DEAD and node.state(2) == ALIVE
    assert node.hear_event(DialFailed(at(99), refused=True)) == []


def test_a_bye_is_a_leave() -> None:
    node = Node(3)
    effects = node.hear_event(ByeReceived(3))
    assert node.state(3) == LEFT and of(MemberChanged, effects)
    assert record(3, LEFT) in told(node.wait(60))
    assert 3 not in {probe.target for probe in sent(node.wait(20_000), PROBE)}
    assert node.hear_event(ByeReceived(99)) == []


def test_in_a_small_mesh_the_smaller_id_keeps_the_link() -> None:
    node = Node()
    effects = node.merge(*(record(id) for id in range(2, 17)))
    assert of(OpenLink, effects) == [OpenLink(id) for id in range(2, 17)]
    assert of(OpenLink, node.tell(record(17))) == [], "the mesh is no longer small"
    policy = Membership(Config(), record(9), random.Random(1))
    policy.handle(Started(), 0)
    news = ((record(4), NO_HEALTH), (record(5, role=LEAF), NO_HEALTH), (record(12), NO_HEALTH))
    assert of(OpenLink, policy.handle(SyncArrived(news), 1)) == [OpenLink(5), OpenLink(12)]


# ---- full state ----


def test_joining_is_quiet_and_later_news_is_passed_on() -> None:
    node = Node()
    effects = node.merge(record(2), record(3), record(4, DEAD))
    assert [c.member.id for c in of(MemberChanged, effects)] == [2, 3]
    assert node.state(4) == DEAD and told(node.wait(200)) == []
    node.merge(record(2), record(5))
    assert record(5) in told(node.wait(60))


def test_a_death_from_a_full_state_is_an_accusation_that_may_be_refuted() -> None:
    node = Node(4)
    node.merge(record(2), record(3, DEAD), record(4, LEFT))
    assert node.state(3) == SUSPECT and node.state(4) == LEFT
    assert node.policy.member(3).update.accuser == 2  # type: ignore[union-attr]


def test_health_comes_with_the_sender() -> None:
    node, load = Node(3), Health(free_mib=100)
    effects = node.merge(record(2), record(3), health=load)
    assert of(HealthHeard, effects) == [HealthHeard(2, load)]


# ---- finding each other ----


def beacon(id: int, *, ask: bool = False, role: int = NODE, **changes: int) -> Datagram:
    incarnation = changes.get("incarnation", BORN)
    address = Address(0, 8000 + changes.get("port_of", id))
    flags = BEACON_ASK if ask else 0
    return Datagram(BEACON, 0, id, 0, incarnation, address, role, flags)


def test_beacons_of_the_unknown_the_gone_and_the_restarted_lead_to_an_exchange() -> None:
    node = Node(4)
    node.tell(record(3, DEAD), record(4, LEFT))
    for message, expected in [
        (beacon(9), True),
        (beacon(3), True),
        (beacon(4), True),
        (beacon(2), False),
        (beacon(2, incarnation=BORN + 1), True),
    ]:
        node.now += 2 * HOLD_MS
        effects = node.hear(message, at(message.sender))
        wanted = [ExchangeState(at(message.sender))] if expected else []
        assert of(ExchangeState, effects) == wanted, message


def test_who_asks_is_answered() -> None:
    node = Node(2)
    client = Datagram(BEACON, 0, 0, role=CLIENT, flags=BEACON_ASK)
    assert node.hear(client, Address(5, 6)) == [AnswerBeacon(Address(5, 6))]
    assert node.hear(beacon(2, ask=True), at(2)) == [AnswerBeacon(at(2))]
    assert node.hear(beacon(9, ask=True), at(9)) == [ExchangeState(at(9))]
    assert node.hear(beacon(1), at(1)) == [], "its own echo"


def test_few_of_many_answer_a_beacon() -> None:
    node = Node(400)
    answers = sum(bool(node.hear(beacon(2, ask=True), at(2))) for _ in range(1_000))
    assert 5 <= answers <= 50


def test_the_dead_are_looked_for_ever_more_rarely_and_forgotten_after_a_day() -> None:
    node = Node(3)
    node.tell(record(3, DEAD), record(4, LEFT))
    early = sent(node.wait(60_000), PROBE)
    assert 5 <= sum(probe.target == 3 for probe in early) <= 30
    assert all(p.incarnation == BORN for p in early if p.target == 3)
    assert all(p.target != 4 for p in early)
    for message in early:
        node.hear(answer(message)) if message.target == 2 else None
    node.hear_event(ByeReceived(2))
    node.now += 3_600_000
    node.hear_event(TimePassed())
    late = sent(node.wait(600_000), PROBE)
    assert sum(probe.target == 3 for probe in late) <= 20
    node.now += FORGET_MS
    node.hear_event(TimePassed())
    node.wait(30_000)
    assert node.state(3) is None and node.state(4) is None


def test_a_dead_member_that_answers_is_alive_and_exchanged_with() -> None:
    node = Node(2)
    node.tell(record(3, DEAD))
    probe = node.until_probe(3)
    effects = node.hear(answer(probe, BORN + 1))
    assert node.state(3) == ALIVE and of(ExchangeState, effects) == [ExchangeState(at(3))]


def test_when_one_comes_back_the_other_dead_are_tried_at_once() -> None:
    node = Node(100)
    node.tell(*(record(id, DEAD) for id in range(3, 8)))
    assert not any(probe.target < 8 for probe in sent(node.wait(1_000), PROBE) if probe.incarnation)
    node.tell(record(3, ALIVE, BORN + 1))
    tried = [probe.target for probe in sent(node.wait(10_000), PROBE) if probe.incarnation]
    assert len(tried) >= EAGER_SEEKS and set(tried) <= set(range(4, 8)) | {
        member.id for member in node.policy.members if member.state == SUSPECT
    }


def test_a_missing_seed_is_looked_for() -> None:
    policy = Membership(Config(beacons=False), record(1), random.Random(1))
    policy.handle(Started((at(2), at(3))), 0)
    policy.handle(SyncArrived(((record(2), NO_HEALTH),)), 10)
    tried: set[Address] = set()
    now = 10
    while now < 60_000:
        now = policy.next_deadline() or now
        effects = policy.handle(TimePassed(), now)
        tried |= {effect.with_ for effect in of(ExchangeState, effects)}
        for probe in sent(effects, PROBE):
            policy.handle(DatagramArrived(answer(probe), at(2)), now)
    assert tried == {at(3)}


# ---- two nodes with one id ----


def test_another_address_for_a_live_id_is_not_accepted_and_told_who_has_it() -> None:
    node, elsewhere = Node(4), at(77)
    effects = node.tell(record(3, incarnation=BORN + 9, address=elsewhere))
    assert node.policy.member(3).address == at(3)  # type: ignore[union-attr]
    assert told(effects, to=77) == [record(3)]
    assert node.tell(record(3, incarnation=BORN + 9, address=elsewhere)) == [], "not so soon"
    holder = node.policy.holder(3, elsewhere)
    assert holder is not None and holder.address == at(3)
    assert node.policy.holder(3, at(3)) is None and node.policy.holder(99, elsewhere) is None
    assert node.policy.holder(1, elsewhere) is not None and node.policy.holder(1, at(1)) is None


def test_the_end_of_a_twin_is_told_to_the_one_that_stays() -> None:
    node = Node(4)
    gone = record(3, LEFT, BORN + 9, address=at(77))
    assert told(node.tell(gone), to=3) == [gone] and node.state(3) == ALIVE


def test_a_new_address_is_accepted_once_the_old_node_is_doubted() -> None:
    node = Node(4)
    node.tell(record(3, SUSPECT, accuser=2))
    node.tell(record(3, incarnation=BORN + 9, address=at(77)))
    assert node.policy.member(3).address == at(77)  # type: ignore[union-attr]


@pytest.mark.parametrize("lead", [-1, 1])
def test_of_two_with_one_id_the_later_started_stops(lead: int) -> None:
    node = Node(3)
    effects = node.tell(record(1, incarnation=BORN + lead, address=at(77)))
    if lead < 0:
        assert of(IdConflict, effects) == [IdConflict(1, at(77))]
    else:
        assert of(IdConflict, effects) == [] and told(effects, to=77) == [record(1)]


def test_a_newcomer_with_a_clock_behind_stops_all_the_same() -> None:
    conflict = IdConflict(1, at(77))
    early = record(1, incarnation=BORN + 60_000, address=at(77))
    assert of(IdConflict, Node().tell(early)) == [conflict]
    assert of(IdConflict, Node().merge(record(2), early)) == [conflict]
    assert of(IdConflict, Node(3).tell(early)) == [], "it was there before"


def test_a_beacon_stops_nobody() -> None:
    node = Node(3)
    effects = node.hear(beacon(1, incarnation=BORN - 1, port_of=77), at(77))
    assert of(IdConflict, effects) == [] and told(effects, to=77) == [record(1)]
    assert told(node.hear(Datagram(PROBE, 4, 1, 2), at(78)), to=78) == [record(1)]
