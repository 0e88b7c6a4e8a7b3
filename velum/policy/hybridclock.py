"""The clock of versions: which of two puts of a name is the later.

Owns: the greatest stamp that this node has drawn or heard of. Refuses to know: names, entries, and
the time, which is passed in.

A hybrid logical clock (Kulkarni, Demirbas, Madappa, Avva and Leone, "Logical physical clocks",
2014), packed as they propose: milliseconds since 1970 in the upper 48 bits, a counter in the lower
16. A new stamp is the time, or one more than the greatest known if that is not less; so a counter
that runs over carries into the milliseconds. Versions of one node ascend strictly while it runs,
and one drawn after hearing of another is later than it, however far apart the clocks are. A node
that starts again begins with the time alone: it should hear what others have before it draws.

| heard, ahead of this node's clock | `heard` | this node's next version |
|---|---|---|
| not, or by up to `AHEAD_MS_MAX` | True | later than it |
| by more | False: refuse the entry | as if nothing had been heard |

**A version from too far ahead is refused with its entry**: the name keeps what it had, and can be
put and deleted here as before. If it were taken, a peer that sends the greatest version there is
would leave none for anybody. Should another keeper, whose clock is later, have taken it, then
readers there see it until it is in reach of this clock; a put of that one name through this node
loses to it, and is told so. All other names are unharmed.

Nothing is near the end of the 48 bits (the year 10889): a time past 2**47 counts as 2**47, hearsay
adds 2**42 at most, and from there a put each nanosecond would take 290 years to count to the end.
"""

from __future__ import annotations

from typing import Final, NamedTuple

COUNTER_BITS: Final = 16
# 139 years: honest clocks differ by less, also one that starts at 1970 for want of a battery.
AHEAD_MS_MAX: Final = 1 << 42
TIME_MS_MAX: Final = 1 << 47  # the year 6429; as much again is left for counting on


class Version(NamedTuple):
    """When a name was put or deleted; they compare as they were made."""

    stamp: int  # 0..2**64 - 1: milliseconds and counter
    origin: int  # 32 random bits of the process that drew it: orders equal stamps

    @property
    def ms(self) -> int:
        """Milliseconds since 1970, as far as its clock was right."""
        return self.stamp >> COUNTER_BITS


class Clock:
    """A node's clock; `now_ms` is its time, unix milliseconds, which may be wrong and may jump."""

    __slots__ = ("_greatest", "_origin")

    def __init__(self, origin: int) -> None:
        self._origin = origin
        self._greatest = 0  # stamp

    def next(self, now_ms: int) -> Version:
        """A version later than all that were drawn here or heard."""
        stamp = _time_ms(now_ms) << COUNTER_BITS
        self._greatest = stamp if stamp > self._greatest else self._greatest + 1
        return Version(self._greatest, self._origin)

    def heard(self, version: Version, now_ms: int) -> bool:
        """Takes note of a version; False: it is from too far ahead, and its entry to be refused."""
        if version.ms > _time_ms(now_ms) + AHEAD_MS_MAX:
            return False
        self._greatest = max(self._greatest, version.stamp)
        return True


def _time_ms(now_ms: int) -> int:
    return now_ms if 0 <= now_ms <= TIME_MS_MAX else min(max(now_ms, 0), TIME_MS_MAX)
