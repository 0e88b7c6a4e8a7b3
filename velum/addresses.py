"""Addresses as people write them, and the numbers that every face shares.

An address inside Velum is (ip, port) with the ip as an integer in host order; people write
"host:port". Only IPv4.
"""

from __future__ import annotations

import socket
import struct

from velum.errors import VelumError, code_of

Address = tuple[int, int]

TCP_PORT_BASE = 8000  # node N listens on 8000 + N unless told otherwise
BEACON_PORT = 8888
LOOPBACK = "127.0.0.1"


def ip_number(host: str) -> int:
    """A name or dotted address as a number. Raises VelumError UNREACHABLE for an unknown name."""
    try:
        packed = socket.inet_aton(host) if host[:1].isdigit() else b""
        packed = packed or socket.inet_aton(socket.gethostbyname(host))
    except OSError as error:
        raise VelumError(code_of("UNREACHABLE"), f"{host}: {error}") from None
    return int(struct.unpack(">I", packed)[0])


def ip_text(ip: int) -> str:
    """A number as a dotted address."""
    return socket.inet_ntoa(struct.pack(">I", ip))


def address_text(address: Address) -> str:
    """(ip, port) as "127.0.0.1:8001"."""
    return f"{ip_text(address[0])}:{address[1]}"


def parse_address(text: str, port: int | None = None) -> Address:
    """ "host:port" (or "host" where a port is given) as (ip, port). VelumError ARGUMENT."""
    host, colon, tail = text.strip().rpartition(":")
    if not colon:
        host, tail = tail, "" if port is None else str(port)
    if not host or not tail.isdigit() or not 0 < int(tail) < 65536:
        raise VelumError(code_of("ARGUMENT"), f"{text!r} is not an address HOST:PORT")
    return ip_number(host), int(tail)


def broadcast_of(host: str) -> str:
    """Where a node bound to this host sends its beacons: the loopback network or the local one."""
    return "127.255.255.255" if ip_number(host) >> 24 == 127 else "255.255.255.255"
