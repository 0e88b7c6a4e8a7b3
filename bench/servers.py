"""Programs beside Velum, each compiled or started for one run, and ended with it.

Owns how C is compiled, how a process is ended, and how a server of another system gets a free port
and is waited for.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

READY_S = 10.0


def compiled(source: Path, target: Path, *flags: str, after: Sequence[str] = ()) -> Path:
    """A program or library of C; libraries come after the source."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("the figures need a C compiler")
    words = [compiler, "-O2", *flags, "-o", str(target), str(source), *after]
    subprocess.run(words, check=True)
    return target


@contextlib.contextmanager
def process(words: Sequence[str], stdin: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """A program whose output can be read."""
    with subprocess.Popen(words, stdin=stdin, stdout=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            started.kill()


def free_port() -> int:
    """A TCP port of the loopback that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port: int = held.getsockname()[1]
        return port


@contextlib.contextmanager
def server(words: Sequence[str], option: str) -> Iterator[int]:
    """A program that is told its port by this option; the port, once it answers there."""
    port = free_port()
    with subprocess.Popen([*words, option, str(port)], stdout=subprocess.DEVNULL) as started:
        try:
            end = time.monotonic() + READY_S
            while not _answers(port):
                if started.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"{words[0]} does not serve")
                time.sleep(0.02)
            yield port
        finally:
            started.kill()


@contextlib.contextmanager
def redis_server(*options: str) -> Iterator[int]:
    """A redis-server that writes no snapshots; its port. What a copy gets from its master lies in a
    folder of its own, unless the options name one."""
    words = ("redis-server", "--save", "", "--bind", "127.0.0.1")
    with tempfile.TemporaryDirectory(prefix="velum-redis-") as folder:
        with server([*words, "--dir", folder, *options], "--port") as port:
            yield port


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
