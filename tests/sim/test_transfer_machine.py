"""A put and a get under arbitrary answers, losses and changes of members.

A put: nodes take chunks, have them, are full, busy or find them wrong; links close, nodes are
suspected, die, come back with nothing; keepers keep, refuse or have something later. Whatever
happens, bytes are kept here within the window and until nobody is to be sent them, a Finish means
that every chunk is where it is said to be and the entry at every keeper alive, and a Fail that
what was claimed is released. A get: needs, seeks, nodes that lack what they should have, a file
that is replaced. Each needed byte is given once, in order, of one version, of a chunk that is here.
Once the world calms down both end. Hypothesis prints the steps of a failure, shrunk, as a program.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from velum.policy import filetypes as ft
from velum.policy import transfer_io as io
from velum.policy.filetypes import Coding, Entry, Manifest
from velum.policy.getting import SPAN_BYTES, Get
from velum.policy.hybridclock import Clock, Version
from velum.policy.putting import HOLDS_MAX, WINDOW_BYTES, Put

IDS = (1, 2, 3, 4)
NODES = st.sampled_from(IDS)
DIGEST = sha256(b"name").digest()
UNIX_MS = 1_700_000_000_000
CHUNK_BYTES = 4 << 20  # 4 in the window
CODINGS = st.sampled_from([Coding(1), Coding(2), Coding(3), Coding(2, 1)])
CALM_STEPS = 5000
SILENT_MS = 11_000


def key(number: int) -> bytes:
    return sha256(b"%d" % number).digest()


class World(RuleBasedStateMachine):
    """Members, who are alive, suspected, or gone; and a policy."""

    policy: Any

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000
        self.state = dict.fromkeys(IDS, "alive")
        self.over: Any = None  # the last effect

    def members(self) -> io.Members:
        there = {id: state for id, state in self.state.items() if state != "gone"}
        return io.Members(io.Ram(id, 100 * id, 100, s == "alive") for id, s in there.items())

    def do(self, event: Any) -> None:
        effects = self.policy.handle(event, self.now)
        for effect in effects:
            assert self.over is None, "after the end"
            self.perform(effect)
        self.policy.validate()

    def perform(self, effect: Any) -> None:
        raise NotImplementedError

    def closed(self, node: int) -> None:
        """A node's link is gone: what was under way there is, too."""
        raise NotImplementedError

    def died(self, node: int) -> None:
        """A node has nothing any more."""
        raise NotImplementedError

    def under_way(self, node: int) -> bool:
        """Whether an answer of a node is awaited."""
        raise NotImplementedError

    def change(self, node: int, state: str) -> None:
        self.state[node] = state
        if state == "gone":
            self.died(node)
        self.do(io.MembersChanged(self.members()))
        assert not self.under_way(node) or state == "alive", "of one that is not there"

    @rule(node=NODES, state=st.sampled_from(["alive", "alive", "alive", "suspect", "gone"]))
    def member(self, node: int, state: str) -> None:
        """A member comes, is suspected, or goes."""
        if state != self.state[node] and (self.state[node] != "gone" or state == "alive"):
            self.change(node, state)

    @rule(node=NODES)
    def lose_link(self, node: int) -> None:
        """A link closes, or a node could not be reached."""
        self.closed(node)
        self.do(io.LinkLost(node))

    @rule(ms=st.sampled_from([1, 60, 1000, 3000, 12_000]))
    def wait(self, ms: int) -> None:
        """Time passes; every deadline is kept."""
        until = self.now + ms
        for _ in range(CALM_STEPS):
            due = self.policy.next_deadline()
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            self.do(io.TimePassed())
        else:
            raise AssertionError("a deadline that does not move")
        self.now = until

    def usable(self, node: int) -> bool:
        usable: bool = self.policy._peers.usable(node)
        return usable


class PutMachine(World):
    """The model: what nodes have said, and what is kept here for them."""

    @initialize(
        coding=CODINGS, small=st.sampled_from([False] * 4 + [True]), known=st.booleans(),
        told=st.booleans(),
    )  # fmt: skip
    def begin(self, coding: Coding, small: bool, known: bool, told: bool) -> None:
        self.coding = coding
        self.clock = Clock(1)
        self.policy = Put(DIGEST, b"name", self.clock, coding, CHUNK_BYTES, self.members(), UNIX_MS)
        self.asks: list[Any] = []  # AskVersion and SendEntry that wait for an answer
        self.holds: dict[tuple[int, int, int], tuple[io.Hold, bool]] = {}  # being sent?
        self.bytes: set[int] = set()  # numbers whose bytes are here
        self.units: list[tuple[bytes, ...]] = []
        self.there: dict[tuple[int, int, int], Version] = {}  # node, number, shard: claimed
        self.claimed: set[tuple[int, Version]] = set()
        self.released: set[tuple[int, Version]] = set()
        self.kept: dict[int, Version] = {}  # keeper: entry
        self.maybe: set[Version] = set()  # entries that a keeper may have
        self.gone_since: set[int] = set()  # nodes that anything was lost at
        self.ended = small
        if small:
            self.do(io.SmallFileReady(b"few"))
        else:
            self.do(io.StreamBegan(CHUNK_BYTES if known else None))
            while told and self.asks:
                self.tell(self.asks[0], "well")

    @property
    def data(self) -> int:
        return self.coding.k if self.coding.m else 1

    # ---- effects ----

    def perform(self, effect: Any) -> None:
        if isinstance(effect, (io.AskVersion, io.SendEntry)):
            assert self.state[effect.node] == "alive"
            self.asks.append(effect)
        elif isinstance(effect, io.Hold):
            self.on_hold(effect)
        elif isinstance(effect, io.Send):
            name = (effect.node, effect.number, effect.shard)
            hold, _ = self.holds[name]
            assert hold.key == effect.key
            assert effect.number in self.bytes, "sent, and let go"
            self.holds[name] = (hold, True)
        elif isinstance(effect, io.Withdraw):
            del self.holds[effect.node, effect.number, effect.shard]
        elif isinstance(effect, io.LetGo):
            self.bytes.remove(effect.number)
            sent = {name[1] for name, (_, sending) in self.holds.items() if sending}
            assert effect.number not in sent, "let go while it is sent"
        elif isinstance(effect, io.Release):
            if effect.how == ft.RELEASE_THIS:
                self.released.add((effect.node, effect.version))
        else:
            self.over = effect
            self.on_end(effect)

    def on_hold(self, hold: io.Hold) -> None:
        name = (hold.node, hold.number, hold.shard)
        assert name not in self.holds, "asked twice at once"
        assert self.state[hold.node] == "alive"
        assert hold.claim.version == self.policy.version
        place = hold.claim.place
        if isinstance(place, ft.Shard):
            assert place.keys == self.units[hold.number] and place.index == hold.shard
            assert place.keys[place.index] == hold.key
        else:
            assert (hold.key,) == self.units[hold.number]
        self.holds[name] = (hold, False)
        self.claimed.add((hold.node, hold.claim.version))
        assert sum(at[0] == hold.node for at in self.holds) <= HOLDS_MAX

    def on_end(self, last: Any) -> None:
        if isinstance(last, io.Finish):
            self.on_finish(last)
            return
        version = self.policy.version
        assert isinstance(last, io.Fail)
        assert not self.holds, "given up, and something under way"
        if version is not None and version not in self.maybe and not self.asks_of(version):
            claimed = {node for node, claim in self.claimed if claim == version}
            assert claimed == {node for node, _ in self.released}, "a claim is left"
        else:
            assert not self.released, "its entry may be somewhere"

    def asks_of(self, version: Version) -> bool:
        return any(isinstance(a, io.SendEntry) and a.entry.version == version for a in self.asks)

    def on_finish(self, last: io.Finish) -> None:
        version = last.entry.version
        assert version == self.policy.version and self.ended
        keepers = self.members().keepers(DIGEST, last.entry.keepers)
        keepers = tuple(node for node in keepers if self.usable(node))
        assert keepers and all(self.kept.get(node) == version for node in keepers)
        manifest = last.entry.manifest
        assert manifest is not None
        assert manifest.keys == tuple(key for unit in self.units for key in unit)
        at_risk = 0
        for unit in set(self.units):
            number = self.units.index(unit)
            found = [
                (node, shard)
                for (node, at, shard), claim in self.there.items()
                if at == number and claim == version and self.state[node] == "alive"
            ]
            assert len({shard for _, shard in found}) == len(found)
            if not self.coding.m:
                assert len({node for node, _ in found}) == len(found), "copies on one node"
            wanted = self.coding.k + self.coding.m
            assert len(found) >= self.data, "a chunk is nowhere"
            at_risk += len(found) < wanted
            if not self.gone_since:
                assert len(found) >= min(wanted, len(IDS)), "fewer copies than could be"
        assert last.info.at_risk == at_risk
        assert not self.bytes

    # ---- rules ----

    def open(self) -> bool:
        return self.over is None

    @precondition(lambda self: self.open() and not self.ended and self.policy.room() > 0)
    @rule(numbers=st.lists(st.integers(0, 6), min_size=1, max_size=4))
    def read(self, numbers: list[int]) -> None:
        """The next chunks or stripes; some are equal."""
        for which in numbers:
            if self.open() and self.policy.room() > 0:
                self.read_one(which)

    def read_one(self, which: int) -> None:
        number = len(self.units)
        shards = self.coding.k + self.coding.m if self.coding.m else 1
        keys = tuple(key(which * shards + index) for index in range(shards))
        self.units.append(keys)
        self.bytes.add(number)
        if self.coding.m:
            self.do(io.StripeReady(number, keys, CHUNK_BYTES))
        else:
            self.do(io.ChunkReady(number, keys[0], CHUNK_BYTES))

    @precondition(lambda self: self.open() and not self.ended and self.units)
    @rule()
    def end(self) -> None:
        """The stream has ended."""
        self.ended = True
        self.do(io.StreamEnded(len(self.units) * CHUNK_BYTES * self.data))

    @precondition(lambda self: self.open() and self.holds)
    @rule(had=st.booleans(), count=st.integers(2, 9))
    def answer_well(self, had: bool, count: int) -> None:
        """Nodes answer Holds, and what was sent of them."""
        for _ in range(count):
            if self.open() and self.holds:
                self.say(min(self.holds), 0, had)

    @precondition(lambda self: self.open() and self.holds)
    @rule(data=st.data(), wrong=st.sampled_from([0, ft.FULL, ft.BUSY, ft.BAD, -1]))
    def answer(self, data: st.DataObject, wrong: int) -> None:
        """A node answers one of them, in any order."""
        name = data.draw(st.sampled_from(sorted(self.holds)))
        self.say(name, wrong, had=data.draw(st.booleans()))

    def say(self, name: tuple[int, int, int], wrong: int, had: bool) -> None:
        hold, sending = self.holds[name]
        if wrong == -1:
            del self.holds[name]
            self.do(io.Refused(hold.node, "LEAVING", "", hold.number, hold.shard))
            return
        state = wrong or (ft.KEPT if sending else ft.HAVE if had else ft.SEND)
        if state in (ft.KEPT, ft.HAVE):
            self.there[name] = hold.claim.version
        elif state != ft.SEND:
            self.there.pop(name, None)
        else:
            self.there.pop(name, None)
        if state != ft.SEND:
            del self.holds[name]
        self.do(io.HeldHeard(*name, state, 5))

    @precondition(lambda self: self.open() and self.asks)
    @rule(data=st.data(), what=st.sampled_from(["well", "well", "well", "later", "refused"]))
    def name(self, data: st.DataObject, what: str) -> None:
        """A keeper answers."""
        self.tell(self.asks[data.draw(st.integers(0, len(self.asks) - 1))], what)

    def tell(self, ask: Any, what: str) -> None:
        self.asks.remove(ask)
        node = ask.node
        if what == "refused":
            self.do(io.Refused(node, "NAMES_FULL"))
        elif isinstance(ask, io.AskVersion):
            heard = Version((UNIX_MS << 16) + 10_000 * (what == "later"), 9)
            self.do(io.VersionHeard(node, ft.NAMED_HERE, heard))
        elif what == "later":
            later = Version(ask.entry.version.stamp + 3, 9)
            self.do(io.VersionHeard(node, ft.NAMED_LATER, later))
        else:
            version = ask.entry.version
            self.kept[node] = max(version, self.kept.get(node, version))
            self.maybe.add(version)
            self.do(io.VersionHeard(node, ft.NAMED_KEPT, version))

    @precondition(lambda self: self.open() and self.holds)
    @rule(data=st.data())
    def progress(self, data: st.DataObject) -> None:
        """Bytes go out."""
        self.do(io.Progressed(data.draw(st.sampled_from(sorted(self.holds)))[0]))

    @precondition(lambda self: self.open() and len(self.units) > 3)
    @rule()
    def abort(self) -> None:
        """Whoever puts it gives up."""
        self.do(io.Aborted())
        assert self.over is not None

    def closed(self, node: int) -> None:
        self.gone_since.add(node)
        self.forget_asks(node)
        self.holds = {name: held for name, held in self.holds.items() if name[0] != node}
        self.there = {name: claim for name, claim in self.there.items() if name[0] != node}

    def died(self, node: int) -> None:
        self.there = {name: claim for name, claim in self.there.items() if name[0] != node}
        self.kept.pop(node, None)

    def under_way(self, node: int) -> bool:
        return any(name[0] == node for name in self.holds)

    def change(self, node: int, state: str) -> None:
        self.gone_since.add(node)
        if state != "alive":  # what it was asked of names may have been done, and is not told
            self.forget_asks(node)
        super().change(node, state)

    def forget_asks(self, node: int) -> None:
        for ask in [ask for ask in self.asks if ask.node == node]:
            self.asks.remove(ask)
            if isinstance(ask, io.SendEntry):
                self.maybe.add(ask.entry.version)

    def wait(self, ms: int) -> None:
        if ms > 10_000:
            self.gone_since |= set(IDS)  # some are silent
            for ask in self.asks:
                if isinstance(ask, io.SendEntry):
                    self.maybe.add(ask.entry.version)
        super().wait(ms)

    @invariant()
    def the_window_holds(self) -> None:
        if hasattr(self, "bytes"):
            per_unit = CHUNK_BYTES * (self.coding.k + self.coding.m if self.coding.m else 1)
            assert len(self.bytes) * per_unit <= max(WINDOW_BYTES, per_unit)

    def teardown(self) -> None:
        """The world calms down: the put ends."""
        if not hasattr(self, "bytes"):
            return
        for node, state in list(self.state.items()):
            if state == "suspect" and self.open():
                self.change(node, "alive")
        if not self.ended and self.open():
            self.ended = True
            self.do(io.StreamEnded(len(self.units) * CHUNK_BYTES * self.data))
        for _ in range(CALM_STEPS):
            if not self.open():
                return
            if self.asks:
                self.tell(self.asks[0], "well")
            elif self.holds:
                self.say(min(self.holds), 0, had=False)
            else:
                self.wait(SILENT_MS // 4)
        raise AssertionError("it does not end")


class GetMachine(World):
    """The model: who holds what, what is here, and what has been given."""

    @initialize(coding=CODINGS, units=st.integers(1, 9), rest=st.integers(1, CHUNK_BYTES))
    def begin(self, coding: Coding, units: int, rest: int) -> None:
        self.version = 1
        self.entry = self.file(coding, units, rest)
        self.policy = Get(self.entry, self.members())
        self.fresh()
        self.given = False
        self.lied = False
        self.relooks = 0
        self.decodes: list[io.Decode] = []
        members = self.members()
        self.holding = {node: set[bytes]() for node in IDS}
        for number, name in enumerate(self.manifest.keys):
            if coding.m:
                first = number // 3 * 3
                data = self.manifest.keys[first : first + 2]
                holders = members.placement.stripe(ft.stripe_key(data), 3)[number % 3 :][:1]
            else:
                holders = members.placement.holders(name, coding.k)
            for node in holders:
                self.holding[node].add(name)

    def file(self, coding: Coding, units: int, rest: int) -> Entry:
        data = coding.k if coding.m else 1
        size = (units - 1) * CHUNK_BYTES * data + rest
        count = units * (coding.k + coding.m if coding.m else 1)
        keys = tuple(key(100 * self.version + number) for number in range(count))
        manifest = Manifest(size, CHUNK_BYTES, coding, keys)
        return Entry(b"name", Version(self.version, 1), 3, manifest)

    def fresh(self) -> None:
        self.wants: dict[tuple[int, int], io.Want] = {}
        self.here: set[int] = set()
        self.needs: list[list[int]] = []

    @property
    def manifest(self) -> Manifest:
        assert self.entry.manifest is not None
        return self.entry.manifest

    def perform(self, effect: Any) -> None:
        if isinstance(effect, io.Want):
            assert (effect.node, effect.number) not in self.wants
            assert effect.number not in self.here, "wanted, and here"
            assert effect.key == self.manifest.keys[effect.number]
            assert self.state[effect.node] == "alive"
            self.wants[effect.node, effect.number] = effect
        elif isinstance(effect, io.Unwant):
            del self.wants[effect.node, effect.number]
        elif isinstance(effect, io.Give):
            self.on_give(effect)
        elif isinstance(effect, io.LetGo):
            self.here.remove(effect.number)
            assert effect.number not in self.decoding(), "let go while a stripe is made of it"
        elif isinstance(effect, io.Decode):
            assert len(effect.have) == self.manifest.coding.k
            self.decodes.append(effect)
            assert self.decoding() <= self.here
        elif isinstance(effect, io.Relook):
            self.relooks += 1
        elif isinstance(effect, io.Restart):
            assert not self.given, "bytes of two versions"
            assert not self.wants and not self.here
            self.entry = effect.entry
            self.fresh()
        else:
            self.over = effect
            self.on_fail(effect)

    def decoding(self) -> set[int]:
        shards = self.manifest.coding.k + self.manifest.coding.m
        return {d.stripe * shards + index for d in self.decodes for index in d.have}

    def on_give(self, give: io.Give) -> None:
        assert give.number in self.here, "given, and not here"
        assert give.first == self.needs[0][0] and give.first < give.end <= self.needs[0][1]
        size, chunk_bytes, (k, m) = self.manifest[:3]
        stripe, shard = divmod(give.number, k + m) if m else (0, give.number)
        length = ft.shard_bytes(size, chunk_bytes, k, stripe) if m else chunk_bytes
        start = stripe * k * chunk_bytes + shard * length
        assert not m or shard < k
        assert give.first - give.offset == start and give.end <= start + length
        self.needs[0][0] = give.end
        if give.end == self.needs[0][1]:
            self.needs.pop(0)
        self.given = True

    def on_fail(self, fail: io.Fail) -> None:
        assert not self.wants, "given up, and something under way"
        if fail.code == "CHUNKS_LOST" and not self.lied:
            k, m = self.manifest.coding
            shards = k + m if m else 1
            for number in fail.numbers:
                first = number // shards * shards
                there = [n for n in range(first, first + shards) if self.is_somewhere(n)]
                assert number not in there, "lost, and there"
                assert not m or len(there) < k, "a stripe that could be made"

    def is_somewhere(self, number: int) -> bool:
        name = self.manifest.keys[number]
        return any(
            name in self.holding[node] and self.usable(node)
            for node, state in self.state.items()
            if state == "alive"
        )

    # ---- rules ----

    def open(self) -> bool:
        return self.over is None

    @precondition(lambda self: self.open() and len(self.needs) < 4)
    @rule(data=st.data(), onward=st.booleans(), all=st.booleans())
    def need(self, data: st.DataObject, onward: bool, all: bool) -> None:
        """Somebody reads."""
        size = self.manifest.size
        last = self.needs[-1][1] if self.needs else 0
        first = last if onward and last < size else data.draw(st.integers(0, size - 1))
        end = size if all else data.draw(st.integers(first + 1, min(size, first + CHUNK_BYTES)))
        self.needs.append([first, end])
        self.do(io.Needed(first, end))

    @precondition(lambda self: self.open())
    @rule()
    def drop(self) -> None:
        """They do not want it any more."""
        self.needs.clear()
        self.do(io.NeedsDropped())
        assert not self.wants

    @precondition(lambda self: self.open() and self.wants)
    @rule(data=st.data(), wrong=st.booleans())
    def answer(self, data: st.DataObject, wrong: bool) -> None:
        """A node gives what it has; or something wrong."""
        name = data.draw(st.sampled_from(sorted(self.wants)))
        self.lied |= wrong
        self.reply(name, wrong)

    def reply(self, name: tuple[int, int], wrong: bool) -> None:
        want = self.wants.pop(name)
        if want.key in self.holding[want.node] and not wrong:
            self.here.add(want.number)
            self.do(io.ChunkArrived(*name))
        else:
            self.do(io.ChunkFailed(*name))

    @precondition(lambda self: self.open() and self.decodes)
    @rule(right=st.sampled_from([True, True, False]))
    def decoded(self, right: bool) -> None:
        """A stripe has been made whole."""
        self.lied |= not right
        self.decode(right)

    def decode(self, right: bool) -> None:
        stripe = self.decodes.pop(0).stripe
        k, m = self.manifest.coding
        if right:
            data = set(range(stripe * (k + m), stripe * (k + m) + k))
            self.here |= data
        self.do(io.Decoded(stripe, right))

    @precondition(lambda self: self.open())
    @rule(node=NODES, data=st.data())
    def lack(self, node: int, data: st.DataObject) -> None:
        """A node loses a chunk."""
        if self.holding[node]:
            self.holding[node].remove(data.draw(st.sampled_from(sorted(self.holding[node]))))

    @precondition(lambda self: self.open() and self.relooks)
    @rule(what=st.sampled_from(["same", "same", "other", "none", "nobody"]))
    def relooked(self, what: str) -> None:
        """The name has been looked up again."""
        self.look(what)

    def look(self, what: str) -> None:
        self.relooks -= 1
        outcome: io.Found | io.NotFound | io.Unreachable
        if what == "same":
            outcome = io.Found(self.entry)
        elif what == "other":
            self.version += 1
            now = self.file(Coding(1), 3, 5)
            outcome = io.Found(now)
            self.decodes = [] if not self.given else self.decodes
            for name in now.manifest.keys if now.manifest else ():
                self.holding[1].add(name)
        elif what == "none":
            outcome = io.NotFound()
        else:
            outcome = io.Unreachable("nobody")
        self.do(io.Relooked(outcome))

    def closed(self, node: int) -> None:
        self.wants = {name: want for name, want in self.wants.items() if name[0] != node}

    def died(self, node: int) -> None:
        self.holding[node].clear()

    def under_way(self, node: int) -> bool:
        return any(name[0] == node for name in self.wants)

    @invariant()
    def the_window_holds(self) -> None:
        if hasattr(self, "wants"):
            span = SPAN_BYTES // CHUNK_BYTES
            stripes = {number // 3 for number in self.here} if self.manifest.coding.m else set()
            assert len(self.here) + len(self.wants) <= span + 3 * len(stripes) + 3 * span

    def teardown(self) -> None:
        """The world calms down: all that is needed is given, or said to be lost."""
        if not hasattr(self, "wants"):
            return
        for node, state in list(self.state.items()):
            if state == "suspect" and self.open():
                self.change(node, "alive")
        for _ in range(CALM_STEPS):
            if not self.open() or not self.needs:
                return
            if self.wants:
                self.reply(min(self.wants), wrong=False)
            elif self.decodes:
                self.decode(right=True)
            elif self.relooks:
                self.look("same")
            else:
                self.wait(1000)
        raise AssertionError("it does not end")


TestPut = PutMachine.TestCase
TestGet = GetMachine.TestCase
TestPut.settings = TestGet.settings = settings(
    max_examples=200, stateful_step_count=60, deadline=None
)
