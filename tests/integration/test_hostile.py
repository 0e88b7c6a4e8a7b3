"""A node among peers that do not behave: the calls of others stay right, and it lives on.

Two nodes; node 1 is attacked while a client calls through it all the time, half of the calls being
answered by node 2. After each attack the node must answer, keep its links, have grown little, and
have thrown nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
from collections.abc import Iterator

import pytest

import velum
from tests.integration import hostile
from tests.integration.hostile import Peer
from tests.integration.meshes import (
    GUESTS,
    PATIENCE_S,
    Processes,
    StartMesh,
    Stream,
    eventually,
    seeded,
)
from tests.vectors import protocol
from velum._core import module_hash
from velum.client import Client

GROWTH_MIB = 50
HANDSHAKE_S = 2.0
FILE_LINKS = 4  # ends of those that two nodes open to each other and themselves, when they need to
STRANGER_BYTES_MAX = 512
STREAM_FRAMES = [name for name in protocol.FRAMES if not protocol.is_datagram(name)]
SAMPLES = hostile.samples()
RESULT_TYPE = protocol.FRAMES["RESULT"][0]


@pytest.fixture(scope="module")
def two(shared_mesh: StartMesh) -> Processes:
    return shared_mesh(2)


@pytest.fixture(scope="module")
def client(two: Processes) -> Client:
    client = two.client()
    job = client.scatter(GUESTS / "primes.wasm", "count_primes", 0, 200_000)  # starts all workers
    assert job.result(PATIENCE_S) == 17_984
    return client


@pytest.fixture(scope="module")
def stream(client: Client) -> Iterator[Stream]:
    with Stream(client, at_once=4, pause=0.002) as stream:
        stream.more(100)
        yield stream


@pytest.fixture(autouse=True)
def unharmed(two: Processes, client: Client, stream: Stream) -> Iterator[None]:
    """What must hold after every test here."""
    before = two.rss_mib(1)
    links = client.status()["hub"]["links"]
    yield
    stream.more(40)
    status = client.status()
    most = links + FILE_LINKS
    eventually(lambda: client.status()["hub"]["links"] <= most, "the peers' links are closed")
    eventually(two.is_whole, "the mesh is whole")
    grown = two.rss_mib(1) - before
    assert grown < GROWTH_MIB, f"node 1 grew by {grown:.0f} MiB"
    assert status["id"] == 1 and client.address == two.address(1)


# ---- bytes that are no protocol ----


def test_random_bytes(two: Processes) -> None:
    rng = seeded("random bytes")
    for _ in range(200):
        with Peer(two.port(1), rng.randbytes(rng.choice((1, 2, 16, 17, 600, 5000)))) as peer:
            with contextlib.suppress(OSError):  # it may be closed already
                peer.socket.shutdown(socket.SHUT_WR)
            assert peer.is_closed()


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"GET / HTTP/1.1\r\nHost: velum\r\n\r\n", "MAGIC"),
        (b"XL\1\1" + bytes(12), "MAGIC"),
        (b"VL\0\1" + bytes(12), "WIRE_VERSION"),
        (b"VL\2\1" + bytes(12), "WIRE_VERSION"),
        (b"VL\1\0" + bytes(12), "FRAME_TYPE"),
        (b"VL\1\xff" + bytes(12), "FRAME_TYPE"),
        (protocol.raw(0x01, bytes(513)), "FRAME_LENGTH"),
        (b"VL\1\1\xff\xff\xff\xff" + bytes(8), "FRAME_LENGTH"),
        (protocol.raw(0x01, b""), "PAYLOAD"),
        (hostile.hello() + hostile.hello(), "UNEXPECTED"),
        (hostile.hello() + b"VL\1\x7f" + bytes(12), "FRAME_TYPE"),
        (hostile.hello() + b"garbage garbage", "MAGIC"),
        (hostile.hello(role=protocol.WORKER), "UNEXPECTED"),
        (hostile.hello(role=protocol.NODE, id=1, port=9), "DUPLICATE_ID"),
        (hostile.hello(role=protocol.NODE, id=2, port=9), "DUPLICATE_ID"),
        (hostile.hello(role=protocol.LEAF, id=2, port=9), "DUPLICATE_ID"),
    ],
)
def test_a_peer_that_says_it_wrong_is_told_and_left(
    two: Processes, said: bytes, error: str
) -> None:
    with Peer(two.port(1), said) as peer:
        assert peer.is_closed_for(error)


def test_a_duplicate_is_told_who_was_there_first(two: Processes) -> None:
    with Peer(two.port(1), hostile.hello(role=protocol.NODE, id=2, port=9)) as peer:
        assert two.address(2) in peer.until("BYE").fields["text"]


@pytest.mark.parametrize("name", STREAM_FRAMES)
def test_huge_lengths(two: Processes, name: str) -> None:
    code, limit, _ = protocol.FRAMES[name]
    for length in (limit + 1, 0x7FFFFFFF, 0xFFFFFFFF):
        head = b"VL\1" + bytes([code]) + length.to_bytes(4, "little") + bytes(8)
        for said in (head, hostile.hello() + head):
            with Peer(two.port(1), said) as peer:
                assert peer.is_closed_for("FRAME_LENGTH")


@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in ("HELLO", "BYE")])
def test_frames_before_hello(two: Processes, name: str) -> None:
    error = "FRAME_TYPE" if protocol.is_datagram(name) else "UNEXPECTED"
    if len(SAMPLES[name]) > protocol.HEADER_BYTES + STRANGER_BYTES_MAX:
        error = "FRAME_LENGTH"
    with Peer(two.port(1), SAMPLES[name]) as peer:
        assert peer.is_closed_for(error)


@pytest.mark.parametrize("name", [name for name in SAMPLES if protocol.is_datagram(name)])
def test_datagrams_on_a_stream(two: Processes, name: str) -> None:
    with Peer(two.port(1), hostile.hello() + SAMPLES[name]) as peer:
        assert peer.is_closed_for("FRAME_TYPE")


# ---- frames that are right but not for this peer, and wrong inside ----


@pytest.mark.parametrize("name", [name for name in STREAM_FRAMES if name not in ("HELLO", "BYE")])
def test_a_client_may_send_any_frame_without_harm(two: Processes, name: str) -> None:
    with Peer(two.port(1), hostile.hello() + SAMPLES[name] * 3) as peer:
        peer.until("HELLO")
        peer.send(protocol.build("PING", 99))
        for frame in peer.frames():  # it answers, or it has closed
            if frame.name == "PONG" and frame.correlation == 99:
                break


@pytest.mark.parametrize("role", [protocol.CLIENT, protocol.NODE, protocol.LEAF])
def test_mutated_frames(two: Processes, role: int) -> None:
    rng = seeded(f"mutated frames of role {role}")
    for round in range(150):
        id = 0 if role == protocol.CLIENT else 1000 + round
        with Peer(two.port(1), hostile.hello(role=role, id=id, port=9)) as peer:
            peer.until("HELLO")
            for _ in range(5):
                name = rng.choice([name for name in STREAM_FRAMES if "SYNC" not in name])
                peer.send(hostile.mutated(SAMPLES[name], rng))


def test_a_stream_of_right_frames_in_random_pieces(two: Processes) -> None:
    """Not hostile at all: however the bytes are cut, every call is answered."""
    rng = seeded("random pieces")
    data = hostile.hello() + b"".join(hostile.call(n, n, 1) for n in range(1, 501))
    with Peer(two.port(1)) as peer:
        while data:
            cut = rng.randint(1, 200)
            peer.send(data[:cut])
            data = data[cut:]
        answers = {}
        for frame in peer.frames():
            if frame.name == "RESULT":
                answers[frame.correlation] = frame.fields["values_"][0]["bits"]
                if len(answers) == 500:
                    break
    assert answers == {n: n + 1 for n in range(1, 501)}


# ---- peers that stall ----


def test_half_a_hello_is_waited_for_so_long_and_no_longer(two: Processes) -> None:
    halves = [Peer(two.port(1), hostile.hello()[:size]) for size in (0, 1, 15, 16, 30)]
    for peer in halves:
        assert peer.is_closed(within=HANDSHAKE_S * 3)
    hostile.close_all(halves)


def test_half_frames_after_hello_stall_nobody(two: Processes, stream: Stream) -> None:
    stalled = []
    for name in STREAM_FRAMES:
        for size in (3, 16, len(SAMPLES[name]) - 1):
            stalled.append(Peer(two.port(1), hostile.hello() + SAMPLES[name][:size]))
    stream.more(500)
    hostile.close_all(stalled)


def test_a_hello_that_drips(two: Processes) -> None:
    with Peer(two.port(1)) as peer:
        hostile.drip(peer, hostile.hello(), HANDSHAKE_S / 4)
        peer.until("HELLO")


# ---- peers that are many, or want much ----


@pytest.mark.parametrize("said", [b"", hostile.hello()], ids=["silent", "clients"])
def test_two_thousand_connections(two: Processes, stream: Stream, said: bytes) -> None:
    """Four hundred at a time, which is more than a node keeps."""
    for _ in range(5):
        peers = hostile.connect_many(two.port(1), 400, said)
        stream.more(50)
        hostile.close_all(peers)
    print(f"the slowest round of calls took {stream.slowest_s * 1000:.0f} ms")


def test_a_node_still_joins_while_strangers_crowd(two: Processes) -> None:
    peers = hostile.connect_many(two.port(1), 200)
    with velum.Node(9, 0, join=[two.address(1)], beacon=False, workers=0) as node:
        eventually(lambda: 9 in two.peers(1), "node 9 has joined")
        assert node.spawn("add", 1, 2, node=1).result(PATIENCE_S) == 3
    hostile.close_all(peers)
    eventually(lambda: two.is_gone(9))


@pytest.mark.parametrize("topic", ["status", "nodes", "nonsense"])
def test_a_flood_of_queries_from_one_that_does_not_read(
    two: Processes, stream: Stream, topic: str
) -> None:
    flood = b"".join(protocol.build("QUERY", n, topic=topic) for n in range(1, 20_001))
    with Peer(two.port(1), hostile.hello(), receive_bytes=4096) as peer:
        sent = peer.send_what_fits(flood, 0.5)
        stream.more(100)
        print(f"{sent} of {len(flood)} bytes were taken")


@pytest.mark.parametrize("placed", [False, True], ids=["scheduled", "placed"])
def test_a_flood_of_calls_from_one_that_does_not_read(
    two: Processes, stream: Stream, placed: bool
) -> None:
    flood = hostile.calls(400_000, placed)
    with Peer(two.port(1), hostile.hello(), receive_bytes=4096) as peer:
        sent = peer.send_what_fits(flood, 0.5)
        stream.more(100)
        print(f"{sent} of {len(flood)} bytes were taken")
        assert sent < len(flood), "it is not read for ever"


@pytest.mark.timeout(300)  # of 400,000 answers: on a busy machine that takes its time
@pytest.mark.parametrize("placed", [False, True], ids=["scheduled", "placed"])
def test_a_slow_reader_gets_every_answer(two: Processes, stream: Stream, placed: bool) -> None:
    """It asks as much as it can before it reads, each time."""
    count = 400_000
    flood = hostile.calls(count, placed)
    right = bytes([1, protocol.I64]) + (21).to_bytes(8, "little")
    with Peer(two.port(1), hostile.hello(), receive_bytes=4096) as peer:
        answered: set[bytes] = set()
        frames = peer.raw_frames()
        while len(answered) < count:
            flood = flood[peer.send_what_fits(flood, 0.2) :]
            for frame in itertools.islice(frames, 100_000 if flood else None):
                if frame[3] == RESULT_TYPE:
                    assert frame.endswith(right)
                    answered.add(frame[8:16])
                    if len(answered) == count:
                        break
            stream.more(20)


@pytest.mark.parametrize("placed", [False, True], ids=["scheduled", "placed"])
def test_tasks_whose_module_never_comes(two: Processes, stream: Stream, placed: bool) -> None:
    rng = seeded("tasks without modules")
    hashes = [rng.randbytes(32) for _ in range(100)]
    flood = b"".join(hostile.task(n, hashes[n % 100], placed) for n in range(1, 20_001))
    with Peer(two.port(1), hostile.hello()) as peer:
        peer.send_what_fits(flood, 0.5)
        stream.more(100)


def test_a_module_that_is_another(two: Processes) -> None:
    """The bytes that come do not match the hash that was asked for."""
    hash = b"\x11" * 32
    with Peer(two.port(1), hostile.hello() + hostile.task(5, hash)) as peer:
        want = peer.until("MODULE_WANT")
        part = {"hash": hash, "total": 8, "offset": 0, "bytes": b"\0asm\1\0\0\0"}
        peer.send(protocol.build("MODULE", want.correlation, **part))
        error = peer.until("ERROR")
        assert error.correlation == 5
        assert velum.errors.error_table()[error.fields["code"]][0] == "MODULE_HASH"


def test_who_brings_a_module_and_goes_keeps_nobody_waiting(two: Processes, client: Client) -> None:
    """Another that brought the same is asked instead."""
    module = (GUESTS / "add.wasm").read_bytes()
    with Peer(two.port(1), hostile.hello() + hostile.task(5, module_hash(module))) as peer:
        peer.until("MODULE_WANT")
        future = client.spawn_wasm(module, "run", 4)
        client.status()  # answered after the task has come
    assert future.result(PATIENCE_S) == 8


def test_who_brings_a_module_and_stalls_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("velum.modulestore.STALL_MS", 200)
    module = (GUESTS / "add.wasm").read_bytes()
    with velum.Node(1, 0, beacon=False, workers=1) as node:
        port = int(node.address.rpartition(":")[2])
        with Peer(port, hostile.hello() + hostile.task(5, module_hash(module))) as peer:
            peer.until("MODULE_WANT")
            with velum.connect(node.address) as client:
                assert client.spawn_wasm(module, "run", 4).result(PATIENCE_S) == 8
            assert peer.is_closed_for("TIMEOUT")


# ---- members that lie ----


def test_a_member_that_swallows_its_calls(two: Processes, stream: Stream) -> None:
    """It joins by the rules, with a port where nothing answers: what it was sent is sent again."""
    sync = {"members": [{"record": record, "health": hostile.HEALTH} for record in [hole(7000)]]}
    said = hostile.hello(role=protocol.NODE, id=7000, port=9, incarnation=5, slots=1)
    with Peer(two.port(1), said + protocol.build("SYNC", 1, **sync)) as peer:
        peer.until("SYNC_REPLY")
        stream.more(500)
        eventually(lambda: two.is_gone(7000), "the swallower is found out")
        print(f"the slowest round of calls took {stream.slowest_s * 1000:.0f} ms")


def hole(id: int) -> dict[str, object]:
    return hostile.record(id, 9, 5)


def test_one_who_speaks_for_another_member(two: Processes, stream: Stream) -> None:
    """It says that node 2 leaves; node 2 objects."""
    said = hostile.hello(role=protocol.NODE, id=2, port=two.port(2), slots=1)
    with Peer(two.port(1), said) as peer:
        peer.until("HELLO")
        stream.more(100)
        peer.send(protocol.build("BYE", 0, code=0, text=""))
        assert peer.is_closed()
    two.wait_whole()
    stream.by_node.clear()
    eventually(lambda: 2 in stream.by_node, "node 2 is sent calls again")


# ---- datagrams ----


def test_random_and_mutated_datagrams(mesh: StartMesh) -> None:
    """A mesh of its own: some of them are right by chance, and tell of members that do not exist.

    What is well formed and lies about the nodes themselves is left out: nobody could tell that from
    the truth without a key.
    """
    nodes = mesh(2)
    rng = seeded("datagrams")
    names = [name for name in SAMPLES if protocol.is_datagram(name)]
    with Stream(nodes.client(1)) as stream, socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for _ in range(20):
            for _ in range(200):
                if rng.random() < 0.3:
                    data = rng.randbytes(rng.choice((0, 1, 15, 16, 17, 100, 1199, 1201, 4000)))
                else:
                    data = hostile.mutated(SAMPLES[rng.choice(names)], rng)
                if tells_of(data, {1, 2}):
                    continue
                for to in (("127.0.0.1", nodes.port(1)), ("127.255.255.255", nodes.beacon_port)):
                    with contextlib.suppress(OSError):
                        sender.sendto(data, to)
            stream.more(16)
        with velum.connect(nodes.address(1)) as there:
            counters = there.status()["hub"]
    print(f"{counters['datagrams_bad']} of {counters['datagrams_in']} datagrams were malformed")
    assert counters["datagrams_bad"] > 100


def tells_of(data: bytes, ids: set[int]) -> bool:
    """Whether a datagram is well formed and says something in the name of, or about these."""
    try:
        fields = protocol.parse(data).fields
    except protocol.ProtocolError:
        return False
    told = {fields.get("sender"), *(update["id"] for update in fields.get("updates", ()))}
    return bool(told & ids)
