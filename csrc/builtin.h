/* builtin.h: the functions every node has: add, sub, mul, div on i64 and on f64.
 *
 * Two arguments of one type, i64 or f64 (i32 widens to i64, f32 to f64; one integer and one float
 * make both f64). Integer overflow is OVERFLOW, an integer division by zero or a float division by
 * 0.0 is DIVIDE_BY_ZERO; integer div truncates toward zero; INT64_MIN / -1 is OVERFLOW. A NaN
 * result is the canonical NaN.
 */
#ifndef VELUM_BUILTIN_H
#define VELUM_BUILTIN_H

#include "wire.h"

/* 0 and *out, or UNKNOWN_NAME, SIGNATURE, DIVIDE_BY_ZERO, OVERFLOW. */
int velum_builtin(const velum_call *call, velum_value *out);
/* Name of the built-in at an index from 0, NULL past the last. */
const char *velum_builtin_name(size_t index);

#endif
