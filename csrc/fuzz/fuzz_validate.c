/* fuzz_validate.c: the validator and the reader of imports and exports on arbitrary bytes.
 *
 * Seeds: the guests of tests/guests. The input runs from memory of exactly its size, so that a
 * sanitizer sees a byte read too far. What validates must be readable by velum_module_visit, export
 * by export. Runs under libFuzzer, or with standalone.c.
 */
#include "../validate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct {
    const uint8_t *bytes;
    size_t size;
} module;

static void demand(int condition, const char *what) {
    if (condition) return;
    fprintf(stderr, "fuzz_validate: %s\n", what);
    abort();
}

static int visit(void *user, const velum_extern *e) {
    const module *m = user;
    const char *end = (const char *)m->bytes + m->size;
    velum_signature signature;
    demand(e->name_size <= m->size && e->name <= end - e->name_size, "name outside the module");
    if (e->import || e->kind != VELUM_EXTERN_FUNCTION) return 0;
    demand(velum_module_export(m->bytes, m->size, e->name, e->name_size, &signature) !=
               VELUM_E_NO_EXPORT,
           "an export is not found");
    return 0;
}

static void run(const uint8_t *bytes, size_t size) {
    velum_diagnosis why = {0, NULL, 0};
    module m = {bytes, size};
    int err = velum_validate(bytes, size, &why);
    demand(err <= 0, "a verdict is 0 or negative");
    demand(err == 0 || (why.text != NULL && why.offset <= size), "a verdict has its reason");
    /* A hostile export section would make this quadratic. */
    if (size > 65536) return;
    int visited = velum_module_visit(bytes, size, visit, &m);
    demand(err != 0 || visited == 0, "a valid module is readable");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *copy = malloc(size > 0 ? size : 1);
    if (copy == NULL) return 0;
    if (size > 0) memcpy(copy, data, size);
    run(copy, size);
    free(copy);
    return 0;
}
