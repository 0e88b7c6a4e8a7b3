/* kv_log.c: a log that grows at its end, is read at the start, and is compacted into another file.
 *
 * Owns and refuses to know: as kv_log.h says. How: two growing buffers, one of records that were
 * taken, one of what a compaction keeps; each is put into its file by one call of the port. What
 * was found at the start is synced before anything is added, so that a record which a killed
 * process has left in the system's memory is never taken for one on disk.
 *
 * A place `at` counts on when a compaction makes the file shorter; offsets in the file do not.
 */
#include "kv_log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEW_SUFFIX ".new"

/* What a copy reads at once: system calls are few, memory is small. */
#define COPY_BYTES ((size_t)64 * 1024)

/* What is looked at to know a log from another file: many lines, or a part of one. */
#define HEAD_BYTES ((size_t)64 * 1024)

/* What a compaction gathers before it writes. */
#define KEEP_BYTES ((size_t)256 * 1024)

/* How often the new file is synced in the background while the log goes on growing: each time less
 * has come, unless more is written than the disk takes. */
#define SYNCS_MAX 8

/* An empty buffer that is larger is given back: a burst does not hold memory. */
#define BUFFER_KEEP_BYTES ((size_t)1024 * 1024)
#define BUFFER_BYTES_MIN  ((size_t)4096)

typedef struct {
    char *data;
    size_t size, cap;
} buffer;

typedef struct {
    velum_fd file; /* VELUM_NO_FD: none is under way */
    buffer kept;   /* not in the file yet */
    uint64_t end;  /* of the file */
    uint64_t next; /* where in the log the next piece to copy begins */
    velum_port_syncer *syncer;
    bool syncing;
    unsigned syncs;         /* that were begun */
    uint64_t begun, synced; /* `end` when the last one began; and what is on disk */
} compaction;

struct velum_kv_log {
    char *path, *new_path;
    velum_fd file;
    buffer taken;
    uint64_t file_bytes, live_bytes;
    bool ragged;              /* the file may be longer than file_bytes */
    bool refusing;            /* the last write has failed */
    int broken;               /* 0, or the error; `syncing` is of `former` then, if of any */
    uint64_t written, synced; /* places */
    velum_port_syncer *syncer;
    velum_fd waker;
    bool syncing;
    uint64_t begun;  /* `written` when the sync began */
    velum_fd former; /* a replaced file that is still being synced, or VELUM_NO_FD */
    compaction compacts;
};

/* ---- buffers ---- */

/* Room for n more bytes. */
static int make_room(buffer *b, size_t n) {
    size_t cap = b->cap < BUFFER_BYTES_MIN ? BUFFER_BYTES_MIN : b->cap;
    char *data;
    if (n <= b->cap - b->size) return 0;
    while (cap - b->size < n) {
        if (cap > SIZE_MAX / 2) return VELUM_E_NOMEM;
        cap *= 2;
    }
    data = realloc(b->data, cap);
    if (data == NULL) return VELUM_E_NOMEM;
    b->data = data;
    b->cap = cap;
    return 0;
}

static void free_buffer(buffer *b) {
    free(b->data);
    *b = (buffer){NULL, 0, 0};
}

static void empty(buffer *b) {
    b->size = 0;
    if (b->cap > BUFFER_KEEP_BYTES) free_buffer(b);
}

static int put_record(buffer *b, const velum_kv_record *record) {
    size_t room = velum_kv_text_room(record);
    int r;
    if (room > VELUM_KV_LINE_BYTES_MAX) return VELUM_E_TOO_LARGE;
    if ((r = make_room(b, room)) < 0) return r;
    r = velum_kv_text_put(record, b->data + b->size, b->cap - b->size);
    if (r < 0) return r;
    b->size += (size_t)r;
    return 0;
}

/* ---- whether it is a log ---- */

static bool is_hex(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

static bool are_hex(const char *text, size_t n) {
    while (n > 0 && is_hex(text[n - 1]))
        n--;
    return n == 0;
}

/* Whether something in a damaged line, without its line feed, is a record's alone: the stamp, or
 * the check at its end. */
static bool was_record(const char *line, size_t n) {
    static const size_t stamp = 2 + 16,
                        check = 2 + 8; /* a tab, @ and digits; a space, # and more */
    const char *end = line + n;
    if (n >= check && memcmp(end - check, " #", 2) == 0 && are_hex(end - check + 2, check - 2))
        return true;
    for (const char *p = line; (size_t)(end - p) >= stamp; p++)
        if (p[0] == '\t' && p[1] == '@' && are_hex(p + 2, stamp - 2)) return true;
    return false;
}

/* Whether a crash may have left this of lines: bytes of theirs, and holes, which are zeros. */
static bool may_be_torn(const char *text, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint8_t byte = (uint8_t)text[i];
        if ((byte < 32 && byte != 0 && byte != '\t') || byte == 127) return false;
    }
    return true;
}

/* Whether a file that begins so may be a log. */
static bool may_be_log(const char *text, size_t n, uint8_t *memory) {
    velum_kv_line what;
    velum_kv_record ignored;
    size_t at = 0, size;
    bool torn = true;
    while ((size = velum_kv_text_get(text + at, n - at, memory, &what, &ignored)) > 0) {
        const char *line = text + at;
        if (what != VELUM_KV_LINE_DAMAGED || was_record(line, size - 1)) return true;
        torn = torn && may_be_torn(line, size - 1) && memchr(line, 0, size) != NULL;
        at += size;
    }
    return was_record(text + at, n - at) || (torn && may_be_torn(text + at, n - at));
}

static int check_head(velum_fd file) {
    char *text = malloc(HEAD_BYTES);
    uint8_t *memory = malloc(HEAD_BYTES);
    int n = VELUM_E_NOMEM;
    if (text != NULL && memory != NULL) n = velum_port_file_read(file, 0, text, HEAD_BYTES);
    if (n > 0 && !may_be_log(text, (size_t)n, memory)) n = VELUM_E_NOT_A_LOG;
    free(text);
    free(memory);
    return n < 0 ? n : 0;
}

/* ---- opening and closing ---- */

/* Reads the file, cuts its torn tail off, and has on disk what is left. */
static int recover(velum_kv_log *log,
                   void (*record)(void *owner, const velum_kv_record *record, uint64_t offset),
                   void *owner, velum_kv_found *found) {
    velum_kv_reading reading = {.owner = owner, .record = record};
    uint64_t end;
    int err = velum_kv_read(log->file, &reading, found, &end);
    if (err < 0) return err;
    if (found->torn_bytes > 0) err = velum_port_file_cut(log->file, end);
    if (err == 0) err = velum_port_file_sync(log->file);
    log->file_bytes = log->live_bytes = log->written = log->synced = end;
    return err;
}

static void free_log(velum_kv_log *log) {
    velum_port_syncer_close(log->syncer); /* first: it may be at one of the files */
    if (log->former != VELUM_NO_FD) velum_port_file_close(log->former);
    if (log->file != VELUM_NO_FD) velum_port_file_close(log->file);
    free_buffer(&log->taken);
    free(log->path);
    free(log->new_path);
    free(log);
}

static int copy_paths(velum_kv_log *log, const char *path) {
    size_t size = strlen(path);
    log->path = malloc(size + 1);
    log->new_path = malloc(size + sizeof NEW_SUFFIX);
    if (log->path == NULL || log->new_path == NULL) return VELUM_E_NOMEM;
    memcpy(log->path, path, size + 1);
    memcpy(log->new_path, path, size);
    memcpy(log->new_path + size, NEW_SUFFIX, sizeof NEW_SUFFIX);
    return 0;
}

int velum_kv_log_open(velum_kv_log **out, const char *path, velum_fd waker,
                      void (*record)(void *owner, const velum_kv_record *record, uint64_t offset),
                      void *owner, velum_kv_found *found) {
    velum_kv_log *log = calloc(1, sizeof *log);
    int err;
    if (log == NULL) return VELUM_E_NOMEM;
    *found = (velum_kv_found){0, 0, 0, 0, 0};
    log->file = log->former = log->compacts.file = VELUM_NO_FD;
    log->waker = waker;
    err = copy_paths(log, path);
    if (err == 0) err = velum_port_file_open(path, true, true, &log->file);
    if (err == 0) err = check_head(log->file);
    /* Only who has the lock may do this; and what cannot be removed, the next one overwrites. */
    if (err == 0) (void)velum_port_file_remove(log->new_path);
    if (err == 0) err = recover(log, record, owner, found);
    if (err == 0) err = velum_port_syncer_open(&log->syncer, waker);
    if (err < 0)
        free_log(log);
    else
        *out = log;
    return err;
}

void velum_kv_log_close(velum_kv_log *log) {
    if (log == NULL) return;
    velum_kv_log_abandon(log);
    (void)velum_kv_log_write(log);
    velum_kv_log_poll(log);
    if (log->broken == 0 && log->synced < log->written) (void)velum_port_file_sync(log->file);
    free_log(log);
}

/* ---- appending ---- */

int velum_kv_log_append(velum_kv_log *log, const velum_kv_record *record, uint64_t *at) {
    int r;
    if (log->broken < 0) return log->broken;
    if (log->refusing) return VELUM_E_FULL;
    r = put_record(&log->taken, record);
    if (r == 0) *at = log->written + log->taken.size;
    return r;
}

/* Cuts off what a failed write has left. */
static int trim(velum_kv_log *log) {
    int err = log->ragged ? velum_port_file_cut(log->file, log->file_bytes) : 0;
    if (err == 0) log->ragged = false;
    return err;
}

int velum_kv_log_write(velum_kv_log *log) {
    size_t n = log->taken.size;
    int err;
    if (log->broken < 0) return log->broken;
    err = trim(log);
    if (err == 0 && n > 0) {
        err = velum_port_file_write(log->file, log->file_bytes, log->taken.data, n);
        log->ragged = err < 0;
    }
    log->refusing = err < 0;
    if (err < 0) {
        (void)trim(log); /* if it fails, the next call does it */
        return err;
    }
    log->file_bytes += n;
    log->written += n;
    empty(&log->taken);
    return 0;
}

void velum_kv_log_take_back(velum_kv_log *log, uint64_t at) {
    size_t keep = (size_t)(at - log->written);
    if (at >= log->written && keep < log->taken.size) log->taken.size = keep;
}

/* ---- syncing ---- */

void velum_kv_log_poll(velum_kv_log *log) {
    int err = 0;
    if (!log->syncing || velum_port_syncer_poll(log->syncer, &err) != 1) return;
    log->syncing = false;
    if (log->former != VELUM_NO_FD) { /* all of it is in the new file, and on disk */
        velum_port_file_close(log->former);
        log->former = VELUM_NO_FD;
    } else if (err < 0) {
        log->broken = err;
        velum_kv_log_abandon(log); /* it would copy from this file */
    } else {
        log->synced = log->begun;
    }
}

int velum_kv_log_sync(velum_kv_log *log) {
    int err;
    velum_kv_log_poll(log);
    if (log->broken < 0) return log->broken;
    if (log->syncing || log->synced == log->written) return 0;
    err = velum_port_syncer_begin(log->syncer, log->file);
    if (err < 0) return err;
    log->syncing = true;
    log->begun = log->written;
    velum_kv_log_poll(log); /* the port may have no threads */
    return log->broken;
}

velum_kv_log_figures velum_kv_log_get_figures(const velum_kv_log *log) {
    return (velum_kv_log_figures){.taken = log->written + log->taken.size,
                                  .written = log->written,
                                  .synced = log->synced,
                                  .file_bytes = log->file_bytes,
                                  .live_bytes = log->live_bytes,
                                  .syncing = log->syncing,
                                  .compacting = log->compacts.file != VELUM_NO_FD,
                                  .broken = log->broken < 0};
}

/* ---- compaction ---- */

/* Lets go of everything but the file, and forgets that. */
static void end_compaction(compaction *c) {
    velum_port_syncer_close(c->syncer);
    free_buffer(&c->kept);
    *c = (compaction){.file = VELUM_NO_FD};
}

void velum_kv_log_abandon(velum_kv_log *log) {
    velum_fd file = log->compacts.file;
    if (file == VELUM_NO_FD) return;
    end_compaction(&log->compacts);
    velum_port_file_close(file);
    (void)velum_port_file_remove(log->new_path); /* else the next compaction overwrites it */
}

static int give_up(velum_kv_log *log, int err) {
    velum_kv_log_abandon(log);
    return err;
}

int velum_kv_log_compact(velum_kv_log *log) {
    compaction *c = &log->compacts;
    int err;
    if (c->file != VELUM_NO_FD) return VELUM_E_BUSY;
    err = velum_port_file_open(log->new_path, true, true, &c->file);
    if (err < 0) return err;
    c->next = log->file_bytes;
    err = velum_port_file_cut(c->file, 0);
    if (err == 0) err = velum_port_syncer_open(&c->syncer, log->waker);
    return err < 0 ? give_up(log, err) : 0;
}

/* Puts what is kept into the new file. */
static int flush(compaction *c) {
    int err = velum_port_file_write(c->file, c->end, c->kept.data, c->kept.size);
    if (err < 0) return err;
    c->end += c->kept.size;
    c->kept.size = 0;
    return 0;
}

int velum_kv_log_keep(velum_kv_log *log, const velum_kv_record *record) {
    compaction *c = &log->compacts;
    int err;
    if (c->file == VELUM_NO_FD) return VELUM_E_ARGUMENT;
    err = put_record(&c->kept, record);
    if (err == 0 && c->kept.size >= KEEP_BYTES) err = flush(c);
    return err < 0 ? give_up(log, err) : 0;
}

/* Copies what has come since the compaction began, max bytes at most. */
static int copy(const velum_kv_log *log, compaction *c, size_t max) {
    while (c->next < log->file_bytes && max > 0) {
        uint64_t left = log->file_bytes - c->next;
        size_t want = max < COPY_BYTES ? max : COPY_BYTES;
        int n, err = make_room(&c->kept, want);
        if (err < 0) return err;
        n = velum_port_file_read(log->file, c->next, c->kept.data,
                                 left < want ? (size_t)left : want);
        if (n <= 0) return n < 0 ? n : VELUM_E_SYSTEM; /* the file is shorter than it was */
        c->kept.size = (size_t)n;
        c->next += (size_t)n;
        max -= (size_t)n;
        if ((err = flush(c)) < 0) return err;
    }
    return 0;
}

/* Syncs the new file in the background, but for rest_bytes at most. 1: that is done; 0: under way.
 */
static int sync_most(compaction *c, size_t rest_bytes) {
    while (c->syncing || c->syncs == 0 ||
           (c->end - c->synced > rest_bytes && c->syncs < SYNCS_MAX)) {
        int r, err = 0;
        if (!c->syncing) {
            r = velum_port_syncer_begin(c->syncer, c->file);
            if (r < 0) return r;
            c->syncing = true;
            c->syncs++;
            c->begun = c->end;
        }
        if (velum_port_syncer_poll(c->syncer, &err) == 0) return 0;
        if (err < 0) return err;
        c->syncing = false;
        c->synced = c->begun;
    }
    return 1;
}

/* The new file has the log's name: it is the one to hold, and to lock. */
static void hold_new(velum_kv_log *log) {
    compaction *c = &log->compacts;
    if (log->syncing && log->former == VELUM_NO_FD)
        log->former = log->file;
    else
        velum_port_file_close(log->file);
    log->file = c->file;
    log->file_bytes = log->live_bytes = c->end;
    end_compaction(c);
}

/* What was taken and could not be written is in the new file: memory had it. */
static void heal(velum_kv_log *log) {
    log->written += log->taken.size;
    empty(&log->taken);
    log->refusing = log->ragged = false;
    log->broken = 0;
}

/* The new file, which is whole, becomes the log. */
static int take_place(velum_kv_log *log) {
    compaction *c = &log->compacts;
    int err = c->end > c->synced ? velum_port_file_sync(c->file) : 0;
    bool renamed = false;
    if (err == 0) {
        err = velum_port_file_rename(log->new_path, log->path);
        renamed = err == 0 || err == VELUM_E_UNCERTAIN;
    }
    if (renamed) hold_new(log);
    if (renamed && err < 0) log->broken = err; /* which one a crash leaves, nobody knows */
    if (err < 0) return err;
    if (log->broken < 0) heal(log);
    log->synced = log->written;
    return 1;
}

int velum_kv_log_replace(velum_kv_log *log, size_t copy_bytes) {
    compaction *c = &log->compacts;
    int r;
    if (c->file == VELUM_NO_FD) return VELUM_E_ARGUMENT;
    velum_kv_log_poll(log);
    if (c->file == VELUM_NO_FD) return log->broken; /* since now */
    r = flush(c);
    if (r == 0) r = copy(log, c, copy_bytes);
    if (r == 0 && c->next == log->file_bytes) {
        r = sync_most(c, copy_bytes);
        if (r == 1) r = take_place(log);
    }
    return r < 0 ? give_up(log, r) : r;
}
