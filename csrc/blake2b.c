/* blake2b.c: BLAKE2b with a 32-byte digest and no key, as RFC 7693 gives it.
 *
 * Owns: the hash that names a module. Refuses to know: modules.
 * How: a block goes through twelve rounds of eight G mixings on sixteen words; a block is
 * compressed only once more input follows it, because the last one is marked as such.
 */
#include "blake2b.h"

#include "wire_bytes.h"

#define BLOCK_BYTES  128u
#define DIGEST_BYTES 32u
#define ROUNDS       12u

/* RFC 7693, 2.6: the initial values of SHA-512. */
static const uint64_t iv[8] = {UINT64_C(0x6a09e667f3bcc908), UINT64_C(0xbb67ae8584caa73b),
                               UINT64_C(0x3c6ef372fe94f82b), UINT64_C(0xa54ff53a5f1d36f1),
                               UINT64_C(0x510e527fade682d1), UINT64_C(0x9b05688c2b3e6c1f),
                               UINT64_C(0x1f83d9abfb41bd6b), UINT64_C(0x5be0cd19137e2179)};

/* RFC 7693, 2.7. Rounds 10 and 11 use the first two rows again. */
static const uint8_t sigma[10][16] = {{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
                                      {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
                                      {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
                                      {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
                                      {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
                                      {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
                                      {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
                                      {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
                                      {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
                                      {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};

static inline uint64_t rotate_right(uint64_t x, unsigned n) {
    return x >> n | x << (64u - n);
}

static inline void mix(uint64_t v[16], size_t a, size_t b, size_t c, size_t d, uint64_t x,
                       uint64_t y) {
    v[a] += v[b] + x;
    v[d] = rotate_right(v[d] ^ v[a], 32);
    v[c] += v[d];
    v[b] = rotate_right(v[b] ^ v[c], 24);
    v[a] += v[b] + y;
    v[d] = rotate_right(v[d] ^ v[a], 16);
    v[c] += v[d];
    v[b] = rotate_right(v[b] ^ v[c], 63);
}

/* RFC 7693, 3.2: F. Takes in one block of which `n` bytes are new input. */
static void compress(velum_blake2b *s, const uint8_t *block, size_t n, bool last) {
    uint64_t v[16], m[16];
    s->count_low += n;
    if (s->count_low < n) s->count_high++;
    for (size_t i = 0; i < 16; i++)
        m[i] = velum__get64(block + 8 * i);
    for (size_t i = 0; i < 8; i++) {
        v[i] = s->h[i];
        v[i + 8] = iv[i];
    }
    v[12] ^= s->count_low;
    v[13] ^= s->count_high;
    if (last) v[14] = ~v[14];
    for (size_t round = 0; round < ROUNDS; round++) {
        const uint8_t *p = sigma[round % 10];
        mix(v, 0, 4, 8, 12, m[p[0]], m[p[1]]);
        mix(v, 1, 5, 9, 13, m[p[2]], m[p[3]]);
        mix(v, 2, 6, 10, 14, m[p[4]], m[p[5]]);
        mix(v, 3, 7, 11, 15, m[p[6]], m[p[7]]);
        mix(v, 0, 5, 10, 15, m[p[8]], m[p[9]]);
        mix(v, 1, 6, 11, 12, m[p[10]], m[p[11]]);
        mix(v, 2, 7, 8, 13, m[p[12]], m[p[13]]);
        mix(v, 3, 4, 9, 14, m[p[14]], m[p[15]]);
    }
    for (size_t i = 0; i < 8; i++)
        s->h[i] ^= v[i] ^ v[i + 8];
}

void velum_blake2b_init(velum_blake2b *s) {
    memset(s, 0, sizeof *s);
    memcpy(s->h, iv, sizeof iv);
    s->h[0] ^= UINT64_C(0x01010000) ^ DIGEST_BYTES; /* fan-out 1, depth 1, no key */
}

void velum_blake2b_update(velum_blake2b *s, const void *data, size_t n) {
    const uint8_t *p = data;
    if (n == 0) return;
    if (s->used > 0 && n > BLOCK_BYTES - s->used) {
        size_t fill = BLOCK_BYTES - s->used;
        memcpy(s->block + s->used, p, fill);
        compress(s, s->block, BLOCK_BYTES, false);
        s->used = 0;
        p += fill;
        n -= fill;
    }
    for (; n > BLOCK_BYTES; p += BLOCK_BYTES, n -= BLOCK_BYTES)
        compress(s, p, BLOCK_BYTES, false);
    memcpy(s->block + s->used, p, n);
    s->used += n;
}

void velum_blake2b_final(velum_blake2b *s, uint8_t out[32]) {
    memset(s->block + s->used, 0, BLOCK_BYTES - s->used);
    compress(s, s->block, s->used, true);
    for (size_t i = 0; i < DIGEST_BYTES / 8; i++)
        velum__put64(out + 8 * i, s->h[i]);
}

void velum_blake2b_256(const void *data, size_t n, uint8_t out[32]) {
    velum_blake2b s;
    velum_blake2b_init(&s);
    velum_blake2b_update(&s, data, n);
    velum_blake2b_final(&s, out);
}
