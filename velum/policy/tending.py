"""What a node does for the chunks it holds: who is asked for them, what is copied, what goes.

Owns: the chunks and stripes known here, and what follows from what other nodes say of them.
Refuses to know: how chunks come, links, and what becomes of versions (`claims.py`). `holdings.py`
drives it and says in its table what follows from what.

Everything is *settled* or has a time at which it is looked at again, in `_looks` or `_scan`; a
look asks, an answer is reviewed at once, and both do what there is to do. Nothing waits for an
answer: what does not come is asked for again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from . import holdings_io as io
from .claims import Claims, State
from .filetypes import (
    BAD,
    BUSY,
    FULL,
    HAVE,
    KEPT,
    OFFERED_BUSY,
    OFFERED_FULL,
    OFFERED_HAVE,
    OFFERED_SPARE,
    Claim,
    Copies,
    Key,
    Shard,
)
from .placement import Placement
from .repairs import Job, Repairs
from .scrub import BYTES_MAX, Scrub
from .slots import CLAIMS_PER_HOLD, THERE, Slot, Whereabouts
from .stripes import Spot, Stripe, stripe_id
from .wheel import Wheel

# Of what is OVER, beside what is wanted: enough for who reads a file of usual size on while it is
# replaced. Memory that was touched once is given to the next chunk three times as quickly as fresh.
OVER_PART: Final = 16  # of the budget
OVER_BYTES_MIN: Final = 16 << 20
LOOK_FIRST_MS: Final = 2000  # the members change often at once, and a put has its other copies by
PUTTING_MS: Final = 60_000  # a put that is under way longer is looked after like a file
RETRY_MS: Final = 5000  # between two looks, doubled up to:
RETRY_MS_MAX: Final = 60_000
ANSWER_MS: Final = 1000  # for a stripe's other holders to answer: all that lacks is made at once
PATIENCE_MS: Final = 30_000  # for each that comes before this node in the order
DROP_MS: Final = 10_000  # surplus stays as long: readers may know the former members
STEP_MS: Final = 20
LOOKS_MAX: Final = 200  # in a step: 3 ms for chunks, 15 for stripes
ENDINGS_MAX: Final = 500  # claims that end in a step
OFFER_KEYS: Final = 256  # of a question

_HELD: Final = {
    HAVE: OFFERED_SPARE,  # it has not said that it is a holder
    KEPT: OFFERED_SPARE,
    FULL: OFFERED_FULL,
    BUSY: OFFERED_BUSY,
}


class Tending:
    """The chunks and stripes; the caller sets `now` before each call, and takes `out` after it."""

    def __init__(self, me: int, chunks: io.Chunks, claims: Claims, rate: int | None) -> None:
        self.now = 0
        self.out: list[io.Effect] = []
        self._me = me
        self._chunks = chunks
        self._claims = claims
        self._repairs = Repairs(rate)
        self._scrub = Scrub()
        self._step_ms = 0
        self._slots: dict[Key, Slot] = {}
        self._stripes: dict[bytes, Stripe] = {}
        self._bytes = 0
        self._count = 0
        self._claimed = 0  # claims of all slots
        self._bad = 0
        self._budgets: dict[int, int] = {}
        self._lives: dict[int, int] = {}  # members, and the round since which each has lived
        self._placement = Placement(())
        self._round = 0
        self._settle_ms = 0  # the members' last change is looked into from then on
        self._scan: list[bytes] = []  # last first
        self._looks = Wheel()
        self._settled: set[bytes] = set()
        self._surplus: dict[Key, None] = {}  # confirmed elsewhere, oldest first
        self._risk: dict[bytes, int] = {}  # how many copies lack, of what this node is the first
        self._asking: dict[tuple[int, Key], set[bytes]] = {}  # stripes, by whom and what they ask
        self._offers: dict[int, dict[Key, None]] = {}
        self._pieces: dict[bytes, tuple[int, io.Rebuild]] = {}  # under way, and their round
        self._handing: dict[Job, tuple[int, list[Claim]]] = {}  # copies under way, the same

    # ---- the face ----

    def step(self) -> None:
        """Some of what there is to end and to look at; the rest is for the next step."""
        if self.now < self._step_ms:
            return
        self._step_ms = self.now + STEP_MS
        for name, key in self._claims.ending(ENDINGS_MAX):
            self.end_claim(name, key)
        room = LOOKS_MAX
        while room and self._scan and self.now >= self._settle_ms:
            self._look(self._scan.pop())
            room -= 1
        for what in self._looks.take(self.now, room):
            self._look(what)

    def time_passed(self) -> None:
        """Does what is due, but for the looks."""
        for job in self._repairs.overdue(self.now):
            if job.node:
                self.copy_ended(io.CopyEnded(job.node, job.what, io.LOST))
            else:
                self.rebuild_ended(io.RebuildEnded(job.what, ()))
        if self._scrub.due_ms is not None and self.now >= self._scrub.due_ms:
            self._hash_some()

    def next_deadline(self) -> int | None:
        """When there is something to do again."""
        dues = [self._scrub.due_ms, self._repairs.next_deadline(self.now)]
        looks = self._looks.next()
        if looks is not None:
            dues.append(max(looks, self._step_ms))
        if self._scan:
            dues.append(max(self._settle_ms, self._step_ms))
        if self._claims.ending(1):
            dues.append(self._step_ms)
        return min((due for due in dues if due is not None), default=None)

    def questions(self) -> None:
        """Sends the offers that have come up."""
        offers, self._offers = self._offers, {}
        for node, asked in offers.items():
            keys = list(asked)
            for start in range(0, len(keys), OFFER_KEYS):
                part = keys[start : start + OFFER_KEYS]
                self.out.append(io.SendOffer(node, self._round, part))

    def trim_over(self) -> None:
        """Drops what is OVER beyond its part of the budget, oldest first."""
        room = max(OVER_BYTES_MIN, (self._budgets.get(self._me, 0) << 20) // OVER_PART)
        while self._claims.bytes(State.OVER) > room:
            for name, key in self._claims.oldest_over():
                self.end_claim(name, key)

    def make_room(self) -> bool:
        """Drops one thing that need not be here."""
        for name, key in self._claims.oldest_over():
            self.end_claim(name, key)
            return True
        for key in self._surplus:
            self._drop(key, self._slots[key])
            return True
        return False

    def holds(self, key: Key) -> int:
        """OFFERED_HAVE or OFFERED_SPARE of a chunk that is here; else 0."""
        slot = self._slots.get(key)
        if slot is None or not slot.here:
            return 0
        if slot.round != self._round:
            self._place(slot)
        return OFFERED_HAVE if self._me in slot.wanted else OFFERED_SPARE

    @property
    def claimed(self) -> int:
        """Claims of all chunks."""
        return self._claimed

    def figures(self) -> io.Figures:
        """What `df` shows."""
        return io.Figures(
            chunks=self._count,
            bytes=self._bytes,
            loose_bytes=self._claims.bytes(State.LOOSE),
            over_bytes=self._claims.bytes(State.OVER),
            unconfirmed=len(self._slots) + len(self._stripes) - len(self._settled),
            at_risk=sum(self._risk.values()),
            lost=len(self._slots) - self._count,
            bad=self._bad,
            repair_bytes=self._repairs.bytes_left,
            repaired_bytes=self._repairs.moved_bytes,
        )

    def validate(self) -> None:
        """Raises AssertionError if an invariant does not hold."""
        here = [slot for slot in self._slots.values() if slot.here]
        assert self._count == len(here) and self._bytes == sum(slot.size for slot in here)
        assert self._claimed == sum(len(slot.claims) for slot in self._slots.values())
        waiting = set(self._scan)
        shards: dict[bytes, dict[io.Name, int]] = {}
        for key, slot in self._slots.items():
            assert slot.claims, "held for nothing"
            assert self._chunks.size(key) == (slot.size if slot.here else None)
            assert key in self._settled or key in waiting or key in self._looks, "forgotten"
            for claim in slot.claims:
                assert self._claims.state(claim[:2]) is not None
                if isinstance(claim.place, Shard):
                    assert claim.place.keys[claim.place.index] == key
                    claims = shards.setdefault(stripe_id(claim.place), {})
                    claims[claim[:2]] = claims.get(claim[:2], 0) | 1 << claim.place.index
        assert shards == {id: stripe.claims for id, stripe in self._stripes.items()}
        for id in self._stripes:
            assert id in self._settled or id in waiting or id in self._looks, "forgotten"
        assert self._settled <= self._slots.keys() | self._stripes.keys()
        assert self._risk.keys() <= self._slots.keys() | self._stripes.keys()
        assert self._surplus.keys() <= self._slots.keys()
        self._repairs.validate()

    def here(self, key: Key) -> bool:
        slot = self._slots.get(key)
        return slot is not None and slot.here

    def names(self, key: Key) -> set[io.Name]:
        """The versions for whose sake a chunk is here."""
        slot = self._slots.get(key)
        return {claim[:2] for claim in slot.claims} if slot is not None and slot.here else set()

    def members_changed(self, event: io.MembersChanged) -> None:
        budgets = dict(event.budgets)
        if budgets == self._budgets and not event.restarted:
            return
        self._round += 1
        self._budgets = budgets
        lives = {node: self._lives.get(node, self._round) for node in budgets}
        self._lives = lives | dict.fromkeys(event.restarted & budgets.keys(), self._round)
        self._placement = Placement(event.budgets)
        self._claims.members_changed(self._placement, frozenset(budgets))
        self._repairs.clear()
        self._settled.clear()
        self._surplus.clear()
        self._risk.clear()
        self._asking.clear()
        self._offers.clear()
        self._looks.clear()
        left = dict.fromkeys(self._scan)
        self._scan = [what for what in (*self._slots, *self._stripes) if what not in left]
        self._scan += left  # what has waited longest comes first
        if self._settle_ms <= self.now:
            self._settle_ms = self.now + LOOK_FIRST_MS

    def _stays(self, node: int, round: int) -> bool:
        """Whether a member lives, and has done so since a round."""
        return self._lives.get(node, self._round + 1) <= round

    # ---- chunks come and go ----

    def note(self, key: Key, size: int, claims: Iterable[Claim], putter: int) -> None:
        """A chunk is here, and claimed."""
        slot = self._slots.get(key)
        fresh = slot is None
        if slot is None:
            slot = self._slots[key] = Slot(key, size, self.now)
        if not slot.here:
            slot.here = True
            self._count += 1
            self._bytes += size
        grown = False
        for claim in claims:
            shared = self._claims.add(claim, key, size, putter, self.now)
            if claim not in slot.claims:
                self._add_claim(slot, shared)
                grown = True
        if grown:
            self._place(slot)
            # Who puts a chunk tells all its holders, but may have failed to. That shows by the
            # chunk lacking there, if it was not there for another's sake.
            slot.told = slot.wanted if fresh and self._me in slot.wanted else ()
            slot.handed.clear()
        self._unsettle(key, self.now + LOOK_FIRST_MS)
        if self._scrub.due_ms is None:
            self._scrub.rest(self.now)

    def _add_claim(self, slot: Slot, claim: Claim) -> None:
        place = claim.place
        if isinstance(place, Shard):
            id = stripe_id(place)
            stripe = self._stripes.get(id)
            if stripe is None:
                stripe = Stripe(place.k, place.m, place.keys, slot.size)
                self._stripes[id] = stripe
            elif claim[:2] not in stripe.claims:
                stripe.told = 0  # as in `note`
            stripe.claims[claim[:2]] = stripe.claims.get(claim[:2], 0) | 1 << place.index
            claim = claim._replace(place=place._replace(keys=stripe.keys))
            self._unsettle(id, self.now + LOOK_FIRST_MS)
        slot.claims[claim] = None
        self._claimed += 1

    def end_claim(self, name: io.Name, key: Key) -> None:
        """A chunk is not held for a version any more."""
        slot = self._slots[key]
        self._remove_claims(key, slot, [claim for claim in slot.claims if claim[:2] == name])
        if not slot.claims:
            self._drop(key, slot)
            return
        self._place(slot)
        self._unsettle(key, self.now + LOOK_FIRST_MS)

    def _remove_claims(self, key: Key, slot: Slot, claims: Sequence[Claim]) -> None:
        for claim in claims:
            del slot.claims[claim]
            if isinstance(claim.place, Shard):
                self._leave_stripe(stripe_id(claim.place), claim[:2], claim.place.index)
        self._claimed -= len(claims)
        slot.handed.clear()
        for name in dict.fromkeys(claim[:2] for claim in claims):
            self._claims.remove(name, key, slot.size)

    def _leave_stripe(self, id: bytes, name: io.Name, index: int) -> None:
        claims = self._stripes[id].claims
        claims[name] &= ~(1 << index)
        if not claims[name]:
            del claims[name]
        if not claims:
            del self._stripes[id]
            self._forget_look(id)

    def _drop(self, key: Key, slot: Slot) -> None:
        self._remove_claims(key, slot, list(slot.claims))
        del self._slots[key]
        for node in slot.seen:
            self._repairs.discard(Job(key, node))
        self._forget_look(key)
        self._surplus.pop(key, None)
        if slot.here:
            self._chunks.drop(key)
            self._gone(slot)

    def _gone(self, slot: Slot) -> None:
        slot.here = False
        self._count -= 1
        self._bytes -= slot.size

    def _forget_look(self, what: bytes) -> None:
        self._settled.discard(what)
        self._risk.pop(what, None)
        self._looks.cancel(what)
        self._repairs.discard(Job(what, 0))

    # ---- looking ----

    def _look(self, what: bytes) -> None:
        slot, stripe = self._slots.get(what), self._stripes.get(what)
        if slot is not None and not self._putting(slot):
            self._look_at_chunk(slot)
        elif stripe is not None and not self._putting_stripe(stripe):
            self._look_at_stripe(what, stripe)
        elif slot is not None or stripe is not None:
            self._unsettle(what, self.now + RETRY_MS)

    def _putting(self, slot: Slot) -> bool:
        """Whether the other holders are still being sent it, as far as known."""
        if self.now - slot.came_ms >= PUTTING_MS:
            return False
        return all(self._claims.pending(claim[:2]) for claim in slot.claims)

    def _putting_stripe(self, stripe: Stripe) -> bool:
        held = [slot for key in stripe.keys if (slot := self._slots.get(key)) is not None]
        return any(self._putting(slot) for slot in held)

    def _unsettle(self, what: bytes, when: int) -> None:
        """It is to be looked at, at that time at the latest."""
        self._settled.discard(what)
        self._looks.set(what, min(when, self._looks.when(what, when)))

    def _settle(self, what: bytes) -> None:
        self._forget_look(what)
        self._settled.add(what)

    def _count_risk(self, what: bytes, copies: int) -> None:
        if copies:
            self._risk[what] = copies
        else:
            self._risk.pop(what, None)

    def _ask(self, node: int, key: Key) -> None:
        self._offers.setdefault(node, {})[key] = None

    def _live(self, names: Iterable[io.Name]) -> list[io.Name]:
        """Versions that are not over, each once."""
        found = dict.fromkeys(names)
        return [name for name in found if self._claims.state(name) is not State.OVER]

    # ---- a chunk ----

    def _place(self, slot: Slot) -> None:
        """Finds a chunk's holders by the members known now."""
        copies = 0
        shards: list[int] = []
        for claim in slot.claims:
            place = claim.place
            if self._claims.state(claim[:2]) is State.OVER:
                continue
            if isinstance(place, Copies):
                copies = max(copies, place.count)
            else:
                stripe = self._placed(self._stripes[stripe_id(place)])
                shards += stripe.wanted[place.index : place.index + 1]
        wanted = self._placement.holders(slot.key, copies) if copies else ()
        slot.place(self._me, (*wanted, *shards), self._round, self._stays)
        self._surplus.pop(slot.key, None)

    def _look_at_chunk(self, slot: Slot) -> None:
        key = slot.key
        if slot.round != self._round:
            self._place(slot)
        self._unsettle(key, self.now + min(RETRY_MS << slot.tries, RETRY_MS_MAX))
        slot.tries = min(slot.tries + 1, 4)
        for node in self._review(slot):
            if Job(key, node) not in self._repairs:
                self._ask(node, key)

    def _review(self, slot: Slot) -> list[int]:
        """Does what follows from what is known of a chunk; returns who is to be asked."""
        key, mine = slot.key, self._me in slot.wanted
        if not slot.here:
            return self._review_lost(slot, mine)
        if not slot.wanted:  # over, or no member is known
            self._settle(key)
            return []
        found = slot.whereabouts(self._me, self._placement)
        self._count_risk(key, 0 if found.rank else found.short)
        self._send_to(slot, found)
        untold = [node for node in found.have if node not in slot.told]
        for node in found.have:
            if node in untold and not (mine and found.rank):
                self._repairs.add(Job(key, node), 0, 0)
            else:
                self._repairs.discard(Job(key, node))
        if not mine:
            self._let_go(slot)
        elif slot.confirmed(self._me) and (found.rank or not untold):
            self._settle(key)
            slot.seen.clear()
            slot.tries = 0
            return []
        return found.unsure

    def _send_to(self, slot: Slot, found: Whereabouts) -> None:
        """Those that lack a chunk are sent it, once it is this node's turn."""
        if not found.lack:
            slot.since_ms = None
            return
        if slot.since_ms is None:
            slot.since_ms = self.now
        turn = slot.since_ms + found.rank * PATIENCE_MS
        if self.now < turn:
            self._unsettle(slot.key, turn)
            return
        margin = len(found.have) + slot.former + _spread(slot)
        for node in found.lack:
            self._repairs.add(Job(slot.key, node), margin, slot.size)

    def _let_go(self, slot: Slot) -> None:
        """Surplus goes, if all holders have said that they have it, and know why."""
        sure = any(self._budgets.values()) and all(node in slot.told for node in slot.wanted)
        if not (sure and slot.confirmed(self._me)):
            slot.drop_ms = None
            self._surplus.pop(slot.key, None)
        elif slot.drop_ms is None:
            slot.drop_ms = self.now + DROP_MS
            self._surplus[slot.key] = None
            self._unsettle(slot.key, slot.drop_ms)
        elif self.now >= slot.drop_ms:
            self._drop(slot.key, slot)

    def _review_lost(self, slot: Slot, mine: bool) -> list[int]:
        """One that was found bad is fetched from whoever has it."""
        if not mine:
            self._drop(slot.key, slot)
            return []
        others = [node for node in self._placement.order(slot.key) if node != self._me]
        have = [node for node in others if slot.seen.get(node) in THERE]
        if have:
            self._repairs.add(Job(slot.key, 0), len(have) - 1, slot.size)
        return [node for node in others if node not in have]

    # ---- a stripe ----

    def _placed(self, stripe: Stripe) -> Stripe:
        if stripe.round != self._round:
            stripe.place(self._placement, self._round, self._stays)
        return stripe

    def _look_at_stripe(self, id: bytes, stripe: Stripe) -> None:
        self._placed(stripe)
        self._unsettle(id, self.now + min(RETRY_MS << stripe.tries, RETRY_MS_MAX))
        stripe.tries = min(stripe.tries + 1, 4)
        for index, node in self._review_stripe(id, stripe):
            key = stripe.keys[index]
            self._asking.setdefault((node, key), set()).add(id)
            self._ask(node, key)

    def _review_stripe(self, id: bytes, stripe: Stripe) -> list[Spot]:
        """Does what follows from what is known of a stripe; returns who is to be asked for what."""
        plan = stripe.plan(self._me, self.here, self._placement)
        knowing = [spot for spot in plan.there if spot not in plan.untold or spot[1] == self._me]
        there = list(dict.fromkeys(node for _, node in knowing))
        own = any(node == self._me and stripe.keys[i] in self._slots for i, node in plan.missing)
        cares = self._me in stripe.wanted and (self._me in there or own)
        if not cares or not self._live(stripe.claims):
            self._settle(id)
            return []
        rank = there.index(self._me) if self._me in there else len(there)
        moving = all(stripe.moved >> index & 1 for index, _ in plan.missing)
        self._count_risk(id, 0 if rank or moving else len(plan.missing))
        job = Job(id, 0)
        if plan.missing:
            if stripe.since_ms is None:
                stripe.since_ms = self.now
            turn = stripe.since_ms + (0 if own else (rank + moving) * PATIENCE_MS)
            if any(spot not in stripe.seen for spot in plan.unsure):
                turn = max(turn, stripe.since_ms + ANSWER_MS)
            if self.now < turn:
                self._unsettle(id, turn)
            elif len(plan.there) >= stripe.k:
                cost = (stripe.k + len(plan.missing)) * stripe.size
                self._repairs.add(job, len(plan.there) - stripe.k, cost)
            return plan.unsure
        stripe.since_ms = None
        self._repairs.discard(job)
        if plan.untold and not rank:
            self._repairs.add(job, 0, 0)
        elif not plan.unsure:
            self._settle(id)
            stripe.seen.clear()
            stripe.tries = 0
        return plan.unsure

    # ---- scrubbing ----

    def _hash_some(self) -> None:
        scrub = self._scrub
        if scrub.pass_due(self.now):
            here = [(key, slot.size) for key, slot in self._slots.items() if slot.here]
            scrub.begin(here, self.now)
        for _ in range(scrub.batch):
            while (key := scrub.current) is not None and not self.here(key):
                scrub.passed()
            if key is None:
                break
            found = io.Checked(self._chunks.verify(key, BYTES_MAX))
            if found is io.Checked.MORE:
                continue
            scrub.passed()
            self._hashed(self._slots[key], found)
        scrub.rest(self.now)

    def _hashed(self, slot: Slot, found: io.Checked) -> None:
        """A chunk was hashed again: what is confirmed of it is asked for again too."""
        key, right = slot.key, found is io.Checked.RIGHT
        if not right:
            if found is io.Checked.WRONG:
                self._chunks.drop(key)
            self._bad += 1
            self._gone(slot)
            self._surplus.pop(key, None)
        if key in self._settled or not right:
            self._unsettle(key, self.now)
        for claim in slot.claims:
            if isinstance(claim.place, Shard):
                id = stripe_id(claim.place)
                if id in self._settled or not right:
                    self._unsettle(id, self.now)

    # ---- answers ----

    def offer_answered(self, event: io.OfferAnswered) -> None:
        if event.round != self._round or event.node not in self._lives:
            return
        stripes: dict[bytes, None] = {}
        for key, state in zip(event.keys, event.states, strict=True):
            slot = self._slots.get(key)
            if slot is not None and key not in self._settled and slot.round == self._round:
                slot.seen[event.node] = state
                self._review(slot)
            for id in self._asking.pop((event.node, key), ()):
                stripe = self._stripes.get(id)
                if stripe is not None and id not in self._settled and stripe.round == self._round:
                    spots = [i for i, shard in enumerate(stripe.keys) if shard == key]
                    stripe.seen.update(dict.fromkeys([(i, event.node) for i in spots], state))
                    stripes[id] = None
        for id in stripes:
            if id in self._stripes:
                self._review_stripe(id, self._stripes[id])

    # ---- copies ----

    def start_jobs(self) -> None:
        for job in self._repairs.due(self.now):
            slot, stripe = self._slots.get(job.what), self._stripes.get(job.what)
            if slot is not None and job.node:
                self._start_copy(job, slot)
            elif slot is not None:
                self._start_fetch(job, slot)
            elif stripe is not None:
                self._start_rebuild(job, stripe)

    def _start_copy(self, job: Job, slot: Slot) -> None:
        key, node = job
        claims = slot.hand(node)
        if not slot.here or node not in self._lives:
            return
        cost = 0 if slot.seen.get(node) in THERE else slot.size
        self._repairs.began(job, cost, self.now)
        self._handing[job] = (self._round, claims)
        self.out.append(io.SendCopy(node, key, slot.size, claims))

    def _start_fetch(self, job: Job, slot: Slot) -> None:
        have = [(0, node) for node, state in slot.seen.items() if state in THERE]
        if slot.here or not have:
            return
        key = slot.key
        piece = io.Piece(0, self._me, key, tuple(islice(slot.claims, CLAIMS_PER_HOLD)))
        self._begin_rebuild(job, io.Rebuild(key, 1, 0, slot.size, (key,), have, [piece]), slot.size)

    def _start_rebuild(self, job: Job, stripe: Stripe) -> None:
        plan = stripe.plan(self._me, self.here, self._placement)
        names = self._live(stripe.claims)[:CLAIMS_PER_HOLD]
        spots = plan.missing or plan.untold
        if not spots or not names or len(plan.there) < stripe.k:
            return
        k, m, keys = stripe.k, stripe.m, stripe.keys
        pieces = []
        for index, node in spots:
            claims = tuple([Claim(*name, Shard(k, m, index, keys)) for name in names])
            pieces.append(io.Piece(index, node, keys[index], claims))
        effect = io.Rebuild(job.what, k, m, stripe.size, keys, plan.there, pieces)
        self._begin_rebuild(job, effect, (k + len(spots)) * stripe.size if plan.missing else 0)

    def _begin_rebuild(self, job: Job, effect: io.Rebuild, cost: int) -> None:
        self._repairs.began(job, cost, self.now)
        self._pieces[job.what] = (self._round, effect)
        self.out.append(effect)

    def copy_ended(self, event: io.CopyEnded) -> None:
        job, slot = Job(event.key, event.node), self._slots.get(event.key)
        round, claims = self._handing.pop(job, (0, []))
        moved = slot.size if slot is not None and event.state == KEPT else 0
        if not self._repairs.ended(job, moved) or slot is None:
            return
        state = _HELD.get(event.state, 0)
        if event.state == BAD:
            self._scrub.urge(event.key, self.now)
        if round == self._round == slot.round:
            slot.seen[event.node] = state
            if state == OFFERED_SPARE and claims == slot.hand(event.node):
                slot.took(event.node, len(claims))
        self._look_after(event.key, state, slot)

    def rebuild_ended(self, event: io.RebuildEnded) -> None:
        what = event.what
        slot, stripe = self._slots.get(what), self._stripes.get(what)
        round, effect = self._pieces.pop(what, (0, None))
        if effect is None:
            return
        states = [_HELD.get(state, 0) for state in event.states]
        kept = sum(state == KEPT for state in event.states)
        self._repairs.ended(Job(what, 0), kept and (effect.k + kept) * effect.size)
        if stripe is not None:
            if round == self._round == stripe.round:
                for piece, state in zip(effect.missing, states, strict=False):
                    stripe.seen[piece.index, piece.node] = state
                    if state == OFFERED_SPARE:
                        stripe.told |= 1 << piece.index
            if BAD in event.states:  # what was fetched was checked, what is held here was not
                for key in filter(self.here, stripe.keys):
                    self._scrub.urge(key, self.now)
            self._look_after(what, max(states, default=0), stripe)
        elif slot is not None and not slot.here:
            self._look_after(what, 0, slot)

    def _look_after(self, what: bytes, state: int, about: Slot | Stripe) -> None:
        """A job is over: what it has done is asked for soon, and what it has not later."""
        done = state == OFFERED_SPARE
        about.tries = 0 if done else about.tries
        soon = done or state == OFFERED_FULL
        self._unsettle(what, self.now + (STEP_MS if soon else RETRY_MS))


def _spread(slot: Slot) -> int:
    """How many losses the stripes of a chunk stand, if it lies nowhere whole by intention."""
    return min([c.place.m if isinstance(c.place, Shard) else 0 for c in slot.claims])
