/* standalone.c: runs any LLVMFuzzerTestOneInput without libFuzzer.
 *
 *     prog [--seconds N] [--runs N] [--seed S] FILE-OR-FOLDER...
 *
 * Owns: reading the seed inputs and mutating them. Refuses to know: what is fuzzed, coverage.
 * How: first every seed input as it is, then mutations of them: one to eight small changes by a
 * xorshift generator. The inputs depend on the files (sorted by path) and the seed alone, so the
 * same seed replays a crash. Each runs in memory of exactly its size. The seed is printed first,
 * and with a sanitizer (told to abort) the failing input is written to crash-SEED.bin.
 * A tool of the host, no part of the core: it lists folders with POSIX dirent.
 */
#include <dirent.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define INPUTS_MAX       4096u
#define PATH_BYTES_MAX   1024u
#define FILE_BYTES_MAX   (64u * 1024u * 1024u)
#define GROWTH_BYTES     256u /* a mutation may grow past the largest seed input by this much */
#define CHANGES_MAX      8u
#define INSERT_BYTES_MAX 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The sanitizers call these by name: end with SIGABRT, so that on_abort keeps the input. */
const char *__asan_default_options(void);
const char *__ubsan_default_options(void);

const char *__asan_default_options(void) {
    return "abort_on_error=1";
}

const char *__ubsan_default_options(void) {
    return "abort_on_error=1:print_stacktrace=1";
}

typedef struct {
    char path[PATH_BYTES_MAX];
    uint8_t *bytes;
    size_t size;
} input;

static input *inputs;
static size_t input_count;
static uint64_t state;
static unsigned long long seed;
static const uint8_t *running_bytes;
static size_t running_size;

static void fail(const char *what, const char *path) {
    fprintf(stderr, "standalone: %s %s\n", what, path);
    exit(2);
}

static void *must_malloc(size_t n) {
    void *p = malloc(n > 0 ? n : 1);
    if (p == NULL) fail("out of memory", "");
    return p;
}

/* ---- seed inputs ---- */

static void add_file(const char *path, FILE *file) {
    input *in = &inputs[input_count];
    long size = -1;
    if (input_count == INPUTS_MAX) fail("too many inputs at", path);
    if (strlen(path) >= PATH_BYTES_MAX) fail("path too long:", path);
    if (fseek(file, 0, SEEK_END) == 0) size = ftell(file);
    if (size < 0) fail("cannot read", path);
    if ((unsigned long)size > FILE_BYTES_MAX) fail("too large:", path);
    rewind(file);
    memcpy(in->path, path, strlen(path) + 1);
    in->size = (size_t)size;
    in->bytes = must_malloc(in->size);
    if (fread(in->bytes, 1, in->size, file) != in->size) fail("cannot read", path);
    input_count++;
}

static void add_path(const char *path) {
    DIR *folder = opendir(path);
    FILE *file;
    if (folder != NULL) {
        const struct dirent *entry;
        while ((entry = readdir(folder)) != NULL) {
            char inner[PATH_BYTES_MAX];
            int n = snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
            if (n < 0 || (size_t)n >= sizeof inner) fail("path too long:", path);
            if (entry->d_name[0] != '.') add_path(inner);
        }
        closedir(folder);
        return;
    }
    file = fopen(path, "rb");
    if (file == NULL) fail("cannot open", path);
    add_file(path, file);
    fclose(file);
}

static int by_path(const void *a, const void *b) {
    return strcmp(((const input *)a)->path, ((const input *)b)->path);
}

/* ---- mutation ---- */

/* xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators", 2016. */
static uint64_t next_random(void) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * UINT64_C(2685821657736338717);
}

/* 0 .. bound - 1, with a bias that does not matter here; 0 when bound is 0. */
static size_t below(size_t bound) {
    return bound == 0 ? 0 : (size_t)((next_random() >> 11) % bound);
}

/* Moves the tail to open a gap of n bytes at `at`, as far as there is room; the gap's size. */
static size_t open_gap(uint8_t *p, size_t *size, size_t cap, size_t at, size_t n) {
    if (n > cap - *size) n = cap - *size;
    memmove(p + at + n, p + at, *size - at);
    *size += n;
    return n;
}

/* Puts a piece of `from` somewhere. */
static void insert(uint8_t *p, size_t *size, size_t cap, const uint8_t *from, size_t from_size) {
    size_t at = below(*size + 1), start = below(from_size);
    size_t n = below(from_size - start) + 1;
    if (from_size == 0) return;
    n = open_gap(p, size, cap, at, n < INSERT_BYTES_MAX ? n : INSERT_BYTES_MAX);
    memcpy(p + at, from + start, n);
}

/* Writes a little- or big-endian number that tends to be a limit somewhere. */
static void put_edge(uint8_t *p, size_t size) {
    static const uint32_t edges[] = {0,     1,      2,       0x7f,       0x80,       0xff,
                                     0x100, 0x7fff, 0xffff,  0x10000,    0xfffff,    0x100000,
                                     1024,  65536,  0x40000, 0x7fffffff, 0x80000000, 0xffffffff};
    uint32_t value = edges[below(sizeof edges / sizeof *edges)] + (uint32_t)below(3) - 1u;
    size_t width = (size_t)1 << below(3), at;
    unsigned big = (unsigned)below(2);
    if (size < width) return;
    at = below(size - width + 1);
    for (size_t i = 0; i < width; i++)
        p[at + i] = (uint8_t)(value >> 8 * (big ? width - 1 - i : i));
}

static void change(uint8_t *p, size_t *size, size_t cap) {
    uint8_t random[16];
    const input *other = &inputs[below(input_count)];
    size_t at = below(*size), n = 1 + below(16);
    switch (below(8)) {
    case 0: /* flip a bit */
        if (*size > 0) p[at] ^= (uint8_t)(1u << below(8));
        return;
    case 1: /* change a byte */
        if (*size > 0) p[at] = (uint8_t)next_random();
        return;
    case 2: /* a byte a little more or less */
        if (*size > 0) p[at] = (uint8_t)(p[at] + below(9) - 4);
        return;
    case 3:
        put_edge(p, *size);
        return;
    case 4: /* cut bytes out */
        if (n > *size - at) n = *size - at;
        memmove(p + at, p + at + n, *size - at - n);
        *size -= n;
        return;
    case 5: /* cut the end off */
        if (below(4) == 0) *size = at;
        return;
    case 6: /* bytes of another seed input */
        insert(p, size, cap, other->bytes, other->size);
        return;
    default: /* random bytes */
        for (size_t i = 0; i < sizeof random; i++)
            random[i] = (uint8_t)next_random();
        insert(p, size, cap, random, sizeof random);
        return;
    }
}

/* ---- running ---- */

static void on_abort(int number) {
    char path[64];
    FILE *file;
    snprintf(path, sizeof path, "crash-%llu.bin", seed);
    file = fopen(path, "wb");
    if (file != NULL) {
        fwrite(running_bytes, 1, running_size, file);
        fclose(file);
        fprintf(stderr, "standalone: seed %llu: the input is in %s\n", seed, path);
    }
    signal(number, SIG_DFL);
    raise(number);
}

static void run_one(const uint8_t *bytes, size_t size) {
    uint8_t *exact = must_malloc(size);
    if (size > 0) memcpy(exact, bytes, size);
    running_bytes = exact;
    running_size = size;
    LLVMFuzzerTestOneInput(exact + (size == 0), size);
    free(exact);
}

/* Mutates and runs until the time or the count is over; the number of runs. */
static unsigned long long run_mutations(double seconds, unsigned long long runs_max) {
    size_t cap = GROWTH_BYTES;
    unsigned long long runs = 0;
    time_t start = time(NULL);
    uint8_t *p;
    for (size_t i = 0; i < input_count; i++)
        if (inputs[i].size + GROWTH_BYTES > cap) cap = inputs[i].size + GROWTH_BYTES;
    p = must_malloc(cap);
    while (runs < runs_max && difftime(time(NULL), start) < seconds) {
        const input *in = &inputs[below(input_count)];
        size_t size = in->size;
        if (size > 0) memcpy(p, in->bytes, size);
        for (size_t changes = 1 + below(CHANGES_MAX); changes > 0; changes--)
            change(p, &size, cap);
        run_one(p, size);
        runs++;
    }
    free(p);
    return runs;
}

int main(int argc, char **argv) {
    double seconds = 10, took;
    unsigned long long runs_max = UINT64_MAX, runs;
    time_t start = time(NULL);
    seed = (unsigned long long)start;
    inputs = must_malloc(INPUTS_MAX * sizeof *inputs);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc)
            seconds = strtod(argv[++i], NULL);
        else if (strcmp(argv[i], "--runs") == 0 && i + 1 < argc)
            runs_max = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 10);
        else if (argv[i][0] == '-')
            fail("usage: [--seconds N] [--runs N] [--seed S] FILE-OR-FOLDER..., not", argv[i]);
        else
            add_path(argv[i]);
    }
    if (input_count == 0) fail("no seed inputs:", "name files or folders");
    qsort(inputs, input_count, sizeof *inputs, by_path);
    printf("seed %llu, %lu seed inputs\n", seed, (unsigned long)input_count);
    fflush(stdout);
    signal(SIGABRT, on_abort);
    state = seed * UINT64_C(0x9e3779b97f4a7c15) | 1u; /* never 0 */
    for (size_t i = 0; i < input_count; i++)
        run_one(inputs[i].bytes, inputs[i].size);
    runs = run_mutations(seconds, runs_max);
    took = difftime(time(NULL), start);
    printf("%llu runs, %.0f runs/sec\n", runs, (double)runs / (took > 0 ? took : 1));
    for (size_t i = 0; i < input_count; i++)
        free(inputs[i].bytes);
    free(inputs);
    return 0;
}
