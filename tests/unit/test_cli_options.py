"""Options, environment, configuration file: which one wins, and what is said of a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from velum.cli.options import UsageError, build, parse
from velum.cli.table import CALL, COMMANDS, NODE, WASM


def test_defaults() -> None:
    args = parse(NODE, ["3"], {})
    assert (args.id, args.port, args.host, args.beacon_port) == (3, None, "127.0.0.1", 8888)
    assert (args.join, args.workers, args.no_beacon) == ([], None, False)
    assert args.log_level == "warning"


def test_the_default_memory_is_a_number() -> None:
    assert parse(NODE, ["3"], {}).memory == 256 << 20


def test_option_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    file = tmp_path / "velum.toml"
    file.write_text(
        "[node]\nport = 1\nworkers = 1\nmemory = '1M'\njoin = ['a:1', 'b:2']\nno-beacon = true\n"
    )
    environment = {"VELUM_PORT": "2", "VELUM_WORKERS": "2", "VELUM_CONFIG": str(file)}
    args = parse(NODE, ["7", "--port", "3"], environment)
    assert (args.port, args.workers, args.memory) == (3, 2, 1 << 20)
    assert (args.join, args.no_beacon, args.host) == (["a:1", "b:2"], True, "127.0.0.1")


def test_lists_repeat_and_split_and_are_replaced_not_added_to() -> None:
    words = ["1", "--join", "a:1,b:2", "--join", "3000"]
    args = parse(NODE, words, {"VELUM_JOIN": "z:9"})
    assert args.join == ["a:1", "b:2", "127.0.0.1:3000"]
    assert parse(NODE, ["1"], {"VELUM_JOIN": "z:9"}).join == ["z:9"]


@pytest.mark.parametrize(("text", "value"), [("1", True), ("Yes", True), ("0", False)])
def test_switch_in_the_environment(text: str, value: bool) -> None:
    assert parse(NODE, ["1"], {"VELUM_NO_BEACON": text}).no_beacon is value


def test_an_empty_variable_is_as_none() -> None:
    assert parse(NODE, ["1"], {"VELUM_PORT": "", "VELUM_NO_BEACON": ""}).port is None


def test_negative_numbers_of_every_notation_are_arguments() -> None:
    args = parse(CALL, ["add", "-3", "-0x10", "--timeout", "5"], {})
    assert (args.args, args.timeout) == ([-3, -16], 5.0)
    args = parse(CALL, ["add", "-.5", "-inf"], {})
    assert args.args == [-0.5, float("-inf")]


def test_options_may_stand_between_arguments() -> None:
    args = parse(WASM, ["f.wasm", "sum", "10", "--on", "2", "20", "-v", "30"], {})
    assert (args.args, args.on, args.verbose) == ([10, 20, 30], 2, True)


@pytest.mark.parametrize(
    ("words", "environment", "message"),
    [
        (["0"], {}, "1 to 65535"),
        ([], {}, "ID"),
        (["1", "--port", "x"], {}, "--port"),
        (["1", "--wat"], {}, "--wat"),
        (["1", "--log-level", "loud"], {}, "loud"),
        (["1", "--join", "nowhere"], {}, "--join"),
        (["1", "2"], {}, "2"),
        (["1"], {"VELUM_PORT": "x"}, "VELUM_PORT"),
        (["1"], {"VELUM_NO_BEACON": "maybe"}, "VELUM_NO_BEACON"),
        (["1"], {"VELUM_LOG_LEVEL": "loud"}, "VELUM_LOG_LEVEL"),
        (["1", "--config", "/nowhere.toml"], {}, "/nowhere.toml"),
    ],
)
def test_mistakes_name_what_is_wrong(
    words: list[str], environment: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        parse(NODE, words, environment)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[node]\nspeed = 3\n", "no setting 'speed'"),
        ("[node]\nport = 'x'\n", "port"),
        ("[node\n", "line 1"),
        ("node = 3\n", "must be a table"),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "velum.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        parse(NODE, ["1", "--config", str(file)], {})


@pytest.mark.parametrize("name", [name for name, c in COMMANDS.items() if not c.extend])
def test_every_help_has_examples_and_every_variable(name: str) -> None:
    text = build(COMMANDS[name]).format_help()
    assert f"velum {name}" in text and "examples:" in text
    for setting in COMMANDS[name].settings:
        assert f"--{setting.name}" in text
        assert setting.variable in " ".join(text.split())


def test_the_manual_knows_every_command_option_and_variable() -> None:
    manual = Path(__file__).parents[2].joinpath("docs", "cli.md").read_text()
    for command in COMMANDS.values():
        assert f"velum {command.name}" in manual
        for setting in command.settings:
            assert f"--{setting.name}" in manual, (command.name, setting.name)
