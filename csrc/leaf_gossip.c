/* leaf_gossip.c: what is said of this leaf, and what it says.
 *
 * Owns: its own record and incarnation, the table of full nodes, the answers to datagrams, and the
 * exchange of state. Refuses to know: links, beyond sending on one.
 * How: the table of what a datagram does:
 *
 *   PROBE          for this leaf: ACK, after rising above `suspected`; for another: nothing
 *   PROBE_REQUEST  NACK: a leaf does not probe
 *   ACK, NACK      nothing: it asked nobody
 *   GOSSIP         its records, as those that ride on PROBE and the others
 *   BEACON         a full node to come in through; a question in it is left to full nodes, because
 *                  whoever asks wants one of those
 *
 * and of what a record does: about this leaf, SUSPECT, DEAD or LEFT at its incarnation or above it
 * is refuted; ALIVE elsewhere is a conflict of ids; about a full node, it is remembered.
 */
#include "leaf_internal.h"

#include <string.h>

/* ACKs that carry the leaf's own record after it has changed: one that arrives is enough. */
#define TELLS 8

/* Full nodes that are told when it leaves: the links' BYE says the same, gossip does the rest. */
#define FAREWELLS 8

/* A clock this much behind is assumed when a leaf that is still joining hears of its own id with an
 * incarnation in its future: the other was there first all the same. */
#define CLOCK_SKEW_MS 2000

/* Between two words to another bearer of this id. */
#define SETTLE_US INT64_C(1000000)

/* Records above are ignored: nobody could rise above them. */
#define INCARNATION_MAX (UINT64_MAX >> 1)

static void send_to(velum_leaf *leaf, velum_addr to, const velum_datagram *message) {
    (void)velum_hub_udp_send(leaf->hub, leaf->udp, &to, message); /* datagrams may be lost */
}

/* Tells one address this leaf's own record. */
static void tell(velum_leaf *leaf, velum_addr to) {
    velum_datagram message = {.type = VELUM_F_GOSSIP, .sender = leaf->me.id, .nupdates = 1};
    message.updates[0] = leaf->me;
    send_to(leaf, to, &message);
}

/* ---- full nodes ---- */

static velum_member *find_node(velum_leaf *leaf, uint16_t id) {
    for (size_t i = 0; i < leaf->nnodes; i++) {
        if (leaf->nodes[i].id == id) return &leaf->nodes[i];
    }
    return NULL;
}

/* A place for a node that is new: a free one, or that of one that is gone. */
static velum_member *place_for_node(velum_leaf *leaf) {
    if (leaf->nnodes < VELUM_LEAF_MEMBERS_MAX) return &leaf->nodes[leaf->nnodes++];
    for (size_t i = 0; i < leaf->nnodes; i++) {
        if (leaf->nodes[i].state >= VELUM_MEMBER_DEAD) return &leaf->nodes[i];
    }
    return NULL;
}

/* The incarnation rule: the higher wins, at the same the higher state. */
static bool supersedes(const velum_member *said, const velum_member *held) {
    if (said->incarnation != held->incarnation) return said->incarnation > held->incarnation;
    return said->state > held->state;
}

void velum_leaf_learn(velum_leaf *leaf, const velum_member *node) {
    velum_member *held = find_node(leaf, node->id);
    bool live = node->state <= VELUM_MEMBER_SUSPECT;
    if (node->role != VELUM_ROLE_NODE || node->addr.ip == 0 || node->addr.port == 0) return;
    if (node->incarnation > INCARNATION_MAX) return;
    if (held != NULL && !supersedes(node, held)) return;
    if (held == NULL && live) held = place_for_node(leaf);
    if (held == NULL) return;
    *held = *node;
    if (live) velum__leaf_hurry(leaf);
}

/* ---- records about this leaf ---- */

/* Refutes: says ALIVE at a higher incarnation than what was said. */
static void rise_above(velum_leaf *leaf, uint64_t incarnation) {
    leaf->me.incarnation = incarnation + 1;
    leaf->tell = TELLS;
    (void)velum__leaf_identify(leaf); /* was encoded before: cannot fail */
}

static bool is_after(velum_addr a, velum_addr b) {
    return a.ip != b.ip ? a.ip > b.ip : a.port > b.port;
}

/* Another node lives under this id: whoever started later stops. */
static void settle(velum_leaf *leaf, const velum_member *said) {
    int64_t now = velum_port_now_us();
    uint64_t age_ms = (uint64_t)((now - leaf->started_us) / 1000) + CLOCK_SKEW_MS;
    bool behind = !leaf->exchanged && said->incarnation > leaf->born + age_ms;
    bool second = leaf->born != said->incarnation ? leaf->born > said->incarnation
                                                  : is_after(leaf->me.addr, said->addr);
    if (behind || second) {
        velum__leaf_conflict(leaf, said->addr);
    } else if (now - leaf->settled_us >= SETTLE_US) {
        leaf->settled_us = now;
        tell(leaf, said->addr);
    }
}

static void hear_of_me(velum_leaf *leaf, const velum_member *said, velum_addr teller) {
    const velum_member *accuser;
    if (said->incarnation > INCARNATION_MAX) return;
    if (said->state == VELUM_MEMBER_ALIVE && !velum__same_addr(said->addr, leaf->me.addr)) {
        settle(leaf, said);
        return;
    }
    if (said->incarnation < leaf->me.incarnation) return;
    if (said->incarnation == leaf->me.incarnation && said->state == VELUM_MEMBER_ALIVE) return;
    rise_above(leaf, said->incarnation);
    tell(leaf, teller);
    accuser = find_node(leaf, said->from);
    if (accuser != NULL && !velum__same_addr(accuser->addr, teller)) tell(leaf, accuser->addr);
}

static void hear(velum_leaf *leaf, const velum_member *said, velum_addr teller) {
    if (leaf->leaving) return;
    if (said->id == leaf->me.id) {
        hear_of_me(leaf, said, teller);
    } else {
        velum_leaf_learn(leaf, said);
    }
}

/* ---- datagrams ---- */

static void on_probe(velum_leaf *leaf, const velum_datagram *probe, velum_addr from) {
    velum_datagram answer = {.type = VELUM_F_ACK, .sequence = probe->sequence};
    leaf->heard_us = velum_port_now_us();
    if (probe->incarnation >= leaf->me.incarnation && probe->incarnation <= INCARNATION_MAX) {
        rise_above(leaf, probe->incarnation);
    }
    answer.sender = answer.target = leaf->me.id;
    answer.incarnation = leaf->me.incarnation;
    answer.health = leaf->health;
    if (leaf->tell > 0) {
        leaf->tell--;
        answer.nupdates = 1;
        answer.updates[0] = leaf->me;
    }
    send_to(leaf, from, &answer);
}

static void on_probe_request(velum_leaf *leaf, const velum_datagram *request, velum_addr from) {
    velum_datagram answer = {.type = VELUM_F_NACK, .sequence = request->sequence};
    answer.sender = leaf->me.id;
    answer.target = request->target;
    send_to(leaf, from, &answer);
}

static void on_beacon(velum_leaf *leaf, const velum_datagram *beacon, velum_addr from) {
    velum_member said = {.id = beacon->sender,
                         .state = VELUM_MEMBER_ALIVE,
                         .role = beacon->role,
                         .incarnation = beacon->incarnation,
                         .addr = beacon->addr};
    if (beacon->role == VELUM_ROLE_CLIENT) return;
    if (said.addr.ip == 0) said.addr.ip = from.ip;
    if (said.id != leaf->me.id) {
        velum_leaf_learn(leaf, &said);
    } else if (!velum__same_addr(said.addr, leaf->me.addr)) {
        settle(leaf, &said);
    }
}

void velum__leaf_datagram(velum_leaf *leaf, const velum_datagram *message, const velum_addr *from) {
    if (message->type == VELUM_F_BEACON) {
        on_beacon(leaf, message, *from);
        return;
    }
    if (!velum__is_member(leaf)) return;
    if (message->sender == leaf->me.id) { /* another bearer of this id */
        tell(leaf, *from);
        return;
    }
    if (message->type == VELUM_F_PROBE && message->target != leaf->me.id) {
        return; /* meant for who had this address before, in another mesh perhaps */
    }
    for (size_t i = 0; i < message->nupdates; i++) {
        hear(leaf, &message->updates[i], *from);
    }
    if (leaf->leaving) return;
    if (message->type == VELUM_F_PROBE) on_probe(leaf, message, *from);
    if (message->type == VELUM_F_PROBE_REQUEST) on_probe_request(leaf, message, *from);
}

void velum__leaf_ask(velum_leaf *leaf) {
    velum_datagram beacon = {.type = VELUM_F_BEACON, .flags = VELUM_BEACON_ASK};
    velum_addr to = {UINT32_MAX, leaf->config.beacon_port};
    bool loopback = leaf->config.listen.ip >> 24 == 127u;
    if (loopback) to.ip = 0x7fffffffu; /* 127.255.255.255 */
    beacon.role = VELUM_ROLE_CLIENT;
    if (velum__is_member(leaf)) {
        beacon.role = VELUM_ROLE_LEAF;
        beacon.sender = leaf->me.id;
        beacon.addr = leaf->me.addr;
        beacon.incarnation = leaf->me.incarnation;
    }
    send_to(leaf, to, &beacon);
}

void velum__leaf_farewell(velum_leaf *leaf) {
    size_t told = 0;
    for (size_t i = 0; i < leaf->nnodes && told < FAREWELLS; i++) {
        if (leaf->nodes[i].state > VELUM_MEMBER_SUSPECT) continue;
        tell(leaf, leaf->nodes[i].addr);
        told++;
    }
}

/* ---- exchange of state ---- */

void velum__leaf_send_sync(velum_leaf *leaf, velum_handle link, uint8_t type,
                           uint64_t correlation) {
    uint8_t frame[VELUM_HEADER_BYTES + 2u + VELUM_MEMBER_BYTES + VELUM_HEALTH_BYTES];
    int n =
        velum_wire_put_sync(frame, sizeof frame, type, correlation, &leaf->me, &leaf->health, 1);
    if (n > 0) (void)velum_hub_send(leaf->hub, link, frame, (size_t)n); /* silence asks again */
}

int velum__leaf_synced(velum_leaf *leaf, const velum__leaf_link *link, const velum_frame *frame) {
    const velum_addr teller = link->addr;
    const velum_handle handle = link->link;
    uint32_t length = frame->header.length;
    velum_member said;
    velum_health health;
    size_t count = 0;
    bool joining = !leaf->exchanged;
    int err = velum_wire_get_sync(frame->payload, length, &count);
    for (size_t i = 0; err > 0 && i < count; i++) {
        err = velum_wire_get_sync_at(frame->payload, length, i, &said, &health);
        if (err < 0) break;
        if (joining && said.id == leaf->me.id && said.state == VELUM_MEMBER_ALIVE &&
            !velum__same_addr(said.addr, leaf->me.addr)) {
            velum__leaf_conflict(leaf, said.addr); /* known before this leaf was */
        } else {
            hear(leaf, &said, teller);
        }
    }
    if (err < 0 || leaf->leaving) return err < 0 ? err : 0;
    leaf->exchanged = true;
    leaf->heard_us = velum_port_now_us();
    if (frame->header.type == VELUM_F_SYNC) {
        velum__leaf_send_sync(leaf, handle, VELUM_F_SYNC_REPLY, frame->header.correlation);
    }
    return 0;
}

void velum_leaf_health(velum_leaf *leaf, const velum_health *health) {
    if (velum_hub_health(leaf->hub, health) == 0) leaf->health = *health;
}
