/* test_kv_import.c: a log as other programs write it, lines KEY=VALUE, becomes a node's own.
 *
 * On the test port's disk, through the whole state: what is read, that what is written later wins
 * also after another start, that a crash in the first write takes no line, and the stamps that all
 * lines have after a compaction.
 */
#include "kv_state.h"
#include "kv_world.h"
#include "port/test/file_test.h"

#define PATH     "logs/robot_A.log"
#define NODE     7u
#define ROOM     ((size_t)1024 * 1024)
#define START_MS UINT64_C(1790000000000)

static const char seed_log[] = "status=idle\nposition=1.5,2.0\nstatus=active\r\nnote=a=b\\n c\n"
                               "battery=90\nstatus=charging\n";

static velum_kv_state *kv;
static velum_kv_found found;
static uint64_t now_ms = START_MS;
static velum_kv_stamp position; /* of what was imported */

static uint64_t clock_ms(void *owner) {
    (void)owner;
    return now_ms;
}

static void wrote(void *owner, const velum_kv_record *record, bool own) {
    (void)owner;
    (void)record;
    (void)own;
}

static void open_state(void) {
    velum_kv_config config = {.node = NODE,
                              .room_bytes = ROOM,
                              .waker = VELUM_NO_FD,
                              .wrote = wrote,
                              .unix_ms = clock_ms};
    now_ms += 1000;
    CHECK_EQ(velum_kv_state_open(&kv, &config, PATH, &found), 0);
}

static void close_state(void) {
    velum_kv_state_close(kv);
    kv = NULL;
}

static velum_kv_view view_of(const char *key) {
    velum_kv_view view;
    (void)velum_kv_state_look(kv, text(key), &view);
    return view;
}

static bool holds(const char *key, const char *value) {
    velum_kv_view view = view_of(key);
    return view.type == VELUM_KV_BYTES && is_text(view.value, value);
}

static void put_file(const char *bytes, size_t n) {
    velum_fd fd;
    velum_test_disk_reset();
    CHECK_EQ(velum_port_file_open(PATH, true, false, &fd), 0);
    CHECK_EQ(velum_port_file_write(fd, 0, bytes, n), 0);
    velum_port_file_close(fd);
}

static void write_now(const char *key, const char *value) {
    velum_kv_record r = set(0, 0, key, value);
    CHECK_EQ(velum_kv_state_write(kv, &r, NULL), 1);
    CHECK_EQ(velum_kv_log_write(velum_kv_state_log(kv)), 0);
}

static void test_values(void) {
    put_file(seed_log, sizeof seed_log - 1);
    open_state();
    CHECK(found.records == 6 && found.plain == 6 && found.damaged == 0 && found.torn_bytes == 0);
    CHECK(holds("status", "charging")); /* the last one */
    CHECK(holds("position", "1.5,2.0") && holds("battery", "90"));
    CHECK(holds("note", "a=b\\n c")); /* nothing is escaped */
    CHECK_EQ(velum_kv_get_figures(velum_kv_state_keys(kv)).keys, 4);
    position = view_of("position").latest;
    CHECK(position.node == NODE && position.time > 0 && position.time % 2 == 0);
    CHECK(position.time >> 16 < START_MS); /* what another node wrote since then is later */
    close_state();
}

/* What was written after the import is later than that, however often the log is read. */
static void test_later_wins(void) {
    velum_kv_record gone = del(0, 0, "battery");
    open_state();
    write_now("status", "active");
    CHECK_EQ(velum_kv_state_write(kv, &gone, NULL), 1);
    close_state();
    for (int times = 0; times < 2; times++) {
        open_state();
        CHECK(holds("status", "active") && holds("position", "1.5,2.0"));
        CHECK_EQ(view_of("battery").type, VELUM_KV_NOTHING);
        CHECK(velum_kv_compare(view_of("position").latest, position) == 0);
        close_state();
    }
}

/* A line that is appended to a node's log by another program is later than what is above it. */
static void test_appended(void) {
    velum_fd fd;
    CHECK_EQ(velum_port_file_open(PATH, true, false, &fd), 0);
    CHECK_EQ(velum_port_file_write(fd, (uint64_t)velum_port_file_size(fd), "status=lost\n", 12), 0);
    velum_port_file_close(fd);
    open_state();
    CHECK(holds("status", "lost"));
    write_now("status", "found");
    close_state();
    open_state();
    CHECK(holds("status", "found"));
    close_state();
}

/* A crash in the first write behind plain lines takes no line with it. */
static void test_crashes(void) {
    velum_test_disk *disk;
    size_t operations, size;
    put_file(seed_log, sizeof seed_log - 1);
    open_state();
    for (int i = 0; i < 3; i++) {
        velum_kv_record r = set(0, 0, "path", "a longer value, so that it is torn somewhere");
        CHECK_EQ(velum_kv_state_write(kv, &r, NULL), 1);
    }
    CHECK_EQ(velum_kv_log_write(velum_kv_state_log(kv)), 0);
    operations = velum_test_disk_operations(NULL);
    disk = velum_test_disk_take();
    close_state();
    size = velum_test_disk_bytes(disk, operations - 1);
    CHECK(size > 200);
    for (size_t n = 0; n < 2 * size; n++) {
        velum_test_disk_seed(n);
        velum_test_disk_crash(disk, operations,
                              n < size ? VELUM_TEST_KEEP_ALL : VELUM_TEST_KEEP_SOME,
                              n < size ? n : SIZE_MAX);
        open_state();
        CHECK_EQ(found.plain, 6);
        CHECK(holds("status", "charging"));
        close_state();
    }
    velum_test_disk_free(disk);
}

static void keep(void *owner, const velum_kv_record *record) {
    CHECK_EQ(velum_kv_log_keep(owner, record), 0);
}

static void test_compaction(void) {
    velum_kv_walk walk = {0};
    put_file(seed_log, sizeof seed_log - 1);
    open_state();
    CHECK_EQ(velum_kv_log_compact(velum_kv_state_log(kv)), 0);
    while (velum_kv_step(velum_kv_state_keys(kv), &walk, 2, keep, velum_kv_state_log(kv))) {
    }
    CHECK_EQ(velum_kv_log_replace(velum_kv_state_log(kv), 1000), 1);
    close_state();
    open_state();
    CHECK(found.records == 4 && found.plain == 0);
    CHECK(holds("status", "charging") && holds("note", "a=b\\n c"));
    CHECK(velum_kv_compare(view_of("position").latest, position) == 0);
    close_state();
}

/* The last line has no end: it may be half of one. The others stay. */
static void test_torn(void) {
    put_file("a=1\nb=2\nc=", 10);
    open_state();
    CHECK(found.plain == 2 && found.torn_bytes == 2);
    CHECK(holds("a", "1") && holds("b", "2"));
    CHECK_EQ(view_of("c").type, VELUM_KV_NOTHING);
    close_state();
}

int main(void) {
    test_values();
    test_later_wins();
    test_appended();
    test_crashes();
    test_compaction();
    test_torn();
    velum_test_disk_reset();
    return check_report("kv_import");
}
