"""Figures, tables and the bar, as they look."""

from __future__ import annotations

import io
import json
import logging

import pytest

from tests.unit.fakes import node_info
from velum.cli import logs, show


class Terminal(io.StringIO):
    """A stream that says a person looks at it."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("us", "text"), [(87, "87 us"), (1234, "1.2 ms"), (340_000, "340 ms"), (2_510_000, "2.51 s")]
)
def test_duration(us: int, text: str) -> None:
    assert show.duration(us) == text


@pytest.mark.parametrize(
    ("ms", "text"), [(0, "now"), (450, "0.5 s"), (12_000, "12 s"), (900_000, "15 min")]
)
def test_age(ms: int, text: str) -> None:
    assert show.age(ms) == text


def test_columns_are_aligned() -> None:
    lines = show.table(("id", "name"), [("1", "a"), ("100", "bb")], right=frozenset({0}))
    assert lines == [" id  name", "  1  a", "100  bb"]


def test_nodes_table_sorts_marks_and_says_never() -> None:
    members = [node_info(12, state="dead", seen_ms=-1, speed=0), node_info(1)]
    title, first, second = show.nodes_table(members, show.Paint(io.StringIO()))
    assert title.split()[:3] == ["node", "state", "address"]
    assert first.split()[:3] == ["*1", "alive", "127.0.0.1:8001"]
    assert second.split()[:2] == ["12", "dead"]
    assert second.split()[-2:] == ["-", "-"]
    assert "2.0 GiB" in first and "250 M/s" in first


def test_facts_flatten() -> None:
    values = {"id": 1, "modules": {"count": 2}, "links": [], "up": 1.25}
    assert show.facts(values, show.Paint(io.StringIO())) == [
        "id             1",
        "modules.count  2",
        "links          none",
        "up             1.2",
    ]


def test_json_has_no_words_outside_the_standard() -> None:
    text = show.dump({"a": [float("nan"), float("inf")], "b": -float("inf"), 3: 2**63})
    assert json.loads(text) == {"a": ["nan", "inf"], "b": "-inf", "3": 2**63}


def test_colours_only_where_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert show.Paint(Terminal())("red", "x") == "\x1b[31mx\x1b[0m"
    assert show.Paint(io.StringIO())("red", "x") == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert show.Paint(Terminal())("red", "x") == "x"


def _log_line(as_json: bool, capsys: pytest.CaptureFixture[str]) -> str:
    logs.configure("info", as_json)
    logger = logging.getLogger("velum.test")
    logger.debug("not this")
    logger.info("hello %s", "world", extra={"peer": 3})
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_log_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert _log_line(False, capsys).endswith(" info velum.test: hello world peer=3\n")


def test_log_json(capsys: pytest.CaptureFixture[str]) -> None:
    entry = json.loads(_log_line(True, capsys))
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "info",
        "logger": "velum.test",
        "message": "hello world",
        "peer": 3,
    }
