"""The prompt of a real node on a real terminal: a pseudo-terminal typed at like a person would."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from velum.localmesh import LocalMesh
from velum.machine import free_beacon_port

ROOT = Path(__file__).parents[2]
PATIENCE_S = 20.0
_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|[()][A-Z0-9]|[=>])")


class Terminal:
    """A program behind a pseudo-terminal; `expect` reads until a pattern has come."""

    def __init__(self, words: list[str], folder: Path) -> None:
        self._master, slave = os.openpty()
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        environment = {
            **os.environ,
            "TERM": "xterm",
            "NO_COLOR": "1",
            "PROMPT_TOOLKIT_NO_CPR": "1",
            "XDG_STATE_HOME": str(folder),
        }
        self.process = subprocess.Popen(
            words,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            cwd=ROOT,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C is a signal
        )
        os.close(slave)
        self._unread = ""

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def expect(self, pattern: str) -> re.Match[str]:
        """Waits for the pattern in what was not yet matched; fails with the screen's text."""
        end = time.monotonic() + PATIENCE_S
        while True:
            text = _ESCAPES.sub("", self._unread).replace("\r", "")
            found = re.search(pattern, text)
            if found:
                self._unread = text[found.end() :]
                return found
            left = end - time.monotonic()
            if left <= 0 or not self._read(left):
                pytest.fail(f"no {pattern!r} on the terminal; it shows:\n{text}")

    def wait_mode(self, *, signals: bool) -> None:
        """Waits until Ctrl-C is a signal, or a key like any other: the prompt's mode."""
        end = time.monotonic() + PATIENCE_S
        while bool(termios.tcgetattr(self._master)[3] & termios.ISIG) != signals:
            assert time.monotonic() < end, "the terminal's mode has not changed"
            time.sleep(0.01)

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], seconds)
        try:
            data = os.read(self._master, 65536) if ready else b""
        except OSError:  # Linux says EIO when the program has ended
            data = b""
        self._unread += data.decode(errors="replace")
        return bool(data)

    def ended(self) -> int:
        """Reads to the end; the program's status."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and self._read(1.0):
            pass
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def beacon_port() -> int:
    return free_beacon_port()


@pytest.fixture
def terminal(tmp_path: Path, beacon_port: int) -> Iterator[Terminal]:
    words = [sys.executable, "-m", "velum.node", "7", "--port", "0", "--workers", "1"]
    terminal = Terminal([*words, "--beacon-port", str(beacon_port)], tmp_path)
    try:
        terminal.expect(r"node 7 at 127\.0\.0\.1:\d+, 1 worker")
        terminal.expect("velum>")
        yield terminal
    finally:
        terminal.close()


def test_lines_completion_and_quit(terminal: Terminal, tmp_path: Path) -> None:
    terminal.type("add 10 20\r")
    terminal.expect(r"30   \(node 7, [\d.]+ (us|ms)\)")
    terminal.type("div 1 0\r")
    terminal.expect("error: .*division by zero")
    terminal.type("wasm tests/guests/pri\t")
    terminal.expect("primes.wasm")
    terminal.type(" cou\t")
    terminal.expect("count_primes")
    terminal.type(" 0 1000\r")
    terminal.expect(r"168   \(node 7, ")
    terminal.type("nodes\r")
    terminal.expect(r"\*7 +alive")
    terminal.type("quit\r")
    assert terminal.ended() == 0
    assert "+add 10 20" in (tmp_path / "velum" / "history").read_text()


def test_peers_are_announced_above_the_prompt(terminal: Terminal, beacon_port: int) -> None:
    options = ["--beacon-port", str(beacon_port), "--workers", "1"]
    with LocalMesh([8], ports=lambda _: 0, options=options) as other:
        terminal.expect(r"\+ node 8 127\.0\.0\.1:\d+")
        terminal.type("add 1 2 --on 8\r")
        terminal.expect(r"3   \(node 8, ")
        other.kill(8)
        terminal.expect("- node 8 lost")
    # The prompt steps aside for such a line, and Ctrl-D is a key only when it is back.
    terminal.wait_mode(signals=False)
    terminal.type("\x04")
    assert terminal.ended() == 0


def test_ctrl_c_stops_the_task_then_leaves(terminal: Terminal) -> None:
    terminal.type("wasm tests/guests/loop.wasm forever\r")
    terminal.expect("loop.wasm forever\n")
    # The prompt gives the terminal back before the task is sent; only then is Ctrl-C a signal.
    terminal.wait_mode(signals=True)
    terminal.type("\x03")
    terminal.expect("cancelled")
    terminal.type("add 1 1\r")
    terminal.expect(r"2   \(node 7, ")
    terminal.expect("velum>")
    terminal.type("half a line\x03")
    terminal.expect("velum>")
    terminal.type("\x03")
    assert terminal.ended() == 0


def test_sigint_at_the_prompt_is_ctrl_c(terminal: Terminal) -> None:
    terminal.type("half a line")
    terminal.expect("half a line")
    terminal.process.send_signal(signal.SIGINT)  # clears the line
    terminal.type("add 1 1\r")
    terminal.expect(r"2   \(node 7, ")
    terminal.wait_mode(signals=False)  # the next prompt is there
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.ended() == 0


def test_sigterm_at_the_prompt_leaves(terminal: Terminal) -> None:
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.ended() == 0
