/* kv_server_internal.h: what the files of the server share, and nobody else.
 *
 *   kv_server.c              connections, their buffers, and when replies leave
 *   kv_server_subscribers.c  who has subscribed to what, and messages
 */
#ifndef VELUM_KV_SERVER_INTERNAL_H
#define VELUM_KV_SERVER_INTERNAL_H

#include "kv_server.h"

typedef struct velum__connection velum__connection;

/* What a connection has subscribed to: a channel, or a pattern of channels. */
typedef struct {
    bool is_pattern;
    size_t size;
    uint8_t name[];
} velum__subscription;

typedef struct velum__subscriber {
    velum__connection *connection;
    struct velum__subscriber *next, *before; /* of all that have subscribed */
    size_t count, room;
    velum__subscription **all;
} velum__subscriber;

typedef struct {
    uint8_t *data;
    size_t room, at, end; /* data[at..end) is in use */
} velum__buffer;

struct velum__connection {
    velum_kv_server *server;
    velum__connection *next, *before; /* of all */
    velum_watch watch;
    velum_kv_client client;
    velum__subscriber *subscriber; /* NULL: to nothing */
    velum_resp_state request;
    velum__buffer in;        /* what has come and is not done */
    velum__buffer out;       /* what is to be sent */
    size_t out_kept;         /* where that of it ends which may be sent: it is durable enough */
    velum__buffer aside;     /* messages to itself while one of its requests is done */
    uint64_t log_at;         /* where the last of its writes ends in the log */
    uint64_t written;        /* the number of the last of them, as of hooks->written */
    int64_t quorum_until_us; /* 0: it does not wait for one */
    size_t wait_peers;       /* WAIT: for so many */
    int64_t wait_until_us;   /* WAIT: until then; 0: for ever */
    bool waits;              /* replies wait for the log, or for peers */
    bool unheard;            /* a majority is not known yet to have what it wrote: QUORUM */
    bool blocks;             /* it is in WAIT */
    bool busy;               /* one of its requests is being done */
    bool ends;               /* it is closed once its replies are sent */
    bool gone;
};

struct velum_kv_server {
    velum_kv_server_config config;
    velum_watch listener;
    velum_timer timer; /* of the next one who has waited for too long */
    velum__connection *first;
    velum__subscriber *subscribers;
    velum_kv_server_figures figures;
    uint64_t next_id;
    velum_resp_arg args[VELUM_RESP_ARGS_MAX];
};

/* Writes behind the connection's replies; while it is `busy`, behind the one that is being made. */
velum_resp_writer velum__message_writer(velum__connection *c);

/* Does SUBSCRIBE, UNSUBSCRIBE, PSUBSCRIBE, PUNSUBSCRIBE, PUBLISH, RESET; false: it is none of
 * these. */
bool velum__subscriber_command(velum__connection *c, const velum_resp_arg *args, size_t count,
                               velum_resp_writer *out);
/* Ends all that it has subscribed to. */
void velum__subscriber_end(velum__connection *c);

#endif
