/* kv_node_internal.h: what the files of a node's state share, and nobody else.
 *
 *   kv_node.c           opening, the service of the hub, peers, background work, figures
 *   kv_node_requests.c  requests of links and of this program, and when each is answered
 *   kv_node_watches.c   watches of links and of this program
 */
#ifndef VELUM_KV_NODE_INTERNAL_H
#define VELUM_KV_NODE_INTERNAL_H

#include "kv_node.h"
#include "kv_peers.h"

/* Bytes that grow. */
typedef struct {
    uint8_t *data;
    size_t size, cap;
} velum__bytes;

/* A request that is not answered yet. */
typedef struct velum__request velum__request;

/* A watch of a link, or of this program. */
typedef struct velum__watcher velum__watcher;

struct velum_kv_node {
    velum_hub *hub;
    velum_kv_node_config config;
    velum_kv_state *state;
    velum_kv_peers *peers;
    velum_kv_watches *watches;
    velum_kv_server *server; /* or NULL */
    velum_kv_hooks hooks;    /* of the server and of commands */
    size_t members;
    velum_kv_found found;
    uint64_t commands; /* of links and of this program */
    bool refusing;     /* the log could not be written last time */

    velum_watch waker; /* a sync has ended */
    velum_fd wake_writer;
    velum_timer timer; /* the next deadline of a request */

    velum__request *requests, **last_request; /* in the order in which they came */
    size_t waiting;
    velum_resp_arg args[VELUM_RESP_ARGS_MAX];

    velum__watcher *watchers;

    velum_kv_walk compacting; /* where the compaction that is under way is */
    bool kept_all;            /* it has passed all keys */
    uint64_t compact_over;    /* bytes of the log, over which the next one begins */
    bool heals;            /* it is to make a broken log whole; whether it has is not known yet */
    int64_t heal_at_us;    /* when the next such one may begin */
    int64_t heal_pause_us; /* after the last one that has failed; 0: none has */
    velum_kv_walk tending; /* the same of the walk that settles and drops */
    bool tends;
    uint32_t settle_to, drop_to;  /* of that walk */
    uint32_t settled, dropped_to; /* of the last one that is complete */
};

/* Room for n bytes more; false: no memory. */
bool velum__bytes_room(velum__bytes *b, size_t n);
void velum__bytes_free(velum__bytes *b);

/* ---- kv_node.c ---- */

/* Writes the log, if need be with a sync, and lets what is new leave to the peers. */
void velum__node_write(velum_kv_node *node, bool sync, velum_kv_log_figures *log);

/* ---- kv_node_requests.c ---- */

/* KV_DO, as velum_hub_service's frame. */
int velum__request_frame(velum_kv_node *node, velum_handle link, const velum_frame *frame);
/* Whether a request waits for the disk. */
bool velum__requests_want_sync(const velum_kv_node *node, const velum_kv_log_figures *log);
/* Answers all that are as durable as they are to be, or will be. */
void velum__requests_answer(velum_kv_node *node, const velum_kv_log_figures *log);
/* The link is over, or the node closes (link 0: all). */
void velum__requests_end(velum_kv_node *node, velum_handle link);

/* ---- kv_node_watches.c ---- */

/* KV_WATCH, as velum_hub_service's frame. */
int velum__watch_frame(velum_kv_node *node, velum_handle link, const velum_frame *frame);
/* Tells watches what has changed. True: there is more to tell at once. */
bool velum__watches_tell(velum_kv_node *node);
void velum__watches_end(velum_kv_node *node, velum_handle link); /* 0: all */

#endif
