"""The files of a client: its transfers, and what it knows of members.

Owns the joining of both to the client's loop. Refuses to know how members are learned of
(`velum.client`). It is made when a program first asks for files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from velum import addresses
from velum.api import NodeInfo
from velum.fileaccess import FileAccess, members_of
from velum.files import Files
from velum.runtime import Runtime
from velum.transfers import Transfers

# Links that are being opened at the end may have a RELEASE to take: one that is lost costs two
# minutes of memory. They take 10 ms, or their nodes do not answer.
FLUSH_S = 0.5
LOOK_S = 0.005


class ClientFiles:
    """Those of one client."""

    def __init__(
        self,
        runtime: Runtime,
        rows: Sequence[NodeInfo],
        lost: Callable[[], None],
        ready: Callable[[], None],
    ) -> None:
        """`rows` are the members by now; `lost()` is called in the loop when one was not reached,
        `ready()` by callers' threads, and raises if the client was closed."""
        self.transfers = Transfers(runtime)
        self.transfers.on_lost = lambda _: lost()
        self.files = Files(FileAccess(runtime, self.transfers, ready))
        self.learned(rows)  # here: nobody else knows of these transfers yet

    def learned(self, rows: Sequence[NodeInfo]) -> None:
        """The members are these now. In the loop, but for the first time."""
        where = {row.id: addresses.parse_address(row.address) for row in rows}
        self.transfers.set_members(members_of(rows), where)

    def flush(self) -> None:
        """Returns when all that was to be said is on its way, or some of it cannot be. Called when
        the client is closed, by the caller's thread."""
        end = time.monotonic() + FLUSH_S
        while not self.transfers.is_sent and time.monotonic() < end:
            time.sleep(LOOK_S)
