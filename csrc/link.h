/* link.h: a stream of frames over one socket.
 *
 * Owns: partial reads and writes, framing, the bounded queue of what is not sent yet, and where a
 * bulk payload goes. Refuses to know: what frames mean, handshakes, deadlines, who the peer is.
 * How: one receive buffer of VELUM_READ_BYTES; frames are handed out in place. A frame that does
 * not fit gets memory of its own, and the bytes of a MODULE or a CHUNK part go straight into memory
 * that the owner names.
 * Nothing here calls the loop: the hub watches the socket and calls read and flush.
 */
#ifndef VELUM_LINK_H
#define VELUM_LINK_H

#include "velum_port.h"
#include "wire_store.h"

typedef struct velum_link velum_link;

typedef struct {
    velum_header header;
    const uint8_t *payload; /* header.length bytes; NULL for a part */
    union {
        velum_module_part module; /* MODULE */
        velum_chunk_part chunk;   /* CHUNK */
    } part;                       /* its bytes are where the sink said */
    uint8_t *bulk;                /* of a part: what the sink returned, NULL once forgotten */
} velum_frame;

/* Where the bytes of an arriving part go: `frame` is without them. Returns memory for so many that
 * stays valid until `velum_link_next` has returned that frame, velum_link_forget_bulk is called, or
 * the link is closed; or NULL to have the bytes read and dropped. */
typedef uint8_t *(*velum_link_sink)(void *owner, velum_link *link, const velum_frame *frame);

/* Takes over an open non-blocking socket. `sink` may be NULL: bytes of parts are dropped. NOMEM:
 * the socket is still the caller's. */
int velum_link_open(velum_link **out, velum_fd fd, velum_link_sink sink, void *owner);
/* Closes the socket; releases queued references (each release is called). NULL is nothing. */
void velum_link_close(velum_link *link);
velum_fd velum_link_fd(const velum_link *link);

/* Until HELLO is accepted, payloads over VELUM_HELLO_BYTES_MAX are FRAME_LENGTH. Default true. */
void velum_link_set_stranger(velum_link *link, bool stranger);

/* Reads once from the socket. Frames handed out before become invalid. Returns bytes read (> 0),
 * AGAIN, CLOSED, SYSTEM or NOMEM; the error of velum_link_next once that has failed. Must not be
 * called while velum_link_next would still return frames. */
int velum_link_read(velum_link *link);
/* Whether the last read asked for less than there may be, and has not been told so: after a part
 * only the head of the next is read, for its bytes go elsewhere. Who has no frame then reads again.
 */
bool velum_link_cut_short(velum_link *link);
/* The next complete frame: 1, 0 (none yet), or an error of the wire, after which the link is
 * broken. The frame's pointers are valid until the next read or close. */
int velum_link_next(velum_link *link, velum_frame *out);

/* The part whose bytes are on their way into memory that the sink named, or NULL. */
const velum_frame *velum_link_landing(const velum_link *link);
/* Drops what is still to come of it: that memory is not touched any more. */
void velum_link_forget_bulk(velum_link *link);

/* Queues a whole frame (copied). FULL when it does not fit the queue's limit, NOMEM: the frame is
 * not taken. An empty queue takes a frame of any size. */
int velum_link_send(velum_link *link, const void *frame, size_t n);
/* Queues head (copied), then `n` bytes at `data`, sent from where they are; `release(token)` is
 * called once they are sent, or when the link closes; it may send on the link, but not close it.
 * FULL, NOMEM: nothing taken, release not called. */
int velum_link_send_ref(velum_link *link, const void *head, size_t head_n, const void *data,
                        size_t n, void (*release)(void *token), void *token);
/* Room to encode a frame of up to n bytes in place at the queue's end, or NULL when FULL (or out of
 * memory); then commit what was written (0 <= used <= n). */
uint8_t *velum_link_reserve(velum_link *link, size_t n);
void velum_link_commit(velum_link *link, size_t used);

/* Writes as much as the socket takes. 0: queue empty; 1: some left, wait for writable; or error. */
int velum_link_flush(velum_link *link);
size_t velum_link_unsent(const velum_link *link); /* bytes, references included */
/* Drops the queue, releasing its references; frames handed out stay valid. For a link whose end is
 * certain: half a frame may have been sent. */
void velum_link_drop_unsent(velum_link *link);

#endif
