/* resp_show.h: replies of RESP as text that a test can compare: (bulk and simple strings) as they
 * are, :1 as 1, arrays and pushes as [a b], maps and sets as {a b}, null as null, errors with their
 * hyphen. */
#ifndef VELUM_TEST_RESP_SHOW_H
#define VELUM_TEST_RESP_SHOW_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    char *text;
    size_t room, size;
} shown;

static inline void show_bytes(shown *s, const void *data, size_t n) {
    if (n > s->room - s->size) n = s->room - s->size;
    memcpy(s->text + s->size, data, n);
    s->size += n;
}

/* One value of the n bytes at `data`; the bytes it takes, 0: it is not whole. */
static inline size_t show_value(shown *s, const uint8_t *data, size_t n) {
    const uint8_t *end = n > 0 ? memchr(data, '\n', n) : NULL;
    if (end == NULL) return 0;
    size_t at = (size_t)(end - data) + 1, line = at - 3;
    long long count = strtoll((const char *)data + 1, NULL, 10);
    switch (data[0]) {
    case '$':
        if (count < 0) break;
        if (n - at < (size_t)count + 2) return 0;
        show_bytes(s, data + at, (size_t)count);
        return at + (size_t)count + 2;
    case '*':
    case '>':
    case '~':
    case '%':
        if (count < 0) break;
        show_bytes(s, data[0] == '%' || data[0] == '~' ? "{" : "[", 1);
        for (long long i = 0; i < (data[0] == '%' ? 2 * count : count); i++) {
            if (i > 0) show_bytes(s, " ", 1);
            size_t used = show_value(s, data + at, n - at);
            if (used == 0) return 0;
            at += used;
        }
        show_bytes(s, data[0] == '%' || data[0] == '~' ? "}" : "]", 1);
        return at;
    case '-':
        show_bytes(s, data, line + 1);
        return at;
    case '_':
        break;
    default:
        show_bytes(s, data + 1, line);
        return at;
    }
    show_bytes(s, "null", 4);
    return at;
}

#endif
