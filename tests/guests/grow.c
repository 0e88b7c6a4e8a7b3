/* grow: asks for linear memory. Starts with one page. */
#include "guest.h"

EXPORT(pages) int32_t pages(void) {
    return (int32_t)__builtin_wasm_memory_size(0);
}

/* The size before, or -1 when refused. */
EXPORT(grow) int32_t grow(int32_t n) {
    return (int32_t)__builtin_wasm_memory_grow(0, (size_t)n);
}

/* Takes page after page until refused, then returns how many there are. */
EXPORT(grow_until_refused) int32_t grow_until_refused(void) {
    while (grow(1) != -1) {
    }
    return pages();
}

EXPORT(store) void store(int32_t address, int32_t value) {
    *(volatile int32_t *)(uintptr_t)(uint32_t)address = value;
}

EXPORT(load) int32_t load(int32_t address) {
    return *(volatile int32_t *)(uintptr_t)(uint32_t)address;
}

/* Grows by a page and writes into it, again and again, and never looks at the answer. */
EXPORT(careless) int32_t careless(void) {
    for (int32_t top = pages() * 65536;; top += 65536) {
        grow(1);
        store(top, 1);
    }
}
