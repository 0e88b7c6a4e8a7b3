/* kv_state.c: see kv_state.h. */
#include "kv_state.h"

#include "velum_opt.h"

#include <stdlib.h>

#define COUNTER_BITS 16
#define TIME_MS_MAX  ((UINT64_C(1) << (64 - COUNTER_BITS)) - 1)

struct velum_kv_state {
    velum_kv_config config;
    velum_kv *kv;
    velum_kv_log *log;
    uint64_t greatest; /* stamp: of all that was made or heard here */
    int error;         /* of reading the log */
};

/* ---- the clock ---- */

uint64_t velum_kv_state_now(const velum_kv_state *s) {
    uint64_t now = s->config.unix_ms(s->config.owner);
    return now < TIME_MS_MAX ? now : TIME_MS_MAX;
}

static velum_kv_stamp next_stamp(velum_kv_state *s) {
    uint64_t time = velum_kv_state_now(s) << COUNTER_BITS;
    s->greatest = time > s->greatest ? time : s->greatest + 1;
    return (velum_kv_stamp){.time = s->greatest, .node = s->config.node};
}

static bool is_ahead(const velum_kv_state *s, velum_kv_stamp stamp) {
    return stamp.time >> COUNTER_BITS > velum_kv_state_now(s) + VELUM_KV_AHEAD_MS;
}

static void heard(velum_kv_state *s, velum_kv_stamp stamp) {
    if (stamp.time > s->greatest) s->greatest = stamp.time;
}

/* ---- opening ---- */

/* A record of the log: what was written here before, even if the clock has been set back since. */
static void remember(void *owner, const velum_kv_record *record, uint64_t offset) {
    velum_kv_state *s = owner;
    velum_kv_record mine = *record;
    (void)offset;
    if (s->error != 0) return;
    if (mine.stamp.node == 0) mine.stamp = next_stamp(s);
    heard(s, mine.stamp);
    int r = velum_kv_merge(s->kv, &mine);
    if (r < 0) s->error = r;
}

int velum_kv_state_open(velum_kv_state **out, const velum_kv_config *config, const char *path,
                        velum_kv_found *found) {
    velum_kv_state *s = calloc(1, sizeof *s);
    *out = NULL;
    if (s == NULL) return VELUM_E_NOMEM;
    s->config = *config;
    int r = velum_kv_open(&s->kv, config->room_bytes);
    if (r == VELUM_OK && path != NULL)
        r = velum_kv_log_open(&s->log, path, s->config.waker, remember, s, found);
    if (r == VELUM_OK) r = s->error;
    if (r < 0) {
        velum_kv_state_close(s);
        return r;
    }
    *out = s;
    return VELUM_OK;
}

void velum_kv_state_close(velum_kv_state *s) {
    if (s == NULL) return;
    velum_kv_log_close(s->log);
    velum_kv_close(s->kv);
    free(s);
}

const velum_kv *velum_kv_state_keys(const velum_kv_state *s) {
    return s->kv;
}

velum_kv_log *velum_kv_state_log(velum_kv_state *s) {
    return s->log;
}

uint16_t velum_kv_state_node(const velum_kv_state *s) {
    return s->config.node;
}

/* ---- writing ---- */

/* Into the log, then into memory; out of the log again if it is nothing new there. */
static int put(velum_kv_state *s, const velum_kv_record *record, bool own, uint64_t *at) {
    uint64_t before = 0, end = 0;
    int r = VELUM_OK;
    if (s->log != NULL) {
        before = velum_kv_log_get_figures(s->log).taken;
        r = velum_kv_log_append(s->log, record, &end);
    }
    if (r < 0) return r == VELUM_E_FULL ? VELUM_E_NO_SPACE : r;
    r = velum_kv_merge(s->kv, record);
    if (r > 0) {
        if (at != NULL) *at = end;
        s->config.wrote(s->config.owner, record, own);
    } else if (s->log != NULL) {
        velum_kv_log_take_back(s->log, before);
    }
    return r;
}

int velum_kv_state_write(velum_kv_state *s, velum_kv_record *record, uint64_t *at) {
    if (record->stamp.node == 0) record->stamp = next_stamp(s);
    return put(s, record, true, at);
}

int velum_kv_state_hear(velum_kv_state *s, const velum_kv_record *record) {
    if (is_ahead(s, record->stamp)) return VELUM_E_VERSION_AHEAD;
    heard(s, record->stamp);
    return put(s, record, false, NULL);
}

/* ---- looking ---- */

velum_kv_type velum_kv_state_look(velum_kv_state *s, velum_kv_bytes key, velum_kv_view *view) {
    velum_kv_type type = velum_kv_look(s->kv, key, view);
    if (type == VELUM_KV_NOTHING || view->until_ms == 0) return type;
    if (view->until_ms > velum_kv_state_now(s)) return type;
    /* All nodes make this same record of that expiry, whoever is first. */
    velum_kv_record over = {.op = VELUM_KV_DEL, .stamp = view->expiry, .key = key};
    over.stamp.time++;
    if (put(s, &over, true, NULL) < 0) return VELUM_KV_NOTHING;
    return velum_kv_look(s->kv, key, view);
}
