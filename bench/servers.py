"""Servers of other systems, each started for one run on a free port, and ended with it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator

READY_S = 10.0


def free_port() -> int:
    """A TCP port of the loopback that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port: int = held.getsockname()[1]
        return port


@contextlib.contextmanager
def server(words: list[str], option: str) -> Iterator[int]:
    """A program that is told its port by this option; the port, once it answers there."""
    port = free_port()
    process = subprocess.Popen([*words, option, str(port)], stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + READY_S
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{words[0]} does not serve")
            time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
