/* leaf.c: a leaf's sockets, its links, and the way into the mesh.
 *
 * Owns: listening, who may open a link, which link is home, and the rounds of attempts to get one.
 * Refuses to know: records and datagrams (leaf_gossip.c).
 * How: while no link leads to a full node, rounds of attempts are made: the seed, then every node
 * remembered, one dial at a time; a round without success is followed by a beacon and a pause that
 * doubles. Nodes dial a leaf too, and any link will do as home. A member tells its record over each
 * new home, and again when nobody has probed it for a while: then the mesh has forgotten it.
 */
#include "address.h"
#include "leaf_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The pause after a round of attempts that failed: doubled from the first to the last. A mesh that
 * starts together is joined fast; a mesh that is gone is not asked for too often. */
#define WAIT_US_MIN INT64_C(100000)
#define WAIT_US_MAX INT64_C(2000000)

/* Every full node probes one member a second, so that a member of a mesh is probed once a second on
 * average: by chance, silence lasts this long once in three million times. */
#define SILENCE_US INT64_C(15000000)

#define TOKEN_DIALLED 1u

static void set_trouble(velum_leaf *leaf, int error, velum_addr where, const char *text) {
    velum_leaf_trouble *trouble = &leaf->trouble;
    if (trouble->final) return;
    trouble->error = error;
    trouble->where = where;
    (void)snprintf(trouble->text, sizeof trouble->text, "%s",
                   text != NULL ? text : velum_strerror(error));
}

/* ---- open and close ---- */

int velum__leaf_identify(velum_leaf *leaf) {
    static const char version[] = "velum " VELUM_VERSION;
    velum_hello hello = {.role = VELUM_ROLE_CLIENT};
    hello.version = (velum_text){version, sizeof version - 1u};
    if (velum__is_member(leaf)) {
        hello.role = VELUM_ROLE_LEAF;
        hello.slots = leaf->config.slots;
        hello.id = leaf->me.id;
        hello.incarnation = leaf->me.incarnation;
        hello.addr = leaf->me.addr;
    }
    return velum_hub_identity(leaf->hub, &hello);
}

/* Opens the datagram socket; of a member the listener, too, on the same port. */
static int listen_on(velum_leaf *leaf) {
    velum_addr any = leaf->me.addr;
    if (velum__is_member(leaf)) return velum_hub_serve(leaf->hub, &leaf->me.addr, &leaf->udp);
    any.port = 0;
    return velum_hub_udp(leaf->hub, &any, false, &leaf->udp);
}

int velum_leaf_open(velum_leaf **out, velum_hub *hub, const velum_leaf_config *config) {
    uint64_t now_ms = velum_port_unix_ms();
    velum_leaf *leaf;
    int err;
    if (config->id != VELUM_ID_NONE && config->listen.ip == 0) return VELUM_E_ARGUMENT;
    leaf = calloc(1, sizeof *leaf);
    if (leaf == NULL) return VELUM_E_NOMEM;
    leaf->hub = hub;
    leaf->config = *config;
    leaf->born = now_ms > 0 ? now_ms : 1;
    leaf->started_us = leaf->heard_us = velum_port_now_us();
    leaf->settled_us = INT64_MIN / 2;
    leaf->wait_us = WAIT_US_MIN;
    leaf->health.cores = 1;
    leaf->health.slots = config->slots;
    leaf->me = (velum_member){.id = config->id,
                              .state = VELUM_MEMBER_ALIVE,
                              .role = VELUM_ROLE_LEAF,
                              .incarnation = leaf->born,
                              .addr = config->listen};
    err = velum__leaf_identify(leaf);
    if (err == 0) err = listen_on(leaf);
    if (err == 0) err = velum__leaf_identify(leaf); /* the port is known now */
    if (err != 0) {
        free(leaf);
        return err;
    }
    *out = leaf;
    return 0;
}

void velum_leaf_close(velum_leaf *leaf) {
    free(leaf);
}

/* ---- the table of links ---- */

static velum__leaf_link *find_link(velum_leaf *leaf, velum_handle link) {
    for (size_t i = 0; i < leaf->nlinks; i++) {
        if (leaf->links[i].link == link) return &leaf->links[i];
    }
    return NULL;
}

static void set_home(velum_leaf *leaf, velum_handle link) {
    leaf->home = link;
    leaf->been_in = true;
    leaf->wait_us = WAIT_US_MIN;
    leaf->turn = 0;
    leaf->heard_us = velum_port_now_us();
    if (velum__is_member(leaf)) {
        velum__leaf_send_sync(leaf, link, VELUM_F_SYNC, ++leaf->correlation);
    }
}

static void add_link(velum_leaf *leaf, velum_handle link, const velum_hello *hello,
                     velum_addr addr) {
    if (leaf->nlinks == VELUM_LEAF_LINKS_MAX) {
        velum_hub_drop(leaf->hub, link, (uint16_t)-VELUM_E_CAPACITY, NULL);
        return;
    }
    leaf->links[leaf->nlinks++] = (velum__leaf_link){link, addr, hello->id};
    if (hello->role != VELUM_ROLE_NODE) return;
    velum_leaf_learn(leaf, &(velum_member){.id = hello->id,
                                           .state = VELUM_MEMBER_ALIVE,
                                           .role = VELUM_ROLE_NODE,
                                           .incarnation = hello->incarnation,
                                           .addr = addr});
    if (leaf->home == 0) set_home(leaf, link);
}

static void remove_link(velum_leaf *leaf, velum__leaf_link *gone) {
    velum_handle link = gone->link;
    *gone = leaf->links[--leaf->nlinks];
    if (leaf->home != link) return;
    leaf->home = 0;
    leaf->try_us = velum_port_now_us();
    if (leaf->leaving) return;
    for (size_t i = 0; i < leaf->nlinks; i++) {
        if (leaf->links[i].id != VELUM_ID_NONE) {
            set_home(leaf, leaf->links[i].link);
            return;
        }
    }
}

void velum__leaf_drop(velum_leaf *leaf, velum_handle link, int error, const char *text) {
    velum_event closed;
    const velum__leaf_link *known = find_link(leaf, link);
    memset(&closed, 0, sizeof closed);
    closed.kind = VELUM_EV_CLOSED;
    closed.link = link;
    closed.u.closed.error = error == 0 ? VELUM_E_LEAVING : error;
    closed.u.closed.was_open = true;
    closed.u.closed.id = known != NULL ? known->id : 0;
    velum_hub_drop(leaf->hub, link, (uint16_t)-error, text);
    leaf->config.dropped(leaf->config.user, &closed);
}

/* Ends all links, saying why (0: it leaves). */
static void drop_all(velum_leaf *leaf, int error) {
    leaf->leaving = true;
    if (leaf->dialled != 0) velum_hub_drop(leaf->hub, leaf->dialled, (uint16_t)-error, NULL);
    leaf->dialled = 0;
    while (leaf->nlinks > 0) {
        velum_handle link = leaf->links[0].link;
        velum__leaf_drop(leaf, link, error, NULL);
        if (leaf->nlinks > 0 && leaf->links[0].link == link) remove_link(leaf, &leaf->links[0]);
    }
}

void velum_leaf_leave(velum_leaf *leaf) {
    if (leaf->leaving) return;
    leaf->me.state = VELUM_MEMBER_LEFT;
    if (velum__is_member(leaf)) velum__leaf_farewell(leaf);
    drop_all(leaf, 0);
}

void velum__leaf_conflict(velum_leaf *leaf, velum_addr where) {
    char text[160], address[VELUM_ADDRESS_TEXT_BYTES];
    if (leaf->leaving) return;
    (void)snprintf(text, sizeof text,
                   "node id %u is also in use by the node at %s, which was there first",
                   (unsigned)leaf->me.id, velum_address_write(where, address));
    set_trouble(leaf, VELUM_E_DUPLICATE_ID, where, text);
    leaf->trouble.final = true;
    drop_all(leaf, VELUM_E_DUPLICATE_ID);
}

/* ---- links come and go ---- */

/* Whether the node at the other end may come in; refuses it if not. */
static bool admit(velum_leaf *leaf, const velum_event *event) {
    const velum_hello *hello = &event->u.opened.hello;
    char text[160], address[VELUM_ADDRESS_TEXT_BYTES];
    if (leaf->leaving) {
        velum_hub_drop(leaf->hub, event->link, (uint16_t)-VELUM_E_LEAVING, NULL);
        return false;
    }
    if (hello->role != VELUM_ROLE_NODE && hello->role != VELUM_ROLE_CLIENT) {
        velum_hub_drop(leaf->hub, event->link, (uint16_t)-VELUM_E_UNEXPECTED,
                       "a leaf takes links of full nodes and clients");
        return false;
    }
    if (hello->role == VELUM_ROLE_CLIENT || hello->id != leaf->me.id) return true;
    (void)snprintf(text, sizeof text,
                   "node id %u is already in use by the node at %s; start this one with another id",
                   (unsigned)leaf->me.id, velum_address_write(leaf->me.addr, address));
    velum_hub_drop(leaf->hub, event->link, (uint16_t)-VELUM_E_DUPLICATE_ID, text);
    return false;
}

static void on_opened(velum_leaf *leaf, const velum_event *event) {
    const velum_hello *hello = &event->u.opened.hello;
    velum_addr addr = hello->addr;
    if (addr.ip == 0) addr.ip = event->u.opened.peer.ip;
    if (event->token == TOKEN_DIALLED) {
        leaf->dialled = 0;
        addr = leaf->dialled_addr; /* it can be reached there, whatever it says */
        if (hello->role != VELUM_ROLE_NODE) {
            set_trouble(leaf, VELUM_E_UNEXPECTED, addr, "that is no full node");
            velum_hub_drop(leaf->hub, event->link, (uint16_t)-VELUM_E_UNEXPECTED, NULL);
            return;
        }
    }
    if (!admit(leaf, event)) return;
    if (velum_hub_accept(leaf->hub, event->link) != 0) {
        velum_hub_drop(leaf->hub, event->link, (uint16_t)-VELUM_E_NOMEM, NULL);
        return;
    }
    add_link(leaf, event->link, hello, addr);
}

/* A node that says it leaves is not to be tried again. */
static void forget_node(velum_leaf *leaf, uint16_t id) {
    for (size_t i = 0; i < leaf->nnodes; i++) {
        if (leaf->nodes[i].id == id) leaf->nodes[i].state = VELUM_MEMBER_LEFT;
    }
}

static void on_closed(velum_leaf *leaf, const velum_event *event) {
    velum__leaf_link *known = find_link(leaf, event->link);
    int error = event->u.closed.error;
    if (event->link == leaf->dialled) {
        leaf->dialled = 0;
        set_trouble(leaf, error, leaf->dialled_addr, event->u.closed.text);
        if (error == VELUM_E_DUPLICATE_ID) {
            leaf->trouble.final = true;
            drop_all(leaf, error);
        }
        return;
    }
    if (known == NULL) return;
    if (error == VELUM_E_LEAVING) forget_node(leaf, known->id);
    if (event->link == leaf->home) set_trouble(leaf, error, known->addr, event->u.closed.text);
    remove_link(leaf, known);
}

/* ---- frames ---- */

static void refuse(velum_leaf *leaf, const velum_event *event, int error, const char *text) {
    uint8_t frame[256];
    velum_error message = {(uint16_t)-error, leaf->me.id, 0, {text, (uint16_t)strlen(text)}};
    int n = velum_wire_put_error(frame, sizeof frame, event->u.frame.header.correlation, &message);
    if (n > 0) (void)velum_hub_send(leaf->hub, event->link, frame, (size_t)n);
}

static void on_frame(velum_leaf *leaf, const velum_event *event) {
    const velum__leaf_link *link = find_link(leaf, event->link);
    uint8_t type = event->u.frame.header.type;
    int err = 0;
    if (link == NULL) return;
    switch (type) {
    case VELUM_F_SYNC:
    case VELUM_F_SYNC_REPLY:
        if (velum__is_member(leaf) && link->id != VELUM_ID_NONE) {
            err = velum__leaf_synced(leaf, link, &event->u.frame);
        }
        break;
    case VELUM_F_CALL:
        refuse(leaf, event, VELUM_E_UNEXPECTED, "a leaf schedules no work: ask a full node");
        break;
    case VELUM_F_TASK:
    case VELUM_F_LEASE:
        refuse(leaf, event, VELUM_E_NO_WORKER, "this node offers no worker");
        break;
    case VELUM_F_SCATTER: /* from a node it only repeats what this program has asked for */
        if (link->id == VELUM_ID_NONE) {
            refuse(leaf, event, VELUM_E_UNEXPECTED, "a leaf coordinates no jobs: ask a full node");
        }
        break;
    case VELUM_F_JOB_ASK:
        refuse(leaf, event, VELUM_E_JOB_UNKNOWN, "a leaf keeps no jobs: ask a full node");
        break;
    case VELUM_F_QUERY:
        refuse(leaf, event, VELUM_E_QUERY, "a leaf answers no queries: ask a full node");
        break;
    default: /* answers, and news that a leaf has no use for */
        break;
    }
    if (err < 0) velum__leaf_drop(leaf, event->link, err, NULL);
}

void velum_leaf_event(velum_leaf *leaf, const velum_event *event) {
    switch (event->kind) {
    case VELUM_EV_OPENED:
        on_opened(leaf, event);
        break;
    case VELUM_EV_CLOSED:
        on_closed(leaf, event);
        break;
    case VELUM_EV_FRAME:
        on_frame(leaf, event);
        break;
    case VELUM_EV_DATAGRAM:
        if (event->u.datagram.socket == leaf->udp && !leaf->leaving) {
            velum__leaf_datagram(leaf, event->u.datagram.message, &event->u.datagram.from);
        }
        break;
    default:
        break;
    }
}

/* ---- the way in ---- */

/* The next address of this round, or port 0 when it is over. */
static velum_addr next_address(velum_leaf *leaf) {
    while (leaf->turn <= leaf->nnodes) {
        size_t turn = leaf->turn++;
        velum_addr addr = leaf->config.seed;
        if (turn > 0) {
            const velum_member *node = &leaf->nodes[turn - 1];
            addr = node->addr;
            if (node->state == VELUM_MEMBER_LEFT) continue;
            if (velum__same_addr(addr, leaf->config.seed)) continue;
        }
        if (addr.port != 0) return addr;
    }
    return (velum_addr){0, 0};
}

void velum__leaf_hurry(velum_leaf *leaf) {
    int64_t now = velum_port_now_us();
    if (leaf->home == 0 && now < leaf->try_us) leaf->try_us = now;
}

/* Dials the next address, or ends the round. */
static void attempt(velum_leaf *leaf, int64_t now) {
    for (;;) {
        velum_addr addr = next_address(leaf);
        int err;
        if (addr.port == 0) break;
        err = velum_hub_dial(leaf->hub, &addr, TOKEN_DIALLED, &leaf->dialled);
        if (err == 0) {
            leaf->dialled_addr = addr;
            return;
        }
        leaf->dialled = 0;
        set_trouble(leaf, err, addr, NULL);
    }
    leaf->turn = 0;
    leaf->try_us = now + leaf->wait_us;
    leaf->wait_us = 2 * leaf->wait_us < WAIT_US_MAX ? 2 * leaf->wait_us : WAIT_US_MAX;
    /* Whoever names a seed means that mesh; once there, any way back into it is right. */
    if (leaf->config.seed.port == 0 || leaf->been_in) velum__leaf_ask(leaf);
}

int64_t velum_leaf_tick(velum_leaf *leaf) {
    int64_t now = velum_port_now_us();
    if (leaf->leaving) return INT64_MAX;
    if (leaf->home == 0) {
        if (leaf->dialled != 0) return INT64_MAX; /* it ends in an event */
        if (now >= leaf->try_us) attempt(leaf, now);
        return leaf->dialled != 0 ? INT64_MAX : leaf->try_us;
    }
    if (!velum__is_member(leaf)) return INT64_MAX;
    if (now - leaf->heard_us >= SILENCE_US) {
        leaf->heard_us = now;
        velum__leaf_send_sync(leaf, leaf->home, VELUM_F_SYNC, ++leaf->correlation);
    }
    return leaf->heard_us + SILENCE_US;
}

/* ---- what others may read ---- */

velum_handle velum_leaf_home(const velum_leaf *leaf) {
    return leaf->home;
}

const velum_addr *velum_leaf_home_addr(const velum_leaf *leaf) {
    for (size_t i = 0; i < leaf->nlinks; i++) {
        if (leaf->links[i].link == leaf->home) return &leaf->links[i].addr;
    }
    return NULL;
}

bool velum_leaf_joined(const velum_leaf *leaf) {
    return leaf->home != 0 && (leaf->exchanged || !velum__is_member(leaf));
}

const velum_member *velum_leaf_me(const velum_leaf *leaf) {
    return &leaf->me;
}

const velum_leaf_trouble *velum_leaf_why(const velum_leaf *leaf) {
    return &leaf->trouble;
}
