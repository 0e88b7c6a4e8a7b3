/* client_jobs.c: a program's scatters: one call that becomes a job of the mesh.
 *
 * Owns: the spec of a job that this program submits, with the random id that makes submitting it
 * twice the same as once; and what its records say. Refuses to know: tickets and links
 * (client_tasks.c), and what the mesh does with the job (docs/scatter.md).
 * How: everything that can be wrong with the call is found here, before anything is sent. Then
 * SCATTER is an errand's frame like any other. The full node answers with JOB as the job goes on,
 * and the one that says that it has ended is the errand's answer. After the loss of a link the same
 * frame goes to another node, which finds the job by its id.
 */
#include "client_internal.h"

#include <string.h>

#include "validate.h"

#define PRIORITY_DEFAULT 10u
#define SLICES_DEFAULT   4096u

/* ---- the spec ---- */

/* Puts in the range, and how many slices it has, for a function that takes (from, to). */
static int put_range(velum_scatter *spec, const velum_signature *takes, int64_t start, int64_t end,
                     uint32_t wanted) {
    uint64_t length = (uint64_t)end - (uint64_t)start;
    uint8_t type = takes->params[0];
    if (takes->nparams != 2 || takes->nresults != 1) return VELUM_E_SIGNATURE;
    if (takes->params[1] != type) return VELUM_E_SIGNATURE;
    if (type != VELUM_I32 && type != VELUM_I64) return VELUM_E_SIGNATURE;
    if (start > end) return VELUM_E_ARGUMENT;
    if (type == VELUM_I32 && (start < INT32_MIN || end > INT32_MAX)) return VELUM_E_SIGNATURE;
    spec->nargs = 2;
    spec->args[0] = type == VELUM_I32 ? velum_i32((int32_t)start) : velum_i64(start);
    spec->args[1] = type == VELUM_I32 ? velum_i32((int32_t)end) : velum_i64(end);
    if (wanted == 0) wanted = SLICES_DEFAULT;
    spec->slices = length < wanted ? (uint32_t)length : wanted;
    spec->result = takes->result;
    return 0;
}

/* Puts in the program's wishes; what is out of its range velum_wire_put_scatter finds. */
static int put_options(velum_scatter *spec, const velum_scatter_options *options) {
    const char *label = options->label != NULL ? options->label : "";
    spec->reduce = options->reduce != 0 ? options->reduce : (uint8_t)VELUM_REDUCE_SUM;
    if (spec->reduce == VELUM_REDUCE_ALL || spec->reduce == VELUM_REDUCE_COLLECT) {
        return VELUM_E_ARGUMENT;
    }
    if (spec->reduce == VELUM_REDUCE_FIRST) {
        if (options->missing.type != spec->result) return VELUM_E_ARGUMENT;
        spec->missing = options->missing.bits;
    }
    if (strlen(label) > VELUM_NAME_BYTES_MAX) return VELUM_E_ARGUMENT;
    spec->label = (velum_text){label, (uint16_t)strlen(label)};
    if (options->keep_going) spec->flags |= VELUM_JOB_KEEP_GOING;
    if (options->wrap) spec->flags |= VELUM_JOB_WRAP;
    spec->priority = options->priority != 0 ? options->priority : (uint8_t)PRIORITY_DEFAULT;
    spec->timeout_ms = options->timeout_ms;
    spec->limit_ms = options->limit_ms;
    spec->fuel = options->fuel;
    spec->pages = options->pages;
    return 0;
}

/* Draws the id, 1..2^63-1. */
static int put_id(velum_scatter *spec) {
    int err = velum_port_random(&spec->job, sizeof spec->job);
    spec->job &= (uint64_t)INT64_MAX;
    if (spec->job == 0) spec->job = 1;
    spec->created_ms = velum_port_unix_ms();
    return err;
}

int velum_spawn_wasm_distributed(velum *v, const void *module, size_t size, const char *function,
                                 int64_t start, int64_t end, const velum_scatter_options *options,
                                 velum_ticket *out) {
    static const velum_scatter_options ordinary;
    uint8_t frame[VELUM__FRAME_BYTES];
    velum_scatter spec;
    velum_signature takes;
    velum__errand *errand;
    int err;
    if (module == NULL || function == NULL) return VELUM_E_ARGUMENT;
    if (strlen(function) > VELUM_NAME_BYTES_MAX) return VELUM_E_ARGUMENT;
    if (size > VELUM_MODULE_BYTES_MAX) return VELUM_E_TOO_LARGE;
    if (options == NULL) options = &ordinary;
    errand = velum__errand_new(v, options->limit_ms, &err);
    if (errand == NULL) return err;
    memset(&spec, 0, sizeof spec);
    err = velum__errand_keep_module(v, errand, module, size);
    if (err == 0) err = velum_module_export(module, size, function, strlen(function), &takes);
    if (err == 0) err = put_range(&spec, &takes, start, end, options->slices);
    if (err == 0) err = put_options(&spec, options);
    if (err == 0) err = put_id(&spec);
    if (err != 0) return velum__errand_launch(v, errand, NULL, err, out);
    memcpy(spec.hash, errand->hash, VELUM_HASH_BYTES);
    spec.name = (velum_text){function, (uint16_t)strlen(function)};
    errand->job = spec.job;
    errand->progress.slices = spec.slices;
    err = velum_wire_put_scatter(frame, sizeof frame, velum__errand_ticket(v, errand), &spec);
    return velum__errand_launch(v, errand, frame, err, out);
}

/* ---- what becomes of it ---- */

void velum__job_record(velum *v, velum__errand *errand, const velum_frame *frame) {
    velum_job record;
    if (velum_wire_get_job(frame->payload, frame->header.length, &record) < 0 ||
        record.job != errand->job) {
        velum__errand_finish(v, errand, VELUM_E_PAYLOAD, 0, (velum_text){NULL, 0});
        return;
    }
    errand->losses = 0;
    errand->progress = (velum_job_progress){.slices = record.slices,
                                            .done = record.done,
                                            .failed = record.failed,
                                            .elapsed_ms = record.elapsed_ms,
                                            .state = record.state,
                                            .nodes = record.nshares};
    if (record.state == VELUM_JOB_RUNNING) return;
    errand->outcome.run_us =
        record.elapsed_ms < UINT32_MAX / 1000u ? (uint32_t)record.elapsed_ms * 1000u : UINT32_MAX;
    errand->outcome.nvalues = record.nanswers;
    if (record.nanswers > 0) errand->outcome.value = record.answer;
    velum__errand_finish(v, errand, -(int)record.code, record.coordinator, record.text);
}

int velum__job_put_cancel(uint8_t *buf, size_t cap, uint64_t ticket, uint64_t job) {
    const velum_job_ask ask = {.job = job, .ask = VELUM_ASK_CANCEL};
    return velum_wire_put_job_ask(buf, cap, ticket, &ask);
}

int velum_get_progress(velum *v, velum_ticket ticket, velum_job_progress *out) {
    const velum__errand *errand = velum__errand_find(v, ticket);
    if (errand == NULL || errand->job == 0) return VELUM_E_ARGUMENT;
    *out = errand->progress;
    return 0;
}
