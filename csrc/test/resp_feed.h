/* resp_feed.h: a stream of requests, given to the parser in pieces and written down.
 *
 * Owns: cutting and keeping. Refuses to know: what the requests should be.
 * How: after each piece the bytes lie elsewhere, in memory of exactly their size, so that a
 * sanitizer sees a byte read too far or one kept from before. What comes out is text: a request as
 * its bytes, its count and its arguments, at the end the error, or how many bytes are left over.
 */
#ifndef VELUM_TEST_RESP_FEED_H
#define VELUM_TEST_RESP_FEED_H

#include "resp.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    char *text;
    size_t size, room;
    int error; /* the first, or 0 */
} feed_log;

static void feed_note(feed_log *log, const void *data, size_t n) {
    if (log->room - log->size < n) {
        log->room = 2 * (log->size + n);
        log->text = realloc(log->text, log->room);
        if (log->text == NULL) abort();
    }
    if (n > 0) memcpy(log->text + log->size, data, n);
    log->size += n;
}

static void feed_number(feed_log *log, char type, uint64_t value) {
    feed_note(log, &type, 1);
    feed_note(log, &value, sizeof value);
}

static void feed_request(feed_log *log, uint64_t bytes, const velum_resp_arg *args, size_t count) {
    feed_number(log, 'r', bytes);
    feed_number(log, 'c', count);
    for (size_t i = 0; i < count; i++) {
        feed_number(log, 'a', args[i].size);
        feed_note(log, args[i].data, args[i].size);
    }
}

/* The n bytes at `stream`, of which piece(owner) come at a time (1 at least; more than there are
 * is all). The log's text is the caller's to free. */
static feed_log feed(const uint8_t *stream, size_t n, size_t (*piece)(void *owner), void *owner) {
    static velum_resp_arg args[VELUM_RESP_ARGS_MAX];
    velum_resp_state state;
    feed_log log = {NULL, 0, 0, 0};
    uint8_t *have = NULL; /* what came of the request that is being read */
    size_t size = 0, count;
    const char *text;
    memset(&state, 0, sizeof state);
    while (n > 0 && log.error == 0) {
        size_t more = piece(owner), used = 0;
        uint8_t *moved;
        if (more > n) more = n;
        moved = malloc(size + more);
        if (moved == NULL) abort();
        if (size > 0) memcpy(moved, have, size);
        memcpy(moved + size, stream, more);
        if (size > 0) memset(have, 0xdd, size);
        free(have);
        have = moved;
        size += more;
        stream += more;
        n -= more;
        while (used < size && log.error == 0) {
            int got = velum_resp_get(&state, have + used, size - used, args, &count, &text);
            if (got == 0) break;
            if (got < 0) {
                log.error = got;
                feed_note(&log, text, strlen(text));
            } else {
                feed_request(&log, (uint64_t)got, args, count);
                used += (size_t)got;
            }
        }
        size -= used;
        memmove(have, have + used, size);
    }
    if (log.error == 0) feed_number(&log, 'l', size);
    free(have);
    return log;
}

static bool feed_same(const feed_log *a, const feed_log *b) {
    return a->error == b->error && a->size == b->size && memcmp(a->text, b->text, a->size) == 0;
}

/* ---- pieces ---- */

static size_t feed_whole(void *owner) {
    (void)owner;
    return SIZE_MAX;
}

/* owner: the size of every piece, or NULL: single bytes. */
static size_t feed_pieces(void *owner) {
    return owner == NULL ? 1 : *(const size_t *)owner;
}

/* owner: a random generator's state, not 0. */
static size_t feed_random(void *owner) {
    uint64_t *state = owner;
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (size_t)(*state >> 33) % 40 + 1;
}

#endif
