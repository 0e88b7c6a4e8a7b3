/* test_resp.c: the Redis protocol: requests against what Redis 7.0 answers, replies byte for byte.
 *
 * Requests are given whole, in every prefix, and in pieces that move (resp_feed.h). `test_resp
 * SEED` runs the random part with that seed alone.
 */
#include "resp.h"

#include "check.h"
#include "resp_feed.h"

#define ROUNDS       300u
#define REQUESTS_MAX 12u /* of a random stream */
#define ARGS_MAX     8u  /* of a random request */
#define STREAM_BYTES 16384u
#define BULK_LARGE   20000u /* an argument that is more than one read of a socket */

static uint8_t stream[STREAM_BYTES];
static velum_resp_arg args[VELUM_RESP_ARGS_MAX];

/* ---- one request ---- */

/* What comes of n bytes in one piece; the bytes are copied, so that each is read in its own
 * memory. Arguments stay until the next call. */
static int get(const void *bytes, size_t n, size_t *count, const char **text) {
    static velum_resp_state state;
    static uint8_t *copy;
    memset(&state, 0, sizeof state);
    free(copy);
    copy = malloc(n);
    if (copy == NULL && n > 0) abort();
    if (n > 0) memcpy(copy, bytes, n);
    *count = SIZE_MAX;
    *text = NULL;
    return velum_resp_get(&state, copy, n, args, count, text);
}

/* One request of `n` bytes has the arguments `expected`, texts divided by '|'; every prefix of it
 * needs more, one state over all prefixes gives the same, and so it is before another one. */
static void request(const char *bytes, size_t n, size_t count, const char *expected) {
    char joined[200];
    uint8_t *copy = malloc(n);
    velum_resp_state state, zero;
    size_t size = 0, got_count;
    const char *text;
    if (copy == NULL) abort();
    for (size_t k = 0; k < n; k++)
        CHECK_EQ(get(bytes, k, &got_count, &text), 0);
    memset(&state, 0, sizeof state);
    memset(&zero, 0, sizeof zero);
    memcpy(copy, bytes, n);
    for (size_t k = 0; k < n; k++)
        CHECK_EQ(velum_resp_get(&state, copy, k, args, &got_count, &text), 0);
    CHECK_EQ(velum_resp_get(&state, copy, n, args, &got_count, &text), n);
    CHECK(memcmp(&state, &zero, sizeof state) == 0);
    CHECK_EQ(got_count, count);
    free(copy);
    memcpy(stream, bytes, n);
    memcpy(stream + n, "*1\r\n", 4);
    CHECK_EQ(get(stream, n + 4, &got_count, &text), n);
    CHECK_EQ(got_count, count);
    for (size_t i = 0; i < count && i < got_count; i++) {
        if (i > 0) joined[size++] = '|';
        if (size + args[i].size + 1 > sizeof joined) abort();
        memcpy(joined + size, args[i].data, args[i].size);
        size += args[i].size;
    }
    if (size != strlen(expected) || memcmp(joined, expected, size) != 0)
        printf("is %.*s, expected %s\n", (int)size, joined, expected);
    CHECK(size == strlen(expected) && memcmp(joined, expected, size) == 0);
}
#define REQUEST(bytes, count, expected) request(bytes, sizeof(bytes) - 1, count, expected)

static void test_arrays(void) {
    REQUEST("*1\r\n$4\r\nPING\r\n", 1, "PING");
    REQUEST("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$11\r\nhello\r\nbyte\r\n", 3, "SET|k|hello\r\nbyte");
    REQUEST("*2\r\n$0\r\n\r\n$2\r\n\r\n\r\n", 2, "|\r\n");
    REQUEST("*0\r\n", 0, "");
    REQUEST("*-1\r\n", 0, "");
    REQUEST("*-9223372036854775808\r\n", 0, "");
    /* what Redis passes over unseen */
    REQUEST("*1\rX$4\rYPINGzz", 1, "PING");
}

static void test_lines(void) {
    REQUEST("PING\r\n", 1, "PING");
    REQUEST("PING\n", 1, "PING");
    REQUEST("\r\n", 0, "");
    REQUEST("\n", 0, "");
    REQUEST(" \t\v\f \r\n", 0, "");
    REQUEST("  SET  k\tv  \r\n", 3, "SET|k|v");
    REQUEST("ECHO a\rb\r\n", 3, "ECHO|a|b");
    REQUEST("ECHO a\vb\f\n", 2, "ECHO|a\vb\f");
    REQUEST("ECHO a\\nb\\\r\n", 2, "ECHO|a\\nb\\");
    REQUEST("ECHO \xff\r\n", 2, "ECHO|\xff");
    REQUEST("ECHO $1 *2\n", 3, "ECHO|$1|*2");
}

static void test_quotes(void) {
    REQUEST("ECHO \"a b\" 'c d'\r\n", 3, "ECHO|a b|c d");
    REQUEST("ECHO \"\" ''\n", 3, "ECHO||");
    REQUEST("ECHO x\"a b\" y'z'\r\n", 3, "ECHO|xa b|yz");
    REQUEST("ECHO \"a\"\v'b'\f\"c\"\r\r\n", 4, "ECHO|a|b|c");
    REQUEST("\"\\x41\\x6a\\x6A\\n\\r\\t\\b\\a\\\\\\\"\\q\"\n", 1, "Ajj\n\r\t\b\a\\\"q");
    REQUEST("\"\\xZ1\\x1Z\\x1\" \"\\x\"\n", 2, "xZ1x1Zx1|x");
    REQUEST("'it\\'s \\n \\\\ \"'\n", 1, "it's \\n \\\\ \"");
    REQUEST("\"it's\"\n", 1, "it's");
}

/* A zero byte is one as any other: in a line, quoted, and by its escape. */
static void test_zero_bytes(void) {
    size_t count;
    const char *text;
    CHECK_EQ(get("a\0b \"c\0\\x00\"\n*", 14, &count, &text), 13);
    CHECK_EQ(count, 2);
    CHECK(args[0].size == 3 && memcmp(args[0].data, "a\0b", 3) == 0);
    CHECK(args[1].size == 3 && memcmp(args[1].data, "c\0\0", 3) == 0);
}

/* ---- errors ---- */

/* The n bytes at `bytes` are an error with this text, those before them need more, and it is the
 * same in single bytes, and with more behind them. */
static void refused(const char *bytes, size_t n, int code, const char *expected) {
    char whole[100];
    size_t count;
    const char *text;
    feed_log log = feed((const uint8_t *)bytes, n, feed_pieces, NULL);
    snprintf(whole, sizeof whole, "Protocol error: %s", expected);
    for (size_t k = 0; k < n; k++)
        CHECK_EQ(get(bytes, k, &count, &text), 0);
    memcpy(stream, bytes, n);
    memcpy(stream + n, "$1\r\na\r\n", 7);
    CHECK_EQ(get(stream, n + 7, &count, &text), code);
    CHECK(text != NULL && strcmp(text, whole) == 0);
    CHECK_EQ(get(bytes, n, &count, &text), code);
    CHECK(text != NULL && strcmp(text, whole) == 0);
    if (text != NULL && strcmp(text, whole) != 0) printf("is %s, not %s\n", text, whole);
    CHECK_EQ(log.error, code);
    CHECK(log.size == strlen(whole) && memcmp(log.text, whole, log.size) == 0);
    free(log.text);
}
#define REFUSED(bytes, code, expected) refused(bytes, sizeof(bytes) - 1, code, expected)

static void test_errors(void) {
    static const char *const wrong[] = {"x",
                                        "",
                                        "01",
                                        "00",
                                        "+1",
                                        " 1",
                                        "1 ",
                                        "-",
                                        "-0",
                                        "1\n$4",
                                        "1.0",
                                        ":",
                                        "/",
                                        "-9223372036854775809",
                                        "9223372036854775808",
                                        "10000000000000000000",
                                        "100000000000000000000"};
    static const char *const large[] = {"1048641", "9999999", "10000000", "9223372036854775807"};
    char bytes[64];
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        int n = snprintf(bytes, sizeof bytes, "*%s\r\n", wrong[i]);
        refused(bytes, (size_t)n, VELUM_E_PAYLOAD, "invalid multibulk length");
        n = snprintf(bytes, sizeof bytes, "*2\r\n$1\r\na\r\n$%s\r\n", wrong[i]);
        refused(bytes, (size_t)n, VELUM_E_PAYLOAD, "invalid bulk length");
    }
    for (size_t i = 0; i < sizeof large / sizeof large[0]; i++) {
        int n = snprintf(bytes, sizeof bytes, "*%s\r\n", large[i]);
        refused(bytes, (size_t)n, VELUM_E_TOO_LARGE, "invalid multibulk length");
        n = snprintf(bytes, sizeof bytes, "*1\r\n$%s\r\n", large[i]);
        refused(bytes, (size_t)n, VELUM_E_TOO_LARGE, "invalid bulk length");
    }
    REFUSED("*1\r\n$-1\r\n", VELUM_E_PAYLOAD, "invalid bulk length");
    REFUSED("*1025\r\n", VELUM_E_TOO_LARGE, "invalid multibulk length");
    REFUSED("*1\r\nx\r\n", VELUM_E_PAYLOAD, "expected '$', got 'x'");
    REFUSED("*2\r\n$1\r\na\r\n:1\r\n", VELUM_E_PAYLOAD, "expected '$', got ':'");
    REFUSED("*1\r\n*1\r\n", VELUM_E_PAYLOAD, "expected '$', got '*'");
    REFUSED("*1\r\n\r\n", VELUM_E_PAYLOAD, "expected '$', got '\r'");
    REFUSED("*1\r\n\xff\r\n", VELUM_E_PAYLOAD, "expected '$', got '\xff'");
    REFUSED("*1\r\n\0\r\n", VELUM_E_PAYLOAD, "expected '$', got '");
    REFUSED("ECHO \"a\r\n", VELUM_E_PAYLOAD, "unbalanced quotes in request");
    REFUSED("ECHO 'a\n", VELUM_E_PAYLOAD, "unbalanced quotes in request");
    REFUSED("ECHO \"a\"b\n", VELUM_E_PAYLOAD, "unbalanced quotes in request");
    REFUSED("ECHO 'a''b'\n", VELUM_E_PAYLOAD, "unbalanced quotes in request");
    REFUSED("ECHO a\"b\"c\r\n", VELUM_E_PAYLOAD, "unbalanced quotes in request");
    REFUSED("ECHO \"a\\\"\r\n", VELUM_E_PAYLOAD, "unbalanced quotes in request");
    REFUSED("ECHO \"\\\n", VELUM_E_PAYLOAD, "unbalanced quotes in request");
    REFUSED("ECHO 'a\\'\n", VELUM_E_PAYLOAD, "unbalanced quotes in request");
    REFUSED("\"\n", VELUM_E_PAYLOAD, "unbalanced quotes in request");
}

/* ---- limits ---- */

/* `head`, then n bytes of `filler`; the caller frees it. */
static uint8_t *filled(const char *head, char filler, size_t n) {
    size_t size = strlen(head);
    uint8_t *bytes = malloc(size + n + 8);
    if (bytes == NULL) abort();
    memcpy(bytes, head, size);
    memset(bytes + size, filler, n);
    return bytes;
}

/* A line that begins behind `before` and has no end: 65,536 bytes of it are waited with, one more
 * is too many, also if its end follows; the same in pieces. */
static void endless(const char *before, const char *begin, char filler, const char *end,
                    const char *expected) {
    char head[32];
    size_t start = strlen(before), fill = VELUM_RESP_INLINE_BYTES_MAX - strlen(begin), count;
    size_t n = start + VELUM_RESP_INLINE_BYTES_MAX, piece = 1000;
    const char *text;
    uint8_t *bytes;
    feed_log log;
    snprintf(head, sizeof head, "%s%s", before, begin);
    bytes = filled(head, filler, fill + 1);
    CHECK_EQ(get(bytes, n, &count, &text), 0);
    for (size_t behind = 1; behind <= 3; behind++) {
        memcpy(bytes + n + 1, end, strlen(end));
        CHECK_EQ(get(bytes, n + behind, &count, &text), VELUM_E_TOO_LARGE);
        CHECK(text != NULL && strcmp(text, expected) == 0);
    }
    log = feed(bytes, n + 1 + strlen(end), feed_pieces, &piece);
    CHECK_EQ(log.error, VELUM_E_TOO_LARGE);
    free(log.text);
    memcpy(bytes + n, end, strlen(end)); /* the longest that is none */
    CHECK(get(bytes, n + strlen(end), &count, &text) != VELUM_E_TOO_LARGE);
    free(bytes);
}

static void test_limits_of_lines(void) {
    uint8_t *bytes = filled("", 'a', 2 * VELUM_RESP_ARGS_MAX + 2);
    size_t count;
    const char *text;
    endless("", "", 'x', "\n ", "Protocol error: too big inline request");
    endless("", "*", '0', "\r\n", "Protocol error: too big mbulk count string");
    endless("*1\r\n", "$", '0', "\r\n", "Protocol error: too big bulk count string");
    endless("*1\r\n", "x", '0', "\r\n", "Protocol error: too big bulk count string");
    for (size_t i = 1; i < 2 * VELUM_RESP_ARGS_MAX; i += 2)
        bytes[i] = ' ';
    bytes[2 * VELUM_RESP_ARGS_MAX - 1] = '\n';
    CHECK_EQ(get(bytes, 2 * VELUM_RESP_ARGS_MAX, &count, &text), 2 * VELUM_RESP_ARGS_MAX);
    CHECK_EQ(count, VELUM_RESP_ARGS_MAX);
    bytes[2 * VELUM_RESP_ARGS_MAX - 1] = ' ';
    bytes[2 * VELUM_RESP_ARGS_MAX + 1] = '\n';
    CHECK_EQ(get(bytes, 2 * VELUM_RESP_ARGS_MAX + 2, &count, &text), VELUM_E_TOO_LARGE);
    CHECK(text != NULL && strcmp(text, "Protocol error: too big inline request") == 0);
    free(bytes);
}

static void test_limit_of_args(void) {
    uint8_t *bytes = filled("*1024\r\n", 'x', 7 * VELUM_RESP_ARGS_MAX);
    size_t count, n = 7 + 7 * VELUM_RESP_ARGS_MAX;
    const char *text;
    for (size_t i = 0; i < VELUM_RESP_ARGS_MAX; i++)
        memcpy(bytes + 7 + 7 * i, "$1\r\na\r\n", 7);
    CHECK_EQ(get(bytes, n - 1, &count, &text), 0);
    CHECK_EQ(get(bytes, n, &count, &text), n);
    CHECK_EQ(count, VELUM_RESP_ARGS_MAX);
    CHECK(args[1023].size == 1 && args[1023].data[0] == 'a');
    free(bytes);
}

/* Four arguments as large as they may be are too much in all; that is said at the last one's head.
 * `last` as the length of the fourth. */
static int four_bulks(const char *last, size_t behind, size_t *count) {
    size_t each = VELUM_RESP_BULK_BYTES_MAX, at = 4;
    uint8_t *bytes = filled("*4\r\n", 'v', 4 * (each + 16));
    const char *text;
    int got;
    for (size_t i = 0; i < 3; i++) {
        memcpy(bytes + at, "$1048640\r\n", 10);
        at += 10 + each + 2;
    }
    memcpy(bytes + at, last, strlen(last));
    got = get(bytes, at + strlen(last) + behind, count, &text);
    if (got < 0) CHECK(text != NULL && strcmp(text, "Protocol error: invalid bulk length") == 0);
    free(bytes);
    return got;
}

static void test_limit_in_all(void) {
    size_t count;
    CHECK_EQ(four_bulks("$1048640\r\n", 0, &count), VELUM_E_TOO_LARGE);
    CHECK_EQ(four_bulks("$1048333\r\n", 0, &count), VELUM_E_TOO_LARGE);
    CHECK_EQ(four_bulks("$1048332\r\n", 0, &count), 0);
    CHECK_EQ(four_bulks("$1048332\r\n", 1048333, &count), 0);
    CHECK_EQ(four_bulks("$1048332\r\n", 1048334, &count), VELUM_RESP_BYTES_MAX);
    CHECK_EQ(count, 4);
}

/* A head that is not whole where a request may not go on is no reason to wait. */
static void test_head_at_the_limit(void) {
    size_t each = VELUM_RESP_BULK_BYTES_MAX, at = 4, count;
    uint8_t *bytes = filled("*5\r\n", 'v', VELUM_RESP_BYTES_MAX);
    const char *text;
    for (size_t i = 0; i < 4; i++) {
        memcpy(bytes + at, i < 3 ? "$1048640\r\n" : "$1048328\r\n", 10);
        at += 10 + (i < 3 ? each : 1048328) + 2;
    }
    CHECK_EQ(at, VELUM_RESP_BYTES_MAX - 4);
    memcpy(bytes + at, "$1\r\na\r\n", 7);
    CHECK_EQ(get(bytes, at + 3, &count, &text), 0);
    CHECK_EQ(get(bytes, at + 7, &count, &text), VELUM_E_TOO_LARGE);
    memcpy(bytes + at, "$1111111", 8);
    CHECK_EQ(get(bytes, at + 4, &count, &text), VELUM_E_TOO_LARGE);
    CHECK(text != NULL && strcmp(text, "Protocol error: invalid bulk length") == 0);
    memcpy(bytes + at, "x123\r\n", 6); /* what is behind the limit changes nothing */
    CHECK_EQ(get(bytes, at + 4, &count, &text), VELUM_E_TOO_LARGE);
    CHECK_EQ(get(bytes, at + 6, &count, &text), VELUM_E_TOO_LARGE);
    memcpy(bytes + at, "$0\r\n", 4);
    CHECK_EQ(get(bytes, at + 4, &count, &text), VELUM_E_TOO_LARGE);
    free(bytes);
}

/* ---- streams ---- */

/* A large argument in pieces: what is before it is right though the bytes have moved. */
static void test_large_argument(void) {
    uint8_t *bytes = filled("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$20000\r\n", 'v', BULK_LARGE + 2);
    size_t pieces[] = {1, 7, 1000, 16384}, n = 28 + BULK_LARGE + 2;
    feed_log whole = feed(bytes, n, feed_whole, NULL);
    CHECK_EQ(whole.size, 18 + 27 + 3 + 1 + BULK_LARGE + 9);
    for (size_t i = 1; i < sizeof pieces / sizeof pieces[0]; i++) {
        feed_log log = feed(bytes, n, feed_pieces, &pieces[i]);
        CHECK(feed_same(&whole, &log));
        free(log.text);
    }
    free(whole.text);
    free(bytes);
}

static uint64_t state;

static uint32_t below(uint32_t n) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 33) % n;
}

typedef struct {
    uint8_t bytes[64];
    size_t size;
} word;

/* A word in a line; quoted with double quotes, with single ones if that can be, or not at all. */
static uint8_t *put_word(uint8_t *p, const word *w) {
    static const char special[] = " \t\r\n\v\f\"'\\\a\b", names[] = "ntrab", meant[] = "\n\t\r\a\b";
    bool plain = w->size > 0, single = true;
    for (size_t i = 0; i < w->size; i++) {
        uint8_t c = w->bytes[i];
        if (c != 0 && strchr(special, c) != NULL) plain = false;
        if (c == '\n' || (c == '\\' && (i + 1 == w->size || w->bytes[i + 1] == '\'')))
            single = false;
    }
    if (plain && p[-1] != '*' && below(2) == 0) return memcpy(p, w->bytes, w->size), p + w->size;
    single = single && below(2) == 0;
    *p++ = single ? '\'' : '"';
    for (size_t i = 0; i < w->size; i++) {
        uint8_t c = w->bytes[i];
        const char *name = c == 0 ? NULL : strchr(meant, c);
        if (single) {
            if (c == '\'') *p++ = '\\';
            *p++ = c;
        } else if (name != NULL && below(2) == 0) {
            *p++ = '\\';
            *p++ = (uint8_t)names[name - meant];
        } else if (c < 32 || below(8) == 0) {
            p += snprintf((char *)p, 5, below(2) == 0 ? "\\x%02x" : "\\x%02X", c);
        } else {
            if (c == '"' || c == '\\') *p++ = '\\';
            *p++ = c;
        }
    }
    *p++ = single ? '\'' : '"';
    return p;
}

static uint8_t *put_request(uint8_t *p, const word *words, size_t count) {
    bool array = below(3) > 0 || (count > 0 && words[0].size > 0 && words[0].bytes[0] == '*');
    if (array) p += sprintf((char *)p, "*%u\r\n", (unsigned)count);
    for (size_t i = 0; i < count; i++) {
        if (array) {
            p += sprintf((char *)p, "$%u\r\n", (unsigned)words[i].size);
            memcpy(p, words[i].bytes, words[i].size);
            p += words[i].size;
            *p++ = '\r';
            *p++ = '\n';
        } else {
            for (uint32_t spaces = below(3) + (i > 0); spaces > 0; spaces--)
                *p++ = (uint8_t)" \t\r"[below(3)];
            p = put_word(p, &words[i]);
        }
    }
    if (array) return p;
    if (below(2) == 0) *p++ = '\r';
    *p++ = '\n';
    return p;
}

static void make_word(word *w) {
    static const char common[] = "ab \"'\\x0f\r\n\t\v$*1-";
    uint32_t kind = below(3);
    w->size = below(2) == 0 ? below(5) : below(sizeof w->bytes + 1);
    for (size_t i = 0; i < w->size; i++)
        w->bytes[i] = kind == 0   ? (uint8_t)('a' + below(26))
                      : kind == 1 ? (uint8_t)below(256)
                                  : (uint8_t)common[below(sizeof common)];
}

/* Requests come out as they went in, in one piece and in random ones; and if one byte is another,
 * whatever comes out is the same in both. */
static void test_random(void) {
    feed_log expected = {NULL, 0, 0, 0}, whole, cut;
    uint8_t *end = stream + 1; /* put_word looks at the byte before it */
    uint64_t pieces;
    for (uint32_t requests = below(REQUESTS_MAX) + 1; requests > 0; requests--) {
        word words[ARGS_MAX];
        velum_resp_arg meant[ARGS_MAX];
        size_t count = below(ARGS_MAX + 1);
        uint8_t *begin = end;
        for (size_t i = 0; i < count; i++) {
            make_word(&words[i]);
            meant[i].data = words[i].bytes;
            meant[i].size = words[i].size;
        }
        end = put_request(begin, words, count);
        feed_request(&expected, (uint64_t)(end - begin), meant, count);
        if (end - stream > (ptrdiff_t)(STREAM_BYTES - ARGS_MAX * 300)) break;
    }
    feed_number(&expected, 'l', 0);
    for (int change = 0; change < 2; change++) {
        size_t n = (size_t)(end - stream) - 1;
        whole = feed(stream + 1, n, feed_whole, NULL);
        if (change == 0) CHECK(feed_same(&whole, &expected));
        pieces = state | 1;
        cut = feed(stream + 1, n, feed_random, &pieces);
        CHECK(feed_same(&whole, &cut));
        free(cut.text);
        free(whole.text);
        stream[1 + below((uint32_t)n)] = (uint8_t)"\r\n*$\"'\\ 09-x"[below(12)];
    }
    free(expected.text);
}

/* What was looked at without an end in it is not looked at again: an end that comes there later
 * is not seen. And no bytes at all are nothing. */
static void test_not_twice(void) {
    static const char *const begins[] = {"PING", "*1234567890", "*1\r\n$1234567890"};
    for (size_t i = 0; i < sizeof begins / sizeof begins[0]; i++) {
        size_t n = strlen(begins[i]), count;
        const char *text;
        velum_resp_state s;
        memset(&s, 0, sizeof s);
        CHECK_EQ(velum_resp_get(&s, NULL, 0, args, &count, &text), 0);
        memcpy(stream, begins[i], n);
        CHECK_EQ(velum_resp_get(&s, stream, n, args, &count, &text), 0);
        stream[n - 1] = i == 0 ? '\n' : '\r';
        stream[n] = 'x';
        CHECK_EQ(velum_resp_get(&s, stream, n + 1, args, &count, &text), 0);
    }
}

/* Three requests, in equal pieces of every size. */
static void test_pipelined(void) {
    static const char both[] =
        "*2\r\n$3\r\nGET\r\n$1\r\nk\r\nSET \"a\\x41\" 'b'\r\n*1\r\n$4\r\nPING\r\n";
    size_t n = sizeof both - 1;
    feed_log whole = feed((const uint8_t *)both, n, feed_whole, NULL), cut;
    CHECK_EQ(whole.error, 0);
    CHECK_EQ(whole.size, 3 * 18 + 6 * 9 + 4 + 6 + 4 + 9);
    for (size_t piece = 1; piece < n; piece++) {
        cut = feed((const uint8_t *)both, n, feed_pieces, &piece);
        CHECK(feed_same(&whole, &cut));
        free(cut.text);
    }
    free(whole.text);
}

/* ---- replies ---- */

static uint8_t out[512];
static size_t written, room_left, asked, given;

static uint8_t *more(void *owner, size_t n) {
    CHECK(owner == &written);
    asked++;
    if (n > room_left) return NULL;
    given = n;
    return out + written;
}

static void wrote(void *owner, size_t n) {
    CHECK(owner == &written && n <= given);
    written += n;
    room_left -= n;
}

static velum_resp_writer writer(uint8_t version, size_t room) {
    velum_resp_writer w = {&written, more, wrote, version, false};
    written = asked = 0;
    room_left = room;
    memset(out, '?', sizeof out);
    return w;
}

#define REPLY(version, call, expected)                                                             \
    do {                                                                                           \
        velum_resp_writer w = writer(version, sizeof out);                                         \
        call;                                                                                      \
        CHECK_EQ(written, sizeof(expected) - 1);                                                   \
        CHECK(memcmp(out, expected, sizeof(expected) - 1) == 0 && !w.full);                        \
    } while (0)
#define BOTH(call, in_2, in_3)                                                                     \
    do {                                                                                           \
        REPLY(2, call, in_2);                                                                      \
        REPLY(3, call, in_3);                                                                      \
    } while (0)

static void test_replies(void) {
    BOTH(velum_resp_simple(&w, "OK"), "+OK\r\n", "+OK\r\n");
    BOTH(velum_resp_error(&w, "no \r\nway\n"), "-ERR no   way \r\n", "-ERR no   way \r\n");
    BOTH(velum_resp_error(&w, "-WRONGTYPE x"), "-WRONGTYPE x\r\n", "-WRONGTYPE x\r\n");
    BOTH(velum_resp_integer(&w, 0), ":0\r\n", ":0\r\n");
    BOTH(velum_resp_integer(&w, -10), ":-10\r\n", ":-10\r\n");
    BOTH(velum_resp_integer(&w, INT64_MAX), ":9223372036854775807\r\n", ":9223372036854775807\r\n");
    BOTH(velum_resp_integer(&w, INT64_MIN), ":-9223372036854775808\r\n",
         ":-9223372036854775808\r\n");
    BOTH(velum_resp_bulk(&w, "a\r\n\0b", 5), "$5\r\na\r\n\0b\r\n", "$5\r\na\r\n\0b\r\n");
    BOTH(velum_resp_bulk(&w, NULL, 0), "$0\r\n\r\n", "$0\r\n\r\n");
    BOTH(velum_resp_null(&w), "$-1\r\n", "_\r\n");
    BOTH(velum_resp_null_array(&w), "*-1\r\n", "_\r\n");
    BOTH(velum_resp_array(&w, 0), "*0\r\n", "*0\r\n");
    BOTH(velum_resp_array(&w, 1234567890), "*1234567890\r\n", "*1234567890\r\n");
    BOTH(velum_resp_set(&w, 3), "*3\r\n", "~3\r\n");
    BOTH(velum_resp_map(&w, 10), "*20\r\n", "%10\r\n");
    BOTH(velum_resp_push(&w, 3), "*3\r\n", ">3\r\n");
}

/* All of them in a row, as many as fit into `room`. */
static void write_all(velum_resp_writer *w) {
    velum_resp_simple(w, "OK");
    velum_resp_integer(w, -5);
    velum_resp_bulk(w, "0123456789012345678901234567890123456789", 40);
    velum_resp_error(w, "no");
    velum_resp_null(w);
    velum_resp_null_array(w);
    velum_resp_array(w, 2);
    velum_resp_set(w, 2);
    velum_resp_map(w, 2);
    velum_resp_push(w, 2);
}

/* A full writer asks for nothing any more; what it has are whole replies, those of a larger one. */
static void test_full(void) {
    uint8_t all[sizeof out];
    velum_resp_writer w;
    size_t size;
    for (uint8_t version = 2; version <= 3; version++) {
        w = writer(version, sizeof out);
        write_all(&w);
        CHECK(!w.full && asked == 10);
        size = written;
        memcpy(all, out, sizeof all);
        for (size_t room = 0; room < size; room++) {
            size_t stopped;
            w = writer(version, room);
            write_all(&w);
            CHECK(w.full && written <= room && memcmp(out, all, written) == 0);
            CHECK(written == 0 || out[written - 1] == '\n');
            CHECK(out[room] == '?');
            stopped = asked;
            room_left = sizeof out;
            write_all(&w);
            CHECK_EQ(asked, stopped);
        }
    }
}

int main(int argc, char **argv) {
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    if (argc == 1) {
        test_arrays();
        test_lines();
        test_quotes();
        test_zero_bytes();
        test_errors();
        test_limits_of_lines();
        test_limit_of_args();
        test_limit_in_all();
        test_head_at_the_limit();
        test_large_argument();
        test_not_twice();
        test_pipelined();
        test_replies();
        test_full();
    }
    for (uint64_t round = 0; round < (argc > 1 ? 1 : ROUNDS); round++) {
        int failed_before = check_failed_count;
        state = (seed + round) * UINT64_C(0x9e3779b97f4a7c15) + 1;
        test_random();
        if (check_failed_count != failed_before)
            printf("seed %llu\n", (unsigned long long)(seed + round));
    }
    return check_report("resp");
}
