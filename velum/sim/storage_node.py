"""One simulated node of files: the production policies `Holdings`, `Catalog` and `Care`.

Owns: a node's process with its stores and policies, the frames it answers, and carrying out copies.
Refuses to know: how the policies decide, how frames travel, and when anything befalls it: that is
`storage.py`.

How: it does what a node does. `velum/store.py` joins the policies to the loop, `csrc/hub_store.c`
answers what needs no decision, `velum/storecopies.py` carries copies and shards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from velum.policy import care as care_io
from velum.policy import catalog_io, holdings_io
from velum.policy import transfer_io as io
from velum.policy.care import Care
from velum.policy.catalog import Catalog
from velum.policy.filetypes import (
    ASK_ENTRY,
    FAST,
    MANIFEST,
    NAMED_HERE,
    NAMED_KEPT,
    NAMED_LATER,
    NAMED_NONE,
    NAMED_REPLACED,
    OLD,
    PENDING,
    SEND,
    UNKNOWN,
    Claim,
    Entry,
    Key,
)
from velum.policy.holdings import Holdings
from velum.policy.holdings_io import LOST, CopyEnded, Rebuild, RebuildEnded, SendCopy
from velum.policy.hybridclock import Version
from velum.policy.names import LATER, NAMES_FULL, TAKEN
from velum.policy.names import kind as kind_of
from velum.policy.placement import Budget
from velum.sim.storage_client import DECODE_MS, Fetching, Program, Run, Transfers
from velum.sim.storage_files import RamChunks, WatchedNames, key_of, shard_of
from velum.sim.storage_link import TO_OPENER, Frame, Kind, Link, Process

if TYPE_CHECKING:
    from velum.sim.storage import World

MIB: Final = 1 << 20
NAMES_BYTES: Final = 1 << 20
_ERRORS: Final = {NAMES_FULL: "NAMES_FULL"}  # else VERSION_AHEAD


@dataclass(slots=True)
class View:
    """What one node's membership holds of another, and will hold soon."""

    state: str = ""  # "alive", "suspect"; "": no member
    life: int = 0  # as last seen
    mib: int = 0  # its budget, as far as heard
    aim: tuple[bool, int, bool] = (False, 0, False)  # will be seen; which life; known to have left
    epoch: int = 0  # changes of the aim


class Node(Process):
    """A machine with its node process; `mib` is what the next process gives to chunks."""

    def __init__(self, world: World, id: int, mib: int, rate: int | None) -> None:
        super().__init__(world, id)
        self.mib = mib
        self.rate = rate
        self.left = False
        self.chunks: RamChunks
        self.names: WatchedNames
        self.holdings: Holdings
        self.catalog: Catalog
        self.care: Care
        self.transfers: Transfers
        self.program: Program

    def boot(self) -> None:
        """A new process starts, with nothing."""
        self.start()
        self.left = False
        self.chunks = RamChunks(self.mib * MIB)
        self.chunks.on_drop = self.world.observer.check_drop
        self.names = WatchedNames(self.id, NAMES_BYTES, key_of)
        self.names.on_forget = self.world.observer.check_forget
        self.holdings = Holdings(self.id, self.chunks, self.rate)
        self.catalog = Catalog(self.id, self.names)
        self.care = Care(self.id, self.names)
        self.transfers = Transfers(self)
        self.program = Program(self, self.transfers)
        self.views: dict[int, View] = {}
        self._visitors: dict[int, Link] = {}
        self._lives: dict[int, int] = {}  # of the members present, as the store was told
        self._budgets: dict[int, int] = {}
        self._tickets: dict[int, tuple[Link, Frame]] = {}
        self._next_ticket = 0
        self.members_changed()

    # ---- timers ----

    def next_deadline(self) -> int | None:
        policies = (self.holdings, self.catalog, self.care, self.transfers)
        dues = [policy.next_deadline() for policy in policies]
        return min((due for due in dues if due is not None), default=None)

    def on_time(self) -> None:
        now = self.now_ms
        if (due := self.holdings.next_deadline()) is not None and due <= now:
            self.holding_event(holdings_io.TimePassed())
        if (due := self.catalog.next_deadline()) is not None and due <= now:
            self.catalog_event(catalog_io.TimePassed())
        if (due := self.care.next_deadline()) is not None and due <= now:
            self.care_event(care_io.TimePassed())
        self.transfers.on_time()

    # ---- who there is ----

    def see(self, other: int, state: str, life: int, mib: int, epoch: int) -> None:
        """The membership's word on another, unless it has thought better of it."""
        view = self.views[other]
        if view.epoch != epoch:
            return
        if state == "left":
            self.holding_event(holdings_io.MemberLeft(other))
            state = ""
        if (view.state, view.life, view.mib) != (state, life, mib):
            view.state, view.life, view.mib = state, life, mib
            self.members_changed()

    def members_changed(self) -> None:
        """As Store.members_changed and Node._members_changed do."""
        present = {id: view for id, view in self.views.items() if view.state}
        lives = {id: view.life for id, view in present.items()} | {self.id: self.life}
        budgets = {id: view.mib for id, view in present.items()} | {self.id: self.mib}
        before = self._lives
        restarted = {id for id in lives.keys() & before.keys() if lives[id] != before[id]}
        if lives != before or budgets != self._budgets:
            self._lives, self._budgets = lives, budgets
            for id in sorted(before.keys() - lives.keys() | restarted):
                self.catalog_event(catalog_io.MemberLost(id))
            for id in sorted(lives.keys() - before.keys() | restarted):
                self.catalog_event(catalog_io.MemberSeen(id))
            shares = tuple(Budget(id, mib) for id, mib in sorted(budgets.items()))
            self.holding_event(holdings_io.MembersChanged(shares, frozenset(restarted)))
            self.care_event(care_io.MembersChanged(shares))
        self.tell_transfers()

    def tell_transfers(self) -> None:
        """Who there is, and what each has left as far as health was heard."""
        ram = [io.Ram(self.id, self.mib, self.chunks.free_bytes() // MIB)]
        for id, view in self.views.items():
            if view.state:
                free = min(view.mib, self.world.free_mib(id))
                ram.append(io.Ram(id, view.mib, free, view.state == "alive"))
        self.transfers.set_members(ram)

    # ---- the policies ----

    def holding_event(self, event: holdings_io.Event) -> None:
        for effect in self.holdings.handle(event, self.now_ms):
            _PERFORM[type(effect)](self, effect)
        self.world.check_node(self)
        self.holdings.validate()
        self.plan_wake()

    def catalog_event(self, event: catalog_io.Event) -> None:
        for effect in self.catalog.handle(event, self.now_ms):
            _PERFORM[type(effect)](self, effect)
        self.catalog.validate()
        self.plan_wake()

    def care_event(self, event: care_io.Event) -> None:
        for effect in self.care.handle(event, self.now_ms):
            self.ask_care(effect)
        self.care.validate()
        self.plan_wake()

    # ---- effects of holdings ----

    def _reply(self, link: Link | None, kind: Kind, correlation: int, body: Any) -> None:
        if link is not None:
            self.world.links.send(link, TO_OPENER, Frame(kind, correlation, body))

    def answer_hold(self, effect: holdings_io.AnswerHold) -> None:
        body = (effect.state, self.chunks.free_bytes())
        self._reply(self._visitors.get(effect.link), Kind.HELD, effect.ticket, body)

    def answer_offer(self, effect: holdings_io.AnswerOffer) -> None:
        link = self._visitors.get(effect.node)
        self._reply(link, Kind.OFFERED, effect.ticket, tuple(effect.states))

    def send_offer(self, effect: holdings_io.SendOffer) -> None:
        assert effect.node != self.id and effect.keys

        def answered(node: int, states: Any) -> None:
            if states is not None:
                answer = holdings_io.OfferAnswered(node, effect.round, effect.keys, states)
                self.holding_event(answer)

        self.transfers.request(effect.node, Kind.OFFER, tuple(effect.keys), answered)

    def ask_claims(self, effect: holdings_io.AskClaims) -> None:
        def answered(node: int, states: Any) -> None:
            if states is not None:
                self.holding_event(holdings_io.ClaimsAnswered(node, effect.names, states))

        self.transfers.request(effect.node, Kind.CLAIMS, tuple(effect.names), answered)

    def send_copy(self, effect: SendCopy) -> None:
        def wanted(copy: _Copy) -> None:
            copy.send(self.chunks.held.get(effect.key))

        def then(state: int) -> None:
            self.holding_event(CopyEnded(effect.node, effect.key, state))

        assert self.chunks.size(effect.key) == effect.size, "a copy of what is not here"
        claims = effect.claims
        _Copy(self.transfers, effect.node, effect.key, effect.size, claims, wanted, then)

    def rebuild(self, effect: Rebuild) -> None:
        _Rebuilding(self, effect)

    # ---- effects of the catalog ----

    def answer_kept(self, effect: catalog_io.Kept) -> None:
        link, asked = self._tickets.pop(effect.ticket)
        if asked.correlation:
            what = NAMED_LATER if effect.superseded else NAMED_KEPT
            body = (what, effect.kind, Version(*effect.version))
            self._reply(link, Kind.VERSION, asked.correlation, body)

    def answer_refused(self, effect: catalog_io.Refuse) -> None:
        link, asked = self._tickets.pop(effect.ticket)
        if asked.correlation:
            code = _ERRORS.get(effect.error, "VERSION_AHEAD")
            self._reply(link, Kind.ERROR, asked.correlation, code)

    def send_sums(self, effect: catalog_io.SendSums) -> None:
        body = (tuple(effect.counts), tuple(effect.marks))
        self.transfers.send(effect.node, Frame(Kind.SUMS, 0, body))

    def send_listing(self, effect: catalog_io.SendListing) -> None:
        body = (effect.round, tuple(effect.items), effect.after, effect.end)
        self.transfers.send(effect.node, Frame(Kind.LISTING, 0, body))

    def send_held(self, effect: catalog_io.SendHeld) -> None:
        body = (effect.round, tuple(effect.held), tuple(effect.wanted))
        self.transfers.send(effect.node, Frame(Kind.LISTED, 0, body))

    def send_entry(self, effect: catalog_io.SendEntry) -> None:
        entry = self.names.get(effect.digest)
        if entry is not None:
            entry = entry._replace(age_ms=effect.age_ms, awaited=tuple(sorted(effect.awaited)))
            self.transfers.send(effect.node, Frame(Kind.ENTRY, 0, entry))

    def ask_care(self, effect: care_io.Ask) -> None:
        def answered(node: int, states: Any) -> None:
            self.care_event(care_io.Answered(node, effect.ticket, states or ()))

        self.transfers.request(effect.node, Kind.OFFER, effect.keys, answered)

    # ---- links ----

    def link_opened(self, link: Link) -> None:
        self.transfers.opened(link)

    def link_ended(self, link: Link) -> None:
        self.transfers.ended(link)

    def hear_answer(self, link: Link, frame: Frame) -> None:
        if frame.kind is Kind.ENTRY and not frame.answers:
            self._merge(link, frame)  # what was sent to another was less than this
        else:
            self.transfers.heard(link, frame)

    def visitor_came(self, link: Link) -> None:
        self._visitors[link.number] = link

    def visitor_gone(self, link: Link) -> None:
        del self._visitors[link.number]
        self.chunks.abandon_all(link.number)
        self.holding_event(holdings_io.LinkClosed(link.number))

    # ---- frames ----

    def hear_question(self, link: Link, frame: Frame) -> None:
        _HEAR[frame.kind](self, link, frame)

    def _member(self, link: Link) -> int:
        """Who is behind a link: 0 of a client."""
        return link.opener.id if isinstance(link.opener, Node) else 0

    def on_hold(self, link: Link, frame: Frame) -> None:
        key, size, claims, repairs = frame.body
        node = self._member(link) if repairs else 0
        event = holdings_io.HoldAsked(link.number, frame.correlation, key, size, claims, node)
        self.holding_event(event)

    def on_cancel(self, link: Link, frame: Frame) -> None:
        self.holding_event(holdings_io.HoldWithdrawn(link.number, frame.correlation))

    def on_chunk(self, link: Link, frame: Frame) -> None:
        key, data = frame.body
        right = self.chunks.arrive(key, data, link.number)
        if right is not None:
            self.holding_event(holdings_io.ChunkStored(link.number, key, right))

    def on_want(self, link: Link, frame: Frame) -> None:
        data = self.chunks.held.get(frame.body)
        if data is None:
            self._reply(link, Kind.ERROR, frame.correlation, "CHUNK_MISSING")
        else:
            self._reply(link, Kind.CHUNK, frame.correlation, (frame.body, data))

    def on_release(self, _link: Link, frame: Frame) -> None:
        self.holding_event(holdings_io.Released(*frame.body))

    def on_offer(self, link: Link, frame: Frame) -> None:
        event = holdings_io.OfferAsked(link.number, frame.correlation, frame.body)
        self.holding_event(event)

    def on_claims(self, link: Link, frame: Frame) -> None:
        states = tuple(self._claimed(*name) for name in frame.body)
        self._reply(link, Kind.CLAIMED, frame.correlation, states)

    def _claimed(self, digest: bytes, version: Version) -> int:
        known = self.names.known(digest)
        if known is not None and known[0] >= version:
            return FAST if known[0] == version else OLD
        return PENDING if self.holdings.pending((digest, version)) else UNKNOWN

    def on_entry(self, link: Link, frame: Frame) -> None:
        if frame.body.manifest is None:
            self._offered(link, frame)
        else:
            self._merge(link, frame)

    def _offered(self, link: Link, frame: Frame) -> None:
        """The catalog is to merge it."""
        self._next_ticket += 1
        self._tickets[self._next_ticket] = (link, frame)
        unix_ms = self.epoch_ms + self.now_ms
        node, entry = self._member(link), frame.body
        self.catalog_event(catalog_io.EntryOffered(node, self._next_ticket, entry, unix_ms))

    def _merge(self, link: Link, frame: Frame) -> None:
        """As answer_entry of csrc/hub_store.c."""
        entry: Entry = frame.body
        unix_ms = self.epoch_ms + self.now_ms
        before = self.names.known(key_of(entry.name))
        what, digest, kind, version = self.names.merge(entry, unix_ms, self.now_ms)
        if frame.correlation:
            named = NAMED_LATER if what == LATER else NAMED_KEPT
            if what == TAKEN and before is not None and before[2] == MANIFEST:
                named = NAMED_REPLACED
            if what < 0:
                code = _ERRORS.get(-what, "VERSION_AHEAD")
                self._reply(link, Kind.ERROR, frame.correlation, code)
            else:
                body = (named, kind, Version(*version))
                self._reply(link, Kind.VERSION, frame.correlation, body)
        elif what == LATER:
            ours = self.names.get(digest)
            assert ours is not None
            if ours.manifest is None:
                self._offered(link, frame)
            else:
                self._reply(link, Kind.ENTRY, 0, ours)

    def on_entry_ask(self, link: Link, frame: Frame) -> None:
        how, digest = frame.body
        here = self.names.get(digest)
        answer = Frame(Kind.VERSION, frame.correlation, (NAMED_NONE, 0, Version(0, 0)), True)
        if here is not None and how == ASK_ENTRY and here.manifest is not None:
            answer = Frame(Kind.ENTRY, frame.correlation, here, True)
        elif here is not None:
            body = (NAMED_HERE, kind_of(here.manifest), here.version)
            answer = Frame(Kind.VERSION, frame.correlation, body, True)
        self.world.links.send(link, TO_OPENER, answer)

    def on_sums(self, link: Link, frame: Frame) -> None:
        self.catalog_event(catalog_io.SumsHeard(self._member(link), *frame.body))

    def on_listing(self, link: Link, frame: Frame) -> None:
        self.catalog_event(catalog_io.ListingHeard(self._member(link), *frame.body))

    def on_listed(self, link: Link, frame: Frame) -> None:
        self.catalog_event(catalog_io.HeldHeard(self._member(link), *frame.body))

    # ---- the rest ----

    @property
    def idle(self) -> bool:
        """Whether it owes nobody an answer, and nothing arrives."""
        return not (self._tickets or self.chunks.reserved)


_PERFORM: Final[dict[type, Callable[[Node, Any], None]]] = {
    holdings_io.AnswerHold: Node.answer_hold,
    holdings_io.AnswerOffer: Node.answer_offer,
    holdings_io.SendOffer: Node.send_offer,
    holdings_io.AskClaims: Node.ask_claims,
    holdings_io.SendCopy: Node.send_copy,
    holdings_io.Rebuild: Node.rebuild,
    catalog_io.Kept: Node.answer_kept,
    catalog_io.Refuse: Node.answer_refused,
    catalog_io.SendEntry: Node.send_entry,
    catalog_io.SendSums: Node.send_sums,
    catalog_io.SendListing: Node.send_listing,
    catalog_io.SendHeld: Node.send_held,
}

_HEAR: Final[dict[Kind, Callable[[Node, Link, Frame], None]]] = {
    Kind.HOLD: Node.on_hold,
    Kind.CANCEL: Node.on_cancel,
    Kind.CHUNK: Node.on_chunk,
    Kind.WANT: Node.on_want,
    Kind.RELEASE: Node.on_release,
    Kind.OFFER: Node.on_offer,
    Kind.CLAIMS: Node.on_claims,
    Kind.ENTRY: Node.on_entry,
    Kind.ENTRY_ASK: Node.on_entry_ask,
    Kind.SUMS: Node.on_sums,
    Kind.LISTING: Node.on_listing,
    Kind.LISTED: Node.on_listed,
}


# ---- copies, as velum/storecopies.py ----


class _Copy(Run):
    """One chunk to one node. `wanted(copy)` is called when the node lacks it; then `send(data)`."""

    def __init__(
        self,
        transfers: Transfers,
        node: int,
        key: Key,
        size: int,
        claims: Sequence[Claim],
        wanted: Callable[[_Copy], None],
        then: Callable[[int], None],
    ) -> None:
        super().__init__(transfers, None, b"")
        self._name = (node, 0, 0)
        self._key = key
        self._wanted = wanted
        self._then = then
        assert 0 < len(claims) <= 16, "claims of a copy"
        correlation = transfers.correlate(self, *self._name)
        body = (key, size, tuple(claims), True)
        transfers.send(node, Frame(Kind.HOLD, correlation, body))

    def send(self, data: bytes | None) -> None:
        if self.over:
            return
        if data is None:
            self._end(LOST)
        else:
            self.transfers.send_chunk(self, self._name, self._key, data)

    def handle(self, event: Any) -> None:
        if isinstance(event, io.HeldHeard):
            if event.state == SEND:
                self._wanted(self)
            else:
                self._end(event.state)
        elif isinstance(event, (io.LinkLost, io.Refused)):
            self._end(LOST)

    def _end(self, state: int) -> None:
        self.end()
        self._then(state)


class _Fetch(Fetching):
    """k shards of a stripe, from whoever has them."""

    def __init__(
        self, node: Node, effect: Rebuild, then: Callable[[dict[int, bytes] | None], None]
    ) -> None:
        super().__init__(node.transfers, None, b"")
        self._effect = effect
        self._then = then
        self._here: dict[int, bytes] = {}
        self._under_way: set[int] = set()
        self._left = list(effect.have)
        for index, id in effect.have:
            data = node.chunks.held.get(effect.keys[index]) if id == node.id else None
            if data is not None and index not in self._here:
                self._here[index] = data
                self._left.remove((index, id))
        self._more()

    def take(self, number: int, key: Key, data: bytes) -> bool:
        self._here[number] = data
        return True

    def _more(self) -> None:
        effect = self._effect
        while len(self._here) + len(self._under_way) < effect.k and self._left:
            index, node = self._left.pop(0)
            if index not in self._here and index not in self._under_way:
                self._under_way.add(index)
                self.transfers.want(self, node, index, effect.keys[index])
        if len(self._here) >= effect.k or not self._under_way:
            self.end()
            self._then(self._here if len(self._here) >= effect.k else None)

    def handle(self, event: Any) -> None:
        if isinstance(event, (io.ChunkArrived, io.ChunkFailed)):
            self._under_way.discard(event.number)
        elif isinstance(event, io.LinkLost):
            self._under_way &= {number for _, number, _ in self.at}
        else:
            return
        if not self.over:
            self._more()


class _Rebuilding:
    """One Rebuild: HOLD to all, then the shards for those that lack theirs."""

    def __init__(self, node: Node, effect: Rebuild) -> None:
        self._node = node
        self._effect = effect
        self._states: dict[int, int] = {}
        self._copies: dict[int, _Copy] = {}
        self._asking = len(effect.missing)
        for number, piece in enumerate(effect.missing):
            wanted, ended = self._wanted(number), self._ended(number)
            size, claims = effect.size, piece.claims
            _Copy(node.transfers, piece.node, piece.key, size, claims, wanted, ended)

    def _wanted(self, number: int) -> Callable[[_Copy], None]:
        def wanted(copy: _Copy) -> None:
            self._copies[number] = copy
            self._asked()

        return wanted

    def _ended(self, number: int) -> Callable[[int], None]:
        def ended(state: int) -> None:
            self._states[number] = state
            if number not in self._copies:
                self._asked()
            self._finish()

        return ended

    def _asked(self) -> None:
        self._asking -= 1
        if not self._asking and self._copies:
            _Fetch(self._node, self._effect, self._fetched)

    def _fetched(self, here: dict[int, bytes] | None) -> None:
        if here is None:
            for copy in self._copies.values():
                copy.send(None)
            return
        self._node.after(self._node.world.rng.randint(*DECODE_MS), self._decoded, here)

    def _decoded(self, here: dict[int, bytes]) -> None:
        for number in sorted(self._copies):
            index = self._effect.missing[number].index
            self._copies[number].send(shard_of(here, index))

    def _finish(self) -> None:
        if len(self._states) == len(self._effect.missing):
            states = [self._states[number] for number in range(len(self._states))]
            self._node.holding_event(RebuildEnded(self._effect.what, states))
