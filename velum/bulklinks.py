"""Links for files: one to each member that files are put on or got from, opened when needed.

Owns dialling, and who waits for a link that is being opened. Refuses to know what travels on them.
They are links of their own, so that a call never waits behind a chunk; membership does not know
them, and a node that stores on itself dials itself. One that nobody used for a while is closed.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence

from velum import _core
from velum.addresses import Address
from velum.errors import code_of
from velum.runtime import Runtime, now_ms

TOKEN: int = 1 << 40  # of these links' dials, with the member's id in the lower bits
IDLE_MS = 60_000  # kept so long after the last use: putting and getting come in bursts


class BulkLinks:
    """The links of one runtime, by member. Everything runs in its loop."""

    def __init__(
        self,
        runtime: Runtime,
        opened: Callable[[int], None],
        lost: Callable[[int, int, str], None],
    ) -> None:
        """`opened(node)` and `lost(node, code, text)`, a link or the attempt to open it, are called
        in the loop."""
        self._hub = runtime.hub
        self._opened = opened
        self._lost = lost
        self._addresses: Mapping[int, Address] = {}
        self._links: dict[int, int] = {}  # by member, opened or being opened
        self._members: dict[int, int] = {}  # by link
        self._open: set[int] = set()  # links
        self._used: dict[int, int] = {}  # by member: when, ms

    def set_addresses(self, addresses: Mapping[int, Address]) -> None:
        """Where the members are from now on."""
        self._addresses = addresses

    def link(self, node: int) -> int:
        """The open link to a member, or 0: it is being opened, and `opened` or `lost` will be
        called. CoreError if not even that can be begun."""
        self._used[node] = now_ms()
        link = self._links.get(node)
        if link is None:
            address = self._addresses.get(node)
            if address is None:
                raise _core.CoreError(-code_of("UNREACHABLE"), f"node {node} is no member")
            link = self._hub.dial_bulk(address, TOKEN | node)
            self._links[node] = link
            self._members[link] = node
        return link if link in self._open else 0

    def open_links(self, nodes: Sequence[int], now: int) -> list[int] | None:
        """The links to members if all are open; those that are not are being opened."""
        links = []
        for node in nodes:
            link = self._links.get(node, 0)
            if link not in self._open:
                return self._to_open(nodes)
            self._used[node] = now
            links.append(link)
        return links

    def _to_open(self, nodes: Sequence[int]) -> list[int] | None:
        try:
            links = [self.link(node) for node in nodes]
        except _core.CoreError:
            return None
        return links if all(links) else None

    def is_open(self, node: int) -> bool:
        """Whether the link to a member is open."""
        return self._links.get(node, 0) in self._open

    def node_at(self, link: int) -> int:
        """The member at an open link of these, or 0."""
        return self._members.get(link, 0)

    def on_opened(self, link: int) -> bool:
        """Whether a link that is open now is one of these."""
        node = self._members.get(link)
        if node is None:
            return False
        self._open.add(link)
        self._opened(node)
        return True

    def on_closed(self, link: int, code: int, text: str) -> bool:
        """Whether a link that is gone was one of these."""
        node = self._members.pop(link, None)
        if node is None:
            return False
        self._open.discard(link)
        del self._links[node]
        self._lost(node, code, text)
        return True

    def cut(self, node: int, code: int, text: str) -> None:
        """Ends the link to a member that does not answer."""
        link = self._links.get(node)
        if link is not None:
            self._hub.drop(link, code, text)
            self.on_closed(link, code, text)

    def cut_others(self, members: Container[int]) -> None:
        """Ends the links to all who are no members any more: their answers do not come."""
        for node in [node for node in self._links if node not in members]:
            self.cut(node, code_of("UNREACHABLE"), "it is no member any more")

    def next_deadline(self) -> int | None:
        """When one may have been idle for long enough."""
        return min((self._used[node] + IDLE_MS for node in self._links), default=None)

    def close_idle(self, now: int, busy: Callable[[int], bool]) -> None:
        """Closes those that nobody used, unless something is under way on them."""
        for node in list(self._links):
            if self._used[node] + IDLE_MS <= now:
                if busy(node):
                    self._used[node] = now
                else:
                    self.cut(node, 0, "idle")
