"""The guests' values under an engine that is not ours: the installed pywasm3.

Owns: that values.json is right. test_vm, test_worker and the mesh's tests hold velum to the same
numbers.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import wasm3

HERE = Path(__file__).resolve().parent
VALUES: list[tuple[str, str, list[float], float]] = json.loads((HERE / "values.json").read_text())
WASM_STACK_BYTES = 64 * 1024


@pytest.mark.parametrize(("guest", "function", "args", "expected"), VALUES)
def test_value(guest: str, function: str, args: list[float], expected: float) -> None:
    environment = wasm3.Environment()
    runtime = environment.new_runtime(WASM_STACK_BYTES)
    module = environment.parse_module((HERE / f"{guest}.wasm").read_bytes())
    runtime.load(module)
    assert runtime.find_function(function)(*args) == expected
