/* embed.c: a C program that joins a mesh, uses it, and lends it a hand.
 *
 *     cmake -S csrc -B build/core && cmake --build build/core
 *     cc -std=c99 -I csrc/include examples/embed.c build/core/libvelum.a -lm -o build/embed
 *
 *     velum node 1 &
 *     build/embed 127.0.0.1:8001 42 5 tests/guests/sum.wasm sum 10 20 30
 *
 * joins as member 42 through the node at 127.0.0.1:8001, prints the members, adds two numbers on
 * the least busy node, runs a WebAssembly function there, and then works for the others for 5
 * seconds. Nothing happens behind the program's back: the library works while it is called.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "velum.h"

#define TIMEOUT_MS 10000
#define ARGS_MAX   16

static int fail(const char *what, const char *why) {
    fprintf(stderr, "embed: %s: %s\n", what, why);
    return EXIT_FAILURE;
}

/* "10" is an i32, "10L" an i64, "1.5" an f64. */
static velum_value parse(const char *text) {
    if (strchr(text, '.') != NULL) return velum_f64(strtod(text, NULL));
    if (strchr(text, 'L') != NULL) return velum_i64((int64_t)strtoll(text, NULL, 10));
    return velum_i32((int32_t)strtol(text, NULL, 10));
}

static void print_outcome(const char *what, const velum_outcome *outcome) {
    printf("%s = ", what);
    if (outcome->error != 0) {
        printf("error %s: %s", velum_errname(outcome->error), outcome->text);
    } else if (outcome->nvalues == 0) {
        printf("nothing");
    } else if (outcome->value.type == VELUM_F32 || outcome->value.type == VELUM_F64) {
        printf("%.17g", velum_as_f64(outcome->value));
    } else {
        printf("%lld", (long long)velum_as_i64(outcome->value));
    }
    printf(" (node %u, %lu us)\n", outcome->node, (unsigned long)outcome->run_us);
}

/* The way to wait for one answer. With velum_poll or velum_on_done a program can go on meanwhile,
 * with as many tasks under way as it likes. */
static int finish(velum *mesh, const char *what, velum_ticket ticket) {
    velum_outcome outcome;
    if (velum_wait(mesh, ticket, TIMEOUT_MS, &outcome) != 1) return fail(what, "no answer in time");
    print_outcome(what, &outcome);
    return outcome.error == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int add(velum *mesh) {
    const velum_value args[] = {velum_i64(10), velum_i64(20)};
    velum_ticket ticket;
    int err = velum_spawn(mesh, "add", args, 2, TIMEOUT_MS, &ticket);
    return err != 0 ? fail("add", velum_strerror(err)) : finish(mesh, "add(10, 20)", ticket);
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

/* words: MODULE FUNCTION ARG... */
static int run_wasm(velum *mesh, char **words, int count) {
    velum_value args[ARGS_MAX];
    velum_ticket ticket;
    size_t size, nargs = 0;
    unsigned char *module = read_file(words[0], &size);
    int err;
    if (module == NULL) return fail(words[0], "cannot be read");
    for (int i = 2; i < count && nargs < ARGS_MAX; i++) {
        args[nargs++] = parse(words[i]);
    }
    err = velum_spawn_wasm(mesh, module, size, words[1], args, nargs, TIMEOUT_MS, &ticket);
    free(module); /* the library keeps a copy while the task is under way */
    return err != 0 ? fail(words[1], velum_strerror(err)) : finish(mesh, words[1], ticket);
}

int main(int argc, char **argv) {
    velum_config config = {.workers = 1};
    const char *members;
    velum *mesh;
    int status, err;
    if (argc < 4) {
        fprintf(stderr, "usage: embed IP:PORT ID SECONDS [MODULE FUNCTION ARG...]\n");
        return 2;
    }
    config.join = argv[1];
    config.id = (uint16_t)strtoul(argv[2], NULL, 10);
    err = velum_open(&mesh, &config, TIMEOUT_MS);
    if (err != 0) return fail(velum_errname(err), velum_open_error());

    printf("member %u on port %u\n", velum_id(mesh), velum_address(mesh).port);
    err = velum_nodes(mesh, TIMEOUT_MS, &members);
    if (err == 0) printf("members %s\n", members);
    status = err != 0 ? fail("members", velum_strerror(err)) : add(mesh);
    if (status == EXIT_SUCCESS && argc > 5) status = run_wasm(mesh, argv + 4, argc - 4);

    fflush(stdout);
    err = velum_run(mesh, (uint32_t)strtoul(argv[3], NULL, 10) * 1000u);
    if (err != 0) status = fail("serving", velum_strerror(err));
    velum_close(mesh);
    return status;
}
