/* dice.h: random numbers of a test, the same ones for the same seed. */
#ifndef VELUM_TEST_DICE_H
#define VELUM_TEST_DICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static uint64_t state; /* to be set to a seed, not 0 */

/* xorshift64* (Vigna 2016), below n. */
static inline size_t below(size_t n) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (size_t)((state * UINT64_C(2685821657736338717)) >> 33) % n;
}

/* Once in so many times. */
static inline bool chance(size_t in) {
    return below(in) == 0;
}

#endif
