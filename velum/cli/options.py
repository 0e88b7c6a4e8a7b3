"""How a command is described, and how its settings get their values.

Owns the shapes `Setting`, `Positional` and `Command`, the parser made from them, and the order of
precedence: option, then environment (VELUM_*), then configuration file, then default. Refuses to
know what any command does.

Works in two steps, because argparse cannot tell an option that was given from one that was not:
argparse reads the words with every default suppressed, then `_fill` looks for what is missing in
the environment, the file and the table.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NoReturn

ENVIRONMENT_PREFIX = "VELUM_"

# A word that argparse would take for an option though it is a number: -3, -0x1f, -.5, -inf.
_NEGATIVE = re.compile(r"-(\d|\.\d|inf|nan)", re.IGNORECASE)

# Begins a number, and a word behind `--`, which are no options: no word of a command line
# can begin so, and argparse mixes options and places only as long as it never meets `--` itself.
_PLAIN = "\0"

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})


class UsageError(Exception):
    """The command line, the environment or the configuration file is wrong: exit status 2."""


@dataclass(frozen=True)
class Setting:
    """One long option: ``--name``, mirrored by ``VELUM_NAME`` and, in a file, by ``name``.

    `kind` is "value" (one word, read by `parse`), "switch" (on or off, `parse` is not used) or
    "list" (may be repeated, and each may hold several separated by commas).
    """

    name: str
    help: str
    parse: Callable[[str], Any] = str
    default: Any = None
    kind: str = "value"
    metavar: str = "X"
    short: str = ""
    choices: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Its name as an attribute."""
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return ENVIRONMENT_PREFIX + self.key.upper()


@dataclass(frozen=True)
class Positional:
    """One word by place; `many` takes all that follow, `optional` may be left out."""

    name: str
    help: str
    parse: Callable[[str], Any] = str
    metavar: str = ""
    many: bool = False
    optional: bool = False
    default: Any = None


@dataclass(frozen=True)
class Command:
    """One command: what it is called, how it is explained, what it takes, and who runs it.

    `run` and `extend` name functions as "module:function", so that a command imports only its own.
    `extend` adds arguments to the parser by itself.
    """

    name: str
    summary: str
    text: str
    examples: str
    run: str
    positionals: tuple[Positional, ...] = ()
    settings: tuple[Setting, ...] = ()
    extend: str = ""
    table: str = ""  # of the configuration file; empty: this command reads none


class _Parser(argparse.ArgumentParser):
    """Raises instead of printing usage and leaving."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message.replace(_PLAIN, '')}; try: {self.prog} --help")


def load(where: str) -> Callable[..., Any]:
    """The function that "module:function" names."""
    module, _, function = where.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found


def parse(
    command: Command, words: Sequence[str], environment: Mapping[str, str] | None = None
) -> argparse.Namespace:
    """The command's values. Raises UsageError; SystemExit(0) after ``--help``."""
    environment = os.environ if environment is None else environment
    parser = build(command)
    plain = words.index("--") if "--" in words else len(words)
    shielded = [_PLAIN + word if _NEGATIVE.match(word) else word for word in words[:plain]]
    shielded += [_PLAIN + word for word in words[plain + 1 :]]
    values = parser.parse_intermixed_args(shielded)
    for positional in command.positionals:
        if positional.optional and getattr(values, positional.name, None) is None:
            setattr(values, positional.name, positional.default)
    _fill(command, values, environment)
    return values


def build(command: Command) -> argparse.ArgumentParser:
    """The argparse parser of one command."""
    parser = _Parser(
        prog=f"velum {command.name}",
        description=command.text,
        epilog=f"examples:\n{command.examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for positional in command.positionals:
        parser.add_argument(
            positional.name,
            type=_typed(positional.parse),
            help=positional.help,
            metavar=positional.metavar or positional.name.upper(),
            nargs="*" if positional.many else "?" if positional.optional else None,
        )
    for setting in command.settings:
        _add(parser, setting)
    if command.extend:
        load(command.extend)(parser)
    return parser


def _add(parser: argparse.ArgumentParser, setting: Setting) -> None:
    flags = [f"--{setting.name}"]
    if setting.short:
        flags.insert(0, f"-{setting.short}")
    notes = [setting.variable]
    if setting.default is not None and setting.kind == "value":
        notes.insert(0, f"default {setting.default}")
    shared: dict[str, Any] = {
        "dest": setting.key,
        "default": argparse.SUPPRESS,
        "help": f"{setting.help} ({'; '.join(notes)})".replace("%", "%%"),
    }
    if setting.kind == "switch":
        parser.add_argument(*flags, action="store_true", **shared)
        return
    parser.add_argument(
        *flags,
        action="append" if setting.kind == "list" else "store",
        type=str if setting.kind == "list" else _typed(_chosen(setting)),
        metavar="|".join(setting.choices) or setting.metavar,
        **shared,
    )


def _chosen(setting: Setting) -> Callable[[str], Any]:
    if not setting.choices:
        return setting.parse

    def choose(word: str) -> str:
        if word.lower() not in setting.choices:
            raise ValueError(f"{word!r} is not one of {', '.join(setting.choices)}")
        return word.lower()

    return choose


def _typed(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """A reader whose ValueError text argparse shows as it is."""

    def typed(word: str) -> Any:
        try:
            return read(word.removeprefix(_PLAIN))
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return typed


def _fill(command: Command, values: argparse.Namespace, environment: Mapping[str, str]) -> None:
    """Gives every setting that no option named its value from elsewhere."""
    known = {setting.key: setting for setting in command.settings}
    for setting in command.settings:
        if hasattr(values, setting.key):
            if setting.kind == "list":
                words = getattr(values, setting.key)
                setattr(values, setting.key, _list(setting, ",".join(words), f"--{setting.name}"))
        elif environment.get(setting.variable):
            text = environment[setting.variable]
            setattr(values, setting.key, _convert(setting, text, setting.variable))
    path = getattr(values, "config", None)
    for key, value in _configuration(path, command.table).items():
        if key not in known or key == "config":
            raise UsageError(f"{path}: [{command.table}] has no setting {key!r}")
        if not hasattr(values, key):
            setattr(values, key, _convert(known[key], value, f"{path}: {key}"))
    for setting in command.settings:
        if not hasattr(values, setting.key):
            setattr(values, setting.key, _default(setting))


def _default(setting: Setting) -> Any:
    """What it is when nobody says anything; a default in words is read like an option's."""
    if setting.kind == "switch":
        return False
    if setting.kind == "list":
        return []
    return setting.parse(setting.default) if isinstance(setting.default, str) else setting.default


def _convert(setting: Setting, value: Any, where: str) -> Any:
    """A value from the environment (text) or a file (text, number, boolean or list)."""
    if setting.kind == "switch":
        text = str(value).strip().lower()
        if text not in _TRUE | _FALSE:
            raise UsageError(f"{where}: {value!r} is neither true nor false")
        return text in _TRUE
    if setting.kind == "list":
        return _list(setting, value if isinstance(value, str) else ",".join(value), where)
    try:
        return _chosen(setting)(str(value))
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None


def _list(setting: Setting, text: str, where: str) -> list[Any]:
    try:
        return [setting.parse(word) for word in text.split(",") if word.strip()]
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None


def _configuration(path: str | None, table: str) -> dict[str, Any]:
    """A table of a TOML file, its keys with underscores; empty without a file or table."""
    if not path or not table:
        return {}
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        with open(path, "rb") as file:
            values = tomllib.load(file).get(table, {})
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: {error}") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path}: {table} must be a table, [{table}]")
    return {key.replace("-", "_"): value for key, value in values.items()}
