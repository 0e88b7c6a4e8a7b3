/* names_walk.c: bounded steps over a node's entries, and pages of them.
 *
 * Owns: velum_names_next, _list, _shared, _scan, _formers, _graves. Refuses to know: what an entry
 * says. How: a walk remembers a digest and no place, and looks for the place at each step, so that
 * anything may change in between.
 */
#include "names_internal.h"

#include <string.h>

/* One step of a walk. */
typedef struct {
    const velum_names *n;
    uint8_t *passed; /* the last digest */
    velum__at at;    /* the next one */
    size_t left;     /* entries that may be looked at yet */
} step;

static step begin(const velum_names *n, uint8_t *at, size_t look_max) {
    step s = {n, at, velum__index_after(&n->index, at), look_max};
    return s;
}

/* The entry that is next, or NULL at the end, of the walk or of the step. */
static velum_names_entry *look(const step *s) {
    return s->left > 0 ? velum__index_get(&s->n->index, s->at) : NULL;
}

static void pass(step *s, const velum_names_entry *entry) {
    memcpy(s->passed, entry->item.digest, VELUM_DIGEST_BYTES);
    velum__index_advance(&s->n->index, &s->at);
    s->left--;
}

static bool more(const step *s) {
    return velum__index_get(&s->n->index, s->at) != NULL;
}

const velum_names_entry *velum_names_next(const velum_names *n,
                                          const uint8_t after[VELUM_DIGEST_BYTES]) {
    return velum__index_get(&n->index, velum__index_after(&n->index, after));
}

bool velum_names_shared(const velum_names *n, uint16_t peer, uint8_t at[VELUM_DIGEST_BYTES],
                        const uint8_t end[VELUM_DIGEST_BYTES], size_t look_max,
                        const velum_names_entry **out, size_t cap, size_t *count) {
    step s = begin(n, at, look_max);
    velum_names_entry *entry;
    *count = 0;
    while ((entry = look(&s)) != NULL && *count < cap &&
           memcmp(entry->item.digest, end, VELUM_DIGEST_BYTES) <= 0) {
        const velum__name *name = velum__name_of(entry);
        if (!name->former && !name->retired && velum__among(name->ids, name->nids, peer))
            out[(*count)++] = entry;
        pass(&s, entry);
    }
    entry = velum__index_get(&n->index, s.at);
    if (entry != NULL && memcmp(entry->item.digest, end, VELUM_DIGEST_BYTES) <= 0) return true;
    memcpy(at, end, VELUM_DIGEST_BYTES);
    return false;
}

/* Which other keepers of an entry, placed anew, may lack it. */
static size_t place_anew(velum_names *n, velum__name *name, const uint16_t *anew, size_t nanew,
                         velum_names_pair *out) {
    uint16_t before[VELUM_KEEPERS_MAX];
    size_t nbefore = name->nids, made = 0;
    memcpy(before, name->ids, nbefore * sizeof *before);
    velum__names_place(n, name);
    if (name->former) return 0;
    for (size_t i = 0; i < name->nids; i++) {
        uint16_t node = name->ids[i];
        if (node == n->me) continue;
        if (velum__among(before, nbefore, node) && !velum__among(anew, nanew, node)) continue;
        out[made].entry = &name->entry;
        out[made++].node = node;
    }
    return made;
}

bool velum_names_scan(velum_names *n, uint8_t at[VELUM_DIGEST_BYTES], const uint16_t *anew,
                      size_t nanew, size_t look_max, velum_names_pair *out, size_t cap,
                      size_t *count) {
    step s = begin(n, at, look_max);
    velum_names_entry *entry;
    *count = 0;
    while ((entry = look(&s)) != NULL && cap - *count >= entry->keepers) {
        *count += place_anew(n, velum__name_of(entry), anew, nanew, out + *count);
        pass(&s, entry);
    }
    return more(&s);
}

bool velum_names_formers(const velum_names *n, uint8_t at[VELUM_DIGEST_BYTES], size_t look_max,
                         const velum_names_entry **out, size_t cap, size_t *count) {
    step s = begin(n, at, look_max);
    velum_names_entry *entry;
    *count = 0;
    while ((entry = look(&s)) != NULL && *count < cap) {
        if (velum__name_of(entry)->former) out[(*count)++] = entry;
        pass(&s, entry);
    }
    return more(&s);
}

bool velum_names_graves(const velum_names *n, uint8_t at[VELUM_DIGEST_BYTES], int64_t until_ms,
                        size_t look_max, const velum_names_entry **out, size_t cap, size_t *count,
                        int64_t *made_ms) {
    step s = begin(n, at, look_max);
    velum_names_entry *entry;
    *count = 0;
    while ((entry = look(&s)) != NULL && *count < cap) {
        if (entry->kind == VELUM_ENTRY_TOMBSTONE) {
            int64_t made = (int64_t)entry->made_ms;
            if (made <= until_ms)
                out[(*count)++] = entry;
            else if (made < *made_ms)
                *made_ms = made;
        }
        pass(&s, entry);
    }
    return more(&s);
}

/* ---- pages by name ---- */

static int order_names(velum_text a, velum_text b) {
    size_t both = a.size < b.size ? a.size : b.size;
    int r = both > 0 ? memcmp(a.data, b.data, both) : 0;
    return r != 0 ? r : (a.size > b.size) - (a.size < b.size);
}

static bool starts_with(velum_text text, velum_text prefix) {
    return text.size >= prefix.size &&
           (prefix.size == 0 || memcmp(text.data, prefix.data, prefix.size) == 0);
}

/* Puts an entry in its place among the first `cap`, sorted; whether one had to give way. */
static bool rank(const velum_names_entry **out, size_t *count, size_t cap,
                 const velum_names_entry *entry) {
    bool full = *count == cap;
    size_t low = 0, high = *count;
    if (full && order_names(out[cap - 1]->name, entry->name) < 0) return true;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (order_names(out[middle]->name, entry->name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (!full) ++*count;
    memmove(out + low + 1, out + low, (*count - 1 - low) * sizeof *out);
    out[low] = entry;
    return full;
}

size_t velum_names_list(const velum_names *n, velum_text prefix, velum_text after,
                        const velum_names_entry **out, size_t cap, bool *more_out) {
    velum__at at = {0, 0};
    const velum_names_entry *entry;
    size_t count = 0;
    *more_out = false;
    if (cap == 0) return 0;
    if (cap > VELUM_NAMES_PAGE_MAX) cap = VELUM_NAMES_PAGE_MAX;
    for (; (entry = velum__index_get(&n->index, at)) != NULL; velum__index_advance(&n->index, &at))
        if (starts_with(entry->name, prefix) &&
            (after.size == 0 || order_names(entry->name, after) > 0))
            *more_out |= rank(out, &count, cap, entry);
    return count;
}
