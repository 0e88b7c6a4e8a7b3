"""The nodes that one transfer talks to: who can be asked now, who owes an answer, who is silent.

Owns: for each node what it owes, when it last gave a sign, and how often it was lost. Refuses to
know: what is owed. Files' policies (`putting.py`, `getting.py`, `removing.py`) share it.

    node     event                              then
    ready    lost: link closed, or silent       resting for REST_MS, owes nothing
    resting  REST_MS later                      ready: RESTED
    any      lost LOSSES_MAX times,             given up: as if it were no member,
             never STEADY_MS apart              until it has left the members alive and come back
    any      owes, no sign for the silence      SILENT: the caller says that it is lost
"""

from __future__ import annotations

from typing import Final

from .agenda import Agenda
from .transfer_io import Members

REST_MS: Final = (
    1000  # a link that broke by mischance is there again; less than a holder waits (5 s)
)
LOSSES_MAX: Final = 3
STEADY_MS: Final = 60_000  # a link that broke before that is not held against a node

SILENT: Final = 0
RESTED: Final = 1


class _Node:
    __slots__ = ("losses", "lost_ms", "owed", "sign_ms")

    def __init__(self) -> None:
        self.owed = 0
        self.sign_ms = 0
        self.losses = 0
        self.lost_ms = 0


class Peers:
    """See above; `now` is never smaller than before."""

    __slots__ = ("_agenda", "_nodes", "_silence_ms", "members")

    def __init__(self, members: Members, silence_ms: int) -> None:
        self.members = members
        self._silence_ms = silence_ms
        self._nodes: dict[int, _Node] = {}
        self._agenda = Agenda()

    def usable(self, node: int) -> bool:
        """It is alive, and not given up."""
        held = self._nodes.get(node)
        return node in self.members.alive and (held is None or held.losses < LOSSES_MAX)

    def ready(self, node: int) -> bool:
        """It can be asked now."""
        return self.usable(node) and (RESTED, node) not in self._agenda

    def owed(self, node: int) -> int:
        """How many answers it owes."""
        held = self._nodes.get(node)
        return held.owed if held is not None else 0

    def owe(self, node: int, now: int) -> None:
        """It was asked for something."""
        held = self._nodes.setdefault(node, _Node())
        held.owed += 1
        if held.owed == 1:
            held.sign_ms = now
            self._agenda.set((SILENT, node), now + self._silence_ms)

    def sign(self, node: int, now: int) -> None:
        """Something came of it, or went to it."""
        held = self._nodes.get(node)
        if held is not None:
            held.sign_ms = now

    def paid(self, node: int, now: int) -> None:
        """It owes one answer less."""
        held = self._nodes.get(node)
        if held is not None and held.owed:
            held.owed -= 1
            held.sign_ms = now
            if not held.owed:
                self._agenda.cancel((SILENT, node))

    def lost(self, node: int, now: int) -> None:
        """What it owes will not come."""
        self._agenda.cancel((SILENT, node))
        if node not in self.members.alive:
            self._nodes.pop(node, None)
            return
        held = self._nodes.setdefault(node, _Node())
        if now - held.lost_ms > STEADY_MS:
            held.losses = 0
        held.owed, held.lost_ms = 0, now
        held.losses += 1
        if held.losses < LOSSES_MAX:
            self._agenda.set((RESTED, node), now + REST_MS)
        else:
            self._agenda.cancel((RESTED, node))

    def change(self, members: Members) -> list[int]:
        """Other members; gives those that are not alive any more: all that they owe is lost."""
        left = sorted(self.members.alive - members.alive)
        self.members = members
        for node in left:
            self._nodes.pop(node, None)
            self._agenda.cancel((SILENT, node))
            self._agenda.cancel((RESTED, node))
        return left

    def next_deadline(self) -> int | None:
        """When `pop` has something, at the earliest."""
        return self._agenda.next()

    def pop(self, now: int) -> tuple[int, int] | None:
        """(SILENT or RESTED, node) of one that is so since it was last asked."""
        while (key := self._agenda.pop(now)) is not None:
            kind, node = key
            if kind == SILENT:
                due = self._nodes[node].sign_ms + self._silence_ms
                if due > now:
                    self._agenda.set((SILENT, node), due)
                    continue
            return kind, node
        return None

    def validate(self) -> None:
        """Raises AssertionError if an invariant does not hold."""
        for node, held in self._nodes.items():
            assert node in self.members.alive, "somebody who is not there owes"
            assert (held.owed > 0) == ((SILENT, node) in self._agenda), "owed, and no deadline"
            resting = (RESTED, node) in self._agenda
            assert not (resting and held.losses >= LOSSES_MAX), "given up, and resting"
