/* client_internal.h: what client.c, client_tasks.c, client_jobs.c and client_nodes.c share. Nobody
 * else includes it, but for their tests.
 *
 * client.c        an instance: open, close, serve
 * client_tasks.c  its tickets: errands under way, from velum_spawn to their outcome
 * client_jobs.c   errands that are scatters: their spec, their records, their cancelling
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
    VELUM__ERRAND_FREE = 0,
    VELUM__ERRAND_WAITING, /* for a link with room */
    VELUM__ERRAND_SENT,
    VELUM__ERRAND_DONE
} velum__errand_state;

/* Room for the frame of any errand: CALL, TASK or SCATTER. */
#define VELUM__FRAME_BYTES (VELUM_HEADER_BYTES + 1024u)

/* What the program has under way: a call, a task of a module, or a scatter. */
typedef struct {
    uint32_t generation;
    uint16_t next; /* in the list it is in: free, waiting, or to be told */
    uint8_t state;
    uint8_t losses; /* of its link, since it was last answered */
    bool stopping;  /* WAITING to be cancelled */
    bool pinned;
    uint8_t hash[VELUM_HASH_BYTES]; /* of its module, while pinned */
    velum_handle link;              /* SENT: over this one; WAITING: not over this one, or 0 */
    int64_t deadline_us;            /* INT64_MAX: none */
    uint64_t job;                   /* of a scatter, 0: it is none */
    velum_job_progress progress;    /* of a scatter */
    uint8_t *frame;                 /* CALL, TASK or SCATTER, until DONE */
    size_t size;
    void (*done)(void *user, velum_ticket ticket, const velum_outcome *outcome);
    void *user;
    velum_outcome outcome;
} velum__errand;

/* Errands in order, by index. */
typedef struct {
    uint16_t head, tail;
} velum__list;

typedef struct {
    velum__errand *all;
    size_t count; /* allocated */
    velum__list free, waiting, told;
    bool blocked;    /* the link took no more */
    int64_t next_us; /* when a deadline may have come */
} velum__errands;

struct velum {
    velum_hub *hub;
    velum_leaf *leaf;
    velum_worker *worker; /* NULL: runs no guests */
    velum_health health;
    velum__errands errands;
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

void velum__errands_open(velum__errands *errands);
/* All must have been ended. */
void velum__errands_close(velum__errands *errands);
/* Sends what waits, and ends what is overdue. Returns when to come back. */
int64_t velum__errands_tick(velum *v);
/* RESULT, JOB and ERROR from a link. */
void velum__errands_frame(velum *v, velum_handle link, const velum_frame *frame);
/* The link is gone: what was sent over it goes over another. */
void velum__errands_lost(velum *v, velum_handle link);
/* Ends every errand with this error. */
void velum__errands_end(velum *v, int error);
/* Calls the program back for errands that are done. */
void velum__errands_tell(velum *v);

/* A new errand with a frame yet to come, or NULL and why. */
velum__errand *velum__errand_new(velum *v, uint32_t timeout_ms, int *err);
/* Validates, keeps and pins the module, whose hash is the errand's then. */
int velum__errand_keep_module(velum *v, velum__errand *errand, const void *module, size_t size);
/* Takes the frame that a put has written: n bytes, or an error, which ends the new errand and is
 * returned. Else it waits to be sent. */
int velum__errand_launch(velum *v, velum__errand *errand, const uint8_t *frame, int n,
                         velum_ticket *out);
/* Ends it with what is in its outcome and this; an error without text gets the table's words. */
void velum__errand_finish(velum *v, velum__errand *errand, int error, uint16_t node,
                          velum_text text);
velum_ticket velum__errand_ticket(const velum *v, const velum__errand *errand);
/* NULL for a ticket that is spent. */
velum__errand *velum__errand_find(velum *v, uint64_t ticket);

/* ---- client_jobs.c ---- */

/* JOB for a scatter. */
void velum__job_record(velum *v, velum__errand *errand, const velum_frame *frame);
/* Writes the frame that cancels a scatter; its length, or an error. */
int velum__job_put_cancel(uint8_t *buf, size_t cap, uint64_t ticket, uint64_t job);

/* ---- client_nodes.c ---- */

/* ANSWER, or an ERROR that is not a task's. */
void velum__nodes_answer(velum *v, velum_handle link, const velum_frame *frame);
void velum__nodes_lost(velum *v, velum_handle link);
/* A client asks now and then who else is there. Returns when to come back. */
int64_t velum__nodes_tick(velum *v);

#endif
