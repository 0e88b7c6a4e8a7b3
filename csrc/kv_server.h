/* kv_server.h: the key-value state over the Redis protocol: what `--resp PORT` serves.
 *
 * Owns: the port it listens on, its connections with their buffers, what they have subscribed to,
 * and when a reply may leave: once what it acknowledges is as durable as was asked for. Refuses to
 * know: what commands mean (kv_commands.h), how logs are kept, and how peers are reached: that the
 * node says (velum_kv_hooks). How: it works inside a loop of somebody else's. A connection's
 * requests are done as they come; then, once a tick, the log is written for all of them together,
 * and replies leave. Where replies wait for a sync, or for peers, their connection is not read
 * until that has come: one sync serves all that came while the last one ran.
 *
 * If the log cannot be written a connection that has written something since is told so and closed,
 * for its last replies would not be true; what it wrote stays in memory, and is logged once there
 * is room again. Until then other writes are refused, and reads go on. With QUORUM the same happens
 * to who has waited for a majority for too long.
 *
 * Subscribers are told of PUBLISH, here and on peers, and of every change of a key, on the channels
 * __keyspace@0__:KEY and __keyevent@0__:EVENT. One that does not read is closed once it has
 * VELUM_KV_UNREAD_BYTES_MAX to read, as Redis does.
 */
#ifndef VELUM_KV_SERVER_H
#define VELUM_KV_SERVER_H

#include "kv_commands.h"
#include "kv_watch.h"
#include "loop.h"

/* Replies and messages that a client has not read: a reply that would be more is an error, a
 * message closes the connection (Redis: pubsub 32mb 8mb 60). */
#define VELUM_KV_UNREAD_BYTES_MAX (8u * 1024u * 1024u)
#define VELUM_KV_CHANNEL_BYTES_MAX                                                                 \
    (VELUM_KV_KEY_BYTES_MAX + 64u)       /* a name or pattern: of a keyspace event, and more */
#define VELUM_KV_SUBSCRIPTIONS_MAX 1024u /* of a connection: what a message is compared with */
#define VELUM_KV_QUORUM_MS         5000u /* how long QUORUM is waited for unless somebody says */

/* How durable a write is when it is acknowledged; numbers as in KV_DO. */
typedef enum {
    VELUM_KV_RAM = 1, /* in memory */
    VELUM_KV_LOG,     /* in the file: it outlives the process */
    VELUM_KV_FSYNC,   /* on disk: it outlives the machine's power */
    VELUM_KV_QUORUM   /* on disk, and in the memory of more than half of the members, this one
                         included: it outlives the machine */
} velum_kv_durability;

typedef struct velum_kv_server velum_kv_server;

typedef struct {
    velum_loop *loop; /* with room for connections_max watches, 1 more, and 1 timer */
    velum_kv_state *state;
    velum_kv_watches *watches;      /* it becomes their listener */
    const velum_kv_hooks *hooks;    /* of the node (kv_commands.h); NULL: none, without peers */
    velum_kv_durability durability; /* of all replies; without a log RAM */
    size_t connections_max;         /* more are closed as they come */
} velum_kv_server_config;

/* Listens on *addr (port 0 picks one, written back). What the configuration names must outlive the
 * server. Errors of velum_port_listen; NOMEM, FULL. */
int velum_kv_server_open(velum_kv_server **out, const velum_kv_server_config *config,
                         velum_addr *addr);
void velum_kv_server_close(velum_kv_server *server); /* NULL is nothing */

/* To be called after each tick of the loop, once all that came with it was written and published;
 * when a sync has ended; and when peers have confirmed something. True: there is more to do at
 * once, the next tick must not sleep. */
bool velum_kv_server_flush(velum_kv_server *server);

/* Tells the subscribers here of a message that a peer has published; how many they are. (PUBLISH of
 * a connection here goes to both: hooks->publish passes it on.) */
size_t velum_kv_server_publish(velum_kv_server *server, velum_kv_bytes channel,
                               velum_kv_bytes message);

typedef struct {
    size_t connections;
    size_t subscribers; /* of these */
    size_t waiting;     /* whose replies wait for the log or for peers, and those in WAIT */
    uint64_t commands;
} velum_kv_server_figures;
velum_kv_server_figures velum_kv_server_get_figures(const velum_kv_server *server);

/* ---- for whoever answers requests ---- */

/* Puts what the log has taken into the file, and with `sync` begins to bring it to disk; *figures
 * then (zeros without a log). Errors of velum_kv_log_write, velum_kv_log_sync. */
int velum_kv_flush_log(velum_kv_state *state, bool sync, velum_kv_log_figures *figures);

/* Whether more than half of all members have a write, this one and `heard` peers. */
bool velum_kv_is_majority(size_t heard, size_t members);

#endif
