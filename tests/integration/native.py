"""Nodes without Python: velum-worker as a process of its own, and the C library built for tests.

Owns starting and ending such a process and what it prints; building csrc once in a folder of the
caller's. Refuses to know what a test is about. Works for emulated machines too: the command may
begin with an emulator.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.integration.meshes import PATIENCE_S, eventually
from velum.api import NodeInfo
from velum.client import Client

ROOT = Path(__file__).parents[2]


def tool(name: str) -> str | None:
    """The path of a program: beside this Python, else in PATH."""
    here = os.path.dirname(sys.executable)
    return shutil.which(name, path=os.pathsep.join([here, os.environ.get("PATH", "")]))


def run(*command: str | Path) -> str:
    """Runs a build step; its output when it failed is the failure's text."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build_core(folder: Path) -> Path:
    """Builds csrc as a stranger would, shared library included, in `folder`, which it returns."""
    cmake = tool("cmake")
    assert cmake is not None, "cmake is missing: pip install cmake"
    options = ["-DVELUM_SHARED=ON", f"-DPython_EXECUTABLE={sys.executable}"]
    downloads = next(ROOT.glob("build/**/third_party"), None)
    if downloads is not None:
        options.append(f"-DVELUM_DOWNLOADS={downloads}")
    run(cmake, "-S", ROOT / "csrc", "-B", folder, *options)
    run(cmake, "--build", folder, "-j", "2")
    return folder


class NativeNode:
    """A velum-worker that is a node; a context manager, in which it has joined."""

    def __init__(self, command: Sequence[str | Path], id: int, *options: str) -> None:
        self.id = id
        words = [str(word) for word in command] + ["--listen", "0", "--id", str(id), *options]
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.line = ""

    def __enter__(self) -> NativeNode:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
        self.line = self.process.stdout.readline() if ready else ""
        if not self.line:
            self.process.kill()
            _, errors = self.process.communicate()
            raise AssertionError(f"node {self.id} did not join: {errors}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.communicate()

    @property
    def address(self) -> str:
        """Where it listens, as it said: "node 7 at HOST:PORT joined through HOST:PORT"."""
        return self.line.split()[3]

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def leave(self) -> tuple[int, float]:
        """SIGTERM; its exit status, and the seconds it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S), time.monotonic() - began


def member(client: Client, id: int) -> NodeInfo | None:
    """What the client's node knows of a member."""
    return next((row for row in client.nodes() if row.id == id), None)


def wait_state(client: Client, id: int, *states: str, within: float = PATIENCE_S) -> float:
    """Waits until the client's node sees a member in one of these states; the seconds it took."""

    def is_so() -> bool:
        row = member(client, id)
        return row is not None and row.state in states

    return eventually(is_so, f"node {id} is {' or '.join(states)}", within)
