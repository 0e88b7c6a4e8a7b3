/* kv_peers.h: the key-value state on links: what is written here goes to peers, and theirs comes.
 *
 * Owns: which links are joined, the news that wait to leave, what each peer has confirmed, and
 * answers to KV_RECORDS, KV_ASK and KV_LEAVES. Refuses to know: members, when to compare with whom,
 * logs and requests. How: records that are written here are encoded once, into one KV_RECORDS that
 * goes to all joined links; a peer whose queue has no room misses it, is noted, and has to ask for
 * what it lacks. Leaves that were asked for go piece by piece, as the link's queue drains.
 *
 * Records written here are counted from 1. A peer *has heard* a number once it has confirmed the
 * push that had this record, or has pulled all that was here when it had been written: a push that
 * came before the peer could take it, or found no room, costs a wait and no more.
 */
#ifndef VELUM_KV_PEERS_H
#define VELUM_KV_PEERS_H

#include "hub.h"
#include "kv_state.h"
#include "wire_kv.h"

/* KV_LEAVES of one link that wait for their answer; more is UNEXPECTED. */
#define VELUM_KV_TRANSFERS_MAX 8u

typedef struct velum_kv_peers velum_kv_peers;

/* Hub and state must outlive it. NOMEM. */
int velum_kv_peers_open(velum_kv_peers **out, velum_hub *hub, velum_kv_state *state);
void velum_kv_peers_close(velum_kv_peers *peers); /* NULL is nothing */

/* What is written from now on is pushed over this link, and what comes over it is merged. A peer
 * that is joined already moves to this link. NOMEM. */
int velum_kv_peers_join(velum_kv_peers *peers, velum_handle link, uint16_t id);
void velum_kv_peers_ended(velum_kv_peers *peers, velum_handle link);

/* A record was written here. */
void velum_kv_peers_wrote(velum_kv_peers *peers, const velum_kv_record *record);

/* KV_RECORDS, KV_HEARD, KV_ASK or KV_LEAVES of a node: as velum_hub_service's frame. */
int velum_kv_peers_frame(velum_kv_peers *peers, velum_handle link, const velum_frame *frame);

/* Pushes what is new. To be called once it is in the log. */
void velum_kv_peers_push(velum_kv_peers *peers);
/* Goes on with what was asked for. True: something was queued, there may be more to do. */
bool velum_kv_peers_send(velum_kv_peers *peers);

/* The number of the last record that was written here. */
uint64_t velum_kv_peers_sequence(const velum_kv_peers *peers);
/* Somebody waits until peers have heard this number: the next push asks for it. */
void velum_kv_peers_ask(velum_kv_peers *peers, uint64_t sequence);
/* How many peers have heard it: they have confirmed a push that had it, or have pulled it. */
size_t velum_kv_peers_heard(const velum_kv_peers *peers, uint64_t sequence);

/* A peer begins to pull: it is to get all that was written here until now. */
void velum_kv_peers_offer(velum_kv_peers *peers, uint16_t id);
/* It has all of what it was offered last. */
void velum_kv_peers_credit(velum_kv_peers *peers, uint16_t id);

/* A peer that has missed a push, or sent what a settled tombstone hides, since it was last named
 * here: it lacks something. False: none has. */
bool velum_kv_peers_missed(velum_kv_peers *peers, uint16_t *id);

/* Sends a frame to all joined links, as far as they have room. */
void velum_kv_peers_tell(velum_kv_peers *peers, const void *frame, size_t n);

typedef struct {
    size_t peers;         /* joined */
    size_t transfers;     /* KV_LEAVES under way */
    uint64_t records_in;  /* that came */
    uint64_t ahead;       /* of these, passed over: too far ahead of the clock */
    uint64_t refused;     /* of these, passed over: no room in memory, or in the log */
    uint64_t unjoined;    /* KV_RECORDS passed over, of links that are not joined */
    uint64_t records_out; /* in pushes and in answers, for each peer */
    uint64_t missed;      /* pushes for which a peer had no room */
} velum_kv_peers_figures;
velum_kv_peers_figures velum_kv_peers_get_figures(const velum_kv_peers *peers);

#endif
