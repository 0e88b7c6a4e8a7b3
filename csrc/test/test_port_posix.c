/* test_port_posix.c: the POSIX port on real sockets of this machine's loopback.
 *
 * Every port number is the system's choice, every wait has a deadline.
 */
#define _DEFAULT_SOURCE
#define _DARWIN_C_SOURCE

#include "check.h"
#include "velum_port.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOPBACK    0x7f000001u
#define BROADCAST   0x7fffffffu
#define DEADLINE_US 5000000

/* Waits until `fd` is ready for `want`; what it is ready for, 0 when the deadline has passed. */
static uint8_t wait_for(velum_fd fd, uint8_t want) {
    velum_port_poll p = {.fd = fd, .want = want};
    int64_t end_us = velum_port_now_us() + DEADLINE_US;
    while (velum_port_now_us() < end_us) {
        int r = velum_port_wait(&p, 1, end_us - velum_port_now_us());
        if (r != 0) {
            CHECK_EQ(r, 1);
            return p.ready;
        }
    }
    return 0;
}

/* Descriptors that are open, to see whether any leaks. */
static int open_descriptors(void) {
    int n = 0;
    for (int fd = 0; fd < FD_SETSIZE + 64; fd++) {
        n += fcntl(fd, F_GETFD) >= 0;
    }
    return n;
}

static velum_fd listen_anywhere(velum_addr *addr) {
    velum_fd fd = VELUM_NO_FD;
    *addr = (velum_addr){.ip = LOOPBACK};
    CHECK_EQ(velum_port_listen(addr, &fd), VELUM_OK);
    CHECK(addr->port != 0);
    return fd;
}

/* A connection over TCP: ends[0] dialled, ends[1] was accepted. */
static void connect_tcp(velum_fd ends[2]) {
    velum_addr addr, from;
    velum_fd listener = listen_anywhere(&addr);
    CHECK_EQ(velum_port_dial(&addr, &ends[0]), VELUM_OK);
    CHECK_EQ(wait_for(listener, VELUM_READABLE), VELUM_READABLE);
    CHECK_EQ(velum_port_accept(listener, &ends[1], &from), VELUM_OK);
    CHECK_EQ(from.ip, LOOPBACK);
    CHECK(from.port != 0 && from.port != addr.port);
    CHECK(wait_for(ends[0], VELUM_WRITABLE) != 0);
    CHECK_EQ(velum_port_dial_result(ends[0]), VELUM_OK);
    velum_port_close(listener);
}

static void close_both(const velum_fd ends[2]) {
    velum_port_close(ends[0]);
    velum_port_close(ends[1]);
}

/* ---- clocks and the rest ---- */

static void test_basics(void) {
    int64_t t0 = velum_port_now_us();
    CHECK(velum_port_now_us() >= t0);
    CHECK(velum_port_unix_ms() > 1700000000000u);
    uint8_t a[64], b[64];
    memset(a, 0, sizeof a);
    memset(b, 0, sizeof b);
    CHECK_EQ(velum_port_random(a, sizeof a), VELUM_OK);
    CHECK_EQ(velum_port_random(b, sizeof b), VELUM_OK);
    CHECK(memcmp(a, b, sizeof a) != 0);
    CHECK_EQ(velum_port_random(a, 0), VELUM_OK);
    uintptr_t here = velum_port_stack_address();
    CHECK(here != 0);
    velum_port_close(VELUM_NO_FD);
}

/* ---- streams ---- */

static void test_listen(void) {
    velum_addr addr, again, foreign = {.ip = 0xc0000201u}; /* 192.0.2.1, for documentation only */
    velum_fd fd = listen_anywhere(&addr), other = VELUM_NO_FD, end;
    again = addr;
    CHECK_EQ(velum_port_listen(&again, &other), VELUM_E_ADDRESS_IN_USE);
    CHECK_EQ(velum_port_listen(&foreign, &other), VELUM_E_UNREACHABLE);
    CHECK_EQ(other, VELUM_NO_FD);
    CHECK_EQ(velum_port_accept(fd, &end, &again), VELUM_E_AGAIN);
    velum_port_close(fd);
    again = addr;
    CHECK_EQ(velum_port_listen(&again, &other), VELUM_OK); /* at once after closing */
    CHECK_EQ(again.port, addr.port);
    velum_port_close(other);
}

static void test_talk(void) {
    velum_fd ends[2];
    char bytes[64];
    connect_tcp(ends);
    CHECK((fcntl(ends[1], F_GETFD) & FD_CLOEXEC) != 0);
    CHECK((fcntl(ends[1], F_GETFL) & O_NONBLOCK) != 0);
    CHECK_EQ(velum_port_recv(ends[1], bytes, sizeof bytes), VELUM_E_AGAIN);
    CHECK_EQ(velum_port_send(ends[0], "abc", 3), 3);
    CHECK_EQ(wait_for(ends[1], VELUM_READABLE), VELUM_READABLE);
    CHECK_EQ(velum_port_recv(ends[1], bytes, sizeof bytes), 3);
    CHECK(memcmp(bytes, "abc", 3) == 0);
    CHECK_EQ(velum_port_send2(ends[1], "de", 2, "fgh", 3), 5);
    CHECK_EQ(wait_for(ends[0], VELUM_READABLE), VELUM_READABLE);
    CHECK_EQ(velum_port_recv(ends[0], bytes, 4), 4);
    CHECK_EQ(velum_port_recv(ends[0], bytes + 4, sizeof bytes - 4), 1);
    CHECK(memcmp(bytes, "defgh", 5) == 0);
    CHECK_EQ(wait_for(ends[0], VELUM_READABLE | VELUM_WRITABLE), VELUM_WRITABLE);
    close_both(ends);
}

/* Many bytes through small buffers: partial sends, AGAIN, nothing lost. */
static void test_back_pressure(void) {
    enum { SIZE = 8 << 20 };
    velum_fd ends[2];
    uint8_t *out = malloc(SIZE), *in = malloc(SIZE);
    CHECK(out != NULL && in != NULL);
    for (int i = 0; i < SIZE; i++) {
        out[i] = (uint8_t)(i * 7 + (i >> 10));
    }
    connect_tcp(ends);
    size_t sent = 0, got = 0;
    int again = 0;
    while (got < SIZE) {
        size_t half = (SIZE - sent) / 2;
        int r = sent == SIZE ? VELUM_E_AGAIN
                             : velum_port_send2(ends[0], out + sent, half, out + sent + half,
                                                SIZE - sent - half);
        sent += r > 0 ? (size_t)r : 0;
        if (r == VELUM_E_AGAIN) {
            again += sent < SIZE;
            CHECK_EQ(wait_for(ends[1], VELUM_READABLE), VELUM_READABLE);
            r = velum_port_recv(ends[1], in + got, SIZE - got);
            got += r > 0 ? (size_t)r : 0;
        }
        CHECK(r > 0);
        if (r <= 0) {
            break;
        }
    }
    CHECK(again > 0);
    CHECK(memcmp(out, in, SIZE) == 0);
    close_both(ends);
    free(out);
    free(in);
}

static void test_orderly_end(void) {
    velum_fd ends[2];
    char bytes[8];
    connect_tcp(ends);
    CHECK_EQ(velum_port_send(ends[0], "last", 4), 4);
    velum_port_close(ends[0]);
    CHECK_EQ(wait_for(ends[1], VELUM_READABLE), VELUM_READABLE);
    CHECK_EQ(velum_port_recv(ends[1], bytes, sizeof bytes), 4);
    CHECK_EQ(wait_for(ends[1], VELUM_READABLE), VELUM_READABLE);
    CHECK_EQ(velum_port_recv(ends[1], bytes, sizeof bytes), VELUM_E_CLOSED);
    /* Sending on is answered by a reset: CLOSED in the end, and no SIGPIPE. */
    int64_t end_us = velum_port_now_us() + DEADLINE_US;
    int r;
    do {
        r = velum_port_send2(ends[1], "x", 1, "y", 1);
    } while (r > 0 && velum_port_now_us() < end_us);
    CHECK_EQ(r, VELUM_E_CLOSED);
    CHECK_EQ(velum_port_send(ends[1], "x", 1), VELUM_E_CLOSED);
    velum_port_close(ends[1]);
}

static void test_reset(void) {
    velum_fd ends[2];
    char bytes[8];
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    connect_tcp(ends);
    CHECK_EQ(setsockopt(ends[0], SOL_SOCKET, SO_LINGER, &hard, sizeof hard), 0);
    velum_port_close(ends[0]);
    CHECK_EQ(wait_for(ends[1], VELUM_READABLE), VELUM_READABLE);
    CHECK_EQ(velum_port_recv(ends[1], bytes, sizeof bytes), VELUM_E_CLOSED);
    velum_port_close(ends[1]);
}

/* How a dial to `to` ends. */
static int dial_end(const velum_addr *to) {
    velum_fd fd;
    int r = velum_port_dial(to, &fd);
    if (r < 0) {
        return r;
    }
    CHECK(wait_for(fd, VELUM_WRITABLE) != 0);
    r = velum_port_dial_result(fd);
    velum_port_close(fd);
    return r;
}

static void test_refused(void) {
    velum_addr addr;
    velum_port_close(listen_anywhere(&addr));
    CHECK_EQ(dial_end(&addr), VELUM_E_REFUSED);
}

/* A socket that is not connected yet, and one that has come to be connected to itself. */
static void test_dial_result(void) {
    velum_addr addr;
    velum_fd fd = listen_anywhere(&addr);
    CHECK_EQ(velum_port_dial_result(fd), VELUM_E_AGAIN);
    velum_port_close(fd);
    /* Bound to the port first, a socket dials itself, as a dial may do by bad luck. */
    fd = VELUM_NO_FD;
    addr.port = 0;
    int bound = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr sa;
    socklen_t size = sizeof sa;
    memset(&sa, 0, sizeof sa);
    fd = listen_anywhere(&addr);
    CHECK_EQ(getsockname(fd, &sa, &size), 0);
    velum_port_close(fd);
    CHECK_EQ(bind(bound, &sa, size), 0);
    CHECK_EQ(velum_port_adopt(bound), VELUM_OK);
    (void)connect(bound, &sa, size);
    CHECK(wait_for(bound, VELUM_WRITABLE) != 0);
    CHECK_EQ(velum_port_dial_result(bound), VELUM_E_REFUSED);
    velum_port_close(bound);
}

static void test_adopt(void) {
    velum_fd ends[2];
    char bytes[8];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    CHECK_EQ(velum_port_adopt(ends[0]), VELUM_OK);
    CHECK_EQ(velum_port_adopt(ends[1]), VELUM_OK);
    CHECK_EQ(velum_port_recv(ends[0], bytes, sizeof bytes), VELUM_E_AGAIN);
    CHECK_EQ(velum_port_send2(ends[0], "ab", 2, "c", 1), 3);
    CHECK_EQ(velum_port_recv(ends[1], bytes, sizeof bytes), 3);
    velum_port_close(ends[0]);
    CHECK_EQ(velum_port_send(ends[1], "x", 1), VELUM_E_CLOSED);
    CHECK_EQ(velum_port_recv(ends[1], bytes, sizeof bytes), VELUM_E_CLOSED);
    velum_port_close(ends[1]);
    CHECK_EQ(velum_port_adopt(ends[1]), VELUM_E_SYSTEM);
}

/* ---- datagrams ---- */

static void test_datagrams(void) {
    velum_addr a_addr = {.ip = LOOPBACK}, b_addr = {.ip = LOOPBACK}, nobody = {.ip = LOOPBACK};
    velum_addr taken, from;
    velum_fd a, b, c;
    char bytes[64];
    CHECK_EQ(velum_port_udp_open(&a_addr, false, &a), VELUM_OK);
    CHECK_EQ(velum_port_udp_open(&b_addr, false, &b), VELUM_OK);
    taken = a_addr;
    CHECK_EQ(velum_port_udp_open(&taken, false, &c), VELUM_E_ADDRESS_IN_USE);
    CHECK_EQ(velum_port_udp_recv(b, bytes, sizeof bytes, &from), VELUM_E_AGAIN);
    CHECK_EQ(velum_port_udp_send(a, &b_addr, "hello", 5), 5);
    CHECK_EQ(wait_for(b, VELUM_READABLE), VELUM_READABLE);
    CHECK_EQ(velum_port_udp_recv(b, bytes, sizeof bytes, &from), 5);
    CHECK_EQ(from.ip, LOOPBACK);
    CHECK_EQ(from.port, a_addr.port);
    static const char large[70000];
    CHECK_EQ(velum_port_udp_send(a, &b_addr, large, sizeof large), VELUM_E_TOO_LARGE);
    /* A datagram to nobody breaks nothing. */
    CHECK_EQ(velum_port_udp_open(&nobody, false, &c), VELUM_OK);
    velum_port_close(c);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(velum_port_udp_send(a, &nobody, "lost", 4), 4);
        CHECK_EQ(velum_port_udp_recv(a, bytes, sizeof bytes, &from), VELUM_E_AGAIN);
    }
    CHECK_EQ(velum_port_udp_send(b, &a_addr, "", 0), 0);
    CHECK_EQ(wait_for(a, VELUM_READABLE), VELUM_READABLE);
    CHECK_EQ(velum_port_udp_recv(a, bytes, sizeof bytes, &from), 0);
    velum_port_close(a);
    velum_port_close(b);
}

/* Receives one broadcast and says whether it is the right one. */
static bool hears_beacon(velum_fd fd, uint16_t sender_port) {
    char bytes[16];
    velum_addr from;
    return wait_for(fd, VELUM_READABLE) == VELUM_READABLE &&
           velum_port_udp_recv(fd, bytes, sizeof bytes, &from) == 6 &&
           memcmp(bytes, "beacon", 6) == 0 && from.ip == LOOPBACK && from.port == sender_port;
}

/* Two processes that share a port both get a broadcast. */
static void test_shared_broadcast(void) {
    velum_addr here = {.ip = BROADCAST}, there, from = {.ip = LOOPBACK};
    velum_fd mine, sender;
    int ready[2];
    CHECK_EQ(velum_port_udp_open(&here, true, &mine), VELUM_OK);
    CHECK_EQ(velum_port_udp_open(&from, false, &sender), VELUM_OK);
    CHECK_EQ(pipe(ready), 0);
    there = here;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        velum_fd theirs;
        bool heard = velum_port_udp_open(&there, true, &theirs) == VELUM_OK &&
                     write(ready[1], "r", 1) == 1 && hears_beacon(theirs, from.port);
        _exit(heard ? 0 : 1);
    }
    CHECK(child > 0);
    CHECK_EQ(wait_for(ready[0], VELUM_READABLE), VELUM_READABLE);
    CHECK_EQ(velum_port_udp_send(sender, &here, "beacon", 6), 6);
    CHECK(hears_beacon(mine, from.port));
    int status = 1;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    velum_port_close(ready[0]);
    velum_port_close(ready[1]);
    velum_port_close(mine);
    velum_port_close(sender);
}

/* ---- waking and waiting ---- */

static void test_wait_timeouts(void) {
    velum_fd reader, writer;
    CHECK_EQ(velum_port_wake_open(&reader, &writer), VELUM_OK);
    velum_port_poll polls[3] = {{.fd = VELUM_NO_FD, .want = VELUM_READABLE, .ready = 7},
                                {.fd = writer, .want = 0, .ready = 7},
                                {.fd = reader, .want = VELUM_READABLE, .ready = 7}};
    int64_t t0 = velum_port_now_us();
    CHECK_EQ(velum_port_wait(polls, 3, 0), 0);
    CHECK_EQ(velum_port_wait(polls, 3, 20000), 0);
    CHECK(velum_port_now_us() - t0 >= 20000);
    CHECK_EQ(polls[0].ready + polls[1].ready + polls[2].ready, 0);
    CHECK_EQ(velum_port_wait(NULL, 0, 1000), 0);
    velum_port_wake(writer);
    CHECK_EQ(velum_port_wait(polls, 3, INT64_MAX), 1); /* longer than select() can count */
    CHECK_EQ(polls[2].ready, VELUM_READABLE);
    polls[1].want = VELUM_WRITABLE;
    CHECK_EQ(velum_port_wait(polls, 3, -1), 2);
    polls[0].fd = FD_SETSIZE;
    CHECK_EQ(velum_port_wait(polls, 3, 0), VELUM_E_ARGUMENT);
    polls[0].fd = reader;
    velum_port_close(reader);
    velum_port_wake(writer); /* to nobody: no SIGPIPE */
    CHECK_EQ(velum_port_wait(polls, 3, 0), VELUM_E_SYSTEM);
    velum_port_close(writer);
}

static void test_wake_guard(void) {
    velum_fd reader, writer;
    CHECK_EQ(velum_port_wake_open(&reader, &writer), VELUM_OK);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 100000; i++) {
            velum_port_wake(writer); /* unguarded these would fill the pair */
        }
        CHECK_EQ(wait_for(reader, VELUM_READABLE), VELUM_READABLE);
        velum_port_wake_clear(reader);
        velum_port_poll p = {.fd = reader, .want = VELUM_READABLE};
        CHECK_EQ(velum_port_wait(&p, 1, 0), 0);
    }
    velum_port_close(reader);
    velum_port_close(writer);
}

#define HANDOVERS 20000
static int announced; /* by the thread; read and written atomically */

static void *announce(void *writer) {
    for (int i = 0; i < HANDOVERS; i++) {
        __atomic_add_fetch(&announced, 1, __ATOMIC_RELAXED);
        velum_port_wake(*(velum_fd *)writer);
    }
    return NULL;
}

/* Whatever a thread announces before it wakes is seen after a wake-up: none is lost. */
static void test_wake_from_thread(void) {
    velum_fd reader, writer;
    pthread_t thread;
    CHECK_EQ(velum_port_wake_open(&reader, &writer), VELUM_OK);
    CHECK_EQ(pthread_create(&thread, NULL, announce, &writer), 0);
    int seen = 0;
    while (seen < HANDOVERS && wait_for(reader, VELUM_READABLE) != 0) {
        velum_port_wake_clear(reader);
        seen = __atomic_load_n(&announced, __ATOMIC_RELAXED);
    }
    CHECK_EQ(seen, HANDOVERS);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    velum_port_close(reader);
    velum_port_close(writer);
}

static velum_fd signal_writer;

static void on_alarm(int number) {
    (void)number;
    velum_port_wake(signal_writer);
}

/* A signal ends a sleep, either by waking or by interrupting; it is never an error. */
static void test_wake_from_signal(void) {
    velum_fd reader;
    struct sigaction action, old;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm;
    CHECK_EQ(velum_port_wake_open(&reader, &signal_writer), VELUM_OK);
    CHECK_EQ(sigaction(SIGALRM, &action, &old), 0);
    struct itimerval soon = {.it_value = {.tv_usec = 10000}};
    CHECK_EQ(setitimer(ITIMER_REAL, &soon, NULL), 0);
    velum_port_poll p = {.fd = reader, .want = VELUM_READABLE};
    int r = velum_port_wait(&p, 1, DEADLINE_US);
    CHECK(r == 0 || r == 1);
    CHECK_EQ(wait_for(reader, VELUM_READABLE), VELUM_READABLE);
    CHECK_EQ(sigaction(SIGALRM, &old, NULL), 0);
    velum_port_close(reader);
    velum_port_close(signal_writer);
}

/* ---- limits ---- */

/* All that opens a descriptor says FULL, and leaks none. `listener` has a connection waiting. */
static void expect_full(velum_fd listener, const velum_addr *addr) {
    velum_addr any = {.ip = LOOPBACK}, from;
    velum_fd fd = VELUM_NO_FD, other = VELUM_NO_FD;
    int before = open_descriptors();
    CHECK_EQ(velum_port_accept(listener, &fd, &from), VELUM_E_FULL);
    CHECK_EQ(velum_port_listen(&any, &fd), VELUM_E_FULL);
    CHECK_EQ(velum_port_dial(addr, &fd), VELUM_E_FULL);
    CHECK_EQ(velum_port_udp_open(&any, false, &fd), VELUM_E_FULL);
    CHECK_EQ(velum_port_wake_open(&fd, &other), VELUM_E_FULL);
    CHECK_EQ(fd, VELUM_NO_FD);
    CHECK_EQ(open_descriptors(), before);
}

static void test_descriptors_run_out(void) {
    velum_addr addr;
    struct rlimit old;
    velum_fd listener = listen_anywhere(&addr), dialled;
    CHECK_EQ(velum_port_dial(&addr, &dialled), VELUM_OK);
    CHECK_EQ(wait_for(listener, VELUM_READABLE), VELUM_READABLE);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
    /* No descriptor is left below a limit at the next free one. */
    int next = dup(listener);
    close(next);
    struct rlimit tight = {.rlim_cur = (rlim_t)next, .rlim_max = old.rlim_max};
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
    expect_full(listener, &addr);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
    velum_port_close(listener);
    velum_port_close(dialled);
}

static void test_descriptors_beyond_select(void) {
    velum_addr addr;
    struct rlimit old;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
    struct rlimit wide = {.rlim_cur = FD_SETSIZE + 64, .rlim_max = old.rlim_max};
    if (old.rlim_max < wide.rlim_cur) {
        printf("port_posix: fewer than %d descriptors allowed here, so none lies beyond select\n",
               FD_SETSIZE + 64);
        return;
    }
    velum_fd listener = listen_anywhere(&addr), dialled;
    CHECK_EQ(velum_port_dial(&addr, &dialled), VELUM_OK);
    CHECK_EQ(wait_for(listener, VELUM_READABLE), VELUM_READABLE);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &wide), 0);
    int fill[FD_SETSIZE], filled = 0, fd;
    while ((fd = dup(listener)) >= 0 && fd < FD_SETSIZE) {
        fill[filled++] = fd;
    }
    CHECK_EQ(fd, FD_SETSIZE);
    CHECK_EQ(velum_port_adopt(fd), VELUM_E_FULL);
    close(fd);
    expect_full(listener, &addr);
    while (filled > 0) {
        close(fill[--filled]);
    }
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
    velum_port_close(listener);
    velum_port_close(dialled);
}

int main(void) {
    int before = open_descriptors();
    test_basics();
    test_listen();
    test_talk();
    test_back_pressure();
    test_orderly_end();
    test_reset();
    test_refused();
    test_dial_result();
    test_adopt();
    test_datagrams();
    test_shared_broadcast();
    test_wait_timeouts();
    test_wake_guard();
    test_wake_from_thread();
    test_wake_from_signal();
    test_descriptors_run_out();
    test_descriptors_beyond_select();
    CHECK_EQ(open_descriptors(), before);
    return check_report("port_posix");
}
