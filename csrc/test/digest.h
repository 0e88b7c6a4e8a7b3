/* digest.h: a hash of 32 bytes against its text. */
#ifndef VELUM_TEST_DIGEST_H
#define VELUM_TEST_DIGEST_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* `expected` has 64 lower-case hexadecimal digits. */
static inline bool digest_is(const uint8_t digest[32], const char *expected) {
    static const char digits[] = "0123456789abcdef";
    char text[65];
    for (size_t i = 0; i < 32; i++) {
        text[2 * i] = digits[digest[i] >> 4];
        text[2 * i + 1] = digits[digest[i] & 15];
    }
    text[64] = 0;
    return strcmp(text, expected) == 0;
}

#endif
