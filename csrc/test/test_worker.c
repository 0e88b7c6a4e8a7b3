/* test_worker: a worker in a process of its own, driven over a socket pair like a node drives it:
 * answers, every kind of refusal with its text, cancel, deadline, queue, progress, and a link that
 * closes in mid-run; of leases what takes time: slices that do not end, reports meanwhile, a
 * million slices. Usage: test_worker FOLDER-OF-GUESTS */
#define _DEFAULT_SOURCE 1

#include "../worker.h"

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "counter_guest.h"
#include "guest_file.h"
#include "lease_book.h"

#include "../include/velum_port.h"

#define PATIENCE_US    (20 * 1000000)
#define CANCEL_US      100000
#define EVENTS         16
#define TEST_NODE      7
#define MODULE_ABSENT  "module that nobody has"
#define BUDGET_BYTES   ((size_t)8 * 1024 * 1024)
#define FRAME_BYTES    1200
#define KEEP_MS        250
#define REPLY_TEXT_MAX 400

static const char *folder;

/* ---- the worker's process ---- */

typedef struct {
    velum_hub *hub;
    bool closed;
} child;

/* Answers QUERY, so that the other side can see that events reach the owner during a run. */
static void child_other(void *user, const velum_event *event) {
    child *c = user;
    if (event->kind == VELUM_EV_CLOSED) c->closed = true;
    if (event->kind != VELUM_EV_FRAME || event->u.frame.header.type != VELUM_F_QUERY) return;
    uint8_t frame[VELUM_HEADER_BYTES + 2];
    velum_wire_put_header(frame, VELUM_F_ANSWER, 2, event->u.frame.header.correlation);
    memcpy(frame + VELUM_HEADER_BYTES, "{}", 2);
    CHECK_EQ(velum_hub_send(c->hub, event->link, frame, sizeof frame), VELUM_OK);
}

/* Serves until the link closes; the exit status. */
static int child_main(int fd) {
    child c = {NULL, false};
    velum_hub_config hub = {.links_max = 2, .module_bytes = BUDGET_BYTES, .answer_calls = true};
    velum_worker_config config = {TEST_NODE, 256, KEEP_MS, child_other, &c};
    velum_hello hello = {.role = VELUM_ROLE_WORKER, .slots = 1};
    velum_event events[EVENTS];
    velum_worker *worker = NULL;
    velum_handle link;

    if (velum_hub_open(&c.hub, &hub) != 0 || velum_hub_identity(c.hub, &hello) != 0) return 3;
    if (velum_worker_open(&worker, c.hub, &config) != 0) return 3;
    if (velum_hub_adopt(c.hub, fd, 0, &link) != 0) return 3;
    while (!c.closed) {
        int n = velum_hub_poll(c.hub, velum_worker_sleep_us(worker), events, EVENTS);
        if (n < 0) return 4;
        for (int i = 0; i < n; i++) {
            velum_worker_event(worker, &events[i]);
        }
        (void)velum_worker_run(worker);
    }
    velum_worker_close(worker);
    velum_hub_close(c.hub);
    return check_failed_count == 0 ? 0 : 5;
}

/* ---- the node's side ---- */

typedef struct {
    velum_hub *hub;
    velum_handle link;
    pid_t pid;
    uint64_t correlation;
    unsigned progress;          /* PROGRESS frames seen of the last task that sent one */
    uint64_t progress_of, done; /* that task, and what its last one said */
    bool answered;              /* an ANSWER was seen */
    lease_book *book;           /* of the lease under way, or NULL */
} node;

typedef struct {
    uint64_t correlation;
    int error; /* 0: a result */
    uint16_t from;
    velum_result result;
    char text[REPLY_TEXT_MAX];
} reply;

/* Takes one event in; true if it is a task's end, told in *out. */
static bool take_event(node *n, const velum_event *event, reply *out) {
    const velum_frame *frame = &event->u.frame;
    velum_progress progress;
    velum_error error;

    if (event->kind != VELUM_EV_FRAME) return false;
    if (n->book != NULL && book_take(n->book, frame)) return false;
    out->correlation = frame->header.correlation;
    switch (frame->header.type) {
    case VELUM_F_RESULT:
        CHECK(velum_wire_get_result(frame->payload, frame->header.length, &out->result) > 0);
        out->error = 0;
        out->from = out->result.node;
        out->text[0] = '\0';
        return true;
    case VELUM_F_ERROR:
        CHECK(velum_wire_get_error(frame->payload, frame->header.length, &error) > 0);
        out->error = -(int)error.code;
        out->from = error.node;
        (void)snprintf(out->text, sizeof out->text, "%.*s", (int)error.text.size, error.text.data);
        return true;
    case VELUM_F_PROGRESS:
        CHECK(velum_wire_get_progress(frame->payload, frame->header.length, &progress) > 0);
        if (n->progress_of != out->correlation) {
            n->progress = 0;
            n->done = 0;
        }
        CHECK(progress.done > n->done);
        n->progress_of = out->correlation;
        n->done = progress.done;
        n->progress++;
        return false;
    default:
        if (frame->header.type == VELUM_F_ANSWER) n->answered = true;
        return false;
    }
}

/* Polls once, for at most `timeout_us`; true if a task's end came. */
static bool poll_once(node *n, int64_t timeout_us, reply *out) {
    velum_event event;
    int count = velum_hub_poll(n->hub, timeout_us, &event, 1);
    CHECK(count >= 0);
    return count == 1 && take_event(n, &event, out);
}

/* The next end of a task. */
static reply await(node *n) {
    reply out;
    int64_t until = velum_port_now_us() + PATIENCE_US;
    memset(&out, 0, sizeof out);
    while (velum_port_now_us() < until) {
        if (poll_once(n, 100000, &out)) return out;
    }
    printf("no answer in time\n");
    exit(1);
}

static void start_node(node *n) {
    velum_hub_config config = {.links_max = 2, .module_bytes = BUDGET_BYTES, .answer_calls = false};
    velum_hello hello = {.role = VELUM_ROLE_NODE, .slots = 1, .id = TEST_NODE};
    velum_event event;
    int pair[2];

    memset(n, 0, sizeof *n);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    (void)fflush(stdout);
    n->pid = fork();
    if (n->pid == 0) {
        close(pair[0]);
        check_failed_count = 0;
        exit(child_main(pair[1]));
    }
    close(pair[1]);
    CHECK_EQ(velum_hub_open(&n->hub, &config), VELUM_OK);
    CHECK_EQ(velum_hub_identity(n->hub, &hello), VELUM_OK);
    CHECK_EQ(velum_hub_adopt(n->hub, pair[0], 0, &n->link), VELUM_OK);
    CHECK_EQ(velum_hub_poll(n->hub, PATIENCE_US, &event, 1), 1);
    CHECK_EQ(event.kind, VELUM_EV_OPENED);
    CHECK_EQ(event.u.opened.hello.role, VELUM_ROLE_WORKER);
}

/* Closes the link and waits for the process: it must end well, and at once. */
static void stop_node(node *n) {
    int status = -1;
    int64_t begun = velum_port_now_us();
    velum_hub_close(n->hub);
    CHECK_EQ(waitpid(n->pid, &status, 0), n->pid);
    CHECK_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0);
    CHECK(velum_port_now_us() - begun < PATIENCE_US / 10);
}

static velum_value i32(int32_t v) {
    velum_value value = {VELUM_I32, (uint32_t)v};
    return value;
}

static void add_bytes(node *n, const void *bytes, size_t size, velum_task *task) {
    CHECK_EQ(velum_modules_add(velum_hub_modules(n->hub), bytes, size, task->hash), VELUM_OK);
}

static velum_task new_task(const char *function, const velum_value *args, size_t nargs) {
    velum_task task;
    memset(&task, 0, sizeof task);
    task.flags = VELUM_TASK_PLACED;
    task.name = (velum_text){function, (uint16_t)strlen(function)};
    task.nargs = (uint8_t)nargs;
    for (size_t i = 0; i < nargs; i++) {
        task.args[i] = args[i];
    }
    return task;
}

/* A task of a guest in tests/guests, which the node then holds. */
static velum_task guest_task(node *n, const char *guest, const char *function,
                             const velum_value *args, size_t nargs) {
    velum_task task = new_task(function, args, nargs);
    guest_file file = guest_read(folder, guest);
    add_bytes(n, file.bytes, file.size, &task);
    free(file.bytes);
    return task;
}

static uint64_t send_task(node *n, const velum_task *task) {
    uint8_t frame[FRAME_BYTES];
    int size = velum_wire_put_task(frame, sizeof frame, ++n->correlation, task);
    CHECK(size > 0);
    CHECK_EQ(velum_hub_send(n->hub, n->link, frame, (size_t)size), VELUM_OK);
    velum_hub_flush(n->hub);
    return n->correlation;
}

static void send_cancel(node *n, uint64_t correlation, int error) {
    uint8_t frame[FRAME_BYTES];
    int size = velum_wire_put_cancel(frame, sizeof frame, correlation, (uint16_t)-error);
    CHECK_EQ(velum_hub_send(n->hub, n->link, frame, (size_t)size), VELUM_OK);
    velum_hub_flush(n->hub);
}

static reply run_task(node *n, const velum_task *task) {
    uint64_t correlation = send_task(n, task);
    reply out = await(n);
    CHECK_EQ(out.correlation, (long long)correlation);
    CHECK_EQ(out.from, TEST_NODE);
    return out;
}

#define CHECK_TEXT(reply_, part) CHECK(strstr((reply_).text, part) != NULL)

/* ---- answers ---- */

static void test_results(node *n) {
    velum_value args[3] = {i32(10), i32(20), i32(30)};
    velum_task task = guest_task(n, "sum", "sum", args, 3);

    for (int i = 0; i < 3; i++) {
        reply got = run_task(n, &task);
        CHECK_EQ(got.error, VELUM_OK);
        CHECK_EQ(got.result.nvalues, 1);
        CHECK_EQ(got.result.values[0].type, VELUM_I32);
        CHECK_EQ(got.result.values[0].bits, 60);
        CHECK_EQ(got.result.health.slots, 1);
    }
    task = guest_task(n, "types", "nothing", NULL, 0);
    CHECK_EQ(run_task(n, &task).result.nvalues, 0);
    velum_value range[2] = {i32(0), i32(100000)};
    task = guest_task(n, "primes", "count_primes", range, 2);
    reply got = run_task(n, &task);
    CHECK_EQ(got.result.values[0].bits, 9592);
    CHECK(got.result.run_us > 0);
}

static void test_refusals(node *n) {
    static const char malformed[] = "this is no module";
    velum_value args[2] = {i32(1), {VELUM_I64, 2}};
    velum_task task = guest_task(n, "sum", "none", NULL, 0);
    reply got = run_task(n, &task);
    CHECK_EQ(got.error, VELUM_E_NO_EXPORT);
    CHECK_TEXT(got, "none");

    task = guest_task(n, "sum", "sum", args, 2);
    got = run_task(n, &task);
    CHECK_EQ(got.error, VELUM_E_SIGNATURE);
    CHECK_TEXT(got, "sum takes (i32, i32, i32), given (i32, i64)");

    task = new_task("run", NULL, 0);
    add_bytes(n, malformed, sizeof malformed, &task);
    for (int i = 0; i < 2; i++) { /* the second time from memory */
        got = run_task(n, &task);
        CHECK_EQ(got.error, VELUM_E_MODULE_MALFORMED);
        CHECK_TEXT(got, "at byte 0");
    }
    task = guest_task(n, "data_outside", "run", NULL, 0);
    got = run_task(n, &task);
    CHECK_EQ(got.error, VELUM_E_TRAP_MEMORY);
    CHECK_TEXT(got, "data segment out of bounds");

    for (int i = 0; i < 2; i++) {
        task = guest_task(n, "uncompilable", "run", args, 1);
        got = run_task(n, &task);
        CHECK_EQ(got.error, VELUM_E_MODULE_COMPILE);
        CHECK_TEXT(got, "could not compile the module: slot usage count overflow");
    }
    task = new_task("run", NULL, 0);
    memcpy(task.hash, MODULE_ABSENT, sizeof MODULE_ABSENT);
    CHECK_EQ(run_task(n, &task).error, VELUM_E_MODULE_MISSING);
}

/* A function whose body does not validate: the text says where. */
static void test_invalid_text(node *n) {
    static const uint8_t invalid[] = {
        0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, 0x01, 0x05, 0x01, 0x60, 0x00,
        0x01, 0x7f, 0x03, 0x02, 0x01, 0x00, 0x0a, 0x04, 0x01, 0x02, 0x00, 0x0b,
    };
    velum_task task = new_task("run", NULL, 0);
    add_bytes(n, invalid, sizeof invalid, &task);
    reply got = run_task(n, &task);
    CHECK_EQ(got.error, VELUM_E_MODULE_INVALID);
    CHECK_TEXT(got, "in function 0");
    CHECK_TEXT(got, "at byte 24");
}

static void test_traps_and_limits(node *n) {
    velum_value args[2] = {i32(1), i32(0)};
    velum_task task = guest_task(n, "traps", "divide", args, 2);
    reply got = run_task(n, &task);
    CHECK_EQ(got.error, VELUM_E_TRAP_DIVIDE_BY_ZERO);
    CHECK_TEXT(got, "trap: integer divide by zero in divide");

    task = guest_task(n, "recurse", "forever", args, 1);
    CHECK_EQ(run_task(n, &task).error, VELUM_E_TRAP_STACK);

    task = guest_task(n, "loop", "forever", NULL, 0);
    task.fuel = 1000;
    got = run_task(n, &task);
    CHECK_EQ(got.error, VELUM_E_FUEL);
    CHECK_TEXT(got, "used up its fuel in forever");

    task = guest_task(n, "bigmem", "run", NULL, 0);
    got = run_task(n, &task);
    CHECK_EQ(got.error, VELUM_E_GUEST_MEMORY);
    CHECK_TEXT(got, "starts with 16384 pages of 64 KiB, its limit is 256");

    task = guest_task(n, "grow", "grow_until_refused", NULL, 0);
    CHECK_EQ(run_task(n, &task).result.values[0].bits, 256);
    task.pages = 5;
    CHECK_EQ(run_task(n, &task).result.values[0].bits, 5);
    task.pages = 1000; /* the node's limit holds */
    CHECK_EQ(run_task(n, &task).result.values[0].bits, 256);
}

static void test_malformed_task(node *n) {
    uint8_t frame[VELUM_HEADER_BYTES + 3] = {0};
    velum_wire_put_header(frame, VELUM_F_TASK, 3, ++n->correlation);
    CHECK_EQ(velum_hub_send(n->hub, n->link, frame, sizeof frame), VELUM_OK);
    reply got = await(n);
    CHECK_EQ(got.error, VELUM_E_PAYLOAD);
    CHECK_EQ(got.correlation, (long long)n->correlation);
}

/* ---- while a guest runs ---- */

/* An endless loop is stopped soon after CANCEL. The machine may be busy: the best of a few counts.
 */
static void test_cancel_running(node *n) {
    velum_task task = guest_task(n, "loop", "forever", NULL, 0);
    int64_t best_us = PATIENCE_US;

    for (int i = 0; i < 5; i++) {
        reply got;
        uint64_t correlation = send_task(n, &task);
        CHECK(!poll_once(n, 20000, &got));
        int64_t begun = velum_port_now_us();
        send_cancel(n, correlation, i == 0 ? VELUM_E_DEADLINE : VELUM_E_CANCELLED);
        got = await(n);
        int64_t took = velum_port_now_us() - begun;
        if (took < best_us) best_us = took;
        CHECK_EQ(got.error, i == 0 ? VELUM_E_DEADLINE : VELUM_E_CANCELLED);
        CHECK_EQ(got.correlation, (long long)correlation);
    }
    CHECK(best_us < CANCEL_US);
    send_cancel(n, n->correlation, VELUM_E_CANCELLED); /* it is over: nothing happens */
}

static void test_timeout(node *n) {
    velum_task task = guest_task(n, "loop", "forever", NULL, 0);
    task.timeout_ms = 60;
    int64_t begun = velum_port_now_us();
    reply got = run_task(n, &task);
    CHECK_EQ(got.error, VELUM_E_DEADLINE);
    CHECK_TEXT(got, "timeout of 60 ms in forever");
    CHECK(velum_port_now_us() - begun >= 60000);
    CHECK(velum_port_now_us() - begun < PATIENCE_US / 10);

    velum_value one = i32(1);
    task = guest_task(n, "add", "run", &one, 1);
    task.timeout_ms = 10000; /* a task that is done in time knows nothing of it */
    CHECK_EQ(run_task(n, &task).result.values[0].bits, 2);
}

/* The time of a task counts from its arrival, also while it waits behind another. */
static void test_timeout_while_waiting(node *n) {
    velum_value one = i32(1);
    velum_task loop = guest_task(n, "loop", "forever", NULL, 0);
    loop.timeout_ms = 60;
    velum_task quick = guest_task(n, "add", "run", &one, 1);
    quick.timeout_ms = 20;
    uint64_t first = send_task(n, &loop);
    uint64_t second = send_task(n, &quick);
    reply got = await(n);
    CHECK_EQ(got.correlation, (long long)first);
    got = await(n);
    CHECK_EQ(got.correlation, (long long)second);
    CHECK_EQ(got.error, VELUM_E_DEADLINE);
    CHECK_TEXT(got, "waited too long");
}

/* A task that asks to be scheduled is not for a worker. */
static void test_unplaced(node *n) {
    velum_value one = i32(1);
    velum_task task = guest_task(n, "add", "run", &one, 1);
    task.flags = 0;
    CHECK_EQ(run_task(n, &task).error, VELUM_E_UNEXPECTED);
}

static void test_progress_and_events(node *n) {
    uint8_t frame[FRAME_BYTES];
    velum_text topic = {"x", 1};
    velum_task task = guest_task(n, "loop", "forever", NULL, 0);
    task.timeout_ms = 900;
    n->answered = false;
    uint64_t correlation = send_task(n, &task);
    int size = velum_wire_put_query(frame, sizeof frame, 1, topic);
    CHECK_EQ(velum_hub_send(n->hub, n->link, frame, (size_t)size), VELUM_OK);
    CHECK_EQ(await(n).error, VELUM_E_DEADLINE);
    CHECK_EQ(n->progress_of, (long long)correlation);
    CHECK(n->progress >= 1 && n->progress <= 3);
    CHECK(n->answered);
}

/* Tasks wait their turn; one that is cancelled while it waits is answered at once; too many are
 * refused; the rest run in order. */
static void test_queue(node *n) {
    velum_value arg = i32(21);
    velum_task loop = guest_task(n, "loop", "forever", NULL, 0);
    velum_task quick = guest_task(n, "add", "run", &arg, 1);
    reply got;

    uint64_t first = send_task(n, &loop);
    CHECK(!poll_once(n, 20000, &got));
    uint64_t second = send_task(n, &quick);
    for (unsigned i = 1; i < VELUM_WORKER_QUEUE_MAX; i++) {
        (void)send_task(n, &quick);
    }
    uint64_t last = n->correlation;
    uint64_t too_many = send_task(n, &quick);
    got = await(n);
    CHECK_EQ(got.error, VELUM_E_BUSY);
    CHECK_EQ(got.correlation, (long long)too_many);
    send_cancel(n, second, VELUM_E_CANCELLED);
    got = await(n);
    CHECK_EQ(got.error, VELUM_E_CANCELLED);
    CHECK_EQ(got.correlation, (long long)second);
    send_cancel(n, first, VELUM_E_CANCELLED);
    CHECK_EQ(await(n).correlation, (long long)first);
    for (uint64_t expected = second + 1; expected <= last; expected++) {
        got = await(n);
        CHECK_EQ(got.correlation, (long long)expected);
        CHECK_EQ(got.result.values[0].bits, 42);
        CHECK_EQ(got.result.health.queue, (long long)(last - expected));
    }
}

static void test_link_closed_in_mid_run(void) {
    node n;
    reply got;
    start_node(&n);
    velum_task loop = guest_task(&n, "loop", "forever", NULL, 0);
    velum_task quick = guest_task(&n, "sum", "sum", NULL, 0);
    (void)send_task(&n, &loop);
    (void)send_task(&n, &quick);
    CHECK(!poll_once(&n, 20000, &got));
    stop_node(&n);
}

/* ---- leases ---- */

static uint64_t send_lease(node *n, const velum_lease *lease) {
    static lease_book book;
    uint8_t frame[FRAME_BYTES];
    int size = velum_wire_put_lease(frame, sizeof frame, ++n->correlation, lease);
    CHECK(size > 0);
    book_begin(&book, n->correlation);
    n->book = &book;
    CHECK_EQ(velum_hub_send(n->hub, n->link, frame, (size_t)size), VELUM_OK);
    velum_hub_flush(n->hub);
    return n->correlation;
}

static void send_trim(node *n, uint64_t correlation, uint32_t end) {
    uint8_t frame[FRAME_BYTES];
    int size = velum_wire_put_trim(frame, sizeof frame, correlation, end);
    CHECK_EQ(velum_hub_send(n->hub, n->link, frame, (size_t)size), VELUM_OK);
    velum_hub_flush(n->hub);
}

/* Polls until so many slices are known, or the lease has ended. */
static const lease_book *await_slices(node *n, uint32_t slices) {
    reply ignored;
    int64_t until = velum_port_now_us() + PATIENCE_US;
    while (!book_ended(n->book) && n->book->done + n->book->failed < slices) {
        CHECK(!poll_once(n, 100000, &ignored));
        if (velum_port_now_us() < until) continue;
        printf("no report in time\n");
        exit(1);
    }
    return n->book;
}

static const lease_book *await_end(node *n) {
    return await_slices(n, UINT32_MAX);
}

/* "hang" of the counter guest: slices of one number, of which number `at` never ends. */
static velum_lease hanging_lease(node *n, uint32_t slices, int32_t at) {
    velum_value args[3] = {i32(0), i32((int32_t)slices), i32(at)};
    velum_lease lease = new_lease("hang", args, 3, slices);
    add_bytes(n, counter_guest, sizeof counter_guest, &lease.task);
    return lease;
}

/* The time of a slice is up, and the next has its own. */
static void test_slice_timeout(node *n) {
    velum_lease lease = hanging_lease(n, 10, 4);
    lease.task.timeout_ms = 300;
    int64_t begun = velum_port_now_us();
    (void)send_lease(n, &lease);
    const lease_book *book = await_end(n);
    int64_t took = velum_port_now_us() - begun;
    CHECK(book->last);
    CHECK_EQ(book->done, 9);
    CHECK_EQ(book->value[4], -VELUM_E_DEADLINE);
    CHECK(strstr(book->text, "timeout of 300 ms in hang") != NULL);
    CHECK(took >= 300000 && took < PATIENCE_US / 10);
    CHECK(book->busy_us >= 250000 && book->busy_us <= (uint64_t)took);
    CHECK(n->progress_of != book->correlation); /* that is for tasks */
}

/* What is finished does not wait behind a slice that is not; then CANCEL ends that one. */
static void test_report_and_cancel_in_mid_slice(node *n) {
    velum_lease lease = hanging_lease(n, 100, 40);
    int64_t best_us = PATIENCE_US;
    for (int i = 0; i < 5; i++) {
        uint64_t correlation = send_lease(n, &lease);
        CHECK_EQ(await_slices(n, 40)->done, 40);
        int64_t begun = velum_port_now_us();
        send_cancel(n, correlation, VELUM_E_CANCELLED);
        CHECK_EQ(await_end(n)->error, VELUM_E_CANCELLED);
        if (velum_port_now_us() - begun < best_us) best_us = velum_port_now_us() - begun;
        CHECK_EQ(n->book->done, 40);
    }
    CHECK(best_us < CANCEL_US);
}

/* TRIM behind, at and before the slice that runs: it ends with that slice at the latest. */
static void test_trim_in_mid_slice(node *n) {
    static const uint32_t ends[] = {45, 41, 20};
    for (int i = 0; i < 3; i++) {
        velum_lease lease = hanging_lease(n, 100, 40);
        lease.task.timeout_ms = 100;
        uint64_t correlation = send_lease(n, &lease);
        CHECK_EQ(await_slices(n, 40)->done, 40);
        send_trim(n, correlation, ends[i]);
        const lease_book *book = await_end(n);
        CHECK(book->last);
        CHECK_EQ(book->failed, 1);
        CHECK_EQ(book->done, ends[i] > 41 ? ends[i] - 1 : 40);
    }
}

/* A million slices that do nothing: no check is ever called in them, and yet the hub is served. The
 * machine may be busy: one time in three is enough. */
static void test_million_slices(node *n) {
    velum_value args[3] = {i32(0), i32(1000000), i32(7)};
    velum_lease lease = new_lease("sum", args, 3, 1000000);
    lease.task = guest_task(n, "sum", "sum", args, 3);
    int64_t best_us = PATIENCE_US;
    int served = 0;
    for (int i = 0; i < 3; i++) {
        uint8_t frame[FRAME_BYTES];
        n->answered = false;
        int64_t begun = velum_port_now_us();
        (void)send_lease(n, &lease);
        CHECK(await_slices(n, 1)->done < 1000000);
        int size = velum_wire_put_query(frame, sizeof frame, 1, (velum_text){"x", 1});
        CHECK_EQ(velum_hub_send(n->hub, n->link, frame, (size_t)size), VELUM_OK);
        while (!n->answered && !book_ended(n->book)) {
            (void)await_slices(n, n->book->done + 1);
        }
        if (!book_ended(n->book)) served++;
        const lease_book *book = await_end(n);
        int64_t took = velum_port_now_us() - begun;
        if (took < best_us) best_us = took;
        CHECK_EQ(book->done, 1000000);
        for (uint32_t slice = 0; slice < 1000000; slice++) {
            if (book->value[slice] != 2 * slice + 8) CHECK_EQ(book->value[slice], 2 * slice + 8);
        }
    }
    CHECK(served > 0);
    printf("worker: a million slices, best of 3: %d ns each\n", (int)(best_us / 1000));
}

static void test_link_closed_in_mid_lease(void) {
    node n;
    start_node(&n);
    velum_lease lease = hanging_lease(&n, 100, 40);
    (void)send_lease(&n, &lease);
    CHECK_EQ(await_slices(&n, 40)->done, 40);
    stop_node(&n);
}

static void test_round_trip(node *n) {
    velum_value args[3] = {i32(1), i32(2), i32(3)};
    velum_task task = guest_task(n, "sum", "sum", args, 3);
    int64_t best_us = PATIENCE_US;
    for (int i = 0; i < 2000; i++) {
        int64_t begun = velum_port_now_us();
        CHECK_EQ(run_task(n, &task).result.values[0].bits, 6);
        int64_t took = velum_port_now_us() - begun;
        if (took < best_us) best_us = took;
    }
    printf("worker: TASK round trip, best of 2,000: %d us\n", (int)best_us);
}

static void test_calibrate(void) {
    int64_t begun = velum_port_now_us();
    CHECK(velum_worker_calibrate(5) > 0);
    CHECK(velum_port_now_us() - begun >= 5000);
}

int main(int argc, char **argv) {
    node n;
    folder = argc > 1 ? argv[1] : "tests/guests";
    start_node(&n);
    test_results(&n);
    test_refusals(&n);
    test_invalid_text(&n);
    test_traps_and_limits(&n);
    test_malformed_task(&n);
    test_cancel_running(&n);
    test_timeout(&n);
    test_timeout_while_waiting(&n);
    test_unplaced(&n);
    test_progress_and_events(&n);
    test_queue(&n);
    test_slice_timeout(&n);
    test_report_and_cancel_in_mid_slice(&n);
    test_trim_in_mid_slice(&n);
    test_million_slices(&n);
    test_round_trip(&n);
    stop_node(&n);
    test_link_closed_in_mid_run();
    test_link_closed_in_mid_lease();
    test_calibrate();
    return check_report("worker");
}
