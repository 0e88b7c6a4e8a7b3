"""Who is next when several wait for the same workers: fair shares by time and weight.

Owns: what waits, by group, and how much running time each group has had. Refuses to know: what a
group is (an origin, a job), workers, how a task ends.

Groups have a virtual time each: running time had, divided by weight; the least is next, and equal
ones take turns (start-time fair queueing: Goyal, Vin and Cheng, SIGCOMM 1996). Nobody knows how
long a task will run, and several run at once. So time is charged as it passes, and when groups are
compared, what runs counts for at least as long as the group's latest ran. A group that begins to
wait gets no credit for the time when it did not: it starts no earlier than the one served last, and
one that had nothing here starts with the least of those that wait.

A group is here while something of it waits or runs. A choice costs a look at each group that waits
and each task that runs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)  # names a task

# Virtual time of a millisecond at weight 1. Times are whole: what is equal must compare as equal.
PER_MS: Final = 1 << 20


class _Group(Generic[K]):
    """`time` is the virtual time of what has ended; `usual_ms` how long the latest of it ran."""

    __slots__ = ("name", "running", "time", "usual_ms", "waiting", "weight")

    def __init__(self, name: int, time: int, usual_ms: int) -> None:
        self.name = name
        self.time = time
        self.usual_ms = usual_ms
        self.weight = 1
        self.waiting: OrderedDict[K, int] = OrderedDict()  # in order, with their notes
        self.running: dict[K, int] = {}  # since when

    def at(self, now: int, least_ms: int = 0) -> int:
        """Its virtual time, if each that runs had been running for `least_ms` at least."""
        if not self.running:
            return self.time
        ran = sum([max(now - began, least_ms) for began in self.running.values()])
        return self.time + ran * PER_MS // self.weight


class Shares(Generic[K]):
    """The queue. `now` is in milliseconds and never smaller than before."""

    def __init__(self) -> None:
        self._groups: dict[int, _Group[K]] = {}
        self._round: OrderedDict[int, _Group[K]] = OrderedDict()  # those that wait, by turns
        self._waits: dict[K, _Group[K]] = {}
        self._runs: dict[K, _Group[K]] = {}
        self._level = 0  # virtual time of the group served last, as it was then
        self._usual_ms = 0  # how long the latest of any group ran

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waits)

    def __contains__(self, key: K) -> bool:
        """Whether it waits."""
        return key in self._waits

    def waiting(self) -> dict[K, int]:
        """All that wait, in the order they came, and their notes."""
        return {key: group.waiting[key] for key, group in self._waits.items()}

    def waiting_of(self, name: int) -> int:
        """How many of a group wait."""
        group = self._groups.get(name)
        return 0 if group is None else len(group.waiting)

    def add(self, key: K, name: int, weight: int, note: int, now: int) -> None:
        """One more waits, in this group, whose weight is this from now on. `take` gives the note
        back."""
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = _Group(name, self._start(now), self._usual_ms)
            self._round[name] = group
        elif not group.waiting:
            group.time += max(0, self._level - group.at(now))
            self._round[name] = group
        group.weight = weight
        group.waiting[key] = note
        self._waits[key] = group

    def _start(self, now: int) -> int:
        """Virtual time of a group that comes."""
        others = self._round or self._groups
        if not others:
            return self._level
        return max(self._level, min([group.at(now) for group in others.values()]))

    def take(self, now: int) -> tuple[K, int]:
        """Takes out the next, which runs from now on, and its note. Something waits."""
        group = next(iter(self._round.values()))
        if len(self._round) > 1:
            group = min(self._round.values(), key=lambda group: group.at(now, group.usual_ms))
        if (level := group.at(now)) > self._level:
            self._level = level
        key, note = group.waiting.popitem(last=False)
        del self._waits[key]
        if group.waiting:
            self._round.move_to_end(group.name)
        else:
            del self._round[group.name]
        group.running[key] = now
        self._runs[key] = group
        return key, note

    def remove(self, key: K) -> None:
        """One that waits does so no more."""
        group = self._waits.pop(key)
        del group.waiting[key]
        if not group.waiting:
            del self._round[group.name]
            if not group.running:
                del self._groups[group.name]

    def end(self, key: K, now: int) -> None:
        """One that was taken runs no more."""
        group = self._runs.pop(key)
        ran_ms = now - group.running.pop(key)
        group.time += ran_ms * PER_MS // group.weight
        group.usual_ms = self._usual_ms = ran_ms
        if not group.waiting and not group.running:
            del self._groups[group.name]

    def validate(self, running: Collection[K]) -> None:
        """Raises AssertionError if an invariant does not hold; `running` is what should run."""
        groups = self._groups.values()
        assert {k: g for g in groups for k in g.waiting} == self._waits, "the queue is miscounted"
        assert {k: g for g in groups for k in g.running} == self._runs, "what runs is miscounted"
        assert self._runs.keys() == set(running), "something else runs"
        assert not self._waits.keys() & self._runs.keys(), "one waits and runs"
        assert all(g.waiting or g.running for g in groups), "an empty group is here"
        assert list(self._round.values()) == [g for g in self._round.values() if g.waiting]
        assert len(self._round) == sum(bool(g.waiting) for g in groups), "a group waits for ever"
        assert all(self._groups[g.name] is g and g.weight > 0 for g in groups), "a wrong group"
