/* port_test.c: the deterministic port for tests: see port_test.h for what it offers.
 *
 * Owns: a clock, handles, streams and datagrams, all in memory. Refuses to know: the core above it.
 * How: a table of handles; a stream's end holds the bytes that its reader has not taken yet, a
 * datagram socket the datagrams, a listener the ends that wait to be accepted. Nothing happens on
 * its own: a call changes both sides at once, and planned actions run when the clock passes them.
 */
#include "port_test.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HANDLES_MAX      4096u
#define HANDLE_FIRST     100000 /* handles count up from here and are never used twice */
#define PLANS_MAX        64u
#define WINDOW_DEFAULT   65536u
#define BACKLOG_MAX      512u
#define DATAGRAMS_MAX    256u /* that one socket holds; more are lost */
#define PORT_FIRST       40000u
#define CLOCK_START_US   1000000
#define UNIX_START_MS    1700000000000u
#define LOOPBACK_IP      0x7f000001u
#define BROADCAST_SUFFIX 0xffu

typedef enum { STREAM, LISTENER, DATAGRAM, WAKE_READER, WAKE_WRITER } kind;

/* A queued datagram. */
typedef struct packet {
    struct packet *next;
    velum_addr from;
    size_t size;
    uint8_t bytes[]; /* C99: flexible */
} packet;

typedef struct handle {
    kind kind;
    velum_fd fd;
    bool waiting; /* a stream's end that nobody has accepted yet: not open to anyone */
    velum_addr addr;
    struct handle *other; /* a stream's or a wake pair's other end; NULL when that has closed */

    /* streams */
    velum_test_manner manner;
    uint8_t *bytes; /* what the reader has not taken: bytes[at..end) */
    size_t at, end, cap;
    unsigned recvs, sends;
    int dialling; /* 0: connected; AGAIN: never will be; or how the dial failed */
    int cut;      /* the error of every further call, or 0 */

    /* listeners: ends that wait */
    struct handle *backlog[BACKLOG_MAX];
    size_t backlog_count;

    /* datagram sockets */
    packet *first, **last_next;
    size_t packets;

    bool woken; /* wake readers */
} handle;

typedef struct {
    int64_t at_us;
    void (*action)(void *user);
    void *user;
} plan;

static struct {
    handle *handles[HANDLES_MAX];
    size_t used; /* no slot from here on was ever used */
    velum_fd next_fd;
    size_t limit;
    size_t misuse;
    uint16_t next_port;
    int64_t now_us;
    uint64_t random;
    plan plans[PLANS_MAX]; /* in the order in which they were made */
    size_t plan_count;
    velum_test_manner manner;
    int next_dial;
    unsigned lose_percent;
} world;

/* ---- helpers ---- */

static void *allocate(size_t n) {
    void *p = calloc(1, n);
    if (p == NULL) {
        fprintf(stderr, "port_test: out of memory\n");
        abort();
    }
    return p;
}

/* splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014. */
static uint64_t random_u64(void) {
    uint64_t z = world.random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* The open handle of that number and kind; NULL, and counted, if there is none. */
static handle *find(velum_fd fd, kind k) {
    for (size_t i = 0; i < world.used; i++) {
        handle *h = world.handles[i];
        if (h != NULL && h->fd == fd && h->kind == k && !h->waiting) {
            return h;
        }
    }
    world.misuse++;
    return NULL;
}

static handle *create(kind k) {
    size_t i = 0;
    while (i < HANDLES_MAX && world.handles[i] != NULL) {
        i++;
    }
    if (i == HANDLES_MAX) {
        fprintf(stderr, "port_test: too many handles\n");
        abort();
    }
    handle *h = allocate(sizeof *h);
    world.handles[i] = h;
    world.used = i < world.used ? world.used : i + 1;
    h->kind = k;
    h->fd = world.next_fd;
    h->manner = world.manner;
    h->last_next = &h->first;
    world.next_fd += 7;
    return h;
}

static void connect_ends(handle *a, handle *b) {
    a->other = b;
    b->other = a;
}

static bool has_room(size_t handles) {
    return velum_test_open() + handles <= world.limit;
}

/* Frees a handle; the other end of a stream sees an orderly end. */
static void destroy(handle *h) {
    for (size_t i = 0; i < world.used; i++) {
        if (world.handles[i] == h) {
            world.handles[i] = NULL;
        }
        if (world.handles[i] != NULL && world.handles[i]->other == h) {
            world.handles[i]->other = NULL;
        }
    }
    for (size_t i = 0; i < h->backlog_count; i++) {
        handle *dialler = h->backlog[i]->other;
        if (dialler != NULL) {
            dialler->cut = VELUM_E_CLOSED;
        }
        destroy(h->backlog[i]);
    }
    while (h->first != NULL) {
        packet *p = h->first;
        h->first = p->next;
        free(p);
    }
    free(h->bytes);
    free(h);
}

/* ---- controls ---- */

void velum_test_reset(uint64_t seed) {
    for (size_t i = 0; i < world.used; i++) {
        /* A listener takes the ends that wait on it along, so look again each time. */
        if (world.handles[i] != NULL && !world.handles[i]->waiting) {
            destroy(world.handles[i]);
        }
    }
    memset(&world, 0, sizeof world);
    world.next_fd = HANDLE_FIRST;
    world.limit = HANDLES_MAX;
    world.next_port = PORT_FIRST;
    world.now_us = CLOCK_START_US;
    world.random = seed;
}

/* The plan that is due first, by time and then by age; PLANS_MAX if there is none. */
static size_t first_plan(void) {
    size_t first = PLANS_MAX;
    for (size_t i = 0; i < world.plan_count; i++) {
        if (first == PLANS_MAX || world.plans[i].at_us < world.plans[first].at_us) {
            first = i;
        }
    }
    return first;
}

/* Moves the clock to the first plan up to `until_us` and runs it; false if there is none. */
static bool run_plan(int64_t until_us) {
    size_t i = first_plan();
    if (i == PLANS_MAX || world.plans[i].at_us > until_us) {
        return false;
    }
    plan p = world.plans[i];
    world.plan_count--;
    memmove(&world.plans[i], &world.plans[i + 1], (world.plan_count - i) * sizeof p);
    if (p.at_us > world.now_us) {
        world.now_us = p.at_us;
    }
    p.action(p.user);
    return true;
}

void velum_test_advance(int64_t us) {
    int64_t until_us = world.now_us + us;
    while (run_plan(until_us)) {
    }
    if (until_us > world.now_us) {
        world.now_us = until_us;
    }
}

void velum_test_at(int64_t at_us, void (*action)(void *user), void *user) {
    if (world.plan_count == PLANS_MAX) {
        fprintf(stderr, "port_test: too many plans\n");
        abort();
    }
    world.plans[world.plan_count++] = (plan){.at_us = at_us, .action = action, .user = user};
}

void velum_test_set_manner(velum_fd fd, const velum_test_manner *manner) {
    handle *h = find(fd, STREAM);
    if (h != NULL) {
        h->manner = *manner;
    }
}

void velum_test_set_default_manner(const velum_test_manner *manner) {
    world.manner = *manner;
}

void velum_test_pair(velum_fd ends[2]) {
    handle *a = create(STREAM);
    handle *b = create(STREAM);
    connect_ends(a, b);
    ends[0] = a->fd;
    ends[1] = b->fd;
}

static void cut_end(handle *h, int err) {
    h->cut = err;
    h->at = 0;
    h->end = 0;
}

void velum_test_cut(velum_fd fd, int err) {
    handle *h = find(fd, STREAM);
    if (h == NULL) {
        return;
    }
    cut_end(h, err);
    if (h->other != NULL) {
        cut_end(h->other, err);
    }
}

void velum_test_next_dial(int err) {
    world.next_dial = err;
}

void velum_test_lose(unsigned percent) {
    world.lose_percent = percent;
}

void velum_test_set_limit(size_t handles) {
    world.limit = handles == 0 ? HANDLES_MAX : handles;
}

size_t velum_test_open(void) {
    size_t n = 0;
    for (size_t i = 0; i < world.used; i++) {
        n += world.handles[i] != NULL && !world.handles[i]->waiting;
    }
    return n;
}

size_t velum_test_misuse(void) {
    return world.misuse;
}

size_t velum_test_pending(velum_fd fd) {
    handle *h = find(fd, STREAM);
    return h == NULL ? 0 : h->end - h->at;
}

/* ---- the port: clocks, randomness, stack ---- */

int64_t velum_port_now_us(void) {
    return world.now_us;
}

uint64_t velum_port_unix_ms(void) {
    return UNIX_START_MS + (uint64_t)world.now_us / 1000;
}

void velum_port_yield(void) {
}

void *velum_port_pages(size_t n) {
    return malloc(n);
}

void velum_port_pages_free(void *memory, size_t n) {
    (void)n;
    free(memory);
}

void velum_port_will_fill(void *memory, size_t n) {
    (void)memory, (void)n;
}

int velum_port_random(void *out, size_t n) {
    uint8_t *bytes = out;
    for (size_t i = 0; i < n; i++) {
        bytes[i] = (uint8_t)(random_u64() >> 56);
    }
    return VELUM_OK;
}

uintptr_t velum_port_stack_address(void) {
    return (uintptr_t)__builtin_frame_address(0);
}

/* ---- the port: streams ---- */

/* Finds a handle bound to `addr`: exactly, or to any ip with its port. NULL if there is none. */
static handle *bound(kind k, const velum_addr *addr) {
    for (size_t i = 0; i < world.used; i++) {
        handle *h = world.handles[i];
        if (h != NULL && h->kind == k && h->addr.port == addr->port &&
            (h->addr.ip == addr->ip || h->addr.ip == 0 || addr->ip == 0)) {
            return h;
        }
    }
    return NULL;
}

/* Chooses a port if none is asked for. */
static int bind_to(velum_addr *addr, kind k, bool shared) {
    while (addr->port == 0) {
        addr->port = world.next_port++;
        addr->port = bound(k, addr) == NULL ? addr->port : 0;
    }
    return !shared && bound(k, addr) != NULL ? VELUM_E_ADDRESS_IN_USE : VELUM_OK;
}

int velum_port_listen(velum_addr *addr, velum_fd *out) {
    int r = bind_to(addr, LISTENER, false);
    if (r < 0) {
        return r;
    }
    if (!has_room(1)) {
        return VELUM_E_FULL;
    }
    handle *h = create(LISTENER);
    h->addr = *addr;
    *out = h->fd;
    return VELUM_OK;
}

int velum_port_accept(velum_fd listener, velum_fd *out, velum_addr *from) {
    handle *h = find(listener, LISTENER);
    if (h == NULL) {
        return VELUM_E_SYSTEM;
    }
    if (h->backlog_count == 0) {
        return VELUM_E_AGAIN;
    }
    if (!has_room(1)) {
        return VELUM_E_FULL;
    }
    handle *end = h->backlog[0];
    h->backlog_count--;
    memmove(h->backlog, h->backlog + 1, h->backlog_count * sizeof h->backlog[0]);
    end->waiting = false;
    *out = end->fd;
    *from = end->addr;
    return VELUM_OK;
}

int velum_port_dial(const velum_addr *to, velum_fd *out) {
    if (!has_room(1)) {
        return VELUM_E_FULL;
    }
    handle *h = create(STREAM);
    h->addr = (velum_addr){.ip = LOOPBACK_IP, .port = world.next_port++};
    h->dialling = world.next_dial;
    world.next_dial = VELUM_OK;
    *out = h->fd;
    if (h->dialling != VELUM_OK) {
        return VELUM_OK;
    }
    handle *listener = bound(LISTENER, to);
    if (listener == NULL || listener->backlog_count == BACKLOG_MAX) {
        h->dialling = listener == NULL ? VELUM_E_REFUSED : VELUM_E_AGAIN;
        return VELUM_OK;
    }
    handle *end = create(STREAM);
    end->waiting = true;
    end->addr = h->addr;
    connect_ends(h, end);
    listener->backlog[listener->backlog_count++] = end;
    return VELUM_OK;
}

int velum_port_dial_result(velum_fd fd) {
    handle *h = find(fd, STREAM);
    return h == NULL ? VELUM_E_SYSTEM : h->dialling;
}

/* How many of `n` bytes this call moves: as the manner says, 0 for AGAIN. */
static size_t portion(const velum_test_manner *m, size_t n, size_t max, unsigned *calls) {
    *calls += 1;
    if (n == 0 || (m->again_every != 0 && *calls % m->again_every == 0)) {
        return 0;
    }
    if (max != 0 && n > max) {
        n = max;
    }
    return m->random ? 1 + (size_t)(random_u64() % n) : n;
}

/* The error that keeps a stream from being used, or 0. */
static int stream_fault(const handle *h) {
    if (h == NULL) {
        return VELUM_E_SYSTEM;
    }
    if (h->dialling != VELUM_OK) {
        return h->dialling == VELUM_E_AGAIN ? VELUM_E_AGAIN : VELUM_E_CLOSED;
    }
    return h->cut;
}

int velum_port_recv(velum_fd fd, void *buf, size_t n) {
    handle *h = find(fd, STREAM);
    int fault = stream_fault(h);
    if (fault < 0) {
        return fault;
    }
    size_t have = h->end - h->at;
    if (have == 0 && h->other == NULL) {
        return VELUM_E_CLOSED;
    }
    size_t moved = portion(&h->manner, have < n ? have : n, h->manner.recv_max, &h->recvs);
    if (moved == 0) {
        return VELUM_E_AGAIN;
    }
    memcpy(buf, h->bytes + h->at, moved);
    h->at += moved;
    return (int)moved;
}

/* Bytes that an end can still take in for its reader. */
static size_t room_of(const handle *h) {
    size_t window = h->manner.window == 0 ? WINDOW_DEFAULT : h->manner.window;
    size_t held = h->end - h->at;
    return held < window ? window - held : 0;
}

static void take_in(handle *h, const uint8_t *data, size_t n) {
    if (n == 0) {
        return;
    }
    size_t held = h->end - h->at;
    if (h->end + n > h->cap) {
        uint8_t *fresh = allocate(2 * (held + n));
        if (held > 0) {
            memcpy(fresh, h->bytes + h->at, held);
        }
        free(h->bytes);
        h->bytes = fresh;
        h->cap = 2 * (held + n);
        h->at = 0;
        h->end = held;
    }
    memcpy(h->bytes + h->end, data, n);
    h->end += n;
}

int velum_port_send(velum_fd fd, const void *buf, size_t n) {
    return velum_port_send2(fd, buf, n, NULL, 0);
}

int velum_port_send2(velum_fd fd, const void *a, size_t na, const void *b, size_t nb) {
    handle *h = find(fd, STREAM);
    int fault = stream_fault(h);
    if (fault < 0) {
        return fault;
    }
    if (h->other == NULL) {
        return VELUM_E_CLOSED;
    }
    size_t room = room_of(h->other);
    size_t n = na + nb < room ? na + nb : room;
    size_t moved = portion(&h->manner, n, h->manner.send_max, &h->sends);
    if (moved == 0) {
        return VELUM_E_AGAIN;
    }
    size_t from_a = moved < na ? moved : na;
    take_in(h->other, a, from_a);
    take_in(h->other, b, moved - from_a);
    return (int)moved;
}

int velum_port_adopt(velum_fd fd) {
    return find(fd, STREAM) == NULL ? VELUM_E_SYSTEM : VELUM_OK;
}

void velum_port_close(velum_fd fd) {
    if (fd < 0) {
        return;
    }
    for (size_t i = 0; i < world.used; i++) {
        handle *h = world.handles[i];
        if (h != NULL && h->fd == fd && !h->waiting) {
            destroy(h);
            return;
        }
    }
    world.misuse++;
}

/* ---- the port: datagrams ---- */

int velum_port_udp_open(velum_addr *addr, bool shared, velum_fd *out) {
    int r = bind_to(addr, DATAGRAM, shared);
    if (r < 0) {
        return r;
    }
    if (!has_room(1)) {
        return VELUM_E_FULL;
    }
    handle *h = create(DATAGRAM);
    h->addr = *addr;
    *out = h->fd;
    return VELUM_OK;
}

static void deliver(handle *h, const velum_addr *from, const void *buf, size_t n) {
    if (h->packets == DATAGRAMS_MAX) {
        return;
    }
    packet *p = allocate(sizeof *p + n);
    p->from = *from;
    p->size = n;
    if (n > 0) {
        memcpy(p->bytes, buf, n);
    }
    *h->last_next = p;
    h->last_next = &p->next;
    h->packets++;
}

int velum_port_udp_send(velum_fd fd, const velum_addr *to, const void *buf, size_t n) {
    handle *sender = find(fd, DATAGRAM);
    if (sender == NULL) {
        return VELUM_E_SYSTEM;
    }
    if (random_u64() % 100 < world.lose_percent) {
        return (int)n;
    }
    velum_addr from = sender->addr;
    if (from.ip == 0) {
        from.ip = LOOPBACK_IP;
    }
    bool broadcast = (to->ip & 0xffu) == BROADCAST_SUFFIX;
    for (size_t i = 0; i < world.used; i++) {
        handle *h = world.handles[i];
        if (h != NULL && h->kind == DATAGRAM && h->addr.port == to->port &&
            (h->addr.ip == to->ip || h->addr.ip == 0)) {
            deliver(h, &from, buf, n);
            if (!broadcast) {
                break;
            }
        }
    }
    return (int)n;
}

int velum_port_udp_recv(velum_fd fd, void *buf, size_t n, velum_addr *from) {
    handle *h = find(fd, DATAGRAM);
    if (h == NULL) {
        return VELUM_E_SYSTEM;
    }
    packet *p = h->first;
    if (p == NULL) {
        return VELUM_E_AGAIN;
    }
    h->first = p->next;
    if (h->first == NULL) {
        h->last_next = &h->first;
    }
    h->packets--;
    size_t moved = p->size < n ? p->size : n;
    memcpy(buf, p->bytes, moved);
    *from = p->from;
    free(p);
    return (int)moved;
}

/* ---- the port: waking ---- */

int velum_port_wake_open(velum_fd *reader, velum_fd *writer) {
    if (!has_room(2)) {
        return VELUM_E_FULL;
    }
    handle *r = create(WAKE_READER);
    handle *w = create(WAKE_WRITER);
    connect_ends(r, w);
    *reader = r->fd;
    *writer = w->fd;
    return VELUM_OK;
}

void velum_port_wake(velum_fd writer) {
    handle *h = find(writer, WAKE_WRITER);
    if (h != NULL && h->other != NULL) {
        h->other->woken = true;
    }
}

void velum_port_wake_clear(velum_fd reader) {
    handle *h = find(reader, WAKE_READER);
    if (h != NULL) {
        h->woken = false;
    }
}

/* ---- the port: the poller ---- */

static uint8_t stream_ready(const handle *h) {
    if (h->dialling == VELUM_E_AGAIN) {
        return 0;
    }
    if (h->dialling != VELUM_OK || h->cut != 0 || h->other == NULL) {
        return VELUM_READABLE | VELUM_WRITABLE; /* the next call tells */
    }
    uint8_t ready = h->end > h->at ? VELUM_READABLE : 0;
    return ready | (room_of(h->other) > 0 ? VELUM_WRITABLE : 0);
}

static uint8_t ready_now(velum_fd fd) {
    for (size_t i = 0; i < world.used; i++) {
        const handle *h = world.handles[i];
        if (h == NULL || h->fd != fd || h->waiting) {
            continue;
        }
        switch (h->kind) {
        case STREAM:
            return stream_ready(h);
        case LISTENER:
            return h->backlog_count > 0 ? VELUM_READABLE : 0;
        case DATAGRAM:
            return VELUM_WRITABLE | (h->first != NULL ? VELUM_READABLE : 0);
        case WAKE_READER:
            return h->woken ? VELUM_READABLE : 0;
        case WAKE_WRITER:
            return VELUM_WRITABLE;
        }
    }
    world.misuse++;
    return 0;
}

static int look(velum_port_poll *polls, size_t n) {
    int count = 0;
    for (size_t i = 0; i < n; i++) {
        velum_port_poll *p = &polls[i];
        p->ready = p->fd < 0 || p->want == 0 ? 0 : ready_now(p->fd) & p->want;
        count += p->ready != 0;
    }
    return count;
}

int velum_port_wait(velum_port_poll *polls, size_t n, int64_t timeout_us) {
    int64_t until_us = timeout_us < 0 ? INT64_MAX : world.now_us + timeout_us;
    int ready = look(polls, n);
    if (ready > 0 || timeout_us == 0) {
        return ready;
    }
    while (run_plan(until_us)) {
        ready = look(polls, n);
        if (ready > 0) {
            return ready;
        }
    }
    if (timeout_us < 0) {
        return VELUM_E_SYSTEM;
    }
    if (until_us > world.now_us) {
        world.now_us = until_us;
    }
    return 0;
}
