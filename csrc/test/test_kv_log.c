/* test_kv_log.c: a log on the test port's disk: what comes back, after a crash at any point too.
 *
 * Records are made from their number, which is their stamp, so whatever a log gives back is
 * compared with what was appended. Random runs come from a seed, printed when they fail:
 * `test_kv_log SEED` replays them.
 */
#include "dice.h"
#include "kv_log.h"
#include "kv_numbers.h"
#include "port/test/file_test.h"

#include <stdlib.h>

#define PATH        "logs/state.log"
#define NEW_PATH    PATH ".new"
#define RECORDS_MAX 6000u
#define STEPS       1200u
#define TAIL_BYTES  2500u

static uint64_t seed = 1;

/* ---- what a log gives back ---- */

static velum_kv_log *kv_log;
static velum_kv_found found;
static size_t appended; /* numbers below were */
static uint8_t met[RECORDS_MAX];
static uint64_t offsets[RECORDS_MAX];
static size_t strange; /* records that were never appended */
static size_t plain;

static void meet(void *owner, const velum_kv_record *record, uint64_t offset) {
    made m;
    size_t number = (size_t)record->stamp.time - 1;
    CHECK(owner == &kv_log);
    if (record->stamp.node == 0) {
        plain++;
    } else if (number >= appended || !same(record, make_record(number, &m))) {
        strange++;
    } else {
        met[number]++;
        offsets[number] = offset;
    }
}

static int open_log(void) {
    memset(met, 0, sizeof met);
    strange = plain = 0;
    return velum_kv_log_open(&kv_log, PATH, VELUM_NO_FD, meet, &kv_log, &found);
}

static void close_log(void) {
    velum_kv_log_close(kv_log);
    kv_log = NULL;
}

static int append(void) {
    made m;
    uint64_t at;
    int r = velum_kv_log_append(kv_log, make_record(appended, &m), &at);
    if (r == 0) {
        CHECK_EQ(at, velum_kv_log_get_figures(kv_log).taken);
        appended++;
    }
    return r;
}

/* Appends one and begins to bring it to disk; what the sync says. */
static int sync_one(void) {
    CHECK_EQ(append(), 0);
    CHECK_EQ(velum_kv_log_write(kv_log), 0);
    return velum_kv_log_sync(kv_log);
}

/* Appends so many and brings them to disk. */
static void add(size_t n) {
    for (size_t i = 0; i < n; i++)
        CHECK_EQ(append(), 0);
    CHECK_EQ(velum_kv_log_write(kv_log), 0);
    CHECK_EQ(velum_kv_log_sync(kv_log), 0);
    velum_kv_log_poll(kv_log);
}

static void start(size_t n) {
    velum_test_disk_reset();
    appended = 0;
    CHECK_EQ(open_log(), 0);
    add(n);
}

/* Opens again: each of the numbers from..to is there `times` times. */
static void expect(size_t from, size_t to, unsigned times) {
    CHECK_EQ(open_log(), 0);
    for (size_t i = from; i < to; i++)
        CHECK_EQ(met[i], times);
    CHECK_EQ(strange, 0);
    CHECK_EQ(found.damaged, 0);
    CHECK_EQ(found.torn_bytes, 0);
}

static bool exists(const char *path) {
    velum_fd fd;
    int r = velum_port_file_open(path, false, false, &fd);
    if (r == 0) velum_port_file_close(fd);
    return r == 0;
}

/* ---- ordinary days ---- */

static void test_round_trip(void) {
    velum_kv_log_figures f;
    uint64_t bytes;
    start(500);
    f = velum_kv_log_get_figures(kv_log);
    bytes = f.file_bytes;
    CHECK(f.taken == bytes && f.written == bytes && f.synced == bytes);
    CHECK(!f.syncing && !f.compacting && !f.broken);
    CHECK_EQ(append(), 0); /* closing writes and syncs it */
    close_log();
    CHECK_EQ(velum_test_disk_open(), 0);
    expect(0, 501, 1);
    CHECK_EQ(found.records, 501);
    CHECK_EQ(found.plain, 0);
    CHECK_EQ(offsets[0], 0);
    CHECK_EQ(offsets[500], bytes);
    for (size_t i = 1; i < 501; i++)
        CHECK(offsets[i] > offsets[i - 1]);
    f = velum_kv_log_get_figures(kv_log);
    CHECK(f.synced == f.file_bytes && f.live_bytes == f.file_bytes && f.file_bytes > bytes);
    close_log();
    velum_kv_log_close(NULL);
}

static void test_lock(void) {
    velum_kv_log *other = NULL;
    velum_kv_found ignored;
    start(5);
    CHECK_EQ(velum_kv_log_open(&other, PATH, VELUM_NO_FD, meet, NULL, &ignored), VELUM_E_LOCKED);
    CHECK_EQ(velum_kv_log_compact(kv_log), 0);
    CHECK_EQ(velum_kv_log_compact(kv_log), VELUM_E_BUSY);
    CHECK_EQ(velum_kv_log_open(&other, PATH, VELUM_NO_FD, meet, NULL, &ignored), VELUM_E_LOCKED);
    CHECK(exists(NEW_PATH)); /* only who has the lock removes it */
    CHECK_EQ(velum_kv_log_replace(kv_log, 1000), 1);
    CHECK_EQ(velum_kv_log_open(&other, PATH, VELUM_NO_FD, meet, NULL, &ignored), VELUM_E_LOCKED);
    close_log();
    CHECK_EQ(velum_test_disk_open(), 0);
}

/* The test's own hand in a file; not synced. */
static void put(const char *path, uint64_t offset, const void *bytes, size_t n) {
    velum_fd fd;
    CHECK_EQ(velum_port_file_open(path, true, false, &fd), 0);
    CHECK_EQ(velum_port_file_write(fd, offset, bytes, n), 0);
    velum_port_file_close(fd);
}

static void test_damage(void) {
    size_t n = 2 * (size_t)VELUM_KV_LINE_BYTES_MAX, size;
    char *line = malloc(n);
    if (line == NULL) abort();
    start(50);
    close_log();
    expect(0, 50, 1);
    size = (size_t)velum_kv_log_get_figures(kv_log).file_bytes;
    close_log();
    put(PATH, offsets[20] + 2, "X", 1);
    put(PATH, offsets[30] + 2, "X", 1);
    CHECK_EQ(open_log(), 0);
    CHECK_EQ(found.records, 48);
    CHECK_EQ(found.damaged, 2);
    CHECK_EQ(found.first_damaged, offsets[20]);
    CHECK_EQ(found.torn_bytes, 0);
    CHECK(met[19] && !met[20] && met[21] && met[29] && !met[30] && met[31] && strange == 0);
    close_log();
    put(PATH, offsets[48] + 2, "X", 1); /* two at the end: torn */
    put(PATH, offsets[49] + 2, "X", 1);
    CHECK_EQ(open_log(), 0);
    CHECK_EQ(found.records, 46);
    CHECK_EQ(found.damaged, 2);
    CHECK_EQ(found.torn_bytes, size - offsets[48]);
    close_log();
    CHECK_EQ(open_log(), 0);
    CHECK_EQ(found.torn_bytes, 0);
    CHECK_EQ(velum_kv_log_get_figures(kv_log).file_bytes, offsets[48]);
    close_log();
    memset(line, 'z', n); /* longer than any line, its end too, and then plain ones */
    memcpy(line + n - 20, "e=f\na=b\ng=h\ni=j\nc=dd", 20);
    put(PATH, offsets[48], line, n);
    CHECK_EQ(open_log(), 0);
    CHECK_EQ(found.records, 49);
    CHECK_EQ(found.damaged, 3);
    CHECK(found.plain == 3 && plain == 3);
    CHECK_EQ(found.torn_bytes, 4); /* c=dd has no line feed */
    add(3);
    close_log();
    CHECK_EQ(open_log(), 0);
    CHECK(met[50] && met[51] && met[52] && strange == 0 && found.torn_bytes == 0);
    close_log();
    free(line);
}

/* What is no log is not opened as one, and not changed; what a crash has left of one is. */
static void test_no_log(void) {
    static const char *const others[] = {"# Notes\n",
                                         "Dear all,\n\nthe robots have gone home.\n",
                                         "\x89PNG\r\n\x1a\n",
                                         "\x7f"
                                         "ELF\x02\x01\x01",
                                         "\t@echo the robots are at home\n",
                                         "#!/bin/sh\nls #1234567\n",
                                         "\xff\xfe\n"};
    static const char *const logs[] = {"",
                                       "k=v",
                                       "k=v\n",
                                       "torn in its first lin",
                                       "# Notes\nk=v\n",
                                       "k=v\t@0199f3a1c2000000-7 set #00000000\n",
                                       "k=v\t@0199f3a1c2000000-7 set #1a8a\n",
                                       "damaged much #0123abcd\n"};
    char bytes[200];
    velum_fd fd;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        size_t n = strlen(others[i]);
        velum_test_disk_reset();
        put(PATH, 0, others[i], n);
        put(NEW_PATH, 0, "kept", 4);
        CHECK_EQ(open_log(), VELUM_E_NOT_A_LOG);
        CHECK(exists(NEW_PATH));
        CHECK_EQ(velum_port_file_open(PATH, false, false, &fd), 0);
        CHECK_EQ(velum_port_file_read(fd, 0, bytes, sizeof bytes), n);
        CHECK(memcmp(bytes, others[i], n) == 0);
        velum_port_file_close(fd);
    }
    for (size_t i = 0; i < sizeof logs / sizeof *logs; i++) {
        velum_test_disk_reset();
        put(PATH, 0, logs[i], strlen(logs[i]));
        CHECK_EQ(open_log(), 0);
        close_log();
    }
    velum_test_disk_reset(); /* a hole in place of the first lines */
    memset(bytes, 0, sizeof bytes);
    put(PATH, 0, bytes, sizeof bytes);
    put(PATH, sizeof bytes, "k=v\t@0199f\n", 12);
    CHECK_EQ(open_log(), 0);
    close_log();
    velum_test_disk_reset();
    memset(bytes, 'x', sizeof bytes); /* a first line that is longer than what is looked at */
    for (uint64_t at = 0; at < 100000; at += sizeof bytes)
        put(PATH, at, bytes, sizeof bytes);
    CHECK_EQ(open_log(), 0);
    close_log();
}

/* What a killed process has left in the system's memory is on disk once the log is open. */
static void test_synced_at_open(void) {
    velum_test_disk *disk;
    uint64_t bytes;
    start(3);
    bytes = velum_kv_log_get_figures(kv_log).file_bytes;
    close_log();
    put(PATH, bytes, "a=b\n", 4);
    CHECK_EQ(open_log(), 0);
    CHECK_EQ(plain, 1);
    CHECK_EQ(velum_kv_log_get_figures(kv_log).synced, bytes + 4);
    disk = velum_test_disk_take();
    close_log();
    velum_test_disk_crash(disk, velum_test_disk_operations(disk), VELUM_TEST_KEEP_SYNCED, SIZE_MAX);
    expect(0, 3, 1);
    CHECK_EQ(plain, 1);
    close_log();
    velum_test_disk_free(disk);
}

/* ---- errors ---- */

static void test_full_disk(void) {
    uint64_t bytes;
    start(20);
    bytes = velum_kv_log_get_figures(kv_log).file_bytes;
    velum_test_disk_space(bytes + 30);
    for (size_t i = 0; i < 3; i++)
        CHECK_EQ(append(), 0);
    CHECK_EQ(velum_kv_log_write(kv_log), VELUM_E_NO_SPACE);
    CHECK_EQ(velum_kv_log_get_figures(kv_log).written, bytes);
    CHECK_EQ(append(), VELUM_E_FULL);
    CHECK_EQ(velum_kv_log_sync(kv_log), 0);
    velum_test_disk_fail(1, VELUM_E_SYSTEM); /* what is half there cannot even be cut off */
    CHECK_EQ(velum_kv_log_write(kv_log), VELUM_E_NO_SPACE);
    CHECK(velum_test_disk_failed());
    velum_test_disk_space(UINT64_MAX);
    CHECK_EQ(velum_kv_log_write(kv_log), 0);
    add(2);
    velum_test_disk_space(0); /* and now they are told that it failed */
    CHECK_EQ(append(), 0);
    CHECK_EQ(velum_kv_log_write(kv_log), VELUM_E_NO_SPACE);
    velum_kv_log_take_back(kv_log, velum_kv_log_get_figures(kv_log).written);
    appended--;
    CHECK_EQ(velum_kv_log_get_figures(kv_log).taken, velum_kv_log_get_figures(kv_log).written);
    CHECK_EQ(append(), VELUM_E_FULL);
    velum_test_disk_space(UINT64_MAX);
    CHECK_EQ(velum_kv_log_write(kv_log), 0);
    appended++; /* a number is used once */
    add(4);
    close_log();
    expect(0, 25, 1);
    CHECK_EQ(met[25], 0);
    CHECK(met[26] && met[29]);
    close_log();
}

/* Whatever fails while it opens: it says so, holds nothing, and the next time it is all there. */
static void test_failed_open(void) {
    size_t after = 0;
    for (bool ended = false; !ended; after++) {
        int r;
        start(10);
        close_log();
        velum_test_disk_fail(after, VELUM_E_SYSTEM);
        r = open_log();
        ended = !velum_test_disk_failed();
        if (r == 0)
            close_log();
        else
            CHECK_EQ(r, VELUM_E_SYSTEM);
        CHECK_EQ(velum_test_disk_open(), 0);
        velum_test_disk_fail(SIZE_MAX, 0);
        expect(0, 10, 1);
        close_log();
    }
    CHECK(after > 5);
}

/* ---- compaction ---- */

/* Keeps the latest of each key below `end`; 0, or the first error. */
static int begin_compaction(size_t end) {
    int r = velum_kv_log_compact(kv_log);
    for (size_t key = 0; key < KEYS && r == 0; key++) {
        made m;
        size_t number = end;
        while (number > 0 && key_of(number - 1) != key)
            number--;
        if (number > 0) r = velum_kv_log_keep(kv_log, make_record(number - 1, &m));
    }
    return r;
}

/* A whole one, while something is appended if it can be: the first error, or 1. */
static int compact(size_t end, size_t copy_bytes) {
    int r = begin_compaction(end);
    if (r == 0 && append() == 0) r = velum_kv_log_write(kv_log);
    while (r == 0)
        r = velum_kv_log_replace(kv_log, copy_bytes);
    return r;
}

static void test_compaction(void) {
    velum_kv_log_figures before, after;
    static const char left[20000] = "left";
    start(400);
    before = velum_kv_log_get_figures(kv_log);
    put(NEW_PATH, 0, left, sizeof left); /* of one that could not be removed */
    CHECK_EQ(velum_kv_log_keep(kv_log, NULL), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_kv_log_replace(kv_log, 1), VELUM_E_ARGUMENT);
    CHECK_EQ(compact(400, 7), 1);
    after = velum_kv_log_get_figures(kv_log);
    CHECK(after.file_bytes < before.file_bytes && after.live_bytes == after.file_bytes);
    CHECK(after.written > before.written && after.synced == after.written);
    CHECK(!after.compacting && !exists(NEW_PATH));
    add(3);
    close_log();
    expect(400, 404, 1);
    CHECK_EQ(found.records, KEYS + 4);
    close_log();
}

/* Syncs that take long: of the log while its file is replaced, and of the new file. */
static void test_compaction_among_syncs(void) {
    velum_kv_log_figures f;
    start(100);
    CHECK_EQ(velum_kv_log_compact(kv_log), 0);
    velum_test_disk_hold(true);
    CHECK_EQ(sync_one(), 0);
    CHECK(velum_kv_log_get_figures(kv_log).syncing);
    CHECK_EQ(velum_kv_log_replace(kv_log, 1000), 0);
    CHECK_EQ(velum_kv_log_replace(kv_log, 1000), 0);
    velum_test_disk_hold(false);
    velum_test_disk_hold(true);
    velum_kv_log_poll(kv_log);
    CHECK_EQ(sync_one(), 0);
    CHECK_EQ(velum_kv_log_replace(kv_log, 100000), 1);
    f = velum_kv_log_get_figures(kv_log);
    CHECK(f.syncing && f.synced == f.written); /* the old file's is still under way */
    CHECK_EQ(append(), 0);
    CHECK_EQ(velum_kv_log_write(kv_log), 0);
    velum_test_disk_fail_syncs(VELUM_E_SYSTEM); /* what becomes of the old file is nothing to us */
    velum_test_disk_hold(false);
    velum_test_disk_fail_syncs(0);
    velum_kv_log_poll(kv_log);
    f = velum_kv_log_get_figures(kv_log);
    CHECK(!f.syncing && !f.broken && f.synced < f.written);
    CHECK_EQ(velum_kv_log_sync(kv_log), 0);
    CHECK_EQ(velum_kv_log_get_figures(kv_log).synced, f.written);
    close_log();
    expect(100, 103, 1);
    close_log();
}

/* Bytes of the writes that were recorded since there were `before` operations. */
static size_t bytes_since(size_t before) {
    size_t bytes = 0;
    for (; before < velum_test_disk_operations(NULL); before++)
        bytes += velum_test_disk_bytes(NULL, before);
    return bytes;
}

/* Fills the log with long lines. */
static void grow(size_t records) {
    made m;
    uint64_t at;
    for (size_t i = 0; i < records; i++)
        CHECK_EQ(velum_kv_log_append(kv_log, make_record(0, &m), &at), 0);
    CHECK_EQ(velum_kv_log_write(kv_log), 0);
}

/* No call writes more than its bound, whatever comes meanwhile, and the last one, which waits for
 * the disk, has as little left to sync. */
static void test_compaction_pauses(void) {
    const size_t kept = 800, bound = 300u << 10, copied = 100u << 10;
    size_t unsynced = 0, most = 0, steps = 0;
    made m;
    int r = 0;
    start(0);
    appended = 1;
    grow(kept);
    CHECK_EQ(velum_kv_log_compact(kv_log), 0);
    for (size_t i = 0; i < kept; i++) {
        size_t before = velum_test_disk_operations(NULL), bytes;
        CHECK_EQ(velum_kv_log_keep(kv_log, make_record(0, &m)), 0);
        bytes = bytes_since(before);
        most = bytes > most ? bytes : most;
    }
    CHECK(most > 0 && most < bound);
    most = 0;
    for (; r == 0 && steps < 1000; steps++) {
        size_t before, bytes;
        if (steps < 20) grow(steps % 10 == 0 ? 100 : 10);
        velum_test_disk_hold(steps % 4 > 0); /* a sync lasts some steps */
        velum_test_disk_hold(true);
        before = velum_test_disk_operations(NULL);
        r = velum_kv_log_replace(kv_log, copied);
        bytes = bytes_since(before);
        CHECK(bytes <= copied + (steps == 0 ? bound : 0));
        unsynced = steps % 4 > 0 ? unsynced + bytes : bytes;
        most = bytes > most ? bytes : most;
    }
    CHECK(r == 1 && steps > 10 && most > 0);
    CHECK(unsynced <= copied);
    velum_test_disk_hold(false);
    close_log();
}

/* A fault at each of its calls: the log goes on, or (UNCERTAIN) is broken and whole. */
static void test_compaction_faults(int err) {
    size_t after = 0;
    for (bool ended = false; !ended; after++) {
        int r;
        bool broken;
        start(100);
        velum_test_disk_fail(after, err);
        r = compact(100, 1000);
        ended = !velum_test_disk_failed();
        velum_test_disk_fail(SIZE_MAX, 0);
        CHECK(r == 1 || r == err);
        broken = velum_kv_log_get_figures(kv_log).broken;
        CHECK(!broken || err == VELUM_E_UNCERTAIN);
        if (append() == VELUM_E_FULL) { /* it was the log's own write that failed */
            CHECK_EQ(velum_kv_log_write(kv_log), 0);
            velum_kv_log_abandon(kv_log);
        }
        CHECK(!velum_kv_log_get_figures(kv_log).compacting);
        if (!broken) add(2);
        close_log();
        CHECK_EQ(velum_test_disk_open(), 0);
        CHECK_EQ(open_log(), 0);
        for (size_t i = 100; i < appended; i++)
            CHECK_EQ(met[i], 1);
        for (size_t i = 0; i < 100 && r != 1 && !broken; i++)
            CHECK_EQ(met[i], 1);
        CHECK(strange == 0 && found.damaged == 0 && found.torn_bytes == 0 && !exists(NEW_PATH));
        close_log();
    }
    CHECK(after > 6);
}

/* ---- after a failed sync ---- */

/* Another file is made from memory, which has what was taken too late to be written, and nothing of
 * the old one; then all goes on. */
static void test_healing(void) {
    velum_kv_log_figures f;
    uint64_t taken, first;
    char lost[200];
    start(100);
    first = velum_kv_log_get_figures(kv_log).synced;
    velum_test_disk_hold(true);
    CHECK_EQ(sync_one(), 0);
    CHECK(append() == 0 && append() == 0);
    velum_test_disk_space(0); /* it is full, too */
    CHECK_EQ(velum_kv_log_write(kv_log), VELUM_E_NO_SPACE);
    velum_test_disk_fail_syncs(VELUM_E_SYSTEM);
    velum_test_disk_hold(false);
    CHECK_EQ(velum_kv_log_sync(kv_log), VELUM_E_SYSTEM);
    velum_test_disk_fail_syncs(0);
    CHECK_EQ(append(), VELUM_E_SYSTEM);
    CHECK_EQ(velum_kv_log_write(kv_log), VELUM_E_SYSTEM);
    CHECK_EQ(velum_kv_log_sync(kv_log), VELUM_E_SYSTEM);
    taken = velum_kv_log_get_figures(kv_log).taken;
    CHECK_EQ(compact(103, 1000), VELUM_E_NO_SPACE);
    f = velum_kv_log_get_figures(kv_log);
    CHECK(f.broken && f.taken == taken && f.written < taken && f.synced == first);
    velum_test_disk_space(UINT64_MAX);
    memset(lost, '?', sizeof lost);
    put(PATH, first, lost, sizeof lost);
    CHECK_EQ(compact(103, 1000), 1);
    f = velum_kv_log_get_figures(kv_log);
    CHECK(!f.broken && f.taken == taken && f.written == taken && f.synced == taken);
    CHECK(f.live_bytes == f.file_bytes && !exists(NEW_PATH));
    add(2);
    close_log();
    expect(103, 105, 1);
    CHECK(found.records == KEYS + 2 && met[102] == 1);
    close_log();
}

/* A compaction that has begun before would copy what the old file has lost. */
static void test_break_while_compacting(void) {
    start(50);
    CHECK_EQ(begin_compaction(50), 0);
    velum_test_disk_hold(true);
    CHECK_EQ(sync_one(), 0);
    velum_test_disk_fail(0, VELUM_E_SYSTEM);
    velum_test_disk_hold(false);
    CHECK_EQ(velum_kv_log_replace(kv_log, 1000), VELUM_E_SYSTEM);
    CHECK(velum_kv_log_get_figures(kv_log).broken && !velum_kv_log_get_figures(kv_log).compacting);
    CHECK(!exists(NEW_PATH));
    CHECK_EQ(compact(51, 1000), 1);
    close_log();
    expect(50, 51, 1);
    close_log();
}

/* Broken by UNCERTAIN while the replaced file is still synced: how that ends is nothing to us. */
static void test_late_sync(int err) {
    velum_kv_log_figures f;
    start(50);
    CHECK_EQ(begin_compaction(50), 0);
    velum_test_disk_hold(true);
    CHECK_EQ(velum_kv_log_replace(kv_log, 1000), 0);
    velum_test_disk_hold(false);
    velum_test_disk_hold(true);
    CHECK_EQ(sync_one(), 0);
    velum_test_disk_fail(4, VELUM_E_UNCERTAIN); /* behind a flush, a copy and a sync: the rename */
    CHECK_EQ(velum_kv_log_replace(kv_log, 100000), VELUM_E_UNCERTAIN);
    f = velum_kv_log_get_figures(kv_log);
    CHECK(f.broken && f.syncing && f.synced < f.written && !exists(NEW_PATH));
    CHECK_EQ(begin_compaction(51), 0);
    CHECK_EQ(velum_kv_log_replace(kv_log, 1000), 0);
    velum_test_disk_fail(0, err); /* of the two syncs that end now this is the first */
    velum_test_disk_hold(false);
    CHECK(velum_test_disk_failed());
    CHECK_EQ(velum_kv_log_replace(kv_log, 1000), 1);
    f = velum_kv_log_get_figures(kv_log);
    CHECK(!f.broken && !f.syncing && f.synced == f.written);
    add(1);
    close_log();
    expect(50, 52, 1);
    close_log();
}

/* ---- crashes ---- */

/* What was promised when so many operations had been recorded. */
typedef struct {
    size_t operations;
    size_t synced; /* numbers below were on disk */
    size_t floor;  /* numbers below may have been compacted away */
} promise;

static promise promises[STEPS + 1];
static uint64_t ends[RECORDS_MAX]; /* where each record's line ends */
static size_t written_count, synced_count, walk;

static void count_done(void) {
    velum_kv_log_figures f = velum_kv_log_get_figures(kv_log);
    while (written_count < appended && ends[written_count] <= f.written)
        written_count++;
    while (synced_count < appended && ends[synced_count] <= f.synced)
        synced_count++;
}

static void step_compaction(size_t *floor) {
    made m;
    if (!velum_kv_log_get_figures(kv_log).compacting) {
        if (!chance(6)) return;
        *floor = written_count;
        walk = 0;
        CHECK_EQ(velum_kv_log_compact(kv_log), 0);
    } else if (chance(40)) {
        velum_kv_log_abandon(kv_log);
    } else if (walk < KEYS) {
        for (size_t n = 1 + below(8); n > 0 && walk < KEYS; n--, walk++) {
            size_t number = written_count;
            while (number > 0 && key_of(number - 1) != walk)
                number--;
            if (number > 0) CHECK_EQ(velum_kv_log_keep(kv_log, make_record(number - 1, &m)), 0);
        }
    } else {
        CHECK(velum_kv_log_replace(kv_log, 200 + below(4000)) >= 0);
    }
}

static velum_test_disk *run_trace(bool compacting) {
    size_t floor = 0;
    velum_test_disk *disk;
    start(0);
    written_count = synced_count = 0;
    promises[0] = (promise){velum_test_disk_operations(NULL), 0, 0};
    for (size_t i = 0; i < STEPS; i++) {
        size_t what = below(20);
        if (what < 9) {
            for (size_t n = 1 + below(3); n > 0; n--) {
                CHECK_EQ(append(), 0);
                ends[appended - 1] = velum_kv_log_get_figures(kv_log).taken;
            }
        } else if (what < 13) {
            CHECK_EQ(velum_kv_log_write(kv_log), 0);
        } else if (what < 16) {
            velum_test_disk_hold(chance(2));
            CHECK_EQ(velum_kv_log_sync(kv_log), 0);
        } else if (what < 17) {
            velum_test_disk_hold(false);
        } else if (compacting) {
            step_compaction(&floor);
        }
        velum_kv_log_poll(kv_log);
        count_done();
        promises[i + 1] = (promise){velum_test_disk_operations(NULL), synced_count, floor};
    }
    disk = velum_test_disk_take();
    close_log();
    return disk;
}

/* Opens what a crash has left: what was promised then is there. */
static void recover_from(size_t operations, bool go_on) {
    static size_t latest[KEYS], there[KEYS];
    size_t p = 0, missing = 0, before = appended;
    while (p < STEPS && promises[p + 1].operations <= operations)
        p++;
    CHECK_EQ(open_log(), 0);
    CHECK_EQ(strange, 0);
    memset(latest, 0, sizeof latest);
    memset(there, 0, sizeof there);
    for (size_t i = 0; i < appended; i++) {
        if (i < promises[p].synced) latest[key_of(i)] = i + 1;
        if (met[i]) there[key_of(i)] = i + 1;
        missing += i >= promises[p].floor && i < promises[p].synced && !met[i];
    }
    CHECK_EQ(missing, 0);
    for (size_t key = 0; key < KEYS; key++)
        CHECK(there[key] >= latest[key]);
    CHECK(!exists(NEW_PATH));
    if (go_on) {
        uint64_t records = found.records, damaged = found.damaged;
        add(2);
        close_log();
        CHECK_EQ(open_log(), 0);
        CHECK_EQ(found.records, records + 2);
        CHECK_EQ(found.damaged, damaged);
        CHECK_EQ(found.torn_bytes, 0);
        CHECK(met[before] == 1 && met[before + 1] == 1);
        appended = before;
    }
    close_log();
}

/* Crashes behind every operation from the first promise on; how many. */
static size_t crash_behind_each(velum_test_disk *disk) {
    size_t count = velum_test_disk_operations(disk), crashes = 0;
    for (size_t n = promises[0].operations; n <= count && check_failed_count < 20; n++) {
        for (int keep = VELUM_TEST_KEEP_ALL; keep <= VELUM_TEST_KEEP_SOME; keep++) {
            velum_test_disk_seed(seed + n);
            velum_test_disk_crash(disk, n, (velum_test_keep)keep, SIZE_MAX);
            recover_from(n, n % 8 == 0);
            crashes++;
        }
    }
    return crashes;
}

/* Breaks the log and heals it; if a call of that fails it is still broken, and whole the next time.
 * Promises what crashes meanwhile have to leave. Whether it has failed. */
static bool heal_with_fault(size_t after, int err) {
    velum_kv_found ignored;
    velum_kv_log *other;
    start(100);
    velum_test_disk_fail_syncs(VELUM_E_SYSTEM);
    CHECK_EQ(sync_one(), VELUM_E_SYSTEM);
    velum_test_disk_fail_syncs(0);
    promises[0] = (promise){velum_test_disk_operations(NULL), 100, 100};
    velum_test_disk_fail(after, err);
    int r = compact(101, 1000);
    bool failed = velum_test_disk_failed();
    velum_test_disk_fail(SIZE_MAX, 0);
    CHECK_EQ(r, failed ? err : 1);
    CHECK_EQ(velum_kv_log_get_figures(kv_log).broken, failed);
    CHECK_EQ(velum_kv_log_open(&other, PATH, VELUM_NO_FD, meet, NULL, &ignored), VELUM_E_LOCKED);
    if (failed) {
        CHECK(append() < 0);
        CHECK_EQ(compact(101, 1000), 1);
    }
    promises[1] = (promise){velum_test_disk_operations(NULL), 101, 101};
    add(2);
    promises[2] = (promise){velum_test_disk_operations(NULL), 103, 101};
    promises[3].operations = SIZE_MAX;
    return failed;
}

/* A fault at each of its calls, and then a crash behind each operation. */
static void test_healing_faults(int err) {
    size_t after = 0;
    for (bool failed = true; failed && check_failed_count < 20; after++) {
        failed = heal_with_fault(after, err);
        velum_test_disk *disk = velum_test_disk_take();
        close_log();
        CHECK_EQ(velum_test_disk_open(), 0);
        (void)crash_behind_each(disk);
        velum_test_disk_free(disk);
    }
    CHECK(after > 5);
}

static void test_crashes(bool compacting) {
    velum_test_disk *disk = run_trace(compacting);
    size_t count = velum_test_disk_operations(disk), bytes = 0, crashes;
    int failed_before = check_failed_count;
    crashes = crash_behind_each(disk);
    for (size_t n = count; bytes < TAIL_BYTES && check_failed_count < 20; n--) {
        size_t size = velum_test_disk_bytes(disk, n - 1);
        for (size_t torn = 0; torn < size; torn++, crashes++) {
            velum_test_disk_crash(disk, n, VELUM_TEST_KEEP_ALL, torn);
            recover_from(n - 1, false);
        }
        bytes += size;
    }
    printf("%zu records, %zu operations, %zu crashes\n", appended, count, crashes);
    if (check_failed_count > failed_before) printf("seed %llu\n", (unsigned long long)seed);
    velum_test_disk_free(disk);
}

int main(int argc, char **argv) {
    if (argc > 1) seed = strtoull(argv[1], NULL, 10);
    state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    test_round_trip();
    test_lock();
    test_damage();
    test_no_log();
    test_synced_at_open();
    test_full_disk();
    test_failed_open();
    test_compaction();
    test_compaction_among_syncs();
    test_compaction_pauses();
    test_compaction_faults(VELUM_E_NO_SPACE);
    test_compaction_faults(VELUM_E_UNCERTAIN);
    test_healing();
    test_break_while_compacting();
    test_late_sync(0);
    test_late_sync(VELUM_E_SYSTEM);
    test_healing_faults(VELUM_E_NO_SPACE);
    test_healing_faults(VELUM_E_UNCERTAIN);
    test_crashes(false);
    test_crashes(true);
    velum_test_disk_reset();
    return check_report("kv_log");
}
