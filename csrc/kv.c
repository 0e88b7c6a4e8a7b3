/* kv.c: records merged into keys, and tombstones dropped.
 *
 * Owns: which records may be, which of two bases or times of expiry is the later, and the figures.
 * Refuses to know: how keys and cells lie in memory (kv_keys.c, kv_cells.c). How: what is counted
 * of a key is taken out of the figures before it changes and put back after; whatever could fail
 * comes before the first change.
 */
#include "kv_internal.h"

#include "velum_port.h"

#include <stdlib.h>
#include <string.h>

/* ---- open, close, figures ---- */

int velum_kv_open(velum_kv **out, size_t room_bytes) {
    velum_kv *kv = calloc(1, sizeof *kv);
    int err = VELUM_E_NOMEM;
    if (kv == NULL) return VELUM_E_NOMEM;
    kv->tree = calloc(1, sizeof *kv->tree);
    if (kv->tree != NULL && velum__table_open(&kv->table)) {
        err = velum_port_random(kv->table.multipliers, sizeof kv->table.multipliers);
        if (err == 0) err = velum_port_random(&kv->dice, sizeof kv->dice);
    }
    if (err != 0) {
        velum_kv_close(kv);
        return err;
    }
    kv->dice |= 1u; /* never 0, which would stay 0 */
    kv->figures.room = room_bytes;
    *out = kv;
    return 0;
}

void velum_kv_close(velum_kv *kv) {
    if (kv == NULL) return;
    velum__table_close(&kv->table);
    free(kv->tree);
    free(kv);
}

velum_kv_figures velum_kv_get_figures(const velum_kv *kv) {
    return kv->figures;
}

/* ---- what may be ---- */

static bool is_bytes(velum_kv_bytes bytes, size_t max) {
    return bytes.size <= max && (bytes.size == 0 || bytes.data != NULL);
}

static bool is_stamp(velum_kv_stamp stamp) {
    return stamp.node != 0;
}

static bool is_zero(velum_kv_stamp stamp) {
    return stamp.node == 0 && stamp.time == 0;
}

static bool may_be(const velum_kv_record *r) {
    bool set = r->op == VELUM_KV_SET, field = r->op == VELUM_KV_FIELD;
    bool member = r->op == VELUM_KV_ADD || r->op == VELUM_KV_REMOVE;
    bool part = member || field || r->op == VELUM_KV_UNFIELD;
    if (r->op < VELUM_KV_SET || r->op > VELUM_KV_UNFIELD || !is_stamp(r->stamp)) return false;
    if (r->key.size == 0 || !is_bytes(r->key, VELUM_KV_KEY_BYTES_MAX)) return false;
    if (!is_bytes(r->part, part ? VELUM_KV_PART_BYTES_MAX : 0)) return false;
    if (!is_bytes(r->value, set || field ? VELUM_KV_VALUE_BYTES_MAX : 0)) return false;
    if (r->json && !set) return false;
    if (r->until_ms != 0 && !set && r->op != VELUM_KV_EXPIRE) return false;
    if (r->op == VELUM_KV_COUNT) return is_stamp(r->of) || is_zero(r->of);
    if (r->sum != 0) return false;
    return r->op == VELUM_KV_REMOVE ? is_stamp(r->of) : is_zero(r->of);
}

/* ---- bases ---- */

static bool has_base(const velum__key *k) {
    return !is_zero(k->base);
}

/* Whether a SET or DEL is to stand in the place of the base: by stamps. A DEL by expiry has a stamp
 * of its own making: a SET that has the same one stays. The rest is for stamps that are equal and
 * should not be. Times of expiry have no say: they differ a little from node to node. */
static bool is_later_base(const velum_kv_record *r, const velum__key *k) {
    velum_kv_bytes value = {velum__value_bytes(k), k->value_size};
    int c = velum_kv_compare(r->stamp, k->base);
    if (c == 0) c = (r->op == VELUM_KV_SET) - k->set;
    if (c == 0) c = r->json - k->json;
    return c != 0 ? c > 0 : velum__compare_bytes(r->value, value) > 0;
}

/* Takes the base and the EXPIRE into the figures and sums. */
static void count_in(velum_kv *kv, const velum__key *k) {
    velum_kv_record r;
    uint64_t marks = 0;
    if (velum__base_record(k, &r)) marks ^= velum__mark(k->identity, &r);
    if (velum__expiry_record(k, &r)) marks ^= velum__mark(k->identity, &r);
    velum__flip(kv, k, marks);
    kv->figures.tombstones += has_base(k) && !k->set;
}

/* Takes them out again. */
static void count_out(velum_kv *kv, const velum__key *k) {
    count_in(kv, k);
    kv->figures.tombstones -= 2u * (has_base(k) && !k->set);
}

static void drop_expiry(velum__key *k) {
    memset(&k->expiry, 0, sizeof k->expiry);
    k->expiry_until_ms = 0;
}

static int merge_base(velum_kv *kv, velum__key **at, const velum_kv_record *r) {
    velum_kv_stamp never = {0, 0};
    velum__key *k = *at;
    int err;
    if (!is_later_base(r, k)) return 0;
    count_out(kv, k);
    err = velum__resize_key(kv, at, r->value.size, velum__hidden_bytes(k, r->stamp));
    k = *at;
    if (err < 0) {
        count_in(kv, k);
        return err;
    }
    if (r->value.size > 0) memcpy(velum__value_bytes(k), r->value.data, r->value.size);
    k->set = r->op == VELUM_KV_SET;
    k->json = r->json;
    k->base = r->stamp;
    k->base_until_ms = r->until_ms;
    if (velum_kv_compare(k->expiry, k->base) <= 0) drop_expiry(k);
    count_in(kv, k);
    velum__prune_cells(kv, k, never);
    return 1;
}

static int merge_expiry(velum_kv *kv, velum__key *k, const velum_kv_record *r) {
    if (velum_kv_compare(r->stamp, k->base) <= 0 || velum_kv_compare(r->stamp, k->expiry) <= 0)
        return 0;
    count_out(kv, k);
    k->expiry = r->stamp;
    k->expiry_until_ms = r->until_ms;
    count_in(kv, k);
    return 1;
}

/* ---- merging ---- */

static void raise_latest(velum_kv *kv, velum_kv_stamp stamp) {
    if (velum_kv_compare(stamp, kv->figures.latest) > 0) kv->figures.latest = stamp;
}

int velum_kv_merge(velum_kv *kv, const velum_kv_record *r) {
    velum__key *k;
    bool fresh, visible;
    int changed = 0;
    if (!may_be(r)) return VELUM_E_ARGUMENT;
    k = velum__find(kv, r->key);
    fresh = k == NULL;
    if (fresh) changed = velum__add_key(kv, r->key, r->op == VELUM_KV_SET ? r->value.size : 0, &k);
    if (changed < 0) return changed;
    visible = velum__type(k) != VELUM_KV_NOTHING;
    if (r->op == VELUM_KV_SET || r->op == VELUM_KV_DEL)
        changed = merge_base(kv, &k, r);
    else if (r->op == VELUM_KV_EXPIRE)
        changed = merge_expiry(kv, k, r);
    else
        changed = velum__merge_cell(kv, k, r);
    if (changed < 0) {
        if (fresh) velum__drop_key(kv, k);
        return changed;
    }
    kv->figures.keys -= visible;
    kv->figures.keys += velum__type(k) != VELUM_KV_NOTHING;
    raise_latest(kv, r->stamp);
    raise_latest(kv, r->of);
    return changed;
}

/* ---- tombstones ---- */

/* Whether some node counts from the base. */
static bool is_counted_from(const velum__key *k) {
    velum_kv_bytes none = {NULL, 0};
    const velum__cell *c = velum__cell_from(k->cells, VELUM__COUNT, none, 0);
    for (; c != NULL && c->kind == VELUM__COUNT; c = c->next[0])
        if (velum_kv_compare(c->of, k->base) == 0) return true;
    return false;
}

size_t velum_kv_collect(velum_kv *kv, velum_kv_bytes key, velum_kv_stamp seen) {
    velum__key *k = velum__find(kv, key);
    size_t dropped;
    if (k == NULL) return 0;
    dropped = velum__prune_cells(kv, k, seen);
    count_out(kv, k);
    if (has_base(k) && !k->set && velum_kv_compare(k->base, seen) <= 0 && !is_counted_from(k)) {
        memset(&k->base, 0, sizeof k->base);
        dropped++;
    }
    if (!has_base(k) && k->cells == NULL && velum_kv_compare(k->expiry, seen) <= 0) {
        dropped += !is_zero(k->expiry);
        velum__drop_key(kv, k);
        return dropped;
    }
    count_in(kv, k);
    return dropped;
}
