/* glob.h: patterns of KEYS, SCAN and watches.
 *
 * Owns: what `*`, `?`, `[a-z]`, `[^a]` and backslash mean, as Redis has it (stringmatchlen). How: a
 * star remembers where it stood; a mismatch goes back to the last star alone, so the cost is at
 * most the product of both lengths, whatever the pattern.
 */
#ifndef VELUM_GLOB_H
#define VELUM_GLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether all of the text matches. Any bytes. A class that does not end takes the rest of the
 * pattern; `[z-a]` is `[a-z]`; a backslash at the end stands for itself. */
bool velum_glob(const uint8_t *pattern, size_t pattern_n, const uint8_t *text, size_t text_n);

#endif
