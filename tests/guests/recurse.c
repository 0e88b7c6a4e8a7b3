/* recurse: calls itself without end, or to an exact depth. */
#include "guest.h"

static volatile int32_t one = 1;

EXPORT(forever) int32_t forever(int32_t n) {
    return one == 0 ? 0 : forever(n + one) + one;
}

/* depth(n) makes n further calls and returns n. */
EXPORT(depth) int32_t depth(int32_t n) {
    return n <= 0 ? 0 : depth(n - one) + 1;
}
