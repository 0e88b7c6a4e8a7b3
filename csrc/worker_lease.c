/* worker_lease.c: the slices of a lease, and what is reported of them.
 *
 * Owns: one call of the guest for every slice, in order; when the guest is put back in between; and
 * the reports. Refuses to know: how a lease waits and gets its module (worker.c), what becomes of
 * the values (docs/scatter.md).
 *
 *   a slice returns    its value waits for the next report
 *   a slice fails      a trap, its fuel, its time: so does its error; the guest is put back
 *   SLICES             when VELUM_REPORT_MS have passed, when a report is full, after every slice
 *                      of a careful lease; and at the end, with LAST
 *   TRIM               the lease ends earlier; the slice that runs is finished all the same
 *   CANCEL             SLICES of what waits, then ERROR
 *   CLOSED             nothing more
 *   other errors       no such export, another signature, no result, a guest that cannot be opened:
 *                      SLICES of what waits, then ERROR: they are not one slice's
 *
 * All slices run in one guest. Those of a module without state find it as it was; before every
 * other slice, and after a failure, it is reset. The clock is read once a slice; when
 * VELUM__POLL_US have passed the hub is polled, be it between two of a thousand short slices or in
 * the middle of a long one, from the guest's check. What the worker does itself, compiling and
 * sending, counts neither as time of the guest nor against the slice's timeout.
 */
#include "worker_internal.h"

#include <stdio.h>
#include <string.h>

#include "slices.h"

#define REPORT_US ((int64_t)VELUM_REPORT_MS * 1000)

/* A report waits until no more than this is queued before it; then there is room for it. */
#define QUEUED_BYTES_MAX (VELUM_SEND_QUEUE_BYTES / 4)

/* How long the other side may take nothing: as long as the hub lets a link be silent. */
#define PATIENCE_US ((int64_t)VELUM_IDLE_MS * 2000)

#define EMPTY_FRAME_BYTES_MAX (VELUM_HEADER_BYTES + 32u)

/* ---- reports ---- */

/* Adds to the guest's time what has passed since it was last counted. Now. */
static int64_t count_busy(velum_worker *w) {
    velum__report *r = &w->report;
    int64_t now = velum_port_now_us();
    r->busy_us += (uint64_t)(now - r->counted_us);
    r->counted_us = now;
    return now;
}

static bool has_news(const velum__report *r) {
    return r->values.nruns > 0 || r->failures.nfailed > 0;
}

/* Polls until at most so many bytes wait for the socket. */
static void drain(velum_worker *w, size_t unsent_max) {
    velum_handle link = w->current.link;
    int64_t until_us = 0;
    while (!w->silent && velum_hub_unsent(w->hub, link) > unsent_max) {
        if (until_us == 0) until_us = velum_port_now_us() + PATIENCE_US;
        velum__worker_poll(w, VELUM__POLL_US);
        if (w->polled_us >= until_us) velum__worker_give_up(w, link);
    }
}

/* Sends what a writer holds, and begins it again. */
static void send_slices(velum_worker *w, velum_slices_writer *writer, uint8_t flags) {
    const velum__slot *s = &w->current;
    velum__report *r = &w->report;
    uint32_t busy_us = r->busy_us < UINT32_MAX ? (uint32_t)r->busy_us : UINT32_MAX;

    r->busy_us = 0;
    drain(w, QUEUED_BYTES_MAX);
    if (!w->silent) {
        velum__worker_send(w, s->link, writer->buf,
                           velum_wire_slices_end(writer, s->correlation, flags, busy_us));
    }
    (void)velum_wire_slices_begin(writer, writer->buf, writer->cap, s->job);
}

/* Reports all that waits; with LAST in any case. Now. */
static int64_t report(velum_worker *w, uint8_t flags) {
    velum__report *r = &w->report;
    if (r->failures.nfailed > 0) send_slices(w, &r->failures, 0);
    if (r->values.nruns > 0 || flags != 0) send_slices(w, &r->values, flags);
    velum_hub_flush(w->hub);
    if ((w->current.task.flags & VELUM_LEASE_CAREFUL) != 0) drain(w, 0);
    r->reported_us = r->counted_us = velum_port_now_us();
    return r->reported_us;
}

static void note_value(velum_worker *w, uint32_t slice, uint64_t bits) {
    velum_slices_writer *values = &w->report.values;
    if (velum_wire_slices_add(values, slice, bits) != VELUM_E_FULL) return;
    (void)report(w, 0);
    (void)velum_wire_slices_add(values, slice, bits);
}

static void note_failure(velum_worker *w, uint32_t slice, int error, const char *text) {
    velum_slices_writer *failures = &w->report.failures;
    velum_text why = {text, (uint16_t)strlen(text)};
    if (velum_wire_slices_fail(failures, slice, (uint16_t)-error, why) != VELUM_E_FULL) return;
    (void)report(w, 0);
    (void)velum_wire_slices_fail(failures, slice, (uint16_t)-error, why);
}

static void begin_reports(velum_worker *w) {
    velum__report *r = &w->report;
    uint64_t job = w->current.job;
    (void)velum_wire_slices_begin(&r->values, r->value_bytes, sizeof r->value_bytes, job);
    (void)velum_wire_slices_begin(&r->failures, r->failure_bytes, sizeof r->failure_bytes, job);
    r->busy_us = 0;
    r->reported_us = r->counted_us = velum_port_now_us();
}

void velum__lease_decline(velum_worker *w, const velum__slot *s) {
    uint8_t frame[EMPTY_FRAME_BYTES_MAX];
    velum_slices_writer writer;
    (void)velum_wire_slices_begin(&writer, frame, sizeof frame, s->job);
    velum__worker_send(w, s->link, frame,
                       velum_wire_slices_end(&writer, s->correlation, VELUM_SLICES_LAST, 0));
}

/* ---- slices ---- */

int velum__lease_check(velum_worker *w) {
    velum__slot *s = &w->current;
    velum__report *r = &w->report;
    int64_t begun_us = count_busy(w);
    int64_t now = velum__worker_serve(w, begun_us);

    if (w->stop == VELUM_OK && has_news(r) && now - r->reported_us >= REPORT_US) {
        now = report(w, 0);
    }
    r->counted_us = now;
    if (w->stop != VELUM_OK) return w->stop;
    if (s->deadline_us == 0) return VELUM_OK;
    s->deadline_us += now - begun_us;
    return now < s->deadline_us ? VELUM_OK : VELUM_E_DEADLINE;
}

/* A guest as fresh as the next slice needs it, with its fuel. */
static int ready_guest(velum_worker *w, velum__verdict *v, const uint8_t *module, size_t n,
                       char *text) {
    velum__guest *guest = &w->guest;
    if (guest->vm != NULL && guest->spoilt && velum_vm_reset(guest->vm) != VELUM_OK) {
        velum__guest_close(w); /* out of memory: a new one may find it */
    }
    if (guest->vm == NULL) {
        int err = velum__guest_open(w, v, module, n, text);
        if (err != VELUM_OK) return err;
        w->report.counted_us = velum_port_now_us();
    }
    velum_vm_fuel(guest->vm, w->current.task.fuel);
    return VELUM_OK;
}

static int stopped(const velum_worker *w, char *text) {
    (void)snprintf(text, VELUM__TEXT_BYTES, "%s", velum_strerror(w->stop));
    return w->stop;
}

/* Calls the guest for one slice, whose bounds are its arguments, and notes how that ended. 0, or
 * what ends the lease. */
static int run_slice(velum_worker *w, const velum__verdict *v, const uint8_t *module, size_t n,
                     char *text) {
    velum__slot *s = &w->current;
    velum_value value;
    size_t nvalues;

    s->deadline_us = 0;
    if (s->task.timeout_ms > 0) {
        s->deadline_us = w->report.counted_us + (int64_t)s->task.timeout_ms * 1000;
    }
    w->guest.spoilt = true;
    int err = velum_vm_call(w->guest.vm, s->name, s->task.name.size, s->task.args, s->task.nargs,
                            &value, &nvalues);
    (void)count_busy(w);
    if (err == VELUM_OK && nvalues == 0) {
        (void)snprintf(text, VELUM__TEXT_BYTES, "%.*s returns no value", (int)s->task.name.size,
                       s->name);
        return VELUM_E_SIGNATURE;
    }
    if (err == VELUM_OK) {
        w->guest.spoilt = v->has_state;
        note_value(w, s->next, value.bits);
        return VELUM_OK;
    }
    if (w->stop != VELUM_OK) return stopped(w, text);
    velum__guest_describe(w, module, n, err, text);
    if (err == VELUM_E_NO_EXPORT || err == VELUM_E_SIGNATURE) return err;
    note_failure(w, s->next, err, text);
    return VELUM_OK;
}

/* 0, or what ends the lease before its end, told in `text`. */
static int run_slices(velum_worker *w, velum__verdict *v, const uint8_t *module, size_t n,
                      char *text) {
    velum__slot *s = &w->current;
    velum__report *r = &w->report;
    const velum_value start = s->task.args[0], end = s->task.args[1]; /* of the job */
    bool careful = (s->task.flags & VELUM_LEASE_CAREFUL) != 0;

    while (s->next < s->end) {
        int err = ready_guest(w, v, module, n, text);
        if (err != VELUM_OK) return err;
        velum_slice_bounds(start, end, s->slices, s->next, &s->task.args[0], &s->task.args[1]);
        err = run_slice(w, v, module, n, text);
        if (err != VELUM_OK) return err;
        s->next++;
        int64_t now = r->counted_us;
        if (careful || now - r->reported_us >= REPORT_US) now = report(w, 0);
        r->counted_us = velum__worker_serve(w, now);
        if (w->stop != VELUM_OK) return stopped(w, text);
    }
    return VELUM_OK;
}

void velum__lease_run(velum_worker *w, velum__verdict *v, const uint8_t *module, size_t n) {
    const velum__slot *s = &w->current;
    char text[VELUM__TEXT_BYTES];

    if (!v->state_known) {
        v->has_state = velum_module_has_state(module, n);
        v->state_known = true;
    }
    begin_reports(w);
    int err = run_slices(w, v, module, n, text);
    if (!w->silent) (void)report(w, err == VELUM_OK ? VELUM_SLICES_LAST : 0);
    if (err == VELUM_OK || w->silent) return;
    drain(w, QUEUED_BYTES_MAX);
    if (!w->silent) velum__worker_error(w, s->link, s->correlation, err, text);
}
