/* slab.c: regions, their slots, and the empty ones that are kept.
 *
 * Owns and refuses to know: what slab.h says. How: each size has a list of its regions that have a
 * free slot; a region that is full stands in no list. A region's free slots are a stack of numbers.
 */
#include "slab.h"

#include "velum_opt.h"
#include "velum_port.h"

#include <stdlib.h>

/* Two huge pages of the usual systems: few regions, and one that holds a single slot wastes little.
 */
#define REGION_BYTES ((size_t)4 * 1024 * 1024)
#define SLOTS_MAX    (REGION_BYTES / VELUM_SLAB_BYTES_MIN)

#define STEPS   4u /* sizes to each doubling */
#define CLASSES 32u

struct velum_slab_region {
    velum_slab_region *next, *previous; /* in its list; a spare one has `next` only */
    uint8_t *memory;
    size_t bytes; /* of memory: REGION_BYTES, or one larger slot */
    size_t slot;  /* bytes */
    uint16_t kind;
    uint16_t slots, nfree;
    uint16_t free[SLOTS_MAX];
};

struct velum_slab {
    velum_slab_region *open[CLASSES]; /* with free slots */
    velum_slab_region *spare;         /* empty, of REGION_BYTES */
    size_t spares;
};

/* The size that fits, and its number. */
static size_t slot_for(size_t size, uint16_t *kind) {
    size_t base = VELUM_SLAB_BYTES_MIN;
    unsigned k = 0;
    while (base * 2 < size) {
        base *= 2;
        k += STEPS;
    }
    while (base + (k % STEPS) * (base / STEPS) < size && k % STEPS < STEPS - 1)
        k++;
    *kind = (uint16_t)k;
    if (base + (k % STEPS) * (base / STEPS) >= size) return base + (k % STEPS) * (base / STEPS);
    *kind = (uint16_t)(k + 1);
    return base * 2;
}

static void list_in(velum_slab *slab, velum_slab_region *region) {
    velum_slab_region *first = slab->open[region->kind];
    region->previous = NULL;
    region->next = first;
    if (first != NULL) first->previous = region;
    slab->open[region->kind] = region;
}

static void list_out(velum_slab *slab, velum_slab_region *region) {
    if (region->next != NULL) region->next->previous = region->previous;
    if (region->previous != NULL) {
        region->previous->next = region->next;
    } else {
        slab->open[region->kind] = region->next;
    }
}

static void free_region(velum_slab_region *region) {
    velum_port_pages_free(region->memory, region->bytes);
    free(region);
}

/* An empty region of some size; a spare one if that will do. */
static velum_slab_region *region_of(velum_slab *slab, size_t bytes) {
    velum_slab_region *region = slab->spare;
    if (bytes == REGION_BYTES && region != NULL) {
        slab->spare = region->next;
        slab->spares--;
        return region;
    }
    region = malloc(sizeof *region);
    if (region == NULL) return NULL;
    region->bytes = bytes;
    region->memory = velum_port_pages(bytes);
    if (region->memory == NULL) {
        free(region);
        return NULL;
    }
    return region;
}

static velum_slab_region *carve(velum_slab *slab, size_t slot, uint16_t kind) {
    velum_slab_region *region = region_of(slab, slot > REGION_BYTES ? slot : REGION_BYTES);
    if (region == NULL) return NULL;
    region->slot = slot;
    region->kind = kind;
    region->slots = region->nfree = (uint16_t)(region->bytes / slot);
    for (uint16_t i = 0; i < region->slots; i++) {
        region->free[i] = (uint16_t)(region->slots - 1 - i);
    }
    list_in(slab, region);
    return region;
}

velum_slab *velum_slab_open(void) {
    return calloc(1, sizeof(velum_slab));
}

void velum_slab_close(velum_slab *slab) {
    if (slab == NULL) return;
    while (slab->spare != NULL) {
        velum_slab_region *region = slab->spare;
        slab->spare = region->next;
        free_region(region);
    }
    free(slab);
}

void *velum_slab_take(velum_slab *slab, size_t size, velum_slab_region **region) {
    uint16_t kind;
    size_t slot = slot_for(size, &kind);
    velum_slab_region *r = slab->open[kind];
    if (r == NULL) r = carve(slab, slot, kind);
    if (r == NULL) return NULL;
    *region = r;
    r->nfree--;
    if (r->nfree == 0) list_out(slab, r);
    return r->memory + r->free[r->nfree] * r->slot;
}

void velum_slab_give(velum_slab *slab, void *piece, velum_slab_region *region) {
    if (region->nfree == 0) list_in(slab, region);
    region->free[region->nfree++] =
        (uint16_t)((size_t)((uint8_t *)piece - region->memory) / region->slot);
    if (region->nfree < region->slots) return;
    list_out(slab, region);
    if (region->bytes == REGION_BYTES && slab->spares < VELUM_SLAB_SPARES_MAX) {
        region->next = slab->spare;
        slab->spare = region;
        slab->spares++;
    } else {
        free_region(region);
    }
}
