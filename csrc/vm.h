/* vm.h: one guest, run by wasm3.
 *
 * Owns: a module instance, its limits, and the translation between wasm3's traps and ours. Refuses
 * to know: tasks, sockets, validation (the caller has validated the bytes). How: a fresh wasm3
 * runtime a guest, every function compiled before the first call, a counter at every loop
 * back-edge and call that runs `check` now and then. After an error the guest is closed, or put
 * back to the state of a fresh one, which costs no compiling.
 */
#ifndef VELUM_VM_H
#define VELUM_VM_H

#include "validate.h"

typedef struct velum_vm velum_vm;

/* Called from inside the guest's run about every millisecond, and at least once in
 * VELUM_FUEL_PER_CHECK units of fuel. Returns 0 to go on, or the negative error that the call shall
 * end with. It must not call into the guest. */
typedef int (*velum_vm_check)(void *user);

typedef struct {
    uint32_t pages;       /* linear memory limit, 64 KiB pages; 0: VELUM_GUEST_PAGES_MAX */
    uint64_t fuel;        /* units, 0: no limit; independent of machine speed */
    velum_vm_check check; /* may be NULL */
    void *user;
} velum_vm_limits;

/* Parses, loads, links and compiles. The bytes must have passed velum_validate, and stay where
 * they are until close. GUEST_MEMORY (initial memory above the limit), TRAP_MEMORY (a data
 * segment outside it), MODULE_COMPILE, NOMEM. After an error *out is NULL or a guest that is good
 * for velum_vm_detail only: close it in any case. The start function, if there is one, runs at the
 * first call, under the same limits. */
int velum_vm_open(velum_vm **out, const uint8_t *module, size_t n, const velum_vm_limits *limits);
/* Releases everything; NULL does nothing. */
void velum_vm_close(velum_vm *vm);

/* Calls an export. args must match its signature exactly. *result gets the value when the function
 * has one (*nresults 0 or 1); NaNs are canonical. NO_EXPORT, SIGNATURE (the guest can still be
 * called); a trap, FUEL, NOMEM, or what check returned: until a reset every call returns that. The
 * guest may use VELUM_NATIVE_STACK_BYTES of the caller's stack, and check some more. */
int velum_vm_call(velum_vm *vm, const char *name, size_t name_size, const velum_value *args,
                  size_t nargs, velum_value *result, size_t *nresults);

/* Puts an opened guest back to the state that velum_vm_open left, whatever its last call did or
 * ended with: memory (size, zeros, data segments), globals, the start function still to run, no
 * error, no fuel used. Compiles nothing; the limits stay. NOMEM: the guest cannot be called until a
 * reset succeeds. A guest that velum_vm_open failed with keeps its error, which is returned. Must
 * not be called from `check`. */
int velum_vm_reset(velum_vm *vm);
/* What the calls from now on may use together, 0: no limit; as if none had been used yet. */
void velum_vm_fuel(velum_vm *vm, uint64_t fuel);

/* Units of fuel used so far: one a loop back-edge, one a call (the calls from outside and of the
 * start function included), one for every 256 bytes that a memory.copy, memory.fill or memory.grow
 * touches. The same on every machine. */
uint64_t velum_vm_fuel_used(const velum_vm *vm);
/* Pages of linear memory the guest has now. */
uint32_t velum_vm_pages(const velum_vm *vm);
/* What wasm3 said of the last error, for people; never NULL. */
const char *velum_vm_detail(const velum_vm *vm);

#endif
