/* fuzz_resp.c: the request parser and the reply writer on arbitrary bytes.
 *
 * The input is read as a stream of requests, in one piece, in single bytes (a long one: in larger
 * pieces) and in pieces that the input decides: all must give the same. Each request that comes out
 * is written again as an array of bulk strings, and must be read back as what it was. The input as
 * an error's text must be one line.
 * Runs under libFuzzer, or with standalone.c.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../test/resp_feed.h"

#define SINGLE_BYTES_MAX                                                                           \
    600u /* of an input that is given in single bytes: the time is its square */
#define OUT_BYTES_MAX (1024u * 1024u) /* a longer reply finds the writer full */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t out[OUT_BYTES_MAX];
static size_t written;

static void demand(bool condition, const char *what) {
    if (condition) return;
    fprintf(stderr, "fuzz_resp: %s\n", what);
    abort();
}

static uint8_t *more(void *owner, size_t n) {
    (void)owner;
    return sizeof out - written < n ? NULL : out + written;
}

static void wrote(void *owner, size_t n) {
    (void)owner;
    written += n;
}

static velum_resp_writer writer(void) {
    velum_resp_writer w = {NULL, more, wrote, 2, false};
    written = 0;
    return w;
}

static void write_again(const velum_resp_arg *args, size_t count) {
    static velum_resp_arg back[VELUM_RESP_ARGS_MAX];
    velum_resp_state state;
    velum_resp_writer w = writer();
    size_t back_count = 0;
    const char *text = NULL;
    velum_resp_array(&w, count);
    for (size_t i = 0; i < count; i++)
        velum_resp_bulk(&w, args[i].data, args[i].size);
    if (w.full) return;
    memset(&state, 0, sizeof state);
    demand(velum_resp_get(&state, out, written, back, &back_count, &text) == (int)written,
           "a request that was written again is not read");
    demand(back_count == count, "has another count");
    for (size_t i = 0; i < count; i++)
        demand(back[i].size == args[i].size &&
                   memcmp(back[i].data, args[i].data, args[i].size) == 0,
               "has another argument");
}

static void try_requests(const uint8_t *data, size_t size) {
    static velum_resp_arg args[VELUM_RESP_ARGS_MAX];
    velum_resp_state state;
    uint8_t *copy = malloc(size);
    size_t used = 0, count;
    const char *text;
    if (copy == NULL) return;
    memcpy(copy, data, size);
    memset(&state, 0, sizeof state);
    while (used < size) {
        int got = velum_resp_get(&state, copy + used, size - used, args, &count, &text);
        if (got <= 0) break;
        demand(count <= VELUM_RESP_ARGS_MAX, "too many arguments");
        write_again(args, count);
        used += (size_t)got;
    }
    free(copy);
}

static void try_pieces(const uint8_t *data, size_t size) {
    size_t piece = size / SINGLE_BYTES_MAX + 1;
    uint64_t seed = 1;
    feed_log whole = feed(data, size, feed_whole, NULL), cut;
    cut = feed(data, size, feed_pieces, &piece);
    demand(feed_same(&whole, &cut), "other requests in equal pieces");
    free(cut.text);
    for (size_t i = 0; i < size && i < 8; i++)
        seed = seed << 8 | data[i];
    cut = feed(data, size, feed_random, &seed);
    demand(feed_same(&whole, &cut), "other requests in random pieces");
    free(cut.text);
    free(whole.text);
}

static void try_error(const uint8_t *data, size_t size) {
    velum_resp_writer w = writer();
    char *text = malloc(size + 1);
    if (text == NULL) return;
    memcpy(text, data, size);
    text[size] = '\0';
    velum_resp_error(&w, text);
    free(text);
    demand(w.full || (out[0] == '-' && memchr(out, '\r', written) == out + written - 2 &&
                      memchr(out, '\n', written) == out + written - 1),
           "an error is more than a line");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    try_requests(data, size);
    try_pieces(data, size);
    try_error(data, size);
    return 0;
}
