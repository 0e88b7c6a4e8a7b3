"""The Redis port as its users have it: redis-py unchanged, and beside a real redis-server."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

import velum
from tests.integration.meshes import PATIENCE_S, eventually, seeded
from velum.resp import Refusal, Reply, request

COMMANDS = 5000
KEYS = [f"key:{number}".encode() for number in range(12)]
WORDS = [b"", b"a", b"b", b"10", b"-3", b"3.0", b"x y", b"\x00\r\n\xff", b"9223372036854775807"]
FIELDS = [b"f", b"g", b"h"]
SECONDS = [b"100", b"1000", b"0", b"-1", b"x", b"99999999999999999"]
NUMBERS = [b"0", b"1", b"-1", b"7", b"100", b"1099511627776", b"-1099511627776"]
EXPIRIES: list[tuple[bytes, ...]] = [
    (),
    (b"EX", b"100"),
    (b"EX", b"x"),
    (b"PX", b"100000"),
    (b"KEEPTTL",),
    (b"EX",),
    (b"PX", b"0"),
]
TIME_SLACK_S = 2


@pytest.fixture
def node(tmp_path: Path) -> Iterator[velum.Node]:
    """A node with a log and a Redis port."""
    with velum.Node(
        1, 0, beacon=False, workers=0, log=tmp_path / "node.log", resp_port=0
    ) as started:
        yield started


def port_of(node: velum.Node) -> int:
    assert node.resp_address is not None
    return int(node.resp_address.rpartition(":")[2])


def client_of(node: velum.Node, protocol: int = 2) -> Any:
    return redis.Redis(port=port_of(node), protocol=protocol, socket_timeout=PATIENCE_S)


# ---- redis-py ----


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_does_all_commands(node: velum.Node, protocol: int) -> None:
    r = client_of(node, protocol)
    assert r.ping() and r.echo("x") == b"x" and r.select(0)
    assert r.set("k", "v") and r.get("k") == b"v" and r.type("k") == b"string"
    assert r.set("k", "w", nx=True) is None and r.set("k", "w", xx=True, get=True) == b"v"
    assert r.set("k", "x", ex=100) and 98 <= r.ttl("k") <= 100
    assert r.set("k", "y", keepttl=True) and 98_000 <= r.pttl("k") <= 100_000
    assert r.persist("k") and r.ttl("k") == -1
    assert r.setex("e", 100, "1") and r.psetex("p", 100_000, "2") and r.setnx("n", "3")
    assert r.mget("e", "p", "n", "none") == [b"1", b"2", b"3", None]
    assert r.getex("n", ex=50) == b"3" and r.ttl("n") > 0 and r.getdel("n") == b"3"
    assert r.mset({"a": "1", "b": "2"}) and r.append("a", "0") == 2 and r.strlen("a") == 2
    assert r.exists("a", "b", "none") == 2
    assert r.incr("c") == 1 and r.incrby("c", 9) == 10 and r.decr("c") == 9
    assert r.decrby("c", 4) == 5 and r.get("c") == b"5" and r.incr("a", 5) == 15
    assert r.expire("c", 100) and r.pexpire("c", 90_000) and 88 <= r.ttl("c") <= 90
    assert r.expireat("c", int(time.time()) + 70) and 67 <= r.ttl("c") <= 70
    assert r.sadd("s", "x", "y", "z") == 3 and r.srem("s", "y", "none") == 1
    assert set(r.smembers("s")) == {b"x", b"z"} and r.sismember("s", "x") and r.scard("s") == 2
    assert r.hset("h", mapping={"f": "1", "g": "2"}) == 2 and r.hget("h", "f") == b"1"
    assert r.hgetall("h") == {b"f": b"1", b"g": b"2"} and r.hdel("h", "f", "none") == 1
    here = {b"k", b"e", b"p", b"a", b"b", b"c", b"s", b"h"}
    assert set(r.keys("*")) == here and set(r.scan_iter()) == here and r.dbsize() == len(here)
    assert r.keys("[ab]") in ([b"a", b"b"], [b"b", b"a"])
    assert r.delete("a", "none") == 1 and r.unlink("b") == 1
    assert r.client_id() > 0 and r.client_setname("me") and r.client_getname() in ("me", b"me")
    assert "redis_version" in r.info() and r.wait(0, 10) == 0
    with pytest.raises(redis.ResponseError, match="WRONGTYPE|wrong kind"):
        r.incr("s")
    with pytest.raises(redis.ResponseError, match="unknown command"):
        r.execute_command("LPUSH", "list", "1")
    assert r.flushdb() and r.dbsize() == 0
    assert r.execute_command("QUIT") in (b"OK", True, "OK")


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_subscribes(node: velum.Node, protocol: int) -> None:
    r = client_of(node, protocol)
    with r.pubsub() as subscriber:
        subscriber.subscribe("news")
        subscriber.psubscribe("__keyspace@0__:robots/*")
        seen: list[tuple[str, bytes, Any]] = []

        def came(count: int) -> bool:
            message = subscriber.get_message(timeout=0.05)
            if message is not None:
                seen.append((message["type"], message["channel"], message["data"]))
            return len(seen) >= count

        eventually(lambda: came(2), "it is subscribed")
        assert r.publish("news", "hello") == 1
        r.set("robots/1/x", "5")
        r.incr("robots/1/n")
        r.set("else", "5")
        r.delete("robots/1/x")
        eventually(lambda: came(6), "all messages come")
    robot = b"__keyspace@0__:robots/1/"
    assert seen[2:] == [
        ("message", b"news", b"hello"),
        ("pmessage", robot + b"x", b"set"),
        ("pmessage", robot + b"n", b"incrby"),
        ("pmessage", robot + b"x", b"del"),
    ]


def test_a_pipeline_and_many_clients(node: velum.Node) -> None:
    def work(number: int) -> None:
        r = client_of(node)
        for _ in range(20):
            pipe = r.pipeline(transaction=False)
            for n in range(100):
                pipe.set(f"{number}/{n}", n)
                pipe.incr("all")
            pipe.execute()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client_of(node).get("all") == b"%d" % (8 * 20 * 100)
    assert len(node.kv) == 801 and node.kv.get("all") == 16_000


# ---- beside a real one ----


class Connection:
    """A plain connection: requests out, replies (RESP2) in."""

    def __init__(self, port: int) -> None:
        self._stream = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self._in = self._stream.makefile("rb")

    def do(self, *args: bytes) -> Reply:
        self._stream.sendall(request(args))
        return self._reply()

    def _reply(self) -> Reply:
        line = self._in.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            return Refusal(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            size = int(rest)
            return None if size < 0 else self._in.read(size + 2)[:-2]
        assert kind == b"*", line
        count = int(rest)
        return None if count < 0 else [self._reply() for _ in range(count)]

    def close(self) -> None:
        self._in.close()
        self._stream.close()


@contextmanager
def real_server(folder: Path) -> Iterator[Connection]:
    """A redis-server that keeps nothing."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    words = ["redis-server", "--port", str(port), "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        found: list[Connection] = []

        def connects() -> bool:
            try:
                found.append(Connection(port))
            except OSError:
                return False
            return True

        eventually(connects, "redis-server serves")
        yield found[0]
        found[0].close()
    finally:
        process.kill()
        process.wait()


Args = tuple[bytes, ...]


def draw(rng: random.Random) -> Args:
    """One command, mostly a right one."""
    if rng.random() < 0.003:
        return (b"FLUSHDB",)
    kinds = rng.choice((on_strings, on_strings, on_keys, on_parts, on_nothing))
    return rng.choice(kinds(rng))


def some(rng: random.Random, most: int, of: list[bytes]) -> Args:
    """One to `most` of these, some perhaps twice."""
    return tuple(rng.choices(of, k=rng.randint(1, most)))


def pairs(rng: random.Random, most: int, of: list[bytes]) -> Args:
    """The same, each with a word behind it."""
    return tuple(word for name in some(rng, most, of) for word in (name, rng.choice(WORDS)))


def on_strings(rng: random.Random) -> list[Args]:
    """One of each kind."""
    key, word = rng.choice(KEYS), rng.choice(WORDS)
    seconds, number = rng.choice(SECONDS), rng.choice(NUMBERS)
    expiry = rng.choice(EXPIRIES)
    return [
        (b"SET", key, word),
        (b"SET", key, word, *expiry),
        (b"SET", key, word, rng.choice((b"NX", b"XX", b"GET", b"nx", b"ZZ"))),
        (b"SET", key, word, b"XX", b"GET", *expiry),
        (b"GET", key),
        (b"GETDEL", key),
        (b"GETEX", key, *rng.choice(((), (b"PERSIST",), (b"EX", seconds)))),
        (b"SETEX", key, seconds, word),
        (b"PSETEX", key, rng.choice((b"100000", b"0", b"-5", b"y")), word),
        (b"SETNX", key, word),
        (b"MGET", *some(rng, 4, KEYS)),
        (b"MSET", *pairs(rng, 3, KEYS)),
        (b"MSET", *pairs(rng, 3, KEYS), key),
        (b"APPEND", key, word),
        (b"STRLEN", key),
        (b"INCR", key),
        (b"DECR", key),
        (b"INCRBY", key, number),
        (b"DECRBY", key, number),
        (b"INCRBY", key, word),
    ]


def on_keys(rng: random.Random) -> list[Args]:
    """The same for what any key may be asked."""
    key, seconds = rng.choice(KEYS), rng.choice(SECONDS)
    return [
        (b"DEL", *some(rng, 3, KEYS)),
        (b"UNLINK", key),
        (b"EXISTS", *some(rng, 3, KEYS)),
        (b"TYPE", key),
        (b"EXPIRE", key, seconds),
        (b"PEXPIRE", key, rng.choice((b"100000", b"z", b"-1"))),
        (b"EXPIREAT", key, rng.choice((b"4102444800", b"1", b"q"))),
        (b"TTL", key),
        (b"PTTL", key),
        (b"PERSIST", key),
        (b"KEYS", rng.choice((b"*", b"key:?", b"key:1*", b"[a-k]*:[^1]", b"none"))),
        (b"DBSIZE",),
    ]


def on_parts(rng: random.Random) -> list[Args]:
    """The same for sets and hashes."""
    key, word, field = rng.choice(KEYS), rng.choice(WORDS), rng.choice(FIELDS)
    return [
        (b"SADD", key, *some(rng, 3, WORDS)),
        (b"SREM", key, *some(rng, 3, WORDS)),
        (b"SMEMBERS", key),
        (b"SISMEMBER", key, word),
        (b"SCARD", key),
        (b"HSET", key, *pairs(rng, 2, FIELDS)),
        (b"HSET", key, field),
        (b"HGET", key, field),
        (b"HGETALL", key),
        (b"HDEL", key, *some(rng, 2, FIELDS)),
    ]


def on_nothing(rng: random.Random) -> list[Args]:
    """The same for connections, and for what is no command."""
    word = rng.choice(WORDS)
    short = (b"GET", b"SET", b"HGET", b"EXPIRE", b"TTL", b"MSET", b"WAIT")
    return [
        (b"ECHO", word),
        (b"PING", *rng.choice(((), (word,), (b"a", b"b")))),
        (b"SELECT", rng.choice((b"0", b"x"))),
        (rng.choice(short),),
        (b"NOSUCH", word),
    ]


UNORDERED = {b"SMEMBERS", b"KEYS"}
TIMED = {b"TTL": TIME_SLACK_S, b"PTTL": 1000 * TIME_SLACK_S}


def as_told(args: Args, reply: Reply) -> Any:
    """What two servers must agree on: not the order of sets, nor the last moments of a time."""
    if isinstance(reply, Refusal):
        return ("error", str(reply))
    if isinstance(reply, list) and args[0] in UNORDERED:
        return sorted(reply)  # type: ignore[type-var]
    if isinstance(reply, list) and args[0] == b"HGETALL":
        return dict(zip(reply[::2], reply[1::2], strict=True))
    return reply


def agree(args: Args, mine: Reply, theirs: Reply) -> bool:
    slack = TIMED.get(args[0])
    if slack and isinstance(mine, int) and isinstance(theirs, int) and min(mine, theirs) > 0:
        return abs(mine - theirs) <= slack
    return bool(as_told(args, mine) == as_told(args, theirs))


@pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="no redis-server: apt-get install redis-server"
)
def test_random_commands_are_answered_as_redis_does(node: velum.Node, tmp_path: Path) -> None:
    rng = seeded("commands")
    mine = Connection(port_of(node))
    with real_server(tmp_path) as theirs:
        for number in range(COMMANDS):
            args = draw(rng)
            answers = mine.do(*args), theirs.do(*args)
            assert agree(args, *answers), (
                f"{number}: {args} is answered {answers[0]!r}, not {answers[1]!r}"
            )
    mine.close()
