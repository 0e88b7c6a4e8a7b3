"""Rebuilds the guests and compares them, byte for byte, with the modules kept beside them.

Owns the one way a guest is built. The C guests go through the clang inside PyPI's ``ziglang``,
pinned in requirements.txt, so that every machine gets the same bytes; a few modules that C cannot
express (start functions, many parameters, misplaced data) are put together here from
WebAssembly's binary format (WebAssembly Core Specification 1.0, chapter 5).

    pip install -r tests/guests/requirements.txt
    python tests/guests/build.py            # compares; exit status 1 when anything differs
    python tests/guests/build.py --write    # replaces the modules
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Exactly the extensions that velum accepts; anything newer would be refused.
FEATURES = "mvp+bulk_memory+sign_ext+nontrapping_fptoint+mutable_globals"
FLAGS = [
    "--target=wasm32-freestanding",
    f"-mcpu={FEATURES}",
    "-std=c11",
    "-O2",
    "-nostdlib",
    "-fno-builtin",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wl,--no-entry",
    "-Wl,--strip-all",
    "-Wl,-z,stack-size=1024",
]
# Extra flags of single guests.
EXTRA_FLAGS = {
    # What counts rounds or calls must make as many as its source says.
    "loop": ["-fno-unroll-loops"],
    "fib": ["-fno-inline"],
    "recurse": ["-fno-inline", "-fno-optimize-sibling-calls"],
}

I32, FUNC, EMPTY = 0x7F, 0x60, 0x40
UNREACHABLE, NOP, LOOP, IF, ELSE, END, BR = 0x00, 0x01, 0x03, 0x04, 0x05, 0x0B, 0x0C
CALL, DROP, LOCAL_GET, LOCAL_SET, GLOBAL_GET, GLOBAL_SET = 0x10, 0x1A, 0x20, 0x21, 0x23, 0x24
MEMORY_GROW, I32_CONST, I32_ADD = 0x40, 0x41, 0x6A


def leb(value: int) -> bytes:
    """An unsigned LEB128."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def sleb(value: int) -> bytes:
    """A signed LEB128."""
    out = bytearray()
    while not -64 <= value < 64:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value & 0x7F)
    return bytes(out)


def vec(items: Iterable[bytes]) -> bytes:
    """A vector: its length, then its items."""
    listed = list(items)
    return leb(len(listed)) + b"".join(listed)


def func_type(params: int, results: int) -> bytes:
    """A function type over i32."""
    return bytes([FUNC]) + vec([bytes([I32])] * params) + vec([bytes([I32])] * results)


def module(
    types: list[bytes],
    functions: list[tuple[int, bytes]],
    exports: dict[str, int],
    start: int | None = None,
    counter: bool = False,
    memory: bytes = b"",
    data: tuple[int, bytes] | None = None,
) -> bytes:
    """A module of functions given as (type index, body without its final end). ``counter`` adds
    one mutable i32 global, ``memory`` are the limits of one, ``data`` one segment at an address."""
    bodies = [leb(len(body) + 2) + b"\0" + body + bytes([END]) for _, body in functions]
    segments = b""
    if data is not None:
        address, content = data
        offset = bytes([I32_CONST]) + sleb(address) + bytes([END])
        segments = vec([b"\0" + offset + leb(len(content)) + content])
    sections = {
        1: vec(types),
        3: vec(leb(index) for index, _ in functions),
        5: vec([memory]) if memory else b"",
        6: vec([bytes([I32, 1, I32_CONST, 0, END])]) if counter else b"",
        7: vec(leb(len(name)) + name.encode() + b"\0" + leb(i) for name, i in exports.items()),
        8: b"" if start is None else leb(start),
        10: vec(bodies),
        11: segments,
    }
    out = b"\0asm\1\0\0\0"
    for number, content in sections.items():
        if content:
            out += bytes([number]) + leb(len(content)) + content
    return out


def start() -> bytes:
    """The start function counts itself in a global: get() is 1, however often it is called."""
    count = bytes([GLOBAL_GET, 0, I32_CONST, 1, I32_ADD, GLOBAL_SET, 0])
    types = [func_type(0, 0), func_type(0, 1)]
    bodies = [(0, count), (1, bytes([GLOBAL_GET, 0]))]
    return module(types, bodies, {"get": 1}, start=0, counter=True)


def start_trap() -> bytes:
    """The start function traps, so that no export can ever be called."""
    bodies = [(0, bytes([UNREACHABLE])), (1, bytes([I32_CONST, 1]))]
    return module([func_type(0, 0), func_type(0, 1)], bodies, {"get": 1}, start=0)


def start_loop() -> bytes:
    """The start function never ends."""
    bodies = [(0, bytes([LOOP, EMPTY, BR, 0, END])), (1, bytes([I32_CONST, 1]))]
    return module([func_type(0, 0), func_type(0, 1)], bodies, {"get": 1}, start=0)


def many_args() -> bytes:
    """A function of 128 parameters, the most that velum takes, that calls itself without end: its
    arguments lie on the value stack beyond what its caller's frame was checked for."""
    count = 128
    recurse = b"".join(bytes([LOCAL_GET]) + leb(i) for i in range(count)) + bytes([CALL, 0])
    begin = bytes([I32_CONST, 7]) * count + bytes([CALL, 0])
    return module([func_type(count, 0), func_type(0, 0)], [(0, recurse), (1, begin)], {"run": 1})


def nest() -> bytes:
    """A hundred nested loops around a call of itself: little value stack, much native stack."""
    depth = 100
    body = bytes([LOOP, EMPTY]) * depth + bytes([CALL, 0]) + bytes([END]) * depth
    return module([func_type(0, 0)], [(0, body)], {"run": 0})


def bigmem() -> bytes:
    """Wants 1 GiB before it has done anything."""
    return module(
        [func_type(0, 1)], [(0, bytes([I32_CONST, 1]))], {"run": 0}, memory=b"\0" + leb(16384)
    )


def uncompilable() -> bytes:
    """Valid, but wasm3 gives up: one local is on the operand stack 300 times when it is set. The
    nested else blocks are what it would lose memory over."""
    count, depth = 300, 20
    push = bytes([LOCAL_GET, 0]) * count
    body = push + bytes([I32_CONST, 5, LOCAL_SET, 0]) + bytes([DROP]) * count
    open_else = bytes([LOCAL_GET, 0, IF, EMPTY, NOP, ELSE])
    return module(
        [func_type(1, 0)], [(0, open_else * depth + body + bytes([END]) * depth)], {"run": 0}
    )


def zero_pages() -> bytes:
    """Its memory has no page and may have none: run() tries to grow it, and is told -1."""
    grow = bytes([I32_CONST, 1, MEMORY_GROW, 0])
    return module([func_type(0, 1)], [(0, grow)], {"run": 0}, memory=b"\1\0\0")


def data_outside() -> bytes:
    """Its one data segment lies half outside its one page of memory."""
    bodies = [(0, bytes([I32_CONST, 1]))]
    return module([func_type(0, 1)], bodies, {"run": 0}, memory=b"\0\1", data=(65534, b"four"))


ASSEMBLED = {
    "bigmem": bigmem,
    "data_outside": data_outside,
    "uncompilable": uncompilable,
    "zero_pages": zero_pages,
    "start": start,
    "start_trap": start_trap,
    "start_loop": start_loop,
    "many_args": many_args,
    "nest": nest,
}


def compile_guest(source: Path, out: Path, cache: Path) -> None:
    """Compiles one C guest. Raises CalledProcessError when the compiler refuses it."""
    command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, *EXTRA_FLAGS.get(source.stem, [])]
    env = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(cache), "ZIG_LOCAL_CACHE_DIR": str(cache)}
    # A relative name keeps the folder out of anything the compiler might write down.
    subprocess.run([*command, "-o", str(out), source.name], check=True, cwd=HERE, env=env)


def build_all(folder: Path) -> dict[str, bytes]:
    """Every guest's module by file name, built in ``folder``."""
    modules = {f"{name}.wasm": make() for name, make in ASSEMBLED.items()}
    for source in sorted(HERE.glob("*.c")):
        out = folder / f"{source.stem}.wasm"
        compile_guest(source, out, folder / "cache")
        modules[out.name] = out.read_bytes()
    return modules


def compare(built: dict[str, bytes]) -> list[str]:
    """What differs between the built modules and those kept here, a line each."""
    kept = {path.name: path.read_bytes() for path in HERE.glob("*.wasm")}
    lines = [f"{name}: kept here, but nothing builds it" for name in kept.keys() - built.keys()]
    for name, new in built.items():
        old = kept.get(name)
        if old is None:
            lines.append(f"{name}: not kept here ({len(new)} bytes when built)")
        elif old != new:
            at = next(
                (i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b),
                min(len(old), len(new)),
            )
            lines.append(f"{name}: {len(old)} bytes kept, {len(new)} built, differ from byte {at}")
    return sorted(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Rebuild the guests and compare them.")
    parser.add_argument("--write", action="store_true", help="replace the kept modules")
    write = parser.parse_args().write
    try:
        with tempfile.TemporaryDirectory() as folder:
            built = build_all(Path(folder))
    except subprocess.CalledProcessError as error:
        print(f"guests: the compiler failed: {error}", file=sys.stderr)
        print(
            "guests: is it installed? pip install -r tests/guests/requirements.txt", file=sys.stderr
        )
        return 2
    if write:
        for name, new in built.items():
            (HERE / name).write_bytes(new)
    lines = compare(built)
    for line in lines:
        print(line)
    print(f"guests: {len(built)} built, {len(lines)} differ")
    return 1 if lines else 0


if __name__ == "__main__":
    raise SystemExit(main())
