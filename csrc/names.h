/* names.h: the entries in a node's keeping: what each name stands for.
 *
 * Owns: the memory of entries, which of two is the greater, who keeps a name among the members that
 * it was told of, and sums over what this node and another keep. Refuses to know: links, clocks,
 * chunks, and when anything is compared, handed over or forgotten: that is velum/policy/catalog.py.
 * How: a sorted index of digests (names_index.h); each entry has the ids of its keepers as it was
 * last placed, by which it counts in sums; nothing is ever dropped to make room.
 *
 * A digest is the BLAKE3 hash of a name. Of two entries of a name the greater has the later
 * version, stamp before origin; of equal versions the greater kind, size, and last body, compared
 * byte by byte, a longer one after its own beginning. It takes over the other's number of keepers
 * if that is more: so what had more keepers once is replaced at all of them. An entry's mark stands
 * for all of these: its lowest byte is `keepers`, so that who reads it in a listing knows whether
 * it keeps that name; the others are the first 7 bytes (little-endian) of the BLAKE3 hash of body |
 * digest | version 12 | kind | keepers | size u64. Keepers are the first `keepers` members by the
 * draws of velum/policy/draws.py for the digest's first 8 bytes (little-endian), row 0. An entry of
 * which this node is no keeper is a *former*.
 *
 * Walks go by digest: *at* is the last digest that was passed, zeros at the start; a step passes at
 * most `look_max` entries and returns whether there are more. In between anything may change: an
 * entry that is there all the while is met once. (A digest of zeros is never met; nobody has one.)
 */
#ifndef VELUM_NAMES_H
#define VELUM_NAMES_H

#include "wire_store.h"

typedef struct velum_names velum_names;

/* `me` is this node's id, 1..65535, and the only member at first; room_bytes is for entries and
 * their index, each counting as its payload and VELUM_NAMES_ENTRY_BYTES. ARGUMENT, NOMEM. */
int velum_names_open(velum_names **out, uint16_t me, size_t room_bytes);
void velum_names_close(velum_names *n);
/* Less room than what is used drops nothing, but then nothing grows. */
void velum_names_set_room(velum_names *n, size_t room_bytes);

/* The live full members, this node included, ascending ids, 1 at least. What is merged from now on
 * is placed by these; what is here already when velum_names_scan comes by. ARGUMENT, NOMEM: nothing
 * changed. */
int velum_names_set_members(velum_names *n, const uint16_t *ids, size_t count);
/* Who keeps a name whose entry says `keepers`, best first; writes min(keepers, members) ids, which
 * it returns. */
size_t velum_names_keepers(const velum_names *n, const uint8_t digest[VELUM_DIGEST_BYTES],
                           uint8_t keepers, uint16_t *ids);

typedef struct {
    size_t files; /* no tombstones, and of their keepers this node is the first */
    size_t count, tombstones, formers; /* count has the tombstones and the formers too */
    size_t bytes, room;
    uint64_t stamp_max; /* of all that was merged: for the node's own clock */
} velum_names_figures;
velum_names_figures velum_names_get_figures(const velum_names *n);

/* ---- entries ---- */

typedef struct {
    velum_name_item item;
    uint8_t kind, keepers;
    uint64_t size;
    uint64_t made_ms; /* of a tombstone: on the node's clock of milliseconds; may be "before 0" */
    uint64_t came_ms; /* when it was merged, on the same clock */
    velum_text name;
    const uint8_t *payload; /* as it travels in ENTRY, with age_ms 0 and nobody awaited */
    uint32_t payload_size;
} velum_names_entry;

/* Merges an entry that velum_wire_get_entry has accepted. unix_ms is this node's wall clock, which
 * may be wrong; now_ms the one that policies are given. *here is what the name stands for now.
 * 1: taken (KEPT); 0: it (KEPT), or a greater one (LATER) is here already, which may have got more
 * keepers. Errors change nothing,
 * *here is HERE or NONE: VERSION_AHEAD (more than 2^42 ms ahead of unix_ms), NAMES_FULL (room_bytes
 * or VELUM_NAMES_MAX; what takes no more room than what it replaces always fits, so does a
 * tombstone in the place of a manifest), NOMEM; ARGUMENT: it is no entry. */
int velum_names_merge(velum_names *n, const velum_entry *entry, uint64_t unix_ms, uint64_t now_ms,
                      velum_named_version *here);
/* What a name stands for, or NULL; valid until the next call that changes anything. */
const velum_names_entry *velum_names_find(const velum_names *n,
                                          const uint8_t digest[VELUM_DIGEST_BYTES]);
/* The one with the least digest above `after`, or NULL. */
const velum_names_entry *velum_names_next(const velum_names *n,
                                          const uint8_t after[VELUM_DIGEST_BYTES]);
/* A tombstone counts in no sums and on no page from now on. Without one, nothing. */
void velum_names_retire(velum_names *n, const uint8_t digest[VELUM_DIGEST_BYTES]);
/* Forgets exactly this entry; false: it is not here. */
bool velum_names_forget(velum_names *n, const velum_name_item *item);
/* The first `cap` names (VELUM_NAMES_PAGE_MAX at most) by their bytes that start with `prefix` and
 * come after `after`, tombstones too; *more: there are others. Looks at every entry. */
size_t velum_names_list(const velum_names *n, velum_text prefix, velum_text after,
                        const velum_names_entry **out, size_t cap, bool *more);

/* ---- comparing ---- */

/* Over the entries that this node and `peer` keep, as they were last placed, but for retired
 * tombstones: NULL if there is none. */
const velum_sums *velum_names_sums(const velum_names *n, uint16_t peer);
/* The least id above `after` of a node that keeps entries with this one; 0: none. */
uint16_t velum_names_sharing(const velum_names *n, uint16_t after);
/* Walks over what counts in these sums, from *at to `end`, writing up to `cap`: all that there is
 * between the old *at and the new. */
bool velum_names_shared(const velum_names *n, uint16_t peer, uint8_t at[VELUM_DIGEST_BYTES],
                        const uint8_t end[VELUM_DIGEST_BYTES], size_t look_max,
                        const velum_names_entry **out, size_t cap, size_t *count);

/* ---- changes of members, tombstones ---- */

typedef struct {
    const velum_names_entry *entry;
    uint16_t node;
} velum_names_pair;

/* Walks over all entries and places them anew. Of those that this node keeps it writes which other
 * keeper may lack them: who was none when it was last placed, or is among `anew` (ascending ids),
 * that came since. `cap` at least VELUM_KEEPERS_MAX, or nothing may be passed. */
bool velum_names_scan(velum_names *n, uint8_t at[VELUM_DIGEST_BYTES], const uint16_t *anew,
                      size_t nanew, size_t look_max, velum_names_pair *out, size_t cap,
                      size_t *count);
/* Walks over formers, writing up to `cap`. */
bool velum_names_formers(const velum_names *n, uint8_t at[VELUM_DIGEST_BYTES], size_t look_max,
                         const velum_names_entry **out, size_t cap, size_t *count);
/* Walks over tombstones, writing up to `cap` of those made at `until_ms` or before. *made_ms
 * becomes the least made_ms of the others that were passed, if that is less. */
bool velum_names_graves(const velum_names *n, uint8_t at[VELUM_DIGEST_BYTES], int64_t until_ms,
                        size_t look_max, const velum_names_entry **out, size_t cap, size_t *count,
                        int64_t *made_ms);

#endif
