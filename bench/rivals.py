"""The other sides that Velum is measured against: servers run as processes of their own.

`python bench/rivals.py KIND CPU` prints the port it serves on. Kinds: `zmq-rep` (REQ/REP with
msgpack), `zmq-router` (DEALER/ROUTER with msgpack), `echo` (plain C select() echo; a library's path
follows).
"""

from __future__ import annotations

import ctypes
import os
import sys


def serve_zmq(kind: str) -> None:
    import msgpack
    import zmq

    socket = zmq.Context().socket(zmq.REP if kind == "zmq-rep" else zmq.ROUTER)
    socket.set_hwm(0)
    print(socket.bind_to_random_port("tcp://127.0.0.1"), flush=True)
    while True:
        if kind == "zmq-rep":
            number, _name, a, b = msgpack.unpackb(socket.recv())
            socket.send(msgpack.packb((number, a + b)))
        else:
            who, payload = socket.recv_multipart()
            number, _name, a, b = msgpack.unpackb(payload)
            socket.send_multipart((who, msgpack.packb((number, a + b))))


def serve_echo(library: str) -> None:
    echo = ctypes.CDLL(library)
    port = ctypes.c_ushort()
    listener = echo.echo_listen(ctypes.byref(port))
    print(port.value, flush=True)
    while True:
        echo.echo_serve(listener)


if __name__ == "__main__":
    os.sched_setaffinity(0, {int(sys.argv[2])})
    if sys.argv[1] == "echo":
        serve_echo(sys.argv[3])
    else:
        serve_zmq(sys.argv[1])
