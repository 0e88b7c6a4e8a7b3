# cython: language_level=3, boundscheck=False, wraparound=False
"""The binding: the C core's hub, codec and validator as Python objects.

Owns the translation between C structs and plain Python tuples and numbers, in both directions.
Refuses to know members, schedulers and tasks. Works by one `Hub` a thread: `poll` sleeps without
the interpreter lock and returns what happened as tuples whose first item is a kind (OPENED,
CLOSED, ...); nothing in C calls back into Python. The types of every tuple are in `_core.pyi`.
"""

from cpython.exc cimport PyErr_CheckSignals
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.pythread cimport (
    NOWAIT_LOCK, WAIT_LOCK, PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock,
    PyThread_release_lock, PyThread_type_lock)
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from velum cimport _core_c as c
from velum cimport _core_kv_c as kc

OPENED = 1
CLOSED = 2
FRAME = 3
DATAGRAM = 4
MODULE = 5
WAKE = 6
RESULTS = 7
CHUNK = 8
NAMED = 9

C_VERSION = (<bytes>c.VELUM_VERSION).decode()
WIRE_VERSION = <int>c.VELUM_WIRE_VERSION
MODULE_BYTES_MAX = <int>c.VELUM_MODULE_BYTES_MAX
GUEST_PAGES_MAX = <int>c.VELUM_GUEST_PAGES_MAX
NAME_BYTES_MAX = <int>c.VELUM_NAME_BYTES_MAX
ARGS_MAX = <int>c.VELUM_ARGS_MAX
TASK_PLACED = <int>c.VELUM_TASK_PLACED

cdef enum:
    EVENTS = 1024


class CoreError(Exception):
    """A negative `velum_err` of the C core. Attributes: `code` (positive number)."""

    def __init__(self, int err, str detail=""):
        self.code = -err
        text = c.velum_strerror(err).decode()
        super().__init__(f"{text}: {detail}" if detail else text)


def error_table():
    """Every error of the core: {code (positive): (NAME, text)}."""
    table = {}
    for code in range(1, 256):
        name = c.velum_errname(-code).decode()
        if name != "UNKNOWN":
            table[code] = (name, c.velum_strerror(-code).decode())
    return table


def frame_types():
    """Every frame and datagram type of the core: {NAME: code}."""
    names = {}
    for code in range(256):
        if c.velum_wire_limit(<uint8_t>code) >= 0:
            names[c.velum_wire_name(<uint8_t>code).decode()] = code
    return names


def builtin_names():
    """The names of the functions that every node has."""
    names = []
    cdef size_t index = 0
    while c.velum_builtin_name(index) != NULL:
        names.append(c.velum_builtin_name(index).decode())
        index += 1
    return names


include "_core_values.pxi"
include "_core_resp.pxi"

include "_core_members.pxi"
include "_core_jobs.pxi"
include "_core_names.pxi"
include "_core_store.pxi"
include "_core_kv.pxi"

# ---- the hub ----

cdef void open_door(void *door) noexcept nogil:
    PyThread_release_lock(<PyThread_type_lock>door)


cdef void close_door(void *door) noexcept nogil:
    PyThread_acquire_lock(<PyThread_type_lock>door, WAIT_LOCK)



cdef class Hub:
    """A node's connections; see `csrc/hub.h`. Everything but `wake` belongs to one thread, which
    polls. While it sleeps another may `enter` and use the hub as its own until it calls `leave`."""
    cdef c.velum_hub *hub
    cdef PyThread_type_lock door  # free while a poll sleeps
    cdef c.velum_event *events
    cdef object store  # what the hub was given of it, so that it lives as long
    cdef Kv kv  # ends with the hub
    cdef dict lent  # (link, correlation): memory that a chunk is sent from or fetched to
    cdef dict sent  # correlation: Sent, an entry that several links were sent

    def __cinit__(self, *, uint16_t links_max=256, size_t module_bytes=c.VELUM_MODULE_CACHE_BYTES,
                  bint answer_calls=True, size_t watches=0):
        cdef c.velum_hub_config config
        config.links_max = links_max
        config.module_bytes = module_bytes
        config.answer_calls = answer_calls
        config.watches = watches
        self.lent = {}
        self.sent = {}
        self.events = <c.velum_event *>malloc(EVENTS * sizeof(c.velum_event))
        if self.events == NULL:
            raise MemoryError()
        cdef int err = c.velum_hub_open(&self.hub, &config)
        if err < 0:
            raise CoreError(err)
        self.door = PyThread_allocate_lock()
        if self.door == NULL or not PyThread_acquire_lock(self.door, NOWAIT_LOCK):
            raise MemoryError()
        cdef c.velum_loop_door door
        door.owner, door.open, door.close = self.door, open_door, close_door
        err = c.velum_loop_set_door(c.velum_hub_loop(self.hub), &door)
        if err < 0:
            raise CoreError(err)

    def __dealloc__(self):
        self.close()
        free(self.events)
        if self.door != NULL:
            PyThread_free_lock(self.door)

    def enter(self):
        """Whether a poll sleeps, and the hub is now this thread's: until `leave`, soon, and without
        a poll of its own."""
        return self.hub != NULL and PyThread_acquire_lock(self.door, NOWAIT_LOCK) != 0

    def leave(self):
        """What was queued leaves, and the hub is the sleeper's again."""
        cdef bint due = c.velum_hub_turn(self.hub)
        PyThread_release_lock(self.door)
        if due:
            c.velum_hub_wake(self.hub)

    def turn(self):
        """What was queued leaves; whether there is more for a poll to do."""
        self.check()
        return bool(c.velum_hub_turn(self.hub))

    def close(self):
        """Closes every link and socket; the hub answers CLOSED to all else afterwards."""
        if self.hub != NULL:
            if self.kv is not None:
                self.kv.end()
            c.velum_hub_close(self.hub)
            self.hub = NULL
            self.lent.clear()
            self.sent.clear()

    cdef int check(self) except -1:
        if self.hub == NULL:
            raise CoreError(c.VELUM_E_CLOSED, "this hub was closed")
        return 0

    def identity(self, *, int role, int slots=0, int id=0, uint64_t incarnation=0,
                 object address=(0, 0), bytes version=b""):
        """What this side's HELLO says."""
        cdef c.velum_hello hello
        self.check()
        memset(&hello, 0, sizeof(hello))
        hello.role, hello.slots, hello.id = role, slots, id
        hello.incarnation = incarnation
        hello.addr = addr_in(address)
        hello.version.data = PyBytes_AS_STRING(version)
        hello.version.size = <uint16_t>len(version)
        cdef int err = c.velum_hub_identity(self.hub, &hello)
        if err < 0:
            raise CoreError(err)

    def health(self, object health):
        """What answers made in C report of this node's load."""
        cdef c.velum_health h
        self.check()
        health_in(health, &h)
        cdef int err = c.velum_hub_health(self.hub, &h)
        if err < 0:
            raise CoreError(err)

    def listen(self, object address):
        """Listens; returns (ip, bound port). CoreError ADDRESS_IN_USE, UNREACHABLE, SYSTEM."""
        self.check()
        cdef c.velum_addr a = addr_in(address)
        cdef int err = c.velum_hub_listen(self.hub, &a)
        if err < 0:
            raise CoreError(err)
        return addr_out(a)

    def serve(self, object address):
        """Listens, and opens a datagram socket on the same port: (index, (ip, bound port)). As
        listen and udp; after an error neither is open."""
        self.check()
        cdef c.velum_addr a = addr_in(address)
        cdef uint8_t index = 0
        cdef int err = c.velum_hub_serve(self.hub, &a, &index)
        if err < 0:
            raise CoreError(err)
        return (index, addr_out(a))

    def dial(self, object address, uint64_t token=0):
        """Starts a connection; its handle. Ends in an OPENED or CLOSED event with the token."""
        self.check()
        cdef c.velum_addr a = addr_in(address)
        cdef c.velum_handle handle = 0
        cdef int err = c.velum_hub_dial(self.hub, &a, token, &handle)
        if err < 0:
            raise CoreError(err)
        return handle

    def dial_bulk(self, object address, uint64_t token=0):
        """As dial, for a link for files."""
        self.check()
        cdef c.velum_addr a = addr_in(address)
        cdef c.velum_handle handle = 0
        cdef int err = c.velum_hub_dial_bulk(self.hub, &a, token, &handle)
        if err < 0:
            raise CoreError(err)
        return handle

    def adopt(self, int fd, uint64_t token=0):
        """Takes over a connected stream socket (the hub closes it); its handle."""
        self.check()
        cdef c.velum_handle handle = 0
        cdef int err = c.velum_hub_adopt(self.hub, fd, token, &handle)
        if err < 0:
            raise CoreError(err)
        return handle

    def accept(self, c.velum_handle handle):
        """Lets an accepted link in; False when it is gone already."""
        self.check()
        return c.velum_hub_accept(self.hub, handle) == 0

    def drop(self, c.velum_handle handle, int code=0, str text=""):
        """Says BYE and closes; no CLOSED event follows."""
        self.check()
        cdef bytes raw = text.encode()
        c.velum_hub_drop(self.hub, handle, <uint16_t>code, raw)

    def udp(self, object address, bint shared=False):
        """Opens a datagram socket: (index, (ip, bound port))."""
        self.check()
        cdef c.velum_addr a = addr_in(address)
        cdef uint8_t index = 0
        cdef int err = c.velum_hub_udp(self.hub, &a, shared, &index)
        if err < 0:
            raise CoreError(err)
        return (index, addr_out(a))

    def udp_send(self, uint8_t index, object address, object datagram):
        """Sends one datagram tuple; False when it could not leave now (it is lost)."""
        cdef c.velum_datagram d
        self.check()
        datagram_in(datagram, &d)
        cdef c.velum_addr a = addr_in(address)
        return c.velum_hub_udp_send(self.hub, index, &a, &d) >= 0

    cdef bint send_payload(self, c.velum_handle handle, uint8_t type, uint64_t correlation,
                           const char *payload, size_t n):
        cdef uint8_t *room = c.velum_hub_reserve(self.hub, handle, c.VELUM_HEADER_BYTES + n)
        if room == NULL:
            return False
        c.velum_wire_put_header(room, type, <uint32_t>n, correlation)
        if n > 0:
            memcpy(room + c.VELUM_HEADER_BYTES, payload, n)
        c.velum_hub_commit(self.hub, handle, c.VELUM_HEADER_BYTES + n)
        return True

    def send(self, c.velum_handle handle, uint8_t type, uint64_t correlation, bytes payload):
        """Queues one frame; False when the link is gone or its queue is full."""
        self.check()
        if len(payload) > c.velum_wire_limit(type):
            raise CoreError(c.VELUM_E_FRAME_LENGTH, c.velum_wire_name(type).decode())
        return self.send_payload(handle, type, correlation, PyBytes_AS_STRING(payload),
                                 len(payload))

    def send_tasks(self, c.velum_handle handle, list tasks):
        """Queues (type, correlation, payload) frames in order; how many were taken."""
        self.check()
        cdef int done = 0
        cdef bytes payload
        for task in tasks:
            payload = <bytes>task[2]
            if not self.send_payload(handle, task[0], task[1], PyBytes_AS_STRING(payload),
                                     PyBytes_GET_SIZE(payload)):
                break
            done += 1
        return done

    def send_result(self, c.velum_handle handle, uint64_t correlation, int node,
                    bytes payload, object health):
        """Passes a RESULT's payload on as this node's: with its id and health."""
        cdef c.velum_result m
        cdef uint8_t frame[2048]
        self.check()
        cdef int n = c.velum_wire_get_result(<const uint8_t *>PyBytes_AS_STRING(payload),
                                             len(payload), &m)
        if n < 0:
            raise CoreError(n)
        m.node = <uint16_t>node
        health_in(health, &m.health)
        n = c.velum_wire_put_result(frame, sizeof(frame), correlation, &m)
        return n > 0 and c.velum_hub_send(self.hub, handle, frame, n) == 0

    def send_value(self, c.velum_handle handle, uint64_t correlation, int node, object value,
                   object health):
        """Answers a task with a number made here (int as i64, float as f64, None for none)."""
        cdef c.velum_result m
        cdef uint8_t frame[2048]
        self.check()
        memset(&m, 0, sizeof(m))
        m.node = <uint16_t>node
        health_in(health, &m.health)
        if value is not None:
            value_in(value, 0, &m.values[0])
            m.nvalues = 1
        cdef int n = c.velum_wire_put_result(frame, sizeof(frame), correlation, &m)
        return n > 0 and c.velum_hub_send(self.hub, handle, frame, n) == 0

    def send_error(self, c.velum_handle handle, uint64_t correlation, int code, int node,
                   int deaths=0, str text=""):
        """Answers a task with an error (positive code)."""
        cdef c.velum_error m
        cdef uint8_t frame[2048]
        self.check()
        cdef bytes raw = text_bytes(text, c.VELUM_TEXT_BYTES_MAX)
        m.code = <uint16_t>code
        m.node = <uint16_t>node
        m.deaths = <uint8_t>min(deaths, 255)
        text_in(raw, &m.text)
        cdef int n = c.velum_wire_put_error(frame, sizeof(frame), correlation, &m)
        return n > 0 and c.velum_hub_send(self.hub, handle, frame, n) == 0

    def send_cancel(self, c.velum_handle handle, uint64_t correlation, int code):
        """Asks the other side to end a task with this error (positive code)."""
        cdef uint8_t frame[64]
        self.check()
        cdef int n = c.velum_wire_put_cancel(frame, sizeof(frame), correlation, <uint16_t>code)
        return n > 0 and c.velum_hub_send(self.hub, handle, frame, n) == 0

    def send_query(self, c.velum_handle handle, uint64_t correlation, str topic):
        """Asks for "nodes" or "status"; an ANSWER frame follows."""
        cdef uint8_t frame[512]
        cdef bytes raw = topic.encode()
        cdef c.velum_text t
        self.check()
        text_in(raw, &t)
        cdef int n = c.velum_wire_put_query(frame, sizeof(frame), correlation, t)
        return n > 0 and c.velum_hub_send(self.hub, handle, frame, n) == 0

    def send_sync(self, c.velum_handle handle, uint64_t correlation, bint reply, object records):
        """Sends the full state: an iterable of (member tuple, health tuple), this node first."""
        self.check()
        records = list(records)
        cdef size_t count = len(records), i = 0
        cdef c.velum_member *members
        cdef c.velum_health *healths
        cdef size_t size = c.VELUM_HEADER_BYTES + 2 + count * (
            c.VELUM_MEMBER_BYTES + c.VELUM_HEALTH_BYTES)
        cdef uint8_t type = c.VELUM_F_SYNC_REPLY if reply else c.VELUM_F_SYNC
        members = <c.velum_member *>malloc((count + 1) * sizeof(c.velum_member))
        healths = <c.velum_health *>malloc((count + 1) * sizeof(c.velum_health))
        cdef uint8_t *frame = <uint8_t *>malloc(size)
        cdef int n
        try:
            if members == NULL or healths == NULL or frame == NULL:
                raise MemoryError()
            for member, health in records:
                member_in(member, &members[i])
                health_in(health, &healths[i])
                i += 1
            n = c.velum_wire_put_sync(frame, size, type, correlation, members, healths, count)
            return n > 0 and c.velum_hub_send(self.hub, handle, frame, n) == 0
        finally:
            free(members)
            free(healths)
            free(frame)

    # state

    def open_kv(self, uint16_t node, size_t room_bytes, int durability, object path=None):
        """The key-value state of this node, with its log at `path`; once. Its frames are served
        from now on. CoreError LOCKED, NO_SPACE, STATE_FULL, SYSTEM, NOT_FOUND, NOMEM."""
        self.check()
        if self.kv is not None:
            raise CoreError(c.VELUM_E_ARGUMENT, "this hub has a state already")
        cdef Kv kv = Kv()
        kv.begin(self.hub, node, room_bytes, durability, path)
        self.kv = kv
        return kv

    # files

    def set_store(self, Chunks chunks, Names names):
        """From now on the hub stores chunks that are reserved, and answers WANT, ENTRY, ENTRY_ASK
        and CLAIMS itself."""
        self.check()
        self.store = (chunks, names)
        c.velum_hub_set_store(self.hub, chunks.chunks, names.names)

    def send_chunk(self, c.velum_handle handle, uint64_t correlation, bytes key, object data):
        """Sends a chunk from the buffer it lies in; ends in CHUNK (CHUNK_SENT), before which the
        bytes must not change. False when the link is gone or has too many."""
        self.check()
        cdef uint8_t k[KEY_BYTES]
        key_in(key, k)
        view = memoryview(data)
        cdef Py_buffer *b = PyMemoryView_GET_BUFFER(view)
        if not view.c_contiguous:
            raise BufferError("a chunk is one piece of memory")
        if c.velum_hub_send_chunk(self.hub, handle, correlation, k, <const uint8_t *>b.buf,
                                  <uint32_t>b.len) < 0:
            return False
        self.lent[handle, correlation] = view
        return True

    def want(self, c.velum_handle handle, uint64_t correlation, bytes key, object target):
        """Fetches a chunk into a writable buffer of its size; ends in CHUNK (CHUNK_FETCHED).
        False when the link is gone or has too many."""
        self.check()
        cdef uint8_t k[KEY_BYTES]
        key_in(key, k)
        view = memoryview(target)
        cdef Py_buffer *b = PyMemoryView_GET_BUFFER(view)
        if view.readonly or not view.c_contiguous:
            raise BufferError("a chunk is received into one piece of writable memory")
        if c.velum_hub_want(self.hub, handle, correlation, k, <uint8_t *>b.buf,
                            <uint32_t>b.len) < 0:
            return False
        self.lent[handle, correlation] = view
        return True

    def unwant(self, c.velum_handle handle, uint64_t correlation):
        """Gives a fetch up: its memory is not touched any more, and no event follows."""
        if self.hub != NULL:
            c.velum_hub_unwant(self.hub, handle, correlation)
        self.lent.pop((handle, correlation), None)

    def send_entry(self, list handles, uint64_t correlation, object entry):
        """Queues one ENTRY on several links; those that did not take it. That all have it is told
        once, by the last VERSION that says so; the list is the hub's now."""
        self.check()
        cdef EntryIn e = EntryIn(entry)
        cdef size_t room = e.room()
        cdef uint8_t *at
        cdef int n
        cdef list left = []
        for handle in handles:
            at = c.velum_hub_reserve(self.hub, handle, room)
            if at == NULL:
                left.append(handle)
                continue
            n = c.velum_wire_put_entry(at, room, correlation, &e.m)
            c.velum_hub_commit(self.hub, handle, n if n > 0 else 0)
            if n < 0:
                raise CoreError(n)
        if not left:
            self.sent[correlation] = Sent(handles)
        return left

    def unsend(self, uint64_t correlation):
        """What is said of an entry is told as it comes from now on."""
        self.sent.pop(correlation, None)

    def ask_entries(self, c.velum_handle handle, int how, list names):
        """Queues an ENTRY_ASK for each (correlation, digest); how many were taken."""
        self.check()
        cdef uint8_t frame[64]
        cdef uint8_t d[KEY_BYTES]
        cdef int n, done = 0
        cdef uint64_t correlation
        for correlation, digest in names:
            key_in(digest, d)
            n = c.velum_wire_put_entry_ask(frame, sizeof(frame), correlation, <uint8_t>how, d)
            if n < 0:
                raise CoreError(n)
            if c.velum_hub_send(self.hub, handle, frame, n) < 0:
                break
            done += 1
        return done

    def flush(self):
        """Pushes every queue to its socket as far as it goes."""
        self.check()
        c.velum_hub_flush(self.hub)

    def unsent(self, c.velum_handle handle):
        """Bytes that wait in a link's queue; 0 for a link that is gone."""
        self.check()
        return c.velum_hub_unsent(self.hub, handle)

    def wake(self):
        """Makes a sleeping poll return. Any thread."""
        if self.hub != NULL:
            c.velum_hub_wake(self.hub)

    # modules

    def module_add(self, bytes module):
        """Keeps a module; its hash. CoreError TOO_LARGE, FULL, NOMEM, ARGUMENT."""
        cdef uint8_t out[32]
        self.check()
        cdef int err = c.velum_modules_add(c.velum_hub_modules(self.hub), PyBytes_AS_STRING(module),
                                           len(module), out)
        if err < 0:
            raise CoreError(err)
        return PyBytes_FromStringAndSize(<char *>out, 32)

    def module_pin(self, bytes hash):
        """Holds a module in memory; False when it is not here."""
        self.check()
        return c.velum_modules_pin(c.velum_hub_modules(self.hub),
                                   <const uint8_t *>PyBytes_AS_STRING(hash)) == 0

    def module_unpin(self, bytes hash):
        """Ends one pin."""
        self.check()
        c.velum_modules_unpin(c.velum_hub_modules(self.hub),
                              <const uint8_t *>PyBytes_AS_STRING(hash))

    def module_bytes(self, bytes hash):
        """A copy of a module that is held; CoreError MODULE_MISSING when it is not."""
        cdef size_t n = 0
        self.check()
        cdef const uint8_t *at = c.velum_modules_get(
            c.velum_hub_modules(self.hub), <const uint8_t *>PyBytes_AS_STRING(hash), &n)
        if at == NULL:
            raise CoreError(c.VELUM_E_MODULE_MISSING)
        return PyBytes_FromStringAndSize(<const char *>at, n)

    def module_fetch(self, c.velum_handle handle, bytes hash):
        """Pulls a module from a peer; ends in a MODULE event."""
        self.check()
        cdef int err = c.velum_hub_fetch(self.hub, handle,
                                         <const uint8_t *>PyBytes_AS_STRING(hash))
        if err < 0:
            raise CoreError(err)

    def module_usage(self):
        """(count, bytes) of the module cache."""
        self.check()
        return (c.velum_modules_count(c.velum_hub_modules(self.hub)),
                c.velum_modules_bytes(c.velum_hub_modules(self.hub)))

    def stats(self):
        """Counters since the start."""
        cdef c.velum_hub_stats s
        self.check()
        c.velum_hub_get_stats(self.hub, &s)
        return s

    # events

    def poll(self, int64_t timeout_us, int64_t spin_us=0):
        """Sleeps until something happens or the time has passed (negative: no limit); the events.
        None also earlier, when a signal came, or when the hub had much to do by itself.

        For the first `spin_us` it looks again and again, letting others run, before it sleeps.

        RESULTs come grouped, one event a link: (RESULTS, link, [(correlation, node, run_us, value,
        payload), ...], last health). So do ENTRY and VERSION: (NAMED, link, [(correlation, body),
        ...]). A frame that does not decode closes its link.
        """
        self.check()
        cdef int64_t until = timeout_us if timeout_us <= 0 else c.velum_port_now_us() + timeout_us
        cdef int n
        while True:
            with nogil:
                n = self.wait(until, spin_us)
            if n < 0:
                raise CoreError(n)
            out = self.events_out(n)
            if out or n == 0:
                PyErr_CheckSignals()
                return out

    cdef int wait(self, int64_t until, int64_t spin_us) noexcept nogil:
        """Works until there are events (their count), or it is `until`, or a signal came (0); or an
        error."""
        cdef int64_t now = c.velum_port_now_us()
        cdef int64_t spin_end = now + spin_us
        cdef int n
        while now < spin_end and until != 0 and (until < 0 or now < until):
            n = c.velum_hub_poll(self.hub, 0, self.events, EVENTS)
            if n != 0:
                return n
            c.velum_port_yield()
            now = c.velum_port_now_us()
        return c.velum_hub_poll(self.hub, until if until <= 0 else max(0, until - now),
                                self.events, EVENTS)

    cdef list events_out(self, int n):
        """Events as Python values; some are told with others that are still to come."""
        cdef int i
        cdef list out = []
        cdef c.velum_event *e
        cdef c.velum_result result
        cdef c.velum_handle results_link = 0
        cdef list results = None
        cdef c.velum_handle named_link = 0
        cdef list named = None
        for i in range(n):
            e = &self.events[i]
            if e.kind == c.VELUM_EV_FRAME and e.u.frame.header.type == c.VELUM_F_RESULT:
                if c.velum_wire_get_result(e.u.frame.payload, e.u.frame.header.length,
                                           &result) < 0:
                    self.refuse(e, out)
                    continue
                if results is None or e.link != results_link:
                    results = []
                    results_link = e.link
                    out.append([RESULTS, e.link, results, None])
                results.append((
                    e.u.frame.header.correlation, result.node, result.run_us,
                    value_out(&result.values[0]) if result.nvalues else None,
                    PyBytes_FromStringAndSize(<const char *>e.u.frame.payload,
                                              e.u.frame.header.length)))
                if len(results) == 1 or i + 1 == n or self.events[i + 1].link != e.link:
                    (<list>out[len(out) - 1])[3] = health_out(&result.health)
                continue
            results = None
            if e.kind == c.VELUM_EV_FRAME and (e.u.frame.header.type == c.VELUM_F_VERSION or
                                               e.u.frame.header.type == c.VELUM_F_ENTRY):
                body = store_frame_out(e.u.frame.header.type, e.u.frame.payload,
                                       e.u.frame.header.length)
                if body is None:
                    self.refuse(e, out)
                    continue
                if self.sent and e.u.frame.header.type == c.VELUM_F_VERSION:
                    body = last_version(self.sent, e.link, e.u.frame.header.correlation, body)
                    if body is None:
                        continue
                if named is None or e.link != named_link:
                    named = []
                    named_link = e.link
                    out.append((NAMED, e.link, named))
                named.append((e.u.frame.header.correlation, body))
                continue
            named = None
            self.event_out(e, out)
        return out

    cdef int refuse(self, c.velum_event *e, list out) except -1:
        cdef uint8_t type = e.u.frame.header.type
        text = f"malformed {c.velum_wire_name(type).decode()}"
        c.velum_hub_drop(self.hub, e.link, -<int>c.VELUM_E_PAYLOAD, text.encode())
        out.append((CLOSED, e.link, 0, -<int>c.VELUM_E_PAYLOAD, True, 0, text))
        return 0

    cdef int event_out(self, c.velum_event *e, list out) except -1:
        cdef c.velum_hello *h
        if e.kind == c.VELUM_EV_FRAME:
            decoded = self.frame_out(e)
            if decoded is None:
                self.refuse(e, out)
            else:
                out.append((FRAME, e.link, e.u.frame.header.type,
                            e.u.frame.header.correlation, decoded))
        elif e.kind == c.VELUM_EV_DATAGRAM:
            out.append((DATAGRAM, e.u.datagram.socket, addr_out(e.u.datagram.sender),
                        datagram_out(e.u.datagram.message)))
        elif e.kind == c.VELUM_EV_OPENED:
            h = &e.u.opened.hello
            out.append((OPENED, e.link, e.token, h.role, h.id, h.slots, h.incarnation,
                        addr_out(h.addr), text_out(h.version), addr_out(e.u.opened.peer),
                        bool(h.features & c.VELUM_FEATURE_BULK)))
        elif e.kind == c.VELUM_EV_CLOSED:
            out.append((CLOSED, e.link, e.token, -e.u.closed.error, bool(e.u.closed.was_open),
                        e.u.closed.id,
                        "" if e.u.closed.text == NULL else
                        e.u.closed.text.decode(errors="replace")))
        elif e.kind == c.VELUM_EV_MODULE:
            out.append((MODULE, PyBytes_FromStringAndSize(<char *>e.u.module.hash, 32),
                        -e.u.module.error))
        elif e.kind == c.VELUM_EV_CHUNK:
            if e.u.chunk.what != c.VELUM_CHUNK_STORED:
                self.lent.pop((e.link, e.u.chunk.correlation), None)
            out.append((CHUNK, e.link, e.u.chunk.what, e.u.chunk.correlation,
                        key_out(e.u.chunk.key), -e.u.chunk.error))
        elif e.kind == c.VELUM_EV_WAKE:
            out.append((WAKE,))
        return 0

    cdef object frame_out(self, c.velum_event *e):
        """A frame's payload as Python values; None when it is malformed."""
        cdef uint8_t type = e.u.frame.header.type
        cdef const uint8_t *p = e.u.frame.payload
        cdef size_t n = e.u.frame.header.length
        if type == c.VELUM_F_ERROR:
            return error_out(p, n)
        if type == c.VELUM_F_CALL or type == c.VELUM_F_TASK:
            return work_out(type, p, n)
        if type == c.VELUM_F_CANCEL or type == c.VELUM_F_PROGRESS:
            return steer_out(type, p, n)
        if type == c.VELUM_F_SYNC or type == c.VELUM_F_SYNC_REPLY:
            return sync_out(p, n)
        if type == c.VELUM_F_HEALTH:
            return health_frame_out(p, n)
        if type == c.VELUM_F_QUERY:
            return query_out(p, n)
        if type == c.VELUM_F_ANSWER:
            return PyBytes_FromStringAndSize(<const char *>p, n)
        if type >= kc.VELUM_F_KV_DO:
            return kv_frame_out(type, p, n)
        if type >= c.VELUM_F_HOLD:
            return store_frame_out(type, p, n)
        return job_frame_out(type, p, n)
