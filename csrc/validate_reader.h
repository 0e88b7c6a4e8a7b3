/* validate_reader.h: a bounded reader of WebAssembly's primitive values.
 *
 * Owns: bytes, LEB128 integers, names and the rule that nothing is read past `end`. Refuses to
 * know: sections, types, instructions. How: every function returns 0, or a negative error after
 * having noted the place and the reason in `fault`; a reader that has failed is not read from
 * again. Encoding: WebAssembly Core Specification 1.0, section 5.2 (values).
 */
#ifndef VELUM_VALIDATE_READER_H
#define VELUM_VALIDATE_READER_H

#include "validate.h"

typedef struct {
    const uint8_t *start;   /* first byte of the module, for offsets in diagnoses */
    const uint8_t *at;      /* next byte to read */
    const uint8_t *end;     /* first byte that is not to be read */
    velum_diagnosis *fault; /* where a failure is noted; all parts of a module share it */
} velum__reader;

/* Passes an error on to the caller, as every function here and in the validator does. */
#define VELUM__TRY(expression)                                                                     \
    do {                                                                                           \
        int try_result = (expression);                                                             \
        if (try_result != 0) return try_result;                                                    \
    } while (0)

/* Notes the reason at the reader's place, and returns `err`. */
int velum__fail(velum__reader *r, int err, const char *text);
/* The same for a fault that began `at`. */
int velum__fail_at(velum__reader *r, const uint8_t *at, int err, const char *text);

/* Bytes left. */
static inline size_t velum__left(const velum__reader *r) {
    return (size_t)(r->end - r->at);
}

/* A reader of the next `size` bytes, which the outer reader then has passed. */
int velum__read_part(velum__reader *r, uint32_t size, velum__reader *part);

int velum__read_byte(velum__reader *r, uint8_t *out);
int velum__skip(velum__reader *r, uint32_t size);

/* LEB128: unsigned 32 bits, and signed of 32, 33 or 64 bits. MODULE_MALFORMED when the encoding is
 * longer than ceil(bits / 7) bytes, or when unused bits of the last byte are not as they must be.
 */
int velum__read_u32_long(velum__reader *r, uint32_t *out);
int velum__read_signed(velum__reader *r, unsigned bits, int64_t *out);

/* Most indices fit one byte, so that case is inline. */
static inline int velum__read_u32(velum__reader *r, uint32_t *out) {
    if (r->at < r->end && *r->at < 0x80) {
        *out = *r->at++;
        return 0;
    }
    return velum__read_u32_long(r, out);
}

/* The count of a vector whose elements take at least `element_size_min` bytes each: a count that
 * the bytes left cannot hold is MODULE_MALFORMED, so that it never sizes an allocation. */
int velum__read_count(velum__reader *r, uint32_t element_size_min, uint32_t *out);

/* A name: its bytes stay in the module. MODULE_MALFORMED when they are not UTF-8. */
int velum__read_name(velum__reader *r, const uint8_t **bytes, uint32_t *size);

#endif
