"""What tests of putter, getter, lookup and remover share: a policy, its effects, and what nodes
would answer."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Protocol, TypeVar

from velum.policy import transfer_io as io
from velum.policy.filetypes import Coding, Entry, Manifest, shard_bytes, stripes_of
from velum.policy.hybridclock import Version

MIB = 1 << 20
UNIX_MS = 1_700_000_000_000
START = 1000
DIGEST = sha256(b"the name").digest()
NAME = b"the name"

E = TypeVar("E")


class Policy(Protocol):
    """What all of them have in common."""

    def handle(self, event: Any, now: int) -> list[Any]: ...
    def next_deadline(self) -> int | None: ...
    def validate(self) -> None: ...


def key(number: int) -> bytes:
    return sha256(b"chunk %d" % number).digest()


def members(
    *ids: int, mib: int = 512, free: int | None = None, suspected: tuple[int, ...] = ()
) -> io.Members:
    left = mib if free is None else free
    return io.Members(io.Ram(id, mib, left, id not in suspected) for id in ids)


def manifest(size: int, chunk_bytes: int = MIB, coding: Coding | None = None) -> Manifest:
    """Of a file whose chunks are all different."""
    coding = coding or Coding(2)
    if coding.m:
        count = stripes_of(size, chunk_bytes, coding.k) * (coding.k + coding.m)
    else:
        count = -(-size // chunk_bytes)
    return Manifest(size, chunk_bytes, coding, tuple(key(number) for number in range(count)))


def entry(what: Manifest | None, at: int = 5, keepers: int = 3) -> Entry:
    return Entry(NAME, Version(at, 1), keepers, what)


def size_of(what: Manifest, number: int) -> int:
    if what.coding.m:
        stripe = number // (what.coding.k + what.coding.m)
        return shard_bytes(what.size, what.chunk_bytes, what.coding.k, stripe)
    return min(what.chunk_bytes, what.size - number * what.chunk_bytes)


class Rig:
    """Drives a policy; `said` is what it said last."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.now = START
        self.said: list[Any] = []

    def do(self, *events: Any) -> list[Any]:
        self.said = []
        for event in events:
            self.said += self.policy.handle(event, self.now)
            self.policy.validate()
        return self.said

    def wait(self, ms: int) -> list[Any]:
        """Everything said meanwhile, with every deadline kept."""
        until, said = self.now + ms, []
        while (due := self.policy.next_deadline()) is not None and due <= until:
            self.now = max(self.now, due)
            said += self.do(io.TimePassed())
        self.now = until
        self.said = said
        return said

    def all(self, kind: type[E]) -> list[E]:
        return [effect for effect in self.said if isinstance(effect, kind)]

    def one(self, kind: type[E]) -> E:
        (found,) = self.all(kind)
        return found
