"""What is known of a fleet: every robot's figures, how old each is, and who is away.

Owns: which keys are figures of robots, what a figure typed at a prompt means, ages. Refuses to
know: where changes come from and what time it is: both are given. A robot's figure is the key
``robots/NAME/ATTRIBUTE``; the figure ``node`` is the id of the node that the robot is.

An age is the longer of two: since this side heard of the figure, by its own clock, and since it was
written, by the writer's clock, which may be wrong. So a figure that was there before this side
looked is as old as its writer says, and one from a clock that is ahead is never younger than what
was seen here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

FOLDER: Final = "robots/"
PATTERN: Final = f"{FOLDER}*/*"  # of all figures
NODE: Final = "node"  # the figure that says which node a robot is
KNOWN: Final = ("position", "status", "battery")  # None until they are set, never an error
PRESENT: Final = frozenset({"alive", "suspect"})  # states of a node that may answer yet

_STAMP_BITS = 16  # of a version's time that count on; above are unix milliseconds


@dataclass(frozen=True)
class Figure:
    """One thing that a robot has told."""

    value: Any
    age: float  # seconds


@dataclass(frozen=True)
class Robot:
    """One robot as the fleet knows it. Its figures' values are its attributes too."""

    name: str
    node: int | None  # its node's id; None: it has not said
    state: str  # of that node: "alive", "suspect", "dead", "left" or "unknown"
    figures: Mapping[str, Figure]

    @property
    def away(self) -> bool:
        """Whether its node does not answer, or is not known here."""
        return self.state not in PRESENT

    def __getattr__(self, attribute: str) -> Any:
        figures: Mapping[str, Figure] = self.__dict__.get("figures", {})
        if attribute in figures:
            return figures[attribute].value
        if attribute in KNOWN:
            return None
        raise AttributeError(f"robot {self.__dict__.get('name')!r} has told no {attribute!r}")


@dataclass
class _Heard:
    value: Any
    version: tuple[int, int]
    at: float  # by the clock of ages, when it was heard


class Fleet:
    """Figures as changes tell them. Not for several threads at once."""

    def __init__(self) -> None:
        self._robots: dict[str, dict[str, _Heard]] = {}
        self._unseen: set[tuple[str, str]] = set()

    def begin(self) -> None:
        """The current state is about to be told, whole: what is not in it is no more."""
        self._unseen = {
            (name, attribute) for name, known in self._robots.items() for attribute in known
        }

    def now(self) -> None:
        """It has been told."""
        for name, attribute in self._unseen:
            self._drop(name, attribute)
        self._unseen.clear()

    def note(self, key: str, value: Any, version: str, at: float) -> None:
        """A figure has this value, which was heard at `at`. An older version changes nothing."""
        place = place_of(key)
        if place is None:
            return
        self._unseen.discard(place)
        name, attribute = place
        known = self._robots.setdefault(name, {})
        before = known.get(attribute)
        written = version_of(version)
        if before is None or written > before.version:
            known[attribute] = _Heard(value, written, at)

    def gone(self, key: str) -> None:
        """A figure is no more."""
        place = place_of(key)
        if place is not None:
            self._drop(*place)

    def _drop(self, name: str, attribute: str) -> None:
        known = self._robots.get(name, {})
        known.pop(attribute, None)
        if not known:
            self._robots.pop(name, None)

    def robots(self, states: Callable[[int], str], at: float, unix_ms: int) -> dict[str, Robot]:
        """All robots by name; `states` says what a node's state is."""
        return {name: self._robot(name, states, at, unix_ms) for name in sorted(self._robots)}

    def _robot(self, name: str, states: Callable[[int], str], at: float, unix_ms: int) -> Robot:
        figures = {
            attribute: Figure(heard.value, _age(heard, at, unix_ms))
            for attribute, heard in sorted(self._robots[name].items())
        }
        told = figures.pop(NODE, None)
        node = told.value if told is not None and isinstance(told.value, int) else None
        return Robot(name, node, "unknown" if node is None else states(node), figures)


def _age(heard: _Heard, at: float, unix_ms: int) -> float:
    written_s = (unix_ms - (heard.version[0] >> _STAMP_BITS)) / 1000
    return max(0.0, at - heard.at, written_s)


def key_of(name: str, attribute: str) -> str:
    """The key of a robot's figure."""
    return f"{FOLDER}{name}/{attribute}"


def place_of(key: str) -> tuple[str, str] | None:
    """(robot, attribute) of a figure's key; None of any other."""
    parts = key.split("/")
    if len(parts) != 3 or parts[0] + "/" != FOLDER or not all(parts):
        return None
    return parts[1], parts[2]


def version_of(version: str) -> tuple[int, int]:
    """``STAMP-NODE`` so that the later is the greater; zeros for none."""
    stamp, _, node = version.partition("-")
    try:
        return int(stamp, 16), int(node or "0")
    except ValueError:
        return 0, 0


def meaning(value: Any) -> Any:
    """What a figure is. Robots tell them as JSON; bytes were typed at a prompt, or come from a
    Redis client: they mean the JSON that they are, else the text that they are."""
    if not isinstance(value, bytes):
        return value
    try:
        text = value.decode()
        return json.loads(text)
    except UnicodeDecodeError:
        return value
    except (ValueError, RecursionError):
        return text


def nearest(robots: Iterable[Robot], point: Sequence[float], count: int) -> list[Robot]:
    """The robots that are nearest to a point, the nearest first; those that are away, or have told
    no position of as many coordinates, are none of them."""
    found = []
    for robot in robots:
        far = None if robot.away else distance(robot.position, point)
        if far is not None:
            found.append((far, robot.name, robot))
    return [robot for _, _, robot in sorted(found, key=lambda row: row[:2])[: max(0, count)]]


def distance(position: object, point: Sequence[float]) -> float | None:
    """How far a position is from a point; None when it is none, or one of another space."""
    if not isinstance(position, (list, tuple)) or len(position) != len(point):
        return None
    if not all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in position):
        return None
    far = math.dist(position, point)
    return far if math.isfinite(far) else None
