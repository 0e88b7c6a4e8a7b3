/* loop.h: one thread's sockets and timers.
 *
 * Owns: which handles are watched, which timers run, and the order in which they are served.
 * Refuses to know: frames, peers. How: a table of watches given to velum_port_wait, and timers in
 * a binary heap. Callbacks run inside velum_loop_tick and may add, change or remove any watch or
 * timer, their own included.
 */
#ifndef VELUM_LOOP_H
#define VELUM_LOOP_H

#include "velum_port.h"

typedef struct velum_loop velum_loop;

/* A handle being watched. Lives in its owner; the loop keeps a pointer between add and remove. */
typedef struct velum_watch {
    velum_fd fd;
    uint8_t want; /* VELUM_READABLE | VELUM_WRITABLE */
    void (*ready)(struct velum_watch *w, uint8_t what);
    void *owner;
    int32_t slot; /* the loop's: index in its table, -1 when not watched */
} velum_watch;

/* A one-shot timer. Lives in its owner. */
typedef struct velum_timer {
    int64_t deadline_us;
    void (*fired)(struct velum_timer *t, int64_t now_us);
    void *owner;
    int32_t slot; /* the loop's: place in its heap, -1 when not running */
} velum_timer;

/* What a watch and a timer start as: `velum_watch w = VELUM_WATCH_INIT;`. */
#define VELUM_WATCH_INIT {.fd = VELUM_NO_FD, .slot = -1}
#define VELUM_TIMER_INIT {.slot = -1}

/* Room for `watches` handles and `timers` timers; nothing is allocated later. NOMEM. */
int velum_loop_open(velum_loop **out, size_t watches, size_t timers);
/* Watches and timers must have been removed or may simply be forgotten; closes no handle. */
void velum_loop_close(velum_loop *loop);

/* FULL when the table is; ARGUMENT when it is watched already. w->slot must be -1 (use
 * VELUM_WATCH_INIT); a watch added by a callback is served from the next tick on. */
int velum_watch_add(velum_loop *loop, velum_watch *w);
void velum_watch_want(velum_loop *loop, velum_watch *w, uint8_t want);
void velum_watch_remove(velum_loop *loop, velum_watch *w);

/* (Re)starts the timer; FULL when the heap is. Stopping a stopped timer does nothing. A timer that
 * a timer's callback starts fires in the next tick at the earliest. */
int velum_timer_start(velum_loop *loop, velum_timer *t, int64_t deadline_us);
void velum_timer_stop(velum_loop *loop, velum_timer *t);

/* Who sleeps in a tick opens the door before and closes it after. While it is open another thread
 * may use the loop, and whatever is built on it, as its own, if it keeps it from being closed
 * meanwhile. If velum_loop_changed then says so it has to make the sleeper wake: what it sleeps on
 * is not all any more. */
typedef struct {
    void *owner;
    void (*open)(void *owner);
    void (*close)(void *owner);
} velum_loop_door;

/* NOMEM. Once, before the first tick. */
int velum_loop_set_door(velum_loop *loop, const velum_loop_door *door);
/* Whether somebody sleeps, and a watch or an earlier timer has come, or gone, since he began. */
bool velum_loop_changed(const velum_loop *loop);

/* Microseconds, read once a tick (at its start and after sleeping). */
int64_t velum_loop_now_us(const velum_loop *loop);

/* Sleeps until something is ready, a timer is due or `timeout_us` has passed (0: does not sleep;
 * negative: until something happens), then serves every ready handle once and every due timer.
 * Returns how many callbacks ran, an error of the port, or ARGUMENT when called from a callback.
 * Ready handles are served from a rotating start, so that no handle starves. */
int velum_loop_tick(velum_loop *loop, int64_t timeout_us);

#endif
