/* hub_link.c: the life of one link of a hub.
 *
 * Owns: slots and handles, the handshake, deadlines and pings, reading in turns, flushing, and the
 * ways a link ends. Refuses to know: what frames mean once the handshake is over.
 * How: hub_internal.h tables the states. A link is served once a poll: it reads once, or hands out
 * frames that are left from before, never both, because events of this poll may lead into its
 * memory. For the same reason a link that has lent memory is freed only when the next poll begins.
 */
#include "hub_internal.h"

#include <stdlib.h>
#include <string.h>

/* A BYE may reach someone who has not accepted our HELLO yet and bounds frames accordingly. */
#define BYE_TEXT_BYTES_MAX (VELUM_HELLO_BYTES_MAX - 4u)

static int64_t milliseconds(int64_t ms) {
    return ms * 1000;
}

static bool reads(const velum__peer *peer) {
    return (peer->state == VELUM__GREETING || peer->state == VELUM__STRANGER ||
            peer->state == VELUM__OPEN) &&
           !peer->holding;
}

/* Tells the loop what this link waits for. */
static void watch_again(velum__peer *peer) {
    unsigned want = reads(peer) ? VELUM_READABLE : 0;
    if (peer->blocked || peer->state == VELUM__DIALLING) want |= VELUM_WRITABLE;
    if (peer->watch.want != want) {
        velum_watch_want(peer->hub->loop, &peer->watch, (uint8_t)want);
    }
}

static void set_state(velum__peer *peer, velum__state state) {
    velum_hub *hub = peer->hub;
    if (peer->state == VELUM__STRANGER) hub->strangers--;
    if (state == VELUM__STRANGER) hub->strangers++;
    peer->state = (uint8_t)state;
}

static uint16_t index_of(const velum__peer *peer) {
    return (uint16_t)(peer - peer->hub->peers);
}

static void queue_turn(velum__peer *peer) {
    if (peer->in_turn) return;
    peer->in_turn = true;
    velum__ring_push(&peer->hub->turn, index_of(peer));
}

static void set_deadline(velum__peer *peer, int64_t deadline_us) {
    velum_hub *hub = peer->hub;
    peer->deadline_us = deadline_us;
    if (hub->sweep_timer.slot < 0 || deadline_us < hub->sweep_timer.deadline_us) {
        (void)velum_timer_start(hub->loop, &hub->sweep_timer, deadline_us); /* has a place */
    }
}

static bool has_lent(const velum__peer *peer) {
    return peer->lent_poll == peer->hub->polls;
}

velum_handle velum__peer_handle(const velum__peer *peer) {
    return peer->generation << VELUM__INDEX_BITS | index_of(peer);
}

velum__peer *velum__peer_find(velum_hub *hub, velum_handle handle) {
    uint32_t index = handle & ((1u << VELUM__INDEX_BITS) - 1u);
    velum__peer *peer;
    if (index >= hub->config.links_max) return NULL;
    peer = &hub->peers[index];
    if (peer->generation != handle >> VELUM__INDEX_BITS || peer->state == VELUM__FREE ||
        peer->state == VELUM__STRANGER || peer->state == VELUM__GONE) {
        return NULL;
    }
    return peer;
}

/* ---- ending ---- */

void velum__peer_release(velum__peer *peer) {
    velum_hub *hub = peer->hub;
    velum_watch_remove(hub->loop, &peer->watch);
    if (peer->was_open) velum__store_link_ended(peer, VELUM_E_CLOSED); /* what came in late */
    velum_link_close(peer->link);
    peer->link = NULL;
    free(peer->text);
    peer->text = NULL;
    peer->generation = peer->generation % VELUM__GENERATION_MAX + 1;
    set_state(peer, VELUM__FREE);
    velum__ring_push(&hub->vacant, index_of(peer));
}

/* Gives the socket what it takes; counts it. As velum_link_flush. */
static int push_out(velum__peer *peer, size_t *moved) {
    size_t before = velum_link_unsent(peer->link);
    int left = velum_link_flush(peer->link);
    *moved = before - velum_link_unsent(peer->link);
    peer->hub->stats.bytes_out += *moved;
    return left;
}

/* Tells the peer why it is being left, if it still listens: one try. */
static void say_bye(velum__peer *peer, uint16_t code, const char *text) {
    uint8_t frame[VELUM_HEADER_BYTES + VELUM_HELLO_BYTES_MAX];
    velum_bye bye = {code, {NULL, 0}};
    size_t moved;
    int n;
    if (text == NULL && code != 0) text = velum_strerror(-(int)code);
    if (text != NULL) {
        size_t size = strlen(text);
        if (size > BYE_TEXT_BYTES_MAX) {
            size = BYE_TEXT_BYTES_MAX;
            while (size > 0 && ((unsigned char)text[size] & 0xc0u) == 0x80u)
                size--;
        }
        bye.text = (velum_text){text, (uint16_t)size};
    }
    n = velum_wire_put_bye(frame, sizeof frame, &bye);
    if (n < 0) { /* a text that is not UTF-8 */
        bye.text = (velum_text){NULL, 0};
        n = velum_wire_put_bye(frame, sizeof frame, &bye);
    }
    if (n > 0 && velum_link_send(peer->link, frame, (size_t)n) == 0) velum__peer_sent(peer, 1);
    if (peer->state != VELUM__DIALLING) (void)push_out(peer, &moved);
}

/* The link is over. A stranger just goes; of any other the owner hears. Takes the text over. */
static void end(velum__peer *peer, int error, char *text) {
    if (peer->state == VELUM__STRANGER) {
        free(text);
        velum__peer_release(peer);
        return;
    }
    velum_watch_remove(peer->hub->loop, &peer->watch);
    peer->error = error;
    peer->text = text;
    set_state(peer, VELUM__ENDED);
    velum__fetch_link_ended(peer);
    velum__store_link_ended(peer, error);
    velum__service_link_ended(peer);
    if (!has_lent(peer)) {
        velum_link_close(peer->link);
        peer->link = NULL;
    }
    velum__ring_push(&peer->hub->ended, index_of(peer));
}

/* Ends a link for what its peer did or failed to do, and tells it so. */
static void end_guilty(velum__peer *peer, int error) {
    peer->hub->stats.links_broken++;
    say_bye(peer, (uint16_t)-error, NULL);
    end(peer, error, NULL);
}

/* No event leads here after this poll: frees the link now or when the next one begins. */
static void bury(velum__peer *peer) {
    if (!has_lent(peer)) {
        velum__peer_release(peer);
        return;
    }
    set_state(peer, VELUM__GONE);
    velum__ring_push(&peer->hub->graves, index_of(peer));
}

void velum__peer_drop(velum__peer *peer, uint16_t code, const char *text) {
    if (peer->state == VELUM__ENDED) {
        set_state(peer, VELUM__GONE); /* it is in the ring of ended ones, which buries it */
        return;
    }
    say_bye(peer, code, text);
    velum_watch_remove(peer->hub->loop, &peer->watch);
    set_state(peer, VELUM__GONE);
    velum__fetch_link_ended(peer);
    velum__store_link_ended(peer, VELUM_E_CLOSED);
    velum__service_link_ended(peer);
    bury(peer);
}

bool velum__peer_close_event(velum__peer *peer) {
    velum_hub *hub = peer->hub;
    velum_event *event;
    if (peer->state != VELUM__ENDED) {
        bury(peer);
        return true;
    }
    if (!velum__hub_has_room(hub)) return false;
    event = velum__hub_event(hub, VELUM_EV_CLOSED);
    event->link = velum__peer_handle(peer);
    event->token = peer->token;
    event->u.closed.error = peer->error;
    event->u.closed.was_open = peer->was_open;
    event->u.closed.id = peer->id;
    event->u.closed.text = peer->text;
    if (peer->text != NULL) peer->lent_poll = hub->polls;
    bury(peer);
    return true;
}

/* ---- opening ---- */

static velum__peer *oldest_stranger(velum_hub *hub) {
    velum__peer *oldest = NULL;
    for (uint16_t i = 0; i < hub->config.links_max; i++) {
        velum__peer *peer = &hub->peers[i];
        if (peer->state == VELUM__STRANGER &&
            (oldest == NULL || peer->deadline_us < oldest->deadline_us)) {
            oldest = peer;
        }
    }
    return oldest;
}

/* Makes a vacant slot: strangers have few places, and none that a member needs. */
static void make_way(velum_hub *hub, velum__state state) {
    velum__peer *oldest;
    bool crowded = state == VELUM__STRANGER && hub->strangers >= hub->strangers_max;
    if (hub->vacant.count > 0 && !crowded) return;
    oldest = oldest_stranger(hub);
    if (oldest == NULL) return;
    hub->stats.links_refused++;
    say_bye(oldest, (uint16_t)-VELUM_E_CAPACITY, NULL);
    velum__peer_release(oldest);
}

/* A dial has ended, well or not. */
static void connected(velum__peer *peer) {
    int err = velum_port_dial_result(peer->watch.fd);
    if (err == VELUM_E_AGAIN) return;
    if (err != 0) {
        end(peer, err, NULL);
        return;
    }
    set_state(peer, VELUM__GREETING);
    velum__peer_flush(peer);
}

static void on_ready(velum_watch *watch, uint8_t what) {
    velum__peer *peer = watch->owner;
    if (peer->state == VELUM__DIALLING) {
        connected(peer);
        return;
    }
    if (what & VELUM_READABLE) queue_turn(peer);
    if (what & VELUM_WRITABLE) velum__peer_flush(peer);
}

/* Queues our HELLO, one of the two. */
static int greet(velum__peer *peer, const uint8_t *hello) {
    int err = velum_link_send(peer->link, hello, peer->hub->hello_size);
    if (err == 0) velum__peer_sent(peer, 1);
    return err;
}

/* A velum_link_sink; the owner is the peer. */
static uint8_t *memory_of_part(void *owner, velum_link *link, const velum_frame *frame) {
    velum__peer *peer = owner;
    (void)link;
    if (frame->header.type == VELUM_F_MODULE) return velum__fetch_memory(peer, &frame->part.module);
    return velum__store_memory(peer, frame);
}

int velum__peer_open(velum_hub *hub, velum_fd fd, velum__state state, const uint8_t *hello,
                     velum__peer **out) {
    velum__peer *peer;
    velum_link *link;
    int64_t now = velum_port_now_us();
    /* Who is adopted may be a process that has still to start; if it fails, its socket closes. */
    int64_t patience_ms = state == VELUM__GREETING ? 2 * VELUM_IDLE_MS : VELUM_HANDSHAKE_MS;
    int index, err;
    make_way(hub, state);
    if (hub->vacant.count == 0) return VELUM_E_FULL;
    index = velum__ring_pop(&hub->vacant);
    peer = &hub->peers[index];
    err = velum_link_open(&link, fd, memory_of_part, peer);
    if (err != 0) {
        velum__ring_push(&hub->vacant, (uint16_t)index);
        return err;
    }
    *peer = (velum__peer){.hub = hub,
                          .link = link,
                          .generation = peer->generation,
                          .watch = {.fd = fd, .ready = on_ready, .owner = peer, .slot = -1},
                          .lent_poll = hub->polls - 1,
                          .heard_us = now,
                          .drained = true,
                          .in_turn = peer->in_turn,
                          .in_dirty = peer->in_dirty};
    set_state(peer, state);
    (void)velum_watch_add(hub->loop, &peer->watch); /* the loop has a place for every link */
    watch_again(peer);
    set_deadline(peer, now + milliseconds(patience_ms));
    if (state == VELUM__STRANGER) {
        queue_turn(peer); /* its HELLO is often there already */
    } else {
        err = greet(peer, hello);
        if (err != 0) end(peer, err, NULL); /* the socket is ours by now */
    }
    *out = peer;
    return 0;
}

static void enter_open(velum__peer *peer) {
    int64_t now = velum_port_now_us();
    velum_link_set_stranger(peer->link, false);
    set_state(peer, VELUM__OPEN);
    peer->heard_us = now;
    set_deadline(peer, now + milliseconds(VELUM_IDLE_MS));
    watch_again(peer);
}

int velum__peer_accept(velum__peer *peer) {
    int err = greet(peer, peer->hub->hello);
    if (err != 0) return err;
    enter_open(peer);
    queue_turn(peer); /* frames may have come with the HELLO */
    return 0;
}

/* The peer's HELLO. */
static int greeted(velum__peer *peer, const velum_frame *frame) {
    velum_hub *hub = peer->hub;
    velum_event *event;
    velum_hello hello;
    int n = velum_wire_get_hello(frame->payload, frame->header.length, &hello);
    if (n < 0) return n;
    peer->id = hello.id;
    peer->role = hello.role;
    peer->was_open = true;
    peer->lent_poll = hub->polls;
    if (peer->state == VELUM__STRANGER) {
        set_state(peer, VELUM__ASKED);
        set_deadline(peer, velum_loop_now_us(hub->loop) + milliseconds(2 * VELUM_IDLE_MS));
        watch_again(peer);
    } else {
        enter_open(peer);
    }
    event = velum__hub_event(hub, VELUM_EV_OPENED);
    event->link = velum__peer_handle(peer);
    event->token = peer->token;
    event->u.opened.hello = hello;
    event->u.opened.peer = peer->addr;
    return 0;
}

/* ---- moving ---- */

void velum__peer_sent(velum__peer *peer, size_t frames) {
    velum_hub *hub = peer->hub;
    hub->stats.frames_out += frames;
    if (!peer->in_dirty && !peer->blocked) {
        peer->in_dirty = true;
        velum__ring_push(&hub->dirty, index_of(peer));
    }
}

void velum__peer_flush(velum__peer *peer) {
    size_t moved;
    int left;
    if (peer->state == VELUM__DIALLING || peer->send_error != 0) return;
    left = push_out(peer, &moved);
    if (moved > 0 && peer->blocked) { /* it takes what we sent: it lives */
        peer->heard_us = velum_loop_now_us(peer->hub->loop);
    }
    if (moved > 0 && peer->holding) queue_turn(peer);
    peer->blocked = left == 1;
    if (left >= 0) {
        int err = velum__store_feed(peer);
        if (err < 0) left = err;
    }
    if (left < 0) { /* what it said before it went, a BYE perhaps, may be waiting to be read */
        if (!reads(peer)) {
            end(peer, left, NULL);
            return;
        }
        peer->send_error = left;
        queue_turn(peer);
    }
    watch_again(peer);
}

/* The peer says that it leaves, or why it does not want us. */
static int farewell(velum__peer *peer, const velum_frame *frame) {
    velum_bye bye;
    char *text = NULL;
    int n = velum_wire_get_bye(frame->payload, frame->header.length, &bye);
    if (n < 0) return n;
    if (bye.text.size > 0) text = malloc(bye.text.size + 1u); /* told without a text if NULL */
    if (text != NULL) {
        memcpy(text, bye.text.data, bye.text.size);
        text[bye.text.size] = '\0';
    }
    end(peer, bye.code == 0 ? VELUM_E_LEAVING : -(int)bye.code, text);
    return 0;
}

static int dispatch(velum__peer *peer, const velum_frame *frame) {
    bool shaken = peer->state == VELUM__OPEN;
    if (frame->header.type == VELUM_F_BYE) return farewell(peer, frame);
    if (frame->header.type == VELUM_F_HELLO) {
        return shaken ? VELUM_E_UNEXPECTED : greeted(peer, frame);
    }
    return shaken ? velum__answer(peer, frame) : VELUM_E_UNEXPECTED;
}

/* Takes one frame that was read; false if there is none. The link may end over it. */
static bool take_frame(velum__peer *peer) {
    velum_frame frame;
    int err = 1;
    if (peer->holding) {
        frame = peer->held;
        peer->holding = false;
    } else {
        err = velum_link_next(peer->link, &frame);
        if (err == 0) return false;
        if (err > 0) peer->hub->stats.frames_in++;
    }
    if (err > 0) err = dispatch(peer, &frame);
    if (err == VELUM_E_FULL && velum_link_unsent(peer->link) == 0) err = VELUM_E_NOMEM;
    if (err == VELUM_E_FULL && peer->send_error == 0) {
        peer->held = frame;
        peer->holding = true;
    } else if (err == VELUM_E_FULL) {
        end(peer, peer->send_error, NULL);
    } else if (err < 0) {
        end_guilty(peer, err);
    }
    return true;
}

/* Reads once. False if the link came to its end, or nothing was there. */
static bool read_once(velum__peer *peer) {
    int n = velum_link_read(peer->link);
    if (n == VELUM_E_AGAIN) {
        if (peer->send_error != 0) end(peer, peer->send_error, NULL);
        return false;
    }
    if (n < 0) {
        end(peer, n, NULL);
        return false;
    }
    peer->hub->stats.bytes_in += (uint64_t)n;
    peer->heard_us = velum_loop_now_us(peer->hub->loop);
    peer->drained = false;
    return true;
}

void velum__peer_serve(velum__peer *peer) {
    velum_hub *hub = peer->hub;
    bool taken = false;
    if (!reads(peer) && !peer->holding) return;
    if (peer->drained && !read_once(peer)) return;
    while ((reads(peer) || peer->holding) && velum__hub_has_room(hub)) {
        if (!take_frame(peer)) {
            /* Not over what this poll's events lead to; and not before what was taken has had its
             * answer sent, for the next thing to read may be the link's end. */
            bool may = !taken && !has_lent(peer);
            if (velum_link_cut_short(peer->link) && may && read_once(peer)) continue;
            peer->drained = true;
            break;
        }
        taken = true;
        if (peer->holding) break;
        peer->heard_us = velum_loop_now_us(hub->loop);
    }
    if (peer->state == VELUM__FREE || peer->state == VELUM__GONE) return;
    watch_again(peer);
    if (reads(peer) && (!peer->drained || peer->send_error != 0)) queue_turn(peer);
}

/* ---- deadlines ---- */

static void ping(velum__peer *peer) {
    uint8_t *room = velum_link_reserve(peer->link, VELUM_HEADER_BYTES);
    if (room == NULL) return; /* a full queue asks in its own way: it must move */
    velum_wire_put_header(room, VELUM_F_PING, 0, VELUM__OWN_CORRELATION | ++peer->hub->serial);
    velum_link_commit(peer->link, VELUM_HEADER_BYTES);
    velum__peer_sent(peer, 1);
}

/* An OPEN link's deadline has come: pings it, gives it up, or grants it more time. */
static void look_after(velum__peer *peer, int64_t now) {
    const int64_t idle = milliseconds(VELUM_IDLE_MS);
    bool asked = peer->heard_us < peer->pinged_us;
    if (asked && now - peer->pinged_us >= idle) {
        end_guilty(peer, VELUM_E_TIMEOUT);
    } else if (asked) {
        peer->deadline_us = peer->pinged_us + idle;
    } else if (now - peer->heard_us >= idle - VELUM__PING_SLACK_US) {
        ping(peer);
        peer->pinged_us = now;
        peer->deadline_us = now + idle;
    } else {
        peer->deadline_us = peer->heard_us + idle;
    }
}

void velum__hub_sweep(velum_hub *hub) {
    int64_t now = velum_loop_now_us(hub->loop), next = INT64_MAX;
    hub->sweep_due = false;
    for (uint16_t i = 0; i < hub->config.links_max; i++) {
        velum__peer *peer = &hub->peers[i];
        if (peer->state == VELUM__OPEN && now >= peer->deadline_us - VELUM__PING_SLACK_US) {
            look_after(peer, now);
        } else if (peer->state >= VELUM__DIALLING && peer->state <= VELUM__ASKED &&
                   now >= peer->deadline_us) {
            end_guilty(peer, VELUM_E_TIMEOUT);
        }
        if (peer->state >= VELUM__DIALLING && peer->state <= VELUM__OPEN &&
            peer->deadline_us < next) {
            next = peer->deadline_us;
        }
    }
    velum_timer_stop(hub->loop, &hub->sweep_timer);
    if (next < INT64_MAX) (void)velum_timer_start(hub->loop, &hub->sweep_timer, next);
}
