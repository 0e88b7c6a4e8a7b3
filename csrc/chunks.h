/* chunks.h: the chunks of files that a node holds in RAM, each found by its key.
 *
 * Owns: the memory of chunks, their budget, reservations for those that arrive, loans to whoever
 * sends from them, and that a chunk's bytes are what its key says. Refuses to know: links, claims,
 * placement, files. How: a table in which nothing is ever dropped to make room; a chunk that
 * arrives is hashed part by part and can be found once its hash is right. No call but close and
 * abandon_all takes longer for a million chunks than for ten.
 *
 * A key is the BLAKE3 hash of a chunk's bytes (O'Connor, Aumasson, Neves, Wilcox-O'Hearn 2020), 32
 * bytes. A chunk has 1 to VELUM_CHUNK_BYTES_MAX bytes, and counts in the budget as that many, or as
 * VELUM_CHUNK_CHARGE_BYTES_MIN if it has fewer. A call that ends in NULL or an error has changed
 * nothing, unless it says otherwise.
 */
#ifndef VELUM_CHUNKS_H
#define VELUM_CHUNKS_H

#include "wire_store.h"

typedef struct velum_chunks velum_chunks;

/* The key of n bytes; n may be 0, and `bytes` NULL then. */
void velum_chunk_key(const void *bytes, size_t n, uint8_t key_out[VELUM_KEY_BYTES]);

/* NOMEM; SYSTEM: the port has no random bytes, with which strangers cannot foresee the table. */
int velum_chunks_open(velum_chunks **out, size_t budget_bytes);
/* Everything lent must have been given back. NULL is nothing. */
void velum_chunks_close(velum_chunks *c);

/* A smaller budget than what is used drops nothing, but then nothing new fits. */
void velum_chunks_set_budget(velum_chunks *c, size_t budget_bytes);

typedef struct {
    size_t budget, used, reserved; /* bytes; `used` has dropped chunks that are still lent */
    size_t count;                  /* chunks held: complete, verified, not dropped */
    size_t arriving;               /* chunks reserved */
} velum_chunks_figures;
velum_chunks_figures velum_chunks_get_figures(const velum_chunks *c);

/* ---- putting ---- */

/* Copies and keeps; writes the key. 0 kept, 1 held already. ARGUMENT (0 bytes, or too many: no key
 * is written), FULL (over the budget or VELUM_CHUNKS_MAX), NOMEM. */
int velum_chunks_add(velum_chunks *c, const void *bytes, size_t n,
                     uint8_t key_out[VELUM_KEY_BYTES]);

/* Takes memory and budget for a chunk that `sender` is to send: a number of the caller's, such as a
 * link's handle. 0 reserved; 1 held already, nothing to send. AGAIN: it arrives already, from
 * somebody else or the same: ask again when that has ended. FULL (over the budget, VELUM_CHUNKS_MAX
 * or VELUM_CHUNKS_ARRIVING_MAX), NOMEM; ARGUMENT (`size` out of range); CHUNK_HASH (it is held, and
 * has another size). */
int velum_chunks_reserve(velum_chunks *c, const uint8_t key[VELUM_KEY_BYTES], size_t size,
                         uint32_t sender);

/* Where a part's bytes go, `part->size` of them, until the part has arrived or its sender's
 * reservation is abandoned; nothing else takes that memory away. NULL, not wanted: not reserved by
 * this sender, held already, a total other than was reserved, empty, past the end, or not the next
 * part. */
uint8_t *velum_chunks_part_memory(velum_chunks *c, const velum_chunk_part *part, uint32_t sender);
/* Counts a part in. 1: complete and verified, held from now on (also if it has been added in
 * between); 0: more to come, from *next. CHUNK_HASH: all has come and is not what the key says; the
 * reservation is gone. CHUNK_MISSING: not reserved by this sender, or part_memory gave no place
 * for it. *next is 0 unless more is to come. */
int velum_chunks_part_arrived(velum_chunks *c, const velum_chunk_part *part, uint32_t sender,
                              uint32_t *next);
/* Gives up a sender's reservation and what has come of it. Without one, nothing. */
void velum_chunks_abandon(velum_chunks *c, const uint8_t key[VELUM_KEY_BYTES], uint32_t sender);
/* Gives up all reservations of a sender that is gone. */
void velum_chunks_abandon_all(velum_chunks *c, uint32_t sender);
/* Who is told before a reservation is given up for whose next part a place was given: what receives
 * into that memory must stop. One at a time; NULL: nobody any more. */
void velum_chunks_on_abandon(velum_chunks *c,
                             void (*abandoned)(void *owner, uint32_t sender,
                                               const uint8_t key[VELUM_KEY_BYTES]),
                             void *owner);

/* ---- having ---- */

/* A chunk's bytes, aligned to 64, and how many; NULL if it is not held. Valid until it is dropped.
 * Whether they are still what the key says is for `verify`, or for who reads them. */
const uint8_t *velum_chunks_get(const velum_chunks *c, const uint8_t key[VELUM_KEY_BYTES],
                                size_t *n);
/* The same, valid until give_back(token) as well, for velum_link_send_ref. */
const uint8_t *velum_chunks_lend(velum_chunks *c, const uint8_t key[VELUM_KEY_BYTES], size_t *n,
                                 void **token);
/* Once for each loan. */
void velum_chunks_give_back(void *token);

/* It cannot be found any more, and can be put again. Its memory goes at once, or with its last
 * loan. CHUNK_MISSING. */
int velum_chunks_drop(velum_chunks *c, const uint8_t key[VELUM_KEY_BYTES]);

/* Hashes a held chunk again, at most `bytes_max` bytes a call. 1: all of it, and it is right; 0:
 * more to do, call again. CHUNK_HASH: it is wrong, and still held. CHUNK_MISSING; ARGUMENT
 * (bytes_max 0). One chunk is under way at a time: another key, or its drop, starts over. */
int velum_chunks_verify(velum_chunks *c, const uint8_t key[VELUM_KEY_BYTES], size_t bytes_max);

typedef struct {
    uint8_t key[VELUM_KEY_BYTES];
    uint32_t size;
} velum_chunk;

/* A walk over all chunks held, newest first, up to `room` at a time: *left is
 * VELUM_CHUNKS_WALK_START before the first step, and then at most so many are left. Returns how
 * many were written to `out`; 0 ends the walk. In between anything may be added and dropped: a
 * chunk that is held all the while is met at least once, and again only after a drop of another;
 * one that is added may be met. */
#define VELUM_CHUNKS_WALK_START SIZE_MAX
size_t velum_chunks_walk(const velum_chunks *c, size_t *left, velum_chunk *out, size_t room);

#endif
