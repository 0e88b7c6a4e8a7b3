/* full_node.h: a full node made by hand, for tests of what leans on one: a hub that lets everybody
 * in, answers SYNC, and notes what it was told. Whatever else it does, a test does with its hub.
 */
#ifndef VELUM_TEST_FULL_NODE_H
#define VELUM_TEST_FULL_NODE_H

#include "check.h"
#include "hub.h"

#include <stdlib.h>

#define LOCAL_IP         0x7f000001u
#define NODE_EVENTS      32u
#define NODE_RECORDS_MAX 64u
#define FRAMES_KEPT      8u

/* A frame that came, copied. */
typedef struct {
    velum_handle link;
    velum_header header;
    uint8_t payload[1100];
} kept_frame;

typedef struct {
    velum_hub *hub;
    velum_member me;
    uint8_t udp;
    uint16_t refuse; /* code that every HELLO is refused with, 0: none */
    const char *why;
    bool mute; /* does not answer SYNC */
    /* What SYNC_REPLY tells beside the node itself. */
    velum_member tells[NODE_RECORDS_MAX];
    size_t ntells;

    velum_handle link; /* the newest, 0 once it has closed */
    velum_hello hello; /* its; texts are gone */
    unsigned opened, closed;
    int close_error;       /* of the last that closed */
    char close_text[512];  /* of its BYE */
    unsigned syncs;        /* SYNC and SYNC_REPLY */
    velum_member told;     /* sender's record in the last of these */
    unsigned datagrams[8]; /* by type, from PROBE */
    velum_datagram last[8];
    velum_addr last_from;
    kept_frame frames[FRAMES_KEPT]; /* those that the node does not answer itself */
    unsigned nframes;
    unsigned seen[256]; /* of these, by type */
    int module_error;   /* of the last MODULE event, 1: none came */
} full_node;

static inline void node_open_at(full_node *n, uint16_t id, uint64_t incarnation, uint16_t port) {
    velum_hub_config config = {16, 64u * 1024u * 1024u, true, 0};
    velum_hello hello = {.role = VELUM_ROLE_NODE, .id = id, .incarnation = incarnation};
    memset(n, 0, sizeof *n);
    n->module_error = 1;
    n->me =
        (velum_member){id, VELUM_MEMBER_ALIVE, VELUM_ROLE_NODE, incarnation, {LOCAL_IP, port}, 0};
    CHECK_EQ(velum_hub_open(&n->hub, &config), 0);
    CHECK_EQ(velum_hub_identity(n->hub, &hello), 0);
    CHECK_EQ(velum_hub_listen(n->hub, &n->me.addr), 0);
    CHECK_EQ(velum_hub_udp(n->hub, &n->me.addr, false, &n->udp), 0);
    hello.addr = n->me.addr;
    CHECK_EQ(velum_hub_identity(n->hub, &hello), 0);
}

static inline void node_open(full_node *n, uint16_t id) {
    node_open_at(n, id, 1000u + id, 0);
}

static inline void node_close(full_node *n) {
    velum_hub_close(n->hub);
    n->hub = NULL;
}

/* Its own record, then what it tells, as SYNC or SYNC_REPLY. */
static inline void node_sync(full_node *n, velum_handle link, uint8_t type, uint64_t correlation) {
    static uint8_t frame[VELUM_HEADER_BYTES + 2u + (NODE_RECORDS_MAX + 1u) * 44u];
    velum_member records[NODE_RECORDS_MAX + 1u];
    velum_health healths[NODE_RECORDS_MAX + 1u];
    int size;
    records[0] = n->me;
    memcpy(records + 1, n->tells, n->ntells * sizeof *records);
    for (size_t i = 0; i <= n->ntells; i++)
        healths[i] = (velum_health){.cores = 1};
    size = velum_wire_put_sync(frame, sizeof frame, type, correlation, records, healths,
                               n->ntells + 1);
    CHECK(size > 0);
    CHECK_EQ(velum_hub_send(n->hub, link, frame, (size_t)size), 0);
}

static inline void node_on_frame(full_node *n, const velum_event *event) {
    const velum_frame *frame = &event->u.frame;
    uint8_t type = frame->header.type;
    velum_health health;
    if (type == VELUM_F_SYNC || type == VELUM_F_SYNC_REPLY) {
        n->syncs++;
        CHECK(velum_wire_get_sync_at(frame->payload, frame->header.length, 0, &n->told, &health) >
              0);
        if (type == VELUM_F_SYNC && !n->mute) {
            node_sync(n, event->link, VELUM_F_SYNC_REPLY, frame->header.correlation);
        }
        return;
    }
    kept_frame *kept = &n->frames[n->nframes++ % FRAMES_KEPT];
    n->seen[type]++;
    kept->link = event->link;
    kept->header = frame->header;
    CHECK(frame->header.length <= sizeof kept->payload);
    if (frame->header.length > 0 && frame->header.length <= sizeof kept->payload) {
        memcpy(kept->payload, frame->payload, frame->header.length);
    }
}

static inline void node_on_event(full_node *n, const velum_event *event) {
    unsigned which;
    switch (event->kind) {
    case VELUM_EV_OPENED:
        n->opened++;
        n->hello = event->u.opened.hello;
        if (n->refuse != 0) {
            velum_hub_drop(n->hub, event->link, n->refuse, n->why);
            break;
        }
        CHECK_EQ(velum_hub_accept(n->hub, event->link), 0);
        n->link = event->link;
        break;
    case VELUM_EV_CLOSED:
        n->closed++;
        n->close_error = event->u.closed.error;
        n->close_text[0] = '\0';
        if (event->u.closed.text != NULL) {
            (void)snprintf(n->close_text, sizeof n->close_text, "%s", event->u.closed.text);
        }
        if (event->link == n->link) n->link = 0;
        break;
    case VELUM_EV_DATAGRAM:
        which = (unsigned)event->u.datagram.message->type - VELUM_F_PROBE;
        n->datagrams[which]++;
        n->last[which] = *event->u.datagram.message;
        n->last_from = event->u.datagram.from;
        break;
    case VELUM_EV_MODULE:
        n->module_error = event->u.module.error;
        break;
    case VELUM_EV_FRAME:
        node_on_frame(n, event);
        break;
    default:
        break;
    }
}

/* Serves once, sleeping no longer than `timeout_us`. */
static inline void node_serve(full_node *n, int64_t timeout_us) {
    velum_event events[NODE_EVENTS];
    int count = velum_hub_poll(n->hub, timeout_us, events, NODE_EVENTS);
    CHECK(count >= 0);
    for (int i = 0; i < count; i++)
        node_on_event(n, &events[i]);
}

/* The latest frame of a type, of those kept. */
static inline const kept_frame *node_frame(const full_node *n, uint8_t type) {
    unsigned oldest = n->nframes > FRAMES_KEPT ? n->nframes - FRAMES_KEPT : 0;
    for (unsigned i = n->nframes; i > oldest; i--) {
        const kept_frame *frame = &n->frames[(i - 1) % FRAMES_KEPT];
        if (frame->header.type == type) return frame;
    }
    CHECK(oldest > n->nframes); /* none of that type came */
    return &n->frames[0];
}

/* The last datagram of a type that came. */
static inline const velum_datagram *node_datagram(const full_node *n, uint8_t type) {
    CHECK(n->datagrams[type - VELUM_F_PROBE] > 0);
    return &n->last[type - VELUM_F_PROBE];
}

static inline unsigned node_count(const full_node *n, uint8_t type) {
    return n->datagrams[type - VELUM_F_PROBE];
}

/* Sends a datagram in the node's name. */
static inline void node_send(full_node *n, velum_addr to, velum_datagram message) {
    message.sender = n->me.id;
    CHECK_EQ(velum_hub_udp_send(n->hub, n->udp, &to, &message), 0);
}

#endif
