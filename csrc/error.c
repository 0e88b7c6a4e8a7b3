/* error.c: the texts and names of errors.
 *
 * Owns: nothing but the two look-ups. The table itself is VELUM_ERRORS in velum.h.
 * How: the table unfolds into the cases of a switch, so two equal codes do not compile.
 */
#include "velum.h"

const char *velum_strerror(int err) {
    switch (err) {
    case VELUM_OK:
        return "success";
#define VELUM_ERROR_TEXT(name, code, text)                                                         \
    case -(code):                                                                                  \
        return text;
        VELUM_ERRORS(VELUM_ERROR_TEXT)
#undef VELUM_ERROR_TEXT
    default:
        return "unknown error";
    }
}

const char *velum_errname(int err) {
    switch (err) {
    case VELUM_OK:
        return "OK";
#define VELUM_ERROR_NAME(name, code, text)                                                         \
    case -(code):                                                                                  \
        return #name;
        VELUM_ERRORS(VELUM_ERROR_NAME)
#undef VELUM_ERROR_NAME
    default:
        return "UNKNOWN";
    }
}
