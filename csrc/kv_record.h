/* kv_record.h: what is written to the key-value state: one record writes one thing.
 *
 * Owns: the shape of records and stamps, and their limits. docs/kv.md, sections 1 and 2, says what
 * each means and how it merges. Refuses to know: where records lie, in which bytes they travel.
 */
#ifndef VELUM_KV_RECORD_H
#define VELUM_KV_RECORD_H

#include "velum.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VELUM_KV_KEY_BYTES_MAX   1024u
#define VELUM_KV_PART_BYTES_MAX  1024u           /* an element of a set, a field's name */
#define VELUM_KV_VALUE_BYTES_MAX (1024u * 1024u) /* of a SET or FIELD */

/* When something was written, and by which node (1..65535). Zeros: before all. Clocks make even
 * times; a DEL that an expiry makes has the expiry's with the lowest bit set. */
typedef struct {
    uint64_t time; /* hybrid clock: milliseconds since 1970 in the upper 48 bits */
    uint16_t node;
} velum_kv_stamp;

/* < 0, 0, > 0: a is before, is, is after b. */
static inline int velum_kv_compare(velum_kv_stamp a, velum_kv_stamp b) {
    if (a.time != b.time) return a.time < b.time ? -1 : 1;
    return (a.node > b.node) - (a.node < b.node);
}

typedef enum {
    VELUM_KV_SET = 1,
    VELUM_KV_DEL,
    VELUM_KV_EXPIRE,
    VELUM_KV_COUNT,
    VELUM_KV_ADD,
    VELUM_KV_REMOVE,
    VELUM_KV_FIELD,
    VELUM_KV_UNFIELD
} velum_kv_op;

/* Bytes that lie elsewhere; data may be NULL when size is 0. */
typedef struct {
    const uint8_t *data;
    size_t size;
} velum_kv_bytes;

typedef struct {
    velum_kv_op op;
    bool json;            /* SET: the value is JSON */
    bool fresh;           /* COUNT: from nothing, not from a SET */
    velum_kv_stamp stamp; /* when; its node wrote it (of REMOVE: removed it) */
    velum_kv_stamp of;    /* COUNT: the SET that it counts from, or if it is fresh the stamp of its
                             first increment; REMOVE: the addition; else zeros */
    uint64_t until_ms;    /* SET, EXPIRE: unix milliseconds; 0: never */
    int64_t sum;          /* COUNT: what the node has added in all since `of` */
    velum_kv_bytes key;   /* 1..VELUM_KV_KEY_BYTES_MAX */
    velum_kv_bytes part;  /* ADD, REMOVE: the element, 0 bytes or more; FIELD, UNFIELD: the name */
    velum_kv_bytes value; /* SET, FIELD */
} velum_kv_record;

/* Whether what a COUNT says of where it counts from can be. */
static inline bool velum_kv_counts_from(const velum_kv_record *r) {
    if (r->of.node == 0) return false;
    return !r->fresh || (r->of.node == r->stamp.node && r->of.time <= r->stamp.time);
}

#endif
