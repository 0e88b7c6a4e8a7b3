/* names_index.c: see names_index.h. */
#include "names_index.h"

#include <stdlib.h>
#include <string.h>

#define JOIN_MAX   (VELUM__BLOCK / 2u) /* what two neighbours have together when they become one */
#define ROOM_FIRST 16u

static uint64_t prefix_of(const uint8_t *digest) {
    uint64_t prefix = 0;
    for (size_t i = 0; i < sizeof prefix; i++)
        prefix = prefix << 8 | digest[i];
    return prefix;
}

/* Whether a place's digest comes before another: -1, 0, 1. */
static int order_place(const velum__ranked *a, uint64_t prefix, const uint8_t *digest) {
    if (a->prefix != prefix) return a->prefix < prefix ? -1 : 1;
    return memcmp(a->entry->item.digest, digest, VELUM_DIGEST_BYTES);
}

/* ---- searching ---- */

/* The last block whose first place is not behind a digest; 0 if there is none. */
static size_t block_for(const velum__index *x, uint64_t prefix, const uint8_t *digest) {
    size_t low = 0, high = x->nblocks; /* the blocks below `low` begin at or before it */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        bool behind = x->firsts[middle] > prefix ||
                      (x->firsts[middle] == prefix &&
                       order_place(&x->blocks[middle]->places[0], prefix, digest) > 0);
        if (behind)
            high = middle;
        else
            low = middle + 1;
    }
    return low > 0 ? low - 1 : 0;
}

bool velum__index_seek(const velum__index *x, const uint8_t digest[VELUM_DIGEST_BYTES],
                       velum__at *at) {
    uint64_t prefix = prefix_of(digest);
    size_t low = 0, high;
    const velum__block *block;
    at->block = block_for(x, prefix, digest);
    at->place = 0;
    if (x->nblocks == 0) return false;
    block = x->blocks[at->block];
    high = block->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (order_place(&block->places[middle], prefix, digest) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    at->place = low;
    if (low == block->count) {
        at->block++;
        at->place = 0;
        return false; /* the next block begins behind it */
    }
    return order_place(&block->places[low], prefix, digest) == 0;
}

velum__at velum__index_after(const velum__index *x, const uint8_t digest[VELUM_DIGEST_BYTES]) {
    velum__at at;
    if (velum__index_seek(x, digest, &at)) velum__index_advance(x, &at);
    return at;
}

velum_names_entry *velum__index_get(const velum__index *x, velum__at at) {
    return at.block < x->nblocks ? x->blocks[at.block]->places[at.place].entry : NULL;
}

void velum__index_advance(const velum__index *x, velum__at *at) {
    if (++at->place < x->blocks[at->block]->count) return;
    at->block++;
    at->place = 0;
}

/* ---- changing ---- */

static void note_first(velum__index *x, size_t block) {
    x->firsts[block] = x->blocks[block]->places[0].prefix;
}

/* Room for one more block in the lists. */
static bool extend(velum__index *x) {
    size_t room = x->room > 0 ? 2 * x->room : ROOM_FIRST;
    void *memory;
    if (x->nblocks < x->room) return true;
    memory = realloc(x->blocks, room * sizeof *x->blocks);
    if (memory == NULL) return false;
    x->blocks = memory;
    memory = realloc(x->firsts, room * sizeof *x->firsts);
    if (memory == NULL) return false;
    x->firsts = memory;
    x->room = room;
    return true;
}

/* Puts an empty block before another, or at the end. */
static bool add_block(velum__index *x, size_t block) {
    velum__block *fresh;
    size_t behind = x->nblocks - block;
    if (!extend(x)) return false;
    fresh = malloc(sizeof *fresh);
    if (fresh == NULL) return false;
    fresh->count = 0;
    memmove(x->blocks + block + 1, x->blocks + block, behind * sizeof *x->blocks);
    memmove(x->firsts + block + 1, x->firsts + block, behind * sizeof *x->firsts);
    x->blocks[block] = fresh;
    x->nblocks++;
    return true;
}

static void drop_block(velum__index *x, size_t block) {
    size_t behind = x->nblocks - block - 1;
    free(x->blocks[block]);
    memmove(x->blocks + block, x->blocks + block + 1, behind * sizeof *x->blocks);
    memmove(x->firsts + block, x->firsts + block + 1, behind * sizeof *x->firsts);
    x->nblocks--;
}

/* Moves the upper half of a full block to a new one behind it. */
static bool split(velum__index *x, size_t block) {
    velum__block *from, *to;
    if (!add_block(x, block + 1)) return false;
    from = x->blocks[block];
    to = x->blocks[block + 1];
    from->count = VELUM__BLOCK / 2;
    to->count = VELUM__BLOCK - from->count;
    memcpy(to->places, from->places + from->count, to->count * sizeof *to->places);
    note_first(x, block + 1);
    return true;
}

int velum__index_insert(velum__index *x, velum__at at, velum_names_entry *entry) {
    velum__block *block;
    if (x->nblocks == 0 && !add_block(x, 0)) return VELUM_E_NOMEM;
    if (at.place == 0 && at.block > 0) { /* at the end of the one before is the same */
        at.block--;
        at.place = x->blocks[at.block]->count;
    }
    if (x->blocks[at.block]->count == VELUM__BLOCK) {
        if (!split(x, at.block)) return VELUM_E_NOMEM;
        if (at.place > x->blocks[at.block]->count) {
            at.place -= x->blocks[at.block]->count;
            at.block++;
        }
    }
    block = x->blocks[at.block];
    memmove(block->places + at.place + 1, block->places + at.place,
            (block->count - at.place) * sizeof *block->places);
    block->places[at.place].prefix = prefix_of(entry->item.digest);
    block->places[at.place].entry = entry;
    block->count++;
    note_first(x, at.block);
    x->count++;
    return 0;
}

void velum__index_replace(velum__index *x, velum__at at, velum_names_entry *entry) {
    x->blocks[at.block]->places[at.place].entry = entry;
}

/* Joins a block with the one behind it if both together are small. */
static void join(velum__index *x, size_t block) {
    velum__block *to = x->blocks[block], *from;
    if (block + 1 >= x->nblocks) return;
    from = x->blocks[block + 1];
    if (to->count + from->count > JOIN_MAX) return;
    memcpy(to->places + to->count, from->places, from->count * sizeof *from->places);
    to->count += from->count;
    drop_block(x, block + 1);
}

void velum__index_remove(velum__index *x, velum__at at) {
    velum__block *block = x->blocks[at.block];
    block->count--;
    memmove(block->places + at.place, block->places + at.place + 1,
            (block->count - at.place) * sizeof *block->places);
    x->count--;
    if (block->count == 0) {
        drop_block(x, at.block);
        return;
    }
    note_first(x, at.block);
    join(x, at.block);
    if (at.block > 0) join(x, at.block - 1);
}

void velum__index_close(velum__index *x) {
    for (size_t i = 0; i < x->nblocks; i++)
        free(x->blocks[i]);
    free(x->blocks);
    free(x->firsts);
}
