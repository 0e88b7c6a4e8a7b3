"""The first moments of a node: whether it can say yet who is in the mesh.

Owns: who waits for that. Refuses to know how others are found (`policy/membership.py`). A node that
has just started knows nobody, and would take itself for a mesh of its own: a file that is put there
and then has one copy, and one that is looked for is not found. So who asks waits until another
member has told all it knows, or nobody has for ALONE_MS: then there may be nobody.
"""

from __future__ import annotations

from collections.abc import Callable

from velum.runtime import Runtime, now_ms

ALONE_MS = 1000  # the others answer a beacon, or a node that joins, within 50
LOOK_MS = 10


class Arrival:
    """One node's. Everything runs in the loop's thread."""

    def __init__(self, runtime: Runtime, joined: Callable[[], bool], seeks: bool) -> None:
        """`joined` says whether another member has told all it knows; without `seeks` nobody will
        be looked for."""
        self._joined = joined
        self._alone_at = now_ms() + (ALONE_MS if seeks else 0)
        self._waiting: list[Callable[[], object]] = []
        self._look_at = 0
        runtime.services.append(self)

    def then(self, action: Callable[[], object]) -> None:
        """Calls action() once it is known who there is: now, mostly."""
        if self._is_over():
            action()
        else:
            self._waiting.append(action)
            self._look_at = now_ms() + LOOK_MS

    def _is_over(self) -> bool:
        return self._joined() or now_ms() >= self._alone_at

    def next_deadline(self) -> int | None:
        """When to look again."""
        return self._look_at if self._waiting else None

    def on_time(self, now: int) -> None:
        """Looks."""
        self._look_at = now + LOOK_MS
        if self._is_over():
            waiting, self._waiting = self._waiting, []
            for action in waiting:
                action()
