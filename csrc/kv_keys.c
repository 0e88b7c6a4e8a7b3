/* kv_keys.c: the memory of keys, and the table that finds them.
 *
 * Owns: a key's piece of memory with its name and value, what memory counts as, and the order of a
 * walk. Refuses to know: stamps, cells, and what merging is.
 *
 * How: a hash table that grows by one bucket for each key (linear hashing: Litwin 1980), in
 * segments that never move, so that no merge pays for all. Clients choose names, so that a fixed
 * hash would let them make one long chain: ours is of a strongly universal family (multilinear:
 * Lemire and Kaser 2014), drawn at random; a name's size is one of its words.
 *
 * A key's place in a walk is its hash with the bits reversed, and below that half of its identity.
 * A bucket has the keys whose hashes end in the same bits: a range of places, which a split cuts in
 * two. So a walk that goes up through the places misses nothing, however the table has grown.
 */
#include "kv_internal.h"

#include "wire_bytes.h"

#include <stdlib.h>

/* What malloc (glibc's, and others') adds to a piece, and what it rounds to. */
#define MALLOC_HEAD_BYTES  8u
#define MALLOC_ROUND_BYTES 16u

/* Buckets in a segment: 32 KiB, cheap to take when one more is needed. */
#define SEGMENT 4096u

/* ---- memory ---- */

size_t velum__charge(size_t n) {
    return (n + MALLOC_HEAD_BYTES + MALLOC_ROUND_BYTES - 1u) & ~(size_t)(MALLOC_ROUND_BYTES - 1u);
}

bool velum__fits(const velum_kv *kv, size_t more, size_t less) {
    size_t used = kv->figures.bytes, room = kv->figures.room;
    if (more <= less) return true;
    return used <= room && more - less <= room - used;
}

static size_t key_bytes(size_t name_size, size_t value_size) {
    return sizeof(velum__key) + name_size + value_size;
}

/* With its place in the table. */
static size_t key_charge(size_t name_size, size_t value_size) {
    return velum__charge(key_bytes(name_size, value_size)) + sizeof(velum__key *);
}

/* ---- the table ---- */

static velum__key **bucket_at(const velum__table *t, size_t i) {
    return &t->segments[i / SEGMENT][i % SEGMENT];
}

/* Makes room for n buckets, at most one more than there was room for; false: out of memory. */
static bool extend(velum__table *t, size_t n) {
    size_t segments = t->room / SEGMENT;
    velum__key ***list, **segment;
    if (n <= t->room) return true;
    list = realloc(t->segments, (segments + 1) * sizeof *list);
    if (list == NULL) return false;
    t->segments = list;
    segment = calloc(SEGMENT, sizeof *segment);
    if (segment == NULL) return false;
    list[segments] = segment;
    t->room += SEGMENT;
    return true;
}

bool velum__table_open(velum__table *t) {
    if (!extend(t, 1)) return false;
    t->count = 1;
    return true;
}

void velum__table_close(velum__table *t) {
    for (size_t i = 0; i < t->count; i++) {
        velum__key *next;
        for (velum__key *k = *bucket_at(t, i); k != NULL; k = next) {
            next = k->next;
            velum__free_cells(k->cells);
            free(k);
        }
    }
    for (size_t i = 0; i < t->room / SEGMENT; i++)
        free(t->segments[i]);
    free(t->segments);
}

static uint32_t hash_of(const velum__table *t, velum_kv_bytes name) {
    const uint64_t *multiplier = t->multipliers;
    uint64_t sum = *multiplier++;
    size_t at = 0;
    sum += *multiplier++ * name.size;
    for (; at + 4 <= name.size; at += 4)
        sum += *multiplier++ * velum__get32(name.data + at);
    if (at < name.size) {
        uint8_t rest[4] = {0};
        memcpy(rest, name.data + at, name.size - at);
        sum += *multiplier * velum__get32(rest);
    }
    return (uint32_t)(sum >> 32);
}

static size_t bucket_of(const velum__table *t, uint32_t hash) {
    size_t bucket = hash & t->mask;
    return bucket < t->count ? bucket : bucket & t->mask >> 1;
}

/* What points to a key in its chain. */
static velum__key **link_of(const velum__table *t, const velum__key *k) {
    velum__key **link = bucket_at(t, bucket_of(t, k->hash));
    while (*link != k)
        link = &(*link)->next;
    return link;
}

velum__key *velum__find(const velum_kv *kv, velum_kv_bytes name) {
    uint32_t hash;
    velum__key *k;
    if (name.size == 0 || name.size > VELUM_KV_KEY_BYTES_MAX) return NULL;
    hash = hash_of(&kv->table, name);
    k = *bucket_at(&kv->table, bucket_of(&kv->table, hash));
    while (k != NULL && (k->hash != hash || k->name_size != name.size ||
                         memcmp(velum__name_bytes(k), name.data, name.size) != 0))
        k = k->next;
    return k;
}

/* Adds a bucket, and moves to it what belongs there from the one bucket that has had it so far.
 * Without memory for it chains are longer, no more. */
static void grow(velum__table *t) {
    size_t fresh = t->count;
    velum__key **from, **to;
    if (fresh > UINT32_MAX || !extend(t, fresh + 1)) return;
    t->count++;
    if (fresh > t->mask) t->mask = 2 * t->mask + 1;
    from = bucket_at(t, fresh & t->mask >> 1);
    to = bucket_at(t, fresh);
    while (*from != NULL) {
        velum__key *k = *from;
        if ((k->hash & t->mask) == fresh) {
            *from = k->next;
            k->next = *to;
            *to = k;
        } else {
            from = &k->next;
        }
    }
}

/* ---- keys ---- */

#define NAME_SIZE_MASK  ((1u << VELUM__NAME_SIZE_BITS) - 1u)
#define VALUE_SIZE_MASK ((1u << VELUM__VALUE_SIZE_BITS) - 1u)

VELUM__STATIC_CHECK(names_fit, VELUM_KV_KEY_BYTES_MAX <= NAME_SIZE_MASK);
VELUM__STATIC_CHECK(values_fit, VELUM_KV_VALUE_BYTES_MAX <= VALUE_SIZE_MASK);

static void set_sizes(velum__key *k, size_t name_size, size_t value_size) {
    k->name_size = name_size & NAME_SIZE_MASK;
    k->value_size = value_size & VALUE_SIZE_MASK;
}

int velum__add_key(velum_kv *kv, velum_kv_bytes name, size_t value_size, velum__key **out) {
    size_t charge = key_charge(name.size, value_size);
    velum__key *k, **first;
    if (!velum__fits(kv, charge, 0)) return VELUM_E_STATE_FULL;
    k = calloc(1, key_bytes(name.size, value_size));
    if (k == NULL) return VELUM_E_NOMEM;
    k->hash = hash_of(&kv->table, name);
    k->identity = velum__identity(name);
    set_sizes(k, name.size, value_size);
    memcpy(velum__name_bytes(k), name.data, name.size);
    first = bucket_at(&kv->table, bucket_of(&kv->table, k->hash));
    k->next = *first;
    *first = k;
    velum__leaf_add(kv, k);
    kv->figures.bytes += charge;
    if (++kv->table.keys > kv->table.count) grow(&kv->table);
    *out = k;
    return 0;
}

int velum__resize_key(velum_kv *kv, velum__key **k, size_t value_size, size_t less) {
    size_t before = key_charge((*k)->name_size, (*k)->value_size);
    size_t after = key_charge((*k)->name_size, value_size);
    velum__key *moved, **link;
    if (!velum__fits(kv, after, before + less)) return VELUM_E_STATE_FULL;
    if (value_size != (*k)->value_size) {
        link = link_of(&kv->table, *k);
        moved = realloc(*k, key_bytes((*k)->name_size, value_size));
        if (moved == NULL) return VELUM_E_NOMEM;
        *link = *k = moved;
        velum__leaf_moved(moved);
        kv->figures.bytes += after - before;
    }
    set_sizes(*k, (*k)->name_size, value_size);
    return 0;
}

void velum__drop_key(velum_kv *kv, velum__key *k) {
    *link_of(&kv->table, k) = k->next;
    velum__leaf_remove(k);
    kv->table.keys--;
    kv->figures.bytes -= key_charge(k->name_size, k->value_size);
    free(k);
}

/* ---- places ---- */

static uint32_t reversed(uint32_t bits) {
    bits = bits >> 16 | bits << 16;
    bits = (bits >> 8 & 0x00ff00ffu) | (bits & 0x00ff00ffu) << 8;
    bits = (bits >> 4 & 0x0f0f0f0fu) | (bits & 0x0f0f0f0fu) << 4;
    bits = (bits >> 2 & 0x33333333u) | (bits & 0x33333333u) << 2;
    return (bits >> 1 & 0x55555555u) | (bits & 0x55555555u) << 1;
}

static uint64_t place_of(const velum__key *k) {
    return (uint64_t)reversed(k->hash) << 32 | (uint32_t)k->identity;
}

bool velum_kv_passed(const velum_kv *kv, velum_kv_walk walk, velum_kv_bytes key) {
    uint32_t high = reversed(hash_of(&kv->table, key)), at = (uint32_t)(walk.place >> 32);
    if (high != at) return high < at;
    return (uint32_t)velum__identity(key) < (uint32_t)walk.place;
}

/* The last place that a bucket has: all bits that it does not fix are ones. */
static uint64_t last_of(const velum__table *t, size_t bucket) {
    size_t mask = t->mask;
    if (bucket <= mask >> 1 && bucket + (mask >> 1) + 1 >= t->count) mask >>= 1; /* not split yet */
    return (uint64_t)reversed((uint32_t)(bucket | ~mask)) << 32 | UINT32_MAX;
}

bool velum__key_from(const velum_kv *kv, uint64_t *place, velum__key **k) {
    const velum__table *t = &kv->table;
    for (;;) {
        size_t bucket = bucket_of(t, reversed((uint32_t)(*place >> 32)));
        uint64_t last = last_of(t, bucket), least = last;
        *k = NULL;
        for (velum__key *e = *bucket_at(t, bucket); e != NULL; e = e->next) {
            uint64_t at = place_of(e);
            if (at < *place || at > least || (at == least && *k != NULL)) continue;
            least = at;
            *k = e;
        }
        *place = least;
        if (*k != NULL) return true;
        if (last == UINT64_MAX) return false;
        *place = last + 1;
    }
}

velum__key *velum__key_beside(const velum__key *k) {
    uint64_t place = place_of(k);
    velum__key *e = k->next;
    while (e != NULL && place_of(e) != place)
        e = e->next;
    return e;
}
