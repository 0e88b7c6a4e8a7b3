/* kv_commands_keys.c: whole keys, whatever they are, and when they expire.
 *
 * Owns: DEL to FLUSHDB. How: a DEL or EXPIRE is a record of its own; KEYS and SCAN walk the table,
 * and a cursor is the place of the walk; what has expired they pass over.
 */
#include "glob.h"
#include "kv_commands_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCAN_KEYS     10u /* that a SCAN passes unless it says COUNT */
#define SCAN_KEYS_MAX 100000u
#define CURSOR_BYTES  24u /* 20 digits and an end */
#define FLUSH_KEYS    256u

static const char *const type_names[] = {"none", "string", "string", "set", "hash"};

/* ---- whole keys ---- */

void velum__kv_del(velum__kv_call *call) {
    velum_kv_view view;
    int64_t count = 0;
    for (size_t i = 1; i < call->count; i++) {
        velum_kv_bytes key = velum__kv_bytes(call->args[i]);
        if (velum_kv_state_look(call->state, key, &view) == VELUM_KV_NOTHING) continue;
        if (!velum__kv_delete(call, key)) return;
        count++;
    }
    velum_resp_integer(call->out, count);
}

void velum__kv_exists(velum__kv_call *call) {
    velum_kv_view view;
    int64_t count = 0;
    for (size_t i = 1; i < call->count; i++) {
        velum_kv_bytes key = velum__kv_bytes(call->args[i]);
        count += velum_kv_state_look(call->state, key, &view) != VELUM_KV_NOTHING;
    }
    velum_resp_integer(call->out, count);
}

void velum__kv_type(velum__kv_call *call) {
    velum_kv_view view;
    velum_kv_bytes key = velum__kv_bytes(call->args[1]);
    velum_resp_simple(call->out, type_names[velum_kv_state_look(call->state, key, &view)]);
}

void velum__kv_dbsize(velum__kv_call *call) {
    velum_resp_integer(call->out, (int64_t)velum_kv_state_count(call->state));
}

/* ---- expiry ---- */

/* NX, XX, GT, LT of an EXPIRE; false: an error was answered. */
static bool read_condition(velum__kv_call *call, char *condition) {
    static const char *const words[] = {"nx", "xx", "gt", "lt"};
    *condition = 0;
    for (size_t i = 3; i < call->count; i++) {
        char found = 0;
        for (size_t w = 0; w < 4; w++) {
            if (velum__kv_is(call->args[i], words[w])) found = words[w][0];
        }
        if (found == 0) {
            velum_resp_error(call->out, "Unsupported option");
            return false;
        }
        if (*condition != 0 && *condition != found) {
            velum_resp_error(call->out, "NX and XX, GT or LT options at the same time are not "
                                        "compatible");
            return false;
        }
        *condition = found;
    }
    return true;
}

static bool holds(char condition, const velum_kv_view *view, uint64_t until_ms) {
    uint64_t before = view->until_ms;
    switch (condition) {
    case 'n':
        return before == 0;
    case 'x':
        return before != 0;
    case 'g':
        return before != 0 && until_ms > before; /* never is later than anything */
    case 'l':
        return before == 0 || until_ms < before;
    default:
        return true;
    }
}

static void expire(velum__kv_call *call, const char *command, int64_t unit_ms, bool from_now) {
    velum_kv_bytes key;
    velum_kv_view view;
    int64_t amount;
    uint64_t until_ms;
    char condition;
    if (!velum__kv_key(call, 1, &key)) return;
    if (!velum__kv_integer(call->args[2], &amount)) {
        velum__kv_not_integer(call);
        return;
    }
    if (!read_condition(call, &condition)) return;
    bool is_over = amount <= 0;
    if (is_over) {
        until_ms = 1;
    } else if (!velum__kv_until(call, command, amount, unit_ms, from_now, &until_ms)) {
        return;
    }
    velum_kv_type type = velum_kv_state_look(call->state, key, &view);
    if (type == VELUM_KV_NOTHING || !holds(condition, &view, until_ms)) {
        velum_resp_integer(call->out, 0);
        return;
    }
    velum_kv_record record = {.op = VELUM_KV_EXPIRE, .until_ms = until_ms, .key = key};
    bool done = until_ms <= velum_kv_state_now(call->state) ? velum__kv_delete(call, key)
                                                            : velum__kv_write(call, record);
    if (done) velum_resp_integer(call->out, 1);
}

void velum__kv_expire(velum__kv_call *call) {
    expire(call, "expire", 1000, true);
}

void velum__kv_pexpire(velum__kv_call *call) {
    expire(call, "pexpire", 1, true);
}

void velum__kv_expireat(velum__kv_call *call) {
    expire(call, "expireat", 1000, false);
}

void velum__kv_pexpireat(velum__kv_call *call) {
    expire(call, "pexpireat", 1, false);
}

static void left(velum__kv_call *call, uint64_t unit_ms) {
    velum_kv_view view;
    velum_kv_bytes key = velum__kv_bytes(call->args[1]);
    if (velum_kv_state_look(call->state, key, &view) == VELUM_KV_NOTHING) {
        velum_resp_integer(call->out, -2);
    } else if (view.until_ms == 0) {
        velum_resp_integer(call->out, -1);
    } else {
        uint64_t left_ms = view.until_ms - velum_kv_state_now(call->state);
        velum_resp_integer(call->out, (int64_t)((left_ms + unit_ms / 2) / unit_ms));
    }
}

void velum__kv_ttl(velum__kv_call *call) {
    left(call, 1000);
}

void velum__kv_pttl(velum__kv_call *call) {
    left(call, 1);
}

void velum__kv_persist(velum__kv_call *call) {
    velum_kv_view view;
    velum_kv_bytes key = velum__kv_bytes(call->args[1]);
    velum_kv_type type = velum_kv_state_look(call->state, key, &view);
    bool had = type != VELUM_KV_NOTHING && view.until_ms != 0;
    velum_kv_record record = {.op = VELUM_KV_EXPIRE, .key = key};
    if (!had || velum__kv_write(call, record)) velum_resp_integer(call->out, had);
}

/* ---- all keys ---- */

/* Keys that are found on a walk, copied one behind the other: each its size and its bytes. */
typedef struct {
    const velum_resp_arg *pattern; /* NULL: all */
    const velum_resp_arg *type;    /* NULL: all */
    uint8_t *bytes;
    size_t used, room, count;
    bool failed;
} found_keys;

static bool is_wanted(const found_keys *f, velum_kv_bytes key, velum_kv_type type) {
    if (f->type != NULL && !velum__kv_is(*f->type, type_names[type])) return false;
    return f->pattern == NULL || velum_glob(f->pattern->data, f->pattern->size, key.data, key.size);
}

static void find_key(void *owner, velum_kv_bytes key, velum_kv_type type, uint64_t until_ms) {
    found_keys *f = owner;
    (void)until_ms;
    size_t need = sizeof(size_t) + key.size;
    if (f->failed || !is_wanted(f, key, type)) return;
    if (f->room - f->used < need) {
        size_t room = 2 * (f->room + need);
        uint8_t *grown = realloc(f->bytes, room);
        f->failed = grown == NULL;
        if (f->failed) return;
        f->bytes = grown;
        f->room = room;
    }
    memcpy(f->bytes + f->used, &key.size, sizeof(size_t));
    memcpy(f->bytes + f->used + sizeof(size_t), key.data, key.size);
    f->used += need;
    f->count++;
}

/* Answers with the keys found as an array. */
static void tell_keys(velum__kv_call *call, const found_keys *f) {
    velum_resp_array(call->out, f->count);
    for (size_t at = 0; at < f->used;) {
        size_t size;
        memcpy(&size, f->bytes + at, sizeof size);
        at += sizeof size;
        velum_resp_bulk(call->out, f->bytes + at, size);
        at += size;
    }
}

void velum__kv_keys(velum__kv_call *call) {
    found_keys f = {.pattern = &call->args[1]};
    velum_kv_walk walk = {0};
    const velum_kv *keys = velum_kv_state_keys(call->state);
    uint64_t now = velum_kv_state_now(call->state);
    while (velum_kv_keys(keys, &walk, SCAN_KEYS_MAX, now, find_key, &f))
        continue;
    if (f.failed) {
        velum_resp_error(call->out, "-OOM no memory for the names of so many keys");
    } else {
        tell_keys(call, &f);
    }
    free(f.bytes);
}

/* Reads MATCH, COUNT and TYPE; false: an error was answered. */
static bool read_scan(velum__kv_call *call, found_keys *f, size_t *keys_max) {
    for (size_t i = 2; i < call->count; i += 2) {
        int64_t count;
        bool last = i + 1 == call->count;
        if (!last && velum__kv_is(call->args[i], "match")) {
            f->pattern = &call->args[i + 1];
        } else if (!last && velum__kv_is(call->args[i], "type")) {
            f->type = &call->args[i + 1];
        } else if (!last && velum__kv_is(call->args[i], "count")) {
            if (!velum__kv_integer(call->args[i + 1], &count)) {
                velum__kv_not_integer(call);
                return false;
            }
            if (count < 1) {
                velum__kv_syntax(call);
                return false;
            }
            *keys_max = count < (int64_t)SCAN_KEYS_MAX ? (size_t)count : SCAN_KEYS_MAX;
        } else {
            velum__kv_syntax(call);
            return false;
        }
    }
    return true;
}

/* A cursor: decimal, of 64 bits. */
static bool read_cursor(velum_resp_arg arg, uint64_t *cursor) {
    *cursor = 0;
    for (size_t i = 0; i < arg.size; i++) {
        unsigned digit = arg.data[i] - (unsigned)'0';
        if (digit > 9 || *cursor > (UINT64_MAX - digit) / 10) return false;
        *cursor = 10 * *cursor + digit;
    }
    return arg.size > 0;
}

void velum__kv_scan(velum__kv_call *call) {
    found_keys f = {.pattern = NULL};
    velum_kv_walk walk;
    char cursor[CURSOR_BYTES];
    size_t keys_max = SCAN_KEYS;
    if (!read_cursor(call->args[1], &walk.place)) {
        velum_resp_error(call->out, "invalid cursor");
        return;
    }
    if (!read_scan(call, &f, &keys_max)) return;
    bool more = velum_kv_keys(velum_kv_state_keys(call->state), &walk, keys_max,
                              velum_kv_state_now(call->state), find_key, &f);
    if (f.failed) {
        velum_resp_error(call->out, "-OOM no memory for the names of so many keys");
    } else {
        velum_resp_array(call->out, 2);
        int n = snprintf(cursor, sizeof cursor, "%" PRIu64, more ? walk.place : 0);
        velum_resp_bulk(call->out, cursor, (size_t)n);
        tell_keys(call, &f);
    }
    free(f.bytes);
}

void velum__kv_flushdb(velum__kv_call *call) {
    const velum_kv *keys = velum_kv_state_keys(call->state);
    velum_kv_walk walk = {0};
    bool more = true;
    if (call->count > 2 || (call->count == 2 && !velum__kv_is(call->args[1], "async") &&
                            !velum__kv_is(call->args[1], "sync"))) {
        velum__kv_syntax(call);
        return;
    }
    while (more) {
        found_keys f = {.pattern = NULL};
        more =
            velum_kv_keys(keys, &walk, FLUSH_KEYS, velum_kv_state_now(call->state), find_key, &f);
        for (size_t at = 0; at < f.used && !f.failed;) {
            velum_kv_bytes key = {.data = f.bytes + at + sizeof key.size};
            memcpy(&key.size, f.bytes + at, sizeof key.size);
            at += sizeof key.size + key.size;
            if (!velum__kv_delete(call, key)) {
                free(f.bytes);
                return;
            }
        }
        free(f.bytes);
        if (f.failed) {
            velum_resp_error(call->out, "-OOM no memory for the names of keys");
            return;
        }
    }
    velum_resp_simple(call->out, "OK");
}
