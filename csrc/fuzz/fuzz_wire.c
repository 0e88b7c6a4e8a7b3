/* fuzz_wire.c: every decoder of the codec on arbitrary bytes.
 *
 * The input is taken as a frame or datagram with its header, then its whole as the payload of every
 * type, so that a fuzzer need not find sixteen right header bytes first. What decodes is encoded
 * again and must give the very same bytes, and those must decode too.
 * Runs under libFuzzer, or with standalone.c.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../test/wire_recode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t first[RECODE_BYTES_MAX], second[RECODE_BYTES_MAX];

static void demand(int condition, const char *what, unsigned type) {
    if (condition) return;
    fprintf(stderr, "fuzz_wire: type 0x%02x: %s\n", type, what);
    abort();
}

static void try_frame(const uint8_t *data, size_t size) {
    int got = recode(data, size, first, sizeof first);
    if (got <= 0) return;
    demand((size_t)got <= size && memcmp(first, data, (size_t)got) == 0, "encodes to other bytes",
           data[3]);
    demand(recode(first, (size_t)got, second, sizeof second) == got &&
               memcmp(first, second, (size_t)got) == 0,
           "does not decode again", data[3]);
}

/* `data` as the payload of one type; `framed` has room for a header before it. */
static void try_payload(uint8_t type, uint8_t *framed, const uint8_t *data, size_t size) {
    velum_header h;
    int got;
    if ((int64_t)size > velum_wire_limit(type)) return;
    h.type = type;
    h.length = (uint32_t)size;
    h.correlation = 1;
    velum_wire_put_header(framed, type, h.length, h.correlation);
    if (velum_wire_is_datagram(type)) {
        try_frame(framed, VELUM_HEADER_BYTES + size);
        return;
    }
    got = recode_payload(&h, data, first, sizeof first);
    demand(got != 0, "a whole payload needs more", type);
    if (got > 0)
        demand((size_t)got == VELUM_HEADER_BYTES + size &&
                   memcmp(first + VELUM_HEADER_BYTES, data, size) == 0,
               "payload encodes to other bytes", type);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *framed = malloc(VELUM_HEADER_BYTES + size);
    if (framed == NULL) return 0;
    if (size > 0) memcpy(framed + VELUM_HEADER_BYTES, data, size);
    try_frame(data, size);
    for (uint8_t type = 0; type < UINT8_MAX; type++)
        if (velum_wire_limit(type) > 0) try_payload(type, framed, data, size);
    free(framed);
    return 0;
}
