/* kv_commands_bytes.c: strings, and the counters that strings of digits are.
 *
 * Owns: GET to DECRBY. How: a string is its key's base; INCR and its like write a COUNT from the
 * SET that is there, or from nothing, so that increments of several nodes add up, and anything else
 * that changes a string writes a SET.
 */
#include "kv_commands_internal.h"

#include <stdlib.h>
#include <string.h>

#define DIGITS_MAX 21u /* a sign, and a number of 64 bits */

/* Looks at a key that has to be a string or nothing; false: an error was answered. */
static bool look(velum__kv_call *call, size_t i, velum_kv_bytes *key, velum_kv_view *view) {
    if (!velum__kv_key(call, i, key)) return false;
    velum_kv_type type = velum_kv_state_look(call->state, *key, view);
    if (type == VELUM_KV_NOTHING || type == VELUM_KV_BYTES || type == VELUM_KV_COUNTER) return true;
    velum__kv_wrong_type(call);
    return false;
}

/* Answers with a string's value, or null. */
static void tell(velum__kv_call *call, const velum_kv_view *view) {
    if (view->type == VELUM_KV_BYTES) {
        velum_resp_bulk(call->out, view->value.data, view->value.size);
    } else if (view->type == VELUM_KV_COUNTER) {
        velum__kv_bulk_integer(call, view->sum);
    } else {
        velum_resp_null(call->out);
    }
}

/* Copies a string that is told once something was written: that may take its memory away. The copy
 * is to be freed, and may be NULL; false: an error was answered. */
static bool keep(velum__kv_call *call, velum_kv_view *view, uint8_t **copy) {
    *copy = NULL;
    if (view->type != VELUM_KV_BYTES || view->value.size == 0) return true;
    *copy = malloc(view->value.size);
    if (*copy == NULL) {
        velum_resp_error(call->out, "-OOM no memory for the old value");
        return false;
    }
    memcpy(*copy, view->value.data, view->value.size);
    view->value.data = *copy;
    return true;
}

static bool fits(velum__kv_call *call, size_t size) {
    if (size <= VELUM_KV_VALUE_BYTES_MAX) return true;
    velum_resp_error(call->out, "string exceeds maximum allowed size (1 MiB)");
    return false;
}

static bool write_set(velum__kv_call *call, velum_kv_bytes key, velum_kv_bytes value,
                      uint64_t until_ms) {
    velum_kv_record record = {.op = VELUM_KV_SET, .until_ms = until_ms, .key = key, .value = value};
    return fits(call, value.size) && velum__kv_write(call, record);
}

/* ---- reading ---- */

void velum__kv_get(velum__kv_call *call) {
    velum_kv_bytes key;
    velum_kv_view view;
    if (look(call, 1, &key, &view)) tell(call, &view);
}

void velum__kv_mget(velum__kv_call *call) {
    velum_kv_view view;
    for (size_t i = 1; i < call->count; i++) {
        velum_kv_bytes key;
        if (!velum__kv_key(call, i, &key)) return;
    }
    velum_resp_array(call->out, call->count - 1);
    for (size_t i = 1; i < call->count; i++) {
        velum_kv_state_look(call->state, velum__kv_bytes(call->args[i]), &view);
        tell(call, &view); /* null also for what is no string */
    }
}

void velum__kv_strlen(velum__kv_call *call) {
    velum_kv_bytes key;
    velum_kv_view view;
    if (!look(call, 1, &key, &view)) return;
    char digits[DIGITS_MAX];
    size_t size = view.value.size;
    if (view.type == VELUM_KV_COUNTER) size = velum__kv_digits(view.sum, digits);
    velum_resp_integer(call->out, view.type == VELUM_KV_NOTHING ? 0 : (int64_t)size);
}

/* ---- SET ---- */

typedef struct {
    bool if_missing, if_there, keep, get;
    bool expires;
    uint64_t until_ms;
} set_options;

/* Reads what follows the value; false: an error was answered. */
static bool read_options(velum__kv_call *call, set_options *o) {
    for (size_t i = 3; i < call->count; i++) {
        velum_resp_arg arg = call->args[i];
        int r = 0;
        if (velum__kv_is(arg, "nx") && !o->if_there) {
            o->if_missing = true;
        } else if (velum__kv_is(arg, "xx") && !o->if_missing) {
            o->if_there = true;
        } else if (velum__kv_is(arg, "get")) {
            o->get = true;
        } else if (velum__kv_is(arg, "keepttl") && !o->expires) {
            o->keep = true;
        } else if (!o->keep && !o->expires &&
                   (r = velum__kv_expiry(call, &i, "set", &o->until_ms)) != 0) {
            if (r < 0) return false;
            o->expires = true;
        } else {
            velum__kv_syntax(call);
            return false;
        }
    }
    return true;
}

void velum__kv_set(velum__kv_call *call) {
    velum_kv_bytes key;
    velum_kv_view view;
    set_options o = {.keep = false};
    if (!read_options(call, &o) || !velum__kv_key(call, 1, &key)) return;
    velum_kv_type type = velum_kv_state_look(call->state, key, &view);
    bool is_string = type <= VELUM_KV_COUNTER;
    if (o.get && !is_string) {
        velum__kv_wrong_type(call);
        return;
    }
    bool refused = type == VELUM_KV_NOTHING ? o.if_there : o.if_missing;
    uint64_t until_ms = o.keep && type != VELUM_KV_NOTHING ? view.until_ms : o.until_ms;
    uint8_t *copy = NULL;
    if (o.get && !keep(call, &view, &copy)) return;
    if (refused || write_set(call, key, velum__kv_bytes(call->args[2]), until_ms)) {
        if (o.get) {
            tell(call, &view);
        } else if (refused) {
            velum_resp_null(call->out);
        } else {
            velum_resp_simple(call->out, "OK");
        }
    }
    free(copy);
}

void velum__kv_setnx(velum__kv_call *call) {
    velum_kv_bytes key;
    velum_kv_view view;
    if (!velum__kv_key(call, 1, &key)) return;
    bool missing = velum_kv_state_look(call->state, key, &view) == VELUM_KV_NOTHING;
    if (missing && !write_set(call, key, velum__kv_bytes(call->args[2]), 0)) return;
    velum_resp_integer(call->out, missing);
}

static void set_for(velum__kv_call *call, const char *command, int64_t unit_ms) {
    velum_kv_bytes key;
    int64_t amount;
    uint64_t until_ms;
    if (!velum__kv_integer(call->args[2], &amount)) {
        velum__kv_not_integer(call);
        return;
    }
    if (!velum__kv_until(call, command, amount, unit_ms, true, &until_ms)) return;
    if (!velum__kv_key(call, 1, &key)) return;
    if (write_set(call, key, velum__kv_bytes(call->args[3]), until_ms))
        velum_resp_simple(call->out, "OK");
}

void velum__kv_setex(velum__kv_call *call) {
    set_for(call, "setex", 1000);
}

void velum__kv_psetex(velum__kv_call *call) {
    set_for(call, "psetex", 1);
}

void velum__kv_mset(velum__kv_call *call) {
    if (call->count % 2 == 0) {
        velum_resp_error(call->out, "wrong number of arguments for 'mset' command");
        return;
    }
    for (size_t i = 1; i < call->count; i += 2) {
        velum_kv_bytes key;
        if (!velum__kv_key(call, i, &key) || !fits(call, call->args[i + 1].size)) return;
    }
    for (size_t i = 1; i < call->count; i += 2) {
        velum_kv_bytes key = velum__kv_bytes(call->args[i]);
        if (!write_set(call, key, velum__kv_bytes(call->args[i + 1]), 0)) return;
    }
    velum_resp_simple(call->out, "OK");
}

/* ---- GET and more ---- */

void velum__kv_getdel(velum__kv_call *call) {
    velum_kv_bytes key;
    velum_kv_view view;
    uint8_t *copy;
    if (!look(call, 1, &key, &view) || !keep(call, &view, &copy)) return;
    if (view.type == VELUM_KV_NOTHING || velum__kv_delete(call, key)) tell(call, &view);
    free(copy);
}

void velum__kv_getex(velum__kv_call *call) {
    velum_kv_bytes key;
    velum_kv_view view;
    velum_kv_record record = {.op = VELUM_KV_EXPIRE};
    size_t i = 2;
    uint8_t *copy;
    bool persists = call->count == 3 && velum__kv_is(call->args[2], "persist");
    bool expires = call->count == 4 && velum__kv_is_expiry(call, 2);
    if (call->count > 2 && !persists && !expires) {
        velum__kv_syntax(call);
        return;
    }
    if (!look(call, 1, &key, &view)) return;
    if (view.type == VELUM_KV_NOTHING) {
        velum_resp_null(call->out);
        return;
    }
    if (expires && velum__kv_expiry(call, &i, "getex", &record.until_ms) < 0) return;
    if (!keep(call, &view, &copy)) return;
    record.key = key;
    bool stays = !expires && (!persists || view.until_ms == 0);
    if (stays || velum__kv_write(call, record)) tell(call, &view);
    free(copy);
}

void velum__kv_append(velum__kv_call *call) {
    velum_kv_bytes key;
    velum_kv_view view;
    char digits[DIGITS_MAX];
    if (!look(call, 1, &key, &view)) return;
    velum_kv_bytes before = view.value, after = velum__kv_bytes(call->args[2]);
    if (view.type == VELUM_KV_COUNTER) {
        before.size = velum__kv_digits(view.sum, digits);
        before.data = (const uint8_t *)digits;
    }
    if (view.type == VELUM_KV_NOTHING) before.size = 0;
    size_t size = before.size + after.size;
    if (!fits(call, size)) return;
    uint8_t *both = malloc(size + 1);
    if (both == NULL) {
        velum_resp_error(call->out, "-OOM no memory for the new value");
        return;
    }
    if (before.size > 0) memcpy(both, before.data, before.size);
    if (after.size > 0) memcpy(both + before.size, after.data, after.size);
    velum_kv_bytes value = {.data = both, .size = size};
    if (write_set(call, key, value, view.until_ms)) velum_resp_integer(call->out, (int64_t)size);
    free(both);
}

/* ---- counters ---- */

static void add(velum__kv_call *call, int64_t amount) {
    velum_kv_bytes key;
    velum_kv_view view;
    int64_t now = 0;
    if (!look(call, 1, &key, &view)) return;
    velum_resp_arg text = {.data = view.value.data, .size = view.value.size};
    if (view.type == VELUM_KV_COUNTER) {
        now = view.sum;
    } else if (view.type == VELUM_KV_BYTES && !velum__kv_integer(text, &now)) {
        velum__kv_not_integer(call);
        return;
    }
    if (amount > 0 ? now > INT64_MAX - amount : now < INT64_MIN - amount) {
        velum_resp_error(call->out, "increment or decrement would overflow");
        return;
    }
    velum_kv_record record = {.op = VELUM_KV_COUNT, .key = key};
    velum_kv_own_count(velum_kv_state_keys(call->state), velum_kv_state_node(call->state), &record);
    record.sum = (int64_t)((uint64_t)record.sum + (uint64_t)amount);
    if (velum__kv_write(call, record)) velum_resp_integer(call->out, now + amount);
}

void velum__kv_incr(velum__kv_call *call) {
    add(call, 1);
}

void velum__kv_decr(velum__kv_call *call) {
    add(call, -1);
}

void velum__kv_incrby(velum__kv_call *call) {
    int64_t amount;
    if (velum__kv_integer(call->args[2], &amount)) {
        add(call, amount);
    } else {
        velum__kv_not_integer(call);
    }
}

void velum__kv_decrby(velum__kv_call *call) {
    int64_t amount;
    if (!velum__kv_integer(call->args[2], &amount)) {
        velum__kv_not_integer(call);
    } else if (amount == INT64_MIN) {
        velum_resp_error(call->out, "decrement would overflow");
    } else {
        add(call, -amount);
    }
}
