/* loop: never ends, or after an exact number of rounds. */
#include "guest.h"

static volatile int32_t seen;

EXPORT(forever) int32_t forever(void) {
    for (;;) {
        seen = seen + 1;
    }
}

/* n rounds: n - 1 jumps back. */
EXPORT(spin) int32_t spin(int32_t n) {
    int32_t i = 0;
    do {
        seen = i++;
    } while (i < n);
    return i;
}
