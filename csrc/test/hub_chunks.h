/* hub_chunks.h: what the tests of chunks on a hub's links share: a hub that stores, and raw peers
 * that say HOLD's and WANT's part of the protocol.
 */
#ifndef VELUM_TEST_HUB_CHUNKS_H
#define VELUM_TEST_HUB_CHUNKS_H

#include "hub_world.h"

#define PART   VELUM_CHUNK_PART_BYTES
#define BUDGET (64u * 1024u * 1024u)

static velum_chunks *store;

static inline velum_hub *open_storing(void) {
    velum_hub *hub = open_world(16);
    CHECK_EQ(velum_chunks_open(&store, BUDGET), 0);
    velum_hub_set_store(hub, store, NULL);
    return hub;
}

static inline void close_storing(velum_hub *hub) {
    velum_hub_close(hub);
    CHECK_EQ(velum_chunks_get_figures(store).arriving, 0);
    velum_chunks_close(store);
    end_world();
}

/* Bytes that follow from a seed, and their key. Freed by the caller. */
static inline uint8_t *make_chunk(size_t n, uint32_t seed, uint8_t key[VELUM_KEY_BYTES]) {
    uint8_t *bytes = malloc(n);
    uint32_t x = seed * 2654435761u + 12345u;
    for (size_t i = 0; bytes != NULL && i < n; i++) {
        x = x * 1664525u + 1013904223u;
        bytes[i] = (uint8_t)(x >> 24);
    }
    velum_chunk_key(bytes, n, key);
    return bytes;
}

static inline void raw_want(velum_fd fd, uint64_t correlation, const uint8_t *key) {
    uint8_t buf[64];
    int n = velum_wire_put_want(buf, sizeof buf, correlation, key);
    CHECK(n > 0);
    raw_send(fd, buf, (size_t)n);
}

/* Lets the hub read all there is; it says nothing of it. */
static inline void settle(velum_hub *hub) {
    for (int rounds = 0; rounds < 40; rounds++)
        CHECK_EQ(poll_for(hub, 0), 0);
}

/* Bytes to a hub that reads them, but perhaps the last; what it says of the others must be nothing.
 */
static inline void raw_bytes(velum_hub *hub, velum_fd fd, const uint8_t *bytes, size_t n) {
    for (int rounds = 0; n > 0 && rounds < 10000; rounds++) {
        int sent = velum_port_send(fd, bytes, n);
        if (sent == VELUM_E_AGAIN) {
            CHECK_EQ(poll_for(hub, 0), 0);
        } else {
            CHECK(sent > 0);
            bytes += sent > 0 ? sent : 0;
            n -= sent > 0 ? (size_t)sent : 0;
        }
    }
    CHECK_EQ(n, 0);
}

/* Header and head of the part at `offset`. */
static inline void raw_part_head(velum_hub *hub, velum_fd fd, uint64_t correlation,
                                 const uint8_t *key, size_t total, size_t offset) {
    uint8_t head[VELUM_HEADER_BYTES + VELUM_CHUNK_HEAD_BYTES];
    velum_chunk_part part = {.total = (uint32_t)total, .offset = (uint32_t)offset};
    memcpy(part.key, key, VELUM_KEY_BYTES);
    part.size = (uint32_t)(total - offset < PART ? total - offset : PART);
    CHECK_EQ(velum_wire_put_chunk_head(head, sizeof head, correlation, &part), (int)sizeof head);
    raw_bytes(hub, fd, head, sizeof head);
}

/* The whole part at `offset`. */
static inline void raw_part(velum_hub *hub, velum_fd fd, uint64_t correlation, const uint8_t *key,
                            const uint8_t *bytes, size_t total, size_t offset) {
    raw_part_head(hub, fd, correlation, key, total, offset);
    raw_bytes(hub, fd, bytes + offset, total - offset < PART ? total - offset : PART);
}

/* A link's PING is answered: it is as it should be. */
static inline void expect_alive(velum_hub *hub, velum_fd fd) {
    uint8_t payload[2048];
    settle(hub);
    raw_empty(fd, VELUM_F_PING, 4711);
    settle(hub);
    CHECK(raw_expect(fd, VELUM_F_PONG, payload).correlation == 4711);
}

static inline void is_chunk_event(const velum_event *e, velum_handle link, velum_chunk_event what,
                                  uint64_t correlation, const uint8_t *key, int error) {
    CHECK_EQ(e->kind, VELUM_EV_CHUNK);
    if (e->kind != VELUM_EV_CHUNK) return;
    CHECK_EQ(e->link, link);
    CHECK_EQ(e->u.chunk.what, what);
    CHECK(e->u.chunk.correlation == correlation);
    CHECK_EQ(e->u.chunk.error, error);
    CHECK(memcmp(e->u.chunk.key, key, VELUM_KEY_BYTES) == 0);
}

/* Polls until something happens. */
static inline void poll_until(velum_hub *hub) {
    for (int rounds = 0; rounds < 1000 && poll_for(hub, 0) == 0; rounds++) {
    }
}

/* Expects one CHUNK event, and nothing else. */
static inline void expect_chunk(velum_hub *hub, velum_handle link, velum_chunk_event what,
                                uint64_t correlation, const uint8_t *key, int error) {
    poll_until(hub);
    CHECK_EQ(event_count, 1);
    if (event_count == 1) is_chunk_event(&events[0], link, what, correlation, key, error);
}

static inline void raw_expect_missing(velum_fd fd, uint64_t correlation) {
    uint8_t payload[2048] = {0};
    velum_header header = raw_expect(fd, VELUM_F_ERROR, payload);
    velum_error e = {0};
    CHECK(header.correlation == correlation);
    CHECK(velum_wire_get_error(payload, header.length, &e) > 0);
    CHECK_EQ(e.code, -VELUM_E_CHUNK_MISSING);
}

/* The next frame's header, taken while the hub works. Events are lost. */
static inline velum_header pump_header(velum_hub *hub, velum_fd fd) {
    uint8_t head[VELUM_HEADER_BYTES] = {0};
    velum_header header = {0, 0, 0};
    pump(hub, fd, head, sizeof head);
    CHECK_EQ(velum_wire_header(head, sizeof head, &header), VELUM_HEADER_BYTES);
    return header;
}

/* Takes the rest of a CHUNK part and compares it; the offset behind it. */
static inline size_t pump_part(velum_hub *hub, velum_fd fd, const velum_header *header,
                               const uint8_t *key, const uint8_t *bytes, size_t total,
                               size_t offset) {
    static uint8_t got[PART];
    uint8_t head[VELUM_CHUNK_HEAD_BYTES];
    velum_chunk_part part = {.size = 0};
    CHECK_EQ(header->type, VELUM_F_CHUNK);
    pump(hub, fd, head, sizeof head);
    CHECK_EQ(velum_wire_get_chunk_head(head, sizeof head, header->length, &part),
             VELUM_CHUNK_HEAD_BYTES);
    CHECK(memcmp(part.key, key, VELUM_KEY_BYTES) == 0);
    CHECK_EQ(part.total, total);
    CHECK_EQ(part.offset, offset);
    if (part.total != total || part.offset != offset) return total;
    pump(hub, fd, got, part.size);
    CHECK(memcmp(got, bytes + offset, part.size) == 0);
    return offset + part.size;
}

/* Takes a whole chunk, nothing in between. */
static inline void pump_chunk(velum_hub *hub, velum_fd fd, uint64_t correlation, const uint8_t *key,
                              const uint8_t *bytes, size_t total) {
    for (size_t offset = 0; offset < total;) {
        velum_header header = pump_header(hub, fd);
        CHECK(header.correlation == correlation);
        offset = pump_part(hub, fd, &header, key, bytes, total, offset);
    }
}

#endif
