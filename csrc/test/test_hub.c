/* test_hub.c: the life of links on the test port: handshakes, deadlines, bounds, and their end. */
#include "hub_world.h"

/* ---- handshakes ---- */

static void test_dial_and_accept(void) {
    velum_hub *a = open_world(16), *b = open_hub(8, 16);
    velum_hub_stats stats;
    velum_handle link = 0;
    const velum_event *event;
    CHECK_EQ(velum_hub_dial(b, &hub_addr, 99, &link), 0);
    CHECK(link != 0);
    CHECK_EQ(poll_for(b, 0), 0); /* says HELLO */
    event = poll_event(a, VELUM_EV_OPENED);
    CHECK(event != NULL && event_count == 1);
    if (event == NULL) return;
    CHECK_EQ(event->token, 0);
    CHECK_EQ(event->u.opened.hello.id, 8);
    CHECK_EQ(event->u.opened.hello.version.size, 1);
    CHECK_EQ(event->u.opened.peer.ip, LOCAL_IP);
    velum_hub_get_stats(a, &stats);
    CHECK_EQ(stats.strangers, 0);
    CHECK_EQ(stats.links, 1);
    CHECK_EQ(poll_for(b, 0), 0); /* not accepted yet */
    CHECK_EQ(velum_hub_accept(a, event->link), 0);
    CHECK_EQ(velum_hub_accept(a, event->link), 0); /* a no-op by now */
    CHECK_EQ(poll_for(a, 0), 0);
    event = poll_event(b, VELUM_EV_OPENED);
    CHECK(event != NULL && event_count == 1);
    if (event == NULL) return;
    CHECK_EQ(event->link, link);
    CHECK_EQ(event->token, 99);
    CHECK_EQ(event->u.opened.hello.id, 7);
    CHECK_EQ(event->u.opened.peer.port, hub_addr.port);
    velum_hub_close(b);
    event = poll_event(a, VELUM_EV_CLOSED);
    CHECK(event != NULL && event->u.closed.error == VELUM_E_CLOSED && event->u.closed.was_open);
    CHECK(event != NULL && event->u.closed.id == 8);
    velum_hub_close(a);
    end_world();
}

static void test_frames_wait_for_accept(void) {
    velum_hub *hub = open_world(16);
    uint8_t payload[2048];
    velum_fd fd = raw_dial();
    raw_hello(fd, 9);
    raw_call(fd, 1, 20, 22);
    raw_empty(fd, VELUM_F_PING, 2);
    CHECK_EQ(poll_for(hub, 0), 1);
    CHECK_EQ(events[0].kind, VELUM_EV_OPENED);
    velum_handle link = events[0].link;
    raw_call(fd, 3, 1, 2);
    CHECK_EQ(poll_for(hub, SECOND), 0);
    CHECK_EQ(velum_test_pending(fd), 0); /* nothing is answered before the owner's yes */
    CHECK_EQ(velum_hub_accept(hub, link), 0);
    CHECK_EQ(poll_for(hub, SECOND), 0);
    raw_expect(fd, VELUM_F_HELLO, payload);
    CHECK_EQ(raw_result(fd, 1), 42);
    raw_expect(fd, VELUM_F_PONG, payload);
    CHECK_EQ(raw_result(fd, 3), 3);
    velum_port_close(fd);
    velum_hub_close(hub);
    end_world();
}

static void test_refusal_tells_why(void) {
    velum_hub *a = open_world(16), *b = open_hub(8, 16);
    velum_handle link;
    char text[1201];
    memset(text, 'x', sizeof text - 1);
    text[1200] = '\0';
    CHECK_EQ(velum_hub_dial(b, &hub_addr, 5, &link), 0);
    CHECK_EQ(poll_for(b, 0), 0);
    CHECK_EQ(poll_for(a, 0), 1);
    velum_hub_drop(a, events[0].link, (uint16_t)-VELUM_E_DUPLICATE_ID, text);
    CHECK_EQ(velum_hub_accept(a, events[0].link), VELUM_E_ARGUMENT);
    expect_closed(b, link, VELUM_E_DUPLICATE_ID);
    CHECK_EQ(events[0].token, 5);
    CHECK(!events[0].u.closed.was_open);
    CHECK(events[0].u.closed.text != NULL && strlen(events[0].u.closed.text) == 508);
    CHECK_EQ(poll_for(a, 0), 0); /* no CLOSED for what the owner dropped */
    velum_hub_close(a);
    velum_hub_close(b);
    end_world();
}

static void test_dials_that_fail(void) {
    velum_hub *hub = open_world(16);
    velum_handle link;
    velum_addr nowhere = {LOCAL_IP, 1};
    CHECK_EQ(velum_hub_dial(hub, &nowhere, 3, &link), 0);
    expect_closed(hub, link, VELUM_E_REFUSED);
    CHECK_EQ(events[0].token, 3);
    velum_test_next_dial(VELUM_E_AGAIN);
    CHECK_EQ(velum_hub_dial(hub, &hub_addr, 4, &link), 0);
    CHECK_EQ(poll_for(hub, SECOND), 0);
    CHECK_EQ(poll_for(hub, -1), 1);
    CHECK_EQ(velum_port_now_us(), SECOND + VELUM_HANDSHAKE_MS * 1000);
    CHECK_EQ(events[0].u.closed.error, VELUM_E_TIMEOUT);
    velum_hub_close(hub);
    end_world();
}

/* A listener that takes the connection and says nothing. */
static void test_dialled_peer_is_silent(void) {
    velum_hub *hub;
    velum_handle link;
    velum_fd listener, fd = VELUM_NO_FD;
    velum_addr addr = {LOCAL_IP, 0}, from;
    velum_test_reset(1);
    hub = open_hub(7, 4);
    CHECK_EQ(velum_port_listen(&addr, &listener), 0);
    CHECK_EQ(velum_hub_dial(hub, &addr, 0, &link), 0);
    CHECK_EQ(velum_port_accept(listener, &fd, &from), 0);
    CHECK_EQ(poll_for(hub, -1), 1);
    CHECK_EQ(events[0].u.closed.error, VELUM_E_TIMEOUT);
    CHECK_EQ(velum_port_now_us(), SECOND + VELUM_HANDSHAKE_MS * 1000);
    uint8_t payload[2048];
    raw_expect(fd, VELUM_F_HELLO, payload);
    raw_expect_bye(fd, VELUM_E_TIMEOUT);
    velum_port_close(listener);
    velum_hub_close(hub);
    end_world();
}

static void test_first_frame_must_be_hello(void) {
    velum_hub *hub = open_world(16);
    velum_hub_stats stats;
    velum_fd fd = raw_dial();
    raw_empty(fd, VELUM_F_PING, 1);
    CHECK_EQ(poll_for(hub, 0), 0);
    raw_expect_bye(fd, VELUM_E_UNEXPECTED);
    fd = raw_dial();
    raw_send(fd, "GET / HTTP/1.1\r\n\r\n", 18);
    CHECK_EQ(poll_for(hub, 0), 0);
    raw_expect_bye(fd, VELUM_E_MAGIC);
    fd = raw_dial(); /* a stranger may leave politely */
    uint8_t bye[64];
    int n = velum_wire_put_bye(bye, sizeof bye, &(velum_bye){0, {NULL, 0}});
    raw_send(fd, bye, (size_t)n);
    CHECK_EQ(poll_for(hub, 0), 0);
    CHECK_EQ(velum_port_recv(fd, bye, 1), VELUM_E_CLOSED);
    velum_port_close(fd);
    velum_hub_get_stats(hub, &stats);
    CHECK_EQ(stats.links_broken, 2);
    CHECK_EQ(stats.strangers, 0);
    velum_handle link;
    fd = raw_member(hub, 9, &link);
    raw_hello(fd, 9);
    expect_closed(hub, link, VELUM_E_UNEXPECTED);
    raw_expect_bye(fd, VELUM_E_UNEXPECTED);
    velum_hub_close(hub);
    end_world();
}

static void test_adopted_pair(void) {
    velum_hub *a, *b;
    velum_fd ends[2];
    velum_handle at_a, at_b;
    velum_hub_config config = {4, 1000, false, 0};
    velum_test_reset(1);
    CHECK_EQ(velum_hub_open(&a, &config), 0);
    velum_test_pair(ends);
    CHECK_EQ(velum_hub_adopt(a, ends[0], 1, &at_a), VELUM_E_ARGUMENT); /* who are we? */
    CHECK_EQ(velum_hub_listen(a, &hub_addr), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_hub_dial(a, &hub_addr, 0, &at_a), VELUM_E_ARGUMENT);
    velum_hub_close(a);
    a = open_hub(1, 4);
    b = open_hub(2, 4);
    CHECK_EQ(velum_hub_adopt(a, ends[0], 1, &at_a), 0);
    CHECK_EQ(poll_for(a, 5 * SECOND), 0); /* the other end may still be starting */
    CHECK_EQ(velum_hub_adopt(b, ends[1], 2, &at_b), 0);
    CHECK_EQ(poll_for(b, 0), 1);
    CHECK_EQ(events[0].kind, VELUM_EV_OPENED);
    CHECK_EQ(events[0].token, 2);
    velum_hub_flush(b);
    CHECK_EQ(poll_for(a, 0), 1);
    CHECK_EQ(events[0].kind, VELUM_EV_OPENED);
    CHECK_EQ(events[0].link, at_a);
    velum_hub_drop(a, at_a, 0, NULL);
    expect_closed(b, at_b, VELUM_E_LEAVING);
    CHECK(events[0].u.closed.text == NULL);
    velum_hub_close(a);
    velum_hub_close(b);
    end_world();
}

/* ---- strangers and the pool ---- */

static void test_stranger_deadline(void) {
    velum_hub *hub = open_world(16);
    velum_hub_stats stats;
    velum_fd silent = raw_dial(), undecided = raw_dial();
    uint8_t payload[2048];
    raw_hello(undecided, 9);
    CHECK_EQ(poll_for(hub, 0), 1);
    velum_handle link = events[0].link;
    velum_hub_get_stats(hub, &stats);
    CHECK_EQ(stats.strangers, 1);
    CHECK_EQ(poll_for(hub, 3 * SECOND), 0);
    raw_expect_bye(silent, VELUM_E_TIMEOUT);
    velum_hub_get_stats(hub, &stats);
    CHECK_EQ(stats.strangers, 0);
    CHECK_EQ(stats.links, 1);
    CHECK_EQ(velum_hub_accept(hub, link), 0); /* late, but no stranger any more */
    CHECK_EQ(poll_for(hub, 0), 0);
    raw_expect(undecided, VELUM_F_HELLO, payload);
    velum_port_close(undecided);
    undecided = raw_dial();
    raw_hello(undecided, 10);
    CHECK_EQ(poll_for(hub, 0), 2);
    CHECK_EQ(poll_for(hub, -1), 1); /* an owner that never decides */
    CHECK_EQ(events[0].u.closed.error, VELUM_E_TIMEOUT);
    raw_expect_bye(undecided, VELUM_E_TIMEOUT);
    velum_hub_close(hub);
    end_world();
}

static void test_strangers_are_bounded(void) {
    enum { FLOOD = 40 };
    velum_hub *hub = open_world(16); /* room for 4 strangers */
    velum_fd flood[FLOOD];
    velum_hub_stats stats;
    velum_handle link;
    velum_fd member = raw_member(hub, 9, &link);
    for (int i = 0; i < FLOOD; i++) {
        flood[i] = raw_dial();
        CHECK_EQ(poll_for(hub, 10), 0);
        velum_test_advance(10);
    }
    velum_hub_get_stats(hub, &stats);
    CHECK_EQ(stats.strangers, 4);
    CHECK_EQ(stats.links_refused, FLOOD - 4);
    for (int i = 0; i < FLOOD - 4; i++)
        raw_expect_bye(flood[i], VELUM_E_CAPACITY);
    raw_call(member, 5, 1, 1);
    CHECK_EQ(poll_for(hub, 0), 0);
    CHECK_EQ(raw_result(member, 5), 2);
    for (int i = FLOOD - 4; i < FLOOD; i++) { /* the youngest are still welcome */
        raw_hello(flood[i], 10);
        CHECK_EQ(poll_for(hub, 0), 1);
        velum_port_close(flood[i]);
    }
    velum_port_close(member);
    velum_hub_close(hub);
    end_world();
}

/* Whoever has said HELLO by the time it is accepted gets through a flood. */
static void test_a_burst_of_honest_peers(void) {
    enum { BURST = 12 };
    velum_hub *hub = open_world(16);
    velum_fd fds[BURST];
    int opened = 0;
    for (int i = 0; i < BURST; i++) {
        fds[i] = raw_dial();
        raw_hello(fds[i], (uint16_t)(i + 1));
    }
    for (int round = 0; round < BURST; round++)
        opened += poll_for(hub, 0);
    CHECK_EQ(opened, BURST);
    for (int i = 0; i < BURST; i++)
        velum_port_close(fds[i]);
    velum_hub_close(hub);
    end_world();
}

static void test_full_pool(void) {
    velum_hub *hub = open_world(2);
    velum_hub_stats stats;
    velum_handle first, second, third;
    velum_fd a = raw_member(hub, 1, &first), stranger = raw_dial(), c;
    CHECK_EQ(poll_for(hub, 0), 0);
    CHECK_EQ(velum_hub_dial(hub, &hub_addr, 0, &second), 0); /* members first */
    raw_expect_bye(stranger, VELUM_E_CAPACITY);
    velum_hub_drop(hub, second, 0, NULL);
    CHECK_EQ(poll_for(hub, 0), 0);
    c = raw_member(hub, 2, &second);
    CHECK_EQ(velum_hub_dial(hub, &hub_addr, 0, &third), VELUM_E_FULL);
    CHECK_EQ(poll_for(hub, 0), 0);
    stranger = raw_dial();
    raw_hello(stranger, 3);
    CHECK_EQ(poll_for(hub, 0), 0);
    raw_expect_bye(stranger, VELUM_E_CAPACITY);
    velum_hub_get_stats(hub, &stats);
    CHECK(stats.links_refused >= 2);
    CHECK_EQ(stats.links, 2);
    velum_port_close(a);
    velum_port_close(c);
    velum_hub_close(hub);
    end_world();
}

static void lift_limit(void *user) {
    (void)user;
    velum_test_set_limit(0);
}

static void test_no_descriptors(void) {
    velum_hub *hub = open_world(16);
    velum_fd fd = raw_dial();
    raw_hello(fd, 9);
    velum_test_set_limit(velum_test_open());
    velum_test_at(velum_port_now_us() + 450000, lift_limit, NULL);
    /* If it tried again and again, no time would pass and this poll would come back empty. */
    CHECK_EQ(poll_for(hub, -1), 1);
    CHECK_EQ(events[0].kind, VELUM_EV_OPENED);
    CHECK_EQ(velum_port_now_us(), SECOND + 500000);
    velum_port_close(fd);
    velum_hub_close(hub);
    end_world();
}

/* ---- silence ---- */

static void test_ping_then_timeout(void) {
    velum_hub *hub = open_world(16);
    velum_handle link;
    uint8_t payload[2048];
    velum_fd fd = raw_member(hub, 9, &link);
    int64_t start = velum_port_now_us();
    CHECK_EQ(poll_for(hub, VELUM_IDLE_MS * 1000 - 1), 0);
    CHECK_EQ(velum_test_pending(fd), 0);
    CHECK_EQ(poll_for(hub, 1), 0);
    CHECK_EQ(poll_for(hub, 0), 0);
    velum_header ping = raw_expect(fd, VELUM_F_PING, payload);
    CHECK(ping.correlation >> 63 == 1);
    velum_test_advance(5 * SECOND);
    raw_empty(fd, VELUM_F_PONG, ping.correlation); /* a sign of life, and no event */
    CHECK_EQ(poll_for(hub, 0), 0);
    CHECK_EQ(poll_for(hub, 9 * SECOND), 0);
    CHECK_EQ(velum_test_pending(fd), 0);
    CHECK_EQ(poll_for(hub, -1), 1);
    CHECK_EQ(events[0].kind, VELUM_EV_CLOSED);
    CHECK_EQ(events[0].u.closed.error, VELUM_E_TIMEOUT);
    CHECK_EQ(velum_port_now_us() - start, (15 + 20) * SECOND);
    raw_expect(fd, VELUM_F_PING, payload);
    raw_expect_bye(fd, VELUM_E_TIMEOUT);
    velum_hub_close(hub);
    end_world();
}

/* What waits in the socket when the owner comes back late counts as life. */
static void test_a_late_owner_blames_nobody(void) {
    velum_hub *hub = open_world(16);
    velum_handle link;
    velum_fd fd = raw_member(hub, 9, &link);
    raw_empty(fd, VELUM_F_PING, 1);
    velum_test_advance(100 * SECOND);
    CHECK_EQ(poll_for(hub, 0), 0);
    velum_test_advance(100 * SECOND);
    CHECK_EQ(poll_for(hub, 0), 0); /* pinged only now */
    raw_empty(fd, VELUM_F_PONG, 1);
    velum_test_advance(100 * SECOND);
    CHECK_EQ(poll_for(hub, 0), 0);
    velum_port_close(fd);
    velum_hub_close(hub);
    end_world();
}

/* Two hubs that only ping each other stay together. */
static void test_idle_pair_lives(void) {
    velum_hub *a = open_world(4), *b = open_hub(8, 4);
    velum_hub_stats stats;
    velum_handle link;
    CHECK_EQ(velum_hub_dial(b, &hub_addr, 0, &link), 0);
    CHECK_EQ(poll_for(b, 0), 0);
    CHECK_EQ(poll_for(a, 0), 1);
    CHECK_EQ(velum_hub_accept(a, events[0].link), 0);
    CHECK_EQ(poll_for(a, 0), 0);
    CHECK_EQ(poll_for(b, 0), 1);
    for (int i = 0; i < 600; i++) {
        velum_test_advance(SECOND / 2);
        CHECK_EQ(poll_for(a, 0) + poll_for(b, 0), 0);
    }
    velum_hub_get_stats(b, &stats);
    CHECK_EQ(stats.links, 1);
    CHECK(stats.frames_out < 80); /* 300 s: a PING or a PONG every 10 s or so */
    velum_hub_close(a);
    velum_hub_close(b);
    end_world();
}

/* ---- ends ---- */

static void test_bad_frame_harms_one_link(void) {
    static const uint8_t huge[16] = {'V', 'L', 1, VELUM_F_SYNC, 0xff, 0xff, 0xff, 0x7f};
    static const uint8_t unknown[16] = {'V', 'L', 1, 0x2f};
    static const uint8_t version[16] = {'V', 'L', 9, VELUM_F_PING};
    static const uint8_t call[17] = {'V', 'L', 1, VELUM_F_CALL, 1};
    static const struct {
        const uint8_t *bytes;
        size_t size;
        int error;
    } cases[] = {{huge, 16, VELUM_E_FRAME_LENGTH},
                 {unknown, 16, VELUM_E_FRAME_TYPE},
                 {version, 16, VELUM_E_WIRE_VERSION},
                 {call, 17, VELUM_E_PAYLOAD}};
    velum_hub *hub = open_world(16);
    velum_handle good_link, link;
    velum_fd good = raw_member(hub, 1, &good_link);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        velum_fd fd = raw_member(hub, 2, &link);
        raw_send(fd, cases[i].bytes, cases[i].size);
        raw_call(good, i, i, 1);
        expect_closed(hub, link, cases[i].error);
        CHECK_EQ(poll_for(hub, 0), 0);
        CHECK(raw_result(good, i) == i + 1);
        raw_expect_bye(fd, cases[i].error);
    }
    velum_port_close(good);
    velum_hub_close(hub);
    end_world();
}

static void test_last_words_are_heard(void) {
    velum_hub *hub = open_world(16);
    velum_handle link;
    velum_fd fd = raw_member(hub, 9, &link);
    uint8_t buf[128];
    int n = velum_wire_put_cancel(buf, sizeof buf, 77, (uint16_t)-VELUM_E_CANCELLED);
    raw_send(fd, buf, (size_t)n);
    n = velum_wire_put_bye(buf, sizeof buf, &(velum_bye){31, {"so long", 7}});
    raw_send(fd, buf, (size_t)n);
    velum_port_close(fd); /* from here on our sends fail */
    n = velum_wire_put_cancel(buf, sizeof buf, 1, (uint16_t)-VELUM_E_CANCELLED);
    CHECK_EQ(velum_hub_send(hub, link, buf, (size_t)n), 0);
    CHECK_EQ(poll_for(hub, 0), 2);
    CHECK_EQ(events[0].kind, VELUM_EV_FRAME);
    CHECK(events[0].u.frame.header.correlation == 77);
    CHECK_EQ(events[1].kind, VELUM_EV_CLOSED);
    CHECK_EQ(events[1].u.closed.error, VELUM_E_LEAVING);
    CHECK(events[1].u.closed.text != NULL && strcmp(events[1].u.closed.text, "so long") == 0);
    velum_hub_close(hub);
    end_world();
}

static void test_cut_and_failed_send(void) {
    velum_hub *hub = open_world(16);
    velum_handle link;
    velum_fd fd = raw_member(hub, 9, &link);
    uint8_t frame[64];
    int n = velum_wire_put_cancel(frame, sizeof frame, 1, 80);
    velum_test_cut(fd, VELUM_E_SYSTEM);
    CHECK_EQ(velum_hub_send(hub, link, frame, (size_t)n), 0);
    expect_closed(hub, link, VELUM_E_SYSTEM);
    velum_port_close(fd);
    velum_hub_close(hub);
    end_world();
}

/* Events of a link that is dropped, or ends, stay readable until the next poll. */
static void test_memory_outlives_the_link(void) {
    velum_hub *hub = open_world(16);
    velum_handle link;
    velum_fd fd = raw_member(hub, 9, &link);
    uint8_t frame[64];
    int n = velum_wire_put_cancel(frame, sizeof frame, 5, 80);
    uint16_t code = 0;
    raw_send(fd, frame, (size_t)n);
    CHECK_EQ(poll_for(hub, 0), 1);
    velum_hub_drop(hub, link, 0, "done");
    CHECK(velum_wire_get_cancel(events[0].u.frame.payload, events[0].u.frame.header.length, &code) >
          0);
    CHECK_EQ(code, 80);
    CHECK_EQ(poll_for(hub, 0), 0);
    raw_expect_bye(fd, 0);
    velum_hub_close(hub);
    end_world();
}

static void test_stale_handles(void) {
    velum_hub *hub = open_world(1);
    velum_handle old, link;
    uint8_t frame[64], hash[32] = {0};
    int n = velum_wire_put_cancel(frame, sizeof frame, 5, 80);
    velum_fd fd = raw_member(hub, 9, &old);
    raw_hello(fd, 9);
    CHECK_EQ(poll_for(hub, 0), 1); /* CLOSED */
    velum_hub_drop(hub, old, 0, NULL);
    velum_port_close(fd);
    fd = raw_member(hub, 10, &link);
    CHECK(link != old);
    velum_handle wrong[] = {old, 0, 0xffffffffu, link ^ 1u};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        CHECK_EQ(velum_hub_send(hub, wrong[i], frame, (size_t)n), VELUM_E_ARGUMENT);
        CHECK(velum_hub_reserve(hub, wrong[i], 16) == NULL);
        velum_hub_commit(hub, wrong[i], 0);
        CHECK_EQ(velum_hub_accept(hub, wrong[i]), VELUM_E_ARGUMENT);
        CHECK_EQ(velum_hub_fetch(hub, wrong[i], hash), VELUM_E_ARGUMENT);
        CHECK_EQ(velum_hub_unsent(hub, wrong[i]), 0);
        velum_hub_drop(hub, wrong[i], 0, NULL);
    }
    raw_call(fd, 1, 2, 3);
    CHECK_EQ(poll_for(hub, 0), 0);
    CHECK_EQ(raw_result(fd, 1), 5);
    /* An ended link whose CLOSED has not been given is no longer one to send on, either. */
    velum_port_close(fd);
    CHECK_EQ(velum_hub_send(hub, link, frame, (size_t)n), 0);
    velum_hub_flush(hub);
    velum_hub_drop(hub, link, 0, NULL);
    CHECK_EQ(poll_for(hub, 0), 0);
    velum_hub_close(hub);
    end_world();
}

/* A drop between the end of a link and its CLOSED event takes the event back. */
static void test_drop_takes_the_event_back(void) {
    velum_hub *hub = open_world(16);
    velum_handle link[2];
    velum_fd fd[2];
    for (int i = 0; i < 2; i++)
        fd[i] = raw_member(hub, (uint16_t)(i + 1), &link[i]);
    for (int i = 0; i < 2; i++)
        velum_port_close(fd[i]);
    CHECK_EQ(velum_hub_poll(hub, 0, events, 1), 1);
    CHECK_EQ(events[0].kind, VELUM_EV_CLOSED);
    velum_hub_drop(hub, link[0], 0, NULL);
    velum_hub_drop(hub, link[1], 0, NULL);
    CHECK_EQ(poll_for(hub, 0), 0);
    CHECK_EQ(velum_hub_poll(hub, 0, events, 0), VELUM_E_ARGUMENT);
    velum_hub_close(hub);
    end_world();
}

/* ---- other sockets ---- */

static void wake_it(void *user) {
    velum_hub *hub = user;
    velum_hub_wake(hub);
    velum_hub_wake(hub);
}

static void test_wake(void) {
    velum_hub *hub = open_world(4);
    velum_test_at(2 * SECOND, wake_it, hub);
    CHECK_EQ(poll_for(hub, -1), 1);
    CHECK_EQ(events[0].kind, VELUM_EV_WAKE);
    CHECK_EQ(velum_port_now_us(), 2 * SECOND);
    CHECK_EQ(poll_for(hub, SECOND), 0);
    CHECK_EQ(velum_port_now_us(), 3 * SECOND);
    velum_hub_close(hub);
    end_world();
}

/* Of streams a node's port is the first that is free; here somebody has the next ones for
 * datagrams, and by the ninth it gives up. */
static void test_serves_on_one_port(void) {
    for (unsigned had = 0; had < 10; had++) {
        velum_hub_config config = {4, 0, false, 0};
        velum_addr first = {LOCAL_IP, 0}, mine = {LOCAL_IP, 0};
        velum_fd probe, others[10];
        uint8_t index = 9;
        velum_hub *hub;
        velum_test_reset(1);
        CHECK_EQ(velum_port_listen(&first, &probe), 0);
        velum_port_close(probe);
        for (unsigned i = 0; i < had; i++) {
            velum_addr next = {LOCAL_IP, (uint16_t)(first.port + 1 + i)};
            CHECK_EQ(velum_port_udp_open(&next, false, &others[i]), 0);
        }
        CHECK_EQ(velum_hub_open(&hub, &config), 0);
        CHECK_EQ(velum_hub_serve(hub, &mine, &index), VELUM_E_ARGUMENT); /* who is it? */
        CHECK_EQ(velum_hub_identity(hub, &(velum_hello){.role = VELUM_ROLE_CLIENT}), 0);
        CHECK_EQ(velum_hub_serve(hub, &mine, &index), had < 8 ? 0 : VELUM_E_ADDRESS_IN_USE);
        if (had < 8) CHECK(index == 0 && mine.port == first.port + 1 + had);
        if (had == 1) { /* a port that was asked for */
            velum_addr taken = {LOCAL_IP, (uint16_t)(first.port + 1)};
            CHECK_EQ(velum_hub_serve(hub, &taken, &index), VELUM_E_ARGUMENT); /* it does already */
        }
        velum_hub_close(hub);
        for (unsigned i = 0; i < had; i++)
            velum_port_close(others[i]);
        CHECK_EQ(velum_test_open(), 0);
    }
}

static void test_datagrams(void) {
    velum_hub *hub = open_world(4);
    velum_addr first = {LOCAL_IP, 0}, second = {0x7fffffffu, 8888}, from = {LOCAL_IP, 0};
    velum_datagram message = {.type = VELUM_F_NACK, .sequence = 4, .sender = 1, .target = 2};
    velum_hub_stats stats;
    uint8_t a, b, buf[1300] = {0};
    velum_fd raw;
    CHECK_EQ(velum_hub_udp(hub, &first, false, &a), 0);
    CHECK_EQ(velum_hub_udp(hub, &second, true, &b), 0);
    CHECK(first.port != 0 && a == 0 && b == 1);
    CHECK_EQ(velum_port_udp_open(&from, false, &raw), 0);
    velum_port_udp_send(raw, &first, buf, 1201);
    velum_port_udp_send(raw, &first, "junk", 4);
    CHECK_EQ(velum_hub_udp_send(hub, 0, &second, &message), 0);
    CHECK_EQ(velum_hub_udp_send(hub, 2, &second, &message), VELUM_E_ARGUMENT);
    CHECK_EQ(poll_for(hub, SECOND), 1);
    CHECK_EQ(events[0].kind, VELUM_EV_DATAGRAM);
    CHECK_EQ(events[0].u.datagram.socket, 1);
    CHECK_EQ(events[0].u.datagram.from.port, first.port);
    CHECK(events[0].u.datagram.message->sequence == 4);
    for (unsigned i = 0; i < 100; i++) { /* more than one poll's share; all come, in order */
        message.sequence = i;
        CHECK_EQ(velum_hub_udp_send(hub, 1, &first, &message), 0);
    }
    unsigned got = 0;
    for (int polls = 0; polls < 5; polls++) {
        poll_for(hub, 0);
        for (int i = 0; i < event_count; i++) {
            CHECK(events[i].u.datagram.message->sequence == got);
            got++;
        }
    }
    CHECK_EQ(got, 100);
    velum_hub_get_stats(hub, &stats);
    CHECK_EQ(stats.datagrams_in, 103);
    CHECK_EQ(stats.datagrams_bad, 2);
    CHECK_EQ(stats.datagrams_out, 101);
    velum_port_close(raw);
    velum_hub_close(hub);
    end_world();
}

static void test_configuration(void) {
    velum_hub_config config = {0, 1000, true, 0};
    velum_hub *hub = NULL;
    velum_health health = {.cpu = 101, .cores = 1};
    velum_test_reset(1);
    CHECK_EQ(velum_hub_open(&hub, &config), VELUM_E_ARGUMENT);
    config.links_max = (uint16_t)(VELUM_LINKS_MAX + 1u);
    CHECK_EQ(velum_hub_open(&hub, &config), VELUM_E_ARGUMENT);
    velum_test_set_limit(1);
    config.links_max = 1;
    CHECK_EQ(velum_hub_open(&hub, &config), VELUM_E_FULL);
    velum_test_set_limit(0);
    hub = open_hub(1, 1);
    CHECK_EQ(velum_hub_health(hub, &health), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_hub_identity(hub, &(velum_hello){.role = 99}), VELUM_E_ARGUMENT);
    velum_hub_close(hub);
    velum_hub_close(NULL);
    end_world();
}

int main(void) {
    test_dial_and_accept();
    test_frames_wait_for_accept();
    test_refusal_tells_why();
    test_dials_that_fail();
    test_dialled_peer_is_silent();
    test_first_frame_must_be_hello();
    test_adopted_pair();
    test_stranger_deadline();
    test_strangers_are_bounded();
    test_a_burst_of_honest_peers();
    test_full_pool();
    test_no_descriptors();
    test_ping_then_timeout();
    test_a_late_owner_blames_nobody();
    test_idle_pair_lives();
    test_bad_frame_harms_one_link();
    test_last_words_are_heard();
    test_cut_and_failed_send();
    test_memory_outlives_the_link();
    test_stale_handles();
    test_drop_takes_the_event_back();
    test_wake();
    test_serves_on_one_port();
    test_datagrams();
    test_configuration();
    return check_report("hub");
}
