"""Jobs, leases and slices through the binding: what goes in comes out, and no more."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from velum import _core
from velum.policy import job as jobs
from velum.policy import slices
from velum.policy.job import F64, I32, I64, Ask, Record, Reduce, Share, Spec, State

PART_BYTES_MAX = 256 * 1024
PATIENCE_S = 20.0
LOOPBACK = (0x7F000001, 0)

U16, U32, U64 = (1 << 16) - 1, (1 << 32) - 1, (1 << 64) - 1
JOB_MAX = (1 << 63) - 1

# ---- strategies ----


def numbers(low: int, high: int) -> st.SearchStrategy[int]:
    """Integers of a field."""
    return st.integers(low, high)


def texts(low: int, high: int) -> st.SearchStrategy[str]:
    """Texts of that many bytes at most."""
    return st.text(min_size=low, max_size=high).filter(lambda text: len(text.encode()) <= high)


def values(kinds: Sequence[int] = tuple(_core.TYPE_NAMES)) -> st.SearchStrategy[tuple[int, int]]:
    """(type, bits)."""
    return st.sampled_from(kinds).flatmap(
        lambda kind: st.tuples(st.just(kind), numbers(0, U32 if kind in (I32, jobs.F32) else U64))
    )


@st.composite
def specs(draw: Callable[..., Any], least_slices: int = 0) -> Spec:
    """Every spec that a job may have."""
    kind = draw(st.sampled_from((I32, I64)))
    width = 32 if kind == I32 else 64
    ends = numbers(-(1 << (width - 1)), (1 << (width - 1)) - 1)
    start, end = sorted((draw(ends), draw(ends)))
    if end - start < least_slices:
        start, end = 0, least_slices
    most = min(end - start, _core.SLICES_MAX)
    count = draw(numbers(min(1, most), most))
    reduce = draw(st.sampled_from(list(Reduce)))
    if count == 0 and reduce in (Reduce.MIN, Reduce.MAX):
        reduce = Reduce.SUM
    bitwise = reduce in (Reduce.AND, Reduce.OR, Reduce.XOR)
    return Spec(
        job=draw(numbers(1, JOB_MAX)),
        flags=draw(numbers(0, jobs.KEEP_GOING | jobs.WRAP | jobs.VALUES)),
        reduce=reduce,
        priority=draw(numbers(1, jobs.PRIORITY_MAX)),
        result=draw(st.sampled_from((I32, I64) if bitwise else (I32, I64, jobs.F32, F64))),
        slices=count,
        timeout_ms=draw(numbers(0, U32)),
        limit_ms=draw(numbers(0, U32)),
        fuel=draw(numbers(0, U64)),
        pages=draw(numbers(0, _core.GUEST_PAGES_MAX)),
        missing=draw(numbers(0, U32)),
        created_ms=draw(numbers(0, JOB_MAX)),
        hash=draw(st.binary(min_size=32, max_size=32)),
        function=draw(texts(0, _core.NAME_BYTES_MAX)),
        label=draw(texts(0, 255)),
        args=(
            (kind, start & ((1 << width) - 1)),
            (kind, end & ((1 << width) - 1)),
            *draw(st.lists(values(), max_size=_core.ARGS_MAX - 2)),
        ),
    )


@st.composite
def records(draw: Callable[..., Any]) -> Record:
    """Every record that a coordinator may send."""
    state = draw(st.sampled_from(list(State)))
    count = draw(numbers(0, _core.SLICES_MAX))
    done = draw(numbers(0, count))
    ended_badly = state in (State.FAILED, State.CANCELLED)
    nodes = numbers(1, U16)
    shares = st.builds(Share, nodes, numbers(0, U16), numbers(0, U32), numbers(0, U32))
    return Record(
        job=draw(numbers(1, JOB_MAX)),
        attempt=draw(numbers(1, U16)),
        state=state,
        epoch=draw(numbers(1, U32)),
        coordinator=draw(nodes),
        sequence=draw(numbers(0, U32)),
        slices=count,
        done=done,
        failed=draw(numbers(0, count - done)),
        checksum=draw(numbers(0, U32)),
        elapsed_ms=draw(numbers(0, U64)),
        retries=draw(numbers(0, U32)),
        duplicates=draw(numbers(0, U32)),
        code=draw(numbers(1, U16)) if ended_badly else 0,
        text=draw(texts(0, 1024)),
        answer=draw(st.none() | values()) if state == State.DONE else None,
        holders=tuple(draw(st.lists(nodes, max_size=jobs.HOLDERS_MAX, unique=True))),
        shares=tuple(draw(st.lists(shares, max_size=40, unique_by=lambda share: share.node))),
    )


@st.composite
def runs(draw: Callable[..., Any]) -> list[_core.Run]:
    """Runs that ascend and do not touch."""
    out = []
    at = draw(numbers(0, _core.SLICES_MAX // 2))
    for _ in range(draw(numbers(0, 12))):
        words = draw(st.lists(numbers(0, U64), min_size=1, max_size=9))
        out.append((at, struct.pack(f"<{len(words)}Q", *words)))
        at += len(words) + draw(numbers(1, 1000))
    return out


@st.composite
def failures(draw: Callable[..., Any]) -> list[_core.Failure]:
    """Failures that ascend."""
    failed = draw(st.lists(numbers(0, _core.SLICES_MAX - 1), max_size=9, unique=True))
    return [(index, draw(numbers(1, U16)), draw(texts(0, 255))) for index in sorted(failed)]


SPEC = Spec(
    7, 0, Reduce.SUM, 10, I64, 100, 5, 6, 7, 8, 9, 10, bytes(range(32)), "f", "f.wasm",
    ((I64, 0), (I64, 1000), (F64, 3)),
)  # fmt: skip
RECORD = Record(
    7, 1, State.DONE, 2, 3, 4, 100, 90, 10, 5, 6, 7, 8, 0, "", (I64, 9), (3, 1),
    (Share(1, 2, 3, 4),),
)  # fmt: skip


def record_of(plain: _core.Record) -> Record:
    """A record as the policies hold it."""
    return Record(*plain[:17], tuple(Share(*share) for share in plain[17]))


def refused(make: Callable[[], object]) -> str:
    """The name of the error of the core that it ends with."""
    with pytest.raises(_core.CoreError) as caught:
        make()
    return _core.error_table()[caught.value.code][0]


# ---- specs, leases ----


@given(specs())
def test_a_spec_survives(spec: Spec) -> None:
    assert Spec(*_core.decode_scatter(_core.encode_scatter(spec))) == spec


@pytest.mark.parametrize(
    "wrong",
    [
        {"job": 0},
        {"job": 1 << 63},
        {"job": -1},
        {"job": 1 << 64},
        {"flags": 8},
        {"flags": 256},
        {"reduce": 0},
        {"reduce": 11},
        {"priority": 0},
        {"priority": 101},
        {"result": 1},
        {"slices": 0},
        {"slices": 1001},
        {"reduce": Reduce.XOR, "result": F64},
        {"result": I32, "missing": 1 << 32},
        {"timeout_ms": -1},
        {"limit_ms": 1 << 32},
        {"fuel": 1 << 64},
        {"hash": bytes(31)},
        {"function": "f" * 256},
        {"args": ((I64, 0),)},
        {"args": ((I64, 0), (I32, 1))},
        {"args": ((F64, 0), (F64, 1))},
        {"args": ((I64, 1), (I64, 0))},
        {"args": ((I64, 0), (I64, 1), (2, 0))},
        {"args": ((I64, 0), *((I64, 1000),) * 32)},
        {"args": ((I64, 0), (I64, 1 << 64))},
    ],
    ids=str,
)
def test_a_spec_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    assert refused(lambda: _core.encode_scatter(SPEC._replace(**wrong))) == "ARGUMENT"


def test_what_is_for_people_is_cut_at_a_character() -> None:
    spec = SPEC._replace(label="é" * 200)
    assert Spec(*_core.decode_scatter(_core.encode_scatter(spec))).label == "é" * 127
    surrogate = SPEC._replace(label="\udc80.wasm")
    assert Spec(*_core.decode_scatter(_core.encode_scatter(surrogate))).label == "?.wasm"


def test_a_function_that_is_no_utf8_is_malformed() -> None:
    payload = _core.encode_scatter(SPEC._replace(function="MARKED"))
    assert refused(lambda: _core.decode_scatter(payload.replace(b"MARKED", b"MAR\xffED"))) == (
        "PAYLOAD"
    )


@given(specs(least_slices=1), st.data())
def test_a_lease_is_trimmed(spec: Spec, data: st.DataObject) -> None:
    first = data.draw(numbers(0, spec.slices - 1))
    count = data.draw(numbers(1, spec.slices - first))
    payload = _core.encode_lease(spec, first, count, careful=True)
    end = data.draw(numbers(0, spec.slices + 1))
    kept = min(end, first + count) - first
    trimmed = _core.trim_lease(payload, end)
    if kept > 0:
        assert trimmed == _core.encode_lease(spec, first, kept, careful=True)
    else:
        assert trimmed is None


@pytest.mark.parametrize(("first", "count"), [(100, 1), (99, 2), (0, 0), (-1, 2), (0, 1 << 32)])
def test_a_lease_outside_its_job_is_refused(first: int, count: int) -> None:
    assert refused(lambda: _core.encode_lease(SPEC, first, count)) == "ARGUMENT"


@given(specs(least_slices=1), st.data())
def test_the_core_cuts_a_range_as_the_policy_does(spec: Spec, data: st.DataObject) -> None:
    index = data.draw(numbers(0, spec.slices - 1))
    expected = slices.slice_bounds(spec.start, spec.end, spec.slices, index)
    assert _core.slice_bounds(spec.start, spec.end, spec.slices, index, spec.range_type) == expected


@pytest.mark.parametrize(("start", "end", "count", "index"), [(1, 0, 1, 0), (0, 1, 1, 1), (0,) * 4])
def test_slices_that_there_are_not_have_no_bounds(
    start: int, end: int, count: int, index: int
) -> None:
    assert refused(lambda: _core.slice_bounds(start, end, count, index)) == "ARGUMENT"


# ---- slices ----


@given(runs(), failures(), numbers(1, JOB_MAX), numbers(0, U32), st.booleans())
def test_slices_survive(
    done: list[_core.Run], failed: list[_core.Failure], job: int, busy_us: int, last: bool
) -> None:
    flags = _core.SLICES_LAST if last else 0
    (payload,) = _core.encode_slices(job, done, failed, flags, busy_us)
    assert _core.decode_slices(payload) == (job, flags, busy_us, done, failed)


def merged(payloads: list[bytes]) -> tuple[dict[int, bytes], list[_core.Failure]]:
    """Everything that the payloads say, by slice."""
    found: dict[int, bytes] = {}
    failed: list[_core.Failure] = []
    for payload in payloads:
        _, _, _, done, more = _core.decode_slices(payload)
        for first, words in done:
            for at in range(0, len(words), 8):
                assert first + at // 8 not in found
                found[first + at // 8] = words[at : at + 8]
        failed += more
    return found, failed


def test_many_slices_become_several_payloads() -> None:
    words = [index.to_bytes(8, "little") for index in range(100_000)]
    done = [(0, b"".join(words[:70_000])), (70_001, b"".join(words[70_000:]))]
    failed = [(index, 40, "trap" * 20) for index in range(200_000, 206_000)]
    payloads = _core.encode_slices(5, done, failed, _core.SLICES_LAST, 77)
    assert all(len(payload) <= PART_BYTES_MAX for payload in payloads)
    assert len(payloads) == 6
    heads = [_core.decode_slices(payload)[:3] for payload in payloads]
    assert heads == [(5, 0, 0)] * 5 + [(5, _core.SLICES_LAST, 77)]
    found, failed_too = merged(payloads)
    assert failed_too == failed
    assert list(found) == [*range(70_000), *range(70_001, 100_001)]
    assert list(found.values()) == words


def test_nothing_done_is_one_payload() -> None:
    assert [_core.decode_slices(one) for one in _core.encode_slices(1, [], [], 1)] == [
        (1, 1, 0, [], [])
    ]


def test_runs_that_touch_become_one() -> None:
    (payload,) = _core.encode_slices(1, [(4, bytes(8)), (5, bytes(16))], [])
    assert _core.decode_slices(payload)[3] == [(4, bytes(24))]


def test_a_long_text_of_a_failure_is_cut() -> None:
    (payload,) = _core.encode_slices(1, [], [(4, 40, "é" * 200)])
    assert _core.decode_slices(payload)[4] == [(4, 40, "é" * 127)]


@pytest.mark.parametrize(
    ("done", "failed"),
    [
        ([(0, b"")], []),
        ([(0, bytes(7))], []),
        ([(-1, bytes(8))], []),
        ([(5, bytes(8)), (5, bytes(8))], []),
        ([(5, bytes(8)), (4, bytes(8))], []),
        ([(_core.SLICES_MAX - 1, bytes(16))], []),
        ([], [(5, 1, ""), (5, 1, "")]),
        ([], [(5, 0, "")]),
        ([], [(5, 1 << 16, "")]),
        ([], [(-5, 1, "")]),
        ([], [(_core.SLICES_MAX, 1, "")]),
    ],
    ids=str,
)
def test_slices_out_of_order_or_range_are_refused(
    done: list[_core.Run], failed: list[_core.Failure]
) -> None:
    assert refused(lambda: _core.encode_slices(1, done, failed)) == "ARGUMENT"


@pytest.mark.parametrize(("job", "flags", "busy_us"), [(0, 0, 0), (1, 2, 0), (1, 0, 1 << 32)])
def test_a_head_out_of_range_is_refused(job: int, flags: int, busy_us: int) -> None:
    assert refused(lambda: _core.encode_slices(job, [], [], flags, busy_us)) == "ARGUMENT"


# ---- records ----


@given(records())
def test_a_record_survives(record: Record) -> None:
    assert record_of(_core.decode_job(_core.encode_job(record))) == record


def test_a_record_of_a_large_mesh_survives() -> None:
    shares = tuple(Share(node, 1, node, 3) for node in range(1, 20_000))
    record = RECORD._replace(shares=shares, text="é" * 1000)
    cut = record._replace(text="é" * 512)
    assert record_of(_core.decode_job(_core.encode_job(record))) == cut


@pytest.mark.parametrize(
    "wrong",
    [
        {"job": 0},
        {"attempt": 1 << 16},
        {"state": 0},
        {"state": 5},
        {"epoch": 1 << 32},
        {"slices": _core.SLICES_MAX + 1},
        {"answer": (1, 0)},
        {"code": 40},
        {"done": 91},
        {"state": State.FAILED, "answer": None},
        {"holders": tuple(range(1, 18))},
        {"holders": (1 << 16,)},
        {"shares": ((1, 2, 3, 1 << 32),)},
        {"shares": ((1, 2, 3, 4),) * (1 << 16)},
    ],
    ids=lambda wrong: str(wrong)[:40],
)
def test_a_record_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    assert refused(lambda: _core.encode_job(RECORD._replace(**wrong))) == "ARGUMENT"


@pytest.mark.parametrize(("job", "ask", "flags"), [(0, 1, 0), (1, 0, 0), (1, 5, 0), (1, 1, 256)])
def test_an_ask_out_of_range_is_refused(job: int, ask: int, flags: int) -> None:
    assert refused(lambda: _core.encode_job_ask(job, ask, flags)) == "ARGUMENT"


def test_a_trim_out_of_range_is_refused() -> None:
    assert refused(lambda: _core.encode_trim(1 << 32)) == "ARGUMENT"


# ---- malformed payloads ----


@pytest.mark.parametrize("cut", ["a byte short", "a byte more", "empty"])
@pytest.mark.parametrize(
    ("decode", "payload"),
    [
        (_core.decode_scatter, _core.encode_scatter(SPEC)),
        (_core.decode_job, _core.encode_job(RECORD)),
        (_core.decode_slices, _core.encode_slices(1, [(4, bytes(8))], [(9, 1, "x")])[0]),
        (lambda payload: _core.trim_lease(payload, 9), _core.encode_lease(SPEC, 1, 2)),
    ],
    ids=["scatter", "job", "slices", "lease"],
)
def test_malformed_payloads_are_refused(
    decode: Callable[[bytes], object], payload: bytes, cut: str
) -> None:
    wrong = {"a byte short": payload[:-1], "a byte more": payload + b"\0", "empty": b""}[cut]
    assert refused(lambda: decode(wrong)) == "PAYLOAD"


@given(st.binary(max_size=300))
def test_any_bytes_are_decoded_or_refused(payload: bytes) -> None:
    for decode in (_core.decode_scatter, _core.decode_job, _core.decode_slices):
        try:
            decode(payload)
        except _core.CoreError as error:
            assert _core.error_table()[error.code][0] == "PAYLOAD"


# ---- frames over a link ----


class Pair:
    """Two hubs with a link between them."""

    def __init__(self) -> None:
        self.server, self.client = _core.Hub(links_max=4), _core.Hub(links_max=4)
        self.server.identity(role=1, id=1, incarnation=1)
        self.client.identity(role=4)
        self.seen: list[Any] = []
        self.link = self.client.dial(self.server.listen(LOOPBACK))
        self.server.accept(self.wait(_core.OPENED)[1])
        self.wait(_core.OPENED, self.client)

    def wait(self, kind: int, hub: _core.Hub | None = None) -> Any:
        """The next event of a kind, at the server unless told otherwise."""
        waited_for = hub or self.server
        other = self.client if waited_for is self.server else self.server
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            for event in waited_for.poll(10_000):
                if event[0] == kind:
                    return event
            other.poll(0)
        raise AssertionError(f"no event {kind} came")

    def pass_on(self, name: str, payload: bytes) -> Any:
        """What a frame arrives as."""
        code = _core.frame_types()[name]
        assert self.client.send(self.link, code, 9, payload)
        self.client.flush()
        _, _, kind, correlation, decoded = self.wait(_core.FRAME)
        assert (kind, correlation) == (code, 9)
        return decoded

    def close(self) -> None:
        """Closes both."""
        self.client.close()
        self.server.close()


@pytest.fixture
def pair() -> Any:
    """Two hubs with a link between them."""
    made = Pair()
    yield made
    made.close()


def test_frames_arrive_decoded(pair: Pair) -> None:
    lease = _core.encode_lease(SPEC, 3, 4, careful=True)
    done: list[_core.Run] = [(3, bytes(16))]
    failed = [(9, 40, "unreachable")]
    (report,) = _core.encode_slices(7, done, failed, _core.SLICES_LAST, 55)
    flags = _core.TASK_PLACED | _core.LEASE_CAREFUL
    assert pair.pass_on("SCATTER", _core.encode_scatter(SPEC)) == SPEC
    assert pair.pass_on("LEASE", lease) == (flags, 5, SPEC.hash, lease, 7, 3, 4, 10)
    assert pair.pass_on("SLICES", report) == (7, _core.SLICES_LAST, 55, done, failed, report)
    assert pair.pass_on("TRIM", _core.encode_trim(12)) == 12
    assert record_of(pair.pass_on("JOB", _core.encode_job(RECORD))) == RECORD
    assert pair.pass_on("JOB_ASK", _core.encode_job_ask(7, Ask.HOLD)) == (7, Ask.HOLD, 0)


@pytest.mark.parametrize("name", ["SCATTER", "LEASE", "SLICES", "TRIM", "JOB", "JOB_ASK"])
def test_a_malformed_frame_closes_its_link(pair: Pair, name: str) -> None:
    assert pair.client.send(pair.link, _core.frame_types()[name], 9, b"\1")
    pair.client.flush()
    closed = pair.wait(_core.CLOSED)
    assert _core.error_table()[closed[3]][0] == "PAYLOAD"
    assert closed[6] == f"malformed {name}"
