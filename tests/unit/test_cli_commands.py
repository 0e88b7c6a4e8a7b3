"""One-shot commands through main(argv), against a mesh of plain Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit import fakes
from velum.cli import commands, main
from velum.errors import code_of, error_from

GUESTS = Path(__file__).parents[1] / "guests"


@pytest.fixture
def mesh(monkeypatch: pytest.MonkeyPatch) -> fakes.FakeMesh:
    for name in list(os.environ):
        if name.startswith("VELUM_") and name != "VELUM_WORKER":
            monkeypatch.delenv(name)
    return fakes.install(monkeypatch)


def said(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_call_prints_the_value_alone(
    mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["call", "add", "10", "20"]) == 0
    assert said(capsys) == ("30\n", "")
    assert mesh.calls == [
        ("connect", None, {"beacon_port": 8888}),
        ("add", (10, 20), {"timeout": None, "node": None}),
    ]
    assert mesh.closed


def test_call_with_everything(mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str]) -> None:
    words = "call sub -3 0x10 --node 10.0.0.1:8001 --timeout 500ms --on 2 -v --beacon-port 9"
    assert main(words.split()) == 0
    assert said(capsys) == ("-19\n", "node 2, 1.2 ms\n")
    assert mesh.calls == [
        ("connect", "10.0.0.1:8001", {"beacon_port": 9}),
        ("sub", (-3, 16), {"timeout": 0.5, "node": 2}),
    ]


def test_call_json(mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["call", "mul", "2.5", "2", "--json"]) == 0
    answer = json.loads(said(capsys)[0])
    assert answer == {"value": 5.0, "node": 2, "run_us": 900, "elapsed_us": 1234}


def test_wasm(mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str]) -> None:
    words = "wasm primes.wasm count_primes 0 500_000 --fuel 9 --memory 1M"
    assert main(words.split()) == 0
    assert said(capsys)[0] == "41538\n"
    options = {"timeout": None, "fuel": 9, "pages": 16, "node": None}
    assert mesh.calls[1] == ("primes.wasm", "count_primes", (0, 500_000), options)


def test_a_function_without_a_value_prints_nothing(
    mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str]
) -> None:
    mesh.wasm_value = None
    assert main(["wasm", "f.wasm", "run"]) == 0
    assert said(capsys)[0] == ""


@pytest.mark.parametrize(
    ("name", "status"),
    [("TRAP_MEMORY", 1), ("UNKNOWN_NAME", 2), ("UNREACHABLE", 3), ("DEADLINE", 4), ("LOST", 1)],
)
def test_errors_are_one_line_and_a_status(
    mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str], name: str, status: int
) -> None:
    mesh.fails = error_from(code_of(name), node=2)
    assert main(["call", "add", "1", "2", "--json"]) == status
    out, err = said(capsys)
    assert err.startswith("velum: ") and err.count("\n") == 1
    error = json.loads(out)["error"]
    assert (error["name"], error["node"]) == (name, 2)
    assert error["message"] == str(mesh.fails)


def test_a_mesh_that_does_not_answer_ends_with_4(
    mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh.hangs = True
    monkeypatch.setattr(commands, "ANSWER_GRACE_S", 0.01)
    assert main(["call", "add", "1", "2", "--timeout", "10ms"]) == 4
    assert said(capsys) == ("", "velum: no answer in time\n")


def test_an_interrupt_cancels_and_ends_with_130(
    mesh: fakes.FakeMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh.hangs = True

    def interrupted(self: Any, timeout: float | None = None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("velum.api.TaskFuture.result", interrupted)
    assert main(["call", "add", "1", "2"]) == 130
    assert mesh.futures[0].cancelled() and mesh.closed


def test_an_error_text_cannot_play_with_the_terminal(
    mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str]
) -> None:
    mesh.fails = error_from(code_of("TRAP_OTHER"), "trap\x1b[2J\r\nvelum: all is well")
    assert main(["call", "add", "1", "2"]) == 1
    assert said(capsys)[1] == "velum: trap [2J  velum: all is well\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cal", "add"], "did you mean 'call'"),
        (["--json"], "options follow the command"),
        (["call"], "NAME"),
        (["call", "add", "ten"], "not a number"),
        (["call", "add", str(2**63)], "64-bit"),
        (["wasm", "x.wasm"], "FUNC"),
        (["nodes", "--nope"], "--nope"),
        (["inspect", "/no/such/file.wasm"], "/no/such/file.wasm: No such file"),
        (["up", "3", "--first-id", "65534"], "highest id"),
    ],
)
def test_usage_errors_end_with_2(
    mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(words) == 2
    out, err = said(capsys)
    assert out == "" and err.startswith("velum: ") and message in err


def test_a_fault_of_ours_is_not_hidden(
    mesh: fakes.FakeMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh, "nodes", lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        main(["nodes"])


def test_nodes(mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nodes"]) == 0
    title, first, second = said(capsys)[0].splitlines()
    assert first.split()[:2] == ["*1", "alive"] and second.split()[:2] == ["2", "alive"]
    assert main(["nodes", "--json"]) == 0
    rows = json.loads(said(capsys)[0])
    assert rows == [info.as_dict() for info in mesh.members]


def test_nodes_watch_looks_again_until_interrupted(
    mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def sleep(_: float) -> None:
        looks.append(1)
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(commands.time, "sleep", sleep)
    assert main(["nodes", "--watch", "--json"]) == 130
    assert len(said(capsys)[0].splitlines()) == 3


def test_status(mesh: fakes.FakeMesh, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 0
    assert "modules.bytes  99" in said(capsys)[0]
    assert main(["status", "--json"]) == 0
    assert json.loads(said(capsys)[0]) == mesh.status()


def test_inspect(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(GUESTS / "sum.wasm")]) == 0
    out = said(capsys)[0]
    assert "velum runs it" in out and "imports: none" in out
    assert "  function sum(i32, i32, i32) -> i32\n" in out


def test_inspect_json(capsys: pytest.CaptureFixture[str]) -> None:
    file = GUESTS / "primes.wasm"
    assert main(["inspect", str(file), "--json"]) == 0
    found = json.loads(said(capsys)[0])
    assert (found["valid"], found["why"], found["bytes"]) == (True, None, file.stat().st_size)
    functions = {e["name"]: e["params"] for e in found["exports"] if e["kind"] == "function"}
    assert functions["count_primes"] == ["i32", "i32"]


def test_inspect_of_no_module(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "letter.wasm"
    file.write_text("dear module")
    assert main(["inspect", str(file)]) == 1
    assert "refuses it" in said(capsys)[0]
    assert main(["inspect", str(file), "--json"]) == 1
    assert json.loads(said(capsys)[0])["why"]["code"] == code_of("MODULE_MALFORMED")


@pytest.mark.parametrize(
    ("extern", "text"),
    [
        (
            {"import": True, "kind": "function", "module": "env", "name": "f", "callable": True,
             "params": ["i64"], "result": None},
            "function env.f(i64)",
        ),
        (
            {"import": False, "kind": "memory", "name": "memory", "minimum": 1, "maximum": None},
            "memory memory: 1 page of 64 KiB",
        ),
        (
            {"import": False, "kind": "table", "name": "t", "minimum": 3, "maximum": 9},
            "table t: 3 elements, at most 9",
        ),
        (
            {"import": False, "kind": "global", "name": "g", "mutable": True, "value_type": "f64"},
            "global g: mutable f64",
        ),
    ],
)  # fmt: skip
def test_extern_text(extern: dict[str, Any], text: str) -> None:
    assert commands.extern_text(extern) == text


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    overview = said(capsys)[0]
    assert main(["--help"]) == 0
    assert said(capsys)[0] == overview
    for name in ("node", "call", "wasm", "scatter", "jobs", "job", "doctor", "up", "demo", "sim"):
        assert f"\n  {name} " in overview
    assert main(["help", "wasm"]) == 0
    assert main(["wasm", "--help"]) == 0
    once, twice = said(capsys)[0].split("usage: ")[1:]
    assert once == twice and "--fuel" in once


def test_a_reader_that_leaves_is_no_error() -> None:
    command = f"{sys.executable} -m velum --help | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_short_command_imports_little() -> None:
    program = (
        "import sys, velum.client, velum.cli.commands, velum.cli\n"
        "from velum.cli.options import parse\n"
        "parse(velum.cli.COMMANDS['call'], ['add', '1', '2'])\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    loaded = set(done.stdout.split())
    for heavy in ("prompt_toolkit", "psutil", "asyncio", "tomllib", "velum.node", "velum.repl"):
        assert heavy not in loaded, heavy
