"""The prompt of a node: ``add 10 20``, ``wasm FILE FUNC ARGS...``, ``nodes``, ``help``.

Owns the words of the prompt, their completion, and the form of an answer. Refuses to know how a
node works: it holds a `Mesh` and asks it. Three parts: `Shell` runs one line, `Completions` says
what may follow the words typed so far, and `Repl` puts both behind prompt_toolkit, which is
imported only there. ``scatter``, ``jobs``, ``job`` and those of ``store`` and ``kv`` are the
commands of that name: they take the same options and look the same.
"""

from __future__ import annotations

import os
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velum.cli import numbers, options, show, table
from velum.cli.settings import ATTACH
from velum.errors import VelumError

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import Completion
    from prompt_toolkit.document import Document

    from velum.api import Mesh, TaskFuture

BUILT_INS = ("add", "sub", "mul", "div")
TOOLBAR_FRESH_S = 1.0  # members' figures change once a second
NAMES_MAX = 50  # completions of a file's name or a key: nobody reads more
KEYS_MAX = 20_000  # in the state, for keys to be completed: all of them are looked through
POLL_S = 0.25  # between looks whether the node has ended while an answer is awaited


class LineError(Exception):
    """A line that cannot be run; its text says why."""


@dataclass(frozen=True)
class Word:
    """A command of the prompt."""

    usage: str
    summary: str
    details: str = ""


_OPTIONS = {
    "--timeout": ("timeout", numbers.seconds),
    "--on": ("node", numbers.node_id),
    "--fuel": ("fuel", numbers.count),
    "--memory": ("memory", numbers.guest_memory),
}
_TASK_DETAILS = (
    "  --timeout S   stop it after this long: 5, 0.2, 500ms\n  --on ID       run on that node"
)
_WASM_OPTIONS = tuple(_OPTIONS)
_CALL_OPTIONS = ("--timeout", "--on")


def _at_prompt(command: options.Command, *without: str) -> options.Command:
    """A command as the prompt has it: its mesh is the node's own."""
    left_out = {*(setting.name for setting in ATTACH), *without}
    kept = tuple(setting for setting in command.settings if setting.name not in left_out)
    return replace(command, settings=kept)


_COMMANDS = {
    "scatter": _at_prompt(table.SCATTER),
    "jobs": _at_prompt(table.JOBS, "watch"),
    "job": _at_prompt(table.JOB),
}
_GROUPS = {
    group: {
        name.partition(" ")[2]: _at_prompt(command, "raw")
        for name, command in table.COMMANDS.items()
        if name.startswith(f"{group} ")
    }
    for group in table.GROUPS
}


def _overview(group: str) -> str:
    width = max(map(len, _GROUPS[group]))
    lines = [
        f"  {group} {name.ljust(width)}  {known.summary}" for name, known in _GROUPS[group].items()
    ]
    return "\n".join([*lines, f"  {group} put --help, and so on, explains each."])


def _details(command: options.Command) -> str:
    flags = [
        f"--{setting.name}" + ("" if setting.kind == "switch" else f" {setting.metavar}")
        for setting in command.settings
    ]
    width = max(map(len, flags))
    return "\n".join(
        f"  {flag.ljust(width)}  {setting.help}"
        for flag, setting in zip(flags, command.settings, strict=True)
    )


WORDS: dict[str, Word] = {
    "add": Word("add A B", "A + B, on the least busy node", _TASK_DETAILS),
    "sub": Word("sub A B", "A - B", _TASK_DETAILS),
    "mul": Word("mul A B", "A * B", _TASK_DETAILS),
    "div": Word("div A B", "A / B; integers round toward zero", _TASK_DETAILS),
    "wasm": Word(
        "wasm FILE FUNC ARGS...",
        "run a WebAssembly function on the least busy node",
        f"{_TASK_DETAILS}\n  --fuel N      most loop rounds and calls\n"
        "  --memory M    most linear memory: 64K, 16M\n  Tab completes files and functions.",
    ),
    "scatter": Word(
        "scatter FILE FUNC START END ARGS...",
        "run a function over a range, on all workers of the mesh",
        _details(_COMMANDS["scatter"]),
    ),
    "jobs": Word("jobs", "the scatters of the mesh, running or over", _details(_COMMANDS["jobs"])),
    "job": Word(
        "job ID",
        "show, watch, cancel or resume one of them",
        f"{_details(_COMMANDS['job'])}\n  The first digits of the id do.",
    ),
    "store": Word(
        f"store {'|'.join(_GROUPS['store'])} ...",
        "files in the RAM of the mesh",
        _overview("store"),
    ),
    "kv": Word("kv put|get|del|keys|watch|incr ...", "state on all nodes", _overview("kv")),
    "nodes": Word("nodes", "the members of the mesh and their load"),
    "status": Word("status", "what this node does"),
    "help": Word("help [COMMAND]", "this list, or more about one command"),
    "quit": Word("quit", "leave the mesh; also exit, Ctrl-D"),
}
_QUOTED = frozenset(" '\"\\#")  # a name with one of these has to be typed in quotes
_ALIASES = {"exit": "quit", "?": "help"}


@dataclass
class Task:
    """The words of a task, options taken out."""

    words: list[str]
    options: dict[str, Any] = field(default_factory=dict)


class Shell:
    """Runs lines against a mesh; `write` gets whole lines of output."""

    prompt = "velum> "

    def __init__(self, mesh: Mesh, write: Callable[[str], object] = print) -> None:
        self.mesh = mesh
        self.closing = threading.Event()
        self.waiting = False  # for an answer: only then can an interrupt be raised
        self.struck = False  # one came between the line's end and the waiting
        self._write = write
        self._paint = show.Paint(sys.stdout)

    def run(self, line: str) -> bool:
        """Runs one line; False when the person wants to leave. Never raises for what was typed."""
        try:
            words = shlex.split(line, comments=True)
            return self._run(words) if words else True
        except (LineError, options.UsageError, ValueError, VelumError) as error:
            self._complain(str(error))
        except FutureTimeout:
            self._complain("no answer in time")
        except OSError as error:
            self._complain(f"{error.filename or line}: {error.strerror or error}")
        return True

    def _run(self, words: list[str]) -> bool:
        name = _ALIASES.get(words[0], words[0])
        if name not in WORDS:
            raise LineError(f"unknown command {words[0]!r}; try: help")
        if name == "quit":
            return False
        if name in BUILT_INS:
            self._call(name, words[1:])
        elif name == "wasm":
            self._wasm(words[1:])
        elif name in _COMMANDS:
            self._command(name, words[1:])
        elif name in _GROUPS:
            self._grouped(name, words[1:])
        elif name == "nodes":
            self._say(show.nodes_table(self.mesh.nodes(), self._paint))
        elif name == "status":
            self._say(show.facts(self.mesh.status(), self._paint))
        else:
            self._help(words[1:])
        return True

    def _call(self, name: str, words: list[str]) -> None:
        task = take_options(words, _CALL_OPTIONS)
        if len(task.words) != 2:
            raise LineError(f"{name} takes two numbers: {WORDS[name].usage}")
        args = [numbers.call_number(word) for word in task.words]
        self._answer(self.mesh.spawn(name, *args, **task.options))

    def _wasm(self, words: list[str]) -> None:
        task = take_options(words, _WASM_OPTIONS)
        if len(task.words) < 2:
            raise LineError(f"usage: {WORDS['wasm'].usage}")
        file, function, *rest = task.words
        args = [numbers.wasm_number(word) for word in rest]
        memory = task.options.pop("memory", None)
        pages = memory // numbers.PAGE_BYTES if memory else None
        path = os.path.expanduser(file)
        self._answer(self.mesh.spawn_wasm(path, function, *args, pages=pages, **task.options))

    def _command(self, name: str, words: list[str]) -> None:
        """A command of ``velum`` on this node's mesh. The environment's settings are not for it."""
        from velum.cli import scatter

        try:
            args = options.parse(_COMMANDS[name], words, {})
        except SystemExit:  # after --help
            return
        if name == "jobs":
            self._write(scatter.jobs_text(self.mesh, args))
            return
        run = scatter.look
        if name == "scatter":
            run, args.file = scatter.start, os.path.expanduser(args.file)
        try:
            with self._interruptible():
                status = run(self.mesh, args, self._write, self.closing.is_set)
        except KeyboardInterrupt:
            self._say(["cancelled" if name == "scatter" else "no longer watched"])
            return
        if status is None:
            raise LineError("the node is leaving; the job goes on in the mesh")

    def _grouped(self, group: str, words: list[str]) -> None:
        """A command of ``velum store`` or ``velum kv`` on this node's mesh."""
        from velum.cli import kv, store

        commands = _GROUPS[group]
        if not words or words[0] not in commands:
            raise LineError(f"there are {group} {', '.join(commands)}; try: help {group}")
        try:
            args = options.parse(commands[words[0]], words[1:], {})
        except SystemExit:  # after --help
            return
        file = getattr(args, "file", None)
        if store.STREAM in (file, getattr(args, "value", None)):
            raise LineError("- is the prompt's own; name a file, or write the value")
        if file:
            args.file = os.path.expanduser(file)
        actions = store.ACTIONS if group == "store" else kv.ACTIONS
        try:
            with self._interruptible():
                actions[words[0]](self.mesh, args, self._write)
        except KeyboardInterrupt:
            watched = words[0] == "watch"
            self._say(["no longer watched" if watched else "interrupted; nothing is left half"])

    def _answer(self, future: TaskFuture) -> None:
        try:
            with self._interruptible():
                value = self._await(future)
        except KeyboardInterrupt:
            future.cancel()
            self._say(["cancelled"])
            return
        where = f"(node {future.node or '?'}, {show.duration(future.elapsed_us)})"
        self._say([f"{show.value_text(value) or 'done'}   {self._paint('dim', where)}"])

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Here Ctrl-C is raised, also one that came when it could not be yet."""
        try:
            self.waiting = True
            if self.struck:
                raise KeyboardInterrupt
            yield
        finally:
            self.waiting = self.struck = False

    def _await(self, future: TaskFuture) -> Any:
        """The result; gives up, cancelling, when the node is told to leave meanwhile."""
        while True:
            try:
                return future.result(POLL_S)
            except FutureTimeout:
                if future.done():
                    return future.result()
                if self.closing.is_set():
                    future.cancel()
                    raise LineError("the node is leaving; the task was cancelled") from None

    def _help(self, words: list[str]) -> None:
        if words:
            word = WORDS.get(_ALIASES.get(words[0], words[0]))
            if word is None:
                raise LineError(f"unknown command {words[0]!r}; try: help")
            self._say([word.usage, f"  {word.summary}", *word.details.splitlines()])
            return
        width = max(len(word.usage) for word in WORDS.values())
        self._say([f"{word.usage.ljust(width)}  {word.summary}" for word in WORDS.values()])

    def _say(self, lines: Iterable[str]) -> None:
        self._write("\n".join(lines))

    def _complain(self, text: str) -> None:
        self._write(self._paint("red", "error: ") + text)


def take_options(words: list[str], allowed: tuple[str, ...]) -> Task:
    """Parts ``--name value`` and ``--name=value`` from the other words. Raises LineError."""
    task = Task([])
    rest = iter(words)
    for word in rest:
        if not word.startswith("--"):
            task.words.append(word)
            continue
        flag, equals, text = word.partition("=")
        if flag not in allowed:
            raise LineError(f"unknown option {flag}; there are {', '.join(allowed)}")
        key, read = _OPTIONS[flag]
        value = text if equals else next(rest, None)
        if value is None:
            raise LineError(f"{flag} needs a value")
        task.options[key] = read(value)
    return task


@dataclass(frozen=True)
class Choice:
    """One completion: the text that replaces the last `replaces` characters, and a note on it."""

    text: str
    replaces: int
    note: str = ""


class Completions:
    """What may follow; exports of a module are read once for each version of its file."""

    def __init__(
        self,
        names: Callable[[str], Iterable[str]] = lambda prefix: (),
        keys: Callable[[str], Iterable[str]] = lambda prefix: (),
    ) -> None:
        """`names` gives names of files in the mesh that start so, `keys` keys of the state."""
        self._names = names
        self._keys = keys
        self._exports: dict[str, tuple[tuple[int, int], list[tuple[str, str]]]] = {}

    def of(self, text: str) -> Iterator[Choice]:
        """The choices for a line whose part before the cursor is `text`."""
        words = text.split()
        if not words or text[-1].isspace():
            words.append("")
        word = words[-1]
        place = len(words) - 1
        if place == 0:
            yield from starting(word, ((name, WORDS[name].summary) for name in WORDS))
        elif words[0] == "help":
            yield from starting(word, ((name, "") for name in WORDS))
        elif word.startswith("--"):
            yield from starting(word, _flags(words))
        elif words[0] in _GROUPS and place == 1:
            commands = _GROUPS[words[0]]
            yield from starting(word, ((name, commands[name].summary) for name in commands))
        elif words[0] == "store":
            yield from self._store(words)
        elif words[0] == "kv":
            yield from self._kv(words)
        elif words[0] in ("wasm", "scatter") and place == 1:
            yield from _files(word, ".wasm")
        elif words[0] in ("wasm", "scatter") and place == 2:
            yield from starting(word, self._functions(words[1]))

    def _store(self, words: list[str]) -> Iterator[Choice]:
        """After a command of ``store``: a local file or names of files in the mesh."""
        word, place = words[-1], len(words) - 1
        if (words[1], place) in (("put", 2), ("get", 3)):
            yield from _files(word)
        elif words[1] == "rm" or (words[1] in ("get", "ls", "stat") and place == 2):
            yield from starting(word, typable(self._names(word)))

    def _kv(self, words: list[str]) -> Iterator[Choice]:
        """After a command of ``kv``: the log that is checked, or keys."""
        word, place = words[-1], len(words) - 1
        if words[1] == "check":
            yield from _files(word)
        elif words[1] == "del" or (place == 2 and words[1] not in ("stat", "compact", "forget")):
            yield from starting(word, typable(self._keys(word)))

    def _functions(self, path: str) -> list[tuple[str, str]]:
        """(name, signature) of a module's functions; none for a file that is no module."""
        from velum import _core
        from velum.cli.commands import extern_text

        path = os.path.expanduser(path)
        try:
            info = os.stat(path)
            version = (info.st_mtime_ns, info.st_size)
            known = self._exports.get(path)
            if known is None or known[0] != version:
                if info.st_size > _core.MODULE_BYTES_MAX:
                    return []
                externs = _core.inspect(Path(path).read_bytes())
                functions = [
                    (extern["name"], extern_text(extern))
                    for extern in externs
                    if not extern["import"] and extern["kind"] == "function"
                ]
                known = self._exports[path] = (version, functions)
        except (OSError, _core.CoreError):
            return []
        return known[1]


def _flags(words: list[str]) -> list[tuple[str, str]]:
    """(option, note) of a command of the prompt."""
    name = words[0]
    command = _GROUPS[name].get(words[1]) if name in _GROUPS else _COMMANDS.get(name)
    if command is not None:
        return [(f"--{setting.name}", setting.help) for setting in command.settings]
    if name in BUILT_INS:
        return [(option, "") for option in _CALL_OPTIONS]
    return [(option, "") for option in _WASM_OPTIONS] if name == "wasm" else []


def starting(word: str, choices: Iterable[tuple[str, str]]) -> Iterator[Choice]:
    """Those of (text, note) that start like `word`."""
    for text, note in choices:
        if text.startswith(word):
            yield Choice(text, len(word), note)


def typable(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Names that can be typed without quotes."""
    return ((name, "") for name in names if name.isprintable() and not _QUOTED & {*name})


def _files(word: str, ending: str = "") -> Iterator[Choice]:
    """Folders, and files of that ending, that start like `word`."""
    folder, start = os.path.split(word)
    try:
        entries = sorted(os.scandir(os.path.expanduser(folder) or "."), key=lambda e: e.name)
    except OSError:
        return
    for entry in entries:
        if not entry.name.startswith(start) or (entry.name.startswith(".") and not start):
            continue
        if entry.is_dir():
            yield Choice(entry.name + "/", len(start))
        elif entry.name.endswith(ending):
            yield Choice(entry.name, len(start))


def history_path() -> Path:
    """Where the lines typed are kept: $XDG_STATE_HOME/velum/history."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(state) / "velum" / "history"


class Repl:
    """The prompt on a terminal. Peers' comings and goings are printed above it."""

    def __init__(
        self, mesh: Mesh, shell: Shell | None = None, completions: Completions | None = None
    ) -> None:
        """A shell and completions of another kind may be given."""
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import Completer, Completion

        choices = completions or Completions(partial(file_names, mesh), partial(key_names, mesh))

        class Words(Completer):
            def get_completions(self, document: Document, _event: object) -> Iterator[Completion]:
                for choice in choices.of(document.text_before_cursor):
                    yield Completion(choice.text, -choice.replaces, display_meta=choice.note)

        self._mesh = mesh
        self._shell = shell or Shell(mesh)
        self._toolbar_at = float("-inf")
        self._toolbar_text = ""
        self._session: PromptSession[str] = PromptSession(
            self._shell.prompt,
            history=_history(),
            completer=Words(),
            complete_while_typing=False,
            bottom_toolbar=self._toolbar,
            refresh_interval=TOOLBAR_FRESH_S,
        )

    def run(self) -> None:
        """Reads and runs lines until quit, Ctrl-D, Ctrl-C on an empty line, or `stop`."""
        from prompt_toolkit.patch_stdout import patch_stdout

        with patch_stdout(raw=True):
            while not self._shell.closing.is_set():
                try:
                    line = self._session.prompt(pre_run=self._begin_prompt, handle_sigint=False)
                    if not self._shell.run(line):
                        return
                except EOFError:
                    return
                except KeyboardInterrupt:  # Ctrl-C clears a line; on an empty one it leaves
                    if not self._session.default_buffer.text:
                        return

    def stop(self) -> None:
        """Ends `run`; from any thread or a signal handler."""
        self._shell.closing.set()
        app = self._session.app
        if app.is_running and app.loop is not None:
            app.loop.call_soon_threadsafe(self._end_prompt)

    def interrupt(self) -> None:
        """Ctrl-C as a signal: stops the task under way. For a signal handler in `run`'s thread.

        At the prompt Ctrl-C is a key, and a signal that somebody sends is taken for one. Between
        the two an exception would meet prompt_toolkit half set up, so the task is stopped when it
        is waited for. (prompt_toolkit's own handler would take a signal for a key until the
        terminal is long given back, and nobody reads keys then.)
        """
        app = self._session.app
        if self._shell.waiting:
            raise KeyboardInterrupt
        if app.is_running and not app.is_done and app.loop is not None:
            app.loop.call_soon_threadsafe(app.key_processor.send_sigint)
        else:
            self._shell.struck = True

    def _begin_prompt(self) -> None:
        self._shell.struck = False

    def _end_prompt(self) -> None:
        app = self._session.app
        if app.is_running and not app.is_done:
            app.exit(exception=EOFError())

    def _toolbar(self) -> str:
        now = time.monotonic()
        if now - self._toolbar_at >= TOOLBAR_FRESH_S:
            self._toolbar_at = now
            self._toolbar_text = toolbar_text(self._mesh)
        return self._toolbar_text


def file_names(mesh: Mesh, prefix: str) -> list[str]:
    """Some names of files in the mesh; none when it does not answer."""
    try:
        return [info.name for info in islice(mesh.files.ls(prefix), NAMES_MAX)]
    except VelumError:
        return []


def key_names(mesh: Mesh, prefix: str) -> list[str]:
    """Some keys that start so; none when the state is large, or does not answer."""
    plain = "".join(f"\\{letter}" if letter in "\\*?[]" else letter for letter in prefix)
    try:
        return mesh.kv.keys(f"{plain}*")[:NAMES_MAX] if len(mesh.kv) <= KEYS_MAX else []
    except VelumError:
        return []


def toolbar_text(mesh: Mesh) -> str:
    """``node 1 | 4 nodes, 8 workers, 3 busy``; only members alive count."""
    try:
        members = mesh.nodes()
    except VelumError as error:
        return str(error)
    alive = [info for info in members if info.state == "alive"]
    me = next((info.id for info in members if info.me), "?")
    workers = sum(info.slots for info in alive)
    busy = sum(info.running for info in alive)
    size = f"{show.plural(len(alive), 'node')}, {show.plural(workers, 'worker')}, {busy} busy"
    return f" node {me} | {size} | help, Tab, Ctrl-D "


def _history() -> Any:
    """The history file; in memory only where it cannot be written."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    path = history_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))
