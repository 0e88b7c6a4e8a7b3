"""Holders of one job under arbitrary events: their ledgers against dictionaries, and each other.

Workers report to any holder; copies go through a network that delays, repeats, reorders and loses;
holders restart empty, resume, and now and then a machine's memory lies. At every step each ledger
is what its dictionary says, and each verdict is what the obvious computation says. Once the network
calms down, all copies are equal and hold every slice's value exactly once. Hypothesis prints the
steps of a failure, shrunk, as a program to paste.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.unit.scatter_models import (
    Model,
    News,
    bits_for,
    checksum_of,
    model_of,
    packed,
    spec_of,
    verdict_of,
)
from velum.policy.job import F64, I32, I64, KEEP_GOING, WRAP, Failure, Reduce
from velum.policy.ledger import DONE, FAILED, Ledger
from velum.policy.reduction import Reduction, answer_list
from velum.policy.slices import Spans

SLICES_MAX = 16
HOLDERS = st.integers(0, 2)
INDICES = st.integers(0, SLICES_MAX - 1)
KINDS = {I32: [0, 1, -1, 7], I64: [0, 1, -(1 << 63), 1 << 62], F64: [0.0, -0.0, 0.1, 1e16]}
BITWISE = (Reduce.AND, Reduce.OR, Reduce.XOR)


class Holder:
    """One copy of the job, and the pieces it has been told since it was empty."""

    def __init__(self, slices: int) -> None:
        self.ledger = Ledger(slices)
        self.told: list[News] = []

    @property
    def model(self) -> Model:
        return model_of(self.told)

    def everything(self) -> list[News]:
        """What it would send to who knows nothing."""
        return [*self.ledger.done_runs(), *self.ledger.failures()]


class LedgerMachine(RuleBasedStateMachine):
    """The model: what each holder was told, the true values, and the network's letters."""

    @initialize(
        reduce=st.sampled_from(Reduce),
        kind=st.sampled_from(sorted(KINDS)),
        flags=st.sampled_from([0, KEEP_GOING, WRAP, KEEP_GOING | WRAP]),
        slices=st.integers(1, SLICES_MAX),
        data=st.data(),
    )
    def begin(
        self, reduce: Reduce, kind: int, flags: int, slices: int, data: st.DataObject
    ) -> None:
        kind = I64 if reduce in BITWISE and kind == F64 else kind
        values = st.sampled_from(KINDS[kind] + [KINDS[kind][0]] * 8)
        drawn = data.draw(st.lists(values, min_size=slices, max_size=slices))
        self.truth = [bits_for(kind, value) for value in drawn]
        missing = bits_for(kind, KINDS[kind][0])
        self.spec = spec_of(reduce, slices, result=kind, flags=flags, missing=missing)
        self.holders = [Holder(slices) for _ in range(3)]
        self.reductions = [Reduction(self.spec, holder.ledger) for holder in self.holders]
        self.letters: list[News] = []
        self.honest = True

    def deliver(self, to: int, item: News) -> None:
        """Merges a piece, and checks what that is said to have changed."""
        holder = self.holders[to]
        before = holder.model
        known = holder.ledger.checksum()
        holder.told.append(item)
        if isinstance(item, Failure):
            changed = holder.ledger.merge_failure(item)
            assert changed == (holder.model != before) == (holder.ledger.checksum() != known)
            return
        gained = Spans(holder.ledger.merge(*item))
        done = {i for i, (state, _) in holder.model.items() if state == DONE}
        done -= {i for i, (state, _) in before.items() if state == DONE}
        assert gained == Spans((index, index + 1) for index in done)

    def run_of(self, low: int, high: int) -> News:
        low, high = min(low, high), max(low, high) + 1
        return low % len(self.truth), packed(*self.truth[low % len(self.truth) : high])

    @rule(to=HOLDERS, low=INDICES, high=INDICES)
    def report(self, to: int, low: int, high: int) -> None:
        """A worker reports a run; the letter may come again, here or elsewhere."""
        run = self.run_of(low, high)
        self.letters.append(run)
        self.deliver(to, run)

    @rule(to=HOLDERS, index=INDICES, code=st.sampled_from([60, 83, 84]))
    def fail(self, to: int, index: int, code: int) -> None:
        failure = Failure(index % len(self.truth), code)
        self.letters.append(failure)
        self.deliver(to, failure)

    @rule(to=HOLDERS, index=INDICES, bits=st.sampled_from([0, 1, (1 << 31) - 1]))
    def lie(self, to: int, index: int, bits: int) -> None:
        """A memory lies: a value that differs, and holds if it is the smaller."""
        index %= len(self.truth)
        self.honest &= self.truth[index] == bits
        ledger = self.holders[to].ledger
        differs = ledger.state(index) == DONE and ledger.bits(index) != bits
        before = ledger.disagreements
        self.deliver(to, (index, packed(bits)))
        assert ledger.disagreements == before + differs

    @rule(sender=HOLDERS, low=INDICES, high=INDICES)
    def copy(self, sender: int, low: int, high: int) -> None:
        """A holder sends a part of what it knows; when that arrives is the network's affair."""
        low, high = sorted((low % len(self.truth), high % len(self.truth)))
        ledger = self.holders[sender].ledger
        self.letters += ledger.done_runs([(low, high + 1)])
        self.letters += [f for f in ledger.failures() if low <= f.slice <= high]

    @precondition(lambda self: self.letters)
    @rule(to=HOLDERS, data=st.data(), again=st.booleans())
    def arrive(self, to: int, data: st.DataObject, again: bool) -> None:
        at = data.draw(st.integers(0, len(self.letters) - 1))
        self.deliver(to, self.letters[at] if again else self.letters.pop(at))

    @rule(at=HOLDERS)
    def restart(self, at: int) -> None:
        """A holder forgets everything."""
        self.holders[at] = Holder(len(self.truth))
        self.reductions[at] = Reduction(self.spec, self.holders[at].ledger)

    @rule(at=HOLDERS)
    def resume(self, at: int) -> None:
        holder = self.holders[at]
        holder.ledger.forget_failures()
        done = [i for i, (state, _) in holder.model.items() if state == DONE]
        holder.told = [(index, packed(holder.model[index][1])) for index in done]

    @rule(at=HOLDERS)
    def look(self, at: int) -> None:
        """The verdict does not depend on what was looked at before, and when."""
        holder, reduction = self.holders[at], self.reductions[at]
        assert reduction.look() == verdict_of(self.spec, holder.model)
        end = len(self.truth)
        if self.spec.reduce == Reduce.FIRST:
            nothing = (DONE, self.spec.missing)
            found = [i for i, at in holder.model.items() if at[0] == DONE and at != nothing]
            end = min(found, default=end - 1) + 1
        assert reduction.needed_end == end

    @invariant()
    def ledgers_are_what_they_were_told(self) -> None:
        for holder in getattr(self, "holders", []):
            ledger, model = holder.ledger, holder.model
            ledger.validate()
            assert ledger.checksum() == checksum_of(model, len(self.truth))
            states = [state for state, _ in model.values()]
            assert (ledger.done, ledger.failed) == (states.count(DONE), states.count(FAILED))

    def teardown(self) -> None:
        """Everybody hears from everybody, then the rest is computed: all agree, on the truth."""
        if not hasattr(self, "holders"):
            return
        for sender in self.holders:
            for item in sender.everything():
                for to in range(3):
                    self.deliver(to, item)
        assert len({holder.ledger.checksum() for holder in self.holders}) == 1
        for at, holder in enumerate(self.holders):
            self.look(at)
            for low, high in holder.ledger.unknown_spans():
                self.deliver(at, self.run_of(low, high - 1))
            for failure in holder.ledger.failures():
                self.deliver(at, self.run_of(failure.slice, failure.slice))
            self.look(at)
            assert holder.ledger.done == len(self.truth)
        assert len({holder.ledger.checksum() for holder in self.holders}) == 1
        if self.honest:
            ledger = self.holders[0].ledger
            assert bytes(ledger.values()) == packed(*self.truth)
            values = answer_list(self.spec._replace(reduce=Reduce.COLLECT), ledger)
            assert [bits_for(self.spec.result, value) for value in values] == self.truth


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
