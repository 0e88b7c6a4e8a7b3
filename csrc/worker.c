/* worker.c: tasks in, answers out. See worker.h for what is promised.
 *
 * A task waits in a slot until its module is held, which is then pinned until the task is over.
 * Tasks run in the order they came, but one that waits for its module does not hold up the rest.
 *
 *   TASK        module held: ready; else: fetching from the link it came on
 *   MODULE      0: its tasks are ready; error: tasks of that link fail, others ask their own link
 *   CANCEL      waiting: answered at once; running: the guest stops at the next check
 *   CLOSED      the link's tasks are forgotten; a running one stops and is not answered
 *
 * What a module was found to be (valid, or what is wrong with it) is remembered by its hash.
 */
#include "worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "velum_port.h"
#include "vm.h"

/* How often the hub is polled while a guest runs, at most. */
#define POLL_US 2000

/* A task that runs longer than this reports its fuel, this often. */
#define PROGRESS_US 250000

/* Events taken from one poll inside a guest's run. */
#define EVENTS_PER_CHECK 16

/* Modules whose verdict is remembered. */
#define VERDICTS_MAX 64u

/* Room for an error's text, its end included. */
#define TEXT_BYTES_MAX VELUM_TEXT_BYTES_MAX

#define VERDICT_TEXT_BYTES_MAX 160

#if VELUM_WORKER_QUEUE_MAX > 256
#error "VELUM_WORKER_QUEUE_MAX does not fit the indexes of slots"
#endif

#define ERROR_FRAME_BYTES_MAX (VELUM_HEADER_BYTES + 16u + VELUM_TEXT_BYTES_MAX)

typedef struct {
    velum_handle link;
    uint64_t correlation;
    bool held;                       /* its module is here, and pinned for it */
    velum_task task;                 /* but for its name's data, which is `name` */
    char name[VELUM_NAME_BYTES_MAX]; /* not terminated */
    int64_t deadline_us;             /* counted from its arrival; 0: none */
} slot;

typedef struct {
    uint8_t hash[VELUM_HASH_BYTES];
    bool known;
    int error;
    char text[VERDICT_TEXT_BYTES_MAX]; /* of an error */
} verdict;

struct velum_worker {
    velum_hub *hub;
    velum_worker_config config;
    velum_health health;
    slot slots[VELUM_WORKER_QUEUE_MAX];
    uint8_t order[VELUM_WORKER_QUEUE_MAX]; /* indexes of slots: `count` waiting ones, then free */
    uint16_t count;
    verdict verdicts[VERDICTS_MAX];
    size_t verdict_next;
    slot current; /* the task that runs, while `running` */
    bool running;
    velum_vm *vm;
    int stop;    /* negative: what the running task's check shall end it with */
    bool silent; /* its link is gone: nobody to answer */
    int64_t polled_us, progress_us;
};

/* ---- answers ---- */

static void forget_link(velum_worker *w, velum_handle link);

/* The other side does not take its answers: without the link it knows that they will not come. */
static void give_up_link(velum_worker *w, velum_handle link) {
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

static void send_frame(velum_worker *w, velum_handle link, const uint8_t *frame, int n) {
    if (n > 0 && velum_hub_send(w->hub, link, frame, (size_t)n) == VELUM_E_FULL) {
        give_up_link(w, link);
    }
}

static void answer_error(velum_worker *w, velum_handle link, uint64_t correlation, int error,
                         const char *text) {
    uint8_t frame[ERROR_FRAME_BYTES_MAX];
    velum_error message = {.code = (uint16_t)-error, .node = w->config.node, .deaths = 0};
    message.text = (velum_text){text, (uint16_t)strlen(text)};
    send_frame(w, link, frame, velum_wire_put_error(frame, sizeof frame, correlation, &message));
}

static void answer_result(velum_worker *w, const slot *s, int64_t run_us, const velum_value *value,
                          size_t nvalues) {
    uint8_t frame[VELUM_HEADER_BYTES + 64u];
    velum_result message = {.node = w->config.node, .health = w->health};
    message.run_us = run_us < (int64_t)UINT32_MAX ? (uint32_t)run_us : UINT32_MAX;
    message.health.queue = velum_worker_queue(w);
    message.health.running = 0;
    message.nvalues = (uint8_t)nvalues;
    if (nvalues > 0) message.values[0] = *value;
    send_frame(w, s->link, frame,
               velum_wire_put_result(frame, sizeof frame, s->correlation, &message));
}

static void send_progress(velum_worker *w) {
    uint8_t frame[VELUM_HEADER_BYTES + 16u];
    velum_progress message = {velum_vm_fuel_used(w->vm), 0};
    const slot *s = &w->current;
    int n = velum_wire_put_progress(frame, sizeof frame, s->correlation, &message);
    if (n > 0) (void)velum_hub_send(w->hub, s->link, frame, (size_t)n); /* one less does no harm */
}

/* ---- the queue ---- */

/* Takes the waiting task at `place` out of the queue. Its slot keeps its contents only until the
 * next task is queued. */
static slot *take_out(velum_worker *w, uint16_t place) {
    uint8_t index = w->order[place];
    w->count--;
    memmove(&w->order[place], &w->order[place + 1], w->count - place);
    w->order[w->count] = index;
    return &w->slots[index];
}

static void release(velum_worker *w, slot *s) {
    if (s->held) velum_modules_unpin(velum_hub_modules(w->hub), s->task.hash);
    s->held = false;
}

/* Takes a waiting task out and answers it with an error. */
static void refuse(velum_worker *w, uint16_t place, int error) {
    slot *s = take_out(w, place);
    release(w, s);
    answer_error(w, s->link, s->correlation, error, velum_strerror(error));
}

static void on_task(velum_worker *w, velum_handle link, const velum_frame *frame) {
    velum_task task;
    uint64_t correlation = frame->header.correlation;
    int err = velum_wire_get_task(frame->payload, frame->header.length, &task);

    if (err >= 0 && (task.flags & VELUM_TASK_PLACED) == 0) err = VELUM_E_UNEXPECTED;
    if (err >= 0 && w->count == VELUM_WORKER_QUEUE_MAX) err = VELUM_E_BUSY;
    if (err < 0) {
        answer_error(w, link, correlation, err, velum_strerror(err));
        return;
    }
    uint16_t place = w->count++;
    slot *s = &w->slots[w->order[place]];
    s->link = link;
    s->correlation = correlation;
    s->task = task;
    s->deadline_us = 0;
    if (task.timeout_ms > 0) {
        s->deadline_us = velum_port_now_us() + (int64_t)task.timeout_ms * 1000;
    }
    if (task.name.size > 0) memcpy(s->name, task.name.data, task.name.size);
    s->held = velum_modules_pin(velum_hub_modules(w->hub), task.hash) == VELUM_OK;
    if (s->held) return;
    err = velum_hub_fetch(w->hub, link, task.hash);
    if (err != VELUM_OK) refuse(w, place, err == VELUM_E_FULL ? VELUM_E_BUSY : err);
}

static void on_cancel(velum_worker *w, velum_handle link, const velum_frame *frame) {
    uint16_t code;
    if (velum_wire_get_cancel(frame->payload, frame->header.length, &code) < 0) return;
    int error = code == -VELUM_E_DEADLINE ? VELUM_E_DEADLINE : VELUM_E_CANCELLED;

    if (w->running && w->current.link == link &&
        w->current.correlation == frame->header.correlation) {
        w->stop = error;
        return;
    }
    for (uint16_t place = 0; place < w->count; place++) {
        const slot *s = &w->slots[w->order[place]];
        if (s->link == link && s->correlation == frame->header.correlation) {
            refuse(w, place, error);
            return;
        }
    }
}

/* A fetch has ended: its tasks are ready, or fail, or ask elsewhere. */
static void on_module(velum_worker *w, velum_handle from, const uint8_t *hash, int error) {
    for (uint16_t place = 0; place < w->count;) {
        slot *s = &w->slots[w->order[place]];
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

void velum_worker_event(velum_worker *w, const velum_event *event) {
    if (event->kind == VELUM_EV_FRAME && event->u.frame.header.type == VELUM_F_TASK) {
        on_task(w, event->link, &event->u.frame);
        return;
    }
    if (event->kind == VELUM_EV_FRAME && event->u.frame.header.type == VELUM_F_CANCEL) {
        on_cancel(w, event->link, &event->u.frame);
        return;
    }
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

/* Appends to a text that has room for TEXT_BYTES_MAX bytes. */
static void append(char *text, const char *more) {
    size_t used = strlen(text);
    (void)snprintf(text + used, TEXT_BYTES_MAX - used, "%s", more);
}

/* "sum takes (i32, i32, i32), given (i64)". */
static void describe_signature(const slot *s, const velum_signature *takes, char *text) {
    (void)snprintf(text, TEXT_BYTES_MAX, "%.*s takes (", (int)s->task.name.size, s->name);
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
    (void)snprintf(text, VERDICT_TEXT_BYTES_MAX, "%s: %s at byte %lu%s", velum_strerror(error),
                   why->text, (unsigned long)why->offset, function);
}

/* How a call ended: what, where, and the figure or the engine's words that go with it. */
static void describe_call(const velum_worker *w, int error, char *text) {
    const slot *s = &w->current;
    const char *what = velum_strerror(error), *detail = velum_vm_detail(w->vm);
    int size = (int)s->task.name.size;

    if (error == VELUM_E_NO_EXPORT) {
        (void)snprintf(text, TEXT_BYTES_MAX, "%s: %.*s", what, size, s->name);
    } else if (error == VELUM_E_DEADLINE && s->task.timeout_ms > 0) {
        (void)snprintf(text, TEXT_BYTES_MAX, "%s of %lu ms in %.*s", what,
                       (unsigned long)s->task.timeout_ms, size, s->name);
    } else {
        (void)snprintf(text, TEXT_BYTES_MAX, "%s in %.*s", what, size, s->name);
        if (strcmp(what, detail) != 0) {
            append(text, ": ");
            append(text, detail);
        }
    }
}

/* ---- running ---- */

/* The guest's check: serves the hub, and says whether the guest may go on. */
static int on_check(void *user) {
    velum_worker *w = user;
    int64_t now = velum_port_now_us();

    if (now - w->polled_us >= POLL_US) {
        velum_event events[EVENTS_PER_CHECK];
        int n = velum_hub_poll(w->hub, 0, events, EVENTS_PER_CHECK);
        for (int i = 0; i < n; i++) {
            velum_worker_event(w, &events[i]);
        }
        now = velum_port_now_us();
        w->polled_us = now;
    }
    if (w->stop != VELUM_OK) return w->stop;
    if (w->current.deadline_us != 0 && now >= w->current.deadline_us) return VELUM_E_DEADLINE;
    if (now - w->progress_us >= PROGRESS_US) {
        send_progress(w);
        w->progress_us = now;
    }
    return VELUM_OK;
}

static verdict *find_verdict(velum_worker *w, const uint8_t *hash) {
    for (size_t i = 0; i < VERDICTS_MAX; i++) {
        verdict *v = &w->verdicts[i];
        if (v->known && memcmp(v->hash, hash, VELUM_HASH_BYTES) == 0) return v;
    }
    return NULL;
}

/* What the module is known to be; validates it if nothing is known. */
static verdict *judge(velum_worker *w, const uint8_t *hash, const uint8_t *module, size_t n) {
    verdict *v = find_verdict(w, hash);
    if (v != NULL) return v;
    v = &w->verdicts[w->verdict_next];
    w->verdict_next = (w->verdict_next + 1) % VERDICTS_MAX;

    velum_diagnosis why;
    v->error = velum_validate(module, n, &why);
    if (v->error != VELUM_OK) describe_diagnosis(v->error, &why, v->text);
    memcpy(v->hash, hash, VELUM_HASH_BYTES);
    v->known = v->error != VELUM_E_NOMEM; /* that may pass */
    return v;
}

/* Opens the guest and calls it; an error is told in `text`, which has TEXT_BYTES_MAX bytes. */
static int call_guest(velum_worker *w, verdict *v, const uint8_t *module, size_t n,
                      velum_value *value, size_t *nvalues, char *text) {
    const slot *s = &w->current;
    uint32_t pages = w->config.pages_max;
    if (s->task.pages != 0 && (pages == 0 || s->task.pages < pages)) pages = s->task.pages;
    velum_vm_limits limits = {pages, s->task.fuel, on_check, w};

    int err = velum_vm_open(&w->vm, module, n, &limits);
    if (err != VELUM_OK) {
        (void)snprintf(text, TEXT_BYTES_MAX, "%s: %s", velum_strerror(err),
                       w->vm != NULL ? velum_vm_detail(w->vm) : "the guest could not be started");
        if (err == VELUM_E_MODULE_COMPILE) {
            v->error = err;
            (void)snprintf(v->text, sizeof v->text, "%.*s", (int)sizeof v->text - 1, text);
        }
        return err;
    }
    err = velum_vm_call(w->vm, s->name, s->task.name.size, s->task.args, s->task.nargs, value,
                        nvalues);
    if (err == VELUM_OK) return err;
    velum_signature takes;
    if (err == VELUM_E_SIGNATURE &&
        velum_module_export(module, n, s->name, s->task.name.size, &takes) == VELUM_OK) {
        describe_signature(s, &takes, text);
    } else {
        describe_call(w, err, text);
    }
    return err;
}

/* Runs the current task and answers it. */
static void run_current(velum_worker *w) {
    slot *s = &w->current;
    size_t n, nvalues = 0;
    velum_value value = {VELUM_I32, 0};
    char text[TEXT_BYTES_MAX];
    int64_t begun_us = velum_port_now_us();

    w->stop = VELUM_OK;
    w->silent = false;
    w->polled_us = w->progress_us = begun_us;

    if (s->deadline_us != 0 && begun_us >= s->deadline_us) {
        (void)snprintf(text, sizeof text, "%s: it waited too long for its turn",
                       velum_strerror(VELUM_E_DEADLINE));
        answer_error(w, s->link, s->correlation, VELUM_E_DEADLINE, text);
        return;
    }
    const uint8_t *module = velum_modules_get(velum_hub_modules(w->hub), s->task.hash, &n);
    verdict *v = judge(w, s->task.hash, module, n);
    if (v->error != VELUM_OK) {
        answer_error(w, s->link, s->correlation, v->error, v->text);
        return;
    }
    int64_t called_us = velum_port_now_us();
    int err = call_guest(w, v, module, n, &value, &nvalues, text);
    int64_t run_us = velum_port_now_us() - called_us;
    velum_vm_close(w->vm);
    w->vm = NULL;
    if (w->silent) return;
    if (err == VELUM_OK) {
        answer_result(w, s, run_us, &value, nvalues);
    } else {
        answer_error(w, s->link, s->correlation, err, text);
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

bool velum_worker_run(velum_worker *w) {
    uint16_t place = first_ready(w);
    if (place == w->count || w->running) return false;
    w->current = *take_out(w, place);
    w->running = true;
    run_current(w);
    w->running = false;
    release(w, &w->current);
    return true;
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
