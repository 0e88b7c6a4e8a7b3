/* wire_job.c: what is said of scatters: jobs, leases, finished slices, records.
 *
 * Owns: their layout (wire.h) as code. Refuses to know: who grants what to whom, how values become
 * an answer (docs/scatter.md).
 * How: as wire.c. SLICES alone has a length that is not known before: its writer appends step by
 * step and counts in the frame itself, so that after each step only the header is missing, and a
 * step for which there is no room changes nothing. Its reader checks the whole payload once; what
 * walks it afterwards checks nothing.
 */
#include "slices.h"
#include "wire_parts.h"

/* What stands before the first text or list of a message. */
#define SCATTER_FIXED 84u
#define SLICES_FIXED  15u
#define JOB_FIXED     55u
/* What stands behind the task of a LEASE, before the values of a run, before a failure's text. */
#define LEASE_TAIL  21u
#define RUN_FIXED   8u
#define FAIL_FIXED  6u
#define ASK_BYTES   10u
#define VALUE_BYTES 8u
#define TEXT8_MAX   255u

/* Where the count of runs is in a frame of SLICES, and what an empty one takes. */
#define NRUNS_AT           (VELUM_HEADER_BYTES + SLICES_FIXED - 2u)
#define SLICES_EMPTY_BYTES (VELUM_HEADER_BYTES + SLICES_FIXED + 2u)

#define LEASE_FLAGS (VELUM_TASK_PLACED | VELUM_LEASE_CAREFUL)

/* A port may have changed limits: they must still fit each other. */
VELUM__STATIC_CHECK(scatter_fits,
                    SCATTER_FIXED + 2u * (1u + VELUM_NAME_BYTES_MAX) + VELUM__LIST_BYTES_MAX <=
                        1024u);
VELUM__STATIC_CHECK(job_fits, JOB_FIXED + 2u + VELUM_TEXT_BYTES_MAX + 10u + 1u +
                                      2u * VELUM_HOLDERS_MAX + 2u +
                                      UINT16_MAX * VELUM_SHARE_BYTES <=
                                  VELUM_FRAME_BYTES_MAX);
VELUM__STATIC_CHECK(runs_are_16_bits,
                    VELUM_FRAME_BYTES_MAX / (RUN_FIXED + VALUE_BYTES) <= UINT16_MAX + 1u);

static bool id_ok(uint64_t job) {
    return job != 0 && job <= INT64_MAX;
}

static bool priority_ok(uint8_t priority) {
    return priority != 0 && priority <= VELUM_PRIORITY_MAX;
}

/* The arguments begin with a range, and it has as many numbers as slices or more. */
static bool range_ok(const velum_value *args, uint8_t nargs, uint32_t slices) {
    uint64_t length;
    if (nargs < 2 || !velum_range_length(args[0], args[1], &length)) return false;
    return slices <= VELUM_SLICES_MAX && slices <= length && (slices > 0 || length == 0);
}

/* ---- SCATTER ---- */

/* Bits are combined of integers only; an empty range has no least and no greatest value. */
static bool reduce_ok(const velum_scatter *m) {
    if (m->reduce < VELUM_REDUCE_SUM || m->reduce > VELUM_REDUCE_COLLECT) return false;
    if (m->reduce >= VELUM_REDUCE_AND && m->reduce <= VELUM_REDUCE_XOR)
        return m->result == VELUM_I32 || m->result == VELUM_I64;
    return (m->reduce != VELUM_REDUCE_MIN && m->reduce != VELUM_REDUCE_MAX) || m->slices > 0;
}

static bool scatter_ok(const velum_scatter *m) {
    velum_value missing = {m->result, m->missing};
    return id_ok(m->job) && (m->flags & ~VELUM_JOB_FLAGS) == 0 && reduce_ok(m) &&
           priority_ok(m->priority) && velum__value_ok(missing) &&
           velum__text_ok(m->name, VELUM_NAME_BYTES_MAX) &&
           velum__text_ok(m->label, VELUM_NAME_BYTES_MAX) && range_ok(m->args, m->nargs, m->slices);
}

int velum_wire_put_scatter(uint8_t *buf, size_t cap, uint64_t correlation, const velum_scatter *m) {
    size_t args = velum__values_size(m->args, m->nargs);
    size_t length = SCATTER_FIXED + 1 + m->name.size + 1 + m->label.size + args;
    uint8_t *p;
    if (args == 0 || !scatter_ok(m)) return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, VELUM_F_SCATTER, length, correlation);
    if (p == NULL) return VELUM_E_FULL;
    p = velum__put64(p, m->job);
    p = velum__put8(p, m->flags);
    p = velum__put8(p, m->reduce);
    p = velum__put8(p, m->priority);
    p = velum__put8(p, m->result);
    p = velum__put32(p, m->slices);
    p = velum__put32(p, m->timeout_ms);
    p = velum__put32(p, m->limit_ms);
    p = velum__put64(p, m->fuel);
    p = velum__put32(p, m->pages);
    p = velum__put64(p, m->missing);
    p = velum__put64(p, m->created_ms);
    p = velum__put_bytes(p, m->hash, VELUM_HASH_BYTES);
    p = velum__put_text8(velum__put_text8(p, m->name), m->label);
    velum__put_values(p, m->args, m->nargs);
    return velum__whole(length);
}

int velum_wire_get_scatter(const uint8_t *p, size_t n, velum_scatter *m) {
    velum__reader r = {p, n};
    const uint8_t *f = velum__take(&r, SCATTER_FIXED);
    if (f == NULL) return VELUM_E_PAYLOAD;
    m->job = velum__get64(f);
    m->flags = f[8];
    m->reduce = f[9];
    m->priority = f[10];
    m->result = f[11];
    m->slices = velum__get32(f + 12);
    m->timeout_ms = velum__get32(f + 16);
    m->limit_ms = velum__get32(f + 20);
    m->fuel = velum__get64(f + 24);
    m->pages = velum__get32(f + 32);
    m->missing = velum__get64(f + 36);
    m->created_ms = velum__get64(f + 44);
    memcpy(m->hash, f + 52, VELUM_HASH_BYTES);
    if (!velum__get_text8(&r, &m->name) || !velum__get_text8(&r, &m->label)) return VELUM_E_PAYLOAD;
    if (!velum__get_values(&r, m->args, VELUM_ARGS_MAX, &m->nargs)) return VELUM_E_PAYLOAD;
    return r.left == 0 && scatter_ok(m) ? (int)n : VELUM_E_PAYLOAD;
}

/* ---- LEASE, TRIM ---- */

static bool lease_ok(const velum_lease *m) {
    return (m->task.flags & VELUM_TASK_PLACED) != 0 && id_ok(m->job) && priority_ok(m->priority) &&
           range_ok(m->task.args, m->task.nargs, m->slices) && m->first < m->slices &&
           m->count > 0 && m->count <= m->slices - m->first;
}

int velum_wire_put_lease(uint8_t *buf, size_t cap, uint64_t correlation, const velum_lease *m) {
    size_t task = velum__wire_task_size(&m->task, LEASE_FLAGS);
    uint8_t *p;
    if (task == 0 || !lease_ok(m)) return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, VELUM_F_LEASE, task + LEASE_TAIL, correlation);
    if (p == NULL) return VELUM_E_FULL;
    p = velum__wire_pack_task(p, &m->task);
    p = velum__put64(p, m->job);
    p = velum__put32(p, m->slices);
    p = velum__put32(p, m->first);
    p = velum__put32(p, m->count);
    velum__put8(p, m->priority);
    return velum__whole(task + LEASE_TAIL);
}

int velum_wire_get_lease(const uint8_t *p, size_t n, velum_lease *m) {
    velum__reader r = {p, n};
    const uint8_t *f;
    if (!velum__wire_unpack_task(&r, &m->task, LEASE_FLAGS)) return VELUM_E_PAYLOAD;
    f = velum__take(&r, LEASE_TAIL);
    if (f == NULL || r.left != 0) return VELUM_E_PAYLOAD;
    m->job = velum__get64(f);
    m->slices = velum__get32(f + 8);
    m->first = velum__get32(f + 12);
    m->count = velum__get32(f + 16);
    m->priority = f[20];
    return lease_ok(m) ? (int)n : VELUM_E_PAYLOAD;
}

int velum_wire_put_trim(uint8_t *buf, size_t cap, uint64_t correlation, uint32_t end) {
    uint8_t *p;
    if (end > VELUM_SLICES_MAX) return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, VELUM_F_TRIM, 4, correlation);
    if (p == NULL) return VELUM_E_FULL;
    velum__put32(p, end);
    return velum__whole(4);
}

int velum_wire_get_trim(const uint8_t *p, size_t n, uint32_t *end) {
    if (n != 4) return VELUM_E_PAYLOAD;
    *end = velum__get32(p);
    return *end <= VELUM_SLICES_MAX ? (int)n : VELUM_E_PAYLOAD;
}

/* ---- SLICES, written ---- */

int velum_wire_slices_begin(velum_slices_writer *w, uint8_t *buf, size_t cap, uint64_t job) {
    uint8_t *p;
    if (!id_ok(job)) return VELUM_E_ARGUMENT;
    if (cap < SLICES_EMPTY_BYTES) return VELUM_E_FULL;
    memset(w, 0, sizeof *w);
    w->buf = buf;
    w->cap = cap;
    if (cap > VELUM_HEADER_BYTES + VELUM_FRAME_BYTES_MAX)
        w->cap = VELUM_HEADER_BYTES + VELUM_FRAME_BYTES_MAX;
    w->used = VELUM_HEADER_BYTES + SLICES_FIXED;
    p = velum__put64(buf + VELUM_HEADER_BYTES, job);
    velum__put16(velum__put32(velum__put8(p, 0), 0), 0); /* flags and busy_us come at the end */
    return VELUM_OK;
}

/* Whether so many bytes fit; until failures begin, their count has to fit behind them. */
static bool room_for(const velum_slices_writer *w, size_t bytes) {
    return w->cap - w->used >= bytes + (w->failed_at == 0 ? 2u : 0u);
}

int velum_wire_slices_add(velum_slices_writer *w, uint32_t slice, uint64_t value) {
    bool joins = w->run_at != 0 && slice == w->next;
    if (w->failed_at != 0 || slice < w->next || slice >= VELUM_SLICES_MAX) return VELUM_E_ARGUMENT;
    if (!room_for(w, (joins ? 0 : RUN_FIXED) + VALUE_BYTES)) return VELUM_E_FULL;
    if (!joins) {
        velum__put32(w->buf + w->used, slice);
        w->run_at = w->used + 4;
        w->run_count = 0;
        w->used += RUN_FIXED;
        velum__put16(w->buf + NRUNS_AT, ++w->nruns);
    }
    velum__put64(w->buf + w->used, value);
    w->used += VALUE_BYTES;
    velum__put32(w->buf + w->run_at, ++w->run_count);
    w->next = slice + 1;
    return VELUM_OK;
}

/* No longer than a text8 may be, and no character cut in two. */
static velum_text cut_text(velum_text text) {
    if (text.size <= TEXT8_MAX || text.data == NULL) return text;
    text.size = TEXT8_MAX;
    while (text.size > TEXT8_MAX - 3 && ((uint8_t)text.data[text.size] & 0xc0u) == 0x80u)
        text.size--;
    return text;
}

int velum_wire_slices_fail(velum_slices_writer *w, uint32_t slice, uint16_t code, velum_text text) {
    uint32_t least = w->failed_at == 0 ? 0 : w->next;
    uint8_t *p;
    text = cut_text(text);
    if (slice < least || slice >= VELUM_SLICES_MAX || code == 0) return VELUM_E_ARGUMENT;
    if (!velum__text_ok(text, TEXT8_MAX)) return VELUM_E_ARGUMENT;
    if (w->nfailed == UINT16_MAX) return VELUM_E_FULL;
    if (!room_for(w, FAIL_FIXED + 1u + text.size)) return VELUM_E_FULL;
    if (w->failed_at == 0) {
        w->failed_at = w->used;
        w->used += 2;
    }
    p = velum__put16(velum__put32(w->buf + w->used, slice), code);
    w->used = (size_t)(velum__put_text8(p, text) - w->buf);
    velum__put16(w->buf + w->failed_at, ++w->nfailed);
    w->next = slice + 1;
    return VELUM_OK;
}

int velum_wire_slices_end(velum_slices_writer *w, uint64_t correlation, uint8_t flags,
                          uint32_t busy_us) {
    size_t length = w->used - VELUM_HEADER_BYTES;
    if ((flags & ~VELUM_SLICES_LAST) != 0) return VELUM_E_ARGUMENT;
    if (w->failed_at == 0) {
        velum__put16(w->buf + w->used, 0);
        length += 2;
    }
    velum_wire_put_header(w->buf, VELUM_F_SLICES, (uint32_t)length, correlation);
    velum__put32(velum__put8(w->buf + VELUM_HEADER_BYTES + 8, flags), busy_us);
    return velum__whole(length);
}

/* ---- SLICES, read ---- */

/* So many runs, ascending, with a gap between any two. */
static bool runs_ok(velum__reader *r, uint16_t count) {
    uint32_t least = 0;
    for (uint16_t i = 0; i < count; i++) {
        const uint8_t *f = velum__take(r, RUN_FIXED);
        uint32_t first, values;
        if (f == NULL) return false;
        first = velum__get32(f);
        values = velum__get32(f + 4);
        if (first < least || first >= VELUM_SLICES_MAX) return false;
        if (values == 0 || values > VELUM_SLICES_MAX - first) return false;
        if (velum__take(r, (size_t)values * VALUE_BYTES) == NULL) return false;
        least = first + values + 1;
    }
    return true;
}

static bool failures_ok(velum__reader *r, uint16_t count) {
    uint32_t least = 0;
    for (uint16_t i = 0; i < count; i++) {
        const uint8_t *f = velum__take(r, FAIL_FIXED);
        uint32_t slice;
        velum_text text;
        if (f == NULL || !velum__get_text8(r, &text)) return false;
        slice = velum__get32(f);
        if (slice < least || slice >= VELUM_SLICES_MAX || velum__get16(f + 4) == 0) return false;
        if (!velum__text_ok(text, TEXT8_MAX)) return false;
        least = slice + 1;
    }
    return true;
}

int velum_wire_get_slices(const uint8_t *p, size_t n, velum_slices *m) {
    velum__reader r = {p, n};
    const uint8_t *f = velum__take(&r, SLICES_FIXED), *failed;
    if (f == NULL) return VELUM_E_PAYLOAD;
    m->job = velum__get64(f);
    m->flags = f[8];
    m->busy_us = velum__get32(f + 9);
    m->nruns = velum__get16(f + 13);
    m->runs = r.at;
    if (!id_ok(m->job) || (m->flags & ~VELUM_SLICES_LAST) != 0) return VELUM_E_PAYLOAD;
    if (!runs_ok(&r, m->nruns)) return VELUM_E_PAYLOAD;
    failed = velum__take(&r, 2);
    if (failed == NULL) return VELUM_E_PAYLOAD;
    m->nfailed = velum__get16(failed);
    m->failed = r.at;
    return failures_ok(&r, m->nfailed) && r.left == 0 ? (int)n : VELUM_E_PAYLOAD;
}

velum_slice_run velum_wire_next_run(const uint8_t **at) {
    velum_slice_run run = {velum__get32(*at), velum__get32(*at + 4), *at + RUN_FIXED};
    *at = run.values + (size_t)run.count * VALUE_BYTES;
    return run;
}

velum_failed velum_wire_next_failed(const uint8_t **at) {
    const uint8_t *text = *at + FAIL_FIXED + 1;
    velum_failed failed = {
        velum__get32(*at), velum__get16(*at + 4), {(const char *)text, text[-1]}};
    *at = text + failed.text.size;
    return failed;
}

/* ---- JOB ---- */

void velum_wire_put_share(uint8_t *at, const velum_share *share) {
    at = velum__put16(velum__put16(at, share->node), share->leases);
    velum__put32(velum__put32(at, share->done), share->busy_ms);
}

velum_share velum_wire_share(const velum_job *m, uint16_t index) {
    const uint8_t *p = m->shares + (size_t)index * VELUM_SHARE_BYTES;
    velum_share share = {velum__get16(p), velum__get16(p + 2), velum__get32(p + 4),
                         velum__get32(p + 8)};
    return share;
}

static bool nodes_ok(const velum_job *m) {
    if (m->coordinator == VELUM_ID_NONE || m->nholders > VELUM_HOLDERS_MAX) return false;
    for (uint8_t i = 0; i < m->nholders; i++)
        if (m->holders[i] == VELUM_ID_NONE) return false;
    for (uint16_t i = 0; i < m->nshares; i++)
        if (velum_wire_share(m, i).node == VELUM_ID_NONE) return false;
    return true;
}

static bool job_ok(const velum_job *m) {
    bool broken = m->state == VELUM_JOB_CANCELLED || m->state == VELUM_JOB_FAILED;
    return id_ok(m->job) && m->state >= VELUM_JOB_RUNNING && m->state <= VELUM_JOB_DONE &&
           m->slices <= VELUM_SLICES_MAX && m->done <= m->slices &&
           m->failed <= m->slices - m->done && broken == (m->code != 0) &&
           velum__text_ok(m->text, VELUM_TEXT_BYTES_MAX) && m->nanswers <= 1 &&
           (m->nanswers == 0 || m->state == VELUM_JOB_DONE) && nodes_ok(m);
}

int velum_wire_put_job(uint8_t *buf, size_t cap, uint64_t correlation, const velum_job *m) {
    size_t shares = (size_t)m->nshares * VELUM_SHARE_BYTES;
    size_t answer, length;
    uint8_t *p;
    if (!job_ok(m)) return VELUM_E_ARGUMENT;
    answer = velum__values_size(&m->answer, m->nanswers);
    if (answer == 0) return VELUM_E_ARGUMENT;
    length = JOB_FIXED + 2 + m->text.size + answer + 1 + 2u * m->nholders + 2 + shares;
    p = velum__wire_begin(buf, cap, VELUM_F_JOB, length, correlation);
    if (p == NULL) return VELUM_E_FULL;
    p = velum__put64(p, m->job);
    p = velum__put16(p, m->attempt);
    p = velum__put8(p, m->state);
    p = velum__put32(p, m->epoch);
    p = velum__put16(p, m->coordinator);
    p = velum__put32(p, m->sequence);
    p = velum__put32(p, m->slices);
    p = velum__put32(p, m->done);
    p = velum__put32(p, m->failed);
    p = velum__put32(p, m->checksum);
    p = velum__put64(p, m->elapsed_ms);
    p = velum__put32(p, m->retries);
    p = velum__put32(p, m->duplicates);
    p = velum__put16(p, m->code);
    p = velum__put_text16(p, m->text);
    p = velum__put_values(p, &m->answer, m->nanswers);
    p = velum__put8(p, m->nholders);
    for (uint8_t i = 0; i < m->nholders; i++)
        p = velum__put16(p, m->holders[i]);
    velum__put_bytes(velum__put16(p, m->nshares), m->shares, shares);
    return velum__whole(length);
}

/* What stands behind the answer. */
static bool get_nodes(velum__reader *r, velum_job *m) {
    const uint8_t *f = velum__take(r, 1);
    if (f == NULL || *f > VELUM_HOLDERS_MAX) return false;
    m->nholders = *f;
    f = velum__take(r, 2u * m->nholders);
    if (f == NULL) return false;
    for (uint8_t i = 0; i < m->nholders; i++)
        m->holders[i] = velum__get16(f + 2u * i);
    f = velum__take(r, 2);
    if (f == NULL) return false;
    m->nshares = velum__get16(f);
    m->shares = velum__take(r, (size_t)m->nshares * VELUM_SHARE_BYTES);
    return m->shares != NULL;
}

int velum_wire_get_job(const uint8_t *p, size_t n, velum_job *m) {
    velum__reader r = {p, n};
    const uint8_t *f = velum__take(&r, JOB_FIXED);
    if (f == NULL) return VELUM_E_PAYLOAD;
    m->job = velum__get64(f);
    m->attempt = velum__get16(f + 8);
    m->state = f[10];
    m->epoch = velum__get32(f + 11);
    m->coordinator = velum__get16(f + 15);
    m->sequence = velum__get32(f + 17);
    m->slices = velum__get32(f + 21);
    m->done = velum__get32(f + 25);
    m->failed = velum__get32(f + 29);
    m->checksum = velum__get32(f + 33);
    m->elapsed_ms = velum__get64(f + 37);
    m->retries = velum__get32(f + 45);
    m->duplicates = velum__get32(f + 49);
    m->code = velum__get16(f + 53);
    if (!velum__get_text16(&r, &m->text)) return VELUM_E_PAYLOAD;
    if (!velum__get_values(&r, &m->answer, 1, &m->nanswers)) return VELUM_E_PAYLOAD;
    if (!get_nodes(&r, m) || r.left != 0) return VELUM_E_PAYLOAD;
    return job_ok(m) ? (int)n : VELUM_E_PAYLOAD;
}

/* ---- JOB_ASK ---- */

static bool ask_ok(const velum_job_ask *m) {
    return id_ok(m->job) && m->ask >= VELUM_ASK_WATCH && m->ask <= VELUM_ASK_HOLD &&
           (m->flags & ~VELUM_JOB_VALUES) == 0;
}

int velum_wire_put_job_ask(uint8_t *buf, size_t cap, uint64_t correlation, const velum_job_ask *m) {
    uint8_t *p;
    if (!ask_ok(m)) return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, VELUM_F_JOB_ASK, ASK_BYTES, correlation);
    if (p == NULL) return VELUM_E_FULL;
    velum__put8(velum__put8(velum__put64(p, m->job), m->ask), m->flags);
    return velum__whole(ASK_BYTES);
}

int velum_wire_get_job_ask(const uint8_t *p, size_t n, velum_job_ask *m) {
    if (n != ASK_BYTES) return VELUM_E_PAYLOAD;
    m->job = velum__get64(p);
    m->ask = p[8];
    m->flags = p[9];
    return ask_ok(m) ? (int)n : VELUM_E_PAYLOAD;
}
