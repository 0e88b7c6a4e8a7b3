/* hub_answer.c: frames that a hub deals with itself, or its service.
 *
 * Owns: the answers to PING, placed CALLs and MODULE_WANT, and the fetches of modules. Refuses to
 * know: sockets, handshakes, deadlines, files (hub_store.c). How: an answer takes its room in the
 * send queue before anything else is done; without room nothing has happened yet, and the same
 * frame is offered again later. A fetch has one MODULE_WANT under way: each part that arrives asks
 * for the next.
 */
#include "builtin.h"
#include "hub_internal.h"

#include <string.h>

#define WANT_BYTES (VELUM_HEADER_BYTES + VELUM_HASH_BYTES + 4u)

/* Who leaves so much unread is not read either, when it asks for what the owner will answer: there
 * must be room for the answers to what was read before. */
#define UNREAD_BYTES_MAX (VELUM_SEND_QUEUE_BYTES / 4)

int velum__pass_on(velum__peer *peer, const velum_frame *frame) {
    velum_hub *hub = peer->hub;
    velum_event *event = velum__hub_event(hub, VELUM_EV_FRAME);
    event->link = velum__peer_handle(peer);
    event->token = peer->token;
    event->u.frame = *frame;
    peer->lent_poll = hub->polls;
    return 0;
}

/* Passes a question on, in its time. */
static int ask_owner(velum__peer *peer, const velum_frame *frame) {
    if (velum_link_unsent(peer->link) > UNREAD_BYTES_MAX) return VELUM_E_FULL;
    return velum__pass_on(peer, frame);
}

int velum__answered(velum__peer *peer, int n) {
    velum_link_commit(peer->link, n > 0 ? (size_t)n : 0);
    if (n <= 0) return n;
    velum__peer_sent(peer, 1);
    return 0;
}

int velum__put_error(velum__peer *peer, uint8_t *room, uint64_t correlation, int err) {
    const char *text = velum_strerror(err);
    velum_error error = {(uint16_t)-err, peer->hub->node, 0, {text, (uint16_t)strlen(text)}};
    return velum_wire_put_error(room, VELUM__ANSWER_BYTES_MAX, correlation, &error);
}

int velum__answer_error(velum__peer *peer, uint64_t correlation, int err) {
    uint8_t *room = velum_link_reserve(peer->link, VELUM__ANSWER_BYTES_MAX);
    if (room == NULL) return VELUM_E_FULL;
    return velum__answered(peer, velum__put_error(peer, room, correlation, err));
}

/* ---- answers ---- */

static int answer_ping(velum__peer *peer, uint64_t correlation) {
    uint8_t *room = velum_link_reserve(peer->link, VELUM_HEADER_BYTES);
    if (room == NULL) return VELUM_E_FULL;
    return velum__answered(
        peer, velum_wire_put_empty(room, VELUM_HEADER_BYTES, VELUM_F_PONG, correlation));
}

static int answer_call(velum__peer *peer, const velum_frame *frame) {
    velum_hub *hub = peer->hub;
    uint64_t correlation = frame->header.correlation;
    velum_call call;
    velum_result result;
    uint8_t *room;
    int err, n;
    if (!hub->config.answer_calls) return velum__pass_on(peer, frame);
    n = velum_wire_get_call(frame->payload, frame->header.length, &call);
    if (n < 0) return n;
    if ((call.flags & VELUM_TASK_PLACED) == 0) return ask_owner(peer, frame);
    room = velum_link_reserve(peer->link, VELUM__ANSWER_BYTES_MAX);
    if (room == NULL) return VELUM_E_FULL;
    err = velum_builtin(&call, &result.values[0]);
    if (err != 0) {
        n = velum__put_error(peer, room, correlation, err);
    } else {
        result.node = hub->node;
        result.run_us = 0;
        result.health = hub->health;
        result.nvalues = 1;
        n = velum_wire_put_result(room, VELUM__ANSWER_BYTES_MAX, correlation, &result);
    }
    hub->stats.calls_answered++;
    return velum__answered(peer, n);
}

static int answer_want(velum__peer *peer, const velum_frame *frame) {
    velum_hub *hub = peer->hub;
    uint64_t correlation = frame->header.correlation;
    uint8_t head[VELUM_HEADER_BYTES + VELUM_MODULE_HEAD_BYTES];
    velum_module_want want;
    velum_module_part part;
    const uint8_t *module;
    size_t size;
    void *token;
    int n = velum_wire_get_module_want(frame->payload, frame->header.length, &want);
    if (n < 0) return n;
    module = velum_modules_lend(hub->modules, want.hash, &size, &token);
    if (module == NULL) return velum__answer_error(peer, correlation, VELUM_E_MODULE_MISSING);
    n = VELUM_E_PAYLOAD;
    if (want.offset < size && want.offset % VELUM_MODULE_PART_BYTES == 0) {
        size_t left = size - want.offset;
        memcpy(part.hash, want.hash, VELUM_HASH_BYTES);
        part.total = (uint32_t)size;
        part.offset = want.offset;
        part.size = (uint32_t)(left < VELUM_MODULE_PART_BYTES ? left : VELUM_MODULE_PART_BYTES);
        n = velum_wire_put_module_head(head, sizeof head, correlation, &part);
    }
    if (n > 0) {
        n = velum_link_send_ref(peer->link, head, (size_t)n, module + want.offset, part.size,
                                velum_modules_give_back, token);
    }
    if (n < 0) {
        velum_modules_give_back(token);
        return n;
    }
    velum__peer_sent(peer, 1);
    return 0;
}

/* ---- fetches ---- */

static velum__fetch *find_fetch(velum_hub *hub, const uint8_t *hash) {
    for (size_t i = 0; i < VELUM__FETCHES_MAX; i++) {
        velum__fetch *fetch = &hub->fetches[i];
        if (fetch->state != VELUM__FETCH_FREE && memcmp(fetch->hash, hash, VELUM_HASH_BYTES) == 0) {
            return fetch;
        }
    }
    return NULL;
}

static velum__fetch *free_fetch(velum_hub *hub) {
    for (size_t i = 0; i < VELUM__FETCHES_MAX; i++) {
        if (hub->fetches[i].state == VELUM__FETCH_FREE) return &hub->fetches[i];
    }
    return NULL;
}

static void finish(velum_hub *hub, velum__fetch *fetch, int error) {
    if (error != 0) velum_modules_abandon(hub->modules, fetch->hash);
    fetch->state = VELUM__FETCH_DONE;
    fetch->error = error;
    hub->fetches_due++;
}

static int put_want(const velum__fetch *fetch, uint8_t *room, uint32_t offset) {
    velum_module_want want;
    memcpy(want.hash, fetch->hash, VELUM_HASH_BYTES);
    want.offset = offset;
    return velum_wire_put_module_want(room, WANT_BYTES, fetch->correlation, &want);
}

int velum_hub_fetch(velum_hub *hub, velum_handle link, const uint8_t hash[32]) {
    velum__peer *peer = velum__peer_find(hub, link);
    velum__fetch *fetch = find_fetch(hub, hash);
    uint8_t *room;
    size_t size;
    if (peer == NULL || peer->state != VELUM__OPEN) return VELUM_E_ARGUMENT;
    if (fetch != NULL && fetch->state == VELUM__FETCH_ASKING) return 0;
    if (fetch != NULL) { /* its event was not given yet: this fetch takes its place */
        fetch->state = VELUM__FETCH_FREE;
        hub->fetches_due--;
    } else {
        fetch = free_fetch(hub);
        if (fetch == NULL) return VELUM_E_FULL;
    }
    memcpy(fetch->hash, hash, VELUM_HASH_BYTES);
    fetch->link = link;
    if (velum_modules_get(hub->modules, hash, &size) != NULL) {
        finish(hub, fetch, 0);
        return 0;
    }
    room = velum_link_reserve(peer->link, WANT_BYTES);
    if (room == NULL) return VELUM_E_FULL;
    fetch->correlation = VELUM__OWN_CORRELATION | ++hub->serial;
    fetch->next = 0;
    fetch->state = VELUM__FETCH_ASKING;
    return velum__answered(peer, put_want(fetch, room, 0));
}

/* The fetch that a part belongs to, or NULL: nobody asked for it. */
static velum__fetch *fetch_of(velum__peer *peer, const velum_module_part *part) {
    velum__fetch *fetch = find_fetch(peer->hub, part->hash);
    if (fetch == NULL || fetch->state != VELUM__FETCH_ASKING || fetch->next != part->offset ||
        fetch->link != velum__peer_handle(peer)) {
        return NULL;
    }
    return fetch;
}

uint8_t *velum__fetch_memory(velum__peer *peer, const velum_module_part *part) {
    if (fetch_of(peer, part) == NULL) return NULL;
    return velum_modules_part_memory(peer->hub->modules, part);
}

static int part_came(velum__peer *peer, const velum_frame *frame) {
    velum_hub *hub = peer->hub;
    const velum_module_part *part = &frame->part.module;
    velum__fetch *fetch = fetch_of(peer, part);
    uint8_t *room;
    uint32_t next;
    int r, n = 0;
    if (fetch == NULL || fetch->correlation != frame->header.correlation) {
        return VELUM_E_UNEXPECTED;
    }
    room = velum_link_reserve(peer->link, WANT_BYTES);
    if (room == NULL) return VELUM_E_FULL;
    r = velum_modules_part_arrived(hub->modules, part, &next);
    if (r == 0) {
        fetch->next = next;
        n = put_want(fetch, room, next);
    } else if (r == 1) {
        finish(hub, fetch, 0);
    } else {
        bool no_room = r == VELUM_E_MODULE_MISSING && part->offset == 0;
        finish(hub, fetch, no_room ? VELUM_E_FULL : r);
    }
    return velum__answered(peer, n);
}

/* The peer cannot give us the module: whatever it says of the reason, it is missing there. */
static void refused(velum__peer *peer, uint64_t correlation) {
    velum_hub *hub = peer->hub;
    for (size_t i = 0; i < VELUM__FETCHES_MAX; i++) {
        velum__fetch *fetch = &hub->fetches[i];
        if (fetch->state == VELUM__FETCH_ASKING && fetch->correlation == correlation &&
            fetch->link == velum__peer_handle(peer)) {
            finish(hub, fetch, VELUM_E_MODULE_MISSING);
        }
    }
}

void velum__fetch_link_ended(velum__peer *peer) {
    velum_hub *hub = peer->hub;
    for (size_t i = 0; i < VELUM__FETCHES_MAX; i++) {
        velum__fetch *fetch = &hub->fetches[i];
        if (fetch->state == VELUM__FETCH_ASKING && fetch->link == velum__peer_handle(peer)) {
            finish(hub, fetch, VELUM_E_MODULE_MISSING);
        }
    }
}

void velum__fetch_events(velum_hub *hub) {
    for (size_t i = 0; i < VELUM__FETCHES_MAX && hub->fetches_due > 0; i++) {
        velum__fetch *fetch = &hub->fetches[i];
        velum_event *event;
        if (fetch->state != VELUM__FETCH_DONE) continue;
        if (!velum__hub_has_room(hub)) return;
        event = velum__hub_event(hub, VELUM_EV_MODULE);
        event->link = fetch->link;
        memcpy(event->u.module.hash, fetch->hash, VELUM_HASH_BYTES);
        event->u.module.error = fetch->error;
        fetch->state = VELUM__FETCH_FREE;
        hub->fetches_due--;
    }
}

/* ---- the service ---- */

static int serve(velum__peer *peer, const velum_frame *frame) {
    const velum_hub_service *service = &peer->hub->service;
    int r = 1;
    if (service->frame != NULL)
        r = service->frame(service->owner, velum__peer_handle(peer), peer->role, peer->id, frame);
    return r == 1 ? velum__pass_on(peer, frame) : r;
}

void velum__service_link_ended(velum__peer *peer) {
    const velum_hub_service *service = &peer->hub->service;
    if (peer->was_open && service->ended != NULL)
        service->ended(service->owner, velum__peer_handle(peer));
}

/* ---- */

/* Members place tasks at each other: if both did not read for what the other has not read, neither
 * would ever go on. */
static bool is_placed(const velum_frame *frame) {
    return frame->header.length > 0 && (frame->payload[0] & VELUM_TASK_PLACED) != 0;
}

int velum__answer(velum__peer *peer, const velum_frame *frame) {
    uint64_t correlation = frame->header.correlation;
    switch (frame->header.type) {
    case VELUM_F_PING:
        return answer_ping(peer, correlation);
    case VELUM_F_PONG:
        return 0;
    case VELUM_F_CALL:
        return answer_call(peer, frame);
    case VELUM_F_QUERY:
    case VELUM_F_NAMES_ASK:
        return ask_owner(peer, frame);
    case VELUM_F_TASK:
        return is_placed(frame) ? velum__pass_on(peer, frame) : ask_owner(peer, frame);
    case VELUM_F_MODULE_WANT:
        return answer_want(peer, frame);
    case VELUM_F_MODULE:
        return part_came(peer, frame);
    case VELUM_F_WANT:
    case VELUM_F_CHUNK:
    case VELUM_F_ENTRY:
    case VELUM_F_ENTRY_ASK:
    case VELUM_F_CLAIMS:
        return velum__store_answer(peer, frame);
    case VELUM_F_ERROR:
        if (velum__store_refused(peer, correlation)) return 0;
        if ((correlation & VELUM__OWN_CORRELATION) == 0) return velum__pass_on(peer, frame);
        refused(peer, correlation);
        return 0;
    default:
        if (frame->header.type >= VELUM_F_KV_DO) return serve(peer, frame);
        return velum__pass_on(peer, frame);
    }
}
