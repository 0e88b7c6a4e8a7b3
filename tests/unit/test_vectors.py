"""The golden vectors, the protocol document and the C headers say the same thing.

That the C codec agrees with the vectors is csrc/test/test_wire.c's part.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import construct
import pytest

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors"
sys.path.insert(0, str(VECTORS))

import make_vectors  # noqa: E402
import protocol  # noqa: E402
import typical  # noqa: E402

DOCUMENT = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
VALID = [
    pytest.param(frame, id=f"{group}-{name}")
    for group, make in make_vectors.GROUPS.items()
    for name, frame in make()
]
INVALID = [
    pytest.param(error, frame, id=name) for name, error, frame in make_vectors.invalid_vectors()
]


def test_committed_vectors_are_the_generated_ones() -> None:
    generated = make_vectors.render()
    committed = {path.name: path.read_text(encoding="ascii") for path in VECTORS.glob("*.txt")}
    assert committed == generated, "run python tests/vectors/make_vectors.py"


def test_names_are_unique() -> None:
    for content in make_vectors.render().values():
        names = [line.split(" ")[0] for line in content.splitlines()]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("frame", VALID)
def test_vector_round_trips(frame: bytes) -> None:
    message = protocol.parse(frame)
    assert protocol.build(message.name, message.correlation, **message.fields) == frame


@pytest.mark.parametrize("frame", VALID)
def test_every_prefix_is_refused(frame: bytes) -> None:
    name = protocol.parse(frame).name
    for size in range(len(frame)):
        with pytest.raises(protocol.ProtocolError) as caught:
            protocol.parse(frame[:size])
        is_short_datagram = protocol.is_datagram(name) and size >= protocol.HEADER_BYTES
        assert caught.value.name == ("PAYLOAD" if is_short_datagram else "MORE")


@pytest.mark.parametrize(("error", "frame"), INVALID)
def test_invalid_vector_is_refused(error: str, frame: bytes) -> None:
    with pytest.raises(protocol.ProtocolError) as caught:
        protocol.parse(frame)
    assert caught.value.name == error


def test_build_refuses_what_parse_would() -> None:
    with pytest.raises(construct.ConstructError):
        protocol.build("CANCEL", code=0)
    with pytest.raises(construct.ConstructError):
        typical.hello(id=0)


def test_every_type_has_vectors() -> None:
    seen = {
        protocol.parse(frame).name for make in make_vectors.GROUPS.values() for _, frame in make()
    }
    assert seen == set(protocol.FRAMES)


# ---- the document ----


def test_worked_examples_are_vectors() -> None:
    examples = [
        bytes.fromhex("".join(line.split(";")[0] for line in block.splitlines()))
        for block in re.findall(r"```hex\n(.*?)```", DOCUMENT, re.S)
    ]
    vectors = {name: frame for make in make_vectors.GROUPS.values() for name, frame in make()}
    expected = [frame for name, frame in vectors.items() if name.startswith("example_")]
    assert examples == expected
    assert len(examples) == 6


def test_document_lists_the_frame_types() -> None:
    rows = re.findall(r"^\| (0x\w\w) \| (\w+) \| (\d+) \|", DOCUMENT, re.M)
    listed = {name: (int(code, 16), int(limit)) for code, name, limit in rows}
    assert listed == {name: frame[:2] for name, frame in protocol.FRAMES.items()}


def test_header_has_the_same_frame_types() -> None:
    header = (ROOT / "csrc" / "wire.h").read_text(encoding="utf-8")
    table = header[header.index("#define VELUM_FRAMES(X)") : header.index("typedef enum")]
    rows = re.findall(r"X\((\w+), (0x\w\w), ", table)
    assert {name: int(code, 16) for name, code in rows} == {
        name: frame[0] for name, frame in protocol.FRAMES.items()
    }


def test_document_lists_the_errors() -> None:
    header = (ROOT / "csrc" / "include" / "velum.h").read_text(encoding="utf-8")
    errors = [
        (code, name, text) for name, code, text in re.findall(r'X\((\w+), (\d+), "(.*?)"\)', header)
    ]
    section = DOCUMENT[DOCUMENT.index("## 12. Errors") : DOCUMENT.index("## 13. Versions")]
    listed = re.findall(r"^\| (\d+) \| ([A-Z_0-9]+) \| (.*) \|$", section, re.M)
    assert listed == errors


def test_document_lists_the_limits() -> None:
    headers = "".join(
        (ROOT / "csrc" / name).read_text(encoding="utf-8")
        for name in ("include/velum_opt.h", "wire.h", "wire_store.h", "wire_kv.h")
    )
    rows = re.findall(r"^\| (VELUM_\w+) \| (\d+) \|", DOCUMENT, re.M)
    assert len(rows) == 32
    for name, value in rows:
        defined = re.search(rf"#define {name}\s+\(?([\du* ]+)\)?", headers)
        assert defined is not None, name
        product = 1
        for factor in defined[1].replace("u", "").split("*"):
            product *= int(factor)
        assert product == int(value), name
