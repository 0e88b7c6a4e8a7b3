/* vm_meter.h: what wasm3's compiler, the code it compiles and vm.c share: the meter of a guest.
 *
 * Internal. Owns: how a back-edge, a call and bulk memory work are counted, in the few instructions
 * that every one of them costs. How: `left` counts down; when it is used up, velum__vm_look decides
 * how it goes on. wasm3 hands the meter around as its runtime's user data.
 */
#ifndef VELUM_VM_METER_H
#define VELUM_VM_METER_H

#include "velum.h"

/* Bytes that memory.copy, memory.fill and memory.grow touch for one unit of fuel: about as long as
 * an ordinary back-edge takes. */
#define VELUM__BYTES_PER_FUEL 256u

typedef struct {
    uint32_t left;                 /* units until velum__vm_look must be asked */
    bool refused;                  /* a memory.grow was refused */
    uintptr_t stack_floor;         /* the native stack may not reach below this address */
    struct M3CodePage *open_pages; /* that the compiler is writing to, by their info.next */
} velum__meter;

/* Called when `left` does not cover `units`: grants more and takes the units out, and returns NULL;
 * or returns the trap that ends the guest. */
const char *velum__vm_look(velum__meter *meter, uint32_t units);

/* Takes units of fuel. NULL, or the trap that ends the guest. */
static inline const char *velum__vm_spend(velum__meter *meter, uint32_t units) {
    if (meter->left < units) return velum__vm_look(meter, units);
    meter->left -= units;
    return NULL;
}

#endif
