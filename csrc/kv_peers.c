/* kv_peers.c: see kv_peers.h.
 *
 * A transfer goes over leaves in the order in which they were asked for. Where it has stopped
 * within a leaf is a number of records: so it begins the leaf again if that has changed meanwhile,
 * a few times, and after that says that what it sent is perhaps not whole.
 */
#include "kv_peers.h"

#include "kv_text.h"
#include "wire_bytes.h"

#include <stdlib.h>
#include <string.h>

/* What stands before the lines of a KV_RECORDS. */
#define HEAD_BYTES (VELUM_HEADER_BYTES + VELUM_KV_RECORDS_HEAD_BYTES)

/* The lines of one frame, all together. */
#define LINES_BYTES_MAX (VELUM_KV_FRAME_BYTES_MAX - VELUM_KV_RECORDS_HEAD_BYTES)

/* Lines of an answer that go into one frame; the last one may be longer. Other frames of the link
 * wait for no more than that. */
#define PIECE_BYTES (64u * 1024u)

/* A link's queue is filled so far by answers: enough for a round trip, and little to wait for. */
#define QUEUE_BYTES (256u * 1024u)

/* An empty buffer that is larger is given back. */
#define KEEP_BYTES ((size_t)1024 * 1024)

#define RESTARTS_MAX 3u
#define GAPS_MAX     8u  /* what a peer lacks, one by one; older than that all counts as lacking */
#define ASKS_MAX     64u /* questions to a peer that are not answered; a later one asks for more */

/* A frame in the making: the bytes before its lines, then these. */
typedef struct {
    uint8_t *data;
    size_t size, cap; /* size: of the lines alone */
    uint32_t records;
} lines;

/* Numbers above `from`, up to `to`. */
typedef struct {
    uint64_t from, to;
} gap;

typedef struct peer {
    struct peer *next;
    velum_handle link;
    uint16_t id;        /* 0: it is not joined, but has sent something that was passed over */
    bool missed;        /* a push, or what was settled here; and nobody was told yet */
    bool refused;       /* something of it was passed over since it asked last */
    uint64_t floor;     /* numbers up to it were pushed before it came, or are lacking */
    uint64_t heard;     /* the greatest that it has confirmed */
    uint64_t offered;   /* what it pulls has all up to this one */
    uint64_t pulled;    /* it has all up to this one */
    gap gaps[GAPS_MAX]; /* what it lacks of these */
    size_t gap_count;
    gap asks[ASKS_MAX]; /* a ring: each asks for what was pushed since the one before */
    size_t ask_at, ask_count;
    uint64_t asked; /* the last one's `to` */
} peer;

/* Where a transfer is. */
typedef struct {
    uint16_t leaf;     /* place in what was asked for */
    size_t passed;     /* records of it */
    uint64_t sum;      /* of it, when they were passed */
    uint32_t restarts; /* of it */
    velum_kv_end end;
} progress;

typedef struct transfer {
    struct transfer *next;
    velum_handle link;
    uint64_t correlation;
    uint16_t count;
    progress at;
    uint8_t leaves[]; /* as they came */
} transfer;

struct velum_kv_peers {
    velum_hub *hub;
    velum_kv_state *state;
    peer *first;
    transfer *transfers, **last;
    lines news, piece;
    bool news_lost;    /* not all records are in `news` */
    uint64_t sequence; /* records written */
    uint64_t pushed;   /* of these */
    uint64_t wanted;   /* somebody waits for this number */
    uint8_t *memory;   /* to read lines in */
    size_t memory_size;
    velum_kv_peers_figures figures;
};

/* ---- lines ---- */

static bool grow(lines *l, size_t room) {
    size_t need = HEAD_BYTES + l->size + room, cap = l->cap == 0 ? 4096 : l->cap;
    uint8_t *grown;
    if (need <= l->cap) return true;
    while (cap < need)
        cap *= 2;
    grown = realloc(l->data, cap);
    if (grown == NULL) return false;
    l->data = grown;
    l->cap = cap;
    return true;
}

/* Adds a record's line; false: no room, or no memory. */
static bool add_line(lines *l, const velum_kv_record *record) {
    size_t room = velum_kv_text_room(record);
    int n;
    if (room > LINES_BYTES_MAX - l->size) room = LINES_BYTES_MAX - l->size;
    if (!grow(l, room)) return false;
    n = velum_kv_text_put(record, (char *)l->data + HEAD_BYTES + l->size, room);
    if (n < 0) return false;
    l->size += (size_t)n;
    l->records++;
    return true;
}

/* Completes the frame; its whole length, or 0: no memory. */
static size_t end_lines(velum_kv_peers *peers, lines *l, uint64_t correlation) {
    velum_kv_records records = {velum_kv_state_now(peers->state), NULL, (uint32_t)l->size};
    int n;
    if (!grow(l, 0)) return 0;
    records.lines = l->data + HEAD_BYTES;
    n = velum_wire_put_kv_records(l->data, l->cap, correlation, &records);
    return n < 0 ? 0 : (size_t)n;
}

static void clear_lines(lines *l) {
    l->size = 0;
    l->records = 0;
    if (l->cap <= KEEP_BYTES) return;
    free(l->data);
    l->data = NULL;
    l->cap = 0;
}

/* ---- opening, joining ---- */

int velum_kv_peers_open(velum_kv_peers **out, velum_hub *hub, velum_kv_state *state) {
    velum_kv_peers *peers = calloc(1, sizeof *peers);
    *out = peers;
    if (peers == NULL) return VELUM_E_NOMEM;
    peers->hub = hub;
    peers->state = state;
    peers->last = &peers->transfers;
    return 0;
}

static void remove_transfer(velum_kv_peers *peers, transfer **place) {
    transfer *t = *place;
    *place = t->next;
    if (t->next == NULL) peers->last = place;
    peers->figures.transfers--;
    free(t);
}

static void remove_peer(velum_kv_peers *peers, peer **place) {
    peer *p = *place;
    *place = p->next;
    if (p->id != 0) peers->figures.peers--;
    free(p);
}

void velum_kv_peers_close(velum_kv_peers *peers) {
    if (peers == NULL) return;
    while (peers->transfers != NULL)
        remove_transfer(peers, &peers->transfers);
    while (peers->first != NULL)
        remove_peer(peers, &peers->first);
    free(peers->news.data);
    free(peers->piece.data);
    free(peers->memory);
    free(peers);
}

static peer **peer_of_id(velum_kv_peers *peers, uint16_t id) {
    peer **place = &peers->first;
    while (*place != NULL && (*place)->id != id)
        place = &(*place)->next;
    return place;
}

static peer **peer_of_link(velum_kv_peers *peers, velum_handle link) {
    peer **place = &peers->first;
    while (*place != NULL && (*place)->link != link)
        place = &(*place)->next;
    return place;
}

static bool is_joined(velum_kv_peers *peers, velum_handle link) {
    const peer *p = *peer_of_link(peers, link);
    return p != NULL && p->id != 0;
}

/* What is noted of a link, or NULL: no memory. */
static peer *note_link(velum_kv_peers *peers, velum_handle link) {
    peer *p = *peer_of_link(peers, link);
    if (p != NULL) return p;
    p = calloc(1, sizeof *p);
    if (p == NULL) return NULL;
    p->link = link;
    p->next = peers->first;
    peers->first = p;
    return p;
}

int velum_kv_peers_join(velum_kv_peers *peers, velum_handle link, uint16_t id) {
    peer *p = note_link(peers, link), **same = peer_of_id(peers, id);
    if (p == NULL) return VELUM_E_NOMEM;
    if (p->id != 0) return 0;
    if (*same != NULL) remove_peer(peers, same);
    p->id = id;
    /* What waits is not all there if nobody was there to hear of it. */
    if (peers->figures.peers == 0) peers->pushed = peers->sequence;
    p->floor = p->asked = peers->pushed;
    peers->figures.peers++;
    return 0;
}

void velum_kv_peers_ended(velum_kv_peers *peers, velum_handle link) {
    peer **place = peer_of_link(peers, link);
    if (*place != NULL) remove_peer(peers, place);
    for (transfer **t = &peers->transfers; *t != NULL;) {
        if ((*t)->link == link) {
            remove_transfer(peers, t);
        } else {
            t = &(*t)->next;
        }
    }
}

/* ---- what is written here ---- */

void velum_kv_peers_wrote(velum_kv_peers *peers, const velum_kv_record *record) {
    peers->sequence++;
    if (peers->figures.peers > 0 && !add_line(&peers->news, record)) peers->news_lost = true;
}

static void note_gap(peer *p, uint64_t from, uint64_t to) {
    if (p->gap_count == GAPS_MAX) {
        size_t oldest = 0;
        for (size_t i = 1; i < GAPS_MAX; i++)
            if (p->gaps[i].to < p->gaps[oldest].to) oldest = i;
        if (p->gaps[oldest].to > p->floor) p->floor = p->gaps[oldest].to;
        p->gaps[oldest] = p->gaps[--p->gap_count];
    }
    p->gaps[p->gap_count++] = (gap){from, to};
}

static void note_ask(peer *p, uint64_t to) {
    p->asks[(p->ask_at + p->ask_count++) % ASKS_MAX] = (gap){p->asked, to};
    p->asked = to;
}

/* Sends the news to one peer (a frame of n bytes; 0: there is none); without any only the question
 * whether it has heard, if there is one. */
static void push_to(velum_kv_peers *peers, peer *p, size_t n) {
    bool ask = peers->wanted > p->asked && p->ask_count < ASKS_MAX;
    bool news = peers->sequence > peers->pushed, sent = false;
    if (n > 0 && (ask || news)) {
        velum_wire_put_header(peers->news.data, VELUM_F_KV_RECORDS,
                              (uint32_t)(n - VELUM_HEADER_BYTES), ask ? peers->sequence : 0);
        sent = velum_hub_send(peers->hub, p->link, peers->news.data, n) == 0;
    }
    if (sent) peers->figures.records_out += peers->news.records;
    if (sent && ask) note_ask(p, peers->sequence);
    if (news && (!sent || peers->news_lost)) {
        peers->figures.missed++;
        p->missed = true;
        note_gap(p, peers->pushed, peers->sequence);
    }
}

void velum_kv_peers_push(velum_kv_peers *peers) {
    bool news = peers->sequence > peers->pushed;
    if (peers->figures.peers > 0 && (news || peers->wanted > 0)) {
        size_t n = end_lines(peers, &peers->news, 0);
        bool asked = true;
        for (peer *p = peers->first; p != NULL; p = p->next) {
            if (p->id == 0) continue;
            push_to(peers, p, n);
            asked = asked && p->asked >= peers->wanted;
        }
        if (asked) peers->wanted = 0;
    }
    peers->pushed = peers->sequence;
    peers->news_lost = false;
    clear_lines(&peers->news);
}

uint64_t velum_kv_peers_sequence(const velum_kv_peers *peers) {
    return peers->sequence;
}

void velum_kv_peers_ask(velum_kv_peers *peers, uint64_t sequence) {
    if (sequence > peers->sequence) sequence = peers->sequence;
    if (sequence > peers->wanted) peers->wanted = sequence;
}

void velum_kv_peers_offer(velum_kv_peers *peers, uint16_t id) {
    peer *p = *peer_of_id(peers, id);
    if (p != NULL) p->offered = peers->sequence;
}

void velum_kv_peers_credit(velum_kv_peers *peers, uint16_t id) {
    peer *p = *peer_of_id(peers, id);
    if (p != NULL) p->pulled = p->offered;
}

static bool has_heard(const peer *p, uint64_t sequence) {
    if (sequence <= p->pulled) return true;
    if (sequence <= p->floor || sequence > p->heard) return false;
    for (size_t i = 0; i < p->gap_count; i++)
        if (sequence > p->gaps[i].from && sequence <= p->gaps[i].to) return false;
    return true;
}

size_t velum_kv_peers_heard(const velum_kv_peers *peers, uint64_t sequence) {
    size_t count = 0;
    for (const peer *p = peers->first; p != NULL; p = p->next)
        count += has_heard(p, sequence);
    return count;
}

bool velum_kv_peers_missed(velum_kv_peers *peers, uint16_t *id) {
    for (peer *p = peers->first; p != NULL; p = p->next) {
        if (!p->missed) continue;
        p->missed = false;
        *id = p->id;
        return true;
    }
    return false;
}

void velum_kv_peers_tell(velum_kv_peers *peers, const void *frame, size_t n) {
    for (peer *p = peers->first; p != NULL; p = p->next)
        if (p->id != 0) (void)velum_hub_send(peers->hub, p->link, frame, n);
}

/* ---- what comes ---- */

/* A time by the sender's clock, by ours. */
static uint64_t by_our_clock(uint64_t until, uint64_t theirs, uint64_t ours) {
    if (until == 0) return 0;
    if (ours >= theirs) {
        uint64_t later = ours - theirs;
        return until <= UINT64_MAX - later ? until + later : UINT64_MAX;
    }
    return until > theirs - ours ? until - (theirs - ours) : 1;
}

/* Merges what the lines say; false if one was passed over. PAYLOAD: one is none. */
static int hear(velum_kv_peers *peers, const velum_kv_records *m, bool *all) {
    uint64_t now = velum_kv_state_now(peers->state);
    size_t at = 0;
    *all = true;
    while (at < m->size) {
        velum_kv_record record;
        velum_kv_line what;
        size_t n = velum_kv_text_get((const char *)m->lines + at, m->size - at, peers->memory,
                                     &what, &record);
        if (n == 0 || what != VELUM_KV_LINE_RECORD) return VELUM_E_PAYLOAD;
        at += n;
        record.until_ms = by_our_clock(record.until_ms, m->unix_ms, now);
        int r = velum_kv_state_hear(peers->state, &record);
        peers->figures.records_in++;
        if (r == VELUM_E_ARGUMENT) return VELUM_E_PAYLOAD;
        if (r == VELUM_E_VERSION_AHEAD) peers->figures.ahead++;
        if (r < 0 && r != VELUM_E_VERSION_AHEAD) peers->figures.refused++;
        *all = *all && r >= 0;
    }
    return 0;
}

/* Room to unescape the lines of a frame. */
static bool has_memory(velum_kv_peers *peers, size_t size) {
    if (peers->memory_size > KEEP_BYTES || peers->memory_size < size) {
        free(peers->memory);
        peers->memory_size = size < PIECE_BYTES ? PIECE_BYTES : size;
        peers->memory = malloc(peers->memory_size);
        if (peers->memory == NULL) peers->memory_size = 0;
    }
    return peers->memory != NULL;
}

/* Whether all is here that has come on this link since it was asked last: 1 or 0; NOMEM. */
static int may_confirm(velum_kv_peers *peers, velum_handle link, uint64_t correlation, bool all) {
    peer *p = all ? *peer_of_link(peers, link) : note_link(peers, link);
    if (p == NULL) return all ? correlation != 0 : VELUM_E_NOMEM;
    if (!all) p->refused = true;
    if (correlation == 0) return 0;
    all = !p->refused;
    p->refused = false;
    return all;
}

static int take_records(velum_kv_peers *peers, velum_handle link, const velum_frame *frame) {
    uint64_t correlation = frame->header.correlation;
    velum_kv_records m;
    uint8_t *room = NULL;
    bool all;
    int n = velum_wire_get_kv_records(frame->payload, frame->header.length, &m);
    if (n < 0) return n;
    if (!is_joined(peers, link)) { /* a copy that was forgotten, say: nothing of it comes in */
        peers->figures.unjoined++;
        n = may_confirm(peers, link, correlation, false);
        return n < 0 ? n : 0;
    }
    if (!has_memory(peers, m.size)) return VELUM_E_NOMEM;
    if (correlation != 0) {
        room = velum_hub_reserve_answer(peers->hub, link, VELUM_HEADER_BYTES);
        if (room == NULL) return VELUM_E_FULL;
        velum_hub_commit(peers->hub, link, 0);
    }
    uint64_t recalled = velum_kv_get_figures(velum_kv_state_keys(peers->state)).recalled;
    n = hear(peers, &m, &all);
    if (velum_kv_get_figures(velum_kv_state_keys(peers->state)).recalled > recalled)
        (*peer_of_link(peers, link))->missed = true;
    if (n < 0) return n;
    n = may_confirm(peers, link, correlation, all);
    if (n <= 0) return n;
    room = velum_hub_reserve_answer(peers->hub, link, VELUM_HEADER_BYTES);
    if (room == NULL) return VELUM_E_NOMEM; /* there was room before */
    velum_wire_put_header(room, VELUM_F_KV_HEARD, 0, correlation);
    velum_hub_commit(peers->hub, link, VELUM_HEADER_BYTES);
    return 0;
}

static int take_heard(velum_kv_peers *peers, velum_handle link, const velum_frame *frame) {
    peer *p = *peer_of_link(peers, link);
    uint64_t number = frame->header.correlation;
    if (p == NULL || number > p->asked) return 0;
    while (p->ask_count > 0 && p->asks[p->ask_at].to <= number) {
        gap ask = p->asks[p->ask_at];
        p->ask_at = (p->ask_at + 1) % ASKS_MAX;
        p->ask_count--;
        if (ask.to < number) { /* it has passed something over */
            note_gap(p, ask.from, ask.to);
        } else {
            p->heard = number;
        }
    }
    return 0;
}

static int answer_ask(velum_kv_peers *peers, velum_handle link, const velum_frame *frame) {
    const velum_kv *kv = velum_kv_state_keys(peers->state);
    velum_kv_nodes m, answer;
    uint8_t *room, *items;
    size_t size;
    int n = velum_wire_get_kv_ask(frame->payload, frame->header.length, &m);
    if (n < 0) return n;
    size = VELUM_HEADER_BYTES + 3u + (size_t)m.count * VELUM_KV_SUM_BYTES;
    room = velum_hub_reserve_answer(peers->hub, link, size);
    if (room == NULL) return VELUM_E_FULL;
    items = room + VELUM_HEADER_BYTES + 3u;
    for (size_t i = 0; i < m.count; i++) {
        uint32_t index = velum_wire_kv_index(m.items, i);
        uint64_t sums[VELUM_KV_FANOUT];
        (void)velum_kv_sums(kv, m.level, index, sums); /* it is one: the codec has looked */
        velum_wire_put_kv_sum(items, i, index, sums);
    }
    answer = (velum_kv_nodes){m.level, m.count, items};
    n = velum_wire_put_kv_sums(room, size, frame->header.correlation, &answer);
    velum_hub_commit(peers->hub, link, n > 0 ? (size_t)n : 0);
    return n > 0 ? 0 : n;
}

/* ---- leaves ---- */

static int take_leaves(velum_kv_peers *peers, velum_handle link, const velum_frame *frame) {
    const uint8_t *leaves;
    size_t count, waiting = 0;
    transfer *t;
    int n = velum_wire_get_kv_leaves(frame->payload, frame->header.length, &leaves, &count);
    if (n < 0) return n;
    for (t = peers->transfers; t != NULL; t = t->next)
        waiting += t->link == link;
    if (waiting >= VELUM_KV_TRANSFERS_MAX) return VELUM_E_UNEXPECTED;
    t = calloc(1, sizeof *t + count * 4u);
    if (t == NULL) return VELUM_E_NOMEM;
    t->link = link;
    t->correlation = frame->header.correlation;
    t->count = (uint16_t)count;
    t->at.end.whole = true;
    memcpy(t->leaves, leaves, count * 4u);
    *peers->last = t;
    peers->last = &t->next;
    peers->figures.transfers++;
    return 0;
}

typedef struct {
    lines *piece;
    size_t skip, passed; /* records of the leaf that were sent before; and by now */
    bool stopped;
} collector;

static void collect(void *owner, const velum_kv_record *record) {
    collector *c = owner;
    if (c->stopped) return;
    if (c->skip > 0) {
        c->skip--;
        return;
    }
    c->stopped = c->piece->size >= PIECE_BYTES || !add_line(c->piece, record);
    if (!c->stopped) c->passed++;
}

static uint64_t sum_of(const velum_kv *kv, uint32_t leaf) {
    uint64_t sums[VELUM_KV_FANOUT];
    (void)velum_kv_sums(kv, VELUM_KV_LEVELS - 1u, leaf / VELUM_KV_FANOUT, sums);
    return sums[leaf % VELUM_KV_FANOUT];
}

/* Adds what is left of a leaf to the piece, as far as it goes. */
static void add_leaf(velum_kv_peers *peers, progress *at, uint32_t leaf) {
    const velum_kv *kv = velum_kv_state_keys(peers->state);
    uint64_t sum = sum_of(kv, leaf);
    if (at->passed > 0 && sum != at->sum) {
        if (at->restarts == RESTARTS_MAX) {
            at->end.whole = false;
        } else {
            at->restarts++;
            at->passed = 0;
        }
    }
    at->sum = sum;
    collector c = {.piece = &peers->piece, .skip = at->passed};
    (void)velum_kv_leaf(kv, leaf, collect, &c);
    at->passed += c.passed;
    at->end.records += (uint32_t)c.passed;
    if (c.stopped) return;
    at->leaf++;
    at->passed = 0;
    at->restarts = 0;
}

/* Queues one piece, or the end. False: no room, or no memory. */
static bool send_piece(velum_kv_peers *peers, transfer *t) {
    progress at = t->at;
    lines *piece = &peers->piece;
    size_t n;
    if (at.leaf == t->count) {
        uint8_t frame[VELUM_HEADER_BYTES + 5u];
        int size = velum_wire_put_kv_end(frame, sizeof frame, t->correlation, &at.end);
        return size > 0 && velum_hub_send(peers->hub, t->link, frame, (size_t)size) == 0;
    }
    while (at.leaf < t->count && piece->size < PIECE_BYTES) {
        size_t before = at.leaf;
        add_leaf(peers, &at, velum_wire_kv_index(t->leaves, at.leaf));
        if (at.leaf == before) break;
    }
    n = piece->size == 0 ? 0 : end_lines(peers, piece, 0);
    bool stuck = n == 0 && at.leaf < t->count; /* no memory for a single line */
    bool sent = !stuck && (n == 0 || velum_hub_send(peers->hub, t->link, piece->data, n) == 0);
    if (sent) {
        t->at = at;
        peers->figures.records_out += piece->records;
    }
    clear_lines(piece);
    return sent;
}

bool velum_kv_peers_send(velum_kv_peers *peers) {
    bool any = false;
    for (transfer **place = &peers->transfers; *place != NULL;) {
        transfer *t = *place;
        bool ended = false, sent = true;
        while (sent && !ended && velum_hub_unsent(peers->hub, t->link) < QUEUE_BYTES) {
            ended = t->at.leaf == t->count;
            sent = send_piece(peers, t);
            any = any || sent;
        }
        if (ended && sent) {
            remove_transfer(peers, place);
        } else {
            place = &t->next;
        }
    }
    return any;
}

/* ---- the rest ---- */

int velum_kv_peers_frame(velum_kv_peers *peers, velum_handle link, const velum_frame *frame) {
    switch (frame->header.type) {
    case VELUM_F_KV_RECORDS:
        return take_records(peers, link, frame);
    case VELUM_F_KV_HEARD:
        return take_heard(peers, link, frame);
    case VELUM_F_KV_ASK:
        return answer_ask(peers, link, frame);
    case VELUM_F_KV_LEAVES:
        return take_leaves(peers, link, frame);
    default:
        return VELUM_E_UNEXPECTED;
    }
}

velum_kv_peers_figures velum_kv_peers_get_figures(const velum_kv_peers *peers) {
    return peers->figures;
}
