"""Who holds copies of a job, and what each copy still lacks.

Owns: the coordinator's list of holders by rank and, for each, the slices that it has not been sent.
Refuses to know: what a slice's value is, and when things are sent. Two holders are chosen by
rendezvous hashing (Thaler and Ravishankar 1998) of the job's id over the live full nodes, so that
every coordinator of a job chooses the same ones and a node that joins or dies moves few. Nodes that
ask to be holders, because a client of theirs watches the job, come behind them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from .draws import Draws
from .job import HOLDERS_MAX
from .slices import Span, Spans

COPIES: Final = 2  # beside the coordinator's own: any two of the three may die at once


class Copies:
    """The holders of one job, as its coordinator knows them."""

    __slots__ = ("_asked", "_chosen", "_job", "_lacks", "_me", "_slices", "_told")

    def __init__(self, job: int, slices: int, me: int) -> None:
        self._job = job
        self._slices = slices
        self._me = me
        self._chosen: list[int] = []
        self._asked: list[int] = []
        self._lacks: dict[int, Spans] = {}
        self._told: set[int] = set()  # who has the spec

    @property
    def holders(self) -> tuple[int, ...]:
        """By rank."""
        return (*self._chosen, *self._asked)[:HOLDERS_MAX]

    def choose(self, members: Collection[int]) -> list[int]:
        """Chooses anew among the live full nodes; who is a holder no longer."""
        before = set(self.holders)
        ranked = Draws(tuple(members)).order(self._job)
        self._chosen = [node for node in ranked if node != self._me][:COPIES]
        self._asked = [n for n in self._asked if n in members and n not in self._chosen]
        return self._settle(before)

    def ask(self, node: int) -> None:
        """A node wants to hold the job, from nothing; ignored when there are too many."""
        if node != self._me and node not in self._chosen and node not in self._asked:
            self._asked.append(node)
        self._told.discard(node)
        self._lacks.pop(node, None)
        self._settle(set(self.holders))

    def lost(self, node: int) -> None:
        """What was sent to a node may not have arrived: it lacks everything again."""
        self._told.discard(node)
        if node in self._lacks:
            self._lacks[node] = Spans([(0, self._slices)])

    def gained(self, spans: Iterable[Span]) -> None:
        """The ledger has gained these; all copies lack them."""
        spans = list(spans)
        for lacks in self._lacks.values():
            for first, end in spans:
                lacks.add(first, end)

    def has_spec(self, node: int) -> bool:
        """Whether a holder was sent the spec; it counts as sent from now on."""
        told = node in self._told
        self._told.add(node)
        return told

    def take(self, node: int) -> Spans:
        """What a holder lacks; it counts as sent from now on."""
        lacks, self._lacks[node] = self._lacks[node], Spans()
        return lacks

    def _settle(self, before: set[int]) -> list[int]:
        now = self.holders
        for node in now:
            if node not in self._lacks:
                self._lacks[node] = Spans([(0, self._slices)])
        gone = sorted(before.difference(now))
        for node in [n for n in self._lacks if n not in now]:
            del self._lacks[node]
            self._told.discard(node)
        return gone
