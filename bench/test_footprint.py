"""(d) What a node costs: start to first answered call, memory, and CPU when idle."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import psutil

from velum.client import connect
from velum.localmesh import LocalMesh
from velum.machine import free_beacon_port

IDLE_SECONDS = 20
PROGRAM = """
import velum
velum.init(1, 0, beacon_port={port})
assert velum.spawn("add", 10, 20).result() == 30
"""


def rss_mib(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss) / 2**20


def test_start_in_a_program(benchmark: Any) -> None:
    program = PROGRAM.format(port=free_beacon_port())
    benchmark.group = "python start, velum.init, first answer, exit"
    benchmark.extra_info.update(what="velum", units=1, velum=True)
    benchmark.pedantic(
        lambda: subprocess.run([sys.executable, "-c", program], check=True),
        rounds=7,
        warmup_rounds=1,
    )


def test_start_as_a_process(benchmark: Any) -> None:
    def run() -> None:
        port = free_beacon_port()
        with LocalMesh([1], ports=lambda _: 0, options=["--beacon-port", str(port)]) as mesh:
            mesh.wait_complete(10)
            with connect(mesh.nodes[1].address) as client:
                assert client.spawn("add", 10, 20).result() == 30

    benchmark.group = "velum node started, client attached, first answer, all stopped"
    benchmark.extra_info.update(what="velum", units=1, velum=True)
    benchmark.pedantic(run, rounds=7, warmup_rounds=1)


def test_idle(benchmark: Any) -> None:
    port = free_beacon_port()
    figures: dict[str, str] = {}
    with LocalMesh([1, 2], ports=lambda _: 0, options=["--beacon-port", str(port)]) as mesh:
        mesh.wait_complete(10)
        process = psutil.Process(mesh.nodes[1].process.pid)

        def idle() -> None:
            before = process.cpu_times()
            time.sleep(IDLE_SECONDS)
            after = process.cpu_times()
            used = after.user + after.system - before.user - before.system
            figures["CPU of an idle node"] = f"{used / IDLE_SECONDS:.2%} of a core"

        benchmark.group = "an idle node of two"
        benchmark.extra_info.update(what="velum, the time watched", units=1, velum=True)
        benchmark.pedantic(idle, rounds=1)
        figures["RSS of the node"] = f"{rss_mib(process.pid):.1f} MiB"
        workers = [rss_mib(child.pid) for child in process.children()]
        figures["RSS of a worker"] = f"{max(workers):.2f} MiB"
        benchmark.extra_info["figures"] = figures
