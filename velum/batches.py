"""Many small files in one call: what a caller's thread hands over in groups.

Owns: how many are under way, and what failed first. Refuses to know: who keeps what
(`velum.smallfiles`). The loop works on a group while the caller's thread makes the next one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice

from velum.errors import VelumError
from velum.policy.filetypes import Coding, Entry, entry_of
from velum.runtime import Runtime
from velum.smallfiles import SmallLookup, SmallPut
from velum.transfers import Transfers
from velum.uploads import Gate, put_by_policy

GROUP = 25  # handed to the loop at once: 100 KiB, a tenth of a millisecond
UNDER_WAY_MAX = 400  # 1.6 MiB on each link: less than a queue holds


class PutBatch:
    """Puts of one call."""

    def __init__(self, runtime: Runtime, transfers: Transfers, coding: Coding) -> None:
        self._runtime = runtime
        self._transfers = transfers
        self._coding = coding
        self._gate = Gate(runtime)
        self._group: list[SmallPut] = []
        self._handed = 0
        self._ended = 0
        self._error: VelumError | None = None

    def add(self, name: bytes, data: bytes) -> None:
        """One more; raises what has failed so far."""
        self._group.append(SmallPut(name, data, self._coding, self._small_ended))
        if len(self._group) >= GROUP:
            self._hand_over()
            self._runtime.drive(lambda: True)  # the nodes work while the next group is made
            self._gate.wait(lambda: self._handed - self._ended < UNDER_WAY_MAX, True)
            if self._error is not None:
                raise self._error

    def finish(self) -> None:
        """Waits for all; raises the first error."""
        self._hand_over()
        self._gate.wait(lambda: self._handed == self._ended, True)
        if self._error is not None:
            raise self._error

    def _hand_over(self) -> None:
        group, self._group = self._group, []
        if group:
            self._handed += len(group)
            self._runtime.call_soon(self._transfers.small.put, group)

    # ---- the loop ----

    def _small_ended(self, put: SmallPut) -> None:
        if put.entry is not None:
            self._put_ended(put.entry, None)
        else:
            put_by_policy(self._transfers, put, self._put_ended)

    def _put_ended(self, _entry: Entry | None, error: VelumError | None) -> None:
        self._ended += 1
        if error is not None and self._error is None:
            self._error = error
        if self._ended == self._handed or self._handed - self._ended == UNDER_WAY_MAX - GROUP:
            self._gate.poke()


class LookupBatch:
    """Lookups of one call."""

    def __init__(self, runtime: Runtime, transfers: Transfers) -> None:
        self._runtime = runtime
        self._transfers = transfers
        self._gate = Gate(runtime)
        self._waited: SmallLookup | None = None

    def entries(self, names: Iterable[str]) -> Iterator[tuple[str, Entry | None]]:
        """Each name with its entry, in order; None: its policy has to look it up."""
        left = iter(names)
        waiting: deque[tuple[str, SmallLookup]] = deque()
        while True:
            while len(waiting) <= UNDER_WAY_MAX - GROUP:
                group = [
                    (name, SmallLookup(name.encode(), self._ended)) for name in islice(left, GROUP)
                ]
                if not group:
                    break
                waiting.extend(group)
                lookups = [lookup for _, lookup in group]
                self._runtime.call_soon(self._transfers.small.look_up, lookups)
            if not waiting:
                return
            name, lookup = waiting.popleft()
            if lookup.left >= 0:
                self._waited = lookup
                self._gate.wait(lambda lookup=lookup: lookup.left < 0, True)  # type: ignore[misc]
            yield name, None if lookup.entry is None else entry_of(lookup.entry)

    def _ended(self, lookup: SmallLookup) -> None:
        lookup.left = -1
        if lookup is self._waited:
            self._gate.poke()
