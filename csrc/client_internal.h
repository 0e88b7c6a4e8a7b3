/* client_internal.h: what client.c, client_tasks.c and client_nodes.c share. Nobody else includes
 * it, but for their test.
 *
 * client.c        an instance: open, close, serve
 * client_tasks.c  its tickets: tasks under way, from velum_spawn to their outcome
 * client_nodes.c  questions to the full node, and what is learned from the answer
 */
#ifndef VELUM_CLIENT_INTERNAL_H
#define VELUM_CLIENT_INTERNAL_H

#include "leaf.h"
#include "worker.h"

#define VELUM__EVENTS 32u

/* A ticket is a generation (20 bits, never 0) and an index (12 bits). */
#define VELUM__TICKET_INDEX_BITS 12u
#if VELUM_TASKS_MAX > (1 << 12)
#error "VELUM_TASKS_MAX does not fit a ticket's index"
#endif

/* Correlation ids: tickets are below, questions above. */
#define VELUM__QUESTION (UINT64_C(1) << 32)

typedef enum {
    VELUM__JOB_FREE = 0,
    VELUM__JOB_WAITING, /* for a link with room */
    VELUM__JOB_SENT,
    VELUM__JOB_DONE
} velum__job_state;

/* A task of the program. */
typedef struct {
    uint32_t generation;
    uint16_t next; /* in the list it is in: free, waiting, or to be told */
    uint8_t state;
    uint8_t losses;
    bool pinned;
    uint8_t hash[VELUM_HASH_BYTES]; /* of its module, while pinned */
    velum_handle link;              /* SENT: over this one; WAITING: not over this one, or 0 */
    int64_t deadline_us;            /* INT64_MAX: none */
    uint8_t *frame;                 /* CALL or TASK, until DONE */
    size_t size;
    void (*done)(void *user, velum_ticket ticket, const velum_outcome *outcome);
    void *user;
    velum_outcome outcome;
} velum__job;

/* Jobs in order, by index. */
typedef struct {
    uint16_t head, tail;
} velum__list;

typedef struct {
    velum__job *all;
    size_t count; /* allocated */
    velum__list free, waiting, told;
    bool blocked;    /* the link took no more */
    int64_t next_us; /* when a deadline may have come */
} velum__jobs;

struct velum {
    velum_hub *hub;
    velum_leaf *leaf;
    velum_worker *worker; /* NULL: runs no guests */
    velum_health health;
    velum__jobs jobs;
    int ended;    /* 0, or the error that every call returns from now on */
    bool calling; /* a callback of the program runs */
    velum_event events[VELUM__EVENTS];

    uint64_t questions;      /* asked so far */
    velum_handle asked_link; /* that they were sent over */
    uint64_t asked;          /* correlation of the open one of velum_nodes, 0: none */
    uint64_t learning;       /* correlation of the open one of a client's own, 0: none */
    int64_t learn_us;        /* when to ask the next of those */
    bool answered;           /* `answer` is what velum_nodes waits for */
    char *answer;            /* terminated */
};

/* No member: hears no gossip. */
static inline bool velum__is_client(const velum *v) {
    return velum_leaf_me(v->leaf)->id == VELUM_ID_NONE;
}

/* ---- client.c ---- */

/* velum_open without waiting: sockets are open, nobody has been asked yet. On failure
 * velum_open_error says why. */
int velum__begin(velum **out, const velum_config *config);
/* Serves once, sleeping no longer than until `until_us`; then calls what is to be told. Returns
 * v->ended. */
int velum__serve(velum *v, int64_t until_us);
/* The last moment of `timeout_ms` from now, which no sum of times exceeds. */
int64_t velum__until(uint32_t timeout_ms);

/* ---- client_tasks.c ---- */

void velum__jobs_open(velum__jobs *jobs);
/* All must have been ended. */
void velum__jobs_close(velum__jobs *jobs);
/* Sends what waits, and ends what is overdue. Returns when to come back. */
int64_t velum__jobs_tick(velum *v);
/* RESULT and ERROR from a link. */
void velum__jobs_frame(velum *v, velum_handle link, const velum_frame *frame);
/* The link is gone: what was sent over it goes over another. */
void velum__jobs_lost(velum *v, velum_handle link);
/* Ends every job with this error. */
void velum__jobs_end(velum *v, int error);
/* Calls the program back for jobs that are done. */
void velum__jobs_tell(velum *v);

/* ---- client_nodes.c ---- */

/* ANSWER, or an ERROR that is not a task's. */
void velum__nodes_answer(velum *v, velum_handle link, const velum_frame *frame);
void velum__nodes_lost(velum *v, velum_handle link);
/* A client asks now and then who else is there. Returns when to come back. */
int64_t velum__nodes_tick(velum *v);

#endif
