/* crc32c.c: CRC32C by the processor's instruction, or by tables.
 *
 * Owns: the polynomial's 64 constants, and which of the two ways is taken. Refuses to know: what is
 * checked.
 * How: both ways take eight bytes at a time, least significant byte first, with shifts, so that the
 * machine's own order does not matter. The tables are slicing-by-8 (Kounavis and Berry 2005): entry
 * i of table k is what the byte i becomes when k zero bytes follow it. That is linear in the bits
 * of i, so the compiler makes all 2,048 entries of what single bits become, and no thread has to
 * make them at run time.
 */
#include "crc32c.h"

#include "wire_bytes.h"

#define WORD_BYTES 8u

#define BIT(i, n, of) ((((i) >> (n)) & 1u) * (of))
#define ENTRY(i, a, b, c, d, e, f, g, h)                                                           \
    (BIT(i, 7, a) ^ BIT(i, 6, b) ^ BIT(i, 5, c) ^ BIT(i, 4, d) ^ BIT(i, 3, e) ^ BIT(i, 2, f) ^     \
     BIT(i, 1, g) ^ BIT(i, 0, h))
#define FOUR(i, ...)                                                                               \
    ENTRY((i) + 0u, __VA_ARGS__), ENTRY((i) + 1u, __VA_ARGS__), ENTRY((i) + 2u, __VA_ARGS__),      \
        ENTRY((i) + 3u, __VA_ARGS__)
#define SIXTEEN(i, ...)                                                                            \
    FOUR((i) + 0u, __VA_ARGS__), FOUR((i) + 4u, __VA_ARGS__), FOUR((i) + 8u, __VA_ARGS__),         \
        FOUR((i) + 12u, __VA_ARGS__)
#define SIXTY_FOUR(i, ...)                                                                         \
    SIXTEEN((i) + 0u, __VA_ARGS__), SIXTEEN((i) + 16u, __VA_ARGS__),                               \
        SIXTEEN((i) + 32u, __VA_ARGS__), SIXTEEN((i) + 48u, __VA_ARGS__)
#define TABLE(...)                                                                                 \
    {SIXTY_FOUR(0u, __VA_ARGS__), SIXTY_FOUR(64u, __VA_ARGS__), SIXTY_FOUR(128u, __VA_ARGS__),     \
     SIXTY_FOUR(192u, __VA_ARGS__)}

/* The first constant is the polynomial, reflected: what bit 7 of a byte becomes. Each of the others
 * is what one more bit makes of the one before. */
static const uint32_t tables[WORD_BYTES][256] = {
    TABLE(0x82f63b78, 0x417b1dbc, 0x20bd8ede, 0x105ec76f, 0x8ad958cf, 0xc79a971f, 0xe13b70f7,
          0xf26b8303),
    TABLE(0xfbc3faf9, 0xff17c604, 0x7f8be302, 0x3fc5f181, 0x9d14c3b8, 0x4e8a61dc, 0x274530ee,
          0x13a29877),
    TABLE(0x8b277743, 0xc76580d9, 0xe144fb14, 0x70a27d8a, 0x38513ec5, 0x9edea41a, 0x4f6f520d,
          0xa541927e),
    TABLE(0x52a0c93f, 0xaba65fe7, 0xd725148b, 0xe964b13d, 0xf64463e6, 0x7b2231f3, 0xbf672381,
          0xdd45aab8),
    TABLE(0x6ea2d55c, 0x37516aae, 0x1ba8b557, 0x8f2261d3, 0xc5670b91, 0xe045beb0, 0x7022df58,
          0x38116fac),
    TABLE(0x1c08b7d6, 0x0e045beb, 0x85f4168d, 0xc00c303e, 0x6006181f, 0xb2f53777, 0xdb8ca0c3,
          0xef306b19),
    TABLE(0xf56e0ef4, 0x7ab7077a, 0x3d5b83bd, 0x9c5bfaa6, 0x4e2dfd53, 0xa5e0c5d1, 0xd0065990,
          0x68032cc8),
    TABLE(0x34019664, 0x1a00cb32, 0x0d006599, 0x847609b4, 0x423b04da, 0x211d826d, 0x9278fa4e,
          0x493c7d27),
};

static uint32_t by_table(uint32_t crc, const uint8_t *p, size_t n) {
    crc = ~crc;
    for (; n >= WORD_BYTES; p += WORD_BYTES, n -= WORD_BYTES) {
        uint32_t low = velum__get32(p) ^ crc, high = velum__get32(p + 4);
        crc = tables[7][low & 255u] ^ tables[6][low >> 8 & 255u] ^ tables[5][low >> 16 & 255u] ^
              tables[4][low >> 24] ^ tables[3][high & 255u] ^ tables[2][high >> 8 & 255u] ^
              tables[1][high >> 16 & 255u] ^ tables[0][high >> 24];
    }
    for (; n > 0; p++, n--)
        crc = tables[0][(crc ^ *p) & 255u] ^ crc >> 8;
    return ~crc;
}

/* ---- the instruction: x86-64 is asked for it, ARM has it if the compiler was told so ---- */

#if defined(__x86_64__) && defined(__GNUC__)
#define WITH_INSTRUCTION            __attribute__((target("sse4.2")))
#define HAS_INSTRUCTION             __builtin_cpu_supports("sse4.2")
#define INSTRUCTION_WORD(crc, word) ((uint32_t)__builtin_ia32_crc32di((crc), (word)))
#define INSTRUCTION_BYTE(crc, byte) __builtin_ia32_crc32qi((crc), (byte))
#elif defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#define WITH_INSTRUCTION
#define HAS_INSTRUCTION             1
#define INSTRUCTION_WORD(crc, word) __crc32cd((crc), (word))
#define INSTRUCTION_BYTE(crc, byte) __crc32cb((crc), (byte))
#endif

#ifdef WITH_INSTRUCTION
WITH_INSTRUCTION static uint32_t by_instruction(uint32_t crc, const uint8_t *p, size_t n) {
    crc = ~crc;
    for (; n >= WORD_BYTES; p += WORD_BYTES, n -= WORD_BYTES)
        crc = INSTRUCTION_WORD(crc, velum__get64(p));
    for (; n > 0; p++, n--)
        crc = INSTRUCTION_BYTE(crc, *p);
    return ~crc;
}
#endif

uint32_t velum_crc32c(uint32_t crc, const void *data, size_t n) {
#ifdef WITH_INSTRUCTION
    if (HAS_INSTRUCTION) return by_instruction(crc, data, n);
#endif
    return by_table(crc, data, n);
}
