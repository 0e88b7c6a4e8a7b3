"""A chaos run: scatters, files or keys on a mesh of processes that are killed, stopped and parted.

Owns the run from the first node to the last removed file: what is started, what is checked, what is
reported. Refuses to know terminals: what happens is handed to `on_line` and `on_glance`. What
befalls the nodes is `velum.chaosmesh`, what they compute `velum.chaosjobs`, which files they keep
`velum.chaosfiles`, which keys `velum.chaoskv`, and `velum.chaoswatch` looks after memory, logs and
leftovers.

A run is right if every answer has the bits of the one that a node alone gives, or every file those
that were put last, or every node all keys that were acknowledged; none is late, no node ends or
logs a fault that was not asked for, and afterwards the mesh is whole again, does nothing, holds no
more memory than its bounds say, and leaves no process. The first thing that is not right ends the
run.

One seed decides all that can be decided before: works, times, kinds of adversity, whom. The clock
decides the rest: a seed is run again to meet the same adversity, not the same instants.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from velum.chaosfiles import FileStreams
from velum.chaosjobs import BadJob, Streams, Tally, Work, answer_alone, draw_works
from velum.chaoskv import KvStreams
from velum.chaosmesh import FLAP, KILL, LEAVE, PART, ROUGH, STOP, ChaosMesh, Manner, draw_strikes
from velum.chaosstreams import CallStreams, CallTally
from velum.chaoswatch import MARK, Life, Logs, Memory, leftovers, new_mark
from velum.client import connect
from velum.errors import VelumError, code_of
from velum.netns import Networks, why_not
from velum.policy.jobs_tuning import RETAIN_BYTES_MAX

NODES_MIN: Final = 3  # two stand at any time
NODES_MAX: Final = 64
STORE_NODES_MIN: Final = 4  # three keepers of every name stand at any time
TICK_S: Final = 0.05
CALM_S: Final = 120.0  # until all that struck has passed, restarts on a busy machine included
IDLE_S: Final = 30.0  # until no node runs or coordinates anything once all jobs have ended
LEFT_S: Final = 5.0  # until the last process of a node that has ended is no more
ASK_S: Final = 10.0

# A node keeps finished jobs for an hour, RETAIN_BYTES_MAX of them at most. Beside these a process
# grows while it works: frames under way, the allocator's own loss.
GROWTH_MIB_MAX: Final = (RETAIN_BYTES_MAX >> 20) + 64

# Beside the RAM that it gives to chunks a node needs 50 MiB for itself, some for names, and what is
# under way on its links.
BESIDE_MIB_MAX: Final = 128

# What befalls a mesh that keeps files. It takes a member 10 s to give up another for certain, and
# repair begins 2 s later: some of this lasts longer, some does not.
FILE_WEIGHTS: Final = {KILL: 5, STOP: 3, LEAVE: 2, PART: 3, FLAP: 1}
FILE_DOWN_S: Final = (0.2, 12.0)
FILE_AWAY_S: Final = (0.2, 20.0)

# What befalls a mesh whose nodes have logs: any number of them may be gone, and for any time.
KEY_WEIGHTS: Final = {KILL: 6, STOP: 3, LEAVE: 2, PART: 4, FLAP: 2}


AnyStreams = Streams | FileStreams | KvStreams


@dataclass(frozen=True)
class Settings:
    """What a run is. `netns`: "on", "off", or "auto": where it is possible."""

    seed: int
    seconds: float = 60.0
    nodes: int = 6
    workers: int = 1
    netns: str = "auto"
    store: bool = False  # files, not scatters
    kv: bool = False  # keys
    ram_mib: int = 256  # of each node for chunks of files

    @property
    def thing(self) -> str:
        """What the run is about."""
        return "files" if self.store else "keys" if self.kv else "jobs"


@dataclass(frozen=True)
class Glance:
    """How the run stands."""

    elapsed_s: float
    right: int
    running: int
    standing: int


@dataclass
class Report:
    """What came of it."""

    settings: Settings
    networks: bool
    works: int = 0
    tally: Tally | CallTally = field(default_factory=Tally)
    strikes: Counter[str] = field(default_factory=Counter)
    lives: list[Life] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    job: BadJob | None = None
    logs: str = ""  # where they are; empty: all was right, they are removed
    elapsed_s: float = 0.0

    @property
    def right(self) -> bool:
        """Whether everything was."""
        return not self.faults

    @property
    def replay(self) -> str:
        """The command that does it again."""
        s = self.settings
        netns = "on" if self.networks else "off"
        store = f" --store --ram {s.ram_mib}M" if s.store else " --kv" if s.kv else ""
        return (
            f"velum chaos --seed {s.seed} --nodes {s.nodes} --seconds {s.seconds:g} "
            f"--workers {s.workers} --netns {netns}{store}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "right": self.right,
            **asdict(self.settings),
            "netns": self.networks,
            "works": self.works,
            self.settings.thing: self.tally.as_dict(),
            "strikes": dict(self.strikes.most_common()),
            "memory": [life.as_dict() for life in self.lives],
            "faults": self.faults,
            "job": self.job.as_dict() if self.job else None,
            "logs": self.logs or None,
            "replay": self.replay,
            "elapsed_s": round(self.elapsed_s, 1),
        }


class Chaos:
    """One run. The callbacks may come from any thread."""

    def __init__(
        self,
        settings: Settings,
        on_line: Callable[[str], None] = lambda _: None,
        on_glance: Callable[[Glance], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._on_line = on_line
        self._on_glance = on_glance
        self._wrong = threading.Event()
        self._lock = threading.Lock()  # of the report's faults and job
        self._report = Report(settings, networks=False)
        self._mark = new_mark()
        self._memory = Memory()
        self._files: FileStreams | None = None

    def run(self) -> Report:
        """Runs it, and leaves nothing behind but the logs of a run that was not right. Raises
        VelumError when there is no mesh to begin with."""
        began = time.monotonic()
        report = self._report
        directory = Path(tempfile.mkdtemp(prefix="velum-chaos-"))
        try:
            with ExitStack() as stack:
                self._run(directory, stack)
            self._check_leftovers()
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        if report.right:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            report.logs = str(directory)
        report.elapsed_s = time.monotonic() - began
        return report

    def _run(self, directory: Path, stack: ExitStack) -> None:
        settings, report = self._settings, self._report
        works = self._answer_alone() if settings.thing == "jobs" else []
        report.works = len(works)
        networks = self._networks(stack)
        report.networks = networks is not None
        logs = Logs(directory, self._fault)
        stack.callback(logs.close)
        mesh = ChaosMesh(
            settings.seed,
            settings.nodes,
            self._words(),
            directory,
            manner=self._manner(),
            networks=networks,
            own=self._own(directory),
            environment={MARK: self._mark},
            on_fault=self._fault,
            on_strike=self._on_line,
            on_log=logs.line,
        )
        stack.callback(mesh.close)
        seconds = mesh.wait_complete()
        self._on_line(f"{settings.nodes} nodes see each other after {seconds:.1f} s")
        streams = self._begin(mesh, works, directory)
        stack.callback(streams.abandon)
        report.tally, report.strikes = streams.tally, mesh.counts
        self._strike(mesh, streams, networks is not None)
        self._settle(mesh, streams)
        report.lives = self._memory.lives()
        if report.right:
            self._check_memory()
            for fault in mesh.dismiss():
                self._fault(fault)

    # ---- before ----

    def _answer_alone(self) -> list[Work]:
        works = []
        drawn = draw_works(self._settings.seed, self._settings.seconds)
        self._on_line(f"{len(drawn)} scatters on one node alone, with one worker:")
        for work in answer_alone(drawn):
            self._on_line(f"{work}: {work.alone_s:.2f} s")
            works.append(work)
        return works

    def _networks(self, stack: ExitStack) -> Networks | None:
        settings = self._settings
        if settings.netns == "off":
            return None
        why = why_not()
        if why and settings.netns == "on":
            raise VelumError(code_of("SYSTEM"), f"no network namespaces: {why}")
        if why:
            self._on_line(f"no network will be parted: {why}")
            return None
        return stack.enter_context(Networks(range(1, settings.nodes + 1)))

    def _words(self) -> list[str]:
        """More words for every `velum node`."""
        words = ["--workers", str(self._settings.workers)]
        return [*words, "--ram", f"{self._settings.ram_mib}M"] if self._settings.store else words

    def _own(self, directory: Path) -> Callable[[int], list[str]]:
        """More words for one of them."""
        if not self._settings.kv:
            return lambda _: []
        return lambda id: ["--log", str(directory / f"node-{id}.log")]

    def _manner(self) -> Manner:
        if self._settings.kv:
            return Manner(KEY_WEIGHTS)
        if not self._settings.store:
            return ROUGH
        return Manner(FILE_WEIGHTS, FILE_DOWN_S, FILE_AWAY_S, FILE_AWAY_S, 1, self._whole)

    def _whole(self, since: float) -> bool:
        """Whether every file has had all its copies for a while, since all nodes stand."""
        return self._files is not None and self._files.watch.whole(since)

    def _begin(self, mesh: ChaosMesh, works: list[Work], directory: Path) -> AnyStreams:
        """What the mesh has to do meanwhile begins."""
        seed, seconds = self._settings.seed, self._settings.seconds
        log = directory / "calls.log"
        if self._settings.kv:
            return KvStreams(seed, seconds, mesh, log, self._on_line, self._fault)
        if not self._settings.store:
            return Streams(seed, works, mesh.choose, self._job_right, self._job_bad)
        self._files = FileStreams(seed, seconds, mesh, log, self._on_line, self._fault)
        return self._files

    # ---- the run ----

    def _strike(self, mesh: ChaosMesh, streams: AnyStreams, networks: bool) -> None:
        """The time in which things happen: one at least, on a slow machine a little later."""
        settings = self._settings
        weights = self._manner().weights
        mesh.begin(draw_strikes(settings.seed, settings.seconds, networks, weights))
        began = time.monotonic()
        while (elapsed_s := time.monotonic() - began) < settings.seconds or (
            mesh.untouched and elapsed_s < settings.seconds + CALM_S
        ):
            if self._tick(mesh, streams, elapsed_s):
                return

    def _settle(self, mesh: ChaosMesh, streams: AnyStreams) -> None:
        """The time in which all passes, and the last jobs end."""
        if self._wrong.is_set():
            return
        mesh.cease()
        self._on_line("nothing more strikes; waiting for what has to pass, and for the last jobs")
        waiter = threading.Thread(target=streams.finish, name="last jobs", daemon=True)
        waiter.start()
        began = time.monotonic()
        while waiter.is_alive() or not mesh.calm:
            elapsed_s = time.monotonic() - began
            if self._tick(mesh, streams, self._settings.seconds + elapsed_s):
                return
            if elapsed_s > CALM_S and not mesh.calm:
                self._fault(f"after {CALM_S:.0f} s of peace only {mesh.serving()} serve")
        try:
            seconds = mesh.wait_complete()
            self._on_line(f"all nodes see each other again after {seconds:.1f} s")
            self._check_idle(mesh)
        except VelumError as error:
            self._fault(str(error))

    def _tick(self, mesh: ChaosMesh, streams: AnyStreams, elapsed_s: float) -> bool:
        """Does what is due, and looks; true when something was wrong."""
        mesh.step()
        if isinstance(streams, CallStreams):
            streams.look()
        self._memory.look(mesh.mesh.nodes.values())
        tally = streams.tally
        self._on_glance(Glance(elapsed_s, tally.right, tally.running, len(mesh.standing())))
        return self._wrong.wait(TICK_S)

    # ---- what is right and what is not ----

    def _fault(self, text: str, job: BadJob | None = None) -> None:
        with self._lock:
            self._report.faults.append(text)
            self._report.job = self._report.job or job
        self._on_line(f"FAULT: {text}")
        self._wrong.set()

    def _job_right(self, work: Work, took_s: float) -> None:
        self._on_line(f"right after {took_s:.1f} s: {work}")

    def _job_bad(self, job: BadJob) -> None:
        self._fault(f"{job.work}: {job.what}", job)

    def _check_idle(self, mesh: ChaosMesh) -> None:
        """No node runs, keeps waiting or coordinates anything."""
        end = time.monotonic() + IDLE_S
        for id, node in mesh.mesh.nodes.items():
            with connect(node.address, timeout=ASK_S) as client:
                while busy := _busy(client.status()):
                    if time.monotonic() > end:
                        self._fault(f"node {id} is not idle though all jobs have ended: {busy}")
                        return
                    time.sleep(TICK_S)

    def _check_memory(self) -> None:
        if self._settings.kv:
            return  # what was written stays
        if self._settings.store:
            most = self._settings.ram_mib + BESIDE_MIB_MAX
            for life in self._report.lives:
                if life.max_mib > most:
                    self._fault(f"node {life.node} held {life.max_mib} MiB, more than {most}")
            return
        for life in self._report.lives:
            if life.max_mib - life.min_mib > GROWTH_MIB_MAX:
                self._fault(
                    f"node {life.node} grew from {life.min_mib} to {life.max_mib} MiB "
                    f"in {life.seconds:.0f} s"
                )

    def _check_leftovers(self) -> None:
        for left in leftovers(self._mark, LEFT_S):
            self._fault(f"left behind: {left}")


def _busy(status: dict[str, Any]) -> dict[str, int]:
    """Of a node's figures, those that are 0 when it does nothing, and are not."""
    names = ("jobs_coordinated", "leases_queued", "leases_running", "queue", "running")
    return {name: status[name] for name in names if status[name]}
