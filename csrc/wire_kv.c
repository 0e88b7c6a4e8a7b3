/* wire_kv.c: the frames of the key-value state: requests, records, sums, watches.
 *
 * Owns: the layout of frames 0x60 to 0x6b (wire_kv.h) as code. Refuses to know: what is in
 * requests, replies and records, who may send what. How: as wire.c.
 */
#include "wire_kv.h"

#include "kv_text.h"
#include "resp.h"
#include "wire_parts.h"

#define END_BYTES     5u
#define NODES_FIXED   3u
#define INDEX_BYTES   4u
#define WATCH_FIXED   3u
#define PUBLISH_FIXED 2u

/* wire.h names these limits by numbers. */
VELUM__STATIC_CHECK(a_request_fits,
                    VELUM_KV_DO_HEAD_BYTES + VELUM_RESP_BYTES_MAX <= VELUM_KV_FRAME_BYTES_MAX);
VELUM__STATIC_CHECK(a_line_fits, VELUM_KV_RECORDS_HEAD_BYTES + VELUM_KV_LINE_BYTES_MAX <=
                                     VELUM_KV_FRAME_BYTES_MAX);
VELUM__STATIC_CHECK(nodes_fit, VELUM_KV_ASK_MAX == 256u && VELUM_KV_SUM_BYTES == 132u);
VELUM__STATIC_CHECK(leaves_fit, VELUM_KV_LEAVES_MAX == 1024u);
VELUM__STATIC_CHECK(a_pattern_fits, VELUM_KV_KEY_BYTES_MAX == 1024u);
VELUM__STATIC_CHECK(a_message_fits,
                    PUBLISH_FIXED + UINT16_MAX + VELUM_KV_MESSAGE_BYTES_MAX <= 2048u * 1024u &&
                        VELUM_KV_MESSAGE_BYTES_MAX >= VELUM_RESP_BULK_BYTES_MAX);

/* ---- KV_DO, KV_DONE ---- */

static bool do_ok(const velum_kv_do *m) {
    return m->durability <= VELUM_KV_DURABILITY_MAX && m->size >= 1 &&
           m->size <= VELUM_KV_FRAME_BYTES_MAX - VELUM_KV_DO_HEAD_BYTES;
}

int velum_wire_put_kv_do(uint8_t *buf, size_t cap, uint64_t correlation, const velum_kv_do *m) {
    size_t length = VELUM_KV_DO_HEAD_BYTES + (size_t)m->size;
    uint8_t *p;
    if (!do_ok(m)) return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, VELUM_F_KV_DO, length, correlation);
    if (p == NULL) return VELUM_E_FULL;
    p = velum__put32(velum__put8(p, m->durability), m->timeout_ms);
    velum__put_bytes(p, m->request, m->size);
    return velum__whole(length);
}

int velum_wire_get_kv_do(const uint8_t *p, size_t n, velum_kv_do *m) {
    if (n < VELUM_KV_DO_HEAD_BYTES) return VELUM_E_PAYLOAD;
    m->durability = p[0];
    m->timeout_ms = velum__get32(p + 1);
    m->request = p + VELUM_KV_DO_HEAD_BYTES;
    m->size = (uint32_t)(n - VELUM_KV_DO_HEAD_BYTES);
    return do_ok(m) ? (int)n : VELUM_E_PAYLOAD;
}

static bool done_ok(const velum_kv_done *m) {
    return m->reached <= VELUM_KV_DURABILITY_MAX && m->size >= 1 &&
           m->size <= VELUM_KV_REPLY_BYTES_MAX;
}

int velum_wire_put_kv_done(uint8_t *buf, size_t cap, uint64_t correlation, const velum_kv_done *m) {
    size_t length = 1 + (size_t)m->size;
    uint8_t *p;
    if (!done_ok(m)) return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, VELUM_F_KV_DONE, length, correlation);
    if (p == NULL) return VELUM_E_FULL;
    velum__put_bytes(velum__put8(p, m->reached), m->reply, m->size);
    return velum__whole(length);
}

int velum_wire_get_kv_done(const uint8_t *p, size_t n, velum_kv_done *m) {
    if (n < 1) return VELUM_E_PAYLOAD;
    m->reached = p[0];
    m->reply = p + 1;
    m->size = (uint32_t)(n - 1);
    return done_ok(m) ? (int)n : VELUM_E_PAYLOAD;
}

/* ---- KV_RECORDS ---- */

int velum_wire_put_kv_records(uint8_t *buf, size_t cap, uint64_t correlation,
                              const velum_kv_records *m) {
    size_t length = VELUM_KV_RECORDS_HEAD_BYTES + (size_t)m->size;
    uint8_t *p;
    if (length > VELUM_KV_FRAME_BYTES_MAX) return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, VELUM_F_KV_RECORDS, length, correlation);
    if (p == NULL) return VELUM_E_FULL;
    p = velum__put64(p, m->unix_ms);
    if (m->lines != p) velum__put_bytes(p, m->lines, m->size);
    return velum__whole(length);
}

int velum_wire_get_kv_records(const uint8_t *p, size_t n, velum_kv_records *m) {
    if (n < VELUM_KV_RECORDS_HEAD_BYTES) return VELUM_E_PAYLOAD;
    m->unix_ms = velum__get64(p);
    m->lines = p + VELUM_KV_RECORDS_HEAD_BYTES;
    m->size = (uint32_t)(n - VELUM_KV_RECORDS_HEAD_BYTES);
    return (int)n;
}

/* ---- KV_ASK, KV_SUMS, KV_LEAVES, KV_END ---- */

uint32_t velum_wire_kv_index(const uint8_t *items, size_t place) {
    return velum__get32(items + place * INDEX_BYTES);
}

void velum_wire_put_kv_index(uint8_t *items, size_t place, uint32_t index) {
    velum__put32(items + place * INDEX_BYTES, index);
}

uint32_t velum_wire_kv_sum(const uint8_t *items, size_t place, uint64_t sums[VELUM_KV_FANOUT]) {
    const uint8_t *p = items + place * VELUM_KV_SUM_BYTES;
    for (size_t i = 0; i < VELUM_KV_FANOUT; i++)
        sums[i] = velum__get64(p + INDEX_BYTES + 8 * i);
    return velum__get32(p);
}

void velum_wire_put_kv_sum(uint8_t *items, size_t place, uint32_t index,
                           const uint64_t sums[VELUM_KV_FANOUT]) {
    uint8_t *p = velum__put32(items + place * VELUM_KV_SUM_BYTES, index);
    for (size_t i = 0; i < VELUM_KV_FANOUT; i++)
        p = velum__put64(p, sums[i]);
}

/* Items of `size` bytes, each with an index of the level first. */
static bool nodes_ok(const velum_kv_nodes *m, size_t size) {
    uint32_t nodes = 1;
    if (m->level >= VELUM_KV_LEVELS || m->count == 0 || m->count > VELUM_KV_ASK_MAX) return false;
    for (uint8_t level = 0; level < m->level; level++)
        nodes *= VELUM_KV_FANOUT;
    for (size_t i = 0; i < m->count; i++)
        if (velum__get32(m->items + i * size) >= nodes) return false;
    return true;
}

static int put_nodes(uint8_t *buf, size_t cap, uint8_t type, uint64_t correlation,
                     const velum_kv_nodes *m, size_t size) {
    size_t length = NODES_FIXED + m->count * size;
    uint8_t *p;
    if (!nodes_ok(m, size)) return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, type, length, correlation);
    if (p == NULL) return VELUM_E_FULL;
    p = velum__put16(velum__put8(p, m->level), m->count);
    if (m->items != p) velum__put_bytes(p, m->items, m->count * size);
    return velum__whole(length);
}

static int get_nodes(const uint8_t *p, size_t n, velum_kv_nodes *m, size_t size) {
    if (n < NODES_FIXED) return VELUM_E_PAYLOAD;
    m->level = p[0];
    m->count = velum__get16(p + 1);
    m->items = p + NODES_FIXED;
    if (n != NODES_FIXED + m->count * size) return VELUM_E_PAYLOAD;
    return nodes_ok(m, size) ? (int)n : VELUM_E_PAYLOAD;
}

int velum_wire_put_kv_ask(uint8_t *buf, size_t cap, uint64_t correlation, const velum_kv_nodes *m) {
    return put_nodes(buf, cap, VELUM_F_KV_ASK, correlation, m, INDEX_BYTES);
}

int velum_wire_get_kv_ask(const uint8_t *p, size_t n, velum_kv_nodes *m) {
    return get_nodes(p, n, m, INDEX_BYTES);
}

int velum_wire_put_kv_sums(uint8_t *buf, size_t cap, uint64_t correlation,
                           const velum_kv_nodes *m) {
    return put_nodes(buf, cap, VELUM_F_KV_SUMS, correlation, m, VELUM_KV_SUM_BYTES);
}

int velum_wire_get_kv_sums(const uint8_t *p, size_t n, velum_kv_nodes *m) {
    return get_nodes(p, n, m, VELUM_KV_SUM_BYTES);
}

static bool leaves_ok(const uint8_t *leaves, size_t count) {
    if (count == 0 || count > VELUM_KV_LEAVES_MAX) return false;
    for (size_t i = 0; i < count; i++)
        if (velum_wire_kv_index(leaves, i) >= VELUM_KV_LEAVES) return false;
    return true;
}

int velum_wire_put_kv_leaves(uint8_t *buf, size_t cap, uint64_t correlation, const uint8_t *leaves,
                             size_t count) {
    size_t length = 2 + count * INDEX_BYTES;
    uint8_t *p;
    if (!leaves_ok(leaves, count)) return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, VELUM_F_KV_LEAVES, length, correlation);
    if (p == NULL) return VELUM_E_FULL;
    velum__put_bytes(velum__put16(p, (uint16_t)count), leaves, count * INDEX_BYTES);
    return velum__whole(length);
}

int velum_wire_get_kv_leaves(const uint8_t *p, size_t n, const uint8_t **leaves, size_t *count) {
    if (n < 2) return VELUM_E_PAYLOAD;
    *count = velum__get16(p);
    *leaves = p + 2;
    if (n != 2 + *count * INDEX_BYTES) return VELUM_E_PAYLOAD;
    return leaves_ok(*leaves, *count) ? (int)n : VELUM_E_PAYLOAD;
}

int velum_wire_put_kv_end(uint8_t *buf, size_t cap, uint64_t correlation, const velum_kv_end *m) {
    uint8_t *p = velum__wire_begin(buf, cap, VELUM_F_KV_END, END_BYTES, correlation);
    if (p == NULL) return VELUM_E_FULL;
    velum__put8(velum__put32(p, m->records), m->whole);
    return velum__whole(END_BYTES);
}

int velum_wire_get_kv_end(const uint8_t *p, size_t n, velum_kv_end *m) {
    if (n != END_BYTES || p[4] > 1) return VELUM_E_PAYLOAD;
    m->records = velum__get32(p);
    m->whole = p[4] == 1;
    return (int)n;
}

/* ---- KV_WATCH, KV_PUBLISH ---- */

static bool watch_ok(const velum_kv_watch_ask *m) {
    return m->flags <= VELUM_KV_WATCH_STOP && m->pattern.size <= VELUM_KV_KEY_BYTES_MAX;
}

int velum_wire_put_kv_watch(uint8_t *buf, size_t cap, uint64_t correlation,
                            const velum_kv_watch_ask *m) {
    size_t length = WATCH_FIXED + m->pattern.size;
    uint8_t *p;
    if (!watch_ok(m)) return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, VELUM_F_KV_WATCH, length, correlation);
    if (p == NULL) return VELUM_E_FULL;
    p = velum__put16(velum__put8(p, m->flags), (uint16_t)m->pattern.size);
    velum__put_bytes(p, m->pattern.data, m->pattern.size);
    return velum__whole(length);
}

int velum_wire_get_kv_watch(const uint8_t *p, size_t n, velum_kv_watch_ask *m) {
    if (n < WATCH_FIXED) return VELUM_E_PAYLOAD;
    m->flags = p[0];
    m->pattern = (velum_kv_bytes){p + WATCH_FIXED, velum__get16(p + 1)};
    if (n != WATCH_FIXED + m->pattern.size) return VELUM_E_PAYLOAD;
    return watch_ok(m) ? (int)n : VELUM_E_PAYLOAD;
}

int velum_wire_put_kv_publish(uint8_t *buf, size_t cap, uint64_t correlation,
                              const velum_kv_published *m) {
    size_t length = PUBLISH_FIXED + m->channel.size + m->message.size;
    uint8_t *p;
    if (m->channel.size > UINT16_MAX || m->message.size > VELUM_KV_MESSAGE_BYTES_MAX)
        return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, VELUM_F_KV_PUBLISH, length, correlation);
    if (p == NULL) return VELUM_E_FULL;
    p = velum__put16(p, (uint16_t)m->channel.size);
    p = velum__put_bytes(p, m->channel.data, m->channel.size);
    velum__put_bytes(p, m->message.data, m->message.size);
    return velum__whole(length);
}

int velum_wire_get_kv_publish(const uint8_t *p, size_t n, velum_kv_published *m) {
    if (n < PUBLISH_FIXED) return VELUM_E_PAYLOAD;
    m->channel = (velum_kv_bytes){p + PUBLISH_FIXED, velum__get16(p)};
    if (m->channel.size > n - PUBLISH_FIXED) return VELUM_E_PAYLOAD;
    m->message.data = m->channel.data + m->channel.size;
    m->message.size = n - PUBLISH_FIXED - m->channel.size;
    return m->message.size <= VELUM_KV_MESSAGE_BYTES_MAX ? (int)n : VELUM_E_PAYLOAD;
}
