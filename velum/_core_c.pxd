"""The C core's headers, as far as the binding uses them."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "velum.h" nogil:
    const char *VELUM_VERSION
    enum:
        VELUM_I32
        VELUM_I64
        VELUM_F32
        VELUM_F64
        VELUM_E_NOMEM
        VELUM_E_ARGUMENT
        VELUM_E_CLOSED
        VELUM_E_FRAME_LENGTH
        VELUM_E_FULL
        VELUM_E_MODULE_MISSING
        VELUM_E_PAYLOAD
        VELUM_E_SIGNATURE
        VELUM_E_UNKNOWN_NAME
    const char *velum_strerror(int err)
    const char *velum_errname(int err)
    ctypedef struct velum_value:
        uint8_t type
        uint64_t bits
    ctypedef struct velum_addr:
        uint32_t ip
        uint16_t port

cdef extern from "velum_port.h" nogil:
    int64_t velum_port_now_us()
    void velum_port_yield()

cdef extern from "velum_opt.h" nogil:
    enum:
        VELUM_MODULE_BYTES_MAX
        VELUM_MODULE_CACHE_BYTES
        VELUM_GUEST_PAGES_MAX
        VELUM_NAME_BYTES_MAX
        VELUM_TEXT_BYTES_MAX
        VELUM_ARGS_MAX
        VELUM_SLICES_MAX
        VELUM_REPORT_MS

cdef extern from "wire_bytes.h" nogil:
    uint64_t velum__get64(const uint8_t *p)

cdef extern from "slices.h" nogil:
    void velum_slice_bounds(velum_value start, velum_value end, uint32_t slices, uint32_t index,
                            velum_value *first, velum_value *last)

cdef extern from "wire.h" nogil:
    enum:
        VELUM_WIRE_VERSION
        VELUM_HEADER_BYTES
        VELUM_HASH_BYTES
        VELUM_MEMBER_BYTES
        VELUM_HEALTH_BYTES
        VELUM_UPDATES_MAX
        VELUM_TASK_PLACED
        VELUM_LEASE_CAREFUL
        VELUM_SLICES_LAST
        VELUM_HOLDERS_MAX
        VELUM_SHARE_BYTES
        VELUM_F_CALL
        VELUM_F_TASK
        VELUM_F_RESULT
        VELUM_F_ERROR
        VELUM_F_PROGRESS
        VELUM_F_CANCEL
        VELUM_F_SCATTER
        VELUM_F_LEASE
        VELUM_F_SLICES
        VELUM_F_TRIM
        VELUM_F_JOB
        VELUM_F_JOB_ASK
        VELUM_F_SYNC
        VELUM_F_SYNC_REPLY
        VELUM_F_HEALTH
        VELUM_F_QUERY
        VELUM_F_ANSWER
    ctypedef struct velum_header:
        uint8_t type
        uint32_t length
        uint64_t correlation
    ctypedef struct velum_text:
        const char *data
        uint16_t size
    ctypedef struct velum_health:
        uint8_t cpu, slots, cores, flags
        uint16_t queue, running
        uint32_t free_mib, speed
    ctypedef struct velum_hello:
        uint8_t role, slots
        uint16_t id
        uint32_t features
        uint64_t incarnation
        velum_addr addr
        velum_text version
    ctypedef struct velum_call:
        uint8_t flags
        uint32_t timeout_ms
        velum_text name
        uint8_t nargs
        velum_value args[32]
    ctypedef struct velum_task:
        uint8_t flags
        uint32_t timeout_ms
        uint64_t fuel
        uint32_t pages
        uint8_t hash[32]
        velum_text name
        uint8_t nargs
        velum_value args[32]
    ctypedef struct velum_result:
        uint16_t node
        uint32_t run_us
        velum_health health
        uint8_t nvalues
        velum_value values[32]
    ctypedef struct velum_error:
        uint16_t code, node
        uint8_t deaths
        velum_text text
    ctypedef struct velum_progress:
        uint64_t done, total
    ctypedef struct velum_scatter:
        uint64_t job
        uint8_t flags, reduce, priority, result
        uint32_t slices, timeout_ms, limit_ms
        uint64_t fuel
        uint32_t pages
        uint64_t missing, created_ms
        uint8_t hash[32]
        velum_text name, label
        uint8_t nargs
        velum_value args[32]
    ctypedef struct velum_lease:
        velum_task task
        uint64_t job
        uint32_t slices, first, count
        uint8_t priority
    ctypedef struct velum_slices:
        uint64_t job
        uint8_t flags
        uint32_t busy_us
        uint16_t nruns, nfailed
        const uint8_t *runs
        const uint8_t *failed
    ctypedef struct velum_slice_run:
        uint32_t first, count
        const uint8_t *values
    ctypedef struct velum_failed:
        uint32_t slice
        uint16_t code
        velum_text text
    ctypedef struct velum_slices_writer:
        pass
    ctypedef struct velum_share:
        uint16_t node, leases
        uint32_t done, busy_ms
    ctypedef struct velum_job:
        uint64_t job
        uint16_t attempt
        uint8_t state
        uint32_t epoch
        uint16_t coordinator
        uint32_t sequence, slices, done, failed, checksum
        uint64_t elapsed_ms
        uint32_t retries, duplicates
        uint16_t code
        velum_text text
        uint8_t nanswers
        velum_value answer
        uint8_t nholders
        uint16_t holders[16]
        uint16_t nshares
        const uint8_t *shares
    ctypedef struct velum_job_ask:
        uint64_t job
        uint8_t ask, flags
    ctypedef struct velum_member:
        uint16_t id
        uint8_t state, role
        uint64_t incarnation
        velum_addr addr
        uint16_t accuser "from"
    ctypedef struct velum_datagram:
        uint8_t type
        uint64_t sequence
        uint16_t sender, target
        uint64_t incarnation
        velum_addr addr
        uint8_t role, flags
        velum_health health
        uint8_t nupdates
        velum_member updates[40]
    int64_t velum_wire_limit(uint8_t type)
    const char *velum_wire_name(uint8_t type)
    void velum_wire_put_header(uint8_t *buf, uint8_t type, uint32_t length, uint64_t correlation)
    int velum_wire_put_call(uint8_t *buf, size_t cap, uint64_t correlation, const velum_call *m)
    int velum_wire_get_call(const uint8_t *p, size_t n, velum_call *m)
    int velum_wire_put_task(uint8_t *buf, size_t cap, uint64_t correlation, const velum_task *m)
    int velum_wire_get_task(const uint8_t *p, size_t n, velum_task *m)
    int velum_wire_put_result(uint8_t *buf, size_t cap, uint64_t correlation,
                              const velum_result *m)
    int velum_wire_get_result(const uint8_t *p, size_t n, velum_result *m)
    int velum_wire_put_error(uint8_t *buf, size_t cap, uint64_t correlation, const velum_error *m)
    int velum_wire_get_error(const uint8_t *p, size_t n, velum_error *m)
    int velum_wire_get_progress(const uint8_t *p, size_t n, velum_progress *m)
    int velum_wire_put_cancel(uint8_t *buf, size_t cap, uint64_t correlation, uint16_t code)
    int velum_wire_get_cancel(const uint8_t *p, size_t n, uint16_t *code)
    int velum_wire_put_scatter(uint8_t *buf, size_t cap, uint64_t correlation,
                               const velum_scatter *m)
    int velum_wire_get_scatter(const uint8_t *p, size_t n, velum_scatter *m)
    int velum_wire_put_lease(uint8_t *buf, size_t cap, uint64_t correlation, const velum_lease *m)
    int velum_wire_get_lease(const uint8_t *p, size_t n, velum_lease *m)
    int velum_wire_slices_begin(velum_slices_writer *w, uint8_t *buf, size_t cap, uint64_t job)
    int velum_wire_slices_add(velum_slices_writer *w, uint32_t slice, uint64_t value)
    int velum_wire_slices_fail(velum_slices_writer *w, uint32_t slice, uint16_t code,
                               velum_text text)
    int velum_wire_slices_end(velum_slices_writer *w, uint64_t correlation, uint8_t flags,
                              uint32_t busy_us)
    int velum_wire_get_slices(const uint8_t *p, size_t n, velum_slices *m)
    velum_slice_run velum_wire_next_run(const uint8_t **at)
    velum_failed velum_wire_next_failed(const uint8_t **at)
    int velum_wire_put_trim(uint8_t *buf, size_t cap, uint64_t correlation, uint32_t end)
    int velum_wire_get_trim(const uint8_t *p, size_t n, uint32_t *end)
    int velum_wire_put_job(uint8_t *buf, size_t cap, uint64_t correlation, const velum_job *m)
    int velum_wire_get_job(const uint8_t *p, size_t n, velum_job *m)
    void velum_wire_put_share(uint8_t *at, const velum_share *share)
    velum_share velum_wire_share(const velum_job *m, uint16_t index)
    int velum_wire_put_job_ask(uint8_t *buf, size_t cap, uint64_t correlation,
                               const velum_job_ask *m)
    int velum_wire_get_job_ask(const uint8_t *p, size_t n, velum_job_ask *m)
    int velum_wire_put_sync(uint8_t *buf, size_t cap, uint8_t type, uint64_t correlation,
                            const velum_member *members, const velum_health *healths, size_t count)
    int velum_wire_get_sync(const uint8_t *p, size_t n, size_t *count)
    int velum_wire_get_sync_at(const uint8_t *p, size_t n, size_t index, velum_member *m,
                               velum_health *h)
    int velum_wire_get_health(const uint8_t *p, size_t n, velum_health *m)
    int velum_wire_put_query(uint8_t *buf, size_t cap, uint64_t correlation, velum_text topic)
    int velum_wire_get_query(const uint8_t *p, size_t n, velum_text *topic)
    int velum_wire_put_datagram(uint8_t *buf, size_t cap, const velum_datagram *m)
    int velum_wire_get_datagram(const uint8_t *buf, size_t n, velum_datagram *m)

cdef extern from "blake2b.h" nogil:
    void velum_blake2b_256(const void *data, size_t n, uint8_t *out)

cdef extern from "chunks.h" nogil:
    void velum_chunk_key(const void *bytes, size_t n, uint8_t *key_out)

cdef extern from "builtin.h" nogil:
    int velum_builtin(const velum_call *call, velum_value *out)
    const char *velum_builtin_name(size_t index)

cdef extern from "validate.h":
    enum:
        VELUM_EXTERN_FUNCTION
    ctypedef struct velum_diagnosis:
        uint32_t offset
        const char *text
        uint32_t function
    ctypedef struct velum_signature:
        uint8_t nparams, nresults
        uint8_t params[32]
        uint8_t result
    ctypedef struct velum_extern:
        bint is_import "import"
        uint8_t kind
        const char *module
        uint32_t module_size
        const char *name
        uint32_t name_size
        bint callable
        velum_signature signature
        uint32_t minimum, maximum
        uint8_t value_type
        bint is_mutable "mutable_"
    int velum_validate(const uint8_t *bytes, size_t n, velum_diagnosis *why) nogil
    int velum_module_visit(const uint8_t *bytes, size_t n,
                           int (*visit)(void *user, const velum_extern *e) noexcept, void *user)
    int velum_module_export(const uint8_t *bytes, size_t n, const char *name, size_t name_size,
                            velum_signature *out)

cdef extern from "modules.h" nogil:
    ctypedef struct velum_modules:
        pass
    int velum_modules_add(velum_modules *m, const void *bytes, size_t n, uint8_t *hash_out)
    const uint8_t *velum_modules_get(velum_modules *m, const uint8_t *hash, size_t *n)
    int velum_modules_pin(velum_modules *m, const uint8_t *hash)
    void velum_modules_unpin(velum_modules *m, const uint8_t *hash)
    size_t velum_modules_bytes(const velum_modules *m)
    size_t velum_modules_count(const velum_modules *m)

cdef extern from "link.h" nogil:
    ctypedef struct velum_frame:
        velum_header header
        const uint8_t *payload

cdef extern from "hub.h" nogil:
    ctypedef struct velum_hub:
        pass
    ctypedef uint32_t velum_handle
    ctypedef struct velum_hub_config:
        uint16_t links_max
        size_t module_bytes
        bint answer_calls
    enum:
        VELUM_EV_OPENED
        VELUM_EV_CLOSED
        VELUM_EV_FRAME
        VELUM_EV_DATAGRAM
        VELUM_EV_MODULE
        VELUM_EV_WAKE
    ctypedef struct velum_event_opened:
        velum_hello hello
        velum_addr peer
    ctypedef struct velum_event_closed:
        int error
        bint was_open
        uint16_t id
        const char *text
    ctypedef struct velum_event_datagram:
        velum_datagram *message
        velum_addr sender "from"
        uint8_t socket
    ctypedef struct velum_event_module:
        uint8_t hash[32]
        int error
    ctypedef union velum_event_u:
        velum_event_opened opened
        velum_event_closed closed
        velum_frame frame
        velum_event_datagram datagram
        velum_event_module module
    ctypedef struct velum_event:
        uint8_t kind
        velum_handle link
        uint64_t token
        velum_event_u u
    ctypedef struct velum_hub_stats:
        uint64_t frames_in, frames_out, bytes_in, bytes_out
        uint64_t datagrams_in, datagrams_out, datagrams_bad
        uint64_t links_refused, links_broken, calls_answered
        uint32_t links, strangers
    int velum_hub_open(velum_hub **out, const velum_hub_config *config)
    void velum_hub_close(velum_hub *hub)
    int velum_hub_identity(velum_hub *hub, const velum_hello *hello)
    int velum_hub_health(velum_hub *hub, const velum_health *health)
    int velum_hub_listen(velum_hub *hub, velum_addr *addr)
    int velum_hub_dial(velum_hub *hub, const velum_addr *to, uint64_t token, velum_handle *out)
    int velum_hub_adopt(velum_hub *hub, int fd, uint64_t token, velum_handle *out)
    int velum_hub_accept(velum_hub *hub, velum_handle link)
    void velum_hub_drop(velum_hub *hub, velum_handle link, uint16_t code, const char *text)
    int velum_hub_udp(velum_hub *hub, velum_addr *addr, bint shared, uint8_t *index)
    int velum_hub_udp_send(velum_hub *hub, uint8_t index, const velum_addr *to,
                           const velum_datagram *message)
    int velum_hub_send(velum_hub *hub, velum_handle link, const void *frame, size_t n)
    uint8_t *velum_hub_reserve(velum_hub *hub, velum_handle link, size_t n)
    void velum_hub_commit(velum_hub *hub, velum_handle link, size_t used)
    void velum_hub_flush(velum_hub *hub)
    size_t velum_hub_unsent(velum_hub *hub, velum_handle link)
    velum_modules *velum_hub_modules(velum_hub *hub)
    int velum_hub_fetch(velum_hub *hub, velum_handle link, const uint8_t *hash)
    int velum_hub_poll(velum_hub *hub, int64_t timeout_us, velum_event *events, size_t cap)
    void velum_hub_wake(velum_hub *hub)
    void velum_hub_get_stats(const velum_hub *hub, velum_hub_stats *out)
