/* kv.h: the key-value state in a node's memory: keys, and how records are merged into them.
 *
 * Owns: the memory of keys, bases and cells, the rules of docs/kv.md, section 2, and sums over what
 * is here, by which two stores find where they differ. Refuses to know: logs, links, clocks, and
 * which tombstones everybody has.
 *
 * How: a table of keys by a hash that grows by one bucket at a time (as csrc/chunks.c has it). A
 * key is one piece of memory with its base in it; its cells hang on it, in the order of (kind,
 * part, node). Every key also is in one of VELUM_KV_LEAVES leaves, by the first bits of the BLAKE3
 * hash of its name; a leaf has the exclusive or of a 64-bit hash of all that its keys hold (stamps
 * and sums, not values and times of expiry: a stamp stands for them), and so have the inner nodes
 * above it. What a base hides for good is dropped when it is merged, and tombstones by stages, as
 * the owner learns who has them. Keys that expire have places in a heap. kv_internal.h says which
 * file owns what.
 *
 * Merging the same records in any order, some of them twice, gives the same keys and sums.
 */
#ifndef VELUM_KV_H
#define VELUM_KV_H

#include "kv_record.h"

#define VELUM_KV_FANOUT 16u /* children of an inner node of the tree */
#define VELUM_KV_LEVELS 4u  /* below the root: 16, 256, 4,096, 65,536 */
#define VELUM_KV_LEAVES 65536u

typedef struct velum_kv velum_kv;

/* NOMEM; SYSTEM: the port has no random bytes, with which strangers cannot foresee the table.
 * room_bytes bounds all memory of keys and cells, and of the places of those that expire. */
int velum_kv_open(velum_kv **out, size_t room_bytes);
void velum_kv_close(velum_kv *kv); /* NULL is nothing */

/* 1: it has changed something; 0: what is here is as late or later. ARGUMENT: the record is none
 * that may be (kv_record.h); STATE_FULL: no room, and it would grow; NOMEM. After an error nothing
 * has changed. */
int velum_kv_merge(velum_kv *kv, const velum_kv_record *record);

/* ---- what is visible ---- */

typedef enum {
    VELUM_KV_NOTHING = 0,
    VELUM_KV_BYTES,
    VELUM_KV_COUNTER,
    VELUM_KV_MEMBERS,
    VELUM_KV_FIELDS
} velum_kv_type;

typedef struct {
    velum_kv_type type;
    bool json;             /* BYTES that were marked so */
    velum_kv_stamp base;   /* of the SET or DEL; zeros if there was none */
    velum_kv_stamp latest; /* its version: the greatest stamp of what is visible; of a set or hash
                              also of its tombstones. NOTHING: zeros */
    uint64_t until_ms;     /* when it expires; 0: never */
    velum_kv_stamp expiry; /* of the SET or EXPIRE that said so; zeros: never */
    velum_kv_bytes value;  /* BYTES, or the base of a COUNTER; valid until the next merge */
    int64_t sum;           /* COUNTER: base and counts; wraps around. A base is a number if it is
                              written without a plus, needless zeros or -0, and fits */
    size_t count;          /* MEMBERS, FIELDS: how many */
} velum_kv_view;

/* What a key is now; `view` is zeroed if it is nothing that was ever written. */
velum_kv_type velum_kv_look(const velum_kv *kv, velum_kv_bytes key, velum_kv_view *view);

/* The value of one field, or NULL data if it is not there; whether an element is in a set, and if
 * so in *at the latest addition (what a REMOVE has to name). */
velum_kv_bytes velum_kv_field(const velum_kv *kv, velum_kv_bytes key, velum_kv_bytes field);
bool velum_kv_member(const velum_kv *kv, velum_kv_bytes key, velum_kv_bytes element,
                     velum_kv_stamp *at);
/* What the node's next COUNT of count->key goes on with, in its `of`, `fresh` and `sum`: a count of
 * its own that is visible; else nothing yet, from the SET that is there; without one, or if one of
 * its own waits for another SET, it is fresh, and `of` is zeros: its own stamp is to be there. */
void velum_kv_own_count(const velum_kv *kv, uint16_t node, velum_kv_record *count);

/* Calls part(owner, part, value) for each visible element (value empty) or field, in byte order of
 * the parts. Nothing may be merged meanwhile. Returns how many. */
size_t velum_kv_parts(const velum_kv *kv, velum_kv_bytes key,
                      void (*part)(void *owner, velum_kv_bytes part, velum_kv_bytes value),
                      void *owner);
/* The additions of one element that are visible, one by each node: each needs a REMOVE of its own.
 * Returns how many there are; writes at most `max`. */
size_t velum_kv_additions(const velum_kv *kv, velum_kv_bytes key, velum_kv_bytes element,
                          velum_kv_stamp *at, size_t max);

/* ---- what expires ---- */

typedef struct {
    velum_kv_bytes key; /* valid until the next merge */
    uint64_t until_ms;
    velum_kv_stamp expiry; /* of the SET or EXPIRE that said so */
} velum_kv_due;

/* Which visible key expires first, or one of them; false: none does. */
bool velum_kv_soonest(const velum_kv *kv, velum_kv_due *due);
/* How many visible keys have expired at now_ms; only these are looked at. */
size_t velum_kv_expired(const velum_kv *kv, uint64_t now_ms);

/* ---- all that is here ---- */

typedef struct {
    size_t keys;       /* visible ones */
    size_t tombstones; /* DEL, REMOVE, UNFIELD */
    size_t settled;    /* of these */
    size_t bytes, room;
    uint64_t recalled;     /* settled tombstones that what came late has unsettled */
    velum_kv_stamp latest; /* of all that was merged: for the node's own clock */
} velum_kv_figures;
velum_kv_figures velum_kv_get_figures(const velum_kv *kv);

/* Where a walk over all keys is; zeros at the start. Anything may be merged between two steps: a
 * key that is there all the while is met once, some more than once. */
typedef struct {
    uint64_t place;
} velum_kv_walk;

/* Passes some keys, `keys_max` at most and 1 at least (more only if several are at one place, which
 * is as likely as that two 64-bit hashes are equal). Calls record(owner, record) for all the
 * records that make up each of them, settled tombstones too: what a log has to keep. Whether there
 * are more. */
bool velum_kv_step(const velum_kv *kv, velum_kv_walk *walk, size_t keys_max,
                   void (*record)(void *owner, const velum_kv_record *record), void *owner);
/* The records that make up one key; none if nothing stands of it. */
void velum_kv_key_records(const velum_kv *kv, velum_kv_bytes key,
                          void (*record)(void *owner, const velum_kv_record *record), void *owner);
/* As velum_kv_step, for the visible keys alone, but for those that have expired at now_ms (0: none
 * has). */
bool velum_kv_keys(const velum_kv *kv, velum_kv_walk *walk, size_t keys_max, uint64_t now_ms,
                   void (*key)(void *owner, velum_kv_bytes key, velum_kv_type type,
                               uint64_t until_ms),
                   void *owner);
/* Whether the walk has passed the place that a key has, or would have if it were there. */
bool velum_kv_passed(const velum_kv *kv, velum_kv_walk walk, velum_kv_bytes key);

/* ---- tombstones ---- */

/* A tombstone is *settled* once every member is known to have it: from then on it is in no sum and
 * no leaf, and only guards against late copies of what it has removed; and it is dropped once every
 * member is known to have settled it. An EXPIRE of a key that shows nothing goes the same way.
 *
 * What comes from now on has this age mark, 1 at the start; 0 is taken for 1. */
void velum_kv_mark(velum_kv *kv, uint32_t mark);

typedef struct {
    size_t settled, dropped; /* tombstones; each call adds to them */
} velum_kv_tended;

/* Passes some keys as velum_kv_step: settles their tombstones with marks up to settle_to, then
 * drops settled ones with marks up to drop_to (0: none), and keys of which nothing is left. Whether
 * there are more keys. */
bool velum_kv_tend(velum_kv *kv, velum_kv_walk *walk, size_t keys_max, uint32_t settle_to,
                   uint32_t drop_to, velum_kv_tended *tended);

/* ---- sums ---- */

/* The sums of the VELUM_KV_FANOUT children of an inner node: level 0 is the root's, and `index` 0;
 * at level 3 they are leaves. ARGUMENT: there is no such node. */
int velum_kv_sums(const velum_kv *kv, unsigned level, uint32_t index,
                  uint64_t sums[VELUM_KV_FANOUT]);
/* Calls record(...) for everything of one leaf that is in its sum: as velum_kv_step, but for what
 * is settled. ARGUMENT: no such leaf. */
int velum_kv_leaf(const velum_kv *kv, uint32_t leaf,
                  void (*record)(void *owner, const velum_kv_record *record), void *owner);

#endif
