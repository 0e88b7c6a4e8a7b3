/* fuzz_module: whatever the validator lets through must not break the engine.
 *
 * A module that velum_validate accepts is opened and each of its exported functions called, once
 * with zeros and once with all bits set, each in a fresh guest with little fuel and memory. Nothing
 * is expected of the outcome but that there is one: an error that is the guest's, or a value.
 */
#include "../vm.h"

#include <stdlib.h>

/* Enough to leave a few loops, little enough for thousands of modules a second. */
#define FUEL        2000u
#define PAGES       4u
#define EXPORTS_MAX 16u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct {
    const uint8_t *module;
    size_t size;
    unsigned called;
} visit_state;

static void expect(bool true_, const char *what) {
    (void)what; /* for the debugger */
    if (!true_) abort();
}

static int go_on(void *user) {
    (void)user;
    return VELUM_OK;
}

/* An error that a valid module may end with; wasm3 gives up on a few. */
static bool is_of_guest(int error) {
    return (error <= VELUM_E_TRAP_UNREACHABLE && error >= VELUM_E_TRAP_OTHER) ||
           error == VELUM_E_MODULE_COMPILE || error == VELUM_E_NOMEM;
}

static void call(const visit_state *state, const velum_extern *e, uint64_t bits) {
    velum_vm_limits limits = {PAGES, FUEL, go_on, NULL};
    velum_value args[VELUM_ARGS_MAX], result = {0, 0};
    size_t nresults = 0;
    velum_vm *vm;

    for (uint8_t i = 0; i < e->signature.nparams; i++) {
        bool wide = e->signature.params[i] == VELUM_I64 || e->signature.params[i] == VELUM_F64;
        args[i] = (velum_value){e->signature.params[i], wide ? bits : bits & UINT32_MAX};
    }
    int err = velum_vm_open(&vm, state->module, state->size, &limits);
    if (err == VELUM_OK) {
        err = velum_vm_call(vm, e->name, e->name_size, args, e->signature.nparams, &result,
                            &nresults);
        if (err == VELUM_OK) {
            expect(nresults == e->signature.nresults, "as many results as the signature says");
            expect(nresults == 0 || result.type == e->signature.result, "of its type");
        }
        expect(velum_vm_fuel_used(vm) <= FUEL, "no more fuel than there was");
        expect(velum_vm_pages(vm) <= PAGES, "no more memory than there may be");
    }
    expect(err == VELUM_OK || is_of_guest(err), "an error that is the guest's");
    velum_vm_close(vm);
}

static int visit(void *user, const velum_extern *e) {
    visit_state *state = user;
    if (e->import || !e->callable) return 0;
    call(state, e, 0);
    call(state, e, UINT64_MAX);
    return ++state->called == EXPORTS_MAX;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    visit_state state = {data, size, 0};
    velum_diagnosis why;
    if (velum_validate(data, size, &why) != VELUM_OK) return 0;
    (void)velum_module_visit(data, size, visit, &state);
    return 0;
}
