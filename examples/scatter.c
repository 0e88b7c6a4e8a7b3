/* scatter.c: a C program that gives one job to a whole mesh and shows how far it is.
 *
 *     cmake -S csrc -B build/core && cmake --build build/core
 *     cc -std=c99 -I csrc/include examples/scatter.c build/core/libvelum.a -lm -o build/scatter
 *
 *     velum node 1 &
 *     build/scatter 127.0.0.1:8001 tests/guests/primes.wasm count_primes 0 500000
 *
 * calls count_primes on 4096 slices of [0, 500000), on every worker of the mesh, and prints the sum
 * of what they return: 41538. The progress goes to stderr. The program is a client: it is no
 * member, runs nothing itself, and whichever nodes die meanwhile, the answer is the same.
 */
#include <stdio.h>
#include <stdlib.h>

#include "velum.h"

#define JOIN_MS     10000
#define PROGRESS_MS 200

static int fail(const char *what, const char *why) {
    fprintf(stderr, "scatter: %s: %s\n", what, why);
    return EXIT_FAILURE;
}

/* Reads a whole file; NULL if it cannot be. The caller frees it. */
static unsigned char *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    unsigned char *bytes = NULL;
    long length = -1;
    if (file == NULL) return NULL;
    if (fseek(file, 0, SEEK_END) == 0) length = ftell(file);
    if (length > 0) bytes = malloc((size_t)length);
    rewind(file);
    if (bytes != NULL && fread(bytes, 1, (size_t)length, file) != (size_t)length) {
        free(bytes);
        bytes = NULL;
    }
    fclose(file);
    *size = length > 0 ? (size_t)length : 0;
    return bytes;
}

/* Waits for the answer, with a line of progress a few times a second. */
static int watch(velum *mesh, const char *function, velum_ticket ticket) {
    velum_outcome outcome;
    velum_job_progress now;
    int got;
    while ((got = velum_wait(mesh, ticket, PROGRESS_MS, &outcome)) == 0) {
        if (velum_get_progress(mesh, ticket, &now) != 0) continue;
        fprintf(stderr, "%lu of %lu slices, %u nodes\n", (unsigned long)now.done,
                (unsigned long)now.slices, (unsigned)now.nodes);
    }
    if (got < 0) return fail(function, velum_strerror(got));
    if (outcome.error != 0) return fail(velum_errname(outcome.error), outcome.text);
    if (outcome.value.type == VELUM_F64 || outcome.value.type == VELUM_F32) {
        printf("%.17g\n", velum_as_f64(outcome.value));
    } else {
        printf("%lld\n", (long long)velum_as_i64(outcome.value));
    }
    return EXIT_SUCCESS;
}

/* words: MODULE FUNCTION START END */
static int scatter(velum *mesh, char **words) {
    const velum_scatter_options options = {.label = words[0]};
    velum_ticket ticket;
    size_t size;
    unsigned char *module = read_file(words[0], &size);
    int err;
    if (module == NULL) return fail(words[0], "cannot be read");
    err = velum_spawn_wasm_distributed(mesh, module, size, words[1], strtoll(words[2], NULL, 10),
                                       strtoll(words[3], NULL, 10), &options, &ticket);
    free(module); /* the library keeps a copy while the job goes on */
    return err != 0 ? fail(words[1], velum_strerror(err)) : watch(mesh, words[1], ticket);
}

int main(int argc, char **argv) {
    velum_config config = {.id = 0}; /* a client */
    velum *mesh;
    int status, err;
    if (argc != 6) {
        fprintf(stderr, "usage: scatter IP:PORT MODULE FUNCTION START END\n");
        return 2;
    }
    config.join = argv[1];
    err = velum_open(&mesh, &config, JOIN_MS);
    if (err != 0) return fail(velum_errname(err), velum_open_error());
    status = scatter(mesh, argv + 2);
    velum_close(mesh);
    return status;
}
