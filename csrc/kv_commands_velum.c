/* kv_commands_velum.c: what Redis has no command for: versions, siblings, and care.
 *
 * Owns: VELUM.PUT to VELUM.COMPACT. How: a version is the stamp of what is visible; VELUM.CAS
 * compares it with that of this node's copy, which says nothing about what others write meanwhile.
 * Of a value with siblings each one is an element of a set: what two nodes have put at once stays
 * until somebody who has seen both replaces them.
 *
 *   VELUM.PUT key value [JSON] [EX s | PX ms | EXAT s | PXAT ms]   the version
 *   VELUM.GET key                 [type, value, version, until_ms], or null
 *   VELUM.CAS key version value [JSON] [EX ...]   the new version; null: it is another one
 *   VELUM.REPLACE key value       the version; the value has 1 KiB at most
 *   VELUM.STAT                    a map of figures
 *   VELUM.COMPACT                 OK: it has begun
 */
#include "kv_commands_internal.h"
#include "kv_tell.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OWN_FIGURES 15u /* of VELUM.STAT, without the node's */

/* ---- PUT, CAS, GET ---- */

/* Answers with a key's version, or null. */
static void tell_version(velum__kv_call *call, velum_kv_bytes key) {
    velum_kv_view view;
    velum_kv_look(velum_kv_state_keys(call->state), key, &view);
    velum_kv_tell_version(call->out, view.latest);
}

/* Writes args[i] as the key's value, with the options behind it. */
static void put(velum__kv_call *call, velum_kv_bytes key, size_t i, const char *name) {
    velum_kv_record record = {
        .op = VELUM_KV_SET, .key = key, .value = velum__kv_bytes(call->args[i])};
    bool expires = false;
    for (i++; i < call->count; i++) {
        int r = 0;
        if (!record.json && velum__kv_is(call->args[i], "json")) {
            record.json = true;
        } else if (!expires && (r = velum__kv_expiry(call, &i, name, &record.until_ms)) > 0) {
            expires = true;
        } else {
            if (r == 0) velum__kv_syntax(call);
            return;
        }
    }
    if (record.value.size > VELUM_KV_VALUE_BYTES_MAX) {
        velum_resp_error(call->out, "string exceeds maximum allowed size (1 MiB)");
        return;
    }
    if (velum__kv_write(call, record)) tell_version(call, key);
}

void velum__kv_velum_put(velum__kv_call *call) {
    velum_kv_bytes key;
    if (velum__kv_key(call, 1, &key)) put(call, key, 2, "velum.put");
}

void velum__kv_velum_cas(velum__kv_call *call) {
    velum_kv_bytes key;
    velum_kv_stamp version;
    velum_kv_view view;
    if (!velum__kv_key(call, 1, &key)) return;
    if (!velum_kv_get_version(velum__kv_bytes(call->args[2]), &version)) {
        velum_resp_error(call->out, "invalid version");
        return;
    }
    velum_kv_state_look(call->state, key, &view);
    if (velum_kv_compare(view.latest, version) == 0) {
        put(call, key, 3, "velum.cas");
    } else {
        velum_resp_null(call->out);
    }
}

void velum__kv_velum_get(velum__kv_call *call) {
    velum_kv_bytes key;
    velum_kv_view view;
    if (!velum__kv_key(call, 1, &key)) return;
    if (velum_kv_state_look(call->state, key, &view) == VELUM_KV_NOTHING) {
        velum_resp_null_array(call->out);
        return;
    }
    velum_resp_array(call->out, 4);
    velum_kv_tell_type(call->out, &view);
    velum_kv_tell_value(call->out, velum_kv_state_keys(call->state), key, &view);
    velum_kv_tell_version(call->out, view.latest);
    velum_resp_integer(call->out, (int64_t)view.until_ms);
}

/* ---- siblings ---- */

/* The elements of a set but one, copied one behind the other: each its size and its bytes. */
typedef struct {
    velum_kv_bytes except;
    uint8_t *bytes; /* NULL: they are only measured */
    size_t used;
} others;

static void copy_other(void *owner, velum_kv_bytes part, velum_kv_bytes value) {
    others *o = owner;
    (void)value;
    if (part.size == o->except.size &&
        (part.size == 0 || memcmp(part.data, o->except.data, part.size) == 0))
        return;
    if (o->bytes != NULL) {
        memcpy(o->bytes + o->used, &part.size, sizeof part.size);
        memcpy(o->bytes + o->used + sizeof part.size, part.data, part.size);
    }
    o->used += sizeof part.size + part.size;
}

static bool remove_all(velum__kv_call *call, velum_kv_bytes key, const others *o) {
    for (size_t at = 0; at < o->used;) {
        velum_kv_bytes element;
        memcpy(&element.size, o->bytes + at, sizeof element.size);
        element.data = o->bytes + at + sizeof element.size;
        at += sizeof element.size + element.size;
        if (velum__kv_remove_element(call, key, element) < 0) return false;
    }
    return true;
}

void velum__kv_velum_replace(velum__kv_call *call) {
    velum_kv_bytes key;
    velum_kv_view view;
    const velum_kv *keys = velum_kv_state_keys(call->state);
    others o = {.except = velum__kv_bytes(call->args[2])};
    if (!velum__kv_key(call, 1, &key)) return;
    if (o.except.size > VELUM_KV_PART_BYTES_MAX) {
        velum_resp_error(call->out, "a value with siblings has 1024 bytes at most");
        return;
    }
    velum_kv_type type = velum_kv_state_look(call->state, key, &view);
    if (type != VELUM_KV_NOTHING && type != VELUM_KV_MEMBERS) {
        velum__kv_wrong_type(call);
        return;
    }
    velum_kv_parts(keys, key, copy_other, &o);
    if (o.used > 0) {
        o.bytes = malloc(o.used);
        if (o.bytes == NULL) {
            velum_resp_error(call->out, "-OOM no memory for the siblings");
            return;
        }
        o.used = 0;
        velum_kv_parts(keys, key, copy_other, &o);
    }
    velum_kv_record added = {.op = VELUM_KV_ADD, .key = key, .part = o.except};
    if (velum__kv_write(call, added) && remove_all(call, key, &o)) tell_version(call, key);
    free(o.bytes);
}

/* ---- care ---- */

static size_t own_figures(velum__kv_call *call, velum_kv_figure *out) {
    velum_kv_figures keys = velum_kv_get_figures(velum_kv_state_keys(call->state));
    velum_kv_log *log = velum_kv_state_log(call->state);
    velum_kv_log_figures f = {.taken = 0};
    if (log != NULL) f = velum_kv_log_get_figures(log);
    const velum_kv_figure figures[OWN_FIGURES] = {
        {"node", velum_kv_state_node(call->state)},
        {"now_ms", velum_kv_state_now(call->state)},
        {"keys", keys.keys},
        {"tombstones", keys.tombstones},
        {"settled_tombstones", keys.settled},
        {"bytes", keys.bytes},
        {"room_bytes", keys.room},
        {"log", log != NULL},
        {"log_bytes", f.file_bytes},
        {"log_live_bytes", f.live_bytes},
        {"log_unwritten_bytes", f.taken - f.written},
        {"log_unsynced_bytes", f.written - f.synced},
        {"log_syncing", f.syncing},
        {"log_compacting", f.compacting},
        {"log_broken", f.broken},
    };
    memcpy(out, figures, sizeof figures);
    return OWN_FIGURES;
}

void velum__kv_velum_stat(velum__kv_call *call) {
    velum_kv_figure figures[OWN_FIGURES + VELUM_KV_FIGURES_MAX];
    const velum_kv_hooks *hooks = call->client->hooks;
    size_t count = own_figures(call, figures);
    if (hooks != NULL && hooks->figures != NULL)
        count += hooks->figures(hooks->owner, figures + count);
    velum_resp_map(call->out, count);
    for (size_t i = 0; i < count; i++) {
        velum_resp_bulk(call->out, figures[i].name, strlen(figures[i].name));
        velum_resp_integer(call->out, (int64_t)figures[i].value);
    }
}

void velum__kv_velum_compact(velum__kv_call *call) {
    const velum_kv_hooks *hooks = call->client->hooks;
    char text[128];
    if (velum_kv_state_log(call->state) == NULL || hooks == NULL || hooks->compact == NULL) {
        velum_resp_error(call->out, "there is no log that is compacted here");
        return;
    }
    int r = hooks->compact(hooks->owner);
    if (r == VELUM_OK) {
        velum_resp_simple(call->out, "OK");
    } else {
        snprintf(text, sizeof text, "%s compaction: %s", r == VELUM_E_BUSY ? "-BUSY" : "-ERR",
                 velum_strerror(r));
        velum_resp_error(call->out, text);
    }
}
