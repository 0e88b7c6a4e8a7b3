/* pi: how many of end - start random points of a square lie in its quarter circle. The generator
 * is C's well-known example (ISO C99, 7.20.2.2, its constants modulo 2^31) seeded by `start`: the
 * answer depends on where a range is cut, which is what deterministic slices are there for. */
#include "guest.h"

enum { RADIUS = 10000 };

static uint32_t draw(uint32_t *state) {
    *state = (*state * 1103515245u + 12345u) & 0x7fffffffu;
    return *state % (RADIUS + 1);
}

EXPORT(pi_hits) int32_t pi_hits(int32_t start, int32_t end) {
    uint32_t state = (uint32_t)start;
    int32_t hits = 0;
    for (int32_t i = start; i < end; i++) {
        uint32_t x = draw(&state);
        uint32_t y = draw(&state);
        hits += x * x + y * y <= (uint32_t)RADIUS * RADIUS;
    }
    return hits;
}
