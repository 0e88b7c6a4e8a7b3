/* file_test.c: the test port's disk: see file_test.h for what it offers.
 *
 * Owns: files in memory, the record of what has changed them, and faults. Refuses to know: what is
 * written. How: a file is a number, with bytes; names and handles point to it. Every change is
 * recorded with its bytes. A crash decides for each recorded operation, from the last to the first,
 * whether it is kept, and then makes the files by what is kept, in order.
 */
#include "file_test.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HANDLE_FIRST 2000000 /* beyond the network's; never used twice */
#define OPEN_MAX     64u     /* handles, names or syncers at one time */
#define NOBODY       SIZE_MAX

typedef struct {
    enum { MAKE, WRITE, CUT, SYNC, RENAME, REMOVE } kind;
    size_t file;
    char *name;      /* MAKE, REMOVE; RENAME: the new one */
    char *from;      /* RENAME */
    uint64_t offset; /* WRITE; CUT: the size */
    uint8_t *bytes;  /* WRITE */
    size_t size;
    size_t covers; /* SYNC: what was recorded before this one */
    bool loose;    /* a name that is not on disk by itself; a write that no sync covers any more */
} operation;

typedef struct {
    uint8_t *bytes;
    size_t size;
} content;

typedef struct {
    char *name;
    size_t file;
} entry;

/* Files and their names. */
typedef struct {
    content *files;
    size_t count;
    entry names[OPEN_MAX];
    size_t name_count;
} tree;

struct velum_test_disk {
    operation *operations;
    size_t count, cap;
    tree tree;
    /* After a crash behind `settled_at` operations or more, the first `settled` of them are there
     * for certain: this is what they have made. So crashes one after another are fast. */
    tree base;
    size_t settled, settled_at;
};

typedef struct {
    velum_fd fd; /* 0: free */
    size_t file; /* NOBODY: its disk was taken away */
    bool lock, reading;
} handle;

struct velum_port_syncer {
    enum { IDLE, UNDER_WAY, ENDED } state;
    velum_fd file, waker;
    size_t covers;
    int error;
};

static struct {
    velum_test_disk *disk;
    handle handles[OPEN_MAX];
    velum_fd next_fd;
    velum_port_syncer *syncers[OPEN_MAX];
    uint64_t space;
    bool failing, hold;
    size_t fail_after;
    int fail_err, sync_err;
    uint64_t random;
} world = {.next_fd = HANDLE_FIRST, .space = UINT64_MAX, .random = 1};

/* ---- helpers ---- */

static void *need(void *memory) {
    if (memory == NULL) {
        fprintf(stderr, "file_test: out of memory\n");
        abort();
    }
    return memory;
}

static void demand(bool condition, const char *what) {
    if (condition) return;
    fprintf(stderr, "file_test: misuse: %s\n", what);
    abort();
}

static char *copy_name(const char *name) {
    size_t n = strlen(name) + 1;
    return memcpy(need(malloc(n)), name, n);
}

/* xorshift64* (Vigna 2016), below n. */
static size_t below(size_t n) {
    world.random ^= world.random >> 12;
    world.random ^= world.random << 25;
    world.random ^= world.random >> 27;
    return (size_t)((world.random * UINT64_C(2685821657736338717)) >> 33) % n;
}

/* ---- trees ---- */

static size_t find_name(const tree *t, const char *name) {
    for (size_t i = 0; i < t->name_count; i++)
        if (strcmp(t->names[i].name, name) == 0) return i;
    return NOBODY;
}

static void drop_name(tree *t, const char *name) {
    size_t i = find_name(t, name);
    if (i == NOBODY) return;
    free(t->names[i].name);
    t->names[i] = t->names[--t->name_count];
}

static void give_name(tree *t, const char *name, size_t file) {
    drop_name(t, name);
    demand(t->name_count < OPEN_MAX, "too many names");
    t->names[t->name_count++] = (entry){copy_name(name), file};
}

static void resize(content *c, size_t size) {
    c->bytes = need(realloc(c->bytes, size + 1));
    if (size > c->size) memset(c->bytes + c->size, 0, size - c->size);
    c->size = size;
}

/* Does what the operation says; of a write, bytes[from..to). */
static void apply(tree *t, const operation *o, size_t from, size_t to) {
    if (o->kind == MAKE) {
        t->files = need(realloc(t->files, (o->file + 1) * sizeof *t->files));
        for (; t->count <= o->file; t->count++)
            t->files[t->count] = (content){NULL, 0};
        give_name(t, o->name, o->file);
    } else if (o->kind == RENAME) {
        drop_name(t, o->from);
        give_name(t, o->name, o->file);
    } else if (o->kind == REMOVE) {
        drop_name(t, o->name);
    } else if (o->kind == CUT) {
        resize(&t->files[o->file], (size_t)o->offset);
    } else if (o->kind == WRITE && from < to) {
        content *c = &t->files[o->file];
        if (o->offset + to > c->size) resize(c, (size_t)o->offset + to);
        memcpy(c->bytes + o->offset + from, o->bytes + from, to - from);
    }
}

static void free_tree(tree *t) {
    for (size_t i = 0; i < t->count; i++)
        free(t->files[i].bytes);
    free(t->files);
    for (size_t i = 0; i < t->name_count; i++)
        free(t->names[i].name);
    *t = (tree){.count = 0};
}

/* ---- disks ---- */

static velum_test_disk *in_use(void) {
    if (world.disk == NULL) world.disk = need(calloc(1, sizeof *world.disk));
    return world.disk;
}

/* Records and does it; o's bytes and names are the record's from now on. */
static void note(operation o) {
    velum_test_disk *d = in_use();
    if (d->count == d->cap) {
        d->cap = 2 * d->cap + 64;
        d->operations = need(realloc(d->operations, d->cap * sizeof *d->operations));
    }
    d->operations[d->count++] = o;
    apply(&d->tree, &o, 0, o.size);
}

static void note_write(size_t file, uint64_t offset, const void *bytes, size_t n) {
    uint8_t *own = need(malloc(n + 1));
    if (n > 0) memcpy(own, bytes, n);
    note((operation){.kind = WRITE, .file = file, .offset = offset, .bytes = own, .size = n});
}

void velum_test_disk_free(velum_test_disk *d) {
    if (d == NULL) return;
    for (size_t i = 0; i < d->count; i++) {
        free(d->operations[i].name);
        free(d->operations[i].from);
        free(d->operations[i].bytes);
    }
    free(d->operations);
    free_tree(&d->tree);
    free_tree(&d->base);
    free(d);
}

velum_test_disk *velum_test_disk_take(void) {
    velum_test_disk *d = in_use();
    world.disk = NULL;
    for (size_t i = 0; i < OPEN_MAX; i++)
        world.handles[i].file = NOBODY;
    world.space = UINT64_MAX;
    world.failing = false;
    world.sync_err = 0;
    velum_test_disk_hold(false);
    return d;
}

void velum_test_disk_reset(void) {
    demand(velum_test_disk_open() == 0, "something is open at the start");
    velum_test_disk_free(velum_test_disk_take());
}

size_t velum_test_disk_operations(const velum_test_disk *d) {
    return d == NULL ? in_use()->count : d->count;
}

size_t velum_test_disk_bytes(const velum_test_disk *d, size_t operation_index) {
    const operation *o =
        d == NULL ? &in_use()->operations[operation_index] : &d->operations[operation_index];
    return o->kind == WRITE ? o->size : 0;
}

size_t velum_test_disk_open(void) {
    size_t n = 0;
    for (size_t i = 0; i < OPEN_MAX; i++)
        n += (size_t)(world.handles[i].fd != 0) + (size_t)(world.syncers[i] != NULL);
    return n;
}

/* ---- crashes ---- */

void velum_test_disk_seed(uint64_t seed) {
    world.random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
}

static bool of_name(const operation *o) {
    return o->kind == MAKE || o->kind == RENAME || o->kind == REMOVE;
}

/* Decides for each of the first n operations that is not settled whether it is kept; 2: not for
 * certain. Returns how many at the beginning are certain whatever else is kept. */
static size_t decide(const velum_test_disk *d, size_t n, velum_test_keep keep, uint8_t *kept) {
    size_t files = d->tree.count + 1, settled = n;
    size_t *covered = need(calloc(files, sizeof *covered)); /* what lies before is on disk */
    bool *later = need(calloc(files, sizeof *later));       /* something later of it is kept */
    bool later_name = false, certain_name = false;
    for (size_t i = n; i-- > d->settled;) {
        const operation *o = &d->operations[i];
        bool certain, firm;
        if (o->kind == SYNC) {
            if (o->covers > covered[o->file]) covered[o->file] = o->covers;
            continue;
        }
        firm = !o->loose && (of_name(o) || i < covered[o->file]);
        firm = firm || (of_name(o) && certain_name);
        if (!firm) settled = i;
        certain = firm || (of_name(o) && later_name) || (o->kind == CUT && later[o->file]);
        kept[i] = certain ? 1 : keep == VELUM_TEST_KEEP_ALL ? 2 : 0;
        if (!certain && keep == VELUM_TEST_KEEP_SOME) kept[i] = below(2) == 0 ? 2 : 0;
        if (firm && of_name(o)) certain_name = true;
        if (kept[i] && of_name(o)) later_name = true;
        if (kept[i] && !of_name(o)) later[o->file] = true;
    }
    free(covered);
    free(later);
    return settled;
}

/* Copies the files that have a name: no other one gets one again. */
static tree copy_tree(const tree *from) {
    tree t = {.count = from->count};
    t.files = need(calloc(from->count + 1, sizeof *t.files));
    for (size_t i = 0; i < from->name_count; i++) {
        size_t file = from->names[i].file, size = from->files[file].size;
        give_name(&t, from->names[i].name, file);
        resize(&t.files[file], size);
        if (size > 0) memcpy(t.files[file].bytes, from->files[file].bytes, size);
    }
    return t;
}

/* What is settled after n operations becomes so, up to `settled`. */
static void settle(velum_test_disk *d, size_t n, size_t settled) {
    for (; d->settled < settled; d->settled++) {
        const operation *o = &d->operations[d->settled];
        apply(&d->base, o, 0, o->size);
    }
    d->settled_at = n;
}

/* Does what is left of a write: all of it, or a piece, perhaps with the size that all would have.
 */
static void apply_torn(tree *t, const operation *o, size_t most, bool in_pieces) {
    size_t from = 0, to = o->size < most ? o->size : most;
    if (in_pieces && below(2) == 0) {
        content *c = &t->files[o->file];
        size_t end = (size_t)o->offset + to;
        if (below(2) == 0 && end > c->size) resize(c, end);
        to = below(to + 1);
        from = below(2) == 0 ? below(to + 1) : 0;
    }
    apply(t, o, from, to);
}

void velum_test_disk_crash(velum_test_disk *d, size_t n, velum_test_keep keep, size_t torn_bytes) {
    uint8_t *kept = need(calloc(n + 1, 1));
    tree t;
    velum_test_disk_reset();
    if (n < d->settled_at) {
        free_tree(&d->base);
        d->settled = 0;
    }
    settle(d, n, decide(d, n, keep, kept));
    t = copy_tree(&d->base);
    for (size_t i = d->settled; i < n; i++) {
        const operation *o = &d->operations[i];
        if (o->kind == WRITE && kept[i])
            apply_torn(&t, o, i == n - 1 ? torn_bytes : SIZE_MAX,
                       kept[i] == 2 && keep == VELUM_TEST_KEEP_SOME);
        else if (kept[i])
            apply(&t, o, 0, 0);
    }
    free(kept);
    for (size_t i = 0; i < t.name_count; i++) {
        const content *c = &t.files[t.names[i].file];
        note((operation){.kind = MAKE, .file = i, .name = copy_name(t.names[i].name)});
        note_write(i, 0, c->bytes, c->size);
        note((operation){.kind = SYNC, .file = i, .covers = in_use()->count});
    }
    free_tree(&t);
}

/* ---- faults ---- */

void velum_test_disk_space(uint64_t bytes) {
    world.space = bytes;
}

void velum_test_disk_fail(size_t after, int err) {
    world.failing = true;
    world.fail_after = after;
    world.fail_err = err;
}

bool velum_test_disk_failed(void) {
    return !world.failing;
}

void velum_test_disk_fail_syncs(int err) {
    world.sync_err = err;
}

/* The error of this call, or 0. */
static int fault(void) {
    if (!world.failing || world.fail_after-- > 0) return 0;
    world.failing = false;
    return world.fail_err;
}

/* How many bytes more the disk takes: files count that have a name or a handle. */
static uint64_t space_left(void) {
    const tree *t = &in_use()->tree;
    uint64_t used = 0;
    for (size_t i = 0; i < t->count; i++) {
        bool there = false;
        for (size_t j = 0; j < t->name_count; j++)
            there = there || t->names[j].file == i;
        for (size_t j = 0; j < OPEN_MAX; j++)
            there = there || (world.handles[j].fd != 0 && world.handles[j].file == i);
        if (there) used += t->files[i].size;
    }
    return used < world.space ? world.space - used : 0;
}

/* ---- files ---- */

static handle *find_handle(velum_fd fd) {
    for (size_t i = 0; i < OPEN_MAX; i++)
        if (fd != 0 && world.handles[i].fd == fd) return &world.handles[i];
    demand(false, "a handle that is not open");
    return NULL;
}

/* As `fault`, of a call on an open file; whose disk was taken away is dead. */
static int begin_call(velum_fd fd, size_t *file) {
    *file = find_handle(fd)->file;
    return *file == NOBODY ? VELUM_E_SYSTEM : fault();
}

int velum_port_file_open(const char *path, bool make, bool lock, velum_fd *out) {
    tree *t = &in_use()->tree;
    size_t i = find_name(t, path), file;
    int err = fault();
    if (err < 0) return err;
    if (i == NOBODY && !make) return VELUM_E_NOT_FOUND;
    if (i == NOBODY) note((operation){.kind = MAKE, .file = t->count, .name = copy_name(path)});
    file = t->names[find_name(t, path)].file;
    for (i = 0; i < OPEN_MAX; i++)
        if (lock && world.handles[i].fd != 0 && world.handles[i].lock &&
            world.handles[i].file == file)
            return VELUM_E_LOCKED;
    for (i = 0; i < OPEN_MAX && world.handles[i].fd != 0;)
        i++;
    if (i == OPEN_MAX) return VELUM_E_SYSTEM;
    world.handles[i] = (handle){world.next_fd, file, lock, !make && !lock};
    *out = world.next_fd++;
    return 0;
}

int64_t velum_port_file_size(velum_fd fd) {
    size_t file;
    int err = begin_call(fd, &file);
    return err < 0 ? err : (int64_t)in_use()->tree.files[file].size;
}

int velum_port_file_read(velum_fd fd, uint64_t offset, void *buf, size_t n) {
    size_t file;
    int err = begin_call(fd, &file);
    const content *c;
    if (err < 0) return err;
    c = &in_use()->tree.files[file];
    if (offset >= c->size) return 0;
    if (n > c->size - offset) n = c->size - (size_t)offset;
    if (n > INT_MAX) n = INT_MAX;
    memcpy(buf, c->bytes + offset, n);
    return (int)n;
}

int velum_port_file_write(velum_fd fd, uint64_t offset, const void *buf, size_t n) {
    size_t file, size;
    int err = begin_call(fd, &file);
    uint64_t left;
    if (file == NOBODY) return err;
    if (err < 0) {
        note_write(file, offset, buf, n / 2);
        return err;
    }
    size = in_use()->tree.files[file].size;
    demand(!find_handle(fd)->reading, "a write to a file that is open for reading");
    demand(offset <= size, "a write behind the file's end");
    left = space_left();
    if (n - (size - offset < n ? size - (size_t)offset : n) > left) {
        note_write(file, offset, buf, (size_t)(size - offset + left));
        return VELUM_E_NO_SPACE;
    }
    note_write(file, offset, buf, n);
    return 0;
}

int velum_port_file_cut(velum_fd fd, uint64_t size) {
    size_t file;
    int err = begin_call(fd, &file);
    if (err == 0) note((operation){.kind = CUT, .file = file, .offset = size});
    return err;
}

/* What was recorded before `covers` of this file is on disk, or never is for certain. */
static int end_sync(velum_fd fd, size_t covers) {
    velum_test_disk *d = in_use();
    size_t file, done = 0;
    int err = begin_call(fd, &file);
    if (err == 0) err = world.sync_err;
    if (file == NOBODY) return err;
    if (err == 0) note((operation){.kind = SYNC, .file = file, .covers = covers});
    for (size_t i = 0; err < 0 && i < d->count; i++)
        if (d->operations[i].kind == SYNC && d->operations[i].file == file &&
            d->operations[i].covers > done)
            done = d->operations[i].covers;
    for (size_t i = done; err < 0 && i < covers; i++) {
        operation *o = &d->operations[i];
        if (o->file == file && (o->kind == WRITE || o->kind == CUT)) o->loose = true;
    }
    return err;
}

int velum_port_file_sync(velum_fd fd) {
    return end_sync(fd, in_use()->count);
}

void velum_port_file_close(velum_fd fd) {
    for (size_t i = 0; i < OPEN_MAX; i++)
        demand(world.syncers[i] == NULL || world.syncers[i]->state != UNDER_WAY ||
                   world.syncers[i]->file != fd,
               "a file closed while it is synced");
    find_handle(fd)->fd = 0;
}

int velum_port_file_rename(const char *from, const char *to) {
    const tree *t = &in_use()->tree;
    size_t i = find_name(t, from);
    int err = fault();
    if (i == NOBODY) return VELUM_E_NOT_FOUND;
    if (err == 0 || err == VELUM_E_UNCERTAIN)
        note((operation){.kind = RENAME,
                         .file = t->names[i].file,
                         .name = copy_name(to),
                         .from = copy_name(from),
                         .loose = err < 0});
    return err;
}

int velum_port_file_remove(const char *path) {
    size_t i = find_name(&in_use()->tree, path);
    int err = fault();
    if (err < 0 || i == NOBODY) return err;
    note((operation){.kind = REMOVE,
                     .file = in_use()->tree.names[i].file,
                     .name = copy_name(path),
                     .loose = true});
    return 0;
}

/* ---- syncers ---- */

static void finish(velum_port_syncer *s) {
    s->error = end_sync(s->file, s->covers);
    s->state = ENDED;
    if (s->waker != VELUM_NO_FD) velum_port_wake(s->waker);
}

void velum_test_disk_hold(bool hold) {
    world.hold = hold;
    for (size_t i = 0; !hold && i < OPEN_MAX; i++)
        if (world.syncers[i] != NULL && world.syncers[i]->state == UNDER_WAY)
            finish(world.syncers[i]);
}

int velum_port_syncer_open(velum_port_syncer **out, velum_fd waker) {
    int err = fault();
    for (size_t i = 0; err == 0 && i < OPEN_MAX; i++) {
        if (world.syncers[i] != NULL) continue;
        *out = world.syncers[i] = need(calloc(1, sizeof **out));
        (*out)->waker = waker;
        return 0;
    }
    return err < 0 ? err : VELUM_E_SYSTEM;
}

int velum_port_syncer_begin(velum_port_syncer *s, velum_fd file) {
    if (s->state != IDLE) return VELUM_E_BUSY;
    (void)find_handle(file);
    s->state = UNDER_WAY;
    s->file = file;
    s->covers = in_use()->count;
    if (!world.hold) finish(s);
    return 0;
}

int velum_port_syncer_poll(velum_port_syncer *s, int *error) {
    if (s->state != ENDED) return s->state == UNDER_WAY ? 0 : -1;
    s->state = IDLE;
    *error = s->error;
    return 1;
}

void velum_port_syncer_close(velum_port_syncer *s) {
    if (s == NULL) return;
    if (s->state == UNDER_WAY) finish(s);
    for (size_t i = 0; i < OPEN_MAX; i++)
        if (world.syncers[i] == s) world.syncers[i] = NULL;
    free(s);
}
