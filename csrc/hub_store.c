/* hub_store.c: files in RAM, as far as they need no decision.
 *
 * Owns: chunks on their way out and in, and the answers to WANT, ENTRY, ENTRY_ASK and CLAIMS.
 * Refuses to know: which chunks are held and what names stand for (chunks.c, names.c), claims, who
 * puts what where. How: each link has a queue of chunks to send, one after another. A few parts of
 * the first are in the link's own queue; when those have gone more are fed, once in a turn of the
 * link, so that other frames get in between, and other links to their turn. A chunk that was wanted
 * is found by the correlation of its parts, and hashed part by part as it comes. What ends becomes
 * a notice, and an event when there is room.
 */
#include "hub_internal.h"

#include "blake3.h"
#include "wire_bytes.h"

#include <stdlib.h>
#include <string.h>

/* Parts are fed while fewer bytes than this wait in a link's queue: a turn of the link is worth
 * its system calls, and other frames wait for no more than three parts. */
#define LOW_BYTES (2u * VELUM_CHUNK_PART_BYTES)

#define WANT_BYTES       (VELUM_HEADER_BYTES + VELUM_KEY_BYTES)
#define CHUNK_HEAD_BYTES (VELUM_HEADER_BYTES + VELUM_CHUNK_HEAD_BYTES)

struct velum__sending {
    velum__notice notice; /* first: it becomes one */
    velum__sending *next;
    velum__peer *peer;
    const uint8_t *bytes;
    void *loan; /* of velum_chunks_lend; NULL: the owner's bytes, and he hears of it */
    uint32_t size;
    uint32_t fed;   /* bytes that are, or were, in the link's queue */
    uint32_t parts; /* in the link's queue now */
};

struct velum__want {
    velum__notice notice; /* first: it becomes one */
    velum__want *next;    /* in its chain */
    uint8_t *to;
    uint32_t size;
    uint32_t got;
    blake3_hasher hasher; /* of what has come */
};

/* ---- notices ---- */

static void give_notice(velum_hub *hub, velum__notice *notice, velum_chunk_event what, int error) {
    notice->what = (uint8_t)what;
    notice->error = error;
    notice->next = NULL;
    if (hub->notices == NULL) {
        hub->notices = notice;
    } else {
        hub->notices_last->next = notice;
    }
    hub->notices_last = notice;
}

static velum__notice *take_notice(velum_hub *hub) {
    velum__notice *notice = hub->notices;
    if (notice != NULL) hub->notices = notice->next;
    return notice;
}

static void tell(velum_hub *hub, velum_handle link, velum_chunk_event what, uint64_t correlation,
                 const uint8_t *key, int error) {
    velum_event *event = velum__hub_event(hub, VELUM_EV_CHUNK);
    event->link = link;
    event->u.chunk.what = (uint8_t)what;
    event->u.chunk.correlation = correlation;
    memcpy(event->u.chunk.key, key, VELUM_KEY_BYTES);
    event->u.chunk.error = error;
}

void velum__store_events(velum_hub *hub) {
    while (hub->notices != NULL && velum__hub_has_room(hub)) {
        velum__notice *n = take_notice(hub);
        tell(hub, n->link, (velum_chunk_event)n->what, n->correlation, n->key, n->error);
        free(n);
    }
}

/* ---- chunks that are sent ---- */

/* It is in no list any more. */
static void end_sending(velum__sending *s, int error) {
    if (s->loan == NULL) {
        give_notice(s->peer->hub, &s->notice, VELUM_CHUNK_SENT, error);
        return;
    }
    velum_chunks_give_back(s->loan);
    free(s);
}

/* The link has sent a part, or drops its queue because it ends. Chunks are sent in their order, so
 * one that is sent whole is the first. */
static void part_released(void *token) {
    velum__sending *s = token;
    velum__peer *peer = s->peer;
    s->parts--;
    if (s->parts > 0 || s->fed < s->size || s != peer->sending) return;
    peer->sending = s->next;
    peer->sending_count--;
    end_sending(s, 0);
}

static int queue_part(velum__peer *peer, velum__sending *s) {
    uint8_t head[CHUNK_HEAD_BYTES];
    uint32_t left = s->size - s->fed;
    velum_chunk_part part = {.total = s->size, .offset = s->fed};
    int n, err;
    part.size = left < VELUM_CHUNK_PART_BYTES ? left : VELUM_CHUNK_PART_BYTES;
    memcpy(part.key, s->notice.key, VELUM_KEY_BYTES);
    n = velum_wire_put_chunk_head(head, sizeof head, s->notice.correlation, &part);
    if (n < 0) return n;
    err = velum_link_send_ref(peer->link, head, (size_t)n, s->bytes + s->fed, part.size,
                              part_released, s);
    if (err != 0) return err;
    s->parts++;
    s->fed += part.size;
    velum__peer_sent(peer, 1);
    return 0;
}

int velum__store_feed(velum__peer *peer) {
    while (peer->feeding != NULL && velum_link_unsent(peer->link) < LOW_BYTES) {
        int err = queue_part(peer, peer->feeding);
        if (err != 0) return err == VELUM_E_FULL ? 0 : err;
        if (peer->feeding->fed == peer->feeding->size) peer->feeding = peer->feeding->next;
    }
    return 0;
}

/* Queues a chunk on an open link that has a place for it. NOMEM: nothing was queued. */
static int send_chunk(velum__peer *peer, uint64_t correlation, const uint8_t *key,
                      const uint8_t *bytes, uint32_t size, void *loan) {
    velum__sending *s = malloc(sizeof *s);
    if (s == NULL) return VELUM_E_NOMEM;
    *s = (velum__sending){.peer = peer, .bytes = bytes, .loan = loan, .size = size};
    s->notice.link = velum__peer_handle(peer);
    s->notice.correlation = correlation;
    memcpy(s->notice.key, key, VELUM_KEY_BYTES);
    if (peer->sending == NULL) {
        peer->sending = s;
    } else {
        peer->sending_last->next = s;
    }
    peer->sending_last = s;
    peer->sending_count++;
    if (peer->feeding == NULL) peer->feeding = s;
    if (velum__store_feed(peer) != 0) velum__peer_sent(peer, 0); /* the flush tries again */
    return 0;
}

int velum_hub_send_chunk(velum_hub *hub, velum_handle link, uint64_t correlation,
                         const uint8_t key[VELUM_KEY_BYTES], const uint8_t *bytes, uint32_t size) {
    velum__peer *peer = velum__peer_find(hub, link);
    if (peer == NULL || peer->state != VELUM__OPEN) return VELUM_E_ARGUMENT;
    if (size == 0 || size > VELUM_CHUNK_BYTES_MAX) return VELUM_E_ARGUMENT;
    if (peer->sending_count >= VELUM_CHUNKS_SENDING_MAX) return VELUM_E_FULL;
    return send_chunk(peer, correlation, key, bytes, size, NULL);
}

static int answer_want(velum__peer *peer, const velum_frame *frame) {
    velum_hub *hub = peer->hub;
    uint64_t correlation = frame->header.correlation;
    uint8_t key[VELUM_KEY_BYTES];
    const uint8_t *bytes = NULL;
    void *loan;
    size_t size;
    int err = velum_wire_get_want(frame->payload, frame->header.length, key);
    if (err < 0) return err;
    if (peer->sending_count >= VELUM_CHUNKS_SENDING_MAX) return VELUM_E_FULL;
    if (hub->chunks != NULL) bytes = velum_chunks_lend(hub->chunks, key, &size, &loan);
    if (bytes == NULL) return velum__answer_error(peer, correlation, VELUM_E_CHUNK_MISSING);
    err = send_chunk(peer, correlation, key, bytes, (uint32_t)size, loan);
    if (err != 0) velum_chunks_give_back(loan);
    return err;
}

static void end_all_sending(velum__peer *peer, int error) {
    velum__sending *s = peer->sending, *next;
    peer->sending = NULL; /* releases end nothing any more */
    peer->feeding = NULL;
    peer->sending_count = 0;
    if (peer->link != NULL) velum_link_drop_unsent(peer->link);
    for (; s != NULL; s = next) {
        next = s->next;
        end_sending(s, error);
    }
}

/* ---- chunks that are wanted ---- */

static velum__want **chain_of(velum_hub *hub, uint64_t correlation) {
    return &hub->wants[correlation % VELUM_CHUNKS_WANTED_MAX];
}

/* Where a want hangs in its chain; there is NULL if there is none such. */
static velum__want **place_of(velum_hub *hub, velum_handle link, uint64_t correlation) {
    velum__want **place = chain_of(hub, correlation);
    while (*place != NULL &&
           ((*place)->notice.correlation != correlation || (*place)->notice.link != link))
        place = &(*place)->next;
    return place;
}

/* The same, of a CHUNK that comes. */
static velum__want **want_of(velum__peer *peer, const velum_frame *frame) {
    return place_of(peer->hub, velum__peer_handle(peer), frame->header.correlation);
}

/* Whether a part's bytes are, or will be, the next of a want. */
static bool lands_in(const velum__want *want, const velum_frame *frame) {
    return want != NULL && frame->bulk == want->to + want->got;
}

/* Takes a want out of the table. */
static velum__want *take_want(velum__peer *peer, velum__want **place) {
    velum__want *want = *place;
    *place = want->next;
    peer->hub->want_count--;
    peer->wants--;
    return want;
}

static void end_want(velum__peer *peer, velum__want **place, int error) {
    give_notice(peer->hub, &take_want(peer, place)->notice, VELUM_CHUNK_FETCHED, error);
}

/* Asks the peer: 0, or FULL. */
static int ask_for(velum_hub *hub, const velum__want *want) {
    velum_handle link = want->notice.link;
    uint8_t *room = velum_hub_reserve(hub, link, WANT_BYTES);
    if (room == NULL) return VELUM_E_FULL;
    velum_hub_commit(
        hub, link,
        (size_t)velum_wire_put_want(room, WANT_BYTES, want->notice.correlation, want->notice.key));
    return 0;
}

int velum_hub_want(velum_hub *hub, velum_handle link, uint64_t correlation,
                   const uint8_t key[VELUM_KEY_BYTES], uint8_t *to, uint32_t size) {
    velum__peer *peer = velum__peer_find(hub, link);
    velum__want *want;
    int err;
    if (peer == NULL || peer->state != VELUM__OPEN || size == 0 || size > VELUM_CHUNK_BYTES_MAX ||
        (correlation & VELUM__OWN_CORRELATION) != 0 || *place_of(hub, link, correlation) != NULL) {
        return VELUM_E_ARGUMENT;
    }
    if (hub->want_count >= VELUM_CHUNKS_WANTED_MAX || peer->wants >= VELUM_CHUNKS_SENDING_MAX) {
        return VELUM_E_FULL;
    }
    want = malloc(sizeof *want);
    if (want == NULL) return VELUM_E_NOMEM;
    want->notice = (velum__notice){.link = link, .correlation = correlation};
    memcpy(want->notice.key, key, VELUM_KEY_BYTES);
    want->to = to;
    want->size = size;
    want->got = 0;
    blake3_hasher_init(&want->hasher);
    err = ask_for(hub, want);
    if (err != 0) {
        free(want);
        return err;
    }
    want->next = *chain_of(hub, correlation);
    *chain_of(hub, correlation) = want;
    hub->want_count++;
    peer->wants++;
    return 0;
}

/* An event of that want that was not given yet. */
static void forget_notice(velum_hub *hub, velum_handle link, uint64_t correlation) {
    velum__notice *before = NULL, *n = hub->notices;
    while (n != NULL &&
           (n->what != VELUM_CHUNK_FETCHED || n->link != link || n->correlation != correlation)) {
        before = n;
        n = n->next;
    }
    if (n == NULL) return;
    if (before == NULL) {
        hub->notices = n->next;
    } else {
        before->next = n->next;
    }
    if (hub->notices_last == n) hub->notices_last = before;
    free(n);
}

void velum_hub_unwant(velum_hub *hub, velum_handle link, uint64_t correlation) {
    velum__want **place = place_of(hub, link, correlation);
    velum__peer *peer;
    const velum_frame *landing;
    if (*place == NULL) {
        forget_notice(hub, link, correlation);
        return;
    }
    peer = velum__peer_find(hub, link); /* a want goes with its link */
    landing = velum_link_landing(peer->link);
    if (landing != NULL && lands_in(*place, landing)) velum_link_forget_bulk(peer->link);
    free(take_want(peer, place));
}

/* A part of the peer's HOLD may have the correlation of a want, for that is the peer's number: the
 * keys tell. */
uint8_t *velum__store_memory(velum__peer *peer, const velum_frame *frame) {
    const velum_chunk_part *part = &frame->part.chunk;
    const velum__want *want = *want_of(peer, frame);
    if (want != NULL && memcmp(want->notice.key, part->key, VELUM_KEY_BYTES) == 0) {
        bool fits = part->total == want->size && part->offset == want->got &&
                    part->size <= want->size - want->got;
        return fits ? want->to + want->got : NULL;
    }
    if (peer->hub->chunks == NULL) return NULL;
    return velum_chunks_part_memory(peer->hub->chunks, part, velum__peer_handle(peer));
}

static bool is_right(const velum__want *want) {
    uint8_t key[VELUM_KEY_BYTES];
    blake3_hasher_finalize(&want->hasher, key, VELUM_KEY_BYTES);
    return memcmp(key, want->notice.key, VELUM_KEY_BYTES) == 0;
}

/* A part under a want's correlation: the next, or the peer sends something else. */
static void wanted_came(velum__peer *peer, velum__want **place, const velum_frame *frame) {
    velum__want *want = *place;
    if (frame->bulk == NULL) {
        end_want(peer, place, VELUM_E_CHUNK_HASH);
        return;
    }
    blake3_hasher_update(&want->hasher, frame->bulk, frame->part.chunk.size);
    want->got += frame->part.chunk.size;
    if (want->got == want->size) end_want(peer, place, is_right(want) ? 0 : VELUM_E_CHUNK_HASH);
}

/* A part for a reservation, or for none: a putter may not know yet that it was given up. */
static void reserved_came(velum__peer *peer, const velum_frame *frame) {
    velum_hub *hub = peer->hub;
    velum_handle link = velum__peer_handle(peer);
    const velum_chunk_part *part = &frame->part.chunk;
    uint32_t next;
    int r;
    if (hub->chunks == NULL) return;
    r = velum_chunks_part_arrived(hub->chunks, part, link, &next);
    if (r == 0 || r == VELUM_E_CHUNK_MISSING) return;
    tell(hub, link, VELUM_CHUNK_STORED, frame->header.correlation, part->key, r == 1 ? 0 : r);
}

static void part_came(velum__peer *peer, const velum_frame *frame) {
    velum__want **place = want_of(peer, frame);
    if (*place != NULL && (frame->bulk == NULL || lands_in(*place, frame))) {
        wanted_came(peer, place, frame);
    } else {
        reserved_came(peer, frame);
    }
}

bool velum__store_refused(velum__peer *peer, uint64_t correlation) {
    velum__want **place = place_of(peer->hub, velum__peer_handle(peer), correlation);
    if (*place == NULL) return false;
    end_want(peer, place, VELUM_E_CHUNK_MISSING); /* whatever it says of the reason */
    return true;
}

static void end_all_wants(velum__peer *peer, int error) {
    velum_hub *hub = peer->hub;
    velum_handle link = velum__peer_handle(peer);
    for (size_t i = 0; i < VELUM_CHUNKS_WANTED_MAX && peer->wants > 0; i++) {
        velum__want **place = &hub->wants[i];
        while (*place != NULL) {
            if ((*place)->notice.link == link) {
                end_want(peer, place, error);
            } else {
                place = &(*place)->next;
            }
        }
    }
}

/* ---- names ---- */

static int answer_version(velum__peer *peer, uint64_t correlation,
                          const velum_named_version *version) {
    uint8_t *room = velum_link_reserve(peer->link, VELUM__ANSWER_BYTES_MAX);
    if (room == NULL) return VELUM_E_FULL;
    return velum__answered(
        peer, velum_wire_put_version(room, VELUM__ANSWER_BYTES_MAX, correlation, version));
}

/* The entry here as an ENTRY. A tombstone is the owner's, who knows whom it awaits. */
static int send_entry(velum__peer *peer, uint64_t correlation, const velum_names_entry *entry) {
    size_t n = VELUM_HEADER_BYTES + entry->payload_size;
    uint8_t *room = velum_link_reserve(peer->link, n);
    if (room == NULL) return VELUM_E_FULL;
    velum_wire_put_header(room, VELUM_F_ENTRY, entry->payload_size, correlation);
    memcpy(room + VELUM_HEADER_BYTES, entry->payload, entry->payload_size);
    return velum__answered(peer, (int)n);
}

static int answer_entry_ask(velum__peer *peer, const velum_frame *frame) {
    uint64_t correlation = frame->header.correlation;
    velum_named_version version = {.what = VELUM_NAMED_NONE};
    uint8_t how, digest[VELUM_DIGEST_BYTES];
    const velum_names_entry *here;
    int n = velum_wire_get_entry_ask(frame->payload, frame->header.length, &how, digest);
    if (n < 0) return n;
    here = velum_names_find(peer->hub->names, digest);
    if (here != NULL && how == VELUM_ASK_ENTRY && here->kind != VELUM_ENTRY_TOMBSTONE) {
        return send_entry(peer, correlation, here);
    }
    if (here != NULL) {
        version.what = VELUM_NAMED_HERE;
        version.kind = here->kind;
        version.version = here->item.version;
    }
    return answer_version(peer, correlation, &version);
}

/* An entry that a keeper holds against ours: ours is greater. */
static int answer_with_ours(velum__peer *peer, const velum_frame *frame, velum_text name) {
    uint8_t digest[VELUM_DIGEST_BYTES];
    const velum_names_entry *here;
    velum_chunk_key(name.data, name.size, digest);
    here = velum_names_find(peer->hub->names, digest);
    if (here->kind == VELUM_ENTRY_TOMBSTONE) return velum__pass_on(peer, frame);
    return send_entry(peer, 0, here);
}

static bool stands_for_chunks(const velum_names *names, velum_text name) {
    uint8_t digest[VELUM_DIGEST_BYTES];
    const velum_names_entry *here;
    velum_chunk_key(name.data, name.size, digest);
    here = velum_names_find(names, digest);
    return here != NULL && here->kind == VELUM_ENTRY_MANIFEST;
}

static int answer_entry(velum__peer *peer, const velum_frame *frame) {
    uint64_t correlation = frame->header.correlation, now_ms;
    velum_named_version here;
    velum_entry entry;
    uint8_t *room = NULL;
    bool replaces;
    int n = velum_wire_get_entry(frame->payload, frame->header.length, &entry);
    if (n < 0) return n;
    if (entry.kind == VELUM_ENTRY_TOMBSTONE || (correlation & VELUM_ANSWER_BIT) != 0) {
        return velum__pass_on(peer, frame);
    }
    if (correlation != 0) {
        room = velum_link_reserve(peer->link, VELUM__ANSWER_BYTES_MAX);
        if (room == NULL) return VELUM_E_FULL;
    }
    now_ms = (uint64_t)velum_port_now_us() / 1000u;
    replaces = stands_for_chunks(peer->hub->names, entry.name);
    n = velum_names_merge(peer->hub->names, &entry, velum_port_unix_ms(), now_ms, &here);
    if (correlation == 0) {
        bool ours = n == 0 && here.what == VELUM_NAMED_LATER;
        return ours ? answer_with_ours(peer, frame, entry.name) : 0;
    }
    if (n == 1 && replaces) here.what = VELUM_NAMED_REPLACED;
    return velum__answered(
        peer, n < 0 ? velum__put_error(peer, room, correlation, n)
                    : velum_wire_put_version(room, VELUM__ANSWER_BYTES_MAX, correlation, &here));
}

/* -1, 0 or 1. */
static int compare(velum_version a, velum_version b) {
    if (a.stamp != b.stamp) return a.stamp < b.stamp ? -1 : 1;
    return (a.origin > b.origin) - (a.origin < b.origin);
}

static velum_claimed look_up(const velum_names *names, const uint8_t *claim) {
    const uint8_t *at = claim + VELUM_DIGEST_BYTES;
    velum_version version = {velum__get64(at), velum__get32(at + 8)};
    const velum_names_entry *here = velum_names_find(names, claim);
    int order = here == NULL ? -1 : compare(here->item.version, version);
    if (order > 0) return VELUM_CLAIM_OLD;
    return order == 0 && here->kind != VELUM_ENTRY_TOMBSTONE ? VELUM_CLAIM_FAST
                                                             : VELUM_CLAIM_UNKNOWN;
}

/* The owner may know who is about to put what the names do not know. */
static int answer_claims(velum__peer *peer, const velum_frame *frame) {
    uint8_t states[VELUM_CLAIMS_MAX], *room;
    const uint8_t *claims;
    size_t count, cap;
    int n = velum_wire_get_claims(frame->payload, frame->header.length, &claims, &count);
    if (n < 0) return n;
    for (size_t i = 0; i < count; i++) {
        states[i] = (uint8_t)look_up(peer->hub->names, claims + i * VELUM_CLAIM_NAME_BYTES);
        if (states[i] == VELUM_CLAIM_UNKNOWN) return velum__pass_on(peer, frame);
    }
    cap = VELUM_HEADER_BYTES + 2u + count;
    room = velum_link_reserve(peer->link, cap);
    if (room == NULL) return VELUM_E_FULL;
    return velum__answered(
        peer, velum_wire_put_claimed(room, cap, frame->header.correlation, states, count));
}

/* ---- together ---- */

int velum__store_answer(velum__peer *peer, const velum_frame *frame) {
    if (frame->header.type == VELUM_F_WANT) return answer_want(peer, frame);
    if (frame->header.type == VELUM_F_CHUNK) {
        part_came(peer, frame);
        return 0;
    }
    if (peer->hub->names == NULL) return velum__pass_on(peer, frame);
    if (frame->header.type == VELUM_F_ENTRY) return answer_entry(peer, frame);
    if (frame->header.type == VELUM_F_ENTRY_ASK) return answer_entry_ask(peer, frame);
    return answer_claims(peer, frame);
}

/* A reservation ends whose memory a link may be receiving into. */
static void on_abandon(void *owner, uint32_t sender, const uint8_t *key) {
    velum__peer *peer = velum__peer_find(owner, sender);
    const velum_frame *landing =
        peer == NULL || peer->link == NULL ? NULL : velum_link_landing(peer->link);
    if (landing == NULL || landing->header.type != VELUM_F_CHUNK ||
        lands_in(*want_of(peer, landing), landing) ||
        memcmp(landing->part.chunk.key, key, VELUM_KEY_BYTES) != 0) {
        return;
    }
    velum_link_forget_bulk(peer->link);
}

void velum_hub_set_store(velum_hub *hub, velum_chunks *chunks, velum_names *names) {
    if (hub->chunks != NULL) velum_chunks_on_abandon(hub->chunks, NULL, NULL);
    hub->chunks = chunks;
    hub->names = names;
    if (chunks != NULL) velum_chunks_on_abandon(chunks, on_abandon, hub);
}

void velum__store_link_ended(velum__peer *peer, int error) {
    velum_hub *hub = peer->hub;
    end_all_sending(peer, error);
    end_all_wants(peer, error);
    if (hub->chunks != NULL) velum_chunks_abandon_all(hub->chunks, velum__peer_handle(peer));
}

void velum__store_close(velum_hub *hub) {
    velum__notice *notice;
    while ((notice = take_notice(hub)) != NULL)
        free(notice);
    if (hub->chunks != NULL) velum_chunks_on_abandon(hub->chunks, NULL, NULL);
}
