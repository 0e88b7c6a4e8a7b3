/* test_blake2b.c: BLAKE2b-256 against known digests.
 *
 * RFC 7693 prints the digest of "abc" for 64 bytes only; its Appendix E checks shorter ones through
 * one digest over many (blake2b_selftest). That needs keys and other lengths, which this hash does
 * not have, so the values below are those of the reference implementation (Python's hashlib), for
 * lengths around the block's edges. Every length is also fed in pieces of every size.
 */
#include "blake2b.h"
#include "check.h"
#include "digest.h"

typedef struct {
    size_t length; /* of the input 0, 1, 2, ... modulo 251 */
    const char *digest;
} sample;

static const sample samples[] = {
    {0, "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"},
    {1, "03170a2e7597b7b7e3d84c05391d139a62b157e78786d8c082f29dcf4c111314"},
    {63, "29e41a64fbdd2fd27612228623c0702222bf367451e7324287f181cb3dcf7237"},
    {64, "10d8e6d534b00939843fe9dcc4dae48cdf008f6b8b2b82b156f5404d874887f5"},
    {127, "f2fe67ff342e21b8f45e8f2e0bcd1d9243245d50ee6c78042e9c491388791c72"},
    {128, "c3582f71ebb2be66fa5dd750f80baae97554f3b015663c8be377cfcb2488c1d1"},
    {129, "f7f3c46ba2564ff4c4c162da1f5b605f9f1c4aa6a20652a9f9a337c1a2f5b9c9"},
    {255, "d9ef0fc521b4266d16df662bec231bc2ec3989e7adeaf63169c295dc239dbbea"},
    {256, "582f782226018ec33076bd8d1c42413530ac7e1126260ffc0f306ba3befc3f24"},
    {257, "227e15ed64ee8e93eb7bc53828f76eed974f2c4ab1408c3d08f212b7f8d69904"},
    {1000, "b372d0608f720c8c3dd41e9c8eecb10143b41abe520b616607e754bf79c08331"},
    {100000, "916cfaa800ee55811e82095babeb88ea29c9ef8a36e8d7e20c7b772c344c9e1c"},
};

static void test_abc(void) {
    uint8_t digest[32];
    velum_blake2b_256("abc", 3, digest);
    CHECK(digest_is(digest, "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319"));
}

static void test_lengths(const uint8_t *input) {
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        uint8_t digest[32];
        velum_blake2b_256(input, samples[i].length, digest);
        CHECK(digest_is(digest, samples[i].digest));
    }
}

static void test_pieces(const uint8_t *input) {
    for (size_t length = 0; length <= 300; length++) {
        uint8_t whole[32], pieces[32];
        velum_blake2b_256(input, length, whole);
        for (size_t step = 1; step <= 140; step++) {
            velum_blake2b s;
            velum_blake2b_init(&s);
            for (size_t at = 0; at < length; at += step)
                velum_blake2b_update(&s, input + at, length - at < step ? length - at : step);
            velum_blake2b_update(&s, NULL, 0);
            velum_blake2b_final(&s, pieces);
            CHECK(memcmp(whole, pieces, sizeof whole) == 0);
        }
    }
}

int main(void) {
    static uint8_t input[100000];
    for (size_t i = 0; i < sizeof input; i++)
        input[i] = (uint8_t)(i % 251);
    test_abc();
    test_lengths(input);
    test_pieces(input);
    return check_report("test_blake2b");
}
