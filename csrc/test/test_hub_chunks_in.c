/* test_hub_chunks_in.c: chunks that come over a hub's links: put into its store, or wanted. */
#include "hub_chunks.h"

/* ---- put ---- */

static void test_put(void) {
    velum_hub *hub = open_storing();
    const size_t total = 2 * PART + 100;
    uint8_t key[VELUM_KEY_BYTES], payload[2048], *bytes = make_chunk(total, 1, key);
    const uint8_t *held;
    velum_handle link;
    size_t n = 0;
    velum_fd fd = raw_member(hub, 9, &link);
    CHECK_EQ(velum_chunks_reserve(store, key, total, link), 0);
    for (size_t offset = 0; offset < total; offset += PART) {
        raw_part(hub, fd, 5, key, bytes, total, offset);
        if (offset + PART < total) {
            settle(hub);
            raw_empty(fd, VELUM_F_PING, offset);
            settle(hub);
            CHECK(raw_expect(fd, VELUM_F_PONG, payload).correlation == offset);
        }
    }
    expect_chunk(hub, link, VELUM_CHUNK_STORED, 5, key, 0);
    held = velum_chunks_get(store, key, &n);
    CHECK(held != NULL && n == total && memcmp(held, bytes, n) == 0);
    raw_part(hub, fd, 5, key, bytes, total, 2 * PART); /* again: nobody waits for it */
    expect_alive(hub, fd);
    /* Another one, with a wrong byte. */
    free(bytes);
    bytes = make_chunk(1000, 2, key);
    bytes[999] ^= 1u;
    CHECK_EQ(velum_chunks_reserve(store, key, 1000, link), 0);
    raw_part(hub, fd, 6, key, bytes, 1000, 0);
    expect_chunk(hub, link, VELUM_CHUNK_STORED, 6, key, VELUM_E_CHUNK_HASH);
    CHECK_EQ(velum_chunks_get_figures(store).arriving, 0);
    free(bytes);
    velum_port_close(fd);
    close_storing(hub);
}

/* Parts that nobody wants so are read and dropped; those that are right count all the same. */
static void test_put_of_nonsense(void) {
    velum_hub *hub = open_storing();
    const size_t total = PART + 10;
    uint8_t key[VELUM_KEY_BYTES], other[VELUM_KEY_BYTES] = {1}, *bytes = make_chunk(total, 1, key);
    velum_handle link, other_link;
    velum_fd fd = raw_member(hub, 9, &link), other_fd = raw_member(hub, 10, &other_link);
    raw_part(hub, fd, 5, key, bytes, total, 0); /* not reserved */
    expect_alive(hub, fd);
    CHECK_EQ(velum_chunks_reserve(store, key, total, link), 0);
    raw_part(hub, fd, 5, key, bytes, total, PART);    /* not the next */
    raw_part(hub, fd, 5, key, bytes, 100, 0);         /* of another total */
    raw_part(hub, fd, 5, other, bytes, total, 0);     /* with another key */
    raw_part(hub, other_fd, 5, key, bytes, total, 0); /* from somebody else */
    expect_alive(hub, fd);
    expect_alive(hub, other_fd);
    raw_part(hub, fd, 5, key, bytes, total, 0);
    settle(hub);
    raw_part(hub, fd, 5, key, bytes, total, 0); /* twice */
    raw_part(hub, fd, 5, key, bytes, total, PART);
    expect_chunk(hub, link, VELUM_CHUNK_STORED, 5, key, 0);
    free(bytes);
    velum_port_close(fd);
    velum_port_close(other_fd);
    close_storing(hub);
}

static void test_no_store(void) {
    velum_hub *hub = open_world(16);
    uint8_t key[VELUM_KEY_BYTES], *bytes = make_chunk(1000, 1, key);
    velum_handle link;
    velum_fd fd = raw_member(hub, 9, &link);
    raw_part(hub, fd, 5, key, bytes, 1000, 0);
    raw_want(fd, 6, key);
    CHECK_EQ(poll_for(hub, 0), 0);
    raw_expect_missing(fd, 6);
    expect_alive(hub, fd);
    free(bytes);
    velum_port_close(fd);
    velum_hub_close(hub);
    end_world();
}

/* A reservation is abandoned in the middle of a part: its memory may be anybody's. */
static void test_abandoned_in_a_part(bool in_slab) {
    velum_hub *hub = open_storing();
    const size_t total = in_slab ? PART : 30000; /* of the allocator that the sanitizer watches */
    uint8_t key[VELUM_KEY_BYTES], again[VELUM_KEY_BYTES], *bytes = make_chunk(total, 1, key);
    uint8_t *others = make_chunk(total, 2, again);
    const uint8_t *held;
    velum_handle link;
    size_t n = 0;
    velum_fd fd = raw_member(hub, 9, &link);
    CHECK_EQ(velum_chunks_reserve(store, key, total, link), 0);
    raw_part_head(hub, fd, 5, key, total, 0);
    raw_bytes(hub, fd, bytes, 20000);
    settle(hub);
    velum_chunks_abandon(store, key, link);
    CHECK_EQ(velum_chunks_add(store, others, total, again), 0);
    CHECK_EQ(velum_chunks_reserve(store, key, total, link), 0); /* no part of it has begun */
    raw_bytes(hub, fd, bytes + 20000, total - 20000);
    expect_alive(hub, fd);
    held = velum_chunks_get(store, again, &n);
    CHECK(held != NULL && n == total && memcmp(held, others, n) == 0);
    raw_part(hub, fd, 6, key, bytes, total, 0);
    expect_chunk(hub, link, VELUM_CHUNK_STORED, 6, key, 0);
    free(bytes);
    free(others);
    velum_port_close(fd);
    close_storing(hub);
}

static void test_close_in_a_part(void) {
    velum_hub *hub = open_storing();
    uint8_t key[VELUM_KEY_BYTES], *bytes = make_chunk(PART + 1, 1, key);
    velum_handle link;
    for (int dropped = 0; dropped < 2; dropped++) {
        velum_fd fd = raw_member(hub, 9, &link);
        CHECK_EQ(velum_chunks_reserve(store, key, PART + 1, link), 0);
        raw_part_head(hub, fd, 5, key, PART + 1, 0);
        raw_bytes(hub, fd, bytes, 70000);
        settle(hub);
        if (dropped == 1) velum_hub_drop(hub, link, 0, NULL);
        velum_port_close(fd);
        if (dropped == 0) expect_closed(hub, link, VELUM_E_CLOSED);
        CHECK_EQ(velum_chunks_get_figures(store).arriving, 0);
    }
    free(bytes);
    close_storing(hub);
}

/* The owner hears of a HOLD and of the link's end at once, and reserves before he looks further. */
static void test_reserved_for_a_link_that_ended(void) {
    velum_hub *hub = open_storing();
    uint8_t key[VELUM_KEY_BYTES] = {1}, frame[64];
    velum_handle link;
    velum_fd fd = raw_member(hub, 9, &link);
    int n = velum_wire_put_cancel(frame, sizeof frame, 1, 80);
    raw_send(fd, frame, (size_t)n);
    raw_send(fd, "junk", 4);
    CHECK_EQ(poll_for(hub, 0), 2);
    CHECK_EQ(events[1].kind, VELUM_EV_CLOSED);
    CHECK_EQ(velum_chunks_reserve(store, key, 1000, link), 0);
    CHECK_EQ(poll_for(hub, 0), 0);
    CHECK_EQ(velum_chunks_get_figures(store).arriving, 0);
    velum_port_close(fd);
    close_storing(hub);
}

/* ---- wanted ---- */

/* A hub that wants a chunk of a raw peer, under correlation 5. */
typedef struct {
    velum_hub *hub;
    velum_fd fd;
    velum_handle link;
    uint8_t key[VELUM_KEY_BYTES];
    uint8_t *bytes, *to;
    uint32_t total;
} asked;

static void ask_again(asked *a) {
    uint8_t payload[2048];
    velum_header header;
    CHECK_EQ(velum_hub_want(a->hub, a->link, 5, a->key, a->to, a->total), 0);
    velum_hub_flush(a->hub);
    header = raw_expect(a->fd, VELUM_F_WANT, payload);
    CHECK(header.correlation == 5 && memcmp(payload, a->key, VELUM_KEY_BYTES) == 0);
}

static asked ask_for(uint32_t total) {
    asked a = {.hub = open_storing(), .total = total};
    a.bytes = make_chunk(total, 3, a.key);
    a.to = malloc(total);
    a.fd = raw_member(a.hub, 9, &a.link);
    ask_again(&a);
    return a;
}

static void send_part(const asked *a, size_t offset) {
    raw_part(a->hub, a->fd, 5, a->key, a->bytes, a->total, offset);
}

static void expect_fetched(const asked *a, int error) {
    expect_chunk(a->hub, a->link, VELUM_CHUNK_FETCHED, 5, a->key, error);
}

static void finish(asked *a) {
    expect_alive(a->hub, a->fd);
    velum_port_close(a->fd);
    free(a->bytes);
    free(a->to);
    close_storing(a->hub);
}

static void test_want(void) {
    asked a = ask_for(2 * PART + 9);
    CHECK_EQ(velum_hub_want(a.hub, a.link, 5, a.key, a.to, a.total), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_hub_want(a.hub, a.link, UINT64_C(1) << 63, a.key, a.to, 1), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_hub_want(a.hub, a.link, 6, a.key, a.to, 0), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_hub_want(a.hub, a.link, 6, a.key, a.to, VELUM_CHUNK_BYTES_MAX + 1),
             VELUM_E_ARGUMENT);
    CHECK_EQ(velum_hub_want(a.hub, a.link + 1, 6, a.key, a.to, 1), VELUM_E_ARGUMENT);
    send_part(&a, 0);
    send_part(&a, PART);
    send_part(&a, 2 * PART);
    expect_fetched(&a, 0);
    CHECK(memcmp(a.to, a.bytes, a.total) == 0);
    send_part(&a, 2 * PART); /* too much */
    finish(&a);
}

/* What an answer may be instead; each costs the one try, and nothing else. */
static void test_want_of_lies(void) {
    uint8_t other[VELUM_KEY_BYTES] = {1}, frame[64];
    velum_error error = {.code = 1};
    int n;
    asked a = ask_for(PART + 9);
    send_part(&a, PART); /* not in order */
    expect_fetched(&a, VELUM_E_CHUNK_HASH);
    ask_again(&a);
    raw_part(a.hub, a.fd, 5, other, a.bytes, a.total, 0); /* another key */
    expect_fetched(&a, VELUM_E_CHUNK_HASH);
    ask_again(&a);
    raw_part(a.hub, a.fd, 5, a.key, a.bytes, PART, 0); /* another total */
    expect_fetched(&a, VELUM_E_CHUNK_HASH);
    ask_again(&a);
    send_part(&a, 0);
    settle(a.hub);
    a.bytes[PART] ^= 1u; /* a wrong byte */
    send_part(&a, PART);
    expect_fetched(&a, VELUM_E_CHUNK_HASH);
    a.bytes[PART] ^= 1u;
    ask_again(&a);
    n = velum_wire_put_error(frame, sizeof frame, 5, &error);
    raw_send(a.fd, frame, (size_t)n);
    expect_fetched(&a, VELUM_E_CHUNK_MISSING);
    raw_send(a.fd, frame, (size_t)n); /* and now it is the owner's */
    CHECK_EQ(poll_for(a.hub, 0), 1);
    CHECK_EQ(events[0].kind, VELUM_EV_FRAME);
    ask_again(&a); /* another correlation: not asked for */
    raw_part(a.hub, a.fd, 6, a.key, a.bytes, a.total, 0);
    send_part(&a, 0);
    send_part(&a, PART);
    expect_fetched(&a, 0);
    finish(&a);
}

/* A want that is given up in the middle of a part: what it was to fill is gone. */
static void test_unwant(void) {
    asked a = ask_for(2 * PART);
    raw_part_head(a.hub, a.fd, 5, a.key, a.total, 0);
    raw_bytes(a.hub, a.fd, a.bytes, 100000);
    settle(a.hub);
    velum_hub_unwant(a.hub, a.link, 6); /* not that one */
    velum_hub_unwant(a.hub, a.link, 5);
    free(a.to); /* the sanitizer sees who writes there */
    a.to = malloc(a.total);
    raw_bytes(a.hub, a.fd, a.bytes + 100000, PART - 100000);
    send_part(&a, PART);
    expect_alive(a.hub, a.fd);
    /* Between two parts, and after the last before the event was given. */
    ask_again(&a);
    send_part(&a, 0);
    settle(a.hub);
    velum_hub_unwant(a.hub, a.link, 5);
    velum_hub_unwant(a.hub, a.link, 5);
    send_part(&a, PART);
    expect_alive(a.hub, a.fd);
    ask_again(&a);
    CHECK_EQ(velum_hub_want(a.hub, a.link, 7, a.key, a.to, a.total), 0);
    velum_hub_drop(a.hub, a.link, 0, NULL);
    velum_hub_unwant(a.hub, a.link, 5);
    expect_chunk(a.hub, a.link, VELUM_CHUNK_FETCHED, 7, a.key, VELUM_E_CLOSED);
    CHECK_EQ(poll_for(a.hub, 0), 0);
    velum_port_close(a.fd);
    a.fd = raw_member(a.hub, 9, &a.link);
    finish(&a);
}

/* A part is there whole, and waits for room for its event, while the want is given up. */
static void test_unwant_of_a_whole_part(void) {
    asked a = ask_for(3000);
    uint8_t frame[64];
    int n = velum_wire_put_cancel(frame, sizeof frame, 1, 80);
    raw_send(a.fd, frame, (size_t)n);
    send_part(&a, 0);
    CHECK_EQ(velum_hub_poll(a.hub, 0, events, 1), 1);
    velum_hub_unwant(a.hub, a.link, 5);
    CHECK_EQ(poll_for(a.hub, 0), 0);
    finish(&a);
}

static void test_wants_have_a_bound(void) {
    enum { LINKS = VELUM_CHUNKS_WANTED_MAX / VELUM_CHUNKS_SENDING_MAX };
    velum_hub *hub = open_storing();
    uint8_t key[VELUM_KEY_BYTES] = {1}, to[1];
    velum_handle link[LINKS + 1];
    velum_fd fd[LINKS + 1];
    int failed[LINKS + 1] = {0};
    for (unsigned i = 0; i <= LINKS; i++)
        fd[i] = raw_member(hub, (uint16_t)(i + 1), &link[i]);
    for (unsigned i = 0; i < LINKS; i++) {
        for (uint64_t k = 0; k < VELUM_CHUNKS_SENDING_MAX; k++)
            CHECK_EQ(velum_hub_want(hub, link[i], k, key, to, 1), 0);
        if (i + 1 < LINKS) {
            CHECK_EQ(velum_hub_want(hub, link[i], 1000, key, to, 1), VELUM_E_FULL);
        }
    }
    CHECK_EQ(velum_hub_want(hub, link[LINKS], 1, key, to, 1), VELUM_E_FULL);
    velum_hub_unwant(hub, link[2], 7);
    CHECK_EQ(velum_hub_want(hub, link[LINKS], 1, key, to, 1), 0);
    /* All links close: one event for each, before its link's CLOSED. */
    for (unsigned i = 0; i <= LINKS; i++)
        velum_port_close(fd[i]);
    for (int rounds = 0; rounds < 100 && poll_for(hub, 0) > 0; rounds++) {
        for (int e = 0; e < event_count; e++) {
            unsigned i = 0;
            while (i < LINKS && events[e].link != link[i])
                i++;
            if (events[e].kind == VELUM_EV_CLOSED) {
                CHECK_EQ(failed[i], i == LINKS ? 1 : i == 2 ? 63 : 64);
            } else {
                CHECK_EQ(events[e].u.chunk.error, VELUM_E_CLOSED);
                failed[i]++;
            }
        }
    }
    CHECK_EQ(failed[0] + failed[1] + failed[2] + failed[3] + failed[4], 256);
    close_storing(hub);
}

/* The peer's HOLD and our WANT may have one number: the keys tell which is which. */
static void test_one_correlation(void) {
    asked a = ask_for(2 * PART);
    uint8_t key[VELUM_KEY_BYTES], *bytes = make_chunk(2 * PART, 8, key);
    CHECK_EQ(velum_chunks_reserve(store, key, 2 * PART, a.link), 0);
    send_part(&a, 0);
    raw_part(a.hub, a.fd, 5, key, bytes, 2 * PART, 0);
    send_part(&a, PART);
    expect_fetched(&a, 0);
    /* The same key too: what a part has begun for, it ends for. */
    CHECK_EQ(velum_chunks_reserve(store, a.key, a.total, a.link), 0);
    raw_part_head(a.hub, a.fd, 5, a.key, a.total, 0);
    raw_bytes(a.hub, a.fd, a.bytes, 100000);
    settle(a.hub);
    ask_again(&a);
    raw_bytes(a.hub, a.fd, a.bytes + 100000, PART - 100000);
    settle(a.hub);
    velum_chunks_abandon(store, a.key, a.link);
    send_part(&a, 0);
    send_part(&a, PART);
    expect_fetched(&a, 0);
    raw_part(a.hub, a.fd, 5, key, bytes, 2 * PART, PART);
    expect_chunk(a.hub, a.link, VELUM_CHUNK_STORED, 5, key, 0);
    free(bytes);
    finish(&a);
}

int main(void) {
    test_put();
    test_put_of_nonsense();
    test_no_store();
    test_abandoned_in_a_part(false);
    test_abandoned_in_a_part(true);
    test_close_in_a_part();
    test_reserved_for_a_link_that_ended();
    test_want();
    test_want_of_lies();
    test_unwant();
    test_unwant_of_a_whole_part();
    test_wants_have_a_bound();
    test_one_correlation();
    return check_report("hub_chunks_in");
}
