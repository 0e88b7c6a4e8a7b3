"""How long a suspect has to refute, and how much this node trusts itself.

Owns: the suspicion of one member, and the local health score. Refuses to know: peers and messages.
How: Lifeguard (Dadgar, Phillips, Currey 2017). A suspicion begins with a long timeout, which each
independent confirmation shortens: a node that is deaf itself accuses alone and waits long, while a
crash is confirmed by many. A node that notices signs of its own slowness probes more patiently.
"""

from __future__ import annotations

import math

# Shortest suspicion, once enough others confirm it. A refutation takes a few gossip intervals and
# one round trip; 1.8 s leaves room for three attempts of the accusers to reach the suspect.
SUSPICION_MIN_MS = 1_800

# Longest suspicion, when nobody confirms: six times the shortest, as Lifeguard suggests.
SUSPICION_MAX_MS = 6 * SUSPICION_MIN_MS

# A mesh of two has no third to confirm: three times the shortest keeps a lossy link from killing.
SUSPICION_PAIR_MS = 3 * SUSPICION_MIN_MS

# Confirmations that bring the timeout down to the shortest. Three nodes that all fail to reach a
# live member, each directly and over helpers, are rarer than a crash even with 10% loss.
CONFIRMATIONS_ENOUGH = 3

# Worst local health score: timeouts and the protocol period grow up to this many times plus one.
LOCAL_HEALTH_MAX = 8


def confirmations_wanted(live: int) -> int:
    """Confirmations that make a suspicion certain among `live` members, self and suspect included:
    never more than there are others to give them."""
    return max(0, min(CONFIRMATIONS_ENOUGH, live - 2))


def suspicion_timeout_ms(confirmations: int, wanted: int) -> int:
    """How long a suspicion lasts from its beginning, given the confirmations so far."""
    if wanted == 0:
        return SUSPICION_PAIR_MS
    span = SUSPICION_MAX_MS - SUSPICION_MIN_MS
    share = math.log(confirmations + 1) / math.log(wanted + 1)
    return max(SUSPICION_MIN_MS, SUSPICION_MAX_MS - round(span * share))


class Suspicion:
    """One member under suspicion at one incarnation, and who accuses it."""

    __slots__ = ("incarnation", "since_ms", "wanted", "accusers")

    def __init__(self, incarnation: int, since_ms: int, wanted: int, accuser: int) -> None:
        self.incarnation = incarnation
        self.since_ms = since_ms
        self.wanted = wanted
        self.accusers = [accuser]

    def confirm(self, accuser: int) -> bool:
        """Count another accuser; False when it is known already or enough have spoken."""
        if accuser in self.accusers or len(self.accusers) > self.wanted:
            return False
        self.accusers.append(accuser)
        return True

    @property
    def deadline_ms(self) -> int:
        """When the suspect is declared dead."""
        return self.since_ms + suspicion_timeout_ms(len(self.accusers) - 1, self.wanted)


class LocalHealth:
    """Lifeguard's local health multiplier: 0 is well, LOCAL_HEALTH_MAX is hardly running."""

    __slots__ = ("score",)

    def __init__(self) -> None:
        self.score = 0

    def worse(self, by: int) -> None:
        """Signs that this node is slow: no helper answered, it was accused, it overslept."""
        self.score = min(LOCAL_HEALTH_MAX, self.score + by)

    def better(self) -> None:
        """A probe was answered in time."""
        self.score = max(0, self.score - 1)

    def stretch(self, milliseconds: int) -> int:
        """A timeout or period, lengthened by the score."""
        return milliseconds * (self.score + 1)
