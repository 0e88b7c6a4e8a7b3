/* hub_world.h: what the tests of the hub share: a hub that listens in the test port's world, raw
 * peers that say whatever a test likes, and a look at events.
 */
#ifndef VELUM_TEST_HUB_WORLD_H
#define VELUM_TEST_HUB_WORLD_H

#include "check.h"
#include "hub.h"
#include "port/test/port_test.h"

#include <stdlib.h>

#define SECOND        INT64_C(1000000)
#define EVENTS        64u
#define LOCAL_IP      0x7f000001u
#define WORLD_WATCHES 16u /* for services */

static velum_event events[EVENTS];
static int event_count;
static velum_addr hub_addr;
static uint64_t world_seed = 1;
static velum_test_manner world_manner; /* of every stream */

static inline velum_hub *open_hub(uint16_t id, uint16_t links_max) {
    velum_hub_config config = {links_max, 64u * 1024u * 1024u, true, WORLD_WATCHES};
    velum_hello hello = {.role = VELUM_ROLE_NODE, .id = id, .incarnation = id, .version = {"t", 1}};
    velum_hub *hub = NULL;
    CHECK_EQ(velum_hub_open(&hub, &config), 0);
    CHECK_EQ(velum_hub_identity(hub, &hello), 0);
    return hub;
}

/* A hub in a new world, listening on hub_addr. */
static inline velum_hub *open_world(uint16_t links_max) {
    velum_hub *hub;
    velum_test_reset(world_seed);
    velum_test_set_default_manner(&world_manner);
    hub = open_hub(7, links_max);
    hub_addr = (velum_addr){LOCAL_IP, 0};
    CHECK_EQ(velum_hub_listen(hub, &hub_addr), 0);
    return hub;
}

/* Every handle must be closed by now. */
static inline void end_world(void) {
    CHECK_EQ(velum_test_open(), 0);
    CHECK_EQ(velum_test_misuse(), 0);
}

static inline int poll_for(velum_hub *hub, int64_t timeout_us) {
    event_count = velum_hub_poll(hub, timeout_us, events, EVENTS);
    CHECK(event_count >= 0);
    return event_count;
}

/* Polls without sleeping; the first event of that kind, or NULL. */
static inline const velum_event *poll_event(velum_hub *hub, velum_event_kind kind) {
    poll_for(hub, 0);
    for (int i = 0; i < event_count; i++) {
        if (events[i].kind == kind) return &events[i];
    }
    return NULL;
}

/* Polls; expects one CLOSED and nothing else. */
static inline void expect_closed(velum_hub *hub, velum_handle link, int error) {
    CHECK_EQ(poll_for(hub, 0), 1);
    CHECK_EQ(events[0].kind, VELUM_EV_CLOSED);
    CHECK_EQ(events[0].link, link);
    CHECK_EQ(events[0].u.closed.error, error);
}

/* ---- raw peers ---- */

static inline velum_fd raw_dial(void) {
    velum_fd fd = VELUM_NO_FD;
    CHECK_EQ(velum_port_dial(&hub_addr, &fd), 0);
    return fd;
}

static inline void raw_send(velum_fd fd, const void *bytes, size_t n) {
    CHECK_EQ(velum_port_send(fd, bytes, n), (int)n);
}

static inline size_t put_hello(uint8_t *buf, size_t cap, uint16_t id) {
    velum_hello hello = {.role = VELUM_ROLE_NODE, .id = id, .version = {"raw", 3}};
    int n = velum_wire_put_hello(buf, cap, 0, &hello);
    CHECK(n > 0);
    return (size_t)n;
}

static inline void raw_hello(velum_fd fd, uint16_t id) {
    uint8_t buf[128];
    raw_send(fd, buf, put_hello(buf, sizeof buf, id));
}

static inline size_t put_call(uint8_t *buf, size_t cap, uint64_t correlation, uint8_t flags,
                              const char *name, uint64_t a, uint64_t b) {
    velum_call call = {.flags = flags, .name = {name, (uint16_t)strlen(name)}, .nargs = 2};
    int n;
    call.args[0] = (velum_value){VELUM_I64, a};
    call.args[1] = (velum_value){VELUM_I64, b};
    n = velum_wire_put_call(buf, cap, correlation, &call);
    CHECK(n > 0);
    return (size_t)n;
}

static inline void raw_call(velum_fd fd, uint64_t correlation, uint64_t a, uint64_t b) {
    uint8_t buf[128];
    raw_send(fd, buf, put_call(buf, sizeof buf, correlation, VELUM_TASK_PLACED, "add", a, b));
}

static inline void raw_empty(velum_fd fd, uint8_t type, uint64_t correlation) {
    uint8_t buf[VELUM_HEADER_BYTES];
    velum_wire_put_header(buf, type, 0, correlation);
    raw_send(fd, buf, sizeof buf);
}

static inline void raw_exactly(velum_fd fd, uint8_t *to, size_t n) {
    while (n > 0) {
        int got = velum_port_recv(fd, to, n);
        CHECK(got > 0);
        if (got <= 0) return;
        to += got;
        n -= (size_t)got;
    }
}

/* Takes `n` bytes from a peer's socket while the hub keeps sending. */
static inline void pump(velum_hub *hub, velum_fd fd, uint8_t *to, size_t n) {
    for (int rounds = 0; n > 0 && rounds < 10000; rounds++) {
        int got;
        velum_hub_poll(hub, 0, events, EVENTS);
        got = velum_port_recv(fd, to, n);
        if (got > 0) {
            to += got;
            n -= (size_t)got;
        }
    }
    CHECK_EQ(n, 0);
}

/* The next frame, which must be of that type and short; its payload lands in `payload`. */
static inline velum_header raw_expect(velum_fd fd, uint8_t type, uint8_t payload[2048]) {
    uint8_t head[VELUM_HEADER_BYTES] = {0};
    velum_header header = {0, 0, 0};
    raw_exactly(fd, head, sizeof head);
    CHECK_EQ(velum_wire_header(head, sizeof head, &header), VELUM_HEADER_BYTES);
    CHECK_EQ(header.type, type);
    CHECK(header.length <= 2048);
    if (header.length <= 2048) raw_exactly(fd, payload, header.length);
    return header;
}

/* Expects a BYE with that (negative) error, then the end. Closes. */
static inline void raw_expect_bye(velum_fd fd, int error) {
    uint8_t payload[2048] = {0};
    velum_header header = raw_expect(fd, VELUM_F_BYE, payload);
    velum_bye bye = {0, {NULL, 0}};
    CHECK(velum_wire_get_bye(payload, header.length, &bye) > 0);
    CHECK_EQ(bye.code, -error);
    CHECK_EQ(velum_port_recv(fd, payload, 1), VELUM_E_CLOSED);
    velum_port_close(fd);
}

/* The sum that a RESULT frame carries. */
static inline uint64_t raw_result(velum_fd fd, uint64_t correlation) {
    uint8_t payload[2048] = {0};
    velum_header header = raw_expect(fd, VELUM_F_RESULT, payload);
    velum_result result = {0};
    CHECK(header.correlation == correlation);
    CHECK(velum_wire_get_result(payload, header.length, &result) > 0);
    CHECK_EQ(result.node, 7);
    return result.values[0].bits;
}

/* A raw peer that the hub's owner has accepted; its HELLO has been read. */
static inline velum_fd raw_member(velum_hub *hub, uint16_t id, velum_handle *link) {
    uint8_t payload[2048];
    velum_fd fd = raw_dial();
    const velum_event *event;
    raw_hello(fd, id);
    event = poll_event(hub, VELUM_EV_OPENED);
    CHECK(event != NULL);
    *link = event == NULL ? 0 : event->link;
    CHECK_EQ(velum_hub_accept(hub, *link), 0);
    CHECK_EQ(poll_for(hub, 0), 0);
    raw_expect(fd, VELUM_F_HELLO, payload);
    return fd;
}

#endif
