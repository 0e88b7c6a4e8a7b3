"""Settings that several commands of ``velum`` have in common.

Owns their names, words and defaults, each written once. Refuses to know the commands: those are in
`velum.cli.table` and `velum.cli.table_kv`.
"""

from __future__ import annotations

from velum.cli import logs, numbers
from velum.cli.options import Setting

JSON = Setting("json", "print one JSON document on stdout", kind="switch")
VERBOSE = Setting(
    "verbose", "say on stderr which node ran it and how long it took", kind="switch", short="v"
)
_NODE = Setting(
    "node",
    "a running node to attach to; else the first found on this machine",
    numbers.address,
    metavar="HOST:PORT",
)
BEACON_PORT = Setting(
    "beacon-port", "UDP port on which nodes find each other", numbers.port, 8888, metavar="N"
)
ATTACH = (_NODE, BEACON_PORT)  # of every command that uses a mesh; at a prompt they mean nothing

HOST = Setting(
    "host",
    "address to listen on; 0.0.0.0 for every network of this machine",
    default="127.0.0.1",
    metavar="ADDRESS",
)
PORT = Setting(
    "port", "TCP and UDP port, 0 for any free one; else 8000 + ID", numbers.port, metavar="N"
)
JOIN = Setting(
    "join",
    "nodes to join through, for a network without broadcast; may be repeated",
    numbers.address,
    kind="list",
    metavar="HOST:PORT,...",
)
WORKERS = Setting(
    "workers",
    "worker processes, each runs one guest; else one for every core",
    numbers.workers,
    metavar="N",
)
MEMORY = Setting(
    "memory", "most linear memory of one guest", numbers.guest_memory, "256M", metavar="SIZE"
)
RAM = Setting(
    "ram",
    "RAM it gives to files of the mesh, 0 for none; else a quarter of what is free, at most 1G",
    numbers.ram,
    metavar="SIZE",
)
NO_BEACON = Setting("no-beacon", "neither send nor hear beacons", kind="switch")
LOG_LEVEL = Setting(
    "log-level", "least level of log lines on stderr", default="warning", choices=logs.LEVELS
)
LOG_JSON = Setting("log-json", "log lines as JSON", kind="switch")

# Of nodes that keep state in a log (docs/kv.md).
DURABILITIES = ("ram", "log", "fsync", "quorum")
DURABILITY = Setting(
    "durability",
    "what a write waits for unless it says so itself: memory, the log, its disk, or a majority too",
    default="log",
    choices=DURABILITIES,
)
RESP = Setting(
    "resp",
    "serve the Redis protocol on this TCP port too, 0 for any free one",
    numbers.port,
    metavar="PORT",
)
