/* test_client_jobs.c: scatters of the public C API against full nodes made by hand, on loopback:
 * the spec that is sent, what records say, lost nodes, cancelling, limits.
 * Usage: test_client_jobs FOLDER-OF-GUESTS
 */
#include "client_world.h"
#include "guest_file.h"

#define PRIMES_TO 500000

static guest_file primes, types, floats, sum;

/* ---- both sides of a scatter ---- */

static int try_scatter(guest_file module, const char *function, int64_t start, int64_t end,
                       const velum_scatter_options *options, velum_ticket *out) {
    return velum_spawn_wasm_distributed(mesh, module.bytes, module.size, function, start, end,
                                        options, out);
}

/* Counts primes below PRIMES_TO. */
static velum_ticket scatter(const velum_scatter_options *options) {
    velum_ticket ticket = 0;
    CHECK_EQ(try_scatter(primes, "count_primes", 0, PRIMES_TO, options, &ticket), 0);
    CHECK(ticket != 0);
    return ticket;
}

/* The spec in the last SCATTER that came; its texts lead into what the node keeps. */
static velum_scatter spec_at(const full_node *n) {
    const kept_frame *asked = node_frame(n, VELUM_F_SCATTER);
    velum_scatter spec;
    memset(&spec, 0, sizeof spec);
    CHECK(velum_wire_get_scatter(asked->payload, asked->header.length, &spec) > 0);
    return spec;
}

static void send_record(full_node *n, velum_job record) {
    const kept_frame *asked = node_frame(n, VELUM_F_SCATTER);
    uint8_t frame[FRAME_MAX];
    int size = velum_wire_put_job(frame, sizeof frame, asked->header.correlation, &record);
    CHECK(size > 0);
    if (size > 0) CHECK_EQ(velum_hub_send(n->hub, asked->link, frame, (size_t)size), 0);
}

/* A record of the job that came last, made by node 3. */
static velum_job record_of(const full_node *n, uint8_t state, uint32_t done) {
    velum_scatter spec = spec_at(n);
    return (velum_job){.job = spec.job,
                       .attempt = 1,
                       .state = state,
                       .epoch = 1,
                       .coordinator = 3,
                       .slices = spec.slices,
                       .done = done,
                       .elapsed_ms = 1500};
}

static void send_done(full_node *n, int64_t answer) {
    velum_job record = record_of(n, VELUM_JOB_DONE, spec_at(n).slices);
    record.nanswers = 1;
    record.answer = velum_i64(answer);
    send_record(n, record);
}

static void send_ended(full_node *n, uint8_t state, int error, const char *text) {
    velum_job record = record_of(n, state, 7);
    record.code = (uint16_t)-error;
    record.text = (velum_text){text, (uint16_t)strlen(text)};
    send_record(n, record);
}

static velum_job_progress progress_of(velum_ticket ticket) {
    velum_job_progress progress;
    memset(&progress, 0xff, sizeof progress);
    CHECK_EQ(velum_get_progress(mesh, ticket, &progress), 0);
    return progress;
}

/* Checks that the last JOB_ASK of a node cancels this job. */
static void expect_cancel(const full_node *n, velum_ticket ticket, uint64_t job) {
    const kept_frame *frame = node_frame(n, VELUM_F_JOB_ASK);
    velum_job_ask ask = {0, 0, 0};
    CHECK(velum_wire_get_job_ask(frame->payload, frame->header.length, &ask) > 0);
    CHECK_EQ(frame->header.correlation, ticket);
    CHECK_EQ(ask.ask, VELUM_ASK_CANCEL);
    CHECK(ask.job == job);
}

/* ---- asking and answering ---- */

static void test_a_scatter(uint16_t id) {
    static uint8_t shares[2 * VELUM_SHARE_BYTES];
    const velum_share share = {1, 2, 3, 4};
    velum_outcome outcome;
    velum_ticket ticket;
    velum_scatter spec;
    velum_job record;
    attach(id);
    ticket = scatter(NULL);
    CHECK_EQ(progress_of(ticket).state, 0);
    UNTIL(one.seen[VELUM_F_SCATTER] == 1);
    spec = spec_at(&one);
    CHECK(spec.job > 0 && spec.job <= INT64_MAX);
    CHECK(spec.flags == 0 && spec.reduce == VELUM_REDUCE_SUM && spec.priority == 10);
    CHECK(spec.slices == 4096 && spec.result == VELUM_I32 && spec.nargs == 2);
    CHECK(spec.timeout_ms == 0 && spec.limit_ms == 0 && spec.fuel == 0 && spec.pages == 0);
    CHECK_EQ(velum_as_i64(spec.args[1]), PRIMES_TO);
    CHECK(spec.name.size == 12 && memcmp(spec.name.data, "count_primes", 12) == 0);
    CHECK(spec.created_ms <= velum_port_unix_ms() &&
          velum_port_unix_ms() < spec.created_ms + 60000);
    CHECK_EQ(velum_hub_fetch(one.hub, one.link, spec.hash), 0);
    UNTIL(one.module_error == 0);
    record = record_of(&one, VELUM_JOB_RUNNING, 100);
    record.failed = 2;
    record.nshares = 2;
    record.shares = shares;
    velum_wire_put_share(shares, &share);
    velum_wire_put_share(shares + VELUM_SHARE_BYTES, &share);
    send_record(&one, record);
    UNTIL(progress_of(ticket).state == VELUM_JOB_RUNNING);
    CHECK(progress_of(ticket).done == 100 && progress_of(ticket).failed == 2);
    CHECK(progress_of(ticket).nodes == 2 && progress_of(ticket).elapsed_ms == 1500);
    CHECK_EQ(velum_poll(mesh, ticket, &outcome), 0);
    send_done(&one, 41538);
    UNTIL(progress_of(ticket).state == VELUM_JOB_DONE);
    outcome = outcome_of(ticket);
    CHECK(outcome.error == 0 && outcome.nvalues == 1 && outcome.text[0] == '\0');
    CHECK_EQ(velum_as_i64(outcome.value), 41538);
    CHECK_EQ(outcome.node, 3);
    CHECK_EQ(outcome.run_us, 1500000);
    CHECK_EQ(velum_get_progress(mesh, ticket, &(velum_job_progress){0}), VELUM_E_ARGUMENT);
    send_done(&one, 1); /* once more, for nobody */
    a_while();
    finish();
}

static void test_options(void) {
    velum_scatter_options options = {.reduce = VELUM_REDUCE_FIRST,
                                     .priority = 100,
                                     .slices = 7,
                                     .timeout_ms = 1,
                                     .limit_ms = 60000,
                                     .fuel = 3,
                                     .pages = 4,
                                     .keep_going = true,
                                     .wrap = true,
                                     .label = "primes.wasm"};
    velum_ticket ticket;
    velum_scatter spec;
    attach(MEMBER_ID);
    options.missing = velum_i32(-1);
    (void)scatter(&options);
    UNTIL(one.seen[VELUM_F_SCATTER] == 1);
    spec = spec_at(&one);
    CHECK(spec.reduce == VELUM_REDUCE_FIRST && spec.missing == UINT32_MAX);
    CHECK(spec.priority == 100 && spec.slices == 7 && spec.timeout_ms == 1);
    CHECK(spec.limit_ms == 60000 && spec.fuel == 3 && spec.pages == 4);
    CHECK_EQ(spec.flags, VELUM_JOB_KEEP_GOING | VELUM_JOB_WRAP);
    CHECK(spec.label.size == 11 && memcmp(spec.label.data, "primes.wasm", 11) == 0);
    CHECK_EQ(try_scatter(types, "add_i64", INT64_MIN, INT64_MAX, NULL, &ticket), 0);
    UNTIL(one.seen[VELUM_F_SCATTER] == 2);
    CHECK_EQ(velum_as_i64(spec_at(&one).args[0]), INT64_MIN);
    CHECK_EQ(velum_as_i64(spec_at(&one).args[1]), INT64_MAX);
    CHECK(spec_at(&one).job != spec.job);
    CHECK_EQ(try_scatter(primes, "count_primes", -3, 2, NULL, &ticket), 0);
    UNTIL(one.seen[VELUM_F_SCATTER] == 3);
    CHECK_EQ(spec_at(&one).slices, 5);
    CHECK_EQ(try_scatter(primes, "count_primes", 9, 9, NULL, &ticket), 0); /* nothing is a sum */
    UNTIL(one.seen[VELUM_F_SCATTER] == 4);
    CHECK_EQ(spec_at(&one).slices, 0);
    finish();
}

/* ---- what is refused before anything is sent ---- */

static void expect_refused(velum_scatter_options options) {
    velum_ticket ticket = 0;
    CHECK_EQ(try_scatter(floats, "harmonic", 0, 10, &options, &ticket), VELUM_E_ARGUMENT);
    CHECK_EQ(ticket, 0);
}

static void test_bad_options(void) {
    char label[VELUM_NAME_BYTES_MAX + 2];
    memset(label, 'x', sizeof label - 1);
    label[sizeof label - 1] = '\0';
    attach(MEMBER_ID);
    expect_refused((velum_scatter_options){.reduce = VELUM_REDUCE_ALL});
    expect_refused((velum_scatter_options){.reduce = VELUM_REDUCE_COLLECT});
    expect_refused((velum_scatter_options){.reduce = VELUM_REDUCE_COLLECT + 1});
    expect_refused((velum_scatter_options){.reduce = VELUM_REDUCE_XOR}); /* of floats */
    expect_refused((velum_scatter_options){.reduce = VELUM_REDUCE_FIRST});
    expect_refused((velum_scatter_options){.reduce = VELUM_REDUCE_FIRST, .missing = velum_i64(1)});
    expect_refused((velum_scatter_options){.priority = 101});
    expect_refused((velum_scatter_options){.label = label});
    expect_refused((velum_scatter_options){.label = "\xff"});
    a_while();
    CHECK_EQ(one.nframes, 0);
    finish();
}

static void test_bad_functions_and_ranges(void) {
    const velum_scatter_options least = {.reduce = VELUM_REDUCE_MIN};
    const velum_scatter_options many = {.slices = VELUM_SLICES_MAX + 1};
    const int64_t after_i32 = INT64_C(1) + INT32_MAX, before_i32 = INT64_C(-1) + INT32_MIN;
    velum_ticket ticket = 0;
    guest_file cut = {sum.bytes, 11};
    attach(MEMBER_ID);
    CHECK_EQ(try_scatter(sum, "sum", 0, 9, NULL, &ticket), VELUM_E_SIGNATURE);
    CHECK_EQ(try_scatter(types, "add_f64", 0, 9, NULL, &ticket), VELUM_E_SIGNATURE);
    CHECK_EQ(try_scatter(primes, "is_prime", 0, 9, NULL, &ticket), VELUM_E_SIGNATURE);
    CHECK_EQ(try_scatter(primes, "nope", 0, 9, NULL, &ticket), VELUM_E_NO_EXPORT);
    CHECK_EQ(try_scatter(cut, "sum", 0, 9, NULL, &ticket), VELUM_E_MODULE_MALFORMED);
    CHECK_EQ(try_scatter(primes, NULL, 0, 9, NULL, &ticket), VELUM_E_ARGUMENT);
    CHECK_EQ(try_scatter((guest_file){NULL, 9}, "f", 0, 9, NULL, &ticket), VELUM_E_ARGUMENT);
    CHECK_EQ(try_scatter(primes, "count_primes", 1, 0, NULL, &ticket), VELUM_E_ARGUMENT);
    CHECK_EQ(try_scatter(primes, "count_primes", 0, after_i32, NULL, &ticket), VELUM_E_SIGNATURE);
    CHECK_EQ(try_scatter(primes, "count_primes", before_i32, 0, NULL, &ticket), VELUM_E_SIGNATURE);
    CHECK_EQ(try_scatter(primes, "count_primes", 3, 3, &least, &ticket), VELUM_E_ARGUMENT);
    CHECK_EQ(try_scatter(types, "add_i64", 0, INT64_MAX, &many, &ticket), VELUM_E_ARGUMENT);
    CHECK_EQ(ticket, 0);
    a_while();
    CHECK_EQ(one.nframes, 0);
    finish();
}

/* ---- other ends ---- */

static void test_failures(void) {
    velum_outcome outcome;
    velum_ticket ticket;
    attach(MEMBER_ID);
    ticket = scatter(NULL);
    UNTIL(one.seen[VELUM_F_SCATTER] == 1);
    send_ended(&one, VELUM_JOB_FAILED, VELUM_E_TRAP_MEMORY, "slice 7: out of bounds");
    outcome = outcome_of(ticket);
    CHECK_EQ(outcome.error, VELUM_E_TRAP_MEMORY);
    CHECK(outcome.nvalues == 0 && strcmp(outcome.text, "slice 7: out of bounds") == 0);
    ticket = scatter(NULL);
    UNTIL(one.seen[VELUM_F_SCATTER] == 2);
    send_ended(&one, VELUM_JOB_CANCELLED, VELUM_E_CANCELLED, ""); /* by somebody else */
    outcome = outcome_of(ticket);
    CHECK_EQ(outcome.error, VELUM_E_CANCELLED);
    CHECK(strcmp(outcome.text, velum_strerror(VELUM_E_CANCELLED)) == 0);
    ticket = scatter(NULL);
    UNTIL(one.seen[VELUM_F_SCATTER] == 3);
    send_error(&one, node_frame(&one, VELUM_F_SCATTER), VELUM_E_BUSY, "64 jobs run here");
    CHECK_EQ(outcome_of(ticket).error, VELUM_E_BUSY);
    finish();
}

/* A node that answers with nonsense is not believed. */
static void test_broken_records(void) {
    uint8_t frame[VELUM_HEADER_BYTES + 1u] = {0};
    const velum_value args[] = {velum_i64(10), velum_i64(20)};
    const kept_frame *asked;
    velum_ticket ticket, call = 0;
    velum_job record;
    attach(MEMBER_ID);
    ticket = scatter(NULL);
    UNTIL(one.seen[VELUM_F_SCATTER] == 1);
    record = record_of(&one, VELUM_JOB_RUNNING, 1);
    record.job ^= 1;
    if (record.job == 0) record.job = 2;
    send_record(&one, record); /* another job's */
    CHECK_EQ(outcome_of(ticket).error, VELUM_E_PAYLOAD);
    ticket = scatter(NULL);
    UNTIL(one.seen[VELUM_F_SCATTER] == 2);
    asked = node_frame(&one, VELUM_F_SCATTER);
    velum_wire_put_header(frame, VELUM_F_JOB, 1, asked->header.correlation);
    CHECK_EQ(velum_hub_send(one.hub, asked->link, frame, sizeof frame), 0);
    CHECK_EQ(outcome_of(ticket).error, VELUM_E_PAYLOAD);
    CHECK_EQ(velum_spawn(mesh, "add", args, 2, 0, &call), 0);
    CHECK_EQ(velum_get_progress(mesh, call, &(velum_job_progress){0}), VELUM_E_ARGUMENT);
    UNTIL(one.seen[VELUM_F_CALL] == 1);
    velum_wire_put_header(frame, VELUM_F_JOB, 1, call); /* a call is no job */
    CHECK_EQ(velum_hub_send(one.hub, one.link, frame, sizeof frame), 0);
    a_while();
    CHECK_EQ(velum_cancel(mesh, call), 0);
    CHECK_EQ(outcome_of(call).error, VELUM_E_CANCELLED);
    finish();
}

typedef struct {
    unsigned calls;
    int64_t answer;
} listener;

static void on_done(void *user, velum_ticket ticket, const velum_outcome *outcome) {
    listener *l = user;
    CHECK_EQ(velum_get_progress(mesh, ticket, &(velum_job_progress){0}), VELUM_E_ARGUMENT);
    l->calls++;
    l->answer = velum_as_i64(outcome->value);
}

static void test_a_callback(void) {
    listener l = {0, 0};
    velum_ticket ticket;
    attach(MEMBER_ID);
    ticket = scatter(NULL);
    CHECK_EQ(velum_on_done(mesh, ticket, on_done, &l), 0);
    CHECK_EQ(progress_of(ticket).slices, 4096);
    UNTIL(one.seen[VELUM_F_SCATTER] == 1);
    send_done(&one, 41538);
    UNTIL(l.calls == 1);
    CHECK_EQ(l.answer, 41538);
    finish();
    CHECK_EQ(l.calls, 1);
}

/* ---- lost nodes ---- */

static void test_a_lost_node_loses_no_job(void) {
    velum_scatter first, second;
    velum_ticket ticket;
    attach(MEMBER_ID);
    add_second_node();
    ticket = scatter(NULL);
    UNTIL(one.seen[VELUM_F_SCATTER] == 1);
    first = spec_at(&one);
    send_record(&one, record_of(&one, VELUM_JOB_RUNNING, 100));
    UNTIL(progress_of(ticket).done == 100);
    node_close(&one);
    UNTIL(two.seen[VELUM_F_SCATTER] == 1);
    CHECK_EQ(progress_of(ticket).done, 100);
    second = spec_at(&two);
    CHECK(first.job == second.job && first.created_ms == second.created_ms);
    CHECK(first.slices == second.slices);
    send_done(&two, 41538);
    CHECK_EQ(velum_as_i64(outcome_of(ticket).value), 41538);
    finish();
}

static void test_a_node_that_leaves_gives_jobs_back(void) {
    velum_ticket ticket;
    attach(MEMBER_ID);
    add_second_node();
    ticket = scatter(NULL);
    UNTIL(one.seen[VELUM_F_SCATTER] == 1);
    send_error(&one, node_frame(&one, VELUM_F_SCATTER), VELUM_E_LEAVING, "");
    velum_hub_flush(one.hub);
    a_while();
    CHECK_EQ(one.seen[VELUM_F_SCATTER], 1); /* not to the same one again */
    one.refuse = (uint16_t)-VELUM_E_LEAVING;
    velum_hub_drop(one.hub, one.link, 0, NULL);
    UNTIL(two.seen[VELUM_F_SCATTER] == 1);
    send_done(&two, 41538);
    CHECK_EQ(outcome_of(ticket).error, 0);
    finish();
}

/* Nodes that only close the link are given up; a job that goes on outlives any number. */
static void test_jobs_and_many_losses(void) {
    velum_ticket ticket;
    attach(MEMBER_ID);
    ticket = scatter(NULL);
    for (unsigned sent = 1; sent <= 9; sent++) {
        UNTIL(one.seen[VELUM_F_SCATTER] == sent && one.link != 0);
        if (sent <= 6) {
            send_record(&one, record_of(&one, VELUM_JOB_RUNNING, 10 * sent));
            UNTIL(progress_of(ticket).done == 10 * sent);
        }
        velum_hub_drop(one.hub, one.link, (uint16_t)-VELUM_E_SYSTEM, NULL);
    }
    CHECK_EQ(outcome_of(ticket).error, VELUM_E_LOST);
    finish();
}

/* ---- stopping ---- */

static void test_cancel(void) {
    velum_ticket ticket;
    uint64_t job;
    attach(MEMBER_ID);
    ticket = scatter(NULL);
    CHECK_EQ(velum_cancel(mesh, ticket), 0); /* nobody has heard of it */
    CHECK_EQ(outcome_of(ticket).error, VELUM_E_CANCELLED);
    a_while();
    CHECK_EQ(one.nframes, 0);
    ticket = scatter(NULL);
    UNTIL(one.seen[VELUM_F_SCATTER] == 1);
    job = spec_at(&one).job;
    CHECK_EQ(velum_cancel(mesh, ticket), 0);
    CHECK_EQ(velum_cancel(mesh, ticket), 0); /* it is over already */
    node_serve(&one, PATIENCE);              /* the program need not serve for that */
    CHECK_EQ(one.seen[VELUM_F_JOB_ASK], 1);
    expect_cancel(&one, ticket, job);
    send_ended(&one, VELUM_JOB_CANCELLED, VELUM_E_CANCELLED, "by its client"); /* for nobody */
    a_while();
    CHECK_EQ(outcome_of(ticket).error, VELUM_E_CANCELLED);
    CHECK_EQ(one.nframes, 2);
    finish();
}

/* The mesh runs it, and there is no node at the moment that could be told. */
static void test_cancel_without_a_node(void) {
    velum_outcome outcome;
    velum_ticket ticket;
    uint64_t job;
    attach(MEMBER_ID);
    add_second_node();
    two.refuse = (uint16_t)-VELUM_E_CAPACITY;
    ticket = scatter(NULL);
    UNTIL(one.seen[VELUM_F_SCATTER] == 1);
    job = spec_at(&one).job;
    node_close(&one);
    UNTIL(velum_home(mesh).port == 0);
    CHECK_EQ(velum_cancel(mesh, ticket), 0);
    CHECK_EQ(velum_cancel(mesh, ticket), 0);
    CHECK_EQ(velum_poll(mesh, ticket, &outcome), 0);
    two.refuse = 0;
    UNTIL(two.seen[VELUM_F_JOB_ASK] == 1);
    expect_cancel(&two, ticket, job);
    CHECK_EQ(outcome_of(ticket).error, VELUM_E_CANCELLED);
    CHECK_EQ(two.seen[VELUM_F_SCATTER], 0);
    finish();
}

static void test_limits(void) {
    const velum_scatter_options options = {.limit_ms = 100};
    velum_ticket ticket;
    uint64_t job;
    attach(MEMBER_ID);
    ticket = scatter(&options);
    UNTIL(one.seen[VELUM_F_SCATTER] == 1);
    job = spec_at(&one).job;
    CHECK_EQ(spec_at(&one).limit_ms, 100);
    CHECK_EQ(outcome_of(ticket).error, VELUM_E_DEADLINE); /* the node has not said so in time */
    UNTIL(one.seen[VELUM_F_JOB_ASK] == 1);
    expect_cancel(&one, ticket, job);
    finish();
}

static void test_close_leaves_it_to_the_mesh(void) {
    listener l = {0, 0};
    velum_ticket ticket;
    attach(MEMBER_ID);
    ticket = scatter(NULL);
    CHECK_EQ(velum_on_done(mesh, ticket, on_done, &l), 0);
    UNTIL(one.seen[VELUM_F_SCATTER] == 1);
    velum_close(mesh);
    mesh = NULL;
    UNTIL(one.closed == 1);
    CHECK_EQ(l.calls, 1);
    CHECK_EQ(one.seen[VELUM_F_JOB_ASK], 0);
    finish();
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    primes = guest_read(argv[1], "primes");
    types = guest_read(argv[1], "types");
    floats = guest_read(argv[1], "floats");
    sum = guest_read(argv[1], "sum");
    test_a_scatter(MEMBER_ID);
    test_a_scatter(0);
    test_options();
    test_bad_options();
    test_bad_functions_and_ranges();
    test_failures();
    test_broken_records();
    test_a_callback();
    test_a_lost_node_loses_no_job();
    test_a_node_that_leaves_gives_jobs_back();
    test_jobs_and_many_losses();
    test_cancel();
    test_cancel_without_a_node();
    test_limits();
    test_close_leaves_it_to_the_mesh();
    free(primes.bytes);
    free(types.bytes);
    free(floats.bytes);
    free(sum.bytes);
    return check_report("client_jobs");
}
