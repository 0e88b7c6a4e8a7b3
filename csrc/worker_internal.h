/* worker_internal.h: what worker.c and worker_lease.c share. Nobody else includes it.
 *
 * worker.c        the queue, modules and what they were found to be, the guest, single tasks
 * worker_lease.c  leases: their slices, and what is reported of them
 */
#ifndef VELUM_WORKER_INTERNAL_H
#define VELUM_WORKER_INTERNAL_H

#include "velum_port.h"
#include "vm.h"
#include "worker.h"

/* How often the hub is polled while a guest runs, at most. */
#define VELUM__POLL_US 2000

/* Modules whose verdict is remembered. */
#define VELUM__VERDICTS_MAX 64u

/* Room for an error's text, its end included. */
#define VELUM__TEXT_BYTES VELUM_TEXT_BYTES_MAX

#define VELUM__VERDICT_TEXT_BYTES 160

/* Values and failures that wait for the next report of a lease. A report of 8,000 values is what
 * one read takes from a socket; failures, with their texts, are few. */
#define VELUM__VALUES_BYTES   VELUM_READ_BYTES
#define VELUM__FAILURES_BYTES 8192u

/* A task or a lease, while it waits and while it runs. */
typedef struct {
    velum_handle link;
    uint64_t correlation;
    bool held;                       /* its module is here, and pinned for it */
    bool leased;                     /* a lease: it has a job and slices */
    velum_task task;                 /* but for its name's data, which is `name` */
    char name[VELUM_NAME_BYTES_MAX]; /* not terminated */
    int64_t
        deadline_us; /* a task's, counted from its arrival; a lease's present slice's; 0: none */
    uint64_t job;
    uint32_t slices;    /* of the job */
    uint32_t next, end; /* the first slice that has not been run; where the lease ends */
} velum__slot;

typedef struct {
    uint8_t hash[VELUM_HASH_BYTES];
    bool known;
    bool state_known, has_state;
    int error;
    char text[VELUM__VERDICT_TEXT_BYTES]; /* of an error */
} velum__verdict;

/* The guest of the running task, or one that is kept for the next lease. */
typedef struct {
    velum_vm *vm; /* NULL: none; its module is pinned */
    uint8_t hash[VELUM_HASH_BYTES];
    uint32_t pages;   /* its limit */
    bool spoilt;      /* must be put back before it is called again */
    int64_t until_us; /* while it is kept: how long */
} velum__guest;

/* What is not reported yet of the lease that runs. Failures have a frame of their own, because in
 * one frame they come after all values. */
typedef struct {
    velum_slices_writer values, failures;
    uint64_t busy_us;    /* time of its guest */
    int64_t counted_us;  /* the moment up to which that was counted */
    int64_t reported_us; /* when the last report went out */
    uint8_t value_bytes[VELUM__VALUES_BYTES], failure_bytes[VELUM__FAILURES_BYTES];
} velum__report;

struct velum_worker {
    velum_hub *hub;
    velum_worker_config config;
    velum_health health;
    velum__slot slots[VELUM_WORKER_QUEUE_MAX];
    uint8_t order[VELUM_WORKER_QUEUE_MAX]; /* indexes of slots: `count` waiting ones, then free */
    uint16_t count;
    velum__verdict verdicts[VELUM__VERDICTS_MAX];
    size_t verdict_next;
    velum__slot current; /* what runs, while `running` */
    bool running;
    velum__guest guest;
    velum__report report;
    int stop;    /* negative: what the running task shall be ended with */
    bool silent; /* its link is gone: nobody to answer */
    int64_t polled_us, progress_us;
};

/* ---- worker.c ---- */

/* Polls the hub, for at most `timeout_us`, and takes in what came: tasks, TRIM, CANCEL, closed
 * links. Not from inside an event: that would end the life of those that wait behind it. */
void velum__worker_poll(velum_worker *w, int64_t timeout_us);
/* The same, without sleeping, if VELUM__POLL_US have passed; `now_us`, or the time after that. */
int64_t velum__worker_serve(velum_worker *w, int64_t now_us);
/* Sends a frame of `n` bytes; gives the link up when it cannot be queued. */
void velum__worker_send(velum_worker *w, velum_handle link, const uint8_t *frame, int n);
void velum__worker_error(velum_worker *w, velum_handle link, uint64_t correlation, int error,
                         const char *text);
/* The other side does not take its answers: without the link it knows that they will not come. */
void velum__worker_give_up(velum_worker *w, velum_handle link);

/* Opens the guest of the current task, to be closed by velum__guest_close; an error is told in
 * `text`, which has VELUM__TEXT_BYTES. */
int velum__guest_open(velum_worker *w, velum__verdict *v, const uint8_t *module, size_t n,
                      char *text);
/* Closes it, if there is one. */
void velum__guest_close(velum_worker *w);
/* Tells in `text` how a call of the guest ended. */
void velum__guest_describe(const velum_worker *w, const uint8_t *module, size_t n, int error,
                           char *text);

/* ---- worker_lease.c ---- */

/* Runs the current task, a lease of a module that is valid, and answers it. */
void velum__lease_run(velum_worker *w, velum__verdict *v, const uint8_t *module, size_t n);
/* The guest's check during a slice. */
int velum__lease_check(velum_worker *w);
/* Tells that a lease ends that has not begun. */
void velum__lease_decline(velum_worker *w, const velum__slot *s);

#endif
