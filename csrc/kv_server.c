/* kv_server.c: see kv_server.h. */
#include "kv_server.h"

#include <stdlib.h>
#include <string.h>

#define READ_BYTES      (16u * 1024u) /* of a connection's buffer, until a request needs more */
#define OUT_BYTES_MAX   (8u * 1024u * 1024u) /* replies that a client does not read: it is closed */
#define OUT_PAUSE_BYTES (256u * 1024u) /* of replies: more requests wait until some have left */
#define OUT_KEEP_BYTES  (64u * 1024u)  /* of an empty buffer */
#define ACCEPTS_MAX     64u            /* in a tick */

typedef struct connection connection;
struct connection {
    velum_kv_server *server;
    connection *next, *before; /* of all */
    velum_watch watch;
    velum_kv_client client;
    velum_resp_state request;
    uint8_t *in;
    size_t in_room, in_at, in_end; /* in[in_at..in_end) has come and is not done */
    uint8_t *out;
    size_t out_room, out_at, out_end; /* out[out_at..out_end) is to be sent */
    uint64_t log_at;                  /* where the last of its writes ends in the log */
    bool waits;                       /* replies wait for the log */
    bool ends;                        /* it is closed once its replies are sent */
    bool gone;
};

struct velum_kv_server {
    velum_loop *loop;
    velum_kv_state *state;
    velum_kv_durability durability;
    velum_watch listener;
    connection *first;
    size_t connections_max;
    velum_kv_server_figures figures;
    uint64_t next_id;
    velum_resp_arg args[VELUM_RESP_ARGS_MAX];
};

/* ---- connections come and go ---- */

static void unlink_connection(connection *c) {
    if (c->next != NULL) c->next->before = c->before;
    if (c->before != NULL) {
        c->before->next = c->next;
    } else {
        c->server->first = c->next;
    }
}

static void free_connection(connection *c) {
    unlink_connection(c);
    c->server->figures.connections--;
    if (c->watch.slot >= 0) velum_watch_remove(c->server->loop, &c->watch);
    velum_port_close(c->watch.fd);
    free(c->in);
    free(c->out);
    free(c);
}

/* What the connection is watched for: it is not read while replies wait, or pile up. */
static void watch(connection *c) {
    uint8_t want = 0;
    size_t unsent = c->out_end - c->out_at;
    if (!c->waits && !c->ends && unsent < OUT_PAUSE_BYTES) want |= VELUM_READABLE;
    if (!c->waits && unsent > 0) want |= VELUM_WRITABLE;
    velum_watch_want(c->server->loop, &c->watch, want);
}

/* ---- replies ---- */

static uint8_t *more(void *owner, size_t n) {
    connection *c = owner;
    if (c->out_room - c->out_end >= n) return c->out + c->out_end;
    size_t unsent = c->out_end - c->out_at;
    if (n > OUT_BYTES_MAX || unsent > OUT_BYTES_MAX - n) return NULL;
    if (c->out_at >= unsent && c->out_room >= unsent + n) {
        memcpy(c->out, c->out + c->out_at, unsent);
    } else {
        size_t room = 2 * (unsent + n);
        uint8_t *fresh = malloc(room);
        if (fresh == NULL) return NULL;
        if (unsent > 0) memcpy(fresh, c->out + c->out_at, unsent);
        free(c->out);
        c->out = fresh;
        c->out_room = room;
    }
    c->out_at = 0;
    c->out_end = unsent;
    return c->out + c->out_end;
}

static void wrote(void *owner, size_t n) {
    ((connection *)owner)->out_end += n;
}

static velum_resp_writer writer_of(connection *c) {
    return (velum_resp_writer){
        .owner = c, .more = more, .wrote = wrote, .version = c->client.version == 3 ? 3 : 2};
}

static void send_out(connection *c) {
    while (c->out_at < c->out_end) {
        int r = velum_port_send(c->watch.fd, c->out + c->out_at, c->out_end - c->out_at);
        if (r == VELUM_E_AGAIN) return;
        if (r < 0) {
            c->gone = true;
            return;
        }
        c->out_at += (size_t)r;
    }
    c->out_at = c->out_end = 0;
    if (c->out_room > OUT_KEEP_BYTES) {
        free(c->out);
        c->out = NULL;
        c->out_room = 0;
    }
    if (c->ends) c->gone = true;
}

/* ---- requests ---- */

/* Does one request; what the state does not know is answered here. */
static void do_request(connection *c, size_t count) {
    velum_kv_server *server = c->server;
    velum_resp_writer out = writer_of(c);
    server->figures.commands++;
    if (velum_kv_command(server->state, &c->client, server->args, count, &out, &c->log_at) == 0)
        velum_resp_error(&out, "this command is not served here");
    if (out.full) c->gone = true; /* it does not read its replies, or there is no memory */
    c->ends = c->ends || c->client.quits;
}

/* Does all requests that have come whole. */
static void do_requests(connection *c) {
    while (!c->ends && !c->gone && c->in_at < c->in_end &&
           c->out_end - c->out_at < OUT_PAUSE_BYTES) {
        size_t count;
        const char *text;
        int r = velum_resp_get(&c->request, c->in + c->in_at, c->in_end - c->in_at, c->server->args,
                               &count, &text);
        if (r == 0) return;
        if (r < 0) {
            velum_resp_writer out = writer_of(c);
            velum_resp_error(&out, text);
            c->ends = true;
            return;
        }
        if (count > 0) do_request(c, count);
        c->in_at += (size_t)r;
    }
}

/* Room behind what has come: a request that fills the buffer needs a larger one. */
static bool make_room_in(connection *c) {
    size_t left = c->in_end - c->in_at;
    if (c->in_at > 0 && left > 0) memmove(c->in, c->in + c->in_at, left);
    c->in_at = 0;
    c->in_end = left;
    if (c->in_room > READ_BYTES && left == 0) {
        free(c->in);
        c->in = NULL;
        c->in_room = 0;
    }
    if (left < c->in_room) return true;
    size_t room = c->in_room == 0 ? READ_BYTES : 2 * c->in_room;
    uint8_t *grown = realloc(c->in, room);
    if (grown == NULL) return false;
    c->in = grown;
    c->in_room = room;
    return true;
}

static void read_in(connection *c) {
    if (!make_room_in(c)) {
        c->gone = true;
        return;
    }
    int r = velum_port_recv(c->watch.fd, c->in + c->in_end, c->in_room - c->in_end);
    if (r > 0) {
        c->in_end += (size_t)r;
        do_requests(c);
    } else if (r != VELUM_E_AGAIN) {
        c->gone = true;
    }
}

static void connection_ready(velum_watch *w, uint8_t what) {
    connection *c = w->owner;
    if (what & VELUM_WRITABLE) send_out(c);
    if (what & VELUM_READABLE && !c->gone) read_in(c);
}

/* ---- the listener ---- */

static void take(velum_kv_server *server, velum_fd fd) {
    connection *c = NULL;
    if (server->figures.connections < server->connections_max) c = calloc(1, sizeof *c);
    if (c == NULL) {
        velum_port_close(fd);
        return;
    }
    c->server = server;
    c->watch = (velum_watch){
        .fd = fd, .want = VELUM_READABLE, .ready = connection_ready, .owner = c, .slot = -1};
    if (velum_watch_add(server->loop, &c->watch) < 0) {
        velum_port_close(fd);
        free(c);
        return;
    }
    c->client.id = ++server->next_id;
    c->next = server->first;
    if (c->next != NULL) c->next->before = c;
    server->first = c;
    server->figures.connections++;
}

static void listener_ready(velum_watch *w, uint8_t what) {
    velum_kv_server *server = w->owner;
    velum_addr from;
    velum_fd fd;
    (void)what;
    for (size_t i = 0; i < ACCEPTS_MAX; i++) {
        if (velum_port_accept(w->fd, &fd, &from) < 0) return;
        take(server, fd);
    }
}

int velum_kv_server_open(velum_kv_server **out, velum_loop *loop, velum_kv_state *state,
                         velum_kv_durability durability, size_t connections_max, velum_addr *addr) {
    velum_kv_server *server = calloc(1, sizeof *server);
    velum_fd fd = VELUM_NO_FD;
    *out = NULL;
    if (server == NULL) return VELUM_E_NOMEM;
    server->loop = loop;
    server->state = state;
    server->durability = velum_kv_state_log(state) == NULL ? VELUM_KV_RAM : durability;
    server->connections_max = connections_max;
    int r = velum_port_listen(addr, &fd);
    server->listener = (velum_watch){
        .fd = fd, .want = VELUM_READABLE, .ready = listener_ready, .owner = server, .slot = -1};
    if (r == VELUM_OK) r = velum_watch_add(loop, &server->listener);
    if (r < 0) {
        if (fd != VELUM_NO_FD) velum_port_close(fd);
        free(server);
        return r;
    }
    *out = server;
    return VELUM_OK;
}

void velum_kv_server_close(velum_kv_server *server) {
    if (server == NULL) return;
    while (server->first != NULL)
        free_connection(server->first);
    velum_watch_remove(server->loop, &server->listener);
    velum_port_close(server->listener.fd);
    free(server);
}

/* ---- the log, and what waits for it ---- */

/* Its replies would not be true: they are dropped, and it is told so and closed. */
static void fail(connection *c) {
    c->out_at = c->out_end = 0;
    velum_resp_writer out = writer_of(c);
    velum_resp_error(&out, "-MISCONF the log cannot be written: what this connection wrote last is "
                           "in memory, and not on disk");
    c->log_at = 0;
    c->ends = true;
}

/* Whether what a connection wrote is as durable as it has to be. */
static bool is_kept(const velum_kv_server *server, const connection *c,
                    const velum_kv_log_figures *log) {
    uint64_t end = server->durability == VELUM_KV_FSYNC ? log->synced : log->written;
    return server->durability == VELUM_KV_RAM || c->log_at <= end;
}

static int write_log(velum_kv_server *server, velum_kv_log_figures *figures) {
    velum_kv_log *log = velum_kv_state_log(server->state);
    int r = VELUM_OK;
    memset(figures, 0, sizeof *figures);
    if (log == NULL) return VELUM_OK;
    velum_kv_log_poll(log);
    *figures = velum_kv_log_get_figures(log);
    if (figures->taken > figures->written) r = velum_kv_log_write(log);
    if (r == VELUM_OK && server->durability == VELUM_KV_FSYNC) r = velum_kv_log_sync(log);
    *figures = velum_kv_log_get_figures(log);
    return r;
}

bool velum_kv_server_flush(velum_kv_server *server) {
    velum_kv_log_figures log;
    int r = write_log(server, &log);
    connection *next;
    uint64_t commands = server->figures.commands;
    for (connection *c = server->first; c != NULL; c = next) {
        next = c->next;
        if (r < 0 && !is_kept(server, c, &log)) fail(c);
        c->waits = c->out_at < c->out_end && !is_kept(server, c, &log);
        if (!c->waits && !c->gone && c->out_at < c->out_end) send_out(c);
        if (!c->waits && !c->gone) do_requests(c); /* what waited for room, or for the log */
        if (c->gone) {
            free_connection(c);
        } else {
            watch(c);
        }
    }
    return server->figures.commands != commands;
}

velum_kv_server_figures velum_kv_server_get_figures(const velum_kv_server *server) {
    return server->figures;
}
