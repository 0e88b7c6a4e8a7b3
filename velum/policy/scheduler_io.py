"""What the scheduler hears and what it asks for: its events and effects.

Owns: their shapes. Refuses to know: how either comes about. Events are past-tense nouns, effects
are verbs. They are not frozen, unlike others: some are made for every call, and a frozen dataclass
takes three times as long to make.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from .tasks import Code, Task
from .types import Health


class Why(Enum):
    """Why a member is of no use any more."""

    SUSPECTED = "suspected"
    DEAD = "dead"
    LEFT = "left"
    LINK = "link lost"


# ---- events ----


@dataclass(slots=True)
class TasksSubmitted:
    """Callers want these run. The scheduler keeps the objects."""

    tasks: Sequence[Task]


@dataclass(slots=True)
class CancelRequested:
    """A caller gives a task up. Ignored if it has ended."""

    id: int
    code: int = Code.CANCELLED


@dataclass(slots=True)
class MemberUsable:
    """Tasks can be sent to this node from now on; this node itself is a member like any other."""

    id: int
    health: Health


@dataclass(slots=True)
class HealthHeard:
    """A member's latest report."""

    id: int
    health: Health


@dataclass(slots=True)
class MemberLost:
    """No answer of this node counts from now on, until it is usable again."""

    id: int
    why: Why


@dataclass(slots=True)
class TasksAnswered:
    """A node answered with results: as many as came at once, for a mesh does little else."""

    node: int
    tickets: Sequence[int]
    health: Health | None = None


@dataclass(slots=True)
class TaskFailed:
    """A node answered with an error; `deaths` as in the frame ERROR."""

    ticket: int
    node: int
    code: int
    deaths: int = 0
    text: str = ""


@dataclass(slots=True)
class TimePassed:
    """The instant that next_deadline() named has come. Early or late does no harm."""


Event = (
    TasksSubmitted
    | CancelRequested
    | MemberUsable
    | HealthHeard
    | MemberLost
    | TasksAnswered
    | TaskFailed
    | TimePassed
)

# ---- effects ----


@dataclass(slots=True)
class Send:
    """Send each task to the node under its ticket, with left_ms() as its timeout."""

    node: int
    tasks: list[Task]


@dataclass(slots=True)
class CancelOn:
    """Tell the node to stop the send of this ticket; it shall end there with `code`."""

    node: int
    ticket: int
    code: int


@dataclass(slots=True)
class Finish:
    """Give the callers the results that came under these tickets. What else was in the event is
    late or a duplicate, to be dropped."""

    node: int
    tickets: list[int]


@dataclass(slots=True)
class Fail:
    """Give the caller this error; `node` is 0 if it happened at none."""

    task_id: int
    code: int
    node: int
    text: str


Effect = Send | CancelOn | Finish | Fail
