"""The state that this node holds with all others: the core's, joined to the loop and to peers.

Owns: requests and watches of this program, which link of a peer the state travels on, carrying out
what the policies say (`policy.kvsync`, `policy.kvcas`), and background work. Refuses to know: keys,
records and the log, which are the core's (`csrc/kv_node.h`): it answers other programs, pushes and
merges without this module.

**One link a peer.** Two nodes may have several links to each other, of which the state travels on
one, so that all that one says comes in order. The node with the smaller id chooses it, and keeps it
open; the other uses the one on which it is spoken to, and cuts one that is thereby out of use:
to the peer it is gone already.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from functools import reduce
from itertools import count
from operator import xor
from pathlib import Path
from typing import Any, Final

from velum import _core, addresses, frames, resp
from velum.addresses import Address
from velum.api import TIMEOUT_MS_MAX, TaskFuture
from velum.errors import code_of, error_from, from_core
from velum.kv import DURABILITIES, Kv
from velum.kvmembers import MembersFile
from velum.kvquorum import TALK as QUORUM_TALK
from velum.kvquorum import Quorum, is_quorum_cas, words_of
from velum.kvwatch import Watch
from velum.outbox import Outbox
from velum.policy import kvsync_io as io
from velum.policy import kvtalk, types
from velum.policy.kvsync import Sync
from velum.replies import Cut, Replies
from velum.resp import Reply
from velum.runtime import Runtime, now_ms

ROOM: Final = 1 << 30  # bytes of keys in memory unless told otherwise
RESP_CONNECTIONS_MAX: Final = 512  # redis-benchmark has 50; select() ends at 1024 handles
WATCHES: Final = RESP_CONNECTIONS_MAX + 8  # of the hub's loop: the port and the log have some too
TEND_MS: Final = 2  # between two pieces of background work while there is more
IDLE_MS: Final = 1000  # between two looks whether there is any
LOOK_MS: Final = 1000  # between two looks at links, and at what has come
LOOK_S: Final = 0.5  # after which who waits looks whether the loop still runs

_UNCERTAIN: Final = "too few members have said that it is written: it is, or it is not"

log = logging.getLogger("velum.kv")


@dataclass(frozen=True)
class KvOptions:
    """What a node is told of its state."""

    log: Path | None = None  # None: the state is in memory only
    durability: str = ""  # of writes that do not say; "": "log", without one "ram"
    resp: Address | None = None  # where the Redis protocol is served
    room: int = ROOM

    @property
    def durability_code(self) -> int:
        """As the core has it."""
        if self.log is None:
            return DURABILITIES.index("ram")
        return DURABILITIES.index(self.durability or "log")


class KvService:
    """One node's. Everything but what `velum.kv.Backend` says runs in the loop's thread."""

    def __init__(
        self,
        runtime: Runtime,
        me: int,
        options: KvOptions,
        replies: Replies,
        link_to: Callable[[int], int],
        cut: Cut,
    ) -> None:
        """`link_to` is the members', `cut` ends a link of any kind. Raises VelumError LOCKED,
        STATE_FULL, NO_SPACE, SYSTEM, NOT_FOUND, ADDRESS_IN_USE."""
        self._runtime = runtime
        self._hub = runtime.hub
        self._me = me
        self._options = options
        self._replies = replies
        self._link_to = link_to
        self._cut = cut
        self._file = MembersFile(options.log)
        self._tokens = count(1)
        self._waiting: dict[int, Callable[[int], object]] = {}  # by token: told what was reached
        self._watches: dict[int, Watch] = {}
        self._of_link: dict[int, int] = {}  # links to nodes: the node behind
        self._links: dict[int, int] = {}  # by node: the link that the state travels on
        self._wanted: set[int] = set()  # nodes that this one keeps a link to
        self._passed_over: dict[int, int] = {}  # by node: records passed over when a session began
        self._records_in = 0  # as last looked at
        self._tend_to = (0, 0)
        self._settled = 0
        self._tend_at = self._look_at = now_ms()
        self._outbox = Outbox(runtime, link_to, cut)
        roster = self._file.load(me)
        self._core = self._open()
        life = runtime.random.getrandbits(64)
        self._sync = Sync(roster, self._core, life, runtime.random, now_ms())
        self._quorum = Quorum(
            self._core,
            roster,
            runtime.random,
            lambda node, message: self._send(node, frames.KV_TALK, 0, kvtalk.encode(message)),
            lambda: self._sync.joined,
            self._when_synced,
        )
        self.resp_address = self._serve()
        self._save_members()
        self.kv = Kv(self)
        for frame, handler in (
            (frames.KV_DO, self._on_do),
            (frames.KV_TALK, self._on_talk),
            (frames.KV_SUMS, self._on_sums),
            (frames.KV_END, self._on_end),
        ):
            runtime.on_frame(frame, handler)
        runtime.on_event(_core.WAKE, self._on_wake)
        runtime.services.append(self)
        runtime.at_end(self._end)

    def _open(self) -> _core.Kv:
        options = self._options
        path = None if options.log is None else str(options.log)
        try:
            core = self._hub.open_kv(self._me, options.room, options.durability_code, path)
        except _core.CoreError as error:
            raise from_core(error) from None
        found = core.found
        if found["torn_bytes"]:
            log.warning("%s: the last %d bytes were torn, and cut off", path, found["torn_bytes"])
        if found["damaged"]:
            text = "%s: %d damaged lines passed over, the first at byte %d; peers may have them"
            log.warning(text, path, found["damaged"], found["first_damaged"])
        return core

    def _serve(self) -> Address | None:
        wanted = self._options.resp
        if wanted is None:
            return None
        try:
            return self._core.serve(wanted, RESP_CONNECTIONS_MAX)
        except _core.CoreError as error:
            where = addresses.address_text(wanted)
            raise error_from(
                error.code, f"cannot serve Redis's protocol at {where}: {error}"
            ) from None

    # ---- for callers: any thread ----

    def do(self, args: Sequence[bytes], durability: str, timeout: float) -> tuple[Reply, str]:
        """As `velum.kv.Backend` says."""
        code = DURABILITIES.index(durability)
        future = TaskFuture()
        future.driven_by(self._runtime.drive)
        if is_quorum_cas(args, code):
            self._runtime.call_soon(self._cas, args, future)
        else:
            timeout_ms = max(1, min(round(timeout * 1000), TIMEOUT_MS_MAX))
            words = (resp.request(args), code, timeout_ms, future)
            if self._runtime.at_once(self._do, *words) is None:
                self._runtime.call_soon(self._do, *words)
        reached, reply = self._outcome(future)
        return resp.reply(reply), DURABILITIES[reached]

    def watch(self, pattern: bytes, state: bool) -> Watch:
        """As `velum.kv.Backend` says."""
        watch = Watch(self._stop_soon, self.unix_ms, self._runtime.drive)
        self._runtime.call_soon(self._begin, watch, pattern, state)
        return watch

    def forget(self, node: int) -> bool:
        """As `velum.kv.Backend` says."""
        future = TaskFuture()
        self._runtime.call_soon(lambda: future.settle(0, 0, self.forgotten(node)))
        return bool(self._outcome(future))

    def unix_ms(self) -> int:
        """As `velum.kv.Backend` says."""
        return time.time_ns() // 1_000_000

    def _outcome(self, future: TaskFuture) -> Any:
        while True:
            try:
                return future.result(LOOK_S)
            except FutureTimeout:
                if self._runtime.stopped.is_set() and not future.done():
                    raise error_from(code_of("LEAVING"), "the node has stopped") from None

    # ---- requests and watches, in the loop ----

    def _do(self, request: bytes, code: int, timeout_ms: int, future: TaskFuture) -> bool:
        token = next(self._tokens)
        try:
            reply, reached, whole = self._core.do(request, token, code, timeout_ms)
        except _core.CoreError as error:
            future.fail(from_core(error))
            return True
        if whole:
            future.settle(0, 0, (reached, reply))
        else:
            self._waiting[token] = lambda reached: future.settle(0, 0, (reached, reply))
        return True

    def _cas(self, args: Sequence[bytes], future: TaskFuture) -> None:
        self._quorum.ask(
            args,
            lambda reached, reply: future.settle(0, 0, (reached, reply)),
            lambda: future.fail(error_from(code_of("UNCERTAIN"), _UNCERTAIN)),
        )

    def _on_do(self, link: int, correlation: int, body: tuple[int, int, bytes]) -> None:
        """A request that the core leaves to this module: a compare and set with a majority."""

        def told(reached: int, reply: bytes) -> None:
            payload = _core.encode_kv_done(reached, reply)
            self._outbox.send(link, frames.KV_DONE, correlation, payload)

        self._quorum.ask(
            words_of(body[2]),
            told,
            lambda: self._replies.error(link, correlation, code_of("UNCERTAIN"), _UNCERTAIN),
        )

    def _begin(self, watch: Watch, pattern: bytes, state: bool) -> None:
        number = next(self._tokens)
        try:
            self._core.watch(number, _core.KV_WATCH_STATE if state else 0, pattern)
        except _core.CoreError as error:
            watch.end(from_core(error))
        else:
            self._watches[number] = watch

    def _stop_soon(self, watch: Watch) -> None:
        self._runtime.call_soon(self._stop, watch)

    def _stop(self, watch: Watch) -> None:
        for number in [n for n, known in self._watches.items() if known is watch]:
            del self._watches[number]
            self._core.watch(number, _core.KV_WATCH_STOP, b"")

    def _on_wake(self) -> None:
        """The core has something to tell, perhaps."""
        while (done := self._core.next()) is not None:
            told = self._waiting.pop(done[0], None)
            if told is not None:
                told(done[1])
        while (news := self._core.changes()) is not None:
            watch = self._watches.get(news[0])
            if watch is not None:
                watch.feed(news[1])

    def _look_for_missed(self) -> None:
        while (node := self._core.missed()) is not None:
            self._sync_event(io.PushMissed(node))

    # ---- links ----

    def linked(self, node: int, link: int, role: int) -> None:
        """A link to a member is open."""
        if role != types.NODE:
            return
        self._of_link[link] = node
        if self._me < node and node not in self._links:
            self._use(node, link)

    def unlinked(self, link: int) -> None:
        """A link of any peer closed."""
        node = self._of_link.pop(link, None)
        self._outbox.closed(link)
        if node is None or self._links.get(node) != link:
            return
        del self._links[node]
        self._sync_event(io.LinkClosed(node))
        self._quorum.lost(node)
        other = next((link for link, peer in self._of_link.items() if peer == node), 0)
        if other and self._me < node:
            self._use(node, other)

    def _use(self, node: int, link: int) -> None:
        self._links[node] = link
        self._sync_event(io.LinkOpened(node))

    def members_changed(self, members: dict[int, types.Member]) -> None:
        """All members known, as they are now."""
        self._wanted = {
            node
            for node, member in members.items()
            if node > self._me and member.state == types.ALIVE and member.update.role == types.NODE
        }

    def _spoken_to(self, link: int) -> int:
        """The node behind a link that the state travels on; 0: it does not, what comes there is
        old."""
        node = self._of_link.get(link, 0)
        return node if node and self._links.get(node) == link else 0

    # ---- what peers say ----

    def _on_talk(self, link: int, _correlation: int, payload: bytes) -> None:
        node = self._of_link.get(link, 0)
        try:
            message = kvtalk.decode(payload)
        except ValueError as error:
            self._cut(link, code_of("PAYLOAD"), f"KV_TALK: {error}")
            return
        if not node:
            self._cut(link, code_of("UNEXPECTED"), "only nodes speak of the state's members")
            return
        if self._links.get(node) != link:
            if self._me < node:
                return
            before = self._links.get(node, 0)
            if before:
                self._cut(before, code_of("CLOSED"), "the peer goes on over another link")
            self._use(node, link)
        if not isinstance(message, QUORUM_TALK):
            self._sync_event(io.Heard(node, message))
        elif node in self._sync.joined:
            self._quorum.heard(node, message)

    def _on_sums(self, link: int, session: int, body: tuple[int, list[Any]]) -> None:
        node = self._spoken_to(link)
        if node:
            self._sync_event(io.SumsHeard(node, session, *body))

    def _on_end(self, link: int, session: int, body: tuple[int, bool]) -> None:
        node = self._spoken_to(link)
        if node:
            records, whole = body
            taken = self._core.figures()["passed_over"] == self._passed_over.get(node)
            self._sync_event(io.LeavesEnded(node, session, records, whole and taken))

    # ---- effects of the policy ----

    def _sync_event(self, event: io.Event) -> None:
        for effect in self._sync.handle(event, now_ms()):
            self._perform[type(effect)](self, effect)

    def _send(self, node: int, frame: int, correlation: int, payload: bytes) -> None:
        link = self._links.get(node)
        if link:
            self._outbox.send(link, frame, correlation, payload)

    def _talk(self, effect: io.Talk) -> None:
        if isinstance(effect.message, kvtalk.Begin):
            self._passed_over[effect.node] = self._core.figures()["passed_over"]
        self._send(effect.node, frames.KV_TALK, 0, kvtalk.encode(effect.message))

    def _save_members(self, _effect: io.SaveMembers | None = None) -> None:
        roster = self._sync.roster
        self._core.set_members(len(roster.members))
        try:
            self._file.save(roster)
        except OSError as error:
            log.error("the members of the state are not on disk: %s", error)

    def _join(self, effect: io.Join) -> None:
        self._core.join(self._links[effect.node], effect.node)

    def _part(self, effect: io.Part) -> None:
        link = self._links.get(effect.node)
        if link:
            self._core.part(link)
        if effect.ours:
            log.error(
                "this node's copy of the state was forgotten by the others (velum kv forget): they "
                "take nothing of it; move its log %s away to begin anew",
                self._options.log or "",
            )
        else:
            log.warning("node %d has a copy of the state that was forgotten", effect.node)

    def _offer(self, effect: io.Offer) -> None:
        self._core.offer(effect.node)

    def _credit(self, effect: io.Credit) -> None:
        self._core.credit(effect.node)

    def _ask_sums(self, effect: io.AskSums) -> None:
        payload = _core.encode_kv_ask(effect.level, effect.nodes)
        self._send(effect.node, frames.KV_ASK, effect.session, payload)

    def _ask_leaves(self, effect: io.AskLeaves) -> None:
        payload = _core.encode_kv_leaves(effect.leaves)
        self._send(effect.node, frames.KV_LEAVES, effect.session, payload)

    def _sync_log(self, effect: io.SyncLog) -> None:
        self._when_synced(
            lambda well: self._sync_event(io.Synced(effect.node, effect.session, well))
        )

    def _when_synced(self, told: Callable[[bool], object]) -> None:
        """Brings all that is merged to disk, then says whether that went well."""
        token = next(self._tokens)
        least = 0 if self._options.log is None else DURABILITIES.index("fsync")
        self._waiting[token] = lambda reached: told(reached >= least)
        self._core.sync(token)

    def _tend(self, effect: io.Tend) -> None:
        self._tend_to = (effect.settle_to, effect.drop_to)
        self._tend_at = now_ms()

    _perform: dict[type, Callable[[KvService, Any], None]] = {
        io.Talk: _talk,
        io.SaveMembers: _save_members,
        io.Join: _join,
        io.Part: _part,
        io.AskSums: _ask_sums,
        io.AskLeaves: _ask_leaves,
        io.SyncLog: _sync_log,
        io.Tend: _tend,
        io.Offer: _offer,
        io.Credit: _credit,
    }

    # ---- timers ----

    def next_deadline(self) -> int | None:
        """The nearest of the policies' and of the work here."""
        policies = (self._sync.next_deadline(), self._quorum.next_deadline())
        times = (*policies, self._tend_at, self._look_at)
        return min(time for time in times if time is not None)

    def on_time(self, now: int) -> None:
        """Tells the policies the time; does a piece of background work."""
        if now >= self._tend_at:
            self._tend_at = now + (TEND_MS if self._core.tend(*self._tend_to) else IDLE_MS)
            settled = self._core.settled()
            if settled > self._settled:
                self._settled = settled
                self._sync_event(io.Tended(settled))
        if now >= self._look_at:
            self._look_at = now + LOOK_MS
            self._look()
        self._sync_event(io.TimePassed())
        self._quorum.on_time(now)

    def _look(self) -> None:
        self._look_for_missed()
        for node in self._wanted - self._links.keys():
            self._link_to(node)
        if self._sync.pulling:
            records = self._core.figures()["records_in"]
            if records != self._records_in:
                self._records_in = records
                for node in list(self._links):
                    self._sync_event(io.Progressed(node))

    # ---- the rest ----

    def forgotten(self, node: int) -> bool:
        """Takes a node out of the members; False if it is none, or this one."""
        known = any(member.id == node for member in self._sync.roster.others)
        self._sync_event(io.ForgetAsked(node))
        return known

    def status(self) -> dict[str, Any]:
        """What this node has of the state, as plain data."""
        figures = self._core.figures()
        keys = figures.pop("keys")
        kept = None
        if self._options.log is not None:
            kept = {"path": str(self._options.log), **figures["log"], **figures["found"]}
        roster = self._sync.roster
        return {
            "keys": keys["keys"],
            "tombstones": keys["tombstones"],
            "settled": keys["settled"],
            "bytes": keys["bytes"],
            "room": keys["room"],
            "durability": DURABILITIES[self._options.durability_code],
            "members": sorted(member.id for member in roster.members),
            "forgotten": roster.is_out,
            "joined": sorted(self._sync.joined),
            "sum": f"{reduce(xor, self._core.sums(0, 0)):016x}",
            "sessions": self._sync.sessions,
            **{name: figures[name] for name in _COUNTS},
            "resp": None
            if self.resp_address is None
            else addresses.address_text(self.resp_address),
            "log": kept,
        }

    def _end(self) -> None:
        """The loop has ended."""
        for watch in self._watches.values():
            watch.end()


_COUNTS: Final = (
    "peers",
    "watches",
    "waiting",
    "commands",
    "records_in",
    "records_out",
    "missed",
    "passed_over",
    "refusing",
)
