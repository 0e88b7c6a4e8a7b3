/* worker.c: tasks in, answers out. See worker.h for what is promised.
 *
 * A task waits in a slot until its module is held, which is then pinned until the task is over.
 * Tasks run in the order they came, but one that waits for its module does not hold up the rest.
 * A lease is a task whose guest is called many times (worker_lease.c).
 *
 *   TASK, LEASE module held: ready; else: fetching from the link it came on
 *   MODULE      0: its tasks are ready; error: tasks of that link fail, others ask their own link
 *   CANCEL      waiting: answered at once; running: the guest stops at the next check
 *   TRIM        the lease ends earlier; a waiting one that keeps nothing ends at once
 *   CLOSED      the link's tasks are forgotten; a running one stops and is not answered
 *
 * What a module was found to be (valid, or what is wrong with it) is remembered by its hash.
 *
 * A lease's guest may be kept for the next lease of its module, because opening it means compiling
 * it. It is closed when anything else runs or needs a module fetched, and when its time is up.
 */
#include "worker_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A task that runs longer than this reports its fuel, this often. */
#define PROGRESS_US 250000

/* Events taken from one poll inside a guest's run. */
#define EVENTS_PER_POLL 16

#if VELUM_WORKER_QUEUE_MAX > 256
#error "VELUM_WORKER_QUEUE_MAX does not fit the indexes of slots"
#endif

#define ERROR_FRAME_BYTES_MAX (VELUM_HEADER_BYTES + 16u + VELUM_TEXT_BYTES_MAX)

/* ---- answers ---- */

static void forget_link(velum_worker *w, velum_handle link);

void velum__worker_give_up(velum_worker *w, velum_handle link) {
    velum_event event;
    memset(&event, 0, sizeof event);
    event.kind = VELUM_EV_CLOSED;
    event.link = link;
    event.u.closed.error = VELUM_E_FULL;
    event.u.closed.was_open = true;
    velum_hub_drop(w->hub, link, (uint16_t)-VELUM_E_FULL, NULL);
    forget_link(w, link);
    if (w->config.other != NULL) w->config.other(w->config.user, &event);
}

void velum__worker_send(velum_worker *w, velum_handle link, const uint8_t *frame, int n) {
    int err = n > 0 ? velum_hub_send(w->hub, link, frame, (size_t)n) : VELUM_OK;
    if (err == VELUM_E_FULL || err == VELUM_E_NOMEM) velum__worker_give_up(w, link);
}

void velum__worker_error(velum_worker *w, velum_handle link, uint64_t correlation, int error,
                         const char *text) {
    uint8_t frame[ERROR_FRAME_BYTES_MAX];
    velum_error message = {.code = (uint16_t)-error, .node = w->config.node, .deaths = 0};
    message.text = (velum_text){text, (uint16_t)strlen(text)};
    velum__worker_send(w, link, frame,
                       velum_wire_put_error(frame, sizeof frame, correlation, &message));
}

static void answer_result(velum_worker *w, const velum__slot *s, int64_t run_us,
                          const velum_value *value, size_t nvalues) {
    uint8_t frame[VELUM_HEADER_BYTES + 64u];
    velum_result message = {.node = w->config.node, .health = w->health};
    message.run_us = run_us < (int64_t)UINT32_MAX ? (uint32_t)run_us : UINT32_MAX;
    message.health.queue = velum_worker_queue(w);
    message.health.running = 0;
    message.nvalues = (uint8_t)nvalues;
    if (nvalues > 0) message.values[0] = *value;
    velum__worker_send(w, s->link, frame,
                       velum_wire_put_result(frame, sizeof frame, s->correlation, &message));
}

static void send_progress(velum_worker *w) {
    uint8_t frame[VELUM_HEADER_BYTES + 16u];
    velum_progress message = {velum_vm_fuel_used(w->guest.vm), 0};
    const velum__slot *s = &w->current;
    int n = velum_wire_put_progress(frame, sizeof frame, s->correlation, &message);
    if (n > 0) (void)velum_hub_send(w->hub, s->link, frame, (size_t)n); /* one less does no harm */
}

/* ---- the queue ---- */

/* Takes the waiting task at `place` out of the queue. Its slot keeps its contents only until the
 * next task is queued. */
static velum__slot *take_out(velum_worker *w, uint16_t place) {
    uint8_t index = w->order[place];
    w->count--;
    memmove(&w->order[place], &w->order[place + 1], w->count - place);
    w->order[w->count] = index;
    return &w->slots[index];
}

static void release(velum_worker *w, velum__slot *s) {
    if (s->held) velum_modules_unpin(velum_hub_modules(w->hub), s->task.hash);
    s->held = false;
}

/* Takes a waiting task out and answers it with an error. */
static void refuse(velum_worker *w, uint16_t place, int error) {
    velum__slot *s = take_out(w, place);
    release(w, s);
    velum__worker_error(w, s->link, s->correlation, error, velum_strerror(error));
}

/* Reads a TASK, or a LEASE, of which a TASK's fields are a part. 0 or an error. */
static int read_task(const velum_frame *frame, velum_lease *lease) {
    size_t n = frame->header.length;
    bool leased = frame->header.type == VELUM_F_LEASE;
    memset(lease, 0, sizeof *lease);
    int err = leased ? velum_wire_get_lease(frame->payload, n, lease)
                     : velum_wire_get_task(frame->payload, n, &lease->task);
    if (err >= 0 && (lease->task.flags & VELUM_TASK_PLACED) == 0) err = VELUM_E_UNEXPECTED;
    return err < 0 ? err : VELUM_OK;
}

static void fill_slot(velum__slot *s, const velum_frame *frame, const velum_lease *lease) {
    const velum_task *task = &lease->task;
    s->correlation = frame->header.correlation;
    s->leased = frame->header.type == VELUM_F_LEASE;
    s->task = *task;
    s->deadline_us = 0;
    if (!s->leased && task->timeout_ms > 0) {
        s->deadline_us = velum_port_now_us() + (int64_t)task->timeout_ms * 1000;
    }
    if (task->name.size > 0) memcpy(s->name, task->name.data, task->name.size);
    s->job = lease->job;
    s->slices = lease->slices;
    s->next = lease->first;
    s->end = lease->first + lease->count;
}

static void on_task(velum_worker *w, velum_handle link, const velum_frame *frame) {
    velum_lease lease;
    int err = read_task(frame, &lease);
    if (err == VELUM_OK && w->count == VELUM_WORKER_QUEUE_MAX) err = VELUM_E_BUSY;
    if (err != VELUM_OK) {
        velum__worker_error(w, link, frame->header.correlation, err, velum_strerror(err));
        return;
    }
    uint16_t place = w->count++;
    velum__slot *s = &w->slots[w->order[place]];
    fill_slot(s, frame, &lease);
    s->link = link;
    s->held = velum_modules_pin(velum_hub_modules(w->hub), s->task.hash) == VELUM_OK;
    if (s->held) return;
    if (!w->running) velum__guest_close(w); /* its module may be in the way of this one */
    err = velum_hub_fetch(w->hub, link, s->task.hash);
    if (err != VELUM_OK) refuse(w, place, err == VELUM_E_FULL ? VELUM_E_BUSY : err);
}

static bool is_running(const velum_worker *w, velum_handle link, uint64_t correlation) {
    return w->running && w->current.link == link && w->current.correlation == correlation;
}

/* The place of a waiting task, or `count`. */
static uint16_t find_waiting(const velum_worker *w, velum_handle link, uint64_t correlation) {
    uint16_t place = 0;
    for (; place < w->count; place++) {
        const velum__slot *s = &w->slots[w->order[place]];
        if (s->link == link && s->correlation == correlation) break;
    }
    return place;
}

static void on_cancel(velum_worker *w, velum_handle link, const velum_frame *frame) {
    uint16_t code;
    if (velum_wire_get_cancel(frame->payload, frame->header.length, &code) < 0) return;
    int error = code == -VELUM_E_DEADLINE ? VELUM_E_DEADLINE : VELUM_E_CANCELLED;

    if (is_running(w, link, frame->header.correlation)) {
        w->stop = error;
        return;
    }
    uint16_t place = find_waiting(w, link, frame->header.correlation);
    if (place < w->count) refuse(w, place, error);
}

/* A running lease looks at its end after every slice. */
static void on_trim(velum_worker *w, velum_handle link, const velum_frame *frame) {
    uint32_t end;
    bool running = is_running(w, link, frame->header.correlation);
    uint16_t place = find_waiting(w, link, frame->header.correlation);
    if (velum_wire_get_trim(frame->payload, frame->header.length, &end) < 0) return;
    if (!running && place == w->count) return;

    velum__slot *s = running ? &w->current : &w->slots[w->order[place]];
    if (!s->leased || end >= s->end) return;
    s->end = end;
    if (running || s->next < end) return;
    s = take_out(w, place);
    release(w, s);
    velum__lease_decline(w, s);
}

/* A fetch has ended: its tasks are ready, or fail, or ask elsewhere. */
static void on_module(velum_worker *w, velum_handle from, const uint8_t *hash, int error) {
    for (uint16_t place = 0; place < w->count;) {
        velum__slot *s = &w->slots[w->order[place]];
        int err = VELUM_OK;
        if (!s->held && memcmp(s->task.hash, hash, VELUM_HASH_BYTES) == 0) {
            if (error == VELUM_OK) {
                err = velum_modules_pin(velum_hub_modules(w->hub), hash);
                s->held = err == VELUM_OK;
            } else {
                err = s->link == from ? error : velum_hub_fetch(w->hub, s->link, hash);
            }
        }
        if (err != VELUM_OK) {
            refuse(w, place, err);
            place = 0; /* refusing may have taken out more than this one */
        } else {
            place++;
        }
    }
}

static void forget_link(velum_worker *w, velum_handle link) {
    for (uint16_t place = 0; place < w->count;) {
        if (w->slots[w->order[place]].link == link) {
            release(w, take_out(w, place));
        } else {
            place++;
        }
    }
    if (w->running && w->current.link == link) {
        w->stop = VELUM_E_CLOSED;
        w->silent = true;
    }
}

/* False for a frame that is not the worker's. */
static bool on_frame(velum_worker *w, velum_handle link, const velum_frame *frame) {
    switch (frame->header.type) {
    case VELUM_F_TASK:
    case VELUM_F_LEASE:
        on_task(w, link, frame);
        return true;
    case VELUM_F_CANCEL:
        on_cancel(w, link, frame);
        return true;
    case VELUM_F_TRIM:
        on_trim(w, link, frame);
        return true;
    default:
        return false;
    }
}

void velum_worker_event(velum_worker *w, const velum_event *event) {
    if (event->kind == VELUM_EV_FRAME && on_frame(w, event->link, &event->u.frame)) return;
    if (event->kind == VELUM_EV_MODULE) {
        on_module(w, event->link, event->u.module.hash, event->u.module.error);
        return;
    }
    if (event->kind == VELUM_EV_CLOSED) forget_link(w, event->link);
    if (w->config.other != NULL) w->config.other(w->config.user, event);
}

/* ---- what is wrong, in words ---- */

static const char *type_name(uint8_t type) {
    switch (type) {
    case VELUM_I32:
        return "i32";
    case VELUM_I64:
        return "i64";
    case VELUM_F32:
        return "f32";
    default:
        return "f64";
    }
}

/* Appends to a text that has room for VELUM__TEXT_BYTES bytes. */
static void append(char *text, const char *more) {
    size_t used = strlen(text);
    (void)snprintf(text + used, VELUM__TEXT_BYTES - used, "%s", more);
}

/* "sum takes (i32, i32, i32), given (i64)". */
static void describe_signature(const velum__slot *s, const velum_signature *takes, char *text) {
    (void)snprintf(text, VELUM__TEXT_BYTES, "%.*s takes (", (int)s->task.name.size, s->name);
    for (uint8_t i = 0; i < takes->nparams; i++) {
        append(text, i > 0 ? ", " : "");
        append(text, type_name(takes->params[i]));
    }
    append(text, "), given (");
    for (uint8_t i = 0; i < s->task.nargs; i++) {
        append(text, i > 0 ? ", " : "");
        append(text, type_name(s->task.args[i].type));
    }
    append(text, ")");
}

static void describe_diagnosis(int error, const velum_diagnosis *why, char *text) {
    char function[40] = "";
    if (why->function != UINT32_MAX) {
        (void)snprintf(function, sizeof function, ", in function %lu",
                       (unsigned long)why->function);
    }
    (void)snprintf(text, VELUM__VERDICT_TEXT_BYTES, "%s: %s at byte %lu%s", velum_strerror(error),
                   why->text, (unsigned long)why->offset, function);
}

/* How a call ended: what, where, and the figure or the engine's words that go with it. */
static void describe_call(const velum_worker *w, int error, char *text) {
    const velum__slot *s = &w->current;
    const char *what = velum_strerror(error), *detail = velum_vm_detail(w->guest.vm);
    int size = (int)s->task.name.size;

    if (error == VELUM_E_NO_EXPORT) {
        (void)snprintf(text, VELUM__TEXT_BYTES, "%s: %.*s", what, size, s->name);
    } else if (error == VELUM_E_DEADLINE && s->task.timeout_ms > 0) {
        (void)snprintf(text, VELUM__TEXT_BYTES, "%s of %lu ms in %.*s", what,
                       (unsigned long)s->task.timeout_ms, size, s->name);
    } else {
        (void)snprintf(text, VELUM__TEXT_BYTES, "%s in %.*s", what, size, s->name);
        if (strcmp(what, detail) != 0) {
            append(text, ": ");
            append(text, detail);
        }
    }
}

void velum__guest_describe(const velum_worker *w, const uint8_t *module, size_t n, int error,
                           char *text) {
    const velum__slot *s = &w->current;
    velum_signature takes;
    if (error == VELUM_E_SIGNATURE &&
        velum_module_export(module, n, s->name, s->task.name.size, &takes) == VELUM_OK) {
        describe_signature(s, &takes, text);
    } else {
        describe_call(w, error, text);
    }
}

/* ---- the guest ---- */

void velum__worker_poll(velum_worker *w, int64_t timeout_us) {
    velum_event events[EVENTS_PER_POLL];
    int n = velum_hub_poll(w->hub, timeout_us, events, EVENTS_PER_POLL);
    for (int i = 0; i < n; i++) {
        velum_worker_event(w, &events[i]);
    }
    w->polled_us = velum_port_now_us();
}

int64_t velum__worker_serve(velum_worker *w, int64_t now_us) {
    if (now_us - w->polled_us < VELUM__POLL_US) return now_us;
    velum__worker_poll(w, 0);
    return w->polled_us;
}

/* The guest's check: serves the hub, and says whether the guest may go on. */
static int on_check(void *user) {
    velum_worker *w = user;
    if (w->current.leased) return velum__lease_check(w);

    int64_t now = velum__worker_serve(w, velum_port_now_us());
    if (w->stop != VELUM_OK) return w->stop;
    if (w->current.deadline_us != 0 && now >= w->current.deadline_us) return VELUM_E_DEADLINE;
    if (now - w->progress_us >= PROGRESS_US) {
        send_progress(w);
        w->progress_us = now;
    }
    return VELUM_OK;
}

/* Linear memory limit of a task's guest. */
static uint32_t pages_of(const velum_worker *w, const velum__slot *s) {
    uint32_t pages = w->config.pages_max;
    return s->task.pages != 0 && (pages == 0 || s->task.pages < pages) ? s->task.pages : pages;
}

int velum__guest_open(velum_worker *w, velum__verdict *v, const uint8_t *module, size_t n,
                      char *text) {
    velum__guest *guest = &w->guest;
    velum_vm_limits limits = {pages_of(w, &w->current), w->current.task.fuel, on_check, w};
    int err = velum_vm_open(&guest->vm, module, n, &limits);

    if (guest->vm != NULL) {
        memcpy(guest->hash, w->current.task.hash, sizeof guest->hash);
        guest->pages = limits.pages;
        guest->spoilt = false;
        (void)velum_modules_pin(velum_hub_modules(w->hub), guest->hash); /* it is held */
    }
    if (err == VELUM_OK) return err;
    (void)snprintf(text, VELUM__TEXT_BYTES, "%s: %s", velum_strerror(err),
                   guest->vm != NULL ? velum_vm_detail(guest->vm)
                                     : "the guest could not be started");
    if (err == VELUM_E_MODULE_COMPILE) {
        v->error = err;
        (void)snprintf(v->text, sizeof v->text, "%.*s", (int)sizeof v->text - 1, text);
    }
    velum__guest_close(w);
    return err;
}

void velum__guest_close(velum_worker *w) {
    if (w->guest.vm == NULL) return;
    velum_vm_close(w->guest.vm);
    w->guest.vm = NULL;
    velum_modules_unpin(velum_hub_modules(w->hub), w->guest.hash);
}

/* Whether the open guest is what a lease needs; its fuel is set for every slice. */
static bool guest_fits(const velum_worker *w, const velum__slot *s) {
    const velum__guest *guest = &w->guest;
    return s->leased && guest->vm != NULL && guest->pages == pages_of(w, s) &&
           memcmp(guest->hash, s->task.hash, VELUM_HASH_BYTES) == 0;
}

/* ---- running ---- */

static velum__verdict *find_verdict(velum_worker *w, const uint8_t *hash) {
    for (size_t i = 0; i < VELUM__VERDICTS_MAX; i++) {
        velum__verdict *v = &w->verdicts[i];
        if (v->known && memcmp(v->hash, hash, VELUM_HASH_BYTES) == 0) return v;
    }
    return NULL;
}

/* What the module is known to be; validates it if nothing is known. */
static velum__verdict *judge(velum_worker *w, const uint8_t *hash, const uint8_t *module,
                             size_t n) {
    velum__verdict *v = find_verdict(w, hash);
    if (v != NULL) return v;
    v = &w->verdicts[w->verdict_next];
    w->verdict_next = (w->verdict_next + 1) % VELUM__VERDICTS_MAX;

    velum_diagnosis why;
    v->error = velum_validate(module, n, &why);
    if (v->error != VELUM_OK) describe_diagnosis(v->error, &why, v->text);
    memcpy(v->hash, hash, VELUM_HASH_BYTES);
    v->known = v->error != VELUM_E_NOMEM; /* that may pass */
    v->state_known = false;
    return v;
}

/* Runs the current task, whose module is valid, and answers it. */
static void run_task(velum_worker *w, velum__verdict *v, const uint8_t *module, size_t n) {
    velum__slot *s = &w->current;
    size_t nvalues = 0;
    velum_value value = {VELUM_I32, 0};
    char text[VELUM__TEXT_BYTES];
    int64_t called_us = velum_port_now_us();

    int err = velum__guest_open(w, v, module, n, text);
    if (err == VELUM_OK) {
        err = velum_vm_call(w->guest.vm, s->name, s->task.name.size, s->task.args, s->task.nargs,
                            &value, &nvalues);
        if (err != VELUM_OK) velum__guest_describe(w, module, n, err, text);
    }
    int64_t run_us = velum_port_now_us() - called_us;
    velum__guest_close(w);
    if (w->silent) return;
    if (err == VELUM_OK) {
        answer_result(w, s, run_us, &value, nvalues);
    } else {
        velum__worker_error(w, s->link, s->correlation, err, text);
    }
}

/* Runs the current task or lease and answers it. */
static void run_current(velum_worker *w) {
    velum__slot *s = &w->current;
    size_t n;
    int64_t begun_us = velum_port_now_us();

    w->stop = VELUM_OK;
    w->silent = false;
    w->polled_us = w->progress_us = begun_us;
    if (!guest_fits(w, s)) velum__guest_close(w);

    if (s->deadline_us != 0 && begun_us >= s->deadline_us) {
        char text[VELUM__TEXT_BYTES];
        (void)snprintf(text, sizeof text, "%s: it waited too long for its turn",
                       velum_strerror(VELUM_E_DEADLINE));
        velum__worker_error(w, s->link, s->correlation, VELUM_E_DEADLINE, text);
        return;
    }
    const uint8_t *module = velum_modules_get(velum_hub_modules(w->hub), s->task.hash, &n);
    velum__verdict *v = judge(w, s->task.hash, module, n);
    if (v->error != VELUM_OK) {
        velum__worker_error(w, s->link, s->correlation, v->error, v->text);
    } else if (s->leased) {
        velum__lease_run(w, v, module, n);
    } else {
        run_task(w, v, module, n);
    }
}

/* The first task that could run, or `count`. */
static uint16_t first_ready(const velum_worker *w) {
    uint16_t place = 0;
    while (place < w->count && !w->slots[w->order[place]].held) {
        place++;
    }
    return place;
}

bool velum_worker_ready(const velum_worker *w) {
    return first_ready(w) < w->count;
}

int64_t velum_worker_sleep_us(const velum_worker *w) {
    if (velum_worker_ready(w)) return 0;
    if (w->guest.vm == NULL) return -1;
    int64_t left_us = w->guest.until_us - velum_port_now_us();
    return left_us > 0 ? left_us : 0;
}

/* A guest that nothing runs in: keeps it for the next lease, or not. */
static void keep_guest(velum_worker *w) {
    uint16_t place = first_ready(w);
    bool fits = place < w->count && guest_fits(w, &w->slots[w->order[place]]);
    if (fits || w->guest.until_us > velum_port_now_us()) return;
    velum__guest_close(w);
}

bool velum_worker_run(velum_worker *w) {
    uint16_t place = first_ready(w);
    bool ran = place < w->count;
    if (w->running) return false;
    if (ran) {
        w->current = *take_out(w, place);
        w->running = true;
        run_current(w);
        w->running = false;
        release(w, &w->current);
        w->guest.until_us = velum_port_now_us() + (int64_t)w->config.keep_ms * 1000;
    }
    if (w->guest.vm != NULL) keep_guest(w);
    return ran;
}

/* ---- the rest ---- */

int velum_worker_open(velum_worker **out, velum_hub *hub, const velum_worker_config *config) {
    velum_worker *w = calloc(1, sizeof *w);
    if (w == NULL) return VELUM_E_NOMEM;
    w->hub = hub;
    w->config = *config;
    w->health.slots = 1;
    w->health.cores = 1;
    for (uint16_t i = 0; i < VELUM_WORKER_QUEUE_MAX; i++) {
        w->order[i] = (uint8_t)i;
    }
    *out = w;
    return VELUM_OK;
}

void velum_worker_close(velum_worker *w) {
    if (w == NULL) return;
    velum__guest_close(w);
    while (w->count > 0) {
        release(w, take_out(w, 0));
    }
    free(w);
}

void velum_worker_health(velum_worker *w, const velum_health *health) {
    w->health = *health;
}

uint16_t velum_worker_queue(const velum_worker *w) {
    return w->count;
}

uint16_t velum_worker_running(const velum_worker *w) {
    return w->running ? 1 : 0;
}

/* (func (export "run") (local i32)
 *   (loop (local.set 0 (i32.add (i32.mul (local.get 0) (i32.const 3)) (i32.const 1))) (br 0))) */
static const uint8_t calibration_guest[] = {
    0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00,                   /* magic, version */
    0x01, 0x04, 0x01, 0x60, 0x00, 0x00,                               /* type () -> () */
    0x03, 0x02, 0x01, 0x00,                                           /* function 0 */
    0x07, 0x07, 0x01, 0x03, 0x72, 0x75, 0x6e, 0x00, 0x00,             /* export "run" */
    0x0a, 0x15, 0x01, 0x13, 0x01, 0x01, 0x7f, 0x03, 0x40, 0x20, 0x00, /* code */
    0x41, 0x03, 0x6c, 0x41, 0x01, 0x6a, 0x21, 0x00, 0x0c, 0x00, 0x0b, 0x0b,
};

static int on_calibration_check(void *user) {
    const int64_t *until_us = user;
    return velum_port_now_us() < *until_us ? VELUM_OK : VELUM_E_TIMEOUT;
}

uint32_t velum_worker_calibrate(uint32_t ms) {
    int64_t until_us = 0;
    velum_vm_limits limits = {1, 0, on_calibration_check, &until_us};
    velum_value value;
    size_t nvalues;
    velum_vm *vm;
    uint64_t rounds_a_ms = 0;

    if (velum_vm_open(&vm, calibration_guest, sizeof calibration_guest, &limits) == VELUM_OK) {
        int64_t begun_us = velum_port_now_us();
        until_us = begun_us + (int64_t)ms * 1000;
        (void)velum_vm_call(vm, "run", 3, NULL, 0, &value, &nvalues);
        int64_t took_us = velum_port_now_us() - begun_us;
        if (took_us > 0) rounds_a_ms = velum_vm_fuel_used(vm) * 1000 / (uint64_t)took_us;
    }
    velum_vm_close(vm);
    return rounds_a_ms < UINT32_MAX ? (uint32_t)rounds_a_ms : UINT32_MAX;
}
