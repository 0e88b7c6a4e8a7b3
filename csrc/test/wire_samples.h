/* wire_samples.h: sample frames, and what is true of every one of them.
 *
 * A test of the codec fills `frame` and keeps it; check_samples then takes each through the general
 * properties: round trip, every prefix, every flipped byte, one byte too many, too little room.
 * Each trial runs on memory of exactly its size, so that the sanitizer sees any read past the end.
 */
#ifndef VELUM_TEST_WIRE_SAMPLES_H
#define VELUM_TEST_WIRE_SAMPLES_H

#include "check.h"
#include "wire.h"
#include "wire_recode.h"

#define SAMPLES_MAX 64

typedef struct {
    uint8_t *bytes;
    size_t size;
} sample;

static sample samples[SAMPLES_MAX];
static size_t sample_count;
static uint8_t out[RECODE_BYTES_MAX];

static inline velum_text text_of(const char *s, size_t size) {
    velum_text t = {s, (uint16_t)size};
    return t;
}

/* As long as any text may be, or by one byte longer. */
static inline velum_text long_text(size_t size) {
    static char text[VELUM_FILE_NAME_BYTES_MAX + 1];
    memset(text, 'x', sizeof text);
    return text_of(text, size);
}

static uint8_t *exact_copy(const uint8_t *bytes, size_t n) {
    uint8_t *copy = malloc(n > 0 ? n : 1);
    if (copy == NULL) abort();
    if (n > 0) memcpy(copy, bytes, n);
    return copy;
}

/* Recodes from memory that ends where the bytes end. */
static int recode_exact(const uint8_t *bytes, size_t n) {
    uint8_t *copy = exact_copy(bytes, n);
    int result = recode(copy + (n == 0), n, out, sizeof out);
    free(copy);
    return result;
}

static uint8_t frame[VELUM_FRAME_BYTES_MAX + VELUM_HEADER_BYTES];

static void keep(int size) {
    CHECK(size > 0 && sample_count < SAMPLES_MAX);
    if (size <= 0 || sample_count == SAMPLES_MAX) return;
    samples[sample_count].bytes = exact_copy(frame, (size_t)size);
    samples[sample_count++].size = (size_t)size;
}

/* What an encoder refuses. */
#define REFUSED(call) CHECK_EQ(call, VELUM_E_ARGUMENT)

static inline size_t fill_values(velum_value *values) {
    static const velum_value four[4] = {{VELUM_I32, 0xfffffff6},
                                        {VELUM_I64, UINT64_MAX},
                                        {VELUM_F32, 0x7fc00000},
                                        {VELUM_F64, UINT64_C(0x400921fb54442d18)}};
    for (size_t i = 0; i < VELUM_ARGS_MAX; i++)
        values[i] = four[i % 4];
    return VELUM_ARGS_MAX;
}

/* The frame of `size` bytes with other bytes at an offset of its payload is malformed. */
static inline void malformed(int size, size_t offset, uint64_t number, size_t width) {
    uint8_t *at = frame + VELUM_HEADER_BYTES + offset;
    uint8_t before[8];
    int got;
    CHECK(size > 0 && VELUM_HEADER_BYTES + offset + width <= (size_t)size);
    memcpy(before, at, width);
    CHECK_EQ(recode_exact(frame, (size_t)size), size);
    for (size_t i = 0; i < width; i++)
        at[i] = (uint8_t)(number >> 8 * i);
    got = recode_exact(frame, (size_t)size);
    if (got != VELUM_E_PAYLOAD) printf("type %u, offset %zu: ", frame[3], offset);
    CHECK_EQ(got, VELUM_E_PAYLOAD);
    memcpy(at, before, width);
}

/* For one that is too large for all properties. */
static inline void recodes(const uint8_t *bytes, int size) {
    CHECK(size > 0 && (size_t)size <= RECODE_BYTES_MAX);
    CHECK_EQ(recode_exact(bytes, (size_t)size), size);
    CHECK(memcmp(out, bytes, (size_t)size) == 0);
}

/* ---- properties ---- */

static bool is_datagram(const sample *s) {
    return velum_wire_is_datagram(s->bytes[3]);
}

static void test_round_trip(const sample *s) {
    CHECK_EQ(recode_exact(s->bytes, s->size), s->size);
    CHECK(memcmp(out, s->bytes, s->size) == 0);
    CHECK(velum_wire_limit(s->bytes[3]) >= (int64_t)(s->size - VELUM_HEADER_BYTES));
    CHECK(strcmp(velum_wire_name(s->bytes[3]), "?") != 0);
    if (is_datagram(s)) CHECK(s->size <= VELUM_DATAGRAM_BYTES_MAX);
}

/* A cut frame needs more; a cut payload, and a cut datagram, are malformed. */
static void test_prefixes(const sample *s) {
    for (size_t n = 0; n < s->size; n++) {
        uint8_t *copy = exact_copy(s->bytes, n);
        velum_datagram d;
        velum_header h;
        if (is_datagram(s))
            CHECK_EQ(velum_wire_get_datagram(copy, n, &d), VELUM_E_PAYLOAD);
        else
            CHECK_EQ(recode(copy, n, out, sizeof out), 0);
        CHECK_EQ(velum_wire_header(copy, n, &h), n < VELUM_HEADER_BYTES ? 0 : 16);
        free(copy);
    }
}

/* Whether what stands last in a frame of this type goes to the payload's end, whatever it is: then
 * a shorter or longer payload is one of other contents. */
static bool is_open(uint8_t type) {
    return type == VELUM_F_ANSWER || type == VELUM_F_KV_DO || type == VELUM_F_KV_DONE ||
           type == VELUM_F_KV_RECORDS || type == VELUM_F_KV_CHANGES || type == VELUM_F_KV_PUBLISH ||
           type == VELUM_F_KV_TALK;
}

static void test_short_payloads(const sample *s) {
    velum_header h;
    if (is_datagram(s) || s->size == VELUM_HEADER_BYTES) return;
    for (size_t n = VELUM_HEADER_BYTES; n < s->size; n++) {
        uint8_t *copy = exact_copy(s->bytes + VELUM_HEADER_BYTES, n - VELUM_HEADER_BYTES);
        h.type = s->bytes[3];
        h.length = (uint32_t)(n - VELUM_HEADER_BYTES);
        h.correlation = 0;
        int got = recode_payload(&h, copy, out, sizeof out);
        if (is_open(h.type) && got >= 0) {
            CHECK_EQ(got, n);
        } else {
            CHECK_EQ(got, VELUM_E_PAYLOAD);
        }
        free(copy);
    }
}

static void test_one_byte_more(const sample *s) {
    uint8_t *longer = malloc(s->size + 1);
    int got;
    if (longer == NULL) abort();
    memcpy(longer, s->bytes, s->size);
    longer[s->size] = 0;
    velum_wire_put_header(longer, s->bytes[3], (uint32_t)(s->size - VELUM_HEADER_BYTES + 1), 0);
    got = recode_exact(longer, s->size + 1);
    if (!is_open(s->bytes[3])) CHECK(got == VELUM_E_PAYLOAD || got == VELUM_E_FRAME_LENGTH);
    free(longer);
}

/* Whatever decodes encodes to the very same bytes. */
static void test_flips(const sample *s) {
    uint8_t *copy = exact_copy(s->bytes, s->size);
    for (size_t at = 0; at < s->size; at++) {
        for (unsigned mask = 1; mask < 256; mask += s->size > 128 ? 36 : 1) {
            int got;
            copy[at] = (uint8_t)(s->bytes[at] ^ mask);
            got = recode(copy, s->size, out, sizeof out);
            CHECK(got <= 0 || memcmp(out, copy, (size_t)got) == 0);
        }
        copy[at] = s->bytes[at];
    }
    free(copy);
}

static void test_no_room(const sample *s) {
    uint8_t room[16];
    CHECK_EQ(recode(s->bytes, s->size, out, s->size), s->size);
    CHECK_EQ(recode(s->bytes, s->size, out, s->size - 1), VELUM_E_FULL);
    CHECK_EQ(recode(s->bytes, s->size, room, 0), VELUM_E_FULL);
}

/* All properties of all samples, which are gone then. */
static void check_samples(void) {
    for (size_t i = 0; i < sample_count; i++) {
        test_round_trip(&samples[i]);
        test_prefixes(&samples[i]);
        test_short_payloads(&samples[i]);
        test_one_byte_more(&samples[i]);
        test_flips(&samples[i]);
        test_no_room(&samples[i]);
        free(samples[i].bytes);
    }
    sample_count = 0;
}

#endif
