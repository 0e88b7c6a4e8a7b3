/* kv_expiry.c: which visible key expires first.
 *
 * Owns: the places of the visible keys that expire, in the order in which they do. Refuses to know:
 * what is visible, and until when (kv_view.c); clocks; what is done about a key that has expired.
 *
 * How: a heap (Williams 1964) of which each entry has up to 4 below it, none of them sooner
 * (Johnson 1975); a key knows its entry, so that a change takes a few steps, and what has expired
 * is found without a look at anything else. The time stands beside the pointer: so a step reads a
 * line or two of the heap, and no keys. Entries lie in segments that never move, so that no merge
 * pays for all; of those that nothing is in one is kept.
 *
 * An entry counts as memory of its key for as long as it is there. Whoever may need one more holds
 * it before anything else changes: what comes after cannot fail for it.
 */
#include "kv_internal.h"

#include <stdlib.h>

/* Entries in a segment: 32 KiB, cheap to take when one more is needed. */
#define DUE_SEGMENT 2048u

#define BELOW 4u /* an entry */

static velum__due *entry_at(const velum__expiry *e, size_t i) {
    return &e->segments[i / DUE_SEGMENT][i % DUE_SEGMENT];
}

/* ---- memory ---- */

static int add_segment(velum__expiry *e) {
    size_t segments = e->room / DUE_SEGMENT;
    velum__due **list = realloc(e->segments, (segments + 1) * sizeof *list);
    if (list == NULL) return VELUM_E_NOMEM;
    e->segments = list;
    list[segments] = malloc(DUE_SEGMENT * sizeof **list);
    if (list[segments] == NULL) return VELUM_E_NOMEM;
    e->room += DUE_SEGMENT;
    return 0;
}

int velum__expiry_hold(velum_kv *kv) {
    velum__expiry *e = &kv->expiry;
    if (e->count == VELUM__DUE_MAX || !velum__fits(kv, sizeof(velum__due), 0))
        return VELUM_E_STATE_FULL;
    if (e->count == e->room) {
        int err = add_segment(e);
        if (err < 0) return err;
    }
    kv->figures.bytes += sizeof(velum__due);
    return 0;
}

void velum__expiry_release(velum_kv *kv) {
    kv->figures.bytes -= sizeof(velum__due);
}

void velum__expiry_close(velum__expiry *e) {
    for (size_t i = 0; i < e->room / DUE_SEGMENT; i++)
        free(e->segments[i]);
    free(e->segments);
}

/* ---- the order ---- */

static void put(const velum__expiry *e, size_t i, velum__due due) {
    *entry_at(e, i) = due;
    due.key->due_at = (uint32_t)(i + 1) & VELUM__DUE_MAX;
}

/* Puts an entry at i, which is free, or above it: as high as it has to be. */
static void put_up(const velum__expiry *e, size_t i, velum__due due) {
    while (i > 0) {
        size_t above = (i - 1) / BELOW;
        const velum__due *other = entry_at(e, above);
        if (other->until_ms <= due.until_ms) break;
        put(e, i, *other);
        i = above;
    }
    put(e, i, due);
}

/* The soonest of the entries below i, or the count if there are none. */
static size_t soonest_below(const velum__expiry *e, size_t i) {
    size_t first = i * BELOW + 1, end = first + BELOW, least = first;
    if (first >= e->count) return e->count;
    if (end > e->count) end = e->count;
    for (size_t at = first + 1; at < end; at++)
        if (entry_at(e, at)->until_ms < entry_at(e, least)->until_ms) least = at;
    return least;
}

/* Puts an entry at i, which is free, or elsewhere if it is later than what is below, or sooner than
 * what is above. */
static void put_right(const velum__expiry *e, size_t i, velum__due due) {
    size_t free_at = i, least;
    for (; (least = soonest_below(e, i)) < e->count; i = least) {
        const velum__due *other = entry_at(e, least);
        if (other->until_ms >= due.until_ms) break;
        put(e, i, *other);
    }
    if (i == free_at)
        put_up(e, i, due);
    else
        put(e, i, due);
}

static void take_away(velum_kv *kv, velum__key *k) {
    velum__expiry *e = &kv->expiry;
    size_t at = k->due_at - 1u;
    velum__due last = *entry_at(e, --e->count);
    if (at < e->count) put_right(e, at, last);
    k->due_at = 0;
    kv->figures.bytes -= sizeof(velum__due);
    if (e->room - e->count < 2 * (size_t)DUE_SEGMENT) return;
    e->room -= DUE_SEGMENT;
    free(e->segments[e->room / DUE_SEGMENT]);
}

void velum__expiry_note(velum_kv *kv, velum__key *k, uint64_t until_ms) {
    velum__expiry *e = &kv->expiry;
    velum__due due = {until_ms, k};
    if (until_ms == 0) {
        if (k->due_at != 0) take_away(kv, k);
    } else if (k->due_at == 0) {
        kv->figures.bytes += sizeof(velum__due);
        put_up(e, e->count++, due);
    } else {
        put_right(e, k->due_at - 1u, due);
    }
}

/* ---- what expires ---- */

bool velum_kv_soonest(const velum_kv *kv, velum_kv_due *due) {
    const velum__due *first;
    if (kv->expiry.count == 0) return false;
    first = entry_at(&kv->expiry, 0);
    due->key.data = velum__name_bytes(first->key);
    due->key.size = first->key->name_size;
    due->until_ms = first->until_ms;
    due->expiry = velum__expires_by(first->key);
    return true;
}

/* How many have expired of an entry and those below it: none of these has if it has not. The heap
 * is low: this calls itself 14 levels deep at most. */
static size_t expired_from(const velum__expiry *e, size_t i, uint64_t now_ms) {
    size_t count = 1;
    if (i >= e->count || entry_at(e, i)->until_ms > now_ms) return 0;
    for (size_t below = 1; below <= BELOW; below++)
        count += expired_from(e, i * BELOW + below, now_ms);
    return count;
}

size_t velum_kv_expired(const velum_kv *kv, uint64_t now_ms) {
    return expired_from(&kv->expiry, 0, now_ms);
}
