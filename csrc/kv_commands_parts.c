/* kv_commands_parts.c: sets and hashes.
 *
 * Owns: SADD to HDEL. How: an element or field is a cell of its own; a set or hash is there while
 * one of them is visible.
 */
#include "kv_commands_internal.h"

#define ADDITIONS_MAX                                                                              \
    64u /* nodes that have added one element; more are removed in several rounds */

/* Looks at a key that has to be of this type, or nothing; false: an error was answered. */
static bool look(velum__kv_call *call, velum_kv_type type, velum_kv_bytes *key,
                 velum_kv_view *view) {
    if (!velum__kv_key(call, 1, key)) return false;
    velum_kv_type found = velum_kv_state_look(call->state, *key, view);
    if (found == VELUM_KV_NOTHING || found == type) return true;
    velum__kv_wrong_type(call);
    return false;
}

/* Whether the arguments from `first` on, each `step`-th, can be parts; else an error is answered.
 */
static bool are_parts(velum__kv_call *call, size_t first, size_t step) {
    for (size_t i = first; i < call->count; i += step) {
        if (call->args[i].size > VELUM_KV_PART_BYTES_MAX) {
            velum_resp_error(call->out, "an element or field has 1024 bytes at most");
            return false;
        }
    }
    return true;
}

/* ---- sets ---- */

void velum__kv_sadd(velum__kv_call *call) {
    velum_kv_bytes key;
    velum_kv_view view;
    velum_kv_stamp at;
    int64_t added = 0;
    if (!look(call, VELUM_KV_MEMBERS, &key, &view) || !are_parts(call, 2, 1)) return;
    for (size_t i = 2; i < call->count; i++) {
        velum_kv_bytes element = velum__kv_bytes(call->args[i]);
        if (velum_kv_member(velum_kv_state_keys(call->state), key, element, &at)) continue;
        velum_kv_record add = {.op = VELUM_KV_ADD, .key = key, .part = element};
        if (!velum__kv_write(call, add)) return;
        added++;
    }
    velum_resp_integer(call->out, added);
}

int velum__kv_remove_element(velum__kv_call *call, velum_kv_bytes key, velum_kv_bytes element) {
    velum_kv_stamp at[ADDITIONS_MAX];
    const velum_kv *keys = velum_kv_state_keys(call->state);
    size_t count = velum_kv_additions(keys, key, element, at, ADDITIONS_MAX);
    if (count == 0) return 0;
    while (count > 0) {
        size_t now = count < ADDITIONS_MAX ? count : ADDITIONS_MAX;
        for (size_t i = 0; i < now; i++) {
            velum_kv_record record = {
                .op = VELUM_KV_REMOVE, .of = at[i], .key = key, .part = element};
            if (!velum__kv_write(call, record)) return -1;
        }
        count = velum_kv_additions(keys, key, element, at, ADDITIONS_MAX);
    }
    return 1;
}

void velum__kv_srem(velum__kv_call *call) {
    velum_kv_bytes key;
    velum_kv_view view;
    int64_t removed = 0;
    if (!look(call, VELUM_KV_MEMBERS, &key, &view)) return;
    for (size_t i = 2; i < call->count; i++) {
        int r = velum__kv_remove_element(call, key, velum__kv_bytes(call->args[i]));
        if (r < 0) return;
        removed += r;
    }
    if (removed > 0 && !velum__kv_emptied(call, key)) return;
    velum_resp_integer(call->out, removed);
}

static void tell_element(void *owner, velum_kv_bytes part, velum_kv_bytes value) {
    (void)value;
    velum_resp_bulk(owner, part.data, part.size);
}

void velum__kv_smembers(velum__kv_call *call) {
    velum_kv_bytes key;
    velum_kv_view view;
    if (!look(call, VELUM_KV_MEMBERS, &key, &view)) return;
    velum_resp_set(call->out, view.count);
    velum_kv_parts(velum_kv_state_keys(call->state), key, tell_element, call->out);
}

void velum__kv_sismember(velum__kv_call *call) {
    velum_kv_bytes key;
    velum_kv_view view;
    velum_kv_stamp at;
    if (!look(call, VELUM_KV_MEMBERS, &key, &view)) return;
    const velum_kv *keys = velum_kv_state_keys(call->state);
    velum_resp_integer(call->out, velum_kv_member(keys, key, velum__kv_bytes(call->args[2]), &at));
}

void velum__kv_scard(velum__kv_call *call) {
    velum_kv_bytes key;
    velum_kv_view view;
    if (look(call, VELUM_KV_MEMBERS, &key, &view))
        velum_resp_integer(call->out, (int64_t)view.count);
}

/* ---- hashes ---- */

void velum__kv_hset(velum__kv_call *call) {
    velum_kv_bytes key;
    velum_kv_view view;
    int64_t added = 0;
    if (call->count % 2 != 0) {
        velum_resp_error(call->out, "wrong number of arguments for 'hset' command");
        return;
    }
    if (!look(call, VELUM_KV_FIELDS, &key, &view) || !are_parts(call, 2, 2)) return;
    for (size_t i = 2; i < call->count; i += 2) {
        velum_kv_bytes field = velum__kv_bytes(call->args[i]);
        velum_kv_record record = {.op = VELUM_KV_FIELD,
                                  .key = key,
                                  .part = field,
                                  .value = velum__kv_bytes(call->args[i + 1])};
        added += velum_kv_field(velum_kv_state_keys(call->state), key, field).data == NULL;
        if (!velum__kv_write(call, record)) return;
    }
    velum_resp_integer(call->out, added);
}

void velum__kv_hget(velum__kv_call *call) {
    velum_kv_bytes key;
    velum_kv_view view;
    if (!look(call, VELUM_KV_FIELDS, &key, &view)) return;
    const velum_kv *keys = velum_kv_state_keys(call->state);
    velum_kv_bytes value = velum_kv_field(keys, key, velum__kv_bytes(call->args[2]));
    if (value.data == NULL) {
        velum_resp_null(call->out);
    } else {
        velum_resp_bulk(call->out, value.data, value.size);
    }
}

static void tell_field(void *owner, velum_kv_bytes part, velum_kv_bytes value) {
    velum_resp_bulk(owner, part.data, part.size);
    velum_resp_bulk(owner, value.data, value.size);
}

void velum__kv_hgetall(velum__kv_call *call) {
    velum_kv_bytes key;
    velum_kv_view view;
    if (!look(call, VELUM_KV_FIELDS, &key, &view)) return;
    velum_resp_map(call->out, view.count);
    velum_kv_parts(velum_kv_state_keys(call->state), key, tell_field, call->out);
}

void velum__kv_hdel(velum__kv_call *call) {
    velum_kv_bytes key;
    velum_kv_view view;
    int64_t removed = 0;
    if (!look(call, VELUM_KV_FIELDS, &key, &view)) return;
    for (size_t i = 2; i < call->count; i++) {
        velum_kv_bytes field = velum__kv_bytes(call->args[i]);
        if (velum_kv_field(velum_kv_state_keys(call->state), key, field).data == NULL) continue;
        velum_kv_record record = {.op = VELUM_KV_UNFIELD, .key = key, .part = field};
        if (!velum__kv_write(call, record)) return;
        removed++;
    }
    if (removed > 0 && !velum__kv_emptied(call, key)) return;
    velum_resp_integer(call->out, removed);
}
