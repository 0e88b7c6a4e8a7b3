"""Why a node's chunks are held: versions of files, and what has become of each.

Owns: for each (digest, version) that claims chunks here whether it is LOOSE, FAST or OVER, who is
asked about it and when. Refuses to know: places, copies, the bytes. Section 5 of docs/storage.md is
coded here, by version and not by chunk: all claims of a version share one fate.

    state   event                                       then
    -       HOLD                                        LOOSE; asked about 2 s later, then each 5 s
    LOOSE   a keeper says FAST                          FAST; asked about in turn
    LOOSE   RELEASE of exactly this version             ends
    LOOSE   its putter's links closed for 5 s, and
            everybody says UNKNOWN, twice               ends
    any     a keeper says OLD                           OVER
    any     RELEASE of all before a greater version     asked about at once
    FAST    UNKNOWN, PENDING, RELEASE of this version   -
    OVER    60 s later, or room is needed               ends
    OVER    FAST, HOLD                                  -

*Everybody* is each member alive, and each that was alive when the version came here, unless it has
left in order: one that crashed or was cut off may be the only one to know, and comes back perhaps.
Both times of asking must be without a change of members, so an entry that is just then handed from
one keeper to another is met. A member answers PENDING instead of UNKNOWN while it has a link of the
version's putter itself: a copy made by repair comes without that link, and a link may break while
the put goes on. For that a LOOSE version is remembered without chunks while a putter's link is up.

Asked are the first 3 keepers, of the FAST ones one in turn; answers that do not come are asked for
again by the next turn, so nothing here waits for anybody.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import islice
from typing import Final

from .agenda import Agenda
from .filetypes import (
    FAST,
    KEEPERS_ASKED,
    OLD,
    PENDING,
    RELEASE_THIS,
    UNKNOWN,
    Claim,
    Copies,
    Digest,
    Key,
)
from .holdings_io import Name
from .hybridclock import Version
from .placement import Placement

ASK_FIRST_MS: Final = 2000  # most puts are over by then
ASK_MS: Final = 5000
ASK_MS_MAX: Final = 60_000  # of one whose putter is gone: everybody is asked
PUTTER_MS: Final = 5000  # for a putter's RELEASE, by another way than its link, to come
PASSES: Final = 2  # of asking everybody: what is on its way in one is there in the next
OVER_MS: Final = 60_000  # who reads a file when it is replaced reads on
TURN_MS: Final = 1000
TURN_NAMES: Final = 256  # asked about in a turn
CYCLE_MS: Final = 60_000  # the least between two turns of one version
ASK_NAMES: Final = 256  # of a question

_ASK, _OVER, _TURN = range(3)


class State(IntEnum):
    """What has become of a version."""

    LOOSE = 0
    FAST = 1
    OVER = 2


@dataclass(slots=True, eq=False)
class File:
    """A version that claims chunks here."""

    name: Name
    made_ms: int
    born: frozenset[int]  # the members alive when it came here
    state: State = State.LOOSE
    keys: dict[Key, None] = field(default_factory=dict)
    bytes: int = 0  # of those chunks
    shared: dict[Copies, Claim] = field(default_factory=dict)
    links: set[int] = field(default_factory=set)  # its putter's, while LOOSE
    idle_ms: int = 0  # when the last of them closed, or it was made
    round: int = -1  # of members, in which `unknown` was heard
    unknown: set[int] = field(default_factory=set)
    passes: int = 0
    tries: int = 0


class Claims:
    """The versions, and the questions about them; driven by `holdings.py`."""

    def __init__(self) -> None:
        self._files: dict[Name, File] = {}
        self._versions: dict[Digest, dict[Version, None]] = {}
        self._links: dict[int, set[Name]] = {}
        self._present: frozenset[int] = frozenset()
        self._left: set[int] = set()
        self._placement = Placement(())
        self._round = 0
        self._over: dict[Name, None] = {}  # oldest first
        self._ending: dict[Name, None] = {}
        self._turn: list[Name] = []
        self._cycle_ms = 0  # when the turn began
        self._turns = 0
        self._asks: dict[int, dict[Name, None]] = {}
        self._agenda = Agenda()
        self._bytes = [0] * len(State)

    # ---- the face ----

    def bytes(self, state: State) -> int:
        """What versions in a state claim; a chunk counts for each."""
        return self._bytes[state]

    def state(self, name: Name) -> State:
        """Of a version that claims something here."""
        return self._files[name].state

    def pending(self, name: Name) -> bool:
        """Whether a putter of this version is connected, as far as known."""
        file = self._files.get(name)
        return file is not None and file.state is State.LOOSE and bool(file.links)

    def next_deadline(self) -> int | None:
        return self._agenda.next()

    def asks(self) -> Iterator[tuple[int, list[Name]]]:
        """Takes out the questions that are to be sent."""
        asks, self._asks = self._asks, {}
        for node, names in asks.items():
            every = list(names)
            for start in range(0, len(every), ASK_NAMES):
                yield node, every[start : start + ASK_NAMES]

    # ---- claims come and go ----

    def add(self, claim: Claim, key: Key, size: int, link: int, now: int) -> Claim:
        """A chunk is claimed; `link` is the putter's, 0 if it is not the putter that says so.
        Returns an equal claim of which all chunks share what they can."""
        name = claim[:2]
        file = self._files.get(name)
        if file is None:
            file = self._files[name] = File(name, now, self._present, idle_ms=now)
            self._versions.setdefault(name[0], {})[name[1]] = None
            self._agenda.set((_ASK, name), now + ASK_FIRST_MS)
            if (_TURN, 0) not in self._agenda:
                self._agenda.set((_TURN, 0), now + TURN_MS)
        if key not in file.keys:
            file.keys[key] = None
            self._count(file, size)
        if link and file.state is State.LOOSE:
            file.links.add(link)
            self._links.setdefault(link, set()).add(name)
        if isinstance(claim.place, Copies):
            return file.shared.setdefault(claim.place, claim)
        return Claim(*file.name, claim.place)

    def remove(self, name: Name, key: Key, size: int) -> None:
        """A chunk is not held under this version any more."""
        file = self._files[name]
        del file.keys[key]
        self._count(file, -size)
        if not file.keys and not (file.state is State.LOOSE and file.links):
            self._forget(file)

    def ending(self, count: int) -> list[tuple[Name, Key]]:
        """Some claims that have ended; the caller removes them."""
        return self._first(self._ending, count)

    def oldest_over(self) -> list[tuple[Name, Key]]:
        """A claim that ends as soon as room is needed, or none; the caller removes it."""
        return self._first(self._ending, 1) or self._first(self._over, 1)

    def _first(self, names: dict[Name, None], count: int) -> list[tuple[Name, Key]]:
        found: list[tuple[Name, Key]] = []
        for name in names:
            keys = self._files[name].keys
            found += [(name, key) for key in islice(keys, count - len(found))]
            if len(found) == count:
                break
        return found

    def _count(self, file: File, size: int) -> None:
        file.bytes += size
        self._bytes[file.state] += size

    def _forget(self, file: File) -> None:
        name = file.name
        self._unlink(file)
        del self._files[name]
        del self._versions[name[0]][name[1]]
        if not self._versions[name[0]]:
            del self._versions[name[0]]
        self._over.pop(name, None)
        self._ending.pop(name, None)
        self._agenda.cancel((_ASK, name))
        self._agenda.cancel((_OVER, name))

    def _unlink(self, file: File) -> None:
        for link in file.links:
            names = self._links[link]
            names.discard(file.name)
            if not names:
                del self._links[link]
        file.links.clear()

    # ---- events ----

    def members_changed(self, placement: Placement, present: frozenset[int]) -> None:
        self._placement = placement
        self._present = present
        self._left -= present
        self._round += 1

    def member_left(self, node: int) -> None:
        self._left.add(node)

    def link_closed(self, link: int, now: int) -> None:
        for name in self._links.pop(link, ()):
            file = self._files[name]
            file.links.discard(link)
            if file.links:
                continue
            file.idle_ms = now
            if not file.keys:
                self._forget(file)

    def released(self, how: int, digest: Digest, version: Version) -> None:
        if how == RELEASE_THIS:
            file = self._files.get((digest, version))
            if file is not None and file.state is State.LOOSE:
                self._end(file)
            return
        for older in [v for v in self._versions.get(digest, ()) if v < version]:
            file = self._files[digest, older]
            if file.state is not State.OVER:
                self._ask(file.name, self._keepers(digest))

    def answered(self, node: int, name: Name, state: int, now: int) -> None:
        file = self._files.get(name)
        if file is None or file.state is State.OVER or node not in self._present:
            return
        if state == OLD:
            self._over[name] = None
            self._agenda.set((_OVER, name), now + OVER_MS)
            self._enter(file, State.OVER)
        elif file.state is State.FAST:
            return
        elif state == FAST:
            self._enter(file, State.FAST)
        elif state == PENDING:
            file.passes, file.tries = 0, 0
            file.unknown.clear()
        elif state == UNKNOWN:
            file.unknown.add(node)

    def _enter(self, file: File, state: State) -> None:
        self._bytes[file.state] -= file.bytes
        file.state = state
        self._bytes[state] += file.bytes
        self._unlink(file)
        self._agenda.cancel((_ASK, file.name))
        if not file.keys:
            self._forget(file)

    def _end(self, file: File) -> None:
        name = file.name
        self._agenda.cancel((_OVER, name))
        self._over.pop(name, None)
        self._ending[name] = None
        if file.state is not State.OVER:
            self._enter(file, State.OVER)

    # ---- asking ----

    def time_passed(self, now: int) -> None:
        for _ in range(TURN_NAMES):
            key = self._agenda.pop(now)
            if key is None:
                return
            kind, name = key
            if kind == _ASK:
                self._ask_loose(self._files[name], now)
            elif kind == _OVER:
                self._end(self._files[name])
            elif self._files:
                self._take_turn(now)
                self._agenda.set((_TURN, 0), now + TURN_MS)

    def _ask_loose(self, file: File, now: int) -> None:
        wait = ASK_MS
        if file.links or now - file.idle_ms < PUTTER_MS:
            file.round = -1
            self._ask(file.name, self._keepers(file.name[0]))
        else:
            if file.round != self._round:
                file.round, file.passes, file.tries = self._round, 0, 0
                file.unknown.clear()
            elif file.unknown >= (file.born - self._left) | self._present:
                file.passes += 1
                file.unknown.clear()
            if file.passes >= PASSES:
                self._end(file)
                return
            wait = min(ASK_MS << file.tries, ASK_MS_MAX)
            file.tries = min(file.tries + 1, 4)
            self._ask(file.name, tuple(sorted(self._present - file.unknown)))
        self._agenda.set((_ASK, file.name), now + wait)

    def _take_turn(self, now: int) -> None:
        if not self._turn and now - self._cycle_ms >= CYCLE_MS:
            self._turn = list(self._files)
            self._cycle_ms = now
            self._turns += 1
        for name in self._turn[-TURN_NAMES:]:
            file = self._files.get(name)
            keepers = self._keepers(name[0])
            if file is not None and file.state is State.FAST and keepers:
                self._ask(name, (keepers[self._turns % len(keepers)],))
        del self._turn[-TURN_NAMES:]

    def _keepers(self, digest: Digest) -> tuple[int, ...]:
        return self._placement.keepers(digest, KEEPERS_ASKED)

    def _ask(self, name: Name, nodes: tuple[int, ...]) -> None:
        for node in nodes:
            self._asks.setdefault(node, {})[name] = None

    def validate(self) -> None:
        """Raises AssertionError if an invariant does not hold."""
        totals = [0] * len(State)
        for name, file in self._files.items():
            assert file.name == name and name[1] in self._versions[name[0]]
            assert file.keys or file.links, "a version for nothing"
            assert not file.links or file.state is State.LOOSE
            assert (file.state is State.LOOSE) == ((_ASK, name) in self._agenda)
            over = (name in self._over) + (name in self._ending)
            assert over == (file.state is State.OVER), "over, and never freed"
            assert (name in self._over) == ((_OVER, name) in self._agenda)
            assert all(name in self._links[link] for link in file.links)
            totals[file.state] += file.bytes
        assert totals == self._bytes
        assert sum(map(len, self._versions.values())) == len(self._files)
        assert self._over.keys() | self._ending.keys() <= self._files.keys()
        for link, names in self._links.items():
            assert names and all(link in self._files[name].links for name in names)
