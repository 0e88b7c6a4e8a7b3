"""Runs by their seeds: what `storage_cli.py`, `scatter_cli.py` and `kv_cli.py` share.

Owns: the arguments of such a command, what it prints, and how one says of a run that went wrong
how to run it again. Refuses to know: what is simulated. How: a simulator gives its module's name,
and what makes a world of a seed and a line of a world.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TypeVar

World = TypeVar("World")


class Wrong(AssertionError):
    """A run in which something did not hold; it says how to run it again."""


def attempt(module: str, run: Callable[[int, bool], World], seed: int, verbose: bool) -> World:
    """One run of `run(seed, verbose)`. `Wrong` if anything did not hold."""
    try:
        return run(seed, verbose)
    except Exception as error:
        again = f"python -m {module} --seed {seed} --verbose"
        raise Wrong(f"{type(error).__name__}: {error}\nto run it again: {again}") from error


def command(
    module: str,
    about: str | None,
    run: Callable[[int, bool], World],
    summary: Callable[[World], str],
    arguments: Sequence[str] | None,
) -> int:
    """`python -m module`: runs seeds and prints a line of each."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same run (1)")
    parser.add_argument("--runs", type=int, default=1, help="seeds S, S+1, ... (1)")
    parser.add_argument("--verbose", action="store_true", help="print the run's story")
    options = parser.parse_args(arguments)
    for seed in range(options.seed, options.seed + options.runs):
        world = attempt(module, run, seed, options.verbose)
        print(f"seed {seed}: {summary(world)}")
    return 0
