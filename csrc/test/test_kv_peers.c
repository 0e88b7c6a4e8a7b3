/* test_kv_peers.c: what nodes tell each other: pushes, what was heard, sums and leaves, and what is
 * passed over or ends a link.
 */
#include "kv_mesh.h"
#include "kv_text.h"

static bool has(mesh_node *n, const char *command, const char *reply) {
    mesh_do(n, command);
    return reply_is(reply);
}

/* A figure of VELUM.STAT. */
static int64_t stat(mesh_node *n, const char *name) {
    char head[64];
    int size = snprintf(head, sizeof head, "%s\r\n:", name);
    mesh_do(n, "VELUM.STAT");
    for (size_t i = 0; i + (size_t)size <= reply_size; i++)
        if (memcmp(reply_bytes + i, head, (size_t)size) == 0)
            return atoll((const char *)reply_bytes + i + size);
    printf("no figure %s\n", name);
    return -1;
}

/* ---- pushes ---- */

static void test_push(void) {
    mesh_open(3, "n");
    mesh_do(&mesh[0], "SET a 1");
    velum_hub_flush(mesh[0].hub); /* it has left: nothing of node 1 needs to be polled */
    mesh_serve(&mesh[1], 0);
    mesh_serve(&mesh[2], 0);
    CHECK(has(&mesh[1], "GET a", "$1\r\n1\r\n"));
    CHECK(has(&mesh[2], "GET a", "$1\r\n1\r\n"));
    mesh_do(&mesh[1], "INCR n");
    mesh_do(&mesh[2], "INCRBY n 5");
    mesh_turns(4);
    for (size_t i = 0; i < 3; i++)
        CHECK(has(&mesh[i], "GET n", "$1\r\n6\r\n"));
    velum_kv_node_figures f = velum_kv_node_get_figures(mesh[0].kv);
    CHECK_EQ(f.peers, 2);
    CHECK_EQ(f.records_out, 2); /* what came is not passed on */
    CHECK_EQ(f.records_in, 2);
    CHECK_EQ(f.missed, 0);
    mesh_close();
}

/* All that was written in one round goes as one frame. */
static void test_one_frame(void) {
    velum_hub_stats before, after;
    mesh_open(2, "n");
    velum_fd fd = mesh_client(&mesh[0]);
    velum_hub_get_stats(mesh[0].hub, &before);
    uint8_t request[64];
    size_t n = 0;
    for (uint64_t i = 1; i <= 10; i++) {
        velum_kv_do m = {VELUM_KV_LOG, 0, request, 0};
        m.size = (uint32_t)put_request(request, i % 2 ? "INCR a" : "SADD s x");
        int put = velum_wire_put_kv_do(mesh_buf + n, sizeof mesh_buf - n, i, &m);
        CHECK(put > 0);
        n += (size_t)put;
    }
    raw_frame(fd, (int)n);
    mesh_turns(5);
    velum_hub_get_stats(mesh[0].hub, &after);
    CHECK_EQ(after.frames_out - before.frames_out, 10 + 1);
    CHECK(has(&mesh[1], "GET a", "$1\r\n5\r\n"));
    velum_port_close(fd);
    mesh_close();
}

/* Nothing leaves before the log has it. */
static void test_log_first(void) {
    mesh_open(2, "n");
    velum_fd fd = mesh_client(&mesh[0]);
    velum_test_disk_space(0);
    raw_do(fd, 1, VELUM_KV_LOG, 0, "SET a 1");
    CHECK_EQ(raw_done(fd, 1), VELUM_KV_RAM);
    mesh_turns(5);
    CHECK(has(&mesh[1], "GET a", "_\r\n"));
    velum_test_disk_space(UINT64_MAX);
    mesh_turns(5);
    CHECK(has(&mesh[1], "GET a", "$1\r\n1\r\n"));
    velum_port_close(fd);
    mesh_close();
}

/* What expires is by the clock of who has it. */
static void test_clocks(void) {
    mesh_open(2, NULL);
    mesh[0].clock_ms = 1000000;
    mesh_do(&mesh[0], "SET a 1 PX 5000");
    mesh_turns(3);
    CHECK(has(&mesh[1], "PTTL a", ":5000\r\n"));
    mesh_do(&mesh[1], "SET b 1 PX 5000");
    mesh_turns(3);
    CHECK(has(&mesh[0], "PTTL b", ":5000\r\n"));
    velum_test_advance(6 * SECOND);
    CHECK(has(&mesh[1], "GET a", "_\r\n"));
    mesh_close();
}

/* ---- heard ---- */

static void test_quorum(void) {
    mesh_open(3, "n");
    velum_fd fd = mesh_client(&mesh[0]);
    raw_do(fd, 1, VELUM_KV_QUORUM, 0, "SET a 1");
    CHECK_EQ(raw_done(fd, 1), VELUM_KV_QUORUM);
    velum_test_disk_hold(true); /* peers have heard, and the disk here has not */
    raw_do(fd, 2, VELUM_KV_QUORUM, 0, "SET a 2");
    CHECK(nothing_came(fd));
    velum_test_disk_hold(false);
    CHECK_EQ(raw_done(fd, 2), VELUM_KV_QUORUM);
    mesh_stop(&mesh[2]);
    mesh_turns(3);
    raw_do(fd, 3, VELUM_KV_QUORUM, 0, "SET a 3"); /* two of three */
    CHECK_EQ(raw_done(fd, 3), VELUM_KV_QUORUM);
    mesh_stop(&mesh[1]);
    mesh_turns(3);
    raw_do(fd, 4, VELUM_KV_QUORUM, 300, "SET a 4");
    CHECK(nothing_came(fd));
    int64_t before = velum_port_now_us();
    mesh_serve(&mesh[0], SECOND);
    CHECK_EQ(velum_port_now_us() - before, SECOND); /* no event: the whole of it is slept */
    CHECK_EQ(raw_done(fd, 4), VELUM_KV_FSYNC);
    raw_do(fd, 5, VELUM_KV_QUORUM, 0, "SET a 5");
    CHECK(nothing_came(fd));
    velum_test_advance(INT64_C(1000) * VELUM_KV_QUORUM_MS - 1000);
    CHECK(nothing_came(fd));
    velum_test_advance(1000);
    CHECK_EQ(raw_done(fd, 5), VELUM_KV_FSYNC);
    velum_port_close(fd);
    mesh_close();
}

static void test_own_quorum(void) {
    uint8_t reached;
    uint64_t token;
    mesh_open(3, "n");
    CHECK_EQ(mesh_do_as(&mesh[0], VELUM_KV_QUORUM, 8, "SET a 1", &reached), 0);
    mesh_turns(4);
    CHECK(velum_kv_node_next(mesh[0].kv, &token, &reached));
    CHECK_EQ(token, 8);
    CHECK_EQ(reached, VELUM_KV_QUORUM);
    mesh_close();
}

/* A peer that has pulled what was here has heard of it, though no push has reached it. */
static void test_pulled(void) {
    mesh_open(1, "n");
    mesh_add();
    velum_kv_node_set_members(mesh[0].kv, 2);
    velum_fd fd = mesh_client(&mesh[0]);
    raw_do(fd, 1, VELUM_KV_QUORUM, 0, "SET a 1"); /* there is no peer yet */
    mesh_link(&mesh[0], &mesh[1]);
    CHECK(nothing_came(fd));
    velum_kv_node_credit(mesh[0].kv, 2); /* of nothing */
    CHECK(nothing_came(fd));
    velum_kv_node_part(mesh[1].kv, mesh[1].links[0]); /* it takes no push */
    raw_do(fd, 2, VELUM_KV_QUORUM, 0, "SET b 1");
    CHECK(nothing_came(fd));
    velum_kv_node_offer(mesh[0].kv, 2);
    raw_do(fd, 3, VELUM_KV_QUORUM, 100, "SET c 1"); /* too late for this pull */
    mesh_turns(5);
    CHECK(nothing_came(fd));
    velum_kv_node_credit(mesh[0].kv, 3); /* who is that? */
    CHECK(nothing_came(fd));
    velum_kv_node_credit(mesh[0].kv, 2);
    CHECK_EQ(raw_done(fd, 1), VELUM_KV_QUORUM);
    CHECK_EQ(raw_done(fd, 2), VELUM_KV_QUORUM);
    CHECK(nothing_came(fd));
    velum_test_advance(SECOND);
    CHECK_EQ(raw_done(fd, 3), VELUM_KV_FSYNC);
    velum_port_close(fd);
    mesh_close();
}

/* Half of the members is no majority. */
static void test_half(void) {
    mesh_open(2, "n");
    velum_kv_node_set_members(mesh[0].kv, 4);
    velum_fd fd = mesh_client(&mesh[0]);
    raw_do(fd, 1, VELUM_KV_QUORUM, 100, "SET a 1");
    CHECK(nothing_came(fd));
    velum_test_advance(SECOND);
    CHECK_EQ(raw_done(fd, 1), VELUM_KV_FSYNC);
    velum_kv_node_set_members(mesh[0].kv, 3);
    raw_do(fd, 2, VELUM_KV_QUORUM, 100, "SET a 1");
    CHECK_EQ(raw_done(fd, 2), VELUM_KV_QUORUM);
    velum_port_close(fd);
    mesh_close();
}

/* A peer without room has not heard, also if the next question comes with something else. */
static void test_not_heard(void) {
    char command[64];
    mesh_open(1, "n");
    mesh_room = 4u * 1024u * 1024u;
    mesh_add();
    mesh_link(&mesh[0], &mesh[1]);
    velum_kv_node_set_members(mesh[0].kv, 2);
    velum_fd fd = mesh_client(&mesh[0]);
    for (int i = 0; i < 4; i++) {
        (void)snprintf(command, sizeof command, "SET a%d @1000000", i);
        mesh_do(&mesh[0], command);
        mesh_turns(40);
    }
    CHECK_EQ(stat(&mesh[1], "records_refused"), 0);
    CHECK_EQ(stat(&mesh[1], "records_in"), 4);
    raw_do(fd, 1, VELUM_KV_QUORUM, 100, "SET e @1000000");
    mesh_turns(40);
    CHECK(nothing_came(fd));
    CHECK_EQ(stat(&mesh[1], "records_refused"), 1);
    raw_do(fd, 2, VELUM_KV_QUORUM, 100, "SET f 1"); /* this one it has */
    CHECK_EQ(raw_done(fd, 2), VELUM_KV_QUORUM);
    velum_test_advance(SECOND);
    CHECK_EQ(raw_done(fd, 1), VELUM_KV_FSYNC);
    /* One that nobody waits for is passed over; it counts against the next that is asked for. */
    mesh_do(&mesh[0], "SET g @1000000");
    raw_do(fd, 3, VELUM_KV_QUORUM, 100, "SET h 1");
    mesh_turns(40);
    CHECK(nothing_came(fd));
    velum_test_advance(SECOND);
    CHECK_EQ(raw_done(fd, 3), VELUM_KV_FSYNC);
    CHECK_EQ(mesh[0].closed + mesh[1].closed, 0);
    velum_port_close(fd);
    mesh_close();
}

/* The answers of a raw peer: only to what it was asked, and only for what it had. */
static void test_lying_peer(void) {
    mesh_open(1, "n");
    velum_kv_node_set_members(mesh[0].kv, 2);
    velum_fd node = mesh_raw(&mesh[0], VELUM_ROLE_NODE, 2), fd = mesh_client(&mesh[0]);
    velum_wire_put_header(mesh_buf, VELUM_F_KV_HEARD, 0, UINT64_MAX);
    raw_frame(node, VELUM_HEADER_BYTES);
    raw_do(fd, 1, VELUM_KV_QUORUM, 100, "SET a 1");
    velum_header header = raw_next(node);
    CHECK_EQ(header.type, VELUM_F_KV_RECORDS);
    CHECK(header.correlation != 0);
    velum_wire_put_header(mesh_buf, VELUM_F_KV_HEARD, 0, header.correlation + 1);
    raw_frame(node, VELUM_HEADER_BYTES);
    CHECK(nothing_came(fd));
    velum_wire_put_header(mesh_buf, VELUM_F_KV_HEARD, 0, header.correlation);
    raw_frame(node, VELUM_HEADER_BYTES);
    CHECK_EQ(raw_done(fd, 1), VELUM_KV_QUORUM);
    raw_do(fd, 2, VELUM_KV_LOG, 0, "SET a 2"); /* nobody waits: no question */
    CHECK_EQ(raw_done(fd, 2), VELUM_KV_LOG);
    CHECK_EQ(raw_next(node).correlation, 0);
    velum_port_close(node);
    velum_port_close(fd);
    mesh_close();
}

/* A peer whose queue has no room misses what is pushed, and that is told. */
static void test_missed(void) {
    uint16_t id = 0;
    mesh_open(1, "n");
    velum_kv_node_set_members(mesh[0].kv, 2);
    velum_fd node = mesh_raw(&mesh[0], VELUM_ROLE_NODE, 2), fd = mesh_client(&mesh[0]);
    for (int i = 0; i < 5; i++) {
        mesh_do(&mesh[0], "SET a @900000");
        mesh_turns(2);
    }
    CHECK(velum_kv_node_get_figures(mesh[0].kv).missed >= 2);
    CHECK(velum_kv_node_missed(mesh[0].kv, &id));
    CHECK_EQ(id, 2);
    CHECK(!velum_kv_node_missed(mesh[0].kv, &id));
    raw_do(fd, 1, VELUM_KV_QUORUM, 100, "SET b @900000"); /* missed too */
    CHECK(nothing_came(fd));
    uint64_t asked = 0;
    for (int i = 0; i < 10; i++) {
        velum_header header = raw_next(node);
        if (header.type == VELUM_F_KV_RECORDS) asked = header.correlation;
    }
    CHECK(asked != 0); /* it is asked, as soon as there is room, for all up to then */
    velum_wire_put_header(mesh_buf, VELUM_F_KV_HEARD, 0, asked);
    raw_frame(node, VELUM_HEADER_BYTES);
    CHECK(nothing_came(fd)); /* and still has not had this one */
    velum_test_advance(SECOND);
    CHECK_EQ(raw_done(fd, 1), VELUM_KV_FSYNC);
    velum_port_close(node);
    velum_port_close(fd);
    mesh_close();
}

/* ---- records that come ---- */

static size_t put_line(char *out, size_t room, velum_kv_record *record, const char *key) {
    record->key = (velum_kv_bytes){(const uint8_t *)key, strlen(key)};
    int n = velum_kv_text_put(record, out, room - 1);
    CHECK(n > 0);
    out[n] = '\0';
    return (size_t)n;
}

static void test_records(void) {
    char lines[1024];
    velum_kv_record record = {.op = VELUM_KV_SET, .stamp = {CLOCK_MS << 16, 9}};
    velum_kv_record ahead = {.op = VELUM_KV_SET, .stamp = {UINT64_MAX - 1, 9}};
    mesh_open(1, "n");
    velum_fd fd = mesh_raw(&mesh[0], VELUM_ROLE_NODE, 9);
    size_t n = put_line(lines, sizeof lines, &record, "a");
    n += put_line(lines + n, sizeof lines - n, &ahead, "b");
    put_line(lines + n, sizeof lines - n, &record, "c");
    raw_records(fd, 7, CLOCK_MS, lines);
    CHECK(nothing_came(fd)); /* not all of it was heard */
    CHECK(has(&mesh[0], "EXISTS a b c", ":2\r\n"));
    CHECK_EQ(stat(&mesh[0], "records_ahead"), 1);
    CHECK_EQ(stat(&mesh[0], "records_in"), 3);
    put_line(lines, sizeof lines, &record, "a");
    raw_records(fd, 8, CLOCK_MS, lines);
    velum_header header = raw_next(fd);
    CHECK_EQ(header.type, VELUM_F_KV_HEARD);
    CHECK_EQ(header.correlation, 8);
    raw_records(fd, 0, CLOCK_MS, lines);
    CHECK(nothing_came(fd));
    raw_records(fd, 9, CLOCK_MS, ""); /* nothing but the question */
    CHECK_EQ(raw_next(fd).correlation, 9);
    velum_port_close(fd);
    mesh_close();
}

/* A peer that sends what a settled tombstone hides lacks that. */
static void test_lacking(void) {
    char line[256];
    uint16_t id = 0;
    velum_kv_record record = {.op = VELUM_KV_SET, .stamp = {(CLOCK_MS - 9) << 16, 9}};
    mesh_open(1, NULL);
    velum_fd fd = mesh_raw(&mesh[0], VELUM_ROLE_NODE, 9);
    mesh_do(&mesh[0], "SET k 1");
    mesh_do(&mesh[0], "DEL k");
    put_line(line, sizeof line, &record, "k");
    raw_records(fd, 0, CLOCK_MS, line);
    mesh_turns(3);
    CHECK(!velum_kv_node_missed(mesh[0].kv, &id)); /* the DEL was pushed, or is pulled */
    while (velum_kv_node_tend(mesh[0].kv, 1, 0))
        continue;
    CHECK_EQ(velum_kv_node_get_figures(mesh[0].kv).keys.settled, 1);
    raw_records(fd, 0, CLOCK_MS, line);
    mesh_turns(3);
    CHECK_EQ(velum_kv_node_get_figures(mesh[0].kv).keys.settled, 0);
    CHECK(velum_kv_node_missed(mesh[0].kv, &id));
    CHECK_EQ(id, 9);
    CHECK(!velum_kv_node_missed(mesh[0].kv, &id)); /* once */
    velum_port_close(fd);
    mesh_close();
}

static void test_bad_records(void) {
    char good[256];
    velum_kv_record record = {.op = VELUM_KV_SET, .stamp = {CLOCK_MS << 16, 9}};
    const char *bad[] = {"a=1\n", "a", "\n", "a=\t@0 set #00000000\n", NULL};
    mesh_open(1, "n");
    size_t n = put_line(good, sizeof good, &record, "a");
    good[n - 1] = '\0'; /* without its line feed */
    bad[4] = good;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        velum_fd fd = mesh_raw(&mesh[0], VELUM_ROLE_NODE, 9);
        raw_records(fd, 0, CLOCK_MS, bad[i]);
        raw_ends(fd, VELUM_E_PAYLOAD);
    }
    velum_fd fd = mesh_raw(&mesh[0], VELUM_ROLE_NODE, 9);
    velum_wire_put_header(mesh_buf, VELUM_F_KV_RECORDS, 7, 0);
    raw_frame(fd, VELUM_HEADER_BYTES + 7);
    raw_ends(fd, VELUM_E_PAYLOAD);
    CHECK(has(&mesh[0], "DBSIZE", ":0\r\n"));
    mesh_close();
}

/* What comes over a link that was parted is passed over, and not confirmed. */
static void test_parted(void) {
    char line[256];
    velum_kv_record record = {.op = VELUM_KV_SET, .stamp = {CLOCK_MS << 16, 9}};
    mesh_open(1, NULL);
    velum_fd fd = mesh_raw(&mesh[0], VELUM_ROLE_NODE, 9);
    put_line(line, sizeof line, &record, "a");
    raw_records(fd, 0, CLOCK_MS, line);
    mesh_turns(2);
    CHECK(has(&mesh[0], "EXISTS a", ":1\r\n"));
    velum_kv_node_part(mesh[0].kv, mesh[0].newest);
    put_line(line, sizeof line, &record, "b");
    raw_records(fd, 7, CLOCK_MS, line);
    mesh_turns(2);
    CHECK(has(&mesh[0], "EXISTS b", ":0\r\n"));
    CHECK_EQ(velum_port_recv(fd, line, sizeof line), VELUM_E_AGAIN);
    CHECK_EQ(mesh[0].closed, 0);
    velum_port_close(fd);
    mesh_close();
}

/* Times that cannot be are brought into their range. */
static void test_times(void) {
    char line[256];
    velum_kv_record record = {
        .op = VELUM_KV_SET, .stamp = {CLOCK_MS << 16, 9}, .until_ms = UINT64_MAX};
    mesh_open(1, NULL);
    velum_fd fd = mesh_raw(&mesh[0], VELUM_ROLE_NODE, 9);
    put_line(line, sizeof line, &record, "a");
    raw_records(fd, 0, 0, line); /* their clock is at 1970 */
    record.until_ms = 1;
    put_line(line, sizeof line, &record, "b");
    raw_records(fd, 0, UINT64_MAX, line);
    mesh_turns(2);
    CHECK(has(&mesh[0], "EXISTS a", ":1\r\n"));
    CHECK(has(&mesh[0], "EXISTS b", ":0\r\n"));
    velum_port_close(fd);
    mesh_close();
}

/* ---- sums and leaves ---- */

static void ask(mesh_node *n, mesh_node *whom, uint8_t level, uint16_t count) {
    uint8_t items[VELUM_KV_ASK_MAX * 4u];
    velum_kv_nodes m = {level, count, items};
    for (uint16_t i = 0; i < count; i++)
        velum_wire_put_kv_index(items, i, i);
    int size = velum_wire_put_kv_ask(mesh_buf, sizeof mesh_buf, 3, &m);
    CHECK(size > 0);
    CHECK_EQ(velum_hub_send(n->hub, n->links[whom->id - 1u], mesh_buf, (size_t)size), 0);
}

static void ask_leaves(mesh_node *n, mesh_node *whom, uint32_t first, size_t count) {
    uint8_t leaves[VELUM_KV_LEAVES_MAX * 4u];
    for (size_t i = 0; i < count; i++)
        velum_wire_put_kv_index(leaves, i, first + (uint32_t)i);
    int size = velum_wire_put_kv_leaves(mesh_buf, sizeof mesh_buf, first + 1u, leaves, count);
    CHECK(size > 0);
    CHECK_EQ(velum_hub_send(n->hub, n->links[whom->id - 1u], mesh_buf, (size_t)size), 0);
}

/* Pulls all leaves of another node. */
static void pull(mesh_node *n, mesh_node *from) {
    for (uint32_t first = 0; first < VELUM_KV_LEAVES; first += 1024) {
        unsigned before = n->ends;
        ask_leaves(n, from, first, 1024);
        for (int i = 0; i < 1000 && n->ends == before; i++)
            mesh_turns(1);
        CHECK(n->ends == before + 1 && n->end.whole);
    }
}

static bool same_sums(mesh_node *a, mesh_node *b) {
    uint64_t of_a[VELUM_KV_FANOUT], of_b[VELUM_KV_FANOUT];
    CHECK_EQ(velum_kv_sums(velum_kv_state_keys(velum_kv_node_state(a->kv)), 0, 0, of_a), 0);
    CHECK_EQ(velum_kv_sums(velum_kv_state_keys(velum_kv_node_state(b->kv)), 0, 0, of_b), 0);
    return memcmp(of_a, of_b, sizeof of_a) == 0;
}

static void test_leaves(void) {
    char command[64];
    mesh_open(1, "n");
    for (int i = 0; i < 2000; i++) {
        (void)snprintf(command, sizeof command, i % 3 ? "SADD key%d x%d" : "INCR key%d", i, i);
        mesh_do(&mesh[0], command);
    }
    mesh_add();
    mesh_link(&mesh[1], &mesh[0]);
    CHECK(!same_sums(&mesh[0], &mesh[1]));
    ask(&mesh[1], &mesh[0], 0, 1);
    mesh_turns(4);
    uint64_t sums[VELUM_KV_FANOUT];
    velum_kv_sums(velum_kv_state_keys(velum_kv_node_state(mesh[0].kv)), 0, 0, sums);
    CHECK(memcmp(sums, mesh[1].root, sizeof sums) == 0);
    ask(&mesh[1], &mesh[0], 3, 256);
    mesh_turns(4);
    CHECK_EQ(mesh[1].sums, 2);
    pull(&mesh[1], &mesh[0]);
    CHECK(same_sums(&mesh[0], &mesh[1]));
    CHECK_EQ(velum_kv_node_get_figures(mesh[1].kv).keys.keys, 2000);
    CHECK_EQ(velum_kv_node_get_figures(mesh[1].kv).records_out, 0); /* it is nobody's news */
    mesh_close();
}

/* The leaf that a key is in: the one whose sum its writing has changed. */
static uint32_t leaf_of(mesh_node *n, const char *command) {
    static uint64_t before[VELUM_KV_LEAVES / VELUM_KV_FANOUT][VELUM_KV_FANOUT];
    const velum_kv *kv = velum_kv_state_keys(velum_kv_node_state(n->kv));
    uint64_t now[VELUM_KV_FANOUT];
    for (uint32_t i = 0; i < VELUM_KV_LEAVES / VELUM_KV_FANOUT; i++)
        velum_kv_sums(kv, 3, i, before[i]);
    mesh_do(n, command);
    for (uint32_t i = 0; i < VELUM_KV_LEAVES / VELUM_KV_FANOUT; i++) {
        velum_kv_sums(kv, 3, i, now);
        for (uint32_t k = 0; k < VELUM_KV_FANOUT; k++)
            if (now[k] != before[i][k]) return i * VELUM_KV_FANOUT + k;
    }
    return UINT32_MAX;
}

/* One leaf with 12 MB, linked while nothing was pushed; which leaf it is. */
static uint32_t large_leaf(void) {
    char command[64];
    uint32_t leaf = 0;
    mesh_open(1, "n");
    for (int i = 0; i < 12; i++) {
        (void)snprintf(command, sizeof command, "HSET h f%d @1000000", i);
        leaf = leaf_of(&mesh[0], command);
    }
    mesh_add();
    mesh_link(&mesh[1], &mesh[0]);
    return leaf;
}

static void test_large_leaf(void) {
    size_t most = 0;
    uint32_t leaf = large_leaf();
    ask_leaves(&mesh[1], &mesh[0], leaf, 1);
    for (int i = 0; i < 2000 && mesh[1].ends == 0; i++) {
        size_t unsent = velum_hub_unsent(mesh[0].hub, mesh[0].links[1]);
        if (unsent > most) most = unsent;
        mesh_turns(1);
    }
    CHECK_EQ(mesh[1].ends, 1);
    CHECK(mesh[1].end.whole);
    CHECK_EQ(mesh[1].end.records, 12);
    CHECK(most > 0 && most < 1500000);
    CHECK(same_sums(&mesh[0], &mesh[1]));
    CHECK_EQ(stat(&mesh[0], "records_out"), 12);
    mesh_close();
}

/* A leaf that changes is begun again; one that does so all the time ends, and is not whole. */
static void test_changing_leaf(void) {
    char command[64];
    uint32_t leaf = large_leaf();
    ask_leaves(&mesh[1], &mesh[0], leaf, 1);
    mesh_turns(20);
    CHECK_EQ(mesh[1].ends, 0);
    mesh_do(&mesh[0], "HSET h aaa 1");
    for (int i = 0; i < 2000 && mesh[1].ends == 0; i++)
        mesh_turns(1);
    CHECK(mesh[1].end.whole);
    CHECK(mesh[1].end.records > 13);
    CHECK(same_sums(&mesh[0], &mesh[1]));
    ask_leaves(&mesh[1], &mesh[0], leaf, 1);
    for (int i = 0; i < 4000 && mesh[1].ends == 1; i++) {
        (void)snprintf(command, sizeof command, "HSET h aaa %d", i);
        mesh_do(&mesh[0], command);
        mesh_turns(1);
    }
    CHECK_EQ(mesh[1].ends, 2);
    CHECK(!mesh[1].end.whole);
    mesh_close();
}

/* Transfers end with their link; and one link has few. */
static void test_transfers(void) {
    uint32_t leaf = large_leaf();
    ask_leaves(&mesh[1], &mesh[0], leaf, 1);
    mesh_turns(5);
    mesh_stop(&mesh[1]);
    mesh_turns(5);
    CHECK_EQ(velum_kv_node_get_figures(mesh[0].kv).peers, 0);
    uint8_t leaves[4];
    velum_wire_put_kv_index(leaves, 0, leaf);
    velum_fd fd = mesh_raw(&mesh[0], VELUM_ROLE_NODE, 9);
    int size = velum_wire_put_kv_leaves(mesh_buf, sizeof mesh_buf, 1, leaves, 1);
    for (unsigned i = 0; i <= 8u; i++)
        raw_frame(fd, size);
    for (int i = 0; i < 500 && mesh[0].closed < 2; i++)
        mesh_turns(1);
    CHECK_EQ(mesh[0].closed, 2);
    CHECK_EQ(mesh[0].close_error, VELUM_E_UNEXPECTED);
    velum_port_close(fd);
    mesh_close();
}

/* Two nodes that each ask for much and do not get rid of it at once still answer each other. */
static void test_both_pull(void) {
    char command[64];
    world_manner = (velum_test_manner){.recv_max = 30000, .send_max = 20000, .again_every = 3};
    mesh_open(2, NULL);
    for (int i = 0; i < 8; i++) {
        (void)snprintf(command, sizeof command, "SET a%d @900000", i);
        mesh_do(&mesh[0], command);
        (void)snprintf(command, sizeof command, "SET b%d @900000", i);
        mesh_do(&mesh[1], command);
    }
    for (int k = 0; k < 2; k++) {
        pull(&mesh[0], &mesh[1]);
        pull(&mesh[1], &mesh[0]);
    }
    CHECK(same_sums(&mesh[0], &mesh[1]));
    CHECK_EQ(mesh[0].closed + mesh[1].closed, 0);
    world_manner = (velum_test_manner){0};
    mesh_close();
}

/* ---- what is to do is done before the hub sleeps ---- */

static velum_fd seen_fd;
static size_t seen_pending;
static bool seen_logged;

static void look(void *user) {
    velum_kv_log_figures log = velum_kv_node_get_figures(mesh[0].kv).log;
    (void)user;
    seen_logged = log.written > 0 && log.written == log.taken;
    seen_pending = velum_test_pending(seen_fd);
}

/* Node 1 may sleep; what there is to see shortly after that. */
static void sleep_and_look(void) {
    velum_test_at(velum_port_now_us() + SECOND / 100, look, NULL);
    mesh_serve(&mesh[0], SECOND);
}

static void test_before_sleep(void) {
    char command[64];
    uint8_t reached, leaves[4];
    uint32_t leaf = 0;
    world_manner = (velum_test_manner){.window = (size_t)16 * 1024 * 1024};
    mesh_open(1, "n");
    seen_fd = mesh_raw(&mesh[0], VELUM_ROLE_CLIENT, 0);
    mesh_turns(5);
    CHECK_EQ(mesh_do_as(&mesh[0], VELUM_KV_RAM, 0, "SET a 1", &reached), 1);
    sleep_and_look();
    CHECK(seen_logged);
    velum_port_close(seen_fd);
    for (int i = 0; i < 12; i++) {
        (void)snprintf(command, sizeof command, "HSET h f%d @500000", i);
        leaf = leaf_of(&mesh[0], command);
    }
    mesh_turns(5);
    seen_fd = mesh_raw(&mesh[0], VELUM_ROLE_NODE, 9);
    velum_wire_put_kv_index(leaves, 0, leaf);
    raw_frame(seen_fd, velum_wire_put_kv_leaves(mesh_buf, sizeof mesh_buf, 1, leaves, 1));
    sleep_and_look();
    CHECK(seen_pending > 6000000);
    velum_port_close(seen_fd);
    for (int i = 0; i < 12; i++) {
        (void)snprintf(command, sizeof command, "SET w%d @500000", i);
        mesh_do(&mesh[0], command);
    }
    mesh_turns(5);
    seen_fd = mesh_client(&mesh[0]);
    velum_kv_watch_ask m = {VELUM_KV_WATCH_STATE, {(const uint8_t *)"w*", 2}};
    raw_frame(seen_fd, velum_wire_put_kv_watch(mesh_buf, sizeof mesh_buf, 1, &m));
    sleep_and_look();
    CHECK(seen_pending > 6000000);
    velum_port_close(seen_fd);
    world_manner = (velum_test_manner){0};
    mesh_close();
}

/* News leave with the round in which they came, though its events go to the owner first. */
static void test_leaves_at_once(void) {
    uint8_t request[64];
    velum_kv_do m = {VELUM_KV_LOG, 0, request, 0};
    mesh_open(1, "n");
    velum_fd peer = mesh_raw(&mesh[0], VELUM_ROLE_NODE, 2);
    velum_fd fd = mesh_raw(&mesh[0], VELUM_ROLE_NODE, 3);
    m.size = (uint32_t)put_request(request, "SET a 1");
    int n = velum_wire_put_kv_do(mesh_buf, sizeof mesh_buf, 1, &m);
    velum_wire_put_header(mesh_buf + n, VELUM_F_KV_TALK, 0, 0);
    CHECK_EQ(velum_port_send(fd, mesh_buf, (size_t)n + VELUM_HEADER_BYTES),
             n + (int)VELUM_HEADER_BYTES);
    mesh_serve(&mesh[0], SECOND);
    CHECK_EQ(mesh[0].talks, 1);
    CHECK(velum_test_pending(peer) > 0 && velum_test_pending(fd) > 0);
    velum_port_close(peer);
    velum_port_close(fd);
    mesh_close();
}

/* ---- the Redis port on a node ---- */

static bool redis(velum_fd fd, const char *command, const char *reply) {
    char got[256];
    size_t size = strlen(reply), have = 0;
    raw_send(fd, mesh_buf, put_request(mesh_buf, command));
    for (int i = 0; i < 20 && have < size; i++) {
        int n = velum_port_recv(fd, got + have, sizeof got - have);
        if (n > 0) have += (size_t)n;
        mesh_turns(1);
    }
    if (have == size && memcmp(got, reply, size) == 0) return true;
    printf("%s: %.*s\n", command, (int)have, got);
    return false;
}

static void test_redis(void) {
    velum_addr addr = {LOCAL_IP, 0}, other = {LOCAL_IP, 0};
    velum_fd fd, listener;
    mesh_open(2, "n");
    CHECK_EQ(velum_kv_node_serve(mesh[0].kv, 8, &addr), 0);
    CHECK_EQ(velum_kv_node_serve(mesh[0].kv, 8, &addr), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_kv_node_serve(mesh[1].kv, 8, &other), 0);
    CHECK_EQ(velum_port_dial(&addr, &fd), 0);
    CHECK_EQ(velum_port_dial(&other, &listener), 0);
    CHECK(redis(fd, "SET a 1", "+OK\r\n"));
    CHECK(redis(fd, "WAIT 1 1000", ":1\r\n"));
    CHECK(redis(listener, "GET a", "$1\r\n1\r\n"));
    CHECK(redis(listener, "SUBSCRIBE news", "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n"));
    CHECK(redis(fd, "PUBLISH news hello", ":0\r\n"));
    char got[64] = "";
    mesh_turns(4);
    CHECK_EQ(velum_port_recv(listener, got, sizeof got), 38);
    CHECK(memcmp(got, "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n", 38) == 0);
    CHECK(velum_kv_node_get_figures(mesh[0].kv).commands >= 3);
    velum_port_close(fd);
    velum_port_close(listener);
    mesh_close();
}

/* A link that takes another's place, and one that ends. */
static void test_join(void) {
    mesh_open(2, NULL);
    velum_handle link = mesh[0].links[1];
    CHECK_EQ(velum_kv_node_join(mesh[0].kv, link, 0), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_kv_node_join(mesh[0].kv, link, 1), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_kv_node_join(mesh[0].kv, link, 2), 0);
    CHECK_EQ(velum_kv_node_get_figures(mesh[0].kv).peers, 1);
    mesh_link(&mesh[1], &mesh[0]);
    CHECK(mesh[0].links[1] != link);
    CHECK_EQ(velum_kv_node_get_figures(mesh[0].kv).peers, 1);
    mesh_do(&mesh[0], "SET a 1");
    mesh_turns(3);
    CHECK_EQ(velum_kv_node_get_figures(mesh[1].kv).records_in, 1);
    velum_hub_drop(mesh[0].hub, mesh[0].links[1], 0, NULL);
    CHECK_EQ(velum_kv_node_get_figures(mesh[0].kv).peers, 0);
    mesh_turns(3);
    CHECK_EQ(mesh[1].closed, 1);
    CHECK_EQ(velum_kv_node_get_figures(mesh[1].kv).peers, 0);
    mesh_close();
}

int main(void) {
    test_push();
    test_one_frame();
    test_log_first();
    test_clocks();
    test_quorum();
    test_own_quorum();
    test_pulled();
    test_half();
    test_not_heard();
    test_lying_peer();
    test_missed();
    test_records();
    test_lacking();
    test_bad_records();
    test_parted();
    test_times();
    test_leaves();
    test_large_leaf();
    test_changing_leaf();
    test_transfers();
    test_both_pull();
    test_before_sleep();
    test_leaves_at_once();
    test_redis();
    test_join();
    return check_report("test_kv_peers");
}
