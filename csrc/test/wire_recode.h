/* wire_recode.h: decodes a message and encodes it again, for tests and fuzzing.
 *
 * Decoding is strict and every message has one encoding, so what comes out must be what went in,
 * byte for byte. Knows one decoder and one encoder per frame type and nothing else.
 */
#ifndef VELUM_TEST_WIRE_RECODE_H
#define VELUM_TEST_WIRE_RECODE_H

#include <stdlib.h>
#include <string.h>

#include "wire_bytes.h"
#include "wire_kv.h"
#include "wire_store.h"

#define RECODE_BYTES_MAX (VELUM_HEADER_BYTES + VELUM_KV_FRAME_BYTES_MAX)

static int recode_sync(const velum_header *h, const uint8_t *p, uint8_t *out, size_t cap) {
    velum_member *members;
    velum_health *healths;
    size_t count;
    int result = velum_wire_get_sync(p, h->length, &count);
    if (result < 0) return result;
    members = malloc(count * sizeof *members);
    healths = malloc(count * sizeof *healths);
    if (members == NULL || healths == NULL) result = VELUM_E_NOMEM;
    for (size_t i = 0; i < count && result > 0; i++)
        result = velum_wire_get_sync_at(p, h->length, i, &members[i], &healths[i]);
    if (result > 0)
        result = velum_wire_put_sync(out, cap, h->type, h->correlation, members, healths, count);
    free(members);
    free(healths);
    return result;
}

static int recode_module(const velum_header *h, const uint8_t *p, uint8_t *out, size_t cap) {
    velum_module_part part;
    int got = velum_wire_get_module_head(p, h->length, h->length, &part);
    if (got < 0) return got;
    got = velum_wire_put_module_head(out, cap, h->correlation, &part);
    if (got < 0) return got;
    if (cap - (size_t)got < part.size) return VELUM_E_FULL;
    memcpy(out + got, p + VELUM_MODULE_HEAD_BYTES, part.size);
    return got + (int)part.size;
}

/* By steps, as a worker writes it. */
static int recode_slices(const velum_header *h, const uint8_t *p, uint8_t *out, size_t cap) {
    velum_slices m;
    velum_slices_writer w;
    const uint8_t *at;
    int result = velum_wire_get_slices(p, h->length, &m);
    if (result < 0) return result;
    result = velum_wire_slices_begin(&w, out, cap, m.job);
    at = m.runs;
    for (uint16_t i = 0; i < m.nruns && result == 0; i++) {
        velum_slice_run run = velum_wire_next_run(&at);
        for (uint32_t k = 0; k < run.count && result == 0; k++)
            result = velum_wire_slices_add(&w, run.first + k, velum__get64(run.values + 8 * k));
    }
    at = m.failed;
    for (uint16_t i = 0; i < m.nfailed && result == 0; i++) {
        velum_failed failed = velum_wire_next_failed(&at);
        result = velum_wire_slices_fail(&w, failed.slice, failed.code, failed.text);
    }
    return result < 0 ? result : velum_wire_slices_end(&w, h->correlation, m.flags, m.busy_us);
}

static int recode_plain(const velum_header *h, const uint8_t *p, uint8_t *out, size_t cap) {
    if (cap < VELUM_HEADER_BYTES + h->length) return VELUM_E_FULL;
    velum_wire_put_header(out, h->type, h->length, h->correlation);
    if (h->length > 0) memcpy(out + VELUM_HEADER_BYTES, p, h->length);
    return (int)(VELUM_HEADER_BYTES + h->length);
}

static int recode_chunk(const velum_header *h, const uint8_t *p, uint8_t *out, size_t cap) {
    velum_chunk_part part;
    int got = velum_wire_get_chunk_head(p, h->length, h->length, &part);
    if (got < 0) return got;
    got = velum_wire_put_chunk_head(out, cap, h->correlation, &part);
    if (got < 0) return got;
    if (cap - (size_t)got < part.size) return VELUM_E_FULL;
    memcpy(out + got, p + VELUM_CHUNK_HEAD_BYTES, part.size);
    return got + (int)part.size;
}

static int recode_names(const velum_header *h, const uint8_t *p, uint8_t *out, size_t cap) {
    velum_name_row rows[VELUM_NAMES_PAGE_MAX];
    velum_names_page page;
    const uint8_t *at;
    int got = velum_wire_get_names(p, h->length, &page);
    if (got < 0) return got;
    at = page.rows;
    for (uint16_t i = 0; i < page.count; i++)
        rows[i] = velum_wire_next_name(&at);
    return velum_wire_put_names(out, cap, h->correlation, page.more == 1, rows, page.count);
}

static int recode_names_ask(const velum_header *h, const uint8_t *p, uint8_t *out, size_t cap) {
    velum_text prefix, after;
    uint16_t limit;
    int got = velum_wire_get_names_ask(p, h->length, &limit, &prefix, &after);
    if (got < 0) return got;
    return velum_wire_put_names_ask(out, cap, h->correlation, limit, prefix, after);
}

static int recode_entry_ask(const velum_header *h, const uint8_t *p, uint8_t *out, size_t cap) {
    uint8_t how, digest[VELUM_DIGEST_BYTES];
    int got = velum_wire_get_entry_ask(p, h->length, &how, digest);
    if (got < 0) return got;
    return velum_wire_put_entry_ask(out, cap, h->correlation, how, digest);
}

static int recode_want(const velum_header *h, const uint8_t *p, uint8_t *out, size_t cap) {
    uint8_t key[VELUM_KEY_BYTES];
    int got = velum_wire_get_want(p, h->length, key);
    return got < 0 ? got : velum_wire_put_want(out, cap, h->correlation, key);
}

/* A type whose functions all have the common shape. */
#define RECODE(type, name, object, arguments)                                                      \
    case VELUM_F_##type: {                                                                         \
        velum_##object m;                                                                          \
        int got = velum_wire_get_##name(p, h->length, &m);                                         \
        return got < 0 ? got : velum_wire_put_##name arguments;                                    \
    }

/* A type that is a list of pieces. */
#define RECODE_LIST(type, name)                                                                    \
    case VELUM_F_##type: {                                                                         \
        const uint8_t *pieces;                                                                     \
        size_t count;                                                                              \
        int got = velum_wire_get_##name(p, h->length, &pieces, &count);                            \
        if (got < 0) return got;                                                                   \
        return velum_wire_put_##name(out, cap, h->correlation, pieces, count);                     \
    }

/* As recode_payload, of the frames of files. */
static int recode_file_payload(const velum_header *h, const uint8_t *p, uint8_t *out, size_t cap) {
    switch (h->type) {
        RECODE(HOLD, hold, hold, (out, cap, h->correlation, &m))
        RECODE(HELD, held, held, (out, cap, h->correlation, &m))
        RECODE(RELEASE, release, release, (out, cap, h->correlation, &m))
        RECODE(ENTRY, entry, entry, (out, cap, h->correlation, &m))
        RECODE(VERSION, version, named_version, (out, cap, h->correlation, &m))
        RECODE(SUMS, sums, sums, (out, cap, h->correlation, &m))
        RECODE(LISTING, listing, listing, (out, cap, h->correlation, &m))
        RECODE(LISTED, listed, listed, (out, cap, h->correlation, &m))
        RECODE_LIST(OFFER, offer)
        RECODE_LIST(OFFERED, offered)
        RECODE_LIST(CLAIMS, claims)
        RECODE_LIST(CLAIMED, claimed)
    case VELUM_F_CHUNK:
        return recode_chunk(h, p, out, cap);
    case VELUM_F_WANT:
        return recode_want(h, p, out, cap);
    case VELUM_F_ENTRY_ASK:
        return recode_entry_ask(h, p, out, cap);
    case VELUM_F_NAMES_ASK:
        return recode_names_ask(h, p, out, cap);
    case VELUM_F_NAMES:
        return recode_names(h, p, out, cap);
    default:
        return VELUM_E_FRAME_TYPE;
    }
}

/* As recode_payload, of the frames of the key-value state. */
static int recode_kv_payload(const velum_header *h, const uint8_t *p, uint8_t *out, size_t cap) {
    switch (h->type) {
        RECODE(KV_DO, kv_do, kv_do, (out, cap, h->correlation, &m))
        RECODE(KV_DONE, kv_done, kv_done, (out, cap, h->correlation, &m))
        RECODE(KV_RECORDS, kv_records, kv_records, (out, cap, h->correlation, &m))
        RECODE(KV_ASK, kv_ask, kv_nodes, (out, cap, h->correlation, &m))
        RECODE(KV_SUMS, kv_sums, kv_nodes, (out, cap, h->correlation, &m))
        RECODE(KV_END, kv_end, kv_end, (out, cap, h->correlation, &m))
        RECODE(KV_WATCH, kv_watch, kv_watch_ask, (out, cap, h->correlation, &m))
        RECODE(KV_PUBLISH, kv_publish, kv_published, (out, cap, h->correlation, &m))
        RECODE_LIST(KV_LEAVES, kv_leaves)
    case VELUM_F_KV_HEARD:
        return velum_wire_put_empty(out, cap, h->type, h->correlation);
    case VELUM_F_KV_CHANGES:
    case VELUM_F_KV_TALK:
        return recode_plain(h, p, out, cap);
    default:
        return VELUM_E_FRAME_TYPE;
    }
}
#undef RECODE_LIST

/* Payload `p` of h->length bytes. Returns the length of the frame written to `out`, or the error.
 */
static int recode_payload(const velum_header *h, const uint8_t *p, uint8_t *out, size_t cap) {
    typedef uint16_t velum_cancel;
    typedef uint32_t velum_trim;
    switch (h->type) {
        RECODE(HELLO, hello, hello, (out, cap, h->correlation, &m))
        RECODE(BYE, bye, bye, (out, cap, &m))
        RECODE(CALL, call, call, (out, cap, h->correlation, &m))
        RECODE(TASK, task, task, (out, cap, h->correlation, &m))
        RECODE(RESULT, result, result, (out, cap, h->correlation, &m))
        RECODE(ERROR, error, error, (out, cap, h->correlation, &m))
        RECODE(PROGRESS, progress, progress, (out, cap, h->correlation, &m))
        RECODE(CANCEL, cancel, cancel, (out, cap, h->correlation, m))
        RECODE(MODULE_WANT, module_want, module_want, (out, cap, h->correlation, &m))
        RECODE(SCATTER, scatter, scatter, (out, cap, h->correlation, &m))
        RECODE(LEASE, lease, lease, (out, cap, h->correlation, &m))
        RECODE(TRIM, trim, trim, (out, cap, h->correlation, m))
        RECODE(JOB, job, job, (out, cap, h->correlation, &m))
        RECODE(JOB_ASK, job_ask, job_ask, (out, cap, h->correlation, &m))
        RECODE(HEALTH, health, health, (out, cap, &m))
        RECODE(QUERY, query, text, (out, cap, h->correlation, m))
    case VELUM_F_PING:
    case VELUM_F_PONG:
        return velum_wire_put_empty(out, cap, h->type, h->correlation);
    case VELUM_F_MODULE:
        return recode_module(h, p, out, cap);
    case VELUM_F_SLICES:
        return recode_slices(h, p, out, cap);
    case VELUM_F_SYNC:
    case VELUM_F_SYNC_REPLY:
        return recode_sync(h, p, out, cap);
    case VELUM_F_ANSWER:
        return recode_plain(h, p, out, cap);
    default:
        return h->type >= VELUM_F_KV_DO ? recode_kv_payload(h, p, out, cap)
                                        : recode_file_payload(h, p, out, cap);
    }
}
#undef RECODE

static int recode_datagram(const uint8_t *buf, size_t n, uint8_t *out, size_t cap) {
    velum_datagram m;
    int got = velum_wire_get_datagram(buf, n, &m);
    return got < 0 ? got : velum_wire_put_datagram(out, cap, &m);
}

/* One frame or datagram at buf. Returns the length written to `out`, 0 for need more, or the
 * error. */
static int recode(const uint8_t *buf, size_t n, uint8_t *out, size_t cap) {
    velum_header h;
    int got = velum_wire_header(buf, n, &h);
    if (got <= 0) return got;
    if (velum_wire_is_datagram(h.type)) return recode_datagram(buf, n, out, cap);
    if (n - (size_t)got < h.length) return 0;
    got = recode_payload(&h, buf + got, out, cap);
    if (got > 0 && (h.type == VELUM_F_BYE || h.type == VELUM_F_HEALTH))
        velum_wire_put_header(out, h.type, h.length, h.correlation); /* theirs is always 0 */
    return got;
}

#endif
