"""`velum sim`: its arguments, its report, and that its byte counts are those of the real codec."""

from __future__ import annotations

import argparse
import json

import pytest

from velum.policy.types import (
    ACK,
    ALIVE,
    BEACON,
    GOSSIP,
    NACK,
    NODE,
    PROBE,
    PROBE_REQUEST,
    Address,
    Datagram,
    Update,
)
from velum.sim.cli import add_arguments, run
from velum.sim.network import UDP_BYTES, datagram_bytes


def sim(*words: str) -> int:
    parser = argparse.ArgumentParser(prog="velum sim")
    add_arguments(parser)
    return run(parser.parse_args(words))


def test_the_report_of_a_crash(capsys: pytest.CaptureFixture[str]) -> None:
    assert sim("--nodes", "60", "--seed", "3") == 0
    first = capsys.readouterr().out
    assert "60 nodes, seed 3" in first and "all views agree at the end: yes" in first
    sim("--nodes", "60", "--seed", "3")
    assert capsys.readouterr().out == first, "the same seed gives the same output"


def test_json_is_one_object_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    sim("--nodes", "40", "--runs", "2", "--crash", "2:3", "--seconds", "15", "--json")
    reports = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [report["seed"] for report in reports] == [1, 2]
    for report in reports:
        assert len(report["losses"]) == 3 and report["views_agree"]
        assert all(loss["first_s"] <= loss["all_s"] for loss in report["losses"])


def test_every_kind_of_fault(capsys: pytest.CaptureFixture[str]) -> None:
    faults = ["--kill", "1", "--leave", "2:2", "--pause", "4:3:2", "--restart", "9:2:3"]
    sim("--nodes", "40", *faults, "--partition", "15:4:0.25", "--runs", "2", "--loss", "0.02")
    out = capsys.readouterr().out
    assert out.count("all views agree at the end: yes") == 2
    assert "back after 2.00 s" in out and "medians of 2 seeds" in out


@pytest.mark.parametrize(
    "words",
    [
        ["--nodes", "1"],
        ["--loss", "1.5"],
        ["--latency-ms", "9:1"],
        ["--crash", "soon"],
        ["--pause", "3"],
        ["--partition", "1:2:3"],
        ["--seconds", "-1"],
    ],
)
def test_wrong_usage_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        sim(*words)
    assert refused.value.code == 2 and words[0] in capsys.readouterr().err


def test_datagrams_cost_what_the_codec_makes_of_them() -> None:
    core = pytest.importorskip("velum._core")
    here = Address(0x7F000001, 8001)
    news = (Update(2, ALIVE, NODE, 77, here),) * 3
    for message in (
        Datagram(PROBE, 1, 1, 2, updates=news),
        Datagram(ACK, 1, 1, 1, 77, updates=news),
        Datagram(PROBE_REQUEST, 1, 1, 2, address=here, updates=news),
        Datagram(NACK, 1, 1, 2),
        Datagram(GOSSIP, 1, 1, updates=news),
        Datagram(BEACON, 1, 1, incarnation=77, address=here, role=NODE),
    ):
        assert datagram_bytes(message) == UDP_BYTES + len(core.encode_datagram(message))
