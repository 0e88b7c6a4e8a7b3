"""Modules as a caller sees them: bytes, hash, exports.

Owns reading a module once, refusing what velum would not run before anything is sent, and the
signatures that arguments are checked against. Refuses to know nodes and links.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from velum import _core
from velum.errors import VelumError, code_of, error_from, from_core

PAGE_BYTES = 65536


class Module:
    """A validated WebAssembly module. `hash` is its BLAKE2b-256, its name in the mesh."""

    __slots__ = ("_signatures", "bytes", "hash", "name")

    def __init__(self, data: bytes, name: str = "module") -> None:
        """Validates. Raises CallerError (malformed, invalid, unsupported, too large)."""
        if len(data) > _core.MODULE_BYTES_MAX:
            raise error_from(
                code_of("TOO_LARGE"),
                f"{name}: {len(data)} bytes, larger than the limit of {_core.MODULE_BYTES_MAX}",
            )
        code, offset, function, text = _core.validate(data)
        if code:
            where = f" in function {function}" if function is not None else ""
            raise error_from(-code, f"{name}: {text} (byte {offset}{where})")
        self.bytes = data
        self.hash = _core.module_hash(data)
        self.name = name
        self._signatures: dict[str, tuple[tuple[str, ...], str | None]] = {}

    def signature(self, function: str) -> tuple[tuple[str, ...], str | None]:
        """(parameter types, result type or None) of an exported function.

        Raises CallerError NO_EXPORT, naming the functions there are, or SIGNATURE.
        """
        known = self._signatures.get(function)
        if known is None:
            try:
                known = _core.export_signature(self.bytes, function.encode())
            except _core.CoreError as error:
                if error.code != code_of("NO_EXPORT"):
                    raise from_core(error) from None
                names = ", ".join(self.functions()) or "none"
                raise error_from(
                    error.code, f"{self.name} exports no function {function!r}; it has: {names}"
                ) from None
            self._signatures[function] = known
        return known

    def functions(self) -> list[str]:
        """Names of the exported functions that can be called."""
        return [e["name"] for e in _core.inspect(self.bytes) if not e["import"] and e["callable"]]

    def encode(
        self,
        function: str,
        args: tuple[object, ...],
        *,
        timeout_ms: int,
        fuel: int,
        pages: int,
        placed: bool,
    ) -> bytes:
        """The payload of a TASK frame. Raises CallerError when the arguments do not fit."""
        params, result = self.signature(function)
        try:
            return _core.encode_task(
                self.hash, function.encode(), args, params, timeout_ms, fuel, pages, placed
            )
        except _core.CoreError as error:
            shape = f"{function}({', '.join(params)}) -> {result or 'nothing'}"
            raise error_from(error.code, f"{error}; it is {shape}") from None


@lru_cache(maxsize=8)
def _read(path: str, mtime_ns: int, size: int) -> Module:
    return Module(Path(path).read_bytes(), os.path.basename(path))


@lru_cache(maxsize=8)
def _from_bytes(data: bytes) -> Module:
    return Module(data)


def load(module: str | os.PathLike[str] | bytes | Module) -> Module:
    """A module from a file's path or its bytes; a file read before and unchanged is not read again.

    Raises CallerError for bytes that velum does not run, OSError for a file that cannot be read.
    """
    if isinstance(module, Module):
        return module
    if isinstance(module, (bytes, bytearray, memoryview)):
        return _from_bytes(bytes(module))
    path = os.path.abspath(os.fspath(module))
    info = os.stat(path)
    if info.st_size > _core.MODULE_BYTES_MAX:
        raise error_from(
            code_of("TOO_LARGE"),
            f"{path}: {info.st_size} bytes, larger than the limit of {_core.MODULE_BYTES_MAX}",
        )
    return _read(path, info.st_mtime_ns, info.st_size)


def pages_of(memory: int | None) -> int:
    """A memory limit in bytes as 64 KiB pages, 0 for none given."""
    if memory is None:
        return 0
    if memory < 0:
        raise VelumError(code_of("ARGUMENT"), f"memory limit of {memory} bytes")
    return max(1, min(memory // PAGE_BYTES, _core.GUEST_PAGES_MAX))
