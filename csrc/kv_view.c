/* kv_view.c: what of a key is visible.
 *
 * Owns: which of bytes, counter, set and hash a key is, and what it says then. Refuses to know: how
 * it has come about. How: what a base hides is not here, so that all cells are visible but for
 * those that are gone, and counts that wait for the SET that they name.
 */
#include "kv_internal.h"

#include <string.h>

static const velum_kv_bytes nothing = {NULL, 0};

/* ---- counters ---- */

/* The first count that is not before c and does not wait, or NULL. */
static const velum__cell *count_from(const velum__key *k, const velum__cell *c) {
    for (; c != NULL && c->kind == VELUM__COUNT; c = c->next[0])
        if (c->fresh || velum_kv_compare(c->of, k->base) == 0) return c;
    return NULL;
}

static const velum__cell *first_count(const velum__key *k) {
    return count_from(k, velum__cell_from(k->cells, VELUM__COUNT, nothing, 0));
}

/* Reads a decimal number as it is written if nothing is superfluous: no plus, no zeros before it,
 * no -0, and it fits. */
static bool get_number(const uint8_t *digits, size_t n, int64_t *number) {
    bool minus = n > 0 && digits[0] == '-';
    uint64_t most = (uint64_t)INT64_MAX + minus, sum = 0;
    size_t i = minus;
    if (n == i || (digits[i] == '0' && n > 1)) return false;
    for (; i < n; i++) {
        unsigned digit = digits[i] - (unsigned)'0';
        if (digit > 9 || sum > (most - digit) / 10u) return false;
        sum = sum * 10u + digit;
    }
    *number = (int64_t)(minus ? 0u - sum : sum);
    return true;
}

/* The number that counts are added to. */
static bool base_number(const velum__key *k, int64_t *number) {
    *number = 0;
    return !k->set || get_number(velum__value_bytes(k), k->value_size, number);
}

velum_kv_type velum__type(const velum__key *k) {
    int64_t number;
    if (first_count(k) != NULL && base_number(k, &number)) return VELUM_KV_COUNTER;
    if (k->set) return VELUM_KV_BYTES;
    if (k->cells == NULL) return VELUM_KV_NOTHING;
    if (k->cells->members.visible > 0) return VELUM_KV_MEMBERS;
    return k->cells->fields.visible > 0 ? VELUM_KV_FIELDS : VELUM_KV_NOTHING;
}

void velum_kv_own_count(const velum_kv *kv, uint16_t node, velum_kv_record *count) {
    const velum__key *k = velum__find(kv, count->key);
    const velum__cell *c = NULL, *own = NULL;
    bool waits = false;
    if (k != NULL) c = velum__cell_from(k->cells, VELUM__COUNT, nothing, node);
    for (; c != NULL && c->kind == VELUM__COUNT && c->node == node; c = c->next[0]) {
        if (count_from(k, c) == c)
            own = c;
        else
            waits = true;
    }
    count->fresh = own != NULL ? own->fresh : k == NULL || !k->set || waits;
    if (own != NULL)
        count->of = own->of;
    else
        count->of = count->fresh ? (velum_kv_stamp){0, 0} : k->base;
    count->sum = own != NULL ? own->sum : 0;
}

/* ---- all of it ---- */

static void look_at_counter(const velum__key *k, velum_kv_view *view) {
    uint64_t sum;
    base_number(k, &view->sum);
    sum = (uint64_t)view->sum;
    for (const velum__cell *c = first_count(k); c != NULL; c = count_from(k, c->next[0])) {
        sum += (uint64_t)c->sum;
        if (velum_kv_compare(c->stamp, view->latest) > 0) view->latest = c->stamp;
    }
    view->sum = (int64_t)sum;
}

/* Whether no EXPIRE has come later than the base. */
static bool expires_by_base(const velum__key *k) {
    return k->expiry.node == 0;
}

uint64_t velum__ends_at(const velum__key *k) {
    return expires_by_base(k) ? k->base_until_ms : k->expiry_until_ms;
}

velum_kv_stamp velum__expires_by(const velum__key *k) {
    return expires_by_base(k) ? k->base : k->expiry;
}

velum_kv_type velum_kv_look(const velum_kv *kv, velum_kv_bytes key, velum_kv_view *view) {
    const velum__key *k = velum__find(kv, key);
    memset(view, 0, sizeof *view);
    if (k == NULL) return VELUM_KV_NOTHING;
    view->type = velum__type(k);
    view->base = k->base;
    view->until_ms = velum__ends_at(k);
    if (view->until_ms != 0) view->expiry = velum__expires_by(k);
    if (k->set && (view->type == VELUM_KV_BYTES || view->type == VELUM_KV_COUNTER)) {
        view->value.data = velum__value_bytes(k);
        view->value.size = k->value_size;
        view->latest = k->base;
        view->json = k->json && view->type == VELUM_KV_BYTES;
    }
    if (view->type == VELUM_KV_COUNTER) {
        look_at_counter(k, view);
    } else if (view->type == VELUM_KV_MEMBERS || view->type == VELUM_KV_FIELDS) {
        bool members = view->type == VELUM_KV_MEMBERS;
        const velum__tally *tally = members ? &k->cells->members : &k->cells->fields;
        view->count = tally->visible;
        view->latest = tally->latest;
    }
    return view->type;
}

/* ---- sets and hashes ---- */

/* A key that is of this type now; NULL if it is not. */
static const velum__key *find_of(const velum_kv *kv, velum_kv_bytes key, velum_kv_type type) {
    const velum__key *k = velum__find(kv, key);
    return k != NULL && velum__type(k) == type ? k : NULL;
}

static bool is_of(const velum__cell *c, velum__cell_kind kind, velum_kv_bytes part) {
    return c != NULL && c->kind == kind && velum__compare_bytes(velum__part(c), part) == 0;
}

velum_kv_bytes velum_kv_field(const velum_kv *kv, velum_kv_bytes key, velum_kv_bytes field) {
    const velum__key *k = find_of(kv, key, VELUM_KV_FIELDS);
    const velum__cell *c;
    if (k == NULL) return nothing;
    c = velum__cell_from(k->cells, VELUM__FIELD, field, 0);
    return is_of(c, VELUM__FIELD, field) && !c->gone ? velum__value(c) : nothing;
}

size_t velum_kv_additions(const velum_kv *kv, velum_kv_bytes key, velum_kv_bytes element,
                          velum_kv_stamp *at, size_t max) {
    const velum__key *k = find_of(kv, key, VELUM_KV_MEMBERS);
    const velum__cell *c;
    size_t count = 0;
    if (k == NULL) return 0;
    c = velum__cell_from(k->cells, VELUM__MEMBER, element, 0);
    for (; is_of(c, VELUM__MEMBER, element); c = c->next[0]) {
        if (c->gone) continue;
        if (count < max) at[count] = c->of;
        count++;
    }
    return count;
}

bool velum_kv_member(const velum_kv *kv, velum_kv_bytes key, velum_kv_bytes element,
                     velum_kv_stamp *at) {
    const velum__key *k = find_of(kv, key, VELUM_KV_MEMBERS);
    const velum__cell *c;
    velum_kv_stamp latest = {0, 0};
    if (k == NULL) return false;
    c = velum__cell_from(k->cells, VELUM__MEMBER, element, 0);
    for (; is_of(c, VELUM__MEMBER, element); c = c->next[0])
        if (!c->gone && velum_kv_compare(c->of, latest) > 0) latest = c->of;
    if (latest.node == 0) return false;
    *at = latest;
    return true;
}

size_t velum_kv_parts(const velum_kv *kv, velum_kv_bytes key,
                      void (*part)(void *owner, velum_kv_bytes part, velum_kv_bytes value),
                      void *owner) {
    const velum__key *k = velum__find(kv, key);
    velum_kv_type type = k != NULL ? velum__type(k) : VELUM_KV_NOTHING;
    velum__cell_kind kind = type == VELUM_KV_MEMBERS ? VELUM__MEMBER : VELUM__FIELD;
    const velum__cell *shown = NULL;
    size_t count = 0;
    if (type != VELUM_KV_MEMBERS && type != VELUM_KV_FIELDS) return 0;
    for (const velum__cell *c = velum__cell_from(k->cells, kind, nothing, 0);
         c != NULL && c->kind == kind; c = c->next[0]) {
        if (c->gone || (shown != NULL && is_of(shown, kind, velum__part(c)))) continue;
        part(owner, velum__part(c), velum__value(c));
        shown = c;
        count++;
    }
    return count;
}
