/* kv_commands.h: the commands of Redis, done on a node's state.
 *
 * Owns: what each command takes, does and answers, in Redis's own words, and what one connection
 * has been told (its protocol version, its name). Refuses to know: sockets, logs, peers; commands
 * of subscribers (SUBSCRIBE and others), which the hub answers itself. docs/kv.md, section 5, says
 * where merging makes a command mean something else than on one Redis.
 *
 * How: one table of commands, sorted by name; a command reads through velum_kv_state_look, and
 * writes records through velum_kv_state_write. If a write fails half-way, what was written stays,
 * and the reply is an error.
 */
#ifndef VELUM_KV_COMMANDS_H
#define VELUM_KV_COMMANDS_H

#include "kv_state.h"
#include "resp.h"

#define VELUM_KV_CLIENT_NAME_BYTES_MAX 64u

/* A figure of VELUM.STAT. */
typedef struct {
    const char *name;
    uint64_t value;
} velum_kv_figure;

#define VELUM_KV_FIGURES_MAX 32u /* of the node */

/* What commands ask of the node they run on. */
typedef struct {
    void *owner;
    /* Begins to compact the log; NULL: nothing does. As velum_kv_log_compact. */
    int (*compact)(void *owner);
    /* Writes the node's own figures, VELUM_KV_FIGURES_MAX at most; how many. NULL: none. */
    size_t (*figures)(void *owner, velum_kv_figure *out);

    /* ---- peers: for connections; NULL where there are none ---- */

    /* Passes on what was published here. */
    void (*publish)(void *owner, velum_kv_bytes channel, velum_kv_bytes message);
    /* How many records were written here so far: the number of the last one. */
    uint64_t (*written)(void *owner);
    /* Somebody waits until peers have all records up to that number: ask them to say so. */
    void (*ask)(void *owner, uint64_t written);
    /* How many peers are known to have all records up to that number in memory. */
    size_t (*heard)(void *owner, uint64_t written);
    /* How many members there are, this one included. */
    size_t (*members)(void *owner);
} velum_kv_hooks;

/* What a connection was told; zeros, and an id, when it is new. */
typedef struct {
    uint64_t id;
    const velum_kv_hooks *hooks; /* of the node; NULL: none */
    uint8_t version;             /* of RESP: 2 or 3; 0 is 2 */
    bool quits;                  /* to be closed when its replies are sent */
    bool subscribed;             /* in version 2 few commands are taken then */
    uint8_t name_size;
    char name[VELUM_KV_CLIENT_NAME_BYTES_MAX];
} velum_kv_client;

/* Does one command, 1 argument or more, and writes its reply. 1: done; *at is then where the last
 * record that it wrote ends in the log, and unchanged if it wrote none. 0: it is a command for the
 * hub; nothing was written. */
int velum_kv_command(velum_kv_state *state, velum_kv_client *client, const velum_resp_arg *args,
                     size_t count, velum_resp_writer *out, uint64_t *at);

#endif
