"""`velum kv` through main(argv), against a state of plain Python; and its words at the prompt."""

from __future__ import annotations

import inspect
import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit import fakes
from tests.unit.fake_state import FakeKv, FakeWatch, error_from
from velum import _core, repl
from velum.cli import kvshow, main, show
from velum.cli.options import parse
from velum.cli.table import COMMANDS
from velum.errors import CasConflict, KvRefused, NoQuorum, code_of
from velum.kv import Entry, Kv
from velum.kvwatch import Change

ODD = "näme/\x1b[2J\n"


@pytest.fixture
def kv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeKv:
    """The state of the mesh that every command attaches to, in an empty folder."""
    for name in list(os.environ):
        if name.startswith("VELUM_") and name != "VELUM_WORKER":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    mesh = fakes.install(monkeypatch)
    mesh.kv = FakeKv()
    return mesh.kv


def velum(*words: str) -> int:
    return main(["kv", *words])


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command that succeeds prints."""
    assert velum(*words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return str(out)


def test_the_fake_has_the_shape_of_the_face() -> None:
    for name, method in vars(FakeKv).items():
        if name[0] != "_":
            real = inspect.signature(getattr(Kv, name)).parameters
            assert inspect.signature(method).parameters.keys() == real.keys(), name


# ---- keys ----


def test_put_and_get(kv: FakeKv, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "put", "status", "active") == ""
    assert kv.puts[-1][:2] == ("status", b"active")
    plain = {"ttl": None, "durability": "", "siblings": False, "timeout": 5.0}
    assert kv.puts[-1][2] == plain
    assert said(capsys, "get", "status") == "active\n"
    said(capsys, "put", "dock", "A", "--ttl", "500ms", "--durability", "quorum", "--timeout", "2")
    assert kv.puts[-1][2] == plain | {"ttl": 0.5, "durability": "quorum", "timeout": 2.0}
    said(capsys, "put", "limits", '{"speed": [1.5, 2]}', "--as-json")
    assert kv.puts[-1][1] == {"speed": [1.5, 2]}
    assert said(capsys, "get", "limits") == '{"speed": [1.5, 2]}\n'
    said(capsys, "put", "name", '"Ada"', "--as-json")
    assert said(capsys, "get", "name") == "Ada\n"
    said(capsys, "put", "two", "a\nb")
    assert said(capsys, "get", "two") == "a\nb\n"


@pytest.mark.parametrize("value", ["-3", "-0x1f", "-.5", "-inf", "-3.bin", " x", "", "--", "ä b"])
def test_values_arrive_as_they_were_typed(kv: FakeKv, value: str) -> None:
    words = ["--", "k", value] if value == "--" else ["k", value]
    assert velum("put", *words) == 0
    assert kv.puts[-1][:2] == ("k", value.encode())
    assert velum("put", "--ttl", "3", "--", "--json", "-v") == 0
    assert kv.puts[-1][:2] == ("--json", b"-v")


def test_the_acknowledgement(kv: FakeKv, capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(said(capsys, "put", "a/b", "1", "--json", "--durability", "fsync"))
    assert told == {"key": "a/b", "version": kv.state.keys["a/b"].version, "durability": "fsync"}
    assert velum("put", "a/b", "1", "-v") == 0
    out, err = capsys.readouterr()
    version = kv.state.keys["a/b"].version
    assert out == "" and re.fullmatch(rf"log, [\d.]+ [um]?s, version {version}\n", err)


def test_bytes_pass_unharmed(
    kv: FakeKv, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    data = bytes(range(256)) * 3 + b"\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert velum("put", "map", "-") == 0 and kv.puts[-1][1] == data
    assert velum("get", "map", "--raw") == 0
    assert capfdbinary.readouterr() == (data, b"")
    assert velum("put", "n", "[1]", "--as-json") == velum("get", "n", "-r") == 0
    assert capfdbinary.readouterr() == (b"[1]", b"")


def test_get_of_every_type(kv: FakeKv, capsys: pytest.CaptureFixture[str]) -> None:
    kv.put("raw", b"\xff\x1b[2J")
    kv.incr("visits", 12)
    kv.sadd("team", "b", "a\n")
    kv.hset("map", {"y": "2", "x": b"\xfe"})
    assert said(capsys, "get", "raw") == "\\xff\\x1b[2J\n"
    assert said(capsys, "get", "visits") == "12\n"
    assert said(capsys, "get", "team") == "a\\n\nb\n"
    assert said(capsys, "get", "map") == "x=\\xfe\ny=2\n"

    def value(key: str) -> Any:
        facts = json.loads(said(capsys, "get", key, "--json"))
        assert list(facts) == ["key", "type", "value", "version", "expires_in"]
        return facts["type"], facts["value"]

    assert value("raw") == ("bytes", {"base64": "/xtbMko="})
    assert value("visits") == ("counter", 12)
    assert value("team") == ("set", ["a\n", "b"])
    assert value("map") == ("hash", {"y": "2", "x": {"base64": "/g=="}})
    kv.put("soon", {"a": [1, None]}, ttl=2.5)
    assert value("soon") == ("json", {"a": [1, None]})
    assert json.loads(said(capsys, "get", "soon", "--json"))["expires_in"] == 2.5


def test_siblings(kv: FakeKv, capsys: pytest.CaptureFixture[str]) -> None:
    assert velum("put", "plan", "left", "--siblings") == 0
    assert velum("put", "plan", '["right"]', "--as-json", "--siblings") == 0
    assert said(capsys, "get", "plan", "--siblings") == 'left\n["right"]\n'
    assert json.loads(said(capsys, "get", "plan", "--siblings", "--json")) == ["left", ["right"]]
    assert velum("get", "none", "--siblings") == 2


def test_del(kv: FakeKv, capsys: pytest.CaptureFixture[str]) -> None:
    for key in ("a", "b", "c"):
        kv.put(key, b"")
    assert velum("del", "a", "x", "b", "y") == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "no key 'x'; velum kv keys" in first and "no key 'y'" in second
    assert kv.keys() == ["c"]
    assert json.loads(said(capsys, "del", "c", "--json")) == {"deleted": 1, "missing": []}


def test_keys(kv: FakeKv, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "keys") == "" and said(capsys, "keys", "--json") == "[]\n"
    for key in ("b/2", "a", "b/1", ODD):
        kv.put(key, b"")
    assert said(capsys, "keys") == "a\nb/1\nb/2\nnäme/\\x1b[2J\\n\n"
    assert said(capsys, "keys", "b/*") == "b/1\nb/2\n"
    assert json.loads(said(capsys, "keys", "n*", "--json")) == [ODD]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("put k", "VALUE"),
        ("put k v --durability disk", "not one of ram, log, fsync, quorum"),
        ("put k v --ttl 0", "above zero"),
        ("put k {x --as-json", "VALUE is no JSON"),
        ("get", "KEY"),
        ("get none", "no key 'none'; velum kv keys"),
        ("del", "which keys"),
        ("sadd k", "velum kv sadd KEY ELEMENT"),
        ("srem k", "velum kv srem KEY ELEMENT"),
        ("incr k much", "no integer"),
        ("cas k 0", "VALUE"),
        ("forget 0", "1 to 65535"),
        ("forget 2", "node 2 is alive; stop it first"),
        ("check none.log", "none.log: No such file"),
        ("frob", "unknown command 'kv frob'"),
        ("kesy", "did you mean 'kv keys'?"),
    ],
)
def test_mistakes(kv: FakeKv, capsys: pytest.CaptureFixture[str], words: str, message: str) -> None:
    assert velum(*words.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("velum: ") and message in err
    assert not kv.state.keys and ("forget", 2) not in kv.calls


def test_a_missing_key_in_json(kv: FakeKv, capsys: pytest.CaptureFixture[str]) -> None:
    assert velum("get", "none", "--json") == 2
    assert capsys.readouterr().out == "null\n"


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [(101, KvRefused, "make room"), (104, NoQuorum, "velum nodes"), (102, KvRefused, "delete")],
)
def test_errors_say_what_to_do(
    kv: FakeKv, capsys: pytest.CaptureFixture[str], code: int, kind: type, message: str
) -> None:
    kv.fails = error_from(code, "it went wrong")
    assert isinstance(kv.fails, kind)
    assert velum("put", "k", "v", "--json") == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["code"] == code
    assert "it went wrong" in err and message in err


# ---- counters, sets, cas ----


def test_counters_and_sets(kv: FakeKv, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "incr", "n") == "1\n" and said(capsys, "incr", "n", "-12") == "-11\n"
    assert json.loads(said(capsys, "incr", "n", "1e3", "--json")) == {"key": "n", "value": 989}
    assert said(capsys, "sadd", "team", "b", "a", "-3") == "3\n"
    assert said(capsys, "smembers", "team") == "-3\na\nb\n"
    assert json.loads(said(capsys, "smembers", "team", "--json")) == ["-3", "a", "b"]
    assert json.loads(said(capsys, "sadd", "team", "a", "c", "--json")) == {
        "key": "team",
        "added": 1,
    }
    assert said(capsys, "srem", "team", "a", "x") == "1\n"
    assert json.loads(said(capsys, "srem", "team", "x", "--json")) == {"key": "team", "removed": 0}
    assert said(capsys, "smembers", "none") == ""
    kv.put("text", b"")
    assert velum("incr", "text") == 1


def test_every_write_may_be_durable(kv: FakeKv) -> None:
    kv.put("k", b"")
    for words in ("del k", "incr n", "sadd s a", "srem s a"):
        assert velum(*words.split(), "--durability", "quorum") == 0
        assert kv.calls[-1][-1] == "quorum"
        velum(*words.split())
        assert kv.calls[-1][-1] == ""


def test_cas(kv: FakeKv, capsys: pytest.CaptureFixture[str]) -> None:
    first = said(capsys, "cas", "leader", "0", "A").strip()
    assert first == kv.state.keys["leader"].version
    assert velum("cas", "leader", "0", "B") == 1
    assert "velum kv get KEY --json shows it" in capsys.readouterr().err
    assert kv.get("leader") == b"A" and isinstance(error_from(103), CasConflict)
    told = json.loads(
        said(capsys, "cas", "leader", first, "[1]", "--as-json", "--quorum", "--json")
    )
    assert told["version"] == kv.state.keys["leader"].version != first
    assert [call[4] for call in kv.calls] == [False, False, True] and kv.get("leader") == [1]


# ---- watch ----


def end_watches(kv: FakeKv, *changes: Change) -> None:
    """Makes every watch end after these changes."""

    def finish(watch: FakeWatch) -> None:
        for change in changes:
            watch.tell(change)
        original = watch.get

        def get(timeout: float | None = None) -> Change | None:
            return original(0.01)  # then it is as if it were closed

        watch.get = get  # type: ignore[method-assign]

    kv.on_watch = finish


def change(event: str, value: Any = None, kind: str = "bytes", left: Any = None) -> Change:
    key = "" if event in ("now", "missed") else "k\n"
    return Change(event, key, kind, value, "0199f3a1c2000000-7", left)


def test_watch(kv: FakeKv, capsys: pytest.CaptureFixture[str]) -> None:
    kv.put("status", b"active", ttl=4.25)
    kv.sadd("team", "a", "b")
    end_watches(
        kv,
        change("set", b"x y"),
        change("set", [1, "a"], "json"),
        change("count", 7, "counter"),
        change("add", b"\xff"),
        change("remove", b"r"),
        change("field", ("f", b"v")),
        change("unfield", "f"),
        change("expire", left=90.0),
        change("expire"),
        change("expired"),
        change("del"),
        change("missed", 3),
        change("missed"),
        change("state", None, "set"),
    )
    assert said(capsys, "watch").splitlines() == [
        "state    status = active  (4.2 s left)",
        "state    team = {a, b}",
        "now      that is all there is; changes follow",
        "set      k\\n = x y",
        'set      k\\n = [1, "a"]',
        "count    k\\n = 7",
        "add      k\\n + \\xff",
        "remove   k\\n - r",
        "field    k\\n . f = v",
        "unfield  k\\n . f",
        "expire   k\\n  (90 s left)",
        "expire   k\\n  stays for good",
        "expired  k\\n",
        "del      k\\n",
        "missed   3 changes came too fast; watch again to see the state",
        "missed   changes came too fast; watch again to see the state",
        "state    k\\n = (large)",
    ]
    assert kv.calls[-1] == ("watch", "*", True) and kv.state.watches[-1].closed


def test_watch_in_json(kv: FakeKv, capsys: pytest.CaptureFixture[str]) -> None:
    kv.put("status", b"active")
    end_watches(kv, change("set", {"a": 1}, "json", 3.0), change("field", ("f", b"v")))
    now, first, second = map(json.loads, said(capsys, "watch", "*", "--new", "--json").splitlines())
    assert now["event"] == "now" and kv.calls[-1] == ("watch", "*", False)
    version = "0199f3a1c2000000-7"
    facts = {"key": "k\n", "type": "json", "value": {"a": 1}, "version": version}
    assert first == {"event": "set", **facts, "expires_in": 3.0}
    assert second["value"] == ["f", "v"]


def test_watch_is_interrupted(kv: FakeKv, capsys: pytest.CaptureFixture[str]) -> None:
    def strike(watch: FakeWatch) -> None:
        def get(timeout: float | None = None) -> Change | None:
            raise KeyboardInterrupt

        watch.get = get  # type: ignore[method-assign]

    kv.on_watch = strike
    assert velum("watch", "a/*") == 130
    assert kv.state.watches[-1].closed and capsys.readouterr() == ("", "")


# ---- care ----


def test_figures_compaction_and_forgetting(kv: FakeKv, capsys: pytest.CaptureFixture[str]) -> None:
    assert "log_bytes   4096\n" in said(capsys, "stat")
    assert json.loads(said(capsys, "stat", "--json"))["refusing"] is False
    assert "velum kv stat" in said(capsys, "compact")
    assert json.loads(said(capsys, "compact", "--json")) == {"compacting": True}
    assert said(capsys, "forget", "17") == "node 17 is forgotten\n"
    assert json.loads(said(capsys, "forget", "18", "--json")) == {"forgotten": 18}
    assert kv.calls == [("compact",), ("compact",), ("forget", 17), ("forget", 18)]


def test_check(
    kv: FakeKv, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found: dict[str, Any] = {"records": 1, "plain": 0, "torn_bytes": 0, "keys": 2}

    def damage(*spots: tuple[int, int]) -> None:
        found["damaged"] = list(spots)
        found["damaged_lines"], found["damaged_bytes"] = len(spots), sum(size for _, size in spots)

    damage()
    monkeypatch.setattr(_core, "kv_check", lambda path: dict(found), raising=False)
    Path("robot.log").touch()
    assert said(capsys, "check", "robot.log") == "robot.log: whole; 1 record, 2 keys\n"
    found |= {"torn_bytes": 1234, "plain": 3}
    first, second = said(capsys, "check", "robot.log").splitlines()
    assert first.endswith("2 keys, 3 plain lines") and "1,234 bytes: the next start cuts" in second
    damage((40, 7), (1 << 33, 9))
    assert velum("check", "robot.log") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("robot.log: damaged: 2 places, 16 bytes; ")
    assert lines[1:3] == ["  7 bytes at 40", "  9 bytes at 8589934592"]
    assert velum("check", "robot.log", "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert told["whole"] is False and told["damaged"][1] == {"offset": 1 << 33, "bytes": 9}
    assert (told["file"], told["records"], told["keys"]) == ("robot.log", 1, 2)
    damage(*((at, 1) for at in range(50)))
    assert velum("check", "robot.log") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[20:22] == ["  1 byte at 19", "  and 30 places more"]

    damage()
    found |= {"records": 0, "plain": 0, "keys": 0}
    assert velum("check", "robot.log") == 1
    assert capsys.readouterr().out == "robot.log: no log: no record is in it\n"
    assert velum("check", "robot.log", "--json") == 1
    assert json.loads(capsys.readouterr().out)["whole"] is False
    found["torn_bytes"] = 0
    assert said(capsys, "check", "robot.log") == "robot.log: whole; 0 records, 0 keys\n"

    def refuse(path: str) -> None:
        raise _core.CoreError(code_of("PAYLOAD"), "no line of it is one of a log")

    monkeypatch.setattr(_core, "kv_check", refuse, raising=False)
    assert velum("check", "robot.log") == 1
    assert "no line of it is one of a log" in capsys.readouterr().err


def test_help(kv: FakeKv, capsys: pytest.CaptureFixture[str]) -> None:
    assert velum() == 2
    overview = capsys.readouterr().out
    words = "put get del keys watch incr sadd srem smembers cas stat compact forget check".split()
    assert re.findall(r"^  kv (\w+) ", overview, re.MULTILINE) == words
    assert main(["--help"]) == 0
    everything = capsys.readouterr().out
    assert "\n  kv " in everything and "kv put " not in everything


def test_every_command_takes_json(kv: FakeKv) -> None:
    for name, command in COMMANDS.items():
        if name.startswith("kv "):
            assert any(setting.name == "json" for setting in command.settings), name


def test_texts() -> None:
    assert kvshow.block(Entry("k", "bytes", b"a\tb\n\x07", "0", None)) == "a\tb\n\\x07"
    assert kvshow.word("\ud800") == "\\ud800" and kvshow.word("ä b") == "ä b"
    assert kvshow.brief({b"b", b"a"}) == "{a, b}"
    assert kvshow.plain(float("nan")) != 0 and show.dump(kvshow.plain([float("inf")])) == '["inf"]'
    assert parse(COMMANDS["kv incr"], ["n"], {}).by == 1


# ---- at the prompt ----


class Session:
    """A shell over the fake mesh; `say` runs a line and returns what was written."""

    def __init__(self) -> None:
        self.mesh = fakes.FakeMesh()
        self.mesh.kv = FakeKv()
        self._written: list[str] = []
        self.shell = repl.Shell(self.mesh, self._written.append)

    def say(self, line: str) -> str:
        self._written.clear()
        assert self.shell.run(line)
        return "\n".join(self._written)


def test_words_at_the_prompt(tmp_path: Path) -> None:
    session = Session()
    kv: FakeKv = session.mesh.kv
    assert session.say("kv put 'a key' 'two words' --ttl 3") == ""
    assert kv.puts[-1][:2] == ("a key", b"two words") and kv.puts[-1][2]["ttl"] == 3.0
    assert session.say("kv get 'a key'") == "two words"
    assert session.say("kv incr n -3") == "-3"
    assert session.say("kv keys") == "a key\nn"
    assert session.say("kv get nothing").startswith("error: no key 'nothing'")
    assert "there are kv put, get, del" in session.say("kv")
    assert "there are kv put, get, del" in session.say("kv frob")
    assert "prompt's own" in session.say("kv put k -")
    assert "unrecognized" in session.say("kv get k --node 127.0.0.1:1")
    assert "unrecognized" in session.say("kv get k --raw")
    assert "kv smembers" in session.say("help kv")
    kv.fails = error_from(code_of("STATE_FULL"))
    assert session.say("kv put k v").startswith("error: ")


def test_a_watch_at_the_prompt_ends_with_an_interrupt() -> None:
    session = Session()
    kv: FakeKv = session.mesh.kv
    kv.put("status", b"active")

    def strike(watch: FakeWatch) -> None:
        session.shell.struck = True
        original = watch.get

        def get(timeout: float | None = None) -> Change | None:
            found = original(0.01)
            if found is None:
                raise KeyboardInterrupt
            return found

        watch.get = get  # type: ignore[method-assign]

    kv.on_watch = strike
    lines = session.say("kv watch").splitlines()
    assert lines[0] == "state    status = active" and lines[-1] == "no longer watched"
    assert not session.shell.struck and kv.state.watches[-1].closed


def test_completion() -> None:
    session = Session()
    kv: FakeKv = session.mesh.kv
    for key in ("robots/A/status", "robots/B/status", "other", "with space", "x*y", "xzy"):
        kv.put(key, b"")
    completions = repl.Completions(keys=lambda prefix: repl.key_names(session.mesh, prefix))

    def of(text: str) -> list[str]:
        return [choice.text for choice in completions.of(text)]

    assert of("kv sm") == ["smembers"] and "kv" in of("k")
    assert of("kv get robots/") == ["robots/A/status", "robots/B/status"]
    assert of("kv get ") == ["other", "robots/A/status", "robots/B/status", "x*y", "xzy"]
    assert of("kv put other ") == [] and of("kv del a o") == ["other"]
    assert of("kv stat ") == [] and "--ttl" in of("kv put k v --")
    kv.fails = error_from(code_of("CLOSED"))
    assert of("kv get ") == []
