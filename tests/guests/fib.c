/* fib: Fibonacci by plain recursion, a measure of calls. */
#include "guest.h"

EXPORT(fib) int32_t fib(int32_t n) {
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}
