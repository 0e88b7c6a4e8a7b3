"""Several nodes' holdings in one process: chunks without bytes, messages that may be late or lost.

`RamChunks` is a store as csrc/chunks.h offers it, but for the bytes. `Mesh` drives nodes on one
clock and performs their effects; names stand in one dict that every node answers from, for what
keepers say to each other is the catalog's matter. All that is random comes from one seed.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from hashlib import blake2b
from random import Random
from typing import Any

from velum.policy import filetypes as ft
from velum.policy import holdings_io as io
from velum.policy.filetypes import Claim, Copies, Key, Shard
from velum.policy.holdings import Holdings
from velum.policy.hybridclock import Version
from velum.policy.placement import Budget, Placement

MIB = 1 << 20
CHARGE_BYTES_MIN = 512
ORIGIN = 7


def key_of(what: object) -> Key:
    return blake2b(repr(what).encode(), digest_size=32).digest()


class RamChunks:
    """A store of chunks that have a size, and are good or bad."""

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.held: dict[Key, int] = {}
        self.bad: set[Key] = set()
        self.reserved: dict[Key, tuple[int, int]] = {}  # size, sender
        self.hashed: dict[Key, int] = {}  # how much, of the one under way
        self.on_drop: Callable[[Key], None] = lambda key: None

    def reserve(self, key: Key, size: int, sender: int) -> int:
        if key in self.held:
            return ft.HAVE if self.held[key] == size else ft.BAD
        if key in self.reserved:
            return ft.BUSY
        if max(size, CHARGE_BYTES_MIN) > self.free_bytes():
            return ft.FULL
        self.reserved[key] = (size, sender)
        return ft.SEND

    def store(self, key: Key, sender: int) -> bool:
        """All parts have come; False: they were not wanted."""
        if self.reserved.get(key, (0, 0))[1] != sender:
            return False
        self.held[key] = self.reserved.pop(key)[0]
        return True

    def abandon(self, key: Key, sender: int) -> None:
        if key in self.reserved and self.reserved[key][1] == sender:
            del self.reserved[key]

    def abandon_all(self, sender: int) -> None:
        for key in list(self.reserved):
            self.abandon(key, sender)

    def drop(self, key: Key) -> None:
        del self.held[key]
        self.on_drop(key)
        self.bad.discard(key)

    def size(self, key: Key) -> int | None:
        return self.held.get(key)

    def used_bytes(self) -> int:
        sizes = [*self.held.values(), *(size for size, _ in self.reserved.values())]
        return sum(max(size, CHARGE_BYTES_MIN) for size in sizes)

    def free_bytes(self) -> int:
        return max(self.budget_bytes - self.used_bytes(), 0)

    def verify(self, key: Key, bytes_max: int) -> io.Checked:
        if key not in self.held:
            return io.Checked.GONE
        done = self.hashed.get(key, 0) + bytes_max
        self.hashed = {key: done}
        if done < self.held[key]:
            return io.Checked.MORE
        self.hashed = {}
        return io.Checked.WRONG if key in self.bad else io.Checked.RIGHT


class Node:
    """A node process."""

    def __init__(self, id: int, mib: int, rate: int | None, life: int) -> None:
        self.id = id
        self.life = life
        self.mib = mib
        self.chunks = RamChunks(mib * MIB)
        self.holdings = Holdings(id, self.chunks, rate)
        self.sees: dict[int, int] = {}  # members, and which life of theirs


class Mesh:
    """Nodes, what travels between them, and what a perfect observer knows."""

    def __init__(self, seed: int = 0, delay_ms: int = 2, loss: float = 0.0) -> None:
        self.random = Random(seed)
        self.delay_ms = delay_ms
        self.loss = loss
        self.rate: int | None = None
        self.send_ms = 5  # for a chunk's bytes
        self.now = 1000
        self.nodes: dict[int, Node] = {}
        self.names: dict[ft.Digest, Version] = {}  # as keepers know them
        self.mail: list[tuple[int, int, Callable[[], None]]] = []
        self.serial = 0
        self.links = 100
        self.answers: dict[int, Callable[[int], None]] = {}  # to a HOLD, by link
        self.effects: list[tuple[int, io.Effect]] = []
        self.validating = True
        self.tickets: dict[int, io.SendOffer] = {}
        self.moved: dict[tuple[int, int], int] = {}  # chunks sent, by from and to

    # ---- the drivers ----

    def do(self, id: int, event: io.Event) -> list[io.Effect]:
        node = self.nodes[id]
        out = node.holdings.handle(event, self.now)
        if self.validating:
            node.holdings.validate()
            assert node.chunks.used_bytes() <= node.chunks.budget_bytes, "more than its budget"
        for effect in out:
            self.effects.append((id, effect))
            self.perform(node, effect)
        return out

    def later(self, ms: int, what: Callable[[], None]) -> None:
        self.serial += 1
        heapq.heappush(self.mail, (self.now + ms, self.serial, what))

    def post(self, node: Node, to: int, event: io.Event, lossy: bool = True) -> None:
        """A frame from one process to another, both of which may die before it comes."""
        target = self.nodes.get(to)
        if target is None or (lossy and self.random.random() < self.loss):
            return

        def arrive() -> None:
            if self.nodes.get(to) is target and self.nodes.get(node.id) is node:
                self.do(to, event)

        self.later(self.delay(), arrive)

    def delay(self) -> int:
        return self.random.randint(0, 2 * self.delay_ms)

    def perform(self, node: Node, effect: io.Effect) -> None:
        if isinstance(effect, io.AnswerHold):
            answer = self.answers.get(effect.link)
            if answer is not None:
                answer(effect.state)
        elif isinstance(effect, io.SendOffer):
            assert effect.node != node.id and 0 < len(effect.keys) <= 256
            event = io.OfferAsked(node.id, self.ticket(effect), effect.keys)
            self.post(node, effect.node, event)
        elif isinstance(effect, io.AnswerOffer):
            offer = self.tickets[effect.ticket]
            answered = io.OfferAnswered(node.id, offer.round, offer.keys, effect.states)
            self.post(node, effect.node, answered)
        elif isinstance(effect, io.AskClaims):
            self.claims(node, effect)
        elif isinstance(effect, io.SendCopy):
            self.copy(node, effect)
        else:
            self.rebuild(node, effect)

    def ticket(self, offer: io.SendOffer) -> int:
        self.serial += 1
        self.tickets[self.serial] = offer
        return self.serial

    def claims(self, node: Node, effect: io.AskClaims) -> None:
        asked = self.nodes.get(effect.node)
        if asked is None:
            return
        states = [self.claimed(asked, name) for name in effect.names]
        self.post(asked, node.id, io.ClaimsAnswered(asked.id, effect.names, states))

    def claimed(self, node: Node, name: io.Name) -> int:
        version = self.names.get(name[0])
        if version == name[1]:
            return ft.FAST
        if version is not None and version > name[1]:
            return ft.OLD
        return ft.PENDING if node.holdings.pending(name) else ft.UNKNOWN

    # ---- copies on their way ----

    def copy(self, node: Node, effect: io.SendCopy) -> None:
        key = effect.key
        assert node.chunks.size(key) == effect.size, "what is to be sent is here"

        def ended(state: int) -> None:
            if self.nodes.get(node.id) is node:
                self.do(node.id, io.CopyEnded(effect.node, key, state))

        self.send(node, effect.node, key, effect.size, effect.claims, ended)

    def send(
        self,
        node: Node,
        to: int,
        key: Key,
        size: int,
        claims: Sequence[Claim],
        ended: Callable[[int], None],
    ) -> None:
        """HOLD, and the bytes if they are wanted; over a link of its own, which may break."""
        target = self.nodes.get(to)
        self.links += 1
        link = self.links

        def over(state: int) -> None:
            self.answers.pop(link, None)
            self.later(self.delay(), lambda: ended(state))

        def broken() -> None:
            over(io.LOST)
            if self.nodes.get(to) is target and target is not None:
                self.do(to, io.LinkClosed(link))

        def stored() -> None:
            if (
                self.nodes.get(to) is not target
                or target is None
                or self.nodes.get(node.id) is not node
                or self.random.random() < self.loss
            ):
                broken()
            elif target.chunks.store(key, link):
                if key in node.chunks.bad:
                    target.chunks.drop(key)
                    self.do(to, io.ChunkStored(link, key, False))
                else:
                    self.moved[node.id, to] = self.moved.get((node.id, to), 0) + 1
                    self.do(to, io.ChunkStored(link, key, True))
            else:
                broken()

        def answered(state: int) -> None:
            if state == ft.SEND:
                self.later(self.send_ms, stored)
            else:
                over(state)

        def asked() -> None:
            if self.nodes.get(to) is not target or target is None:
                over(io.LOST)
            elif self.random.random() < self.loss:
                broken()
            else:
                self.answers[link] = answered
                self.do(to, io.HoldAsked(link, 1, key, size, claims, node.id))

        self.later(self.delay(), asked)

    def rebuild(self, node: Node, effect: io.Rebuild) -> None:
        states = [0] * len(effect.missing)
        left = [len(states)]

        def collected() -> bool:
            found = set()
            for index, id in effect.have:
                source = self.nodes.get(id)
                if source is not None and effect.keys[index] in source.chunks.held:
                    if effect.keys[index] not in source.chunks.bad:
                        found.add(index)
            return len(found) >= effect.k

        def ended(place: int, state: int) -> None:
            states[place] = state
            left[0] -= 1
            if not left[0] and self.nodes.get(node.id) is node:
                self.do(node.id, io.RebuildEnded(effect.what, tuple(states)))

        def begin() -> None:
            for place, piece in enumerate(effect.missing):

                def over(state: int, place: int = place) -> None:
                    ended(place, state)

                if collected():
                    to, key = piece.node, piece.key
                    self.send(node, to, key, effect.size, piece.claims, over)
                else:
                    over(io.LOST)

        self.later(self.delay(), begin)

    # ---- time ----

    def run(self, ms: int) -> None:
        """Everything that happens meanwhile."""
        until = self.now + ms
        while True:
            dues = [
                (due, id)
                for id, node in self.nodes.items()
                if (due := node.holdings.next_deadline()) is not None
            ]
            due, id = min(dues, default=(until + 1, 0))
            if self.mail and self.mail[0][0] <= due:
                when, _, what = self.mail[0]
                if when > until:
                    break
                heapq.heappop(self.mail)
                self.now = max(self.now, when)
                what()
            elif due <= until:
                self.now = max(self.now, due)
                self.do(id, io.TimePassed())
            else:
                break
        self.now = until

    # ---- what happens to nodes ----

    def start(self, *budgets: tuple[int, int]) -> None:
        """Nodes start, or start anew, with budgets in MiB, and everybody sees them."""
        for id, mib in budgets:
            self.boot(id, mib)
        self.seen()

    def boot(self, id: int, mib: int) -> Node:
        """A node starts; nobody has seen it yet."""
        self.serial += 1
        node = self.nodes[id] = Node(id, mib, self.rate, self.serial)
        return node

    def crash(self, *ids: int) -> None:
        for id in ids:
            del self.nodes[id]
        self.seen()

    def seen(self, spread_ms: int = 0) -> None:
        """All nodes see who is there; some later than others, but all at last."""
        for node in list(self.nodes.values()):
            if spread_ms:
                self.later(self.random.randint(0, spread_ms), partial(self.look, node))
            else:
                self.look(node)

    def look(self, node: Node) -> None:
        """A node sees who is there now."""
        if self.nodes.get(node.id) is not node:
            return
        budgets = tuple(Budget(other.id, other.mib) for other in self.nodes.values())
        lives = {other.id: other.life for other in self.nodes.values()}
        restarted = {id for id, life in lives.items() if node.sees.get(id, life) != life}
        node.sees = lives
        self.do(node.id, io.MembersChanged(budgets, frozenset(restarted)))

    # ---- puts ----

    def placement(self) -> Placement:
        return Placement([Budget(node.id, node.mib) for node in self.nodes.values()])

    def put(
        self,
        name: str,
        at: int,
        keys: Sequence[Key],
        copies: int = 2,
        size: int = 1000,
        commit: bool = True,
    ) -> bool:
        """A putter's whole work in one moment, but for what it has under way if not `commit`."""
        claim = Claim(key_of(name), Version(at, ORIGIN), Copies(copies))
        links: dict[int, int] = {}
        done = all(
            self.put_chunk(links, key, size, claim, self.placement().order(key), copies)
            for key in keys
        )
        return self.finish(claim, links, done, commit)

    def put_stripe(
        self, name: str, at: int, keys: Sequence[Key], k: int, m: int, size: int = 1000
    ) -> bool:
        digest, version = key_of(name), Version(at, ORIGIN)
        links: dict[int, int] = {}
        done = True
        stripe = ft.stripe_key(tuple(keys[:k]))
        for index, node in enumerate(self.placement().stripe(stripe, k + m)):
            claim = Claim(digest, version, Shard(k, m, index, tuple(keys)))
            order = [node, *(id for id in self.placement().order(keys[index]) if id != node)]
            done = done and self.put_chunk(links, keys[index], size, claim, order, 1)
        return self.finish(Claim(digest, version, Copies(1)), links, done, True)

    def put_chunk(
        self,
        links: dict[int, int],
        key: Key,
        size: int,
        claim: Claim,
        order: Iterable[int],
        copies: int,
    ) -> bool:
        wanted = min(copies, len(self.nodes))
        for id in order:
            if not wanted:
                break
            link = links.get(id)
            if link is None:
                self.links += 1
                link = links[id] = self.links
            wanted -= self.hold(link, id, key, size, claim) in (ft.HAVE, ft.KEPT)
        return not wanted

    def hold(self, link: int, id: int, key: Key, size: int, claim: Claim) -> int:
        """A putter's HOLD, and the bytes."""
        states: list[int] = []
        self.answers[link] = states.append
        self.do(id, io.HoldAsked(link, 1, key, size, [claim], 0))
        if states[-1] == ft.SEND:
            assert self.nodes[id].chunks.store(key, link)
            self.do(id, io.ChunkStored(link, key, True))
        del self.answers[link]
        return states[-1]

    def finish(self, claim: Claim, links: dict[int, int], done: bool, commit: bool) -> bool:
        old = self.names.get(claim.digest)
        if not commit:
            self.open = (claim, links)
            return done
        if done and (old is None or old < claim.version):
            self.names[claim.digest] = claim.version
            how = ft.RELEASE_BEFORE
        else:
            done, how = False, ft.RELEASE_THIS
        for id in list(self.nodes):
            self.do(id, io.Released(how, claim.digest, claim.version))
        for id, link in links.items():
            if id in self.nodes:
                self.do(id, io.LinkClosed(link))
        return done

    # ---- what an observer sees ----

    def holders(self, key: Key) -> set[int]:
        """Who really has a chunk, and a good one."""
        return {
            node.id for node in self.nodes.values()
            if key in node.chunks.held and key not in node.chunks.bad
        }  # fmt: skip

    def shards(self, keys: Sequence[Key], k: int, m: int) -> tuple[int, ...]:
        """The holders of a stripe's shards."""
        return self.placement().stripe(ft.stripe_key(tuple(keys[:k])), k + m)

    def wanted(self, key: Key, copies: int) -> set[int]:
        return set(self.placement().holders(key, copies))

    def sent(self, kind: type[Any]) -> list[tuple[int, Any]]:
        return [(id, effect) for id, effect in self.effects if isinstance(effect, kind)]
