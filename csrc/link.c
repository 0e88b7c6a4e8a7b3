/* link.c: a stream of frames over one socket.
 *
 * Owns: partial reads and writes, framing, the bounded queue of unsent bytes, and the memory for
 * all of these. Refuses to know: what frames mean, handshakes, deadlines, who the peer is.
 *
 * How, receiving: bytes land in one buffer and frames are handed out where they lie. A payload that
 * has to lie elsewhere takes a detour: the bytes of a MODULE or a CHUNK part go to the memory that
 * the sink names, a frame larger than the buffer to an allocation of its own size. What of it is in
 * the buffer already is copied, the rest is received in place.
 *
 * How, sending: copied bytes lie in one contiguous buffer, live between `at` and `end`. A
 * reference remembers its place in that stream as a count of copied bytes, so pieces alternate:
 * copied bytes up to the next reference, the reference, and so on; two pieces go out in one call.
 *
 * Both buffers are small until traffic asks for more, and are given back when it has calmed down.
 */
#include "link.h"

#include "wire_bytes.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* A buffer of a quiet link: room for some dozens of calls. */
#define SMALL_BYTES (VELUM_READ_BYTES < 4096u ? VELUM_READ_BYTES : 4096u)

/* So many uses in a row must have fitted SMALL_BYTES before a larger buffer is given back: bursts
 * with a pause between them keep theirs. */
#define QUIET_USES 8u

/* The same for both kinds of parts. */
#define PART_HEAD_BYTES  VELUM_MODULE_HEAD_BYTES
#define PART_START_BYTES (VELUM_HEADER_BYTES + PART_HEAD_BYTES)
VELUM__STATIC_CHECK(heads, VELUM_CHUNK_HEAD_BYTES == PART_HEAD_BYTES);

#if VELUM_READ_BYTES < 64
#error "VELUM_READ_BYTES must hold the head of a part's frame"
#endif

/* Bytes that are sent from where they lie. */
typedef struct reference {
    struct reference *next;
    uint64_t after; /* goes out when so many copied bytes have */
    const uint8_t *data;
    size_t size;
    size_t sent;
    void (*release)(void *token);
    void *token;
} reference;

/* A payload on its way to memory outside the receive buffer. */
typedef struct {
    bool active;
    velum_frame frame; /* handed out once got == size */
    uint8_t *to;       /* NULL: the bytes are dropped */
    size_t size;
    size_t got;
} detour;

struct velum_link {
    velum_fd fd;
    velum_link_sink sink;
    void *owner;
    bool stranger;
    int broken; /* the error that ended receiving, or 0 */

    /* Receiving: in[in_at..in_end) has arrived and was not handed out. */
    uint8_t *in;
    size_t in_cap;
    size_t in_at;
    size_t in_end;
    size_t in_want; /* the size that the buffer should have from the next read on */
    uint8_t in_quiet;
    detour detour;
    bool cut_short;   /* the last read asked for a part's head alone */
    bool among_parts; /* the last frame was a part, and the next one is likely to be */
    uint8_t *own;     /* memory of the last frame that was larger than the buffer */

    /* Sending: out[out_at..out_end) has been copied and not sent. */
    uint8_t *out;
    size_t out_cap;
    size_t out_at;
    size_t out_end;
    uint8_t out_quiet;
    size_t reserved;       /* room handed out and not committed */
    uint64_t copied_sent;  /* copied bytes sent since the link opened */
    reference *first_ref;  /* in the order of the stream */
    reference **last_next; /* where the next reference is hung */
    size_t ref_unsent;
};

int velum_link_open(velum_link **out, velum_fd fd, velum_link_sink sink, void *owner) {
    velum_link *link = calloc(1, sizeof *link);
    *out = link;
    if (link == NULL) {
        return VELUM_E_NOMEM;
    }
    link->fd = fd;
    link->sink = sink;
    link->owner = owner;
    link->stranger = true;
    link->in_want = SMALL_BYTES;
    link->last_next = &link->first_ref;
    return VELUM_OK;
}

/* Takes the first reference off the queue and tells its owner. The queue is whole again before
 * that, so the owner may send on this link. */
static void drop_reference(velum_link *link) {
    reference *ref = link->first_ref;
    link->first_ref = ref->next;
    if (ref->next == NULL) {
        link->last_next = &link->first_ref;
    }
    link->ref_unsent -= ref->size - ref->sent;
    void (*release)(void *) = ref->release;
    void *token = ref->token;
    free(ref);
    release(token);
}

void velum_link_drop_unsent(velum_link *link) {
    link->out_at = link->out_end;
    while (link->first_ref != NULL) {
        drop_reference(link);
    }
}

void velum_link_close(velum_link *link) {
    if (link == NULL) {
        return;
    }
    velum_port_close(link->fd);
    velum_link_drop_unsent(link);
    free(link->in);
    free(link->own);
    free(link->out);
    free(link);
}

velum_fd velum_link_fd(const velum_link *link) {
    return link->fd;
}

void velum_link_set_stranger(velum_link *link, bool stranger) {
    link->stranger = stranger;
}

/* Notes one use of a buffer; true if the buffer has been larger than needed for long enough. */
static bool outgrown(uint8_t *quiet, size_t cap, size_t used) {
    if (cap <= SMALL_BYTES || used > SMALL_BYTES) {
        *quiet = 0;
        return false;
    }
    return ++*quiet >= QUIET_USES;
}

/* ---- receiving ---- */

/* Moves what is left to the buffer's front, into a buffer of the wanted size. */
static int make_room_in(velum_link *link) {
    size_t left = link->in_end - link->in_at;
    if (link->in_cap == link->in_want || left > link->in_want) {
        if (link->in_at > 0) {
            memmove(link->in, link->in + link->in_at, left);
        }
    } else {
        uint8_t *fresh = malloc(link->in_want);
        if (fresh == NULL) {
            return VELUM_E_NOMEM;
        }
        if (left > 0) {
            memcpy(fresh, link->in + link->in_at, left);
        }
        free(link->in);
        link->in = fresh;
        link->in_cap = link->in_want;
        link->in_quiet = 0;
    }
    link->in_at = 0;
    link->in_end = left;
    return left < link->in_cap ? VELUM_OK : VELUM_E_ARGUMENT;
}

static bool is_part(uint8_t type) {
    return type == VELUM_F_MODULE || type == VELUM_F_CHUNK;
}

/* Receives into the buffer, and learns from the amount which size suits. */
static int read_in(velum_link *link) {
    int r = make_room_in(link);
    if (r < 0) {
        return r;
    }
    size_t room = link->in_cap - link->in_end;
    if (link->among_parts && !link->detour.active && link->in_end == 0 && room > PART_START_BYTES) {
        /* What is read beyond a part's head would have to be copied to where the part goes. */
        r = velum_port_recv(link->fd, link->in, PART_START_BYTES);
        if (r > 0) {
            link->in_end += (size_t)r;
            link->cut_short = true;
        }
        return r;
    }
    r = velum_port_recv(link->fd, link->in + link->in_end, room);
    if (r > 0) {
        size_t got = (size_t)r;
        link->in_end += got;
        if (got == room) {
            link->in_want = VELUM_READ_BYTES;
        }
        if (outgrown(&link->in_quiet, link->in_cap, got)) {
            link->in_want = SMALL_BYTES;
        }
    }
    return r;
}

int velum_link_read(velum_link *link) {
    if (link->broken != 0) {
        return link->broken;
    }
    detour *d = &link->detour;
    if (!d->active) {
        free(link->own);
        link->own = NULL;
    }
    if (!d->active || d->to == NULL) {
        return read_in(link);
    }
    if (d->got == d->size) {
        return VELUM_E_ARGUMENT; /* velum_link_next has a frame to hand out */
    }
    int r = velum_port_recv(link->fd, d->to + d->got, d->size - d->got);
    if (r > 0) {
        d->got += (size_t)r;
    }
    return r;
}

/* As velum_wire_get_module_head, of either kind of part. */
static int get_part_head(const uint8_t *head, size_t have, velum_frame *frame) {
    uint32_t length = frame->header.length;
    if (frame->header.type == VELUM_F_MODULE) {
        return velum_wire_get_module_head(head, have, length, &frame->part.module);
    }
    return velum_wire_get_chunk_head(head, have, length, &frame->part.chunk);
}

/* Sends a part's bytes to where the sink says. 1: under way, 0: need more, or an error. */
static int detour_part(velum_link *link, const velum_header *header) {
    const uint8_t *head = link->in + link->in_at + VELUM_HEADER_BYTES;
    size_t have = link->in_end - link->in_at - VELUM_HEADER_BYTES;
    detour *d = &link->detour;
    memset(d, 0, sizeof *d);
    d->frame.header = *header;
    int r = get_part_head(head, have, &d->frame);
    if (r <= 0) {
        return r;
    }
    link->in_at += VELUM_HEADER_BYTES + PART_HEAD_BYTES;
    d->size = header->length - PART_HEAD_BYTES;
    d->to = link->sink == NULL ? NULL : link->sink(link->owner, link, &d->frame);
    d->frame.bulk = d->to;
    d->active = true;
    return 1;
}

/* Sends the payload of a frame that does not fit the buffer to memory of its own. */
static int detour_large(velum_link *link, const velum_header *header) {
    link->own = malloc(header->length);
    if (link->own == NULL) {
        return VELUM_E_NOMEM;
    }
    link->in_at += VELUM_HEADER_BYTES;
    link->detour = (detour){.active = true, .to = link->own, .size = header->length};
    link->detour.frame.header = *header;
    link->detour.frame.payload = link->own;
    return 1;
}

/* Looks at the front of the buffer. A frame that lies there whole is handed out; one that must lie
 * elsewhere becomes a detour. 1: either of these, 0: need more, or an error of the wire. */
static int begin_frame(velum_link *link, velum_frame *out) {
    size_t have = link->in_end - link->in_at;
    if (have == 0) {
        return 0;
    }
    velum_header header;
    int r = velum_wire_header(link->in + link->in_at, have, &header);
    if (r <= 0) {
        return r;
    }
    if (velum_wire_is_datagram(header.type)) {
        return VELUM_E_FRAME_TYPE;
    }
    if (link->stranger && header.length > VELUM_HELLO_BYTES_MAX) {
        return VELUM_E_FRAME_LENGTH;
    }
    if (is_part(header.type)) {
        return detour_part(link, &header);
    }
    link->among_parts = false;
    if (header.length > VELUM_READ_BYTES - VELUM_HEADER_BYTES) {
        return detour_large(link, &header);
    }
    size_t size = VELUM_HEADER_BYTES + header.length;
    if (have < size) {
        if (size > link->in_cap) {
            link->in_want = VELUM_READ_BYTES;
        }
        return 0;
    }
    out->header = header;
    out->payload = link->in + link->in_at + VELUM_HEADER_BYTES;
    out->bulk = NULL;
    link->in_at += size;
    return 1;
}

/* Moves buffered bytes along; hands the frame out once all of it is there. */
static int end_detour(velum_link *link, velum_frame *out) {
    detour *d = &link->detour;
    size_t have = link->in_end - link->in_at;
    size_t need = d->size - d->got;
    size_t n = have < need ? have : need;
    if (n > 0 && d->to != NULL) {
        memcpy(d->to + d->got, link->in + link->in_at, n);
    }
    link->in_at += n;
    d->got += n;
    if (d->got < d->size) {
        return 0;
    }
    d->active = false;
    link->among_parts = is_part(d->frame.header.type);
    *out = d->frame;
    return 1;
}

int velum_link_next(velum_link *link, velum_frame *out) {
    if (link->broken != 0) {
        return link->broken;
    }
    if (!link->detour.active) {
        int r = begin_frame(link, out);
        if (r < 0) {
            link->broken = r;
        }
        if (!link->detour.active) {
            return r;
        }
    }
    return end_detour(link, out);
}

bool velum_link_cut_short(velum_link *link) {
    bool cut_short = link->cut_short;
    link->cut_short = false;
    return cut_short;
}

const velum_frame *velum_link_landing(const velum_link *link) {
    const detour *d = &link->detour;
    return d->active && d->frame.bulk != NULL ? &d->frame : NULL;
}

void velum_link_forget_bulk(velum_link *link) {
    detour *d = &link->detour;
    if (velum_link_landing(link) != NULL) {
        d->to = NULL;
        d->frame.bulk = NULL;
    }
}

/* ---- sending ---- */

size_t velum_link_unsent(const velum_link *link) {
    return link->out_end - link->out_at + link->ref_unsent;
}

/* True if `n` more bytes may be queued. An empty queue takes anything: a frame that is larger than
 * the limit must be able to leave. */
static bool has_quota(const velum_link *link, size_t n) {
    size_t unsent = velum_link_unsent(link);
    return unsent == 0 || (unsent < VELUM_SEND_QUEUE_BYTES && n <= VELUM_SEND_QUEUE_BYTES - unsent);
}

/* Makes room for `n` bytes after `out_end`; `out` exists after that, even for none. Bytes are moved
 * at most once for each byte sent or added: to the front when that frees half of the buffer, else
 * to a buffer of twice the need. */
static int make_room_out(velum_link *link, size_t n) {
    if (link->out != NULL && n <= link->out_cap - link->out_end) {
        return VELUM_OK;
    }
    size_t live = link->out_end - link->out_at;
    if (n > SIZE_MAX / 2 - live) {
        return VELUM_E_NOMEM;
    }
    if (link->out != NULL && live <= link->out_at && live + n <= link->out_cap) {
        memmove(link->out, link->out + link->out_at, live);
    } else {
        size_t cap = 2 * (live + n) > SMALL_BYTES ? 2 * (live + n) : SMALL_BYTES;
        uint8_t *fresh = malloc(cap);
        if (fresh == NULL) {
            return VELUM_E_NOMEM;
        }
        if (live > 0) {
            memcpy(fresh, link->out + link->out_at, live);
        }
        free(link->out);
        link->out = fresh;
        link->out_cap = cap;
    }
    link->out_at = 0;
    link->out_end = live;
    return VELUM_OK;
}

static int prepare_send(velum_link *link, size_t charge, size_t copied) {
    return has_quota(link, charge) ? make_room_out(link, copied) : VELUM_E_FULL;
}

static void append(velum_link *link, const void *data, size_t n) {
    if (n > 0) {
        memcpy(link->out + link->out_end, data, n);
        link->out_end += n;
    }
}

int velum_link_send(velum_link *link, const void *frame, size_t n) {
    int r = prepare_send(link, n, n);
    if (r == VELUM_OK) {
        append(link, frame, n);
    }
    return r;
}

uint8_t *velum_link_reserve(velum_link *link, size_t n) {
    if (prepare_send(link, n, n) < 0) {
        return NULL;
    }
    link->reserved = n;
    return link->out + link->out_end;
}

void velum_link_commit(velum_link *link, size_t used) {
    assert(used <= link->reserved);
    link->reserved = 0;
    link->out_end += used;
}

int velum_link_send_ref(velum_link *link, const void *head, size_t head_n, const void *data,
                        size_t n, void (*release)(void *token), void *token) {
    if (n > SIZE_MAX - head_n) {
        return VELUM_E_ARGUMENT;
    }
    if (n == 0) { /* nothing to wait for */
        int sent = velum_link_send(link, head, head_n);
        if (sent == VELUM_OK) {
            release(token);
        }
        return sent;
    }
    reference *ref = malloc(sizeof *ref);
    int r = ref == NULL ? VELUM_E_NOMEM : prepare_send(link, head_n + n, head_n);
    if (r < 0) {
        free(ref);
        return r;
    }
    append(link, head, head_n);
    uint64_t after = link->copied_sent + (link->out_end - link->out_at);
    *ref = (reference){.after = after, .data = data, .size = n, .release = release, .token = token};
    *link->last_next = ref;
    link->last_next = &ref->next;
    link->ref_unsent += n;
    return VELUM_OK;
}

/* The queue is empty: gives memory back that the traffic does not need. */
static void settle_out(velum_link *link) {
    size_t used = link->out_end;
    if (used == 0) {
        return;
    }
    link->out_at = 0;
    link->out_end = 0;
    if (outgrown(&link->out_quiet, link->out_cap, used) || link->out_cap > VELUM_SEND_KEEP_BYTES) {
        free(link->out);
        link->out = NULL;
        link->out_cap = 0;
        link->out_quiet = 0;
    }
}

/* Copied bytes that go out before the queue's next reference. */
static size_t run_before(const velum_link *link, const reference *ref) {
    return ref == NULL ? link->out_end - link->out_at : (size_t)(ref->after - link->copied_sent);
}

/* Sends once: the copied bytes at the front and the reference after them, or the reference at the
 * front and the copied bytes after it. Returns 1 if the socket took all of that, 0 if it took
 * `*sent` bytes of it and is full, or an error of the port. */
static int send_front(velum_link *link, size_t *sent) {
    const reference *ref = link->first_ref;
    const uint8_t *copied = link->out + link->out_at;
    size_t copied_n = run_before(link, ref);
    size_t ref_n = ref == NULL ? 0 : ref->size - ref->sent;
    int r;
    if (ref == NULL) {
        r = velum_port_send(link->fd, copied, copied_n);
    } else if (copied_n > 0) {
        r = velum_port_send2(link->fd, copied, copied_n, ref->data + ref->sent, ref_n);
    } else {
        copied_n = run_before(link, ref->next);
        r = velum_port_send2(link->fd, ref->data + ref->sent, ref_n, copied, copied_n);
    }
    *sent = r > 0 ? (size_t)r : 0;
    if (r < 0) {
        return r == VELUM_E_AGAIN ? 0 : r;
    }
    return *sent == copied_n + ref_n;
}

/* Takes `n` sent bytes off the queue's front. */
static void take_sent(velum_link *link, size_t n) {
    while (n > 0) {
        reference *ref = link->first_ref;
        size_t run = run_before(link, ref);
        size_t copied = n < run ? n : run;
        link->out_at += copied;
        link->copied_sent += copied;
        n -= copied;
        if (ref == NULL || copied < run) {
            continue;
        }
        size_t rest = ref->size - ref->sent;
        size_t referred = n < rest ? n : rest;
        ref->sent += referred;
        link->ref_unsent -= referred;
        n -= referred;
        if (referred == rest) {
            drop_reference(link);
        }
    }
}

int velum_link_flush(velum_link *link) {
    while (velum_link_unsent(link) > 0) {
        size_t sent;
        int r = send_front(link, &sent);
        take_sent(link, sent);
        if (r <= 0) {
            return r < 0 ? r : 1;
        }
    }
    settle_out(link);
    return 0;
}
