/* kv_watch.h: watches: who is told what has changed in which keys.
 *
 * Owns: what a record has changed in what is visible, the bytes of a change, which watch is told of
 * it, and what each one has missed. Refuses to know: links, connections, where a change goes: each
 * watch brings a function that takes it. How: what is visible is looked at before and after a
 * record is merged; a change is encoded once for all watches. The current state is told in pieces,
 * on a walk: of keys that the walk has not reached nothing else is told, of all others every
 * change; so nothing is told twice, and nothing is left out.
 *
 * A change is a RESP3 array of 6: event, key, type ("bytes" "json" "counter" "set" "hash" "none"),
 * value, version ("STAMP-NODE" as in the log, or "0"), and until when in unix ms (0: never).
 *
 *   state    a key as it is: before "now"; after it where a record shows more than it has written
 *            (what a DEL of the whole key has not hidden, say). Value: as of set, count; an array
 *            of elements; a map of fields; null if that is more than VELUM_KV_CHANGE_BYTES_MAX
 *   now      the current state is told (also to who has not asked for it). The key is empty
 *   set      the value: bytes, or the sum of a counter
 *   count    the sum
 *   add, remove      the element
 *   field    an array of the field and its value
 *   unfield  the field
 *   expire   null; the time is the array's last element
 *   del, expired     null
 *   missed   how many changes were not told. The key is empty
 *
 * Patterns are Redis's globs (glob.h), the same as of KEYS: `*` crosses the `/` of names.
 */
#ifndef VELUM_KV_WATCH_H
#define VELUM_KV_WATCH_H

#include "kv_state.h"
#include "resp.h"

#define VELUM_KV_PATTERN_BYTES_MAX VELUM_KV_KEY_BYTES_MAX
/* Of one change: the longest value, and what is around it; a set or hash may be longer. */
#define VELUM_KV_CHANGE_BYTES_MAX (2u * 1024u * 1024u)

typedef enum {
    VELUM_KV_ON_STATE,
    VELUM_KV_ON_NOW,
    VELUM_KV_ON_SET,
    VELUM_KV_ON_COUNT,
    VELUM_KV_ON_ADD,
    VELUM_KV_ON_REMOVE,
    VELUM_KV_ON_FIELD,
    VELUM_KV_ON_UNFIELD,
    VELUM_KV_ON_EXPIRE,
    VELUM_KV_ON_DEL,
    VELUM_KV_ON_EXPIRED,
    VELUM_KV_ON_MISSED
} velum_kv_event;

/* What one record has changed. */
typedef struct {
    velum_kv_event event;
    const velum_kv_record *record;
    velum_kv_type before; /* what the key was */
    velum_kv_view view;   /* what it is now */
} velum_kv_change;

typedef struct velum_kv_watches velum_kv_watches;
typedef struct velum_kv_watch velum_kv_watch;

/* The state must outlive it. NOMEM. */
int velum_kv_watches_open(velum_kv_watches **out, const velum_kv_state *state, size_t watches_max);
void velum_kv_watches_close(velum_kv_watches *watches); /* ends all watches; NULL is nothing */

/* Takes changes of a watch, one call for each. False: it takes nothing now, and is asked again
 * later; nothing of that change may be kept. It must not begin or end a watch, or write. */
typedef bool velum_kv_take(void *owner, const uint8_t *change, size_t n);

/* Begins a watch; with `state` what is there is told first. Nothing is told before the next call of
 * velum_kv_watches_step or _wrote. TOO_LARGE: the pattern; FULL: there are watches_max; NOMEM. */
int velum_kv_watch_begin(velum_kv_watches *watches, velum_kv_bytes pattern, bool state,
                         velum_kv_take *take, void *owner, velum_kv_watch **out);
void velum_kv_watch_end(velum_kv_watch *watch);
size_t velum_kv_watches_count(const velum_kv_watches *watches);

/* Both of velum_kv_config, for every record: before it is merged, and when it has changed
 * something. */
void velum_kv_watches_writes(velum_kv_watches *watches, const velum_kv_record *record);
void velum_kv_watches_wrote(velum_kv_watches *watches, const velum_kv_record *record);

/* A bounded piece of what is to be told: current states, what was missed. To be called every round;
 * true: there is more to tell at once. */
bool velum_kv_watches_step(velum_kv_watches *watches);

/* Has changed(owner, change) called for every change of any key; NULL: no longer. One listener: the
 * server's, for its subscribers. */
void velum_kv_watches_listen(velum_kv_watches *watches,
                             void (*changed)(void *owner, const velum_kv_change *change),
                             void *owner);

#endif
