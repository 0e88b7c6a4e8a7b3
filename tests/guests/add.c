/* add: run(n) is n + n. */
#include "guest.h"

EXPORT(run) int32_t run(int32_t n) {
    return (int32_t)((uint32_t)n + (uint32_t)n);
}
