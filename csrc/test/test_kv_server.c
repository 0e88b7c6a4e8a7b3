/* test_kv_server.c: connections: how requests come, and when replies leave. */
#include "kv_server_world.h"

/* ---- requests as they come ---- */

static void test_pipelining(void) {
    world *w = open_world(VELUM_KV_LOG);
    client c = dial(w);
    ASK(w, &c, "SET a 1\nINCR a\n\nGET a\nNOSUCH\nPING",
        "OK\n2\n2\n-ERR unknown command 'NOSUCH', with args beginning with: \nPONG\n");
    CHECK_EQ(velum_kv_server_get_figures(w->server).commands, 5);
    CHECK_EQ(velum_kv_server_get_figures(w->server).connections, 1);
    hang_up(w, &c);
    CHECK_EQ(velum_kv_server_get_figures(w->server).connections, 0);
    close_world(w);
}

static void test_half_requests(void) {
    static const char request[] = "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$5\r\nv\r\nlu\r\n"
                                  "*2\r\n$3\r\nGET\r\n$1\r\na\r\n";
    world *w = open_world(VELUM_KV_LOG);
    client c = dial(w);
    for (size_t i = 0; i + 1 < sizeof request; i++) {
        EXPECT(w, &c, i == 31 ? "OK\n" : "");
        say_bytes(w, &c, request + i, 1);
    }
    EXPECT(w, &c, "v\r\nlu\n");
    say(w, &c, "*1\r\n$4\r\nPI"); /* and goes, in the middle */
    hang_up(w, &c);
    CHECK_EQ(velum_kv_server_get_figures(w->server).connections, 0);
    close_world(w);
}

/* However the port cuts what is sent, the replies are the same. */
static void test_manners(size_t bytes_max) {
    velum_test_manner manner = {.recv_max = bytes_max,
                                .send_max = bytes_max,
                                .random = true,
                                .again_every = 3,
                                .window = 300};
    static char text[8192], expected[8192];
    world *w = open_world(VELUM_KV_FSYNC);
    velum_test_set_default_manner(&manner);
    client c = dial(w);
    size_t said = 0, size = 0;
    for (int i = 1; i <= 250; i++) {
        said += (size_t)snprintf(text + said, sizeof text - said, "INCR n\nECHO echo%d\n", i);
        size += (size_t)snprintf(expected + size, sizeof expected - size, "%d\necho%d\n", i, i);
    }
    say(w, &c, text);
    EXPECT(w, &c, expected);
    hang_up(w, &c);
    close_world(w);
}

static void test_ends(void) {
    world *w = open_world(VELUM_KV_LOG);
    client c = dial(w), d = dial(w), e = dial(w);
    ASK(w, &c, "PING\nQUIT\nPING", "PONG\nOK\nclosed\n");
    say(w, &d, "PING\n*1\r\n!\r\nPING\n");
    EXPECT(w, &d, "PONG\n-ERR Protocol error: expected '$', got '!'\nclosed\n");
    velum_test_cut(e.fd, VELUM_E_CLOSED);
    run(w);
    CHECK_EQ(velum_kv_server_get_figures(w->server).connections, 0);
    hang_up(w, &c);
    hang_up(w, &d);
    hang_up(w, &e);
    close_world(w);
}

static void test_too_many(void) {
    world *w = open_world(VELUM_KV_LOG);
    client c[CONNECTIONS];
    for (size_t i = 0; i < CONNECTIONS; i++)
        c[i] = dial(w);
    client more = dial(w);
    EXPECT(w, &more, "-ERR max number of clients reached\nclosed\n");
    hang_up(w, &more);
    CHECK_EQ(velum_kv_server_get_figures(w->server).connections, CONNECTIONS);
    ASK(w, &c[0], "PING", "PONG\n");
    hang_up(w, &c[1]);
    c[1] = dial(w);
    ASK(w, &c[1], "PING", "PONG\n");
    for (size_t i = 0; i < CONNECTIONS; i++)
        hang_up(w, &c[i]);
    close_world(w);
}

/* ---- who does not read ---- */

/* A key with so many bytes. */
static void put_large(world *w, client *c, const char *key, size_t n) {
    char *value = malloc(n + 64);
    if (value == NULL) abort();
    int head = snprintf(value, 64, "*3\r\n$3\r\nSET\r\n$1\r\n%s\r\n$%zu\r\n", key, n);
    memset(value + head, 'v', n);
    memcpy(value + head + n, "\r\n", 2);
    say_bytes(w, c, value, (size_t)head + n + 2);
    free(value);
    EXPECT(w, c, "OK\n");
}

static void test_slow_reader(void) {
    world *w = open_world(VELUM_KV_LOG);
    client c = dial(w), d = dial(w);
    uint8_t *data;
    put_large(w, &c, "k", 100000);
    for (int i = 0; i < 100; i++)
        (void)velum_port_send(c.fd, "GET k\n", 6);
    (void)velum_port_send(c.fd, "PING\n", 5);
    run(w);
    CHECK(velum_kv_server_get_figures(w->server).commands < 10); /* the others wait */
    ASK(w, &d, "PING", "PONG\n");
    size_t n = come(w, &c, &data);
    CHECK_EQ(n, 100 * (9 + 100000 + 2) + 7);
    CHECK(n > 7 && memcmp(data + n - 7, "+PONG\r\n", 7) == 0);
    hang_up(w, &c);
    hang_up(w, &d);
    close_world(w);
}

static void test_large_reply(void) {
    static char line[16384];
    world *w = open_world(VELUM_KV_LOG);
    client c = dial(w);
    size_t n = 4;
    put_large(w, &c, "k", 1000000);
    memcpy(line, "MGET", 4);
    for (int i = 0; i < 9; i++, n += 2)
        memcpy(line + n, " k", 2);
    memcpy(line + n, "\nPING\n", 7);
    say(w, &c, line);
    EXPECT(w, &c, "-ERR a reply has 8 MiB at most: ask for less at a time (SCAN, say)\nPONG\n");
    hang_up(w, &c);
    close_world(w);
}

/* ---- durability ---- */

static void test_ram_and_log(void) {
    world *w = open_world(VELUM_KV_RAM);
    client c = dial(w);
    velum_test_disk_space(0);
    ASK(w, &c, "SET a 1", "OK\n");
    ASK(w, &c, "GET a", "1\n");
    velum_test_disk_space(UINT64_MAX);
    hang_up(w, &c);
    close_world(w);
    w = open_world(VELUM_KV_LOG);
    c = dial(w);
    velum_test_disk_hold(true);
    ASK(w, &c, "SET a 1", "OK\n");
    velum_test_disk_hold(false);
    velum_kv_log_figures f = velum_kv_log_get_figures(velum_kv_state_log(w->state));
    CHECK(f.written > 0 && f.written == f.taken);
    hang_up(w, &c);
    close_world(w);
}

static void test_replies_wait_for_sync(void) {
    world *w = open_world(VELUM_KV_FSYNC);
    client c = dial(w), d = dial(w), e = dial(w);
    velum_test_disk_hold(true);
    ASK(w, &c, "GET a\nSET a 1", "");
    ASK(w, &d, "SET b 1\nSET b 2\nGET b", ""); /* for the sync after that one */
    ASK(w, &e, "GET a", "1\n");                /* who wrote nothing waits for nothing */
    CHECK_EQ(velum_kv_server_get_figures(w->server).waiting, 2);
    ASK(w, &c, "PING", ""); /* behind the other replies */
    velum_test_disk_hold(false);
    EXPECT(w, &c, "null\nOK\nPONG\n");
    EXPECT(w, &d, "OK\nOK\n2\n");
    CHECK_EQ(velum_kv_server_get_figures(w->server).waiting, 0);
    ASK(w, &c, "SET a 2", "OK\n");
    hang_up(w, &c);
    hang_up(w, &d);
    hang_up(w, &e);
    close_world(w);
}

static uint64_t log_bytes(world *w) {
    return velum_kv_log_get_figures(velum_kv_state_log(w->state)).file_bytes;
}

#define NOT_LOGGED                                                                                 \
    "-MISCONF the log cannot be written: what this connection wrote last is in memory, and not "   \
    "on disk\nclosed\n"

static void test_full_disk(velum_kv_durability durability) {
    world *w = open_world(durability);
    client c = dial(w), d = dial(w), e = dial(w);
    ASK(w, &c, "SET a 1", "OK\n");
    ASK(w, &e, "SET e 1", "OK\n");
    velum_test_disk_space(log_bytes(w));
    ASK(w, &c, "GET a\nSET a 2\nGET a", NOT_LOGGED);
    ASK(w, &d, "GET a", "2\n"); /* it is in memory */
    say(w, &d, "SET b 1\n");
    uint8_t *data;
    size_t n = come(w, &d, &data);
    CHECK(n > 9 && memcmp(data, "-MISCONF ", 9) == 0 && !d.closed);
    ASK(w, &e, "GET e", "1\n");
    velum_test_disk_space(UINT64_MAX);
    run(w);
    ASK(w, &d, "SET b 1", "OK\n");
    ASK(w, &d, "GET a", "2\n");
    hang_up(w, &c);
    hang_up(w, &d);
    hang_up(w, &e);
    close_world(w);
}

/* A reply of which some has left is not cut by a later one that fails. */
static void test_full_disk_behind_a_long_reply(void) {
    world *w = open_world(VELUM_KV_LOG);
    client c = dial(w);
    uint8_t *data;
    put_large(w, &c, "k", 200000);
    say(w, &c, "GET k\n"); /* half of it is under way */
    velum_test_disk_space(log_bytes(w));
    say(w, &c, "SET a 1\n");
    size_t n = come(w, &c, &data);
    CHECK(n > 9 + 200000 + 2 + 8 && memcmp(data, "$200000\r\n", 9) == 0);
    CHECK(memcmp(data + 9 + 200000 + 2, "-MISCONF", 8) == 0);
    CHECK(c.closed);
    velum_test_disk_space(UINT64_MAX);
    hang_up(w, &c);
    close_world(w);
}

/* What is written and waits for its sync is not told to be lost because a later write fails. */
static void test_full_disk_during_sync(void) {
    world *w = open_world(VELUM_KV_FSYNC);
    client c = dial(w), d = dial(w), e = dial(w);
    velum_test_disk_hold(true);
    ASK(w, &c, "SET a 1", "");
    ASK(w, &e, "SET e 1", ""); /* for the next sync, which begins on the full disk */
    velum_test_disk_space(log_bytes(w));
    ASK(w, &d, "SET b 1", NOT_LOGGED);
    EXPECT(w, &c, "");
    velum_test_disk_hold(false);
    EXPECT(w, &c, "OK\n");
    EXPECT(w, &e, "OK\n");
    velum_test_disk_space(UINT64_MAX);
    hang_up(w, &c);
    hang_up(w, &d);
    hang_up(w, &e);
    close_world(w);
}

/* Of replies that leave slowly those that may not yet do not. */
static void test_sync_behind_long_replies(size_t bytes, size_t gets) {
    world *w = open_world(VELUM_KV_FSYNC);
    client c = dial(w);
    uint8_t *data;
    char line[32];
    size_t head = (size_t)snprintf(line, sizeof line, "$%zu\r\n", bytes);
    put_large(w, &c, "k", bytes);
    velum_test_disk_hold(true);
    for (size_t i = 0; i < gets; i++)
        (void)velum_port_send(c.fd, "GET k\n", 6);
    say(w, &c, "SET a 1\n");
    size_t all = gets * (head + bytes + 2), n = come(w, &c, &data);
    CHECK(n <= all);
    velum_test_disk_hold(false);
    size_t rest = come(w, &c, &data);
    CHECK_EQ(n + rest, all + 5);
    CHECK(rest >= 5 && memcmp(data + rest - 5, "+OK\r\n", 5) == 0);
    hang_up(w, &c);
    close_world(w);
}

static void test_failed_sync(void) {
    world *w = open_world(VELUM_KV_FSYNC);
    client c = dial(w), d = dial(w);
    velum_test_disk_fail_syncs(VELUM_E_SYSTEM);
    ASK(w, &c, "SET a 1", NOT_LOGGED);
    ASK(w, &d, "GET a", "1\n");
    velum_test_disk_fail_syncs(0);
    hang_up(w, &c);
    hang_up(w, &d);
    close_world(w);
}

/* ---- peers ---- */

static void test_quorum(void) {
    world *w = open_world(VELUM_KV_QUORUM);
    client c = dial(w), d = dial(w);
    ASK(w, &c, "SET a 1", "OK\n"); /* alone it is the majority */
    w->members = 5;
    w->peers = 4;
    ASK(w, &c, "SET a 2\nGET a", "");
    CHECK_EQ(w->asked, 2);
    ASK(w, &d, "GET a", "2\n");
    w->heard[0] = 2;
    w->heard[1] = 1;
    EXPECT(w, &c, "");
    w->heard[1] = 2;
    EXPECT(w, &c, "OK\n2\n");
    w->members = 9; /* what was confirmed stays so */
    pass(w, 10 * SECOND_US);
    ASK(w, &c, "GET a", "2\n");
    w->members = 5;
    ASK(w, &c, "GET a\nSET a 3", "");
    pass(w, 4 * SECOND_US);
    EXPECT(w, &c, "");
    pass(w, 2 * SECOND_US);
    EXPECT(w, &c,
           "-NOREPLICAS no majority has confirmed what this connection wrote last: it is "
           "kept here, and passed on when members are back\nclosed\n");
    ASK(w, &d, "GET a", "3\n");
    hang_up(w, &c);
    hang_up(w, &d);
    close_world(w);
    CHECK(velum_kv_is_majority(0, 1) && !velum_kv_is_majority(0, 2) && velum_kv_is_majority(1, 2));
    CHECK(velum_kv_is_majority(1, 3) && !velum_kv_is_majority(1, 4) && velum_kv_is_majority(2, 4));
}

static void test_wait(void) {
    world *w = open_world(VELUM_KV_LOG);
    client c = dial(w);
    w->peers = 2;
    ASK(w, &c, "WAIT 2 0", "2\n"); /* it wrote nothing: all have it */
    ASK(w, &c, "SET a 1\nWAIT 0 0", "OK\n0\n");
    ASK(w, &c, "WAIT 2 0\nPING", "");
    CHECK_EQ(w->asked, 1);
    CHECK_EQ(velum_kv_server_get_figures(w->server).waiting, 1);
    w->heard[1] = 1;
    EXPECT(w, &c, "");
    w->heard[0] = 5;
    EXPECT(w, &c, "2\nPONG\n");
    ASK(w, &c, "SET a 2\nWAIT 2 1000\nPING", "OK\n");
    pass(w, SECOND_US / 2);
    EXPECT(w, &c, "");
    pass(w, SECOND_US);
    EXPECT(w, &c, "1\nPONG\n");
    ASK(w, &c, "WAIT x 0", "-ERR value is not an integer or out of range\n");
    ASK(w, &c, "WAIT 1 x", "-ERR timeout is not an integer or out of range\n");
    ASK(w, &c, "WAIT 1 -1", "-ERR timeout is negative\n");
    ASK(w, &c, "WAIT 2 9223372036854775807", "");
    w->heard[0] = w->heard[1] = 5;
    EXPECT(w, &c, "2\n");
    ASK(w, &c, "WAIT 9 0", ""); /* for ever; its end is noticed all the same */
    hang_up(w, &c);
    CHECK_EQ(velum_kv_server_get_figures(w->server).connections, 0);
    close_world(w);
}

/* The loop wakes up by itself where time alone ends a wait. */
static void test_wakes_up(void) {
    world *w = open_world(VELUM_KV_LOG);
    client c = dial(w);
    ASK(w, &c, "WAIT 1 3000", "");
    int64_t before = velum_port_now_us();
    CHECK_EQ(velum_loop_tick(w->loop, -1), 1);
    CHECK_EQ(velum_port_now_us() - before, 3 * SECOND_US);
    EXPECT(w, &c, "0\n");
    hang_up(w, &c);
    close_world(w);
}

int main(void) {
    test_pipelining();
    test_half_requests();
    for (size_t bytes_max = 1; bytes_max <= 64; bytes_max *= 2)
        test_manners(bytes_max);
    test_ends();
    test_too_many();
    test_slow_reader();
    test_large_reply();
    test_ram_and_log();
    test_replies_wait_for_sync();
    test_full_disk(VELUM_KV_LOG);
    test_full_disk(VELUM_KV_FSYNC);
    test_full_disk_behind_a_long_reply();
    test_full_disk_during_sync();
    for (size_t gets = 1; gets < 60; gets++)
        test_sync_behind_long_replies(5000 + 700 * gets, gets);
    test_failed_sync();
    test_quorum();
    test_wait();
    test_wakes_up();
    return check_report("kv_server");
}
