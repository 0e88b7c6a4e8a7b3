/* port_posix.c: the port to Linux, macOS and the BSDs.
 *
 * Owns: sockets, clocks, random bytes and wake-up pairs of a POSIX system, and the translation of
 * errno into velum_err. Refuses to know: how descriptors are waited for (poll_select.c), and what
 * travels over them.
 * How: plain non-blocking BSD sockets. A call that a signal interrupted is repeated. SIGPIPE is
 * kept away per call where the system has MSG_NOSIGNAL, else per socket.
 */
#define _DEFAULT_SOURCE  /* glibc, musl: more than ISO C */
#define _DARWIN_C_SOURCE /* macOS: the same */
#define _NETBSD_SOURCE   /* NetBSD: the same */

#include "velum_port.h"
#include "poller.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/syscall.h>
#endif

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* such systems have SO_NOSIGPIPE */
#endif

/* Connections that may wait to be accepted; the system cuts it to its own limit. */
#define BACKLOG 512

#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif

#define HUGE_PAGE_BYTES ((size_t)2 * 1024 * 1024)

/* ---- memory ---- */

void *velum_port_pages(size_t n) {
    size_t spare = n >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : 0;
    uint8_t *at = mmap(NULL, n + spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return NULL;
    if (spare > 0) { /* only aligned memory can be huge pages */
        size_t head = (HUGE_PAGE_BYTES - (uintptr_t)at % HUGE_PAGE_BYTES) % HUGE_PAGE_BYTES;
        if (head > 0) munmap(at, head);
        munmap(at + head + n, spare - head);
        at += head;
#ifdef MADV_HUGEPAGE
        madvise(at, n, MADV_HUGEPAGE); /* without them it is slower, and no less right */
#endif
    }
    return at;
}

void velum_port_pages_free(void *memory, size_t n) {
    munmap(memory, n);
}

void velum_port_will_fill(void *memory, size_t n) {
#ifdef MADV_HUGEPAGE
    size_t head = (HUGE_PAGE_BYTES - (uintptr_t)memory % HUGE_PAGE_BYTES) % HUGE_PAGE_BYTES;
    if (n < head + HUGE_PAGE_BYTES) return;
    size_t whole = (n - head) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    madvise((uint8_t *)memory + head, whole, MADV_HUGEPAGE);
#else
    (void)memory, (void)n;
#endif
}

/* ---- clocks, randomness, stack ---- */

int64_t velum_port_now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

uint64_t velum_port_unix_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Bytes from the system's device; true if all `n` came. */
static bool random_device(uint8_t *out, size_t n) {
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    size_t got = 0;
    while (got < n) {
        ssize_t r = read(fd, out + got, n - got);
        if (r > 0) {
            got += (size_t)r;
        } else if (r == 0 || errno != EINTR) {
            break;
        }
    }
    close(fd);
    return got == n;
}

void velum_port_yield(void) {
    (void)sched_yield();
}

int velum_port_random(void *out, size_t n) {
    size_t got = 0;
#if defined(__linux__) && defined(SYS_getrandom)
    /* Unlike the device it waits until the system has gathered randomness after booting: boards of
     * one kind would otherwise draw alike. An old kernel without it leaves the device. */
    while (got < n) {
        long r = syscall(SYS_getrandom, (uint8_t *)out + got, n - got, 0);
        if (r > 0) {
            got += (size_t)r;
        } else if (errno != EINTR) {
            break;
        }
    }
#endif
    return random_device((uint8_t *)out + got, n - got) ? VELUM_OK : VELUM_E_SYSTEM;
}

uintptr_t velum_port_stack_address(void) {
    return (uintptr_t)__builtin_frame_address(0);
}

/* ---- helpers ---- */

static int error_of(int system_error) {
    switch (system_error) {
#if EAGAIN != EWOULDBLOCK
    case EWOULDBLOCK:
#endif
    case EAGAIN:
        return VELUM_E_AGAIN;
    case ENOMEM:
        return VELUM_E_NOMEM;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
        return VELUM_E_FULL;
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE:
    case ENOTCONN:
        return VELUM_E_CLOSED;
    case ECONNREFUSED:
        return VELUM_E_REFUSED;
    case ETIMEDOUT:
        return VELUM_E_TIMEOUT;
    case EADDRINUSE:
        return VELUM_E_ADDRESS_IN_USE;
    case EADDRNOTAVAIL:
    case ENETUNREACH:
    case ENETDOWN:
    case EHOSTUNREACH:
    case EHOSTDOWN:
        return VELUM_E_UNREACHABLE;
    case EMSGSIZE:
        return VELUM_E_TOO_LARGE;
    default:
        return VELUM_E_SYSTEM;
    }
}

/* An established stream knows three ends: not now, gone (for whatever reason), or a fault here. */
static int stream_error(int system_error) {
    int err = error_of(system_error);
    switch (err) {
    case VELUM_E_AGAIN:
        return VELUM_E_AGAIN;
    case VELUM_E_CLOSED:
    case VELUM_E_TIMEOUT:
    case VELUM_E_UNREACHABLE:
        return VELUM_E_CLOSED;
    default:
        return VELUM_E_SYSTEM;
    }
}

static struct sockaddr_in to_system(const velum_addr *addr) {
    struct sockaddr_in sa;
    memset(&sa, 0, sizeof sa);
    sa.sin_family = AF_INET;
    sa.sin_port = htons(addr->port);
    sa.sin_addr.s_addr = htonl(addr->ip);
    return sa;
}

static velum_addr from_system(const struct sockaddr_in *sa) {
    return (velum_addr){.ip = ntohl(sa->sin_addr.s_addr), .port = ntohs(sa->sin_port)};
}

static bool set_option(velum_fd fd, int level, int option) {
    int on = 1;
    return setsockopt(fd, level, option, &on, sizeof on) == 0;
}

/* What every descriptor of the port gets: never blocks, closed on exec, fit for the poller. */
static int prepare(velum_fd fd) {
    if (!velum__poller_takes(fd)) {
        return VELUM_E_FULL;
    }
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        return VELUM_E_SYSTEM;
    }
    return VELUM_OK;
}

static int prepare_stream(velum_fd fd) {
    int r = prepare(fd);
    if (r == VELUM_OK) {
        set_option(fd, IPPROTO_TCP, TCP_NODELAY); /* fails on a socketpair, which has no delay */
#ifdef SO_NOSIGPIPE
        set_option(fd, SOL_SOCKET, SO_NOSIGPIPE);
#endif
    }
    return r;
}

/* Closes a descriptor that could not be set up; gives back the reason. */
static int give_up(velum_fd fd, int err) {
    close(fd);
    return err;
}

/* Binds, and writes the bound address back: port 0 has become a real one. */
static int bind_to(velum_fd fd, velum_addr *addr) {
    struct sockaddr_in sa = to_system(addr);
    socklen_t size = sizeof sa;
    if (bind(fd, (const struct sockaddr *)&sa, size) < 0 ||
        getsockname(fd, (struct sockaddr *)&sa, &size) < 0) {
        return error_of(errno);
    }
    addr->port = ntohs(sa.sin_port);
    return VELUM_OK;
}

/* ---- stream sockets ---- */

int velum_port_listen(velum_addr *addr, velum_fd *out) {
    velum_fd fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0) {
        return error_of(errno);
    }
    int r = prepare_stream(fd);
    if (r == VELUM_OK) {
        set_option(fd, SOL_SOCKET, SO_REUSEADDR); /* a restart need not wait for old connections */
        r = bind_to(fd, addr);
    }
    if (r == VELUM_OK && listen(fd, BACKLOG) < 0) {
        r = error_of(errno);
    }
    if (r < 0) {
        return give_up(fd, r);
    }
    *out = fd;
    return VELUM_OK;
}

/* What accept() failed with. A connection that broke while it waited is as good as none: Linux
 * hands out its network error here. */
static int accept_error(int system_error) {
    int err = error_of(system_error);
    switch (err) {
    case VELUM_E_FULL:
    case VELUM_E_NOMEM:
        return VELUM_E_FULL;
    case VELUM_E_CLOSED:
    case VELUM_E_UNREACHABLE:
    case VELUM_E_TIMEOUT:
        return VELUM_E_AGAIN;
    default:
        return system_error == EPROTO ? VELUM_E_AGAIN : err;
    }
}

int velum_port_accept(velum_fd listener, velum_fd *out, velum_addr *from) {
    struct sockaddr_in sa;
    velum_fd fd;
    do {
        socklen_t size = sizeof sa;
        memset(&sa, 0, sizeof sa);
        fd = accept(listener, (struct sockaddr *)&sa, &size);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0) {
        return accept_error(errno);
    }
    int r = prepare_stream(fd);
    if (r < 0) {
        return give_up(fd, r);
    }
    *out = fd;
    *from = from_system(&sa);
    return VELUM_OK;
}

int velum_port_dial(const velum_addr *to, velum_fd *out) {
    velum_fd fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0) {
        return error_of(errno);
    }
    int r = prepare_stream(fd);
    struct sockaddr_in sa = to_system(to);
    /* An interrupted connect goes on by itself. */
    if (r == VELUM_OK && connect(fd, (const struct sockaddr *)&sa, sizeof sa) < 0 &&
        errno != EINPROGRESS && errno != EINTR) {
        r = error_of(errno);
    }
    if (r < 0) {
        return give_up(fd, r);
    }
    *out = fd;
    return VELUM_OK;
}

int velum_port_dial_result(velum_fd fd) {
    int failure = 0;
    socklen_t size = sizeof failure;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &size) < 0) {
        return VELUM_E_SYSTEM;
    }
    if (failure != 0) {
        int err = error_of(failure);
        return err == VELUM_E_CLOSED ? VELUM_E_REFUSED : err;
    }
    struct sockaddr_in peer, self;
    size = sizeof peer;
    if (getpeername(fd, (struct sockaddr *)&peer, &size) < 0) {
        return errno == ENOTCONN ? VELUM_E_AGAIN : VELUM_E_SYSTEM;
    }
    /* A dial to a port of this machine that nobody listens on can be given that very port to dial
     * from, and so reach itself (RFC 9293, 3.5: simultaneous open). */
    size = sizeof self;
    if (getsockname(fd, (struct sockaddr *)&self, &size) == 0 && self.sin_port == peer.sin_port &&
        self.sin_addr.s_addr == peer.sin_addr.s_addr) {
        return VELUM_E_REFUSED;
    }
    return VELUM_OK;
}

/* Results are ints, so no call moves more than that. */
static size_t at_most_int(size_t n) {
    return n < INT_MAX ? n : INT_MAX;
}

int velum_port_recv(velum_fd fd, void *buf, size_t n) {
    ssize_t r;
    do {
        r = recv(fd, buf, at_most_int(n), 0);
    } while (r < 0 && errno == EINTR);
    if (r == 0) {
        return VELUM_E_CLOSED;
    }
    return r > 0 ? (int)r : stream_error(errno);
}

int velum_port_send(velum_fd fd, const void *buf, size_t n) {
    ssize_t r;
    do {
        r = send(fd, buf, at_most_int(n), MSG_NOSIGNAL);
    } while (r < 0 && errno == EINTR);
    return r >= 0 ? (int)r : stream_error(errno);
}

int velum_port_send2(velum_fd fd, const void *a, size_t na, const void *b, size_t nb) {
    if (na >= INT_MAX || nb > INT_MAX - na) {
        return velum_port_send(fd, na > 0 ? a : b, na > 0 ? na : nb);
    }
    /* iov_base is not const, though sendmsg only reads. */
    struct iovec pieces[2] = {{(void *)(uintptr_t)a, na}, {(void *)(uintptr_t)b, nb}};
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = pieces;
    message.msg_iovlen = 2;
    ssize_t r;
    do {
        r = sendmsg(fd, &message, MSG_NOSIGNAL);
    } while (r < 0 && errno == EINTR);
    return r >= 0 ? (int)r : stream_error(errno);
}

int velum_port_adopt(velum_fd fd) {
    return prepare_stream(fd);
}

void velum_port_close(velum_fd fd) {
    if (fd >= 0) {
        close(fd); /* even when interrupted the descriptor is gone */
    }
}

/* ---- datagrams ---- */

int velum_port_udp_open(velum_addr *addr, bool shared, velum_fd *out) {
    velum_fd fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0) {
        return error_of(errno);
    }
    int r = prepare(fd);
    if (r == VELUM_OK && !set_option(fd, SOL_SOCKET, SO_BROADCAST)) {
        r = VELUM_E_SYSTEM;
    }
    if (r == VELUM_OK && shared) {
        set_option(fd, SOL_SOCKET, SO_REUSEADDR);
#if defined(SO_REUSEPORT) && !defined(__linux__)
        set_option(fd, SOL_SOCKET,
                   SO_REUSEPORT); /* the BSDs want both; Linux would spread unicast */
#endif
    }
    if (r == VELUM_OK) {
        r = bind_to(fd, addr);
    }
    if (r < 0) {
        return give_up(fd, r);
    }
    *out = fd;
    return VELUM_OK;
}

/* Some systems report here that an earlier datagram found no receiver, in place of doing what was
 * asked. That report is used up by then: asking again does it. */
static bool about_an_earlier_one(int system_error) {
    return system_error == EINTR || system_error == ECONNREFUSED;
}

int velum_port_udp_send(velum_fd fd, const velum_addr *to, const void *buf, size_t n) {
    struct sockaddr_in sa = to_system(to);
    ssize_t r;
    do {
        r = sendto(fd, buf, at_most_int(n), MSG_NOSIGNAL, (const struct sockaddr *)&sa, sizeof sa);
    } while (r < 0 && about_an_earlier_one(errno));
    if (r < 0) {
        return errno == ENOBUFS ? VELUM_E_AGAIN : error_of(errno);
    }
    return (int)r;
}

int velum_port_udp_recv(velum_fd fd, void *buf, size_t n, velum_addr *from) {
    struct sockaddr_in sa;
    ssize_t r;
    do {
        socklen_t size = sizeof sa;
        memset(&sa, 0, sizeof sa);
        r = recvfrom(fd, buf, at_most_int(n), 0, (struct sockaddr *)&sa, &size);
    } while (r < 0 && about_an_earlier_one(errno));
    if (r < 0) {
        return error_of(errno);
    }
    *from = from_system(&sa);
    return (int)r;
}

/* ---- waking ---- */

/* The pair is a socketpair and not a pipe: writing to a pipe whose reader has gone raises SIGPIPE.
 *
 * A wake-up that nobody has cleared yet makes further ones needless. The pair's ends are all that
 * the callers know, so the flags are found by descriptor; a higher descriptor goes without and
 * writes each time. */
#define GUARDS 1024
static struct {
    char pending;    /* by writer, atomic: a byte lies in the pair, or is about to */
    velum_fd writer; /* by reader: its other end */
} guards[GUARDS];

int velum_port_wake_open(velum_fd *reader, velum_fd *writer) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0) {
        return error_of(errno);
    }
    int r = prepare_stream(ends[0]);
    if (r == VELUM_OK) {
        r = prepare_stream(ends[1]);
    }
    if (r < 0) {
        close(ends[1]);
        return give_up(ends[0], r);
    }
    if (ends[0] < GUARDS) {
        guards[ends[0]].writer = ends[1];
    }
    if (ends[1] < GUARDS) {
        __atomic_store_n(&guards[ends[1]].pending, 0, __ATOMIC_SEQ_CST);
    }
    *reader = ends[0];
    *writer = ends[1];
    return VELUM_OK;
}

void velum_port_wake(velum_fd writer) {
    if (writer < GUARDS && __atomic_exchange_n(&guards[writer].pending, 1, __ATOMIC_SEQ_CST) != 0) {
        return;
    }
    int saved = errno; /* may run in a signal handler */
    const char byte = 0;
    ssize_t r;
    do {
        r = send(writer, &byte, 1, MSG_NOSIGNAL); /* when the pair is full it is readable too */
    } while (r < 0 && errno == EINTR);
    errno = saved;
}

/* First the bytes, then the flag: a wake-up in between writes nothing, and what it announces is
 * seen by the caller, who looks after this returns. The other way round its byte would be eaten
 * with the flag left set, and no later wake-up would ever write. */
void velum_port_wake_clear(velum_fd reader) {
    char bytes[64];
    ssize_t r;
    do {
        r = recv(reader, bytes, sizeof bytes, 0);
    } while (r == (ssize_t)sizeof bytes || (r < 0 && errno == EINTR));
    if (reader < GUARDS && guards[reader].writer < GUARDS) {
        __atomic_exchange_n(&guards[guards[reader].writer].pending, 0, __ATOMIC_SEQ_CST);
    }
}
