"""A catalog over a store in Python, joined as a node joins them; what its tests share."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from velum.policy import catalog_io as io
from velum.policy.catalog import Catalog
from velum.policy.filetypes import TOMBSTONE, Entry, Manifest
from velum.policy.hybridclock import Version
from velum.policy.names import LATER, Item, MemoryNames
from velum.policy.placement import Budget, Placement

ROOM = 1 << 40
UNIX_MS = 1_700_000_000_000


def digest_of(data: bytes) -> bytes:
    return sha256(data).digest()


def new_names(me: int) -> MemoryNames:
    return MemoryNames(me, ROOM, digest_of)


def entry(name: bytes, at: int = 1, data: bytes = b"m", origin: int = 1, keepers: int = 3) -> Entry:
    return Entry(name, Version(at, origin), keepers, Manifest(len(data), data=data))


def grave(name: bytes, at: int = 1, keepers: int = 3) -> Entry:
    return Entry(name, Version(at, 1), keepers, None)


def item_of(entry: Entry) -> Item:
    names = new_names(1)
    names.merge(entry, UNIX_MS, 0)
    known = names.known(digest_of(entry.name))
    assert known is not None
    return digest_of(entry.name), known[0], known[1]


def kept_by(name: bytes, ids: list[int], count: int) -> tuple[int, ...]:
    return Placement([Budget(id, 0) for id in ids]).keepers(digest_of(name), count)


class Node:
    """One node's names: what comes is merged by the store, and the policy hears the rest."""

    def __init__(self, me: int) -> None:
        self.me = me
        self.names = new_names(me)
        self.catalog = Catalog(me, self.names)

    def get(self, name: bytes) -> Entry | None:
        return self.names.get(digest_of(name))

    def handle(self, event: io.Event, now: int) -> list[io.Effect]:
        if not isinstance(event, io.EntryOffered) or event.entry[3] is None:
            return self.catalog.handle(event, now)
        what, digest, kind, version = self.names.merge(event.entry, event.unix_ms, now)
        if what < 0:
            return [io.Refuse(event.node, event.ticket, -what)]
        if what == LATER and event.node and kind == TOMBSTONE:
            return self.catalog.handle(event, now)
        out: list[io.Effect] = [io.Kept(event.node, event.ticket, kind, version, what == LATER)]
        if what == LATER and event.node:
            out.append(io.SendEntry(event.node, digest, 0, ()))
        return out

    def heard(self, effect: Any, unix_ms: int) -> io.Event:
        """What another node hears when this one sends something."""
        if isinstance(effect, io.SendSums):
            return io.SumsHeard(self.me, effect.counts, effect.marks)
        if isinstance(effect, io.SendListing):
            return io.ListingHeard(self.me, effect.round, effect.items, effect.after, effect.end)
        if isinstance(effect, io.SendHeld):
            return io.HeldHeard(self.me, effect.round, effect.held, effect.wanted)
        assert isinstance(effect, io.SendEntry)
        sent = self.names.get(effect.digest)
        assert sent is not None, "nothing there to be sent"
        sent = sent._replace(age_ms=effect.age_ms, awaited=effect.awaited)
        return io.EntryOffered(self.me, 0, sent, unix_ms)
