"""What this node keeps of files: chunks, claims and names, joined to the loop.

Owns: the store of bytes and of names, who is behind a link that files come on, and carrying out
what the policies say (`policy.holdings`, `policy.catalog`, `policy.care`). Refuses to know: puts
and gets (`velum.transfers`); it uses their links to speak to other members, and to itself. What
needs no decision is answered in C (`csrc/hub_store.c`): WANT, ENTRY, ENTRY_ASK, and the parts of
chunks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psutil

from velum import _core, frames
from velum.policy import care as care_io
from velum.policy import catalog_io, holdings_io, types
from velum.policy.care import Care
from velum.policy.catalog import Catalog
from velum.policy.filetypes import (
    CARE_UNKNOWN,
    FAST,
    NAMED_KEPT,
    NAMED_LATER,
    OLD,
    PENDING,
    UNKNOWN,
    claim_of,
)
from velum.policy.holdings import Holdings
from velum.policy.hybridclock import Version
from velum.policy.placement import Budget
from velum.replies import Replies
from velum.runtime import Runtime, epoch_ms, now_ms
from velum.storecopies import Copier
from velum.transfers import Transfers

MIB = 1 << 20
RAM_MAX = 1 << 30  # given to chunks unless --ram says otherwise: a quarter of what is free, or this
NAMES_BYTES_MIN = 16 * MIB  # for names, however little RAM is given to chunks
REPAIR_RATE = 32 * MIB  # bytes a second unless --repair-rate says otherwise: 270 Mbit/s
RESTART_INCARNATIONS = 16  # refutations raise an incarnation one by one, a new start by far more
FREE_STEPS = 64  # what is free of a budget is told onwards in steps of so small a part of it
RATE_MS = 2000  # over which the rate of repair is measured

_VERSION_FIELDS = 3  # of the body of a VERSION; an ENTRY has more


class Store:
    """One node's. Everything runs in the loop's thread."""

    def __init__(
        self,
        runtime: Runtime,
        me: int,
        transfers: Transfers,
        replies: Replies,
        ram: int,
        repair_rate: int | None,
    ) -> None:
        """`ram` in bytes, 0 for none; `repair_rate` in bytes a second, 0 for as fast as links are,
        None for REPAIR_RATE."""
        self._hub = runtime.hub
        self._me = me
        self._transfers = transfers
        self._replies = replies
        self.ram_mib = ram // MIB
        self.chunks = _core.Chunks(self.ram_mib * MIB)
        self.names = _core.Names(me, max(NAMES_BYTES_MIN, ram // 4))
        self._hub.set_store(self.chunks, self.names)
        rate = REPAIR_RATE if repair_rate is None else repair_rate
        self._holdings = Holdings(me, self.chunks, rate or None)
        self._catalog = Catalog(me, self.names)
        self._care = Care(me, self.names)
        self._copier = Copier(runtime, me, transfers, self.chunks, self._holding_event)
        self._links: dict[int, int] = {}  # links for files: the member behind, 0 of a client
        self._incarnations: dict[int, int] = {}  # of the members present
        self._left: set[int] = set()  # members that have left in order
        self._budgets: dict[int, int] = {}  # by member, MiB
        self._next_ticket = 1
        self._entry_tickets: dict[int, tuple[int, int]] = {}  # link, correlation
        self._free: dict[int, int] = {}  # of budgets, as last told, MiB
        self._rate = (0, 0, 0.0)  # of repair: when looked at, bytes by then, bytes a second
        self._effects: dict[type, Callable[[Any], None]] = {
            holdings_io.AnswerHold: self._answer_hold,
            holdings_io.AnswerOffer: self._answer_offer,
            holdings_io.SendOffer: self._send_offer,
            holdings_io.AskClaims: self._ask_claims,
            holdings_io.SendCopy: self._copier.copy,
            holdings_io.Rebuild: self._copier.rebuild,
            catalog_io.Kept: self._answer_kept,
            catalog_io.Refuse: self._answer_refused,
            catalog_io.SendEntry: self._send_entry,
            catalog_io.SendSums: self._send_sums,
            catalog_io.SendListing: self._send_listing,
            catalog_io.SendHeld: self._send_held,
            care_io.Ask: self._ask_care,
        }
        for frame, handler in (
            (frames.HOLD, self._on_hold),
            (frames.RELEASE, self._on_release),
            (frames.OFFER, self._on_offer),
            (frames.CLAIMS, self._on_claims),
            (frames.NAMES_ASK, self._on_names_ask),
            (frames.SUMS, self._on_sums),
            (frames.LISTING, self._on_listing),
            (frames.LISTED, self._on_listed),
        ):
            runtime.on_frame(frame, handler)
        transfers.on_stored = self._stored
        runtime.services.append(self)

    def ram(self) -> tuple[int, int]:
        """(given, left) in MiB, for this node's health."""
        return self.ram_mib, min(self.ram_mib, self._holdings.room_bytes() // MIB)

    def is_news(self, node: int, health: types.Health) -> bool:
        """Whether a member's figures matter here: its budget, or much of what is free."""
        free = self._free.get(node, -1)
        step = max(1, health.ram_mib // FREE_STEPS)
        if node in self._budgets and health.ram_mib == self._budgets[node]:
            if abs(health.ram_free_mib - free) < step:
                return False
        self._free[node] = health.ram_free_mib
        return True

    def close(self) -> None:
        """The node leaves."""
        self._copier.close()

    # ---- who there is ----

    def members_changed(self, members: dict[int, types.Member]) -> None:
        """All members known, as they are now; called when any changes, and when budgets are heard.
        Suspected ones keep their place until they are given up."""
        self._hear_of_leavers(members)
        present = {
            node: member
            for node, member in members.items()
            if member.update.role == types.NODE and member.state in (types.ALIVE, types.SUSPECT)
        }
        incarnations = {node: member.update.incarnation for node, member in present.items()}
        budgets = {node: member.health.ram_mib for node, member in present.items()}
        budgets[self._me] = self.ram_mib
        restarted = {
            node
            for node in incarnations.keys() & self._incarnations.keys()
            if incarnations[node] - self._incarnations[node] > RESTART_INCARNATIONS
        }
        came = incarnations.keys() - self._incarnations.keys()
        went = self._incarnations.keys() - incarnations.keys()
        if not (came or went or restarted) and budgets == self._budgets:
            self._incarnations = incarnations
            return
        self._incarnations = incarnations
        self._budgets = budgets
        for node in went | restarted:
            self._catalog_event(catalog_io.MemberLost(node))
        for node in came | restarted:
            self._catalog_event(catalog_io.MemberSeen(node))
        shares = tuple(Budget(node, mib) for node, mib in sorted(budgets.items()))
        self._holding_event(holdings_io.MembersChanged(shares, frozenset(restarted)))
        self._care_event(care_io.MembersChanged(shares))

    def _hear_of_leavers(self, members: dict[int, types.Member]) -> None:
        """Of one that was taken for dead it is told later that it had left, too."""
        left = {node for node, member in members.items() if member.state == types.LEFT}
        for node in left - self._left:
            self._holding_event(holdings_io.MemberLeft(node))
        self._left = left

    def on_opened(self, link: int, node: int) -> None:
        """A link for files was opened by a member, or by a client (0)."""
        self._hub.accept(link)
        self._links[link] = node

    def on_closed(self, link: int) -> bool:
        """Any link closed; whether it was for files."""
        self._holding_event(holdings_io.LinkClosed(link))
        return self._links.pop(link, None) is not None

    def cut(self, link: int, code: int, text: str) -> bool:
        """Ends a link for files; False if it is none."""
        if link not in self._links:
            return False
        self._hub.drop(link, code, text)
        return self.on_closed(link)

    # ---- chunks ----

    def _holding_event(self, event: holdings_io.Event) -> None:
        for effect in self._holdings.handle(event, now_ms()):
            self._perform(effect)

    def _on_hold(self, link: int, correlation: int, body: tuple[Any, ...]) -> None:
        key, size, repair, claims = body
        claims = tuple(claim_of(claim) for claim in claims)
        node = self._links.get(link, 0) if repair else 0
        self._holding_event(holdings_io.HoldAsked(link, correlation, key, size, claims, node))

    def on_cancel(self, link: int, correlation: int) -> bool:
        """A CANCEL; False if it came on a link that is not for files. A HOLD is given up."""
        if link not in self._links:
            return False
        self._holding_event(holdings_io.HoldWithdrawn(link, correlation))
        return True

    def _stored(self, link: int, key: bytes, error: int) -> None:
        self._holding_event(holdings_io.ChunkStored(link, key, not error))

    def _answer_hold(self, effect: holdings_io.AnswerHold) -> None:
        payload = _core.encode_held(effect.state, self._holdings.room_bytes())
        self._reply(effect.link, frames.HELD, effect.ticket, payload)

    def _on_release(self, _link: int, _correlation: int, body: tuple[Any, ...]) -> None:
        how, digest, version = body
        self._holding_event(holdings_io.Released(how, digest, Version(*version)))

    def _on_offer(self, link: int, correlation: int, keys: tuple[bytes, ...]) -> None:
        self._holding_event(holdings_io.OfferAsked(link, correlation, keys))

    def _answer_offer(self, effect: holdings_io.AnswerOffer) -> None:
        payload = _core.encode_offered(effect.states)
        self._reply(effect.node, frames.OFFERED, effect.ticket, payload)

    def _send_offer(self, effect: holdings_io.SendOffer) -> None:
        keys = effect.keys

        def answered(node: int, states: bytes | None) -> None:
            if states is not None:
                self._holding_event(holdings_io.OfferAnswered(node, effect.round, keys, states))

        payload = _core.encode_offer(keys)
        self._transfers.request(effect.node, frames.OFFER, payload, answered, len(keys))

    def _ask_claims(self, effect: holdings_io.AskClaims) -> None:
        def answered(node: int, states: bytes | None) -> None:
            if states is not None:
                self._holding_event(holdings_io.ClaimsAnswered(node, effect.names, states))

        payload = _core.encode_claims(effect.names)
        count = len(effect.names)
        self._transfers.request(effect.node, frames.CLAIMS, payload, answered, count)

    def _on_claims(self, link: int, correlation: int, names: tuple[Any, ...]) -> None:
        states = [self._claimed(digest, Version(*version)) for digest, version in names]
        self._reply(link, frames.CLAIMED, correlation, _core.encode_claimed(states))

    def _claimed(self, digest: bytes, version: Version) -> int:
        known = self.names.known(digest)
        if known is not None and known[0] >= version:
            return FAST if known[0] == version else OLD
        return PENDING if self._holdings.pending((digest, version)) else UNKNOWN

    # ---- names ----

    def _catalog_event(self, event: catalog_io.Event) -> None:
        for effect in self._catalog.handle(event, now_ms()):
            self._perform(effect)

    def on_named(self, link: int, correlation: int, entry: tuple[Any, ...]) -> None:
        """An ENTRY that the hub has not merged: a tombstone. Answers to what nobody asked are
        nothing."""
        if len(entry) == _VERSION_FIELDS or correlation & _core.ANSWER_BIT:
            return
        ticket = self._next_ticket
        self._next_ticket += 1
        self._entry_tickets[ticket] = (link, correlation)
        node = self._links.get(link, 0)
        unix_ms = epoch_ms() + now_ms()
        self._catalog_event(catalog_io.EntryOffered(node, ticket, entry, unix_ms))

    def _answer_kept(self, effect: catalog_io.Kept) -> None:
        link, correlation = self._entry_tickets.pop(effect.ticket)
        if correlation:
            what = NAMED_LATER if effect.superseded else NAMED_KEPT
            payload = _core.encode_version(what, effect.kind, effect.version)
            self._reply(link, frames.VERSION, correlation, payload)

    def _answer_refused(self, effect: catalog_io.Refuse) -> None:
        link, correlation = self._entry_tickets.pop(effect.ticket)
        if correlation:
            self._replies.error(link, correlation, effect.error)

    def _send_sums(self, effect: catalog_io.SendSums) -> None:
        payload = _core.encode_sums(effect.counts, effect.marks)
        self._transfers.send(effect.node, frames.SUMS, 0, payload)

    def _send_listing(self, effect: catalog_io.SendListing) -> None:
        payload = _core.encode_listing(effect.round, effect.items, effect.after, effect.end)
        self._transfers.send(effect.node, frames.LISTING, 0, payload)

    def _send_held(self, effect: catalog_io.SendHeld) -> None:
        payload = _core.encode_listed(effect.round, effect.held, effect.wanted)
        self._transfers.send(effect.node, frames.LISTED, 0, payload)

    def _send_entry(self, effect: catalog_io.SendEntry) -> None:
        entry = self.names.get(effect.digest)
        if entry is not None:
            entry = (*entry[:4], effect.age_ms, tuple(sorted(effect.awaited)))
            self._transfers.send(effect.node, frames.ENTRY, 0, _core.encode_entry(entry))

    def _on_sums(self, link: int, _correlation: int, body: tuple[Any, Any]) -> None:
        node = self._links.get(link, 0)
        if node:
            self._catalog_event(catalog_io.SumsHeard(node, *body))

    def _on_listing(self, link: int, _correlation: int, body: tuple[Any, ...]) -> None:
        node = self._links.get(link, 0)
        if node:
            self._catalog_event(catalog_io.ListingHeard(node, *body))

    def _on_listed(self, link: int, _correlation: int, body: tuple[Any, ...]) -> None:
        node = self._links.get(link, 0)
        if node:
            self._catalog_event(catalog_io.HeldHeard(node, *body))

    def _on_names_ask(self, link: int, correlation: int, body: tuple[int, bytes, bytes]) -> None:
        limit, prefix, after = body
        rows, more = self.names.page(prefix, after, limit)
        said = [
            (name, version, kind, *self._care_of(digest, Version._make(version)), size)
            for name, version, kind, size, digest in rows
        ]
        self._reply(link, frames.NAMES, correlation, _core.encode_names(more, said))

    # ---- how whole files are ----

    def _care_event(self, event: care_io.Event) -> None:
        for effect in self._care.handle(event, now_ms()):
            self._ask_care(effect)

    def _ask_care(self, effect: care_io.Ask) -> None:
        def answered(node: int, states: bytes | None) -> None:
            self._care_event(care_io.Answered(node, effect.ticket, states or b""))

        keys = effect.keys
        payload = _core.encode_offer(keys)
        self._transfers.request(effect.node, frames.OFFER, payload, answered, len(keys))

    def _care_of(self, digest: bytes, version: Version) -> tuple[int, int]:
        """Only the first keeper has looked."""
        if self.names.keepers(digest, 1) != (self._me,):
            return CARE_UNKNOWN, 0
        return self._care.of(digest, version)

    # ---- answers ----

    def _perform(self, effect: Any) -> None:
        self._effects[type(effect)](effect)

    def _reply(self, link: int, frame: int, correlation: int, payload: bytes) -> None:
        self._replies.frame(link, frame, correlation, payload)

    def here(self) -> dict[str, Any]:
        """What this node has, as plain data."""
        budget, used, reserved, _count, arriving = self.chunks.figures()
        names, tombstones, formers, names_bytes, names_room, _stamp, files = self.names.figures()
        at_risk, damaged, checked = self._care.counts()
        figures = self._holdings.figures()
        return {
            "node": self._me,
            "budget": budget,
            "used": used + reserved,
            "files": files,
            "at_risk": at_risk,
            "damaged": damaged,
            "unchecked": int(not checked),
            "repair_bytes": figures.repair_bytes,
            "repair_rate": self._rate[2],
            "names": {
                "entries": names,
                "tombstones": tombstones,
                "formers": formers,
                "bytes": names_bytes,
                "room": names_room,
            },
            "chunks": {**figures._asdict(), "reserved": reserved, "arriving": arriving},
        }

    # ---- timers ----

    def next_deadline(self) -> int | None:
        """The nearest of the policies'."""
        policies = (self._holdings, self._catalog, self._care)
        times = [policy.next_deadline() for policy in policies]
        return min((time for time in times if time is not None), default=None)

    def on_time(self, now: int) -> None:
        """Tells the policies the time."""
        since, before, _ = self._rate
        if now - since >= RATE_MS:
            moved = self._holdings.figures().repaired_bytes
            self._rate = (now, moved, (moved - before) * 1000 / (now - since) if since else 0.0)
        self._holding_event(holdings_io.TimePassed())
        self._catalog_event(catalog_io.TimePassed())
        self._care_event(care_io.TimePassed())


def default_ram() -> int:
    """What a node gives to files unless it is told: a quarter of what is free, 1 GiB at most."""
    return min(psutil.virtual_memory().available // 4, RAM_MAX)
