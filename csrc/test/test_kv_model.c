/* test_kv_model.c: thousands of random records of a few writers over few keys, merged into several
 * stores in different orders, some twice, and against a model that keeps all records in a list and
 * reads docs/kv.md, section 2, from it. Then a few nodes that write, delete, settle and drop at
 * different times, and must lose nothing. The seed is printed when a run fails: `test_kv_model
 * SEED` replays it.
 */
#include "kv_world.h"

#define ROUNDS    12u
#define RECORDS   2500u
#define STORES    4u
#define KEYS      12u
#define PARTS     6u
#define NODES     4u
#define TIMES_MAX 1500u
#define TOLD_MAX  4096u
#define AGES      10u /* marks of tombstones */
#define EPOCHS    40u /* of nodes: each begins with all keys deleted */

static uint64_t state;

static uint32_t rnd(uint32_t below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 32) % below);
}

static const char *const keys[KEYS] = {
    "a", "b",  "aa", "fleet/1", "fleet/2", "x", "y", "z", "a key whose name is not short",
    "1", "11", "111"};
static const char *const parts[PARTS] = {"", "p", "pp", "q", "12345678", "123456789"};
static const char *const values[8] = {
    "", "5", "-17", "v", "a longer value than the others are", "9223372036854775807", "05", "{}"};

static velum_kv_record records[RECORDS];
static size_t made; /* of the records */

/* ---- the model: one key at a time ---- */

typedef struct {
    const velum_kv_record *base, *expiry; /* NULL: none */
    velum_kv_type type;
    velum_kv_stamp latest;
    uint64_t sum;
    size_t count;
    bool there[PARTS];
    velum_kv_bytes value[PARTS];
    velum_kv_stamp added[PARTS][NODES + 1]; /* visible additions, zeros: none */
} truth;

static velum_kv_stamp base_of(const truth *t) {
    return t->base != NULL ? t->base->stamp : at(0, 0);
}

static bool after(velum_kv_stamp a, velum_kv_stamp b) {
    return velum_kv_compare(a, b) > 0;
}

static void note(velum_kv_stamp *latest, velum_kv_stamp stamp) {
    if (after(stamp, *latest)) *latest = stamp;
}

static bool is_part(const velum_kv_record *r, size_t part) {
    return is_text(r->part, parts[part]);
}

static void find_base(truth *t, const char *key) {
    for (size_t i = 0; i < made; i++) {
        const velum_kv_record *r = &records[i];
        if (!is_text(r->key, key)) continue;
        if ((r->op == VELUM_KV_SET || r->op == VELUM_KV_DEL) && after(r->stamp, base_of(t)))
            t->base = r;
        if (r->op <= VELUM_KV_EXPIRE && (t->expiry == NULL || after(r->stamp, t->expiry->stamp)))
            t->expiry = r;
    }
}

/* When a fresh count was begun; 0: it names a SET. Each of a node's fresh counts stands for itself.
 */
static uint64_t life_of(const velum_kv_record *count) {
    return count->fresh ? count->of.time : 0;
}

/* Whether the i-th record is a count of the key, and no other stands in its place. */
static bool stands(size_t i, const char *key) {
    const velum_kv_record *r = &records[i];
    if (r->op != VELUM_KV_COUNT || !is_text(r->key, key)) return false;
    for (size_t j = 0; j < made; j++) {
        const velum_kv_record *other = &records[j];
        int later = velum_kv_compare(other->of, r->of);
        if (other->op != VELUM_KV_COUNT || other->stamp.node != r->stamp.node ||
            life_of(other) != life_of(r) || !is_text(other->key, key)) {
            continue;
        }
        if (later == 0) later = velum_kv_compare(other->stamp, r->stamp);
        if (later > 0 || (later == 0 && j < i)) return false;
    }
    return true;
}

static bool is_set(const truth *t) {
    return t->base != NULL && t->base->op == VELUM_KV_SET;
}

/* Whether a count is from the SET that is there. */
static bool is_from_base(const truth *t, const velum_kv_record *count) {
    return !count->fresh && is_set(t) && velum_kv_compare(count->of, t->base->stamp) == 0;
}

static bool is_visible(const truth *t, const velum_kv_record *count) {
    return count->fresh ? after(count->of, base_of(t)) : is_from_base(t, count);
}

/* What of counts is visible. Whether any is. */
static bool counts(truth *t, const char *key, velum_kv_stamp *latest) {
    bool any = false;
    for (size_t i = 0; i < made; i++) {
        const velum_kv_record *best = &records[i];
        if (!stands(i, key) || !is_visible(t, best)) continue;
        any = true;
        t->sum += (uint64_t)best->sum;
        note(latest, best->stamp);
    }
    return any;
}

/* Of one element and node: the latest addition, and up to where they are removed. */
static void member(truth *t, const char *key, size_t part, uint16_t node, velum_kv_stamp *latest) {
    velum_kv_stamp added = {0, 0}, gone = {0, 0}, by = {0, 0};
    for (size_t i = 0; i < made; i++) {
        const velum_kv_record *r = &records[i];
        if (!is_text(r->key, key)) continue;
        if (r->op == VELUM_KV_ADD && is_part(r, part) && r->stamp.node == node)
            note(&added, r->stamp);
        if (r->op == VELUM_KV_REMOVE && is_part(r, part) && r->of.node == node &&
            velum_kv_compare(r->of, gone) >= 0) {
            if (after(r->of, gone)) by = at(0, 0);
            gone = r->of;
            note(&by, r->stamp);
        }
    }
    if (after(added, gone)) {
        if (!after(added, base_of(t))) return;
        t->added[part][node] = added;
        t->there[part] = true;
        note(latest, added);
    } else if (after(gone, base_of(t))) {
        note(latest, by);
    }
}

static void fields(truth *t, const char *key, size_t part, velum_kv_stamp *latest) {
    const velum_kv_record *best = NULL;
    for (size_t i = 0; i < made; i++) {
        const velum_kv_record *r = &records[i];
        if ((r->op != VELUM_KV_FIELD && r->op != VELUM_KV_UNFIELD) || !is_part(r, part)) continue;
        if (!is_text(r->key, key)) continue;
        if (best == NULL || after(r->stamp, best->stamp)) best = r;
    }
    if (best == NULL || !after(best->stamp, base_of(t))) return;
    note(latest, best->stamp);
    if (best->op == VELUM_KV_UNFIELD) return;
    t->there[part] = true;
    t->value[part] = best->value;
}

static size_t how_many(const truth *t) {
    size_t n = 0;
    for (size_t part = 0; part < PARTS; part++)
        n += t->there[part];
    return n;
}

/* "5" and the like: of `values` these three are numbers. */
static bool is_number(velum_kv_bytes value) {
    return is_text(value, "5") || is_text(value, "-17") || is_text(value, values[5]);
}

static void find_truth(truth *t, const char *key) {
    velum_kv_stamp latest = {0, 0};
    bool bytes, counted;
    memset(t, 0, sizeof *t);
    find_base(t, key);
    bytes = is_set(t);
    counted = counts(t, key, &latest);
    if (counted && (!bytes || is_number(t->base->value))) {
        t->type = VELUM_KV_COUNTER;
        t->latest = latest;
        if (bytes) t->sum += (uint64_t)strtoll((const char *)t->base->value.data, NULL, 10);
        if (bytes) note(&t->latest, t->base->stamp);
        return;
    }
    t->sum = 0;
    if (bytes) {
        t->type = VELUM_KV_BYTES;
        t->latest = t->base->stamp;
        return;
    }
    latest = at(0, 0);
    for (size_t part = 0; part < PARTS; part++)
        for (uint16_t node = 1; node <= NODES; node++)
            member(t, key, part, node, &latest);
    t->type = VELUM_KV_MEMBERS;
    if ((t->count = how_many(t)) == 0) {
        latest = at(0, 0);
        for (size_t part = 0; part < PARTS; part++)
            fields(t, key, part, &latest);
        t->type = VELUM_KV_FIELDS;
        t->count = how_many(t);
    }
    if (t->count == 0)
        t->type = VELUM_KV_NOTHING;
    else
        t->latest = latest;
}

/* ---- a store against the model ---- */

typedef struct {
    const truth *t;
    size_t seen, part;
} parts_check;

/* The byte order of `parts`. */
static const size_t in_order[PARTS] = {0, 4, 5, 1, 2, 3};

static void check_part(void *owner, velum_kv_bytes part, velum_kv_bytes value) {
    parts_check *c = owner;
    while (c->part < PARTS && !c->t->there[in_order[c->part]])
        c->part++;
    CHECK(c->part < PARTS && is_text(part, parts[in_order[c->part]]));
    if (c->part < PARTS && c->t->type == VELUM_KV_FIELDS) {
        velum_kv_bytes expected = c->t->value[in_order[c->part]];
        CHECK(value.size == expected.size && memcmp(value.data, expected.data, value.size) == 0);
    }
    c->part++;
    c->seen++;
}

static void check_members(const velum_kv *kv, const char *key, const truth *t) {
    for (size_t part = 0; part < PARTS; part++) {
        velum_kv_stamp adds[NODES], latest = {0, 0}, said = {0, 0};
        bool set = t->type == VELUM_KV_MEMBERS;
        size_t n = velum_kv_additions(kv, text(key), text(parts[part]), adds, NODES), expected = 0;
        for (uint16_t node = 1; node <= NODES; node++) {
            velum_kv_stamp added = t->added[part][node];
            if (!set || added.node == 0) continue;
            CHECK(expected < n && velum_kv_compare(adds[expected], added) == 0);
            note(&latest, added);
            expected++;
        }
        CHECK_EQ(n, expected);
        CHECK_EQ(velum_kv_member(kv, text(key), text(parts[part]), &said), n > 0);
        CHECK(velum_kv_compare(said, latest) == 0);
        if (t->type == VELUM_KV_FIELDS)
            CHECK_EQ(velum_kv_field(kv, text(key), text(parts[part])).data != NULL, t->there[part]);
    }
}

static void check_own_counts(const velum_kv *kv, const char *key, const truth *t) {
    for (uint16_t node = 1; node <= NODES; node++) {
        const velum_kv_record *best = NULL;
        velum_kv_record next = own(kv, key, node);
        velum_kv_stamp zeros = {0, 0};
        bool waits = false;
        for (size_t i = 0; i < made; i++) {
            const velum_kv_record *r = &records[i];
            if (!stands(i, key) || r->stamp.node != node) continue;
            if (!is_visible(t, r))
                waits |= after(r->of, base_of(t));
            else if (best == NULL || life_of(r) > life_of(best))
                best = r;
        }
        if (best != NULL)
            CHECK(goes_on(next, best->sum, best->fresh, best->of));
        else if (is_set(t) && !waits)
            CHECK(goes_on(next, 0, false, t->base->stamp));
        else
            CHECK(goes_on(next, 0, true, zeros));
    }
}

static size_t check_key(const velum_kv *kv, const char *key) {
    truth t;
    parts_check c = {&t, 0, 0};
    velum_kv_view view = look(kv, key);
    find_truth(&t, key);
    CHECK_EQ(view.type, t.type);
    CHECK(velum_kv_compare(view.base, base_of(&t)) == 0);
    CHECK(velum_kv_compare(view.latest, t.latest) == 0);
    CHECK_EQ(view.sum, (int64_t)t.sum);
    CHECK_EQ(view.count, t.count);
    CHECK_EQ(view.json, t.type == VELUM_KV_BYTES && t.base->json);
    CHECK_EQ(view.until_ms, t.expiry != NULL ? t.expiry->until_ms : 0);
    if (view.until_ms != 0) CHECK(velum_kv_compare(view.expiry, t.expiry->stamp) == 0);
    if (t.base != NULL && (t.type == VELUM_KV_BYTES || t.type == VELUM_KV_COUNTER))
        CHECK(same_bytes(view.value, t.base->value));
    CHECK_EQ(velum_kv_parts(kv, text(key), check_part, &c), t.count);
    CHECK_EQ(c.seen, t.count);
    check_members(kv, key, &t);
    check_own_counts(kv, key, &t);
    return t.type != VELUM_KV_NOTHING;
}

static void check_store(const velum_kv *kv) {
    size_t visible = 0;
    for (size_t i = 0; i < KEYS; i++)
        visible += check_key(kv, keys[i]);
    CHECK_EQ(velum_kv_get_figures(kv).keys, visible);
}

/* ---- stores against each other ---- */

typedef struct {
    velum_kv_record records[TOLD_MAX];
    size_t n, tombstones;
} told;

static void take(void *owner, const velum_kv_record *r) {
    told *t = owner;
    if (t->n == TOLD_MAX) abort();
    t->records[t->n++] = *r;
    t->tombstones += r->op == VELUM_KV_DEL || r->op == VELUM_KV_REMOVE || r->op == VELUM_KV_UNFIELD;
}

static size_t key_order(const velum_kv_record *r) {
    size_t i = 0;
    while (i < KEYS && !is_text(r->key, keys[i]))
        i++;
    return i;
}

/* By key; a sort that leaves the order of what is equal. */
static void sort(told *t) {
    for (size_t i = 1; i < t->n; i++) {
        velum_kv_record r = t->records[i];
        size_t j = i;
        for (; j > 0 && key_order(&r) < key_order(&t->records[j - 1]); j--)
            t->records[j] = t->records[j - 1];
        t->records[j] = r;
    }
}

static void tell_all(const velum_kv *kv, told *t) {
    velum_kv_walk walk = {0};
    t->n = t->tombstones = 0;
    while (velum_kv_step(kv, &walk, 1 + rnd(3), take, t)) {
    }
    CHECK_EQ(velum_kv_get_figures(kv).tombstones, t->tombstones);
}

static bool same_record(const velum_kv_record *a, const velum_kv_record *b) {
    return a->op == b->op && a->json == b->json && a->fresh == b->fresh &&
           a->until_ms == b->until_ms && a->sum == b->sum &&
           velum_kv_compare(a->stamp, b->stamp) == 0 && velum_kv_compare(a->of, b->of) == 0 &&
           same_bytes(a->key, b->key) && same_bytes(a->part, b->part) &&
           same_bytes(a->value, b->value);
}

static void check_same_sums(const velum_kv *a, const velum_kv *b) {
    uint32_t nodes = 1;
    for (unsigned level = 0; level < VELUM_KV_LEVELS; level++, nodes *= VELUM_KV_FANOUT) {
        size_t differ = 0;
        for (uint32_t i = 0; i < nodes; i++) {
            uint64_t x[VELUM_KV_FANOUT], y[VELUM_KV_FANOUT];
            if (velum_kv_sums(a, level, i, x) != 0 || velum_kv_sums(b, level, i, y) != 0) abort();
            differ += memcmp(x, y, sizeof x) != 0;
        }
        CHECK_EQ(differ, 0);
    }
}

static void check_same(const velum_kv *a, const velum_kv *b) {
    static told x, y;
    size_t differ = 0;
    tell_all(a, &x);
    tell_all(b, &y);
    CHECK_EQ(x.n, y.n);
    sort(&x);
    sort(&y);
    for (size_t i = 0; i < x.n && i < y.n; i++)
        differ += !same_record(&x.records[i], &y.records[i]);
    CHECK_EQ(differ, 0);
    check_same_sums(a, b);
    CHECK(velum_kv_compare(velum_kv_get_figures(a).latest, velum_kv_get_figures(b).latest) >= 0);
}

/* ---- a run ---- */

/* A stamp that was given to somebody, perhaps. */
static velum_kv_stamp some_stamp(void) {
    return made > 0 && rnd(8) > 0 ? records[rnd((uint32_t)made)].stamp
                                  : at(1 + rnd(TIMES_MAX), (uint16_t)(1 + rnd(NODES)));
}

static bool taken(velum_kv_stamp stamp) {
    for (size_t i = 0; i < made; i++)
        if (velum_kv_compare(records[i].stamp, stamp) == 0) return true;
    return false;
}

/* A stamp that a record of this key has, of one op: what a writer has seen. */
static velum_kv_stamp stamp_of(velum_kv_op a, velum_kv_op b, const char *key, const char *part) {
    for (size_t tries = 0; made > 0 && tries < 300; tries++) {
        const velum_kv_record *r = &records[rnd((uint32_t)made)];
        if ((r->op == a || r->op == b) && is_text(r->key, key) &&
            (part == NULL || is_text(r->part, part)))
            return r->stamp;
    }
    return some_stamp();
}

/* Few bases, so that cells have time to be seen. */
static const velum_kv_op ops[24] = {
    VELUM_KV_SET,    VELUM_KV_DEL,    VELUM_KV_EXPIRE,  VELUM_KV_COUNT,  VELUM_KV_COUNT,
    VELUM_KV_COUNT,  VELUM_KV_COUNT,  VELUM_KV_COUNT,   VELUM_KV_ADD,    VELUM_KV_ADD,
    VELUM_KV_ADD,    VELUM_KV_ADD,    VELUM_KV_ADD,     VELUM_KV_ADD,    VELUM_KV_REMOVE,
    VELUM_KV_REMOVE, VELUM_KV_REMOVE, VELUM_KV_REMOVE,  VELUM_KV_REMOVE, VELUM_KV_FIELD,
    VELUM_KV_FIELD,  VELUM_KV_FIELD,  VELUM_KV_UNFIELD, VELUM_KV_UNFIELD};

static void make_record(void) {
    velum_kv_record *r = &records[made];
    const char *key = keys[rnd(KEYS)];
    size_t which = strlen(key) % 3; /* of what the key mostly is: two thirds have later bases */
    velum_kv_op op = ops[rnd(24)];
    *r = record_of(op, 0, 0, key);
    do {
        bool base = op == VELUM_KV_SET || op == VELUM_KV_DEL;
        r->stamp =
            at(1 + rnd(base && which > 0 ? TIMES_MAX / 4 : TIMES_MAX), (uint16_t)(1 + rnd(NODES)));
    } while (taken(r->stamp));
    if (op == VELUM_KV_SET || op == VELUM_KV_FIELD) r->value = text(values[rnd(8)]);
    if (op >= VELUM_KV_ADD) r->part = text(parts[rnd(PARTS)]);
    if (op == VELUM_KV_SET) r->json = rnd(4) == 0;
    if ((op == VELUM_KV_SET && rnd(3) == 0) || (op == VELUM_KV_EXPIRE && rnd(4) > 0))
        r->until_ms = 1 + rnd(1000);
    if (op == VELUM_KV_COUNT) {
        r->sum = (int64_t)rnd(2000) - 1000;
        r->fresh = rnd(2) == 0;
        if (r->fresh)
            r->of = rnd(3) == 0 ? r->stamp : at(1 + rnd((uint32_t)r->stamp.time), r->stamp.node);
        else
            r->of = stamp_of(VELUM_KV_SET, rnd(4) > 0 ? VELUM_KV_SET : VELUM_KV_DEL, key, NULL);
    }
    if (op == VELUM_KV_REMOVE)
        r->of = stamp_of(VELUM_KV_ADD, VELUM_KV_ADD, key, (const char *)r->part.data);
    made++;
}

/* Sums and what merging says agree: something has changed, or nothing has. */
static void merge_watched(velum_kv *kv, const velum_kv_record *r) {
    uint64_t before[VELUM_KV_FANOUT], now[VELUM_KV_FANOUT];
    int changed;
    CHECK_EQ(velum_kv_sums(kv, 0, 0, before), 0);
    changed = velum_kv_merge(kv, r);
    CHECK_EQ(velum_kv_sums(kv, 0, 0, now), 0);
    CHECK_EQ(memcmp(before, now, sizeof now) != 0, changed);
}

/* In an order of its own, and at times one that it has had already. */
static void merge_shuffled(velum_kv *kv) {
    static uint32_t order[RECORDS];
    for (uint32_t i = 0; i < made; i++)
        order[i] = i;
    for (uint32_t i = 0; i < made; i++) {
        uint32_t other = i + rnd((uint32_t)made - i), swapped = order[other];
        order[other] = order[i];
        order[i] = swapped;
        if (rnd(100) == 0) velum_kv_mark(kv, 1 + i * AGES / (uint32_t)made);
        merge_watched(kv, &records[order[i]]);
        if (rnd(4) == 0) CHECK_EQ(velum_kv_merge(kv, &records[order[rnd(i + 1)]]), 0);
    }
}

/* What one store says of itself is all that another needs. */
static void check_copy(const velum_kv *kv) {
    static told all;
    velum_kv *copy = open_kv(SIZE_MAX);
    tell_all(kv, &all);
    for (size_t i = all.n; i-- > 0;)
        CHECK_EQ(velum_kv_merge(copy, &all.records[i]), 1);
    check_same(kv, copy);
    CHECK_EQ(velum_kv_get_figures(copy).keys, velum_kv_get_figures(kv).keys);
    velum_kv_close(copy);
}

typedef struct {
    velum_kv *kv;
    size_t n;
} leaf_sums;

static void take_one(void *owner, const velum_kv_record *r) {
    leaf_sums *s = owner;
    s->n++;
    CHECK_EQ(velum_kv_merge(s->kv, r), 1);
}

/* The leaves together have what is in the sums, which is all but what is settled: so many. */
static void check_leaves(const velum_kv *kv, size_t settled) {
    leaf_sums s = {open_kv(SIZE_MAX), 0};
    for (uint32_t leaf = 0; leaf < VELUM_KV_LEAVES; leaf++)
        if (velum_kv_leaf(kv, leaf, take_one, &s) != 0) abort();
    CHECK_EQ(s.n + settled, records_in(kv));
    check_same_sums(kv, s.kv);
    velum_kv_close(s.kv);
}

/* EXPIREs of keys that show nothing settle too. */
static void take_idle_expiry(void *owner, const velum_kv_record *r) {
    const leaf_sums *s = owner;
    velum_kv_view view;
    if (r->op == VELUM_KV_EXPIRE && velum_kv_look(s->kv, r->key, &view) == VELUM_KV_NOTHING)
        ((leaf_sums *)owner)->n++;
}

static size_t idle_expiries(velum_kv *kv) {
    leaf_sums s = {kv, 0};
    velum_kv_walk walk = {0};
    while (velum_kv_step(kv, &walk, 5, take_idle_expiry, &s)) {
    }
    return s.n;
}

static void check_views(const velum_kv *kv, const velum_kv_view *before) {
    for (size_t i = 0; i < KEYS; i++) {
        velum_kv_view now = look(kv, keys[i]), was = before[i];
        bool there = now.type != VELUM_KV_NOTHING;
        CHECK(now.type == was.type && now.sum == was.sum && now.count == was.count);
        CHECK(!there || now.until_ms == was.until_ms);
    }
}

/* With its tombstones settled, and without them, a store shows the same; settled ones go on hiding
 * what they hide, and are unsettled by it. With everything deleted it has nothing. */
static void check_tending(velum_kv *kv) {
    velum_kv_view before[KEYS];
    size_t all = velum_kv_get_figures(kv).tombstones, idle = idle_expiries(kv), some;
    for (size_t i = 0; i < KEYS; i++)
        before[i] = look(kv, keys[i]);
    some = tend_all(kv, AGES / 2, 0);
    CHECK(some > 0 && some < all);
    CHECK_EQ(velum_kv_get_figures(kv).settled, some);
    CHECK_EQ(some + tend_all(kv, AGES, 0), all);
    CHECK_EQ(velum_kv_get_figures(kv).settled, all);
    check_views(kv, before);
    check_leaves(kv, all + idle);
    for (size_t i = 0; i < made; i++)
        CHECK_EQ(velum_kv_merge(kv, &records[i]), 0);
    CHECK(velum_kv_get_figures(kv).recalled >= all - velum_kv_get_figures(kv).settled);
    CHECK(velum_kv_get_figures(kv).settled < all / 2);
    (void)tend_all(kv, AGES, 0);
    CHECK_EQ(velum_kv_get_figures(kv).settled, all);
    check_views(kv, before);
    check_leaves(kv, all + idle);
    some = tend_all(kv, 0, AGES / 2);
    CHECK(some > 0 && some < all);
    CHECK_EQ(some + tend_all(kv, 0, AGES), all);
    check_views(kv, before);
    CHECK_EQ(velum_kv_get_figures(kv).tombstones, 0);
    CHECK_EQ(idle_expiries(kv), 0);
    check_copy(kv);
    for (size_t i = 0; i < KEYS; i++) {
        velum_kv_record gone = del(TIMES_MAX + 1, 1, keys[i]);
        CHECK_EQ(velum_kv_merge(kv, &gone), 1);
        for (uint16_t node = 1; node <= NODES; node++)
            CHECK(goes_on(own(kv, keys[i], node), 0, true, at(0, 0)));
    }
    CHECK_EQ(velum_kv_get_figures(kv).keys, 0);
    CHECK_EQ(velum_kv_get_figures(kv).tombstones, KEYS);
    CHECK_EQ(tend_all(kv, AGES, AGES), KEYS);
    CHECK(root_sum(kv) == 0 && records_in(kv) == 0);
    CHECK_EQ(velum_kv_get_figures(kv).bytes, 0);
}

static void run(void) {
    velum_kv *stores[STORES];
    made = 0;
    while (made < RECORDS)
        make_record();
    for (size_t i = 0; i < STORES; i++) {
        stores[i] = open_kv(SIZE_MAX);
        merge_shuffled(stores[i]);
        check_store(stores[i]);
        check_same(stores[0], stores[i]);
    }
    check_copy(stores[0]);
    check_leaves(stores[0], 0);
    check_tending(stores[0]);
    for (size_t i = 0; i < STORES; i++)
        velum_kv_close(stores[i]);
}

/* Against the model after each record. */
static void run_closely(void) {
    velum_kv *kv = open_kv(SIZE_MAX);
    for (made = 0; made < RECORDS / 10;) {
        make_record();
        merge_watched(kv, &records[made - 1]);
        check_store(kv);
    }
    velum_kv_close(kv);
}

/* ---- nodes that drop tombstones at different times ---- */

typedef struct {
    velum_kv *kv;
    uint64_t clock, skew;
} node;

static node nodes[NODES];
static uint32_t leaves[KEYS];      /* of the keys */
static int64_t sums[KEYS];         /* what every node has added since the key was deleted */
static bool there[KEYS][PARTS];    /* elements that were added and not removed since then */
static velum_kv_record dels[KEYS]; /* the last one of each key */

static velum_kv_stamp stamp_by(uint16_t id) {
    node *n = &nodes[id - 1];
    uint64_t now = (made + n->skew) << 8;
    n->clock = now > n->clock ? now : (n->clock | 1) + 1;
    made++; /* time goes on */
    return at(n->clock, id);
}

static void hear(uint16_t id, const velum_kv_record *r) {
    node *n = &nodes[id - 1];
    if (r->stamp.time > n->clock) n->clock = r->stamp.time;
    CHECK(velum_kv_merge(n->kv, r) >= 0);
}

static void write_by(uint16_t id, velum_kv_record r) {
    r.stamp = stamp_by(id);
    if (r.fresh && r.of.node == 0) r.of = r.stamp;
    CHECK_EQ(velum_kv_merge(nodes[id - 1].kv, &r), 1);
    if (r.op == VELUM_KV_DEL) /* its key lies in a literal */
        for (size_t i = 0; i < KEYS; i++)
            if (is_text(r.key, keys[i])) dels[i] = r;
}

static void count_by(uint16_t id, size_t key) {
    velum_kv_record r = own(nodes[id - 1].kv, keys[key], id);
    int64_t by = (int64_t)rnd(20) - 5;
    r.sum += by;
    sums[key] += by;
    write_by(id, r);
}

static void hear_one(void *owner, const velum_kv_record *r) {
    hear(*(const uint16_t *)owner, r);
}

/* What one sends another: all that is in its sums. */
static void pull(uint16_t to, uint16_t from) {
    for (size_t i = 0; to != from && i < KEYS; i++)
        CHECK_EQ(velum_kv_leaf(nodes[from - 1].kv, leaves[i], hear_one, &to), 0);
}

static void pull_all(void) {
    for (uint16_t round = 0; round < 2; round++)
        for (uint16_t i = 1; i < NODES; i++) {
            pull(i + 1, i);
            pull(i, i + 1);
        }
    for (uint16_t i = NODES; i > 1; i--)
        pull(i - 1, i);
}

static void check_nodes(void) {
    for (uint16_t id = 1; id <= NODES; id++) {
        velum_kv *kv = nodes[id - 1].kv;
        check_same_sums(nodes[0].kv, kv);
        for (size_t i = 0; i < KEYS; i++) {
            velum_kv_view view = look(kv, keys[i]);
            velum_kv_stamp when;
            size_t count = 0;
            for (size_t part = 0; part < PARTS; part++) {
                count += there[i][part];
                if (i % 2 == 0) continue;
                CHECK_EQ(velum_kv_member(kv, text(keys[i]), text(parts[part]), &when),
                         there[i][part]);
            }
            CHECK_EQ(view.sum, sums[i]);
            CHECK_EQ(view.count, count);
        }
    }
}

/* Some nodes count on a key, or add to and remove from it. Each element has one node that does so:
 * who removes has seen what was added. */
static void use_key(size_t key) {
    for (size_t n = rnd(6); n > 0; n--) {
        uint16_t id = (uint16_t)(1 + rnd(NODES));
        size_t part = rnd(PARTS);
        if (key % 2 == 0) {
            count_by(id, key);
        } else {
            velum_kv_stamp when;
            id = (uint16_t)(1 + part % NODES);
            if (rnd(2) == 0)
                write_by(id, add(0, 0, keys[key], parts[part]));
            else if (velum_kv_member(nodes[id - 1].kv, text(keys[key]), text(parts[part]), &when))
                write_by(id, take_out(0, 0, keys[key], parts[part], when));
            there[key][part] =
                velum_kv_member(nodes[id - 1].kv, text(keys[key]), text(parts[part]), &when);
        }
        if (rnd(3) == 0) pull((uint16_t)(1 + rnd(NODES)), (uint16_t)(1 + rnd(NODES)));
        if (rnd(3) == 0) hear((uint16_t)(1 + rnd(NODES)), &dels[key]); /* once more */
    }
}

static void open_nodes(void) {
    velum_kv *all = open_kv(SIZE_MAX);
    size_t found = 0;
    for (size_t i = 0; i < KEYS; i++)
        CHECK_EQ(merge(all, del(2, 1, keys[i])), 1);
    for (uint32_t leaf = 0; leaf < VELUM_KV_LEAVES; leaf++) {
        size_t n = 0;
        CHECK_EQ(velum_kv_leaf(all, leaf, count_record, &n), 0);
        if (n > 0) leaves[found++] = leaf;
    }
    CHECK_EQ(found, KEYS);
    velum_kv_close(all);
    made = 0;
    memset(sums, 0, sizeof sums);
    memset(there, 0, sizeof there);
    for (size_t i = 0; i < NODES; i++)
        nodes[i] = (node){open_kv(SIZE_MAX), 0, rnd(3) * 1000};
}

/* Every key is deleted by someone; all have that; some have dropped it, some have settled it; and
 * then it is used again. */
static void run_nodes(void) {
    open_nodes();
    for (size_t epoch = 0; epoch < EPOCHS; epoch++) {
        bool dropping = rnd(2) == 0;
        for (size_t i = 0; i < KEYS; i++) {
            uint16_t id = (uint16_t)(1 + rnd(NODES));
            write_by(id, del(0, 0, keys[i]));
            sums[i] = 0;
            memset(there[i], 0, sizeof there[i]);
        }
        pull_all();
        check_nodes();
        for (size_t i = 0; i < NODES; i++) /* what is dropped was settled everywhere */
            if (dropping || rnd(2) == 0) tend_all(nodes[i].kv, AGES, 0);
        for (size_t i = 0; i < NODES; i++)
            if (dropping && rnd(2) == 0) tend_all(nodes[i].kv, AGES, AGES);
        for (size_t i = 0; i < KEYS; i++)
            use_key(i);
        pull_all();
        for (size_t i = 0; i < NODES; i++)
            tend_all(nodes[i].kv, AGES, 0);
        check_nodes();
    }
    for (size_t i = 0; i < NODES; i++)
        velum_kv_close(nodes[i].kv);
}

int main(int argc, char **argv) {
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    for (uint64_t round = 0; round < (argc > 1 ? 1 : ROUNDS); round++) {
        int failed_before = check_failed_count;
        state = (seed + round) * UINT64_C(0x9e3779b97f4a7c15) + 1;
        run();
        run_closely();
        run_nodes();
        if (check_failed_count != failed_before)
            printf("seed %llu\n", (unsigned long long)(seed + round));
    }
    return check_report("kv_model");
}
