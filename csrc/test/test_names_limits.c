/* test_names_limits.c: a node's entries when memory runs out, or the places.
 *
 * names.c and names_index.c are compiled into this program, with few places, and with an allocator
 * that fails the n-th time, for every n: the call says NOMEM and has changed nothing, and all that
 * was taken is freed (the sanitizer looks).
 */
#define VELUM_NAMES_MAX 5000u

#include <stdbool.h>
#include <stdlib.h>

static long failing_in = -1; /* so many allocations succeed, the next one fails; negative: none */

static bool scarce(void) {
    return failing_in-- == 0;
}

#define malloc(n)     (scarce() ? NULL : malloc(n))
#define calloc(n, s)  (scarce() ? NULL : calloc(n, s))
#define realloc(p, n) (scarce() ? NULL : realloc(p, n))
#include "names_index.c"

#include "names.c"
#undef malloc
#undef calloc
#undef realloc

#include "names_world.h"

static velum_names *open_names(void) {
    velum_names *n;
    failing_in = -1;
    if (velum_names_open(&n, 1, SIZE_MAX) != 0) abort();
    return n;
}

static void test_open(void) {
    for (long i = 0;; i++) {
        velum_names *n = NULL;
        int r;
        failing_in = i;
        r = velum_names_open(&n, 1, 1000);
        if (r == 0) {
            CHECK(i > 0);
            velum_names_close(n);
            return;
        }
        CHECK_EQ(r, VELUM_E_NOMEM);
        CHECK(n == NULL);
    }
}

/* So many that blocks are split and the list of blocks grows, each at the second try or later. */
static void test_merge(void) {
    velum_names *n = open_names();
    velum_named_version here;
    char name[8];
    size_t tries_max = 0;
    for (unsigned i = 0; i < VELUM_NAMES_MAX; i++) {
        velum_entry e;
        size_t tries = 0;
        snprintf(name, sizeof name, "%u", i);
        e = entry_of(name, 1, "x");
        for (int r = VELUM_E_NOMEM; r != 1; tries++) {
            failing_in = (long)tries;
            r = velum_names_merge(n, &e, UNIX_MS, 0, &here);
            failing_in = -1;
            CHECK_EQ(velum_names_get_figures(n).count, r == 1 ? i + 1 : i);
            if (r == 1) break;
            CHECK_EQ(r, VELUM_E_NOMEM);
            CHECK_EQ(here.what, VELUM_NAMED_NONE);
            CHECK(find(n, name) == NULL);
        }
        if (tries > tries_max) tries_max = tries;
        CHECK(tries > 0 && find(n, name) != NULL);
    }
    CHECK_EQ(tries_max, 4); /* the entry, a block, and the two lists of blocks */
    check_all(n, 1, 3);
    CHECK_EQ(merge(n, entry_of("one more", 1, ""), 0), VELUM_E_NAMES_FULL);
    CHECK_EQ(merge(n, entry_of("0", 2, "longer"), 0), 1);
    velum_names_close(n);
}

static void test_replace(void) {
    velum_names *n = open_names();
    velum_named_version here;
    velum_entry e = entry_of("x", 2, "new");
    CHECK_EQ(merge(n, entry_of("x", 1, "old"), 0), 1);
    failing_in = 0;
    CHECK_EQ(velum_names_merge(n, &e, UNIX_MS, 0, &here), VELUM_E_NOMEM);
    CHECK(find(n, "x")->item.version.stamp == 1 && here.what == VELUM_NAMED_HERE);
    e = entry_of("x", 1, "old");
    e.keepers++;
    failing_in = 0;
    CHECK_EQ(velum_names_merge(n, &e, UNIX_MS, 0, &here), VELUM_E_NOMEM);
    CHECK_EQ(find(n, "x")->keepers, 3);
    CHECK_EQ(velum_names_get_figures(n).stamp_max, 1);
    failing_in = -1;
    check_all(n, 1, 3);
    velum_names_close(n);
}

static void test_members(void) {
    static const uint16_t some[] = {1, 3}, more[] = {1, 2, 3, 4, 5};
    velum_names *n = open_names();
    CHECK_EQ(velum_names_set_members(n, some, 2), 0);
    CHECK_EQ(merge(n, entry_of("x", 1, "x"), 0), 1);
    for (long i = 0;; i++) {
        int r;
        failing_in = i;
        r = velum_names_set_members(n, more, 5);
        failing_in = -1;
        if (r == 0) break;
        CHECK_EQ(r, VELUM_E_NOMEM);
        CHECK_EQ(n->nmembers, 2);
        CHECK_EQ(n->npeers, 1);
        CHECK(i < 5);
        check_all(n, 1, 5);
    }
    CHECK_EQ(n->nmembers, 5);
    CHECK_EQ(n->npeers, 4);
    velum_names_close(n);
}

/* ---- the index, with digests that differ only behind what a place has of them ---- */

#define MANY 4096u
static velum_names_entry entries[MANY];

static velum_names_entry *numbered(uint32_t number) {
    uint8_t *digest = entries[number].item.digest;
    memset(digest, 7, VELUM_DIGEST_BYTES);
    digest[VELUM_DIGEST_BYTES - 2] = (uint8_t)(number >> 8);
    digest[VELUM_DIGEST_BYTES - 1] = (uint8_t)number;
    return &entries[number];
}

static void put(velum__index *x, uint32_t number) {
    velum__at at;
    velum_names_entry *entry = numbered(number);
    CHECK(!velum__index_seek(x, entry->item.digest, &at));
    CHECK_EQ(velum__index_insert(x, at, entry), 0);
}

static void drop(velum__index *x, uint32_t number) {
    velum__at at;
    CHECK(velum__index_seek(x, entries[number].item.digest, &at));
    velum__index_remove(x, at);
}

/* Every entry is found, in ascending order; blocks are not empty, neighbours not both small. */
static void check_index(const velum__index *x) {
    velum__at at = {0, 0}, found;
    const velum_names_entry *last = NULL, *entry;
    size_t count = 0;
    for (; (entry = velum__index_get(x, at)) != NULL; velum__index_advance(x, &at)) {
        CHECK(last == NULL || last < entry);
        CHECK(velum__index_seek(x, entry->item.digest, &found));
        CHECK(found.block == at.block && found.place == at.place);
        last = entry;
        count++;
    }
    CHECK_EQ(x->count, count);
    for (size_t i = 0; i < x->nblocks; i++) {
        CHECK(x->blocks[i]->count > 0 && x->blocks[i]->count <= VELUM__BLOCK);
        if (i > 0) CHECK(x->blocks[i - 1]->count + x->blocks[i]->count > JOIN_MAX);
    }
}

static void test_split(void) {
    for (uint32_t place = 0; place <= VELUM__BLOCK; place++) {
        velum__index x;
        memset(&x, 0, sizeof x);
        for (uint32_t i = 0; i < VELUM__BLOCK; i++)
            put(&x, 2 * i + 1);
        CHECK_EQ(x.nblocks, 1);
        put(&x, 2 * place);
        CHECK_EQ(x.nblocks, 2);
        check_index(&x);
        velum__index_close(&x);
    }
}

static void test_join(void) {
    for (int descending = 0; descending < 2; descending++) {
        velum__index x;
        memset(&x, 0, sizeof x);
        for (uint32_t i = 0; i < MANY; i++)
            put(&x, i);
        for (uint32_t i = 0; i < MANY; i++) {
            uint32_t number = descending ? MANY - 1 - i : i;
            if (number % 16 > 0) drop(&x, number);
            if (i % 100 == 0) check_index(&x);
        }
        check_index(&x);
        CHECK_EQ(x.count, MANY / 16);
        for (uint32_t i = 0; i < MANY; i += 16)
            drop(&x, i);
        CHECK_EQ(x.nblocks, 0);
        put(&x, 5);
        check_index(&x);
        velum__index_close(&x);
    }
}

int main(void) {
    failing_in = -1;
    test_split();
    test_join();
    test_open();
    test_merge();
    test_replace();
    test_members();
    return check_report("names_limits");
}
