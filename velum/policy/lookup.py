"""One question: what does a name stand for? Asked by a getter, and before a removal.

Owns: which keepers have said what, and when that is enough. Refuses to know: links, frames, clocks,
chunks. docs/storage.md, section 3, says it in words; `transfer_io.py` has the events and effects.

    begun                            the first keeper is asked for the entry, the second for its
                                     version
    silent for HEDGE_MS, or lost     the next is asked too
    two have answered, one of them   the greatest wins; if it is only a version, its node is asked
    knows something                  for the entry
    all asked know nothing           the third, then all members are asked
    all have answered or are lost,   one answer that names an entry will do: Found;
    or WAIT_MS has passed            NotFound if two keepers, or all there are, the suspected ones
                                     too, know nothing; else Unreachable

A node is asked for the entry at most twice and for the version once, so it ends. A tombstone is
NotFound.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from .agenda import Agenda
from .filetypes import KEEPERS_ASKED, NAMED_HERE, Digest, Entry
from .hybridclock import Version
from .transfer_io import (
    AskEntry,
    AskVersion,
    Effect,
    EntryHeard,
    Event,
    Found,
    LinkLost,
    Members,
    MembersChanged,
    NotFound,
    Refused,
    TimePassed,
    Unreachable,
    VersionHeard,
)

HEDGE_MS: Final = 300  # a keeper that is alive answers within 10
WAIT_MS: Final = 2000  # what a person waits for an answer without thinking that it hangs
ANSWERS: Final = 2  # a keeper that has just become one may not have the entry yet

_HEDGE, _WAIT = range(2)
_NOTHING: Final = Version(-1, 0)  # below every version


class Lookup:
    """The state machine, driven as the scheduler is; it begins with the first event, TimePassed
    say, and nothing happens after Found, NotFound or Unreachable."""

    def __init__(self, digest: Digest, members: Members) -> None:
        self.digest = digest
        self._members = members
        self._begun = False
        self._over = False
        self._waiting: dict[int, bool] = {}  # who was asked: for the entry?
        self._said: dict[int, Version] = {}  # what is known there; _NOTHING
        self._asked: dict[int, int] = {}  # how often, in order
        self._failed: dict[int, str] = {}
        self._best: Entry | None = None
        self._agenda = Agenda()
        self._now = 0
        self._out: list[Effect] = []
        self._handlers: dict[type, Callable[[Any], None]] = {
            MembersChanged: self._on_members,
            EntryHeard: self._on_entry,
            VersionHeard: self._on_version,
            Refused: self._on_refused,
            LinkLost: self._on_lost,
            TimePassed: self._on_time,
        }

    # ---- the face ----

    def handle(self, event: Event, now: int) -> list[Effect]:
        """Takes one event; `now` in milliseconds, never smaller than before."""
        if self._over:
            return []
        self._now = now
        if not self._begun:
            self._begin()
        self._handlers[type(event)](event)
        self._advance()
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> int | None:
        """When TimePassed is due, or None."""
        return None if self._over else self._agenda.next()

    def validate(self) -> None:
        """Raises AssertionError if an invariant does not hold."""
        assert not self._waiting.keys() & self._failed.keys()
        assert self._waiting.keys() <= self._asked.keys()
        if self._begun and not self._over:
            assert self._waiting, "nobody is asked, and it has not ended"
            assert (_WAIT, 0) in self._agenda, "no end to waiting"

    # ---- who is asked ----

    def _begin(self) -> None:
        self._begun = True
        self._agenda.set((_WAIT, 0), self._now + WAIT_MS)
        keepers = self._keepers()
        for node in keepers[:1]:
            self._ask(node, entry=True)
        for node in keepers[1:2]:
            self._ask(node, entry=False)

    def _keepers(self) -> tuple[int, ...]:
        return self._members.keepers(self.digest, KEEPERS_ASKED)

    def _ask(self, node: int, entry: bool) -> None:
        self._asked[node] = self._asked.get(node, 0) + 1
        self._waiting[node] = entry
        self._failed.pop(node, None)
        self._agenda.set((_HEDGE, node), self._now + HEDGE_MS)
        self._out.append(AskEntry(node) if entry else AskVersion(node))

    def _ask_next(self) -> bool:
        """Asks the next that was not asked; False: there is none."""
        order = self._members.placement.keepers(self.digest, len(self._members.ram))
        for node in order:
            if node in self._members.alive and node not in self._asked:
                self._ask(node, entry=True)
                return True
        return False

    def _answered(self, node: int) -> bool:
        """Whether an answer was awaited; it is not any more."""
        self._agenda.cancel((_HEDGE, node))
        return self._waiting.pop(node, None) is not None

    # ---- what they say ----

    def _on_entry(self, event: EntryHeard) -> None:
        if not self._answered(event.node):
            return
        self._said[event.node] = event.entry.version
        if self._best is None or event.entry.version > self._best.version:
            self._best = event.entry

    def _on_version(self, event: VersionHeard) -> None:
        if event.what != NAMED_HERE:
            if self._answered(event.node):
                self._said[event.node] = _NOTHING
        elif self._waiting.get(event.node):
            self._fail(event.node, "it gives a version for an entry")
        elif self._answered(event.node):
            self._said[event.node] = event.version

    def _on_refused(self, event: Refused) -> None:
        self._fail(event.node, f"{event.code} {event.text}".strip())

    def _on_lost(self, event: LinkLost) -> None:
        self._fail(event.node, event.why or "its link closed")

    def _fail(self, node: int, why: str) -> None:
        """It will not say; the next is asked instead."""
        if self._answered(node):
            self._said.pop(node, None)
            self._failed[node] = why
            self._ask_next()

    def _on_members(self, event: MembersChanged) -> None:
        self._members = event.members
        for node in [node for node in self._waiting if node not in event.members.alive]:
            self._fail(node, "it is not alive")

    def _on_time(self, _event: TimePassed) -> None:
        while (alarm := self._agenda.pop(self._now)) is not None:
            kind, node = alarm
            if kind == _HEDGE:
                self._ask_next()
            else:
                for silent in list(self._waiting):
                    self._answered(silent)
                    self._said.pop(silent, None)
                    self._failed[silent] = "no answer in time"
                self._decide()

    # ---- when it is enough ----

    def _advance(self) -> None:
        if self._over:
            return
        answers = len(self._said)
        greatest = max(self._said.values(), default=_NOTHING)
        if greatest != _NOTHING:
            if answers >= ANSWERS or not self._waiting:
                self._fetch(greatest)
        elif not self._waiting and not self._ask_rest():
            self._decide()

    def _fetch(self, greatest: Version) -> None:
        """The greatest entry is had, or asked for where it is."""
        if self._best is not None and self._best.version >= greatest:
            self._decide()
            return
        holders = [node for node, version in self._said.items() if version == greatest]
        if not any(node in self._waiting for node in holders):
            self._ask(holders[0], entry=True)

    def _ask_rest(self) -> bool:
        """All who answered know nothing: the third is asked, then all others at once."""
        third = [node for node in self._keepers() if node not in self._asked]
        if third:
            self._ask(third[0], entry=True)
        else:
            while self._ask_next():
                pass
        return bool(self._waiting)

    def _decide(self) -> None:
        """Ends it with what is known."""
        if self._best is not None:
            gone = self._best.manifest is None
            self._end(NotFound(self._best) if gone else Found(self._best))
            return
        # Who is suspected may have it: this node may be the one that was cut off.
        keepers = self._members.placement.keepers(self.digest, KEEPERS_ASKED)
        nothing = [node for node in keepers if self._said.get(node) == _NOTHING]
        known = any(version != _NOTHING for version in self._said.values())
        if keepers and len(nothing) >= min(ANSWERS, len(keepers)) and not known:
            self._end(NotFound())
        else:
            failed = {node: "is suspected" for node in keepers if node not in self._members.alive}
            said = [
                f"node {node}: {why}" for node, why in sorted({**failed, **self._failed}.items())
            ]
            text = ", ".join(said) or "nobody is alive"
            self._end(Unreachable(f"too few keepers of the name answer: {text}"))

    def _end(self, outcome: Found | NotFound | Unreachable) -> None:
        if not self._over:
            self._over = True
            self._out.append(outcome)
