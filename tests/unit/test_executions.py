"""The lanes: what a worker says goes to who waits for it, whole, in order, and once.

The rules are taken one by one with a played hub; what only processes and sockets can show, a worker
that is killed with values on their way, is shown with a real one.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from velum import _core, frames, workers
from velum.executions import Executions, Leases, Origin
from velum.modulestore import ModuleStore
from velum.outbox import Outbox
from velum.policy import types
from velum.policy.job import I32, LEASE_BIT, Reduce, Spec
from velum.policy.tasks import Code
from velum.replies import Replies
from velum.runtime import Runtime
from velum.workers import LEASE_NICE, Workers

ME, PEER, LAST = 7, 50, _core.SLICES_LAST
HASH = bytes(32)
PATIENCE_S = 20.0
OWN_NICE = 5  # of any worker, NICE in csrc/port/posix/worker_posix.c


def spec_of(slices: int, hash: bytes = HASH, end: int | None = None) -> Spec:
    args = ((I32, 0), (I32, slices if end is None else end))
    fixed = (5, 0, Reduce.SUM, 10, I32, slices, 0, 0, 0, 0, 0, 1)
    return Spec(*fixed, hash, "count_primes", "primes.wasm", args)


def lease(first: int = 0, count: int = 10) -> bytes:
    return _core.encode_lease(spec_of(100), first, count)


def report(first: int, *values: int, flags: int = 0) -> Any:
    runs = [(first, b"".join(v.to_bytes(8, "little") for v in values))] if values else []
    (payload,) = _core.encode_slices(5, runs, [], flags)
    return (5, flags, 0, runs, [], payload)


class Played:
    """Hub, workers, modules, replies and outbox in one: notes what it is told. A worker's link is
    its slot + 100."""

    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.services: list[Any] = []
        self.hub = self
        self.alive: set[int] = set()
        self.fetching: list[Callable[[int], None]] | None = None
        self.pins = 0

    def said(self) -> list[tuple[Any, ...]]:
        """What there was since the last time."""
        log, self.log = self.log, []
        return log

    # the hub
    def send(self, link: int, frame: int, correlation: int, payload: bytes) -> bool:
        self.log.append(("send", link, frame, correlation, payload))
        return True

    def send_cancel(self, link: int, correlation: int, code: int) -> None:
        self.log.append(("cancel", link, correlation, code))

    def accept(self, link: int) -> None:
        self.log.append(("accept", link))

    # the workers
    def spawn(self, slot: int) -> None:
        self.alive.add(slot)
        self.log.append(("spawn", slot))

    def slot_of(self, link: int) -> int | None:
        return link - 100 if link - 100 in self.alive else None

    def link_of(self, slot: int) -> int | None:
        return slot + 100 if slot in self.alive else None

    def closed(self, link: int) -> int | None:
        slot = self.slot_of(link)
        self.alive.discard(link - 100)
        return slot

    def settle(self, slot: int) -> None:
        assert slot in self.alive

    def pids(self) -> list[int]:
        return sorted(self.alive)

    # the modules
    def need(self, hash: bytes, link: int, then: Callable[[int], None]) -> None:
        def come(code: int) -> None:
            self.pins += code == 0
            then(code)

        if self.fetching is None:
            come(0)
        else:
            self.fetching.append(come)

    def release(self, hash: bytes) -> None:
        self.pins -= 1

    # who is told
    def result(self, link: int, correlation: int, node: int, payload: bytes) -> None:
        self.log.append(("result", link, correlation, node, payload))

    def error(self, link: int, correlation: int, code: int, text: str, deaths: int) -> None:
        self.log.append(("error", link, correlation, code, deaths))

    def local(self, results: list[Any], failures: list[Any]) -> None:
        self.log.extend(("local", *result) for result in results)
        self.log.extend(("failed", f.ticket, f.node, f.code, f.deaths) for f in failures)

    def local_slices(self, correlation: int, body: Any) -> None:
        self.log.append(("slices", correlation, body))


Lanes = tuple[Leases, Played]


def lane(slots: int) -> Lanes:
    world: Any = Played()
    leases = Leases(
        world, world, world, ME, slots, world.local, world,
        local_slices=world.local_slices,
        outbox=SimpleNamespace(send=world.send),  # type: ignore[arg-type]
    )  # fmt: skip
    return leases, world


def start(leases: Leases, world: Played, origin: Origin, payload: bytes | None = None) -> None:
    """Places a first lease, for which the workers are started."""
    leases.arrive(origin, HASH, 0, payload or lease(), origin.link, group=5, weight=10)
    leases.on_time(0)
    for slot in sorted(world.alive):
        assert leases.worker_opened(slot + 100)
        leases.worker_ready(slot + 100, 1000)


HOME, AWAY = Origin(0, LEASE_BIT | 1), Origin(PEER, LEASE_BIT | 2)


@pytest.fixture
def one() -> Iterator[Lanes]:
    """A lane of one worker, at whose end nothing is pinned."""
    leases, world = lane(1)
    yield leases, world
    assert world.pins == len(leases._by_origin) + len(leases._arriving)


# ---- leases ----


def test_workers_are_started_for_the_first_lease(one: Lanes) -> None:
    leases, world = one
    assert leases.next_deadline() is None and leases.status() == {
        "lease_worker_pids": [],
        "leases_queued": 0,
        "leases_running": 0,
    }
    leases.origin_lost(3)
    leases.cancel(HOME, Code.CANCELLED)
    leases.trim(HOME, 3)
    assert leases.next_deadline() is None
    start(leases, world, HOME)
    said = world.said()
    assert said == [("spawn", 0), ("accept", 100), ("send", 100, frames.LEASE, 1, lease())]
    assert leases.status()["leases_running"] == 1


@pytest.mark.parametrize("origin", [HOME, AWAY])
def test_reports_go_to_who_placed_the_lease(one: Lanes, origin: Origin) -> None:
    leases, world = one
    start(leases, world, origin)
    world.said()
    reports = [report(0, 11, 12), report(2, 13), report(3, flags=LAST)]
    for body in reports:
        assert leases.worker_slices(100, 1, body)
        (said,) = world.said()
        if origin.link:
            assert said == ("send", PEER, frames.SLICES, origin.correlation, body[5])
        else:
            assert said == ("slices", origin.correlation, body)
    assert leases.status()["leases_running"] == 0
    assert leases.worker_slices(100, 1, reports[0]) and world.said() == [], "it is over"
    assert not leases.worker_slices(PEER, 1, reports[0]), "a peer's are none of ours"


def test_a_worker_speaks_for_its_own_lease_only() -> None:
    leases, world = lane(2)
    start(leases, world, HOME)
    leases.arrive(AWAY, HASH, 0, lease(), PEER, group=5)
    sent = [(said[1], said[3]) for said in world.said() if said[0] == "send"]
    assert sent == [(100, 1), (101, 2)] or sent == [(101, 1), (100, 2)]
    (link, _), (_, number) = sent
    assert leases.worker_slices(link, number, report(0, 1)) and world.said() == []
    assert leases.worker_slices(link, number, report(0, 1, flags=LAST)) and world.said() == []
    assert leases.status()["leases_running"] == 2


@pytest.mark.parametrize("origin", [HOME, AWAY])
def test_a_death_is_told_with_its_count(one: Lanes, origin: Origin) -> None:
    leases, world = one
    start(leases, world, origin)
    leases.worker_slices(100, 1, report(0, 11))
    world.said()
    assert leases.worker_closed(100)
    told, spawned = world.said()
    if origin.link:
        assert told == ("error", PEER, origin.correlation, Code.WORKER_DIED, 1)
    else:
        assert told == ("failed", origin.correlation, ME, Code.WORKER_DIED, 1)
    assert spawned == ("spawn", 0)


def test_a_workers_error_ends_the_lease(one: Lanes) -> None:
    leases, world = one
    start(leases, world, AWAY)
    world.said()
    assert leases.worker_error(100, 1, (60, ME, 0, "bad module"))
    assert world.said() == [("error", PEER, AWAY.correlation, 60, 0)]
    assert not leases.worker_error(PEER, 1, (60, ME, 0, ""))


def test_trim_of_a_running_lease_is_the_workers_business(one: Lanes) -> None:
    leases, world = one
    start(leases, world, AWAY)
    world.said()
    leases.trim(AWAY, 4)
    assert world.said() == [("send", 100, frames.TRIM, 1, _core.encode_trim(4))]
    leases.worker_slices(100, 1, report(0, flags=LAST))
    world.said()
    leases.trim(AWAY, 2)
    assert world.said() == [], "it has ended meanwhile"


@pytest.mark.parametrize("where", ["queued", "arriving"])
@pytest.mark.parametrize("origin", [Origin(0, LEASE_BIT | 9), Origin(PEER, LEASE_BIT | 9)])
def test_trim_of_a_lease_that_waits(one: Lanes, where: str, origin: Origin) -> None:
    leases, world = one
    start(leases, world, AWAY)
    if where == "arriving":
        world.fetching = []
    for number in (0, 1):
        placed = Origin(origin.link, origin.correlation + number)
        leases.arrive(placed, HASH, 0, lease(20, 10), PEER, group=5)
    other = Origin(origin.link, origin.correlation + 1)
    world.said()
    leases.trim(other, 99)
    leases.trim(other, 25)
    assert world.said() == []
    leases.trim(origin, 20)
    (said,) = world.said()
    (empty,) = _core.encode_slices(5, [], [], LAST)
    if origin.link:
        assert said == ("send", PEER, frames.SLICES, origin.correlation, empty)
    else:
        assert said == ("slices", origin.correlation, (5, LAST, 0, [], [], empty))
    for then in world.fetching or ():
        then(0)
    leases.worker_slices(100, 1, report(0, flags=LAST))
    assert world.said()[1:] == [("send", 100, frames.LEASE, 3, lease(20, 5))], "as it was cut"


def test_cancel_wherever_the_lease_is(one: Lanes) -> None:
    leases, world = one
    start(leases, world, AWAY)
    queued, arriving = Origin(0, LEASE_BIT | 8), Origin(0, LEASE_BIT | 9)
    leases.arrive(queued, HASH, 0, lease(), 0, group=5)
    world.fetching = []
    leases.arrive(arriving, HASH, 0, lease(), 0, group=5)
    world.said()
    for origin in (queued, arriving):
        leases.cancel(origin, Code.CANCELLED)
        assert world.said() == [("failed", origin.correlation, ME, Code.CANCELLED, 0)]
    leases.arrive(arriving, HASH, 0, lease(1, 2), 0, group=5)
    first, second = world.fetching
    first(0)
    assert leases.status()["leases_queued"] == 0, "that was the one that was cancelled"
    second(0)
    assert leases.status()["leases_queued"] == 1
    leases.cancel(AWAY, Code.CANCELLED)
    assert world.said() == [("cancel", 100, 1, Code.CANCELLED)]


def test_nobody_hears_of_leases_whose_origin_is_lost(one: Lanes) -> None:
    leases, world = one
    start(leases, world, AWAY)
    leases.arrive(Origin(PEER, LEASE_BIT | 3), HASH, 0, lease(), PEER, group=5)
    world.fetching = []
    leases.arrive(Origin(PEER, LEASE_BIT | 4), HASH, 0, lease(), PEER, group=5)
    world.said()
    leases.origin_lost(PEER)
    world.fetching.pop()(20)  # with the link, the module does not come
    leases.worker_slices(100, 1, report(0, 1))
    leases.worker_slices(100, 1, report(1, flags=LAST))
    assert world.said() == [("cancel", 100, 1, Code.CANCELLED)]
    assert world.pins == 0 and leases.status()["leases_running"] == 0


def test_a_node_that_leaves_hands_leases_back_once(one: Lanes) -> None:
    leases, world = one
    start(leases, world, AWAY)
    leases.arrive(HOME, HASH, 0, lease(), 0, group=5)
    world.said()
    leases.hand_back()
    assert sorted(said[:4] for said in world.said()) == [
        ("error", PEER, AWAY.correlation, Code.LEAVING),
        ("failed", HOME.correlation, ME, Code.LEAVING),
    ]
    leases.worker_slices(100, 1, report(0, 1))
    leases.worker_closed(100)
    assert world.said() == []


# ---- single tasks ----


def test_a_task_is_answered_to_its_origin() -> None:
    world: Any = Played()
    tasks = Executions(world, world, world, ME, 1, world.local, world)
    tasks.on_time(0)
    tasks.worker_ready(100, 1000)
    payload = _core.encode_task(HASH, b"run", [], [])
    for origin, told in (
        (Origin(0, 3), ("local", 3, ME, 250, 41538, b"raw")),
        (Origin(PEER, 4), ("result", PEER, 4, ME, b"raw")),
    ):
        tasks.arrive(origin, HASH, 0, payload, 0)
        number = world.said()[-1][3]
        assert tasks.worker_results(100, [(number, ME, 250, 41538, b"raw")])
        assert world.said() == [told]
    assert not tasks.worker_results(PEER, []) and tasks.load() == (1, 0, 0, 1000)


# ---- real processes ----

PRIMES = Path(__file__).parents[1] / "guests" / "primes.wasm"


def eventually(condition: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.002)


class Real:
    """A loop with a lane of one real worker, whose leases come from this node."""

    def __init__(self) -> None:
        hub = _core.Hub()
        hub.identity(role=types.NODE, id=ME, slots=1)
        self.runtime = runtime = Runtime(hub, "leases")
        self.events: list[tuple[str, Any]] = []
        self.module = PRIMES.read_bytes()
        modules = ModuleStore(runtime, self.cut)
        self.leases = leases = Leases(
            runtime, Workers(hub, ME, 1024, LEASE_NICE), modules, ME, 1,
            lambda _, failures: self.events.extend(("failed", f.code) for f in failures),
            Replies(runtime, ME, types.Health, self.cut),
            local_slices=lambda _, body: self.events.append(("slices", body)),
            outbox=Outbox(runtime, lambda node: 0, self.cut),
        )  # fmt: skip
        runtime.on_event(_core.OPENED, lambda link, *_: leases.worker_opened(link))
        runtime.on_event(_core.CLOSED, lambda link, *_: leases.worker_closed(link))
        runtime.on_frame(
            frames.HEALTH,
            lambda link, _, health: leases.worker_ready(link, types.Health(*health).speed),
        )
        runtime.on_frame(frames.SLICES, leases.worker_slices)
        runtime.on_frame(frames.ERROR, leases.worker_error)
        runtime.at_end(leases.close)
        runtime.call_soon(modules.add, self.module, _core.module_hash(self.module))
        runtime.start()

    @staticmethod
    def cut(*why: Any) -> None:
        pytest.fail(f"a link was cut: {why}")

    def grant(self, ticket: int, slices: int, end: int) -> None:
        spec = spec_of(slices, _core.module_hash(self.module), end)
        payload = _core.encode_lease(spec, 0, slices)
        self.runtime.call_soon(
            lambda: self.leases.arrive(
                Origin(0, LEASE_BIT | ticket), spec.hash, 0, payload, 0, group=spec.job, weight=10
            )
        )

    def values(self) -> bytes:
        """The values reported, which must come from slice 0 up without a gap."""
        data = b""
        for kind, body in self.events:
            for first, values in body[3] if kind == "slices" else ():
                assert first * 8 == len(data), "a value is missing, or came twice"
                data += values
        return data

    def pid(self) -> int:
        return int(self.leases.status()["lease_worker_pids"][0])

    def ended(self) -> bool:
        kind, what = self.events[-1] if self.events else ("", None)
        return kind == "failed" or (kind == "slices" and bool(what[1] & LAST))


@pytest.fixture
def real() -> Iterator[Real]:
    if not PRIMES.exists():
        pytest.skip("tests/guests are not built")
    real = Real()
    yield real
    real.runtime.stop()
    assert real.runtime.join(PATIENCE_S) and real.runtime.failure is None


def test_a_real_worker_reports_as_it_goes_and_gives_way_to_others(real: Real) -> None:
    real.grant(1, 64, 500_000)
    eventually(real.ended, "the lease ends")
    values = real.values()
    assert len(values) == 64 * 8
    assert sum(values[at] + (values[at + 1] << 8) for at in range(0, len(values), 8)) == 41538
    pid = real.pid()
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, pid) == min(19, mine + OWN_NICE + LEASE_NICE)
    group = Path(f"/proc/{pid}/autogroup")
    if group.exists() and (text := group.read_text()):
        assert text.endswith(f" {LEASE_NICE}\n"), text


@pytest.mark.parametrize("round", range(3))
def test_what_a_killed_worker_had_reported_comes_before_its_death(real: Real, round: int) -> None:
    """The loop does not look while the worker reports and dies: all lies in the socket then."""
    goes_on, sleeps = threading.Event(), threading.Event()
    real.grant(1, 4096, 20_000_000)
    eventually(lambda: real.events, "a first report")
    pid, seen = real.pid(), len(real.values())

    def sleep() -> None:
        sleeps.set()
        assert goes_on.wait(PATIENCE_S)

    real.runtime.call_soon(sleep)
    assert sleeps.wait(PATIENCE_S)
    until = cpu_s(pid) + 0.2  # reports of 25 ms each
    eventually(lambda: cpu_s(pid) >= until, "it runs on")
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: state_of(pid) == "Z", "it dies")
    goes_on.set()
    eventually(real.ended, "the lease ends")
    assert real.events[-1] == ("failed", Code.WORKER_DIED)
    assert [kind for kind, _ in real.events].count("failed") == 1
    assert len(real.values()) >= seen + 4 * 8, "what lay in the socket was lost"


def stat(pid: int) -> list[str]:
    """What the system says of a process, from its state on."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def state_of(pid: int) -> str:
    return stat(pid)[0]


def cpu_s(pid: int) -> float:
    return int(stat(pid)[11]) / os.sysconf("SC_CLK_TCK")


def test_a_priority_that_is_refused_for_now_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The system lets a user set one autogroup's value every tenth of a second."""
    answers = [False, False, True]
    monkeypatch.setattr(workers, "lower_priority", lambda pid, nice: answers.pop(0))
    some = Workers(_core.Hub(), ME, 1024, LEASE_NICE)
    process: Any = SimpleNamespace(pid=1, kill=lambda: None, wait=lambda: None)
    some._by_slot[0] = workers.Worker(0, process, 9, settled=False)
    for _ in range(5):
        some.settle(0)
    assert answers == [] and some._by_slot[0].settled
