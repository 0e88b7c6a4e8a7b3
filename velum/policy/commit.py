"""One entry on its way to all keepers of its name: the step in which a file becomes visible.

Owns: which keeper has answered what. Refuses to know: chunks, clocks, and what is done about a
verdict; `putting.py` and `removing.py` decide that.

Every keeper that is alive is sent the entry, also one that becomes a keeper meanwhile, and again
one whose link closed before it answered. The verdict, once there is one:

    LATER     a keeper has a greater version
    NOBODY    no keeper is alive
    REFUSED   all have answered, one with an error; `nowhere` if surely no keeper has the entry
    KEPT      all have answered KEPT, at least one
"""

from __future__ import annotations

from enum import Enum

from .filetypes import NAMED_KEPT, NAMED_LATER, Digest, Entry
from .hybridclock import Version
from .peers import Peers
from .placement import Ids
from .transfer_io import Refused, SendEntry, is_acknowledged


class Verdict(Enum):
    """How it stands with the entry."""

    KEPT = "kept"
    LATER = "later"
    REFUSED = "refused"
    NOBODY = "nobody"


class Commit:
    """The state of one entry of one version."""

    __slots__ = ("_digest", "_kept", "_peers", "_waiting", "entry", "later", "nowhere", "refused")

    def __init__(self, digest: Digest, entry: Entry, peers: Peers) -> None:
        self._digest = digest
        self._peers = peers
        self._waiting: set[int] = set()
        self._kept: set[int] = set()
        self.entry = entry
        self.later: Version | None = None
        self.nowhere = True  # surely no node has taken it so far
        self.refused: dict[int, Refused] = {}

    def step(self, now: int) -> list[SendEntry]:
        """To be called after every event: whom to send it."""
        if self.later is not None:
            return []
        told = self._waiting | self._kept | self.refused.keys()
        fresh = [n for n in self._keepers() if n not in told and self._peers.ready(n)]
        for node in fresh:
            self._waiting.add(node)
            self._peers.owe(node, now)
        return [SendEntry(node, self.entry) for node in fresh]

    def heard(self, node: int, what: int, version: Version, now: int) -> None:
        """A keeper's VERSION. One about an entry before this one changes nothing."""
        version_here = self.entry.version
        if node not in self._waiting or what not in (NAMED_KEPT, NAMED_LATER):
            return
        if version < version_here:
            return
        self._answered(node, now)
        if what == NAMED_LATER:
            self.later = max(version, self.later or version)
        elif version == version_here:
            self._kept.add(node)
            self.nowhere = False

    def error(self, event: Refused, now: int) -> None:
        """A keeper's ERROR."""
        if event.node in self._waiting:
            self._answered(event.node, now)
            self.refused[event.node] = event

    def lost(self, node: int) -> None:
        """A keeper's link closed, or it is silent or dead: it is to be told anew if it comes back,
        and whether it has taken the entry is not known."""
        if node in self._waiting:
            self._waiting.discard(node)
            self.nowhere = False
        self._kept.discard(node)
        self.refused.pop(node, None)

    def close(self, now: int) -> None:
        """Nobody waits for the answers that have not come."""
        for node in self._waiting:
            self._peers.paid(node, now)
            self.nowhere = False
        self._waiting.clear()

    def verdict(self) -> Verdict | None:
        """None: not yet."""
        if self.later is not None:
            return Verdict.LATER
        keepers = self._keepers()
        if not keepers:
            return Verdict.NOBODY
        if not is_acknowledged(keepers, self._kept | self.refused.keys()):
            return None
        refused = self.refused.keys() & set(keepers)
        return Verdict.REFUSED if refused else Verdict.KEPT

    def failure(self, verdict: Verdict) -> tuple[str, str]:
        """Code and text of a verdict of NOBODY or REFUSED."""
        refused = list(self.refused.values())
        if verdict == Verdict.NOBODY:
            code, text = "UNREACHABLE", "no keeper of the name is left to confirm it"
        else:
            said = [f"node {r.node}: {r.code} {r.text}".strip() for r in refused]
            code, text = refused[0].code, "a keeper of the name refuses it: " + ", ".join(said)
        return code if self.nowhere else "UNCERTAIN", text

    def _answered(self, node: int, now: int) -> None:
        self._waiting.discard(node)
        self._peers.paid(node, now)

    def _keepers(self) -> Ids:
        keepers = self._peers.members.keepers(self._digest, self.entry.keepers)
        return tuple(node for node in keepers if self._peers.usable(node))
