/* floats: sums 1/(i+1) over [start, end). Floating-point addition is not associative, so the bits
 * of the sum tell whether the slices were the same and combined in the same order. */
#include "guest.h"

EXPORT(harmonic) double harmonic(int32_t start, int32_t end) {
    double sum = 0.0;
    for (int32_t i = start; i < end; i++) {
        sum += 1.0 / ((double)i + 1.0);
    }
    return sum;
}

EXPORT(harmonic32) float harmonic32(int32_t start, int32_t end) {
    float sum = 0.0f;
    for (int32_t i = start; i < end; i++) {
        sum += 1.0f / ((float)i + 1.0f);
    }
    return sum;
}
