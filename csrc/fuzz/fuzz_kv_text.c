/* fuzz_kv_text.c: arbitrary bytes as the lines of a log.
 *
 * The input is read as it is, line by line; then each of its lines again with a right check behind
 * it, so that a fuzzer need not find a CRC. What is read as a record is written again and must give
 * the very same bytes. A plain line must give a record that may be written once it has a stamp, and
 * that is then read as the same.
 * Runs under libFuzzer, or with standalone.c.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "kv_text.h"

#define CHECKED_BYTES 10u /* #CRC and a line feed */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(int condition, const char *what) {
    if (condition) return;
    fprintf(stderr, "fuzz_kv_text: %s\n", what);
    abort();
}

static void *must(void *memory) {
    if (memory == NULL) abort();
    return memory;
}

/* The record's line in memory of just its size. */
static char *put(const velum_kv_record *record, size_t *size) {
    size_t room = velum_kv_text_room(record);
    char *line = must(malloc(room)), *exact;
    int got = velum_kv_text_put(record, line, room);
    demand(got > 0, "a record that was read may not be written");
    exact = must(malloc((size_t)got));
    demand(velum_kv_text_put(record, exact, (size_t)got) == got, "needs more room than it takes");
    demand(memcmp(line, exact, (size_t)got) == 0, "written in two ways");
    *size = (size_t)got;
    free(line);
    return exact;
}

static void try_plain(velum_kv_record *record) {
    velum_kv_record back;
    velum_kv_line what;
    size_t size;
    uint8_t *memory;
    char *line;
    demand(record->op == VELUM_KV_SET && record->stamp.node == 0, "a plain line is no SET");
    record->stamp.node = 1;
    line = put(record, &size);
    memory = must(malloc(size));
    demand(velum_kv_text_get(line, size, memory, &what, &back) == size, "is no line");
    demand(what == VELUM_KV_LINE_RECORD && back.key.size == record->key.size &&
               memcmp(back.key.data, record->key.data, back.key.size) == 0 &&
               back.value.size == record->value.size &&
               memcmp(back.value.data, record->value.data, back.value.size) == 0,
           "is another record");
    free(memory);
    free(line);
}

/* One line, from memory of just n bytes into as much; how many it takes. */
static size_t try_line(const uint8_t *data, size_t n) {
    char *text = must(malloc(n + 1)), *again;
    uint8_t *memory = must(malloc(n + 1));
    velum_kv_record record;
    velum_kv_line what = VELUM_KV_LINE_DAMAGED;
    size_t got, size;
    memcpy(text + 1, data, n);
    got = velum_kv_text_get(text + 1, n, memory + 1, &what, &record);
    demand(got <= n, "takes more than there is");
    demand(got > 0 || (n <= VELUM_KV_LINE_BYTES_MAX && memchr(data, '\n', n) == NULL),
           "a whole line needs more");
    if (what == VELUM_KV_LINE_RECORD) {
        again = put(&record, &size);
        demand(size == got && memcmp(again, data, got) == 0, "is written with other bytes");
        free(again);
    }
    if (what == VELUM_KV_LINE_PLAIN) try_plain(&record);
    free(memory);
    free(text);
    return got;
}

/* n bytes without a line feed, with a right check behind them. */
static void try_checked(const uint8_t *data, size_t n) {
    char *line = must(malloc(n + CHECKED_BYTES + 1));
    memcpy(line, data, n);
    sprintf(line + n, "#%08x\n", (unsigned)velum_crc32c(0, line, n));
    try_line((const uint8_t *)line, n + CHECKED_BYTES);
    free(line);
}

/* A line's bytes before its check, or all of them if it has none. */
static size_t before_check(const uint8_t *line, size_t n) {
    return n > CHECKED_BYTES && line[n - CHECKED_BYTES + 1] == '#' ? n - CHECKED_BYTES + 1 : n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    size_t at = 0;
    while (at < size) {
        size_t got = try_line(data + at, size - at);
        size_t n = got > 0 && data[at + got - 1] == '\n' ? got - 1 : size - at;
        try_checked(data + at, before_check(data + at, n));
        if (got == 0) break;
        at += got;
    }
    return 0;
}
