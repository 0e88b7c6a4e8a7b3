"""One hub and the loop that serves it: what a node and a client share.

Owns the order in which events are served, who runs the loop at a moment, and the way in for other
threads. Refuses to know what frames mean: services register handlers for event kinds and frame
types. Works by asking the hub for events until the nearest deadline of any service; a call from
another thread waits in a queue and wakes the hub only if it may be asleep.

The loop runs in one thread at a time. That is the runtime's own, but a thread that waits for an
answer would only sleep while that one works, and waking each other costs two threads more than a
call does. So it may `drive` the loop itself, for at most DRIVE_NS at a time; while calls follow
each other closely the runtime's thread stays back and looks every millisecond whether it is needed.
"""

from __future__ import annotations

import logging
import random
import signal
import threading
import time
from _signal import getsignal  # type: ignore[import-not-found]  # signal's own makes an enum
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from velum import _core
from velum.errors import code_of

log = logging.getLogger("velum")

DRIVE_NS = 2_000_000  # a longer wait is no longer about the cost of waking a thread
PATIENT_NS = 10_000_000_000  # of who waits for what may come at any time
LINGER_NS = 1_000_000  # how long after a drive the next one is expected
LOOK_NS = 5_000_000  # how often the runtime's thread looks whether a patient drive is over
STALE_NS = 4_000_000  # how old the nearest deadline may be while events follow each other
SPIN_US = 50  # how long a driving thread looks for its answer before it sleeps: a wake-up's cost

Handler = Callable[..., object]


def now_ms() -> int:
    """Milliseconds on the clock that every policy is given."""
    return time.monotonic_ns() // 1_000_000


def epoch_ms() -> int:
    """Unix time when the clock of policies was at 0."""
    return time.time_ns() // 1_000_000 - now_ms()


class Service(Protocol):
    """What the loop asks of each part of a node: when to be woken, and to be told that it is."""

    def next_deadline(self) -> int | None: ...

    def on_time(self, now: int) -> None: ...


class Runtime:
    """The loop. Build it, register, `start()`; what is registered runs in one thread at a time."""

    def __init__(self, hub: _core.Hub, name: str) -> None:
        self.hub = hub
        self.name = name
        self.services: list[Service] = []
        self.failure: BaseException | None = None
        self.random = random.Random()
        self.unfinished: Callable[[], int] = lambda: 0  # tasks that somebody waits for
        self._events: dict[int, Handler] = {}
        self._frames: dict[int, Handler] = {}
        self._at_end: list[Callable[[], None]] = []
        self._inbox: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._asleep = False
        self._stopping = False
        self.stopped = threading.Event()
        self._wheel = threading.Lock()  # held by the thread that runs the loop
        self._wanted = False  # a thread waits for the wheel
        self._busy = False  # the last turn had events
        self._due: int | None = None  # the nearest deadline, as of ...
        self._due_until = 0  # ... STALE_NS before this, monotonic ns
        self._drivers_until = 0  # monotonic ns; before it the runtime's thread stays back
        self._take_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._ident = 0  # of the thread, once it runs

    # ---- before the start ----

    def on_event(self, kind: int, handler: Handler) -> None:
        """Calls handler(*event) for events of a kind, the kind itself left out."""
        self._events[kind] = handler

    def on_frame(self, kind: int, handler: Handler) -> None:
        """Calls handler(link, correlation, body) for frames of a type."""
        self._frames[kind] = handler

    def at_end(self, function: Callable[[], None]) -> None:
        """Calls function() when the loop has ended, in order or not; the hub is still open."""
        self._at_end.append(function)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    # ---- from any thread ----

    def call_soon(self, function: Callable[..., object], *args: Any) -> None:
        """Runs function(*args) in the loop, soon."""
        self._inbox.append((function, args))
        if self._asleep:  # only the loop clears this: to be woken twice does it no harm
            self.hub.wake()

    def stop(self, failure: BaseException | None = None) -> None:
        """Ends the loop after what is queued; `failure` says why if it was not asked for."""
        self.call_soon(self._stop, failure)

    def join(self, timeout: float | None = None) -> bool:
        """Waits until the loop has ended and its hub is closed."""
        if threading.get_ident() == self._ident:
            return False
        return self.stopped.wait(timeout)

    def drive(
        self, done: Callable[[], bool], timeout: float | None = None, patient: bool = False
    ) -> None:
        """Runs the loop in the calling thread until done(), or for a short while; if `patient`, for
        a long one, but only until another thread wants to.

        Returns at once where the caller may not drive: another thread does, the caller is the
        runtime's thread, or the program handles Ctrl-C in a way of its own.
        """
        with held_back:
            if not self._stopping and self._take_wheel():
                self._drive(done, timeout, patient)

    def at_once(self, function: Callable[..., Any], *args: Any) -> Any:
        """What function(*args) returns, run in the calling thread, and what it has queued is on its
        way; None, and it was not run, unless nobody is working in the loop. It must not poll, and
        touch nothing but the hub that the loop's thread may be in the middle of using."""
        with held_back:
            if self._stopping or not self._may_drive():
                return None
            if self._wheel.acquire(blocking=False):
                return self._at_wheel(function, args)
            if not self.hub.enter():
                return None
            try:
                return function(*args)
            finally:
                self.hub.leave()

    def _at_wheel(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        more = True
        try:
            if self._stopping:
                return None
            result = function(*args)
            more = self.hub.turn() or bool(self._inbox)
            return result
        finally:
            self._drivers_until = 0 if more else time.monotonic_ns() + LINGER_NS
            self._wheel.release()
            if more:
                self._take_over.set()

    def _drive(self, done: Callable[[], bool], timeout: float | None, patient: bool) -> None:
        try:
            if self._stopping:  # the loop ended while this thread waited for the wheel
                return
            now = time.monotonic_ns()
            most = PATIENT_NS if patient else DRIVE_NS
            end = now + (most if timeout is None else min(most, int(timeout * 1e9)))
            self._drivers_until = end + LINGER_NS
            self._serve_inbox()
            if done():
                self.hub.flush()  # who waits for nothing wants it on its way
            while not done() and not self._stopping and now < end:
                self._turn(end // 1000, SPIN_US)
                if patient and (self._wanted or Interrupts.struck):
                    break
                now = time.monotonic_ns()
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            busy = not done() or self._inbox or self.unfinished()
            self._drivers_until = 0 if busy else time.monotonic_ns() + LINGER_NS
            self._wheel.release()
            if busy:
                self._take_over.set()

    # ---- who drives ----

    def _may_drive(self) -> bool:
        return threading.get_ident() != self._ident and Interrupts.allow()

    def _take_wheel(self) -> bool:
        if not self._may_drive():
            return False
        if self._wheel.acquire(blocking=False):
            return True
        if self._wanted or time.monotonic_ns() < self._drivers_until:
            return False  # another caller's drive serves this one too
        self._wanted = True
        self.hub.wake()
        got = self._wheel.acquire(timeout=DRIVE_NS / 1e9)
        self._wanted = False
        return got

    def _stay_back(self) -> None:
        while not self._stopping and (self._wanted or time.monotonic_ns() < self._drivers_until):
            left = self._drivers_until - time.monotonic_ns()
            self._take_over.wait((LOOK_NS if left > LOOK_NS else LINGER_NS) / 1e9)
            self._take_over.clear()

    # ---- the loop ----

    def _stop(self, failure: BaseException | None) -> None:
        self._stopping = True
        self.failure = self.failure or failure

    def _fail(self, error: BaseException) -> None:
        log.error("%s: the loop failed", self.name, exc_info=error)
        self._stop(error)

    def _run(self) -> None:
        self._ident = threading.get_ident()
        with self._wheel:
            self._guarded(self._serve_inbox)  # what was asked before the start comes first
        while not self._stopping:
            with self._wheel:
                while not (self._stopping or self._wanted):
                    self._guarded(self._turn)
            self._stay_back()
        with self._wheel:
            for function in (*self._at_end, self.hub.flush):
                self._guarded(function)
            self.hub.close()
            self.stopped.set()

    def _guarded(self, function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as error:  # the loop's end must be known, whatever ended it
            self._fail(error)

    def _turn(self, until_us: int | None = None, spin_us: int = 0) -> None:
        busy, self._busy = self._busy, False
        due = self._nearest(busy or spin_us > 0)
        if until_us is None or (due is not None and due * 1000 < until_us):
            until_us = None if due is None else due * 1000
        self._asleep = True
        if self._inbox or (busy and not spin_us):
            timeout_us = 0  # more may be there already; if not, the next turn sleeps
        elif until_us is None:
            timeout_us = -1
        else:
            timeout_us = max(0, until_us - time.monotonic_ns() // 1000)
        events = self.hub.poll(timeout_us, spin_us)
        self._asleep = False
        self._busy = bool(events)
        for event in events:
            self._serve(event)
        if self._inbox:
            self._serve_inbox()
        if due is not None and due <= (now := now_ms()):
            for service in self.services:
                deadline = service.next_deadline()
                if deadline is not None and deadline <= now:
                    service.on_time(now)

    def _nearest(self, quick: bool) -> int | None:
        """The nearest deadline of any service, ms; in the quick turns of a drive, and while events
        follow each other, one that may be STALE_NS old."""
        now = time.monotonic_ns()
        if not quick or now >= self._due_until:
            self._due_until = now + STALE_NS
            self._due = None
            for service in self.services:
                deadline = service.next_deadline()
                if deadline is not None and (self._due is None or deadline < self._due):
                    self._due = deadline
        return self._due

    def _serve_inbox(self) -> None:
        inbox = self._inbox
        for _ in range(len(inbox)):
            function, args = inbox.popleft()
            function(*args)

    def _serve(self, event: Any) -> None:
        kind = event[0]
        if kind == _core.FRAME:
            handler = self._frames.get(event[2])
            if handler is None:
                self.hub.drop(
                    event[1], code_of("UNEXPECTED"), "this side does not expect such a frame"
                )
            else:
                handler(event[1], event[3], event[4])
            return
        handler = self._events.get(kind)
        if handler is not None:
            handler(*event[1:])


class Interrupts:
    """Keeps Ctrl-C out of the loop while the main thread drives it.

    KeyboardInterrupt would strike between any two steps of a policy. As asyncio.Runner does, the
    default handler is replaced by one that notes the signal; it is raised when the drive has ended.
    A program with a handler of its own keeps it, and its main thread does not drive.
    """

    main = threading.main_thread().ident
    driving = False
    struck = False

    @staticmethod
    def allow() -> bool:
        """Whether the calling thread may drive: it is not the main one, or Ctrl-C is ours."""
        if threading.get_ident() != Interrupts.main:
            return True
        handler = getsignal(signal.SIGINT)
        if handler is signal.default_int_handler:
            signal.signal(signal.SIGINT, Interrupts.strike)
            return True
        return handler is Interrupts.strike

    @staticmethod
    def strike(_signal: int, _frame: object) -> None:
        """The handler of SIGINT; runs in the main thread."""
        if not Interrupts.driving:
            raise KeyboardInterrupt
        Interrupts.struck = True

    def __enter__(self) -> None:
        """Before the wheel is taken: it must be let go of again."""
        if threading.get_ident() == Interrupts.main:
            Interrupts.driving = True

    def __exit__(self, *_: object) -> None:
        """The wheel is let go of: raises in the main thread what struck meanwhile."""
        if threading.get_ident() == Interrupts.main:
            Interrupts.driving = False
            if Interrupts.struck:
                Interrupts.struck = False
                raise KeyboardInterrupt


held_back = Interrupts()
