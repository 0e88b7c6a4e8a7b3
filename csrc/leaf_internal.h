/* leaf_internal.h: what leaf.c and leaf_gossip.c share. Nobody else includes it.
 *
 * leaf.c         sockets, links, home, the way in
 * leaf_gossip.c  records: its own, of others, and the datagrams and frames that carry them
 */
#ifndef VELUM_LEAF_INTERNAL_H
#define VELUM_LEAF_INTERNAL_H

#include "leaf.h"

/* An open link. */
typedef struct {
    velum_handle link;
    velum_addr addr; /* where its node listens */
    uint16_t id;     /* 0: a client's */
} velum__leaf_link;

struct velum_leaf {
    velum_hub *hub;
    velum_leaf_config config;
    velum_member me;
    velum_health health;
    uint8_t udp;
    bool been_in;   /* has had a home */
    bool exchanged; /* has merged somebody's state */
    bool leaving;
    uint8_t tell; /* ACKs that still carry its own record */
    velum_leaf_trouble trouble;

    velum__leaf_link links[VELUM_LEAF_LINKS_MAX];
    size_t nlinks;
    velum_handle home;    /* one of these that leads to a full node, or 0 */
    velum_handle dialled; /* a dial under way, or 0 */
    velum_addr dialled_addr;

    velum_member nodes[VELUM_LEAF_MEMBERS_MAX]; /* full nodes, to come back through */
    size_t nnodes;
    size_t turn; /* what to try next: 0 the seed, then the nodes */

    uint64_t born;        /* its incarnation at the start */
    int64_t started_us;   /* that moment */
    int64_t try_us;       /* when the next round of attempts begins */
    int64_t wait_us;      /* how long after a round without success */
    int64_t heard_us;     /* last probe, or exchange of state */
    int64_t settled_us;   /* last word on a conflict of ids */
    uint64_t correlation; /* of the last SYNC */
};

/* Whether it is a member, and not a client. */
static inline bool velum__is_member(const velum_leaf *leaf) {
    return leaf->config.id != VELUM_ID_NONE;
}

static inline bool velum__same_addr(velum_addr a, velum_addr b) {
    return a.ip == b.ip && a.port == b.port;
}

/* ---- leaf.c ---- */

/* Tells the hub what HELLO says from now on: after a change of `me`. */
int velum__leaf_identify(velum_leaf *leaf);
/* Drops an open link and tells the owner. */
void velum__leaf_drop(velum_leaf *leaf, velum_handle link, int error, const char *text);
/* Its id belongs to the node at `where`: it must stop, and does not say that it leaves, because
 * that would be taken for the other's word. */
void velum__leaf_conflict(velum_leaf *leaf, velum_addr where);
/* New addresses are known: goes on with the round of attempts at once. */
void velum__leaf_hurry(velum_leaf *leaf);

/* ---- leaf_gossip.c ---- */

void velum__leaf_datagram(velum_leaf *leaf, const velum_datagram *message, const velum_addr *from);
/* A SYNC or SYNC_REPLY from a full node: 0, or the error that its link must end with. */
int velum__leaf_synced(velum_leaf *leaf, const velum__leaf_link *link, const velum_frame *frame);
/* Sends its own record over a link; `type` is SYNC or SYNC_REPLY. */
void velum__leaf_send_sync(velum_leaf *leaf, velum_handle link, uint8_t type, uint64_t correlation);
/* Tells as many full nodes as it knows that it has left. */
void velum__leaf_farewell(velum_leaf *leaf);
/* Asks whoever hears it to answer with a beacon, or to dial. */
void velum__leaf_ask(velum_leaf *leaf);

#endif
