"""The limit that stores are measured against: plain_store.c, compiled and run.

Owns its processes: one or more servers, one client, which does what its standard input says and
measures it itself; and two processes with a link, for what that carries.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import servers
from figures import ROOT
from storage_work import Load, System

SOURCE = Path(__file__).with_name("plain_store.c")
BUILD = ROOT / "build" / "editable"
FLAGS = ("-std=c99", "-D_GNU_SOURCE")
DEFAULT = "default"  # the system's congestion control
LINK_ROUNDS = 4


def compiled(folder: Path) -> Path:
    """The program."""
    return servers.compiled(SOURCE, folder / "plain_store", *FLAGS)


def compiled_hashing(folder: Path) -> Path:
    """The same that hashes, with the BLAKE3 that Velum was built with."""
    (header,) = BUILD.glob("third_party/blake3-*/c_impl/vendor/blake3.h")
    words = ("-DHASHING", f"-I{header.parent}")
    libraries = (str(BUILD / "csrc" / "libvelum.a"), "-lm", "-pthread")
    return servers.compiled(SOURCE, folder / "hashing_store", *FLAGS, *words, after=libraries)


class Plain(System):
    """A client of it; `control` is the congestion control that its connections have."""

    def __init__(
        self, name: str, kind: str, client: subprocess.Popen[str], loads: set[Load]
    ) -> None:
        super().__init__(name)
        self.kind = kind
        self._client = client
        self._loads = loads
        self.control = self._answer()

    def takes(self, load: Load) -> bool:
        return load in self._loads

    def put(self, load: Load) -> float:
        return float(self._do("put", load))

    def get(self, load: Load) -> float:
        return float(self._do("get", load))

    def check(self, load: Load) -> bool:
        return self._do("check", load) == "equal"

    def _do(self, word: str, load: Load) -> str:
        assert self._client.stdin is not None
        self._client.stdin.write(f"{word} {load.count} {load.size} {load.window}\n")
        self._client.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self._client.stdout is not None
        line = self._client.stdout.readline()
        if not line:
            raise SystemExit(f"plain_store ended with status {self._client.wait()}")
        return line.strip()


@contextlib.contextmanager
def plain(
    program: Path,
    name: str,
    loads: set[Load],
    control: str = DEFAULT,
    count: int = 1,
    kind: str = "plain",
) -> Iterator[Plain]:
    """Servers and a client with room for any of the loads. A put goes to all the servers; more than
    one show what a client that has to ask several processes can reach."""
    room = str(max(load.bytes for load in loads))
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            words = [str(program), "serve", control, room]
            server = stack.enter_context(servers.process(words, subprocess.PIPE))
            assert server.stdout is not None
            ports.append(server.stdout.readline().strip())
        words = [str(program), "client", control, room, *ports]
        client = stack.enter_context(servers.process(words, subprocess.PIPE))
        yield Plain(name, kind, client, loads)


def link_rates(program: Path, control: str, size: int) -> dict[str, float]:
    """Bytes a second between two processes: `one` sends to the other, or `both` at once, and then
    of both directions together."""
    rates = {}
    for ways, times in (("one", 1), ("both", 2)):
        words = [str(program), "link", control, str(size), str(LINK_ROUNDS), ways]
        found = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
        seconds = [float(line) for line in found.stdout.split()]
        rates[ways] = times * size / median(seconds[1:])  # the first one widens the window
    return rates
