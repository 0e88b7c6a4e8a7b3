"""Our validator against wasmtime's, on random modules.

Owns: the comparison. Refuses to know: how either decides. Where our validator accepts, wasmtime
must; where ours says malformed or invalid, wasmtime must refuse; "unsupported" and "import" claim
nothing about validity. VELUM_SOAK=1 runs many more modules; VELUM_SEED chooses another series, and
a failure prints the module's own seed.
"""

from __future__ import annotations

import collections
import os
import random
from typing import Any

import pytest

from tests.unit import wasm_gen

wasmtime = pytest.importorskip("wasmtime")
core = pytest.importorskip("velum._core")

MODULES_QUICK = 3000
MODULES_SOAK = 20000
MALFORMED, INVALID, UNSUPPORTED, IMPORT = -50, -51, -52, -53
RULE_PREFIX = "velum rule: "


def engine() -> Any:
    """wasmtime with the proposals that velum offers and few others.

    Reference types stay on, since wasmtime's component model needs them: what they add, our
    validator calls unsupported.
    """
    config = wasmtime.Config()
    for off in (
        "relaxed_simd",
        "simd",
        "gc",
        "function_references",
        "exceptions",
        "tail_call",
        "multi_value",
        "multi_memory",
        "memory64",
        "threads",
        "wide_arithmetic",
        "custom_page_sizes",
        "stack_switching",
    ):
        setattr(config, f"wasm_{off}", False)
    config.wasm_bulk_memory = True
    return wasmtime.Engine(config)


def refusal(at: Any, data: bytes) -> str | None:
    """What wasmtime says against the module, None when it is valid."""
    try:
        wasmtime.Module.validate(at, data)
    except wasmtime.WasmtimeError as error:
        return str(error)
    return None


def module_of(seed: str, pristine: bool) -> bytes:
    rng = random.Random(seed)
    sections = wasm_gen.generate(rng)
    return wasm_gen.encode(sections) if pristine else wasm_gen.mutate(rng, sections)


def test_validators_agree() -> None:
    soak = os.environ.get("VELUM_SOAK") == "1"
    series = os.environ.get("VELUM_SEED", "1")
    count = MODULES_SOAK if soak else MODULES_QUICK
    other = engine()
    verdicts: collections.Counter[int] = collections.Counter()
    for number in range(count):
        pristine = number % 4 == 0
        seed = f"{series}.{number}"
        data = module_of(seed, pristine)
        code, offset, function, text = core.validate(data)
        verdicts[code] += 1
        theirs = refusal(other, data)
        story = (
            f"seed {seed!r} pristine {pristine}: ours {code} at {offset} in {function}: {text!r}; "
            f"wasmtime: {theirs!r}; module {data.hex()}"
        )
        assert code in (0, MALFORMED, INVALID, UNSUPPORTED, IMPORT), story
        if code == 0:
            assert theirs is None, story
        elif code in (MALFORMED, INVALID):
            assert theirs is not None, story
            assert not text.startswith(RULE_PREFIX), story
        elif pristine:
            assert text.startswith(RULE_PREFIX), story
            assert theirs is None, story
    # The comparison means something only while both sides of it are well filled.
    assert verdicts[0] > count / 5, verdicts
    assert verdicts[MALFORMED] > count / 20, verdicts
    assert verdicts[INVALID] > count / 10, verdicts
    assert verdicts[UNSUPPORTED] + verdicts[IMPORT] < count / 3, verdicts
