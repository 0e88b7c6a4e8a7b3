"""memcached and Redis, behind the clients for Python that their users take.

Owns their servers, which are started for one run on free ports with nothing written to disk, and
how each client puts and gets one value or many. A server or client that is not installed is named
with what is missing, and left out.

A put is acknowledged in every one of them. The clients give values as new bytes: none takes a
buffer of the caller's.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

from servers import redis_server, server
from storage_work import PIECE_BYTES, Load, Pair, PythonSystem

ANSWER_S = 60.0
NEEDED = {  # by client: (its server's program, its Debian package)
    "pylibmc": ("memcached", "memcached"),
    "pymemcache": ("memcached", "memcached"),
    "redis": ("redis-server", "redis-server"),
}
FLAGS = {
    "memcached": "-m 6144 -t 1 -I 1024m -U 0 -l 127.0.0.1",
    "redis-server": "--proto-max-bulk-len 2gb --client-query-buffer-limit 2gb --appendonly no",
}
"""What one value of 1 GiB needs; the rest is as Debian's packages have it."""


def missing() -> dict[str, str]:
    """By client, why it is left out."""
    found = {}
    for client, (program, package) in NEEDED.items():
        if shutil.which(program) is None:
            found[client] = f"no {program}: apt-get install {package}"
        elif importlib.util.find_spec(client) is None:
            found[client] = f"no Python package {client}: pip install {client}"
    return found


def versions() -> dict[str, str]:
    """Of those that are here."""
    here = [client for client in NEEDED if client not in missing()]
    found = {client: version(client) for client in here}
    if "redis" in here and importlib.util.find_spec("hiredis"):
        found["hiredis"] = version("hiredis")  # redis-py parses with it if it is there
    for program in dict.fromkeys(NEEDED[client][0] for client in here):
        said = subprocess.run([program, "--version"], stdout=subprocess.PIPE, text=True).stdout
        words = said.replace("v=", " ").split()
        found[program] = next(word for word in words if word[0].isdigit())
    return found


# ---- clients ----


class Memcached(PythonSystem):
    """memcached; it takes values of 1 GiB in pieces. Its clients have the same calls."""

    piece = PIECE_BYTES
    _client: Any

    def put_one(self, name: str, value: bytes) -> None:
        if not self._client.set(name, value):
            raise SystemExit(f"memcached did not take {name}")

    def get_one(self, name: str) -> Any:
        return self._client.get(name)

    def put_many(self, some: Sequence[Pair]) -> None:
        if self._client.set_multi(dict(some)):
            raise SystemExit("memcached did not take a batch")

    def get_many(self, names: Sequence[str]) -> Sequence[Any]:
        found = self._client.get_multi(names)
        return [found[name] for name in names]

    def remove(self, name: str) -> None:
        self._client.delete(name)


class Pylibmc(Memcached):
    """memcached through libmemcached."""

    def __init__(self, port: int) -> None:
        import pylibmc

        super().__init__("memcached, pylibmc")
        ways = {"tcp_nodelay": True, "connect_timeout": 1000 * int(ANSWER_S)}
        waits = {"send_timeout": 10**6 * int(ANSWER_S), "receive_timeout": 10**6 * int(ANSWER_S)}
        self._client = pylibmc.Client([f"127.0.0.1:{port}"], behaviors=ways | waits)


class Pymemcache(Memcached):
    """memcached through a client of plain Python; names of its own, on the same server."""

    def __init__(self, port: int) -> None:
        from pymemcache.client.base import Client

        super().__init__("memcached, pymemcache")
        self._client = Client(
            ("127.0.0.1", port),
            default_noreply=False,
            no_delay=True,
            timeout=ANSWER_S,
            key_prefix=b"p",
        )


class Redis(PythonSystem):
    """Redis through redis-py; values of any size whole."""

    def __init__(self, port: int, name: str = "Redis, redis-py") -> None:
        import redis

        super().__init__(name)
        self._client = redis.Redis(port=port, socket_timeout=ANSWER_S)

    def put_one(self, name: str, value: bytes) -> None:
        self._client.set(name, value)

    def get_one(self, name: str) -> Any:
        return self._client.get(name)

    def put_many(self, some: Sequence[Pair]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for name, value in some:
            pipeline.set(name, value)
        pipeline.execute()

    def get_many(self, names: Sequence[str]) -> Sequence[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for name in names:
            pipeline.get(name)
        found: list[Any] = pipeline.execute()
        return found

    def remove(self, name: str) -> None:
        self._client.delete(name)


class RedisPieces(Redis):
    """The same for values that are better cut in pieces."""

    piece = PIECE_BYTES

    def __init__(self, port: int) -> None:
        super().__init__(port, "Redis, redis-py, pieces")

    def takes(self, load: Load) -> bool:
        return load.size > self.piece


class RedisMany(Redis):
    """The same for many values by commands of its own for that, MSET and MGET."""

    def __init__(self, port: int) -> None:
        super().__init__(port, "Redis, redis-py, MSET and MGET")

    def takes(self, load: Load) -> bool:
        return load.window > 1

    def put_many(self, some: Sequence[Pair]) -> None:
        self._client.mset(dict(some))

    def get_many(self, names: Sequence[str]) -> Sequence[Any]:
        found: list[Any] = self._client.mget(names)
        return found


# ---- servers ----


@contextlib.contextmanager
def rivals(names: set[str]) -> Iterator[list[PythonSystem]]:
    """Those of these clients that are installed, with servers of their own."""
    here = names & set(NEEDED) - set(missing())
    systems: list[PythonSystem] = []
    with contextlib.ExitStack() as stack:
        if here & {"pylibmc", "pymemcache"}:
            words = ["memcached", *FLAGS["memcached"].split(), "-u", "root"]
            port = stack.enter_context(server(words, "-p"))
            systems += [Pylibmc(port)] if "pylibmc" in here else []
            systems += [Pymemcache(port)] if "pymemcache" in here else []
        if "redis" in here:
            port = stack.enter_context(redis_server(*FLAGS["redis-server"].split()))
            systems += [Redis(port), RedisPieces(port), RedisMany(port)]
        yield systems
