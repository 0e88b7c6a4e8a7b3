"""One removal of one file: a tombstone at every keeper of its entry.

Owns: which version the tombstone has, and when it is acknowledged. Refuses to know: links, frames,
clocks, chunks: those who hold them hear that their claims are over. The last step is a put's
(`commit.py`).

    begun                 the name is looked up (`lookup.py`)
    NotFound              Fail: NOT_FOUND
    Unreachable           Fail: UNREACHABLE
    Found                 a version later than its own is drawn; the tombstone goes to all keepers
    KEPT                  RELEASE of what was before to all members; Finish
    LATER                 a later version is drawn, ROUNDS_MAX times
    refused, nobody left  Fail: UNCERTAIN if any keeper may have taken it
"""

from __future__ import annotations

from typing import Final

from .commit import Commit, Verdict
from .filetypes import RELEASE_BEFORE, Digest, Entry
from .hybridclock import Clock
from .lookup import Lookup
from .peers import SILENT, Peers
from .transfer_io import (
    Aborted,
    Effect,
    Event,
    Fail,
    Finish,
    Found,
    LinkLost,
    Members,
    MembersChanged,
    NotFound,
    Refused,
    Release,
    TimePassed,
    Unreachable,
    VersionHeard,
)

SILENCE_MS: Final = 10_000  # a keeper that has not answered by then is lost
ROUNDS_MAX: Final = 3


class Remove:
    """The state machine; it begins with the first event, TimePassed say, and nothing happens after
    Finish or Fail."""

    def __init__(
        self, digest: Digest, name: bytes, clock: Clock, members: Members, epoch_ms: int
    ) -> None:
        """A removal of the file `name`; `epoch_ms` is unix time when `now` was 0."""
        self.digest = digest
        self._name = name
        self._clock = clock
        self._epoch_ms = epoch_ms
        self._lookup: Lookup | None = Lookup(digest, members)
        self._peers = Peers(members, SILENCE_MS)
        self._keepers = 0  # of the entry that it ends
        self._rounds = 0
        self._commit: Commit | None = None
        self._over = False
        self._now = 0
        self._out: list[Effect] = []

    def handle(self, event: Event, now: int) -> list[Effect]:
        """Takes one event; `now` in milliseconds, never smaller than before."""
        if self._over:
            return []
        self._now = now
        if isinstance(event, MembersChanged):
            for node in self._peers.change(event.members):
                self._lose(node)
        if isinstance(event, Aborted):
            self._abort()
        elif self._lookup is not None:
            self._look(self._lookup, event)
        elif self._commit is not None:
            self._hear(self._commit, event)
        if self._commit is not None and not self._over:
            self._go_on(self._commit)
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> int | None:
        """When TimePassed is due, or None."""
        if self._over:
            return None
        return self._lookup.next_deadline() if self._lookup else self._peers.next_deadline()

    def validate(self) -> None:
        """Raises AssertionError if an invariant does not hold."""
        self._peers.validate()
        assert (self._lookup is None) != (self._commit is None) or self._over
        if self._lookup is not None:
            self._lookup.validate()

    def _look(self, lookup: Lookup, event: Event) -> None:
        for effect in lookup.handle(event, self._now):
            if isinstance(effect, NotFound):
                self._fail("NOT_FOUND", "no such file")
            elif isinstance(effect, Unreachable):
                self._fail("UNREACHABLE", effect.text)
            elif isinstance(effect, Found):
                self._lookup = None
                self._keepers = effect.entry.keepers
                self._clock.heard(effect.entry.version, self._epoch_ms + self._now)
                self._draw()
            else:
                self._out.append(effect)

    def _draw(self) -> Commit:
        self._rounds += 1
        version = self._clock.next(self._epoch_ms + self._now)
        entry = Entry(self._name, version, self._keepers, None)
        self._commit = Commit(self.digest, entry, self._peers)
        return self._commit

    def _hear(self, commit: Commit, event: Event) -> None:
        if isinstance(event, VersionHeard):
            self._peers.sign(event.node, self._now)
            commit.heard(event.node, event.what, event.version, self._now)
        elif isinstance(event, Refused):
            commit.error(event, self._now)
        elif isinstance(event, LinkLost):
            self._lose(event.node)
        elif isinstance(event, TimePassed):
            while (found := self._peers.pop(self._now)) is not None:
                if found[0] == SILENT:
                    self._lose(found[1])

    def _lose(self, node: int) -> None:
        if node in self._peers.members.alive:
            self._peers.lost(node, self._now)
        if self._commit is not None:
            self._commit.lost(node)

    def _go_on(self, commit: Commit) -> None:
        self._out += commit.step(self._now)
        verdict = commit.verdict()
        if verdict == Verdict.KEPT:
            self._over = True
            version = commit.entry.version
            for node in sorted(self._peers.members.alive):
                self._out.append(Release(node, RELEASE_BEFORE, self.digest, version))
            self._out.append(Finish(commit.entry))
        elif verdict == Verdict.LATER:
            self._overtaken(commit)
        elif verdict is not None:
            self._fail(*commit.failure(verdict))

    def _overtaken(self, commit: Commit) -> None:
        assert commit.later is not None
        commit.close(self._now)
        if not self._clock.heard(commit.later, self._epoch_ms + self._now):
            self._fail("VERSION_AHEAD", "a keeper has a version from a clock too far ahead")
        elif self._rounds == ROUNDS_MAX:
            self._fail("UNCERTAIN", f"somebody put this name later, {ROUNDS_MAX} times")
        else:
            self._go_on(self._draw())

    def _abort(self) -> None:
        if self._commit is not None:
            self._commit.close(self._now)
        if self._commit is None or self._commit.nowhere:
            self._fail("CANCELLED", "the removal was given up")
        else:
            self._fail("UNCERTAIN", "given up while the keepers of the name were told")

    def _fail(self, code: str, text: str) -> None:
        self._over = True
        self._out.append(Fail(code, text))
