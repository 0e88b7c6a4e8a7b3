/* kv_check.c: see kv_check.h. */
#include "kv_check.h"

#include "kv.h"

#include <stdlib.h>
#include <string.h>

/* Who a plain line is taken to be from: any node would do. */
#define PLAIN_NODE 1u

typedef struct {
    velum_kv_checked *report;
    velum_kv *kv;
    uint64_t greatest; /* time of a stamp until now */
    char *line;        /* memory for one */
    int error;         /* of merging */
} checker;

static void meet_record(void *owner, const velum_kv_record *record, uint64_t offset) {
    checker *c = owner;
    velum_kv_record r = *record;
    int err;
    (void)offset;
    if (r.stamp.node == 0) r.stamp = (velum_kv_stamp){velum_kv_plain_time(c->greatest), PLAIN_NODE};
    if (r.stamp.time > c->greatest) c->greatest = r.stamp.time;
    if (c->error < 0) return;
    err = velum_kv_merge(c->kv, &r);
    if (err < 0) c->error = err;
}

static void meet_damage(void *owner, uint64_t offset, uint64_t bytes) {
    velum_kv_checked *report = ((checker *)owner)->report;
    report->damaged_bytes += bytes;
    if (report->damage_count < VELUM_KV_CHECK_DAMAGE_MAX)
        report->damage[report->damage_count++] = (velum_kv_damage){offset, bytes};
}

static void count_line(void *owner, const velum_kv_record *record) {
    checker *c = owner;
    int n = velum_kv_text_put(record, c->line, VELUM_KV_LINE_BYTES_MAX);
    if (n > 0) c->report->compact_bytes += (uint64_t)n;
}

/* What is there once all records are merged. */
static void count_what_counts(checker *c) {
    velum_kv_walk walk = {0};
    velum_kv_figures figures = velum_kv_get_figures(c->kv);
    c->report->keys = figures.keys;
    c->report->tombstones = figures.tombstones;
    while (velum_kv_step(c->kv, &walk, SIZE_MAX, count_line, c)) {
    }
}

static int read_file(checker *c, velum_fd file) {
    velum_kv_checked *report = c->report;
    velum_kv_reading reading = {.owner = c, .record = meet_record, .damage = meet_damage};
    uint64_t end;
    int err = velum_kv_read(file, &reading, &report->found, &end);
    if (err < 0) return err;
    report->file_bytes = end + report->found.torn_bytes;
    report->damaged_bytes -= report->found.torn_bytes; /* told as damage, too */
    while (report->damage_count > 0 && report->damage[report->damage_count - 1].offset >= end)
        report->damage_count--;
    if (c->error < 0) return c->error;
    count_what_counts(c);
    return 0;
}

int velum_kv_check(const char *path, velum_kv_checked *report) {
    checker c = {.report = report};
    velum_fd file = VELUM_NO_FD;
    int err = velum_port_file_open(path, false, false, &file);
    memset(report, 0, sizeof *report);
    if (err < 0) return err;
    c.line = malloc(VELUM_KV_LINE_BYTES_MAX);
    err = c.line == NULL ? VELUM_E_NOMEM : velum_kv_open(&c.kv, SIZE_MAX);
    if (err == 0) err = read_file(&c, file);
    velum_kv_close(c.kv);
    free(c.line);
    velum_port_file_close(file);
    return err;
}
