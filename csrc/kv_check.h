/* kv_check.h: reads a log without its node, and reports what is in it.
 *
 * Owns: the report. Refuses to know: how to mend anything: it changes nothing, and takes no lock. A
 * node may have the log open meanwhile: what it is just writing may then look like a torn tail.
 * How: the same reading as a node's at its start, and the records merged in memory, which shows
 * what a compaction would leave.
 */
#ifndef VELUM_KV_CHECK_H
#define VELUM_KV_CHECK_H

#include "kv_read.h"

/* Damaged lines that are reported one by one: more say no more about a disk. */
#define VELUM_KV_CHECK_DAMAGE_MAX 64u

typedef struct {
    uint64_t offset, bytes;
} velum_kv_damage;

typedef struct {
    velum_kv_found found; /* its torn bytes are the last ones of the file */
    uint64_t file_bytes;
    uint64_t damaged_bytes;                            /* of all found.damaged lines */
    velum_kv_damage damage[VELUM_KV_CHECK_DAMAGE_MAX]; /* the first ones of them */
    size_t damage_count;
    size_t keys; /* visible at the end; one that has expired since counts until it is deleted */
    size_t tombstones;
    uint64_t compact_bytes; /* of a file with only what counts at the end */
} velum_kv_checked;

/* NOT_FOUND, SYSTEM: it cannot be read. NOMEM: there was no memory to merge it, and only what was
 * found in the file is reported. */
int velum_kv_check(const char *path, velum_kv_checked *report);

#endif
