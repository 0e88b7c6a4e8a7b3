"""The chunks a node holds: which it takes, keeps, copies to others, and lets go.

Owns: what is known of each chunk here and of the stripes it belongs to. Refuses to know: bytes,
links, frames, clocks. docs/storage.md, sections 2, 5 and 6, is the protocol; what has become of a
version is decided in `claims.py`, stripes are in `stripes.py`, the queue of copies in `repairs.py`,
the pace of hashing in `scrub.py`.

The holder's side of a put:

    event                              then
    HOLD, held already                 HAVE, the claims are noted
    HOLD, it arrives already           BUSY
    HOLD                               of what is OVER no more stays than a part of the budget
    HOLD, no room                      what is OVER or surplus is dropped, oldest first; still: FULL
    HOLD, room                         SEND: reserved until it has come, the link closes, or
                                       the HOLD is withdrawn
    it has come, right                 KEPT, the claims are noted
    it has come, wrong                 BAD

A chunk is *looked at* 2 s after it came or the members changed, again when an answer comes, and
seldomer and seldomer until it is settled. Its *holders* are the union over the places of its claims
that are not over. In a look, by what each holder has said in this round of members:

    said       then
    nothing    it is offered the chunk
    HAVE       it counts as confirmed; one that became a holder after the chunk was put is handed
               the claims (HOLD): it may have the chunk for another file's sake
    LACK       it is sent a copy, by the first in the order of holders of those known to have it;
               each later one waits PATIENCE_MS longer, and does it if it still lacks then
    FULL       the next in the order stands in for it, and it is asked again
    BUSY       it is asked again
    SPARE      it has it, but does not count: by the members it knows it is no holder

A chunk of which this node is no holder is *surplus*. It is dropped DROP_MS after all holders have
in this round said HAVE and taken the claims from this very node, if any budget is known. **HAVE is
said only by who is a holder by the members it knows**, and an answer counts only in the round it
was asked in. So no two nodes drop on each other's word: of a circle of nodes each of which dropped
after the next one's HAVE, each must have said its own before its last change of members, and heard
the next one's after it; that cannot be true all the way round.

While a link of its putter is up a chunk is left alone for PUTTING_MS: the others are on their way.

A chunk that scrubbing finds bad is dropped and counted. The node still knows its claims: it asks
the other holders at once, and fetches it from who has it, or rebuilds it. What is confirmed is
asked again after each scrub of a chunk, so a copy lost without a word, by whatever cause, is
noticed by each of its other holders within SCRUB_MS.

Of a stripe each holder looks after all shards in the same way; what lacks is rebuilt by the holder
of the first shard that is there, unless the shard's former holder lives and so will send it: then
PATIENCE_MS later.

Looks, offers and endings are done in bounded steps, STEP_MS apart; a change of members costs no
more at once than to list the keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from . import holdings_io as io
from .agenda import Agenda
from .claims import Claims, State
from .filetypes import (
    BAD,
    CHUNK_BYTES_MAX,
    FULL,
    HAVE,
    KEPT,
    OFFERED_BUSY,
    OFFERED_FULL,
    OFFERED_LACK,
    RELEASE_THIS,
    SEND,
    Claim,
    Copies,
    Key,
)
from .tending import Tending

ARRIVAL_MS_MAX: Final = 180_000  # a putter's window at 93 KB/s; who gave up without a word
# keeps others out as long
CLAIMS_MAX: Final = 1 << 22  # of all chunks together; 500 bytes each
FREE_BYTES_MIN: Final = 512  # what the smallest chunk takes

_ARRIVAL: Final = 0


@dataclass(slots=True, eq=False)
class _Arrival:
    """A chunk that a link was told to send."""

    link: int
    ticket: int
    size: int
    claims: list[Claim]
    putter: int  # the link, if it is a putter's


class Holdings:
    """The state machine, driven as the catalog is."""

    def __init__(self, me: int, chunks: io.Chunks, rate: int | None = None) -> None:
        """The chunks of node `me`; `rate` of repair in bytes per second, None: as fast as it
        goes."""
        self._chunks = chunks
        self._claims = Claims()
        self._tending = Tending(me, chunks, self._claims, rate)
        self._arriving: dict[Key, _Arrival] = {}
        self._agenda = Agenda()
        self._now = 0
        self._out: list[io.Effect] = []
        tending = self._tending
        self._handlers: dict[type, Callable[[Any], None]] = {
            io.MembersChanged: tending.members_changed,
            io.MemberLeft: self._on_left,
            io.HoldAsked: self._on_hold,
            io.HoldWithdrawn: self._on_withdrawn,
            io.ChunkStored: self._on_stored,
            io.LinkClosed: self._on_closed,
            io.Released: self._on_released,
            io.OfferAsked: self._on_offer,
            io.OfferAnswered: tending.offer_answered,
            io.ClaimsAnswered: self._on_claimed,
            io.CopyEnded: tending.copy_ended,
            io.RebuildEnded: tending.rebuild_ended,
            io.TimePassed: self._on_time,
        }

    # ---- the face ----

    def handle(self, event: io.Event, now: int) -> list[io.Effect]:
        """Takes one event; `now` in milliseconds, never smaller than before."""
        tending = self._tending
        self._now = tending.now = now
        self._handlers[type(event)](event)
        tending.step()
        tending.start_jobs()
        tending.questions()
        out = [*self._out, *tending.out]
        out += [io.AskClaims(node, names) for node, names in self._claims.asks()]
        self._out.clear()
        tending.out.clear()
        return out

    def next_deadline(self) -> int | None:
        """When TimePassed is due, or None."""
        dues = (self._claims.next_deadline(), self._agenda.next(), self._tending.next_deadline())
        return min((due for due in dues if due is not None), default=None)

    def pending(self, name: io.Name) -> bool:
        """Whether CLAIMS about a version unknown to the catalog is answered PENDING."""
        return self._claims.pending(name)

    def room_bytes(self) -> int:
        """What is free, and what is over and dropped as soon as its room is needed; about."""
        return self._chunks.free_bytes() + self._claims.bytes(State.OVER)

    def names(self, key: Key) -> set[io.Name]:
        """The versions for whose sake a chunk is here; none if it is not."""
        return self._tending.names(key)

    def figures(self) -> io.Figures:
        """What `df` shows."""
        return self._tending.figures()

    def validate(self) -> None:
        """Raises AssertionError if an invariant does not hold."""
        for key in self._arriving:
            assert (_ARRIVAL, key) in self._agenda, "waits for ever"
            assert not self._tending.here(key), "arrives, and is here"
        self._tending.validate()
        self._claims.validate()

    # ---- what comes ----

    def _on_hold(self, event: io.HoldAsked) -> None:
        key, claims = event.key, event.claims
        state = self._reserve(event) if _sound(key, claims) and 0 < event.size else BAD
        putter = 0 if event.node else event.link
        if state == SEND:
            arrival = _Arrival(event.link, event.ticket, event.size, list(claims), putter)
            self._arriving[key] = arrival
            self._agenda.set((_ARRIVAL, key), self._now + ARRIVAL_MS_MAX)
        elif state == HAVE:
            self._tending.note(key, event.size, claims, putter)
        self._out.append(io.AnswerHold(event.link, event.ticket, state))

    def _reserve(self, event: io.HoldAsked) -> int:
        if event.size > CHUNK_BYTES_MAX:
            return BAD
        if self._tending.claimed >= CLAIMS_MAX:
            return FULL
        self._tending.trim_over()
        state = self._chunks.reserve(event.key, event.size, event.link)
        while state == FULL and self._tending.make_room():
            state = self._chunks.reserve(event.key, event.size, event.link)
        return state

    def _on_withdrawn(self, event: io.HoldWithdrawn) -> None:
        for key, arrival in self._arriving.items():
            if arrival.link == event.link and arrival.ticket == event.ticket:
                self._chunks.abandon(key, event.link)
                self._forget_arrival(key)
                return

    def _on_stored(self, event: io.ChunkStored) -> None:
        key, arrival = event.key, self._arriving.get(event.key)
        if arrival is None or arrival.link != event.link:
            return
        self._forget_arrival(key)
        ok = event.ok
        if ok and not arrival.claims:
            self._chunks.drop(key)  # given up while it came
            ok = False
        if ok:
            self._tending.note(key, arrival.size, arrival.claims, arrival.putter)
        self._out.append(io.AnswerHold(arrival.link, arrival.ticket, KEPT if ok else BAD))

    def _forget_arrival(self, key: Key) -> None:
        del self._arriving[key]
        self._agenda.cancel((_ARRIVAL, key))

    def _on_closed(self, event: io.LinkClosed) -> None:
        self._chunks.abandon_all(event.link)
        for key in [k for k, arrival in self._arriving.items() if arrival.link == event.link]:
            self._forget_arrival(key)
        self._claims.link_closed(event.link, self._now)

    # ---- what goes ----

    def _on_left(self, event: io.MemberLeft) -> None:
        self._claims.member_left(event.id)

    def _on_released(self, event: io.Released) -> None:
        if event.how == RELEASE_THIS:
            for arrival in self._arriving.values():
                name = (event.digest, event.version)
                arrival.claims = [claim for claim in arrival.claims if claim[:2] != name]
        self._claims.released(event.how, event.digest, event.version)

    def _on_claimed(self, event: io.ClaimsAnswered) -> None:
        for name, state in zip(event.names, event.states, strict=True):
            self._claims.answered(event.node, name, state, self._now)

    # ---- questions ----

    def _on_offer(self, event: io.OfferAsked) -> None:
        states = [self._offered(key) for key in event.keys]
        self._out.append(io.AnswerOffer(event.node, event.ticket, states))

    def _offered(self, key: Key) -> int:
        state = self._tending.holds(key)
        if state:
            return state
        if key in self._arriving:
            return OFFERED_BUSY
        return OFFERED_LACK if self.room_bytes() >= FREE_BYTES_MIN else OFFERED_FULL

    def _on_time(self, event: io.TimePassed) -> None:
        self._claims.time_passed(self._now)
        while (due := self._agenda.pop(self._now)) is not None:
            key = due[1]
            arrival = self._arriving[key]
            self._chunks.abandon(key, arrival.link)
            self._forget_arrival(key)
            self._out.append(io.AnswerHold(arrival.link, arrival.ticket, BAD))
        self._tending.time_passed()


def _sound(key: Key, claims: Sequence[Claim]) -> bool:
    """Whether claims can be true of a chunk."""
    places = [claim.place for claim in claims]
    return bool(places) and all(isinstance(p, Copies) or p.keys[p.index] == key for p in places)
