"""``velum robot NAME PORT``: a robot at a prompt, or driven by the lines of a pipe.

Owns the robot's words, `put`, `get`, `del`, `keys`, `watch` and `fleet`, and how they are answered.
Refuses to know how the state is kept (`velum.robots`); the other words are those of a node's prompt
(`velum.repl`), and so is the prompt itself.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from velum import fleet, repl
from velum.cli import kvshow, logs, show
from velum.cli.nodecmd import in_background, prompt
from velum.cli.signals import Stop, StopRequested

if TYPE_CHECKING:
    from velum.fleet import Figure, Robot
    from velum.robots import RobotNode

CELL_MAX = 24  # characters of a figure in the table: more would push the others off the screen

WORDS: dict[str, repl.Word] = {
    "put": repl.Word("put KEY VALUE", "write a key of the whole fleet"),
    "get": repl.Word("get KEY", "read one"),
    "del": repl.Word("del KEY", "delete one"),
    "keys": repl.Word("keys [PATTERN]", "list keys"),
    "watch": repl.Word("watch [PATTERN]", "show changes as they come, until Ctrl-C"),
    "fleet": repl.Word("fleet", "all robots: figures, how old they are, who is away"),
}
_STATE_COLOURS = {"alive": "green", "suspect": "yellow", "dead": "red", "left": "dim"}


def run(args: Namespace) -> int:
    """Starts the robot and does what lines say, until they end or it is told to go."""
    from velum.robots import RobotNode

    logs.configure(args.log_level, args.log_json)
    stop = Stop()
    stop.on_signals()
    try:
        with RobotNode(args.name, args.port, id=args.id, log=args.log, **_options(args)) as robot:
            stop.check()
            show_line(f"{robot.name} is node {robot.node.id} at {robot.node.address}")
            if show.is_terminal(sys.stdin) and show.is_terminal(sys.stdout):
                shell = RobotShell(robot)
                return prompt(robot.node, repl.Repl(robot.node, shell, Choices(robot)), stop)
            return _read_lines(robot, stop)
    except StopRequested:
        return 0


def show_line(text: str) -> None:
    """A line about the robot: on stderr, since answers alone are on stdout."""
    print(show.Paint(sys.stderr)("dim", text), file=sys.stderr, flush=True)


def _options(args: Namespace) -> dict[str, object]:
    return {
        "host": args.host,
        "beacon_port": args.beacon_port,
        "join": tuple(args.join),
        "beacon": not args.no_beacon,
        "workers": args.workers,
        "durability": args.durability,
        "resp_port": args.resp,
    }


def _read_lines(robot: RobotNode, stop: Stop) -> int:
    """Does what stdin's lines say. Another thread does, so that a signal ends any command."""
    ends: Future[None] = Future()

    def write(text: str) -> None:
        if not stop.asked:  # then a command that fails does so since the robot has left
            print(text, flush=True)

    def work() -> None:
        shell = RobotShell(robot, write)
        try:
            all(map(shell.run, _lines(sys.stdin.fileno())))
            ends.set_result(None)
        except BaseException as error:
            ends.set_exception(error)
        stop.poke()

    in_background(work, "velum lines")
    while not ends.done():
        stop.sleep()
    ends.result()
    return 0


def _lines(fd: int) -> Iterator[str]:
    """Those of a pipe. (A thread in sys.stdin when the process ends is fatal.)"""
    rest = b""
    while data := os.read(fd, 4096):
        *whole, rest = (rest + data).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
    yield rest.decode(errors="replace")


class RobotShell(repl.Shell):
    """Runs lines against a robot: its own words, and those of its node."""

    prompt = "> "

    def __init__(self, robot: RobotNode, write: Callable[[str], object] = print) -> None:
        super().__init__(robot.node, write)
        self._robot = robot

    def _run(self, words: list[str]) -> bool:
        name, rest = words[0], words[1:]
        if name == "help" or name == "?":
            self._explain(rest)
            return True
        if name not in WORDS:
            return super()._run(words)
        most = {"put": 2, "fleet": 0}.get(name, 1)
        least = 0 if name in ("keys", "watch") else most
        if not least <= len(rest) <= most:
            quotes = "; a value with spaces stands in quotes" if name == "put" else ""
            raise repl.LineError(f"usage: {WORDS[name].usage}{quotes}")
        getattr(self, f"_{name}")(*rest)
        return True

    def _put(self, key: str, value: str) -> None:
        self._robot.kv.put(key, os.fsencode(value))
        self._say([f"Stored {kvshow.word(key)}={kvshow.word(value)}"])

    def _get(self, key: str) -> None:
        entry = self._robot.kv.entry(key)
        if entry is None:
            self._say([not_found(key)])
        else:
            self._say([f"Value: {kvshow.brief(entry.value)}"])

    def _del(self, key: str) -> None:
        there = self._robot.kv.delete(key)
        self._say([f"Deleted {kvshow.word(key)}" if there else not_found(key)])

    def _keys(self, pattern: str = "*") -> None:
        found = self._robot.kv.keys(pattern)
        self._say([kvshow.lines(found) if found else "no keys"])

    def _watch(self, pattern: str = "*") -> None:
        try:
            with self._interruptible(), closing(self._robot.kv.watch(pattern)) as changes:
                for change in changes:
                    self._say([kvshow.change_line(change, self._paint)])
        except KeyboardInterrupt:
            self._say(["no longer watched"])

    def _fleet(self) -> None:
        self._say(fleet_table(self._robot.fleet(), self._paint))

    def _explain(self, words: list[str]) -> None:
        if words and words[0] not in WORDS:
            super()._help(words)
            return
        shown = [WORDS[word] for word in (words or WORDS)]
        width = max(len(word.usage) for word in shown)
        self._say([f"{word.usage.ljust(width)}  {word.summary}" for word in shown])
        if not words:
            rest = " ".join(name for name in repl.WORDS if name not in ("help", "quit"))
            self._say(["exit".ljust(width) + "  leave the fleet; also quit, Ctrl-D"])
            self._say([f"and those of every node: {rest}; help WORD explains one"])


def not_found(key: str) -> str:
    """What is said of a key that there is not."""
    return f"Key not found: {kvshow.word(key)}"


def fleet_table(robots: Mapping[str, Robot], paint: show.Paint) -> list[str]:
    """The robots with their figures and the age of each."""
    if not robots:
        return ["no robot has told anything yet"]
    told = {attribute for robot in robots.values() for attribute in robot.figures}
    attributes = [*fleet.KNOWN, *sorted(told - {*fleet.KNOWN})]
    rows = [
        (
            kvshow.word(name),
            "-" if robot.node is None else str(robot.node),
            robot.state,
            *(_cell(robot.figures.get(attribute)) for attribute in attributes),
        )
        for name, robot in robots.items()
    ]
    titles = ("robot", "node", "state", *map(kvshow.word, attributes))
    lines = show.table(titles, rows, right=frozenset({1}))
    painted = [paint("bold", lines[0])]
    for robot, line in zip(robots.values(), lines[1:], strict=True):
        colour = _STATE_COLOURS.get(robot.state, "dim")
        painted.append(paint("dim", line) if robot.away else paint(colour, line))
    return painted


def _cell(figure: Figure | None) -> str:
    """``active (0.4 s)``."""
    if figure is None:
        return "-"
    text = kvshow.word(figure.value)
    text = text if len(text) <= CELL_MAX else text[: CELL_MAX - 3] + "..."
    return f"{text} ({show.age(figure.age * 1000)})"


class Choices(repl.Completions):
    """What may follow at a robot's prompt."""

    def __init__(self, robot: RobotNode) -> None:
        keys = partial(repl.key_names, robot.node)
        super().__init__(partial(repl.file_names, robot.node), keys)

    def of(self, text: str) -> Iterator[repl.Choice]:
        """The robot's words first, then those of a node."""
        words = text.split()
        if not words or text[-1].isspace():
            words.append("")
        if len(words) == 1:
            own = ((name, word.summary) for name, word in WORDS.items())
            yield from repl.starting(words[0], own)
        if words[0] not in WORDS:
            yield from super().of(text)
        elif len(words) == 2 and words[0] != "fleet":
            yield from repl.starting(words[1], repl.typable(self._keys(words[1])))
