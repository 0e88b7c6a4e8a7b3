/* glob.c: see glob.h. */
#include "glob.h"

/* Matches one character of the text against the class whose `[` is at pattern[0]; *used is how much
 * of the pattern that is. */
static bool in_class(const uint8_t *pattern, size_t n, uint8_t c, size_t *used) {
    size_t at = 1;
    bool no = at < n && pattern[at] == '^', found = false;
    if (no) at++;
    for (; at < n && pattern[at] != ']'; at++) {
        if (pattern[at] == '\\' && at + 1 < n) {
            at++;
            found |= pattern[at] == c;
        } else if (at + 2 < n && pattern[at + 1] == '-') {
            uint8_t low = pattern[at], high = pattern[at + 2];
            found |= low <= high ? low <= c && c <= high : high <= c && c <= low;
            at += 2;
        } else {
            found |= pattern[at] == c;
        }
    }
    *used = at < n ? at + 1 : n;
    return found != no;
}

/* Whether one character matches what is at the front of the pattern, which is no star. */
static bool one(const uint8_t *pattern, size_t n, uint8_t c, size_t *used) {
    if (pattern[0] == '[') return in_class(pattern, n, c, used);
    if (pattern[0] == '\\' && n > 1) {
        *used = 2;
        return pattern[1] == c;
    }
    *used = 1;
    return pattern[0] == '?' || pattern[0] == c;
}

bool velum_glob(const uint8_t *pattern, size_t pattern_n, const uint8_t *text, size_t text_n) {
    size_t p = 0, t = 0, star = SIZE_MAX, from = 0, used;
    while (t < text_n) {
        if (p < pattern_n && pattern[p] == '*') {
            star = ++p;
            from = t;
        } else if (p < pattern_n && one(pattern + p, pattern_n - p, text[t], &used)) {
            p += used;
            t++;
        } else if (star != SIZE_MAX) {
            p = star;
            t = ++from;
        } else {
            return false;
        }
    }
    while (p < pattern_n && pattern[p] == '*')
        p++;
    return p == pattern_n;
}
