/* names_index.h: entries in the order of their digests.
 *
 * Owns: where each entry stands, and memory for that. Refuses to know: what an entry says. How: a
 * list of blocks of up to VELUM__BLOCK sorted places each, with the first digest of each block
 * beside. A full block is split; one that has become small is joined with its neighbour, so that
 * two neighbours are never both below a quarter. A place has the first 8 bytes of the digest, so
 * that a search leads to no entry but the one that it ends at, however the digests are chosen.
 */
#ifndef VELUM_NAMES_INDEX_H
#define VELUM_NAMES_INDEX_H

#include "names.h"

#define VELUM__BLOCK 256u

typedef struct {
    uint64_t prefix; /* of its digest: as a big-endian number, so that the order is the same */
    velum_names_entry *entry;
} velum__ranked;

typedef struct {
    uint32_t count; /* 1..VELUM__BLOCK */
    velum__ranked places[VELUM__BLOCK];
} velum__block;

typedef struct {
    velum__block **blocks;
    uint64_t *firsts; /* the prefix of each block's first place */
    size_t nblocks, room;
    size_t count; /* entries */
} velum__index;

/* Where an entry stands; behind the last one `block` is nblocks. */
typedef struct {
    size_t block, place;
} velum__at;

/* The first entry whose digest is not less; whether it is equal. */
bool velum__index_seek(const velum__index *x, const uint8_t digest[VELUM_DIGEST_BYTES],
                       velum__at *at);
/* The first entry whose digest is greater. */
velum__at velum__index_after(const velum__index *x, const uint8_t digest[VELUM_DIGEST_BYTES]);
/* NULL behind the last one. */
velum_names_entry *velum__index_get(const velum__index *x, velum__at at);
void velum__index_advance(const velum__index *x, velum__at *at);

/* Before the entry at the place that seek found for its digest. NOMEM: nothing changed. */
int velum__index_insert(velum__index *x, velum__at at, velum_names_entry *entry);
/* In the place of one with the same digest. */
void velum__index_replace(velum__index *x, velum__at at, velum_names_entry *entry);
void velum__index_remove(velum__index *x, velum__at at);
/* Its own memory; entries are the caller's. */
void velum__index_close(velum__index *x);

#endif
