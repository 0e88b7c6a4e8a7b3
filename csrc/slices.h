/* slices.h: where a range is cut.
 *
 * Owns: the slice table, a pure function of a range and a count. Refuses to know: who runs a slice.
 * velum/policy/slices.py is the same function; tests hold the two together (docs/scatter.md, 1).
 */
#ifndef VELUM_SLICES_H
#define VELUM_SLICES_H

#include "velum.h"

/* How many numbers are in [start, end); false unless both are i32 or both i64, bits zero-extended,
 * and start <= end. */
bool velum_range_length(velum_value start, velum_value end, uint64_t *length);

/* The bounds of slice `index` of `slices` (1..VELUM_SLICES_MAX, index < slices) of [start, end),
 * both i32 or both i64, start <= end: two values of their type. */
void velum_slice_bounds(velum_value start, velum_value end, uint32_t slices, uint32_t index,
                        velum_value *from, velum_value *to);

#endif
