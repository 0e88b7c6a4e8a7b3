"""A simulated mesh of nodes that share a state, by the production policies.

Owns: nodes, links between them, what befalls both, and what must hold in the end. Refuses to know:
how a node works (`kv_node.py`), who writes what (`kv_work.py`), when anything befalls anybody
(`kv_cli.py`).

How: a link carries frames in order, each way, until it breaks; what is under way then is lost, and
each end learns of it in its own time. Two nodes that run and are not cut off open another one soon.
One seed gives one run, always.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from velum.policy import kvsync_io as io
from velum.policy.kvroster import read_roster
from velum.sim.host import Status
from velum.sim.kv_node import Disk, Node
from velum.sim.kv_store import TOMBSTONES, KvStore, Model, Op, Record, look
from velum.sim.network import Conditions, Network

NOTICE_MS: Final = (0, 100)  # until an end learns that the other's process has ended
SILENT_MS: Final = (1_000, 4_000)  # until it learns that the other is cut off
AGAIN_MS: Final = (50, 400)  # until two that see each other open a link
EQUAL_MS: Final = 2_000  # after healing all are equal within this time
LOOK_MS: Final = 20
CREDITS: Final = 10  # writes that are looked at when a node counts on a peer, and as many again
PATIENT_MS: Final = 500
GONE_MS: Final = 180_000  # all tombstones are gone within this time
START_MS: Final = 50 * 365 * 86_400_000  # clocks begin in 2020 or so, years apart


class _Link:
    """One connection of two nodes."""

    __slots__ = ("broken", "ends", "free_ms", "lives")

    def __init__(self, one: Node, other: Node) -> None:
        self.ends = {one.id, other.id}  # that have not learned that it is broken
        self.broken = False
        self.free_ms = {one.id: 0, other.id: 0}  # when the last frame to each arrives
        self.lives = {one.id: one.life, other.id: other.life}


class World:
    """Nodes 1 to `count`, and what happens to them; `verbose` prints the story."""

    def __init__(
        self,
        seed: int,
        count: int,
        *,
        latency_ms: tuple[int, int] = (1, 10),
        missed: float = 0.0,
        skew_ms: int = 0,
        store: Callable[[], KvStore] = Model,
        verbose: bool = False,
    ) -> None:
        self._rng = random.Random(f"kv world {seed}")
        self.network = Network(Conditions(latency_ms), random.Random(f"kv network {seed}"))
        self.missed = missed
        self.figures: Counter[str] = Counter()
        self.frames = 0
        self._store = store
        self._verbose = verbose
        self._links: dict[frozenset[int], _Link] = {}
        self._opening: set[frozenset[int]] = set()
        self.nodes: dict[int, Node] = {}
        for id in range(1, count + 1):
            node = Node(self, id, START_MS + self._rng.randint(-skew_ms, skew_ms))
            self.nodes[id] = node
            node.start()
        self.relink()

    # ---- what nodes need ----

    @property
    def now_ms(self) -> int:
        return self.network.now_ms

    def random(self) -> random.Random:
        return self._rng

    def store(self) -> KvStore:
        return self._store()

    def misses(self) -> bool:
        return self.missed > 0 and self._rng.random() < self.missed

    def sent_whole(self) -> bool:
        return not self.misses()

    def say(self, text: str) -> None:
        """A line of the story."""
        if self._verbose:
            print(f"{self.now_ms / 1000:9.3f} {text}")

    def run(self, milliseconds: int) -> None:
        """Let time pass."""
        self.network.run(self.now_ms + milliseconds)

    def running(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.status is Status.UP]

    # ---- links ----

    def send(self, node: Node, to: int, what: str, *words: object) -> None:
        """A frame, over the link that the two have."""
        link = self._links.get(frozenset((node.id, to)))
        if link is None or link.broken or node.id not in link.ends:
            return
        self.frames += 1
        when_ms = max(self.now_ms + self.network.latency_ms(), link.free_ms[to])
        link.free_ms[to] = when_ms
        self.network.at(when_ms, self._deliver, link, node.id, self.nodes[to], what, words)

    def _deliver(
        self, link: _Link, source: int, node: Node, what: str, words: tuple[object, ...]
    ) -> None:
        if not link.broken:
            node.post(node.life, self._arrive, link, source, node, what, words)

    @staticmethod
    def _arrive(link: _Link, source: int, node: Node, what: str, words: tuple[object, ...]) -> None:
        if node.id in link.ends:
            node.arrive(source, what, words)

    def close(self, node: Node, to: int) -> None:
        """An end closes its link, and opens none to that process again."""
        link = self._links.get(frozenset((node.id, to)))
        if link is not None:
            self._break(link, NOTICE_MS)
            if link.lives[to] == self.nodes[to].life:
                node.refused.add(to)

    def _break(self, link: _Link, notice_ms: tuple[int, int]) -> None:
        """Nothing goes through any more; each end learns of it."""
        link.broken = True
        for id in sorted(link.ends):
            self.network.at(self.now_ms + self._rng.randint(*notice_ms), self._notice, link, id)

    def _notice(self, link: _Link, id: int) -> None:
        node = self.nodes[id]
        if node.live:  # one that is stopped finds it later, behind what came before
            node.post(node.life, self._learn, link, node)

    def _learn(self, link: _Link, node: Node) -> None:
        if node.id in link.ends:
            self._leave(link, node.id)
            (other,) = link.free_ms.keys() - {node.id}
            node.closed(other)

    def _leave(self, link: _Link, id: int) -> None:
        """An end knows that its link is broken."""
        link.ends.discard(id)
        pair = frozenset(link.free_ms)
        if not link.ends and self._links.get(pair) is link:
            del self._links[pair]
            self._plan_open(pair)

    def relink(self) -> None:
        """To be called when two may see each other again."""
        for one in self.nodes:
            for other in self.nodes:
                if one < other:
                    self._plan_open(frozenset((one, other)))

    def _plan_open(self, pair: frozenset[int]) -> None:
        if pair not in self._opening:
            self._opening.add(pair)
            self.network.at(self.now_ms + self._rng.randint(*AGAIN_MS), self._open, pair)

    def _open(self, pair: frozenset[int]) -> None:
        self._opening.discard(pair)
        one, other = (self.nodes[id] for id in sorted(pair))
        if pair in self._links or not self.network.joined(one.id, other.id):
            return
        if one.status is not Status.UP or other.status is not Status.UP:
            return
        if other.id in one.refused or one.id in other.refused:
            return
        self._links[pair] = _Link(one, other)
        one.opened(other.id)
        other.opened(one.id)

    # ---- what befalls them ----

    def break_link(self, one: int, other: int) -> None:
        link = self._links.get(frozenset((one, other)))
        if link is not None and not link.broken:
            self.say(f"the link of {one} and {other} breaks")
            self._break(link, NOTICE_MS)

    def part(self, ids: Iterable[int]) -> None:
        """Cuts some off from all others."""
        self.network.part(ids)
        self.say(f"{sorted(ids)} are cut off")
        for pair, link in self._links.items():
            if not link.broken and not self.network.joined(*pair):
                self._break(link, SILENT_MS)

    def heal(self) -> None:
        """All see each other; ends that have not noticed that their link broke do now."""
        self.network.heal()
        self.say("healed")
        for link in list(self._links.values()):
            if link.broken:
                self._break(link, NOTICE_MS)
        self.relink()

    def crash(self, node: Node) -> None:
        """The machine loses power."""
        self.say(f"{node.id} crashes, {len(node.disk.log) - node.disk.synced} records unsynced")
        node.crash()
        for pair, link in list(self._links.items()):
            if node.id in pair:
                self._break(link, SILENT_MS if self._rng.random() < 0.5 else NOTICE_MS)
                self._leave(link, node.id)

    def restart(self, node: Node) -> None:
        if node.live:
            return
        self.say(f"{node.id} starts, {len(node.disk.log)} records")
        node.start()
        for other in self.nodes.values():
            other.refused.discard(node.id)
        for link in list(self._links.values()):
            if node.id in link.free_ms:
                self._break(link, NOTICE_MS)  # the new process is heard of
        self.relink()

    def forget(self, node: Node) -> None:
        """Its machine is lost; the operator tells another that knows it, and begins with an empty
        log there."""
        lost = read_roster(node.id, node.disk.roster).me
        knowing = [n for n in self.running() if lost in n.sync.roster.members]
        if not node.live and knowing:
            teller = self._rng.choice(knowing)
            self.say(f"{teller.id} is told to forget {node.id}")
            node.disk = Disk()
            teller.handle(io.ForgetAsked(node.id))

    def pause(self, node: Node) -> None:
        self.say(f"{node.id} is stopped")
        node.status = Status.PAUSED

    def resume(self, node: Node) -> None:
        if node.status is Status.PAUSED:
            self.say(f"{node.id} runs on")
            node.resume()
            self.relink()

    # ---- what must hold ----

    def credited(self, node: Node, to: int, written: list[Record]) -> None:
        """A node counts a peer as one that has so many of its writes: so it has to have the latest
        of them, and some, that stand."""
        peer = self.nodes[to]
        if not peer.live:
            return
        some = self._rng.sample(written, min(CREDITS, len(written)))
        for record in (*written[-CREDITS:], *some):
            if record not in node.store.records(record.key):
                continue
            held = Model()
            for other in peer.store.records(record.key):
                held.merge(other)
            before = look(held.records(record.key))
            changes = held.merge(record)
            if record.op in TOMBSTONES or record.op == Op.EXPIRE:  # what all have had may be gone
                after = look(held.records(record.key))
                changes = (after.type, after.value) != (before.type, before.value)
            assert not changes, f"{node.id} counts on {to}, which lacks {record}"

    def differ(self) -> str:
        """What two nodes do not show alike, or nothing."""
        first, *others = self.running()
        ours = first.standing()
        for other in others:
            theirs = other.standing()
            for key in sorted(ours.keys() | theirs.keys()):
                if ours.get(key) != theirs.get(key):
                    return (
                        f"{key}: {first.id} has {ours.get(key)}, {other.id} has {theirs.get(key)}"
                    )
        return ""

    def wait(
        self, what: str, complaint: Callable[[], str], most_ms: int, step_ms: int = LOOK_MS
    ) -> int:
        """Lets time pass until nothing is wrong; how long that took, in ms."""
        begin_ms = self.now_ms
        while said := complaint():
            assert self.now_ms - begin_ms < most_ms, f"{what} after {most_ms} ms: {said}"
            self.run(step_ms)
        return self.now_ms - begin_ms

    def finish(self) -> None:
        """All are back and nobody writes: what must be then."""
        for node in self.nodes.values():
            self.resume(node)
            self.restart(node)
        self.missed = 0.0
        self.heal()
        equal_ms = self.wait("not equal", self.differ, EQUAL_MS)
        self.figures["ms until equal"] = equal_ms
        self.say(f"equal after {equal_ms} ms")

    def tombstones(self) -> str:
        """How many there are, or nothing."""
        left = {node.id: node.store.tombstones() for node in self.running()}
        return f"tombstones {left}" if any(left.values()) else ""

    def settle(self) -> None:
        """In time nothing is left of what was deleted, and no sum differs."""
        gone_ms = self.wait("not gone", self.tombstones, GONE_MS, PATIENT_MS)
        self.say(f"no tombstones after {gone_ms} ms")
        self.wait("unlike sums", self._sums, GONE_MS, PATIENT_MS)

    def _sums(self) -> str:
        sums = {node.id: tuple(node.store.sums(0, 0)) for node in self.running()}
        return "" if len(set(sums.values())) == 1 else str(sums)
