/* kv_server.h: the key-value state over the Redis protocol: what `--resp PORT` serves.
 *
 * Owns: the port it listens on, its connections with their buffers, and when a reply may leave:
 * once what it acknowledges is as durable as was asked for. Refuses to know: what commands mean
 * (kv_commands.h), how logs are kept, and peers. How: it works inside a loop of somebody else's. A
 * connection's requests are done as they come; then, once a tick, the log is written for all of
 * them together, and replies leave. Where replies wait for a sync, their connection is not read
 * until it has ended: one sync serves all that came while the last one ran.
 *
 * If the log cannot be written a connection that has written something since is told so and closed,
 * for its last replies would not be true; what it wrote stays in memory, and is logged once there
 * is room again. Until then other writes are refused, and reads go on.
 */
#ifndef VELUM_KV_SERVER_H
#define VELUM_KV_SERVER_H

#include "kv_commands.h"
#include "loop.h"

typedef enum {
    VELUM_KV_RAM = 0, /* a reply leaves when its write is in memory */
    VELUM_KV_LOG,     /* in the file: it outlives the process */
    VELUM_KV_FSYNC    /* on disk: it outlives the machine's power */
} velum_kv_durability;

typedef struct velum_kv_server velum_kv_server;

/* Listens on *addr (port 0 picks one, written back) and serves connections_max at most, each one a
 * watch of the loop, and one for the listener; more are closed as they come. The state must outlive
 * the server. Errors of velum_port_listen; NOMEM, FULL. */
int velum_kv_server_open(velum_kv_server **out, velum_loop *loop, velum_kv_state *state,
                         velum_kv_durability durability, size_t connections_max, velum_addr *addr);
void velum_kv_server_close(velum_kv_server *server); /* NULL is nothing */

/* To be called after each tick of the loop, and when a sync has ended. True: there is more to do at
 * once, the next tick must not sleep. */
bool velum_kv_server_flush(velum_kv_server *server);

typedef struct {
    size_t connections;
    uint64_t commands;
} velum_kv_server_figures;
velum_kv_server_figures velum_kv_server_get_figures(const velum_kv_server *server);

#endif
