"""One way from a put to a watcher on another node, in microseconds: Velum, Zenoh and Redis.

    python bench/kv_watch.py SYSTEM ADDRESS COUNT        # the watcher's side, started by `measure`

Owns both sides of each system. The writer is this process, on one CPU; the watcher is another, on
the other CPU, in a node, session or connection of its own. A message carries the time at which its
put began, by the clock that all processes of a machine share; puts follow each other in PAUSE_S, so
that each finds everybody asleep. Redis has no watcher of a key's value: a client of the replica is
subscribed to a channel that is published to on the master, both through redis-py; or, as
"redis-plain", over sockets without a client library.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator

from beside import pinned
from servers import free_port, process, redis_server

import velum

PAUSE_S = 0.001
WARM_S = 0.02  # between two messages before the watcher has said that it hears
WRITER_CPU, WATCHER_CPU = 0, 1
KEY = "bench/watched"
WARM = 0  # the time of a message that is not counted

Put = Callable[[int], None]


# ---- writers: each gives what puts a time, and the address that the watcher needs ----


@contextlib.contextmanager
def velum_writer() -> Iterator[tuple[Put, str]]:
    """A node in this process."""
    with velum.Node(1, 0, beacon=False, workers=0) as node:
        kv = node.kv
        yield (lambda now: kv.put(KEY, b"%d" % now) and None), node.address


@contextlib.contextmanager
def zenoh_writer() -> Iterator[tuple[Put, str]]:
    """A peer in this process, which listens."""
    import zenoh

    address = f"tcp/127.0.0.1:{free_port()}"
    with zenoh.open(_zenoh_config("listen", address)) as session:
        publisher = session.declare_publisher(KEY)
        yield (lambda now: publisher.put(b"%d" % now)), address


@contextlib.contextmanager
def master_and_replica() -> Iterator[tuple[int, int]]:
    """Their ports."""
    quiet = ("--appendonly", "no")
    with contextlib.ExitStack() as stack:
        with pinned(WRITER_CPU):
            master = stack.enter_context(redis_server(*quiet))
        with pinned(WATCHER_CPU):
            copies = ("--replicaof", "127.0.0.1", str(master), "--repl-diskless-sync-delay", "0")
            yield master, stack.enter_context(redis_server(*quiet, *copies))


@contextlib.contextmanager
def redis_writer() -> Iterator[tuple[Put, str]]:
    """A client of the master; the replica is the watcher's."""
    import redis

    with master_and_replica() as (master, replica), redis.Redis(port=master) as client:
        yield (lambda now: client.publish(KEY, b"%d" % now) and None), str(replica)


@contextlib.contextmanager
def redis_plain_writer() -> Iterator[tuple[Put, str]]:
    """The same over a plain socket."""
    with master_and_replica() as (master, replica), _connected(master) as out:

        def put(now: int) -> None:
            out.sendall(b"PUBLISH %s %d\r\n" % (KEY.encode(), now))
            out.recv(64)

        yield put, str(replica)


# ---- watchers: each calls heard(time) for every message, for ever ----


def velum_watcher(address: str, heard: Put) -> None:
    """A node of its own."""
    with velum.Node(2, 0, beacon=False, workers=0, join=[address]) as node:
        for change in node.kv.watch(KEY, state=False):
            if change.event == "set":
                heard(int(change.value))


def zenoh_watcher(address: str, heard: Put) -> None:
    """A subscriber whose callback it is, as Zenoh hands messages over soonest."""
    import zenoh

    with zenoh.open(_zenoh_config("connect", address)) as session:
        session.declare_subscriber(KEY, lambda sample: heard(int(sample.payload.to_bytes())))
        while True:
            time.sleep(1)


def redis_watcher(address: str, heard: Put) -> None:
    """A client that is subscribed."""
    import redis

    with redis.Redis(port=int(address)) as client, client.pubsub() as subscriber:
        subscriber.subscribe(KEY)
        for message in subscriber.listen():
            if message["type"] == "message":
                heard(int(message["data"]))


def redis_plain_watcher(address: str, heard: Put) -> None:
    """A plain socket; a message is its last line but one."""
    with _connected(int(address)) as stream:
        stream.sendall(b"SUBSCRIBE %s\r\n" % KEY.encode())
        while True:
            for line in stream.recv(65536).split(b"\r\n"):
                if line.isdigit():
                    heard(int(line))


WRITERS = {
    "velum": velum_writer,
    "zenoh": zenoh_writer,
    "redis": redis_writer,
    "redis-plain": redis_plain_writer,
}
WATCHERS = {
    "velum": velum_watcher,
    "zenoh": zenoh_watcher,
    "redis": redis_watcher,
    "redis-plain": redis_plain_watcher,
}


# ---- measuring ----


def measure(system: str, count: int) -> list[float]:
    """Times of so many messages, one way, in microseconds."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(pinned(WRITER_CPU))
        put, address = stack.enter_context(WRITERS[system]())
        with pinned(WATCHER_CPU):
            words = [sys.executable, __file__, system, address, str(count)]
            watcher = stack.enter_context(process(words))
        assert watcher.stdout is not None
        os.set_blocking(watcher.stdout.fileno(), False)
        while not watcher.stdout.readline():  # "hears"
            if watcher.poll() is not None:
                raise SystemExit(f"the watcher of {system} has ended")
            put(WARM)
            time.sleep(WARM_S)
        os.set_blocking(watcher.stdout.fileno(), True)
        for _ in range(count):
            put(time.monotonic_ns())
            time.sleep(PAUSE_S)
        return [float(us) for us in json.loads(watcher.stdout.readline())]


def watch(system: str, address: str, count: int) -> None:
    """The watcher's process: says that it hears, then how long each message took."""
    took: list[float] = []

    def heard(began: int) -> None:
        now = time.monotonic_ns()
        if began == WARM:
            if not took:
                print("hears", flush=True)
            return
        took.append((now - began) / 1000)
        if len(took) == count:
            print(json.dumps(took), flush=True)

    WATCHERS[system](address, heard)


def _connected(port: int) -> socket.socket:
    stream = socket.create_connection(("127.0.0.1", port))
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


def _zenoh_config(what: str, address: str) -> object:
    import zenoh

    config = zenoh.Config()
    config.insert_json5("mode", '"peer"')
    config.insert_json5("scouting/multicast/enabled", "false")
    config.insert_json5("listen/endpoints", json.dumps([address] if what == "listen" else []))
    if what == "connect":
        config.insert_json5("connect/endpoints", json.dumps([address]))
    return config


if __name__ == "__main__":
    watch(sys.argv[1], sys.argv[2], int(sys.argv[3]))
