/* guest.h: what every guest shares: the mark of an exported function. There is no C library. */
#ifndef VELUM_GUEST_H
#define VELUM_GUEST_H

#include <stddef.h>
#include <stdint.h>

#define EXPORT(name) __attribute__((export_name(#name)))

#endif
