"""Builds velum-worker for other machines: build/cross/<machine>/velum-worker, linked statically.

Owns the list of machines and how CMake is told of the compiler, which is PyPI's `ziglang`: it
brings C libraries for all of them. Refuses to know what is built: that is csrc/CMakeLists.txt,
warnings as errors, as everywhere. tests/integration/test_cross.py runs the programs in a mesh.

    python tools/cross.py [MACHINE...]        (default: all)
"""

from __future__ import annotations

import argparse
import os
import shutil
import stat
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "cross"


@dataclass(frozen=True)
class Machine:
    """One target. `name` is also what QEMU's user-mode emulator is called after."""

    name: str
    target: str
    flags: str = ""


MACHINES = (
    Machine("aarch64", "aarch64-linux-musl"),
    Machine("arm", "arm-linux-musleabihf", "-mcpu=cortex_a7"),
    Machine("riscv64", "riscv64-linux-musl"),
    Machine("ppc64", "powerpc64-linux-musl"),  # big-endian; zig 0.13 has no working s390x
)


def tool(name: str) -> str | None:
    """The path of a program: beside this Python, else in PATH."""
    here = os.path.dirname(sys.executable)
    return shutil.which(name, path=os.pathsep.join([here, os.environ.get("PATH", "")]))


def write_script(path: Path, command: str) -> Path:
    """A program for CMake, which wants a path where zig needs a subcommand."""
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ziglang {command} "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def write_toolchain(machine: Machine, folder: Path) -> Path:
    """The CMake toolchain file of a machine."""
    folder.mkdir(parents=True, exist_ok=True)
    cc = write_script(folder / "cc", f"cc -target {machine.target} {machine.flags}".rstrip())
    ar = write_script(folder / "ar", "ar")
    ranlib = write_script(folder / "ranlib", "ranlib")
    path = folder / "toolchain.cmake"
    path.write_text(
        f"set(CMAKE_SYSTEM_NAME Linux)\n"
        f"set(CMAKE_SYSTEM_PROCESSOR {machine.name})\n"
        f'set(CMAKE_C_COMPILER "{cc}")\n'
        f'set(CMAKE_AR "{ar}" CACHE FILEPATH "")\n'
        f'set(CMAKE_RANLIB "{ranlib}" CACHE FILEPATH "")\n'
        f'set(CMAKE_EXE_LINKER_FLAGS_INIT "-static -s")\n'
        f"set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)\n"
    )
    return path


def run(command: list[str], log: Path) -> bool:
    """Runs a step; its output goes to the log, and to stderr when it fails."""
    with log.open("a") as out:
        done = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        print(log.read_text()[-6000:], file=sys.stderr)
        print(f"cross: failed, see {log}", file=sys.stderr)
    return done.returncode == 0


def build(machine: Machine, cmake: str) -> bool:
    """Configures and builds one machine's program."""
    folder = BUILD / machine.name
    began = time.monotonic()
    print(f"cross: {machine.name} ...", flush=True)
    toolchain = write_toolchain(machine, folder / "zig")
    log = folder / "build.log"
    log.write_text("")
    configure = [cmake, "-S", str(ROOT / "csrc"), "-B", str(folder)]
    configure += [f"-DCMAKE_TOOLCHAIN_FILE={toolchain}", f"-DPython_EXECUTABLE={sys.executable}"]
    configure += [f"-DVELUM_DOWNLOADS={BUILD}"]  # shared by all machines
    ninja = tool("ninja")
    if ninja is not None and not (folder / "CMakeCache.txt").exists():
        configure += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
    compiling = [cmake, "--build", str(folder), "--target", "velum-worker", "-j", "2"]
    if not (run(configure, log) and run(compiling, log)):
        return False
    program = folder / "velum-worker"
    what = f"{program.relative_to(ROOT)}, {program.stat().st_size // 1024} KiB"
    print(f"cross: {machine.name}: {what}, {time.monotonic() - began:.0f} s", flush=True)
    return True


def main() -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(description="Build velum-worker for other machines.")
    names = [machine.name for machine in MACHINES]
    parser.add_argument("machine", nargs="*", help=", ".join(names), default=names)
    wanted = parser.parse_args().machine
    if unknown := set(wanted).difference(names):
        parser.error(f"no such machine: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if find_spec("ziglang") is None:
        print("cross: the compiler is missing: pip install ziglang", file=sys.stderr)
        return 2
    cmake = tool("cmake")
    if cmake is None:
        print("cross: cmake is missing: pip install cmake", file=sys.stderr)
        return 2
    failed = [m.name for m in MACHINES if m.name in wanted and not build(m, cmake)]
    if failed:
        print(f"cross: not built: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
