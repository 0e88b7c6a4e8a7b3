"""Jobs, leases and slices of a scatter; a part of `_core.pyx`, kept apart for its length.

A spec and a record are tuples in the field order of `velum.policy.job.Spec` and `Record`. Values
of slices stay bytes, 8 a value, little-endian: nothing here makes Python numbers of them. What all
of it means is in docs/scatter.md.
"""

LEASE_CAREFUL = <int>c.VELUM_LEASE_CAREFUL
SLICES_LAST = <int>c.VELUM_SLICES_LAST
SLICES_MAX = <int>c.VELUM_SLICES_MAX
REPORT_MS = <int>c.VELUM_REPORT_MS

cdef enum:
    VALUE_BYTES = 8
    SPEC_FRAME_BYTES = 2048  # more than SCATTER and LEASE may have
    SLICES_PART_BYTES = 256 * 1024  # of one payload, so that no other frame waits long behind it
    # More than a payload of SLICES has beside values: its head; a run's head; a failure with text.
    SLICES_HEAD_BYTES = 64
    RUN_HEAD_BYTES = 8
    FAILURE_BYTES = 8 + 255
    RECORD_HEAD_BYTES = 2048  # more than a JOB has beside its shares


cdef object refused(object error):
    """What a field that does not fit its C type is answered with."""
    return CoreError(c.VELUM_E_ARGUMENT, str(error))


cdef int bits_in(object pair, c.velum_value *v) except -1:
    v.type, v.bits = pair
    return 0


cdef tuple bits_out(const c.velum_value *v):
    return (v.type, v.bits)


cdef int hash_in(bytes hash, uint8_t *out) except -1:
    if len(hash) != c.VELUM_HASH_BYTES:
        raise CoreError(c.VELUM_E_ARGUMENT, f"a hash has {c.VELUM_HASH_BYTES} bytes")
    memcpy(out, PyBytes_AS_STRING(hash), c.VELUM_HASH_BYTES)
    return 0


cdef int arguments_in(object pairs, uint8_t *count, c.velum_value *out) except -1:
    cdef int i = 0
    if len(pairs) > c.VELUM_ARGS_MAX:
        raise CoreError(c.VELUM_E_ARGUMENT, f"more than {c.VELUM_ARGS_MAX} arguments")
    for pair in pairs:
        bits_in(pair, &out[i])
        i += 1
    count[0] = <uint8_t>i
    return 0


# ---- SCATTER and LEASE ----

cdef tuple scatter_in(object spec, c.velum_scatter *m):
    """Fills m; it leads into the texts that are returned."""
    (m.job, m.flags, m.reduce, m.priority, m.result, m.slices, m.timeout_ms, m.limit_ms, m.fuel,
     m.pages, m.missing, m.created_ms, hash, function, label, args) = spec
    hash_in(hash, m.hash)
    arguments_in(args, &m.nargs, m.args)
    # A name that is too long is an error; a label is for people, and cut.
    texts = (text_bytes(function, 0xFFFF), text_bytes(label, c.VELUM_NAME_BYTES_MAX))
    text_in(texts[0], &m.name)
    text_in(texts[1], &m.label)
    return texts


cdef object scatter_out(const uint8_t *p, size_t n):
    """A spec; None when it is malformed."""
    cdef c.velum_scatter m
    cdef int i
    if c.velum_wire_get_scatter(p, n, &m) < 0:
        return None
    return (m.job, m.flags, m.reduce, m.priority, m.result, m.slices, m.timeout_ms, m.limit_ms,
            m.fuel, m.pages, m.missing, m.created_ms,
            PyBytes_FromStringAndSize(<const char *>m.hash, c.VELUM_HASH_BYTES), text_out(m.name),
            text_out(m.label), tuple([bits_out(&m.args[i]) for i in range(m.nargs)]))


def encode_scatter(object spec):
    """The payload of a SCATTER. CoreError ARGUMENT when a field is out of its range."""
    cdef c.velum_scatter m
    cdef uint8_t frame[SPEC_FRAME_BYTES]
    try:
        texts = scatter_in(spec, &m)
    except OverflowError as error:
        raise refused(error) from None
    return payload_out(frame, c.velum_wire_put_scatter(frame, sizeof(frame), 0, &m))


def decode_scatter(bytes payload):
    """The spec in a SCATTER's payload."""
    return intact(scatter_out(<const uint8_t *>PyBytes_AS_STRING(payload), len(payload)))


def encode_lease(object spec, object first, object count, bint careful=False):
    """The payload of a LEASE of slices [first, first + count) of a job."""
    cdef c.velum_scatter job
    cdef c.velum_lease m
    cdef uint8_t frame[SPEC_FRAME_BYTES]
    try:
        texts = scatter_in(spec, &job)
        m.first = first
        m.count = count
    except OverflowError as error:
        raise refused(error) from None
    m.task.flags = c.VELUM_TASK_PLACED | (c.VELUM_LEASE_CAREFUL if careful else 0)
    m.task.timeout_ms = job.timeout_ms
    m.task.fuel = job.fuel
    m.task.pages = job.pages
    memcpy(m.task.hash, job.hash, sizeof(job.hash))
    m.task.name = job.name
    m.task.nargs = job.nargs
    memcpy(m.task.args, job.args, sizeof(job.args))
    m.job = job.job
    m.slices = job.slices
    m.priority = job.priority
    return payload_out(frame, c.velum_wire_put_lease(frame, sizeof(frame), 0, &m))


def trim_lease(bytes payload, object end):
    """A LEASE's payload without the slices from `end` on; None when nothing is left."""
    cdef c.velum_lease m
    cdef uint8_t frame[SPEC_FRAME_BYTES]
    cdef int n = c.velum_wire_get_lease(<const uint8_t *>PyBytes_AS_STRING(payload),
                                        len(payload), &m)
    if n < 0:
        raise CoreError(n)
    if end <= m.first:
        return None
    if end >= m.first + m.count:
        return payload
    m.count = end - m.first
    return payload_out(frame, c.velum_wire_put_lease(frame, sizeof(frame), 0, &m))


cdef object lease_out(const uint8_t *p, size_t n):
    cdef c.velum_lease m
    if c.velum_wire_get_lease(p, n, &m) < 0:
        return None
    return (m.task.flags, m.task.timeout_ms,
            PyBytes_FromStringAndSize(<const char *>m.task.hash, c.VELUM_HASH_BYTES),
            PyBytes_FromStringAndSize(<const char *>p, n), m.job, m.first, m.count, m.priority)


def slice_bounds(object start, object end, uint32_t slices, uint32_t index,
                 int type=c.VELUM_I64):
    """Where slice `index` of `slices` of [start, end) begins and ends, as the core has it."""
    cdef c.velum_value bounds[4]
    value_in(start, type, &bounds[0])
    value_in(end, type, &bounds[1])
    if start > end or index >= slices or slices > c.VELUM_SLICES_MAX:
        raise CoreError(c.VELUM_E_ARGUMENT, f"slice {index} of {slices} of {start}..{end}")
    c.velum_slice_bounds(bounds[0], bounds[1], slices, index, &bounds[2], &bounds[3])
    return (value_out(&bounds[2]), value_out(&bounds[3]))


# ---- SLICES and TRIM ----

cdef class SlicesParts:
    """Payloads of SLICES as they are filled: when one is full, the next is begun."""
    cdef c.velum_slices_writer writer
    cdef uint8_t *frame
    cdef size_t cap
    cdef uint64_t job
    cdef list done

    def __cinit__(self, uint64_t job, size_t bytes_expected):
        self.job = job
        self.done = []
        self.cap = c.VELUM_HEADER_BYTES + min(bytes_expected, <size_t>SLICES_PART_BYTES)
        self.frame = <uint8_t *>malloc(self.cap)
        if self.frame == NULL:
            raise MemoryError()
        self.begin()

    def __dealloc__(self):
        free(self.frame)

    cdef int begin(self) except -1:
        cdef int err = c.velum_wire_slices_begin(&self.writer, self.frame, self.cap, self.job)
        if err < 0:
            raise CoreError(err)
        return 0

    cdef int end(self, uint8_t flags, uint32_t busy_us) except -1:
        self.done.append(payload_out(self.frame, c.velum_wire_slices_end(&self.writer, 0, flags,
                                                                         busy_us)))
        return 0

    cdef int next(self, int err) except -1:
        """Makes room after FULL; raises any other error."""
        if err != c.VELUM_E_FULL:
            raise CoreError(err)
        self.end(0, 0)
        return self.begin()

    cdef int run(self, uint32_t first, const uint8_t *values, size_t count) except -1:
        cdef size_t i
        cdef uint64_t value
        cdef int err
        for i in range(count):
            value = c.velum__get64(values + i * VALUE_BYTES)
            err = c.velum_wire_slices_add(&self.writer, first + <uint32_t>i, value)
            if err < 0:
                self.next(err)
                err = c.velum_wire_slices_add(&self.writer, first + <uint32_t>i, value)
                if err < 0:
                    raise CoreError(err)
        return 0

    cdef int fail(self, uint32_t slice, uint16_t code, c.velum_text text) except -1:
        cdef int err = c.velum_wire_slices_fail(&self.writer, slice, code, text)
        if err < 0:
            self.next(err)
            err = c.velum_wire_slices_fail(&self.writer, slice, code, text)
            if err < 0:
                raise CoreError(err)
        return 0


def encode_slices(object job, object runs, object failures, object flags=0, object busy_us=0):
    """Payloads of SLICES, one or several of at most 256 KiB; the last has `flags` and `busy_us`.

    `runs` are (first slice, bytes of values), `failures` (slice, code, text); both ascend. A text
    is cut at 255 bytes. CoreError ARGUMENT for anything else.
    """
    cdef c.velum_text text
    cdef SlicesParts parts
    cdef bytes values, raw
    cdef size_t size = SLICES_HEAD_BYTES + FAILURE_BYTES * <size_t>len(failures)
    for first, values in runs:
        if len(values) == 0 or len(values) % VALUE_BYTES != 0:
            raise CoreError(c.VELUM_E_ARGUMENT, f"a run of {len(values)} bytes of values")
        if not 0 <= first <= c.VELUM_SLICES_MAX - len(values) // VALUE_BYTES:
            raise CoreError(c.VELUM_E_ARGUMENT, f"a run that begins with slice {first}")
        size += RUN_HEAD_BYTES + <size_t>len(values)
    try:
        parts = SlicesParts(job, size)
        for first, values in runs:
            parts.run(first, <const uint8_t *>PyBytes_AS_STRING(values),
                      len(values) // VALUE_BYTES)
        for slice, code, words in failures:
            raw = text_bytes(words, c.VELUM_TEXT_BYTES_MAX)
            text_in(raw, &text)
            parts.fail(slice, code, text)
        parts.end(flags, busy_us)
    except OverflowError as error:
        raise refused(error) from None
    return parts.done


cdef object slices_out(const uint8_t *p, size_t n):
    """(job, flags, busy_us, runs, failures); None when they are malformed."""
    cdef c.velum_slices m
    cdef c.velum_slice_run run
    cdef c.velum_failed failed
    cdef int i
    if c.velum_wire_get_slices(p, n, &m) < 0:
        return None
    runs = []
    for i in range(m.nruns):
        run = c.velum_wire_next_run(&m.runs)
        runs.append((run.first, PyBytes_FromStringAndSize(<const char *>run.values,
                                                          <Py_ssize_t>run.count * VALUE_BYTES)))
    failures = []
    for i in range(m.nfailed):
        failed = c.velum_wire_next_failed(&m.failed)
        failures.append((failed.slice, failed.code, text_out(failed.text)))
    return (m.job, m.flags, m.busy_us, runs, failures)


def decode_slices(bytes payload):
    """(job, flags, busy_us, runs, failures) of a SLICES' payload, as encode_slices takes them."""
    return intact(slices_out(<const uint8_t *>PyBytes_AS_STRING(payload), len(payload)))


def encode_trim(object end):
    """The payload of a TRIM."""
    cdef uint8_t frame[64]
    try:
        return payload_out(frame, c.velum_wire_put_trim(frame, sizeof(frame), 0, end))
    except OverflowError as error:
        raise refused(error) from None


# ---- JOB and JOB_ASK ----

cdef tuple shares_out(const c.velum_job *m):
    cdef c.velum_share share
    cdef uint16_t i
    shares = []
    for i in range(m.nshares):
        share = c.velum_wire_share(m, i)
        shares.append((share.node, share.leases, share.done, share.busy_ms))
    return tuple(shares)


cdef object job_out(const uint8_t *p, size_t n):
    """A record; None when it is malformed."""
    cdef c.velum_job m
    cdef int i
    if c.velum_wire_get_job(p, n, &m) < 0:
        return None
    return (m.job, m.attempt, m.state, m.epoch, m.coordinator, m.sequence, m.slices, m.done,
            m.failed, m.checksum, m.elapsed_ms, m.retries, m.duplicates, m.code, text_out(m.text),
            bits_out(&m.answer) if m.nanswers else None,
            tuple([m.holders[i] for i in range(m.nholders)]), shares_out(&m))


cdef tuple job_in(object record, c.velum_job *m):
    """Fills m; it leads into the bytes that are returned."""
    cdef c.velum_share share
    cdef int i = 0
    (m.job, m.attempt, m.state, m.epoch, m.coordinator, m.sequence, m.slices, m.done, m.failed,
     m.checksum, m.elapsed_ms, m.retries, m.duplicates, m.code, text, answer, holders,
     shares) = record
    m.nanswers = 0 if answer is None else 1
    if answer is not None:
        bits_in(answer, &m.answer)
    if len(holders) > c.VELUM_HOLDERS_MAX:
        raise CoreError(c.VELUM_E_ARGUMENT, f"more than {c.VELUM_HOLDERS_MAX} holders")
    for holder in holders:
        m.holders[i] = holder
        i += 1
    m.nholders = <uint8_t>i
    if len(shares) > 0xFFFF:
        raise CoreError(c.VELUM_E_ARGUMENT, "more shares than there can be nodes")
    m.nshares = <uint16_t>len(shares)
    room = PyBytes_FromStringAndSize(NULL, len(shares) * c.VELUM_SHARE_BYTES)
    m.shares = <const uint8_t *>PyBytes_AS_STRING(room)
    i = 0
    for share.node, share.leases, share.done, share.busy_ms in shares:
        c.velum_wire_put_share(<uint8_t *>m.shares + i, &share)
        i += c.VELUM_SHARE_BYTES
    raw = text_bytes(text, c.VELUM_TEXT_BYTES_MAX)
    text_in(raw, &m.text)
    return (raw, room)


def encode_job(object record):
    """The payload of a JOB. CoreError ARGUMENT when a field is out of its range."""
    cdef c.velum_job m
    cdef size_t size
    try:
        held = job_in(record, &m)
    except OverflowError as error:
        raise refused(error) from None
    size = RECORD_HEAD_BYTES + m.nshares * <size_t>c.VELUM_SHARE_BYTES
    cdef uint8_t *frame = <uint8_t *>malloc(size)
    if frame == NULL:
        raise MemoryError()
    try:
        return payload_out(frame, c.velum_wire_put_job(frame, size, 0, &m))
    finally:
        free(frame)


def decode_job(bytes payload):
    """The record in a JOB's payload."""
    return intact(job_out(<const uint8_t *>PyBytes_AS_STRING(payload), len(payload)))


def encode_job_ask(object job, object ask, object flags=0):
    """The payload of a JOB_ASK."""
    cdef c.velum_job_ask m
    cdef uint8_t frame[64]
    try:
        m.job, m.ask, m.flags = job, ask, flags
    except OverflowError as error:
        raise refused(error) from None
    return payload_out(frame, c.velum_wire_put_job_ask(frame, sizeof(frame), 0, &m))


# ---- frames that came ----

cdef object intact(object decoded):
    """What was decoded, which is not None."""
    if decoded is None:
        raise CoreError(c.VELUM_E_PAYLOAD)
    return decoded


cdef object job_frame_out(uint8_t type, const uint8_t *p, size_t n):
    """A frame of scatter as Python values; None when it is malformed, or another's."""
    cdef c.velum_job_ask ask
    cdef uint32_t end
    if type == c.VELUM_F_SLICES:
        decoded = slices_out(p, n)
        if decoded is None:
            return None
        return (*decoded, PyBytes_FromStringAndSize(<const char *>p, n))
    if type == c.VELUM_F_LEASE:
        return lease_out(p, n)
    if type == c.VELUM_F_JOB:
        return job_out(p, n)
    if type == c.VELUM_F_SCATTER:
        return scatter_out(p, n)
    if type == c.VELUM_F_TRIM:
        return None if c.velum_wire_get_trim(p, n, &end) < 0 else end
    if type == c.VELUM_F_JOB_ASK:
        if c.velum_wire_get_job_ask(p, n, &ask) < 0:
            return None
        return (ask.job, ask.ask, ask.flags)
    return None
