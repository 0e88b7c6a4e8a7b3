/* kv_commands_internal.h: what the files of commands share: one call of one command.
 *
 * kv_commands.c has the table and connections, kv_commands_bytes.c strings and counters,
 * kv_commands_keys.c whole keys and their expiry, kv_commands_parts.c sets and hashes,
 * kv_commands_velum.c what Redis does not have.
 */
#ifndef VELUM_KV_COMMANDS_INTERNAL_H
#define VELUM_KV_COMMANDS_INTERNAL_H

#include "kv_commands.h"

typedef struct {
    velum_kv_state *state;
    velum_kv_client *client;
    const velum_resp_arg *args; /* the command's name is the first */
    size_t count;
    velum_resp_writer *out;
    uint64_t *at;
} velum__kv_call;

typedef void velum__kv_do(velum__kv_call *call);

/* ---- arguments ---- */

/* The i-th argument as a key; false, and an error is answered, if it can be none. */
bool velum__kv_key(velum__kv_call *call, size_t i, velum_kv_bytes *key);
/* An integer as Redis reads it: no spaces, no plus, no leading zeros. */
bool velum__kv_integer(velum_resp_arg arg, int64_t *value);
/* Whether an argument is this word of lower-case letters, in any case. */
bool velum__kv_is(velum_resp_arg arg, const char *word);

static inline velum_kv_bytes velum__kv_bytes(velum_resp_arg arg) {
    return (velum_kv_bytes){.data = arg.data, .size = arg.size};
}

/* ---- replies ---- */

void velum__kv_syntax(velum__kv_call *call);      /* syntax error */
void velum__kv_wrong_type(velum__kv_call *call);  /* WRONGTYPE */
void velum__kv_not_integer(velum__kv_call *call); /* not an integer or out of range */
/* Writes a number in decimal, 20 characters at most; how many. */
size_t velum__kv_digits(int64_t value, char *out);
/* A decimal number as a bulk string. */
void velum__kv_bulk_integer(velum__kv_call *call, int64_t value);

/* ---- writing ---- */

/* Writes a record of this node's; false, and an error is answered, if that fails. */
bool velum__kv_write(velum__kv_call *call, velum_kv_record record);
/* A DEL. */
bool velum__kv_delete(velum__kv_call *call, velum_kv_bytes key);
/* What was the last part of a key is gone: its expiry must not outlive it. */
bool velum__kv_emptied(velum__kv_call *call, velum_kv_bytes key);

/* A time from now on, or a unix time (`from_now` false), of so many units; false, and an error is
 * answered, if it is no time to come that can be told ("invalid expire time in '...' command"). */
bool velum__kv_until(velum__kv_call *call, const char *command, int64_t amount, int64_t unit_ms,
                     bool from_now, uint64_t *until_ms);
/* Whether there is an expiry option at args[i], with a word behind it. */
bool velum__kv_is_expiry(const velum__kv_call *call, size_t i);
/* Reads the expiry options at args[*i] if there is one: EX, PX, EXAT, PXAT. 1: *until_ms; 0: it is
 * something else; -1: an error was answered. */
int velum__kv_expiry(velum__kv_call *call, size_t *i, const char *command, uint64_t *until_ms);

/* ---- strings and counters ---- */

velum__kv_do velum__kv_get, velum__kv_set, velum__kv_setnx, velum__kv_setex, velum__kv_psetex,
    velum__kv_getdel, velum__kv_getex, velum__kv_mget, velum__kv_mset, velum__kv_append,
    velum__kv_strlen, velum__kv_incr, velum__kv_decr, velum__kv_incrby, velum__kv_decrby;

/* ---- keys ---- */

velum__kv_do velum__kv_del, velum__kv_exists, velum__kv_type, velum__kv_expire, velum__kv_pexpire,
    velum__kv_expireat, velum__kv_pexpireat, velum__kv_ttl, velum__kv_pttl, velum__kv_persist,
    velum__kv_keys, velum__kv_scan, velum__kv_dbsize, velum__kv_flushdb;

/* ---- sets and hashes ---- */

velum__kv_do velum__kv_sadd, velum__kv_srem, velum__kv_smembers, velum__kv_sismember,
    velum__kv_scard, velum__kv_hset, velum__kv_hget, velum__kv_hgetall, velum__kv_hdel;

/* Removes every addition of an element that is visible here. 1: it was there; 0: it was not; -1: an
 * error was answered. */
int velum__kv_remove_element(velum__kv_call *call, velum_kv_bytes key, velum_kv_bytes element);

/* ---- Velum's own ---- */

velum__kv_do velum__kv_velum_put, velum__kv_velum_get, velum__kv_velum_cas, velum__kv_velum_replace,
    velum__kv_velum_stat, velum__kv_velum_compact;

#endif
