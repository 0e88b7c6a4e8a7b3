/* kv_server_world.h: a server on the test port, with a log on its disk, and clients of it.
 *
 * A client says inline commands; what comes is compared as text (resp_show.h), a reply a line, and
 * "closed" at its end. Peers are numbers of the test's.
 */
#ifndef VELUM_TEST_KV_SERVER_WORLD_H
#define VELUM_TEST_KV_SERVER_WORLD_H

#include "check.h"
#include "kv_server.h"
#include "port/test/file_test.h"
#include "port/test/port_test.h"
#include "resp_show.h"

#define NOW_MS      UINT64_C(1700000000000)
#define SECOND_US   INT64_C(1000000)
#define COME_BYTES  (32u * 1024u * 1024u) /* of one look */
#define CONNECTIONS 6u

typedef struct {
    velum_loop *loop;
    velum_kv_state *state;
    velum_kv_watches *watches;
    velum_kv_server *server;
    velum_kv_hooks hooks;
    velum_addr addr;
    uint64_t now_ms;
    uint64_t written, asked;          /* records; the last one that peers were asked for */
    uint64_t heard[4];                /* of each peer */
    size_t peers, members, compacted; /* of `heard` so many count */
    char published[256];
} world;

typedef struct {
    velum_fd fd;
    bool closed;
} client;

static inline void world_writes(void *owner, const velum_kv_record *record) {
    velum_kv_watches_writes(((world *)owner)->watches, record);
}

static inline void world_wrote(void *owner, const velum_kv_record *record, bool own) {
    world *w = owner;
    w->written += own;
    velum_kv_watches_wrote(w->watches, record);
}

static inline uint64_t world_ms(void *owner) {
    return ((const world *)owner)->now_ms;
}

static inline int world_compact(void *owner) {
    return ((world *)owner)->compacted++ == 0 ? VELUM_OK : VELUM_E_BUSY;
}

static inline size_t world_figures(void *owner, velum_kv_figure *out) {
    out[0] = (velum_kv_figure){"peers", ((const world *)owner)->peers};
    return 1;
}

static inline void world_publish(void *owner, velum_kv_bytes channel, velum_kv_bytes message) {
    world *w = owner;
    snprintf(w->published, sizeof w->published, "%.*s: %.*s", (int)channel.size,
             (const char *)channel.data, (int)message.size, (const char *)message.data);
}

static inline uint64_t world_written(void *owner) {
    return ((const world *)owner)->written;
}

static inline void world_ask(void *owner, uint64_t written) {
    ((world *)owner)->asked = written;
}

static inline size_t world_heard(void *owner, uint64_t written) {
    const world *w = owner;
    size_t count = 0;
    for (size_t i = 0; i < w->peers; i++)
        count += w->heard[i] >= written;
    return count;
}

static inline size_t world_members(void *owner) {
    return ((const world *)owner)->members;
}

static inline world *open_world(velum_kv_durability durability) {
    world *w = calloc(1, sizeof *w);
    velum_kv_found found;
    if (w == NULL) abort();
    velum_test_reset(1);
    velum_test_disk_reset();
    w->now_ms = NOW_MS;
    w->members = 1;
    w->hooks = (velum_kv_hooks){.owner = w,
                                .compact = world_compact,
                                .figures = world_figures,
                                .publish = world_publish,
                                .written = world_written,
                                .ask = world_ask,
                                .heard = world_heard,
                                .members = world_members};
    velum_kv_config state = {.node = 7,
                             .room_bytes = 64u << 20,
                             .waker = VELUM_NO_FD,
                             .owner = w,
                             .writes = world_writes,
                             .wrote = world_wrote,
                             .unix_ms = world_ms};
    CHECK_EQ(velum_loop_open(&w->loop, CONNECTIONS + 1, 1), 0);
    CHECK_EQ(velum_kv_state_open(&w->state, &state, durability == 0 ? NULL : "state.log", &found),
             0);
    CHECK_EQ(velum_kv_watches_open(&w->watches, w->state, 1), 0);
    velum_kv_server_config config = {.loop = w->loop,
                                     .state = w->state,
                                     .watches = w->watches,
                                     .hooks = &w->hooks,
                                     .durability = durability,
                                     .connections_max = CONNECTIONS};
    w->addr = (velum_addr){.ip = 0x7f000001};
    CHECK_EQ(velum_kv_server_open(&w->server, &config, &w->addr), 0);
    return w;
}

static inline void run(world *w) {
    for (int rounds = 0; rounds < 20000; rounds++) {
        int ran = velum_loop_tick(w->loop, 0);
        CHECK(ran >= 0);
        if (!velum_kv_server_flush(w->server) && ran == 0) return;
    }
    CHECK(!"the server comes to rest");
}

/* The clocks go on; both of them. */
static inline void pass(world *w, int64_t us) {
    velum_test_advance(us);
    w->now_ms += (uint64_t)(us / 1000);
    run(w);
}

static inline client dial(world *w) {
    client c = {.closed = false};
    CHECK_EQ(velum_port_dial(&w->addr, &c.fd), 0);
    run(w);
    return c;
}

static inline void hang_up(world *w, client *c) {
    velum_port_close(c->fd);
    run(w);
}

static inline void close_world(world *w) {
    velum_kv_server_close(w->server);
    velum_kv_watches_close(w->watches);
    velum_kv_state_close(w->state);
    velum_loop_close(w->loop);
    CHECK_EQ(velum_test_open(), 0);
    CHECK_EQ(velum_test_misuse(), 0);
    CHECK_EQ(velum_test_disk_open(), 0);
    free(w);
}

/* Sends all of it; the server runs where it is slow to take it. */
static inline void say_bytes(world *w, client *c, const void *data, size_t n) {
    for (size_t at = 0; at < n;) {
        int r = velum_port_send(c->fd, (const uint8_t *)data + at, n - at);
        if (r > 0) at += (size_t)r;
        if (r < 0 && r != VELUM_E_AGAIN) return;
        if (at < n) run(w);
    }
    run(w);
}

static inline void say(world *w, client *c, const char *line) {
    say_bytes(w, c, line, strlen(line));
}

/* What has come, in memory that the next look overwrites. */
static inline size_t come(world *w, client *c, uint8_t **data) {
    static uint8_t bytes[COME_BYTES];
    size_t size = 0;
    run(w);
    for (int idle = 0; idle < 3 && !c->closed && size < sizeof bytes;) {
        int r = velum_port_recv(c->fd, bytes + size, sizeof bytes - size);
        if (r > 0) size += (size_t)r;
        if (r == VELUM_E_CLOSED) c->closed = true;
        idle = r > 0 ? 0 : idle + 1;
        run(w);
    }
    *data = bytes;
    return size;
}

static inline void expect_come(world *w, client *c, const char *expected, int line) {
    static char shown_text[65536];
    shown s = {.text = shown_text, .room = sizeof shown_text - 1};
    uint8_t *data;
    size_t n = come(w, c, &data), at = 0, used = 1;
    for (; at < n && used > 0; at += used) {
        used = show_value(&s, data + at, n - at);
        show_bytes(&s, used > 0 ? "\n" : "...", used > 0 ? 1 : 3);
    }
    if (c->closed) show_bytes(&s, "closed\n", 7);
    shown_text[s.size] = 0;
    bool right = strcmp(shown_text, expected) == 0;
    CHECK(right);
    if (!right) printf("line %d, came:\n%.2000sexpected:\n%s", line, shown_text, expected);
}

#define EXPECT(w, c, expected) expect_come(w, c, expected, __LINE__)

/* Says a line, and expects this. */
#define ASK(w, c, line, expected)                                                                  \
    do {                                                                                           \
        say(w, c, line "\n");                                                                      \
        expect_come(w, c, expected, __LINE__);                                                     \
    } while (0)

#endif
