/* fuzz_hub.c: arbitrary bytes on a link that a hub has accepted, on the test port.
 *
 * The first byte says how the owner behaves and whether a good HELLO goes before. Then the input is
 * a script: a byte that names a step, and for a chunk so many bytes, sent as they are. The owner
 * reads every byte of every event. Nothing may crash, leak, or touch a closed handle, and another
 * link must be answered at the end. Runs under libFuzzer, or with standalone.c.
 */
#include "../hub.h"
#include "../port/test/port_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define EVENTS_MAX  8u
#define MODULE_SIZE 300u
#define CHUNK_SIZE  300u

/* Steps; any other byte is the length of a piece of what follows. */
enum {
    WAIT = 0,
    ENTRY = 246,    /* an entry is put */
    ABANDON = 247,  /* the owner gives up what it has reserved, */
    UNWANT = 248,   /* or wants */
    HALF = 249,     /* the next step sends half of what it says, the one after that the rest */
    WANTED = 250,   /* the chunk that the owner wants */
    RESERVED = 251, /* the chunk that it has reserved */
    WANT_CHUNK = 252,
    TAKE = 253,
    PART = 254,
    WANT = 255
};

/* The first byte. */
enum { CAP_MASK = 7, GREETED = 8, FETCHING = 16, DROPPING = 32, ECHOING = 64, STORING = 128 };

static velum_hub *hub;
static uint8_t manners;
static volatile uint8_t seen; /* keeps reads from being optimised away */

static uint8_t module[MODULE_SIZE], module_hash[VELUM_HASH_BYTES];
static const uint8_t fetched_hash[VELUM_HASH_BYTES] = {1, 2, 3};

static velum_chunks *chunks;
static velum_names *names;
static velum_handle storing_link;
static uint8_t *landing;  /* where the wanted chunk goes; freed when it must not be touched */
static size_t part_bytes; /* of it that went before */
static bool half;
static uint8_t chunk[3][CHUNK_SIZE]; /* wanted, reserved, held */
static uint8_t key[3][VELUM_KEY_BYTES];

static void demand(int condition, const char *what) {
    if (condition) return;
    fprintf(stderr, "fuzz_hub: %s\n", what);
    abort();
}

static void look_at(const void *bytes, size_t n) {
    for (size_t i = 0; i < n; i++)
        seen ^= ((const uint8_t *)bytes)[i];
}

static void stop_landing(void) {
    free(landing);
    landing = NULL;
}

/* The owner stores: it wants a chunk, awaits one, and sends one. */
static void begin_storing(velum_handle link) {
    if (landing != NULL || (manners & STORING) == 0) return;
    landing = malloc(CHUNK_SIZE);
    storing_link = link;
    if (landing != NULL && velum_hub_want(hub, link, 9, key[0], landing, CHUNK_SIZE) != 0) {
        stop_landing();
    }
    (void)velum_chunks_reserve(chunks, key[1], CHUNK_SIZE, link);
    (void)velum_hub_send_chunk(hub, link, 10, key[2], chunk[2], CHUNK_SIZE);
}

static void own_chunk(const velum_event *event) {
    demand(event->u.chunk.error <= 0, "a chunk's error");
    if (event->u.chunk.what != VELUM_CHUNK_FETCHED) return;
    demand(landing != NULL, "a chunk came that nobody wants");
    if (event->u.chunk.error == 0) {
        demand(memcmp(landing, chunk[0], CHUNK_SIZE) == 0, "another chunk came");
    }
    stop_landing();
}

static void own(const velum_event *event) {
    if (event->kind == VELUM_EV_OPENED) {
        look_at(event->u.opened.hello.version.data, event->u.opened.hello.version.size);
        look_at(event->u.opened.hello.key, event->u.opened.hello.key_size);
        if (velum_hub_accept(hub, event->link) != 0) return;
        if (manners & FETCHING) (void)velum_hub_fetch(hub, event->link, fetched_hash);
        begin_storing(event->link);
    } else if (event->kind == VELUM_EV_CHUNK) {
        own_chunk(event);
    } else if (event->kind == VELUM_EV_CLOSED) {
        demand(event->u.closed.error < 0, "a link closed without a reason");
        if (event->u.closed.text != NULL) look_at(event->u.closed.text, 1);
    } else if (event->kind == VELUM_EV_FRAME) {
        uint8_t echo[VELUM_HEADER_BYTES];
        if (manners & DROPPING) velum_hub_drop(hub, event->link, 1, NULL);
        look_at(event->u.frame.payload, event->u.frame.header.length);
        velum_wire_put_header(echo, VELUM_F_PING, 0, 1);
        if (manners & ECHOING) (void)velum_hub_send(hub, event->link, echo, sizeof echo);
    }
}

static void poll_hub(void) {
    velum_event events[EVENTS_MAX];
    int n = velum_hub_poll(hub, 0, events, 1u + (manners & CAP_MASK));
    demand(n >= 0, "a poll failed");
    for (int i = 0; i < n; i++)
        own(&events[i]);
}

static void say_hello(velum_fd fd) {
    uint8_t frame[64];
    velum_hello hello = {.role = VELUM_ROLE_CLIENT};
    int n = velum_wire_put_hello(frame, sizeof frame, 0, &hello);
    (void)velum_port_send(fd, frame, (size_t)n);
}

static void send_want(velum_fd fd) {
    uint8_t frame[64];
    velum_module_want want = {.offset = 0};
    memcpy(want.hash, module_hash, sizeof want.hash);
    int n = velum_wire_put_module_want(frame, sizeof frame, 1, &want);
    (void)velum_port_send(fd, frame, (size_t)n);
}

/* A part as the hub's first fetch asked for it. */
static void send_part(velum_fd fd) {
    uint8_t frame[VELUM_HEADER_BYTES + VELUM_MODULE_HEAD_BYTES];
    velum_module_part part = {.total = MODULE_SIZE, .size = MODULE_SIZE};
    memcpy(part.hash, fetched_hash, sizeof part.hash);
    int n = velum_wire_put_module_head(frame, sizeof frame, UINT64_C(1) << 63 | 1u, &part);
    (void)velum_port_send(fd, frame, (size_t)n);
    (void)velum_port_send(fd, module, MODULE_SIZE);
}

static void send_chunk(velum_fd fd, int which, uint64_t correlation) {
    uint8_t frame[VELUM_HEADER_BYTES + VELUM_CHUNK_HEAD_BYTES + CHUNK_SIZE];
    velum_chunk_part part = {.total = CHUNK_SIZE, .size = CHUNK_SIZE};
    size_t end = sizeof frame;
    half = half && part_bytes == 0;
    if (half) end /= 2;
    memcpy(part.key, key[which], VELUM_KEY_BYTES);
    (void)velum_wire_put_chunk_head(frame, sizeof frame, correlation, &part);
    memcpy(frame + sizeof frame - CHUNK_SIZE, chunk[which], CHUNK_SIZE);
    (void)velum_port_send(fd, frame + part_bytes, end - part_bytes);
    part_bytes = half ? end : 0;
    half = false;
}

static void send_want_chunk(velum_fd fd) {
    uint8_t frame[64];
    int n = velum_wire_put_want(frame, sizeof frame, 1, key[2]);
    (void)velum_port_send(fd, frame, (size_t)n);
}

static void send_entry(velum_fd fd) {
    uint8_t frame[128];
    velum_entry entry = {.version = {1, 1},
                         .kind = VELUM_ENTRY_INLINE,
                         .keepers = VELUM_KEEPERS_MIN,
                         .name = {"name", 4},
                         .body = (const uint8_t *)"",
                         .body_size = 0};
    int n = velum_wire_put_entry(frame, sizeof frame, 1, &entry);
    if (n > 0) (void)velum_port_send(fd, frame, (size_t)n);
}

static void take_step(velum_fd fd, size_t step) {
    uint8_t taken[4096];
    switch (step) {
    case WAIT:
        velum_test_advance(INT64_C(3000000));
        break;
    case ENTRY:
        send_entry(fd);
        break;
    case ABANDON:
        if (chunks != NULL) velum_chunks_abandon(chunks, key[1], storing_link);
        break;
    case UNWANT:
        velum_hub_unwant(hub, storing_link, 9);
        stop_landing();
        break;
    case HALF:
        half = true;
        break;
    case WANTED:
        send_chunk(fd, 0, 9);
        break;
    case RESERVED:
        send_chunk(fd, 1, 11);
        break;
    case WANT_CHUNK:
        send_want_chunk(fd);
        break;
    case TAKE:
        (void)velum_port_recv(fd, taken, sizeof taken);
        break;
    case PART:
        send_part(fd);
        break;
    default:
        send_want(fd);
    }
}

static void run_script(velum_fd fd, const uint8_t *script, size_t size) {
    part_bytes = 0;
    half = false;
    while (size > 0) {
        size_t n = *script++;
        size--;
        if (n == WAIT || n >= ENTRY) {
            take_step(fd, n);
        } else {
            n = n < size ? n : size;
            if (n > 0) (void)velum_port_send(fd, script, n);
            script += n;
            size -= n;
        }
        poll_hub();
    }
}

/* Chunks and names of the hub, and what it wants. */
static bool open_store(void) {
    uint8_t found[VELUM_KEY_BYTES];
    if (velum_chunks_open(&chunks, 4 * CHUNK_SIZE * 4) != 0) return false;
    if (velum_names_open(&names, 1, 100000) != 0) return false;
    for (size_t i = 0; i < 3; i++) {
        memset(chunk[i], (int)i + 1, CHUNK_SIZE);
        velum_chunk_key(chunk[i], CHUNK_SIZE, key[i]);
    }
    demand(velum_chunks_add(chunks, chunk[2], CHUNK_SIZE, found) == 0, "a chunk was not added");
    velum_hub_set_store(hub, chunks, names);
    return true;
}

/* A new link gets its answer, whatever happened on the other. */
static void check_alive(velum_addr addr) {
    uint8_t frame[VELUM_HEADER_BYTES], taken[512];
    velum_fd fd = VELUM_NO_FD;
    size_t got = 0;
    demand(velum_port_dial(&addr, &fd) == 0, "no connection");
    say_hello(fd);
    velum_wire_put_header(frame, VELUM_F_PING, 0, 77);
    (void)velum_port_send(fd, frame, sizeof frame);
    manners &= CAP_MASK;
    for (int i = 0; i < 10; i++) {
        int n;
        poll_hub();
        n = velum_port_recv(fd, taken + got, sizeof taken - got);
        if (n > 0) got += (size_t)n;
    }
    velum_wire_put_header(frame, VELUM_F_PONG, 0, 77);
    demand(got >= sizeof frame && memcmp(taken + got - sizeof frame, frame, sizeof frame) == 0,
           "another link got no PONG");
    velum_port_close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    velum_hub_config config = {4, 1000000, true, 0};
    velum_hello hello = {.role = VELUM_ROLE_NODE, .id = 1};
    velum_addr addr = {0x7f000001u, 0};
    velum_fd fd = VELUM_NO_FD;
    if (size == 0) return 0;
    velum_test_reset(1);
    manners = data[0];
    if (velum_hub_open(&hub, &config) != 0) return 0;
    if ((manners & STORING) != 0 && !open_store()) return 0;
    demand(velum_hub_identity(hub, &hello) == 0, "identity");
    demand(velum_hub_listen(hub, &addr) == 0, "listen");
    demand(velum_modules_add(velum_hub_modules(hub), module, MODULE_SIZE, module_hash) == 0, "add");
    demand(velum_port_dial(&addr, &fd) == 0, "dial");
    if (manners & GREETED) say_hello(fd);
    for (int i = 0; i < 3; i++)
        poll_hub();
    run_script(fd, data + 1, size - 1);
    velum_port_close(fd);
    check_alive(addr);
    velum_hub_close(hub);
    stop_landing();
    velum_chunks_close(chunks);
    velum_names_close(names);
    chunks = NULL;
    names = NULL;
    demand(velum_test_open() == 0, "a handle is still open");
    demand(velum_test_misuse() == 0, "a closed handle was used");
    return 0;
}
