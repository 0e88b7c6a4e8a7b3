/* traps: each export ends in one kind of trap, most of them only for some arguments. */
#include "guest.h"

EXPORT(unreachable) void unreachable(void) {
    __builtin_trap();
}

/* TRAP_MEMORY when the four bytes at `address` are not all inside the one page there is. */
EXPORT(load) int32_t load(int32_t address) {
    return *(volatile int32_t *)(uintptr_t)(uint32_t)address;
}

EXPORT(store) void store(int32_t address, int32_t value) {
    *(volatile int32_t *)(uintptr_t)(uint32_t)address = value;
}

/* TRAP_DIVIDE_BY_ZERO for b == 0, TRAP_OVERFLOW for the smallest number by -1. */
EXPORT(divide) int32_t divide(int32_t a, int32_t b) {
    return a / b;
}

EXPORT(divide64) int64_t divide64(int64_t a, int64_t b) {
    return a / b;
}

EXPORT(remainder) int32_t remainder(int32_t a, int32_t b) {
    return a % b;
}

/* TRAP_CONVERSION for a NaN, TRAP_OVERFLOW for what no i32 can hold. */
EXPORT(convert) int32_t convert(double a) {
    return __builtin_wasm_trunc_s_i32_f64(a);
}

static int32_t seven(void) {
    return 7;
}

static int64_t plus_one(int64_t a) {
    return a + 1;
}

static int32_t (*volatile first)(void) = seven;
static int64_t (*volatile second)(int64_t) = plus_one;

/* Calls the table's element as a function of no argument: 7 for the first function's index,
 * TRAP_INDIRECT for the second's, TRAP_TABLE for index 0 (empty) and past the end. */
EXPORT(indirect) int32_t indirect(int32_t index) {
    return ((int32_t(*)(void))(uintptr_t)(uint32_t)index)();
}

EXPORT(first_index) int32_t first_index(void) {
    return (int32_t)(uintptr_t)first;
}

EXPORT(second_index) int32_t second_index(void) {
    return (int32_t)(uintptr_t)second;
}
