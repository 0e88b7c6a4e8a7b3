/* kv_walk.c: all that is here, as records.
 *
 * Owns: which records make up a key, and walks over all keys and over those of a leaf. Refuses to
 * know: who wants them. How: kv_keys.c gives keys an order that stays.
 */
#include "kv_internal.h"

#include <string.h>

static void begin(const velum__key *k, velum_kv_record *r, velum_kv_op op, velum_kv_stamp stamp) {
    memset(r, 0, sizeof *r);
    r->op = op;
    r->stamp = stamp;
    r->key.data = velum__name_bytes(k);
    r->key.size = k->name_size;
}

bool velum__base_record(const velum__key *k, velum_kv_record *r) {
    if (k->base.node == 0) return false;
    begin(k, r, k->set ? VELUM_KV_SET : VELUM_KV_DEL, k->base);
    if (!k->set) return true;
    r->json = k->json;
    r->until_ms = k->base_until_ms;
    r->value.data = velum__value_bytes(k);
    r->value.size = k->value_size;
    return true;
}

bool velum__expiry_record(const velum__key *k, velum_kv_record *r) {
    if (k->expiry.node == 0) return false;
    begin(k, r, VELUM_KV_EXPIRE, k->expiry);
    r->until_ms = k->expiry_until_ms;
    return true;
}

void velum__cell_record(const velum__key *k, const velum__cell *c, velum_kv_record *r) {
    switch (c->kind) {
    case VELUM__COUNT:
        begin(k, r, VELUM_KV_COUNT, c->stamp);
        r->of = c->of;
        r->fresh = c->fresh;
        r->sum = c->sum;
        return;
    case VELUM__MEMBER:
        begin(k, r, c->gone ? VELUM_KV_REMOVE : VELUM_KV_ADD, c->stamp);
        if (c->gone) r->of = c->of;
        break;
    default:
        begin(k, r, c->gone ? VELUM_KV_UNFIELD : VELUM_KV_FIELD, c->stamp);
        r->value = velum__value(c);
        break;
    }
    r->part = velum__part(c);
}

/* Tells all of a key, or all that is in the sums. */
static void tell(const velum__key *k, bool all,
                 void (*record)(void *owner, const velum_kv_record *record), void *owner) {
    velum_kv_record r;
    if ((all || !k->settled) && velum__base_record(k, &r)) record(owner, &r);
    if ((all || !k->expiry_settled) && velum__expiry_record(k, &r)) record(owner, &r);
    if (k->cells == NULL) return;
    for (const velum__cell *c = k->cells->first[0]; c != NULL; c = c->next[0]) {
        if (c->settled && !all) continue;
        velum__cell_record(k, c, &r);
        record(owner, &r);
    }
}

void velum_kv_key_records(const velum_kv *kv, velum_kv_bytes key,
                          void (*record)(void *owner, const velum_kv_record *record), void *owner) {
    const velum__key *k = velum__find(kv, key);
    if (k != NULL) tell(k, true, record, owner);
}

bool velum__advance(velum_kv_walk *walk) {
    return ++walk->place != 0;
}

bool velum_kv_step(const velum_kv *kv, velum_kv_walk *walk, size_t keys_max,
                   void (*record)(void *owner, const velum_kv_record *record), void *owner) {
    velum__key *k;
    size_t passed = 0;
    do {
        if (!velum__key_from(kv, &walk->place, &k)) return false;
        for (; k != NULL; k = velum__key_beside(k), passed++)
            tell(k, true, record, owner);
        if (!velum__advance(walk)) return false;
    } while (passed < keys_max);
    return true;
}

bool velum_kv_keys(const velum_kv *kv, velum_kv_walk *walk, size_t keys_max, uint64_t now_ms,
                   void (*key)(void *owner, velum_kv_bytes key, velum_kv_type type,
                               uint64_t until_ms),
                   void *owner) {
    velum__key *k;
    size_t passed = 0;
    do {
        if (!velum__key_from(kv, &walk->place, &k)) return false;
        for (; k != NULL; k = velum__key_beside(k), passed++) {
            velum_kv_bytes name = {velum__name_bytes(k), k->name_size};
            velum_kv_type type = velum__type(k);
            uint64_t until_ms = velum__ends_at(k);
            bool over = until_ms != 0 && until_ms <= now_ms;
            if (type != VELUM_KV_NOTHING && !over) key(owner, name, type, until_ms);
        }
        if (!velum__advance(walk)) return false;
    } while (passed < keys_max);
    return true;
}

int velum_kv_leaf(const velum_kv *kv, uint32_t leaf,
                  void (*record)(void *owner, const velum_kv_record *record), void *owner) {
    if (leaf >= VELUM_KV_LEAVES) return VELUM_E_ARGUMENT;
    for (const velum__key *k = kv->tree->leaves[leaf]; k != NULL; k = k->leaf_next)
        tell(k, false, record, owner);
    return 0;
}
