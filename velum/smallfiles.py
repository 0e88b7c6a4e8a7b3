"""The usual case of many small files: entries sent to all keepers, or asked of two, at once.

Owns: puts of files that lie in their entries, and lookups, as long as nothing unusual happens: all
keepers are alive and linked, and agree. Refuses to decide anything: whatever is not so, a later
version, a silent or lost keeper, a file that two do not know, begins anew under its policy
(`policy.putting`, `policy.lookup`), which knows all rules. Those cost ten times as much a file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from velum import _core
from velum.policy import transfer_io as io
from velum.policy.filetypes import (
    ASK_ENTRY,
    ASK_VERSION,
    NAMED_HERE,
    NAMED_KEPT,
    NAMED_REPLACED,
    RELEASE_BEFORE,
    Coding,
    Entry,
    Manifest,
)
from velum.policy.hybridclock import Version
from velum.runtime import epoch_ms, now_ms

if TYPE_CHECKING:
    from velum.transfers import Transfers

PATIENCE_MS = 300  # for an answer: then its policy begins, with patience of its own
ASKED = 2  # keepers of a lookup: one may just have become one and not have the entry yet


class SmallPut:
    """A file put into its entry. `then(put)`; its entry is None if its policy has to do it."""

    __slots__ = ("coding", "data", "digest", "due", "entry", "name", "then")

    def __init__(
        self, name: bytes, data: bytes, coding: Coding, then: Callable[[Any], None]
    ) -> None:
        self.name = name
        self.data = data
        self.coding = coding
        self.digest = _core.chunk_key(name)
        self.then = then
        self.entry: Entry | None = None
        self.due = 0


class SmallLookup:
    """A name looked up. `then(lookup)`; its entry is None if its policy has to do it."""

    __slots__ = ("digest", "due", "entry", "left", "name", "then", "version")

    def __init__(self, name: bytes, then: Callable[[SmallLookup], None]) -> None:
        self.name = name
        self.digest = _core.chunk_key(name)
        self.then = then
        self.entry: tuple[Any, ...] | None = None  # plain
        self.version: tuple[int, int] | None = None  # of the second keeper
        self.left = 0
        self.due = 0


class SmallFiles:
    """Those of one runtime. Everything runs in its loop."""

    def __init__(self, transfers: Transfers) -> None:
        self._transfers = transfers
        self._puts: dict[int, SmallPut] = {}  # by correlation, eldest first
        self._lookups: dict[int, SmallLookup] = {}

    def __len__(self) -> int:
        return len(self._puts) + len(self._lookups)

    # ---- puts ----

    def put(self, puts: Sequence[SmallPut]) -> None:
        """Sends each entry to its keepers."""
        transfers = self._transfers
        keepers_of, open_links = transfers.keepers, transfers.links.open_links
        alive, next_version = transfers.members.alive, transfers.clock.next
        now = now_ms()
        unix_ms = time.time_ns() // 1_000_000
        for item in puts:
            count = item.coding.keepers
            keepers = keepers_of(item.digest, count)
            handles = open_links(keepers, now)
            if handles is None or not alive.issuperset(keepers):
                item.then(item)
                continue
            manifest = Manifest(len(item.data), 0, item.coding, (), item.data)
            entry = Entry(item.name, next_version(unix_ms), count, manifest)
            number = transfers.next_number()
            if transfers.hub.send_entry(handles, number, entry):
                item.then(item)  # a queue is full
                continue
            item.entry = entry
            item.due = now + PATIENCE_MS
            self._puts[number] = item

    def _not_just_kept(self, number: int, item: SmallPut, body: tuple[Any, ...]) -> None:
        """All keepers have it, and one had chunks before; or one of them has another."""
        what, _kind, version = body
        if what == NAMED_REPLACED and item.entry is not None:
            del self._puts[number]
            for node in self._transfers.members.alive:
                release = io.Release(node, RELEASE_BEFORE, item.digest, item.entry.version)
                self._transfers.release(release)
            item.then(item)
        else:
            self._transfers.clock.heard(Version(*version), epoch_ms() + now_ms())
            self._give_up_put(number, item)

    def _give_up_put(self, number: int, item: SmallPut) -> None:
        del self._puts[number]
        self._transfers.hub.unsend(number)
        item.entry = None
        item.then(item)

    # ---- lookups ----

    def look_up(self, lookups: Sequence[SmallLookup]) -> None:
        """Asks two keepers of each name."""
        transfers = self._transfers
        keepers_of, open_links = transfers.keepers, transfers.links.open_links
        alive = transfers.members.alive
        now = now_ms()
        due = now + PATIENCE_MS
        asks: dict[tuple[int, int], list[tuple[int, bytes]]] = {}
        for item in lookups:
            keepers = keepers_of(item.digest, ASKED)
            handles = open_links(keepers, now)
            if handles is None or not alive.issuperset(keepers):
                item.then(item)
                continue
            number = transfers.next_number() | _core.ANSWER_BIT
            item.left = len(handles)
            item.due = due
            self._lookups[number] = item
            how = ASK_ENTRY
            for handle in handles:
                asks.setdefault((handle, how), []).append((number, item.digest))
                how = ASK_VERSION
        for (handle, how), names in asks.items():
            for number, _digest in names[transfers.hub.ask_entries(handle, how, names) :]:
                self._give_up_lookup(number)  # its queue is full

    def _heard(self, number: int, item: SmallLookup, body: tuple[Any, ...]) -> None:
        item.left -= 1
        if len(body) != 3:
            item.entry = body
        elif body[0] == NAMED_HERE and item.version is None:
            item.version = body[2]
        else:
            self._give_up_lookup(number)
            return
        if not item.left:
            del self._lookups[number]
            if item.version is not None and item.entry is not None:
                if item.version > item.entry[1]:
                    item.entry = None
            item.then(item)

    def _give_up_lookup(self, number: int) -> None:
        item = self._lookups.pop(number, None)
        if item is not None:
            item.entry = None
            item.then(item)

    # ---- what comes ----

    def on_named(self, number: int, body: tuple[Any, ...]) -> bool:
        """ENTRY or VERSION; False if it is none of these."""
        put = self._puts.get(number)
        if put is not None:
            if body[0] == NAMED_KEPT:
                del self._puts[number]
                put.then(put)
            else:
                self._not_just_kept(number, put, body)
            return True
        lookup = self._lookups.get(number)
        if lookup is not None:
            self._heard(number, lookup, body)
            return True
        return False

    def on_error(self, number: int) -> bool:
        """ERROR; False if it is for none of these."""
        put = self._puts.get(number)
        if put is not None:
            self._give_up_put(number, put)
            return True
        if number | _core.ANSWER_BIT in self._lookups:
            self._give_up_lookup(number | _core.ANSWER_BIT)
            return True
        return False

    def on_lost(self) -> None:
        """A link is gone: all begin anew, for who was asked what is not kept."""
        for number, put in list(self._puts.items()):
            self._give_up_put(number, put)
        for number in list(self._lookups):
            self._give_up_lookup(number)

    # ---- timers ----

    def next_deadline(self) -> int | None:
        """When the eldest has waited for long enough."""
        dues = [next(iter(puts.values())).due for puts in (self._puts,) if puts]
        dues += [next(iter(lookups.values())).due for lookups in (self._lookups,) if lookups]
        return min(dues, default=None)

    def on_time(self, now: int) -> None:
        """Gives up those that have waited for long enough."""
        for number, put in list(self._puts.items()):
            if put.due > now:
                break
            self._give_up_put(number, put)
        for number, lookup in list(self._lookups.items()):
            if lookup.due > now:
                break
            self._give_up_lookup(number)
