/* test_vm: every guest of tests/guests under vm.h: values, traps by name, fuel to the unit, the
 * check that stops a guest, limits of memory and stack, resets, and that nothing is left behind.
 * Usage: test_vm FOLDER-OF-GUESTS */
#include "../vm.h"

#include "check.h"
#include "counter_guest.h"
#include "guest_file.h"

#include "../include/velum_port.h"

static const char *folder;

/* ---- calling a guest in one line ---- */

typedef struct {
    int error;
    size_t nresults;
    velum_value value;
    uint64_t fuel;
    uint32_t pages;
    char detail[128];
} outcome;

static velum_value i32(int32_t v) {
    velum_value value = {VELUM_I32, (uint32_t)v};
    return value;
}

static velum_value i64(int64_t v) {
    velum_value value = {VELUM_I64, (uint64_t)v};
    return value;
}

static velum_value f32(float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    velum_value value = {VELUM_F32, bits};
    return value;
}

static velum_value f64(double v) {
    velum_value value = {VELUM_F64, 0};
    memcpy(&value.bits, &v, sizeof v);
    return value;
}

static outcome call_within(const char *guest, const velum_vm_limits *limits, const char *function,
                           const velum_value *args, size_t nargs) {
    guest_file file = guest_read(folder, guest);
    outcome out;
    velum_vm *vm;

    memset(&out, 0, sizeof out);
    CHECK_EQ(velum_validate(file.bytes, file.size, NULL), VELUM_OK);
    out.error = velum_vm_open(&vm, file.bytes, file.size, limits);
    if (out.error == VELUM_OK) {
        out.error =
            velum_vm_call(vm, function, strlen(function), args, nargs, &out.value, &out.nresults);
    }
    if (vm != NULL) {
        out.fuel = velum_vm_fuel_used(vm);
        out.pages = velum_vm_pages(vm);
        (void)snprintf(out.detail, sizeof out.detail, "%s", velum_vm_detail(vm));
    }
    velum_vm_close(vm);
    free(file.bytes);
    return out;
}

static const velum_vm_limits unlimited;

#define CALL(guest, function, ...)                                                                 \
    call_within(guest, &unlimited, function, (velum_value[]){__VA_ARGS__},                         \
                sizeof((velum_value[]){__VA_ARGS__}) / sizeof(velum_value))
#define CALL_NONE(guest, function) call_within(guest, &unlimited, function, NULL, 0)

#define CHECK_VALUE(got, expected)                                                                 \
    do {                                                                                           \
        outcome check_got = (got);                                                                 \
        velum_value check_expected = (expected);                                                   \
        CHECK_EQ(check_got.error, VELUM_OK);                                                       \
        CHECK_EQ(check_got.nresults, 1);                                                           \
        CHECK_EQ(check_got.value.type, check_expected.type);                                       \
        CHECK_EQ(check_got.value.bits, check_expected.bits);                                       \
    } while (0)

/* ---- values ---- */

static void test_values(void) {
    CHECK_VALUE(CALL("sum", "sum", i32(10), i32(20), i32(30)), i32(60));
    CHECK_VALUE(CALL("sum", "sum", i32(INT32_MAX), i32(1), i32(0)), i32(INT32_MIN));
    CHECK_VALUE(CALL("add", "run", i32(21)), i32(42));
    CHECK_VALUE(CALL("fib", "fib", i32(20)), i32(6765));
    CHECK_VALUE(CALL("collatz", "run", i32(27)), i32(111));
    CHECK_VALUE(CALL("collatz", "run", i32(0)), i32(0));
    CHECK_VALUE(CALL("collatz", "run", i32(-5)), i32(0));
    CHECK_VALUE(CALL("primes", "count_primes", i32(0), i32(100000)), i32(9592));
    CHECK_VALUE(CALL("primes", "count_primes", i32(0), i32(500000)), i32(41538));
    CHECK_VALUE(CALL("primes", "is_prime", i32(99991)), i32(1));
    CHECK_VALUE(CALL("primes", "is_prime", i32(2147483647)), i32(1));
    CHECK_VALUE(CALL("search", "search", i32(0), i32(100000)), i32(62596));
    CHECK_VALUE(CALL("search", "search", i32(62597), i32(99991)), i32(-1));
    CHECK_VALUE(CALL("pi", "pi_hits", i32(0), i32(2500000)), i32(1962274));
    CHECK_VALUE(CALL("pi", "pi_hits", i32(7500000), i32(10000000)), i32(1964134));
}

static void test_types(void) {
    CHECK_VALUE(CALL("types", "id_i32", i32(INT32_MIN)), i32(INT32_MIN));
    CHECK_VALUE(CALL("types", "id_i64", i64(INT64_MIN)), i64(INT64_MIN));
    CHECK_VALUE(CALL("types", "id_f32", f32(-0.0f)), f32(-0.0f));
    CHECK_VALUE(CALL("types", "id_f64", f64(1e300)), f64(1e300));
    CHECK_VALUE(CALL("types", "add_i32", i32(INT32_MAX), i32(1)), i32(INT32_MIN));
    CHECK_VALUE(CALL("types", "add_i64", i64(INT64_MAX), i64(1)), i64(INT64_MIN));
    CHECK_VALUE(CALL("types", "add_f32", f32(0.5f), f32(0.25f)), f32(0.75f));
    CHECK_VALUE(CALL("types", "add_f64", f64(0.5), f64(0.25)), f64(0.75));
    CHECK_VALUE(CALL("types", "mixed", i32(-1), i64(1), f32(0.5f), f64(0.25)), f64(0.75));

    velum_value many[VELUM_ARGS_MAX];
    int32_t expected = 0;
    for (int32_t i = 0; i < (int32_t)VELUM_ARGS_MAX; i++) {
        many[i] = i32(i * 7 - 50);
        expected += (i * 7 - 50) * (i + 1);
    }
    CHECK_VALUE(call_within("types", &unlimited, "thirty_two", many, VELUM_ARGS_MAX),
                i32(expected));

    outcome nothing = CALL_NONE("types", "nothing");
    CHECK_EQ(nothing.error, VELUM_OK);
    CHECK_EQ(nothing.nresults, 0);
}

static void test_floats(void) {
    double sum = 0.0;
    float sum32 = 0.0f;
    for (int i = 0; i < 1000; i++) {
        sum += 1.0 / ((double)i + 1.0);
        volatile float rounded = sum32 + 1.0f / ((float)i + 1.0f);
        sum32 = rounded;
    }
    CHECK_VALUE(CALL("floats", "harmonic", i32(0), i32(1000)), f64(sum));
    CHECK_VALUE(CALL("floats", "harmonic32", i32(0), i32(1000)), f32(sum32));
}

static void test_nan_is_canonical(void) {
    velum_value nan64 = {VELUM_F64, 0x7ff8000000000000u}, nan32 = {VELUM_F32, 0x7fc00000u};
    velum_value payload64 = {VELUM_F64, 0xfff8000000001234u}, payload32 = {VELUM_F32, 0xffc01234u};

    CHECK_VALUE(CALL("nan", "quotient", f64(0.0), f64(0.0)), nan64);
    CHECK_VALUE(CALL("nan", "quotient", f64(-0.0), f64(0.0)), nan64);
    CHECK_VALUE(CALL("nan", "quotient32", f32(0.0f), f32(0.0f)), nan32);
    CHECK_VALUE(CALL("nan", "from_bits", i64((int64_t)0x7ff0000000000001)), nan64);
    CHECK_VALUE(CALL("nan", "from_bits32", i32(0x7f800001)), nan32);
    CHECK_VALUE(CALL("types", "id_f64", payload64), nan64);
    CHECK_VALUE(CALL("types", "id_f32", payload32), nan32);
    CHECK_VALUE(CALL("nan", "from_bits", i64(0x7ff0000000000000)), f64(1e308 * 10));
    CHECK_VALUE(CALL("nan", "from_bits32", i32(0x7f800000)),
                ((velum_value){VELUM_F32, 0x7f800000}));
}

/* ---- mistakes of the caller ---- */

static void test_caller_mistakes(void) {
    guest_file file = guest_read(folder, "sum");
    velum_value args[4] = {i32(1), i32(2), i32(3), i32(4)}, out;
    size_t n;
    velum_vm *vm;

    CHECK_EQ(velum_vm_open(&vm, file.bytes, file.size, &unlimited), VELUM_OK);
    CHECK_EQ(velum_vm_call(vm, "none", 4, args, 3, &out, &n), VELUM_E_NO_EXPORT);
    CHECK_EQ(velum_vm_call(vm, "", 0, args, 3, &out, &n), VELUM_E_NO_EXPORT);
    CHECK_EQ(velum_vm_call(vm, "sum\0", 4, args, 3, &out, &n), VELUM_E_NO_EXPORT);
    CHECK_EQ(velum_vm_call(vm, "memory", 6, args, 0, &out, &n), VELUM_E_NO_EXPORT);
    CHECK_EQ(velum_vm_call(vm, "sum", 3, args, 2, &out, &n), VELUM_E_SIGNATURE);
    CHECK_EQ(velum_vm_call(vm, "sum", 3, args, 4, &out, &n), VELUM_E_SIGNATURE);
    args[1].type = VELUM_I64;
    CHECK_EQ(velum_vm_call(vm, "sum", 3, args, 3, &out, &n), VELUM_E_SIGNATURE);
    args[1].type = VELUM_I32;
    CHECK_EQ(velum_vm_call(vm, "sum", 3, args, 3, &out, &n), VELUM_OK);
    CHECK_EQ(out.bits, 6);
    CHECK_EQ(velum_vm_call(vm, "sum", 3, args, 3, &out, &n), VELUM_OK);
    velum_vm_close(vm);
    velum_vm_close(NULL);
    free(file.bytes);
}

/* ---- traps ---- */

static void test_traps(void) {
    CHECK_EQ(CALL_NONE("traps", "unreachable").error, VELUM_E_TRAP_UNREACHABLE);
    CHECK_EQ(CALL("traps", "load", i32(65536)).error, VELUM_E_TRAP_MEMORY);
    CHECK_EQ(CALL("traps", "load", i32(65533)).error, VELUM_E_TRAP_MEMORY);
    CHECK_EQ(CALL("traps", "load", i32(-1)).error, VELUM_E_TRAP_MEMORY);
    CHECK_EQ(CALL("traps", "load", i32(65532)).error, VELUM_OK);
    CHECK_EQ(CALL("traps", "store", i32(-4), i32(1)).error, VELUM_E_TRAP_MEMORY);
    CHECK_EQ(CALL("traps", "divide", i32(1), i32(0)).error, VELUM_E_TRAP_DIVIDE_BY_ZERO);
    CHECK_EQ(CALL("traps", "divide64", i64(1), i64(0)).error, VELUM_E_TRAP_DIVIDE_BY_ZERO);
    CHECK_EQ(CALL("traps", "remainder", i32(1), i32(0)).error, VELUM_E_TRAP_DIVIDE_BY_ZERO);
    CHECK_EQ(CALL("traps", "divide", i32(INT32_MIN), i32(-1)).error, VELUM_E_TRAP_OVERFLOW);
    CHECK_EQ(CALL("traps", "divide64", i64(INT64_MIN), i64(-1)).error, VELUM_E_TRAP_OVERFLOW);
    CHECK_VALUE(CALL("traps", "remainder", i32(INT32_MIN), i32(-1)), i32(0));
    CHECK_VALUE(CALL("traps", "convert", f64(-2147483648.9)), i32(INT32_MIN));
    CHECK_EQ(CALL("traps", "convert", f64(2147483648.0)).error, VELUM_E_TRAP_OVERFLOW);
    velum_value nan = {VELUM_F64, 0x7ff8000000000000u};
    CHECK_EQ(CALL("traps", "convert", nan).error, VELUM_E_TRAP_CONVERSION);

    outcome first = CALL_NONE("traps", "first_index"), second = CALL_NONE("traps", "second_index");
    CHECK_VALUE(CALL("traps", "indirect", first.value), i32(7));
    CHECK_EQ(CALL("traps", "indirect", second.value).error, VELUM_E_TRAP_INDIRECT);
    CHECK_EQ(CALL("traps", "indirect", i32(0)).error, VELUM_E_TRAP_TABLE);
    CHECK_EQ(CALL("traps", "indirect", i32(1000)).error, VELUM_E_TRAP_TABLE);
    CHECK_EQ(CALL("traps", "indirect", i32(-1)).error, VELUM_E_TRAP_TABLE);
    CHECK(strstr(CALL_NONE("traps", "unreachable").detail, "unreachable executed") != NULL);
}

/* A guest that has failed stays failed. */
static void test_failed_for_good(void) {
    guest_file file = guest_read(folder, "traps");
    velum_value out;
    size_t n;
    velum_vm *vm;

    CHECK_EQ(velum_vm_open(&vm, file.bytes, file.size, &unlimited), VELUM_OK);
    CHECK_EQ(velum_vm_call(vm, "unreachable", 11, NULL, 0, &out, &n), VELUM_E_TRAP_UNREACHABLE);
    CHECK_EQ(velum_vm_call(vm, "first_index", 11, NULL, 0, &out, &n), VELUM_E_TRAP_UNREACHABLE);
    velum_vm_close(vm);
    free(file.bytes);
}

static void test_stack(void) {
    CHECK_EQ(CALL("recurse", "forever", i32(0)).error, VELUM_E_TRAP_STACK);
    CHECK_VALUE(CALL("recurse", "depth", i32(1000)), i32(1000));
    CHECK_EQ(CALL_NONE("many_args", "run").error, VELUM_E_TRAP_STACK);
    CHECK_EQ(CALL_NONE("nest", "run").error, VELUM_E_TRAP_STACK);
}

static void test_start(void) {
    guest_file file = guest_read(folder, "start");
    velum_vm_limits little = {0, 1000, NULL, NULL};
    velum_value out;
    size_t n;
    velum_vm *vm;

    CHECK_EQ(velum_vm_open(&vm, file.bytes, file.size, &unlimited), VELUM_OK);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(velum_vm_call(vm, "get", 3, NULL, 0, &out, &n), VELUM_OK);
        CHECK_EQ(out.bits, 1);
    }
    CHECK_EQ(velum_vm_fuel_used(vm), 4);
    velum_vm_close(vm);
    free(file.bytes);
    CHECK_EQ(CALL_NONE("start_trap", "get").error, VELUM_E_TRAP_UNREACHABLE);
    CHECK_EQ(call_within("start_loop", &little, "get", NULL, 0).error, VELUM_E_FUEL);
}

/* ---- fuel and check ---- */

static void test_fuel_is_exact(void) {
    velum_value n = i32(1000);
    velum_vm_limits enough = {0, 1000, NULL, NULL}, short_by_one = {0, 999, NULL, NULL};

    /* One call and 999 jumps back. */
    CHECK_EQ(CALL("loop", "spin", n).fuel, 1000);
    CHECK_EQ(call_within("loop", &enough, "spin", &n, 1).error, VELUM_OK);
    outcome out = call_within("loop", &short_by_one, "spin", &n, 1);
    CHECK_EQ(out.error, VELUM_E_FUEL);
    CHECK_EQ(out.fuel, 999);

    for (uint64_t fuel = 1; fuel < 2000; fuel += 333) {
        velum_vm_limits limits = {0, fuel, NULL, NULL};
        out = call_within("loop", &limits, "forever", NULL, 0);
        CHECK_EQ(out.error, VELUM_E_FUEL);
        CHECK_EQ(out.fuel, (long long)fuel);
    }
    /* Over several grants too. */
    velum_vm_limits large = {0, 1000003, NULL, NULL};
    CHECK_EQ(call_within("loop", &large, "forever", NULL, 0).fuel, 1000003);
    CHECK_EQ(CALL("recurse", "depth", i32(100)).fuel, 101);
}

typedef struct {
    int calls, stop_at, error;
    int64_t last_us, longest_us;
} watcher;

static int watch(void *user) {
    watcher *w = user;
    int64_t now = velum_port_now_us();
    if (w->calls > 0 && now - w->last_us > w->longest_us) w->longest_us = now - w->last_us;
    w->last_us = now;
    return ++w->calls == w->stop_at ? w->error : 0;
}

static void test_check_stops(void) {
    watcher w = {0, 100, VELUM_E_CANCELLED, 0, 0};
    velum_vm_limits limits = {0, 0, watch, &w};
    outcome out = call_within("loop", &limits, "forever", NULL, 0);
    CHECK_EQ(out.error, VELUM_E_CANCELLED);
    CHECK_EQ(w.calls, 100);
    CHECK(out.fuel <= 100 * (uint64_t)VELUM_FUEL_PER_CHECK);

    /* Looking changes nothing about the answer or the fuel. */
    watcher idle = {0, 0, 0, 0, 0};
    velum_vm_limits looking = {0, 0, watch, &idle};
    velum_value range[2] = {i32(0), i32(100000)};
    outcome watched = call_within("primes", &looking, "count_primes", range, 2);
    outcome alone = call_within("primes", &unlimited, "count_primes", range, 2);
    CHECK_EQ(watched.value.bits, 9592);
    CHECK_EQ(watched.fuel, (long long)alone.fuel);
    CHECK(idle.calls > 0);
}

/* ---- memory ---- */

static void test_memory_limits(void) {
    velum_vm_limits ten = {10, 0, NULL, NULL};
    velum_value one = i32(1), eleven = i32(11), minus_one = i32(-1), wrap = i32(65536);

    outcome out = call_within("grow", &ten, "grow_until_refused", NULL, 0);
    CHECK_VALUE(out, i32(10));
    CHECK_EQ(out.pages, 10);
    CHECK_VALUE(CALL("grow", "grow", i32((int32_t)VELUM_GUEST_PAGES_MAX - 1)), i32(1));
    CHECK_VALUE(CALL("grow", "grow", i32((int32_t)VELUM_GUEST_PAGES_MAX)), i32(-1));
    CHECK_VALUE(call_within("grow", &ten, "grow", &eleven, 1), i32(-1));
    CHECK_VALUE(call_within("grow", &ten, "grow", &one, 1), i32(1));

    /* Neither of these may shrink the memory. */
    out = call_within("grow", &ten, "grow", &minus_one, 1);
    CHECK_VALUE(out, i32(-1));
    CHECK_EQ(out.pages, 1);
    out = call_within("grow", &ten, "grow", &wrap, 1);
    CHECK_VALUE(out, i32(-1));
    CHECK_EQ(out.pages, 1);

    out = call_within("grow", &ten, "careless", NULL, 0);
    CHECK_EQ(out.error, VELUM_E_TRAP_MEMORY);
    CHECK(strstr(out.detail, "memory.grow was refused") != NULL);
}

/* What was grown is there, zero, and stays. */
static void test_grown_memory(void) {
    guest_file file = guest_read(folder, "grow");
    velum_value args[2] = {i32(5), i32(0)}, out;
    size_t n;
    velum_vm *vm;

    CHECK_EQ(velum_vm_open(&vm, file.bytes, file.size, &unlimited), VELUM_OK);
    CHECK_EQ(velum_vm_call(vm, "grow", 4, args, 1, &out, &n), VELUM_OK);
    CHECK_EQ(velum_vm_pages(vm), 6);
    args[0] = i32(6 * 65536 - 4);
    CHECK_EQ(velum_vm_call(vm, "load", 4, args, 1, &out, &n), VELUM_OK);
    CHECK_EQ(out.bits, 0);
    args[1] = i32(42);
    CHECK_EQ(velum_vm_call(vm, "store", 5, args, 2, &out, &n), VELUM_OK);
    CHECK_EQ(velum_vm_call(vm, "load", 4, args, 1, &out, &n), VELUM_OK);
    CHECK_EQ(out.bits, 42);
    args[0] = i32(6 * 65536);
    CHECK_EQ(velum_vm_call(vm, "load", 4, args, 1, &out, &n), VELUM_E_TRAP_MEMORY);
    velum_vm_close(vm);
    free(file.bytes);
}

static void test_initial_memory(void) {
    outcome out = CALL_NONE("bigmem", "run");
    CHECK_EQ(out.error, VELUM_E_GUEST_MEMORY);
    CHECK(strstr(out.detail, "16384") != NULL);
    out = CALL_NONE("data_outside", "run");
    CHECK_EQ(out.error, VELUM_E_TRAP_MEMORY);
    CHECK(strstr(out.detail, "data segment out of bounds") != NULL);
    CHECK_VALUE(CALL_NONE("zero_pages", "run"), i32(-1));
    velum_vm_limits none = {1, 0, NULL, NULL};
    velum_value one = i32(1);
    CHECK_VALUE(call_within("grow", &none, "grow", &one, 1), i32(-1));
}

/* ---- resetting ---- */

static velum_vm *open_counter(const velum_vm_limits *limits) {
    velum_vm *vm;
    CHECK_EQ(velum_validate(counter_guest, sizeof counter_guest, NULL), VELUM_OK);
    CHECK_EQ(velum_vm_open(&vm, counter_guest, sizeof counter_guest, limits), VELUM_OK);
    return vm;
}

/* Calls a function of the counter guest; its value, or its error. */
static int64_t count(velum_vm *vm, const char *function) {
    velum_value args[3] = {i32(0), i32(0), i32(0)}, out = {VELUM_I32, 0};
    size_t n, nargs = strcmp(function, "trap") == 0 ? 3 : 2;
    int err = velum_vm_call(vm, function, strlen(function), args, nargs, &out, &n);
    return err < 0 ? err : (int64_t)out.bits;
}

/* Whatever ran before, and however it ended, the guest is as a fresh one. */
static void test_reset(void) {
    static const struct {
        const char *function;
        int64_t first, second;
    } cases[] = {{"global", 16, 17}, {"memory", 108, 209}, {"memory", 108, 209}, {"grow", 2, 3}};
    velum_vm *vm = open_counter(&unlimited);
    uint64_t fuel = 0;

    for (int round = 0; round < 6; round++) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            CHECK_EQ(count(vm, cases[i].function), cases[i].first);
            if (fuel == 0) fuel = velum_vm_fuel_used(vm);
            CHECK(i == 3 || velum_vm_fuel_used(vm) == fuel); /* the start function's too */
            CHECK_EQ(count(vm, cases[i].function), cases[i].second);
            if (round % 2 == 0) {
                CHECK_EQ(count(vm, "trap"), VELUM_E_TRAP_UNREACHABLE);
                CHECK_EQ(count(vm, "global"), VELUM_E_TRAP_UNREACHABLE);
            }
            CHECK_EQ(velum_vm_reset(vm), VELUM_OK);
            CHECK_EQ(velum_vm_pages(vm), 2);
            CHECK_EQ(velum_vm_fuel_used(vm), 0);
            CHECK_EQ(strlen(velum_vm_detail(vm)), 0);
        }
    }
    CHECK_EQ(velum_vm_reset(vm), VELUM_OK); /* twice, before any call */
    CHECK_EQ(count(vm, "memory"), 108);
    velum_vm_close(vm);
}

/* A budget is for the calls since it was set; a reset begins it again. */
static void test_reset_fuel(void) {
    velum_vm_limits limits = {0, 3, NULL, NULL};
    velum_vm *vm = open_counter(&limits);

    CHECK_EQ(count(vm, "global"), 16); /* the call, and the start function: 2 units */
    CHECK_EQ(count(vm, "global"), 17);
    CHECK_EQ(count(vm, "global"), VELUM_E_FUEL);
    CHECK_EQ(velum_vm_fuel_used(vm), 3);
    CHECK_EQ(velum_vm_reset(vm), VELUM_OK);
    CHECK_EQ(count(vm, "global"), 16);
    velum_vm_fuel(vm, 2);
    CHECK_EQ(velum_vm_fuel_used(vm), 0);
    CHECK_EQ(count(vm, "global"), 17);
    CHECK_EQ(count(vm, "global"), 18);
    CHECK_EQ(count(vm, "global"), VELUM_E_FUEL);
    velum_vm_fuel(vm, 0);
    CHECK_EQ(velum_vm_reset(vm), VELUM_OK);
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(count(vm, "global"), 16 + i);
    }
    CHECK_EQ(velum_vm_fuel_used(vm), 101);
    velum_vm_close(vm);
}

/* Stopped in the start function, by fuel or by a check, it starts again. */
static void test_reset_of_stopped(void) {
    watcher w = {0, 1, VELUM_E_CANCELLED, 0, 0};
    velum_vm_limits limits = {0, 0, watch, &w};
    guest_file file = guest_read(folder, "start_loop");
    velum_value out;
    size_t n;
    velum_vm *vm;

    CHECK_EQ(velum_vm_open(&vm, file.bytes, file.size, &limits), VELUM_OK);
    CHECK_EQ(velum_vm_call(vm, "get", 3, NULL, 0, &out, &n), VELUM_E_CANCELLED);
    velum_vm_fuel(vm, 1000);
    CHECK_EQ(velum_vm_call(vm, "get", 3, NULL, 0, &out, &n), VELUM_E_CANCELLED);
    CHECK_EQ(velum_vm_reset(vm), VELUM_OK);
    CHECK_EQ(velum_vm_call(vm, "get", 3, NULL, 0, &out, &n), VELUM_E_FUEL);
    CHECK_EQ(velum_vm_fuel_used(vm), 1000);
    velum_vm_close(vm);
    free(file.bytes);
}

/* Both stacks may be used up; a memory that grew, and was refused more, is small again. */
static void test_reset_of_large(void) {
    velum_vm_limits hundred = {100, 0, NULL, NULL};
    guest_file grow = guest_read(folder, "grow"), recurse = guest_read(folder, "recurse");
    velum_value args[2] = {i32(0), i32(1)}, out;
    size_t n;
    velum_vm *vm;

    CHECK_EQ(velum_vm_open(&vm, grow.bytes, grow.size, &hundred), VELUM_OK);
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(velum_vm_call(vm, "careless", 8, NULL, 0, &out, &n), VELUM_E_TRAP_MEMORY);
        CHECK_EQ(velum_vm_pages(vm), 100);
        CHECK(strstr(velum_vm_detail(vm), "was refused") != NULL);
        CHECK_EQ(velum_vm_reset(vm), VELUM_OK);
        args[0] = i32(65536);
        CHECK_EQ(velum_vm_call(vm, "load", 4, args, 1, &out, &n), VELUM_E_TRAP_MEMORY);
        CHECK(strstr(velum_vm_detail(vm), "was refused") == NULL);
        CHECK_EQ(velum_vm_reset(vm), VELUM_OK);
        args[0] = i32(99);
        CHECK_EQ(velum_vm_call(vm, "grow", 4, args, 1, &out, &n), VELUM_OK);
        CHECK_EQ(out.bits, 1);
        args[0] = i32(100 * 65536 - 4);
        CHECK_EQ(velum_vm_call(vm, "load", 4, args, 1, &out, &n), VELUM_OK);
        CHECK_EQ(out.bits, 0);
        CHECK_EQ(velum_vm_call(vm, "store", 5, args, 2, &out, &n), VELUM_OK);
    }
    velum_vm_close(vm);
    CHECK_EQ(velum_vm_open(&vm, recurse.bytes, recurse.size, &unlimited), VELUM_OK);
    for (int i = 0; i < 20; i++) {
        args[0] = i32(1000);
        CHECK_EQ(velum_vm_call(vm, "depth", 5, args, 1, &out, &n), VELUM_OK);
        CHECK_EQ(out.bits, 1000);
        CHECK_EQ(velum_vm_call(vm, "forever", 7, args, 1, &out, &n), VELUM_E_TRAP_STACK);
        CHECK_EQ(velum_vm_reset(vm), VELUM_OK);
    }
    velum_vm_close(vm);
    free(grow.bytes);
    free(recurse.bytes);
}

/* A memory that is exchanged and not zeroed: its data and its zeros are there each time. */
static void test_reset_exchanges_memory(void) {
    uint8_t module[sizeof counter_guest];
    velum_vm *vm;

    memcpy(module, counter_guest, sizeof module);
    module[COUNTER_PAGES_AT] = 20;
    CHECK_EQ(velum_vm_open(&vm, module, sizeof module, &unlimited), VELUM_OK);
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(velum_vm_pages(vm), 20);
        CHECK_EQ(count(vm, "memory"), 108);
        CHECK_EQ(count(vm, "memory"), 209);
        CHECK_EQ(velum_vm_reset(vm), VELUM_OK);
    }
    velum_vm_close(vm);
}

/* Nothing can be reset that was never opened. */
static void test_reset_of_unopened(void) {
    guest_file file = guest_read(folder, "uncompilable");
    velum_vm *vm;
    CHECK_EQ(velum_vm_open(&vm, file.bytes, file.size, &unlimited), VELUM_E_MODULE_COMPILE);
    CHECK_EQ(velum_vm_reset(vm), VELUM_E_MODULE_COMPILE);
    velum_vm_close(vm);
    free(file.bytes);
}

static void test_has_state(void) {
    static const struct {
        const char *guest;
        bool state;
    } cases[] = {{"sum", false},     {"primes", false},   {"pi", false},  {"search", false},
                 {"floats", false},  {"types", false},    {"fib", false}, {"nan", false},
                 {"recurse", false}, {"traps", true},     {"grow", true}, {"zero_pages", true},
                 {"start", true},    {"start_loop", true}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        guest_file file = guest_read(folder, cases[i].guest);
        if (velum_module_has_state(file.bytes, file.size) != cases[i].state) {
            printf("has_state of %s\n", cases[i].guest);
            CHECK(false);
        }
        CHECK(velum_module_has_state(file.bytes, file.size - 1)); /* it is not valid */
        free(file.bytes);
    }
    CHECK(velum_module_has_state(counter_guest, sizeof counter_guest));
}

/* Whether a function with that body has state, in a module with a memory and a global. */
static bool body_has_state(const uint8_t *body, uint8_t size) {
    static const uint8_t head[] = {
        0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, /* magic, version */
        0x01, 0x04, 0x01, 0x60, 0x00, 0x00,             /* type () */
        0x03, 0x02, 0x01, 0x00,                         /* function 0 */
        0x05, 0x03, 0x01, 0x00, 0x01,                   /* memory of a page */
        0x06, 0x06, 0x01, 0x7f, 0x01, 0x41, 0x00, 0x0b, /* global (mut i32) */
    };
    const uint8_t code[] = {0x0a, (uint8_t)(size + 5), 0x01, (uint8_t)(size + 3), 0x00};
    uint8_t module[sizeof head + sizeof code + 32], *at = module;
    memcpy(at, head, sizeof head);
    memcpy(at += sizeof head, code, sizeof code);
    memcpy(at += sizeof code, body, size);
    at += size;
    *at++ = 0x01; /* nop */
    *at++ = 0x0b;
    CHECK_EQ(velum_validate(module, (size_t)(at - module), NULL), VELUM_OK);
    return velum_module_has_state(module, (size_t)(at - module));
}

static void test_instructions_with_state(void) {
    static const struct {
        uint8_t size, body[16];
        bool state;
    } cases[] = {
        {0, {0}, false},
        {6, {0x41, 0x00, 0x28, 0x02, 0x00, 0x1a}, false},            /* i32.load */
        {3, {0x3f, 0x00, 0x1a}, false},                              /* memory.size */
        {3, {0x23, 0x00, 0x1a}, false},                              /* global.get */
        {7, {0x41, 0x00, 0x41, 0x00, 0x36, 0x02, 0x00}, true},       /* i32.store */
        {7, {0x41, 0x00, 0x42, 0x00, 0x3e, 0x02, 0x00}, true},       /* i64.store32 */
        {8, {0x00, 0x41, 0x00, 0x41, 0x00, 0x36, 0x02, 0x00}, true}, /* that cannot run */
        {4, {0x41, 0x00, 0x24, 0x00}, true},                         /* global.set */
        {5, {0x41, 0x00, 0x40, 0x00, 0x1a}, true},                   /* memory.grow */
        {10, {0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 0x0a, 0, 0}, true},   /* memory.copy */
        {9, {0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 0x0b, 0}, true},       /* memory.fill */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK_EQ(body_has_state(cases[i].body, cases[i].size), cases[i].state);
    }
}

/* What wasm3 gives up on is an error with its words, and leaves nothing behind. */
static void test_uncompilable(void) {
    velum_value zero = i32(0);
    for (int i = 0; i < 3; i++) {
        outcome out = call_within("uncompilable", &unlimited, "run", &zero, 1);
        CHECK_EQ(out.error, VELUM_E_MODULE_COMPILE);
        CHECK(strstr(out.detail, "slot usage count overflow") != NULL);
    }
}

/* A thousand guests, one after another, of every kind; the sanitizer build counts what is left. */
static void test_no_leak(void) {
    static const char *const names[] = {"sum", "types", "traps", "start_trap", "recurse", "grow"};
    static const char *const functions[] = {"sum", "nothing", "unreachable", "get", "x", "pages"};

    for (int i = 0; i < 1000; i++) {
        (void)call_within(names[i % 6], &unlimited, functions[i % 6], NULL, 0);
    }
}

int main(int argc, char **argv) {
    folder = argc > 1 ? argv[1] : "tests/guests";
    test_values();
    test_types();
    test_floats();
    test_nan_is_canonical();
    test_caller_mistakes();
    test_traps();
    test_failed_for_good();
    test_stack();
    test_start();
    test_fuel_is_exact();
    test_check_stops();
    test_memory_limits();
    test_grown_memory();
    test_initial_memory();
    test_reset();
    test_reset_fuel();
    test_reset_of_stopped();
    test_reset_of_large();
    test_reset_exchanges_memory();
    test_reset_of_unopened();
    test_has_state();
    test_instructions_with_state();
    test_uncompilable();
    test_no_leak();
    return check_report("vm");
}
