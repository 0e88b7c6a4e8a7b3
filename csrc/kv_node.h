/* kv_node.h: one node's key-value state, whole: memory and log, peers, watchers, the Redis port.
 *
 * Owns: which of these hears what, requests of links (KV_DO) and of this program, and when each is
 * acknowledged. Refuses to know: members, when to ask whom for what it has: the owner decides, and
 * asks by frames of its own (KV_ASK, KV_LEAVES). How: it is the service of a hub (hub.h): frames
 * come from there, and in each round of its loop, once all that came has been done, the log is
 * written, news leave for the peers, and who has waited for that is answered.
 */
#ifndef VELUM_KV_NODE_H
#define VELUM_KV_NODE_H

#include "hub.h"
#include "kv_server.h"

typedef struct velum_kv_node velum_kv_node;

typedef struct {
    uint16_t node;                  /* this one's id, 1..65535 */
    size_t room_bytes;              /* of keys and cells in memory */
    velum_kv_durability durability; /* of who does not say; without a log RAM, whatever is said */
    void *owner;
    uint64_t (*unix_ms)(void *owner); /* this node's clock, which may be wrong and may jump */
} velum_kv_node_config;

/* Of velum_hub_config: what a node needs beside the connections of its Redis port. */
#define VELUM_KV_NODE_WATCHES 2u

/* Opens the state with its log (`path`; NULL: none) and serves frames of `hub` from now on. Errors
 * of velum_kv_state_open; FULL: the hub has no watch for it. The hub must outlive it. */
int velum_kv_node_open(velum_kv_node **out, velum_hub *hub, const velum_kv_node_config *config,
                       const char *path, velum_kv_found *found);
void velum_kv_node_close(velum_kv_node *node); /* NULL is nothing */

/* Serves the Redis protocol too, at *addr (port 0 picks one, written back). As
 * velum_kv_server_open. */
int velum_kv_node_serve(velum_kv_node *node, size_t connections_max, velum_addr *addr);

velum_kv_state *velum_kv_node_state(velum_kv_node *node);

/* ---- peers ---- */

/* What is written here is pushed over this link from now on, until it ends. `id`: the peer's. */
int velum_kv_node_join(velum_kv_node *node, velum_handle link, uint16_t id);
/* The opposite: nothing is pushed over it any more, and records that come on it are passed over, as
 * those of any link that is not joined. */
void velum_kv_node_part(velum_kv_node *node, velum_handle link);
/* A peer that is joined begins to pull, and: it has all that was here when it last began. Who waits
 * for a majority need not wait for more of it. */
void velum_kv_node_offer(velum_kv_node *node, uint16_t id);
void velum_kv_node_credit(velum_kv_node *node, uint16_t id);
/* How many members there are, this node included: of whom QUORUM wants more than half. */
void velum_kv_node_set_members(velum_kv_node *node, size_t members);
/* A peer that has missed a push since it was last named here (its link's queue was full), or has
 * sent what a settled tombstone hides, and now has to ask for what it lacks; false: none has. */
bool velum_kv_node_missed(velum_kv_node *node, uint16_t *id);

/* ---- requests of this program ---- */

/* Does one RESP request (an array of bulk strings; n bytes, written to). The reply (RESP3) goes to
 * `out`, and *reached says how durable what it wrote is now (0: it wrote nothing). 1: that is
 * all; 0: more was asked for, and velum_kv_node_next will tell of `token`; the hub is woken
 * then. PAYLOAD: it is no request. */
int velum_kv_node_do(velum_kv_node *node, uint8_t durability, uint32_t timeout_ms, uint8_t *request,
                     size_t n, uint64_t token, velum_resp_writer *out, uint8_t *reached);
/* The next request of this program that is as durable as it will be: true, and *token, *reached. */
bool velum_kv_node_next(velum_kv_node *node, uint64_t *token, uint8_t *reached);

/* Brings all that is merged by now to disk; velum_kv_node_next then tells of `token`, with FSYNC,
 * or RAM if the log has failed or there is none. NOMEM. */
int velum_kv_node_sync(velum_kv_node *node, uint64_t token);

/* Begins or ends a watch of this program, flags as in KV_WATCH; one of the same name ends. Errors
 * of velum_kv_watch_begin. */
int velum_kv_node_watch(velum_kv_node *node, uint64_t watch, uint8_t flags, velum_kv_bytes pattern);
/* Room for what a watch of this program may have waiting, bytes; more is missed. */
#define VELUM_KV_WATCH_BYTES_MAX (4u * 1024u * 1024u)
/* The changes of one watch that wait, as the payload of KV_CHANGES: copied to `out`, which has room
 * for VELUM_KV_WATCH_BYTES_MAX; 0 bytes: none. The hub is woken when some come. */
size_t velum_kv_node_changes(velum_kv_node *node, uint64_t *watch, uint8_t *out, size_t room);

/* ---- care ---- */

/* One bounded piece of background work: compaction, and tombstones (velum_kv_tend) up to these
 * marks. True: there is more to do soon. */
bool velum_kv_node_tend(velum_kv_node *node, uint32_t settle_to, uint32_t drop_to);
/* The mark that tombstones get from now on, and the greatest `settle_to` for which all keys were
 * passed by velum_kv_node_tend since. */
void velum_kv_node_mark(velum_kv_node *node, uint32_t mark);
uint32_t velum_kv_node_settled(const velum_kv_node *node);

typedef struct {
    velum_kv_figures keys;
    velum_kv_log_figures log;
    velum_kv_found found; /* at the start */
    size_t peers, watches, waiting;
    uint64_t commands, records_in, records_out, missed; /* missed: pushes that did not fit */
    uint64_t passed_over; /* records of peers: too far ahead of the clock, or no room */
    bool refusing;        /* the log takes nothing now */
} velum_kv_node_figures;
velum_kv_node_figures velum_kv_node_get_figures(const velum_kv_node *node);

#endif
