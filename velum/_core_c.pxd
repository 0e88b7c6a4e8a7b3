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
        VELUM_E_AGAIN
        VELUM_E_CHUNK_HASH
        VELUM_E_CHUNK_MISSING
        VELUM_E_NAME
        VELUM_E_NAMES_FULL
        VELUM_E_VERSION_AHEAD
        VELUM_E_ARGUMENT
        VELUM_E_CLOSED
        VELUM_E_FRAME_LENGTH
        VELUM_E_FULL
        VELUM_E_MODULE_MISSING
        VELUM_E_PAYLOAD
        VELUM_E_SIGNATURE
        VELUM_E_UNKNOWN_NAME
        VELUM_E_TOO_LARGE
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
    uint64_t velum_port_unix_ms()
    int velum_port_file_open(const char *path, bint make, bint lock, int *out)
    void velum_port_file_close(int file)
    void *velum_port_pages(size_t n)
    void velum_port_pages_free(void *memory, size_t n)
    void velum_port_will_fill(void *memory, size_t n)

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
        VELUM_CHUNK_PART_BYTES
        VELUM_CHUNKS_SENDING_MAX
        VELUM_CHUNKS_WANTED_MAX

cdef extern from "wire_bytes.h" nogil:
    uint32_t velum__get32(const uint8_t *p)
    uint64_t velum__get64(const uint8_t *p)
    uint8_t *velum__put32(uint8_t *p, uint32_t v)
    uint8_t *velum__put64(uint8_t *p, uint64_t v)

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
        uint32_t free_mib, speed, ram_mib, ram_free_mib
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

cdef extern from "wire_store.h" nogil:
    enum:
        VELUM_F_HOLD
        VELUM_F_HELD
        VELUM_F_WANT
        VELUM_F_RELEASE
        VELUM_F_OFFER
        VELUM_F_OFFERED
        VELUM_F_CLAIMS
        VELUM_F_CLAIMED
        VELUM_F_ENTRY
        VELUM_F_ENTRY_ASK
        VELUM_F_VERSION
        VELUM_F_NAMES_ASK
        VELUM_F_NAMES
        VELUM_F_SUMS
        VELUM_F_LISTING
        VELUM_F_LISTED
        VELUM_FEATURE_BULK
        VELUM_HELD_SEND
        VELUM_HELD_HAVE
        VELUM_HELD_FULL
        VELUM_HELD_BUSY
        VELUM_HELD_BAD
        VELUM_CLAIMS_PER_HOLD_MAX
        VELUM_HOLD_REPAIR
        VELUM_CLAIM_NAME_BYTES
        VELUM_ENTRY_TOMBSTONE
        VELUM_ENTRY_INLINE
        VELUM_ENTRY_MANIFEST
        VELUM_AWAITED_MAX
        VELUM_NAMED_KEPT
        VELUM_NAMED_REPLACED
        VELUM_MANIFEST_HEAD_BYTES
        VELUM_BUCKETS
        VELUM_NAME_ITEM_BYTES
    ctypedef struct velum_version:
        uint64_t stamp
        uint32_t origin
    ctypedef struct velum_claim:
        uint8_t digest[32]
        velum_version version
        uint8_t k, m, shard
        const uint8_t *keys
    ctypedef struct velum_hold:
        uint8_t key[32]
        uint32_t size
        uint8_t count
        velum_claim claims[16]
        uint8_t flags
    ctypedef struct velum_held:
        uint8_t state
        uint64_t free_bytes
    ctypedef struct velum_release:
        uint8_t how
        uint8_t digest[32]
        velum_version version
    ctypedef struct velum_entry:
        velum_version version
        uint8_t kind, keepers
        uint64_t age_ms, size
        uint8_t nawaited
        const uint8_t *awaited
        velum_text name
        const uint8_t *body
        uint32_t body_size
    ctypedef struct velum_named_version:
        uint8_t what, kind
        velum_version version
    ctypedef struct velum_name_row:
        velum_version version
        uint8_t kind, care
        uint32_t missing
        uint64_t size
        velum_text name
    ctypedef struct velum_names_page:
        uint8_t more
        uint16_t count
        const uint8_t *rows
    ctypedef struct velum_sums:
        uint32_t counts[256]
        uint64_t marks[256]
    ctypedef struct velum_name_item:
        uint8_t digest[32]
        velum_version version
        uint64_t mark
    ctypedef struct velum_listing:
        uint32_t round
        uint8_t ranged
        uint8_t after[32]
        uint8_t end[32]
        uint16_t count
        const uint8_t *items
    ctypedef struct velum_listed:
        uint32_t round
        uint16_t nheld, nwanted
        const uint8_t *held
        const uint8_t *wanted
    int velum_wire_put_hold(uint8_t *buf, size_t cap, uint64_t correlation, const velum_hold *m)
    int velum_wire_get_hold(const uint8_t *p, size_t n, velum_hold *m)
    int velum_wire_put_held(uint8_t *buf, size_t cap, uint64_t correlation, const velum_held *m)
    int velum_wire_get_held(const uint8_t *p, size_t n, velum_held *m)
    int velum_wire_put_want(uint8_t *buf, size_t cap, uint64_t correlation, const uint8_t *key)
    int velum_wire_get_want(const uint8_t *p, size_t n, uint8_t *key)
    int velum_wire_put_release(uint8_t *buf, size_t cap, uint64_t correlation,
                               const velum_release *m)
    int velum_wire_get_release(const uint8_t *p, size_t n, velum_release *m)
    int velum_wire_put_offer(uint8_t *buf, size_t cap, uint64_t correlation, const uint8_t *keys,
                             size_t count)
    int velum_wire_get_offer(const uint8_t *p, size_t n, const uint8_t **keys, size_t *count)
    int velum_wire_put_offered(uint8_t *buf, size_t cap, uint64_t correlation,
                               const uint8_t *states, size_t count)
    int velum_wire_get_offered(const uint8_t *p, size_t n, const uint8_t **states, size_t *count)
    int velum_wire_put_claims(uint8_t *buf, size_t cap, uint64_t correlation,
                              const uint8_t *claims, size_t count)
    int velum_wire_get_claims(const uint8_t *p, size_t n, const uint8_t **claims, size_t *count)
    int velum_wire_put_claimed(uint8_t *buf, size_t cap, uint64_t correlation,
                               const uint8_t *states, size_t count)
    int velum_wire_get_claimed(const uint8_t *p, size_t n, const uint8_t **states, size_t *count)
    int velum_wire_put_entry(uint8_t *buf, size_t cap, uint64_t correlation, const velum_entry *m)
    int velum_wire_get_entry(const uint8_t *p, size_t n, velum_entry *m)
    int velum_wire_put_entry_ask(uint8_t *buf, size_t cap, uint64_t correlation, uint8_t how,
                                 const uint8_t *digest)
    int velum_wire_get_entry_ask(const uint8_t *p, size_t n, uint8_t *how, uint8_t *digest)
    int velum_wire_put_version(uint8_t *buf, size_t cap, uint64_t correlation,
                               const velum_named_version *m)
    int velum_wire_get_version(const uint8_t *p, size_t n, velum_named_version *m)
    int velum_wire_put_names_ask(uint8_t *buf, size_t cap, uint64_t correlation, uint16_t limit,
                                 velum_text prefix, velum_text after)
    int velum_wire_get_names_ask(const uint8_t *p, size_t n, uint16_t *limit, velum_text *prefix,
                                 velum_text *after)
    int velum_wire_put_names(uint8_t *buf, size_t cap, uint64_t correlation, bint more,
                             const velum_name_row *rows, size_t count)
    int velum_wire_get_names(const uint8_t *p, size_t n, velum_names_page *m)
    velum_name_row velum_wire_next_name(const uint8_t **at)
    int velum_wire_put_sums(uint8_t *buf, size_t cap, uint64_t correlation, const velum_sums *m)
    int velum_wire_get_sums(const uint8_t *p, size_t n, velum_sums *m)
    int velum_wire_put_listing(uint8_t *buf, size_t cap, uint64_t correlation,
                               const velum_listing *m)
    int velum_wire_get_listing(const uint8_t *p, size_t n, velum_listing *m)
    int velum_wire_put_listed(uint8_t *buf, size_t cap, uint64_t correlation,
                              const velum_listed *m)
    int velum_wire_get_listed(const uint8_t *p, size_t n, velum_listed *m)
    void velum_wire_put_name_item(uint8_t *at, const velum_name_item *item)
    velum_name_item velum_wire_name_item(const uint8_t *at)

cdef extern from "chunks.h" nogil:
    ctypedef struct velum_chunks:
        pass
    ctypedef struct velum_chunks_figures:
        size_t budget, used, reserved, count, arriving
    void velum_chunk_key(const void *bytes, size_t n, uint8_t *key_out)
    int velum_chunks_open(velum_chunks **out, size_t budget_bytes)
    void velum_chunks_close(velum_chunks *c)
    void velum_chunks_set_budget(velum_chunks *c, size_t budget_bytes)
    velum_chunks_figures velum_chunks_get_figures(const velum_chunks *c)
    int velum_chunks_reserve(velum_chunks *c, const uint8_t *key, size_t size, uint32_t sender)
    void velum_chunks_abandon(velum_chunks *c, const uint8_t *key, uint32_t sender)
    void velum_chunks_abandon_all(velum_chunks *c, uint32_t sender)
    const uint8_t *velum_chunks_get(const velum_chunks *c, const uint8_t *key, size_t *n)
    const uint8_t *velum_chunks_lend(velum_chunks *c, const uint8_t *key, size_t *n, void **token)
    void velum_chunks_give_back(void *token)
    int velum_chunks_drop(velum_chunks *c, const uint8_t *key)
    int velum_chunks_verify(velum_chunks *c, const uint8_t *key, size_t bytes_max)

# ---- names.h ----

cdef extern from "names.h" nogil:
    ctypedef struct velum_names:
        pass
    ctypedef struct velum_names_figures:
        size_t files, count, tombstones, formers, bytes, room
        uint64_t stamp_max
    ctypedef struct velum_names_entry:
        velum_name_item item
        uint8_t kind, keepers
        uint64_t size, made_ms, came_ms
        velum_text name
        const uint8_t *payload
        uint32_t payload_size
    ctypedef bint c_bool "bool"
    ctypedef const velum_names_entry *velum_names_entry_ref "const velum_names_entry *"
    ctypedef struct velum_names_pair:
        velum_names_entry_ref entry
        uint16_t node
    int velum_names_open(velum_names **out, uint16_t me, size_t room_bytes)
    void velum_names_close(velum_names *n)
    void velum_names_set_room(velum_names *n, size_t room_bytes)
    int velum_names_set_members(velum_names *n, const uint16_t *ids, size_t count)
    size_t velum_names_keepers(const velum_names *n, const uint8_t *digest, uint8_t keepers,
                               uint16_t *ids)
    velum_names_figures velum_names_get_figures(const velum_names *n)
    int velum_names_merge(velum_names *n, const velum_entry *entry, uint64_t unix_ms,
                          uint64_t now_ms, velum_named_version *here)
    const velum_names_entry *velum_names_find(const velum_names *n, const uint8_t *digest)
    const velum_names_entry *velum_names_next(const velum_names *n, const uint8_t *after)
    void velum_names_retire(velum_names *n, const uint8_t *digest)
    bint velum_names_forget(velum_names *n, const velum_name_item *item)
    size_t velum_names_list(const velum_names *n, velum_text prefix, velum_text after,
                            velum_names_entry_ref *out, size_t cap, c_bool *more)
    const velum_sums *velum_names_sums(const velum_names *n, uint16_t peer)
    uint16_t velum_names_sharing(const velum_names *n, uint16_t after)
    bint velum_names_shared(const velum_names *n, uint16_t peer, uint8_t *at, const uint8_t *end,
                            size_t look_max, velum_names_entry_ref *out, size_t cap, size_t *count)
    bint velum_names_scan(velum_names *n, uint8_t *at, const uint16_t *anew, size_t nanew,
                          size_t look_max, velum_names_pair *out, size_t cap, size_t *count)
    bint velum_names_formers(const velum_names *n, uint8_t *at, size_t look_max,
                             velum_names_entry_ref *out, size_t cap, size_t *count)
    bint velum_names_graves(const velum_names *n, uint8_t *at, int64_t until_ms, size_t look_max,
                            velum_names_entry_ref *out, size_t cap, size_t *count,
                            int64_t *made_ms)

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

cdef extern from "loop.h" nogil:
    ctypedef struct velum_loop:
        pass
    ctypedef struct velum_loop_door:
        void *owner
        void (*open)(void *owner) noexcept
        void (*close)(void *owner) noexcept
    int velum_loop_set_door(velum_loop *loop, const velum_loop_door *door)

cdef extern from "hub.h" nogil:
    ctypedef struct velum_hub:
        pass
    ctypedef uint32_t velum_handle
    ctypedef struct velum_hub_config:
        uint16_t links_max
        size_t module_bytes
        bint answer_calls
        size_t watches
    enum:
        VELUM_EV_OPENED
        VELUM_EV_CLOSED
        VELUM_EV_FRAME
        VELUM_EV_DATAGRAM
        VELUM_EV_MODULE
        VELUM_EV_CHUNK
        VELUM_EV_WAKE
        VELUM_CHUNK_STORED
        VELUM_CHUNK_FETCHED
        VELUM_CHUNK_SENT
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
    ctypedef struct velum_event_chunk:
        uint8_t what
        uint64_t correlation
        uint8_t key[32]
        int error
    ctypedef union velum_event_u:
        velum_event_opened opened
        velum_event_closed closed
        velum_frame frame
        velum_event_datagram datagram
        velum_event_module module
        velum_event_chunk chunk
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
    int velum_hub_serve(velum_hub *hub, velum_addr *addr, uint8_t *index)
    int velum_hub_udp_send(velum_hub *hub, uint8_t index, const velum_addr *to,
                           const velum_datagram *message)
    int velum_hub_send(velum_hub *hub, velum_handle link, const void *frame, size_t n)
    uint8_t *velum_hub_reserve(velum_hub *hub, velum_handle link, size_t n)
    void velum_hub_commit(velum_hub *hub, velum_handle link, size_t used)
    void velum_hub_flush(velum_hub *hub)
    size_t velum_hub_unsent(velum_hub *hub, velum_handle link)
    velum_modules *velum_hub_modules(velum_hub *hub)
    int velum_hub_fetch(velum_hub *hub, velum_handle link, const uint8_t *hash)
    void velum_hub_set_store(velum_hub *hub, velum_chunks *chunks, velum_names *names)
    int velum_hub_dial_bulk(velum_hub *hub, const velum_addr *to, uint64_t token,
                            velum_handle *out)
    int velum_hub_send_chunk(velum_hub *hub, velum_handle link, uint64_t correlation,
                             const uint8_t *key, const uint8_t *bytes, uint32_t size)
    int velum_hub_want(velum_hub *hub, velum_handle link, uint64_t correlation,
                       const uint8_t *key, uint8_t *to, uint32_t size)
    void velum_hub_unwant(velum_hub *hub, velum_handle link, uint64_t correlation)
    int velum_hub_poll(velum_hub *hub, int64_t timeout_us, velum_event *events, size_t cap)
    velum_loop *velum_hub_loop(velum_hub *hub)
    bint velum_hub_turn(velum_hub *hub)
    void velum_hub_wake(velum_hub *hub)
    void velum_hub_get_stats(const velum_hub *hub, velum_hub_stats *out)
