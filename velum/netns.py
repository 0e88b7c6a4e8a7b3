"""Networks of this machine that can be parted: a network namespace for every node, and two bridges.

Owns the namespaces, links and addresses, from making them to removing them for certain, those that
a run which was killed has left behind included. Refuses to know what runs in them. Needs root and
`ip` (iproute2) and nothing else. See network_namespaces(7) and ip-netns(8).

How: the bridges stand in a namespace of their own, so that no packet filter of this machine has a
say. Every node's namespace hangs on one of them by a pair of virtual Ethernet ends, and so does
this machine itself, as number 0. Who hangs on the same bridge hears each other. Moving an end to
the other bridge parts the network, and nobody is told: no link goes down, no connection is reset,
packets just do not arrive.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from velum.errors import VelumError, code_of

OUTSIDE = 0  # the number of this machine itself

_HERE = Path("/run/netns")
_OURS = re.compile(r"velum-(\d+)-(hub|\d+)")  # the process that made it, and which it is
_BRIDGES = ("main", "apart")
_OUTSIDE_HOST = 254  # the last byte of this machine's own address
_IDS_MAX = 250


def why_not() -> str:
    """Why no namespaces can be made here; empty when they can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "that takes root"
    if shutil.which("ip") is None:
        return "that takes the command ip (iproute2)"
    name = f"velum-{os.getpid()}-{_IDS_MAX}"
    try:
        _ip("netns", "add", name)
        _ip("netns", "delete", name)
    except VelumError as error:
        return str(error)
    return ""


class Networks:
    """A namespace for each of some ids, from 1 up; a context manager that removes them."""

    def __init__(self, ids: Iterable[int]) -> None:
        """Makes them; all hear each other. Raises VelumError SYSTEM."""
        self._ids = sorted(ids)
        assert 0 < self._ids[0] and self._ids[-1] <= _IDS_MAX
        self._name = f"velum-{os.getpid()}"
        self._hub = f"{self._name}-hub"
        self._outside = f"velum{os.getpid()}"  # a link's name has 15 characters at most
        self._away: set[int] = set()
        remove_stale()
        self._net = _free_net()
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Networks:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def address(self, id: int) -> str:
        """The address of a node's namespace; of this machine for OUTSIDE."""
        return str(self._net[id or _OUTSIDE_HOST])

    def prefix(self, id: int) -> tuple[str, ...]:
        """The words before a command that make it run in a node's namespace."""
        return ("ip", "netns", "exec", self._namespace(id))

    def _namespace(self, id: int) -> str:
        return f"{self._name}-{id}"

    def _make(self) -> None:
        _ip("netns", "add", self._hub)
        _batch(self._hub, [f"link add {bridge} type bridge" for bridge in _BRIDGES])
        _batch(self._hub, [f"link set {bridge} up" for bridge in _BRIDGES])
        for id in self._ids:
            name = self._namespace(id)
            _ip("netns", "add", name)
            _ip("-n", self._hub, *f"link add n{id} type veth peer name eth0 netns {name}".split())
            _batch(name, ["link set lo up", f"addr add {self._mask(id)} dev eth0"])
            _batch(name, ["link set eth0 up"])
        ends = f"link add n{OUTSIDE} type veth peer name {self._outside} netns {os.getpid()}"
        _ip("-n", self._hub, *ends.split())
        _ip("addr", "add", self._mask(OUTSIDE), "dev", self._outside)
        _ip("link", "set", self._outside, "up")
        everybody = [OUTSIDE, *self._ids]
        _batch(self._hub, [f"link set n{id} master {_BRIDGES[0]} up" for id in everybody])

    def _mask(self, id: int) -> str:
        return f"{self.address(id)}/{self._net.prefixlen}"

    # ---- parting ----

    @property
    def away(self) -> frozenset[int]:
        """Who hangs on the other bridge now."""
        return frozenset(self._away)

    def part(self, away: Collection[int]) -> None:
        """From now on these hear each other, and so do the others; nothing passes between."""
        moves = []
        for id in (OUTSIDE, *self._ids):
            if (id in away) != (id in self._away):
                moves.append(f"link set n{id} master {_BRIDGES[id in away]}")
        self._away = set(away)
        _batch(self._hub, moves)

    def heal(self) -> None:
        """All hear each other again."""
        self.part(())

    # ---- the end ----

    def close(self) -> None:
        """Removes everything, with whatever still runs in there."""
        with contextlib.suppress(VelumError):  # it was never made
            _ip("link", "delete", self._outside)
        for name in (self._hub, *map(self._namespace, self._ids)):
            _remove(name)


def remove_stale() -> None:
    """Removes what runs have left behind that are no more."""
    for name, maker in list(_ours()):
        if not Path(f"/proc/{maker}").exists():
            _remove(name)


def _ours() -> Iterator[tuple[str, int]]:
    """(name, process that made it) of every namespace that is named as ours are."""
    for entry in _HERE.iterdir() if _HERE.is_dir() else ():
        found = _OURS.fullmatch(entry.name)
        if found:
            yield entry.name, int(found[1])


def _remove(name: str) -> None:
    if not (_HERE / name).exists():
        return
    with contextlib.suppress(VelumError):
        for pid in _ip("netns", "pids", name).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        _ip("netns", "delete", name)


def _free_net() -> ipaddress.IPv4Network:
    """A network of 254 addresses that this machine has no other way to."""
    taken = []
    for line in _ip("-4", "-o", "route", "show", "table", "all").splitlines():
        word = next((w for w in line.split() if w[0].isdigit()), "0.0.0.0/0")
        with contextlib.suppress(ValueError):
            net = ipaddress.IPv4Network(word, strict=False)
            taken += [net] if net.prefixlen else []
    for net in ipaddress.IPv4Network("10.128.0.0/9").subnets(new_prefix=24):
        if not any(net.overlaps(other) for other in taken):
            return net
    raise VelumError(code_of("SYSTEM"), "no network of 10.128.0.0/9 is free on this machine")


def _ip(*words: str, say: str | None = None) -> str:
    """What `ip WORDS...` prints; `say` is its standard input. Raises VelumError SYSTEM."""
    done = subprocess.run(["ip", *words], input=say, capture_output=True, text=True)
    if done.returncode:
        why = done.stderr.strip().replace("\n", "; ")
        raise VelumError(code_of("SYSTEM"), f"ip {' '.join(words)}: {why}")
    return done.stdout


def _batch(namespace: str, lines: list[str]) -> None:
    """Several commands of `ip` in one namespace by one process."""
    _ip("-n", namespace, "-batch", "-", say="\n".join(lines) + "\n")
