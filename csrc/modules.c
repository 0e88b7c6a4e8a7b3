/* modules.c: the cache of modules, a fixed table in bounded memory.
 *
 * Owns: what modules.h says. Refuses to know: links, WebAssembly.
 * How: a slot is free, arriving or complete. A module being received has a slot of its own, apart
 * from a complete one of the same hash, because a link may be writing into its memory: nobody but
 * abandon and the last part takes that memory away. The hash is computed part by part, so that the
 * last part of a large module costs no more than the first. `bytes` counts whole modules from the
 * moment their memory is taken. Slots are few: a look over the table is cheaper than an index.
 */
#include "modules.h"

#include "blake2b.h"

#include <stdlib.h>
#include <string.h>

/* How far an arriving module has come. */
typedef struct {
    velum_blake2b state;
    uint32_t received;
} progress;

typedef struct {
    uint8_t hash[VELUM_HASH_BYTES];
    uint8_t *bytes; /* NULL: the slot is free */
    size_t size;
    progress *arriving; /* NULL: complete */
    uint64_t used;      /* the table's clock when it was last asked for */
    uint32_t pins;
} slot;

struct velum_modules {
    size_t bytes_max;
    size_t bytes; /* of all slots */
    size_t count; /* of complete slots */
    uint64_t clock;
    slot slots[VELUM_MODULE_CACHE_SLOTS];
};

int velum_modules_open(velum_modules **out, size_t bytes_max) {
    velum_modules *m = calloc(1, sizeof *m);
    if (m == NULL) return VELUM_E_NOMEM;
    m->bytes_max = bytes_max;
    *out = m;
    return 0;
}

static void empty_slot(velum_modules *m, slot *s) {
    m->bytes -= s->size;
    if (s->arriving == NULL) m->count--;
    free(s->arriving);
    free(s->bytes);
    *s = (slot){0};
}

void velum_modules_close(velum_modules *m) {
    if (m == NULL) return;
    for (size_t i = 0; i < VELUM_MODULE_CACHE_SLOTS; i++) {
        if (m->slots[i].bytes != NULL) empty_slot(m, &m->slots[i]);
    }
    free(m);
}

static slot *find(velum_modules *m, const uint8_t *hash, bool arriving) {
    for (size_t i = 0; i < VELUM_MODULE_CACHE_SLOTS; i++) {
        slot *s = &m->slots[i];
        if (s->bytes != NULL && (s->arriving != NULL) == arriving &&
            memcmp(s->hash, hash, VELUM_HASH_BYTES) == 0) {
            return s;
        }
    }
    return NULL;
}

static bool evictable(const slot *s) {
    return s->bytes != NULL && s->arriving == NULL && s->pins == 0;
}

/* An empty slot, after which n more bytes fit too; NULL, and nothing evicted, if that cannot be. */
static slot *make_room(velum_modules *m, size_t n) {
    size_t kept = 0, kept_slots = 0;
    for (size_t i = 0; i < VELUM_MODULE_CACHE_SLOTS; i++) {
        const slot *s = &m->slots[i];
        if (s->bytes == NULL || evictable(s)) continue;
        kept += s->size;
        kept_slots++;
    }
    if (kept_slots == VELUM_MODULE_CACHE_SLOTS || n > m->bytes_max - kept) return NULL;
    for (;;) {
        slot *vacant = NULL, *oldest = NULL;
        for (size_t i = 0; i < VELUM_MODULE_CACHE_SLOTS; i++) {
            slot *s = &m->slots[i];
            if (s->bytes == NULL) {
                vacant = s;
            } else if (evictable(s) && (oldest == NULL || s->used < oldest->used)) {
                oldest = s;
            }
        }
        if (vacant != NULL && n <= m->bytes_max - m->bytes) return vacant;
        empty_slot(m, oldest);
    }
}

/* Takes memory for a module of n bytes, not filled yet: FULL or NOMEM. */
static int take(velum_modules *m, const uint8_t *hash, size_t n, progress *arriving, slot **out) {
    slot *s = make_room(m, n);
    if (s == NULL) return VELUM_E_FULL;
    s->bytes = malloc(n);
    if (s->bytes == NULL) return VELUM_E_NOMEM;
    memcpy(s->hash, hash, VELUM_HASH_BYTES);
    s->size = n;
    s->arriving = arriving;
    s->used = ++m->clock;
    m->bytes += n;
    if (arriving == NULL) m->count++;
    *out = s;
    return 0;
}

int velum_modules_add(velum_modules *m, const void *bytes, size_t n, uint8_t hash_out[32]) {
    slot *s;
    int err;
    if (bytes == NULL || n == 0) return VELUM_E_ARGUMENT;
    if (n > VELUM_MODULE_BYTES_MAX || n > m->bytes_max) return VELUM_E_TOO_LARGE;
    velum_blake2b_256(bytes, n, hash_out);
    s = find(m, hash_out, false);
    if (s != NULL) {
        s->used = ++m->clock;
        return 0;
    }
    err = take(m, hash_out, n, NULL, &s);
    if (err == 0) memcpy(s->bytes, bytes, n);
    return err;
}

const uint8_t *velum_modules_get(velum_modules *m, const uint8_t hash[32], size_t *n) {
    slot *s = find(m, hash, false);
    if (s == NULL) return NULL;
    s->used = ++m->clock;
    *n = s->size;
    return s->bytes;
}

int velum_modules_pin(velum_modules *m, const uint8_t hash[32]) {
    slot *s = find(m, hash, false);
    if (s == NULL) return VELUM_E_MODULE_MISSING;
    s->pins++;
    return 0;
}

void velum_modules_unpin(velum_modules *m, const uint8_t hash[32]) {
    slot *s = find(m, hash, false);
    if (s != NULL && s->pins > 0) s->pins--;
}

const uint8_t *velum_modules_lend(velum_modules *m, const uint8_t hash[32], size_t *n,
                                  void **token) {
    slot *s = find(m, hash, false);
    if (s == NULL) return NULL;
    s->used = ++m->clock;
    s->pins++;
    *n = s->size;
    *token = s;
    return s->bytes;
}

void velum_modules_give_back(void *token) {
    slot *s = token;
    s->pins--;
}

/* Starts an arriving module at its first part. */
static slot *start(velum_modules *m, const velum_module_part *part) {
    slot *s = NULL;
    progress *arriving;
    if (part->total == 0 || part->total > VELUM_MODULE_BYTES_MAX) return NULL;
    arriving = malloc(sizeof *arriving);
    if (arriving == NULL) return NULL;
    velum_blake2b_init(&arriving->state);
    arriving->received = 0;
    if (take(m, part->hash, part->total, arriving, &s) != 0) free(arriving);
    return s;
}

/* True if the part is the one that the arriving module needs next. */
static bool fits(const slot *s, const velum_module_part *part) {
    return part->total == s->size && part->offset == s->arriving->received &&
           part->size <= s->size - part->offset;
}

uint8_t *velum_modules_part_memory(velum_modules *m, const velum_module_part *part) {
    slot *s;
    if (part->size == 0 || find(m, part->hash, false) != NULL) return NULL;
    s = find(m, part->hash, true);
    if (s == NULL && part->offset == 0 && part->size <= part->total) s = start(m, part);
    if (s == NULL || !fits(s, part)) return NULL;
    return s->bytes + part->offset;
}

int velum_modules_part_arrived(velum_modules *m, const velum_module_part *part, uint32_t *next) {
    slot *s = find(m, part->hash, true);
    uint8_t hash[VELUM_HASH_BYTES];
    *next = 0;
    if (find(m, part->hash, false) != NULL) {
        if (s != NULL) empty_slot(m, s);
        return 1;
    }
    if (s == NULL || !fits(s, part)) return VELUM_E_MODULE_MISSING;
    velum_blake2b_update(&s->arriving->state, s->bytes + part->offset, part->size);
    s->arriving->received += part->size;
    if (s->arriving->received < s->size) {
        *next = s->arriving->received;
        return 0;
    }
    velum_blake2b_final(&s->arriving->state, hash);
    if (memcmp(hash, s->hash, VELUM_HASH_BYTES) != 0) {
        empty_slot(m, s);
        return VELUM_E_MODULE_HASH;
    }
    free(s->arriving);
    s->arriving = NULL;
    s->used = ++m->clock;
    m->count++;
    return 1;
}

void velum_modules_abandon(velum_modules *m, const uint8_t hash[32]) {
    slot *s = find(m, hash, true);
    if (s != NULL) empty_slot(m, s);
}

size_t velum_modules_bytes(const velum_modules *m) {
    return m->bytes;
}

size_t velum_modules_count(const velum_modules *m) {
    return m->count;
}
