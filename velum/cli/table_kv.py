"""The commands ``velum kv ...`` and ``velum robot``: their words, options and explanations.

Owns that text, as `velum.cli.table` does for all others. Refuses to do anything.
"""

from __future__ import annotations

from velum.cli import numbers
from velum.cli.options import Command, Positional, Setting
from velum.cli.settings import (
    ATTACH,
    BEACON_PORT,
    DURABILITIES,
    DURABILITY,
    HOST,
    JOIN,
    JSON,
    LOG_JSON,
    LOG_LEVEL,
    NO_BEACON,
    RESP,
    WORKERS,
)

_KEY = Positional("key", "a key: 1 to 1,024 bytes of any text; / parts its steps, as a/b/c")
_KEYS = Positional("keys", "the keys", metavar="KEY", many=True)
_ELEMENTS = Positional("elements", "what to add or take", metavar="ELEMENT", many=True)
_VALUE = Positional("value", "the value; - for standard input", metavar="VALUE|-")
_AS_JSON = Setting(
    "as-json", "VALUE is JSON: it comes out as a number, list, ..., not as bytes", kind="switch"
)
_DURABILITY = Setting(
    "durability",
    "what to wait for: ram, log (written), fsync (on disk), quorum (fsync, and in memory on a "
    "majority); else what the node does",
    choices=DURABILITIES,
)
_VERBOSE = Setting(
    "verbose", "say on stderr how durable it is, its version and the time", kind="switch", short="v"
)

KV_PUT = Command(
    name="kv put",
    summary="write a key",
    text="""Write VALUE under KEY into the state that every node holds. The node that is asked has
it at once, and its peers within milliseconds; of two writes of one key the later wins, everywhere.
VALUE is kept as the bytes that it is.""",
    examples="""  velum kv put status active
  velum kv put dock/3/owner robot_A --ttl 30s        gone in 30 s unless it is written again
  velum kv put map - --durability quorum < map.bin   on disk, and with a majority
  velum kv put limits '{"speed": 1.5}' --as-json
  velum kv put plan left --siblings                  keep what others write at the same time too""",
    run="velum.cli.kv:put",
    positionals=(_KEY, _VALUE),
    settings=(
        *ATTACH,
        _AS_JSON,
        Setting("ttl", "it expires after this long: 5, 500ms, 2min", numbers.seconds, metavar="S"),
        _DURABILITY,
        Setting(
            "siblings",
            "keep values that others write at the same time beside this one; see get --siblings",
            kind="switch",
        ),
        Setting("timeout", "how long to wait for a quorum", numbers.seconds, 5.0, metavar="S"),
        JSON,
        _VERBOSE,
    ),
)

KV_GET = Command(
    name="kv get",
    summary="read a key",
    text="""Print a key's value: bytes as the text that they are, what was put as JSON in its own
way, a set one element a line, a hash one NAME=VALUE a line. A key that there is not ends with
status 2.""",
    examples="""  velum kv get status
  velum kv get map --raw > map.bin
  velum kv get status --json         with its type, version and time left""",
    run="velum.cli.kv:get",
    positionals=(_KEY,),
    settings=(
        *ATTACH,
        Setting("raw", "the bytes as they are, without a line end", kind="switch", short="r"),
        Setting("siblings", "all values that put --siblings has kept, one a line", kind="switch"),
        JSON,
    ),
)

KV_DEL = Command(
    name="kv del",
    summary="delete keys",
    text="""Delete keys, whatever they hold, on all nodes. A key that there is not ends with status
2; the others are deleted all the same.""",
    examples="  velum kv del status dock/3/owner",
    run="velum.cli.kv:delete",
    positionals=(_KEYS,),
    settings=(*ATTACH, _DURABILITY, JSON),
)

KV_KEYS = Command(
    name="kv keys",
    summary="list keys",
    text="""List the keys that fit PATTERN, in order: * is any text, / too, ? one character, [ab]
one of these.""",
    examples="  velum kv keys\n  velum kv keys 'robots/*/battery'",
    run="velum.cli.kv:keys",
    positionals=(Positional("pattern", "which (default *)", optional=True, default="*"),),
    settings=(*ATTACH, JSON),
)

KV_WATCH = Command(
    name="kv watch",
    summary="show keys as they change, until Ctrl-C",
    text="""Show the keys that fit PATTERN as they are now, then every change as it comes, whoever
made it. Who reads too slowly is told how many changes it has missed.""",
    examples="""  velum kv watch 'robots/*/position'
  velum kv watch '*' --new --json | jq .key""",
    run="velum.cli.kv:watch",
    positionals=(Positional("pattern", "which keys (default *)", optional=True, default="*"),),
    settings=(
        *ATTACH,
        Setting("new", "changes only, not what there is now", kind="switch"),
        Setting("json", "one JSON object a line", kind="switch"),
    ),
)

KV_INCR = Command(
    name="kv incr",
    summary="add to a counter",
    text="""Add BY to the number under KEY and print the sum as this node knows it. What several
nodes add at the same time all counts, after a partition too.""",
    examples="  velum kv incr visits\n  velum kv incr stock/bolts -12",
    run="velum.cli.kv:incr",
    positionals=(
        _KEY,
        Positional("by", "how much (default 1)", numbers.whole_number, optional=True, default=1),
    ),
    settings=(*ATTACH, _DURABILITY, JSON),
)

KV_SADD = Command(
    name="kv sadd",
    summary="add elements to a set",
    text="""Add elements to the set under KEY and print how many were new. An element that one node
adds while another removes it stays.""",
    examples="  velum kv sadd team robot_A robot_B",
    run="velum.cli.kv:sadd",
    positionals=(_KEY, _ELEMENTS),
    settings=(*ATTACH, _DURABILITY, JSON),
)

KV_SREM = Command(
    name="kv srem",
    summary="take elements out of a set",
    text="Take elements out of the set under KEY and print how many were in it.",
    examples="  velum kv srem team robot_B",
    run="velum.cli.kv:srem",
    positionals=(_KEY, _ELEMENTS),
    settings=(*ATTACH, _DURABILITY, JSON),
)

KV_SMEMBERS = Command(
    name="kv smembers",
    summary="list the elements of a set",
    text="List the elements of the set under KEY, in order; none when there is no such key.",
    examples="  velum kv smembers team",
    run="velum.cli.kv:smembers",
    positionals=(_KEY,),
    settings=(*ATTACH, JSON),
)

KV_CAS = Command(
    name="kv cas",
    summary="write a key only if it has not changed",
    text="""Write VALUE under KEY if its version is still VERSION, and print the new version; 0
stands for no such key. Otherwise nothing is written, and the status is 1. This is one node's word:
another may write at the same time, and the later write wins. With --quorum it is refused unless a
majority has it too.""",
    examples="""  velum kv get leader --json         shows its version
  velum kv cas leader 0 robot_A      only if there is none
  velum kv cas leader 0199f3a1c2000000-7 robot_B --quorum""",
    run="velum.cli.kv:cas",
    positionals=(
        _KEY,
        Positional("version", "the version it must have, 0 for no such key"),
        _VALUE,
    ),
    settings=(
        *ATTACH,
        _AS_JSON,
        Setting("quorum", "only when a majority of nodes can be asked", kind="switch"),
        JSON,
    ),
)

KV_STAT = Command(
    name="kv stat",
    summary="show one node's state in figures: keys, memory, log, peers",
    text="Show how many keys one node holds, its log, its peers, and what it has sent and heard.",
    examples="  velum kv stat\n  velum kv stat --node 127.0.0.1:8002 --json",
    run="velum.cli.kv:stat",
    settings=(*ATTACH, JSON),
)

KV_COMPACT = Command(
    name="kv compact",
    summary="rewrite one node's log without what is out of date",
    text="""Begin to rewrite the log of one node with what is in its memory. It goes on in the
background, and writes go on meanwhile; a crash at any moment leaves the one log or the other.""",
    examples="  velum kv compact --node 127.0.0.1:8002",
    run="velum.cli.kv:compact",
    settings=(*ATTACH, JSON),
)

KV_FORGET = Command(
    name="kv forget",
    summary="give up a node that will never come back",
    text="""Strike node ID off the roster of those who hold the state. While a node is away, notes
of what was deleted are kept for it; so strike it off when it is gone for good. If it comes back all
the same, the others refuse its copy: let it start with an empty log.""",
    examples="  velum kv forget 17",
    run="velum.cli.kv:forget",
    positionals=(Positional("id", "the node's id; velum nodes shows them", numbers.node_id),),
    settings=(*ATTACH, JSON),
)

KV_CHECK = Command(
    name="kv check",
    summary="read a log and say what is wrong with it; needs no node",
    text="""Read a log, that of a running node too, and say how many records and keys are in it,
which bytes are damaged, and whether its end is torn, as a crash leaves it: that is cut off at the
next start. Nothing is changed. Exit status 1 when something is damaged.""",
    examples="  velum kv check logs/robot_A.log",
    run="velum.cli.kv:check",
    positionals=(Positional("log", "the log, a file"),),
    settings=(JSON,),
)

KV_COMMANDS = (
    KV_PUT,
    KV_GET,
    KV_DEL,
    KV_KEYS,
    KV_WATCH,
    KV_INCR,
    KV_SADD,
    KV_SREM,
    KV_SMEMBERS,
    KV_CAS,
    KV_STAT,
    KV_COMPACT,
    KV_FORGET,
    KV_CHECK,
)

ROBOT = Command(
    name="robot",
    summary="start a robot: a node that shares its state with the fleet",
    text="""Start a robot: a node whose id is made of NAME and PORT, with its state in
logs/NAME.log. It reads lines: put KEY VALUE, get KEY, del KEY, keys, watch, fleet, help, exit;
on a terminal with a prompt, else from standard input until that ends. What one robot puts all of
them get.""",
    examples="""  velum robot robot_A 8080
  velum robot robot_B 8081
  printf 'put status active\\nget status\\n' | velum robot robot_C 8082""",
    run="velum.cli.robot:run",
    positionals=(
        Positional("name", "the robot's name, its own in the fleet"),
        Positional("port", "TCP and UDP port, 0 for any free one", numbers.port),
    ),
    settings=(
        Setting("id", "its node id; else made of NAME and PORT", numbers.node_id, metavar="ID"),
        HOST,
        BEACON_PORT,
        JOIN,
        NO_BEACON,
        WORKERS,
        Setting("log", "where its state is kept; else logs/NAME.log", metavar="FILE"),
        DURABILITY,
        RESP,
        LOG_LEVEL,
        LOG_JSON,
    ),
)
