"""`velum store` through main(argv), against a store of plain Python."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit import fakes
from tests.unit.fake_files import FakeStore, error, fake_files
from velum.cli import main, numbers, progress, show
from velum.cli.options import UsageError
from velum.cli.progress import TransferDisplay
from velum.cli.store import local_path, repair_text, time_text
from velum.filebackend import NodeSpace, Space
from velum.policy import filetypes

ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
DATA = bytes(range(256)) * (24 << 10)  # 6 MiB


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeStore:
    """The store of the mesh that every command attaches to, in an empty folder."""
    for name in list(os.environ):
        if name.startswith("VELUM_") and name != "VELUM_WORKER":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    mesh = fakes.install(monkeypatch)
    mesh.files, store = fake_files()
    return store


class Terminal(io.StringIO):
    """A stream that says a person looks at it."""

    def isatty(self) -> bool:
        return True


def velum(*words: str) -> int:
    return main(["store", *words])


# ---- put and get ----


def test_put_and_get(store: FakeStore, capsys: pytest.CaptureFixture[str]) -> None:
    Path("folder").mkdir()
    Path("folder/data").write_bytes(DATA)
    assert velum("put", "folder/data") == 0
    assert velum("put", "folder/data", "other/näme", "--copies", "3", "--chunk", "64K") == 0
    assert velum("put", "folder/data", "coded", "--ec", "4+2") == 0
    assert [upload.name for upload in store.uploads] == ["data", "other/näme", "coded"]
    assert [upload.coding for upload in store.uploads] == [(2, 0), (3, 0), (4, 2)]
    assert [upload.chunk for upload in store.uploads] == [1 << 20, 64 << 10, 1 << 20]
    assert velum("get", "other/näme") == 0 and Path("näme").read_bytes() == DATA
    assert velum("get", "data", "folder") == 0 and velum("get", "data", "new") == 0
    assert Path("new").read_bytes() == DATA and capsys.readouterr() == ("", "")


def test_streams(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(DATA)))
    assert velum("put", "-", "piped") == 0
    assert velum("get", "piped", "-") == 0
    assert capfdbinary.readouterr() == (DATA, b"")
    assert os.listdir() == []


def test_what_is_said(store: FakeStore, capsys: pytest.CaptureFixture[str]) -> None:
    Path("f").write_bytes(b"12345")
    assert velum("put", "f", "--json") == 0
    info = json.loads(capsys.readouterr().out)
    assert (info["name"], info["size"], info["copies"]) == ("f", 5, 2)
    assert velum("put", "f", "-v") == velum("get", "f", "-v") == 0
    first, second = capsys.readouterr().err.splitlines()
    said = r"5 B in [\d.]+ [um]?s, \d+\.\d MB/s"
    assert re.fullmatch(said, first) and re.fullmatch(said, second)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("put none", "none: No such file"),
        ("put .", "Is a directory"),
        ("put - ", "store put - NAME"),
        ("put f --copies 2 --ec 2+1", "exclude each other"),
        ("put f --copies 17", "1 to 16 copies"),
        ("put f --ec 4", "write 4+2"),
        ("put f --ec 30+3", "at most 32"),
        ("put f --ec 4+-2", "write 4+2"),
        ("put f --chunk 9M", "at most 8M"),
        ("put", "FILE"),
        ("get", "NAME"),
        ("get f/", "say where it goes"),
        ("get ..", "say where it goes"),
        ("get none", "no file 'none'; velum store ls"),
        ("get f nowhere/f", "nowhere/f: No such file"),
        ("stat none", "no file 'none'"),
        ("rm", "which files"),
        ("frob", "unknown command 'store frob'"),
        ("gte f", "did you mean 'store get'?"),
        ("ls a b", "unrecognized arguments: b"),
    ],
)
def test_mistakes(
    store: FakeStore, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    Path("f").touch()
    assert velum("put", "f") == 0
    assert velum(*words.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("velum: ") and message in err
    assert os.listdir() == ["f"]


def test_names_that_look_like_options(store: FakeStore) -> None:
    Path("-3.bin").write_bytes(b"x")
    assert velum("put", "--", "-3.bin") == 0 and list(store.files) == ["-3.bin"]
    assert velum("put", "--copies", "1", "--", "-3.bin", "--json") == 0
    assert list(store.files) == ["-3.bin", "--json"]
    assert velum("rm", "--", "-3.bin", "--json") == 0 and not store.files


@pytest.mark.parametrize(
    ("name", "status"), [("STORE_FULL", 1), ("UNCERTAIN", 1), ("TIMEOUT", 4), ("UNREACHABLE", 3)]
)
def test_a_put_that_fails(
    store: FakeStore, capsys: pytest.CaptureFixture[str], name: str, status: int
) -> None:
    def fail(_: str) -> None:
        raise error(name)

    Path("f").write_bytes(DATA)
    store.on = fail
    assert velum("put", "f", "--json") == status
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["name"] == name and err.startswith("velum: ")
    assert not store.files and store.uploads[-1].state == "aborted"


def test_interrupts_leave_nothing_half(
    store: FakeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(what: str) -> None:
        if what in wanted:
            raise KeyboardInterrupt

    wanted = {"finish"}
    Path("f").write_bytes(DATA)
    store.on = interrupt
    assert velum("put", "f") == 130
    assert not store.files and store.uploads[-1].state == "aborted"
    wanted = {"read"}
    assert velum("put", "f") == 0 and velum("get", "f", "g") == velum("get", "f", "-") == 130
    assert os.listdir() == ["f"] and capsys.readouterr() == ("", "")


def test_damage_is_an_error(store: FakeStore, capsys: pytest.CaptureFixture[str]) -> None:
    Path("f").write_bytes(DATA)
    assert velum("put", "f", "g") == 0
    store.lost.add("g")
    assert velum("get", "g") == 1
    assert "chunk 0 is on no node" in capsys.readouterr().err and os.listdir() == ["f"]


def test_where_a_file_goes(tmp_path: Path) -> None:
    assert local_path("a/b", None) == "b" and local_path("a/b", "c") == "c"
    assert local_path("a/b", str(tmp_path)) == str(tmp_path / "b")
    for name in ("a/", "/", "a/..", ".", "a\0b"):
        with pytest.raises(UsageError):
            local_path(name, str(tmp_path))
        assert local_path(name, "c") == "c"


# ---- names ----


def test_ls(store: FakeStore, capsys: pytest.CaptureFixture[str]) -> None:
    Path("f").write_bytes(DATA)
    for name in ("b/1", "b/2\x1b\n", "a"):
        assert velum("put", "f", name) == 0
    store.lost.add("b/1")
    assert velum("ls") == 0
    assert capsys.readouterr().out == "a\nb/1  (damaged: 1 chunk lost)\nb/2  \n"
    assert velum("ls", "b/", "--long") == 0
    first, second = capsys.readouterr().out.splitlines()
    when = time_text(1_790_000_000)
    assert first == f"   6.0 MiB  {when}  damaged  b/1"
    assert second.rstrip() == f"   6.0 MiB  {when}  whole    b/2"
    assert velum("ls", "b/", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["b/1", "b/2\x1b\n"]
    assert set(rows[0]) == {"name", "size", "modified", "version", "care", "missing"}
    assert (rows[0]["care"], rows[0]["missing"]) == ("damaged", 1)
    assert velum("ls", "zzz", "--json") == 0 and capsys.readouterr().out == "[]\n"


def test_stat(store: FakeStore, capsys: pytest.CaptureFixture[str]) -> None:
    Path("f").write_bytes(DATA)
    assert velum("put", "f") == velum("put", "f", "coded", "--ec", "4+2") == 0
    assert velum("stat", "f") == 0
    lines = dict(re.split(r"  +", line) for line in capsys.readouterr().out.splitlines())
    assert lines["size"] == "6,291,456 bytes" and lines["kept as"] == "2 copies"
    assert lines["chunks"] == "6 of up to 1.0 MiB" and lines["state"] == "whole"
    assert store.checked == ["f"]
    assert velum("stat", "coded", "--json") == 0
    info = json.loads(capsys.readouterr().out)
    assert info["ec"] == [4, 2] and info["copies"] is None and info["chunks"] == 12
    Path("f").write_bytes(b"small")
    assert velum("put", "f", "--copies", "1") == velum("stat", "f") == 0
    out = capsys.readouterr().out
    assert "1 copy\n" in out and "none, it lies with its name" in out


def test_rm(store: FakeStore, capsys: pytest.CaptureFixture[str]) -> None:
    Path("f").touch()
    for name in ("a", "b", "c"):
        velum("put", "f", name)
    assert velum("rm", "a", "x", "b", "y") == 2
    assert list(store.files) == ["c"]
    first, second = capsys.readouterr().err.splitlines()
    assert "'x'" in first and "'y'" in second
    assert velum("rm", "c") == 0 and not store.files


def test_df(store: FakeStore, capsys: pytest.CaptureFixture[str]) -> None:
    Path("f").write_bytes(DATA)
    velum("put", "f")
    store.lost.add("f")
    assert velum("df") == 0
    assert capsys.readouterr().out.splitlines() == [
        "node    budget     used      free  use",
        "   1  32.0 MiB  3.0 MiB  29.0 MiB  9 %",
        "   2  32.0 MiB  3.0 MiB  29.0 MiB  9 %",
        " all  64.0 MiB  6.0 MiB  58.0 MiB  9 %",
        "1 file, 1 damaged",
        "to repair: 30.0 MiB at 10.5 MB/s, ETA 3 s",
    ]
    assert velum("df", "--json") == 0
    space = json.loads(capsys.readouterr().out)
    assert (space["budget"], space["damaged"], space["repair_eta_s"]) == (64 << 20, 1, 3.0)
    assert space["nodes"][0] == {"node": 1, "budget": 32 << 20, "used": 3 << 20, "free": 29 << 20}


def test_repair_in_words() -> None:
    def space(left: int, rate: float) -> Space:
        return Space((NodeSpace(1, 0, 0),), 0, 0, 0, left, rate)

    assert repair_text(space(0, 5.0)) == "nothing to repair"
    assert repair_text(space(1 << 20, 0.0)) == "to repair: 1.0 MiB"
    assert repair_text(space(90_000_000, 1e6)) == "to repair: 85.8 MiB at 1.0 MB/s, ETA 1:30"


def test_help(store: FakeStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert velum() == 2
    overview = capsys.readouterr().out
    for name in ("put", "get", "ls", "stat", "rm", "df"):
        assert f"  store {name} " in overview
    assert velum("--help") == main(["help", "store"]) == 0
    assert capsys.readouterr().out == overview * 2
    assert velum("put", "--help") == main(["help", "store", "put"]) == 0
    once, twice = capsys.readouterr().out.split("usage: ")[1:]
    assert once == twice and "--ec" in once and once.startswith("velum store put")
    assert main(["--help"]) == 0
    everything = capsys.readouterr().out
    assert "\n  store " in everything and "store put" not in everything


def test_limits_are_those_of_files() -> None:
    assert numbers.COPIES_MAX == filetypes.COPIES_MAX
    assert numbers.SHARDS_MAX == filetypes.SHARDS_MAX
    assert numbers.CHUNK_BYTES_MAX == filetypes.CHUNK_BYTES_MAX


def test_rates_and_budgets() -> None:
    assert (numbers.ram("0"), numbers.ram("512M")) == (0, 512 << 20)
    assert (numbers.rate("max"), numbers.rate("10M")) == (0, 10 << 20)
    for read in (numbers.ram, numbers.rate):
        with pytest.raises(ValueError):
            read("lots")


# ---- the bar ----


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What time it is for the display."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "terminal_size", lambda _: (70, 24))
    monkeypatch.delenv("TERM", raising=False)
    return now


def shown(out: Any) -> list[str]:
    lines = ESCAPES.sub("", out.getvalue()).replace("\r", "").splitlines()
    out.truncate(0)
    out.seek(0)
    return lines


def test_a_short_transfer_shows_nothing(clock: list[float]) -> None:
    for out in (Terminal(), io.StringIO()):
        display = TransferDisplay(out, "f")
        for _ in range(9):
            clock[0] += 0.1
            display.update(1 << 20, 9 << 20)
        display.clear()
        assert out.getvalue() == ""


def test_a_bar_on_a_terminal(clock: list[float]) -> None:
    out = Terminal()
    display = TransferDisplay(out, "film\x1b\n")
    mib = 1 << 20
    for second in range(1, 5):
        clock[0] += 1
        display.update(second * 100 * mib, 800 * mib)
    line = shown(out)[-1]
    bar = "[" + "#" * 5 + "." * 5 + "]"
    assert line == f"film?? {bar}  50%  400.0 MiB of 800.0 MiB  104.9 MB/s  ETA 4 s"
    assert len(line) < 70
    display.update(450 * mib, 800 * mib)
    assert shown(out) == [], "it was drawn a moment ago"
    display.clear()
    assert out.getvalue().endswith("\x1b[J")


def test_a_command_takes_its_bar_away(
    store: FakeStore, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(_: str) -> None:
        clock[0] += 2

    err = Terminal()
    monkeypatch.setattr(sys, "stderr", err)
    Path("f").write_bytes(DATA)
    store.on = wait
    assert velum("put", "f") == 0 and err.getvalue().endswith("\x1b[1A\r\x1b[J")
    assert "66%  4.0 MiB of 6.0 MiB" in err.getvalue()
    assert "100%" in shown(err)[-1]
    store.lost.add("f")
    assert velum("get", "f", "g") == 1 and "%" not in err.getvalue()


def test_a_bar_of_unknown_length_and_of_nothing(clock: list[float]) -> None:
    out = Terminal()
    display = TransferDisplay(out, "-")
    clock[0] += 2
    display.update(20_000_000, None)
    assert shown(out) == ["-  19.1 MiB  10.0 MB/s"]
    clock[0] += 2
    display.update(0, 0)
    assert "100%" in shown(out)[0]


def test_lines_where_nobody_looks(clock: list[float]) -> None:
    out = io.StringIO()
    display = TransferDisplay(out, "film")
    for _ in range(60):
        clock[0] += 0.1
        display.update(50_000_000, 100_000_000)
    lines = shown(out)
    assert len(lines) == 3 and all(line.startswith("film: 50%, 47.7 MiB of") for line in lines)


def test_byte_counts() -> None:
    texts = [show.byte_count(n) for n in (0, 1023, 1024, (1 << 20) - 1, 1 << 20, 3 << 30, 5 << 40)]
    assert texts == ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "1.0 MiB", "3.0 GiB", "5.0 TiB"]
    assert len(show.byte_count(1023 * 1024 + 900)) <= 10
