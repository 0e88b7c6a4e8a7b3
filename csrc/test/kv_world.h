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

#endif
