/* kv_state.c: see kv_state.h. */
#include "kv_state.h"

#include "velum_opt.h"

#include <stdlib.h>
#include <string.h>

#define COUNTER_BITS 16
#define TIME_MS_MAX  ((UINT64_C(1) << (64 - COUNTER_BITS)) - 1)

/* Of a stamp, 65 s: so much of the end of a log may have been lost with the power. A clock that
 * runs behind its own stamps would make those that were lost a second time, for other records. */
#define LOST_TIME (UINT64_C(1) << 32)

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

velum_kv_stamp velum_kv_state_stamp(velum_kv_state *s) {
    uint64_t time = velum_kv_state_now(s) << COUNTER_BITS;
    s->greatest = time > s->greatest ? time : (s->greatest | 1) + 1; /* even, as all times are */
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
    if (mine.stamp.node == 0) /* a plain line */
        mine.stamp = (velum_kv_stamp){velum_kv_plain_time(s->greatest), s->config.node};
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
    if (s->greatest >> COUNTER_BITS >= velum_kv_state_now(s)) s->greatest += LOST_TIME;
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
    if (s->config.writes != NULL) s->config.writes(s->config.owner, record);
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
    if (record->stamp.node == 0) record->stamp = velum_kv_state_stamp(s);
    if (record->fresh && record->of.node == 0) record->of = record->stamp;
    return put(s, record, true, at);
}

int velum_kv_state_hear(velum_kv_state *s, const velum_kv_record *record) {
    if (is_ahead(s, record->stamp)) return VELUM_E_VERSION_AHEAD;
    heard(s, record->stamp);
    return put(s, record, false, NULL);
}

/* ---- what has expired ---- */

/* Makes the DEL of a key that has expired. All nodes make this same record of that expiry, whoever
 * is first. */
static int end_key(velum_kv_state *s, velum_kv_bytes key, velum_kv_stamp expiry) {
    velum_kv_record over = {.op = VELUM_KV_DEL, .stamp = expiry, .key = key};
    over.stamp.time |= 1;
    return put(s, &over, true, NULL);
}

velum_kv_type velum_kv_state_look(velum_kv_state *s, velum_kv_bytes key, velum_kv_view *view) {
    velum_kv_type type = velum_kv_look(s->kv, key, view);
    if (type == VELUM_KV_NOTHING || view->until_ms == 0) return type;
    if (view->until_ms > velum_kv_state_now(s)) return type;
    if (end_key(s, key, view->expiry) >= 0) return velum_kv_look(s->kv, key, view);
    memset(view, 0, sizeof *view); /* the log takes nothing now: it is gone all the same */
    return VELUM_KV_NOTHING;
}

/* Ends the key that expires first, if it has expired; not if the log takes nothing now. Whether it
 * is ended. */
static bool end_soonest(velum_kv_state *s, uint64_t now) {
    uint8_t name[VELUM_KV_KEY_BYTES_MAX]; /* for the key may move when its value goes */
    velum_kv_due due;
    if (!velum_kv_soonest(s->kv, &due) || due.until_ms > now) return false;
    memcpy(name, due.key.data, due.key.size);
    due.key.data = name;
    return end_key(s, due.key, due.expiry) > 0;
}

bool velum_kv_state_expire(velum_kv_state *s, size_t keys_max) {
    uint64_t now = velum_kv_state_now(s);
    velum_kv_due due;
    for (size_t i = 0; i < keys_max; i++)
        if (!end_soonest(s, now)) return false;
    return velum_kv_soonest(s->kv, &due) && due.until_ms <= now;
}

size_t velum_kv_state_count(velum_kv_state *s) {
    uint64_t now = velum_kv_state_now(s);
    while (end_soonest(s, now))
        continue;
    return velum_kv_get_figures(s->kv).keys - velum_kv_expired(s->kv, now);
}

/* ---- tombstones ---- */

void velum_kv_state_mark(velum_kv_state *s, uint32_t mark) {
    velum_kv_mark(s->kv, mark);
}

bool velum_kv_state_tend(velum_kv_state *s, velum_kv_walk *walk, size_t keys_max,
                         uint32_t settle_to, uint32_t drop_to, velum_kv_tended *tended) {
    return velum_kv_tend(s->kv, walk, keys_max, settle_to, drop_to, tended);
}
