/* chunks.c: the table of chunks.
 *
 * Owns: what chunks.h says. Refuses to know: links, claims, placement, files.
 * How: a chunk is its entry and its bytes: one piece of memory if it is small, else the bytes lie
 * in a slab, whose memory is used again. Entries hang in the chains of a hash table that grows by
 * one bucket for each entry (linear hashing: Litwin 1980), so that no addition pays for all. It
 * never shrinks: 8 bytes for each of the most chunks ever held. Each entry also stands in a list
 * without holes, of those held or of those arriving: the last one fills the place of one that goes.
 * A walk runs down the list. All are arrays of segments that never move. As in modules.c, a chunk
 * being received has an entry of its own, apart from a held one of the same key, because a link may
 * be writing into its memory.
 *
 * A stranger may name any keys, so a fixed hash of them would let him make one long chain. Ours is
 * of a strongly universal family (multilinear: Lemire and Kaser 2014), drawn at random.
 */
#include "chunks.h"

#include "blake3.h"
#include "slab.h"
#include "velum_port.h"
#include "wire_bytes.h"

#include <stdlib.h>
#include <string.h>

/* A link's part is received straight into a chunk, and other code computes on it: a cache line, and
 * the widest vector. */
#define ALIGNMENT_BYTES 64u

/* A chunk up to this size is hashed when it is complete, in a fraction of a millisecond: a state of
 * 1.9 KiB for each of many small ones that arrive would be a burden. */
#define HASH_AT_ONCE_BYTES_MAX (64u * 1024u)

/* Pointers in a segment: 32 KiB, cheap to take when one more is needed. */
#define SEGMENT  4096u
#define SEGMENTS ((VELUM_CHUNKS_MAX + SEGMENT - 1u) / SEGMENT)

#define KEY_WORDS (VELUM_KEY_BYTES / 4u)

typedef enum { ARRIVING, HELD, DROPPED } state; /* DROPPED: in no table, lent still */

typedef struct entry {
    struct entry *next;    /* in its chain */
    velum_chunks *owner;   /* for give_back, which has nothing but the entry */
    blake3_hasher *hasher; /* of a large chunk that is arriving, else NULL */
    uint8_t *bytes;
    velum_slab_region *region; /* that the bytes lie in, or NULL: they lie behind the entry */
    uint32_t hash;             /* of its key, for the table */
    uint32_t size;
    uint32_t place;    /* in the list of its state */
    uint32_t sender;   /* ARRIVING */
    uint32_t received; /* ARRIVING: bytes */
    uint32_t wanted;   /* ARRIVING: bytes of the part that has been given its place; 0: none */
    uint32_t loans;    /* HELD, DROPPED */
    uint8_t state;
    uint8_t key[VELUM_KEY_BYTES];
} entry;

typedef struct {
    entry **segments[SEGMENTS];
    size_t room;  /* of the segments so far */
    size_t count; /* in use */
} array;

struct velum_chunks {
    size_t budget, used, reserved;
    uint64_t multipliers[KEY_WORDS + 1u];
    array table; /* the first entry of each chain */
    size_t mask; /* the least power of 2 that is not below the table's count, minus 1 */
    array held, arriving;
    velum_slab *slab;     /* of the bytes of large ones */
    const entry *checked; /* by verify; NULL: none */
    size_t checked_bytes;
    blake3_hasher checking;
    void (*abandoned)(void *owner, uint32_t sender, const uint8_t *key);
    void *abandoned_owner;
};

void velum_chunk_key(const void *bytes, size_t n, uint8_t key_out[VELUM_KEY_BYTES]) {
    blake3_hasher hasher;
    blake3_hasher_init(&hasher);
    blake3_hasher_update(&hasher, bytes, n);
    blake3_hasher_finalize(&hasher, key_out, VELUM_KEY_BYTES);
}

/* ---- arrays ---- */

static entry **at(const array *a, size_t i) {
    return &a->segments[i / SEGMENT][i % SEGMENT];
}

/* Makes room for n, at most one more than there was room for; false: out of memory. */
static bool extend(array *a, size_t n) {
    entry **segment;
    if (n <= a->room) return true;
    segment = calloc(SEGMENT, sizeof *segment);
    if (segment == NULL) return false;
    a->segments[a->room / SEGMENT] = segment;
    a->room += SEGMENT;
    return true;
}

static void free_segments(array *a) {
    for (size_t i = 0; i < a->room / SEGMENT; i++)
        free(a->segments[i]);
}

static void list_add(array *list, entry *e) {
    e->place = (uint32_t)list->count;
    *at(list, list->count++) = e;
}

static void list_remove(array *list, const entry *e) {
    entry *last = *at(list, --list->count);
    last->place = e->place;
    *at(list, e->place) = last;
}

/* ---- the table ---- */

static uint32_t hash_of(const velum_chunks *c, const uint8_t *key) {
    uint64_t sum = c->multipliers[KEY_WORDS];
    for (size_t i = 0; i < KEY_WORDS; i++)
        sum += c->multipliers[i] * velum__get32(key + 4 * i);
    return (uint32_t)(sum >> 32);
}

static entry **chain_of(const velum_chunks *c, uint32_t hash) {
    size_t bucket = hash & c->mask;
    if (bucket >= c->table.count) bucket &= c->mask >> 1;
    return at(&c->table, bucket);
}

/* The entry of a key, arriving or held; NULL if there is none. */
static entry *find(const velum_chunks *c, const uint8_t *key, state wanted) {
    uint32_t hash = hash_of(c, key);
    for (entry *e = *chain_of(c, hash); e != NULL; e = e->next)
        if (e->hash == hash && e->state == wanted && memcmp(e->key, key, VELUM_KEY_BYTES) == 0)
            return e;
    return NULL;
}

/* Adds a bucket, and moves to it what belongs there from the one bucket that has had it so far.
 * Without memory for it chains are longer, no more. */
static void grow(velum_chunks *c) {
    size_t fresh = c->table.count;
    entry **from, **to;
    if (!extend(&c->table, fresh + 1)) return;
    c->table.count++;
    if (fresh > c->mask) c->mask = 2 * c->mask + 1;
    from = at(&c->table, fresh & (c->mask >> 1));
    to = at(&c->table, fresh);
    while (*from != NULL) {
        entry *e = *from;
        if ((e->hash & c->mask) == fresh) {
            *from = e->next;
            e->next = *to;
            *to = e;
        } else {
            from = &e->next;
        }
    }
}

static void chain(velum_chunks *c, entry *e) {
    entry **first = chain_of(c, e->hash);
    e->next = *first;
    *first = e;
    if (c->held.count + c->arriving.count > c->table.count) grow(c);
}

static void unchain(velum_chunks *c, const entry *e) {
    entry **link = chain_of(c, e->hash);
    while (*link != e)
        link = &(*link)->next;
    *link = e->next;
}

/* ---- entries ---- */

static size_t charge(size_t size) {
    return size < VELUM_CHUNK_CHARGE_BYTES_MIN ? VELUM_CHUNK_CHARGE_BYTES_MIN : size;
}

/* Behind an entry, the first byte that is aligned. */
static uint8_t *behind(const entry *e) {
    uintptr_t end = (uintptr_t)(e + 1);
    return (uint8_t *)((end + ALIGNMENT_BYTES - 1u) & ~(uintptr_t)(ALIGNMENT_BYTES - 1u));
}

static void free_entry(entry *e) {
    if (e->region != NULL) velum_slab_give(e->owner->slab, e->bytes, e->region);
    free(e->hasher);
    free(e);
}

/* An entry with room for its bytes, or NULL. */
static entry *new_entry(velum_chunks *c, size_t size) {
    bool apart = size >= VELUM_SLAB_BYTES_MIN;
    entry *e = malloc(sizeof *e + (apart ? 0 : ALIGNMENT_BYTES - 1u + size));
    if (e == NULL) return NULL;
    memset(e, 0, sizeof *e);
    e->owner = c;
    e->bytes = apart ? velum_slab_take(c->slab, size, &e->region) : behind(e);
    if (e->bytes != NULL) return e;
    free(e);
    return NULL;
}

/* Memory for a chunk and for its place among those held; it is not found yet. FULL, NOMEM. */
static int take(velum_chunks *c, const uint8_t *key, size_t size, entry **out) {
    size_t taken = c->used + c->reserved, known = c->held.count + c->arriving.count;
    entry *e;
    if (taken > c->budget || charge(size) > c->budget - taken) return VELUM_E_FULL;
    if (known >= VELUM_CHUNKS_MAX) return VELUM_E_FULL;
    if (!extend(&c->held, known + 1)) return VELUM_E_NOMEM;
    e = new_entry(c, size);
    if (e == NULL) return VELUM_E_NOMEM;
    e->hash = hash_of(c, key);
    e->size = (uint32_t)size;
    memcpy(e->key, key, VELUM_KEY_BYTES);
    *out = e;
    return 0;
}

static void hold(velum_chunks *c, entry *e) {
    e->state = HELD;
    list_add(&c->held, e);
    c->used += charge(e->size);
}

static void end_reservation(velum_chunks *c, const entry *e) {
    list_remove(&c->arriving, e);
    c->reserved -= charge(e->size);
}

static void forget(velum_chunks *c, entry *e) {
    end_reservation(c, e);
    unchain(c, e);
    free_entry(e);
}

/* ---- open, close, figures ---- */

int velum_chunks_open(velum_chunks **out, size_t budget_bytes) {
    velum_chunks *c = calloc(1, sizeof *c);
    int err = VELUM_E_NOMEM;
    if (c == NULL) return VELUM_E_NOMEM;
    c->slab = velum_slab_open();
    if (c->slab != NULL && extend(&c->table, 1)) {
        err = velum_port_random(c->multipliers, sizeof c->multipliers);
    }
    if (err != 0) {
        velum_slab_close(c->slab);
        free_segments(&c->table);
        free(c);
        return err;
    }
    c->table.count = 1;
    c->budget = budget_bytes;
    *out = c;
    return 0;
}

void velum_chunks_close(velum_chunks *c) {
    if (c == NULL) return;
    for (size_t i = 0; i < c->table.count; i++) {
        entry *next;
        for (entry *e = *at(&c->table, i); e != NULL; e = next) {
            next = e->next;
            free_entry(e);
        }
    }
    free_segments(&c->table);
    free_segments(&c->held);
    free_segments(&c->arriving);
    velum_slab_close(c->slab);
    free(c);
}

void velum_chunks_set_budget(velum_chunks *c, size_t budget_bytes) {
    c->budget = budget_bytes;
}

velum_chunks_figures velum_chunks_get_figures(const velum_chunks *c) {
    velum_chunks_figures figures = {c->budget, c->used, c->reserved, c->held.count,
                                    c->arriving.count};
    return figures;
}

/* ---- putting ---- */

int velum_chunks_add(velum_chunks *c, const void *bytes, size_t n,
                     uint8_t key_out[VELUM_KEY_BYTES]) {
    entry *e;
    int err;
    if (bytes == NULL || n == 0 || n > VELUM_CHUNK_BYTES_MAX) return VELUM_E_ARGUMENT;
    velum_chunk_key(bytes, n, key_out);
    if (find(c, key_out, HELD) != NULL) return 1;
    err = take(c, key_out, n, &e);
    if (err != 0) return err;
    memcpy(e->bytes, bytes, n);
    hold(c, e);
    chain(c, e);
    return 0;
}

/* Takes what a chunk needs while it arrives. NOMEM. */
static int prepare(velum_chunks *c, entry *e) {
    if (!extend(&c->arriving, c->arriving.count + 1)) return VELUM_E_NOMEM;
    if (e->size <= HASH_AT_ONCE_BYTES_MAX) return 0;
    e->hasher = malloc(sizeof *e->hasher);
    if (e->hasher == NULL) return VELUM_E_NOMEM;
    blake3_hasher_init(e->hasher);
    return 0;
}

int velum_chunks_reserve(velum_chunks *c, const uint8_t key[VELUM_KEY_BYTES], size_t size,
                         uint32_t sender) {
    const entry *held = find(c, key, HELD);
    entry *e;
    int err;
    if (size == 0 || size > VELUM_CHUNK_BYTES_MAX) return VELUM_E_ARGUMENT;
    if (held != NULL) return held->size == size ? 1 : VELUM_E_CHUNK_HASH;
    if (find(c, key, ARRIVING) != NULL) return VELUM_E_AGAIN;
    if (c->arriving.count >= VELUM_CHUNKS_ARRIVING_MAX) return VELUM_E_FULL;
    err = take(c, key, size, &e);
    if (err != 0) return err;
    err = prepare(c, e);
    if (err != 0) {
        free_entry(e);
        return err;
    }
    e->state = ARRIVING;
    e->sender = sender;
    list_add(&c->arriving, e);
    c->reserved += charge(size);
    chain(c, e);
    return 0;
}

/* The chunk that arrives from a sender; NULL if there is none. */
static entry *find_from(const velum_chunks *c, const uint8_t *key, uint32_t sender) {
    entry *e = find(c, key, ARRIVING);
    return e != NULL && e->sender == sender ? e : NULL;
}

/* True if the part is the one that the arriving chunk needs next. */
static bool fits(const entry *e, const velum_chunk_part *part) {
    return part->total == e->size && part->offset == e->received && part->size > 0 &&
           part->size <= e->size - part->offset;
}

uint8_t *velum_chunks_part_memory(velum_chunks *c, const velum_chunk_part *part, uint32_t sender) {
    entry *e = find_from(c, part->key, sender);
    if (e == NULL || !fits(e, part) || find(c, part->key, HELD) != NULL) return NULL;
    e->wanted = part->size;
    return e->bytes + part->offset;
}

/* Whether the bytes of an arriving chunk, all there, are what its key says. */
static bool arrived_right(const entry *e) {
    uint8_t key[VELUM_KEY_BYTES];
    if (e->hasher != NULL) {
        blake3_hasher_finalize(e->hasher, key, VELUM_KEY_BYTES);
    } else {
        velum_chunk_key(e->bytes, e->size, key);
    }
    return memcmp(key, e->key, VELUM_KEY_BYTES) == 0;
}

int velum_chunks_part_arrived(velum_chunks *c, const velum_chunk_part *part, uint32_t sender,
                              uint32_t *next) {
    entry *e = find_from(c, part->key, sender);
    *next = 0;
    if (e == NULL) return VELUM_E_CHUNK_MISSING;
    if (find(c, part->key, HELD) != NULL) {
        forget(c, e);
        return 1;
    }
    if (!fits(e, part) || e->wanted != part->size) return VELUM_E_CHUNK_MISSING;
    if (e->hasher != NULL) blake3_hasher_update(e->hasher, e->bytes + part->offset, part->size);
    e->received += part->size;
    e->wanted = 0;
    if (e->received < e->size) {
        *next = e->received;
        return 0;
    }
    if (!arrived_right(e)) {
        forget(c, e);
        return VELUM_E_CHUNK_HASH;
    }
    free(e->hasher);
    e->hasher = NULL;
    end_reservation(c, e);
    hold(c, e);
    return 1;
}

static void abandon(velum_chunks *c, entry *e) {
    if (e->wanted > 0 && c->abandoned != NULL) {
        c->abandoned(c->abandoned_owner, e->sender, e->key);
    }
    forget(c, e);
}

void velum_chunks_abandon(velum_chunks *c, const uint8_t key[VELUM_KEY_BYTES], uint32_t sender) {
    entry *e = find_from(c, key, sender);
    if (e != NULL) abandon(c, e);
}

void velum_chunks_abandon_all(velum_chunks *c, uint32_t sender) {
    for (size_t i = c->arriving.count; i-- > 0;) { /* down: the last one fills a place */
        entry *e = *at(&c->arriving, i);
        if (e->sender == sender) abandon(c, e);
    }
}

void velum_chunks_on_abandon(velum_chunks *c,
                             void (*abandoned)(void *owner, uint32_t sender,
                                               const uint8_t key[VELUM_KEY_BYTES]),
                             void *owner) {
    c->abandoned = abandoned;
    c->abandoned_owner = owner;
}

/* ---- having ---- */

const uint8_t *velum_chunks_get(const velum_chunks *c, const uint8_t key[VELUM_KEY_BYTES],
                                size_t *n) {
    const entry *e = find(c, key, HELD);
    if (e == NULL) return NULL;
    *n = e->size;
    return e->bytes;
}

const uint8_t *velum_chunks_lend(velum_chunks *c, const uint8_t key[VELUM_KEY_BYTES], size_t *n,
                                 void **token) {
    entry *e = find(c, key, HELD);
    if (e == NULL) return NULL;
    e->loans++;
    *n = e->size;
    *token = e;
    return e->bytes;
}

/* Frees a dropped entry that nobody has a loan of. */
static void release(entry *e) {
    if (e->state != DROPPED || e->loans > 0) return;
    e->owner->used -= charge(e->size);
    free_entry(e);
}

void velum_chunks_give_back(void *token) {
    entry *e = token;
    e->loans--;
    release(e);
}

int velum_chunks_drop(velum_chunks *c, const uint8_t key[VELUM_KEY_BYTES]) {
    entry *e = find(c, key, HELD);
    if (e == NULL) return VELUM_E_CHUNK_MISSING;
    list_remove(&c->held, e);
    unchain(c, e);
    if (c->checked == e) c->checked = NULL;
    e->state = DROPPED;
    release(e);
    return 0;
}

int velum_chunks_verify(velum_chunks *c, const uint8_t key[VELUM_KEY_BYTES], size_t bytes_max) {
    const entry *e = find(c, key, HELD);
    uint8_t found[VELUM_KEY_BYTES];
    size_t n;
    if (bytes_max == 0) return VELUM_E_ARGUMENT;
    if (e == NULL) return VELUM_E_CHUNK_MISSING;
    if (c->checked != e) {
        c->checked = e;
        c->checked_bytes = 0;
        blake3_hasher_init(&c->checking);
    }
    n = e->size - c->checked_bytes < bytes_max ? e->size - c->checked_bytes : bytes_max;
    blake3_hasher_update(&c->checking, e->bytes + c->checked_bytes, n);
    c->checked_bytes += n;
    if (c->checked_bytes < e->size) return 0;
    c->checked = NULL;
    blake3_hasher_finalize(&c->checking, found, VELUM_KEY_BYTES);
    return memcmp(found, key, VELUM_KEY_BYTES) == 0 ? 1 : VELUM_E_CHUNK_HASH;
}

size_t velum_chunks_walk(const velum_chunks *c, size_t *left, velum_chunk *out, size_t room) {
    size_t written = 0;
    if (*left > c->held.count) *left = c->held.count;
    for (; written < room && *left > 0; written++) {
        const entry *e = *at(&c->held, --*left);
        memcpy(out[written].key, e->key, VELUM_KEY_BYTES);
        out[written].size = e->size;
    }
    return written;
}
