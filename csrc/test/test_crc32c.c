/* test_crc32c.c: known CRCs, and that both ways to one agree with the polynomial, a bit at a time.
 *
 * crc32c.c is compiled into this program, so that the tables are tried on machines that have the
 * instruction too. Random runs come from a seed, printed at the end: `test_crc32c SEED` replays
 * them.
 */
#include "dice.h"
#include "crc32c.c"

#include "check.h"

#include <stdlib.h>

static void crc_is(const void *data, size_t n, uint32_t crc) {
    CHECK_EQ(velum_crc32c(0, data, n), crc);
    CHECK_EQ(by_table(0, data, n), crc);
}

static void test_vectors(void) {
    static const uint8_t read_pdu[48] = {1,           0xc0,        [16] = 0x14, [22] = 4,
                                         [27] = 0x14, [31] = 0x18, 0x28,        [40] = 2};
    uint8_t bytes[32];
    crc_is("", 0, 0);
    crc_is(NULL, 0, 0);
    crc_is("123456789", 9, 0xe3069283);
    memset(bytes, 0, sizeof bytes); /* RFC 3720, B.4, whose CRCs stand byte by byte */
    crc_is(bytes, sizeof bytes, 0x8a9136aa);
    memset(bytes, 0xff, sizeof bytes);
    crc_is(bytes, sizeof bytes, 0x62a8ab43);
    for (uint8_t i = 0; i < sizeof bytes; i++)
        bytes[i] = i;
    crc_is(bytes, sizeof bytes, 0x46dd794e);
    for (uint8_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(31 - i);
    crc_is(bytes, sizeof bytes, 0x113fdb5c);
    crc_is(read_pdu, sizeof read_pdu, 0xd9963a56);
}

/* A bit at a time, as the polynomial says. */
static uint32_t crc_by_bits(uint32_t crc, const uint8_t *p, size_t n) {
    crc = ~crc;
    for (size_t i = 0; i < 8 * n; i++) {
        uint32_t bit = (crc ^ (uint32_t)p[i / 8] >> i % 8) & 1u;
        crc = crc >> 1 ^ bit * 0x82f63b78u;
    }
    return ~crc;
}

static void test_ways(void) {
    uint8_t bytes[256 + 16];
    for (size_t round = 0; round < 200; round++) {
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)below(256);
        for (size_t at = 0; at < 16; at++) {
            size_t n = below(257), first = below(n + 1);
            uint32_t begin = (uint32_t)below(SIZE_MAX), crc = crc_by_bits(begin, bytes + at, n);
            CHECK_EQ(by_table(begin, bytes + at, n), crc);
#ifdef WITH_INSTRUCTION
            if (HAS_INSTRUCTION) CHECK_EQ(by_instruction(begin, bytes + at, n), crc);
#endif
            CHECK_EQ(
                velum_crc32c(velum_crc32c(0, bytes + at, first), bytes + at + first, n - first),
                velum_crc32c(0, bytes + at, n));
        }
    }
}

int main(int argc, char **argv) {
    unsigned long long seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    test_vectors();
    test_ways();
    printf("seed %llu\n", seed);
    return check_report("crc32c");
}
