/* leaf.h: a node's place in a mesh, as small as it can be.
 *
 * Owns: this node's record (id, address, incarnation), the way in through some full node and back
 * in through another, who may open a link, and the few full nodes it remembers for that. Refuses to
 * know: tasks, guests, and who polls the hub.
 * How: a passive member of SWIM (docs/protocol.md, sections 3, 6 and 7). It answers probes, refutes
 * what is said of it, and keeps a link to one full node, its home; it never probes, never passes
 * gossip on, never schedules. With id 0 it is a client, no member: it only keeps its home.
 */
#ifndef VELUM_LEAF_H
#define VELUM_LEAF_H

#include "hub.h"

typedef struct velum_leaf velum_leaf;

typedef struct {
    uint16_t id;          /* 0: a client */
    uint8_t slots;        /* workers it offers */
    velum_addr listen;    /* of a member: port 0 picks a free one; of a client: ip only */
    velum_addr seed;      /* a full node; port 0: find one by beacon */
    uint16_t beacon_port; /* where full nodes hear beacons */
    /* The leaf has dropped a link, of which the hub says no more: give yourself, and then the leaf,
     * the CLOSED event that would have come. Not NULL. */
    void (*dropped)(void *user, const velum_event *closed);
    void *user;
} velum_leaf_config;

/* Why it is not in the mesh. */
typedef struct {
    int error;  /* of the last attempt; 0: none has failed */
    bool final; /* it must stop: its id belongs to another node (DUPLICATE_ID) */
    velum_addr where;
    char text[256]; /* terminated */
} velum_leaf_trouble;

/* A member listens and opens its datagram socket on the same port; both open on the hub, which must
 * be new and outlive the leaf. ADDRESS_IN_USE, UNREACHABLE (not our address), NOMEM, ARGUMENT (no
 * address to tell others), or another error of the port. */
int velum_leaf_open(velum_leaf **out, velum_hub *hub, const velum_leaf_config *config);
/* Forgets everything and says nothing. NULL does nothing. */
void velum_leaf_close(velum_leaf *leaf);
/* Tells the mesh that it leaves, and drops its links. From now on it only refuses. */
void velum_leaf_leave(velum_leaf *leaf);

/* Any event of the hub; what concerns tasks alone is passed over, but for what a leaf must refuse:
 * unplaced CALLs, QUERY, and TASKs, which therefore only get here where nobody runs them. */
void velum_leaf_event(velum_leaf *leaf, const velum_event *event);
/* Does what is due. Returns when to come back (velum_port_now_us's scale), INT64_MAX for never. */
int64_t velum_leaf_tick(velum_leaf *leaf);
/* What it tells of its load. Copied. */
void velum_leaf_health(velum_leaf *leaf, const velum_health *health);
/* A full node that somebody told of. */
void velum_leaf_learn(velum_leaf *leaf, const velum_member *node);

/* The link to the full node that it hangs on, and that node's address; 0 and NULL: none now. */
velum_handle velum_leaf_home(const velum_leaf *leaf);
const velum_addr *velum_leaf_home_addr(const velum_leaf *leaf);
/* A full node knows it: links stand, and state was exchanged (of a member). */
bool velum_leaf_joined(const velum_leaf *leaf);
/* Its own record as it now stands; of a client id 0. */
const velum_member *velum_leaf_me(const velum_leaf *leaf);
const velum_leaf_trouble *velum_leaf_why(const velum_leaf *leaf);

#endif
