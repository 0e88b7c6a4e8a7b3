"""`velum node` and `velum up` against plain Python: what is passed on, printed and returned."""

from __future__ import annotations

import json
import signal
import sys
from argparse import Namespace
from typing import Any

import pytest

from tests.unit import fakes
from velum.cli import main, node_main, show, up
from velum.cli.nodecmd import Announcer, member_line
from velum.cli.options import parse
from velum.cli.table import UP
from velum.errors import code_of, error_from


class FakeNode(fakes.FakeMesh):
    """A node that ends at once: by itself, with an error, or by a signal."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__()
        self.arguments = (args, options)
        self.end: Any = None
        on_member = options["on_member"]
        on_member(fakes.node_info(2), None)
        on_member(fakes.node_info(2, state="suspect"), "alive")
        on_member(fakes.node_info(2), "suspect")
        on_member(fakes.node_info(2, state="dead"), "suspect")
        on_member(fakes.node_info(3), None)
        on_member(fakes.node_info(3, state="left"), "alive")
        on_member(fakes.node_info(1), None)

    resp_address: str | None = None

    @property
    def stopped(self) -> bool:
        if isinstance(self.end, int):
            signal.raise_signal(self.end)
        return not isinstance(self.end, int)

    def wait(self, timeout: float | None = None) -> BaseException | None:
        return None if isinstance(self.end, int) else self.end


@pytest.fixture
def started(handlers: None, monkeypatch: pytest.MonkeyPatch) -> list[FakeNode]:
    """The nodes that the command started; `end` of the class says how they end."""
    nodes: list[FakeNode] = []

    def start(*args: Any, **options: Any) -> FakeNode:
        nodes.append(FakeNode(*args, **options))
        nodes[-1].end = start.end  # type: ignore[attr-defined]
        return nodes[-1]

    start.end = None  # type: ignore[attr-defined]
    monkeypatch.setattr("velum.node.Node", start)
    return nodes


def ends_with(end: object) -> None:
    from velum import node

    node.Node.end = end  # type: ignore[attr-defined]


def test_options_reach_the_node(started: list[FakeNode]) -> None:
    words = "3 --host 10.0.0.3 --port 0 --join a:1,b:2 --workers 5 --memory 64K --no-beacon"
    words += " --ram 512M --repair-rate max --log a/b.log --durability fsync --resp 0"
    assert node_main([*words.split(), "--beacon-port", "9", "--state-dir", "kept"]) == 0
    args, options = started[0].arguments
    options.pop("on_member")
    assert args == (3, 0)
    assert options == {
        "host": "10.0.0.3",
        "beacon_port": 9,
        "join": ("a:1", "b:2"),
        "workers": 5,
        "memory": 65536,
        "ram": 512 << 20,
        "repair_rate": 0,
        "log": "a/b.log",
        "durability": "fsync",
        "resp_port": 0,
        "beacon": False,
        "state_dir": "kept",
    }
    assert started[0].closed


def test_peers_are_told_after_the_nodes_own_line(
    started: list[FakeNode], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["node", "1", "--workers", "2"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "node 1 at 127.0.0.1:8001, 2 workers",
        "+ node 2 127.0.0.1:8002",
        "? node 2 is silent",
        "= node 2 answers again",
        "- node 2 lost",
        "+ node 3 127.0.0.1:8003",
        "- node 3 left",
    ]


def test_json_lines(started: list[FakeNode], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["node", "1", "--json", "--workers", "2"]) == 0
    ready, first, *others = map(json.loads, capsys.readouterr().out.splitlines())
    assert ready.pop("pid") > 0
    assert ready == {"event": "ready", "id": 1, "address": "127.0.0.1:8001", "workers": 2}
    assert first == {
        "event": "member",
        "id": 2,
        "state": "alive",
        "before": None,
        "address": "127.0.0.1:8002",
        "role": "node",
        "workers": 2,
    }
    assert len(others) == 5


def test_where_redis_is_served_is_said(
    started: list[FakeNode],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FakeNode, "resp_address", "127.0.0.1:6379")
    assert main(["node", "1", "--json", "--resp", "6379"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["resp"] == "127.0.0.1:6379"
    assert main(["node", "1", "--workers", "2"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "node 1 at 127.0.0.1:8001, 2 workers, Redis at 127.0.0.1:6379"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves(started: list[FakeNode], number: int) -> None:
    ends_with(int(number))
    assert main(["node", "1"]) == 0
    assert started[0].left == 1 and started[0].closed


def test_an_end_by_itself_is_an_error(
    started: list[FakeNode], capsys: pytest.CaptureFixture[str]
) -> None:
    ends_with(error_from(code_of("DUPLICATE_ID"), "node id already in use by 10.0.0.1:8001"))
    assert main(["node", "1"]) == 1
    assert "already in use by 10.0.0.1:8001; choose another id" in capsys.readouterr().err


def test_a_reader_that_leaves_does_not_stop_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def write(self, _: str) -> int:
            raise BrokenPipeError

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr(sys, "stdout", Broken())
    announcer = Announcer(False)
    announcer.ready(1, "127.0.0.1:8001", 2)
    announcer.member(fakes.node_info(2), None)
    announcer.close()


def test_member_line_of_a_client_of_json() -> None:
    event = {"id": 4, "state": "dead", "address": "h:1", "before": "alive"}
    assert member_line(event, show.Paint(sys.stdout)) == "- node 4 lost"


def up_args(*words: str) -> Namespace:
    return parse(UP, words, {})


def test_up_shares_the_cores_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    words = up.node_options(up_args("3", "--join", "a:1,b:2", "--log-json"))
    assert words == [
        *("--host", "127.0.0.1", "--beacon-port", "8888", "--workers", "2"),
        *("--memory", str(256 << 20), "--log-level", "warning"),
        *("--log-json", "--join", "a:1,b:2"),
    ]
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert up.node_options(up_args("3", "--ram", "64M"))[-2:] == ["--ram", str(64 << 20)]
    assert "1" in up.node_options(up_args("3"))


@pytest.mark.parametrize(
    ("words", "ports"),
    [
        (("2",), [None, None]),
        (("2", "--port", "0"), [0, 0]),
        (("2", "--port", "9000", "--first-id", "5"), [9000, 9001]),
    ],
)
def test_ports_of_up(words: tuple[str, ...], ports: list[int | None]) -> None:
    args = up_args(*words)
    port = up.ports_from(args)
    assert [port(args.first_id + i) for i in range(2)] == ports
