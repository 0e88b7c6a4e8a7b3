/* collatz: run(n) counts the steps of the Collatz sequence from n down to 1; 0 for n <= 0. */
#include "guest.h"

EXPORT(run) int32_t run(int32_t n) {
    if (n <= 0) return 0;
    int32_t steps = 0;
    for (uint64_t x = (uint64_t)n; x != 1; steps++) {
        x = x % 2 == 0 ? x / 2 : 3 * x + 1;
    }
    return steps;
}
