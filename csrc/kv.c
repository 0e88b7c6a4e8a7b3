/* kv.c: records merged into keys, and tombstones settled and dropped.
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
    velum_kv_mark(kv, 0);
    *out = kv;
    return 0;
}

void velum_kv_close(velum_kv *kv) {
    if (kv == NULL) return;
    velum__table_close(&kv->table);
    velum__expiry_close(&kv->expiry);
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
    if (r->op == VELUM_KV_COUNT) return velum_kv_counts_from(r);
    if (r->sum != 0 || r->fresh) return false;
    return r->op == VELUM_KV_REMOVE ? is_stamp(r->of) : is_zero(r->of);
}

/* ---- bases ---- */

static bool has_base(const velum__key *k) {
    return !is_zero(k->base);
}

/* Whether a SET or DEL is to stand in the place of the base: by stamps. The rest is for stamps that
 * are equal and should not be; there a DEL stays, so that an expiry's ends what has no even stamp.
 * Times of expiry have no say: they differ a little from node to node. */
static bool is_later_base(const velum_kv_record *r, const velum__key *k) {
    velum_kv_bytes value = {velum__value_bytes(k), k->value_size};
    int c = velum_kv_compare(r->stamp, k->base);
    if (c == 0) c = k->set - (r->op == VELUM_KV_SET);
    if (c == 0) c = r->json - k->json;
    return c != 0 ? c > 0 : velum__compare_bytes(r->value, value) > 0;
}

static bool has_expiry(const velum__key *k) {
    return !is_zero(k->expiry);
}

/* Whether an EXPIRE is to stand. */
static bool is_later_expiry(const velum_kv_record *r, const velum__key *k) {
    return velum_kv_compare(r->stamp, k->base) > 0 && velum_kv_compare(r->stamp, k->expiry) > 0;
}

static bool is_deleted(const velum__key *k) {
    return has_base(k) && !k->set;
}

/* Takes the base and the EXPIRE into the sums, or out of them. */
static void flip_key(velum_kv *kv, const velum__key *k) {
    velum_kv_record r;
    uint64_t prints = 0;
    if (!k->settled && velum__base_record(k, &r)) prints ^= velum__print(k->identity, &r);
    if (!k->expiry_settled && velum__expiry_record(k, &r)) prints ^= velum__print(k->identity, &r);
    velum__flip(kv, k, prints);
}

/* Takes them into the figures and sums. */
static void count_in(velum_kv *kv, const velum__key *k) {
    flip_key(kv, k);
    kv->figures.tombstones += is_deleted(k);
    kv->figures.settled += k->settled;
}

/* Takes them out again. */
static void count_out(velum_kv *kv, const velum__key *k) {
    flip_key(kv, k);
    kv->figures.tombstones -= is_deleted(k);
    kv->figures.settled -= k->settled;
}

/* Unsettles the DEL, or else the EXPIRE. */
static void recall(velum_kv *kv, velum__key *k, bool base) {
    if (base ? !k->settled : !k->expiry_settled) return;
    count_out(kv, k);
    if (base)
        k->settled = false;
    else
        k->expiry_settled = false;
    k->mark = kv->mark;
    count_in(kv, k);
    kv->figures.recalled++;
}

void velum__recall_base(velum_kv *kv, velum__key *k) {
    recall(kv, k, true);
}

static void drop_base(velum__key *k) {
    memset(&k->base, 0, sizeof k->base);
    k->settled = false;
}

static void drop_expiry(velum__key *k) {
    memset(&k->expiry, 0, sizeof k->expiry);
    k->expiry_until_ms = 0;
    k->expiry_settled = false;
}

static int merge_base(velum_kv *kv, velum__key **at, const velum_kv_record *r) {
    velum__key *k = *at;
    bool set = r->op == VELUM_KV_SET;
    int err;
    if (!is_later_base(r, k)) {
        if (set || velum_kv_compare(r->stamp, k->base) != 0) velum__recall_base(kv, k);
        return 0;
    }
    count_out(kv, k);
    err = velum__resize_key(kv, at, r->value.size, velum__hidden_bytes(k, r->stamp, set));
    k = *at;
    if (err < 0) {
        count_in(kv, k);
        return err;
    }
    if (r->value.size > 0) memcpy(velum__value_bytes(k), r->value.data, r->value.size);
    k->set = set;
    k->settled = false;
    if (!set) k->mark = kv->mark;
    k->json = r->json;
    k->base = r->stamp;
    k->base_until_ms = r->until_ms;
    if (velum_kv_compare(k->expiry, k->base) <= 0) drop_expiry(k);
    count_in(kv, k);
    velum__prune_cells(kv, k, 0);
    return 1;
}

static int merge_expiry(velum_kv *kv, velum__key *k, const velum_kv_record *r) {
    if (!is_later_expiry(r, k)) {
        if (velum_kv_compare(r->stamp, k->base) <= 0)
            velum__recall_base(kv, k);
        else if (velum_kv_compare(r->stamp, k->expiry) < 0)
            recall(kv, k, false);
        return 0;
    }
    count_out(kv, k);
    k->expiry = r->stamp;
    k->expiry_settled = false;
    k->expiry_until_ms = r->until_ms;
    count_in(kv, k);
    return 1;
}

/* An EXPIRE of a key that shows nothing is like a tombstone, of the age since when it is. `before`:
 * whether the key showed something; `expire`: the EXPIRE has come just now. */
static void age_expiry(velum_kv *kv, velum__key *k, bool before, bool now, bool expire) {
    if (!has_expiry(k)) return;
    if (now && k->expiry_settled) {
        count_out(kv, k);
        k->expiry_settled = false;
        count_in(kv, k);
    }
    if (!now && (before || expire)) k->mark = kv->mark;
}

/* ---- merging ---- */

static void note_expiry(velum_kv *kv, velum__key *k) {
    uint64_t until_ms = velum__ends_at(k);
    if (until_ms != 0 && velum__type(k) == VELUM_KV_NOTHING) until_ms = 0;
    velum__expiry_note(kv, k, until_ms);
}

static void raise_latest(velum_kv *kv, velum_kv_stamp stamp) {
    if (velum_kv_compare(stamp, kv->figures.latest) > 0) kv->figures.latest = stamp;
}

/* Whether a key that has no entry in kv_expiry.c, or is not there (NULL), may need one once the
 * record is merged. What takes away never does: so a DEL has room always. */
static bool needs_entry(const velum__key *k, const velum_kv_record *r) {
    switch (r->op) {
    case VELUM_KV_SET:
        if (k == NULL) return r->until_ms != 0;
        if (!is_later_base(r, k)) return false;
        if (velum_kv_compare(k->expiry, r->stamp) > 0) return k->expiry_until_ms != 0;
        return r->until_ms != 0;
    case VELUM_KV_EXPIRE:
        if (k == NULL || r->until_ms == 0 || !is_later_expiry(r, k)) return false;
        return velum__type(k) != VELUM_KV_NOTHING;
    case VELUM_KV_COUNT:
    case VELUM_KV_ADD:
    case VELUM_KV_FIELD:
        return k != NULL && velum__ends_at(k) != 0;
    default:
        return false;
    }
}

/* Merges a record that may be into its key; NULL: it is not there. */
static int merge_into(velum_kv *kv, velum__key **at, const velum_kv_record *r) {
    velum__key *k = *at;
    bool fresh = k == NULL, before, now;
    int changed = 0;
    if (fresh) changed = velum__add_key(kv, r->key, r->op == VELUM_KV_SET ? r->value.size : 0, &k);
    if (changed < 0) return changed;
    before = velum__type(k) != VELUM_KV_NOTHING;
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
    now = velum__type(k) != VELUM_KV_NOTHING;
    kv->figures.keys -= before;
    kv->figures.keys += now;
    if (changed > 0) age_expiry(kv, k, before, now, r->op == VELUM_KV_EXPIRE);
    *at = k;
    return changed;
}

int velum_kv_merge(velum_kv *kv, const velum_kv_record *r) {
    velum__key *k;
    bool held;
    int changed;
    if (!may_be(r)) return VELUM_E_ARGUMENT;
    k = velum__find(kv, r->key);
    held = (k == NULL || k->due_at == 0) && needs_entry(k, r);
    if (held) {
        int err = velum__expiry_hold(kv);
        if (err < 0) return err;
    }
    changed = merge_into(kv, &k, r);
    if (held) velum__expiry_release(kv);
    if (changed < 0) return changed;
    if (changed > 0) note_expiry(kv, k);
    raise_latest(kv, r->stamp);
    raise_latest(kv, r->of);
    return changed;
}

/* ---- tombstones ---- */

void velum_kv_mark(velum_kv *kv, uint32_t mark) {
    kv->mark = mark > 0 ? mark : 1;
}

/* Settles and drops the DEL, and the EXPIRE of a key that shows nothing. */
static void tend_base(velum_kv *kv, velum__key *k, uint32_t settle_to, uint32_t drop_to,
                      velum_kv_tended *tended) {
    bool idle = has_expiry(k) && velum__type(k) == VELUM_KV_NOTHING;
    if (!is_deleted(k) && !idle) return;
    count_out(kv, k);
    if (k->mark <= settle_to) {
        tended->settled += is_deleted(k) && !k->settled;
        k->settled = is_deleted(k);
        k->expiry_settled = idle;
    }
    if (k->mark <= drop_to) {
        tended->dropped += k->settled;
        if (k->settled) drop_base(k);
        if (k->expiry_settled) drop_expiry(k);
    }
    count_in(kv, k);
}

/* What is visible stays, and for as long as it was to: kv_expiry.c does not hear of it. */
static void tend(velum_kv *kv, velum__key *k, uint32_t settle_to, uint32_t drop_to,
                 velum_kv_tended *tended) {
    size_t over;
    tend_base(kv, k, settle_to, drop_to, tended);
    tended->settled += velum__settle_cells(kv, k, settle_to, drop_to, &over);
    if (over > 0) tended->dropped += velum__prune_cells(kv, k, drop_to);
    if (!has_base(k) && !has_expiry(k) && k->cells == NULL) velum__drop_key(kv, k);
}

bool velum_kv_tend(velum_kv *kv, velum_kv_walk *walk, size_t keys_max, uint32_t settle_to,
                   uint32_t drop_to, velum_kv_tended *tended) {
    velum__key *k, *beside;
    size_t passed = 0;
    do {
        if (!velum__key_from(kv, &walk->place, &k)) return false;
        for (; k != NULL; k = beside, passed++) {
            beside = velum__key_beside(k);
            tend(kv, k, settle_to, drop_to, tended);
        }
        if (!velum__advance(walk)) return false;
    } while (passed < keys_max);
    return true;
}
