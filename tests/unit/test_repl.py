"""Lines of the prompt and their completion, without a terminal."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from tests.unit import fakes
from tests.unit.fake_files import FakeStore, fake_files
from velum import repl
from velum.errors import code_of, error_from
from velum.policy.job import Ask, Reduce

GUESTS = Path(__file__).parents[1] / "guests"


class Session:
    """A shell over the fake mesh; `say` runs a line and returns what was written."""

    def __init__(self) -> None:
        self.mesh = fakes.FakeMesh()
        self._written: list[str] = []
        self.shell = repl.Shell(self.mesh, self._written.append)

    def say(self, line: str) -> str:
        self._written.clear()
        assert self.shell.run(line)
        return "\n".join(self._written)


@pytest.fixture
def session() -> Session:
    return Session()


def test_add(session: Session) -> None:
    assert session.say("add 10 20") == "30   (node 2, 1.2 ms)"
    assert session.say("  sub -3 0x10 # a remark ") == "-19   (node 2, 1.2 ms)"
    assert session.say("mul 2.5 2 --timeout 1 --on=2") == "5.0   (node 2, 1.2 ms)"
    assert session.mesh.calls[-1] == ("mul", (2.5, 2), {"timeout": 1.0, "node": 2})


def test_wasm(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    line = "wasm '~/my guests/p.wasm' count_primes 0 500000 --timeout 5 --fuel 7 --memory 64K"
    assert session.say(line) == "41538   (node 2, 1.2 ms)"
    options = {"timeout": 5.0, "fuel": 7, "pages": 1}
    call = ("/home/me/my guests/p.wasm", "count_primes", (0, 500000), options)
    assert session.mesh.calls[-1] == call
    session.mesh.wasm_value = None
    assert session.say("wasm p.wasm run") == "done   (node 2, 1.2 ms)"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("frob 1 2", "unknown command 'frob'"),
        ("add 1", "takes two numbers"),
        ("add 1 two", "not a number"),
        ("add 1 2 --wat 3", "unknown option --wat"),
        ("add 1 2 --fuel 3", "unknown option --fuel"),
        ("add 1 2 --timeout", "needs a value"),
        ("wasm", "usage: wasm FILE"),
        ("help frob", "unknown command"),
        ("add 'open", "quot"),
    ],
)
def test_mistakes_are_said_and_the_prompt_goes_on(
    session: Session, line: str, message: str
) -> None:
    said = session.say(line)
    assert said.startswith("error: ") and message in said


def test_errors_of_the_mesh_are_said(session: Session) -> None:
    session.mesh.fails = error_from(code_of("TRAP_MEMORY"), node=2)
    said = session.say("wasm x.wasm run")
    assert said == f"error: {session.mesh.fails}" and "(node 2)" in said


def test_interrupt_cancels_the_task(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    session.mesh.hangs = True

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session.shell, "_await", interrupted)
    assert session.say("add 1 2") == "cancelled"
    assert session.mesh.futures[0].cancelled()


def test_a_leaving_node_waits_for_nothing(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.mesh.hangs = True
    session.shell.closing.set()
    monkeypatch.setattr(repl, "POLL_S", 0.01)
    assert "leaving" in session.say("add 1 2")
    assert session.mesh.futures[0].cancelled()


def test_scatter(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(GUESTS.parent))
    monkeypatch.setenv("VELUM_REDUCE", "max")  # of the program, not of this line
    assert session.say("scatter ~/guests/primes.wasm count_primes 0 1e4 --slices 8") == "41538"
    (job,) = session.mesh.jobs_known
    assert job.spec is not None
    assert (job.spec.end, job.spec.slices, job.spec.reduce) == (10_000, 8, Reduce.SUM)
    assert session.say("jobs").splitlines()[1].startswith(job.id)
    assert "answer" in session.say(f"job {job.id}")
    assert session.say(f"job {job.id} --watch") == "41538"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("scatter", "FILE"),
        ("scatter f.wasm run 0", "END"),
        ("scatter f.wasm run 0 1.5", "no integer"),
        ("scatter f.wasm run 0 9 --reduce avg", "avg"),
        ("scatter f.wasm run 0 9 --node a:1", "--node"),
        ("scatter /none.wasm run 0 9", "No such file"),
        ("jobs --watch", "--watch"),
        ("job", "ID"),
        ("job xyz", "no job's id"),
        ("job 0000000000000007", "knows a job"),
        ("job 7 --cancel --watch", "goes with neither"),
    ],
)
def test_mistakes_of_jobs(session: Session, line: str, message: str) -> None:
    said = session.say(line)
    assert said.startswith("error: ") and message in said


def test_help_of_a_command_at_the_prompt(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    assert session.say("scatter --help") == ""
    assert "--keep-going" in capsys.readouterr().out
    assert "--keep-going" in session.say("help scatter")


def test_interrupt_cancels_a_scatter(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> bool:
        assert session.shell.waiting
        raise KeyboardInterrupt

    session.mesh.script = lambda job: None
    monkeypatch.setattr("velum.scatterjob.ScatterJob.wait_progress", interrupted)
    assert session.say(f"scatter {GUESTS}/primes.wasm count_primes 0 9") == "cancelled"
    (job,) = session.mesh.jobs_known
    assert session.mesh.asked == [(job.number, Ask.CANCEL)] and not session.shell.waiting


def test_an_interrupt_before_the_waiting_counts(session: Session) -> None:
    session.mesh.hangs = True
    session.shell.struck = True
    assert session.say("add 1 2") == "cancelled" and session.mesh.futures[0].cancelled()
    session.shell.struck = True
    assert session.say(f"scatter {GUESTS}/primes.wasm count_primes 0 9") == "cancelled"
    assert session.mesh.jobs_known == []
    assert session.say(f"scatter {GUESTS}/primes.wasm count_primes 0 9") == "41538"


def test_a_signal_as_the_terminal_is_given_back_stops_the_task(
    session: Session, handlers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    strikes: list[int] = []

    @contextmanager
    def struck_at_the_end() -> Iterator[None]:
        yield
        strikes.append(len(session.mesh.futures))
        signal.raise_signal(signal.SIGINT)

    session.mesh.hangs = True
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        monkeypatch.setattr(keys, "raw_mode", struck_at_the_end)
        prompt = repl.Repl(session.mesh, session.shell)
        signal.signal(signal.SIGINT, lambda *_: prompt.interrupt())
        keys.send_text("add 1 2\rquit\r")
        prompt.run()
    assert strikes == [0, 1] and session.mesh.futures[0].cancelled()


def test_a_leaving_node_leaves_its_jobs_running(session: Session) -> None:
    session.mesh.script = lambda job: None
    session.shell.closing.set()
    said = session.say(f"scatter {GUESTS}/primes.wasm count_primes 0 9")
    assert "the job goes on in the mesh" in said and session.mesh.asked == []


@pytest.fixture
def store(session: Session) -> FakeStore:
    session.mesh.files, store = fake_files()
    return store


def test_store(session: Session, store: FakeStore, tmp_path: Path) -> None:
    file = tmp_path / "my file"
    file.write_bytes(b"kept")
    assert session.say(f"store put '{file}' a/b --copies 3") == ""
    assert store.uploads[-1].coding == (3, 0)
    assert session.say("store ls") == "a/b"
    assert session.say(f"store get a/b {tmp_path}") == ""
    assert (tmp_path / "b").read_bytes() == b"kept"
    assert "3 copies" in session.say("store stat a/b")
    assert "1 file" in session.say("store df")
    assert json.loads(session.say("store df --json"))["files"] == 1
    assert session.say("store rm a/b") == "" and not store.files


def test_store_at_home(
    session: Session, store: FakeStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VELUM_COPIES", "7")  # of the program, not of this line
    (tmp_path / "f").touch()
    assert session.say("store put ~/f") == "" and list(store.files) == ["f"]
    assert store.uploads[-1].coding == (2, 0)
    assert session.say("store get f ~/g") == "" and (tmp_path / "g").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("store", "store put, get, ls, stat, rm, df"),
        ("store frob", "help store"),
        ("store put", "FILE"),
        ("store put - name", "the prompt's own"),
        ("store put /none", "/none: No such file"),
        ("store get none", "no file 'none'"),
        ("store get f -", "the prompt's own"),
        ("store ls --node a:1", "--node"),
        ("store rm", "which files"),
    ],
)
def test_mistakes_of_files(session: Session, store: FakeStore, line: str, message: str) -> None:
    said = session.say(line)
    assert said.startswith("error: ") and message in said


def test_interrupt_gives_a_put_up(session: Session, store: FakeStore, tmp_path: Path) -> None:
    def interrupt(_: str) -> None:
        assert session.shell.waiting
        raise KeyboardInterrupt

    (tmp_path / "f").touch()
    store.on = interrupt
    assert "nothing is left half" in session.say(f"store put {tmp_path}/f")
    assert not store.files and store.uploads[-1].state == "aborted" and not session.shell.waiting
    session.shell.struck = True
    store.on = lambda what: None
    assert "nothing is left half" in session.say(f"store put {tmp_path}/f")
    assert not store.files and session.say(f"store put {tmp_path}/f") == ""


def test_help_of_store(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert "store put   keep a file" in session.say("help store")
    assert session.say("store put --help") == "" and "--ec" in capsys.readouterr().out


def test_nodes_status_help(session: Session) -> None:
    assert session.say("nodes").splitlines()[1].split()[0] == "*1"
    assert "modules.count" in session.say("status")
    overview = session.say("help")
    for word in repl.WORDS.values():
        assert word.usage in overview
    assert "--fuel" in session.say("help wasm")
    assert session.say("? quit").startswith("quit\n")
    assert session.say("   ") == ""


@pytest.mark.parametrize("line", ["quit", "exit"])
def test_leaving(session: Session, line: str) -> None:
    assert session.shell.run(line) is False


def choices(text: str) -> list[str]:
    return [choice.text for choice in repl.Completions().of(text)]


def test_completion_of_words() -> None:
    assert choices("") == list(repl.WORDS)
    assert choices("s") == ["sub", "scatter", "store", "status"]
    assert choices("jo") == ["jobs", "job"]
    assert choices("help n") == ["nodes"]
    assert choices("add --") == ["--timeout", "--on"]
    assert choices("wasm f.wasm run 1 --f") == ["--fuel"]
    assert choices("nodes ") == []
    assert choices("job 5f --") == ["--watch", "--cancel", "--resume", "--json"]
    assert choices("scatter f.wasm run 0 9 --pr") == ["--priority"]
    assert choices("scatter --node") == [], "the mesh is the node's own"
    assert choices("frob --") == []


def test_completion_of_files_and_functions() -> None:
    assert choices(f"wasm {GUESTS}/pri") == ["primes.wasm"]
    assert choices(f"wasm {GUESTS.parent}/gue") == ["guests/"]
    assert "primes.c" not in choices(f"wasm {GUESTS}/")
    assert choices("wasm /no/such/folder/") == []
    assert "count_primes" in choices(f"wasm {GUESTS}/primes.wasm ")
    assert choices(f"wasm {GUESTS}/primes.wasm cou") == ["count_primes"]
    assert choices(f"scatter {GUESTS}/pri") == ["primes.wasm"]
    assert choices(f"scatter {GUESTS}/primes.wasm cou") == ["count_primes"]


def test_completion_of_functions_of_what_is_no_module(tmp_path: Path) -> None:
    file = tmp_path / "letter.wasm"
    file.write_text("dear module")
    assert choices(f"wasm {file} ") == []
    assert choices(f"wasm {tmp_path}/none.wasm ") == []


def test_completion_of_files_in_the_mesh(session: Session, tmp_path: Path) -> None:
    files, store = fake_files()
    session.mesh.files = files
    for name in ("tables/a", "tables/b", "two words", "tab\n", "'"):
        files.put(b"", name)
    (tmp_path / "local").touch()
    completions = repl.Completions(partial(repl.file_names, session.mesh))

    def choices(text: str) -> list[str]:
        return [choice.text for choice in completions.of(text)]

    assert choices("store ") == ["put", "get", "ls", "stat", "rm", "df"]
    assert choices("store st") == ["stat"]
    for line in ("store get tab", "store stat tab", "store ls tab", "store rm x tab"):
        assert choices(line) == ["tables/a", "tables/b"], line
    assert choices("store get tables/a tab") == choices("store stat x tab") == []
    for line in ("store put ", "store get tables/a "):
        assert choices(f"{line}{tmp_path}/") == ["local"]
    assert choices("store put x --e") == ["--ec"] and choices("store frob --") == []
    assert choices("store --") == []

    def fail(_: str) -> None:
        raise error_from(code_of("TIMEOUT"))

    store.on = fail
    assert choices("store get ") == []


def test_completion_replaces_what_was_typed() -> None:
    (choice,) = repl.Completions().of(f"wasm {GUESTS}/pri")
    assert choice.replaces == len("pri")


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "m.wasm"
    completions = repl.Completions()
    file.write_bytes((GUESTS / "sum.wasm").read_bytes())
    first = [choice.text for choice in completions.of(f"wasm {file} ")]
    file.write_bytes((GUESTS / "primes.wasm").read_bytes())
    second = [choice.text for choice in completions.of(f"wasm {file} ")]
    assert "sum" in first and "count_primes" in second


def test_toolbar_counts_the_living() -> None:
    mesh = fakes.FakeMesh()
    mesh.members.append(fakes.node_info(3, state="dead"))
    assert repl.toolbar_text(mesh) == " node 1 | 2 nodes, 4 workers, 2 busy | help, Tab, Ctrl-D "


def test_history_is_where_the_desktop_standard_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert repl.history_path() == tmp_path / "velum" / "history"
