"""The state that every node holds: nodes in this program and as processes, their links cut, their
logs read again, and clients whose node dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import velum
from tests.integration.meshes import PATIENCE_S, Processes, StartMesh, eventually
from velum.client import Client
from velum.errors import CasConflict, KvRefused, NoQuorum, PeerLost, VelumError, WrongType
from velum.kv import Kv
from velum.kvwatch import Change, Watch
from velum.machine import free_beacon_port
from velum.node import Node

StartNodes = Callable[..., list[Node]]


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[StartNodes]:
    """nodes(1, 2, 3, logs=...): nodes in this program that hold their state together."""
    with ExitStack() as stack:
        beacon_port = free_beacon_port()

        def start(*ids: int, logs: bool = False, **options: Any) -> list[Node]:
            started = []
            for id in ids:
                own = dict(options)
                if logs:
                    own["log"] = tmp_path / f"{id}.log"
                node = Node(id, 0, beacon_port=beacon_port, workers=0, ram=0, **own)
                stack.callback(node.close)
                started.append(node)
            return started

        yield start


def joined(nodes: Sequence[Node]) -> bool:
    """Whether each pushes to all others."""
    return all(len(node.status()["kv"]["joined"]) == len(nodes) - 1 for node in nodes)


def wait_joined(nodes: Sequence[Node]) -> None:
    eventually(lambda: joined(nodes), "all nodes are joined")


def everywhere(kvs: Sequence[Kv], key: str, value: Any) -> None:
    """Waits until a key has this value for all."""
    eventually(lambda: all(kv.get(key) == value for kv in kvs), f"{key} is {value!r} everywhere")


def changes(watch: Watch, count: int) -> list[Change]:
    """The next ones."""
    told = []
    for _ in range(count):
        change = watch.get(PATIENCE_S)
        assert change is not None, f"only {told}"
        told.append(change)
    return told


def cut(node: Node, *others: int) -> None:
    """Ends the links to these nodes, and those that are made again, until `heal`: they hear each
    other's datagrams still, so that they stay members."""
    members = node._members
    allowed = members.on_opened

    def on_opened(link: int, token: int, role: int, id: int, *rest: Any) -> bool:
        if id in others:
            node._runtime.hub.drop(link)
            members.on_closed(link, velum.errors.code_of("CLOSED"), "cut by the test")
            return False
        return allowed(link, token, role, id, *rest)

    def begin() -> None:
        members.on_opened = on_opened  # type: ignore[method-assign]
        for link in [link for link, peer in members.peers.items() if peer.id in others]:
            members.cut(link, velum.errors.code_of("CLOSED"), "cut by the test")

    node._in_loop(begin)


def heal(node: Node) -> None:
    node._in_loop(lambda: node._members.__dict__.pop("on_opened", None))


# ---- one node ----


def test_one_node_holds_state(nodes: StartNodes) -> None:
    (node,) = nodes(1)
    kv = node.kv
    kv["robot/7"] = {"status": "active", "battery": 0.5}
    kv["raw"] = b"\0\xff\n"
    assert kv["robot/7"] == {"status": "active", "battery": 0.5} and kv["raw"] == b"\0\xff\n"
    assert kv.incr("n") == 1 and kv.incr("n", 41) == 42 and kv["n"] == 42
    assert kv.sadd("s", "a", "b") == 2 and kv.srem("s", "a") == 1 and kv["s"] == {b"b"}
    assert kv.hset("h", {"f": "1"}) == 1 and kv["h"] == {"f": b"1"}
    assert kv.keys("r*") == ["raw", "robot/7"] and len(kv) == 5
    with pytest.raises(WrongType):
        kv.incr("s")
    assert kv.delete("raw", "none") == 1 and "raw" not in kv
    written = kv.put("k", 1)
    entry = kv.entry("k")
    assert written.durability == "ram" and entry is not None and entry.version == written.version
    version = kv.cas("k", written.version, 2)
    with pytest.raises(CasConflict):
        kv.cas("k", written.version, 3)
    assert kv["k"] == 2 and version != written.version
    assert kv.stat()["keys"] == 5
    assert node.status()["kv"]["keys"] == 5


def test_a_ttl_ends_a_key(nodes: StartNodes) -> None:
    (node,) = nodes(1)
    with node.kv.watch("t*") as watch:
        assert changes(watch, 1)[0].event == "now"
        node.kv.put("t", "v", ttl=0.2)
        assert 0 < (node.kv.ttl("t") or 0) <= 0.2
        set_, gone = changes(watch, 2)
        assert (set_.event, set_.value) == ("set", "v") and 0 < (set_.expires_in or 0) <= 0.2
        assert (gone.event, gone.key) == ("expired", "t")
    assert "t" not in node.kv and len(node.kv) == 0


def test_what_a_log_holds_is_there_again(nodes: StartNodes, tmp_path: Path) -> None:
    (node,) = nodes(1, logs=True)
    kv = node.kv
    assert kv.put("a", 1).durability == "log"
    assert kv.put("b", b"2", durability="fsync").durability == "fsync"
    kv.incr("n", 5)
    kv.sadd("s", "x")
    kv["gone"] = 1
    del kv["gone"]
    node.close()
    (again,) = nodes(1, logs=True)
    assert sorted(again.kv) == ["a", "b", "n", "s"]
    assert (again.kv["a"], again.kv["b"], again.kv["n"]) == (1, b"2", 5)
    assert again.kv.incr("n") == 6 and again.kv["s"] == {b"x"}
    assert (tmp_path / "1.members").read_text().startswith("self ")


def test_a_log_is_one_process_alone(nodes: StartNodes, tmp_path: Path) -> None:
    nodes(1, logs=True)
    with pytest.raises(KvRefused) as caught:
        Node(2, 0, beacon=False, workers=0, ram=0, log=tmp_path / "1.log")
    assert caught.value.name == "LOCKED"


def test_a_log_of_another_program_is_read(nodes: StartNodes, tmp_path: Path) -> None:
    (tmp_path / "1.log").write_text("status=active\nposition=1,2\nstatus=idle\n")
    (node,) = nodes(1, logs=True)
    assert node.kv["status"] == b"idle" and node.kv["position"] == b"1,2"


def test_a_room_that_is_full_refuses_and_is_read(nodes: StartNodes) -> None:
    (node,) = nodes(1, kv_room=1 << 20)
    with pytest.raises(KvRefused):
        for number in range(1000):
            node.kv[f"k{number}"] = bytes(10_000)
    assert node.kv["k0"] == bytes(10_000)


def test_what_a_log_lost_is_told(nodes: StartNodes, tmp_path: Path) -> None:
    (node,) = nodes(1, logs=True)
    node.kv["a"] = 1
    node.close()
    with open(tmp_path / "1.log", "ab") as file:
        file.write(b"torn=\t@01")
    (again,) = nodes(1, logs=True)
    assert again.kv["a"] == 1 and again.status()["kv"]["log"]["torn_bytes"] == 9
    assert not (tmp_path / "1.log").read_bytes().endswith(b"@01")


def test_a_watch_in_a_task(nodes: StartNodes) -> None:
    (node,) = nodes(1)
    node.kv["a"] = 1

    async def read() -> list[tuple[str, str]]:
        told = []
        watch = node.kv.watch()
        async for change in watch:
            told.append((change.event, change.key))
            if change.event == "now":
                await asyncio.to_thread(node.kv.put, "b", 2)
            if change.key == "b":
                watch.close()
        return told

    told = asyncio.run(asyncio.wait_for(read(), PATIENCE_S))
    assert told == [("state", "a"), ("now", ""), ("set", "b")]


def test_a_watch_ends_with_its_node(nodes: StartNodes) -> None:
    (node,) = nodes(1)
    watch = node.kv.watch()
    thread = threading.Thread(target=lambda: list(watch))
    thread.start()
    node.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    with pytest.raises(VelumError) as caught:
        node.kv.get("a")
    assert caught.value.name == "LEAVING"


# ---- several ----


def test_a_put_is_read_on_the_others(nodes: StartNodes) -> None:
    three = nodes(1, 2, 3)
    wait_joined(three)
    kvs = [node.kv for node in three]
    kvs[0]["a"] = "from 1"
    everywhere(kvs, "a", "from 1")
    for kv in kvs:
        kv.incr("n", 5)
        kv.sadd("s", f"{id(kv)}")
        kv.hset("h", {f"{id(kv)}": b"1"})
    everywhere(kvs, "n", 15)
    eventually(lambda: all(len(kv["s"]) == len(kv["h"]) == 3 for kv in kvs))
    del kvs[2]["a"]
    everywhere(kvs, "a", None)
    kvs[1].put("t", 1, ttl=0.2)
    everywhere(kvs, "t", 1)
    everywhere(kvs, "t", None)
    assert kvs[0].put("q", 1, durability="quorum").durability == "ram"  # nobody has a log


def test_a_watch_tells_of_what_others_write(nodes: StartNodes) -> None:
    two = nodes(1, 2)
    wait_joined(two)
    two[0].kv["robot/1"] = "there"
    everywhere([two[1].kv], "robot/1", "there")
    with two[1].kv.watch("robot/*") as watch:
        state, now = changes(watch, 2)
        assert (state.event, state.value, now.event) == ("state", "there", "now")
        two[0].kv["robot/1"] = "away"
        two[0].kv["other"] = 1
        del two[0].kv["robot/1"]
        assert [(c.event, c.value) for c in changes(watch, 2)] == [("set", "away"), ("del", None)]
        assert watch.get(0.1) is None


def test_who_comes_later_gets_all(nodes: StartNodes) -> None:
    (first,) = nodes(1)
    for number in range(3000):
        first.kv[f"k{number}"] = number
    first.kv.delete(*[f"k{number}" for number in range(0, 3000, 3)])
    (second,) = nodes(2)
    eventually(lambda: len(second.kv) == 2000, "the second has all")
    assert second.kv["k1"] == 1 and "k3" not in second.kv


def test_what_was_apart_comes_together(nodes: StartNodes) -> None:
    three = nodes(1, 2, 3)
    wait_joined(three)
    kvs = [node.kv for node in three]
    kvs[0]["both"] = "before"
    kvs[0].sadd("set", "kept", "removed")
    kvs[0]["gone"] = 1
    everywhere(kvs, "gone", 1)
    cut(three[0], 2, 3)
    eventually(lambda: three[0].status()["kv"]["joined"] == [], "the first is alone")
    kvs[0]["both"] = "at 1"
    kvs[1]["both"] = "at 2, later"
    del kvs[0]["gone"]
    kvs[0].incr("n", 3)
    kvs[1].incr("n", 4)
    kvs[0].srem("set", "removed")
    kvs[2].sadd("set", "added")
    kvs[0]["new"] = 1
    everywhere(kvs[1:], "n", 4)
    assert kvs[1]["gone"] == 1 and "new" not in kvs[2]
    heal(three[0])
    wait_joined(three)
    for key, value in (("both", "at 2, later"), ("gone", None), ("n", 7), ("new", 1)):
        everywhere(kvs, key, value)
    everywhere(kvs, "set", {b"kept", b"added"})


def test_what_was_deleted_while_one_was_away_stays_deleted(nodes: StartNodes) -> None:
    two = nodes(1, 2, logs=True)
    wait_joined(two)
    two[0].kv["a"], two[0].kv["b"] = 1, 2
    everywhere([two[1].kv], "b", 2)
    two[1].close()
    del two[0].kv["a"]
    eventually(lambda: two[0].status()["kv"]["joined"] == [])
    two[0].kv["c"] = 3
    (again,) = nodes(2, logs=True)
    everywhere([two[0].kv, again.kv], "c", 3)
    everywhere([two[0].kv, again.kv], "a", None)
    assert again.kv["b"] == 2


def test_tombstones_go_when_all_have_them(nodes: StartNodes) -> None:
    two = nodes(1, 2)
    wait_joined(two)
    for number in range(20):
        two[number % 2].kv[f"k{number}"] = number
    eventually(lambda: len(two[0].kv) == len(two[1].kv) == 20)
    two[0].kv.delete(*two[0].kv.keys())
    eventually(lambda: len(two[1].kv) == 0)
    assert two[1].status()["kv"]["tombstones"] == 20
    eventually(
        lambda: all(node.status()["kv"]["tombstones"] == 0 for node in two),
        "no tombstone is left",
        60,
    )


def test_a_quorum_is_of_members_that_are_away_too(nodes: StartNodes) -> None:
    three = nodes(1, 2, 3, logs=True)
    wait_joined(three)
    kv = three[0].kv
    eventually(lambda: three[0].status()["kv"]["members"] == [1, 2, 3])
    assert kv.put("a", 1, durability="quorum").durability == "quorum"
    three[1].close()
    assert kv.put("a", 2, durability="quorum").durability == "quorum"
    three[2].close()
    eventually(lambda: three[0].status()["kv"]["joined"] == [])
    assert kv.put("a", 3, durability="quorum", timeout=0.3).durability == "fsync"
    with pytest.raises(NoQuorum):
        kv.cas("b", None, 1, quorum=True)
    kv.forget(3)
    assert three[0].status()["kv"]["members"] == [1, 2]


def test_one_that_was_forgotten_is_refused(
    nodes: StartNodes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    two = nodes(1, 2, logs=True)
    wait_joined(two)
    two[0].kv["a"] = 1
    everywhere([two[1].kv], "a", 1)
    two[1].close()
    eventually(lambda: two[0].status()["kv"]["joined"] == [])
    two[0].kv.forget(2)
    del two[0].kv["a"]
    eventually(lambda: two[0].status()["kv"]["tombstones"] == 0, "nobody needs it", 60)
    (again,) = nodes(2, logs=True)
    eventually(lambda: again.status()["kv"]["forgotten"] or "was forgotten" in caplog.text)
    time.sleep(0.5)
    assert "a" not in two[0].kv and again.kv["a"] == 1
    again.close()
    (tmp_path / "2.log").unlink()
    (anew,) = nodes(2, logs=True)
    two[0].kv["b"] = 2
    everywhere([anew.kv], "b", 2)
    assert "a" not in anew.kv


# ---- processes and clients ----


def attached(mesh: Processes, id: int) -> Client:
    return mesh.client(id)


def test_clients_hold_the_state_of_their_nodes(mesh: StartMesh) -> None:
    running = mesh(3)
    kvs = [attached(running, id).kv for id in (1, 2, 3)]
    kvs[0]["a"] = [1, "x"]
    everywhere(kvs, "a", [1, "x"])
    for kv in kvs:
        kv.incr("n")
    everywhere(kvs, "n", 3)
    written = kvs[0].put("b", b"raw")
    assert written.durability == "ram"
    assert kvs[0].cas("b", written.version, b"other") != written.version
    with pytest.raises(CasConflict):
        kvs[0].cas("b", written.version, b"third")
    with pytest.raises(WrongType):
        kvs[0].sadd("n", "x")
    kvs[0].put("t", 1, ttl=30)
    entry = kvs[0].entry("t")
    assert entry is not None and entry.expires_in is not None and 25 < entry.expires_in <= 30.1
    assert kvs[0].stat()["keys"] == 4 and kvs[0].keys("?") == ["a", "b", "n", "t"]
    with pytest.raises(VelumError, match="no other member"):
        kvs[0].forget(1)
    kvs[0].forget(3)
    eventually(lambda: attached(running, 2).status()["kv"]["members"] == [1, 2])


def test_a_client_watches(mesh: StartMesh) -> None:
    running = mesh(2)
    here, there = attached(running, 1).kv, attached(running, 2).kv
    here["w/a"] = 1
    everywhere([there], "w/a", 1)
    with there.watch("w/*") as watch:
        assert [c.event for c in changes(watch, 2)] == ["state", "now"]
        here.put("w/b", "new", ttl=20)
        (told,) = changes(watch, 1)
        assert (told.event, told.key, told.value) == ("set", "w/b", "new")
        assert told.expires_in is not None and 15 < told.expires_in <= 20.1


def test_a_client_goes_on_when_its_node_dies(mesh: StartMesh) -> None:
    running = mesh(3)
    client = attached(running, 1)
    client.kv["a"] = 1
    everywhere([attached(running, 2).kv], "a", 1)
    watch = client.kv.watch("a*")
    assert [c.event for c in changes(watch, 2)] == ["state", "now"]
    running.kill(1)
    assert client.kv["a"] == 1
    client.kv["ab"] = 2
    told: list[str] = []
    while "ab" not in told:
        (change,) = changes(watch, 1)
        told.append(change.key if change.event in ("set", "state") else change.event)
    assert told[0] == "missed" and "a" in told
    watch.close()


def test_a_write_under_way_when_its_node_dies_is_uncertain(mesh: StartMesh) -> None:
    running = mesh(2)
    client = attached(running, 1)
    other = attached(running, 2).kv
    client.nodes()  # it knows where to go
    assert client.kv.incr("n") == 1
    everywhere([other], "n", 1)
    failures: list[VelumError] = []

    def count() -> None:
        try:
            client.kv.incr("n")
        except VelumError as error:
            failures.append(error)

    running.pause(1)
    thread = threading.Thread(target=count)
    thread.start()
    eventually(lambda: client._kv.quiet_since() is not None)  # type: ignore[union-attr]
    running.kill(1)
    thread.join(PATIENCE_S)
    assert [error.name for error in failures] == ["UNCERTAIN"]
    assert isinstance(failures[0], PeerLost)
    assert client.kv["n"] == 1 and client.kv.incr("n") == other["n"] == 2


def test_a_node_that_does_nothing_is_turned_away_from(mesh: StartMesh) -> None:
    running = mesh(2)
    client = attached(running, 1)
    client.nodes()
    client.kv["a"] = 1
    everywhere([attached(running, 2).kv], "a", 1)
    running.pause(1)
    assert client.kv["a"] == 1 and client.address == running.address(2)


def test_processes_have_their_state_again(mesh: StartMesh, tmp_path: Path) -> None:
    running = mesh(0, options=("--durability", "fsync"))
    running.start([1], options=log_of(tmp_path, 1))
    running.start([2], options=log_of(tmp_path, 2))
    one = attached(running, 1).kv
    assert one.put("a", 1).durability == "fsync"
    assert one.put("b", 2, durability="quorum").durability == "quorum"
    everywhere([attached(running, 2).kv], "b", 2)
    running.kill(2)
    one["c"] = 3
    del one["a"]
    running.start([2], options=log_of(tmp_path, 2))
    again = attached(running, 2).kv
    everywhere([again], "c", 3)
    assert again["b"] == 2 and again.get("a") is None
    status = attached(running, 2).status()["kv"]
    assert status["members"] == [1, 2] and status["log"]["records"] >= 2


def test_a_quorum_is_reached_by_who_comes_later(mesh: StartMesh, tmp_path: Path) -> None:
    running = mesh(0)
    for id in (1, 2):
        running.start([id], options=log_of(tmp_path, id))
    one = attached(running, 1).kv
    one["a"] = 1
    everywhere([attached(running, 2).kv], "a", 1)
    running.kill(2)
    written: list[str] = []

    def write() -> None:
        kv = attached(running, 1).kv
        written.append(kv.put("b", 2, durability="quorum", timeout=PATIENCE_S).durability)

    writer = threading.Thread(target=write)
    writer.start()
    everywhere([one], "b", 2)
    assert not written, "half of the members are away"
    began = time.monotonic()
    running.start([2], options=log_of(tmp_path, 2))
    writer.join(PATIENCE_S)
    print(f"reached {time.monotonic() - began:.2f} s after the start of the other node")
    assert written == ["quorum"]


def test_a_full_disk_refuses_writes_until_there_is_room(mesh: StartMesh, tmp_path: Path) -> None:
    """A limit on the size of the node's files stands for the disk."""
    running = mesh(0)
    running.start([1], options=log_of(tmp_path, 1))
    kv = attached(running, 1).kv
    kv["before"] = 1
    most = (tmp_path / "1.log").stat().st_size + 10_000
    limit(running.pid(1), most)
    kept = []
    with pytest.raises(KvRefused, match="disk is full"):
        for number in range(1000):
            if kv.put(f"key {number}", b"v" * 100, durability="log").durability == "log":
                kept.append(number)
    assert 20 < len(kept) < 100 and (tmp_path / "1.log").stat().st_size <= most
    assert kv["before"] == 1 and kv[f"key {kept[-1]}"] == b"v" * 100
    with pytest.raises(KvRefused):
        kv["more"] = 1
    limit(running.pid(1), resource.RLIM_INFINITY)

    def taken() -> bool:
        with contextlib.suppress(KvRefused):
            return kv.put("after", 2, durability="log").durability == "log"
        return False

    eventually(taken, "there is room, so it takes writes again")
    running.kill(1)
    running.start([1], options=log_of(tmp_path, 1))
    again = attached(running, 1).kv
    assert again["before"] == 1 and again["after"] == 2
    assert all(again[f"key {number}"] == b"v" * 100 for number in kept)


def limit(pid: int, size: float) -> None:
    """From now on a process can make no file larger."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (int(size), resource.RLIM_INFINITY))


def log_of(folder: Path, id: int) -> tuple[str, ...]:
    return ("--log", str(folder / f"{id}.log"))


# ---- compare and set with a majority ----


@pytest.fixture
def quick_votes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes vote soon after their start; else half a minute later."""
    monkeypatch.setattr("velum.policy.kvcas.PROMISE_REST_MS", 200)


def first_of(kv: Kv, key: str) -> str:
    """Writes a key by a majority, as soon as one votes."""
    versions: list[str] = []

    def written() -> bool:
        try:
            versions.append(kv.cas(key, None, 0, quorum=True))
        except NoQuorum:
            return False
        return True

    eventually(written, "a majority votes")
    return versions[0]


def test_a_majority_compares_and_sets(nodes: StartNodes, quick_votes: None) -> None:
    three = nodes(1, 2, 3, logs=True)
    wait_joined(three)
    with velum.connect(three[2].address) as client:
        kvs = [three[0].kv, three[1].kv, client.kv]
        first = first_of(kvs[0], "lock")
        everywhere(kvs, "lock", 0)
        for kv in kvs:
            with pytest.raises(CasConflict):
                kv.cas("lock", None, 1, quorum=True)
        second = kvs[2].cas("lock", first, b"raw", quorum=True)
        everywhere(kvs, "lock", b"raw")
        del kvs[1]["lock"]
        everywhere(kvs, "lock", None)
        with pytest.raises(CasConflict):
            kvs[0].cas("lock", second, 1, quorum=True)
        kvs[1].cas("lock", None, 2, quorum=True)
        everywhere(kvs, "lock", 2)
        with pytest.raises(VelumError, match="VELUM.CAS key version value"):
            kvs[2].cas("lock", "nonsense", 1, quorum=True)


def test_of_many_that_swap_one_wins_at_most(nodes: StartNodes, quick_votes: None) -> None:
    three = nodes(1, 2, 3)
    wait_joined(three)
    version = first_of(three[0].kv, "lock")
    everywhere([node.kv for node in three], "lock", 0)
    wins: list[int] = []
    uncertain: list[int] = []

    def race(kv: Kv, value: int) -> None:
        try:
            kv.cas("lock", version, value, quorum=True)
            wins.append(value)
        except (CasConflict, NoQuorum):
            pass
        except PeerLost:
            uncertain.append(value)

    threads = [
        threading.Thread(target=race, args=(node.kv, 10 * node.id + number))
        for node in three
        for number in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(wins) <= 1
    eventually(lambda: len({node.kv["lock"] for node in three}) == 1)
    assert three[0].kv["lock"] in (wins or [*uncertain, 0])


# ---- Redis ----


def test_redis_is_spoken(nodes: StartNodes) -> None:
    (node,) = nodes(1, resp_port=0)
    assert node.resp_address is not None
    host, _, port = node.resp_address.rpartition(":")
    with socket.create_connection((host, int(port)), PATIENCE_S) as connection:
        connection.sendall(b"SET a 1\r\nINCR a\r\n")
        said = b""
        while said.count(b"\r\n") < 2:
            said += connection.recv(100)
        assert said == b"+OK\r\n:2\r\n"
        assert node.kv["a"] == 2
