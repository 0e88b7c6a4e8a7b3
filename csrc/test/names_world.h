/* names_world.h: what the tests of a node's entries share: entries to merge, and a check of all
 * figures and sums against what a walk over the entries says. */
#ifndef VELUM_TEST_NAMES_WORLD_H
#define VELUM_TEST_NAMES_WORLD_H

#include "check.h"
#include "chunks.h"
#include "names.h"

#include <stdlib.h>

#define UNIX_MS UINT64_C(1700000000000)

/* An inline file of a text, or a tombstone for NULL. */
static velum_entry entry_of(const char *name, uint64_t stamp, const char *body) {
    velum_entry e;
    memset(&e, 0, sizeof e);
    e.version.stamp = stamp;
    e.version.origin = 1;
    e.kind = body != NULL ? VELUM_ENTRY_INLINE : VELUM_ENTRY_TOMBSTONE;
    e.keepers = 3;
    e.name.data = name;
    e.name.size = (uint16_t)strlen(name);
    e.body = (const uint8_t *)body;
    e.body_size = body != NULL ? (uint32_t)strlen(body) : 0;
    e.size = e.body_size;
    return e;
}

static int merge(velum_names *n, velum_entry e, uint64_t now_ms) {
    velum_named_version here;
    return velum_names_merge(n, &e, UNIX_MS, now_ms, &here);
}

static const velum_names_entry *find(const velum_names *n, const char *name) {
    uint8_t digest[VELUM_DIGEST_BYTES];
    velum_chunk_key(name, strlen(name), digest);
    return velum_names_find(n, digest);
}

/* Holds the figures, and the sums with each node up to `id_max`, to what the entries say. Only for
 * entries that have all been placed by the members as they are, and no retired ones. */
static inline void check_all(const velum_names *n, uint16_t me, uint16_t id_max) {
    velum_names_figures f = velum_names_get_figures(n),
                        is = {.room = f.room, .stamp_max = f.stamp_max};
    velum_sums *sums = calloc((size_t)id_max + 1u, sizeof *sums);
    uint8_t at[VELUM_DIGEST_BYTES] = {0};
    const velum_names_entry *entry;
    if (sums == NULL) abort();
    while ((entry = velum_names_next(n, at)) != NULL) {
        uint16_t ids[VELUM_KEEPERS_MAX];
        size_t count = velum_names_keepers(n, entry->item.digest, entry->keepers, ids);
        bool mine = false;
        CHECK(memcmp(at, entry->item.digest, sizeof at) < 0);
        CHECK(velum_names_find(n, entry->item.digest) == entry);
        memcpy(at, entry->item.digest, sizeof at);
        is.count++;
        is.tombstones += entry->kind == VELUM_ENTRY_TOMBSTONE;
        is.bytes += entry->payload_size + VELUM_NAMES_ENTRY_BYTES;
        for (size_t i = 0; i < count; i++)
            mine |= ids[i] == me;
        is.formers += !mine;
        is.files += count > 0 && ids[0] == me && entry->kind != VELUM_ENTRY_TOMBSTONE;
        for (size_t i = 0; i < count && mine; i++) {
            sums[ids[i]].counts[at[0]]++;
            sums[ids[i]].marks[at[0]] ^= entry->item.mark;
        }
    }
    CHECK(memcmp(&f, &is, sizeof f) == 0);
    for (uint16_t id = 1, sharing = 0; id <= id_max; id++) {
        const velum_sums *got = velum_names_sums(n, id);
        bool any = false;
        for (size_t b = 0; b < VELUM_BUCKETS; b++)
            any |= sums[id].counts[b] > 0;
        if (id == me) continue;
        CHECK_EQ(got != NULL, any);
        if (got == NULL || !any) continue;
        CHECK(memcmp(got->counts, sums[id].counts, sizeof got->counts) == 0);
        CHECK(memcmp(got->marks, sums[id].marks, sizeof got->marks) == 0);
        sharing = velum_names_sharing(n, sharing);
        CHECK_EQ(sharing, id);
    }
    free(sums);
}

#endif
