/* hub.c: the public face of a hub, its sockets that are not links, and the poll.
 *
 * Owns: listening, dialling, datagrams, waking, and the order in which one poll does its work.
 * Refuses to know: what a link does between open and end (hub_link.c), what frames say
 * (hub_answer.c, hub_store.c). How: a poll flushes, gives events that are due, sleeps, serves links
 * in turns, looks after deadlines; it goes round again while all that came was answered by the hub
 * itself.
 */
#include "hub_internal.h"

#include <stdlib.h>
#include <string.h>

/* A time-out beyond this is none: keeps sums of times from overflowing. */
#define TIMEOUT_US_MAX (INT64_C(1000000) * 86400 * 365)

/* Rounds of one poll that end without an event. Bounds how long traffic that the hub answers
 * itself keeps the owner waiting. */
#define ROUNDS_PER_POLL 256u

#define PORT_TRIES 8 /* when any port will do */

/* ---- small things that the parts share ---- */

void velum__ring_push(velum__ring *ring, uint16_t index) {
    ring->items[(ring->head + ring->count) % VELUM_LINKS_MAX] = index;
    ring->count++;
}

int velum__ring_pop(velum__ring *ring) {
    int index;
    if (ring->count == 0) return -1;
    index = ring->items[ring->head];
    ring->head = (uint16_t)((ring->head + 1u) % VELUM_LINKS_MAX);
    ring->count--;
    return index;
}

bool velum__hub_has_room(const velum_hub *hub) {
    return hub->event_count < hub->event_cap;
}

velum_event *velum__hub_event(velum_hub *hub, velum_event_kind kind) {
    velum_event *event = &hub->events[hub->event_count++];
    memset(event, 0, sizeof *event);
    event->kind = (uint8_t)kind;
    return event;
}

/* ---- open and close ---- */

static void on_wake(velum_watch *watch, uint8_t what) {
    velum_hub *hub = watch->owner;
    (void)what;
    velum_port_wake_clear(watch->fd);
    hub->woken = true;
}

static void on_sweep(velum_timer *timer, int64_t now_us) {
    velum_hub *hub = timer->owner;
    (void)now_us;
    hub->sweep_due = true; /* after reading: what waits in a socket is a sign of life */
}

static void on_listen_again(velum_timer *timer, int64_t now_us) {
    velum_hub *hub = timer->owner;
    (void)now_us;
    velum_watch_want(hub->loop, &hub->listener, VELUM_READABLE);
}

static int open_waker(velum_hub *hub) {
    int err = velum_port_wake_open(&hub->waker.fd, &hub->wake_writer);
    if (err == VELUM_E_UNSUPPORTED) return 0; /* one thread: nobody could wake it */
    if (err != 0) return err;
    return velum_watch_add(hub->loop, &hub->waker);
}

int velum_hub_open(velum_hub **out, const velum_hub_config *config) {
    velum_hub *hub;
    size_t links = config->links_max;
    size_t quarter = links / 4;
    int err;
    if (links < 1 || links > VELUM_LINKS_MAX) return VELUM_E_ARGUMENT;
    hub = calloc(1, sizeof *hub);
    if (hub == NULL) return VELUM_E_NOMEM;
    hub->config = *config;
    hub->strangers_max = (uint16_t)(quarter < 1                     ? 1
                                    : quarter < VELUM_STRANGERS_MAX ? quarter
                                                                    : VELUM_STRANGERS_MAX);
    hub->wake_writer = VELUM_NO_FD;
    hub->listener = (velum_watch){.fd = VELUM_NO_FD, .owner = hub, .slot = -1};
    hub->waker = (velum_watch){VELUM_NO_FD, VELUM_READABLE, on_wake, hub, -1};
    hub->sweep_timer = (velum_timer){.fired = on_sweep, .owner = hub, .slot = -1};
    hub->listen_timer = (velum_timer){.fired = on_listen_again, .owner = hub, .slot = -1};
    hub->health.cores = 1;
    hub->peers = calloc(links, sizeof *hub->peers);
    err = hub->peers == NULL ? VELUM_E_NOMEM : 0;
    for (size_t i = 0; err == 0 && i < links; i++) {
        hub->peers[i].generation = 1;
        velum__ring_push(&hub->vacant, (uint16_t)i);
    }
    /* Watches: the links, the listener, the waker, the datagram sockets. Timers: ours. */
    if (err == 0)
        err = velum_loop_open(&hub->loop, links + 2u + VELUM__UDP_MAX + config->watches,
                              2u + VELUM_HUB_SERVICE_TIMERS);
    if (err == 0) err = velum_modules_open(&hub->modules, config->module_bytes);
    if (err == 0) err = open_waker(hub);
    if (err != 0) {
        velum_hub_close(hub);
        return err;
    }
    *out = hub;
    return 0;
}

static void close_socket(velum_fd fd) {
    if (fd != VELUM_NO_FD) velum_port_close(fd);
}

void velum_hub_close(velum_hub *hub) {
    if (hub == NULL) return;
    for (uint16_t i = 0; hub->peers != NULL && i < hub->config.links_max; i++) {
        velum__peer *peer = &hub->peers[i];
        if (peer->state == VELUM__FREE) continue;
        if (peer->state == VELUM__OPEN || peer->state == VELUM__GREETING) {
            (void)velum_link_flush(peer->link);
        }
        velum__peer_release(peer);
    }
    velum__store_close(hub);
    close_socket(hub->listener.fd);
    close_socket(hub->waker.fd);
    close_socket(hub->wake_writer);
    for (uint8_t i = 0; i < hub->udp_count; i++)
        close_socket(hub->udp[i].watch.fd);
    velum_modules_close(hub->modules);
    velum_loop_close(hub->loop);
    free(hub->datagrams);
    free(hub->peers);
    free(hub);
}

int velum_hub_identity(velum_hub *hub, const velum_hello *hello) {
    uint8_t frame[sizeof hub->hello];
    velum_hello bulk = *hello;
    int n = velum_wire_put_hello(frame, sizeof frame, 0, hello);
    bulk.features |= VELUM_FEATURE_BULK;
    if (n > 0) n = velum_wire_put_hello(hub->hello_bulk, sizeof hub->hello_bulk, 0, &bulk);
    if (n < 0) return n;
    memcpy(hub->hello, frame, (size_t)n);
    hub->hello_size = (size_t)n;
    hub->node = hello->id;
    return 0;
}

int velum_hub_health(velum_hub *hub, const velum_health *health) {
    uint8_t frame[VELUM_HEADER_BYTES + VELUM_HEALTH_BYTES];
    int n = velum_wire_put_health(frame, sizeof frame, health); /* refuses what cannot travel */
    if (n < 0) return n;
    hub->health = *health;
    return 0;
}

/* ---- listening, dialling, adopting ---- */

/* Turns a connection away that no slot could be found for. */
static void refuse(velum_hub *hub, velum_fd fd) {
    uint8_t frame[VELUM_HEADER_BYTES + VELUM_HELLO_BYTES_MAX];
    const char *text = velum_strerror(VELUM_E_CAPACITY);
    velum_bye bye = {(uint16_t)-VELUM_E_CAPACITY, {text, (uint16_t)strlen(text)}};
    int n = velum_wire_put_bye(frame, sizeof frame, &bye);
    hub->stats.links_refused++;
    if (n > 0) (void)velum_port_send(fd, frame, (size_t)n);
    /* Its HELLO, left unread, would turn the close into a reset that overtakes the BYE. */
    (void)velum_port_recv(fd, frame, sizeof frame);
    velum_port_close(fd);
}

static void on_connection(velum_watch *watch, uint8_t what) {
    velum_hub *hub = watch->owner;
    (void)what;
    for (size_t i = 0; i < VELUM__ACCEPTS_PER_TICK && i < hub->strangers_max; i++) {
        velum_addr from;
        velum__peer *peer;
        velum_fd fd;
        int err = velum_port_accept(watch->fd, &fd, &from);
        if (err == VELUM_E_AGAIN) return;
        if (err != 0) {
            int64_t until = velum_loop_now_us(hub->loop) + VELUM__ACCEPT_PAUSE_US;
            velum_watch_want(hub->loop, watch, 0);
            (void)velum_timer_start(hub->loop, &hub->listen_timer, until); /* has a place */
            return;
        }
        if (velum__peer_open(hub, fd, VELUM__STRANGER, NULL, &peer) != 0) {
            refuse(hub, fd);
        } else {
            peer->addr = from;
        }
    }
}

int velum_hub_listen(velum_hub *hub, velum_addr *addr) {
    int err;
    if (hub->hello_size == 0 || hub->listener.fd != VELUM_NO_FD) return VELUM_E_ARGUMENT;
    err = velum_port_listen(addr, &hub->listener.fd);
    if (err != 0) {
        hub->listener.fd = VELUM_NO_FD;
        return err;
    }
    hub->listener.want = VELUM_READABLE;
    hub->listener.ready = on_connection;
    return velum_watch_add(hub->loop, &hub->listener);
}

static int dial(velum_hub *hub, const velum_addr *to, uint64_t token, const uint8_t *hello,
                velum_handle *out) {
    velum__peer *peer;
    velum_fd fd;
    int err;
    if (hub->hello_size == 0) return VELUM_E_ARGUMENT;
    err = velum_port_dial(to, &fd);
    if (err != 0) return err;
    err = velum__peer_open(hub, fd, VELUM__DIALLING, hello, &peer);
    if (err != 0) {
        velum_port_close(fd);
        return err;
    }
    peer->token = token;
    peer->addr = *to;
    *out = velum__peer_handle(peer);
    return 0;
}

int velum_hub_dial(velum_hub *hub, const velum_addr *to, uint64_t token, velum_handle *out) {
    return dial(hub, to, token, hub->hello, out);
}

int velum_hub_dial_bulk(velum_hub *hub, const velum_addr *to, uint64_t token, velum_handle *out) {
    return dial(hub, to, token, hub->hello_bulk, out);
}

int velum_hub_adopt(velum_hub *hub, velum_fd fd, uint64_t token, velum_handle *out) {
    velum__peer *peer;
    int err;
    if (hub->hello_size == 0) return VELUM_E_ARGUMENT;
    err = velum_port_adopt(fd);
    if (err == 0) err = velum__peer_open(hub, fd, VELUM__GREETING, hub->hello, &peer);
    if (err != 0) return err;
    peer->token = token;
    *out = velum__peer_handle(peer);
    return 0;
}

int velum_hub_accept(velum_hub *hub, velum_handle link) {
    velum__peer *peer = velum__peer_find(hub, link);
    if (peer == NULL || peer->state == VELUM__ENDED) return VELUM_E_ARGUMENT;
    return peer->state == VELUM__ASKED ? velum__peer_accept(peer) : 0;
}

void velum_hub_drop(velum_hub *hub, velum_handle link, uint16_t code, const char *text) {
    velum__peer *peer = velum__peer_find(hub, link);
    if (peer != NULL) velum__peer_drop(peer, code, text);
}

/* ---- datagrams ---- */

static void on_datagram(velum_watch *watch, uint8_t what) {
    velum__udp *udp = watch->owner;
    velum_hub *hub = udp->hub;
    (void)what;
    for (unsigned tries = 0; tries < VELUM__DATAGRAMS_PER_POLL && velum__hub_has_room(hub) &&
                             hub->datagram_count < VELUM__DATAGRAMS_PER_POLL;
         tries++) {
        uint8_t buf[VELUM_DATAGRAM_BYTES_MAX + 1u]; /* one more: tells what is too long */
        velum_datagram *message = &hub->datagrams[hub->datagram_count];
        velum_addr from;
        velum_event *event;
        int n = velum_port_udp_recv(watch->fd, buf, sizeof buf, &from);
        if (n < 0) return;
        hub->stats.datagrams_in++;
        if ((size_t)n == sizeof buf || velum_wire_get_datagram(buf, (size_t)n, message) <= 0) {
            hub->stats.datagrams_bad++;
            continue;
        }
        hub->datagram_count++;
        event = velum__hub_event(hub, VELUM_EV_DATAGRAM);
        event->u.datagram.message = message;
        event->u.datagram.from = from;
        event->u.datagram.socket = udp->index;
    }
}

int velum_hub_udp(velum_hub *hub, velum_addr *addr, bool shared, uint8_t *index) {
    velum__udp *udp = &hub->udp[hub->udp_count];
    int err;
    if (hub->udp_count == VELUM__UDP_MAX) return VELUM_E_FULL;
    if (hub->datagrams == NULL) {
        hub->datagrams = calloc(VELUM__DATAGRAMS_PER_POLL, sizeof *hub->datagrams);
        if (hub->datagrams == NULL) return VELUM_E_NOMEM;
    }
    udp->hub = hub;
    udp->index = hub->udp_count;
    udp->watch = (velum_watch){VELUM_NO_FD, VELUM_READABLE, on_datagram, udp, -1};
    err = velum_port_udp_open(addr, shared, &udp->watch.fd);
    if (err != 0) return err;
    hub->udp_count++;
    *index = udp->index;
    return velum_watch_add(hub->loop, &udp->watch);
}

/* The system picks a port that is free for streams; somebody may have it for datagrams. (The other
 * way round is worse: a closed stream holds its port for a minute.) */
int velum_hub_serve(velum_hub *hub, velum_addr *addr, uint8_t *index) {
    velum_addr wanted = *addr;
    int tries = wanted.port == 0 ? PORT_TRIES : 1, err;
    do {
        *addr = wanted;
        err = velum_hub_listen(hub, addr);
        if (err != 0) return err;
        err = velum_hub_udp(hub, addr, false, index);
        if (err != 0) {
            velum_watch_remove(hub->loop, &hub->listener);
            velum_port_close(hub->listener.fd);
            hub->listener.fd = VELUM_NO_FD;
        }
    } while (err == VELUM_E_ADDRESS_IN_USE && --tries > 0);
    return err;
}

int velum_hub_udp_send(velum_hub *hub, uint8_t index, const velum_addr *to,
                       const velum_datagram *message) {
    uint8_t buf[VELUM_DATAGRAM_BYTES_MAX];
    int n;
    if (index >= hub->udp_count) return VELUM_E_ARGUMENT;
    n = velum_wire_put_datagram(buf, sizeof buf, message);
    if (n > 0) n = velum_port_udp_send(hub->udp[index].watch.fd, to, buf, (size_t)n);
    if (n < 0) return n;
    hub->stats.datagrams_out++;
    return 0;
}

/* ---- sending ---- */

/* The link that the owner may queue `n` bytes on, or NULL and the reason. The owner fills half of
 * a queue at most: the other half is for answers, so that two hubs whose owners both send as much
 * as they can still answer each other. */
static velum__peer *sendable(velum_hub *hub, velum_handle link, size_t n, int *err) {
    velum__peer *peer = velum__peer_find(hub, link);
    size_t unsent;
    *err = VELUM_E_ARGUMENT;
    if (peer == NULL || peer->state != VELUM__OPEN) return NULL;
    unsent = velum_link_unsent(peer->link);
    *err = VELUM_E_FULL;
    if (unsent > 0 && unsent + n > VELUM_SEND_QUEUE_BYTES / 2) return NULL;
    *err = 0;
    return peer;
}

int velum_hub_send(velum_hub *hub, velum_handle link, const void *frame, size_t n) {
    int err;
    velum__peer *peer = sendable(hub, link, n, &err);
    if (peer == NULL) return err;
    err = velum_link_send(peer->link, frame, n);
    if (err == 0) velum__peer_sent(peer, 1);
    return err;
}

uint8_t *velum_hub_reserve(velum_hub *hub, velum_handle link, size_t n) {
    int err;
    velum__peer *peer = sendable(hub, link, n, &err);
    return peer == NULL ? NULL : velum_link_reserve(peer->link, n);
}

uint8_t *velum_hub_reserve_answer(velum_hub *hub, velum_handle link, size_t n) {
    velum__peer *peer = velum__peer_find(hub, link);
    if (peer == NULL || peer->state != VELUM__OPEN) return NULL;
    return velum_link_reserve(peer->link, n);
}

void velum_hub_commit(velum_hub *hub, velum_handle link, size_t used) {
    velum__peer *peer = velum__peer_find(hub, link);
    if (peer == NULL || peer->state != VELUM__OPEN) return;
    velum_link_commit(peer->link, used);
    if (used > 0) velum__peer_sent(peer, 1);
}

void velum_hub_flush(velum_hub *hub) {
    for (uint16_t left = hub->dirty.count; left > 0; left--) {
        velum__peer *peer = &hub->peers[velum__ring_pop(&hub->dirty)];
        peer->in_dirty = false;
        if (peer->state >= VELUM__GREETING && peer->state <= VELUM__OPEN) velum__peer_flush(peer);
    }
}

size_t velum_hub_unsent(velum_hub *hub, velum_handle link) {
    velum__peer *peer = velum__peer_find(hub, link);
    return peer == NULL || peer->state == VELUM__ENDED ? 0 : velum_link_unsent(peer->link);
}

/* ---- the poll ---- */

/* Nothing of the last poll's events is used any more. */
static void begin_poll(velum_hub *hub, velum_event *events, size_t cap) {
    int index;
    hub->polls++;
    while ((index = velum__ring_pop(&hub->graves)) >= 0)
        velum__peer_release(&hub->peers[index]);
    hub->datagram_count = 0;
    hub->events = events;
    hub->event_cap = cap < VELUM_EVENTS_PER_POLL ? cap : VELUM_EVENTS_PER_POLL;
    hub->event_count = 0;
}

/* Gives what needs no socket: chunks and links that ended, fetches that ended, a wake. */
static void give_notices(velum_hub *hub) {
    velum__store_events(hub); /* of a link that ended, before that is told */
    while (hub->ended.count > 0) {
        velum__peer *peer = &hub->peers[hub->ended.items[hub->ended.head]];
        if (!velum__peer_close_event(peer)) return;
        (void)velum__ring_pop(&hub->ended);
    }
    velum__fetch_events(hub);
    if (hub->woken && velum__hub_has_room(hub)) {
        hub->woken = false;
        velum__hub_event(hub, VELUM_EV_WAKE);
    }
}

static void serve_turns(velum_hub *hub) {
    for (uint16_t left = hub->turn.count; left > 0 && velum__hub_has_room(hub); left--) {
        velum__peer *peer = &hub->peers[velum__ring_pop(&hub->turn)];
        peer->in_turn = false;
        velum__peer_serve(peer);
    }
}

/* The service's turn: sockets have taken what they do, so it sees which links have room, and what
 * it sends leaves before the owner looks at what came. */
static void serve_service(velum_hub *hub) {
    if (hub->service.flush == NULL) return;
    velum_hub_flush(hub);
    hub->service_busy = hub->service.flush(hub->service.owner);
    velum_hub_flush(hub);
}

bool velum_hub_turn(velum_hub *hub) {
    serve_service(hub);
    velum_hub_flush(hub);
    return hub->service_busy || hub->woken || hub->dirty.count > 0 || hub->turn.count > 0 ||
           hub->ended.count > 0 || velum_loop_changed(hub->loop);
}

/* One round: flush, sleep up to `sleep_us` if there is nothing to do, serve. 0 if that was for
 * nothing: the time is over, or a signal came, which is the owner's to look at. */
static int go_round(velum_hub *hub, int64_t sleep_us) {
    bool busy;
    int ran;
    velum_hub_flush(hub);
    give_notices(hub);
    busy = hub->event_count > 0 || hub->turn.count > 0 || hub->dirty.count > 0 || hub->service_busy;
    ran = velum_loop_tick(hub->loop, busy ? 0 : sleep_us);
    serve_turns(hub);
    if (hub->sweep_due) velum__hub_sweep(hub);
    serve_service(hub);
    give_notices(hub);
    return ran == 0 && busy ? 1 : ran;
}

int velum_hub_poll(velum_hub *hub, int64_t timeout_us, velum_event *events, size_t cap) {
    int64_t sleep_us = timeout_us < TIMEOUT_US_MAX ? timeout_us : TIMEOUT_US_MAX;
    int64_t until_us = 0;
    int ran;
    if (events == NULL || cap == 0) return VELUM_E_ARGUMENT;
    begin_poll(hub, events, cap);
    if (sleep_us > 0) until_us = velum_port_now_us() + sleep_us;
    for (unsigned round = 0; round < ROUNDS_PER_POLL; round++) {
        ran = go_round(hub, sleep_us);
        if (hub->event_count > 0) return (int)hub->event_count;
        if (ran < 0) return ran;
        if (timeout_us == 0 || ran == 0) break;
        if (timeout_us > 0) {
            sleep_us = until_us - velum_port_now_us();
            if (sleep_us <= 0) break;
        }
    }
    velum_hub_flush(hub);
    return 0;
}

void velum_hub_wake(velum_hub *hub) {
    if (hub->wake_writer != VELUM_NO_FD) velum_port_wake(hub->wake_writer);
}

void velum_hub_woken(velum_hub *hub) {
    hub->woken = true;
}

/* ---- the rest ---- */

void velum_hub_set_service(velum_hub *hub, const velum_hub_service *service) {
    hub->service = service == NULL ? (velum_hub_service){NULL, NULL, NULL, NULL} : *service;
    hub->service_busy = service != NULL; /* its first turn comes at once */
}

void velum_hub_service_due(velum_hub *hub) {
    hub->service_busy = true;
}

velum_loop *velum_hub_loop(velum_hub *hub) {
    return hub->loop;
}

velum_modules *velum_hub_modules(velum_hub *hub) {
    return hub->modules;
}

void velum_hub_get_stats(const velum_hub *hub, velum_hub_stats *out) {
    *out = hub->stats;
    out->strangers = hub->strangers;
    out->links = 0;
    for (uint16_t i = 0; i < hub->config.links_max; i++) {
        uint8_t state = hub->peers[i].state;
        if (state >= VELUM__DIALLING && state <= VELUM__OPEN && state != VELUM__STRANGER) {
            out->links++;
        }
    }
}
