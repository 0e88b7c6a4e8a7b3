"""Compare and set with a majority: `policy.kvcas` joined to the core and to callers.

Owns: who waits for which round, trying again, and the records that rounds are about. Refuses to
know: links (`velum.kvservice` sends), and how a round is decided.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from velum import _core, resp
from velum.kv import DURABILITIES, NONE_VERSION
from velum.policy import kvcas
from velum.policy import kvtalk as talk
from velum.policy.kvcas import Cas, Outcome
from velum.policy.kvroster import Roster
from velum.policy.kvtalk import NEVER, Stamp
from velum.runtime import now_ms

QUORUM: Final = DURABILITIES.index("quorum")
TRIES_MAX: Final = 8  # rounds of one call that others come before
PAUSE_MS: Final = 20  # at most, before the next: two that try at once must not meet again
_SET: Final = 1  # the operation's number in csrc/kv_record.h
_CAS_WORDS: Final = (4, 5)  # VELUM.CAS key version value [JSON]

Told = Callable[[int, bytes], object]
"""Is given what was reached (a durability's code), and the reply."""

TALK: Final = (talk.Prepare, talk.Promise, talk.Accept, talk.Accepted, talk.Declined)
"""The messages that are for this."""


def is_quorum_cas(args: Sequence[bytes], durability: int) -> bool:
    """Whether a request is one that a majority has to agree on."""
    return durability == QUORUM and bool(args) and args[0].upper() == b"VELUM.CAS"


@dataclass(slots=True)
class _Call:
    key: bytes
    expected: Stamp
    value: bytes
    json: bool
    told: Told
    uncertain: Callable[[], object]
    tries: int = 0
    again_ms: int | None = None


class _Keys:
    """The core's keys, as the policy looks at them."""

    def __init__(self, core: _core.Kv) -> None:
        self._core = core

    def version(self, key: bytes) -> tuple[Stamp, Stamp]:
        """Of what is visible, and the latest."""
        visible, latest = self._core.version(key)
        return Stamp(*visible), Stamp(*latest)


class Quorum:
    """One node's. Everything runs in the loop's thread."""

    def __init__(
        self,
        core: _core.Kv,
        roster: Roster,
        rng: random.Random,
        say: Callable[[int, talk.Message], object],
        joined: Callable[[], Sequence[int]],
        sync: Callable[[Callable[[bool], object]], object],
    ) -> None:
        """`say` sends KV_TALK, `joined` are the peers whose links are of use, `sync` tells when all
        that is merged is on disk, and whether it went well."""
        self._core = core
        self._me = roster.me.id
        self._rng = rng
        self._say = say
        self._joined = joined
        self._sync = sync
        self._cas = Cas(roster, _Keys(core), rng.getrandbits(64), now_ms())
        self._tokens = count(1)
        self._calls: dict[int, _Call] = {}

    def ask(self, args: Sequence[bytes], told: Told, uncertain: Callable[[], object]) -> None:
        """Does a VELUM.CAS. `uncertain` is called instead of `told` if nobody knows whether it is
        written."""
        expected = _version(args[2]) if len(args) in _CAS_WORDS else None
        if expected is None or (len(args) == 5 and args[4].upper() != b"JSON"):
            told(0, b"-ERR with a quorum: VELUM.CAS key version value [JSON]\r\n")
            return
        call = _Call(args[1], expected, args[3], len(args) == 5, told, uncertain)
        self._try(next(self._tokens), call)

    def _try(self, token: int, call: _Call) -> None:
        self._calls[token] = call
        call.tries += 1
        call.again_ms = None
        ballot = self._core.stamp()
        try:
            record = _core.encode_kv_record(
                (_SET, call.key, b"", call.value, call.json, ballot, (0, 0), False, 0, 0)
            )
        except _core.CoreError as error:
            del self._calls[token]
            call.told(0, b"-ERR not written: %s\r\n" % str(error).encode())
            return
        self._handle(kvcas.Asked(token, call.key, call.expected, Stamp(*ballot), record))

    def heard(self, node: int, message: talk.Message) -> None:
        """A member has said one of `TALK`."""
        self._handle(kvcas.Heard(node, message))

    def lost(self, node: int) -> None:
        """A member's link closed."""
        self._handle(kvcas.Lost(node))

    def _handle(self, event: kvcas.Event) -> None:
        for effect in self._cas.handle(event, now_ms(), self._joined()):
            if isinstance(effect, kvcas.Talk):
                self._say(effect.node, effect.message)
            elif isinstance(effect, kvcas.Write):
                self._write(effect)
            else:
                self._ended(effect)

    def _write(self, effect: kvcas.Write) -> None:
        def done(well: bool) -> None:
            self._handle(kvcas.Written(effect.node, effect.round, well))

        try:
            record = _core.decode_kv_record(effect.record)
            if record[0] != _SET or record[1] != effect.key or record[5] != effect.ballot:
                done(False)
            elif effect.node == self._me:
                self._core.write(effect.record)
                self._sync(done)
            else:
                self._core.hear(effect.record)
                self._sync(done)
        except _core.CoreError:
            done(False)

    def _ended(self, effect: kvcas.Ended) -> None:
        call = self._calls[effect.token]
        if effect.outcome is Outcome.BUSY and call.tries < TRIES_MAX:
            call.again_ms = now_ms() + self._rng.randint(1, PAUSE_MS)
            return
        del self._calls[effect.token]
        if effect.outcome is Outcome.DONE:
            version = b"%016x-%d" % effect.version
            call.told(QUORUM, b"$%d\r\n%b\r\n" % (len(version), version))
        elif effect.outcome is Outcome.CONFLICT:
            call.told(0, b"_\r\n")
        elif effect.outcome is Outcome.UNCERTAIN:
            call.uncertain()
        else:
            why = _REFUSALS[effect.outcome]
            call.told(0, b"-NOQUORUM " + why + b"\r\n")

    # ---- timers ----

    def next_deadline(self) -> int | None:
        """The policy's, or when a call is tried again."""
        times = [call.again_ms for call in self._calls.values()]
        times.append(self._cas.next_deadline())
        return min((time for time in times if time is not None), default=None)

    def on_time(self, now: int) -> None:
        """Tells the policy the time; tries again."""
        self._handle(kvcas.TimePassed())
        for token, call in list(self._calls.items()):
            if call.again_ms is not None and now >= call.again_ms:
                del self._calls[token]
                self._try(next(self._tokens), call)


_REFUSALS: Final = {
    Outcome.REFUSED: b"too few members vote: they are not there, or have just come; not written",
    Outcome.BUSY: b"others write this key all the time; not written",
}


def _version(text: bytes) -> Stamp | None:
    """A version as `velum.kv` has it; None: it is none."""
    if text == NONE_VERSION.encode():
        return NEVER
    time, _, node = text.partition(b"-")
    if len(time) != 16 or not node.isdigit() or len(node) > 5:
        return None
    try:
        return Stamp(int(time, 16), int(node))
    except ValueError:
        return None


def words_of(request: bytes) -> list[bytes]:
    """The arguments of a request; [] if it is none."""
    try:
        words: Any = resp.reply(request)
    except resp.Malformed:
        return []
    if not isinstance(words, list) or not all(isinstance(word, bytes) for word in words):
        return []
    return words
