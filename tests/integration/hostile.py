"""Peers that do not behave: bytes of their own making over plain sockets.

Owns how a bad peer speaks. Refuses to know what a node should make of it: that is for the tests.
Frames are made by the description of the protocol that is written from its document alone.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.integration.meshes import PATIENCE_S
from tests.vectors import protocol
from velum.errors import code_of

HEALTH = {
    "cpu": 0,
    "slots": 1,
    "cores": 2,
    "flags": 0,
    "queue": 0,
    "running": 0,
    "free_mib": 1000,
    "speed": 250_000,
    "ram_mib": 0,
    "ram_free_mib": 0,
}


def hello(role: int = protocol.CLIENT, id: int = 0, port: int = 0, **fields: Any) -> bytes:
    """A HELLO as it should be, unless fields say otherwise."""
    right = {
        "role": role,
        "slots": 0,
        "id": id,
        "features": 0,
        "incarnation": 0,
        "ip": 0,
        "port": port,
        "version": "hostile",
        "key": b"",
    }
    return protocol.build("HELLO", 0, **{**right, **fields})


def record(id: int, port: int, incarnation: int, state: int = protocol.ALIVE) -> dict[str, Any]:
    """A record of a member at 127.0.0.1."""
    return {
        "id": id,
        "state": state,
        "role": protocol.NODE,
        "incarnation": incarnation,
        "ip": 0x7F000001,
        "port": port,
        "from_": 0,
    }


def call(correlation: int, a: int, b: int, placed: bool = False) -> bytes:
    """A CALL of add."""
    values = [{"type": protocol.I64, "bits": n & (1 << 64) - 1} for n in (a, b)]
    fields = {"flags": int(placed), "timeout_ms": 0, "name": "add", "args": values}
    return protocol.build("CALL", correlation, **fields)


def calls(count: int, placed: bool = False) -> bytes:
    """CALLs of 20 + 1 with correlations from 1."""
    frame = call(0, 20, 1, placed)
    return b"".join(frame[:8] + n.to_bytes(8, "little") + frame[16:] for n in range(1, count + 1))


def task(correlation: int, hash: bytes, placed: bool = False) -> bytes:
    """A TASK of a module that the receiver has to ask for."""
    fields = {"flags": int(placed), "timeout_ms": 0, "fuel": 0, "pages": 0, "hash": hash}
    return protocol.build("TASK", correlation, **fields, name="run", args=[])


def vectors(group: str) -> dict[str, bytes]:
    """The golden frames of one file, by name."""
    lines = (Path(protocol.__file__).parent / f"{group}.txt").read_text("ascii").splitlines()
    pairs = (line.split() for line in lines if line)
    return {name: bytes.fromhex(frame) for name, frame in pairs}


_FILE_SAMPLES = {"ENTRY": "example_entry", "HELD": "held_3", "VERSION": "version_here"}


_KV_SAMPLES = {"KV_ASK": "kv_ask_root", "KV_SUMS": "kv_sums_root"}


def file_samples() -> dict[str, bytes]:
    """One right frame of every type of files."""
    known = vectors("chunks") | vectors("names")
    known |= {"release": known["release_this"]}
    return {name: known[_FILE_SAMPLES.get(name, name.lower())] for name in protocol.FILE_FRAMES}


def kv_samples() -> dict[str, bytes]:
    """One right frame of every type of the key-value state."""
    known = vectors("kv")
    return {name: known[_KV_SAMPLES.get(name, name.lower())] for name in protocol.KV_FRAMES}


def samples() -> dict[str, bytes]:
    """One right frame of every type."""
    jobs = vectors("jobs")
    hash = bytes(range(32))
    value = {"type": protocol.I64, "bits": 30}
    sync = {"members": [{"record": record(77, 9, 5), "health": HEALTH}]}
    updates = {"updates": [record(77, 9, 5)]}
    ids = {"sender": 77, "target": 1}
    return {
        **file_samples(),
        **kv_samples(),
        "HELLO": hello(),
        "BYE": protocol.build("BYE", 0, code=0, text=""),
        "PING": protocol.build("PING", 7),
        "PONG": protocol.build("PONG", 7),
        "CALL": call(7, 10, 20),
        "TASK": task(7, hash),
        "RESULT": protocol.build("RESULT", 7, node=2, run_us=1, health=HEALTH, values_=[value]),
        "ERROR": protocol.build("ERROR", 7, code=60, node=2, deaths=1, text="no"),
        "PROGRESS": protocol.build("PROGRESS", 7, done=1, total=2),
        "CANCEL": protocol.build("CANCEL", 7, code=protocol.CANCELLED),
        "SCATTER": jobs["scatter"],
        "LEASE": jobs["lease"],
        "SLICES": jobs["example_slices"],
        "TRIM": jobs["trim"],
        "JOB": jobs["job"],
        "JOB_ASK": jobs["job_ask_cancel"],
        "MODULE_WANT": protocol.build("MODULE_WANT", 7, hash=hash, offset=0),
        "MODULE": protocol.build("MODULE", 7, hash=hash, total=4, offset=0, bytes=b"\0asm"),
        "SYNC": protocol.build("SYNC", 7, **sync),
        "SYNC_REPLY": protocol.build("SYNC_REPLY", 7, **sync),
        "HEALTH": protocol.build("HEALTH", 0, **HEALTH),
        "QUERY": protocol.build("QUERY", 7, topic="status"),
        "ANSWER": protocol.build("ANSWER", 7, json=b"{}"),
        "PROBE": protocol.build("PROBE", 7, **ids, suspected=0, health=HEALTH, **updates),
        "ACK": protocol.build("ACK", 7, **ids, incarnation=5, health=HEALTH, **updates),
        "PROBE_REQUEST": protocol.build(
            "PROBE_REQUEST", 7, **ids, ip=0x7F000001, port=9, **updates
        ),
        "NACK": protocol.build("NACK", 7, **ids),
        "GOSSIP": protocol.build("GOSSIP", 0, sender=77, **updates),
        "BEACON": protocol.build(
            "BEACON", 0, sender=0, role=protocol.CLIENT, flags=1, ip=0, port=0, incarnation=0
        ),
    }


def mutated(frame: bytes, rng: random.Random) -> bytes:
    """A frame with some bytes changed, and at times cut or made longer."""
    data = bytearray(frame)
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    if rng.random() < 0.2:
        del data[rng.randrange(len(data)) :]
    if rng.random() < 0.2:
        data += rng.randbytes(rng.randint(1, 64))
    return bytes(data)


class Peer:
    """A connection to a node. Nothing is read until it is asked for."""

    def __init__(self, port: int, said: bytes = b"", receive_bytes: int | None = None) -> None:
        """Connects and says something; `receive_bytes` makes the buffer for what comes small."""
        self.socket = socket.socket()
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.connect(("127.0.0.1", port))
        self.socket.settimeout(PATIENCE_S)
        self._unread = b""
        self._begin = 0  # of the first frame in it that was not handed out
        if said:
            self.send(said)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Sends all of it, unless the node has closed."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def end(self) -> None:
        """Says that no more comes: a node need not wait for the rest of a frame."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def send_what_fits(self, data: bytes, seconds: float) -> int:
        """Sends as much as the node takes before nothing has moved for so long; the bytes sent."""
        self.socket.setblocking(False)
        sent = 0
        while sent < len(data):
            if not select.select([], [self.socket], [], seconds)[1]:
                break
            try:
                sent += self.socket.send(data[sent : sent + (1 << 16)])
            except ConnectionError:
                break
        self.socket.settimeout(PATIENCE_S)
        return sent

    def frames(self) -> Iterator[protocol.Message]:
        """What the node says, until it closes the connection."""
        for frame in self.raw_frames():
            yield protocol.parse(frame)

    def raw_frames(self) -> Iterator[bytes]:
        """The same, unread but for the length."""
        while True:
            while (end := self._end_of_frame(self._begin)) is not None:
                begin, self._begin = self._begin, end
                yield self._unread[begin:end]
            self._unread, self._begin = self._unread[self._begin :], 0
            try:
                data = self.socket.recv(1 << 18)
            except ConnectionError:
                return
            if not data:
                return
            self._unread += data

    def _end_of_frame(self, begin: int) -> int | None:
        data = self._unread
        if len(data) < begin + protocol.HEADER_BYTES:
            return None
        size = int.from_bytes(data[begin + 4 : begin + 8], "little")
        end = begin + protocol.HEADER_BYTES + size
        return end if end <= len(data) else None

    def until(self, name: str) -> protocol.Message:
        """The next frame of a type."""
        for frame in self.frames():
            if frame.name == name:
                return frame
        raise AssertionError(f"the node closed without {name}")

    def is_closed_for(self, *names: str) -> bool:
        """Whether the node ends the connection with a BYE of one of these errors; a connection that
        is reset has lost its BYE, and counts."""
        codes = {code_of(name) for name in names}
        said = [frame for frame in self.frames() if frame.name == "BYE"]
        return not said or said[-1].fields["code"] in codes

    def is_closed(self, within: float = PATIENCE_S) -> bool:
        """Whether the node ends the connection in time, whatever it says before."""
        self.socket.settimeout(within)
        try:
            for _ in self.frames():
                pass
        except TimeoutError:
            return False
        return True


def connect_many(port: int, count: int, said: bytes = b"") -> list[Peer]:
    """So many connections, each of which says the same."""
    return [Peer(port, said) for _ in range(count)]


def close_all(peers: Sequence[Peer]) -> None:
    """Ends them all."""
    for peer in peers:
        peer.socket.close()


def drip(peer: Peer, data: bytes, seconds: float) -> None:
    """Sends byte by byte, spread over some time."""
    for i in range(len(data)):
        peer.send(data[i : i + 1])
        time.sleep(seconds / len(data))
