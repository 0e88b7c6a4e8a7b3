"""The roster of the state's members on disk: NAME.members beside the log NAME.log.

Owns: the file, and that it is whole after a crash at any instruction. Refuses to know: what is in
it (`policy/kvroster.py`).
"""

from __future__ import annotations

import os
import random
from pathlib import Path

from velum.errors import code_of, error_from
from velum.policy.kvroster import Member, Roster, read_roster

STORE_BITS = 64


class MembersFile:
    """That of one node; of one without a log it is nowhere."""

    def __init__(self, log: Path | None) -> None:
        self._path = None if log is None else log.with_suffix(".members")
        self._has_log = log is not None and log.exists() and log.stat().st_size > 0

    def load(self, id: int) -> Roster:
        """Node `id`'s roster, to be called before its log is made. A new log is a new copy.

        Raises VelumError PAYLOAD if the file is none, SYSTEM if it cannot be read.
        """
        if self._path is not None and self._has_log and self._path.exists():
            try:
                return read_roster(id, self._path.read_text(encoding="ascii"))
            except OSError as error:
                raise error_from(code_of("SYSTEM"), f"{self._path}: {error}") from None
            except ValueError as error:
                text = f"{self._path}: {error}; move it and its log away to begin anew"
                raise error_from(code_of("PAYLOAD"), text) from None
        return Roster(Member(id, random.SystemRandom().getrandbits(STORE_BITS)))

    def save(self, roster: Roster) -> None:
        """Brings the roster to disk. OSError."""
        if self._path is None:
            return
        fresh = self._path.with_suffix(".members.new")
        with open(fresh, "w", encoding="ascii") as file:
            file.write(roster.text())
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
