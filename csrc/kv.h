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
 * above it. What a base hides for good is dropped when it is merged. kv_internal.h says which file
 * owns what.
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
 * room_bytes bounds all memory of keys and cells. */
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
/* This node's own count of a counter, 0 if it has none under the base that stands. */
int64_t velum_kv_own_sum(const velum_kv *kv, velum_kv_bytes key, uint16_t node);

/* Calls part(owner, part, value) for each visible element (value empty) or field, in byte order of
 * the parts. Nothing may be merged meanwhile. Returns how many. */
size_t velum_kv_parts(const velum_kv *kv, velum_kv_bytes key,
                      void (*part)(void *owner, velum_kv_bytes part, velum_kv_bytes value),
                      void *owner);
/* The additions of one element that are visible, one by each node: each needs a REMOVE of its own.
 * Returns how many there are; writes at most `max`. */
size_t velum_kv_additions(const velum_kv *kv, velum_kv_bytes key, velum_kv_bytes element,
                          velum_kv_stamp *at, size_t max);

/* ---- all that is here ---- */

typedef struct {
    size_t keys;       /* visible ones */
    size_t tombstones; /* DEL, REMOVE, UNFIELD */
    size_t bytes, room;
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
 * records that make up each of them, tombstones too. Whether there are more. */
bool velum_kv_step(const velum_kv *kv, velum_kv_walk *walk, size_t keys_max,
                   void (*record)(void *owner, const velum_kv_record *record), void *owner);
/* The same for the visible keys alone: key(owner, key, type). */
bool velum_kv_keys(const velum_kv *kv, velum_kv_walk *walk, size_t keys_max,
                   void (*key)(void *owner, velum_kv_bytes key, velum_kv_type type), void *owner);

/* ---- tombstones ---- */

/* Drops the key's tombstones with stamps up to `seen`, which every member has; the key too if
 * nothing is left of it, or an EXPIRE up to `seen`. How many it has dropped. What is not one stays,
 * and so does a DEL that is the base of a count. */
size_t velum_kv_collect(velum_kv *kv, velum_kv_bytes key, velum_kv_stamp seen);

/* ---- sums ---- */

/* The sums of the VELUM_KV_FANOUT children of an inner node: level 0 is the root's, and `index` 0;
 * at level 3 they are leaves. ARGUMENT: there is no such node. */
int velum_kv_sums(const velum_kv *kv, unsigned level, uint32_t index,
                  uint64_t sums[VELUM_KV_FANOUT]);
/* Calls record(...) for everything of one leaf, as velum_kv_step. ARGUMENT: no such leaf. */
int velum_kv_leaf(const velum_kv *kv, uint32_t leaf,
                  void (*record)(void *owner, const velum_kv_record *record), void *owner);

#endif
