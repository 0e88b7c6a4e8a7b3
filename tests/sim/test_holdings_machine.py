"""Holdings under arbitrary events: one node against a simple model, and several against the truth.

The one node is told things that need not be true, in any order: validate() holds, and each chunk
that it drops it may drop, by a model that remembers what was said and nothing else.

The several lose messages and see members come and go seconds apart, while files are put, replaced
and given up, nodes crash, start anew and give other budgets, and bits flip. At no time is the last
good copy of a file dropped, though nodes crash, one at a time; once the world is quiet each chunk
is where it belongs and nowhere else.

Hypothesis prints the steps of a failure, shrunk, as a program.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.unit.holdings_rig import Mesh, Node, RamChunks, key_of
from velum.policy import filetypes as ft
from velum.policy import holdings_io as io
from velum.policy.claims import OVER_MS
from velum.policy.filetypes import Claim, Copies, Key, Shard
from velum.policy.holdings import Holdings
from velum.policy.hybridclock import Version
from velum.policy.placement import Budget, Placement
from velum.policy.scrub import SCRUB_MS
from velum.policy.tending import DROP_MS, LOOK_FIRST_MS, PATIENCE_MS, RETRY_MS_MAX

ME = 1
SIZE = 1000
OTHERS = (2, 3, 4)
PLAIN = tuple(key_of(n) for n in range(4))
SHARDS = tuple(key_of(("s", n)) for n in range(3))
VERSIONS = tuple(Version(n, 7) for n in (1, 2, 3))
DIGESTS = (key_of("a"), key_of("b"))
NAMES = st.tuples(st.sampled_from(DIGESTS), st.sampled_from(VERSIONS))
LINKS = st.sampled_from([50, 51])
MEMBERS = st.sets(st.sampled_from(OTHERS))
SAID = st.sampled_from([1, 2, 3, 4, 5])
HELD = st.sampled_from([io.LOST, ft.HAVE, ft.KEPT, ft.FULL, ft.BUSY, ft.BAD])

Name = tuple[bytes, Version]


class LoneMachine(RuleBasedStateMachine):
    """One node, told anything. The model: claims by chunk, and who has said what since when."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.chunks = RamChunks(5 * SIZE)
        self.chunks.on_drop = self.dropped
        self.holdings = Holdings(ME, self.chunks, 5 * SIZE)
        self.budgets: dict[int, int] = {}
        self.round = 0
        self.sent_round: dict[tuple[int, Key], int] = {}
        self.claims: dict[Key, set[Claim]] = {}
        self.lost: set[Key] = set()  # found bad: their claims are still known
        self.arriving: dict[tuple[int, Key], list[Claim]] = {}
        self.fast: set[Name] = set()
        self.over: set[Name] = set()
        self.links: dict[Name, set[int]] = {}
        self.born: dict[Name, set[int]] = {}
        self.left: set[int] = set()
        self.unknown: dict[Name, set[int]] = {}
        self.have: set[tuple[int, Key]] = set()
        self.told: set[tuple[int, Key]] = set()
        self.offers: list[io.SendOffer] = []
        self.jobs: list[Any] = []
        self.members(set(OTHERS), 64)

    def do(self, event: io.Event) -> list[io.Effect]:
        out = self.holdings.handle(event, self.now)
        for effect in out:
            if isinstance(effect, io.SendOffer):
                assert effect.node in self.budgets and effect.node != ME
                self.offers.append(effect)
            elif isinstance(effect, io.SendCopy | io.Rebuild):
                self.jobs.append((self.round, effect))
        return out

    def forget_ended(self) -> None:
        """A version that claims nothing any more is a new one when it comes again."""
        claimed = {claim[:2] for claims in self.claims.values() for claim in claims}
        for name in list(self.born):
            if name not in claimed and not self.links.get(name):
                del self.born[name]
                self.fast.discard(name)
                self.over.discard(name)
                self.unknown.pop(name, None)

    def dropped(self, key: Key) -> None:
        """Whether this is allowed."""
        if key in self.chunks.bad:
            self.lost.add(key)
        if key not in self.claims or key in self.chunks.bad:
            return
        claims = self.claims.pop(key)
        live = [claim for claim in claims if not self.ended(claim[:2])]
        if live:
            assert any(self.budgets.values()), "no budget is known"
            place = Placement([Budget(*pair) for pair in self.budgets.items()])
            wanted: set[int] = set()
            for claim in live:
                if isinstance(claim.place, Copies):
                    wanted.update(place.holders(key, claim.place.count))
                else:
                    shards = place.stripe(claim.place.stripe, 3)
                    wanted.add(shards[claim.place.index])
            assert wanted and ME not in wanted, "a holder has dropped it"
            for node in wanted:
                assert (node, key) in self.have, "a holder has not said HAVE"
                assert (node, key) in self.told, "a holder does not know the claims"

    def ended(self, name: Name) -> bool:
        if name in self.over:
            return True
        needed = (self.born[name] - self.left) | set(self.budgets)
        loose = name not in self.fast and not self.links.get(name)
        return loose and self.unknown.get(name, set()) >= needed

    # ---- rules ----

    @rule(ids=MEMBERS, mib=st.sampled_from([0, 64]), restarted=MEMBERS)
    def change(self, ids: set[int], mib: int, restarted: set[int]) -> None:
        self.members(ids, mib, restarted & ids)

    def members(self, ids: set[int], mib: int, restarted: set[int] | None = None) -> None:
        budgets = {id: mib for id in (ME, *ids)}
        if budgets != self.budgets or restarted:
            self.round += 1
            self.have.clear()
            self.told.clear()
            self.unknown.clear()
            self.left -= set(budgets)
        self.budgets = budgets
        event = io.MembersChanged(
            [Budget(*pair) for pair in budgets.items()], frozenset(restarted or ())
        )
        self.do(event)

    @rule(id=st.sampled_from(OTHERS))
    def leave(self, id: int) -> None:
        self.left.add(id)
        self.do(io.MemberLeft(id))

    @rule(
        link=LINKS,
        name=NAMES,
        what=st.integers(0, 6),
        copies=st.integers(1, 3),
        repairs=st.booleans(),
        comes=st.booleans(),
    )
    def hold(
        self, link: int, name: Name, what: int, copies: int, repairs: bool, comes: bool
    ) -> None:
        key = (*PLAIN, *SHARDS)[what]
        place = Copies(copies) if what < 4 else Shard(2, 1, what - 4, SHARDS)
        claim = Claim(*name, place)
        link += 100 * repairs
        (answer,) = (
            effect
            for effect in self.do(io.HoldAsked(link, 1, key, SIZE, [claim], 2 * repairs))
            if isinstance(effect, io.AnswerHold)
        )
        if answer.state == ft.HAVE:
            self.note(key, [claim], link)
        elif answer.state == ft.SEND:
            self.arriving[link, key] = [claim]
            if comes:
                self.come(link, key, True)

    @precondition(lambda self: self.arriving)
    @rule(data=st.data(), ok=st.booleans())
    def arrive(self, data: st.DataObject, ok: bool) -> None:
        self.come(*data.draw(st.sampled_from(sorted(self.arriving))), ok)

    def come(self, link: int, key: Key, ok: bool) -> None:
        claims = self.arriving.pop((link, key))
        if not self.chunks.store(key, link):
            return  # given up long ago
        if ok:
            if claims:
                self.note(key, claims, link)
        else:
            del self.chunks.held[key]
        self.do(io.ChunkStored(link, key, ok))

    def note(self, key: Key, claims: list[Claim], link: int) -> None:
        held = self.claims.setdefault(key, set())
        for claim in claims:
            if claim not in held:
                held.add(claim)
                self.told -= {pair for pair in self.told if pair[1] == key}
            name = claim[:2]
            if name not in self.born:
                self.born[name] = set(self.budgets)
            if link < 100 and name not in self.fast | self.over:
                self.links.setdefault(name, set()).add(link)

    @rule(link=LINKS, repairs=st.booleans())
    def close(self, link: int, repairs: bool) -> None:
        link += 100 * repairs
        for links in self.links.values():
            links.discard(link)
        for pair in [pair for pair in self.arriving if pair[0] == link]:
            del self.arriving[pair]
        self.do(io.LinkClosed(link))

    @rule(name=NAMES, this=st.booleans())
    def release(self, name: Name, this: bool) -> None:
        if this:
            if name in self.born and name not in self.fast:
                self.over.add(name)
                self.links.pop(name, None)
            for claims in self.arriving.values():
                claims[:] = [claim for claim in claims if claim[:2] != name]
        how = ft.RELEASE_THIS if this else ft.RELEASE_BEFORE
        self.do(io.Released(how, *name))

    @rule(node=st.sampled_from((ME, *OTHERS)), name=NAMES, state=st.integers(1, 4))
    def claimed(self, node: int, name: Name, state: int) -> None:
        if name in self.born and node in self.budgets and name not in self.over:
            if state == ft.OLD:
                self.over.add(name)
                self.links.pop(name, None)
            elif state == ft.FAST:
                self.fast.add(name)
                self.links.pop(name, None)
            elif state == ft.UNKNOWN:
                self.unknown.setdefault(name, set()).add(node)
            else:
                self.unknown.pop(name, None)
        self.do(io.ClaimsAnswered(node, [name], [state]))

    @precondition(lambda self: self.offers)
    @rule(data=st.data())
    def offered(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(self.offers) - 1))
        offer = self.offers.pop(place)
        size = len(offer.keys)
        states = data.draw(
            st.one_of(
                st.just([ft.OFFERED_HAVE] * size), st.lists(SAID, min_size=size, max_size=size)
            )
        )
        for key, state in zip(offer.keys, states, strict=True):
            if offer.round == self.round:
                pair = (offer.node, key)
                (self.have.add if state == ft.OFFERED_HAVE else self.have.discard)(pair)
        self.do(io.OfferAnswered(offer.node, offer.round, offer.keys, states))

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), well=st.booleans())
    def job_over(self, data: st.DataObject, well: bool) -> None:
        place = data.draw(st.integers(0, len(self.jobs) - 1))
        round, job = self.jobs.pop(place)
        if isinstance(job, io.Rebuild):
            states = [ft.KEPT if well else data.draw(HELD) for _ in job.missing]
            self.do(io.RebuildEnded(job.what, states))
            return
        state = ft.HAVE if well else data.draw(HELD)
        if state in (ft.HAVE, ft.KEPT):
            live = {c for c in self.claims.get(job.key, ()) if c[:2] not in self.over}
            if round == self.round and live <= set(job.claims):
                self.told.add((job.node, job.key))
        self.do(io.CopyEnded(job.node, job.key, state))

    @precondition(lambda self: self.chunks.held)
    @rule(data=st.data())
    def flip(self, data: st.DataObject) -> None:
        self.chunks.bad.add(data.draw(st.sampled_from(sorted(self.chunks.held))))

    @rule(key=st.sampled_from((*PLAIN, *SHARDS)))
    def asked(self, key: Key) -> None:
        (answer,) = (
            effect
            for effect in self.do(io.OfferAsked(2, 1, [key]))
            if isinstance(effect, io.AnswerOffer)
        )
        there = answer.states[0] in (ft.OFFERED_HAVE, ft.OFFERED_SPARE)
        assert there == (key in self.chunks.held)

    @rule(ms=st.sampled_from([50, 1000, LOOK_FIRST_MS, DROP_MS, OVER_MS, SCRUB_MS]))
    def wait(self, ms: int) -> None:
        until, steps = self.now + ms, 0
        while (due := self.holdings.next_deadline()) is not None and due <= until:
            self.now = max(self.now, due)
            self.do(io.TimePassed())
            steps += 1
            assert steps < 200 + ms // 20, "it spins"
        self.now = until

    @invariant()
    def valid(self) -> None:
        self.holdings.validate()
        if not self.holdings.figures().lost:
            self.lost.clear()
        known = self.lost | self.chunks.held.keys()
        self.claims = {key: self.claims[key] for key in self.claims if key in known}
        self.forget_ended()
        assert self.chunks.used_bytes() <= self.chunks.budget_bytes


POOL = tuple(key_of(("pool", n)) for n in range(12))
FILES = tuple("abc")
IDS = (1, 2, 3, 4, 5, 6)
QUIET_MS = 4 * (PATIENCE_MS + RETRY_MS_MAX)


class MeshMachine(RuleBasedStateMachine):
    """Several nodes. The model: the acknowledged files, and their chunks or stripes."""

    @initialize(seed=st.integers(0, 1 << 32), loss=st.sampled_from([0.0, 0.1]))
    def begin(self, seed: int, loss: float) -> None:
        self.mesh = Mesh(seed, delay_ms=20, loss=loss)
        self.files: dict[str, tuple[tuple[Key, ...], Copies | Shard]] = {}
        self.version = 0
        self.gone: set[int] = set()
        for id in IDS[:4]:
            self.boot(id, 2)
        self.mesh.seen()

    def boot(self, id: int, mib: int) -> None:
        node = self.mesh.boot(id, mib)
        node.chunks.on_drop = self.dropped
        self.gone.discard(id)

    def dropped(self, key: Key) -> None:
        for keys, place in self.files.values():
            if key in keys:
                there = sum(bool(self.mesh.holders(shard)) for shard in keys)
                whole = self.mesh.holders(key) or (isinstance(place, Shard) and there >= place.k)
                assert whole, "the last copy of a file is dropped"

    def up(self) -> list[Node]:
        return list(self.mesh.nodes.values())

    # ---- rules ----

    @rule(name=st.sampled_from(FILES), keys=st.sets(st.sampled_from(POOL), min_size=1),
          copies=st.sampled_from([2, 3]))  # fmt: skip
    def put(self, name: str, keys: set[Key], copies: int) -> None:
        self.version += 1
        ordered = tuple(sorted(keys))
        if self.mesh.put(name, self.version, ordered, copies):
            self.files[name] = (ordered, Copies(copies))

    @rule(name=st.sampled_from(FILES), fresh=st.booleans())
    def put_stripe(self, name: str, fresh: bool) -> None:
        self.version += 1
        keys = POOL[:4]
        if fresh:
            keys = tuple(key_of((self.version, n)) for n in range(4))
        if self.mesh.put_stripe(name, self.version, keys, 2, 2):
            self.files[name] = (keys, Shard(2, 2, 0, keys))

    @rule(name=st.sampled_from(FILES), keys=st.sets(st.sampled_from(POOL), min_size=1))
    def give_up(self, name: str, keys: set[Key]) -> None:
        """A putter dies."""
        self.version += 1
        self.mesh.put(name, self.version, sorted(keys), commit=False)
        for id, link in self.mesh.open[1].items():
            self.mesh.do(id, io.LinkClosed(link))

    @rule(ms=st.sampled_from([10, LOOK_FIRST_MS, 20_000]))
    def wait(self, ms: int) -> None:
        self.mesh.run(ms)

    @precondition(lambda self: len(self.mesh.nodes) < len(IDS))
    @rule(mib=st.sampled_from([1, 2, 4]))
    def start(self, mib: int) -> None:
        id = min(set(IDS) - self.mesh.nodes.keys())
        self.boot(id, mib)
        self.mesh.seen(spread_ms=3000)

    @precondition(lambda self: len(self.mesh.nodes) > 3)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """One node, when all is whole."""
        self.whole()
        id = data.draw(st.sampled_from(sorted(self.mesh.nodes)))
        del self.mesh.nodes[id]
        self.gone.add(id)
        self.mesh.seen(spread_ms=3000)

    @rule(data=st.data())
    def start_anew(self, data: st.DataObject) -> None:
        """One node has forgotten all, before anybody has seen it gone."""
        self.whole()
        node = data.draw(st.sampled_from(self.up()))
        self.boot(node.id, node.mib)
        self.mesh.seen(spread_ms=3000)

    @rule(data=st.data(), mib=st.sampled_from([1, 2, 4]))
    def give(self, data: st.DataObject, mib: int) -> None:
        """One gives another budget."""
        node = data.draw(st.sampled_from(self.up()))
        node.mib = mib
        node.chunks.budget_bytes = mib << 20
        self.mesh.seen(spread_ms=3000)

    @rule(data=st.data())
    def flip(self, data: st.DataObject) -> None:
        """A bit, when all is whole; and nothing else until it is found."""
        self.whole()
        held = [(node.id, key) for node in self.up() for key in sorted(node.chunks.held)]
        if held:
            id, key = data.draw(st.sampled_from(held))
            self.mesh.nodes[id].chunks.bad.add(key)
            self.mesh.run(SCRUB_MS)

    # ---- quiet ----

    def wanted(self) -> dict[Key, set[int]]:
        place = self.mesh.placement()
        wanted: dict[Key, set[int]] = {}
        for keys, how in self.files.values():
            shards = place.stripe(how.stripe, 4) if isinstance(how, Shard) else ()
            for index, key in enumerate(keys):
                found = wanted.setdefault(key, set())
                if isinstance(how, Copies):
                    found.update(place.holders(key, how.count))
                else:
                    found.add(shards[index])
        return wanted

    def whole(self) -> None:
        """In time, each chunk is at its holders."""
        self.mesh.run(QUIET_MS)
        for key, ids in self.wanted().items():
            assert ids <= self.mesh.holders(key), "not whole"

    def teardown(self) -> None:
        if not hasattr(self, "mesh"):
            return
        self.whole()
        self.mesh.loss = 0.0
        for node in self.up():
            for id in self.gone:
                self.mesh.do(node.id, io.MemberLeft(id))
        self.mesh.run(QUIET_MS)
        wanted = self.wanted()
        for node in self.up():
            here = {key for key, ids in wanted.items() if node.id in ids}
            assert set(node.chunks.held) == here, "lost, or left over"
        for _ in range(100):
            figures = [node.holdings.figures() for node in self.up()]
            if not any(f.unconfirmed for f in figures):  # but for one just hashed again
                break
            self.mesh.run(50)
        for f in figures:
            assert not any(
                (f.unconfirmed, f.at_risk, f.lost, f.repair_bytes, f.loose_bytes, f.over_bytes)
            ), "not at rest"


TestMeshMachine = MeshMachine.TestCase
TestMeshMachine.settings = settings(max_examples=8, stateful_step_count=25, deadline=None)

TestLoneMachine = LoneMachine.TestCase
TestLoneMachine.settings = settings(max_examples=80, stateful_step_count=60, deadline=None)
