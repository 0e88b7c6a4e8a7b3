/* test_client.c: the public C API against full nodes made by hand, on loopback: tickets, modules,
 * lost nodes, deadlines, callbacks, a client's way to other nodes, and an instance that runs guests
 * while another process drives it.
 * Usage: test_client FOLDER-OF-GUESTS
 */
#define _DEFAULT_SOURCE 1

#include "address.h"
#include "client_world.h"
#include "guest_file.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY "127.0.0.1:1"

static const char *folder;

static velum_ticket spawn_add(uint32_t timeout_ms) {
    const velum_value args[] = {velum_i64(10), velum_i64(20)};
    velum_ticket ticket = 0;
    CHECK_EQ(velum_spawn(mesh, "add", args, 2, timeout_ms, &ticket), 0);
    CHECK(ticket != 0);
    return ticket;
}

static void send_result(full_node *n, const kept_frame *asked, velum_value value) {
    uint8_t frame[FRAME_MAX];
    velum_result result = {.node = n->me.id, .run_us = 5, .health = {.cores = 1}, .nvalues = 1};
    int size;
    result.values[0] = value;
    size = velum_wire_put_result(frame, sizeof frame, asked->header.correlation, &result);
    CHECK_EQ(velum_hub_send(n->hub, asked->link, frame, (size_t)size), 0);
}

/* ---- calls ---- */

static void test_a_call(void) {
    velum_outcome outcome;
    velum_ticket ticket;
    velum_call call;
    const kept_frame *asked;
    attach(MEMBER_ID);
    CHECK_EQ(velum_id(mesh), MEMBER_ID);
    CHECK_EQ(velum_address(mesh).port, one.hello.addr.port);
    CHECK_EQ(velum_home(mesh).port, one.me.addr.port);
    ticket = spawn_add(0);
    CHECK_EQ(velum_wait(mesh, ticket, 1, &outcome), 0);
    UNTIL(one.nframes == 1);
    asked = node_frame(&one, VELUM_F_CALL);
    CHECK(velum_wire_get_call(asked->payload, asked->header.length, &call) > 0);
    CHECK_EQ(call.flags, 0);
    CHECK_EQ(call.timeout_ms, 0);
    CHECK_EQ(call.nargs, 2);
    CHECK(call.args[1].bits == 20);
    CHECK(call.name.size == 3 && memcmp(call.name.data, "add", 3) == 0);
    send_result(&one, asked, velum_i64(30));
    outcome = outcome_of(ticket);
    CHECK_EQ(outcome.error, 0);
    CHECK_EQ(outcome.node, 1);
    CHECK_EQ(outcome.run_us, 5);
    CHECK_EQ(outcome.nvalues, 1);
    CHECK_EQ(velum_as_i64(outcome.value), 30);
    send_result(&one, asked, velum_i64(31)); /* once more, for nobody */
    ticket = spawn_add(0);
    UNTIL(one.nframes == 2);
    send_error(&one, node_frame(&one, VELUM_F_CALL), VELUM_E_DIVIDE_BY_ZERO, "by zero");
    outcome = outcome_of(ticket);
    CHECK_EQ(outcome.error, VELUM_E_DIVIDE_BY_ZERO);
    CHECK(strcmp(outcome.text, "by zero") == 0);
    finish();
}

static void test_bad_calls(void) {
    static const velum_value args[VELUM_ARGS_MAX + 1];
    char name[VELUM_NAME_BYTES_MAX + 2];
    velum_value untyped = {1, 1};
    velum_ticket ticket = 0;
    attach(MEMBER_ID);
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    CHECK_EQ(velum_spawn(mesh, name, NULL, 0, 0, &ticket), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_spawn(mesh, NULL, NULL, 0, 0, &ticket), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_spawn(mesh, "add", NULL, 2, 0, &ticket), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_spawn(mesh, "add", args, VELUM_ARGS_MAX + 1, 0, &ticket), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_spawn(mesh, "add", &untyped, 1, 0, &ticket), VELUM_E_ARGUMENT);
    CHECK_EQ(ticket, 0);
    CHECK_EQ(velum_cancel(mesh, 0), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_cancel(mesh, UINT32_MAX), VELUM_E_ARGUMENT);
    finish();
}

static void test_many_at_once(void) {
    enum { MANY = VELUM_TASKS_MAX };
    static velum_ticket tickets[MANY];
    const velum_value args[] = {velum_i64(1), velum_i64(2)};
    velum_ticket more;
    velum_outcome outcome;
    node_open(&one, 1);
    begin(MEMBER_ID, &one); /* nobody has let it in yet: they wait */
    for (size_t i = 0; i < MANY; i++)
        tickets[i] = spawn_add(0);
    CHECK_EQ(velum_spawn(mesh, "add", args, 2, 0, &more), VELUM_E_FULL);
    UNTIL(one.nframes == MANY);
    CHECK_EQ(velum_cancel(mesh, tickets[7]), 0);
    CHECK_EQ(velum_poll(mesh, tickets[7], &outcome), 1);
    CHECK_EQ(outcome.error, VELUM_E_CANCELLED);
    CHECK_EQ(velum_spawn(mesh, "add", args, 2, 0, &more), 0);
    CHECK(more != tickets[7]);
    finish();
}

/* ---- modules ---- */

static void test_a_module(void) {
    const velum_value args[] = {velum_i32(10), velum_i32(20), velum_i32(30)};
    const velum_value wide[] = {velum_i64(10), velum_i32(20), velum_i32(30)};
    guest_file sum = guest_read(folder, "sum");
    velum_ticket ticket = 0;
    velum_task task;
    const kept_frame *asked;
    attach(MEMBER_ID);
    CHECK_EQ(velum_spawn_wasm(mesh, sum.bytes, sum.size, "nope", args, 3, 0, &ticket),
             VELUM_E_NO_EXPORT);
    CHECK_EQ(velum_spawn_wasm(mesh, sum.bytes, sum.size, "sum", args, 2, 0, &ticket),
             VELUM_E_SIGNATURE);
    CHECK_EQ(velum_spawn_wasm(mesh, sum.bytes, sum.size, "sum", wide, 3, 0, &ticket),
             VELUM_E_SIGNATURE);
    CHECK_EQ(velum_spawn_wasm(mesh, sum.bytes, 11, "sum", args, 3, 0, &ticket),
             VELUM_E_MODULE_MALFORMED);
    CHECK_EQ(velum_spawn_wasm(mesh, NULL, 11, "sum", args, 3, 0, &ticket), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_spawn_wasm(mesh, sum.bytes, (size_t)VELUM_MODULE_BYTES_MAX + 1, "sum", args, 3,
                              0, &ticket),
             VELUM_E_TOO_LARGE);
    CHECK_EQ(ticket, 0);
    CHECK_EQ(velum_spawn_wasm(mesh, sum.bytes, sum.size, "sum", args, 3, 0, &ticket), 0);
    memset(sum.bytes, 0, sum.size); /* the library has its own copy */
    UNTIL(one.nframes == 1);
    asked = node_frame(&one, VELUM_F_TASK);
    CHECK(velum_wire_get_task(asked->payload, asked->header.length, &task) > 0);
    CHECK_EQ(task.flags, 0);
    CHECK_EQ(velum_hub_fetch(one.hub, one.link, task.hash), 0);
    UNTIL(one.module_error == 0);
    send_result(&one, asked, velum_i32(60));
    CHECK_EQ(velum_as_i64(outcome_of(ticket).value), 60);
    free(sum.bytes);
    finish();
}

/* ---- lost nodes ---- */

static void test_a_lost_node_loses_no_task(void) {
    velum_ticket ticket;
    attach(MEMBER_ID);
    add_second_node();
    ticket = spawn_add(0);
    UNTIL(one.nframes == 1);
    node_close(&one);
    UNTIL(two.nframes == 1);
    send_result(&two, node_frame(&two, VELUM_F_CALL), velum_i64(30));
    CHECK_EQ(outcome_of(ticket).node, 2);
    finish();
}

static void test_a_node_that_leaves_gives_tasks_back(void) {
    velum_ticket ticket;
    attach(MEMBER_ID);
    add_second_node();
    ticket = spawn_add(0);
    UNTIL(one.nframes == 1);
    send_error(&one, node_frame(&one, VELUM_F_CALL), VELUM_E_LEAVING, "");
    velum_hub_flush(one.hub);
    a_while();
    CHECK_EQ(one.nframes, 1); /* not to the same one again */
    one.refuse = (uint16_t)-VELUM_E_LEAVING;
    velum_hub_drop(one.hub, one.link, 0, NULL);
    UNTIL(two.nframes == 1);
    send_result(&two, node_frame(&two, VELUM_F_CALL), velum_i64(30));
    CHECK_EQ(outcome_of(ticket).error, 0);
    finish();
}

static void test_a_task_that_is_lost_too_often(void) {
    velum_ticket ticket;
    attach(MEMBER_ID);
    ticket = spawn_add(0);
    for (unsigned losses = 1; losses <= 4; losses++) {
        UNTIL(one.nframes == losses && one.link != 0);
        velum_hub_drop(one.hub, one.link, (uint16_t)-VELUM_E_SYSTEM, NULL);
    }
    CHECK_EQ(outcome_of(ticket).error, VELUM_E_LOST);
    finish();
}

/* ---- stopping ---- */

static void test_cancel(void) {
    velum_ticket ticket;
    uint16_t code = 0;
    const kept_frame *frame;
    attach(MEMBER_ID);
    ticket = spawn_add(0);
    UNTIL(one.nframes == 1);
    CHECK_EQ(velum_cancel(mesh, ticket), 0);
    CHECK_EQ(velum_cancel(mesh, ticket), 0);                          /* it is over already */
    send_result(&one, node_frame(&one, VELUM_F_CALL), velum_i64(30)); /* too late */
    UNTIL(one.nframes == 2);
    a_while();
    CHECK_EQ(outcome_of(ticket).error, VELUM_E_CANCELLED);
    frame = node_frame(&one, VELUM_F_CANCEL);
    CHECK_EQ(frame->header.correlation, ticket);
    CHECK(velum_wire_get_cancel(frame->payload, frame->header.length, &code) > 0);
    CHECK_EQ(code, -VELUM_E_CANCELLED);
    finish();
}

static void test_deadlines(void) {
    velum_ticket ticket;
    velum_call call;
    const kept_frame *asked;
    int64_t begun_us;
    node_open(&one, 1);
    one.mute = true;
    begin(MEMBER_ID, &one);
    ticket = spawn_add(10); /* nobody takes it */
    begun_us = velum_port_now_us();
    CHECK_EQ(outcome_of(ticket).error, VELUM_E_DEADLINE);
    CHECK(velum_port_now_us() - begun_us < 1000 * MS);
    CHECK_EQ(one.nframes, 0);
    ticket = spawn_add(60000);
    begun_us = velum_port_now_us();
    while (velum_port_now_us() - begun_us < 30 * MS)
        turn_all();
    one.mute = false;
    node_sync(&one, one.link, VELUM_F_SYNC, 1);
    UNTIL(one.nframes == 1);
    asked = node_frame(&one, VELUM_F_CALL);
    CHECK(velum_wire_get_call(asked->payload, asked->header.length, &call) > 0);
    CHECK(call.timeout_ms > 30000 && call.timeout_ms <= 59970); /* what is left of it */
    CHECK_EQ(velum_cancel(mesh, ticket), 0);
    UNTIL(one.nframes == 2);
    ticket = spawn_add(200); /* taken, and never answered */
    CHECK_EQ(outcome_of(ticket).error, VELUM_E_DEADLINE);
    UNTIL(one.nframes == 4);
    CHECK_EQ(node_frame(&one, VELUM_F_CANCEL)->payload[0], -VELUM_E_DEADLINE);
    finish();
}

/* ---- callbacks ---- */

typedef struct {
    unsigned calls;
    int error;
    velum_ticket next;
} listener;

static void on_done(void *user, velum_ticket ticket, const velum_outcome *outcome) {
    listener *l = user;
    velum_outcome other;
    const char *json;
    l->calls++;
    l->error = outcome->error;
    CHECK_EQ(velum_run(mesh, 0), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_wait(mesh, ticket, 0, &other), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_nodes(mesh, 0, &json), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_cancel(mesh, ticket), VELUM_E_ARGUMENT); /* it is spent */
    if (outcome->error == 0) {
        const velum_value args[] = {velum_i64(1), velum_i64(2)};
        CHECK_EQ(velum_spawn(mesh, "add", args, 2, 0, &l->next), 0);
        CHECK_EQ(velum_poll(mesh, l->next, &other), 0);
        CHECK_EQ(velum_on_done(mesh, l->next, on_done, l), 0);
    }
}

static void test_callbacks(void) {
    listener l = {0, 0, 0};
    velum_outcome outcome;
    velum_ticket ticket;
    attach(MEMBER_ID);
    ticket = spawn_add(0);
    CHECK_EQ(velum_on_done(mesh, ticket, on_done, &l), 0);
    CHECK_EQ(velum_on_done(mesh, ticket, on_done, &l), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_poll(mesh, ticket, &outcome), VELUM_E_ARGUMENT);
    UNTIL(one.nframes == 1);
    send_result(&one, node_frame(&one, VELUM_F_CALL), velum_i64(30));
    UNTIL(l.calls == 1);
    UNTIL(one.nframes == 2); /* what the callback spawned */
    ticket = spawn_add(0);
    CHECK_EQ(velum_cancel(mesh, ticket), 0);
    CHECK_EQ(velum_on_done(mesh, ticket, on_done, &l), 0); /* done before it was asked for */
    CHECK_EQ(l.calls, 1);
    UNTIL(l.calls == 2);
    CHECK_EQ(l.error, VELUM_E_CANCELLED);
    finish(); /* ends the one that is left */
    CHECK_EQ(l.calls, 3);
    CHECK_EQ(l.error, VELUM_E_LEAVING);
}

/* ---- the end of an instance ---- */

static void test_stop(void) {
    velum_ticket ticket;
    velum_outcome outcome;
    attach(MEMBER_ID);
    ticket = spawn_add(0);
    velum_stop(mesh);
    CHECK_EQ(velum_run(mesh, 60000), VELUM_E_LEAVING);
    CHECK_EQ(velum_wait(mesh, ticket, 60000, &outcome), 1);
    CHECK_EQ(outcome.error, VELUM_E_LEAVING);
    CHECK_EQ(velum_spawn(mesh, "add", NULL, 0, 0, &ticket), VELUM_E_LEAVING);
    UNTIL(one.closed == 1);
    CHECK_EQ(one.close_error, VELUM_E_LEAVING);
    finish();
}

static void test_a_conflict_ends_it(void) {
    velum_datagram message = {.type = VELUM_F_GOSSIP, .nupdates = 1};
    velum_ticket ticket;
    attach(MEMBER_ID);
    ticket = spawn_add(0);
    message.updates[0] = (velum_member){.id = MEMBER_ID,
                                        .state = VELUM_MEMBER_ALIVE,
                                        .role = VELUM_ROLE_LEAF,
                                        .incarnation = 5,
                                        .addr = {LOCAL_IP, 9}};
    node_send(&one, velum_address(mesh), message);
    UNTIL(mesh->ended != 0);
    CHECK_EQ(velum_run(mesh, 60000), VELUM_E_DUPLICATE_ID);
    CHECK_EQ(outcome_of(ticket).error, VELUM_E_DUPLICATE_ID);
    finish();
}

/* ---- opening ---- */

static void expect_open(velum_config config, int error, const char *words) {
    velum *v = NULL;
    CHECK_EQ(velum_open(&v, &config, 500), error);
    CHECK(v == NULL);
    if (strstr(velum_open_error(), words) == NULL) {
        printf("%s\n", velum_open_error());
        CHECK(false);
    }
}

static void test_open_says_what_is_wrong(void) {
    velum_config good = {.id = 3, .join = NOBODY}, bad = good;
    full_node holder;
    expect_open(good, VELUM_E_UNREACHABLE, "127.0.0.1:1: connection refused");
    bad.join = "localhost:8001";
    expect_open(bad, VELUM_E_ARGUMENT, "localhost:8001");
    bad = good;
    bad.host = "0.0.0.0";
    expect_open(bad, VELUM_E_ARGUMENT, "0.0.0.0");
    bad = good;
    bad.workers = 2;
    expect_open(bad, VELUM_E_ARGUMENT, "one");
    bad = (velum_config){.id = 3, .beacon_port = 1};
    expect_open(bad, VELUM_E_UNREACHABLE, "no full node was found");
    node_open(&holder, 9);
    bad = good;
    bad.port = holder.me.addr.port;
    expect_open(bad, VELUM_E_ADDRESS_IN_USE, "cannot listen on 127.0.0.1:");
    node_close(&holder);
}

static void test_the_short_form(void) {
    CHECK(velum_mesh() == NULL);
    velum_shutdown();
    CHECK(velum_mesh() == NULL);
}

static void test_values(void) {
    CHECK_EQ(velum_as_i64(velum_i32(-5)), -5);
    CHECK_EQ(velum_as_i64(velum_i32(INT32_MIN)), INT32_MIN);
    CHECK_EQ(velum_as_i64(velum_i64(INT64_MIN)), INT64_MIN);
    CHECK_EQ(velum_as_i64(velum_i64(-1)), -1);
    CHECK_EQ(velum_as_i64(velum_i64(INT64_MAX)), INT64_MAX);
    CHECK(velum_i32(-1).bits == 0xffffffffu);
    CHECK(velum_as_f64(velum_f64(-0.5)) == -0.5);
    CHECK(velum_as_f64(velum_f32(1.5f)) == 1.5);
    CHECK(velum_as_f64(velum_i32(-7)) == -7.0);
    CHECK(velum_f32(1.0f).bits == 0x3f800000u);
}

static void test_addresses(void) {
    static const char *const bad[] = {
        "",           "1.2.3:4",       "1.2.3.4",    "1.2.3.4:",    "1.2.3.4:0",  "256.0.0.1:1",
        "01.2.3.4:1", "1.2.3.4:65536", "1.2.3.4:1 ", "1.2.3.4.5:1", " 1.2.3.4:1", "a.b.c.d:1",
        "1..3.4:1",   "1.2.3.4:+1",    "-1.2.3.4:1"};
    char text[VELUM_ADDRESS_TEXT_BYTES];
    velum_addr addr = {7, 7};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK(!velum_address_read(bad[i], strlen(bad[i]), &addr));
    CHECK(addr.ip == 7 && addr.port == 7);
    CHECK(velum_address_read("255.255.255.255:65535", 21, &addr));
    CHECK(addr.ip == UINT32_MAX && addr.port == UINT16_MAX);
    CHECK(strcmp(velum_address_write(addr, text), "255.255.255.255:65535") == 0);
    CHECK(velum_address_read("127.0.0.1:80, and more", 12, &addr));
    CHECK(addr.ip == LOCAL_IP && addr.port == 80);
}

/* ---- questions, and a client's ways ---- */

static void answer_query(full_node *n, const char *json) {
    uint8_t frame[FRAME_MAX];
    const kept_frame *asked = node_frame(n, VELUM_F_QUERY);
    uint32_t size = (uint32_t)strlen(json);
    velum_wire_put_header(frame, VELUM_F_ANSWER, size, asked->header.correlation);
    memcpy(frame + VELUM_HEADER_BYTES, json, size);
    CHECK_EQ(velum_hub_send(n->hub, asked->link, frame, VELUM_HEADER_BYTES + size), 0);
}

static void test_nodes(void) {
    const char *json = NULL;
    attach(MEMBER_ID);
    CHECK_EQ(velum_nodes(mesh, 1, &json), VELUM_E_TIMEOUT);
    UNTIL(one.nframes == 1);
    answer_query(&one, "[\"late\"]"); /* to the question that was given up */
    velum_hub_flush(one.hub);
    CHECK_EQ(velum_nodes(mesh, 1, &json), VELUM_E_TIMEOUT);
    UNTIL(one.nframes == 2);
    finish();
}

/* A client learns from the answer where else it could go, whatever else stands there. */
static void test_a_client_learns_of_other_nodes(void) {
    char json[400];
    attach(0);
    CHECK_EQ(velum_id(mesh), 0);
    CHECK_EQ(velum_address(mesh).port, 0);
    node_open(&two, 2);
    UNTIL(one.nframes == 1);
    (void)snprintf(json, sizeof json,
                   "[ {\"id\": 1, \"me\": true, \"x\": null, \"role\": \"node\"},\n"
                   "{\"id\":9,\"role\":\"leaf\",\"state\":\"alive\",\"address\":\"127.0.0.1:1\"},"
                   "{\"id\":8,\"role\":\"node\",\"state\":\"dead\",\"address\":\"127.0.0.1:2\"},"
                   "{\"id\":2, \"q\\\"\" : \"\\\\\", \"role\":\"node\",\"state\":\"alive\", "
                   "\"address\":\"127.0.0.1:%u\"}]",
                   (unsigned)two.me.addr.port);
    answer_query(&one, json);
    UNTIL(mesh->learning == 0);
    velum_ticket ticket = spawn_add(0);
    UNTIL(one.nframes == 2);
    node_close(&one);
    UNTIL(velum_home(mesh).port == two.me.addr.port);
    UNTIL(two.nframes == 2); /* the task, and a question */
    CHECK_EQ(velum_cancel(mesh, ticket), 0);
    finish();
}

/* Answers cut off anywhere, and with any byte changed, do no harm (the sanitizer looks on). */
static void test_broken_answers(void) {
    static const char whole[] = "[{\"id\":2,\"role\":\"node\",\"state\":\"alive\",\"address\":"
                                "\"127.0.0.1:9\",\"s\":\"\\\\\"}]";
    static const char bytes[] = "\"\\[]{},:0a ";
    attach(0);
    for (size_t i = 0; i < sizeof whole; i++) {
        for (size_t j = 0; j < sizeof bytes; j++) {
            char *copy = malloc(i + 1u); /* exactly as long: reading on is noticed */
            velum_header header = {VELUM_F_ANSWER, (uint32_t)(i + 1u), mesh->questions};
            velum_frame frame = {.header = header, .payload = (const uint8_t *)copy};
            CHECK(copy != NULL);
            if (copy == NULL) return;
            memcpy(copy, whole, i + 1u);
            copy[i] = bytes[j];
            frame.header.correlation = mesh->learning = VELUM__QUESTION + 1;
            mesh->asked_link = one.link;
            velum__nodes_answer(mesh, one.link, &frame);
            CHECK_EQ(mesh->learning, 0);
            free(copy);
        }
    }
    finish();
}

/* ---- guests: the program in this process, the node that drives it in a child ---- */

static guest_file loop, sum;

static void give_task(full_node *n, velum_handle link, guest_file module, const char *name,
                      uint64_t correlation, size_t nargs) {
    uint8_t frame[FRAME_MAX];
    velum_task task = {.flags = VELUM_TASK_PLACED};
    int size;
    CHECK_EQ(velum_modules_add(velum_hub_modules(n->hub), module.bytes, module.size, task.hash), 0);
    task.name = (velum_text){name, (uint16_t)strlen(name)};
    task.nargs = (uint8_t)nargs;
    for (size_t i = 0; i < nargs; i++)
        task.args[i] = velum_i32(10 * (int32_t)(i + 1));
    size = velum_wire_put_task(frame, sizeof frame, correlation, &task);
    CHECK_EQ(velum_hub_send(n->hub, link, frame, (size_t)size), 0);
}

#define NODE_UNTIL(condition)                                                                      \
    do {                                                                                           \
        int64_t node_end = velum_port_now_us() + PATIENCE;                                         \
        while (!(condition) && velum_port_now_us() < node_end)                                     \
            node_serve(&one, TURN_US);                                                             \
        CHECK(condition);                                                                          \
    } while (0)

/* Whether the program has begun to run a guest, by its ACK. */
static bool is_running(void) {
    node_send(&one, one.hello.addr,
              (velum_datagram){.type = VELUM_F_PROBE, .target = MEMBER_ID, .health = {.cores = 1}});
    node_serve(&one, 5 * MS);
    return node_count(&one, VELUM_F_ACK) > 0 &&
           node_datagram(&one, VELUM_F_ACK)->health.running == 1;
}

/* The child's part; its exit status. */
static int drive(void) {
    uint8_t frame[FRAME_MAX];
    velum_call call = {.flags = VELUM_TASK_PLACED, .name = {"add", 3}, .nargs = 2};
    velum_result result;
    const kept_frame *got;
    int size;
    call.args[0] = call.args[1] = velum_i64(21);
    NODE_UNTIL(one.syncs == 1);
    CHECK_EQ(one.hello.slots, 1);
    give_task(&one, one.link, sum, "sum", 1, 3);
    NODE_UNTIL(one.seen[VELUM_F_RESULT] == 1);
    got = node_frame(&one, VELUM_F_RESULT);
    CHECK(velum_wire_get_result(got->payload, got->header.length, &result) > 0);
    CHECK_EQ(velum_as_i64(result.values[0]), 60);
    CHECK_EQ(result.node, MEMBER_ID);
    CHECK_EQ(result.health.slots, 1);
    CHECK(result.health.speed > 0);
    give_task(&one, one.link, loop, "forever", 2, 0);
    NODE_UNTIL(is_running()); /* probes are answered meanwhile */
    size = velum_wire_put_call(frame, sizeof frame, 3, &call);
    CHECK_EQ(velum_hub_send(one.hub, one.link, frame, (size_t)size), 0);
    NODE_UNTIL(one.seen[VELUM_F_RESULT] == 2);
    size = velum_wire_put_cancel(frame, sizeof frame, 2, (uint16_t)-VELUM_E_CANCELLED);
    CHECK_EQ(velum_hub_send(one.hub, one.link, frame, (size_t)size), 0);
    NODE_UNTIL(one.seen[VELUM_F_ERROR] == 1);
    give_task(&one, one.link, loop, "forever", 4, 0);
    NODE_UNTIL(is_running());
    CHECK_EQ(kill(getppid(), SIGALRM), 0); /* which stops the program in the middle of it */
    NODE_UNTIL(one.closed == 1);
    CHECK_EQ(one.close_error, VELUM_E_LEAVING);
    node_close(&one);
    return check_failed_count == 0 ? 0 : 1;
}

static void on_alarm(int number) {
    (void)number;
    velum_stop(mesh);
}

static void test_guests(void) {
    velum_config config = {.id = MEMBER_ID, .workers = 1};
    char address[32];
    int status = -1;
    pid_t child;
    node_open(&one, 1);
    (void)snprintf(address, sizeof address, "127.0.0.1:%u", (unsigned)one.me.addr.port);
    config.join = address;
    CHECK(signal(SIGALRM, on_alarm) != SIG_ERR);
    child = fork();
    if (child == 0) _exit(drive());
    node_close(&one); /* the child has it */
    CHECK_EQ(velum_open(&mesh, &config, 20000), 0);
    CHECK_EQ(velum_run(mesh, 60000), VELUM_E_LEAVING);
    velum_close(mesh);
    mesh = NULL;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    folder = argv[1];
    loop = guest_read(folder, "loop");
    sum = guest_read(folder, "sum");
    test_a_call();
    test_bad_calls();
    test_many_at_once();
    test_a_module();
    test_a_lost_node_loses_no_task();
    test_a_node_that_leaves_gives_tasks_back();
    test_a_task_that_is_lost_too_often();
    test_cancel();
    test_deadlines();
    test_callbacks();
    test_stop();
    test_a_conflict_ends_it();
    test_open_says_what_is_wrong();
    test_the_short_form();
    test_values();
    test_addresses();
    test_nodes();
    test_a_client_learns_of_other_nodes();
    test_broken_answers();
    test_guests();
    free(loop.bytes);
    free(sum.bytes);
    return check_report("client");
}
