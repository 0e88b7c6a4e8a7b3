/* test_blake3.c: the key of a chunk against known BLAKE3 digests.
 *
 * The input is that of BLAKE3's own test vectors, whose lengths are here for the most part; the
 * others are around the edges of blocks (64), of BLAKE3's chunks (1024) and of what its widest code
 * takes at once. tests/unit/test_blake3.py compares many more with another implementation. Every
 * length is also fed in pieces, through a check of a held chunk.
 */
#include "check.h"
#include "chunks.h"
#include "digest.h"

#define PERIOD 251u

typedef struct {
    size_t length; /* of the input 0, 1, 2, ... modulo PERIOD */
    const char *digest;
} sample;

static const sample samples[] = {
    {0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"},
    {1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"},
    {63, "e9bc37a594daad83be9470df7f7b3798297c3d834ce80ba85d6e207627b7db7b"},
    {64, "4eed7141ea4a5cd4b788606bd23f46e212af9cacebacdc7d1f4c6dc7f2511b98"},
    {65, "de1e5fa0be70df6d2be8fffd0e99ceaa8eb6e8c93a63f2d8d1c30ecb6b263dee"},
    {1023, "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11"},
    {1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7"},
    {1025, "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444"},
    {2047, "58830fbf51a4423c573b164471690570e544cfe793bead46225664796b4b1467"},
    {2048, "e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529b85fba24a"},
    {2049, "5f4d72f40d7a5f82b15ca2b2e44b1de3c2ef86c426c95c1af0b6879522563030"},
    {31744, "62b6960e1a44bcc1eb1a611a8d6235b6b4b78f32e7abc4fb4c6cdcce94895c47"},
    {65535, "de7d0f4c044c56f56e0c5f7ab247be9491c4520e8688f0f0d25406f46fdfbd03"},
    {65536, "68d647e619a930e7b1082f74f334b0c65a315725569bdc123f0ee11881717bfe"},
    {65537, "7c99f9840a73dfcb6e5bfe4ff6d1558acab7e015640790c26411818bdbe17eca"},
    {102400, "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085"},
    {1048575, "f32b849d19684c18c138cf13e29dbadc776f4bc2a56b477680ef546b39ac3f71"},
    {1048576, "74cb441fd087764ca9c3694da742ebe30cbeb3060a17009ca81825c7a8d10343"},
    {1048577, "2f053cd7472cf0cd2f9adaf45c1180255b91b9a865404a63671a0ee5f792ed33"},
};

#define SAMPLES (sizeof samples / sizeof *samples)

static void test_lengths(const uint8_t *input) {
    uint8_t key[VELUM_KEY_BYTES];
    for (size_t i = 0; i < SAMPLES; i++) {
        velum_chunk_key(input, samples[i].length, key);
        CHECK(digest_is(key, samples[i].digest));
        velum_chunk_key(input + PERIOD, samples[i].length, key); /* at an odd address */
        CHECK(digest_is(key, samples[i].digest));
    }
    velum_chunk_key(NULL, 0, key);
    CHECK(digest_is(key, samples[0].digest));
}

static void test_pieces(const uint8_t *input) {
    static const size_t pieces[] = {1, 3, 63, 64, 65, 1000, 1024, 1025, 16384, 65537};
    velum_chunks *chunks;
    uint8_t key[VELUM_KEY_BYTES];
    CHECK_EQ(velum_chunks_open(&chunks, SIZE_MAX), 0);
    for (size_t i = 1; i < SAMPLES; i++) {
        CHECK_EQ(velum_chunks_add(chunks, input, samples[i].length, key), 0);
        CHECK(digest_is(key, samples[i].digest));
        for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
            size_t calls = (samples[i].length + pieces[p] - 1) / pieces[p];
            int r = 0;
            while (calls-- > 0 && r == 0)
                r = velum_chunks_verify(chunks, key, pieces[p]);
            CHECK_EQ(r, 1);
        }
    }
    velum_chunks_close(chunks);
}

int main(void) {
    static uint8_t input[1048577 + PERIOD];
    for (size_t i = 0; i < sizeof input; i++)
        input[i] = (uint8_t)(i % PERIOD);
    test_lengths(input);
    test_pieces(input);
    return check_report("test_blake3");
}
