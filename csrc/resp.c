/* resp.c: requests of the Redis protocol, and replies to them.
 *
 * Owns: the layouts of resp.h as code. Refuses to know: commands, keys, sockets.
 *
 * How: a request that is here in one piece is read in one pass, which looks at the heads of its
 * arguments and steps over the rest. One that is not leaves behind where the first argument that is
 * incomplete begins, and the next call goes on there; when it is complete its heads are read once
 * more, for only then do its bytes stay where they are. A head that is nothing but digits is read
 * by quick_head, anything else (incomplete, wrong, negative) by slow_head.
 * A reply takes its room once, is written there, and is given back as one piece.
 */
#include "resp.h"

#include <string.h>

#define MULTIBULK_ERROR "Protocol error: invalid multibulk length"
#define BULK_ERROR      "Protocol error: invalid bulk length"
#define EXPECTED_ERROR  "Protocol error: expected '$', got '"

#define QUICK_DIGITS        7u                    /* enough for every number within the limits */
#define NUMBER_DIGITS_MAX   19u                   /* of an int64_t */
#define NUMBER_LEAST_DIGITS "9223372036854775808" /* of the least int64_t */
#define LENGTH_BYTES_MAX    23u                   /* a type byte, a uint64_t or int64_t, CR LF */

#if VELUM_RESP_BULK_BYTES_MAX > 9999999u || VELUM_RESP_ARGS_MAX > 9999999u
#error "a length within the limits has more than QUICK_DIGITS"
#endif

static int fail(const char **text, const char *what, int code) {
    *text = what;
    return code;
}

static void start_anew(velum_resp_state *state) {
    state->at = state->seen = 0;
    state->args = state->count = 0;
}

/* ---- requests as arrays ---- */

/* Reads a type byte, a number up to `limit` without leading zeros, CR and a byte from p, where
 * `left` bytes are. Their count, or 0: they are not that, or not all here. */
static inline size_t quick_head(const uint8_t *p, size_t left, uint8_t type, size_t limit,
                                size_t *value) {
    size_t number = 0, i = 1;
    if (left < 4 || p[0] != type) return 0;
    while (i < left && i <= QUICK_DIGITS) {
        unsigned digit = (unsigned)p[i] - '0';
        if (digit > 9) break;
        number = number * 10 + digit;
        i++;
    }
    if (i == 1 || left - i < 2 || p[i] != '\r' || number > limit) return 0;
    if (p[1] == '0' && i > 2) return 0;
    *value = number;
    return i + 2;
}

/* Whether the n bytes at p are the decimal number of an int64_t as Redis takes it, and its sign. */
static bool is_number(const uint8_t *p, size_t n, bool *negative) {
    const char *least = NUMBER_LEAST_DIGITS;
    int order;
    *negative = n > 0 && p[0] == '-';
    if (*negative) p++, n--;
    if (n == 0 || n > NUMBER_DIGITS_MAX) return false;
    if (p[0] == '0') return n == 1 && !*negative;
    for (size_t i = 0; i < n; i++)
        if (p[i] < '0' || p[i] > '9') return false;
    order = n < NUMBER_DIGITS_MAX ? -1 : memcmp(p, least, n);
    return *negative ? order <= 0 : order < 0;
}

/* The head at data + at, which quick_head did not take: 0 (it is not all here), an error, or the
 * bytes of one with a negative count, which is an empty array. */
static int slow_head(velum_resp_state *state, const uint8_t *data, size_t n, size_t at,
                     const char **text) {
    bool array = at == 0, negative;
    size_t from = state->seen > at ? state->seen : at;
    size_t end = n - at > VELUM_RESP_INLINE_BYTES_MAX ? at + VELUM_RESP_INLINE_BYTES_MAX + 1 : n;
    const uint8_t *head = data + at, *cr = memchr(data + from, '\r', end - from);
    if (cr == NULL && end - at > VELUM_RESP_INLINE_BYTES_MAX)
        return fail(text,
                    array ? "Protocol error: too big mbulk count string"
                          : "Protocol error: too big bulk count string",
                    VELUM_E_TOO_LARGE);
    if (cr == NULL || cr + 1 == data + n) {
        state->seen = cr == NULL ? n : n - 1;
        if (n == VELUM_RESP_BYTES_MAX) return fail(text, BULK_ERROR, VELUM_E_TOO_LARGE);
        return 0;
    }
    if (!array && head[0] != '$') {
        memcpy(state->text, EXPECTED_ERROR "?'", VELUM_RESP_TEXT_BYTES);
        state->text[sizeof EXPECTED_ERROR - 1] = (char)head[0];
        return fail(text, state->text, VELUM_E_PAYLOAD);
    }
    if (!is_number(head + 1, (size_t)(cr - head) - 1, &negative) || (negative && !array))
        return fail(text, array ? MULTIBULK_ERROR : BULK_ERROR, VELUM_E_PAYLOAD);
    if (!negative) return fail(text, array ? MULTIBULK_ERROR : BULK_ERROR, VELUM_E_TOO_LARGE);
    return (int)(cr - head) + 2;
}

static int get_array(velum_resp_state *state, const uint8_t *data, size_t n, velum_resp_arg *args,
                     size_t *count, const char **text) {
    size_t at = state->at, i = state->count, wanted = state->args;
    if (wanted == 0) {
        at = quick_head(data, n, '*', VELUM_RESP_ARGS_MAX, &wanted);
        if (at == 0) {
            int got = slow_head(state, data, n, 0, text);
            if (got <= 0) return got;
            at = (size_t)got;
        }
    }
    for (; i < wanted; i++) {
        size_t size, head = quick_head(data + at, n - at, '$', VELUM_RESP_BULK_BYTES_MAX, &size);
        if (head == 0) {
            int got = slow_head(state, data, n, at, text);
            if (got < 0) return got;
            break;
        }
        if (size + 2 > VELUM_RESP_BYTES_MAX - at - head)
            return fail(text, BULK_ERROR, VELUM_E_TOO_LARGE);
        if (size + 2 > n - at - head) break;
        args[i].data = data + at + head;
        args[i].size = size;
        at += head + size + 2;
    }
    if (i < wanted) {
        state->at = at;
        state->args = (uint32_t)wanted;
        state->count = (uint32_t)i;
        return 0;
    }
    if (state->count > 0) { /* what args had of them is where the bytes once were */
        start_anew(state);
        return get_array(state, data, at, args, count, text);
    }
    start_anew(state);
    *count = wanted;
    return (int)at;
}

/* ---- requests as lines ---- */

/* What isspace of the C locale says. */
static bool is_space(uint8_t c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int hex_digit(uint8_t c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* What the backslash at p and at least one byte more within double quotes stand for; `size` gets
 * their bytes. */
static uint8_t escaped(const uint8_t *p, const uint8_t *end, size_t *size) {
    *size = 2;
    switch (p[1]) {
    case 'x':
        if (end - p < 4 || hex_digit(p[2]) < 0 || hex_digit(p[3]) < 0) return 'x';
        *size = 4;
        return (uint8_t)(hex_digit(p[2]) * 16 + hex_digit(p[3]));
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'b':
        return '\b';
    case 'a':
        return '\a';
    default:
        return p[1];
    }
}

/* Unquotes what begins with the quote at *at to `out`, which is not behind it, and ends a word.
 * Returns the end of what it has written; NULL: the quotes do not end it. */
static uint8_t *unquote(uint8_t **at, const uint8_t *end, uint8_t *out) {
    uint8_t *p = *at;
    uint8_t quote = *p++;
    while (p < end && *p != quote) {
        size_t size = 1;
        uint8_t c = *p;
        if (c == '\\' && end - p > 1) {
            if (quote == '"') {
                c = escaped(p, end, &size);
            } else if (p[1] == quote) {
                c = quote;
                size = 2;
            }
        }
        *out++ = c;
        p += size;
    }
    if (p == end || (end - p > 1 && !is_space(p[1]))) return NULL;
    *at = p + 1;
    return out;
}

/* Cuts the line of n bytes at `line`, its end not among them, into words; how many, or an error. A
 * CR that is left at its end is a space. */
static int split(uint8_t *line, size_t n, velum_resp_arg *args, const char **text) {
    uint8_t *p = line, *end = line + n, *out;
    size_t count = 0;
    for (;;) {
        while (p < end && is_space(*p))
            p++;
        if (p == end) return (int)count;
        if (count == VELUM_RESP_ARGS_MAX)
            return fail(text, "Protocol error: too big inline request", VELUM_E_TOO_LARGE);
        out = p;
        args[count].data = out;
        while (p < end && *p != ' ' && *p != '\t' && *p != '\r') {
            if (*p == '"' || *p == '\'') {
                out = unquote(&p, end, out);
                if (out != NULL) break;
                return fail(text, "Protocol error: unbalanced quotes in request", VELUM_E_PAYLOAD);
            }
            *out++ = *p++;
        }
        args[count].size = (size_t)(out - args[count].data);
        count++;
    }
}

static int get_line(velum_resp_state *state, uint8_t *data, size_t n, velum_resp_arg *args,
                    size_t *count, const char **text) {
    size_t end = n > VELUM_RESP_INLINE_BYTES_MAX ? VELUM_RESP_INLINE_BYTES_MAX + 1 : n;
    const uint8_t *lf = memchr(data + state->seen, '\n', end - state->seen);
    int words;
    if (lf == NULL) {
        if (end > VELUM_RESP_INLINE_BYTES_MAX)
            return fail(text, "Protocol error: too big inline request", VELUM_E_TOO_LARGE);
        state->seen = n;
        return 0;
    }
    words = split(data, (size_t)(lf - data), args, text);
    if (words < 0) return words;
    start_anew(state);
    *count = (size_t)words;
    return (int)(lf - data) + 1;
}

int velum_resp_get(velum_resp_state *state, uint8_t *data, size_t n, velum_resp_arg *args,
                   size_t *count, const char **text) {
    if (n == 0) return 0;
    if (n > VELUM_RESP_BYTES_MAX) n = VELUM_RESP_BYTES_MAX; /* what is behind changes nothing */
    if (data[0] == '*') return get_array(state, data, n, args, count, text);
    return get_line(state, data, n, args, count, text);
}

/* ---- replies ---- */

/* Room for n bytes, or NULL, and the writer is full. */
static uint8_t *room(velum_resp_writer *w, size_t n) {
    uint8_t *p = w->full ? NULL : w->more(w->owner, n);
    w->full = p == NULL;
    return p;
}

static uint8_t *put_bytes(uint8_t *p, const void *data, size_t n) {
    if (n > 0) memcpy(p, data, n);
    return p + n;
}

static uint8_t *put_end(uint8_t *p) {
    p[0] = '\r';
    p[1] = '\n';
    return p + 2;
}

/* A type byte, a number, CR LF: LENGTH_BYTES_MAX at most. */
static uint8_t *put_number(uint8_t *p, char type, bool negative, uint64_t value) {
    uint8_t digits[20]; /* of the greatest uint64_t */
    size_t at = sizeof digits;
    do {
        digits[--at] = (uint8_t)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    *p++ = (uint8_t)type;
    if (negative) *p++ = '-';
    return put_end(put_bytes(p, digits + at, sizeof digits - at));
}

static void put_head(velum_resp_writer *w, char type, bool negative, uint64_t value) {
    uint8_t *p = room(w, LENGTH_BYTES_MAX);
    if (p != NULL) w->wrote(w->owner, (size_t)(put_number(p, type, negative, value) - p));
}

/* `before`, the n bytes at `data`, CR LF. */
static void put_line(velum_resp_writer *w, const char *before, const void *data, size_t n) {
    size_t size = strlen(before);
    uint8_t *p = room(w, size + n + 2);
    if (p == NULL) return;
    put_end(put_bytes(put_bytes(p, before, size), data, n));
    w->wrote(w->owner, size + n + 2);
}

void velum_resp_simple(velum_resp_writer *w, const char *text) {
    put_line(w, "+", text, strlen(text));
}

void velum_resp_error(velum_resp_writer *w, const char *text) {
    const char *code = text[0] == '-' ? "" : "-ERR ";
    size_t size = strlen(code), n = strlen(text);
    uint8_t *p = room(w, size + n + 2), *line;
    if (p == NULL) return;
    line = put_bytes(p, code, size);
    put_end(put_bytes(line, text, n));
    for (size_t i = 0; i < n; i++)
        if (line[i] == '\r' || line[i] == '\n') line[i] = ' ';
    w->wrote(w->owner, size + n + 2);
}

void velum_resp_integer(velum_resp_writer *w, int64_t value) {
    put_head(w, ':', value < 0, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

void velum_resp_bulk(velum_resp_writer *w, const void *data, size_t n) {
    uint8_t *p = room(w, LENGTH_BYTES_MAX + n + 2), *end;
    if (p == NULL) return;
    end = put_end(put_bytes(put_number(p, '$', false, n), data, n));
    w->wrote(w->owner, (size_t)(end - p));
}

void velum_resp_null(velum_resp_writer *w) {
    put_line(w, w->version >= 3 ? "_" : "$-1", NULL, 0);
}

void velum_resp_null_array(velum_resp_writer *w) {
    put_line(w, w->version >= 3 ? "_" : "*-1", NULL, 0);
}

void velum_resp_array(velum_resp_writer *w, size_t count) {
    put_head(w, '*', false, count);
}

void velum_resp_set(velum_resp_writer *w, size_t count) {
    put_head(w, w->version >= 3 ? '~' : '*', false, count);
}

void velum_resp_map(velum_resp_writer *w, size_t count) {
    if (w->version >= 3) {
        put_head(w, '%', false, count);
    } else {
        put_head(w, '*', false, 2 * (uint64_t)count);
    }
}

void velum_resp_push(velum_resp_writer *w, size_t count) {
    put_head(w, w->version >= 3 ? '>' : '*', false, count);
}
