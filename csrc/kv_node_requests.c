/* kv_node_requests.c: requests of links and of this program, and when each is answered.
 *
 * Owns: the list of requests whose reply waits, and how durable each has become. Refuses to know:
 * what commands mean, how logs and peers are reached. How: a request is done when it comes; what it
 * wrote ends at a place in the log and is among the records up to a number. It is answered once the
 * log's figures and what peers have confirmed are past these, or never will be.
 */
#include "kv_node_internal.h"

#include <stdlib.h>
#include <string.h>

/* Requests of all links and of this program that may wait; more are refused. */
#define WAITING_MAX 65536u

#define NOTHING_WRITTEN UINT64_MAX

struct velum__request {
    velum__request *next;
    velum_handle link;   /* 0: of this program */
    uint64_t id;         /* correlation, or token */
    uint8_t wanted;      /* velum_kv_durability */
    uint8_t reached;     /* once it is done */
    bool done;           /* and cannot become more durable; it waits to be told */
    uint64_t log_at;     /* where it ends in the log */
    uint64_t number;     /* of its last record */
    int64_t deadline_us; /* of QUORUM */
    velum__bytes reply;
};

/* ---- doing ---- */

/* Cuts a request into node->args; how many, or PAYLOAD. */
static int cut(velum_kv_node *node, uint8_t *request, size_t n) {
    velum_resp_state state = {0};
    const char *text;
    size_t count;
    if (n == 0 || request[0] != '*') return VELUM_E_PAYLOAD;
    int r = velum_resp_get(&state, request, n, node->args, &count, &text);
    return r > 0 && (size_t)r == n && count > 0 ? (int)count : VELUM_E_PAYLOAD;
}

/* Whether the request is this command; the name in lower-case letters. */
static bool is_command(velum_resp_arg arg, const char *name) {
    for (size_t i = 0; i < arg.size; i++) {
        uint8_t c = arg.data[i];
        if (c >= 'A' && c <= 'Z') c |= 0x20;
        if (name[i] == 0 || c != (uint8_t)name[i]) return false;
    }
    return name[arg.size] == 0;
}

static void publish(velum_kv_node *node, velum_resp_writer *out) {
    velum_kv_bytes channel = {node->args[1].data, node->args[1].size};
    velum_kv_bytes message = {node->args[2].data, node->args[2].size};
    size_t told = 0;
    if (node->server != NULL) told = velum_kv_server_publish(node->server, channel, message);
    node->hooks.publish(node->hooks.owner, channel, message);
    velum_resp_integer(out, (int64_t)told);
}

/* Does the request in node->args, and fills in what it has reached so far. */
static void run(velum_kv_node *node, size_t count, uint8_t durability, velum_resp_writer *out,
                velum__request *request) {
    velum_kv_client client = {.hooks = &node->hooks, .version = 3};
    bool logged = velum_kv_state_log(node->state) != NULL;
    request->log_at = NOTHING_WRITTEN;
    node->commands++;
    if (velum_kv_command(node->state, &client, node->args, count, out, &request->log_at) == 0) {
        if (count == 3 && is_command(node->args[0], "publish")) {
            publish(node, out);
        } else {
            velum_resp_error(out, "this command is not served here");
        }
    }
    request->number = velum_kv_peers_sequence(node->peers);
    request->wanted = durability == 0 ? (uint8_t)node->config.durability : durability;
    if (!logged) request->wanted = VELUM_KV_RAM;
    request->done = request->log_at == NOTHING_WRITTEN || request->wanted == VELUM_KV_RAM;
    request->reached = request->log_at == NOTHING_WRITTEN ? 0 : VELUM_KV_RAM;
}

/* Puts the request at the end of those that wait. */
static void keep(velum_kv_node *node, velum__request *request, uint32_t timeout_ms) {
    *node->last_request = request;
    node->last_request = &request->next;
    node->waiting++;
    if (request->done || request->wanted != VELUM_KV_QUORUM) return;
    if (timeout_ms == 0) timeout_ms = VELUM_KV_QUORUM_MS;
    request->deadline_us = velum_port_now_us() + INT64_C(1000) * timeout_ms;
    velum_kv_peers_ask(node->peers, request->number);
    if (node->timer.slot < 0 || request->deadline_us < node->timer.deadline_us)
        (void)velum_timer_start(velum_hub_loop(node->hub), &node->timer, request->deadline_us);
}

static void drop(velum_kv_node *node, velum__request **place) {
    velum__request *request = *place;
    *place = request->next;
    if (request->next == NULL) node->last_request = place;
    node->waiting--;
    velum__bytes_free(&request->reply);
    free(request);
}

/* ---- how durable it is ---- */

/* Whether the request is as durable as it can become; then what it has reached. */
static void judge(velum_kv_node *node, velum__request *r, const velum_kv_log_figures *log,
                  int64_t now_us) {
    bool written = r->log_at <= log->written, synced = r->log_at <= log->synced;
    bool failed = written ? log->broken && !synced : node->refusing || log->broken;
    r->reached = synced ? VELUM_KV_FSYNC : written ? VELUM_KV_LOG : VELUM_KV_RAM;
    if (r->wanted == VELUM_KV_QUORUM) {
        size_t heard = velum_kv_peers_heard(node->peers, r->number);
        bool majority = velum_kv_is_majority(heard, node->members);
        if (synced && majority) r->reached = VELUM_KV_QUORUM;
        failed = failed || now_us >= r->deadline_us;
    }
    r->done = failed || r->reached >= r->wanted;
    if (r->done && r->reached > r->wanted) r->reached = r->wanted;
}

bool velum__requests_want_sync(const velum_kv_node *node, const velum_kv_log_figures *log) {
    for (const velum__request *r = node->requests; r != NULL; r = r->next)
        if (!r->done && r->wanted >= VELUM_KV_FSYNC && r->log_at > log->synced) return true;
    return false;
}

/* ---- answering ---- */

/* Sends KV_DONE; false: no room in the link's queue. */
static bool send_done(velum_kv_node *node, const velum__request *r) {
    velum_kv_done done = {r->reached, r->reply.data, (uint32_t)r->reply.size};
    size_t size = VELUM_HEADER_BYTES + 1u + r->reply.size;
    uint8_t *room = velum_hub_reserve_answer(node->hub, r->link, size);
    if (room == NULL) return false;
    int n = velum_wire_put_kv_done(room, size, r->id, &done);
    velum_hub_commit(node->hub, r->link, n > 0 ? (size_t)n : 0);
    return true;
}

/* Sends what is done of a link; whether nothing of that is left. */
static bool send_link(velum_kv_node *node, velum_handle link) {
    for (velum__request **place = &node->requests; *place != NULL;) {
        if ((*place)->link != link || !(*place)->done) {
            place = &(*place)->next;
            continue;
        }
        if (!send_done(node, *place)) return false;
        drop(node, place);
    }
    return true;
}

void velum__requests_answer(velum_kv_node *node, const velum_kv_log_figures *log) {
    velum_loop *loop = velum_hub_loop(node->hub);
    int64_t now_us = velum_port_now_us(), next_us = INT64_MAX;
    bool told = false;
    for (velum__request **place = &node->requests; *place != NULL;) {
        velum__request *r = *place;
        if (!r->done) {
            judge(node, r, log, now_us);
            told = told || (r->done && r->link == 0);
        }
        if (!r->done && r->wanted == VELUM_KV_QUORUM && r->deadline_us < next_us)
            next_us = r->deadline_us;
        if (r->done && r->link != 0 && send_done(node, r)) {
            drop(node, place);
        } else {
            place = &r->next;
        }
    }
    velum_timer_stop(loop, &node->timer);
    if (next_us < INT64_MAX) (void)velum_timer_start(loop, &node->timer, next_us);
    if (told) velum_hub_woken(node->hub);
}

void velum__requests_end(velum_kv_node *node, velum_handle link) {
    for (velum__request **place = &node->requests; *place != NULL;) {
        if (link == 0 || (*place)->link == link) {
            drop(node, place);
        } else {
            place = &(*place)->next;
        }
    }
}

/* ---- of links ---- */

static uint8_t *more(void *owner, size_t n) {
    velum__bytes *b = owner;
    if (n > VELUM_KV_REPLY_BYTES_MAX - b->size || !velum__bytes_room(b, n)) return NULL;
    return b->data + b->size;
}

static void wrote(void *owner, size_t n) {
    ((velum__bytes *)owner)->size += n;
}

static velum_resp_writer writer_of(velum__bytes *b) {
    return (velum_resp_writer){.owner = b, .more = more, .wrote = wrote, .version = 3};
}

int velum__request_frame(velum_kv_node *node, velum_handle link, const velum_frame *frame) {
    velum_kv_do m;
    int n = velum_wire_get_kv_do(frame->payload, frame->header.length, &m);
    if (n < 0) return n;
    /* An array is not written to. */
    int count = cut(node, (uint8_t *)(uintptr_t)m.request, m.size);
    if (count < 0) return count;
    if (m.durability == VELUM_KV_QUORUM && is_command(node->args[0], "velum.cas"))
        return 1; /* members have to agree: the owner knows how */
    if (!send_link(node, link)) return VELUM_E_FULL;
    velum__request *request = calloc(1, sizeof *request);
    if (request == NULL) return VELUM_E_NOMEM;
    velum_resp_writer out = writer_of(&request->reply);
    request->link = link;
    request->id = frame->header.correlation;
    if (node->waiting < WAITING_MAX) {
        run(node, (size_t)count, m.durability, &out, request);
    } else {
        velum_resp_error(&out, "-BUSY too many requests wait for the disk or for peers");
        request->done = true;
    }
    if (out.full) { /* what was written is written */
        request->reply.size = 0;
        out = writer_of(&request->reply);
        velum_resp_error(&out, "the reply is larger than a frame can be");
    }
    keep(node, request, m.timeout_ms);
    if (out.full) return VELUM_E_NOMEM;
    if (request->done) (void)send_link(node, link);
    return 0;
}

/* ---- of this program ---- */

int velum_kv_node_do(velum_kv_node *node, uint8_t durability, uint32_t timeout_ms, uint8_t *request,
                     size_t n, uint64_t token, velum_resp_writer *out, uint8_t *reached) {
    velum__request did = {.id = token};
    velum_kv_log_figures log;
    int count = cut(node, request, n);
    if (count < 0) return count;
    if (durability > VELUM_KV_QUORUM) return VELUM_E_ARGUMENT;
    run(node, (size_t)count, durability, out, &did);
    *reached = did.reached;
    if (did.log_at == NOTHING_WRITTEN) return 1;
    if (did.wanted == VELUM_KV_QUORUM) velum_kv_peers_ask(node->peers, did.number);
    if (!did.done || velum_kv_peers_get_figures(node->peers).peers > 0) {
        velum__node_write(node, did.wanted >= VELUM_KV_FSYNC, &log);
        did.deadline_us = INT64_MAX;
        if (!did.done) judge(node, &did, &log, 0);
        *reached = did.reached;
    }
    velum_hub_service_due(node->hub); /* watches are told; the log is written */
    if (did.done) return 1;
    velum__request *kept = node->waiting < WAITING_MAX ? malloc(sizeof *kept) : NULL;
    if (kept == NULL) return 1; /* it is as durable as *reached says */
    *kept = did;
    keep(node, kept, timeout_ms);
    return 0;
}

int velum_kv_node_sync(velum_kv_node *node, uint64_t token) {
    velum_kv_log *log = velum_kv_state_log(node->state);
    velum__request *request = calloc(1, sizeof *request);
    if (request == NULL) return VELUM_E_NOMEM;
    request->id = token;
    request->wanted = VELUM_KV_FSYNC;
    request->reached = VELUM_KV_RAM;
    request->done = log == NULL;
    if (log != NULL) request->log_at = velum_kv_log_get_figures(log).taken;
    keep(node, request, 0);
    velum_hub_service_due(node->hub);
    if (request->done) velum_hub_woken(node->hub);
    return 0;
}

bool velum_kv_node_next(velum_kv_node *node, uint64_t *token, uint8_t *reached) {
    for (velum__request **place = &node->requests; *place != NULL; place = &(*place)->next) {
        if ((*place)->link != 0 || !(*place)->done) continue;
        *token = (*place)->id;
        *reached = (*place)->reached;
        drop(node, place);
        return true;
    }
    return false;
}
