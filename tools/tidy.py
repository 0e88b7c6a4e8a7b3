"""The tree's own checks: floors, sizes, dead files, things written once.

Each check returns complaints; `make check` fails when there is one. The floors are those of
ARCHITECTURE.md: a module imports only its own floor and those below.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINE_MAX = 100
FUNCTION_MAX = 70
FILE_MAX = 800

FACES = {"cli", "repl", "__main__"}
SERVICES = {p.stem for p in (ROOT / "velum").glob("*.py")} - FACES
POLICY_MAY = {"__future__", "array", "bisect", "collections", "dataclasses", "enum", "functools",
              "hashlib", "heapq", "itertools", "math", "operator", "random", "struct", "typing",
              "zlib"}  # fmt: skip
C_HEADERS = {"stdbool.h", "stddef.h", "stdint.h", "string.h", "stdlib.h", "limits.h", "inttypes.h",
             "stdio.h", "math.h", "assert.h", "float.h",
             "arm_acle.h"}  # fmt: skip


def tracked(*patterns: str) -> list[Path]:
    """Files that git tracks or would track, by pattern."""
    out = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *patterns],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [ROOT / line for line in sorted(set(out.stdout.splitlines())) if (ROOT / line).exists()]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import in a file, those inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                yield node.lineno, "." * node.level + module
            elif module == "velum":
                for alias in node.names:
                    yield node.lineno, f"velum.{alias.name}"
            else:
                yield node.lineno, module


def python_floors() -> Iterator[str]:
    for path in tracked("velum/*.py"):
        parts = path.relative_to(ROOT / "velum").with_suffix("").parts
        for line, module in imports(ast.parse(path.read_text())):
            why = wrong_import(parts, module)
            if why:
                yield f"{name(path)}:{line}: imports {module}: {why}"


def wrong_import(parts: tuple[str, ...], module: str) -> str:
    """Why the module at `parts` below velum/ may not import `module`; empty when it may."""
    floor = parts[0]
    target = module.split(".")[1] if module.startswith("velum.") else ""
    if floor == "policy":
        if module.startswith("velum.policy") or module.startswith("."):
            return ""
        return "" if module.split(".")[0] in POLICY_MAY else "a policy is plain data in and out"
    if floor == "sim":
        return "the simulator runs policies only" if target in SERVICES - {"__init__"} else ""
    if floor in FACES:
        return "a face knows no sockets" if module == "socket" and parts[-1] != "doctor" else ""
    if floor in SERVICES and target in FACES and parts != ("node",):
        return "a service knows no face"
    return ""


def c_floors() -> Iterator[str]:
    for path in tracked("csrc/*.c", "csrc/*.h"):
        inside = path.relative_to(ROOT / "csrc").parts
        if inside[0] in ("port", "test", "fuzz"):
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found = re.match(r"#include <([^>]+)>", line)
            if found and found[1] not in C_HEADERS:
                yield f"{name(path)}:{number}: <{found[1]}> belongs in csrc/port/"
            if re.match(r"#\s*if.*(__linux__|_WIN32|__APPLE__|ESP_PLATFORM)", line):
                yield f"{name(path)}:{number}: a platform's condition belongs in csrc/port/"


def sizes() -> Iterator[str]:
    for path in tracked("*.py", "*.c", "*.h", "*.pyx"):
        lines = path.read_text().splitlines()
        if len(lines) > FILE_MAX:
            yield f"{name(path)}: {len(lines)} lines, more than {FILE_MAX}"
        for number, line in enumerate(lines, 1):
            if len(line) > LINE_MAX:
                yield f"{name(path)}:{number}: {len(line)} columns, more than {LINE_MAX}"
        functions = c_functions(lines) if path.suffix in (".c", ".h") else py_functions(path)
        for number, length, what in functions:
            if length > FUNCTION_MAX:
                yield f"{name(path)}:{number}: {what} has {length} lines, more than {FUNCTION_MAX}"


def c_functions(lines: list[str]) -> Iterator[tuple[int, int, str]]:
    """(line, length, name) of functions in clang-formatted C: bodies start and end in column 0."""
    start, what = 0, ""
    for number, line in enumerate(lines, 1):
        head = re.match(r"[a-zA-Z_][\w\s\*]*?\b(\w+)\(", line)
        if head and not line.rstrip().endswith(";"):
            start, what = number, head[1]
        if line == "}" and start:
            yield start, number - start + 1, what
            start = 0


def py_functions(path: Path) -> Iterator[tuple[int, int, str]]:
    if path.suffix != ".py":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.lineno, (node.end_lineno or 0) - node.lineno + 1, node.name


def dead_files() -> Iterator[str]:
    cmake = "".join(p.read_text() for p in tracked("*CMakeLists.txt", "*.cmake"))
    sources = "".join(p.read_text() for p in tracked("csrc/*.c", "csrc/*.h", "examples/*"))
    for path in tracked("csrc/*.c"):
        stem = path.stem.removeprefix("test_").removeprefix("fuzz_")
        if path.name not in cmake and not re.search(rf"velum_(test|fuzz)\({stem} ", cmake):
            yield f"{name(path)}: no build uses it"
    for path in tracked("csrc/*.h"):
        if path.name not in sources and path.name not in cmake:
            yield f"{name(path)}: nobody includes it"
    python = "".join(p.read_text() for p in tracked("*.py", "pyproject.toml", "*.pyx"))
    for path in tracked("velum/*.py"):
        if path.stem not in ("__init__", "__main__") and path.stem not in python:
            yield f"{name(path)}: nobody imports it"


def openings() -> Iterator[str]:
    for path in tracked("*.py", "*.pyx"):
        if (
            path.suffix == ".py"
            and path.stat().st_size
            and not ast.get_docstring(ast.parse(path.read_text()))
        ):
            yield f"{name(path)}: does not open by saying what it owns"
    for path in tracked("csrc/*.c", "csrc/*.h"):
        if not path.read_text().startswith("/*"):
            yield f"{name(path)}: does not open by saying what it owns"


def unfinished() -> Iterator[str]:
    words = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
    for path in tracked("*.py", "*.c", "*.h", "*.pyx", "*.md", "*.sh", "Makefile", "*.cmake"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if words.search(line):
                yield f"{name(path)}:{number}: unfinished: {line.strip()}"


CHECKS = (python_floors, c_floors, sizes, dead_files, openings, unfinished)


def main() -> int:
    complaints = [complaint for check in CHECKS for complaint in check()]
    print("\n".join(complaints) or f"tidy: {len(CHECKS)} checks, no complaint")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
