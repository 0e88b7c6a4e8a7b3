"""A full node: one member of the mesh, living in a thread of this process.

Owns the joining of its parts: the loop, the services (membership, compute, scatter, files, state),
the lanes of workers, and what it answers to questions. Refuses to know terminals. A program holds a
`Node` and calls it from any thread; `python -m velum.node 3` runs one as a process of its own.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velum import _core, addresses, frames
from velum.addresses import Address
from velum.api import Mesh, NodeInfo, Work
from velum.arrival import Arrival
from velum.compute import Compute
from velum.errors import VelumError, code_of, error_from, from_core
from velum.executions import Executions, Lane, Leases
from velum.fileaccess import TOPIC, FileAccess, members_of
from velum.files import Files
from velum.health import core_count
from velum.joblist import HERE, JobList
from velum.journal import Journals
from velum.kv import DURABILITIES, FORGET, Kv
from velum.kvservice import ROOM, WATCHES, KvOptions, KvService
from velum.members import Members, Watchers
from velum.modulestore import ModuleStore
from velum.outbox import Outbox
from velum.policy import types
from velum.policy.job import Ask
from velum.replies import Replies
from velum.runtime import Runtime, now_ms
from velum.scatter import Scatter
from velum.store import Store, default_ram
from velum.transfers import Transfers
from velum.wasm import Module, pages_of
from velum.workers import LEASE_NICE, Workers

if TYPE_CHECKING:
    from velum.scatterjob import ScatterJob

logger = logging.getLogger("velum.node")

GUEST_MEMORY = 256 << 20  # bytes of linear memory a guest may have unless --memory says otherwise
STOP_SECONDS = 5.0  # how long close() waits for the loop's end
START_SECONDS = 10.0

OnMember = Callable[[NodeInfo, "str | None"], None]


class Node(Mesh):
    """A member of the mesh. It has joined nothing yet when the constructor returns: peers come as
    they are found. A context manager; `close` leaves the mesh."""

    _placed = True

    def __init__(
        self,
        id: int,
        port: int | None = None,
        *,
        host: str = addresses.LOOPBACK,
        beacon_port: int = addresses.BEACON_PORT,
        join: Iterable[str] = (),
        workers: int | None = None,
        memory: int = GUEST_MEMORY,
        beacon: bool = True,
        state_dir: str | os.PathLike[str] | None = None,
        ram: int | None = None,
        repair_rate: int | None = None,
        log: str | os.PathLike[str] | None = None,
        durability: str = "",
        resp_port: int | None = None,
        kv_room: int = ROOM,
        on_member: OnMember | None = None,
    ) -> None:
        """Starts node `id` (1..65535) on `port` (default 8000 + id; 0: any free one).

        `join` names members as "host:port" where beacons do not reach; `workers` defaults to the
        number of cores; `memory` bounds a guest's linear memory in bytes. Scatters are journalled
        in the directory `state_dir`, so that they go on when the whole mesh was switched off.
        `ram` bytes are given to files of the mesh (default: a quarter of what is free, at most
        1 GiB; 0: none); copies that are lost are made again at `repair_rate` bytes a second
        (default: 32 MiB; 0: as fast as links are).
        The state (`kv`) is kept in the file `log`, without one in memory only, and may have
        `kv_room` bytes of memory; writes that do not say are as durable as `durability` ("ram",
        "log", "fsync" or "quorum"; default: "log"). With `resp_port` (0: any free one) the Redis
        protocol is served there.
        `on_member(info, before)` is called from the node's thread when a member's state changes
        (`before` None: it is new). Raises PeerLost ADDRESS_IN_USE or UNREACHABLE, KvRefused,
        VelumError ARGUMENT, SYSTEM.
        """
        if not 0 < id < 65536:
            raise error_from(code_of("ARGUMENT"), f"node id {id} is not in 1..65535")
        slots = core_count() if workers is None else workers
        if not 0 <= slots < 256:
            raise error_from(code_of("ARGUMENT"), f"{slots} workers is not in 0..255")
        self.id = id
        self._on_member = on_member
        self._started = time.monotonic()
        self._stopping = threading.Lock()
        seeds = [addresses.parse_address(text) for text in join]
        ram = default_ram() if ram is None else ram
        if not 0 <= ram <= 1 << 52:
            raise error_from(code_of("ARGUMENT"), f"{ram} bytes of RAM for files")
        state = self._state_options(host, log, durability, resp_port, kv_room)
        journals = Journals(None if state_dir is None else Path(state_dir), logger.warning)
        hub = _core.Hub(watches=WATCHES)
        try:
            self._incarnation = time.time_ns() // 1_000_000
            self._identify(hub, slots, (0, 0))
            self._udp, self._address = self._listen(hub, host, port)
            self._identify(hub, slots, self._address)
            self._beacon = beacon_sockets(host, beacon_port if beacon else None)
            self._build(hub, seeds, slots, pages_of(memory), journals, ram, repair_rate, state)
        except BaseException:
            journals.close()
            hub.close()
            raise

    def _identify(self, hub: _core.Hub, slots: int, address: Address) -> None:
        hub.identity(
            role=types.NODE,
            slots=slots,
            id=self.id,
            incarnation=self._incarnation,
            address=address,
            version=f"velum {_core.C_VERSION}".encode(),
        )

    @staticmethod
    def _state_options(
        host: str,
        log: str | os.PathLike[str] | None,
        durability: str,
        resp_port: int | None,
        room: int,
    ) -> KvOptions:
        if durability not in DURABILITIES:
            raise error_from(code_of("ARGUMENT"), f"{durability!r} is no durability")
        resp = None if resp_port is None else (addresses.ip_number(host), resp_port)
        return KvOptions(None if log is None else Path(log), durability, resp, room)

    def _listen(self, hub: _core.Hub, host: str, port: int | None) -> tuple[int, Address]:
        wanted = addresses.TCP_PORT_BASE + self.id if port is None else port
        if not 0 <= wanted < 65536:
            raise error_from(
                code_of("ARGUMENT"),
                f"port {wanted} is not in 0..65535; name one with --port (0: any free one)",
            )
        try:
            return hub.serve((addresses.ip_number(host), wanted))
        except _core.CoreError as error:
            hint = "is this node running already? try `velum nodes`, or another --port"
            if error.code != code_of("ADDRESS_IN_USE"):
                hint = "is that an address of this machine?"
            raise error_from(
                error.code, f"cannot listen on {host}:{wanted}: {error}; {hint}"
            ) from None

    def _build(
        self,
        hub: _core.Hub,
        seeds: list[Address],
        slots: int,
        pages: int,
        journals: Journals,
        ram: int,
        repair_rate: int | None,
        state: KvOptions,
    ) -> None:
        me = types.Update(
            id=self.id,
            state=types.ALIVE,
            role=types.NODE,
            incarnation=self._incarnation,
            address=types.Address(*self._address),
            accuser=0,
        )
        runtime = Runtime(hub, f"velum node {self.id}")
        self._runtime = runtime
        self._replies = Replies(
            runtime,
            self.id,
            health=lambda: self._members.health,
            cut=self._cut,
        )
        self._state = KvService(
            runtime,
            self.id,
            state,
            self._replies,
            link_to=lambda node: self._members.link_to(node),
            cut=self._cut,
        )
        modules = ModuleStore(runtime, lambda *why: self._members.cut(*why))
        self._build_services(modules, slots, pages, journals)
        self._transfers = Transfers(runtime)
        self._store = Store(runtime, self.id, self._transfers, self._replies, ram, repair_rate)
        self._members_known = threading.Event()
        self._files = Files(FileAccess(runtime, self._transfers, self._know_members))
        try:
            self._members = Members(
                runtime, me, self._watchers(), udp=self._udp, beacon=self._beacon, seeds=seeds
            )
        except _core.CoreError as error:
            self._close_services()
            raise from_core(error) from None
        self._compute.members = self._scatter_service.members = self._members
        self._arrival = Arrival(
            runtime, lambda: self._members.policy.joined, bool(seeds) or self._beacon is not None
        )
        self._joblist = JobList(runtime, self._members, self._scatter_service)
        runtime.on_event(_core.OPENED, self._on_opened)
        runtime.on_event(_core.CLOSED, self._on_closed)
        runtime.on_event(_core.NAMED, self._on_named)
        runtime.on_frame(frames.ANSWER, self._on_answer)
        runtime.on_frame(frames.ERROR, self._on_error)
        runtime.on_frame(frames.CANCEL, self._on_cancel)
        runtime.on_frame(frames.QUERY, self._on_query)
        runtime.on_frame(frames.HEALTH, self._on_health)
        for service in (self._members, self._compute, self._scatter_service):
            runtime.call_soon(service.start)
        runtime.call_soon(self._members_changed)
        runtime.call_soon(self._arrival.then, self._members_known.set)
        runtime.start()

    def _build_services(
        self, modules: ModuleStore, slots: int, pages: int, journals: Journals
    ) -> None:
        """Compute and scatter, each with a lane of workers of its own."""
        runtime, replies = self._runtime, self._replies
        self._tasks = Executions(
            runtime,
            Workers(runtime.hub, self.id, pages),
            modules,
            self.id,
            slots,
            lambda *answers: self._compute.local_answers(*answers),
            replies,
        )
        outbox = Outbox(
            runtime,
            link_to=lambda node: self._members.link_to(node),
            cut=lambda *why: self._members.cut(*why),
        )
        self._leases = Leases(
            runtime,
            Workers(runtime.hub, self.id, pages, LEASE_NICE),
            modules,
            self.id,
            slots,
            lambda *answers: self._scatter_service.local_failures(*answers),
            replies,
            local_slices=lambda *report: self._scatter_service.local_slices(*report),
            outbox=outbox,
        )
        self._compute = Compute(runtime, self.id, modules, replies, self._tasks, self._is_done)
        self._scatter_service = Scatter(
            runtime, self.id, modules, replies, self._leases, journals, outbox
        )

    def _watchers(self) -> Watchers:
        return Watchers(
            changed=self._member_changed,
            healthy=self._health_heard,
            linked=self._linked,
            unlinked=self._unlinked,
            unreachable=self._unreachable,
            load=self._compute.load,
            ram=self._store.ram,
            failed=self._fail,
        )

    # ---- the face ----

    @property
    def _lanes(self) -> tuple[Lane, ...]:
        return (self._tasks, self._leases)

    @property
    def address(self) -> str:
        """Where it listens, as host:port."""
        return addresses.address_text(self._address)

    @property
    def files(self) -> Files:
        """The files in the RAM of the mesh."""
        return self._files

    @property
    def kv(self) -> Kv:
        """The state that every node holds, as this one has it."""
        return self._state.kv

    @property
    def resp_address(self) -> str | None:
        """Where it serves the Redis protocol, as host:port; None: nowhere."""
        where = self._state.resp_address
        return None if where is None else addresses.address_text(where)

    def nodes(self) -> list[NodeInfo]:
        """Every member this node knows, itself included, by id."""
        rows: list[NodeInfo] = self._in_loop(self._nodes)
        return rows

    def status(self) -> dict[str, Any]:
        """Its state: plain data, as `velum status --json` prints it."""
        found: dict[str, Any] = self._in_loop(self._status)
        return found

    def leave(self) -> None:
        """Leaves the mesh in order: tells the others, hands its work back, stops."""
        with self._stopping:
            if not self._runtime.stopped.is_set():
                self._runtime.call_soon(self._leave)
            self._runtime.join(STOP_SECONDS)

    def close(self) -> None:
        """The same as `leave`."""
        self.leave()

    def wait(self, timeout: float | None = None) -> BaseException | None:
        """Blocks until the node has stopped; why, when it was not asked to."""
        self._runtime.join(timeout)
        return self._runtime.failure

    @property
    def stopped(self) -> bool:
        """Whether it has stopped."""
        return self._runtime.stopped.is_set()

    def _submit(self, work: Work) -> None:
        if self._runtime.stopped.is_set():
            work.future.fail(self._is_done())
        else:
            self._compute.submit(work)

    def _scatter(self, job: ScatterJob, module: Module) -> None:
        if self._runtime.stopped.is_set():
            job.fail(self._is_done())
        else:
            self._scatter_service.submit(job, module)

    def _follow(self, job: ScatterJob) -> None:
        if self._runtime.stopped.is_set():
            job.fail(self._is_done())
        else:
            self._scatter_service.follow(job)

    def _ask_job(self, job_id: int, ask: Ask) -> None:
        self._scatter_service.ask(job_id, ask)

    def _jobs(self) -> list[dict[str, Any]]:
        answer: Future[list[dict[str, Any]]] = Future()
        self._in_loop(lambda: self._joblist.everywhere(answer.set_result))
        return answer.result(STOP_SECONDS)

    def _know_members(self) -> None:
        """Returns when it is known who there is. Called by threads of callers."""
        self._members_known.wait(START_SECONDS)
        if self._runtime.stopped.is_set():
            raise self._is_done()

    def _is_done(self) -> VelumError:
        return error_from(code_of("LEAVING"), f"node {self.id} has stopped")

    def _in_loop(self, function: Callable[[], Any]) -> Any:
        """What function() returns in the loop's thread."""
        answer: Future[Any] = Future()

        def run() -> None:
            try:
                answer.set_result(function())
            except BaseException as error:
                answer.set_exception(error)

        if self._runtime.stopped.is_set():
            raise self._is_done()
        self._runtime.call_soon(run)
        while True:
            try:
                return answer.result(0.5)
            except FutureTimeout:
                if self._runtime.stopped.is_set() and not answer.done():
                    raise self._is_done() from None

    # ---- in the loop ----

    def _on_opened(
        self,
        link: int,
        token: int,
        role: int,
        id: int,
        slots: int,
        incarnation: int,
        address: Address,
        version: str,
        source: Address,
        bulk: bool,
    ) -> None:
        if self._transfers.links.on_opened(link):
            return
        if bulk:
            self._store.on_opened(link, id if role == types.NODE else 0)
            return
        if role == types.WORKER and any(lane.worker_opened(link) for lane in self._lanes):
            return
        if self._members.on_opened(link, token, role, id, address, source):
            logger.debug("link to %s %d (%s) open", types.ROLE_NAMES[role], id, version)

    def _on_closed(
        self, link: int, token: int, code: int, was_open: bool, id: int, text: str
    ) -> None:
        if self._transfers.on_closed(link, code, text) or self._store.on_closed(link):
            return
        if not any(lane.worker_closed(link) for lane in self._lanes):
            self._members.on_closed(link, code, text)

    def _cut(self, link: int, code: int, text: str) -> None:
        """Ends a link for what its peer does."""
        if not self._store.cut(link, code, text):
            self._members.cut(link, code, text)

    def _on_named(self, link: int, named: list[tuple[int, Any]]) -> None:
        """VERSIONs and ENTRYs: answers, or tombstones that somebody has."""
        if not self._transfers.on_named(link, named):
            for correlation, body in named:
                self._store.on_named(link, correlation, body)

    def _on_answer(self, link: int, correlation: int, body: bytes) -> None:
        if not self._transfers.on_answer(link, correlation, body):
            self._joblist.on_answer(link, correlation, body)

    def _on_health(self, link: int, _correlation: int, health: Sequence[int]) -> None:
        """A worker tells how fast it is; what peers send is not needed, answers carry it."""
        for lane in self._lanes:
            lane.worker_ready(link, types.Health(*health).speed)

    def _on_error(self, link: int, correlation: int, body: tuple[int, int, int, str]) -> None:
        if self._transfers.on_error(link, correlation, body):
            return
        if not self._scatter_service.on_error(link, correlation, body):
            self._compute.on_error(link, correlation, body)

    def _on_cancel(self, link: int, correlation: int, code: int) -> None:
        if self._store.on_cancel(link, correlation):
            return
        if not self._scatter_service.on_cancel(link, correlation, code):
            self._compute.on_cancel(link, correlation, code)

    def _on_query(self, link: int, correlation: int, topic: str) -> None:
        if topic == "nodes":
            self._arrival.then(lambda: self._answer_nodes(link, correlation))
            return
        if topic == "status":
            answer: Any = self._status()
        elif topic == TOPIC:
            answer = self._store.here()
        elif topic == HERE:
            answer = self._joblist.here()
        elif topic.startswith(FORGET):
            id = topic.removeprefix(FORGET).strip()
            answer = id.isdecimal() and self._state.forgotten(int(id))
        elif topic == "jobs":
            self._joblist.everywhere(
                lambda jobs: self._replies.answer(link, correlation, json.dumps(jobs).encode())
            )
            return
        else:
            self._replies.error(link, correlation, code_of("QUERY"), f"unknown query {topic!r}")
            return
        self._replies.answer(link, correlation, json.dumps(answer).encode())

    def _answer_nodes(self, link: int, correlation: int) -> None:
        rows = [row.as_dict() for row in self._nodes()]
        self._replies.answer(link, correlation, json.dumps(rows).encode())

    def _info(self, member: types.Member) -> NodeInfo:
        update, health = member.update, member.health
        me = update.id == self.id
        heard = member.heard_ms
        return NodeInfo(
            id=update.id,
            role=types.ROLE_NAMES[update.role],
            state=types.STATE_NAMES[update.state],
            address=addresses.address_text(update.address),
            slots=health.slots,
            cores=health.cores,
            cpu=health.cpu,
            queue=health.queue,
            running=health.running,
            free_mib=health.free_mib,
            speed=health.speed,
            seen_ms=0 if me else max(0, now_ms() - heard) if heard else -1,
            me=me,
            ram_mib=health.ram_mib,
            ram_free_mib=health.ram_free_mib,
        )

    def _nodes(self) -> list[NodeInfo]:
        return [self._info(m) for _, m in sorted(self._members.everyone().items())]

    def _status(self) -> dict[str, Any]:
        modules, module_bytes = self._runtime.hub.module_usage()
        alive = sum(1 for m in self._members.everyone().values() if m.state == types.ALIVE)
        return {
            "id": self.id,
            "address": self.address,
            "version": _core.C_VERSION,
            "wire_version": _core.WIRE_VERSION,
            "uptime_s": round(time.monotonic() - self._started, 1),
            "members_alive": alive,
            "modules": {"count": modules, "bytes": module_bytes},
            "hub": self._runtime.hub.stats(),
            **self._tasks.status(),
            **self._compute.status(),
            **self._scatter_service.status(),
            "store": self._store.here(),
            "kv": self._state.status(),
        }

    # ---- members come and go: every service hears of it ----

    def _member_changed(self, member: types.Member, before: int | None) -> None:
        self._compute.member_changed(member)
        self._scatter_service.member_changed(member)
        self._members_changed()
        if self._on_member is not None:
            self._on_member(
                self._info(member), None if before is None else types.STATE_NAMES[before]
            )

    def _health_heard(self, node: int, health: types.Health) -> None:
        self._compute.health_heard(node, health)
        self._scatter_service.health_heard(node, health)
        if self._store.is_news(node, health):
            self._members_changed()

    def _members_changed(self) -> None:
        """Files are placed by who is there, and by the RAM that each gives."""
        everyone = self._members.everyone()
        self._store.members_changed(everyone)
        self._state.members_changed(everyone)
        rows = [self._info(member) for member in everyone.values()]
        where = {row.id: addresses.parse_address(row.address) for row in rows}
        self._transfers.set_members(members_of(rows), where)

    def _linked(self, node: int, link: int) -> None:
        self._compute.linked(node, link)
        self._scatter_service.linked(node, link)
        self._state.linked(node, link, self._members.peers[link].role)

    def _unlinked(self, link: int, node: int) -> None:
        self._compute.unlinked(link, node)
        self._scatter_service.unlinked(link, node)
        self._joblist.unlinked(link)
        self._state.unlinked(link)

    def _unreachable(self, node: int) -> None:
        self._compute.unreachable(node)
        self._scatter_service.unreachable(node)

    # ---- the end ----

    def _leave(self) -> None:
        self._hand_back()
        self._runtime.hub.flush()
        self._members.leave()
        self._close_services()
        self._runtime.stop()

    def _hand_back(self) -> None:
        self._scatter_service.hand_back()
        self._compute.hand_back()

    def _close_services(self) -> None:
        for lane in self._lanes:
            lane.close()
        self._store.close()

    def _fail(self, error: BaseException) -> None:
        logger.error("%s", error)
        self._hand_back()
        self._close_services()
        self._runtime.stop(error)


def beacon_sockets(host: str, port: int | None) -> tuple[Address, Address] | None:
    """(where beacons are heard, where they are sent) for a node bound to `host`."""
    if port is None:
        return None
    broadcast = addresses.ip_number(addresses.broadcast_of(host))
    heard = broadcast if broadcast >> 24 == 127 else 0
    return (heard, port), (broadcast, port)


if __name__ == "__main__":
    from velum.cli import node_main

    sys.exit(node_main())
