"""The scatter service: jobs that this node coordinates, holds, works for, or has clients for.

Owns: who watches which job here, the frames that jobs travel in, which modules jobs keep. Refuses
to decide: who coordinates and who runs what is `policy/jobs.py`; which worker runs a lease that was
granted to this node is the lane of `executions.py`. Works by turning frames and the program's calls
into the policy's events and performing its effects. docs/scatter.md is the protocol.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from velum import _core, frames
from velum.errors import code_of, error_from
from velum.executions import Leases, Origin
from velum.journal import Journals, Restored
from velum.members import Members
from velum.modulestore import ModuleStore
from velum.outbox import Outbox
from velum.policy import jobs_io as policy
from velum.policy import types
from velum.policy.coordination import Held
from velum.policy.job import LEASE_BIT, VALUES, Ask, Failure, Run, Spec, record_of
from velum.policy.jobs import Jobs
from velum.replies import Replies
from velum.runtime import Runtime, now_ms
from velum.scatterjob import ScatterJob
from velum.wasm import Module

log = logging.getLogger("velum.scatter")

# Numbers of JOB_ASKs: neither lease tickets (LEASE_BIT) nor task tickets reach this bit.
ASK_BIT = 1 << 61
# A spec made within this time is new: whoever made it cannot have lost a node to it yet.
FRESH_MS = 1500


@dataclass(slots=True, eq=False)
class Watcher:
    """Who is told of a job: a client by link and correlation, or a handle of this program."""

    values: bool
    link: int = 0
    correlation: int = 0
    handle: ScatterJob | None = None
    begun: bool = False  # it has been told what the job is


class Scatter:
    """The service. Everything but `submit`, `follow` and `ask` runs in the loop's thread."""

    members: Members  # set by the node

    def __init__(
        self,
        runtime: Runtime,
        me: int,
        modules: ModuleStore,
        replies: Replies,
        leases: Leases,
        journals: Journals,
        outbox: Outbox,
    ) -> None:
        """`leases` runs what is granted to this node."""
        self._runtime = runtime
        self._hub = runtime.hub
        self._me = me
        self._modules = modules
        self._replies = replies
        self._leases = leases
        self._journals = journals
        journals.contents = self.contents
        self._outbox = outbox
        self._jobs = Jobs(me)
        self._watchers: dict[int, list[Watcher]] = {}
        self._pinned: dict[int, bytes] = {}  # job: hash of the module that is kept for it
        self._asked: dict[int, int] = {}  # number of a JOB_ASK: job
        self._usable: dict[int, tuple[int, int]] = {}  # member: slots, speed
        self._closed = False
        runtime.on_frame(frames.SCATTER, self._on_scatter)
        runtime.on_frame(frames.LEASE, self._on_lease)
        runtime.on_frame(frames.SLICES, self._on_slices)
        runtime.on_frame(frames.TRIM, self._on_trim)
        runtime.on_frame(frames.JOB, self._on_job)
        runtime.on_frame(frames.JOB_ASK, self._on_ask)
        runtime.services += [self, journals]
        runtime.at_end(self.hand_back)
        runtime.at_end(self.close)

    def start(self) -> None:
        """Takes up what the journals tell of; this node is a member to itself from now on."""
        for stored in self._journals.restore():
            self._restore(stored)
        self.health_heard(self._me, self.members.health)

    def _restore(self, stored: Restored) -> None:
        job = Spec._make(_core.decode_scatter(stored.spec))
        if stored.record is None:  # nobody had been told that it was begun
            self._journals.forget(job.job)
            return
        runs: list[Run] = []
        failures: list[Failure] = []
        for payload in stored.slices:
            _, _, _, more, failed = _core.decode_slices(payload)
            runs += more
            failures += [Failure(*failure) for failure in failed]
        record = record_of(_core.decode_job(stored.record))
        self._handle(policy.JobRestored(job, record, runs, failures))
        if stored.module is not None:
            self._modules.add(stored.module, job.hash)
            self._have_module(job.job, job.hash, 0)

    # ---- timers ----

    def next_deadline(self) -> int | None:
        """The policy's."""
        return None if self._closed else self._jobs.next_deadline()

    def on_time(self, now: int) -> None:
        """Gives the policy its time."""
        self._handle(policy.TimePassed())

    # ---- this program's jobs, from any thread ----

    def submit(self, job: ScatterJob, module: Module) -> None:
        """Starts a job of this program."""
        self._runtime.call_soon(self._submit, job, module)

    def follow(self, job: ScatterJob) -> None:
        """Tells the handle of a job, which may be anybody's."""
        self._runtime.call_soon(self._watch, job.number, Watcher(job.wants_values, handle=job))

    def ask(self, job: int, ask: Ask) -> None:
        """Cancels or resumes a job, which may be anybody's."""
        self._runtime.call_soon(self._act, job, ask)

    def _submit(self, job: ScatterJob, module: Module) -> None:
        spec = job.spec
        assert spec is not None
        watcher = Watcher(job.wants_values, handle=job)
        if self._closed:
            self._turn_away(watcher)
            return
        try:
            self._modules.add(module.bytes, spec.hash)
        except _core.CoreError as error:
            job.fail(error_from(error.code, str(error)))
            return
        self._keep_module(spec.job, spec.hash)
        self._add_watcher(spec.job, watcher)
        self._handle(policy.JobSubmitted(spec, fresh=True, values=watcher.values))

    def _watch(self, job: int, watcher: Watcher) -> None:
        if self._closed:
            self._turn_away(watcher)
            return
        self._add_watcher(job, watcher)
        self._handle(policy.WatchBegan(job, watcher.values))

    def _act(self, job: int, ask: int) -> None:
        wanted = policy.CancelRequested if ask == Ask.CANCEL else policy.ResumeRequested
        self._handle(wanted(job))

    # ---- watchers ----

    def _add_watcher(self, job: int, watcher: Watcher) -> None:
        """One watcher a handle, or a client's correlation: asked again, it replaces the old one."""
        known = self._watchers.setdefault(job, [])
        known[:] = [
            w
            for w in known
            if (w.link, w.correlation, w.handle)
            != (watcher.link, watcher.correlation, watcher.handle)
        ]
        known.append(watcher)
        held = self._jobs.get(job)
        if held is not None:
            self._begin_watcher(held, watcher)

    def _begin_watcher(self, job: Held, watcher: Watcher) -> None:
        """The first that it is told: what the job is, and what is known of it."""
        watcher.begun = True
        if watcher.handle is not None:
            watcher.handle.heard_spec(job.spec)
        else:
            payload = _core.encode_scatter(job.spec)
            self._outbox.send(watcher.link, frames.SCATTER, watcher.correlation, payload)
        if watcher.values:
            self._give_values(watcher, job.spec.job, *job.full_copy())

    def _give_values(
        self, watcher: Watcher, job: int, runs: list[Run], failures: list[Failure]
    ) -> None:
        if watcher.handle is not None:
            watcher.handle.heard_slices(runs, failures)
            return
        for payload in self._slices(job, runs, failures):
            self._outbox.send(watcher.link, frames.SLICES, watcher.correlation, payload)

    def _refuse_watcher(self, watcher: Watcher, code: int, text: str) -> None:
        if watcher.handle is not None:
            watcher.handle.fail(error_from(code, text))
        else:
            self._replies.error(watcher.link, watcher.correlation, code, text)

    def _turn_away(self, watcher: Watcher) -> None:
        """The service is closed: this node tells nobody of jobs any more."""
        self._refuse_watcher(watcher, code_of("LEAVING"), f"node {self._me} has stopped")

    @staticmethod
    def _slices(job: int, runs: list[Run], failures: list[Failure]) -> list[bytes]:
        return _core.encode_slices(job, runs, [(f.slice, f.code, f.text) for f in failures])

    # ---- frames ----

    def _peer(self, link: int) -> tuple[int, int]:
        """(role, id) of who is at a link; (0, 0) for nobody that may speak of jobs."""
        peer = self.members.peers.get(link)
        return (0, 0) if peer is None else (peer.role, peer.id)

    def _on_scatter(self, link: int, correlation: int, body: tuple[Any, ...]) -> None:
        spec = Spec(*body)
        role, node = self._peer(link)
        if role == types.NODE:
            self._handle(policy.SpecHeard(spec._replace(flags=spec.flags & ~VALUES), node))
        elif role:
            then = partial(self._have_submitted, link, correlation, spec)
            self._modules.need(spec.hash, link, then)

    def _have_submitted(self, link: int, correlation: int, spec: Spec, code: int) -> None:
        """A client's job, whose module has come."""
        if code:
            self._replies.error(link, correlation, code, "the job's module could not be had")
            return
        if link not in self.members.peers or self._closed:
            self._modules.release(spec.hash)
            return
        watcher = Watcher(bool(spec.flags & VALUES), link, correlation)
        spec = spec._replace(flags=spec.flags & ~VALUES)
        self._keep_module(spec.job, spec.hash)
        self._add_watcher(spec.job, watcher)
        age_ms = time.time_ns() // 1_000_000 - spec.created_ms
        fresh = abs(age_ms) <= FRESH_MS
        self._handle(policy.JobSubmitted(spec, fresh, watcher.values))

    def _on_lease(self, link: int, correlation: int, body: tuple[Any, ...]) -> None:
        _flags, _timeout_ms, hash, payload, job, _first, _count, priority = body
        role, _ = self._peer(link)
        if role != types.NODE or not correlation & LEASE_BIT:
            self._hub.drop(link, code_of("UNEXPECTED"), "a lease from somebody who grants none")
            return
        origin = Origin(link, correlation)
        self._leases.arrive(origin, hash, 0, payload, link, group=job, weight=priority)

    def _on_slices(self, link: int, correlation: int, body: tuple[Any, ...]) -> None:
        if self._leases.worker_slices(link, correlation, body):
            return
        role, node = self._peer(link)
        if role not in (types.NODE, types.LEAF):
            return
        if correlation & LEASE_BIT:
            self._reported(node, correlation, body)
        elif role == types.NODE:
            job, _, _, runs, failures, _ = body
            self._handle(policy.CopyHeard(job, node, runs, [Failure(*f) for f in failures]))

    def _reported(self, node: int, ticket: int, body: tuple[Any, ...]) -> None:
        job, flags, busy_us, runs, failed, _ = body
        failures = [Failure(*failure) for failure in failed]
        last = bool(flags & _core.SLICES_LAST)
        self._handle(policy.LeaseReported(node, ticket, job, runs, failures, busy_us, last))

    def _on_trim(self, link: int, correlation: int, end: int) -> None:
        self._leases.trim(Origin(link, correlation), end)

    def _on_job(self, link: int, _correlation: int, body: tuple[Any, ...]) -> None:
        role, node = self._peer(link)
        if role == types.NODE:
            self._handle(policy.RecordHeard(record_of(body), node))

    def _on_ask(self, link: int, correlation: int, body: tuple[int, int, int]) -> None:
        job, ask, flags = body
        role, node = self._peer(link)
        if ask == Ask.HOLD and role == types.NODE:
            if self._jobs.get(job) is None:
                self._replies.error(link, correlation, code_of("JOB_UNKNOWN"))
            self._handle(policy.HoldRequested(job, node))
        elif ask == Ask.WATCH and role in (types.CLIENT, types.LEAF):
            self._watch(job, Watcher(bool(flags & VALUES), link, correlation))
        elif ask in (Ask.CANCEL, Ask.RESUME) and role:
            self._act(job, ask)

    def on_error(self, link: int, correlation: int, body: tuple[int, int, int, str]) -> bool:
        """True if the ERROR was about a lease or a job."""
        if self._leases.worker_error(link, correlation, body):
            return True
        _, node = self._peer(link)
        code, _, deaths, text = body
        if node and correlation & LEASE_BIT:
            self._handle(policy.LeaseRefused(node, correlation, code, deaths, text))
        elif node and correlation & ASK_BIT:
            job = self._asked.get(correlation)
            if job is not None:
                self._handle(policy.JobUnknown(job, node))
        else:
            return False
        return True

    def on_cancel(self, link: int, correlation: int, code: int) -> bool:
        """True if the CANCEL was of a lease."""
        if correlation & LEASE_BIT:
            self._leases.cancel(Origin(link, correlation), code)
        return bool(correlation & LEASE_BIT)

    # ---- leases that run here ----

    def local_slices(self, ticket: int, body: tuple[Any, ...]) -> None:
        """A worker of this node reports of a lease that this node granted."""
        self._runtime.call_soon(self._reported, self._me, ticket, body)

    def local_failures(self, _results: Any, failures: Sequence[Any]) -> None:
        """Leases that this node granted to itself ended with errors."""
        for failed in failures:
            event = policy.LeaseRefused(
                self._me, failed.ticket, failed.code, failed.deaths, failed.text
            )
            self._runtime.call_soon(self._handle, event)

    # ---- effects ----

    def _handle(self, event: policy.Event) -> None:
        if self._closed:
            return
        for effect in self._jobs.handle(event, now_ms()):
            self._perform[type(effect)](self, effect)

    def _grant(self, effect: policy.Grant) -> None:
        spec = effect.spec
        payload = _core.encode_lease(spec, effect.first, effect.count, effect.careful)
        if effect.node == self._me:
            origin = Origin(0, effect.ticket)
            self._leases.arrive(
                origin, spec.hash, 0, payload, 0, group=spec.job, weight=spec.priority
            )
        else:
            self._outbox.send_to(effect.node, frames.LEASE, effect.ticket, payload)

    def _trim(self, effect: policy.Trim) -> None:
        if effect.node == self._me:
            self._leases.trim(Origin(0, effect.ticket), effect.end)
        else:
            payload = _core.encode_trim(effect.end)
            self._outbox.send_to(effect.node, frames.TRIM, effect.ticket, payload)

    def _revoke(self, effect: policy.Revoke) -> None:
        code = code_of("CANCELLED")
        if effect.node == self._me:
            self._leases.cancel(Origin(0, effect.ticket), code)
        else:
            payload = code.to_bytes(2, "little")
            self._outbox.send_to(effect.node, frames.CANCEL, effect.ticket, payload)

    def _send_spec(self, effect: policy.SendSpec) -> None:
        payload = _core.encode_scatter(effect.spec)
        self._outbox.send_to(effect.node, frames.SCATTER, 0, payload)

    def _send_copy(self, effect: policy.SendCopy) -> None:
        for payload in self._slices(effect.job, effect.runs, effect.failures):
            self._outbox.send_to(effect.node, frames.SLICES, 0, payload)

    def _send_record(self, effect: policy.SendRecord) -> None:
        payload = _core.encode_job(effect.record)
        self._outbox.send_to(effect.node, frames.JOB, 0, payload)

    def _send_ask(self, effect: policy.SendAsk) -> None:
        number = ASK_BIT | effect.job & (ASK_BIT - 1)
        self._asked[number] = effect.job
        payload = _core.encode_job_ask(effect.job, effect.ask, 0)
        self._outbox.send_to(effect.node, frames.JOB_ASK, number, payload)

    def _need_module(self, effect: policy.NeedModule) -> None:
        link = self.members.link_to(effect.node)
        if link and effect.job not in self._pinned:
            then = partial(self._have_module, effect.job, effect.hash)
            self._modules.need(effect.hash, link, then)

    def _have_module(self, job: int, hash: bytes, code: int) -> None:
        if code:
            return  # the policy asks again when it needs it
        if self._jobs.get(job) is None:
            self._modules.release(hash)
            return
        self._keep_module(job, hash)
        self._journal_module(job)
        self._handle(policy.ModuleHeld(job))

    def _keep_module(self, job: int, hash: bytes) -> None:
        """One pin a job, however often its module was got."""
        if job in self._pinned:
            self._modules.release(hash)
        else:
            self._pinned[job] = hash

    def _journal_module(self, job: int) -> None:
        if self._journals.open and job in self._pinned:
            self._journals.module(job, self._hub.module_bytes(self._pinned[job]))

    def _begin(self, effect: policy.Begin) -> None:
        job = effect.spec.job
        self._asked.pop(ASK_BIT | job & (ASK_BIT - 1), None)
        self._journals.begin(job, _core.encode_scatter(effect.spec))
        self._journal_module(job)
        held = self._jobs.get(job)
        assert held is not None
        for watcher in self._watchers.get(job, ()):
            if not watcher.begun:
                self._begin_watcher(held, watcher)

    def _keep(self, effect: policy.Keep) -> None:
        if self._journals.open:
            payloads = self._slices(effect.job, effect.runs, effect.failures)
            self._journals.slices(effect.job, payloads)
        for watcher in self._watchers.get(effect.job, ()):
            if watcher.values:
                self._give_values(watcher, effect.job, effect.runs, effect.failures)

    def _tell(self, effect: policy.Tell) -> None:
        record = effect.record
        watchers = self._watchers.get(record.job, ())
        clients = [w for w in watchers if w.handle is None]
        if clients or self._journals.open:
            payload = _core.encode_job(record)
            self._journals.record(record, payload)
            for client in clients:
                self._outbox.send(client.link, frames.JOB, client.correlation, payload)
        for watcher in watchers:
            if watcher.handle is not None:
                watcher.handle.heard(record)

    def _refuse(self, effect: policy.Refuse) -> None:
        self._asked.pop(ASK_BIT | effect.job & (ASK_BIT - 1), None)
        for watcher in self._watchers.pop(effect.job, ()):
            self._refuse_watcher(watcher, effect.code, effect.text)
        self._drop_module(effect.job)

    def _forget(self, effect: policy.Forget) -> None:
        self._watchers.pop(effect.job, None)
        self._journals.forget(effect.job)
        self._drop_module(effect.job)

    def _drop_module(self, job: int) -> None:
        hash = self._pinned.pop(job, None)
        if hash is not None:
            self._modules.release(hash)

    _perform: dict[type, Callable[[Scatter, Any], None]] = {
        policy.Grant: _grant,
        policy.Trim: _trim,
        policy.Revoke: _revoke,
        policy.SendSpec: _send_spec,
        policy.SendCopy: _send_copy,
        policy.SendRecord: _send_record,
        policy.SendAsk: _send_ask,
        policy.NeedModule: _need_module,
        policy.Begin: _begin,
        policy.Keep: _keep,
        policy.Tell: _tell,
        policy.Refuse: _refuse,
        policy.Forget: _forget,
    }

    # ---- members come and go ----

    def member_changed(self, member: types.Member) -> None:
        """The membership's word on a member."""
        if member.state == types.ALIVE:
            self.health_heard(member.id, member.health)
        else:
            self._lose(member.id, gone=member.state in (types.DEAD, types.LEFT))

    def health_heard(self, node: int, health: types.Health) -> None:
        """A member's fresh figures, this node's too."""
        figures = (health.slots, health.speed)
        member = self.members.policy.member(node)
        alive = node == self._me or (member is not None and member.state == types.ALIVE)
        if not alive or self._usable.get(node) == figures:
            return
        self._usable[node] = figures
        holds = member is None or member.update.role == types.NODE
        self._handle(policy.MemberUsable(node, health.slots, health.speed, holds))

    def linked(self, node: int, link: int) -> None:
        """A link to a member is open."""
        self._outbox.linked(node, link)

    def unreachable(self, node: int) -> None:
        """A member could not be dialled."""
        self._lose(node, gone=False)

    def unlinked(self, link: int, node: int) -> None:
        """A link closed: what was granted over it ends, what watched over it is gone."""
        self._outbox.closed(link)
        self._leases.origin_lost(link)
        for job, watchers in list(self._watchers.items()):
            watchers[:] = [w for w in watchers if w.link != link or w.handle is not None]
            if not watchers:
                del self._watchers[job]
        if node:
            self._lose(node, gone=False)

    def _lose(self, node: int, gone: bool) -> None:
        self._outbox.lost(node)
        if node == self._me or (self._usable.pop(node, None) is None and not gone):
            return
        self._handle(policy.MemberLost(node, gone))

    # ---- questions, the end ----

    def held(self) -> list[Held]:
        """Every job that this node has a copy of."""
        return self._jobs.held()

    def contents(self, job: int) -> tuple[bytes, bytes | None, list[bytes], bytes]:
        """What a journal of the job would hold if it were written now."""
        held = self._jobs.get(job)
        assert held is not None
        module = self._hub.module_bytes(self._pinned[job]) if job in self._pinned else None
        return (
            _core.encode_scatter(held.spec),
            module,
            self._slices(job, *held.full_copy()),
            _core.encode_job(held.record),
        )

    def status(self) -> dict[str, Any]:
        """Plain data for `velum status`."""
        return {
            "jobs_held": len(self._jobs.held()),
            "jobs_coordinated": self._jobs.coordinated,
            **self._leases.status(),
        }

    def hand_back(self) -> None:
        """The node leaves: holders get what they lack, so that one of them goes on at once."""
        if self._closed:
            return
        self._handle(policy.LeaveStarted())
        self._closed = True
        self._leases.hand_back()
        for watchers in self._watchers.values():
            for watcher in watchers:
                if watcher.handle is not None:
                    self._turn_away(watcher)
        self._watchers.clear()
        self._journals.close()

    def close(self) -> None:
        """Ends the workers."""
        self._leases.close()
