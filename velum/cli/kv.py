"""``velum kv``: put, get, del, keys, watch, incr, sadd, srem, smembers, cas, stat, compact, forget,
check.

Owns which call each word is and what is said of its outcome; how keys and values look is
`velum.cli.kvshow`. Refuses to know how the state is kept (`velum.kv`). The prompts run the same
functions, with a mesh and a way to say a line of their own.
"""

from __future__ import annotations

import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

from velum.cli import kvshow, show
from velum.cli.commands import attach
from velum.cli.options import UsageError

if TYPE_CHECKING:
    from velum.api import Mesh

STREAM = "-"
DAMAGED_MAX = 20  # places that `check` names one by one
MISSING = "velum kv keys shows those that there are"

Say = Callable[[str], object]
Action = Callable[["Mesh", Namespace, Say], int]


# ---- the commands ----


def put(args: Namespace) -> int:
    """``velum kv put KEY VALUE|-``"""
    return _attached(put_key, args)


def get(args: Namespace) -> int:
    """``velum kv get KEY``"""
    return _attached(get_key, args)


def delete(args: Namespace) -> int:
    """``velum kv del KEY...``"""
    return _attached(delete_keys, args)


def keys(args: Namespace) -> int:
    """``velum kv keys [PATTERN]``"""
    return _attached(list_keys, args)


def watch(args: Namespace) -> int:
    """``velum kv watch [PATTERN]``"""
    return _attached(watch_keys, args)


def incr(args: Namespace) -> int:
    """``velum kv incr KEY [BY]``"""
    return _attached(add_to_counter, args)


def sadd(args: Namespace) -> int:
    """``velum kv sadd KEY ELEMENT...``"""
    return _attached(add_elements, args)


def srem(args: Namespace) -> int:
    """``velum kv srem KEY ELEMENT...``"""
    return _attached(remove_elements, args)


def smembers(args: Namespace) -> int:
    """``velum kv smembers KEY``"""
    return _attached(list_elements, args)


def cas(args: Namespace) -> int:
    """``velum kv cas KEY VERSION VALUE|-``"""
    return _attached(swap_key, args)


def stat(args: Namespace) -> int:
    """``velum kv stat``"""
    return _attached(show_figures, args)


def compact(args: Namespace) -> int:
    """``velum kv compact``"""
    return _attached(compact_log, args)


def forget(args: Namespace) -> int:
    """``velum kv forget ID``"""
    return _attached(forget_node, args)


def check(args: Namespace) -> int:
    """``velum kv check LOG``"""
    return check_log(None, args, _say_line)


def _attached(action: Action, args: Namespace) -> int:
    with attach(args) as mesh:
        return action(mesh, args, _say_line)


def _say_line(text: str) -> None:
    print(text, flush=True)


# ---- keys, as the prompts share them ----


def put_key(mesh: Mesh, args: Namespace, say: Say) -> int:
    """Writes a key."""
    value = value_of(args)
    began = time.monotonic()
    written = mesh.kv.put(
        args.key,
        value,
        ttl=args.ttl,
        **_wanted(args),
        siblings=args.siblings,
        timeout=args.timeout,
    )
    if args.json:
        facts = {"key": args.key, "version": written.version, "durability": written.durability}
        say(show.dump(facts))
    elif args.verbose or (show.is_terminal(sys.stderr) and show.is_terminal(sys.stdout)):
        took = show.duration((time.monotonic() - began) * 1e6)
        line = f"{written.durability}, {took}, version {written.version}"
        print(show.Paint(sys.stderr)("dim", line), file=sys.stderr, flush=True)
    return 0


def get_key(mesh: Mesh, args: Namespace, say: Say) -> int:
    """Reads a key."""
    if args.siblings:
        return _say_siblings(mesh, args, say)
    entry = mesh.kv.entry(args.key)
    if entry is None:
        if args.json:
            say("null")
        raise no_key(args.key)
    if args.json:
        say(show.dump(kvshow.entry_dict(entry)))
    elif getattr(args, "raw", False):
        raw = entry.value if isinstance(entry.value, bytes) else kvshow.block(entry).encode()
        sys.stdout.buffer.write(raw)
        sys.stdout.buffer.flush()
    else:
        say(kvshow.block(entry))
    return 0


def _say_siblings(mesh: Mesh, args: Namespace, say: Say) -> int:
    values = mesh.kv.siblings(args.key)
    if args.json:
        say(show.dump([kvshow.plain(value) for value in values]))
    elif values:
        say("\n".join(map(kvshow.word, values)))
    if not values:
        raise no_key(args.key)
    return 0


def delete_keys(mesh: Mesh, args: Namespace, say: Say) -> int:
    """Deletes as many as there are; complains of the others."""
    if not args.keys:
        raise UsageError("which keys? write: velum kv del KEY...")
    missing = [key for key in args.keys if not mesh.kv.delete(key, **_wanted(args))]
    if args.json:
        say(show.dump({"deleted": len(args.keys) - len(missing), "missing": missing}))
    for key in missing[:-1]:
        show.complain(str(no_key(key)))
    if missing:
        raise no_key(missing[-1])
    return 0


def list_keys(mesh: Mesh, args: Namespace, say: Say) -> int:
    """Lists keys."""
    found = sorted(mesh.kv.keys(args.pattern))
    if args.json:
        say(show.dump(found))
    elif found:
        say(kvshow.lines(found))
    return 0


def watch_keys(mesh: Mesh, args: Namespace, say: Say) -> int:
    """Says changes until it is interrupted."""
    paint = show.Paint(sys.stdout)
    with closing(mesh.kv.watch(args.pattern, state=not args.new)) as changes:
        for change in changes:
            if args.json:
                say(show.dump(kvshow.change_dict(change)))
            else:
                say(kvshow.change_line(change, paint))
    return 0


def swap_key(mesh: Mesh, args: Namespace, say: Say) -> int:
    """Writes a key if it has the version that was named."""
    version = mesh.kv.cas(args.key, args.version, value_of(args), quorum=args.quorum)
    say(show.dump({"key": args.key, "version": version}) if args.json else version)
    return 0


def _wanted(args: Namespace) -> dict[str, str]:
    """How durable the write is to be, as an option of the call."""
    return {"durability": args.durability or ""}


def value_of(args: Namespace) -> Any:
    """The value that was typed, or comes from standard input: bytes, or what its JSON says."""
    text = sys.stdin.buffer.read() if args.value == STREAM else os.fsencode(args.value)
    if not args.as_json:
        return text
    try:
        return json.loads(text)
    except ValueError as error:  # of the coding too
        raise UsageError(f"VALUE is no JSON: {error}; a text is written '\"so\"'") from None


def no_key(key: str) -> UsageError:
    """What is said of a key that there is not."""
    return UsageError(f"no key {kvshow.word(key)!r}; {MISSING}")


# ---- counters and sets ----


def add_to_counter(mesh: Mesh, args: Namespace, say: Say) -> int:
    """Adds, and says the sum."""
    total = mesh.kv.incr(args.key, args.by, **_wanted(args))
    say(show.dump({"key": args.key, "value": total}) if args.json else str(total))
    return 0


def add_elements(mesh: Mesh, args: Namespace, say: Say) -> int:
    """Adds elements, and says how many were new."""
    count = mesh.kv.sadd(args.key, *_elements(args, "sadd"), **_wanted(args))
    return _say_count(count, "added", args, say)


def remove_elements(mesh: Mesh, args: Namespace, say: Say) -> int:
    """Removes elements, and says how many there were."""
    count = mesh.kv.srem(args.key, *_elements(args, "srem"), **_wanted(args))
    return _say_count(count, "removed", args, say)


def list_elements(mesh: Mesh, args: Namespace, say: Say) -> int:
    """Lists the elements of a set."""
    found = mesh.kv.smembers(args.key)
    if args.json:
        say(show.dump(kvshow.plain(found)))
    elif found:
        say(kvshow.lines(found))
    return 0


def _elements(args: Namespace, name: str) -> list[bytes]:
    if not args.elements:
        raise UsageError(f"which elements? write: velum kv {name} KEY ELEMENT...")
    return [os.fsencode(element) for element in args.elements]


def _say_count(count: int, what: str, args: Namespace, say: Say) -> int:
    say(show.dump({"key": args.key, what: count}) if args.json else str(count))
    return 0


# ---- care ----


def show_figures(mesh: Mesh, args: Namespace, say: Say) -> int:
    """Says what the node's state is, in figures."""
    figures = mesh.kv.stat()
    if args.json:
        say(show.dump(kvshow.plain(figures), pretty=True))
    else:
        say("\n".join(show.facts(kvshow.plain(figures), show.Paint(sys.stdout))))
    return 0


def compact_log(mesh: Mesh, args: Namespace, say: Say) -> int:
    """Begins to compact the node's log."""
    mesh.kv.compact()
    if args.json:
        say(show.dump({"compacting": True}))
    else:
        say("the log is being compacted; velum kv stat says how large it is")
    return 0


def forget_node(mesh: Mesh, args: Namespace, say: Say) -> int:
    """Strikes a node off the roster. One that is alive comes back at once, so it is refused."""
    known = {info.id: info.state for info in mesh.nodes()}
    if known.get(args.id) in ("alive", "suspect"):
        raise UsageError(f"node {args.id} is {known[args.id]}; stop it first: it would come back")
    mesh.kv.forget(args.id)
    say(show.dump({"forgotten": args.id}) if args.json else f"node {args.id} is forgotten")
    return 0


def check_log(_mesh: Mesh | None, args: Namespace, say: Say) -> int:
    """Reads a log and says what is in it; 1 when something is damaged."""
    from velum import _core
    from velum.errors import from_core

    path = os.path.expanduser(args.log)
    with open(path, "rb"):  # what cannot be opened is told as of any other file
        pass
    try:
        found: dict[str, Any] = _core.kv_check(path)
    except _core.CoreError as error:
        raise from_core(error) from None
    whole = not found["damaged_lines"] and bool(found["records"] or not found["torn_bytes"])
    if args.json:
        spots = [{"offset": offset, "bytes": size} for offset, size in found["damaged"]]
        say(show.dump({"file": args.log, "whole": whole, **found, "damaged": spots}))
    else:
        say("\n".join(check_lines(path, found, show.Paint(sys.stdout))))
    return 0 if whole else 1


def check_lines(path: str, found: dict[str, Any], paint: show.Paint) -> list[str]:
    """What was found in a log, in words."""
    damaged, torn = found["damaged_lines"], found["torn_bytes"]
    verdict = paint("green", "whole")
    if damaged:
        places = show.plural(damaged, "place")
        verdict = paint("red", f"damaged: {places}, {found['damaged_bytes']:,} bytes")
    counts = f"{show.plural(found['records'], 'record')}, {show.plural(found['keys'], 'key')}"
    if torn and not found["records"]:
        return [f"{paint('bold', kvshow.word(path))}: {paint('red', 'no log')}: no record is in it"]
    if found["plain"]:
        counts += f", {show.plural(found['plain'], 'plain line')}"
    lines = [f"{paint('bold', kvshow.word(path))}: {verdict}; {counts}"]
    shown = found["damaged"][:DAMAGED_MAX]
    lines += [f"  {show.plural(size, 'byte')} at {offset}" for offset, size in shown]
    if damaged > len(shown):
        lines.append(f"  and {show.plural(damaged - len(shown), 'place')} more")
    if damaged:
        lines.append("what is lost there comes back from the other nodes at the next start")
    if torn:
        lines.append(f"its end is torn, {torn:,} bytes: the next start cuts them off")
    return lines


ACTIONS: dict[str, Callable[[Any, Namespace, Say], int]] = {
    "put": put_key,
    "get": get_key,
    "del": delete_keys,
    "keys": list_keys,
    "watch": watch_keys,
    "incr": add_to_counter,
    "sadd": add_elements,
    "srem": remove_elements,
    "smembers": list_elements,
    "cas": swap_key,
    "stat": show_figures,
    "compact": compact_log,
    "forget": forget_node,
    "check": check_log,
}
