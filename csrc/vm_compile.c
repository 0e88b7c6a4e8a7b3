/* vm_compile.c: wasm3's compiler, taught to count.
 *
 * Owns: the operations of ours that wasm3 compiles guests to in place of five of its own, and the
 * code pages that its compiler has in hand. Refuses to know: what happens when the fuel is used up
 * (vm.c). How: this file is compiled instead of wasm3's m3_compile.c and m3_emit.c. It includes
 * those files as they are, after giving our operations and functions the names that they use, so
 * that no line of wasm3 is changed:
 *
 *   Call               a call spends fuel and looks at the native stack; wasm3 asks m3_Yield here
 *   op_ContinueLoop    a jump back spends fuel, or an empty loop could never be stopped
 *   op_ContinueLoopIf  the same
 *   op_MemGrow         wasm3's own shrinks the memory when the size wraps: memory.grow(-1)
 *   op_MemCopy         spends fuel by the bytes it touches, or one call could take seconds
 *   op_MemFill         the same
 *   AcquireCodePage    and its kin: wasm3 loses the code pages it has in hand when a function fails
 *                      to compile; they are noted in the meter, for vm.c to return
 *
 * It must be compiled like wasm3 itself (see third_party/wasm3): optimised, without strict
 * aliasing, without sanitizers; wasm3 needs its tail calls.
 */
#include "m3_env.h"

#include "velum_port.h"
#include "vm_meter.h"

static inline velum__meter *meter_of(M3MemoryHeader *memory) {
    return (velum__meter *)memory->runtime->userdata;
}

static inline m3ret_t on_call(M3MemoryHeader *memory) {
    velum__meter *meter = meter_of(memory);
    if (UNLIKELY(velum_port_stack_address() < meter->stack_floor)) return m3Err_trapStackOverflow;
    return velum__vm_spend(meter, 1);
}

#define m3_Yield() on_call(_mem)
#include "m3_exec.h"
#undef m3_Yield

d_m3Op(VelumContinueLoop) {
    void *loop = immediate(void *);
    m3ret_t trap = velum__vm_spend(meter_of(_mem), 1);
    return UNLIKELY(trap) ? trap : loop;
}

d_m3Op(VelumContinueLoopIf) {
    i32 condition = (i32)_r0;
    void *loop = immediate(void *);
    if (condition) {
        m3ret_t trap = velum__vm_spend(meter_of(_mem), 1);
        return UNLIKELY(trap) ? trap : loop;
    }
    nextOp();
}

d_m3Op(VelumMemGrow) {
    IM3Runtime runtime = m3MemRuntime(_mem);
    IM3Memory memory = &runtime->memory;
    velum__meter *meter = meter_of(_mem);
    u32 before = memory->numPages;
    u32 more = (u32)_r0;

    _r0 = before;
    if (more > 0) {
        if (more > memory->maxPages - before) {
            _r0 = -1;
        } else {
            m3ret_t trap = velum__vm_spend(meter, more * (d_m3MemPageSize / VELUM__BYTES_PER_FUEL));
            if (UNLIKELY(trap)) newTrap(trap);
            if (ResizeMemory(runtime, before + more)) _r0 = -1;
            _mem = memory->mallocated;
        }
        if (_r0 == -1) meter->refused = true;
    }
    nextOp();
}

d_m3Op(VelumMemCopy) {
    u32 size = (u32)_r0;
    u64 source = slot(u32);
    u64 target = slot(u32);
    if (target + size > _mem->length || source + size > _mem->length) {
        newTrap(m3Err_trapOutOfBoundsMemoryAccess);
    }
    m3ret_t trap = velum__vm_spend(meter_of(_mem), size / VELUM__BYTES_PER_FUEL);
    if (UNLIKELY(trap)) newTrap(trap);
    u8 *bytes = m3MemData(_mem);
    memmove(bytes + target, bytes + source, size);
    nextOp();
}

d_m3Op(VelumMemFill) {
    u32 size = (u32)_r0;
    u32 byte = slot(u32);
    u64 target = slot(u32);
    if (target + size > _mem->length) newTrap(m3Err_trapOutOfBoundsMemoryAccess);
    m3ret_t trap = velum__vm_spend(meter_of(_mem), size / VELUM__BYTES_PER_FUEL);
    if (UNLIKELY(trap)) newTrap(trap);
    u8 *bytes = m3MemData(_mem);
    memset(bytes + target, (u8)byte, size);
    nextOp();
}

/* Only a guest's own runtime has a meter: wasm3 evaluates initialisers in a passing one. */
static IM3CodePage acquire_page(IM3Runtime runtime, u32 lines) {
    IM3CodePage page = AcquireCodePageWithCapacity(runtime, lines);
    velum__meter *meter = (velum__meter *)runtime->userdata;
    if (page != NULL && meter != NULL) {
        page->info.next = meter->open_pages;
        meter->open_pages = page;
    }
    return page;
}

static void release_page(IM3Runtime runtime, IM3CodePage page) {
    velum__meter *meter = (velum__meter *)runtime->userdata;
    IM3CodePage *at = meter != NULL ? &meter->open_pages : NULL;
    while (at != NULL && *at != NULL && *at != page) {
        at = &(*at)->info.next;
    }
    if (at != NULL && *at != NULL) *at = page->info.next;
    ReleaseCodePage(runtime, page);
}

#define AcquireCodePage(runtime) acquire_page(runtime, d_m3CodePageFreeLinesThreshold)
#define AcquireCodePageWithCapacity(runtime, lines) acquire_page(runtime, lines)
#define ReleaseCodePage(runtime, page)              release_page(runtime, page)
#define op_ContinueLoop                             op_VelumContinueLoop
#define op_ContinueLoopIf                           op_VelumContinueLoopIf
#define op_MemGrow                                  op_VelumMemGrow
#define op_MemCopy                                  op_VelumMemCopy
#define op_MemFill                                  op_VelumMemFill
#include "m3_emit.c"
#include "m3_compile.c"
