"""The one-shot commands: call, wasm, nodes, status, inspect.

Owns turning one question into one answer on stdout. Refuses to know how a node is found and spoken
to (velum.client) and what the answer's figures mean (velum.api).
"""

from __future__ import annotations

import os
import sys
import time
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from velum.cli import show
from velum.cli.numbers import PAGE_BYTES

if TYPE_CHECKING:
    from velum.api import TaskFuture
    from velum.client import Client

WATCH_S = 1.0  # members' figures change once a second; looking more often shows nothing new
ANSWER_GRACE_S = 2.0  # past a task's timeout: the mesh stops the task itself, this is for a mesh
# that does not answer any more

CLEAR_SCREEN = "\x1b[H\x1b[2J"


def call(args: Namespace) -> int:
    """``velum call NAME ARGS...``"""
    with attach(args) as mesh:
        future = mesh.spawn(args.name, *args.args, timeout=args.timeout, node=args.on)
        return _answer(future, args)


def wasm(args: Namespace) -> int:
    """``velum wasm FILE FUNC ARGS...``"""
    pages = args.memory // PAGE_BYTES if args.memory else None
    with attach(args) as mesh:
        future = mesh.spawn_wasm(
            args.file,
            args.function,
            *args.args,
            timeout=args.timeout,
            fuel=args.fuel,
            pages=pages,
            node=args.on,
        )
        return _answer(future, args)


def nodes(args: Namespace) -> int:
    """``velum nodes``"""
    paint = show.Paint(sys.stdout)
    with attach(args) as mesh:
        while True:
            members = mesh.nodes()
            if args.json:
                text = show.dump([info.as_dict() for info in members])
            else:
                text = "\n".join(show.nodes_table(members, paint))
            clear = args.watch and not args.json and show.is_terminal(sys.stdout)
            print(CLEAR_SCREEN + text if clear else text, flush=True)
            if not args.watch:
                return 0
            time.sleep(WATCH_S)


def status(args: Namespace) -> int:
    """``velum status``"""
    with attach(args) as mesh:
        values = mesh.status()
    if args.json:
        print(show.dump(values, pretty=True))
    else:
        print("\n".join(show.facts(values, show.Paint(sys.stdout))))
    return 0


def inspect(args: Namespace) -> int:
    """``velum inspect FILE``"""
    from velum import _core

    with open(args.file, "rb") as file:
        data = file.read(_core.MODULE_BYTES_MAX + 1)
    code, offset, function, text = _core.validate(data)
    try:
        externs = _core.inspect(data)
    except _core.CoreError:  # not even its sections can be read; `validate` said why
        externs = []
    why = None
    if code:
        why = {"code": abs(code), "offset": offset, "function": function, "text": text}
    imports = [extern for extern in externs if extern["import"]]
    exports = [extern for extern in externs if not extern["import"]]
    if args.json:
        described = {"file": args.file, "bytes": len(data), "valid": why is None, "why": why}
        print(show.dump({**described, "imports": imports, "exports": exports}, pretty=True))
        return 0 if why is None else 1
    paint = show.Paint(sys.stdout)
    verdict = paint("green", "velum runs it")
    if why is not None:
        where = "" if function is None else f", function {function}"
        verdict = paint("red", f"velum refuses it: {text} (byte {offset}{where})")
    print(f"{paint('bold', os.path.basename(args.file))}: {len(data):,} bytes, {verdict}")
    for title, found in (("imports", imports), ("exports", exports)):
        print(paint("bold", title) + ("" if found else ": none"))
        for extern in found:
            print(f"  {extern_text(extern)}")
    return 0 if why is None else 1


def extern_text(extern: dict[str, Any]) -> str:
    """An import or export as one line: ``function sum(i32, i32) -> i32``."""
    name = f"{extern['module']}.{extern['name']}" if extern["import"] else extern["name"]
    kind = extern["kind"]
    if kind == "function":
        if not extern["callable"]:
            return f"function {name}: more parameters than a call can carry"
        result = f" -> {extern['result']}" if extern["result"] else ""
        return f"function {name}({', '.join(extern['params'])}){result}"
    if kind == "global":
        mutable = "mutable " if extern["mutable"] else ""
        return f"global {name}: {mutable}{extern['value_type']}"
    unit = "page of 64 KiB" if kind == "memory" else "element"
    low, high = extern["minimum"], extern["maximum"]
    plural = unit.replace("page", "pages") if kind == "memory" else "elements"
    most = "" if high is None else f", at most {high}"
    return f"{kind} {name}: {low} {unit if low == 1 else plural}{most}"


def attach(args: Namespace) -> Client:
    """The mesh that the options name, as a context manager."""
    from velum.client import connect

    return connect(args.node, beacon_port=args.beacon_port)


def _answer(future: TaskFuture, args: Namespace) -> int:
    """Waits for a task, prints its value, and says where it ran if somebody wants to know."""
    patience = None if args.timeout is None else args.timeout + ANSWER_GRACE_S
    try:
        value = future.result(patience)
    except KeyboardInterrupt:
        future.cancel()
        raise
    if args.json:
        facts = {"node": future.node, "run_us": future.run_us, "elapsed_us": future.elapsed_us}
        print(show.dump({"value": value, **facts}))
        return 0
    text = show.value_text(value)
    if text:
        print(text, flush=True)
    if args.verbose or (show.is_terminal(sys.stderr) and show.is_terminal(sys.stdout)):
        print(show.Paint(sys.stderr)("dim", where_and_when(future)), file=sys.stderr)
    return 0


def where_and_when(future: TaskFuture) -> str:
    """``node 2, 1.2 ms``: who ran a finished task, and how long the caller waited."""
    return f"node {future.node or '?'}, {show.duration(future.elapsed_us)}"
