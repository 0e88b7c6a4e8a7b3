"""The membership policy at the size it promises for: 1,000 nodes, over many seeds. Slow."""

from __future__ import annotations

from statistics import median

import pytest
from membership_table import Plan, measure

pytestmark = pytest.mark.soak

NODES = 1_000
FIRST_S_MAX = 5.0  # a crash is declared by somebody
ALL_S_MAX = 6.0  # and known to every live node
IDLE_BYTES_MAX = 300.0  # sent by a node in a second, IP and UDP headers included
FALSE_MAX = 1.0  # live nodes declared dead in 1,000 node-minutes, at 10% loss


def test_a_thousand_nodes() -> None:
    column = measure(NODES, Plan(seeds=20, crashes=1, lossy_seeds=2, lossy_ms=60_000))
    assert len(column.first_s) == 20
    assert median(column.first_s) <= FIRST_S_MAX
    assert median(column.all_s) <= ALL_S_MAX
    assert median(column.idle_bytes) <= IDLE_BYTES_MAX
    assert column.node_minutes >= 1_000
    assert column.false_positives <= FALSE_MAX * column.node_minutes / 1_000
    print(
        f"first {median(column.first_s):.2f} s, all {median(column.all_s):.2f} s, "
        f"idle {median(column.idle_bytes):.0f} B/s, {column.false_positives} false positives in "
        f"{column.node_minutes:.0f} node-minutes"
    )
