/* kv_cells.c: the cells of one key, in the order of (kind, part, node, life).
 *
 * Owns: their memory, which of two records of a cell is the later, what a base hides for good, and
 * the tallies. Refuses to know: the table of keys, clocks, and which tombstones everybody has.
 *
 * How: a skip list (Pugh 1990) whose cells have a random number of levels, so that no order of
 * additions makes it slow, and a key with one cell pays for one link. What the base hides is not
 * kept: bases only grow later, so it would never show again. Of an element and node only the latest
 * addition is kept, or its removal: what comes before it is removed by being earlier.
 */
#include "kv_internal.h"

#include <stdlib.h>
#include <string.h>

/* The links of each level that lead to a place in the list; levels above the list's are not set. */
typedef struct {
    velum__cell **link[VELUM__CELL_LEVELS_MAX];
} path;

static size_t cell_bytes(size_t levels, size_t part_size, size_t value_size) {
    return sizeof(velum__cell) + levels * sizeof(velum__cell *) + part_size + value_size;
}

static size_t cell_charge(const velum__cell *c) {
    return velum__charge(cell_bytes(c->levels, c->part_size, c->value_size));
}

static size_t list_bytes(size_t levels) {
    return sizeof(velum__cells) + levels * sizeof(velum__cell *);
}

/* ---- order ---- */

int velum__compare_bytes(velum_kv_bytes a, velum_kv_bytes b) {
    size_t both = a.size < b.size ? a.size : b.size;
    int r = both > 0 ? memcmp(a.data, b.data, both) : 0;
    return r != 0 ? r : (a.size > b.size) - (a.size < b.size);
}

/* When a fresh count was begun: each is a cell of its own, so that a node which has lost its memory
 * does not put what it counts then in the place of what it had counted. 0: all others. */
static uint64_t life_of(const velum__cell *c) {
    return c->fresh ? c->of.time : 0;
}

static int compare_cell(const velum__cell *c, velum__cell_kind kind, velum_kv_bytes part,
                        uint16_t node, uint64_t life) {
    int r = c->kind - (int)kind;
    if (r == 0) r = velum__compare_bytes(velum__part(c), part);
    if (r == 0) r = c->node - node;
    return r != 0 ? r : (life_of(c) > life) - (life_of(c) < life);
}

/* The first cell that is not before one with this head and part, and the links to it. */
static velum__cell *seek(velum__cells *cells, const velum__cell *head, velum_kv_bytes part,
                         path *to) {
    velum__cell **links = cells->first;
    uint64_t life = life_of(head);
    for (size_t level = cells->levels; level-- > 0;) {
        while (links[level] != NULL &&
               compare_cell(links[level], head->kind, part, head->node, life) < 0)
            links = links[level]->next;
        to->link[level] = &links[level];
    }
    return links[0];
}

const velum__cell *velum__cell_from(const velum__cells *cells, velum__cell_kind kind,
                                    velum_kv_bytes part, uint16_t node) {
    velum__cell *const *links;
    if (cells == NULL) return NULL;
    links = cells->first;
    for (size_t level = cells->levels; level-- > 0;)
        while (links[level] != NULL && compare_cell(links[level], kind, part, node, 0) < 0)
            links = links[level]->next;
    return links[0];
}

/* ---- what a record makes of a cell ---- */

/* A cell without memory for its links, part and value. */
static void fill_cell(velum__cell *c, const velum_kv_record *r) {
    memset(c, 0, sizeof *c);
    c->of = c->stamp = r->stamp;
    c->sum = r->sum;
    c->part_size = (uint16_t)r->part.size;
    c->value_size = (uint32_t)r->value.size;
    c->gone = r->op == VELUM_KV_REMOVE || r->op == VELUM_KV_UNFIELD;
    c->fresh = r->fresh;
    if (r->op == VELUM_KV_COUNT) {
        c->kind = VELUM__COUNT;
        c->of = r->of;
        c->node = r->stamp.node;
    } else if (r->op == VELUM_KV_ADD || r->op == VELUM_KV_REMOVE) {
        c->kind = VELUM__MEMBER;
        if (c->gone) c->of = r->of;
        c->node = c->of.node;
    } else {
        c->kind = VELUM__FIELD;
    }
}

/* Whether a base hides a cell, now and for good: only a count stays that names a SET, and what is
 * after the base. */
static bool hides(velum_kv_stamp base, bool set, const velum__cell *c) {
    int r = velum_kv_compare(c->of, base);
    return r < 0 || (r == 0 && !(c->kind == VELUM__COUNT && !c->fresh && set));
}

/* Whether a record is to stand in the place of a cell: by stamps; a removal is behind the addition
 * that it removes. The rest is for stamps that are equal and should not be. */
static bool is_later(const velum__cell *a, velum_kv_bytes value, const velum__cell *b) {
    int r = velum_kv_compare(a->of, b->of);
    if (r == 0) r = (a->gone - b->gone) * (a->kind == VELUM__MEMBER ? 1 : -1);
    if (r == 0) r = velum_kv_compare(a->stamp, b->stamp);
    if (r == 0) r = (a->sum > b->sum) - (a->sum < b->sum);
    if (r == 0) r = velum__compare_bytes(value, velum__value(b));
    return r > 0;
}

/* ---- tallies ---- */

static velum__tally *tally_of(velum__cells *cells, const velum__cell *c) {
    if (c->kind == VELUM__COUNT) return NULL;
    return c->kind == VELUM__MEMBER ? &cells->members : &cells->fields;
}

static void raise_stamp(velum_kv_stamp *latest, velum_kv_stamp stamp) {
    if (velum_kv_compare(stamp, *latest) > 0) *latest = stamp;
}

static bool same_part(const velum__cell *a, const velum__cell *b) {
    return a->kind == b->kind && velum__compare_bytes(velum__part(a), velum__part(b)) == 0;
}

/* Whether an element or field is visible by a cell other than c. */
static bool visible_without(const velum__cells *cells, const velum__cell *c) {
    const velum__cell *e = velum__cell_from(cells, c->kind, velum__part(c), 0);
    for (; e != NULL && same_part(e, c); e = e->next[0])
        if (e != c && !e->gone) return true;
    return false;
}

/* Counts all cells anew. */
static void tally_all(velum__cells *cells) {
    const velum__cell *shown = NULL; /* the last one that was counted */
    memset(&cells->members, 0, sizeof cells->members);
    memset(&cells->fields, 0, sizeof cells->fields);
    for (const velum__cell *c = cells->first[0]; c != NULL; c = c->next[0]) {
        velum__tally *tally = tally_of(cells, c);
        if (tally == NULL) continue;
        raise_stamp(&tally->latest, c->stamp);
        if (c->gone || (shown != NULL && same_part(c, shown))) continue;
        tally->visible++;
        shown = c;
    }
}

/* Counts a cell that stands now; `gone` and `stamp` are what stood there: gone and zeros if nothing
 * did. */
static void tally_change(velum__cells *cells, const velum__cell *c, bool gone,
                         velum_kv_stamp stamp) {
    velum__tally *tally = tally_of(cells, c);
    if (tally == NULL) return;
    if (velum_kv_compare(c->stamp, stamp) < 0 && velum_kv_compare(stamp, tally->latest) == 0) {
        tally_all(cells);
        return;
    }
    raise_stamp(&tally->latest, c->stamp);
    if (gone == c->gone || visible_without(cells, c)) return;
    if (gone)
        tally->visible++;
    else
        tally->visible--;
}

/* ---- merging ---- */

/* 1 of 4 has another level (xorshift64: Marsaglia 2003). */
static size_t throw_levels(velum_kv *kv) {
    size_t levels = 1;
    uint64_t bits;
    kv->dice ^= kv->dice << 13;
    kv->dice ^= kv->dice >> 7;
    kv->dice ^= kv->dice << 17;
    for (bits = kv->dice >> 16; (bits & 3u) == 0 && levels < VELUM__CELL_LEVELS_MAX; bits >>= 2)
        levels++;
    return levels;
}

/* Gives a key its list, or its list one more level. STATE_FULL, NOMEM: it is as it was. */
static int raise_list(velum_kv *kv, velum__key *k) {
    size_t levels = k->cells != NULL ? k->cells->levels : 0;
    size_t before = k->cells != NULL ? velum__charge(list_bytes(levels)) : 0;
    size_t after = velum__charge(list_bytes(levels + 1));
    velum__cells *cells;
    if (!velum__fits(kv, after, before)) return VELUM_E_STATE_FULL;
    cells = realloc(k->cells, list_bytes(levels + 1));
    if (cells == NULL) return VELUM_E_NOMEM;
    if (levels == 0) memset(cells, 0, sizeof *cells);
    cells->first[levels] = NULL;
    cells->levels = (uint8_t)(levels + 1);
    k->cells = cells;
    kv->figures.bytes += after - before;
    return 0;
}

static void drop_list_if_empty(velum_kv *kv, velum__key *k) {
    if (k->cells == NULL || k->cells->first[0] != NULL) return;
    kv->figures.bytes -= velum__charge(list_bytes(k->cells->levels));
    free(k->cells);
    k->cells = NULL;
}

static void flip_cell(velum_kv *kv, const velum__key *k, const velum__cell *c) {
    velum_kv_record r;
    velum__cell_record(k, c, &r);
    velum__flip(kv, k, velum__print(k->identity, &r));
}

/* Takes a cell that has come into the figures and sums. */
static void cell_in(velum_kv *kv, const velum__key *k, const velum__cell *c) {
    if (!c->settled) flip_cell(kv, k, c);
    kv->figures.tombstones += c->gone;
    kv->figures.settled += c->settled;
}

/* Takes one that goes out of them. */
static void cell_out(velum_kv *kv, const velum__key *k, const velum__cell *c) {
    if (!c->settled) flip_cell(kv, k, c);
    kv->figures.tombstones -= c->gone;
    kv->figures.settled -= c->settled;
}

/* Memory for a cell in the place of another, or of none. STATE_FULL, NOMEM. */
static int make(velum_kv *kv, const velum__cell *head, const velum_kv_record *r, size_t levels,
                const velum__cell *old, velum__cell **out) {
    size_t n = cell_bytes(levels, r->part.size, r->value.size);
    velum__cell *c;
    if (!velum__fits(kv, velum__charge(n), old != NULL ? cell_charge(old) : 0))
        return VELUM_E_STATE_FULL;
    c = malloc(n);
    if (c == NULL) return VELUM_E_NOMEM;
    *c = *head;
    c->levels = (uint8_t)levels;
    if (c->gone) c->mark = kv->mark;
    if (r->part.size > 0) memcpy(velum__part_bytes(c), r->part.data, r->part.size);
    if (r->value.size > 0)
        memcpy(velum__part_bytes(c) + r->part.size, r->value.data, r->value.size);
    kv->figures.bytes += cell_charge(c);
    *out = c;
    return 0;
}

static int insert(velum_kv *kv, velum__key *k, const velum__cell *head, const velum_kv_record *r) {
    size_t levels = throw_levels(kv), have = k->cells != NULL ? k->cells->levels : 0;
    velum_kv_stamp never = {0, 0};
    velum__cell *c;
    path to;
    int err;
    if (levels > have) levels = have + 1;
    err = make(kv, head, r, levels, NULL, &c);
    if (err < 0) return err;
    err = levels > have ? raise_list(kv, k) : 0;
    if (err < 0) {
        kv->figures.bytes -= cell_charge(c);
        free(c);
        return err;
    }
    (void)seek(k->cells, c, velum__part(c), &to);
    for (size_t i = 0; i < levels; i++) {
        c->next[i] = *to.link[i];
        *to.link[i] = c;
    }
    cell_in(kv, k, c);
    tally_change(k->cells, c, true, never);
    return 1;
}

/* Puts what the record says in the place of a cell with the same (kind, part, node, life). */
static int replace(velum_kv *kv, velum__key *k, velum__cell *old, const path *to,
                   const velum__cell *head, const velum_kv_record *r) {
    bool gone = old->gone;
    velum_kv_stamp stamp = old->stamp;
    velum__cell *c;
    int err = make(kv, head, r, old->levels, old, &c);
    if (err < 0) return err;
    cell_out(kv, k, old);
    for (size_t i = 0; i < c->levels; i++) {
        c->next[i] = old->next[i];
        *to->link[i] = c;
    }
    kv->figures.bytes -= cell_charge(old);
    free(old);
    cell_in(kv, k, c);
    tally_change(k->cells, c, gone, stamp);
    return 1;
}

/* As velum__recall_base, of a part's tombstone: what has come is before it. */
static void recall_cell(velum_kv *kv, const velum__key *k, velum__cell *c,
                        const velum__cell *late) {
    bool same = late->gone && velum_kv_compare(late->stamp, c->stamp) == 0 &&
                velum_kv_compare(late->of, c->of) == 0;
    if (!c->settled || same) return;
    c->settled = false;
    c->mark = kv->mark;
    flip_cell(kv, k, c);
    kv->figures.settled--;
    kv->figures.recalled++;
}

int velum__merge_cell(velum_kv *kv, velum__key *k, const velum_kv_record *r) {
    velum__cell head, *old;
    path to;
    fill_cell(&head, r);
    if (hides(k->base, k->set, &head)) {
        velum__recall_base(kv, k);
        return 0;
    }
    if (k->cells != NULL) {
        old = seek(k->cells, &head, r->part, &to);
        if (old != NULL && compare_cell(old, head.kind, r->part, head.node, life_of(&head)) == 0) {
            if (is_later(&head, r->value, old)) return replace(kv, k, old, &to, &head, r);
            recall_cell(kv, k, old, &head);
            return 0;
        }
    }
    return insert(kv, k, &head, r);
}

/* ---- dropping ---- */

size_t velum__hidden_bytes(const velum__key *k, velum_kv_stamp base, bool set) {
    size_t bytes = 0;
    if (k->cells == NULL) return 0;
    for (const velum__cell *c = k->cells->first[0]; c != NULL; c = c->next[0])
        if (hides(base, set, c)) bytes += cell_charge(c);
    return bytes;
}

static bool is_over(const velum__cell *c, uint32_t drop_to) {
    return c->settled && c->mark <= drop_to;
}

size_t velum__settle_cells(velum_kv *kv, const velum__key *k, uint32_t settle_to, uint32_t drop_to,
                           size_t *over) {
    size_t settled = 0;
    *over = 0;
    for (velum__cell *c = k->cells != NULL ? k->cells->first[0] : NULL; c != NULL; c = c->next[0]) {
        if (c->gone && !c->settled && c->mark <= settle_to) {
            flip_cell(kv, k, c);
            c->settled = true;
            settled++;
        }
        *over += is_over(c, drop_to);
    }
    kv->figures.settled += settled;
    return settled;
}

size_t velum__prune_cells(velum_kv *kv, velum__key *k, uint32_t drop_to) {
    velum__cell **ends[VELUM__CELL_LEVELS_MAX], *next;
    size_t dropped = 0;
    if (k->cells == NULL) return 0;
    for (size_t i = 0; i < k->cells->levels; i++)
        ends[i] = &k->cells->first[i];
    for (velum__cell *c = k->cells->first[0]; c != NULL; c = next) {
        next = c->next[0];
        if (hides(k->base, k->set, c) || is_over(c, drop_to)) {
            cell_out(kv, k, c);
            kv->figures.bytes -= cell_charge(c);
            dropped += c->gone;
            free(c);
            continue;
        }
        for (size_t i = 0; i < c->levels; i++) {
            *ends[i] = c;
            ends[i] = &c->next[i];
        }
    }
    for (size_t i = 0; i < k->cells->levels; i++)
        *ends[i] = NULL;
    tally_all(k->cells);
    drop_list_if_empty(kv, k);
    return dropped;
}

void velum__free_cells(velum__cells *cells) {
    velum__cell *next;
    if (cells == NULL) return;
    for (velum__cell *c = cells->first[0]; c != NULL; c = next) {
        next = c->next[0];
        free(c);
    }
    free(cells);
}
