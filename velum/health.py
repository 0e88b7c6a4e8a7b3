"""What this machine has to spare, in the figures that gossip carries.

Owns reading CPU and RAM from psutil. Refuses to know members and tasks: queue and speed are given.
"""

from __future__ import annotations

import os

import psutil

from velum.policy.types import Health

FREE_MIB_MAX = 0xFFFFFFFF
LEAVING = 1


def core_count() -> int:
    """CPUs this process may use, 1..255."""
    return max(1, min(len(os.sched_getaffinity(0)), 255))


class Gauge:
    """Samples the machine; `sample` takes a tenth of a millisecond: for once a second."""

    def __init__(self) -> None:
        self._cores = core_count()
        psutil.cpu_percent(None)  # the first call only starts its interval

    def sample(
        self,
        *,
        slots: int,
        queue: int,
        running: int,
        speed: int,
        leaving: bool = False,
        ram_mib: int = 0,
        ram_free_mib: int = 0,
    ) -> Health:
        """The figures of now; the CPU share is that since the last sample."""
        return Health(
            cpu=max(0, min(100, round(psutil.cpu_percent(None)))),
            slots=slots,
            cores=self._cores,
            flags=LEAVING if leaving else 0,
            queue=min(queue, 0xFFFF),
            running=min(running, 0xFFFF),
            free_mib=min(psutil.virtual_memory().available >> 20, FREE_MIB_MAX),
            speed=min(speed, FREE_MIB_MAX),
            ram_mib=ram_mib,
            ram_free_mib=min(ram_free_mib, ram_mib),
        )
