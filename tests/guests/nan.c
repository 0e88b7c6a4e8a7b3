/* nan: NaNs with signs and payloads that differ by machine, or are chosen here. */
#include "guest.h"

EXPORT(quotient) double quotient(double a, double b) {
    return a / b;
}

EXPORT(quotient32) float quotient32(float a, float b) {
    return a / b;
}

EXPORT(from_bits) double from_bits(int64_t bits) {
    double value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}

EXPORT(from_bits32) float from_bits32(int32_t bits) {
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}
