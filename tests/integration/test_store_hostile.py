"""Files in RAM among peers that do not behave: files stay right, calls go on, nothing leaks.

Two nodes; node 1 is attacked over links for files, as a client and as a member that there is not,
while calls and reads of files go on. After each attack nothing is reserved any more, no socket is
left, and the node has thrown nothing.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

import velum
from tests.integration import hostile
from tests.integration.hostile import Peer
from tests.integration.meshes import PATIENCE_S, Processes, StartMesh, Stream, eventually, seeded
from tests.integration.stores import KIB, MIB, assert_reads, noise
from tests.vectors import protocol
from velum._core import chunk_key
from velum.client import Client
from velum.errors import FileDamaged, FileMissing, VelumError

CHUNK = 256 * KIB
GROWTH_MIB = 40
FILE_SOCKETS = 4  # that two nodes keep for a while to each other and themselves, when they need to
LIAR = 900
BULK = 1
SAMPLES = hostile.file_samples()
EXPECTED = {f"kept/{n}": random.Random(n).randbytes(n * CHUNK // 2 + 100) for n in range(8)}
KEYS = {name: chunk_key(data[:CHUNK]) for name, data in EXPECTED.items()}


@pytest.fixture(scope="module")
def two(shared_mesh: StartMesh) -> Processes:
    return shared_mesh(2, options=("--ram", "64M"))


@pytest.fixture(scope="module")
def client(two: Processes) -> Client:
    client = two.client(1)
    for name, data in EXPECTED.items():
        client.files.put(data, name, chunk_bytes=CHUNK)
    two.client(2).files.put(b"", "warm")
    return client


@pytest.fixture(scope="module")
def stream(client: Client) -> Iterator[Stream]:
    with Stream(client, at_once=4, pause=0.002) as stream:
        stream.more(100)
        yield stream


@pytest.fixture(autouse=True)
def unharmed(two: Processes, client: Client, stream: Stream) -> Iterator[None]:
    """What must hold after every test here."""
    process = psutil.Process(two.pid(1))
    before, sockets = two.rss_mib(1), process.num_fds()
    reserved = reserved_bytes(client)
    yield
    stream.more(40)
    assert_reads(client.files, EXPECTED)
    eventually(lambda: reserved_bytes(client) <= reserved, "nothing is reserved any more")
    eventually(lambda: process.num_fds() <= sockets + FILE_SOCKETS, "no socket is left")
    grown = two.rss_mib(1) - before
    assert grown < GROWTH_MIB, f"node 1 grew by {grown:.0f} MiB"
    assert two.is_whole()


def reserved_bytes(client: Client) -> int:
    """Of the node it is attached to, for chunks that arrive."""
    return int(client.status()["store"]["chunks"]["reserved"])


def attacker(two: Processes, role: int = protocol.CLIENT, **options: Any) -> Peer:
    """A link for files to node 1."""
    id = 0 if role == protocol.CLIENT else LIAR
    peer = Peer(two.port(1), hostile.hello(role=role, id=id, port=9, features=BULK), **options)
    peer.until("HELLO")
    return peer


def lives(peer: Peer) -> bool:
    """Whether the node answers still; else it has closed."""
    peer.send(protocol.build("PING", 99))
    peer.end()
    return any(frame.name == "PONG" and frame.correlation == 99 for frame in peer.frames())


def claim(copies: int = 2, **fields: Any) -> dict[str, Any]:
    """Why a chunk is to be held."""
    version = {"stamp": int(time.time() * 1000) << 16, "origin": 77}
    right = {"digest": chunk_key(b"hostile"), "version": version, "k": copies, "m": 0}
    return {**right, "shard": 0, "keys_": [], **fields}


def hold(correlation: int, data: bytes, **fields: Any) -> bytes:
    """A HOLD of a chunk."""
    right = {"key": chunk_key(data), "size": len(data), "claims": [claim()], "flags": 0}
    return protocol.build("HOLD", correlation, **{**right, **fields})


def part(correlation: int, data: bytes, offset: int, size: int, **fields: Any) -> bytes:
    """A CHUNK with some of its bytes."""
    right = {"key": chunk_key(data), "total": len(data), "offset": offset}
    right["bytes"] = data[offset : offset + size]
    return protocol.build("CHUNK", correlation, **{**right, **fields})


def entry(name: bytes | str, correlation: int = 5, **fields: Any) -> bytes:
    """An ENTRY of a small file, put now."""
    version = {"stamp": int(time.time() * 1000) << 16, "origin": 77}
    right = {"version": version, "kind": protocol.INLINE, "keepers": 3, "age_ms": 0, "size": 4}
    right |= {"awaited": [], "name": "?" * len(name), "body": b"evil"}
    frame = protocol.build("ENTRY", correlation, **{**right, **fields})
    raw = name if isinstance(name, bytes) else name.encode()
    return frame.replace(b"?" * len(name), raw) if len(raw) == len(name) else frame


# ---- chunks ----


def test_holds_and_no_chunk(two: Processes, client: Client) -> None:
    """Room is kept for them as long as they are there, and no longer."""
    rng = seeded("holds")
    with attacker(two) as peer:
        for n in range(1, 21):
            peer.send(hold(n, noise(rng, MIB)))
        said = [peer.until("HELD").fields["state"] for _ in range(20)]
        assert said == [protocol.HELD_SEND] * 20
        assert reserved_bytes(client) >= 20 * MIB
        client.files.put(EXPECTED["kept/7"], "beside", chunk_bytes=CHUNK)
    eventually(lambda: reserved_bytes(client) == 0, "what was reserved is free")


def test_more_is_held_than_there_is_room_for(two: Processes, client: Client) -> None:
    """Who asks for all of it is told when there is no more; others are told so too."""
    rng = seeded("greedy")
    with attacker(two) as peer:
        for n in range(1, 12):
            peer.send(hold(n, noise(rng, 8 * MIB)))
        said = [peer.until("HELD").fields["state"] for _ in range(11)]
        assert protocol.HELD_FULL in said and set(said) <= {protocol.HELD_SEND, protocol.HELD_FULL}
        assert_reads(client.files, EXPECTED)
    eventually(lambda: reserved_bytes(client) == 0, "what was reserved is free")
    client.files.put(EXPECTED["kept/6"], "beside", chunk_bytes=CHUNK)


@pytest.mark.parametrize("how", ["silence", "close", "cancel"])
def test_half_a_chunk(two: Processes, client: Client, stream: Stream, how: str) -> None:
    """In the middle of a part, and after one."""
    data = noise(seeded("half"), 3 * CHUNK)
    with attacker(two) as peer:
        peer.send(hold(7, data))
        assert peer.until("HELD").fields["state"] == protocol.HELD_SEND
        peer.send(part(7, data, 0, 100_000) + part(7, data, 100_000, 100_000)[:50_000])
        stream.more(100)
        if how == "cancel":
            peer.send(part(7, data, 100_000, 100_000)[50_000:])
            peer.send(protocol.build("CANCEL", 7, code=protocol.CANCELLED))
            eventually(lambda: reserved_bytes(client) == 0, "what was reserved is free")
            peer.send(hold(8, data))
            assert peer.until("HELD").fields["state"] == protocol.HELD_SEND
            peer.send(b"".join(part(8, data, n * CHUNK, CHUNK) for n in range(3)))
            assert peer.until("HELD").fields["state"] == protocol.HELD_KEPT
        elif how == "close":
            peer.end()
            assert peer.is_closed()
        else:
            assert reserved_bytes(client) == len(data)


def test_chunks_nobody_asked_for(two: Processes, client: Client) -> None:
    rng = seeded("unasked")
    before = client.status()["store"]["used"]
    with attacker(two) as peer:
        for n in range(1, 60):
            data = noise(rng, CHUNK)
            peer.send(part(n, data, 0, CHUNK))
            peer.send(part(n, data, CHUNK // 2, 100))
        assert lives(peer)
    assert client.status()["store"]["used"] == before


def test_a_chunk_that_is_another(two: Processes, client: Client) -> None:
    """Said to be one, of another hash; of another length; in other parts."""
    rng = seeded("wrong")
    data = noise(rng, CHUNK)
    wrong = bytes([data[0] ^ 1]) + data[1:]
    before = client.status()["store"]["used"]
    with attacker(two) as peer:
        peer.send(hold(7, data))
        assert peer.until("HELD").fields["state"] == protocol.HELD_SEND
        peer.send(part(7, data, 0, CHUNK, bytes=wrong))
        assert peer.until("HELD").fields["state"] == protocol.HELD_BAD
        kept = EXPECTED["kept/5"][:CHUNK]
        peer.send(hold(8, kept, size=CHUNK - 1))
        assert peer.until("HELD").fields["state"] == protocol.HELD_BAD
        peer.send(part(9, data, 0, CHUNK) + hold(9, data))  # too early
        assert peer.until("HELD").fields["state"] == protocol.HELD_SEND
        peer.send(part(9, data, 5, 100) + part(9, data, 0, 100, total=100))
        assert lives(peer)
    eventually(lambda: client.status()["store"]["used"] == before, "nothing is kept of it")


def test_a_flood_of_wants_from_one_that_does_not_read(two: Processes, stream: Stream) -> None:
    want = protocol.build("WANT", 0, key=KEYS["kept/5"])
    numbers = (n.to_bytes(8, "little") for n in range(1, 300_001))
    flood = b"".join(want[:8] + number + want[16:] for number in numbers)
    with attacker(two, receive_bytes=4096) as peer:
        sent = peer.send_what_fits(flood, 0.5)
        stream.more(200)
        print(f"{sent} of {len(flood)} bytes were taken")
        assert sent < len(flood), "it is not read for ever"


def test_wants_of_what_is_not_there(two: Processes) -> None:
    with attacker(two) as peer:
        peer.send(b"".join(protocol.build("WANT", n, key=bytes(32)) for n in range(1, 500)))
        for n in range(1, 500):
            said = peer.until("ERROR")
            assert said.correlation == n
            assert velum.errors.error_table()[said.fields["code"]][0] == "CHUNK_MISSING"


# ---- names ----


@pytest.mark.parametrize("name", ["a/b//c", "/", "ü/日本/🙂", "n" * 4096, "\0", " \n\t"])
def test_a_name_that_is_odd_and_right(two: Processes, client: Client, name: str) -> None:
    raw = name.encode()
    with attacker(two) as peer:
        peer.send(entry(raw))
        said = peer.until("VERSION")
        assert said.correlation == 5 and said.fields["what"] == protocol.KEPT
    assert client.files.get(name) == b"evil"
    assert name in [info.name for info in client.files.ls(name)]
    client.files.rm(name)
    assert not client.files.exists(name)


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\xc0\xaf", b"\xed\xa0\x80", b"", b"n" * 4097])
def test_a_name_that_is_wrong(two: Processes, client: Client, name: bytes) -> None:
    """No UTF-8, empty, too long: the link is closed with an error that says so."""
    frame = bytearray(entry(b"?" * len(name))) if 0 < len(name) <= 4096 else None
    if frame is None:
        right = entry(b"x")
        at = right.index(b"\1\0x")
        frame = bytearray(right[:at] + len(name).to_bytes(2, "little") + name + right[at + 3 :])
        frame[4:8] = (len(frame) - protocol.HEADER_BYTES).to_bytes(4, "little")
    else:
        at = bytes(frame).index(b"?" * len(name))
        frame[at : at + len(name)] = name
    before = len(list(client.files.ls()))
    with attacker(two) as peer:
        peer.send(bytes(frame))
        assert peer.is_closed_for("PAYLOAD", "NAME")
    assert len(list(client.files.ls())) == before


def test_versions_that_are_absurd(two: Processes, client: Client) -> None:
    """From a future that no clock is in: refused, and later puts win all the same."""
    client.files.put(b"right", "absurd")
    with attacker(two) as peer:
        for stamp in ((1 << 64) - 1, (int(time.time() * 1000) + 140 * 365 * 86_400_000) << 16):
            peer.send(entry(b"absurd", version={"stamp": stamp, "origin": (1 << 32) - 1}))
            said = peer.until("ERROR")
            assert velum.errors.error_table()[said.fields["code"]][0] == "VERSION_AHEAD"
        assert client.files.get("absurd") == b"right"
        years = (int(time.time() * 1000) + 100 * 365 * 86_400_000) << 16
        peer.send(entry(b"absurd", version={"stamp": years, "origin": 1}))
        assert peer.until("VERSION").fields["what"] == protocol.KEPT
    eventually(lambda: client.files.get("absurd") == b"evil")
    client.files.put(b"right again", "absurd")
    assert client.files.get("absurd") == b"right again"


def test_a_manifest_of_chunks_that_never_were(two: Processes, client: Client) -> None:
    """A clear error for who reads it; and it can be deleted."""
    keys = [chunk_key(b"%d" % n) for n in range(4)]
    body = {"chunk_bytes": 1000, "k": 2, "m": 0, "keys_": keys}
    with attacker(two) as peer:
        peer.send(entry(b"hollow", kind=protocol.MANIFEST, size=4000, body=body))
        assert peer.until("VERSION").fields["what"] == protocol.KEPT
        body |= {"k": 2, "m": 2}
        peer.send(entry(b"hollow/2", kind=protocol.MANIFEST, size=2000, body=body))
        assert peer.until("VERSION").fields["what"] == protocol.KEPT
    for name in ("hollow", "hollow/2"):
        with pytest.raises(FileDamaged, match="on no node"):
            client.files.get(name)
        assert client.files.stat(name, check=True).care == "damaged"
        client.files.rm(name)
        with pytest.raises(FileMissing):
            client.files.get(name)


# ---- any frame, from anybody ----


@pytest.mark.parametrize("role", [protocol.CLIENT, protocol.NODE, protocol.LEAF])
@pytest.mark.parametrize("name", list(SAMPLES))
def test_right_frames_that_nobody_waits_for(two: Processes, name: str, role: int) -> None:
    frame = SAMPLES[name]
    with attacker(two, role) as peer:
        for n in (0, 1, 2, 50, 1 << 62 | 1, (1 << 64) - 1):
            peer.send(frame[:8] + n.to_bytes(8, "little") + frame[16:])
        assert lives(peer) or name in ("ENTRY",)


@pytest.mark.parametrize("role", [protocol.CLIENT, protocol.NODE])
@pytest.mark.parametrize("name", list(SAMPLES))
def test_mutated_frames(two: Processes, name: str, role: int) -> None:
    rng = seeded(f"mutated {name} of role {role}")
    for _ in range(12):
        with attacker(two, role) as peer:
            for _ in range(4):
                peer.send(hostile.mutated(SAMPLES[name], rng))
            peer.end()


def test_a_flood_of_questions_from_one_that_does_not_read(two: Processes, stream: Stream) -> None:
    """Listings, offers and claims are long answers to short questions."""
    questions = [
        protocol.build("NAMES_ASK", 7, limit=200, prefix="", after=""),
        protocol.build("OFFER", 8, keys_=[bytes(32)] * 1024),
        SAMPLES["CLAIMS"],
        protocol.build("ENTRY_ASK", 9, how=protocol.ASK_ENTRY, digest=chunk_key(b"kept/7")),
    ]
    with attacker(two, receive_bytes=4096) as peer:
        sent = peer.send_what_fits(b"".join(questions) * 3000, 0.5)
        stream.more(200)
        print(f"{sent} bytes were taken; the slowest calls took {stream.slowest_s * 1000:.0f} ms")


# ---- a node of this program ----


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[velum.Node]]:
    """Three nodes of this program that hash every chunk again all the time."""
    monkeypatch.setattr("velum.policy.scrub.PASS_MS", 1000)
    monkeypatch.setattr("velum.policy.tending.LOOK_FIRST_MS", 200)
    monkeypatch.setattr("velum.policy.tending.RETRY_MS", 200)
    with contextlib.ExitStack() as stack:
        made: list[velum.Node] = []
        for id in (1, 2, 3):
            join = [node.address for node in made]
            node = velum.Node(id, 0, join=join, beacon=False, workers=0, ram=64 * MIB)
            made.append(stack.enter_context(node))
        eventually(lambda: all(knows_all(node) for node in made), "they know each other")
        yield made


def knows_all(node: velum.Node) -> bool:
    return sum(row.state == "alive" and row.ram_mib == 64 for row in node.nodes()) == 3


def test_answers_nobody_asked_for_do_not_count(nodes: list[velum.Node]) -> None:
    """Somebody says KEPT, HAVE and FAST under every number that a node could use."""
    port = int(nodes[0].address.rpartition(":")[2])
    stop = threading.Event()
    frames = [
        protocol.build("HELD", 0, state=protocol.HELD_KEPT, free_bytes=0),
        protocol.build("OFFERED", 0, states=[1]),
        protocol.build("CLAIMED", 0, states=[2]),
        protocol.build("VERSION", 0, what=protocol.KEPT, kind=2, version=claim()["version"]),
        protocol.build("ERROR", 0, code=60, node=2, deaths=0, text="no"),
    ]

    def lie() -> None:
        with Peer(port, hostile.hello(features=BULK)) as peer:
            peer.until("HELLO")
            while not stop.is_set():
                for n in range(1, 400):
                    for frame in frames:
                        peer.send(frame[:8] + n.to_bytes(8, "little") + frame[16:])

    liar = threading.Thread(target=lie)
    liar.start()
    try:
        rng = seeded("lies")
        expected = {f"{n}": noise(rng, 5 * CHUNK) for n in range(10)}
        for name, data in expected.items():
            nodes[0].files.put(data, name, chunk_bytes=CHUNK)
            assert nodes[0].files.stat(name, check=True).care == "whole"
    finally:
        stop.set()
        liar.join(PATIENCE_S)
    assert_reads(nodes[1].files, expected)


@pytest.mark.parametrize("coding", [{"copies": 2}, {"ec": (2, 1)}], ids=str)
def test_a_flipped_bit(nodes: list[velum.Node], coding: dict[str, Any]) -> None:
    """Who reads takes another copy, or makes the chunk from others; and it is made good."""
    rng = seeded("flipped")
    data = noise(rng, 12 * CHUNK)
    nodes[0].files.put(data, "flipped", chunk_bytes=CHUNK, **coding)
    keys = [chunk_key(data[at : at + CHUNK]) for at in range(0, len(data), CHUNK)]

    def flip(node: velum.Node, key: bytes) -> bool:
        return bool(node._in_loop(lambda: node._store.chunks.flip_bit(key)))

    flipped = sum(any(flip(node, key) for node in nodes) for key in keys[::2])
    assert flipped == len(keys) // 2
    for node in nodes:
        assert node.files.get("flipped") == data
        assert (
            node.files.get("flipped", offset=3 * CHUNK + 5, size=10) == data[3 * CHUNK + 5 :][:10]
        )

    def found(what: str) -> int:
        return sum(node.status()["store"]["chunks"][what] for node in nodes)

    took = eventually(lambda: found("bad") == flipped and not found("lost"), "all are made good")
    print(f"{flipped} bad chunks were found and replaced within {took:.1f} s")
    held = [verified(node, keys) for node in nodes]
    copies = coding.get("copies", 1)
    assert sum(map(len, held)) == copies * len(keys)
    assert all(all(right for right in rights) for rights in held)
    assert nodes[2].files.stat("flipped", check=True).care == "whole"


def verified(node: velum.Node, keys: list[bytes]) -> list[bool]:
    """Of those chunks that a node holds whether they are right."""
    chunks = node._store.chunks

    def look() -> list[bool]:
        return [chunks.verify(key, 8 * MIB) == 1 for key in keys if chunks.size(key) is not None]

    held: list[bool] = node._in_loop(look)
    return held


def test_a_node_that_closes_ends_what_waits_for_it(nodes: list[velum.Node]) -> None:
    """Puts and gets of other threads fail; none hangs."""
    rng = seeded("closes")
    data = noise(rng, 8 * MIB)
    nodes[0].files.put(data, "open")
    ended: list[BaseException] = []

    def keep_at_it(work: Callable[[], object]) -> None:
        try:
            while True:
                work()
        except VelumError as error:
            ended.append(error)

    works: list[Callable[[], object]] = [
        lambda: nodes[0].files.get("open"),
        lambda: nodes[0].files.put(data, "other"),
        lambda: nodes[0].files.df(),
        lambda: nodes[0].files.put(b"small", "small"),
    ]
    threads = [threading.Thread(target=keep_at_it, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    assert nodes[1].files.get("open") == data
    nodes[0].close()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert len(ended) == len(works)
