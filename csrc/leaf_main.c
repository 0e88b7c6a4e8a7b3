/* leaf_main.c: the program velum-worker as a node of its own, without Python.
 *
 * Owns: the start, the one line that says it has joined, and the end by signal. Refuses to know:
 * anything below velum.h, whose whole use by a program is seen here.
 */
#include "leaf_main.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "address.h"
#include "port/posix/worker_posix.h"
#include "velum.h"

/* A mesh that starts together is there by then; whoever starts nodes starts them again. */
#define JOIN_MS 10000u

/* How long one call serves; nothing waits for its end. */
#define SERVE_MS 3600000u

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_UNREACHABLE = 3 };

static velum *volatile mesh; /* for the signal handler */

/* Runs in a signal handler. Who is no member yet has nothing to take back. */
static void stop(void) {
    if (mesh == NULL) _Exit(EXIT_DONE);
    velum_stop(mesh);
}

/* Reads "[ip:]port" into the configuration; `host` is where the ip goes. */
static bool read_listen(const char *text, velum_config *config, char host[16]) {
    const char *colon = strrchr(text, ':');
    const char *digits = colon != NULL ? colon + 1 : text;
    size_t size = colon != NULL ? (size_t)(colon - text) : 0;
    char *end;
    unsigned long port = strtoul(digits, &end, 10);
    uint32_t ip;
    if (*digits < '0' || *digits > '9' || *end != '\0' || port > UINT16_MAX) return false;
    config->port = (uint16_t)port;
    if (colon == NULL) return true;
    if (!velum_address_read_ip(text, size, &ip)) return false;
    memcpy(host, text, size); /* an ip is shorter than 16 */
    host[size] = '\0';
    config->host = host;
    return true;
}

static int exit_status(int error) {
    switch (error) {
    case VELUM_E_ARGUMENT:
        return EXIT_USAGE;
    case VELUM_E_UNREACHABLE:
    case VELUM_E_TIMEOUT:
        return EXIT_UNREACHABLE;
    default:
        return EXIT_FAILED;
    }
}

static void say_joined(velum *v) {
    char me[VELUM_ADDRESS_TEXT_BYTES], home[VELUM_ADDRESS_TEXT_BYTES];
    printf("node %u at %s joined through %s\n", (unsigned)velum_id(v),
           velum_address_write(velum_address(v), me), velum_address_write(velum_home(v), home));
    (void)fflush(stdout);
}

int velum_leaf_main(const velum_leaf_options *options) {
    char host[16];
    velum_config config = {.id = options->id,
                           .join = options->join,
                           .beacon_port = options->beacon_port,
                           .workers = 1,
                           .pages_max = options->pages};
    velum *v;
    int err;
    if (!read_listen(options->listen, &config, host)) {
        fprintf(stderr, "velum-worker: --listen needs [IP:]PORT, not %s\n", options->listen);
        return EXIT_USAGE;
    }
    err = velum_worker_stand_alone(options->bytes_max, stop);
    if (err == 0) {
        err = velum_open(&v, &config, JOIN_MS);
        if (err != 0) fprintf(stderr, "velum-worker: %s\n", velum_open_error());
    } else {
        fprintf(stderr, "velum-worker: cannot have the stack that guests need\n");
    }
    if (err != 0) return exit_status(err);
    mesh = v;
    say_joined(v);
    do {
        err = velum_run(v, SERVE_MS);
    } while (err == 0);
    mesh = NULL;
    velum_close(v);
    if (err == VELUM_E_LEAVING) return EXIT_DONE;
    fprintf(stderr, "velum-worker: %s\n", velum_strerror(err));
    return EXIT_FAILED;
}
