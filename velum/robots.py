"""`velum.RobotNode`: a node that is a robot, and shares what it knows of itself with the fleet.

Owns: a robot's name, its id and its log, its attributes as keys, and the threads that hear of the
others. Refuses to know: how the state is kept (`velum.kv`) and what a fleet looks like
(`velum.fleet`).

    with velum.RobotNode("robot_A", 8080) as robot:
        robot.position = [10, 20]
        robot.status = "active"
        for other in robot.nearest((0, 0), 3):
            print(other.name, other.position, other.figures["position"].age)

An attribute is the key ``robots/NAME/ATTRIBUTE``, JSON; all robots have it within milliseconds.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from velum import fleet
from velum.errors import VelumError, code_of, error_from
from velum.fleet import Fleet, Robot

if TYPE_CHECKING:
    from velum.kv import Kv
    from velum.kvwatch import Change, Watch
    from velum.node import Node

log = logging.getLogger("velum.robots")

LOGS: Final = "logs"  # the folder of logs, in the current one
NAME_BYTES_MAX: Final = 200  # it names files, with endings: a name of those may have 255
IDS: Final = 65535  # a node's id is 1..65535
JOIN_S: Final = 5.0  # a function that was told of a change may be as long under way
FIRST_S: Final = 5.0  # `fleet` waits so long to be told the state, once


class RobotNode:
    """A robot: a node with a name. Any thread; a context manager, `close` leaves the mesh.

    Attributes that are not words of this class are figures of the robot: they are written at once,
    here and in its log, and read as they are now. `position`, `status` and `battery` are None until
    they are set; another that was never set is an AttributeError. What JSON can say can be a
    figure; bytes go into `kv` under a key of their own.
    """

    position: Any
    status: Any
    battery: Any

    def __init__(
        self,
        name: str,
        port: int,
        *,
        id: int | None = None,
        log: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        """Starts the robot `name` on `port` (0: any free one).

        Its node's id is `id`, or `node_id(name, port)`: the same at every start. Its state is in
        `log`, or logs/NAME.log, whose folder is made. `options` are those of `Node`. Raises
        VelumError ARGUMENT for a name that cannot be one, and what `Node` raises.
        """
        from velum.node import Node

        check_name(name)
        path = Path(LOGS, f"{name}.log") if log is None else Path(log)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._name = name
        self._fleet = Fleet()
        self._guard = threading.Lock()  # of the fleet and of the watches
        self._told = threading.Event()
        self._watches: list[Subscription] = []
        self._closed = False
        self._node: Node = Node(
            node_id(name, port) if id is None else id, port, log=path, **options
        )
        try:
            if self.kv.get(fleet.key_of(name, fleet.NODE)) != self._node.id:
                self._set(fleet.NODE, self._node.id)
            self._follow()
        except BaseException:
            self.close()
            raise

    # ---- what it is ----

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def node(self) -> Node:
        """The node that it is."""
        return self._node

    @property
    def kv(self) -> Kv:
        """The whole state, other robots' keys too."""
        return self._node.kv

    # ---- its figures ----

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):
            raise AttributeError(attribute)
        entry = self.kv.entry(fleet.key_of(self._name, attribute))
        if entry is not None:
            return fleet.meaning(entry.value)
        if attribute in fleet.KNOWN:
            return None
        raise AttributeError(f"{self._name} has no {attribute!r}; set it: robot.{attribute} = ...")

    def __setattr__(self, attribute: str, value: Any) -> None:
        if attribute.startswith("_"):
            object.__setattr__(self, attribute, value)
            return
        self._check_attribute(attribute)
        if isinstance(value, (bytes, bytearray, memoryview)):
            raise TypeError(f"{attribute} is to be text, numbers, lists: bytes go into robot.kv")
        self._set(attribute, value)

    def __delattr__(self, attribute: str) -> None:
        self._check_attribute(attribute)
        if not self.kv.delete(fleet.key_of(self._name, attribute)):
            raise AttributeError(f"{self._name} has no {attribute!r}")
        with self._guard:
            self._fleet.gone(fleet.key_of(self._name, attribute))

    def _check_attribute(self, attribute: str) -> None:
        if hasattr(type(self), attribute):
            raise AttributeError(f"{attribute!r} is a word of RobotNode; call the figure otherwise")

    def _set(self, attribute: str, value: Any) -> None:
        key = fleet.key_of(self._name, attribute)
        written = self.kv.put(key, value)
        with self._guard:  # so that its own fleet has it at once
            self._fleet.note(key, value, written.version, time.monotonic())

    # ---- the others ----

    def fleet(self) -> dict[str, Robot]:
        """All robots by name, itself and those that are away too."""
        self._told.wait(FIRST_S)
        states = {info.id: info.state for info in self._node.nodes()}
        with self._guard:
            return self._fleet.robots(
                lambda node: states.get(node, "unknown"), time.monotonic(), _unix_ms()
            )

    def nearest(self, point: Sequence[float], count: int = 1) -> list[Robot]:
        """The robots nearest to a point, the nearest first, itself too; by `position`, a list of
        as many numbers. Those that are away are not meant."""
        return fleet.nearest(self.fleet().values(), point, count)

    def on_change(self, pattern: str, function: Callable[[Change], object]) -> Subscription:
        """Calls function(change) for every change from now on of keys that a pattern fits, as
        ``robots/*/position``, whoever makes it; in a thread of its own, one after the other.

        A change whose event is "missed" says that some were lost to a function that was too slow.
        Ends with `close` of what is returned, or of the robot.
        """
        watch = self.kv.watch(pattern, state=False)
        subscription = Subscription(watch, _but_now(function), f"{self._name} {pattern}")
        return self._keep(subscription)

    def _follow(self) -> None:
        """Hears of the fleet, the current state first."""
        with self._guard:
            self._fleet.begin()
        watch = self.kv.watch(fleet.PATTERN)
        self._keep(Subscription(watch, self._hear, f"{self._name} fleet"))

    def _keep(self, subscription: Subscription) -> Subscription:
        with self._guard:
            self._watches = [known for known in self._watches if known.open]
            closed = self._closed
            self._watches.append(subscription)
        if closed:
            subscription.close()
        return subscription

    def _hear(self, change: Change) -> None:
        key, event = change.key, change.event
        if event == "missed":  # begins anew: the whole state is told again
            with contextlib.suppress(VelumError):
                self._follow()
            raise Over
        with self._guard:
            if event == "now":
                self._fleet.now()
                self._told.set()
            elif event in ("set", "state", "count"):
                value = fleet.meaning(change.value)
                self._fleet.note(key, value, change.version, time.monotonic())
            elif event in ("del", "expired"):
                self._fleet.gone(key)
        if key == fleet.key_of(self._name, fleet.NODE) and event == "set":
            if change.value != self._node.id:
                log.warning("node %s is called %s too", change.value, self._name)

    # ---- its end ----

    def close(self) -> None:
        """Leaves the mesh; what it has told stays, and it is away."""
        with self._guard:
            self._closed = True
            watches = list(self._watches)
        for subscription in watches:
            subscription.close()
        self._node.close()

    def __enter__(self) -> RobotNode:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Over(Exception):
    """A function that is told of changes wants no more."""


class Subscription:
    """A function that is called with changes, by a thread of its own."""

    def __init__(self, watch: Watch, function: Callable[[Change], object], name: str) -> None:
        self._watch = watch
        self._function = function
        self._thread = threading.Thread(target=self._run, name=f"velum {name}", daemon=True)
        self._thread.start()

    @property
    def open(self) -> bool:
        """Whether it is called yet."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Ends it: once this returns it is not called any more, unless it is what calls."""
        self._watch.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(JOIN_S)

    def _run(self) -> None:
        try:
            for change in self._watch:
                try:
                    self._function(change)
                except Over:
                    return
                except Exception:
                    log.exception("a function that was told of %s has failed", change.key)
        except VelumError as error:  # the node has ended
            log.debug("no more changes: %s", error)
        finally:
            self._watch.close()


def _but_now(function: Callable[[Change], object]) -> Callable[[Change], object]:
    """Without the event "now", which says nothing to who does not ask for the state."""
    return lambda change: function(change) if change.event != "now" else None


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000


def node_id(name: str, port: int) -> int:
    """The id of a robot's node: the CRC-32 (as of zip files) of "NAME:PORT" modulo 65,535, plus 1.

    Of 20 robots two have one id once in 350 fleets: then the later is refused, with DUPLICATE_ID,
    and needs an `id` of its own.
    """
    return zlib.crc32(f"{name}:{port}".encode()) % IDS + 1


def check_name(name: str) -> str:
    """The name, if a robot can have it. Raises VelumError ARGUMENT."""
    why = ""
    if not name or not name.isprintable() or len(name.encode(errors="replace")) > NAME_BYTES_MAX:
        why = f"has 1 to {NAME_BYTES_MAX} bytes of printable text"
    elif name in (".", "..") or any(letter in name for letter in "/\\*?[]"):
        why = "is a step of a key and names a file: it has none of / \\ * ? [ ]"
    if why:
        raise error_from(code_of("ARGUMENT"), f"robot {name[:20]!r}: a robot's name {why}")
    return name
