/* loop.c: one thread's sockets and timers.
 *
 * Owns: the table of watches, the heap of timers, and the order in which both are served.
 * Refuses to know: what a handle carries and what a timer is for.
 * How: slot i of `polls` and of `watches` describe the same handle; `polls` is what the port's
 * poller reads. A removed watch leaves a hole, so that no entry moves while callbacks run; holes
 * are closed at the start of the next tick. Timers lie in a binary heap (Knuth, The Art of Computer
 * Programming, volume 3, 5.2.3) ordered by deadline, and each knows its place, so that it can be
 * moved or stopped in O(log n).
 */
#include "loop.h"

#include <stdlib.h>
#include <string.h>

struct velum_loop {
    velum_port_poll *polls;
    velum_watch **watches; /* NULL in a hole */
    size_t watch_count;    /* slots in use, holes included */
    size_t watch_cap;
    size_t holes;
    velum_timer **timers;
    size_t timer_count;
    size_t timer_cap;
    size_t turn; /* moves the slot that is served first */
    int64_t now_us;
    velum_loop_door door;
    velum_port_poll *asleep; /* with a door: what is slept on, a copy */
    bool sleeping;           /* behind an open door */
    bool changed;            /* since then: what is slept on is not all any more */
    bool ticking;
    bool firing; /* timers are being served */
};

int velum_loop_open(velum_loop **out, size_t watches, size_t timers) {
    *out = NULL;
    if (watches > INT32_MAX || timers > INT32_MAX) {
        return VELUM_E_NOMEM; /* slots are 32 bits wide */
    }
    velum_loop *loop = calloc(1, sizeof *loop);
    if (loop == NULL) {
        return VELUM_E_NOMEM;
    }
    loop->watch_cap = watches;
    loop->timer_cap = timers;
    /* One entry more: an empty table is no allocation failure. */
    loop->polls = calloc(watches + 1, sizeof *loop->polls);
    loop->watches = calloc(watches + 1, sizeof *loop->watches);
    loop->timers = calloc(timers + 1, sizeof *loop->timers);
    if (loop->polls == NULL || loop->watches == NULL || loop->timers == NULL) {
        velum_loop_close(loop);
        return VELUM_E_NOMEM;
    }
    loop->now_us = velum_port_now_us();
    *out = loop;
    return VELUM_OK;
}

void velum_loop_close(velum_loop *loop) {
    if (loop == NULL) {
        return;
    }
    free(loop->polls);
    free(loop->asleep);
    free(loop->watches);
    free(loop->timers);
    free(loop);
}

int64_t velum_loop_now_us(const velum_loop *loop) {
    return loop->now_us;
}

/* ---- watches ---- */

/* A slot for a new watch, or the table's size when there is none. */
static size_t free_slot(velum_loop *loop) {
    if (loop->watch_count < loop->watch_cap) {
        return loop->watch_count++;
    }
    if (loop->holes == 0) {
        return loop->watch_cap;
    }
    size_t slot = 0;
    while (loop->watches[slot] != NULL) {
        slot++;
    }
    loop->holes--;
    return slot;
}

int velum_watch_add(velum_loop *loop, velum_watch *w) {
    if (w->slot >= 0) {
        return VELUM_E_ARGUMENT;
    }
    size_t slot = free_slot(loop);
    if (slot == loop->watch_cap) {
        return VELUM_E_FULL;
    }
    loop->watches[slot] = w;
    loop->polls[slot] = (velum_port_poll){.fd = w->fd, .want = w->want, .ready = 0};
    w->slot = (int32_t)slot;
    loop->changed = true;
    return VELUM_OK;
}

void velum_watch_want(velum_loop *loop, velum_watch *w, uint8_t want) {
    loop->changed = loop->changed || want != w->want;
    w->want = want;
    if (w->slot >= 0) {
        loop->polls[w->slot].want = want;
    }
}

void velum_watch_remove(velum_loop *loop, velum_watch *w) {
    if (w->slot < 0) {
        return;
    }
    loop->watches[w->slot] = NULL;
    loop->polls[w->slot] = (velum_port_poll){.fd = VELUM_NO_FD, .want = 0, .ready = 0};
    loop->holes++;
    loop->changed = true;
    w->slot = -1;
}

/* Moves the watches together, in their order. Only between ticks: slots change. */
static void close_holes(velum_loop *loop) {
    if (loop->holes == 0) {
        return;
    }
    size_t to = 0;
    for (size_t from = 0; from < loop->watch_count; from++) {
        velum_watch *w = loop->watches[from];
        if (w != NULL) {
            loop->watches[to] = w;
            loop->polls[to] = loop->polls[from];
            w->slot = (int32_t)to;
            to++;
        }
    }
    loop->watch_count = to;
    loop->holes = 0;
}

/* Serves what the poller found, each handle once. Callbacks may put new watches into holes or at
 * the end: those are not ready, so they wait for the next tick. */
static int serve_watches(velum_loop *loop) {
    size_t n = loop->watch_count;
    size_t first = n == 0 ? 0 : loop->turn++ % n;
    int served = 0;
    for (size_t i = 0; i < n; i++) {
        size_t slot = first + i < n ? first + i : first + i - n;
        /* Wishes may have changed since the poller looked. */
        uint8_t what = loop->polls[slot].ready & loop->polls[slot].want;
        loop->polls[slot].ready = 0;
        if (what != 0) {
            loop->watches[slot]->ready(loop->watches[slot], what);
            served++;
        }
    }
    return served;
}

/* ---- timers ---- */

static void timer_put(velum_loop *loop, size_t slot, velum_timer *t) {
    loop->timers[slot] = t;
    t->slot = (int32_t)slot;
}

/* Finds the place of `t`, for which slot `slot` is free, and puts it there. */
static void timer_settle(velum_loop *loop, size_t slot, velum_timer *t) {
    while (slot > 0) {
        size_t parent = (slot - 1) / 2;
        if (loop->timers[parent]->deadline_us <= t->deadline_us) {
            break;
        }
        timer_put(loop, slot, loop->timers[parent]);
        slot = parent;
    }
    for (;;) {
        size_t child = 2 * slot + 1;
        if (child + 1 < loop->timer_count &&
            loop->timers[child + 1]->deadline_us < loop->timers[child]->deadline_us) {
            child++;
        }
        if (child >= loop->timer_count || t->deadline_us <= loop->timers[child]->deadline_us) {
            break;
        }
        timer_put(loop, slot, loop->timers[child]);
        slot = child;
    }
    timer_put(loop, slot, t);
}

int velum_timer_start(velum_loop *loop, velum_timer *t, int64_t deadline_us) {
    size_t slot;
    if (t->slot >= 0) {
        slot = (size_t)t->slot;
    } else if (loop->timer_count < loop->timer_cap) {
        slot = loop->timer_count++;
    } else {
        return VELUM_E_FULL;
    }
    /* Otherwise a timer that restarts itself at once would keep this tick from ending. */
    if (loop->firing && deadline_us <= loop->now_us) {
        deadline_us = loop->now_us + 1;
    }
    t->deadline_us = deadline_us;
    timer_settle(loop, slot, t);
    loop->changed = loop->changed || loop->timers[0] == t;
    return VELUM_OK;
}

void velum_timer_stop(velum_loop *loop, velum_timer *t) {
    if (t->slot < 0) {
        return;
    }
    size_t slot = (size_t)t->slot;
    velum_timer *last = loop->timers[--loop->timer_count];
    t->slot = -1;
    if (last != t) {
        timer_settle(loop, slot, last);
    }
}

static int fire_timers(velum_loop *loop) {
    int fired = 0;
    loop->firing = true;
    while (loop->timer_count > 0 && loop->timers[0]->deadline_us <= loop->now_us) {
        velum_timer *t = loop->timers[0];
        velum_timer_stop(loop, t);
        t->fired(t, loop->now_us);
        fired++;
    }
    loop->firing = false;
    return fired;
}

/* ---- the tick ---- */

/* How long the poller may sleep: until the next timer, but no longer than the caller said. */
static int64_t sleep_us(const velum_loop *loop, int64_t timeout_us) {
    if (timeout_us == 0 || loop->timer_count == 0) {
        return timeout_us;
    }
    int64_t next_us = loop->timers[0]->deadline_us;
    int64_t until_us = next_us > loop->now_us ? next_us - loop->now_us : 0;
    return timeout_us < 0 || until_us < timeout_us ? until_us : timeout_us;
}

int velum_loop_set_door(velum_loop *loop, const velum_loop_door *door) {
    loop->asleep = calloc(loop->watch_cap + 1, sizeof *loop->asleep);
    if (loop->asleep == NULL) {
        return VELUM_E_NOMEM;
    }
    loop->door = *door;
    return VELUM_OK;
}

bool velum_loop_changed(const velum_loop *loop) {
    return loop->sleeping && loop->changed;
}

/* Waits on a copy, so that others may change what is watched: only if they have is it looked at
 * anew, without sleeping. */
static int wait_with_open_door(velum_loop *loop, int64_t timeout_us) {
    size_t count = loop->watch_count;
    memcpy(loop->asleep, loop->polls, count * sizeof *loop->polls);
    loop->changed = false;
    loop->sleeping = true;
    loop->door.open(loop->door.owner);
    int ready = velum_port_wait(loop->asleep, count, timeout_us);
    loop->door.close(loop->door.owner);
    loop->sleeping = false;
    if (loop->changed) {
        close_holes(loop);
        return velum_port_wait(loop->polls, loop->watch_count, 0);
    }
    memcpy(loop->polls, loop->asleep, count * sizeof *loop->polls);
    return ready;
}

int velum_loop_tick(velum_loop *loop, int64_t timeout_us) {
    if (loop->ticking) {
        return VELUM_E_ARGUMENT;
    }
    close_holes(loop);
    loop->now_us = velum_port_now_us();
    timeout_us = sleep_us(loop, timeout_us);
    int ready = timeout_us != 0 && loop->asleep != NULL
                    ? wait_with_open_door(loop, timeout_us)
                    : velum_port_wait(loop->polls, loop->watch_count, timeout_us);
    if (ready < 0) {
        return ready;
    }
    if (timeout_us != 0) {
        loop->now_us = velum_port_now_us();
    }
    loop->ticking = true;
    /* Handles first: what has arrived in time beats the timer that waits for it. */
    int served = ready > 0 ? serve_watches(loop) : 0;
    served += fire_timers(loop);
    loop->ticking = false;
    return served;
}
