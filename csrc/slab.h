/* slab.h: large pieces of memory that are taken and given back all the time.
 *
 * Owns: regions of memory from the port, cut into slots of one size each. Refuses to know: what
 * lies in them. How: a region has slots of one of 25 sizes, four to each doubling, so a piece
 * wastes a fifth at most (Bonwick's slab allocator, 1994). Regions that are empty are kept for a
 * while for any size: memory that a system gives for the first time costs more than all that is
 * done with it, clearing and mapping it page by page.
 */
#ifndef VELUM_SLAB_H
#define VELUM_SLAB_H

#include "velum.h"

typedef struct velum_slab velum_slab;
typedef struct velum_slab_region velum_slab_region;

/* Smaller pieces are for malloc. */
#define VELUM_SLAB_BYTES_MIN (64u * 1024u)

/* NULL: no memory. */
velum_slab *velum_slab_open(void);
/* All pieces must have been given back. NULL is nothing. */
void velum_slab_close(velum_slab *slab);

/* `size` bytes (VELUM_SLAB_BYTES_MIN to VELUM_CHUNK_BYTES_MAX), aligned to 64 at least, with any
 * contents; *region is for give. NULL: no memory. */
void *velum_slab_take(velum_slab *slab, size_t size, velum_slab_region **region);
void velum_slab_give(velum_slab *slab, void *piece, velum_slab_region *region);

#endif
