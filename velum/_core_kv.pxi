"""The key-value state: a node's, whole, and one in memory alone; its frames; logs that are checked.
A part of `_core.pyx`.

A stamp is (time, node), a record (op, key, part, value, json, stamp, of, fresh, until_ms, sum), in
the words of `csrc/kv_record.h`. What all of it means is in docs/kv.md.
"""

from libc.stdlib cimport realloc

KV_ASK_MAX = <int>kc.VELUM_KV_ASK_MAX
KV_LEAVES_MAX = <int>kc.VELUM_KV_LEAVES_MAX
KV_FANOUT = <int>kc.VELUM_KV_FANOUT
KV_LEVELS = <int>kc.VELUM_KV_LEVELS
KV_WATCH_STATE = <int>kc.VELUM_KV_WATCH_STATE
KV_WATCH_STOP = <int>kc.VELUM_KV_WATCH_STOP

cdef enum:
    KV_STEP_KEYS = 1024
    KV_OUT_BYTES_MIN = 256


cdef kc.velum_kv_bytes kv_in(bytes raw):
    """Leads into `raw`, which the caller keeps."""
    cdef kc.velum_kv_bytes out
    out.data = <const uint8_t *>PyBytes_AS_STRING(raw)
    out.size = PyBytes_GET_SIZE(raw)
    return out


cdef bytes kv_out(kc.velum_kv_bytes b):
    return PyBytes_FromStringAndSize(<const char *>b.data, b.size) if b.size else b""


cdef tuple stamp_out(kc.velum_kv_stamp s):
    return (s.time, s.node)


cdef tuple record_out(const kc.velum_kv_record *r):
    return (<int>r.op, kv_out(r.key), kv_out(r.part), kv_out(r.value), bool(r.json),
            stamp_out(r.stamp), stamp_out(r.of), bool(r.fresh), r.until_ms, r.sum)


cdef class RecordIn:
    """A record as C takes it; it leads into bytes that are held here."""
    cdef kc.velum_kv_record r
    cdef bytes key, part, value

    def __cinit__(self, object record):
        (self.r.op, self.key, self.part, self.value, self.r.json, stamp, of, self.r.fresh,
         self.r.until_ms, self.r.sum) = record
        self.r.stamp.time, self.r.stamp.node = stamp
        self.r.of.time, self.r.of.node = of
        self.r.key, self.r.part, self.r.value = kv_in(self.key), kv_in(self.part), kv_in(self.value)


cdef class LineIn:
    """A record that was read from a line of the log."""
    cdef kc.velum_kv_record r
    cdef bytes memory

    def __cinit__(self, bytes line):
        cdef kc.velum_kv_line what = 0
        self.memory = PyBytes_FromStringAndSize(NULL, len(line))
        cdef size_t n = kc.velum_kv_text_get(PyBytes_AS_STRING(line), len(line),
                                            <uint8_t *>PyBytes_AS_STRING(self.memory), &what,
                                            &self.r)
        if n != <size_t>len(line) or what != kc.VELUM_KV_LINE_RECORD:
            raise CoreError(c.VELUM_E_PAYLOAD, "no line of a log")


def encode_kv_record(object record):
    """A record as a line of the log."""
    cdef RecordIn mine = RecordIn(record)
    cdef size_t room = kc.velum_kv_text_room(&mine.r)
    cdef bytes line = PyBytes_FromStringAndSize(NULL, room)
    cdef int n = kc.velum_kv_text_put(&mine.r, PyBytes_AS_STRING(line), room)
    if n < 0:
        raise CoreError(n)
    return line[:n]


def decode_kv_record(bytes line):
    """The record that a line is. CoreError PAYLOAD: it is none."""
    cdef LineIn mine = LineIn(line)
    return record_out(&mine.r)


cdef void note_record(void *owner, const kc.velum_kv_record *r) noexcept:
    (<list>owner).append(record_out(r))


cdef void note_key(void *owner, const kc.velum_kv_record *r) noexcept:
    (<set>owner).add(kv_out(r.key))


cdef void note_part(void *owner, kc.velum_kv_bytes part, kc.velum_kv_bytes value) noexcept:
    (<list>owner).append((kv_out(part), kv_out(value)))


cdef tuple sums_of(const kc.velum_kv *kv, unsigned level, uint32_t index):
    cdef uint64_t sums[kc.VELUM_KV_FANOUT]
    cdef int i
    cdef int err = kc.velum_kv_sums(kv, level, index, sums)
    if err < 0:
        raise CoreError(err)
    return tuple([sums[i] for i in range(kc.VELUM_KV_FANOUT)])


# ---- one in memory ----

cdef class KvStore:
    """Keys in memory alone; see `csrc/kv.h`: for simulations, and for what a log holds."""
    cdef kc.velum_kv *kv
    cdef kc.velum_kv_walk walk

    def __cinit__(self, size_t room_bytes):
        self.walk.place = 0
        cdef int err = kc.velum_kv_open(&self.kv, room_bytes)
        if err < 0:
            raise CoreError(err)

    def __dealloc__(self):
        kc.velum_kv_close(self.kv)

    def merge(self, object record):
        """Whether a record has changed something. CoreError ARGUMENT, STATE_FULL, NOMEM."""
        cdef RecordIn mine = RecordIn(record)
        cdef int n = kc.velum_kv_merge(self.kv, &mine.r)
        if n < 0:
            raise CoreError(n)
        return n == 1

    def look(self, bytes key):
        """(value, version, until_ms) of a key, or None: bytes, a number, a set of elements, or a
        dict of fields. A JSON value is its text."""
        cdef kc.velum_kv_view v
        cdef kc.velum_kv_type type = kc.velum_kv_look(self.kv, kv_in(key), &v)
        cdef list parts = []
        if type == kc.VELUM_KV_NOTHING:
            return None
        if type == kc.VELUM_KV_BYTES:
            value = kv_out(v.value).decode() if v.json else kv_out(v.value)
        elif type == kc.VELUM_KV_COUNTER:
            value = v.sum
        else:
            kc.velum_kv_parts(self.kv, kv_in(key), note_part, <void *>parts)
            value = dict(parts) if type == kc.VELUM_KV_FIELDS else {part for part, _ in parts}
        return (value, stamp_out(v.latest), v.until_ms)

    def sums(self, unsigned level, uint32_t index):
        """The sums of an inner node's children."""
        return sums_of(self.kv, level, index)

    def leaf(self, uint32_t leaf):
        """All records of a leaf that are in its sum."""
        cdef list out = []
        cdef int err = kc.velum_kv_leaf(self.kv, leaf, note_record, <void *>out)
        if err < 0:
            raise CoreError(err)
        return out

    def records(self, object key=None):
        """All records, or those of one key, also settled tombstones."""
        cdef list out = []
        cdef kc.velum_kv_walk walk
        walk.place = 0
        if key is not None:
            kc.velum_kv_key_records(self.kv, kv_in(key), note_record, <void *>out)
            return out
        while kc.velum_kv_step(self.kv, &walk, KV_STEP_KEYS, note_record, <void *>out):
            pass
        return out

    def keys(self):
        """All keys of which there is a record."""
        cdef set out = set()
        cdef kc.velum_kv_walk walk
        walk.place = 0
        while kc.velum_kv_step(self.kv, &walk, KV_STEP_KEYS, note_key, <void *>out):
            pass
        return out

    def mark(self, uint32_t mark):
        """What comes from now on has this age mark."""
        kc.velum_kv_mark(self.kv, mark)

    def tend(self, size_t keys_max, uint32_t settle_to, uint32_t drop_to):
        """Passes some keys on a walk that begins anew when it has passed all: (tombstones settled,
        dropped, whether this walk goes on)."""
        cdef kc.velum_kv_tended done
        memset(&done, 0, sizeof(done))
        cdef bint more = kc.velum_kv_tend(self.kv, &self.walk, keys_max, settle_to, drop_to, &done)
        if not more:
            self.walk.place = 0
        return (done.settled, done.dropped, bool(more))

    def figures(self):
        """Keys, tombstones, of these settled, bytes, room, latest stamp: a dict."""
        return kc.velum_kv_get_figures(self.kv)


# ---- a log that nobody has open ----

def kv_check(str path):
    """Reads a log, and changes nothing: {"records", "plain", "keys", "tombstones", "bytes",
    "compact_bytes", "torn_bytes", "damaged_lines", "damaged_bytes", "damaged": [(offset, bytes) of
    the first 64 lines]}. CoreError SYSTEM, NOT_FOUND, NOMEM."""
    cdef kc.velum_kv_checked report
    cdef bytes raw = path.encode()
    cdef const char *name = PyBytes_AS_STRING(raw)
    cdef size_t i
    cdef int err
    with nogil:
        err = kc.velum_kv_check(name, &report)
    if err < 0:
        raise CoreError(err, path)
    return {"records": report.found.records, "plain": report.found.plain, "keys": report.keys,
            "tombstones": report.tombstones, "bytes": report.file_bytes,
            "compact_bytes": report.compact_bytes, "torn_bytes": report.found.torn_bytes,
            "damaged_lines": report.found.damaged, "damaged_bytes": report.damaged_bytes,
            "damaged": [(report.damage[i].offset, report.damage[i].bytes)
                        for i in range(report.damage_count)]}


# ---- a node's ----

cdef struct KvOut:
    uint8_t *data
    size_t used, room


cdef uint8_t *kv_more(void *owner, size_t n) noexcept nogil:
    cdef KvOut *out = <KvOut *>owner
    cdef uint8_t *grown
    if out.room - out.used < n:
        out.room = max(2 * (out.used + n), <size_t>KV_OUT_BYTES_MIN)
        grown = <uint8_t *>realloc(out.data, out.room)
        if grown == NULL:
            out.room = out.used
            return NULL
        out.data = grown
    return out.data + out.used


cdef void kv_wrote(void *owner, size_t n) noexcept nogil:
    (<KvOut *>owner).used += n


cdef uint64_t kv_unix_ms(void *owner) noexcept nogil:
    return c.velum_port_unix_ms()


cdef class Kv:
    """A node's state, whole; see `csrc/kv_node.h`. Made by `Hub.open_kv`, ended with the hub;
    belongs to the hub's thread."""
    cdef kc.velum_kv_node *node
    cdef uint8_t *changes_room
    cdef readonly dict found  # in the log, at the start

    def __dealloc__(self):
        self.end()

    cdef int begin(self, c.velum_hub *hub, uint16_t node, size_t room_bytes, int durability,
                   object path) except -1:
        cdef kc.velum_kv_node_config config
        cdef kc.velum_kv_found found
        cdef bytes raw = b"" if path is None else path.encode()
        config.node, config.room_bytes, config.durability = node, room_bytes, durability
        config.owner, config.unix_ms = NULL, kv_unix_ms
        memset(&found, 0, sizeof(found))
        cdef int err = kc.velum_kv_node_open(&self.node, hub, &config,
                                            NULL if path is None else PyBytes_AS_STRING(raw),
                                            &found)
        if err < 0:
            raise CoreError(err, path or "")
        self.found = found
        return 0

    cdef void end(self):
        kc.velum_kv_node_close(self.node)
        self.node = NULL
        free(self.changes_room)
        self.changes_room = NULL

    cdef int check(self) except -1:
        if self.node == NULL:
            raise CoreError(c.VELUM_E_CLOSED, "this state was closed")
        return 0

    def serve(self, object address, size_t connections_max):
        """Serves the Redis protocol too; (ip, bound port)."""
        self.check()
        cdef c.velum_addr a = addr_in(address)
        cdef int err = kc.velum_kv_node_serve(self.node, connections_max, &a)
        if err < 0:
            raise CoreError(err)
        return addr_out(a)

    def join(self, c.velum_handle link, uint16_t id):
        """Pushes what is written here over this link until it ends. CoreError ARGUMENT, FULL."""
        self.check()
        cdef int err = kc.velum_kv_node_join(self.node, link, id)
        if err < 0:
            raise CoreError(err)

    def offer(self, uint16_t id):
        """A peer that is joined begins to pull."""
        self.check()
        kc.velum_kv_node_offer(self.node, id)

    def credit(self, uint16_t id):
        """It has all that was here when it last began: it counts for a quorum."""
        self.check()
        kc.velum_kv_node_credit(self.node, id)

    def part(self, c.velum_handle link):
        """Pushes nothing over this link any more, and takes no records that come on it."""
        self.check()
        kc.velum_kv_node_part(self.node, link)

    def set_members(self, size_t members):
        """How many members there are, this one included."""
        self.check()
        kc.velum_kv_node_set_members(self.node, members)

    def do(self, bytes request, uint64_t token, int durability=0, uint32_t timeout_ms=0):
        """Does one request: (reply, how durable what it wrote is, whether that is all). If it is
        not, `next` tells of `token`."""
        self.check()
        cdef KvOut out
        cdef kc.velum_resp_writer writer
        cdef size_t n = len(request)
        cdef uint8_t reached = 0
        cdef int r
        cdef uint8_t *copy = <uint8_t *>malloc(n + 1)  # it is written to
        memset(&out, 0, sizeof(out))
        memset(&writer, 0, sizeof(writer))
        writer.owner, writer.more, writer.wrote, writer.version = &out, kv_more, kv_wrote, 3
        try:
            if copy == NULL:
                raise MemoryError()
            memcpy(copy, PyBytes_AS_STRING(request), n)
            r = kc.velum_kv_node_do(self.node, <uint8_t>durability, timeout_ms, copy, n, token,
                                   &writer, &reached)
            if r < 0:
                raise CoreError(r)
            if writer.full:
                raise MemoryError()
            return (PyBytes_FromStringAndSize(<char *>out.data, out.used), reached, r == 1)
        finally:
            free(copy)
            free(out.data)

    def sync(self, uint64_t token):
        """Brings all that is merged by now to disk; `next` then tells of `token`."""
        self.check()
        cdef int err = kc.velum_kv_node_sync(self.node, token)
        if err < 0:
            raise CoreError(err)

    def next(self):
        """(token, reached) of the next request that is as durable as it will be, or None."""
        self.check()
        cdef uint64_t token = 0
        cdef uint8_t reached = 0
        return (token, reached) if kc.velum_kv_node_next(self.node, &token, &reached) else None

    def missed(self):
        """A peer that has missed a push since it was last named here, or None."""
        self.check()
        cdef uint16_t id = 0
        return id if kc.velum_kv_node_missed(self.node, &id) else None

    # what the owner's policies look at and write

    cdef const kc.velum_kv *keys(self):
        return kc.velum_kv_state_keys(kc.velum_kv_node_state(self.node))

    def sums(self, unsigned level, uint32_t index):
        """The sums of an inner node's children."""
        self.check()
        return sums_of(self.keys(), level, index)

    def version(self, bytes key):
        """(version that is visible, latest stamp of all, a tombstone's too)."""
        self.check()
        cdef kc.velum_kv_view v
        cdef kc.velum_kv_type type = kc.velum_kv_state_look(kc.velum_kv_node_state(self.node),
                                                          kv_in(key), &v)
        latest = max(stamp_out(v.base), stamp_out(v.latest), stamp_out(v.expiry))
        return (stamp_out(v.latest) if type != kc.VELUM_KV_NOTHING else (0, 0), latest)

    def stamp(self):
        """A stamp that nothing has, later than all that was made or heard here."""
        self.check()
        return stamp_out(kc.velum_kv_state_stamp(kc.velum_kv_node_state(self.node)))

    def write(self, bytes line):
        """Takes a line of the log as written here, with its stamp. CoreError as of merging, and
        NO_SPACE."""
        self.check()
        cdef LineIn mine = LineIn(line)
        cdef int err = kc.velum_kv_state_write(kc.velum_kv_node_state(self.node), &mine.r, NULL)
        if err < 0:
            raise CoreError(err)

    def hear(self, bytes line):
        """Takes a line of the log as written elsewhere. CoreError as of `write`, and
        VERSION_AHEAD."""
        self.check()
        cdef LineIn mine = LineIn(line)
        cdef int err = kc.velum_kv_state_hear(kc.velum_kv_node_state(self.node), &mine.r)
        if err < 0:
            raise CoreError(err)

    # watches of this program

    def watch(self, uint64_t watch, int flags, bytes pattern):
        """Begins or ends a watch of this program. CoreError TOO_LARGE, FULL, NOMEM."""
        self.check()
        cdef int err = kc.velum_kv_node_watch(self.node, watch, <uint8_t>flags, kv_in(pattern))
        if err < 0:
            raise CoreError(err)

    def changes(self):
        """(watch, changes that wait for it, in RESP3), or None."""
        self.check()
        cdef uint64_t watch = 0
        cdef size_t n
        if self.changes_room == NULL:
            self.changes_room = <uint8_t *>malloc(kc.VELUM_KV_WATCH_BYTES_MAX)
            if self.changes_room == NULL:
                raise MemoryError()
        n = kc.velum_kv_node_changes(self.node, &watch, self.changes_room,
                                    kc.VELUM_KV_WATCH_BYTES_MAX)
        if n == 0:
            return None
        return (watch, PyBytes_FromStringAndSize(<char *>self.changes_room, n))

    def tend(self, uint32_t settle_to, uint32_t drop_to):
        """One bounded piece of background work; whether there is more to do soon."""
        self.check()
        return bool(kc.velum_kv_node_tend(self.node, settle_to, drop_to))

    def mark(self, uint32_t mark):
        """The mark that tombstones get from now on."""
        self.check()
        kc.velum_kv_node_mark(self.node, mark)

    def settled(self):
        """The greatest `settle_to` for which all keys were passed by `tend` since."""
        self.check()
        return kc.velum_kv_node_settled(self.node)

    def figures(self):
        """`velum_kv_node_figures` as dicts."""
        self.check()
        return kc.velum_kv_node_get_figures(self.node)


# ---- frames ----

def encode_kv_do(bytes request, int durability=0, uint32_t timeout_ms=0):
    """The payload of a KV_DO."""
    cdef kc.velum_kv_do m
    cdef size_t room = c.VELUM_HEADER_BYTES + kc.VELUM_KV_DO_HEAD_BYTES + len(request)
    cdef uint8_t *frame = <uint8_t *>malloc(room)
    if frame == NULL:
        raise MemoryError()
    m.durability, m.timeout_ms = <uint8_t>durability, timeout_ms
    m.request, m.size = <const uint8_t *>PyBytes_AS_STRING(request), <uint32_t>len(request)
    try:
        return encoded(frame, kc.velum_wire_put_kv_do(frame, room, 0, &m))
    finally:
        free(frame)


def encode_kv_done(int reached, bytes reply):
    """The payload of a KV_DONE."""
    cdef kc.velum_kv_done m
    cdef size_t room = c.VELUM_HEADER_BYTES + 1 + len(reply)
    cdef uint8_t *frame = <uint8_t *>malloc(room)
    if frame == NULL:
        raise MemoryError()
    m.reached = <uint8_t>reached
    m.reply, m.size = <const uint8_t *>PyBytes_AS_STRING(reply), <uint32_t>len(reply)
    try:
        return encoded(frame, kc.velum_wire_put_kv_done(frame, room, 0, &m))
    finally:
        free(frame)


def encode_kv_watch(int flags, bytes pattern):
    """The payload of a KV_WATCH."""
    cdef kc.velum_kv_watch_ask m
    cdef uint8_t frame[2048]
    m.flags, m.pattern = <uint8_t>flags, kv_in(pattern)
    return encoded(frame, kc.velum_wire_put_kv_watch(frame, sizeof(frame), 0, &m))


cdef bytes indexes_in(object indexes, size_t most):
    cdef size_t i = 0
    if len(indexes) > most:
        raise CoreError(c.VELUM_E_ARGUMENT, f"{len(indexes)} at once, more than {most}")
    cdef bytes raw = PyBytes_FromStringAndSize(NULL, 4 * len(indexes))
    for index in indexes:
        kc.velum_wire_put_kv_index(<uint8_t *>PyBytes_AS_STRING(raw), i, <uint32_t>index)
        i += 1
    return raw


def encode_kv_ask(int level, object indexes):
    """The payload of a KV_ASK: 1 to KV_ASK_MAX inner nodes of a level."""
    cdef kc.velum_kv_nodes m
    cdef uint8_t frame[2048]
    cdef bytes raw = indexes_in(indexes, kc.VELUM_KV_ASK_MAX)
    m.level, m.count = <uint8_t>level, <uint16_t>len(indexes)
    m.items = <const uint8_t *>PyBytes_AS_STRING(raw)
    return encoded(frame, kc.velum_wire_put_kv_ask(frame, sizeof(frame), 0, &m))


def encode_kv_leaves(object leaves):
    """The payload of a KV_LEAVES: 1 to KV_LEAVES_MAX leaves."""
    cdef uint8_t frame[8192]
    cdef bytes raw = indexes_in(leaves, kc.VELUM_KV_LEAVES_MAX)
    return encoded(frame, kc.velum_wire_put_kv_leaves(
        frame, sizeof(frame), 0, <const uint8_t *>PyBytes_AS_STRING(raw), len(leaves)))


cdef object kv_frame_out(uint8_t type, const uint8_t *p, size_t n):
    """What a frame of the state says; the payload of those without a codec. None when it is
    malformed."""
    cdef kc.velum_kv_do do
    cdef kc.velum_kv_done done
    cdef kc.velum_kv_nodes nodes
    cdef kc.velum_kv_end end
    cdef uint64_t sums[kc.VELUM_KV_FANOUT]
    cdef uint32_t index
    cdef size_t i
    cdef int k
    if type == kc.VELUM_F_KV_DO:
        if kc.velum_wire_get_kv_do(p, n, &do) < 0:
            return None
        return (do.durability, do.timeout_ms,
                PyBytes_FromStringAndSize(<const char *>do.request, do.size))
    if type == kc.VELUM_F_KV_DONE:
        if kc.velum_wire_get_kv_done(p, n, &done) < 0:
            return None
        return (done.reached, PyBytes_FromStringAndSize(<const char *>done.reply, done.size))
    if type == kc.VELUM_F_KV_SUMS:
        if kc.velum_wire_get_kv_sums(p, n, &nodes) < 0:
            return None
        out = []
        for i in range(nodes.count):
            index = kc.velum_wire_kv_sum(nodes.items, i, sums)
            out.append((index, tuple([sums[k] for k in range(kc.VELUM_KV_FANOUT)])))
        return (nodes.level, out)
    if type == kc.VELUM_F_KV_END:
        if kc.velum_wire_get_kv_end(p, n, &end) < 0:
            return None
        return (end.records, bool(end.whole))
    return PyBytes_FromStringAndSize(<const char *>p, n)
