/* fuzz_hub.c: arbitrary bytes on a link that a hub has accepted, on the test port.
 *
 * The first byte says how the owner behaves and whether a good HELLO goes before. Then the input is
 * a script: a byte that names a step, and for a chunk so many bytes, sent as they are. The owner
 * reads every byte of every event. Nothing may crash, leak, or touch a closed handle, and another
 * link must be answered at the end. Runs under libFuzzer, or with standalone.c.
 */
#include "../hub.h"
#include "../port/test/port_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define EVENTS_MAX  8u
#define MODULE_SIZE 300u

/* Steps; any other byte is the length of a chunk. */
enum { WAIT = 0, TAKE = 253, PART = 254, WANT = 255 };

/* The first byte. */
enum { CAP_MASK = 7, GREETED = 8, FETCHING = 16, DROPPING = 32, ECHOING = 64 };

static velum_hub *hub;
static uint8_t manners;
static volatile uint8_t seen; /* keeps reads from being optimised away */

static uint8_t module[MODULE_SIZE], module_hash[VELUM_HASH_BYTES];
static const uint8_t fetched_hash[VELUM_HASH_BYTES] = {1, 2, 3};

static void demand(int condition, const char *what) {
    if (condition) return;
    fprintf(stderr, "fuzz_hub: %s\n", what);
    abort();
}

static void look_at(const void *bytes, size_t n) {
    for (size_t i = 0; i < n; i++)
        seen ^= ((const uint8_t *)bytes)[i];
}

static void own(const velum_event *event) {
    if (event->kind == VELUM_EV_OPENED) {
        look_at(event->u.opened.hello.version.data, event->u.opened.hello.version.size);
        look_at(event->u.opened.hello.key, event->u.opened.hello.key_size);
        if (velum_hub_accept(hub, event->link) != 0) return;
        if (manners & FETCHING) (void)velum_hub_fetch(hub, event->link, fetched_hash);
    } else if (event->kind == VELUM_EV_CLOSED) {
        demand(event->u.closed.error < 0, "a link closed without a reason");
        if (event->u.closed.text != NULL) look_at(event->u.closed.text, 1);
    } else if (event->kind == VELUM_EV_FRAME) {
        uint8_t echo[VELUM_HEADER_BYTES];
        if (manners & DROPPING) velum_hub_drop(hub, event->link, 1, NULL);
        look_at(event->u.frame.payload, event->u.frame.header.length);
        velum_wire_put_header(echo, VELUM_F_PING, 0, 1);
        if (manners & ECHOING) (void)velum_hub_send(hub, event->link, echo, sizeof echo);
    }
}

static void poll_hub(void) {
    velum_event events[EVENTS_MAX];
    int n = velum_hub_poll(hub, 0, events, 1u + (manners & CAP_MASK));
    demand(n >= 0, "a poll failed");
    for (int i = 0; i < n; i++)
        own(&events[i]);
}

static void say_hello(velum_fd fd) {
    uint8_t frame[64];
    velum_hello hello = {.role = VELUM_ROLE_CLIENT};
    int n = velum_wire_put_hello(frame, sizeof frame, 0, &hello);
    (void)velum_port_send(fd, frame, (size_t)n);
}

static void send_want(velum_fd fd) {
    uint8_t frame[64];
    velum_module_want want = {.offset = 0};
    memcpy(want.hash, module_hash, sizeof want.hash);
    int n = velum_wire_put_module_want(frame, sizeof frame, 1, &want);
    (void)velum_port_send(fd, frame, (size_t)n);
}

/* A part as the hub's first fetch asked for it. */
static void send_part(velum_fd fd) {
    uint8_t frame[VELUM_HEADER_BYTES + VELUM_MODULE_HEAD_BYTES];
    velum_module_part part = {.total = MODULE_SIZE, .size = MODULE_SIZE};
    memcpy(part.hash, fetched_hash, sizeof part.hash);
    int n = velum_wire_put_module_head(frame, sizeof frame, UINT64_C(1) << 63 | 1u, &part);
    (void)velum_port_send(fd, frame, (size_t)n);
    (void)velum_port_send(fd, module, MODULE_SIZE);
}

static void run_script(velum_fd fd, const uint8_t *script, size_t size) {
    uint8_t taken[4096];
    while (size > 0) {
        size_t n = *script++;
        size--;
        if (n == WAIT) {
            velum_test_advance(INT64_C(3000000));
        } else if (n == TAKE) {
            (void)velum_port_recv(fd, taken, sizeof taken);
        } else if (n == PART) {
            send_part(fd);
        } else if (n == WANT) {
            send_want(fd);
        } else {
            n = n < size ? n : size;
            if (n > 0) (void)velum_port_send(fd, script, n);
            script += n;
            size -= n;
        }
        poll_hub();
    }
}

/* A new link gets its answer, whatever happened on the other. */
static void check_alive(velum_addr addr) {
    uint8_t frame[VELUM_HEADER_BYTES], taken[512];
    velum_fd fd = VELUM_NO_FD;
    size_t got = 0;
    demand(velum_port_dial(&addr, &fd) == 0, "no connection");
    say_hello(fd);
    velum_wire_put_header(frame, VELUM_F_PING, 0, 77);
    (void)velum_port_send(fd, frame, sizeof frame);
    manners &= CAP_MASK;
    for (int i = 0; i < 10; i++) {
        int n;
        poll_hub();
        n = velum_port_recv(fd, taken + got, sizeof taken - got);
        if (n > 0) got += (size_t)n;
    }
    velum_wire_put_header(frame, VELUM_F_PONG, 0, 77);
    demand(got >= sizeof frame && memcmp(taken + got - sizeof frame, frame, sizeof frame) == 0,
           "another link got no PONG");
    velum_port_close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    velum_hub_config config = {4, 1000000, true};
    velum_hello hello = {.role = VELUM_ROLE_NODE, .id = 1};
    velum_addr addr = {0x7f000001u, 0};
    velum_fd fd = VELUM_NO_FD;
    if (size == 0) return 0;
    velum_test_reset(1);
    manners = data[0];
    if (velum_hub_open(&hub, &config) != 0) return 0;
    demand(velum_hub_identity(hub, &hello) == 0, "identity");
    demand(velum_hub_listen(hub, &addr) == 0, "listen");
    demand(velum_modules_add(velum_hub_modules(hub), module, MODULE_SIZE, module_hash) == 0, "add");
    demand(velum_port_dial(&addr, &fd) == 0, "dial");
    if (manners & GREETED) say_hello(fd);
    for (int i = 0; i < 3; i++)
        poll_hub();
    run_script(fd, data + 1, size - 1);
    velum_port_close(fd);
    check_alive(addr);
    velum_hub_close(hub);
    demand(velum_test_open() == 0, "a handle is still open");
    demand(velum_test_misuse() == 0, "a closed handle was used");
    return 0;
}
