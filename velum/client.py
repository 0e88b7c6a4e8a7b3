"""A program that is no member but uses the mesh through one: `velum.connect()`.

Owns finding a node, staying attached to some node while there is one, and the tasks under way;
scatters are in `client_jobs.py`, the state in `client_kv.py`. Refuses to know who runs them: the
node it is attached to schedules. When that node dies, the client attaches to another it has heard
of and sends again what was not answered.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from velum import _core, addresses, frames
from velum.addresses import Address
from velum.api import Mesh, NodeInfo, Work
from velum.client_jobs import ClientJobs, pin
from velum.errors import VelumError, code_of, error_from, from_core
from velum.policy import types
from velum.runtime import Runtime, now_ms

if TYPE_CHECKING:
    from velum import wasm
    from velum.client_files import ClientFiles
    from velum.client_kv import ClientKv
    from velum.files import Files
    from velum.kv import Kv
    from velum.policy.job import Ask
    from velum.scatterjob import ScatterJob

RETRY_MS = 100  # between attempts to attach
FULL_MS = 2  # between attempts to push what a full queue did not take
LEARN_SOON_MS = 50  # after a member was not reached: by then the others have noticed
LEARN_BUSY_MS = 1000  # the same while files are put or got: whoever is stopped is to be passed by
DOUBTED_MS = 250  # while one is suspected: it is soon known what has become of it
LEARN_MS = 5000  # between two questions who is there: whoever joins may be needed one day
# A node tells of the scatters that are followed four times a second. When it has not for so long,
# it is asked who is there; when it says nothing for SILENT_MS after that, it is turned away from.
# Links find silence out by themselves, but later: what a busy node costs a task, it does not cost
# a job.
QUIET_MS = 1200
SILENT_MS = 1500
LINKS_MAX = 256  # most are for files: one to each member that has chunks
RESENDS_MAX = 3  # a task that lost its link more often fails: it may be what kills the nodes
MODULE_BYTES = 512 << 20  # what a client may have under way in modules


@dataclass
class Sent:
    """A task under way. `link` is 0 while it waits for one."""

    __slots__ = ("deaths", "link", "losses", "work")

    work: Work
    link: int
    losses: int
    deaths: int  # of workers, told of a task that this side has placed itself


class Client(Mesh):
    """A mesh as seen through one of its nodes. Made by `connect`; a context manager."""

    def __init__(self, found: list[Address], timeout: float) -> None:
        """Attaches to the first that answers. Raises PeerLost when none does in `timeout` s."""
        self._hub = _core.Hub(links_max=LINKS_MAX, module_bytes=MODULE_BYTES)
        self._hub.identity(role=types.CLIENT, version=f"velum {_core.C_VERSION}".encode())
        self._known: list[Address] = list(found)
        self._timeout_ms = round(timeout * 1000)
        self._home = 0
        self._home_address: Address = found[0]
        self._links: dict[Address, int] = {}
        self._open: set[int] = set()
        self._why = ""
        self._next = 0
        self._sent: dict[int, Sent] = {}
        self._waiting: deque[int] = deque()
        self._pinned: dict[int, Address] = {}
        self._questions: dict[int, Future[bytes]] = {}
        self._give_up: int | None = None
        self._retry: int | None = None
        self._learn_at: int | None = None
        self._learn_begun = 0  # when it last asked
        self._asked_at: int | None = None  # when the open question who is there was asked
        self._closed = False
        self._attached = threading.Event()
        self._runtime = Runtime(self._hub, "velum client")
        self._scatters = ClientJobs(self._runtime, self._number, self._push)
        self._files: ClientFiles | None = None
        self._kv: ClientKv | None = None
        self._making = threading.Lock()  # of these two
        self._runtime.unfinished = self._unfinished
        self._runtime.at_end(self._ended)
        self._runtime.on_event(_core.OPENED, self._on_opened)
        self._runtime.on_event(_core.CLOSED, self._on_closed)
        self._runtime.on_event(_core.RESULTS, self._on_results)
        self._runtime.on_event(_core.NAMED, self._on_named)
        self._runtime.on_frame(frames.ERROR, self._on_error)
        self._runtime.on_frame(frames.PROGRESS, lambda *_: None)
        self._runtime.on_frame(frames.HEALTH, lambda *_: None)
        self._runtime.on_frame(frames.ANSWER, self._on_answer)
        self._runtime.services.append(self)
        self._runtime.call_soon(self._attach)
        self._runtime.start()
        self._attached.wait(timeout + 1)
        if not self._home:
            self.close()
            where = ", ".join(addresses.address_text(a) for a in found)
            raise error_from(
                code_of("UNREACHABLE"),
                f"no velum node answers at {where}{self._why}; start one with `velum node 1`",
            )

    # ---- the face ----

    @property
    def address(self) -> str:
        """The node it is attached to, as host:port."""
        return addresses.address_text(self._home_address)

    @property
    def closed(self) -> bool:
        """Whether it was closed, or has failed."""
        return self._closed

    @property
    def files(self) -> Files:
        """The files in the RAM of the nodes."""
        with self._making:
            if self._files is None:
                from velum.client_files import ClientFiles  # here: most programs never ask for it

                rows = self.nodes()
                lost = partial(self._learn_soon, LEARN_SOON_MS)
                self._files = ClientFiles(self._runtime, rows, lost, self._raise_if_closed)
        return self._files.files

    @property
    def kv(self) -> Kv:
        """The state that every node holds, as the attached node has it."""
        with self._making:
            if self._kv is None:
                from velum.client_kv import ClientKv  # here: most programs never ask for it

                self._kv = ClientKv(
                    self._runtime, self._number, self._push, self._ask, self._raise_if_closed
                )
        return self._kv.kv

    def _unfinished(self) -> int:
        """Answers that somebody waits for."""
        state = 0 if self._kv is None else len(self._kv)
        return len(self._sent) + len(self._scatters) + state

    def _raise_if_closed(self) -> None:
        if self._closed:
            raise self._closed_error()

    def nodes(self) -> list[NodeInfo]:
        """Every member the attached node knows, by id."""
        rows = [NodeInfo(**row) for row in json.loads(self._ask("nodes"))]
        self._remember(rows)
        return rows

    def status(self) -> dict[str, Any]:
        """The attached node's state."""
        return dict(json.loads(self._ask("status")))

    def close(self) -> None:
        """Detaches; tasks that are not done fail with CLOSED. Scatters go on in the mesh, but their
        handles fail too: `job` follows them again."""
        if self._closed:
            return
        self._closed = True
        if self._files is not None and not self._runtime.stopped.is_set():
            self._files.flush()
        self._runtime.stop()
        self._runtime.join(5)
        self._fail_all(self._closed_error())

    def _ended(self) -> None:
        """The loop has ended: in order, or because it failed."""
        self._closed = True
        self._attached.set()
        why = self._runtime.failure
        error = error_from(code_of("CLOSED"), f"the client failed: {why}") if why else None
        self._fail_all(error or self._closed_error())

    @staticmethod
    def _closed_error() -> VelumError:
        return error_from(code_of("CLOSED"), "the client was closed")

    def _submit(self, work: Work) -> None:
        self._submit_many([work])

    def _submit_many(self, works: Sequence[Work]) -> None:
        for work in works:
            work.future.driven_by(self._runtime.drive)
            if self._closed:
                work.future.fail(self._closed_error())
        if not self._closed:
            self._runtime.call_soon(self._take, works)

    def _scatter(self, job: ScatterJob, module: wasm.Module) -> None:
        if self._is_open_for(job):
            self._scatters.submit(job, module)

    def _follow(self, job: ScatterJob) -> None:
        if self._is_open_for(job):
            self._scatters.follow(job)

    def _is_open_for(self, job: ScatterJob) -> bool:
        job.driven_by(self._runtime.drive)
        if self._closed:
            job.fail(self._closed_error())
        return not self._closed

    def _ask_job(self, job_id: int, ask: Ask) -> None:
        self._scatters.ask(job_id, ask)

    def _jobs(self) -> list[dict[str, Any]]:
        return list(json.loads(self._ask("jobs")))

    def _ask(self, topic: str) -> bytes:
        answer: Future[bytes] = Future()
        self._runtime.call_soon(self._question, topic, answer)
        try:
            return answer.result(self._timeout_ms / 1000)
        except FutureTimeout:
            raise error_from(
                code_of("TIMEOUT"), f"node at {self.address} did not answer `{topic}` in time"
            ) from None

    # ---- in the loop: attaching ----

    def next_deadline(self) -> int | None:
        """When the loop shall call `on_time`, in its milliseconds."""
        times = (self._retry, self._learn_due(), self._doubt_at())
        return min((t for t in times if t is not None), default=None)

    def on_time(self, now: int) -> None:
        """Tries again to attach, or to send what waits; asks who is there."""
        if self._retry is not None and now >= self._retry:
            self._retry = None
            if self._home:
                self._pump()
            else:
                self._attach()
        doubt_at = self._doubt_at()
        if doubt_at is not None and now >= doubt_at and self._asked_at is not None:
            self._turn_away()
            return
        dues = (doubt_at, self._learn_due())
        if now >= min((due for due in dues if due is not None), default=now + 1):
            self._learn()

    def _learn_due(self) -> int | None:
        """When it asks again who is there."""
        if self._learn_at is None or self._files is None or not self._files.transfers.runs:
            return self._learn_at
        return min(self._learn_at, self._learn_begun + LEARN_BUSY_MS)

    def _doubt_at(self) -> int | None:
        """When a node that says no more of scatters, or does not answer for the state, is asked for
        a sign of life; if it was asked who is there, when it is turned away from."""
        asks = len(self._scatters) or self._files is not None or self._kv is not None
        if not self._home or not asks:
            return None
        if self._asked_at is not None:
            return max(self._scatters.heard_at, self._asked_at) + SILENT_MS
        quiet_since = None if self._kv is None else self._kv.quiet_since()
        if quiet_since is not None:
            return max(quiet_since, self._learn_begun) + QUIET_MS
        return self._scatters.heard_at + QUIET_MS if len(self._scatters) else None

    def _attach(self) -> None:
        now = now_ms()
        if self._give_up is None:
            self._give_up = now + self._timeout_ms
        if now >= self._give_up:
            self._give_up = None
            self._attached.set()
            self._fail_all(
                error_from(code_of("UNREACHABLE"), f"no node of the mesh answers{self._why}")
            )
            return
        if self._open:
            self._settle(min(self._open))
            return
        for address in self._known:
            self._dial(address)
        self._retry = min(now + RETRY_MS, self._give_up)

    def _dial(self, address: Address) -> None:
        if address in self._links:
            return
        try:
            self._links[address] = self._hub.dial(address)
        except _core.CoreError as error:
            self._why = f" ({error})"

    def _settle(self, link: int) -> None:
        """From now on the node at this link gets the tasks."""
        self._home = link
        self._home_address = next(a for a, known in self._links.items() if known == link)
        self._give_up = self._retry = None
        self._attached.set()
        self._learn()
        self._pump()

    def _on_opened(self, link: int, _token: int, *_: object) -> None:
        if self._files is not None and self._files.transfers.links.on_opened(link):
            return
        self._open.add(link)
        if self._home:
            self._pump()
        else:
            self._settle(link)

    def _on_closed(
        self, link: int, _token: int, code: int, _was_open: bool, _id: int, text: str
    ) -> None:
        if self._files is not None and self._files.transfers.on_closed(link, code, text):
            return
        self._open.discard(link)
        for address in [a for a, known in self._links.items() if known == link]:
            del self._links[address]
        self._why = f" ({text or error_from(code)})"
        if link == self._home:
            self._home = 0
            self._scatters.lost()
            if self._kv is not None:
                self._kv.lost()
            for question in self._questions.values():
                question.set_exception(error_from(code_of("CLOSED"), "the node went away"))
            self._questions.clear()
            self._retry = now_ms()
        for correlation, sent in list(self._sent.items()):
            if sent.link == link:
                self._lost(correlation, sent)
        for correlation in list(self._waiting):
            pinned = self._pinned.get(correlation)
            if pinned is not None and pinned not in self._links:
                self._fail(correlation, error_from(code_of("UNREACHABLE"), self._why.strip(" ()")))

    def _lost(self, correlation: int, sent: Sent) -> None:
        sent.losses += 1
        sent.link = 0
        if sent.work.node is not None or sent.losses > RESENDS_MAX:
            self._fail(
                correlation,
                error_from(code_of("LOST"), f"the task was lost with its node {sent.losses} times"),
            )
        else:
            self._waiting.append(correlation)

    def _turn_away(self) -> None:
        """The node is stopped, or cut off: any other can tell of the scatters, and who is there. A
        node that was cut off will say for a while that nobody is."""
        text = "the node is silent"
        self._hub.drop(self._home, code_of("TIMEOUT"), text)
        self._on_closed(self._home, 0, code_of("TIMEOUT"), True, 0, text)

    def _learn(self) -> None:
        """Asks who else could take the tasks, and again every now and then."""
        now = now_ms()
        self._learn_begun = now
        self._learn_at = now + LEARN_MS if self._home else None
        if self._asked_at is None:
            self._asked_at = now
        answer: Future[bytes] = Future()
        answer.add_done_callback(self._learned)
        self._question("nodes", answer)

    def _learned(self, answer: Future[bytes]) -> None:
        self._asked_at = None
        self._scatters.heard_at = now_ms()
        if answer.exception() is None:
            rows = [NodeInfo(**row) for row in json.loads(answer.result())]
            self._remember(rows)
            if self._files is not None:
                self._files.learned(rows)
            if any(row.state == "suspect" for row in rows):
                self._learn_soon(DOUBTED_MS)

    def _learn_soon(self, wait_ms: int) -> None:
        """Something has happened to a member: perhaps it is none any more."""
        if self._home and self._learn_at is not None:
            self._learn_at = min(self._learn_at, now_ms() + wait_ms)

    def _remember(self, rows: list[NodeInfo]) -> None:
        alive = [
            addresses.parse_address(row.address)
            for row in rows
            if row.state == "alive" and row.role == "node"
        ]
        self._known = [self._home_address, *(a for a in alive if a != self._home_address)]

    # ---- in the loop: tasks ----

    def _number(self) -> int:
        """A correlation that was never used."""
        self._next += 1
        return self._next

    def _take(self, works: Sequence[Work]) -> None:
        for work in works:
            if work.module is not None:
                try:
                    pin(self._hub, work.module)
                except _core.CoreError as error:
                    work.future.fail(from_core(error))
                    continue
            correlation = self._number()
            work.future.on_cancel(self._cancel_soon, correlation)
            self._sent[correlation] = Sent(work, 0, 0, 0)
            if work.node is None:
                self._waiting.append(correlation)
            else:
                self._find(correlation, work.node)
        self._push()

    def _push(self) -> None:
        """Sends what waits; looks for a node again if it had given up."""
        self._pump()
        if not self._home and self._give_up is None:
            self._attach()

    def _find(self, correlation: int, node: int) -> None:
        """A task for one node goes straight there: asks where it is, then dials."""
        where: Future[bytes] = Future()

        def found(answer: Future[bytes]) -> None:
            if answer.exception() is not None:
                self._fail(correlation, error_from(code_of("UNREACHABLE"), "the node went away"))
                return
            rows = [NodeInfo(**row) for row in json.loads(answer.result())]
            row = next((r for r in rows if r.id == node and r.state == "alive"), None)
            if row is None:
                have = ", ".join(str(r.id) for r in rows if r.state == "alive")
                self._fail(
                    correlation,
                    error_from(code_of("NO_WORKER"), f"no node {node}; alive are: {have}"),
                )
                return
            sent = self._sent.get(correlation)
            if sent is not None:
                sent.work.payload = _core.placed(sent.work.payload)
                self._direct(correlation, addresses.parse_address(row.address))

        where.add_done_callback(found)
        self._question("nodes", where)

    def _direct(self, correlation: int, address: Address) -> None:
        self._pinned[correlation] = address
        self._dial(address)
        self._waiting.append(correlation)
        self._pump()

    def _link_for(self, correlation: int) -> int:
        address = self._pinned.get(correlation)
        if address is None:
            return self._home
        link = self._links.get(address, 0)
        return link if link in self._open else 0

    def _pump(self) -> None:
        if self._home and not self._scatters.send(self._home):
            self._retry = now_ms() + FULL_MS
            return
        if self._home and self._kv is not None and not self._kv.send(self._home):
            self._retry = now_ms() + FULL_MS
            return
        for _ in range(len(self._waiting)):
            correlation = self._waiting.popleft()
            sent = self._sent.get(correlation)
            if sent is None:
                continue
            link = self._link_for(correlation)
            if link and self._hub.send(link, sent.work.frame, correlation, sent.work.payload):
                sent.link = link
                continue
            self._waiting.append(correlation)
            if link:
                self._retry = now_ms() + FULL_MS
                return

    def _done(self, correlation: int) -> Work | None:
        sent = self._sent.pop(correlation, None)
        self._pinned.pop(correlation, None)
        if sent is None:
            return None
        if sent.work.module is not None:
            self._hub.module_unpin(sent.work.module.hash)
        return sent.work

    def _fail(self, correlation: int, error: VelumError) -> None:
        work = self._done(correlation)
        if work is not None:
            work.future.fail(error)

    def _fail_all(self, error: VelumError) -> None:
        for sent in list(self._sent.values()):
            sent.work.future.fail(error)
        self._sent.clear()
        self._waiting.clear()
        self._pinned.clear()
        for question in self._questions.values():
            question.set_exception(error)
        self._questions.clear()
        if self._kv is not None:
            self._kv.fail_all(error, self._closed)
        if self._closed:
            self._scatters.close(error)
        else:
            self._scatters.fail_all(error)

    def _cancel_soon(self, correlation: int) -> None:
        """What a future's `cancel` calls, in any thread."""
        self._runtime.call_soon(self._cancel, correlation)

    def _cancel(self, correlation: int) -> None:
        sent = self._sent.get(correlation)
        if sent is not None and sent.link:
            self._hub.send_cancel(sent.link, correlation, code_of("CANCELLED"))
        self._done(correlation)

    def _on_results(self, _link: int, results: list[Any], _health: object) -> None:
        for correlation, node, run_us, value, _payload in results:
            work = self._done(correlation)
            if work is not None:
                work.future.settle(node, run_us, value)

    def _on_named(self, link: int, named: list[tuple[int, Any]]) -> None:
        if self._files is not None:
            self._files.transfers.on_named(link, named)

    def _on_error(self, link: int, correlation: int, body: tuple[int, int, int, str]) -> None:
        if self._files is not None and self._files.transfers.on_error(link, correlation, body):
            return
        code, node, deaths, text = body
        question = self._questions.pop(correlation, None)
        if question is not None:
            question.set_exception(error_from(code, text, node))
        elif self._scatters.fail(correlation, error_from(code, text, node)):
            pass
        elif self._kv is not None and self._kv.fail(correlation, error_from(code, text, node)):
            pass
        elif correlation in self._pinned and code == code_of("WORKER_DIED"):
            self._killed(correlation, node, max(1, deaths))
        else:
            self._fail(correlation, error_from(code, text, node))

    def _killed(self, correlation: int, node: int, deaths: int) -> None:
        """A task placed from here has killed its worker: it is sent again, but not for ever."""
        from velum.policy.scheduler import DEATHS_MAX

        sent = self._sent[correlation]
        sent.deaths += deaths
        if sent.deaths < DEATHS_MAX:
            sent.link = 0
            self._waiting.append(correlation)
            self._pump()
            return
        text = f"task killed {sent.deaths} workers and is refused as poison"
        self._fail(correlation, error_from(code_of("POISON"), text, node))

    def _question(self, topic: str, answer: Future[bytes]) -> None:
        correlation = self._number()
        if not self._home or not self._hub.send_query(self._home, correlation, topic):
            answer.set_exception(error_from(code_of("UNREACHABLE"), "not attached to a node"))
            return
        self._questions[correlation] = answer

    def _on_answer(self, link: int, correlation: int, body: bytes) -> None:
        if self._files is not None and self._files.transfers.on_answer(link, correlation, body):
            return
        question = self._questions.pop(correlation, None)
        if question is not None:
            question.set_result(body)


def find_nodes(beacon_port: int = addresses.BEACON_PORT, timeout: float = 1.0) -> list[Address]:
    """Asks by a beacon on this machine's loopback network; addresses that answered, first first.

    Returns as soon as one has answered and 20 ms more have passed; empty when nobody did in time.
    """
    hub = _core.Hub(links_max=1)
    try:
        index, _ = hub.udp((addresses.ip_number(addresses.LOOPBACK), 0))
        asked = (types.BEACON, 0, 0, 0, 0, (0, 0), types.CLIENT, types.BEACON_ASK, None, ())
        to = (addresses.ip_number(addresses.broadcast_of(addresses.LOOPBACK)), beacon_port)
        found: list[Address] = []
        end = time.monotonic() + timeout
        ask_again = 0.0
        while (now := time.monotonic()) < end:
            if now >= ask_again and not found:
                hub.udp_send(index, to, asked)
                ask_again = now + 0.2
            for event in hub.poll(20_000):
                if event[0] == _core.DATAGRAM and event[3][0] == types.BEACON and event[3][2]:
                    ip, port = event[3][5]
                    address = (ip or event[2][0], port)
                    if address not in found:
                        found.append(address)
                        end = min(end, time.monotonic() + 0.02)
        return found
    finally:
        hub.close()


def connect(
    address: str | None = None,
    *,
    beacon_port: int = addresses.BEACON_PORT,
    timeout: float = 2.0,
) -> Client:
    """Attaches to a running node: the one at "host:port", or the first found on this machine.

    Raises PeerLost UNREACHABLE when there is none within `timeout` seconds.
    """
    if address is not None:
        return Client([addresses.parse_address(address)], timeout)
    found = find_nodes(beacon_port, timeout)
    if not found:
        raise error_from(
            code_of("UNREACHABLE"),
            f"no velum node found on this machine (asked on UDP port {beacon_port}); "
            "start one with `velum node 1`, or name one with --node HOST:PORT",
        )
    return Client(found, timeout)
