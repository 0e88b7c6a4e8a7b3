"""Random histories of a small mesh against the simplest model: who is running.

Hypothesis starts, stops, cuts off and rejoins nodes over a network that loses, doubles and
reorders; every policy's invariants are checked after every event. Whatever has happened, once the
network is whole again and some time has passed, every running node holds exactly the running ones
to be live. Hypothesis prints the history of a failure in full; the network's seed is part of it.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from velum.policy.types import ALIVE
from velum.sim.membership import KILLED, OFF, PAUSED, UP, World
from velum.sim.network import Conditions

# The dead are looked for every 3 s, ever more rarely after a minute; seeds every 15 s.
HEALING_MS = 180_000

PICK = st.integers(min_value=0, max_value=1_000)


class MembershipMachine(RuleBasedStateMachine):
    world: World

    @initialize(
        nodes=st.integers(min_value=3, max_value=6),
        seed=st.integers(min_value=0, max_value=2**32 - 1),
        loss=st.sampled_from([0.0, 0.1, 0.3]),
        duplicate=st.sampled_from([0.0, 0.3]),
        reorder=st.sampled_from([0.0, 0.3]),
        beacons=st.booleans(),
        settled=st.booleans(),
    )
    def begin(
        self,
        nodes: int,
        seed: int,
        loss: float,
        duplicate: float,
        reorder: float,
        beacons: bool,
        settled: bool,
    ) -> None:
        conditions = Conditions((1, 20), loss, duplicate, reorder)
        segment = 32 if beacons else 1
        self.world = World(nodes, seed, conditions, segment=segment, settled=settled, validate=True)
        if not settled:
            for number in range(nodes):
                self.start_with_seeds(number)

    def start_with_seeds(self, number: int, clock_ms: int = 0) -> None:
        self.world.start(number, range(len(self.world.machines)), clock_ms)

    def numbers(self, *states: int) -> list[int]:
        return [machine.number for machine in self.world.machines if machine.state in states]

    def pick(self, at: int, *states: int) -> int:
        numbers = self.numbers(*states)
        return numbers[at % len(numbers)]

    @rule(milliseconds=st.integers(min_value=1, max_value=15_000))
    def pass_time(self, milliseconds: int) -> None:
        self.world.run(milliseconds)

    @precondition(lambda self: self.numbers(UP, PAUSED))
    @rule(at=PICK)
    def crash(self, at: int) -> None:
        self.world.crash(self.pick(at, UP, PAUSED))

    @precondition(lambda self: self.numbers(UP, PAUSED))
    @rule(at=PICK)
    def kill(self, at: int) -> None:
        self.world.kill(self.pick(at, UP, PAUSED))

    @precondition(lambda self: self.numbers(UP))
    @rule(at=PICK)
    def leave(self, at: int) -> None:
        number = self.pick(at, UP)
        self.world.leave(number)
        self.world.run(1_000)

    @precondition(lambda self: self.numbers(KILLED, OFF))
    @rule(at=PICK, clock_ms=st.sampled_from([0, 0, -3_600_000, 3_600_000]))
    def restart(self, at: int, clock_ms: int) -> None:
        self.start_with_seeds(self.pick(at, KILLED, OFF), clock_ms)

    @precondition(lambda self: self.numbers(UP))
    @rule(at=PICK)
    def pause(self, at: int) -> None:
        self.world.pause(self.pick(at, UP))

    @precondition(lambda self: self.numbers(PAUSED))
    @rule(at=PICK)
    def resume(self, at: int) -> None:
        self.world.resume(self.pick(at, PAUSED))

    @rule(share=st.integers(min_value=1, max_value=62))
    def part(self, share: int) -> None:
        numbers = range(len(self.world.machines))
        self.world.part(number for number in numbers if share >> number & 1)

    @rule()
    def heal(self) -> None:
        self.world.heal()

    @invariant()
    def nobody_is_taken_for_another(self) -> None:
        if hasattr(self, "world"):
            assert self.world.conflicts == []

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        world.heal()
        world.network.conditions = Conditions((1, 20))
        for number in self.numbers(PAUSED):
            world.resume(number)
        world.run(HEALING_MS)
        running = {machine.id for machine in world.running()}
        for machine in world.running():
            assert machine.policy.live_ids() == running, f"in the view of {machine.id}"
            live = [m for m in machine.policy.members if m.id in running]
            assert all(m.state == ALIVE for m in live), f"in the view of {machine.id}"


TestMembership = MembershipMachine.TestCase
TestMembership.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
