/* test_hub_posix.c: two hubs of one process over real sockets: loopback TCP and a socketpair.
 *
 * Every wait has a deadline; nothing depends on how fast the machine is.
 */
#include "blake2b.h"
#include "check.h"
#include "hub.h"

#include <stdlib.h>
#include <sys/socket.h>

#define EVENTS      64u
#define DEADLINE_US INT64_C(30000000)
#define CALLS       20000u
#define STRANGERS   1000u
#define MODULE_SIZE (10u * 1024u * 1024u + 7u)
#define CHUNKS      40u
#define CHUNK_SIZE  (1024u * 1024u)

static velum_hub *node, *client;
static velum_addr node_addr;
static velum_handle to_node, node_link; /* the last that the node accepted */
static uint64_t answers;                /* RESULTs the client got, each the next one */
static uint32_t opened;                 /* links of the client */
static int modules, modules_failed;
static uint32_t lost; /* links that ended, on either side */
static unsigned chunks_stored, chunks_sent, chunks_fetched, chunks_failed;

static velum_hub *open_hub(uint16_t id) {
    velum_hub_config config = {64, 64u * 1024u * 1024u, true, 0};
    velum_hello hello = {.role = VELUM_ROLE_NODE, .id = id, .version = {"t", 1}};
    velum_hub *hub = NULL;
    CHECK_EQ(velum_hub_open(&hub, &config), 0);
    CHECK_EQ(velum_hub_identity(hub, &hello), 0);
    return hub;
}

/* Lets the node work, which accepts everybody. */
static void run_node(int64_t timeout_us) {
    static velum_event events[EVENTS];
    int n = velum_hub_poll(node, timeout_us, events, EVENTS);
    CHECK(n >= 0);
    for (int i = 0; i < n; i++) {
        if (events[i].kind == VELUM_EV_OPENED) {
            node_link = events[i].link;
            CHECK_EQ(velum_hub_accept(node, node_link), 0);
        }
        chunks_stored += events[i].kind == VELUM_EV_CHUNK && events[i].u.chunk.error == 0;
        lost += events[i].kind == VELUM_EV_CLOSED;
    }
}

static void run_client(int64_t timeout_us) {
    static velum_event events[EVENTS];
    int n = velum_hub_poll(client, timeout_us, events, EVENTS);
    CHECK(n >= 0);
    for (int i = 0; i < n; i++) {
        const velum_event *e = &events[i];
        switch (e->kind) {
        case VELUM_EV_OPENED:
            opened++;
            break;
        case VELUM_EV_FRAME:
            CHECK_EQ(e->u.frame.header.type, VELUM_F_RESULT);
            CHECK(e->u.frame.header.correlation == answers);
            answers++;
            break;
        case VELUM_EV_MODULE:
            modules++;
            modules_failed += e->u.module.error != 0;
            break;
        case VELUM_EV_CHUNK:
            chunks_sent += e->u.chunk.what == VELUM_CHUNK_SENT;
            chunks_fetched += e->u.chunk.what == VELUM_CHUNK_FETCHED;
            chunks_failed += e->u.chunk.error != 0;
            break;
        default:
            lost += e->kind == VELUM_EV_CLOSED;
        }
    }
}

/* Runs both until *counter has reached `goal`. */
#define RUN_UNTIL(counter, goal)                                                                   \
    do {                                                                                           \
        int64_t until_us = velum_port_now_us() + DEADLINE_US;                                      \
        while ((counter) < (goal) && velum_port_now_us() < until_us) {                             \
            run_node(0);                                                                           \
            run_client(200);                                                                       \
        }                                                                                          \
        CHECK_EQ(counter, goal);                                                                   \
    } while (0)

static bool send_call(uint64_t number) {
    velum_call call = {.flags = VELUM_TASK_PLACED, .name = {"add", 3}, .nargs = 2};
    uint8_t *room = velum_hub_reserve(client, to_node, 128);
    if (room == NULL) return false;
    call.args[0] = (velum_value){VELUM_I64, number};
    call.args[1] = (velum_value){VELUM_I64, 1};
    velum_hub_commit(client, to_node, (size_t)velum_wire_put_call(room, 128, number, &call));
    return true;
}

static void test_handshake_and_calls(void) {
    node = open_hub(1);
    client = open_hub(2);
    node_addr = (velum_addr){0x7f000001u, 0};
    CHECK_EQ(velum_hub_listen(node, &node_addr), 0);
    CHECK_EQ(velum_hub_dial(client, &node_addr, 0, &to_node), 0);
    RUN_UNTIL(opened, 1u);
    uint64_t sent = 0;
    int64_t until = velum_port_now_us() + DEADLINE_US;
    while (answers < CALLS && velum_port_now_us() < until) {
        while (sent < CALLS && send_call(sent))
            sent++;
        run_client(0);
        run_node(0);
    }
    CHECK_EQ(answers, CALLS);
}

static void test_module_comes_whole(void) {
    uint8_t hash[VELUM_HASH_BYTES], *module = malloc(MODULE_SIZE);
    const uint8_t *got;
    size_t n = 0;
    CHECK(module != NULL);
    if (module == NULL) return;
    for (size_t i = 0; i < MODULE_SIZE; i++)
        module[i] = (uint8_t)(i * 2654435761u >> 13);
    CHECK_EQ(velum_modules_add(velum_hub_modules(node), module, MODULE_SIZE, hash), 0);
    CHECK_EQ(velum_hub_fetch(client, to_node, hash), 0);
    RUN_UNTIL(modules, 1);
    CHECK_EQ(modules_failed, 0);
    got = velum_modules_get(velum_hub_modules(client), hash, &n);
    CHECK(got != NULL && n == MODULE_SIZE && memcmp(got, module, n) == 0);
    free(module);
}

/* A file is put on the node chunk by chunk, and got again, while calls go on. */
static void test_chunks_come_and_go(void) {
    static uint8_t keys[CHUNKS][VELUM_KEY_BYTES];
    uint8_t *file = malloc(CHUNKS * CHUNK_SIZE), *back = malloc(CHUNKS * CHUNK_SIZE);
    velum_handle link = 0, at_node = 0;
    velum_chunks *chunks = NULL;
    uint64_t before = answers, calls = 0;
    uint32_t x = 1;
    CHECK(file != NULL && back != NULL);
    CHECK_EQ(velum_chunks_open(&chunks, CHUNKS * CHUNK_SIZE), 0);
    velum_hub_set_store(node, chunks, NULL);
    CHECK_EQ(velum_hub_dial_bulk(client, &node_addr, 0, &link), 0);
    RUN_UNTIL(opened, 2u);
    at_node = node_link;
    for (size_t i = 0; i < CHUNKS * CHUNK_SIZE; i++)
        file[i] = (uint8_t)((x = x * 1664525u + 1013904223u) >> 24);
    for (unsigned i = 0; i < CHUNKS; i++) {
        velum_chunk_key(file + i * CHUNK_SIZE, CHUNK_SIZE, keys[i]);
        CHECK_EQ(velum_chunks_reserve(chunks, keys[i], CHUNK_SIZE, at_node), 0);
        CHECK_EQ(velum_hub_send_chunk(client, link, i, keys[i], file + i * CHUNK_SIZE, CHUNK_SIZE),
                 0);
        CHECK(send_call(before + calls++));
    }
    RUN_UNTIL(chunks_stored, CHUNKS);
    RUN_UNTIL(chunks_sent, CHUNKS);
    for (unsigned i = 0; i < CHUNKS; i++) {
        CHECK_EQ(velum_hub_want(client, link, i, keys[i], back + i * CHUNK_SIZE, CHUNK_SIZE), 0);
        CHECK(send_call(before + calls++));
    }
    RUN_UNTIL(chunks_fetched, CHUNKS);
    RUN_UNTIL(answers, before + calls);
    CHECK_EQ(chunks_failed, 0);
    CHECK(memcmp(file, back, CHUNKS * CHUNK_SIZE) == 0);
    velum_hub_drop(client, link, 0, NULL);
    RUN_UNTIL(lost, 1u);
    lost = 0;
    velum_hub_set_store(node, NULL, NULL);
    velum_chunks_close(chunks);
    free(file);
    free(back);
}

/* A stranger of every kind: silent, gone at once, half a HELLO, a huge length, noise, another
 * protocol. */
static void be_hostile(velum_fd fd, unsigned number) {
    uint8_t bytes[64];
    size_t n = sizeof bytes;
    CHECK_EQ(velum_port_random(bytes, sizeof bytes), 0);
    switch (number % 6) {
    case 0:
    case 1:
        return;
    case 2:
        velum_wire_put_header(bytes, VELUM_F_HELLO, 100, 0);
        n = 40;
        break;
    case 3:
        velum_wire_put_header(bytes, VELUM_F_SYNC, 0x7fffffffu, 0);
        break;
    case 4:
        break;
    default:
        memcpy(bytes, "GET / HTTP/1.1\r\n\r\n", n = 18);
    }
    (void)velum_port_send(fd, bytes, n); /* the node may have left already */
}

static void test_strangers_harm_nobody(void) {
    enum { HELD = 100 };
    velum_fd held[HELD];
    velum_hub_stats stats;
    uint64_t before = answers;
    for (unsigned i = 0; i < HELD; i++)
        held[i] = VELUM_NO_FD;
    for (unsigned i = 0; i < STRANGERS; i++) {
        velum_fd *fd = &held[i % HELD];
        if (*fd != VELUM_NO_FD) velum_port_close(*fd);
        *fd = VELUM_NO_FD;
        CHECK_EQ(velum_port_dial(&node_addr, fd), 0);
        run_node(0);
        be_hostile(*fd, i);
        if (i % 6 == 1) {
            velum_port_close(*fd);
            *fd = VELUM_NO_FD;
        }
        CHECK(send_call(before + i));
        RUN_UNTIL(answers, before + i + 1);
        velum_hub_get_stats(node, &stats);
        CHECK(stats.strangers <= 16);
    }
    CHECK_EQ(stats.links, 1);
    CHECK_EQ(lost, 0);
    for (unsigned i = 0; i < HELD; i++) {
        if (held[i] != VELUM_NO_FD) velum_port_close(held[i]);
    }
}

static void test_end_is_seen(void) {
    velum_hub_drop(client, to_node, 0, NULL);
    RUN_UNTIL(lost, 1u);
    CHECK_EQ(velum_hub_dial(client, &(velum_addr){0x7f000001u, 1}, 0, &to_node), 0);
    RUN_UNTIL(lost, 2u); /* refused */
    velum_hub_close(node);
    velum_hub_close(client);
}

static void test_adopted(void) {
    int ends[2] = {VELUM_NO_FD, VELUM_NO_FD};
    velum_handle link;
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    node = open_hub(1);
    client = open_hub(2);
    opened = 0;
    answers = 0;
    CHECK_EQ(velum_hub_adopt(node, ends[0], 1, &link), 0);
    CHECK_EQ(velum_hub_adopt(client, ends[1], 2, &to_node), 0);
    RUN_UNTIL(opened, 1u);
    CHECK(send_call(0));
    RUN_UNTIL(answers, 1u);
    velum_hub_close(node);
    velum_hub_close(client);
}

int main(void) {
    test_handshake_and_calls();
    test_module_comes_whole();
    test_chunks_come_and_go();
    test_strangers_harm_nobody();
    test_end_is_seen();
    test_adopted();
    return check_report("hub_posix");
}
