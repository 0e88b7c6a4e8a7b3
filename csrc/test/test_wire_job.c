/* test_wire_job.c: the frames of scatters: general properties, limits, and the writer of SLICES.
 *
 * Samples feed the properties of wire_samples.h. Each field's range is tried from both sides: the
 * encoder must refuse what is outside, and so must the decoder, which is shown the same by patching
 * the bytes of a good frame. The writer is run at every capacity, in memory of exactly that size.
 */
#include "wire_samples.h"

#define JOB_ID_MAX  ((uint64_t)INT64_MAX)
#define SHARES_FULL 65535u

/* ---- messages to begin with ---- */

static velum_scatter some_scatter(void) {
    velum_scatter m;
    memset(&m, 0, sizeof m);
    m.job = 77;
    m.reduce = VELUM_REDUCE_SUM;
    m.priority = 10;
    m.result = VELUM_I64;
    m.slices = 100;
    m.timeout_ms = 1000;
    m.name = text_of("count_primes", 12);
    m.label = text_of("primes.wasm", 11);
    m.nargs = 2;
    m.args[0].type = m.args[1].type = VELUM_I64;
    m.args[1].bits = 500000;
    return m;
}

static velum_scatter full_scatter(void) {
    velum_scatter m = some_scatter();
    m.job = JOB_ID_MAX;
    m.flags = VELUM_JOB_FLAGS;
    m.reduce = VELUM_REDUCE_COLLECT;
    m.priority = VELUM_PRIORITY_MAX;
    m.result = VELUM_I32;
    m.slices = VELUM_SLICES_MAX;
    m.timeout_ms = m.limit_ms = m.pages = UINT32_MAX;
    m.fuel = m.created_ms = UINT64_MAX;
    m.missing = UINT32_MAX;
    memset(m.hash, 0xab, sizeof m.hash);
    m.name = m.label = long_text(VELUM_NAME_BYTES_MAX);
    m.nargs = (uint8_t)fill_values(m.args);
    m.args[0].type = m.args[1].type = VELUM_I64;
    m.args[0].bits = (uint64_t)INT64_MIN;
    m.args[1].bits = (uint64_t)INT64_MAX;
    return m;
}

static velum_lease lease_of(const velum_scatter *job) {
    velum_lease m;
    memset(&m, 0, sizeof m);
    m.task.flags = VELUM_TASK_PLACED;
    m.task.timeout_ms = job->timeout_ms;
    m.task.fuel = job->fuel;
    m.task.pages = job->pages;
    memcpy(m.task.hash, job->hash, sizeof m.task.hash);
    m.task.name = job->name;
    m.task.nargs = job->nargs;
    memcpy(m.task.args, job->args, sizeof m.task.args);
    m.job = job->job;
    m.slices = job->slices;
    m.first = 7;
    m.count = 20;
    m.priority = job->priority;
    return m;
}

static velum_job some_job(void) {
    static uint8_t shares[2 * VELUM_SHARE_BYTES];
    velum_share one = {3, 2, 40, 1000}, two = {65535, UINT16_MAX, UINT32_MAX, UINT32_MAX};
    velum_job m;
    memset(&m, 0, sizeof m);
    velum_wire_put_share(shares, &one);
    velum_wire_put_share(shares + VELUM_SHARE_BYTES, &two);
    m.job = 77;
    m.attempt = 1;
    m.state = VELUM_JOB_DONE;
    m.epoch = 2;
    m.coordinator = 3;
    m.sequence = 4;
    m.slices = 100;
    m.done = 90;
    m.failed = 10;
    m.checksum = 0xdeadbeef;
    m.elapsed_ms = UINT64_C(1) << 40;
    m.text = text_of("done", 4);
    m.nanswers = 1;
    m.answer.type = VELUM_I64;
    m.answer.bits = 41538;
    m.nholders = 2;
    m.holders[0] = 3;
    m.holders[1] = 65535;
    m.nshares = 2;
    m.shares = shares;
    return m;
}

/* Runs 5..6 and 9, failures 7 and 100: at these offsets of the payload. */
enum { RUN_1 = 15, RUN_2 = 39, FAILURES = 55, FAILURE_1 = 57, FAILURE_2 = 64, SLICES_END = 74 };

static int some_slices(void) {
    velum_slices_writer w;
    CHECK_EQ(velum_wire_slices_begin(&w, frame, sizeof frame, 77), 0);
    CHECK_EQ(velum_wire_slices_add(&w, 5, 50), 0);
    CHECK_EQ(velum_wire_slices_add(&w, 6, UINT64_MAX), 0);
    CHECK_EQ(velum_wire_slices_add(&w, 9, 90), 0);
    CHECK_EQ(velum_wire_slices_fail(&w, 7, 62, text_of(NULL, 0)), 0);
    CHECK_EQ(velum_wire_slices_fail(&w, 100, UINT16_MAX, text_of("\xc3\xa9 !", 3)), 0);
    return velum_wire_slices_end(&w, 8, VELUM_SLICES_LAST, 1234);
}

static int empty_slices(uint8_t flags) {
    velum_slices_writer w;
    CHECK_EQ(velum_wire_slices_begin(&w, frame, sizeof frame, JOB_ID_MAX), 0);
    return velum_wire_slices_end(&w, UINT64_MAX, flags, UINT32_MAX);
}

static int put_scatter(const velum_scatter *m) {
    return velum_wire_put_scatter(frame, sizeof frame, 1, m);
}

static int put_lease(const velum_lease *m) {
    return velum_wire_put_lease(frame, sizeof frame, 2, m);
}

static int put_job(const velum_job *m) {
    return velum_wire_put_job(frame, sizeof frame, 3, m);
}

static void sample_jobs(void) {
    velum_scatter scatter = some_scatter(), full = full_scatter();
    velum_lease lease = lease_of(&scatter);
    velum_job job = some_job();
    velum_job_ask ask = {1, VELUM_ASK_WATCH, VELUM_JOB_VALUES};
    keep(put_scatter(&scatter));
    keep(put_scatter(&full));
    keep(put_lease(&lease));
    lease = lease_of(&full);
    lease.task.flags |= VELUM_LEASE_CAREFUL;
    lease.first = VELUM_SLICES_MAX - lease.count;
    keep(put_lease(&lease));
    keep(some_slices());
    keep(empty_slices(0));
    keep(velum_wire_put_trim(frame, sizeof frame, 4, 0));
    keep(velum_wire_put_trim(frame, sizeof frame, 4, VELUM_SLICES_MAX));
    keep(put_job(&job));
    memset(&job, 0, sizeof job);
    job.job = JOB_ID_MAX;
    job.state = VELUM_JOB_RUNNING;
    job.coordinator = 1;
    keep(put_job(&job));
    for (; ask.ask <= VELUM_ASK_HOLD; ask.ask++)
        keep(velum_wire_put_job_ask(frame, sizeof frame, 5, &ask));
}

/* ---- fields out of their range ---- */

/* One field after another out of its range, for an encoder. */
#define REFUSED_WITH(make, put, change)                                                            \
    do {                                                                                           \
        make;                                                                                      \
        change;                                                                                    \
        REFUSED(put(&m));                                                                          \
    } while (0)
#define SCATTER_WITH(change) REFUSED_WITH(velum_scatter m = some_scatter(), put_scatter, change)
#define LEASE_WITH(change)   REFUSED_WITH(velum_lease m = lease_of(&job), put_lease, change)
#define JOB_WITH(change)     REFUSED_WITH(velum_job m = some_job(), put_job, change)

static void test_scatter_refusals(void) {
    SCATTER_WITH(m.job = 0);
    SCATTER_WITH(m.job = JOB_ID_MAX + 1);
    SCATTER_WITH(m.flags = VELUM_JOB_FLAGS + 1);
    SCATTER_WITH(m.reduce = 0);
    SCATTER_WITH(m.reduce = VELUM_REDUCE_COLLECT + 1);
    SCATTER_WITH(m.priority = 0);
    SCATTER_WITH(m.priority = VELUM_PRIORITY_MAX + 1);
    SCATTER_WITH(m.result = 0);
    SCATTER_WITH((m.result = VELUM_I32, m.missing = UINT64_C(1) << 32));
    SCATTER_WITH((m.result = VELUM_F32, m.missing = UINT64_MAX));
    SCATTER_WITH(m.name.size = VELUM_NAME_BYTES_MAX + 1);
    SCATTER_WITH(m.name = text_of("\xff", 1));
    SCATTER_WITH(m.label = long_text(VELUM_NAME_BYTES_MAX + 1));
    SCATTER_WITH(m.label = text_of("\x80", 1));
    SCATTER_WITH(m.nargs = VELUM_ARGS_MAX + 1);
    SCATTER_WITH((m.nargs = 3, m.args[2].type = 1));
    for (uint8_t reduce = VELUM_REDUCE_AND; reduce <= VELUM_REDUCE_XOR; reduce++) {
        SCATTER_WITH((m.reduce = reduce, m.result = VELUM_F32));
        SCATTER_WITH((m.reduce = reduce, m.result = VELUM_F64));
    }
}

static void test_range_refusals(void) {
    velum_scatter empty = some_scatter();
    SCATTER_WITH(m.nargs = 1);
    SCATTER_WITH(m.args[0].type = VELUM_I32);
    SCATTER_WITH(m.args[0].type = m.args[1].type = VELUM_F64);
    SCATTER_WITH(m.args[0].bits = 500001);
    SCATTER_WITH(m.args[1].bits = UINT64_MAX);
    SCATTER_WITH((m.args[0].type = m.args[1].type = VELUM_I32, m.args[1].bits = UINT32_MAX));
    SCATTER_WITH((m.args[0].type = m.args[1].type = VELUM_I32, m.args[1].bits <<= 32));
    SCATTER_WITH(m.slices = 0);
    SCATTER_WITH(m.slices = VELUM_SLICES_MAX + 1);
    SCATTER_WITH(m.args[1].bits = 99); /* fewer numbers than slices */
    SCATTER_WITH(m.args[1].bits = 0);
    empty.args[0].bits = empty.args[1].bits;
    empty.slices = 0;
    CHECK(put_scatter(&empty) > 0);
    empty.reduce = VELUM_REDUCE_MIN;
    REFUSED(put_scatter(&empty));
    empty.reduce = VELUM_REDUCE_MAX;
    REFUSED(put_scatter(&empty));
}

static void test_lease_refusals(void) {
    velum_scatter job = some_scatter();
    velum_task task = lease_of(&job).task;
    LEASE_WITH(m.task.flags = 0);
    LEASE_WITH(m.task.flags = VELUM_LEASE_CAREFUL);
    LEASE_WITH(m.task.flags |= 4);
    LEASE_WITH(m.task.name = text_of("\xff", 1));
    LEASE_WITH(m.task.nargs = 1);
    LEASE_WITH(m.task.nargs = VELUM_ARGS_MAX + 1);
    LEASE_WITH(m.task.args[0].bits = 500001);
    LEASE_WITH(m.task.args[1].bits = 99);
    LEASE_WITH(m.job = 0);
    LEASE_WITH(m.job = UINT64_MAX);
    LEASE_WITH(m.slices = 0);
    LEASE_WITH(m.slices = VELUM_SLICES_MAX + 1);
    LEASE_WITH(m.first = 100);
    LEASE_WITH(m.first = UINT32_MAX);
    LEASE_WITH(m.count = 0);
    LEASE_WITH(m.count = 94);
    LEASE_WITH(m.count = UINT32_MAX); /* first + count overflows */
    LEASE_WITH(m.priority = 0);
    LEASE_WITH(m.priority = VELUM_PRIORITY_MAX + 1);
    task.flags |= VELUM_LEASE_CAREFUL; /* not of a TASK */
    REFUSED(velum_wire_put_task(frame, sizeof frame, 0, &task));
    REFUSED(velum_wire_put_trim(frame, sizeof frame, 0, VELUM_SLICES_MAX + 1));
}

static void test_job_refusals(void) {
    velum_job_ask asks[] = {{0, 1, 0}, {JOB_ID_MAX + 1, 1, 0}, {1, 0, 0}, {1, 5, 0}, {1, 1, 1}};
    static uint8_t nobody[VELUM_SHARE_BYTES];
    JOB_WITH(m.job = 0);
    JOB_WITH(m.job = JOB_ID_MAX + 1);
    JOB_WITH(m.state = 0);
    JOB_WITH(m.state = VELUM_JOB_DONE + 1);
    JOB_WITH(m.state = VELUM_JOB_RUNNING); /* has no answer yet */
    JOB_WITH((m.state = VELUM_JOB_FAILED, m.nanswers = 0));
    JOB_WITH((m.state = VELUM_JOB_CANCELLED, m.nanswers = 0));
    JOB_WITH((m.state = VELUM_JOB_FAILED, m.code = 62)); /* but an answer */
    JOB_WITH(m.code = 62);
    JOB_WITH(m.coordinator = 0);
    JOB_WITH(m.slices = VELUM_SLICES_MAX + 1);
    JOB_WITH(m.done = 91);
    JOB_WITH(m.done = 101);
    JOB_WITH(m.failed = UINT32_MAX);
    JOB_WITH(m.text = long_text(VELUM_TEXT_BYTES_MAX + 1));
    JOB_WITH(m.text = text_of("\xff", 1));
    JOB_WITH(m.nanswers = 2);
    JOB_WITH(m.answer.type = 0);
    JOB_WITH((m.answer.type = VELUM_I32, m.answer.bits = UINT64_MAX));
    JOB_WITH(m.nholders = VELUM_HOLDERS_MAX + 1);
    JOB_WITH(m.holders[1] = 0);
    JOB_WITH((m.nshares = 1, m.shares = nobody));
    for (size_t i = 0; i < sizeof asks / sizeof *asks; i++)
        REFUSED(velum_wire_put_job_ask(frame, sizeof frame, 0, &asks[i]));
}

static void test_malformed_specs(void) {
    velum_scatter job = some_scatter();
    velum_lease lease = lease_of(&job);
    int n = put_scatter(&job);
    malformed(n, 0, 0, 8);
    malformed(n, 0, JOB_ID_MAX + 1, 8);
    malformed(n, 8, 8, 1);
    malformed(n, 9, 0, 1);
    malformed(n, 9, 11, 1);
    malformed(n, 10, 0, 1);
    malformed(n, 10, 101, 1);
    malformed(n, 11, 0x7b, 1);
    malformed(n, 12, 0, 4);
    malformed(n, 12, VELUM_SLICES_MAX + 1, 4);
    malformed(n, 85, 0xff, 1);       /* name */
    malformed(n, 98, 0xff, 1);       /* label */
    malformed(n, 109, 1, 1);         /* arguments */
    malformed(n, 110, VELUM_I32, 1); /* start */
    malformed(n, 111, 500001, 8);
    malformed(n, 120, 99, 8); /* end */
    malformed(n, 120, UINT64_MAX, 8);
    n = put_lease(&lease);
    malformed(n, 0, 0, 1);
    malformed(n, 0, VELUM_LEASE_CAREFUL, 1);
    malformed(n, 0, 5, 1);
    malformed(n, 50, 0xff, 1);
    malformed(n, 73, 99, 8); /* end */
    malformed(n, 81, 0, 8);
    malformed(n, 89, 0, 4);
    malformed(n, 89, 26, 4);
    malformed(n, 93, 100, 4);
    malformed(n, 93, UINT32_MAX, 4);
    malformed(n, 97, 0, 4);
    malformed(n, 97, 94, 4);
    malformed(n, 97, UINT32_MAX, 4);
    malformed(n, 101, 0, 1);
    malformed(n, 101, 101, 1);
    malformed(velum_wire_put_trim(frame, sizeof frame, 0, 1), 0, VELUM_SLICES_MAX + 1, 4);
}

static void test_malformed_slices(void) {
    int n = some_slices();
    CHECK_EQ(n, (int)VELUM_HEADER_BYTES + SLICES_END);
    malformed(n, 0, 0, 8);
    malformed(n, 0, UINT64_MAX, 8);
    malformed(n, 8, 2, 1);
    malformed(n, 13, 1, 2); /* one run fewer or more than there are */
    malformed(n, 13, 3, 2);
    malformed(n, 13, UINT16_MAX, 2);
    malformed(n, RUN_1 + 4, 0, 4);
    malformed(n, RUN_1 + 4, UINT32_MAX, 4);
    malformed(n, RUN_1, VELUM_SLICES_MAX, 4);
    malformed(n, RUN_2, 5, 4); /* overlaps */
    malformed(n, RUN_2, 6, 4);
    malformed(n, RUN_2, 7, 4); /* touches */
    malformed(n, RUN_2, VELUM_SLICES_MAX, 4);
    malformed(n, RUN_2, UINT32_MAX, 4);
    malformed(n, FAILURES, 1, 2);
    malformed(n, FAILURES, 3, 2);
    malformed(n, FAILURE_1 + 4, 0, 2);
    malformed(n, FAILURE_1 + 6, 1, 1); /* the text reaches into the next */
    malformed(n, FAILURE_1, 100, 4);
    malformed(n, FAILURE_2, 7, 4);
    malformed(n, FAILURE_2, VELUM_SLICES_MAX, 4);
    malformed(n, FAILURE_2 + 6, 4, 1); /* past the end */
    malformed(n, FAILURE_2 + 7, 0xff, 1);
}

static void test_malformed_records(void) {
    velum_job job = some_job();
    velum_job_ask ask = {1, VELUM_ASK_HOLD, 0};
    int n = put_job(&job);
    malformed(n, 0, 0, 8);
    malformed(n, 10, 0, 1);
    malformed(n, 10, VELUM_JOB_RUNNING, 1);
    malformed(n, 10, VELUM_JOB_FAILED, 1);
    malformed(n, 10, 5, 1);
    malformed(n, 15, 0, 2);
    malformed(n, 21, 99, 4);
    malformed(n, 21, VELUM_SLICES_MAX + 1, 4);
    malformed(n, 25, UINT32_MAX, 4);
    malformed(n, 29, 11, 4);
    malformed(n, 53, 62, 2);
    malformed(n, 57, 0xff, 1); /* text */
    malformed(n, 61, 2, 1);    /* answers */
    malformed(n, 62, 0, 1);
    malformed(n, 71, 17, 1); /* holders */
    malformed(n, 72, 0, 2);
    malformed(n, 76, 3, 2); /* shares */
    malformed(n, 78, 0, 2);
    n = velum_wire_put_job_ask(frame, sizeof frame, 0, &ask);
    malformed(n, 0, 0, 8);
    malformed(n, 0, JOB_ID_MAX + 1, 8);
    malformed(n, 8, 0, 1);
    malformed(n, 8, 5, 1);
    malformed(n, 9, 1, 1);
    malformed(n, 9, 8, 1);
}

/* ---- fields arrive where they left ---- */

static void test_fields_of_specs(void) {
    velum_scatter m = full_scatter(), back;
    velum_lease lease = lease_of(&m), lease_back;
    int n = put_scatter(&m);
    memset(&back, 0xff, sizeof back);
    CHECK_EQ(velum_wire_get_scatter(frame + 16, (size_t)n - 16, &back), n - 16);
    CHECK(back.job == m.job && back.flags == m.flags && back.reduce == m.reduce);
    CHECK(back.priority == m.priority && back.result == m.result && back.slices == m.slices);
    CHECK(back.timeout_ms == m.timeout_ms && back.limit_ms == m.limit_ms && back.fuel == m.fuel);
    CHECK(back.pages == m.pages && back.missing == m.missing && back.created_ms == m.created_ms);
    CHECK(memcmp(back.hash, m.hash, sizeof m.hash) == 0 && back.nargs == m.nargs);
    CHECK(back.name.size == 255 && back.label.size == 255 && back.args[0].bits == m.args[0].bits);
    CHECK((const uint8_t *)back.label.data > frame && (const uint8_t *)back.label.data < frame + n);
    lease.task.flags = VELUM_TASK_PLACED | VELUM_LEASE_CAREFUL;
    n = put_lease(&lease);
    CHECK_EQ(velum_wire_get_lease(frame + 16, (size_t)n - 16, &lease_back), n - 16);
    CHECK(lease_back.task.flags == 3 && lease_back.task.fuel == m.fuel);
    CHECK(lease_back.job == m.job && lease_back.slices == m.slices && lease_back.first == 7);
    CHECK(lease_back.count == 20 && lease_back.priority == m.priority);
}

static void test_fields_of_records(void) {
    velum_job m = some_job(), back;
    velum_job_ask ask = {9, VELUM_ASK_RESUME, VELUM_JOB_VALUES}, ask_back;
    velum_share share;
    int n = put_job(&m);
    CHECK_EQ(velum_wire_get_job(frame + 16, (size_t)n - 16, &back), n - 16);
    CHECK(back.job == 77 && back.attempt == 1 && back.state == VELUM_JOB_DONE && back.epoch == 2);
    CHECK(back.coordinator == 3 && back.sequence == 4 && back.slices == 100 && back.done == 90);
    CHECK(back.failed == 10 && back.checksum == m.checksum && back.elapsed_ms == m.elapsed_ms);
    CHECK(back.retries == 0 && back.duplicates == 0 && back.code == 0 && back.text.size == 4);
    CHECK(back.nanswers == 1 && back.answer.bits == 41538 && back.nholders == 2);
    CHECK(back.holders[0] == 3 && back.holders[1] == 65535 && back.nshares == 2);
    share = velum_wire_share(&back, 0);
    CHECK(share.node == 3 && share.leases == 2 && share.done == 40 && share.busy_ms == 1000);
    share = velum_wire_share(&back, 1);
    CHECK(share.node == 65535 && share.leases == UINT16_MAX && share.busy_ms == UINT32_MAX);
    n = velum_wire_put_job_ask(frame, sizeof frame, 0, &ask);
    CHECK_EQ(velum_wire_get_job_ask(frame + 16, (size_t)n - 16, &ask_back), n - 16);
    CHECK(ask_back.job == 9 && ask_back.ask == VELUM_ASK_RESUME && ask_back.flags == 4);
}

static void test_fields_of_slices(void) {
    int n = some_slices();
    velum_slices m;
    velum_slice_run run;
    velum_failed failed;
    const uint8_t *at;
    CHECK_EQ(velum_wire_get_slices(frame + 16, (size_t)n - 16, &m), n - 16);
    CHECK(m.job == 77 && m.flags == VELUM_SLICES_LAST && m.busy_us == 1234);
    CHECK(m.nruns == 2 && m.nfailed == 2);
    at = m.runs;
    run = velum_wire_next_run(&at);
    CHECK(run.first == 5 && run.count == 2 && velum__get64(run.values) == 50);
    CHECK(velum__get64(run.values + 8) == UINT64_MAX);
    run = velum_wire_next_run(&at);
    CHECK(run.first == 9 && run.count == 1 && velum__get64(run.values) == 90);
    CHECK(at + 2 == m.failed);
    at = m.failed;
    failed = velum_wire_next_failed(&at);
    CHECK(failed.slice == 7 && failed.code == 62 && failed.text.size == 0);
    failed = velum_wire_next_failed(&at);
    CHECK(failed.slice == 100 && failed.code == UINT16_MAX && failed.text.size == 3);
    CHECK(memcmp(failed.text.data, "\xc3\xa9 ", 3) == 0 && at == frame + n);
}

/* ---- the writer ---- */

static void test_writer_order(void) {
    velum_slices_writer w;
    velum_text none = {NULL, 0};
    REFUSED(velum_wire_slices_begin(&w, frame, sizeof frame, 0));
    REFUSED(velum_wire_slices_begin(&w, frame, sizeof frame, JOB_ID_MAX + 1));
    CHECK_EQ(velum_wire_slices_begin(&w, frame, sizeof frame, 1), 0);
    CHECK_EQ(velum_wire_slices_add(&w, 0, 1), 0);
    CHECK_EQ(velum_wire_slices_add(&w, 5, 1), 0);
    REFUSED(velum_wire_slices_add(&w, 5, 1));
    REFUSED(velum_wire_slices_add(&w, 0, 1));
    REFUSED(velum_wire_slices_add(&w, VELUM_SLICES_MAX, 1));
    CHECK_EQ(velum_wire_slices_add(&w, VELUM_SLICES_MAX - 1, 1), 0);
    REFUSED(velum_wire_slices_add(&w, VELUM_SLICES_MAX, 1)); /* the next one, but there is none */
    REFUSED(velum_wire_slices_fail(&w, 0, 0, none));
    REFUSED(velum_wire_slices_fail(&w, VELUM_SLICES_MAX, 1, none));
    REFUSED(velum_wire_slices_fail(&w, 0, 1, text_of("\xff", 1)));
    REFUSED(velum_wire_slices_fail(&w, 0, 1, text_of(NULL, 300)));
    CHECK_EQ(velum_wire_slices_add(&w, VELUM_SLICES_MAX - 1, 1), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_wire_slices_fail(&w, 0, 1, none), 0); /* failures begin at 0 again */
    REFUSED(velum_wire_slices_fail(&w, 0, 1, none));
    CHECK_EQ(velum_wire_slices_fail(&w, VELUM_SLICES_MAX - 1, 1, none), 0);
    REFUSED(velum_wire_slices_add(&w, VELUM_SLICES_MAX - 1, 1));
    REFUSED(velum_wire_slices_end(&w, 0, 2, 0));
    CHECK_EQ(velum_wire_slices_end(&w, 0, 0, 0), 16 + 15 + 3 * 16 + 2 + 2 * 7);
}

/* A failure's text of `size` times the character, which is `width` bytes long. */
static void cut_to(const char *character, size_t size, uint16_t expected) {
    static char text[VELUM_TEXT_BYTES_MAX];
    velum_slices_writer w;
    velum_slices m;
    velum_failed failed;
    size_t width = strlen(character);
    int n;
    for (size_t i = 0; i < size; i++)
        memcpy(text + i * width, character, width);
    velum_wire_slices_begin(&w, frame, sizeof frame, 1);
    CHECK_EQ(velum_wire_slices_fail(&w, 3, 60, text_of(text, size * width)), 0);
    n = velum_wire_slices_end(&w, 0, 0, 0);
    CHECK_EQ(velum_wire_get_slices(frame + 16, (size_t)n - 16, &m), n - 16);
    failed = velum_wire_next_failed(&m.failed);
    CHECK_EQ(failed.text.size, expected);
}

static void test_writer_cuts_texts(void) {
    static char garbage[300];
    velum_slices_writer w;
    cut_to("x", 255, 255);
    cut_to("x", 256, 255);
    cut_to("x", 1000, 255);
    cut_to("\xc3\xa9", 200, 254);
    cut_to("\xe2\x86\x92", 85, 255);
    cut_to("\xe2\x86\x92", 86, 255);
    cut_to("\xf0\x9f\x9a\x80", 64, 252);
    memset(garbage, 0x80, sizeof garbage);
    velum_wire_slices_begin(&w, frame, sizeof frame, 1);
    REFUSED(velum_wire_slices_fail(&w, 3, 60, text_of(garbage, sizeof garbage)));
}

/* One step of a fixed script; false behind its end. */
static bool write_step(velum_slices_writer *w, int step, int *result) {
    static const uint32_t done[] = {3, 4, 5, 9, 11, 12, VELUM_SLICES_MAX - 1};
    static const uint32_t failed[] = {6, 7, 1000};
    const int values = sizeof done / sizeof *done, failures = sizeof failed / sizeof *failed;
    if (step >= values + failures) return false;
    if (step < values)
        *result = velum_wire_slices_add(w, done[step], (uint64_t)step);
    else
        *result = velum_wire_slices_fail(w, failed[step - values], 62,
                                         long_text((size_t)(step - values) * 11));
    return true;
}

/* Writes the script into `room` bytes until a step finds no room, which must change nothing.
 * Returns the length. */
static int write_script(uint8_t *buf, size_t room, int *steps) {
    velum_slices_writer w, before;
    int result = velum_wire_slices_begin(&w, buf, room, 77);
    *steps = 0;
    if (result < 0) return result;
    for (memcpy(&before, &w, sizeof w); write_step(&w, *steps, &result) && result == 0; ++*steps)
        memcpy(&before, &w, sizeof w);
    CHECK(result == 0 || result == VELUM_E_FULL);
    CHECK(memcmp(&before, &w, sizeof w) == 0);
    return velum_wire_slices_end(&w, 1, 0, 9);
}

static void test_writer_at_every_capacity(void) {
    int all, whole = write_script(frame, sizeof frame, &all), last = 0;
    CHECK_EQ(all, 10);
    for (size_t room = 0; room <= (size_t)whole; room++) {
        uint8_t *buf = malloc(room > 0 ? room : 1);
        int steps, n;
        if (buf == NULL) abort();
        n = write_script(buf, room, &steps);
        if (room < VELUM_HEADER_BYTES + 17u) {
            CHECK_EQ(n, VELUM_E_FULL);
        } else {
            CHECK(n > 0 && (size_t)n <= room && steps >= last);
            CHECK_EQ(recode_exact(buf, (size_t)n), n);
            CHECK_EQ(steps == all, room == (size_t)whole);
            last = steps;
        }
        free(buf);
    }
}

/* What a refused step leaves behind is what was there before it. */
static void test_refused_steps_change_nothing(void) {
    static uint8_t small[100];
    velum_slices_writer w, before;
    CHECK_EQ(velum_wire_slices_begin(&w, small, sizeof small, 1), 0);
    CHECK_EQ(velum_wire_slices_add(&w, 1, 1), 0);
    memcpy(&before, &w, sizeof w);
    CHECK_EQ(velum_wire_slices_fail(&w, 9, 1, long_text(60)), VELUM_E_FULL);
    CHECK_EQ(velum_wire_slices_fail(&w, 9, 0, text_of(NULL, 0)), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_wire_slices_add(&w, 0, 0), VELUM_E_ARGUMENT);
    CHECK(memcmp(&before, &w, sizeof w) == 0);
    CHECK_EQ(velum_wire_slices_add(&w, 2, 2), 0); /* so runs may still go on */
    CHECK_EQ(recode_exact(small, (size_t)velum_wire_slices_end(&w, 0, 0, 0)), 16 + 15 + 8 + 16 + 2);
}

/* ---- larger things ---- */

/* More room than a frame may take. */
static uint8_t roomy[VELUM_HEADER_BYTES + VELUM_FRAME_BYTES_MAX + 64];

/* Values or failures until there is no room; how many there were. */
static uint32_t fill(velum_slices_writer *w, uint32_t step, bool failing) {
    uint32_t count = 0;
    int result = velum_wire_slices_begin(w, roomy, sizeof roomy, 1);
    for (; result == 0; count += result == 0)
        if (failing)
            result = velum_wire_slices_fail(w, count * step, 1, text_of(NULL, 0));
        else
            result = velum_wire_slices_add(w, count * step, count);
    CHECK_EQ(result, VELUM_E_FULL);
    return count;
}

static void test_largest_slices(void) {
    velum_slices_writer w;
    CHECK_EQ(fill(&w, 1, false), (VELUM_FRAME_BYTES_MAX - 17 - 8) / 8);
    CHECK_EQ(velum_wire_slices_fail(&w, 0, 1, text_of("!", 1)), VELUM_E_FULL);
    CHECK_EQ(velum_wire_slices_fail(&w, 0, 1, text_of(NULL, 0)), 0); /* fits to the byte */
    recodes(roomy, velum_wire_slices_end(&w, 0, 0, 0));
    CHECK_EQ(w.used, VELUM_HEADER_BYTES + VELUM_FRAME_BYTES_MAX);
    CHECK_EQ(fill(&w, 2, false), (VELUM_FRAME_BYTES_MAX - 17) / 16);
    recodes(roomy, velum_wire_slices_end(&w, 0, 0, 0));
    CHECK_EQ(fill(&w, 3, true), UINT16_MAX);
    recodes(roomy, velum_wire_slices_end(&w, 0, VELUM_SLICES_LAST, 0));
}

static void test_largest_job(void) {
    velum_job m = some_job();
    velum_share share = {1, 1, 1, 1};
    uint8_t *shares = malloc(SHARES_FULL * VELUM_SHARE_BYTES);
    int n;
    if (shares == NULL) abort();
    for (size_t i = 0; i < SHARES_FULL; i++, share.node++)
        velum_wire_put_share(shares + i * VELUM_SHARE_BYTES, &share);
    m.text = long_text(VELUM_TEXT_BYTES_MAX);
    m.nholders = VELUM_HOLDERS_MAX;
    for (uint16_t i = 0; i < VELUM_HOLDERS_MAX; i++)
        m.holders[i] = (uint16_t)(i + 1);
    m.nshares = SHARES_FULL;
    m.shares = shares;
    n = put_job(&m);
    CHECK_EQ(n, 16 + 55 + 2 + 1024 + 10 + 1 + 32 + 2 + 65535 * 12);
    recodes(frame, n);
    CHECK_EQ(velum_wire_put_job(frame, (size_t)n - 1, 0, &m), VELUM_E_FULL);
    free(shares);
}

int main(void) {
    sample_jobs();
    check_samples();
    test_scatter_refusals();
    test_range_refusals();
    test_lease_refusals();
    test_job_refusals();
    test_malformed_specs();
    test_malformed_slices();
    test_malformed_records();
    test_fields_of_specs();
    test_fields_of_records();
    test_fields_of_slices();
    test_writer_order();
    test_writer_cuts_texts();
    test_writer_at_every_capacity();
    test_refused_steps_change_nothing();
    test_largest_slices();
    test_largest_job();
    return check_report("test_wire_job");
}
