"""A simulated mesh of nodes that keep files in RAM, by the production policies.

Owns: nodes and clients, what befalls them, who sees whom, and what must hold at every step and in
the end. Refuses to know: how a node works (`storage_node.py`), how a file is put and got
(`storage_client.py`), and when anything befalls anybody (`storage_cli.py`).

How: the membership is played. When somebody comes or goes each node hears of it in its own time,
and may be told wrongly. Every write is in a book (`storage_files.py`), and whatever is read at any
time is held against it; whatever a node drops, against what an observer has seen to be whole
(`storage_observer.py`). One seed gives one run, always.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from velum.policy import transfer_io as io
from velum.policy.filetypes import (
    CARE_DAMAGED,
    Coding,
    Entry,
    Key,
)
from velum.policy.hybridclock import Version
from velum.sim.host import Status
from velum.sim.network import Conditions, Network
from velum.sim.storage_client import Client, Program, PutRun
from velum.sim.storage_files import Book, Write, key_of
from velum.sim.storage_link import Links, Process
from velum.sim.storage_node import MIB, Node, View
from velum.sim.storage_observer import Observer

SEEN_MS: Final = (50, 2_000)  # until one that is there is seen
SUSPECT_MS: Final = (500, 2_500)  # of silence
DECLARE_MS: Final = (1_000, 4_000)  # more until it is dead
FELT_MS: Final = (0, 100)  # until one whose process has ended is suspected: its links close
REFUSED_MS: Final = (200, 1_500)  # until it is dead
FAREWELL_MS: Final = (0, 300)  # until one that left in order is gone
UNHEARD: Final = 0.3  # share of first sights before health, and so the budget, is heard
HEALTH_MS: Final = 5_000
OBSERVE_MS: Final = 1_000
PUTTING: Final = 0.3  # share of nodes that run a program themselves
CLIENT_IDS: Final = 1_001  # ids of clients from there
WAIT_MS: Final = 900_000  # in a calm world all is as it should be by then

Codings = Sequence[tuple[Coding, int]]
"""Codings of a world's files, each with its chunk size."""


@dataclass(slots=True)
class Plan:
    """What programs do in a world."""

    names: Sequence[bytes]
    codings: Codings
    acts: int = 0  # puts, gets and removals in all
    aborts: float = 0.0  # share of puts that are given up
    chunks_max: int = 8


@dataclass(slots=True)
class Figures:
    """What was done in a run."""

    acts: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)  # how writes and reads ended


class World:
    """Nodes with ids from 1 that give so many MiB, and what happens to them; `verbose` prints the
    story."""

    def __init__(
        self,
        seed: int,
        budgets: Sequence[int],
        plan: Plan,
        *,
        latency_ms: tuple[int, int] = (0, 20),
        chunk_ms: tuple[int, int] = (0, 20),
        rate: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.rng = random.Random(f"world {seed}")
        self.network = Network(Conditions(latency_ms), random.Random(f"network {seed}"))
        self.links = Links(self.network, random.Random(f"links {seed}"), chunk_ms)
        self.plan = plan
        self.book = Book()
        self.figures = Figures()
        self.calm = False
        self.orderly = True  # nobody has been stopped, cut off or wrongly taken for dead yet
        self.clients: list[Client] = []
        self.nodes: dict[int, Node] = {}
        self.observer = Observer(self.nodes, self.book)
        self._rate = rate
        self._verbose = verbose
        self._acts = plan.acts
        self._origins = 0
        for mib in budgets:
            self.join(mib)
        self.network.at(HEALTH_MS, self._tell_health)
        self.network.at(OBSERVE_MS, self._observe)

    # ---- time ----

    @property
    def now_ms(self) -> int:
        return self.network.now_ms

    def run(self, milliseconds: int) -> None:
        """Let time pass."""
        self.network.run(self.now_ms + milliseconds)

    def say(self, text: str) -> None:
        """A line of the story."""
        if self._verbose:
            print(f"{self.now_ms / 1000:9.3f} {text}")

    def _observe(self) -> None:
        if self.agree():  # else somebody may count on one that is dead
            self.observer.look()
        self.network.at(self.now_ms + OBSERVE_MS, self._observe)

    def _tell_health(self) -> None:
        for node in self.running():
            node.tell_transfers()
            node.transfers.close_idle()
        for client in self.clients:
            if client.status is Status.UP:
                client.transfers.close_idle()
        self.network.at(self.now_ms + HEALTH_MS, self._tell_health)

    # ---- who there is ----

    def origin(self) -> int:
        """For a process's clock of versions."""
        self._origins += 1
        return self._origins

    def node_at(self, id: int) -> Node | None:
        return self.nodes.get(id)

    def running(self) -> list[Node]:
        """Nodes whose process is up."""
        return self.observer.running()

    def free_mib(self, id: int) -> int:
        """What a node has left, as its health says."""
        node = self.nodes[id]
        return max(0, node.chunks.free_bytes()) // MIB if node.live else 0

    # ---- the membership ----

    def look(self) -> None:
        """To be called when anybody comes, goes, is stopped or cut off: each hears of it soon."""
        for node in self.running():
            for other in self.nodes.values():
                if other is not node:
                    self._look_at(node, other)

    def _look_at(self, node: Node, other: Node) -> None:
        view = node.views.setdefault(other.id, View())
        heard = other.status is Status.UP and self.network.joined(node.id, other.id)
        left = other.left and not self.network.parted
        aim = (heard, other.life if heard else view.aim[1], left)
        if aim == view.aim:
            return
        view.aim = aim
        view.epoch += 1
        if heard:
            self._will_see(node, other, view)
        else:
            self._will_miss(node, other, view)

    def _will_see(self, node: Node, other: Node, view: View) -> None:
        rng, id = self.rng, other.id
        wait_ms = rng.randint(*SEEN_MS)
        if not view.state and rng.random() < UNHEARD:
            node.after(wait_ms, node.see, id, "alive", other.life, 0, view.epoch)
            wait_ms += rng.randint(*SEEN_MS)
        node.after(wait_ms, node.see, id, "alive", other.life, other.mib, view.epoch)

    def _will_miss(self, node: Node, other: Node, view: View) -> None:
        rng, id, epoch = self.rng, other.id, view.epoch
        if view.aim[2]:
            node.after(rng.randint(*FAREWELL_MS), node.see, id, "left", view.life, 0, epoch)
            return
        ended = other.status is Status.KILLED and self.network.joined(node.id, id)
        suspect_ms = rng.randint(*(FELT_MS if ended else SUSPECT_MS))
        declare_ms = suspect_ms + rng.randint(*(REFUSED_MS if ended else DECLARE_MS))
        if view.state:
            node.after(suspect_ms, node.see, id, "suspect", view.life, view.mib, epoch)
        node.after(declare_ms, node.see, id, "", view.life, 0, epoch)

    def doubt(self, node: Node, other: Node, ms: int, *, gone: bool) -> None:
        """A node suspects another for so long without a reason, or holds it for dead."""
        view = node.views[other.id]
        if view.state != "alive" or not view.aim[0]:
            return
        self.say(f"node {node.id} takes node {other.id} to be {'dead' if gone else 'suspect'}")
        self.orderly = self.orderly and not gone
        view.epoch += 1
        life, mib = view.life, view.mib
        state = "" if gone else "suspect"
        node.after(0, node.see, other.id, state, life, 0 if gone else mib, view.epoch)
        node.after(ms, node.see, other.id, "alive", other.life, other.mib, view.epoch)

    def agree(self) -> bool:
        """Whether every node that is up sees all that are, and nobody else."""
        up = {node.id: (node.life, node.mib) for node in self.running()}
        if not up:
            return False
        for node in self.running():
            seen = {id: (v.life, v.mib) for id, v in node.views.items() if v.state == "alive"}
            others = [id for id, v in node.views.items() if v.state and id not in up]
            if others or seen | {node.id: (node.life, node.mib)} != up:
                return False
        return True

    # ---- what may befall nodes ----

    def join(self, mib: int) -> Node:
        """Another node comes."""
        node = Node(self, len(self.nodes) + 1, mib, self._rate)
        self.say(f"node {node.id} joins, {mib} MiB")
        self.nodes[node.id] = node
        self._boot(node)
        return node

    def _boot(self, node: Node) -> None:
        node.boot()
        if self.rng.random() < PUTTING:
            node.program.rest()
        self.look()

    def crash(self, node: Node, *, silent: bool = False) -> None:
        """The process is killed; `silent`: its machine is gone, nothing closes."""
        self.say(f"node {node.id} crashes{' without a trace' if silent else ''}")
        self._end(node, silent)

    def _end(self, node: Node, silent: bool) -> None:
        self.observer.absolve()
        node.end(Status.OFF if silent else Status.KILLED)
        self.links.process_ended(node, silent=silent)
        self.look()

    def restart(self, node: Node, mib: int) -> None:
        """A new process begins there, with nothing."""
        self.say(f"node {node.id} starts again, {mib} MiB")
        self.links.process_ended(node, silent=False)
        node.mib = mib
        self._boot(node)

    def leave(self, node: Node) -> None:
        """The node leaves in order."""
        self.say(f"node {node.id} leaves")
        node.left = True
        self._end(node, False)

    def pause(self, node: Node) -> None:
        """The process is stopped (SIGSTOP)."""
        self.say(f"node {node.id} is stopped")
        self.orderly = False
        node.status = Status.PAUSED
        self.links.look_for_silence()
        self.look()

    def resume(self, node: Node) -> None:
        """The process goes on."""
        self.say(f"node {node.id} goes on")
        node.resume()
        self.look()

    def part(self, ids: Iterable[int]) -> None:
        """Cut these nodes and clients off from all others."""
        ids = sorted(ids)
        self.say(f"{ids} are cut off")
        self.orderly = False
        self.network.part(ids)
        self.links.look_for_silence()
        self.look()

    def heal(self) -> None:
        """End the partition."""
        self.say("the partition ends")
        self.network.heal()
        self.links.healed()
        self.look()

    def flip(self, node: Node, key: Key) -> None:
        """A bit of a chunk flips in RAM."""
        self.say(f"a bit of {key.hex()[:8]} flips at node {node.id}")
        self.observer.flipped(key)
        node.chunks.flip(key)

    # ---- clients ----

    def add_client(self) -> Client:
        """A process that is no node, with a program."""
        client = Client(self, CLIENT_IDS + len(self.clients))
        self.clients.append(client)
        client.program.rest()
        return client

    def crash_client(self, client: Client) -> None:
        """A client ends in the middle of whatever it does."""
        self.say(f"client {client.id} ends")
        client.end(Status.KILLED)
        self.links.process_ended(client, silent=self.rng.random() < 0.3)

    def programs(self) -> list[Program]:
        """Those of all processes that are live."""
        processes: list[Client | Node] = [*self.clients, *self.nodes.values()]
        return [process.program for process in processes if process.live]

    def under_way(self) -> set[int]:
        """Numbers of the writes of which somebody still waits for the end."""
        return {program.writing.number for program in self.programs() if program.writing}

    # ---- what programs do ----

    def wants_more(self) -> bool:
        """Whether there is anything more to do."""
        return self._acts > 0

    def next_act(self, program: Program) -> None:
        """A program puts, gets or removes a file, as chance wants."""
        self._acts -= 1
        rng, plan = self.rng, self.plan
        name, chance = rng.choice(plan.names), rng.random()
        if chance < 0.35:
            self.figures.acts["get"] += 1
            program.read(name, lambda code, _: self._read_ended(program, name, code))
            return
        if chance < 0.5:
            write = self.book.remove(name, self.now_ms)
        else:
            write = self.draw_put(name)
        self.write(program, write)

    def draw_put(self, name: bytes) -> Write:
        """A put of something new."""
        rng, plan = self.rng, self.plan
        coding, chunk_bytes = rng.choice(plan.codings)
        if rng.random() < 0.2:
            return self.book.draw(rng, name, coding, 0, 0, self.now_ms)
        chunks = rng.randint(1, plan.chunks_max)
        return self.book.draw(rng, name, coding, chunk_bytes, chunks, self.now_ms)

    def write(self, program: Program, write: Write) -> None:
        """A program begins a put or a removal."""
        kind = "remove" if write.content is None else "put"
        self.figures.acts[kind] += 1
        size = "" if write.content is None else f", {len(write.content)} bytes, {write.coding[:]}"
        where = program.process.id
        self.say(f"write {write.number}: {where} begins to {kind} {write.name.decode()}{size}")
        write.sure = self._is_sure(program)
        program.write(write, program.rest)

    def _is_sure(self, program: Program) -> bool:
        """Whether a program sees everybody, and nobody has been wrong about anybody."""
        alive = program.transfers.members.alive
        return self.orderly and alive.issuperset(node.id for node in self.running())

    def write_ended(self, program: Program, write: Write, outcome: Any) -> None:
        """A program was told how its write has ended."""
        assert not write.ended, "a second end"
        write.ended = True
        if isinstance(outcome, io.Finish):
            self.book.check_entry(outcome.entry)
            assert outcome.entry.version == write.sent[-1], "acknowledged, and never sent"
            write.kept, write.kept_ms = outcome.entry.version, self.now_ms
            write.sure = write.sure and self._is_sure(program)
            if write.sure:
                self.book.check_order(write)
            self.figures.ends["kept"] += 1
            self.say(f"write {write.number} is acknowledged: {_plain(write.kept)}")
        else:
            self.figures.ends[outcome.code] += 1
            self.say(f"write {write.number} fails: {outcome.code} {outcome.text}")
            uncertain = outcome.code == "UNCERTAIN"
            assert uncertain or not self._is_visible(write), "it failed, and is visible"

    def _is_visible(self, write: Write) -> bool:
        """Whether a write's entry is the one that will stand."""
        entry = self.observer.greatest(write.digest)
        return entry is not None and entry.version in write.sent

    def may_abort(self, process: Process, run: PutRun) -> None:
        """Some puts are given up."""
        if self.rng.random() < self.plan.aborts:
            process.after(self.rng.randint(0, 1_500), run.handle, io.Aborted())

    def draw_ranges(self, size: int) -> list[tuple[int, int]]:
        """What is read of a file: all of it, in pieces, or some ranges."""
        rng = self.rng
        if rng.random() < 0.6:
            step = rng.randint(1, size)
            return [(at, min(size, at + step)) for at in range(0, size, step)]
        firsts = [rng.randrange(size) for _ in range(rng.randint(1, 4))]
        return [(first, rng.randint(first + 1, size)) for first in firsts]

    def _read_ended(self, program: Program, name: bytes, code: str) -> None:
        self.figures.ends[f"read {code}".strip()] += 1
        self.say(f"{program.process.id} has read {name.decode()}: {code or 'all'}")
        program.rest()

    # ---- what must hold at every step ----

    def check_node(self, node: Node) -> None:
        """A node never holds more than its budget."""
        assert node.chunks.free_bytes() >= 0, f"node {node.id} holds more than its budget"

    # ---- what must hold in the end ----

    def become_calm(self) -> None:
        """No program begins anything more, and all that is down comes back."""
        self.say("all calms down")
        self.calm = True
        self._acts = 0
        self.links.late = 0.0
        self.links.slow.clear()
        self.heal()
        for node in self.nodes.values():
            if node.status is Status.PAUSED:
                self.resume(node)
            elif not node.live and not node.left:
                self.restart(node, node.mib)
        if not self.running():
            self.join(32)

    def wait_for(self, what: str, lacks: Any, limit_ms: int = WAIT_MS) -> int:
        """Run until lacks() says nothing; how long that took. AssertionError if it takes too
        long."""
        begin_ms = self.now_ms
        while why := lacks():
            passed_ms = self.now_ms - begin_ms
            assert passed_ms < limit_ms, f"{what}: after {passed_ms} ms {why}"
            self.run(500 if passed_ms < 20_000 else 2_000)
        return self.now_ms - begin_ms

    def unfinished(self) -> str:
        """What is still to happen until programs have ended and everybody sees everybody."""
        for program in self.programs():
            if program.busy:
                return f"the program of {program.process.id} waits"
        return "" if self.agree() else "the members do not agree"

    def finish(self) -> None:
        """All ends, in a mesh in which nothing more befalls anybody, and is as it should be."""
        self.become_calm()
        self.wait_for("programs", self.unfinished, 120_000)
        observer = self.observer
        self.wait_for("whole again", lambda: observer.unsettled() or observer.lacks())
        self.wait_for("freed", observer.surplus)
        assert not observer.lacks(), f"once all is freed {observer.lacks()}"
        self.check_names(lost=False)
        self.wait_for("care", observer.care_differs, 60_000)

    def finish_harshly(self) -> None:
        """The same where files may have been lost."""
        self.become_calm()
        self.wait_for("programs", self.unfinished, 120_000)
        self.run(60_000)
        observer = self.observer
        self.wait_for("freed", lambda: observer.surplus(observer.orphans()))
        self.check_names(lost=True)
        self.wait_for("care", observer.care_differs)

    def check_names(self, *, lost: bool) -> None:
        """Every name is read by somebody; nothing that was acknowledged is gone."""
        reader = self.add_client()
        self.run(5_000)
        for name in self.book.names():
            entry = self.observer.greatest(key_of(name))
            if not lost:
                self.book.check_last(name, None if entry is None else entry.version)
            told: list[tuple[str, Version | None]] = []
            reader.program.read(name, lambda *how, told=told: told.append(how))
            self.wait_for("a read", lambda told=told: "" if told else "it waits", 30_000)
            self._check_told(name, entry, *told[0], lost)

    def _check_told(
        self, name: bytes, entry: Entry | None, code: str, version: Version | None, lost: bool
    ) -> None:
        self.say(f"{name.decode()} is read: {code or 'all'}")
        if entry is None or entry.manifest is None:
            assert code == "NOT_FOUND", f"{name.decode()} is removed, and read: {code}"
        elif code == "CHUNKS_LOST" and lost:
            care = self.observer.care(entry, right=True)
            assert care[0] == CARE_DAMAGED, f"{name.decode()} is there, and not read"
        else:
            assert not code, f"{name.decode()} is not read: {code}"
            assert version == entry.version, f"{name.decode()} is read in an old version"


def _plain(version: Version) -> str:
    return f"{version.ms}.{version.stamp & 0xFFFF}/{version.origin}"
