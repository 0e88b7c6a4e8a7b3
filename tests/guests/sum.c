/* sum: the smallest useful guest, three arguments added up. Wraps like all wasm integers. */
#include "guest.h"

EXPORT(sum) int32_t sum(int32_t a, int32_t b, int32_t c) {
    return (int32_t)((uint32_t)a + (uint32_t)b + (uint32_t)c);
}
