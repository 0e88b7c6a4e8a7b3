/* port_test.h: the controls of the test port.
 *
 * The test port is a whole world in memory: a clock that moves only when told to or when somebody
 * sleeps, a network that loses and delays what the test says, and randomness from a seed. To the
 * core it is an ordinary port (velum_port.h). Everything of one test program, several hubs
 * included, lives in one world and one thread.
 *
 *     velum_test_reset(seed);            start of every test: an empty world, the clock at 1 second
 *     ...                                use the core as on any port
 *     CHECK_EQ(velum_test_open(), 0);    end of it: every handle was closed,
 *     CHECK_EQ(velum_test_misuse(), 0);  and none was used after that
 *
 * Time. velum_port_wait never sleeps. If something is ready it returns at once and no time passes.
 * Else the clock jumps to the end of the time-out. Actions planned with velum_test_at run on the
 * way, at their moment, and may make something ready: this is how a test acts "while the hub
 * sleeps". A wait without a limit on which nothing can ever happen is a mistake of the test or of
 * the core: it returns VELUM_E_SYSTEM in place of hanging.
 *
 * Streams. velum_port_dial reaches a listener of the same world (its ip, or any if it listens on ip
 * 0) and is REFUSED without one; velum_test_next_dial scripts another end. velum_test_pair is a
 * socketpair. So a hostile peer is written with velum_port_dial, velum_port_send and
 * velum_port_recv. What is sent can be received at once. How a handle moves bytes is its
 * velum_test_manner: in small chunks, with AGAIN between, into a small window.
 *
 * Datagrams arrive at once, in order, unless velum_test_lose says otherwise. An address whose last
 * byte is 255 is a broadcast: every socket bound to that address (or to ip 0) and port gets a copy,
 * the sender's own too if it is so bound.
 *
 * Handles are numbers that are never used twice and never small, so an old one is noticed and one
 * used as an index crashes under the sanitizer.
 */
#ifndef VELUM_PORT_TEST_H
#define VELUM_PORT_TEST_H

#include "velum_port.h"

/* Forgets all handles, plans, scripts and counts. The clock starts at 1,000,000 us. */
void velum_test_reset(uint64_t seed);

/* ---- time ---- */

/* Moves the clock on, running what was planned for that time. */
void velum_test_advance(int64_t us);
/* Calls action(user) when the clock reaches `at_us` (velum_port_now_us's scale; a moment that has
 * passed means the next wait that would sleep). At most 64 wait at once. An action may use the port
 * and the core freely, and plan others. */
void velum_test_at(int64_t at_us, void (*action)(void *user), void *user);

/* ---- streams ---- */

typedef struct {
    size_t recv_max;      /* bytes that one recv moves at most; 0: no limit */
    size_t send_max;      /* the same for one send */
    bool random;          /* moves a random number of bytes, 1 to the limit, each time */
    unsigned again_every; /* each k-th recv, and each k-th send, says AGAIN though it could move
                             something; 1: always (a peer that stalls); 0: never */
    size_t window;        /* bytes this end holds for its reader before the sender is told AGAIN;
                             0: 65,536 */
} velum_test_manner;

/* How this handle behaves from now on. */
void velum_test_set_manner(velum_fd fd, const velum_test_manner *manner);
/* How streams behave that come into being from now on (until velum_test_reset). */
void velum_test_set_default_manner(const velum_test_manner *manner);

/* Two ends of a stream, as of a socketpair. */
void velum_test_pair(velum_fd ends[2]);
/* Cuts a connection: what is under way is lost, and both ends get `err` (CLOSED for a reset, or
 * SYSTEM) from every further recv and send. */
void velum_test_cut(velum_fd fd, int err);
/* How the next dial ends, whoever makes it: VELUM_OK as it would, AGAIN never (the packets vanish),
 * or in that error. */
void velum_test_next_dial(int err);

/* ---- datagrams ---- */

/* Loses this share of all datagrams, 0 to 100 percent, chosen by the seed. */
void velum_test_lose(unsigned percent);

/* ---- handles ---- */

/* Most handles that may be open; listen, accept, dial and the like are FULL beyond. 0: 4,096. */
void velum_test_set_limit(size_t handles);
/* Handles open now. */
size_t velum_test_open(void);
/* Calls that named a handle which was not open, or of another kind, since the reset. */
size_t velum_test_misuse(void);
/* Bytes that this stream handle could receive, whatever its manner. */
size_t velum_test_pending(velum_fd fd);

#endif
