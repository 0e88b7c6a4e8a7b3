/* wire_parts.h: what the files of the codec share, and nobody else.
 *
 * Owns: texts, lists of values (wire_parts.c), and the parts that stand in several messages: health
 * (wire_member.c), a task (wire.c), versions and codings (wire_store.c). Refuses to know: whole
 * messages.
 * How: as in wire_bytes.h, a put trusts that there is room and returns the place behind what it
 * wrote; a get takes from a reader and checks everything.
 */
#ifndef VELUM_WIRE_PARTS_H
#define VELUM_WIRE_PARTS_H

#include "wire_bytes.h"
#include "wire_store.h"

/* Writes a header for a payload of `length` bytes, which `type` allows. Returns where the payload
 * goes, or NULL when cap is too small. */
uint8_t *velum__wire_begin(uint8_t *buf, size_t cap, uint8_t type, size_t length,
                           uint64_t correlation);

/* What a put returns: the length of a frame by that of its payload. */
static inline int velum__whole(size_t length) {
    return (int)(VELUM_HEADER_BYTES + length);
}

/* ---- texts: well-formed UTF-8 behind its length. A get leaves to text_ok what is in it. ---- */

bool velum__text_ok(velum_text text, size_t max);
uint8_t *velum__put_text8(uint8_t *p, velum_text text);
uint8_t *velum__put_text16(uint8_t *p, velum_text text);
bool velum__get_text8(velum__reader *r, velum_text *out);
bool velum__get_text16(velum__reader *r, velum_text *out);

/* ---- values: a type u8 and 4 or 8 bytes; a list is a count u8 and so many ---- */

#define VELUM__LIST_BYTES_MAX (1u + VELUM_ARGS_MAX * 9u)

/* Of a known type, bits zero-extended. */
bool velum__value_ok(velum_value value);
/* Bytes of a list, or 0 if there are too many or one is not ok. */
size_t velum__values_size(const velum_value *values, size_t count);
uint8_t *velum__put_values(uint8_t *p, const velum_value *values, uint8_t count);
bool velum__get_values(velum__reader *r, velum_value *values, uint8_t max, uint8_t *count);

/* ---- health, 24 bytes ---- */

bool velum__wire_health_ok(const velum_health *m);
uint8_t *velum__wire_pack_health(uint8_t *p, const velum_health *m);

/* ---- the payload of a TASK, which opens a LEASE too. `flags` are those that may be set. ---- */

/* Its bytes, or 0 if a field is out of its range. */
size_t velum__wire_task_size(const velum_task *m, uint8_t flags);
uint8_t *velum__wire_pack_task(uint8_t *p, const velum_task *m);
bool velum__wire_unpack_task(velum__reader *r, velum_task *m, uint8_t flags);

/* ---- files ---- */

/* Whether k copies (m 0), or stripes of k + m shards, are allowed. */
bool velum__wire_coding_ok(uint8_t k, uint8_t m);
uint8_t *velum__put_version(uint8_t *p, velum_version version);
velum_version velum__get_version(const uint8_t *p); /* 12 bytes that are there */

#endif
