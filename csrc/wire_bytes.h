/* wire_bytes.h: little-endian integers as bytes, and a cursor over bytes that came from a stranger.
 *
 * Owns: the byte order of everything Velum writes down. Refuses to know: what the bytes mean.
 * How: shifts, never a pointer cast, so that alignment and the machine's own order do not matter;
 * compilers make one load or store of each. A getter trusts that its bytes are there: whoever calls
 * it got them from velum__take, or has checked a length.
 */
#ifndef VELUM_WIRE_BYTES_H
#define VELUM_WIRE_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Says at compile time that a constant condition holds. */
#define VELUM__STATIC_CHECK(name, condition)                                                       \
    typedef char velum__static_check_##name[(condition) ? 1 : -1]

static inline uint16_t velum__get16(const uint8_t *p) {
    return (uint16_t)(p[0] | (unsigned)p[1] << 8);
}

static inline uint32_t velum__get32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t velum__get64(const uint8_t *p) {
    return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24 |
           (uint64_t)p[4] << 32 | (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 |
           (uint64_t)p[7] << 56;
}

/* Each put returns the place behind what it wrote. */

static inline uint8_t *velum__put8(uint8_t *p, uint8_t v) {
    p[0] = v;
    return p + 1;
}

static inline uint8_t *velum__put16(uint8_t *p, uint16_t v) {
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
    return p + 2;
}

static inline uint8_t *velum__put32(uint8_t *p, uint32_t v) {
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
    p[2] = (uint8_t)(v >> 16);
    p[3] = (uint8_t)(v >> 24);
    return p + 4;
}

static inline uint8_t *velum__put64(uint8_t *p, uint64_t v) {
    return velum__put32(velum__put32(p, (uint32_t)v), (uint32_t)(v >> 32));
}

/* `data` may be NULL when n is 0. */
static inline uint8_t *velum__put_bytes(uint8_t *p, const void *data, size_t n) {
    if (n > 0) memcpy(p, data, n);
    return p + n;
}

/* What is left to read. */
typedef struct {
    const uint8_t *at;
    size_t left;
} velum__reader;

/* The next n bytes, or NULL if there are not so many. */
static inline const uint8_t *velum__take(velum__reader *r, size_t n) {
    const uint8_t *p = r->at;
    if (n > r->left) return NULL;
    r->at += n;
    r->left -= n;
    return p;
}

#endif
