"""`velum chaos --kv`: a short run as a user would start it, and what a run must notice.

The long run is `make soak`'s.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
from collections.abc import Callable

import pytest

from tests.integration.test_chaos import CANNOT, PATIENCE_S, command, interrupt
from velum import chaoskv
from velum.chaos import Chaos, Settings
from velum.chaoskv import Book, KvCalls
from velum.client import Client

NODES = 4
Call = Callable[[KvCalls, Client, random.Random, str], str]


@pytest.mark.timeout(200)
def test_a_short_run_is_right() -> None:
    words = ("--kv", "--seconds", "5", "--nodes", str(NODES), "--seed", "7", "--json")
    done = subprocess.run(command(*words), capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["right"] and report["faults"] == []
    assert report["kv"] and report["netns"] == (not CANNOT)
    keys = report["keys"]
    assert {"put", "get", "rewrite", "incr", "sadd", "delete"} == keys["calls"].keys()
    assert report["strikes"] and keys["heals"] == 1
    assert report["logs"] is None, "a run that was right leaves no files"
    assert "each node has all that was acknowledged" in done.stderr


@pytest.mark.soak
def test_ten_minutes() -> None:
    words = ("--kv", "--seconds", "600", "--seed", "1")
    assert subprocess.run(command(*words), text=True, timeout=3000).returncode == 0


@pytest.mark.timeout(120)
def test_an_interrupted_run_leaves_nothing() -> None:
    interrupt(signal.SIGINT, "see each other", NODES, "--kv")


def test_files_and_keys_are_two_runs() -> None:
    run = command("--store", "--kv")
    done = subprocess.run(run, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 2 and "--store or --kv" in done.stderr and done.stdout == ""


# ---- what a run must notice: a call that says it was done, and was not, or more than that ----


def failed(monkeypatch: pytest.MonkeyPatch, call: str, instead: Call, *words: str) -> None:
    """A short run in which one call is another ends with a fault that says this."""
    monkeypatch.setattr(chaoskv, "EQUAL_S", 1.5)
    monkeypatch.setattr(KvCalls, call, instead)
    report = Chaos(Settings(3, 1.0, 3, 0, "off", kv=True)).run()
    assert not report.right
    assert all(word in report.faults[0] for word in words), report.faults


def test_a_write_that_is_lost_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def put(calls: KvCalls, _client: Client, _rng: random.Random, name: str) -> str:
        calls.book.put(0, name, b"said to be there")
        return ""

    failed(monkeypatch, "put", put, "is not there", "said to be there")


def test_a_key_that_comes_back_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def delete(calls: KvCalls, _client: Client, _rng: random.Random, name: str) -> str:
        if name:
            calls.book.deleted(name)
        return ""

    failed(monkeypatch, "delete", delete, "is back")


def test_an_increment_that_is_lost_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def incr(calls: KvCalls, client: Client, _rng: random.Random, name: str) -> str:
        client.kv.incr(name, 5)
        calls.book.incremented(name, 6, acknowledged=True)
        return ""

    failed(monkeypatch, "incr", incr, "counter", "not")


def test_a_member_that_is_lost_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def sadd(calls: KvCalls, _client: Client, _rng: random.Random, name: str) -> str:
        calls.book.added(name.partition(" ")[0], b"member")
        return ""

    failed(monkeypatch, "sadd", sadd, "lacks b'member'")


def test_an_old_value_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def rewrite(calls: KvCalls, client: Client, _rng: random.Random, name: str) -> str:
        client.kv.put(name, b"1")
        calls.book.rewritten(name, 2, acknowledged=True)
        return ""

    failed(monkeypatch, "rewrite", rewrite, "is 1, not 2")


def test_what_may_have_been_done_is_no_fault() -> None:
    book = Book()
    book.incremented("c", 5, acknowledged=True)
    book.incremented("c", 3, acknowledged=False)
    assert book.sums == {"c": [5, 8]}
    book.doubt("k")
    book.put(1, "k", b"v")
    assert book.values == {"k": b"v"}
    assert book.to_delete(1, random.Random(1)) == "", "it may be written again at any time"
    book.put(1, "there", b"v")
    assert book.to_delete(1, random.Random(1)) == "there" and book.values == {"k": b"v"}
    book.keep(1, "there", b"v")
    assert book.values == {"k": b"v", "there": b"v"}
    book.doubt("there")
    assert book.to_delete(1, random.Random(1)) == "there"
    book.keep(1, "there", b"v")
    assert book.values == {"k": b"v"}, "an earlier try may have deleted it"
