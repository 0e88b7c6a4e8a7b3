"""A get as its caller's thread sees it: a version of a file whose bytes fill the caller's memory.

Owns: memory of chunks on their way, and copying them to where they are wanted. Refuses to know: who
has which chunk (`velum.policy.getting`), frames and links (`velum.transfers`). A chunk that is
wanted whole is received straight into the caller's memory; only at the ends of a range, and what is
fetched ahead, lies in memory of its own first.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

from velum import _core, erasure
from velum.api import TaskFuture
from velum.errors import VelumError, code_of, error_from
from velum.filebackend import FileInfo, info_of
from velum.policy import transfer_io as io
from velum.policy.filetypes import Entry, Manifest
from velum.policy.getting import Get
from velum.policy.lookup import Lookup
from velum.runtime import Runtime
from velum.transfers import Run, Transfers
from velum.uploads import failure


class LookupRun(Run):
    """What does a name stand for? `then` is told Found, NotFound or Unreachable, in the loop."""

    def __init__(self, transfers: Transfers, digest: bytes, then: Callable[[Any], None]) -> None:
        super().__init__(transfers, Lookup(digest, transfers.members), digest)
        self._then = then

    def ended(self, outcome: Any) -> None:
        """Found, NotFound or Unreachable."""
        self._then(outcome)


def looked_up(name: str, outcome: Any) -> Entry | VelumError:
    """How a lookup ended, as the entry or the error that a caller gets."""
    if isinstance(outcome, io.Found):
        return outcome.entry
    if isinstance(outcome, io.NotFound):
        return error_from(code_of("NOT_FOUND"), f"there is no file {name!r}")
    return error_from(code_of("UNREACHABLE"), f"{name!r}: {outcome.text}")


class GetRun(Run):
    """A get in the loop: its policy, and the memory of its chunks."""

    def __init__(self, transfers: Transfers, digest: bytes, entry: Entry) -> None:
        super().__init__(transfers, Get(entry, transfers.members), digest)
        assert entry.manifest is not None
        self._name = entry.name.decode()
        self._manifest: Manifest = entry.manifest
        self._memory: dict[int, Any] = {}  # by number
        self._inside: set[int] = set()  # those whose memory is in the target
        self._target: memoryview | None = None
        self._base = 0  # the target's place in the file
        self._left = 0  # bytes of it still to be given
        self._future: TaskFuture | None = None
        self._decoder: ThreadPoolExecutor | None = None

    def read(self, offset: int, target: memoryview, future: TaskFuture) -> None:
        """Fills the target, which lies inside the file; settles the future."""
        if self.over:
            future.fail(error_from(code_of("CLOSED"), "this file was closed"))
            return
        self.transfers.runs.add(self)
        self._target, self._base, self._left = target, offset, len(target)
        self._future = future
        self.handle(io.Needed(offset, offset + len(target)))

    def close(self) -> None:
        """The caller wants no more."""
        if not self.over:
            self.end()
        if self._decoder is not None:
            self._decoder.shutdown(wait=False)

    # ---- effects ----

    def _Want(self, effect: io.Want) -> None:
        memory = self._place(effect.number, effect.size)
        self._memory[effect.number] = memory
        self.transfers.want(self, effect.node, effect.number, effect.key, memory)

    def _place(self, number: int, size: int) -> Any:
        """Where a chunk goes: into the target, if all of it is wanted there, and still: what was
        given out may be fetched again for its stripe's sake, and the target is soon the caller's.
        """
        first = self._offset(number)
        target = self._target
        if target is not None and first is not None:
            at, given = first - self._base, len(target) - self._left
            if given <= at <= len(target) - size and first + size <= self._manifest.size:
                self._inside.add(number)
                return target[at : at + size]
        return memoryview(_core.Block(size))

    def _offset(self, number: int) -> int | None:
        """A data chunk's place in the file; None of parity."""
        k, m = self._manifest.coding
        if not m:
            return number * self._manifest.chunk_bytes
        stripe, shard = divmod(number, k + m)
        if shard >= k:
            return None
        first = stripe * k * self._manifest.chunk_bytes
        size = min(self._manifest.chunk_bytes, -(-(self._manifest.size - first) // k))
        return first + shard * size

    def _Unwant(self, effect: io.Unwant) -> None:
        correlation = self.at.get((effect.node, effect.number, 0))
        if correlation is not None:
            self.transfers.withdraw(correlation)

    def _LetGo(self, effect: io.LetGo) -> None:
        self._memory.pop(effect.number, None)
        self._inside.discard(effect.number)

    def _Give(self, effect: io.Give) -> None:
        target = self._target
        if target is None:
            return
        at, size = effect.first - self._base, effect.end - effect.first
        if effect.number not in self._inside:
            memory = memoryview(self._memory[effect.number])
            target[at : at + size] = memory[effect.offset : effect.offset + size]
        self._left -= size
        if not self._left and self._future is not None:
            for number in self._inside:  # from now on this memory is the caller's again
                self._memory[number] = bytes(self._memory[number])
            self._inside.clear()
            self._target = None
            self._future.settle(0, 0, None)

    def _Decode(self, effect: io.Decode) -> None:
        k, m = self._manifest.coding
        first = effect.stripe * (k + m)
        have = {number: self._memory[first + number] for number in effect.have}
        if self._decoder is None:
            self._decoder = ThreadPoolExecutor(1, "velum decode")

        def run() -> None:
            data = erasure.data_of(have, k, m)
            keys = self._manifest.keys[first : first + k]
            right = all(
                _core.chunk_key(shard) == key for shard, key in zip(data, keys, strict=True)
            )
            self.transfers.call_soon(self._decoded, effect.stripe, data, right)

        self._decoder.submit(run)

    def _decoded(self, stripe: int, data: list[bytes], right: bool) -> None:
        k, m = self._manifest.coding
        for place, shard in enumerate(data if right else ()):
            number = stripe * (k + m) + place
            self._memory[number] = shard  # what lies there of a shard that did not come is no good
            self._inside.discard(number)
        self.handle(io.Decoded(stripe, right))

    def _Relook(self, _effect: io.Relook) -> None:
        run = LookupRun(
            self.transfers, self.digest, lambda outcome: self.handle(io.Relooked(outcome))
        )
        run.start(io.TimePassed())

    def ended(self, outcome: Any) -> None:
        """Fail; or Restart: the file was replaced, and the caller has to begin anew."""
        if self._future is not None and not self._future.done():
            if isinstance(outcome, io.Fail):
                self._future.fail(failure(outcome, self._name))
            else:
                self._future.fail(error_from(code_of("STALE")))


class Download:
    """What `velum.filebackend.Download` says."""

    def __init__(self, runtime: Runtime, transfers: Transfers, name: str, entry: Entry) -> None:
        self._runtime = runtime
        self._name = name
        self._entry = entry
        assert entry.manifest is not None
        self._manifest: Manifest = entry.manifest
        self._transfers = transfers
        self._run = self._new_run()

    def _new_run(self) -> GetRun | None:
        if not self._manifest.keys:
            return None
        return GetRun(self._transfers, _core.chunk_key(self._name.encode()), self._entry)

    @cached_property
    def info(self) -> FileInfo:
        """All that its manifest says; care is unknown."""
        return info_of(self._name, self._entry.version, self._manifest)

    @property
    def size(self) -> int:
        """Of the file."""
        return self._manifest.size

    def read_into(self, offset: int, target: memoryview, ahead: int) -> int:
        """Fills `target` from `offset` on, checked; fewer bytes only at the file's end. The policy
        sees by itself that reads follow each other, and fetches ahead."""
        size = max(0, min(len(target), self._manifest.size - offset))
        if not size:
            return 0
        if self._run is None:
            target[:size] = self._manifest.data[offset : offset + size]
            return size
        if self._run.over:  # it has failed; who asks again wants it tried again
            self._run.close()
            self._run = self._new_run()
        assert self._run is not None
        future = TaskFuture()
        future.driven_by(self._runtime.drive)
        self._runtime.call_soon(self._run.read, offset, target[:size], future)
        try:
            self._transfers.outcome(future)
        finally:
            if not (future.done() or self._runtime.stopped.is_set()):
                self._close_and_wait()  # Ctrl-C: the caller takes its memory back
        return size

    def _close_and_wait(self) -> None:
        done = TaskFuture()
        assert self._run is not None
        run, self._run = self._run, self._new_run()

        def close() -> None:
            run.close()
            done.settle(0, 0, None)

        self._runtime.call_soon(close)
        self._transfers.outcome(done)

    def read(self, offset: int, size: int) -> bytes:
        """The same as new bytes, at most `size`."""
        size = max(0, min(size, self._manifest.size - offset))
        if self._run is None:
            return self._manifest.data[offset : offset + size]
        fresh = _core.Fresh(size)
        self.read_into(offset, memoryview(fresh), 0)
        return fresh.take()

    def close(self) -> None:
        """Lets go of what was fetched ahead; may be called again."""
        if self._run is not None:
            self._runtime.call_soon(self._run.close)
