/* client_tasks.c: a program's tasks, from velum_spawn to their outcome.
 *
 * Owns: tickets, the frames that are under way, and the pins of their modules. Refuses to know:
 * where a task runs; the full node decides that.
 * How: a job lives in a slot of a table that grows, and goes through these states:
 *
 *   FREE -> WAITING   spawned
 *   WAITING -> SENT   the home link took its frame
 *   SENT -> WAITING   its link closed, or its node answered that it leaves; not too often
 *   any -> DONE       RESULT, ERROR, cancelled, overdue, or the instance has ended
 *   DONE -> FREE      the program has its outcome
 *
 * A deadline counts here from velum_spawn, and each send says what is left of it. The node watches
 * it too and is trusted to answer; it is given a moment for that before the job ends without it.
 */
#include "blake2b.h"
#include "client_internal.h"

#include <stdlib.h>
#include <string.h>

#include "validate.h"

#define NO_JOB           UINT16_MAX
#define GENERATION_MAX   ((1u << (32u - VELUM__TICKET_INDEX_BITS)) - 1u)
#define FIRST_TABLE_JOBS 16u
#define FRAME_BYTES_MAX  (VELUM_HEADER_BYTES + 1024u) /* of a CALL or TASK */
#define CANCEL_BYTES     (VELUM_HEADER_BYTES + 2u)

/* A task that lost its link more often than this may be what kills the nodes. */
#define RESENDS_MAX 3

/* How long after a deadline the node's own answer is awaited. */
#define GRACE_US INT64_C(1000000)

/* ---- lists and slots ---- */

static void push(velum__jobs *jobs, velum__list *list, uint16_t index) {
    jobs->all[index].next = NO_JOB;
    if (list->head == NO_JOB) {
        list->head = index;
    } else {
        jobs->all[list->tail].next = index;
    }
    list->tail = index;
}

static uint16_t pop(velum__jobs *jobs, velum__list *list) {
    uint16_t index = list->head;
    if (index != NO_JOB) list->head = jobs->all[index].next;
    return index;
}

static void take_out(velum__jobs *jobs, velum__list *list, uint16_t index) {
    uint16_t before = NO_JOB;
    for (uint16_t at = list->head; at != index; at = jobs->all[at].next) {
        before = at;
    }
    if (before == NO_JOB) {
        list->head = jobs->all[index].next;
    } else {
        jobs->all[before].next = jobs->all[index].next;
    }
    if (list->tail == index) list->tail = before;
}

void velum__jobs_open(velum__jobs *jobs) {
    const velum__list empty = {NO_JOB, NO_JOB};
    jobs->free = jobs->waiting = jobs->told = empty;
    jobs->next_us = INT64_MAX;
}

void velum__jobs_close(velum__jobs *jobs) {
    free(jobs->all);
}

static uint16_t index_of(const velum__jobs *jobs, const velum__job *job) {
    return (uint16_t)(job - jobs->all);
}

static velum_ticket ticket_of(const velum__jobs *jobs, const velum__job *job) {
    return job->generation << VELUM__TICKET_INDEX_BITS | index_of(jobs, job);
}

static velum__job *find(velum *v, uint64_t ticket) {
    uint64_t index = ticket & ((1u << VELUM__TICKET_INDEX_BITS) - 1u);
    velum__job *job;
    if (index >= v->jobs.count) return NULL;
    job = &v->jobs.all[index];
    if (job->generation != ticket >> VELUM__TICKET_INDEX_BITS) return NULL;
    return job->state == VELUM__JOB_FREE ? NULL : job;
}

/* Makes the table twice as large. FULL, NOMEM. */
static int grow(velum__jobs *jobs) {
    size_t count = jobs->count > 0 ? jobs->count * 2 : FIRST_TABLE_JOBS;
    velum__job *all;
    if (jobs->count == VELUM_TASKS_MAX) return VELUM_E_FULL;
    if (count > VELUM_TASKS_MAX) count = VELUM_TASKS_MAX;
    all = realloc(jobs->all, count * sizeof *all);
    if (all == NULL) return VELUM_E_NOMEM;
    jobs->all = all;
    for (size_t i = jobs->count; i < count; i++) {
        memset(&all[i], 0, sizeof all[i]);
        push(jobs, &jobs->free, (uint16_t)i);
    }
    jobs->count = count;
    return 0;
}

/* ---- the end of a job ---- */

/* Lets go of all but the outcome, which is set already. */
static void settle(velum *v, velum__job *job) {
    velum__jobs *jobs = &v->jobs;
    if (job->state == VELUM__JOB_WAITING) take_out(jobs, &jobs->waiting, index_of(jobs, job));
    if (job->pinned) velum_modules_unpin(velum_hub_modules(v->hub), job->hash);
    free(job->frame);
    job->pinned = false;
    job->frame = NULL;
    job->state = VELUM__JOB_DONE;
    if (job->done != NULL) push(jobs, &jobs->told, index_of(jobs, job));
}

static void set_text(velum_outcome *outcome, const char *text, size_t size) {
    size_t most = sizeof outcome->text - 1u;
    if (size > most) {
        size = most;
        while (size > 0 && ((unsigned char)text[size] & 0xc0u) == 0x80u) {
            size--; /* not in the middle of a character */
        }
    }
    if (size > 0) memcpy(outcome->text, text, size);
    outcome->text[size] = '\0';
}

static void fail(velum *v, velum__job *job, int error, uint16_t node, velum_text text) {
    const char *words = velum_strerror(error);
    job->outcome.error = error;
    job->outcome.node = node;
    if (text.size == 0) text = (velum_text){words, (uint16_t)strlen(words)};
    set_text(&job->outcome, text.data, text.size);
    settle(v, job);
}

static void fail_here(velum *v, velum__job *job, int error) {
    fail(v, job, error, 0, (velum_text){NULL, 0});
}

/* Frees the slot; the ticket is spent. */
static void spend(velum__jobs *jobs, velum__job *job) {
    job->state = VELUM__JOB_FREE;
    job->done = NULL;
    push(jobs, &jobs->free, index_of(jobs, job));
}

void velum__jobs_end(velum *v, int error) {
    for (size_t i = 0; i < v->jobs.count; i++) {
        velum__job *job = &v->jobs.all[i];
        if (job->state == VELUM__JOB_WAITING || job->state == VELUM__JOB_SENT) {
            fail_here(v, job, error);
        }
    }
}

void velum__jobs_tell(velum *v) {
    uint16_t index;
    if (v->calling) return;
    v->calling = true;
    while ((index = pop(&v->jobs, &v->jobs.told)) != NO_JOB) {
        velum__job job = v->jobs.all[index]; /* the table may grow meanwhile */
        velum_ticket ticket = ticket_of(&v->jobs, &v->jobs.all[index]);
        spend(&v->jobs, &v->jobs.all[index]);
        job.done(job.user, ticket, &job.outcome);
    }
    v->calling = false;
}

/* ---- sending ---- */

/* Writes the job's frame to buf, its timeout what is left until the deadline. */
static int retime(const velum__job *job, int64_t now, uint8_t buf[FRAME_BYTES_MAX]) {
    const uint8_t *payload = job->frame + VELUM_HEADER_BYTES;
    const size_t length = job->size - VELUM_HEADER_BYTES;
    const uint32_t left_ms = (uint32_t)((job->deadline_us - now + 999) / 1000);
    velum_header header;
    velum_call call;
    velum_task task;
    int n = velum_wire_header(job->frame, job->size, &header);
    if (n > 0 && header.type == VELUM_F_CALL) {
        n = velum_wire_get_call(payload, length, &call);
        call.timeout_ms = left_ms;
        if (n > 0) n = velum_wire_put_call(buf, FRAME_BYTES_MAX, header.correlation, &call);
    } else if (n > 0) {
        n = velum_wire_get_task(payload, length, &task);
        task.timeout_ms = left_ms;
        if (n > 0) n = velum_wire_put_task(buf, FRAME_BYTES_MAX, header.correlation, &task);
    }
    return n;
}

static int send(velum *v, velum__job *job, velum_handle home, int64_t now) {
    uint8_t buf[FRAME_BYTES_MAX];
    const uint8_t *frame = job->frame;
    size_t size = job->size;
    int err;
    if (job->deadline_us != INT64_MAX) {
        int n = retime(job, now, buf);
        if (n < 0) return n;
        frame = buf;
        size = (size_t)n;
    }
    err = velum_hub_send(v->hub, home, frame, size);
    if (err != 0) return err;
    job->state = VELUM__JOB_SENT;
    job->link = home;
    return 0;
}

/* Sends what waits, as far as the home link takes it. */
static void pump(velum *v, int64_t now) {
    velum__jobs *jobs = &v->jobs;
    velum_handle home = velum_leaf_joined(v->leaf) ? velum_leaf_home(v->leaf) : 0;
    uint16_t index = jobs->waiting.head;
    jobs->blocked = false;
    while (home != 0 && index != NO_JOB) {
        velum__job *job = &jobs->all[index];
        uint16_t next = job->next;
        if (job->link != home) {
            if (send(v, job, home, now) != 0) {
                jobs->blocked = true;
                return;
            }
            take_out(jobs, &jobs->waiting, index);
        }
        index = next;
    }
}

static void send_cancel(velum *v, const velum__job *job, int code) {
    uint8_t frame[CANCEL_BYTES];
    uint64_t ticket = ticket_of(&v->jobs, job);
    int n = velum_wire_put_cancel(frame, sizeof frame, ticket, (uint16_t)-code);
    if (n > 0) (void)velum_hub_send(v->hub, job->link, frame, (size_t)n);
}

/* Ends what is overdue, and finds the next deadline. */
static void look_for_overdue(velum *v, int64_t now) {
    int64_t next = INT64_MAX;
    for (size_t i = 0; i < v->jobs.count; i++) {
        velum__job *job = &v->jobs.all[i];
        bool sent = job->state == VELUM__JOB_SENT;
        int64_t due;
        if ((!sent && job->state != VELUM__JOB_WAITING) || job->deadline_us == INT64_MAX) continue;
        due = job->deadline_us + (sent ? GRACE_US : 0);
        if (now >= due) {
            if (sent) send_cancel(v, job, VELUM_E_DEADLINE);
            fail_here(v, job, VELUM_E_DEADLINE);
        } else if (due < next) {
            next = due;
        }
    }
    v->jobs.next_us = next;
}

int64_t velum__jobs_tick(velum *v) {
    int64_t now = velum_port_now_us();
    if (now >= v->jobs.next_us) look_for_overdue(v, now);
    pump(v, now);
    return v->jobs.told.head != NO_JOB ? now : v->jobs.next_us;
}

/* ---- answers ---- */

/* The node did not get to answer: another one shall. `link` must not be used again, 0: is gone. */
static void again(velum *v, velum__job *job, velum_handle link) {
    if (job->losses == RESENDS_MAX) {
        fail_here(v, job, VELUM_E_LOST);
        return;
    }
    job->losses++;
    job->link = link;
    job->state = VELUM__JOB_WAITING;
    push(&v->jobs, &v->jobs.waiting, index_of(&v->jobs, job));
    if (job->deadline_us < v->jobs.next_us) v->jobs.next_us = job->deadline_us;
}

static void on_result(velum *v, velum__job *job, const velum_frame *frame) {
    velum_result result;
    if (velum_wire_get_result(frame->payload, frame->header.length, &result) < 0) {
        fail_here(v, job, VELUM_E_PAYLOAD);
        return;
    }
    job->outcome.node = result.node;
    job->outcome.run_us = result.run_us;
    if (result.nvalues > 0) {
        job->outcome.nvalues = 1;
        job->outcome.value = result.values[0];
    }
    settle(v, job);
}

static void on_error(velum *v, velum__job *job, const velum_frame *frame) {
    velum_error error;
    if (velum_wire_get_error(frame->payload, frame->header.length, &error) < 0) {
        fail_here(v, job, VELUM_E_PAYLOAD);
    } else if (error.code == -VELUM_E_LEAVING) {
        again(v, job, job->link);
    } else {
        fail(v, job, -(int)error.code, error.node, error.text);
    }
}

void velum__jobs_frame(velum *v, velum_handle link, const velum_frame *frame) {
    velum__job *job = find(v, frame->header.correlation);
    if (job == NULL || job->state != VELUM__JOB_SENT || job->link != link) return;
    if (frame->header.type == VELUM_F_RESULT) {
        on_result(v, job, frame);
    } else {
        on_error(v, job, frame);
    }
}

void velum__jobs_lost(velum *v, velum_handle link) {
    for (size_t i = 0; i < v->jobs.count; i++) {
        velum__job *job = &v->jobs.all[i];
        if (job->link == link && job->state == VELUM__JOB_SENT) again(v, job, 0);
    }
}

/* ---- the program's calls ---- */

/* A new job with a frame yet to come, or NULL and why. */
static velum__job *new_job(velum *v, uint32_t timeout_ms, int *err) {
    velum__jobs *jobs = &v->jobs;
    velum__job *job;
    uint32_t generation;
    *err = v->ended;
    if (*err == 0 && jobs->free.head == NO_JOB) *err = grow(jobs);
    if (*err != 0) return NULL;
    job = &jobs->all[pop(jobs, &jobs->free)];
    generation = job->generation % GENERATION_MAX + 1u;
    memset(job, 0, sizeof *job);
    job->generation = generation;
    job->deadline_us = timeout_ms > 0 ? velum__until(timeout_ms) : INT64_MAX;
    return job;
}

/* Takes the frame that a put has written, n bytes, or not; the job waits to be sent. */
static int launch(velum *v, velum__job *job, const uint8_t *frame, int n, velum_ticket *out) {
    velum__jobs *jobs = &v->jobs;
    job->frame = n > 0 ? malloc((size_t)n) : NULL;
    if (job->frame == NULL) {
        if (job->pinned) velum_modules_unpin(velum_hub_modules(v->hub), job->hash);
        job->pinned = false;
        spend(jobs, job);
        return n < 0 ? n : VELUM_E_NOMEM;
    }
    memcpy(job->frame, frame, (size_t)n);
    job->size = (size_t)n;
    job->state = VELUM__JOB_WAITING;
    push(jobs, &jobs->waiting, index_of(jobs, job));
    if (job->deadline_us < jobs->next_us) jobs->next_us = job->deadline_us;
    *out = ticket_of(jobs, job);
    return 0;
}

static bool fits(const char *name, const velum_value *args, size_t nargs) {
    return name != NULL && strlen(name) <= VELUM_NAME_BYTES_MAX && nargs <= VELUM_ARGS_MAX &&
           (args != NULL || nargs == 0);
}

int velum_spawn(velum *v, const char *name, const velum_value *args, size_t nargs,
                uint32_t timeout_ms, velum_ticket *out) {
    uint8_t frame[FRAME_BYTES_MAX];
    velum_call call = {.timeout_ms = timeout_ms};
    velum__job *job;
    int err, n;
    if (!fits(name, args, nargs)) return VELUM_E_ARGUMENT;
    job = new_job(v, timeout_ms, &err);
    if (job == NULL) return err;
    call.name = (velum_text){name, (uint16_t)strlen(name)};
    call.nargs = (uint8_t)nargs;
    if (nargs > 0) memcpy(call.args, args, nargs * sizeof *args);
    n = velum_wire_put_call(frame, sizeof frame, ticket_of(&v->jobs, job), &call);
    return launch(v, job, frame, n, out);
}

/* Whether these values are what the function takes. */
static int check_arguments(const void *module, size_t size, const char *function,
                           const velum_value *args, size_t nargs) {
    velum_signature takes;
    int err = velum_module_export(module, size, function, strlen(function), &takes);
    if (err != 0) return err;
    if (takes.nparams != nargs) return VELUM_E_SIGNATURE;
    for (size_t i = 0; i < nargs; i++) {
        if (args[i].type != takes.params[i]) return VELUM_E_SIGNATURE;
    }
    return 0;
}

/* Keeps and pins the module for the job. Of one that another job has pinned it is known that it is
 * valid. */
static int keep_module(velum *v, velum__job *job, const void *module, size_t size) {
    velum_modules *modules = velum_hub_modules(v->hub);
    bool known = false;
    int err = 0;
    velum_blake2b_256(module, size, job->hash);
    for (size_t i = 0; i < v->jobs.count && !known; i++) {
        const velum__job *other = &v->jobs.all[i];
        known = other->pinned && memcmp(other->hash, job->hash, VELUM_HASH_BYTES) == 0;
    }
    if (!known) err = velum_validate(module, size, NULL);
    if (err == 0) err = velum_modules_add(modules, module, size, job->hash);
    if (err == 0) err = velum_modules_pin(modules, job->hash);
    job->pinned = err == 0;
    return err;
}

int velum_spawn_wasm(velum *v, const void *module, size_t size, const char *function,
                     const velum_value *args, size_t nargs, uint32_t timeout_ms,
                     velum_ticket *out) {
    uint8_t frame[FRAME_BYTES_MAX];
    velum_task task = {.timeout_ms = timeout_ms};
    velum__job *job;
    int err, n;
    if (!fits(function, args, nargs) || module == NULL) return VELUM_E_ARGUMENT;
    if (size > VELUM_MODULE_BYTES_MAX) return VELUM_E_TOO_LARGE;
    job = new_job(v, timeout_ms, &err);
    if (job == NULL) return err;
    err = keep_module(v, job, module, size);
    if (err == 0) err = check_arguments(module, size, function, args, nargs);
    if (err != 0) return launch(v, job, NULL, err, out);
    memcpy(task.hash, job->hash, VELUM_HASH_BYTES);
    task.name = (velum_text){function, (uint16_t)strlen(function)};
    task.nargs = (uint8_t)nargs;
    if (nargs > 0) memcpy(task.args, args, nargs * sizeof *args);
    n = velum_wire_put_task(frame, sizeof frame, ticket_of(&v->jobs, job), &task);
    return launch(v, job, frame, n, out);
}

/* The outcome of a ticket, if it is there: as velum_poll. */
static int collect(velum *v, velum_ticket ticket, velum_outcome *out) {
    velum__job *job = find(v, ticket);
    if (job == NULL || job->done != NULL) return VELUM_E_ARGUMENT;
    if (job->state != VELUM__JOB_DONE) return 0;
    *out = job->outcome;
    spend(&v->jobs, job);
    return 1;
}

int velum_poll(velum *v, velum_ticket ticket, velum_outcome *out) {
    int got = collect(v, ticket, out);
    if (got != 0 || v->calling) return got;
    (void)velum__serve(v, 0);
    return collect(v, ticket, out);
}

int velum_wait(velum *v, velum_ticket ticket, uint32_t timeout_ms, velum_outcome *out) {
    int64_t until_us = velum__until(timeout_ms);
    int got = v->calling ? VELUM_E_ARGUMENT : collect(v, ticket, out);
    while (got == 0) {
        (void)velum__serve(v, until_us);
        got = collect(v, ticket, out);
        if (velum_port_now_us() >= until_us) break;
    }
    return got;
}

int velum_on_done(velum *v, velum_ticket ticket,
                  void (*done)(void *user, velum_ticket ticket, const velum_outcome *outcome),
                  void *user) {
    velum__job *job = find(v, ticket);
    if (job == NULL || job->done != NULL || done == NULL) return VELUM_E_ARGUMENT;
    job->done = done;
    job->user = user;
    if (job->state == VELUM__JOB_DONE) push(&v->jobs, &v->jobs.told, index_of(&v->jobs, job));
    return 0;
}

int velum_cancel(velum *v, velum_ticket ticket) {
    velum__job *job = find(v, ticket);
    uint8_t frame[CANCEL_BYTES];
    int n;
    if (job == NULL) return VELUM_E_ARGUMENT;
    if (job->state == VELUM__JOB_DONE) return 0;
    if (job->state == VELUM__JOB_SENT) {
        n = velum_wire_put_cancel(frame, sizeof frame, ticket, (uint16_t)-VELUM_E_CANCELLED);
        if (n > 0) n = velum_hub_send(v->hub, job->link, frame, (size_t)n);
        if (n == VELUM_E_FULL || n == VELUM_E_NOMEM) return n;
    }
    fail_here(v, job, VELUM_E_CANCELLED);
    return 0;
}
