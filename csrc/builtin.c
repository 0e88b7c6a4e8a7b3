/* builtin.c: the functions every node has.
 *
 * Owns: names, argument rules and arithmetic of add, sub, mul and div. Refuses to know: links,
 * tasks. How: both arguments are widened to int64_t or to double, then one row of a table does the
 * work. Overflow of integers is found before it happens: in C it would be undefined.
 */
#include "builtin.h"

#include <string.h>

#define CANONICAL_NAN_BITS UINT64_C(0x7ff8000000000000)

/* A widened argument: one of the two, told by `real`. */
typedef struct {
    bool real;
    int64_t integer;
    double number;
} operand;

static int64_t integer_of(uint64_t bits) {
    int64_t value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint64_t bits_of_integer(int64_t value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static uint64_t bits_of_number(double value) {
    uint64_t bits;
    if (value != value) return CANONICAL_NAN_BITS;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* False for a type that does not exist. */
static bool widen(const velum_value *value, operand *out) {
    float single;
    uint32_t low = (uint32_t)(value->bits & UINT32_MAX);
    *out = (operand){0};
    switch (value->type) {
    case VELUM_I32:
        out->integer = (int64_t)(low ^ UINT32_C(0x80000000)) - INT64_C(0x80000000);
        return true;
    case VELUM_I64:
        out->integer = integer_of(value->bits);
        return true;
    case VELUM_F32:
        memcpy(&single, &low, sizeof single);
        out->real = true;
        out->number = (double)single;
        return true;
    case VELUM_F64:
        memcpy(&out->number, &value->bits, sizeof out->number);
        out->real = true;
        return true;
    default:
        return false;
    }
}

static int integer_add(int64_t a, int64_t b, int64_t *out) {
    if (b > 0 ? a > INT64_MAX - b : a < INT64_MIN - b) return VELUM_E_OVERFLOW;
    *out = a + b;
    return 0;
}

static int integer_sub(int64_t a, int64_t b, int64_t *out) {
    if (b > 0 ? a < INT64_MIN + b : a > INT64_MAX + b) return VELUM_E_OVERFLOW;
    *out = a - b;
    return 0;
}

static int integer_mul(int64_t a, int64_t b, int64_t *out) {
    bool over;
    if (a > 0) {
        over = b > 0 ? a > INT64_MAX / b : b < INT64_MIN / a;
    } else {
        over = b > 0 ? a < INT64_MIN / b : a != 0 && b < INT64_MAX / a;
    }
    if (over) return VELUM_E_OVERFLOW;
    *out = a * b;
    return 0;
}

static int integer_div(int64_t a, int64_t b, int64_t *out) {
    if (b == 0) return VELUM_E_DIVIDE_BY_ZERO;
    if (a == INT64_MIN && b == -1) return VELUM_E_OVERFLOW;
    *out = a / b;
    return 0;
}

static int number_add(double a, double b, double *out) {
    *out = a + b;
    return 0;
}

static int number_sub(double a, double b, double *out) {
    *out = a - b;
    return 0;
}

static int number_mul(double a, double b, double *out) {
    *out = a * b;
    return 0;
}

static int number_div(double a, double b, double *out) {
    if (b == 0.0) return VELUM_E_DIVIDE_BY_ZERO;
    *out = a / b;
    return 0;
}

static const struct {
    const char *name;
    int (*integers)(int64_t a, int64_t b, int64_t *out);
    int (*numbers)(double a, double b, double *out);
} table[] = {
    {"add", integer_add, number_add},
    {"sub", integer_sub, number_sub},
    {"mul", integer_mul, number_mul},
    {"div", integer_div, number_div},
};

#define TABLE_ROWS (sizeof table / sizeof table[0])

const char *velum_builtin_name(size_t index) {
    return index < TABLE_ROWS ? table[index].name : NULL;
}

int velum_builtin(const velum_call *call, velum_value *out) {
    operand a, b;
    size_t row = 0;
    int err;
    while (row < TABLE_ROWS && !(strlen(table[row].name) == call->name.size &&
                                 memcmp(table[row].name, call->name.data, call->name.size) == 0)) {
        row++;
    }
    if (row == TABLE_ROWS) return VELUM_E_UNKNOWN_NAME;
    if (call->nargs != 2 || !widen(&call->args[0], &a) || !widen(&call->args[1], &b)) {
        return VELUM_E_SIGNATURE;
    }
    if (a.real || b.real) {
        double x = a.real ? a.number : (double)a.integer;
        double y = b.real ? b.number : (double)b.integer;
        double value = 0.0;
        err = table[row].numbers(x, y, &value);
        *out = (velum_value){VELUM_F64, bits_of_number(value)};
    } else {
        int64_t value = 0;
        err = table[row].integers(a.integer, b.integer, &value);
        *out = (velum_value){VELUM_I64, bits_of_integer(value)};
    }
    return err;
}
