/* kv_node.c: see kv_node.h.
 *
 * In a round: connections of Redis's protocol are served, the log is written for all that came,
 * news leave, who has waited is answered, watches are told. Nothing leaves for peers before the log
 * has it: this node must not forget what others have from it.
 */
#include "kv_node_internal.h"

#include <stdlib.h>
#include <string.h>

/* Watches of all links and of this program. */
#define WATCHES_MAX 1024u

/* Keys of one piece of background work: well under a millisecond. */
#define KEYS_PER_PIECE 256u

/* A log is compacted once it is over this, and over twice what was live in it. */
#define COMPACT_BYTES_MIN (UINT64_C(1) << 20)
#define COPY_BYTES        ((size_t)256 * 1024)

/* A broken log is made whole by a compaction: at once, and each time that fails again after a pause
 * that doubles, since the disk may be full for long. */
#define HEAL_PAUSE_MIN_US INT64_C(1000000)
#define HEAL_PAUSE_MAX_US INT64_C(30000000)

#define BYTES_MIN ((size_t)256)

bool velum__bytes_room(velum__bytes *b, size_t n) {
    size_t cap = b->cap == 0 ? BYTES_MIN : b->cap;
    if (n <= b->cap - b->size) return true;
    while (cap - b->size < n)
        cap *= 2;
    uint8_t *grown = realloc(b->data, cap);
    if (grown == NULL) return false;
    b->data = grown;
    b->cap = cap;
    return true;
}

void velum__bytes_free(velum__bytes *b) {
    free(b->data);
    *b = (velum__bytes){NULL, 0, 0};
}

/* ---- what the state, its server and its commands ask of the node ---- */

static uint64_t unix_ms(void *owner) {
    velum_kv_node *node = owner;
    return node->config.unix_ms(node->config.owner);
}

static void on_writes(void *owner, const velum_kv_record *record) {
    velum_kv_watches_writes(((velum_kv_node *)owner)->watches, record);
}

static void on_wrote(void *owner, const velum_kv_record *record, bool own) {
    velum_kv_node *node = owner;
    velum_kv_watches_wrote(node->watches, record);
    if (own) velum_kv_peers_wrote(node->peers, record);
}

static void on_publish(void *owner, velum_kv_bytes channel, velum_kv_bytes message) {
    velum_kv_node *node = owner;
    velum_kv_published m = {channel, message};
    size_t size = VELUM_HEADER_BYTES + 2u + channel.size + message.size;
    uint8_t *frame;
    if (velum_kv_peers_get_figures(node->peers).peers == 0) return;
    frame = malloc(size);
    if (frame == NULL) return;
    int n = velum_wire_put_kv_publish(frame, size, 0, &m);
    if (n > 0) velum_kv_peers_tell(node->peers, frame, (size_t)n);
    free(frame);
}

static uint64_t on_written(void *owner) {
    return velum_kv_peers_sequence(((velum_kv_node *)owner)->peers);
}

static void on_ask(void *owner, uint64_t written) {
    velum_kv_peers_ask(((velum_kv_node *)owner)->peers, written);
}

static size_t on_heard(void *owner, uint64_t written) {
    return velum_kv_peers_heard(((velum_kv_node *)owner)->peers, written);
}

static size_t on_members(void *owner) {
    return ((velum_kv_node *)owner)->members;
}

static int begin_compaction(void *owner) {
    velum_kv_node *node = owner;
    velum_kv_log *log = velum_kv_state_log(node->state);
    if (log == NULL) return 0;
    int r = velum_kv_log_compact(log);
    if (r < 0) return r;
    node->compacting = (velum_kv_walk){0};
    node->kept_all = false;
    return 0;
}

static size_t on_figures(void *owner, velum_kv_figure *out) {
    velum_kv_node *node = owner;
    velum_kv_node_figures f = velum_kv_node_get_figures(node);
    velum_kv_peers_figures p = velum_kv_peers_get_figures(node->peers);
    const velum_kv_figure all[] = {{"node", node->config.node},
                                   {"members", node->members},
                                   {"peers", f.peers},
                                   {"watches", f.watches},
                                   {"waiting", f.waiting},
                                   {"commands", f.commands},
                                   {"records_in", f.records_in},
                                   {"records_out", f.records_out},
                                   {"records_ahead", p.ahead},
                                   {"records_refused", p.refused},
                                   {"pushes_missed", f.missed},
                                   {"log_refusing", f.refusing},
                                   {"log_damaged", f.found.damaged},
                                   {"log_torn_bytes", f.found.torn_bytes}};
    memcpy(out, all, sizeof all);
    return sizeof all / sizeof *all;
}

/* ---- the log, then peers ---- */

void velum__node_write(velum_kv_node *node, bool sync, velum_kv_log_figures *log) {
    (void)velum_kv_flush_log(node->state, sync, log);
    node->refusing = log->written < log->taken;
    if (!node->refusing) velum_kv_peers_push(node->peers);
}

/* ---- the service ---- */

static bool is_node(uint8_t role) {
    return role == VELUM_ROLE_NODE;
}

static int take_publish(velum_kv_node *node, const velum_frame *frame) {
    velum_kv_published m;
    int n = velum_wire_get_kv_publish(frame->payload, frame->header.length, &m);
    if (n < 0) return n;
    if (node->server != NULL) (void)velum_kv_server_publish(node->server, m.channel, m.message);
    return 0;
}

static int on_frame(void *owner, velum_handle link, uint8_t role, uint16_t id,
                    const velum_frame *frame) {
    velum_kv_node *node = owner;
    uint8_t type = frame->header.type;
    (void)id;
    if (type == VELUM_F_KV_DO || type == VELUM_F_KV_WATCH) {
        if (!is_node(role) && role != VELUM_ROLE_CLIENT) return VELUM_E_UNEXPECTED;
        return type == VELUM_F_KV_DO ? velum__request_frame(node, link, frame)
                                     : velum__watch_frame(node, link, frame);
    }
    if (!is_node(role)) return VELUM_E_UNEXPECTED;
    switch (type) {
    case VELUM_F_KV_RECORDS:
    case VELUM_F_KV_HEARD:
    case VELUM_F_KV_ASK:
    case VELUM_F_KV_LEAVES:
        return velum_kv_peers_frame(node->peers, link, frame);
    case VELUM_F_KV_PUBLISH:
        return take_publish(node, frame);
    default:
        return 1;
    }
}

static void on_ended(void *owner, velum_handle link) {
    velum_kv_node *node = owner;
    velum_kv_peers_ended(node->peers, link);
    velum__requests_end(node, link);
    velum__watches_end(node, link);
}

static bool on_flush(void *owner) {
    velum_kv_node *node = owner;
    velum_kv_log *file = velum_kv_state_log(node->state);
    velum_kv_log_figures log = {0};
    bool more = node->server != NULL && velum_kv_server_flush(node->server);
    if (file != NULL) {
        velum_kv_log_poll(file);
        log = velum_kv_log_get_figures(file);
    }
    velum__node_write(node, velum__requests_want_sync(node, &log), &log);
    if (!node->refusing && velum_kv_peers_send(node->peers)) more = true;
    if (node->requests != NULL) velum__requests_answer(node, &log);
    return velum__watches_tell(node) || more;
}

/* ---- opening ---- */

static void on_wake(velum_watch *watch, uint8_t what) {
    (void)what; /* the round that follows looks at the log */
    velum_port_wake_clear(watch->fd);
}

static void on_deadline(velum_timer *timer, int64_t now_us) {
    (void)timer; /* the same */
    (void)now_us;
}

static int open_waker(velum_kv_node *node) {
    int r = velum_port_wake_open(&node->waker.fd, &node->wake_writer);
    if (r == VELUM_E_UNSUPPORTED) return 0; /* syncs end before they return */
    if (r < 0) return r;
    return velum_watch_add(velum_hub_loop(node->hub), &node->waker);
}

static void set_hooks(velum_kv_node *node) {
    node->hooks = (velum_kv_hooks){
        .owner = node,
        .compact = velum_kv_state_log(node->state) == NULL ? NULL : begin_compaction,
        .figures = on_figures,
        .publish = on_publish,
        .written = on_written,
        .ask = on_ask,
        .heard = on_heard,
        .members = on_members,
    };
}

int velum_kv_node_open(velum_kv_node **out, velum_hub *hub, const velum_kv_node_config *config,
                       const char *path, velum_kv_found *found) {
    velum_kv_node *node = calloc(1, sizeof *node);
    *out = NULL;
    if (node == NULL) return VELUM_E_NOMEM;
    node->hub = hub;
    node->config = *config;
    node->members = 1;
    node->last_request = &node->requests;
    node->wake_writer = VELUM_NO_FD;
    node->waker = (velum_watch){VELUM_NO_FD, VELUM_READABLE, on_wake, node, -1};
    node->timer = (velum_timer){.fired = on_deadline, .owner = node, .slot = -1};
    int r = open_waker(node);
    velum_kv_config state = {.node = config->node,
                             .room_bytes = config->room_bytes,
                             .waker = node->wake_writer,
                             .owner = node,
                             .writes = on_writes,
                             .wrote = on_wrote,
                             .unix_ms = unix_ms};
    if (r == 0) r = velum_kv_state_open(&node->state, &state, path, &node->found);
    if (found != NULL) *found = node->found;
    if (r == 0) r = velum_kv_watches_open(&node->watches, node->state, WATCHES_MAX);
    if (r == 0) r = velum_kv_peers_open(&node->peers, hub, node->state);
    if (r < 0) {
        velum_kv_node_close(node);
        return r;
    }
    set_hooks(node);
    velum_hub_service service = {node, on_frame, on_ended, on_flush};
    velum_hub_set_service(hub, &service);
    *out = node;
    return 0;
}

void velum_kv_node_close(velum_kv_node *node) {
    if (node == NULL) return;
    velum_hub_set_service(node->hub, NULL);
    velum_timer_stop(velum_hub_loop(node->hub), &node->timer);
    velum__requests_end(node, 0);
    velum__watches_end(node, 0);
    velum_kv_server_close(node->server);
    velum_kv_peers_close(node->peers);
    velum_kv_watches_close(node->watches);
    velum_kv_state_close(node->state);
    if (node->waker.slot >= 0) velum_watch_remove(velum_hub_loop(node->hub), &node->waker);
    if (node->waker.fd != VELUM_NO_FD) velum_port_close(node->waker.fd);
    if (node->wake_writer != VELUM_NO_FD) velum_port_close(node->wake_writer);
    free(node);
}

int velum_kv_node_serve(velum_kv_node *node, size_t connections_max, velum_addr *addr) {
    velum_kv_server_config config = {.loop = velum_hub_loop(node->hub),
                                     .state = node->state,
                                     .watches = node->watches,
                                     .hooks = &node->hooks,
                                     .durability = node->config.durability,
                                     .connections_max = connections_max};
    if (node->server != NULL) return VELUM_E_ARGUMENT;
    return velum_kv_server_open(&node->server, &config, addr);
}

velum_kv_state *velum_kv_node_state(velum_kv_node *node) {
    return node->state;
}

/* ---- peers ---- */

int velum_kv_node_join(velum_kv_node *node, velum_handle link, uint16_t id) {
    if (id == 0 || id == node->config.node) return VELUM_E_ARGUMENT;
    return velum_kv_peers_join(node->peers, link, id);
}

void velum_kv_node_part(velum_kv_node *node, velum_handle link) {
    velum_kv_peers_ended(node->peers, link);
}

void velum_kv_node_offer(velum_kv_node *node, uint16_t id) {
    velum_kv_peers_offer(node->peers, id);
}

void velum_kv_node_credit(velum_kv_node *node, uint16_t id) {
    velum_kv_peers_credit(node->peers, id);
    velum_hub_service_due(node->hub);
}

bool velum_kv_node_missed(velum_kv_node *node, uint16_t *id) {
    return velum_kv_peers_missed(node->peers, id);
}

void velum_kv_node_set_members(velum_kv_node *node, size_t members) {
    node->members = members < 1 ? 1 : members;
}

/* ---- care ---- */

static void keep(void *owner, const velum_kv_record *record) {
    velum_kv_node *node = owner;
    velum_kv_log *log = velum_kv_state_log(node->state);
    if (velum_kv_log_get_figures(log).compacting) (void)velum_kv_log_keep(log, record);
}

/* Begins the compaction that makes a broken log whole, unless it is to pause; whether it has. */
static bool heal(velum_kv_node *node) {
    int64_t now_us = velum_port_now_us();
    if (node->heals) { /* and has failed */
        int64_t pause_us = node->heal_pause_us * 2;
        if (pause_us < HEAL_PAUSE_MIN_US) pause_us = HEAL_PAUSE_MIN_US;
        if (pause_us > HEAL_PAUSE_MAX_US) pause_us = HEAL_PAUSE_MAX_US;
        node->heal_pause_us = pause_us;
        node->heal_at_us = now_us + pause_us;
    }
    node->heals = now_us >= node->heal_at_us;
    return node->heals && begin_compaction(node) == 0;
}

/* The log is whole. */
static void note_compacted(velum_kv_node *node) {
    node->compact_over = 0;
    node->heals = false;
    node->heal_at_us = node->heal_pause_us = 0;
}

/* A piece of a compaction, if one is under way or due. True: there is more to do soon. */
static bool compact(velum_kv_node *node) {
    velum_kv_log *log = velum_kv_state_log(node->state);
    if (log == NULL) return false;
    velum_kv_log_figures f = velum_kv_log_get_figures(log);
    if (!f.compacting && f.broken) return heal(node);
    if (!f.compacting) {
        uint64_t over =
            f.live_bytes * 2 > node->compact_over ? f.live_bytes * 2 : node->compact_over;
        if (over < COMPACT_BYTES_MIN) over = COMPACT_BYTES_MIN;
        if (f.file_bytes <= over) return false;
        node->compact_over = f.file_bytes + f.file_bytes / 4; /* should this one fail */
        return begin_compaction(node) == 0;
    }
    if (!node->kept_all) {
        const velum_kv *kv = velum_kv_state_keys(node->state);
        node->kept_all = !velum_kv_step(kv, &node->compacting, KEYS_PER_PIECE, keep, node);
        return true;
    }
    if (velum_kv_log_replace(log, COPY_BYTES) > 0) note_compacted(node);
    return false;
}

/* A piece of the walk that settles and drops tombstones. True: there is more to do soon. */
static bool tend(velum_kv_node *node, uint32_t settle_to, uint32_t drop_to) {
    velum_kv_tended tended = {0};
    if (!node->tends) {
        if (settle_to <= node->settled && drop_to <= node->dropped_to) return false;
        node->tends = true;
        node->tending = (velum_kv_walk){0};
        node->settle_to = settle_to;
        node->drop_to = drop_to;
    }
    if (velum_kv_state_tend(node->state, &node->tending, KEYS_PER_PIECE, node->settle_to,
                            node->drop_to, &tended))
        return true;
    node->tends = false;
    if (node->settle_to > node->settled) node->settled = node->settle_to;
    if (node->drop_to > node->dropped_to) node->dropped_to = node->drop_to;
    return false;
}

bool velum_kv_node_tend(velum_kv_node *node, uint32_t settle_to, uint32_t drop_to) {
    bool expires = velum_kv_state_expire(node->state, KEYS_PER_PIECE);
    bool tends = tend(node, settle_to, drop_to);
    bool compacts = compact(node);
    velum_hub_service_due(node->hub); /* what has expired is told */
    return expires || tends || compacts;
}

void velum_kv_node_mark(velum_kv_node *node, uint32_t mark) {
    velum_kv_state_mark(node->state, mark);
}

uint32_t velum_kv_node_settled(const velum_kv_node *node) {
    return node->settled;
}

velum_kv_node_figures velum_kv_node_get_figures(const velum_kv_node *node) {
    velum_kv_peers_figures peers = velum_kv_peers_get_figures(node->peers);
    velum_kv_log *log = velum_kv_state_log(node->state);
    velum_kv_node_figures f = {
        .keys = velum_kv_get_figures(velum_kv_state_keys(node->state)),
        .found = node->found,
        .peers = peers.peers,
        .watches = velum_kv_watches_count(node->watches),
        .waiting = node->waiting,
        .commands = node->commands,
        .records_in = peers.records_in,
        .records_out = peers.records_out,
        .missed = peers.missed,
        .passed_over = peers.ahead + peers.refused,
        .refusing = node->refusing,
    };
    if (log != NULL) f.log = velum_kv_log_get_figures(log);
    if (node->server != NULL) {
        velum_kv_server_figures server = velum_kv_server_get_figures(node->server);
        f.waiting += server.waiting;
        f.commands += server.commands;
    }
    return f;
}
