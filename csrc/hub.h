/* hub.h: a node's connections.
 *
 * Owns: listening, dialling, the handshake's shape and deadline, idle links, the pool of links and
 * the datagram sockets; and answers what needs no decision: PING, placed CALLs of built-ins,
 * MODULE_WANT from the module cache, and of files what velum_hub_set_store says. Refuses to know:
 * members, schedulers, tasks: everything else becomes an event that velum_hub_poll hands to the
 * owner. The worker process, the C-only node and the Python node are all owners of one hub.
 * How: one loop; links in a fixed pool named by handles; events lead into receive buffers and are
 * valid until the next poll. Sends are queued and flushed at the start of the next poll, or by
 * velum_hub_flush. Correlation ids with the top bit set belong to the hubs (PING, MODULE_WANT):
 * owners give their own frames ids below 2^63.
 *
 * A *service* (the key-value state) shares a hub's loop and links: the hub gives it the frames that
 * are its own before they become events, and a turn in every round.
 */
#ifndef VELUM_HUB_H
#define VELUM_HUB_H

#include "chunks.h"
#include "link.h"
#include "loop.h"
#include "modules.h"
#include "names.h"
#include "wire_store.h"

typedef struct velum_hub velum_hub;

/* A link's name: never 0, not reused while anyone could still hold it (index and generation). */
typedef uint32_t velum_handle;

typedef struct {
    uint16_t links_max;  /* 1..VELUM_LINKS_MAX */
    size_t module_bytes; /* of the module cache */
    bool answer_calls;   /* run placed CALLs here; else they are events too */
    size_t watches;      /* of the loop, for a service */
} velum_hub_config;

typedef enum {
    VELUM_EV_OPENED = 1, /* HELLO received: .hello; the owner accepts, or refuses with BYE */
    VELUM_EV_CLOSED,     /* link gone: .error says why; .dialled: it never opened if !.was_open */
    VELUM_EV_FRAME,      /* any frame the hub does not answer: .frame */
    VELUM_EV_DATAGRAM,   /* .datagram, .from, .socket */
    VELUM_EV_MODULE,     /* a fetch ended: .hash, .error (0: module is held now) */
    VELUM_EV_CHUNK,      /* a chunk came or did not, or was sent: .chunk */
    VELUM_EV_WAKE        /* velum_hub_wake was called */
} velum_event_kind;

typedef enum {
    VELUM_CHUNK_STORED = 1, /* parts of a HOLD: it is held now, or .error CHUNK_HASH */
    VELUM_CHUNK_FETCHED,    /* of velum_hub_want: 0, CHUNK_MISSING, CHUNK_HASH (also: the peer sent
                               something else), or why the link ended */
    VELUM_CHUNK_SENT /* of velum_hub_send_chunk: given to the socket, or why the link ended */
} velum_chunk_event;

typedef struct {
    uint8_t kind;
    velum_handle link;
    uint64_t token; /* OPENED, CLOSED: what dial or adopt was given, 0 for an accepted link */
    union {
        struct {
            velum_hello hello; /* .features & VELUM_FEATURE_BULK: a link for files */
            velum_addr peer;   /* the connection's other end */
        } opened;
        struct {
            int error; /* CLOSED (orderly or reset), TIMEOUT, REFUSED, a wire error, or the code
                          of a BYE; LEAVING for an orderly BYE */
            bool was_open;
            uint16_t id;      /* of the peer's HELLO, 0 if none came */
            const char *text; /* of a BYE or NULL; terminated */
        } closed;
        velum_frame frame;
        struct {
            velum_datagram *message; /* decoded */
            velum_addr from;
            uint8_t socket; /* index from velum_hub_udp */
        } datagram;
        struct {
            uint8_t hash[VELUM_HASH_BYTES];
            int error;
        } module;
        struct {
            uint8_t what; /* velum_chunk_event */
            uint64_t correlation;
            uint8_t key[VELUM_KEY_BYTES];
            int error;
        } chunk;
    } u;
} velum_event;

int velum_hub_open(velum_hub **out, const velum_hub_config *config);
/* Closes every link (unsent data is tried once) and socket. */
void velum_hub_close(velum_hub *hub);

/* What this side's HELLO says; also the `node` of RESULTs the hub makes. Copied. Set before listen,
 * dial or adopt; may be changed later. */
int velum_hub_identity(velum_hub *hub, const velum_hello *hello);
/* What RESULTs of the hub report as health. Copied. ARGUMENT: a field is out of its range. */
int velum_hub_health(velum_hub *hub, const velum_health *health);

/* Listens; *addr gets the bound port. ARGUMENT: no identity yet, or listening already; or an error
 * of the port. At most VELUM_STRANGERS_MAX, and a quarter of the pool, wait for their HELLO: the
 * oldest goes when one more comes, or when a dialled link needs the place. */
int velum_hub_listen(velum_hub *hub, velum_addr *addr);
/* Connects and says HELLO at once; ends in OPENED, or in CLOSED after VELUM_HANDSHAKE_MS at most.
 * ARGUMENT (no identity yet), FULL, NOMEM, or an error of the port. */
int velum_hub_dial(velum_hub *hub, const velum_addr *to, uint64_t token, velum_handle *out);
/* Takes over an open stream socket (a worker's socketpair) and says HELLO; both ends are adopted.
 * The other end may be a process that has still to start: it has twice VELUM_IDLE_MS to say HELLO.
 * On failure fd is still the caller's. ARGUMENT, FULL, NOMEM, or an error of the port. */
int velum_hub_adopt(velum_hub *hub, velum_fd fd, uint64_t token, velum_handle *out);
/* After OPENED of an accepted link: answers with our HELLO, from when its frames are delivered.
 * (A dialled or adopted link has said its HELLO already; accept is then a no-op.) Frames that
 * follow the peer's HELLO wait until accept is called. NOTE: links with role CLIENT, NODE, LEAF and
 * WORKER are all accepted alike: who may do what is the owner's business. ARGUMENT (no such link),
 * NOMEM (drop it). An owner that never decides hears CLOSED with TIMEOUT. */
int velum_hub_accept(velum_hub *hub, velum_handle link);
/* Says BYE (code 0 leaves; a positive error refuses; text NULL: the code's own), sends what it can,
 * closes. The text is cut to what fits a stranger's limit. No CLOSED event follows; events of the
 * link that the last poll gave stay readable until the next. */
void velum_hub_drop(velum_hub *hub, velum_handle link, uint16_t code, const char *text);

/* Opens a datagram socket; *index is 0, 1, ... up to 3. Arriving datagrams are decoded; bad ones
 * are counted and dropped. */
int velum_hub_udp(velum_hub *hub, velum_addr *addr, bool shared, uint8_t *index);
/* Listens, and opens a datagram socket on the same port, as nodes do; port 0: one that is free for
 * both. As listen and udp; after an error neither is open. */
int velum_hub_serve(velum_hub *hub, velum_addr *addr, uint8_t *index);
int velum_hub_udp_send(velum_hub *hub, uint8_t index, const velum_addr *to,
                       const velum_datagram *message);

/* Queues a frame built by velum_wire_put_*. ARGUMENT (no such open link), FULL (over half of
 * VELUM_SEND_QUEUE_BYTES waits: the other half is for the hub's answers), NOMEM. */
int velum_hub_send(velum_hub *hub, velum_handle link, const void *frame, size_t n);
/* Room in the link's queue to encode into (see velum_link_reserve). NULL: no link or FULL. */
uint8_t *velum_hub_reserve(velum_hub *hub, velum_handle link, size_t n);
void velum_hub_commit(velum_hub *hub, velum_handle link, size_t used);
/* Pushes every queue to its socket as far as it goes. */
void velum_hub_flush(velum_hub *hub);
/* Unsent bytes of a link, 0 if there is none such. */
size_t velum_hub_unsent(velum_hub *hub, velum_handle link);

/* The module cache, shared by all links. */
velum_modules *velum_hub_modules(velum_hub *hub);
/* Pulls a module from a peer, part by part; ends in one MODULE event. Asking twice for one hash
 * while it is under way gives one event. When the link closes or its peer lacks the module, the
 * event says MODULE_MISSING; FULL: the cache has no room for it; MODULE_HASH: what came is another.
 * A module that is held already gives its event at the next poll. Returns 0, ARGUMENT (no such open
 * link) or FULL (too many fetches, or no room in the link's queue). */
int velum_hub_fetch(velum_hub *hub, velum_handle link, const uint8_t hash[32]);

/* ---- a service ---- */

#define VELUM_HUB_SERVICE_TIMERS 4u /* of the loop, for a service */

typedef struct {
    void *owner;
    /* A frame 0x60..0x6b of an open link, by the role and id of its HELLO; it is gone when this
     * returns. 0: done; 1: it is an event for the owner; FULL: the same frame again when the link's
     * queue, which is not empty, has drained; other errors end the link. The link must not be
     * dropped here, nor anything flushed. */
    int (*frame)(void *owner, velum_handle link, uint8_t role, uint16_t id,
                 const velum_frame *frame);
    /* A link that was open is over, however it ended. */
    void (*ended)(void *owner, velum_handle link);
    /* Once in each round, after links were served and what they had to send was given to their
     * sockets; what is sent here leaves at once. True: do not sleep before the next round. */
    bool (*flush)(void *owner);
} velum_hub_service;
/* Copied; NULL: none, and its frames are events. */
void velum_hub_set_service(velum_hub *hub, const velum_hub_service *service);
/* There is something for `flush` to do: the next poll does not sleep before. */
void velum_hub_service_due(velum_hub *hub);
/* The loop that the hub runs on, with room for velum_hub_config.watches and
 * VELUM_HUB_SERVICE_TIMERS of the service. */
velum_loop *velum_hub_loop(velum_hub *hub);
/* As velum_hub_reserve, of the whole queue: for answers of a service, one for each frame that came.
 * Two hubs that both waited for half of a queue would wait for each other. */
uint8_t *velum_hub_reserve_answer(velum_hub *hub, velum_handle link, size_t n);

/* ---- files (hub_store.c) ---- */

/* Gives the hub chunks and names, which must outlive it; either may be NULL. No other hub may have
 * the same chunks.
 *
 * WANT is answered from `chunks` (NULL: CHUNK_MISSING). CHUNK parts go to what was reserved there
 * with the link's handle as sender, and end in CHUNK STORED under the HOLD's correlation; parts for
 * which nothing is reserved are dropped. A reservation may be abandoned at any time, and a link
 * that ends gives up its own.
 *
 * With `names` (NULL: these are frames for the owner) these are answered:
 *   ENTRY     merged; VERSION KEPT or LATER, or ERROR. Of correlation 0: nothing, or our entry
 *             under correlation 0 if that is greater.
 *   ENTRY_ASK ENTRY, or VERSION HERE or NONE
 *   CLAIMS    CLAIMED, if each of them is FAST or OLD; else it is a frame for the owner, who may
 *             know a putter
 * Tombstones are the owner's too, who knows whom they await: he gets a tombstone's ENTRY, and an
 * ENTRY of correlation 0 if a greater tombstone is here; ENTRY_ASK of a tombstone is answered with
 * VERSION HERE. And he gets an ENTRY with VELUM_ANSWER_BIT in its correlation. */
void velum_hub_set_store(velum_hub *hub, velum_chunks *chunks, velum_names *names);
/* As velum_hub_dial, for a link with the feature BULK. */
int velum_hub_dial_bulk(velum_hub *hub, const velum_addr *to, uint64_t token, velum_handle *out);

/* Queues a whole chunk, sent part by part from where it lies as the link takes it, other frames in
 * between; ends in CHUNK SENT, before which the bytes must not go away (CLOSED after
 * velum_hub_drop; none is given by velum_hub_close). ARGUMENT (no such open link, size), FULL
 * (VELUM_CHUNKS_SENDING_MAX of this link, WANTs of the peer included), NOMEM. */
int velum_hub_send_chunk(velum_hub *hub, velum_handle link, uint64_t correlation,
                         const uint8_t key[VELUM_KEY_BYTES], const uint8_t *bytes, uint32_t size);
/* Asks for a chunk of `size` bytes, received straight to `to` and hashed as it comes; ends in CHUNK
 * FETCHED, before which the memory must not go away, or is given up by unwant: then it is not
 * touched any more, and there is no event. Several may be under way on a link. ARGUMENT (no such
 * open link, size, a correlation of 2^63 or more, or under way already), FULL
 * (VELUM_CHUNKS_WANTED_MAX, VELUM_CHUNKS_SENDING_MAX of this link, or no room in its queue), NOMEM.
 * A correlation that was given up must not be used again for that key on that link. */
int velum_hub_want(velum_hub *hub, velum_handle link, uint64_t correlation,
                   const uint8_t key[VELUM_KEY_BYTES], uint8_t *to, uint32_t size);
void velum_hub_unwant(velum_hub *hub, velum_handle link, uint64_t correlation);

/* Flushes, sleeps until something happens or `timeout_us` passed (0: no sleep; negative: no
 * limit), and fills up to `cap` events (VELUM_EVENTS_PER_POLL at most). Returns their number or an
 * error of the port; 0 early when a signal came, or when the hub had much to answer itself. Frames
 * not handed out for want of room come first in the next poll, which then does not sleep. */
int velum_hub_poll(velum_hub *hub, int64_t timeout_us, velum_event *events, size_t cap);
/* Makes a sleeping poll return with a WAKE event. Any thread, also a signal handler; many wakes
 * before a poll give one event. */
void velum_hub_wake(velum_hub *hub);
/* The same for who works in the hub's own thread: the poll under way, or the next one. */
void velum_hub_woken(velum_hub *hub);

/* For who came through the door of the hub's loop (velum_loop_set_door), or has the hub between two
 * polls: lets what it has queued leave, and the service do what is due. True: the rest is for a
 * poll, and who sleeps in one has to be woken. */
bool velum_hub_turn(velum_hub *hub);

/* Counters since the start, for `status` and tests. */
typedef struct {
    uint64_t frames_in, frames_out, bytes_in, bytes_out, datagrams_in, datagrams_out, datagrams_bad,
        links_refused, /* for want of a place */
        links_broken,  /* for a bad frame or silence */
        calls_answered;
    uint32_t links, /* held now; strangers do not count */
        strangers;
} velum_hub_stats;
void velum_hub_get_stats(const velum_hub *hub, velum_hub_stats *out);

#endif
