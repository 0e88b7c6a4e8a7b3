/* slices.c: where a range is cut.
 *
 * Owns: the slice table as code (docs/scatter.md, 1). Refuses to know: who runs a slice.
 * How: all in unsigned 64 bits, which hold the length of every range. Nothing in it overflows:
 * quotient * index is at most the length, and rest * index is a product of two numbers of 32 bits.
 */
#include "slices.h"

#define SIGN UINT64_C(0x8000000000000000)

/* An i64 with the number of an integer value, as bits. */
static uint64_t widened(velum_value v) {
    return v.type == VELUM_I32 && v.bits > INT32_MAX ? v.bits | ~(uint64_t)UINT32_MAX : v.bits;
}

bool velum_range_length(velum_value start, velum_value end, uint64_t *length) {
    uint64_t low = widened(start), high = widened(end);
    if (start.type != end.type) return false;
    if (start.type != VELUM_I32 && start.type != VELUM_I64) return false;
    if (start.type == VELUM_I32 && (start.bits > UINT32_MAX || end.bits > UINT32_MAX)) return false;
    if ((low ^ SIGN) > (high ^ SIGN)) return false; /* the order of signed numbers */
    *length = high - low;
    return true;
}

/* Where slice `index` begins; of index == slices the range's end. */
static velum_value bound(velum_value start, uint64_t length, uint32_t slices, uint32_t index) {
    uint64_t quotient = length / slices, rest = length % slices;
    uint64_t at = start.bits + quotient * index + rest * index / slices;
    velum_value v = {start.type, start.type == VELUM_I32 ? at & UINT32_MAX : at};
    return v;
}

void velum_slice_bounds(velum_value start, velum_value end, uint32_t slices, uint32_t index,
                        velum_value *from, velum_value *to) {
    uint64_t length = 0;
    velum_range_length(start, end, &length);
    *from = bound(start, length, slices, index);
    *to = bound(start, length, slices, index + 1);
}
