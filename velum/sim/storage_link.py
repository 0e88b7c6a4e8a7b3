"""Processes of a simulated mesh of files, the links between them, and what travels on these.

Owns: a process's clocks, a link's order of frames, and how it is lost. Refuses to know: what a
process decides, and when anything befalls it (`storage.py`).

How: a link behaves as TCP with the hub's pings: frames arrive in order, late, or not at all once it
has broken. Those on their way into a partition wait for its end; a link that is silent for
SILENT_MS is given up at each end. A chunk keeps its link busy for a while. Who opened a link asks
over it, the other end answers; a process reaches even itself over a link.
"""

from __future__ import annotations

import random
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from velum.sim.host import Host, Status
from velum.sim.network import Network

if TYPE_CHECKING:
    from velum.sim.storage import World

HANDSHAKE_MS: Final = 2_000  # csrc/include/velum_opt.h: VELUM_HANDSHAKE_MS
SILENT_MS: Final = (10_000, 20_000)  # VELUM_IDLE_MS until a ping, as much again for its answer
NOTICE_MS: Final = (0, 50)  # until the end of a process is felt at the other end of a link
BREAK_MS: Final = (0, 2_000)  # and a link that broke between two that live on
YEAR_MS: Final = 365 * 24 * 3_600_000
EPOCH_MS: Final = 1_700_000_000_000
# How far clocks are from the time: some started at 1970 for want of a battery.
CLOCKS_MS: Final = (0, 0, 0, 40, -3_000, 60_000, -5 * YEAR_MS, 30 * YEAR_MS, -EPOCH_MS)


class Kind(Enum):
    """The frames of docs/protocol.md, section 10; answers too."""

    HOLD = "hold"
    HELD = "held"
    CHUNK = "chunk"
    CANCEL = "cancel"
    WANT = "want"
    RELEASE = "release"
    OFFER = "offer"
    OFFERED = "offered"
    CLAIMS = "claims"
    CLAIMED = "claimed"
    ENTRY = "entry"
    ENTRY_ASK = "entry_ask"
    VERSION = "version"
    SUMS = "sums"
    LISTING = "listing"
    LISTED = "listed"
    ERROR = "error"


class Frame(NamedTuple):
    """A frame; `answers` is VELUM_ANSWER_BIT."""

    kind: Kind
    correlation: int
    body: Any
    answers: bool = False


class Process(Host):
    """A program with its clocks, and with links."""

    def __init__(self, world: World, id: int) -> None:
        super().__init__(world, id)
        self.world = world

    def start(self) -> None:
        """A new process begins."""
        super().start()
        rng = self.world.rng
        self.clock_ms = rng.randint(0, 1 << 40) - self.world.now_ms
        # Unix time as far as it knows when its monotonic clock was 0.
        self.epoch_ms = max(0, EPOCH_MS + rng.choice(CLOCKS_MS)) - self.clock_ms

    # ---- links ----

    def hear_answer(self, link: Link, frame: Frame) -> None:
        """A frame on a link that it opened."""
        raise NotImplementedError

    def hear_question(self, link: Link, frame: Frame) -> None:
        """A frame on a link that another opened."""
        raise NotImplementedError

    def link_opened(self, link: Link) -> None:
        """Its dial has succeeded."""
        raise NotImplementedError

    def link_ended(self, link: Link) -> None:
        """A link that it opened, or dialled, is gone."""
        raise NotImplementedError

    def visitor_came(self, link: Link) -> None:
        """Another has opened a link."""
        raise NotImplementedError

    def visitor_gone(self, link: Link) -> None:
        """Another's link is gone."""
        raise NotImplementedError


TO_TARGET, TO_OPENER = 0, 1


class Link:
    """One connection; it is open once `target_life` is set, and until `broken`."""

    __slots__ = (
        "arrives_ms",
        "broken",
        "drains",
        "heard",
        "held",
        "number",
        "opener",
        "opener_life",
        "target",
        "target_life",
    )

    def __init__(self, number: int, opener: Process, target: Process) -> None:
        self.number = number
        self.opener = opener
        self.opener_life = opener.life
        self.target = target
        self.target_life = 0
        self.broken = False
        self.drains = False  # broken, but what was sent arrives until the end is felt
        self.heard = [False, False]  # the end has heard that it is broken
        self.arrives_ms = [0, 0]  # when the latest frame each way does
        self.held: list[list[Frame]] = [[], []]  # wait for a partition's end

    @property
    def is_open(self) -> bool:
        return self.target_life > 0 and not self.broken

    def end(self, way: int) -> tuple[Process, int]:
        """Who hears what goes a way, and which life of it."""
        if way == TO_TARGET:
            return self.target, self.target_life
        return self.opener, self.opener_life


class Links:
    """All links of a world."""

    def __init__(self, network: Network, rng: random.Random, chunk_ms: tuple[int, int]) -> None:
        self._network = network
        self._rng = rng
        self._chunk_ms = chunk_ms
        self._links: dict[Link, None] = {}
        self._linked = 0
        self.late = 0.0  # share of frames that take seconds
        self.slow: dict[int, int] = {}  # machines and how many times longer a chunk takes there
        self.frames = 0

    # ---- opening ----

    def dial(self, opener: Process, target: Process) -> Link:
        """Begins to open a link; `link_opened` or `link_ended` will be told."""
        self._linked += 1
        link = Link(self._linked, opener, target)
        self._links[link] = None
        delay_ms = 2 * self._latency(opener, target)
        self._network.at(self._network.now_ms + delay_ms, self._reach, link)
        return link

    def _latency(self, one: Process, other: Process) -> int:
        return 0 if one is other else self._network.latency_ms()

    def _reach(self, link: Link) -> None:
        """The dial gets there, or not."""
        opener, target = link.opener, link.target
        if link.broken or not opener.live or opener.life != link.opener_life:
            self._links.pop(link, None)
            return
        joined = self._network.joined(opener.id, target.id)
        if joined and target.status is Status.UP:
            link.target_life = target.life
            target.visitor_came(link)
            opener.post(link.opener_life, self._opened, link)
        elif joined and target.status is Status.KILLED:
            self._break(link, NOTICE_MS)
        else:
            self._break(link, (HANDSHAKE_MS, HANDSHAKE_MS))

    def _opened(self, link: Link) -> None:
        if not link.heard[TO_OPENER]:
            link.opener.link_opened(link)

    # ---- frames ----

    def send(self, link: Link, way: int, frame: Frame) -> int:
        """A frame, behind those before it; returns when it arrives, if it does."""
        now_ms = self._network.now_ms
        when_ms = now_ms + self._latency(link.opener, link.target)
        if self._rng.random() < self.late:
            when_ms += self._rng.randint(500, 3_000)
        when_ms = max(link.arrives_ms[way], when_ms)
        if frame.kind is Kind.CHUNK:
            slow = max(self.slow.get(link.opener.id, 1), self.slow.get(link.target.id, 1))
            when_ms += self._rng.randint(*self._chunk_ms) * slow
        if frame.kind is not Kind.CANCEL or self._rng.random() < 0.5:
            link.arrives_ms[way] = when_ms
        else:
            when_ms = now_ms  # it overtakes the parts of a chunk
        self._network.at(when_ms, self._arrive, link, way, frame)
        return when_ms

    def _arrive(self, link: Link, way: int, frame: Frame) -> None:
        if link.heard[way] or (link.broken and not link.drains):
            return
        apart = not self._network.joined(link.opener.id, link.target.id)
        if link.held[way] or apart:
            link.held[way].append(frame)
        else:
            self._deliver(link, way, frame)

    def _deliver(self, link: Link, way: int, frame: Frame) -> None:
        self.frames += 1
        process, life = link.end(way)
        process.post(life, self._hear, link, way, frame)

    def _hear(self, link: Link, way: int, frame: Frame) -> None:
        if link.heard[way]:
            return
        if way == TO_TARGET:
            link.target.hear_question(link, frame)
        else:
            link.opener.hear_answer(link, frame)

    # ---- ends ----

    def drop(self, link: Link, way: int) -> None:
        """The end that hears what goes this way closes it; it is told nothing any more."""
        link.heard[way] = True
        self._break(link, NOTICE_MS)

    def _break(self, link: Link, notice_ms: tuple[int, int]) -> None:
        """It is broken; each end hears of it in its own time."""
        if link.broken:
            return
        link.broken = True
        link.drains = self._rng.random() < 0.5
        self._links.pop(link, None)
        for way in (TO_TARGET, TO_OPENER):
            when_ms = self._network.now_ms + self._rng.randint(*notice_ms)
            if not self._network.joined(link.opener.id, link.target.id):
                when_ms = max(when_ms, self._network.now_ms + self._rng.randint(*SILENT_MS))
            process, life = link.end(way)
            self._network.at(when_ms, process.post, life, self._ended, link, way)

    def _ended(self, link: Link, way: int) -> None:
        if link.heard[way]:
            return
        link.heard[way] = True
        if way == TO_TARGET:
            link.target.visitor_gone(link)
        else:
            link.opener.link_ended(link)

    def of(self, process: Process) -> list[Link]:
        """All links at a process."""
        return [link for link in self._links if process in (link.opener, link.target)]

    def between(self, one: Process, other: Process) -> list[Link]:
        """Those between two."""
        return [link for link in self._links if {link.opener, link.target} == {one, other}]

    def cut(self, one: Process, other: Process) -> None:
        """Their links break, with everything on its way."""
        for link in self.between(one, other):
            self._break(link, BREAK_MS)

    def process_ended(self, process: Process, *, silent: bool) -> None:
        """Its sockets are closed by its system; `silent`: nobody closes them."""
        for link in self.of(process):
            self._break(link, SILENT_MS if silent else NOTICE_MS)

    def look_for_silence(self) -> None:
        """To be called when a partition begins or a process is stopped: what stays silent for too
        long is given up."""
        for link in self._links:
            if self._is_silent(link):
                when_ms = self._network.now_ms + self._rng.randint(*SILENT_MS)
                self._network.at(when_ms, self._give_up, link)

    def _is_silent(self, link: Link) -> bool:
        stopped = Status.PAUSED in (link.opener.status, link.target.status)
        return stopped or not self._network.joined(link.opener.id, link.target.id)

    def _give_up(self, link: Link) -> None:
        if self._is_silent(link):
            self._break(link, NOTICE_MS)

    def healed(self) -> None:
        """A partition has ended: what waited for that arrives."""
        for link in self._links:
            for way in (TO_TARGET, TO_OPENER):
                if link.held[way]:
                    when_ms = self._network.now_ms + self._network.latency_ms()
                    self._network.at(when_ms, self._flush, link, way)

    def _flush(self, link: Link, way: int) -> None:
        if link.is_open and self._network.joined(link.opener.id, link.target.id):
            held, link.held[way] = link.held[way], []
            for frame in held:
                self._deliver(link, way, frame)
