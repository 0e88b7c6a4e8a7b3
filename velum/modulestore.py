"""Modules that tasks on this node need.

Owns who waits for which module. The bytes are in the core's cache, which pulls them part by part
and checks the hash; here is only the pin that keeps one in memory while tasks need it.
"""

from __future__ import annotations

from collections.abc import Callable

from velum import _core
from velum.errors import code_of
from velum.runtime import Runtime

Then = Callable[[int], None]  # called with 0 when the module is pinned, else with an error code


class ModuleStore:
    """The modules of one loop."""

    def __init__(self, runtime: Runtime) -> None:
        self._hub = runtime.hub
        self._waiting: dict[bytes, list[Then]] = {}
        runtime.on_event(_core.MODULE, self._on_module)

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
        waiting = self._waiting.setdefault(hash, [])
        waiting.append(then)
        if len(waiting) == 1:
            try:
                self._hub.module_fetch(link, hash)
            except _core.CoreError as error:
                self._on_module(hash, error.code)

    def release(self, hash: bytes) -> None:
        """Ends one pin."""
        self._hub.module_unpin(hash)

    def _on_module(self, hash: bytes, code: int) -> None:
        for then in self._waiting.pop(hash, ()):
            if code == 0 and not self._hub.module_pin(hash):
                then(code_of("MODULE_MISSING"))
            else:
                then(code)
