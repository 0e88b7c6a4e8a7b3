/* kv_state.h: one node's state: what is written goes through the log into memory, and to who wants
 * to know.
 *
 * Owns: the node's hybrid clock, the order log, then memory, and when keys expire. Refuses to know:
 * connections, commands, peers. How: a write makes a record with the next stamp, appends it to the
 * log, merges it, and tells `wrote`, who passes it on. What comes from peers goes the same way, but
 * keeps its stamp. Nothing waits here: who has to know that a record is on disk looks at the log's
 * figures.
 *
 * The hybrid clock (Kulkarni et al. 2014): a stamp's upper 48 bits are the greatest of the wall
 * clock here and of what was heard, the lower 16 count on, by two: odd stamps are those of the DELs
 * that expiries make. What was heard counts only up to
 * VELUM_KV_AHEAD_MS ahead of the wall clock; a record from further ahead is refused, so that one
 * robot whose clock is years off does not drag the others along.
 */
#ifndef VELUM_KV_STATE_H
#define VELUM_KV_STATE_H

#include "kv.h"
#include "kv_log.h"

typedef struct velum_kv_state velum_kv_state;

typedef struct {
    uint16_t node;     /* this one's id, 1..65535 */
    size_t room_bytes; /* of keys and cells in memory */
    velum_fd waker;    /* is woken when a sync has ended; VELUM_NO_FD: nobody */
    void *owner;
    /* A record is about to be merged; NULL: nobody wants to know. */
    void (*writes)(void *owner, const velum_kv_record *record);
    /* A record was merged and has changed something: `own` if it was made here. */
    void (*wrote)(void *owner, const velum_kv_record *record, bool own);
    /* Unix milliseconds by this node's clock, which may be wrong and may jump. */
    uint64_t (*unix_ms)(void *owner);
} velum_kv_config;

/* Opens memory, and the log at `path` with what is in it; NULL: without a log. LOCKED, SYSTEM,
 * NOMEM; NOT_A_LOG: as velum_kv_log_open; STATE_FULL: the log holds more than there is room for. */
int velum_kv_state_open(velum_kv_state **out, const velum_kv_config *config, const char *path,
                        velum_kv_found *found);
/* Writes and syncs what is to be, and closes. NULL is nothing. */
void velum_kv_state_close(velum_kv_state *s);

const velum_kv *velum_kv_state_keys(const velum_kv_state *s);
velum_kv_log *velum_kv_state_log(velum_kv_state *s); /* NULL without one */
uint16_t velum_kv_state_node(const velum_kv_state *s);
/* The same clock that stamps are made by. */
uint64_t velum_kv_state_now(const velum_kv_state *s);

/* A stamp that nothing has, later than all that was made or heard here; for a record that is
 * written later, if it is. */
velum_kv_stamp velum_kv_state_stamp(velum_kv_state *s);

/* Gives the record the next stamp, unless it has one, as its `of` too if it is a COUNT that is
 * fresh and has none, logs and merges it. 1: it has changed something; 0: it has not. ARGUMENT,
 * TOO_LARGE, STATE_FULL, NOMEM; NO_SPACE: the log takes nothing now, and nothing was merged. *at,
 * if it is not NULL, is where the record ends in the log. */
int velum_kv_state_write(velum_kv_state *s, velum_kv_record *record, uint64_t *at);

/* A record from elsewhere. As write; VERSION_AHEAD: its stamp is too far ahead of the clock. */
int velum_kv_state_hear(velum_kv_state *s, const velum_kv_record *record);

/* As velum_kv_mark and velum_kv_tend, of its keys. */
void velum_kv_state_mark(velum_kv_state *s, uint32_t mark);
bool velum_kv_state_tend(velum_kv_state *s, velum_kv_walk *walk, size_t keys_max,
                         uint32_t settle_to, uint32_t drop_to, velum_kv_tended *tended);

/* ---- what has expired ---- */

/* A key that has expired is gone, but its memory and its watchers do not know before its DEL is
 * made: by each of these, of what they meet. */

/* What a key is now: as velum_kv_look. */
velum_kv_type velum_kv_state_look(velum_kv_state *s, velum_kv_bytes key, velum_kv_view *view);
/* How many keys are visible. Ends all that have expired; while the log takes nothing they are not
 * counted all the same. */
size_t velum_kv_state_count(velum_kv_state *s);
/* Ends keys_max keys at most that have expired, the soonest first. Whether there is more to do at
 * once: not while the log takes nothing, then the next call tries again. */
bool velum_kv_state_expire(velum_kv_state *s, size_t keys_max);

#endif
