/* test_chunks_limits.c: a node's chunks when memory runs out, or the places of the table.
 *
 * chunks.c is compiled into this program, with few places, and with an allocator that fails the
 * n-th time, for every n: the call says NOMEM and has changed nothing, and all that was taken is
 * freed (the sanitizer looks).
 */
#define VELUM_CHUNKS_MAX 5000u

#include <stdlib.h>

static long failing_in; /* so many allocations succeed, the next one fails; negative: none does */

static void *scarce(void *memory) {
    if (failing_in-- != 0) return memory;
    free(memory);
    return NULL;
}

#define malloc(n)    scarce(malloc(n))
#define calloc(n, s) scarce(calloc(n, s))
#include "slab.c"

#include "chunks.c"
#undef malloc
#undef calloc

#include "check.h"

#define LARGE (HASH_AT_ONCE_BYTES_MAX + 1u)

/* Opens without a failure; ends the program without memory. */
static velum_chunks *open_chunks(void) {
    velum_chunks *c;
    failing_in = -1;
    if (velum_chunks_open(&c, SIZE_MAX) != 0) abort();
    return c;
}

static void test_open(void) {
    for (long n = 0;; n++) {
        velum_chunks *c = NULL;
        int r;
        failing_in = n;
        r = velum_chunks_open(&c, 1000);
        if (r == 0) {
            CHECK(n > 0);
            velum_chunks_close(c);
            return;
        }
        CHECK_EQ(r, VELUM_E_NOMEM);
        CHECK(c == NULL);
    }
}

static void test_add(void) {
    velum_chunks *c = open_chunks();
    uint8_t key[VELUM_KEY_BYTES];
    size_t size;
    for (long n = 0;; n++) {
        int r;
        failing_in = n;
        r = velum_chunks_add(c, "chunk", 5, key);
        if (r == 0) break;
        CHECK_EQ(r, VELUM_E_NOMEM);
        CHECK(velum_chunks_get(c, key, &size) == NULL);
        CHECK_EQ(velum_chunks_get_figures(c).used, 0);
    }
    CHECK(velum_chunks_get(c, key, &size) != NULL);
    velum_chunks_close(c);
}

static void test_reserve(void) {
    velum_chunks *c = open_chunks();
    const uint8_t key[VELUM_KEY_BYTES] = {1};
    long n = 0;
    for (;; n++) {
        int r;
        failing_in = n;
        r = velum_chunks_reserve(c, key, LARGE, 1);
        if (r == 0) break;
        CHECK_EQ(r, VELUM_E_NOMEM);
        CHECK_EQ(velum_chunks_get_figures(c).reserved, 0);
        CHECK_EQ(velum_chunks_get_figures(c).arriving, 0);
    }
    CHECK_EQ(velum_chunks_get_figures(c).reserved, LARGE);
    CHECK(n >= 2); /* its memory, and the state of its hash */
    velum_chunks_close(c);
}

/* Where the table cannot grow, chunks are found all the same; later it makes up for it. */
static void test_grow(void) {
    velum_chunks *c = open_chunks();
    uint8_t keys[SEGMENT + 9u][VELUM_KEY_BYTES];
    size_t n;
    for (uint32_t i = 0; i < SEGMENT + 9u; i++) {
        bool table_is_full = i >= SEGMENT && i < SEGMENT + 5u;
        if (!extend(&c->held, i + 1u)) abort();
        failing_in = table_is_full ? 1 : -1; /* after the chunk's own memory */
        if (velum_chunks_add(c, &i, sizeof i, keys[i]) != 0) CHECK(false);
        if (table_is_full) CHECK_EQ(c->table.count, SEGMENT);
    }
    CHECK_EQ(c->table.count, SEGMENT + 4u);
    for (uint32_t i = 0; i < SEGMENT + 9u; i++) {
        const uint8_t *bytes = velum_chunks_get(c, keys[i], &n);
        if (bytes == NULL || memcmp(bytes, &i, sizeof i) != 0) CHECK(false);
    }
    velum_chunks_close(c);
}

/* Chunks held and chunks arriving share the places. */
static void test_places(void) {
    velum_chunks *c = open_chunks();
    uint8_t key[VELUM_KEY_BYTES] = {1}, last[VELUM_KEY_BYTES], other[VELUM_KEY_BYTES] = {2};
    CHECK_EQ(velum_chunks_reserve(c, key, 1, 1), 0);
    for (uint32_t i = 1; i < VELUM_CHUNKS_MAX; i++)
        if (velum_chunks_add(c, &i, sizeof i, last) != 0) CHECK(false);
    CHECK_EQ(velum_chunks_add(c, "one more", 8, key), VELUM_E_FULL);
    CHECK_EQ(velum_chunks_reserve(c, other, 1, 1), VELUM_E_FULL);
    CHECK_EQ(velum_chunks_drop(c, last), 0);
    CHECK_EQ(velum_chunks_reserve(c, other, 1, 1), 0);
    CHECK_EQ(velum_chunks_add(c, "one more", 8, key), VELUM_E_FULL);
    velum_chunks_abandon_all(c, 1);
    CHECK_EQ(velum_chunks_add(c, "one more", 8, key), 0);
    CHECK_EQ(velum_chunks_get_figures(c).count, VELUM_CHUNKS_MAX - 1u);
    velum_chunks_close(c);
}

int main(void) {
    test_open();
    test_add();
    test_reserve();
    test_grow();
    test_places();
    return check_report("chunks_limits");
}
