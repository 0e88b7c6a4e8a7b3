/* test_link.c: receiving on a link, on the test port: framing at every split, large frames, parts
 * of modules and chunks, hostile peers. Sending is in test_link_send.c.
 */
#include "link_pair.h"

#define TEST_SEED 7u

/* ---- a link whose sink is watched ---- */

/* What the sink does with parts. */
static uint8_t bulk_memory[VELUM_MODULE_PART_BYTES];
static bool bulk_wanted;
static int sink_calls;

static bool is_part(uint8_t type) {
    return type == VELUM_F_MODULE || type == VELUM_F_CHUNK;
}

/* Whether a frame says that it is a part of that many bytes, the only one. */
static bool says_size(const velum_frame *f, uint32_t size) {
    if (f->header.type == VELUM_F_CHUNK) {
        return f->part.chunk.size == size && f->part.chunk.total == size;
    }
    return f->part.module.size == size && f->part.module.total == size;
}

static uint8_t *sink(void *owner, velum_link *link, const velum_frame *frame) {
    uint32_t size = frame->header.length - VELUM_MODULE_HEAD_BYTES;
    CHECK(owner == &bulk_wanted && link == linked);
    CHECK(is_part(frame->header.type) && says_size(frame, size));
    CHECK(size <= sizeof bulk_memory);
    CHECK(velum_link_landing(link) == NULL);
    sink_calls++;
    memset(bulk_memory, 0, size);
    return bulk_wanted ? bulk_memory : NULL;
}

static void start(uint64_t seed) {
    bulk_wanted = true;
    sink_calls = 0;
    pair_open(seed, sink, &bulk_wanted);
}

/* ---- streams of frames to receive ---- */

#define FRAMES_MAX 64
typedef struct {
    uint8_t bytes[8u << 20];
    size_t size;
    struct {
        size_t at; /* of the header */
        uint32_t length;
        uint8_t type;
    } frames[FRAMES_MAX];
    size_t count;
    size_t seen; /* frames that the link has handed out */
} script;

static script plan;

/* Appends a frame whose payload bytes and correlation follow from its place. A part is the only one
 * of its module or chunk. */
static void plan_frame(uint8_t type, uint32_t length) {
    uint64_t correlation = plan.count * 0x0101010101010101u;
    uint8_t *at = plan.bytes + plan.size;
    uint8_t *payload = at + VELUM_HEADER_BYTES;
    plan.frames[plan.count].at = plan.size;
    plan.frames[plan.count].length = length;
    plan.frames[plan.count].type = type;
    plan.count++;
    for (uint32_t i = 0; i < length; i++) {
        payload[i] = (uint8_t)(plan.count * 31 + i * 7 + (i >> 8));
    }
    if (type == VELUM_F_MODULE) {
        velum_module_part part = {.total = length - VELUM_MODULE_HEAD_BYTES,
                                  .size = length - VELUM_MODULE_HEAD_BYTES};
        CHECK_EQ(velum_wire_put_module_head(at, sizeof plan.bytes - plan.size, correlation, &part),
                 VELUM_HEADER_BYTES + VELUM_MODULE_HEAD_BYTES);
    } else if (type == VELUM_F_CHUNK) {
        velum_chunk_part part = {.total = length - VELUM_CHUNK_HEAD_BYTES,
                                 .size = length - VELUM_CHUNK_HEAD_BYTES};
        CHECK_EQ(velum_wire_put_chunk_head(at, sizeof plan.bytes - plan.size, correlation, &part),
                 VELUM_HEADER_BYTES + VELUM_CHUNK_HEAD_BYTES);
    } else {
        velum_wire_put_header(at, type, length, correlation);
    }
    plan.size += VELUM_HEADER_BYTES + length;
}

static void plan_reset(void) {
    plan.size = 0;
    plan.count = 0;
    plan.seen = 0;
}

/* Compares a frame of the link with the next one of the plan; false and reported if they differ. */
static bool is_next_of_plan(const velum_frame *f) {
    bool same = plan.seen < plan.count;
    if (same) {
        const uint8_t *at = plan.bytes + plan.frames[plan.seen].at;
        uint32_t length = plan.frames[plan.seen].length;
        same = f->header.type == plan.frames[plan.seen].type && f->header.length == length &&
               f->header.correlation == plan.seen * 0x0101010101010101u;
        at += VELUM_HEADER_BYTES;
        if (same && is_part(f->header.type)) {
            uint32_t size = length - VELUM_MODULE_HEAD_BYTES;
            same = f->payload == NULL && says_size(f, size) &&
                   f->bulk == (bulk_wanted ? bulk_memory : NULL) &&
                   (!bulk_wanted || memcmp(bulk_memory, at + VELUM_MODULE_HEAD_BYTES, size) == 0);
        } else if (same) {
            same = f->bulk == NULL && memcmp(f->payload, at, length) == 0;
        }
    }
    CHECK(same);
    plan.seen++;
    return same;
}

/* Takes all frames that are there; returns what velum_link_next ended with. */
static int take_frames(void) {
    velum_frame f;
    int r;
    while ((r = velum_link_next(linked, &f)) == 1) {
        if (!is_next_of_plan(&f)) {
            return VELUM_E_PAYLOAD;
        }
    }
    return r;
}

/* Reads and takes frames until the socket has no more. */
static int receive(void) {
    for (;;) {
        int r = velum_link_read(linked);
        if (r < 0 && r != VELUM_E_AGAIN) {
            return r;
        }
        int next = take_frames();
        if (next < 0) {
            return next;
        }
        if (r == VELUM_E_AGAIN && velum_test_pending(velum_link_fd(linked)) == 0) {
            return VELUM_OK;
        }
    }
}

/* Sends a range of the plan from the peer while the link receives. */
static void feed(size_t from, size_t to) {
    while (from < to) {
        int r = velum_port_send(peer, plan.bytes + from, to - from);
        CHECK(r > 0 || r == VELUM_E_AGAIN);
        from += r > 0 ? (size_t)r : 0;
        CHECK_EQ(receive(), VELUM_OK);
        if (plan.seen > plan.count) {
            return;
        }
    }
}

static void plan_short(void) {
    plan_reset();
    plan_frame(VELUM_F_PING, 0);
    plan_frame(VELUM_F_CALL, 33);
    plan_frame(VELUM_F_MODULE, VELUM_MODULE_HEAD_BYTES + 70);
    plan_frame(VELUM_F_CHUNK, VELUM_CHUNK_HEAD_BYTES + 1);
    plan_frame(VELUM_F_PONG, 0);
    plan_frame(VELUM_F_ENTRY, 100);
}

/* ---- receiving ---- */

static void test_every_split(void) {
    for (int wanted = 0; wanted < 2; wanted++) {
        plan_short();
        for (size_t i = 1; i < plan.size; i++) {
            for (size_t j = i; j < plan.size; j += wanted == 1 ? 1 : 41) {
                start(TEST_SEED);
                bulk_wanted = wanted == 1;
                plan.seen = 0;
                feed(0, i);
                feed(i, j);
                feed(j, plan.size);
                CHECK_EQ(plan.seen, plan.count);
                CHECK_EQ(sink_calls, 2);
                pair_close();
            }
        }
    }
}

/* Around the sizes at which a frame leaves the small buffer, and the buffer altogether. */
static void plan_sizes(void) {
    plan_reset();
    for (uint32_t d = 0; d < 5; d++) {
        plan_frame(VELUM_F_ANSWER, 4096 - VELUM_HEADER_BYTES - 2 + d);
        plan_frame(VELUM_F_PING, 0);
        plan_frame(VELUM_F_SYNC, VELUM_READ_BYTES - VELUM_HEADER_BYTES - 2 + d);
        plan_frame(VELUM_F_CALL, 1024);
    }
    plan_frame(VELUM_F_ANSWER, VELUM_FRAME_BYTES_MAX);
    plan_frame(VELUM_F_MODULE, VELUM_MODULE_HEAD_BYTES + VELUM_MODULE_PART_BYTES);
    plan_frame(VELUM_F_CHUNK, VELUM_CHUNK_HEAD_BYTES + VELUM_READ_BYTES);
    for (int i = 0; i < 20; i++) {
        plan_frame(VELUM_F_RESULT, 40); /* long enough for the buffers to shrink again */
    }
    plan_frame(VELUM_F_SYNC_REPLY, 2 * VELUM_READ_BYTES);
    plan_frame(VELUM_F_PONG, 0);
}

static void test_sizes(void) {
    static const velum_test_manner manners[] = {
        {0},
        {.recv_max = 1, .window = 100000},
        {.recv_max = 100, .again_every = 3},
        {.recv_max = 20000, .random = true, .again_every = 5},
        {.window = 1000},
        {.window = 3 * VELUM_READ_BYTES},
        {.recv_max = VELUM_READ_BYTES + 1, .random = true, .window = 1u << 20},
    };
    for (int wanted = 0; wanted < 2; wanted++) {
        for (size_t i = 0; i < sizeof manners / sizeof manners[0]; i++) {
            plan_sizes();
            start(TEST_SEED + i);
            bulk_wanted = wanted == 1;
            pair_manner(manners[i]);
            feed(0, plan.size);
            CHECK_EQ(plan.seen, plan.count);
            CHECK_EQ(sink_calls, 2);
            pair_close();
        }
    }
}

static void test_no_sink(void) {
    plan_short();
    pair_open(TEST_SEED, NULL, NULL);
    bulk_wanted = false;
    feed(0, plan.size);
    CHECK_EQ(plan.seen, plan.count);
    pair_close();
}

static void test_frames_stay_valid(void) {
    velum_frame a, b;
    plan_reset();
    plan_frame(VELUM_F_CALL, 100);
    plan_frame(VELUM_F_CALL, 200);
    start(TEST_SEED);
    CHECK_EQ(velum_port_send(peer, plan.bytes, plan.size), (int)plan.size);
    CHECK_EQ(velum_link_read(linked), (int)plan.size);
    CHECK_EQ(velum_link_next(linked, &a), 1);
    CHECK_EQ(velum_link_next(linked, &b), 1);
    CHECK_EQ(velum_link_next(linked, &b), 0);
    CHECK(is_next_of_plan(&a));
    CHECK(is_next_of_plan(&b));
    pair_close();
}

/* The owner takes the memory away when so much of the part has come: nothing is written there any
 * more, and the stream goes on. */
static void test_forgotten(size_t when) {
    plan_reset();
    plan_frame(VELUM_F_CHUNK, VELUM_CHUNK_HEAD_BYTES + 3 * VELUM_READ_BYTES);
    plan_frame(VELUM_F_CALL, 100);
    start(TEST_SEED);
    pair_manner((velum_test_manner){.window = 1u << 20});
    CHECK(velum_link_landing(linked) == NULL);
    velum_link_forget_bulk(linked);
    size_t head = VELUM_HEADER_BYTES + VELUM_CHUNK_HEAD_BYTES;
    feed(0, head + when);
    const velum_frame *landing = velum_link_landing(linked);
    CHECK(landing != NULL && landing->bulk == bulk_memory);
    CHECK(landing != NULL && says_size(landing, 3 * VELUM_READ_BYTES));
    CHECK(memcmp(bulk_memory, plan.bytes + head, when) == 0);
    velum_link_forget_bulk(linked);
    CHECK(velum_link_landing(linked) == NULL);
    memset(bulk_memory, 0xee, sizeof bulk_memory);
    bulk_wanted = false; /* it is handed out without them */
    feed(head + when, plan.size);
    CHECK_EQ(plan.seen, 2);
    for (size_t i = 0; i < sizeof bulk_memory; i++) {
        if (bulk_memory[i] != 0xee) {
            CHECK_EQ(i, sizeof bulk_memory);
            break;
        }
    }
    pair_close();
}

static void test_end_of_stream(void) {
    plan_short();
    start(TEST_SEED);
    CHECK_EQ(velum_link_read(linked), VELUM_E_AGAIN);
    feed(0, plan.size - 50); /* what came whole before the end is handed out */
    velum_port_close(peer);
    CHECK_EQ(velum_link_read(linked), VELUM_E_CLOSED);
    CHECK_EQ(plan.seen, plan.count - 1);
    CHECK_EQ(take_frames(), 0);
    peer = VELUM_NO_FD;
    pair_close();

    plan_sizes(); /* the same inside a frame of its own memory, and inside a part */
    for (size_t i = 0; i < plan.count; i++) {
        if (plan.frames[i].length > VELUM_READ_BYTES) {
            start(TEST_SEED);
            plan.seen = i;
            feed(plan.frames[i].at, plan.frames[i].at + VELUM_READ_BYTES);
            velum_test_cut(peer, VELUM_E_CLOSED);
            CHECK_EQ(velum_link_read(linked), VELUM_E_CLOSED);
            CHECK_EQ(plan.seen, i);
            pair_close();
        }
    }
}

static void test_read_too_early(void) {
    velum_frame f;
    plan_reset();
    plan_frame(VELUM_F_MODULE, VELUM_MODULE_HEAD_BYTES + 100);
    for (int i = 0; i < FRAMES_MAX - 1; i++) {
        plan_frame(VELUM_F_ANSWER, 2000);
    }
    start(TEST_SEED);
    pair_manner((velum_test_manner){.window = 1u << 20});
    CHECK_EQ(velum_port_send(peer, plan.bytes, 100), 100);
    CHECK_EQ(velum_link_read(linked), 100);
    CHECK_EQ(velum_link_next(linked, &f), 0);
    CHECK_EQ(velum_port_send(peer, plan.bytes + 100, plan.size - 100), (int)plan.size - 100);
    CHECK_EQ(velum_link_read(linked), 56);
    CHECK_EQ(velum_link_read(linked), VELUM_E_ARGUMENT); /* a frame waits to be taken */
    CHECK_EQ(take_frames(), 0);
    int r;
    do {
        r = velum_link_read(linked);
    } while (r > 0);
    CHECK_EQ(r, VELUM_E_ARGUMENT); /* the buffer is full of frames */
    CHECK_EQ(take_frames(), 0);
    CHECK_EQ(receive(), VELUM_OK);
    CHECK_EQ(plan.seen, plan.count);
    pair_close();
}

/* ---- hostile peers ---- */

/* What the link says to these bytes, whole and byte by byte; it must stay with that answer. */
static void expect_refusal(const uint8_t *bytes, size_t n, bool stranger, int err) {
    for (int byte_by_byte = 0; byte_by_byte < 2; byte_by_byte++) {
        velum_frame f;
        start(TEST_SEED);
        velum_link_set_stranger(linked, stranger);
        pair_manner((velum_test_manner){.recv_max = byte_by_byte == 1 ? 1u : 0u});
        CHECK_EQ(velum_port_send(peer, bytes, n), (int)n);
        int r = 0;
        while (r == 0 && velum_link_read(linked) > 0) {
            r = velum_link_next(linked, &f);
        }
        CHECK_EQ(r, err);
        if (err < 0) {
            CHECK_EQ(velum_link_next(linked, &f), err);
            CHECK_EQ(velum_link_read(linked), err);
            CHECK_EQ(sink_calls, 0);
        }
        pair_close();
    }
}

static void expect_header(uint8_t type, uint32_t length, bool stranger, int err) {
    uint8_t bytes[VELUM_HEADER_BYTES];
    velum_wire_put_header(bytes, type, length, 1);
    expect_refusal(bytes, sizeof bytes, stranger, err);
}

static void test_hostile_headers(void) {
    uint8_t bytes[VELUM_HEADER_BYTES + VELUM_MODULE_HEAD_BYTES + 8];
    expect_refusal((const uint8_t *)"GET / HTTP/1.1\r\n", 16, false, VELUM_E_MAGIC);
    expect_refusal((const uint8_t *)"X", 1, false, VELUM_E_MAGIC);
    expect_refusal((const uint8_t *)"V", 1, false, 0);
    memset(bytes, 0, sizeof bytes);
    velum_wire_put_header(bytes, VELUM_F_PING, 0, 1);
    bytes[2]++;
    expect_refusal(bytes, VELUM_HEADER_BYTES, false, VELUM_E_WIRE_VERSION);
    expect_header(0x7f, 0, false, VELUM_E_FRAME_TYPE);
    expect_header(VELUM_F_PROBE, 0, false, VELUM_E_FRAME_TYPE);
    expect_header(VELUM_F_BEACON, 64, false, VELUM_E_FRAME_TYPE);
    expect_header(VELUM_F_HOLD, 0, false, 1); /* those above travel here */
    expect_header(VELUM_F_PING, 1, false, VELUM_E_FRAME_LENGTH);
    expect_header(VELUM_F_SYNC, UINT32_MAX, false, VELUM_E_FRAME_LENGTH);
    expect_header(VELUM_F_SYNC, VELUM_FRAME_BYTES_MAX + 1, false, VELUM_E_FRAME_LENGTH);
    expect_header(VELUM_F_SYNC, VELUM_FRAME_BYTES_MAX, false, 0);
    expect_header(VELUM_F_SYNC, VELUM_HELLO_BYTES_MAX + 1, true, VELUM_E_FRAME_LENGTH);
    expect_header(VELUM_F_SYNC, VELUM_HELLO_BYTES_MAX, true, 0);
    expect_header(VELUM_F_MODULE, VELUM_MODULE_HEAD_BYTES + 1000, true, VELUM_E_FRAME_LENGTH);
    expect_header(VELUM_F_CHUNK, VELUM_CHUNK_HEAD_BYTES + 1000, true, VELUM_E_FRAME_LENGTH);
    expect_header(VELUM_F_CHUNK, VELUM_CHUNK_HEAD_BYTES + VELUM_CHUNK_PART_BYTES + 1, false,
                  VELUM_E_FRAME_LENGTH);

    velum_module_part part = {.total = 8, .size = 8};
    velum_wire_put_module_head(bytes, sizeof bytes, 1, &part);
    bytes[VELUM_HEADER_BYTES + VELUM_HASH_BYTES]--; /* total 7: the part reaches past the end */
    expect_refusal(bytes, sizeof bytes, false, VELUM_E_PAYLOAD);
    velum_wire_put_header(bytes, VELUM_F_MODULE, VELUM_MODULE_HEAD_BYTES - 1, 1);
    expect_refusal(bytes, sizeof bytes, false, VELUM_E_PAYLOAD);
    velum_chunk_part chunk = {.total = 8, .size = 8};
    velum_wire_put_chunk_head(bytes, sizeof bytes, 1, &chunk);
    bytes[VELUM_HEADER_BYTES + VELUM_KEY_BYTES + 4]++; /* offset 1: the same */
    expect_refusal(bytes, sizeof bytes, false, VELUM_E_PAYLOAD);
    velum_wire_put_header(bytes, VELUM_F_CHUNK, VELUM_CHUNK_HEAD_BYTES, 1);
    expect_refusal(bytes, sizeof bytes, false, VELUM_E_PAYLOAD); /* no bytes */
}

/* Frames before the bad one are handed out. */
static void test_error_after_frames(void) {
    plan_short();
    memcpy(plan.bytes + plan.size, "junk", 4);
    start(TEST_SEED);
    CHECK_EQ(velum_port_send(peer, plan.bytes, plan.size + 4), (int)plan.size + 4);
    CHECK_EQ(receive(), VELUM_E_MAGIC);
    CHECK_EQ(plan.seen, plan.count);
    pair_close();
}

static void test_garbage(uint64_t seed) {
    start(seed);
    plan_sizes();
    size_t from = plan.frames[plan.count - 5].at;
    for (int i = 0; i < 20; i++) {
        plan.bytes[from + random_below((uint32_t)(plan.size - from))] ^= (uint8_t)random_below(256);
    }
    pair_manner((velum_test_manner){.recv_max = 1 + random_below(5000), .random = true});
    int r = 0;
    while (r >= 0 && from < plan.size) {
        int sent = velum_port_send(peer, plan.bytes + from, plan.size - from);
        from += sent > 0 ? (size_t)sent : 0;
        while (r >= 0 && (r = velum_link_read(linked)) > 0) {
            velum_frame f;
            do {
                r = velum_link_next(linked, &f);
            } while (r == 1);
        }
        r = r == VELUM_E_AGAIN ? 0 : r;
    }
    CHECK(r == 0 || (r <= VELUM_E_MAGIC && r >= VELUM_E_PAYLOAD));
    pair_close();
}

int main(void) {
    test_every_split();
    test_sizes();
    test_no_sink();
    test_frames_stay_valid();
    test_forgotten(1);
    test_forgotten(VELUM_READ_BYTES + 5);
    test_forgotten(3 * VELUM_READ_BYTES - 1);
    test_end_of_stream();
    test_read_too_early();
    test_hostile_headers();
    test_error_after_frames();
    for (uint64_t seed = 1; seed <= 300; seed++) {
        test_garbage(seed);
    }
    return check_report("link");
}
