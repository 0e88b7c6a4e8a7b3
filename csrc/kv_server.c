/* kv_server.c: see kv_server.h.
 *
 * Owns: connections, their buffers, WAIT, and when replies leave. Refuses to know: subscriptions
 * (kv_server_subscribers.c). How: of what is to be sent the first part is known to be durable
 * enough (`out_kept`); only that is sent, and the rest is what can still turn out untrue.
 */
#include "kv_server.h"

#include "kv_commands_internal.h"
#include "kv_server_internal.h"

#include <stdlib.h>
#include <string.h>

#define READ_BYTES      (16u * 1024u)  /* of a connection's buffer, until a request needs more */
#define OUT_PAUSE_BYTES (256u * 1024u) /* of replies: more requests wait until some have left */
#define OUT_KEEP_BYTES  (64u * 1024u)  /* of an empty buffer */
#define ACCEPTS_MAX     64u            /* in a tick */
#define US_PER_MS       1000

static const char too_many[] = "-ERR max number of clients reached\r\n";

/* ---- buffers ---- */

static size_t in_use(const velum__buffer *b) {
    return b->end - b->at;
}

/* Room for n bytes behind what is in use, or NULL: there is no memory, or it would be too much. */
static uint8_t *make_room(velum__buffer *b, size_t n) {
    size_t used = in_use(b);
    if (n > VELUM_KV_UNREAD_BYTES_MAX || used > VELUM_KV_UNREAD_BYTES_MAX - n) return NULL;
    if (b->room - b->end >= n) return b->data + b->end;
    if (b->at >= used && b->room >= used + n) {
        memcpy(b->data, b->data + b->at, used);
    } else {
        size_t room = 2 * (used + n);
        uint8_t *fresh = malloc(room);
        if (fresh == NULL) return NULL;
        if (used > 0) memcpy(fresh, b->data + b->at, used);
        free(b->data);
        b->data = fresh;
        b->room = room;
    }
    b->at = 0;
    b->end = used;
    return b->data + b->end;
}

static void empty(velum__buffer *b, size_t keep) {
    b->at = b->end = 0;
    if (b->room <= keep) return;
    free(b->data);
    b->data = NULL;
    b->room = 0;
}

/* ---- connections come and go ---- */

static void unlink_connection(velum__connection *c) {
    if (c->next != NULL) c->next->before = c->before;
    if (c->before != NULL) {
        c->before->next = c->next;
    } else {
        c->server->first = c->next;
    }
}

static void free_connection(velum__connection *c) {
    velum_kv_server *server = c->server;
    unlink_connection(c);
    velum__subscriber_end(c);
    server->figures.connections--;
    velum_watch_remove(server->config.loop, &c->watch);
    velum_port_close(c->watch.fd);
    free(c->in.data);
    free(c->out.data);
    free(c->aside.data);
    free(c);
}

/* What the connection is watched for: it is not read while replies wait, or pile up; in WAIT only
 * so far that its end is noticed. */
static void watch(velum__connection *c) {
    uint8_t want = 0;
    bool pauses = c->blocks ? in_use(&c->in) >= READ_BYTES : in_use(&c->out) >= OUT_PAUSE_BYTES;
    if (!c->waits && !c->ends && !pauses) want |= VELUM_READABLE;
    if (c->out.at < c->out_kept) want |= VELUM_WRITABLE;
    velum_watch_want(c->server->config.loop, &c->watch, want);
}

/* ---- replies ---- */

static uint8_t *more(void *owner, size_t n) {
    velum__connection *c = owner;
    size_t kept = c->out_kept - c->out.at;
    uint8_t *room = make_room(&c->out, n);
    c->out_kept = c->out.at + kept;
    return room;
}

static void wrote(void *owner, size_t n) {
    ((velum__connection *)owner)->out.end += n;
}

static uint8_t *more_aside(void *owner, size_t n) {
    return make_room(&((velum__connection *)owner)->aside, n);
}

static void wrote_aside(void *owner, size_t n) {
    ((velum__connection *)owner)->aside.end += n;
}

static velum_resp_writer writer_of(velum__connection *c) {
    return (velum_resp_writer){
        .owner = c, .more = more, .wrote = wrote, .version = c->client.version == 3 ? 3 : 2};
}

velum_resp_writer velum__message_writer(velum__connection *c) {
    velum_resp_writer out = writer_of(c);
    if (c->busy) {
        out.more = more_aside;
        out.wrote = wrote_aside;
    }
    return out;
}

/* Puts messages that came while a reply was made behind it. */
static void send_aside(velum__connection *c) {
    size_t n = in_use(&c->aside);
    uint8_t *room;
    if (n == 0) return;
    room = more(c, n);
    if (room != NULL) {
        memcpy(room, c->aside.data + c->aside.at, n);
        wrote(c, n);
    } else {
        c->gone = true;
    }
    empty(&c->aside, 0);
}

static void send_out(velum__connection *c) {
    while (c->out.at < c->out_kept) {
        int r = velum_port_send(c->watch.fd, c->out.data + c->out.at, c->out_kept - c->out.at);
        if (r == VELUM_E_AGAIN) return;
        if (r < 0) {
            c->gone = true;
            return;
        }
        c->out.at += (size_t)r;
    }
    if (in_use(&c->out) > 0) return;
    empty(&c->out, OUT_KEEP_BYTES);
    c->out_kept = 0;
    if (c->ends) c->gone = true;
}

/* ---- peers ---- */

static uint64_t written_here(const velum_kv_server *server) {
    const velum_kv_hooks *hooks = server->config.hooks;
    return hooks != NULL && hooks->written != NULL ? hooks->written(hooks->owner) : 0;
}

static void ask_peers(const velum__connection *c) {
    const velum_kv_hooks *hooks = c->server->config.hooks;
    if (hooks != NULL && hooks->ask != NULL) hooks->ask(hooks->owner, c->written);
}

/* How many peers have all that the connection wrote. */
static size_t heard(const velum__connection *c) {
    const velum_kv_hooks *hooks = c->server->config.hooks;
    return hooks != NULL && hooks->heard != NULL ? hooks->heard(hooks->owner, c->written) : 0;
}

bool velum_kv_is_majority(size_t heard, size_t members) {
    return heard + 1 > members / 2;
}

static bool has_majority(const velum__connection *c) {
    const velum_kv_hooks *hooks = c->server->config.hooks;
    size_t members = hooks != NULL && hooks->members != NULL ? hooks->members(hooks->owner) : 1;
    return velum_kv_is_majority(heard(c), members);
}

/* ---- WAIT ---- */

static bool waited(velum__connection *c, int64_t now_us) {
    size_t peers = heard(c);
    if (peers < c->wait_peers && (c->wait_until_us == 0 || now_us < c->wait_until_us)) return false;
    velum_resp_writer out = writer_of(c);
    velum_resp_integer(&out, (int64_t)peers);
    c->gone = c->gone || out.full;
    c->blocks = false;
    return true;
}

static void do_wait(velum__connection *c, const velum_resp_arg *args, velum_resp_writer *out) {
    int64_t now_us = velum_loop_now_us(c->server->config.loop), peers, ms;
    if (!velum__kv_integer(args[1], &peers)) {
        velum_resp_error(out, "value is not an integer or out of range");
    } else if (!velum__kv_integer(args[2], &ms)) {
        velum_resp_error(out, "timeout is not an integer or out of range");
    } else if (ms < 0) {
        velum_resp_error(out, "timeout is negative");
    } else {
        c->wait_peers = peers > 0 ? (size_t)peers : 0;
        bool for_ever = ms == 0 || ms > (INT64_MAX - now_us) / US_PER_MS;
        c->wait_until_us = for_ever ? 0 : now_us + ms * US_PER_MS;
        c->blocks = true;
        if (!waited(c, now_us)) ask_peers(c);
    }
}

/* ---- requests ---- */

/* A reply that is larger than may be: an error instead. */
static void shorten(velum__connection *c, size_t used) {
    velum_resp_writer out = writer_of(c);
    c->out.end = c->out.at + used;
    velum_resp_error(&out, "a reply has 8 MiB at most: ask for less at a time (SCAN, say)");
    c->gone = c->gone || out.full;
}

/* Does one request; what the state does not know is done here. */
static void do_request(velum__connection *c, size_t count) {
    velum_kv_server *server = c->server;
    velum_resp_writer out = writer_of(c);
    uint64_t written = written_here(server);
    size_t used = in_use(&c->out);
    server->figures.commands++;
    c->busy = true;
    int r =
        velum_kv_command(server->config.state, &c->client, server->args, count, &out, &c->log_at);
    c->busy = false;
    if (r == 0 && !velum__subscriber_command(c, server->args, count, &out))
        do_wait(c, server->args, &out); /* the only one that is left */
    if (written_here(server) != written) {
        c->written = written_here(server);
        c->unheard = true;
    }
    if (out.full) shorten(c, used);
    send_aside(c);
    c->ends = c->ends || c->client.quits;
}

/* Does all requests that have come whole. */
static void do_requests(velum__connection *c) {
    while (!c->ends && !c->gone && !c->blocks && in_use(&c->in) > 0 &&
           in_use(&c->out) < OUT_PAUSE_BYTES) {
        size_t count;
        const char *text;
        int r = velum_resp_get(&c->request, c->in.data + c->in.at, in_use(&c->in), c->server->args,
                               &count, &text);
        if (r == 0) return;
        if (r < 0) {
            velum_resp_writer out = writer_of(c);
            velum_resp_error(&out, text);
            c->ends = true;
            return;
        }
        if (count > 0) do_request(c, count);
        c->in.at += (size_t)r;
    }
}

/* Room behind what has come: a request that fills the buffer needs a larger one. */
static bool make_room_in(velum__connection *c) {
    velum__buffer *in = &c->in;
    size_t left = in_use(in);
    if (in->at > 0 && left > 0) memmove(in->data, in->data + in->at, left);
    if (left == 0) empty(in, READ_BYTES);
    in->at = 0;
    in->end = left;
    if (left < in->room) return true;
    size_t room = in->room == 0 ? READ_BYTES : 2 * in->room;
    uint8_t *grown = realloc(in->data, room);
    if (grown == NULL) return false;
    in->data = grown;
    in->room = room;
    return true;
}

static void read_in(velum__connection *c) {
    if (!make_room_in(c)) {
        c->gone = true;
        return;
    }
    int r = velum_port_recv(c->watch.fd, c->in.data + c->in.end, c->in.room - c->in.end);
    if (r > 0) {
        c->in.end += (size_t)r;
        do_requests(c);
    } else if (r != VELUM_E_AGAIN) {
        c->gone = true;
    }
}

static void connection_ready(velum_watch *w, uint8_t what) {
    velum__connection *c = w->owner;
    if (what & VELUM_WRITABLE && !c->gone) send_out(c);
    if (what & VELUM_READABLE && !c->gone) read_in(c);
}

/* ---- the listener ---- */

static void take(velum_kv_server *server, velum_fd fd) {
    velum__connection *c = NULL;
    if (server->figures.connections < server->config.connections_max) c = calloc(1, sizeof *c);
    if (c != NULL) {
        c->server = server;
        c->watch = (velum_watch){
            .fd = fd, .want = VELUM_READABLE, .ready = connection_ready, .owner = c, .slot = -1};
    }
    if (c == NULL || velum_watch_add(server->config.loop, &c->watch) < 0) {
        (void)velum_port_send(fd, too_many, sizeof too_many - 1);
        velum_port_close(fd);
        free(c);
        return;
    }
    c->client.id = ++server->next_id;
    c->client.hooks = server->config.hooks;
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

/* It only ends the loop's sleep: flush looks who has waited for too long. */
static void timer_fired(velum_timer *t, int64_t now_us) {
    (void)t;
    (void)now_us;
}

int velum_kv_server_open(velum_kv_server **out, const velum_kv_server_config *config,
                         velum_addr *addr) {
    velum_kv_server *server = calloc(1, sizeof *server);
    velum_fd fd = VELUM_NO_FD;
    *out = NULL;
    if (server == NULL) return VELUM_E_NOMEM;
    server->config = *config;
    if (velum_kv_state_log(config->state) == NULL) server->config.durability = VELUM_KV_RAM;
    server->timer = (velum_timer){.fired = timer_fired, .owner = server, .slot = -1};
    int r = velum_port_listen(addr, &fd);
    server->listener = (velum_watch){
        .fd = fd, .want = VELUM_READABLE, .ready = listener_ready, .owner = server, .slot = -1};
    if (r == VELUM_OK) r = velum_watch_add(config->loop, &server->listener);
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
    velum_timer_stop(server->config.loop, &server->timer);
    velum_watch_remove(server->config.loop, &server->listener);
    velum_port_close(server->listener.fd);
    free(server);
}

/* ---- the log, and what waits for it ---- */

int velum_kv_flush_log(velum_kv_state *state, bool sync, velum_kv_log_figures *figures) {
    velum_kv_log *log = velum_kv_state_log(state);
    int r = VELUM_OK;
    memset(figures, 0, sizeof *figures);
    if (log == NULL) return VELUM_OK;
    velum_kv_log_poll(log);
    *figures = velum_kv_log_get_figures(log);
    if (figures->taken > figures->written) r = velum_kv_log_write(log);
    if (sync) {
        int synced = velum_kv_log_sync(log);
        if (r == VELUM_OK) r = synced;
    }
    *figures = velum_kv_log_get_figures(log);
    return r;
}

/* Whether what a connection wrote is in the log as it has to be. */
static bool is_logged(const velum__connection *c, const velum_kv_log_figures *log) {
    velum_kv_durability durability = c->server->config.durability;
    if (durability == VELUM_KV_RAM) return true;
    return c->log_at <= (durability == VELUM_KV_LOG ? log->written : log->synced);
}

/* Whether it never will be, for certain. */
static bool is_lost(const velum__connection *c, const velum_kv_log_figures *log, int error) {
    return error < 0 && !is_logged(c, log) && (c->log_at > log->written || log->broken);
}

/* Its last replies would not be true: they are dropped, and it is told so and closed. */
static void fail(velum__connection *c, const char *text) {
    c->out.end = c->out_kept;
    velum_resp_writer out = writer_of(c);
    velum_resp_error(&out, text);
    c->log_at = 0;
    c->unheard = c->blocks = false;
    c->ends = true;
    c->gone = c->gone || out.full;
}

/* Sets `waits`: the connection has replies that may not leave yet. */
static void see_if_waits(velum__connection *c, const velum_kv_log_figures *log, int error,
                         int64_t now_us) {
    bool quorum = c->server->config.durability == VELUM_KV_QUORUM;
    if (is_lost(c, log, error))
        fail(c, "-MISCONF the log cannot be written: what this connection wrote last is in memory, "
                "and not on disk");
    bool for_log = !is_logged(c, log);
    if (c->unheard && (!quorum || has_majority(c))) c->unheard = false;
    if (c->unheard && c->quorum_until_us == 0) {
        c->quorum_until_us = now_us + (int64_t)VELUM_KV_QUORUM_MS * US_PER_MS;
        ask_peers(c);
    } else if (c->unheard && now_us >= c->quorum_until_us) {
        fail(c, "-NOREPLICAS no majority has confirmed what this connection wrote last: it is kept "
                "here, and passed on when members are back");
        for_log = false;
    }
    if (!c->unheard) c->quorum_until_us = 0;
    c->waits = (for_log || c->unheard) && in_use(&c->out) > c->out_kept - c->out.at;
    if (!c->waits) c->out_kept = c->out.end;
}

/* Serves one connection; the time at which it has to be looked at again, or INT64_MAX. */
static int64_t serve(velum__connection *c, const velum_kv_log_figures *log, int error,
                     int64_t now_us) {
    int64_t until_us = INT64_MAX;
    if (c->blocks) waited(c, now_us);
    see_if_waits(c, log, error, now_us);
    if (c->out.at < c->out_kept) send_out(c);
    if (!c->waits && !c->gone) do_requests(c); /* what waited for room, the log, or peers */
    if (c->blocks && c->wait_until_us != 0) until_us = c->wait_until_us;
    if (c->quorum_until_us != 0 && c->quorum_until_us < until_us) until_us = c->quorum_until_us;
    return until_us;
}

bool velum_kv_server_flush(velum_kv_server *server) {
    velum_kv_log_figures log;
    velum_loop *loop = server->config.loop;
    int error =
        velum_kv_flush_log(server->config.state, server->config.durability >= VELUM_KV_FSYNC, &log);
    int64_t now_us = velum_loop_now_us(loop), next_us = INT64_MAX;
    uint64_t commands = server->figures.commands;
    velum__connection *next;
    server->figures.waiting = 0;
    for (velum__connection *c = server->first; c != NULL; c = next) {
        int64_t until_us = c->gone ? INT64_MAX : serve(c, &log, error, now_us);
        next = c->next;
        if (c->gone) {
            free_connection(c);
            continue;
        }
        watch(c);
        if (until_us < next_us) next_us = until_us;
        server->figures.waiting += c->waits || c->blocks;
    }
    velum_timer_stop(loop, &server->timer);
    if (next_us != INT64_MAX) (void)velum_timer_start(loop, &server->timer, next_us);
    return server->figures.commands != commands;
}

velum_kv_server_figures velum_kv_server_get_figures(const velum_kv_server *server) {
    return server->figures;
}
