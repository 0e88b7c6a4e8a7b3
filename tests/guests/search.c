/* search: the first i in [start, end) with i * 123 mod 99991 == 1, or -1 when there is none.
 * 99991 is prime, so there is exactly one such i in every 99,991 numbers. */
#include "guest.h"

EXPORT(search) int32_t search(int32_t start, int32_t end) {
    for (int32_t i = start; i < end; i++) {
        if ((int64_t)i * 123 % 99991 == 1) return i;
    }
    return -1;
}
