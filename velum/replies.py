"""What this node answers to peers.

Owns that no answer is lost in silence: a link whose peer reads so little that an answer finds no
room is cut, so that the peer knows that it must ask again. The hub sees to it that this is rare: it
does not read more questions from a peer that has much to read itself. Refuses to know what is
answered.
"""

from __future__ import annotations

from collections.abc import Callable

from velum import frames
from velum.api import Number
from velum.errors import code_of
from velum.policy.types import Health
from velum.runtime import Runtime

Cut = Callable[[int, int, str], None]  # ends a link: handle, error code, text


class Replies:
    """The answers of one node, whose health goes with each result."""

    def __init__(self, runtime: Runtime, me: int, health: Callable[[], Health], cut: Cut) -> None:
        """`cut` ends the link of a peer that does not read."""
        self._runtime = runtime
        self._hub = runtime.hub
        self._me = me
        self._health = health
        self._cut = cut

    def result(self, link: int, correlation: int, node: int, payload: bytes) -> None:
        """A RESULT as it came, now as from `node`."""
        self._sent(link, self._hub.send_result(link, correlation, node, payload, self._health()))

    def value(self, link: int, correlation: int, node: int, value: Number | None) -> None:
        """A RESULT made here."""
        self._sent(link, self._hub.send_value(link, correlation, node, value, self._health()))

    def error(
        self,
        link: int,
        correlation: int,
        code: int,
        text: str = "",
        *,
        node: int | None = None,
        deaths: int = 0,
    ) -> None:
        """An ERROR, of this node unless another is named."""
        node = self._me if node is None else node
        self._sent(link, self._hub.send_error(link, correlation, code, node, deaths, text))

    def frame(self, link: int, frame: int, correlation: int, payload: bytes) -> None:
        """Any other answer."""
        self._sent(link, self._hub.send(link, frame, correlation, payload))

    def answer(self, link: int, correlation: int, body: bytes) -> None:
        """An ANSWER to a QUERY."""
        self._sent(link, self._hub.send(link, frames.ANSWER, correlation, body))

    def _sent(self, link: int, taken: bool) -> None:
        if not taken:  # not at once: whoever answers is in the middle of something
            self._runtime.call_soon(
                self._cut, link, code_of("FULL"), "it does not read its answers"
            )
