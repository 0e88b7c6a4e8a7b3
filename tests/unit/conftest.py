"""Fixtures of the tests of the faces."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from velum.cli.signals import NUMBERS


@pytest.fixture
def handlers() -> Iterator[None]:
    """After the test the handlers of SIGTERM and SIGINT are those from before."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
