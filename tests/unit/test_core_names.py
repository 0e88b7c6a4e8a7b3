"""Entries and what is said of them through the binding: that all have one is told once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from velum import _core, frames
from velum.policy.filetypes import (
    INLINE,
    NAMED_KEPT,
    NAMED_LATER,
    NAMED_REPLACED,
    Coding,
    Entry,
    Manifest,
)
from velum.policy.hybridclock import Version

LOOPBACK = (0x7F000001, 0)
PATIENCE_S = 20.0
VERSION = Version(1 << 40, 7)
LATER = Version(1 << 41, 8)
NUMBER = 5


class Keepers:
    """A client's hub, and those of the nodes that it is linked to, which say what they are told."""

    def __init__(self, count: int) -> None:
        self.client = _core.Hub(links_max=4)
        self.client.identity(role=4)
        self.nodes = [_core.Hub(links_max=4) for _ in range(count)]
        self.links: list[int] = []  # of the client
        self._theirs: list[int] = []
        for id, node in enumerate(self.nodes, 1):
            node.identity(role=1, id=id, incarnation=1)
            self.links.append(self.client.dial(node.listen(LOOPBACK)))
            theirs = self._wait(node, _core.OPENED)[1]
            node.accept(theirs)
            self._theirs.append(theirs)
            self._wait(self.client, _core.OPENED)

    def _wait(self, hub: _core.Hub, kind: int) -> Any:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            for other in (self.client, *self.nodes):
                for event in other.poll(1_000 if other is hub else 0):
                    if other is hub and event[0] == kind:
                        return event
        raise AssertionError(f"no event {kind} came")

    def put(self) -> None:
        """The client sends all of them an entry."""
        manifest = Manifest(3, coding=Coding(1), data=b"abc")
        entry = Entry(b"file", VERSION, len(self.links), manifest)
        assert self.client.send_entry([*self.links], NUMBER, entry) == []
        for node in self.nodes:
            assert self._wait(node, _core.NAMED)[2][0][0] == NUMBER

    def say(self, place: int, what: int, version: Version = VERSION) -> None:
        """One of them answers."""
        payload = _core.encode_version(what, INLINE, version)
        assert self.nodes[place].send(self._theirs[place], frames.VERSION, NUMBER, payload)
        self.nodes[place].flush()

    def told(self) -> tuple[int, list[tuple[int, Any]]]:
        """(link, bodies by correlation) of the next that the client is told."""
        _, link, named = self._wait(self.client, _core.NAMED)
        return link, named

    def is_told(self, ms: int = 50) -> bool:
        """Whether the client is told anything within a moment."""
        return bool(self.client.poll(ms * 1000))

    def close(self) -> None:
        """Closes all."""
        for hub in (self.client, *self.nodes):
            hub.close()


@pytest.fixture
def three() -> Iterator[Keepers]:
    made = Keepers(3)
    yield made
    made.close()


def test_that_all_have_it_is_told_once(three: Keepers) -> None:
    three.put()
    for place in (2, 0):
        three.say(place, NAMED_KEPT)
        assert not three.is_told()
    three.say(1, NAMED_KEPT)
    assert three.told() == (three.links[1], [(NUMBER, (NAMED_KEPT, INLINE, VERSION))])


@pytest.mark.parametrize("replaced", range(3))
def test_that_one_has_replaced_a_file_is_told(three: Keepers, replaced: int) -> None:
    three.put()
    for place in range(3):
        three.say(place, NAMED_REPLACED if place == replaced else NAMED_KEPT)
    assert three.told()[1] == [(NUMBER, (NAMED_REPLACED, INLINE, VERSION))]


def test_who_says_it_twice_counts_once(three: Keepers) -> None:
    three.put()
    for _ in range(3):
        three.say(0, NAMED_KEPT)
    assert not three.is_told()
    three.say(1, NAMED_KEPT)
    three.say(2, NAMED_KEPT)
    assert three.told()[1] == [(NUMBER, (NAMED_KEPT, INLINE, VERSION))]


def test_a_later_version_is_told_at_once(three: Keepers) -> None:
    three.put()
    three.say(0, NAMED_KEPT)
    three.say(1, NAMED_LATER, LATER)
    assert three.told() == (three.links[1], [(NUMBER, (NAMED_LATER, INLINE, LATER))])


def test_what_is_given_up_is_told_as_it_comes(three: Keepers) -> None:
    three.put()
    three.client.unsend(NUMBER)
    three.say(0, NAMED_KEPT)
    assert three.told() == (three.links[0], [(NUMBER, (NAMED_KEPT, INLINE, VERSION))])
    three.client.unsend(NUMBER)


def test_a_poll_that_held_all_back_goes_on_until_its_time(three: Keepers) -> None:
    three.put()
    three.say(0, NAMED_KEPT)
    began = time.monotonic()
    assert three.client.poll(200_000) == []
    assert time.monotonic() - began > 0.15
