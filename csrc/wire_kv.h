/* wire_kv.h: the frames of the key-value state, as bytes; docs/kv.md says what they mean.
 *
 * Owns: the layout of frames 0x60 to 0x6b, once; docs/protocol.md, section 15, says the same in
 * words. Refuses to know: requests, replies, changes (resp.h) and records (kv_text.h), which are
 * bytes here, and who may send what when. How: as wire.h. KV_HEARD has no payload
 * (velum_wire_put_empty); KV_CHANGES is RESP3 arrays, KV_TALK what two owners agree on, both up to
 * the frame's end: they need no codec.
 */
#ifndef VELUM_WIRE_KV_H
#define VELUM_WIRE_KV_H

#include "kv.h"
#include "wire.h"

/* KV_DO: durability u8 | timeout_ms u32 | request to the frame's end, 1 byte or more. Answered by
 * KV_DONE: reached u8 | reply to the frame's end, 1 byte or more. */
#define VELUM_KV_DURABILITY_MAX                                                                    \
    4u /* velum_kv_durability; 0: the node's own, or nothing written                               \
        */
#define VELUM_KV_DO_HEAD_BYTES 5u
typedef struct {
    uint8_t durability;
    uint32_t timeout_ms; /* of QUORUM; 0: the node's own */
    const uint8_t *request;
    uint32_t size;
} velum_kv_do;
int velum_wire_put_kv_do(uint8_t *buf, size_t cap, uint64_t correlation, const velum_kv_do *m);
int velum_wire_get_kv_do(const uint8_t *p, size_t n, velum_kv_do *m);
typedef struct {
    uint8_t reached;
    const uint8_t *reply;
    uint32_t size;
} velum_kv_done;
#define VELUM_KV_REPLY_BYTES_MAX (VELUM_KV_FRAME_BYTES_MAX - 1u)
int velum_wire_put_kv_done(uint8_t *buf, size_t cap, uint64_t correlation, const velum_kv_done *m);
int velum_wire_get_kv_done(const uint8_t *p, size_t n, velum_kv_done *m);

/* KV_RECORDS: unix_ms u64 | lines to the frame's end, 0 bytes or more. */
#define VELUM_KV_RECORDS_HEAD_BYTES 8u
typedef struct {
    uint64_t unix_ms; /* the sender's clock */
    const uint8_t *lines;
    uint32_t size;
} velum_kv_records;
int velum_wire_put_kv_records(uint8_t *buf, size_t cap, uint64_t correlation,
                              const velum_kv_records *m);
int velum_wire_get_kv_records(const uint8_t *p, size_t n, velum_kv_records *m);

/* KV_ASK: level u8 (below VELUM_KV_LEVELS) | count u16 (1..VELUM_KV_ASK_MAX) | count times index
 * u32: inner nodes of that level. Answered by KV_SUMS: level u8 | count u16 | count times (index
 * u32 | VELUM_KV_FANOUT times sum u64), in the order asked for. */
#define VELUM_KV_ASK_MAX   256u
#define VELUM_KV_SUM_BYTES (4u + VELUM_KV_FANOUT * 8u)
typedef struct {
    uint8_t level;
    uint16_t count;
    const uint8_t *items; /* raw: indexes (velum_wire_kv_index), or sums (velum_wire_kv_sum) */
} velum_kv_nodes;
int velum_wire_put_kv_ask(uint8_t *buf, size_t cap, uint64_t correlation, const velum_kv_nodes *m);
int velum_wire_get_kv_ask(const uint8_t *p, size_t n, velum_kv_nodes *m);
int velum_wire_put_kv_sums(uint8_t *buf, size_t cap, uint64_t correlation, const velum_kv_nodes *m);
int velum_wire_get_kv_sums(const uint8_t *p, size_t n, velum_kv_nodes *m);

/* KV_LEAVES: count u16 (1..VELUM_KV_LEAVES_MAX) | count times leaf u32. Answered by KV_RECORDS of
 * correlation 0, then KV_END: records u32 | whole u8. */
#define VELUM_KV_LEAVES_MAX 1024u
int velum_wire_put_kv_leaves(uint8_t *buf, size_t cap, uint64_t correlation, const uint8_t *leaves,
                             size_t count);
int velum_wire_get_kv_leaves(const uint8_t *p, size_t n, const uint8_t **leaves, size_t *count);
typedef struct {
    uint32_t records; /* that were sent */
    bool whole;       /* all that was in each leaf at one moment */
} velum_kv_end;
int velum_wire_put_kv_end(uint8_t *buf, size_t cap, uint64_t correlation, const velum_kv_end *m);
int velum_wire_get_kv_end(const uint8_t *p, size_t n, velum_kv_end *m);

/* An index or leaf at a place in a raw list, 4 bytes. */
uint32_t velum_wire_kv_index(const uint8_t *items, size_t place);
void velum_wire_put_kv_index(uint8_t *items, size_t place, uint32_t index);
/* Index and sums at a place, VELUM_KV_SUM_BYTES. */
uint32_t velum_wire_kv_sum(const uint8_t *items, size_t place, uint64_t sums[VELUM_KV_FANOUT]);
void velum_wire_put_kv_sum(uint8_t *items, size_t place, uint32_t index,
                           const uint64_t sums[VELUM_KV_FANOUT]);

/* KV_WATCH: flags u8 | pattern bytes16 (VELUM_KV_KEY_BYTES_MAX at most). */
#define VELUM_KV_WATCH_STATE 1u /* the current state first */
#define VELUM_KV_WATCH_STOP  2u /* no more of the watch that the correlation names; alone */
typedef struct {
    uint8_t flags;
    velum_kv_bytes pattern;
} velum_kv_watch_ask;
int velum_wire_put_kv_watch(uint8_t *buf, size_t cap, uint64_t correlation,
                            const velum_kv_watch_ask *m);
int velum_wire_get_kv_watch(const uint8_t *p, size_t n, velum_kv_watch_ask *m);

/* KV_PUBLISH: channel bytes16 | message to the frame's end. No answer. */
#define VELUM_KV_MESSAGE_BYTES_MAX (1024u * 1024u + 64u)
typedef struct {
    velum_kv_bytes channel, message;
} velum_kv_published;
int velum_wire_put_kv_publish(uint8_t *buf, size_t cap, uint64_t correlation,
                              const velum_kv_published *m);
int velum_wire_get_kv_publish(const uint8_t *p, size_t n, velum_kv_published *m);

#endif
