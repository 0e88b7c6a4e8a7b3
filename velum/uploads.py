"""A put as its caller's thread sees it: bytes in, chunks cut, hashed and handed to the loop.

Owns: cutting and coding a stream, the window of bytes under way, and waiting for the loop. Refuses
to know: where chunks go (`velum.policy.putting`), frames and links (`velum.transfers`). Hashing and
coding run in the caller's thread, so that the loop is free to send meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from velum import _core, erasure, frames
from velum.api import TaskFuture
from velum.errors import VelumError, code_of, error_from
from velum.filebackend import FileInfo, info_of
from velum.policy import transfer_io as io
from velum.policy.filetypes import CHUNK_BYTES, INLINE_BYTES_MAX, Coding, Entry
from velum.policy.putting import WINDOW_BYTES, Put
from velum.runtime import Runtime
from velum.smallfiles import SmallPut
from velum.transfers import Run, Transfers

LOOK_S = 0.5  # a signal that comes at the wrong instant does not wake who waits


class Gate:
    """Where one thread sleeps until the loop has changed what it waits for."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = threading.Lock()  # a bare lock: Ctrl-C cannot leave it in between
        self._lock.acquire()

    def poke(self) -> None:
        """What somebody waits for may have come. Called in the loop."""
        if self._lock.locked():
            self._lock.release()

    def wait(self, ready: Callable[[], bool], drive: bool = False) -> None:
        """Returns when ready(); LEAVING when the loop has ended. `drive`: runs the loop meanwhile;
        who has work of its own to do beside the loop's better sleeps."""
        while not ready():
            if drive:
                self._runtime.drive(ready, None)
            if ready():
                return
            if self._runtime.stopped.is_set():
                raise error_from(code_of("LEAVING"), "the node or client was closed")
            self._lock.acquire(timeout=LOOK_S)


class Sink(Protocol):
    """Who is told of a put, in the loop."""

    def let_go(self) -> None:
        """A unit's memory is not needed any more."""

    def finished(self, entry: Entry) -> None:
        """It is acknowledged."""

    def failed(self, error: VelumError) -> None:
        """It has failed."""


class PutRun(Run):
    """A put in the loop: its policy, and the memory of its chunks."""

    def __init__(self, transfers: Transfers, policy: Put, digest: bytes, upload: Sink) -> None:
        super().__init__(transfers, policy, digest)
        self._upload = upload
        self._buffers: dict[int, Sequence[Any]] = {}  # by number: of a chunk, or of each shard

    def chunk(self, number: int, key: bytes, data: memoryview) -> None:
        """A chunk to be put."""
        self._buffers[number] = (data,)
        self.handle(io.ChunkReady(number, key, len(data)))

    def stripe(self, number: int, keys: tuple[bytes, ...], shards: Sequence[Any]) -> None:
        """A stripe to be put."""
        self._buffers[number] = shards
        self.handle(io.StripeReady(number, keys, len(shards[0])))

    def _Hold(self, effect: io.Hold) -> None:
        correlation = self.transfers.correlate(self, effect.node, effect.number, effect.shard)
        payload = _core.encode_hold(effect.key, effect.size, (effect.claim,))
        self.transfers.send(effect.node, frames.HOLD, correlation, payload)

    def _Send(self, effect: io.Send) -> None:
        name = (effect.node, effect.number, effect.shard)
        buffers = self._buffers[effect.number]
        data = buffers[effect.shard if len(buffers) > 1 else 0]
        self.transfers.send_chunk(self, name, effect.key, data)

    def _Withdraw(self, effect: io.Withdraw) -> None:
        correlation = self.at.get((effect.node, effect.number, effect.shard))
        if correlation is not None:
            self.transfers.withdraw(correlation)

    def _LetGo(self, effect: io.LetGo) -> None:
        if self._buffers.pop(effect.number, None) is not None:
            self._upload.let_go()

    def ended(self, outcome: Any) -> None:
        """Finish or Fail."""
        self._buffers.clear()
        if isinstance(outcome, io.Finish):
            self._upload.finished(outcome.entry)
        else:
            self._upload.failed(failure(outcome))


def start_put(
    transfers: Transfers, name: bytes, coding: Coding, chunk_bytes: int, sink: Sink
) -> PutRun:
    """A put under its policy, to be started in the loop. Any thread."""
    digest = _core.chunk_key(name)
    return PutRun(transfers, transfers.put(digest, name, coding, chunk_bytes), digest, sink)


class _Outcome:
    """Tells how a put without chunks has ended: `then(entry, None)` or `then(None, error)`."""

    def __init__(self, then: Callable[[Entry | None, VelumError | None], None]) -> None:
        self._then = then

    def let_go(self) -> None:
        """It has no chunks."""

    def finished(self, entry: Entry) -> None:
        """It is acknowledged."""
        self._then(entry, None)

    def failed(self, error: VelumError) -> None:
        """It has failed."""
        self._then(None, error)


def put_by_policy(
    transfers: Transfers,
    put: SmallPut,
    then: Callable[[Entry | None, VelumError | None], None],
) -> None:
    """Begins a small put anew under its policy. In the loop."""
    run = start_put(transfers, put.name, put.coding, CHUNK_BYTES, _Outcome(then))
    run.start(io.SmallFileReady(put.data))


class _SmallUpload(SmallPut):
    """One small put as its caller's thread waits for it."""

    __slots__ = ("error", "gate", "over", "transfers")

    def __init__(self, transfers: Transfers, name: bytes, data: bytes, coding: Coding) -> None:
        super().__init__(name, data, coding, _SmallUpload.small_ended)
        self.transfers = transfers
        self.gate: Gate | None = None  # once the caller sleeps
        self.error: VelumError | None = None
        self.over = False

    def small_ended(self) -> None:
        """It is kept, or its policy has to do it. In the loop."""
        if self.entry is not None:
            self.ended(self.entry, None)
        else:
            put_by_policy(self.transfers, self, self.ended)

    def ended(self, entry: Entry | None, error: VelumError | None) -> None:
        """It is kept, or will not be. In the loop."""
        self.entry, self.error = entry, error
        self.over = True
        if self.gate is not None:
            self.gate.poke()

    def is_over(self) -> bool:
        """Whether it has ended. Any thread."""
        return self.over

    def wait(self, runtime: Runtime) -> None:
        """Returns when it has ended."""
        runtime.drive(self.is_over)
        if not self.over:
            self.gate = Gate(runtime)
            self.gate.wait(self.is_over, True)


def put_small(
    runtime: Runtime, transfers: Transfers, name: str, data: bytes, coding: Coding
) -> FileInfo:
    """Puts a file that lies in its entry, and waits until it is acknowledged."""
    upload = _SmallUpload(transfers, name.encode(), data, coding)
    runtime.call_soon(transfers.small.put, (upload,))
    upload.wait(runtime)
    if upload.error is not None:
        raise upload.error
    entry = upload.entry
    assert entry is not None and entry.manifest is not None
    return info_of(name, entry.version, entry.manifest)


def failure(fail: io.Fail, name: str = "") -> VelumError:
    """A policy's last word as the error that a caller gets; of this file, if it is named."""
    text = f"{name!r}: {fail.text}" if name else fail.text
    for figure in fail.figures:
        text += f"; node {figure.node}: {figure.free_bytes >> 20} MiB of {figure.mib} free"
    return error_from(code_of(fail.code), text)


class Upload:
    """What `velum.filebackend.Upload` says."""

    def __init__(
        self,
        runtime: Runtime,
        transfers: Transfers,
        name: str,
        size: int | None,
        coding: Coding,
        chunk_bytes: int,
    ) -> None:
        self._runtime = runtime
        self._transfers = transfers
        self._name = name
        self._size = size
        self._coding = coding
        self._chunk_bytes = chunk_bytes
        self._gate = Gate(runtime)
        self._future = TaskFuture()
        self._future.driven_by(runtime.drive)
        self._run: PutRun | None = None
        self._head: list[memoryview] = []  # until it is known to be longer than what is inline
        self._shards: list[memoryview] = []  # of the stripe that is being gathered
        self._bytes = 0
        self._number = 0
        self._handed = 0  # units
        self._gone = 0  # of them let go
        unit = chunk_bytes * (coding.k + coding.m if coding.m else 1)
        self._window = max(1, WINDOW_BYTES // unit)  # units
        if size is not None and size > INLINE_BYTES_MAX:
            self._begin()

    # ---- the caller's thread ----

    def write(self, data: memoryview) -> None:
        """Whole chunks; only the last write may end within one."""
        self._bytes += len(data)
        if self._run is None:
            self._head.append(data)
            if self._bytes <= INLINE_BYTES_MAX:
                return
            self._begin()
            head, self._head = self._head, []
            data = head[0] if len(head) == 1 else memoryview(b"".join(head))
        for at in range(0, len(data), self._chunk_bytes):
            self._take(data[at : at + self._chunk_bytes])

    def finish(self) -> FileInfo:
        """Ends the stream and waits until the put is acknowledged."""
        if self._run is None:
            data = b"".join(self._head)
            return put_small(self._runtime, self._transfers, self._name, data, self._coding)
        if self._shards:
            self._last_stripe()
        self._runtime.call_soon(self._run.handle, io.StreamEnded(self._bytes))
        entry: Entry = self._transfers.outcome(self._future)
        assert entry.manifest is not None
        return info_of(self._name, entry.version, entry.manifest)

    def abort(self) -> None:
        """Gives it up."""
        if self._run is not None and not self._future.done():
            self._runtime.call_soon(self._run.handle, io.Aborted())

    def _begin(self) -> None:
        self._start(io.StreamBegan(self._size))

    def _start(self, event: io.StreamBegan) -> None:
        name = self._name.encode()
        self._run = start_put(self._transfers, name, self._coding, self._chunk_bytes, self)
        self._runtime.call_soon(self._run.start, event)

    def _take(self, chunk: memoryview) -> None:
        if self._coding.m:
            self._shards.append(chunk)
            if len(self._shards) == self._coding.k and len(chunk) == self._chunk_bytes:
                shards, self._shards = self._shards, []
                self._stripe(shards)
            return
        self._wait_for_room()
        assert self._run is not None
        key = _core.chunk_key(chunk)
        self._runtime.call_soon(self._run.chunk, self._number, key, chunk)
        self._number += 1

    def _last_stripe(self) -> None:
        """Cuts what is left into k equal shards, the last ones filled up with zeros."""
        rest = b"".join(self._shards)
        k = self._coding.k
        size = -(-len(rest) // k)
        whole = memoryview(rest.ljust(size * k, b"\0"))
        self._stripe([whole[at : at + size] for at in range(0, size * k, size)])

    def _stripe(self, data: list[memoryview]) -> None:
        self._wait_for_room()
        assert self._run is not None
        shards = [*data, *(memoryview(shard) for shard in erasure.parity(data, self._coding.m))]
        keys = tuple(_core.chunk_key(shard) for shard in shards)
        self._runtime.call_soon(self._run.stripe, self._number, keys, shards)
        self._number += 1

    def _wait_for_room(self) -> None:
        self._gate.wait(lambda: self._handed - self._gone < self._window or self._future.done())
        if self._future.done():
            self._future.result()  # raises why it has ended before its end
        self._handed += 1

    # ---- the loop ----

    def let_go(self) -> None:
        """A unit's memory is not needed any more."""
        self._gone += 1
        self._gate.poke()

    def finished(self, entry: Entry) -> None:
        """It is acknowledged."""
        self._future.settle(0, 0, entry)
        self._gate.poke()

    def failed(self, error: VelumError) -> None:
        """It has failed."""
        self._future.fail(error)
        self._gate.poke()
