"""Signals that are noted where they come, and acted on where that is safe."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from velum.cli import EXIT_INTERRUPTED, nodecmd
from velum.cli.signals import NUMBERS, Stop, StopRequested


@pytest.fixture
def stop(handlers: None) -> Stop:
    stop = Stop()
    stop.on_signals()
    return stop


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_is_seen_where_somebody_looks(stop: Stop, number: int) -> None:
    stop.check()
    signal.raise_signal(number)
    assert stop.asked
    with pytest.raises(StopRequested):
        stop.check()
    with pytest.raises(StopRequested):
        stop.sleep(20)


def test_two_at_once_are_one(stop: Stop) -> None:
    for number in NUMBERS:
        signal.raise_signal(number)
    with pytest.raises(StopRequested):
        stop.check()


def test_a_poke_wakes_and_asks_nothing(stop: Stop) -> None:
    for _ in range(3):
        stop.poke()
    began = time.monotonic()
    stop.sleep(20)
    threading.Timer(0.01, stop.poke).start()
    stop.sleep(20)
    assert time.monotonic() - began < 10


def test_another_thread_asks(stop: Stop) -> None:
    threading.Timer(0.01, stop.ask).start()
    with pytest.raises(StopRequested):
        stop.sleep(20)


def test_what_came_before_the_prompt_counts(stop: Stop) -> None:
    """Its modules take a while to be read; until then the handlers are those of `Stop`."""
    signal.raise_signal(signal.SIGTERM)
    nobody: Any = None  # neither node nor prompt is looked at
    with pytest.raises(StopRequested):
        nodecmd.prompt(nobody, nobody, stop)


def test_a_later_signal_ends_the_process() -> None:
    program = (
        "import signal, time\n"
        "from velum.cli.signals import ONE_SIGNAL_S, Stop\n"
        "stop = Stop(); stop.on_signals()\n"
        "signal.raise_signal(signal.SIGTERM)\n"
        "time.sleep(ONE_SIGNAL_S * 1.5)\n"
        "print('asked', stop.asked, flush=True)\n"
        "signal.raise_signal(signal.SIGINT)\n"
        "print('still here')\n"
    )
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, env={**os.environ})
    assert (done.returncode, done.stdout) == (EXIT_INTERRUPTED, "asked True\n")
