"""The membership service: joins the policy to sockets.

Owns the node's datagram sockets, its links to other members, who is let in, and beacons. Refuses
to decide: who is alive, suspect or dead is `policy/membership.py`'s word. Works by turning what the
hub reports into the policy's events and performing the effects it returns; tells the compute
service who can be sent work.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from velum import _core, addresses, frames
from velum.addresses import Address
from velum.errors import JoinRefused, code_of, error_from
from velum.health import Gauge
from velum.policy import membership_io as io
from velum.policy import types
from velum.policy.membership import Config, Membership
from velum.runtime import Runtime, now_ms

log = logging.getLogger("velum.members")

HEALTH_MS = 1000  # between two looks at this machine


@dataclass(slots=True)
class Peer:
    """An open link: who is at its other end. `id` is 0 for a client."""

    link: int
    role: int
    id: int
    address: Address
    told: Sequence[int] = ()  # the health that its latest answer carried


@dataclass
class Watchers:
    """Who wants to know: set by the node before the start."""

    changed: Callable[[types.Member, int | None], None]
    healthy: Callable[[int, types.Health], None]  # fresh figures of a member, this node's too
    linked: Callable[[int, int], None]  # (member id, link): it can be sent to
    unlinked: Callable[[int, int], None]  # (link, member id or 0): a link of any peer closed
    unreachable: Callable[[int], None]  # a member could not be dialled
    load: Callable[[], tuple[int, int, int, int]]  # slots, queue, running, speed
    ram: Callable[[], tuple[int, int]]  # that this node gives to files, and has left of it, MiB
    failed: Callable[[BaseException], None]  # this node must stop


class Members:
    """The service. Everything runs in the loop's thread."""

    def __init__(
        self,
        runtime: Runtime,
        me: types.Update,
        watchers: Watchers,
        *,
        udp: int,
        beacon: tuple[Address, Address] | None,
        seeds: Iterable[Address],
    ) -> None:
        """`udp` is the hub's datagram socket on the node's port; `beacon` is where beacons are
        heard and where they are sent, None for no beacons."""
        self._runtime = runtime
        self._hub = runtime.hub
        self._watchers = watchers
        self._me = me
        self._seeds = tuple(seeds)
        self.policy = Membership(Config(beacons=beacon is not None), me, self._runtime.random)
        self._gauge = Gauge()
        self._leaving = False
        self._next_health = now_ms()
        self.health = self._measure()
        self.peers: dict[int, Peer] = {}
        self._by_id: dict[int, list[int]] = {}
        self._dials: dict[int, Address] = {}
        self._sync_on_open: set[Address] = set()
        self._udp = udp
        self._beacon_to: Address | None = None
        if beacon is not None:
            heard, self._beacon_to = beacon
            self._hub.udp(heard, shared=True)
        runtime.on_event(_core.DATAGRAM, self._on_datagram)
        runtime.on_frame(frames.SYNC, self._on_sync)
        runtime.on_frame(frames.SYNC_REPLY, self._on_sync_reply)
        runtime.services.append(self)

    def start(self) -> None:
        """Begins: beacons, seeds."""
        self._handle(io.Started(tuple(types.Address(*seed) for seed in self._seeds)))
        self._handle(io.HealthMeasured(self.health))

    # ---- timers ----

    def next_deadline(self) -> int | None:
        """The nearer of the policy's and the health's."""
        due = self.policy.next_deadline()
        return self._next_health if due is None else min(due, self._next_health)

    def on_time(self, now: int) -> None:
        """Looks at the machine once a second and gives the policy its time."""
        if now >= self._next_health:
            self._next_health = now + HEALTH_MS
            self.health = self._measure()
            self._hub.health(self.health)
            self._handle(io.HealthMeasured(self.health))
            self._watchers.healthy(self._me.id, self.health)
        self._handle(io.TimePassed())

    def _measure(self) -> types.Health:
        slots, queue, running, speed = self._watchers.load()
        ram_mib, ram_free_mib = self._watchers.ram()
        return self._gauge.sample(
            slots=slots,
            queue=queue,
            running=running,
            speed=speed,
            leaving=self._leaving,
            ram_mib=ram_mib,
            ram_free_mib=ram_free_mib,
        )

    # ---- asked by others ----

    def link_to(self, member: int) -> int:
        """An open link to a member; 0 when there is none yet: one is being made, and `linked` or
        `unreachable` will be called."""
        links = self._by_id.get(member)
        if links:
            return links[0]
        self._dial_member(member)
        return 0

    def leave(self) -> None:
        """Tells the mesh that this node goes, and says BYE on every link."""
        self._leaving = True
        self._handle(io.LeaveRequested())
        for peer in list(self.peers.values()):
            self._hub.drop(peer.link)

    def alive(self) -> set[int]:
        """Ids of the members that are neither suspect nor gone."""
        return {member.id for member in self.policy.members if member.state == types.ALIVE}

    def everyone(self) -> dict[int, types.Member]:
        """Every member known by id, this node included."""
        everyone = {member.id: member for member in self.policy.members}
        everyone[self._me.id] = types.Member(self.policy.me, self.health, 0, now_ms())
        return everyone

    # ---- links ----

    def on_opened(
        self, link: int, token: int, role: int, id: int, address: Address, source: Address
    ) -> bool:
        """A member or client said HELLO; False when it was turned away."""
        address = (address[0] or source[0], address[1])
        dialled = self._dials.pop(link, None)
        if role not in (types.NODE, types.LEAF, types.CLIENT):
            self._hub.drop(link, code_of("UNEXPECTED"), "a worker is started by its own node")
            return False
        if role != types.CLIENT and not self._admit(link, id, address):
            return False
        self._hub.accept(link)
        self.peers[link] = Peer(link, role, id, address)
        if role == types.CLIENT:
            return True
        self._by_id.setdefault(id, []).append(link)
        if dialled is not None and dialled in self._sync_on_open:
            self._sync_on_open.discard(dialled)
            self._hub.send_sync(link, 0, False, self.records())
        self._watchers.linked(id, link)
        return True

    def _admit(self, link: int, id: int, address: Address) -> bool:
        if id == self._me.id:
            if address == self._me.address:  # a seed list or a beacon led this node to itself
                self._hub.drop(link)
                return False
            holder: Address | None = self._me.address
        else:
            member = self.policy.holder(id, types.Address(*address))
            holder = None if member is None else member.update.address
        if holder is None:
            return True
        text = (
            f"node id {id} is already in use by the node at {addresses.address_text(holder)}; "
            "start this one with another id"
        )
        log.warning("refused %s: %s", addresses.address_text(address), text)
        self._hub.drop(link, code_of("DUPLICATE_ID"), text)
        return False

    def cut(self, link: int, code: int, text: str) -> None:
        """Ends a link for what its peer does, unless it has ended already."""
        if link in self.peers:
            log.warning(
                "cut the link to %s: %s", addresses.address_text(self.peers[link].address), text
            )
            self._hub.drop(link, code, text)
            self.on_closed(link, code, text)

    def on_closed(self, link: int, code: int, text: str) -> None:
        """A link that is not a worker's closed."""
        address = self._dials.pop(link, None)
        peer = self.peers.pop(link, None)
        if peer is None:
            if address is not None:
                self._dial_failed(address, code, text)
            return
        self._watchers.unlinked(link, peer.id)
        if peer.role == types.CLIENT:
            return
        links = self._by_id[peer.id]
        links.remove(link)
        if links:
            return
        del self._by_id[peer.id]
        if code == code_of("LEAVING"):
            self._handle(io.ByeReceived(peer.id))
        else:
            log.info("link to node %d closed: %s", peer.id, text or error_from(code))
            self._handle(io.LinkClosed(peer.id, False))

    def _dial_failed(self, address: Address, code: int, text: str) -> None:
        self._sync_on_open.discard(address)
        if code == code_of("DUPLICATE_ID") and not self.policy.joined:
            self._watchers.failed(JoinRefused(code, text))
            return
        refused = code == code_of("REFUSED")
        self._handle(io.DialFailed(types.Address(*address), refused))
        for member in self._at(address):
            if code != code_of("CAPACITY"):  # it has no link to spare, but it lives
                self._handle(io.LinkClosed(member, refused))
            self._watchers.unreachable(member)

    def _at(self, address: Address) -> list[int]:
        return [
            member.id
            for member in self.policy.members
            if member.address == address and member.id != self._me.id
        ]

    def _dial_member(self, member: int) -> None:
        known = self.policy.member(member)
        if known is None or not self._dial(known.update.address):
            self._runtime.call_soon(self._watchers.unreachable, member)

    def _dial(self, address: Address) -> bool:
        if address in self._dials.values():
            return True
        try:
            self._dials[self._hub.dial(address)] = address
        except _core.CoreError as error:
            log.warning("cannot dial %s: %s", addresses.address_text(address), error)
            return False
        return True

    # ---- events of the hub ----

    def _on_datagram(self, _socket: int, source: Address, fields: tuple[Any, ...]) -> None:
        message = types.Datagram(*fields)
        message = message._replace(
            address=types.Address(*message.address),
            health=types.Health(*message.health),
            updates=tuple(types.Update(*u) for u in fields[9]),
        )
        self._handle(io.DatagramArrived(message, types.Address(*source)))

    def _on_sync(self, link: int, correlation: int, body: list[Any]) -> None:
        self._synced(link, body)
        self._hub.send_sync(link, correlation, True, self.records())

    def _on_sync_reply(self, link: int, _correlation: int, body: list[Any]) -> None:
        self._synced(link, body)

    def _synced(self, link: int, body: list[Any]) -> None:
        if link in self.peers and self.peers[link].role != types.CLIENT:
            self._handle(
                io.SyncArrived(tuple((types.Update(*u), types.Health(*h)) for u, h in body))
            )

    def records(self) -> Iterable[tuple[types.Update, types.Health]]:
        """The full state, this node first."""
        return self.policy.sync_records()

    # ---- effects of the policy ----

    def _handle(self, event: Any) -> None:
        for effect in self.policy.handle(event, now_ms()):
            self._perform[type(effect)](self, effect)

    def _send_datagram(self, effect: io.SendDatagram) -> None:
        self._hub.udp_send(self._udp, effect.to, effect.message)

    def _beacon(self, to: Address, ask: bool) -> None:
        beacon = types.Datagram(
            type=types.BEACON,
            sequence=0,
            sender=self._me.id,
            target=0,
            incarnation=self.policy.me.incarnation,
            address=self._me.address,
            role=types.NODE,
            flags=int(ask),
            health=self.health,
            updates=(),
        )
        self._hub.udp_send(self._udp, to, beacon)

    def _broadcast_beacon(self, effect: io.BroadcastBeacon) -> None:
        if self._beacon_to is not None:
            self._beacon(self._beacon_to, effect.ask)

    def _answer_beacon(self, effect: io.AnswerBeacon) -> None:
        self._beacon(effect.to, False)

    def _exchange_state(self, effect: io.ExchangeState) -> None:
        for peer in self.peers.values():
            if peer.address == effect.with_ and peer.role != types.CLIENT:
                self._hub.send_sync(peer.link, 0, False, self.records())
                return
        if self._dial(effect.with_):
            self._sync_on_open.add(effect.with_)

    def _check_link(self, effect: io.CheckLink) -> None:
        if effect.id not in self._by_id:
            self._dial_member(effect.id)

    def _open_link(self, effect: io.OpenLink) -> None:
        if effect.id not in self._by_id:
            self._dial_member(effect.id)

    def _member_changed(self, effect: io.MemberChanged) -> None:
        self._watchers.changed(effect.member, effect.before)

    def _health_heard(self, effect: io.HealthHeard) -> None:
        self._watchers.healthy(effect.id, effect.health)

    def _id_conflict(self, effect: io.IdConflict) -> None:
        text = (
            f"node id {self._me.id} is also in use by the node at "
            f"{addresses.address_text(effect.address)}, which was there first"
        )
        self._watchers.failed(JoinRefused(code_of("DUPLICATE_ID"), text))

    _perform: dict[type, Callable[[Members, Any], None]] = {
        io.SendDatagram: _send_datagram,
        io.BroadcastBeacon: _broadcast_beacon,
        io.AnswerBeacon: _answer_beacon,
        io.ExchangeState: _exchange_state,
        io.CheckLink: _check_link,
        io.OpenLink: _open_link,
        io.MemberChanged: _member_changed,
        io.HealthHeard: _health_heard,
        io.IdConflict: _id_conflict,
    }
