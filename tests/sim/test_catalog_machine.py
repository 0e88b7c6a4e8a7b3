"""The catalogs of four nodes under arbitrary events in arbitrary order.

Messages arrive in any order, twice, late or never; nodes see and lose each other without a reason
and one-sidedly, crash and come back with nothing; their clocks are years apart. Whatever happens,
validate() holds, no entry gives way to a lesser one, and nothing but a crash takes a name's
greatest entry from the nodes that live: so what was confirmed is not lost by handing it over. Each
put chooses how many keepers its name has. Once the world calms down all keepers of a name have the
greatest entry that anybody alive had, nobody else has any, and nothing but sums travels. Hypothesis
prints the steps of a failure, shrunk, as a program.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.unit import catalog_rig
from tests.unit.catalog_rig import kept_by
from velum.policy import catalog_io as io
from velum.policy.catalog import COMPARE_MS, STEP_MS
from velum.policy.filetypes import Entry, Manifest
from velum.policy.hybridclock import Clock, Version
from velum.policy.names import greater

IDS = (1, 2, 3, 4)
NODES = st.sampled_from(IDS)
NAMES = (b"a", b"b/c", b"b/d", "\u00e9".encode(), b"e")
KEEPERS = st.sampled_from([2, 2, 2, 1, 3])  # fewer than nodes: names move
YEAR_MS = 366 * 86_400_000
UNIX_MS = {1: 0, 2: YEAR_MS, 3: 50 * YEAR_MS, 4: 50 * YEAR_MS + 1}
CALM_MS = 20 * COMPARE_MS

Frame = tuple[int, int, Any]  # from, to, event


class Node:
    """A node process."""

    def __init__(self, id: int) -> None:
        self.id = id
        self.up = False
        self.sees: set[int] = set()
        self.clock: Clock
        self.node: catalog_rig.Node


class CatalogMachine(RuleBasedStateMachine):
    """The model: messages on their way, and the greatest entries alive."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.nodes = {id: Node(id) for id in IDS}
        self.mail: list[Frame] = []
        self.puts: list[Entry] = []
        self.best: dict[bytes, Entry] = {}
        self.sent: list[io.Effect] = []
        for node in self.nodes.values():
            self.boot(node.id)
        for a in IDS:
            for b in IDS:
                self.meet(a, b)

    # ---- the drivers ----

    def up(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.up]

    def unix_ms(self, node: Node) -> int:
        return UNIX_MS[node.id] + self.now

    def do(self, node: Node, event: io.Event) -> None:
        before = {name: node.node.get(name) for name in NAMES}
        out = node.node.handle(event, self.now)
        for name, entry in before.items():
            now = node.node.get(name)
            assert entry is None or now is None or not_less(now, entry), "overtaken"
        if isinstance(event, io.EntryOffered):
            version = node.node.names.figures()[5]
            assert node.clock.heard(Version(version, 0), self.unix_ms(node))
        for effect in out:
            self.perform(node, effect)

    def perform(self, node: Node, effect: io.Effect) -> None:
        assert not isinstance(effect, io.Refuse), "a refusal, without a cause"
        if isinstance(effect, io.Kept):
            if not effect.node:
                put = self.puts[effect.ticket]
                held = node.node.get(put.name)
                assert held is not None and not_less(held, put)
                assert effect.superseded == (held != put._replace(keepers=held.keepers))
                assert effect.version == held.version
            return
        event = node.node.heard(effect, self.unix_ms(self.nodes[effect.node]))
        self.post(effect, node.id, event)

    def post(self, effect: Any, source: int, event: io.Event) -> None:
        self.sent.append(effect)
        self.mail.append((source, effect.node, event))

    def receive(self, frame: Frame) -> None:
        node = self.nodes[frame[1]]
        if node.up:
            self.do(node, frame[2])

    # ---- rules ----

    @precondition(lambda self: self.up())
    @rule(
        data=st.data(),
        name=st.sampled_from(NAMES),
        count=KEEPERS,
        gone=st.booleans(),
        at_once=st.booleans(),
    )
    def put(self, data: st.DataObject, name: bytes, count: int, gone: bool, at_once: bool) -> None:
        """A client puts or deletes a file through some node."""
        node = data.draw(st.sampled_from(self.up()))
        version = node.clock.next(self.unix_ms(node))
        body = b"manifest %d" % len(self.puts)
        manifest = None if gone else Manifest(len(body), data=body)
        entry = Entry(name, version, count, manifest)
        keepers = kept_by(name, [*node.sees, node.id], count)
        ticket = len(self.puts)
        self.puts.append(entry)
        for to in keepers:
            unix_ms = self.unix_ms(self.nodes[to])
            frame = (node.id, to, io.EntryOffered(0, ticket, entry, unix_ms))
            if at_once:
                self.receive(frame)
            else:
                self.mail.append(frame)

    @precondition(lambda self: self.mail)
    @rule(count=st.integers(1, 20))
    def deliver(self, count: int) -> None:
        """The oldest messages arrive."""
        frames, self.mail = self.mail[:count], self.mail[count:]
        for frame in frames:
            self.receive(frame)

    @precondition(lambda self: self.mail)
    @rule(data=st.data(), how=st.sampled_from(["early", "twice", "never"]))
    def stray(self, data: st.DataObject, how: str) -> None:
        """One arrives before others, or twice, or is lost."""
        place = data.draw(st.integers(0, len(self.mail) - 1))
        frame = self.mail[place] if how == "twice" else self.mail.pop(place)
        if how != "never":
            self.receive(frame)

    @rule(ms=st.sampled_from([1, STEP_MS, 1000, COMPARE_MS]))
    def wait(self, ms: int) -> None:
        self.now += ms
        for node in self.up():
            self.do(node, io.TimePassed())

    @rule(a=NODES, b=NODES)
    def meet(self, a: int, b: int) -> None:
        """One sees another; the other way round is another matter."""
        node = self.nodes[a]
        if a != b and node.up and self.nodes[b].up and b not in node.sees:
            node.sees.add(b)
            self.do(node, io.MemberSeen(b))

    @rule(a=NODES, b=NODES)
    def lose(self, a: int, b: int) -> None:
        """One loses sight of another, which may live on."""
        node = self.nodes[a]
        if node.up and b in node.sees:
            node.sees.discard(b)
            self.do(node, io.MemberLost(b))

    @rule(id=NODES)
    def crash(self, id: int) -> None:
        self.nodes[id].up = False
        self.best = self.greatest()

    @rule(id=NODES)
    def boot(self, id: int) -> None:
        """A node starts, with nothing; links to its former life have closed."""
        node = self.nodes[id]
        if node.up:
            return
        node.up = True
        node.sees = set()
        node.clock = Clock(id)
        node.node = catalog_rig.Node(id)
        self.mail = [frame for frame in self.mail if id not in frame[:2]]
        for other in self.up():
            if id in other.sees:
                self.do(other, io.MemberSeen(id))

    @invariant()
    def valid(self) -> None:
        for node in self.up():
            node.node.catalog.validate()
        best = self.greatest()
        for name, entry in self.best.items():
            assert name in best, "lost"
            assert not_less(best[name], entry._replace(keepers=1)), "overtaken"
        self.best = best

    def greatest(self) -> dict[bytes, Entry]:
        """The greatest entry of each name that anybody alive has."""
        best: dict[bytes, Entry] = {}
        for node in self.up():
            for name in NAMES:
                entry = node.node.get(name)
                if entry is not None:
                    best[name] = greater(best.get(name, entry), entry)
        return best

    # ---- the end ----

    def teardown(self) -> None:
        self.mail.clear()
        for node in self.up():
            for id in IDS:
                if self.nodes[id].up:
                    self.meet(node.id, id)
                else:
                    self.lose(node.id, id)
        best = self.greatest()
        self.calm(self.now + CALM_MS)
        self.sent.clear()
        self.calm(self.now + CALM_MS)
        assert all(isinstance(effect, io.SendSums) for effect in self.sent), "not at rest"
        ids = [node.id for node in self.up()]
        for name in NAMES:
            held = {node.id: entry for node in self.up() if (entry := node.node.get(name))}
            assert bool(held) == (name in best), "lost"
            for entry in held.values():
                assert set(held) == set(kept_by(name, ids, entry.keepers))
                assert not_less(best[name], entry)
                assert best[name]._replace(keepers=entry.keepers) == entry
        self.valid()

    def calm(self, until: int) -> None:
        while self.now < until:
            self.deliver(len(self.mail))
            self.wait(STEP_MS if self.mail else 500)


def not_less(one: Entry, other: Entry) -> bool:
    """By the order of which merging is the join: keepers too."""
    return greater(other, one) == one


TestCatalogMachine = CatalogMachine.TestCase
TestCatalogMachine.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
