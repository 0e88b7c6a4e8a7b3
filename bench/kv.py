"""Honest figures of the key-value state: beside Redis and Zenoh.

    python bench/kv.py                       # all of it, some 6 minutes
    python bench/kv.py --only commands,watch # some sections; the figures of others stay
    python bench/kv.py --quick               # few requests: to try it out
    python bench/kv.py --report              # only draws the page again

Owns the command, the sections and build/kv.json, in which each section replaces only its own
figures; the page docs/kv_bench.md and its picture are drawn from that. What is not installed is
left out, and said. Nothing else may run on the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib.util
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import kv_report
import kv_watch
import psutil
from beside import pinned
from figures import ROOT, Results, measure, parser, say, stored, wrote
from servers import redis_server

from velum.localmesh import LocalMesh
from velum.node import Node

RESULTS = ROOT / "build" / "kv.json"
SERVER_CPU, CLIENT_CPU = 0, 1
ROUNDS = 5
CONNECTIONS = 50
PLANS = {  # what is asked of the log: (Velum's words, Redis's words, pipelines, commands)
    "ram": (("--durability", "ram"), ("--appendonly", "no"), (1, 16), "set,get,incr"),
    "log": (
        ("--durability", "log"),
        ("--appendonly", "yes", "--appendfsync", "everysec"),
        (1, 16),
        "set,get,incr",
    ),
    "fsync": (
        ("--durability", "fsync"),
        ("--appendonly", "yes", "--appendfsync", "always"),
        (1,),
        "set",
    ),
}
REQUESTS, FEW_REQUESTS = 200_000, 20_000  # of redis-benchmark, with memory or a log; with fsync
LATENCY_REQUESTS = 10_000
WATCHED = 2000
KEYS, KEY_BYTES, VALUE_BYTES = 1_000_000, 12, 100
PIPELINE = 1000  # SETs in one write while the keys are loaded
DIFFERING = 10
EQUAL_S = 30.0


# ---- servers ----


@contextlib.contextmanager
def node(
    folder: Path, words: tuple[str, ...], id: int = 1, join: str = "", port: int = 0
) -> Iterator[tuple[LocalMesh, int]]:
    """A node with a log in a folder of its own; its mesh of one, and its Redis port."""
    folder.mkdir(parents=True, exist_ok=True)
    told: dict[str, str] = {}
    options = ["--workers", "0", "--no-beacon", "--log", str(folder / "node.log"), "--resp", "0"]
    options += [*words, *(["--join", join] if join else [])]
    mesh = LocalMesh(
        [id],
        ports=lambda _: port,
        options=options,
        on_event=lambda _, event: told.update({k: v for k, v in event.items() if k == "resp"}),
    )
    with mesh:
        mesh.wait_complete(120)
        yield mesh, int(told["resp"].rpartition(":")[2])


@contextlib.contextmanager
def both(folder: Path, mine: tuple[str, ...], theirs: tuple[str, ...]) -> Iterator[dict[str, int]]:
    """The ports of a node and of a redis-server, each with a folder of its own."""
    (folder / "redis").mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        with pinned(SERVER_CPU):
            _, port = stack.enter_context(node(folder / "velum", mine))
            redis = redis_server(*theirs, "--dir", str(folder / "redis"))
            yield {"redis": stack.enter_context(redis), "velum": port}


def ask(port: int, tests: str, requests: int, pipeline: int, connections: int) -> dict[str, Any]:
    """By command, what redis-benchmark says: requests a second, latencies in ms."""
    words = ["redis-benchmark", "-p", str(port), "-t", tests, "-n", str(requests), "--csv"]
    words += ["-c", str(connections), "-P", str(pipeline), "-d", str(VALUE_BYTES), "-r", "10000"]
    with pinned(CLIENT_CPU):
        pipe, quiet = subprocess.PIPE, subprocess.DEVNULL  # it misses CONFIG
        said = subprocess.run(words, stdout=pipe, stderr=quiet, check=True, text=True).stdout
    return {
        row["test"].split()[0].lower(): {
            "rps": float(row["rps"]),
            **{key: float(row[f"{key}_latency_ms"]) for key in ("p50", "p95", "p99")},
        }
        for row in csv.DictReader(said.splitlines())
    }


# ---- sections ----


def in_turn(
    args: argparse.Namespace, systems: Mapping[str, Callable[[], Any]]
) -> dict[str, list[Any]]:
    """By system what is measured in each round, which goes through all of them."""
    runs: dict[str, list[Any]] = {system: [] for system in systems}
    for _ in range(2 if args.quick else ROUNDS):
        for system, measured in systems.items():
            runs[system].append(measured())
    return runs


def commands(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Rates of redis-benchmark, by durability and pipeline."""
    found: dict[str, Any] = {}
    for name, (mine, theirs, pipelines, tests) in PLANS.items():
        requests = REQUESTS if name != "fsync" else FEW_REQUESTS
        requests //= 10 if args.quick else 1
        with both(folder / name, mine, theirs) as ports:
            for pipeline in pipelines:
                words = (tests, requests, pipeline, CONNECTIONS)
                systems = {s: partial(ask, port, *words) for s, port in ports.items()}
                runs = in_turn(args, systems)
                found[f"{name} {pipeline}"] = runs
                say(f"{name}, -P {pipeline}: {kv_report.short(runs)}")
    return {"rates": found, "requests": REQUESTS, "connections": CONNECTIONS}


def latency(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Of one client's SETs, one after the other, by durability."""
    found: dict[str, Any] = {}
    requests = LATENCY_REQUESTS // (10 if args.quick else 1)
    for name, (mine, theirs, _, _) in PLANS.items():
        with both(folder / f"latency {name}", mine, theirs) as ports:
            systems = {system: partial(puts, port, requests) for system, port in ports.items()}
            found[name] = in_turn(args, systems)
    with three(folder / "quorum") as port:
        found["quorum"] = in_turn(args, {"velum": partial(puts, port, requests)})
    return {"latencies": found}


def puts(port: int, requests: int) -> Any:
    """Of one client."""
    return ask(port, "set", requests, 1, 1)["set"]


@contextlib.contextmanager
def three(folder: Path) -> Iterator[int]:
    """Three nodes, of which a majority has what the first one acknowledges; its Redis port."""
    words = ("--durability", "quorum")
    with contextlib.ExitStack() as stack, pinned(SERVER_CPU):
        mesh, port = stack.enter_context(node(folder / "1", words))
        for id in (2, 3):
            address = mesh.nodes[1].address
            stack.enter_context(node(folder / str(id), words, id, address))
        time.sleep(1)  # all know each other
        yield port


def watch(args: argparse.Namespace, _: Path) -> dict[str, Any]:
    """From a put to a watcher on another node, one way."""
    here = ["velum"]
    here += ["zenoh"] if importlib.util.find_spec("zenoh") else []
    here += ["redis", "redis-plain"] if shutil.which("redis-server") else []
    count = WATCHED // (10 if args.quick else 1)
    found = in_turn(args, {name: partial(kv_watch.measure, name, count) for name in here})
    for system, runs in found.items():
        say(f"{system}: {median(median(run) for run in runs):.1f} us")
    return {"ways": {s: [_quantiles(sorted(run)) for run in runs] for s, runs in found.items()}}


def _quantiles(ordered: list[float]) -> dict[str, float]:
    return {
        name: ordered[min(len(ordered) - 1, int(len(ordered) * share))]
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    }


def million(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """A large store: its memory, its start, and what two of them that are equal, or nearly so,
    tell each other."""
    keys = KEYS // (20 if args.quick else 1)
    words = ("--durability", "log")
    with node(folder / "empty", words) as (mesh, _):
        empty = _rss(mesh, 1)
    with node(folder / "a", words) as (_, port):
        fill(port, keys)
    began = time.monotonic()
    with node(folder / "a", words) as (mesh, port):
        load_s = time.monotonic() - began
        size = (folder / "a" / "node.log").stat().st_size
        bytes_a_key = (_rss(mesh, 1) - empty) / keys
        copy = folder / "b.log"
        shutil.copyfile(folder / "a" / "node.log", copy)
        equal = compared(mesh.nodes[1].address, copy, keys)
        fill(port, DIFFERING, prefix=b"else")
        differing = compared(mesh.nodes[1].address, copy, keys + DIFFERING)
    return {
        "keys": keys,
        "load_s": load_s,
        "log_bytes": size,
        "bytes_a_key": bytes_a_key,
        "equal_bytes": equal,
        "differing_bytes": differing,
        "differing": DIFFERING,
    }


def compared(address: str, log: Path, keys: int) -> int:
    """Bytes that a second node, with a log of its own, exchanges over links with the one at an
    address, in both directions, until it knows that it has all that is there."""
    end = time.monotonic() + EQUAL_S
    with Node(2, 0, beacon=False, workers=0, join=[address], log=log) as other:
        while time.monotonic() < end:
            status = other.status()
            if status["kv"]["sessions"] and len(other.kv) == keys:
                return int(status["hub"]["bytes_in"] + status["hub"]["bytes_out"])
            time.sleep(0.01)
    raise SystemExit(f"two nodes did not compare themselves within {EQUAL_S:.0f} s")


def fill(port: int, keys: int, prefix: bytes = b"key") -> None:
    """Writes so many keys over one connection."""
    value = b"v" * VALUE_BYTES
    with socket.create_connection(("127.0.0.1", port)) as stream:
        for first in range(0, keys, PIPELINE):
            some = range(first, min(keys, first + PIPELINE))
            names = [(b"%s%d" % (prefix, number)).ljust(KEY_BYTES, b".") for number in some]
            stream.sendall(
                b"".join(
                    b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
                    % (len(name), name, len(value), value)
                    for name in names
                )
            )
            left = len(b"+OK\r\n") * len(names)
            while left > 0:
                left -= len(stream.recv(left))


def _rss(mesh: LocalMesh, id: int) -> int:
    rss: int = psutil.Process(mesh.nodes[id].process.pid).memory_info().rss
    return rss


Section = Callable[[argparse.Namespace, Path], Results]
SECTIONS: dict[str, Section] = {
    "commands": commands,
    "latency": latency,
    "watch": watch,
    "million": million,
}
NEED_REDIS = {"commands", "latency"}


def in_a_folder(section: Section, args: argparse.Namespace) -> Results:
    """Runs one, with a folder that is its own."""
    with tempfile.TemporaryDirectory(prefix="velum-kv-") as folder:
        return section(args, Path(folder))


def todo(args: argparse.Namespace) -> Iterator[tuple[str, Callable[[], Results]]]:
    """The sections that are to be run and can be."""
    for name in [name for name in SECTIONS if name in args.only]:
        if name in NEED_REDIS and shutil.which("redis-benchmark") is None:
            say(f"left out: {name}: no redis-benchmark: apt-get install redis-server redis-tools")
        else:
            yield name, partial(in_a_folder, SECTIONS[name], args)


def main() -> int:
    args = parser(kv_report.PAGE, SECTIONS, "few requests, few rounds", {}).parse_args()
    results = stored(RESULTS) if args.report else measure(RESULTS, todo(args), args.quick)
    wrote(kv_report.write(results))
    say(kv_report.promises(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
