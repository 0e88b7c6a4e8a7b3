"""The request to stop: a signal noted where it comes, and acted on where that is safe.

Owns: the handlers of a program that serves until SIGTERM or Ctrl-C, and the main thread's sleep
meanwhile. Refuses to know what has to be stopped. An exception raised by a handler strikes between
any two steps: in `threading.Event.wait` it leaves a lock neither held nor free. So the handler only
notes, and the main thread looks: at once when it sleeps here, else when it next calls `check`.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from velum.cli import EXIT_INTERRUPTED

# A signal may be taken by another thread, as by a process that was stopped and goes on: the main
# thread, which must act on it, is not woken by that and looks by itself.
LOOK_S: Final = 0.5
ONE_SIGNAL_S: Final = 0.2  # a process and its group are often told together: that is one request
NUMBERS: Final = (signal.SIGTERM, signal.SIGINT)


class StopRequested(BaseException):
    """Somebody asked this program to end; not an error, and not to be caught as one."""


class Stop:
    """Whether this program was asked to end. For the main thread, but for `ask` and `poke`."""

    def __init__(self) -> None:
        self.asked = False
        self._sleep = threading.Lock()  # a bare lock: nothing can leave it in between
        self._sleep.acquire()

    def on_signals(self) -> None:
        """From now on the first signal asks, and one that comes later ends the process at once."""
        for number in NUMBERS:
            signal.signal(number, self._struck)

    def _struck(self, *_: object) -> None:
        end_at_next_signal()
        self.ask()

    def ask(self) -> None:
        """The same as a signal; from any thread."""
        self.asked = True
        self.poke()

    def poke(self) -> None:
        """Wakes who sleeps, or will; from any thread."""
        with suppress(RuntimeError):  # poked twice
            self._sleep.release()

    def check(self) -> None:
        """Raises StopRequested if it was asked."""
        if self.asked:
            raise StopRequested

    def sleep(self, seconds: float = LOOK_S) -> None:
        """Until `poke`, at most so long. Raises StopRequested if it was asked."""
        self.check()
        self._sleep.acquire(timeout=seconds)
        self.check()


def at_next_signal(act: Callable[[], object]) -> None:
    """Each that comes after ONE_SIGNAL_S does this, in the handler."""
    from_now = time.monotonic() + ONE_SIGNAL_S

    def struck(*_: object) -> None:
        if time.monotonic() > from_now:
            act()

    for number in NUMBERS:
        signal.signal(number, struck)


def end_at_next_signal() -> None:
    """One that comes after ONE_SIGNAL_S ends the process, whatever it is doing."""
    at_next_signal(partial(os._exit, EXIT_INTERRUPTED))
