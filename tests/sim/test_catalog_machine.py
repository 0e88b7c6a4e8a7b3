"""The catalogs of four nodes under arbitrary events in arbitrary order.

Messages arrive in any order, twice, late or never; nodes see and lose each other without a reason
and one-sidedly, crash and come back with nothing; their clocks are years apart. Whatever happens,
validate() holds, no entry gives way to a lesser one, and nothing but a crash takes a name's
greatest entry from the nodes that live: so what was confirmed is not lost by handing it over. Once
the world calms down all keepers of a name have the greatest entry that anybody alive had, nobody
else has any, and nothing but sums travels. Hypothesis prints the steps of a failure, shrunk, as a
program.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from velum.policy import catalog_io as io
from velum.policy.catalog import COMPARE_MS, STEP_MS, Catalog
from velum.policy.hybridclock import Clock
from velum.policy.placement import Budget, Placement

IDS = (1, 2, 3, 4)
NODES = st.sampled_from(IDS)
NAMES = (b"a", b"b/c", b"b/d", "\u00e9".encode(), b"e")
KEEPERS = 2  # fewer than nodes: names move
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
        self.catalog: Catalog


class CatalogMachine(RuleBasedStateMachine):
    """The model: messages on their way, and the greatest entries alive."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.nodes = {id: Node(id) for id in IDS}
        self.mail: list[Frame] = []
        self.puts: list[io.Entry] = []
        self.best: dict[bytes, io.Entry] = {}
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
        for effect in node.catalog.handle(event, self.now):
            self.perform(node, effect)

    def perform(self, node: Node, effect: io.Effect) -> None:
        me = node.id
        if isinstance(effect, io.Changed):
            assert effect.old is None or effect.new.rank > effect.old.rank, "overtaken"
        elif isinstance(effect, io.Kept):
            if not effect.node:
                put = self.puts[effect.ticket]
                held = node.catalog.get(put.digest)
                assert held is not None and held.rank >= put.rank
                assert effect.superseded == (held != put)
        elif isinstance(effect, io.SendSums):
            self.post(effect, me, io.SumsHeard(me, effect.counts, effect.marks))
        elif isinstance(effect, io.SendListing):
            event = io.ListingHeard(me, effect.round, effect.items, effect.after, effect.end)
            self.post(effect, me, event)
        elif isinstance(effect, io.SendHeld):
            event = io.HeldHeard(me, effect.round, effect.held, effect.wanted)
            self.post(effect, me, event)
        else:
            assert isinstance(effect, io.SendEntry), "a refusal, without a cause"
            unix_ms = self.unix_ms(self.nodes[effect.node])
            event = io.EntryOffered(me, 0, effect.entry, unix_ms, effect.age_ms, effect.awaited)
            self.post(effect, me, event)

    def post(self, effect: Any, source: int, event: io.Event) -> None:
        self.sent.append(effect)
        self.mail.append((source, effect.node, event))

    def receive(self, frame: Frame) -> None:
        node = self.nodes[frame[1]]
        if node.up:
            self.do(node, frame[2])

    # ---- rules ----

    @precondition(lambda self: self.up())
    @rule(data=st.data(), name=st.sampled_from(NAMES), gone=st.booleans(), at_once=st.booleans())
    def put(self, data: st.DataObject, name: bytes, gone: bool, at_once: bool) -> None:
        """A client puts or deletes a file through some node."""
        node = data.draw(st.sampled_from(self.up()))
        version = node.clock.next(self.unix_ms(node))
        payload = b"" if gone else b"manifest %d" % len(self.puts)
        entry = io.Entry(sha256(name).digest(), name, version, payload, len(payload), b"")
        keepers = placed(node.sees | {node.id}, entry.digest)
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
        node.catalog = Catalog(id, node.clock, KEEPERS)
        self.mail = [frame for frame in self.mail if id not in frame[:2]]
        for other in self.up():
            if id in other.sees:
                self.do(other, io.MemberSeen(id))

    @invariant()
    def valid(self) -> None:
        for node in self.up():
            node.catalog.validate()
        best = self.greatest()
        for name, entry in self.best.items():
            assert name in best, "lost"
            assert best[name].rank >= entry.rank, "overtaken"
        self.best = best

    def greatest(self) -> dict[bytes, io.Entry]:
        """The greatest entry of each name that anybody alive has."""
        best: dict[bytes, io.Entry] = {}
        for node in self.up():
            for name in NAMES:
                entry = node.catalog.get(sha256(name).digest())
                if entry is not None:
                    best[name] = io.greater(best.get(name, entry), entry)
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
        ids = {node.id for node in self.up()}
        for name in NAMES:
            digest = sha256(name).digest()
            for node in self.up():
                keeps = node.id in placed(ids, digest)
                assert node.catalog.get(digest) == (best.get(name) if keeps else None)
        self.valid()

    def calm(self, until: int) -> None:
        while self.now < until:
            self.deliver(len(self.mail))
            self.wait(STEP_MS if self.mail else 500)


def placed(ids: set[int], digest: bytes) -> tuple[int, ...]:
    return Placement([Budget(id, 0) for id in ids]).keepers(digest, KEEPERS)


TestCatalogMachine = CatalogMachine.TestCase
TestCatalogMachine.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)
