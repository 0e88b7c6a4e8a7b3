/* client_tasks.c: a program's errands, from velum_spawn to their outcome.
 *
 * Owns: tickets, the frames that are under way, and the pins of their modules. Refuses to know:
 * where a task runs, the full node decides that; what a scatter is told (client_jobs.c).
 * How: an errand lives in a slot of a table that grows, and goes through these states:
 *
 *   FREE -> WAITING   spawned
 *   WAITING -> SENT   the home link took its frame
 *   SENT -> WAITING   its link closed, or its node answered that it leaves; not too often
 *   any -> DONE       RESULT, ERROR, a JOB that has ended, cancelled, overdue, or the instance has
 *                     ended
 *   DONE -> FREE      the program has its outcome
 *
 * A deadline counts here from velum_spawn, and each send says what is left of it. The node watches
 * it too and is trusted to answer; it is given a moment for that before the errand ends without it.
 * A scatter is always sent as it was, for it is the same job to every node: its limit counts from
 * its beginning in the mesh. If it is cancelled while it waits for its second node, it goes on
 * waiting, for a node that can be told.
 */
#include "blake2b.h"
#include "client_internal.h"

#include <stdlib.h>
#include <string.h>

#include "validate.h"

#define NO_ERRAND           UINT16_MAX
#define GENERATION_MAX      ((1u << (32u - VELUM__TICKET_INDEX_BITS)) - 1u)
#define FIRST_TABLE_ERRANDS 16u
#define STOP_BYTES_MAX      (VELUM_HEADER_BYTES + 16u) /* of a CANCEL or JOB_ASK */

/* What loses its link more often than this without an answer may be what kills the nodes. */
#define RESENDS_MAX 3

/* How long after a deadline the node's own answer is awaited. */
#define GRACE_US INT64_C(1000000)

/* ---- lists and slots ---- */

static void push(velum__errands *errands, velum__list *list, uint16_t index) {
    errands->all[index].next = NO_ERRAND;
    if (list->head == NO_ERRAND) {
        list->head = index;
    } else {
        errands->all[list->tail].next = index;
    }
    list->tail = index;
}

static uint16_t pop(velum__errands *errands, velum__list *list) {
    uint16_t index = list->head;
    if (index != NO_ERRAND) list->head = errands->all[index].next;
    return index;
}

static void take_out(velum__errands *errands, velum__list *list, uint16_t index) {
    uint16_t before = NO_ERRAND;
    for (uint16_t at = list->head; at != index; at = errands->all[at].next) {
        before = at;
    }
    if (before == NO_ERRAND) {
        list->head = errands->all[index].next;
    } else {
        errands->all[before].next = errands->all[index].next;
    }
    if (list->tail == index) list->tail = before;
}

void velum__errands_open(velum__errands *errands) {
    const velum__list empty = {NO_ERRAND, NO_ERRAND};
    errands->free = errands->waiting = errands->told = empty;
    errands->next_us = INT64_MAX;
}

void velum__errands_close(velum__errands *errands) {
    free(errands->all);
}

static uint16_t index_of(const velum__errands *errands, const velum__errand *errand) {
    return (uint16_t)(errand - errands->all);
}

static velum_ticket ticket_of(const velum__errands *errands, const velum__errand *errand) {
    return errand->generation << VELUM__TICKET_INDEX_BITS | index_of(errands, errand);
}

velum_ticket velum__errand_ticket(const velum *v, const velum__errand *errand) {
    return ticket_of(&v->errands, errand);
}

velum__errand *velum__errand_find(velum *v, uint64_t ticket) {
    uint64_t index = ticket & ((1u << VELUM__TICKET_INDEX_BITS) - 1u);
    velum__errand *errand;
    if (index >= v->errands.count) return NULL;
    errand = &v->errands.all[index];
    if (errand->generation != ticket >> VELUM__TICKET_INDEX_BITS) return NULL;
    return errand->state == VELUM__ERRAND_FREE ? NULL : errand;
}

/* Makes the table twice as large. FULL, NOMEM. */
static int grow(velum__errands *errands) {
    size_t count = errands->count > 0 ? errands->count * 2 : FIRST_TABLE_ERRANDS;
    velum__errand *all;
    if (errands->count == VELUM_TASKS_MAX) return VELUM_E_FULL;
    if (count > VELUM_TASKS_MAX) count = VELUM_TASKS_MAX;
    all = realloc(errands->all, count * sizeof *all);
    if (all == NULL) return VELUM_E_NOMEM;
    errands->all = all;
    for (size_t i = errands->count; i < count; i++) {
        memset(&all[i], 0, sizeof all[i]);
        push(errands, &errands->free, (uint16_t)i);
    }
    errands->count = count;
    return 0;
}

/* ---- the end of an errand ---- */

/* Lets go of all but the outcome, which is set already. */
static void settle(velum *v, velum__errand *errand) {
    velum__errands *errands = &v->errands;
    if (errand->state == VELUM__ERRAND_WAITING)
        take_out(errands, &errands->waiting, index_of(errands, errand));
    if (errand->pinned) velum_modules_unpin(velum_hub_modules(v->hub), errand->hash);
    free(errand->frame);
    errand->pinned = false;
    errand->frame = NULL;
    errand->state = VELUM__ERRAND_DONE;
    if (errand->done != NULL) push(errands, &errands->told, index_of(errands, errand));
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

void velum__errand_finish(velum *v, velum__errand *errand, int error, uint16_t node,
                          velum_text text) {
    const char *words = velum_strerror(error);
    errand->outcome.error = error;
    errand->outcome.node = node;
    if (error != 0 && text.size == 0) text = (velum_text){words, (uint16_t)strlen(words)};
    set_text(&errand->outcome, text.data, text.size);
    settle(v, errand);
}

static void fail_here(velum *v, velum__errand *errand, int error) {
    velum__errand_finish(v, errand, error, 0, (velum_text){NULL, 0});
}

/* Frees the slot; the ticket is spent. */
static void spend(velum__errands *errands, velum__errand *errand) {
    errand->state = VELUM__ERRAND_FREE;
    errand->done = NULL;
    push(errands, &errands->free, index_of(errands, errand));
}

void velum__errands_end(velum *v, int error) {
    for (size_t i = 0; i < v->errands.count; i++) {
        velum__errand *errand = &v->errands.all[i];
        if (errand->state == VELUM__ERRAND_WAITING || errand->state == VELUM__ERRAND_SENT) {
            fail_here(v, errand, error);
        }
    }
}

void velum__errands_tell(velum *v) {
    uint16_t index;
    if (v->calling) return;
    v->calling = true;
    while ((index = pop(&v->errands, &v->errands.told)) != NO_ERRAND) {
        velum__errand errand = v->errands.all[index]; /* the table may grow meanwhile */
        velum_ticket ticket = ticket_of(&v->errands, &v->errands.all[index]);
        spend(&v->errands, &v->errands.all[index]);
        errand.done(errand.user, ticket, &errand.outcome);
    }
    v->calling = false;
}

/* ---- sending ---- */

/* Writes the errand's frame to buf, its timeout what is left until the deadline. */
static int retime(const velum__errand *errand, int64_t now, uint8_t buf[VELUM__FRAME_BYTES]) {
    const uint8_t *payload = errand->frame + VELUM_HEADER_BYTES;
    const size_t length = errand->size - VELUM_HEADER_BYTES;
    const uint32_t left_ms = (uint32_t)((errand->deadline_us - now + 999) / 1000);
    velum_header header;
    velum_call call;
    velum_task task;
    int n = velum_wire_header(errand->frame, errand->size, &header);
    if (n > 0 && header.type == VELUM_F_CALL) {
        n = velum_wire_get_call(payload, length, &call);
        call.timeout_ms = left_ms;
        if (n > 0) n = velum_wire_put_call(buf, VELUM__FRAME_BYTES, header.correlation, &call);
    } else if (n > 0) {
        n = velum_wire_get_task(payload, length, &task);
        task.timeout_ms = left_ms;
        if (n > 0) n = velum_wire_put_task(buf, VELUM__FRAME_BYTES, header.correlation, &task);
    }
    return n;
}

/* Asks the node at the other end to end an errand with this error. */
static int send_stop(velum *v, const velum__errand *errand, velum_handle link, int code) {
    uint8_t frame[STOP_BYTES_MAX];
    uint64_t ticket = ticket_of(&v->errands, errand);
    int n = errand->job != 0 ? velum__job_put_cancel(frame, sizeof frame, ticket, errand->job)
                             : velum_wire_put_cancel(frame, sizeof frame, ticket, (uint16_t)-code);
    return n > 0 ? velum_hub_send(v->hub, link, frame, (size_t)n) : n;
}

static int send_out(velum *v, const velum__errand *errand, velum_handle home, int64_t now) {
    uint8_t buf[VELUM__FRAME_BYTES];
    const uint8_t *frame = errand->frame;
    size_t size = errand->size;
    if (errand->deadline_us != INT64_MAX && errand->job == 0) {
        int n = retime(errand, now, buf);
        if (n < 0) return n;
        frame = buf;
        size = (size_t)n;
    }
    return velum_hub_send(v->hub, home, frame, size);
}

/* Sends what waits, as far as the home link takes it. */
static void pump(velum *v, int64_t now) {
    velum__errands *errands = &v->errands;
    velum_handle home = velum_leaf_joined(v->leaf) ? velum_leaf_home(v->leaf) : 0;
    uint16_t index = errands->waiting.head;
    errands->blocked = false;
    while (home != 0 && index != NO_ERRAND) {
        velum__errand *errand = &errands->all[index];
        uint16_t next = errand->next;
        if (errand->link != home) {
            int err = errand->stopping ? send_stop(v, errand, home, VELUM_E_CANCELLED)
                                       : send_out(v, errand, home, now);
            if (err != 0) {
                errands->blocked = true;
                return;
            }
            take_out(errands, &errands->waiting, index);
            errand->state = VELUM__ERRAND_SENT;
            errand->link = home;
            if (errand->stopping) fail_here(v, errand, VELUM_E_CANCELLED);
        }
        index = next;
    }
}

/* Ends what is overdue, and finds the next deadline. */
static void look_for_overdue(velum *v, int64_t now) {
    int64_t next = INT64_MAX;
    for (size_t i = 0; i < v->errands.count; i++) {
        velum__errand *errand = &v->errands.all[i];
        bool sent = errand->state == VELUM__ERRAND_SENT;
        int64_t due;
        if (!sent && errand->state != VELUM__ERRAND_WAITING) continue;
        if (errand->deadline_us == INT64_MAX) continue;
        due = errand->deadline_us + (sent ? GRACE_US : 0);
        if (now >= due) {
            if (sent) (void)send_stop(v, errand, errand->link, VELUM_E_DEADLINE);
            fail_here(v, errand, VELUM_E_DEADLINE);
        } else if (due < next) {
            next = due;
        }
    }
    v->errands.next_us = next;
}

int64_t velum__errands_tick(velum *v) {
    int64_t now = velum_port_now_us();
    if (now >= v->errands.next_us) look_for_overdue(v, now);
    pump(v, now);
    return v->errands.told.head != NO_ERRAND ? now : v->errands.next_us;
}

/* ---- answers ---- */

/* The node did not get to answer: another one shall. `link` must not be used again, 0: is gone. */
static void again(velum *v, velum__errand *errand, velum_handle link) {
    if (errand->losses == RESENDS_MAX) {
        fail_here(v, errand, VELUM_E_LOST);
        return;
    }
    errand->losses++;
    errand->link = link;
    errand->state = VELUM__ERRAND_WAITING;
    push(&v->errands, &v->errands.waiting, index_of(&v->errands, errand));
    if (errand->deadline_us < v->errands.next_us) v->errands.next_us = errand->deadline_us;
}

static void on_result(velum *v, velum__errand *errand, const velum_frame *frame) {
    velum_result result;
    if (velum_wire_get_result(frame->payload, frame->header.length, &result) < 0) {
        fail_here(v, errand, VELUM_E_PAYLOAD);
        return;
    }
    errand->outcome.run_us = result.run_us;
    if (result.nvalues > 0) {
        errand->outcome.nvalues = 1;
        errand->outcome.value = result.values[0];
    }
    velum__errand_finish(v, errand, 0, result.node, (velum_text){NULL, 0});
}

static void on_error(velum *v, velum__errand *errand, const velum_frame *frame) {
    velum_error error;
    if (velum_wire_get_error(frame->payload, frame->header.length, &error) < 0) {
        fail_here(v, errand, VELUM_E_PAYLOAD);
    } else if (error.code == -VELUM_E_LEAVING) {
        again(v, errand, errand->link);
    } else {
        velum__errand_finish(v, errand, -(int)error.code, error.node, error.text);
    }
}

void velum__errands_frame(velum *v, velum_handle link, const velum_frame *frame) {
    velum__errand *errand = velum__errand_find(v, frame->header.correlation);
    if (errand == NULL || errand->state != VELUM__ERRAND_SENT || errand->link != link) return;
    if (frame->header.type == VELUM_F_ERROR) {
        on_error(v, errand, frame);
    } else if (frame->header.type == VELUM_F_RESULT && errand->job == 0) {
        on_result(v, errand, frame);
    } else if (frame->header.type == VELUM_F_JOB && errand->job != 0) {
        velum__job_record(v, errand, frame);
    }
}

void velum__errands_lost(velum *v, velum_handle link) {
    for (size_t i = 0; i < v->errands.count; i++) {
        velum__errand *errand = &v->errands.all[i];
        if (errand->link == link && errand->state == VELUM__ERRAND_SENT) again(v, errand, 0);
    }
}

/* ---- the program's calls ---- */

velum__errand *velum__errand_new(velum *v, uint32_t timeout_ms, int *err) {
    velum__errands *errands = &v->errands;
    velum__errand *errand;
    uint32_t generation;
    *err = v->ended;
    if (*err == 0 && errands->free.head == NO_ERRAND) *err = grow(errands);
    if (*err != 0) return NULL;
    errand = &errands->all[pop(errands, &errands->free)];
    generation = errand->generation % GENERATION_MAX + 1u;
    memset(errand, 0, sizeof *errand);
    errand->generation = generation;
    errand->deadline_us = timeout_ms > 0 ? velum__until(timeout_ms) : INT64_MAX;
    return errand;
}

int velum__errand_launch(velum *v, velum__errand *errand, const uint8_t *frame, int n,
                         velum_ticket *out) {
    velum__errands *errands = &v->errands;
    errand->frame = n > 0 ? malloc((size_t)n) : NULL;
    if (errand->frame == NULL) {
        if (errand->pinned) velum_modules_unpin(velum_hub_modules(v->hub), errand->hash);
        errand->pinned = false;
        spend(errands, errand);
        return n < 0 ? n : VELUM_E_NOMEM;
    }
    memcpy(errand->frame, frame, (size_t)n);
    errand->size = (size_t)n;
    errand->state = VELUM__ERRAND_WAITING;
    push(errands, &errands->waiting, index_of(errands, errand));
    if (errand->deadline_us < errands->next_us) errands->next_us = errand->deadline_us;
    *out = ticket_of(errands, errand);
    return 0;
}

static bool fits(const char *name, const velum_value *args, size_t nargs) {
    return name != NULL && strlen(name) <= VELUM_NAME_BYTES_MAX && nargs <= VELUM_ARGS_MAX &&
           (args != NULL || nargs == 0);
}

int velum_spawn(velum *v, const char *name, const velum_value *args, size_t nargs,
                uint32_t timeout_ms, velum_ticket *out) {
    uint8_t frame[VELUM__FRAME_BYTES];
    velum_call call = {.timeout_ms = timeout_ms};
    velum__errand *errand;
    int err, n;
    if (!fits(name, args, nargs)) return VELUM_E_ARGUMENT;
    errand = velum__errand_new(v, timeout_ms, &err);
    if (errand == NULL) return err;
    call.name = (velum_text){name, (uint16_t)strlen(name)};
    call.nargs = (uint8_t)nargs;
    if (nargs > 0) memcpy(call.args, args, nargs * sizeof *args);
    n = velum_wire_put_call(frame, sizeof frame, ticket_of(&v->errands, errand), &call);
    return velum__errand_launch(v, errand, frame, n, out);
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

/* Of a module that another errand has pinned it is known that it is valid. */
int velum__errand_keep_module(velum *v, velum__errand *errand, const void *module, size_t size) {
    velum_modules *modules = velum_hub_modules(v->hub);
    bool known = false;
    int err = 0;
    velum_blake2b_256(module, size, errand->hash);
    for (size_t i = 0; i < v->errands.count && !known; i++) {
        const velum__errand *other = &v->errands.all[i];
        known = other->pinned && memcmp(other->hash, errand->hash, VELUM_HASH_BYTES) == 0;
    }
    if (!known) err = velum_validate(module, size, NULL);
    if (err == 0) err = velum_modules_add(modules, module, size, errand->hash);
    if (err == 0) err = velum_modules_pin(modules, errand->hash);
    errand->pinned = err == 0;
    return err;
}

int velum_spawn_wasm(velum *v, const void *module, size_t size, const char *function,
                     const velum_value *args, size_t nargs, uint32_t timeout_ms,
                     velum_ticket *out) {
    uint8_t frame[VELUM__FRAME_BYTES];
    velum_task task = {.timeout_ms = timeout_ms};
    velum__errand *errand;
    int err, n;
    if (!fits(function, args, nargs) || module == NULL) return VELUM_E_ARGUMENT;
    if (size > VELUM_MODULE_BYTES_MAX) return VELUM_E_TOO_LARGE;
    errand = velum__errand_new(v, timeout_ms, &err);
    if (errand == NULL) return err;
    err = velum__errand_keep_module(v, errand, module, size);
    if (err == 0) err = check_arguments(module, size, function, args, nargs);
    if (err != 0) return velum__errand_launch(v, errand, NULL, err, out);
    memcpy(task.hash, errand->hash, VELUM_HASH_BYTES);
    task.name = (velum_text){function, (uint16_t)strlen(function)};
    task.nargs = (uint8_t)nargs;
    if (nargs > 0) memcpy(task.args, args, nargs * sizeof *args);
    n = velum_wire_put_task(frame, sizeof frame, ticket_of(&v->errands, errand), &task);
    return velum__errand_launch(v, errand, frame, n, out);
}

/* The outcome of a ticket, if it is there: as velum_poll. */
static int collect(velum *v, velum_ticket ticket, velum_outcome *out) {
    velum__errand *errand = velum__errand_find(v, ticket);
    if (errand == NULL || errand->done != NULL) return VELUM_E_ARGUMENT;
    if (errand->state != VELUM__ERRAND_DONE) return 0;
    *out = errand->outcome;
    spend(&v->errands, errand);
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
    velum__errand *errand = velum__errand_find(v, ticket);
    if (errand == NULL || errand->done != NULL || done == NULL) return VELUM_E_ARGUMENT;
    errand->done = done;
    errand->user = user;
    if (errand->state == VELUM__ERRAND_DONE)
        push(&v->errands, &v->errands.told, index_of(&v->errands, errand));
    return 0;
}

int velum_cancel(velum *v, velum_ticket ticket) {
    velum__errand *errand = velum__errand_find(v, ticket);
    int err;
    if (errand == NULL) return VELUM_E_ARGUMENT;
    if (errand->state == VELUM__ERRAND_DONE) return 0;
    if (errand->state == VELUM__ERRAND_SENT) {
        err = send_stop(v, errand, errand->link, VELUM_E_CANCELLED);
        if (err == VELUM_E_FULL || err == VELUM_E_NOMEM) return err;
        velum_hub_flush(v->hub); /* the program may be in no hurry to serve again */
    } else if (errand->job != 0 && errand->losses > 0) {
        errand->stopping = true; /* the mesh has it: the next node is told */
        return 0;
    }
    fail_here(v, errand, VELUM_E_CANCELLED);
    return 0;
}
