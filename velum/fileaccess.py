"""The store of one mesh as a node's or a client's program reaches it: `velum.filebackend.Backend`.

Owns: questions to all members at once (names, room, who has which chunk) and their merging. Refuses
to know: how one put or get goes on (`velum.uploads`, `velum.downloads`), what callers hold
(`velum.files`). Every member is asked; one that does not answer in time is left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import closing
from typing import Any

from velum import _core, frames
from velum.api import TaskFuture
from velum.batches import LookupBatch, PutBatch
from velum.downloads import Download, LookupRun, looked_up
from velum.errors import VelumError, code_of, error_from
from velum.filebackend import CARE, FileInfo, NodeSpace, Space, info_of
from velum.policy import transfer_io as io
from velum.policy.care import lacking
from velum.policy.filetypes import (
    CARE_AT_RISK,
    CARE_DAMAGED,
    CARE_UNKNOWN,
    CARE_WHOLE,
    INLINE_BYTES_MAX,
    TOMBSTONE,
    Coding,
    Entry,
    entry_of,
)
from velum.policy.hybridclock import Version
from velum.policy.removing import Remove
from velum.policy.slots import THERE
from velum.runtime import Runtime, epoch_ms
from velum.smallfiles import SmallLookup
from velum.transfers import Run, Transfers
from velum.uploads import Upload, failure, put_small

ASK_S = 3.0  # a member that is busy answers well within; one that is stopped does not
PAGE = 200  # names
OFFER_KEYS = 1024
TOPIC = "store"  # the QUERY for what one node has

Then = Callable[[int, Any], None]


class RemoveRun(Run):
    """A removal in the loop."""

    def __init__(self, transfers: Transfers, name: str, future: TaskFuture) -> None:
        digest = _core.chunk_key(name.encode())
        policy = Remove(digest, name.encode(), transfers.clock, transfers.members, epoch_ms())
        super().__init__(transfers, policy, digest)
        self._name = name
        self._future = future

    def ended(self, outcome: Any) -> None:
        """Finish or Fail."""
        if isinstance(outcome, io.Finish):
            self._future.settle(0, 0, None)
        elif outcome.code == "NOT_FOUND":
            self._future.fail(error_from(code_of("NOT_FOUND"), f"there is no file {self._name!r}"))
        else:
            self._future.fail(failure(outcome, self._name))


class _Poll:
    """One question to several members; settles with {node: answer} of those that answered."""

    def __init__(self, nodes: Iterable[int], ask: Callable[[int, Then], None]) -> None:
        self.future = TaskFuture()
        self.answers: dict[int, Any] = {}
        self._left = set(nodes)
        for node in sorted(self._left):
            ask(node, self._answered)
        self._settle()

    def _answered(self, node: int, body: Any) -> None:
        self._left.discard(node)
        if body is not None:
            self.answers[node] = body
        self._settle()

    def _settle(self) -> None:
        if not self._left and not self.future.done():
            self.future.settle(0, 0, self.answers)


class FileAccess:
    """What `velum.filebackend.Backend` says."""

    def __init__(
        self, runtime: Runtime, transfers: Transfers, ready: Callable[[], None] = lambda: None
    ) -> None:
        """`ready` returns when the members are known, or raises why they are not."""
        self._runtime = runtime
        self._transfers = transfers
        self._ready = ready

    # ---- one file ----

    def begin_put(self, name: str, size: int | None, coding: Coding, chunk_bytes: int) -> Upload:
        """A new put."""
        self._ready()
        return Upload(self._runtime, self._transfers, name, size, coding, chunk_bytes)

    def put_small(self, name: str, data: bytes, coding: Coding) -> FileInfo:
        """A whole put of a small file."""
        self._ready()
        return put_small(self._runtime, self._transfers, name, data, coding)

    def lookup(self, name: str) -> Download:
        """The version of now."""
        return Download(self._runtime, self._transfers, name, self._entry(name))

    def _entry(self, name: str) -> Entry:
        self._ready()
        future = self._future()

        def looked(lookup: SmallLookup) -> None:
            if lookup.entry is not None:
                future.settle(0, 0, entry_of(lookup.entry))
            else:
                LookupRun(self._transfers, lookup.digest, ended).start(io.TimePassed())

        def ended(outcome: Any) -> None:
            found = looked_up(name, outcome)
            if isinstance(found, VelumError):
                future.fail(found)
            else:
                future.settle(0, 0, found)

        lookup = SmallLookup(name.encode(), looked)
        self._runtime.call_soon(self._transfers.small.look_up, (lookup,))
        entry: Entry = self._transfers.outcome(future)
        return entry

    def remove(self, name: str) -> None:
        """Deletes a file."""
        self._ready()
        future = self._future()
        run = RemoveRun(self._transfers, name, future)
        self._runtime.call_soon(run.start, io.TimePassed())
        self._transfers.outcome(future)

    def stat(self, name: str, check: bool) -> FileInfo:
        """What the keepers say of a file; or what all members say of its chunks."""
        entry = self._entry(name)
        assert entry.manifest is not None
        if check:
            care, missing = self._look(entry)
        else:
            care, missing = self._said(entry)
        return info_of(name, entry.version, entry.manifest, care, missing)

    def _look(self, entry: Entry) -> tuple[int, int]:
        """Asks everybody who has its chunks."""
        manifest = entry.manifest
        assert manifest is not None
        counts: list[int] = []
        for at in range(0, len(manifest.keys), OFFER_KEYS):
            keys = manifest.keys[at : at + OFFER_KEYS]
            payload = _core.encode_offer(keys)
            answers = self._ask_all(frames.OFFER, payload).values()
            counts += [sum(s[i] in THERE for s in answers) for i in range(len(keys))]
        lack, gone = lacking(manifest.coding, counts)
        if gone:
            return CARE_DAMAGED, gone
        return (CARE_AT_RISK, lack) if lack else (CARE_WHOLE, 0)

    def _said(self, entry: Entry) -> tuple[int, int]:
        """What the first keeper has found out."""
        rows, _more = self._page(entry.name, b"", 1)
        for row in rows:
            if row[0] == entry.name and row[1] == entry.version:
                return row[3], row[4]
        return CARE_UNKNOWN, 0

    # ---- many files ----

    def put_many(self, items: Iterable[tuple[str, bytes]], coding: Coding, chunk_bytes: int) -> int:
        """Puts them with many small ones under way at once."""
        self._ready()
        batch = PutBatch(self._runtime, self._transfers, coding)
        count = 0
        try:
            for name, data in items:
                count += 1
                if len(data) <= INLINE_BYTES_MAX:
                    batch.add(name.encode(), data)
                else:
                    self._put_large(name, data, coding, chunk_bytes)
        finally:
            batch.finish()
        return count

    def _put_large(self, name: str, data: bytes, coding: Coding, chunk_bytes: int) -> None:
        upload = self.begin_put(name, len(data), coding, chunk_bytes)
        try:
            upload.write(memoryview(data))
            upload.finish()
        except BaseException:
            upload.abort()
            raise

    def get_many(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | Exception]]:
        """Looks many up at once; small files have come with that."""
        self._ready()
        for name, entry in LookupBatch(self._runtime, self._transfers).entries(names):
            try:
                found = self._entry(name) if entry is None else entry
                if found.manifest is not None and not found.manifest.keys:
                    yield name, found.manifest.data
                    continue
                with closing(Download(self._runtime, self._transfers, name, found)) as download:
                    yield name, download.read(0, download.info.size)
            except VelumError as error:
                yield name, error

    # ---- all files ----

    def names(self, prefix: str, after: str) -> Iterator[FileInfo]:
        """Page after page, merged over all members."""
        start, last = prefix.encode(), after.encode()
        while True:
            rows, more = self._page(start, last, PAGE)
            for name, version, kind, care, missing, size in rows:
                if kind != TOMBSTONE:
                    stamp = Version._make(version)
                    yield FileInfo(name.decode(), size, stamp, CARE[care], missing)
            if not more:
                return
            last = rows[-1][0]

    def _page(self, prefix: bytes, after: bytes, limit: int) -> tuple[list[Any], bool]:
        """Rows that every member has had its say about, and whether there are others."""
        payload = _core.encode_names_ask(limit, prefix, after)
        pages = list(self._ask_all(frames.NAMES_ASK, payload).values())
        if not pages:
            raise error_from(code_of("UNREACHABLE"), "no member answers what files there are")
        until = min((rows[-1][0] for more, rows in pages if more), default=None)
        merged: dict[bytes, Any] = {}
        for _more, rows in pages:
            for row in rows:
                if until is None or row[0] <= until:
                    known = merged.get(row[0])
                    if known is None or (row[1], row[3]) > (known[1], known[3]):
                        merged[row[0]] = row
        return [merged[name] for name in sorted(merged)], until is not None

    def df(self) -> Space:
        """Room, and how whole the files are."""
        self._ready()
        transfers = self._transfers
        answers = self._poll(lambda node, then: transfers.query(node, TOPIC, then))
        said = [json.loads(body) for body in answers.values()]
        nodes = tuple(NodeSpace(s["node"], s["budget"], s["used"]) for s in said)

        def total(key: str) -> Any:
            return sum(s[key] for s in said)

        return Space(
            tuple(sorted(nodes, key=lambda node: node.node)),
            total("files"),
            total("at_risk"),
            total("damaged"),
            total("repair_bytes"),
            total("repair_rate"),
            total("unchecked"),
        )

    # ---- asking ----

    def _ask_all(self, frame: int, payload: bytes) -> dict[int, Any]:
        self._ready()
        transfers = self._transfers
        return self._poll(lambda node, then: transfers.request(node, frame, payload, then))

    def _poll(self, ask: Callable[[int, Then], None]) -> dict[int, Any]:
        """The answers of all members that are alive."""
        begun = self._future()
        members = self._transfers.members

        def begin() -> None:
            begun.settle(0, 0, _Poll(members.alive, ask))

        self._runtime.call_soon(begin)
        poll: _Poll = self._transfers.outcome(begun)
        poll.future.driven_by(self._runtime.drive)
        try:
            poll.future.result(ASK_S)
        except FutureTimeout:
            pass  # who has not answered by now is left out
        return dict(poll.answers)

    def _future(self) -> TaskFuture:
        future = TaskFuture()
        future.driven_by(self._runtime.drive)
        return future


def members_of(rows: Sequence[Any]) -> list[io.Ram]:
    """Members as transfers know them, out of a table of nodes."""
    return [
        io.Ram(row.id, row.ram_mib, row.ram_free_mib, row.state == "alive")
        for row in rows
        if row.role == "node" and row.state in ("alive", "suspect")
    ]
