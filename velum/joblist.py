"""The jobs of the whole mesh, asked of every node.

Owns: questions under way. Every node knows the jobs that it holds; whoever wants all of them asks a
node, which asks the others and merges what they say: of two accounts of one job, the greater claim
counts. A node that does not answer in time is left out. Refuses to know: how jobs go on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from velum.members import Members
from velum.policy import types
from velum.policy.job import State, as_plain
from velum.runtime import Runtime, now_ms
from velum.scatter import Scatter

ASK_MS = 1000
HERE = "jobs here"  # the topic of what one node holds; "jobs" is the mesh's
QUESTION_BIT = 1 << 60  # of the numbers of questions, which no ticket reaches

Jobs = list[dict[str, Any]]


@dataclass(slots=True)
class _Question:
    """Somebody wants to know; `missing` are the links that have still to answer."""

    then: Callable[[Jobs], None]
    found: dict[str, dict[str, Any]]
    missing: set[int]
    due: int


class JobList:
    """The questions of one node. Everything runs in the loop's thread."""

    def __init__(self, runtime: Runtime, members: Members, scatter: Scatter) -> None:
        self._hub = runtime.hub
        self._members = members
        self._scatter = scatter
        self._questions: dict[int, _Question] = {}
        self._next = QUESTION_BIT
        runtime.services.append(self)

    def here(self) -> Jobs:
        """The jobs that this node holds."""
        return [as_plain(job.record, job.spec) for job in self._scatter.held()]

    def everywhere(self, then: Callable[[Jobs], None]) -> None:
        """Calls then(jobs) with the mesh's, newest first; a second later at most."""
        self._next += 1
        question = _Question(then, {}, set(), now_ms() + ASK_MS)
        self._merge(question, self.here())
        for peer in list(self._members.peers.values()):
            if peer.role == types.NODE and peer.id in self._members.alive():
                if self._hub.send_query(peer.link, self._next, HERE):
                    question.missing.add(peer.link)
        self._questions[self._next] = question
        self._settle(self._next)

    def on_answer(self, link: int, correlation: int, body: bytes) -> None:
        """An ANSWER of a member."""
        question = self._questions.get(correlation)
        if question is None or link not in question.missing:
            return
        question.missing.discard(link)
        try:
            self._merge(question, json.loads(body))
        except (ValueError, TypeError, KeyError, AttributeError):
            pass  # a confused peer: the others' words count
        self._settle(correlation)

    def unlinked(self, link: int) -> None:
        """A link closed: no answer will come over it."""
        for number, question in list(self._questions.items()):
            question.missing.discard(link)
            self._settle(number)

    def _settle(self, number: int) -> None:
        question = self._questions[number]
        if not question.missing:
            del self._questions[number]
            question.then(
                sorted(question.found.values(), key=lambda job: -int(job.get("created_ms", 0)))
            )

    @staticmethod
    def _merge(question: _Question, jobs: Jobs) -> None:
        for job in jobs:
            known = question.found.get(job["id"])
            if known is None or _claim(known) < _claim(job):
                question.found[job["id"]] = job

    # ---- timers ----

    def next_deadline(self) -> int | None:
        """When the next question is answered with what there is."""
        return min((question.due for question in self._questions.values()), default=None)

    def on_time(self, now: int) -> None:
        """Answers those whose time is up."""
        for number, question in list(self._questions.items()):
            if question.due <= now:
                question.missing.clear()
                self._settle(number)


def _claim(job: dict[str, Any]) -> tuple[int, ...]:
    state = State[str(job["state"]).upper()]
    numbers = (job["attempt"], state, job["epoch"], job["coordinator"], job["done"])
    return tuple(int(number) for number in numbers)
