/* kv_mesh.h: nodes with key-value state in the test port's world, linked to each other, and raw
 * peers that say to them whatever a test likes.
 */
#ifndef VELUM_TEST_KV_MESH_H
#define VELUM_TEST_KV_MESH_H

#include "hub_world.h"
#include "kv_node.h"
#include "port/test/file_test.h"
#include "wire_kv.h"

#define MESH_MAX   3u
#define CLOCK_MS   UINT64_C(1760000000000) /* of a node, when the world's is at 0 */
#define ROOM_BYTES ((size_t)64 * 1024 * 1024)

/* A node, and the frames that came for its owner. */
typedef struct {
    uint16_t id;
    velum_hub *hub;
    velum_kv_node *kv;
    velum_addr addr;
    int64_t clock_ms; /* that its clock is ahead */
    velum_handle links[MESH_MAX];
    velum_handle newest; /* of a node that is none of the mesh, too */
    unsigned ends, talks, sums, wakes, closed;
    velum_kv_end end; /* the last one's */
    uint64_t root[VELUM_KV_FANOUT];
    int close_error;
} mesh_node;

static mesh_node mesh[MESH_MAX];
static size_t mesh_count;
static const char *mesh_path; /* NULL: nodes have no log */
static size_t mesh_room = ROOM_BYTES;
static velum_kv_durability mesh_durability = VELUM_KV_LOG;

static uint64_t mesh_clock(void *owner) {
    const mesh_node *n = owner;
    return (uint64_t)((int64_t)CLOCK_MS + velum_port_now_us() / 1000 + n->clock_ms);
}

static inline mesh_node *mesh_add(void) {
    mesh_node *n = &mesh[mesh_count];
    char path[32];
    memset(n, 0, sizeof *n);
    n->id = (uint16_t)++mesh_count;
    n->hub = open_hub(n->id, 16);
    n->addr = (velum_addr){LOCAL_IP, 0};
    CHECK_EQ(velum_hub_listen(n->hub, &n->addr), 0);
    velum_kv_node_config config = {.node = n->id,
                                   .room_bytes = mesh_room,
                                   .durability = mesh_durability,
                                   .owner = n,
                                   .unix_ms = mesh_clock};
    (void)snprintf(path, sizeof path, "%s%u.log", mesh_path == NULL ? "" : mesh_path, n->id);
    CHECK_EQ(velum_kv_node_open(&n->kv, n->hub, &config, mesh_path == NULL ? NULL : path, NULL), 0);
    return n;
}

static inline void mesh_event(mesh_node *n, const velum_event *event) {
    if (event->kind == VELUM_EV_OPENED) {
        const velum_hello *hello = &event->u.opened.hello;
        CHECK_EQ(velum_hub_accept(n->hub, event->link), 0);
        if (hello->role != VELUM_ROLE_NODE) return;
        CHECK_EQ(velum_kv_node_join(n->kv, event->link, hello->id), 0);
        n->newest = event->link;
        if (hello->id > MESH_MAX) return;
        n->links[hello->id - 1u] = event->link;
    } else if (event->kind == VELUM_EV_CLOSED) {
        n->closed++;
        n->close_error = event->u.closed.error;
    } else if (event->kind == VELUM_EV_WAKE) {
        n->wakes++;
    } else if (event->kind == VELUM_EV_FRAME) {
        const velum_frame *frame = &event->u.frame;
        velum_kv_nodes sums;
        if (frame->header.type == VELUM_F_KV_TALK) n->talks++;
        if (frame->header.type == VELUM_F_KV_END) {
            n->ends++;
            CHECK(velum_wire_get_kv_end(frame->payload, frame->header.length, &n->end) > 0);
        }
        if (frame->header.type == VELUM_F_KV_SUMS) {
            n->sums++;
            CHECK(velum_wire_get_kv_sums(frame->payload, frame->header.length, &sums) > 0);
            if (sums.level == 0) (void)velum_wire_kv_sum(sums.items, 0, n->root);
        }
    }
}

static inline void mesh_serve(mesh_node *n, int64_t timeout_us) {
    int count = velum_hub_poll(n->hub, timeout_us, events, EVENTS);
    CHECK(count >= 0);
    for (int i = 0; i < count; i++)
        mesh_event(n, &events[i]);
}

/* Serves all, so many times; no time passes. */
static inline void mesh_turns(unsigned turns) {
    for (; turns > 0; turns--)
        for (size_t i = 0; i < mesh_count; i++)
            if (mesh[i].hub != NULL) mesh_serve(&mesh[i], 0);
}

static inline void mesh_link(mesh_node *from, mesh_node *to) {
    velum_handle link;
    CHECK_EQ(velum_hub_dial(from->hub, &to->addr, 0, &link), 0);
    mesh_turns(5);
    CHECK(from->links[to->id - 1u] != 0 && to->links[from->id - 1u] != 0);
}

static inline void mesh_stop(mesh_node *n) {
    velum_kv_node_close(n->kv);
    velum_hub_close(n->hub);
    n->kv = NULL;
    n->hub = NULL;
}

/* Nodes 1 to count, each linked to each; logs if `path` is not NULL. */
static inline void mesh_open(size_t count, const char *path) {
    velum_test_reset(world_seed);
    velum_test_disk_reset();
    velum_test_set_default_manner(&world_manner);
    mesh_path = path;
    mesh_count = 0;
    for (size_t i = 0; i < count; i++)
        mesh_add();
    for (size_t i = 0; i < count; i++) {
        velum_kv_node_set_members(mesh[i].kv, count);
        for (size_t k = 0; k < i; k++)
            mesh_link(&mesh[i], &mesh[k]);
    }
}

static inline void mesh_close(void) {
    for (size_t i = 0; i < mesh_count; i++)
        if (mesh[i].hub != NULL) mesh_stop(&mesh[i]);
    end_world();
    CHECK_EQ(velum_test_disk_open(), 0);
    mesh_room = ROOM_BYTES;
    mesh_durability = VELUM_KV_LOG;
}

/* ---- requests ---- */

static uint8_t mesh_buf[VELUM_HEADER_BYTES + VELUM_KV_FRAME_BYTES_MAX];

/* Puts an array of bulk strings, of the words of `command`; a word "@N" is N times an x. */
static inline size_t put_request(uint8_t *out, const char *command) {
    size_t words = 1, n;
    for (const char *p = command; *p != '\0'; p++)
        words += *p == ' ';
    n = (size_t)sprintf((char *)out, "*%zu\r\n", words);
    while (words-- > 0) {
        size_t size = strcspn(command, " ");
        size_t many = command[0] == '@' ? (size_t)atoi(command + 1) : 0;
        n += (size_t)sprintf((char *)out + n, "$%zu\r\n", many > 0 ? many : size);
        if (many > 0) {
            memset(out + n, 'x', many);
        } else {
            memcpy(out + n, command, size);
        }
        n += many > 0 ? many : size;
        out[n++] = '\r';
        out[n++] = '\n';
        command += size + (command[size] == ' ');
    }
    return n;
}

static uint8_t reply_bytes[8u * 1024u * 1024u];
static size_t reply_size;

static inline uint8_t *reply_more(void *owner, size_t n) {
    (void)owner;
    return n <= sizeof reply_bytes - reply_size ? reply_bytes + reply_size : NULL;
}

static inline void reply_wrote(void *owner, size_t n) {
    (void)owner;
    reply_size += n;
}

static inline bool reply_is(const char *text) {
    bool is = reply_size == strlen(text) && memcmp(reply_bytes, text, reply_size) == 0;
    if (!is) printf("reply: %.*s\n", (int)(reply_size < 80 ? reply_size : 80), reply_bytes);
    return is;
}

/* Does a command at a node, as this program; the result of velum_kv_node_do. */
static inline int mesh_do_as(mesh_node *n, uint8_t durability, uint64_t token, const char *command,
                             uint8_t *reached) {
    velum_resp_writer out = {.more = reply_more, .wrote = reply_wrote, .version = 3};
    size_t size = put_request(mesh_buf, command);
    reply_size = 0;
    return velum_kv_node_do(n->kv, durability, 0, mesh_buf, size, token, &out, reached);
}

static inline void mesh_do(mesh_node *n, const char *command) {
    uint8_t reached;
    CHECK_EQ(mesh_do_as(n, VELUM_KV_LOG, 0, command, &reached), 1);
}

/* ---- raw peers ---- */

static inline velum_fd mesh_raw(mesh_node *to, uint8_t role, uint16_t id) {
    uint8_t buf[128], payload[2048];
    velum_hello hello = {.role = role, .id = id, .version = {"raw", 3}};
    velum_fd fd = VELUM_NO_FD;
    int n = velum_wire_put_hello(buf, sizeof buf, 0, &hello);
    CHECK_EQ(velum_port_dial(&to->addr, &fd), 0);
    raw_send(fd, buf, (size_t)n);
    mesh_turns(3);
    raw_expect(fd, VELUM_F_HELLO, payload);
    return fd;
}

static inline velum_fd mesh_client(mesh_node *to) {
    return mesh_raw(to, VELUM_ROLE_CLIENT, 0);
}

/* Sends a frame while the world goes on. */
static inline void raw_frame(velum_fd fd, int n) {
    size_t at = 0;
    CHECK(n > 0);
    for (unsigned tries = 0; at < (size_t)n && tries < 10000; tries++) {
        int sent = velum_port_send(fd, mesh_buf + at, (size_t)n - at);
        if (sent > 0) at += (size_t)sent;
        if (sent < 0 && sent != VELUM_E_AGAIN) break;
        if (at < (size_t)n) mesh_turns(1);
    }
    CHECK_EQ(at, n);
}

static inline void raw_do(velum_fd fd, uint64_t correlation, uint8_t durability,
                          uint32_t timeout_ms, const char *command) {
    static uint8_t request[VELUM_RESP_BYTES_MAX];
    velum_kv_do m = {durability, timeout_ms, request, 0};
    m.size = (uint32_t)put_request(request, command);
    raw_frame(fd, velum_wire_put_kv_do(mesh_buf, sizeof mesh_buf, correlation, &m));
}

static inline void raw_records(velum_fd fd, uint64_t correlation, uint64_t unix_ms,
                               const char *lines) {
    velum_kv_records m = {unix_ms, (const uint8_t *)lines, (uint32_t)strlen(lines)};
    raw_frame(fd, velum_wire_put_kv_records(mesh_buf, sizeof mesh_buf, correlation, &m));
}

/* Reads n bytes while the world goes on. */
static inline bool raw_take(velum_fd fd, uint8_t *to, size_t n) {
    for (unsigned tries = 0; n > 0 && tries < 10000; tries++) {
        int got = velum_port_recv(fd, to, n);
        if (got > 0) {
            to += got;
            n -= (size_t)got;
        } else {
            mesh_turns(1);
        }
    }
    return n == 0;
}

/* The next frame, its payload in mesh_buf; type 0 if none has come. */
static inline velum_header raw_next(velum_fd fd) {
    uint8_t head[VELUM_HEADER_BYTES];
    velum_header header = {0, 0, 0};
    mesh_turns(2);
    if (velum_test_pending(fd) == 0) return header;
    CHECK(raw_take(fd, head, sizeof head));
    CHECK_EQ(velum_wire_header(head, sizeof head, &header), VELUM_HEADER_BYTES);
    CHECK(raw_take(fd, mesh_buf, header.length));
    return header;
}

static inline bool nothing_came(velum_fd fd) {
    mesh_turns(3);
    return velum_test_pending(fd) == 0;
}

/* Expects KV_DONE with its reply, copied to reply_bytes; what it reached. */
static inline int raw_done(velum_fd fd, uint64_t correlation) {
    velum_kv_done done = {0, NULL, 0};
    velum_header header = raw_next(fd);
    CHECK_EQ(header.type, VELUM_F_KV_DONE);
    CHECK_EQ(header.correlation, correlation);
    if (header.type != VELUM_F_KV_DONE) return -1;
    CHECK(velum_wire_get_kv_done(mesh_buf, header.length, &done) > 0);
    memcpy(reply_bytes, done.reply, done.size);
    reply_size = done.size;
    return done.reached;
}

static inline void raw_ends(velum_fd fd, int error) {
    mesh_turns(3);
    raw_expect_bye(fd, error);
}

#endif
