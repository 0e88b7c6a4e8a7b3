"""What one decision of the scheduler costs: `pytest bench/test_scheduler.py`.

Each figure is for whole rounds of a task: submitted, sent, answered, finished. The scheduler's
share of a call must stay far below the call itself: at most 2 us a built-in in batches, 10 us for
one alone.
"""

from __future__ import annotations

import random
from itertools import count
from typing import Any

import pytest

from velum.policy.scheduler import Scheduler
from velum.policy.scheduler_io import MemberUsable, Send, TasksAnswered, TasksSubmitted
from velum.policy.tasks import Kind, Task
from velum.policy.types import Health

HEALTH = Health(cpu=20, slots=2, cores=2, free_mib=4096, speed=100_000)


class Mesh:
    """A scheduler over nodes that answer at once."""

    def __init__(self, nodes: int) -> None:
        self.scheduler = Scheduler(random.Random(1))
        self.ids = count(1)
        for node in range(1, nodes + 1):
            self.scheduler.handle(MemberUsable(node, HEALTH), 0)

    def run(self, kind: Kind, size: int, timeout_ms: int = 0) -> None:
        """Submits a batch and answers, send by send, until all of it is finished."""
        ids = self.ids
        tasks = [Task(next(ids), kind, None, timeout_ms) for _ in range(size)]
        effects = self.scheduler.handle(TasksSubmitted(tasks), 0)
        while effects:
            more = []
            for effect in effects:
                if type(effect) is Send:
                    tickets = [task.ticket for task in effect.tasks]
                    answer = TasksAnswered(effect.node, tickets, HEALTH)
                    more += self.scheduler.handle(answer, 0)
            effects = more
        assert self.scheduler.unfinished == 0


@pytest.mark.parametrize(
    ("kind", "nodes", "size", "timeout_ms"),
    [
        (Kind.BUILTIN, 2, 100_000, 0),
        (Kind.BUILTIN, 4, 10_000, 0),
        (Kind.BUILTIN, 4, 10_000, 5000),
        (Kind.BUILTIN, 4, 100, 0),
        (Kind.BUILTIN, 4, 1, 0),
        (Kind.BUILTIN, 1000, 1, 0),
        (Kind.BUILTIN, 1000, 10_000, 0),
        (Kind.WASM, 4, 1000, 0),
        (Kind.WASM, 4, 1, 0),
        (Kind.WASM, 1000, 1, 0),
    ],
)
def test_rounds(benchmark: Any, kind: Kind, nodes: int, size: int, timeout_ms: int) -> None:
    mesh = Mesh(nodes)
    benchmark.group = "the scheduler alone, a whole round of a task"
    limit = ", with a timeout" if timeout_ms else ""
    what = f"{kind.name.lower()}, {nodes} nodes, batches of {size:,}{limit}"
    benchmark.extra_info.update(what=what, units=size)
    benchmark(mesh.run, kind, size, timeout_ms)
