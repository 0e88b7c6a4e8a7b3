/* hub_internal.h: what hub.c, hub_link.c, hub_answer.c and hub_store.c share. Nobody else includes
 * it.
 *
 * hub.c        the public functions, sockets that are not links, and the poll
 * hub_link.c   the life of a link: slot, handshake, deadlines, reading, flushing, ending
 * hub_answer.c frames answered without the owner, and fetches of modules
 * hub_store.c  chunks on their way out and in, and answers for names
 *
 * States of a link (velum__state); "the owner knows" means that its handle was given away:
 *
 *   state     reads  owner knows  leaves for
 *   FREE      no     no           DIALLING, GREETING, STRANGER
 *   DIALLING  no     yes          GREETING (connected), ENDED
 *   GREETING  yes    yes          OPEN (peer's HELLO), ENDED
 *   STRANGER  yes    no           ASKED (HELLO), FREE (anything else)
 *   ASKED     no     OPENED given OPEN (accept), ENDED
 *   OPEN      yes    yes          ENDED
 *   ENDED     no     yes          GONE (CLOSED was given)
 *   GONE      no     no           FREE (at the next poll, when no event leads into it any more)
 *
 * and DIALLING, GREETING, ASKED, OPEN, ENDED go to FREE or GONE when the owner drops the link.
 */
#ifndef VELUM_HUB_INTERNAL_H
#define VELUM_HUB_INTERNAL_H

#include "hub.h"

/* A handle is generation (20 bits, never 0) and index (12 bits). */
#define VELUM__INDEX_BITS     12u
#define VELUM__GENERATION_MAX ((1u << (32u - VELUM__INDEX_BITS)) - 1u)
#if VELUM_LINKS_MAX > (1 << 12)
#error "VELUM_LINKS_MAX does not fit a handle's index"
#endif

/* Connections accepted in one tick: each is looked at before so many newer ones could push it out
 * of the strangers' places. */
#define VELUM__ACCEPTS_PER_TICK 16u

/* How long the listener rests after an accept failed: the reason (no descriptors) lasts a while,
 * and the waiting connection would wake the poller at once. */
#define VELUM__ACCEPT_PAUSE_US INT64_C(100000)

/* Pings due within this time go out together, so that many idle links cost one wake-up. */
#define VELUM__PING_SLACK_US (INT64_C(1000) * VELUM_IDLE_MS / 10)

/* Datagrams handed out by one poll; bounds the memory for decoded ones, 1 KiB each. */
#define VELUM__DATAGRAMS_PER_POLL 64u

/* Modules being fetched at once: one for every task that a worker can hold. */
#define VELUM__FETCHES_MAX VELUM_WORKER_QUEUE_MAX

#define VELUM__UDP_MAX 4u

/* The longest frame that an answer copies into the queue, but for ENTRY and CLAIMED. */
#define VELUM__ANSWER_BYTES_MAX (VELUM_HEADER_BYTES + 16u + VELUM_TEXT_BYTES_MAX)

/* Set in the correlation ids of PINGs and MODULE_WANTs that the hub itself sends. */
#define VELUM__OWN_CORRELATION (UINT64_C(1) << 63)

/* A queue of link indexes. Each index is in one ring at most once; entries that have lost their
 * reason are skipped when they come up. */
typedef struct {
    uint16_t head, count;
    uint16_t items[VELUM_LINKS_MAX];
} velum__ring;

/* A CHUNK event that must be given: the start of a velum__sending or a velum__want. */
typedef struct velum__notice {
    struct velum__notice *next;
    uint64_t correlation;
    velum_handle link;
    int error;
    uint8_t what; /* velum_chunk_event */
    uint8_t key[VELUM_KEY_BYTES];
} velum__notice;

typedef struct velum__sending velum__sending; /* hub_store.c */
typedef struct velum__want velum__want;

typedef enum {
    VELUM__FREE = 0,
    VELUM__DIALLING,
    VELUM__GREETING,
    VELUM__STRANGER,
    VELUM__ASKED,
    VELUM__OPEN,
    VELUM__ENDED,
    VELUM__GONE
} velum__state;

typedef struct {
    velum_hub *hub;
    velum_link *link;
    velum_watch watch;
    velum_frame held;    /* see holding */
    uint64_t token;      /* of dial or adopt */
    uint64_t lent_poll;  /* the last poll whose events lead into the link's memory */
    int64_t heard_us;    /* last sign of life */
    int64_t pinged_us;   /* last PING sent; unanswered while later than heard_us */
    int64_t deadline_us; /* when the sweep must look at this link */
    velum_addr addr;     /* the connection's other end */
    char *text;          /* of the peer's BYE, or NULL */
    velum__sending *sending, *sending_last; /* chunks that are not sent whole yet, in order */
    velum__sending *feeding; /* the first of them that is not in the link's queue with all parts */
    uint16_t sending_count;
    uint16_t wants; /* chunks asked for here */
    uint32_t generation;
    int error;      /* ENDED: why */
    int send_error; /* sending failed; what has arrived is still read, then the link ends */
    uint16_t id;    /* of the peer's HELLO */
    uint8_t role;   /* the same */
    uint8_t state;
    bool was_open; /* OPENED was given */
    bool drained;  /* every frame that was read has been taken: reading is allowed */
    bool holding;  /* `held` waits for room in the send queue; nothing is read until then */
    bool blocked;  /* the socket takes no more for now */
    bool in_turn, in_dirty;
} velum__peer;

typedef struct {
    enum { VELUM__FETCH_FREE = 0, VELUM__FETCH_ASKING, VELUM__FETCH_DONE } state;
    uint8_t hash[VELUM_HASH_BYTES];
    velum_handle link;
    uint64_t correlation;
    uint32_t next; /* offset asked for */
    int error;     /* DONE */
} velum__fetch;

typedef struct {
    velum_hub *hub;
    velum_watch watch;
    uint8_t index;
} velum__udp;

struct velum_hub {
    velum_hub_config config;
    velum_loop *loop;
    velum_modules *modules;
    velum_hub_stats stats;

    velum__peer *peers; /* config.links_max of them */
    velum__ring vacant; /* FREE, longest free first */
    velum__ring turn;   /* to be served: readable, or frames are left */
    velum__ring dirty;  /* something was queued since the last flush */
    velum__ring ended;  /* CLOSED must be given, unless the owner drops it first */
    velum__ring graves; /* GONE, freed at the next poll */
    uint16_t strangers, strangers_max;

    velum_watch listener;
    velum_watch waker;
    velum_fd wake_writer;
    velum_timer sweep_timer;
    velum_timer listen_timer;
    velum__udp udp[VELUM__UDP_MAX];
    uint8_t udp_count;
    velum_datagram *datagrams; /* of the current poll */
    size_t datagram_count;
    bool woken;
    bool sweep_due;

    uint8_t hello[VELUM_HEADER_BYTES + VELUM_HELLO_BYTES_MAX];      /* our HELLO frame */
    uint8_t hello_bulk[VELUM_HEADER_BYTES + VELUM_HELLO_BYTES_MAX]; /* with the feature BULK */
    size_t hello_size;                                              /* of each; 0: no identity */
    uint16_t node;
    velum_health health;

    velum__fetch fetches[VELUM__FETCHES_MAX];
    uint64_t serial;      /* of the hub's own correlation ids */
    uint32_t fetches_due; /* DONE ones, whose event must be given */

    velum_hub_service service; /* zeros: none */
    bool service_busy;         /* it has more to do: do not sleep */

    velum_chunks *chunks;                        /* or NULL */
    velum_names *names;                          /* or NULL */
    velum__want *wants[VELUM_CHUNKS_WANTED_MAX]; /* chains, by correlation */
    uint32_t want_count;
    velum__notice *notices, *notices_last;

    velum_event *events; /* of the current poll */
    size_t event_cap, event_count;
    uint64_t polls;
};

/* ---- hub_link.c ---- */

/* Takes over fd in the given first state (DIALLING or GREETING, with `hello`, one of the hub's, in
 * its queue; or STRANGER), making room for it at a stranger's cost if need be. FULL or NOMEM: fd is
 * still the caller's. */
int velum__peer_open(velum_hub *hub, velum_fd fd, velum__state state, const uint8_t *hello,
                     velum__peer **out);
velum_handle velum__peer_handle(const velum__peer *peer);
/* The link that an owner's handle names, or NULL for a stale one. */
velum__peer *velum__peer_find(velum_hub *hub, velum_handle handle);
/* Owner's yes to an ASKED link: our HELLO is queued. 0 or NOMEM. */
int velum__peer_accept(velum__peer *peer);
/* The owner wants no more of this link: BYE, and no event. */
void velum__peer_drop(velum__peer *peer, uint16_t code, const char *text);
/* Note that frames were queued. */
void velum__peer_sent(velum__peer *peer, size_t frames);
/* Sends what is queued, as far as the socket takes it. */
void velum__peer_flush(velum__peer *peer);
/* Reads once, or hands out frames that are left; at most as many events as there is room for. */
void velum__peer_serve(velum__peer *peer);
/* Gives the CLOSED event of an ENDED link, if there is room for it: false if not. */
bool velum__peer_close_event(velum__peer *peer);
/* Frees a GONE link, or any link when the hub closes. */
void velum__peer_release(velum__peer *peer);
/* Looks after every link whose deadline has come, and sets the timer for the next. */
void velum__hub_sweep(velum_hub *hub);

/* ---- hub_answer.c ---- */

/* Deals with a frame of an OPEN link that is not the handshake's: 0, FULL (no room for the answer:
 * call again with the same frame), or the error that the link must end with. */
int velum__answer(velum__peer *peer, const velum_frame *frame);
/* Hands a frame to the owner. 0. */
int velum__pass_on(velum__peer *peer, const velum_frame *frame);
/* Commits an answer that a put has written (n bytes) or failed to write (n < 0): 0 or n. */
int velum__answered(velum__peer *peer, int n);
/* ERROR in `room`, VELUM__ANSWER_BYTES_MAX of the link's queue: what velum__answered is given. */
int velum__put_error(velum__peer *peer, uint8_t *room, uint64_t correlation, int err);
/* The same in room of its own: 0 or FULL. */
int velum__answer_error(velum__peer *peer, uint64_t correlation, int err);
/* Where the bytes of a MODULE part go that this link was asked for. */
uint8_t *velum__fetch_memory(velum__peer *peer, const velum_module_part *part);
/* The link is gone: its fetches fail. */
void velum__fetch_link_ended(velum__peer *peer);
/* Gives MODULE events as far as there is room. */
void velum__fetch_events(velum_hub *hub);
/* The link is gone: the service hears of it. */
void velum__service_link_ended(velum__peer *peer);

/* ---- hub_store.c ---- */

/* As velum__answer, of WANT, CHUNK, ENTRY, ENTRY_ASK and CLAIMS. */
int velum__store_answer(velum__peer *peer, const velum_frame *frame);
/* Where the bytes of a CHUNK part go. */
uint8_t *velum__store_memory(velum__peer *peer, const velum_frame *frame);
/* The peer answers with ERROR: true if that was to a chunk wanted from it, which fails. */
bool velum__store_refused(velum__peer *peer, uint64_t correlation);
/* Queues parts of chunks as far as the link's queue is low. 0 or NOMEM. */
int velum__store_feed(velum__peer *peer);
/* The link is over, for `error`: all that was under way on it ends. May be called again. */
void velum__store_link_ended(velum__peer *peer, int error);
/* Gives CHUNK events as far as there is room. */
void velum__store_events(velum_hub *hub);
/* No link is left; frees what waits to be given. */
void velum__store_close(velum_hub *hub);

/* ---- hub.c ---- */

/* The next free event, zeroed, with its kind set. The caller has checked that there is room. */
velum_event *velum__hub_event(velum_hub *hub, velum_event_kind kind);
bool velum__hub_has_room(const velum_hub *hub);

void velum__ring_push(velum__ring *ring, uint16_t index);
/* The oldest entry, or -1. */
int velum__ring_pop(velum__ring *ring);

#endif
