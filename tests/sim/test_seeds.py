"""The commands that simulate a seed: one seed is one run, and each seed is told of."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from velum.sim import kv_cli, scatter_cli, storage_cli
from velum.sim.seeds import Wrong, attempt


@pytest.mark.parametrize(
    ("module", "told"),
    [
        (scatter_cli.MODULE, "grants"),
        (storage_cli.MODULE, "is acknowledged"),
        (kv_cli.MODULE, "no tombstones"),
    ],
)
def test_one_seed_is_one_run(module: str, told: str) -> None:
    """Even where strings have other hashes."""
    stories = []
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-m", module, "--seed", "5", "--verbose"]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        ran = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        stories.append(ran.stdout)
    assert stories[0] == stories[1] and told in stories[0]


@pytest.mark.parametrize(
    "main",
    [scatter_cli.main, storage_cli.main, kv_cli.main],
    ids=["scatter", "storage", "kv"],
)
def test_the_command_tells_of_each_seed(
    main: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--seed", "3", "--runs", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["seed 3", "seed 4"]


def test_what_is_wrong_says_how_to_run_it_again() -> None:
    def run(_seed: int, _verbose: bool) -> None:
        raise LookupError("nobody has it")

    with pytest.raises(Wrong, match="nobody has it\nto run it again: python -m sim --seed 7 "):
        attempt("sim", run, 7, False)
