/* primes: counts primes by trial division with 6k-1 and 6k+1. Additive over its range, so that a
 * scatter may cut it anywhere. */
#include "guest.h"

EXPORT(is_prime) int32_t is_prime(int32_t n) {
    if (n < 2) return 0;
    if (n < 4) return 1;
    if (n % 2 == 0 || n % 3 == 0) return 0;
    for (int32_t d = 5; d <= n / d; d += 6) {
        if (n % d == 0 || n % (d + 2) == 0) return 0;
    }
    return 1;
}

EXPORT(count_primes) int32_t count_primes(int32_t start, int32_t end) {
    int32_t count = 0;
    for (int32_t n = start; n < end; n++) {
        count += is_prime(n);
    }
    return count;
}
