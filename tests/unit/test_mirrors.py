"""Numbers that policies may not import from the core, held to the core's."""

from __future__ import annotations

import pytest

from velum import _core
from velum.policy import types


@pytest.mark.parametrize("name", ["PROBE", "ACK", "PROBE_REQUEST", "NACK", "GOSSIP", "BEACON"])
def test_datagram_types(name: str) -> None:
    assert getattr(types, name) == _core.frame_types()[name]


def test_a_datagram_survives_the_wire() -> None:
    update = types.Update(7, types.SUSPECT, types.LEAF, 2**40, types.Address(1, 2), 9)
    health = types.Health(cpu=50, slots=2, cores=4, queue=1, running=2, free_mib=9, speed=8)
    for kind in (types.PROBE, types.ACK):
        sent = types.Datagram(
            kind, 1, 2, 3, 4, health=health, updates=(update,) * types.UPDATES_MAX
        )
        assert _core.decode_datagram(_core.encode_datagram(sent)) == sent
    gossip = types.Datagram(types.GOSSIP, 1, 2, updates=(update,))
    assert _core.decode_datagram(_core.encode_datagram(gossip))[9] == (update,)
    beacon = types.Datagram(
        types.BEACON, 0, 5, incarnation=6, address=types.Address(7, 8), role=types.NODE, flags=1
    )
    heard = types.Datagram(*_core.decode_datagram(_core.encode_datagram(beacon)))
    assert (heard.sender, heard.incarnation, heard.role, heard.flags) == (5, 6, types.NODE, 1)
    assert heard.address == beacon.address
