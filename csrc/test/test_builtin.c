/* test_builtin.c: every rule of builtin.h, and integer arithmetic against a wider one. */
#include "builtin.h"
#include "check.h"

#define NAN_CANONICAL UINT64_C(0x7ff8000000000000)

static velum_value i64(int64_t value) {
    velum_value v = {VELUM_I64, 0};
    memcpy(&v.bits, &value, sizeof value);
    return v;
}

static velum_value i32(int32_t value) {
    velum_value v = {VELUM_I32, (uint32_t)value};
    return v;
}

static velum_value f64(double value) {
    velum_value v = {VELUM_F64, 0};
    memcpy(&v.bits, &value, sizeof value);
    return v;
}

static velum_value f32(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (velum_value){VELUM_F32, bits};
}

static int call(const char *name, velum_value a, velum_value b, velum_value *out) {
    velum_call c = {.nargs = 2, .name = {name, (uint16_t)strlen(name)}};
    c.args[0] = a;
    c.args[1] = b;
    return velum_builtin(&c, out);
}

static void check_value(const char *name, velum_value a, velum_value b, velum_value expected) {
    velum_value out = {0, 0};
    CHECK_EQ(call(name, a, b, &out), 0);
    CHECK_EQ(out.type, expected.type);
    CHECK(out.bits == expected.bits);
}

static void check_error(const char *name, velum_value a, velum_value b, int expected) {
    velum_value out;
    CHECK_EQ(call(name, a, b, &out), expected);
}

static void test_names(void) {
    velum_value out;
    velum_call none = {.nargs = 2};
    CHECK(strcmp(velum_builtin_name(0), "add") == 0);
    CHECK(strcmp(velum_builtin_name(3), "div") == 0);
    CHECK(velum_builtin_name(4) == NULL);
    check_error("pow", i64(1), i64(1), VELUM_E_UNKNOWN_NAME);
    check_error("ad", i64(1), i64(1), VELUM_E_UNKNOWN_NAME);
    check_error("addd", i64(1), i64(1), VELUM_E_UNKNOWN_NAME);
    CHECK_EQ(velum_builtin(&none, &out), VELUM_E_UNKNOWN_NAME);
}

static void test_signature(void) {
    velum_value out;
    velum_call one = {.nargs = 1, .name = {"add", 3}};
    velum_call three = {.nargs = 3, .name = {"add", 3}};
    one.args[0] = i64(1);
    for (int i = 0; i < 3; i++)
        three.args[i] = i64(1);
    CHECK_EQ(velum_builtin(&one, &out), VELUM_E_SIGNATURE);
    CHECK_EQ(velum_builtin(&three, &out), VELUM_E_SIGNATURE);
    check_error("add", i64(1), (velum_value){0x70, 0}, VELUM_E_SIGNATURE);
}

static void test_widening(void) {
    check_value("add", i32(-1), i32(INT32_MIN), i64(INT64_C(-2147483649)));
    check_value("add", i32(INT32_MAX), i64(1), i64(INT64_C(2147483648)));
    check_value("mul", f32(0.5f), f32(3.0f), f64(1.5));
    check_value("sub", i32(-7), f64(0.25), f64(-7.25));
    check_value("div", f32(1.0f), i64(4), f64(0.25));
    /* Bits above an i32's or an f32's own are not part of its value. */
    check_value("add", (velum_value){VELUM_I32, UINT64_C(0xdead00000001)}, i32(1), i64(2));
}

static void test_integers(void) {
    check_value("add", i64(INT64_MAX), i64(INT64_MIN), i64(-1));
    check_error("add", i64(INT64_MAX), i64(1), VELUM_E_OVERFLOW);
    check_error("add", i64(INT64_MIN), i64(-1), VELUM_E_OVERFLOW);
    check_value("sub", i64(INT64_MIN), i64(INT64_MIN), i64(0));
    check_error("sub", i64(0), i64(INT64_MIN), VELUM_E_OVERFLOW);
    check_error("sub", i64(INT64_MIN), i64(1), VELUM_E_OVERFLOW);
    check_value("mul", i64(INT64_MIN), i64(1), i64(INT64_MIN));
    check_value("mul", i64(1), i64(INT64_MIN), i64(INT64_MIN));
    check_error("mul", i64(INT64_MIN), i64(-1), VELUM_E_OVERFLOW);
    check_error("mul", i64(-1), i64(INT64_MIN), VELUM_E_OVERFLOW);
    check_error("mul", i64(INT64_C(1) << 32), i64(INT64_C(1) << 31), VELUM_E_OVERFLOW);
    check_value("mul", i64(-(INT64_C(1) << 32)), i64(INT64_C(1) << 31), i64(INT64_MIN));
    check_value("div", i64(-7), i64(2), i64(-3));
    check_value("div", i64(7), i64(-2), i64(-3));
    check_error("div", i64(INT64_MIN), i64(-1), VELUM_E_OVERFLOW);
    check_error("div", i64(1), i64(0), VELUM_E_DIVIDE_BY_ZERO);
}

static void test_numbers(void) {
    double infinity = 1e308 * 10.0;
    check_value("add", f64(0.1), f64(0.2), f64(0.1 + 0.2));
    check_value("mul", f64(1e308), f64(10.0), f64(infinity));
    check_value("sub", f64(infinity), f64(infinity), (velum_value){VELUM_F64, NAN_CANONICAL});
    check_value("add", (velum_value){VELUM_F64, UINT64_C(0xfff800000000beef)}, f64(1.0),
                (velum_value){VELUM_F64, NAN_CANONICAL});
    check_error("div", f64(1.0), f64(0.0), VELUM_E_DIVIDE_BY_ZERO);
    check_error("div", f64(1.0), f64(-0.0), VELUM_E_DIVIDE_BY_ZERO);
    check_error("div", i64(1), f64(0.0), VELUM_E_DIVIDE_BY_ZERO);
    check_error("div", f64(1.0), i64(0), VELUM_E_DIVIDE_BY_ZERO);
}

/* The 128-bit product of two 64-bit magnitudes, in halves of 32 bits. */
static void wide_product(uint64_t a, uint64_t b, uint64_t *high, uint64_t *low) {
    uint64_t al = a & UINT32_MAX, ah = a >> 32, bl = b & UINT32_MAX, bh = b >> 32;
    uint64_t middle = ah * bl + (al * bl >> 32);
    uint64_t carry = al * bh + (middle & UINT32_MAX);
    *high = ah * bh + (middle >> 32) + (carry >> 32);
    *low = a * b;
}

static uint64_t magnitude(int64_t v) {
    return v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
}

/* Values that sit on edges, and values of every size. */
static int64_t interesting(uint64_t *seed) {
    int64_t value;
    uint64_t bits;
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    bits = (*seed ^ *seed >> 29) >> (*seed >> 58);
    if ((*seed >> 40 & 3u) == 0) bits = (UINT64_C(1) << (bits & 63u)) - (*seed >> 50 & 1u);
    if ((*seed >> 42 & 1u) == 0) bits = 0 - bits;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void test_products_against_wide(void) {
    uint64_t seed = 1;
    int wrong = 0;
    for (int i = 0; i < 200000; i++) {
        int64_t a = interesting(&seed), b = interesting(&seed);
        uint64_t high, low, limit = (uint64_t)INT64_MAX + ((a < 0) != (b < 0) ? 1u : 0u);
        velum_value out;
        int err = call("mul", i64(a), i64(b), &out);
        wide_product(magnitude(a), magnitude(b), &high, &low);
        if (high != 0 || low > limit) {
            wrong += err != VELUM_E_OVERFLOW;
        } else {
            wrong += err != 0 || out.bits != (uint64_t)a * (uint64_t)b;
        }
        err = call("add", i64(a), i64(b), &out);
        low = (uint64_t)a + (uint64_t)b; /* overflow: both signs differ from the sum's */
        if ((((uint64_t)a ^ low) & ((uint64_t)b ^ low)) >> 63 != 0) {
            wrong += err != VELUM_E_OVERFLOW;
        } else {
            wrong += err != 0 || out.bits != low;
        }
    }
    CHECK_EQ(wrong, 0);
}

int main(void) {
    test_names();
    test_signature();
    test_widening();
    test_integers();
    test_numbers();
    test_products_against_wide();
    return check_report("builtin");
}
