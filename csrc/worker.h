/* worker.h: runs tasks and leases, one after another, in the process it lives in.
 *
 * Owns: the queue of tasks given to it, the guest that is running, and what is reported of it:
 * PROGRESS, RESULT or ERROR of a task, SLICES or ERROR of a lease. Refuses to know: processes,
 * members, where tasks come from beyond the link to answer on. How: TASK, LEASE, TRIM and CANCEL
 * come in as hub events; a module that is not held is fetched from the link that sent the task; the
 * guest runs from velum_worker_run, and while it runs the vm's check polls the hub, so that CANCEL,
 * PING and time-outs are served; between the slices of a lease it is polled too. The node's worker
 * process and the C-only node use the same code.
 */
#ifndef VELUM_WORKER_H
#define VELUM_WORKER_H

#include "hub.h"

typedef struct velum_worker velum_worker;

typedef struct {
    uint16_t node;      /* whose results these are */
    uint32_t pages_max; /* linear memory limit of any guest, 64 KiB pages */
    uint32_t keep_ms;   /* how long a lease's guest is kept for the next lease of its module, which
                           then need not be compiled; 0: only while one is ready to run */
    /* Gets every hub event that is not the worker's, also while a guest runs. May be NULL. */
    void (*other)(void *user, const velum_event *event);
    void *user;
} velum_worker_config;

/* The hub must outlive the worker. NOMEM. */
int velum_worker_open(velum_worker **out, velum_hub *hub, const velum_worker_config *config);
void velum_worker_close(velum_worker *worker);

/* Gives the worker an event: TASK, LEASE, TRIM, CANCEL, MODULE and CLOSED are its own (CLOSED
 * cancels that link's tasks, then goes to `other` too); all else goes to `other`. */
void velum_worker_event(velum_worker *worker, const velum_event *event);
/* Runs one waiting task or lease whose module is here, to its end; false if there is none. Polls
 * the hub meanwhile, which ends the life of events that the caller still holds. Lets go of a guest
 * that is kept no longer. Must not be called from inside a callback of the worker. */
bool velum_worker_run(velum_worker *worker);
/* True if a task could be run now. */
bool velum_worker_ready(const velum_worker *worker);
/* How long its owner may sleep before it calls velum_worker_run again; negative: until an event
 * comes. Who sets no keep_ms can do with velum_worker_ready. */
int64_t velum_worker_sleep_us(const velum_worker *worker);
/* What RESULTs say of this node's health, but for queue and running, which the worker knows.
 * Copied. Until then: one slot, one core, nothing else. */
void velum_worker_health(velum_worker *worker, const velum_health *health);
/* Tasks and leases waiting, and 1 if one is running. */
uint16_t velum_worker_queue(const velum_worker *worker);
uint16_t velum_worker_running(const velum_worker *worker);

/* Measures this machine with a guest of our own for about `ms` milliseconds: thousand loop rounds a
 * second, for velum_health.speed. 0 if it could not be measured. */
uint32_t velum_worker_calibrate(uint32_t ms);

#endif
