/* test_worker_lease.c: leases in the test port's world, where nothing happens between two slices
 * but what a test plans: values against guests of their own, guests with state, failures, reports
 * and their sizes, TRIM, careful leases, a peer that does not read, links that close, the kept
 * guest. What needs a clock that runs is in test_worker.c. Usage: test_worker_lease
 * FOLDER-OF-GUESTS */
#include "../worker.h"

#include "counter_guest.h"
#include "guest_file.h"
#include "lease_book.h"
#include "port/test/port_test.h"

#define EVENTS  32u
#define SECOND  INT64_C(1000000)
#define NODE_ID 7
#define BOOKS   3u
#define PAGES   256u

static const char *folder;

/* ---- a node and a worker ---- */

static struct {
    velum_hub *node, *hub; /* the node's, the worker's */
    velum_worker *worker;
    velum_handle link; /* the node's to the worker */
    velum_fd ends[2];
    int closed; /* why the worker's link did, else 0 */
    uint64_t correlation;
    unsigned results;            /* of tasks */
    uint64_t result;             /* of the last */
    unsigned strays;             /* frames of leases that were sent too long ago to have a book */
    bool reading;                /* what read_on does */
    uint64_t trim_of, cancel_of; /* what read_on sends once trim_at slices are known */
    uint32_t trim_at, trim_to;
} world;

static lease_book books[BOOKS]; /* of the leases sent last */

static void on_other(void *user, const velum_event *event) {
    (void)user;
    if (event->kind == VELUM_EV_CLOSED) world.closed = event->u.closed.error;
}

static velum_hub *open_end(uint8_t role, uint16_t id, velum_fd fd, velum_handle *link) {
    velum_hub_config config = {2, 64u * 1024u * 1024u, true, 0};
    velum_hello hello = {.role = role, .id = id, .slots = 1};
    velum_hub *hub;
    CHECK_EQ(velum_hub_open(&hub, &config), 0);
    CHECK_EQ(velum_hub_identity(hub, &hello), 0);
    CHECK_EQ(velum_hub_adopt(hub, fd, 0, link), 0);
    return hub;
}

static void serve_worker(void) {
    velum_event events[EVENTS];
    int n = velum_hub_poll(world.hub, 0, events, EVENTS);
    for (int i = 0; i < n; i++) {
        velum_worker_event(world.worker, &events[i]);
    }
}

static void serve_node(void) {
    velum_event events[EVENTS];
    int n = velum_hub_poll(world.node, 0, events, EVENTS);
    for (int i = 0; i < n; i++) {
        const velum_frame *frame = &events[i].u.frame;
        velum_result result;
        if (events[i].kind != VELUM_EV_FRAME) continue;
        if (frame->header.type == VELUM_F_RESULT) {
            CHECK(velum_wire_get_result(frame->payload, frame->header.length, &result) > 0);
            world.results++;
            world.result = result.values[0].bits;
            continue;
        }
        if (!book_take(&books[frame->header.correlation % BOOKS], frame)) world.strays++;
    }
}

/* Everything that is under way arrives; nothing is run. */
static void settle(void) {
    for (int i = 0; i < 12; i++) {
        serve_node();
        serve_worker();
    }
}

static void open_world(uint32_t keep_ms) {
    velum_worker_config config = {NODE_ID, PAGES, keep_ms, on_other, NULL};
    velum_handle link;
    velum_test_reset(1);
    memset(&world, 0, sizeof world);
    memset(books, 0, sizeof books);
    velum_test_pair(world.ends);
    world.node = open_end(VELUM_ROLE_NODE, NODE_ID, world.ends[0], &world.link);
    world.hub = open_end(VELUM_ROLE_WORKER, 0, world.ends[1], &link);
    CHECK_EQ(velum_worker_open(&world.worker, world.hub, &config), 0);
    settle();
}

static void end_world(void) {
    CHECK_EQ(world.strays, 0);
    velum_worker_close(world.worker);
    velum_hub_close(world.hub);
    velum_hub_close(world.node);
    CHECK_EQ(velum_test_open(), 0);
    CHECK_EQ(velum_test_misuse(), 0);
}

/* Runs what can be run, and brings the answers home. */
static void run_all(void) {
    while (velum_worker_run(world.worker))
        settle();
    settle();
}

static void send_bytes(const uint8_t *frame, int n) {
    CHECK(n > 0);
    CHECK_EQ(velum_hub_send(world.node, world.link, frame, (size_t)n), 0);
}

static lease_book *send_lease(const velum_lease *lease) {
    uint8_t frame[VELUM_HEADER_BYTES + 1100];
    lease_book *book = &books[++world.correlation % BOOKS];
    book_begin(book, world.correlation);
    send_bytes(frame, velum_wire_put_lease(frame, sizeof frame, world.correlation, lease));
    return book;
}

static void send_task(const velum_task *task) {
    uint8_t frame[VELUM_HEADER_BYTES + 1100];
    send_bytes(frame, velum_wire_put_task(frame, sizeof frame, ++world.correlation, task));
}

static void send_trim(uint64_t correlation, uint32_t end) {
    uint8_t frame[VELUM_HEADER_BYTES + 4];
    send_bytes(frame, velum_wire_put_trim(frame, sizeof frame, correlation, end));
}

static void send_cancel(uint64_t correlation) {
    uint8_t frame[VELUM_HEADER_BYTES + 2];
    send_bytes(frame, velum_wire_put_cancel(frame, sizeof frame, correlation,
                                            (uint16_t)-VELUM_E_CANCELLED));
}

static lease_book *run_lease(const velum_lease *lease) {
    lease_book *book = send_lease(lease);
    settle();
    run_all();
    CHECK(book_ended(book));
    return book;
}

/* ---- leases of guests ---- */

static velum_value i32(int32_t v) {
    return (velum_value){VELUM_I32, (uint32_t)v};
}

static velum_value i64(int64_t v) {
    return (velum_value){VELUM_I64, (uint64_t)v};
}

/* The node holds the module from now on. */
static void hold(const uint8_t *module, size_t n, velum_lease *lease) {
    CHECK_EQ(velum_modules_add(velum_hub_modules(world.node), module, n, lease->task.hash), 0);
}

static velum_lease guest_lease(const guest_file *file, const char *function, velum_value start,
                               velum_value end, velum_value extra, uint32_t slices) {
    velum_value args[3] = {start, end, extra};
    velum_lease lease = new_lease(function, args, extra.type == 0 ? 2 : 3, slices);
    hold(file->bytes, file->size, &lease);
    return lease;
}

static const velum_value none;

static velum_lease counter_lease(const char *function, uint32_t slices) {
    velum_value args[3] = {i32(0), i32((int32_t)slices), i32(-1)};
    bool three = strcmp(function, "trap") == 0 || strcmp(function, "hang") == 0;
    velum_lease lease = new_lease(function, args, three ? 3 : 2, slices);
    hold(counter_guest, sizeof counter_guest, &lease);
    return lease;
}

/* sum(start, end, 0) of slices of one number each: no state, and next to no time. */
static velum_lease quick_lease(uint32_t slices) {
    guest_file file = guest_read(folder, "sum");
    velum_lease lease = guest_lease(&file, "sum", i32(0), i32((int32_t)slices), i32(0), slices);
    free(file.bytes);
    return lease;
}

static void check_quick(const lease_book *book, uint32_t first, uint32_t end) {
    CHECK_EQ(book->done, end - first);
    for (uint32_t i = first; i < end; i++) {
        if (book->value[i] != 2 * i + 1) CHECK_EQ(book->value[i], 2 * i + 1);
    }
}

/* ---- values ---- */

static void test_values_are_those_of_single_calls(void) {
    const struct {
        const char *guest, *function;
        velum_value start, end, extra;
        uint32_t slices, first, count;
        uint64_t fuel;
    } cases[] = {
        {"primes", "count_primes", i32(0), i32(20000), none, 37, 0, 37, 0},
        {"primes", "count_primes", i32(-50), i32(20000), none, 64, 5, 20, 0},
        {"pi", "pi_hits", i32(-1000), i32(1000), none, 7, 0, 7, 0},
        {"floats", "harmonic", i32(0), i32(1000), none, 10, 0, 10, 0},
        {"floats", "harmonic32", i32(0), i32(1000), none, 10, 9, 1, 0},
        {"sum", "sum", i32(INT32_MIN), i32(INT32_MAX), i32(5), 9, 0, 9, 0},
        {"types", "add_i64", i64(INT64_MIN), i64(INT64_MAX), none, 11, 0, 11, 0},
        {"search", "search", i32(0), i32(3), none, 3, 0, 3, 0},
        {"traps", "remainder", i32(-5), i32(5), none, 10, 0, 10, 0},
        {"traps", "divide64", i64(-5), i64(5), none, 10, 2, 6, 0},
        {"primes", "count_primes", i32(0), i32(300), none, 300, 0, 300, 2}, /* fuel: some fail */
        {"primes", "count_primes", i32(0), i32(4000), none, 40, 0, 40, 250},
        {"grow", "store", i32(0), i32(1), none, 1, 0, 0, 0}, /* the end of the list */
    };
    open_world(0);
    for (size_t i = 0; cases[i].count > 0; i++) {
        guest_file file = guest_read(folder, cases[i].guest);
        velum_lease lease = guest_lease(&file, cases[i].function, cases[i].start, cases[i].end,
                                        cases[i].extra, cases[i].slices);
        lease.first = cases[i].first;
        lease.count = cases[i].count;
        lease.task.fuel = cases[i].fuel;
        const lease_book *book = run_lease(&lease);
        CHECK(book->last);
        CHECK(cases[i].fuel == 0 || (book->done > 0 && book->failed > 0));
        CHECK(book->reports <= 2); /* values and failures, however they alternate */
        book_check(book, &lease, lease.first + lease.count, file.bytes, file.size);
        free(file.bytes);
    }
    end_world();
}

/* Whatever a slice leaves behind, the next does not see it; nor does the next lease. */
static void test_guests_with_state(void) {
    static const char *const functions[] = {"global", "memory", "grow", "trap", "hang", "global"};
    for (uint32_t keep_ms = 0; keep_ms <= 250; keep_ms += 250) {
        open_world(keep_ms);
        for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
            velum_lease lease = counter_lease(functions[i], 20);
            const lease_book *book = run_lease(&lease);
            CHECK(book->last);
            CHECK_EQ(book->done, 20);
            book_check(book, &lease, 20, counter_guest, sizeof counter_guest);
        }
        end_world();
    }
}

/* A slice that traps is told by its number, code and text, and the rest is as if it had not. */
static void test_a_slice_that_traps(void) {
    velum_lease lease;
    open_world(0);
    lease = counter_lease("trap", 20);
    lease.task.args[2] = i32(7);
    const lease_book *book = run_lease(&lease);
    CHECK(book->last);
    CHECK_EQ(book->done, 19);
    CHECK_EQ(book->failed, 1);
    CHECK_EQ(book->value[7], -VELUM_E_TRAP_UNREACHABLE);
    CHECK(strstr(book->text, "unreachable executed in trap") != NULL);
    book_check(book, &lease, 20, counter_guest, sizeof counter_guest);

    lease.task.args[2] = i32(19); /* the last one, then the first of the next lease */
    CHECK_EQ(run_lease(&lease)->value[19], -VELUM_E_TRAP_UNREACHABLE);
    lease.task.args[2] = i32(0);
    book = run_lease(&lease);
    CHECK_EQ(book->value[0], -VELUM_E_TRAP_UNREACHABLE);
    CHECK_EQ(book->value[1], 16);
    end_world();
}

/* An endless slice ends with its fuel, and each slice has its own. */
static void test_fuel_is_of_one_slice(void) {
    velum_lease lease;
    open_world(0);
    lease = counter_lease("hang", 5);
    lease.task.args[2] = i32(2);
    lease.task.fuel = 100;
    const lease_book *book = run_lease(&lease);
    CHECK_EQ(book->done, 4);
    CHECK_EQ(book->value[2], -VELUM_E_FUEL);
    CHECK(strstr(book->text, "used up its fuel in hang") != NULL);

    lease = quick_lease(1000); /* a guest without state: 1 unit a call */
    lease.task.fuel = 1;
    CHECK_EQ(run_lease(&lease)->done, 1000);
    end_world();
}

/* More failures than a report holds. */
static void test_many_failures(void) {
    velum_lease lease;
    open_world(0);
    lease = quick_lease(5000);
    lease.task.fuel = 1;
    CHECK_EQ(run_lease(&lease)->done, 5000);
    lease = counter_lease("global", 5000); /* takes two */
    lease.task.fuel = 1;
    const lease_book *book = run_lease(&lease);
    CHECK(book->last);
    CHECK_EQ(book->failed, 5000);
    CHECK(book->reports > 10 && book->largest > 100);
    end_world();
}

/* ---- what is wrong with the whole lease ---- */

static void test_refusals(void) {
    static const struct {
        const char *guest, *function;
        int error;
        const char *text;
    } cases[] = {
        {"sum", "none", VELUM_E_NO_EXPORT, "none"},
        {"sum", "sum", VELUM_E_SIGNATURE, "sum takes (i32, i32, i32), given (i32, i32)"},
        {"grow", "store", VELUM_E_SIGNATURE, "store returns no value"},
        {"bigmem", "run", VELUM_E_GUEST_MEMORY, "its limit is 256"},
        {"data_outside", "run", VELUM_E_TRAP_MEMORY, "data segment out of bounds"},
        {"uncompilable", "run", VELUM_E_MODULE_COMPILE, "slot usage count overflow"},
        {"uncompilable", "run", VELUM_E_MODULE_COMPILE, "slot usage count overflow"},
    };
    open_world(250);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        guest_file file = guest_read(folder, cases[i].guest);
        velum_lease lease = guest_lease(&file, cases[i].function, i32(0), i32(10), none, 5);
        const lease_book *book = run_lease(&lease);
        CHECK_EQ(book->error, cases[i].error);
        CHECK_EQ(book->reports, 0);
        CHECK(strstr(book->text, cases[i].text) != NULL);
        free(file.bytes);
    }
    velum_lease lease = counter_lease("global", 5);
    hold((const uint8_t *)"this is no module", 17, &lease);
    CHECK_EQ(run_lease(&lease)->error, VELUM_E_MODULE_MALFORMED);
    memset(lease.task.hash, 9, sizeof lease.task.hash);
    CHECK_EQ(run_lease(&lease)->error, VELUM_E_MODULE_MISSING);
    end_world();
}

static void test_malformed_frames(void) {
    uint8_t frame[VELUM_HEADER_BYTES + 3] = {0};
    velum_lease lease;
    open_world(0);
    book_begin(&books[0], 0);
    velum_wire_put_header(frame, VELUM_F_LEASE, 3, 0);
    send_bytes(frame, sizeof frame);
    settle();
    CHECK_EQ(books[0].error, VELUM_E_PAYLOAD);

    lease = quick_lease(10);
    const lease_book *book = send_lease(&lease);
    velum_wire_put_header(frame, VELUM_F_TRIM, 3, book->correlation);
    send_bytes(frame, sizeof frame); /* is not heeded */
    settle();
    run_all();
    check_quick(book, 0, 10);
    end_world();
}

/* ---- waiting ---- */

static void test_trim_while_waiting(void) {
    velum_lease lease;
    open_world(0);
    lease = quick_lease(100);
    lease.first = 10;
    lease.count = 50;
    const lease_book *book = send_lease(&lease);
    send_trim(book->correlation, 40);
    send_trim(book->correlation, 55);        /* none gives back what was taken */
    send_trim(book->correlation + 1000, 11); /* unknown: over by now */
    const lease_book *gone = send_lease(&lease);
    send_trim(gone->correlation, 10);
    settle();
    CHECK_EQ(velum_worker_queue(world.worker), 1);
    CHECK(gone->last && gone->done == 0 && gone->reports == 1); /* at once */
    run_all();
    CHECK(book->last);
    check_quick(book, 10, 40);

    velum_task task = lease.task;
    task.args[1] = i32(1);
    send_task(&task);
    send_trim(world.correlation, 0); /* a task has nothing to trim */
    settle();
    run_all();
    CHECK_EQ(world.results, 1);
    end_world();
}

static void test_cancel_while_waiting(void) {
    velum_lease lease;
    open_world(0);
    lease = quick_lease(100);
    const lease_book *book = send_lease(&lease);
    send_cancel(book->correlation);
    settle();
    CHECK_EQ(book->error, VELUM_E_CANCELLED);
    CHECK_EQ(velum_worker_queue(world.worker), 0);
    CHECK(!velum_worker_run(world.worker));
    end_world();
}

/* A lease waits for its module, and holds up nobody; the queue is one for tasks and leases. */
static void test_late_module_and_queue(void) {
    velum_lease held, late, many;
    open_world(0);
    held = quick_lease(10);
    CHECK_EQ(run_lease(&held)->done, 10);
    late = counter_lease("global", 10);
    const lease_book *first = send_lease(&late), *second = send_lease(&held);
    velum_hub_flush(world.node);
    serve_worker(); /* both have come, and the module is asked for */
    CHECK_EQ(velum_worker_queue(world.worker), 2);
    CHECK(velum_worker_run(world.worker));
    CHECK(!velum_worker_ready(world.worker));
    settle();
    CHECK(second->last && first->reports == 0);
    run_all();
    CHECK(first->last);
    CHECK_EQ(first->done, 10);

    many = quick_lease(1);
    for (unsigned i = 0; i < VELUM_WORKER_QUEUE_MAX; i++) {
        (void)send_lease(&many);
    }
    const lease_book *refused = send_lease(&many);
    settle();
    CHECK_EQ(velum_worker_queue(world.worker), VELUM_WORKER_QUEUE_MAX);
    CHECK_EQ(refused->error, VELUM_E_BUSY);
    run_all();
    CHECK_EQ(books[(world.correlation - 1) % BOOKS].done, 1);
    CHECK_EQ(world.strays, VELUM_WORKER_QUEUE_MAX - (BOOKS - 1));
    world.strays = 0;
    end_world();
}

/* ---- while a lease runs ---- */

/* The node reads now and then, while the worker waits for it. Once enough slices are known, it
 * sends what was asked for. */
static void read_on(void *user) {
    const lease_book *book = user;
    if (!world.reading) return;
    serve_node();
    if (world.trim_of != 0 && book->done >= world.trim_at) {
        send_trim(world.trim_of, world.trim_to);
        world.trim_of = 0;
    }
    if (world.cancel_of != 0 && book->done >= world.trim_at) {
        send_cancel(world.cancel_of);
        world.cancel_of = 0;
    }
    velum_hub_flush(world.node);
    velum_test_at(velum_port_now_us() + 1000, read_on, user);
}

/* From here on a report takes a while to reach the node, byte after byte. */
static void read_slowly(lease_book *book, size_t window) {
    velum_test_manner manner = {.window = window};
    settle();
    velum_test_set_manner(world.ends[0], &manner);
    world.reading = true;
    velum_test_at(velum_port_now_us() + 1000, read_on, book);
}

static void read_at_once(void) {
    velum_test_manner manner = {.window = 0};
    world.reading = false;
    velum_test_set_manner(world.ends[0], &manner);
    settle();
}

/* A careful worker never has two slices that the node has not read, but for what fits the socket.
 */
static void test_careful(void) {
    velum_lease lease;
    open_world(0);
    lease = counter_lease("trap", 30);
    lease.task.flags |= VELUM_LEASE_CAREFUL;
    lease.task.args[2] = i32(11);
    lease_book *book = send_lease(&lease);
    read_slowly(book, 16);
    run_all();
    read_at_once();
    CHECK(book->last);
    CHECK_EQ(book->reports, 31);
    CHECK_EQ(book->largest, 1);
    CHECK_EQ(book->failed, 1);
    book_check(book, &lease, 30, counter_guest, sizeof counter_guest);
    end_world();
}

static void test_trim_while_running(void) {
    for (uint32_t to = 0; to < 40; to += 12) {
        velum_lease lease;
        open_world(0);
        lease = quick_lease(100);
        lease.task.flags |= VELUM_LEASE_CAREFUL;
        lease_book *book = send_lease(&lease);
        world.trim_of = book->correlation;
        world.trim_at = 20;
        world.trim_to = to;
        read_slowly(book, 16);
        run_all();
        read_at_once();
        CHECK(book->last);
        if (to > 20) check_quick(book, 0, to);
        if (to < 20) CHECK(book->done >= 20 && book->done <= 22); /* stops where it is */
        end_world();
    }
}

static void test_cancel_while_running(void) {
    velum_lease lease;
    open_world(0);
    lease = quick_lease(100);
    lease.task.flags |= VELUM_LEASE_CAREFUL;
    lease_book *book = send_lease(&lease);
    world.cancel_of = book->correlation;
    world.trim_at = 20;
    read_slowly(book, 16);
    run_all();
    read_at_once();
    CHECK_EQ(book->error, VELUM_E_CANCELLED);
    CHECK(book->done >= 20 && book->done <= 22);
    CHECK_EQ(run_lease(&lease)->done, 100); /* the worker is as good as before */
    end_world();
}

/* Reports are cut by size; a full queue makes the worker wait, and nothing is lost. */
static void test_large_lease(void) {
    velum_lease lease;
    open_world(0);
    lease = quick_lease(20000);
    lease_book *book = run_lease(&lease);
    check_quick(book, 0, 20000);
    CHECK_EQ(book->reports, 3);

    lease = quick_lease(400000); /* over 3 MB */
    book = send_lease(&lease);
    read_slowly(book, 0);
    run_all();
    read_at_once();
    CHECK(book->last);
    check_quick(book, 0, 400000);
    CHECK(velum_port_now_us() < 3 * SECOND); /* it went on as soon as there was room */
    end_world();
}

/* ---- links that end ---- */

static void cut(void *user) {
    (void)user;
    velum_test_cut(world.ends[1], VELUM_E_CLOSED);
}

static void test_link_closed(void) {
    velum_lease lease;
    open_world(250);
    lease = quick_lease(400000);
    (void)send_lease(&lease);
    (void)send_lease(&lease);
    settle();
    CHECK_EQ(velum_worker_queue(world.worker), 2);
    velum_test_at(velum_port_now_us() + SECOND, cut, NULL); /* while it waits for room */
    CHECK(velum_worker_run(world.worker));
    CHECK_EQ(world.closed, VELUM_E_CLOSED);
    CHECK_EQ(velum_worker_queue(world.worker), 0);
    CHECK_EQ(velum_worker_running(world.worker), 0);
    CHECK(!velum_worker_ready(world.worker));
    end_world();
}

/* A peer that lives, but reads nothing. */
static void ping(void *user) {
    uint8_t frame[VELUM_HEADER_BYTES];
    (void)user;
    if (world.closed != 0) return;
    CHECK(velum_wire_put_empty(frame, sizeof frame, VELUM_F_PING, UINT64_C(1) << 63) > 0);
    CHECK_EQ(velum_port_send(world.ends[0], frame, sizeof frame), (int)sizeof frame);
    velum_test_at(velum_port_now_us() + SECOND, ping, NULL);
}

static void test_peer_that_does_not_read(void) {
    velum_lease lease;
    open_world(0);
    lease = quick_lease(400000);
    (void)send_lease(&lease);
    settle();
    int64_t begun = velum_port_now_us();
    velum_test_at(begun + SECOND, ping, NULL);
    CHECK(velum_worker_run(world.worker));
    CHECK_EQ(world.closed, VELUM_E_FULL);
    CHECK(velum_port_now_us() - begun <= 21 * SECOND);
    CHECK_EQ(velum_worker_running(world.worker), 0);
    end_world();
}

/* ---- the kept guest ---- */

static void test_kept_guest(void) {
    velum_lease lease;
    open_world(250);
    lease = counter_lease("global", 3);
    CHECK_EQ(velum_worker_sleep_us(world.worker), -1);
    for (int i = 0; i < 3; i++) {
        const lease_book *book = run_lease(&lease);
        CHECK_EQ(book->done, 3);
        CHECK_EQ(book->value[0], 16);
        CHECK_EQ(velum_worker_sleep_us(world.worker), 250000);
        velum_test_advance(200000);
        CHECK(!velum_worker_run(world.worker));
        CHECK_EQ(velum_worker_sleep_us(world.worker), 50000);
    }
    velum_test_advance(50000);
    CHECK_EQ(velum_worker_sleep_us(world.worker), 0);
    CHECK(!velum_worker_run(world.worker));
    CHECK_EQ(velum_worker_sleep_us(world.worker), -1); /* it is gone */

    /* Another limit, or a task, is not for it. */
    CHECK_EQ(run_lease(&lease)->done, 3);
    velum_lease grows = counter_lease("grow", 3);
    grows.task.pages = 2;
    CHECK_EQ(run_lease(&grows)->value[2], UINT32_MAX);
    grows.task.pages = 0;
    CHECK_EQ(run_lease(&grows)->value[2], 2);
    send_task(&lease.task);
    settle();
    run_all();
    CHECK_EQ(world.result, 16);
    CHECK_EQ(velum_worker_sleep_us(world.worker), -1);

    /* It goes when a module has to be fetched. */
    CHECK_EQ(run_lease(&lease)->done, 3);
    velum_lease other = quick_lease(3);
    (void)send_lease(&other);
    velum_hub_flush(world.node);
    serve_worker();
    CHECK_EQ(velum_worker_sleep_us(world.worker), -1);
    settle();
    run_all();
    end_world();
}

/* Without a time to keep it, it lives on only if the next lease is there. */
static void test_guest_of_waiting_lease(void) {
    velum_lease lease;
    open_world(0);
    lease = counter_lease("global", 3);
    CHECK_EQ(run_lease(&lease)->done, 3);
    CHECK_EQ(velum_worker_sleep_us(world.worker), -1);
    const lease_book *first = send_lease(&lease), *second = send_lease(&lease);
    settle();
    CHECK(velum_worker_run(world.worker));
    send_trim(second->correlation, 0);
    settle();
    CHECK(first->last && second->last);
    CHECK_EQ(velum_worker_sleep_us(world.worker), 0); /* nobody needs it after all */
    CHECK(!velum_worker_run(world.worker));
    CHECK_EQ(velum_worker_sleep_us(world.worker), -1);
    end_world();
}

int main(int argc, char **argv) {
    folder = argc > 1 ? argv[1] : "tests/guests";
    test_values_are_those_of_single_calls();
    test_guests_with_state();
    test_a_slice_that_traps();
    test_fuel_is_of_one_slice();
    test_many_failures();
    test_refusals();
    test_malformed_frames();
    test_trim_while_waiting();
    test_cancel_while_waiting();
    test_late_module_and_queue();
    test_careful();
    test_trim_while_running();
    test_cancel_while_running();
    test_large_lease();
    test_link_closed();
    test_peer_that_does_not_read();
    test_kept_guest();
    test_guest_of_waiting_lease();
    return check_report("worker_lease");
}
