/* link_pair.h: what the tests of the link share: a link, and the raw other end of its socket. */
#ifndef VELUM_TEST_LINK_PAIR_H
#define VELUM_TEST_LINK_PAIR_H

#include "check.h"
#include "link.h"
#include "port/test/port_test.h"

static velum_link *linked;
static velum_fd peer;

/* An empty world with a link in it that trusts its peer. */
static void pair_open(uint64_t seed, velum_link_sink sink, void *owner) {
    velum_fd ends[2];
    velum_test_reset(seed);
    velum_test_pair(ends);
    peer = ends[1];
    CHECK_EQ(velum_link_open(&linked, ends[0], sink, owner), VELUM_OK);
    CHECK_EQ(velum_link_fd(linked), ends[0]);
    velum_link_set_stranger(linked, false);
}

/* How the link's own end moves bytes. */
static void pair_manner(velum_test_manner manner) {
    velum_test_set_manner(velum_link_fd(linked), &manner);
}

static void pair_close(void) {
    velum_link_close(linked);
    velum_port_close(peer);
    CHECK_EQ(velum_test_open(), 0);
    CHECK_EQ(velum_test_misuse(), 0);
}

static uint32_t random_below(uint32_t n) {
    uint32_t r;
    velum_port_random(&r, sizeof r);
    return r % n;
}

#endif
