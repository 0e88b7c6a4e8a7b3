/* blake2b.h: BLAKE2b-256 (RFC 7693, no key), the name of every module. */
#ifndef VELUM_BLAKE2B_H
#define VELUM_BLAKE2B_H

#include "velum.h"

typedef struct {
    uint64_t h[8];
    uint64_t count_low, count_high;
    uint8_t block[128];
    size_t used;
} velum_blake2b;

void velum_blake2b_init(velum_blake2b *s);
void velum_blake2b_update(velum_blake2b *s, const void *data, size_t n);
void velum_blake2b_final(velum_blake2b *s, uint8_t out[32]);
/* All three at once. */
void velum_blake2b_256(const void *data, size_t n, uint8_t out[32]);

#endif
