/* kv_internal.h: what the files of the key-value state share, and nobody else.
 *
 * Owns: the shape of keys and cells in memory. Refuses to know: what is in kv.h already.
 *
 *   kv.c        merging records into keys, settling and dropping tombstones
 *   kv_keys.c   the memory of keys and of their values, and the table that finds them
 *   kv_cells.c  the cells of one key, in their order
 *   kv_tree.c   sums over all that is here, and the keys of each leaf
 *   kv_view.c   what of a key is visible
 *   kv_expiry.c which visible key expires first
 *   kv_walk.c   all that is here, as records
 */
#ifndef VELUM_KV_INTERNAL_H
#define VELUM_KV_INTERNAL_H

#include "kv.h"

/* Levels of the list of cells: each has a quarter of those below, so these serve 4^12 cells. */
#define VELUM__CELL_LEVELS_MAX 12u

/* Words of a key's name, 4 bytes each, and its size. */
#define VELUM__NAME_WORDS (VELUM_KV_KEY_BYTES_MAX / 4u + 1u)

/* Of a key's fields: so many that the sizes of a value and of a name fit. */
#define VELUM__VALUE_SIZE_BITS 21
#define VELUM__NAME_SIZE_BITS  11
#define VELUM__DUE_BITS        28
#define VELUM__DUE_MAX         ((UINT32_C(1) << VELUM__DUE_BITS) - 1u) /* keys that expire */

/* In the order that they have in a list. */
typedef enum { VELUM__COUNT = 1, VELUM__MEMBER, VELUM__FIELD } velum__cell_kind;

/* One piece of memory: this, its links, its part, its value. A COUNT is one of a node, and each of
 * its fresh ones is; a MEMBER is one of an element and the node that has added it, a FIELD one of a
 * field. */
typedef struct velum__cell {
    velum_kv_stamp of;    /* COUNT: as of the record; MEMBER: the addition; FIELD: as `stamp` */
    velum_kv_stamp stamp; /* of the record that stands */
    int64_t sum;          /* COUNT */
    uint32_t value_size;
    uint16_t part_size;
    uint16_t node; /* FIELD: 0 */
    uint32_t mark; /* of age, of a tombstone */
    uint8_t kind;
    uint8_t levels;
    bool fresh : 1; /* COUNT */
    bool gone : 1;  /* a tombstone: a REMOVE, an UNFIELD */
    bool settled : 1;
    struct velum__cell *next[]; /* of each level */
} velum__cell;

typedef struct {
    size_t visible;        /* elements, each once, or fields */
    velum_kv_stamp latest; /* of all cells of the kind, those gone too */
} velum__tally;

typedef struct {
    velum__tally members, fields;
    uint8_t levels;
    velum__cell *first[]; /* of each level */
} velum__cells;

/* One piece of memory: this, its name, its value. */
typedef struct velum__key {
    struct velum__key *next;      /* in its chain */
    struct velum__key *leaf_next; /* in its leaf, and what points to it there */
    struct velum__key **leaf_link;
    velum__cells *cells;   /* NULL: none */
    uint64_t identity;     /* the first 8 bytes of the BLAKE3 hash of its name, big-endian */
    velum_kv_stamp base;   /* zeros: none */
    velum_kv_stamp expiry; /* of an EXPIRE later than the base; zeros: none */
    uint64_t base_until_ms, expiry_until_ms;
    uint32_t hash; /* of its name, for the table */
    uint32_t mark; /* of age: of a DEL; of the EXPIRE since the key shows nothing */
    /* In 8 bytes, so that a key's entry in kv_expiry.c costs nothing where there is none. */
    uint32_t value_size : VELUM__VALUE_SIZE_BITS;
    uint32_t name_size : VELUM__NAME_SIZE_BITS;
    uint32_t due_at : VELUM__DUE_BITS; /* its entry, from 1; 0: none */
    bool set : 1;                      /* the base is a SET, else a DEL or none */
    bool json : 1;                     /* a SET that is marked so */
    bool settled : 1;                  /* the DEL */
    bool expiry_settled : 1;           /* of a key that shows nothing */
} velum__key;

typedef struct {
    velum__key ***segments;
    size_t room;  /* buckets of the segments so far */
    size_t count; /* buckets in use */
    size_t mask;  /* the least power of 2 that is not below the count, minus 1 */
    size_t keys;
    uint64_t multipliers[VELUM__NAME_WORDS + 1u];
} velum__table;

typedef struct {
    uint64_t sums[16u + 256u + 4096u + VELUM_KV_LEAVES]; /* level by level */
    velum__key *leaves[VELUM_KV_LEAVES];                 /* the first key of each */
} velum__tree;

typedef struct {
    uint64_t until_ms;
    velum__key *key;
} velum__due;

/* A heap: below entry i are 4 * i + 1 to 4 * i + 4, none of which is sooner. */
typedef struct {
    velum__due **segments;
    size_t room; /* entries of the segments so far */
    size_t count;
} velum__expiry;

struct velum_kv {
    velum__table table;
    velum__tree *tree;
    velum__expiry expiry;
    uint64_t dice; /* for the levels of cells */
    uint32_t mark; /* of age: of what comes now */
    velum_kv_figures figures;
};

/* ---- kv_keys.c ---- */

/* What a piece of memory of n bytes counts as: with what malloc has around it. */
size_t velum__charge(size_t n);
/* Whether there is room for `more` bytes in the place of `less`. */
bool velum__fits(const velum_kv *kv, size_t more, size_t less);

static inline uint8_t *velum__name_bytes(const velum__key *k) {
    return (uint8_t *)(uintptr_t)(k + 1);
}

static inline uint8_t *velum__value_bytes(const velum__key *k) {
    return velum__name_bytes(k) + k->name_size;
}

bool velum__table_open(velum__table *table); /* false: out of memory */
void velum__table_close(velum__table *table);

velum__key *velum__find(const velum_kv *kv, velum_kv_bytes name);
/* A key that has nothing yet, with a value of zeros. STATE_FULL, NOMEM. */
int velum__add_key(velum_kv *kv, velum_kv_bytes name, size_t value_size, velum__key **out);
/* Gives a key's value another size: the key may move, and kv_expiry.c is to be told. `less`: what
 * is about to be freed. The bytes are left as they come. STATE_FULL, NOMEM: nothing has changed. */
int velum__resize_key(velum_kv *kv, velum__key **k, size_t value_size, size_t less);
/* Its sums must be out, and its cells gone. */
void velum__drop_key(velum_kv *kv, velum__key *k);

/* The keys in an order that no growth of the table changes: the least place of a key that is not
 * below `place`, in *k; false: none. */
bool velum__key_from(const velum_kv *kv, uint64_t *place, velum__key **k);
/* The next key at the same place, or NULL. */
velum__key *velum__key_beside(const velum__key *k);

/* ---- kv_cells.c ---- */

static inline uint8_t *velum__part_bytes(const velum__cell *c) {
    return (uint8_t *)(uintptr_t)(c->next + c->levels);
}

static inline velum_kv_bytes velum__part(const velum__cell *c) {
    velum_kv_bytes part = {velum__part_bytes(c), c->part_size};
    return part;
}

static inline velum_kv_bytes velum__value(const velum__cell *c) {
    velum_kv_bytes value = {velum__part_bytes(c) + c->part_size, c->value_size};
    return value;
}

/* < 0, 0, > 0: in byte order; what is shorter is before what begins with it. */
int velum__compare_bytes(velum_kv_bytes a, velum_kv_bytes b);

/* The first cell that is not before (kind, part, node), or NULL; `cells` may be NULL. */
const velum__cell *velum__cell_from(const velum__cells *cells, velum__cell_kind kind,
                                    velum_kv_bytes part, uint16_t node);
/* Merges a record of a cell, which the base does not hide. 1, 0; STATE_FULL, NOMEM. */
int velum__merge_cell(velum_kv *kv, velum__key *k, const velum_kv_record *r);
/* The memory of the cells that a base would hide for good: a SET, or not. */
size_t velum__hidden_bytes(const velum__key *k, velum_kv_stamp base, bool set);
/* Drops the cells that the key's base hides, and settled tombstones with marks up to drop_to. How
 * many tombstones. */
size_t velum__prune_cells(velum_kv *kv, velum__key *k, uint32_t drop_to);
/* Settles tombstones with marks up to settle_to; how many. In *over how many settled ones there are
 * then with marks up to drop_to. */
size_t velum__settle_cells(velum_kv *kv, const velum__key *k, uint32_t settle_to, uint32_t drop_to,
                           size_t *over);
/* Frees them, no more. */
void velum__free_cells(velum__cells *cells);

/* ---- kv_tree.c ---- */

uint64_t velum__identity(velum_kv_bytes name);
/* What a record is in the sums. */
uint64_t velum__print(uint64_t identity, const velum_kv_record *r);
/* Takes a print into the sums, or out of them. */
void velum__flip(velum_kv *kv, const velum__key *k, uint64_t print);
void velum__leaf_add(velum_kv *kv, velum__key *k);
void velum__leaf_remove(const velum__key *k);
/* The key has moved in memory. */
void velum__leaf_moved(velum__key *k);

/* ---- kv_view.c ---- */

velum_kv_type velum__type(const velum__key *k);
/* What a settled DEL hides has come: whoever sent it does not have the DEL, which is to be told
 * again. */
void velum__recall_base(velum_kv *kv, velum__key *k);
/* When it expires, unix ms; 0: never. */
uint64_t velum__ends_at(const velum__key *k);
/* The stamp of the SET or EXPIRE that says so. */
velum_kv_stamp velum__expires_by(const velum__key *k);

/* ---- kv_expiry.c ---- */

void velum__expiry_close(velum__expiry *e);
/* Makes sure of an entry more, and counts it as used. STATE_FULL, NOMEM. */
int velum__expiry_hold(velum_kv *kv);
/* It is used no more, though it is still there for the next key that is noted. */
void velum__expiry_release(velum_kv *kv);
/* When a key expires now; 0: never, or it shows nothing. To be called whenever that may have
 * changed, and when the key has moved in memory; a key without an entry must have been held one. */
void velum__expiry_note(velum_kv *kv, velum__key *k, uint64_t until_ms);

/* ---- kv_walk.c ---- */

/* Puts the walk behind the place that it is at; whether there is anything. */
bool velum__advance(velum_kv_walk *walk);

/* What stands in a key, as records. Whether there is a base, an EXPIRE. */
bool velum__base_record(const velum__key *k, velum_kv_record *r);
bool velum__expiry_record(const velum__key *k, velum_kv_record *r);
void velum__cell_record(const velum__key *k, const velum__cell *c, velum_kv_record *r);

#endif
