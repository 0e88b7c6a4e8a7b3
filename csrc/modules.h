/* modules.h: modules by hash, in bounded memory.
 *
 * Owns: the bytes of every module held here, parts of those arriving, pins, and who is evicted.
 * Refuses to know: links, WebAssembly. How: a fixed table; a module is complete only once its
 * BLAKE2b-256 has been checked; the least recently used unpinned one makes room.
 */
#ifndef VELUM_MODULES_H
#define VELUM_MODULES_H

#include "wire.h"

typedef struct velum_modules velum_modules;

/* NOMEM. `bytes_max` bounds the sum of all modules held, arriving ones included. */
int velum_modules_open(velum_modules **out, size_t bytes_max);
void velum_modules_close(velum_modules *m);

/* Copies and keeps; writes the hash. 0 also if it was held already. TOO_LARGE (over
 * VELUM_MODULE_BYTES_MAX or over bytes_max), FULL (all else is pinned), NOMEM, ARGUMENT (empty). */
int velum_modules_add(velum_modules *m, const void *bytes, size_t n, uint8_t hash_out[32]);

/* The complete module and its size, marked as used; NULL if not held (or still arriving). The
 * pointer is valid while the module is pinned, or until the next add, part or drop. */
const uint8_t *velum_modules_get(velum_modules *m, const uint8_t hash[32], size_t *n);
/* A pinned module is never evicted. Pins count. MODULE_MISSING. */
int velum_modules_pin(velum_modules *m, const uint8_t hash[32]);
void velum_modules_unpin(velum_modules *m, const uint8_t hash[32]);
/* Pins and hands out in one step, for velum_link_send_ref: give_back(token) unpins. NULL if not
 * held. Everything lent must be given back before close. */
const uint8_t *velum_modules_lend(velum_modules *m, const uint8_t hash[32], size_t *n,
                                  void **token);
void velum_modules_give_back(void *token);

/* Receiving. `memory` gives where a part's bytes go (NULL: not wanted: complete already, wrong
 * total, out of order, no room), starting the module at offset 0. `arrived` counts the part in:
 * 1 complete and verified, 0 more to come (next offset in *next), MODULE_HASH (dropped whole), or
 * MODULE_MISSING (`memory` had no place for it). */
uint8_t *velum_modules_part_memory(velum_modules *m, const velum_module_part *part);
int velum_modules_part_arrived(velum_modules *m, const velum_module_part *part, uint32_t *next);
/* Forgets an arriving module whose sender is gone. */
void velum_modules_abandon(velum_modules *m, const uint8_t hash[32]);

size_t velum_modules_bytes(const velum_modules *m);
size_t velum_modules_count(const velum_modules *m);

#endif
