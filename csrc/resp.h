/* resp.h: the Redis serialization protocol, versions 2 and 3, as a server speaks it.
 *
 * Owns: how requests are cut out of a stream of bytes, and how replies are written. Refuses to
 * know: commands, keys, sockets. Source: the RESP specification of redis.io (RESP2 and RESP3).
 * How: a request's arguments are handed out where they lie. The parser keeps nothing between calls
 * but how far it got within one request, so that a large one that comes in pieces is not looked at
 * anew from its beginning each time.
 */
#ifndef VELUM_RESP_H
#define VELUM_RESP_H

#include "velum.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VELUM_RESP_ARGS_MAX         1024u                 /* of a request: MSET of 511 keys */
#define VELUM_RESP_BULK_BYTES_MAX   (1024u * 1024u + 64u) /* of an argument */
#define VELUM_RESP_INLINE_BYTES_MAX (64u * 1024u) /* of a request in a line, as Redis has it */
#define VELUM_RESP_BYTES_MAX        (4u * 1024u * 1024u) /* of a request in all */

/* An argument; its bytes lie in the stream that was given. */
typedef struct {
    const uint8_t *data;
    size_t size;
} velum_resp_arg;

/* "Protocol error: expected '$', got 'x'", with its end. */
#define VELUM_RESP_TEXT_BYTES 38u

/* How far a request was read. Zeros before the first call; velum_resp_get makes it so again with
 * each request that it returns. */
typedef struct {
    size_t at;                        /* the arguments that are complete end here */
    size_t seen;                      /* no line ends between there and here */
    uint32_t args, count;             /* arguments there are to be, and that are complete */
    char text[VELUM_RESP_TEXT_BYTES]; /* of an error that names a byte */
} velum_resp_state;

/* Reads one request from the n bytes at `data`, which begin with it; n grows from call to call, and
 * the bytes may have moved. args has room for VELUM_RESP_ARGS_MAX; what is in it counts only after
 * the call that returns the request.
 *
 * Returns the bytes of the request, *count its arguments (0: an empty line or array, to be passed
 * over); 0: more bytes are needed (never with VELUM_RESP_BYTES_MAX of them); or an error, after
 * which the stream means nothing any more, and *text is what a Redis server answers before it
 * closes, valid as long as the state: "Protocol error: " and "invalid bulk length", "invalid
 * multibulk length", "expected '$', got 'x'", "unbalanced quotes in request" (PAYLOAD; TOO_LARGE
 * for a length that is a number above a limit), "too big inline request", "too big mbulk count
 * string", "too big bulk count string" (TOO_LARGE). The same bytes give the same however they were
 * cut into pieces.
 *
 * A request is an array of bulk strings, or a line of words (an inline command) with single or
 * double quotes and backslash escapes as Redis reads them; words that had to be unescaped are
 * unescaped in place, so `data` is written to. As with Redis, the byte behind a CR and the two
 * behind a bulk string are passed over, whatever they are. Unlike it, a zero byte is one as any
 * other. */
int velum_resp_get(velum_resp_state *state, uint8_t *data, size_t n, velum_resp_arg *args,
                   size_t *count, const char **text);

/* ---- replies ---- */

/* Where replies are written. `more(owner, n)` returns room for n bytes behind what was written, or
 * NULL: then the writer is `full`, and everything after that is nothing. */
typedef struct {
    void *owner;
    uint8_t *(*more)(void *owner, size_t n);
    void (*wrote)(void *owner, size_t n); /* so many of that room are used */
    uint8_t version;                      /* 2 or 3 */
    bool full;
} velum_resp_writer;

void velum_resp_simple(velum_resp_writer *w, const char *text); /* +OK */
/* -ERR text; a text that begins with "-" brings its own code. CR and LF in it become spaces. */
void velum_resp_error(velum_resp_writer *w, const char *text);
void velum_resp_integer(velum_resp_writer *w, int64_t value); /* :1 */
void velum_resp_bulk(velum_resp_writer *w, const void *data, size_t n);
void velum_resp_null(velum_resp_writer *w);                /* $-1, or _ */
void velum_resp_null_array(velum_resp_writer *w);          /* *-1, or _ */
void velum_resp_array(velum_resp_writer *w, size_t count); /* the elements follow */
void velum_resp_set(velum_resp_writer *w, size_t count);   /* an array in version 2 */
void velum_resp_map(velum_resp_writer *w,
                    size_t count); /* pairs; an array of 2 * count in version 2 */
void velum_resp_push(velum_resp_writer *w, size_t count); /* an array in version 2 */

#endif
