/* kv_read.c: see kv_read.h. */
#include "kv_read.h"

#include <stdlib.h>
#include <string.h>

/* What is read at once: system calls are few, memory is small. */
#define READ_BYTES ((size_t)64 * 1024)

/* A plain line, and the one behind it. One that is longer is read piece by piece, as damage. */
#define READ_BYTES_MAX (2 * (size_t)VELUM_KV_LINE_BYTES_MAX + READ_BYTES)

typedef struct {
    const velum_kv_reading *to;
    velum_kv_found *found;
    char *text; /* of the file, from `offset` on */
    size_t size, cap;
    uint8_t *memory; /* for a line's bytes, `cap` too */
    uint64_t offset; /* of the first byte that was not looked at */
    bool in_line;    /* it is in the middle of a damaged line, which begins at `line` */
    uint64_t line;
    uint64_t good;                   /* where the last good line ends */
    uint64_t damaged, first_damaged; /* since then */
} reader;

/* Room for so many bytes more. */
static int make_room(reader *r, size_t want) {
    size_t cap = r->size + want;
    void *text, *memory;
    if (cap <= r->cap) return 0;
    text = realloc(r->text, cap);
    if (text == NULL) return VELUM_E_NOMEM;
    r->text = text;
    memory = realloc(r->memory, cap);
    if (memory == NULL) return VELUM_E_NOMEM;
    r->memory = memory;
    r->cap = cap;
    return 0;
}

/* A damaged line ends at `end`, as far as it is there. */
static void end_damage(reader *r, uint64_t end) {
    r->in_line = false;
    if (r->damaged++ == 0) r->first_damaged = r->line;
    if (r->to->damage != NULL) r->to->damage(r->to->owner, r->line, end - r->line);
}

/* What is damaged before a good line is no torn tail. */
static void meet_record(reader *r, const velum_kv_record *record, bool plain, size_t n) {
    if (r->damaged > 0 && r->found->damaged == 0) r->found->first_damaged = r->first_damaged;
    r->found->damaged += r->damaged;
    r->damaged = 0;
    r->found->records++;
    r->found->plain += plain;
    r->good = r->offset + n;
    r->to->record(r->to->owner, record, r->offset);
}

/* Passes over a damaged line up to and with its line feed; how many of the n bytes are its. */
static size_t pass_line(reader *r, const char *text, size_t n) {
    const char *end = memchr(text, '\n', n);
    if (end == NULL) return n;
    n = (size_t)(end - text) + 1;
    end_damage(r, r->offset + n);
    return n;
}

/* A record with a line feed in it that is not its own begins as a plain line, and the rest of it is
 * damaged: so a plain line is damage if such a one follows. What a crash leaves behind the last
 * line is none: it has no end, or holes, which are zeros. 1: it is plain; 0: what follows has to be
 * read first. */
static int is_plain(const reader *r, const char *next, size_t n, size_t size, bool at_end) {
    velum_kv_line what;
    velum_kv_record ignored;
    size_t next_size = n == 0 ? 0 : velum_kv_text_get(next, n, r->memory + size, &what, &ignored);
    if (next_size == 0) return at_end;
    return what != VELUM_KV_LINE_DAMAGED || memchr(next, 0, next_size) != NULL ? 1 : -1;
}

/* Takes a line that is not in the middle of a damaged one; its size, or 0: read more first. */
static size_t take_line(reader *r, const char *text, size_t n, bool at_end) {
    velum_kv_line what;
    velum_kv_record record;
    size_t size = velum_kv_text_get(text, n, r->memory, &what, &record);
    if (size == 0) return 0;
    if (what == VELUM_KV_LINE_PLAIN) {
        int plain = is_plain(r, text + size, n - size, size, at_end);
        if (plain == 0) return 0;
        if (plain < 0) what = VELUM_KV_LINE_DAMAGED;
    }
    if (what == VELUM_KV_LINE_DAMAGED) {
        r->line = r->offset;
        r->in_line = text[size - 1] != '\n';
        if (!r->in_line) end_damage(r, r->offset + size);
    } else {
        meet_record(r, &record, what == VELUM_KV_LINE_PLAIN, size);
    }
    return size;
}

/* Takes the lines that are whole in what was read. */
static void take_lines(reader *r, bool at_end) {
    size_t at = 0, size = 1;
    while (at < r->size && size > 0) {
        const char *text = r->text + at;
        size_t n = r->size - at;
        size = r->in_line ? pass_line(r, text, n) : take_line(r, text, n, at_end);
        at += size;
        r->offset += size;
    }
    r->size -= at;
    if (at > 0) memmove(r->text, r->text + at, r->size);
}

static int read_lines(reader *r, velum_fd file) {
    for (;;) {
        /* A long line is looked at again: then twice as much of it. */
        size_t want = r->size < READ_BYTES ? READ_BYTES : r->size;
        int n, err;
        if (want > READ_BYTES_MAX - r->size) want = READ_BYTES_MAX - r->size;
        err = make_room(r, want);
        if (err < 0) return err;
        n = velum_port_file_read(file, r->offset + r->size, r->text + r->size, want);
        if (n < 0) return n;
        r->size += (size_t)n;
        take_lines(r, n == 0);
        if (n == 0) return 0;
    }
}

int velum_kv_read(velum_fd file, const velum_kv_reading *reading, velum_kv_found *found,
                  uint64_t *end) {
    reader r = {.to = reading, .found = found};
    int err;
    *found = (velum_kv_found){0, 0, 0, 0, 0};
    err = read_lines(&r, file);
    if (err == 0 && !r.in_line) r.line = r.offset; /* what is left is a line without an end */
    if (err == 0 && r.offset + r.size > r.line) end_damage(&r, r.offset + r.size);
    found->torn_bytes = r.offset + r.size - r.good;
    *end = r.good;
    free(r.text);
    free(r.memory);
    return err;
}
