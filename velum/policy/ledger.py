"""The ledger of a job: what is known of each of its slices, and how two copies of that merge.

Owns: the state of every slice, the values of the done ones, the codes of the failed ones and some
of their texts, and the checksum by which two copies are compared. Refuses to know: who found a
value out, what it means, and whether the job is over.

Merging is the join of a lattice (a state-based CRDT; Shapiro, Preguiça, Baquero and Zawirski 2011),
so any order, any repetition and any cut of what is merged end in the same ledger. Per slice:

    it is     merged                   then
    UNKNOWN   a failure                FAILED, with its code
    UNKNOWN   a value                  DONE
    FAILED    a smaller code           that code; a revision
    FAILED    a value                  DONE; a revision
    DONE      a smaller bit pattern    that value; a disagreement and a revision
    DONE      a larger bit pattern     as it was; a disagreement
    DONE      a failure                as it was
    FAILED    forgotten (a resume)     UNKNOWN; a revision

What the table does not name changes nothing. A *revision* takes back what somebody may have read.

Two byte arrays, 9 bytes a slice in all; whatever happens to a run of slices happens to a slice of
an array. Python looks at single slices only where copies disagree.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Final

from .job import Failure, Run
from .slices import SLICES_MAX, Span, Spans

# What is known of a slice; these bytes are what the checksum covers.
UNKNOWN: Final = 0
FAILED: Final = 1
DONE: Final = 2

# Failures whose text is kept, those of the lowest slices: a person reads the first few, and a job
# of a million slices that all fail must not cost a million texts.
TEXTS_MAX: Final = 64

CODE_MAX: Final = 0xFFFF  # u16 in SLICES
VALUE_BYTES: Final = 8

# Slices compared at once in search of a run's end: short against a run, long against a step.
_WINDOW: Final = 4096
_SAME: Final = tuple(bytes([state]) * _WINDOW for state in (UNKNOWN, FAILED, DONE))


class Ledger:
    """What is known of the slices of one job."""

    __slots__ = (
        "_states", "_texts", "_values", "disagreements", "done", "failed", "news", "revisions",
    )  # fmt: skip

    def __init__(self, slices: int) -> None:
        if not 0 <= slices <= SLICES_MAX:
            raise ValueError(f"{slices} slices, at most {SLICES_MAX} are possible")
        self._states = bytearray(slices)
        self._values = bytearray(slices * VALUE_BYTES)  # 0 of an unknown slice, a failed one's code
        self._texts: dict[int, str] = {}  # of failed slices; none is empty
        self.done = 0
        self.failed = 0
        self.disagreements = 0
        """Values that differed from the known one: never, unless a machine's memory lies."""
        self.revisions = 0
        """Times that something known was taken back: who has drawn conclusions draws them again."""
        self.news: Spans | None = None
        """Gathers slices as they become done, once its one reader has put a set here."""

    @property
    def slices(self) -> int:
        """How many there are."""
        return len(self._states)

    @property
    def unknown(self) -> int:
        """How many nothing is known of."""
        return len(self._states) - self.done - self.failed

    # ---- merging ----

    def merge(self, first: int, values: bytes) -> list[Span]:
        """Merges a run of values. What is done now and was not: ascending, not touching."""
        count, rest = divmod(len(values), VALUE_BYTES)
        if rest:
            raise ValueError(f"{len(values)} bytes are no whole number of values")
        end = first + count
        self._check(first, end)
        data = memoryview(values)
        gained: list[Span] = []
        for state, low, high in self.runs(first, end):
            part = data[(low - first) * VALUE_BYTES : (high - first) * VALUE_BYTES]
            if state == DONE:
                self._compare(low, high, bytes(part))
                continue
            self._states[low:high] = bytes([DONE]) * (high - low)
            self._values[low * VALUE_BYTES : high * VALUE_BYTES] = part
            self.done += high - low
            if state == FAILED:
                self._unfail(low, high)
            if gained and gained[-1][1] == low:
                low = gained.pop()[0]
            gained.append((low, high))
        if self.news is not None:
            for span in gained:
                self.news.add(*span)
        return gained

    def merge_failure(self, failure: Failure) -> bool:
        """Merges a failed slice; whether the ledger says anything now that it did not say."""
        index, code = failure.slice, failure.code
        self._check(index, index + 1)
        if not 0 < code <= CODE_MAX:
            raise ValueError(f"{code} is no error code")
        if self._states[index] == DONE:
            return False
        known = self.code(index)
        if known and code > known:
            return False
        if code == known:
            return self._keep_text(failure)
        if known:
            self.revisions += 1
            self._texts.pop(index, None)
        else:
            self._states[index] = FAILED
            self.failed += 1
        self._put(index, code)
        self._keep_text(failure)
        return True

    def forget_failures(self) -> None:
        """Makes every failed slice an unknown one: the job is taken up again."""
        at = self._states.find(FAILED)
        while at >= 0:
            end = self.run_end(at, self.slices)
            self._states[at:end] = bytes(end - at)
            self._values[at * VALUE_BYTES : end * VALUE_BYTES] = bytes((end - at) * VALUE_BYTES)
            self._unfail(at, end)
            at = self._states.find(FAILED, end)

    # ---- one slice ----

    def state(self, index: int) -> int:
        """UNKNOWN, FAILED or DONE."""
        self._check(index, index + 1)
        return self._states[index]

    def bits(self, index: int) -> int:
        """The bit pattern of a done slice's value; of any other, 0."""
        return self._get(index) if self.state(index) == DONE else 0

    def code(self, index: int) -> int:
        """The error code of a failed slice; of any other, 0."""
        return self._get(index) if self.state(index) == FAILED else 0

    def failure(self, index: int) -> Failure:
        """A failed slice, with its text if that is kept. ValueError if it has not failed."""
        code = self.code(index)
        if not code:
            raise ValueError(f"slice {index} has not failed")
        return Failure(index, code, self._texts.get(index, ""))

    # ---- many slices ----

    def run_end(self, first: int, end: int) -> int:
        """Where the run of one state that begins with slice `first` ends, at most `end`."""
        states = self._states
        same = _SAME[states[first]]
        while first < end:
            window = states[first : min(first + _WINDOW, end)]
            if not same.startswith(window):
                return first + len(window) - len(window.lstrip(same[:1]))
            first += len(window)
        return end

    def runs(self, first: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Slices [first, end) as runs of one state: (state, first, end). What it has yielded may
        be changed before it goes on."""
        self._check(first, end)
        while first < end:
            stop = self.run_end(first, end)
            yield self._states[first], first, stop
            first = stop

    def missing_in(self, first: int, end: int) -> list[Span]:
        """The unknown ones of slices [first, end)."""
        return [(low, high) for state, low, high in self.runs(first, end) if state == UNKNOWN]

    def unknown_spans(self) -> Spans:
        """All unknown slices."""
        return Spans(self.missing_in(0, self.slices))

    def done_runs(self, spans: Iterable[Span] | None = None) -> Iterator[Run]:
        """The done slices of some spans, else of all, with their values; runs never cross a span's
        border, so that spans cut long runs as well."""
        for first, end in [(0, self.slices)] if spans is None else spans:
            for state, low, high in self.runs(first, end):
                if state == DONE:
                    yield low, bytes(self._values[low * VALUE_BYTES : high * VALUE_BYTES])

    def failures(self, limit: int | None = None) -> list[Failure]:
        """The failed slices, the lowest first, at most `limit`."""
        found: list[Failure] = []
        at = self._states.find(FAILED)
        while at >= 0 and (limit is None or len(found) < limit):
            found.append(self.failure(at))
            at = self._states.find(FAILED, at + 1)
        return found

    # ---- all of it ----

    def values(self) -> memoryview:
        """All value bytes as they stand and go on: 0 of an unknown slice, a failed one's code."""
        return memoryview(self._values).toreadonly()

    def checksum(self) -> int:
        """CRC-32 over states, then values: the same for equal ledgers."""
        return zlib.crc32(self._values, zlib.crc32(self._states))

    def validate(self) -> None:
        """Raises AssertionError if the ledger contradicts itself."""
        counts = [self._states.count(state) for state in (UNKNOWN, FAILED, DONE)]
        assert counts == [self.unknown, self.failed, self.done], counts
        assert len(self._values) == self.slices * VALUE_BYTES
        for state, low, high in self.runs(0, self.slices):
            if state == UNKNOWN:
                assert not any(self._values[low * VALUE_BYTES : high * VALUE_BYTES])
            elif state == FAILED:
                assert all(0 < self._get(index) <= CODE_MAX for index in range(low, high))
        assert len(self._texts) <= TEXTS_MAX
        assert all(text and self.state(index) == FAILED for index, text in self._texts.items())

    # ---- inside ----

    def _check(self, first: int, end: int) -> None:
        if not 0 <= first <= end <= len(self._states):
            raise ValueError(f"slices [{first}, {end}) are not of a job of {len(self._states)}")

    def _get(self, index: int) -> int:
        at = index * VALUE_BYTES
        return int.from_bytes(self._values[at : at + VALUE_BYTES], "little")

    def _put(self, index: int, bits: int) -> None:
        at = index * VALUE_BYTES
        self._values[at : at + VALUE_BYTES] = bits.to_bytes(VALUE_BYTES, "little")

    def _compare(self, first: int, end: int, values: bytes) -> None:
        """Values of done slices: mostly the known ones again."""
        if self._values[first * VALUE_BYTES : end * VALUE_BYTES] == values:
            return
        for index, (new,) in enumerate(struct.iter_unpack("<Q", values), first):
            known = self._get(index)
            if new != known:
                self.disagreements += 1
            if new < known:
                self.revisions += 1
                self._put(index, new)

    def _unfail(self, first: int, end: int) -> None:
        """Slices [first, end) all were FAILED and are not any more."""
        self.failed -= end - first
        self.revisions += 1
        for index in [index for index in self._texts if first <= index < end]:
            del self._texts[index]

    def _keep_text(self, failure: Failure) -> bool:
        """Keeps a failure's text, if it is among the first; of two, the lesser. Whether it did."""
        texts, index, text = self._texts, failure.slice, failure.text
        known = texts.get(index)
        if not text or (known is not None and text >= known):
            return False
        texts[index] = text
        if len(texts) <= TEXTS_MAX:
            return True
        highest = max(texts)
        del texts[highest]
        return highest != index
