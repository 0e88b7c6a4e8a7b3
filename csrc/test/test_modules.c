/* test_modules.c: the module cache: bounds, eviction, pins, and modules that arrive in parts. */
#include "blake2b.h"
#include "check.h"
#include "modules.h"

#include <stdlib.h>

#define PART VELUM_MODULE_PART_BYTES

static velum_modules *cache;

static void open_cache(size_t bytes_max) {
    CHECK_EQ(velum_modules_open(&cache, bytes_max), 0);
}

static void close_cache(void) {
    velum_modules_close(cache);
}

/* A module of n bytes, unlike any of another number. */
static uint8_t *make(size_t n, unsigned number) {
    uint8_t *bytes = malloc(n);
    for (size_t i = 0; bytes != NULL && i < n; i++) {
        bytes[i] = (uint8_t)(i * 31u + (i >> 8) + number);
    }
    if (bytes != NULL && n >= sizeof number) memcpy(bytes, &number, sizeof number);
    return bytes;
}

static int add(size_t n, unsigned number, uint8_t hash[32]) {
    uint8_t *bytes = make(n, number);
    int err = velum_modules_add(cache, bytes, n, hash);
    free(bytes);
    return err;
}

static bool held(const uint8_t hash[32]) {
    size_t n;
    return velum_modules_get(cache, hash, &n) != NULL;
}

static void test_add_and_get(void) {
    uint8_t hash[32], again[32], expected[32];
    uint8_t *bytes = make(1000, 1);
    const uint8_t *got;
    size_t n = 0;
    open_cache(10000);
    CHECK_EQ(velum_modules_add(cache, bytes, 1000, hash), 0);
    velum_blake2b_256(bytes, 1000, expected);
    CHECK(memcmp(hash, expected, 32) == 0);
    CHECK_EQ(velum_modules_add(cache, bytes, 1000, again), 0);
    CHECK_EQ(velum_modules_count(cache), 1);
    CHECK_EQ(velum_modules_bytes(cache), 1000);
    got = velum_modules_get(cache, hash, &n);
    CHECK(got != NULL && got != bytes && n == 1000 && memcmp(got, bytes, n) == 0);
    hash[0] ^= 1u;
    CHECK(velum_modules_get(cache, hash, &n) == NULL);
    CHECK_EQ(velum_modules_pin(cache, hash), VELUM_E_MODULE_MISSING);
    velum_modules_unpin(cache, hash);
    CHECK_EQ(velum_modules_add(cache, bytes, 0, hash), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_modules_add(cache, NULL, 1, hash), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_modules_add(cache, bytes, VELUM_MODULE_BYTES_MAX + 1u, hash), VELUM_E_TOO_LARGE);
    free(bytes);
    CHECK_EQ(add(10001, 2, hash), VELUM_E_TOO_LARGE);
    CHECK_EQ(add(10000, 3, hash), 0);
    CHECK_EQ(velum_modules_count(cache), 1);
    close_cache();
}

static void test_least_recently_used_goes(void) {
    uint8_t a[32], b[32], c[32], d[32];
    open_cache(3000);
    CHECK_EQ(add(1000, 1, a), 0);
    CHECK_EQ(add(1000, 2, b), 0);
    CHECK_EQ(add(1000, 3, c), 0);
    CHECK(held(a));
    CHECK_EQ(add(500, 4, d), 0);
    CHECK(!held(b));
    CHECK(held(a) && held(c) && held(d));
    CHECK_EQ(velum_modules_bytes(cache), 2500);
    close_cache();
}

static void test_pins_hold(void) {
    uint8_t a[32], b[32], c[32];
    size_t n;
    void *token;
    open_cache(2000);
    CHECK_EQ(add(1000, 1, a), 0);
    CHECK_EQ(add(900, 2, b), 0);
    CHECK_EQ(velum_modules_pin(cache, a), 0);
    CHECK_EQ(velum_modules_pin(cache, a), 0);
    CHECK(velum_modules_lend(cache, b, &n, &token) != NULL);
    CHECK_EQ(n, 900);
    CHECK_EQ(add(200, 3, c), VELUM_E_FULL);
    velum_modules_unpin(cache, a);
    CHECK_EQ(add(200, 3, c), VELUM_E_FULL);
    CHECK(held(a) && held(b));
    velum_modules_give_back(token);
    CHECK_EQ(add(200, 3, c), 0);
    CHECK(held(a) && !held(b) && held(c));
    CHECK(velum_modules_lend(cache, b, &n, &token) == NULL);
    velum_modules_unpin(cache, a);
    velum_modules_unpin(cache, a);
    CHECK_EQ(add(2000, 4, c), 0);
    CHECK(!held(a));
    close_cache();
}

static void test_slots_are_bounded(void) {
    uint8_t first[32], hash[32];
    open_cache(1u << 20);
    CHECK_EQ(add(8, 0, first), 0);
    CHECK_EQ(velum_modules_pin(cache, first), 0);
    for (unsigned i = 1; i < 2 * VELUM_MODULE_CACHE_SLOTS; i++)
        CHECK_EQ(add(8, i, hash), 0);
    CHECK_EQ(velum_modules_count(cache), VELUM_MODULE_CACHE_SLOTS);
    CHECK(held(first));
    CHECK(held(hash));
    close_cache();
}

static velum_module_part part_of(const uint8_t hash[32], size_t total, size_t offset) {
    velum_module_part part;
    memcpy(part.hash, hash, 32);
    part.total = (uint32_t)total;
    part.offset = (uint32_t)offset;
    part.size = (uint32_t)(total - offset < PART ? total - offset : PART);
    return part;
}

/* Lets one part arrive; what part_arrived said, or 2 if its memory was refused. */
static int arrive(const uint8_t *bytes, const velum_module_part *part, uint32_t *next) {
    uint8_t *to = velum_modules_part_memory(cache, part);
    if (to == NULL) return 2;
    memcpy(to, bytes + part->offset, part->size);
    return velum_modules_part_arrived(cache, part, next);
}

static void test_arriving(void) {
    const size_t total = 2 * PART + 777;
    uint8_t hash[32], *bytes = make(total, 5);
    velum_module_part part;
    uint32_t next = 0;
    velum_blake2b_256(bytes, total, hash);
    open_cache(4 * PART);
    part = part_of(hash, total, PART);
    CHECK(velum_modules_part_memory(cache, &part) == NULL); /* does not begin at 0 */
    CHECK_EQ(velum_modules_part_arrived(cache, &part, &next), VELUM_E_MODULE_MISSING);
    part = part_of(hash, total, 0);
    CHECK_EQ(arrive(bytes, &part, &next), 0);
    CHECK_EQ(next, PART);
    CHECK_EQ(velum_modules_bytes(cache), total);
    CHECK_EQ(velum_modules_count(cache), 0);
    CHECK(!held(hash));
    CHECK_EQ(velum_modules_pin(cache, hash), VELUM_E_MODULE_MISSING);
    CHECK_EQ(arrive(bytes, &part, &next), 2); /* twice */
    CHECK_EQ(velum_modules_part_arrived(cache, &part, &next), VELUM_E_MODULE_MISSING);
    part = part_of(hash, total, 2 * PART);
    CHECK_EQ(arrive(bytes, &part, &next), 2); /* out of order */
    part = part_of(hash, total + 1, PART);
    CHECK_EQ(arrive(bytes, &part, &next), 2); /* another total */
    part = part_of(hash, total, PART);
    CHECK_EQ(arrive(bytes, &part, &next), 0);
    CHECK_EQ(next, 2 * PART);
    part = part_of(hash, total, 2 * PART);
    CHECK_EQ(arrive(bytes, &part, &next), 1);
    CHECK(held(hash));
    CHECK_EQ(velum_modules_count(cache), 1);
    part = part_of(hash, total, 0);
    CHECK_EQ(arrive(bytes, &part, &next), 2); /* complete already */
    free(bytes);
    close_cache();
}

static void test_wrong_bytes(void) {
    const size_t total = PART + 1;
    uint8_t hash[32], *bytes = make(total, 6);
    velum_module_part part;
    uint32_t next;
    velum_blake2b_256(bytes, total, hash);
    bytes[PART] ^= 1u;
    open_cache(4 * PART);
    part = part_of(hash, total, 0);
    CHECK_EQ(arrive(bytes, &part, &next), 0);
    part = part_of(hash, total, PART);
    CHECK_EQ(arrive(bytes, &part, &next), VELUM_E_MODULE_HASH);
    CHECK_EQ(velum_modules_bytes(cache), 0);
    bytes[PART] ^= 1u;
    part = part_of(hash, total, 0);
    CHECK_EQ(arrive(bytes, &part, &next), 0);
    velum_modules_abandon(cache, hash);
    velum_modules_abandon(cache, hash);
    CHECK_EQ(velum_modules_bytes(cache), 0);
    free(bytes);
    close_cache();
}

static void test_arriving_is_bounded(void) {
    uint8_t hash[32] = {1}, other[32] = {2}, added[32];
    velum_module_part part = part_of(hash, 0, 0);
    open_cache(3 * PART);
    CHECK(velum_modules_part_memory(cache, &part) == NULL); /* empty */
    part = part_of(hash, 3 * PART + 1, 0);
    CHECK(velum_modules_part_memory(cache, &part) == NULL); /* over the bound */
    part = part_of(hash, (size_t)VELUM_MODULE_BYTES_MAX + 1u, 0);
    CHECK(velum_modules_part_memory(cache, &part) == NULL);
    CHECK_EQ(add(PART, 7, added), 0);
    part = part_of(hash, 2 * PART, 0);
    CHECK(velum_modules_part_memory(cache, &part) != NULL);
    part = part_of(other, 2 * PART, 0);
    CHECK(velum_modules_part_memory(cache, &part) == NULL);
    CHECK(held(added)); /* nothing goes in vain */
    part = part_of(other, PART, 0);
    CHECK(velum_modules_part_memory(cache, &part) != NULL);
    CHECK(!held(added));
    close_cache(); /* with two arriving */
}

/* A module that is added here while it arrives: the arriving memory is left alone. */
static void test_added_while_arriving(void) {
    const size_t total = PART + 10;
    uint8_t hash[32], *bytes = make(total, 8);
    velum_module_part part;
    uint8_t *to;
    uint32_t next;
    size_t n;
    open_cache(8 * PART);
    velum_blake2b_256(bytes, total, hash);
    part = part_of(hash, total, 0);
    to = velum_modules_part_memory(cache, &part);
    CHECK(to != NULL);
    CHECK_EQ(velum_modules_add(cache, bytes, total, hash), 0);
    if (to != NULL) memset(to, 0xee, part.size); /* a peer that lies */
    CHECK_EQ(velum_modules_part_arrived(cache, &part, &next), 1);
    CHECK_EQ(velum_modules_bytes(cache), total);
    CHECK(memcmp(velum_modules_get(cache, hash, &n), bytes, total) == 0);
    free(bytes);
    close_cache();
}

int main(void) {
    test_add_and_get();
    test_least_recently_used_goes();
    test_pins_hold();
    test_slots_are_bounded();
    test_arriving();
    test_wrong_bytes();
    test_arriving_is_bounded();
    test_added_while_arriving();
    return check_report("modules");
}
