/* test_hub_frames.c: what a hub answers itself, fetches of modules, back-pressure, and turns. */
#include "blake2b.h"
#include "hub_pair.h"

#define PART        VELUM_MODULE_PART_BYTES
#define MODULE_SIZE (10u * 1024u * 1024u + 333u)

/* ---- answers ---- */

static void raw_expect_error(velum_fd fd, uint64_t correlation, int error) {
    uint8_t payload[2048] = {0};
    velum_header header = raw_expect(fd, VELUM_F_ERROR, payload);
    velum_error e = {0};
    CHECK(header.correlation == correlation);
    CHECK(velum_wire_get_error(payload, header.length, &e) > 0);
    CHECK_EQ(e.code, -error);
    CHECK_EQ(e.node, 7);
    CHECK_EQ(e.text.size, strlen(velum_strerror(error)));
}

static void test_calls(void) {
    velum_hub *hub = open_world(16);
    velum_health health = {.cpu = 42, .cores = 4, .slots = 2};
    velum_hub_stats stats;
    velum_handle link;
    velum_result result = {0};
    uint8_t buf[128], payload[2048];
    velum_fd fd = raw_member(hub, 9, &link);
    CHECK_EQ(velum_hub_health(hub, &health), 0);
    raw_send(fd, buf, put_call(buf, sizeof buf, 11, VELUM_TASK_PLACED, "mul", 6, 7));
    raw_send(fd, buf, put_call(buf, sizeof buf, 12, VELUM_TASK_PLACED, "div", 6, 0));
    raw_send(fd, buf, put_call(buf, sizeof buf, 13, VELUM_TASK_PLACED, "pow", 6, 7));
    raw_send(fd, buf, put_call(buf, sizeof buf, 14, 0, "add", 6, 7)); /* to be scheduled */
    raw_empty(fd, VELUM_F_PING, 15);
    CHECK_EQ(poll_for(hub, 0), 1);
    CHECK_EQ(events[0].kind, VELUM_EV_FRAME);
    CHECK(events[0].link == link && events[0].u.frame.header.correlation == 14);
    velum_hub_flush(hub);
    velum_header header = raw_expect(fd, VELUM_F_RESULT, payload);
    CHECK(header.correlation == 11);
    CHECK(velum_wire_get_result(payload, header.length, &result) > 0);
    CHECK(result.values[0].bits == 42 && result.nvalues == 1 && result.run_us == 0);
    CHECK_EQ(result.health.cpu, 42);
    raw_expect_error(fd, 12, VELUM_E_DIVIDE_BY_ZERO);
    raw_expect_error(fd, 13, VELUM_E_UNKNOWN_NAME);
    header = raw_expect(fd, VELUM_F_PONG, payload);
    CHECK(header.correlation == 15);
    velum_hub_get_stats(hub, &stats);
    CHECK_EQ(stats.calls_answered, 3);
    CHECK_EQ(stats.frames_in, 6);
    CHECK_EQ(stats.frames_out, 5);
    velum_port_close(fd);
    velum_hub_close(hub);
    end_world();
}

static void test_calls_for_the_owner(void) {
    velum_hub_config config = {4, 1000, false, 0};
    velum_hello hello = {.role = VELUM_ROLE_NODE, .id = 7};
    velum_hub *hub = NULL;
    velum_handle link;
    velum_test_reset(1);
    CHECK_EQ(velum_hub_open(&hub, &config), 0);
    CHECK_EQ(velum_hub_identity(hub, &hello), 0);
    hub_addr = (velum_addr){LOCAL_IP, 0};
    CHECK_EQ(velum_hub_listen(hub, &hub_addr), 0);
    velum_fd fd = raw_member(hub, 9, &link);
    raw_call(fd, 3, 1, 1);
    CHECK(poll_event(hub, VELUM_EV_FRAME) != NULL);
    velum_port_close(fd);
    velum_hub_close(hub);
    end_world();
}

static void raw_want(velum_fd fd, uint64_t correlation, const uint8_t hash[32], uint32_t offset) {
    uint8_t buf[64];
    velum_module_want want = {.offset = offset};
    memcpy(want.hash, hash, sizeof want.hash);
    int n = velum_wire_put_module_want(buf, sizeof buf, correlation, &want);
    raw_send(fd, buf, (size_t)n);
}

static uint8_t *make_module(size_t n, uint8_t hash[32]) {
    uint8_t *bytes = malloc(n);
    uint32_t x = 12345;
    for (size_t i = 0; bytes != NULL && i < n; i++) {
        x = x * 1664525u + 1013904223u;
        bytes[i] = (uint8_t)(x >> 24);
    }
    velum_blake2b_256(bytes, n, hash);
    return bytes;
}

static void test_module_want(void) {
    velum_hub *hub = open_world(16);
    const size_t size = 2 * PART + 100;
    uint8_t hash[32], other[32] = {1}, head[56], *back = malloc(PART);
    uint8_t *module = make_module(size, hash);
    velum_module_part part;
    velum_header header;
    velum_handle link;
    size_t n;
    velum_fd fd = raw_member(hub, 9, &link);
    CHECK_EQ(velum_modules_add(velum_hub_modules(hub), module, size, hash), 0);
    raw_want(fd, 1, other, 0);
    CHECK_EQ(poll_for(hub, 0), 0);
    raw_expect_error(fd, 1, VELUM_E_MODULE_MISSING);
    for (uint32_t offset = 0; offset < size; offset += PART) {
        raw_want(fd, offset + 1, hash, offset);
        pump(hub, fd, head, sizeof head);
        CHECK_EQ(velum_wire_header(head, sizeof head, &header), 16);
        CHECK_EQ(velum_wire_get_module_head(head + 16, 40, header.length, &part), 40);
        CHECK(header.correlation == offset + 1 && part.offset == offset && part.total == size);
        pump(hub, fd, back, part.size);
        CHECK(memcmp(back, module + offset, part.size) == 0);
    }
    /* While a part is under way its module is pinned, also when the link dies. */
    raw_want(fd, 9, hash, 0);
    CHECK_EQ(poll_for(hub, 0), 0);
    free(module);
    module = make_module(64u * 1024u * 1024u, other);
    CHECK_EQ(velum_modules_add(velum_hub_modules(hub), module, VELUM_MODULE_BYTES_MAX, other),
             VELUM_E_FULL);
    velum_port_close(fd);
    expect_closed(hub, link, VELUM_E_CLOSED);
    CHECK_EQ(velum_modules_add(velum_hub_modules(hub), module, VELUM_MODULE_BYTES_MAX, other), 0);
    CHECK(velum_modules_get(velum_hub_modules(hub), hash, &n) == NULL);
    const uint32_t bad[] = {7, VELUM_MODULE_BYTES_MAX};
    for (int i = 0; i < 2; i++) {
        fd = raw_member(hub, 9, &link);
        uint8_t want[52];
        velum_wire_put_module_want(want, sizeof want, 1, &(velum_module_want){.offset = 0});
        memcpy(want + 16, other, 32);
        for (int b = 0; b < 4; b++)
            want[48 + b] = (uint8_t)(bad[i] >> (8 * b));
        raw_send(fd, want, sizeof want);
        expect_closed(hub, link, VELUM_E_PAYLOAD);
        raw_expect_bye(fd, VELUM_E_PAYLOAD);
    }
    free(module);
    free(back);
    velum_hub_close(hub);
    end_world();
}

/* ---- fetches, between two hubs ---- */

/* Lets both work until the client has events. */
static void pair_until_event(void) {
    for (int rounds = 0; rounds < 10000; rounds++) {
        CHECK_EQ(poll_for(server, 0), 0);
        if (poll_for(client, 0) > 0) return;
    }
    CHECK(event_count > 0); /* none came */
}

static void expect_module(const uint8_t hash[32], int error) {
    CHECK_EQ(event_count, 1);
    CHECK_EQ(events[0].kind, VELUM_EV_MODULE);
    CHECK_EQ(events[0].u.module.error, error);
    CHECK(memcmp(events[0].u.module.hash, hash, 32) == 0);
}

static void test_fetch(void) {
    uint8_t hash[32], missing[32] = {1};
    uint8_t *module = make_module(MODULE_SIZE, hash);
    const uint8_t *got;
    size_t n = 0;
    open_pair();
    CHECK_EQ(velum_modules_add(velum_hub_modules(server), module, MODULE_SIZE, hash), 0);
    CHECK_EQ(velum_hub_fetch(client, at_client, hash), 0);
    CHECK_EQ(velum_hub_fetch(client, at_client, hash), 0); /* one event for both */
    pair_until_event();
    expect_module(hash, 0);
    got = velum_modules_get(velum_hub_modules(client), hash, &n);
    CHECK(got != NULL && n == MODULE_SIZE && memcmp(got, module, n) == 0);
    CHECK_EQ(poll_for(client, 0), 0);
    CHECK_EQ(velum_hub_fetch(client, at_client, hash), 0); /* held already */
    CHECK_EQ(velum_hub_fetch(client, at_client, hash), 0);
    CHECK_EQ(poll_for(client, -1), 1);
    expect_module(hash, 0);
    CHECK_EQ(velum_hub_fetch(client, at_client, missing), 0);
    pair_until_event();
    expect_module(missing, VELUM_E_MODULE_MISSING);
    free(module);
    close_pair();
}

static void test_fetches_have_a_bound(void) {
    uint8_t hash[32] = {0};
    open_pair();
    for (unsigned i = 0; i < VELUM_WORKER_QUEUE_MAX; i++) {
        hash[0] = (uint8_t)i;
        CHECK_EQ(velum_hub_fetch(client, at_client, hash), 0);
    }
    hash[1] = 1;
    CHECK_EQ(velum_hub_fetch(client, at_client, hash), VELUM_E_FULL);
    unsigned failed = 0;
    for (int rounds = 0; rounds < 10; rounds++) {
        poll_for(server, 0);
        failed += (unsigned)velum_hub_poll(client, 0, events, 10);
    }
    CHECK_EQ(failed, VELUM_WORKER_QUEUE_MAX);
    CHECK_EQ(velum_hub_fetch(client, at_client, hash), 0);
    close_pair();
}

static void test_fetch_ends_with_its_link(void) {
    uint8_t hash[32], *module = make_module(4 * PART, hash);
    open_pair();
    CHECK_EQ(velum_modules_add(velum_hub_modules(server), module, 4 * PART, hash), 0);
    CHECK_EQ(velum_hub_fetch(client, at_client, hash), 0);
    for (int i = 0; i < 6; i++) {
        CHECK_EQ(poll_for(client, 0), 0);
        CHECK_EQ(poll_for(server, 0), 0);
    }
    CHECK(velum_modules_bytes(velum_hub_modules(client)) > 0);
    velum_hub_drop(server, at_server, 0, NULL);
    for (int i = 0; i < 50 && poll_for(client, 0) == 0; i++) {
    }
    CHECK_EQ(event_count, 2);
    CHECK_EQ(events[0].kind, VELUM_EV_CLOSED);
    CHECK_EQ(events[1].kind, VELUM_EV_MODULE);
    CHECK_EQ(events[1].u.module.error, VELUM_E_MODULE_MISSING);
    CHECK_EQ(velum_modules_bytes(velum_hub_modules(client)), 0);
    free(module);
    close_pair();
}

/* The other side of a fetch, scripted. */
typedef struct {
    velum_hub *hub;
    velum_fd fd;
    velum_handle link;
    velum_header want; /* of the MODULE_WANT */
} scripted;

static scripted asked_for(const uint8_t hash[32]) {
    scripted s = {.hub = open_world(16)};
    uint8_t payload[2048];
    s.fd = raw_member(s.hub, 9, &s.link);
    CHECK_EQ(velum_hub_fetch(s.hub, s.link, hash), 0);
    CHECK_EQ(poll_for(s.hub, 0), 0);
    s.want = raw_expect(s.fd, VELUM_F_MODULE_WANT, payload);
    CHECK(s.want.correlation >> 63 == 1);
    CHECK(memcmp(payload, hash, 32) == 0);
    return s;
}

static void raw_part(const scripted *s, uint64_t correlation, const uint8_t hash[32],
                     uint32_t total, uint32_t offset, const uint8_t *bytes) {
    uint8_t head[56];
    velum_module_part part = {.total = total, .offset = offset};
    memcpy(part.hash, hash, 32);
    part.size = total - offset < PART ? total - offset : PART;
    CHECK_EQ(velum_wire_put_module_head(head, sizeof head, correlation, &part), 56);
    raw_send(s->fd, head, sizeof head);
    for (uint32_t at = 0; at < part.size; at += 32768) {
        raw_send(s->fd, bytes + at, part.size - at < 32768 ? part.size - at : 32768);
        if (at + 32768 < part.size) CHECK_EQ(poll_for(s->hub, 0), 0);
    }
}

static void test_fetch_of_lies(void) {
    uint8_t hash[32], other[32] = {1}, *module = make_module(PART + 9, hash);
    scripted s = asked_for(hash);
    module[0] ^= 1u;
    raw_part(&s, s.want.correlation, hash, 200, 0, module);
    CHECK_EQ(poll_for(s.hub, 0), 1);
    expect_module(hash, VELUM_E_MODULE_HASH);
    raw_part(&s, s.want.correlation, hash, 200, 0, module); /* nobody asked again */
    expect_closed(s.hub, s.link, VELUM_E_UNEXPECTED);
    raw_expect_bye(s.fd, VELUM_E_UNEXPECTED);
    velum_hub_close(s.hub);
    end_world();
    static const struct {
        bool right_hash, right_id;
        uint32_t total, offset;
    } cases[] = {{false, true, 200, 0}, {true, false, 200, 0}, {true, true, PART + 9, PART}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        s = asked_for(hash);
        raw_part(&s, s.want.correlation + (cases[i].right_id ? 0 : 1),
                 cases[i].right_hash ? hash : other, cases[i].total, cases[i].offset, module);
        CHECK_EQ(poll_for(s.hub, 0), 2);
        CHECK_EQ(events[0].u.closed.error, VELUM_E_UNEXPECTED);
        CHECK_EQ(events[1].u.module.error, VELUM_E_MODULE_MISSING);
        raw_expect_bye(s.fd, VELUM_E_UNEXPECTED);
        velum_hub_close(s.hub);
        end_world();
    }
    /* The second part tells of another size. */
    s = asked_for(hash);
    raw_part(&s, s.want.correlation, hash, PART + 9, 0, module);
    CHECK_EQ(poll_for(s.hub, 0), 0);
    raw_part(&s, s.want.correlation, hash, PART + 8, PART, module);
    CHECK_EQ(poll_for(s.hub, 0), 1);
    expect_module(hash, VELUM_E_MODULE_MISSING);
    CHECK_EQ(velum_modules_bytes(velum_hub_modules(s.hub)), 0);
    velum_port_close(s.fd);
    velum_hub_close(s.hub);
    end_world();
    free(module);
}

static void test_fetch_without_room(void) {
    uint8_t hash[32], own[32], *module = make_module(VELUM_MODULE_BYTES_MAX, own);
    scripted s;
    velum_blake2b_256(module, 200, hash);
    s = asked_for(hash);
    CHECK_EQ(velum_modules_add(velum_hub_modules(s.hub), module, VELUM_MODULE_BYTES_MAX, own), 0);
    CHECK_EQ(velum_modules_pin(velum_hub_modules(s.hub), own), 0);
    raw_part(&s, s.want.correlation, hash, 200, 0, module);
    CHECK_EQ(poll_for(s.hub, 0), 1);
    expect_module(hash, VELUM_E_FULL);
    velum_port_close(s.fd);
    velum_hub_close(s.hub);
    end_world();
    /* Added here meanwhile: the part that comes is the last, and changes nothing. */
    s = asked_for(hash);
    CHECK_EQ(velum_modules_add(velum_hub_modules(s.hub), module, 200, own), 0);
    module[0] ^= 1u;
    raw_part(&s, s.want.correlation, hash, 200, 0, module);
    CHECK_EQ(poll_for(s.hub, 0), 1);
    expect_module(hash, 0);
    velum_port_close(s.fd);
    velum_hub_close(s.hub);
    end_world();
    free(module);
}

/* ---- back-pressure and turns ---- */

/* A peer that asks for sums and reads the answers when it likes. */
typedef struct {
    velum_fd fd;
    uint8_t call[128]; /* what is left of the call being sent: call[at..size) */
    size_t at, size;
    uint64_t begun; /* calls */
    uint8_t in[16384];
    size_t kept;
    uint64_t answers;
    bool in_order;
} asker;

/* Sends calls until the socket takes no more, or `most` have been begun. */
static void ask(asker *a, uint64_t most) {
    for (;;) {
        if (a->at == a->size) {
            if (a->begun == most) return;
            a->size =
                put_call(a->call, sizeof a->call, a->begun, VELUM_TASK_PLACED, "add", a->begun, 1);
            a->at = 0;
            a->begun++;
        }
        int n = velum_port_send(a->fd, a->call + a->at, a->size - a->at);
        if (n <= 0) return;
        a->at += (size_t)n;
    }
}

static void read_answers(asker *a) {
    int n = velum_port_recv(a->fd, a->in + a->kept, sizeof a->in - a->kept);
    size_t at = 0;
    velum_header header;
    velum_result result;
    if (n > 0) a->kept += (size_t)n;
    while (velum_wire_header(a->in + at, a->kept - at, &header) == 16 &&
           a->kept - at >= 16 + header.length) {
        if (header.type == VELUM_F_RESULT) {
            int r = velum_wire_get_result(a->in + at + 16, header.length, &result);
            a->in_order = a->in_order && r > 0 && header.correlation == a->answers &&
                          result.values[0].bits == a->answers + 1;
            a->answers++;
        }
        at += 16 + header.length;
    }
    memmove(a->in, a->in + at, a->kept - at);
    a->kept -= at;
}

/* A peer that sends calls and reads nothing: its answers are bounded, and none is lost. */
static void test_answers_are_never_dropped(void) {
    velum_hub *hub = open_world(16);
    velum_handle link, other_link;
    velum_hub_stats stats;
    static asker a;
    uint64_t answered = 1;
    velum_fd other;
    a = (asker){.fd = raw_member(hub, 9, &link), .in_order = true};
    other = raw_member(hub, 10, &other_link);
    for (stats.calls_answered = 0; answered != stats.calls_answered;) {
        answered = stats.calls_answered;
        ask(&a, UINT64_MAX);
        for (int i = 0; i < 3; i++)
            CHECK_EQ(poll_for(hub, 0), 0);
        velum_hub_get_stats(hub, &stats);
    }
    CHECK(velum_hub_unsent(hub, link) <= VELUM_SEND_QUEUE_BYTES);
    CHECK(velum_hub_unsent(hub, link) > VELUM_SEND_QUEUE_BYTES - 2048);
    raw_call(other, 1, 2, 3); /* nobody else waits for it */
    CHECK_EQ(poll_for(hub, 0), 0);
    CHECK_EQ(raw_result(other, 1), 5);
    /* It reads at last, but slowly: it lives as long as it takes something. */
    for (int round = 0; round < 2000 && a.answers < a.begun; round++) {
        read_answers(&a);
        ask(&a, a.begun);
        if (round < 100) velum_test_advance(SECOND);
        if (round < 100 && round % 8 == 0) raw_empty(other, VELUM_F_PONG, 0);
        CHECK_EQ(poll_for(hub, 0), 0);
    }
    CHECK(a.in_order);
    CHECK(a.begun > 70000);
    CHECK_EQ(a.answers, a.begun);
    velum_port_close(a.fd);
    velum_port_close(other);
    velum_hub_close(hub);
    end_world();
}

/* The same peer, but it never reads: the silence rule ends it. */
static void test_a_stuffed_link_ends(void) {
    velum_hub *hub = open_world(16);
    velum_handle link;
    uint8_t hash[32], *module = make_module(PART, hash), want[52];
    velum_fd fd = raw_member(hub, 9, &link);
    CHECK_EQ(velum_modules_add(velum_hub_modules(hub), module, PART, hash), 0);
    velum_module_want m = {.offset = 0};
    memcpy(m.hash, hash, 32);
    velum_wire_put_module_want(want, sizeof want, 1, &m);
    for (int i = 0; i < 1000; i++)
        raw_send(fd, want, sizeof want);
    int64_t start = velum_port_now_us();
    for (int i = 0; i < 10; i++)
        CHECK_EQ(poll_for(hub, 0), 0);
    CHECK(velum_hub_unsent(hub, link) <= VELUM_SEND_QUEUE_BYTES);
    CHECK_EQ(poll_for(hub, -1), 1);
    CHECK_EQ(events[0].u.closed.error, VELUM_E_TIMEOUT);
    CHECK_EQ(velum_port_now_us() - start, 2 * VELUM_IDLE_MS * INT64_C(1000));
    velum_port_close(fd);
    velum_hub_close(hub);
    free(module);
    end_world();
}

static void test_owner_has_half_of_the_queue(void) {
    velum_hub *hub = open_world(16);
    velum_handle link;
    velum_fd fd = raw_member(hub, 9, &link);
    static uint8_t frame[16 + 100000];
    uint8_t payload[2048];
    int sent = 0;
    velum_wire_put_header(frame, VELUM_F_ANSWER, 100000, 1);
    while (velum_hub_send(hub, link, frame, sizeof frame) == 0)
        sent++;
    CHECK_EQ(sent, VELUM_SEND_QUEUE_BYTES / 2 / sizeof frame);
    CHECK_EQ(velum_hub_send(hub, link, frame, sizeof frame), VELUM_E_FULL);
    CHECK(velum_hub_reserve(hub, link, sizeof frame) == NULL);
    raw_empty(fd, VELUM_F_PING, 5); /* and its answer still finds room */
    size_t unsent = velum_hub_unsent(hub, link);
    CHECK_EQ(poll_for(hub, 0), 0);
    CHECK_EQ(velum_hub_unsent(hub, link), unsent - 65536 + 16);
    for (int i = 0; i < sent; i++)
        pump(hub, fd, frame, sizeof frame);
    raw_expect(fd, VELUM_F_PONG, payload);
    uint8_t *room = velum_hub_reserve(hub, link, 64);
    CHECK(room != NULL);
    velum_hub_commit(hub, link, (size_t)velum_wire_put_cancel(room, 64, 5, 80));
    velum_hub_flush(hub);
    CHECK(raw_expect(fd, VELUM_F_CANCEL, payload).correlation == 5);
    velum_port_close(fd);
    velum_hub_close(hub);
    end_world();
}

/* Questions for the owner wait while their asker leaves much unread; placed tasks do not. */
static void test_who_does_not_read_is_not_read(void) {
    velum_hub *hub = open_world(16);
    velum_handle link;
    velum_fd fd = raw_member(hub, 9, &link);
    static uint8_t frame[16 + 100000];
    uint8_t query[64];
    const velum_event *event = NULL;
    int sent = 0, n = velum_wire_put_query(query, sizeof query, 5, (velum_text){"status", 6});
    velum_wire_put_header(frame, VELUM_F_ANSWER, 100000, 1);
    while (velum_hub_unsent(hub, link) <= VELUM_SEND_QUEUE_BYTES / 4 + 65536) {
        CHECK_EQ(velum_hub_send(hub, link, frame, sizeof frame), 0);
        sent++;
    }
    velum_wire_put_header(frame, VELUM_F_TASK, 1, 4);
    frame[16] = VELUM_TASK_PLACED;
    raw_send(fd, frame, 17);
    event = poll_event(hub, VELUM_EV_FRAME);
    CHECK(event != NULL && event->u.frame.header.correlation == 4);
    raw_send(fd, query, (size_t)n);
    CHECK_EQ(poll_for(hub, 0), 0);
    for (event = NULL; event == NULL && sent > 0; sent--) {
        CHECK(velum_port_recv(fd, frame, sizeof frame) > 0);
        event = poll_event(hub, VELUM_EV_FRAME);
    }
    CHECK(event != NULL && event->u.frame.header.correlation == 5);
    CHECK(velum_hub_unsent(hub, link) <= VELUM_SEND_QUEUE_BYTES / 4);
    CHECK(velum_hub_unsent(hub, link) > VELUM_SEND_QUEUE_BYTES / 8);
    velum_port_close(fd);
    velum_hub_close(hub);
    end_world();
}

static void test_links_take_turns(void) {
    velum_hub *hub = open_world(16);
    velum_handle link[3];
    velum_fd fd[3];
    uint8_t frame[64];
    uint64_t next[3] = {0, 0, 0};
    unsigned polls_of[3] = {0, 0, 0};
    for (unsigned i = 0; i < 3; i++)
        fd[i] = raw_member(hub, (uint16_t)(i + 1), &link[i]);
    for (uint64_t k = 0; k < 30; k++) {
        int n = velum_wire_put_cancel(frame, sizeof frame, k, 80);
        for (int i = 0; i < 3; i++)
            raw_send(fd[i], frame, (size_t)n);
    }
    int64_t start = velum_port_now_us();
    for (int poll = 0; poll < 18; poll++) {
        int n = velum_hub_poll(hub, SECOND, events, 5); /* leftovers: it does not sleep */
        CHECK_EQ(n, 5);
        for (int e = 0; e < n; e++) {
            for (int i = 0; i < 3; i++) {
                if (events[e].link != link[i]) continue;
                CHECK(events[e].u.frame.header.correlation == next[i]);
                next[i]++;
                if (e == 0) polls_of[i]++;
            }
        }
    }
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(next[i], 30);
        CHECK_EQ(polls_of[i], 6);
        velum_port_close(fd[i]);
    }
    CHECK_EQ(velum_port_now_us(), start);
    velum_hub_close(hub);
    end_world();
}

/* ---- chance ---- */

/* Sockets that move a few bytes at a time and often say AGAIN: every frame arrives once, whole and
 * in order, its answer too, and a module among them. */
static void test_rough_sockets(uint64_t seed) {
    enum { FRAMES = 300 };
    uint8_t hash[32], *module = make_module(PART + 5000, hash);
    uint64_t at_owner = 0, answered = 0;
    int modules = 0, failed = check_failed_count;
    world_seed = seed;
    world_manner = (velum_test_manner){9000, 7000, true, 3, 20000};
    open_pair();
    CHECK_EQ(velum_modules_add(velum_hub_modules(server), module, PART + 5000, hash), 0);
    CHECK_EQ(velum_hub_fetch(client, at_client, hash), 0);
    for (uint64_t i = 0; i < FRAMES; i++) {
        uint8_t buf[128];
        int n = velum_wire_put_cancel(buf, sizeof buf, i, 80);
        CHECK_EQ(velum_hub_send(client, at_client, buf, (size_t)n), 0);
        size_t size = put_call(buf, sizeof buf, i, VELUM_TASK_PLACED, "add", i, i);
        CHECK_EQ(velum_hub_send(client, at_client, buf, size), 0);
    }
    for (int rounds = 0; rounds < 10000 && (answered < FRAMES || modules == 0); rounds++) {
        int n = velum_hub_poll(server, 0, events, 3);
        for (int i = 0; i < n; i++)
            CHECK(events[i].u.frame.header.correlation == at_owner++);
        n = velum_hub_poll(client, 0, events, 3);
        for (int i = 0; i < n; i++) {
            if (events[i].kind == VELUM_EV_MODULE) {
                CHECK_EQ(events[i].u.module.error, 0);
                modules++;
            } else {
                CHECK_EQ(events[i].u.frame.header.type, VELUM_F_RESULT);
                CHECK(events[i].u.frame.header.correlation == answered++);
            }
        }
    }
    CHECK_EQ(at_owner, FRAMES);
    CHECK_EQ(answered, FRAMES);
    CHECK_EQ(modules, 1);
    close_pair();
    free(module);
    world_manner = (velum_test_manner){0};
    world_seed = 1;
    if (check_failed_count != failed) printf("rough sockets: seed %lu\n", (unsigned long)seed);
}

/* Bytes of chance, some with good frames before them, on strangers and members: nothing breaks, and
 * a member that behaves never waits. */
static void test_noise(uint64_t seed) {
    velum_handle link, bad_link;
    velum_hub *hub;
    world_seed = seed;
    hub = open_world(16);
    velum_fd good = raw_member(hub, 1, &link);
    int failed = check_failed_count;
    for (uint64_t i = 0; i < 300; i++) {
        uint8_t noise[400];
        velum_fd fd;
        velum_port_random(noise, sizeof noise);
        fd = noise[0] & 1u ? raw_member(hub, 2, &bad_link) : raw_dial();
        if (noise[1] & 1u) {
            noise[4] = 'V';
            noise[5] = 'L';
            noise[6] = 1;
            noise[7] &= 0x1f;
            memset(noise + 9, 0, 3);
        }
        raw_send(fd, noise + 4, 1u + noise[2]);
        raw_call(good, i, i, 2);
        poll_for(hub, 0);
        velum_hub_flush(hub);
        CHECK(raw_result(good, i) == i + 2);
        velum_port_close(fd);
        for (int rounds = 0; rounds < 3; rounds++)
            poll_for(hub, 0);
    }
    velum_hub_stats stats;
    velum_hub_get_stats(hub, &stats);
    CHECK_EQ(stats.links, 1);
    CHECK_EQ(stats.strangers, 0);
    velum_port_close(good);
    velum_hub_close(hub);
    end_world();
    world_seed = 1;
    if (check_failed_count != failed) printf("noise: seed %lu\n", (unsigned long)seed);
}

int main(void) {
    test_calls();
    test_calls_for_the_owner();
    test_module_want();
    test_fetch();
    test_fetches_have_a_bound();
    test_fetch_ends_with_its_link();
    test_fetch_of_lies();
    test_fetch_without_room();
    test_answers_are_never_dropped();
    test_a_stuffed_link_ends();
    test_owner_has_half_of_the_queue();
    test_who_does_not_read_is_not_read();
    test_links_take_turns();
    for (uint64_t seed = 1; seed <= 20; seed++) {
        test_rough_sockets(seed);
        test_noise(seed);
    }
    return check_report("hub_frames");
}
