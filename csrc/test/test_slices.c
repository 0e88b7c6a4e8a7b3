/* test_slices.c: where a range is cut, against the defining division in 96 bits.
 *
 * docs/scatter.md writes start + q*i + r*i/n so that 64 bits are enough; that is start plus the
 * whole part of length * i / n, which the test checks by multiplying back. Random ranges come from
 * a seed, printed when they fail: `test_slices SEED` replays them.
 */
#include <stdlib.h>

#include "check.h"
#include "slices.h"
#include "velum_opt.h"

static velum_value i32(int32_t n) {
    velum_value v = {VELUM_I32, (uint32_t)n};
    return v;
}

static velum_value i64(int64_t n) {
    velum_value v = {VELUM_I64, (uint64_t)n};
    return v;
}

/* ---- numbers of 96 bits ---- */

typedef struct {
    uint64_t high, low; /* high * 2^32 + low, low below 2^32 */
} wide;

static wide product(uint64_t a, uint32_t b) {
    uint64_t low = (a & UINT32_MAX) * b;
    wide w = {(a >> 32) * b + (low >> 32), low & UINT32_MAX};
    return w;
}

static bool at_most(wide a, wide b) {
    return a.high < b.high || (a.high == b.high && a.low <= b.low);
}

/* ---- one table ---- */

/* Slice `index` begins at the whole part of length * index / slices. */
static bool begins_right(uint64_t at, uint64_t length, uint32_t slices, uint32_t index) {
    wide exact = product(length, index), next = product(at + 1, slices);
    if (!at_most(product(at, slices), exact)) return false;
    return at == UINT64_MAX || !at_most(next, exact);
}

/* Its bounds are in order, of the range's type, and where the division says. */
static bool slice_ok(velum_value start, velum_value end, uint32_t slices, uint32_t index) {
    uint64_t mask = start.type == VELUM_I32 ? UINT32_MAX : UINT64_MAX;
    uint64_t length, size;
    velum_value from, to;
    if (!velum_range_length(start, end, &length)) return false;
    velum_slice_bounds(start, end, slices, index, &from, &to);
    if (from.type != start.type || to.type != start.type) return false;
    if (!velum_range_length(from, to, &size)) return false;
    if (from.bits > mask || to.bits > mask) return false;
    if (size != length / slices && size != length / slices + 1) return false;
    if (index == 0 && from.bits != start.bits) return false;
    if (index == slices - 1) return to.bits == end.bits;
    return begins_right((from.bits - start.bits) & mask, length, slices, index) &&
           begins_right((to.bits - start.bits) & mask, length, slices, index + 1);
}

/* Some slices of a table, its edges among them. */
static void test_table(velum_value start, velum_value end, uint32_t slices) {
    uint32_t step = slices / 61 + 1;
    for (uint32_t index = 0; index < slices; index += step)
        CHECK(slice_ok(start, end, slices, index));
    CHECK(slice_ok(start, end, slices, slices - 1));
    CHECK(slice_ok(start, end, slices, slices / 2));
}

static void test_length(void) {
    velum_value f64 = {VELUM_F64, 0}, loose = {VELUM_I32, UINT64_C(1) << 32};
    uint64_t length = 1;
    CHECK(velum_range_length(i32(-3), i32(4), &length) && length == 7);
    CHECK(velum_range_length(i32(5), i32(5), &length) && length == 0);
    CHECK(velum_range_length(i32(INT32_MIN), i32(INT32_MAX), &length) && length == UINT32_MAX);
    CHECK(velum_range_length(i64(-1), i64(0), &length) && length == 1);
    CHECK(velum_range_length(i64(INT64_MIN), i64(INT64_MAX), &length) && length == UINT64_MAX);
    length = 42;
    CHECK(!velum_range_length(i32(4), i32(-3), &length));
    CHECK(!velum_range_length(i64(INT64_MAX), i64(INT64_MIN), &length));
    CHECK(!velum_range_length(i32(0), i64(1), &length));
    CHECK(!velum_range_length(i64(0), i32(1), &length));
    CHECK(!velum_range_length(f64, f64, &length));
    CHECK(!velum_range_length(i32(0), loose, &length));
    CHECK(!velum_range_length(loose, loose, &length));
    CHECK_EQ(length, 42); /* untouched */
}

static void test_examples(void) {
    static const int64_t ends[] = {-10, -8, -6, -3, -1, 1, 4}; /* 14 numbers in 6 slices */
    velum_value from, to;
    for (uint32_t index = 0; index < 6; index++) {
        velum_slice_bounds(i64(-10), i64(4), 6, index, &from, &to);
        CHECK_EQ((int64_t)from.bits, ends[index]);
        CHECK_EQ((int64_t)to.bits, ends[index + 1]);
    }
    velum_slice_bounds(i32(-2), i32(2), 2, 0, &from, &to);
    CHECK(from.type == VELUM_I32 && from.bits == 0xfffffffe && to.bits == 0);
}

static void test_small(void) {
    for (int32_t length = 0; length < 40; length++)
        for (uint32_t slices = 1; slices < 50; slices++) {
            test_table(i32(-7), i32(length - 7), slices);
            test_table(i64(-7), i64(length - 7), slices);
        }
}

static void test_edges(void) {
    static const int64_t ends[] = {INT64_MIN, INT64_MIN + 1, INT32_MIN, -1,        0,
                                   1,         4095,          INT32_MAX, INT64_MAX, INT64_MAX - 1};
    static const uint32_t counts[] = {1, 2, 3, 4095, 4096, VELUM_SLICES_MAX - 1, VELUM_SLICES_MAX};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        for (size_t a = 0; a < sizeof ends / sizeof *ends; a++)
            for (size_t b = 0; b < sizeof ends / sizeof *ends; b++)
                if (ends[a] <= ends[b]) test_table(i64(ends[a]), i64(ends[b]), counts[c]);
        test_table(i32(INT32_MIN), i32(INT32_MAX), counts[c]);
        test_table(i32(INT32_MIN), i32(0), counts[c]);
        test_table(i32(0), i32(INT32_MAX), counts[c]);
    }
}

/* xorshift64* (Vigna 2016). */
static uint64_t random64(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

static void test_random(uint64_t seed) {
    uint64_t state = seed != 0 ? seed : 1;
    int failed_before = check_failed_count;
    for (int round = 0; round < 20000; round++) {
        uint64_t shift = random64(&state) % 64;
        velum_value start = i64((int64_t)random64(&state));
        velum_value end = i64((int64_t)(start.bits + (random64(&state) >> shift)));
        uint32_t slices = (uint32_t)(random64(&state) % VELUM_SLICES_MAX) + 1;
        uint64_t length;
        if (velum_range_length(start, end, &length))
            CHECK(slice_ok(start, end, slices, (uint32_t)(random64(&state) % slices)));
    }
    if (check_failed_count != failed_before) printf("seed %llu\n", (unsigned long long)seed);
}

int main(int argc, char **argv) {
    test_length();
    test_examples();
    test_small();
    test_edges();
    test_random(argc > 1 ? strtoull(argv[1], NULL, 10) : 1);
    return check_report("test_slices");
}
