"""A simulated node of the shared state: production policies over a store, a log and a wrong clock.

Owns: what a node does with events, effects and commands; its hybrid clock; its log, of which a
crash takes what was not synced. Refuses to know: how links carry, what befalls it (`kv.py`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from velum.policy import kvsync_io as io
from velum.policy.kvroster import Member, Roster, read_roster
from velum.policy.kvsync import Sync
from velum.policy.kvtalk import Stamp, decode, encode
from velum.sim.host import Host, Status, Time
from velum.sim.kv_store import TOMBSTONES, KvStore, Op, Record, Seen, is_counted, look, number_of

SYNC_DISK_MS: Final = (0, 20)
WALK_MS: Final = (0, 500)  # a walk over all keys
LOOK_MS: Final = 500  # between looks at what has expired
SKIP: Final = 1 << 32  # stamps that a start passes over: made before a crash, perhaps, and lost


class World(Time, Protocol):
    """What a node has to know of its world."""

    def send(self, node: Node, to: int, what: str, *words: object) -> None: ...
    def misses(self) -> bool: ...
    def close(self, node: Node, to: int) -> None: ...
    def credited(self, node: Node, to: int, written: list[Record]) -> None: ...
    def sent_whole(self) -> bool: ...
    def random(self) -> random.Random: ...
    def store(self) -> KvStore: ...
    def say(self, text: str) -> None: ...


@dataclass(slots=True)
class Disk:
    """What is left when the process ends."""

    log: list[Record] = field(default_factory=list)
    synced: int = 0  # records of it that a crash cannot take
    safe: set[Record] = field(default_factory=set)  # all that was ever synced
    greatest: int = 0  # stamp among these
    roster: str = ""

    def sync(self) -> None:
        for record in self.log[self.synced :]:
            self.greatest = max(self.greatest, record.stamp.time)
            self.safe.add(record)
        self.synced = len(self.log)

    def crash(self, rng: random.Random) -> None:
        """The end of the log goes, as much of it as was not synced, or less."""
        del self.log[rng.randint(self.synced, len(self.log)) :]
        self.sync()


class Node(Host):
    """One node; `skew_ms` is how wrong its clock is."""

    def __init__(self, world: World, id: int, skew_ms: int) -> None:
        super().__init__(world, id)
        self.world = world
        self.skew_ms = skew_ms
        self.disk = Disk()
        self.refused: set[int] = set()
        self.on_lost: Callable[[Node], None] = lambda node: None

    # ---- life ----

    def start(self) -> None:
        super().start()
        rng = self.world.random()
        self.clock_ms = rng.randint(0, 1 << 20)
        self.store = self.world.store()
        for record in self.disk.log:
            self.store.merge(record)
        self.greatest = self.disk.greatest + SKIP if self.disk.greatest else 0
        if self.disk.roster:
            roster = read_roster(self.id, self.disk.roster)
        else:
            roster = Roster(Member(self.id, rng.getrandbits(64)))
            self.disk.roster = roster.text()
        self.refused.clear()
        self.joined: set[int] = set()
        self.written: list[Record] = []  # in this life
        self.offered: dict[int, int] = {}  # to a peer that pulls: so many of these
        self.targets = (0, 0)
        self.walking = False
        life = rng.getrandbits(64)
        self.sync = Sync(roster, self.store, life, random.Random(rng.random()), self.now_ms)
        self.after(LOOK_MS, self._expire)
        self.plan_wake()

    def crash(self) -> None:
        """The process ends, and the machine: what was not synced may be gone."""
        self.end(Status.KILLED)
        self.disk.crash(self.world.random())
        self.on_lost(self)

    def next_deadline(self) -> int | None:
        return self.sync.next_deadline()

    def on_time(self) -> None:
        due = self.sync.next_deadline()
        if due is not None and due <= self.now_ms:
            self.handle(io.TimePassed())

    # ---- the policy ----

    def handle(self, event: io.Event) -> None:
        for effect in self.sync.handle(event, self.now_ms):
            self._do(effect)
        self.sync.validate()
        self.plan_wake()

    def _do(self, effect: io.Effect) -> None:
        match effect:
            case io.Talk(to, message):
                self.world.send(self, to, "talk", encode(message))
            case io.SaveMembers():
                self.disk.roster = self.sync.roster.text()
            case io.Join(to):
                self.joined.add(to)
            case io.Part(to, _):
                self.joined.discard(to)
                self.world.close(self, to)
            case io.AskSums(to, session, level, nodes):
                self.world.send(self, to, "ask", session, level, nodes)
            case io.AskLeaves(to, session, leaves):
                self.world.send(self, to, "leaves", session, leaves)
            case io.SyncLog(to, session):
                self.after(self.world.random().randint(*SYNC_DISK_MS), self._synced, to, session)
            case io.Offer(to):
                self.offered[to] = len(self.written)
            case io.Credit(to):
                self.world.credited(self, to, self.written[: self.offered[to]])
            case io.Tend(settle_to, drop_to):
                self.targets = (settle_to, drop_to)
                if not self.walking:
                    self.walking = True
                    self.after(self.world.random().randint(*WALK_MS), self._walked)

    def _synced(self, to: int, session: int) -> None:
        self.disk.sync()
        self.handle(io.Synced(to, session, True))

    def _walked(self) -> None:
        self.walking = False
        self.store.tend(*self.targets)
        self.handle(io.Tended(self.targets[0]))

    # ---- links ----

    def opened(self, to: int) -> None:
        self.handle(io.LinkOpened(to))

    def closed(self, to: int) -> None:
        self.joined.discard(to)
        self.handle(io.LinkClosed(to))

    def arrive(self, source: int, what: str, words: tuple[object, ...]) -> None:
        """A frame of a peer."""
        match what, words:
            case "talk", (bytes(payload),):
                self.handle(io.Heard(source, decode(payload)))
            case "records", (int(unix_ms), tuple(records)):
                recalled = self.store.recalled()
                for record in records:
                    self.hear(record, unix_ms)
                if self.store.recalled() > recalled:
                    self.handle(io.PushMissed(source))
            case "ask", (session, int(level), tuple(nodes)):
                sums = [(index, self.store.sums(level, index)) for index in nodes]
                self.world.send(self, source, "sums", session, level, sums)
            case "leaves", (session, tuple(leaves)):
                sent = 0
                for leaf in leaves:
                    records = tuple(self.store.leaf(leaf))
                    sent += len(records)
                    self.world.send(self, source, "records", self.unix_ms, records)
                whole = self.world.sent_whole()
                self.world.send(self, source, "end", session, sent, whole)
            case "sums", (int(session), int(level), list(sums)):
                self.handle(io.SumsHeard(source, session, level, sums))
            case "end", (int(session), int(records), bool(whole)):
                self.handle(io.LeavesEnded(source, session, records, whole))
            case _:
                raise AssertionError(f"a frame of {what}")

    # ---- records ----

    @property
    def unix_ms(self) -> int:
        return self.skew_ms + self.world.now_ms

    def _stamp(self) -> Stamp:
        time = self.unix_ms << 16
        self.greatest = time if time > self.greatest else (self.greatest | 1) + 1
        return Stamp(self.greatest, self.id)

    def hear(self, record: Record, unix_ms: int) -> None:
        """A record of a peer."""
        self.greatest = max(self.greatest, record.stamp.time)
        if record.until_ms:
            record = record._replace(until_ms=record.until_ms + self.unix_ms - unix_ms)
        if self.store.merge(record):
            self.disk.log.append(record)

    def write(self, record: Record) -> None:
        """One of this node's own: logged, merged, pushed."""
        self.disk.log.append(record)
        assert self.store.merge(record), f"its own write is nothing new: {record}"
        self.written.append(record)
        for to in sorted(self.joined):
            if self.world.misses():
                self.handle(io.PushMissed(to))
            else:
                self.world.send(self, to, "records", self.unix_ms, (record,))

    def compact(self) -> None:
        """The log becomes what it amounts to."""
        self.disk.sync()
        self.disk.log = [r for key in self.store.keys() for r in self.store.records(key)]
        self.disk.synced = len(self.disk.log)

    def _expire(self) -> None:
        for key in self.store.keys():
            self.look(key)
        self.after(LOOK_MS, self._expire)

    # ---- commands ----

    def look(self, key: str) -> Seen:
        """What a key shows; what is over of it becomes a DEL."""
        seen = look(self.store.records(key))
        if seen.type == "none" or not seen.until_ms or seen.until_ms > self.unix_ms:
            return seen
        stamp = Stamp(seen.expiry.time | 1, seen.expiry.node)
        self.write(Record(Op.DEL, key, stamp))
        return look(self.store.records(key))

    def set(self, key: str, value: str, ttl_ms: int = 0) -> Record:
        until_ms = self.unix_ms + ttl_ms if ttl_ms else 0
        record = Record(Op.SET, key, self._stamp(), value=value, until_ms=until_ms)
        self.write(record)
        return record

    def delete(self, key: str) -> Record | None:
        if self.look(key).type == "none":
            return None
        record = Record(Op.DEL, key, self._stamp())
        self.write(record)
        return record

    def expire(self, key: str, ttl_ms: int) -> None:
        if self.look(key).type != "none":
            self.write(Record(Op.EXPIRE, key, self._stamp(), until_ms=self.unix_ms + ttl_ms))

    def increment(self, key: str) -> int | None:
        """The sum of this node's own count then."""
        seen = self.look(key)
        number = seen.type == "bytes" and number_of(str(seen.value)) is not None
        if seen.type not in ("none", "counter") and not number:
            return None
        stamp, records = self._stamp(), self.store.records(key)
        is_set = any(r.op == Op.SET for r in records)
        own = [r for r in records if r.op == Op.COUNT and r.stamp.node == self.id]
        own = [r for r in own if is_counted(r, seen.base, is_set) or r.of > seen.base]
        if own:
            count = own[0]._replace(stamp=stamp, sum=own[0].sum + 1)
        elif is_set:
            count = Record(Op.COUNT, key, stamp, of=seen.base, sum=1)
        else:
            count = Record(Op.COUNT, key, stamp, of=stamp, fresh=True, sum=1)
        self.write(count)
        return count.sum

    def add(self, key: str, element: str) -> Record | None:
        if self.look(key).type not in ("none", "set"):
            return None
        record = Record(Op.ADD, key, self._stamp(), part=element)
        self.write(record)
        return record

    def remove(self, key: str, element: str) -> list[Record]:
        self.look(key)
        removed = []
        for held in self.store.records(key):
            if held.op == Op.ADD and held.part == element:
                record = Record(Op.REMOVE, key, self._stamp(), part=element, of=held.stamp)
                self.write(record)
                removed.append(record)
        return removed

    def put_field(self, key: str, name: str, value: str) -> Record | None:
        if self.look(key).type not in ("none", "hash"):
            return None
        record = Record(Op.FIELD, key, self._stamp(), part=name, value=value)
        self.write(record)
        return record

    def remove_field(self, key: str, name: str) -> Record | None:
        seen = self.look(key)
        if seen.type != "hash" or name not in dict(seen.value):  # type: ignore[call-overload]
            return None
        record = Record(Op.UNFIELD, key, self._stamp(), part=name)
        self.write(record)
        return record

    def standing(self) -> dict[str, tuple[object, ...]]:
        """What it is made of: equal by chance is not equal."""
        return {
            key: (
                shown,
                sorted(
                    record._replace(until_ms=0)
                    for record in self.store.records(key)
                    if record.op not in TOMBSTONES
                ),
            )
            for key, shown in self.shown().items()
        }

    def shown(self) -> dict[str, tuple[str, object]]:
        """All that is visible here now."""
        found = {}
        for key in sorted(self.store.keys()):
            seen = look(self.store.records(key))
            if seen.type != "none" and not 0 < seen.until_ms <= self.unix_ms:
                found[key] = (seen.type, seen.value)
        return found
