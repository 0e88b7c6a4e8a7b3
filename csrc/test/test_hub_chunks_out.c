/* test_hub_chunks_out.c: chunks that a hub sends: what other frames and links get meanwhile, what a
 * flood costs, how they end; and whole ways from one hub to another.
 */
#include "hub_chunks.h"
#include "hub_pair.h"

#define CHUNK_BYTES (1024u * 1024u)

static uint8_t key[VELUM_KEY_BYTES];
static uint8_t *bytes; /* of the chunk that `key` names */

static velum_hub *open_holding(size_t total) {
    velum_hub *hub = open_storing();
    uint8_t found[VELUM_KEY_BYTES];
    bytes = make_chunk(total, 7, key);
    CHECK_EQ(velum_chunks_add(store, bytes, total, found), 0);
    return hub;
}

static void close_holding(velum_hub *hub) {
    free(bytes);
    close_storing(hub);
}

/* ---- WANT ---- */

static void test_get(void) {
    const size_t totals[] = {1, PART - 1, PART, PART + 1, 3 * PART + 5, VELUM_CHUNK_BYTES_MAX};
    for (size_t i = 0; i < sizeof totals / sizeof totals[0]; i++) {
        velum_hub *hub = open_holding(totals[i]);
        uint8_t other[VELUM_KEY_BYTES] = {1};
        velum_handle link;
        velum_fd fd = raw_member(hub, 9, &link);
        raw_want(fd, 6, other);
        raw_want(fd, 5, key);
        CHECK_EQ(poll_for(hub, 0), 0);
        raw_expect_missing(fd, 6);
        pump_chunk(hub, fd, 5, key, bytes, totals[i]);
        expect_alive(hub, fd);
        velum_port_close(fd);
        close_holding(hub);
    }
}

/* Other frames of the link get in between parts, and wait for three of them at most. */
static void test_pong_between_parts(void) {
    const size_t total = VELUM_CHUNK_BYTES_MAX;
    velum_hub *hub = open_holding(total);
    unsigned asked = 0, answered = 0, waited = 0; /* parts since the last answer */
    velum_handle link;
    velum_fd fd = raw_member(hub, 9, &link);
    raw_want(fd, 5, key);
    for (size_t offset = 0; offset < total;) {
        velum_header header = pump_header(hub, fd);
        if (header.type == VELUM_F_PONG) {
            CHECK(header.correlation == 100 + answered);
            answered++;
            waited = 0;
            continue;
        }
        offset = pump_part(hub, fd, &header, key, bytes, total, offset);
        CHECK(velum_hub_unsent(hub, link) < 4 * PART);
        if (asked > answered) CHECK(++waited <= 4); /* one more was in the socket */
        if (asked == answered) raw_empty(fd, VELUM_F_PING, 100 + asked++);
    }
    CHECK(answered >= 6);
    velum_port_close(fd);
    close_holding(hub);
}

/* WANTs without end by one who does not read: so many are taken, the others wait, none is lost; and
 * nobody else waits. */
static void test_flood_of_wants(void) {
    enum { WANTS = 200 };
    velum_hub *hub = open_holding(CHUNK_BYTES);
    uint64_t missing = 0;
    uint8_t payload[2048];
    velum_handle link, other_link;
    velum_fd fd = raw_member(hub, 9, &link), other = raw_member(hub, 10, &other_link);
    for (uint64_t i = 0; i < WANTS; i++)
        raw_want(fd, i, key);
    for (int rounds = 0; rounds < 10; rounds++) {
        expect_alive(hub, other);
        CHECK(velum_hub_unsent(hub, link) < 4 * PART);
    }
    CHECK_EQ(velum_hub_send_chunk(hub, link, 1, key, bytes, 1), VELUM_E_FULL);
    for (uint64_t i = 0; i < WANTS; i++)
        pump_chunk(hub, fd, i, key, bytes, CHUNK_BYTES);
    expect_alive(hub, fd);
    /* What waits has not been looked at: the chunk is dropped, and the others are lent. */
    for (uint64_t i = 0; i < WANTS; i++)
        raw_want(fd, i, key);
    settle(hub);
    CHECK_EQ(velum_chunks_drop(store, key), 0);
    CHECK_EQ(velum_chunks_get_figures(store).used, CHUNK_BYTES);
    for (uint64_t parts = 0; parts < VELUM_CHUNKS_SENDING_MAX * CHUNK_BYTES / PART;) {
        velum_header header = pump_header(hub, fd);
        if (header.type == VELUM_F_ERROR) {
            pump(hub, fd, payload, header.length);
            CHECK(header.correlation == VELUM_CHUNKS_SENDING_MAX + missing++);
        } else {
            CHECK(header.correlation == parts * PART / CHUNK_BYTES);
            pump_part(hub, fd, &header, key, bytes, CHUNK_BYTES, parts++ * PART % CHUNK_BYTES);
        }
        if (check_failed_count > 0) break;
    }
    settle(hub);
    for (; missing < WANTS - VELUM_CHUNKS_SENDING_MAX; missing++)
        raw_expect_missing(fd, VELUM_CHUNKS_SENDING_MAX + missing);
    CHECK_EQ(velum_chunks_get_figures(store).used, 0);
    velum_port_close(fd);
    expect_closed(hub, link, VELUM_E_CLOSED);
    velum_port_close(other);
    close_holding(hub);
}

/* Who never reads is given up like any silent link, and what was lent to it comes back. */
static void test_stuffed_with_chunks(void) {
    velum_hub *hub = open_holding(CHUNK_BYTES);
    velum_handle link;
    velum_fd fd = raw_member(hub, 9, &link);
    for (uint64_t i = 0; i < 100; i++)
        raw_want(fd, i, key);
    settle(hub);
    CHECK_EQ(velum_chunks_drop(store, key), 0);
    CHECK_EQ(velum_chunks_get_figures(store).used, CHUNK_BYTES);
    CHECK_EQ(poll_for(hub, -1), 1);
    CHECK_EQ(events[0].u.closed.error, VELUM_E_TIMEOUT);
    CHECK_EQ(velum_chunks_get_figures(store).used, 0);
    velum_port_close(fd);
    close_holding(hub);
}

/* Two sockets that take all there is: each poll gives both their turn. */
static void test_turns(void) {
    const size_t total = VELUM_CHUNK_BYTES_MAX;
    velum_test_manner wide = {.window = 64u << 20};
    velum_handle link[2];
    velum_fd fd[2];
    size_t before[2] = {0, 0};
    velum_hub *hub = open_holding(total);
    for (int i = 0; i < 2; i++) {
        fd[i] = raw_member(hub, (uint16_t)(9 + i), &link[i]);
        velum_test_set_manner(fd[i], &wide);
    }
    for (int i = 0; i < 2; i++)
        raw_want(fd[i], 1, key);
    for (int poll = 0; poll < 40 && before[1] < total; poll++) {
        velum_hub_poll(hub, 0, events, EVENTS); /* two turns: it flushes before and after */
        for (int i = 0; i < 2; i++) {
            size_t now = velum_test_pending(fd[i]);
            CHECK(now > before[i] || now > total);
            CHECK(now - before[i] < 2 * 3 * PART);
            before[i] = now;
        }
    }
    CHECK(before[0] > total && before[0] == before[1]);
    /* And a poll that may sleep does not, while there is something to send. */
    raw_want(fd[0], 2, key);
    int64_t start = velum_port_now_us();
    for (int poll = 0; poll < 1000 && velum_test_pending(fd[0]) < 2 * total; poll++)
        velum_hub_poll(hub, 1, events, EVENTS);
    CHECK(velum_test_pending(fd[0]) > 2 * total);
    CHECK(velum_port_now_us() - start <= 1);
    velum_port_close(fd[0]);
    velum_port_close(fd[1]);
    close_holding(hub);
}

/* ---- chunks of the owner ---- */

static void test_send_chunks(void) {
    velum_hub *hub = open_holding(2 * PART + 3);
    const uint32_t total = 2 * PART + 3;
    uint64_t sent = 0;
    velum_handle link;
    velum_fd fd = raw_member(hub, 9, &link);
    static uint8_t sink[70000];
    CHECK_EQ(velum_hub_send_chunk(hub, link, 1, key, bytes, 0), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_hub_send_chunk(hub, link, 1, key, bytes, VELUM_CHUNK_BYTES_MAX + 1),
             VELUM_E_ARGUMENT);
    CHECK_EQ(velum_hub_send_chunk(hub, link + 1, 1, key, bytes, total), VELUM_E_ARGUMENT);
    for (uint64_t i = 0; i < VELUM_CHUNKS_SENDING_MAX; i++)
        CHECK_EQ(velum_hub_send_chunk(hub, link, i, key, bytes, total), 0);
    CHECK_EQ(velum_hub_send_chunk(hub, link, 99, key, bytes, total), VELUM_E_FULL);
    pump_chunk(hub, fd, 0, key, bytes, total);
    for (int rounds = 0; rounds < 10000 && sent < VELUM_CHUNKS_SENDING_MAX - 1; rounds++) {
        poll_for(hub, 0);
        for (int i = 0; i < event_count; i++) /* the first was told to the pump */
            is_chunk_event(&events[i], link, VELUM_CHUNK_SENT, ++sent, key, 0);
        (void)velum_port_recv(fd, sink, sizeof sink);
    }
    CHECK_EQ(sent, VELUM_CHUNKS_SENDING_MAX - 1);
    CHECK_EQ(velum_hub_unsent(hub, link), 0);
    velum_port_close(fd);
    close_holding(hub);
}

/* A link that ends with chunks queued: each is told, before CLOSED, and not touched after that. */
static void test_link_ends_with_chunks(bool dropped) {
    velum_hub *hub = open_storing();
    const size_t total = 5 * PART;
    velum_handle link;
    velum_fd fd = raw_member(hub, 9, &link);
    bytes = make_chunk(total, 7, key);
    for (uint64_t i = 0; i < 3; i++)
        CHECK_EQ(velum_hub_send_chunk(hub, link, i, key, bytes, (uint32_t)total), 0);
    settle(hub);
    if (dropped) {
        raw_empty(fd, VELUM_F_SUMS, 1); /* an event leads into the link's memory */
        CHECK(poll_event(hub, VELUM_EV_FRAME) != NULL);
        velum_hub_drop(hub, link, 0, NULL);
    } else {
        velum_test_cut(fd, VELUM_E_CLOSED);
    }
    poll_until(hub);
    CHECK_EQ(event_count, dropped ? 3 : 4);
    for (uint64_t i = 0; i < 3; i++)
        is_chunk_event(&events[i], link, VELUM_CHUNK_SENT, i, key, VELUM_E_CLOSED);
    if (!dropped) CHECK_EQ(events[3].kind, VELUM_EV_CLOSED);
    free(bytes);
    settle(hub);
    velum_port_close(fd);
    fd = raw_member(hub, 9, &link);
    bytes = make_chunk(total, 7, key);
    CHECK_EQ(velum_hub_send_chunk(hub, link, 1, key, bytes, (uint32_t)total), 0);
    velum_port_close(fd);
    close_holding(hub); /* with it queued */
}

/* ---- from one hub to another ---- */

static void test_bulk_hello(void) {
    velum_hub *dialler;
    velum_handle link;
    server = open_world(16);
    dialler = open_hub(8, 16);
    for (unsigned bulk = 0; bulk < 2; bulk++) {
        CHECK_EQ(bulk == 1 ? velum_hub_dial_bulk(dialler, &hub_addr, 5, &link)
                           : velum_hub_dial(dialler, &hub_addr, 5, &link),
                 0);
        for (int rounds = 0; rounds < 10 && poll_for(server, 0) == 0; rounds++)
            poll_for(dialler, 0);
        CHECK_EQ(events[0].kind, VELUM_EV_OPENED);
        CHECK_EQ(events[0].u.opened.hello.features, bulk == 1 ? VELUM_FEATURE_BULK : 0);
        CHECK_EQ(events[0].u.opened.hello.id, 8);
        CHECK_EQ(velum_hub_accept(server, events[0].link), 0);
        for (int rounds = 0; rounds < 10 && poll_for(dialler, 0) == 0; rounds++)
            poll_for(server, 0);
        CHECK_EQ(events[0].kind, VELUM_EV_OPENED);
        CHECK_EQ(events[0].token, 5);
        CHECK_EQ(events[0].u.opened.hello.features, 0);
    }
    velum_hub_close(dialler);
    velum_hub_close(server);
    end_world();
}

enum { WAYS = 12 };

/* What is under way from one hub to the other in each of three ways. */
typedef struct {
    uint8_t *bytes, *to;
    size_t total;
    uint8_t key[VELUM_KEY_BYTES], got_key[VELUM_KEY_BYTES];
} way;

static way ways[WAYS];

static void begin_way(unsigned i, velum_chunks *other_store) {
    way *w = &ways[i];
    uint32_t r;
    velum_port_random(&r, sizeof r);
    w->total = 1 + r % (3 * PART);
    w->bytes = make_chunk(w->total, r, w->key);
    w->to = NULL;
    if (i % 3 == 0) { /* the server holds it, the client wants it */
        w->to = malloc(w->total);
        CHECK_EQ(velum_chunks_add(store, w->bytes, w->total, w->got_key), 0);
        CHECK_EQ(velum_hub_want(client, at_client, i, w->key, w->to, (uint32_t)w->total), 0);
    } else if (i % 3 == 1) { /* the client puts it */
        CHECK_EQ(velum_chunks_reserve(store, w->key, w->total, at_server), 0);
        CHECK_EQ(velum_hub_send_chunk(client, at_client, i, w->key, w->bytes, (uint32_t)w->total),
                 0);
    } else { /* the server puts it */
        CHECK_EQ(velum_chunks_reserve(other_store, w->key, w->total, at_client), 0);
        CHECK_EQ(velum_hub_send_chunk(server, at_server, i, w->key, w->bytes, (uint32_t)w->total),
                 0);
    }
}

/* Counts events: a bit for each way and kind. */
static uint64_t look_at_events(void) {
    uint64_t seen = 0;
    for (int i = 0; i < event_count; i++) {
        const velum_event *e = &events[i];
        CHECK_EQ(e->kind, VELUM_EV_CHUNK);
        if (e->kind != VELUM_EV_CHUNK || e->u.chunk.correlation >= WAYS) continue;
        CHECK_EQ(e->u.chunk.error, 0);
        CHECK(memcmp(e->u.chunk.key, ways[e->u.chunk.correlation].key, VELUM_KEY_BYTES) == 0);
        seen |= UINT64_C(1) << (e->u.chunk.correlation +
                                (e->u.chunk.what == VELUM_CHUNK_SENT ? WAYS : 0));
    }
    return seen;
}

/* Over sockets that move little at a time, gets and puts in both directions at once. */
static void test_rough_ways(uint64_t seed) {
    int failed = check_failed_count;
    velum_chunks *other_store = NULL;
    uint64_t seen = 0, all = 0;
    size_t n;
    world_seed = seed;
    world_manner = (velum_test_manner){40000, 30000, true, 3, 50000};
    open_pair();
    CHECK_EQ(velum_chunks_open(&store, BUDGET), 0);
    CHECK_EQ(velum_chunks_open(&other_store, BUDGET), 0);
    velum_hub_set_store(server, store, NULL);
    velum_hub_set_store(client, other_store, NULL);
    for (unsigned i = 0; i < WAYS; i++) {
        begin_way(i, other_store);
        all |= UINT64_C(1) << i | (i % 3 == 0 ? 0 : UINT64_C(1) << (WAYS + i));
    }
    for (int rounds = 0; rounds < 20000 && seen != all; rounds++) {
        poll_for(server, 0);
        seen |= look_at_events();
        poll_for(client, 0);
        seen |= look_at_events();
    }
    CHECK(seen == all);
    for (unsigned i = 0; i < WAYS; i++) {
        way *w = &ways[i];
        const uint8_t *got = i % 3 == 0   ? w->to
                             : i % 3 == 1 ? velum_chunks_get(store, w->key, &n)
                                          : velum_chunks_get(other_store, w->key, &n);
        CHECK(got != NULL && memcmp(got, w->bytes, w->total) == 0);
        free(w->bytes);
        free(w->to);
    }
    close_pair();
    velum_chunks_close(store);
    velum_chunks_close(other_store);
    world_manner = (velum_test_manner){0};
    world_seed = 1;
    if (check_failed_count != failed) printf("rough ways: seed %lu\n", (unsigned long)seed);
}

int main(void) {
    test_get();
    test_pong_between_parts();
    test_flood_of_wants();
    test_stuffed_with_chunks();
    test_turns();
    test_send_chunks();
    test_link_ends_with_chunks(false);
    test_link_ends_with_chunks(true);
    test_bulk_hello();
    for (uint64_t seed = 1; seed <= 20; seed++)
        test_rough_ways(seed);
    return check_report("hub_chunks_out");
}
