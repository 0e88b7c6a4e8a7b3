/* test_kv_bits.c: every single flipped bit in a log of 1,000 records is noticed, where it is, and
 * makes no record: all bits of all bytes are tried.
 *
 * A flip can join a line with the next one, or part it, but beyond its neighbours nothing changes.
 * So one file has a line with the two beside it, over and over, each time with another bit flipped.
 * With VELUM_SOAK=1 the whole log is read for each bit, too.
 */
#include "kv_numbers.h"
#include "kv_read.h"
#include "port/test/file_test.h"

#include <stdlib.h>

#define PATH      "logs/state.log"
#define RECORDS   1000u
#define LOG_BYTES 500000u
#define BITS      8u

static char text[LOG_BYTES];
static size_t starts[RECORDS + 1]; /* of lines, in the text */

static void make_log(void) {
    made m;
    for (size_t i = 0; i < RECORDS; i++) {
        size_t at = starts[i];
        int n = velum_kv_text_put(make_record(i, &m), text + at, sizeof text - at);
        CHECK(n > 0);
        starts[i + 1] = at + (size_t)n;
    }
}

/* ---- reading ---- */

/* What the file has over and over: lines `first` to before `end`; with a flip in line `hit`. */
static size_t first, end, hit, window;
static bool join;         /* the flip is in its line feed */
static size_t good, bad;  /* lines in this window */
static size_t windows;    /* that were read as they should */
static size_t unexpected; /* anything else */

static void check_window(void) {
    size_t lost = join && hit + 1 < end ? 2 : 1;
    if (good == end - first - lost && bad > 0)
        windows++;
    else
        unexpected++;
    good = bad = 0;
}

static void meet(void *owner, const velum_kv_record *record, uint64_t offset) {
    made m;
    size_t number = (size_t)record->stamp.time - 1, at = (size_t)offset % window;
    (void)owner;
    if (number >= first && number < end && number != hit && !(join && number == hit + 1) &&
        at == starts[number] - starts[first] && same(record, make_record(number, &m)))
        good++;
    else
        unexpected++;
    if (number + 1 == end) check_window();
}

static void meet_damage(void *owner, uint64_t offset, uint64_t bytes) {
    size_t at = (size_t)offset % window, size = (size_t)bytes;
    (void)owner;
    if (bad++ == 0 ? at != starts[hit] - starts[first] : at >= starts[hit + 1] - starts[first])
        unexpected++;
    if (at + size > starts[hit + 1 + join] - starts[first]) unexpected++;
    if (at + size == window) check_window();
}

/* Reads what is in the file: all its windows are as they should be. */
static void read_windows(velum_fd fd, size_t count) {
    velum_kv_reading reading = {.record = meet, .damage = meet_damage};
    velum_kv_found found;
    uint64_t whole;
    good = bad = windows = unexpected = 0;
    CHECK_EQ(velum_kv_read(fd, &reading, &found, &whole), 0);
    CHECK_EQ(windows, count);
    CHECK_EQ(unexpected, 0);
    CHECK_EQ(found.plain, 0);
    CHECK(found.damaged + found.torn_bytes > 0);
}

static velum_fd open_file(void) {
    velum_fd fd = VELUM_NO_FD;
    velum_test_disk_reset();
    CHECK_EQ(velum_port_file_open(PATH, true, false, &fd), 0);
    return fd;
}

/* ---- flips ---- */

/* All flips of line i but those of its line feed, or those alone. */
static void try_line(size_t i, bool feed) {
    size_t size = starts[i + 1] - starts[i], from = feed ? size - 1 : 0,
           to = feed ? size : size - 1;
    size_t count = 0;
    velum_fd fd = open_file();
    char *bytes;
    first = i > 0 ? i - 1 : 0;
    end = i + 3 < RECORDS ? i + 3 : RECORDS;
    hit = i;
    join = feed;
    window = starts[end] - starts[first];
    bytes = malloc(size * BITS * window);
    if (bytes == NULL) abort();
    for (size_t byte = from; byte < to; byte++) {
        for (size_t bit = 0; bit < BITS; bit++, count++) {
            char *copy = bytes + count * window;
            memcpy(copy, text + starts[first], window);
            copy[starts[i] - starts[first] + byte] ^= (char)(1u << bit);
        }
    }
    CHECK_EQ(velum_port_file_write(fd, 0, bytes, count * window), 0);
    free(bytes);
    /* Behind the last line there is nothing: its line feed joins it to the next window. */
    if (!(feed && end == i + 1)) read_windows(fd, count);
    velum_port_file_close(fd);
}

/* One flip in the whole log. */
static void try_all_of_it(size_t i, size_t byte, size_t bit) {
    size_t at = starts[i] + byte;
    velum_fd fd = open_file();
    first = 0;
    end = RECORDS;
    hit = i;
    join = at + 1 == starts[i + 1] && i + 1 < RECORDS;
    window = starts[RECORDS];
    text[at] ^= (char)(1u << bit);
    CHECK_EQ(velum_port_file_write(fd, 0, text, window), 0);
    text[at] ^= (char)(1u << bit);
    read_windows(fd, 1);
    velum_port_file_close(fd);
}

static void try_whole_lines(size_t from, size_t to) {
    for (size_t i = from; i < to; i++)
        for (size_t byte = 0; byte < starts[i + 1] - starts[i]; byte++)
            for (size_t bit = 0; bit < BITS; bit++)
                try_all_of_it(i, byte, bit);
}

int main(void) {
    const char *soak = getenv("VELUM_SOAK");
    bool whole = soak != NULL && strcmp(soak, "1") == 0;
    make_log();
    for (size_t i = 0; i < RECORDS; i++) {
        try_line(i, false);
        try_line(i, true);
    }
    try_whole_lines(whole ? 0 : RECORDS - 2, RECORDS);
    printf("%zu bytes, %zu bits\n", starts[RECORDS], starts[RECORDS] * BITS);
    velum_test_disk_reset();
    return check_report("kv_bits");
}
