/* test_kv_crash.c: a node's state after a crash at any point of a long trace of writes.
 *
 * The trace runs once on the test port's disk, which records it: writes of all kinds, through the
 * log into memory; the log written and synced now and then, syncs that take long, compaction, and a
 * disk that is full for a while. Then the crash: behind every operation of the disk, with all that
 * was written, with nothing that was not synced, and with any part of it; and in every write at
 * every byte. Each time the state is opened again and compared with two others: one of all that was
 * acknowledged by then, of which merging must change nothing in it, and one of all that was ever
 * written, in which merging what was found must change nothing. So nothing is lost, and nothing is
 * made up. A disk of any size that fills once is tried as well.
 *
 * `test_kv_crash SEED` replays a run that failed. With VELUM_SOAK=1 the trace has 10,000 writes.
 */
#include "dice.h"
#include "kv_numbers.h"
#include "kv_state.h"
#include "port/test/file_test.h"

#include <stdlib.h>

#define PATH       "logs/state.log"
#define NEW_PATH   PATH ".new"
#define NODE       7u
#define PEER       9u
#define ROOM       ((size_t)16 * 1024 * 1024)
#define NAMES      30u
#define PARTS      6u
#define COPY_BYTES 2000u
#define START_MS   UINT64_C(1790000000000)
#define WRITES     500u
#define SOAK       10000u
#define FAILED_MAX 10  /* it then ends: a fault is met again and again */
#define FULL_STEPS 60u /* on a disk that is full once */
#define FULL_WAIT  12u /* steps that a full disk lasts */

/* What the last writes of a trace have at least: crashes are tried at every byte of them. */
#define TAIL_BYTES 800u

/* Of writes that are longer not every byte is tried. */
#define LONG_WRITE  2000u
#define LONG_STRIDE 13u

static uint64_t seed = 1;
static size_t writes_max = WRITES; /* of a trace */
static uint64_t now_ms = START_MS;

/* ---- all that was ever written ---- */

typedef struct {
    velum_kv_record record; /* with bytes of its own */
    uint8_t *bytes;
    uint64_t end; /* of its line; places only grow */
} written;

static written *history;
static size_t *by_stamp; /* numbers in it, in the order of stamps */
static size_t count, cap;
static velum_kv_state *kv;

static velum_kv_bytes keep(uint8_t **to, velum_kv_bytes bytes) {
    velum_kv_bytes kept = {*to, bytes.size};
    if (bytes.size > 0) memcpy(*to, bytes.data, bytes.size);
    *to += bytes.size;
    return kept;
}

/* The state has logged and merged a record. */
static void wrote(void *owner, const velum_kv_record *record, bool own) {
    written *w;
    uint8_t *to;
    if (owner == NULL) return; /* not in the trace */
    (void)own;
    if (count == cap) {
        cap = 2 * cap + 1000;
        history = realloc(history, cap * sizeof *history);
        if (history == NULL) abort();
    }
    w = &history[count++];
    w->record = *record;
    w->bytes = to = malloc(record->key.size + record->part.size + record->value.size);
    if (to == NULL) abort();
    w->record.key = keep(&to, record->key);
    w->record.part = keep(&to, record->part);
    w->record.value = keep(&to, record->value);
    w->end = velum_kv_log_get_figures(velum_kv_state_log(kv)).taken;
}

static void forget_history(void) {
    for (size_t i = 0; i < count; i++)
        free(history[i].bytes);
    count = 0;
}

static int compare_records(const velum_kv_record *a, const velum_kv_record *b) {
    int order = velum_kv_compare(a->stamp, b->stamp);
    return order != 0 ? order : (a->op > b->op) - (a->op < b->op);
}

static int compare_numbers(const void *a, const void *b) {
    return compare_records(&history[*(const size_t *)a].record,
                           &history[*(const size_t *)b].record);
}

static int compare_to_number(const void *record, const void *number) {
    return compare_records(record, &history[*(const size_t *)number].record);
}

static void sort_history(void) {
    by_stamp = realloc(by_stamp, (count + 1) * sizeof *by_stamp);
    if (by_stamp == NULL) abort();
    for (size_t i = 0; i < count; i++)
        by_stamp[i] = i;
    qsort(by_stamp, count, sizeof *by_stamp, compare_numbers);
}

static bool was_written(const velum_kv_record *record) {
    const size_t *number = bsearch(record, by_stamp, count, sizeof *by_stamp, compare_to_number);
    return number != NULL && same(&history[*number].record, record);
}

/* ---- the state ---- */

static uint64_t clock_ms(void *owner) {
    (void)owner;
    return now_ms;
}

/* Any owner but NULL: what is written goes into the history. */
static int open_state(void *owner, velum_kv_found *found) {
    velum_kv_config config = {.node = NODE,
                              .room_bytes = ROOM,
                              .waker = VELUM_NO_FD,
                              .owner = owner,
                              .wrote = wrote,
                              .unix_ms = clock_ms};
    return velum_kv_state_open(&kv, &config, PATH, found);
}

static void close_state(void) {
    velum_kv_state_close(kv);
    kv = NULL;
}

static velum_kv_log_figures figures(void) {
    return velum_kv_log_get_figures(velum_kv_state_log(kv));
}

static bool exists(const char *path) {
    velum_fd fd;
    int r = velum_port_file_open(path, false, false, &fd);
    if (r == 0) velum_port_file_close(fd);
    return r == 0;
}

/* ---- one write ---- */

static const velum_kv_op kinds[] = {
    VELUM_KV_SET, VELUM_KV_SET, VELUM_KV_DEL,    VELUM_KV_EXPIRE, VELUM_KV_COUNT, VELUM_KV_COUNT,
    VELUM_KV_ADD, VELUM_KV_ADD, VELUM_KV_REMOVE, VELUM_KV_FIELD,  VELUM_KV_FIELD, VELUM_KV_UNFIELD};

typedef struct {
    char key[16], part[8];
    uint8_t value[300];
} memory;

/* A record that may be; false: there is nothing to remove or to count from. */
static bool draw_record(velum_kv_record *r, memory *m) {
    uint64_t draw = (uint64_t)below(SIZE_MAX >> 33);
    velum_kv_view view;
    memset(r, 0, sizeof *r);
    r->op = kinds[below(sizeof kinds / sizeof *kinds)];
    r->key.data = (const uint8_t *)m->key;
    r->key.size = (size_t)snprintf(m->key, sizeof m->key, "fleet/%u", (unsigned)below(NAMES));
    (void)velum_kv_state_look(kv, r->key, &view); /* what has expired is deleted here */
    if (r->op >= VELUM_KV_ADD) {
        r->part.data = (const uint8_t *)m->part;
        r->part.size = (size_t)snprintf(m->part, sizeof m->part, "p %u", (unsigned)below(PARTS));
    }
    if (r->op == VELUM_KV_SET || r->op == VELUM_KV_FIELD) {
        r->value = (velum_kv_bytes){m->value, chance(30) ? sizeof m->value : below(20)};
        fill(m->value, r->value.size, &draw);
    }
    if (r->op == VELUM_KV_EXPIRE || (r->op == VELUM_KV_SET && chance(4)))
        r->until_ms = now_ms + 1 + below(4000);
    if (r->op == VELUM_KV_SET) r->json = chance(3);
    if (r->op == VELUM_KV_COUNT) {
        r->of = view.base;
        r->sum = (int64_t)below(2000) - 1000;
        return view.type == VELUM_KV_BYTES || view.type == VELUM_KV_COUNTER;
    }
    return r->op != VELUM_KV_REMOVE ||
           velum_kv_member(velum_kv_state_keys(kv), r->key, r->part, &r->of);
}

/* Writes something, or hears it; what the state says. */
static int write_something(void) {
    memory m;
    velum_kv_record r;
    now_ms += below(30);
    if (!draw_record(&r, &m)) return 0;
    if (!chance(4)) return velum_kv_state_write(kv, &r, NULL);
    r.stamp = (velum_kv_stamp){((now_ms - below(2000)) << 16 | (2 * count & 0xffff)), PEER};
    return velum_kv_state_hear(kv, &r);
}

/* ---- the trace ---- */

/* What was promised when so many operations of the disk had been recorded: the ends of what was
 * acknowledged then, and how many records there were. */
typedef struct {
    size_t operations;
    uint64_t written, synced;
    size_t count;
} promise;

static promise *promises;
static size_t promise_count;
static velum_kv_walk walk;
static bool walked;
static bool full;    /* the disk is */
static bool refused; /* it was, and the log has not been written since */

static void note_promise(void) {
    velum_kv_log_figures f = figures();
    promises[promise_count++] =
        (promise){velum_test_disk_operations(NULL), f.written, f.synced, count};
}

static void keep_record(void *owner, const velum_kv_record *record) {
    int *r = owner;
    if (*r == 0) *r = velum_kv_log_keep(velum_kv_state_log(kv), record);
}

/* A bounded piece of a compaction, as the owner of a state does it. */
static int step_compaction(void) {
    velum_kv_log *log = velum_kv_state_log(kv);
    int r = 0;
    if (!figures().compacting) {
        walk = (velum_kv_walk){0};
        walked = false;
        return velum_kv_log_compact(log);
    }
    if (chance(40)) {
        velum_kv_log_abandon(log);
        return 0;
    }
    if (walked) return velum_kv_log_replace(log, COPY_BYTES);
    walked = !velum_kv_step(velum_kv_state_keys(kv), &walk, 1 + below(6), keep_record, &r);
    return r;
}

static void step_disk(void) {
    if (!full && chance(60)) {
        full = true;
        velum_test_disk_space(figures().file_bytes + below(200));
    } else if (full && chance(FULL_WAIT)) {
        full = false;
        velum_test_disk_space(UINT64_MAX);
    }
}

static void step(bool compacting, bool filling) {
    size_t what = below(20);
    int r = 0;
    if (what < 8) {
        for (size_t n = 1 + below(2); n > 0 && r >= 0; n--)
            r = write_something();
        CHECK(r >= 0 || (refused && r == VELUM_E_NO_SPACE));
        return;
    }
    if (what < 13) {
        r = velum_kv_log_write(velum_kv_state_log(kv));
        refused = r < 0;
    } else if (what < 15) {
        r = velum_kv_log_sync(velum_kv_state_log(kv));
    } else if (what < 16) {
        velum_test_disk_hold(chance(2));
    } else if (compacting) {
        r = step_compaction();
    }
    CHECK(r >= 0 || (full && r == VELUM_E_NO_SPACE));
    if (filling) step_disk();
}

static velum_test_disk *run_trace(bool compacting, bool filling) {
    velum_kv_found found;
    velum_test_disk *disk;
    size_t steps = 10 * writes_max;
    velum_test_disk_reset();
    forget_history();
    full = refused = false;
    now_ms = START_MS;
    promises = realloc(promises, (steps + 2) * sizeof *promises);
    if (promises == NULL) abort();
    promise_count = 0;
    CHECK_EQ(open_state(&kv, &found), 0);
    note_promise();
    for (size_t i = 0; i < steps && count < writes_max; i++) {
        step(compacting, filling);
        velum_kv_log_poll(velum_kv_state_log(kv));
        note_promise();
    }
    CHECK(count >= writes_max);
    disk = velum_test_disk_take();
    close_state();
    sort_history();
    return disk;
}

/* ---- crashes ---- */

/* The state of the history's records that end at or before `end`, as it grows. */
typedef struct {
    velum_kv *kv;
    size_t next;
} shadow;

static void open_shadow(shadow *s) {
    s->next = 0;
    if (velum_kv_open(&s->kv, ROOM) < 0) abort();
}

static void grow(shadow *s, uint64_t end, size_t max) {
    for (; s->next < max && history[s->next].end <= end; s->next++)
        CHECK(velum_kv_merge(s->kv, &history[s->next].record) >= 0);
}

static size_t lost, made_up, crashes;

/* A record that was acknowledged: it is in the state, or something later that hides it. */
static void must_be_there(void *owner, const velum_kv_record *record) {
    (void)owner;
    lost += velum_kv_state_hear(kv, record) != 0;
}

/* A record of the state: it was written, or something later that hides it. */
static void must_be_written(void *owner, const velum_kv_record *record) {
    made_up += !was_written(record) || velum_kv_merge(owner, record) != 0;
}

static void walk_all(const velum_kv *keys,
                     void (*record)(void *owner, const velum_kv_record *record), void *owner) {
    velum_kv_walk all = {0};
    while (velum_kv_step(keys, &all, 1000, record, owner)) {
    }
}

static uint64_t root_sum(const velum_kv *keys) {
    uint64_t sums[VELUM_KV_FANOUT], all = 0;
    CHECK_EQ(velum_kv_sums(keys, 0, 0, sums), 0);
    for (size_t i = 0; i < VELUM_KV_FANOUT; i++)
        all ^= sums[i];
    return all;
}

/* Goes on after a crash: what is written now is there after the next one. */
static void go_on(void) {
    velum_test_disk *disk;
    velum_kv_found found;
    uint64_t sum;
    for (size_t i = 0; i < 3; i++)
        CHECK(write_something() >= 0);
    sum = root_sum(velum_kv_state_keys(kv));
    close_state();
    disk = velum_test_disk_take();
    velum_test_disk_crash(disk, velum_test_disk_operations(disk), VELUM_TEST_KEEP_SYNCED, SIZE_MAX);
    velum_test_disk_free(disk);
    CHECK_EQ(open_state(NULL, &found), 0);
    CHECK_EQ(found.torn_bytes, 0);
    CHECK(root_sum(velum_kv_state_keys(kv)) == sum);
}

static void recover(const shadow *low, const shadow *high, bool whole) {
    velum_kv_found found;
    size_t lost_before = lost, made_up_before = made_up;
    crashes++;
    CHECK_EQ(open_state(NULL, &found), 0);
    if (kv == NULL) return;
    walk_all(velum_kv_state_keys(kv), must_be_written, high->kv);
    walk_all(low->kv, must_be_there, NULL);
    CHECK_EQ(lost, lost_before);
    CHECK_EQ(made_up, made_up_before);
    CHECK_EQ(found.plain, 0);
    if (whole) CHECK(found.damaged == 0 && found.torn_bytes == 0);
    CHECK(!exists(NEW_PATH));
    if (crashes % 16 == 0) go_on();
    close_state();
}

/* In operation n, if it is a write: at every byte, of a long one (a compaction's) at some. */
static void crash_in(velum_test_disk *disk, size_t n, const shadow *logged, const shadow *all) {
    size_t size = velum_test_disk_bytes(disk, n - 1), stride = size > LONG_WRITE ? LONG_STRIDE : 1;
    for (size_t torn = 0; torn < size && check_failed_count < FAILED_MAX; torn += stride) {
        velum_test_disk_crash(disk, n, VELUM_TEST_KEEP_ALL, torn);
        recover(logged, all, false);
    }
}

static void crash_behind(velum_test_disk *disk, size_t n, const shadow *logged,
                         const shadow *synced, const shadow *all, bool whole) {
    for (int mode = VELUM_TEST_KEEP_ALL; mode <= VELUM_TEST_KEEP_SOME; mode++) {
        bool killed = mode == VELUM_TEST_KEEP_ALL;
        velum_test_disk_seed(seed + n);
        velum_test_disk_crash(disk, n, (velum_test_keep)mode, SIZE_MAX);
        recover(killed ? logged : synced, all, killed && whole);
    }
}

/* Behind which operation the last writes begin. */
static size_t tail_of(const velum_test_disk *disk) {
    size_t n = velum_test_disk_operations(disk), bytes = 0;
    while (n > 0 && bytes < TAIL_BYTES)
        bytes += velum_test_disk_bytes(disk, --n);
    return n;
}

/* All crashes of a trace; those in writes only in its tail, unless it is to be all of them. */
static void test_crashes(const char *name, bool compacting, bool filling, bool all_bytes) {
    velum_test_disk *disk = run_trace(compacting, filling);
    size_t operations = velum_test_disk_operations(disk), p = 0;
    size_t tail = all_bytes ? 0 : tail_of(disk);
    int failed_before = check_failed_count;
    shadow logged, synced, all;
    open_shadow(&logged);
    open_shadow(&synced);
    open_shadow(&all);
    crashes = 0;
    for (size_t n = promises[0].operations; n <= operations && check_failed_count < FAILED_MAX;
         n++) {
        grow(&all, UINT64_MAX, p + 1 < promise_count ? promises[p + 1].count : count);
        if (n > tail) crash_in(disk, n, &logged, &all);
        while (p + 1 < promise_count && promises[p + 1].operations <= n)
            p++;
        grow(&logged, promises[p].written, count);
        grow(&synced, promises[p].synced, count);
        crash_behind(disk, n, &logged, &synced, &all, !filling);
    }
    printf("%s: %zu writes, %zu operations of the disk, %zu crashes\n", name, count, operations,
           crashes);
    if (check_failed_count > failed_before) printf("seed %llu\n", (unsigned long long)seed);
    velum_kv_close(logged.kv);
    velum_kv_close(synced.kv);
    velum_kv_close(all.kv);
    velum_test_disk_free(disk);
}

/* ---- a full disk ---- */

/* The last write of the log has met it. */
static void check_full(void) {
    velum_kv_log *log = velum_kv_state_log(kv);
    uint64_t sum = root_sum(velum_kv_state_keys(kv)), end = figures().written;
    velum_kv_record more = {.op = VELUM_KV_SET, .key = {(const uint8_t *)"more", 4}};
    CHECK_EQ(velum_kv_state_write(kv, &more, NULL), VELUM_E_NO_SPACE);
    CHECK(root_sum(velum_kv_state_keys(kv)) == sum); /* it is nowhere */
    CHECK_EQ(velum_kv_log_write(log), VELUM_E_NO_SPACE);
    CHECK_EQ(figures().written, end);
    velum_test_disk_space(UINT64_MAX);
    CHECK_EQ(velum_kv_log_write(log), 0); /* as its owner tries every round */
    CHECK_EQ(figures().written, figures().taken);
}

/* All of a compaction; 1, or its error. */
static int compact(void) {
    int r = velum_kv_log_compact(velum_kv_state_log(kv));
    walk = (velum_kv_walk){0};
    for (bool more = true; r == 0 && more;)
        more = velum_kv_step(velum_kv_state_keys(kv), &walk, 1, keep_record, &r);
    while (r == 0)
        r = velum_kv_log_replace(velum_kv_state_log(kv), COPY_BYTES);
    return r;
}

/* A disk of that many bytes, and more once it was full: true if it was. */
static bool test_full_disk(uint64_t space) {
    velum_kv_found found;
    bool met = false;
    uint64_t sum;
    velum_test_disk_reset();
    forget_history();
    state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    now_ms = START_MS;
    velum_test_disk_space(space);
    CHECK_EQ(open_state(&kv, &found), 0);
    for (size_t i = 0; i < FULL_STEPS; i++) {
        int r;
        CHECK(write_something() >= 0);
        r = velum_kv_log_write(velum_kv_state_log(kv));
        CHECK(r == 0 || (r == VELUM_E_NO_SPACE && !met));
        if (r < 0) check_full();
        met = met || r < 0;
        if (i % (FULL_STEPS / 3) == 0) {
            r = compact();
            CHECK(r == 1 || (r == VELUM_E_NO_SPACE && !met));
            CHECK(!figures().compacting && !exists(NEW_PATH));
        }
    }
    sum = root_sum(velum_kv_state_keys(kv));
    close_state();
    CHECK_EQ(open_state(NULL, &found), 0);
    CHECK(root_sum(velum_kv_state_keys(kv)) == sum);
    CHECK(found.damaged == 0 && found.torn_bytes == 0);
    close_state();
    return met;
}

int main(int argc, char **argv) {
    const char *soak = getenv("VELUM_SOAK");
    bool whole = soak != NULL && strcmp(soak, "1") == 0;
    if (argc > 1) seed = strtoull(argv[1], NULL, 10);
    state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    if (whole) writes_max = SOAK;
    test_crashes("appending", false, false, false);
    test_crashes("compacting", true, false, whole);
    test_crashes("on a disk that fills", true, true, false);
    for (uint64_t space = 0; test_full_disk(space) && check_failed_count < FAILED_MAX;)
        space += whole ? 1 : 5;
    forget_history();
    free(history);
    free(by_stamp);
    free(promises);
    velum_test_disk_reset();
    return check_report("kv_crash");
}
