/* test_kv_check.c: what the offline reader says of a log, and that it leaves it as it is. */
#include "kv_check.h"
#include "kv_log.h"
#include "kv_world.h"
#include "port/test/file_test.h"

#define PATH     "logs/state.log"
#define LINE_MAX 1000u

static velum_kv_checked report;

static void put(uint64_t offset, const void *bytes, size_t n) {
    velum_fd fd;
    CHECK_EQ(velum_port_file_open(PATH, true, false, &fd), 0);
    CHECK_EQ(velum_port_file_write(fd, offset, bytes, n), 0);
    velum_port_file_close(fd);
}

/* Puts a record's line there; where it ends. */
static uint64_t put_line(uint64_t offset, velum_kv_record record) {
    char line[LINE_MAX];
    int n = velum_kv_text_put(&record, line, sizeof line);
    CHECK(n > 0);
    put(offset, line, (size_t)n);
    return offset + (uint64_t)n;
}

static uint64_t put_text(uint64_t offset, const char *line) {
    put(offset, line, strlen(line));
    return offset + strlen(line);
}

/* It changes nothing on the disk, whatever it says. */
static int check(void) {
    size_t before = velum_test_disk_operations(NULL);
    int r = velum_kv_check(PATH, &report);
    CHECK_EQ(velum_test_disk_operations(NULL), before);
    CHECK_EQ(velum_test_disk_open(), 0);
    return r;
}

static void test_sound(void) {
    uint64_t kept, end;
    velum_test_disk_reset();
    CHECK_EQ(check(), VELUM_E_NOT_FOUND);
    put(0, "", 0);
    CHECK_EQ(check(), 0);
    CHECK(report.file_bytes == 0 && report.keys == 0 && report.compact_bytes == 0);
    end = put_line(0, set(10, 1, "a", "first"));
    kept = end;
    end = put_line(end, set(30, 2, "a", "third"));
    kept = end - kept;
    end = put_line(end, set(20, 1, "a", "second"));
    end = put_line(end, set(40, 1, "b", ""));
    end = put_line(end, add(50, 1, "c", "one"));
    end = put_line(end, del(60, 1, "b"));
    CHECK_EQ(check(), 0);
    CHECK(report.found.records == 6 && report.found.plain == 0 && report.found.damaged == 0);
    CHECK(report.found.torn_bytes == 0 && report.damage_count == 0 && report.damaged_bytes == 0);
    CHECK_EQ(report.file_bytes, end);
    CHECK_EQ(report.keys, 2);
    CHECK_EQ(report.tombstones, 1);
    CHECK(report.compact_bytes > kept && report.compact_bytes < end - kept);
}

/* As much as a compaction really leaves. */
static void keep(void *owner, const velum_kv_record *record) {
    CHECK_EQ(velum_kv_log_keep(owner, record), 0);
}

static void into(void *owner, const velum_kv_record *record, uint64_t offset) {
    (void)offset;
    CHECK(velum_kv_merge(owner, record) >= 0);
}

static void test_compact_bytes(void) {
    velum_kv *kv = open_kv(SIZE_MAX);
    velum_kv_log *log = NULL;
    velum_kv_found found;
    velum_kv_walk walk = {0};
    CHECK_EQ(velum_kv_log_open(&log, PATH, VELUM_NO_FD, into, kv, &found), 0);
    CHECK_EQ(velum_kv_log_compact(log), 0);
    while (velum_kv_step(kv, &walk, 1, keep, log)) {
    }
    CHECK_EQ(velum_kv_log_replace(log, 1000), 1);
    CHECK_EQ(velum_kv_log_get_figures(log).file_bytes, report.compact_bytes);
    velum_kv_log_close(log);
    velum_kv_close(kv);
    CHECK_EQ(check(), 0);
    CHECK_EQ(report.file_bytes, report.compact_bytes);
    CHECK(report.keys == 2 && report.tombstones == 1);
}

/* While a node has it open, and in the middle of a write. */
static void test_in_use(void) {
    velum_kv *kv = open_kv(SIZE_MAX);
    velum_kv_log *log = NULL;
    velum_kv_found found;
    CHECK_EQ(velum_kv_log_open(&log, PATH, VELUM_NO_FD, into, kv, &found), 0);
    put_text(report.file_bytes, "half a li");
    CHECK_EQ(velum_kv_check(PATH, &report), 0);
    CHECK_EQ(report.found.torn_bytes, 9);
    CHECK_EQ(report.keys, 2);
    velum_kv_log_close(log);
    velum_kv_close(kv);
}

static void test_damage(void) {
    uint64_t first, second, end;
    velum_test_disk_reset();
    end = first = put_line(0, set(10, 1, "a", "x"));
    end = second = put_text(end, "no record\n");
    end = put_text(end, "nor this one, longer\n");
    end = put_line(end, set(20, 1, "b", "y"));
    end = put_text(end, "nonsense\n");
    end = put_text(end, "torn");
    CHECK_EQ(check(), 0);
    CHECK(report.found.records == 2 && report.found.damaged == 2 && report.keys == 2);
    CHECK(report.found.torn_bytes == 13 && report.file_bytes == end);
    CHECK(report.damage_count == 2 && report.found.first_damaged == first);
    CHECK(report.damage[0].offset == first && report.damage[0].bytes == 10);
    CHECK(report.damage[1].offset == second && report.damage[1].bytes == 21);
    CHECK_EQ(report.damaged_bytes, 31);
}

/* A line longer than any may be is one line; of very many only the first ones are told. */
static void test_much_damage(void) {
    size_t size = (size_t)VELUM_KV_LINE_BYTES_MAX + 100000;
    char *line = malloc(size);
    uint64_t end;
    if (line == NULL) abort();
    memset(line, 'z', size);
    velum_test_disk_reset();
    put(0, line, size);
    CHECK_EQ(check(), 0);
    CHECK(report.found.torn_bytes == size && report.damage_count == 0 && report.keys == 0);
    end = put_text(size, "end\n");
    end = put_line(end, set(10, 1, "a", "x"));
    CHECK_EQ(check(), 0);
    CHECK(report.damage_count == 1 && report.damage[0].offset == 0);
    CHECK(report.damage[0].bytes == size + 4 && report.damaged_bytes == size + 4);
    for (size_t i = 0; i < 3 * VELUM_KV_CHECK_DAMAGE_MAX; i++)
        end = put_text(end, "bad\n");
    end = put_line(end, set(20, 1, "a", "y"));
    put_text(end, "torn");
    CHECK_EQ(check(), 0);
    CHECK_EQ(report.found.damaged, 1 + 3 * VELUM_KV_CHECK_DAMAGE_MAX);
    CHECK_EQ(report.damage_count, VELUM_KV_CHECK_DAMAGE_MAX);
    CHECK_EQ(report.damaged_bytes, size + 4 + 12 * VELUM_KV_CHECK_DAMAGE_MAX);
    CHECK(report.found.torn_bytes == 4 && report.keys == 1);
    free(line);
}

/* Plain lines count as late as they stand: they are above what is before them. */
static void test_plain(void) {
    uint64_t end;
    velum_test_disk_reset();
    end = put_text(0, "status=idle\nstatus=active\r\nbattery=7\n");
    CHECK_EQ(check(), 0);
    CHECK(report.found.records == 3 && report.found.plain == 3 && report.keys == 2);
    end = put_line(end, del(1000, 5, "status"));
    CHECK_EQ(check(), 0);
    CHECK_EQ(report.keys, 1);
    end = put_text(end, "status=back\n");
    CHECK_EQ(check(), 0);
    CHECK_EQ(report.keys, 2);
}

/* Any call of the port that fails ends it, with nothing left open. */
static void test_faults(void) {
    size_t after = 0;
    for (bool ended = false; !ended; after++) {
        int r;
        velum_test_disk_fail(after, VELUM_E_SYSTEM);
        r = check();
        ended = !velum_test_disk_failed();
        CHECK_EQ(r, ended ? 0 : VELUM_E_SYSTEM);
    }
    CHECK_EQ(after, 4);
    velum_test_disk_fail(SIZE_MAX, 0);
}

int main(void) {
    test_sound();
    test_compact_bytes();
    test_in_use();
    test_damage();
    test_much_damage();
    test_plain();
    test_faults();
    velum_test_disk_reset();
    return check_report("kv_check");
}
