/* wire_recode.h: decodes a message and encodes it again, for tests and fuzzing.
 *
 * Decoding is strict and every message has one encoding, so what comes out must be what went in,
 * byte for byte. Knows one decoder and one encoder per frame type and nothing else.
 */
#ifndef VELUM_TEST_WIRE_RECODE_H
#define VELUM_TEST_WIRE_RECODE_H

#include <stdlib.h>
#include <string.h>

#include "wire.h"
#include "wire_bytes.h"

#define RECODE_BYTES_MAX (VELUM_HEADER_BYTES + VELUM_FRAME_BYTES_MAX)

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

/* A type whose functions all have the common shape. */
#define RECODE(type, name, object, arguments)                                                      \
    case VELUM_F_##type: {                                                                         \
        velum_##object m;                                                                          \
        int got = velum_wire_get_##name(p, h->length, &m);                                         \
        return got < 0 ? got : velum_wire_put_##name arguments;                                    \
    }

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
    default:
        return recode_plain(h, p, out, cap); /* ANSWER */
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
    if (h.type >= VELUM_F_PROBE) return recode_datagram(buf, n, out, cap);
    if (n - (size_t)got < h.length) return 0;
    got = recode_payload(&h, buf + got, out, cap);
    if (got > 0 && (h.type == VELUM_F_BYE || h.type == VELUM_F_HEALTH))
        velum_wire_put_header(out, h.type, h.length, h.correlation); /* theirs is always 0 */
    return got;
}

#endif
