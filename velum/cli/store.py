"""``velum store``: put, get, ls, stat, rm, df.

Owns what a person sees of files in the RAM of the mesh, and which local file goes where. Refuses to
know how they get there (`velum.files`). The prompt of a node runs the same functions, with its own
mesh and its own way to say a line.
"""

from __future__ import annotations

import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from velum.cli import show
from velum.cli.commands import attach
from velum.cli.options import UsageError
from velum.cli.progress import TransferDisplay, clock

if TYPE_CHECKING:
    from velum.api import Mesh
    from velum.filebackend import FileInfo, Space

STREAM = "-"
LONG_SIZE_CELLS = 10  # "1023.9 MiB"
LONG_CARE_CELLS = 7

_CARE_COLOURS = {"whole": "green", "at risk": "yellow", "damaged": "red", "unknown": "dim"}

Say = Callable[[str], object]
Action = Callable[["Mesh", Namespace, Say], int]


def say_line(text: str) -> None:
    """On stdout, at once."""
    print(text, flush=True)


# ---- the commands ----


def put(args: Namespace) -> int:
    """``velum store put FILE|- [NAME]``"""
    return _attached(put_file, args)


def get(args: Namespace) -> int:
    """``velum store get NAME [FILE|-]``"""
    return _attached(get_file, args)


def ls(args: Namespace) -> int:
    """``velum store ls [PREFIX]``"""
    return _attached(list_files, args)


def stat(args: Namespace) -> int:
    """``velum store stat NAME``"""
    return _attached(show_file, args)


def rm(args: Namespace) -> int:
    """``velum store rm NAME...``"""
    return _attached(remove_files, args)


def df(args: Namespace) -> int:
    """``velum store df``"""
    return _attached(show_space, args)


def _attached(action: Action, args: Namespace) -> int:
    with attach(args) as mesh:
        return action(mesh, args, say_line)


# ---- what the prompt shares ----


def put_file(mesh: Mesh, args: Namespace, say: Say) -> int:
    """Stores a local file, or standard input."""
    if args.copies is not None and args.ec is not None:
        raise UsageError("--copies and --ec exclude each other; VELUM_COPIES and VELUM_EC count")
    name = args.name or os.path.basename(args.file)
    if args.file == STREAM and not args.name:
        raise UsageError("standard input has no name; write: velum store put - NAME")
    source: Any = sys.stdin.buffer if args.file == STREAM else args.file
    options = {"copies": args.copies, "ec": args.ec, "chunk_bytes": args.chunk}
    with _shown(name, args) as progress:
        info = mesh.files.put(source, name, progress=progress, **options)
        progress.count = info.size
    if args.json:
        say(show.dump(info.as_dict()))
    return 0


def get_file(mesh: Mesh, args: Namespace, say: Say) -> int:
    """Fetches a file into a local one, or to standard output."""
    target: Any = sys.stdout.buffer if args.file == STREAM else local_path(args.name, args.file)
    with _shown(args.name, args) as progress:
        progress.count = mesh.files.get(args.name, target, progress=progress).size
        if args.file == STREAM:
            target.flush()
    return 0


def list_files(mesh: Mesh, args: Namespace, say: Say) -> int:
    """Lists files, each as soon as it is known; as JSON all at once."""
    rows = mesh.files.ls(args.prefix)
    if args.json:
        keys = ("name", "size", "modified", "version", "care", "missing")
        say(show.dump([{key: getattr(info, key) for key in keys} for info in rows]))
        return 0
    paint = show.Paint(sys.stdout)
    for info in rows:
        say(long_line(info, paint) if args.long else short_line(info, paint))
    return 0


def show_file(mesh: Mesh, args: Namespace, say: Say) -> int:
    """Says all that is known of a file."""
    info = mesh.files.stat(args.name, check=True)
    if args.json:
        say(show.dump(info.as_dict(), pretty=True))
    else:
        say("\n".join(show.facts(facts(info), show.Paint(sys.stdout))))
    return 0


def remove_files(mesh: Mesh, args: Namespace, say: Say) -> int:
    """Deletes as many as there are; raises the last error of those that are not."""
    from velum.errors import FileMissing

    if not args.names:
        raise UsageError("which files? write: velum store rm NAME...")
    missing: list[FileMissing] = []
    for name in args.names:
        try:
            mesh.files.rm(name)
        except FileMissing as error:
            missing.append(error)
    for known in missing[:-1]:
        show.complain(str(known))
    if missing:
        raise missing[-1]
    return 0


def show_space(mesh: Mesh, args: Namespace, say: Say) -> int:
    """Says how much room there is, and how whole the files are."""
    space = mesh.files.df()
    if args.json:
        say(show.dump(space.as_dict(), pretty=True))
    else:
        say("\n".join(space_lines(space, show.Paint(sys.stdout))))
    return 0


ACTIONS: dict[str, Action] = {
    "put": put_file,
    "get": get_file,
    "ls": list_files,
    "stat": show_file,
    "rm": remove_files,
    "df": show_space,
}


def local_path(name: str, file: str | None) -> str:
    """Where a file goes: into `file`, or into that folder, or here, by the last part of its name.
    Raises UsageError when that is no file's name."""
    if file is not None and not os.path.isdir(file):
        return file
    last = name.rpartition("/")[2]
    if last in ("", ".", "..") or "\0" in last or (os.sep != "/" and os.sep in last):
        raise UsageError(f"{show.tame(name)!r} does not end in a file's name; say where it goes")
    return os.path.join(file or "", last)


class Shown:
    """What `put` and `get` tell their progress; `count` is the file's size, at the end."""

    def __init__(self, display: TransferDisplay) -> None:
        self._display = display
        self.count = 0

    def __call__(self, done: int, total: int | None) -> None:
        self._display.update(done, total)


@contextmanager
def _shown(name: str, args: Namespace) -> Iterator[Shown]:
    """A bar while a file is on its way; then, to who wants to know, how fast it went."""
    display = TransferDisplay(sys.stderr, name.rpartition("/")[2] or name)
    shown = Shown(display)
    began = time.monotonic()
    try:
        yield shown
    finally:
        display.clear()
    if args.verbose or (show.is_terminal(sys.stderr) and show.is_terminal(sys.stdout)):
        line = transfer_text(shown.count, time.monotonic() - began)
        print(show.Paint(sys.stderr)("dim", line), file=sys.stderr, flush=True)


# ---- files in words ----


def transfer_text(count: int, seconds: float) -> str:
    """``64.0 MiB in 0.31 s, 216.0 MB/s``."""
    text = f"{show.byte_count(count)} in {show.duration(seconds * 1e6)}"
    return f"{text}, {show.byte_rate(count / seconds)}" if count and seconds else text


def time_text(modified: float) -> str:
    """``2026-10-01 12:30:05``, here; a clock may have been wrong by any number of years."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(modified))
    except (OverflowError, ValueError, OSError):
        return f"{modified:.0f}"


def care_text(info: FileInfo) -> str:
    """``whole``, ``at risk: 2 copies missing``, ``damaged: 1 chunk lost``."""
    if not info.missing or info.care not in ("at risk", "damaged"):
        return info.care
    if info.care == "damaged":
        return f"damaged: {show.plural(info.missing, 'chunk')} lost"
    what = "copies" if info.missing > 1 else "copy"
    return f"at risk: {info.missing} {what} missing"


def short_line(info: FileInfo, paint: show.Paint) -> str:
    """A file's name; and what is wrong with it, if something is."""
    name = show.tame(info.name)
    if info.care not in ("at risk", "damaged"):
        return name
    return f"{name}  {paint(_CARE_COLOURS[info.care], f'({care_text(info)})')}"


def long_line(info: FileInfo, paint: show.Paint) -> str:
    """Size, time, state and name, in columns."""
    size = show.byte_count(info.size).rjust(LONG_SIZE_CELLS)
    care = paint(_CARE_COLOURS[info.care], info.care.ljust(LONG_CARE_CELLS))
    return f"{size}  {time_text(info.modified)}  {care}  {show.tame(info.name)}"


def facts(info: FileInfo) -> dict[str, str]:
    """All that is known of a file, by what it is called."""
    values = {"name": show.tame(info.name)}
    values["size"] = f"{info.size:,} bytes"
    values["modified"] = time_text(info.modified)
    if info.ec is not None:
        values["kept as"] = f"stripes of {info.ec[0]} + {info.ec[1]} chunks"
    elif info.copies is not None:
        values["kept as"] = f"{info.copies} {'copies' if info.copies > 1 else 'copy'}"
    if info.chunk_bytes:
        values["chunks"] = f"{info.chunks} of up to {show.byte_count(info.chunk_bytes)}"
    elif info.chunk_bytes == 0:
        values["chunks"] = "none, it lies with its name"
    values["state"] = care_text(info)
    values |= {"version": info.version, "hash": info.hash or "unknown"}
    return values


def space_lines(space: Space, paint: show.Paint) -> list[str]:
    """A table of the nodes with their sum, and a line about the files."""
    titles = ("node", "budget", "used", "free", "use")
    rows = [(str(node.node), node.budget, node.used, node.free) for node in space.nodes]
    rows.append(("all", space.budget, space.used, space.free))
    lines = show.table(
        titles,
        [
            (
                name,
                *(show.byte_count(count) for count in (budget, used, free)),
                f"{100 * used // budget if budget else 100} %",
            )
            for name, budget, used, free in rows
        ],
        right=frozenset(range(len(titles))),
    )
    counts = [show.plural(space.files, "file")]
    if space.at_risk:
        counts.append(paint("yellow", f"{space.at_risk} at risk"))
    if space.damaged:
        counts.append(paint("red", f"{space.damaged} damaged"))
    return [paint("bold", lines[0]), *lines[1:], ", ".join(counts), repair_text(space)]


def repair_text(space: Space) -> str:
    """``to repair: 30.0 MiB at 10.5 MB/s, ETA 3 s``, or that there is nothing."""
    if not space.repair_bytes:
        return "nothing to repair"
    text = f"to repair: {show.byte_count(space.repair_bytes)}"
    eta = space.repair_eta_s
    return (
        text if eta is None else f"{text} at {show.byte_rate(space.repair_rate)}, ETA {clock(eta)}"
    )
