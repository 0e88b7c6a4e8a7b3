/* types: an identity and an addition for each of the four value types; also a function of no
 * result, and one of 32 parameters, the most that a call may have. */
#include "guest.h"

#define TYPE(name, type)                                                                           \
    EXPORT(id_##name) type id_##name(type a) {                                                     \
        return a;                                                                                  \
    }                                                                                              \
    EXPORT(add_##name) type add_##name(type a, type b) {                                           \
        return a + b;                                                                              \
    }

TYPE(i32, uint32_t)
TYPE(i64, uint64_t)
TYPE(f32, float)
TYPE(f64, double)

EXPORT(nothing) void nothing(void) {
}

EXPORT(mixed) double mixed(int32_t a, int64_t b, float c, double d) {
    return (double)a + (double)b + (double)c + d;
}

#define EIGHT(n)                                                                                   \
    int32_t n##0, int32_t n##1, int32_t n##2, int32_t n##3, int32_t n##4, int32_t n##5,            \
        int32_t n##6, int32_t n##7
#define WEIGH(n, w)                                                                                \
    (n##0 * (w) + n##1 * (w + 1) + n##2 * (w + 2) + n##3 * (w + 3) + n##4 * (w + 4) +              \
     n##5 * (w + 5) + n##6 * (w + 6) + n##7 * (w + 7))

EXPORT(thirty_two) int32_t thirty_two(EIGHT(a), EIGHT(b), EIGHT(c), EIGHT(d)) {
    return WEIGH(a, 1) + WEIGH(b, 9) + WEIGH(c, 17) + WEIGH(d, 25);
}
