"""Files in the RAM of a mesh. Start one with `velum up 3`, then `python examples/files.py`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import velum


def main() -> None:
    with velum.connect() as mesh, tempfile.TemporaryDirectory() as here:
        files = mesh.files
        print(files.put(bytes(range(256)) * 40_000, "numbers"))  # two copies of each chunk
        with files.open("notes/first.txt", "wb") as note:
            note.write(b"kept in the RAM of others\n")  # there for all when the block has ended
        files.put(b"any two nodes may die", "notes/second.txt", copies=3)
        files.get("numbers", Path(here) / "numbers")
        with files.open("numbers") as numbers:
            numbers.seek(1_000_000)
            print(numbers.read(4))
        for info in files.ls("notes/"):
            print(info.name, info.size, info.care)
            files.rm(info.name)
        print(f"{files.df().used:,} bytes are used on {len(files.df().nodes)} nodes")
        files.rm("numbers")


if __name__ == "__main__":
    main()
