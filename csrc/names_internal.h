/* names_internal.h: what names.c and names_walk.c share, and nobody else.
 *
 * Owns: the shape of a node's entries in memory. Refuses to know: what is in names.h already.
 */
#ifndef VELUM_NAMES_INTERNAL_H
#define VELUM_NAMES_INTERNAL_H

#include "names_index.h"

/* One piece of memory: this, the ids of its keepers, and its ENTRY frame. */
typedef struct {
    velum_names_entry entry; /* first: the index has pointers to it */
    const uint8_t *body;     /* in its payload */
    uint32_t body_size;
    uint8_t nids;
    bool former;    /* this node is not among `ids` */
    bool retired;   /* a tombstone that is not compared any more */
    uint16_t ids[]; /* its keepers when it was last placed; room for entry.keepers */
} velum__name;

/* What this node and another keep. */
typedef struct {
    uint16_t id;
    size_t total; /* of the counts */
    velum_sums *sums;
} velum__sharer;

struct velum_names {
    uint16_t me;
    uint16_t *members;
    size_t nmembers;
    velum__sharer *peers; /* ascending: all other members, and who else counts in `ids` yet */
    size_t npeers;
    velum__index index;
    velum_names_figures figures;
};

static inline velum__name *velum__name_of(const velum_names_entry *entry) {
    return (velum__name *)entry;
}

bool velum__among(const uint16_t *ids, size_t count, uint16_t id);

/* Places an entry by the members as they are now; `ids` are its keepers before. */
void velum__names_place(velum_names *n, velum__name *name);

#endif
