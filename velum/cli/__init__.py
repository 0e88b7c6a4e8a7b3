"""The ``velum`` command.

Owns finding the command, running it, and turning every error into one line on stderr and an exit
status. Refuses to know what the commands do: `velum.cli.table` describes them, and each one's
module is imported only when it runs, so that a one-shot command starts fast.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from velum.cli.options import Command, UsageError, load, parse
from velum.cli.table import COMMANDS, GROUPS, NODE

EXIT_USAGE = 2
EXIT_TIMEOUT = 4
EXIT_INTERRUPTED = 130

# What to do about an error, where its own text cannot know that a command line is in use.
_HINTS = {
    "ADDRESS_IN_USE": "choose another id or --port; velum doctor ID says who holds the port",
    "DUPLICATE_ID": "choose another id; velum nodes shows those in use",
    "NO_EXPORT": "velum inspect FILE shows what the module exports",
    "SIGNATURE": "velum inspect FILE shows the signatures",
    "UNKNOWN_NAME": "built-ins are add, sub, mul and div",
    "MODULE_INVALID": "velum inspect FILE says where",
    "DEADLINE": "give it longer with --timeout, a scatter as a whole with --limit",
    "JOB_UNKNOWN": "velum jobs shows those that the mesh knows",
    "FUEL": "give it more with --fuel",
    "GUEST_MEMORY": "give it more with --memory",
    "STORE_FULL": "velum store df shows the room by node",
    "NOT_FOUND": "velum store ls shows the names",
    "CHUNKS_LOST": "velum store stat says how much of it is left",
    "LOCKED": "stop that process, or name another log",
    "NO_SPACE": "make room on the disk that the log is on: reads go on, writes will by themselves",
    "STATE_FULL": "delete keys, or give them a --ttl",
    "CAS_CONFLICT": "velum kv get KEY --json shows it",
    "NO_QUORUM": "a node votes 30 s after its start; velum nodes shows who is away, "
    "velum kv forget ID gives one up",
    "WRONG_TYPE": "velum kv get KEY --json shows its type; velum kv del KEY makes room",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``velum ARGV...`` and returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _dispatch(words)
        sys.stdout.flush()
        return status
    except SystemExit as stop:  # argparse, after --help
        return stop.code if isinstance(stop.code, int) else 0
    except BrokenPipeError:  # the reader of a pipe left; say nothing, here and at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except BaseException as error:
        explained = explain(error, as_json="--json" in words)
        if explained is None:
            raise
        return explained


def node_main(argv: Sequence[str] | None = None) -> int:
    """Runs ``python -m velum.node ARGV...``: the same as ``velum node ARGV...``."""
    words = list(sys.argv[1:] if argv is None else argv)
    return main([NODE.name, *words])


def _dispatch(words: list[str]) -> int:
    if not words:
        print(_overview())
        return EXIT_USAGE
    name, rest = words[0], words[1:]
    if name == "--version":
        from velum import __version__

        print(f"velum {__version__}")
        return 0
    if name == "help" and rest:
        name, rest = rest[0], [*rest[1:], "--help"]
    if name in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if name in GROUPS:
        if not rest or rest[0] in ("-h", "--help"):
            print(_group(name))
            return 0 if rest else EXIT_USAGE
        name, rest = f"{name} {rest[0]}", rest[1:]
    command = _find(name)
    status: int = load(command.run)(parse(command, rest))
    return status


def _find(name: str) -> Command:
    command = COMMANDS.get(name)
    if command is not None:
        return command
    if name.startswith("-"):
        raise UsageError(f"unknown option {name!r}; options follow the command; try: velum --help")
    from difflib import get_close_matches

    near = get_close_matches(name, COMMANDS, 1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    raise UsageError(f"unknown command {name!r}{meant}; try: velum --help")


def _group(name: str) -> str:
    of_it = {
        known: command.summary for known, command in COMMANDS.items() if known.startswith(name)
    }
    lines = [f"usage: velum {name} COMMAND ...", "", *_listed(of_it), ""]
    return "\n".join([*lines, f"velum {name} COMMAND --help explains a command with examples"])


def _listed(summaries: Mapping[str, str]) -> list[str]:
    width = max(map(len, summaries))
    return [f"  {name.ljust(width)}  {summary}" for name, summary in summaries.items()]


def _overview() -> str:
    summaries: dict[str, str] = {}
    for name, command in COMMANDS.items():
        first = name.split()[0]
        summaries[first] = GROUPS.get(first, command.summary)
    lines = _listed(summaries)
    return "\n".join(
        [
            "usage: velum COMMAND ...",
            "",
            "One leaderless computer out of any set of machines.",
            "",
            *lines,
            "",
            "velum COMMAND --help explains a command with examples; velum --version",
            "",
            "start here:",
            "  velum demo                 a mesh on this machine, from start to end",
            "  velum up 4                 a mesh to play with; then, in another terminal:",
            "  velum call add 10 20       prints 30",
            "",
            "exit status: 0 done, 1 the work failed, 2 wrong usage, 3 no node reachable,",
            "4 timed out, 130 interrupted",
        ]
    )


def explain(
    error: BaseException, *, as_json: bool, facts: Mapping[str, object] | None = None
) -> int | None:
    """Says an error and returns the exit status; None for one that is a fault of velum itself.
    `facts` are put beside it in JSON."""
    from velum.cli import show

    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    if isinstance(error, UsageError):
        show.complain(str(error))
        return EXIT_USAGE
    if isinstance(error, OSError) and error.filename:
        show.complain(f"{error.filename}: {error.strerror}")
        return EXIT_USAGE
    from concurrent.futures import TimeoutError as FutureTimeout

    if isinstance(error, FutureTimeout):
        show.complain("no answer in time")
        return EXIT_TIMEOUT
    from velum.errors import VelumError, exit_status

    if not isinstance(error, VelumError):
        return None
    hint = _HINTS.get(error.name)
    show.complain(f"{error}; {hint}" if hint else str(error))
    if as_json:
        described = {"code": error.code, "name": error.name, "node": error.node}
        print(
            show.dump({**(facts or {}), "error": {**described, "message": str(error)}}), flush=True
        )
    return exit_status(error)
