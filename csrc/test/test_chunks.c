/* test_chunks.c: the chunks of a node by example: budget, reservations, parts, loans, checks,
 * walks.
 *
 * test_chunks_model.c does all of it at random, test_chunks_limits.c without memory or places.
 */
#include "check.h"
#include "chunks.h"

#include <stdlib.h>

#define PART     (256u * 1024u)
#define MIN      VELUM_CHUNK_CHARGE_BYTES_MIN
#define ANNE     1u /* senders */
#define BOB      2u
#define NO_PLACE 2 /* what `arrive` returns when part_memory returned NULL */

static velum_chunks *chunks;

static void open_chunks(size_t budget) {
    CHECK_EQ(velum_chunks_open(&chunks, budget), 0);
}

static void close_chunks(void) {
    velum_chunks_close(chunks);
}

static void check_figures(size_t used, size_t reserved, size_t count, size_t arriving) {
    velum_chunks_figures f = velum_chunks_get_figures(chunks);
    CHECK_EQ(f.used, used);
    CHECK_EQ(f.reserved, reserved);
    CHECK_EQ(f.count, count);
    CHECK_EQ(f.arriving, arriving);
}

/* n bytes, unlike those of another number; the caller frees them. Ends the program without memory.
 */
static uint8_t *make(size_t n, uint32_t number) {
    uint8_t *bytes = malloc(n);
    if (bytes == NULL) abort();
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(i * 31u + (i >> 8) + (number >> i % 4 * 8));
    return bytes;
}

static int add(size_t n, uint32_t number, uint8_t key[VELUM_KEY_BYTES]) {
    uint8_t *bytes = make(n, number);
    int r = velum_chunks_add(chunks, bytes, n, key);
    free(bytes);
    return r;
}

static void key_of(size_t n, uint32_t number, uint8_t key[VELUM_KEY_BYTES]) {
    uint8_t *bytes = make(n, number);
    velum_chunk_key(bytes, n, key);
    free(bytes);
}

static bool held(const uint8_t key[VELUM_KEY_BYTES]) {
    size_t n;
    return velum_chunks_get(chunks, key, &n) != NULL;
}

static velum_chunk_part part_of(const uint8_t key[VELUM_KEY_BYTES], size_t total, size_t offset) {
    velum_chunk_part part;
    memcpy(part.key, key, VELUM_KEY_BYTES);
    part.total = (uint32_t)total;
    part.offset = (uint32_t)offset;
    part.size = (uint32_t)(total - offset < PART ? total - offset : PART);
    return part;
}

/* Lets the part at `offset` of `bytes` arrive. */
static int arrive(const uint8_t *bytes, const velum_chunk_part *part, uint32_t sender,
                  uint32_t *next) {
    uint8_t *to = velum_chunks_part_memory(chunks, part, sender);
    if (to == NULL) return NO_PLACE;
    memcpy(to, bytes + part->offset, part->size);
    return velum_chunks_part_arrived(chunks, part, sender, next);
}

/* Lets a whole chunk arrive from a sender, who has reserved it; what the last part said. */
static int arrive_whole(const uint8_t *bytes, const uint8_t key[VELUM_KEY_BYTES], size_t total,
                        uint32_t sender) {
    uint32_t next = 0;
    int r;
    do {
        velum_chunk_part part = part_of(key, total, next);
        r = arrive(bytes, &part, sender, &next);
    } while (r == 0);
    return r;
}

/* ---- putting here ---- */

static void test_add_and_get(void) {
    uint8_t key[VELUM_KEY_BYTES], again[VELUM_KEY_BYTES], expected[VELUM_KEY_BYTES];
    uint8_t *bytes = make(1000, 1);
    const uint8_t *got;
    size_t n = 0;
    open_chunks(10000);
    check_figures(0, 0, 0, 0);
    CHECK_EQ(velum_chunks_add(chunks, bytes, 1000, key), 0);
    velum_chunk_key(bytes, 1000, expected);
    CHECK(memcmp(key, expected, sizeof key) == 0);
    CHECK_EQ(velum_chunks_add(chunks, bytes, 1000, again), 1);
    CHECK(memcmp(key, again, sizeof key) == 0);
    check_figures(1000, 0, 1, 0);
    got = velum_chunks_get(chunks, key, &n);
    CHECK(got != NULL && got != bytes && n == 1000 && memcmp(got, bytes, n) == 0);
    CHECK((uintptr_t)got % 64 == 0);
    key[31] ^= 1u;
    n = 7;
    CHECK(velum_chunks_get(chunks, key, &n) == NULL);
    CHECK_EQ(n, 7);
    free(bytes);
    close_chunks();
    velum_chunks_close(NULL);
}

static void test_sizes(void) {
    uint8_t key[VELUM_KEY_BYTES] = {5};
    uint8_t *bytes = make(VELUM_CHUNK_BYTES_MAX + 1u, 1);
    open_chunks(SIZE_MAX);
    CHECK_EQ(velum_chunks_add(chunks, bytes, 0, key), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_chunks_add(chunks, NULL, 1, key), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_chunks_add(chunks, bytes, VELUM_CHUNK_BYTES_MAX + 1u, key), VELUM_E_ARGUMENT);
    CHECK_EQ(key[0], 5);
    CHECK_EQ(velum_chunks_reserve(chunks, key, 0, ANNE), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_chunks_reserve(chunks, key, VELUM_CHUNK_BYTES_MAX + 1u, ANNE), VELUM_E_ARGUMENT);
    check_figures(0, 0, 0, 0);
    CHECK_EQ(velum_chunks_add(chunks, bytes, 1, key), 0);
    check_figures(MIN, 0, 1, 0);
    CHECK_EQ(velum_chunks_add(chunks, bytes, VELUM_CHUNK_BYTES_MAX, key), 0);
    check_figures(MIN + VELUM_CHUNK_BYTES_MAX, 0, 2, 0);
    free(bytes);
    close_chunks();
}

static void test_budget(void) {
    uint8_t a[VELUM_KEY_BYTES], b[VELUM_KEY_BYTES], c[VELUM_KEY_BYTES], d[VELUM_KEY_BYTES];
    open_chunks(3000);
    CHECK_EQ(add(1000, 1, a), 0);
    CHECK_EQ(add(2000, 2, b), 0);
    CHECK_EQ(add(1, 3, c), VELUM_E_FULL);
    CHECK(held(a) && held(b) && !held(c));
    CHECK_EQ(add(1000, 1, a), 1); /* what is held needs no room */
    CHECK_EQ(velum_chunks_drop(chunks, a), 0);
    CHECK_EQ(add(1001, 3, c), VELUM_E_FULL);
    key_of(600, 4, d);
    CHECK_EQ(velum_chunks_reserve(chunks, d, 600, ANNE), 0);
    CHECK_EQ(add(MIN, 5, c), VELUM_E_FULL);
    check_figures(2000, 600, 1, 1);
    velum_chunks_set_budget(chunks, 100);
    CHECK_EQ(velum_chunks_get_figures(chunks).budget, 100);
    check_figures(2000, 600, 1, 1);
    CHECK(held(b));
    velum_chunks_abandon(chunks, d, ANNE);
    CHECK_EQ(velum_chunks_reserve(chunks, d, 600, ANNE), VELUM_E_FULL);
    velum_chunks_set_budget(chunks, 2000 + MIN);
    CHECK_EQ(add(1, 6, c), 0); /* counts as the least */
    CHECK_EQ(add(1, 7, c), VELUM_E_FULL);
    close_chunks();
    open_chunks(0);
    CHECK_EQ(add(1, 1, a), VELUM_E_FULL);
    close_chunks();
}

/* ---- arriving ---- */

static void test_arriving(void) {
    const size_t total = 2 * PART + 777;
    uint8_t key[VELUM_KEY_BYTES], *bytes = make(total, 5);
    velum_chunk_part part;
    uint32_t next = 9;
    size_t n;
    velum_chunk_key(bytes, total, key);
    open_chunks(4 * PART);
    part = part_of(key, total, 0);
    CHECK_EQ(arrive(bytes, &part, ANNE, &next), NO_PLACE); /* not reserved */
    CHECK_EQ(velum_chunks_part_arrived(chunks, &part, ANNE, &next), VELUM_E_CHUNK_MISSING);
    CHECK_EQ(next, 0);
    CHECK_EQ(velum_chunks_reserve(chunks, key, total, ANNE), 0);
    check_figures(0, total, 0, 1);
    CHECK((uintptr_t)velum_chunks_part_memory(chunks, &part, ANNE) % 64 == 0);
    CHECK_EQ(arrive(bytes, &part, ANNE, &next), 0);
    CHECK_EQ(next, PART);
    CHECK(!held(key));
    CHECK_EQ(velum_chunks_drop(chunks, key), VELUM_E_CHUNK_MISSING);
    CHECK_EQ(velum_chunks_verify(chunks, key, 1), VELUM_E_CHUNK_MISSING);
    part = part_of(key, total, PART);
    CHECK_EQ(arrive(bytes, &part, ANNE, &next), 0);
    part = part_of(key, total, next);
    CHECK_EQ(arrive(bytes, &part, ANNE, &next), 1);
    CHECK_EQ(next, 0);
    check_figures(total, 0, 1, 0);
    CHECK(memcmp(velum_chunks_get(chunks, key, &n), bytes, total) == 0);
    CHECK_EQ(arrive(bytes, &part, ANNE, &next), NO_PLACE); /* held already */
    CHECK_EQ(velum_chunks_part_arrived(chunks, &part, ANNE, &next), VELUM_E_CHUNK_MISSING);
    CHECK_EQ(velum_chunks_reserve(chunks, key, total, BOB), 1);
    CHECK_EQ(velum_chunks_reserve(chunks, key, total - 1, BOB), VELUM_E_CHUNK_HASH);
    velum_chunks_abandon(chunks, key, ANNE); /* is not arriving */
    CHECK(held(key));
    free(bytes);
    close_chunks();
}

static void test_parts_not_wanted(void) {
    const size_t total = 3 * PART;
    uint8_t key[VELUM_KEY_BYTES], *bytes = make(total, 6);
    velum_chunk_part part, wrong;
    uint32_t next;
    velum_chunk_key(bytes, total, key);
    open_chunks(4 * PART);
    CHECK_EQ(velum_chunks_reserve(chunks, key, total, ANNE), 0);
    CHECK_EQ(velum_chunks_reserve(chunks, key, total, ANNE), VELUM_E_AGAIN);
    CHECK_EQ(velum_chunks_reserve(chunks, key, total, BOB), VELUM_E_AGAIN);
    part = part_of(key, total, 0);
    CHECK_EQ(velum_chunks_part_arrived(chunks, &part, ANNE, &next), VELUM_E_CHUNK_MISSING);
    check_figures(0, total, 0, 1); /* begun before it was reserved: nothing has been received */
    CHECK_EQ(arrive(bytes, &part, ANNE, &next), 0);
    wrong = part_of(key, total, 0); /* twice */
    CHECK_EQ(arrive(bytes, &wrong, ANNE, &next), NO_PLACE);
    CHECK_EQ(velum_chunks_part_arrived(chunks, &wrong, ANNE, &next), VELUM_E_CHUNK_MISSING);
    wrong = part_of(key, total, 2 * PART); /* out of order */
    CHECK_EQ(arrive(bytes, &wrong, ANNE, &next), NO_PLACE);
    CHECK_EQ(velum_chunks_part_arrived(chunks, &wrong, ANNE, &next), VELUM_E_CHUNK_MISSING);
    part = part_of(key, total, PART);
    wrong = part;
    wrong.total++;
    CHECK_EQ(arrive(bytes, &wrong, ANNE, &next), NO_PLACE);
    wrong = part;
    wrong.size = 0;
    CHECK_EQ(arrive(bytes, &wrong, ANNE, &next), NO_PLACE);
    wrong.size = 2 * PART + 1;
    CHECK_EQ(arrive(bytes, &wrong, ANNE, &next), NO_PLACE);
    wrong.size = UINT32_MAX;
    CHECK_EQ(arrive(bytes, &wrong, ANNE, &next), NO_PLACE);
    CHECK_EQ(arrive(bytes, &part, BOB, &next), NO_PLACE); /* another's */
    CHECK_EQ(velum_chunks_part_arrived(chunks, &part, BOB, &next), VELUM_E_CHUNK_MISSING);
    velum_chunks_abandon(chunks, key, BOB);
    check_figures(0, total, 0, 1);
    CHECK_EQ(arrive(bytes, &part, ANNE, &next), 0);
    part = part_of(key, total, next);
    CHECK_EQ(arrive(bytes, &part, ANNE, &next), 1);
    CHECK(held(key));
    free(bytes);
    close_chunks();
}

/* A chunk of each size that is hashed otherwise, right, and wrong in one bit. */
static void test_wrong_bytes(void) {
    static const size_t sizes[] = {1, 4096, 65536, 65537, PART, PART + 1};
    open_chunks(4 * PART);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint8_t key[VELUM_KEY_BYTES], *bytes = make(sizes[i], 7);
        velum_chunk_key(bytes, sizes[i], key);
        for (size_t at = 0; at < sizes[i]; at += sizes[i] - (sizes[i] > 1)) {
            bytes[at] ^= 128u;
            CHECK_EQ(velum_chunks_reserve(chunks, key, sizes[i], ANNE), 0);
            CHECK_EQ(arrive_whole(bytes, key, sizes[i], ANNE), VELUM_E_CHUNK_HASH);
            check_figures(0, 0, 0, 0);
            bytes[at] ^= 128u;
        }
        CHECK_EQ(velum_chunks_reserve(chunks, key, sizes[i], BOB), 0);
        CHECK_EQ(arrive_whole(bytes, key, sizes[i], BOB), 1);
        CHECK(held(key));
        CHECK_EQ(velum_chunks_drop(chunks, key), 0);
        free(bytes);
    }
    close_chunks();
}

static void test_abandon(void) {
    uint8_t keys[5][VELUM_KEY_BYTES] = {{1}, {2}, {3}, {4}, {5}};
    velum_chunk_part part;
    uint32_t next;
    uint8_t bytes[MIN] = {0};
    open_chunks(100 * PART);
    for (uint32_t i = 0; i < 5; i++)
        CHECK_EQ(velum_chunks_reserve(chunks, keys[i], PART, i % 2 == 0 ? ANNE : BOB), 0);
    part = part_of(keys[2], PART, 0);
    part.size = MIN;
    CHECK_EQ(arrive(bytes, &part, ANNE, &next), 0);
    velum_chunks_abandon(chunks, keys[2], ANNE);
    velum_chunks_abandon(chunks, keys[2], ANNE);
    check_figures(0, 4 * PART, 0, 4);
    part.offset = MIN;
    CHECK_EQ(arrive(bytes, &part, ANNE, &next), NO_PLACE); /* forgotten with what had come */
    velum_chunks_abandon_all(chunks, ANNE);
    velum_chunks_abandon_all(chunks, ANNE);
    check_figures(0, 2 * PART, 0, 2);
    CHECK_EQ(velum_chunks_reserve(chunks, keys[0], PART, BOB), 0);
    CHECK_EQ(velum_chunks_reserve(chunks, keys[1], PART, ANNE), VELUM_E_AGAIN);
    velum_chunks_abandon_all(chunks, BOB);
    check_figures(0, 0, 0, 0);
    CHECK_EQ(velum_chunks_reserve(chunks, keys[0], PART, ANNE), 0);
    close_chunks(); /* with one that arrives */
}

/* Reservations stop at their limit; those that end make room for others. */
static void test_arriving_is_bounded(void) {
    uint8_t key[VELUM_KEY_BYTES] = {0};
    open_chunks(SIZE_MAX);
    for (uint32_t i = 0; i < VELUM_CHUNKS_ARRIVING_MAX; i++) {
        memcpy(key, &i, sizeof i);
        if (velum_chunks_reserve(chunks, key, 1, i % 2 == 0 ? ANNE : BOB) != 0) CHECK(false);
    }
    key[31] = 1;
    CHECK_EQ(velum_chunks_reserve(chunks, key, 1, ANNE), VELUM_E_FULL);
    CHECK_EQ(add(1, 1, key), 0);
    velum_chunks_abandon_all(chunks, BOB);
    check_figures(MIN, VELUM_CHUNKS_ARRIVING_MAX / 2 * MIN, 1, VELUM_CHUNKS_ARRIVING_MAX / 2);
    CHECK_EQ(velum_chunks_reserve(chunks, key, 1, ANNE), 1);
    key[31] ^= 1;
    CHECK_EQ(velum_chunks_reserve(chunks, key, 1, ANNE), 0);
    close_chunks();
}

/* A chunk that is added here while it arrives: the memory that arrives is left alone. */
static void test_added_while_arriving(void) {
    const size_t total = PART + 10;
    uint8_t key[VELUM_KEY_BYTES], *bytes = make(total, 8);
    velum_chunk_part part;
    uint8_t *to;
    uint32_t next;
    size_t n;
    open_chunks(2 * total);
    velum_chunk_key(bytes, total, key);
    CHECK_EQ(velum_chunks_reserve(chunks, key, total, ANNE), 0);
    part = part_of(key, total, 0);
    to = velum_chunks_part_memory(chunks, &part, ANNE);
    CHECK(to != NULL);
    CHECK_EQ(velum_chunks_add(chunks, bytes, total, key), 0);
    check_figures(total, total, 1, 1);
    if (to != NULL) memset(to, 0xee, part.size); /* a sender that lies */
    CHECK(velum_chunks_part_memory(chunks, &part, ANNE) == NULL);
    CHECK_EQ(velum_chunks_part_arrived(chunks, &part, ANNE, &next), 1);
    check_figures(total, 0, 1, 0);
    CHECK(memcmp(velum_chunks_get(chunks, key, &n), bytes, total) == 0);
    free(bytes);
    close_chunks();
}

/* ---- loans and drops ---- */

static void test_loans(void) {
    uint8_t key[VELUM_KEY_BYTES], other[VELUM_KEY_BYTES], *bytes = make(2000, 9);
    const uint8_t *first, *second;
    void *first_token, *second_token, *third_token = NULL;
    size_t n = 0;
    open_chunks(5000);
    CHECK_EQ(velum_chunks_add(chunks, bytes, 2000, key), 0);
    first = velum_chunks_lend(chunks, key, &n, &first_token);
    second = velum_chunks_lend(chunks, key, &n, &second_token);
    CHECK(first != NULL && first == second && n == 2000);
    CHECK_EQ(velum_chunks_drop(chunks, key), 0);
    CHECK_EQ(velum_chunks_drop(chunks, key), VELUM_E_CHUNK_MISSING);
    CHECK(!held(key));
    CHECK(velum_chunks_lend(chunks, key, &n, &third_token) == NULL && third_token == NULL);
    check_figures(2000, 0, 0, 0); /* memory that is lent counts */
    CHECK_EQ(add(3001, 10, other), VELUM_E_FULL);
    velum_chunks_give_back(first_token);
    CHECK(memcmp(second, bytes, 2000) == 0);
    CHECK_EQ(velum_chunks_add(chunks, bytes, 2000, key), 0); /* again, beside it */
    check_figures(4000, 0, 1, 0);
    CHECK(velum_chunks_get(chunks, key, &n) != second);
    velum_chunks_give_back(second_token);
    check_figures(2000, 0, 1, 0);
    CHECK(velum_chunks_lend(chunks, key, &n, &third_token) != NULL);
    velum_chunks_give_back(third_token);
    CHECK(held(key)); /* not dropped: stays */
    check_figures(2000, 0, 1, 0);
    free(bytes);
    close_chunks();
}

/* ---- checks ---- */

/* A bit in memory flips: the test writes where nobody may. */
static void flip(const uint8_t key[VELUM_KEY_BYTES], size_t at) {
    size_t n;
    uint8_t *bytes = (uint8_t *)(uintptr_t)velum_chunks_get(chunks, key, &n);
    bytes[at] ^= 4u;
}

static void test_verify(void) {
    const size_t total = PART + 100;
    uint8_t key[VELUM_KEY_BYTES], other[VELUM_KEY_BYTES];
    open_chunks(10 * PART);
    CHECK_EQ(add(total, 11, key), 0);
    CHECK_EQ(add(10, 12, other), 0);
    CHECK_EQ(velum_chunks_verify(chunks, key, 0), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_chunks_verify(chunks, key, SIZE_MAX), 1);
    CHECK_EQ(velum_chunks_verify(chunks, key, PART), 0);
    CHECK_EQ(velum_chunks_verify(chunks, key, PART), 1);
    CHECK_EQ(velum_chunks_verify(chunks, key, total), 1);
    CHECK_EQ(velum_chunks_verify(chunks, key, PART), 0);
    CHECK_EQ(velum_chunks_verify(chunks, other, PART), 1); /* in between: */
    CHECK_EQ(velum_chunks_verify(chunks, key, PART), 0);   /* starts over */
    flip(key, 50);                                         /* where it has been already */
    CHECK_EQ(velum_chunks_verify(chunks, key, PART), 1);
    CHECK_EQ(velum_chunks_verify(chunks, key, SIZE_MAX), VELUM_E_CHUNK_HASH);
    CHECK(held(key));
    flip(key, 50);
    CHECK_EQ(velum_chunks_verify(chunks, key, SIZE_MAX), 1);
    flip(key, total - 1);
    CHECK_EQ(velum_chunks_verify(chunks, key, PART), 0);
    CHECK_EQ(velum_chunks_verify(chunks, key, PART), VELUM_E_CHUNK_HASH);
    CHECK_EQ(velum_chunks_drop(chunks, key), 0);
    CHECK_EQ(velum_chunks_verify(chunks, key, PART), VELUM_E_CHUNK_MISSING);
    close_chunks();
}

/* Dropped and put again half-way: the new memory is checked from its start. */
static void test_verify_starts_over_after_a_drop(void) {
    const size_t total = 2 * PART;
    uint8_t key[VELUM_KEY_BYTES];
    open_chunks(10 * PART);
    CHECK_EQ(add(total, 13, key), 0);
    CHECK_EQ(velum_chunks_verify(chunks, key, PART), 0);
    CHECK_EQ(velum_chunks_drop(chunks, key), 0);
    CHECK_EQ(add(total, 13, key), 0);
    flip(key, 0);
    CHECK_EQ(velum_chunks_verify(chunks, key, PART), 0);
    CHECK_EQ(velum_chunks_verify(chunks, key, PART), VELUM_E_CHUNK_HASH);
    close_chunks();
}

/* ---- many ---- */

#define MANY 50000u

/* Grows over a dozen doublings, is walked in steps, and shrinks again; each is found all along. */
static void test_many(void) {
    static uint8_t keys[MANY][VELUM_KEY_BYTES];
    velum_chunk step[64];
    size_t left = VELUM_CHUNKS_WALK_START, met = 0, n;
    open_chunks(SIZE_MAX);
    for (uint32_t i = 0; i < MANY; i++)
        if (velum_chunks_add(chunks, &i, sizeof i, keys[i]) != 0) CHECK(false);
    check_figures(MANY * MIN, 0, MANY, 0);
    for (uint32_t i = 0; i < MANY; i++) {
        const uint8_t *got = velum_chunks_get(chunks, keys[i], &n);
        if (got == NULL || n != sizeof i || memcmp(got, &i, n) != 0) CHECK(false);
    }
    while ((n = velum_chunks_walk(chunks, &left, step, 64)) > 0) {
        for (size_t i = 0; i < n; i++) { /* newest first */
            const uint8_t *expected = keys[MANY - 1 - met++];
            if (memcmp(step[i].key, expected, VELUM_KEY_BYTES) != 0) CHECK(false);
            if (step[i].size != sizeof(uint32_t)) CHECK(false);
        }
        CHECK_EQ(left, MANY - met);
    }
    CHECK_EQ(met, MANY);
    for (uint32_t i = 0; i < MANY; i += 2)
        if (velum_chunks_drop(chunks, keys[i]) != 0) CHECK(false);
    for (uint32_t i = 0; i < MANY; i++)
        if (held(keys[i]) != (i % 2 == 1)) CHECK(false);
    check_figures(MANY / 2 * MIN, 0, MANY / 2, 0);
    close_chunks();
}

/* What is held all the while is met, although others come and go between the steps. */
static void test_walk_among_changes(void) {
    uint8_t keys[100][VELUM_KEY_BYTES], fresh[VELUM_KEY_BYTES];
    unsigned met[100] = {0};
    velum_chunk step[3];
    size_t left = VELUM_CHUNKS_WALK_START, n, dropped = 0;
    open_chunks(SIZE_MAX);
    CHECK_EQ(velum_chunks_walk(chunks, &left, step, 3), 0);
    for (uint32_t i = 0; i < 100; i++)
        CHECK_EQ(velum_chunks_add(chunks, &i, sizeof i, keys[i]), 0);
    left = VELUM_CHUNKS_WALK_START;
    CHECK_EQ(velum_chunks_walk(chunks, &left, step, 0), 0);
    CHECK_EQ(left, 100);
    while ((n = velum_chunks_walk(chunks, &left, step, 3)) > 0) {
        for (size_t s = 0; s < n; s++)
            for (size_t i = 0; i < 100; i++)
                if (memcmp(step[s].key, keys[i], VELUM_KEY_BYTES) == 0) met[i]++;
        if (dropped < 50) { /* each from a place that is still to be met, or has been */
            CHECK_EQ(velum_chunks_drop(chunks, keys[dropped * 2]), 0);
            dropped++;
        }
        CHECK_EQ(add(20, 1000 + (uint32_t)dropped, fresh), 0);
    }
    for (size_t i = 1; i < 100; i += 2)
        CHECK(met[i] >= 1);
    close_chunks();
}

int main(void) {
    test_add_and_get();
    test_sizes();
    test_budget();
    test_arriving();
    test_parts_not_wanted();
    test_wrong_bytes();
    test_abandon();
    test_arriving_is_bounded();
    test_added_while_arriving();
    test_loans();
    test_verify();
    test_verify_starts_over_after_a_drop();
    test_many();
    test_walk_among_changes();
    return check_report("chunks");
}
