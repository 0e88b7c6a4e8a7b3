"""What an observer sees of a simulated mesh of files who sees into all nodes at once.

Owns: where every chunk and entry should lie and does; what was promised, that is whole once, and so
must not be dropped by anybody while nobody dies; and whether a mesh could lose some nodes now.
Refuses to know: how nodes decide, and what befalls them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from velum.policy.care import lacking
from velum.policy.filetypes import (
    CARE_AT_RISK,
    CARE_DAMAGED,
    CARE_WHOLE,
    Digest,
    Entry,
    Key,
    stripe_key,
)
from velum.policy.hybridclock import Version
from velum.policy.placement import Budget, Ids, Placement
from velum.sim.host import Status
from velum.sim.storage_files import Book, key_of, manifest_of

if TYPE_CHECKING:
    from velum.sim.storage_node import Node


class Observer:
    """Looks at the nodes of one world."""

    def __init__(self, nodes: Mapping[int, Node], book: Book) -> None:
        self._nodes = nodes
        self._book = book
        self._promised: dict[Digest, tuple[Version, int]] = {}  # of whole ones; nodes that keep it
        self._copies: dict[Key, dict[Digest, int]] = {}  # by files that are whole
        self._flipped: set[Key] = set()  # chunks of which somebody has, or had, a wrong copy

    # ---- where all lies ----

    def running(self) -> list[Node]:
        """Nodes whose process is up."""
        return [node for node in self._nodes.values() if node.status is Status.UP]

    def live(self) -> list[Node]:
        """Those that have their memory: they may be stopped."""
        return [node for node in self._nodes.values() if node.live]

    def placement(self) -> Placement:
        return Placement([Budget(node.id, node.mib) for node in self.running()])

    def greatest(self, digest: Digest) -> Entry | None:
        """The greatest entry that any node has for a name."""
        entries = [node.names.get(digest) for node in self.live()]
        return max((e for e in entries if e is not None), key=_version_of, default=None)

    def _keeping(self, digest: Digest, version: Version) -> list[int]:
        known = {node.id: node.names.known(digest) for node in self.live()}
        return [id for id, found in known.items() if found is not None and found[0] == version]

    def _holding(self, key: Key) -> list[int]:
        """Who has a chunk, and a right one."""
        live = [node for node in self.live() if key in node.chunks.held]
        return [node.id for node in live if key_of(node.chunks.held[key]) == key]

    def wanted(self, entry: Entry, placement: Placement) -> list[tuple[Key, Ids]]:
        """A file's chunks, and who should hold each."""
        manifest = entry.manifest
        if manifest is None:
            return []
        k, m = manifest.coding
        if not m:
            return [(key, placement.holders(key, k)) for key in manifest.keys]
        found: list[tuple[Key, Ids]] = []
        for first in range(0, len(manifest.keys), k + m):
            keys = manifest.keys[first : first + k + m]
            holders = placement.stripe(stripe_key(keys[:k]), k + m)
            found += [(key, (node,)) for key, node in zip(keys, holders, strict=True)]
        return found

    def lacks(self) -> str:
        """What is not where it belongs, the first of it; "" if all is."""
        placement = self.placement()
        for name in self._book.names():
            entry = self.greatest(key_of(name))
            if entry is not None and (why := self._lacks(entry, placement)):
                return why
        return ""

    def _lacks(self, entry: Entry, placement: Placement) -> str:
        digest, name = key_of(entry.name), entry.name.decode()
        keeping = self._keeping(digest, entry.version)
        for id in placement.keepers(digest, entry.keepers):
            if id not in keeping:
                return f"node {id} does not keep {name}"
        for key, holders in self.wanted(entry, placement):
            holding = self._holding(key)
            for id in holders:
                if id not in holding:
                    return f"node {id} lacks {key.hex()[:8]} of {name}"
        return ""

    def surplus(self, but: Collection[Key] = ()) -> str:
        """What is where it does not belong, the first of it."""
        placement = self.placement()
        chunks: dict[int, set[Key]] = {node.id: set() for node in self.running()}
        names: dict[int, set[Digest]] = {node.id: set() for node in self.running()}
        for name in self._book.names():
            digest = key_of(name)
            entry = self.greatest(digest)
            if entry is not None:
                for id in placement.keepers(digest, entry.keepers):
                    names[id].add(digest)
                for key, holders in self.wanted(entry, placement):
                    for id in holders:
                        chunks[id].add(key)
        for node in self.running():
            for key in node.chunks.held:
                if key not in chunks[node.id] and key not in but:
                    return f"node {node.id} still holds {key.hex()[:8]}"
            for name in self._book.names():
                digest = key_of(name)
                if digest not in names[node.id] and node.names.known(digest) is not None:
                    return f"node {node.id} still has an entry of {name.decode()}"
            if not node.idle:
                return f"node {node.id} is not idle"
        return ""

    def orphans(self) -> set[Key]:
        """Chunks of versions of which all keepers were lost: nobody can know that they are over."""
        found: set[Key] = set()
        for write in self._book.writes:
            last = max(write.sent, default=None)
            if write.content is not None and last is not None:
                entry = self.greatest(write.digest)
                if entry is None or entry.version < last:
                    found.update(manifest_of(write).keys)
        return found

    # ---- what nodes say ----

    def unsettled(self) -> str:
        """What nodes say is not as it should be, the first of it; "" if they are content."""
        for node in self.running():
            figures = node.holdings.figures()
            if figures.unconfirmed or figures.at_risk or figures.lost or figures.repair_bytes:
                return f"node {node.id}: {figures}"
            if node.names.figures()[2]:
                return f"node {node.id} has entries to hand over"
        return ""

    def care(self, entry: Entry, *, right: bool) -> tuple[int, int]:
        """How a file is, (CARE_*, missing); `right`: chunks count only if no bit has flipped."""
        manifest = entry.manifest
        assert manifest is not None
        counts = []
        for key in manifest.keys:
            there = [node.id for node in self.running() if key in node.chunks.held]
            counts.append(len(self._holding(key) if right else there))
        lack, gone = lacking(manifest.coding, counts)
        if gone:
            return CARE_DAMAGED, gone
        return (CARE_AT_RISK, lack) if lack else (CARE_WHOLE, 0)

    def care_differs(self) -> str:
        """What first keepers say wrongly of their files, the first of it."""
        placement = self.placement()
        for name in self._book.names():
            digest = key_of(name)
            entry = self.greatest(digest)
            if entry is None or entry.manifest is None or not entry.manifest.keys:
                continue
            first = self._nodes[placement.keepers(digest, 1)[0]]
            said = first.care.of(digest, entry.version)
            true = self.care(entry, right=False)
            if said != true:
                return f"node {first.id} says {said} of {name.decode()}, and it is {true}"
        return ""

    # ---- what was promised ----

    def look(self) -> None:
        """Takes note of files that are whole now: nobody may drop what they need."""
        placement = self.placement()
        for name in self._book.names():
            digest = key_of(name)
            entry, promised = self.greatest(digest), self._promised.get(digest)
            if entry is None or (promised is not None and promised[0] == entry.version):
                continue
            self._absolve(digest)
            wanted = self.wanted(entry, placement)
            if any(key in self._flipped for key, _ in wanted):
                continue  # who has a wrong copy does not know it
            if self._book.last_sent(name) == entry.version and self._is_safe(entry, placement):
                keeping = len(placement.keepers(digest, entry.keepers))
                self._promised[digest] = (entry.version, keeping)
                for key, holders in wanted:
                    self._copies.setdefault(key, {})[digest] = len(holders)

    def _is_safe(self, entry: Entry, placement: Placement) -> bool:
        """Whether all is where it belongs, and whoever has a chunk knows that this file needs it:
        of one that has it for another's sake that is sure only once a scrub has passed."""
        name = (key_of(entry.name), entry.version)
        return not self._lacks(entry, placement) and all(
            name in self._nodes[id].holdings.names(key)
            for key, holders in self.wanted(entry, placement)
            for id in holders
        )

    def _absolve(self, digest: Digest) -> None:
        if self._promised.pop(digest, None) is not None:
            for files in self._copies.values():
                files.pop(digest, None)

    def absolve(self) -> None:
        """Somebody has lost his memory: copies are fewer through nobody else's fault."""
        self._promised.clear()
        self._copies.clear()

    def flipped(self, key: Key) -> None:
        """A copy has become wrong."""
        self._flipped.add(key)
        self.absolve()

    def check_drop(self, key: Key) -> None:
        """A node has dropped a chunk: those that a file needs are still there."""
        holding = len(self._holding(key))
        for digest, copies in self._copies.get(key, {}).items():
            if holding < copies and self._is_current(digest):
                raise AssertionError(f"{holding} copies of {key.hex()[:8]} are left of {copies}")

    def check_forget(self, digest: Digest) -> None:
        """A node has forgotten an entry: as many as should still have it."""
        if digest in self._promised and self._is_current(digest):
            version, keeping = self._promised[digest]
            left = self._keeping(digest, version)
            assert len(left) >= keeping, f"only nodes {left} are left to keep a name"

    def _is_current(self, digest: Digest) -> bool:
        entry = self.greatest(digest)
        return entry is not None and entry.version == self._promised[digest][0]

    # ---- what could be lost ----

    def stands(self, gone: Collection[int]) -> bool:
        """Whether nothing would be lost if these nodes were, now."""
        for name in self._book.names():
            digest = key_of(name)
            entry = self.greatest(digest)
            if entry is None:
                continue
            if not set(self._keeping(digest, entry.version)).difference(gone):
                return False
            if entry.manifest is not None and entry.manifest.keys:
                left = [set(self._holding(k)).difference(gone) for k in entry.manifest.keys]
                if lacking(entry.manifest.coding, [len(nodes) for nodes in left])[1]:
                    return False
        return True


def _version_of(entry: Entry) -> Version:
    return entry.version
