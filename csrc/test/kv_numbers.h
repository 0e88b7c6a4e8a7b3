/* kv_numbers.h: records that are made from their number, which is their stamp: whatever a log gives
 * back can be compared with what was written.
 */
#ifndef VELUM_TEST_KV_NUMBERS_H
#define VELUM_TEST_KV_NUMBERS_H

#include "check.h"
#include "kv_record.h"

#define KEYS       24u
#define LONG_BYTES 3000u

typedef struct {
    velum_kv_record record;
    char key[8];
    uint8_t part[16], value[LONG_BYTES];
} made;

static inline void fill(uint8_t *bytes, size_t n, uint64_t *draw) {
    for (size_t i = 0; i < n; i++) {
        *draw = *draw * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        bytes[i] = (uint8_t)(*draw >> 56);
    }
}

static inline size_t key_of(size_t number) {
    return (number * UINT64_C(0x9e3779b97f4a7c15) >> 40) % KEYS;
}

static inline const velum_kv_record *make_record(size_t number, made *m) {
    uint64_t draw = number + 77;
    velum_kv_record *r = &m->record;
    int size = snprintf(m->key, sizeof m->key, "k=%u", (unsigned)key_of(number));
    memset(r, 0, sizeof *r);
    r->op = (velum_kv_op)(number % 8 + 1);
    r->stamp.time = number + 1;
    r->stamp.node = 7;
    r->key = (velum_kv_bytes){(const uint8_t *)m->key, (size_t)size};
    fill(m->part, sizeof m->part, &draw);
    if (r->op == VELUM_KV_SET || r->op == VELUM_KV_FIELD)
        r->value = (velum_kv_bytes){m->value, number % 97 == 0 ? LONG_BYTES : number % 50};
    fill(m->value, r->value.size, &draw);
    if (r->op == VELUM_KV_SET) r->json = number % 3 == 0;
    if (r->op == VELUM_KV_EXPIRE) r->until_ms = number + 5;
    if (r->op == VELUM_KV_COUNT) r->sum = 50 - (int64_t)number;
    if (r->op == VELUM_KV_COUNT) r->fresh = number % 3 == 0;
    if (r->op == VELUM_KV_COUNT || r->op == VELUM_KV_REMOVE)
        r->of = (velum_kv_stamp){number / 2 + 1, r->fresh ? 7 : 9};
    if (r->op >= VELUM_KV_ADD) r->part = (velum_kv_bytes){m->part, 1 + number % 15};
    return r;
}

static inline bool same_bytes(velum_kv_bytes a, velum_kv_bytes b) {
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool same(const velum_kv_record *a, const velum_kv_record *b) {
    return a->op == b->op && a->json == b->json && a->fresh == b->fresh &&
           velum_kv_compare(a->stamp, b->stamp) == 0 && velum_kv_compare(a->of, b->of) == 0 &&
           a->until_ms == b->until_ms && a->sum == b->sum && same_bytes(a->key, b->key) &&
           same_bytes(a->part, b->part) && same_bytes(a->value, b->value);
}

#endif
