"""A node that has just started says who there is when it knows, or when it has found nobody."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from velum import arrival
from velum.arrival import ALONE_MS, Arrival


class World:
    """A clock, and whether another member has told all it knows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seeks: bool = True) -> None:
        self.now = 5000
        self.joined = False
        self.told: list[str] = []
        monkeypatch.setattr(arrival, "now_ms", lambda: self.now)
        runtime: Any = SimpleNamespace(services=[])
        self.arrival = Arrival(runtime, lambda: self.joined, seeks)
        assert runtime.services == [self.arrival]

    def ask(self, name: str) -> None:
        self.arrival.then(lambda: self.told.append(name))

    def run(self, end: int) -> None:
        """Until then, or until nobody waits."""
        while (due := self.arrival.next_deadline()) is not None and due <= end:
            assert due > self.now, "a busy loop"
            self.now = due
            self.arrival.on_time(due)


def test_who_asks_waits_until_a_member_has_told(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.ask("first")
    world.ask("second")
    world.run(5000 + ALONE_MS // 2)
    assert world.told == []
    world.joined = True
    world.run(5000 + ALONE_MS // 2 + 20)
    assert world.told == ["first", "second"]
    world.ask("third")
    assert world.told[2:] == ["third"] and world.arrival.next_deadline() is None


def test_a_node_that_nobody_answers_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.ask("first")
    world.run(5000 + ALONE_MS - 1)
    assert world.told == []
    world.run(5000 + 2 * ALONE_MS)
    assert world.told == ["first"] and world.now <= 5000 + ALONE_MS + arrival.LOOK_MS


def test_one_that_looks_for_nobody_knows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, seeks=False)
    world.ask("first")
    assert world.told == ["first"]
