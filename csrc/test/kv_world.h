/* kv_world.h: records in few words, for the tests of the key-value state. */
#ifndef VELUM_TEST_KV_WORLD_H
#define VELUM_TEST_KV_WORLD_H

#include "check.h"
#include "kv.h"

#include <stdlib.h>

static inline velum_kv_bytes text(const char *s) {
    velum_kv_bytes bytes = {(const uint8_t *)s, strlen(s)};
    return bytes;
}

static inline velum_kv_stamp at(uint64_t time, uint16_t node) {
    velum_kv_stamp stamp = {time, node};
    return stamp;
}

static inline bool is_text(velum_kv_bytes bytes, const char *s) {
    return bytes.size == strlen(s) && bytes.data != NULL &&
           (bytes.size == 0 || memcmp(bytes.data, s, bytes.size) == 0);
}

static inline bool same_bytes(velum_kv_bytes a, velum_kv_bytes b) {
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool is_at(velum_kv_stamp stamp, uint64_t time, uint16_t node) {
    return velum_kv_compare(stamp, at(time, node)) == 0;
}

static inline velum_kv_record record_of(velum_kv_op op, uint64_t time, uint16_t node,
                                        const char *key) {
    velum_kv_record r;
    memset(&r, 0, sizeof r);
    r.op = op;
    r.stamp = at(time, node);
    r.key = text(key);
    return r;
}

static inline velum_kv_record set(uint64_t time, uint16_t node, const char *key,
                                  const char *value) {
    velum_kv_record r = record_of(VELUM_KV_SET, time, node, key);
    r.value = text(value);
    return r;
}

static inline velum_kv_record del(uint64_t time, uint16_t node, const char *key) {
    return record_of(VELUM_KV_DEL, time, node, key);
}

static inline velum_kv_record expire(uint64_t time, uint16_t node, const char *key,
                                     uint64_t until_ms) {
    velum_kv_record r = record_of(VELUM_KV_EXPIRE, time, node, key);
    r.until_ms = until_ms;
    return r;
}

static inline velum_kv_record count(uint64_t time, uint16_t node, const char *key, int64_t sum,
                                    velum_kv_stamp base) {
    velum_kv_record r = record_of(VELUM_KV_COUNT, time, node, key);
    r.sum = sum;
    r.of = base;
    return r;
}

/* From nothing: its first increment was at `first`. */
static inline velum_kv_record fresh(uint64_t time, uint16_t node, const char *key, int64_t sum,
                                    uint64_t first) {
    velum_kv_record r = count(time, node, key, sum, at(first, node));
    r.fresh = true;
    return r;
}

static inline velum_kv_record add(uint64_t time, uint16_t node, const char *key,
                                  const char *element) {
    velum_kv_record r = record_of(VELUM_KV_ADD, time, node, key);
    r.part = text(element);
    return r;
}

static inline velum_kv_record take_out(uint64_t time, uint16_t node, const char *key,
                                       const char *element, velum_kv_stamp addition) {
    velum_kv_record r = record_of(VELUM_KV_REMOVE, time, node, key);
    r.part = text(element);
    r.of = addition;
    return r;
}

static inline velum_kv_record field(uint64_t time, uint16_t node, const char *key, const char *name,
                                    const char *value) {
    velum_kv_record r = record_of(VELUM_KV_FIELD, time, node, key);
    r.part = text(name);
    r.value = text(value);
    return r;
}

static inline velum_kv_record unfield(uint64_t time, uint16_t node, const char *key,
                                      const char *name) {
    velum_kv_record r = record_of(VELUM_KV_UNFIELD, time, node, key);
    r.part = text(name);
    return r;
}

static inline velum_kv *open_kv(size_t room) {
    velum_kv *kv;
    if (velum_kv_open(&kv, room) != 0) abort();
    return kv;
}

static inline int merge(velum_kv *kv, velum_kv_record r) {
    return velum_kv_merge(kv, &r);
}

static inline velum_kv_view look(const velum_kv *kv, const char *key) {
    velum_kv_view view;
    velum_kv_type type = velum_kv_look(kv, text(key), &view);
    CHECK_EQ(view.type, type);
    return view;
}

/* What the node's next count of a key goes on with. */
static inline velum_kv_record own(const velum_kv *kv, const char *key, uint16_t node) {
    velum_kv_record r = record_of(VELUM_KV_COUNT, 0, 0, key);
    velum_kv_own_count(kv, node, &r);
    return r;
}

static inline bool goes_on(velum_kv_record r, int64_t sum, bool fresh, velum_kv_stamp of) {
    return r.sum == sum && r.fresh == fresh && velum_kv_compare(r.of, of) == 0;
}

/* Has all tombstones settled, and dropped if their marks are up to drop_to; how many were. */
static inline size_t tend_all(velum_kv *kv, uint32_t settle_to, uint32_t drop_to) {
    velum_kv_walk walk = {0};
    velum_kv_tended tended = {0, 0};
    while (velum_kv_tend(kv, &walk, 3, settle_to, drop_to, &tended)) {
    }
    return drop_to > 0 ? tended.dropped : tended.settled;
}

/* The exclusive or of all sums of the root. */
static inline uint64_t root_sum(const velum_kv *kv) {
    uint64_t sums[VELUM_KV_FANOUT], all = 0;
    CHECK_EQ(velum_kv_sums(kv, 0, 0, sums), 0);
    for (size_t i = 0; i < VELUM_KV_FANOUT; i++)
        all ^= sums[i];
    return all;
}

static inline void count_record(void *owner, const velum_kv_record *record) {
    (void)record;
    ++*(size_t *)owner;
}

static inline size_t records_in(const velum_kv *kv) {
    velum_kv_walk walk = {0};
    size_t n = 0;
    while (velum_kv_step(kv, &walk, 3, count_record, &n)) {
    }
    return n;
}

typedef struct {
    char text[256];
} joined;

static inline void join(void *owner, velum_kv_bytes part, velum_kv_bytes value) {
    char *end = strchr(((joined *)owner)->text, 0);
    sprintf(end, "%.*s=%.*s;", (int)part.size, (const char *)part.data, (int)value.size,
            (const char *)value.data);
}

/* Whether the parts of a key are these: PART=VALUE; one behind the other. */
static inline bool parts_are(const velum_kv *kv, const char *key, const char *expected) {
    joined all = {""};
    size_t n = velum_kv_parts(kv, text(key), join, &all), seen = 0;
    for (const char *p = all.text; (p = strchr(p, ';')) != NULL; p++)
        seen++;
    CHECK_EQ(n, seen);
    CHECK_EQ(look(kv, key).count, n);
    return strcmp(all.text, expected) == 0;
}

#endif
