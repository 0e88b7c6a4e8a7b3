"""Every command of ``velum``: its words, its options, its explanation.

Owns the text that ``--help`` shows and the list that docs/cli.md is checked against. Refuses to do
anything: the functions that run are named, not imported, so that one command never pays for
another's imports.
"""

from __future__ import annotations

from velum.cli import numbers
from velum.cli.options import Command, Positional, Setting
from velum.cli.settings import (
    ATTACH,
    BEACON_PORT,
    DURABILITY,
    HOST,
    JOIN,
    JSON,
    LOG_JSON,
    LOG_LEVEL,
    MEMORY,
    NO_BEACON,
    PORT,
    RAM,
    RESP,
    VERBOSE,
    WORKERS,
)
from velum.cli.table_kv import KV_COMMANDS, ROBOT

_TIMEOUT = Setting(
    "timeout", "stop the task after this long: 5, 0.2, 500ms, 2min", numbers.seconds, metavar="S"
)
_ON = Setting("on", "run on this node and no other", numbers.node_id, metavar="ID")
_FUEL = Setting(
    "fuel", "most loop rounds and calls that the guest may make", numbers.count, metavar="N"
)
_GUEST_MEMORY = Setting(
    "memory",
    "most linear memory of the guest; else the node's own limit",
    numbers.guest_memory,
    metavar="SIZE",
)
_MODULE = (
    Positional("file", "the module, a .wasm file"),
    Positional("function", "an exported function of it", metavar="FUNC"),
)

NODE = Command(
    name="node",
    summary="start a node of the mesh",
    text="""Start node ID. It finds the other nodes of this machine or network by beacons, or joins
through the addresses given, and runs tasks for all of them. It prints its address and its peers
as they come and go; on a terminal it then reads commands (type help). Without a terminal it serves
until SIGTERM or Ctrl-C, hands its work back, and leaves.""",
    examples="""  velum node 1
  velum node 2 --workers 4 --memory 1G
  velum node 7 --host 192.168.1.7 --join 192.168.1.1:8001
  velum node 8 --log logs/node8.log --resp 6379
  VELUM_LOG_LEVEL=info velum node 3 --config velum.toml < /dev/null""",
    run="velum.cli.nodecmd:run",
    positionals=(
        Positional("id", "this node's id, 1 to 65535, its own in the mesh", numbers.node_id),
    ),
    settings=(
        HOST,
        PORT,
        BEACON_PORT,
        JOIN,
        WORKERS,
        MEMORY,
        RAM,
        Setting(
            "repair-rate",
            "most bytes a second that it sends to remake lost copies of files, or max",
            numbers.rate,
            metavar="RATE|max",
        ),
        Setting(
            "log",
            "keep the state that every node holds in this file too; else in memory only",
            metavar="PATH",
        ),
        DURABILITY,
        RESP,
        NO_BEACON,
        Setting(
            "state-dir",
            "keep scatters here, so that they go on when the whole mesh was switched off",
            metavar="DIR",
        ),
        LOG_LEVEL,
        LOG_JSON,
        Setting("json", "peers and state as JSON lines on stdout; never a prompt", kind="switch"),
        Setting(
            "until-eof",
            "leave when standard input ends: for a program that starts nodes",
            kind="switch",
        ),
        Setting(
            "config", "TOML file; its table [node] holds these options by name", metavar="FILE"
        ),
    ),
    table="node",
)

CALL = Command(
    name="call",
    summary="run a built-in function: add sub mul div",
    text="""Run a built-in function on the least busy node and print its value. Integers are 64 bits
with sign, and overflow is an error; one float makes both floats.""",
    examples="""  velum call add 10 20              prints 30
  velum call div 1.0 -3             prints -0.3333333333333333
  velum call mul 6 7 --on 2 -v      on node 2, with the time it took""",
    run="velum.cli.commands:call",
    positionals=(
        Positional("name", "add, sub, mul or div", metavar="NAME"),
        Positional("args", "numbers: 10 -3 0xff 2.5", numbers.call_number, "ARG", many=True),
    ),
    settings=(*ATTACH, _TIMEOUT, _ON, JSON, VERBOSE),
)

WASM = Command(
    name="wasm",
    summary="run a function of a WebAssembly module",
    text="""Run an exported function of a WebAssembly module on the least busy node and print its
value. The module travels there once and is known by its hash from then on. Arguments are checked
against the function's signature before anything is sent; see velum inspect FILE.""",
    examples="""  velum wasm tests/guests/sum.wasm sum 10 20 30
  velum wasm tests/guests/primes.wasm count_primes 0 500000 -v
  velum wasm spin.wasm spin --timeout 500ms      ends with status 4""",
    run="velum.cli.commands:wasm",
    positionals=(
        *_MODULE,
        Positional(
            "args", "numbers, typed by the signature", numbers.wasm_number, "ARG", many=True
        ),
    ),
    settings=(*ATTACH, _TIMEOUT, _FUEL, _GUEST_MEMORY, _ON, JSON, VERBOSE),
)

SCATTER = Command(
    name="scatter",
    summary="run a function over a range, on all workers of the mesh",
    text="""Cut the range from START up to END into slices, call FUNC(from, to, ARGS...) on each,
on all workers of the mesh, and print what --reduce makes of the values: the answer of one node
alone, whichever nodes die on the way. FUNC takes two i32 or two i64 first and returns a number.
Ctrl-C cancels the job; a second one does not wait for that. With --detach the job goes on by
itself: see velum jobs and velum job ID.""",
    examples="""  velum scatter tests/guests/primes.wasm count_primes 0 50000000
  velum scatter tests/guests/search.wasm search 0 1e8 --reduce first --missing -1
  velum scatter tests/guests/pi.wasm pi_hits 0 100_000_000 --slices 10000 --json
  velum scatter primes.wasm count_primes 0 2e9 --limit 1h --priority 50 --detach""",
    run="velum.cli.scatter:scatter",
    positionals=(
        *_MODULE,
        Positional("start", "first number of the range", numbers.whole_number),
        Positional("end", "the number behind its last", numbers.whole_number),
        Positional("args", "what every call gets besides", numbers.wasm_number, "ARG", many=True),
    ),
    settings=(
        *ATTACH,
        Setting(
            "reduce",
            "how the slices' values become the answer",
            default="sum",
            choices=tuple("sum product min max and or xor first all collect".split()),
        ),
        Setting(
            "missing",
            "the value that means not found, for --reduce first and all",
            numbers.wasm_number,
            metavar="V",
        ),
        Setting(
            "slices",
            "how many to cut the range into; else 4096, fewer for a short range",
            numbers.slice_count,
            metavar="N",
        ),
        Setting(
            "keep-going", "answer for the rest when slices fail, and list those", kind="switch"
        ),
        Setting("wrap", "integer sums and products modulo 2^64, no overflow", kind="switch"),
        Setting(
            "priority",
            "share of the workers against other jobs, 1 to 100",
            numbers.priority,
            10,
            metavar="N",
        ),
        Setting(
            "timeout",
            "a slice that runs longer has failed: 5, 0.2, 500ms, 2min",
            numbers.seconds,
            metavar="S",
        ),
        Setting("limit", "stop the job after this long", numbers.seconds, metavar="S"),
        _FUEL,
        _GUEST_MEMORY,
        Setting("detach", "print the job's id and return, the job goes on", kind="switch"),
        JSON,
        Setting("verbose", "say on stderr how the job went", kind="switch", short="v"),
    ),
)

JOBS = Command(
    name="jobs",
    summary="show the scatters of the mesh, running or over",
    text="""Show every scatter that the mesh knows, the newest first: what it runs, how far it is,
which node coordinates it, and which others hold a copy. Finished ones are kept for an hour.""",
    examples="  velum jobs\n  velum jobs --watch                  every second, until Ctrl-C",
    run="velum.cli.scatter:jobs",
    settings=(*ATTACH, JSON, Setting("watch", "show it again every second", kind="switch")),
)

JOB = Command(
    name="job",
    summary="show, watch, cancel or resume one scatter",
    text="""Show how one scatter stands, with its failed slices. It may have been submitted at any
node. --watch shows its progress until it ends and prints its answer, --cancel ends it, --resume
takes a failed or cancelled one up again: what is done stays done, failed slices run once more.""",
    examples="""  velum job 5f3a                      the first digits of the id do
  velum job 5f3a --watch
  velum job 5f3a --resume --watch""",
    run="velum.cli.scatter:job",
    positionals=(Positional("id", "the job's id, or its first digits"),),
    settings=(
        *ATTACH,
        Setting("watch", "show its progress, then its answer", kind="switch"),
        Setting("cancel", "end it", kind="switch"),
        Setting("resume", "take it up again", kind="switch"),
        JSON,
    ),
)

_FILE_NAME = Positional("name", "a file's name in the mesh")

STORE_PUT = Command(
    name="store put",
    summary="keep a file in the RAM of the mesh",
    text="""Cut a file into chunks, spread them over the RAM of the nodes, and keep it under NAME,
else under FILE's own name. It is there for everybody once all of it has its copies; a put that
fails or is interrupted leaves what was there before. A full mesh refuses it and drops nothing.
Nothing is written to disk.""",
    examples="""  velum store put photo.jpg
  velum store put data.csv tables/data.csv --copies 3     any two nodes may die
  velum store put film.mp4 --ec 4+2                       any two may die, for half the RAM
  tar c src | velum store put - backup.tar""",
    run="velum.cli.store:put",
    positionals=(
        Positional("file", "the file; - for standard input"),
        Positional("name", "its name in the mesh (default the last part of FILE)", optional=True),
    ),
    settings=(
        *ATTACH,
        Setting("copies", "nodes that each chunk lies on; else 2", numbers.copies, metavar="N"),
        Setting(
            "ec",
            "instead of copies: stripes of K chunks and M parity chunks, any K of which do",
            numbers.stripes,
            metavar="K+M",
        ),
        Setting("chunk", "size of a chunk, up to 8M", numbers.chunk_size, "1M", metavar="BYTES"),
        JSON,
        Setting("verbose", "say on stderr how fast it went", kind="switch", short="v"),
    ),
)

STORE_GET = Command(
    name="store get",
    summary="fetch a file",
    text="""Fetch a file from the RAM of the mesh into FILE, else into the last part of its name,
here. Every chunk is checked. FILE holds all of it, or what it held before.""",
    examples="""  velum store get photo.jpg
  velum store get tables/data.csv /tmp/        as /tmp/data.csv
  velum store get backup.tar - | tar x""",
    run="velum.cli.store:get",
    positionals=(
        _FILE_NAME,
        Positional("file", "where to; - for standard output", optional=True),
    ),
    settings=(
        *ATTACH,
        Setting("verbose", "say on stderr how fast it went", kind="switch", short="v"),
    ),
)

STORE_LS = Command(
    name="store ls",
    summary="list files",
    text="""List the files of the mesh whose names start with PREFIX, and mark those at risk, which
have fewer copies than asked for, and those damaged, which have lost chunks.""",
    examples="""  velum store ls
  velum store ls tables/ --long""",
    run="velum.cli.store:ls",
    positionals=(Positional("prefix", "how the names start", optional=True, default=""),),
    settings=(
        *ATTACH,
        Setting("long", "size, time and state of each too", kind="switch", short="l"),
        JSON,
    ),
)

STORE_STAT = Command(
    name="store stat",
    summary="show one file: size, copies, how whole it is",
    text="Show all that is known of a file, and ask the nodes whether each chunk has its copies.",
    examples="  velum store stat photo.jpg",
    run="velum.cli.store:stat",
    positionals=(_FILE_NAME,),
    settings=(*ATTACH, JSON),
)

STORE_RM = Command(
    name="store rm",
    summary="delete files",
    text="""Delete files from the mesh. A name that no file has ends with status 2; the others are
deleted all the same.""",
    examples="  velum store rm photo.jpg tables/data.csv",
    run="velum.cli.store:rm",
    positionals=(Positional("names", "the files' names", metavar="NAME", many=True),),
    settings=ATTACH,
)

STORE_DF = Command(
    name="store df",
    summary="show the room by node, and what is being repaired",
    text="""Show how much RAM each node gives to files and what of it is used, how many files are at
risk or damaged, and how much is still to be copied until all is whole again.""",
    examples="  velum store df\n  velum store df --json",
    run="velum.cli.store:df",
    settings=(*ATTACH, JSON),
)

NODES = Command(
    name="nodes",
    summary="show the members of the mesh and their load",
    text="""Show every member of the mesh as one of its nodes sees it: state, address, workers,
tasks running and queued, CPU, free RAM, measured speed (million wasm loop rounds a second of one
worker), and how long ago it was heard. A star marks the node that was asked.""",
    examples="""  velum nodes
  velum nodes --watch                 every second, until Ctrl-C
  velum nodes --json --node 192.168.1.1:8001""",
    run="velum.cli.commands:nodes",
    settings=(*ATTACH, JSON, Setting("watch", "show it again every second", kind="switch")),
)

STATUS = Command(
    name="status",
    summary="show what one node does",
    text="Show one node's own figures: version, uptime, workers, queue, calls, modules, links.",
    examples="  velum status\n  velum status --node 127.0.0.1:8002 --json",
    run="velum.cli.commands:status",
    settings=(*ATTACH, JSON),
)

INSPECT = Command(
    name="inspect",
    summary="show a module's imports, exports and signatures",
    text="""Show what a WebAssembly module imports and exports, and whether velum runs it. Needs no
node. Exit status 1 when velum would refuse the module.""",
    examples="  velum inspect tests/guests/primes.wasm",
    run="velum.cli.commands:inspect",
    positionals=(Positional("file", "the module, a .wasm file"),),
    settings=(JSON,),
)

DOCTOR = Command(
    name="doctor",
    summary="check this machine: ports, beacons, limits, versions",
    text="""Check everything that a node needs of this machine. Each line says ok, warn or fail, and
what to do. Exit status 1 when something fails.""",
    examples="  velum doctor\n  velum doctor 3         also whether node 3's port is free",
    run="velum.cli.doctor:run",
    positionals=(
        Positional(
            "id",
            "the node whose port is looked at (default 1)",
            numbers.node_id,
            optional=True,
            default=1,
        ),
    ),
    settings=(HOST, BEACON_PORT, JSON),
)

UP = Command(
    name="up",
    summary="start a mesh of N nodes in this terminal",
    text="""Start N nodes as processes of this machine, show what they print with each node's id in
front, and say when all see each other. Ctrl-C stops all; a second Ctrl-C does so at once.""",
    examples="""  velum up 4
  velum up 2 --first-id 11 --workers 1      nodes 11 and 12""",
    run="velum.cli.up:run",
    positionals=(Positional("count", "number of nodes", numbers.count, metavar="N"),),
    settings=(
        Setting(
            "first-id", "id of the first; the others count up", numbers.node_id, 1, metavar="ID"
        ),
        Setting(
            "port",
            "port of the first, the others count up; 0 for any free ones; else 8000 + ID each",
            numbers.port,
            metavar="N",
        ),
        HOST,
        BEACON_PORT,
        JOIN,
        Setting(
            "workers",
            "worker processes of each node; else the cores are shared out",
            numbers.workers,
            metavar="N",
        ),
        MEMORY,
        RAM,
        LOG_LEVEL,
        LOG_JSON,
    ),
)

DEMO = Command(
    name="demo",
    summary="see a mesh work, lose a node, and lose nothing",
    text="""Start a small mesh on free ports, run arithmetic and WebAssembly on it, count the primes
below 20,000,000 as a scatter over all nodes, kill the node that coordinates it with SIGKILL at
half, and check the answers. Stops everything it started. Exit status 0 only when every answer is
right.""",
    examples="  velum demo\n  velum demo --nodes 6",
    run="velum.cli.demo:run",
    settings=(
        Setting("nodes", "number of nodes, 2 to 16", numbers.demo_nodes, 4, metavar="N"),
        JSON,
    ),
)

CHAOS = Command(
    name="chaos",
    summary="prove that scatters, files and keys survive: kill, stop, part, restart",
    text="""Start a mesh of real processes and keep scatters going on it while its nodes and workers
are killed, stopped and started again, and, with root, cut off from each other in network
namespaces. Every answer must have the same bits as one node alone gives, in time, and nothing may
be left behind. One seed decides all that can be decided before. Exit status 0 only when all was
right; else the seed, the logs and the job are named.

With --store files are put, read, replaced and removed instead, and one node at a time is struck,
the next when all files have their copies again: every file must read as it was last put, what was
removed must not return, and the RAM must be free at the end.

With --kv keys are written, counted on and deleted through any node, each of which has a log: every
write that was acknowledged as on disk must be on every node at the end.""",
    examples="""  velum chaos
  velum chaos --store --seconds 600
  velum chaos --kv --seconds 600
  velum chaos --nodes 6 --seconds 600 --seed 1 --json""",
    run="velum.cli.chaos:run",
    settings=(
        Setting("nodes", "number of nodes, 3 to 64", numbers.count, 6, metavar="N"),
        Setting("seconds", "how long things happen", numbers.seconds, 60.0, metavar="S"),
        Setting("seed", "decides what happens; else a random one", numbers.count, metavar="N"),
        Setting("workers", "worker processes of each node", numbers.workers, 1, metavar="N"),
        Setting("store", "files in RAM instead of scatters", kind="switch"),
        Setting("kv", "keys with logs instead of scatters", kind="switch"),
        Setting(
            "ram", "with --store: RAM of each node for them", numbers.ram, "256M", metavar="SIZE"
        ),
        Setting(
            "netns",
            "part the network: takes root and ip; auto: where that is possible",
            default="auto",
            choices=("auto", "on", "off"),
        ),
        JSON,
    ),
)

SIM = Command(
    name="sim",
    summary="simulate membership over hundreds of nodes",
    text="""Run the membership policy of real nodes over a simulated network, and print how soon
failures are detected and known to all, false positives, and bytes per node and second. One seed
gives one run, always.""",
    examples="""  velum sim --nodes 1000 --seed 7
  velum sim --nodes 300 --seed 7 --loss 0.1""",
    run="velum.sim.cli:run",
    extend="velum.sim.cli:add_arguments",
)

COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        NODE,
        CALL,
        WASM,
        SCATTER,
        JOBS,
        JOB,
        STORE_PUT,
        STORE_GET,
        STORE_LS,
        STORE_STAT,
        STORE_RM,
        STORE_DF,
        *KV_COMMANDS,
        ROBOT,
        NODES,
        STATUS,
        INSPECT,
        DOCTOR,
        UP,
        DEMO,
        CHAOS,
        SIM,
    )
}

GROUPS = {
    "store": "files in the RAM of the mesh: put, get, ls, stat, rm, df",
    "kv": "state that every node holds: put, get, del, keys, watch, incr, sets, cas, ...",
}
"""Commands of two words: the first, and what they are about."""
