"""Modules that tasks on this node need.

Owns who waits for which module, and from whom it is pulled: whoever brings a task has its module,
so when one source fails or stalls, the next that brought a task with it is asked. The bytes are in
the core's cache, which pulls them part by part and checks the hash; here is only the pin that keeps
one in memory while tasks need it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from velum import _core
from velum.errors import code_of
from velum.replies import Cut
from velum.runtime import Runtime, now_ms

Then = Callable[[int], None]  # called with 0 when the module is pinned, else with an error code

# A source may keep others with the same module waiting so long; 64 MiB take less on a slow network.
STALL_MS = 10_000


@dataclass
class Pull:
    """A module on its way. The source is the link of the first that waits."""

    waiting: deque[tuple[int, Then]] = field(default_factory=deque)
    asked_ms: int = 0  # when the source was asked; 0 while the core has no room for the question

    @property
    def source(self) -> int:
        """The link that it is pulled from."""
        return self.waiting[0][0]

    @property
    def stalls_ms(self) -> int | None:
        """When its source is given up for another, None if there is no other."""
        others = any(link != self.source for link, _ in self.waiting)
        return self.asked_ms + STALL_MS if self.asked_ms and others else None


class ModuleStore:
    """The modules of one loop."""

    def __init__(self, runtime: Runtime, cut: Cut) -> None:
        """`cut` ends the link of a source that stalls."""
        self._runtime = runtime
        self._hub = runtime.hub
        self._cut = cut
        self._pulls: dict[bytes, Pull] = {}
        runtime.on_event(_core.MODULE, self._on_module)
        runtime.services.append(self)

    def add(self, module: bytes, hash: bytes) -> None:
        """Keeps and pins a module that is at hand. Raises CoreError TOO_LARGE, FULL, NOMEM."""
        if not self._hub.module_pin(hash):
            self._hub.module_add(module)
            self._hub.module_pin(hash)

    def need(self, hash: bytes, link: int, then: Then) -> None:
        """Pins a module, pulling it from `link` if it is not here; then calls `then`."""
        if self._hub.module_pin(hash):
            then(0)
            return
        pull = self._pulls.get(hash)
        if pull is not None:
            pull.waiting.append((link, then))
            return
        self._pulls[hash] = pull = Pull()
        pull.waiting.append((link, then))
        self._ask(hash, pull)

    def release(self, hash: bytes) -> None:
        """Ends one pin."""
        self._hub.module_unpin(hash)

    # ---- timers ----

    def next_deadline(self) -> int | None:
        """When a source is given up."""
        if not self._pulls:
            return None
        times = [pull.stalls_ms for pull in self._pulls.values()]
        return min((time for time in times if time is not None), default=None)

    def on_time(self, now: int) -> None:
        """Cuts the links of sources that keep others waiting; their pulls then fail."""
        for pull in list(self._pulls.values()):
            if pull.stalls_ms is not None and now >= pull.stalls_ms:
                self._cut(pull.source, code_of("TIMEOUT"), "it does not send the module it brought")
                pull.asked_ms = now

    # ---- pulling ----

    def _ask(self, hash: bytes, pull: Pull) -> None:
        try:
            self._hub.module_fetch(pull.source, hash)
            pull.asked_ms = now_ms()
        except _core.CoreError as error:
            busy = error.code == code_of("FULL") and any(p.asked_ms for p in self._pulls.values())
            if not busy:  # else it is asked for when another pull has ended
                self._runtime.call_soon(self._on_module, hash, error.code)

    def _on_module(self, hash: bytes, code: int) -> None:
        pull = self._pulls.get(hash)
        if pull is None:
            return
        pull.asked_ms = 0
        if code == 0:
            self._came(hash, self._pulls.pop(hash))
        else:
            self._failed(hash, pull, code)
        waits = next(((h, p) for h, p in self._pulls.items() if not p.asked_ms), None)
        if waits is not None:
            self._ask(*waits)

    def _came(self, hash: bytes, pull: Pull) -> None:
        for _, then in pull.waiting:
            then(0 if self._hub.module_pin(hash) else code_of("MODULE_MISSING"))

    def _failed(self, hash: bytes, pull: Pull, code: int) -> None:
        """One source could not give it: who came over that link is told, the others wait on."""
        source = pull.source
        told = [then for link, then in pull.waiting if link == source]
        pull.waiting = deque(entry for entry in pull.waiting if entry[0] != source)
        if not pull.waiting:
            del self._pulls[hash]
        if code == code_of("FULL"):  # no room for it now
            code = code_of("BUSY")
        for then in told:
            then(code)
