"""The C core's headers of the key-value state, as far as the binding uses them."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from velum._core_c cimport velum_addr, velum_handle, velum_hub

cdef extern from "kv_record.h" nogil:
    ctypedef bint kv_bool "bool"
    ctypedef struct velum_kv_stamp:
        uint64_t time
        uint16_t node
    ctypedef int velum_kv_op
    ctypedef struct velum_kv_bytes:
        const uint8_t *data
        size_t size
    ctypedef struct velum_kv_record:
        velum_kv_op op
        kv_bool json, fresh
        velum_kv_stamp stamp, of
        uint64_t until_ms
        int64_t sum
        velum_kv_bytes key, part, value

cdef extern from "kv.h":
    enum:
        VELUM_KV_FANOUT
        VELUM_KV_LEVELS
        VELUM_KV_NOTHING
        VELUM_KV_BYTES
        VELUM_KV_COUNTER
        VELUM_KV_MEMBERS
        VELUM_KV_FIELDS
    ctypedef struct velum_kv:
        pass
    ctypedef int velum_kv_type
    ctypedef struct velum_kv_view:
        velum_kv_type type
        kv_bool json
        velum_kv_stamp base, latest
        uint64_t until_ms
        velum_kv_stamp expiry
        velum_kv_bytes value
        int64_t sum
        size_t count
    ctypedef struct velum_kv_figures:
        size_t keys, tombstones, settled, bytes, room
        uint64_t recalled
        velum_kv_stamp latest
    ctypedef struct velum_kv_walk:
        uint64_t place
    ctypedef struct velum_kv_tended:
        size_t settled, dropped
    int velum_kv_open(velum_kv **out, size_t room_bytes)
    void velum_kv_close(velum_kv *kv)
    int velum_kv_merge(velum_kv *kv, const velum_kv_record *record)
    velum_kv_type velum_kv_look(const velum_kv *kv, velum_kv_bytes key, velum_kv_view *view)
    size_t velum_kv_parts(const velum_kv *kv, velum_kv_bytes key,
                          void (*part)(void *owner, velum_kv_bytes part,
                                       velum_kv_bytes value) noexcept, void *owner)
    velum_kv_figures velum_kv_get_figures(const velum_kv *kv)
    bint velum_kv_step(const velum_kv *kv, velum_kv_walk *walk, size_t keys_max,
                       void (*record)(void *owner, const velum_kv_record *record) noexcept,
                       void *owner)
    void velum_kv_key_records(const velum_kv *kv, velum_kv_bytes key,
                              void (*record)(void *owner, const velum_kv_record *record) noexcept,
                              void *owner)
    void velum_kv_mark(velum_kv *kv, uint32_t mark)
    bint velum_kv_tend(velum_kv *kv, velum_kv_walk *walk, size_t keys_max, uint32_t settle_to,
                       uint32_t drop_to, velum_kv_tended *tended)
    int velum_kv_sums(const velum_kv *kv, unsigned level, uint32_t index, uint64_t *sums)
    int velum_kv_leaf(const velum_kv *kv, uint32_t leaf,
                      void (*record)(void *owner, const velum_kv_record *record) noexcept,
                      void *owner)

cdef extern from "kv_read.h":
    ctypedef struct velum_kv_found:
        uint64_t records, plain, damaged, first_damaged, torn_bytes

cdef extern from "kv_check.h" nogil:
    ctypedef struct velum_kv_damage:
        uint64_t offset, bytes
    ctypedef struct velum_kv_checked:
        velum_kv_found found
        uint64_t file_bytes, damaged_bytes, compact_bytes
        velum_kv_damage damage[1]
        size_t damage_count, keys, tombstones
    int velum_kv_check(const char *path, velum_kv_checked *report)

cdef extern from "kv_text.h" nogil:
    enum:
        VELUM_KV_LINE_RECORD
    ctypedef int velum_kv_line
    size_t velum_kv_text_room(const velum_kv_record *record)
    int velum_kv_text_put(const velum_kv_record *record, char *out, size_t room)
    size_t velum_kv_text_get(const char *text, size_t n, uint8_t *memory, velum_kv_line *what,
                             velum_kv_record *record)

cdef extern from "kv_state.h" nogil:
    ctypedef struct velum_kv_state:
        pass
    const velum_kv *velum_kv_state_keys(const velum_kv_state *s)
    velum_kv_stamp velum_kv_state_stamp(velum_kv_state *s)
    velum_kv_type velum_kv_state_look(velum_kv_state *s, velum_kv_bytes key, velum_kv_view *view)
    int velum_kv_state_write(velum_kv_state *s, velum_kv_record *record, uint64_t *at)
    int velum_kv_state_hear(velum_kv_state *s, const velum_kv_record *record)

cdef extern from "resp.h" nogil:
    ctypedef struct velum_resp_writer:
        void *owner
        uint8_t *(*more)(void *owner, size_t n) noexcept nogil
        void (*wrote)(void *owner, size_t n) noexcept nogil
        uint8_t version
        kv_bool full

cdef extern from "wire_kv.h" nogil:
    enum:
        VELUM_F_KV_DO
        VELUM_F_KV_DONE
        VELUM_F_KV_SUMS
        VELUM_F_KV_END
        VELUM_KV_DO_HEAD_BYTES
        VELUM_KV_ASK_MAX
        VELUM_KV_LEAVES_MAX
        VELUM_KV_KEY_BYTES_MAX
    ctypedef struct velum_kv_do:
        uint8_t durability
        uint32_t timeout_ms
        const uint8_t *request
        uint32_t size
    int velum_wire_put_kv_do(uint8_t *buf, size_t cap, uint64_t correlation, const velum_kv_do *m)
    int velum_wire_get_kv_do(const uint8_t *p, size_t n, velum_kv_do *m)
    ctypedef struct velum_kv_done:
        uint8_t reached
        const uint8_t *reply
        uint32_t size
    int velum_wire_put_kv_done(uint8_t *buf, size_t cap, uint64_t correlation,
                               const velum_kv_done *m)
    int velum_wire_get_kv_done(const uint8_t *p, size_t n, velum_kv_done *m)
    ctypedef struct velum_kv_nodes:
        uint8_t level
        uint16_t count
        const uint8_t *items
    int velum_wire_put_kv_ask(uint8_t *buf, size_t cap, uint64_t correlation,
                              const velum_kv_nodes *m)
    int velum_wire_get_kv_sums(const uint8_t *p, size_t n, velum_kv_nodes *m)
    int velum_wire_put_kv_leaves(uint8_t *buf, size_t cap, uint64_t correlation,
                                 const uint8_t *leaves, size_t count)
    ctypedef struct velum_kv_end:
        uint32_t records
        kv_bool whole
    int velum_wire_get_kv_end(const uint8_t *p, size_t n, velum_kv_end *m)
    void velum_wire_put_kv_index(uint8_t *items, size_t place, uint32_t index)
    uint32_t velum_wire_kv_sum(const uint8_t *items, size_t place, uint64_t *sums)
    ctypedef struct velum_kv_watch_ask:
        uint8_t flags
        velum_kv_bytes pattern
    int velum_wire_put_kv_watch(uint8_t *buf, size_t cap, uint64_t correlation,
                                const velum_kv_watch_ask *m)

cdef extern from "kv_node.h" nogil:
    enum:
        VELUM_KV_WATCH_BYTES_MAX
        VELUM_KV_WATCH_STATE
        VELUM_KV_WATCH_STOP
    ctypedef int velum_kv_durability
    ctypedef struct velum_kv_node:
        pass
    ctypedef struct velum_kv_node_config:
        uint16_t node
        size_t room_bytes
        velum_kv_durability durability
        void *owner
        uint64_t (*unix_ms)(void *owner) noexcept nogil
    ctypedef struct velum_kv_log_figures:
        uint64_t taken, written, synced, file_bytes, live_bytes
        kv_bool syncing, compacting, broken
    ctypedef struct velum_kv_node_figures:
        velum_kv_figures keys
        velum_kv_log_figures log
        velum_kv_found found
        size_t peers, watches, waiting
        uint64_t commands, records_in, records_out, missed, passed_over
        kv_bool refusing
    int velum_kv_node_open(velum_kv_node **out, velum_hub *hub,
                           const velum_kv_node_config *config, const char *path,
                           velum_kv_found *found)
    void velum_kv_node_close(velum_kv_node *node)
    int velum_kv_node_serve(velum_kv_node *node, size_t connections_max, velum_addr *addr)
    int velum_kv_node_join(velum_kv_node *node, velum_handle link, uint16_t id)
    void velum_kv_node_offer(velum_kv_node *node, uint16_t id)
    void velum_kv_node_credit(velum_kv_node *node, uint16_t id)
    void velum_kv_node_part(velum_kv_node *node, velum_handle link)
    velum_kv_state *velum_kv_node_state(velum_kv_node *node)
    void velum_kv_node_set_members(velum_kv_node *node, size_t members)
    bint velum_kv_node_missed(velum_kv_node *node, uint16_t *id)
    int velum_kv_node_sync(velum_kv_node *node, uint64_t token)
    int velum_kv_node_do(velum_kv_node *node, uint8_t durability, uint32_t timeout_ms,
                         uint8_t *request, size_t n, uint64_t token, velum_resp_writer *out,
                         uint8_t *reached)
    bint velum_kv_node_next(velum_kv_node *node, uint64_t *token, uint8_t *reached)
    int velum_kv_node_watch(velum_kv_node *node, uint64_t watch, uint8_t flags,
                            velum_kv_bytes pattern)
    size_t velum_kv_node_changes(velum_kv_node *node, uint64_t *watch, uint8_t *out, size_t room)
    bint velum_kv_node_tend(velum_kv_node *node, uint32_t settle_to, uint32_t drop_to)
    void velum_kv_node_mark(velum_kv_node *node, uint32_t mark)
    uint32_t velum_kv_node_settled(const velum_kv_node *node)
    velum_kv_node_figures velum_kv_node_get_figures(const velum_kv_node *node)
