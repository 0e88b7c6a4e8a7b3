"""Files in RAM: chunks, their frames, and the entries of names; a part of `_core.pyx`.

Keys, digests and names are bytes; a claim, an entry and a place are tuples in the field order of
`velum.policy.filetypes`. What all of it means is in docs/storage.md.
"""

from cpython.buffer cimport Py_buffer, PyBuffer_FillInfo
from cpython.memoryview cimport PyMemoryView_GET_BUFFER

CHUNK_STORED = <int>c.VELUM_CHUNK_STORED
CHUNK_FETCHED = <int>c.VELUM_CHUNK_FETCHED
CHUNK_SENT = <int>c.VELUM_CHUNK_SENT
CHUNK_PART_BYTES = <int>c.VELUM_CHUNK_PART_BYTES
CHUNKS_SENDING_MAX = <int>c.VELUM_CHUNKS_SENDING_MAX
CHUNKS_WANTED_MAX = <int>c.VELUM_CHUNKS_WANTED_MAX
ANSWER_BIT = 1 << 62  # set in the correlation of an ENTRY_ASK: what comes under it is an answer

cdef enum:
    KEY_BYTES = 32
    CLAIM_HEAD_BYTES = 32 + 12 + 3


cdef int key_in(bytes key, uint8_t *out) except -1:
    if len(key) != KEY_BYTES:
        raise CoreError(c.VELUM_E_ARGUMENT, f"a key has {KEY_BYTES} bytes")
    memcpy(out, PyBytes_AS_STRING(key), KEY_BYTES)
    return 0


cdef bytes key_out(const uint8_t *key):
    return PyBytes_FromStringAndSize(<const char *>key, KEY_BYTES)


cdef tuple keys_out(const uint8_t *keys, size_t count):
    cdef size_t i
    return tuple([key_out(keys + i * KEY_BYTES) for i in range(count)])


cdef bytes encoded(const uint8_t *frame, int n):
    """A frame's payload, or the put's error."""
    if n < 0:
        raise CoreError(n)
    return PyBytes_FromStringAndSize(<const char *>frame + c.VELUM_HEADER_BYTES,
                                     n - c.VELUM_HEADER_BYTES)


def chunk_key(object data):
    """The BLAKE3 hash of a buffer's bytes: a chunk's key, or a name's digest."""
    cdef uint8_t out[KEY_BYTES]
    view = memoryview(data)
    cdef Py_buffer *b = PyMemoryView_GET_BUFFER(view)
    if not view.c_contiguous:
        raise BufferError("a chunk is one piece of memory")
    with nogil:
        c.velum_chunk_key(b.buf, b.len, out)
    return key_out(out)


# ---- bytes on their way ----

cdef class Fresh:
    """New bytes that somebody fills through the buffer of this; then they are taken. The buffer is
    writable, so nobody may write to it after that."""
    cdef bytes data

    def __cinit__(self, Py_ssize_t size):
        self.data = PyBytes_FromStringAndSize(NULL, size)
        c.velum_port_will_fill(PyBytes_AS_STRING(self.data), <size_t>size)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, PyBytes_AS_STRING(self.data), PyBytes_GET_SIZE(self.data), 0,
                          flags)

    def take(self):
        """The bytes."""
        return self.data


cdef enum:
    SPARES_MAX = 8
    SPARE_BYTES_MAX = 4 * 1024 * 1024

cdef void *spare_at[SPARES_MAX]
cdef size_t spare_size[SPARES_MAX]
cdef size_t spare_bytes = 0
cdef int spares = 0


cdef class Block:
    """Pages for bytes under way, writable; what is in them at first is anything. They are not of
    the heap, which large buffers that end in another order than they began would leave full of
    holes: a stream of chunks would take three times what it uses. MemoryError if there are none."""
    cdef void *at
    cdef size_t size

    def __cinit__(self, Py_ssize_t size):
        global spares, spare_bytes
        cdef int i
        self.size = max(1, size)
        for i in range(spares):
            if spare_size[i] == self.size:
                self.at = spare_at[i]
                spares -= 1
                spare_bytes -= self.size
                spare_at[i] = spare_at[spares]
                spare_size[i] = spare_size[spares]
                return
        self.at = c.velum_port_pages(self.size)
        if self.at == NULL:
            raise MemoryError

    def __dealloc__(self):
        global spares, spare_bytes
        if self.at == NULL:
            return
        if spares < SPARES_MAX and spare_bytes + self.size <= SPARE_BYTES_MAX:
            spare_at[spares] = self.at
            spare_size[spares] = self.size
            spares += 1
            spare_bytes += self.size
        else:
            c.velum_port_pages_free(self.at, self.size)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.at, <Py_ssize_t>self.size, 0, flags)


# ---- the chunks of a node ----

cdef class Loan:
    """A held chunk's bytes, as a read-only buffer; they stay while the loan lives."""
    cdef const uint8_t *at
    cdef size_t size
    cdef void *token

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, <void *>self.at, self.size, 1, flags)

    def __dealloc__(self):
        if self.token != NULL:
            c.velum_chunks_give_back(self.token)


cdef class Chunks:
    """A node's chunks in RAM; see `csrc/chunks.h`. Belongs to the hub's thread, and must outlive
    the hub that it was given to."""
    cdef c.velum_chunks *chunks

    def __cinit__(self, size_t budget_bytes):
        cdef int err = c.velum_chunks_open(&self.chunks, budget_bytes)
        if err < 0:
            raise CoreError(err)

    def __dealloc__(self):
        c.velum_chunks_close(self.chunks)

    def set_budget(self, size_t budget_bytes):
        """A smaller budget than what is used drops nothing."""
        c.velum_chunks_set_budget(self.chunks, budget_bytes)

    def figures(self):
        """(budget, used, reserved) in bytes, (held, arriving) chunks."""
        cdef c.velum_chunks_figures f = c.velum_chunks_get_figures(self.chunks)
        return (f.budget, f.used, f.reserved, f.count, f.arriving)

    def free_bytes(self):
        """What is left of the budget."""
        cdef c.velum_chunks_figures f = c.velum_chunks_get_figures(self.chunks)
        return max(0, f.budget - f.used - f.reserved) if f.budget > f.used + f.reserved else 0

    def reserve(self, bytes key, size_t size, uint32_t sender):
        """Room for a chunk that a link is to send: a `velum_held_state`."""
        cdef uint8_t k[KEY_BYTES]
        key_in(key, k)
        cdef int r = c.velum_chunks_reserve(self.chunks, k, size, sender)
        if r == 0:
            return c.VELUM_HELD_SEND
        if r == 1:
            return c.VELUM_HELD_HAVE
        if r == c.VELUM_E_AGAIN:
            return c.VELUM_HELD_BUSY
        if r == c.VELUM_E_CHUNK_HASH:
            return c.VELUM_HELD_BAD
        if r == c.VELUM_E_FULL or r == c.VELUM_E_NOMEM:
            return c.VELUM_HELD_FULL
        raise CoreError(r)

    def abandon(self, bytes key, uint32_t sender):
        """Gives up a sender's reservation."""
        cdef uint8_t k[KEY_BYTES]
        key_in(key, k)
        c.velum_chunks_abandon(self.chunks, k, sender)

    def abandon_all(self, uint32_t sender):
        """Gives up all reservations of a sender."""
        c.velum_chunks_abandon_all(self.chunks, sender)

    def size(self, bytes key):
        """Of a held chunk, bytes; None if it is not held."""
        cdef uint8_t k[KEY_BYTES]
        cdef size_t n
        key_in(key, k)
        return n if c.velum_chunks_get(self.chunks, k, &n) != NULL else None

    def lend(self, bytes key):
        """A held chunk's bytes as a buffer, or None."""
        cdef uint8_t k[KEY_BYTES]
        cdef Loan loan = Loan()
        key_in(key, k)
        loan.at = c.velum_chunks_lend(self.chunks, k, &loan.size, &loan.token)
        return None if loan.at == NULL else loan

    def drop(self, bytes key):
        """Frees a chunk, if it is held."""
        cdef uint8_t k[KEY_BYTES]
        key_in(key, k)
        c.velum_chunks_drop(self.chunks, k)

    def verify(self, bytes key, size_t bytes_max):
        """Hashes on: 0, call again; 1, it is right; 2, it is wrong; 3, it is not held."""
        cdef uint8_t k[KEY_BYTES]
        cdef int r
        key_in(key, k)
        with nogil:
            r = c.velum_chunks_verify(self.chunks, k, bytes_max)
        return 2 if r == c.VELUM_E_CHUNK_HASH else 3 if r == c.VELUM_E_CHUNK_MISSING else r

    def flip_bit(self, bytes key):
        """For tests: what a cosmic ray does to a held chunk. Whether it was held."""
        cdef uint8_t k[KEY_BYTES]
        cdef size_t n
        key_in(key, k)
        cdef uint8_t *at = <uint8_t *>c.velum_chunks_get(self.chunks, k, &n)
        if at == NULL:
            return False
        at[n // 2] ^= 1
        return True


# ---- HOLD, HELD, RELEASE, OFFER, CLAIMS ----

def encode_hold(bytes key, uint32_t size, object claims, bint repair=False):
    """The payload of a HOLD; at most 16 claims."""
    cdef c.velum_hold m
    cdef int i = 0
    cdef list keep = []
    cdef bytes raw
    key_in(key, m.key)
    m.size = size
    m.flags = c.VELUM_HOLD_REPAIR if repair else 0
    if not 1 <= len(claims) <= c.VELUM_CLAIMS_PER_HOLD_MAX:
        raise CoreError(c.VELUM_E_ARGUMENT, "a HOLD has 1 to 16 claims")
    m.count = <uint8_t>len(claims)
    cdef size_t room = c.VELUM_HEADER_BYTES + 64
    for digest, version, place in claims:
        key_in(digest, m.claims[i].digest)
        m.claims[i].version.stamp, m.claims[i].version.origin = version
        m.claims[i].keys = NULL
        if len(place) == 1:
            m.claims[i].k, m.claims[i].m, m.claims[i].shard = place[0], 0, 0
        else:
            m.claims[i].k, m.claims[i].m, m.claims[i].shard = place[0], place[1], place[2]
            raw = b"".join(place[3])
            if len(raw) != (m.claims[i].k + m.claims[i].m) * KEY_BYTES:
                raise CoreError(c.VELUM_E_ARGUMENT, "a stripe has k + m keys")
            keep.append(raw)
            m.claims[i].keys = <const uint8_t *>PyBytes_AS_STRING(raw)
            room += len(raw)
        room += CLAIM_HEAD_BYTES
        i += 1
    cdef uint8_t *frame = <uint8_t *>malloc(room)
    if frame == NULL:
        raise MemoryError()
    try:
        return encoded(frame, c.velum_wire_put_hold(frame, room, 0, &m))
    finally:
        free(frame)


cdef object hold_out(const uint8_t *p, size_t n):
    """(key, size, repair, ((digest, (stamp, origin), (copies,) or (k, m, index, keys)), ...))"""
    cdef c.velum_hold m
    cdef int i
    if c.velum_wire_get_hold(p, n, &m) < 0:
        return None
    claims = []
    for i in range(m.count):
        place = (m.claims[i].k,) if m.claims[i].m == 0 else (
            m.claims[i].k, m.claims[i].m, m.claims[i].shard,
            keys_out(m.claims[i].keys, m.claims[i].k + m.claims[i].m))
        claims.append((key_out(m.claims[i].digest),
                       (m.claims[i].version.stamp, m.claims[i].version.origin), place))
    return (key_out(m.key), m.size, bool(m.flags & c.VELUM_HOLD_REPAIR), tuple(claims))


def encode_held(int state, uint64_t free_bytes):
    """The payload of a HELD."""
    cdef c.velum_held m
    cdef uint8_t frame[64]
    m.state = <uint8_t>state
    m.free_bytes = free_bytes
    return encoded(frame, c.velum_wire_put_held(frame, sizeof(frame), 0, &m))


def encode_release(int how, bytes digest, object version):
    """The payload of a RELEASE."""
    cdef c.velum_release m
    cdef uint8_t frame[128]
    m.how = <uint8_t>how
    key_in(digest, m.digest)
    m.version.stamp, m.version.origin = version
    return encoded(frame, c.velum_wire_put_release(frame, sizeof(frame), 0, &m))


def encode_offer(object keys):
    """The payload of an OFFER of 1 to 1024 keys."""
    cdef bytes raw = b"".join(keys)
    cdef size_t room = c.VELUM_HEADER_BYTES + 2 + len(raw)
    cdef uint8_t *frame = <uint8_t *>malloc(room)
    if frame == NULL:
        raise MemoryError()
    try:
        return encoded(frame, c.velum_wire_put_offer(
            frame, room, 0, <const uint8_t *>PyBytes_AS_STRING(raw), len(raw) // KEY_BYTES))
    finally:
        free(frame)


def encode_offered(object states):
    """The payload of an OFFERED: a state for each key."""
    cdef bytes raw = bytes(states)
    cdef uint8_t frame[2048]
    return encoded(frame, c.velum_wire_put_offered(
        frame, sizeof(frame), 0, <const uint8_t *>PyBytes_AS_STRING(raw), len(raw)))


def encode_claimed(object states):
    """The payload of a CLAIMED: a state for each name."""
    cdef bytes raw = bytes(states)
    cdef uint8_t frame[2048]
    return encoded(frame, c.velum_wire_put_claimed(
        frame, sizeof(frame), 0, <const uint8_t *>PyBytes_AS_STRING(raw), len(raw)))


def encode_claims(object names):
    """The payload of CLAIMS: 1 to 1024 pairs (digest, (stamp, origin))."""
    cdef size_t count = len(names), i = 0
    cdef size_t room = c.VELUM_HEADER_BYTES + 2 + count * c.VELUM_CLAIM_NAME_BYTES
    cdef uint8_t *frame = <uint8_t *>malloc(room + count * c.VELUM_CLAIM_NAME_BYTES)
    cdef uint8_t *raw = frame + room
    cdef uint64_t stamp
    cdef uint32_t origin
    if frame == NULL:
        raise MemoryError()
    try:
        for digest, version in names:
            stamp, origin = version
            key_in(digest, raw + i)
            c.velum__put64(raw + i + 32, stamp)
            c.velum__put32(raw + i + 40, origin)
            i += c.VELUM_CLAIM_NAME_BYTES
        return encoded(frame, c.velum_wire_put_claims(frame, room, 0, raw, count))
    finally:
        free(frame)


# ---- ENTRY, VERSION, NAMES ----

cdef class EntryIn:
    """An entry as C takes it; it leads into bytes that are held here."""
    cdef c.velum_entry m
    cdef bytes name, body, awaited

    def __cinit__(self, object entry):
        self.name, version, keepers, manifest, self.m.age_ms, awaited = entry
        self.m.version.stamp, self.m.version.origin = version
        self.m.keepers = keepers
        self.m.name.data = PyBytes_AS_STRING(self.name)
        if len(self.name) > 0xFFFF:
            raise CoreError(c.VELUM_E_NAME)
        self.m.name.size = <uint16_t>len(self.name)
        self.awaited = b"".join([<bytes>(<int>node).to_bytes(2, "little") for node in awaited])
        if len(awaited) > c.VELUM_AWAITED_MAX:
            raise CoreError(c.VELUM_E_ARGUMENT, "too many awaited")
        self.m.nawaited = <uint8_t>len(awaited)
        self.m.awaited = <const uint8_t *>PyBytes_AS_STRING(self.awaited)
        self.m.size = 0
        self.body = b""
        if manifest is None:
            self.m.kind = c.VELUM_ENTRY_TOMBSTONE
        else:
            size, chunk_bytes, coding, keys, data = manifest
            self.m.size = size
            if chunk_bytes == 0:
                self.m.kind = c.VELUM_ENTRY_INLINE
                self.body = data
            else:
                self.m.kind = c.VELUM_ENTRY_MANIFEST
                head = (<int>chunk_bytes).to_bytes(4, "little") + bytes(coding)
                self.body = head + b"".join(keys)
        self.m.body = <const uint8_t *>PyBytes_AS_STRING(self.body)
        self.m.body_size = <uint32_t>len(self.body)

    cdef size_t room(self):
        return c.VELUM_HEADER_BYTES + 128 + len(self.name) + len(self.awaited) + len(self.body)


def encode_entry(object entry):
    """The payload of an ENTRY."""
    cdef EntryIn e = EntryIn(entry)
    cdef size_t room = e.room()
    cdef uint8_t *frame = <uint8_t *>malloc(room)
    if frame == NULL:
        raise MemoryError()
    try:
        return encoded(frame, c.velum_wire_put_entry(frame, room, 0, &e.m))
    finally:
        free(frame)


cdef object entry_out(const uint8_t *p, size_t n):
    """(name, (stamp, origin), keepers, manifest or None, age_ms, awaited), where the manifest is
    (size, chunk_bytes, (k, m), keys, data)."""
    cdef c.velum_entry m
    cdef int i
    if c.velum_wire_get_entry(p, n, &m) < 0:
        return None
    if m.kind == c.VELUM_ENTRY_TOMBSTONE:
        manifest = None
    elif m.kind == c.VELUM_ENTRY_INLINE:
        manifest = (m.size, 0, (2, 0), (),
                    PyBytes_FromStringAndSize(<const char *>m.body, m.body_size))
    else:
        manifest = (m.size, c.velum__get32(m.body), (m.body[4], m.body[5]),
                    keys_out(m.body + c.VELUM_MANIFEST_HEAD_BYTES,
                             (m.body_size - c.VELUM_MANIFEST_HEAD_BYTES) // KEY_BYTES), b"")
    return (PyBytes_FromStringAndSize(m.name.data, m.name.size),
            (m.version.stamp, m.version.origin), m.keepers, manifest, m.age_ms,
            tuple([m.awaited[2 * i] | m.awaited[2 * i + 1] << 8 for i in range(m.nawaited)]))


def decode_entry(bytes payload):
    """The entry in an ENTRY's payload."""
    return intact(entry_out(<const uint8_t *>PyBytes_AS_STRING(payload), len(payload)))


def encode_entry_ask(int how, bytes digest):
    """The payload of an ENTRY_ASK."""
    cdef uint8_t frame[64]
    cdef uint8_t d[KEY_BYTES]
    key_in(digest, d)
    return encoded(frame, c.velum_wire_put_entry_ask(frame, sizeof(frame), 0, <uint8_t>how, d))


def encode_version(int what, int kind, object version):
    """The payload of a VERSION."""
    cdef c.velum_named_version m
    cdef uint8_t frame[64]
    m.what = <uint8_t>what
    m.kind = <uint8_t>kind
    m.version.stamp, m.version.origin = version
    return encoded(frame, c.velum_wire_put_version(frame, sizeof(frame), 0, &m))


cdef object version_out(const uint8_t *p, size_t n):
    cdef c.velum_named_version m
    if c.velum_wire_get_version(p, n, &m) < 0:
        return None
    return (m.what, m.kind, (m.version.stamp, m.version.origin))


def encode_names_ask(uint16_t limit, bytes prefix, bytes after):
    """The payload of a NAMES_ASK."""
    cdef uint8_t frame[16 * 1024]
    cdef c.velum_text p, a
    text_in(prefix, &p)
    text_in(after, &a)
    return encoded(frame, c.velum_wire_put_names_ask(frame, sizeof(frame), 0, limit, p, a))


def encode_names(bint more, object rows):
    """The payload of NAMES: rows of (name, (stamp, origin), kind, care, missing, size)."""
    cdef size_t count = len(rows), i = 0, room = 64
    cdef c.velum_name_row *out = <c.velum_name_row *>malloc((count + 1) * sizeof(c.velum_name_row))
    cdef uint8_t *frame = NULL
    cdef bytes raw
    if out == NULL:
        raise MemoryError()
    try:
        for name, version, kind, care, missing, size in rows:
            raw = name
            text_in(raw, &out[i].name)
            out[i].version.stamp, out[i].version.origin = version
            out[i].kind, out[i].care, out[i].missing, out[i].size = kind, care, missing, size
            room += 64 + len(raw)
            i += 1
        frame = <uint8_t *>malloc(room)
        if frame == NULL:
            raise MemoryError()
        return encoded(frame, c.velum_wire_put_names(frame, room, 0, more, out, count))
    finally:
        free(frame)
        free(out)


cdef object names_out(const uint8_t *p, size_t n):
    """(more, [(name, (stamp, origin), kind, care, missing, size), ...])"""
    cdef c.velum_names_page m
    cdef c.velum_name_row row
    cdef int i
    cdef const uint8_t *at
    if c.velum_wire_get_names(p, n, &m) < 0:
        return None
    at = m.rows
    rows = []
    for i in range(m.count):
        row = c.velum_wire_next_name(&at)
        rows.append((PyBytes_FromStringAndSize(row.name.data, row.name.size),
                     (row.version.stamp, row.version.origin), row.kind, row.care, row.missing,
                     row.size))
    return (bool(m.more), rows)


# ---- SUMS, LISTING, LISTED ----

cdef int item_in(object item, c.velum_name_item *out) except -1:
    digest, version, out.mark = item
    key_in(digest, out.digest)
    out.version.stamp, out.version.origin = version
    return 0


cdef list items_out(const uint8_t *raw, size_t count):
    """[(digest, (stamp, origin), mark), ...]"""
    cdef c.velum_name_item item
    cdef size_t i
    out = []
    for i in range(count):
        item = c.velum_wire_name_item(raw + i * c.VELUM_NAME_ITEM_BYTES)
        out.append((key_out(item.digest), (item.version.stamp, item.version.origin), item.mark))
    return out


cdef bytes items_raw(object items):
    cdef bytes raw = PyBytes_FromStringAndSize(NULL, len(items) * c.VELUM_NAME_ITEM_BYTES)
    cdef uint8_t *at = <uint8_t *>PyBytes_AS_STRING(raw)
    cdef c.velum_name_item m
    for item in items:
        item_in(item, &m)
        c.velum_wire_put_name_item(at, &m)
        at += c.VELUM_NAME_ITEM_BYTES
    return raw


def encode_sums(object counts, object marks):
    """The payload of SUMS: 256 counts, 256 marks."""
    cdef c.velum_sums m
    cdef uint8_t frame[4096]
    cdef int i
    for i in range(c.VELUM_BUCKETS):
        m.counts[i] = counts[i]
        m.marks[i] = marks[i]
    return encoded(frame, c.velum_wire_put_sums(frame, sizeof(frame), 0, &m))


cdef object sums_out(const uint8_t *p, size_t n):
    cdef c.velum_sums m
    cdef int i
    if c.velum_wire_get_sums(p, n, &m) < 0:
        return None
    return ([m.counts[i] for i in range(c.VELUM_BUCKETS)],
            [m.marks[i] for i in range(c.VELUM_BUCKETS)])


def encode_listing(uint32_t round, object items, bytes after=b"", bytes end=b""):
    """The payload of a LISTING; of a range if `end` is not empty."""
    cdef c.velum_listing m
    cdef bytes raw = items_raw(items)
    cdef size_t room = c.VELUM_HEADER_BYTES + 128 + len(raw)
    cdef uint8_t *frame = <uint8_t *>malloc(room)
    if frame == NULL:
        raise MemoryError()
    try:
        memset(&m, 0, sizeof(m))
        m.round = round
        m.ranged = end != b""
        if m.ranged:
            key_in(after.ljust(KEY_BYTES, b"\0"), m.after)
            key_in(end, m.end)
        m.count = <uint16_t>len(items)
        m.items = <const uint8_t *>PyBytes_AS_STRING(raw)
        return encoded(frame, c.velum_wire_put_listing(frame, room, 0, &m))
    finally:
        free(frame)


cdef object listing_out(const uint8_t *p, size_t n):
    """(round, items, after, end); end b"" of one without a range."""
    cdef c.velum_listing m
    if c.velum_wire_get_listing(p, n, &m) < 0:
        return None
    return (m.round, items_out(m.items, m.count), key_out(m.after) if m.ranged else b"",
            key_out(m.end) if m.ranged else b"")


def encode_listed(uint32_t round, object held, object wanted):
    """The payload of a LISTED."""
    cdef c.velum_listed m
    cdef bytes items = items_raw(held)
    cdef bytes digests = b"".join(wanted)
    cdef size_t room = c.VELUM_HEADER_BYTES + 64 + len(items) + len(digests)
    cdef uint8_t *frame = <uint8_t *>malloc(room)
    if frame == NULL:
        raise MemoryError()
    try:
        m.round = round
        m.nheld, m.nwanted = len(held), len(wanted)
        m.held = <const uint8_t *>PyBytes_AS_STRING(items)
        m.wanted = <const uint8_t *>PyBytes_AS_STRING(digests)
        return encoded(frame, c.velum_wire_put_listed(frame, room, 0, &m))
    finally:
        free(frame)


cdef object listed_out(const uint8_t *p, size_t n):
    """(round, held items, wanted digests)"""
    cdef c.velum_listed m
    if c.velum_wire_get_listed(p, n, &m) < 0:
        return None
    return (m.round, items_out(m.held, m.nheld), keys_out(m.wanted, m.nwanted))


# ---- what a frame of files says ----

cdef object store_frame_out(uint8_t type, const uint8_t *p, size_t n):
    """None when it is malformed."""
    cdef c.velum_held held
    cdef c.velum_release release
    cdef const uint8_t *raw
    cdef size_t count, i
    cdef uint16_t limit
    cdef uint8_t how
    cdef uint8_t key[KEY_BYTES]
    cdef c.velum_text prefix, after
    if type == c.VELUM_F_HOLD:
        return hold_out(p, n)
    if type == c.VELUM_F_HELD:
        if c.velum_wire_get_held(p, n, &held) < 0:
            return None
        return (held.state, held.free_bytes)
    if type == c.VELUM_F_WANT:
        return None if c.velum_wire_get_want(p, n, key) < 0 else key_out(key)
    if type == c.VELUM_F_RELEASE:
        if c.velum_wire_get_release(p, n, &release) < 0:
            return None
        return (release.how, key_out(release.digest),
                (release.version.stamp, release.version.origin))
    if type == c.VELUM_F_OFFER:
        return None if c.velum_wire_get_offer(p, n, &raw, &count) < 0 else keys_out(raw, count)
    if type == c.VELUM_F_OFFERED or type == c.VELUM_F_CLAIMED:
        if type == c.VELUM_F_OFFERED:
            if c.velum_wire_get_offered(p, n, &raw, &count) < 0:
                return None
        elif c.velum_wire_get_claimed(p, n, &raw, &count) < 0:
            return None
        return PyBytes_FromStringAndSize(<const char *>raw, count)
    if type == c.VELUM_F_CLAIMS:
        if c.velum_wire_get_claims(p, n, &raw, &count) < 0:
            return None
        return tuple([(key_out(raw + i * c.VELUM_CLAIM_NAME_BYTES),
                       (c.velum__get64(raw + i * c.VELUM_CLAIM_NAME_BYTES + 32),
                        c.velum__get32(raw + i * c.VELUM_CLAIM_NAME_BYTES + 40)))
                      for i in range(count)])
    if type == c.VELUM_F_ENTRY:
        return entry_out(p, n)
    if type == c.VELUM_F_ENTRY_ASK:
        return None if c.velum_wire_get_entry_ask(p, n, &how, key) < 0 else (how, key_out(key))
    if type == c.VELUM_F_VERSION:
        return version_out(p, n)
    if type == c.VELUM_F_NAMES_ASK:
        if c.velum_wire_get_names_ask(p, n, &limit, &prefix, &after) < 0:
            return None
        return (limit, PyBytes_FromStringAndSize(prefix.data, prefix.size),
                PyBytes_FromStringAndSize(after.data, after.size))
    if type == c.VELUM_F_NAMES:
        return names_out(p, n)
    if type == c.VELUM_F_SUMS:
        return sums_out(p, n)
    if type == c.VELUM_F_LISTING:
        return listing_out(p, n)
    if type == c.VELUM_F_LISTED:
        return listed_out(p, n)
    return None
