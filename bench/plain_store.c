/* plain_store.c: the machine's limit for files in RAM: a store in plain C over TCP.
 *
 * Owns the least that a store can do: bytes go from touched memory into a socket, and out of it
 * into touched memory that is used again; nothing is named, hashed, checked or copied beside that.
 * Built with -DHASHING it does one thing more: each MiB is hashed with BLAKE3 before it is sent in
 * a put, and again as it comes, in a put and in a get. That is the limit of a store that names
 * chunks by their hash and believes nobody. Built and run by storage_plain.py. CONTROL is a TCP
 * congestion control, or "default".
 *
 *   plain_store serve CONTROL BYTES
 *     Prints its port; serves one connection after the other out of so many bytes, until it is
 *     killed.
 *   plain_store client CONTROL BYTES PORT...
 *     Prints the control in use; then takes lines from its standard input, and answers each with
 *     the seconds that it took (of `check`, with `equal` or `different`):
 *       put COUNT SIZE WINDOW    values of that size, to all the servers at once; WINDOW of them
 *                                are sent before their acknowledgements are awaited
 *       get COUNT SIZE WINDOW    the same back, from the servers in turn
 *       check COUNT SIZE WINDOW  get, and compare with what was put
 *   plain_store link CONTROL BYTES ROUNDS one|both
 *     One process sends another so many bytes, or both do at once; prints the seconds of each
 * round.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifdef HASHING
#include "blake3.h"
#endif

enum { PART_BYTES = 1 << 16 }; /* hashed while it is in a cache */
enum { PUT = 1, GET = 2, ACK_BYTES = 20, SERVERS_MAX = 16, PIECE_BYTES = 1 << 20 };

typedef struct {
    uint64_t op, offset, size;
} request; /* travels as it lies in memory: both ends are one program on one machine */

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The word that belongs at index `i` of what is put. */
static uint64_t pattern(uint64_t i) {
    return (i + 1) * 0x9e3779b97f4a7c15u;
}

/* Memory whose pages are all there, whole words of the pattern. */
static char *touched(size_t bytes) {
    size_t words = bytes / sizeof(uint64_t) + 1;
    uint64_t *memory = malloc(words * sizeof(uint64_t));
    if (memory == NULL) fail("malloc");
    for (size_t i = 0; i < words; i++)
        memory[i] = pattern(i);
    return (char *)memory;
}

static void send_whole(int fd, const void *bytes, size_t size) {
    for (const char *at = bytes; size > 0;) {
        ssize_t n = send(fd, at, size, MSG_NOSIGNAL);
        if (n <= 0) fail("send");
        at += n, size -= (size_t)n;
    }
}

/* Whether it all came: false when the peer closed. */
static int receive_whole(int fd, void *bytes, size_t size) {
    for (char *at = bytes; size > 0;) {
        ssize_t n = recv(fd, at, size, 0);
        if (n <= 0) return 0;
        at += n, size -= (size_t)n;
    }
    return 1;
}

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

#ifdef HASHING

static volatile uint8_t hashed; /* so that no hash is made in vain */

static void note_hash(blake3_hasher *hasher) {
    uint8_t key[BLAKE3_OUT_LEN];
    blake3_hasher_finalize(hasher, key, sizeof(key));
    hashed ^= key[0];
}

static void send_put(int fd, const request *r, const char *value) {
    if (send(fd, r, sizeof(*r), MSG_NOSIGNAL | MSG_MORE) < (ssize_t)sizeof(*r)) fail("send");
    for (size_t at = 0; at < r->size; at += PIECE_BYTES) {
        size_t n = least(r->size - at, PIECE_BYTES);
        blake3_hasher hasher;
        blake3_hasher_init(&hasher);
        blake3_hasher_update(&hasher, value + at, n);
        note_hash(&hasher);
        send_whole(fd, value + at, n);
    }
}

static int receive_value(int fd, char *value, size_t size) {
    blake3_hasher hasher;
    for (size_t at = 0; at < size; at += PART_BYTES) {
        size_t n = least(size - at, PART_BYTES);
        if (at % PIECE_BYTES == 0) blake3_hasher_init(&hasher);
        if (!receive_whole(fd, value + at, n)) return 0;
        blake3_hasher_update(&hasher, value + at, n);
        if ((at + n) % PIECE_BYTES == 0 || at + n == size) note_hash(&hasher);
    }
    return 1;
}

#else

static void send_put(int fd, const request *r, const char *value) {
    struct iovec parts[2] = {{(void *)r, sizeof(*r)}, {(void *)value, r->size}};
    struct msghdr m = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t n = sendmsg(fd, &m, MSG_NOSIGNAL);
    if (n < (ssize_t)sizeof(*r)) fail("sendmsg");
    size_t gone = (size_t)n - sizeof(*r);
    send_whole(fd, value + gone, r->size - gone);
}

static int receive_value(int fd, char *value, size_t size) {
    return receive_whole(fd, value, size);
}

#endif

/* ---- sockets ---- */

static struct sockaddr_in loopback(uint16_t port) {
    struct sockaddr_in address;
    memset(&address, 0, sizeof(address));
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static int stream(const char *control) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (fd < 0) fail("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    socklen_t length = (socklen_t)strlen(control);
    if (strcmp(control, "default") != 0 &&
        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, control, length) < 0)
        fail(control);
    return fd;
}

/* What is accepted has the listener's congestion control and TCP_NODELAY. */
static int listening(const char *control, uint16_t *port) {
    int fd = stream(control);
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof(address);
    if (bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, 4) < 0) fail("listen");
    getsockname(fd, (struct sockaddr *)&address, &size);
    *port = ntohs(address.sin_port);
    return fd;
}

static int connected(const char *control, uint16_t port) {
    int fd = stream(control);
    struct sockaddr_in address = loopback(port);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) fail("connect");
    return fd;
}

/* ---- the server ---- */

static void serve_one(int fd, char *memory, size_t bytes) {
    static const char ack[ACK_BYTES];
    request r;
    while (receive_whole(fd, &r, sizeof(r)) && r.size <= bytes && r.offset <= bytes - r.size) {
        char *value = memory + r.offset;
        if (r.op == GET) {
            send_whole(fd, value, r.size);
        } else {
            if (!receive_value(fd, value, r.size)) break;
            send_whole(fd, ack, sizeof(ack));
        }
    }
    close(fd);
}

static void serve(const char *control, size_t bytes) {
    uint16_t port;
    int listener = listening(control, &port);
    char *memory = touched(bytes);
    printf("%u\n", (unsigned)port);
    fflush(stdout);
    for (;;)
        serve_one(accept(listener, NULL, NULL), memory, bytes);
}

/* ---- the client ---- */

typedef struct {
    int fds[SERVERS_MAX], servers;
    char *memory;
    size_t bytes;
} client;

static void put_window(client *c, uint64_t first, uint64_t end, uint64_t size) {
    char acks[ACK_BYTES];
    for (uint64_t i = first; i < end; i++) {
        request r = {PUT, i * size, size};
        for (int s = 0; s < c->servers; s++)
            send_put(c->fds[s], &r, c->memory + r.offset);
    }
    for (uint64_t i = first; i < end; i++)
        for (int s = 0; s < c->servers; s++)
            if (!receive_whole(c->fds[s], acks, sizeof(acks))) fail("acknowledgement");
}

static void get_window(client *c, uint64_t first, uint64_t end, uint64_t size) {
    for (uint64_t i = first; i < end; i++) {
        request r = {GET, i * size, size};
        send_whole(c->fds[i % (uint64_t)c->servers], &r, sizeof(r));
    }
    for (uint64_t i = first; i < end; i++)
        if (!receive_value(c->fds[i % (uint64_t)c->servers], c->memory + i * size, size))
            fail("value");
}

static double run(client *c, int op, uint64_t count, uint64_t size, uint64_t window) {
    double began = now_s();
    for (uint64_t first = 0; first < count; first += window) {
        uint64_t end = first + window < count ? first + window : count;
        (op == PUT ? put_window : get_window)(c, first, end, size);
    }
    return now_s() - began;
}

static int is_pattern(const char *memory, size_t bytes) {
    for (size_t i = 0; i < bytes / sizeof(uint64_t); i++) {
        uint64_t word;
        memcpy(&word, memory + i * sizeof(word), sizeof(word));
        if (word != pattern(i)) return 0;
    }
    return 1;
}

static int drive(client *c) {
    char word[8];
    unsigned long long count, size, window;
    while (scanf("%7s %llu %llu %llu", word, &count, &size, &window) == 4) {
        if (size == 0 || window == 0 || count > c->bytes / size) return 1;
        if (strcmp(word, "check") == 0) {
            memset(c->memory, 0, count * size);
            run(c, GET, count, size, window);
            puts(is_pattern(c->memory, count * size) ? "equal" : "different");
        } else {
            printf("%.9f\n", run(c, strcmp(word, "put") == 0 ? PUT : GET, count, size, window));
        }
        fflush(stdout);
    }
    return 0;
}

static int be_client(const char *control, size_t bytes, int ports, char **port) {
    client c = {.servers = ports, .memory = touched(bytes), .bytes = bytes};
    char used[32] = "";
    socklen_t length = sizeof(used) - 1;
    if (ports > SERVERS_MAX) return 1;
    for (int s = 0; s < ports; s++)
        c.fds[s] = connected(control, (uint16_t)atoi(port[s]));
    getsockopt(c.fds[0], IPPROTO_TCP, TCP_CONGESTION, used, &length);
    puts(used);
    fflush(stdout);
    return drive(&c);
}

/* ---- a link between two processes ---- */

/* What a call on a socket that does not block has moved. */
static size_t moved(ssize_t n) {
    if (n == 0 || (n < 0 && errno != EAGAIN)) fail("exchange");
    return n > 0 ? (size_t)n : 0;
}

/* Sends and receives so many bytes, whichever is possible. */
static void exchange(int fd, char *out, size_t leaving, char *in, size_t coming) {
    for (size_t sent = 0, got = 0; sent < leaving || got < coming;) {
        struct pollfd p = {fd, 0, 0};
        p.events = (short)((sent < leaving ? POLLOUT : 0) | (got < coming ? POLLIN : 0));
        if (poll(&p, 1, -1) < 0) fail("poll");
        if (sent < leaving)
            sent += moved(send(fd, out + sent, least(leaving - sent, PIECE_BYTES), MSG_NOSIGNAL));
        if (got < coming) got += moved(recv(fd, in + got, least(coming - got, PIECE_BYTES), 0));
    }
}

static int measure_link(const char *control, size_t bytes, int rounds, int both) {
    uint16_t port;
    int listener = listening(control, &port);
    pid_t child = fork();
    int fd = child == 0 ? connected(control, port) : accept(listener, NULL, NULL);
    char *out = touched(bytes), *in = touched(bytes), ready = 0;
    for (int i = 0; i < rounds; i++) {
        send_whole(fd, &ready, 1);
        if (!receive_whole(fd, &ready, 1)) fail("peer");
        fcntl(fd, F_SETFL, O_NONBLOCK);
        double began = now_s();
        exchange(fd, out, child == 0 || both ? bytes : 0, in, child != 0 || both ? bytes : 0);
        if (child != 0) printf("%.9f\n", now_s() - began);
        fcntl(fd, F_SETFL, 0);
    }
    if (child == 0) _exit(0);
    waitpid(child, NULL, 0);
    return 0;
}

int main(int count, char **words) {
    size_t bytes = count > 3 ? (size_t)strtoull(words[3], NULL, 10) : 0;
    if (count == 4 && strcmp(words[1], "serve") == 0) serve(words[2], bytes);
    if (count > 4 && strcmp(words[1], "client") == 0)
        return be_client(words[2], bytes, count - 4, words + 4);
    if (count == 6 && strcmp(words[1], "link") == 0)
        return measure_link(words[2], bytes, atoi(words[4]), strcmp(words[5], "both") == 0);
    fprintf(stderr, "usage: plain_store serve|client|link CONTROL BYTES ...\n");
    return 2;
}
