"""Who drives the loop: callers in many threads, and Ctrl-C in the middle of it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

import velum
from velum import _core
from velum.runtime import DRIVE_NS, Runtime

CALLS = 300
STRIKES = 25
DEADLINE_S = 20

# Calls one after another; each Ctrl-C must come out of a call as KeyboardInterrupt, between whole
# steps of the node, and the next call must work. A line a strike tells the parent to strike again.
STRUCK = """
import sys, velum
{prepare}
with velum.Node(1, 0, beacon=False, workers=0) as node:
    for strike in range({strikes}):
        try:
            print("ready", flush=True)
            while True:
                assert node.spawn("add", 20, 22).result() == 42
        except {error}:
            pass
    assert node.spawn("add", 20, 22).result() == 42
    assert node.nodes()[0].state == "alive"
print("done", flush=True)
"""
OWN_HANDLER = """
import signal
class Struck(Exception): pass
def handler(number, frame): raise Struck
signal.signal(signal.SIGINT, handler)
"""


def test_many_threads_call_one_after_another() -> None:
    wrong: list[object] = []
    with velum.Node(1, 0, beacon=False, workers=0) as node:

        def work(thread: int) -> None:
            for number in range(CALLS):
                value = node.spawn("add", thread, number).result(DEADLINE_S)
                if value != thread + number:
                    wrong.append((thread, number, value))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
            assert not thread.is_alive()
    assert wrong == []


def test_the_loop_is_taken_back_when_callers_pause() -> None:
    with velum.Node(1, 0, beacon=False, workers=0) as node:
        for pause_ns in (0, DRIVE_NS // 4, DRIVE_NS, 3 * DRIVE_NS) * 5:
            assert node.spawn("mul", 6, 7).result(DEADLINE_S) == 42
            time.sleep(pause_ns / 1e9)  # the pause is what is tested, not waited for
            assert node.nodes()[0].me  # asked of the loop, which somebody must run


def test_a_wait_that_times_out() -> None:
    with velum.Node(1, 0, beacon=False, workers=0) as node:
        nobody = node.spawn_wasm(WASM, "run", 1)
        began = time.monotonic()
        with pytest.raises(velum.node.FutureTimeout):
            nobody.result(0.05)
        assert time.monotonic() - began >= 0.05
        assert node.spawn("sub", 50, 8).result(DEADLINE_S) == 42
        assert nobody.cancel()


# A module with one function, run(i32) -> i32, that a node without workers never gets to run.
WASM = bytes.fromhex(
    "0061736d 01000000 010601 60017f017f 03020100 0707010372756e0000 0a0601040020000b"
)


@pytest.mark.parametrize(
    ("prepare", "error"), [("", "KeyboardInterrupt"), (OWN_HANDLER, "Struck")], ids=["ours", "own"]
)
def test_ctrl_c_between_calls(prepare: str, error: str) -> None:
    program = STRUCK.format(prepare=prepare, error=error, strikes=STRIKES)
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    watchdog = threading.Timer(DEADLINE_S, process.kill)
    watchdog.start()
    try:
        strikes = 0
        for line in process.stdout:
            if line == "done\n":
                break
            time.sleep(0.002 + 0.0007 * strikes)  # strikes anywhere in the stream of calls
            process.send_signal(signal.SIGINT)
            strikes += 1
        assert process.wait(DEADLINE_S) == 0, process.stderr.read()
        assert strikes == STRIKES
        assert "Traceback" not in process.stderr.read()
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_a_loop_that_ends_while_a_thread_waits_for_the_wheel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The hub is closed then, and nothing more may be done with it."""
    runtime = Runtime(_core.Hub(), "ends")
    runtime.start()
    take_wheel = runtime._take_wheel
    late: list[int] = []

    def ends_first() -> bool:
        runtime.stop()
        assert runtime.join(20)
        runtime.call_soon(late.append, 1)
        return take_wheel()

    monkeypatch.setattr(runtime, "_take_wheel", ends_first)
    runtime.drive(lambda: False, 0.1)
    assert runtime.failure is None and not late
