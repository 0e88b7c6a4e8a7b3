"""Anti-entropy of the shared state: who pulls from whom and when, and what follows from it.

Owns: peers and their links, sessions of both roles, and when tombstones are tended. Refuses to
know: sockets, frames, keys, records, how a tree is gone down (`kvpull.py`), which tombstones may go
(`kvmarks.py`), who is a member (`kvroster.py`).

A link is of use once both ends have said hello and both were welcomed. Then each end pushes what is
written there, and pulls what the other has: a *session*, from one node's view; the other end pulls
in sessions of its own.

    this node, pulling               the peer
    Begin session               ->
                                <-   Began: its closed mark, its roster's digest, 16 sums
    AskSums, again and again    ->   (answered by the core)
    AskLeaves, again and again  ->   (answered by the core, with records, then their end)
    SyncLog, here
    Pulled: that mark           ->   counts, if the rosters are equal still
    (all of then settled here)
    Settled: that mark          ->   counts

So what the peer had when it said Began is here at the end: each of its sums was compared at that
moment or later, and what it had is never less than before but for what is settled, which is here.
Whoever waits at the peer for a majority that has what it wrote until then may count this node.

    a session                                             begins
    with a peer whose link has just become of use         at once
    with a peer that says that it missed to push          at once, MISSED_MS after the last began
    with a peer whose last one was given up               RETRY_MS after that began
    with any peer, drawn at random                        every SYNC_MS

One session with a peer at a time, PULLS_MAX in all; others wait their turn. One that has no sign of
the peer for SILENCE_MS, whose link closes, of which something was refused, or that hears what was
not asked for, is given up: what came of it is merged, and the next one begins where trees differ
then. Nothing else depends on it.

A peer that starts anew comes with another life: what it had told of its marks is over, and so is
what was known of its tree. Rosters are told when a link becomes of use and at each change, so that
all agree soon.
"""

from __future__ import annotations

import random
from typing import Final

from . import kvsync_io as io
from . import kvtalk as talk
from .agenda import Agenda
from .kvmarks import Marks
from .kvpull import LEVELS, Known, Pull
from .kvroster import Meeting, Member, Roster

SYNC_MS: Final = 1500  # a push that nobody has missed knowingly is repaired in a few of these
MISSED_MS: Final = 250  # a peer that misses pushes all the time is not pulled from all the time
RETRY_MS: Final = 1000  # after one that failed: a store that is full is so for a while
SILENCE_MS: Final = 10_000  # a batch of large values over a slow link takes some seconds
PULLS_MAX: Final = 8  # answers of all these may wait in memory at once
SESSION_MAX: Final = (1 << 32) - 1

_SYNC, _SILENT, _WAIT = range(3)


class _Peer:
    __slots__ = (
        "began", "join", "known", "life", "member", "next_ms", "offered", "pull", "session", "told",
        "voted",
    )  # fmt: skip

    def __init__(self) -> None:
        self.member: Member | None = None  # that it has said to be, and was welcomed as
        self.life = 0
        self.join = False  # it has welcomed us too
        self.known = Known()
        self.session = 0  # that is under way, 0: none
        self.pull: Pull | None = None  # once it has begun
        self.began: talk.Began | None = None
        self.next_ms = 0  # not before
        self.voted = 0  # the digest of the roster under which it began
        self.offered = 0  # the mark that it was told when it last began to pull from here


class Sync:
    """See above. `now` is a monotonic clock, milliseconds, never smaller than before."""

    def __init__(
        self, roster: Roster, store: io.Store, life: int, rng: random.Random, now: int
    ) -> None:
        self.roster = roster
        self._store = store
        self._life = life
        self._rng = rng
        self._marks = Marks(now)
        self._peers: dict[int, _Peer] = {}
        self._lives: dict[int, tuple[int, Known]] = {}  # of peers, also without a link
        self._wanted: dict[int, None] = {}  # peers to pull from, in turn
        self._confirmed: set[Member] = set()
        self._session = 0
        self._targets = (0, 0)
        self._agenda = Agenda()
        self._effects: list[io.Effect] = []
        self._now = now
        self.sessions = 0  # that were complete
        self.records = 0  # that came in them
        store.mark(self._marks.mark)
        self._agenda.set((_SYNC, 0), now + rng.randrange(SYNC_MS))

    # ---- the face ----

    @property
    def joined(self) -> list[int]:
        """The peers whose links are of use."""
        return [node for node, peer in self._peers.items() if peer.join and peer.member]

    @property
    def pulling(self) -> int:
        """Sessions under way."""
        return sum(peer.session != 0 for peer in self._peers.values())

    def next_deadline(self) -> int | None:
        """When `TimePassed` is due."""
        return self._agenda.next()

    def handle(self, event: io.Event, now: int) -> list[io.Effect]:
        """What is to be done about an event."""
        self._now = now
        match event:
            case io.LinkOpened(node):
                self._opened(node)
            case io.LinkClosed(node):
                self._closed(node)
            case io.Heard(node, message):
                if node in self._peers:
                    self._heard(node, self._peers[node], message)
            case io.SumsHeard(node, session, level, sums):
                peer = self._pulling(node, session)
                if peer is not None and peer.pull is not None:
                    self._go_on(node, peer, peer.pull.heard_sums(level, sums))
            case io.LeavesEnded(node, session, records, whole):
                peer = self._pulling(node, session)
                if peer is not None and peer.pull is not None:
                    self.records += records
                    self._go_on(node, peer, peer.pull.heard_leaves(records) and whole)
            case io.Progressed(node):
                if node in self._peers and self._peers[node].session:
                    self._sign(node)
            case io.Synced(node, session, well):
                peer = self._pulling(node, session)
                if peer is not None:
                    self._synced(node, peer, well)
            case io.PushMissed(node):
                if node in self.joined:
                    self._talk(node, talk.Missed())
            case io.Tended(settled_to):
                self._marks.walked(settled_to)
                self._say_settled()
            case io.ForgetAsked(node):
                if self.roster.forget(node):
                    self._roster_changed()
            case io.TimePassed():
                self._time_passed()
        self._begin_wanted()
        self._tend()
        effects, self._effects = self._effects, []
        return effects

    def _talk(self, node: int, message: talk.Message) -> None:
        self._effects.append(io.Talk(node, message))

    # ---- links ----

    def _opened(self, node: int) -> None:
        self._closed(node)
        self._peers[node] = _Peer()
        self._talk(node, talk.Hello(self.roster.me.store, self._life))

    def _closed(self, node: int) -> None:
        self._peers.pop(node, None)
        self._wanted.pop(node, None)
        self._agenda.cancel((_SILENT, node))
        self._agenda.cancel((_WAIT, node))

    def _heard(self, node: int, peer: _Peer, message: talk.Message) -> None:
        match message:
            case talk.Hello(store, life):
                self._hello(node, peer, Member(node, store), life)
            case talk.Forgotten():
                self._part(node, ours=True)
            case talk.Welcome():
                if not peer.join:
                    peer.join = True
                    self._use(node, peer)
            case _ if peer.member is None or not peer.join:
                return  # it has not said who it is, or not welcomed us
            case talk.Told(members, forgotten):
                if self.roster.merge(members, forgotten):
                    self._roster_changed()
            case talk.Begin(session):
                self._begin(node, peer, session)
            case talk.Began():
                self._began(node, peer, message)
            case talk.Pulled(life, mark, digest):
                if life == self._life:
                    self._pulled(node, peer, mark, digest)
            case talk.Settled(life, mark):
                if life == self._life:
                    self._marks.settled(peer.member, mark)
            case talk.Missed():
                self._wanted[node] = None

    def _hello(self, node: int, peer: _Peer, member: Member, life: int) -> None:
        if peer.member is not None:
            return  # once is enough
        if self.roster.is_out:
            self._part(node, ours=True)
            return
        meeting = self.roster.met(member)
        if meeting is Meeting.REFUSED:
            self._talk(node, talk.Forgotten())
            self._part(node, ours=False)
            return
        if meeting is Meeting.NEW:
            self._roster_changed()
        held = self._lives.get(node)
        if held is None or held[0] != life:
            held = self._lives[node] = (life, Known())
        peer.member = member
        peer.life, peer.known = held
        self._talk(node, talk.Welcome())
        self._use(node, peer)

    def _use(self, node: int, peer: _Peer) -> None:
        """Both ends have said hello, and are welcome, perhaps."""
        if peer.member is None or not peer.join:
            return
        self._effects.append(io.Join(node))
        self._tell_roster(node)
        self._wanted[node] = None

    def _part(self, node: int, *, ours: bool) -> None:
        self._closed(node)
        self._effects.append(io.Part(node, ours))

    # ---- members ----

    def _tell_roster(self, node: int) -> None:
        members, forgotten = self.roster.members, self.roster.forgotten
        self._talk(node, talk.Told(tuple(sorted(members)), tuple(sorted(forgotten))))

    def _roster_changed(self) -> None:
        """It is on disk before anything is said to anybody who is new in it."""
        self._effects.append(io.SaveMembers())
        self._confirmed.clear()
        self._marks.keep(self.roster.others)
        here = {member.id for member in self.roster.members}
        self._lives = {node: held for node, held in self._lives.items() if node in here}
        for node in list(self._peers):
            peer = self._peers[node]
            if self.roster.is_out:
                self._part(node, ours=True)
            elif peer.member is not None and peer.member not in self.roster.members:
                self._talk(node, talk.Forgotten())
                self._part(node, ours=False)
        for node in self.joined:
            self._tell_roster(node)

    def _confirm(self, member: Member) -> None:
        """A pull that began under this roster, as the other's, is complete."""
        self._confirmed.add(member)
        if self._confirmed >= self.roster.others and self.roster.confirm():
            self._effects.append(io.SaveMembers())

    # ---- sessions: who is pulled from ----

    def _begin(self, node: int, peer: _Peer, session: int) -> None:
        peer.offered = mark = self._marks.close(self._now)
        self._effects.append(io.Offer(node))
        self._store.mark(self._marks.mark)
        sums = tuple(self._store.sums(0, 0))
        self._talk(node, talk.Began(session, mark, self.roster.digest, sums))

    def _pulled(self, node: int, peer: _Peer, mark: int, digest: int) -> None:
        assert peer.member is not None
        if mark == peer.offered != 0:
            self._effects.append(io.Credit(node))
        if digest == self.roster.digest:
            self._marks.pulled(peer.member, mark)

    # ---- sessions: who pulls ----

    def _begin_wanted(self) -> None:
        under_way = self.pulling
        for node in list(self._wanted):
            peer = self._peers[node]
            if under_way >= PULLS_MAX:
                return
            if peer.session:
                continue
            if self._now < peer.next_ms:
                self._agenda.set((_WAIT, node), peer.next_ms)
                continue
            del self._wanted[node]
            self._session = self._session % SESSION_MAX + 1
            peer.session, peer.next_ms = self._session, self._now + MISSED_MS
            under_way += 1
            self._sign(node)
            self._talk(node, talk.Begin(peer.session))

    def _pulling(self, node: int, session: int) -> _Peer | None:
        peer = self._peers.get(node)
        return peer if peer is not None and session and peer.session == session else None

    def _sign(self, node: int) -> None:
        self._agenda.set((_SILENT, node), self._now + SILENCE_MS)

    def _began(self, node: int, peer: _Peer, began: talk.Began) -> None:
        if peer.session != began.session or peer.pull is not None:
            return
        peer.began = began
        peer.voted = self.roster.digest
        peer.pull = Pull(self._store, peer.known)
        peer.pull.heard_root(began.sums)
        self._go_on(node, peer, True)

    def _go_on(self, node: int, peer: _Peer, well: bool) -> None:
        assert peer.pull is not None
        if not well:
            self._give_up(node, peer)
            return
        self._sign(node)
        asked = peer.pull.next()
        if asked is None:
            self._effects.append(io.SyncLog(node, peer.session))
        elif asked[0] == LEVELS:
            self._effects.append(io.AskLeaves(node, peer.session, asked[1]))
        else:
            self._effects.append(io.AskSums(node, peer.session, *asked))

    def _synced(self, node: int, peer: _Peer, well: bool) -> None:
        began, pull = peer.began, peer.pull
        if not well or began is None or pull is None or peer.member is None:
            self._give_up(node, peer)
            return
        pull.complete()
        self.sessions += 1
        self._talk(node, talk.Pulled(peer.life, began.mark, self.roster.digest))
        self._marks.complete(peer.member, peer.life, began.mark)
        if began.digest == peer.voted == self.roster.digest:
            self._confirm(peer.member)
        self._end(node, peer)
        self._say_settled()

    def _give_up(self, node: int, peer: _Peer) -> None:
        """The session has failed."""
        peer.next_ms += RETRY_MS - MISSED_MS
        self._wanted[node] = None
        self._end(node, peer)

    def _end(self, node: int, peer: _Peer) -> None:
        peer.session, peer.pull, peer.began = 0, None, None
        self._agenda.cancel((_SILENT, node))

    # ---- time, tombstones ----

    def _time_passed(self) -> None:
        while (key := self._agenda.pop(self._now)) is not None:
            kind, node = key
            if kind == _SILENT:
                self._give_up(node, self._peers[node])
            if kind != _SYNC:
                continue
            joined = self.joined
            if joined:
                self._wanted[self._rng.choice(joined)] = None
            self._marks.close(self._now)
            self._store.mark(self._marks.mark)
            self._agenda.set((_SYNC, 0), self._now + SYNC_MS)

    def _say_settled(self) -> None:
        for node in self.joined:
            peer = self._peers[node]
            assert peer.member is not None
            mark = self._marks.to_say(peer.member, peer.life)
            if mark is not None:
                self._talk(node, talk.Settled(peer.life, mark))

    def _tend(self) -> None:
        others = self.roster.others
        targets = (self._marks.settle_to(others), self._marks.drop_to(others))
        if targets[0] and targets != self._targets and not self.roster.is_out:
            self._targets = targets
            self._effects.append(io.Tend(*targets))

    def validate(self) -> None:
        """Raises AssertionError if an invariant does not hold."""
        assert self.pulling <= PULLS_MAX
        assert self._wanted.keys() <= self._peers.keys()
        for node, peer in self._peers.items():
            assert not peer.session or (_SILENT, node) in self._agenda, "it waits for ever"
            assert peer.member is None or peer.member in self.roster.members
            assert not (peer.pull and not peer.session)
        settle, drop = self._targets
        assert 0 <= settle < self._marks.mark and 0 <= drop < self._marks.mark
