/* test_slab.c: pieces of all sizes are there, apart from each other, and their memory is used
 * again.
 *
 * What a piece holds is written when it is taken and read when it is given back, so two that share
 * a byte are found; at the end the sanitizer looks whether all regions have gone.
 */
#include "check.h"
#include "slab.h"
#include "velum_opt.h"

#include <stdlib.h>

#define PIECES 64u

typedef struct {
    uint8_t *at;
    size_t size;
    velum_slab_region *region;
    uint8_t mark;
} piece;

static uint64_t draw(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u; /* SplitMix64 */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void take(velum_slab *slab, piece *p, size_t size, uint8_t mark) {
    p->size = size;
    p->mark = mark;
    p->at = velum_slab_take(slab, size, &p->region);
    CHECK(p->at != NULL && (uintptr_t)p->at % 64 == 0);
    if (p->at == NULL) exit(1);
    memset(p->at, mark, size);
}

static void give(velum_slab *slab, piece *p) {
    size_t wrong = 0;
    for (size_t i = 0; i < p->size; i++)
        wrong += p->at[i] != p->mark;
    CHECK_EQ(wrong, 0);
    velum_slab_give(slab, p->at, p->region);
    p->at = NULL;
}

static void test_any_order(uint64_t seed) {
    velum_slab *slab = velum_slab_open();
    piece pieces[PIECES] = {{0}};
    uint64_t state = seed;
    for (unsigned round = 0; round < 400; round++) {
        piece *p = &pieces[draw(&state) % PIECES];
        size_t most = (size_t)VELUM_SLAB_BYTES_MIN << (draw(&state) % 8);
        size_t size = VELUM_SLAB_BYTES_MIN + (size_t)(draw(&state) % most);
        if (size > VELUM_CHUNK_BYTES_MAX) size = VELUM_CHUNK_BYTES_MAX;
        if (p->at != NULL) {
            give(slab, p);
        } else {
            take(slab, p, size, (uint8_t)round);
        }
    }
    for (unsigned i = 0; i < PIECES; i++) {
        if (pieces[i].at != NULL) give(slab, &pieces[i]);
    }
    velum_slab_close(slab);
}

static void test_every_size(void) {
    velum_slab *slab = velum_slab_open();
    piece a, b;
    for (size_t base = VELUM_SLAB_BYTES_MIN; base <= VELUM_CHUNK_BYTES_MAX; base += base / 4) {
        for (int around = -1; around <= 1; around++) {
            size_t size = base + (size_t)around;
            if (size < VELUM_SLAB_BYTES_MIN || size > VELUM_CHUNK_BYTES_MAX) continue;
            take(slab, &a, size, 1);
            take(slab, &b, size, 2);
            give(slab, &a);
            give(slab, &b);
        }
    }
    take(slab, &a, VELUM_CHUNK_BYTES_MAX, 3);
    give(slab, &a);
    velum_slab_close(slab);
}

static void test_memory_is_used_again(void) {
    velum_slab *slab = velum_slab_open();
    piece pieces[PIECES];
    uint8_t *first;
    for (unsigned i = 0; i < PIECES; i++)
        take(slab, &pieces[i], (size_t)1 << 20, (uint8_t)i);
    first = pieces[0].at;
    give(slab, &pieces[0]);
    take(slab, &pieces[0], (size_t)1 << 20, 9);
    CHECK(pieces[0].at == first);
    for (unsigned i = 0; i < PIECES; i++)
        give(slab, &pieces[i]);
    take(slab, &pieces[0], 300u * 1024u, 7); /* another size, out of an empty region */
    give(slab, &pieces[0]);
    velum_slab_close(slab);
}

int main(void) {
    for (uint64_t seed = 1; seed <= 8; seed++) {
        int failed = check_failed_count;
        test_any_order(seed);
        if (check_failed_count != failed) printf("seed %llu\n", (unsigned long long)seed);
    }
    test_every_size();
    test_memory_is_used_again();
    return check_report("slab");
}
