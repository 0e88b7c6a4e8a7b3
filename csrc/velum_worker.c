/* velum_worker.c: the program velum-worker, one process that runs guests: for a node, or as one.
 *
 * Owns: its command line, and the loop that joins a hub and a worker. Refuses to know: how tasks
 * run (worker.c), how frames travel (hub.c), what the system can limit (port/posix), how to be a
 * node (leaf_main.c). How: a node starts it with one end of a socket pair; it says HELLO there,
 * measures the machine, tells its speed in a HEALTH frame, and runs tasks until the link closes.
 * With --listen it is a node itself.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "leaf_main.h"
#include "port/posix/worker_posix.h"
#include "worker.h"

/* Modules kept by one worker; the largest there may be has to fit. */
#define CACHE_BYTES ((size_t)VELUM_MODULE_BYTES_MAX + 32u * 1024u * 1024u)

/* Address space beside a guest's memory and the cache: the program, and what wasm3 builds of a
 * module, which for a very large one is many times its size. */
#define SPARE_BYTES ((size_t)512u * 1024u * 1024u)

#define PAGE_BYTES UINT64_C(65536) /* of a guest's memory */

/* A guest outlives its lease for so long: the next lease of the job comes after a round trip to its
 * coordinator, and would have to compile the module again. */
#define KEEP_MS 250

#define CALIBRATE_MS    5
#define EVENTS_PER_POLL 16

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* ---- the command line ---- */

typedef struct {
    long fd, pages, node, id, beacon_port;
    const char *listen, *join;
} options;

/* Options, all of which take a value: a number in a range, or a text (maximum 0). */
static const struct {
    const char *name, *argument, *help;
    size_t offset; /* in options */
    long minimum, maximum;
} values[] = {
    {"--memory-pages", "N", "memory limit of a guest, pages of 64 KiB (default 4096)",
     offsetof(options, pages), 1, 32767},
    {"--fd", "N", "for a node: descriptor of the socket to it", offsetof(options, fd), 0,
     INT32_MAX},
    {"--node", "ID", "for a node: its id, for results (default 0)", offsetof(options, node), 0,
     65535},
    {"--listen", "[IP:]PORT", "as a node: where to listen (port 0: any free one)",
     offsetof(options, listen), 0, 0},
    {"--id", "ID", "as a node: its id", offsetof(options, id), 1, 65535},
    {"--join", "IP:PORT", "as a node: a full node (default: found by beacon)",
     offsetof(options, join), 0, 0},
    {"--beacon-port", "PORT", "as a node: where full nodes hear beacons (default 8888)",
     offsetof(options, beacon_port), 1, 65535},
};

#define VALUES (sizeof values / sizeof values[0])

static void print_help(void) {
    printf("usage: velum-worker --fd N [options]\n"
           "       velum-worker --listen [IP:]PORT --id ID [options]\n\n"
           "Runs WebAssembly tasks, for a velum node on this machine, which starts it itself, or\n"
           "with --listen as a node of its own that joins a mesh, without Python.\n\n");
    for (size_t i = 0; i < VALUES; i++) {
        printf("  %-14s %-9s %s\n", values[i].name, values[i].argument, values[i].help);
    }
    printf("  %-24s %s\n  %-24s %s\n", "--help", "this text", "--version", "the version");
}

/* Reads the value of one option; says what is wrong with it. */
static bool take_value(options *o, size_t which, const char *text) {
    char *field = (char *)o + values[which].offset;
    char *end;
    long value;
    if (text != NULL && values[which].maximum == 0) {
        memcpy(field, &text, sizeof text);
        return true;
    }
    value = text != NULL ? strtol(text, &end, 10) : 0;
    if (text == NULL || *text == '\0' || *end != '\0' || value < values[which].minimum ||
        value > values[which].maximum) {
        fprintf(stderr, "velum-worker: %s needs ", values[which].name);
        if (values[which].maximum == 0) {
            fprintf(stderr, "%s\n", values[which].argument);
        } else {
            fprintf(stderr, "a number from %ld to %ld\n", values[which].minimum,
                    values[which].maximum);
        }
        return false;
    }
    memcpy(field, &value, sizeof value);
    return true;
}

/* Whether the options make one of the two programs. */
static bool is_complete(const options *o) {
    if (o->fd >= 0 && o->listen == NULL) return true;
    if (o->fd < 0 && o->listen != NULL && o->id > 0) return true;
    fprintf(stderr, "velum-worker: needs --fd, or --listen and --id; try --help\n");
    return false;
}

/* Reads the command line; a negative status means: go on. */
static int read_options(int argc, char **argv, options *o) {
    for (int i = 1; i < argc; i++) {
        size_t which = 0;
        if (strcmp(argv[i], "--help") == 0) {
            print_help();
            return EXIT_DONE;
        }
        if (strcmp(argv[i], "--version") == 0) {
            printf("velum-worker %s\n", VELUM_VERSION);
            return EXIT_DONE;
        }
        while (which < VALUES && strcmp(argv[i], values[which].name) != 0) {
            which++;
        }
        if (which == VALUES) {
            fprintf(stderr, "velum-worker: unknown option %s; try --help\n", argv[i]);
            return EXIT_USAGE;
        }
        i++;
        if (!take_value(o, which, i < argc ? argv[i] : NULL)) return EXIT_USAGE;
    }
    return is_complete(o) ? -1 : EXIT_USAGE;
}

/* ---- running ---- */

typedef struct {
    velum_hub *hub;
    velum_worker *worker;
    velum_handle node; /* the link to it */
    bool greeted, calibrated, closed;
} program;

static void on_other(void *user, const velum_event *event) {
    program *p = user;
    if (event->kind == VELUM_EV_OPENED) p->greeted = true;
    if (event->kind == VELUM_EV_CLOSED) p->closed = true;
}

/* Measures the machine and tells the node. */
static void calibrate(program *p) {
    uint8_t frame[VELUM_HEADER_BYTES + VELUM_HEALTH_BYTES];
    velum_health health = {.slots = 1, .cores = 1};

    p->calibrated = true;
    health.speed = velum_worker_calibrate(CALIBRATE_MS);
    velum_worker_health(p->worker, &health);
    (void)velum_hub_health(p->hub, &health);
    int n = velum_wire_put_health(frame, sizeof frame, &health);
    if (n > 0) (void)velum_hub_send(p->hub, p->node, frame, (size_t)n);
}

static int start(program *p, const options *o) {
    static const char version[] = VELUM_VERSION;
    velum_hub_config hub = {.links_max = 1, .module_bytes = CACHE_BYTES, .answer_calls = true};
    velum_worker_config worker = {.node = (uint16_t)o->node,
                                  .pages_max = (uint32_t)o->pages,
                                  .keep_ms = KEEP_MS,
                                  .other = on_other,
                                  .user = p};
    velum_hello hello = {.role = VELUM_ROLE_WORKER, .slots = 1};
    hello.version = (velum_text){version, sizeof version - 1};

    int err = velum_worker_confine((uint64_t)o->pages * PAGE_BYTES + CACHE_BYTES + SPARE_BYTES);
    if (err == VELUM_OK) err = velum_hub_open(&p->hub, &hub);
    if (err == VELUM_OK) err = velum_hub_identity(p->hub, &hello);
    if (err == VELUM_OK) err = velum_worker_open(&p->worker, p->hub, &worker);
    if (err == VELUM_OK) err = velum_hub_adopt(p->hub, (velum_fd)o->fd, 0, &p->node);
    return err;
}

/* Serves the node until its link closes. 0, or an error of the hub. */
static int serve(program *p) {
    velum_event events[EVENTS_PER_POLL];
    while (!p->closed) {
        int64_t sleep_us = velum_worker_sleep_us(p->worker);
        int n = velum_hub_poll(p->hub, sleep_us, events, EVENTS_PER_POLL);
        if (n < 0) return n;
        for (int i = 0; i < n; i++) {
            velum_worker_event(p->worker, &events[i]);
        }
        if (p->greeted && !p->calibrated) calibrate(p);
        (void)velum_worker_run(p->worker);
    }
    return VELUM_OK;
}

/* As a node of its own. */
static int main_as_node(const options *o) {
    velum_leaf_options leaf = {.listen = o->listen, .join = o->join};
    leaf.id = (uint16_t)o->id;
    leaf.beacon_port = (uint16_t)o->beacon_port;
    leaf.pages = (uint32_t)o->pages;
    leaf.bytes_max = leaf.pages * PAGE_BYTES + VELUM_MODULE_CACHE_BYTES + SPARE_BYTES;
    return velum_leaf_main(&leaf);
}

int main(int argc, char **argv) {
    options o = {.fd = -1, .pages = VELUM_GUEST_PAGES_MAX, .node = 0};
    program p;
    int status = read_options(argc, argv, &o);
    if (status >= 0) return status;
    if (o.listen != NULL) return main_as_node(&o);

    memset(&p, 0, sizeof p);
    int err = start(&p, &o);
    if (err == VELUM_OK) err = serve(&p);
    if (err != VELUM_OK) {
        fprintf(stderr, "velum-worker: cannot serve descriptor %ld: %s\n", o.fd,
                velum_strerror(err));
    }
    velum_worker_close(p.worker);
    velum_hub_close(p.hub);
    return err == VELUM_OK ? EXIT_DONE : EXIT_FAILED;
}
