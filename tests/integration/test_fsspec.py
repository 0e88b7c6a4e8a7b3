"""velum:// as fsspec has it: its own abstract tests, pandas, and what is ours alone.

Every test runs twice: over a store of plain Python, which says whether a path means what it should,
and over a mesh of three processes.
"""

from __future__ import annotations

import bz2
import gc
import io
import pickle
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

fsspec = pytest.importorskip("fsspec")

from fsspec.callbacks import Callback  # noqa: E402
from fsspec.tests import abstract  # noqa: E402

from tests.integration.meshes import StartMesh  # noqa: E402
from tests.unit.fake_files import error, fake_files  # noqa: E402
from velum.errors import CallerError  # noqa: E402
from velum.fs import VelumFileSystem  # noqa: E402

DATA = bytes(range(256)) * (20 << 10)  # 5 MiB


@pytest.fixture(scope="module", params=["plain", "mesh"])
def storage_options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What makes a filesystem of one store, which the tests of this module share."""
    if request.param == "plain":
        return {"files": fake_files()[0], "skip_instance_cache": True}
    start: StartMesh = request.getfixturevalue("shared_mesh")
    return {"address": start(3, options=("--ram", "256M")).address(2)}


@pytest.fixture
def fs(storage_options: dict[str, Any]) -> Iterator[VelumFileSystem]:
    """A filesystem that is empty, before and after."""
    made = VelumFileSystem(**storage_options)
    made.rm("", recursive=True)
    yield made
    made.rm("", recursive=True)


class Fixtures(abstract.AbstractFixtures):  # type: ignore[misc]
    @pytest.fixture
    def fs(self, fs: VelumFileSystem) -> VelumFileSystem:
        return fs

    @pytest.fixture
    def fs_path(self) -> str:
        return "here"

    @pytest.fixture
    def fs_join(self) -> Any:
        return lambda *parts: "/".join(parts)


class TestCopy(abstract.AbstractCopyTests, Fixtures):  # type: ignore[misc]
    pass


class TestGet(abstract.AbstractGetTests, Fixtures):  # type: ignore[misc]
    pass


class TestPut(abstract.AbstractPutTests, Fixtures):  # type: ignore[misc]
    pass


class TestPipe(abstract.AbstractPipeTests, Fixtures):  # type: ignore[misc]
    pass


class TestOpen(abstract.AbstractOpenTests, Fixtures):  # type: ignore[misc]
    pass


# ---- paths ----


@pytest.mark.parametrize(
    ("url", "path", "address"),
    [
        ("velum://a/b.csv", "a/b.csv", None),
        ("velum:///a/b/", "a/b", None),
        ("/a/b", "a/b", None),
        ("velum://10.0.0.1:8001/a/b", "a/b", "10.0.0.1:8001"),
        ("velum://node.local:8001", "", "node.local:8001"),
        ("velum://a:x/b", "a:x/b", None),
        ("velum://a:1b/c", "a:1b/c", None),
        ("10.0.0.1:8001/a", "10.0.0.1:8001/a", None),
        ("velum://", "", None),
        ("velum::a", "a", None),
    ],
)
def test_urls(url: str, path: str, address: str | None) -> None:
    assert VelumFileSystem._strip_protocol(url) == path
    assert VelumFileSystem._strip_protocol([url, path]) == [path, path]
    options = VelumFileSystem._get_kwargs_from_urls(url)
    assert options == ({} if address is None else {"address": address})


def test_a_url_leads_back(fs: VelumFileSystem) -> None:
    made = VelumFileSystem(address="10.0.0.1:8001")
    url = made.unstrip_protocol("a/b")
    assert url == "velum://10.0.0.1:8001/a/b"
    assert fsspec.core.url_to_fs(url)[0] == made and made._strip_protocol(url) == "a/b"
    assert VelumFileSystem().unstrip_protocol("a/b") == "velum://a/b"
    assert pickle.loads(pickle.dumps(made)) == made


def test_it_is_registered() -> None:
    (found,) = entry_points(group="fsspec.specs", name="velum")
    assert found.load() is VelumFileSystem is fsspec.get_filesystem_class("velum")


# ---- directories ----


def test_directories_are_there_while_something_is_in_them(fs: VelumFileSystem) -> None:
    fs.pipe({"a/b/c": b"1", "a/d": b"22", "e": b""})
    assert fs.ls("", detail=False) == ["a", "e"] and fs.ls("a", detail=False) == ["a/b", "a/d"]
    assert fs.ls("a/d", detail=False) == ["a/d"]
    assert [(e["type"], e["size"]) for e in fs.ls("a")] == [("directory", 0), ("file", 2)]
    assert fs.isdir("a/b") and fs.isfile("a/b/c") and fs.isdir("") and not fs.isfile("a")
    assert not fs.exists("a/b/x") and not fs.exists("x" * 5000)
    fs.rm("a/b/c")
    assert not fs.exists("a/b") and fs.isdir("a")
    for path in ("a/b", "x", "e/x"):
        with pytest.raises(FileNotFoundError):
            fs.ls(path)
        with pytest.raises(FileNotFoundError):
            fs.info(path)


def test_empty_directories(fs: VelumFileSystem) -> None:
    fs.mkdir("a/b")
    assert fs.isdir("a") and fs.isdir("a/b") and fs.ls("a/b") == [] and fs.find("") == []
    for again in (lambda: fs.mkdir("a/b"), lambda: fs.makedirs("a"), lambda: fs.mkdir("")):
        with pytest.raises(FileExistsError):
            again()
    fs.makedirs("a/b", exist_ok=True)
    with pytest.raises(FileNotFoundError):
        fs.mkdir("x/y", create_parents=False)
    fs.pipe("f", b"")
    with pytest.raises(NotADirectoryError):
        fs.mkdir("f/g")
    with pytest.raises(NotADirectoryError):
        fs.rmdir("f")
    with pytest.raises(OSError, match="not empty"):
        fs.rmdir("a")
    with pytest.raises(OSError, match="not empty"):
        fs.rm("a")
    fs.rmdir("a/b")
    with pytest.raises(FileNotFoundError):
        fs.rmdir("a/b")
    assert fs.find("") == ["f"] and not fs.exists("a")


def test_find(fs: VelumFileSystem) -> None:
    fs.pipe({"a/b/c": b"1", "a/b/d": b"2", "ab": b"3", "a/e": b"4"})
    fs.files.put(b"", "a//nowhere")
    fs.mkdir("a/z")
    assert fs.find("a") == ["a/b/c", "a/b/d", "a/e"] and fs.find("") == [*fs.find("a"), "ab"]
    assert fs.find("a", withdirs=True) == ["a", "a/b", "a/b/c", "a/b/d", "a/e", "a/z"]
    assert fs.find("a", maxdepth=1, withdirs=True) == ["a", "a/b", "a/e", "a/z"]
    assert fs.find("a/e") == ["a/e"] and fs.find("none") == []
    assert fs.find("a", detail=True)["a/e"]["size"] == 1
    assert fs.glob("a/*") == ["a/b", "a/e", "a/z"] and fs.glob("**/d") == ["a/b/d"]
    assert fs.du("") == 4 and [names for _, _, names in fs.walk("a")] == [["e"], ["c", "d"], []]
    with pytest.raises(ValueError):
        fs.find("a", maxdepth=0)


def test_rm(fs: VelumFileSystem) -> None:
    fs.pipe({"a/b/c": b"1", "a/b/d": b"2", "ab": b"3", "a/e/f/g": b"4"})
    fs.mkdir("a/z")
    with pytest.raises(FileNotFoundError):
        fs.rm("none")
    with pytest.raises(FileNotFoundError):
        fs.rm("none", recursive=True)
    fs.rm(["a/b/c", "ab"])
    assert fs.find("") == ["a/b/d", "a/e/f/g"]
    fs.rm("a", recursive=True, maxdepth=2)
    assert fs.find("") == ["a/e/f/g"] and not fs.exists("a/z")
    fs.rm("a", recursive=True)
    assert fs.ls("") == []


def test_mv(fs: VelumFileSystem) -> None:
    fs.pipe({"a/b": DATA, "a/c": b"2"})
    fs.mv("a/b", "x")
    assert fs.cat("x") == DATA and not fs.exists("a/b")
    fs.mv("a", "d", recursive=True)
    assert fs.find("") == ["d/c", "x"]
    with pytest.raises(FileNotFoundError):
        fs.cp_file("none", "other")


# ---- contents ----


def test_cat_of_slices(fs: VelumFileSystem) -> None:
    fs.pipe("f", b"0123456789")
    for start in (None, 0, 3, 10, 12, -3, -20):
        for end in (None, 0, 2, 7, 15, -1, -20):
            assert fs.cat_file("f", start, end) == b"0123456789"[start:end], (start, end)
    assert fs.head("f", 3) == b"012" and fs.tail("f", 3) == b"789"
    assert fs.cat_ranges(["f", "f"], [1, 5], [3, 6]) == [b"12", b"5"]
    assert fs.read_block("f", 2, 4) == b"2345"


def test_times_and_versions(fs: VelumFileSystem) -> None:
    before = fs.files.put(b"x", "f")
    first = (fs.ukey("f"), fs.checksum("f"))
    assert fs.modified("f") == fs.created("f")
    assert fs.modified("f") == datetime.fromtimestamp(before.modified, tz=timezone.utc)
    assert fs.info("f")["mtime"] == before.modified and first == (fs.ukey("f"), fs.checksum("f"))
    fs.pipe("f", b"x")
    assert fs.ukey("f") > first[0] and fs.checksum("f") > first[1]
    with pytest.raises(FileNotFoundError):
        fs.modified("none")


def test_open(fs: VelumFileSystem) -> None:
    with fs.open("a/f", "wb") as file:
        file.write(DATA)
        assert not fs.exists("a/f")
    with fs.open("a/f") as file:
        assert file.size == len(DATA) and file.seek(-7, 2) and file.read() == DATA[-7:]
    with fs.open("t", "w", encoding="latin-1", newline="\n") as text:
        text.write("ä\n")
    assert fs.cat("t") == b"\xe4\n" and fs.read_text("t", encoding="latin-1") == "ä\n"
    with fs.open("z.gz", "wb", compression="infer") as file:
        file.write(DATA)
    with fs.open("z.gz", compression="infer") as file:
        assert file.read() == DATA
    with fs.open("z.bz2", "wt", compression="infer") as text:
        text.write("compressed")
    assert bz2.decompress(fs.cat("z.bz2")) == b"compressed"
    with pytest.raises(ZeroDivisionError), fs.open("none", "wb", compression="gzip") as file:
        file.write(DATA)
        raise ZeroDivisionError
    fs.open("none", "wb", compression="gzip").write(DATA)
    gc.collect()
    for mode in ("ab", "r+b"):
        with pytest.raises(ValueError, match="as a whole"):
            fs.open("a/f", mode)
    with pytest.raises(IsADirectoryError):
        fs.open("", "wb")
    with pytest.raises(FileNotFoundError):
        fs.open("none")
    with pytest.raises(CallerError):
        fs.open("x" * 5000, "wb")


def test_how_it_is_kept(fs: VelumFileSystem, storage_options: dict[str, Any]) -> None:
    coded = VelumFileSystem(ec=[2, 1], chunk_bytes=1 << 19, **storage_options)
    coded.pipe("a", DATA)
    with coded.open("b", "wb", copies=1) as file:
        file.write(DATA)
    coded.cp_file("a", "c")
    assert [fs.files.stat(name).ec for name in "abc"] == [(2, 1), None, (2, 1)]
    assert fs.files.stat("b").copies == 1 and fs.files.stat("a").chunk_bytes == 1 << 19


class Told(Callback):  # type: ignore[misc]
    """Notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []

    def call(self, *_: Any, **__: Any) -> None:
        self.steps.append(self.value)


def test_local_files(fs: VelumFileSystem, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "deep" / "target"
    source.write_bytes(DATA)
    told = Told()
    fs.put_file(source, "f", callback=told)
    assert told.size == told.value == len(DATA)
    with pytest.raises(FileExistsError):
        fs.put_file(source, "f", mode="create")
    told = Told()
    fs.get_file("velum://f", str(target), callback=told)
    assert target.read_bytes() == DATA and told.size == told.value == len(DATA)
    stream = io.BytesIO()
    fs.get_file("f", stream)
    assert stream.getvalue() == DATA
    with pytest.raises(FileNotFoundError):
        fs.get_file("none", str(tmp_path / "none"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "source"]


def test_transactions(fs: VelumFileSystem, tmp_path: Path) -> None:
    (tmp_path / "local").write_bytes(DATA)
    with fs.transaction:
        fs.pipe_file("a", b"1")
        with fs.open("b", "wb") as file:
            file.write(DATA)
        fs.put_file(tmp_path / "local", "c")
        assert fs.find("") == []
    assert fs.find("") == ["a", "b", "c"] and fs.cat("b") == fs.cat("c") == DATA
    with pytest.raises(ZeroDivisionError), fs.transaction:
        fs.pipe_file("d", b"1")
        fs.cp_file("a", "e")
        raise ZeroDivisionError
    assert fs.find("") == ["a", "b", "c"]


def test_a_writer_that_fails_leaves_nothing(fs: VelumFileSystem) -> None:
    with pytest.raises(ZeroDivisionError), fs.open("f", "wb") as file:
        file.write(DATA)
        raise ZeroDivisionError
    assert not fs.exists("f")


def test_a_mesh_that_does_not_answer_is_no_missing_file() -> None:
    files, store = fake_files()
    fs = VelumFileSystem(files=files, skip_instance_cache=True)

    def fail(_: str) -> None:
        raise error("TIMEOUT")

    store.on = fail
    for ask in (fs.exists, fs.isdir, fs.isfile):
        with pytest.raises(ConnectionError):
            ask("f")


def test_pandas(fs: VelumFileSystem, storage_options: dict[str, Any]) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"node": [1, 2, 3], "name": ["a", "ä", "b"]})
    frame.to_csv("velum://tables/data.csv", index=False, storage_options=storage_options)
    assert fs.cat("tables/data.csv").startswith(b"node,name\n1,a\n")
    back = pandas.read_csv("velum://tables/data.csv", storage_options=storage_options)
    assert back.equals(frame)
    if "address" in storage_options:
        host = storage_options["address"]
        assert pandas.read_csv(f"velum://{host}/tables/data.csv").equals(frame)


def test_pyarrow(fs: VelumFileSystem) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import fs as arrow_fs
    from pyarrow import parquet

    table = arrow.table({"node": list(range(100_000))})
    seen = arrow_fs.PyFileSystem(arrow_fs.FSSpecHandler(fs))
    parquet.write_table(table, "tables/data.parquet", filesystem=seen)
    assert parquet.read_table("tables/data.parquet", filesystem=seen).equals(table)
    assert parquet.read_table("tables", filesystem=seen).equals(table)
    (info,) = seen.get_file_info(arrow_fs.FileSelector("tables"))
    assert info.is_file and info.size == fs.size("tables/data.parquet") and info.mtime is not None


def test_a_mapper(fs: VelumFileSystem) -> None:
    mapper = fs.get_mapper("array")
    mapper["0/1"] = b"x"
    mapper.setitems({"0/2": b"y", "0/3": b"z"})
    assert sorted(mapper) == ["0/1", "0/2", "0/3"]
    assert mapper.getitems(["0/1", "0/3", "0/9"], on_error="omit") == {"0/1": b"x", "0/3": b"z"}
    with pytest.raises(KeyError):
        mapper["none"]


def test_threads_share_what_it_is_attached_to(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Attached:
        files, store = fake_files()

        def close(self) -> None:
            made.remove(self)

    def connect(address: str) -> Attached:
        made.append(Attached())
        return made[-1]

    monkeypatch.setattr("velum.client.connect", connect)
    monkeypatch.setattr("velum.fs._attached", {})
    Attached.files.put(b"x", "f")
    found: list[bytes] = []

    def read() -> None:
        found.append(VelumFileSystem(address="10.0.0.1:8001").cat("f"))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"x"] * 4 and len(made) == 1
