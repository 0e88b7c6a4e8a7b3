"""One pull: which inner nodes and leaves of a peer's tree differ, and what is asked for next.

Owns: what is known of the peer's tree in one session, and what of it need not be looked at again.
Refuses to know: links, deadlines, what becomes of records.

How: the tree is gone down depth first, so that little waits. Of a node whose sum differs the
children are asked for; of leaves the records. One question is under way at a time, of
`ASK_MAX` nodes, or of so many leaves that about `RECORDS_WANTED` records come.

A sum of the peer's may go on differing though nothing is lacking here: a tombstone that is settled
here and not there is in one sum only. So what was pulled whole is kept, node by node, with the
peer's sum (`Known`); where the peer's is that again there is nothing to get. That holds for as long
as both processes live: what is here is only replaced by what is later, or dropped by all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from .kvsync_io import Store
from .kvtalk import FANOUT

LEVELS: Final = 4  # below the root; those of the lowest are leaves
ASK_MAX: Final = 256  # of a KV_ASK
LEAVES_FIRST: Final = 16  # of the first question; as many more as are wanted of records later
LEAVES_MAX: Final = 1024  # of a KV_LEAVES
RECORDS_WANTED: Final = 2000  # in an answer: some 200 kB of small ones
KNOWN_MAX: Final = 65_536  # nodes of one peer: 10 MB at worst

Node = tuple[int, int]
"""Level, 1 below the root to 4, and index there."""


class Known:
    """The sums of a peer of which this node has all; of one life of it."""

    __slots__ = ("_sums",)

    def __init__(self) -> None:
        self._sums: dict[Node, int] = {}

    def has(self, node: Node, sum: int) -> bool:
        return self._sums.get(node) == sum

    def add(self, sums: dict[Node, int]) -> None:
        """A session is complete."""
        if len(self._sums) + len(sums) > KNOWN_MAX:
            self._sums.clear()
        if len(sums) <= KNOWN_MAX:
            self._sums.update(sums)


class Pull:
    """See above."""

    __slots__ = ("_asked", "_batch", "_known", "_seen", "_store", "_todo", "records")

    def __init__(self, store: Store, known: Known) -> None:
        self._store = store
        self._known = known
        self._seen: dict[Node, int] = {}
        self._todo: list[list[int]] = [[] for _ in range(LEVELS + 1)]
        self._asked: tuple[int, frozenset[int]] = (0, frozenset())
        self._batch = LEAVES_FIRST
        self.records = 0

    def heard_root(self, sums: Sequence[int]) -> None:
        """The sums of the root's children."""
        self._compare(0, 0, sums)

    def next(self) -> tuple[int, tuple[int, ...]] | None:
        """(level, indexes) to ask for: of a level below LEVELS the children's sums, at LEVELS the
        records. None: all that differed has come."""
        for level in range(LEVELS, 0, -1):
            todo = self._todo[level]
            if todo:
                most = self._batch if level == LEVELS else ASK_MAX
                asked = tuple(todo[-most:])
                del todo[-most:]
                self._asked = (level, frozenset(asked))
                return level, asked
        return None

    def heard_sums(self, level: int, answers: Iterable[tuple[int, Sequence[int]]]) -> bool:
        """An answer of sums; False: it is none to what was asked."""
        answers = list(answers)
        asked = self._asked
        self._asked = (0, frozenset())
        told = frozenset(index for index, _ in answers)
        if level == LEVELS or (level, told) != asked or len(told) != len(answers):
            return False
        if any(len(sums) != FANOUT for _, sums in answers):
            return False
        for index, sums in answers:
            self._compare(level, index, sums)
        return True

    def heard_leaves(self, records: int) -> bool:
        """An answer of records has ended; False: none was asked for."""
        level, asked = self._asked
        self._asked = (0, frozenset())
        if level != LEVELS:
            return False
        self.records += records
        per_leaf = max(1, records // len(asked))
        self._batch = max(1, min(LEAVES_MAX, 2 * self._batch, RECORDS_WANTED // per_leaf))
        return True

    def complete(self) -> None:
        """All that differed has come, whole."""
        self._known.add(self._seen)

    def _compare(self, level: int, index: int, theirs: Sequence[int]) -> None:
        ours = self._store.sums(level, index)
        for child, (our, their) in enumerate(zip(ours, theirs, strict=True)):
            node = (level + 1, index * FANOUT + child)
            if our != their and not self._known.has(node, their):
                self._todo[level + 1].append(node[1])
                self._seen[node] = their
