/* poll_select.c: velum_port_wait by select().
 *
 * Owns: the translation between velum_port_poll and fd_set. Refuses to know: what the descriptors
 * are. How: select() is on every POSIX system and behaves alike on all; its price is that
 * descriptors must be below FD_SETSIZE (1,024 on common systems).
 */
#define _POSIX_C_SOURCE 200809L

#include "poller.h"

#include <errno.h>
#include <stddef.h>
#include <sys/select.h>
#include <sys/time.h>

/* Some systems refuse a very long time-out. A sleep this long ends early, as by a signal. */
#define SLEEP_SECONDS_MAX 86400

bool velum__poller_takes(velum_fd fd) {
    return fd >= 0 && fd < FD_SETSIZE;
}

/* What select() looks for: `last` is the highest descriptor, -1 for none. */
typedef struct {
    fd_set read;
    fd_set write;
    velum_fd last;
} wishes;

/* Clears every `ready` and collects the wishes. ARGUMENT for a descriptor that does not fit. */
static int collect(velum_port_poll *polls, size_t n, wishes *w) {
    FD_ZERO(&w->read);
    FD_ZERO(&w->write);
    w->last = -1;
    for (size_t i = 0; i < n; i++) {
        velum_port_poll *p = &polls[i];
        p->ready = 0;
        if (p->fd < 0 || p->want == 0) {
            continue;
        }
        if (!velum__poller_takes(p->fd)) {
            return VELUM_E_ARGUMENT;
        }
        if ((p->want & VELUM_READABLE) != 0) {
            FD_SET(p->fd, &w->read);
        }
        if ((p->want & VELUM_WRITABLE) != 0) {
            FD_SET(p->fd, &w->write);
        }
        w->last = p->fd > w->last ? p->fd : w->last;
    }
    return VELUM_OK;
}

static struct timeval to_timeval(int64_t us) {
    struct timeval tv = {.tv_sec = SLEEP_SECONDS_MAX, .tv_usec = 0};
    if (us / 1000000 < SLEEP_SECONDS_MAX) {
        tv.tv_sec = (time_t)(us / 1000000);
        tv.tv_usec = (suseconds_t)(us % 1000000);
    }
    return tv;
}

int velum_port_wait(velum_port_poll *polls, size_t n, int64_t timeout_us) {
    wishes w;
    int r = collect(polls, n, &w);
    if (r < 0) {
        return r;
    }
    struct timeval tv = to_timeval(timeout_us);
    r = select(w.last + 1, &w.read, &w.write, NULL, timeout_us < 0 ? NULL : &tv);
    if (r < 0) {
        return errno == EINTR ? 0 : VELUM_E_SYSTEM;
    }
    int ready = 0;
    for (size_t i = 0; i < n && r > 0; i++) {
        velum_port_poll *p = &polls[i];
        if (p->fd < 0 || p->want == 0) {
            continue;
        }
        if ((p->want & VELUM_READABLE) != 0 && FD_ISSET(p->fd, &w.read)) {
            p->ready |= VELUM_READABLE;
        }
        if ((p->want & VELUM_WRITABLE) != 0 && FD_ISSET(p->fd, &w.write)) {
            p->ready |= VELUM_WRITABLE;
        }
        ready += p->ready != 0;
    }
    return ready;
}
