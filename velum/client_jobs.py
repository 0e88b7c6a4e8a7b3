"""The scatters that a client follows through the node it is attached to.

Owns: which handle hears which answers, and that a job is asked for again at the next node when one
is lost. Refuses to know: how nodes are found, and what becomes of jobs. A job that was submitted
here is submitted again, with the same id, so that a mesh that has never heard of it starts it, and
any other one goes on with it. One that is only followed is asked for by its id.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from velum import _core, frames, wasm
from velum.errors import VelumError, from_core
from velum.policy.job import VALUES, Ask, Failure, Spec, record_of
from velum.runtime import Runtime, now_ms

if TYPE_CHECKING:
    from velum.scatterjob import ScatterJob

Frame = tuple[int, int, bytes]
"""Type, correlation and payload."""


@dataclass(slots=True)
class _Followed:
    """A job that somebody holds. `module` is pinned in the hub as long as the job may have to be
    submitted again; None: it is only followed."""

    job: ScatterJob
    module: wasm.Module | None


class ClientJobs:
    """All but `submit`, `follow` and `ask` runs in the loop's thread."""

    def __init__(
        self, runtime: Runtime, number: Callable[[], int], pump: Callable[[], None]
    ) -> None:
        """number() draws a correlation; pump() calls `send` when there is a link, and again."""
        self._runtime = runtime
        self._hub = runtime.hub
        self._number = number
        self._pump = pump
        self._followed: dict[int, _Followed] = {}
        self._unsent: list[Frame] = []
        self._closed: VelumError | None = None
        self.heard_at = 0
        """When the node last told of a job, in the loop's milliseconds."""
        runtime.on_frame(frames.SCATTER, self._on_spec)
        runtime.on_frame(frames.JOB, self._on_record)
        runtime.on_frame(frames.SLICES, self._on_slices)

    def __len__(self) -> int:
        """How many are followed."""
        return len(self._followed)

    # ---- from any thread ----

    def submit(self, job: ScatterJob, module: wasm.Module) -> None:
        """Submits a new job and follows it."""
        self._runtime.call_soon(self._take, job, module)

    def follow(self, job: ScatterJob) -> None:
        """Follows a job by its id; again, if it is followed and shall now tell of its values."""
        self._runtime.call_soon(self._take, job, None)

    def ask(self, job_id: int, ask: Ask) -> None:
        """Asks for a job's end, or for its resumption."""
        self._runtime.call_soon(self._ask, job_id, ask)

    # ---- in the loop ----

    def _take(self, job: ScatterJob, module: wasm.Module | None) -> None:
        if self._closed is not None:
            job.fail(self._closed)
            return
        for correlation, known in self._followed.items():
            if known.job is job:
                self._unsent.append((frames.JOB_ASK, correlation, _watch(job)))
                self._pump()
                return
        if module is not None:
            try:
                pin(self._hub, module)
            except _core.CoreError as error:
                job.fail(from_core(error))
                return
        correlation = self._number()
        self._followed[correlation] = _Followed(job, module)
        self.heard_at = now_ms()
        self._unsent.append(self._opening(correlation))
        self._pump()

    def _opening(self, correlation: int) -> Frame:
        """What makes a node tell of the job."""
        followed = self._followed[correlation]
        job = followed.job
        if followed.module is None or job.spec is None:
            return (frames.JOB_ASK, correlation, _watch(job))
        flags = job.spec.flags | (VALUES if job.wants_values else 0)
        spec = _core.encode_scatter(job.spec._replace(flags=flags))
        return (frames.SCATTER, correlation, spec)

    def _ask(self, job_id: int, ask: Ask) -> None:
        payload = _core.encode_job_ask(job_id, ask)
        self._unsent.append((frames.JOB_ASK, self._number(), payload))
        self._pump()

    def send(self, link: int) -> bool:
        """Sends what waits; False when the link takes no more now."""
        for sent, (kind, correlation, payload) in enumerate(self._unsent):
            if not self._hub.send(link, kind, correlation, payload):
                del self._unsent[:sent]
                return False
        self._unsent.clear()
        return True

    def lost(self) -> None:
        """The node is gone: the next one has to be asked for everything."""
        asks = [frame for frame in self._unsent if frame[1] not in self._followed]
        self._unsent = asks + [self._opening(correlation) for correlation in self._followed]

    def fail(self, correlation: int, error: VelumError) -> bool:
        """An ERROR came; True if it was for a job. From a node that leaves it is none: the link
        ends, and the next node is asked."""
        followed = self._followed.get(correlation)
        if followed is not None and error.name != "LEAVING":
            self._drop(correlation)
            followed.job.fail(error)
        return followed is not None

    def fail_all(self, error: VelumError) -> None:
        """No node can be reached: nothing more will be heard. The jobs go on in the mesh."""
        self._unsent.clear()
        for correlation, followed in list(self._followed.items()):
            self._drop(correlation)
            followed.job.fail(error)

    def close(self, error: VelumError) -> None:
        """The same, for ever."""
        self._closed = error
        self.fail_all(error)

    def _drop(self, correlation: int) -> None:
        module = self._followed.pop(correlation).module
        if module is not None:
            self._hub.module_unpin(module.hash)

    # ---- what is heard ----

    def _on_spec(self, _link: int, correlation: int, body: tuple[Any, ...]) -> None:
        followed = self._followed.get(correlation)
        if followed is not None:
            self.heard_at = now_ms()
            followed.job.heard_spec(Spec._make(body))

    def _on_record(self, _link: int, correlation: int, body: tuple[Any, ...]) -> None:
        followed = self._followed.get(correlation)
        if followed is not None:
            self.heard_at = now_ms()
            followed.job.heard(record_of(body))
            self._drop_if_over(correlation, followed)

    def _on_slices(self, _link: int, correlation: int, body: tuple[Any, ...]) -> None:
        followed = self._followed.get(correlation)
        job, _flags, _busy_us, runs, failures, _payload = body
        if followed is not None and followed.job.number == job:
            self.heard_at = now_ms()
            followed.job.heard_slices(runs, [Failure(*failure) for failure in failures])
            self._drop_if_over(correlation, followed)

    def _drop_if_over(self, correlation: int, followed: _Followed) -> None:
        if followed.job.over:
            self._drop(correlation)


def _watch(job: ScatterJob) -> bytes:
    return _core.encode_job_ask(job.number, Ask.WATCH, VALUES if job.wants_values else 0)


def pin(hub: _core.Hub, module: wasm.Module) -> None:
    """Keeps a module where nodes fetch it from, until it is unpinned. Raises CoreError."""
    if not hub.module_pin(module.hash):
        hub.module_add(module.bytes)
        hub.module_pin(module.hash)
