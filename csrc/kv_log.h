/* kv_log.h: the append-only log of a store: records in, in order, and all of them back at the
 * start.
 *
 * Owns: the file's bytes, what of them is written and what is on disk, the torn tail, and
 * compaction. Refuses to know: what records mean, and where threads come from: the port syncs
 * behind its back.
 *
 * How: records are encoded into one buffer, which velum_kv_log_write puts into the file in one
 * call; one sync then serves whoever waits. *At* is a place in the file: records that end at or
 * before `written` are in the file, those at or before `synced` on disk. Compaction writes another
 * file beside it, NAME.new, a bounded piece at a time, while the log goes on growing; the last step
 * copies what has been appended meanwhile, syncs, renames over the log and syncs the folder. A
 * crash at any instruction leaves one of the two whole.
 *
 * After an error of writing (a full disk, say) what did not reach the file is cut off again, so
 * that the file ends with a whole line; records are refused until velum_kv_log_write succeeds.
 *
 * After a failed sync the log is *broken*: the kernel may have dropped the pages, and call the next
 * sync of that file well (fsyncgate). It takes and writes nothing until a compaction has put a file
 * in its place that was made from memory alone. Its owner merges what was taken before it does
 * anything else here, and merges nothing that was refused: so memory has all that was taken, be it
 * on disk, in a file that may have lost it, or not written at all. Once the new file is in place
 * all of that is written and synced: `written` and `synced` become `taken`, which stays as it was.
 */
#ifndef VELUM_KV_LOG_H
#define VELUM_KV_LOG_H

#include "kv_read.h"

typedef struct velum_kv_log velum_kv_log;

/* Opens or makes the log at `path` and calls record(owner, record, offset) for every record in it,
 * plain ones too, whose stamp is zeros. Removes what a crash has left of a compaction, cuts the
 * torn tail off and syncs: what was found is on disk. `waker` (velum_port_wake_open, or
 * VELUM_NO_FD) is woken when a sync has ended. LOCKED: another process has it open; SYSTEM,
 * NO_SPACE: it cannot be read, made, locked or synced; NOT_FOUND: its folder is not there;
 * NOT_A_LOG: it begins with lines, but none in its first 64 KiB is one of a log, nor what a crash
 * may have left of one: nothing in it was changed; NOMEM. */
int velum_kv_log_open(velum_kv_log **out, const char *path, velum_fd waker,
                      void (*record)(void *owner, const velum_kv_record *record, uint64_t offset),
                      void *owner, velum_kv_found *found);
/* Writes what it can, syncs, and closes; NULL is nothing. */
void velum_kv_log_close(velum_kv_log *log);

/* Takes a record; *at is where its line will end. TOO_LARGE: as velum_kv_text_put; NOMEM; FULL: the
 * last write has failed, and has to be repeated first; or the error that has broken the log. */
int velum_kv_log_append(velum_kv_log *log, const velum_kv_record *record, uint64_t *at);

/* Puts what was taken into the file. SYSTEM, NO_SPACE: nothing of it counts as written, the file is
 * as it was, and what was taken is kept for the next call. The error that has broken the log: what
 * was taken is kept until that is whole again, and then needs no call. */
int velum_kv_log_write(velum_kv_log *log);
/* Takes back what was taken behind a place, `taken` of earlier figures, and is not written. */
void velum_kv_log_take_back(velum_kv_log *log, uint64_t at);

/* Begins to bring what is written to disk, in the background if the port has threads. 0: under way,
 * or nothing to do; what was written after one began needs another when that has ended. An error:
 * the last one has failed; what it was for is not on disk, and in this file never will be for
 * certain: the log is broken, until a compaction has made it whole. One that was under way has
 * ended: it would copy from this file. */
int velum_kv_log_sync(velum_kv_log *log);
/* To be called when the port has woken the loop, and before `figures` is asked about syncs. */
void velum_kv_log_poll(velum_kv_log *log);

typedef struct {
    uint64_t taken, written,
        synced; /* ends of records, in bytes since the log was opened + its size then */
    uint64_t file_bytes;
    uint64_t live_bytes; /* of these at the end of the last compaction, or when it was opened */
    bool syncing, compacting, broken;
} velum_kv_log_figures;
velum_kv_log_figures velum_kv_log_get_figures(const velum_kv_log *log);

/* ---- compaction ---- */

/* Begins another file; if the log is broken, the one that makes it whole: it copies nothing, for
 * nothing is appended meanwhile. BUSY: one is under way; SYSTEM, NO_SPACE: the log goes on as it
 * was, or is still broken. */
int velum_kv_log_compact(velum_kv_log *log);
/* A record that is to be kept. Errors end the compaction, and the log goes on. */
int velum_kv_log_keep(velum_kv_log *log, const velum_kv_record *record);
/* All that is to be kept was told: copies what has come meanwhile, at most copy_bytes of it, and
 * puts the new file in the log's place once nothing is left and all of it but copy_bytes was synced
 * in the background (if writers outrun the disk, the most of it). 1: done; 0: call it again, at
 * once if more than copy_bytes has come, else when a sync has ended. An error ends the compaction,
 * and the log goes on, or is still broken; UNCERTAIN breaks it: the new file is in place, and
 * perhaps not on disk. */
int velum_kv_log_replace(velum_kv_log *log, size_t copy_bytes);
/* Ends a compaction, if one is under way, and waits for its sync, if that is. */
void velum_kv_log_abandon(velum_kv_log *log);

#endif
