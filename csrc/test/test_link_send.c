/* test_link_send.c: sending on a link, on the test port: order, back-pressure, references. */
#include "link_pair.h"

#include <stdlib.h>

#define TEST_SEED 7u

static uint8_t sent_bytes[8u << 20]; /* what was queued, in order */
static size_t sent_size;
static uint8_t got_bytes[8u << 20]; /* what the peer received */
static size_t got_size;
static uint8_t referred[1u << 20];
static int released[256];
static int release_order;

static void release(void *token) {
    int *slot = token;
    CHECK_EQ(*slot, 0);
    *slot = ++release_order;
}

static void send_start(uint64_t seed) {
    pair_open(seed, NULL, NULL);
    sent_size = 0;
    got_size = 0;
    release_order = 0;
    memset(released, 0, sizeof released);
    for (size_t i = 0; i < sizeof referred; i++) {
        referred[i] = (uint8_t)(i * 13 + (i >> 8) + (i >> 16));
    }
}

static void note_sent(const void *data, size_t n) {
    memcpy(sent_bytes + sent_size, data, n);
    sent_size += n;
}

/* Reads all that the peer has got. */
static void peer_takes(void) {
    int r;
    while ((r = velum_port_recv(peer, got_bytes + got_size, sizeof got_bytes - got_size)) > 0) {
        got_size += (size_t)r;
    }
    CHECK_EQ(r, VELUM_E_AGAIN);
}

/* Flushes until the queue is empty. */
static void send_all(void) {
    int r;
    while ((r = velum_link_flush(linked)) == 1) {
        CHECK(velum_link_unsent(linked) > 0);
        peer_takes();
    }
    CHECK_EQ(r, 0);
    CHECK_EQ(velum_link_unsent(linked), 0);
    peer_takes();
    CHECK_EQ(got_size, sent_size);
    CHECK(memcmp(got_bytes, sent_bytes, sent_size) == 0);
}

/* Queues something at random, by one of the three ways. False when the queue was full. */
static bool queue_something(int *refs) {
    const uint8_t *data = referred + random_below(1000);
    uint32_t n = 1 + (random_below(8) == 0 ? random_below(300000) : random_below(300));
    size_t before = velum_link_unsent(linked);
    int r = VELUM_OK;
    switch (random_below(4)) {
    case 0:
        r = velum_link_send_ref(linked, data, n % 60, data, n, release, &released[*refs]);
        if (r == VELUM_OK) {
            note_sent(data, n % 60);
            note_sent(data, n);
            ++*refs;
        }
        break;
    case 1: {
        uint8_t *room = velum_link_reserve(linked, n + 10);
        r = room == NULL ? VELUM_E_FULL : VELUM_OK;
        if (room != NULL) {
            memcpy(room, data, n);
            velum_link_commit(linked, n);
            note_sent(data, n);
        }
        break;
    }
    default:
        r = velum_link_send(linked, data, n);
        if (r == VELUM_OK) {
            note_sent(data, n);
        }
    }
    CHECK(r == VELUM_OK || r == VELUM_E_FULL);
    CHECK(velum_link_unsent(linked) <= VELUM_SEND_QUEUE_BYTES);
    CHECK(r == VELUM_OK || velum_link_unsent(linked) == before);
    return r == VELUM_OK;
}

static void test_send_mix(uint64_t seed) {
    int refs = 0;
    int full = 0;
    int failed_before = check_failed_count;
    send_start(seed);
    pair_manner((velum_test_manner){.send_max = seed % 3 == 0 ? 1000 : 0,
                                    .random = seed % 2 == 0,
                                    .again_every = (unsigned)(seed % 5) + 2});
    velum_test_manner theirs = {.window = seed % 4 == 0 ? 100 : 0};
    velum_test_set_manner(peer, &theirs);
    while (refs < 100 && sent_size < 6u << 20) {
        full += !queue_something(&refs);
        if (random_below(10) == 0) {
            CHECK(velum_link_flush(linked) >= 0);
            peer_takes();
            CHECK(memcmp(got_bytes, sent_bytes, got_size) == 0);
        }
    }
    send_all();
    for (int i = 0; i < refs; i++) {
        CHECK_EQ(released[i], i + 1); /* each once, in order */
    }
    CHECK_EQ(release_order, refs);
    if (check_failed_count != failed_before) {
        printf("send mix: seed %llu, %d times full\n", (unsigned long long)seed, full);
    }
    pair_close();
}

static void test_send_byte_by_byte(void) {
    send_start(TEST_SEED);
    pair_manner((velum_test_manner){.send_max = 1});
    for (int i = 0; i < 5; i++) {
        size_t head = (size_t)i * 3;
        CHECK_EQ(
            velum_link_send_ref(linked, referred, head, referred + 50, 40, release, &released[i]),
            VELUM_OK);
        note_sent(referred, head);
        note_sent(referred + 50, 40);
    }
    CHECK_EQ(velum_link_unsent(linked), sent_size);
    for (size_t left = sent_size; left > 0; left--) {
        CHECK_EQ(velum_link_flush(linked), left > 1);
        CHECK_EQ(velum_link_unsent(linked), left - 1);
        /* A reference is let go with its last byte, not before. */
        peer_takes();
        int done = 0;
        for (size_t end = 40; done < 5 && end <= got_size; end += 40 + (size_t)done * 3) {
            done++;
        }
        CHECK_EQ(release_order, done);
    }
    send_all();
    pair_close();
}

static void test_full(void) {
    static uint8_t frame[100000];
    int r;
    size_t taken = 0;
    send_start(TEST_SEED);
    pair_manner((velum_test_manner){.again_every = 1});
    while ((r = velum_link_send(linked, frame, sizeof frame)) == VELUM_OK) {
        taken += sizeof frame;
    }
    CHECK_EQ(r, VELUM_E_FULL);
    CHECK_EQ(velum_link_unsent(linked), taken);
    CHECK(taken <= VELUM_SEND_QUEUE_BYTES && taken + sizeof frame > VELUM_SEND_QUEUE_BYTES);
    CHECK(velum_link_reserve(linked, sizeof frame) == NULL);
    CHECK_EQ(velum_link_send_ref(linked, frame, 56, referred, sizeof frame, release, released),
             VELUM_E_FULL);
    CHECK_EQ(velum_link_send(linked, frame, VELUM_SEND_QUEUE_BYTES - taken), VELUM_OK);
    CHECK_EQ(velum_link_send(linked, frame, 1), VELUM_E_FULL);
    CHECK(velum_link_reserve(linked, 1) == NULL);
    CHECK_EQ(velum_link_flush(linked), 1);
    CHECK_EQ(release_order, 0);
    pair_manner((velum_test_manner){0});
    CHECK_EQ(velum_link_flush(linked), 1);
    CHECK_EQ(velum_link_send(linked, frame, 1), VELUM_OK); /* the socket took some: room again */
    pair_close();
}

/* An empty queue takes what is larger than its limit; references count as unsent. */
static void test_larger_than_the_limit(void) {
    size_t n = VELUM_SEND_QUEUE_BYTES + 5;
    uint8_t *large = calloc(1, n);
    send_start(TEST_SEED);
    CHECK(large != NULL);
    CHECK_EQ(velum_link_send_ref(linked, "head", 4, large, n, release, &released[0]), VELUM_OK);
    CHECK_EQ(velum_link_unsent(linked), n + 4);
    CHECK_EQ(velum_link_send(linked, "x", 1), VELUM_E_FULL);
    note_sent("head", 4);
    note_sent(large, n);
    send_all();
    CHECK_EQ(velum_link_send(linked, large, n), VELUM_OK);
    sent_size = 0;
    got_size = 0;
    note_sent(large, n);
    send_all();
    CHECK_EQ(release_order, 1);
    CHECK_EQ(velum_link_send_ref(linked, "h", 1, large, SIZE_MAX, release, &released[1]),
             VELUM_E_ARGUMENT);
    CHECK_EQ(velum_link_send_ref(linked, "h", 1, large, 0, release, &released[1]), VELUM_OK);
    CHECK_EQ(released[1], 2); /* no bytes to keep: let go at once */
    CHECK_EQ(velum_link_unsent(linked), 1);
    pair_close();
    free(large);
}

static void test_commit_less(void) {
    send_start(TEST_SEED);
    uint8_t *room = velum_link_reserve(linked, 1000);
    CHECK(room != NULL);
    velum_link_commit(linked, 0); /* encoding failed: nothing is sent */
    CHECK_EQ(velum_link_unsent(linked), 0);
    CHECK_EQ(velum_link_flush(linked), 0);
    room = velum_link_reserve(linked, 1000);
    CHECK(room != NULL);
    memcpy(room, "abc", 3);
    velum_link_commit(linked, 3);
    note_sent("abc", 3);
    send_all();
    pair_close();
}

static void test_close_releases(void) {
    send_start(TEST_SEED);
    velum_test_set_manner(peer, &(velum_test_manner){.window = 100});
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(velum_link_send_ref(linked, "head", 4, referred, 90, release, &released[i]),
                 VELUM_OK);
    }
    CHECK_EQ(velum_link_flush(linked), 1);
    CHECK_EQ(release_order, 1);
    pair_close();
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(released[i], i + 1);
    }
    velum_link_close(NULL);
}

static void test_broken_socket(void) {
    send_start(TEST_SEED);
    CHECK_EQ(velum_link_send_ref(linked, "head", 4, referred, 90, release, &released[0]), VELUM_OK);
    velum_test_cut(peer, VELUM_E_CLOSED);
    CHECK_EQ(velum_link_flush(linked), VELUM_E_CLOSED);
    CHECK_EQ(velum_link_flush(linked), VELUM_E_CLOSED);
    CHECK_EQ(velum_link_unsent(linked), 94);
    CHECK_EQ(velum_link_read(linked), VELUM_E_CLOSED);
    CHECK_EQ(release_order, 0);
    pair_close();
    CHECK_EQ(release_order, 1);
}

/* The owner of a reference may send when it is let go: the next part of a module, say. */
static void release_and_send(void *token) {
    int *left = token;
    release_order++;
    if (--*left > 0) {
        CHECK_EQ(velum_link_send(linked, "between", 7), VELUM_OK);
        note_sent("between", 7);
        CHECK_EQ(velum_link_send_ref(linked, "head", 4, referred, 5000, release_and_send, token),
                 VELUM_OK);
        note_sent("head", 4);
        note_sent(referred, 5000);
    }
}

static void test_send_from_release(void) {
    int left = 20;
    send_start(TEST_SEED);
    pair_manner((velum_test_manner){.send_max = 3000, .random = true});
    CHECK_EQ(velum_link_send_ref(linked, NULL, 0, referred, 10, release_and_send, &left), VELUM_OK);
    note_sent(referred, 10);
    send_all();
    CHECK_EQ(left, 0);
    CHECK_EQ(release_order, 20);
    pair_close();
}

int main(void) {
    for (uint64_t seed = 1; seed <= 30; seed++) {
        test_send_mix(seed);
    }
    test_send_byte_by_byte();
    test_full();
    test_larger_than_the_limit();
    test_commit_less();
    test_close_releases();
    test_broken_socket();
    test_send_from_release();
    return check_report("link_send");
}
