/* test_kv_node.c: requests of links and of this program, how durable they are when they are
 * answered, watches, who may send what, and background work.
 */
#include "kv_mesh.h"

/* ---- requests over a link ---- */

static void test_do(void) {
    mesh_open(1, "n");
    velum_fd fd = mesh_client(&mesh[0]);
    raw_do(fd, 5, VELUM_KV_RAM, 0, "SET a 1");
    CHECK_EQ(raw_done(fd, 5), VELUM_KV_RAM);
    CHECK(reply_is("+OK\r\n"));
    raw_do(fd, 6, VELUM_KV_LOG, 0, "INCR a");
    CHECK_EQ(raw_done(fd, 6), VELUM_KV_LOG);
    CHECK(reply_is(":2\r\n"));
    raw_do(fd, 7, VELUM_KV_FSYNC, 0, "GET a"); /* nothing was written */
    CHECK_EQ(raw_done(fd, 7), 0);
    CHECK(reply_is("$1\r\n2\r\n"));
    raw_do(fd, 8, 0, 0, "SADD s x"); /* the node's own: LOG */
    CHECK_EQ(raw_done(fd, 8), VELUM_KV_LOG);
    raw_do(fd, 9, VELUM_KV_FSYNC, 0, "DEL s");
    CHECK_EQ(raw_done(fd, 9), VELUM_KV_FSYNC);
    raw_do(fd, 10, VELUM_KV_QUORUM, 0, "DEL a"); /* of one member */
    CHECK_EQ(raw_done(fd, 10), VELUM_KV_QUORUM);
    raw_do(fd, 11, 0, 0, "SUBSCRIBE a");
    CHECK_EQ(raw_done(fd, 11), 0);
    CHECK(reply_is("-ERR this command is not served here\r\n"));
    raw_do(fd, 12, 0, 0, "PUBLISH a b");
    CHECK_EQ(raw_done(fd, 12), 0);
    CHECK(reply_is(":0\r\n"));
    CHECK_EQ(velum_kv_node_get_figures(mesh[0].kv).commands, 8);
    CHECK_EQ(velum_kv_node_get_figures(mesh[0].kv).waiting, 0);
    velum_port_close(fd);
    mesh_close();
}

static void test_without_log(void) {
    mesh_open(1, NULL);
    velum_fd fd = mesh_client(&mesh[0]);
    raw_do(fd, 1, VELUM_KV_QUORUM, 0, "SET a 1");
    CHECK_EQ(raw_done(fd, 1), VELUM_KV_RAM);
    velum_port_close(fd);
    mesh_close();
}

/* One that waits for the disk lets others pass. */
static void test_fsync_waits(void) {
    mesh_open(1, "n");
    velum_fd fd = mesh_client(&mesh[0]);
    velum_test_disk_hold(true);
    raw_do(fd, 1, VELUM_KV_FSYNC, 0, "SET a 1");
    CHECK(nothing_came(fd));
    raw_do(fd, 2, VELUM_KV_LOG, 0, "SET b 1");
    CHECK_EQ(raw_done(fd, 2), VELUM_KV_LOG);
    raw_do(fd, 3, VELUM_KV_FSYNC, 0, "SET c 1"); /* needs another sync */
    CHECK(nothing_came(fd));
    CHECK_EQ(velum_kv_node_get_figures(mesh[0].kv).waiting, 2);
    velum_test_disk_hold(false);
    CHECK_EQ(raw_done(fd, 1), VELUM_KV_FSYNC);
    CHECK_EQ(raw_done(fd, 3), VELUM_KV_FSYNC);
    velum_port_close(fd);
    mesh_close();
}

/* A sleeping hub wakes up when a sync has ended. */
static void let_go(void *user) {
    (void)user;
    velum_test_disk_hold(false);
}

static void test_sync_wakes(void) {
    mesh_open(1, "n");
    velum_fd fd = mesh_client(&mesh[0]);
    velum_test_disk_hold(true);
    raw_do(fd, 1, VELUM_KV_FSYNC, 0, "SET a 1");
    mesh_turns(3);
    int64_t before = velum_port_now_us();
    velum_test_at(before + SECOND, let_go, NULL);
    mesh_serve(&mesh[0], 2 * SECOND);
    CHECK(velum_test_pending(fd) > 0);
    CHECK_EQ(raw_done(fd, 1), VELUM_KV_FSYNC);
    velum_port_close(fd);
    mesh_close();
}

static void test_full_disk(void) {
    mesh_open(1, "n");
    velum_fd fd = mesh_client(&mesh[0]);
    velum_test_disk_space(0);
    raw_do(fd, 1, VELUM_KV_LOG, 0, "SET a 1");
    CHECK_EQ(raw_done(fd, 1), VELUM_KV_RAM);
    CHECK(velum_kv_node_get_figures(mesh[0].kv).refusing);
    raw_do(fd, 2, VELUM_KV_LOG, 0, "GET a");
    CHECK_EQ(raw_done(fd, 2), 0);
    CHECK(reply_is("$1\r\n1\r\n"));
    velum_test_disk_space(UINT64_MAX);
    mesh_turns(2);
    CHECK(!velum_kv_node_get_figures(mesh[0].kv).refusing);
    raw_do(fd, 3, VELUM_KV_LOG, 0, "SET a 2");
    CHECK_EQ(raw_done(fd, 3), VELUM_KV_LOG);
    velum_test_disk_fail_syncs(VELUM_E_SYSTEM);
    raw_do(fd, 4, VELUM_KV_FSYNC, 0, "SET a 3");
    CHECK_EQ(raw_done(fd, 4), VELUM_KV_LOG);
    velum_test_disk_fail_syncs(0);
    velum_port_close(fd);
    mesh_close();
}

static void test_refused_requests(void) {
    static const char *const bad[] = {"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n", "PING\r\n",
                                      "*1\r\n$4\r\nPIN", "*0\r\n", "*1\r\n:1\r\n"};
    mesh_open(1, NULL);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        velum_fd fd = mesh_client(&mesh[0]);
        velum_kv_do m = {0, 0, (const uint8_t *)bad[i], (uint32_t)strlen(bad[i])};
        raw_frame(fd, velum_wire_put_kv_do(mesh_buf, sizeof mesh_buf, 1, &m));
        raw_ends(fd, VELUM_E_PAYLOAD);
    }
    mesh_close();
}

static void test_large_reply(void) {
    char command[32];
    mesh_open(1, NULL);
    velum_fd fd = mesh_client(&mesh[0]);
    for (int i = 0; i < 5; i++) {
        (void)snprintf(command, sizeof command, "HSET h %d @1000000", i);
        mesh_do(&mesh[0], command);
    }
    raw_do(fd, 1, 0, 0, "HGETALL h");
    CHECK_EQ(raw_done(fd, 1), 0);
    CHECK(reply_is("-ERR the reply is larger than a frame can be\r\n"));
    mesh_do(&mesh[0], "HDEL h 4");
    raw_do(fd, 2, 0, 0, "HGETALL h");
    CHECK_EQ(raw_done(fd, 2), 0);
    CHECK(reply_size > 4000000);
    velum_port_close(fd);
    mesh_close();
}

/* Who does not read its answers is not read, and gets all of them in the end. */
static void test_unread_answers(void) {
    mesh_open(1, NULL);
    velum_fd fd = mesh_client(&mesh[0]);
    mesh_do(&mesh[0], "SET a @1000000");
    for (uint64_t i = 1; i <= 30; i++)
        raw_do(fd, i, 0, 0, "GET a");
    mesh_turns(20);
    CHECK(velum_kv_node_get_figures(mesh[0].kv).waiting <= 1);
    CHECK(velum_kv_node_get_figures(mesh[0].kv).commands < 10);
    for (uint64_t i = 1; i <= 30; i++) {
        CHECK_EQ(raw_done(fd, i), 0);
        CHECK(reply_size > 1000000);
    }
    CHECK_EQ(mesh[0].closed, 0);
    velum_port_close(fd);
    mesh_close();
}

static void test_link_ends(void) {
    mesh_open(1, "n");
    velum_fd fd = mesh_client(&mesh[0]);
    velum_test_disk_hold(true);
    raw_do(fd, 1, VELUM_KV_FSYNC, 0, "SET a 1");
    mesh_turns(2);
    CHECK_EQ(velum_kv_node_get_figures(mesh[0].kv).waiting, 1);
    velum_port_close(fd);
    mesh_turns(3);
    CHECK_EQ(velum_kv_node_get_figures(mesh[0].kv).waiting, 0);
    velum_test_disk_hold(false);
    mesh_close();
}

/* ---- who may send what ---- */

static void test_roles(void) {
    static const uint8_t nodes[] = {VELUM_F_KV_RECORDS, VELUM_F_KV_HEARD,   VELUM_F_KV_ASK,
                                    VELUM_F_KV_SUMS,    VELUM_F_KV_LEAVES,  VELUM_F_KV_END,
                                    VELUM_F_KV_DONE,    VELUM_F_KV_CHANGES, VELUM_F_KV_PUBLISH,
                                    VELUM_F_KV_TALK};
    mesh_open(1, NULL);
    for (size_t i = 0; i < sizeof nodes; i++) {
        velum_fd fd = mesh_client(&mesh[0]);
        velum_wire_put_header(mesh_buf, nodes[i], 0, 0);
        raw_frame(fd, VELUM_HEADER_BYTES);
        raw_ends(fd, VELUM_E_UNEXPECTED);
    }
    velum_fd leaf = mesh_raw(&mesh[0], VELUM_ROLE_LEAF, 9);
    raw_do(leaf, 1, 0, 0, "GET a");
    raw_ends(leaf, VELUM_E_UNEXPECTED);
    velum_fd node = mesh_raw(&mesh[0], VELUM_ROLE_NODE, 9);
    velum_wire_put_header(mesh_buf, VELUM_F_KV_TALK, 0, 0);
    raw_frame(node, VELUM_HEADER_BYTES);
    raw_do(node, 1, 0, 0, "GET a");
    CHECK_EQ(raw_done(node, 1), 0);
    CHECK_EQ(mesh[0].talks, 1);
    velum_port_close(node);
    mesh_close();
}

/* ---- this program ---- */

static void test_own_requests(void) {
    uint8_t reached = 9;
    uint64_t token = 0;
    mesh_open(1, "n");
    mesh_turns(2);
    CHECK_EQ(mesh_do_as(&mesh[0], VELUM_KV_RAM, 1, "SET a 1", &reached), 1);
    CHECK_EQ(reached, VELUM_KV_RAM);
    CHECK(reply_is("+OK\r\n"));
    CHECK_EQ(velum_kv_node_get_figures(mesh[0].kv).log.written, 0);
    CHECK_EQ(mesh_do_as(&mesh[0], 0, 2, "SET a 2", &reached), 1); /* the node's own */
    CHECK_EQ(reached, VELUM_KV_LOG);
    CHECK(velum_kv_node_get_figures(mesh[0].kv).log.written > 0);
    CHECK_EQ(mesh_do_as(&mesh[0], VELUM_KV_FSYNC, 3, "GET a", &reached), 1);
    CHECK_EQ(reached, 0);
    velum_test_disk_hold(true);
    CHECK_EQ(mesh_do_as(&mesh[0], VELUM_KV_FSYNC, 4, "SET a 3", &reached), 0);
    CHECK(reply_is("+OK\r\n"));
    mesh_turns(3);
    CHECK(!velum_kv_node_next(mesh[0].kv, &token, &reached));
    CHECK_EQ(mesh[0].wakes, 0);
    velum_test_disk_hold(false);
    mesh_turns(3);
    CHECK_EQ(mesh[0].wakes, 1);
    CHECK(velum_kv_node_next(mesh[0].kv, &token, &reached));
    CHECK_EQ(token, 4);
    CHECK_EQ(reached, VELUM_KV_FSYNC);
    CHECK(!velum_kv_node_next(mesh[0].kv, &token, &reached));
    velum_resp_writer out = {.more = reply_more, .wrote = reply_wrote, .version = 3};
    uint8_t bad[] = "*1\r\n$4\r\nPIN";
    CHECK_EQ(velum_kv_node_do(mesh[0].kv, 0, 0, bad, sizeof bad - 1, 5, &out, &reached),
             VELUM_E_PAYLOAD);
    mesh_close();
}

/* What RAM alone has is in the log after the next round, though nothing else happens. */
static void test_ram_is_logged(void) {
    uint8_t reached;
    mesh_open(1, "n");
    mesh_turns(2);
    CHECK_EQ(mesh_do_as(&mesh[0], VELUM_KV_RAM, 1, "SET a 1", &reached), 1);
    int64_t before = velum_port_now_us();
    mesh_serve(&mesh[0], 0);
    velum_kv_log_figures log = velum_kv_node_get_figures(mesh[0].kv).log;
    CHECK(log.written > 0 && log.written == log.taken);
    CHECK_EQ(velum_port_now_us(), before);
    mesh_close();
}

/* ---- watches ---- */

static bool holds(const uint8_t *bytes, size_t n, const char *text) {
    size_t size = strlen(text);
    for (size_t i = 0; i + size <= n; i++)
        if (memcmp(bytes + i, text, size) == 0) return true;
    return false;
}

static void raw_watch(velum_fd fd, uint64_t correlation, uint8_t flags, const char *pattern) {
    velum_kv_watch_ask m = {flags, {(const uint8_t *)pattern, strlen(pattern)}};
    raw_frame(fd, velum_wire_put_kv_watch(mesh_buf, sizeof mesh_buf, correlation, &m));
}

static void test_watch(void) {
    mesh_open(1, NULL);
    velum_fd fd = mesh_client(&mesh[0]);
    mesh_do(&mesh[0], "SET robot/1 here");
    raw_watch(fd, 4, VELUM_KV_WATCH_STATE, "robot/*");
    velum_header header = raw_next(fd);
    CHECK_EQ(header.type, VELUM_F_KV_CHANGES);
    CHECK_EQ(header.correlation, 4);
    CHECK(holds(mesh_buf, header.length, "state") && holds(mesh_buf, header.length, "here"));
    CHECK(holds(mesh_buf, header.length, "now"));
    mesh_do(&mesh[0], "SET robot/2 there");
    mesh_do(&mesh[0], "SET other x");
    header = raw_next(fd);
    CHECK_EQ(header.type, VELUM_F_KV_CHANGES);
    CHECK(holds(mesh_buf, header.length, "there") && !holds(mesh_buf, header.length, "other"));
    raw_watch(fd, 5, 0, "other");
    header = raw_next(fd);
    CHECK_EQ(header.correlation, 5);
    CHECK(!holds(mesh_buf, header.length, "state"));
    CHECK_EQ(velum_kv_node_get_figures(mesh[0].kv).watches, 2);
    raw_watch(fd, 4, VELUM_KV_WATCH_STOP, "");
    mesh_turns(2);
    CHECK_EQ(velum_kv_node_get_figures(mesh[0].kv).watches, 1);
    mesh_do(&mesh[0], "SET robot/2 elsewhere");
    CHECK(nothing_came(fd));
    velum_port_close(fd);
    mesh_turns(2);
    CHECK_EQ(velum_kv_node_get_figures(mesh[0].kv).watches, 0);
    mesh_close();
}

static void test_own_watch(void) {
    static uint8_t out[VELUM_KV_WATCH_BYTES_MAX];
    velum_kv_bytes all = {(const uint8_t *)"*", 1};
    uint64_t watch = 0;
    mesh_open(1, NULL);
    CHECK_EQ(velum_kv_node_watch(mesh[0].kv, 77, 0, all), 0);
    mesh_turns(2);
    CHECK_EQ(mesh[0].wakes, 1); /* of "now" */
    CHECK(velum_kv_node_changes(mesh[0].kv, &watch, out, sizeof out) > 0);
    CHECK_EQ(velum_kv_node_changes(mesh[0].kv, &watch, out, sizeof out), 0);
    mesh_do(&mesh[0], "SET a hello");
    mesh_turns(2);
    CHECK_EQ(mesh[0].wakes, 2);
    watch = 0;
    size_t n = velum_kv_node_changes(mesh[0].kv, &watch, out, sizeof out);
    CHECK(holds(out, n, "hello"));
    CHECK_EQ(watch, 77);
    /* More than there is room for is missed, and that is told. */
    for (int i = 0; i < 6; i++)
        mesh_do(&mesh[0], "SET a @1000000");
    n = velum_kv_node_changes(mesh[0].kv, &watch, out, sizeof out);
    CHECK(n > 3000000);
    mesh_turns(2);
    n = velum_kv_node_changes(mesh[0].kv, &watch, out, sizeof out);
    CHECK(holds(out, n, "missed"));
    CHECK_EQ(velum_kv_node_watch(mesh[0].kv, 77, VELUM_KV_WATCH_STOP, all), 0);
    CHECK_EQ(velum_kv_node_get_figures(mesh[0].kv).watches, 0);
    CHECK_EQ(velum_kv_node_watch(mesh[0].kv, 77, 4, all), VELUM_E_ARGUMENT);
    mesh_close();
}

/* ---- a failed sync ---- */

static velum_kv_log_figures figures_of_log(void) {
    return velum_kv_node_get_figures(mesh[0].kv).log;
}

/* Tends the node for so long; how many compactions have begun. */
static unsigned live(int64_t us) {
    int64_t until_us = velum_port_now_us() + us;
    unsigned begun = 0;
    while (velum_port_now_us() < until_us) {
        bool before = figures_of_log().compacting;
        (void)velum_kv_node_tend(mesh[0].kv, 0, 0);
        begun += !before && figures_of_log().compacting;
        mesh_serve(&mesh[0], SECOND / 20);
    }
    return begun;
}

/* Who waits is answered, reads go on, writes do not; then a log is made of what memory has, also of
 * what could not be written, and of nothing that was refused. */
static void test_broken_log(void) {
    mesh_open(1, "n");
    velum_fd fd = mesh_client(&mesh[0]);
    raw_do(fd, 1, VELUM_KV_FSYNC, 0, "SET a 1");
    CHECK_EQ(raw_done(fd, 1), VELUM_KV_FSYNC);
    velum_test_disk_hold(true);
    raw_do(fd, 2, VELUM_KV_FSYNC, 0, "SET b 2");
    CHECK(nothing_came(fd));
    velum_test_disk_space(0);
    raw_do(fd, 3, VELUM_KV_LOG, 0, "SET c 3");
    CHECK_EQ(raw_done(fd, 3), VELUM_KV_RAM);
    velum_test_disk_fail_syncs(VELUM_E_SYSTEM);
    velum_test_disk_hold(false);
    CHECK_EQ(raw_done(fd, 2), VELUM_KV_LOG);
    CHECK(figures_of_log().broken);
    raw_do(fd, 4, VELUM_KV_FSYNC, 0, "SET d 4");
    CHECK_EQ(raw_done(fd, 4), 0);
    CHECK(reply_size > 0 && reply_bytes[0] == '-');
    raw_do(fd, 5, 0, 0, "MGET a b c d");
    CHECK_EQ(raw_done(fd, 5), 0);
    CHECK(reply_is("*4\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n_\r\n"));
    CHECK_EQ(live(2 * SECOND), 2);
    velum_test_disk_space(UINT64_MAX);
    velum_test_disk_fail_syncs(0);
    mesh_do(&mesh[0], "VELUM.COMPACT"); /* ends the pause */
    CHECK(reply_is("+OK\r\n"));
    CHECK_EQ(live(SECOND), 0);
    velum_kv_log_figures log = figures_of_log();
    CHECK(!log.broken && log.synced == log.taken);
    CHECK(!velum_kv_node_get_figures(mesh[0].kv).refusing);
    raw_do(fd, 6, VELUM_KV_FSYNC, 0, "SET e 5");
    CHECK_EQ(raw_done(fd, 6), VELUM_KV_FSYNC);
    velum_port_close(fd);
    mesh_stop(&mesh[0]);
    mesh_count = 0;
    mesh_add();
    mesh_do(&mesh[0], "MGET a b c d e");
    CHECK(reply_is("*5\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n_\r\n$1\r\n5\r\n"));
    mesh_close();
}

/* Breaks the log by a write of this program. */
static void break_log(void) {
    uint8_t reached;
    velum_test_disk_fail_syncs(VELUM_E_SYSTEM);
    (void)mesh_do_as(&mesh[0], VELUM_KV_FSYNC, 1, "SET a 2", &reached);
    mesh_turns(2);
    CHECK(figures_of_log().broken);
}

/* It tries again by itself, after 1, 2, 4, 8, 16 and then every 30 s; the next time it is broken,
 * at once. */
static void test_heals_again(void) {
    mesh_open(1, "n");
    mesh_do(&mesh[0], "SET a 1");
    break_log();
    CHECK_EQ(live(100 * SECOND), 8); /* at 0, 1, 3, 7, 15, 31, 61 and 91 s, and a little */
    velum_test_disk_fail_syncs(0);
    velum_test_disk_space(0); /* now it has no room */
    CHECK_EQ(live(60 * SECOND), 2);
    CHECK(figures_of_log().broken);
    velum_test_disk_space(UINT64_MAX);
    CHECK_EQ(live(31 * SECOND), 1);
    CHECK(!figures_of_log().broken);
    CHECK_EQ(live(60 * SECOND), 0);
    break_log();
    CHECK_EQ(live(2 * SECOND), 2);
    velum_test_disk_fail_syncs(0);
    CHECK_EQ(live(2 * SECOND), 1);
    CHECK(!figures_of_log().broken);
    mesh_close();
}

/* ---- background work ---- */

static void test_tend(void) {
    char command[64];
    mesh_open(1, "n");
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(command, sizeof command, "SET key%d 1", i);
        mesh_do(&mesh[0], command);
        (void)snprintf(command, sizeof command, "DEL key%d", i);
        mesh_do(&mesh[0], command);
    }
    velum_kv_node_mark(mesh[0].kv, 5);
    mesh_do(&mesh[0], "SET late 1");
    mesh_do(&mesh[0], "DEL late");
    CHECK_EQ(velum_kv_node_get_figures(mesh[0].kv).keys.tombstones, 1001);
    CHECK(velum_kv_node_tend(mesh[0].kv, 4, 0));
    CHECK_EQ(velum_kv_node_settled(mesh[0].kv), 0); /* not all were passed */
    for (int i = 0; i < 100 && velum_kv_node_tend(mesh[0].kv, 4, 0); i++) {
    }
    CHECK_EQ(velum_kv_node_settled(mesh[0].kv), 4);
    CHECK_EQ(velum_kv_node_get_figures(mesh[0].kv).keys.settled, 1000);
    for (int i = 0; i < 100 && velum_kv_node_tend(mesh[0].kv, 4, 4); i++) {
    }
    CHECK_EQ(velum_kv_node_get_figures(mesh[0].kv).keys.tombstones, 1);
    CHECK_EQ(velum_kv_node_settled(mesh[0].kv), 4);
    mesh_close();
}

static void test_compaction(void) {
    mesh_open(1, "n");
    for (int i = 0; i < 6; i++)
        mesh_do(&mesh[0], "SET a @500000");
    uint64_t before = velum_kv_node_get_figures(mesh[0].kv).log.file_bytes;
    CHECK(before > 3000000);
    for (int i = 0; i < 200; i++) {
        velum_kv_node_tend(mesh[0].kv, 0, 0);
        mesh_turns(1);
    }
    CHECK(velum_kv_node_get_figures(mesh[0].kv).log.file_bytes < 600000);
    CHECK(!velum_kv_node_get_figures(mesh[0].kv).log.compacting);
    mesh_do(&mesh[0], "VELUM.COMPACT");
    CHECK(velum_kv_node_get_figures(mesh[0].kv).log.compacting);
    for (int i = 0; i < 20; i++) {
        velum_kv_node_tend(mesh[0].kv, 0, 0);
        mesh_turns(1);
    }
    CHECK(!velum_kv_node_get_figures(mesh[0].kv).log.compacting);
    mesh_stop(&mesh[0]);
    mesh_count = 0;
    mesh_add();
    mesh_do(&mesh[0], "STRLEN a");
    CHECK(reply_is(":500000\r\n"));
    mesh_close();
}

/* Its lines and keys survive a restart; another program cannot have the log meanwhile. */
static void test_restart(void) {
    velum_kv_node *second;
    mesh_open(1, "n");
    mesh_do(&mesh[0], "SET a 1");
    velum_kv_node_config config = {
        .node = 2, .room_bytes = 1000000, .owner = &mesh[0], .unix_ms = mesh_clock};
    velum_hub *hub = open_hub(2, 4);
    CHECK_EQ(velum_kv_node_open(&second, hub, &config, "n1.log", NULL), VELUM_E_LOCKED);
    velum_hub_close(hub);
    mesh_stop(&mesh[0]);
    mesh_count = 0;
    mesh_add();
    mesh_do(&mesh[0], "GET a");
    CHECK(reply_is("$1\r\n1\r\n"));
    CHECK_EQ(velum_kv_node_get_figures(mesh[0].kv).found.records, 1);
    mesh_close();
}

int main(void) {
    test_do();
    test_without_log();
    test_fsync_waits();
    test_sync_wakes();
    test_full_disk();
    test_refused_requests();
    test_large_reply();
    test_unread_answers();
    test_link_ends();
    test_roles();
    test_own_requests();
    test_ram_is_logged();
    test_watch();
    test_own_watch();
    test_broken_log();
    test_heals_again();
    test_tend();
    test_compaction();
    test_restart();
    return check_report("test_kv_node");
}
